// SPDX-License-Identifier: Apache-2.0
// The target's session engine against bytes: PDUs in, PDUs out, a host that records. Layouts from RFC 7143
// section 11.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "iscsi/session/target_session_test_support.hpp"

namespace perilune::iscsi {
namespace {

constexpr std::uint8_t check_condition = 0x02;

class TargetSessionTest : public testing::Test {
 protected:
  void SetUp() override { begin({}, {}, CmdSn(100)); }
  void begin(SessionParams session_params, ConnectionParams connection_params, CmdSn first) {
    connection.reset();
    session.reset();
    connection_params.max_recv_data_segment_length = 65536;
    session = std::make_unique<TargetSession>(host, session_params, first, 32);
    connection =
        std::make_unique<TargetConnection>(*session, connection_params, std::uint16_t{0}, StatSn(7), chunks);
    next = first;
    digests = connection_params.data_digest;
  }
  void TearDown() override {
    connection.reset();
    if (session) {
      session->shut_down();
      EXPECT_TRUE(session->idle());
    }
    session.reset();
    EXPECT_EQ(host.live, 0);
    EXPECT_EQ(host.reservations, 0);
  }

  // Sends a PDU through a queue of our own, so that digests and padding are right.
  template <class P>
  bool send(const P& pdu, Bytes data = {}, bool damage = false) {
    std::vector<std::uint8_t> wire = to_wire(pdu, data, digests);
    if (damage) wire[bhs_bytes] ^= 1;
    return connection->feed(wire);
  }
  ScsiCommand read_command(Itt itt, std::uint32_t edtl) {
    ScsiCommand pdu;
    pdu.read = true;
    pdu.initiator_task_tag = itt;
    pdu.expected_data_transfer_length = edtl;
    pdu.cmd_sn = next;
    ++next;
    return pdu;
  }
  ScsiCommand write_command(Itt itt, std::uint32_t edtl) {
    ScsiCommand pdu = read_command(itt, edtl);
    pdu.read = false;
    pdu.write = true;
    return pdu;
  }
  static DataOut data_out(Itt itt, Ttt ttt, std::uint32_t sn, std::uint32_t offset, bool final) {
    DataOut pdu;
    pdu.initiator_task_tag = itt;
    pdu.target_transfer_tag = ttt;
    pdu.data_sn = DataSn(sn);
    pdu.buffer_offset = offset;
    pdu.final = final;
    return pdu;
  }
  // Everything the target has to say since the last call.
  std::vector<Pdu> output() { return take_output(*connection, digests); }
  void complete_good(TargetCommand& command, std::vector<std::uint8_t>& data) {
    iov = {data.data(), data.size()};
    session->complete(command, 0, {}, {&iov, 1}, static_cast<std::uint32_t>(data.size()), data.size());
  }

  RecordingHost host;
  TxChunkPool chunks;
  std::unique_ptr<TargetSession> session;
  std::unique_ptr<TargetConnection> connection;
  CmdSn next;
  bool digests = false;
  iovec iov{};
};

TEST_F(TargetSessionTest, ReadIsAnsweredByDataInWithStatusAndNumbers) {
  ASSERT_TRUE(send(read_command(5, 512)));
  ASSERT_EQ(host.commands.size(), 1u);
  std::vector<std::uint8_t> data(512, 0xab);
  complete_good(*host.commands[0], data);
  const auto pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  const std::vector<std::uint8_t>& b = pdus[0].bhs;
  EXPECT_EQ(b[0], 0x25);               // SCSI Data-In
  EXPECT_EQ(b[1], 0x81);               // F and S
  EXPECT_EQ(b[3], 0x00);               // GOOD
  EXPECT_EQ(load_be24(&b[5]), 512u);
  EXPECT_EQ(load_be32(&b[16]), 5u);    // ITT
  EXPECT_EQ(load_be32(&b[20]), 0xffffffffu);
  EXPECT_EQ(load_be32(&b[24]), 7u);    // StatSN
  EXPECT_EQ(load_be32(&b[28]), 101u);  // ExpCmdSN
  EXPECT_EQ(load_be32(&b[36]), 0u);    // DataSN
  EXPECT_EQ(load_be32(&b[40]), 0u);    // Buffer Offset
  EXPECT_EQ(pdus[0].data, data);
}

TEST_F(TargetSessionTest, DataInIsCutByTheInitiatorsSegmentLengthAndByBursts) {
  SessionParams sp;
  sp.max_burst_length = 1536;
  ConnectionParams cp;
  cp.max_xmit_data_segment_length = 1024;
  begin(sp, cp, CmdSn(1));
  ASSERT_TRUE(send(read_command(1, 4096)));
  std::vector<std::uint8_t> data(4096, 1);
  complete_good(*host.commands[0], data);
  const auto pdus = output();
  std::vector<std::pair<std::uint32_t, bool>> shape;
  for (const Pdu& pdu : pdus) {
    const DataIn in = DataIn::decode(pdu.bhs.data());
    EXPECT_EQ(in.data_sn.value(), shape.size());
    shape.emplace_back(in.data_segment_length, in.final);
  }
  const std::vector<std::pair<std::uint32_t, bool>> expected = {{1024, false}, {512, true}, {1024, false},
                                                                {512, true},   {1024, true}};
  EXPECT_EQ(shape, expected);
  EXPECT_TRUE(DataIn::decode(pdus.back().bhs.data()).has_status);
}

TEST_F(TargetSessionTest, ResidualsSayWhatTheDeviceWantedToMove) {
  ASSERT_TRUE(send(read_command(1, 512)));
  ASSERT_TRUE(send(read_command(2, 4096)));
  std::vector<std::uint8_t> data(1024, 1);
  complete_good(*host.commands[0], data);
  const DataIn over = DataIn::decode(output()[0].bhs.data());
  EXPECT_TRUE(over.overflow);
  EXPECT_FALSE(over.underflow);
  EXPECT_EQ(over.residual_count, 512u);
  EXPECT_EQ(over.data_segment_length, 512u);
  complete_good(*host.commands[1], data);
  const DataIn under = DataIn::decode(output()[0].bhs.data());
  EXPECT_TRUE(under.underflow);
  EXPECT_EQ(under.residual_count, 3072u);
}

TEST_F(TargetSessionTest, SenseTravelsWithItsLengthInAScsiResponse) {
  ASSERT_TRUE(send(read_command(1, 512)));
  session->complete(*host.commands[0], check_condition, as_bytes("SENSE"), {}, 0, 0);
  const auto pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].bhs[0], 0x21);
  EXPECT_EQ(pdus[0].bhs[3], 0x02);
  EXPECT_EQ(pdus[0].bhs[1], 0x82);  // final, U
  EXPECT_EQ(load_be32(&pdus[0].bhs[44]), 512u);
  EXPECT_EQ(pdus[0].data, (std::vector<std::uint8_t>{0, 5, 'S', 'E', 'N', 'S', 'E'}));
}

