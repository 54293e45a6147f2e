#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Task management and unit attentions on the wire (RFC 7143 4.2.3, 11.5, 11.6; SAM-5 clause 7, 5.14)."""
import raw_pdu as p
from rules import main, rule

TUR = p.TEST_UNIT_READY
SMALL = ("InitialR2T=Yes", "ImmediateData=No", "FirstBurstLength=512", "MaxBurstLength=4096")
ABORT_TASK, ABORT_TASK_SET, CLEAR_ACA, CLEAR_TASK_SET, LUN_RESET, WARM_RESET, COLD_RESET, REASSIGN = range(1, 9)
QUERY_TASK, QUERY_TASK_SET, NEXUS_RESET, QUERY_EVENT = range(9, 13)      # RFC 7144
COMPLETE, NO_TASK, NO_LUN, ALLEGIANT, NO_REASSIGN, NOT_SUPPORTED, NOT_AUTHORIZED, SUCCEEDED = range(8)
POWER_ON, TARGET_RESET, LUN_WAS_RESET, NEXUS_LOSS = (6, 0x29, 0), (6, 0x29, 2), (6, 0x29, 3), (6, 0x29, 7)
COMMANDS_CLEARED, MODE_CHANGED = (6, 0x2f, 0), (6, 0x2a, 1)


def waiting_write(c, lun=0, lba=0, **fields):
    """A WRITE whose data is asked for and not sent: a task that stays. Its tag and its R2T."""
    itt = c.command(p.write10(lba, 1), 512, p.FINAL | p.WRITE, lun=lun, **fields)
    return itt, c.next(lambda pdu: pdu.itt == itt and pdu.opcode == p.R2T)


def finishes(c, waiting, lun=0):
    itt, r2t = waiting
    c.answer_r2t(r2t, b"\x66" * 512, lun=lun)
    return c.finish(itt, 512, lun=lun).status == p.GOOD


# ---- functions and responses

@rule(6, "RFC 7143 11.5.1, 11.6.1")
def abort_task_ends_the_task_without_an_answer(t):
    c = t.session(*SMALL)
    c.good(p.write10(0, 1), write=b"\x01" * 512, immediate_data=0)
    itt, _ = waiting_write(c)
    other = waiting_write(c, lba=1)
    tag = c.manage(ABORT_TASK, referenced=itt)
    pdu = c.expect(p.TASK_MANAGEMENT_RESPONSE, tag)
    assert pdu.bhs[1] == 0x80 and pdu.bhs[2] == COMPLETE
    c.silent("an aborted task")
    assert finishes(c, other), "another task was ended"
    assert c.run(TUR, itt=itt).status == p.GOOD, "its tag is free again"
    assert c.good(p.read10(0, 1), 512).data == b"\x01" * 512


@rule(6, "RFC 7143 11.6.1")
def abort_of_a_task_that_is_over_says_so(t):
    c = t.session(*SMALL)
    itt = c.command(TUR)
    c.finish(itt)
    sn = c.cmd_sn - 1
    assert c.managed(c.manage(ABORT_TASK, referenced=itt, ref_cmd_sn=sn)) == NO_TASK
    assert c.managed(c.manage(ABORT_TASK, referenced=0x31337, ref_cmd_sn=(c.cmd_sn - 100) % 2**32)) == NO_TASK
    assert c.managed(c.manage(ABORT_TASK, referenced=0x31337, ref_cmd_sn=c.window[1] + 1)) == NO_TASK


@rule(6, "RFC 7143 11.5.1, 11.6.1")
def abort_of_a_task_not_seen_yet_counts_it_as_received(t):
    c = t.session(*SMALL).open_window(4)
    lost = c.take_cmd_sn()
    behind = c.command(TUR)
    c.silent("a command behind a hole")
    tag = c.manage(ABORT_TASK, referenced=0x4711, ref_cmd_sn=lost)
    said = c.barrier()
    assert [(pdu.opcode, pdu.itt) for pdu in said] == [(p.TASK_MANAGEMENT_RESPONSE, tag), (p.SCSI_RESPONSE, behind)], said
    assert said[0].bhs[2] == COMPLETE and said[-1].exp_cmd_sn == c.cmd_sn, "its CmdSN is consumed"
    c.command(TUR, cmd_sn=lost, itt=0x4711)
    c.silent("the aborted command, when it came")
    c.good(TUR)


