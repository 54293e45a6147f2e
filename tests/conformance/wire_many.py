#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Logical units beyond 16,383 on the wire, where LUNs have the form of extended flat space addressing (SAM-5 4.7.7.3): 16,400 units
of 1 MiB that keep nothing, but for some of other sizes on either side of each border."""
import struct

import raw_pdu as p
from rules import main, rule

UNITS = 16400
SIZES = {255: 2, 256: 3, 16383: 4, 16384: 5, 16399: 6}     # MiB
READ_CAPACITY = bytes([0x25]) + bytes(9)


def address(lun):
    """Peripheral device, flat space, extended flat space with three bytes."""
    if lun < 256:
        return struct.pack(">H6x", lun)
    return struct.pack(">H6x", 0x4000 | lun) if lun < 16384 else struct.pack(">BBHI", 0xd2, 0, lun, 0)


@rule(20, "SPC-4 6.33; SAM-5 4.7.7")
def every_unit_is_listed_in_its_form(t):
    c = t.session(luns=())
    c.run(p.TEST_UNIT_READY)
    data = c.good(p.report_luns(8 * UNITS + 8), 8 * UNITS + 8).data
    assert struct.unpack_from(">I", data)[0] == 8 * UNITS
    for lun in range(UNITS):
        assert data[8 + 8 * lun:16 + 8 * lun] == address(lun), f"LUN {lun}: {data[8 + 8 * lun:16 + 8 * lun].hex()}"


@rule(20, "SAM-5 4.7.7")
def every_form_reaches_its_unit(t):
    c = t.session(luns=())
    for lun in (0, *SIZES):
        c.clear_attentions((address(lun),))
        last, block = struct.unpack(">II", c.good(READ_CAPACITY, 8, lun=address(lun)).data)
        assert (last + 1) * block == SIZES.get(lun, 1) << 20, f"LUN {lun}: {last + 1} blocks"
    for nobody in (address(UNITS), bytes.fromhex("d200ffff00000000"), bytes.fromhex("d201400000000000"), bytes.fromhex("e200004000000000")):
        c.refused(p.TEST_UNIT_READY, (5, 0x25, 0), lun=nobody)


if __name__ == "__main__":
    main("many units", *(f"null:{SIZES.get(lun, 1)}M" for lun in range(UNITS)))
