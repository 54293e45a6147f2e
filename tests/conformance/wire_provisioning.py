#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Thin provisioning on the wire (SBC-4 4.7.3): what the pages tell of a disk in a file system that is soon full, the soft threshold
that is told before it is, what a write gets when it is, and that writes go on when there is space again. The file system is a tmpfs
of 24 MiB over /mnt, in a mount namespace of this test's own. LUN 0 is a file of 64 MiB there, LUN 1 is memory."""
import os
import sys
import time

import harness as h
import raw_pdu as p
from rules import main, rule

TUR = p.TEST_UNIT_READY
SOFT_THRESHOLD = (6, 0x38, 0x07)
SPACE_ALLOCATION_FAILED = (7, 0x27, 0x07)
MIB = 1 << 20
BLOCKS = MIB // 512
FOLDER = "/mnt"
LOG_SENSE = bytes([0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 255, 0])


def space(c, lun=0):
    """Available and used threshold sets, as LOG SENSE tells them; a unit attention on the way is passed over."""
    result = c.run(LOG_SENSE, 255, lun=lun)
    if result.status != p.GOOD:
        result = c.good(LOG_SENSE, 255, lun=lun)
    data = result.data
    assert data[:4] == bytes([0x8c, 0, 0, 24]) and len(data) == 28, data.hex()
    assert data[4:8] == bytes([0, 1, 0x23, 8]) and data[12] == 2, "available, shared"
    assert data[16:20] == bytes([0, 2, 0x23, 8]) and data[24] == 1, "used, dedicated"
    return int.from_bytes(data[8:12], "big"), int.from_bytes(data[20:24], "big")


def until(c, condition, lun=0):
    deadline = time.monotonic() + 20
    while not condition(*space(c, lun)):
        assert time.monotonic() < deadline, f"still {space(c, lun)}"


def write(c, lba, lun=0):
    """One threshold set."""
    return c.run(p.write10(lba, BLOCKS), write=b"\x5a" * MIB, lun=lun)


def unmap(c, lba, blocks, lun=0):
    descriptor = lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + bytes(4)
    c.good(bytes([0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0]), write=bytes([0, 22, 0, 16, 0, 0, 0, 0]) + descriptor, lun=lun)


def empty(c, lun=0):
    unmap(c, 0, 64 * BLOCKS, lun)
    until(c, lambda available, used: used == 0, lun)


def set_thresholds(c, available=None, used=None, single=False, lun=0):
    """The first threshold of each direction; None: not enabled."""
    page = bytearray([0x5c, 2, 0, 44, single]) + bytes(11)
    for kind, count in ((1, available), (1, None), (2, used), (2, None)):
        page += bytes([(0 if count is None else 0x80) | (kind - 1), kind, 0, 0]) + (count or 0).to_bytes(4, "big")
    c.good(p.mode_select6(52), write=bytes(4) + bytes(page), lun=lun)


@rule(13, "SBC-4 6.6.7, 6.4.5")
def pages_tell_what_the_backing_has(t):
    c = t.session(luns=(0, 1))
    for lun in (0, 1):
        assert c.good(p.inquiry(page=0xb2), 255, lun=lun).data == bytes([0, 0xb2, 0, 4, 11, 0xe6, 2, 0]), "sets of 1 MiB"
        empty(c, lun)
        for lba in range(0, 3 * BLOCKS, BLOCKS):
            assert write(c, lba, lun).status == p.GOOD
        until(c, lambda available, used: 3 <= used <= 4, lun)
        empty(c, lun)
    assert 22 <= space(c)[0] <= 24


@rule(13, "SBC-4 6.5.9")
def threshold_pages_are_there(t):
    c = t.session()
    set_thresholds(c, available=3)
    page = c.good(p.mode_sense6(0x1c, subpage=2), 255).data[4:]
    assert page == bytes([0x5c, 2, 0, 44]) + bytes(12) + bytes.fromhex("8001000000000003" "0001000000000000" "0102000000000000"
                                                                     "0102000000000000"), page.hex()
    set_thresholds(c)
    assert c.good(p.mode_sense6(0x01), 255).data[4:][7] == 0x80, "LBPERE"


def until_told(c):
    """Until a command of this session is answered by the threshold's unit attention: that answer."""
    deadline = time.monotonic() + 20
    while (result := c.run(TUR)).asc != SOFT_THRESHOLD:
        assert result.status == p.GOOD and time.monotonic() < deadline, result
    return result


@rule(13, "SBC-4 4.7.3.7.4")
def soft_threshold_comes_before_the_disk_is_full_and_again_when_it_was_armed(t):
    c, other = t.session(), t.session()
    empty(c)
    set_thresholds(c, available=12)
    other.clear_attentions()
    for _ in range(2):
        for lba in range(0, 10 * BLOCKS, BLOCKS):
            assert write(c, lba).status == p.GOOD, "14 MiB are left"
        told = None
        for lba in range(10 * BLOCKS, 14 * BLOCKS, BLOCKS):
            if (result := write(c, lba)).asc == SOFT_THRESHOLD:
                told, result = result, write(c, lba)
            assert result.status == p.GOOD, f"10 MiB are left: {result}"
        told = told or until_told(c)
        assert told.information == 16, "the first descriptor"
        assert until_told(other).information == 16
        assert write(c, 0).status == p.GOOD and c.run(TUR).status == p.GOOD and other.run(TUR).status == p.GOOD, "once"
        empty(c)
    set_thresholds(c)