@rule(6, "RFC 7143 11.5.1")
def abort_of_a_task_behind_a_hole_ends_it(t):
    c = t.session(*SMALL).open_window(4)
    hole = c.take_cmd_sn()
    behind = c.command(TUR)
    assert c.managed(c.manage(ABORT_TASK, referenced=behind, ref_cmd_sn=c.cmd_sn - 1)) == COMPLETE
    first = c.command(TUR, cmd_sn=hole)
    assert [pdu.itt for pdu in c.barrier()] == [first], "the aborted command was carried out"
    assert c.window[0] == c.cmd_sn, "its CmdSN is consumed all the same"
    c.good(TUR)


@rule(6, "RFC 7143 11.5.3, 11.6.1")
def unknown_lun_has_a_response_of_its_own(t):
    c = t.session(*SMALL)
    for function in (ABORT_TASK_SET, CLEAR_TASK_SET, LUN_RESET):
        for lun in (9, 300, b"\x80" + bytes(7), b"\xff" * 8):
            assert c.managed(c.manage(function, lun=lun)) == NO_LUN, f"function {function}, LUN {lun}"


@rule(6, "RFC 7143 11.5.1, 11.6.1")
def functions_that_are_not_there_are_not_supported(t):
    c = t.session(*SMALL)
    assert c.managed(c.manage(CLEAR_ACA)) == NOT_SUPPORTED
    assert c.managed(c.manage(REASSIGN, referenced=0x55)) in (NO_REASSIGN, NOT_SUPPORTED, NO_TASK)
    for function in (0, 13, 42, 127):
        itt = c.manage(function)
        pdu = c.next()
        assert pdu.opcode == p.REJECT or pdu.itt == itt and pdu.bhs[2] in (NOT_SUPPORTED, 255), f"function {function}: {pdu}"
    for function in (9, 10, 11, 12):          # RFC 7144: only with iSCSIProtocolLevel=2
        pdu = c.next(lambda pdu, itt=c.manage(function): pdu.itt in (itt, p.RESERVED_TAG))
        assert pdu.opcode == p.REJECT or pdu.bhs[2] in (NOT_SUPPORTED, 255), f"function {function}: {pdu}"
    c.good(TUR)


LEVEL_2 = (*SMALL, "iSCSIProtocolLevel=2")
REPORT_FUNCTIONS = bytes([0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0])


@rule(6, "RFC 7144 6; SAM-5 7.9, 7.11")
def query_task_tells_what_is_in_the_task_set(t):
    c = t.session(*LEVEL_2).open_window(4)
    assert c.managed(c.manage(QUERY_TASK_SET)) == COMPLETE
    waiting = waiting_write(c)
    assert c.managed(c.manage(QUERY_TASK, referenced=waiting[0])) == SUCCEEDED
    assert c.managed(c.manage(QUERY_TASK, referenced=0x31337)) == COMPLETE
    assert c.managed(c.manage(QUERY_TASK, referenced=waiting[0], lun=1)) == COMPLETE, "not on this unit"
    assert c.managed(c.manage(QUERY_TASK_SET)) == SUCCEEDED
    assert c.managed(c.manage(QUERY_TASK_SET, lun=1)) == COMPLETE
    assert c.managed(c.manage(QUERY_TASK_SET, lun=9)) == NO_LUN
    hole = c.take_cmd_sn()
    behind = c.command(TUR, lun=1)
    assert c.managed(c.manage(QUERY_TASK, referenced=behind, lun=1)) == SUCCEEDED, "it waits for its turn"
    c.finish(c.command(TUR, cmd_sn=hole))
    c.finish(behind)
    assert finishes(c, waiting), "asking changes nothing"
    assert c.managed(c.manage(QUERY_TASK, referenced=waiting[0])) == COMPLETE


@rule(6, "RFC 7144 6; SAM-5 7.7")
def nexus_reset_ends_the_tasks_of_this_nexus_on_every_unit(t):
    mine, theirs = t.session(*LEVEL_2, luns=(0, 1)).open_window(4), t.session(*SMALL, luns=(0, 1))
    waiting_write(mine)
    waiting_write(mine, lun=1)
    other = waiting_write(theirs)
    assert mine.managed(mine.manage(NEXUS_RESET)) == COMPLETE
    mine.silent("a task of the nexus")
    for lun in (0, 1):
        assert mine.run(TUR, lun=lun).asc == NEXUS_LOSS and mine.run(TUR, lun=lun).status == p.GOOD
    assert finishes(theirs, other), "a task of another nexus"
    theirs.good(TUR)


