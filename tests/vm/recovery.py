# SPDX-License-Identifier: Apache-2.0
"""Twenty cuts under load: connections reset, the target restarted, killed, the network black-holed for longer than the NOP
timeout and for longer than the replacement timeout. After each the first write completes within the replacement timeout and
five seconds, every block holds its last acknowledged version, and no write fails unless that timeout had passed."""
import mmap
import os
import random
import struct
import threading
import time

import lab
from lab import sh

VM = {"mutants": {"stale-restart": {"stale_restart": True}}}

REPLACEMENT, NOP = 10, 3
BLOCKS, BLOCK = 512, 4096
CUTS = ("reset", "kill", "restart", "hole") * 4 + ("kill", "reset", "long hole", "long hole")
target, disk = {}, ""


class Load:
    """A thread that writes versions of random blocks past the page cache. acked[block] is the last version whose write
    completed; a write that failed, or has not ended, may or may not be on the disk: its version is in open[block]."""

    def __init__(self, device, seed):
        self.device, self.rng = device, random.Random(seed)
        self.acked, self.open = [0] * BLOCKS, [set() for _ in range(BLOCKS)]
        self.completed, self.last, self.errors, self.version = 0, 0.0, [], 0
        self.buffer = mmap.mmap(-1, BLOCK)
        self.start()

    def start(self):
        self.stopping = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @staticmethod
    def content(block, version):
        return struct.pack("<II", block, version) + random.Random(block << 32 | version).randbytes(BLOCK - 8)

    def _run(self):
        fd = os.open(self.device, os.O_RDWR | os.O_DIRECT)
        while not self.stopping:
            self.version += 1
            block, version = self.rng.randrange(BLOCKS), self.version
            self.buffer[:] = self.content(block, version)
            self.open[block].add(version)
            try:
                os.pwritev(fd, [self.buffer], block * BLOCK)
            except OSError as e:
                self.errors.append((time.monotonic(), e.errno))
                time.sleep(0.2)
                continue
            self.acked[block] = version
            self.open[block] = set()
            self.completed += 1
            self.last = time.monotonic()
        os.close(fd)

    def stop(self):
        self.stopping = True
        self.thread.join(60)
        lab.check(not self.thread.is_alive(), "no write is stuck")

    def verify(self):
        """Reads every block past the caches."""
        fd = os.open(self.device, os.O_RDONLY | os.O_DIRECT)
        piece = mmap.mmap(-1, BLOCKS * BLOCK)
        os.preadv(fd, [piece], 0)
        os.close(fd)
        for block in range(BLOCKS):
            got = piece[block * BLOCK:(block + 1) * BLOCK]
            number, version = struct.unpack_from("<II", got)
            if version == 0 and self.acked[block] == 0 and got == bytes(BLOCK):
                continue
            if version != self.acked[block] and version not in self.open[block]:
                lab.fail(f"block {block} has version {version}; acknowledged was {self.acked[block]}, open {self.open[block]}")
            if number != block or got != self.content(block, version):
                lab.fail(f"block {block}, version {version}, has other bytes than were written")


def logged_in():
    global disk
    target.update(lab.serve(disks=["16M"], proxied=True))
    lab.iscsid()
    lab.discover(target)
    lab.update(target, node__session__timeo__replacement_timeout=REPLACEMENT, **{
        "node__conn[0]__timeo__noop_out_interval": 2, "node__conn[0]__timeo__noop_out_timeout": NOP,
        "node__conn[0]__timeo__login_timeout": 5})
    disk = lab.login(target)
    lab.check(lab.sysfs(disk, "queue/write_cache") == "write back", "the disk says that it has a write cache")
    lab.allow(r"detected conn error", r"ping timeout")
    address = target["portals"][0].split(":")[0]
    sh("nft add table ip hole; nft add chain ip hole output '{ type filter hook output priority 0; }'; "
       "nft add chain ip hole input '{ type filter hook input priority 0; }'", show=False)
    hole.rules = [f"add rule ip hole output ip daddr {address} drop", f"add rule ip hole input ip saddr {address} drop"]


def hole(seconds):
    """Nothing passes, in either direction; nobody is told."""
    sh(["nft", "; ".join(hole.rules)], show=False)
    time.sleep(seconds)
    sh("nft flush table ip hole", show=False)


def cut(kind):
    portal = target["portals"][0]
    if kind == "reset":
        lab.host.cut(portal=portal)
    elif kind == "kill":
        lab.host.kill()
        lab.host.restart()
    elif kind == "restart":
        lab.host.stop()
        lab.host.restart()
    else:
        hole(NOP + 4 if kind == "hole" else REPLACEMENT + NOP + 6)


def sessions():
    done = sh("iscsiadm -m session -P 1", show=False)
    return "iSCSI Connection State: LOGGED IN" in done.out


def twenty_cuts():
    writer = Load(disk, 1)
    lab.wait_for(lambda: writer.completed > 20, "the load to run")
    connections = lab.host.counts(portal=target["portals"][0]).get("connections", 0)
    for number, kind in enumerate(CUTS, 1):
        if kind == "long hole":
            lab.allow(r"recovery timed out", r"I/O error", r"rejecting I/O", r"FAILED Result", r"Buffer I/O error",
                      r"lost async page write")
        before, failed = writer.completed, len(writer.errors)
        cut(kind)
        mended = time.monotonic()
        in_time = REPLACEMENT + 5
        lab.wait_for(lambda: lab.host.counts(portal=target["portals"][0])["connections"] > connections, "a new connection",
                     in_time + 30)
        lab.wait_for(lambda b=before: writer.completed > b and writer.last > mended, f"a write after cut {number}", in_time + 30)
        took = time.monotonic() - mended
        connections = lab.host.counts(portal=target["portals"][0])["connections"]
        lab.check(took <= in_time, f"cut {number} ({kind}): the first write completed {took:.1f} s after it was mended")
        if kind != "long hole":
            lab.check(len(writer.errors) == failed, "no write failed")
            lab.check(not lab.dmesg_errors(), "and the kernel's log has no I/O error")
        else:
            lab.check(len(writer.errors) > failed, "writes failed, as they must after the replacement timeout")
        writer.stop()
        writer.verify()
        lab.say(f"  ok: {BLOCKS} blocks hold their last acknowledged version ({writer.completed} writes so far)")
        running = writer.completed + 10
        writer.start()
        lab.wait_for(lambda n=running: writer.completed > n, "the load to run again")
    writer.stop()
    writer.verify()
    lab.check(sessions(), "the session is logged in")


if __name__ == "__main__":
    lab.main(logged_in, twenty_cuts)
