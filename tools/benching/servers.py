# SPDX-License-Identifier: Apache-2.0
"""The contestants. Each has run(workload, seconds) -> a dictionary of figures; measured servers are started once and wait for
their turns, ceilings live for one turn. Everything started here is ended by its pid, also when the bench is interrupted."""
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time

import harness as h
from benching import machine, work

WARM_UP_SECONDS = 0.3
IQN = "iqn.2026-11.io.perilune:bench"
CEILING = os.environ.get("CEILING", str(pathlib.Path(h.PERILUNE).parent / "ceiling"))


def figures(client, seconds):
    """The figures of a turn from the client's line."""
    ios = max(1, client["ios"])
    result = {"iops": client["iops"], "mib_per_s": client["mib_per_s"], **client["lat_us"], "ios": client["ios"],
              "ios_all": client["ios_all"],
              "client_us": client["cpu_s"] * 1e6 / ios, "client_busy": client["cpu_s"] / seconds,
              "server_us": client["server_cpu_s"] * 1e6 / ios, "server_busy": client["server_cpu_s"] / seconds}
    if "probe" in client:
        probe = client["probe"]
        result["probe"] = probe.get("lat_us", probe)
    return result


def round_trip(core, other):
    """Nanoseconds of a word from one core to the other and back."""
    return float(h.run([CEILING, "distance", core, other]).out)


def one_turn(cores, pid, command, seconds, parked):
    """The client's line of JSON, and the server's processor time from its start to its end. parked: the server runs only meanwhile."""
    def turn():
        before = machine.cpu_seconds(pid)
        if parked:
            os.kill(pid, signal.SIGCONT)
        try:
            line = json.loads(h.run(command, timeout=seconds + 60).out.splitlines()[-1])
            return {**line, "turn_cpu_s": machine.cpu_seconds(pid) - before}
        finally:
            if parked:
                os.kill(pid, signal.SIGSTOP)
    return cores.settled(turn)


class Files:
    """Disk images of the bench, removed at its end, also those that a killed run left."""

    def __init__(self, stack):
        self.stack = stack
        for folder in ("/dev/shm", tempfile.gettempdir()):
            for path in pathlib.Path(folder).glob("perilune-bench-*"):
                owner = path.name.split("-")[2]
                if owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
                    path.unlink(missing_ok=True)

    def make(self, folder, label, size, written=False):
        """A file of `size` bytes with all of its blocks; `written`: with data in them, so that no extent is unwritten."""
        path = pathlib.Path(folder) / f"perilune-bench-{os.getpid()}-{label}"
        self.stack.callback(path.unlink, missing_ok=True)
        with open(path, "wb") as f:
            os.posix_fallocate(f.fileno(), 0, size)
            if written:
                block = random.randbytes(1 << 20)
                for _ in range(size >> 20):
                    f.write(block)
                f.flush()
                os.fsync(f.fileno())
        return path


class Ceiling:
    """The minimal responder and its requester. words: what is behind it, and the engine."""

    def __init__(self, arena, *words, spin=False):
        self.arena, self.spin = arena, spin
        command = [*arena.cores.server, CEILING, "serve", *words, *["--spin"] * spin]
        self.process = h.start(command, stdout=subprocess.PIPE, bufsize=0)
        arena.stack.callback(self._end)
        self.port = h.read_line(self.process.stdout, time.monotonic() + 60, "ceiling serve").split()[1]
        if spin:
            self.process.send_signal(signal.SIGSTOP)

    def _end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def client(self, workload, seconds, *more):
        command = [*self.arena.cores.client, CEILING, "ask", "--port", self.port, "--disk", self.arena.size, "--seconds", seconds,
                   "--warm-up", WARM_UP_SECONDS, *["--spin"] * (self.arena.client_wait == "spin"), *more]
        if workload is not None:
            command += ["--rw", workload.rw, "--bs", workload.block_bytes, "--depth", workload.depth,
                        "--sessions", workload.sessions, *["--digests"] * workload.digests, *["--probe"] * workload.probe,
                        "--cpu-of", self.process.pid]
        return command

    def turn(self, command, seconds):
        return one_turn(self.arena.cores, self.process.pid, command, seconds, self.spin)

    def run(self, workload, seconds, wrap=lambda pid, command: command):
        return figures(self.turn(wrap(self.process.pid, self.client(workload, seconds)), seconds), seconds)

    def logins(self, seconds, parallel):
        client = self.turn(self.client(None, seconds, "--logins", "--sessions", parallel), seconds)
        return {"logins_per_s": client["iops"], **client["lat_us"], "server_us": client["turn_cpu_s"] * 1e6 / max(1, client["ios_all"])}


