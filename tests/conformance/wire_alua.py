#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asymmetric access as an operator and initiators change it (SPC-4 5.15, 6.37, 6.45): --port-groups, SIGHUP, and
SET TARGET PORT GROUPS, seen through both portal groups of a target."""
import contextlib
import os
import pathlib
import signal
import struct

import harness as h
import raw_pdu as p
from port_groups import REPORT, attentions, groups_in, report, session
from rules import main, rule

CHANGED = (6, 0x2a, 0x06)
INQUIRY_CHANGED = (6, 0x3f, 0x03)
OPTIMIZED, NON_OPTIMIZED, STANDBY, UNAVAILABLE, OFFLINE, TRANSITIONING = 0, 1, 2, 3, 0xe, 0xf
# TEST UNIT READY and media access; whether MODE SENSE is served (SPC-4 5.15.2.4)
STATES = {"optimized": (OPTIMIZED, None, True), "nonoptimized": (NON_OPTIMIZED, None, True),
          "standby": (STANDBY, (2, 0x04, 0x0b), True), "unavailable": (UNAVAILABLE, (2, 0x04, 0x0c), False),
          "offline": (OFFLINE, (2, 0x04, 0x12), False), "transitioning": (TRANSITIONING, (2, 0x04, 0x0a), False)}
MODE_SENSE = bytes([0x1a, 0, 0x3f, 0, 255, 0])
AT_FIRST = "1 optimized preferred\n2 nonoptimized\n"
groups_file = None


def options(folder):
    global groups_file
    groups_file = pathlib.Path(folder) / "port-groups"
    groups_file.write_text(AT_FIRST)
    return ["--portal", "127.0.0.1:0,1", "--portal", "127.0.0.1:0,2", "--port-groups", groups_file]


def hang_up(t, text):
    groups_file.write_text(text)
    os.kill(t.server.pid, signal.SIGHUP)


def told(t):
    """Lines of the log about a file that is wrong."""
    return [line for line in t.server.errors().splitlines() if "port_groups_refused" in line]


def until(c, wanted):
    """Waits for the groups to be so, as this session sees them (each thread of the server learns by itself); its attentions."""
    found = []

    def so():
        found.extend(attentions(c))
        result = c.run(REPORT, 512)
        if result.asc:                              # an attention came in between
            found.append(result.asc)
            return False
        return {group: (preferred, state) for group, (preferred, state, *_) in groups_in(bytes(result.data)).items()} == wanted
    h.wait_for(so, f"the port groups to be {wanted}")
    return found + attentions(c)


@contextlib.contextmanager
def operator(t):
    """Puts another file in force, and the old one back at the end."""
    watches = [session(t, tag) for tag in (1, 2)]

    def put(text, wanted, *others):
        """Their attentions."""
        hang_up(t, text)
        for watch in watches:
            until(watch, wanted)
        return [until(c, wanted) for c in others]
    yield put
    put(AT_FIRST, {1: (True, OPTIMIZED), 2: (False, NON_OPTIMIZED)})
    for watch in watches:
        watch.logout()


def by_command(c, *descriptors):
    parameters = bytes(4) + b"".join(struct.pack(">BxH", state, group) for group, state in descriptors)
    return c.run(struct.pack(">BB4xIxx", 0xa4, 0x0a, len(parameters)), write=parameters)


@rule("bonus", "SPC-4 6.37")
def the_file_says_what_the_groups_begin_with(t):
    for tag in (1, 2):
        c = session(t, tag)
        for extended in (False, True):
            assert report(c, extended) == {1: (True, OPTIMIZED, 0xcf, 0, [1]), 2: (False, NON_OPTIMIZED, 0xcf, 0, [2])}
        c.good(p.read10(0, 1), 512)


@rule("bonus", "SPC-4 5.15.2.4, 5.15.2.6")
def every_state_is_what_its_group_says_and_the_other_serves_on(t):
    for changed, other in ((2, 1), (1, 2)):
        through = session(t, changed, isid=b"\x80\x12\x34\x56\x00\x02")
        beside = session(t, other, isid=b"\x80\x12\x34\x56\x00\x02")
        with operator(t) as put:
            before = {1: (True, OPTIMIZED), 2: (False, NON_OPTIMIZED)}
            for word, (state, refusal, modes) in STATES.items():
                now = {changed: (False, state), other: (False, OPTIMIZED)}
                wanted = [CHANGED] if now != before else []
                assert put(f"{changed} {word}\n", now, through, beside) == [wanted, wanted], word
                before = now
                for cdb, edtl in ((p.TEST_UNIT_READY, 0), (p.read10(0, 1), 512)):
                    if refusal:
                        through.refused(cdb, refusal, edtl)
                    else:
                        through.good(cdb, edtl)
                    beside.good(cdb, edtl)
                through.good(MODE_SENSE, 255) if modes else through.refused(MODE_SENSE, refusal, 255)
                through.good(struct.pack(">BBBHB", 0x12, 0, 0, 96, 0), 96)
                through.good(struct.pack(">B5xIxx", 0xa0, 4096), 4096)
                assert report(through)[changed][3] == 2 or state == OPTIMIZED, "changed implicitly"
                assert report(through) == report(beside)


@rule("bonus", "SPC-4 6.37")
def writes_that_a_group_refuses_do_not_land(t):
    through, beside = session(t, 2), session(t, 1)
    beside.good(p.write10(7, 1), write=b"\x11" * 512)
    with operator(t) as put:
        told = put("2 standby\n", {1: (False, OPTIMIZED), 2: (False, STANDBY)}, through, beside)
        assert told == [[CHANGED], [CHANGED]], told
        through.refused(p.write10(7, 1), (2, 0x04, 0x0b), write=b"\x22" * 512)
        assert beside.good(p.read10(7, 1), 512).data == b"\x11" * 512


@rule("bonus", "SPC-4 6.45")
def initiators_change_states_where_the_file_lets_them(t):
    c, other = session(t, 1), session(t, 2)
    assert by_command(c, (2, STANDBY)).asc == (5, 0x20, 0x00), "not offered"
    with operator(t) as put:
        told = put("explicit yes\n1 nonoptimized\n", {1: (False, NON_OPTIMIZED), 2: (False, OPTIMIZED)}, c, other)
        assert told == [[INQUIRY_CHANGED, CHANGED]] * 2, told
        assert c.good(struct.pack(">BBBHB", 0x12, 0, 0, 96, 0), 96).data[5] & 0x30 == 0x30, "TPGS"
        assert by_command(c, (1, OPTIMIZED), (2, STANDBY)).status == p.GOOD
        assert attentions(c) == [] and attentions(other) == [CHANGED]
        other.refused(p.read10(0, 1), (2, 0x04, 0x0b), 512)
        assert report(other) == {1: (False, OPTIMIZED, 0xcf, 1, [1]), 2: (False, STANDBY, 0xcf, 1, [2])}
        assert by_command(c, (2, OFFLINE)).asc == (5, 0x26, 0x00), "nobody can ask for that"
        # Read again, the file says of group 2 what it said before: what the initiator has done stands.
        put("explicit yes\n1 unavailable\n", {1: (False, UNAVAILABLE), 2: (False, STANDBY)}, c, other)
        assert by_command(other, (2, NON_OPTIMIZED)).status == p.GOOD, "standby lets SET TARGET PORT GROUPS through"
        other.good(p.read10(0, 1), 512)
        put("2 standby\n", {1: (False, OPTIMIZED), 2: (False, STANDBY)}, c)
        assert by_command(c, (2, STANDBY)).asc == (5, 0x20, 0x00)


@rule("bonus", "--port-groups")
def a_file_that_is_wrong_changes_nothing(t):
    c = session(t, 1)
    for text, why in (("1 optimized preferred\n2 asleep\n", "line 2: 'asleep' is no state"),
                      ("3 optimized\n", "line 1: no portal has the tag 3"), ("1 standby\n1 standby\n", "line 2: group 1 stands")):
        before = len(told(t))
        hang_up(t, text)
        h.wait_for(lambda n=before: len(told(t)) > n, "a line in the log")
        assert why in told(t)[-1] and str(groups_file) in told(t)[-1], told(t)[-1]
        assert len(told(t)) == before + 1, "one line"
    before = len(told(t))
    groups_file.unlink()
    os.kill(t.server.pid, signal.SIGHUP)
    h.wait_for(lambda: len(told(t)) > before, "a line in the log")
    assert "No such file" in told(t)[-1], told(t)[-1]
    groups_file.write_text(AT_FIRST)
    assert until(c, {1: (True, OPTIMIZED), 2: (False, NON_OPTIMIZED)}) == []


@rule("bonus", "--port-groups")
def a_server_does_not_start_with_a_wrong_file(t):
    wrong = groups_file.with_name("wrong")
    for text, why in (("2 optimized\n# all\n1 on\n", "line 3: 'on' is no state"), ("explicit\n", "line 1: expected: explicit yes|no")):
        wrong.write_text(text)
        done = h.run([h.PERILUNE, "serve", "--portal", "127.0.0.1:0,1", "--portal", "127.0.0.1:0,2", "--port-groups", wrong, "null:1M"],
                     check=False)
        assert done.code == 2 and why in done.err and str(wrong) in done.err and done.err.count("\n") == 1, done
    done = h.run([h.PERILUNE, "serve", "--port-groups", "/nowhere/groups", "null:1M"], check=False)
    assert done.code == 1 and "/nowhere/groups" in done.err, done


if __name__ == "__main__":
    main("alua", "ram:32M", options=options)
