#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The command window, status numbering, pings and logout on the wire (RFC 7143 4.2.2, 11.9, 11.14, 11.18, 11.19)."""
import signal

import harness as h
import raw_pdu as p
from rules import main, rule

TUR = p.TEST_UNIT_READY
SMALL = ("InitialR2T=Yes", "ImmediateData=No", "FirstBurstLength=512", "MaxBurstLength=4096")


def waiting_write(c, lun=0, **fields):
    """A WRITE whose data is asked for and not sent: a task that stays. Its tag and its R2T."""
    itt = c.command(p.write10(0, 1), 512, p.FINAL | p.WRITE, lun=lun, **fields)
    return itt, c.next(lambda pdu: pdu.itt == itt and pdu.opcode == p.R2T)


# ---- CmdSN

@rule(1, "RFC 7143 4.2.2.1")
def command_below_the_window_is_ignored(t):
    c = t.session(*SMALL)
    for back in (1, 2, 1000, 2**30):
        c.command(TUR, cmd_sn=(c.cmd_sn - back) % 2**32)
    c.silent("a CmdSN below ExpCmdSN")
    c.good(TUR)


@rule(1, "RFC 7143 4.2.2.1")
def command_above_the_window_is_ignored(t):
    c = t.session(*SMALL)
    c.barrier()
    for sn in (c.window[1] + 1, c.window[1] + 2, c.window[1] + 5000, c.cmd_sn + 2**30):
        c.command(TUR, cmd_sn=sn % 2**32)
    c.silent("a CmdSN above MaxCmdSN")
    for _ in range(8):                        # past the number that came too early: it was not kept either
        c.good(TUR)
    c.silent("a CmdSN above MaxCmdSN, later")


@rule(1, "RFC 7143 4.2.2.1")
def other_pdus_outside_the_window_are_ignored_too(t):
    c = t.session(*SMALL)
    for sn in (c.cmd_sn - 1, c.window[1] + 1):
        c.send(p.nop_out(0x99, sn, c.exp_stat_sn, immediate=False))
        c.send(p.task_management(0x9a, sn, c.exp_stat_sn, 5, immediate=False))
        c.send(p.text_request(0x9b, sn, c.exp_stat_sn, immediate=False))
        c.send(p.logout_request(0x9c, sn, c.exp_stat_sn, immediate=False))
    c.silent("a CmdSN outside the window")
    c.good(TUR)


@rule(1, "RFC 7143 4.2.2.1")
def write_outside_the_window_takes_its_data_with_it(t):
    c = t.session()
    c.good(p.write10(3, 1), write=b"\x01" * 512)
    c.command(p.write10(3, 1), 512, p.FINAL | p.WRITE, b"\xee" * 512, cmd_sn=c.cmd_sn - 1)
    c.silent("a write below the window")
    assert c.good(p.read10(3, 1), 512).data == b"\x01" * 512, "it was carried out"


@rule(1, "RFC 7143 4.2.2.1; RFC 3783")
def commands_are_delivered_in_order_of_cmd_sn(t):
    c = t.session(*SMALL)
    first = c.take_cmd_sn()
    late = c.command(TUR)
    c.silent("a command behind a hole")
    early = c.command(TUR, cmd_sn=first)
    assert [c.next().itt for _ in range(2)] == [early, late]


@rule(1, "RFC 7143 4.2.2.1")
def requests_of_every_kind_wait_for_their_turn(t):
    c = t.session(*SMALL)
    c.open_window(4)
    hole = c.take_cmd_sn()
    c.send(p.nop_out(0x501, c.take_cmd_sn(), c.exp_stat_sn, immediate=False), b"ping")
    c.send(p.text_request(0x502, c.take_cmd_sn(), c.exp_stat_sn, immediate=False), p.keys("SendTargets="))
    c.send(p.task_management(0x503, c.take_cmd_sn(), c.exp_stat_sn, 2, immediate=False))
    c.silent("what is behind a hole")
    itt = c.command(TUR, cmd_sn=hole)
    said = [c.next() for _ in range(4)]
    assert [(pdu.opcode, pdu.itt) for pdu in said] == [(p.SCSI_RESPONSE, itt), (p.NOP_IN, 0x501), (p.TEXT_RESPONSE, 0x502),
                                                     (p.TASK_MANAGEMENT_RESPONSE, 0x503)], said


