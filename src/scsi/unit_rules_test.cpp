// SPDX-License-Identifier: Apache-2.0
// What an operator decides of a disk is what initiators find, by bytes written by hand from SPC-4 and SBC-3.
#include "scsi/unit_rules.hpp"

#include <gtest/gtest.h>

#include "scsi/handlers.hpp"
#include "scsi/shard_test_support.hpp"

namespace perilune::scsi::test {
namespace {

using block::OpKind;
using Data = std::vector<std::uint8_t>;

constexpr std::uint32_t invalid_opcode = 0x052000;
constexpr std::uint32_t invalid_field = 0x052400;
constexpr std::uint32_t modes_changed = 0x062a01;
constexpr std::uint32_t inquiry_changed = 0x063f03;

Data vpd(std::uint8_t page) { return {0x12, 1, page, 0, 255, 0}; }
const Data read_capacity_16{0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0};
const Data write_one{0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0};
const Data block(512, 0x5a);

Data unmap_list(std::initializer_list<std::pair<std::uint64_t, std::uint32_t>> ranges) {
  Data list(8 + 16 * ranges.size());
  store_be16(&list[0], static_cast<std::uint16_t>(list.size() - 2));
  store_be16(&list[2], static_cast<std::uint16_t>(list.size() - 8));
  std::size_t at = 8;
  for (const auto& [lba, blocks] : ranges) {
    store_be64(&list[at], lba);
    store_be32(&list[at + 8], blocks);
    at += 16;
  }
  return list;
}
Data unmap(const Data& list) {
  return {0x42, 0, 0, 0, 0, 0, 0, 0, static_cast<std::uint8_t>(list.size()), 0};
}

class Rules : public ::testing::Test {
 protected:
  // In force, and told: mode and INQUIRY data may have changed.
  void set(const UnitRules& rules) {
    bool in_force = false;
    rig.unit.set_rules(rules, [&] { in_force = true; });
    EXPECT_TRUE(in_force);
    for (Nexus* nexus : {&rig.a, &rig.b}) {
      while (Io(rig.device, *nexus, {0x03, 0, 0, 0, 252, 0}, {}, 252).run().data_in()[2] != 0) {
      }
    }
  }
  std::uint32_t sense(const Data& cdb, const Data& out = {}) {
    return rig.io(cdb, out, out.empty() ? 512 : 0).run().sense();
  }
  Data data(const Data& cdb) { return rig.io(cdb, {}, 255).run().data_in(); }
  Data modes(std::uint8_t page, std::uint8_t control = 0) {
    return data({0x1a, 0x08, static_cast<std::uint8_t>(control << 6 | page), 0, 255, 0});
  }
  // Whether REPORT SUPPORTED OPERATION CODES has it (SPC-4 6.35: SUPPORT).
  bool reported(std::uint8_t opcode, std::uint8_t service_action = 0, bool by_action = false) {
    const std::uint8_t options = by_action ? 2 : 1;
    return (data({0xa3, 0x0c, options, opcode, 0, service_action, 0, 0, 0, 255, 0, 0})[1] & 7) == 3;
  }