@rule(6, "RFC 7144 6; SAM-5 7.10")
def query_asynchronous_event_tells_the_attention_and_leaves_it(t):
    mine, theirs = t.session(*LEVEL_2), t.session(*LEVEL_2)
    pdu = theirs.next(lambda pdu, itt=theirs.manage(QUERY_EVENT): pdu.itt == itt)
    assert pdu.bhs[2] == COMPLETE and pdu.bhs[8:11] == bytes(3)
    assert mine.managed(mine.manage(LUN_RESET)) == COMPLETE
    for _ in range(2):
        pdu = theirs.next(lambda pdu, itt=theirs.manage(QUERY_EVENT): pdu.itt == itt)
        assert pdu.bhs[2] == SUCCEEDED and pdu.bhs[8:11] == bytes([0x16, 0x29, 3]), f"one attention, 29/03: {pdu}"
    assert theirs.run(TUR).asc == LUN_WAS_RESET
    assert theirs.managed(theirs.manage(QUERY_EVENT)) == COMPLETE
    assert theirs.managed(theirs.manage(QUERY_EVENT, lun=9)) == NO_LUN
    mine.clear_attentions()


@rule(6, "RFC 7144 7; SPC-4 6.36")
def what_is_reported_of_the_functions_is_what_the_session_agreed_on(t):
    assert t.session(*SMALL).good(REPORT_FUNCTIONS, 16).data == b"\xda\0\0\0"
    c = t.session(*LEVEL_2)
    assert c.params["iSCSIProtocolLevel"] == "2"
    assert c.good(REPORT_FUNCTIONS, 16).data == b"\xde\x07\0\0"


@rule(6, "RFC 7144")
def command_priority_is_accepted(t):
    c = t.session(*LEVEL_2)
    for priority in (1, 7, 15):
        itt = c.take_cmd_sn()
        header = bytearray(p.scsi_command(itt, itt, c.exp_stat_sn, TUR.ljust(16, b"\0")))
        header[2] = priority << 4
        c.send(bytes(header))
        assert c.finish(itt).status == p.GOOD


@rule(6, "SAM-5 5.3.1, SPC-4 7.5.8")
def with_tas_others_are_told_by_a_status(t):
    mine, theirs = t.session(*SMALL, luns=(0, 1)), t.session(*SMALL, luns=(0, 1))
    page = bytes(4) + bytes(mine.good(p.mode_sense6(0x0a), 255).data[4:])
    changed = bytearray(page)
    changed[4 + 5] |= 0x40                           # TAS
    mine.good(p.mode_select6(len(page)), write=bytes(changed), immediate_data=0)
    theirs.clear_attentions()
    own, (itt, r2t) = waiting_write(mine), waiting_write(theirs)
    kept = waiting_write(theirs, lun=1)
    assert mine.managed(mine.manage(CLEAR_TASK_SET)) == COMPLETE
    mine.silent("its own task")
    done = theirs.finish(itt, 512)
    assert done.status == p.TASK_ABORTED and done.underflow and done.residual == 512 and not done.last.data, f"{done}"
    theirs.answer_r2t(r2t, b"\xee" * 512)
    theirs.silent("the data of an aborted task")
    theirs.good(TUR)
    assert finishes(theirs, kept, lun=1)
    mine.good(p.mode_select6(len(page)), write=page, immediate_data=0)
    theirs.clear_attentions()
    assert mine.managed(mine.manage(ABORT_TASK, referenced=own[0])) == NO_TASK


@rule(6, "SAM-5 5.3.1; RFC 7143 11.14")
def with_tas_a_session_ends_whose_answer_waits_for_data(t):
    mine, theirs = t.session(*SMALL), t.session("InitialR2T=No", "ImmediateData=No", "FirstBurstLength=1024")
    page = bytes(4) + bytes(mine.good(p.mode_sense6(0x0a), 255).data[4:])
    changed = bytearray(page)
    changed[4 + 5] |= 0x40                           # TAS
    mine.good(p.mode_select6(len(page)), write=bytes(changed), immediate_data=0)
    theirs.clear_attentions()
    theirs.command(p.write10(0, 2), 1024, p.WRITE)   # the data that may come unasked does not
    theirs.barrier()
    assert mine.managed(mine.manage(CLEAR_TASK_SET)) == COMPLETE
    theirs.silent("a command whose data is still due")
    assert theirs.logout().bhs[2] == 0
    mine.good(p.mode_select6(len(page)), write=page, immediate_data=0)


