// SPDX-License-Identifier: Apache-2.0
// Several connections of one session against the engine (RFC 7143 4.2.2, 4.2.3, 6.3.4, 7.5, 11.5, 11.14).
#include <gtest/gtest.h>

#include <map>

#include "iscsi/session/target_session_test_support.hpp"

namespace perilune::iscsi {
namespace {

constexpr std::uint8_t check_condition = 0x02;

class TargetConnectionsTest : public testing::Test {
 protected:
  void SetUp() override { begin(false); }
  void begin(bool data_digest, TaskReporting reporting = TaskReporting::rfc3720) {
    connections.clear();
    session.reset();
    digests = data_digest;
    SessionParams params;
    params.max_connections = 4;
    params.task_reporting = reporting;
    session = std::make_unique<TargetSession>(host, params, CmdSn(100), 32);
    join(1, StatSn(7));
    join(2, StatSn(50));
  }
  void join(std::uint16_t cid, StatSn stat_sn) {
    ConnectionParams params;
    params.max_recv_data_segment_length = 65536;
    params.data_digest = digests;
    connections[cid] = std::make_unique<TargetConnection>(*session, params, cid, stat_sn, chunks);
  }
  void drop(std::uint16_t cid) { connections.erase(cid); }
  void TearDown() override {
    host.hold_aborts = false;
    connections.clear();
    session->shut_down();
    EXPECT_TRUE(session->idle());
    EXPECT_EQ(session->orphans(), 0u);
    session.reset();
    EXPECT_EQ(host.live, 0);
    EXPECT_EQ(host.reservations, 0);
  }

  template <class P>
  bool send(std::uint16_t cid, const P& pdu, Bytes data = {}) {
    return connections.at(cid)->feed(to_wire(pdu, data, digests));
  }
  std::vector<Pdu> output(std::uint16_t cid) { return take_output(*connections.at(cid), digests); }
  static ScsiCommand read_command(Itt itt, std::uint32_t cmd_sn) {
    ScsiCommand pdu;
    pdu.read = true;
    pdu.initiator_task_tag = itt;
    pdu.expected_data_transfer_length = 4;
    pdu.cmd_sn = CmdSn(cmd_sn);
    return pdu;
  }
  static ScsiCommand write_command(Itt itt, std::uint32_t cmd_sn, std::uint32_t edtl) {
    ScsiCommand pdu = read_command(itt, cmd_sn);
    pdu.read = false;
    pdu.write = true;
    pdu.expected_data_transfer_length = edtl;
    return pdu;
  }
  static LogoutRequest logout_request(LogoutReason reason, std::uint16_t cid) {
    LogoutRequest pdu;
    pdu.immediate = true;
    pdu.reason = reason;
    pdu.cid = cid;
    pdu.initiator_task_tag = 60;
    return pdu;
  }
  static TaskManagementRequest management(TmfFunction function, std::uint32_t cmd_sn) {
    TaskManagementRequest pdu;
    pdu.immediate = true;
    pdu.function = function;
    pdu.initiator_task_tag = 70;
    pdu.cmd_sn = CmdSn(cmd_sn);
    return pdu;
  }
  // Beside the command window, which is small at first.
  template <class P>
  static P at_once(P pdu) {
    pdu.immediate = true;
    pdu.cmd_sn = CmdSn(100);
    return pdu;
  }
  void acknowledge(std::uint16_t cid, const Pdu& ping, std::uint32_t exp_stat_sn) {
    NopOut answer;
    answer.immediate = true;
    answer.initiator_task_tag = reserved_tag;
    answer.target_transfer_tag = load_be32(&ping.bhs[20]);
    answer.exp_stat_sn = StatSn(exp_stat_sn);
    ASSERT_TRUE(send(cid, answer));
  }
  void complete(TargetCommand& command) {
    iov = {word, sizeof word};
    session->complete(command, 0, {}, {&iov, 1}, sizeof word, sizeof word);
  }

