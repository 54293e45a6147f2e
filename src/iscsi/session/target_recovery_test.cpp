// SPDX-License-Identifier: Apache-2.0
// Error recovery level 1 of the engine: SNACK, retained status and data, recovery R2Ts (RFC
// 7143 7.1.4, 7.8, 11.16).
#include <gtest/gtest.h>

#include "iscsi/session/target_session_test_support.hpp"

namespace perilune::iscsi {
namespace {

class TargetRecoveryTest : public testing::Test {
 protected:
  void SetUp() override { begin({}, {}); }
  void begin(SessionParams params, ConnectionParams connection_params) {
    connection.reset();
    session.reset();
    params.error_recovery_level = 1;
    connection_params.max_recv_data_segment_length = 65536;
    digests = connection_params.data_digest;
    session = std::make_unique<TargetSession>(host, params, CmdSn(100), 32);
    connection =
        std::make_unique<TargetConnection>(*session, connection_params, std::uint16_t{1}, StatSn(7), chunks);
    next = CmdSn(100);
  }
  void TearDown() override {
    connection.reset();
    session->shut_down();
    EXPECT_TRUE(session->idle());
    session.reset();
    EXPECT_EQ(host.live, 0);
  }
  template <class P>
  bool send(const P& pdu, Bytes data = {}, bool damage = false) {
    std::vector<std::uint8_t> wire = to_wire(pdu, data, digests);
    if (damage) wire[bhs_bytes] ^= 1;
    return connection->feed(wire);
  }
  std::vector<Pdu> output() { return take_output(*connection, digests); }
  ScsiCommand command(Itt itt, std::uint32_t edtl, bool write) {
    ScsiCommand pdu;
    pdu.read = !write;
    pdu.write = write;
    pdu.initiator_task_tag = itt;
    pdu.expected_data_transfer_length = edtl;
    pdu.cmd_sn = next;
    pdu.exp_stat_sn = StatSn(7);
    ++next;
    return pdu;
  }
  void complete(TargetCommand& done, std::size_t bytes = 0) {
    const auto* item = static_cast<RecordingHost::Item*>(&done);
    session->complete(done, 0, {}, {&item->iov, 1}, static_cast<std::uint32_t>(bytes), bytes);
  }
  // A read of `bytes` that is answered; the data is in the command's own memory.
  std::vector<Pdu> answered_read(Itt itt, std::uint32_t bytes) {
    EXPECT_TRUE(send(command(itt, bytes, false)));
    TargetCommand& read = *host.commands.back();
    host.provide(read, bytes);
    auto& memory = static_cast<RecordingHost::Item&>(read).memory;
    for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<std::uint8_t>(i / 512);
    complete(read, bytes);
    return output();
  }
  void acknowledge(std::uint32_t exp_stat_sn) {
    NopOut nop;
    nop.immediate = true;
    nop.exp_stat_sn = StatSn(exp_stat_sn);
    EXPECT_TRUE(send(nop));
  }
  bool snack(std::uint8_t type, Itt itt, std::uint32_t begin, std::uint32_t length,
             std::uint32_t tag = 0xffffffff, std::uint32_t exp_stat_sn = 7) {
    std::uint8_t bhs[48] = {0x10, static_cast<std::uint8_t>(0x80 | type)};  // RFC 7143 11.16, by hand
    store_be32(&bhs[16], itt);
    store_be32(&bhs[20], tag);
    store_be32(&bhs[28], exp_stat_sn);
    store_be32(&bhs[40], begin);
    store_be32(&bhs[44], length);
    return connection->feed({bhs, 48});
  }
  void expect_reject(std::uint8_t reason, std::uint32_t next_data_sn = 0) {
    const auto pdus = output();
    ASSERT_EQ(pdus.size(), 1u);
    EXPECT_EQ(pdus[0].bhs[0], 0x3f);
    EXPECT_EQ(pdus[0].bhs[2], reason);
    EXPECT_EQ(pdus[0].data.size(), 48u);
    if (next_data_sn != 0) {
      EXPECT_EQ(load_be32(&pdus[0].bhs[36]), next_data_sn);
    }
  }

