// SPDX-License-Identifier: Apache-2.0
// Recovery levels 1 and 2 and several connections, the initiator's engine against bytes written by hand from
// RFC 7143 section 11.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "crypto/crc32c.hpp"
#include "iscsi/session/initiator_session.hpp"
#include "iscsi/session/initiator_test_support.hpp"

namespace perilune::iscsi {
namespace {

using Buffer = std::vector<std::uint8_t>;
using Direction = InitiatorCommand::Direction;

// With a data digest when there is data; a damaged one has a wrong bit in its data.
Buffer pdu(std::string_view header, const Buffer& data = {}, bool damaged = false) {
  Buffer out = hex(header);
  EXPECT_EQ(out.size(), 48u);
  if (data.empty()) return out;
  Buffer padded = data;
  while (padded.size() % 4 != 0) padded.push_back(0);
  const std::uint32_t crc = crypto::crc32c(0, padded);
  if (damaged) padded[padded.size() / 2] ^= 0x10;
  out.insert(out.end(), padded.begin(), padded.end());
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<std::uint8_t>(crc >> shift));
  return out;
}
constexpr bool damaged = true;

Buffer pattern(std::size_t bytes, std::uint8_t first) {
  Buffer out(bytes);
  for (std::size_t i = 0; i < bytes; ++i) out[i] = static_cast<std::uint8_t>(first + i * 5);
  return out;
}

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

class InitiatorRecovery : public testing::Test {
 protected:
  // The first commands' tags: slot, first generation. Control requests follow behind the eight commands.
  void open(std::uint8_t level, std::size_t connections = 1) {
    parameters_.error_recovery_level = level;
    session_.open(parameters_, CmdSn(0x10), CmdSn(0x10), CmdSn(0x17));
    for (std::size_t i = 0; i < connections; ++i)
      add(static_cast<std::uint16_t>(i), 0x100 + static_cast<std::uint32_t>(i) * 0x100);
  }
  InitiatorConnection& add(std::uint16_t cid, std::uint32_t exp_stat_sn) {
    InitiatorConnectionParameters p;
    p.cid = cid;
    p.exp_stat_sn = StatSn(exp_stat_sn);
    p.max_send_data_segment_bytes = 1024;
    p.data_digest = true;
    connections_.push_back(std::make_unique<InitiatorConnection>(session_, pool_, p));
    return *connections_.back();
  }
  void lose(std::size_t index) {
    session_.lose(*connections_[index]);
    connections_[index].reset();
  }
  void TearDown() override {
    session_.close();
    connections_.clear();
    ended();
    session_.completed_tasks().clear();
  }
  InitiatorConnection& at(std::size_t index) { return *connections_[index]; }
  // Headers, one a line; their data segments are left out.
  std::vector<std::string> sent(std::size_t index = 0) {
    Buffer all;
    InitiatorConnection& c = at(index);
    for (;;) {
      c.fill();
      std::array<iovec, 64> iov;
      const std::size_t n = c.tx().gather(iov);
      if (n == 0) break;
      std::size_t bytes = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const auto* p = static_cast<const std::uint8_t*>(iov[i].iov_base);
        all.insert(all.end(), p, p + iov[i].iov_len);
        bytes += iov[i].iov_len;
      }
      c.tx().sent(bytes);
    }
    std::vector<std::string> out;
    for (std::size_t i = 0; i + 48 <= all.size();) {
      out.push_back(to_hex(Bytes(all).subspan(i, 48)));
      const std::size_t length = load_be24(&all[i + 5]);
      i += 48 + (length == 0 ? 0 : (length + 3) / 4 * 4 + 4);
    }
    return out;
  }
  bool receive(const Buffer& bytes, std::size_t index = 0) { return at(index).receive(bytes); }
  std::vector<InitiatorCommand*> ended() {
    std::vector<InitiatorCommand*> out;
    while (!session_.completed().empty()) out.push_back(&session_.completed().pop_front());
    return out;
  }

  TxChunkPool pool_;
  InitiatorSessionParameters parameters_;
  InitiatorSession session_{InitiatorLimits{.commands = 8, .pending_commands = 16, .text_bytes = 64}};
  std::vector<std::unique_ptr<InitiatorConnection>> connections_;
};

using List = std::vector<std::string>;