  RecordingHost host;
  TxChunkPool chunks;
  std::unique_ptr<TargetSession> session;
  std::map<std::uint16_t, std::unique_ptr<TargetConnection>> connections;
  bool digests = false;
  std::uint8_t word[4] = {1, 2, 3, 4};
  iovec iov{};
};

TEST_F(TargetConnectionsTest, CommandsTakeTheirTurnAndAnswersKeepToTheirConnection) {
  ASSERT_TRUE(send(2, read_command(21, 101)));
  EXPECT_TRUE(host.commands.empty());
  ASSERT_TRUE(send(1, read_command(11, 100)));
  ASSERT_EQ(host.commands.size(), 2u);
  EXPECT_EQ(host.commands[0]->pdu.initiator_task_tag, 11u);
  EXPECT_EQ(host.commands[1]->pdu.initiator_task_tag, 21u);
  complete(*host.commands[1]);
  complete(*host.commands[0]);
  const auto first = output(1), second = output(2);
  ASSERT_EQ(first.size(), 1u);
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(load_be32(&first[0].bhs[16]), 11u);
  EXPECT_EQ(load_be32(&first[0].bhs[24]), 7u) << "each connection counts its own StatSN";
  EXPECT_EQ(load_be32(&second[0].bhs[16]), 21u);
  EXPECT_EQ(load_be32(&second[0].bhs[24]), 50u);
  EXPECT_EQ(load_be32(&first[0].bhs[28]), 102u) << "and both tell the session's ExpCmdSN";
  EXPECT_EQ(load_be32(&second[0].bhs[28]), 102u);
}

TEST_F(TargetConnectionsTest, UnsolicitedDataOfACommandThatWaitsIsKept) {
  SessionParams params;
  params.max_connections = 4;
  params.initial_r2t = false;
  connections.clear();
  session = std::make_unique<TargetSession>(host, params, CmdSn(100), 32);
  join(1, StatSn(7));
  join(2, StatSn(50));
  ScsiCommand write = write_command(5, 101, 8);
  write.final = false;
  ASSERT_TRUE(send(2, write));
  DataOut data;
  data.initiator_task_tag = 5;
  data.final = true;
  ASSERT_TRUE(send(2, data, as_bytes("abcdefgh")));
  EXPECT_TRUE(host.commands.empty());
  ASSERT_TRUE(send(1, read_command(4, 100)));
  ASSERT_EQ(host.written.size(), 1u);
  EXPECT_EQ(as_text(host.items[0]->memory), "abcdefgh");
}

TEST_F(TargetConnectionsTest, DataKeepsToTheConnectionOfItsCommand) {
  ASSERT_TRUE(send(2, write_command(5, 100, 8)));
  EXPECT_TRUE(output(1).empty());
  const auto pdus = output(2);
  ASSERT_EQ(pdus.size(), 1u);
  ASSERT_EQ(pdus[0].bhs[0], 0x31);
  DataOut data;
  data.initiator_task_tag = 5;
  data.target_transfer_tag = load_be32(&pdus[0].bhs[20]);
  data.final = true;
  ASSERT_TRUE(send(1, data, as_bytes("stranger")));
  EXPECT_TRUE(host.written.empty());
  EXPECT_EQ(session->stats().ignored, 1u);
  ASSERT_TRUE(send(2, data, as_bytes("abcdefgh")));
  ASSERT_EQ(host.written.size(), 1u);
  EXPECT_EQ(as_text(host.items[0]->memory), "abcdefgh");
  session->complete(*host.written[0], 0, {}, {}, 0, 8);
}

TEST_F(TargetConnectionsTest, OthersNeedNotWaitForTheDataOfACommand) {
  ASSERT_TRUE(send(2, read_command(21, 101)));
  const auto wire = to_wire(write_command(11, 100, 8), as_bytes("abcdefgh"));
  ASSERT_TRUE(connections.at(1)->feed(Bytes(wire).first(52)));
  ASSERT_EQ(host.commands.size(), 2u);
  EXPECT_EQ(host.commands[0]->pdu.initiator_task_tag, 11u);
  complete(*host.commands[1]);
  EXPECT_EQ(output(2).size(), 1u);
  ASSERT_TRUE(connections.at(1)->feed(Bytes(wire).subspan(52)));
  EXPECT_EQ(host.written.size(), 1u);
}

TEST_F(TargetConnectionsTest, ADroppedConnectionTakesItsCommandsAndNoOthers) {
  host.hold_aborts = true;
  ASSERT_TRUE(send(1, read_command(11, 100)));
  ASSERT_TRUE(send(2, read_command(21, 101)));
  drop(2);
  ASSERT_EQ(host.aborted.size(), 1u);
  EXPECT_EQ(host.aborted[0]->pdu.initiator_task_tag, 21u);
  EXPECT_EQ(session->orphans(), 1u);
  EXPECT_EQ(host.orphans_ended, 0);
  session->abort_finished(*host.aborted[0]);
  EXPECT_EQ(session->orphans(), 0u);
  EXPECT_EQ(host.orphans_ended, 1);
  EXPECT_EQ(host.idle, 0) << "the session goes on";
  complete(*host.commands[0]);
  EXPECT_EQ(output(1).size(), 1u);
}

TEST_F(TargetConnectionsTest, AnOrphanThatCompletesAllTheSameIsNotAnswered) {
  host.hold_aborts = true;
  ASSERT_TRUE(send(2, read_command(21, 100)));
  drop(2);
  complete(*host.commands[0]);
  EXPECT_EQ(session->orphans(), 0u);
  EXPECT_TRUE(output(1).empty());
}

TEST_F(TargetConnectionsTest, WhatWaitedOnADroppedConnectionUsesItsNumberUp) {
  ASSERT_TRUE(send(2, read_command(21, 101)));
  drop(2);
  EXPECT_EQ(host.live, 0);
  ASSERT_TRUE(send(1, read_command(11, 100)));
  EXPECT_EQ(host.commands.size(), 1u);
  EXPECT_EQ(session->exp_cmd_sn().value(), 102u);
}

TEST_F(TargetConnectionsTest, ATagThatWaitsElsewhereIsInUse) {
  ASSERT_TRUE(send(2, read_command(1, 101)));
  ASSERT_TRUE(send(1, read_command(1, 100)));
  const auto pdus = output(1);
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].bhs[0], 0x3f);
  EXPECT_EQ(pdus[0].bhs[2], 0x07);  // task in progress
  EXPECT_EQ(session->exp_cmd_sn().value(), 102u) << "the number is used up and the other command runs";
  ASSERT_EQ(host.commands.size(), 1u);
  complete(*host.commands[0]);
  EXPECT_EQ(output(2).size(), 1u);
}