  RecordingHost host;
  TxChunkPool chunks;
  std::unique_ptr<TargetSession> session;
  std::unique_ptr<TargetConnection> connection;
  CmdSn next;
  bool digests = false;
};

ConnectionParams small_segments() {
  ConnectionParams params;
  params.max_xmit_data_segment_length = 512;
  return params;
}

ConnectionParams with_digest() {
  ConnectionParams params;
  params.data_digest = true;
  return params;
}

TEST_F(TargetRecoveryTest, StatusIsSentAgainAsItWasUntilItIsAcknowledged) {
  ASSERT_TRUE(send(command(1, 4, true), as_bytes("abcd")));
  session->complete(*host.commands[0], 0x02, as_bytes("SENSE"), {}, 0, 4);
  const auto first = output();
  ASSERT_EQ(first.size(), 1u);
  ASSERT_TRUE(snack(1, 0xffffffff, 7, 1));
  const auto again = output();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].bhs, first[0].bhs);
  EXPECT_EQ(again[0].data, (std::vector<std::uint8_t>{0, 5, 'S', 'E', 'N', 'S', 'E'}));
  acknowledge(8);
  ASSERT_TRUE(snack(1, 0xffffffff, 7, 1, 0xffffffff, 8));
  expect_reject(0x04);
}

TEST_F(TargetRecoveryTest, ARunOfStatusMayBeOpenOrEverythingOrTooLong) {
  for (std::uint32_t i = 0; i < 3; ++i) {  // StatSN 7, 8, 9
    NopOut nop;
    nop.immediate = true;
    nop.initiator_task_tag = 40 + i;
    nop.exp_stat_sn = StatSn(7);
    ASSERT_TRUE(send(nop, as_bytes("echo")));
  }
  EXPECT_EQ(output().size(), 3u);
  const auto tags = [&] {
    std::vector<std::uint32_t> list;
    for (const Pdu& pdu : output()) {
      EXPECT_EQ(pdu.bhs[0], 0x20);
      EXPECT_EQ(as_text(pdu.data), "echo");
      list.push_back(load_be32(&pdu.bhs[16]));
    }
    return list;
  };
  ASSERT_TRUE(snack(1, 0xffffffff, 8, 0));
  EXPECT_EQ(tags(), (std::vector<std::uint32_t>{41, 42}));
  ASSERT_TRUE(snack(1, 0xffffffff, 7, 2));
  EXPECT_EQ(tags(), (std::vector<std::uint32_t>{40, 41}));
  ASSERT_TRUE(snack(1, 0xffffffff, 0, 0));
  EXPECT_EQ(tags(), (std::vector<std::uint32_t>{40, 41, 42}));
  ASSERT_TRUE(snack(1, 0xffffffff, 8, 3));  // 10 was never sent
  expect_reject(0x04);
  ASSERT_TRUE(snack(1, 0xffffffff, 8, 0xffffffff));
  expect_reject(0x04);
}

TEST_F(TargetRecoveryTest, AResentStatusTellsTheWindowOfToday) {
  ASSERT_TRUE(send(command(1, 4, true), as_bytes("abcd")));
  complete(*host.commands[0]);
  EXPECT_EQ(load_be32(&output()[0].bhs[28]), 101u);
  ASSERT_TRUE(send(command(2, 4, true), as_bytes("abcd")));
  ASSERT_TRUE(snack(1, 0xffffffff, 7, 1));
  EXPECT_EQ(load_be32(&output()[0].bhs[28]), 102u);
}