class _Plain:
    digests = False


PLAIN = _Plain()


class Iscsi:
    """A target at a URL, served by the process `pid`. parked: it must not run but in its turn (it spins)."""

    def __init__(self, arena, pid, url, digests=None, parked=False, client_wait=None):
        self.arena, self.pid, self.url, self.digests, self.parked = arena, pid, url, digests, parked
        self.client_wait = client_wait or arena.client_wait
        if parked:
            os.kill(pid, signal.SIGSTOP)

    def client(self, *words):
        polling = {"sleep": "never", "spin": "always", "adaptive": "adaptive"}[self.client_wait]
        return [*self.arena.cores.client, h.PERILUNE, "bench", self.url, "--json", "--polling", polling, *words]

    def turn(self, command, seconds):
        return one_turn(self.arena.cores, self.pid, command, seconds, self.parked)

    def run(self, workload, seconds, wrap=lambda pid, command: command):
        digests = workload.digests if self.digests is None else self.digests
        words = ["--rw", workload.rw, "--bs", workload.block, "--depth", workload.depth, "--sessions", workload.sessions,
                 "--seconds", seconds, "--warm-up", WARM_UP_SECONDS, *["--probe"] * workload.probe]
        for key in ("--header-digest", "--data-digest"):
            words += [key, "crc32c" if digests else "none"]
        return self.measured(seconds, *words, wrap=wrap)

    def measured(self, seconds, *words, wrap=lambda pid, command: command):
        """The figures of a turn of `perilune bench` with these words."""
        return figures(self.turn(wrap(self.pid, self.client(*words, "--cpu-of", self.pid)), seconds), seconds)

    def logins(self, seconds, parallel):
        client = self.turn(self.client("--logins", "--sessions", parallel, "--seconds", seconds,
                                       "--warm-up", WARM_UP_SECONDS), seconds)
        return {"logins_per_s": client["logins_per_s"], **client["lat_us"],
                "server_us": client["turn_cpu_s"] * 1e6 / max(1, client["logins_all"])}

    def fill(self, size):
        """Writes the disk from end to end, so that no measured I/O meets a page for the first time."""
        blocks, seconds = size >> 18, 0.5
        while seconds < 60:
            words = ["--rw", "write", "--bs", "256k", "--depth", 8, "--seconds", seconds, "--warm-up", 0]
            ios = self.turn(self.client(*words), seconds)["ios"]
            if ios >= blocks:
                return
            seconds *= max(1.5, 1.3 * blocks / max(1, ios))