@rule(1, "RFC 7143 4.2.2.1")
def duplicate_command_is_carried_out_once(t):
    c = t.session(*SMALL)
    hole = c.take_cmd_sn()
    sn = c.take_cmd_sn()
    itt = c.command(TUR, cmd_sn=sn)
    c.command(TUR, cmd_sn=sn)
    first = c.command(TUR, cmd_sn=hole)
    assert [pdu.itt for pdu in c.barrier()] == [first, itt]


@rule(1, "RFC 7143 4.2.2.1, 11.2.1.1")
def immediate_command_takes_no_number(t):
    c = t.session(*SMALL)
    c.barrier()
    before = c.window[0]
    for _ in range(5):
        assert c.run(TUR, immediate=True).status == p.GOOD
    assert c.window[0] == before == c.cmd_sn, "ExpCmdSN moved"
    c.good(TUR)
    assert c.window[0] == before + 1


@rule(1, "RFC 7143 4.2.2.1")
def immediate_command_does_not_wait_for_a_hole(t):
    c = t.session(*SMALL)
    c.command(TUR, cmd_sn=c.cmd_sn + 1)
    itt = c.command(TUR, immediate=True)
    assert c.next().itt == itt
    c.command(TUR, cmd_sn=c.cmd_sn)
    assert len(c.barrier()) == 2


def fill_window(c):
    """WRITEs that wait for data until the window is closed; [(tag, R2T)]."""
    waiting = []
    while c.window[1] != (c.window[0] - 1) % 2**32:
        waiting.append(waiting_write(c))
        assert len(waiting) <= 4096, "the window never closes"
    return waiting


@rule(1, "RFC 7143 4.2.2.1")
def full_window_closes_and_opens_again(t):
    c = t.session(*SMALL)
    for _ in range(3):                        # the window may grow by what is used: it closes at each size
        waiting = fill_window(c)
        assert len(waiting) >= 2 and c.window[0] == c.cmd_sn
        c.command(TUR, cmd_sn=c.cmd_sn)
        c.silent("a command while MaxCmdSN = ExpCmdSN - 1")
        assert c.run(TUR, immediate=True).status == p.GOOD, "immediate commands pass a closed window"
        itt, r2t = waiting.pop()
        c.answer_r2t(r2t, b"\x11" * 512)
        done = c.finish(itt, 512)
        assert done.status == p.GOOD and done.last.window() >= 1, "the answer that frees a place tells of it"
        c.good(TUR)
        for itt, r2t in waiting:
            c.answer_r2t(r2t, b"\x11" * 512)
            assert c.finish(itt, 512).status == p.GOOD
        c.good(TUR)


@rule(1, "RFC 7143 4.2.2.1, 11.2.1.9; RFC 1982")
def cmd_sn_wraps(t):
    for start in (0xfffffff0, 0xfffffffe, 0xffffffff, 0, 0x7ffffffe):
        c = t.connect(cmd_sn=start).login(t.iqn).clear_attentions()
        for _ in range(20):
            c.good(TUR)
        assert c.window[0] == c.cmd_sn
    c = t.connect(cmd_sn=0xfffffffc).login(t.iqn, *SMALL).clear_attentions()
    while c.cmd_sn != 0xffffffff:
        c.good(TUR)
    first = c.take_cmd_sn()                   # FFFFFFFF; the next is 0
    late = c.command(TUR)
    early = c.command(TUR, cmd_sn=first)
    assert [pdu.itt for pdu in c.barrier()] == [early, late], "a hole at the wrap"


@rule(1, "RFC 7143 4.2.2.1")
def every_pdu_carries_the_window(t):
    c = t.session(*SMALL)
    itt = c.command(p.write10(0, 1), 512, p.FINAL | p.WRITE)
    seen = {p.R2T: c.next()}
    c.send(p.snack(itt, c.exp_stat_sn))
    seen[p.REJECT] = c.expect(p.REJECT)
    c.manage(1, referenced=itt)
    seen[p.TASK_MANAGEMENT_RESPONSE] = c.expect(p.TASK_MANAGEMENT_RESPONSE)
    c.command(p.read10(0, 1), 512, p.FINAL | p.READ)
    seen[p.DATA_IN] = c.expect(p.DATA_IN)
    c.command(TUR)
    seen[p.SCSI_RESPONSE] = c.expect(p.SCSI_RESPONSE)
    seen[p.TEXT_RESPONSE] = c.text(p.keys("SendTargets="))
    c.ping()
    seen[p.NOP_IN] = c.expect(p.NOP_IN)
    seen[p.LOGOUT_RESPONSE] = c.logout()
    sn = seen[p.R2T].exp_cmd_sn
    for opcode, behind in ((p.REJECT, 0), (p.TASK_MANAGEMENT_RESPONSE, 0), (p.DATA_IN, 1), (p.SCSI_RESPONSE, 2),
                           (p.TEXT_RESPONSE, 2), (p.NOP_IN, 2), (p.LOGOUT_RESPONSE, 2)):
        assert seen[opcode].exp_cmd_sn == sn + behind, f"ExpCmdSN in {opcode:02x}h"
        assert not p.after(seen[opcode].exp_cmd_sn, seen[opcode].max_cmd_sn + 1), f"MaxCmdSN in {opcode:02x}h"