TEST_F(TargetRecoveryTest, DataAndStatusOfAReadComeEachByItself) {
  const auto pdus = answered_read(5, 512);
  ASSERT_EQ(pdus.size(), 2u);
  EXPECT_EQ(pdus[0].bhs[0], 0x25);
  EXPECT_EQ(pdus[0].bhs[1], 0x80);  // F and not S
  EXPECT_EQ(pdus[1].bhs[0], 0x21);
  EXPECT_EQ(load_be32(&pdus[1].bhs[36]), 1u);  // ExpDataSN
}

TEST_F(TargetRecoveryTest, DataInIsSentAgainByNumber) {
  begin({}, small_segments());
  const auto first = answered_read(5, 2048);
  ASSERT_EQ(first.size(), 5u);
  ASSERT_TRUE(snack(0, 5, 1, 2));
  auto again = output();
  ASSERT_EQ(again.size(), 2u);
  EXPECT_EQ(again[0].bhs, first[1].bhs);
  EXPECT_EQ(again[0].data, first[1].data);
  EXPECT_EQ(again[1].bhs, first[2].bhs);
  EXPECT_EQ(again[1].data, first[2].data);
  ASSERT_TRUE(snack(0, 5, 3, 0));
  again = output();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].bhs, first[3].bhs);
  ASSERT_TRUE(snack(0, 5, 0, 0));
  EXPECT_EQ(output().size(), 4u);
  for (const auto& [begin, length] :
       std::vector<std::pair<std::uint32_t, std::uint32_t>>{{4, 0}, {3, 2}, {1, 0xffffffff}}) {
    ASSERT_TRUE(snack(0, 5, begin, length));
    expect_reject(0x04, 4);  // DataSN: the next that would be sent (RFC 7143 11.17.2)
  }
  ASSERT_TRUE(snack(0, 77, 0, 1));  // no such task
  expect_reject(0x04);
}

TEST_F(TargetRecoveryTest, AcknowledgedStatusLetsGoOfTheData) {
  (void)answered_read(5, 512);
  EXPECT_TRUE(session->idle()) << "the task is over";
  EXPECT_EQ(host.live, 1) << "its memory is kept";
  acknowledge(9);  // of what was never sent: not believed
  EXPECT_EQ(host.live, 1);
  acknowledge(8);
  EXPECT_EQ(host.live, 0);
  ASSERT_TRUE(snack(0, 5, 0, 1, 0xffffffff, 8));
  expect_reject(0x04);
}

TEST_F(TargetRecoveryTest, DataThatTheHostNeededIsRefusedAndTheStatusIsNot) {
  const auto first = answered_read(5, 512);
  ASSERT_EQ(host.retained.size(), 1u);
  EXPECT_TRUE(host.retained[0]->data_retained());
  session->forget_data(*host.retained[0]);
  EXPECT_TRUE(host.retained.empty());
  EXPECT_EQ(host.live, 0);
  ASSERT_TRUE(snack(0, 5, 0, 1));
  expect_reject(0x03);
  ASSERT_TRUE(snack(3, 5, 0, 0, 0x1234));
  expect_reject(0x03);
  ASSERT_TRUE(snack(0, 5, 1, 1));  // DataSN 1 was never sent
  expect_reject(0x04);
  ASSERT_TRUE(snack(1, 0xffffffff, 7, 1));
  const auto again = output();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].bhs, first[1].bhs);
}

TEST_F(TargetRecoveryTest, NoMoreDataIsKeptUntilWhatWasTooMuchIsAcknowledged) {
  (void)answered_read(5, 512);  // StatSN 7
  (void)answered_read(6, 512);
  session->forget_data(*host.retained[0]);
  (void)answered_read(9, 512);  // StatSN 9
  EXPECT_EQ(host.retained.size(), 1u);
  EXPECT_EQ(host.live, 1) << "only that of the second";
  acknowledge(8);
  (void)answered_read(10, 512);
  EXPECT_EQ(host.live, 1);
  acknowledge(11);
  EXPECT_EQ(host.live, 0);
  (void)answered_read(11, 512);
  EXPECT_EQ(host.retained.size(), 1u);
}