TEST_F(TargetSessionTest, ImmediateDataGoesStraightToItsMemory) {
  ASSERT_TRUE(send(write_command(3, 8), as_bytes("12345678")));
  ASSERT_EQ(host.written.size(), 1u);
  EXPECT_EQ(host.items[0]->memory, (std::vector<std::uint8_t>{'1', '2', '3', '4', '5', '6', '7', '8'}));
  session->complete(*host.written[0], 0, {}, {}, 0, 8);
  const auto pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].op(), Opcode::scsi_response);
}

TEST_F(TargetSessionTest, SolicitedDataIsAskedForInBurstsUpToTheAgreedNumber) {
  SessionParams sp;
  sp.max_burst_length = 1024;
  sp.max_outstanding_r2t = 2;
  begin(sp, {}, CmdSn(1));
  ASSERT_TRUE(send(write_command(9, 3000)));
  auto pdus = output();
  ASSERT_EQ(pdus.size(), 2u);
  const auto first = ReadyToTransfer::decode(pdus[0].bhs.data());
  const auto second = ReadyToTransfer::decode(pdus[1].bhs.data());
  EXPECT_EQ(first.r2t_sn.value(), 0u);
  EXPECT_EQ(first.desired_data_transfer_length, 1024u);
  EXPECT_EQ(first.stat_sn.value(), 7u) << "the next StatSN, not consumed";
  EXPECT_EQ(second.buffer_offset, 1024u);
  EXPECT_NE(first.target_transfer_tag, second.target_transfer_tag);
  const std::string block(1024, 'x');
  ASSERT_TRUE(send(data_out(9, first.target_transfer_tag, 0, 0, true), as_bytes(block)));
  pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  const auto third = ReadyToTransfer::decode(pdus[0].bhs.data());
  EXPECT_EQ(third.buffer_offset, 2048u);
  EXPECT_EQ(third.desired_data_transfer_length, 952u);
  ASSERT_TRUE(send(data_out(9, second.target_transfer_tag, 0, 1024, true), as_bytes(block)));
  EXPECT_TRUE(host.written.empty());
  ASSERT_TRUE(send(data_out(9, third.target_transfer_tag, 0, 2048, true), as_bytes(block.substr(0, 952))));
  ASSERT_EQ(host.written.size(), 1u);
  session->complete(*host.written[0], 0, {}, {}, 0, 3000);
  EXPECT_EQ(ScsiResponse::decode(output()[0].bhs.data()).exp_data_sn.value(), 3u) << "three R2Ts were sent";
}

TEST_F(TargetSessionTest, UnsolicitedDataOutEndsWithItsFinalBitThenR2tsFollow) {
  SessionParams sp;
  sp.initial_r2t = false;
  sp.first_burst_length = 1024;
  begin(sp, {}, CmdSn(1));
  ScsiCommand pdu = write_command(4, 2048);
  pdu.final = false;
  ASSERT_TRUE(send(pdu, as_bytes(std::string(512, 'a'))));
  EXPECT_TRUE(output().empty());
  ASSERT_TRUE(send(data_out(4, reserved_tag, 0, 512, true), as_bytes(std::string(512, 'b'))));
  const auto pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  const auto r2t = ReadyToTransfer::decode(pdus[0].bhs.data());
  EXPECT_EQ(r2t.buffer_offset, 1024u);
  EXPECT_EQ(r2t.desired_data_transfer_length, 1024u);
  ASSERT_TRUE(send(data_out(4, r2t.target_transfer_tag, 0, 1024, true), as_bytes(std::string(1024, 'c'))));
  ASSERT_EQ(host.written.size(), 1u);
  EXPECT_EQ(as_text(host.items[0]->memory),
            std::string(512, 'a') + std::string(512, 'b') + std::string(1024, 'c'));
  session->complete(*host.written[0], 0, {}, {}, 0, 2048);
}

