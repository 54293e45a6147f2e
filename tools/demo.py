#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`./dev demo`: a disk from one end of the wire to the other, with the commands a person would type.

Serves a 1 GiB disk file with CHAP, discovers it, logs in, partitions it, makes an xfs and an ext4 file system, copies a
real directory tree onto both, logs out, logs in again, verifies every checksum, takes everything down and reports.
All state is in a folder of its own (PERILUNE_CONFIG, PERILUNE_SOCKET): nothing of the machine's configuration is
touched. A run that was interrupted is cleaned up by the next one.
"""
import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import harness as h  # noqa: E402

STATE = pathlib.Path("/tmp/perilune-demo")
DISK_SIZE = 1 << 30
TREE_LIMIT = 160 << 20
USER, SECRET = "demo", "a-demo-secret-16"
PARTITIONS = ((1, "xfs", ["mkfs.xfs", "-q", "-f"]), (2, "ext4", ["mkfs.ext4", "-q", "-F"]))


def step(text):
    h.say(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}")


def show(done):
    """Prints a command and what it said, as on a terminal."""
    words = " ".join(done.command).replace(h.PERILUNE, "perilune").replace(SECRET, "********")
    h.say(f"  $ {words}")
    for line in (done.out + done.err).splitlines():
        if "udevadm: not found" not in line:     # parted, on a machine without udev
            h.say(f"    {line}")
    return done


# --- leftovers of an interrupted run -----------------------------------------------------------------------------

def processes_of_the_demo():
    """Pids of perilune processes that carry the demo's socket in their environment."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            environment = (entry / "environ").read_bytes().split(b"\0")
            program = os.path.basename(os.readlink(entry / "exe"))
            if program.startswith("perilune") and b"PERILUNE_SOCKET=" + bytes(STATE / "socket") in environment:
                found.append(int(entry.name))
    return found


def end_processes():
    for pid in processes_of_the_demo():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    h.wait_for(lambda: not processes_of_the_demo(), "the demo's processes to end")


def clean_leftovers():
    if not STATE.exists():
        return
    h.say("cleaning up after an earlier run")
    # The processes first: while iscsid waits for its target to come back it holds every write, and umount with them.
    end_processes()
    for name in ("mnt-again", "mnt"):
        for _, kind, _ in PARTITIONS:
            folder = STATE / name / kind
            if h.is_mounted(folder) and h.run(["umount", folder], check=False).code != 0:
                h.run(["umount", "-l", folder], check=False)
    h.run([h.PERILUNE, "detach", "--cleanup"], check=False)
    shutil.rmtree(STATE, ignore_errors=True)


# --- the tree that goes over the wire ----------------------------------------------------------------------------

def pick_tree(limit):
    """Regular files below /usr/share and /usr/include, up to LIMIT bytes in all: name -> size."""
    chosen, total = [], 0
    for top in ("/usr/include", "/usr/share/doc", "/usr/share"):
        for folder, folders, names in os.walk(top):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    if os.path.islink(path) or not os.path.isfile(path):
                        continue
                    size = os.path.getsize(path)
                    if total + size <= limit:
                        chosen.append(path)
                        total += size
            if total > limit * 0.98 or len(chosen) > 20000:
                return chosen, total
        if total > limit // 2:
            break
    return chosen, total


def checksum(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def copy_tree(files, target):
    sums = {}
    for number, path in enumerate(files):
        destination = target / path.lstrip("/")
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, destination)
        sums[path] = checksum(path)
        if number % 2500 == 2499:
            h.say(f"    {number + 1} of {len(files)} files")
    return sums


def mismatches(sums, target):
    bad = 0
    for number, (path, want) in enumerate(sums.items()):
        if checksum(target / path.lstrip("/")) != want:
            h.say(f"    DIFFERENT: {path}")
            bad += 1
        if number % 5000 == 4999:
            h.say(f"    {number + 1} of {len(sums)} files verified")
    return bad


# --- the story ---------------------------------------------------------------------------------------------------

