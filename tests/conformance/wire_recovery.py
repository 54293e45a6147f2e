#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Error recovery above level 0 on the wire: SNACK, retained data and status, recovery R2Ts (RFC 7143 7.1.4, 7.8, 11.16); tasks
that outlive their connection and are reassigned (6.3.4, 7.2.2, 7.5, 11.5, 11.14)."""
import time

import raw_pdu as p
from rules import main, rule

TUR = p.TEST_UNIT_READY
SMALL = "MaxRecvDataSegmentLength=1024"
NO_UNSOLICITED = ("InitialR2T=Yes", "ImmediateData=No")
DIGEST = ("DataDigest=CRC32C",)
DATA, STATUS, DATA_ACK, R_DATA = range(4)     # SNACK types
SNACK_REJECT, PROTOCOL_ERROR, INVALID_DATA_ACK = 3, 4, 8


def pattern(size, seed=1):
    return bytes((i * 31 + i // 256 * 17 + seed) % 256 for i in range(size))


def level1(t, *pairs, **fields):
    """A session of recovery level 1 that acknowledges nothing from now on."""
    c = t.session("ErrorRecoveryLevel=1", *pairs, **fields)
    assert c.params["ErrorRecoveryLevel"] == "1", c.params
    c.barrier()
    c.resends, c.held = True, c.exp_stat_sn
    return c


def read(c, blocks=8, lba=0):
    """A READ whose status stays unacknowledged: its tag and its PDUs."""
    itt = c.command(p.read10(lba, blocks), blocks * 512, p.FINAL | p.READ)
    done = c.finish(itt, blocks * 512)
    assert done.status == p.GOOD, done
    return itt, done.pdus


def same(again, first):
    """A replica but for ExpCmdSN and MaxCmdSN (RFC 7143 11.16)."""
    assert again.bhs[:28] == first.bhs[:28] and again.bhs[36:] == first.bhs[36:], f"{again} is not a replica of {first}"
    assert again.data == first.data, "other data"


def rejected(c, reason, next_data_sn=None):
    pdu = c.next()
    assert pdu.opcode == p.REJECT and pdu.bhs[2] == reason, f"{pdu} is no Reject with reason {reason}"
    assert pdu.data[:1] == bytes([p.SNACK]) and len(pdu.data) == p.BHS, "the header of the SNACK"
    if next_data_sn is not None:
        assert pdu.u32(36) == next_data_sn, f"DataSN {pdu.u32(36)} in the Reject"


def forge(c, bhs, data):
    """A PDU whose data digest is wrong."""
    frame = bytearray(c.frame(bhs, data))
    frame[-1] ^= 1
    c.raw(bytes(frame))


# ---- negotiation

@rule(9, "RFC 7143 13.20")
def recovery_level_is_the_lower_of_both(t):
    for offered, agreed in ((0, "0"), (1, "1"), (2, "2")):
        c = t.session(f"ErrorRecoveryLevel={offered}")
        assert c.params["ErrorRecoveryLevel"] == agreed, c.params
        c.good(TUR)


# ---- status

@rule(2, "RFC 7143 4.2.2.2, 11.16.1")
def status_is_sent_again_as_it_was(t):
    c = level1(t)
    first = c.run(TUR).last
    refused = c.refused(p.read10(0xffffff00, 1), (5, 0x21, 0), 512).last
    c.snack(STATUS, begin=first.stat_sn, run=2)
    same(c.next(), first)
    again = c.next()
    same(again, refused)
    assert again.data, "with its sense data"


@rule(2, "RFC 7143 11.16.1, 11.16.6, 11.16.7")
def run_of_status_may_be_open_or_everything(t):
    c = level1(t)
    answers = [c.run(TUR).last for _ in range(4)]
    for begin, run, wanted in ((answers[1].stat_sn, 0, answers[1:]), (0, 0, answers), (answers[2].stat_sn, 1, answers[2:3])):
        c.snack(STATUS, begin=begin, run=run)
        for answer in wanted:
            same(c.next(), answer)


@rule(2, "RFC 7143 4.2.2.2")
def other_answers_are_kept_as_well(t):
    c = level1(t)
    ping = c.ping(b"echo")
    nop = c.next()
    text = c.text(p.keys("SendTargets="))
    management = c.manage(5)
    tmf = c.next(lambda pdu: pdu.itt == management)
    c.snack(STATUS, begin=nop.stat_sn, run=3)
    for answer in (nop, text, tmf):
        same(c.next(), answer)
    assert nop.itt == ping and nop.data == b"echo"


@rule(2, "RFC 7143 11.16")
def acknowledged_status_cannot_be_asked_for(t):
    c = level1(t)
    first = c.run(TUR).last
    c.held = c.exp_stat_sn                    # acknowledges it
    c.snack(STATUS, begin=first.stat_sn, run=1)
    rejected(c, PROTOCOL_ERROR)
    c.good(TUR)


@rule(2, "RFC 7143 11.16")
def status_that_was_never_sent_cannot_be_asked_for(t):
    c = level1(t)
    first = c.run(TUR).last.stat_sn
    for begin, run in ((first + 1, 1), (first, 2), (first, 0xffffffff), (first - 1, 1), (first + 2**31, 1), (first + 2**30, 0)):
        c.snack(STATUS, begin=begin % 2**32, run=run)
        rejected(c, PROTOCOL_ERROR)
        c.held = c.exp_stat_sn                # the Rejects themselves are statuses
        first = c.run(TUR).last.stat_sn
    c.good(TUR)


# ---- Data-In

@rule(3, "RFC 7143 11.16.1, 11.16.6")
def data_in_is_sent_again_by_number(t):
    t.session().good(p.write10(0, 8), write=pattern(4096))
    c = level1(t, SMALL)
    itt, pdus = read(c)
    assert [pdu.u32(36) for pdu in pdus[:-1]] == [0, 1, 2, 3] and pdus[-1].u32(36) == 4, "DataSN, ExpDataSN"
    for begin, run, wanted in ((1, 2, pdus[1:3]), (3, 0, pdus[3:4]), (0, 0, pdus[:4]), (0, 4, pdus[:4])):
        c.snack(DATA, itt, begin, run)
        for pdu in wanted:
            same(c.next(), pdu)
    assert b"".join(pdu.data for pdu in pdus[:4]) == pattern(4096)


@rule(3, "RFC 7143 11.16, 11.17.2")
def data_that_was_never_sent_cannot_be_asked_for(t):
    c = level1(t, SMALL)
    itt, _ = read(c)
    for begin, run in ((4, 1), (3, 2), (4, 0), (0, 5), (1, 0xffffffff), (0xffffffff, 1)):
        c.snack(DATA, itt, begin, run)
        rejected(c, PROTOCOL_ERROR, 4)
    c.snack(DATA, 0xdead, 0, 1)               # of a task that is not there
    rejected(c, PROTOCOL_ERROR, 0)


@rule(3, "RFC 7143 11.16")
def acknowledged_data_cannot_be_asked_for(t):
    c = level1(t, SMALL)
    itt, _ = read(c)
    c.held = c.exp_stat_sn
    c.snack(DATA, itt, 0, 1)
    rejected(c, PROTOCOL_ERROR)


@rule(3, "RFC 7143 11.16")
def data_sent_again_is_what_was_read(t):
    """Also of a unit in memory, and when somebody wrote in between: the answer is of the time of the READ."""
    other = t.session()
    for lun in (0, 1):
        other.clear_attentions((lun,)).good(p.write10(0, 64), write=pattern(32768, 3), lun=lun)
        c = level1(t, luns=(0, 1))
        itt = c.command(p.read10(0, 64), 32768, p.FINAL | p.READ, lun=lun)
        first = c.finish(itt, 32768).pdus
        other.good(p.write10(0, 64), write=pattern(32768, 99), lun=lun)
        c.snack(DATA, itt, 0, 0)
        for pdu in first[:-1]:
            same(c.next(), pdu)
        assert b"".join(pdu.data for pdu in first[:-1]) == pattern(32768, 3)


@rule(3, "RFC 7143 11.16.1; 10.16.1 of RFC 3720")
def parameter_data_is_sent_again_too(t):
    c = level1(t)
    itt = c.command(p.inquiry(), 255, p.FINAL | p.READ)
    first = c.finish(itt, 255).pdus
    c.good(p.report_luns(), 4096)
    c.snack(DATA, itt, 0, 1)
    same(c.next(), first[0])


@rule(3, "RFC 7143 11.17.1: status was sent before, so the Reject is all")
def data_beyond_the_share_of_a_session_is_given_up(t):
    c = level1(t, "MaxRecvDataSegmentLength=262144", "MaxBurstLength=1048576")
    read_megabyte = p.read10(0, 2048)
    tags = []
    for _ in range(96):                       # 96 MiB, of a pool of 256
        itt = c.command(read_megabyte, 2**20, p.FINAL | p.READ)
        assert c.finish(itt, 2**20).status == p.GOOD
        tags.append(itt)
    answers = c.exp_stat_sn
    c.snack(DATA, tags[0], 0, 1)
    rejected(c, SNACK_REJECT)
    c.snack(DATA, tags[-1], 0, 1)             # nothing is kept until what was too much is acknowledged
    rejected(c, SNACK_REJECT)
    c.snack(STATUS, begin=answers - 1, run=1)
    assert c.next().itt == tags[-1], "the status is kept all the same"
    c.held = c.exp_stat_sn
    itt, pdus = read(c)
    c.snack(DATA, itt, 0, 1)
    same(c.next(), pdus[0])


# ---- R-Data and DataACK

@rule(3, "RFC 7143 11.16.3, 11.16.4, 11.4.6")
def r_data_is_cut_for_what_the_initiator_takes_now(t):
    t.session().good(p.write10(0, 8), write=pattern(4096, 5))
    c = level1(t, "MaxRecvDataSegmentLength=2048")
    itt, first = read(c)
    c.text(p.keys("MaxRecvDataSegmentLength=512"))
    c.snack(DATA, itt, 0, 1)
    rejected(c, PROTOCOL_ERROR)
    c.snack(R_DATA, itt, tag=0x7007)
    pdus = [c.next() for _ in range(9)]
    assert [pdu.u32(36) for pdu in pdus[:8]] == list(range(8)) and all(len(pdu.data) == 512 for pdu in pdus[:8])
    assert b"".join(pdu.data for pdu in pdus[:8]) == pattern(4096, 5)
    last = pdus[8]
    assert last.opcode == p.SCSI_RESPONSE and last.stat_sn == first[-1].stat_sn, f"the status again: {last}"
    assert last.ttt == 0x7007 and last.u32(36) == 8, f"SNACK Tag and ExpDataSN: {last}"
    c.snack(DATA, itt, 7, 1)
    same(c.next(), pdus[7])
    assert read(c)[1][0].data == pattern(512, 5), "later commands are cut for it as well"


@rule(3, "RFC 7143 11.16.4, 11.16.6, 11.16.7")
def r_data_needs_a_tag_and_no_run(t):
    c = level1(t, SMALL)
    itt, _ = read(c)
    for tag, begin, run in ((p.RESERVED_TAG, 0, 0), (0, 0, 0), (5, 1, 0), (5, 0, 1)):
        c.snack(R_DATA, itt, begin, run, tag)
        rejected(c, PROTOCOL_ERROR)
    c.snack(R_DATA, 0xbeef, tag=5)
    rejected(c, PROTOCOL_ERROR)


@rule(3, "RFC 7143 11.16.1, 11.7.2")
def data_ack_that_was_not_asked_for_is_refused(t):
    c = level1(t, SMALL)
    itt, pdus = read(c)
    assert not any(pdu.flags & 0x40 for pdu in pdus if pdu.opcode == p.DATA_IN), "no A bit"
    c.snack(DATA_ACK, itt, 4, tag=1)
    rejected(c, INVALID_DATA_ACK)


# ---- R2T and Data-Out

@rule(5, "RFC 7143 11.16.1")
def r2t_that_is_not_answered_is_sent_again(t):
    c = level1(t, *NO_UNSOLICITED, "MaxBurstLength=4096", "FirstBurstLength=512", "MaxOutstandingR2T=2")
    data = pattern(8192, 7)
    itt = c.command(p.write10(0, 16), 8192, p.FINAL | p.WRITE)
    first = [c.expect(p.R2T, itt) for _ in range(2)]
    c.snack(DATA, itt, 0, 0)
    for r2t in first:
        same(c.next(), r2t)
    c.answer_r2t(first[0], data)
    c.snack(DATA, itt, 0, 2)
    same(c.next(), first[1])
    c.snack(DATA, itt, 2, 1)
    rejected(c, PROTOCOL_ERROR, 2)
    c.answer_r2t(first[1], data)
    assert c.finish(itt).status == p.GOOD
    assert t.session().good(p.read10(0, 16), 8192).data == data


@rule(18, "RFC 7143 7.8, 11.17.1")
def damaged_data_out_is_rejected_and_asked_for_again(t):
    c = level1(t, *NO_UNSOLICITED, *DIGEST)
    data = pattern(4096, 9)
    itt = c.command(p.write10(0, 8), 4096, p.FINAL | p.WRITE)
    r2t = c.expect(p.R2T, itt)
    for sn in range(4):
        bhs = p.data_out(itt, r2t.ttt, c.ack, sn, sn * 1024, sn == 3)
        (forge if sn in (1, 2) else lambda c, *pdu: c.send(*pdu))(c, bhs, data[sn * 1024:][:1024])
    for sn in (1, 2):
        reject = c.expect(p.REJECT)
        assert reject.bhs[2] == 2 and reject.data[36:40] == sn.to_bytes(4, "big"), f"Reject of Data-Out {sn}: {reject}"
    again = c.expect(p.R2T, itt)
    assert (again.u32(36), again.u32(40), again.u32(44)) == (1, 1024, 2048), f"R2TSN, offset, length of what is missing: {again}"
    c.answer_r2t(again, data)
    done = c.finish(itt)
    assert done.status == p.GOOD and done.last.u32(36) == 2, "ExpDataSN counts both R2Ts"
    assert t.session().good(p.read10(0, 8), 4096).data == data


@rule(18, "RFC 7143 7.8")
def damaged_unsolicited_data_is_asked_for_again(t):
    c = level1(t, "InitialR2T=No", "ImmediateData=No", "FirstBurstLength=2048", *DIGEST)
    data = pattern(4096, 11)
    itt = c.command(p.write10(0, 8), 4096, p.WRITE)
    forge(c, p.data_out(itt, p.RESERVED_TAG, c.ack, 0, 0, False), data[:1024])
    c.send(p.data_out(itt, p.RESERVED_TAG, c.ack, 1, 1024, True), data[1024:2048])
    c.expect(p.REJECT)
    seen = []
    while sum(length for _, length in seen) < 3072:
        r2t = c.expect(p.R2T, itt)
        seen.append((r2t.u32(40), r2t.u32(44)))
        c.answer_r2t(r2t, data)
    assert (0, 1024) in seen, f"asked for {seen}"
    assert c.finish(itt).status == p.GOOD
    assert t.session().good(p.read10(0, 8), 4096).data == data


@rule(18, "RFC 7143 7.8; 4.2.2.1")
def command_with_damaged_data_may_be_sent_again(t):
    c = level1(t, "ImmediateData=Yes", *DIGEST)
    data = pattern(512, 13)
    sn = c.take_cmd_sn()
    bhs = p.scsi_command(0x4711, sn, c.ack, p.write10(3, 1).ljust(16, b"\0"), p.FINAL | p.WRITE | 1, 512)
    forge(c, bhs, data)
    assert c.expect(p.REJECT).bhs[2] == 2
    later = c.command(TUR)                    # waits for the number that is missing
    c.silent("what is behind the hole")
    c.send(bhs, data)
    assert [c.next().itt for _ in range(2)] == [0x4711, later]
    assert t.session().good(p.read10(3, 1), 512).data == data


@rule(18, "RFC 7143 7.8, 11.4.7.2")
def data_that_is_damaged_again_and_again_fails_the_command(t):
    c = level1(t, *NO_UNSOLICITED, *DIGEST)
    itt = c.command(p.write10(0, 1), 512, p.FINAL | p.WRITE)
    for attempt in range(100):
        pdu = c.next(lambda pdu: pdu.opcode != p.REJECT)
        if pdu.opcode != p.R2T:
            break
        forge(c, p.data_out(itt, pdu.ttt, c.ack, 0, 0, True), bytes(512))
    c.unread.insert(0, pdu)
    done = c.finish(itt)
    assert 1 < attempt < 100 and done.status == p.CHECK_CONDITION and done.asc == (0xb, 0x47, 5), f"{done} after {attempt}"


@rule(18, "RFC 7143 7.7")
def header_digest_error_ends_the_connection_at_level_1_too(t):
    c = level1(t, "HeaderDigest=CRC32C")
    frame = bytearray(c.frame(p.nop_out(1, c.cmd_sn, c.ack)))
    frame[50] ^= 0x10
    c.raw(bytes(frame))
    assert not c.until_closed(), "nothing is said"
    t.still_serves()


# ---- hostile

@rule("SNACK", "RFC 7143 11.16")
def snack_for_the_task_of_another_connection_is_rejected(t):
    c = level1(t, SMALL, "MaxConnections=2")
    itt, _ = read(c)
    second = t.connect(isid=c.isid, cid=1, cmd_sn=c.cmd_sn)
    second.tsih = c.tsih
    second.login(t.iqn)
    second.resends = True
    for kind, tag in ((DATA, p.RESERVED_TAG), (R_DATA, 5)):
        second.snack(kind, itt, tag=tag)
        rejected(second, PROTOCOL_ERROR)
    write = c.command(p.write10(0, 1), 512, p.FINAL | p.WRITE)
    c.next(lambda pdu: pdu.itt == write and pdu.opcode == p.R2T)
    second.snack(DATA, write)
    rejected(second, PROTOCOL_ERROR)


@rule("SNACK", "RFC 7143 11.16.1")
def snack_of_an_unknown_type_is_rejected(t):
    c = level1(t)
    for kind in range(4, 16):
        c.snack(kind, 1)
        rejected(c, PROTOCOL_ERROR)
    c.good(TUR)


@rule("SNACK", "limits")
def flood_of_snacks_does_not_grow_the_target(t):
    c = level1(t, "MaxRecvDataSegmentLength=262144", "MaxBurstLength=1048576")
    itt, _ = read(c, 2048)
    c.raw(p.snack(itt, c.ack) * 5000)         # 5 GiB if each were obeyed; nothing is read meanwhile
    t.still_serves()
    ping = c.ping()
    while c.receive().itt != ping:
        pass
    c.good(TUR)


@rule("SNACK", "limits")
def initiator_that_acknowledges_nothing_is_asked_and_dropped(t):
    c = level1(t)
    asked = False
    for _ in range(5000):
        c.ping()
        try:
            pdu = c.receive()
            asked = asked or pdu.itt == p.RESERVED_TAG
        except p.Closed:
            break
    else:
        raise AssertionError("status is kept without end")
    assert asked, "it was not asked before"
    t.still_serves()


# ---- level 2: connections that fail

COMPLETE, NO_TASK, STILL_ALLEGIANT, NOT_SUPPORTED = 0, 1, 3, 4
RECOVERED, UNKNOWN_CID, NO_RECOVERY = 0, 1, 2       # Logout Response


def level2(t, *pairs, **fields):
    c = t.session("ErrorRecoveryLevel=2", "DefaultTime2Wait=0", "DefaultTime2Retain=15", *pairs, **fields)
    assert (c.params["ErrorRecoveryLevel"], c.params["DefaultTime2Retain"]) == ("2", "15"), c.params
    c.barrier()
    c.resends = True
    return c


def join(t, c, cid, *pairs, exp_stat_sn=0):
    """Another connection of the session; with the CID of one that failed: in its place."""
    new = t.connect(isid=c.isid, cid=cid, cmd_sn=c.cmd_sn)
    new.tsih, new.exp_stat_sn, new.resends = c.tsih, exp_stat_sn, True
    new.login(t.iqn, *pairs)
    assert new.tsih == c.tsih
    return new


def reassign(c, itt, exp_data_sn=0):
    """TASK REASSIGN by hand (RFC 7143 11.5): its response code."""
    tag = 0x7a000000 + itt
    bhs = bytearray(p.task_management(tag, c.cmd_sn, c.ack, 8, referenced=itt))
    bhs[36:40] = exp_data_sn.to_bytes(4, "big")
    c.send(bytes(bhs))
    return c.managed(tag)


def open_write(c, lba, data):
    """A WRITE whose data is asked for and not sent: its tag and R2T."""
    itt = c.command(p.write10(lba, len(data) // 512), len(data), p.FINAL | p.WRITE)
    return itt, c.next(lambda pdu: pdu.itt == itt and pdu.opcode == p.R2T)


@rule(19, "RFC 7143 6.3.4, 7.2.2")
def write_goes_on_after_its_only_connection_failed(t):
    data = pattern(4096, 21)
    c = level2(t, *NO_UNSOLICITED)
    itt, r2t = open_write(c, 40, data)
    c.data_out(itt, r2t.ttt, 0, 0, data[:1024], False)
    c.close()
    new = join(t, c, c.cid, exp_stat_sn=c.exp_stat_sn)
    assert reassign(new, itt) == COMPLETE
    again = new.next()
    assert (again.opcode, again.itt) == (p.R2T, itt) and again.bhs[36:] == r2t.bhs[36:], f"{again} after {r2t}"
    new.answer_r2t(again, data)
    assert new.finish(itt).status == p.GOOD
    assert new.good(p.read10(40, 8), 4096).data == data


@rule(19, "RFC 7143 7.2.2, 11.5.6")
def answer_that_was_lost_comes_on_the_new_connection(t):
    t.session().good(p.write10(0, 8), write=pattern(4096, 22))
    c = level2(t, SMALL)
    sn = c.exp_stat_sn
    itt, first = read(c)
    c.close()
    new = join(t, c, c.cid, "MaxRecvDataSegmentLength=512", exp_stat_sn=sn)
    assert reassign(new, itt, 3) == COMPLETE                 # three of four PDUs have come
    pdus = [new.next() for _ in range(3)]
    assert [(pdu.u32(36), pdu.u32(40), len(pdu.data)) for pdu in pdus[:2]] == [(3, 3072, 512), (4, 3584, 512)], pdus
    assert b"".join(pdu.data for pdu in pdus[:2]) == pattern(4096, 22)[3072:]
    status = pdus[2]
    assert status.opcode == p.SCSI_RESPONSE and status.itt == itt and status.u32(36) == 5, f"ExpDataSN: {status}"
    new.good(TUR)                                           # which acknowledges it
    assert reassign(new, itt) == NO_TASK


@rule(19, "RFC 7143 11.12.9")
def login_in_the_place_of_a_connection_acknowledges_its_status(t):
    c = level2(t)
    itt = c.command(TUR)
    c.finish(itt)
    c.close()
    new = join(t, c, c.cid, exp_stat_sn=c.exp_stat_sn)
    assert reassign(new, itt) == NO_TASK


@rule(19, "RFC 7143 7.2.2, 11.6.1, 11.14, 11.15")
def logout_for_recovery_frees_the_tasks(t):
    data = pattern(512, 23)
    c = level2(t, *NO_UNSOLICITED)
    itt, r2t = open_write(c, 50, data)
    new = join(t, c, 7)
    new.cmd_sn = c.cmd_sn
    assert reassign(new, itt) == STILL_ALLEGIANT
    said = new.logout(2, c.cid)
    assert said.bhs[2] == RECOVERED and (said.u16(40), said.u16(42)) == (2, 15), f"Time2Wait, Time2Retain: {said}"
    c.until_closed()
    assert reassign(new, 0xdead) == NO_TASK
    assert reassign(new, itt) == COMPLETE
    again = new.next()
    assert again.opcode == p.R2T and again.bhs[36:] == r2t.bhs[36:]
    new.answer_r2t(again, data)
    assert new.finish(itt).status == p.GOOD
    assert new.logout(2, c.cid).bhs[2] == UNKNOWN_CID


@rule(19, "RFC 7143 7.2.2")
def task_of_a_lost_connection_is_allegiant_until_the_logout(t):
    c = level2(t, *NO_UNSOLICITED)
    new = join(t, c, 7)
    itt, _ = open_write(c, 50, bytes(512))
    new.cmd_sn = c.cmd_sn
    c.close()
    assert reassign(new, itt) == STILL_ALLEGIANT
    said = new.logout(1, c.cid)
    assert said.bhs[2] == RECOVERED and said.u16(42) == 0, f"nothing is retained: {said}"
    assert reassign(new, itt) == NO_TASK


@rule(19, "RFC 7143 7.2.2, 11.15.1")
def below_level_2_nothing_is_reassigned(t):
    for level in (0, 1):
        c = t.session(f"ErrorRecoveryLevel={level}", "MaxConnections=2", *NO_UNSOLICITED)
        itt, _ = open_write(c, 50, bytes(512))
        new = t.connect(isid=c.isid, cid=7, cmd_sn=c.cmd_sn)
        new.tsih, new.resends = c.tsih, True
        new.login(t.iqn)
        assert reassign(new, itt) == NOT_SUPPORTED
        assert new.logout(2, c.cid).bhs[2] == NO_RECOVERY
        assert new.logout(1, c.cid).bhs[2] == RECOVERED
        c.until_closed()


@rule(1, "RFC 7143 4.2.2.1, 7.2.1")
def command_that_was_carried_out_is_not_carried_out_again(t):
    one, two = pattern(512, 31), pattern(512, 32)
    c = level2(t)
    sn, itt = c.cmd_sn, c.command(p.write10(60, 1), 512, p.FINAL | p.WRITE, one)
    assert c.finish(itt).status == p.GOOD
    c.held = c.exp_stat_sn - 1
    c.close()
    new = join(t, c, c.cid, exp_stat_sn=c.held)
    new.good(p.write10(60, 1), write=two)
    new.command(p.write10(60, 1), 512, p.FINAL | p.WRITE, one, cmd_sn=sn, itt=itt)   # its retry
    assert reassign(new, itt) == COMPLETE
    assert new.next(lambda pdu: pdu.itt == itt).bhs[3] == p.GOOD
    assert new.good(p.read10(60, 1), 512).data == two


@rule(1, "RFC 7143 11.14: what ExpCmdSN did not acknowledge")
def command_that_waited_for_its_turn_is_sent_again(t):
    c = level2(t)
    hole, waits = c.take_cmd_sn(), c.take_cmd_sn()
    c.command(TUR, cmd_sn=waits, itt=0x601)
    c.silent("a command behind a hole")
    c.close()
    new = join(t, c, c.cid, exp_stat_sn=c.exp_stat_sn)
    assert new.window[0] == hole
    assert reassign(new, 0x601) == NO_TASK
    first = new.command(TUR, cmd_sn=hole)
    new.command(TUR, cmd_sn=waits, itt=0x601)
    assert [new.next().itt for _ in range(2)] == [first, 0x601]


@rule(19, "RFC 7143 7.5.1, 7.6")
def tasks_end_when_nobody_comes_in_time(t):
    # A name of its own: only so many sessions of one initiator wait, and other tests leave some behind.
    c = t.session("ErrorRecoveryLevel=2", "DefaultTime2Wait=0", "DefaultTime2Retain=1", *NO_UNSOLICITED,
                  name="iqn.2026-11.io.perilune:nobody-comes")
    open_write(c, 70, bytes(512))
    c.close()
    over = f" recovery_timeout initiator={c.name} tsih={c.tsih} "   # rare, so that the log does not leave it out
    deadline = time.monotonic() + 30
    while not any(over in line + " " for line in t.server.errors().splitlines()):
        assert time.monotonic() < deadline, "the session never ends"
        t.still_serves()
    assert refused_join(t, c) == (2, 0xa), "session does not exist"


def refused_join(t, c):
    new = t.connect(name=c.name, isid=c.isid, cid=c.cid, cmd_sn=c.cmd_sn)
    new.tsih = c.tsih
    pdu = new.login_step(0x87, *new.names(t.iqn))
    return pdu.bhs[36], pdu.bhs[37]


@rule(7, "RFC 7143 6.3.5")
def session_reinstatement_ends_the_tasks_that_wait(t):
    c = level2(t, *NO_UNSOLICITED)
    itt, _ = open_write(c, 80, bytes(512))
    c.close()
    new = t.session("ErrorRecoveryLevel=2", isid=c.isid)
    assert new.tsih != c.tsih
    assert refused_join(t, c) == (2, 0xa)
    assert reassign(new, itt) == NO_TASK


@rule(6, "RFC 7143 4.2.2.3.3, 7.2.2")
def fenced_answer_comes_where_its_task_is_reassigned(t):
    c = level2(t, "MaxConnections=3").open_window(4)
    second, third = join(t, c, 8), join(t, c, 9)
    other = t.session()
    assert other.managed(other.manage(5)) == COMPLETE        # LOGICAL UNIT RESET: 29/03 for everybody
    second.cmd_sn = c.cmd_sn
    done = second.command(p.inquiry(), 96, p.FINAL | p.READ)
    second.next(lambda pdu: pdu.itt == done and pdu.opcode == p.SCSI_RESPONSE)   # not acknowledged
    itt = c.command(TUR, cmd_sn=second.cmd_sn)
    ping = second.next(lambda pdu: pdu.opcode == p.NOP_IN)
    c.silent("an answer behind a fence")
    third.cmd_sn = second.cmd_sn + 1
    late = third.command(p.inquiry(), 96, p.FINAL | p.READ)
    c.close()
    assert third.logout(2, c.cid).bhs[2] == RECOVERED
    second.send(p.nop_out(p.RESERVED_TAG, third.cmd_sn, second.exp_stat_sn, ttt=ping.ttt))
    third.silent("an answer that stands behind it")
    assert reassign(third, itt) == COMPLETE
    pdu = third.next()
    assert (pdu.opcode, pdu.itt, pdu.bhs[3]) == (p.SCSI_RESPONSE, itt, p.CHECK_CONDITION), pdu
    third.ping()                                             # which acknowledges it
    assert third.finish(late, 96).status == p.GOOD
    other.clear_attentions()


@rule(19, "RFC 7143 11.9.1")
def another_connection_hears_of_one_that_the_target_drops(t):
    c = level2(t)
    new = join(t, c, 9)
    c.send(p.data_out(c.command(p.write10(0, 1), 512, p.FINAL | p.WRITE), 0x99, c.ack, 5, 3, True), bytes(512))
    c.until_closed()
    said = new.next()
    assert said.opcode == p.ASYNC and said.bhs[36] == 2, f"connection dropped: {said}"
    assert (said.u16(38), said.u16(40), said.u16(42)) == (c.cid, 2, 15), f"CID, Time2Wait, Time2Retain: {said}"


@rule("SNACK", "limits")
def waiting_sessions_of_one_initiator_are_limited(t):
    sessions = [level2(t, name="iqn.2026-11.io.perilune:forgetful") for _ in range(9)]
    for c in sessions:
        c.close()
    kept = 0
    for c in sessions:
        new = t.connect(name=c.name, isid=c.isid, cid=c.cid, cmd_sn=c.cmd_sn)
        new.tsih = c.tsih
        pdu = new.login_step(0x87, *new.names(t.iqn))
        kept += pdu.bhs[36] == 0
        new.close()
    assert kept >= 8, f"{kept} of 9 sessions could be resumed"
    t.still_serves()


@rule("SNACK", "RFC 7143 11.5.1")
def reassignments_without_reason_change_nothing(t):
    c = level2(t, *NO_UNSOLICITED)
    other = level2(t, *NO_UNSOLICITED)
    itt, r2t = open_write(c, 90, pattern(512, 41))
    assert reassign(other, itt) == NO_TASK, "of another session"
    for tag in (itt, 0, p.RESERVED_TAG):
        for _ in range(50):
            assert reassign(c, tag % 2**24 if tag == p.RESERVED_TAG else tag) in (STILL_ALLEGIANT, NO_TASK)
    c.answer_r2t(r2t, pattern(512, 41))
    assert c.finish(itt).status == p.GOOD


def disk(folder):
    path = folder / "disk"
    with open(path, "wb") as f:
        f.truncate(16 << 20)
    return path


if __name__ == "__main__":
    main("error recovery", "ram:16M", disk, options=("--error-recovery-level", "2"))
