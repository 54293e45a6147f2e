# SPDX-License-Identifier: Apache-2.0
"""Two guests share a disk. The second holds a persistent reservation and writes; the first registers, preempts it, and from then
on not one write of the second reaches the disk, while the first reads and writes (sg_persist, SPC-4 5.13)."""
import os
import re

import lab
from lab import sh

VM = {"short": True, "guests": 2, "memory": 384,
      "mutants": {"lost-conflict": {"wire": "lost_conflict"}}}

KEYS = {1: "0xa1a1", 2: "0xb2b2"}
WRITE_EXCLUSIVE_REGISTRANTS_ONLY = "5"
target, disk = {}, ""


def meet(name):
    """Both guests come to this line before either goes on."""
    lab.host.note(name=f"{name}-{lab.NUMBER}", value=1)
    lab.wait_for(lambda: lab.host.note(name=f"{name}-{3 - lab.NUMBER}"), f"the other guest at {name}", 300, every=0.3)


def persist(*words, code=0):
    return sh(["sg_persist", *words, disk], code=code)


def write(lba, byte):
    """One block, past every cache; returns whether the disk took it."""
    try:
        fd = os.open(disk, os.O_WRONLY | os.O_DIRECT)
        piece = lab.mmap.mmap(-1, 4096)
        piece[:] = bytes([byte]) * 4096
        os.pwritev(fd, [piece], lba * 512)
        os.close(fd)
        return True
    except OSError:
        return False


def holds(lba, byte):
    return lab.host.digest(offset=lba * 512, length=4096) == lab.hashlib.sha256(bytes([byte]) * 4096).hexdigest()


def both_log_in():
    global disk
    if lab.NUMBER == 1:
        target.update(lab.serve(disks=["64M"]))
        lab.host.note(name="target", value=target)
    else:
        target.update(lab.wait_for(lambda: lab.host.note(name="target"), "the target", 300, every=0.3))
        lab.use_proxies(target)
    lab.iscsid()
    lab.discover(target)
    disk = lab.login(target)
    lab.allow(r"reservation conflict", r"I/O error, dev sd", r"FAILED Result", r"Buffer I/O error", r"critical nexus error")
    meet("login")


def the_second_reserves_and_writes():
    persist("--out", "--register", f"--param-sark={KEYS[lab.NUMBER]}")
    meet("registered")
    if lab.NUMBER == 2:
        persist("--out", "--reserve", f"--param-rk={KEYS[2]}", f"--prout-type={WRITE_EXCLUSIVE_REGISTRANTS_ONLY}")
        lab.check(write(0, 0x22), "the holder writes")
    meet("reserved")
    done = persist("--in", "--read-keys")
    lab.expect(done.out, r"2 registered reservation keys", KEYS[1], KEYS[2])
    done = persist("--in", "--read-reservation")
    lab.expect(done.out, rf"Key={KEYS[2]}", r"type: Write Exclusive, registrants only")
    lab.check(holds(0, 0x22), "the host sees the write")
    meet("seen")


def the_first_fences_the_second():
    if lab.NUMBER == 1:
        persist("--out", "--preempt", f"--param-rk={KEYS[1]}", f"--param-sark={KEYS[2]}",
                f"--prout-type={WRITE_EXCLUSIVE_REGISTRANTS_ONLY}")
        done = persist("--in", "--read-keys")
        lab.expect(done.out, r"1 registered reservation key", KEYS[1])
        lab.check(not re.search(KEYS[2], done.out), "the second's key is gone")
        lab.check(write(64, 0x11), "the first writes")
    meet("fenced")
    if lab.NUMBER == 2:
        lab.check(not write(0, 0x33), "the fenced guest's write fails")
        lab.check(not write(128, 0x33), "and so does every other")
        with open(disk, "rb") as f:
            lab.check(len(f.read(4096)) == 4096, "it may read")
    meet("tried")
    lab.check(holds(0, 0x22) and holds(64, 0x11) and holds(128, 0), "nothing of the fenced guest reached the disk")
    meet("looked")


def the_second_comes_back():
    if lab.NUMBER == 2:
        persist("--out", "--register-ignore", f"--param-sark={KEYS[2]}")
        lab.check(write(128, 0x44), "registered again, it writes")
    meet("back")
    lab.check(holds(128, 0x44), "and that reached the disk")
    if lab.NUMBER == 1:
        persist("--out", "--clear", f"--param-rk={KEYS[1]}")
        lab.expect(persist("--in", "--read-keys").out, r"there are NO registered reservation keys")
    meet("cleared")
    lab.logout(target)
    meet("logged out")


if __name__ == "__main__":
    lab.main(both_log_in, the_second_reserves_and_writes, the_first_fences_the_second, the_second_comes_back)
