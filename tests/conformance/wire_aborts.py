#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Aborts of many tasks on the wire: what TaskReporting makes of them (RFC 7143 4.2.2.3, 4.2.3.2 to 4.2.3.4, 11.9.1, 13.23)."""
import os

import raw_pdu as p
from rules import main, rule

TUR = p.TEST_UNIT_READY
SMALL = ("InitialR2T=Yes", "ImmediateData=No", "FirstBurstLength=512", "MaxBurstLength=4096")
FAST = (*SMALL, "TaskReporting=FastAbort")
ABORT_TASK, ABORT_TASK_SET, CLEAR_ACA, CLEAR_TASK_SET, LUN_RESET, WARM_RESET = range(1, 7)
COMPLETE = 0
SEVERAL_THREADS = "--threads" in os.environ.get("PERILUNE_SERVE_OPTIONS", "")
ALL_TASKS_TERMINATED = 5
CLEARED, LUN_WAS_RESET = (6, 0x2f, 0), (6, 0x29, 3)


def waiting_write(c, lun=0, lba=0):
    itt = c.command(p.write10(lba, 1), 512, p.FINAL | p.WRITE, lun=lun)
    return itt, c.next(lambda pdu: pdu.itt == itt and pdu.opcode == p.R2T)


def abort_and_data(c, function, waiting):
    """The request, and right behind it the data that was asked for before."""
    itt, r2t = waiting
    tag = 0x4000 + function
    c.raw(c.frame(p.task_management(tag, c.cmd_sn, c.exp_stat_sn, function)) +
          c.frame(p.data_out(itt, r2t.ttt, c.exp_stat_sn, 0, 0, True), b"\x77" * 512))
    return tag


def second_connection(t, c, *pairs):
    """Another connection of the session."""
    other = t.connect(isid=c.isid, name=c.name, cid=c.cid + 1, cmd_sn=c.cmd_sn)
    other.tsih = c.tsih
    return other.login(t.iqn, *pairs)


def acknowledge(c, ping, lun=0):
    """Answers a ping of the target."""
    assert ping.opcode == p.NOP_IN and ping.itt == p.RESERVED_TAG and ping.ttt != p.RESERVED_TAG, f"{ping} is no ping"
    c.send(p.nop_out(p.RESERVED_TAG, c.cmd_sn, c.exp_stat_sn, ttt=ping.ttt, lun=lun))


@rule(6, "RFC 7143 13.23")
def task_reporting_is_the_first_of_the_list_that_is_known(t):
    for offered, chosen in (("FastAbort", "FastAbort"), ("ResponseFence", "ResponseFence"), ("RFC3720", "RFC3720"),
                            ("ResponseFence,FastAbort,RFC3720", "ResponseFence"), ("X-none,FastAbort", "FastAbort")):
        assert t.session(f"TaskReporting={offered}").params["TaskReporting"] == chosen


@rule(6, "RFC 7143 4.2.3.3 a")
def standard_abort_waits_for_data_that_was_asked_for(t):
    for reporting in ("RFC3720", "ResponseFence"):
        for function in (ABORT_TASK_SET, CLEAR_TASK_SET, LUN_RESET, WARM_RESET):
            c = t.session(*SMALL, f"TaskReporting={reporting}")
            waiting = waiting_write(c)
            tag = abort_and_data(c, function, waiting)
            said = [c.next(), c.next()]
            assert [pdu.itt for pdu in said] == [waiting[0], tag], f"the task, whose data was complete, then the response: {said}"
            assert said[1].bhs[2] == COMPLETE
            c.clear_attentions()


@rule(6, "RFC 7143 4.2.3.3 a")
def standard_abort_does_not_wait_for_ever(t):
    c = t.session(*SMALL)
    waiting = waiting_write(c)
    assert c.managed(c.manage(LUN_RESET)) == COMPLETE
    c.answer_r2t(waiting[1], b"\xee" * 512)
    c.silent("the data of an aborted task")
    c.clear_attentions()


@rule(6, "RFC 7143 4.2.3.4")
def fast_abort_does_not_wait_for_data(t):
    for function in (ABORT_TASK_SET, CLEAR_TASK_SET, LUN_RESET, WARM_RESET):
        c = t.session(*FAST)
        c.good(p.write10(3, 1), write=b"\x11" * 512, immediate_data=0)
        tag = abort_and_data(c, function, waiting_write(c, lba=3))
        pdu = c.next()
        ended = SEVERAL_THREADS and pdu.opcode == p.SCSI_RESPONSE   # a reset takes effect when all of them have heard of it
        if ended:
            pdu = c.next()
        assert (pdu.opcode, pdu.itt, pdu.bhs[2]) == (p.TASK_MANAGEMENT_RESPONSE, tag, COMPLETE), pdu
        c.silent("an aborted task, its data, or a message on the issuing connection")
        c.clear_attentions()
        assert c.good(p.read10(3, 1), 512).data == (b"\x77" if ended else b"\x11") * 512


