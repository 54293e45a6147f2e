#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A disk grows while it is served: SIGHUP, READ CAPACITY and the unit attention (SBC-3 4.7.2, 5.10: 2A/09), with sessions that write
all the while; and what does not grow."""
import os
import pathlib
import signal
import struct

import harness as h
import raw_pdu as p
from rules import main, rule

MIB = 1 << 20
CHANGED = (6, 0x2a, 0x09)
READ_CAPACITY_16 = struct.pack(">BB8xIxx", 0x9e, 0x10, 32)
disk = None


def backing(folder):
    global disk
    disk = pathlib.Path(folder) / "disk"
    with open(disk, "wb") as f:
        f.truncate(8 * MIB)
    return disk


def blocks(c, lun=0):
    return int.from_bytes(c.good(READ_CAPACITY_16, 32, lun=lun).data[:8], "big") + 1


def resize(t, size, event, path=None):
    """Makes the file so large, tells the server, and waits for its line in the log."""
    lines = len([line for line in t.server.errors().splitlines() if event in line])
    os.truncate(path or disk, size)
    os.kill(t.server.pid, signal.SIGHUP)

    def logged():
        found = [line for line in t.server.errors().splitlines() if event in line]
        return found[-1] if len(found) > lines else None
    return h.wait_for(logged, f"{event} in the log")


class Writer:
    """Writes the same block again and again, a few commands at a time, and collects what it is told."""

    def __init__(self, session, lba):
        self.session, self.lba, self.attentions, self.written = session.open_window(4), lba, [], 0

    def burst(self):
        tags = [self.session.command(p.write10(self.lba, 1), 512, p.FINAL | p.WRITE, self.data()) for _ in range(4)]
        for tag in tags:
            result = self.session.finish(tag, 512, self.data())
            if result.asc:
                self.attentions.append(result.asc)
            else:
                assert result.status == p.GOOD, result
                self.written += 1

    def data(self):
        return bytes([self.lba % 251]) * 512


def grown_under_load(t, size):
    """Every session is told once, and finds the new size."""
    writers = [Writer(t.session(), 16 + n) for n in range(4)]
    for writer in writers:
        writer.burst()
    resize(t, size, "unit_resized")

    def all_told():
        for writer in writers:
            writer.burst()
        return all(writer.attentions for writer in writers)
    h.wait_for(all_told, "2A/09 in every session")
    for writer in writers:
        writer.burst()
        assert writer.attentions == [CHANGED], writer.attentions
        assert blocks(writer.session) == size // 512
    return writers


@rule("bonus", "SBC-3 5.10, SPC-4 5.6.3")
def every_session_learns_that_the_disk_has_grown(t):
    writers = grown_under_load(t, 12 * MIB)
    last = 12 * MIB // 512 - 1
    writers[0].session.good(p.write10(last, 1), write=b"\xab" * 512)
    assert writers[3].session.good(p.read10(last, 1), 512).data == b"\xab" * 512
    writers[1].session.refused(p.read10(last + 1, 1), (5, 0x21, 0), 512)
    assert disk.read_bytes()[-512:] == b"\xab" * 512
    grown_under_load(t, 12 * MIB + 4096)


@rule("bonus", "SBC-3 5.10")
def a_part_of_a_block_is_not_served(t):
    size = disk.stat().st_size
    resize(t, size + 4096 + 511, "unit_resized")
    assert blocks(t.session()) == (size + 4096) // 512


@rule("bonus", "SBC-3 4.7.2")
def a_disk_is_never_made_smaller(t):
    c = t.session()
    before = blocks(c)
    line = resize(t, 4 * MIB, "resize_refused")
    assert "lun=0" in line and f"shrunk from {before} to {4 * MIB // 512} blocks" in line, line
    c.good(p.TEST_UNIT_READY)                 # nobody is told of anything
    assert blocks(c) == before
    resize(t, before * 512 + 8192, "unit_resized")
    h.wait_for(lambda: c.run(p.TEST_UNIT_READY).asc == CHANGED, "the size to grow again")
    assert blocks(c) == before + 16


@rule("bonus", "SBC-3 5.10")
def other_units_stay_as_they_are(t):
    c = t.session(luns=(0, 1))
    size = blocks(c, lun=1)
    resize(t, disk.stat().st_size + MIB, "unit_resized")
    h.wait_for(lambda: c.run(p.TEST_UNIT_READY).asc == CHANGED, "2A/09")
    c.good(p.TEST_UNIT_READY, lun=1)
    assert blocks(c, lun=1) == size


if __name__ == "__main__":
    main("resize", backing, "ram:4M")
