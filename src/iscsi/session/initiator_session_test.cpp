// SPDX-License-Identifier: Apache-2.0
// The initiator's engine against bytes written by hand from RFC 7143 section 11.
#include "iscsi/session/initiator_session.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "iscsi/session/initiator_test_support.hpp"

namespace perilune::iscsi {
namespace {

using Direction = InitiatorCommand::Direction;
using Buffer = std::vector<std::uint8_t>;

// A header from hexadecimal text, and a data segment padded to four.
Buffer pdu(std::string_view header, Bytes data = {}) {
  Buffer out = hex(header);
  EXPECT_EQ(out.size(), 48u);
  out.insert(out.end(), data.begin(), data.end());
  while (out.size() % 4 != 0) out.push_back(0);
  return out;
}

Buffer counted(std::size_t n) {
  Buffer out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<std::uint8_t>(i * 7 + i / 256);
  return out;
}

// An InitiatorCommand with memory of its own.
struct Command : InitiatorCommand {
  Buffer memory;
  iovec iov{};
  Command(Direction way, std::size_t bytes) : memory(bytes) {
    direction = way;
    lun = 0x0001000000000000;
    cdb = {0x28, 0, 0, 0, 0, 9, 0, 0, 1, 0};
    iov = {memory.data(), memory.size()};
    if (bytes != 0) data = {&iov, 1};
  }
};

class InitiatorSessionTest : public testing::Test {
 protected:
  static constexpr std::uint32_t first_itt = 0x00010000;  // slot 0, first generation

  void open(std::uint32_t cmd_sn = 0x10, std::uint32_t window = 8) {
    session_.open(parameters_, CmdSn(cmd_sn), CmdSn(cmd_sn), CmdSn(cmd_sn + window - 1));
    connection_parameters_.exp_stat_sn = StatSn(0x100);
    connection_.emplace(session_, pool_, connection_parameters_);
  }
  void TearDown() override { close(); }
  void close() {
    if (!connection_) return;
    session_.close();
    connection_.reset();
    ended();
    session_.completed_tasks().clear();
  }

  // Everything that is to be sent now.
  Buffer sent() {
    Buffer out;
    for (;;) {
      connection_->fill();
      std::array<iovec, 64> iov;
      const std::size_t n = connection_->tx().gather(iov);
      if (n == 0) return out;
      std::size_t bytes = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const auto* p = static_cast<const std::uint8_t*>(iov[i].iov_base);
        out.insert(out.end(), p, p + iov[i].iov_len);
        bytes += iov[i].iov_len;
      }
      connection_->tx().sent(bytes);
    }
  }
  std::string sent_hex() { return to_hex(sent()); }
  bool receive(const Buffer& bytes) { return connection_->receive(bytes); }
  std::vector<InitiatorCommand*> ended() {
    std::vector<InitiatorCommand*> out;
    while (!session_.completed().empty()) out.push_back(&session_.completed().pop_front());
    return out;
  }