@rule(6, "RFC 7143 4.2.3.3 b, 4.2.3.4 a")
def immediate_abort_waits_for_commands_that_are_missing(t):
    for reporting in ("RFC3720", "FastAbort"):
        c = t.session(*SMALL, f"TaskReporting={reporting}").open_window(4)
        missing = c.take_cmd_sn()
        tag = c.manage(ABORT_TASK_SET)
        c.silent("an abort of commands that have not all come")
        itt = c.command(TUR, cmd_sn=missing)
        said = c.barrier()
        assert [pdu.itt for pdu in said] == [itt, tag] and said[1].bhs[2] == COMPLETE, f"{said}"


@rule(6, "RFC 7143 4.2.3.3 b")
def immediate_abort_does_not_wait_for_what_a_lost_connection_took_along(t):
    first = t.session(*SMALL, "MaxConnections=2").open_window(4)
    second = second_connection(t, first)
    first.take_cmd_sn()                              # of a command that goes down with the second connection
    behind = first.command(TUR)
    tag = first.manage(ABORT_TASK_SET, lun=1)
    first.silent("an abort of commands that have not all come")
    second.close()
    acknowledge(first, first.next())                 # nothing is under way on this one
    said = [first.next(), first.next()]
    assert {pdu.itt for pdu in said} == {behind, tag}, f"{said}"
    assert first.window[0] == first.cmd_sn, "the number that is missing counts as received"
    first.good(TUR)


@rule(6, "RFC 7143 4.2.3.4 d, 11.9.1")
def fast_abort_tells_other_sessions_for_each_unit(t):
    mine, fast, slow = t.session(*SMALL), t.session(*FAST, luns=(0, 1)).open_window(4), t.session(*SMALL)
    tasks = [waiting_write(fast), waiting_write(fast, lba=1)]
    kept = waiting_write(fast, lun=1)
    waiting_write(slow)
    assert mine.managed(mine.manage(LUN_RESET)) == COMPLETE
    slow.silent("the end of a task, with RFC3720")
    said = fast.barrier()
    assert [pdu.opcode for pdu in said] == [p.ASYNC], f"one message for the unit: {said}"
    assert said[0].bhs[36] == ALL_TASKS_TERMINATED and said[0].bhs[8:16] == bytes(8) and said[0].itt == p.RESERVED_TAG
    for _, r2t in tasks:
        fast.answer_r2t(r2t, b"\xee" * 512)          # under way when the message came
    fast.send(p.nop_out(p.RESERVED_TAG, fast.cmd_sn, fast.exp_stat_sn))
    fast.silent("the acknowledgement, and the data before it")
    fast.answer_r2t(kept[1], b"\x66" * 512, lun=1)
    assert fast.finish(kept[0], 512, lun=1).status == p.GOOD, "another unit"
    assert fast.run(TUR).asc == LUN_WAS_RESET
    for c in (mine, slow):
        c.clear_attentions()


@rule(6, "RFC 7143 4.2.3.4 d 2, e")
def fast_abort_tells_the_other_connections_of_the_session(t):
    first = t.session(*FAST, "MaxConnections=2").open_window(4)
    second = second_connection(t, first)
    itt = second.command(p.write10(0, 1), 512, p.FINAL | p.WRITE, cmd_sn=first.take_cmd_sn())
    second.next(lambda pdu: pdu.opcode == p.R2T and pdu.itt == itt)
    tag = first.manage(LUN_RESET)
    message = second.expect(p.ASYNC)
    assert message.bhs[36] == ALL_TASKS_TERMINATED
    acknowledge(second, second.next())
    assert first.expect(p.TASK_MANAGEMENT_RESPONSE, tag).bhs[2] == COMPLETE


@rule(6, "RFC 7143 4.2.2.3.3, 4.2.2.3.4")
def response_fence_holds_answers_of_other_connections_back(t):
    first = t.session(*SMALL, "MaxConnections=2", "TaskReporting=ResponseFence").open_window(4)
    second = second_connection(t, first)
    done = second.command(TUR, cmd_sn=first.take_cmd_sn())
    assert second.next().itt == done                 # and is not acknowledged
    tag = first.manage(LUN_RESET)
    ping = second.next()
    first.silent("a reset whose earlier answers are not acknowledged")
    acknowledge(second, ping)
    assert first.next().itt == tag
    later = second.command(TUR, cmd_sn=first.take_cmd_sn())
    second.silent("an answer behind the response of the reset")
    acknowledge(first, first.next())
    pdu = second.next()
    assert pdu.itt == later and pdu.bhs[3] == p.CHECK_CONDITION, "29/03, fenced too"
    last = first.command(TUR)
    first.silent("an answer behind the unit attention")
    acknowledge(second, second.next())
    assert first.finish(last).status == p.GOOD


if __name__ == "__main__":
    main("aborts of many tasks", "ram:16M", "ram:16M")
