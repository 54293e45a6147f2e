#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""POPULATE TOKEN, WRITE USING TOKEN and RECEIVE ROD TOKEN INFORMATION on the wire (SBC-3 5.8, 5.46, 5.22), with lists laid out by
hand. LUN 0 is memory, LUN 1 a file, both of 16 MiB."""
import struct

import raw_pdu as p
from rules import main, rule

TOKEN_CORRUPT, TOKEN_DELETED = (5, 0x23, 0x05), (5, 0x23, 0x09)
INVALID_FIELD, INVALID_PARAMETER = (5, 0x24, 0), (5, 0x26, 0)
ZEROES = struct.pack(">IHH", 0xffff0001, 0, 504) + bytes(504)


def third_party(action, length, identifier):
    return struct.pack(">BBIIIBB", 0x83, action, 0, identifier, length, 0, 0)


def descriptors(ranges):
    return struct.pack(">H", 16 * len(ranges)) + b"".join(struct.pack(">QII", lba, blocks, 0) for lba, blocks in ranges)


def with_length(tail):
    return struct.pack(">H", len(tail)) + tail


def populate(c, ranges, lun=0, inactivity=0, identifier=1):
    data = with_length(bytes(2) + struct.pack(">II", inactivity, 0) + bytes(2) + descriptors(ranges))
    c.good(third_party(0x10, len(data), identifier), write=data, lun=lun)
    told = information(c, identifier, lun)
    assert (told[4], told[5], told[15]) == (0x10, 0x01, 0xf1)
    assert struct.unpack(">Q", told[16:24])[0] == sum(blocks for _, blocks in ranges)
    assert struct.unpack(">I", told[32:36])[0] == 514 and len(told) == 550
    return told[38:]


def write_list(token, ranges, offset=0, delete=False):
    return with_length(bytes([2 if delete else 0]) + bytes(5) + struct.pack(">Q", offset) + token + bytes(6) + descriptors(ranges))


def write_using(c, token, ranges, lun=1, offset=0, delete=False, identifier=2):
    data = write_list(token, ranges, offset, delete)
    return c.run(third_party(0x11, len(data), identifier), write=data, lun=lun)


def information(c, identifier, lun):
    return c.good(struct.pack(">BBIIIBB", 0x84, 0x07, identifier, 0, 4096, 0, 0), 4096, lun=lun).data


@rule(17, "SBC-3 5.8, 5.46")
def a_token_moves_blocks_between_units(t):
    c = t.session(luns=(0, 1))
    c.good(p.write10(100, 64), write=bytes(range(256)) * 128)
    token = populate(c, [(100, 32), (140, 16)])
    assert token[:8] == struct.pack(">IHH", 0x00010000, 0, 504)
    assert write_using(c, token, [(7, 40), (2000, 8)]).status == p.GOOD
    whole = c.good(p.read10(100, 64), 64 * 512).data
    source = whole[:32 * 512] + whole[40 * 512:56 * 512]
    assert c.good(p.read10(7, 40), 40 * 512, lun=1).data == source[:40 * 512]
    assert c.good(p.read10(2000, 8), 8 * 512, lun=1).data == source[40 * 512:]
    told = information(c, 2, 1)
    assert (told[4], told[5]) == (0x11, 0x01) and struct.unpack(">Q", told[16:24])[0] == 48


@rule(17, "SPC-4 5.17.6.4")
def a_token_is_good_in_another_session_and_not_when_it_was_changed(t):
    c, other = t.session(luns=(0, 1)), t.session(luns=(0, 1))
    c.good(p.write10(0, 8), write=b"\x77" * 4096)
    token = populate(c, [(0, 8)])
    assert write_using(other, token, [(64, 8)]).status == p.GOOD
    assert c.good(p.read10(64, 8), 4096, lun=1).data == b"\x77" * 4096
    for at in (8, 15, 40, 63, 130, 300, 479, 480, 511):
        forged = bytearray(token)
        forged[at] ^= 1
        assert write_using(other, bytes(forged), [(64, 8)]).asc == TOKEN_CORRUPT, f"byte {at}"


@rule(17, "SBC-3 5.46.2")
def a_token_can_be_deleted_with_its_last_use(t):
    c = t.session(luns=(0, 1))
    token = populate(c, [(0, 8)])
    assert write_using(c, token, [(0, 8)], delete=True).status == p.GOOD
    assert write_using(c, token, [(0, 8)]).asc == TOKEN_DELETED


@rule(17, "SBC-3 4.28.5")
def the_token_of_zeroes_writes_zeroes(t):
    c = t.session(luns=(0, 1))
    c.good(p.write10(500, 8), write=b"\x99" * 4096, lun=1)
    assert write_using(c, ZEROES, [(501, 6)]).status == p.GOOD
    assert c.good(p.read10(500, 8), 4096, lun=1).data == b"\x99" * 512 + bytes(6 * 512) + b"\x99" * 512


@rule("cdb", "SBC-3 5.8, 5.46")
def lists_that_lie_are_refused(t):
    c = t.session(luns=(0, 1))
    token = populate(c, [(0, 8)])
    good = write_list(token, [(0, 8)])
    for length in range(1, len(good), 13):
        done = c.run(third_party(0x11, length, 3), write=good[:length], lun=1)
        assert done.status == p.CHECK_CONDITION and done.asc[0] == 5, f"{length}: {done}"
    for at in (0, 1, 534, 535):
        for value in (0, 1, 0x7f, 0xff):
            bad = bytearray(good)
            if bad[at] != value:
                bad[at] = value
                done = c.run(third_party(0x11, len(bad), 3), write=bytes(bad), lun=1)
                assert done.status == p.GOOD or done.asc[0] == 5, f"{at} {value}: {done}"
    assert write_using(c, token, [(0, 2 ** 32 - 1)]).asc == (5, 0x21, 0)
    assert write_using(c, token, [(2 ** 64 - 1, 2)]).asc == (5, 0x21, 0)
    assert write_using(c, token, [(0, 1)], offset=2 ** 64 - 1).asc == INVALID_PARAMETER
    c.refused(struct.pack(">BBIIIBB", 0x84, 0x07, 77, 0, 4096, 0, 0), INVALID_FIELD, 4096)
    t.still_serves()


def disk(folder):
    path = folder / "disk"
    with open(path, "wb") as f:
        f.truncate(16 << 20)
    return path


if __name__ == "__main__":
    main("copies by tokens", "ram:16M", disk)
