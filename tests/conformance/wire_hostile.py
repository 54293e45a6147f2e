#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What no initiator should send: broken framing, opcodes out of place, floods, peers that do not read, and peers that go
away in the midst of it. Everything is bounded and local; whoever else is logged in must not notice."""
import contextlib
import random
import socket
import struct

import raw_pdu as p
from rules import main, rule

TUR = p.TEST_UNIT_READY
NO_UNSOLICITED = ("InitialR2T=Yes", "ImmediateData=No")
UNSOLICITED = ("InitialR2T=No", "ImmediateData=Yes", "FirstBurstLength=65536")


def resident_kib(t):
    """Memory of the target; 0 under a sanitizer, whose shadow and quarantine grow by themselves."""
    with open(f"/proc/{t.server.pid}/status") as f:
        status = f.read()
    if int(status.split("VmSize:")[1].split()[0]) > 1 << 30:
        return 0
    return int(status.split("VmRSS:")[1].split()[0])


def ends(c, what):
    """The connection must be closed; a Reject before it is right, anything else not."""
    said = c.until_closed()
    assert all(pdu.opcode in (p.REJECT, p.LOGIN_RESPONSE) for pdu in said), f"{what}: {said}"
    assert all(pdu.opcode != p.LOGIN_RESPONSE or pdu.bhs[36] != 0 for pdu in said), f"{what}: {said}"


# ---- framing

@rule("framing", "RFC 7143 11.2")
def pieces_of_a_header(t):
    for logged_in in (False, True):
        for size in (0, 1, 4, 5, 8, 16, 47):
            c = t.session() if logged_in else t.connect()
            c.raw(p.nop_out(1, c.cmd_sn, c.exp_stat_sn)[:size])
            c.socket.shutdown(socket.SHUT_WR)
            assert not c.until_closed(), f"{size} bytes were answered"
    t.still_serves()


@rule("framing", "RFC 7143 13.12")
def data_segment_longer_than_declared_ends_the_connection(t):
    for length in (8193, 0x10000, 0xffffff):
        c = t.connect()
        c.raw(c.frame(p.login_request(0x87, c.isid), length=length))
        c.socket.shutdown(socket.SHUT_WR)
        ends(c, f"a login of {length} bytes")
    ours = int(t.session().params.get("MaxRecvDataSegmentLength", 8192))
    for length in (ours + 1, 0x800000, 0xffffff):
        for bhs in (p.nop_out(1, 1, 0), p.data_out(1, p.RESERVED_TAG, 0, 0, 0, True), p.text_request(1, 1, 0), p.logout_request(1, 1, 0),
                    p.snack(1, 0), p.task_management(1, 1, 0, 5), bytes([0x1f]) + bytes(47)):
            c = t.session()
            c.raw(c.frame(bhs, length=length))
            ends(c, f"{bhs[0]:02x}h of {length} bytes")
    t.still_serves()


@rule("framing", "RFC 7143 13.12")
def data_segment_as_long_as_declared_is_taken(t):
    c = t.session("InitialR2T=No", "ImmediateData=Yes", "FirstBurstLength=16777215", "MaxBurstLength=16777215")
    ours = min(int(c.params["MaxRecvDataSegmentLength"]), int(c.params["FirstBurstLength"]))
    data = bytes(i * 7 % 256 for i in range(ours))
    c.good(p.write10(0, ours // 512), write=data, immediate_data=ours)
    assert c.good(p.read10(0, ours // 512), ours).data == data


@rule("framing", "RFC 7143 11.2.1.4, 11.12")
def data_with_pdus_that_have_none(t):
    c = t.session()
    for bhs in (p.task_management(0x20, c.cmd_sn, 0, 1, 0, 0x999), p.snack(0x21, 0), p.logout_request(0x22, c.cmd_sn, 0, 1, cid=99)):
        c.send(bhs, b"z" * 1000)
    assert len(c.barrier()) == 3, "the data is skipped and the next header found"
    c.good(TUR)


@rule("framing", "RFC 7143 11.2.2")
def additional_header_segments_of_every_kind(t):
    one = struct.pack
    segments = {
        "one word of nothing": bytes(4), "255 words of nothing": bytes(1020), "255 words of ones": b"\xff" * 1020,
        "length 0": one(">HBx", 0, 1) + bytes(4), "overruns": one(">HBx", 0xffff, 1) + bytes(4),
        "unknown type": one(">HBx", 5, 0x3e) + bytes(4), "reserved type": one(">HBx", 5, 0xc1) + bytes(4),
        "two extended CDBs": (one(">HBx", 17, 1) + bytes(16)) * 2, "extended CDB of 1 KiB": one(">HBx", 1017, 1) + bytes(1016),
        "two read lengths": (one(">HBx", 5, 2) + bytes(4)) * 2, "an odd length": one(">HBx", 2, 1) + bytes(4),
    }
    for name, ahs in segments.items():
        for cdb, flags, edtl in ((TUR, p.FINAL, 0), (p.read10(0, 1), p.FINAL | p.READ, 512),
                                 (b"\x7f\0\0\0\0\0\0\x18\0\x09", p.FINAL | p.READ, 512)):
            c = t.session()
            itt = c.command(cdb, edtl, flags, ahs=ahs)
            said = c.barrier_or_end()
            assert len(said) <= 1 and all(pdu.itt in (itt, p.RESERVED_TAG) for pdu in said), f"{name}: {said}"
            c.close()
    for bhs in (p.nop_out(0x30, 1, 0), p.logout_request(0x31, 1, 0), p.text_request(0x32, 1, 0), p.task_management(0x33, 1, 0, 1)):
        c = t.session()
        c.send(bhs, ahs=b"\xff" * 1020)      # an AHS where none belongs: skipped, or the end
        c.barrier_or_end()
    c = t.connect()
    c.send(p.login_request(0x87, c.isid), p.keys(*c.names(t.iqn)), ahs=b"\xff" * 1020)
    c.until_closed()
    t.still_serves()


@rule("framing", "RFC 7143 11.2")
def pdus_split_at_every_byte(t):
    c = t.session(*UNSOLICITED, "HeaderDigest=CRC32C", "DataDigest=CRC32C")
    frame = c.frame(p.nop_out(0x40, c.cmd_sn, c.exp_stat_sn), b"12345")
    for at in range(1, len(frame)):
        c.raw(frame[:at])
        c.raw(frame[at:])
        assert c.expect(p.NOP_IN, 0x40).data == b"12345", f"split at {at}"
    for at in range(1, 48 + 4 + 512 + 4, 7):
        data = bytes([at % 256]) * 512
        frame = c.frame(p.scsi_command(0x41, c.take_cmd_sn(), c.exp_stat_sn, p.write10(0, 1).ljust(16, b"\0"), 0xa1, 512), data)
        c.raw(frame[:at])
        c.raw(frame[at:])
        assert c.finish(0x41).status == p.GOOD and c.good(p.read10(0, 1), 512).data == data


@rule("framing", "RFC 7143 11.2")
def a_session_one_byte_a_time(t):
    c = t.connect()
    text = p.keys(*c.names(t.iqn), *NO_UNSOLICITED, "MaxBurstLength=65536", "FirstBurstLength=512")
    for byte in c.frame(p.login_request(0x87, c.isid, cmd_sn=1), text):
        c.raw(bytes([byte]))
    c.learn(c.receive())
    c.clear_attentions()
    itt = c.command(p.write10(0, 1), 512, p.FINAL | p.WRITE)
    r2t = c.expect(p.R2T, itt)
    for byte in c.frame(p.data_out(itt, r2t.ttt, c.exp_stat_sn, 0, 0, True), b"\x42" * 512):
        c.raw(bytes([byte]))
    assert c.finish(itt).status == p.GOOD and c.good(p.read10(0, 1), 512).data == b"\x42" * 512


@rule("framing", "RFC 7143 11.2")
def many_pdus_in_one_segment(t):
    c = t.session(*NO_UNSOLICITED)
    c.raw(b"".join(c.frame(p.nop_out(0x1000 + n, c.cmd_sn, c.exp_stat_sn), b"x" * (n % 9)) for n in range(500)))
    for n in range(500):
        assert c.expect(p.NOP_IN, 0x1000 + n).data == b"x" * (n % 9)


# ---- opcodes

@rule("opcodes", "RFC 7143 11.2.1.2, 11.17.1")
def opcodes_that_are_no_request_are_rejected(t):
    for opcode in [*range(0x07, 0x10), *range(0x11, 0x20), *range(0x20, 0x40)]:
        c = t.session()
        bhs = bytes([opcode, 0x80]) + bytes(14) + struct.pack(">I", 0x50) + bytes(4) + struct.pack(">II", c.cmd_sn, c.exp_stat_sn) + bytes(16)
        c.send(bhs)
        said = c.barrier_or_end()
        assert all(pdu.opcode == p.REJECT and pdu.bhs[2] in (4, 5, 9) and pdu.data[:48] == bhs for pdu in said), f"{opcode:02x}h: {said}"
        assert said or c.ended, f"{opcode:02x}h was ignored"
        c.close()
    t.still_serves()


@rule("opcodes", "RFC 7143 11.2.1.1")
def immediate_bit_where_it_does_not_belong(t):
    c = t.session(*NO_UNSOLICITED)
    itt = c.command(p.write10(0, 1), 512, p.FINAL | p.WRITE)
    r2t = c.expect(p.R2T, itt)
    bhs = p.data_out(itt, r2t.ttt, c.exp_stat_sn, 0, 0, True)
    c.send(bytes([bhs[0] | p.IMMEDIATE]) + bhs[1:], b"\x01" * 512)
    said = c.barrier_or_end()
    assert all(pdu.opcode in (p.REJECT, p.SCSI_RESPONSE) for pdu in said), f"{said}"
    c = t.connect()                                       # a Login Request without it
    c.login_pdu(0x87, p.keys(*c.names(t.iqn)), opcode=p.LOGIN)
    with contextlib.suppress(p.Closed):
        assert c.receive().opcode == p.LOGIN_RESPONSE
    t.still_serves()


@rule("opcodes", "RFC 7143 11.16, 11.17.1")
def snack_at_recovery_level_0_is_rejected(t):
    c = t.session(*NO_UNSOLICITED)
    for kind in range(4):
        for itt, ttt, begin, run in ((p.RESERVED_TAG, p.RESERVED_TAG, 0, 0), (1, p.RESERVED_TAG, 0xffffffff, 0xffffffff), (7, 7, 0, 1)):
            bhs = p.snack(itt, c.exp_stat_sn, kind, ttt, begin, run)
            c.send(bhs)
            reject = c.expect(p.REJECT)
            assert reject.bhs[2] in (3, 4) and reject.data[:48] == bhs, f"SNACK {kind}: {reject}"
    c.good(TUR)


@rule("opcodes", "RFC 7143 11.17")
def reject_repeats_the_header(t):
    c = t.session()
    noise = random.Random(1)
    for _ in range(20):
        bhs = bytes([0x1d]) + noise.randbytes(3) + b"\0" + noise.randbytes(43)
        bhs = bhs[:5] + bytes(3) + bhs[8:]
        c.send(bhs)
        reject = c.expect(p.REJECT)
        assert reject.data == bhs and reject.itt == p.RESERVED_TAG and reject.bhs[1] == 0x80, f"{reject}"
        assert not any(reject.bhs[8:16]) and not any(reject.bhs[40:48]), "reserved bytes"


@rule("opcodes", "RFC 7143 7.12")
def logins_logouts_and_data_before_login(t):
    for opcode in range(0x40):
        if opcode == p.LOGIN:
            continue
        c = t.connect()
        c.send(bytes([opcode, 0x80]) + bytes(46))
        ends(c, f"{opcode:02x}h before login")
    t.still_serves()


# ---- floods and slow peers

@rule("floods", "limits of the target")
def garbage_after_login_harms_nobody(t):
    bystander = t.session()
    noise = random.Random(3720)
    before = resident_kib(t)
    for _ in range(100):
        c = t.session(*UNSOLICITED)
        for _ in range(4):
            bhs = bytearray(noise.randbytes(48))
            bhs[0] = noise.choice((0, 1, 2, 4, 5, 6, 0x10, 0x40, 0x41, 0x42, 0x44, 0x46, bhs[0]))
            bhs[4] = noise.choice((0, 0, 0, 1, 255))
            bhs[5:8] = noise.choice((0, 0, 4, 100, 512)).to_bytes(3, "big")
            if bhs[0] & 0x3f == p.TASK_MANAGEMENT:
                bhs[1] = 0x80 | noise.choice((0, 1, 2, 3, 8, 9, 127))    # the others are meant for everybody
            if noise.random() < 0.7:
                bhs[24:28] = struct.pack(">I", c.cmd_sn)
            c.raw(bytes(bhs) + noise.randbytes(noise.choice((0, 16, 512, 2048))))
        c.close()
    bystander.clear_attentions()
    t.still_serves()
    assert resident_kib(t) - before < 32768, f"the target has grown by {resident_kib(t) - before} KiB"


@rule("floods", "limits of the target")
def peer_that_does_not_read_is_not_read_from(t):
    bystander = t.session()
    before = resident_kib(t)
    deaf = []
    for _ in range(2):
        c = t.session("MaxRecvDataSegmentLength=16777215", "MaxBurstLength=16777215")
        c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.socket.settimeout(0.3)
        deaf.append(c)
        with contextlib.suppress(socket.timeout):        # until it takes no more
            for n in range(8000):                         # the buffers of the sockets take some of it
                c.socket.sendall(c.frame(p.nop_out(n, c.cmd_sn, c.exp_stat_sn), bytes(8192)))
            raise AssertionError("64 MiB of pings were taken from a peer that reads no answer")
    for _ in range(50):
        bystander.good(p.write10(0, 16), write=b"\x17" * 8192)
        assert bystander.good(p.read10(0, 16), 8192).data == b"\x17" * 8192
    assert resident_kib(t) - before < 65536, f"the target has grown by {resident_kib(t) - before} KiB"
    c = deaf[0]                                           # and when it reads, all the answers are there
    c.socket.settimeout(p.PATIENCE)
    assert c.receive().opcode == p.NOP_IN


@rule("floods", "limits of the target")
def reads_that_nobody_fetches_hold_up_nobody_else(t):
    bystander = t.session()
    before = resident_kib(t)
    for _ in range(4):
        c = t.session("MaxRecvDataSegmentLength=262144", "MaxBurstLength=1048576")
        c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.socket.settimeout(0.3)
        with contextlib.suppress(socket.timeout):
            for n in range(100):                          # 100 reads of 1 MiB, and not a byte taken
                c.socket.sendall(c.frame(p.scsi_command(0x2000 + n, c.cmd_sn, c.exp_stat_sn, p.read16(0, 2048), 0xc1, 1 << 20,
                                                        immediate=True)))
    for _ in range(50):
        bystander.good(p.write10(0, 16), write=b"\x18" * 8192)
        assert bystander.good(p.read10(0, 16), 8192).data == b"\x18" * 8192
    assert resident_kib(t) - before < 131072, f"the target has grown by {resident_kib(t) - before} KiB"


@rule("floods", "limits of the target")
def writes_that_never_send_their_data_hold_up_nobody_else(t):
    before = resident_kib(t)
    for _ in range(8):
        c = t.session(*NO_UNSOLICITED)
        for _ in range(64):
            while c.window[1] == (c.window[0] - 1) % 2**32:
                break
            else:
                c.command(p.write16(0, 2048), 1 << 20, p.FINAL | p.WRITE)
                c.barrier()
    bystander = t.session(*UNSOLICITED)
    for _ in range(20):
        done = bystander.run(p.write10(0, 16), write=b"\x19" * 8192)
        assert done.status in (p.GOOD, p.TASK_SET_FULL, p.BUSY), f"{done}"
        assert bystander.run(p.read10(0, 1), 512).status == p.GOOD
    assert resident_kib(t) - before < 131072


@rule("floods", "RFC 7143 6.3; limits of the target")
def silent_and_half_open_connections_hold_up_nobody(t):
    idle = [t.connect() for _ in range(100)]
    for index, c in enumerate(idle):
        if index % 2:
            c.raw(p.login_request(0x87, c.isid)[:index % 48])
    t.still_serves()
    with contextlib.closing(t.session()) as c:
        for _ in range(100):
            c.good(TUR)
    for c in idle[1::2]:                                  # and who was interrupted may go on
        c.close()
    late = idle[0]
    late.login(t.iqn)
    late.clear_attentions()


@rule("floods", "limits of the target")
def slow_trickle_beside_ordinary_work(t):
    slow = t.session(*NO_UNSOLICITED)
    frame = slow.frame(p.nop_out(0x60, slow.cmd_sn, slow.exp_stat_sn), b"slow")
    quick = t.session()
    for byte in frame:                                    # a byte, then somebody else's whole command, and so on
        slow.raw(bytes([byte]))
        quick.good(TUR)
    assert slow.expect(p.NOP_IN, 0x60).data == b"slow"


@rule("floods", "limits of the target")
def sessions_come_and_go(t):
    t.still_serves()
    before = resident_kib(t)
    for _ in range(300):
        c = t.session()
        c.good(TUR)
        c.close()
    t.still_serves()
    assert resident_kib(t) - before < 16384, f"the target has grown by {resident_kib(t) - before} KiB"


# ---- going away

@rule("races", "RFC 7143 6.3.6, 7")
def cut_in_every_byte_of_a_write(t):
    for cut in range(0, 48 + 512, 13):
        c = t.session(*UNSOLICITED)
        frame = c.frame(p.scsi_command(0x70, c.cmd_sn, c.exp_stat_sn, p.write10(0, 1).ljust(16, b"\0"), 0xa1, 512), b"\xcc" * 512)
        c.raw(frame[:cut])
        if cut % 2:
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))    # a reset
        c.close()
    t.still_serves()


@rule("races", "RFC 7143 6.3.5")
def reset_and_reinstatement_during_io(t):
    isid = t.connect().isid
    for round_number in range(20):
        c = t.connect(isid=isid).login(t.iqn, *NO_UNSOLICITED, "MaxBurstLength=4096", "FirstBurstLength=512")
        c.clear_attentions()
        itt = c.command(p.write10(0, 16), 8192, p.FINAL | p.WRITE)
        r2t = c.next(lambda pdu, tag=itt: pdu.itt == tag)
        if round_number % 3 == 0:
            c.manage(5)
        if round_number % 3 == 1:
            c.send(p.logout_request(0x80, c.cmd_sn, c.exp_stat_sn))
        c.raw(c.frame(p.data_out(itt, r2t.ttt, c.exp_stat_sn, 0, 0, False), b"\xdd" * 2048)[:1000])
    t.still_serves()


if __name__ == "__main__":
    main("hostile input", "ram:16M", "ram:16M")
