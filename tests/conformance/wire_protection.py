#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Protection information on the wire (SBC-3 4.22): 520 bytes for each block of 512, in Data-Out and Data-In, and one bit of it that
is wrong, on the wire, in memory (LUN 0) and in a file (LUN 1). The CRC is computed here bit by bit."""
import struct

import raw_pdu as p
from rules import main, rule

INVALID_FIELD, INVALID_OPCODE = (5, 0x24, 0), (5, 0x20, 0)
GUARD, APPLICATION_TAG, REFERENCE_TAG = (0x0b, 0x10, 1), (0x0b, 0x10, 2), (0x0b, 0x10, 3)
LUNS = (0, 1)
STORED = 520
paths = {}


def crc16(data):
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x8bb7 if crc & 0x8000 else crc << 1) & 0xffff
    return crc


def block(seed, tag, reference):
    """A block of 512 bytes and its protection information."""
    data = bytes((seed * 7 + i * 13) & 0xff for i in range(512))
    return data + struct.pack(">HHI", crc16(data), tag, reference & 0xffffffff)


def blocks(count, tag, reference, counts_up=True):
    return b"".join(block(i, tag, reference + i * counts_up) for i in range(count))


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 0x04]) + data[at + 1:]


def run32(c, action, lba, count, options, edtl=0, write=None, lun=0, reference=0, tag=0, mask=0):
    """A CDB of 32 bytes: 16 of them in the header, 16 in an additional header segment (RFC 7143 11.2.2.3)."""
    cdb = struct.pack(">BxxxxxxBHBxQIHHI", 0x7f, 0x18, action, options, lba, reference, tag, mask, count)
    ahs = struct.pack(">HBx", 17, 1) + cdb[16:]
    if write is None:
        return c.finish(c.command(cdb[:16], edtl, p.FINAL | (p.READ if edtl else 0), lun=lun, ahs=ahs), edtl)
    itt = c.command(cdb[:16], len(write), p.FINAL | p.WRITE, write[:8192], lun=lun, ahs=ahs)
    return c.finish(itt, len(write), write, lun)


class Disk:
    """One unit, formatted as a type: READ, WRITE and VERIFY in the form that carries protection information there."""

    def __init__(self, c, lun, kind):
        self.c, self.lun, self.kind = c, lun, kind
        options, usage = {0: (0x10, 0), 1: (0x90, 0), 2: (0xd0, 0), 3: (0xd0, 1)}[kind]
        c.good(bytes([0x04, options, 0, 0, 0, 0]), write=bytes([usage, 0, 0, 0]), lun=lun)
        capacity = c.good(bytes.fromhex("9e100000000000000000000000200000"), 32, lun=lun).data
        assert capacity[12] == (0, 1, 3, 5)[kind], f"P_TYPE, PROT_EN: {capacity[12]:02x}"
        self.application_tags()

    def application_tags(self, tag=None, lba=0, count=0):
        """ATO: they are the initiator's; and what they are in a range (ATMPE, Application Tag mode page)."""
        control = bytes([0x0a, 10, 0, 0x10, 0, 0x80 if tag is None else 0xa0, 0, 0, 0xff, 0xff, 0, 0])
        page = bytes([0x4a, 2, 0, 108]) + bytes(12) + struct.pack(">B5xHQQ", 0x80, tag or 0, lba, count) + bytes(72)
        self.c.good(p.mode_select6(4 + len(control + page)), write=bytes(4) + control + page, lun=self.lun)
        self.c.clear_attentions(LUNS)

    def _run(self, action, opcode, lba, count, options, **fields):
        if self.kind == 2:
            return run32(self.c, action, lba, count, options, lun=self.lun, **fields)
        for name in ("reference", "tag", "mask"):
            fields.pop(name, None)
        return self.c.run(struct.pack(">BBIBHB", opcode, options, lba, 0, count, 0), lun=self.lun, **fields)

    def write(self, lba, data, protect=1, **fields):
        return self._run(0x0b, 0x2a, lba, len(data) // STORED, protect << 5, write=data, **fields)

    def read(self, lba, count, protect=1, **fields):
        return self._run(0x09, 0x28, lba, count, protect << 5, edtl=count * STORED, **fields)

    def verify(self, lba, count, protect=1, **fields):
        return self._run(0x0a, 0x2f, lba, count, protect << 5, **fields)

    def break_bit(self, lba, at, right):
        """On the medium: in the file itself; in memory by a write that checks nothing."""
        if self.lun == 1:
            with open(paths["file"], "r+b", buffering=0) as file:
                file.seek(lba * STORED + at)
                byte = file.read(1)[0]
                file.seek(lba * STORED + at)
                file.write(bytes([byte ^ 0x04]))
        else:
            assert self.write(lba, flipped(right, at), protect=3).status == p.GOOD

    def expected(self, at):
        """What is said of a wrong bit there. The reference tag of type 3 belongs to the initiators."""
        if at < 514:
            return GUARD
        if at < 516:
            return APPLICATION_TAG
        return None if self.kind == 3 else REFERENCE_TAG


def failed(result, asc, lba):
    if asc is None:
        assert result.status == p.GOOD, result
        return
    assert result.status == p.CHECK_CONDITION and result.asc == asc, f"{result}, not {asc}"
    assert result.information == lba, f"INFORMATION {result.information}, not {lba}"


PLACES = (0, 300, 511, 512, 513, 514, 515, 516, 519)    # of data, guard, application tag, reference tag


@rule(12, "SBC-3 4.22, 5.8, 5.29")
def one_bit_on_the_wire_is_found(t):
    c = t.session(luns=LUNS)
    for kind in (1, 2, 3):
        for lun in LUNS:
            disk = Disk(c, lun, kind)
            reference = 100 if kind == 1 else 0xfffffffe            # it wraps
            told = {"reference": reference, "tag": 0x5a5a, "mask": 0xffff}
            right = blocks(4, 0x5a5a, reference)
            assert disk.write(100, right, **told).status == p.GOOD
            got = disk.read(100, 4, **told)
            assert got.status == p.GOOD and got.data == right and not (got.overflow or got.underflow), got
            if kind != 2:
                disk.application_tags(0x5a5a, 90, 20)
            for at in PLACES:
                failed(disk.write(100, flipped(right, 2 * STORED + at), **told), disk.expected(at), 102)
                if disk.expected(at):
                    assert disk.read(100, 4, **told).data == right, "nothing of it was written"


@rule(12, "SBC-3 4.22, 5.8, 5.31")
def one_bit_on_the_medium_is_found(t):
    c = t.session(luns=LUNS)
    for kind in (1, 2, 3):
        for lun in LUNS:
            disk = Disk(c, lun, kind)
            reference = 200 if kind == 1 else 77
            told = {"reference": reference, "tag": 0x1234, "mask": 0xffff}
            right = blocks(3, 0x1234, reference)
            if kind != 2:
                disk.application_tags(0x1234, 200, 3)
            for at in PLACES:
                assert disk.write(200, right, **told).status == p.GOOD
                disk.break_bit(201, at, right[STORED:2 * STORED])
                failed(disk.read(200, 3, **told), disk.expected(at), 201)
                failed(disk.verify(200, 3, **told), disk.expected(at), 201)
                assert disk.read(200, 3, protect=3).data == flipped(right, STORED + at), "unchecked, as it is"
                # Who asks for no protection information does not get wrong data either.
                known = (disk.expected(at) == GUARD or (kind == 1 and disk.expected(at) == REFERENCE_TAG)
                         or (kind != 2 and disk.expected(at) == APPLICATION_TAG))
                failed(c.run(p.read10(200, 3), 1536, lun=lun), disk.expected(at) if known else None, 201)


@rule(12, "SBC-3 4.22.4")
def what_nobody_has_written_is_not_checked(t):
    c = t.session(luns=LUNS)
    for kind in (1, 2, 3):
        for lun in LUNS:
            disk = Disk(c, lun, kind)
            assert disk.read(5, 2, reference=5).data == (bytes(512) + b"\xff" * 8) * 2
            c.good(p.write10(5, 1), write=b"\x11" * 512, lun=lun)
            unmap = bytes([0, 22, 0, 16, 0, 0, 0, 0]) + struct.pack(">QI4x", 5, 1)
            c.good(bytes([0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0]), write=unmap, lun=lun)
            assert disk.read(5, 1, reference=5).data == bytes(512) + b"\xff" * 8


@rule(12, "SBC-3 5.29")
def it_is_made_for_whom_sends_none(t):
    c = t.session(luns=LUNS)
    for kind in (1, 2, 3):
        for lun in LUNS:
            disk = Disk(c, lun, kind)
            data = block(3, 0, 0)[:512]
            reference = 9 if kind == 1 else 0xffffffff
            c.good(p.write10(9, 1), write=data, lun=lun)
            assert disk.read(9, 1, reference=9).data == data + struct.pack(">HHI", crc16(data), 0xffff, reference)
            assert c.good(p.read10(9, 1), 512, lun=lun).data == data


@rule(11, "SBC-3 4.22; RFC 7143 11.4.5")
def residuals_count_it(t):
    c = t.session(luns=LUNS)
    disk = Disk(c, 0, 1)
    right = blocks(4, 0, 50)
    assert disk.write(50, right).status == p.GOOD
    cdb = bytes([0x28, 0x20, 0, 0, 0, 50, 0, 0, 4, 0])
    short, long = c.run(cdb, 1000), c.run(cdb, 3000)
    assert short.status == p.GOOD and short.overflow and short.residual == 4 * STORED - 1000 and short.data == right[:1000]
    assert long.status == p.GOOD and long.underflow and long.residual == 3000 - 4 * STORED and long.data == right
    write = c.run(bytes([0x2a, 0x20, 0, 0, 0, 50, 0, 0, 4, 0]), write=right + b"x" * 100)
    assert write.status == p.GOOD and write.underflow and write.residual == 100


@rule(5, "SBC-3 4.22; RFC 7143 11.8")
def long_transfers_are_asked_for_and_sent_whole(t):
    c = t.session(luns=LUNS)
    for lun in LUNS:
        disk = Disk(c, lun, 1)
        right = blocks(600, 0x0101, 1000)                   # 312,000 bytes, in more than one buffer and burst
        assert disk.write(1000, right).status == p.GOOD
        assert disk.read(1000, 600).data == right
        failed(disk.write(1000, flipped(right, 599 * STORED + 3)), GUARD, 1599)


@rule("field", "SBC-3 4.22.2")
def commands_for_another_type_are_refused(t):
    c = t.session(luns=LUNS)
    for kind in (0, 1, 2, 3):
        Disk(c, 0, kind)
        for opcode in (0x28, 0x2a, 0x2e, 0x2f, 0x41):
            for protect in range(1, 8):
                cdb = bytes([opcode, protect << 5, 0, 0, 0, 0, 0, 0, 1, 0])
                wrong = INVALID_OPCODE if kind == 2 else INVALID_FIELD if kind == 0 or protect > 5 else None
                if wrong and opcode in (0x28, 0x2f):
                    c.refused(cdb, wrong, STORED if opcode == 0x28 else 0)
                elif wrong:
                    c.refused(cdb, wrong, write=bytes(STORED))
        for action in (0x09, 0x0a, 0x0b, 0x0c, 0x0d):
            if kind != 2:
                assert run32(c, action, 0, 1, 0).asc == INVALID_OPCODE
    t.still_serves()


if __name__ == "__main__":
    def file(folder):
        paths["file"] = folder / "disk"
        with open(paths["file"], "wb") as made:
            made.truncate(4096 * STORED)
        return paths["file"]

    main("protection information", "ram:2M", file, options=lambda folder: ("--protection", "1", "--state", str(folder / "state")))