TEST_F(TargetConnectionsTest, ACommandThatTwoConnectionsBringRunsOnce) {
  begin(true);  // with a data digest a command counts only when all of it is there
  const auto wire = to_wire(write_command(1, 100, 8), as_bytes("abcdefgh"), true);
  ASSERT_TRUE(connections.at(1)->feed(Bytes(wire).first(52)));
  ASSERT_TRUE(connections.at(2)->feed(wire));
  ASSERT_EQ(host.written.size(), 1u);
  ASSERT_TRUE(connections.at(1)->feed(Bytes(wire).subspan(52)));
  EXPECT_EQ(host.commands.size(), 1u);
  EXPECT_TRUE(output(1).empty());
  ASSERT_TRUE(send(1, read_command(2, 101)));
  EXPECT_EQ(host.commands.size(), 2u) << "nothing stands in the way of the next";
  // The same tag under another number, received side by side.
  const auto third = to_wire(write_command(3, 102, 8), as_bytes("abcdefgh"), true);
  complete(*host.commands[1]);
  session->complete(*host.commands[0], 0, {}, {}, 0, 8);
  ASSERT_TRUE(connections.at(1)->feed(Bytes(third).first(52)));
  ASSERT_TRUE(send(2, write_command(3, 103, 8), as_bytes("ABCDEFGH")));
  ASSERT_TRUE(connections.at(1)->feed(Bytes(third).subspan(52)));
  EXPECT_EQ(session->exp_cmd_sn().value(), 104u);
  EXPECT_EQ(host.commands.size(), 3u);
  EXPECT_EQ(host.commands[2]->pdu.cmd_sn.value(), 103u);
}

TEST_F(TargetConnectionsTest, LogoutOfAConnectionEndsItsTasksAndLeavesTheOthers) {
  host.hold_aborts = true;
  ASSERT_TRUE(send(1, read_command(11, 100)));
  ASSERT_TRUE(send(2, read_command(21, 101)));
  ASSERT_TRUE(send(2, logout_request(LogoutReason::close_connection, 2)));
  ASSERT_EQ(host.aborted.size(), 1u);
  EXPECT_EQ(host.aborted[0]->pdu.initiator_task_tag, 21u);
  EXPECT_TRUE(output(2).empty()) << "the tasks end first";
  ScsiCommand late = read_command(22, 102);
  late.immediate = true;
  ASSERT_TRUE(send(2, late));
  const auto refused = output(2);
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].bhs[0], 0x3f);
  EXPECT_EQ(refused[0].bhs[2], 0x0c) << "waiting for logout";
  session->abort_finished(*host.aborted[0]);
  const auto pdus = output(2);
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].bhs[0], 0x26);
  EXPECT_EQ(pdus[0].bhs[2], 0x00);
  EXPECT_TRUE(connections.at(2)->draining());
  EXPECT_EQ(host.logouts, 1);
  EXPECT_EQ(host.idle, 0);
  EXPECT_TRUE(host.to_close.empty());
  drop(2);
  complete(*host.commands[0]);
  EXPECT_EQ(output(1).size(), 1u);
  ASSERT_TRUE(send(1, read_command(12, 102)));
  EXPECT_EQ(host.commands.size(), 3u);
}