TEST_F(TargetRecoveryTest, WhoKeepsSomethingIsAskedToAcknowledge) {
  session->request_acknowledgements();
  EXPECT_TRUE(output().empty()) << "nothing to acknowledge";
  (void)answered_read(5, 512);
  session->request_acknowledgements();
  session->request_acknowledgements();
  const auto pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].bhs[0], 0x20);
  EXPECT_EQ(load_be32(&pdus[0].bhs[16]), 0xffffffffu);
}

TEST_F(TargetRecoveryTest, AnInitiatorThatTakesLessThanBeforeHasToAskByRData) {
  ConnectionParams large;
  large.max_xmit_data_segment_length = 1024;
  begin({}, large);
  const auto first = answered_read(5, 2048);
  ASSERT_EQ(first.size(), 3u);
  connection->set_max_xmit_data_segment_length(512);
  ASSERT_TRUE(snack(0, 5, 0, 1));
  expect_reject(0x04);
  ASSERT_TRUE(snack(3, 5, 0, 0, 0x1234));
  auto again = output();
  ASSERT_EQ(again.size(), 5u);
  EXPECT_EQ(again[3].data.size(), 512u);
  EXPECT_EQ(load_be32(&again[3].bhs[40]), 1536u);
  EXPECT_EQ(load_be32(&again[4].bhs[36]), 4u);  // ExpDataSN
  ASSERT_TRUE(snack(0, 5, 3, 1));
  EXPECT_EQ(output()[0].bhs, again[3].bhs);
}

TEST_F(TargetRecoveryTest, ADroppedConnectionLetsGoOfEverything) {
  (void)answered_read(5, 512);
  (void)answered_read(6, 512);
  EXPECT_EQ(host.live, 2);
  connection.reset();
  EXPECT_EQ(host.live, 0);
}

TEST_F(TargetRecoveryTest, WhatEndsWhileItsConnectionDropsIsNotKept) {
  (void)answered_read(5, 512);
  ASSERT_TRUE(send(command(6, 512, false)));
  host.provide(*host.commands[1], 512);
  host.hold_aborts = true;
  host.on_release = [&] { complete(*host.commands[1], 512); };
  connection.reset();
  EXPECT_EQ(host.live, 0);
}

TEST_F(TargetRecoveryTest, RDataSendsEverythingAnewAndTheStatusWithTheTag) {
  begin({}, small_segments());
  const auto first = answered_read(5, 1024);
  ASSERT_EQ(first.size(), 3u);
  ASSERT_TRUE(snack(3, 5, 0, 0, 0x1234));
  auto again = output();
  ASSERT_EQ(again.size(), 3u);
  EXPECT_EQ(again[0].bhs, first[0].bhs);
  EXPECT_EQ(again[1].data, first[1].data);
  EXPECT_EQ(load_be32(&again[2].bhs[20]), 0x1234u);                        // SNACK Tag
  EXPECT_EQ(load_be32(&again[2].bhs[24]), load_be32(&first[2].bhs[24]));  // the same StatSN
  EXPECT_EQ(load_be32(&again[2].bhs[36]), 2u);                             // ExpDataSN
  ASSERT_TRUE(snack(1, 0xffffffff, 7, 1));
  again = output();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(load_be32(&again[0].bhs[20]), 0x1234u) << "a Status SNACK brings the latest";
  ASSERT_TRUE(snack(3, 5, 1, 0, 0x1234));
  expect_reject(0x04);
  ASSERT_TRUE(snack(3, 5, 0, 0));  // without a tag
  expect_reject(0x04);
}

TEST_F(TargetRecoveryTest, AnInitiatorThatAsksWithoutReadingIsNotHeard) {
  (void)answered_read(5, 65536);
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(snack(0, 5, 0, 0));
  EXPECT_LE(connection->tx().queued_bytes(), limits::max_resend_queue_bytes + 65536 + 4096);
  (void)output();
  ASSERT_TRUE(snack(0, 5, 0, 0));
  EXPECT_EQ(output().size(), 8u);
}