@rule(13, "SBC-4 4.7.3.7.5")
def what_is_used_has_a_threshold_too(t):
    c = t.session()
    empty(c)
    set_thresholds(c, used=2)
    c.good(p.write10(0, 1), write=bytes(512))
    assert c.run(TUR).status == p.GOOD
    other = t.session()
    for lba in range(0, 4 * BLOCKS, BLOCKS):
        write(other, lba)
    assert until_told(c).information == 32, "the third descriptor"
    set_thresholds(c)
    empty(c)


@rule(12, "SBC-4 4.7.3.6.1")
def full_disk_says_so_and_recovers_by_unmap(t):
    c = t.session()
    empty(c)
    c.good(p.write10(0, 1), write=b"\x11" * 512)
    lba = BLOCKS
    while (result := write(c, lba)).status == p.GOOD:
        lba += BLOCKS
        assert lba < 64 * BLOCKS, "never full"
    assert result.asc == SPACE_ALLOCATION_FAILED, result
    until(c, lambda available, used: available == 0 and used >= 22)
    assert c.good(p.mode_sense6(0x08), 255).data[2] & 0x80 == 0, "WP stays 0"
    assert c.good(p.read10(0, 1), 512).data == b"\x11" * 512
    c.good(p.write10(0, 1), write=b"\x22" * 512)        # blocks that are there can be written to
    unmap(c, BLOCKS, 4 * BLOCKS)
    assert write(c, lba).status == p.GOOD
    assert c.good(p.read10(lba, 8), 4096).data == b"\x5a" * 4096
    empty(c)


@rule(12, "SBC-4 4.7.3.6.1")
def full_disk_recovers_when_others_give_space_back(t):
    c = t.session()
    empty(c)
    filler = os.path.join(FOLDER, "filler")
    with open(filler, "wb", buffering=0) as f:
        try:
            while f.write(b"\xff" * MIB):
                pass
        except OSError:
            pass
    try:
        c.refused(p.write10(0, 8), SPACE_ALLOCATION_FAILED, write=b"\x33" * 4096)
        until(c, lambda available, used: available == 0)
    finally:
        os.unlink(filler)
    c.good(p.write10(0, 8), write=b"\x33" * 4096)
    until(c, lambda available, used: available > 20)


@rule(12, "SBC-3 4.7.4, 5.28, 5.41")
def anchored_blocks_can_be_written_when_the_disk_is_full(t):
    c = t.session()
    empty(c)
    assert c.good(p.inquiry(page=0xb2), 255).data[5] & 0x02, "ANC_SUP"
    c.good(p.write10(0, 1), write=b"\x44" * 512)
    c.good(bytes([0x42, 1, 0, 0, 0, 0, 0, 0, 24, 0]),          # UNMAP: one threshold set, with ANCHOR
           write=bytes([0, 22, 0, 16, 0, 0, 0, 0]) + bytes(8) + BLOCKS.to_bytes(4, "big") + bytes(4))
    c.good(bytes([0x93, 0x19]) + BLOCKS.to_bytes(8, "big") + BLOCKS.to_bytes(4, "big") + b"\0\0")  # WRITE SAME: ANCHOR, UNMAP, NDOB
    assert c.good(p.read10(0, 8), 4096).data == bytes(4096)
    lba = 2 * BLOCKS
    while write(c, lba).status == p.GOOD:
        lba += BLOCKS
        assert lba < 64 * BLOCKS, "never full"
    for anchored in (0, BLOCKS):
        assert write(c, anchored).status == p.GOOD
    assert c.good(p.read10(BLOCKS, 8), 4096).data == b"\x5a" * 4096
    empty(c)


def disk(_folder):
    path = os.path.join(FOLDER, "disk")
    with open(path, "wb") as f:
        f.truncate(64 * MIB)
    return path


if __name__ == "__main__":
    if "--list" not in sys.argv and os.environ.get("PERILUNE_MOUNTED") != "1":
        h.need("unshare", "mount")
        private = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
        mount = ["mount", "-t", "tmpfs", "-o", "size=24M", "tmpfs", FOLDER]
        if h.run([*private, *mount], check=False).code != 0:
            h.skip("no file system can be mounted in a namespace of our own")
        os.environ["PERILUNE_MOUNTED"] = "1"
        os.execvp(private[0], [*private, "sh", "-c", f'{" ".join(mount)} && exec "$@"', "sh", sys.executable, *sys.argv])
    main("thin provisioning", disk, "ram:64M")