// Data-In of 512 bytes for the first command, and its status.
constexpr std::string_view data_0 =
    "25000000 00000200 00000000 00000000 00010000 ffffffff 00000000 00000011 00000017 00000000 00000000 "
    "00000000";
constexpr std::string_view data_1 =
    "25800000 00000200 00000000 00000000 00010000 ffffffff 00000000 00000011 00000017 00000001 00000200 "
    "00000000";
constexpr std::string_view status_of_two =
    "21800000 00000000 00000000 00000000 00010000 00000000 00000100 00000011 00000017 00000002 00000000 "
    "00000000";
constexpr std::string_view data_snack_1 =
    "10800000 00000000 00000000 00000000 00010000 ffffffff 00000000 00000100 00000000 00000000 00000001 "
    "00000000";

TEST_F(InitiatorRecovery, ADamagedDataInIsAskedForAndTheStatusBeforeItIsNotAcknowledged) {
  open(1);
  Command read(Direction::in, 1024);
  ASSERT_TRUE(session_.submit(read));
  (void)sent();
  ASSERT_TRUE(receive(pdu(data_0, pattern(512, 1))));
  ASSERT_TRUE(receive(pdu(data_1, pattern(512, 2), damaged)));
  EXPECT_EQ(sent(), List{std::string(data_snack_1)});
  EXPECT_EQ(session_.counters().digest_errors, 1u);
  EXPECT_TRUE(at(0).is_asking());
  ASSERT_TRUE(receive(pdu(status_of_two)));
  EXPECT_TRUE(ended().empty());
  EXPECT_EQ(at(0).exp_stat_sn(), StatSn(0x100)) << "the target would forget the data";
  EXPECT_TRUE(sent().empty()) << "asked once";
  ASSERT_TRUE(receive(pdu(data_1, pattern(512, 2))));
  ASSERT_EQ(ended(), std::vector<InitiatorCommand*>{&read});
  EXPECT_EQ(read.outcome, InitiatorOutcome::status);
  EXPECT_EQ(read.transferred_bytes, 1024u);
  EXPECT_EQ(Buffer(read.memory.begin() + 512, read.memory.end()), pattern(512, 2));
  EXPECT_EQ(at(0).exp_stat_sn(), StatSn(0x101));
  EXPECT_FALSE(at(0).is_asking());
}

TEST_F(InitiatorRecovery, DataBehindAHoleIsDroppedUntilTheHoleIsFilled) {
  open(1);
  Command read(Direction::in, 1024);
  ASSERT_TRUE(session_.submit(read));
  (void)sent();
  ASSERT_TRUE(receive(pdu(data_0, pattern(512, 1), damaged)));
  ASSERT_TRUE(receive(pdu(data_1, pattern(512, 2))));  // was on its way
  EXPECT_EQ(sent().size(), 1u);
  ASSERT_TRUE(receive(pdu(data_0, pattern(512, 1))));
  ASSERT_TRUE(receive(pdu(data_1, pattern(512, 2))));
  ASSERT_TRUE(receive(pdu(data_1, pattern(512, 9)))) << "a repetition changes nothing";
  ASSERT_TRUE(receive(pdu(status_of_two)));
  ASSERT_EQ(ended().size(), 1u);
  EXPECT_EQ(Buffer(read.memory.begin() + 512, read.memory.end()), pattern(512, 2));
  EXPECT_EQ(session_.counters().dropped, 2u);
}

TEST_F(InitiatorRecovery, AStatusThatSaysThatDataIsMissingAsksForIt) {
  open(1);
  Command read(Direction::in, 1024);
  ASSERT_TRUE(session_.submit(read));
  (void)sent();
  ASSERT_TRUE(receive(pdu(data_0, pattern(512, 1))));
  ASSERT_TRUE(receive(pdu(status_of_two)));
  EXPECT_EQ(sent(), List{std::string(data_snack_1)});
  EXPECT_TRUE(ended().empty());
}

TEST_F(InitiatorRecovery, ARefusedDataSnackEndsTheCommandWithoutItsData) {
  open(1);
  Command read(Direction::in, 1024);
  ASSERT_TRUE(session_.submit(read));
  (void)sent();
  ASSERT_TRUE(receive(pdu(data_0, pattern(512, 1))));
  ASSERT_TRUE(receive(pdu(status_of_two)));
  const auto snack = sent();
  ASSERT_TRUE(
      receive(pdu("3f800300 00000030 00000000 00000000 ffffffff 00000000 00000101 00000011 00000017 00000000 "
                  "00000000 00000000",
                  hex(snack.at(0)))));
  ASSERT_EQ(ended(), std::vector<InitiatorCommand*>{&read});
  EXPECT_EQ(read.outcome, InitiatorOutcome::data_lost);
  EXPECT_EQ(at(0).exp_stat_sn(), StatSn(0x102));
}

