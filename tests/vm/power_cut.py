# SPDX-License-Identifier: Apache-2.0
"""Power cuts under load. Target and initiator are in one guest; the target's disk file lies on an ext4 on a device that loses every
write from a chosen moment on (dm-flakey), after which the target is killed and its file system comes up from what reached the
device. Whatever a flush covered before that moment is there; nothing on the disk is anything that was never written."""
import os
import pathlib
import time

import lab
import recovery
from lab import sh

VM = {"memory": 640, "disks": ["256M"],
      "mutants": {"lost-flush": {"guest_preload": "lost_flush"}}}

CUTS = 5
IQN, PORTAL = "iqn.2026-11.io.perilune:power", "127.0.0.1:3260"
target = {"iqn": IQN, "portals": [PORTAL]}
server, disk, sectors = None, "", 0


def table(kind):
    """What the device does from now on: linear (works) or flakey (says that it wrote, and did not)."""
    line = f"0 {sectors} linear /dev/vdb 0" if kind == "works" else f"0 {sectors} flakey /dev/vdb 0 0 3600 1 drop_writes"
    sh(["dmsetup", "load", "power", "--table", line], show=False)
    sh(["dmsetup", "suspend", "--noflush", "--nolockfs", "power"], show=False)
    sh(["dmsetup", "resume", "power"], show=False)


def start_target():
    global server
    server = lab.start([lab.PERILUNE, "serve", "--portal", PORTAL, "--target", IQN, "/srv/disk"], "/run/serve.log", env=lab.preload())
    lab.wait_for(lambda: "ready" in pathlib.Path("/run/serve.log").read_text(), "the target")


def a_target_on_a_device_that_can_lose_power():
    global sectors
    for module in ("dm_mod", "dm_flakey"):
        sh(["modprobe", module], show=False)
    sectors = int(lab.sysfs("/dev/vdb", "size"))
    sh(["dmsetup", "create", "power", "--table", f"0 {sectors} linear /dev/vdb 0"])
    sh("mkfs.ext4 -q -F /dev/mapper/power")
    os.makedirs("/srv", exist_ok=True)
    mount()
    sh("truncate -s 64M /srv/disk; sync")
    start_target()
    lab.guest_wire("127.0.0.1", 3260)
    lab.allow(r"EXT4-fs warning \(device dm-", r"EXT4-fs error \(device dm-", r"dm-\d+.*(I/O error|JBD2)", r"JBD2: .*dm-")


def logged_in():
    global disk
    lab.iscsid()
    lab.discover(target)
    lab.update(target, node__session__timeo__replacement_timeout=60, **{"node__conn[0]__timeo__noop_out_interval": 5,
                                                                        "node__conn[0]__timeo__noop_out_timeout": 10})
    disk = lab.login(target)
    lab.allow(r"detected conn error")


def mount():
    """A journal that commits by itself only after ten minutes: what is durable is so because of a flush."""
    sh("mount -o commit=600 /dev/mapper/power /srv", show=False)


class FlushingLoad(recovery.Load):
    """flushed[block]: the version that the last completed flush covered."""

    def _run(self):
        self.flushed = getattr(self, "flushed", [0] * recovery.BLOCKS)
        fd = os.open(self.device, os.O_RDWR | os.O_DIRECT)
        while not self.stopping:
            for _ in range(8):
                self.version += 1
                block = self.rng.randrange(recovery.BLOCKS)
                self.open[block].add(self.version)
                self.buffer[:] = self.content(block, self.version)
                # spread over the whole file, so that most first writes allocate
                os.pwritev(fd, [self.buffer], block * recovery.BLOCK)
                self.acked[block] = self.version
                self.completed += 1
            covered = list(self.acked)
            os.fsync(fd)
            self.flushed = covered
            self.last = time.monotonic()
        os.close(fd)


def unmount():
    """The kernel gives up what a ring held, the target's file among it, only after the process has ended."""
    lab.wait_for(lambda: sh("umount /srv", code=None, show=False).code == 0, "the target's file to be let go")


def cut_and_verify(load, number):
    load.start()
    wanted = load.completed + 80
    lab.wait_for(lambda: load.completed > wanted, "the load to run")
    flushed = list(load.flushed)         # acknowledged before the power went
    table("loses")
    server.kill()
    server.wait()
    load.stopping = True
    unmount()
    sh("blockdev --flushbufs /dev/mapper/power", show=False)
    table("works")
    mount()
    start_target()
    load.thread.join(90)
    lab.check(not load.thread.is_alive(), f"cut {number}: the session came back")
    check_versions(load, flushed)
    lab.say(f"  ok: cut {number}: nothing that was flushed is lost ({sum(1 for v in flushed if v)} blocks)")


def check_versions(load, flushed):
    """Every block: a version that was written, not older than the one flushed before the cut."""
    sh(["blockdev", "--flushbufs", disk], show=False)
    with open(disk, "rb") as f:
        data = f.read(recovery.BLOCKS * recovery.BLOCK)
    for block in range(recovery.BLOCKS):
        got = data[block * recovery.BLOCK:(block + 1) * recovery.BLOCK]
        version = int.from_bytes(got[4:8], "little")
        if version < flushed[block]:
            lab.fail(f"block {block} has version {version}, but {flushed[block]} was flushed")
        if version and (got != load.content(block, version) or version not in load.open[block]):
            lab.fail(f"block {block} has bytes that nobody wrote")
        load.open[block] = {v for v in load.open[block] if v >= version}
        load.acked[block] = version


def nothing_flushed_is_lost():
    load = FlushingLoad(disk, 1)
    lab.wait_for(lambda: load.completed > 8, "the load to run")
    load.stop()
    for number in range(1, CUTS + 1):
        cut_and_verify(load, number)
    sh("umount /srv", code=None, show=False)
    lab.logout(target)
    server.terminate()
    lab.check(server.wait(60) == 0, "the target ends well")
    unmount()
    sh("fsck.ext4 -f -n /dev/mapper/power")


if __name__ == "__main__":
    lab.main(a_target_on_a_device_that_can_lose_power, logged_in, nothing_flushed_is_lost)