TEST_F(TargetSessionTest, AnEarlyFailureWaitsForTheEndOfUnsolicitedData) {
  SessionParams sp;
  sp.initial_r2t = false;
  begin(sp, {}, CmdSn(1));
  host.auto_write = false;
  ScsiCommand pdu = write_command(4, 1024);
  pdu.final = false;
  ASSERT_TRUE(send(pdu));
  session->complete(*host.commands[0], check_condition, as_bytes("no"), {}, 0, 0);
  EXPECT_TRUE(output().empty());
  ASSERT_TRUE(send(data_out(4, reserved_tag, 0, 0, true), as_bytes(std::string(1024, 'b'))));
  const auto pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].bhs[3], check_condition);
}

struct BadWrite {
  const char* name;
  bool initial_r2t, immediate_data, final_bit;
  std::uint32_t edtl;
  std::size_t data;
};
class BadWrites : public TargetSessionTest, public testing::WithParamInterface<BadWrite> {};

TEST_P(BadWrites, DropTheConnection) {
  SessionParams sp;
  sp.initial_r2t = GetParam().initial_r2t;
  sp.immediate_data = GetParam().immediate_data;
  sp.first_burst_length = 512;
  begin(sp, {}, CmdSn(1));
  ScsiCommand pdu = write_command(1, GetParam().edtl);
  pdu.final = GetParam().final_bit;
  EXPECT_FALSE(send(pdu, as_bytes(std::string(GetParam().data, 'x'))));
  EXPECT_FALSE(connection->drop_reason().empty());
}
INSTANTIATE_TEST_SUITE_P(
    Rfc7143, BadWrites,
    testing::Values(BadWrite{"ImmediateNotAgreed", true, false, true, 512, 512}, BadWrite{"OverFirstBurst", true, true, true, 4096, 516},
                    BadWrite{"OverTransferLength", true, true, true, 8, 12}, BadWrite{"UnsolicitedNotAgreed", true, true, false, 4096, 0}),
    [](const auto& param_info) { return param_info.param.name; });

TEST_F(TargetSessionTest, DataOutOutsideItsR2tDropsTheConnection) {
  for (int variant = 0; variant < 5; ++variant) {
    begin({}, {}, CmdSn(1));
    ASSERT_TRUE(send(write_command(1, 1024)));
    const auto r2t = ReadyToTransfer::decode(output()[0].bhs.data());
    DataOut pdu = data_out(1, r2t.target_transfer_tag, 0, 0, true);
    std::string data(1024, 'x');
    if (variant == 0) pdu.buffer_offset = 0xfffffff0;
    if (variant == 1) data.resize(1028);
    if (variant == 2) pdu.data_sn = DataSn(1);
    if (variant == 3) pdu.target_transfer_tag = r2t.target_transfer_tag + 77;
    if (variant == 4) pdu.final = false;
    EXPECT_FALSE(send(pdu, as_bytes(data))) << variant;
    connection.reset();
    session->shut_down();
  }
}

TEST_F(TargetSessionTest, CommandsOutsideTheWindowAreIgnoredInSilence) {
  ScsiCommand below = read_command(1, 512);
  below.cmd_sn = CmdSn(99);
  ASSERT_TRUE(send(below));
  ScsiCommand above = read_command(2, 512);
  above.cmd_sn = session->max_cmd_sn().plus(1);
  ASSERT_TRUE(send(above));
  EXPECT_TRUE(host.commands.empty());
  EXPECT_TRUE(output().empty());
  EXPECT_EQ(session->stats().ignored, 2u);
}

TEST_F(TargetSessionTest, TheWindowWrapsAndNeverGoesBack) {
  begin({}, {}, CmdSn(0xfffffff0));
  CmdSn max = session->max_cmd_sn();
  std::vector<std::uint8_t> data(4, 0);
  for (Itt itt = 0; itt < 64; ++itt) {
    ASSERT_TRUE(send(read_command(itt, 4)));
    ASSERT_EQ(host.commands.size(), itt + 1);
    complete_good(*host.commands.back(), data);
    EXPECT_FALSE(session->max_cmd_sn().before(max));
    max = session->max_cmd_sn();
    (void)output();
  }
  EXPECT_EQ(session->exp_cmd_sn().value(), 0x30u);
  EXPECT_LE(max.ahead_of(session->exp_cmd_sn()) + 1, 32);
}

TEST_F(TargetSessionTest, AClosedWindowOpensWithTheAnswer) {
  host.reservations_max = 2;
  begin({}, {}, CmdSn(1));
  ASSERT_TRUE(send(read_command(1, 4)));
  ASSERT_TRUE(send(read_command(2, 4)));
  ASSERT_TRUE(send(read_command(3, 4)));  // beyond the window
  ASSERT_EQ(host.commands.size(), 2u);
  std::vector<std::uint8_t> data(4, 0);
  complete_good(*host.commands[0], data);
  const DataIn answer = DataIn::decode(output()[0].bhs.data());
  EXPECT_EQ(answer.exp_cmd_sn.value(), 3u);
  EXPECT_EQ(answer.max_cmd_sn.value(), 3u);
}

TEST_F(TargetSessionTest, CommandsBehindAHoleWaitForIt) {
  const ScsiCommand first = read_command(1, 4);
  const ScsiCommand second = read_command(2, 4);
  ASSERT_TRUE(send(second));
  ASSERT_TRUE(send(second));  // a duplicate changes nothing
  EXPECT_TRUE(host.commands.empty());
  ASSERT_TRUE(send(first));
  ASSERT_EQ(host.commands.size(), 2u);
  EXPECT_EQ(host.commands[0]->pdu.initiator_task_tag, 1u);
  EXPECT_EQ(host.commands[1]->pdu.initiator_task_tag, 2u);
}

