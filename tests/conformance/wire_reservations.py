#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reservations on the wire, of several initiators (SPC-4 5.13, 6.15, 6.16; SPC-2 for RESERVE and RELEASE), and what a disk
keeps over the death of its server: APTPL, saved mode pages, identifying information. LUN 0 is a file with a record of its
own, LUN 1 memory without one."""
import contextlib
import struct

import harness as h
import raw_pdu as p
from rules import main, rule

CONFLICT = 0x18
WE, EA, WE_RO, EA_RO, WE_AR, EA_AR = 1, 3, 5, 6, 7, 8
REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, REGISTER_AND_IGNORE, REGISTER_AND_MOVE = range(8)
PREEMPTED, RELEASED, REGISTRATION_PREEMPTED = (6, 0x2a, 3), (6, 0x2a, 4), (6, 0x2a, 5)
INVALID_CDB, INVALID_LIST, LIST_LENGTH, INVALID_RELEASE, SAVING = (
    (5, 0x24, 0), (5, 0x26, 0), (5, 0x1a, 0), (5, 0x26, 4), (5, 0x39, 0))
UNASKED_NOTHING = ("InitialR2T=Yes", "ImmediateData=No")
RESERVE_6, RELEASE_6 = bytes([0x16, 0, 0, 0, 0, 0]), bytes([0x17, 0, 0, 0, 0, 0])


def cdb_in(action, allocation=4096):
    return struct.pack(">BB5xHB", 0x5e, action, allocation, 0)


def out_list(key, action_key, flags=0):
    return struct.pack(">QQ4xBxxx", key, action_key, flags)


def cdb_out(action, kind=0, length=24):
    return struct.pack(">BBBxxIB", 0x5f, action, kind, length, 0)


def transport_id(name, isid=None):
    """SPC-4 7.6.4.6: of a port with `isid`, of a device without."""
    text = name.encode() + (b",i,0x" + isid.hex().encode() if isid else b"") + b"\0"
    text = text.ljust(max(20, len(text) + -len(text) % 4), b"\0")
    return struct.pack(">BxH", 0x45 if isid else 0x05, len(text)) + text


class Node:
    """An initiator: a session whose attentions have been told."""

    def __init__(self, t, name, lun=0, connection=None, pairs=(), **fields):
        self.connection = connection or t.session(*pairs, name=f"iqn.2026-11.io.perilune:{name}", luns=(0, 1), **fields)
        self.lun = lun
        self.immediate = 0 if "ImmediateData=No" in pairs else None
        self.port = transport_id(self.connection.name, self.connection.isid)

    def run(self, cdb, *args, **fields):
        return self.connection.run(cdb, *args, lun=self.lun, **fields)

    def out(self, action, key, action_key=0, kind=0, flags=0):
        return self.run(cdb_out(action, kind), write=out_list(key, action_key, flags), immediate_data=self.immediate).status

    def do(self, *args, **fields):
        status = self.out(*args, **fields)
        assert status == p.GOOD, f"PERSISTENT RESERVE OUT {args} ended in {status:#x}"
        return self

    def refused(self, action, asc, parameters, kind=0, byte=None):
        result = self.run(cdb_out(action, kind, len(parameters)), write=parameters)
        assert result.status == p.CHECK_CONDITION and result.asc == asc, f"{action}: {result}"
        if byte is not None:
            assert result.sense[15] & 0xc0 == 0x80 and int.from_bytes(result.sense[16:18], "big") == byte, result.sense.hex()

    def read(self):
        return self.run(p.read10(0, 1), 512).status

    def write(self):
        return self.run(p.write10(0, 1), write=b"\x77" * 512, immediate_data=self.immediate).status

    def told(self):
        """The next unit attention; None when there is none."""
        result = self.run(p.TEST_UNIT_READY)
        return result.asc if result.status == p.CHECK_CONDITION else None

    def get(self, action):
        result = self.run(cdb_in(action), 4096)
        assert result.status == p.GOOD, f"PERSISTENT RESERVE IN {action} ended in {result}"
        generation, length = struct.unpack(">II", result.data[:8])
        assert len(result.data) == 8 + length
        return generation, bytes(result.data[8:])

    def keys(self):
        data = self.get(0)[1]
        return [k for k, in struct.iter_unpack(">Q", data)]

    def reservation(self):
        """(key, type) or None."""
        data = self.get(1)[1]
        return (int.from_bytes(data[:8], "big"), data[13]) if data else None


@contextlib.contextmanager
def nodes(t, count=2, lun=0):
    """Initiators a, b, … of a unit without registrations; and it has none behind them."""
    made = [Node(t, "abcd"[i], lun) for i in range(count)]
    try:
        yield made
    finally:
        Node(t, "z", lun).do(REGISTER_AND_IGNORE, 0, 0xdead).do(CLEAR, 0xdead)


# ---- registrations

@rule(14, "SPC-4 5.13.7, 6.15.2")
def registering_changing_and_leaving(t):
    with nodes(t) as (a, b):
        first = a.get(0)[0]
        assert a.out(REGISTER, 1, 0x11) == CONFLICT, "not registered, and yet a key"
        a.do(REGISTER, 0, 0x11)
        b.do(REGISTER, 0, 0x22)
        assert a.keys() == [0x11, 0x22] and a.get(0)[0] == first + 2
        assert b.out(REGISTER, 0x11, 0x33) == CONFLICT, "somebody else's key"
        b.do(REGISTER, 0x22, 0x33)
        b.do(REGISTER_AND_IGNORE, 0x99, 0x44)
        assert a.keys() == [0x11, 0x44]
        b.do(REGISTER, 0x44, 0)
        assert a.keys() == [0x11] and a.get(0)[0] == first + 5
        b.do(REGISTER, 0, 0)
        assert a.get(0)[0] == first + 5, "nothing was done"


@rule(14, "SPC-4 5.13.1; RFC 7143 4.4.3")
def registrations_outlive_sessions(t):
    with nodes(t) as (a, b):
        a.do(REGISTER, 0, 0x11).do(RESERVE, 0x11, kind=EA)
        isid = a.connection.isid
        assert a.connection.logout().bhs[2] == 0
        assert b.read() == CONFLICT
        again = Node(t, "a", isid=isid)
        assert again.read() == p.GOOD and again.keys() == [0x11]
        reinstated = Node(t, "a", isid=isid)      # TSIH 0 and the same ISID
        assert again.connection.until_closed() is not None
        assert reinstated.write() == p.GOOD
        other = Node(t, "a")                       # another ISID is another nexus
        assert other.read() == CONFLICT
        reinstated.do(RELEASE, 0x11, kind=EA)


@rule(14, "SPC-4 5.13.7, 7.6.4.6")
def ports_may_be_registered_by_another(t):
    with nodes(t, 3) as (a, b, c):
        ports = b.port + transport_id(c.connection.name)
        parameters = out_list(0, 0x11, 0x08) + struct.pack(">I", len(ports)) + ports
        assert a.run(cdb_out(REGISTER, 0, len(parameters)), write=parameters).status == p.GOOD
        assert a.keys() == [0x11] * 3
        b.do(RESERVE, 0x11, kind=WE)
        c.do(REGISTER, 0x11, 0)


@rule(14, "SPC-4 6.15.5, 7.6.4.6")
def full_status_names_every_port(t):
    with nodes(t) as (a, b):
        a.do(REGISTER, 0, 0x11)
        b.do(REGISTER, 0, 0x22).do(RESERVE, 0x22, kind=WE_RO)
        data = a.get(3)[1]
        for node, key, holder in ((a, 0x11, 0), (b, 0x22, 1)):
            assert struct.unpack(">Q", data[:8])[0] == key
            assert data[12] == holder and data[13] == (WE_RO if holder else 0)
            assert data[18:20] == b"\0\1", "relative target port 1"
            length = int.from_bytes(data[20:24], "big")
            assert data[24:24 + length] == node.port, f"{data[24:24 + length]} is not {node.port}"
            data = data[24 + length:]
        assert not data


@rule(14, "SPC-4 6.15.4")
def capabilities_are_told(t):
    a = Node(t, "a")
    for lun, persists in ((0, 1), (1, 0)):
        data = a.connection.good(cdb_in(2), 4096, lun=lun).data
        assert bytes(data) == bytes([0, 8, 0x1c | persists, 0xb0, 0xea, 1, 0, 0]), data.hex()


@rule(14, "SPC-4 6.16.3, 6.16.4")
def malformed_lists_are_refused_and_change_nothing(t):
    with nodes(t, 2) as (a, b):
        before = a.get(0)[0]
        for length in (0, 8, 23):
            result = a.run(cdb_out(REGISTER, 0, length), write=bytes(length) if length else None)
            assert result.asc == LIST_LENGTH, f"{length}: {result}"
        a.refused(REGISTER, LIST_LENGTH, out_list(0, 1) + bytes(4))
        a.refused(REGISTER, INVALID_LIST, out_list(0, 1, 0x02), byte=20)
        a.refused(REGISTER, INVALID_LIST, out_list(0, 1, 0x80), byte=20)
        a.refused(RESERVE, INVALID_LIST, out_list(0, 1, 0x08) + struct.pack(">I", len(b.port)) + b.port, kind=WE, byte=20)
        for bad, byte in ((b"\x46" + b.port[1:], 28), (b.port[:3] + b"\x10" + b.port[4:], 30), (b.port[:-1] + b"x", None),
                          (transport_id("iqn.nobody"), 28)):
            if byte is None:
                bad = bad[:4] + b"x" * (len(bad) - 4)          # a name without an end
                byte = 32
            a.refused(REGISTER, INVALID_LIST, out_list(0, 1, 0x08) + struct.pack(">I", len(bad)) + bad, byte=byte)
        a.refused(REGISTER, INVALID_LIST, out_list(0, 1, 0x08) + struct.pack(">I", 9999) + b.port, byte=24)
        assert a.run(cdb_out(8), write=out_list(0, 1)).asc == INVALID_CDB
        assert a.run(cdb_in(4), 64).asc == INVALID_CDB
        for kind in (0, 2, 4, 9, 0x11):
            a.refused(RESERVE, INVALID_CDB, out_list(0, 0), kind=kind)
        assert a.get(0) == (before, b"")


# ---- reservations

@rule(14, "SPC-4 table 66; SBC-3 table 13")
def types_let_through_what_they_should(t):
    # (registrant reads, writes), (stranger reads, writes)
    table = {WE: ((1, 0), (1, 0)), EA: ((0, 0), (0, 0)), WE_RO: ((1, 1), (1, 0)), EA_RO: ((1, 1), (0, 0)), WE_AR: ((1, 1), (1, 0)),
             EA_AR: ((1, 1), (0, 0))}
    with nodes(t, 3) as (a, b, c):
        a.do(REGISTER, 0, 0x11)
        b.do(REGISTER, 0, 0x22)
        for kind, (registrant, stranger) in table.items():
            a.do(RESERVE, 0x11, kind=kind)
            assert c.reservation() == (0 if kind in (WE_AR, EA_AR) else 0x11, kind)
            assert (a.read(), a.write()) == (p.GOOD, p.GOOD)
            for node, (reads, writes) in ((b, registrant), (c, stranger)):
                assert node.read() == (p.GOOD if reads else CONFLICT), f"type {kind}"
                assert node.write() == (p.GOOD if writes else CONFLICT), f"type {kind}"
            for cdb, edtl in ((p.inquiry(), 255), (p.report_luns(), 4096), (p.request_sense(), 252), (p.TEST_UNIT_READY, 0),
                              (struct.pack(">B9x", 0x25), 8)):
                assert c.run(cdb, edtl).status == p.GOOD, f"{cdb.hex()} under type {kind}"
            assert c.run(p.mode_sense6(0x0a), 255).status == (p.GOOD if kind in (WE, WE_RO, WE_AR) else CONFLICT)
            a.do(RELEASE, 0x11, kind=kind)
            assert b.told() == (None if kind in (WE, EA) else RELEASED)
            assert c.told() is None


@rule(14, "SPC-4 5.13.9, 5.13.11.2.2")
def reserving_and_releasing(t):
    with nodes(t) as (a, b):
        assert a.out(RESERVE, 0, kind=WE) == CONFLICT, "not registered"
        a.do(REGISTER, 0, 0x11)
        b.do(REGISTER, 0, 0x22)
        assert a.out(RESERVE, 0x12, kind=WE) == CONFLICT
        a.do(RESERVE, 0x11, kind=WE_RO).do(RESERVE, 0x11, kind=WE_RO)
        assert a.out(RESERVE, 0x11, kind=EA_RO) == CONFLICT and b.out(RESERVE, 0x22, kind=WE_RO) == CONFLICT
        b.do(RELEASE, 0x22, kind=WE_RO)
        assert a.reservation() == (0x11, WE_RO), "it is not b's to release"
        a.refused(RELEASE, INVALID_RELEASE, out_list(0x11, 0), kind=WE)
        a.do(REGISTER, 0x11, 0)
        assert a.reservation() is None and b.told() == RELEASED, "a holder that leaves"


@rule(14, "SPC-4 5.13.10, 5.13.11.2.3")
def all_registrants_hold_together(t):
    with nodes(t) as (a, b):
        a.do(REGISTER, 0, 0x11).do(RESERVE, 0x11, kind=EA_AR)
        b.do(REGISTER, 0, 0x22).do(RESERVE, 0x22, kind=EA_AR)
        a.do(REGISTER, 0x11, 0)
        assert b.reservation() == (0, EA_AR) and a.read() == CONFLICT
        b.do(REGISTER, 0x22, 0)
        assert a.reservation() is None and a.read() == p.GOOD


@rule(14, "SPC-4 5.13.11.2.4")
def preempting(t):
    with nodes(t, 3) as (a, b, c):
        a.do(REGISTER, 0, 0x11)
        b.do(REGISTER, 0, 0x22)
        c.do(REGISTER, 0, 0x33)
        a.do(RESERVE, 0x11, kind=WE_RO)
        generation = a.get(0)[0]
        assert b.out(PREEMPT, 0x22, 0x77, kind=WE_RO) == CONFLICT, "nobody's key"
        b.refused(PREEMPT, INVALID_LIST, out_list(0x22, 0), kind=WE_RO, byte=8)
        b.do(PREEMPT, 0x22, 0x11, kind=EA_RO)
        assert b.reservation() == (0x22, EA_RO) and b.keys() == [0x22, 0x33] and b.get(0)[0] == generation + 1
        assert a.told() == REGISTRATION_PREEMPTED and c.told() == RELEASED and a.told() is None
        assert a.write() == CONFLICT and c.write() == p.GOOD
        b.do(PREEMPT, 0x22, 0x22, kind=WE_AR)                # of itself: another type, and nobody left out meanwhile
        assert b.reservation() == (0, WE_AR) and c.told() == RELEASED
        c.do(PREEMPT, 0x33, 0, kind=WE)                      # of all registrants
        assert c.reservation() == (0x33, WE) and c.keys() == [0x33] and b.told() == REGISTRATION_PREEMPTED


@rule(14, "SPC-4 5.13.11.2.6")
def clearing(t):
    with nodes(t) as (a, b):
        a.do(REGISTER, 0, 0x11).do(RESERVE, 0x11, kind=EA)
        b.do(REGISTER, 0, 0x22)
        assert b.out(CLEAR, 0x11) == CONFLICT
        b.do(CLEAR, 0x22)
        assert a.told() == PREEMPTED and b.told() is None
        assert b.keys() == [] and b.reservation() is None


@rule(14, "SPC-4 5.13.8")
def moving(t):
    with nodes(t) as (a, b):
        a.do(REGISTER, 0, 0x11).do(RESERVE, 0x11, kind=EA)
        for unregister, giver, taker, key, taken in ((0, a, b, 0x11, 0x22), (2, b, a, 0x22, 0x33)):
            parameters = struct.pack(">QQxBHI", key, taken, unregister, 1, len(taker.port)) + taker.port
            assert giver.run(cdb_out(REGISTER_AND_MOVE, 0, len(parameters)), write=parameters).status == p.GOOD
            assert taker.read() == p.GOOD and giver.read() == CONFLICT
        assert a.keys() == [0x33]
        bad = struct.pack(">QQxBHI", 0x33, 0x44, 0, 7, len(b.port)) + b.port
        a.refused(REGISTER_AND_MOVE, INVALID_LIST, bad, byte=18)


# ---- fencing

@rule(14, "SPC-4 5.13.11.2.4, 5.13.1")
def a_write_that_waits_for_its_data_is_fenced(t):
    with nodes(t, 2) as (a, _):
        slow = Node(t, "slow", pairs=UNASKED_NOTHING)
        a.do(REGISTER, 0, 0x11).do(RESERVE, 0x11, kind=WE_RO)
        slow.do(REGISTER, 0, 0x22)
        a.run(p.write10(5, 1), write=b"\x01" * 512)
        itt = slow.connection.command(p.write10(5, 1), 512, p.FINAL | p.WRITE)
        r2t = slow.connection.next(lambda pdu: pdu.itt == itt)
        a.do(PREEMPT, 0x11, 0x22)
        slow.connection.answer_r2t(r2t, b"\x02" * 512)
        assert slow.connection.finish(itt).status == CONFLICT
        assert bytes(a.run(p.read10(5, 1), 512).data) == b"\x01" * 512


@rule(14, "SPC-4 5.13.11.2.5")
def preempt_and_abort_waits_for_nobody_who_is_fenced(t):
    for lun in (0, 1):                            # in staged and in lent memory
        with nodes(t, 2, lun) as (a, _):
            slow = Node(t, "slow", lun, pairs=UNASKED_NOTHING)
            a.do(REGISTER, 0, 0x11).do(RESERVE, 0x11, kind=WE_RO)
            slow.do(REGISTER, 0, 0x22)
            itt = slow.connection.command(p.write10(5, 1), 512, p.FINAL | p.WRITE, lun=lun)
            r2t = slow.connection.next(lambda pdu: pdu.itt == itt)   # and its data never comes
            a.do(PREEMPT_AND_ABORT, 0x11, 0x22)
            assert a.keys() == [0x11]
            slow.connection.answer_r2t(r2t, b"\x02" * 512, lun=lun)  # now it does
            slow.connection.silent("an aborted write")
            assert slow.told() == (6, 0x2f, 0) and slow.told() == REGISTRATION_PREEMPTED
            assert slow.write() == CONFLICT


# ---- RESERVE and RELEASE

@rule(14, "SPC-2 7.17, 7.21; SPC-4 5.13.3")
def reserve_and_persistent_reserve_exclude_each_other(t):
    with nodes(t) as (a, b):
        assert a.run(RESERVE_6).status == p.GOOD
        assert b.run(RESERVE_6).status == CONFLICT and b.read() == CONFLICT and b.run(p.TEST_UNIT_READY).status == CONFLICT
        assert b.run(RELEASE_6).status == p.GOOD and b.read() == CONFLICT, "not b's to release"
        assert a.out(REGISTER, 0, 0x11) == CONFLICT and a.run(cdb_in(0), 64).status == CONFLICT
        assert a.run(bytes([0x57]) + bytes(9)).status == p.GOOD
        assert b.read() == p.GOOD
        a.do(REGISTER, 0, 0x11)
        assert a.run(RESERVE_6).status == CONFLICT, "registered, but not reserved"
        a.do(RESERVE, 0x11, kind=EA)
        assert a.run(RESERVE_6).status == p.GOOD and a.reservation() == (0x11, EA), "the holder may (CRH)"
        assert b.run(RESERVE_6).status == CONFLICT and b.run(RELEASE_6).status == CONFLICT


@rule(14, "SPC-2 5.5.1, 7.21.2")
def reserve_ends_with_its_session_and_with_a_reset(t):
    with nodes(t) as (a, b):
        c = Node(t, "c")
        assert c.run(RESERVE_6).status == p.GOOD and b.read() == CONFLICT
        c.connection.logout()
        # The session is over when its connection is closed, soon after the answer.
        h.wait_for(lambda: b.read() == p.GOOD, "the end of the reservation", 10)
        assert b.run(RESERVE_6).status == p.GOOD and a.read() == CONFLICT
        assert a.connection.managed(a.connection.manage(5)) == 0        # LOGICAL UNIT RESET
        assert a.connection.clear_attentions((0, 1)) and a.read() == p.GOOD
        b.connection.clear_attentions((0, 1))


@rule(14, "SPC-2 7.21.3")
def third_parties_are_refused(t):
    a = Node(t, "a")
    for cdb in (bytes([0x16, 0x10, 0, 0, 0, 0]), bytes([0x17, 0x12, 0, 0, 0, 0]), bytes([0x56, 0x10, 0, 7]) + bytes(6),
                bytes([0x57, 0x02]) + bytes(5) + b"\0\x08\0"):
        assert a.run(cdb).asc == INVALID_CDB, cdb.hex()


# ---- over the death of the server

def identifying(length, kind=0):
    return struct.pack(">BB4xIBB", 0xa4, 6, length, kind << 1, 0)


@rule(14, "SPC-4 5.13.5, 6.12, 6.43")
def what_was_answered_survives_kill_9(t):
    """Each GOOD is followed by a kill: the next server must say what was answered."""
    with contextlib.ExitStack() as stack:
        folder = h.temp_dir(stack)
        disk = folder / "disk"
        disk.write_bytes(bytes(1 << 20))
        options = ("--state", folder / "state", "--target", t.iqn + ".kept")
        isids = {name: struct.pack(">HI", 0x8001, number) for number, name in enumerate("ab")}

        class Life:
            def __init__(self):
                self.server = h.Serve([disk], options)
                stack.callback(self.kill)

            def node(self, name):
                connection = p.Connection((self.server.host, self.server.port), name=f"iqn.2026-11.io.perilune:{name}",
                                          isid=isids[name])
                stack.callback(connection.close)
                return Node(t, name, connection=connection.login(self.server.iqn).clear_attentions())

            def kill(self):
                self.server.process.kill()
                self.server.process.wait()

        def relive(life):
            life.kill()
            life = Life()
            return life, life.node("a"), life.node("b")

        life = Life()
        a, b = life.node("a"), life.node("b")
        a.do(REGISTER, 0, 0x11, flags=1)
        life, a, b = relive(life)
        assert a.keys() == [0x11] and a.get(0)[0] == 0, "PRGENERATION begins again"
        b.do(REGISTER, 0, 0x22, flags=1)
        a.do(RESERVE, 0x11, kind=WE_RO)
        life, a, b = relive(life)
        assert a.keys() == [0x11, 0x22] and b.reservation() == (0x11, WE_RO)
        assert a.run(cdb_in(2), 64).data[3] & 1, "PTPL_A"
        b.do(PREEMPT, 0x22, 0x11, kind=EA)
        page = bytearray(bytes(4) + bytes(b.run(p.mode_sense6(0x0a), 255).data[4:]))
        assert page[4] & 0x80, "PS"
        page[4] &= 0x7f
        page[6] |= 4                              # D_SENSE
        assert b.run(p.mode_select6(len(page), sp=True), write=bytes(page)).status == p.GOOD
        assert b.run(identifying(4), write=b"name").status == p.GOOD
        life, a, b = relive(life)
        assert b.reservation() == (0x22, EA) and b.keys() == [0x22] and a.read() == CONFLICT and b.read() == p.GOOD
        assert b.run(p.mode_sense6(0x0a, control=3), 255).data[6] & 4 and b.run(p.mode_sense6(0x0a), 255).data[6] & 4
        assert b.run(p.read10(0xffffffff, 1), 512).sense[0] == 0x72, "D_SENSE counts"
        assert bytes(b.run(struct.pack(">BB4xIBB", 0xa3, 5, 64, 0, 0), 64).data) == b"\0\0\0\4name"
        b.do(REGISTER, 0x22, 0x33, flags=0)       # APTPL is over, durably
        life, a, b = relive(life)
        assert b.keys() == [] and b.reservation() is None and a.read() == p.GOOD

        record, = [f for f in (folder / "state").iterdir() if f.name.startswith("unit-")]
        sound = record.read_bytes()
        second = h.run([h.PERILUNE, "serve", "--portal", "127.0.0.1:0", "--state", folder / "state", disk], timeout=30, check=False)
        assert second.code == 1 and "in use by another process" in second.err, second.err
        life.kill()
        for bad in (sound[:-1], sound[:-1] + bytes([sound[-1] ^ 1]), b""):
            record.write_bytes(bad)
            refused = h.run([h.PERILUNE, "serve", "--portal", "127.0.0.1:0", "--state", folder / "state", disk], timeout=30, check=False)
            assert refused.code == 1 and record.name in refused.err and "damaged" in refused.err, refused.err


@rule(14, "SPC-4 6.16.3, 6.12.5")
def without_a_record_nothing_is_promised(t):
    with nodes(t, 2, lun=1) as (a, _):
        a.refused(REGISTER, INVALID_LIST, out_list(0, 0x11, 0x01), byte=20)
        assert a.keys() == []
        assert a.run(p.mode_sense6(0x0a, control=3), 255).asc == SAVING
        assert a.run(p.mode_select6(0, sp=True)).asc == INVALID_CDB
        assert a.run(struct.pack(">BB4xIBB", 0xa3, 5, 64, 0, 0), 64).status == p.CHECK_CONDITION
        assert not a.run(p.mode_sense6(0x0a), 255).data[4] & 0x80


def disk(folder):
    path = folder / "disk"
    path.write_bytes(bytes(16 << 20))
    return path


main("reservations", disk, "ram:16M", options=lambda folder: ("--state", folder / "state"))