  TxChunkPool pool_;
  InitiatorSessionParameters parameters_;
  InitiatorConnectionParameters connection_parameters_;
  InitiatorSession session_{InitiatorLimits{.commands = 8, .pending_commands = 16, .text_bytes = 64}};
  std::optional<InitiatorConnection> connection_;
};

// --- reads
// ---------------------------------------------------------------------------------------------------------

TEST_F(InitiatorSessionTest, SendsAReadCommandAsTheRfcLaysItOut) {
  open();
  Command read(Direction::in, 512);
  ASSERT_TRUE(session_.submit(read));
  EXPECT_EQ(sent_hex(),
            "01c10000 00000000 00010000 00000000 00010000 00000200 00000010 00000100 "
            "28000000 00090000 01000000 00000000");
}

TEST_F(InitiatorSessionTest, DataInWithStatusFillsTheBufferAndEndsTheCommand) {
  open();
  Command read(Direction::in, 512);
  ASSERT_TRUE(session_.submit(read));
  (void)sent();
  const Buffer data = counted(512);
  ASSERT_TRUE(
      receive(pdu("25810000 00000200 0000000000000000 00010000 ffffffff 00000100 00000011 00000018 00000000 "
                  "00000000 00000000",
                  data)));
  ASSERT_EQ(ended().size(), 1u);
  EXPECT_EQ(read.outcome, InitiatorOutcome::status);
  EXPECT_EQ(read.status, 0);
  EXPECT_EQ(read.transferred_bytes, 512u);
  EXPECT_EQ(read.memory, data);
  EXPECT_EQ(connection_->exp_stat_sn(), StatSn(0x101));
}

TEST_F(InitiatorSessionTest, DataInMayBeCutAnywhere) {
  const Buffer data = counted(6);
  Buffer stream =
      pdu("25800000 00000006 0000000000000000 00010000 ffffffff 00000000 00000011 00000018 00000000 00000000 "
          "00000000",
          data);
  const Buffer response =
      pdu("21800000 00000000 0000000000000000 00010000 00000000 00000100 00000011 00000018 00000001 00000000 "
          "00000000");
  stream.insert(stream.end(), response.begin(), response.end());
  for (std::size_t cut = 1; cut < stream.size(); ++cut) {
    open();
    Command read(Direction::in, 6);
    ASSERT_TRUE(session_.submit(read));
    (void)sent();
    stream[18] = 0;
    const std::uint32_t itt = first_itt + static_cast<std::uint32_t>((cut - 1) << 16);
    store_be32(stream.data() + 16, itt);
    store_be32(stream.data() + 56 + 16, itt);
    ASSERT_TRUE(connection_->receive(Bytes(stream).first(cut)));
    ASSERT_TRUE(connection_->receive(Bytes(stream).subspan(cut)));
    ASSERT_EQ(ended().size(), 1u) << cut;
    EXPECT_EQ(read.memory, data);
    EXPECT_EQ(read.transferred_bytes, 6u);
    close();
  }
}

TEST_F(InitiatorSessionTest, LargePayloadCanBeReceivedStraightIntoTheCommandsMemory) {
  open();
  Command read(Direction::in, 4096);
  ASSERT_TRUE(session_.submit(read));
  (void)sent();
  const Buffer data = counted(4096);
  const Buffer stream =
      pdu("25810000 00001000 0000000000000000 00010000 ffffffff 00000100 00000011 00000018 00000000 00000000 "
          "00000000",
          data);
  ASSERT_TRUE(connection_->receive(Bytes(stream).first(48 + 100)));
  EXPECT_EQ(connection_->missing_bytes(), 3996u);
  std::array<iovec, 4> where;
  ASSERT_EQ(connection_->direct(where), 1u);
  EXPECT_EQ(where[0].iov_base, read.memory.data() + 100);
  std::memcpy(where[0].iov_base, data.data() + 100, 3996);
  connection_->commit_direct(3996);
  EXPECT_EQ(session_.outstanding(), 1u);
  ASSERT_TRUE(connection_->receive({}));
  EXPECT_EQ(ended().size(), 1u);
  EXPECT_EQ(read.memory, data);
}

TEST_F(InitiatorSessionTest, ResidualsBoundWhatWasTransferred) {
  struct Case {
    const char* header;   // 512 expected, no data came
    std::uint32_t transferred, overflow;
  };
  const Case cases[] = {
      {"21820000 00000000 0000000000000000 00000000 00000000 00000100 00000011 00000018 00000000 00000000 "
       "00000100",
       256, 0},  // U 256
      {"21820000 00000000 0000000000000000 00000000 00000000 00000100 00000011 00000018 00000000 00000000 "
       "ffffffff",
       0, 0},  // U over EDTL
      {"21840000 00000000 0000000000000000 00000000 00000000 00000100 00000011 00000018 00000000 00000000 "
       "00000040",
       512, 64},  // O 64
      {"21860000 00000000 0000000000000000 00000000 00000000 00000100 00000011 00000018 00000000 00000000 "
       "00000040",
       448, 0},  // both
  };
  for (const Case& c : cases) {
    open();
    Command write(Direction::out, 512);
    ASSERT_TRUE(session_.submit(write));
    const Buffer command = sent();
    Buffer response = pdu(c.header);
    std::memcpy(response.data() + 16, command.data() + 16, 4);
    ASSERT_TRUE(receive(response));
    ASSERT_EQ(ended().size(), 1u);
    EXPECT_EQ(write.transferred_bytes, c.transferred) << c.header;
    EXPECT_EQ(write.residual_overflow, c.overflow) << c.header;
    close();
  }
}

TEST_F(InitiatorSessionTest, SenseDataIsTakenOnlyWhenItsLengthIsTrue) {
  struct Case {
    Buffer data;
    std::uint8_t length;
  };
  Buffer honest = hex("0012 70000600 00000000 00000000 29000000 0000");
  Buffer lying = honest;
  lying[1] = 0x13;
  const Case cases[] = {{honest, 18}, {lying, 0}, {hex("00"), 0}, {hex("0000"), 0}, {hex("ffff70"), 0}};
  for (const Case& c : cases) {
    open();
    Command test(Direction::none, 0);
    ASSERT_TRUE(session_.submit(test));
    const Buffer command = sent();
    Buffer response =
        pdu("21800002 00000000 0000000000000000 00000000 00000000 00000100 00000011 00000018 00000000 "
            "00000000 00000000",
            c.data);
    response[7] = static_cast<std::uint8_t>(c.data.size());
    std::memcpy(response.data() + 16, command.data() + 16, 4);
    ASSERT_TRUE(receive(response));
    ASSERT_EQ(ended().size(), 1u);
    EXPECT_EQ(test.status, 2);
    EXPECT_EQ(test.sense_length, c.length) << to_hex(c.data);
    if (c.length != 0) {
      EXPECT_EQ(test.sense[2], 6);
    }
    close();
  }
}

// --- writes
// --------------------------------------------------------------------------------------------------------

TEST_F(InitiatorSessionTest, SmallWriteGoesAsImmediateData) {
  open();
  Command write(Direction::out, 6);
  write.memory = {1, 2, 3, 4, 5, 6};
  write.iov = {write.memory.data(), 6};
  ASSERT_TRUE(session_.submit(write));
  EXPECT_EQ(sent_hex(),
            "01a10000 00000006 00010000 00000000 00010000 00000006 00000010 00000100 "
            "28000000 00090000 01000000 00000000 01020304 05060000");
}

TEST_F(InitiatorSessionTest, UnsolicitedDataFollowsUpToFirstBurstLength) {
  parameters_.initial_r2t = false;
  parameters_.first_burst_bytes = 1280;
  connection_parameters_.max_send_data_segment_bytes = 512;
  open();
  Command write(Direction::out, 2048);
  write.memory = counted(2048);
  write.iov = {write.memory.data(), 2048};
  ASSERT_TRUE(session_.submit(write));
  const Buffer out = sent();
  ASSERT_EQ(out.size(), 3 * 48 + 1280u);
  const Bytes bytes(out);
  // The command: F = 0, for Data-Out follow; 512 bytes immediate.
  EXPECT_EQ(to_hex(bytes.first(32)),
            "01210000 00000200 00010000 00000000 00010000 00000800 00000010 00000100");
  EXPECT_EQ(to_hex(bytes.subspan(560, 48)),
            "05000000 00000200 00000000 00000000 00010000 ffffffff 00000000 00000100 00000000 00000000 "
            "00000200 00000000");
  EXPECT_EQ(to_hex(bytes.subspan(1120, 48)),
            "05800000 00000100 00000000 00000000 00010000 ffffffff 00000000 00000100 00000000 00000001 "
            "00000400 00000000");
  EXPECT_TRUE(std::equal(out.begin() + 608, out.begin() + 1120, write.memory.begin() + 512));
  EXPECT_TRUE(std::equal(out.begin() + 1168, out.end(), write.memory.begin() + 1024));
}

TEST_F(InitiatorSessionTest, NoUnsolicitedDataWithInitialR2tAndWithoutImmediateData) {
  parameters_.immediate_data = false;
  open();
  Command write(Direction::out, 512);
  ASSERT_TRUE(session_.submit(write));
  EXPECT_EQ(to_hex(Bytes(sent()).first(8)), "01a10000 00000000");
}

TEST_F(InitiatorSessionTest, AnswersSeveralOutstandingR2tsInOrder) {
  parameters_.immediate_data = false;
  parameters_.max_outstanding_r2t = 2;
  connection_parameters_.max_send_data_segment_bytes = 1024;
  open();
  Command write(Direction::out, 3000);
  write.memory = counted(3000);
  write.iov = {write.memory.data(), 3000};
  ASSERT_TRUE(session_.submit(write));
  (void)sent();
  ASSERT_TRUE(
      receive(pdu("31800000 00000000 0001000000000000 00010000 0000aaaa 00000100 00000011 00000018 00000000 "
                  "00000000 00000800")));
  ASSERT_TRUE(
      receive(pdu("31800000 00000000 0001000000000000 00010000 0000bbbb 00000100 00000011 00000018 00000001 "
                  "00000800 000003b8")));
  const Buffer out = sent();
  ASSERT_EQ(out.size(), 3 * 48 + 3000u);
  const Bytes bytes(out);
  EXPECT_EQ(to_hex(bytes.first(48)),
            "05000000 00000400 00010000 00000000 00010000 0000aaaa 00000000 00000100 00000000 00000000 "
            "00000000 00000000");
  EXPECT_EQ(to_hex(bytes.subspan(1072, 48)),
            "05800000 00000400 00010000 00000000 00010000 0000aaaa 00000000 00000100 00000000 00000001 "
            "00000400 00000000");
  EXPECT_EQ(to_hex(bytes.subspan(2144, 48)),
            "05800000 000003b8 00010000 00000000 00010000 0000bbbb 00000000 00000100 00000000 00000000 "
            "00000800 00000000");
  ASSERT_TRUE(
      receive(pdu("21800000 00000000 0000000000000000 00010000 00000000 00000100 00000011 00000018 00000002 "
                  "00000000 00000000")));
  ASSERT_EQ(ended().size(), 1u);
  EXPECT_EQ(write.transferred_bytes, 3000u);
}

TEST_F(InitiatorSessionTest, CommandEndsOnlyWhenNothingQueuedNamesItsMemory) {
  connection_parameters_.max_send_data_segment_bytes = 65536;
  open();
  Command write(Direction::out, 65536);
  ASSERT_TRUE(session_.submit(write));  // immediate data, too large to be copied
  std::array<iovec, 8> iov;
  ASSERT_GT(connection_->tx().gather(iov), 1u);
  // The target refuses early, while the payload is still on its way out.
  ASSERT_TRUE(
      receive(pdu("21800008 00000000 0000000000000000 00010000 00000000 00000100 00000011 00000018 00000000 "
                  "00000000 00000000")));
  EXPECT_TRUE(ended().empty());
  EXPECT_EQ(session_.outstanding(), 0u);
  connection_->tx().sent(48 + 65536);
  ASSERT_EQ(ended().size(), 1u);
  EXPECT_EQ(write.status, 8);
}

TEST_F(InitiatorSessionTest, EarlyStatusStopsTheRestOfTheData) {
  parameters_.immediate_data = false;
  parameters_.max_burst_bytes = 4u << 20;
  connection_parameters_.max_send_data_segment_bytes = 65536;
  open();
  Command write(Direction::out, 4u << 20);
  ASSERT_TRUE(session_.submit(write));
  (void)sent();
  ASSERT_TRUE(
      receive(pdu("31800000 00000000 0001000000000000 00010000 00000001 00000100 00000011 00000018 00000000 "
                  "00000000 00400000")));
  connection_->fill();
  const auto queued = connection_->tx().queued_bytes();
  EXPECT_GE(queued, InitiatorConnection::tx_mark_bytes);
  EXPECT_LT(queued, 2 * InitiatorConnection::tx_mark_bytes);
  ASSERT_TRUE(
      receive(pdu("21800002 00000000 0000000000000000 00010000 00000000 00000100 00000011 00000018 00000000 "
                  "00000000 00000000")));
  EXPECT_EQ(sent().size(), queued);
  EXPECT_EQ(ended().size(), 1u);
}

// --- the window
// ----------------------------------------------------------------------------------------------------

TEST_F(InitiatorSessionTest, CommandsWaitForTheWindowAcrossTheWrap) {
  open(0xfffffffe, 2);
  std::vector<std::unique_ptr<Command>> commands;
  for (int i = 0; i < 4; ++i) {
    commands.push_back(std::make_unique<Command>(Direction::none, 0));
    ASSERT_TRUE(session_.submit(*commands.back()));
  }
  EXPECT_EQ(sent().size(), 2 * 48u);
  EXPECT_EQ(session_.pending(), 2u);
  // A NOP-In with both tags reserved only moves the window: MaxCmdSN 0.
  ASSERT_TRUE(
      receive(pdu("20800000 00000000 0000000000000000 ffffffff ffffffff 00000100 00000000 00000000 00000000 "
                  "00000000 00000000")));
  const Buffer third = sent();
  ASSERT_EQ(third.size(), 48u);
  EXPECT_EQ(load_be32(third.data() + 24), 0u);
  // Going backwards does nothing; a MaxCmdSN below ExpCmdSN - 1 is void.
  ASSERT_TRUE(
      receive(pdu("20800000 00000000 0000000000000000 ffffffff ffffffff 00000100 00000000 fffffffe 00000000 "
                  "00000000 00000000")));
  ASSERT_TRUE(
      receive(pdu("20800000 00000000 0000000000000000 ffffffff ffffffff 00000100 00000010 00000008 00000000 "
                  "00000000 00000000")));
  EXPECT_EQ(sent().size(), 0u);
  ASSERT_TRUE(
      receive(pdu("20800000 00000000 0000000000000000 ffffffff ffffffff 00000100 00000000 00000001 00000000 "
                  "00000000 00000000")));
  EXPECT_EQ(load_be32(sent().data() + 24), 1u);
  close();
}

TEST_F(InitiatorSessionTest, TheQueueIsBoundedAndAWaitingCommandCanBeTakenBack) {
  open(0x10, 1);
  std::vector<std::unique_ptr<Command>> commands;
  for (int i = 0; i < 17; ++i) {
    commands.push_back(std::make_unique<Command>(Direction::none, 0));
    ASSERT_TRUE(session_.submit(*commands.back())) << i;
  }
  Command more(Direction::none, 0);
  EXPECT_FALSE(session_.submit(more));
  EXPECT_FALSE(session_.withdraw(*commands[0]));
  EXPECT_TRUE(session_.withdraw(*commands[5]));
  EXPECT_TRUE(session_.submit(more));
  close();
}

TEST_F(InitiatorSessionTest, ATagIsNotUsedAgainAtOnce) {
  open();
  Command first(Direction::in, 4), second(Direction::in, 4);
  ASSERT_TRUE(session_.submit(first));
  (void)sent();
  ASSERT_TRUE(
      receive(pdu("21820000 00000000 0000000000000000 00010000 00000000 00000100 00000011 00000018 00000000 "
                  "00000000 00000004")));
  ASSERT_EQ(ended().size(), 1u);
  ASSERT_TRUE(session_.submit(second));
  EXPECT_EQ(load_be32(sent().data() + 16), 0x00020000u);
  // A late answer to the first does not find the second.
  EXPECT_FALSE(
      receive(pdu("25810000 00000004 0000000000000000 00010000 ffffffff 00000101 00000012 00000018 00000000 "
                  "00000000 00000000",
                  counted(4))));
  EXPECT_EQ(second.outcome, InitiatorOutcome::none);
}

// --- hostile targets
// -----------------------------------------------------------------------------------------------

// A read of 512 (tag 00010000) and a write of 512 with InitialR2T (tag 00010001) are outstanding.
TEST_F(InitiatorSessionTest, BreaksOffWhatTheRfcForbids) {
  struct Case {
    const char* name;
    const char* header;
    std::size_t data;
  };
  const Case cases[] = {
      {"Data-In for an unknown tag",
       "25800000 00000004 0000000000000000 12345678 ffffffff 00000000 00000012 00000018 00000000 00000000 "
       "00000000",
       4},
      {"Data-In for a write",
       "25800000 00000004 0000000000000000 00010001 ffffffff 00000000 00000012 00000018 00000000 00000000 "
       "00000000",
       4},
      {"Data-In beyond the buffer",
       "25800000 00000204 0000000000000000 00010000 ffffffff 00000000 00000012 00000018 00000000 00000000 "
       "00000000",
       516},
      {"Data-In at an offset that wraps",
       "25800000 00000004 0000000000000000 00010000 ffffffff 00000000 00000012 00000018 00000000 fffffffe "
       "00000000",
       4},
      {"Data-In with a gap",
       "25800000 00000004 0000000000000000 00010000 ffffffff 00000000 00000012 00000018 00000000 00000008 "
       "00000000",
       4},
      {"Data-In with a wrong DataSN",
       "25800000 00000004 0000000000000000 00010000 ffffffff 00000000 00000012 00000018 00000001 00000000 "
       "00000000",
       4},
      {"Data-In whose status jumps",
       "25810000 00000004 0000000000000000 00010000 ffffffff 00000105 00000012 00000018 00000000 00000000 "
       "00000000",
       4},
      {"R2T for a read",
       "31800000 00000000 0001000000000000 00010000 00000001 00000100 00000012 00000018 00000000 00000000 "
       "00000200",
       0},
      {"R2T for an unknown tag",
       "31800000 00000000 0001000000000000 33330005 00000001 00000100 00000012 00000018 00000000 00000000 "
       "00000200",
       0},
      {"R2T for nothing",
       "31800000 00000000 0001000000000000 00010001 00000001 00000100 00000012 00000018 00000000 00000000 "
       "00000000",
       0},
      {"R2T beyond the data",
       "31800000 00000000 0001000000000000 00010001 00000001 00000100 00000012 00000018 00000000 00000000 "
       "00000201",
       0},
      {"R2T at an offset that wraps",
       "31800000 00000000 0001000000000000 00010001 00000001 00000100 00000012 00000018 00000000 fffffff0 "
       "00000020",
       0},
      {"R2T with a gap",
       "31800000 00000000 0001000000000000 00010001 00000001 00000100 00000012 00000018 00000000 00000100 "
       "00000100",
       0},
      {"R2T with a wrong R2TSN",
       "31800000 00000000 0001000000000000 00010001 00000001 00000100 00000012 00000018 00000001 00000000 "
       "00000200",
       0},
      {"R2T with the reserved transfer tag",
       "31800000 00000000 0001000000000000 00010001 ffffffff 00000100 00000012 00000018 00000000 00000000 "
       "00000200",
       0},
      {"status for an unknown tag",
       "21800000 00000000 0000000000000000 55555555 00000000 00000100 00000012 00000018 00000000 00000000 "
       "00000000",
       0},
      {"status that comes again",
       "21800000 00000000 0000000000000000 00010000 00000000 000000ff 00000012 00000018 00000000 00000000 "
       "00000000",
       0},
      {"a task management response that nobody asked for",
       "22800000 00000000 0000000000000000 00010000 00000000 00000100 00000012 00000018 00000000 00000000 "
       "00000000",
       0},
      {"a logout response that nobody asked for",
       "26800000 00000000 0000000000000000 00010001 00000000 00000100 00000012 00000018 00000000 00000000 "
       "00000000",
       0},
      {"a text response that nobody asked for",
       "24800000 00000000 0000000000000000 00010001 ffffffff 00000100 00000012 00000018 00000000 00000000 "
       "00000000",
       0},
      {"an answer to a ping that nobody sent",
       "20800000 00000000 0000000000000000 00010001 ffffffff 00000100 00000012 00000018 00000000 00000000 "
       "00000000",
       0},
      {"a Reject without a header",
       "3f800400 00000000 0000000000000000 ffffffff 00000000 00000100 00000012 00000018 00000000 00000000 "
       "00000000",
       0},
      {"a Login Response",
       "23870000 00000000 0000000000000000 00010001 00000000 00000100 00000012 00000018 00000000 00000000 "
       "00000000",
       0},
      {"an initiator's opcode",
       "01800000 00000000 0000000000000000 00010001 00000000 00000100 00000012 00000018 00000000 00000000 "
       "00000000",
       0},
      {"a reserved opcode",
       "3c800000 00000000 0000000000000000 00010001 00000000 00000100 00000012 00000018 00000000 00000000 "
       "00000000",
       0},
      {"a segment longer than we take",
       "20800000 00002001 0000000000000000 ffffffff ffffffff 00000100 00000012 00000018 00000000 00000000 "
       "00000000",
       0},
  };
  for (const Case& c : cases) {
    parameters_.immediate_data = false;
    open();
    Command read(Direction::in, 512), write(Direction::out, 512);
    ASSERT_TRUE(session_.submit(read));
    ASSERT_TRUE(session_.submit(write));
    const Buffer out = sent();
    Buffer bytes = pdu(c.header, counted(c.data));
    const std::uint32_t tag = load_be32(bytes.data() + 16);
    if (tag == 0x00010000 || tag == 0x00010001)
      std::memcpy(bytes.data() + 16, out.data() + (tag & 1) * 48 + 16, 4);
    EXPECT_FALSE(receive(bytes)) << c.name;
    EXPECT_NE(connection_->fault(), InitiatorConnection::Fault::none) << c.name;
    EXPECT_FALSE(receive(bytes)) << c.name;  // and stays broken
    EXPECT_EQ(read.outcome, InitiatorOutcome::none) << c.name;
    // What the write offered to the wire stays within what was asked for rightly: nothing.
    EXPECT_TRUE(sent().empty()) << c.name;
    close();
    EXPECT_EQ(read.outcome, InitiatorOutcome::lost);
  }
}

TEST_F(InitiatorSessionTest, ARepeatedR2tAndOneAfterTheEndAreRefused) {
  const char* r2t =
      "31800000 00000000 0001000000000000 00010000 00000001 00000100 00000011 00000018 00000000 00000000 "
      "00000200";
  parameters_.immediate_data = false;
  open();
  Command write(Direction::out, 512);
  ASSERT_TRUE(session_.submit(write));
  (void)sent();
  ASSERT_TRUE(receive(pdu(r2t)));
  (void)sent();
  EXPECT_FALSE(receive(pdu(r2t)));
  close();

  open();
  Command other(Direction::out, 512);
  ASSERT_TRUE(session_.submit(other));
  (void)sent();
  ASSERT_TRUE(
      receive(pdu("21800002 00000000 0000000000000000 00020000 00000000 00000100 00000011 00000018 00000000 "
                  "00000000 00000000")));
  EXPECT_EQ(ended().size(), 1u);
  EXPECT_FALSE(
      receive(pdu("31800000 00000000 0001000000000000 00020000 00000001 00000101 00000011 00000018 00000000 "
                  "00000000 00000200")));
}

TEST_F(InitiatorSessionTest, MoreR2tsThanAgreedAreRefused) {
  parameters_.immediate_data = false;
  open();
  Command write(Direction::out, 1024);
  ASSERT_TRUE(session_.submit(write));
  (void)sent();
  ASSERT_TRUE(
      receive(pdu("31800000 00000000 0001000000000000 00010000 00000001 00000100 00000011 00000018 00000000 "
                  "00000000 00000200")));
  EXPECT_FALSE(
      receive(pdu("31800000 00000000 0001000000000000 00010000 00000002 00000100 00000011 00000018 00000001 "
                  "00000200 00000200")));
}

TEST_F(InitiatorSessionTest, DigestErrorsBreakTheConnection) {
  connection_parameters_.header_digest = connection_parameters_.data_digest = true;
  open();
  Command read(Direction::in, 4);
  ASSERT_TRUE(session_.submit(read));
  EXPECT_EQ(sent().size(), 52u);  // header and its digest
  Buffer bytes =
      pdu("25810000 00000004 0000000000000000 00010000 ffffffff 00000100 00000011 00000018 00000000 00000000 "
          "00000000");
  bytes.insert(bytes.end(), {0, 0, 0, 0});
  EXPECT_FALSE(receive(bytes));
  EXPECT_EQ(connection_->fault(), InitiatorConnection::Fault::header_digest);
  EXPECT_EQ(session_.counters().digest_errors, 1u);
}

TEST_F(InitiatorSessionTest, PingsFasterThanTheirAnswersAreTakenAreRefused) {
  open();
  const Buffer ping =
      pdu("20800000 00000000 0000000000000000 ffffffff 00000007 00000100 00000010 00000017 00000000 00000000 "
          "00000000");
  int taken = 0;
  while (taken < 5000 && receive(ping)) ++taken;
  EXPECT_EQ(taken, 1024);
}

// --- everything that is not data
// -----------------------------------------------------------------------------------

TEST_F(InitiatorSessionTest, AnswersTheTargetsPingWithItsTransferTag) {
  open();
  ASSERT_TRUE(
      receive(pdu("20800000 00000000 0003000000000000 ffffffff 12345678 00000100 00000010 00000017 00000000 "
                  "00000000 00000000")));
  EXPECT_EQ(sent_hex(),
            "40800000 00000000 00030000 00000000 ffffffff 12345678 00000010 00000100 00000000 00000000 "
            "00000000 00000000");
  EXPECT_EQ(connection_->exp_stat_sn(), StatSn(0x100));  // its StatSN is the next one, not used up
}

TEST_F(InitiatorSessionTest, PingsTheTarget) {
  open();
  ASSERT_TRUE(session_.ping());
  EXPECT_FALSE(session_.ping());
  const Buffer out = sent();
  // Immediate, both a tag of ours (slot 8, the first of the control slots) and the reserved transfer tag.
  EXPECT_EQ(to_hex(out),
            "40800000 00000000 00000000 00000000 00010008 ffffffff 00000010 00000100 00000000 00000000 "
            "00000000 00000000");
  ASSERT_TRUE(
      receive(pdu("20800000 00000000 0000000000000000 00010008 ffffffff 00000100 00000010 00000017 00000000 "
                  "00000000 00000000")));
  const auto events = session_.take_events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, InitiatorEvent::Kind::ping_answered);
  EXPECT_TRUE(session_.ping());
}

