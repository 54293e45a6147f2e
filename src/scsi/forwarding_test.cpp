// SPDX-License-Identifier: Apache-2.0
// Logical units that are real devices: what goes to the device, what does not, and what becomes of its
// answers.
#include <gtest/gtest.h>

#include <functional>
#include <optional>

#include "base/assert.hpp"
#include "scsi/copy_handlers.hpp"
#include "scsi/forwarding.hpp"
#include "scsi/handlers.hpp"
#include "scsi/shard_test_support.hpp"

namespace perilune::scsi::test {
namespace {

using Bytes8 = std::vector<std::uint8_t>;
using Delivery = PassthroughCommand::Delivery;
using Direction = PassthroughCommand::Direction;

PassthroughFacts disk_facts() {
  PassthroughFacts facts;
  facts.max_transfer_bytes = 65536;
  facts.block_bytes = 512;
  facts.inquiry = bytes(36, 0);
  facts.inquiry[2] = 6;
  facts.inquiry[5] = 0x19;  // TPGS, 3PC, PROTECT
  return facts;
}

// The device: it notes what comes, and answers when it is told to.
class FakePort final : public PassthroughPort {
 public:
  explicit FakePort(PassthroughFacts facts = disk_facts()) : facts_(std::move(facts)) {}
  ~FakePort() override { PERILUNE_ASSERT(held.empty()); }
  [[nodiscard]] const PassthroughFacts& facts() const noexcept override { return facts_; }
  void submit(PassthroughCommand& command) override {
    cdbs.emplace_back(command.cdb.begin(), command.cdb.begin() + command.cdb_length);
    held.push_back(&command);
  }

  void reset(PassthroughReset& reset) override { resets.push_back(&reset); }
  void end_reset(bool succeeded) {
    PassthroughReset& reset = *resets.front();
    resets.pop_front();
    reset.succeeded = succeeded;
    reset.done(reset);
  }

  // Ends the oldest command with GOOD and these bytes of data-in (or, of data-out, all).
  void answer(const Bytes8& data = {}) {
    PassthroughCommand& command = *held.front();
    std::size_t at = 0;
    for (const iovec& piece : command.data) {
      const std::size_t step = std::min(piece.iov_len, data.size() - at);
      if (command.direction != Direction::in || step == 0) break;
      std::memcpy(piece.iov_base, data.data() + at, step);
      at += step;
    }
    command.transferred_bytes =
        command.direction == Direction::in ? static_cast<std::uint32_t>(data.size()) : command.bytes;
    end(0x00, {});
  }
  void answer_with_sense(const Bytes8& sense, std::uint32_t transferred = 0) {
    held.front()->transferred_bytes = transferred;
    end(0x02, sense);
  }
  void end(std::uint8_t status, const Bytes8& sense, Delivery delivery = Delivery::answered) {
    PassthroughCommand& command = *held.front();
    held.pop_front();
    command.delivery = delivery;
    command.status = status;
    command.sense_length = static_cast<std::uint8_t>(sense.size());
    std::copy(sense.begin(), sense.end(), command.sense.begin());
    command.done(command);
  }
  void fail(Delivery delivery) { end(0, {}, delivery); }

  std::deque<PassthroughCommand*> held;
  std::deque<PassthroughReset*> resets;
  std::vector<Bytes8> cdbs;

 private:
  PassthroughFacts facts_;
};

Bytes8 fixed_sense(std::uint8_t key, std::uint8_t asc, std::uint8_t ascq) {
  return {0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0};
}

struct PassthroughRig {
  explicit PassthroughRig(PassthroughFacts facts = disk_facts(), bool read_only = false)
      : port(std::move(facts)), device("iqn.2026-11.io.perilune:real") {
    UnitConfig config;
    config.identity = UnitIdentity::from_id(0x77);
    config.read_only = read_only;
    PERILUNE_ASSERT(device.add_unit(0, std::move(config), port).has_value());
    a.emplace(device, Rig::names("a"));
    b.emplace(device, Rig::names("b"));
    while (attention(*a) != 0) {
    }
    while (attention(*b) != 0) {
    }
    port.cdbs.clear();
  }
  // Sense of a TEST UNIT READY that the device answers with GOOD.
  std::uint32_t attention(Nexus& nexus) {
    Io io(device, nexus, {0, 0, 0, 0, 0, 0});
    io.run();
    if (!io.ended) port.answer();
    return io.sense();
  }
  Io io(Bytes8 cdb, Bytes8 out = {}, std::uint32_t expected_in = 0) {
    return Io(device, *a, std::move(cdb), std::move(out), expected_in);
  }