TEST_F(TargetRecoveryTest, DataAckIsRefusedForItWasNeverAskedFor) {
  ASSERT_TRUE(snack(2, 5, 0, 0, 1));
  expect_reject(0x08);
}

TEST_F(TargetRecoveryTest, R2tsThatAreNotAnsweredAreSentAgain) {
  SessionParams params;
  params.max_burst_length = 1024;
  params.max_outstanding_r2t = 2;
  begin(params, {});
  ASSERT_TRUE(send(command(9, 2048, true)));
  const auto first = output();
  ASSERT_EQ(first.size(), 2u);
  ASSERT_TRUE(snack(0, 9, 0, 0));
  auto again = output();
  ASSERT_EQ(again.size(), 2u);
  EXPECT_EQ(again[0].bhs, first[0].bhs);
  EXPECT_EQ(again[1].bhs, first[1].bhs);
  DataOut data;
  data.initiator_task_tag = 9;
  data.target_transfer_tag = load_be32(&first[0].bhs[20]);
  data.exp_stat_sn = StatSn(7);
  ASSERT_TRUE(send(data, as_bytes(std::string(512, 'x'))));
  ASSERT_TRUE(snack(0, 9, 0, 2));
  again = output();
  ASSERT_EQ(again.size(), 1u) << "the first has arrived, for it is being answered";
  EXPECT_EQ(again[0].bhs, first[1].bhs);
  ASSERT_TRUE(snack(0, 9, 2, 1));
  expect_reject(0x04);
}

TEST_F(TargetRecoveryTest, DamagedDataIsAskedForAgain) {
  begin({}, with_digest());
  ASSERT_TRUE(send(command(1, 1536, true)));
  const auto r2t = output();
  ASSERT_EQ(r2t.size(), 1u);
  DataOut data;
  data.initiator_task_tag = 1;
  data.exp_stat_sn = StatSn(7);
  data.target_transfer_tag = load_be32(&r2t[0].bhs[20]);
  for (std::uint32_t i = 0; i < 3; ++i) {
    data.data_sn = DataSn(i);
    data.buffer_offset = i * 512;
    data.final = i == 2;
    ASSERT_TRUE(send(data, as_bytes(std::string(512, static_cast<char>('a' + i))), i == 1));
  }
  EXPECT_TRUE(host.written.empty());
  const auto pdus = output();
  ASSERT_EQ(pdus.size(), 2u);
  EXPECT_EQ(pdus[0].bhs[0], 0x3f);
  EXPECT_EQ(pdus[0].bhs[2], 0x02);
  ASSERT_EQ(pdus[1].bhs[0], 0x31);
  EXPECT_EQ(load_be32(&pdus[1].bhs[36]), 1u);    // R2TSN
  EXPECT_EQ(load_be32(&pdus[1].bhs[40]), 512u);  // Buffer Offset
  EXPECT_EQ(load_be32(&pdus[1].bhs[44]), 512u);  // Desired Data Transfer Length
  EXPECT_NE(load_be32(&pdus[1].bhs[20]), load_be32(&r2t[0].bhs[20]));
  data.target_transfer_tag = load_be32(&pdus[1].bhs[20]);
  data.data_sn = DataSn(0);
  data.buffer_offset = 512;
  data.final = true;
  ASSERT_TRUE(send(data, as_bytes(std::string(512, 'B'))));
  ASSERT_EQ(host.written.size(), 1u);
  EXPECT_EQ(as_text(host.items[0]->memory),
            std::string(512, 'a') + std::string(512, 'B') + std::string(512, 'c'));
  complete(*host.written[0]);
  EXPECT_EQ(load_be32(&output()[0].bhs[36]), 2u) << "ExpDataSN counts the recovery R2T";
}