TEST_F(InitiatorSessionTest, AbortTaskNamesTheCommandAndEndsIt) {
  open();
  Command read(Direction::in, 512);
  ASSERT_TRUE(session_.submit(read));
  (void)sent();
  InitiatorTask task;
  task.function = TmfFunction::abort_task;
  task.lun = read.lun;
  task.command = &read;
  ASSERT_TRUE(session_.manage(task));
  EXPECT_EQ(sent_hex(),
            "42810000 00000000 00010000 00000000 00010008 00010000 00000011 00000100 00000010 00000000 "
            "00000000 00000000");
  ASSERT_TRUE(
      receive(pdu("22800000 00000000 0000000000000000 00010008 00000000 00000100 00000011 00000018 00000000 "
                  "00000000 00000000")));
  ASSERT_EQ(ended().size(), 1u);
  EXPECT_EQ(read.outcome, InitiatorOutcome::aborted);
  EXPECT_EQ(&session_.completed_tasks().pop_front(), &task);
  EXPECT_EQ(task.outcome, InitiatorOutcome::status);
}

TEST_F(InitiatorSessionTest, AbortTaskThatTheTargetRefusesLeavesTheCommand) {
  open();
  Command read(Direction::in, 512);
  ASSERT_TRUE(session_.submit(read));
  InitiatorTask task;
  task.function = TmfFunction::abort_task;
  task.command = &read;
  ASSERT_TRUE(session_.manage(task));
  (void)sent();
  ASSERT_TRUE(
      receive(pdu("2280ff00 00000000 0000000000000000 00010008 00000000 00000100 00000011 00000018 00000000 "
                  "00000000 00000000")));
  EXPECT_TRUE(ended().empty());
  EXPECT_EQ(session_.completed_tasks().pop_front().response, TmfResponse::function_rejected);
}

