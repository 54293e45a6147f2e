# SPDX-License-Identifier: Apache-2.0
"""The machine as the bench sees it: which core for whom, a network of its own, and what a process has used."""
import ctypes
import fcntl
import os
import pathlib
import platform
import re
import shutil
import socket
import statistics
import struct
import subprocess
import time

CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


class Cores:
    """The server's core and the client's, as prefixes of commands; empty where there is only one.

    A guest's host moves its processors about, for seconds each: to what seem two halves of one core (a word to the other and
    back takes 50 ns), to where they share a cache (120), to where they share none (520; and an I/O costs two to three times as much,
    whoever serves it). A turn in which they are not as far apart as usual is taken again."""

    CALIBRATION_SECONDS, ALIKE = 3, 1.6

    def __init__(self, round_trip, patience):
        """round_trip(core, core) -> nanoseconds; patience: seconds in all for waiting and for turns that do not count."""
        cores = sorted(os.sched_getaffinity(0))
        self.two = len(cores) > 1
        self.server = ["taskset", "-c", cores[0]] if self.two else []
        self.client = ["taskset", "-c", cores[1]] if self.two else []
        self._round_trip = lambda: round_trip(cores[0], cores[1])
        self._seen = []
        self._patience = patience
        self.taken_again = self.odd = 0  # turns; the latter counted although the cores were not as usual
        end = time.monotonic() + self.CALIBRATION_SECONDS
        while self.two and time.monotonic() < end:
            self.as_usual()
            time.sleep(0.1)

    def usual_ns(self):
        return statistics.median(self._seen) if self._seen else 0.0

    def as_usual(self):
        if not self.two:
            return True
        now = self._round_trip()
        self._seen.append(now)
        return 1 / self.ALIKE < now / self.usual_ns() < self.ALIKE

    def settled(self, turn):
        """What turn() returns, of one at whose begin and end the cores were as far apart as usual."""
        while True:
            begin = time.monotonic()
            while not self.as_usual() and time.monotonic() < begin + self._patience:
                time.sleep(0.2)
            waited = time.monotonic() - begin
            result = turn()
            if self.as_usual():
                self._patience -= waited
                return result
            self._patience -= time.monotonic() - begin
            if self._patience <= 0:
                self.odd += 1
                return result
            self.taken_again += 1


def own_network(congestion):
    """Moves this process, and what it starts, into a network of its own where every connection has the same congestion
    control: the product chooses its own, the others take what there is. Returns a line that says how it is."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        return f"in the system's network, congestion control {current_congestion()} for who does not choose"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(s, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
    # By the routes: the default of a network may be set only to what the system's administrator allows for everybody.
    if shutil.which("ip"):
        for where in ("127.0.0.0/8", "127.0.0.1"):
            subprocess.run(["ip", "route", "replace", "local", where, "dev", "lo", "table", "local", "proto", "kernel", "scope",
                            "host", "src", "127.0.0.1", "congctl", congestion], stdin=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, check=False)
    return f"in a network of its own, congestion control {current_congestion()} for who does not choose"


def current_congestion():
    """What an accepted connection of this network has when nobody sets it."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        accepted = listener.accept()[0]
        with accepted:
            names = {end.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode() for end in (client, accepted)}
    return " and ".join(sorted(names))


def favour(start):
    """`start` (harness.py), but what it starts goes before the machine's other work. Each has a scheduling group of its own,
    for it begins a session; only the group's weight counts among groups."""
    def started(command, **options):
        process = start(command, **options)
        try:
            os.setpriority(os.PRIO_PROCESS, process.pid, -20)
            pathlib.Path(f"/proc/{process.pid}/autogroup").write_text("-20")
        except OSError:
            pass  # it has ended, or this kernel has no such groups
        return process
    return started


def describe():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return {"cpu": cpu[1] if cpu else platform.machine(), "cores": len(os.sched_getaffinity(0)), "kernel": platform.release(),
            "load": os.getloadavg()[0]}


def thread_seconds(pid):
    """thread -> its time on a processor, to the nanosecond where the scheduler keeps it."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            found[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9
        except OSError:
            pass  # a thread that has just ended
    return found


def cpu_seconds(pid):
    """Of all threads of a process."""
    return sum(thread_seconds(pid).values())


def pss_kib(pid):
    """Proportional set size without the pages of files: what a program shares of its own code with its client, which may be
    the same program, changes with every process that comes and goes."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(re.search(rf"^{key}:\s+(\d+)", text, re.M)[1]) for key in ("Pss_Anon", "Pss_Shmem"))
