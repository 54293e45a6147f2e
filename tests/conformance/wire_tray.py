#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Media that can be taken out, on the wire (SPC-4 6.14, SBC-3 5.25, MMC-6 6.42): who holds a tray shut, who learns that it was
opened and shut. LUN 0 is a removable disk of 16 MiB, LUN 1 a drive with a disc in it, LUN 2 a removable disk that is a file. And the operator, who
replaces the file and sends SIGHUP."""
import os
import pathlib
import signal
import time

import harness as h
import raw_pdu as p
from rules import main, rule

TUR = p.TEST_UNIT_READY
NO_MEDIUM = (2, 0x3a, 0)
REMOVAL_PREVENTED = (5, 0x53, 0x02)
MEDIUM_CHANGED = (6, 0x28, 0)
EJECT, LOAD = bytes([0x1b, 0, 0, 0, 2, 0]), bytes([0x1b, 0, 0, 0, 3, 0])
PREVENT, ALLOW = bytes([0x1e, 0, 0, 0, 1, 0]), bytes([0x1e, 0, 0, 0, 0, 0])
READ_CAPACITY = bytes([0x25]) + bytes(9)


EVENTS = bytes([0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0])    # GET EVENT STATUS NOTIFICATION of the media class
DISC, DISK = 1, 2
path = {}


def disc(folder):
    path[DISC] = pathlib.Path(folder) / "disc"
    path[DISC].write_bytes(bytes(64 * 2048))
    return f"cd:{path[DISC]}"


def disk(folder):
    path[DISK] = pathlib.Path(folder) / "disk"
    path[DISK].write_bytes(bytes(1 << 20))
    return path[DISK]


def count_of(t, event):
    return sum(event in line for line in t.server.errors().splitlines())


def logged(t, event, before):
    """The last line of the log with this event, when there are more than `before`."""
    def found():
        lines = [line for line in t.server.errors().splitlines() if event in line]
        return lines[-1] if len(lines) > before else None
    return h.wait_for(found, f"{event} in the log")


def reload(t, event):
    """SIGHUP; the line that the server logs for it."""
    before = count_of(t, event)
    os.kill(t.server.pid, signal.SIGHUP)
    return logged(t, event, before)


def put_in(t, lun, blocks, fill):
    """Another medium in the place of the one at the path, as `mv` does it."""
    size = 2048 if lun == DISC else 512
    other = path[lun].with_suffix(".new")
    other.write_bytes(bytes([fill]) * size * blocks)
    os.replace(other, path[lun])
    line = reload(t, "medium_changed")
    assert f"lun={lun} file {path[lun]}" in line, line


def capacity(c, lun):
    return int.from_bytes(c.good(READ_CAPACITY, 8, lun=lun).data[:4], "big") + 1


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


@rule(13, "SAM-5 5.14, MMC-6 6.6.2.5")
def operator_puts_another_medium_in_and_every_session_learns_of_it(t):
    for lun, fill in ((DISC, 0x11), (DISK, 0x22)):
        size = 2048 if lun == DISC else 512
        sessions = [t.session(luns=(0, 1, 2)) for _ in range(3)]
        put_in(t, lun, 300, fill)
        for c in sessions:
            c.refused(TUR, MEDIUM_CHANGED, lun=lun)
            c.good(TUR, lun=lun)
            c.good(TUR, lun=0)                  # nobody else is told
            if lun == DISC:
                assert c.good(EVENTS, 8, lun=lun).data[4:6] == b"\x02\x02"    # new media, and present
            assert capacity(c, lun) == 300
            assert c.good(p.read10(299, 1), size, lun=lun).data == bytes([fill]) * size
            c.refused(p.read10(300, 1), (5, 0x21, 0), size, lun=lun)
    c = sessions[0]
    c.good(p.write10(9, 1), write=b"\xcd" * 512, lun=DISK)
    assert path[DISK].read_bytes()[9 * 512:10 * 512] == b"\xcd" * 512
    before = path[DISK].read_bytes()
    kept = path[DISK].with_suffix(".old")
    os.link(path[DISK], kept)
    put_in(t, DISK, 400, 0x33)
    c.refused(TUR, MEDIUM_CHANGED, lun=DISK)
    c.good(p.write10(9, 1), write=b"\xee" * 512, lun=DISK)
    assert kept.read_bytes() == before, "the medium of before has been written to"


@rule(13, "MMC-6 6.42, SPC-4 6.14")
def operator_takes_the_medium_away_and_no_command_brings_it_back(t):
    for lun in (DISC, DISK):
        c, other = t.session(luns=(0, 1, 2)), t.session(luns=(0, 1, 2))
        path[lun].rename(path[lun].with_suffix(".away"))
        assert f"lun={lun}" in reload(t, "medium_removed")
        for session in (c, other):
            session.refused(TUR, NO_MEDIUM, lun=lun)
            if lun == DISC:
                assert session.good(EVENTS, 8, lun=lun).data[4:6] == b"\x03\x01"  # removed
        c.refused(LOAD, NO_MEDIUM, lun=lun)
        other.refused(p.read10(0, 1), NO_MEDIUM, 2048, lun=lun)
        put_in(t, lun, 77, 0x44)
        for session in (c, other):
            session.refused(TUR, MEDIUM_CHANGED, lun=lun)
            assert capacity(session, lun) == 77


@rule(13, "SPC-4 6.14, MMC-6 6.6.2.5")
def operator_does_not_pull_a_medium_that_a_session_holds(t):
    c, other = t.session(luns=(0, 1, 2)), t.session(luns=(0, 1, 2))
    c.good(PREVENT, lun=DISC)
    before = capacity(c, DISC)
    fresh = path[DISC].with_suffix(".new")
    fresh.write_bytes(b"\x55" * 2048 * 500)
    os.replace(fresh, path[DISC])
    line = reload(t, "medium_refused")
    assert "prevents the removal" in line and f"lun={DISC}" in line, line
    assert other.good(EVENTS, 8, lun=DISC).data[4:6] == b"\x01\x02"       # somebody wishes to eject it
    assert capacity(other, DISC) == before
    changes = count_of(t, "medium_changed")
    c.good(ALLOW, lun=DISC)                     # the wish is not forgotten: nobody hangs up again
    logged(t, "medium_changed", changes)
    for session in (c, other):
        session.refused(TUR, MEDIUM_CHANGED, lun=DISC)
        assert capacity(session, DISC) == 500


@rule(13, "SPC-4 6.14, MMC-6 6.6.2.5")
def medium_that_waits_goes_in_when_who_holds_the_other_ejects_it_or_is_gone(t):
    c = t.session(luns=(0, 1, 2))
    for leave, blocks in ((lambda holder: (holder.good(ALLOW, lun=DISC), holder.good(EJECT, lun=DISC)), 600),
                          (lambda holder: holder.close(), 700)):
        holder = t.session(luns=(0, 1, 2))
        holder.good(PREVENT, lun=DISC)
        fresh = path[DISC].with_suffix(".new")
        fresh.write_bytes(b"\x66" * 2048 * blocks)
        os.replace(fresh, path[DISC])
        reload(t, "medium_refused")
        changes = count_of(t, "medium_changed")
        leave(holder)
        logged(t, "medium_changed", changes)
        c.refused(TUR, MEDIUM_CHANGED, lun=DISC)
        assert capacity(c, DISC) == blocks


@rule(13, "SAM-5 5.14")
def the_same_file_is_the_same_medium_and_one_that_is_no_disc_is_not_taken(t):
    c = t.session(luns=(0, 1, 2))
    put_in(t, DISK, 64, 0x66)
    c.refused(TUR, MEDIUM_CHANGED, lun=DISK)
    c.good(p.write10(3, 1), write=b"\x77" * 512, lun=DISK)     # what initiators write makes no other medium of it
    before = capacity(c, DISC)
    path[DISC].unlink()
    path[DISC].write_bytes(b"too short")
    line = reload(t, "medium_refused")
    assert "less than one block" in line, line
    c.good(TUR, lun=DISK)
    c.good(TUR, lun=DISC)
    assert capacity(c, DISC) == before
    put_in(t, DISC, 10, 0)
    c.refused(TUR, MEDIUM_CHANGED, lun=DISC)


if __name__ == "__main__":
    main("trays", "ram:16M", disc, disk, options=["--removable"])