# ---- StatSN; every PDU received is checked by raw_pdu too

@rule(2, "RFC 7143 4.2.2.2, 11.7 to 11.11, 11.13 to 11.19")
def stat_sn_counts_the_pdus_that_bear_status(t):
    c = t.session(*SMALL)
    sn = c.exp_stat_sn
    itt, r2t = waiting_write(c)
    assert r2t.stat_sn == sn, "an R2T tells the next StatSN and takes none"
    c.command(p.read10(0, 8), 4096, p.FINAL | p.READ)
    data = [c.expect(p.DATA_IN)]
    assert data[0].flags & 1 and data[0].stat_sn == sn, "Data-In with S takes one"
    c.ping()
    assert c.expect(p.NOP_IN).stat_sn == sn + 1
    c.send(p.snack(itt, c.exp_stat_sn))
    assert c.expect(p.REJECT).stat_sn == sn + 2
    c.text(p.keys("SendTargets="))
    c.manage(1, referenced=0x7777)
    assert c.expect(p.TASK_MANAGEMENT_RESPONSE).stat_sn == sn + 4
    c.answer_r2t(r2t, b"\x22" * 512)
    assert c.expect(p.SCSI_RESPONSE).stat_sn == sn + 5
    assert c.logout().stat_sn == sn + 6


@rule(2, "RFC 7143 4.2.2.2, 11.7.3")
def data_in_without_status_reserves_stat_sn(t):
    c = t.session("MaxRecvDataSegmentLength=512")
    pdus = c.good(p.read10(0, 8), 4096).pdus
    assert [pdu.flags & 1 for pdu in pdus] == [0] * 7 + [1]
    assert all(pdu.stat_sn == 0 and pdu.bhs[3] == 0 and pdu.u32(44) == 0 for pdu in pdus[:-1])


@rule(2, "RFC 7143 4.2.2.2")
def stat_sn_is_of_the_connection(t):
    a, b = t.session(), t.session()
    before = b.exp_stat_sn
    for _ in range(5):
        a.good(TUR)
    b.good(TUR)
    assert b.exp_stat_sn == before + 1


@rule("numbering", "RFC 7143 4.2.2.2")
def exp_stat_sn_beyond_what_was_sent_harms_nobody(t):
    c = t.session(*SMALL)
    for jump in (1, 1000, 2**31 - 1, 2**31, 2**32 - 1):
        true = c.exp_stat_sn
        itt = c.command(TUR, immediate=False)
        c.finish(itt)
        c.send(p.scsi_command(0x600, c.take_cmd_sn(), (true + jump) % 2**32, bytes(16)))
        assert c.expect(p.SCSI_RESPONSE, 0x600).bhs[3] == p.GOOD
    t.still_serves()


@rule("numbering", "RFC 7143 11.2.1.8, 11.17.1")
def task_tag_in_use_is_rejected(t):
    c = t.session(*SMALL)
    itt, r2t = waiting_write(c)
    c.command(TUR, itt=itt)
    reject = c.expect(p.REJECT)
    assert reject.bhs[2] == 7, f"task in progress, not {reject.bhs[2]}"
    c.answer_r2t(r2t, b"\x33" * 512)
    assert c.finish(itt, 512).status == p.GOOD, "the task with that tag goes on"
    c.good(TUR)
    assert c.run(TUR, itt=itt).status == p.GOOD, "and the tag is free again"


@rule("numbering", "RFC 7143 11.2.1.8")
def reserved_task_tag_is_no_tag(t):
    c = t.session(*SMALL)
    c.command(TUR, itt=p.RESERVED_TAG)
    said = c.barrier_or_end()
    assert (said or c.ended) and all(pdu.opcode == p.REJECT for pdu in said), f"a command with the reserved tag: {said}"
    t.still_serves()


