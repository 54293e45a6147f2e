// SPDX-License-Identifier: Apache-2.0
// Error recovery level 2 of the engine: connections that fail, and what becomes of their tasks (RFC
// 7143 6.3.4, 7.1.4.3, 7.2.2, 7.5, 7.6, 11.5, 11.6, 11.14, 11.15).
#include <gtest/gtest.h>

#include <map>

#include "base/recovery_limits.hpp"
#include "iscsi/session/target_session_test_support.hpp"

namespace perilune::iscsi {
namespace {

class TargetReassignTest : public testing::Test {
 protected:
  void SetUp() override { begin({}); }
  void begin(SessionParams params, std::uint8_t level = 2) {
    connections.clear();
    if (session) session->shut_down();
    session.reset();
    params.max_connections = 4;
    params.error_recovery_level = level;
    params.default_time2wait = 2;
    params.default_time2retain = 20;
    session = std::make_unique<TargetSession>(host, params, CmdSn(100), 32);
    join(1, StatSn(7));
    join(2, StatSn(50));
  }
  void join(std::uint16_t cid, StatSn stat_sn, std::uint32_t segment = 512) {
    ConnectionParams params;
    params.max_recv_data_segment_length = 65536;
    params.max_xmit_data_segment_length = segment;
    connections[cid] = std::make_unique<TargetConnection>(*session, params, cid, stat_sn, chunks);
  }
  void lose(std::uint16_t cid) { connections.erase(cid); }
  void TearDown() override {
    host.hold_aborts = false;
    connections.clear();
    session->shut_down();
    EXPECT_TRUE(session->idle());
    EXPECT_EQ(session->orphans(), 0u);
    session.reset();
    EXPECT_EQ(host.live, 0);
    EXPECT_TRUE(host.retained.empty());
    EXPECT_TRUE(host.waits.empty());
  }

  template <class P>
  bool send(std::uint16_t cid, const P& pdu, Bytes data = {}) {
    return connections.at(cid)->feed(to_wire(pdu, data));
  }
  std::vector<Pdu> output(std::uint16_t cid) { return take_output(*connections.at(cid)); }
  static ScsiCommand command(Itt itt, std::uint32_t cmd_sn, std::uint32_t edtl, bool write) {
    ScsiCommand pdu;
    pdu.read = !write;
    pdu.write = write;
    pdu.initiator_task_tag = itt;
    pdu.expected_data_transfer_length = edtl;
    pdu.cmd_sn = CmdSn(cmd_sn);
    return pdu;
  }
  // A read beside the command window, which is small at first.
  static ScsiCommand at_once(Itt itt, std::uint32_t edtl) {
    ScsiCommand pdu = command(itt, 100, edtl, false);
    pdu.immediate = true;
    return pdu;
  }
  TargetCommand& start(std::uint16_t cid, const ScsiCommand& pdu) {
    EXPECT_TRUE(send(cid, pdu));
    return *host.commands.back();
  }
  // Ends a read with `bytes` of data, each block of 512 filled with its number.
  void answer(TargetCommand& read, std::uint32_t bytes) {
    host.provide(read, bytes);
    auto& item = static_cast<RecordingHost::Item&>(read);
    for (std::size_t i = 0; i < bytes; ++i) item.memory[i] = static_cast<std::uint8_t>(i / 512);
    session->complete(read, 0, {}, {&item.iov, 1}, bytes, bytes);
  }
  void finish(TargetCommand& write) {
    session->complete(write, 0, {}, {}, 0, write.pdu.expected_data_transfer_length);
  }
  std::vector<Pdu> logout(std::uint16_t on, std::uint8_t reason, std::uint16_t cid) {
    std::uint8_t bhs[48] = {0x46, static_cast<std::uint8_t>(0x80 | reason)};  // RFC 7143 11.14, by hand
    store_be32(&bhs[16], 60);
    store_be16(&bhs[20], cid);
    store_be32(&bhs[28], 50);
    EXPECT_TRUE(connections.at(on)->feed({bhs, 48}));
    while (!host.to_close.empty()) {
      const std::uint16_t closed = host.to_close.back()->cid();
      host.to_close.pop_back();
      lose(closed);
    }
    return output(on);
  }
  void expect_logout(const std::vector<Pdu>& pdus, std::uint8_t response, std::uint16_t time2retain) {
    ASSERT_EQ(pdus.size(), 1u);
    EXPECT_EQ(pdus[0].bhs[0], 0x26);
    EXPECT_EQ(pdus[0].bhs[2], response);
    EXPECT_EQ(load_be16(&pdus[0].bhs[40]), response == 0 ? 2u : 0u);
    EXPECT_EQ(load_be16(&pdus[0].bhs[42]), time2retain);
  }
  // What comes of TASK REASSIGN, the response first.
  std::vector<Pdu> reassign(std::uint16_t on, Itt itt, std::uint32_t exp_data_sn = 0) {
    std::uint8_t bhs[48] = {0x42, 0x88};  // RFC 7143 11.5, by hand: immediate, function 8
    store_be32(&bhs[16], 70);
    store_be32(&bhs[20], itt);
    store_be32(&bhs[24], session->exp_cmd_sn().value());
    store_be32(&bhs[28], 50);
    store_be32(&bhs[36], exp_data_sn);
    EXPECT_TRUE(connections.at(on)->feed({bhs, 48}));
    auto pdus = output(on);
    EXPECT_FALSE(pdus.empty());
    EXPECT_EQ(pdus.front().bhs[0], 0x22);
    EXPECT_EQ(load_be32(&pdus.front().bhs[16]), 70u);
    return pdus;
  }
  std::uint8_t refused(std::uint16_t on, Itt itt, std::uint32_t exp_data_sn = 0) {
    const auto pdus = reassign(on, itt, exp_data_sn);
    EXPECT_EQ(pdus.size(), 1u);
    return pdus.front().bhs[2];
  }
  void lose_and_remove(std::uint16_t cid, std::uint16_t on = 2) {
    lose(cid);
    expect_logout(logout(on, 2, cid), 0, 20);
  }