class Fio:
    """The file itself by io_uring, on the server's core: what a target on that file can at most pass on."""

    def __init__(self, arena, path):
        self.arena, self.path = arena, path

    def run(self, workload, seconds, wrap=None):
        depth = workload.depth * workload.sessions
        command = [*self.arena.cores.server, "fio", "--name=bench", f"--filename={self.path}", f"--rw={workload.rw}",
                   f"--bs={workload.block}", "--direct=1", "--ioengine=io_uring", f"--iodepth={depth}", "--time_based",
                   f"--runtime={seconds}s", f"--ramp_time={WARM_UP_SECONDS}s", "--output-format=json", "--group_reporting"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begin = time.monotonic()
        # What it prints before the JSON are notes about itself.
        out = h.run(command, timeout=seconds + 60).out
        wall = time.monotonic() - begin
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        side = json.loads(out[out.index("{"):])["jobs"][0]["write" if "write" in workload.rw else "read"]
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        p = side["clat_ns"]["percentile"]
        return {"iops": side["iops"], "mib_per_s": side["bw_bytes"] / (1 << 20), "ios": side["total_ios"],
                "p50": p["50.000000"] / 1e3, "p99": p["99.000000"] / 1e3, "p999": p["99.900000"] / 1e3,
                "client_us": None, "client_busy": None, "server_us": cpu * 1e6 / max(1, side["total_ios"]),
                "server_busy": cpu / wall}


class Istgt:
    """Debian's istgt with targets of its own configuration file, on a port of its own."""

    def __init__(self, stack, prefix, disks, chap=None):
        """disks: name -> (path, bytes)."""
        h.need("istgt")
        self.port, folder = h.free_port(), h.temp_dir(stack, "perilune-istgt-")
        units = "".join(self._unit(number, name, *disk, chap) for number, (name, disk) in enumerate(disks.items(), 1))
        auth = folder / "auth.conf"
        auth.write_text(f'[AuthGroup1]\n  Auth "{chap[0]}" "{chap[1]}"\n' if chap else "")
        auth.chmod(0o600)
        (folder / "istgt.conf").write_text(f"""
[Global]
  NodeBase "iqn.2026-11.io.perilune"
  PidFile {folder}/pid
  AuthFile {auth}
  MediaDirectory {folder}
  LogFacility "local7"
  Timeout 30
  NopInInterval 20
  DiscoveryAuthMethod Auto
  MaxSessions 1100
  MaxConnections 1
  MaxR2T 32
  MaxOutstandingR2T 16
  DefaultTime2Wait 2
  DefaultTime2Retain 0
  FirstBurstLength 262144
  MaxBurstLength 1048576
  MaxRecvDataSegmentLength 262144
  InitialR2T Yes
  ImmediateData Yes
  DataPDUInOrder Yes
  DataSequenceInOrder Yes
  ErrorRecoveryLevel 0
[UnitControl]
  AuthMethod None
  AuthGroup None
  Portal UC1 127.0.0.1:{h.free_port()}
  Netmask 127.0.0.1
[PortalGroup1]
  Portal DA1 127.0.0.1:{self.port}
[InitiatorGroup1]
  InitiatorName "ALL"
  Netmask 127.0.0.1
{units}""")
        log = open(folder / "log", "wb")
        stack.callback(log.close)
        self.process = h.start([*prefix, "istgt", "-D", "-c", folder / "istgt.conf", "-p", folder / "pid"],
                               stdout=log, stderr=log)
        stack.callback(self._end)
        h.wait_for(lambda: listens(self.port), "istgt to listen", process=self.process)

    def _end(self):
        self.process.kill()
        self.process.wait()

    @staticmethod
    def _unit(number, name, path, size, chap):
        return f"""
[LogicalUnit{number}]
  TargetName {name}
  Mapping PortalGroup1 InitiatorGroup1
  AuthMethod {'CHAP' if chap else 'None'}
  AuthGroup {'AuthGroup1' if chap else 'None'}
  UseDigest Auto
  UnitType Disk
  QueueDepth 255
  LUN0 Storage {path} {size >> 20}MB
"""

    @property
    def pid(self):
        return self.process.pid

    def url(self, name, login=""):
        return f"iscsi://{login}127.0.0.1:{self.port}/iqn.2026-11.io.perilune:{name}/0"


def listens(port):
    wanted = f":{port:04X}"
    return any((f := line.split())[1].endswith(wanted) and f[3] == "0A"
               for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:])