TEST_F(InitiatorRecovery, ADamagedStatusIsAskedForAndThoseBehindItWaitForIt) {
  open(1);
  Command first(Direction::none, 0), second(Direction::none, 0);
  ASSERT_TRUE(session_.submit(first));
  ASSERT_TRUE(session_.submit(second));
  (void)sent();
  const Buffer sense = {0, 4, 0x72, 3, 0x11, 0};
  const std::string_view check =
      "21800002 00000006 00000000 00000000 00010000 00000000 00000100 00000012 00000017 00000000 00000000 "
      "00000000";
  const std::string_view good =
      "21800000 00000000 00000000 00000000 00010001 00000000 00000101 00000012 00000017 00000000 00000000 "
      "00000000";
  ASSERT_TRUE(receive(pdu(check, sense, damaged)));
  EXPECT_EQ(sent(), List{"10810000 00000000 00000000 00000000 ffffffff ffffffff 00000000 00000100 00000000 "
                         "00000000 00000100 00000000"});
  ASSERT_TRUE(receive(pdu(good)));
  EXPECT_TRUE(ended().empty());
  EXPECT_TRUE(sent().empty());
  ASSERT_TRUE(receive(pdu(check, sense)));
  ASSERT_TRUE(receive(pdu(good)));
  EXPECT_EQ(ended(), (std::vector<InitiatorCommand*>{&first, &second}));
  EXPECT_EQ(first.status, 2);
  EXPECT_EQ(first.sense_length, 4);
  EXPECT_EQ(at(0).exp_stat_sn(), StatSn(0x102));
}

TEST_F(InitiatorRecovery, APingTellsThatAStatusIsMissing) {
  open(1);
  Command first(Direction::none, 0);
  ASSERT_TRUE(session_.submit(first));
  (void)sent();
  ASSERT_TRUE(
      receive(pdu("20800000 00000000 00000000 00000000 ffffffff 00000005 00000101 00000011 00000017 00000000 "
                  "00000000 00000000")));
  const auto out = sent();
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0].substr(0, 8), "10810000");
  EXPECT_EQ(out[1].substr(0, 8), "40800000") << "and is answered, without acknowledging what is missing";
  EXPECT_EQ(out[1].substr(7 * 9, 8), "00000100");
}

TEST_F(InitiatorRecovery, DataIsAcknowledgedWhenTheTargetAsksForIt) {
  open(1);
  Command read(Direction::in, 1024);
  ASSERT_TRUE(session_.submit(read));
  (void)sent();
  ASSERT_TRUE(
      receive(pdu("25c00000 00000200 00010000 00000000 00010000 00000077 00000000 00000011 00000017 00000000 "
                  "00000000 00000000",
                  pattern(512, 1))));
  EXPECT_EQ(sent(), List{"10820000 00000000 00010000 00000000 ffffffff 00000077 00000000 00000100 00000000 "
                         "00000000 00000001 00000000"});
}

TEST_F(InitiatorRecovery, ARecoveryR2tAsksForTheSameDataAgain) {
  parameters_.immediate_data = false;
  open(1);
  Command write(Direction::out, 512);
  ASSERT_TRUE(session_.submit(write));
  (void)sent();
  const std::string_view r2t_0 =
      "31800000 00000000 00010000 00000000 00010000 00000055 00000100 00000011 00000017 00000000 00000000 "
      "00000200";
  const std::string_view r2t_1 =
      "31800000 00000000 00010000 00000000 00010000 00000056 00000100 00000011 00000017 00000001 00000000 "
      "00000200";
  ASSERT_TRUE(receive(pdu(r2t_0)));
  const auto out = sent();
  ASSERT_EQ(out.size(), 1u);
  ASSERT_TRUE(
      receive(pdu("3f800200 00000030 00000000 00000000 ffffffff 00000000 00000100 00000011 00000017 00000000 "
                  "00000000 00000000",
                  hex(out[0]))));
  ASSERT_TRUE(receive(pdu(r2t_1)));
  EXPECT_EQ(sent(), List{"05800000 00000200 00010000 00000000 00010000 00000056 00000000 00000101 00000000 "
                         "00000000 00000000 00000000"});
  ASSERT_TRUE(receive(pdu(r2t_0))) << "a repetition";
  EXPECT_TRUE(sent().empty());
}