TEST_F(InitiatorSessionTest, LunResetEndsEarlierCommandsOfItsUnitOnly) {
  open();
  Command mine(Direction::in, 512), other(Direction::in, 512), later(Direction::in, 512);
  other.lun = 0x0002000000000000;
  ASSERT_TRUE(session_.submit(mine));
  ASSERT_TRUE(session_.submit(other));
  InitiatorTask task;
  task.lun = mine.lun;
  ASSERT_TRUE(session_.manage(task));
  ASSERT_TRUE(session_.submit(later));
  const Buffer out = sent();
  EXPECT_EQ(to_hex(Bytes(out).subspan(96, 48)),
            "42850000 00000000 00010000 00000000 00010008 ffffffff 00000012 00000100 00000000 00000000 "
            "00000000 00000000");
  ASSERT_TRUE(
      receive(pdu("22800000 00000000 0000000000000000 00010008 00000000 00000100 00000013 00000018 00000000 "
                  "00000000 00000000")));
  const auto over = ended();
  ASSERT_EQ(over.size(), 1u);
  EXPECT_EQ(over[0], &mine);
  EXPECT_EQ(session_.outstanding(), 2u);
  session_.completed_tasks().clear();
}

TEST_F(InitiatorSessionTest, TargetWarmResetEndsEverything) {
  open();
  Command a(Direction::in, 512), b(Direction::in, 512);
  b.lun = 0;
  ASSERT_TRUE(session_.submit(a));
  ASSERT_TRUE(session_.submit(b));
  InitiatorTask task;
  task.function = TmfFunction::target_warm_reset;
  ASSERT_TRUE(session_.manage(task));
  (void)sent();
  ASSERT_TRUE(
      receive(pdu("22800000 00000000 0000000000000000 00010008 00000000 00000100 00000012 00000018 00000000 "
                  "00000000 00000000")));
  EXPECT_EQ(ended().size(), 2u);
  session_.completed_tasks().clear();
}

