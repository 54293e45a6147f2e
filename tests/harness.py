# SPDX-License-Identifier: Apache-2.0
"""What the system, interop and conformance tests share: start and stop servers, find ports, clean up behind a test.

Every process started here dies with the test (PR_SET_PDEATHSIG), even when ctest kills it on its time limit; mounts,
loop devices and folders are undone in reverse order. Nothing is ever ended by name, only by the pid started here.
A missing prerequisite ends the test with exit code 77 and one line that says what is missing.
"""
import contextlib
import ctypes
import os
import pathlib
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent
# PERILUNE_SERVE_OPTIONS: words for every `perilune serve`, so that a test can be run again on a server of another kind.
PERILUNE = os.environ.get("PERILUNE", str(ROOT / "build/bin/perilune"))
SKIPPED = 77
USER, SECRET = "first", "light-secret-1"            # 12 bytes or more, as RFC 7143 9.2.1 asks
MUTUAL_USER, MUTUAL_SECRET = "moon", "moon-secret-22"
_libc = ctypes.CDLL(None, use_errno=True)


def say(text):
    print(text, flush=True)


def fail(text):
    raise AssertionError(text)


def skip(reason):
    say(f"skipped: {reason}")
    sys.exit(SKIPPED)


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            skip(f"{program} is not installed (./dev deps test)")


def need_perilune():
    if not os.access(PERILUNE, os.X_OK):
        fail(f"{PERILUNE} is not built (./dev build)")


def need_root_and_devices():
    if os.geteuid() != 0:
        skip("attaching block devices needs root")
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(device):
            skip(f"{device} is not there")


def die_with_parent():
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def start(command, **options):
    """Popen whose process cannot outlive this one, and hears no Ctrl-C: whoever started it ends it, in the right order."""
    options.setdefault("start_new_session", True)
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen([str(word) for word in command], preexec_fn=die_with_parent, **options)


class Done:
    """A finished command: code, out and err as text."""

    def __init__(self, command, code, out, err):
        self.command, self.code, self.out, self.err = command, code, out, err

    def __str__(self):
        return f"$ {' '.join(self.command)}\n{self.out}{self.err}[exit {self.code}]"