@rule("numbering", "RFC 7143 4.2.2.1, 11.17.1")
def immediate_commands_are_bounded(t):
    c = t.session(*SMALL)
    rejected, waiting = 0, []
    for _ in range(2000):
        c.command(p.write10(0, 1), 512, p.FINAL | p.WRITE, immediate=True)
    for pdu in c.barrier():
        if pdu.opcode == p.REJECT:
            assert pdu.bhs[2] == 6, f"too many immediate commands, not {pdu}"
            rejected += 1
        else:
            assert pdu.opcode == p.R2T
            waiting.append(pdu)
    assert rejected + len(waiting) == 2000 and 1 <= len(waiting) <= 256, f"{len(waiting)} immediate commands in progress"
    for r2t in waiting:
        c.answer_r2t(r2t, b"\x44" * 512)
        assert c.finish(r2t.itt, 512).status == p.GOOD
    assert c.run(TUR, immediate=True).status == p.GOOD


@rule("numbering", "RFC 7143 4.2.2.1")
def flood_of_immediate_commands_is_answered(t):
    c = t.session(*SMALL)
    for _ in range(20):
        for _ in range(1000):
            c.command(TUR, immediate=True)
        said = c.barrier()
        assert len(said) == 1000 and all(pdu.opcode in (p.SCSI_RESPONSE, p.REJECT) for pdu in said)


# ---- pings

@rule("bonus", "RFC 7143 11.18, 11.19")
def ping_comes_back_whole(t):
    c = t.session("MaxRecvDataSegmentLength=8192")
    for size in (0, 1, 2, 3, 4, 5, 511, 4096, 8192):
        data = bytes(i * 13 % 256 for i in range(size))
        itt = c.ping(data)
        pdu = c.expect(p.NOP_IN, itt)
        assert pdu.data == data and pdu.ttt == p.RESERVED_TAG and pdu.flags == 0x80, f"{size} bytes: {pdu}"
    itt = c.ping(b"x" * 20000)
    assert c.expect(p.NOP_IN, itt).data == b"x" * 8192, "cut to what the initiator takes"
    sn = c.take_cmd_sn()
    c.send(p.nop_out(0x700, sn, c.exp_stat_sn, immediate=False), b"in order")
    assert c.expect(p.NOP_IN, 0x700).exp_cmd_sn == sn + 1, "a ping that is not immediate takes its CmdSN"


@rule("bonus", "RFC 7143 11.18")
def nop_out_with_reserved_tag_is_not_answered(t):
    c = t.session(*SMALL)
    c.send(p.nop_out(p.RESERVED_TAG, c.cmd_sn, c.exp_stat_sn))
    c.send(p.nop_out(p.RESERVED_TAG, c.cmd_sn, c.exp_stat_sn, ttt=0x1234))   # an answer to a ping never sent
    c.silent("a NOP-Out without a task tag")
    c.good(TUR)


# ---- logout and the end

@rule(19, "RFC 7143 11.14, 11.15")
def logout_closes_the_session(t):
    for reason in (0, 1):
        for immediate in (True, False):
            c = t.session(*SMALL)
            pdu = c.logout(reason, immediate=immediate)
            assert pdu.bhs[1] == 0x80 and pdu.bhs[2] == 0 and not c.until_closed()
            assert pdu.u16(42) == 0, "Time2Retain: nothing is retained at recovery level 0"


@rule(19, "RFC 7143 11.14.1, 11.15.1")
def logout_of_another_connection_says_so(t):
    c = t.session(*SMALL)
    assert c.logout(1, cid=77).bhs[2] == 1, "CID not found"
    assert c.logout(2, cid=c.cid).bhs[2] == 2, "connection recovery is not supported at level 0"
    c.good(TUR)


@rule(19, "RFC 7143 11.14, 11.15")
def tasks_end_without_answer_before_the_logout_response(t):
    c = t.session(*SMALL)
    waiting = [waiting_write(c) for _ in range(2)]
    assert waiting
    c.logout()
    assert not c.unread and not c.until_closed(), "a task that the logout ended was answered"
    d = t.session(*SMALL)
    d.good(TUR)