TEST_F(InitiatorSessionTest, JoinsATextAnswerOfSeveralPdus) {
  open();
  const std::string keys("SendTargets=All\0", 16);
  ASSERT_TRUE(session_.text(as_bytes(keys)));
  EXPECT_EQ(to_hex(Bytes(sent()).first(48)),
            "44800000 00000010 00000000 00000000 00010008 ffffffff 00000010 00000100 00000000 00000000 "
            "00000000 00000000");
  ASSERT_TRUE(
      receive(pdu("24400000 00000005 0000000000000000 00010008 00000042 00000100 00000010 00000017 00000000 "
                  "00000000 00000000",
                  as_bytes("Targe"))));
  EXPECT_EQ(sent_hex(),
            "44800000 00000000 00000000 00000000 00010008 00000042 00000010 00000101 00000000 00000000 "
            "00000000 00000000");
  const std::string rest("tName=iqn.x\0", 12);
  ASSERT_TRUE(
      receive(pdu("24800000 0000000c 0000000000000000 00010008 ffffffff 00000101 00000010 00000017 00000000 "
                  "00000000 00000000",
                  as_bytes(rest))));
  const auto events = session_.take_events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(as_text(events[0].data), std::string("TargetName=iqn.x\0", 17));
}

TEST_F(InitiatorSessionTest, ATextAnswerOverTheLimitBreaksTheConnection) {
  open();
  const std::string keys("SendTargets=All\0", 16);
  ASSERT_TRUE(session_.text(as_bytes(keys)));
  (void)sent();
  EXPECT_FALSE(
      receive(pdu("24000000 00000041 0000000000000000 00010008 00000042 00000100 00000010 00000017 00000000 "
                  "00000000 00000000",
                  counted(65))));
}