  FakePort port;
  Device device;
  std::optional<Nexus> a, b;
};

const Bytes8 read_10{0x28, 0x18, 0, 0, 0x12, 0x34, 0x07, 0, 2, 0x80};
const Bytes8 write_10{0x2a, 0, 0, 0, 0x12, 0x34, 0, 0, 1, 0};

TEST(Forwarding, CdbGoesToTheDeviceAsItCame) {
  PassthroughRig rig;
  Io io = rig.io(read_10, {}, 1024);
  io.run();
  ASSERT_FALSE(io.ended);
  ASSERT_EQ(rig.port.held.size(), 1u);
  EXPECT_EQ(rig.port.cdbs.front(), read_10);  // reserved bits, group number and CONTROL too
  EXPECT_EQ(rig.port.held.front()->direction, Direction::in);
  EXPECT_EQ(rig.port.held.front()->bytes, 1024u);
  rig.port.answer(bytes(1024, 0x5a));
  EXPECT_EQ(io.done_calls, 1);
  EXPECT_EQ(io.status(), ScsiStatus::good);
  EXPECT_EQ(io.data_in(), bytes(1024, 0x5a));
  EXPECT_EQ(io.task.data_transfer_length, 1024u);
}

TEST(Forwarding, LengthOfTheCdbComesFromItsOperationCode) {
  PassthroughRig rig;
  for (const auto& [opcode, length] :
       {std::pair<int, std::size_t>{0x08, 6}, {0x28, 10}, {0x5b, 10}, {0x88, 16}, {0xa8, 12}}) {
    Bytes8 cdb(16, 0);
    cdb[0] = static_cast<std::uint8_t>(opcode);
    Io io = rig.io(cdb, {}, 512);
    io.run();
    ASSERT_EQ(rig.port.held.size(), 1u) << opcode;
    EXPECT_EQ(rig.port.cdbs.back().size(), length) << opcode;
    rig.port.answer(bytes(512, 0));
  }
}

TEST(Forwarding, LongCdbHasTheLengthThatItSays) {
  PassthroughRig rig;
  Bytes8 read_32(32, 0);
  read_32[0] = 0x7f;
  read_32[7] = 0x18;
  read_32[9] = 0x09;
  Io io = rig.io(read_32, {}, 512);
  io.run();
  ASSERT_EQ(rig.port.held.size(), 1u);
  EXPECT_EQ(rig.port.cdbs.back(), read_32);
  rig.port.answer(bytes(512, 1));
  read_32[7] = 0x20;  // 40 bytes: more than came
  EXPECT_EQ(rig.io(read_32, {}, 512).run().sense(), 0x052400u);
  EXPECT_TRUE(rig.port.held.empty());
}

TEST(Forwarding, DataOutReachesTheDevice) {
  PassthroughRig rig;
  Io io = rig.io(write_10, bytes(512, 0xa7));
  io.piece_bytes = 200;
  io.run();
  ASSERT_EQ(rig.port.held.size(), 1u);
  PassthroughCommand& command = *rig.port.held.front();
  EXPECT_EQ(command.direction, Direction::out);
  EXPECT_EQ(command.bytes, 512u);
  for (const iovec& piece : command.data) EXPECT_EQ(*static_cast<std::uint8_t*>(piece.iov_base), 0xa7);
  rig.port.answer();
  EXPECT_EQ(io.status(), ScsiStatus::good);
  EXPECT_EQ(io.task.data_transfer_length, 512u);
}

TEST(Forwarding, ResidualIsWhatTheDeviceLeft) {
  PassthroughRig rig;
  Io io = rig.io({0x1a, 0, 0x3f, 0, 0xff, 0}, {}, 255);
  io.run();
  rig.port.answer(bytes(24, 3));
  EXPECT_EQ(io.task.data_in_length, 24u);
  EXPECT_EQ(io.task.data_transfer_length, 24u);  // of 255: the transport computes the residual from it
}

TEST(Forwarding, SenseComesBackByteByByte) {
  PassthroughRig rig;
  const Bytes8 sense{0xf0, 0, 0x03, 0, 0, 0x12, 0x34, 10, 1, 2, 3, 4, 0x11, 0x00, 5, 0x80, 0, 6};
  Io io = rig.io(read_10, {}, 1024);
  io.run();
  rig.port.answer_with_sense(sense, 512);
  EXPECT_EQ(io.status(), ScsiStatus::check_condition);
  EXPECT_EQ(Bytes8(io.task.sense.begin(), io.task.sense.begin() + io.task.sense_length), sense);
  EXPECT_EQ(io.task.data_in_length, 512u) << "what lay before the medium error";
}

TEST(Forwarding, DataOfARefusedCommandIsNotSent) {
  PassthroughRig rig;
  Io io = rig.io(read_10, {}, 1024);
  io.run();
  rig.port.answer_with_sense(fixed_sense(5, 0x21, 0),
                             1024);  // an adapter that claims everything was transferred
  EXPECT_EQ(io.task.data_in_length, 0u);
  EXPECT_EQ(io.task.data_transfer_length, 0u);
}

TEST(Forwarding, CheckConditionWithoutUsableSenseIsAHardwareError) {
  for (const Bytes8& sense :
       {Bytes8{}, Bytes8{0x70}, Bytes8{0x70, 0}, Bytes8{0x72}, Bytes8{0x11, 0, 3, 0, 0, 0, 0, 0}}) {
    PassthroughRig rig;
    Io io = rig.io(read_10, {}, 1024);
    io.run();
    rig.port.answer_with_sense(sense);
    EXPECT_EQ(io.sense(), 0x044400u) << sense.size();
  }
}

TEST(Forwarding, DeferredErrorOfThreeBytesIsSenseOfEight) {
  PassthroughRig rig;
  Io io = rig.io(read_10, {}, 1024);
  io.run();
  rig.port.answer_with_sense({0x71, 0, 0x03});
  EXPECT_EQ(Bytes8(io.task.sense.begin(), io.task.sense.begin() + io.task.sense_length),
            (Bytes8{0x71, 0, 3, 0, 0, 0, 0, 0}));
}

TEST(Forwarding, EveryStatusOfTheDeviceIsTheInitiators) {
  for (const std::uint8_t status : Bytes8{0x04, 0x08, 0x18, 0x28, 0x30, 0x40}) {
    PassthroughRig rig;
    Io io = rig.io({0x00, 0, 0, 0, 0, 0});
    io.run();
    rig.port.end(status, {});
    EXPECT_EQ(static_cast<std::uint8_t>(io.status()), status);
    EXPECT_EQ(io.sense(), 0u);
  }
}

TEST(Forwarding, WhatHappensOnTheWayHasAnOutcomeOfItsOwn) {
  const auto outcome = [](Delivery delivery) {
    PassthroughRig rig;
    Io io = rig.io(write_10, bytes(512, 1));
    io.run();
    rig.port.fail(delivery);
    return std::pair(io.status(), io.sense());
  };
  using S = ScsiStatus;
  EXPECT_EQ(outcome(Delivery::busy), std::pair(S::busy, 0u));
  EXPECT_EQ(outcome(Delivery::queue_full), std::pair(S::task_set_full, 0u));
  EXPECT_EQ(outcome(Delivery::conflict), std::pair(S::reservation_conflict, 0u));
  EXPECT_EQ(outcome(Delivery::unreachable), std::pair(S::check_condition, 0x020500u));
  EXPECT_EQ(outcome(Delivery::timed_out), std::pair(S::check_condition, 0x0b2e02u));
  EXPECT_EQ(outcome(Delivery::aborted), std::pair(S::check_condition, 0x0b0000u));
  EXPECT_EQ(outcome(Delivery::damaged), std::pair(S::check_condition, 0x0b4700u));
  EXPECT_EQ(outcome(Delivery::failed), std::pair(S::check_condition, 0x044400u));
}

TEST(Forwarding, TransferOverTheLimitIsRefusedBeforeMemoryIsAskedFor) {
  PassthroughRig rig;
  EXPECT_EQ(rig.io(read_10, {}, 65537).run().sense(), 0x052400u);
  EXPECT_EQ(rig.io(write_10, bytes(65537, 0)).run().sense(), 0x052400u);
  EXPECT_TRUE(rig.port.cdbs.empty());
}

TEST(Forwarding, UnitsAndReservationsAreAnsweredHere) {
  PassthroughRig rig;
  const Bytes8 luns = rig.io({0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0}, {}, 64).run().data_in();
  EXPECT_EQ(luns, (Bytes8{0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  Bytes8 list(24, 0);
  list[15] = 0xa1;  // SERVICE ACTION RESERVATION KEY
  EXPECT_EQ(rig.io({0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0}, list).run().status(), ScsiStatus::good);  // REGISTER
  Bytes8 holder(24, 0);
  holder[7] = 0xa1;
  EXPECT_EQ(rig.io({0x5f, 1, 0x03, 0, 0, 0, 0, 0, 24, 0}, holder).run().status(),
            ScsiStatus::good);  // Exclusive Access
  EXPECT_TRUE(rig.port.cdbs.empty());

  EXPECT_EQ(Io(rig.device, *rig.b, read_10, {}, 1024).run().status(), ScsiStatus::reservation_conflict);
  EXPECT_TRUE(rig.port.cdbs.empty());
  Io own = rig.io(read_10, {}, 1024);
  own.run();
  EXPECT_EQ(rig.port.held.size(), 1u);
  rig.port.answer(bytes(1024, 0));
  // What tells about the unit is let through for everybody.
  Io ready(rig.device, *rig.b, {0, 0, 0, 0, 0, 0});
  ready.run();
  ASSERT_EQ(rig.port.held.size(), 1u);
  rig.port.answer();
  // A command of which nothing is known is not.
  EXPECT_EQ(Io(rig.device, *rig.b, {0x5b, 0, 0, 0, 0, 0, 0, 0, 0, 0}).run().status(),
            ScsiStatus::reservation_conflict);
}

TEST(Forwarding, PreemptWaitsForWhatIsWithTheDevice) {
  PassthroughRig rig;
  Bytes8 list(24, 0);
  list[15] = 0xb1;
  EXPECT_EQ(Io(rig.device, *rig.b, {0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0}, list).run().status(),
            ScsiStatus::good);
  Io write(rig.device, *rig.a, write_10, bytes(512, 1));
  write.run();
  Bytes8 reserve(24, 0);
  reserve[7] = 0xb1;
  Io fence(rig.device, *rig.b, {0x5f, 1, 0x03, 0, 0, 0, 0, 0, 24, 0}, reserve);
  fence.run();
  EXPECT_FALSE(fence.ended) << "the write is still under way";
  rig.port.answer();
  EXPECT_EQ(write.status(), ScsiStatus::good);
  EXPECT_TRUE(fence.ended);
  EXPECT_EQ(fence.status(), ScsiStatus::good);
  EXPECT_EQ(Io(rig.device, *rig.a, write_10, bytes(512, 1)).run().status(), ScsiStatus::reservation_conflict);
}

TEST(Forwarding, NeverForwarded) {
  PassthroughFacts facts = disk_facts();
  facts.unrestricted = true;
  PassthroughRig rig(facts);
  for (const std::uint8_t opcode : Bytes8{0x18, 0x39, 0x3a, 0x83, 0x84, 0x86, 0x87, 0x60, 0x7e}) {
    Bytes8 cdb(16, 0);
    cdb[0] = opcode;
    EXPECT_EQ(rig.io(cdb).run().sense(), 0x052000u) << int{opcode};
  }
  for (const std::uint8_t action : Bytes8{0x0a, 0x0b}) {
    EXPECT_EQ(rig.io({0xa3, action, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0}, {}, 255).run().sense(), 0x052400u)
        << int{action};
  }
  EXPECT_EQ(rig.io({0x5e, 0x09, 0, 0, 0, 0, 0, 0, 255, 0}, {}, 255).run().sense(), 0x052400u);
  EXPECT_EQ(rig.io({0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0}, bytes(8, 0)).run().sense(), 0x052400u);
  EXPECT_TRUE(rig.port.cdbs.empty());
}

TEST(Forwarding, WhatCanRuinADeviceIsRestricted) {
  const Bytes8 opcodes{0x04, 0x3b, 0x40, 0x48, 0x85, 0xa1, 0xa2, 0xb5, 0xc0, 0xff};
  PassthroughRig rig;
  for (const std::uint8_t opcode : opcodes) {
    Bytes8 cdb(16, 0);
    cdb[0] = opcode;
    EXPECT_EQ(rig.io(cdb).run().sense(), 0x052000u) << int{opcode};
  }
  EXPECT_TRUE(rig.port.cdbs.empty());
  PassthroughFacts facts = disk_facts();
  facts.unrestricted = true;
  PassthroughRig open(facts);
  for (const std::uint8_t opcode : opcodes) {
    Bytes8 cdb(16, 0);
    cdb[0] = opcode;
    Io io = open.io(cdb);
    io.run();
    ASSERT_EQ(open.port.held.size(), 1u) << int{opcode};
    open.port.answer();
  }
}

TEST(Forwarding, OpcodesMeanWhatTheTypeOfTheDeviceSays) {
  PassthroughFacts facts = disk_facts();
  facts.type = 0x01;
  PassthroughRig tape(facts);
  Io format = tape.io({0x04, 0, 0, 0, 0, 0});  // FORMAT MEDIUM
  format.run();
  ASSERT_EQ(tape.port.held.size(), 1u);
  tape.port.answer();
  facts.type = 0x05;
  PassthroughRig drive(facts);
  Io key = drive.io({0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0}, {}, 8);  // REPORT KEY
  key.run();
  ASSERT_EQ(drive.port.held.size(), 1u);
  drive.port.answer(bytes(8, 0));
}

TEST(Forwarding, ReadOnlyUnitForwardsOnlyWhatDoesNotWrite) {
  PassthroughRig rig(disk_facts(), true);
  EXPECT_EQ(rig.io(write_10, bytes(512, 0)).run().sense(), 0x072700u);
  EXPECT_EQ(rig.io({0x42, 0, 0, 0, 0, 0, 0, 0, 8, 0}, bytes(8, 0)).run().sense(), 0x072700u);  // UNMAP
  EXPECT_TRUE(rig.port.cdbs.empty());
  Io io = rig.io(read_10, {}, 1024);
  io.run();
  ASSERT_EQ(rig.port.held.size(), 1u);
  rig.port.answer(bytes(1024, 0));
}

TEST(Forwarding, OneAttentionOfTheDeviceIsEverybodys) {
  PassthroughRig rig;
  Io io = rig.io(read_10, {}, 1024);
  io.run();
  rig.port.answer_with_sense(fixed_sense(6, 0x2a, 0x09));
  EXPECT_EQ(io.sense(), 0x062a09u);
  EXPECT_EQ(rig.attention(*rig.a), 0u) << "it has been told";
  EXPECT_EQ(rig.attention(*rig.b), 0x062a09u);
  EXPECT_EQ(rig.attention(*rig.b), 0u);
}

TEST(Forwarding, AttentionThatCameToAnAbortedCommandIsToldToItsNexusToo) {
  PassthroughRig rig;
  Io io = rig.io(read_10, {}, 1024);
  io.run();
  rig.device.abort(io.task);
  EXPECT_FALSE(io.ended) << "it is still with the device";
  rig.port.answer_with_sense({0x72, 6, 0x29, 0x00, 0, 0, 0, 0});
  EXPECT_TRUE(io.task.aborted);
  EXPECT_EQ(io.done_calls, 1);
  EXPECT_EQ(rig.attention(*rig.a), 0x062900u);
  EXPECT_EQ(rig.attention(*rig.b), 0x062900u);
}

TEST(Forwarding, ModeSelectIsNewsToOthers) {
  PassthroughRig rig;
  Io io = rig.io({0x15, 0x10, 0, 0, 4, 0}, bytes(4, 0));
  io.run();
  rig.port.answer();
  EXPECT_EQ(rig.attention(*rig.a), 0u);
  EXPECT_EQ(rig.attention(*rig.b), 0x062a01u);
}

TEST(Forwarding, AttentionsOfThisHostsOwnPathAreNotTheOthers) {
  for (const auto& [asc, ascq] : {std::pair{0x3f, 0x0e}, {0x2a, 0x03}, {0x2a, 0x06}, {0x38, 0x07}}) {
    EXPECT_EQ(
        attention_of_sense(fixed_sense(6, static_cast<std::uint8_t>(asc), static_cast<std::uint8_t>(ascq))),
        std::nullopt);
  }
  EXPECT_EQ(attention_of_sense(fixed_sense(5, 0x29, 0)), std::nullopt);
  EXPECT_EQ(attention_of_sense(Bytes8{0x70, 0, 6, 0}), std::nullopt) << "cut before the code";
  EXPECT_EQ(attention_of_sense(Bytes8{0x71, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x28, 0x01}),
            UnitAttention::medium_may_have_changed);
}

TEST(Forwarding, RequestSenseTellsOursFirst) {
  PassthroughRig rig;
  rig.device.raise_everywhere(*rig.device.unit(0), nullptr, UnitAttention::capacity_changed);
  Io ours = rig.io({0x03, 0, 0, 0, 18, 0}, {}, 18);
  ours.run();
  ASSERT_TRUE(ours.ended);
  EXPECT_EQ(ours.data_in()[12], 0x2a);
  Io theirs = rig.io({0x03, 0, 0, 0, 18, 0}, {}, 18);
  theirs.run();
  ASSERT_EQ(rig.port.held.size(), 1u);
  rig.port.answer(fixed_sense(0, 0x00, 0x1d));
  EXPECT_EQ(theirs.data_in()[13], 0x1d);
}

TEST(Forwarding, AttentionThatRequestSenseTookIsTheOthersToo) {
  PassthroughRig rig;
  Io io = rig.io({0x03, 0, 0, 0, 18, 0}, {}, 18);
  io.run();
  rig.port.answer(fixed_sense(6, 0x28, 0x00));
  EXPECT_EQ(rig.attention(*rig.a), 0u);
  EXPECT_EQ(rig.attention(*rig.b), 0x062800u);
}

TEST(Forwarding, CopiesOfOtherUnitsDoNotReachTheDevice) {
  PassthroughRig rig;
  const LogicalUnit& unit = *rig.device.unit(0);
  Bytes8 designator(8);
  store_be64(designator.data(), naa_designator(unit));
  EXPECT_FALSE(designates(unit, 1, 3, designator));
}

// ---- REPORT SUPPORTED OPERATION CODES

Bytes8 opcodes_cdb(std::uint8_t options, std::uint8_t opcode = 0, std::uint8_t action = 0) {
  return {0xa3, 0x0c, options, opcode, 0, action, 0, 0, 2, 0, 0, 0};
}
Bytes8 one_opcode(std::uint8_t opcode, std::uint8_t flags = 0, std::uint8_t action = 0) {
  return {opcode, 0, 0, action, 0, flags, 0, 10};
}

TEST(ForwardedOpcodes, ListIsTheDevicesWithoutWhatIsRefusedAndWithOurs) {
  PassthroughRig rig;
  Io io = rig.io(opcodes_cdb(0), {}, 512);
  io.run();
  ASSERT_EQ(rig.port.held.size(), 1u);
  EXPECT_EQ(rig.port.cdbs.back(), (Bytes8{0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0}));
  Bytes8 list{0, 0, 0, 0};
  for (const Bytes8& each : {one_opcode(0x28), one_opcode(0x04), one_opcode(0x83, 1, 0),
                             one_opcode(0x5f, 1, 0), one_opcode(0x42)}) {
    list.insert(list.end(), each.begin(), each.end());
  }
  list.insert(list.end(), {0x2a, 0, 0, 0, 0, 2, 0, 10, 0, 10});  // its timeouts pass the end
  store_be32(list.data(), 0xffffffff);
  rig.port.answer(list);
  const Bytes8 got = io.data_in();
  ASSERT_GT(got.size(), 20u);
  EXPECT_EQ(load_be32(got.data()), got.size() - 4);
  EXPECT_EQ(Bytes8(got.begin() + 4, got.begin() + 12), one_opcode(0x28));
  EXPECT_EQ(Bytes8(got.begin() + 12, got.begin() + 20), one_opcode(0x42));
  std::size_t reserve_out = 0;
  bool luns = false;
  for (std::size_t at = 20; at < got.size(); at += 8) {
    EXPECT_TRUE(got[at] != 0x04 && got[at] != 0x83 && got[at] != 0x2a) << int{got[at]};
    reserve_out += got[at] == 0x5f ? 1 : 0;
    luns |= got[at] == 0xa0;
  }
  EXPECT_EQ(reserve_out, 8u) << "ours, each service action once";
  EXPECT_TRUE(luns);
}

TEST(ForwardedOpcodes, OneCommandIsAskedForWhereItIsServed) {
  PassthroughRig rig;
  Io forwarded = rig.io(opcodes_cdb(1, 0x93), {}, 512);
  forwarded.run();
  ASSERT_EQ(rig.port.held.size(), 1u);
  EXPECT_EQ(rig.port.cdbs.back(), opcodes_cdb(1, 0x93));
  rig.port.answer({0, 3, 0, 2, 0x93, 0xff});
  EXPECT_EQ(forwarded.data_in(), (Bytes8{0, 3, 0, 2, 0x93, 0xff}));
  EXPECT_EQ(rig.io(opcodes_cdb(1, 0x04), {}, 512).run().data_in(), (Bytes8{0, 1, 0, 0}));
  const Bytes8 ours = rig.io(opcodes_cdb(2, 0x5e, 0), {}, 512).run().data_in();
  EXPECT_EQ(Bytes8(ours.begin(), ours.begin() + 5), (Bytes8{0, 3, 0, 10, 0x5e}));
  EXPECT_EQ(rig.port.cdbs.size(), 1u);
}

TEST(ForwardedOpcodes, EmptyListOfTheDeviceHasOursAlone) {
  PassthroughRig rig;
  const Bytes8 list = merge_supported_operation_codes(Bytes8{0, 0}, *rig.device.unit(0), true);
  EXPECT_EQ(load_be32(list.data()), list.size() - 4);
  EXPECT_EQ((list.size() - 4) % 20, 0u);
  EXPECT_EQ(list[4 + 5] & 0x02, 0x02);
}

TEST(ForwardedOpcodes, TaskManagementFunctionsAreOurs) {
  PassthroughRig rig;
  const Bytes8 functions = rig.io({0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0}, {}, 4).run().data_in();
  ASSERT_EQ(functions.size(), 4u);
  EXPECT_EQ(functions[0] & 0x80, 0x80) << "ABORT TASK";
  EXPECT_TRUE(rig.port.cdbs.empty());
}

// ---- INQUIRY

Bytes8 inquiry_cdb(std::optional<std::uint8_t> page, std::uint16_t allocation) {
  return {0x12,
          std::uint8_t(page ? 1 : 0),
          page.value_or(0),
          std::uint8_t(allocation >> 8),
          std::uint8_t(allocation & 0xff),
          0};
}

TEST(ForwardedInquiry, PortGroupsAndCopiesAreNotTheDevicesToOffer) {
  PassthroughRig rig;
  Io io = rig.io(inquiry_cdb(std::nullopt, 96), {}, 96);
  io.piece_bytes = 5;  // the byte that changes begins a piece
  io.run();
  ASSERT_EQ(rig.port.held.size(), 1u);
  Bytes8 data = bytes(96, 0x11);
  data[5] = 0x39;
  rig.port.answer(data);
  data[5] = 0x01;
  EXPECT_EQ(io.data_in(), data);
}

TEST(ForwardedInquiry, ShortAnswerIsNotRepaired) {
  PassthroughRig rig;
  Io io = rig.io(inquiry_cdb(std::nullopt, 5), {}, 5);
  io.run();
  rig.port.answer(bytes(5, 0x22));
  EXPECT_EQ(io.data_in(), bytes(5, 0x22));
}

TEST(ForwardedInquiry, DeviceThatIsGoneIsNotConnected) {
  PassthroughRig rig;
  Io io = rig.io(inquiry_cdb(std::nullopt, 96), {}, 96);
  io.run();
  rig.port.fail(Delivery::unreachable);
  ASSERT_EQ(io.status(), ScsiStatus::good);
  Bytes8 data = disk_facts().inquiry;
  data[0] = 0x20;
  data[5] = 0x01;
  EXPECT_EQ(io.data_in(), data);
  Io page = rig.io(inquiry_cdb(0x83, 255), {}, 255);
  page.run();
  rig.port.fail(Delivery::unreachable);
  EXPECT_EQ(page.sense(), 0x020500u);
}

TEST(ForwardedInquiry, UnitIsNamedByTheDeviceAndPortsByTheTarget) {
  PassthroughRig rig;
  Io io = rig.io(inquiry_cdb(0x83, 512), {}, 512);
  io.run();
  ASSERT_EQ(rig.port.cdbs.back(), (Bytes8{0x12, 1, 0x83, 4, 0, 0}));
  const Bytes8 of_unit{0x01, 0x03, 0, 8, 0x50, 1, 2, 3, 4, 5, 6, 7};
  const Bytes8 of_port{0x61, 0x93, 0, 8, 0x50, 9, 9, 9, 9, 9, 9, 9};
  const Bytes8 of_target{0x63, 0xa8, 0, 4, 'n', 'a', 'a', 0};
  Bytes8 page{0, 0x83, 0, 32};
  for (const Bytes8& each : {of_unit, of_port, of_target}) page.insert(page.end(), each.begin(), each.end());
  page.insert(page.end(), {0x02, 0x01, 0, 200});  // passes the end of the page
  page[3] = static_cast<std::uint8_t>(page.size() - 4);
  rig.port.answer(page);
  const Bytes8 got = io.data_in();
  ASSERT_GE(got.size(), 16u);
  EXPECT_EQ(Bytes8(got.begin() + 4, got.begin() + 16), of_unit);
  EXPECT_EQ(load_be16(&got[2]), got.size() - 4);
  const std::string text(got.begin(), got.end());
  EXPECT_NE(text.find("iqn.2026-11.io.perilune:disk,t,0x0001"), std::string::npos);
  EXPECT_NE(text.find("iqn.2026-11.io.perilune:real"), std::string::npos);
  EXPECT_EQ(text.find("naa"), std::string::npos);
  EXPECT_EQ(text.find("\x09\x09"), std::string::npos);
}

TEST(ForwardedInquiry, PagesAreAsLongAsTheyAreAndNoLonger) {
  // The header says 300 bytes; 12 came.
  const Bytes8 cut =
      merge_device_identification(Bytes8{0, 0x83, 0x01, 0x2c, 0x01, 0x03, 0, 8, 1, 2, 3, 4}, {});
  EXPECT_EQ(cut, (Bytes8{0, 0x83, 0, 0}));
  EXPECT_EQ(merge_device_identification(Bytes8{0, 0x83}, Bytes8{1}), (Bytes8{0, 0x83}));
  Bytes8 pages{0, 0x00, 0, 200, 0x00, 0x83, 0x8f, 0xb0};
  adjust_supported_pages(pages);
  EXPECT_EQ(pages, (Bytes8{0, 0x00, 0, 3, 0x00, 0x83, 0xb0}));
  Bytes8 shortest{0, 0};
  adjust_supported_pages(shortest);
  EXPECT_EQ(shortest.size(), 2u);
}

TEST(ForwardedInquiry, AnswerIsClippedToTheAllocationLength) {
  PassthroughRig rig;
  Io io = rig.io(inquiry_cdb(0x00, 5), {}, 255);
  io.run();
  rig.port.answer({0, 0, 0, 3, 0x00, 0x80, 0x83});
  EXPECT_EQ(io.data_in(), (Bytes8{0, 0, 0, 3, 0x00}));
  EXPECT_EQ(io.task.data_transfer_length, 5u);
}

TEST(ForwardedInquiry, BlockLimitsAreThoseOfTheWay) {
  PassthroughRig rig;
  Io io = rig.io(inquiry_cdb(0xb0, 64), {}, 64);
  io.run();
  Bytes8 page = bytes(64, 0);
  page[1] = 0xb0;
  page[3] = 60;
  page[5] = 255;                      // COMPARE AND WRITE
  store_be32(&page[12], 0xffff);      // OPTIMAL; MAXIMUM is 0: no limit of the device's own
  store_be32(&page[20], 0x10000000);  // UNMAP: its list is short
  store_be32(&page[44], 0x1000);      // atomic
  rig.port.answer(page);
  const Bytes8 got = io.data_in();
  EXPECT_EQ(load_be32(&got[8]), 128u);  // 64 KiB of 512
  EXPECT_EQ(load_be32(&got[12]), 128u);
  EXPECT_EQ(got[5], 64);
  EXPECT_EQ(load_be32(&got[20]), 0x10000000u);
  EXPECT_EQ(load_be32(&got[44]), 128u);
  EXPECT_EQ(load_be32(&got[56]), 0u);
}

TEST(ForwardedInquiry, SmallerLimitsOfTheDeviceStay) {
  Bytes8 page = bytes(16, 0);
  store_be32(&page[8], 100);
  store_be32(&page[12], 50);
  adjust_block_limits(page, disk_facts());
  EXPECT_EQ(load_be32(&page[8]), 100u);
  EXPECT_EQ(load_be32(&page[12]), 50u);
}

TEST(ForwardedInquiry, PortsAreOurs) {
  PassthroughRig rig;
  const Bytes8 page = rig.io(inquiry_cdb(0x88, 255), {}, 255).run().data_in();
  EXPECT_EQ(page[1], 0x88);
  EXPECT_EQ(load_be16(&page[2]), page.size() - 4);
  EXPECT_EQ(rig.io(inquiry_cdb(0x8f, 255), {}, 255).run().sense(), 0x052400u);
  EXPECT_TRUE(rig.port.cdbs.empty());
}

TEST(ForwardedInquiry, PageThatWasReadInTheTasksPlaceIsNotSentAsItIs) {
  for (const std::uint8_t page : Bytes8{0x00, 0x83, 0xb0}) {
    PassthroughRig rig;
    Io io = rig.io(inquiry_cdb(page, 255), {}, 255);
    io.run();
    rig.port.answer_with_sense(fixed_sense(3, 0x11, 0), 1024);  // with this sense key there may be data
    EXPECT_EQ(io.sense(), 0x031100u);
    EXPECT_EQ(io.task.data_in_length, 0u);
    EXPECT_EQ(io.task.data_transfer_length, 0u);
  }
}

TEST(ForwardedInquiry, RefusedPageIsRefusedByTheDevice) {
  PassthroughRig rig;
  Io io = rig.io(inquiry_cdb(0xb0, 64), {}, 64);
  io.run();
  rig.port.answer_with_sense(fixed_sense(5, 0x24, 0));
  EXPECT_EQ(io.sense(), 0x052400u);
  EXPECT_TRUE(io.data_in().empty());
}

// ---- task management

struct Management {
  Management(Device& device, Nexus& nexus, TmFunction function) {
    request.function = function;
    request.nexus = &nexus;
    request.done = Delegate<void(TaskManagement&)>::to<&Management::on_done>(*this);
    over = device.manage(request);
  }
  void on_done(TaskManagement&) { over = true; }
  TaskManagement request;
  bool over = false;
};

TEST(Forwarding, ResetIsPassedOnAndWaitsForTheDeviceAndForWhatIsWithIt) {
  for (const bool commands_first : {true, false}) {
    PassthroughRig rig;
    Io io = rig.io(write_10, bytes(512, 1));
    io.run();
    Management reset(rig.device, *rig.b, TmFunction::lun_reset);
    ASSERT_EQ(rig.port.resets.size(), 1u);  // at once: what is with the device may end by it alone
    EXPECT_FALSE(rig.device.unit_idle(0));
    commands_first ? rig.port.answer() : rig.port.end_reset(true);
    EXPECT_FALSE(reset.over);
    commands_first ? rig.port.end_reset(true) : rig.port.answer();
    EXPECT_TRUE(reset.over);
    EXPECT_EQ(reset.request.response, TmResponse::function_complete);
    EXPECT_TRUE(io.task.aborted);
    EXPECT_TRUE(rig.device.unit_idle(0));
    EXPECT_EQ(rig.attention(*rig.a), 0x062903u);
  }
}

TEST(Forwarding, ResetThatTheDeviceDoesNotDoIsRejected) {
  PassthroughRig rig;
  Management reset(rig.device, *rig.b, TmFunction::target_warm_reset);
  ASSERT_EQ(rig.port.resets.size(), 1u);
  rig.port.end_reset(false);
  EXPECT_TRUE(reset.over);
  EXPECT_EQ(reset.request.response, TmResponse::function_rejected);
}

TEST(Forwarding, OnlyResetsArePassedOn) {
  PassthroughRig rig;
  for (const TmFunction function :
       {TmFunction::abort_task_set, TmFunction::clear_task_set, TmFunction::i_t_nexus_reset}) {
    Management request(rig.device, *rig.b, function);
    EXPECT_TRUE(request.over);
  }
  EXPECT_TRUE(rig.port.resets.empty());
}

// From whatever shard it comes: once, by the owner.
TEST(Forwarding, ResetOfSeveralShardsReachesTheDeviceOnce) {
  for (const std::uint32_t from : {0u, 1u}) {
    for (const bool succeeds : {true, false}) {
      ShardRig shards(2, 0);
      FakePort ports[2];
      for (std::uint32_t i = 0; i < 2; ++i)
        PERILUNE_ASSERT(shards.device(i).add_unit(0, UnitConfig{}, ports[i]).has_value());
      shards.deliver_all();
      Management reset(shards.device(from), shards.nexus(from), TmFunction::lun_reset);
      shards.deliver_all();
      EXPECT_FALSE(reset.over);
      ASSERT_EQ(ports[0].resets.size(), 1u);  // shard 0 owns unit 0
      EXPECT_TRUE(ports[1].resets.empty());
      ports[0].end_reset(succeeds);
      shards.deliver_all();
      EXPECT_TRUE(reset.over);
      EXPECT_EQ(reset.request.response,
                succeeds ? TmResponse::function_complete : TmResponse::function_rejected);
    }
  }
}

TEST(Forwarding, OrderedCommandWaitsForOlderOnesAndHoldsYoungerOnes) {
  PassthroughRig rig;
  Io first = rig.io(write_10, bytes(512, 1));
  first.run();
  Io ordered = rig.io(write_10, bytes(512, 2));
  ordered.task.attribute = TaskAttribute::ordered;
  ordered.run();
  Io last = rig.io(write_10, bytes(512, 3));
  last.run();
  EXPECT_EQ(rig.port.held.size(), 1u);
  rig.port.answer();
  EXPECT_EQ(rig.port.held.size(), 1u);
  EXPECT_FALSE(ordered.ended);
  rig.port.answer();
  EXPECT_TRUE(ordered.ended);
  rig.port.answer();
  EXPECT_TRUE(last.ended);
}

TEST(Forwarding, AttentionReachesTheNexusesOfOtherShards) {
  ShardRig shards(2, 0);
  FakePort ports[2];
  for (std::uint32_t i = 0; i < 2; ++i)
    PERILUNE_ASSERT(shards.device(i).add_unit(0, UnitConfig{}, ports[i]).has_value());
  shards.deliver_all();
  const auto attention = [&](std::uint32_t shard) {
    Io io = shards.io(shard, {0, 0, 0, 0, 0, 0});
    io.run();
    if (!io.ended) ports[shard].answer();
    return io.sense();
  };
  for (std::uint32_t i = 0; i < 2; ++i) {
    while (attention(i) != 0) {
    }
  }
  Io io = shards.io(0, read_10, {}, 1024);
  io.run();
  ports[0].answer_with_sense(fixed_sense(6, 0x28, 0x00));
  EXPECT_EQ(io.sense(), 0x062800u);
  shards.deliver_all();
  EXPECT_EQ(attention(0), 0u);
  EXPECT_EQ(attention(1), 0x062800u);
}

}  // namespace
}  // namespace perilune::scsi::test