TEST_F(InitiatorRecovery, AMissingR2tIsAskedFor) {
  parameters_.immediate_data = false;
  open(1);
  Command write(Direction::out, 512);
  ASSERT_TRUE(session_.submit(write));
  (void)sent();
  ASSERT_TRUE(
      receive(pdu("31800000 00000000 00010000 00000000 00010000 00000056 00000100 00000011 00000017 00000001 "
                  "00000000 00000200")));
  EXPECT_EQ(sent(), List{"10800000 00000000 00000000 00000000 00010000 ffffffff 00000000 00000100 00000000 "
                         "00000000 00000000 00000000"});
}

TEST_F(InitiatorRecovery, ACommandWhoseDataCameDamagedIsSentAgainUnderItsNumber) {
  open(1);
  Command write(Direction::out, 512);
  ASSERT_TRUE(session_.submit(write));
  const auto first = sent();
  ASSERT_EQ(first.size(), 1u);
  ASSERT_TRUE(
      receive(pdu("3f800200 00000030 00000000 00000000 ffffffff 00000000 00000100 00000010 00000017 00000000 "
                  "00000000 00000000",
                  hex(first[0]))));
  const auto second = sent();
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].substr(0, 7 * 9), first[0].substr(0, 7 * 9)) << "tag and CmdSN are the same";
  EXPECT_EQ(second[0].substr(7 * 9, 8), "00000101");
  EXPECT_TRUE(ended().empty());
}

TEST_F(InitiatorRecovery, DataThatComesDamagedAgainAndAgainBreaksTheConnection) {
  open(1);
  Command read(Direction::in, 1024);
  ASSERT_TRUE(session_.submit(read));
  int times = 0;
  while (times < 100 && receive(pdu(data_0, pattern(512, 1), damaged))) {
    ++times;
    (void)sent();
  }
  EXPECT_EQ(times, 16);
  EXPECT_EQ(at(0).fault(), InitiatorConnection::Fault::protocol);
}

TEST_F(InitiatorRecovery, WhatDoesNotComeIsAskedForAgain) {
  open(1);
  Command read(Direction::in, 1024);
  ASSERT_TRUE(session_.submit(read));
  (void)sent();
  ASSERT_TRUE(receive(pdu(data_0, pattern(512, 1))));
  ASSERT_TRUE(receive(pdu(status_of_two)));
  (void)sent();
  EXPECT_TRUE(at(0).ask_again());
  EXPECT_EQ(sent(), List{std::string(data_snack_1)});
}

TEST_F(InitiatorRecovery, AtLevel0DamagedDataBreaksTheConnection) {
  open(0);
  Command read(Direction::in, 1024);
  ASSERT_TRUE(session_.submit(read));
  EXPECT_FALSE(receive(pdu(data_0, pattern(512, 1), damaged)));
  EXPECT_EQ(at(0).fault(), InitiatorConnection::Fault::data_digest);
}

// --- several connections
// --------------------------------------------------------------------------------------------

TEST_F(InitiatorRecovery, CommandsAreSpreadOverConnectionsWithOneCmdSn) {
  open(0, 2);
  std::vector<std::unique_ptr<Command>> commands;
  for (int i = 0; i < 4; ++i) {
    commands.push_back(std::make_unique<Command>(Direction::none, 0));
    ASSERT_TRUE(session_.submit(*commands.back()));
  }
  const auto first = sent(0), second = sent(1);
  ASSERT_EQ(first.size(), 2u);
  ASSERT_EQ(second.size(), 2u);
  EXPECT_EQ(first[0].substr(6 * 9, 8), "00000010");
  EXPECT_EQ(second[0].substr(6 * 9, 8), "00000011");
  EXPECT_EQ(first[1].substr(6 * 9, 8), "00000012");
  EXPECT_EQ(second[1].substr(6 * 9, 8), "00000013");
  EXPECT_EQ(second[0].substr(7 * 9, 8), "00000200") << "each has a StatSN of its own";
}