def run(command, *, timeout=60, env=None, check=True, input=None, cwd=None):
    """Runs a command to its end; with check, a non-zero exit fails the test with all of its output."""
    command = [str(word) for word in command]
    full_env = dict(os.environ, LC_ALL="C", **(env or {}))
    process = start(command, stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", env=full_env, cwd=cwd)
    try:
        out, err = process.communicate(input, timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        try:
            out, err = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            out, err = "", "(it cannot even be killed)\n"
        raise AssertionError(f"still running after {timeout} s: {Done(command, 'none', out, err)}") from None
    done = Done(command, process.returncode, out, err)
    if check and done.code != 0:
        fail(str(done))
    return done


def wait_for(condition, what, timeout=20.0, process=None):
    """Polls until condition() is true and returns its value; fails when the time is up or the process has ended."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if process is not None and process.poll() is not None:
            fail(f"process ended with {process.returncode} while waiting for {what}")
        if time.monotonic() > deadline:
            fail(f"waited {timeout} s for {what}")
        time.sleep(0.02)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def temp_dir(stack, prefix="perilune-test-"):
    return pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix)))


def secret_file(folder, name, secret):
    path = folder / name
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
        f.write(secret + "\n")
    return path


def stop(process, name, timeout=20, expect=0):
    """SIGTERM, then wait; a server that does not end, or ends otherwise than expected, fails the test."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise AssertionError(f"{name} did not end within {timeout} s of SIGTERM") from None
    if expect is not None and code != expect:
        fail(f"{name} ended with {code}, not {expect}")


def read_line(stream, deadline, what):
    """One line from an unbuffered binary pipe; fails at the deadline or the end of the stream."""
    line = b""
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([stream], [], [], left)[0]:
            fail(f"no line from {what} in time (so far {line!r})")
        byte = os.read(stream.fileno(), 1)
        if not byte:
            fail(f"{what} closed its output (so far {line!r})")
        line += byte
    return line.decode(errors="replace").rstrip("\n")


URL = re.compile(r"^iscsi://(?P<host>\[[0-9a-fA-F:]+\]|[^:/]+):(?P<port>\d+)/(?P<iqn>[^/]+)/(?P<lun>\d+)$")


class Serve:
    """A running `perilune serve`: urls (one per LUN), host, port, iqn, log (a file with its standard error)."""

    def __init__(self, backings, options=(), folder=None, prefix=(), env=None):
        need_perilune()
        self.log = pathlib.Path(folder or tempfile.gettempdir()) / f"serve-{os.getpid()}-{random.randrange(1 << 30)}.log"
        command = [*prefix, PERILUNE, "serve"]
        if "--portal" not in options:
            command += ["--portal", "127.0.0.1:0"]
        command += [*options, *os.environ.get("PERILUNE_SERVE_OPTIONS", "").split(), *backings]
        self.command = [str(word) for word in command]
        with open(self.log, "wb") as log:
            self.process = start(command, stdout=subprocess.PIPE, stderr=log, bufsize=0, env=dict(os.environ, **(env or {})))
        self.urls = []
        deadline = time.monotonic() + 30
        try:
            while (line := read_line(self.process.stdout, deadline, "perilune serve")) != "ready":
                self.urls.append(line.strip())
        except AssertionError as e:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{e}\n$ {' '.join(self.command)}\n{self.errors()}") from None
        match = URL.match(self.urls[0]) if self.urls else None
        if not match:
            self.process.kill()
            fail(f"perilune serve printed {self.urls}, not iscsi:// URLs")
        self.host, self.port, self.iqn = match["host"], int(match["port"]), match["iqn"]
        self.portal = f"{self.host}:{self.port}"

    @property
    def pid(self):
        return self.process.pid

    def errors(self):
        return self.log.read_text(errors="replace")

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        try:
            stop(self.process, "perilune serve")
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.errors()}") from None
        finally:
            self.process.stdout.close()
        errors = self.errors()
        if re.search(r"ERROR: (Address|Leak|Thread|Undefined)|runtime error:|assertion|Assertion", errors):
            fail(f"perilune serve complained:\n{errors}")
        with contextlib.suppress(FileNotFoundError):
            self.log.unlink()


@contextlib.contextmanager
def serve(*backings, options=(), folder=None, prefix=(), env=None):
    server = Serve(backings, options, folder, prefix, env)
    try:
        yield server
    except BaseException:
        server.process.kill()
        server.process.wait()
        say(f"--- standard error of perilune serve:\n{server.errors()[-4000:]}---")
        raise
    server.stop()


def libiscsi_url(host, port, iqn=None, lun=None, user=None, secret=None, mutual=None, mutual_secret=None, **arguments):
    """A URL as libiscsi's tools and QEMU read it; iqn and lun may be left out for a portal URL."""
    login = f"{user}%{secret}@" if user else ""
    url = f"iscsi://{login}{host}:{port}"
    if iqn is not None:
        url += f"/{iqn}/{lun}"
    if mutual:
        arguments = {"target_user": mutual, "target_password": mutual_secret, **arguments}
    if arguments:
        url += "?" + "&".join(f"{key}={value}" for key, value in arguments.items())
    return url


class Tgtd:
    """Debian's tgtd on a port and a control channel of its own."""

    def __init__(self, stack, threads=None, prefix=()):
        need("tgtd", "tgtadm")
        if os.geteuid() != 0:
            skip("tgtd needs root")
        os.makedirs("/var/run/tgtd", exist_ok=True)
        self.port = free_port()
        self.control = next(n for n in iter(lambda: random.randrange(1000, 32000), None)
                            if not os.path.exists(f"/var/run/tgtd/socket.{n}"))
        self.folder = temp_dir(stack, "perilune-tgtd-")
        self.log = self.folder / "log"
        command = [*prefix, "tgtd", "-f", "-C", self.control, "--iscsi", f"portal=127.0.0.1:{self.port}"]
        if threads:
            command += ["-t", threads]
        with open(self.log, "wb") as log:
            self.process = start(command, stdout=log, stderr=log)
        stack.callback(self._end)
        wait_for(lambda: self.admin("--op", "show", "--mode", "sys", check=False).code == 0, "tgtd", process=self.process)

    def _end(self):
        # tgtd has no orderly end while initiators are logged in; SIGKILL is what its own script falls back to.
        self.process.kill()
        self.process.wait()
        for suffix in ("", ".lock"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"/var/run/tgtd/socket.{self.control}{suffix}")

    @property
    def pid(self):
        return self.process.pid

    def admin(self, *words, check=True):
        return run(["tgtadm", "-C", self.control, "--lld", "iscsi", *words], check=check, timeout=20)

    def target(self, tid, iqn, path, bstype="rdwr", bsoflags=None, chap=None, mutual=None):
        """A target with one LUN 1 on PATH (LUN 0 is tgtd's controller), open to every initiator, and CHAP if asked."""
        self.admin("--op", "new", "--mode", "target", "--tid", tid, "-T", iqn)
        extra = ["--bsoflags", bsoflags] if bsoflags else []
        self.admin("--op", "new", "--mode", "logicalunit", "--tid", tid, "--lun", 1, "-b", path, "-E", bstype, *extra)
        self.admin("--op", "bind", "--mode", "target", "--tid", tid, "-I", "ALL")
        for account, outgoing in ((chap, []), (mutual, ["--outgoing"])):
            if account:
                self.admin("--op", "new", "--mode", "account", "--user", account[0], "--password", account[1])
                self.admin("--op", "bind", "--mode", "account", "--tid", tid, "--user", account[0], *outgoing)


class Initiator:
    """`perilune iscsiadm` with records, daemon and socket of its own; close() ends the daemon."""

    def __init__(self, stack, prefix=()):
        need_perilune()
        self.command = [*prefix, PERILUNE]
        self.folder = temp_dir(stack, "perilune-initiator-")
        self.env = {"PERILUNE_CONFIG": str(self.folder / "config"), "PERILUNE_SOCKET": str(self.folder / "socket")}
        os.mkdir(self.env["PERILUNE_CONFIG"], 0o700)
        self.close_called = False
        stack.callback(self._end)

    def iscsiadm(self, *words, check=True, timeout=60):
        return run([*self.command, "iscsiadm", *words], env=self.env, check=check, timeout=timeout)

    def perilune(self, *words, check=True, timeout=60):
        return run([*self.command, *words], env=self.env, check=check, timeout=timeout)

    def set(self, iqn, portal, **values):
        for name, value in values.items():
            self.iscsiadm("-m", "node", "-T", iqn, "-p", portal, "-o", "update", "-n", name.replace("__", "."), "-v", value)

    def set_chap(self, iqn, portal, user, secret, mutual=None, mutual_secret=None):
        self.set(iqn, portal, node__session__auth__authmethod="CHAP", node__session__auth__username=user,
                 node__session__auth__password=secret)
        if mutual:
            self.set(iqn, portal, node__session__auth__username_in=mutual, node__session__auth__password_in=mutual_secret)

    def device(self, iqn):
        """The block device attached for the session of this target, as `session -P 3` names it."""
        text = self.iscsiadm("-m", "session", "-P", "3").out
        found = None
        for line in text.splitlines():
            if line.startswith("Target: "):
                found = line.split()[1] == iqn
            elif found and (match := re.search(r"Attached scsi disk (\S+)\s+State: running", line)):
                return "/dev/" + match[1].removeprefix("/dev/")
        return None

    def wait_device(self, iqn):
        device = wait_for(lambda: self.device(iqn), f"a block device for {iqn}")
        wait_for(lambda: block_size(device) > 0, f"{device} to have a size")
        return device

    def daemon_pids(self):
        """Processes that carry our socket in their environment, ourselves excluded."""
        wanted = f"PERILUNE_SOCKET={self.env['PERILUNE_SOCKET']}".encode()
        pids = []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if wanted in (entry / "environ").read_bytes().split(b"\0"):
                        pids.append(int(entry.name))
        return pids

    def close(self):
        """Ends the daemon the documented way (iscsiadm -k 0) and expects it to be gone."""
        if self.daemon_pids():
            self.iscsiadm("-k", "0")
        wait_for(lambda: not self.daemon_pids(), "iscsid to end")

    def _end(self):
        for pid in self.daemon_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


# --- block devices and file systems ----------------------------------------------------------------------------------

def block_size(device):
    """Bytes of a block device, 0 while it has none."""
    try:
        return int(pathlib.Path(f"/sys/class/block/{os.path.basename(device)}/size").read_text()) * 512
    except (OSError, ValueError):
        return 0


def partition_node(device, number, timeout=20):
    """/dev/loopNpM, made by hand where neither devtmpfs nor udev makes it."""
    name = f"{os.path.basename(device)}p{number}"
    sysfs = pathlib.Path(f"/sys/class/block/{name}/dev")
    wait_for(sysfs.exists, f"partition {name}", timeout)
    node = pathlib.Path(f"/dev/{name}")
    deadline = time.monotonic() + 2
    while not node.exists():
        if time.monotonic() > deadline:
            major, minor = map(int, sysfs.read_text().split(":"))
            os.mknod(node, 0o660 | 0o060000, os.makedev(major, minor))
        time.sleep(0.02)
    return str(node)


@contextlib.contextmanager
def mounted(device, folder, *options):
    os.makedirs(folder, exist_ok=True)
    run(["mount", *options, device, folder])
    try:
        yield pathlib.Path(folder)
    finally:
        done = run(["umount", folder], check=False, timeout=60)
        if done.code != 0:
            run(["umount", "-l", folder], check=False)
            fail(str(done))


def is_mounted(path):
    return any(line.split()[1] == str(path) for line in open("/proc/mounts"))


def perilune_loops():
    """Loop devices whose backing file's path names perilune."""
    found = []
    for entry in sorted(pathlib.Path("/sys/block").glob("loop*/loop/backing_file")):
        with contextlib.suppress(OSError):
            if "perilune" in entry.read_text():
                found.append(f"/dev/{entry.parent.parent.name}")
    return found


def cpu_seconds(pid):
    """User and system time of a process so far, with its threads."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pattern_file(path, size, seed=1):
    """A file of reproducible bytes, with a hole in its middle third."""
    generator = random.Random(seed)
    third = size // 3 & ~0xFFFFF
    with open(path, "wb") as f:
        f.truncate(size)
        for begin, end in ((0, third), (2 * third, size)):
            f.seek(begin)
            while f.tell() < end:
                f.write(generator.randbytes(min(1 << 20, end - f.tell())))
    return path


class Relay:
    """A TCP relay to 127.0.0.1:PORT that keeps what passes, so that a test can show what was on the wire."""

    def __init__(self, stack, port):
        self.target = port
        self.from_client, self.from_server = bytearray(), bytearray()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        stack.callback(self.listener.close)

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self._carry(client, socket.create_connection(("127.0.0.1", self.target)))

    def _carry(self, client, server):
        for words in ((client, server, self.from_client), (server, client, self.from_server)):
            threading.Thread(target=self._pump, args=words, daemon=True).start()

    def _passes(self, data, kept):
        """What goes on of what came; `kept` tells the direction."""
        if len(kept) < 1 << 20:
            kept += data
        return data

    def _pump(self, source, sink, kept):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18):
                sink.sendall(self._passes(data, kept))
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def main(*cases):
    """Runs each case(stack) in turn; one line per case, the first failure ends the test with exit code 1."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wanted = sys.argv[1:]
    for case in cases:
        if wanted and case.__name__ not in wanted:
            continue
        begin = time.monotonic()
        try:
            with contextlib.ExitStack() as stack:
                case(stack)
        except AssertionError as e:
            frames = [frame for frame in traceback.extract_tb(e.__traceback__) if frame.name == case.__name__]
            where = f", line {frames[-1].lineno}: {frames[-1].line}" if frames else ""
            say(f"FAILED {case.__name__}{where}: {e}")
            sys.exit(1)
        say(f"ok {case.__name__} ({time.monotonic() - begin:.1f} s)")
