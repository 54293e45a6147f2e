#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Shows on the wire that the five tests of iscsi-test-cu that fail are the tool's own errors, not the target's.

iSCSITMF.LUNResetSimpleAsync asserts that the LUN RESET was answered before it has read anything from the socket: the
target answers it all the same, function complete, to the very tag.

iSCSIdatasn.iSCSIDataSnInvalid sends Data-Outs with wrong DataSNs and expects its writes to fail. The target drops the
connection at each of them (RFC 7143 lets a target at error recovery level 0 do so). The tool reconnects, forgets thereby that it
wanted no immediate data, and sends its next write with immediate data and no Data-Out at all: nothing in it is wrong, it
succeeds, and the tool complains.

GetLBAStatus.UnmapSingle asks for the status of one block and expects the answer to begin with another one.

WriteSame10.UnmapUntilEnd has blocks of FFh written by WRITE SAME, with UNMAP, and expects them to read as zeroes.

ReportSupportedOpcodes.OneCommand keeps usage maps of 16 bytes at most, and finds zeroes where it kept none. docs/conformance-tests.md tells the story.
"""
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness as h  # noqa: E402

COMMAND, TASK_MANAGEMENT, DATA_OUT = 0x01, 0x02, 0x05
RESPONSE, TASK_MANAGEMENT_RESPONSE, DATA_IN = 0x21, 0x22, 0x25
LUN_RESET, FUNCTION_COMPLETE = 5, 0
READ_10, WRITE_10, WRITE_SAME_10, SERVICE_ACTION_IN = 0x28, 0x2A, 0x41, 0x9E


class Pdu:
    def __init__(self, header, data):
        self.opcode, self.flags = header[0] & 0x3F, header[1]
        self.header, self.data = header, data
        self.tag = header[16:20]
        self.data_sn = struct.unpack(">I", header[36:40])[0]


def pdus(stream):
    """The PDUs of one direction (no digests), over all its connections."""
    found, at = [], 0
    while at + 48 <= len(stream):
        header = stream[at:at + 48]
        additional, length = header[4] * 4, int.from_bytes(header[5:8], "big")
        begin = at + 48 + additional
        found.append(Pdu(header, stream[begin:begin + length]))
        at = begin + (length + 3 & ~3)
    return found


def run(stack, name):
    """What the tool said, what it sent, what it got."""
    server = stack.enter_context(h.serve("ram:64M"))
    relay = h.Relay(stack, server.port)
    done = h.run(["iscsi-test-cu", "--dataloss", "--normal", f"--test=ALL.{name}",
                  h.libiscsi_url("127.0.0.1", relay.port, server.iqn, 0)], check=False)
    if not server.alive():
        h.fail(f"the server ended: {server.errors()}")
    return done, pdus(bytes(relay.from_client)), pdus(bytes(relay.from_server)), server


def answer(received, tag, opcode):
    found = [pdu for pdu in received if pdu.tag == tag and pdu.opcode == opcode]
    return found[0] if len(found) == 1 else None


def lun_reset_is_answered(stack):
    done, sent, received, _ = run(stack, "iSCSITMF.LUNResetSimpleAsync")
    requests = [pdu for pdu in sent if pdu.opcode == TASK_MANAGEMENT]
    if len(requests) != 1 or requests[0].flags & 0x7F != LUN_RESET:
        h.fail("the tool sent no single LUN RESET")
    reply = answer(received, requests[0].tag, TASK_MANAGEMENT_RESPONSE)
    if reply is None or reply.header[2] != FUNCTION_COMPLETE:
        h.fail("LUN RESET was not answered with function complete")
    if done.code == 0:
        h.say("   the tool passes now: raise expected.txt")


def wrong_data_sn_drops_the_connection(stack):
    done, sent, received, server = run(stack, "iSCSIdatasn.iSCSIDataSnInvalid")
    writes = [pdu for pdu in sent if pdu.opcode == COMMAND and pdu.header[32] == WRITE_10]
    succeeded = 0
    for write in writes:
        data_outs = [pdu for pdu in sent if pdu.opcode == DATA_OUT and pdu.tag == write.tag]
        wrong = [pdu.data_sn for pdu in data_outs] != list(range(len(data_outs)))
        reply = answer(received, write.tag, RESPONSE)
        if wrong and reply is not None:
            h.fail(f"a write with DataSNs {[pdu.data_sn for pdu in data_outs]} was answered")
        if not wrong:
            if data_outs or len(write.data) != 512 or reply is None or reply.header[3] != 0:
                h.fail("the write that the tool sent right was not a write with immediate data that ended in GOOD")
            succeeded += 1
    if len(writes) - succeeded < 2:
        h.fail(f"the tool sent only {len(writes) - succeeded} wrong writes")
    if server.errors().count("connection_dropped") < len(writes) - succeeded:
        h.fail("the target did not drop the connection of each wrong write")
    h.say(f"   {len(writes) - succeeded} writes with wrong DataSNs dropped, {succeeded} right ones answered; "
          f"the tool complains of {done.out.count('CU_ASSERT_NOT_EQUAL(ret,0)')}")


def lba_status_begins_where_asked(stack):
    done, sent, received, _ = run(stack, "GetLBAStatus.UnmapSingle")
    asked = [pdu for pdu in sent if pdu.opcode == COMMAND and pdu.header[32] == SERVICE_ACTION_IN and pdu.header[33] == 0x12]
    for command in asked:
        first = struct.unpack(">Q", command.header[34:42])[0]
        reply = answer(received, command.tag, DATA_IN)
        if reply is None or struct.unpack(">Q", reply.data[8:16])[0] != first:
            h.fail(f"the first descriptor is not of block {first}")
    last = struct.unpack(">Q", asked[-1].header[34:42])[0] if asked else 0
    complained = "lba offset in first descriptor does not" in done.out
    if complained and last % 8 == 0:
        h.fail(f"the tool complains of the answer to block {last}, which begins a physical block: not the known error")
    if not complained and done.code == 0:
        h.say("   the tool passes now: raise expected.txt")
    h.say(f"   {len(asked)} answers begin with the block that was asked for; the last was of block {last}")


def extended_cdbs_have_their_usage_map(stack):
    done, sent, received, _ = run(stack, "ReportSupportedOpcodes.OneCommand")
    asked = [pdu for pdu in sent if pdu.opcode == COMMAND and pdu.header[32:34] == bytes([0xA3, 0x0C])
             and pdu.header[34] & 7 == 2 and pdu.header[35] == 0x7F]
    for command in asked:
        reply = answer(received, command.tag, DATA_IN)
        if reply is None or reply.data[2:5] != bytes([0, 32, 0x7F]) or len(reply.data) < 36:
            h.fail(f"REPORT SUPPORTED OPERATION CODES of 7Fh: {reply and reply.data.hex()}")
    if not asked:
        h.fail("the tool asked for no command of 32 bytes")
    complaints = done.out.count("expected 0x7f for opcode 0x7f")
    if complaints_of_others(done.out):
        h.fail(done.out)
    h.say(f"   {len(asked)} usage maps of 32 bytes begin with 7Fh; the tool complains of {complaints}")


def complaints_of_others(text):
    """Assertions that failed for another operation code."""
    return [line for line in text.splitlines() if "Usage Data was" in line and "for opcode 0x7f" not in line]


def what_is_not_zeroes_is_written(stack):
    """SBC-3 5.41: with UNMAP a block is deallocated only where it reads then as the block that was sent."""
    done, sent, received, _ = run(stack, "WriteSame10.UnmapUntilEnd")
    writes = [pdu for pdu in sent if pdu.opcode == COMMAND and pdu.header[32] == WRITE_SAME_10]
    reads = [pdu for pdu in sent if pdu.opcode == COMMAND and pdu.header[32] == READ_10]
    for write in writes:
        reply = answer(received, write.tag, RESPONSE)
        if write.header[33] != 0x08 or write.header[39:41] != bytes(2) or reply is None or reply.header[3] != 0:
            h.fail("a WRITE SAME that was not with UNMAP, of zero blocks, and GOOD")
    if not writes or not reads or done.code == 0 and "FAILED" not in done.out:
        h.say("   the tool passes now: raise expected.txt")
        return
    written, reply = writes[-1], answer(received, reads[-1].tag, DATA_IN)
    if written.data != b"\xff" * 512:
        h.fail(f"the tool wrote {written.data[:16].hex()}..., not FFh")
    if reply is None or reply.data != written.data:
        h.fail("what was written does not read back")
    h.say(f"   {len(writes)} WRITE SAME of FFh, which reads back; the tool wants zeroes")


h.need("iscsi-test-cu")
h.main(lun_reset_is_answered, wrong_data_sn_drops_the_connection, lba_status_begins_where_asked,
       extended_cdbs_have_their_usage_map, what_is_not_zeroes_is_written)