class Arena:
    """All contestants of a run by name, made when they are first asked for."""

    def __init__(self, stack, cores, size, client_wait, disk_folder):
        self.stack, self.cores, self.size, self.client_wait = stack, cores, size, client_wait
        self.disk_folder = disk_folder
        self.files = Files(stack)
        self._made, self._tgtd, self._istgt = {}, None, None
        if not os.access(CEILING, os.X_OK):
            h.fail(f"{CEILING} is not built (./dev build)")

    def __getitem__(self, name):
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def available(self, name):
        program = {"tgtd": "tgtd", "istgt": "istgt", "fio": "fio"}.get(name.split()[0])
        return program is None or shutil.which(program) is not None

    def _make(self, name):
        first, *rest = name.split()
        if name == work.DISK_CEILING:
            return Ceiling(self, "--file", self._disk_file())
        if first in ("ceiling", "sockets"):
            return Ceiling(self, "--engine", rest[0], "--disk", self.size if first == "ceiling" else 0, spin="spin" in rest)
        if first == "fio":
            return Fio(self, self._disk_file())
        if first == "perilune":
            return self._perilune(" ".join(rest))
        if first == "tgtd":
            return self._tgt(rest)
        return self._istgt_disk(bool(rest))

    # -- ours

    def serve(self, *words, **options):
        options["options"] = ["--quiet", *options.get("options", [])]
        return self.stack.enter_context(h.serve(*words, prefix=self.cores.server, folder=h.temp_dir(self.stack), **options))

    def _perilune(self, kind):
        if kind == "plain":
            own = self["perilune"]
            return Iscsi(self, own.pid, own.url, digests=False)
        if kind == "disk both":
            own = self["perilune disk"]
            return Iscsi(self, own.pid, own.url, client_wait="adaptive")
        if kind == "disk":
            server = self.serve(str(self._disk_file()))
        elif kind == "tmpfs":
            server = self.serve(str(self.files.make("/dev/shm", "perilune", self.size)))
        else:
            polling = {"asleep": "never", "spin": "always"}.get(kind, "adaptive")
            runtime = "epoll" if kind == "epoll" else "auto"
            server = self.serve(f"ram:{self.size >> 20}M", options=["--polling", polling, "--runtime", runtime])
        made = Iscsi(self, server.pid, server.urls[0], parked=kind == "spin")
        if kind == "spin":  # so that it hears SIGTERM
            self.stack.callback(server.process.send_signal, signal.SIGCONT)
        if kind != "disk":
            made.fill(self.size)
        return made

    # -- theirs

    def _tgt(self, words):
        kind, on_disk = words[-1], words[0] == "disk"
        if self._tgtd is None:
            self._tgtd = h.Tgtd(self.stack, prefix=self.cores.server)
            self._tids = 0
        self._tids += 1
        path = self._disk_file() if on_disk else self.files.make("/dev/shm", f"tgtd-{kind}", self.size)
        iqn = f"{IQN}-{'-'.join(words)}"
        # tgtd's aio backing store opens with O_DIRECT by itself; rdwr does when told.
        self._tgtd.target(self._tids, iqn, path, bstype=kind, bsoflags="direct" if on_disk and kind == "rdwr" else None)
        for key in ("HeaderDigest", "DataDigest"):
            self._tgtd.admin("--op", "update", "--mode", "target", "--tid", self._tids, "-n", key, "-v", "CRC32C,None")
        return Iscsi(self, self._tgtd.pid, f"iscsi://127.0.0.1:{self._tgtd.port}/{iqn}/1")

    def _istgt_disk(self, on_disk):
        if self._istgt is None:
            path = self.files.make("/dev/shm", "istgt", self.size)
            self._istgt = Istgt(self.stack, self.cores.server,
                                {"memory": (path, self.size), "disk": (self._disk_file(), self.size)})
        return Iscsi(self, self._istgt.pid, self._istgt.url("disk" if on_disk else "memory"))

    def _disk_file(self):
        """One file for all: at any time only one of them is at work."""
        if "disk file" not in self._made:
            self._made["disk file"] = self.files.make(self.disk_folder, "disk", self.size, written=True)
        return self._made["disk file"]


def calls_per_io(contestant, workload, folder):
    """System calls of the server per I/O, those of login and log-out included; None where they cannot be counted."""
    if isinstance(contestant, Fio) or shutil.which("perf") is None:
        return None
    output = folder / "calls"

    def counted(pid, command):  # perf counts in the server while the client runs
        return ["perf", "stat", "-x", ",", "-o", output, "-e", "raw_syscalls:sys_enter", "-p", pid, "--", *command]
    try:
        result = contestant.run(workload, 0.5, counted)
        match = re.search(r"^(\d+),", output.read_text(), re.M)
    except (AssertionError, OSError, ValueError):
        return None
    return int(match[1]) / result["ios_all"] if match else None
