#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SANITIZE and FORMAT UNIT on the wire (SBC-4 5.33, SBC-3 5.3): what they leave on the medium, and that a long one holds up
nobody but its own unit. LUN 0 is of 16 MiB, LUN 1 of 4 TiB that keep nothing: to write those takes longer than any test. Encrypted disks
are targets of their own."""
import contextlib
import time

import harness as h
import raw_pdu as p
from rules import Target, main, rule

TUR = p.TEST_UNIT_READY
SANITIZING = (2, 0x04, 0x1b)
INVALID_FIELD = (5, 0x24, 0)
LUN_RESET = 5


def sanitize(action, length=0, immed=False):
    return bytes([0x48, (0x80 if immed else 0) | action, 0, 0, 0, 0, 0]) + length.to_bytes(2, "big") + b"\0"


def progress(c, lun):
    """Of 65536, as REQUEST SENSE tells it; None: nothing is going on."""
    data = c.good(p.request_sense(), 252, lun=lun).data
    assert data[0] == 0x70 and len(data) == 18
    if data[2] == 0:
        return None
    assert (data[2], data[12]) == (2, 0x04) and data[15] == 0x80, data.hex()
    return int.from_bytes(data[16:18], "big")


def until_ready(c, lun):
    deadline = time.monotonic() + 20
    while c.run(TUR, lun=lun).status != p.GOOD:
        assert time.monotonic() < deadline, "still not ready"


@rule(15, "SBC-4 5.33.2")
def sanitize_overwrites_every_block(t):
    c = t.session()
    c.good(p.write10(7, 1), write=b"\x11" * 512)
    c.good(sanitize(1, 7), write=b"\x01\0\0\x03abc")
    for lba in (0, 7, 32767):
        assert c.good(p.read10(lba, 1), 512).data == (b"abc" * 171)[:512], f"block {lba}"


@rule(15, "SBC-4 5.33.3")
def sanitize_block_erase_leaves_zeroes(t):
    c = t.session()
    c.good(p.write10(32000, 8), write=b"\x22" * 4096)
    c.good(sanitize(2, immed=True))
    until_ready(c, 0)
    assert c.good(p.read10(32000, 8), 4096).data == bytes(4096)


@rule(15, "SBC-4 5.33.4")
def sanitize_does_not_claim_to_be_cryptographic(t):
    t.session().refused(sanitize(3), INVALID_FIELD)


@rule(15, "SBC-4 5.33.4, 4.11.4")
def sanitize_cryptographic_erase_makes_copies_unreadable_too(t):
    for protection in ((), ("--protection", "1")):
        with contextlib.ExitStack() as stack:
            folder = h.temp_dir(stack)
            disk, state = folder / "disk", folder / "state"
            with open(disk, "wb") as file:
                file.truncate(4096 * 520)
            options = ("--encrypt", "--state", state, "--logout-timeout", "0", *protection)
            with h.serve(disk, options=options) as server:
                c = Target(server, stack).session()
                assert c.good(p.inquiry(255, 0xb1), 255).data[7] == 0x50, "WABEREQ, WACEREQ"
                c.good(p.write10(100, 8), write=b"in confidence..." * 256)
                assert c.good(p.read10(100, 8), 4096).data == b"in confidence..." * 256
                c.good(b"\x35" + bytes(9))                                        # SYNCHRONIZE CACHE
                backup = disk.read_bytes()
                key_file, = state.glob("disk-key-*")
                assert b"confidence" not in backup and backup.count(0) < len(backup)
                assert key_file.stat().st_mode & 0o7777 == 0o600
                key = key_file.read_bytes().strip(b"\0")[32:96]
                c.refused(sanitize(3, 4), INVALID_FIELD, write=bytes(4))
                c.good(sanitize(3))
                for lba in (0, 100, 107, 4095):
                    assert c.good(p.read10(lba, 1), 512).data == bytes(512), f"block {lba}"
                assert key[:16] not in key_file.read_bytes(), "the old key is there still"
            disk.write_bytes(backup)
            with h.serve(disk, options=options) as server:
                c = Target(server, stack).session()
                done = c.run(p.read10(100, 8), 4096)
                if protection:
                    assert done.asc == (0x0b, 0x10, 0x01), f"what comes out of another key has no guard that fits: {done}"
                else:
                    assert done.status == p.GOOD and b"confidence" not in done.data
                c.good(p.write10(100, 8), write=b"another content." * 256)
                assert c.good(p.read10(100, 8), 4096).data == b"another content." * 256


@rule("cdb", "serve --encrypt")
def encrypted_disks_are_served_as_such_or_not_at_all(t):
    with contextlib.ExitStack() as stack:
        folder = h.temp_dir(stack)
        disk, full, state = folder / "disk", folder / "full", folder / "state"
        full.write_bytes(b"data" * 4096)
        with open(disk, "wb") as file:
            file.truncate(1 << 20)
        with h.serve(disk, options=("--encrypt", "--state", state)):
            pass

        def refused(backing, *options):
            done = h.run([h.PERILUNE, "serve", "--portal", "127.0.0.1:0", *options, backing], check=False)
            assert done.code in (1, 2) and done.err.count("\n") == 1, done
            return done.err
        assert "is encrypted, for there is a key of it" in refused(disk, "--state", state)
        assert "holds data, and there is no key of it" in refused(full, "--state", state, "--encrypt")
        assert "--state" in refused(disk, "--encrypt")
        assert "--removable" in refused(disk, "--state", state, "--encrypt", "--removable")
        assert "is not encrypted" in refused("ram:1M", "--state", state, "--encrypt")


@rule(15, "SBC-3 5.3.2")
def format_unit_writes_its_pattern(t):
    c = t.session()
    c.good(bytes([0x04, 0x10, 0, 0, 0, 0]), write=b"\0\x8a\0\0" + b"\0\x01\0\x02xy")   # FOV, IP, IMMED
    until_ready(c, 0)
    assert c.good(p.read10(12345, 1), 512).data == b"xy" * 256
    c.good(bytes([0x04, 0, 0, 0, 0, 0]))
    assert c.good(p.read10(12345, 1), 512).data == bytes(512)


@rule(6, "SBC-4 4.11.2; SPC-4 6.39")
def sanitize_shows_its_progress_and_stops_nothing_else(t):
    c, other = t.session(luns=(0, 1)), t.session(luns=(0, 1))
    c.good(sanitize(1, 5, immed=True), write=b"\x1f\0\0\x01z", lun=1)
    assert c.run(TUR, lun=1).asc == SANITIZING
    assert other.run(p.read10(0, 1), 512, lun=1).asc == SANITIZING
    assert other.run(sanitize(2), lun=1).asc == SANITIZING
    other.good(p.inquiry(), 255, lun=1)
    other.good(p.report_luns(), 4096, lun=1)
    first = progress(c, 1)
    assert first is not None
    for _ in range(200):                        # the other unit is served, a turn at a time
        other.good(p.write10(0, 8), write=b"\x33" * 4096)
        other.good(p.read10(0, 8), 4096)
    assert c.managed(c.manage(LUN_RESET, lun=1)) == 0, "function complete"
    other.clear_attentions()
    assert c.run(TUR, lun=1).asc in (SANITIZING, (6, 0x29, 0x03))
    later = progress(c, 1)
    assert later is not None and later >= first, "a reset does not end it"


if __name__ == "__main__":
    main("whole media", "ram:16M", "null:4T")   # its end waits for nothing either