TEST_F(InitiatorSessionTest, LogsOut) {
  open();
  ASSERT_TRUE(session_.logout(LogoutReason::close_session));
  EXPECT_EQ(sent_hex(),
            "46800000 00000000 00000000 00000000 00010008 00000000 00000010 00000100 00000000 00000000 "
            "00000000 00000000");
  ASSERT_TRUE(
      receive(pdu("26800000 00000000 0000000000000000 00010008 00000000 00000100 00000010 00000017 00000000 "
                  "00020014 00000000")));
  const auto events = session_.take_events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, InitiatorEvent::Kind::logged_out);
  EXPECT_EQ(events[0].logout.time2wait, 2);
  EXPECT_EQ(events[0].logout.time2retain, 20);
}

TEST_F(InitiatorSessionTest, ReportsAsyncMessages) {
  open();
  ASSERT_TRUE(
      receive(pdu("32800000 00000000 0000000000000000 ffffffff 00000000 00000100 00000010 00000017 01000000 "
                  "00000005 00000000")));
  auto events = session_.take_events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].async.async_event, AsyncEvent::logout_requested);
  EXPECT_EQ(events[0].async.parameter3, 5);
  EXPECT_EQ(connection_->exp_stat_sn(), StatSn(0x101));
}

TEST_F(InitiatorSessionTest, RejectOfATaskManagementRequestEndsItAlone) {
  open();
  InitiatorTask task;
  ASSERT_TRUE(session_.manage(task));
  const Buffer request = sent();
  ASSERT_TRUE(
      receive(pdu("3f800600 00000030 0000000000000000 ffffffff 00000000 00000100 00000010 00000017 00000000 "
                  "00000000 00000000",
                  request)));
  EXPECT_EQ(session_.completed_tasks().pop_front().outcome, InitiatorOutcome::rejected);
}