TEST_F(TargetSessionTest, TheWindowGrowsForAnInitiatorThatUsesAllOfIt) {
  std::vector<std::uint8_t> data(4, 0);
  EXPECT_EQ(session->max_cmd_sn().ahead_of(session->exp_cmd_sn()) + 1, 2);
  Itt itt = 0;
  for (int round = 0; round < 6; ++round) {
    for (CmdSn known = session->max_cmd_sn(); !next.after(known);) ASSERT_TRUE(send(read_command(itt++, 4)));
    while (!host.commands.empty()) {
      complete_good(*host.commands.back(), data);
      host.commands.pop_back();
    }
    (void)output();
  }
  EXPECT_EQ(session->max_cmd_sn().ahead_of(session->exp_cmd_sn()) + 1, 32);
}

TEST_F(TargetSessionTest, ADamagedCommandIsRejectedAndItsNumberStaysAHole) {
  SessionParams sp;
  sp.error_recovery_level = 1;
  ConnectionParams cp;
  cp.data_digest = true;
  begin(sp, cp, CmdSn(1));
  const ScsiCommand command = write_command(1, 8);
  ASSERT_TRUE(send(command, as_bytes("abcdefgh"), true));
  auto pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].bhs[0], 0x3f);
  EXPECT_EQ(pdus[0].bhs[2], 0x02);  // data digest error
  EXPECT_EQ(pdus[0].data.size(), 48u);
  EXPECT_EQ(session->exp_cmd_sn().value(), 1u);
  EXPECT_TRUE(host.commands.empty());
  EXPECT_FALSE(connection->draining());
  ASSERT_TRUE(send(command, as_bytes("abcdefgh")));
  EXPECT_EQ(host.written.size(), 1u);
}

// RFC 7143 7.8: either party may escalate to session recovery. At level 0 no initiator sends the command
// again.
TEST_F(TargetSessionTest, WithoutRecoveryADamagedCommandEndsTheConnectionBehindItsReject) {
  ConnectionParams cp;
  cp.data_digest = true;
  begin({}, cp, CmdSn(1));
  ASSERT_TRUE(send(write_command(1, 8), as_bytes("abcdefgh"), true));
  EXPECT_TRUE(connection->draining());
  EXPECT_EQ(connection->drop_reason(), "data digest error");
  ASSERT_TRUE(send(read_command(2, 8)));
  const auto pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].op(), Opcode::reject);
  EXPECT_EQ(pdus[0].bhs[2], 0x02);
  EXPECT_TRUE(host.commands.empty());
}

TEST_F(TargetSessionTest, ADamagedPingWithoutANumberIsRejectedAndNothingElse) {
  ConnectionParams cp;
  cp.data_digest = true;
  begin({}, cp, CmdSn(1));
  NopOut ping;
  ping.immediate = true;
  ping.initiator_task_tag = 7;
  ping.cmd_sn = CmdSn(1);
  ASSERT_TRUE(send(ping, as_bytes("abcdefgh"), true));
  const auto pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].op(), Opcode::reject);
  EXPECT_FALSE(connection->draining());
}

TEST_F(TargetSessionTest, ADamagedDataOutFailsItsTask) {
  ConnectionParams cp;
  cp.data_digest = true;
  begin({}, cp, CmdSn(1));
  ASSERT_TRUE(send(write_command(1, 8)));
  const auto r2t = ReadyToTransfer::decode(output()[0].bhs.data());
  ASSERT_TRUE(send(data_out(1, r2t.target_transfer_tag, 0, 0, true), as_bytes("abcdefgh"), true));
  const auto pdus = output();
  ASSERT_EQ(pdus.size(), 2u);
  EXPECT_EQ(pdus[0].op(), Opcode::reject);
  EXPECT_EQ(pdus[1].op(), Opcode::scsi_response);
  EXPECT_EQ(pdus[1].bhs[3], check_condition);
  EXPECT_TRUE(host.written.empty());
}

TEST_F(TargetSessionTest, AbortTaskEndsTheTaskBeforeItsOwnAnswer) {
  host.hold_aborts = true;
  ASSERT_TRUE(send(read_command(1, 512)));
  TaskManagementRequest tmf;
  tmf.immediate = true;
  tmf.function = TmfFunction::abort_task;
  tmf.initiator_task_tag = 50;
  tmf.referenced_task_tag = 1;
  tmf.cmd_sn = next;
  ASSERT_TRUE(send(tmf));
  ASSERT_EQ(host.aborted.size(), 1u);
  EXPECT_TRUE(output().empty());
  session->abort_finished(*host.aborted[0]);
  session->finish_task_management(*host.managed[0], TmfResponse::function_complete);
  const auto pdus = output();
  ASSERT_EQ(pdus.size(), 1u) << "no answer to the aborted task";
  EXPECT_EQ(pdus[0].bhs[0], 0x22);
  EXPECT_EQ(pdus[0].bhs[2], 0x00);
}