TEST_F(InitiatorRecovery, AStatusByAnotherConnectionThanTheCommandsCountsForNothing) {
  open(0, 2);
  Command one(Direction::none, 0);
  ASSERT_TRUE(session_.submit(one));
  ASSERT_TRUE(receive(pdu("21800000 00000000 00000000 00000000 00010000 00000000 00000200 00000011 00000017 "
                          "00000000 00000000 00000000"),
                      1));
  EXPECT_TRUE(ended().empty());
}

TEST_F(InitiatorRecovery, AConnectionThatIsRetiredTakesNoNewCommandAndIsLoggedOutByItself) {
  open(0, 2);
  at(0).retire();
  Command one(Direction::none, 0), two(Direction::none, 0);
  ASSERT_TRUE(session_.submit(one));
  ASSERT_TRUE(session_.submit(two));
  EXPECT_TRUE(sent(0).empty());
  EXPECT_EQ(sent(1).size(), 2u);
  ASSERT_TRUE(session_.logout(at(0), LogoutReason::close_connection, 0));
  EXPECT_EQ(sent(0), List{"46810000 00000000 00000000 00000000 00010008 00000000 00000012 00000100 00000000 "
                          "00000000 00000000 00000000"});
  ASSERT_TRUE(
      receive(pdu("26800000 00000000 00000000 00000000 00010008 00000000 00000100 00000012 00000019 00000000 "
                  "00000000 00000000")));
  const auto events = session_.take_events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, InitiatorEvent::Kind::logged_out);
  EXPECT_EQ(events[0].reason, LogoutReason::close_connection);
  EXPECT_EQ(events[0].cid, 0);
}

TEST_F(InitiatorRecovery, ACommandThatAnotherConnectionsResetEndsKeepsItsMemoryUntilItsPayloadIsOver) {
  open(0, 2);
  Command read(Direction::in, 1024);
  ASSERT_TRUE(session_.submit(read));
  Buffer data = pdu(data_0, pattern(512, 1));
  const Buffer rest(data.begin() + 100, data.end());
  data.resize(100);
  ASSERT_TRUE(receive(data, 0));
  InitiatorTask reset;
  reset.lun = read.lun;
  at(0).retire();  // so that it goes by the other one
  ASSERT_TRUE(session_.manage(reset));
  ASSERT_TRUE(receive(pdu("22800000 00000000 00000000 00000000 00010008 00000000 00000200 00000011 00000017 "
                          "00000000 00000000 00000000"),
                      1));
  EXPECT_TRUE(ended().empty());
  ASSERT_TRUE(receive(rest, 0));
  ASSERT_EQ(ended(), std::vector<InitiatorCommand*>{&read});
  EXPECT_EQ(read.outcome, InitiatorOutcome::aborted);
}

// --- level 2
// ---------------------------------------------------------------------------------------------------------

TEST_F(InitiatorRecovery, TasksOfALostConnectionAreReassignedAndWhatTheTargetNeverHadIsSentAgain) {
  open(2, 2);
  Command read(Direction::in, 1024), other(Direction::none, 0), unseen(Direction::none, 0);
  ASSERT_TRUE(session_.submit(read));    // connection 0, CmdSN 10h
  ASSERT_TRUE(session_.submit(other));   // connection 1, CmdSN 11h
  ASSERT_TRUE(session_.submit(unseen));  // connection 0, CmdSN 12h
  (void)sent(0);
  (void)sent(1);
  ASSERT_TRUE(receive(pdu(data_0, pattern(512, 1)), 0));
  lose(0);
  EXPECT_EQ(session_.suspended(), 2u);
  EXPECT_TRUE(session_.is_suspended(read));
  EXPECT_TRUE(ended().empty());
  ASSERT_TRUE(session_.logout(at(1), LogoutReason::remove_connection_for_recovery, 0));
  EXPECT_EQ(sent(1), List{"46820000 00000000 00000000 00000000 00010008 00000000 00000013 00000200 00000000 "
                          "00000000 00000000 00000000"});
  // ExpCmdSN 12h: the last one has not come.
  ASSERT_TRUE(receive(pdu("26800000 00000000 00000000 00000000 00010008 00000000 00000200 00000012 00000017 "
                          "00000000 00000000 00000000"),
                      1));
  EXPECT_TRUE(sent(1).empty());
  session_.recover(0);
  EXPECT_EQ(session_.suspended(), 0u);
  // The slot of the logout is free again: its second generation is the reassignment's tag.
  EXPECT_EQ(sent(1), (List{"42880000 00000000 00010000 00000000 00020008 00010000 00000013 00000201 00000000 "
                           "00000001 00000000 00000000",
                           "01810000 00000000 00010000 00000000 00010002 00000000 00000012 00000201 28000000 "
                           "00090000 01000000 00000000"}));
  ASSERT_TRUE(receive(pdu("22800000 00000000 00000000 00000000 00020008 00000000 00000201 00000013 00000017 "
                          "00000000 00000000 00000000"),
                      1));
  ASSERT_TRUE(receive(pdu(data_1, pattern(512, 2)), 1));
  ASSERT_TRUE(receive(pdu("21800000 00000000 00000000 00000000 00010000 00000000 00000202 00000013 00000017 "
                          "00000002 00000000 00000000"),
                      1));
  ASSERT_EQ(ended(), std::vector<InitiatorCommand*>{&read});
  EXPECT_EQ(read.transferred_bytes, 1024u);
  EXPECT_EQ(session_.counters().reassigned_commands, 1u);
  EXPECT_EQ(session_.counters().retransmitted_commands, 1u);
}