TEST_F(TargetConnectionsTest, LogoutOfAnotherConnectionIsAnsweredWhenThatIsGone) {
  host.hold_aborts = true;
  ASSERT_TRUE(send(2, read_command(21, 100)));
  ASSERT_TRUE(send(1, logout_request(LogoutReason::close_connection, 2)));
  ASSERT_EQ(host.to_close.size(), 1u);
  EXPECT_EQ(host.to_close[0], connections.at(2).get());
  EXPECT_TRUE(output(1).empty());
  ASSERT_TRUE(send(1, logout_request(LogoutReason::close_connection, 2)));
  EXPECT_EQ(output(1)[0].bhs[0], 0x3f) << "one at a time";
  drop(2);
  ASSERT_EQ(host.aborted.size(), 1u);
  EXPECT_TRUE(output(1).empty());
  session->abort_finished(*host.aborted[0]);
  const auto pdus = output(1);
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].bhs[0], 0x26);
  EXPECT_EQ(pdus[0].bhs[2], 0x00);
  EXPECT_FALSE(connections.at(1)->draining());
  EXPECT_EQ(host.logouts, 0);
  ASSERT_TRUE(send(1, read_command(11, 101)));
  EXPECT_EQ(host.commands.size(), 2u);
}

TEST_F(TargetConnectionsTest, LogoutOfTheSessionClosesTheOtherConnections) {
  ASSERT_TRUE(send(2, read_command(21, 100)));
  ASSERT_TRUE(send(1, logout_request(LogoutReason::close_session, 0)));
  ASSERT_EQ(host.to_close.size(), 1u);
  EXPECT_EQ(host.to_close[0], connections.at(2).get());
  const auto pdus = output(1);
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].bhs[0], 0x26);
  EXPECT_EQ(host.idle, 1);
  EXPECT_EQ(host.aborted.size(), 1u);
}

TEST_F(TargetConnectionsTest, LogoutOfTheLastConnectionEndsTheSession) {
  drop(2);
  ASSERT_TRUE(send(1, logout_request(LogoutReason::close_connection, 1)));
  EXPECT_EQ(output(1)[0].bhs[0], 0x26);
  EXPECT_EQ(host.idle, 1);
}

TEST_F(TargetConnectionsTest, LogoutOfAnUnknownConnectionOrForRecoveryIsRefused) {
  ASSERT_TRUE(send(1, logout_request(LogoutReason::close_connection, 9)));
  EXPECT_EQ(output(1)[0].bhs[2], 0x01);  // CID not found
  ASSERT_TRUE(send(1, logout_request(LogoutReason::remove_connection_for_recovery, 2)));
  EXPECT_EQ(output(1)[0].bhs[2], 0x02);  // recovery is not supported
  EXPECT_TRUE(host.to_close.empty());
}

TEST_F(TargetConnectionsTest, AbortTaskFillsTheHoleThatALostConnectionLeft) {
  ASSERT_TRUE(send(1, read_command(11, 101)));
  drop(2);  // with the command 100 on its way
  TaskManagementRequest abort = management(TmfFunction::abort_task, 102);
  abort.referenced_task_tag = 21;
  abort.ref_cmd_sn = CmdSn(100);
  ASSERT_TRUE(send(1, abort));
  const auto pdus = output(1);
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].bhs[0], 0x22);
  EXPECT_EQ(pdus[0].bhs[2], 0x00);
  ASSERT_EQ(host.commands.size(), 1u);
  EXPECT_EQ(host.commands[0]->pdu.initiator_task_tag, 11u);
}

TEST_F(TargetConnectionsTest, AnImmediateAbortOfATaskSetWaitsForWhatIsStillUnderWay) {
  ASSERT_TRUE(send(1, management(TmfFunction::abort_task_set, 102)));
  EXPECT_TRUE(host.managed.empty());
  ASSERT_TRUE(send(1, read_command(11, 100)));
  EXPECT_TRUE(host.managed.empty());
  ASSERT_TRUE(send(2, read_command(21, 101)));
  EXPECT_EQ(host.commands.size(), 2u);
  ASSERT_EQ(host.managed.size(), 1u);
  EXPECT_EQ(session->exp_cmd_sn().value(), 102u) << "an immediate request uses no number up";
  session->finish_task_management(*host.managed[0], TmfResponse::function_complete);
  EXPECT_EQ(output(1)[0].bhs[0], 0x22);
}