TEST_F(TargetSessionTest, FunctionsOfSam5AreServedFromProtocolLevel2On) {
  for (const std::uint8_t level : {std::uint8_t{1}, std::uint8_t{2}}) {
    SessionParams params;
    params.protocol_level = level;
    begin(params, {}, CmdSn(100));
    host.managed.clear();
    for (std::uint8_t function = 9; function <= 13; ++function) {
      TaskManagementRequest tmf;
      tmf.immediate = true;
      tmf.function = static_cast<TmfFunction>(function);
      tmf.initiator_task_tag = function;
      tmf.cmd_sn = next;
      ASSERT_TRUE(send(tmf));
    }
    const auto refused = output();
    EXPECT_EQ(host.managed.size(), level == 1 ? 0u : 4u);
    ASSERT_EQ(refused.size(), level == 1 ? 5u : 1u);
    EXPECT_EQ(refused.back().bhs[19], 13);
    for (const Pdu& pdu : refused) EXPECT_EQ(pdu.bhs[2], 0x05) << "function not supported";
    for (TaskManagement* request : host.managed) {
      request->additional_information = 0x162903;
      session->finish_task_management(*request, TmfResponse::function_succeeded);
    }
    for (const Pdu& pdu : output()) {
      EXPECT_EQ(pdu.bhs[2], 0x07);
      EXPECT_EQ(std::vector<std::uint8_t>(pdu.bhs.begin() + 8, pdu.bhs.begin() + 12),
                (std::vector<std::uint8_t>{0x16, 0x29, 0x03, 0}));
    }
  }
}

TEST_F(TargetSessionTest, TheStatusQualifierIsToldFromProtocolLevel2On) {
  for (const std::uint8_t level : {std::uint8_t{1}, std::uint8_t{2}}) {
    SessionParams params;
    params.protocol_level = level;
    begin(params, {}, CmdSn(100));
    ASSERT_TRUE(send(read_command(1, 512)));
    host.commands.back()->status_qualifier = 0x0102;
    session->complete(*host.commands.back(), 0x28, {}, {}, 0, 0);
    const auto pdus = output();
    ASSERT_EQ(pdus.size(), 1u);
    EXPECT_EQ(load_be16(&pdus[0].bhs[8]), level == 1 ? 0 : 0x0102);
  }
}

// SAM-5 5.3.1: with TAS a command that another nexus has ended is answered, when the initiator has sent what
// it may send.
TEST_F(TargetSessionTest, AnEndByAnotherNexusCanBeReported) {
  SessionParams params;
  params.initial_r2t = false;
  begin(params, {}, CmdSn(100));
  host.hold_aborts = true;
  ASSERT_TRUE(send(read_command(1, 512)));
  ScsiCommand open = write_command(2, 16);
  open.final = false;
  ASSERT_TRUE(send(open, as_bytes("abcd")));
  for (TargetCommand* command : host.commands) session->request_abort(*command);
  ASSERT_EQ(host.aborted.size(), 2u);
  for (TargetCommand* command : host.aborted) session->abort_reported(*command);
  auto pdus = output();
  ASSERT_EQ(pdus.size(), 1u) << "the write waits for the end of its unsolicited data";
  EXPECT_EQ(pdus[0].bhs[3], 0x40);
  EXPECT_EQ(pdus[0].bhs[1], 0x82);
  EXPECT_EQ(load_be32(&pdus[0].bhs[44]), 512u);
  ASSERT_TRUE(send(data_out(2, reserved_tag, 0, 4, true), as_bytes("efgh")));
  pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].bhs[3], 0x40);
  EXPECT_EQ(load_be32(&pdus[0].bhs[16]), 2u);
  EXPECT_EQ(as_text(Bytes(host.items[1]->memory).first(8)), std::string_view("abcd\0\0\0\0", 8))
      << "its memory is not touched any more";
}

// Found by fuzzing: nobody sends the rest of the unsolicited data any more.
TEST_F(TargetSessionTest, AnEndThatWouldBeReportedIsNotWhenTheConnectionIsGone) {
  SessionParams params;
  params.initial_r2t = false;
  begin(params, {}, CmdSn(100));
  host.hold_aborts = true;
  ScsiCommand open = write_command(1, 16);
  open.final = false;
  ASSERT_TRUE(send(open, as_bytes("abcd")));
  session->request_abort(*host.commands.back());
  connection.reset();
  EXPECT_FALSE(session->idle());
  session->abort_reported(*host.aborted.back());
  EXPECT_TRUE(session->idle());
  EXPECT_EQ(session->orphans(), 0u);
}

// RFC 7143 4.2.3.3 a, and 4.2.3.4, which does not ask for it.
TEST_F(TargetSessionTest, AnAbortOfManyTasksWaitsForDataThatWasAskedForButWithFastAbort) {
  for (const TaskReporting reporting :
       {TaskReporting::rfc3720, TaskReporting::response_fence, TaskReporting::fast_abort}) {
    const bool fast = reporting == TaskReporting::fast_abort;
    SessionParams params;
    params.max_burst_length = params.first_burst_length = 512;
    params.max_outstanding_r2t = 2;
    params.task_reporting = reporting;
    begin(params, {}, CmdSn(100));
    host.managed.clear();
    host.data_waits = 0;
    ASSERT_TRUE(send(write_command(1, 1024)));
    const auto r2t = output();
    ASSERT_EQ(r2t.size(), 2u) << "two bursts may be under way at once";
    TaskManagementRequest tmf;
    tmf.immediate = true;
    tmf.function = TmfFunction::abort_task_set;
    tmf.initiator_task_tag = 50;
    tmf.cmd_sn = next;
    tmf.lun = std::uint64_t{1} << 48;
    ASSERT_TRUE(send(tmf));
    EXPECT_EQ(host.managed.size(), 1u) << "of another unit";
    tmf.lun = 0;
    tmf.initiator_task_tag = 51;
    ASSERT_TRUE(send(tmf));
    EXPECT_EQ(host.managed.size(), fast ? 2u : 1u);
    EXPECT_EQ(host.data_waits, fast ? 0 : 1);
    const std::vector<std::uint8_t> burst(512, 0x77);
    for (const Pdu& asked : r2t) {
      EXPECT_EQ(host.managed.size(), fast ? 2u : 1u);
      ASSERT_TRUE(send(data_out(1, load_be32(&asked.bhs[20]), 0, load_be32(&asked.bhs[40]), true), burst));
    }
    EXPECT_EQ(host.managed.size(), 2u);
    for (TaskManagement* request : host.managed)
      session->finish_task_management(*request, TmfResponse::function_complete);
    EXPECT_EQ(output().size(), 2u);
    if (host.commands.back()->aborted()) continue;
    session->request_abort(*host.commands.back());
  }
}

