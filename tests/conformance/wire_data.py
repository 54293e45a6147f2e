#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Data transfer on the wire: Data-In, unsolicited data, R2T, digests (RFC 7143 4.2.2.4, 7.8, 11.3, 11.7, 11.8, 13.1)."""
import struct

import raw_pdu as p
from rules import main, rule

TUR = p.TEST_UNIT_READY
NO_UNSOLICITED = ("InitialR2T=Yes", "ImmediateData=No")
UNSOLICITED = ("InitialR2T=No", "ImmediateData=Yes")
BURSTS = ("MaxBurstLength=8192", "FirstBurstLength=4096", "MaxOutstandingR2T=1")


def pattern(size, seed=1):
    return bytes((i * 31 + i // 256 * 17 + seed) % 256 for i in range(size))


def not_taken(c, what, swallowed=False):
    """The target must end the connection, reject, or fail the command; `swallowed`: or say nothing."""
    answers = [pdu for pdu in c.barrier_or_end() if pdu.opcode != p.R2T]
    for pdu in answers:
        assert pdu.opcode == p.REJECT or pdu.opcode == p.SCSI_RESPONSE and pdu.bhs[3] == p.CHECK_CONDITION, f"{what}: {pdu}"
    assert c.ended or answers or swallowed, f"{what} was ignored"


# ---- Data-In

@rule(3, "RFC 7143 11.7.5, 4.2.2.4")
def data_in_is_numbered_from_zero_per_command(t):
    c = t.session("MaxRecvDataSegmentLength=1024")
    for _ in range(3):
        pdus = c.good(p.read10(0, 8), 4096).pdus
        assert [pdu.u32(36) for pdu in pdus] == [0, 1, 2, 3], "DataSN"
        assert [pdu.u32(40) for pdu in pdus] == [0, 1024, 2048, 3072], "Buffer Offset"


@rule(3, "RFC 7143 11.7.2, 13.13")
def data_in_sequences_end_with_f_at_max_burst_length(t):
    c = t.session("MaxRecvDataSegmentLength=1024", *BURSTS)
    pdus = c.good(p.read10(0, 40), 20480).pdus
    burst = 0
    for pdu in pdus:
        burst += len(pdu.data)
        assert burst <= 8192, "a sequence longer than MaxBurstLength"
        if pdu.flags & p.FINAL:
            burst = 0
    assert sum(bool(pdu.flags & p.FINAL) for pdu in pdus) == 3 and pdus[-1].flags & p.FINAL
    assert all(pdu.flags & 0x40 == 0 and pdu.ttt == p.RESERVED_TAG for pdu in pdus), "A bit or a tag at recovery level 0"


@rule(3, "RFC 7143 11.4.8")
def exp_data_sn_is_the_number_of_r2ts(t):
    c = t.session(*NO_UNSOLICITED, *BURSTS)
    done = c.run(p.write10(0, 40), write=pattern(20480), immediate_data=0)
    assert len(done.r2ts) == 3 and done.last.u32(36) == 3, f"ExpDataSN {done.last.u32(36)} after {len(done.r2ts)} R2Ts"
    assert [r.u32(36) for r in done.r2ts] == [0, 1, 2], "R2TSN"
    done = c.run(p.write10(0, 1), write=pattern(512), immediate_data=0)
    assert done.r2ts[0].u32(36) == 0 and done.last.u32(36) == 1, "R2TSN begins anew with each command"
    assert c.run(TUR).last.u32(36) == 0, "0 when nothing was sent"


@rule(3, "RFC 7143 4.2.2.4, 11.7.5")
def data_out_is_numbered_from_zero_per_r2t(t):
    c = t.session(*NO_UNSOLICITED, *BURSTS)
    data = pattern(16384)
    itt = c.command(p.write10(0, 32), 16384, p.FINAL | p.WRITE)
    for offset in (0, 8192):
        r2t = c.expect(p.R2T, itt)
        assert r2t.u32(40) == offset
        for sn in range(8):
            c.data_out(itt, r2t.ttt, sn, offset + sn * 1024, data[offset + sn * 1024:][:1024], sn == 7)
    assert c.finish(itt).status == p.GOOD
    assert c.good(p.read10(0, 32), 16384).data == data


@rule("data", "RFC 7143 11.7.5, 7.9")
def data_out_out_of_sequence_is_not_taken(t):
    for number, offset in ((1, 0), (0, 512), (0, 0xfffffe00), (7, 0)):
        c = t.session(*NO_UNSOLICITED, *BURSTS)
        itt = c.command(p.write10(0, 4), 2048, p.FINAL | p.WRITE)
        r2t = c.expect(p.R2T, itt)
        c.data_out(itt, r2t.ttt, number, offset, pattern(2048), True)
        not_taken(c, f"DataSN {number}, offset {offset:#x}")


# ---- unsolicited data

@rule(4, "RFC 7143 11.3.4, 13.11")
def immediate_data_is_the_beginning(t):
    c = t.session(*UNSOLICITED, *BURSTS)
    data = pattern(6144, 2)
    itt = c.command(p.write10(0, 12), 6144, p.FINAL | p.WRITE, data[:1000])
    r2t = c.expect(p.R2T, itt)
    assert (r2t.u32(40), r2t.u32(44)) == (1000, 5144), "the R2T begins behind the immediate data"
    c.answer_r2t(r2t, data)
    assert c.finish(itt).status == p.GOOD
    assert c.good(p.read10(0, 12), 6144).data == data


@rule(4, "RFC 7143 11.3.1, 11.7.2, 13.10, 13.14")
def f_bit_of_the_command_says_whether_data_follows(t):
    data = pattern(6144, 3)
    for immediate, unsolicited in ((0, 4096), (1024, 3072), (512, 512), (4096, 0), (0, 512), (1000, 1)):
        c = t.session(*UNSOLICITED, *BURSTS)
        itt = c.command(p.write10(0, 12), 6144, p.WRITE if unsolicited else p.FINAL | p.WRITE, data[:immediate])
        sn = 0
        while unsolicited:
            part = min(unsolicited, 700)
            unsolicited -= part
            begin = immediate + sn * 700
            c.data_out(itt, p.RESERVED_TAG, sn, begin, data[begin:begin + part], unsolicited == 0)
            sn += 1
            sent = begin + part
        r2t = c.expect(p.R2T, itt)
        assert r2t.u32(40) == (sent if sn else immediate), "the R2T begins behind the unsolicited data"
        c.answer_r2t(r2t, data)
        assert c.finish(itt).status == p.GOOD
        assert c.good(p.read10(0, 12), 6144).data == data
        c.close()


@rule(4, "RFC 7143 13.10")
def initial_r2t_no_is_a_permission(t):
    c = t.session(*UNSOLICITED, *BURSTS)
    data = pattern(4096, 4)
    itt = c.command(p.write10(0, 8), 4096, p.FINAL | p.WRITE)       # F: nothing comes unasked
    assert c.expect(p.R2T, itt).u32(40) == 0
    itt2 = c.command(p.write10(16, 8), 4096, p.WRITE)
    c.data_out(itt2, p.RESERVED_TAG, 0, 0, data, True)
    assert c.finish(itt2).status == p.GOOD, "each command for itself"


@rule(4, "RFC 7143 11.4, 13.10")
def refused_write_is_answered_after_its_unsolicited_data(t):
    c = t.session(*UNSOLICITED, *BURSTS)
    itt = c.command(p.write10(0xfffffff0, 8), 4096, p.WRITE, pattern(512))   # beyond the medium
    c.silent("a write whose unsolicited data has not ended")
    c.data_out(itt, p.RESERVED_TAG, 0, 512, pattern(3584), True)
    assert c.finish(itt).asc == (5, 0x21, 0x00)
    c.good(TUR)


@rule("data", "RFC 7143 11.3.4, 13.10, 13.11, 13.14")
def unsolicited_data_beyond_what_was_agreed_is_not_taken(t):
    def over_first_burst(c):
        c.command(p.write10(0, 12), 6144, p.FINAL | p.WRITE, pattern(4097))

    def over_transfer_length(c):
        c.command(p.write10(0, 1), 512, p.FINAL | p.WRITE, pattern(513))

    def data_out_over_first_burst(c):
        itt = c.command(p.write10(0, 12), 6144, p.WRITE, pattern(4000))
        c.data_out(itt, p.RESERVED_TAG, 0, 4000, pattern(97), True)

    def data_out_over_transfer_length(c):
        itt = c.command(p.write10(0, 1), 512, p.WRITE)
        c.data_out(itt, p.RESERVED_TAG, 0, 0, pattern(513), True)

    def overlapping(c):
        itt = c.command(p.write10(0, 2), 1024, p.WRITE)
        c.data_out(itt, p.RESERVED_TAG, 0, 0, pattern(512), False)
        c.data_out(itt, p.RESERVED_TAG, 1, 256, pattern(512), True)

    def with_a_hole(c):
        itt = c.command(p.write10(0, 4), 2048, p.WRITE)
        c.data_out(itt, p.RESERVED_TAG, 0, 512, pattern(512), True)

    def after_its_end(c):
        itt = c.command(p.write10(0, 8), 4096, p.WRITE)
        c.data_out(itt, p.RESERVED_TAG, 0, 0, pattern(512), True)
        c.data_out(itt, p.RESERVED_TAG, 1, 512, pattern(512), True)

    def of_a_command_with_f(c):
        itt = c.command(p.write10(0, 8), 4096, p.FINAL | p.WRITE)
        c.data_out(itt, p.RESERVED_TAG, 0, 0, pattern(512), True)

    def of_a_read(c):
        c.command(p.read10(0, 1), 512, p.FINAL | p.READ, pattern(512))

    def of_no_direction(c):
        c.command(p.write10(0, 1), 512, p.FINAL, pattern(512))

    def of_no_transfer_length(c):
        c.command(p.write10(0, 1), 0, p.FINAL | p.WRITE, pattern(512))

    for hostile in (over_first_burst, over_transfer_length, data_out_over_first_burst, data_out_over_transfer_length, overlapping,
                    with_a_hole, after_its_end, of_a_command_with_f, of_a_read, of_no_direction, of_no_transfer_length):
        c = t.session(*UNSOLICITED, *BURSTS)
        hostile(c)
        not_taken(c, hostile.__name__)
        c.close()
    t.still_serves()


@rule("data", "RFC 7143 13.10, 13.11")
def unsolicited_data_that_was_not_negotiated_is_not_taken(t):
    c = t.session(*NO_UNSOLICITED, *BURSTS)
    c.command(p.write10(0, 1), 512, p.FINAL | p.WRITE, pattern(512))
    not_taken(c, "immediate data with ImmediateData=No")
    c = t.session("InitialR2T=Yes", "ImmediateData=Yes", *BURSTS)
    itt = c.command(p.write10(0, 1), 512, p.WRITE)
    c.data_out(itt, p.RESERVED_TAG, 0, 0, pattern(512), True)
    not_taken(c, "unsolicited data with InitialR2T=Yes")
    t.still_serves()


@rule("data", "RFC 7143 11.7")
def data_out_of_a_task_nobody_knows_is_swallowed_or_rejected(t):
    c = t.session(*UNSOLICITED, *BURSTS)
    c.data_out(0x4242, p.RESERVED_TAG, 0, 0, pattern(512), True)
    c.data_out(0x4243, 0x99, 0, 0xfffffff0, pattern(4096), True)
    assert all(pdu.opcode == p.REJECT for pdu in c.barrier())
    c.good(TUR)


# ---- R2T

@rule(5, "RFC 7143 11.8.4, 13.13")
def r2t_asks_for_at_most_max_burst_length_and_never_for_nothing(t):
    for size in (512, 8192, 8704, 20480):
        c = t.session(*NO_UNSOLICITED, *BURSTS)
        data = pattern(size, 5)
        done = c.run(p.write10(0, size // 512), write=data, immediate_data=0)
        assert done.status == p.GOOD
        assert [r.u32(44) for r in done.r2ts] == [8192] * (size // 8192) + ([size % 8192] if size % 8192 else [])
        assert [r.u32(40) for r in done.r2ts] == list(range(0, size, 8192)), "offsets in order"
        assert all(r.itt == done.last.itt and r.bhs[1] == 0x80 and r.ttt != p.RESERVED_TAG for r in done.r2ts)
        assert c.good(p.read10(0, size // 512), size).data == data
        c.close()


@rule(5, "RFC 7143 13.17")
def outstanding_r2ts_are_limited_per_task(t):
    for limit in (1, 2, 4):
        c = t.session(*NO_UNSOLICITED, "MaxBurstLength=8192", f"MaxOutstandingR2T={limit}")
        data = pattern(65536, 6)
        itt = c.command(p.write10(0, 128), 65536, p.FINAL | p.WRITE)
        asked = c.barrier()
        assert 1 <= len(asked) <= limit and all(pdu.opcode == p.R2T for pdu in asked), f"{len(asked)} R2Ts, {limit} agreed"
        total = 0
        while asked:
            r2t = asked.pop(0)
            assert r2t.u32(40) == total, "DataSequenceInOrder"
            total += r2t.u32(44)
            c.answer_r2t(r2t, data)
            said = c.barrier()
            asked += [pdu for pdu in said if pdu.opcode == p.R2T]
            assert len(asked) <= limit
        assert total == 65536 and said[-1].opcode == p.SCSI_RESPONSE and said[-1].bhs[3] == p.GOOD
        assert c.good(p.read10(0, 128), 65536).data == data
        c.close()


@rule(5, "RFC 7143 11.8.5")
def transfer_tags_are_unique_while_they_live(t):
    c = t.session(*NO_UNSOLICITED, "MaxBurstLength=512", "MaxOutstandingR2T=4")
    for n in range(2):
        c.command(p.write10(n * 8, 8), 4096, p.FINAL | p.WRITE)
    tags = [pdu.ttt for pdu in c.barrier() if pdu.opcode == p.R2T]
    assert len(tags) >= 2 and len(set(tags)) == len(tags), tags


@rule("data", "RFC 7143 11.7.4, 11.8.5")
def wrong_transfer_tag_is_not_taken(t):
    other = t.session(*NO_UNSOLICITED, *BURSTS)
    theirs = other.command(p.write10(64, 1), 512, p.FINAL | p.WRITE)
    their_r2t = other.expect(p.R2T, theirs)

    def unknown(c, itt, r2t):
        c.data_out(itt, r2t.ttt ^ 0x5a5a, 0, 0, pattern(512), False)

    def used_up(c, itt, r2t):
        c.answer_r2t(r2t, pattern(8192) + pattern(8192))
        c.expect(p.R2T, itt)
        c.data_out(itt, r2t.ttt, 0, 0, pattern(512), False)

    def more_than_asked(c, itt, r2t):
        c.data_out(itt, r2t.ttt, 0, 0, pattern(8193), True)

    def end_without_f(c, itt, r2t):
        c.data_out(itt, r2t.ttt, 0, 0, pattern(8192), False)

    def f_too_early(c, itt, r2t):
        c.data_out(itt, r2t.ttt, 0, 0, pattern(512), True)

    def behind_the_command(c, itt, r2t):
        c.data_out(itt, r2t.ttt, 0, 0xfffffe00, pattern(512), False)

    def of_another_connection(c, itt, r2t):
        c.data_out(theirs, their_r2t.ttt, 0, 0, b"\xee" * 512, True)

    for hostile in (unknown, used_up, more_than_asked, end_without_f, f_too_early, behind_the_command, of_another_connection):
        c = t.session(*NO_UNSOLICITED, *BURSTS)
        itt = c.command(p.write10(0, 32), 16384, p.FINAL | p.WRITE)
        hostile(c, itt, c.expect(p.R2T, itt))
        not_taken(c, hostile.__name__, swallowed=hostile is of_another_connection)
        c.close()
    other.answer_r2t(their_r2t, b"\x01" * 512)
    assert other.finish(theirs).status == p.GOOD, "somebody else's task is not touched"
    assert other.good(p.read10(64, 1), 512).data == b"\x01" * 512


@rule(5, "RFC 7143 4.2.3.3, 11.7")
def data_of_an_aborted_task_is_swallowed(t):
    c = t.session(*NO_UNSOLICITED, *BURSTS)
    c.good(p.write10(0, 32), write=pattern(16384), immediate_data=0)
    itt = c.command(p.write10(0, 32), 16384, p.FINAL | p.WRITE)
    r2t = c.expect(p.R2T, itt)
    c.data_out(itt, r2t.ttt, 0, 0, b"\xee" * 512, False)
    assert c.managed(c.manage(1, referenced=itt)) == 0
    c.data_out(itt, r2t.ttt, 1, 512, b"\xee" * 7680, True)
    c.silent("the data of an aborted task")
    c.good(TUR)


@rule("data", "RFC 7143 11.3.5; SAM-5 5.4.2")
def lengths_at_their_limits(t):
    c = t.session(*UNSOLICITED, *BURSTS)
    for edtl in (0xffffffff, 0x80000000, 0x7fffffff):     # of a device that wants one block
        itt = c.command(p.write10(0, 1), edtl, p.FINAL | p.WRITE, pattern(512, 7))
        done = c.finish(itt, edtl, pattern(512, 7))
        assert done.status == p.GOOD and done.underflow and done.residual == edtl - 512, f"{done}"
        done = c.run(p.read10(0, 1), edtl)
        assert done.status == p.GOOD and done.underflow and done.residual == edtl - 512 and done.data == pattern(512, 7)
    done = c.finish(c.command(p.write10(0, 1), 0, p.FINAL | p.WRITE))
    assert done.overflow and done.residual == 512, f"nothing may move: {done}"
    assert c.good(p.read10(0, 1), 512).data == pattern(512, 7)


@rule("data", "RFC 7143 11.3.1, 11.2.2.4")
def both_directions_and_the_read_length_go_together(t):
    c = t.session(*UNSOLICITED, *BURSTS)
    length = struct.pack(">HBxI", 5, 2, 512)
    for cdb in (p.read10(0, 1), p.write10(1, 1), TUR):
        for flags, ahs in ((p.READ | p.WRITE, b""), (p.READ, length), (p.WRITE, length)):
            data = pattern(512) if flags & p.WRITE else b""
            c.command(cdb, 512, p.FINAL | flags, data, ahs=ahs)
            said = c.barrier()
            assert [(pdu.opcode, pdu.bhs[2]) for pdu in said] == [(p.REJECT, 9)], f"invalid PDU field: {said}"
    assert c.window[0] == c.cmd_sn
    c.good(TUR)


@rule("data", "RFC 7143 11.2.2.4, 11.4.5")
def bidirectional_commands_are_refused_with_both_residuals(t):
    c = t.session(*UNSOLICITED, *BURSTS)
    length = struct.pack(">HBxI", 5, 2, 4096)
    for cdb in (p.read10(0, 1), p.write10(1, 1), TUR, b"\x53" + bytes(9)):
        done = c.finish(c.command(cdb, 512, p.FINAL | p.READ | p.WRITE, pattern(512), ahs=length), 512)
        assert done.status == p.CHECK_CONDITION and done.asc == (5, 0x0e, 0x03), f"{done}"
        assert done.last.flags == 0x8a and done.residual == 512 and done.last.u32(40) == 4096, f"u and U: {done.last}"
    c.good(TUR)


# ---- digests

DIGESTS = ("HeaderDigest=CRC32C", "DataDigest=CRC32C")


@rule(18, "RFC 7143 13.1")
def digests_protect_every_pdu(t):
    for keys in (DIGESTS, DIGESTS[:1], DIGESTS[1:]):
        c = t.session(*keys, *UNSOLICITED, *BURSTS)
        assert (c.header_digest, c.data_digest) == ("HeaderDigest=CRC32C" in keys, "DataDigest=CRC32C" in keys)
        data = pattern(20480, 8)
        assert c.run(p.write10(0, 40), write=data, immediate_data=1001).status == p.GOOD
        assert c.good(p.read10(0, 40), 20480).data == data
        for size in (1, 2, 3, 4, 5):
            assert c.next(lambda pdu, tag=c.ping(data[:size]): pdu.itt == tag).data == data[:size], "pad bytes are covered"
        c.refused(p.read10(0xffffffff, 1), (5, 0x21, 0x00), 512)
        c.text(p.keys("SendTargets="))
        assert c.logout().bhs[2] == 0


def broken(frame, at):
    return frame[:at] + bytes([frame[at] ^ 0x10]) + frame[at + 1:]


@rule(18, "RFC 7143 7.7, 13.1")
def header_digest_error_closes_the_connection(t):
    for at in (0, 16, 32, 47, 48, 51):
        c = t.session(*DIGESTS)
        c.raw(broken(c.frame(p.scsi_command(0x10, c.cmd_sn, c.exp_stat_sn, bytes(16))), at))
        assert not c.until_closed(), f"byte {at} of a broken header was answered"
    c = t.session(*DIGESTS)                              # the digest covers the AHS
    ahs = struct.pack(">HBx4x", 5, 1)
    frame = c.frame(p.scsi_command(0x10, c.cmd_sn, c.exp_stat_sn, bytes(16)), ahs=ahs)
    c.raw(broken(frame, 52))
    assert not c.until_closed(), "a broken AHS was answered"
    t.still_serves()


def rejected(c, frame_bhs):
    reject = c.expect(p.REJECT)
    assert reject.bhs[1] == 0x80 and reject.bhs[2] == 2 and reject.itt == p.RESERVED_TAG, f"data digest error: {reject}"
    assert reject.data[:48] == frame_bhs, "the Reject carries the header that it rejects"
    return reject


@rule(18, "RFC 7143 7.8, 11.17.1")
def without_recovery_a_broken_command_ends_the_connection(t):
    c = t.session(*DIGESTS, *UNSOLICITED, *BURSTS)
    c.good(p.write10(0, 1), write=b"\x01" * 512)
    frame = c.frame(p.scsi_command(0x21, c.take_cmd_sn(), c.exp_stat_sn, p.write10(0, 1).ljust(16, b"\0"), 0xa1, 512), b"\xee" * 512)
    c.raw(broken(frame, 48 + 4 + 100))
    rejected(c, frame[:48])
    assert not c.until_closed(), "something behind the Reject"
    assert t.session().good(p.read10(0, 1), 512).data == b"\x01" * 512, "damaged data was written"


@rule(18, "RFC 7143 7.8; SPC-4: 47/05")
def broken_data_out_fails_the_task(t):
    for which in (0, 3):
        c = t.session(*DIGESTS, *NO_UNSOLICITED, *BURSTS)
        c.good(p.write10(0, 8), write=b"\x01" * 4096, immediate_data=0)
        itt = c.command(p.write10(0, 8), 4096, p.FINAL | p.WRITE)
        r2t = c.expect(p.R2T, itt)
        for sn in range(4):
            frame = c.frame(p.data_out(itt, r2t.ttt, c.exp_stat_sn, sn, sn * 1024, sn == 3), b"\xee" * 1024)
            c.raw(broken(frame, len(frame) - 1) if sn == which else frame)
            if sn == which:
                rejected(c, frame[:48])
        done = c.finish(itt)
        assert done.status == p.CHECK_CONDITION and done.asc == (0xb, 0x47, 0x05), f"{done}"
        assert c.good(p.read10(0, 8), 4096).data == b"\x01" * 4096, "damaged data was written"


@rule(18, "RFC 7143 7.8")
def broken_unsolicited_data_out_fails_the_task(t):
    c = t.session(*DIGESTS, *UNSOLICITED, *BURSTS)
    itt = c.command(p.write10(0, 4), 2048, p.WRITE, pattern(1024))
    frame = c.frame(p.data_out(itt, p.RESERVED_TAG, c.exp_stat_sn, 0, 1024, True), pattern(1024))
    c.raw(broken(frame, 60))
    rejected(c, frame[:48])
    assert c.finish(itt).asc == (0xb, 0x47, 0x05)
    c.good(TUR)


@rule(18, "RFC 7143 7.8, 13.1")
def broken_pad_bytes_are_a_digest_error(t):
    c = t.session(*DIGESTS)
    for at, what in ((-5, "the last pad byte"), (-8, "the data"), (-1, "the digest")):
        frame = c.frame(p.nop_out(0x31, c.cmd_sn, c.exp_stat_sn), b"12345")
        c.raw(broken(frame, len(frame) + at))
        rejected(c, frame[:48])
        c.silent(what)
    frame = c.frame(p.text_request(0x32, c.cmd_sn, c.exp_stat_sn), p.keys("SendTargets="))
    c.raw(broken(frame, 60))
    rejected(c, frame[:48])
    c.good(TUR)


@rule(18, "RFC 7143 11.2, 13.1")
def padding_need_not_be_zero(t):
    c = t.session()                                     # without digests nobody looks at it
    bhs = bytearray(p.nop_out(0x33, c.cmd_sn, c.exp_stat_sn))
    bhs[5:8] = (5).to_bytes(3, "big")
    c.raw(bytes(bhs) + b"12345\xff\xee\xdd")
    assert c.expect(p.NOP_IN, 0x33).data == b"12345"


@rule("framing", "RFC 7143 13.1")
def truncated_digests_end_with_the_connection(t):
    for cut in (1, 3, 5, 515):
        c = t.session(*DIGESTS, *UNSOLICITED)
        frame = c.frame(p.scsi_command(0x41, c.cmd_sn, c.exp_stat_sn, p.write10(0, 1).ljust(16, b"\0"), 0xa1, 512), b"\xee" * 512)
        c.raw(frame[:-cut])
        c.close()
    t.still_serves()


if __name__ == "__main__":
    main("data transfer and digests", "ram:16M", "ram:16M")
