#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A CD drive on the wire (MMC-6): what GET CONFIGURATION lists is served, and READ CD gives sectors whose error detection and
correction codes are those of ECMA-130. LUN 0 is a disc of 64 blocks."""
import struct

import raw_pdu as p
from rules import main, rule

INVALID_FIELD, ILLEGAL_MODE, OUT_OF_RANGE = (5, 0x24, 0), (5, 0x64, 0), (5, 0x21, 0)
BLOCKS = 64


def content(lba):
    return bytes((lba * 31 + i * 7 + i // 256) & 0xff for i in range(2048))


def read_cd(lba, blocks, fields, options=0):
    return bytes([0xbe, options]) + lba.to_bytes(4, "big") + blocks.to_bytes(3, "big") + bytes([fields, 0, 0])


def edc(data):
    """ECMA-130 14.3, bit by bit."""
    rest = 0
    for byte in data:
        rest ^= byte
        for _ in range(8):
            rest = (rest >> 1) ^ (0xd8018001 if rest & 1 else 0)
    return rest.to_bytes(4, "little")


def times_a(value):
    return (value << 1) ^ (0x11d if value & 0x80 else 0)


def is_code_word(values):
    """ECMA-130 annex A: the sum, and the sum with the powers of the root, are zero."""
    plain = weighted = 0
    for value in values:
        plain ^= value
        weighted = times_a(weighted) ^ value
    return plain == 0 and weighted == 0


@rule("cdb", "ECMA-130 14, annex A; MMC-6 6.18")
def read_cd_gives_whole_sectors(t):
    c = t.session()
    data = c.good(read_cd(5, 2, 0xf8), 4704).data
    for i, sector in enumerate((data[:2352], data[2352:])):
        assert sector[:16] == b"\0" + b"\xff" * 10 + b"\0" + bytes([0, 2, 5 + i, 1])
        assert sector[16:2064] == content(5 + i)
        assert sector[2064:2068] == edc(sector[:2064]) and sector[2068:2076] == bytes(8)
        for plane in (0, 1):
            coded = sector[12 + plane::2]
            assert all(is_code_word([coded[column + 43 * row] for row in range(26)]) for column in range(43)), "P"
            assert all(is_code_word([coded[(44 * m + 43 * n) % 1118] for m in range(43)] + [coded[1118 + n], coded[1144 + n]])
                       for n in range(26)), "Q"
    assert c.good(read_cd(5, 1, 0x10), 2048).data == content(5)
    assert c.good(bytes([0xb9, 0, 0, 0, 2, 5, 0, 2, 6, 0x10, 0, 0]), 2048).data == content(5)      # READ CD MSF


@rule("cdb", "MMC-6 6.18")
def read_cd_refuses_what_a_disc_of_data_has_not(t):
    c = t.session()
    c.refused(read_cd(0, 1, 0x90), INVALID_FIELD, 4096)
    c.refused(read_cd(0, 1, 0xfa), INVALID_FIELD, 4096)                 # C2 pointers
    c.refused(read_cd(0, 1, 0x10, 0x04), ILLEGAL_MODE, 4096)            # audio
    c.refused(read_cd(BLOCKS - 1, 2, 0xf8), OUT_OF_RANGE, 8192)
    c.refused(read_cd(0xffffffff, 0xffffff, 0xf8), OUT_OF_RANGE, 8192)


@rule("cdb", "MMC-6 5.3, 6.5")
def mandatory_commands_of_the_features_are_there(t):
    c = t.session()
    data = c.good(bytes([0x46, 0, 0, 0, 0, 0, 0, 1, 0, 0]), 256).data
    assert data[6:8] == b"\0\x08", "a CD-ROM"
    at, features = 8, set()
    while at < len(data):
        features.add(struct.unpack_from(">H", data, at)[0])
        at += 4 + data[at + 3]
    mandatory = {0x0001: (0x46, 0x4a, 0x12, 0x55, 0x5a, 0x03, 0x00),     # core
                 0x0003: (0x1b, 0x1e),                                   # removable medium
                 0x0010: (0x25, 0x28),                                   # random readable
                 0x001d: (0x28, 0xbe, 0x51, 0x52),                       # multi-read
                 0x001e: (0xbe, 0xb9, 0x43)}                             # CD read
    codes = c.good(bytes([0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0]), 4096).data
    served = {codes[i] for i in range(4, len(codes), 8)}
    for feature in features & set(mandatory):
        missing = [f"{code:02x}" for code in mandatory[feature] if code not in served]
        assert not missing, f"feature {feature:04x} has no {missing}"
    assert features >= set(mandatory)


@rule("cdb", "MMC-6 6.12")
def mode_select_takes_what_mode_sense_gave(t):
    c = t.session()
    pages = c.good(bytes([0x5a, 0x08, 0x3f, 0, 0, 0, 0, 0, 255, 0]), 255).data
    select = bytes([0x55, 0x10, 0, 0, 0, 0, 0]) + len(pages).to_bytes(2, "big") + b"\0"
    c.good(select, write=bytes(8) + pages[8:])
    c.refused(select, (5, 0x26, 0), write=bytes(8) + pages[8:-1] + bytes([pages[-1] ^ 1]))


def disc(folder):
    path = folder / "disc"
    path.write_bytes(b"".join(content(lba) for lba in range(BLOCKS)))
    return f"cd:{path}"


if __name__ == "__main__":
    main("a drive", disc)