TEST_F(TargetSessionTest, AnAbortOfManyTasksAsksForNoMoreDataAndWaitsOnlySoLong) {
  SessionParams params;
  params.max_burst_length = params.first_burst_length = 512;
  params.max_outstanding_r2t = 1;
  begin(params, {}, CmdSn(100));
  ASSERT_TRUE(send(write_command(1, 1024)));
  ASSERT_TRUE(send(write_command(2, 1024)));
  const auto r2t = output();
  ASSERT_EQ(r2t.size(), 2u);
  TaskManagementRequest tmf;
  tmf.immediate = true;
  tmf.function = TmfFunction::logical_unit_reset;
  tmf.initiator_task_tag = 50;
  tmf.cmd_sn = next;
  ASSERT_TRUE(send(tmf));
  ASSERT_TRUE(send(data_out(1, load_be32(&r2t[0].bhs[20]), 0, 0, true), std::vector<std::uint8_t>(512, 1)));
  EXPECT_TRUE(output().empty()) << "no second R2T";
  EXPECT_TRUE(host.managed.empty()) << "the other write's data is still due";
  session->end_data_waits();
  ASSERT_EQ(host.managed.size(), 1u);
  session->finish_task_management(*host.managed[0], TmfResponse::function_complete);
  ASSERT_TRUE(send(tmf));
  session->request_abort(*host.commands[1]);
  EXPECT_EQ(host.managed.size(), 2u) << "what has ended is not waited for";
  session->finish_task_management(*host.managed[1], TmfResponse::function_complete);
}

// --- RFC 7143 11.9.1 ---

TEST_F(TargetSessionTest, ALogoutIsAskedForByEventOneUntilItComes) {
  connection->request_logout(10);
  EXPECT_TRUE(connection->logout_requested());
  const auto pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  const std::vector<std::uint8_t>& b = pdus[0].bhs;
  EXPECT_EQ(b[0], 0x32);
  EXPECT_EQ(b[1], 0x80);
  EXPECT_EQ(load_be32(&b[16]), 0xffffffffu);
  EXPECT_EQ(load_be32(&b[24]), 7u) << "takes a StatSN";
  EXPECT_EQ(b[36], 1);
  EXPECT_EQ(load_be32(&b[38]), 0u) << "Parameter1 and Parameter2 are reserved";
  EXPECT_EQ(load_be16(&b[42]), 10u);
  ASSERT_TRUE(send(read_command(5, 512)));  // is served
  ASSERT_EQ(host.commands.size(), 1u);
  std::vector<std::uint8_t> data(512);
  complete_good(*host.commands[0], data);
  LogoutRequest logout;
  logout.immediate = true;
  logout.cmd_sn = next;
  ASSERT_TRUE(send(logout));
  EXPECT_FALSE(connection->logout_requested());
  EXPECT_EQ(host.logouts, 1);
}

TEST_F(TargetSessionTest, NegotiationIsAskedForByEventFourUntilATextRequestComes) {
  connection->request_negotiation(3);
  ASSERT_TRUE(connection->negotiation_requested());
  const auto pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].bhs[36], 4);
  EXPECT_EQ(load_be16(&pdus[0].bhs[42]), 3u);
  NopOut ping;
  ping.immediate = true;
  ping.initiator_task_tag = 4;
  ping.cmd_sn = next;
  ASSERT_TRUE(send(ping));
  EXPECT_TRUE(connection->negotiation_requested()) << "a ping is no answer";
  TextRequest text;
  text.immediate = true;
  text.initiator_task_tag = 5;
  text.cmd_sn = next;
  ASSERT_TRUE(send(text));
  EXPECT_FALSE(connection->negotiation_requested());
}

TEST_F(TargetSessionTest, ADropIsAnnouncedByEventTwoWithItsTimesAndNothingIsServedAnyMore) {
  for (const std::uint8_t level : {std::uint8_t{0}, std::uint8_t{2}}) {
    SessionParams params;
    params.error_recovery_level = level;
    params.default_time2wait = 3;
    params.default_time2retain = 25;
    begin(params, {}, CmdSn(100));
    connection->announce_drop("a test");
    const auto pdus = output();
    ASSERT_EQ(pdus.size(), 1u);
    EXPECT_EQ(pdus[0].bhs[36], 2);
    EXPECT_EQ(load_be16(&pdus[0].bhs[38]), 0u) << "CID";
    EXPECT_EQ(load_be16(&pdus[0].bhs[40]), 3u) << "Time2Wait";
    EXPECT_EQ(load_be16(&pdus[0].bhs[42]), level == 2 ? 25u : 0u) << "Time2Retain";
    EXPECT_TRUE(connection->draining());
    EXPECT_EQ(connection->drop_reason(), "a test");
    const std::size_t before = host.commands.size();
    (void)send(read_command(5, 512));
    EXPECT_EQ(host.commands.size(), before);
    connection->request_logout(1);
    connection->announce_drop("again");
    EXPECT_TRUE(output().empty());
  }
}