class Demo:
    def __init__(self, stack):
        self.stack = stack
        STATE.mkdir(mode=0o700)
        stack.callback(shutil.rmtree, STATE, ignore_errors=True)
        (STATE / "config").mkdir(mode=0o700)
        os.environ["PERILUNE_CONFIG"] = str(STATE / "config")
        os.environ["PERILUNE_SOCKET"] = str(STATE / "socket")
        self.report = {}
        stack.callback(self.take_down)

    def take_down(self):
        """The way out after a failure; everything is gone already after a success."""
        if processes_of_the_demo():
            end_processes()
            h.run([h.PERILUNE, "detach", "--cleanup"], check=False)

    def iscsiadm(self, *words, quiet=False):
        done = h.run([h.PERILUNE, "iscsiadm", *words], timeout=90)
        return done if quiet else show(done)

    def node(self, *words, quiet=False):
        return self.iscsiadm("-m", "node", "-T", self.server.iqn, "-p", self.server.portal, *words, quiet=quiet)

    def serve(self):
        step("1. A disk of 1 GiB, served with CHAP")
        disk = STATE / "disk.img"
        with open(disk, "wb") as f:
            f.truncate(DISK_SIZE)
        secret = h.secret_file(STATE, "secret", SECRET)
        self.server = self.stack.enter_context(
            h.serve(disk, options=["--chap-user", USER, "--chap-secret-file", secret], folder=STATE))
        h.say("  $ " + " ".join(self.server.command).replace(h.PERILUNE, "perilune"))
        for url in self.server.urls:
            h.say(f"    {url}")
        h.say("    ready")

    def discover(self):
        step("2. Discovery")
        listing = self.iscsiadm("-m", "discovery", "-t", "sendtargets", "-p", self.server.portal).out
        if self.server.iqn not in listing:
            h.fail("the target is not in the list")
        for name, value in (("authmethod", "CHAP"), ("username", USER), ("password", SECRET)):
            self.node("-o", "update", "-n", f"node.session.auth.{name}", "-v", value)

    def login(self):
        begin = time.monotonic()
        self.node("--login")
        device = None

        def attached():
            nonlocal device
            text = self.iscsiadm("-m", "session", "-P", "3", quiet=True).out
            for line in text.splitlines():
                if "Attached scsi disk" in line:
                    device = "/dev/" + line.split("disk", 1)[1].split()[0].removeprefix("/dev/")
            return device and h.block_size(device) == DISK_SIZE

        h.wait_for(attached, "the block device")
        self.report.setdefault("login to block device", f"{(time.monotonic() - begin) * 1000:.0f} ms")
        return device

    def logout(self, device):
        self.node("--logout")
        h.wait_for(lambda: h.block_size(device) == 0, f"{device} to be gone")

    def fill(self, device):
        step("4. Two partitions, an xfs and an ext4 file system, a real directory tree on each")
        show(h.run(["parted", "-s", device, "mklabel", "gpt", "mkpart", "first", "1MiB", "50%", "mkpart", "light", "50%", "100%"]))
        files, total = pick_tree(TREE_LIMIT)
        sums = {}
        for number, kind, make in PARTITIONS:
            node = h.partition_node(device, number)
            show(h.run([*make, node], timeout=120))
            with h.mounted(node, STATE / "mnt" / kind) as folder:
                h.say(f"  copying {len(files)} files, {total >> 20} MiB, to {kind} ...")
                begin = time.monotonic()
                sums[kind] = copy_tree(files, folder)
                h.run(["sync", "-f", folder], timeout=120)
                self.report[f"{kind}: tree written and synced"] = (
                    f"{len(files)} files, {total / (1 << 20) / (time.monotonic() - begin):.0f} MiB/s")
                self.stream_write(folder / "stream", kind)
        return sums

    def stream_write(self, path, kind):
        block, count = os.urandom(1 << 20), 96
        begin = time.monotonic()
        with open(path, "wb", buffering=0) as f:
            for _ in range(count):
                f.write(block)
            os.fsync(f.fileno())
        self.report[f"{kind}: one file, written and fsynced"] = f"{count / (time.monotonic() - begin):.0f} MiB/s"

    def verify(self, device, sums):
        for number, kind, _ in PARTITIONS:
            with h.mounted(h.partition_node(device, number), STATE / "mnt-again" / kind) as folder:
                begin = time.monotonic()
                with open(folder / "stream", "rb", buffering=0) as f:
                    size = sum(len(data) for data in iter(lambda: f.read(1 << 20), b""))
                self.report[f"{kind}: one file, read cold"] = f"{(size >> 20) / (time.monotonic() - begin):.0f} MiB/s"
                bad = mismatches(sums[kind], folder)
                h.say(f"  {kind}: {len(sums[kind])} checksums, {bad} wrong")
                if bad:
                    h.fail(f"{bad} files on {kind} are not what was written")

    def run(self):
        begin = time.monotonic()
        self.serve()
        self.discover()
        step("3. Login: a block device appears")
        device = self.login()
        show(self.iscsiadm("-m", "session", "-P", "3", quiet=True))
        sums = self.fill(device)
        step("5. Logout, and login again")
        self.logout(device)
        device = self.login()
        step("6. Every checksum, read back over a new session")
        self.verify(device, sums)
        step("7. Everything comes down")
        self.logout(device)
        self.iscsiadm("-k", "0")
        h.wait_for(lambda: processes_of_the_demo() == [self.server.pid], "iscsid to end")
        self.stack.close()   # stops the server, and expects a clean end
        h.say("  iscsid and the server have ended, the devices are gone")
        self.report["files verified"] = f"{sum(len(s) for s in sums.values())}, all right"
        self.report["whole demo"] = f"{time.monotonic() - begin:.0f} s"

    def print_report(self):
        step("Report")
        for name, value in self.report.items():
            h.say(f"  {name:38} {value}")


def interrupted(*_):
    """The first signal unwinds the demo; more of them do not disturb that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object at the end")
    args = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    if os.geteuid() != 0:
        sys.exit("demo: attaching block devices and mounting needs root")
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(device):
            sys.exit(f"demo: {device} is not there (in a container, give it the host's devices)")
    lock = open("/tmp/perilune-demo.lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("demo: another demo is running")
    try:
        clean_leftovers()
        with contextlib.ExitStack() as stack:
            demo = Demo(stack)
            demo.run()
        demo.print_report()
        if args.json:
            h.say(json.dumps(demo.report))
    except AssertionError as e:
        sys.exit(f"\ndemo FAILED: {e}")
    except KeyboardInterrupt:
        sys.exit("\ndemo: interrupted, everything is taken down")


if __name__ == "__main__":
    main()