TEST_F(TargetRecoveryTest, DamagedUnsolicitedDataIsAskedForBeforeTheRest) {
  SessionParams params;
  params.initial_r2t = false;
  params.first_burst_length = 1024;
  begin(params, with_digest());
  ScsiCommand write = command(1, 2048, true);
  write.final = false;
  ASSERT_TRUE(send(write));
  DataOut data;
  data.initiator_task_tag = 1;
  data.exp_stat_sn = StatSn(7);
  ASSERT_TRUE(send(data, as_bytes(std::string(512, 'a')), true));
  data.data_sn = DataSn(1);
  data.buffer_offset = 512;
  data.final = true;
  ASSERT_TRUE(send(data, as_bytes(std::string(512, 'b'))));
  auto pdus = output();
  ASSERT_EQ(pdus.size(), 2u);  // Reject, and with MaxOutstandingR2T 1 the recovery alone
  ASSERT_EQ(pdus[1].bhs[0], 0x31);
  EXPECT_EQ(load_be32(&pdus[1].bhs[40]), 0u);
  EXPECT_EQ(load_be32(&pdus[1].bhs[44]), 512u);
  data.target_transfer_tag = load_be32(&pdus[1].bhs[20]);
  data.data_sn = DataSn(0);
  data.buffer_offset = 0;
  ASSERT_TRUE(send(data, as_bytes(std::string(512, 'A'))));
  pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(load_be32(&pdus[0].bhs[40]), 1024u);
  EXPECT_EQ(load_be32(&pdus[0].bhs[44]), 1024u);
  data.target_transfer_tag = load_be32(&pdus[0].bhs[20]);
  data.buffer_offset = 1024;
  ASSERT_TRUE(send(data, as_bytes(std::string(1024, 'c'))));
  ASSERT_EQ(host.written.size(), 1u);
  EXPECT_EQ(as_text(host.items[0]->memory),
            std::string(512, 'A') + std::string(512, 'b') + std::string(1024, 'c'));
}

TEST_F(TargetRecoveryTest, DamageWithoutEndFailsTheTask) {
  begin({}, with_digest());
  ASSERT_TRUE(send(command(1, 512, true)));
  std::uint32_t r2ts = 0;
  for (;;) {
    const auto pdus = output();
    ASSERT_FALSE(pdus.empty());
    if (pdus.back().bhs[0] == 0x21) {
      EXPECT_EQ(pdus.back().bhs[3], 0x02);
      break;
    }
    ASSERT_EQ(pdus.back().bhs[0], 0x31);
    ASSERT_LE(++r2ts, 1u + limits::max_data_recoveries);
    DataOut data;
    data.initiator_task_tag = 1;
    data.exp_stat_sn = StatSn(7);
    data.target_transfer_tag = load_be32(&pdus.back().bhs[20]);
    data.final = true;
    ASSERT_TRUE(send(data, as_bytes(std::string(512, 'x')), true));
  }
  EXPECT_EQ(r2ts, 1u + limits::max_data_recoveries);
  EXPECT_TRUE(host.written.empty());
}

TEST_F(TargetRecoveryTest, AnInitiatorThatAcknowledgesNothingIsAskedThenDropped) {
  NopOut nop;
  nop.immediate = true;
  nop.initiator_task_tag = 9;
  nop.exp_stat_sn = StatSn(7);
  bool asked = false, alive = true;
  std::uint32_t sent = 0;
  for (; alive && sent < limits::max_retained_status + 10; ++sent) {
    alive = send(nop);
    for (const Pdu& pdu : output()) asked = asked || load_be32(&pdu.bhs[16]) == 0xffffffffu;
  }
  EXPECT_TRUE(asked);
  EXPECT_FALSE(alive);
  EXPECT_EQ(connection->drop_reason(), "status is not acknowledged");
  EXPECT_EQ(sent, limits::max_retained_status + 2);
}

}  // namespace
}  // namespace perilune::iscsi