@rule(6, "RFC 7143 4.2.3.3; SAM-5 7.3")
def abort_task_set_ends_only_what_this_nexus_has_on_this_unit(t):
    mine, theirs = t.session(*SMALL, luns=(0, 1)).open_window(4), t.session(*SMALL, luns=(0, 1))
    gone, kept, other = waiting_write(mine), waiting_write(mine, lun=1), waiting_write(theirs)
    assert mine.managed(mine.manage(ABORT_TASK_SET)) == COMPLETE
    mine.silent("a task of the set")
    assert finishes(mine, kept, lun=1) and finishes(theirs, other)
    mine.answer_r2t(gone[1], b"\xee" * 512)
    mine.silent("the data of an aborted task")
    mine.good(TUR)
    theirs.good(TUR)


@rule(6, "RFC 7143 4.2.3.3; SAM-5 7.5, 5.14")
def clear_task_set_ends_the_tasks_of_all_and_tells_the_others(t):
    mine, theirs, idle = (t.session(*SMALL, luns=(0, 1)) for _ in range(3))
    waiting_write(mine)
    waiting_write(theirs)
    kept = waiting_write(theirs, lun=1)
    assert mine.managed(mine.manage(CLEAR_TASK_SET)) == COMPLETE
    mine.silent("a task of the set")
    theirs.silent("a task of the set, TAS = 0")
    assert finishes(theirs, kept, lun=1)
    mine.good(TUR)
    idle.good(TUR)
    assert theirs.run(TUR).asc == COMMANDS_CLEARED and theirs.run(TUR).status == p.GOOD


@rule(6, "RFC 7143 4.2.3.3; SAM-5 6.3.3, 7.7")
def lun_reset_ends_the_tasks_of_the_unit(t):
    mine, theirs = t.session(*SMALL, luns=(0, 1)).open_window(4), t.session(*SMALL, luns=(0, 1))
    waiting_write(mine)
    waiting_write(theirs)
    kept, theirs_kept = waiting_write(mine, lun=1), waiting_write(theirs, lun=1)
    assert mine.managed(mine.manage(LUN_RESET)) == COMPLETE
    mine.silent("a task of the unit")
    theirs.silent("a task of the unit")
    assert theirs.run(TUR).asc == LUN_WAS_RESET, "29/03 on the other nexus"
    assert mine.run(TUR).asc in (LUN_WAS_RESET, None)
    for c, waiting in ((mine, kept), (theirs, theirs_kept)):
        assert finishes(c, waiting, lun=1), "another unit was reset too"
        assert c.run(TUR, lun=1).status == p.GOOD and c.run(TUR).status == p.GOOD


@rule(6, "RFC 7143 11.5.1; SAM-5 6.3.2")
def target_warm_reset_resets_every_unit(t):
    mine, theirs = t.session(*SMALL, luns=(0, 1)), t.session(*SMALL, luns=(0, 1))
    waiting_write(theirs)
    waiting_write(theirs, lun=1)
    assert mine.managed(mine.manage(WARM_RESET)) == COMPLETE
    theirs.silent("a task of the target")
    for lun in (0, 1):
        assert theirs.run(TUR, lun=lun).asc in (TARGET_RESET, LUN_WAS_RESET, POWER_ON)
    theirs.clear_attentions((0, 1))
    mine.clear_attentions((0, 1))


@rule(6, "RFC 7143 11.5.1")
def target_cold_reset_ends_every_session(t):
    mine, theirs = t.session(*SMALL), t.session(*SMALL)
    waiting_write(theirs)
    mine.manage(COLD_RESET)
    said = mine.until_closed()
    assert len(said) <= 1 and not theirs.until_closed()
    t.still_serves()


# ---- order