@rule(19, "RFC 7143 11.14")
def nothing_is_served_after_logout(t):
    c = t.session()
    c.good(p.write10(5, 1), write=b"\x01" * 512)
    logout = c.frame(p.logout_request(0x800, c.cmd_sn, c.exp_stat_sn))
    write = c.frame(p.scsi_command(0x801, c.cmd_sn, c.exp_stat_sn, p.write10(5, 1).ljust(16, b"\0"), 0xa1, 512), b"\xee" * 512)
    c.raw(logout + write)
    said = c.until_closed()
    assert [pdu.opcode for pdu in said] == [p.LOGOUT_RESPONSE], said
    assert t.session().good(p.read10(5, 1), 512).data == b"\x01" * 512


@rule(19, "RFC 7143 11.14.1")
def logout_reasons_that_do_not_exist_are_refused(t):
    for reason in (3, 0x7f):
        c = t.session(*SMALL)
        c.send(p.logout_request(0x900, c.cmd_sn, c.exp_stat_sn, reason=reason))
        pdu = c.next()
        assert pdu.opcode == p.REJECT or pdu.opcode == p.LOGOUT_RESPONSE and pdu.bhs[2] != 0, f"{pdu}"
        c.good(TUR)


@rule(19, "RFC 7143 11.9.1")
def stopping_target_announces_that_it_drops_the_session(t):
    with h.serve("ram:4M", options=["--logout-timeout", "0"]) as server:
        c = p.Connection((server.host, server.port)).login(server.iqn).clear_attentions()
        c.good(TUR)
        server.process.send_signal(signal.SIGTERM)
        said = c.until_closed()
        assert len(said) == 1 and said[0].opcode == p.ASYNC and said[0].itt == p.RESERVED_TAG, said
        assert said[0].bhs[36] == 3, f"event {said[0].bhs[36]}"
        assert said[0].u16(38) == 0 and said[0].u16(40) == 2 and said[0].u16(42) == 0, "Time2Wait, and nothing is retained"


@rule(19, "RFC 7143 11.9.1")
def stopping_target_asks_for_a_logout_first(t):
    with h.serve("ram:4M", options=["--logout-timeout", "15"]) as server:
        sessions = [p.Connection((server.host, server.port), isid=bytes([0x80, 0, 0, 0, 0, n])).login(server.iqn) for n in (1, 2)]
        early = p.Connection((server.host, server.port))
        server.process.send_signal(signal.SIGTERM)
        for c in sessions:
            pdu = c.next()
            assert pdu.opcode == p.ASYNC and pdu.itt == p.RESERVED_TAG and pdu.bhs[36] == 1, f"{pdu}"
            assert pdu.u16(38) == pdu.u16(40) == 0 and pdu.u16(42) == 15, "Parameter3: seconds"
        assert not early.until_closed(), "who has not logged in is not asked"
        sessions[0].clear_attentions().good(p.write10(0, 1), write=b"\x11" * 512)
        for c in sessions:
            assert c.logout().bhs[2] == 0 and not c.until_closed()
        server.process.wait(p.PATIENCE)
        assert server.process.returncode == 0


@rule(19, "RFC 7143 11.9.1")
def stopping_target_drops_who_does_not_log_out(t):
    with h.serve("ram:4M", options=["--logout-timeout", "1"]) as server:
        c = p.Connection((server.host, server.port)).login(server.iqn)
        server.process.send_signal(signal.SIGTERM)
        assert [(pdu.opcode, pdu.bhs[36]) for pdu in c.until_closed()] == [(p.ASYNC, 1), (p.ASYNC, 3)]


@rule("races", "RFC 7143 6.3.6")
def connections_cut_in_every_state_leave_no_trace(t):
    for step in range(6):
        c = t.session(*SMALL) if step else t.connect()
        if step == 0:
            c.login_pdu(0x04, p.keys(*c.names(t.iqn))[:30])
        elif step == 1:
            waiting_write(c)
        elif step == 2:
            _, r2t = waiting_write(c)
            c.raw(c.frame(p.data_out(r2t.itt, r2t.ttt, c.exp_stat_sn, 0, 0, True), b"\x55" * 512)[:100])
        elif step == 3:
            waiting_write(c)
            c.manage(5)
        elif step == 4:
            c.raw(c.frame(p.logout_request(1, c.cmd_sn, c.exp_stat_sn))[:20])
        else:
            waiting_write(c)
            c.send(p.logout_request(1, c.cmd_sn, c.exp_stat_sn))
        c.close()
    t.still_serves()


if __name__ == "__main__":
    main("window, status, logout", "ram:16M", "ram:16M")