  // The answer to a ping of the target, which acknowledges what is before `exp_stat_sn`.
  void acknowledge(std::uint16_t cid, const Pdu& ping, std::uint32_t exp_stat_sn) {
    ASSERT_EQ(ping.bhs[0], 0x20);
    NopOut pdu;
    pdu.immediate = true;
    pdu.initiator_task_tag = reserved_tag;
    pdu.target_transfer_tag = load_be32(&ping.bhs[20]);
    pdu.exp_stat_sn = StatSn(exp_stat_sn);
    ASSERT_TRUE(send(cid, pdu));
  }
  // A unit attention for a reset, say.
  void answer_fenced(TargetCommand& command) {
    command.fenced = true;
    session->complete(command, 0x02, as_bytes("SENSE"), {}, 0, 0);
  }

  RecordingHost host;
  TxChunkPool chunks;
  std::unique_ptr<TargetSession> session;
  std::map<std::uint16_t, std::unique_ptr<TargetConnection>> connections;
};

TEST_F(TargetReassignTest, TasksOutliveTheirConnectionAndEndOnAnother) {
  TargetCommand& read = start(1, command(5, 100, 1024, false));
  lose(1);
  EXPECT_TRUE(host.aborted.empty());
  EXPECT_TRUE(read.suspended());
  EXPECT_EQ(host.waits.size(), 1u);
  expect_logout(logout(2, 2, 1), 0, 20);
  EXPECT_EQ(host.waits.size(), 2u) << "the time begins anew";
  auto pdus = reassign(2, 5);
  EXPECT_EQ(pdus[0].bhs[2], 0x00);
  EXPECT_EQ(pdus.size(), 1u) << "it is still being carried out";
  EXPECT_FALSE(read.suspended());
  EXPECT_TRUE(host.waits.empty()) << "nothing is left of the connection";
  answer(read, 1024);
  pdus = output(2);
  ASSERT_EQ(pdus.size(), 3u);
  EXPECT_EQ(pdus[0].bhs[0], 0x25);
  EXPECT_EQ(pdus[2].bhs[0], 0x21);
  EXPECT_EQ(load_be32(&pdus[2].bhs[24]), 52u)
      << "StatSN of the new connection, after the Logout and the reassignment";
}

TEST_F(TargetReassignTest, WhatEndsMeanwhileIsAnsweredWhenItIsReassigned) {
  TargetCommand& read = start(1, command(5, 100, 1024, false));
  lose(1);
  answer(read, 1024);
  EXPECT_TRUE(session->idle());
  EXPECT_EQ(host.retained.size(), 1u);
  EXPECT_TRUE(output(2).empty());
  expect_logout(logout(2, 2, 1), 0, 20);
  const auto pdus = reassign(2, 5);
  ASSERT_EQ(pdus.size(), 4u);
  EXPECT_EQ(load_be32(&pdus[0].bhs[24]), 51u) << "the response first";
  EXPECT_EQ(load_be32(&pdus[1].bhs[36]), 0u);  // DataSN
  EXPECT_EQ(load_be32(&pdus[2].bhs[36]), 1u);
  EXPECT_EQ(pdus[2].data[0], 1);
  EXPECT_EQ(load_be32(&pdus[3].bhs[16]), 5u);
  EXPECT_EQ(load_be32(&pdus[3].bhs[24]), 52u);
  EXPECT_EQ(load_be32(&pdus[3].bhs[36]), 2u);  // ExpDataSN
  EXPECT_TRUE(host.waits.empty());
}

TEST_F(TargetReassignTest, StillAllegiantUntilTheConnectionIsLoggedOut) {
  start(1, command(5, 100, 512, false));
  EXPECT_EQ(refused(2, 5), 3) << "the connection lives";
  EXPECT_EQ(refused(1, 5), 3) << "also its own";
  lose(1);
  EXPECT_EQ(refused(2, 5), 3) << "no Logout yet";
  expect_logout(logout(2, 2, 1), 0, 20);
  EXPECT_EQ(refused(2, 77), 1) << "no such task";
  EXPECT_EQ(reassign(2, 5)[0].bhs[2], 0);
  EXPECT_EQ(refused(2, 5), 3) << "of this one by now";
}

TEST_F(TargetReassignTest, BelowLevelTwoTasksEndWithTheirConnection) {
  begin({}, 1);
  start(1, command(5, 100, 512, false));
  EXPECT_EQ(refused(2, 5), 4);
  lose(1);
  EXPECT_EQ(host.aborted.size(), 1u);
  EXPECT_FALSE(session->waits_for_recovery());
  expect_logout(logout(2, 2, 1), 2, 0);
}

TEST_F(TargetReassignTest, AnAnswerThatWasNotAcknowledgedComesAgain) {
  TargetCommand& write = start(1, command(5, 100, 0, true));
  session->complete(write, 0x02, as_bytes("SENSE"), {}, 0, 0);
  TargetCommand& other = start(1, command(6, 101, 0, true));
  finish(other);
  EXPECT_EQ(output(1).size(), 2u);
  ScsiCommand next = command(7, 102, 512, false);
  next.exp_stat_sn = StatSn(8);  // acknowledges the first
  start(1, next);
  lose_and_remove(1);
  EXPECT_EQ(refused(2, 5), 1) << "acknowledged: it is over";
  const auto pdus = reassign(2, 6);
  ASSERT_EQ(pdus.size(), 2u);
  EXPECT_EQ(pdus[1].bhs[0], 0x21);
  EXPECT_EQ(load_be32(&pdus[1].bhs[16]), 6u);
  EXPECT_EQ(load_be32(&pdus[1].bhs[24]), 53u);
  EXPECT_EQ(refused(2, 6), 3) << "unacknowledged on this connection now";
}

TEST_F(TargetReassignTest, DataGoesOnFromExpDataSnCutForTheNewConnection) {
  TargetCommand& read = start(1, command(5, 100, 4096, false));
  answer(read, 4096);
  EXPECT_EQ(output(1).size(), 9u);
  join(3, StatSn(90), 1024);
  lose_and_remove(1);
  auto pdus = reassign(3, 5, 3);
  ASSERT_EQ(pdus.size(), 5u);
  EXPECT_EQ(load_be32(&pdus[1].bhs[36]), 3u);     // DataSN
  EXPECT_EQ(load_be32(&pdus[1].bhs[40]), 1536u);  // Buffer Offset
  EXPECT_EQ(pdus[1].data.size(), 1024u);
  EXPECT_EQ(pdus[1].data[0], 3);
  EXPECT_EQ(load_be32(&pdus[3].bhs[40]), 3584u);
  EXPECT_EQ(pdus[3].data.size(), 512u);
  EXPECT_EQ(pdus[3].bhs[1], 0x80);
  EXPECT_EQ(load_be32(&pdus[4].bhs[36]), 6u);  // ExpDataSN
  // And may be asked for again, but not what was acknowledged.
  SnackRequest snack;
  snack.initiator_task_tag = 5;
  snack.exp_stat_sn = StatSn(90);
  snack.beg_run = 4;
  snack.run_length = 1;
  ASSERT_TRUE(send(3, snack));
  EXPECT_EQ(output(3)[0].bhs, pdus[2].bhs);
  snack.beg_run = 2;
  ASSERT_TRUE(send(3, snack));
  EXPECT_EQ(output(3)[0].bhs[0], 0x3f);
}

TEST_F(TargetReassignTest, AnExpDataSnThatCannotBeIsIgnored) {
  TargetCommand& read = start(1, command(5, 100, 1024, false));
  answer(read, 1024);
  lose_and_remove(1);
  const auto pdus = reassign(2, 5, 3);
  ASSERT_EQ(pdus.size(), 4u);
  EXPECT_EQ(load_be32(&pdus[1].bhs[36]), 0u);
}

TEST_F(TargetReassignTest, AllDataAcknowledgedLeavesTheStatus) {
  TargetCommand& read = start(1, command(5, 100, 1024, false));
  answer(read, 1024);
  lose_and_remove(1);
  const auto pdus = reassign(2, 5, 2);
  ASSERT_EQ(pdus.size(), 2u);
  EXPECT_EQ(pdus[1].bhs[0], 0x21);
  EXPECT_EQ(load_be32(&pdus[1].bhs[36]), 2u);
}

TEST_F(TargetReassignTest, ATaskWhoseDataWasNeededIsGoneUnlessTheInitiatorHasTheData) {
  answer(start(1, command(5, 100, 1024, false)), 1024);
  answer(start(1, command(6, 101, 1024, false)), 1024);
  lose_and_remove(1);
  while (!host.retained.empty()) session->forget_data(*host.retained.front());
  EXPECT_EQ(host.live, 0);
  EXPECT_EQ(refused(2, 5, 1), 1);
  const auto pdus = reassign(2, 6, 2);
  ASSERT_EQ(pdus.size(), 2u);
  EXPECT_EQ(pdus[1].bhs[0], 0x21);
}

TEST_F(TargetReassignTest, R2tsAreAskedAnewAsTheyWere) {
  SessionParams params;
  params.max_burst_length = 1024;
  params.max_outstanding_r2t = 2;
  begin(params);
  start(1, command(9, 100, 3072, true));
  const auto first = output(1);
  ASSERT_EQ(first.size(), 2u);
  DataOut data;
  data.initiator_task_tag = 9;
  const auto answer_r2t = [&](std::uint16_t cid, const Pdu& r2t, std::uint32_t bytes, char fill) {
    data.target_transfer_tag = load_be32(&r2t.bhs[20]);
    data.buffer_offset = load_be32(&r2t.bhs[40]);
    data.final = bytes == load_be32(&r2t.bhs[44]);
    ASSERT_TRUE(send(cid, data, as_bytes(std::string(bytes, fill))));
  };
  answer_r2t(1, first[0], 512, 'x');  // in part
  lose_and_remove(1);
  auto again = reassign(2, 9);
  ASSERT_EQ(again.size(), 3u);
  for (int i = 0; i < 2; ++i) {
    Pdu& r2t = again[static_cast<std::size_t>(i) + 1];
    EXPECT_EQ(load_be32(&r2t.bhs[24]), 52u) << "the next StatSN of this connection";
    std::copy_n(first[static_cast<std::size_t>(i)].bhs.begin() + 24, 12, r2t.bhs.begin() + 24);
    EXPECT_EQ(r2t.bhs, first[static_cast<std::size_t>(i)].bhs);
  }
  answer_r2t(2, again[1], 1024, 'a');
  answer_r2t(2, again[2], 1024, 'b');
  const auto last = output(2);
  ASSERT_EQ(last.size(), 1u);
  EXPECT_EQ(load_be32(&last[0].bhs[36]), 2u);  // R2TSN goes on
  answer_r2t(2, last[0], 1024, 'c');
  ASSERT_EQ(host.written.size(), 1u);
  EXPECT_EQ(as_text(host.items[0]->memory),
            std::string(1024, 'a') + std::string(1024, 'b') + std::string(1024, 'c'));
}

TEST_F(TargetReassignTest, UnsolicitedDataThatDidNotComeIsAskedFor) {
  SessionParams params;
  params.initial_r2t = false;
  begin(params);
  ScsiCommand write = command(9, 100, 2048, true);
  write.final = false;
  ASSERT_TRUE(send(1, write, as_bytes(std::string(512, 'a'))));
  lose_and_remove(1);
  const auto pdus = reassign(2, 9);
  ASSERT_EQ(pdus.size(), 2u);
  EXPECT_EQ(pdus[1].bhs[0], 0x31);
  EXPECT_EQ(load_be32(&pdus[1].bhs[40]), 512u);
  EXPECT_EQ(load_be32(&pdus[1].bhs[44]), 1536u);
  DataOut data;
  data.initiator_task_tag = 9;
  data.target_transfer_tag = load_be32(&pdus[1].bhs[20]);
  data.buffer_offset = 512;
  data.final = true;
  ASSERT_TRUE(send(2, data, as_bytes(std::string(1536, 'b'))));
  ASSERT_EQ(host.written.size(), 1u);
  EXPECT_EQ(as_text(host.items[0]->memory), std::string(512, 'a') + std::string(1536, 'b'));
}

TEST_F(TargetReassignTest, ACommandCutInItsDataIsAskedForAllOfIt) {
  const auto wire = to_wire(command(9, 100, 512, true), as_bytes(std::string(512, 'a')));
  ASSERT_TRUE(connections[1]->feed(Bytes(wire).first(300)));
  ASSERT_EQ(host.commands.size(), 1u) << "delivered before its data is whole";
  lose_and_remove(1);
  EXPECT_EQ(session->exp_cmd_sn(), CmdSn(101));
  const auto pdus = reassign(2, 9);
  ASSERT_EQ(pdus.size(), 2u);
  EXPECT_EQ(load_be32(&pdus[1].bhs[40]), 0u);
  EXPECT_EQ(load_be32(&pdus[1].bhs[44]), 512u);
}

TEST_F(TargetReassignTest, WhatHadNotHadItsTurnMayBeSentAgain) {
  ASSERT_TRUE(send(1, command(6, 101, 512, false)));
  EXPECT_TRUE(host.commands.empty());
  lose(1);
  EXPECT_EQ(host.live, 0);
  start(2, command(5, 100, 512, false));
  EXPECT_EQ(host.commands.size(), 1u);
  EXPECT_EQ(session->exp_cmd_sn(), CmdSn(101)) << "its number is a hole";
  start(2, command(6, 101, 512, false));
  EXPECT_EQ(host.commands.size(), 2u);
}

TEST_F(TargetReassignTest, WhatIsNotReassignedInTimeEnds) {
  start(1, command(5, 100, 512, false));
  answer(start(1, command(6, 101, 512, false)), 512);
  lose(1);
  ASSERT_EQ(host.waits.size(), 1u);
  host.hold_aborts = true;
  session->expire(host.waits[0]);
  EXPECT_EQ(host.aborted.size(), 1u);
  EXPECT_EQ(session->orphans(), 1u);
  EXPECT_FALSE(session->waits_for_recovery());
  EXPECT_TRUE(host.waits.empty());
  EXPECT_TRUE(host.retained.empty());
  session->abort_finished(*host.aborted[0]);
  EXPECT_EQ(host.orphans_ended, 2) << "when the connection had gone, and now";
  EXPECT_EQ(refused(2, 5), 1);
  EXPECT_EQ(refused(2, 6), 1);
  expect_logout(logout(2, 2, 1), 1, 0);
}

TEST_F(TargetReassignTest, ALogoutForRecoveryClosesTheConnectionThatLives) {
  TargetCommand& read = start(1, command(5, 100, 512, false));
  expect_logout(logout(2, 2, 1), 0, 20);
  EXPECT_EQ(connections.count(1), 0u);
  EXPECT_TRUE(read.suspended());
  EXPECT_EQ(reassign(2, 5)[0].bhs[2], 0);
}

TEST_F(TargetReassignTest, ALogoutForRecoveryOfItsOwnConnectionLeavesTheTasks) {
  TargetCommand& read = start(1, command(5, 100, 512, false));
  const auto pdus = logout(1, 2, 1);
  expect_logout(pdus, 0, 20);
  EXPECT_TRUE(connections[1]->draining());
  EXPECT_TRUE(host.aborted.empty());
  answer(read, 512);
  EXPECT_TRUE(output(1).empty()) << "nothing is sent on it any more";
  lose(1);
  EXPECT_EQ(reassign(2, 5).size(), 3u);
}

TEST_F(TargetReassignTest, AnOrdinaryLogoutOfALostConnectionEndsItsTasksFirst) {
  start(1, command(5, 100, 512, false));
  lose(1);
  host.hold_aborts = true;
  EXPECT_TRUE(logout(2, 1, 1).empty());
  ASSERT_EQ(host.aborted.size(), 1u);
  session->abort_finished(*host.aborted[0]);
  expect_logout(output(2), 0, 0);
  EXPECT_EQ(refused(2, 5), 1);
}

TEST_F(TargetReassignTest, AConnectionIsLoggedOutOnce) {
  start(1, command(5, 100, 512, false));
  lose_and_remove(1);
  expect_logout(logout(2, 2, 1), 1, 0);
  expect_logout(logout(2, 2, 9), 1, 0);
}

TEST_F(TargetReassignTest, ALoginInItsPlaceIsALogoutForRecovery) {
  finish(start(1, command(5, 100, 0, true)));  // StatSN 7
  finish(start(1, command(6, 101, 0, true)));  // StatSN 8
  lose(1);
  join(1, StatSn(300));
  session->connection_reinstated(1, StatSn(8));
  EXPECT_EQ(refused(1, 5), 1) << "acknowledged by the Login Request";
  const auto pdus = reassign(1, 6);
  ASSERT_EQ(pdus.size(), 2u);
  EXPECT_EQ(load_be32(&pdus[1].bhs[24]), 302u);
}

TEST_F(TargetReassignTest, AnExpStatSnOutsideOfWhatWasSentAcknowledgesNothing) {
  for (const std::uint32_t exp_stat_sn : {0u, 6u, 9u, 0x80000008u}) {
    begin({});
    finish(start(1, command(5, 100, 0, true)));
    lose(1);
    join(1, StatSn(300));
    session->connection_reinstated(1, StatSn(exp_stat_sn));
    EXPECT_EQ(reassign(1, 5).size(), 2u) << exp_stat_sn;
  }
}

TEST_F(TargetReassignTest, AbortTaskReachesWhatWaits) {
  start(1, command(5, 100, 512, false));
  finish(start(1, command(6, 101, 0, true)));
  lose_and_remove(1);
  TaskManagementRequest abort;
  abort.immediate = true;
  abort.function = TmfFunction::abort_task;
  abort.initiator_task_tag = 71;
  abort.referenced_task_tag = 5;
  abort.cmd_sn = CmdSn(102);
  abort.ref_cmd_sn = CmdSn(100);
  ASSERT_TRUE(send(2, abort));
  ASSERT_EQ(host.aborted.size(), 1u);
  EXPECT_EQ(session->orphans(), 0u);
  ASSERT_EQ(host.managed.size(), 1u);
  session->finish_task_management(*host.managed[0], TmfResponse::function_complete);
  EXPECT_EQ(output(2)[0].bhs[2], 0);
  abort.referenced_task_tag = 6;
  abort.ref_cmd_sn = CmdSn(101);
  ASSERT_TRUE(send(2, abort));
  EXPECT_EQ(output(2)[0].bhs[2], 0);
  EXPECT_EQ(refused(2, 5), 1);
  EXPECT_EQ(refused(2, 6), 1);
  EXPECT_TRUE(host.waits.empty());
}

TEST_F(TargetReassignTest, ATagUsedAnewForgetsTheAnswerThatWaits) {
  finish(start(1, command(5, 100, 0, true)));
  lose_and_remove(1);
  start(2, command(5, 101, 512, false));
  EXPECT_EQ(refused(2, 5), 3);
  EXPECT_FALSE(session->waits_for_recovery());
}

TEST_F(TargetReassignTest, TheEndOfTheSessionEndsWhatWaits) {
  start(1, command(5, 100, 512, false));
  answer(start(1, command(6, 101, 512, false)), 512);
  lose(1);
  lose(2);
  EXPECT_EQ(host.waits.size(), 2u);
  EXPECT_TRUE(session->waits_for_recovery());
  session->shut_down();
  EXPECT_EQ(host.aborted.size(), 1u);
  EXPECT_EQ(host.idle, 1);
  EXPECT_TRUE(host.waits.empty());
  EXPECT_EQ(host.live, 0);
}

TEST_F(TargetReassignTest, LostConnectionsAreLimited) {
  for (std::uint16_t cid = 10; cid < 10 + limits::max_lost_connections + 3; ++cid) {
    join(cid, StatSn(1));
    start(cid, command(cid, session->exp_cmd_sn().value(), 512, false));
    lose(cid);
  }
  EXPECT_EQ(host.waits.size(), limits::max_lost_connections);
  ASSERT_FALSE(host.aborted.empty());
  EXPECT_EQ(host.aborted[0], host.commands[0]) << "of the oldest";
}

TEST_F(TargetReassignTest, ATaskMayBeReassignedAgainAndAgain) {
  TargetCommand& read = start(1, command(5, 100, 2048, false));
  answer(read, 2048);
  lose_and_remove(1);
  EXPECT_EQ(reassign(2, 5, 1).size(), 5u);
  join(3, StatSn(90), 1024);
  lose_and_remove(2, 3);
  const auto pdus = reassign(3, 5, 3);
  ASSERT_EQ(pdus.size(), 3u);
  EXPECT_EQ(load_be32(&pdus[1].bhs[36]), 3u);     // DataSN
  EXPECT_EQ(load_be32(&pdus[1].bhs[40]), 1536u);  // Buffer Offset
  EXPECT_EQ(pdus[1].data[0], 3);
  EXPECT_EQ(load_be32(&pdus[2].bhs[36]), 4u);  // ExpDataSN
}

// ---- answers behind a Response Fence (RFC 7143 4.2.2.3.3)

TEST_F(TargetReassignTest, AFencedAnswerThatWasNotSentComesWhereItsTaskIsReassigned) {
  join(3, StatSn(90));
  TargetCommand& early = start(2, at_once(4, 512));
  TargetCommand& told = start(1, at_once(5, 512));
  TargetCommand& late = start(2, at_once(6, 512));
  finish(early);
  answer_fenced(told);
  auto pdus = output(2);
  ASSERT_EQ(pdus.size(), 2u);
  EXPECT_TRUE(output(1).empty()) << "what connection 2 carried is not acknowledged";
  finish(late);
  lose(1);
  EXPECT_FALSE(session->idle()) << "the answers are the session's";
  acknowledge(2, pdus[1], 51);
  expect_logout(logout(3, 2, 1), 0, 20);  // StatSN 90
  EXPECT_TRUE(output(3).empty() && output(2).empty()) << "it keeps its place before what came after it";
  pdus = reassign(3, 5);
  ASSERT_EQ(pdus.size(), 3u);
  EXPECT_EQ(load_be32(&pdus[0].bhs[24]), 91u);
  EXPECT_EQ(pdus[1].bhs[0], 0x21);
  EXPECT_EQ(pdus[1].bhs[3], 0x02);
  EXPECT_EQ(load_be32(&pdus[1].bhs[16]), 5u);
  EXPECT_EQ(load_be32(&pdus[1].bhs[24]), 92u) << "StatSN of the new connection";
  EXPECT_TRUE(host.waits.empty());
  acknowledge(3, pdus[2], 93);
  pdus = output(2);
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(load_be32(&pdus[0].bhs[16]), 6u);
}

TEST_F(TargetReassignTest, AFencedAnswerOfATaskThatWaitsForReassignmentKeepsItsPlaceToo) {
  TargetCommand& told = start(1, at_once(5, 512));
  TargetCommand& late = start(2, at_once(6, 512));
  lose(1);
  answer_fenced(told);
  finish(late);
  EXPECT_TRUE(output(2).empty());
  expect_logout(logout(2, 2, 1), 0, 20);  // StatSN 50
  const auto pdus = reassign(2, 5);
  ASSERT_EQ(pdus.size(), 3u) << "on one connection the order of the wire is enough";
  EXPECT_EQ(load_be32(&pdus[1].bhs[16]), 5u);
  EXPECT_EQ(load_be32(&pdus[1].bhs[24]), 52u);
  EXPECT_EQ(load_be32(&pdus[2].bhs[16]), 6u);
}

TEST_F(TargetReassignTest, AnAnswerBehindAFenceIsKeptWhenItsConnectionFails) {
  TargetCommand& told = start(2, at_once(5, 512));
  TargetCommand& early = start(1, at_once(4, 512));
  TargetCommand& behind = start(1, at_once(6, 1024));
  finish(early);
  answer_fenced(told);
  answer(behind, 1024);
  EXPECT_EQ(output(1).size(), 2u);
  lose(1);
  auto pdus = output(2);
  ASSERT_EQ(pdus.size(), 2u) << "what was sent on a lost connection is not waited for";
  EXPECT_EQ(load_be32(&pdus[0].bhs[16]), 5u);
  EXPECT_FALSE(session->idle());
  acknowledge(2, pdus[1], 51);
  EXPECT_TRUE(session->idle()) << "nothing stands before it any more: it is kept like any other";
  EXPECT_EQ(host.retained.size(), 1u);
  expect_logout(logout(2, 2, 1), 0, 20);
  pdus = reassign(2, 6);
  ASSERT_EQ(pdus.size(), 4u);
  EXPECT_EQ(load_be32(&pdus[3].bhs[16]), 6u);
  EXPECT_EQ(reassign(2, 4).size(), 2u);
}

TEST_F(TargetReassignTest, TheEndOfATaskFreesWhatItsFencedAnswerHeldBack) {
  for (const bool aborted : {true, false}) {
    begin({});
    TargetCommand& told = start(1, at_once(5, 512));
    TargetCommand& late = start(2, at_once(6, 512));
    lose(1);
    const std::uint32_t lost = host.waits.back();
    answer_fenced(told);
    finish(late);
    ASSERT_TRUE(output(2).empty());
    if (aborted)
      session->request_abort(told);
    else
      session->expire(lost);
    const auto pdus = output(2);
    ASSERT_EQ(pdus.size(), 1u);
    EXPECT_EQ(load_be32(&pdus[0].bhs[16]), 6u);
    session->expire_all();
  }
}

TEST_F(TargetReassignTest, BelowLevelTwoAnAnswerBehindAFenceEndsWithItsConnection) {
  for (const std::uint8_t level : {std::uint8_t{0}, std::uint8_t{1}}) {
    begin({}, level);
    host.aborted.clear();
    TargetCommand& early = start(2, at_once(4, 512));
    TargetCommand& told = start(1, at_once(5, 512));
    TargetCommand& late = start(2, at_once(6, 512));
    finish(early);
    answer_fenced(told);
    finish(late);
    EXPECT_EQ(output(2).size(), 2u);
    lose(1);
    EXPECT_EQ(host.aborted.size(), 1u);
    const auto pdus = output(2);
    ASSERT_EQ(pdus.size(), 1u);
    EXPECT_EQ(load_be32(&pdus[0].bhs[16]), 6u);
    EXPECT_TRUE(session->idle());
  }
}

}  // namespace
}  // namespace perilune::iscsi