// RFC 7143 4.2.3.3 b makes no difference: what was discarded for its digest is sent again, or given up by
// ABORT TASK.
TEST_F(TargetConnectionsTest, OnASingleConnectionItWaitsForWhatIsMissingToo) {
  drop(2);
  ASSERT_TRUE(send(1, read_command(12, 101)));
  ASSERT_TRUE(send(1, management(TmfFunction::abort_task_set, 102)));
  EXPECT_TRUE(host.managed.empty());
  TaskManagementRequest give_up = management(TmfFunction::abort_task, 102);
  give_up.initiator_task_tag = 71;
  give_up.referenced_task_tag = 11;
  give_up.ref_cmd_sn = CmdSn(100);
  ASSERT_TRUE(send(1, give_up));
  EXPECT_TRUE(host.commands.empty()) << "what had come before the request is affected";
  ASSERT_EQ(host.managed.size(), 1u);
  session->finish_task_management(*host.managed[0], TmfResponse::function_complete);
  const auto pdus = output(1);
  ASSERT_EQ(pdus.size(), 3u);
  EXPECT_EQ(pdus[0].bhs[0], 0x20) << "is it lost with the other connection?";
  EXPECT_EQ(load_be32(&pdus[1].bhs[16]), 71u);
  EXPECT_EQ(load_be32(&pdus[2].bhs[16]), 70u);
}

TEST_F(TargetConnectionsTest, AnAbortOfATaskSetStopsWaitingForWhatALostConnectionTookAlong) {
  join(3, StatSn(90));
  ASSERT_TRUE(send(1, management(TmfFunction::abort_task_set, 102)));
  connections.at(3)->send_ping();
  const auto early = output(3);
  drop(2);  // with the command 100 on its way
  auto first = output(1);
  ASSERT_EQ(first.size(), 1u);
  EXPECT_TRUE(output(3).empty()) << "one ping at a time";
  acknowledge(1, first[0], 7);
  acknowledge(3, early[0], 90);  // says nothing: that one was sent before
  auto third = output(3);
  ASSERT_EQ(third.size(), 1u);
  EXPECT_TRUE(host.managed.empty());
  ASSERT_TRUE(send(3, read_command(31, 101)));
  acknowledge(3, third[0], 90);
  ASSERT_EQ(host.commands.size(), 1u) << "what was under way has come and is not lost";
  ASSERT_EQ(host.managed.size(), 1u);
  session->request_abort(*host.commands[0]);
  session->finish_task_management(*host.managed[0], TmfResponse::function_complete);
  EXPECT_EQ(output(1).size(), 1u);
  ASSERT_TRUE(send(1, read_command(21, 100)));
  EXPECT_EQ(host.commands.size(), 1u) << "that number counts as received";
}

TEST_F(TargetConnectionsTest, AnAbortOfATaskSetThatComesAfterTheLossDoesNotWaitForItEither) {
  drop(2);  // with the command 100 on its way
  ASSERT_TRUE(send(1, read_command(11, 101)));
  ASSERT_TRUE(send(1, management(TmfFunction::abort_task_set, 102)));
  auto asked = output(1);
  ASSERT_EQ(asked.size(), 1u);
  acknowledge(1, asked[0], 7);
  ASSERT_EQ(host.managed.size(), 1u);
  session->finish_task_management(*host.managed[0], TmfResponse::function_complete);
  EXPECT_EQ(output(1).size(), 1u);
  // Numbers that came up later are not in doubt.
  ASSERT_TRUE(send(1, read_command(12, session->max_cmd_sn().value())));
  ASSERT_TRUE(send(1, management(TmfFunction::abort_task_set, session->max_cmd_sn().value() + 1)));
  EXPECT_EQ(host.managed.size(), 1u);
}

// It is not served, and ends nothing.
TEST_F(TargetConnectionsTest, ClearAcaLeavesWhatWaitsForItsTurn) {
  ASSERT_TRUE(send(1, read_command(12, 101)));
  ASSERT_TRUE(send(1, management(TmfFunction::clear_aca, 102)));
  ASSERT_EQ(host.managed.size(), 1u);
  session->finish_task_management(*host.managed[0], TmfResponse::function_not_supported);
  ASSERT_TRUE(send(1, read_command(11, 100)));
  ASSERT_EQ(host.commands.size(), 2u);
  for (TargetCommand* command : host.commands) session->complete(*command, 0, {}, {}, 0, 0);
}

