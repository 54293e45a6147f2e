#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Status, sense, residuals, addresses, LUNs and durability bits on the wire (RFC 7143 11.4; SAM-5, SPC-4, SBC-3), and CDBs
that nobody should send. LUNs 0 and 1 are of 16 MiB, LUN 2 of 4 TiB that keep nothing, LUN 3 a file."""
import random
import struct
import threading

import raw_pdu as p
from rules import main, rule

TUR = p.TEST_UNIT_READY
BLOCKS = 16 * 2048          # of LUN 0
INVALID_OPCODE, OUT_OF_RANGE, INVALID_FIELD, NO_UNIT, PARAMETER_LENGTH, INVALID_PARAMETER = (
    (5, 0x20, 0), (5, 0x21, 0), (5, 0x24, 0), (5, 0x25, 0), (5, 0x1a, 0), (5, 0x26, 0))
MISCOMPARE = (0xe, 0x1d, 0)


# ---- residuals

@rule(11, "RFC 7143 11.4.5")
def residuals_of_reads(t):
    c = t.session("MaxRecvDataSegmentLength=8192")
    c.good(p.write10(0, 2), write=b"\x11" * 512 + b"\x22" * 512)
    for edtl, overflow, underflow, residual in ((1024, False, False, 0), (1536, False, True, 512), (512, True, False, 512),
                                                (100, True, False, 924), (0, True, False, 1024), (4096, False, True, 3072)):
        done = c.finish(c.command(p.read10(0, 2), edtl, p.FINAL | p.READ), edtl)
        assert done.status == p.GOOD
        assert (done.overflow, done.underflow, done.residual) == (overflow, underflow, residual), f"EDTL {edtl}: {done}"
        assert done.data == (b"\x11" * 512 + b"\x22" * 512)[:edtl]


@rule(11, "RFC 7143 11.4.5; SAM-5 5.4.2")
def residuals_of_writes(t):
    c = t.session("InitialR2T=Yes", "ImmediateData=No")
    for edtl, overflow, underflow, residual in ((1024, False, False, 0), (1536, False, True, 512), (512, True, False, 512),
                                                (0, True, False, 1024)):
        done = c.finish(c.command(p.write10(0, 2), edtl, p.FINAL | p.WRITE), edtl, b"\x33" * 2048)
        assert done.status == p.GOOD
        assert (done.overflow, done.underflow, done.residual) == (overflow, underflow, residual), f"EDTL {edtl}: {done}"
        assert sum(r2t.u32(44) for r2t in done.r2ts) == min(edtl, 1024), "data that the device does not want is not asked for"


@rule(11, "RFC 7143 11.4.5; SPC-4 4.3.5.6")
def short_parameter_data_is_underflow(t):
    c = t.session()
    whole = c.good(p.inquiry(255), 255)
    assert whole.underflow and whole.residual == 255 - len(whole.data) > 0
    assert len(whole.data) == whole.data[4] + 5
    for allocation, edtl in ((36, 36), (36, 255), (5, 5), (4, 255), (1, 4), (0, 255), (0, 0)):
        done = c.good(p.inquiry(allocation), edtl)
        assert done.data == whole.data[:min(allocation, edtl)]
        assert (done.overflow, done.residual) == (False, max(edtl - allocation, 0)), f"{allocation}, {edtl}: {done}"
    luns = c.good(p.report_luns(4096), 4096)
    assert luns.underflow and luns.residual == 4096 - len(luns.data)


@rule(11, "RFC 7143 11.4.5")
def residual_stands_beside_check_condition(t):
    c = t.session()
    for edtl in (512, 65536):
        done = c.refused(p.read10(0xfffffff0, 1), OUT_OF_RANGE, edtl)
        assert done.underflow and not done.overflow and done.residual == edtl and not done.data
    done = c.refused(p.write10(0xfffffff0, 1), OUT_OF_RANGE, write=bytes(512))
    assert done.underflow and done.residual == 512


@rule(11, "RFC 7143 11.4.1, 11.7")
def residual_bits_are_never_both_set(t):
    c = t.session()
    for edtl in (0, 1, 511, 512, 513, 0xffff):
        for cdb in (p.read10(0, 1), p.inquiry(96), TUR, p.read10(0xfffffff0, 1)):
            last = c.finish(c.command(cdb, edtl, p.FINAL | p.READ), edtl).last
            assert last.flags & 6 != 6 and last.flags & 0x18 == 0, f"{last}"
            assert last.u32(44) == 0 or last.flags & 6, "a count without its bit"
            assert last.opcode == p.DATA_IN or last.u32(40) == 0 and last.flags == p.FINAL | last.flags & 6


# ---- sense

@rule(12, "RFC 7143 11.4.7; SAM-5 5.13")
def sense_comes_with_the_status(t):
    c = t.session()
    last = c.refused(b"\xc3" + bytes(5), INVALID_OPCODE).last
    length = int.from_bytes(last.data[:2], "big")
    assert len(last.data) == 2 + length and length >= 18, "SenseLength, then the sense, and nothing else"
    assert last.data[2] == 0x70 and last.data[2 + 7] == length - 8, "fixed format, current"
    assert last.bhs[2] == 0 and last.bhs[3] == p.CHECK_CONDITION
    assert not c.run(TUR).last.data, "GOOD has no data segment"


def set_d_sense(c, on):
    page = bytearray(bytes(4) + bytes(c.good(p.mode_sense6(0x0a), 255).data[4:]))
    page[6] = page[6] & ~4 | (4 if on else 0)
    c.good(p.mode_select6(len(page)), write=bytes(page))


@rule(12, "SPC-4 4.5.2, 7.5.8")
def d_sense_chooses_the_format(t):
    c = t.session(luns=(0, 1))
    set_d_sense(c, True)
    try:
        done = c.refused(p.read16(2**40, 1), OUT_OF_RANGE, 512)
        assert done.sense[0] == 0x72 and len(done.sense) == 8 + done.sense[7]
        assert done.information == 2**40, "eight bytes hold any address"
        assert c.refused(p.read10(0xffffffff, 1), OUT_OF_RANGE, 512, lun=1).sense[0] & 0x7f == 0x70, "the other unit"
    finally:
        set_d_sense(c, False)
    assert c.refused(p.read10(0xffffffff, 1), OUT_OF_RANGE, 512).sense[0] & 0x7f == 0x70


@rule(12, "SPC-4 4.5.3; SBC-3 4.18")
def information_names_the_block(t):
    c = t.session()
    for cdb, first_bad in ((p.read10(BLOCKS, 1), BLOCKS), (p.read10(BLOCKS - 1, 2), BLOCKS), (p.read10(0xffffffff, 1), 0xffffffff)):
        assert c.refused(cdb, OUT_OF_RANGE, 1024).information == first_bad, cdb.hex()


@rule(12, "SPC-4 4.5.2.4.2")
def field_pointer_names_the_byte(t):
    c = t.session()
    for cdb, byte in ((p.read10(0, 1, flags=0x01), 1), (bytes([0, 0, 0, 0, 0, 4]), 5), (p.inquiry(255)[:2] + b"\x80" + bytes([0, 255, 0]), 2),
                      (bytes([0x12, 1, 0xee, 0, 255, 0]), 2)):
        sense = c.refused(cdb, INVALID_FIELD, 512).sense
        assert sense[15] & 0xc0 == 0xc0 and int.from_bytes(sense[16:18], "big") == byte, f"{cdb.hex()}: {sense.hex()}"


# ---- addresses

@rule(12, "SPC-4 6.16, 6.49")
def echo_buffer_gives_back_what_was_written(t):
    c, other = t.session(), t.session()
    echo = lambda length: bytes([0x3c, 0x0a, 0, 0, 0, 0]) + length.to_bytes(3, "big") + b"\0"
    write = lambda length: bytes([0x3b, 0x0a, 0, 0, 0, 0]) + length.to_bytes(3, "big") + b"\0"
    assert c.good(bytes([0x3c, 0x0b, 0, 0, 0, 0, 0, 0, 4, 0]), 4).data == b"\x01\0\x10\0"    # EBOS, 4096 bytes
    data = bytes(i * 7 & 0xff for i in range(4096))
    c.good(write(4096), write=data)
    assert c.good(echo(4096), 4096).data == data
    # Overwritten by somebody else; or, where the other session is on another thread, which has a buffer of its own: never written.
    done = other.run(echo(4096), 4096)
    assert done.status == p.CHECK_CONDITION and done.asc in ((0xb, 0x3f, 0x0f), (5, 0x2c, 0)), str(done)
    c.refused(bytes([0x3b, 0x05, 0, 0, 0, 0, 0, 2, 0, 0]), INVALID_FIELD, write=bytes(512))    # microcode
    c.refused(write(4097), INVALID_FIELD, write=bytes(4097))


@rule(13, "SPC-4 6.38, 6.46")
def timestamp_goes_on_from_what_was_set(t):
    c, other = t.session(), t.session()
    stamp = (0x019a7dc32e00).to_bytes(6, "big")
    c.good(bytes([0xa4, 0x0f, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0]), write=bytes(4) + stamp + bytes(2))
    other.refused(TUR, (6, 0x2a, 0x10))
    data = other.good(bytes([0xa3, 0x0f, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0]), 12).data
    assert data[:4] == b"\0\x0a\x02\0" and 0 <= int.from_bytes(data[4:10], "big") - 0x019a7dc32e00 < 60_000, data.hex()
    c.refused(bytes([0xa4, 0x0f, 0, 0, 0, 0, 0, 0, 0, 11, 0, 0]), PARAMETER_LENGTH, write=bytes(11))


@rule(16, "SBC-3 4.5, 5.8 to 5.11")
def ranges_are_added_without_wrapping(t):
    c = t.session()
    top = 2**64 - 1
    for lba, count in ((top, 1), (top, 2), (top - 1, 2), (2**63, 1), (top, 0xffffffff), (2**64 - 2048, 2048), (BLOCKS, 1), (BLOCKS - 1, 2),
                       (BLOCKS + 1, 0)):
        for cdb in (p.read16(lba, count), p.write16(lba, count), struct.pack(">BBQIBB", 0x8f, 0, lba, count, 0, 0),
                    struct.pack(">BBQIBB", 0x91, 0, lba, count, 0, 0)):
            if cdb[0] == 0x8a:
                c.refused(cdb, OUT_OF_RANGE, write=bytes(512), immediate_data=512)
            else:
                c.refused(cdb, OUT_OF_RANGE, 512 if cdb[0] == 0x88 else 0)
    c.good(p.read16(BLOCKS - 1, 1), 512)
    assert not c.good(p.read16(BLOCKS, 0)).data, "no blocks behind the last one are no error"


@rule(16, "SBC-3 5.7, 5.32")
def count_zero_means_what_each_command_says(t):
    c = t.session("MaxRecvDataSegmentLength=262144", luns=(0, 2))
    assert len(c.good(bytes([0x08, 0, 0, 0, 0, 0]), 256 * 512).data) == 256 * 512, "READ(6): 256 blocks"
    assert c.good(bytes([0x0a, 0, 0, 0, 0, 0]), write=bytes(256 * 512)).residual == 0, "WRITE(6): 256 blocks"
    assert not c.good(p.read10(0, 0)).data, "READ(10): none"
    limits = c.good(p.inquiry(255, 0xb0), 255).data
    assert not limits[4] & 1 and struct.unpack_from(">Q", limits, 36)[0] == BLOCKS, "no WSNZ, and LUN 0 is as long as it may be"

    def same(lba):
        return struct.pack(">BBIBHB", 0x41, 0, lba, 0, 0, 0)
    c.good(same(0), write=b"\xaa" * 512)                                       # WRITE SAME(10): all up to the last block
    assert c.good(p.read16(0, 1), 512).data == c.good(p.read16(BLOCKS - 1, 1), 512).data == b"\xaa" * 512
    c.good(same(BLOCKS - 1), write=bytes(512))
    assert c.good(p.read16(BLOCKS - 2, 2), 1024).data == b"\xaa" * 512 + bytes(512)
    c.refused(same(BLOCKS), OUT_OF_RANGE, write=bytes(512))
    c.refused(same(0), INVALID_FIELD, write=bytes(512), lun=2)                 # more than MAXIMUM WRITE SAME LENGTH (SBC-3 5.41)


@rule(16, "SBC-3 6.6.3")
def transfer_longer_than_advertised_is_refused(t):
    c = t.session()
    most = struct.unpack_from(">I", c.good(p.inquiry(255, 0xb0), 255).data, 8)[0]
    assert 0 < most < BLOCKS
    done = c.finish(c.command(p.read16(0, most), most * 512, p.FINAL | p.READ), most * 512)
    assert done.status == p.GOOD and len(done.data) == most * 512
    c.refused(p.read16(0, most + 1), INVALID_FIELD, 512)
    c.refused(p.write16(0, most + 1), INVALID_FIELD, write=bytes(512))


@rule(16, "SBC-3 5.16, 5.17")
def read_capacity_10_saturates(t):
    c = t.session(luns=(0, 2))
    assert struct.unpack(">II", c.good(b"\x25" + bytes(9), 8).data) == (BLOCKS - 1, 512)
    assert struct.unpack(">II", c.good(b"\x25" + bytes(9), 8, lun=2).data) == (0xffffffff, 512)
    cdb = struct.pack(">BB8xI2x", 0x9e, 0x10, 32)
    assert struct.unpack_from(">QI", c.good(cdb, 32, lun=2).data) == (2**33 - 1, 512)


@rule("cdb", "SBC-3 5.28, LIO class: range arithmetic")
def unmap_lists_that_lie_are_refused(t):
    c = t.session(luns=(0, 3))

    def unmap(*descriptors, header=None, length=None):
        body = b"".join(struct.pack(">QI4x", lba, count) for lba, count in descriptors)
        data = (header or struct.pack(">HH4x", len(body) + 6, len(body))) + body
        return c.run(struct.pack(">BB5xHB", 0x42, 0, len(data) if length is None else length, 0), write=data, lun=3)

    c.good(p.write10(100, 1), write=b"\x99" * 512, lun=3)
    assert unmap((8, 8)).status == p.GOOD
    for lba, count in ((2**64 - 1, 1), (2**64 - 1, 0xffffffff), (2**64 - 8, 16), (BLOCKS, 1), (BLOCKS - 1, 2), (0, 0xffffffff)):
        done = unmap((lba, count))
        assert done.asc in (OUT_OF_RANGE, INVALID_PARAMETER), f"{lba:#x} + {count:#x}: {done}"
        done = unmap((96, 8), (lba, count))
        assert done.asc in (OUT_OF_RANGE, INVALID_PARAMETER), "behind one that is right"
    assert c.good(p.read10(100, 1), 512, lun=3).data == b"\x99" * 512, "a refused list unmapped something"
    for header in (struct.pack(">HH4x", 22, 15), struct.pack(">HH4x", 6, 0)):   # no whole descriptor
        assert unmap((96, 8), header=header).status == p.GOOD
    assert unmap((96, 8), length=7).asc == PARAMETER_LENGTH
    assert c.good(p.read10(100, 1), 512, lun=3).data == b"\x99" * 512, "a descriptor that is not whole was used"
    for header in (struct.pack(">HH4x", 0xffff, 0xfff0), struct.pack(">HH4x", 22, 32)):   # more is announced than there is
        done = unmap((96, 8), header=header)
        assert done.status == p.GOOD or done.asc in (INVALID_PARAMETER, PARAMETER_LENGTH), f"{done}"


# ---- COMPARE AND WRITE

@rule(17, "SBC-3 5.2")
def compare_and_write_writes_only_what_matches(t):
    c = t.session("FirstBurstLength=65536")
    c.good(p.write10(40, 4), write=b"\x01" * 2048)
    c.good(p.compare_and_write(40, 2), write=b"\x01" * 1024 + b"\x02" * 1024)
    assert c.good(p.read10(40, 4), 2048).data == b"\x02" * 1024 + b"\x01" * 1024
    for offset in (0, 511, 512, 1023):
        compare = bytearray(b"\x02" * 1024)
        compare[offset] ^= 0xff
        done = c.refused(p.compare_and_write(40, 2), MISCOMPARE, write=bytes(compare) + b"\x03" * 1024)
        assert done.information == offset, f"the miscompare is at {offset}, not {done.information}"
    assert c.good(p.read10(40, 2), 1024).data == b"\x02" * 1024, "a miscompare wrote"


@rule(17, "SBC-3 5.2, 6.6.3; SCST class: excessive length")
def compare_and_write_knows_its_lengths(t):
    c = t.session("FirstBurstLength=262144")
    most = c.good(p.inquiry(255, 0xb0), 255).data[5]
    assert most >= 1
    c.good(p.write10(0, most), write=b"\x01" * most * 512)
    c.good(p.compare_and_write(0, most), write=b"\x01" * most * 512 + b"\x02" * most * 512)
    c.good(p.compare_and_write(0, 0))
    if most < 255:
        c.refused(p.compare_and_write(0, most + 1), INVALID_FIELD, write=bytes(1024))
    for size in (512, 1023, 1025, 2048):
        done = c.run(p.compare_and_write(0, 1), write=b"\x02" * size)
        assert done.status == p.CHECK_CONDITION or size > 1024 and done.underflow, f"{size} bytes for two blocks: {done}"
    c.refused(p.compare_and_write(2**64 - 1, 1), OUT_OF_RANGE, write=bytes(1024))


@rule(17, "SBC-3 5.2")
def compare_and_write_is_atomic_across_sessions(t):
    sessions = [t.session() for _ in range(3)]
    sessions[0].good(p.write10(50, 1), write=bytes(512))
    rounds, errors = 100, []

    def count(c):
        try:
            done = 0
            while done < rounds:
                old = bytes(c.good(p.read10(50, 1), 512).data)
                new = struct.pack(">I", struct.unpack(">I", old[:4])[0] + 1) + bytes(508)
                result = c.run(p.compare_and_write(50, 1), write=old + new)
                assert result.status == p.GOOD or result.asc == MISCOMPARE, f"{result}"
                done += result.status == p.GOOD
        except (AssertionError, OSError) as e:
            errors.append(e)

    threads = [threading.Thread(target=count, args=(c,)) for c in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    total = struct.unpack(">I", sessions[0].good(p.read10(50, 1), 512).data[:4])[0]
    assert total == rounds * len(sessions), f"{total} of {rounds * len(sessions)} increments"


# ---- durability: what is said on the wire

def caching_page(c, lun, control=0):
    data = c.good(p.mode_sense6(0x08, control=control), 255, lun=lun).data
    assert data[4] & 0x3f == 0x08
    return data


@rule(15, "SBC-3 6.4.5, 5.36")
def write_cache_bit_is_what_mode_select_made_it(t):
    c, other = t.session(luns=(3,)), t.session(luns=(3,))
    assert caching_page(c, 3)[6] & 4, "a file that is not written through has a volatile cache"
    assert caching_page(c, 3, control=1)[6] & 4, "and it can be turned off"
    assert c.good(p.inquiry(255, 0x86), 255, lun=3).data[6] & 1, "V_SUP"
    page = bytearray(bytes(4) + bytes(caching_page(c, 3)[4:]))
    page[6] &= ~4
    c.good(p.mode_select6(len(page)), write=bytes(page), lun=3)
    assert not caching_page(other_ready(other), 3)[6] & 4, "seen by everybody"
    c.good(p.write10(0, 1), write=b"\x01" * 512, lun=3)
    page[6] |= 4
    c.good(p.mode_select6(len(page)), write=bytes(page), lun=3)
    assert caching_page(c, 3)[6] & 4


def other_ready(c):
    assert c.run(TUR, lun=3).asc == (6, 0x2a, 1)
    return c


@rule(15, "SBC-3 5.22, 5.32, 5.36, 6.4.1")
def fua_dpo_and_synchronize_cache_are_taken(t):
    c = t.session(luns=(3,))
    assert c.good(p.mode_sense6(0x3f), 255, lun=3).data[2] & 0x10, "DPOFUA"
    for flags in (0x08, 0x10, 0x18):
        c.good(p.write10(0, 1, flags), write=b"\x07" * 512, lun=3)
        assert c.good(p.read10(0, 1, flags), 512, lun=3).data == b"\x07" * 512
    for cdb in (struct.pack(">BBIBHB", 0x35, 0, 0, 0, 0, 0), struct.pack(">BBIBHB", 0x35, 2, 0, 0, 8, 0),
                struct.pack(">BBQIBB", 0x91, 0, 0, 0, 0, 0)):
        c.good(cdb, lun=3)


@rule(15, "SPC-4 6.9")
def parameters_that_cannot_be_saved_are_not(t):
    c = t.session()
    page = bytes(4) + bytes(c.good(p.mode_sense6(0x0a), 255).data[4:])
    done = c.run(p.mode_sense6(0x0a, control=3), 255)
    if done.status == p.CHECK_CONDITION:
        assert done.asc == (5, 0x39, 0), "saving parameters not supported"
        c.refused(p.mode_select6(len(page), sp=True), INVALID_FIELD, write=page)


# ---- LUNs

@rule(20, "SPC-4 6.33; SAM-5 4.7")
def report_luns_lists_what_there_is(t):
    c = t.session()
    data = c.good(p.report_luns(4096), 4096).data
    assert struct.unpack_from(">I4x", data)[0] == 32 and len(data) == 40
    assert [data[8 + i * 8:16 + i * 8].hex() for i in range(4)] == [f"{i:04x}" + "0" * 12 for i in range(4)]
    for allocation in (0, 4, 8, 15, 16, 24, 39):
        done = c.run(p.report_luns(allocation), 4096)
        if done.status == p.CHECK_CONDITION:
            assert allocation < 16 and done.asc == INVALID_FIELD, "SPC-4: at least 16"
        else:
            assert done.data == data[:allocation], "the length field does not shrink with the allocation"
    for select, entries in ((0, 4), (1, None), (2, None)):
        listed = c.good(p.report_luns(4096, select), 4096).data
        count = struct.unpack_from(">I", listed)[0] // 8
        assert count * 8 + 8 == len(listed) and (entries is None or count == entries)
        well_known = [listed[8 + i * 8] for i in range(count) if listed[8 + i * 8] & 0xc0 == 0xc0]
        assert bool(well_known) == (select != 0), f"SELECT REPORT {select}: {listed.hex()}"
        assert select != 1 or len(well_known) == count
        assert select != 2 or count == 4 + len(well_known)
    c.refused(p.report_luns(4096, 0x7f), INVALID_FIELD, 4096)


@rule(20, "SAM-5 4.7.7.5")
def every_way_to_write_a_lun_means_the_same_unit(t):
    c = t.session()
    for lun in (0, b"\x40" + bytes(7), b"\xd2" + bytes(7)):     # peripheral, flat, extended flat
        assert c.good(p.inquiry(), 255, lun=lun).data[0] == 0 and c.run(TUR, lun=lun).status == p.GOOD


@rule(20, "SPC-4 6.6.2, 7.8.5, 8.2")
def report_luns_well_known_unit_is_complete(t):
    c, lun = t.session(), b"\xc1\x01" + bytes(6)
    assert c.good(p.inquiry(), 255, lun=lun).data[0] == 0x1e
    assert c.good(p.inquiry(page=0), 255, lun=lun).data == b"\x1e\0\0\2\0\x83"
    named = bytes(c.good(p.inquiry(page=0x83), 255, lun=lun).data)
    assert named[:2] == b"\x1e\x83" and t.iqn.encode() in named and (named[5] & 0x30) != 0, "of the port and the device alone"
    assert c.good(TUR, lun=lun) and c.good(p.report_luns(), 4096, lun=lun).data == c.good(p.report_luns(), 4096).data
    data = c.good(p.request_sense(), 252, lun=lun).data
    assert (data[2] & 0xf, data[12], data[13]) == (0, 0, 0)
    c.refused(p.read10(0, 1), (5, 0x20, 0), 512, lun=lun)
    assert c.managed(c.manage(5, lun=lun)) == 0, "nothing is ever in its task set"


@rule(20, "SAM-5 4.7.4, 5.11; SPC-4 6.6.2")
def unit_that_is_not_there(t):
    c = t.session()
    for lun in (9, 255, 256, 16383, b"\0\0\1" + bytes(5), b"\x80" + bytes(7), b"\x3f\xff" + bytes(6), b"\xff" * 8,
                b"\xc1\x02" + bytes(6), b"\xd2\0\0\x09" + bytes(4),
                b"\xd2\1" + bytes(6), b"\xe2" + bytes(7), b"\0\1\0\0\0\0\0\1"):
        data = c.good(p.inquiry(), 255, lun=lun).data
        assert data[0] == 0x7f, f"INQUIRY to {lun}: {data[0]:02x}"
        for cdb in (TUR, p.read10(0, 1), p.write10(0, 1), b"\x25" + bytes(9), p.mode_sense6(0x3f)):
            assert c.run(cdb, 512, lun=lun).asc == NO_UNIT, f"{cdb.hex()} to {lun}"
        data = c.good(p.request_sense(), 252, lun=lun).data
        assert (data[2] & 0xf, data[12], data[13]) == NO_UNIT, "REQUEST SENSE tells it as data"


@rule(20, "SAM-5 4.7.4, 4.7.5")
def forms_of_a_lun(t):
    c = t.session(luns=(0, 1))
    c.good(p.write10(60, 1), write=b"\xa1" * 512, lun=1)
    for lun in (b"\x00\x01" + bytes(6), b"\x40\x01" + bytes(6)):
        assert c.good(p.read10(60, 1), 512, lun=lun).data == b"\xa1" * 512, f"LUN 1 as {lun.hex()}"


@rule(20, "SPC-4 6.33, clause 8")
def report_luns_well_known_unit(t):
    c = t.session()
    lun = b"\xc1\x01" + bytes(6)
    assert c.good(p.inquiry(), 255, lun=lun).data[0] == 0x1e
    assert c.good(p.report_luns(4096), 4096, lun=lun).data == c.good(p.report_luns(4096), 4096).data
    c.good(TUR, lun=lun)
    assert c.run(p.read10(0, 1), 512, lun=lun).asc in (INVALID_OPCODE, NO_UNIT)


@rule(20, "SPC-4 7.8.5")
def identity_is_the_same_on_every_path(t):
    a, b = t.session(), t.session(name="iqn.2026-11.io.perilune:second")
    for page in (0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2):
        first = a.good(p.inquiry(255, page), 255).data
        assert first == b.good(p.inquiry(255, page), 255).data, f"VPD {page:02x}h"
        assert first[1] == page and struct.unpack_from(">H", first, 2)[0] == len(first) - 4
    own = set()
    for lun in (0, 1, 2, 3):
        a.clear_attentions((lun,))
        data = a.good(p.inquiry(255, 0x83), 255, lun=lun).data
        at, naa = 4, None
        while at < len(data):
            if data[at + 1] & 0x3f == 3:
                naa = bytes(data[at + 4:at + 4 + data[at + 3]])
            at += 4 + data[at + 3]
        assert at == len(data) and naa and len(naa) in (8, 16), "the designators fill the page; an NAA of the unit"
        own.add(naa)
    assert len(own) == 4, "two units share an identity"


@rule(20, "SPC-4 6.11")
def mode_sense_of_all_pages(t):
    c = t.session()
    data = c.good(p.mode_sense6(0x3f), 255).data
    assert data[0] == len(data) - 1
    codes, at = [], 4
    while at < len(data):
        codes.append(data[at] & 0x3f)
        at += 2 + data[at + 1] if not data[at] & 0x40 else 4 + struct.unpack_from(">H", data, at + 2)[0]
    assert at == len(data) and {0x08, 0x0a} <= set(codes) and codes == sorted(codes), codes
    long = c.good(struct.pack(">BBBB3xHB", 0x5a, 8, 0x3f, 0, 4096, 0), 4096).data
    assert struct.unpack_from(">H", long)[0] == len(long) - 2 and long[8:] == data[4:]


# ---- CDBs that nobody should send

@rule("cdb", "SPC-4 6.6, 6.33, 6.39")
def small_allocation_lengths(t):
    c = t.session()
    for allocation in (0, 1, 2, 3, 4, 5, 7, 8):
        for cdb in (p.inquiry(allocation), p.inquiry(allocation, 0x83), p.request_sense(allocation), p.mode_sense6(0x3f, allocation),
                    struct.pack(">BB8xI2x", 0x9e, 0x10, allocation), struct.pack(">BBBBHIxx", 0xa3, 0x0c, 0, 0, 0, allocation)):
            assert len(c.good(cdb, 64).data) == allocation, cdb.hex()


@rule("cdb", "SPC-4 6.6")
def pages_that_are_not_there(t):
    c = t.session()
    for page in (0x01, 0x7f, 0x84, 0xff):
        c.refused(p.inquiry(255, page), INVALID_FIELD, 255)
        if page & 0x3f not in (0x08, 0x0a, 0x1c):
            done = c.run(p.mode_sense6(page & 0x3e), 255)
            assert done.status == p.GOOD or done.asc == INVALID_FIELD
    c.refused(bytes([0x12, 0, 0x83, 0, 255, 0]), INVALID_FIELD, 255)        # a page without EVPD


@rule("cdb", "SPC-4 6.35; FreeBSD CVE-2024-42416")
def supported_operation_codes_of_everything(t):
    c = t.session()
    for options in range(8):
        for opcode in (0x00, 0x12, 0x28, 0x5e, 0x5f, 0x7f, 0x9e, 0xa3, 0xff):
            for action in (0, 1, 0x0c, 0x10, 0x1f, 0x20, 0xff, 0xffff):
                done = c.run(struct.pack(">BBBBHIxx", 0xa3, 0x0c, options, opcode, action, 4096), 4096)
                assert done.status == p.GOOD or done.asc == INVALID_FIELD, f"{options} {opcode:02x} {action:04x}: {done}"
    whole = c.good(struct.pack(">BBBBHIxx", 0xa3, 0x0c, 0, 0, 0, 8192), 8192).data
    assert struct.unpack_from(">I", whole)[0] == len(whole) - 4
    for at in range(4, len(whole), 8):                    # each that is listed can be asked for, and none is refused as unknown
        opcode, action, flags = whole[at], struct.unpack_from(">H", whole, at + 2)[0], whole[at + 5]
        one = c.good(struct.pack(">BBBBHIxx", 0xa3, 0x0c, 2 if flags & 1 else 1, opcode, action, 512), 512).data
        assert one[1] & 7 == 3 and struct.unpack_from(">H", one, 2)[0] == struct.unpack_from(">H", whole, at + 6)[0], f"{opcode:02x}h"


@rule("cdb", "SPC-4 6.9, 7.5")
def mode_select_lists_that_lie_are_refused(t):
    c = t.session()
    page = bytes(4) + bytes(c.good(p.mode_sense6(0x0a), 255).data[4:16])

    def select(data, length=None):
        return c.run(p.mode_select6(len(data) if length is None else length), write=data)

    assert select(page).status == p.GOOD
    before = c.good(p.mode_sense6(0x3f), 255).data
    for data in (page[:1], page[:3], page[:5], page[:-1], page[:4] + b"\x0a\xff" + page[6:], page[:4] + b"\x0a\x00", page + b"\x0a",
                 page[:4] + b"\x3e\x0a" + page[6:], b"\0\0\0\x08" + page[4:], b"\0\0\0\xff" + page[4:], b"\0\x77\0\0" + page[4:],
                 page[:7] + bytes([page[7] ^ 0xff]) + page[8:], page[:4] + b"\x4a\x01\xff\xff" + page[8:]):
        done = select(data)
        assert done.asc in (PARAMETER_LENGTH, INVALID_PARAMETER), f"{data.hex()}: {done}"
    assert select(page, length=255).asc == PARAMETER_LENGTH, "fewer bytes than announced"
    assert c.run(p.mode_select6(0)).status == p.GOOD, "no list is no error"
    assert c.good(p.mode_sense6(0x3f), 255).data == before


@rule("cdb", "SPC-4 6.4, 6.5; LIO CVE-2020-28374: designators of units that this initiator may not see")
def extended_copy_lists_that_lie_are_refused(t):
    c = t.session("FirstBurstLength=65536", luns=(0, 1))
    c.good(p.write10(200, 1), write=b"\x5c" * 512, lun=1)

    def naa(lun):
        data = c.good(p.inquiry(255, 0x83), 255, lun=lun).data
        return bytes(data[8:16]) if data[5] & 0xf == 3 and data[7] == 8 else None

    def descriptor(name, kind=0xe4):
        return struct.pack(">BBxx", kind, 0) + struct.pack(">BBBB", 1, 3, 0, len(name)) + name.ljust(20, b"\0") + struct.pack(">BBH", 0, 0, 512)

    def segment(source=0, destination=1, blocks=1, lba=0, to=200, length=24, kind=2):
        return struct.pack(">BBHHHxxHQQ", kind, 0, length, source, destination, blocks, lba, to)

    def copy(cscds, segments, cscd_bytes=None, segment_bytes=None, inline=0, length=None):
        data = struct.pack(">BBHxxxxII", 1, 0, len(cscds) if cscd_bytes is None else cscd_bytes,
                           len(segments) if segment_bytes is None else segment_bytes, inline) + cscds + segments
        return c.run(struct.pack(">BB8xIxx", 0x83, 0, len(data) if length is None else length), write=data)

    assert naa(0) and naa(1), "the first designator is the NAA"
    ours, stranger = descriptor(naa(0)) + descriptor(naa(1)), descriptor(b"\x60\1\2\3\4\5\6\7")
    one = segment()
    for what, result in (
            ("a unit that is not there", copy(descriptor(naa(0)) + stranger, one)), ("list of CSCDs overruns", copy(ours, one, cscd_bytes=0xffe0)),
            ("no whole CSCD", copy(ours, one, cscd_bytes=33)), ("segments overrun", copy(ours, one, segment_bytes=0xffffffff)),
            ("a segment is cut", copy(ours, one[:20])), ("inline data overruns", copy(ours, one, inline=0xffffffff)),
            ("an index that is not there", copy(ours, segment(source=7))), ("another one", copy(ours, segment(destination=2))),
            ("an unknown segment", copy(ours, segment(kind=0xbe))), ("an unknown CSCD", copy(descriptor(naa(0), 0xff) * 2, one)),
            ("a segment of another length", copy(ours, segment(length=0xffff))), ("beyond the medium", copy(ours, segment(to=2**64 - 1))),
            ("wraps", copy(ours, segment(blocks=0xffff, lba=2**64 - 2))), ("half a header", copy(b"", b"", length=7))):
        assert result.status == p.CHECK_CONDITION and result.asc is not None, f"{what}: {result}"
    assert c.good(p.read10(200, 1), 512, lun=1).data == b"\x5c" * 512, "a refused list copied something"
    c.good(p.write10(0, 1), write=b"\x5d" * 512)
    done = copy(ours, one)
    assert done.status == p.GOOD and c.good(p.read10(200, 1), 512, lun=1).data == b"\x5d" * 512, f"and one that is right: {done}"


@rule("cdb", "SBC-3 5.41")
def write_same_of_too_much_is_refused(t):
    c = t.session()
    for count in (BLOCKS + 1, 0xffffffff):
        done = c.run(struct.pack(">BBQIBB", 0x93, 0, 0, count, 0, 0), write=bytes(512))
        assert done.asc in (OUT_OF_RANGE, INVALID_FIELD), f"{count}: {done}"
    for size in (1, 511, 1024):
        done = c.run(struct.pack(">BBQIBB", 0x93, 0, 0, 1, 0, 0), write=bytes(size))
        assert done.status == p.CHECK_CONDITION or size == 1024 and done.underflow, f"{size} bytes of data: {done}"
    c.refused(struct.pack(">BBQIBB", 0x93, 0, 2**64 - 1, 2, 0, 0), OUT_OF_RANGE, write=bytes(512))


@rule("cdb", "SAM-5 5.3.1")
def every_opcode_gets_an_answer(t):
    c = t.session("InitialR2T=Yes", "ImmediateData=Yes", "FirstBurstLength=512")
    stops = {0x1b, 0x04, 0x48}          # START STOP, FORMAT, SANITIZE have tests of their own
    for opcode in range(256):
        if opcode in stops:
            continue
        for flags, data in ((p.FINAL, b""), (p.FINAL | p.READ, b""), (p.FINAL | p.WRITE, bytes(512))):
            done = c.finish(c.command(bytes([opcode]) + bytes(15), 512 if flags != p.FINAL else 0, flags, data), 512, bytes(512))
            assert done.status in (p.GOOD, p.CHECK_CONDITION, p.RESERVATION_CONFLICT), f"{opcode:02x}h: {done}"
            if done.status == p.CHECK_CONDITION:
                assert done.asc is not None, f"{opcode:02x}h: no sense"
        c.clear_attentions()
    t.still_serves()


@rule("cdb", "SAM-5 5.3")
def random_cdbs_harm_nobody(t):
    noise = random.Random(7143)
    c = t.session("InitialR2T=Yes", "ImmediateData=Yes", "FirstBurstLength=4096", "MaxRecvDataSegmentLength=65536", luns=(0, 1))
    known = [0x00, 0x03, 0x08, 0x0a, 0x12, 0x15, 0x1a, 0x25, 0x28, 0x2a, 0x2e, 0x2f, 0x34, 0x35, 0x37, 0x41, 0x42, 0x55, 0x5a, 0x5e, 0x5f,
             0x83, 0x84, 0x88, 0x89, 0x8a, 0x8e, 0x8f, 0x90, 0x91, 0x93, 0x9e, 0xa0, 0xa3, 0xa8, 0xaa, 0xae, 0xaf, 0xb7]
    for _ in range(3000):
        cdb = bytearray(noise.randbytes(16))
        cdb[0] = noise.choice(known)
        for at in range(1, 16):
            if noise.random() < 0.6:
                cdb[at] = 0
        edtl = noise.choice((0, 1, 512, 4096, 65536))
        direction = noise.choice((0, p.READ, p.WRITE)) if edtl else 0
        data = noise.randbytes(min(edtl, 4096)) if direction == p.WRITE else b""
        done = c.finish(c.command(bytes(cdb), edtl, p.FINAL | direction, data, lun=1), edtl, data + bytes(65536))
        assert done.status in (p.GOOD, p.CHECK_CONDITION, p.TASK_SET_FULL, p.RESERVATION_CONFLICT), f"{cdb.hex()}: {done}"
    t.still_serves()


@rule("cdb", "SBC-3 5.25")
def stopped_unit_says_so_and_starts_again(t):
    c, other = t.session(), t.session()
    c.good(bytes([0x1b, 0, 0, 0, 0, 0]))
    assert other.run(p.read10(0, 1), 512).asc == (2, 0x04, 0x02), "initializing command required"
    assert other.run(p.inquiry(), 255).status == p.GOOD
    c.refused(bytes([0x1b, 0, 0, 0, 2, 0]), INVALID_FIELD)          # eject: a fixed disk
    c.good(bytes([0x1b, 0, 0, 0, 1, 0]))
    other.clear_attentions()
    other.good(p.read10(0, 1), 512)


def disk(folder):
    path = folder / "disk"
    with open(path, "wb") as f:
        f.truncate(16 << 20)
    return path


if __name__ == "__main__":
    main("status, sense, addresses, LUNs", "ram:16M", "ram:16M", "null:4T", disk)
