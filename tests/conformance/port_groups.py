# SPDX-License-Identifier: Apache-2.0
"""A target behind two portal groups, for the tests of them on the wire: sessions through each, and what SCSI says of both."""
import struct

import harness as h
import raw_pdu as p


def address(t, tag):
    """Of the portal in this group: the first is in group 1, the second in group 2."""
    match = h.URL.match(t.server.urls[tag - 1])
    return match["host"], int(match["port"])


def connect(t, tag, **fields):
    return t.connect(address(t, tag), **fields)


def session(t, tag, *pairs, **fields):
    """Through the portal of this group, its unit attentions told."""
    c = connect(t, tag, **fields).login(t.iqn, *pairs)
    attentions(c)
    return c


def attentions(c):
    """All that is pending, told to TEST UNIT READY."""
    found = []
    while (result := c.run(p.TEST_UNIT_READY)).asc and result.asc[0] == 6:
        found.append(result.asc)
    return found


def designators(c):
    """(byte 1, identifier) of each in VPD page 83h."""
    page = c.good(struct.pack(">BBBHB", 0x12, 1, 0x83, 512, 0), 512).data
    assert page[1] == 0x83
    found, at = [], 4
    while at < 4 + int.from_bytes(page[2:4], "big"):
        found.append((page[at + 1], bytes(page[at + 4:at + 4 + page[at + 3]])))
        at += 4 + page[at + 3]
    return found


REPORT = struct.pack(">BB4xIxx", 0xa3, 0x0a, 512)     # REPORT TARGET PORT GROUPS
REPORT_EXTENDED = struct.pack(">BB4xIxx", 0xa3, 0x2a, 512)


def report(c, extended=False):
    """group -> (preferred, state, supported, status code, ports)"""
    return groups_in(bytes(c.good(REPORT_EXTENDED if extended else REPORT, 512).data), extended)


def groups_in(data, extended=False):
    assert int.from_bytes(data[:4], "big") == len(data) - 4, data.hex()
    groups, at = {}, 8 if extended else 4
    while at < len(data):
        ports = [int.from_bytes(data[at + 10 + 4 * i:at + 12 + 4 * i], "big") for i in range(data[at + 7])]
        groups[int.from_bytes(data[at + 2:at + 4], "big")] = (bool(data[at] & 0x80), data[at] & 0xf, data[at + 1], data[at + 5], ports)
        at += 8 + 4 * data[at + 7]
    return groups