@rule(6, "RFC 7143 4.2.3.3, 4.2.3.6")
def answers_of_earlier_tasks_come_before_the_response(t):
    c = t.session(*SMALL).open_window(4)
    frames = [c.frame(p.scsi_command(0x100 + n, c.take_cmd_sn(), c.exp_stat_sn, bytes(16))) for n in range(3)]
    reset = c.frame(p.task_management(0x200, c.cmd_sn, c.exp_stat_sn, LUN_RESET))
    c.raw(b"".join(frames) + reset)
    said = [c.next() for _ in range(4)]
    assert said[-1].itt == 0x200 and {pdu.itt for pdu in said[:3]} <= {0x100, 0x101, 0x102}, said
    c.silent("a task after the response of the reset")


@rule(6, "RFC 7143 4.2.2.1, 11.5")
def request_that_is_not_immediate_waits_for_its_turn(t):
    c = t.session(*SMALL, "TaskReporting=FastAbort").open_window(4)
    hole = c.take_cmd_sn()
    tag = c.manage(ABORT_TASK_SET, immediate=False)
    c.silent("task management behind a hole")
    itt = c.command(p.write10(0, 1), 512, p.FINAL | p.WRITE, cmd_sn=hole)
    said = c.barrier()
    assert said[-1].itt == tag and said[-1].bhs[2] == COMPLETE
    assert all(pdu.itt == tag or pdu.opcode == p.R2T for pdu in said), f"the task was answered: {said}"
    c.silent("the aborted write")
    assert c.run(TUR, itt=itt).status == p.GOOD


@rule(6, "RFC 7143 4.2.3.3")
def tasks_behind_a_hole_are_affected_too(t):
    c = t.session(*SMALL).open_window(4)
    hole = c.take_cmd_sn()
    c.command(TUR)                                   # has come, but waits
    tag = c.manage(ABORT_TASK_SET)
    first = c.command(TUR, lun=1, cmd_sn=hole)       # of another unit: not affected
    said = c.barrier()
    assert {pdu.itt for pdu in said} == {tag, first}, f"{said}"
    assert [pdu.bhs[2] for pdu in said if pdu.itt == tag] == [COMPLETE]
    assert c.window[0] == c.cmd_sn


@rule(6, "RFC 7143 11.17.1")
def task_management_requests_are_bounded(t):
    c = t.session(*SMALL)
    tags = [c.manage(ABORT_TASK, referenced=0x31337) for _ in range(2000)]
    said = c.barrier()
    assert len(said) == 2000 and all(pdu.opcode == p.REJECT or pdu.itt in tags for pdu in said)
    c.good(TUR)


@rule("races", "RFC 7143 4.2.3")
def resets_at_once_are_all_answered(t):
    sessions = [t.session(*SMALL, luns=(0, 1)) for _ in range(4)]
    for c in sessions:
        waiting_write(c)
        waiting_write(c, lun=1)
    tags = {}
    for c in sessions:
        tags[c] = [c.manage(function, lun=lun) for function in (LUN_RESET, CLEAR_TASK_SET, ABORT_TASK_SET, WARM_RESET) for lun in (0, 1)]
    for c in sessions:
        for tag in tags[c]:
            assert c.managed(tag) == COMPLETE
        c.silent("a task that was reset")
        c.clear_attentions((0, 1))


@rule("races", "RFC 7143 4.2.3, SPDK class: abort against R2T")
def abort_meets_the_last_data(t):
    for cut in (0, 1, 24, 47, 48, 300, 559, 560):
        c = t.session(*SMALL)
        itt, r2t = waiting_write(c)
        frame = c.frame(p.data_out(itt, r2t.ttt, c.exp_stat_sn, 0, 0, True), b"\x77" * 512)
        abort = c.frame(p.task_management(0x300, c.cmd_sn, c.exp_stat_sn, ABORT_TASK, 0, itt))
        if cut in (0, 560):                          # before the data, or right behind it
            c.raw(abort + frame if cut == 0 else frame + abort)
        else:                                        # the data in two pieces, the abort behind it
            c.raw(frame[:cut])
            c.raw(frame[cut:] + abort)
        said = c.barrier()
        answers = [pdu for pdu in said if pdu.opcode == p.TASK_MANAGEMENT_RESPONSE]
        status = [pdu for pdu in said if pdu.opcode == p.SCSI_RESPONSE]
        assert len(answers) == 1 and answers[0].bhs[2] in (COMPLETE, NO_TASK)
        assert len(status) == (1 if answers[0].bhs[2] == NO_TASK else 0), f"{said}"
        c.good(TUR)


# ---- unit attentions