TEST_F(TargetSessionTest, AbortOfATaskThatNeverCameFillsItsHole) {
  const ScsiCommand lost = read_command(1, 4);
  const ScsiCommand later = read_command(2, 4);
  ASSERT_TRUE(send(later));
  TaskManagementRequest tmf;
  tmf.immediate = true;
  tmf.function = TmfFunction::abort_task;
  tmf.initiator_task_tag = 50;
  tmf.referenced_task_tag = 1;
  tmf.ref_cmd_sn = lost.cmd_sn;
  tmf.cmd_sn = next;
  ASSERT_TRUE(send(tmf));
  const auto pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].bhs[2], 0x00);
  ASSERT_EQ(host.commands.size(), 1u) << "the command behind the hole runs";
  ASSERT_TRUE(send(lost));
  EXPECT_EQ(host.commands.size(), 1u) << "the lost one is outside the window now";
  tmf.initiator_task_tag = 51;
  tmf.referenced_task_tag = 77;
  tmf.ref_cmd_sn = lost.cmd_sn;
  ASSERT_TRUE(send(tmf));
  EXPECT_EQ(output()[0].bhs[2], 0x01) << "task does not exist";
}

TEST_F(TargetSessionTest, AnAbortWaitsUntilNothingIsReceivedIntoTheMemory) {
  std::uint8_t bhs[48];
  const ScsiCommand pdu = write_command(1, 8);
  ScsiCommand with_data = pdu;
  with_data.data_segment_length = 8;
  with_data.encode(bhs);
  ASSERT_TRUE(connection->feed({bhs, 48}));
  ASSERT_TRUE(connection->feed(as_bytes("abcd")));
  ASSERT_EQ(host.commands.size(), 1u);
  session->request_abort(*host.commands[0]);
  EXPECT_TRUE(host.aborted.empty());
  EXPECT_EQ(host.live, 1);
  ASSERT_TRUE(connection->feed(as_bytes("efgh")));
  EXPECT_EQ(host.aborted.size(), 1u);
  EXPECT_EQ(host.live, 0);
  EXPECT_TRUE(output().empty());
}

TEST_F(TargetSessionTest, NopOutIsEchoedAndPingsAreMatched) {
  NopOut nop;
  nop.initiator_task_tag = 9;
  nop.immediate = true;
  nop.cmd_sn = next;
  ASSERT_TRUE(send(nop, as_bytes("ping")));
  auto pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].op(), Opcode::nop_in);
  EXPECT_EQ(as_text(pdus[0].data), "ping");
  EXPECT_EQ(load_be32(&pdus[0].bhs[24]), 7u);
  connection->send_ping();
  pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  const NopIn ping = NopIn::decode(pdus[0].bhs.data());
  EXPECT_EQ(ping.initiator_task_tag, reserved_tag);
  EXPECT_EQ(ping.stat_sn.value(), 8u);
  NopOut answer;
  answer.immediate = true;
  answer.target_transfer_tag = ping.target_transfer_tag;
  answer.cmd_sn = next;
  ASSERT_TRUE(send(answer));
  EXPECT_EQ(host.pings, 1);
  EXPECT_FALSE(connection->ping_outstanding());
  ASSERT_TRUE(send(answer));
  EXPECT_EQ(host.pings, 1);
}

TEST_F(TargetSessionTest, LogoutIsAnsweredWhenEveryTaskHasEnded) {
  host.hold_aborts = true;
  ASSERT_TRUE(send(read_command(1, 512)));
  LogoutRequest logout;
  logout.immediate = true;
  logout.initiator_task_tag = 60;
  logout.cmd_sn = next;
  ASSERT_TRUE(send(logout));
  EXPECT_TRUE(output().empty());
  session->abort_finished(*host.aborted[0]);
  const auto pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].bhs[0], 0x26);
  EXPECT_EQ(pdus[0].bhs[2], 0x00);
  EXPECT_TRUE(connection->draining());
  EXPECT_EQ(host.idle, 1);
  host.hold_aborts = false;
}

TEST_F(TargetSessionTest, UnknownOpcodesAndSnackAreRejected) {
  for (const auto& [first, reason] : std::vector<std::pair<std::uint8_t, std::uint8_t>>{
           {0x1c, 0x05}, {0x3f, 0x05}, {0x21, 0x05}, {0x10, 0x03}}) {
    std::uint8_t bhs[48] = {first, 0x80};
    ASSERT_TRUE(connection->feed({bhs, 48}));
    const auto pdus = output();
    ASSERT_EQ(pdus.size(), 1u);
    EXPECT_EQ(pdus[0].op(), Opcode::reject);
    EXPECT_EQ(pdus[0].bhs[2], reason);
  }
  std::uint8_t login[48] = {0x43, 0x87};
  EXPECT_FALSE(connection->feed({login, 48}));
}

TEST_F(TargetSessionTest, ATaskTagInUseIsRejected) {
  ASSERT_TRUE(send(read_command(1, 4)));
  ASSERT_TRUE(send(read_command(1, 4)));
  const auto pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].bhs[2], 0x07);
  EXPECT_EQ(host.commands.size(), 1u);
}

