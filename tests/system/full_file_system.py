#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A thin disk of 64 MiB on a file system of 16 MiB (tmpfs and, through a loop device, ext4): when that is full a write ends in SPACE
ALLOCATION FAILED WRITE PROTECT, what was written before stays readable and writable, and once there is space again writes go on
without anything being restarted. A thick disk does not begin where its space is not there."""
import contextlib
import os
import pathlib
import struct
import sys

import harness as h

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "conformance"))
import raw_pdu as p  # noqa: E402
import rules  # noqa: E402

NO_SPACE = (7, 0x27, 0x07)
MIB = 2048                     # blocks
DISK_MIB = 64


def data(number):
    return struct.pack(">I", number) * (512 * MIB // 4 // 16)


def fill(c):
    """Writes until there is no space; returns how many writes were good."""
    for number in range(DISK_MIB * 16):
        done = c.run(p.write10(number * MIB // 16, MIB // 16), write=data(number))
        if done.status != p.GOOD:
            assert done.asc == NO_SPACE, f"write {number} ended in {done}"
            return number
    raise AssertionError("64 MiB fit on a file system of 16 MiB")


def check(folder, log_folder):
    disk, ballast = folder / "disk", folder / "ballast"
    with open(ballast, "wb") as f:
        os.posix_fallocate(f.fileno(), 0, 4 << 20)
    with open(disk, "wb") as f:
        f.truncate(DISK_MIB << 20)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(h.serve(disk, folder=log_folder))
        c = rules.Target(server, stack).session()
        good = fill(c)
        assert 16 <= good < 16 * 16, f"{good} writes were good"
        assert c.run(p.write10(40 * MIB, 8), write=b"\1" * 4096).asc == NO_SPACE
        for number in (0, good // 2, good - 1):
            assert c.good(p.read10(number * MIB // 16, MIB // 16), MIB // 16 * 512).data == data(number), f"block {number}"
        c.good(p.write10(0, 8), write=b"\2" * 4096)                 # its space is there
        c.good(bytes([0x35] + [0] * 9))                            # nothing was lost
        ballast.unlink()
        c.good(p.write10(40 * MIB, 8), write=b"\3" * 4096)
        assert c.good(p.read10(40 * MIB, 8), 4096).data == b"\3" * 4096
        h.say(f"{good} writes were good, then none, then again")
        assert fill_again(c, good) > good
        unmap = struct.pack(">HHIQII", 22, 16, 0, 0, MIB, 0)
        c.good(bytes([0x42, 0, 0, 0, 0, 0, 0, 0, len(unmap), 0]), write=unmap)   # the other way to get space
        c.good(p.write10(50 * MIB, 8), write=b"\4" * 4096)
    with contextlib.suppress(FileNotFoundError):
        disk.unlink()
    with open(disk, "wb") as f:
        f.truncate(DISK_MIB << 20)
    refused = h.run([h.PERILUNE, "serve", "--portal", "127.0.0.1:0", "--thick", disk], check=False, timeout=20)
    assert refused.code == 1 and "No space left" in refused.err, str(refused)


def fill_again(c, number):
    while c.run(p.write10(number * MIB // 16, MIB // 16), write=data(number)).status == p.GOOD:
        number += 1
    return number


def on_tmpfs(folder):
    with h.mounted("none", folder / "tmpfs", "-t", "tmpfs", "-o", "size=16m") as mounted:
        check(mounted, folder)


def on_ext4(folder):
    h.need("mkfs.ext4")
    image = folder / "image"
    with open(image, "wb") as f:
        f.truncate(16 << 20)
    h.run(["mkfs.ext4", "-q", "-O", "^has_journal", image])
    with h.mounted(image, folder / "ext4", "-o", "loop") as mounted:
        check(mounted, folder)


def main():
    if os.geteuid() != 0:
        h.skip("mounting a small file system needs root")
    with contextlib.ExitStack() as stack:
        folder = h.temp_dir(stack)
        on_tmpfs(folder)
        on_ext4(folder)


if __name__ == "__main__":
    main()