@rule(13, "SAM-5 5.14, 6.3.1")
def fresh_nexus_is_told_of_power_on_once_per_unit(t):
    c = t.connect(name="iqn.2026-11.io.perilune:fresh").login(t.iqn)
    for lun in (0, 1):
        done = c.run(p.read10(0, 1), 512, lun=lun)
        assert done.status == p.CHECK_CONDITION and done.asc == POWER_ON and not done.data, f"LUN {lun}: {done}"
        assert c.run(p.read10(0, 1), 512, lun=lun).status == p.GOOD


@rule(13, "SAM-5 5.14, 6.3.4")
def nexus_that_comes_back_is_told_of_its_loss(t):
    c = t.session(luns=(0, 1))
    again = t.connect(isid=c.isid).login(t.iqn)
    assert again.run(TUR).asc in (NEXUS_LOSS, POWER_ON)
    assert again.run(TUR).status == p.GOOD


@rule(13, "SAM-5 5.14; SPC-4 6.6, 6.33")
def inquiry_and_report_luns_do_not_take_the_attention(t):
    c = t.connect().login(t.iqn)
    assert c.run(p.inquiry(), 255).status == p.GOOD
    assert c.run(p.report_luns(), 4096).status == p.GOOD
    assert c.run(TUR).asc[:2] == (6, 0x29), "still there"


@rule(13, "SPC-4 6.39")
def request_sense_tells_the_attention_and_clears_it(t):
    for descriptor in (False, True):
        c = t.connect(name=f"iqn.2026-11.io.perilune:sense{descriptor:d}").login(t.iqn)
        data = c.good(p.request_sense(descriptor=descriptor), 252).data
        if descriptor:
            assert data[0] == 0x72 and tuple(data[1:4]) == POWER_ON
        else:
            assert data[0] == 0x70 and (data[2], data[12], data[13]) == POWER_ON
        data = c.good(p.request_sense(descriptor=descriptor), 252).data
        assert not any(data[1:4] if descriptor else (data[2], data[12], data[13])), "NO SENSE afterwards"
        c.good(TUR)


@rule(13, "SAM-5 5.14.4")
def reset_comes_before_lesser_news(t):
    mine, theirs = t.session(), t.session()
    page = bytes([0, 0, 0, 0]) + bytes(mine.good(p.mode_sense6(0x0a), 255).data[4:])
    changed = bytearray(page)
    changed[4 + 2] ^= 0x04                           # D_SENSE
    mine.good(p.mode_select6(len(page)), write=bytes(changed))
    assert mine.managed(mine.manage(LUN_RESET)) == COMPLETE
    asc = theirs.run(TUR).asc
    assert asc == LUN_WAS_RESET, f"{asc} before the reset"
    theirs.clear_attentions()
    mine.clear_attentions()
    mine.good(p.mode_select6(len(page)), write=page)


@rule(13, "SPC-4 6.9, 5.6")
def mode_select_tells_the_others(t):
    mine, theirs = t.session(luns=(0, 1)), t.session(luns=(0, 1))
    page = bytes([0, 0, 0, 0]) + bytes(mine.good(p.mode_sense6(0x0a), 255).data[4:])
    changed = bytearray(page)
    changed[4 + 2] ^= 0x04
    mine.good(p.mode_select6(len(page)), write=bytes(changed))
    mine.good(TUR)
    assert theirs.run(TUR).asc == MODE_CHANGED and theirs.run(TUR).status == p.GOOD
    assert theirs.run(TUR, lun=1).status == p.GOOD, "another unit"
    mine.good(p.mode_select6(len(page)), write=bytes(changed))
    assert theirs.run(TUR).status == p.GOOD, "nothing changed this time"
    mine.good(p.mode_select6(len(page)), write=page)
    theirs.clear_attentions()


@rule(13, "SAM-5 5.14")
def attention_costs_the_command_but_not_its_place(t):
    c = t.connect().login(t.iqn, "InitialR2T=No", "ImmediateData=Yes", "FirstBurstLength=8192")
    sn = c.window[0]
    done = c.run(p.write10(20, 1), write=b"\xee" * 512)
    assert done.asc[:2] == (6, 0x29) and done.last.exp_cmd_sn == sn + 1
    assert c.good(p.read10(20, 1), 512).data == bytes(512), "the refused write was carried out"


if __name__ == "__main__":
    main("task management and unit attentions", "ram:16M", "ram:16M")