TEST_F(TargetSessionTest, AnExtendedCdbComesWithItsCommand) {
  ScsiCommand pdu = read_command(9, 512);
  pdu.cdb = {0x7f, 0, 0, 0, 0, 0, 0, 24, 0, 0x12, 0, 0, 1, 2, 3, 4};
  pdu.total_ahs_length = 20;
  std::vector<std::uint8_t> wire(bhs_bytes);
  pdu.encode(wire.data());
  for (const int byte : {0, 17, 1, 0, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31}) {
    wire.push_back(static_cast<std::uint8_t>(byte));
  }
  ASSERT_TRUE(connection->feed(wire));
  ASSERT_EQ(host.commands.size(), 1u);
  const ScsiCommand& seen = host.commands[0]->pdu;
  EXPECT_EQ(seen.cdb, pdu.cdb);
  ASSERT_EQ(seen.extended_cdb_bytes, 16);
  for (std::size_t i = 0; i < 16; ++i) EXPECT_EQ(seen.extended_cdb[i], 16 + i);
  std::vector<std::uint8_t> data(512);
  complete_good(*host.commands[0], data);
}

// RFC 7143 11.3.1, 11.2.2.4, 11.4.5
TEST_F(TargetSessionTest, ABidirectionalCommandHasBothLengthsAndBothResiduals) {
  const std::vector<std::uint8_t> read_length{0, 5, 2, 0, 0, 0, 2, 0};
  const auto wire = [&](Itt itt, bool read, bool write, bool with_length) {
    ScsiCommand pdu = write_command(itt, 16);
    pdu.read = read;
    pdu.write = write;
    pdu.total_ahs_length = with_length ? 8 : 0;
    std::vector<std::uint8_t> bytes(bhs_bytes);
    pdu.encode(bytes.data());
    if (with_length) bytes.insert(bytes.end(), read_length.begin(), read_length.end());
    return bytes;
  };
  host.auto_write = false;
  Itt itt = 1;
  for (const auto& [read, write, with_length] :
       {std::tuple(true, true, false), std::tuple(true, false, true), std::tuple(false, true, true)}) {
    ASSERT_TRUE(connection->feed(wire(itt++, read, write, with_length)));
    const auto pdus = output();
    ASSERT_EQ(pdus.size(), 1u);
    EXPECT_EQ(pdus[0].bhs[0], 0x3f);
    EXPECT_EQ(pdus[0].bhs[2], 0x09) << "invalid PDU field";
    EXPECT_EQ(load_be32(&pdus[0].bhs[28]), next.value()) << "its number is used up";
  }
  EXPECT_TRUE(host.commands.empty());
  ASSERT_TRUE(connection->feed(wire(itt, true, true, true)));
  ASSERT_EQ(host.commands.size(), 1u);
  EXPECT_EQ(host.commands[0]->bidirectional_read_length, 512u);
  session->complete(*host.commands[0], check_condition, as_bytes("\x70"), {}, 0, 0);
  const auto pdus = output();
  ASSERT_EQ(pdus.size(), 1u);
  EXPECT_EQ(pdus[0].bhs[1], 0x8a) << "u and U";
  EXPECT_EQ(load_be32(&pdus[0].bhs[40]), 512u);
  EXPECT_EQ(load_be32(&pdus[0].bhs[44]), 16u);
}

TEST_F(TargetSessionTest, AMalformedAhsIsRejectedAndCountsAsReceived) {
  for (const std::vector<std::uint8_t>& ahs : {std::vector<std::uint8_t>{0, 0, 1, 0},  // no length
                                               std::vector<std::uint8_t>{0, 9, 1, 0},  // more than there is
                                               std::vector<std::uint8_t>{0, 1, 0x3f, 0}}) {  // of no type
    ScsiCommand pdu = read_command(9, 512);
    pdu.total_ahs_length = 4;
    std::vector<std::uint8_t> wire(bhs_bytes);
    pdu.encode(wire.data());
    wire.insert(wire.end(), ahs.begin(), ahs.end());
    ASSERT_TRUE(connection->feed(wire));
    const auto pdus = output();
    ASSERT_EQ(pdus.size(), 1u);
    EXPECT_EQ(pdus[0].bhs[0], 0x3f);  // Reject
    EXPECT_EQ(pdus[0].bhs[2], 0x09);  // invalid PDU field
    EXPECT_EQ(load_be32(&pdus[0].bhs[28]), next.value());
  }
  EXPECT_TRUE(host.commands.empty());
}

TEST_F(TargetSessionTest, ImmediateCommandsAreBoundedAndDoNotTouchTheWindow) {
  for (Itt itt = 0; itt < 40; ++itt) {
    ScsiCommand pdu = read_command(itt, 4);
    pdu.immediate = true;
    pdu.cmd_sn = session->exp_cmd_sn();
    ASSERT_TRUE(send(pdu));
  }
  EXPECT_EQ(host.commands.size(), limits::max_immediate_commands);
  EXPECT_EQ(session->exp_cmd_sn().value(), 100u);
  const auto pdus = output();
  EXPECT_EQ(pdus.size(), 40u - limits::max_immediate_commands);
  EXPECT_EQ(pdus[0].bhs[2], 0x06);
}

TEST(ItTable, FindsWhatIsThereThroughGrowthAndErasure) {
  ItTable<int> table(4);
  std::vector<int> values(500);
  for (std::uint32_t i = 0; i < 500; ++i) table.insert(i * 0x10001u, values[i]);
  for (std::uint32_t i = 0; i < 500; i += 2) table.erase(i * 0x10001u);
  for (std::uint32_t i = 0; i < 500; ++i) {
    EXPECT_EQ(table.find(i * 0x10001u), i % 2 == 0 ? nullptr : &values[i]) << i;
  }
  EXPECT_EQ(table.size(), 250u);
}

}  // namespace
}  // namespace perilune::iscsi