TEST_F(InitiatorRecovery, AReassignedWriteTakesR2tsUnderOldNumbers) {
  parameters_.immediate_data = false;
  open(2);
  Command write(Direction::out, 512);
  ASSERT_TRUE(session_.submit(write));
  (void)sent();
  const std::string_view r2t =
      "31800000 00000000 00010000 00000000 00010000 00000055 00000100 00000011 00000017 00000000 00000000 "
      "00000200";
  ASSERT_TRUE(receive(pdu(r2t)));
  lose(0);
  connections_.clear();
  add(0, 0x100);
  ASSERT_TRUE(
      receive(pdu("20800000 00000000 00000000 00000000 ffffffff ffffffff 00000100 00000011 00000017 00000000 "
                  "00000000 00000000")));
  session_.recover(0);
  EXPECT_EQ(sent(), List{"42880000 00000000 00010000 00000000 00010008 00010000 00000011 00000100 00000000 "
                         "00000000 00000000 00000000"});
  ASSERT_TRUE(
      receive(pdu("22800000 00000000 00000000 00000000 00010008 00000000 00000100 00000011 00000017 00000000 "
                  "00000000 00000000")));
  ASSERT_TRUE(receive(pdu(r2t)));
  EXPECT_EQ(sent(), List{"05800000 00000200 00010000 00000000 00010000 00000055 00000000 00000101 00000000 "
                         "00000000 00000000 00000000"});
}

TEST_F(InitiatorRecovery, ATaskThatTheTargetDoesNotKnowIsLostAndARefusalIsToldOnce) {
  open(2);
  Command one(Direction::none, 0), two(Direction::none, 0);
  ASSERT_TRUE(session_.submit(one));
  ASSERT_TRUE(session_.submit(two));
  (void)sent();
  lose(0);
  connections_.clear();
  add(0, 0x100);
  ASSERT_TRUE(
      receive(pdu("20800000 00000000 00000000 00000000 ffffffff ffffffff 00000100 00000012 00000017 00000000 "
                  "00000000 00000000")));
  session_.recover(0);
  ASSERT_EQ(sent().size(), 2u);
  ASSERT_TRUE(
      receive(pdu("22800100 00000000 00000000 00000000 00010008 00000000 00000100 00000012 00000017 00000000 "
                  "00000000 00000000")));
  EXPECT_EQ(ended(), std::vector<InitiatorCommand*>{&one});
  EXPECT_EQ(one.outcome, InitiatorOutcome::lost);
  ASSERT_TRUE(
      receive(pdu("22800400 00000000 00000000 00000000 00010009 00000000 00000101 00000012 00000017 00000000 "
                  "00000000 00000000")));
  const auto events = session_.take_events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, InitiatorEvent::Kind::recovery_failed);
}

TEST_F(InitiatorRecovery, CloseEndsWhatIsSuspendedAsLost) {
  open(2);
  Command one(Direction::in, 512);
  ASSERT_TRUE(session_.submit(one));
  (void)sent();
  lose(0);
  session_.close();
  EXPECT_EQ(ended(), std::vector<InitiatorCommand*>{&one});
  EXPECT_EQ(one.outcome, InitiatorOutcome::lost);
}

}  // namespace
}  // namespace perilune::iscsi