// RFC 7143 4.2.3.4 d, 11.9.1
TEST_F(TargetConnectionsTest, FastAbortTellsTheOtherConnectionsOnceForEachUnit) {
  begin(false, TaskReporting::fast_abort);
  ScsiCommand elsewhere = at_once(write_command(23, 103, 8));
  elsewhere.lun = std::uint64_t{1} << 48;
  ASSERT_TRUE(send(1, at_once(write_command(11, 100, 8))));
  ASSERT_TRUE(send(2, at_once(write_command(21, 101, 8))));
  ASSERT_TRUE(send(2, at_once(write_command(22, 102, 8))));
  ASSERT_TRUE(send(2, elsewhere));
  const auto r2t = output(2);
  EXPECT_EQ(output(1).size(), 1u);
  ASSERT_TRUE(send(1, management(TmfFunction::target_warm_reset, 100)));
  ASSERT_EQ(host.managed.size(), 1u) << "no data is waited for";
  EXPECT_TRUE(output(1).empty());
  const auto told = output(2);
  ASSERT_EQ(told.size(), 2u);
  for (const Pdu& pdu : told) {
    EXPECT_EQ(pdu.bhs[0], 0x32);
    EXPECT_EQ(pdu.bhs[1], 0x80);
    EXPECT_EQ(load_be32(&pdu.bhs[16]), 0xffffffffu);
    EXPECT_EQ(pdu.bhs[36], 5);
  }
  EXPECT_EQ(load_be64(&told[0].bhs[8]), 0u);
  EXPECT_EQ(load_be64(&told[1].bhs[8]), 0x0001'0000'0000'0000u);
  for (TargetCommand* command : std::vector<TargetCommand*>(host.commands)) session->request_abort(*command);
  DataOut late;
  late.initiator_task_tag = 21;
  late.target_transfer_tag = load_be32(&r2t[0].bhs[20]);
  late.final = true;
  ASSERT_TRUE(send(2, late, as_bytes("abcdefgh"))) << "its tag stays valid until the initiator knows";
  session->finish_task_management(*host.managed[0], TmfResponse::function_complete);
  const auto ping = output(2);
  ASSERT_EQ(ping.size(), 1u);
  EXPECT_TRUE(output(1).empty()) << "the answer waits until the message is acknowledged";
  NopOut known;  // not a ping: the acknowledgement of 11.9.1
  known.immediate = true;
  known.initiator_task_tag = reserved_tag;
  known.target_transfer_tag = reserved_tag;
  known.exp_stat_sn = StatSn(load_be32(&told[1].bhs[24]) + 1);
  ASSERT_TRUE(send(2, known));
  EXPECT_EQ(output(1).size(), 1u);
}

TEST_F(TargetConnectionsTest, AnEndFromAnotherSessionIsAnnouncedWithFastAbortOnly) {
  for (const TaskReporting reporting :
       {TaskReporting::rfc3720, TaskReporting::response_fence, TaskReporting::fast_abort}) {
    begin(false, reporting);
    host.commands.clear();
    ASSERT_TRUE(send(1, at_once(read_command(11, 100))));
    ASSERT_TRUE(send(2, at_once(read_command(21, 101))));
    ASSERT_TRUE(send(2, at_once(read_command(22, 102))));
    for (TargetCommand* command : host.commands) session->announce_end(*command);
    for (const std::uint16_t cid : {std::uint16_t{1}, std::uint16_t{2}}) {
      EXPECT_EQ(output(cid).size(), reporting == TaskReporting::fast_abort ? 1u : 0u);
    }
    for (TargetCommand* command : std::vector<TargetCommand*>(host.commands))
      session->request_abort(*command);
  }
}

// RFC 7143 4.2.2.3.3: before it everything is acknowledged, and it is before anything goes behind it.
TEST_F(TargetConnectionsTest, AFencedAnswerKeepsItsPlaceAmongThoseOfAllConnections) {
  for (std::uint32_t i = 0; i < 3; ++i) ASSERT_TRUE(send(2, at_once(read_command(20 + i, 100 + i))));
  ASSERT_TRUE(send(1, at_once(read_command(11, 103))));
  const auto commands = host.commands;
  complete(*commands[0]);
  EXPECT_EQ(output(2).size(), 1u);  // StatSN 50
  commands[3]->fenced = true;
  session->complete(*commands[3], check_condition, as_bytes("\x70"), {}, 0, 0);
  complete(*commands[1]);
  EXPECT_TRUE(output(1).empty());
  auto ping = output(2);
  ASSERT_EQ(ping.size(), 1u) << "neither it nor what came after it";
  EXPECT_EQ(ping[0].bhs[0], 0x20);
  acknowledge(2, ping[0], 51);
  auto fenced = output(1);
  ASSERT_EQ(fenced.size(), 2u);
  EXPECT_EQ(fenced[0].bhs[0], 0x21);
  EXPECT_EQ(fenced[1].bhs[0], 0x20);
  complete(*commands[2]);
  EXPECT_TRUE(output(2).empty());
  acknowledge(1, fenced[1], 8);
  const auto rest = output(2);
  ASSERT_EQ(rest.size(), 2u);
  EXPECT_EQ(load_be32(&rest[0].bhs[16]), 21u) << "in the order in which they ended";
  EXPECT_EQ(load_be32(&rest[1].bhs[16]), 22u);
}

TEST_F(TargetConnectionsTest, WhatIsHeldBackCanBeAbortedAndGoesWithItsConnection) {
  for (const bool dropped : {false, true}) {
    begin(false);
    host.commands.clear();
    ASSERT_TRUE(send(1, at_once(read_command(11, 100))));
    for (std::uint32_t i = 0; i < 3; ++i) ASSERT_TRUE(send(2, at_once(read_command(21 + i, 101 + i))));
    const auto commands = host.commands;
    complete(*commands[3]);
    commands[0]->fenced = true;
    complete(*commands[0]);
    complete(*commands[1]);
    complete(*commands[2]);
    session->request_abort(*commands[1]);
    auto said = output(2);
    ASSERT_EQ(said.size(), 2u);  // the first answer, and the ping behind it
    if (dropped) {
      drop(1);
    } else {
      acknowledge(2, said[1], 51);
      said = output(1);
      ASSERT_EQ(said.size(), 2u);
      acknowledge(1, said[1], 8);
    }
    said = output(2);
    ASSERT_EQ(said.size(), 1u) << dropped;
    EXPECT_EQ(load_be32(&said[0].bhs[16]), 22u);
  }
}

// Found by fuzzing: it had two places then.
TEST_F(TargetConnectionsTest, AnAbortOfWhatIsHeldBackIsNotReported) {
  ASSERT_TRUE(send(1, at_once(read_command(11, 100))));
  ASSERT_TRUE(send(2, at_once(read_command(21, 101))));
  ASSERT_TRUE(send(2, at_once(read_command(22, 102))));
  const auto commands = host.commands;
  complete(*commands[1]);
  commands[0]->fenced = true;
  complete(*commands[0]);
  host.hold_aborts = true;
  session->request_abort(*commands[0]);
  session->abort_reported(*commands[0]);
  complete(*commands[2]);
  EXPECT_TRUE(output(1).empty());
  EXPECT_EQ(output(2).size(), 3u)
      << "the first answer, the ping behind it, and one that nothing holds back any more";
  EXPECT_TRUE(session->idle());
}

TEST_F(TargetConnectionsTest, WaitingRequestsAreBoundedAndGoWithTheirConnection) {
  for (std::uint32_t i = 0; i < limits::max_task_management; ++i) {
    ASSERT_TRUE(send(2, management(TmfFunction::abort_task_set, 102)));
  }
  EXPECT_TRUE(output(2).empty());
  ASSERT_TRUE(send(2, management(TmfFunction::abort_task_set, 102)));
  EXPECT_EQ(output(2)[0].bhs[2], 0x06);  // too many immediate requests
  drop(2);
  ASSERT_TRUE(send(1, read_command(11, 100)));
  ASSERT_TRUE(send(1, read_command(12, 101)));
  EXPECT_TRUE(host.managed.empty());
  EXPECT_EQ(host.commands.size(), 2u);
}

TEST_F(TargetConnectionsTest, AResetOfTheTargetPlugsWhatHasNotCome) {
  ASSERT_TRUE(send(2, read_command(21, 101)));
  ASSERT_TRUE(send(1, management(TmfFunction::target_warm_reset, 102)));
  ASSERT_EQ(host.managed.size(), 1u);
  EXPECT_EQ(session->exp_cmd_sn().value(), 102u);
  ASSERT_TRUE(send(1, read_command(11, 100)));
  EXPECT_TRUE(host.commands.empty());
  EXPECT_EQ(host.live, 0);
  session->finish_task_management(*host.managed[0], TmfResponse::function_complete);
}

TEST_F(TargetConnectionsTest, TheAnswerToAResetWaitsForWhatOtherConnectionsCarried) {
  for (const bool dropped : {false, true}) {
    begin(false);
    host.commands.clear();
    host.managed.clear();
    ASSERT_TRUE(send(2, read_command(21, 100)));
    complete(*host.commands[0]);
    EXPECT_EQ(output(2).size(), 1u);  // StatSN 50, not acknowledged yet
    ASSERT_TRUE(send(1, management(TmfFunction::logical_unit_reset, 101)));
    session->finish_task_management(*host.managed[0], TmfResponse::function_complete);
    EXPECT_TRUE(output(1).empty());
    const auto ping = output(2);
    ASSERT_EQ(ping.size(), 1u);
    EXPECT_EQ(ping[0].bhs[0], 0x20) << "asked for an acknowledgement";
    if (dropped) {
      drop(2);
    } else {
      NopOut answer;
      answer.immediate = true;
      answer.target_transfer_tag = load_be32(&ping[0].bhs[20]);
      answer.exp_stat_sn = StatSn(52);  // of what was never sent: not believed
      ASSERT_TRUE(send(2, answer));
      EXPECT_TRUE(output(1).empty());
      const auto again = output(2);
      ASSERT_EQ(again.size(), 1u) << "asked again";
      answer.target_transfer_tag = load_be32(&again[0].bhs[20]);
      answer.exp_stat_sn = StatSn(51);
      ASSERT_TRUE(send(2, answer));
    }
    const auto pdus = output(1);
    ASSERT_EQ(pdus.size(), 1u) << dropped;
    EXPECT_EQ(pdus[0].bhs[0], 0x22);
    EXPECT_EQ(load_be32(&pdus[0].bhs[24]), 7u);
  }
}

TEST_F(TargetConnectionsTest, AHeldAnswerIsForgottenWithItsConnection) {
  ASSERT_TRUE(send(2, read_command(21, 100)));
  complete(*host.commands[0]);
  ASSERT_TRUE(send(1, management(TmfFunction::logical_unit_reset, 101)));
  session->finish_task_management(*host.managed[0], TmfResponse::function_complete);
  drop(1);
  for (const Pdu& pdu : output(2)) EXPECT_NE(pdu.bhs[0], 0x22);
}

TEST_F(TargetConnectionsTest, EachConnectionHasItsOwnPing) {
  connections.at(1)->send_ping();
  const auto ping = output(1);
  ASSERT_EQ(ping.size(), 1u);
  NopOut answer;
  answer.immediate = true;
  answer.target_transfer_tag = load_be32(&ping[0].bhs[20]);
  ASSERT_TRUE(send(2, answer));
  EXPECT_TRUE(connections.at(1)->ping_outstanding());
  ASSERT_TRUE(send(1, answer));
  EXPECT_FALSE(connections.at(1)->ping_outstanding());
}

TEST_F(TargetConnectionsTest, WhatWaitsForAnEarlierNumberIsBoundedInBytes) {
  std::uint32_t sn = 100;
  while (session->max_cmd_sn().ahead_of(session->exp_cmd_sn()) + 1 < 32) {  // an initiator that uses its
                                                                            // window gets more
    for (const CmdSn most = session->max_cmd_sn(); !CmdSn(sn).after(most); ++sn)
      ASSERT_TRUE(send(1, read_command(sn, sn)));
    for (TargetCommand* command : std::exchange(host.commands, {})) complete(*command);
    (void)output(1);
  }
  NopOut nop;
  nop.initiator_task_tag = 9;
  const std::string data(65536, 'x');
  std::uint32_t sent = 0;
  for (bool taken = true; taken; ++sent) {
    ASSERT_LT(sent, 20u);
    nop.cmd_sn = CmdSn(sn + 1 + sent);
    taken = send(2, nop, as_bytes(data));
  }
  EXPECT_EQ(sent - 1, limits::max_deferred_bytes / (65536 + 48));
  EXPECT_EQ(connections.at(2)->drop_reason(), "too much data waits for an earlier command");
  drop(2);
  join(3, StatSn(1));
  nop.cmd_sn = CmdSn(sn + 25);
  EXPECT_TRUE(send(3, nop, as_bytes(data))) << "what waited is gone";
}

TEST_F(TargetConnectionsTest, AConnectionThatJoinsCarriesOnWhereTheSessionIs) {
  ASSERT_TRUE(send(1, read_command(11, 100)));
  complete(*host.commands[0]);
  drop(2);
  join(2, StatSn(900));
  ASSERT_TRUE(send(2, read_command(21, 101)));
  complete(*host.commands[1]);
  const auto pdus = output(2);
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(load_be32(&pdus[0].bhs[24]), 900u);
  EXPECT_EQ(load_be32(&pdus[0].bhs[28]), 102u);
}

}  // namespace
}  // namespace perilune::iscsi
