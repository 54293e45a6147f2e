#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Media that can be taken out, on the wire (SPC-4 6.14, SBC-3 5.25, MMC-6 6.42): who holds a tray shut, who learns that it was
opened and shut. LUN 0 is a removable disk of 16 MiB, LUN 1 a drive with a disc in it."""
import time

import raw_pdu as p
from rules import main, rule

TUR = p.TEST_UNIT_READY
NO_MEDIUM = (2, 0x3a, 0)
REMOVAL_PREVENTED = (5, 0x53, 0x02)
MEDIUM_CHANGED = (6, 0x28, 0)
EJECT, LOAD = bytes([0x1b, 0, 0, 0, 2, 0]), bytes([0x1b, 0, 0, 0, 3, 0])
PREVENT, ALLOW = bytes([0x1e, 0, 0, 0, 1, 0]), bytes([0x1e, 0, 0, 0, 0, 0])
READ_CAPACITY = bytes([0x25]) + bytes(9)


def disc(folder):
    path = folder / "disc"
    path.write_bytes(bytes(64 * 2048))
    return f"cd:{path}"


@rule(13, "SPC-4 6.14, SBC-3 5.25")
def tray_stays_shut_while_a_session_holds_it_and_opens_when_that_is_gone(t):
    for lun in (0, 1):
        c, other = t.session(luns=(0, 1)), t.session(luns=(0, 1))
        other.good(PREVENT, lun=lun)
        c.refused(EJECT, REMOVAL_PREVENTED, lun=lun)
        other.good(ALLOW, lun=lun)
        other.good(PREVENT, lun=lun)
        other.logout()
        other.close()
        deadline = time.monotonic() + 20
        while (result := c.run(EJECT, lun=lun)).status != p.GOOD:   # the session may still be ending
            assert result.asc == REMOVAL_PREVENTED and time.monotonic() < deadline, result
        c.refused(TUR, NO_MEDIUM, lun=lun)
        c.good(LOAD, lun=lun)
        c.good(TUR, lun=lun)


@rule(13, "SAM-5 5.14, MMC-6 6.42")
def every_other_session_learns_that_a_medium_was_put_in(t):
    for lun in (0, 1):
        c, other = t.session(luns=(0, 1)), t.session(luns=(0, 1))
        c.good(EJECT, lun=lun)
        other.refused(READ_CAPACITY, NO_MEDIUM, 8, lun=lun)
        other.good(p.inquiry(), 255, lun=lun)
        if lun == 1:    # GET EVENT STATUS NOTIFICATION: removed
            assert other.good(bytes([0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0]), 8, lun=lun).data[4:6] == b"\x03\x01"
        c.good(LOAD, lun=lun)
        c.good(TUR, lun=lun)
        other.refused(TUR, MEDIUM_CHANGED, lun=lun)
        other.good(READ_CAPACITY, 8, lun=lun)


if __name__ == "__main__":
    main("trays", "ram:16M", disc, options=["--removable"])