  Rig rig;
};

TEST_F(Rules, CommandsThatAreTakenAwayAreNotThere) {
  const Data extended_copy{0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  const Data copy_results{0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0};
  Data compare_and_write{0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0};
  const Data read_keys{0x5e, 0, 0, 0, 0, 0, 0, 0, 255, 0};
  const Data reserve{0x16, 0, 0, 0, 0, 0};
  const Data before = data(vpd(0x00));
  EXPECT_NE(std::find(before.begin() + 4, before.end(), 0x8f), before.end());
  EXPECT_TRUE(reported(0x89));
  set({.third_party_copy = false, .compare_and_write = false, .reservations = false});
  EXPECT_EQ(sense(extended_copy), invalid_opcode);
  EXPECT_EQ(sense(copy_results), invalid_opcode);
  EXPECT_EQ(sense(compare_and_write, Data(1024)), invalid_opcode);
  EXPECT_EQ(sense(read_keys), invalid_opcode);
  EXPECT_EQ(sense(reserve), invalid_opcode);
  EXPECT_FALSE(reported(0x89));
  EXPECT_FALSE(reported(0x16));
  EXPECT_EQ(data({0x12, 0, 0, 0, 255, 0})[5] & 0x08, 0);  // 3PC
  const Data pages = data(vpd(0x00));
  EXPECT_EQ(std::find(pages.begin() + 4, pages.end(), 0x8f), pages.end());
  EXPECT_EQ(sense(vpd(0x8f)), invalid_field);
  EXPECT_EQ(data(vpd(0xb0))[5], 0);  // MAXIMUM COMPARE AND WRITE LENGTH
  set({});
  EXPECT_EQ(sense(reserve), 0u);
  EXPECT_EQ(data(vpd(0xb0))[5], 255);
}

TEST_F(Rules, WithoutReservationsNobodyIsKeptOut) {
  ASSERT_EQ(Io(rig.device, rig.b, {0x16, 0, 0, 0, 0, 0}).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(write_one, block).run().status(), ScsiStatus::reservation_conflict);
  set({.reservations = false});
  EXPECT_EQ(rig.io(write_one, block).run().status(), ScsiStatus::good);
  rig.unit.set_rules({});
  (void)rig.io({0, 0, 0, 0, 0, 0}).run();  // what it is told of the change
  EXPECT_EQ(rig.io(write_one, block).run().status(), ScsiStatus::reservation_conflict);
}

TEST_F(Rules, ThinProvisioningIsWhatIsLeftOfIt) {
  const Data list = unmap_list({{0, 8}});
  const Data write_same_unmap{0x93, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0};
  EXPECT_EQ(data(read_capacity_16)[14], 0xc0);
  set({.unmap = true, .unmap_by_write_same = false});
  EXPECT_EQ(data(read_capacity_16)[14], 0xc0);
  EXPECT_EQ(data(vpd(0xb2))[5] & 0xe4, 0x84);  // LBPU, LBPRZ
  EXPECT_EQ(sense(unmap(list), list), 0u);
  EXPECT_EQ(sense(write_same_unmap, block), invalid_field);
  set({.unmap = false, .unmap_by_write_same = true});
  EXPECT_EQ(data(vpd(0xb2))[5] & 0xe4, 0x64);  // LBPWS, LBPWS10, LBPRZ
  EXPECT_EQ(load_be32(&data(vpd(0xb0))[20]), 0u);
  EXPECT_EQ(sense(unmap(list), list), invalid_opcode);
  EXPECT_EQ(sense(write_same_unmap, block), 0u);
  set({.unmap = false, .unmap_by_write_same = false});
  EXPECT_EQ(data(read_capacity_16)[14], 0);
  EXPECT_EQ(data(vpd(0xb2))[5], 0);
  EXPECT_EQ(data(vpd(0xb2))[6], 0);  // not thin
  EXPECT_EQ(sense(write_same_unmap, block), invalid_field);
  set({.unmapped_reads_zeroes = false});
  EXPECT_EQ(data(read_capacity_16)[14], 0x80);
  EXPECT_EQ(data(vpd(0xb2))[5] & 0x04, 0);
}

TEST_F(Rules, LimitsAreToldAndKept) {
  set({.max_unmap_blocks = 64,
       .max_unmap_descriptors = 1,
       .max_write_same_blocks = 16,
       .optimal_transfer_blocks = 128,
       .unmap_granularity_blocks = 32,
       .unmap_alignment_blocks = 5});
  const Data limits = data(vpd(0xb0));
  EXPECT_EQ(load_be32(&limits[12]), 128u);
  EXPECT_EQ(load_be32(&limits[20]), 64u);
  EXPECT_EQ(load_be32(&limits[24]), 1u);
  EXPECT_EQ(load_be32(&limits[28]), 32u);
  EXPECT_EQ(load_be32(&limits[32]), 0x80000005u);
  EXPECT_EQ(load_be64(&limits[36]), 16u);
  const Data two = unmap_list({{0, 8}, {16, 8}});
  EXPECT_EQ(sense(unmap(two), two), 0x052600u);
  const Data long_range = unmap_list({{0, 65}});
  EXPECT_EQ(sense(unmap(long_range), long_range), 0x052600u);
  const Data fits = unmap_list({{0, 64}});
  EXPECT_EQ(sense(unmap(fits), fits), 0u);
  EXPECT_EQ(sense({0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0}, block), invalid_field);
  EXPECT_EQ(sense({0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0}, block), 0u);
  set({.max_unmap_blocks = 0xffff'ffff});  // more than ours is ours
  EXPECT_EQ(load_be32(&data(vpd(0xb0))[20]), advertised::most_unmap_blocks);
}

TEST_F(Rules, RotationIsWhatIsSaid) {
  set({.rotational = true});
  EXPECT_EQ(load_be16(&data(vpd(0xb1))[4]), 0u);
  set({.rotational = false});
  EXPECT_EQ(load_be16(&data(vpd(0xb1))[4]), 1u);
}

TEST_F(Rules, WithoutForceUnitAccessTheBitIsRefused) {
  const Data fua_write{0x2a, 0x08, 0, 0, 0, 0, 0, 0, 1, 0};
  const Data fua_read{0x88, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0};
  EXPECT_EQ(sense(fua_write, block), 0u);
  EXPECT_EQ(modes(0x08)[2], 0x10);
  set({.force_unit_access = false});
  EXPECT_EQ(modes(0x08)[2], 0x00);  // DPOFUA
  EXPECT_EQ(sense(fua_write, block), invalid_field);
  EXPECT_EQ(sense(fua_read), invalid_field);
  EXPECT_EQ(sense(write_one, block), 0u);
  EXPECT_EQ(sense({0x93, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}, block),
            0u);                       // there the bit is UNMAP
  EXPECT_EQ(modes(0x0a).size(), 16u);  // DBD is none either
}

TEST_F(Rules, WithoutAWriteCacheEveryWriteIsDurable) {
  EXPECT_EQ(modes(0x08)[6], 0x04);
  set({.write_cache = false});
  EXPECT_EQ(modes(0x08)[6], 0x00);
  EXPECT_EQ(modes(0x08, 1)[6], 0x00);          // nor can it be set
  EXPECT_EQ(data(vpd(0x86))[6] & 0x01, 0x00);  // V_SUP
  rig.channel.fuas.clear();
  EXPECT_EQ(sense(write_one, block), 0u);
  EXPECT_EQ(rig.channel.fuas, std::vector<bool>{true});
  Data list(24);
  list[4] = 0x08;
  list[5] = 18;
  list[6] = 0x04;
  EXPECT_EQ(sense({0x15, 0x10, 0, 0, 24, 0}, list), 0x052600u);
  set({.write_cache = true});
  EXPECT_EQ(modes(0x08)[6], 0x04);
}

TEST_F(Rules, WhileACacheGoesAwayWritesAreDurableAndItStillIsTold) {
  set({.write_through = true});
  EXPECT_EQ(modes(0x08)[6], 0x04);
  rig.channel.fuas.clear();
  EXPECT_EQ(sense(write_one, block), 0u);
  EXPECT_EQ(rig.channel.fuas, std::vector<bool>{true});
}

TEST(RulesOfADiskWithoutCache, ACacheCanBeToldOf) {
  auto geometry = FakeChannel::disk();
  geometry.write_cache = false;
  Rig rig(geometry);
  rig.unit.set_rules({.write_cache = true});
  rig.settle();
  EXPECT_EQ(rig.io({0x1a, 0x08, 0x08, 0, 255, 0}, {}, 255).run().data_in()[6], 0x04);
  EXPECT_EQ(rig.io({0x2a, 0x08, 0, 0, 0, 0, 0, 0, 1, 0}, block).run().sense(), 0u);
}

TEST_F(Rules, AbortedTasksOfOthersAreToldWhereTasIsTheDefault) {
  set({.task_aborted_status = true});
  EXPECT_EQ(modes(0x0a)[9] & 0x40, 0x40);
  EXPECT_EQ(modes(0x0a, 2)[9] & 0x40, 0x40);  // and so it is after a reset
  rig.unit.reset();
  EXPECT_EQ(modes(0x0a)[9] & 0x40, 0x40);
}

TEST_F(Rules, AnInterlockedAttentionStaysUntilRequestSense) {
  set({.interlock = AttentionInterlock::keep});
  EXPECT_EQ(modes(0x0a)[8] & 0x30, 0x20);  // UA_INTLCK_CTRL 10b
  rig.unit.resized();
  EXPECT_EQ(sense(write_one, block), 0x062a09u);
  EXPECT_EQ(sense(write_one, block), 0x062a09u);
  const Data told = data({0x03, 0, 0, 0, 252, 0});
  EXPECT_EQ(told[2] & 0x0f, 0x06);
  EXPECT_EQ(told[12], 0x2a);
  EXPECT_EQ(sense(write_one, block), 0u);
}

TEST_F(Rules, AConflictLeavesAnAttentionWhereThatIsAskedFor) {
  ASSERT_EQ(Io(rig.device, rig.b, {0x16, 0, 0, 0, 0, 0}).run().status(), ScsiStatus::good);
  rig.unit.set_rules({.interlock = AttentionInterlock::establish});
  (void)data({0x03, 0, 0, 0, 252, 0});  // of the change
  EXPECT_EQ(modes(0x0a).size(), 0u);    // reserved by another
  EXPECT_EQ(sense(write_one, block), 0x062c09u);
  (void)data({0x03, 0, 0, 0, 252, 0});
  EXPECT_EQ(rig.io(write_one, block).run().status(), ScsiStatus::reservation_conflict);
  EXPECT_EQ(sense(write_one, block), 0x062c09u);
}

TEST_F(Rules, WhoIsToldThatThereIsNoRoomIsToldAgain) {
  set({.interlock = AttentionInterlock::establish});
  Io io = rig.io(write_one, block);
  io.admit();
  rig.device.abort(io.task);
  Device::no_room(io.task);
  EXPECT_EQ(sense(write_one, block), 0x062c08u);
}

TEST_F(Rules, InitiatorsLearnOfWhatConcernsThem) {
  rig.unit.set_rules({.task_aborted_status = true});
  EXPECT_EQ(sense({0, 0, 0, 0, 0, 0}), modes_changed);
  EXPECT_EQ(sense({0, 0, 0, 0, 0, 0}), 0u);
  rig.unit.set_rules({.compare_and_write = false, .task_aborted_status = true});
  EXPECT_EQ(sense({0, 0, 0, 0, 0, 0}), inquiry_changed);
  EXPECT_EQ(sense({0, 0, 0, 0, 0, 0}), 0u);
  rig.unit.set_rules({.compare_and_write = false, .task_aborted_status = true});  // as it is
  EXPECT_EQ(sense({0, 0, 0, 0, 0, 0}), 0u);
}

TEST(RulesOfSeveralShards, AreTheSameOnAll) {
  ShardRig rig(3);
  rig.take_attentions();
  bool in_force = false;
  rig.unit(1).set_rules({.compare_and_write = false, .write_cache = false}, [&] { in_force = true; });
  rig.settle();
  EXPECT_TRUE(in_force);
  for (std::uint32_t shard = 0; shard < rig.count(); ++shard) {
    EXPECT_FALSE(rig.unit(shard).rules().compare_and_write);
    EXPECT_FALSE(rig.unit(shard).write_cache_enabled());
    EXPECT_EQ(rig.attention(shard), inquiry_changed);
    EXPECT_EQ(rig.attention(shard), modes_changed);
    EXPECT_EQ(rig.attention(shard), 0u);
  }
}

}  // namespace
}  // namespace perilune::scsi::test