TEST_F(InitiatorSessionTest, RejectOfACommandThatWasNotCountedBreaksTheConnection) {
  open();
  Command read(Direction::in, 512);
  ASSERT_TRUE(session_.submit(read));
  const Buffer request = sent();
  EXPECT_FALSE(
      receive(pdu("3f800200 00000030 0000000000000000 ffffffff 00000000 00000100 00000010 00000017 00000000 "
                  "00000000 00000000",
                  request)));
}

TEST_F(InitiatorSessionTest, RejectOfACommandThatWasCountedFailsIt) {
  open();
  Command read(Direction::in, 512);
  ASSERT_TRUE(session_.submit(read));
  const Buffer request = sent();
  ASSERT_TRUE(
      receive(pdu("3f800500 00000030 0000000000000000 ffffffff 00000000 00000100 00000011 00000018 00000000 "
                  "00000000 00000000",
                  request)));
  ASSERT_EQ(ended().size(), 1u);
  EXPECT_EQ(read.outcome, InitiatorOutcome::rejected);
}

TEST_F(InitiatorSessionTest, CloseEndsSentCommandsInOrderThenWaitingOnes) {
  open(0x10, 2);
  Command a(Direction::in, 512), b(Direction::out, 65536), c(Direction::none, 0);
  ASSERT_TRUE(session_.submit(a));
  ASSERT_TRUE(session_.submit(b));
  ASSERT_TRUE(session_.submit(c));
  InitiatorTask task;
  ASSERT_TRUE(session_.manage(task));
  session_.close();
  connection_.reset();
  const auto over = ended();
  ASSERT_EQ(over.size(), 3u);
  EXPECT_EQ(over[0], &a);
  EXPECT_EQ(over[1], &b);
  EXPECT_EQ(over[2], &c);
  EXPECT_EQ(a.outcome, InitiatorOutcome::lost);
  EXPECT_EQ(c.outcome, InitiatorOutcome::unsent);
  EXPECT_EQ(session_.completed_tasks().pop_front().outcome, InitiatorOutcome::lost);
}

}  // namespace
}  // namespace perilune::iscsi
