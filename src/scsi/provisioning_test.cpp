// SPDX-License-Identifier: Apache-2.0
// Thin provisioning: what the pages tell of the backing, and thresholds, with bytes written by hand from
// SBC-4 4.7.3.7, 6.4.5, 6.5.9, 6.5.10 and 6.6.7.
#include <gtest/gtest.h>

#include "scsi/shard_test_support.hpp"
#include "scsi/test_support.hpp"
#include "scsi/thresholds.hpp"

namespace perilune::scsi::test {
namespace {

using Data = std::vector<std::uint8_t>;
constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint32_t soft_threshold = 0x063807;

const Data test_unit_ready{0, 0, 0, 0, 0, 0};
const Data write_one{0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0};
const Data read_one{0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0};

Data sense_page(std::uint8_t control) {
  return {0x1a, 0x08, static_cast<std::uint8_t>(control << 6 | 0x1c), 0x02, 255, 0};
}
Data select6(std::size_t length) { return {0x15, 0x10, 0, 0, static_cast<std::uint8_t>(length), 0}; }

struct Wanted {
  bool enabled = false;
  std::uint32_t count = 0;
};
// The parameter list of MODE SELECT(6): a header of four bytes, and the page.
Data thresholds(std::array<Wanted, 4> wanted, bool single = false) {
  Data list(4 + 48);
  const Data head{0x5c, 0x02, 0, 44, static_cast<std::uint8_t>(single ? 1 : 0)};
  std::copy(head.begin(), head.end(), list.begin() + 4);
  for (std::size_t i = 0; i < 4; ++i) {
    std::uint8_t* at = &list[4 + 16 + 8 * i];
    at[0] = static_cast<std::uint8_t>((wanted[i].enabled ? 0x80 : 0) | (i < 2 ? 0x00 : 0x01));
    at[1] = i < 2 ? 0x01 : 0x02;
    store_be32(at + 4, wanted[i].count);
  }
  return list;
}
Data available_at(std::uint32_t count) { return thresholds({Wanted{true, count}, {}, {}, {}}); }
Data used_at(std::uint32_t count) { return thresholds({Wanted{}, {}, {true, count}, {}}); }

struct Metered {
  explicit Metered(block::Geometry geometry = FakeChannel::disk()) : rig(geometry, true, &meter) {
    meter.set(0, 100 * mib);
    rig.settle();
  }
  ScsiStatus set(const Data& list) {
    const ScsiStatus status = rig.io(select6(list.size()), list).run().status();
    rig.settle();  // 2A/01
    return status;
  }
  void measured(std::uint64_t used, std::uint64_t available) {
    meter.set(used, available);
    rig.device.space_measured(0);
  }
  std::uint32_t sense_of(Nexus& nexus) { return Io(rig.device, nexus, test_unit_ready).run().sense(); }
  Data log() { return rig.io({0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 255, 0}, {}, 255).run().data_in(); }
  FakeMeter meter;
  Rig rig;
};

// ---- pages

TEST(Provisioning, VpdPageTellsTheSizeOfAThresholdSet) {
  Metered metered;
  const Data vpd{0x12, 0x01, 0xb2, 0, 255, 0};
  EXPECT_EQ(metered.rig.io(vpd, {}, 255).run().data_in(),
            (Data{0, 0xb2, 0, 4, 11, 0xe6, 0x02, 0}));  // 2^11 of 512 bytes
  Rig unknown;                                          // nobody tells what the backing uses
  EXPECT_EQ(unknown.io(vpd, {}, 255).run().data_in(), (Data{0, 0xb2, 0, 4, 0, 0xe6, 0x02, 0}));
  auto thick = FakeChannel::disk();
  thick.thin = thick.unmap_zeroes = false;
  Rig full(thick);
  EXPECT_EQ(full.io(vpd, {}, 255).run().data_in(), (Data{0, 0xb2, 0, 4, 0, 0, 0, 0}));
}

TEST(Provisioning, ThresholdSetsOfLargeUnitsAreCountedInThirtyTwoBits) {
  block::Geometry geometry = FakeChannel::disk();
  EXPECT_EQ(threshold_exponent(geometry), 11);
  geometry.block_size_bytes = 4096;
  EXPECT_EQ(threshold_exponent(geometry), 8);
  geometry.block_size_bytes = 512;
  geometry.blocks = BlockCount(std::uint64_t{1} << 50);
  EXPECT_EQ(geometry.blocks.value() >> threshold_exponent(geometry), std::uint64_t{1} << 31);
  EXPECT_EQ(available_sets({~std::uint64_t{0}, 0}, 11), 0xffff'ffffu);
}

TEST(LogSense, ProvisioningPageCountsThresholdSets) {
  Metered metered;
  metered.meter.set(3 * mib + 1, 5 * mib - 1);
  EXPECT_EQ(
      metered.log(),
      (Data{
          0x8c, 0, 0,    24,                             //
          0,    1, 0x23, 8,  0, 0, 0, 4, 0x02, 0, 0, 0,  // available: rounded down, and not this unit's alone
          0,    2, 0x23, 8,  0, 0, 0, 4, 0x01, 0, 0, 0}));  // used: rounded up, and dedicated
  const Data second = metered.rig.io({0x4d, 0, 0x4c, 0, 0, 0, 2, 0, 255, 0}, {}, 255).run().data_in();
  ASSERT_EQ(second.size(), 16u);
  EXPECT_EQ(load_be16(&second[4]), 2);
  EXPECT_EQ(metered.rig.io({0x4d, 0, 0x4c, 0, 0, 0, 3, 0, 255, 0}, {}, 255).run().sense(), 0x052400u);
  const Data pages = metered.rig.io({0x4d, 0, 0x40, 0, 0, 0, 0, 0, 255, 0}, {}, 255).run().data_in();
  EXPECT_EQ(pages, (Data{0, 0, 0, 8, 0x00, 0x02, 0x03, 0x05, 0x0c, 0x0d, 0x0e, 0x19}));
  EXPECT_EQ(metered.rig.io({0x4c, 0x02, 0x4c, 0, 0, 0, 0, 0, 0, 0}).run().status(),
            ScsiStatus::good);  // nothing to set back
  Rig unknown;
  EXPECT_EQ(unknown.io({0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 255, 0}, {}, 255).run().sense(), 0x052400u);
}

TEST(ModeSense, ProvisioningPageHasTwoThresholdsOfEachDirection) {
  Metered metered;
  Data expected{51, 0, 0x10, 0, 0x5c, 0x02, 0, 44, 0};
  expected.resize(4 + 16);
  for (const Data& descriptor : {Data{0, 1, 0, 0, 0, 0, 0, 0}, Data{0, 1, 0, 0, 0, 0, 0, 0},
                                 Data{1, 2, 0, 0, 0, 0, 0, 0}, Data{1, 2, 0, 0, 0, 0, 0, 0}}) {
    expected.insert(expected.end(), descriptor.begin(), descriptor.end());
  }
  EXPECT_EQ(metered.rig.io(sense_page(0), {}, 255).run().data_in(), expected);
  EXPECT_EQ(metered.rig.io(sense_page(2), {}, 255).run().data_in(), expected);
  Data changeable = expected;
  changeable[4 + 4] = 0x01;  // SITUA
  for (std::size_t i = 0; i < 4; ++i) {
    const Data mask{0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};  // ENABLED, THRESHOLD COUNT
    std::copy(mask.begin(), mask.end(), changeable.begin() + 4 + 16 + static_cast<std::ptrdiff_t>(8 * i));
  }
  EXPECT_EQ(metered.rig.io(sense_page(1), {}, 255).run().data_in(), changeable);
  Rig unknown;
  EXPECT_EQ(unknown.io(sense_page(0), {}, 255).run().sense(), 0x052400u);
  EXPECT_EQ(unknown.io({0x1a, 0x08, 0x01, 0, 255, 0}, {}, 255).run().sense(), 0x052400u);
}

TEST(ModeSelect, ThresholdsAreSetAndWhatTheyAreOfIsNot) {
  Metered metered;
  const Data list = thresholds({Wanted{true, 10}, {false, 7}, {true, 0xffffffff}, {}}, true);
  EXPECT_EQ(metered.set(list), ScsiStatus::good);
  const Data now = metered.rig.io(sense_page(0), {}, 255).run().data_in();
  EXPECT_EQ(Data(now.begin() + 4, now.end()), Data(list.begin() + 4, list.end()));
  const std::pair<std::size_t, std::uint8_t> wrong[] = {
      {0, 0x01}, {0, 0x08}, {1, 0x02}, {2, 0x01}};  // arming, type, resource, reserved
  for (const auto& [byte, flip] : wrong) {
    Data other = list;
    other[4 + 16 + byte] ^= flip;
    Io io = metered.rig.io(select6(other.size()), other);
    EXPECT_EQ(io.run().sense(), 0x052600u);
    EXPECT_EQ(load_be16(&io.task.sense[16]), 4 + 16 + byte);
  }
  Io shorter = metered.rig.io(select6(4 + 40), Data(list.begin(), list.begin() + 44));
  EXPECT_EQ(shorter.run().sense(), 0x051a00u);
}

TEST(ModeSelect, LbpereTurnsThresholdsOff) {
  Metered metered;
  const Data page{0x1a, 0x08, 0x01, 0, 255, 0};
  EXPECT_EQ(metered.rig.io(page, {}, 255).run().data_in(),
            (Data{15, 0, 0x10, 0, 0x01, 10, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0}));
  EXPECT_EQ(metered.set(available_at(10)), ScsiStatus::good);
  Data off(4 + 12);
  off[4] = 0x01;
  off[5] = 10;
  EXPECT_EQ(metered.set(off), ScsiStatus::good);
  metered.measured(0, 5 * mib);
  EXPECT_EQ(metered.sense_of(metered.rig.a), 0u);
  off[4 + 7] = 0x80;
  EXPECT_EQ(metered.rig.io(select6(off.size()), off).run().status(), ScsiStatus::good);  // and there it is
  EXPECT_EQ(metered.sense_of(metered.rig.a), soft_threshold);
}

TEST(Provisioning, AllModePagesTogetherDoNotOverflowSixBytes) {
  auto geometry = FakeChannel::disk(2048, 520);
  geometry.protection_bytes = 8;
  FakeMeter meter;
  Rig rig(geometry, true, &meter);
  rig.settle();
  const Data six = rig.io({0x1a, 0, 0x3f, 0xff, 255, 0}, {}, 255).run().data_in();
  EXPECT_EQ(six.size(), 255u);
  EXPECT_EQ(six[0], 255);
  const Data ten = rig.io({0x5a, 0, 0x3f, 0xff, 0, 0, 0, 2, 0, 0}, {}, 512).run().data_in();
  EXPECT_EQ(load_be16(ten.data()), ten.size() - 2);
  EXPECT_EQ(ten.size(), 8u + 8 + 12 + 20 + 12 + 32 + 112 + 12 + 48);
}

// ---- thresholds

TEST(Threshold, IsTenPointFiveSetsWhenItFallsAndIsArmedAboveTheRange) {  // of ten, and one set wide
  Metered metered;
  ASSERT_EQ(metered.set(available_at(10)), ScsiStatus::good);
  metered.measured(0, 9 * mib + mib / 2);  // the lowest of the range
  EXPECT_EQ(metered.sense_of(metered.rig.a), 0u);
  metered.measured(0, 9 * mib + mib / 2 - 512);
  EXPECT_EQ(metered.sense_of(metered.rig.a), soft_threshold);
  EXPECT_EQ(metered.sense_of(metered.rig.b), soft_threshold);
  EXPECT_EQ(metered.sense_of(metered.rig.a), 0u);
  metered.measured(0, 10 * mib);  // within the range: not armed
  metered.measured(0, mib);
  EXPECT_EQ(metered.sense_of(metered.rig.a), 0u);
  metered.measured(0, 10 * mib + mib / 2 + 512);  // above it
  metered.measured(0, mib);
  EXPECT_EQ(metered.sense_of(metered.rig.a), soft_threshold);
}

TEST(Threshold, OfWhatIsUsedIsToldWhenThatGrows) {
  Metered metered;
  ASSERT_EQ(metered.set(used_at(4)), ScsiStatus::good);
  metered.measured(4 * mib + mib / 2, 0);
  EXPECT_EQ(metered.sense_of(metered.rig.a), 0u);
  metered.measured(4 * mib + mib / 2 + 1, 0);
  EXPECT_EQ(metered.sense_of(metered.rig.a), soft_threshold);
  metered.measured(3 * mib + mib / 2, 0);
  metered.measured(8 * mib, 0);
  EXPECT_EQ(metered.sense_of(metered.rig.a), 0u) << "it had not left the range";
  metered.measured(3 * mib + mib / 2 - 512, 0);
  metered.measured(8 * mib, 0);
  EXPECT_EQ(metered.sense_of(metered.rig.a), soft_threshold);
}

TEST(Threshold, OfNothingAvailableIsToldAtTheLastBlock) {
  Metered metered;
  ASSERT_EQ(metered.set(available_at(0)), ScsiStatus::good);
  metered.measured(0, 512);
  EXPECT_EQ(metered.sense_of(metered.rig.a), 0u);
  metered.measured(0, 511);
  EXPECT_EQ(metered.sense_of(metered.rig.a), soft_threshold);
}

TEST(Threshold, TheInformationOfTheSenseIsThePlaceOfTheDescriptor) {
  Metered metered;
  ASSERT_EQ(metered.set(thresholds({Wanted{}, {true, 10}, {}, {true, 2}})), ScsiStatus::good);
  metered.measured(3 * mib, 5 * mib);
  Io first = metered.rig.io(write_one, bytes(512, 1));
  EXPECT_EQ(first.run().sense(), soft_threshold);
  EXPECT_EQ(first.task.sense[0], 0xf0);  // VALID
  EXPECT_EQ(load_be32(&first.task.sense[3]), 24u);
  const Data second = metered.rig.io({0x03, 0, 0, 0, 252, 0}, {}, 252).run().data_in();
  EXPECT_EQ((Data{second[0], second[2], second[12], second[13]}), (Data{0xf0, 0x06, 0x38, 0x07}));
  EXPECT_EQ(load_be32(&second[3]), 40u);
  EXPECT_EQ(metered.rig.io(write_one, bytes(512, 1)).run().status(), ScsiStatus::good);
}

TEST(Threshold, ThatIsReachedWhenItIsSetIsToldAtOnce) {
  Metered metered;
  metered.measured(0, mib);
  const Data list = available_at(10);
  EXPECT_EQ(metered.rig.io(select6(list.size()), list).run().status(), ScsiStatus::good);
  EXPECT_EQ(metered.sense_of(metered.rig.a), soft_threshold);
  const Data again = available_at(11);  // another one: told again
  EXPECT_EQ(metered.rig.io(select6(again.size()), again).run().status(), ScsiStatus::good);
  EXPECT_EQ(metered.sense_of(metered.rig.a), soft_threshold);
  EXPECT_EQ(metered.rig.io(select6(again.size()), again).run().status(), ScsiStatus::good);
  EXPECT_EQ(metered.sense_of(metered.rig.a), 0u) << "the same as before";
}

TEST(Threshold, WithSituaOneNexusLearns) {
  Metered metered;
  ASSERT_EQ(metered.set(thresholds({Wanted{true, 10}, {}, {}, {}}, true)), ScsiStatus::good);
  metered.rig.channel.hold = true;
  Io busy(metered.rig.device, metered.rig.b, read_one, {}, 512);
  busy.run();
  metered.measured(0, mib);
  metered.rig.channel.hold = false;
  metered.rig.channel.release_all();
  EXPECT_EQ(metered.sense_of(metered.rig.a), 0u);
  EXPECT_EQ(metered.sense_of(metered.rig.b), soft_threshold) << "the one that is at work";
}

TEST(Threshold, AResetForgetsWhatWasSetAndWhatWasTold) {
  Metered metered;
  ASSERT_EQ(metered.set(available_at(10)), ScsiStatus::good);
  metered.measured(0, mib);
  metered.rig.settle();
  TaskManagement reset;
  reset.function = TmFunction::lun_reset;
  reset.nexus = &metered.rig.a;
  ASSERT_TRUE(metered.rig.device.manage(reset));
  metered.rig.settle();
  const Data now = metered.rig.io(sense_page(0), {}, 255).run().data_in();
  EXPECT_EQ(now[4 + 16], 0);  // not saved: disabled
  metered.measured(0, mib / 2);
  EXPECT_EQ(metered.sense_of(metered.rig.a), 0u);
}

// ---- when it is measured

TEST(Provisioning, TheMeterIsToldOnceOfWritesAndOfWhatGivesBlocksBack) {
  const auto asks = [](const Data& cdb, const Data& out, std::uint32_t in = 0) {
    Metered metered;
    for (int i = 0; i < 3; ++i) EXPECT_EQ(metered.rig.io(cdb, out, in).run().status(), ScsiStatus::good);
    return metered.meter.asked;
  };
  EXPECT_EQ(asks(write_one, bytes(512, 1)), 1);
  EXPECT_EQ(asks({0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0},
                 Data{0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}),
            1);
  EXPECT_EQ(asks({0x41, 0x08, 0, 0, 0, 0, 0, 0, 1, 0}, bytes(512, 0)), 1);  // WRITE SAME with UNMAP
  EXPECT_EQ(asks({0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0}, {}), 1);             // SANITIZE, BLOCK ERASE
  EXPECT_EQ(asks({0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 255, 0}, {}, 255),
            1);  // LOG SENSE: who asks again learns what is now
  EXPECT_EQ(asks(read_one, {}, 512), 0);
  EXPECT_EQ(asks(test_unit_ready, {}), 0);
}

TEST(Provisioning, AFullBackingIsMeasuredAndRecovers) {
  Metered metered;
  metered.rig.channel.fail_next = {block::OpStatus::no_space};
  EXPECT_EQ(metered.rig.io(write_one, bytes(512, 1)).run().sense(), 0x072707u);
  EXPECT_EQ(metered.meter.asked, 1);
  EXPECT_EQ(metered.rig.io(write_one, bytes(512, 1)).run().status(), ScsiStatus::good);
}

// ---- several shards

struct MeteredShards {
  explicit MeteredShards(std::uint32_t shards = 3) : rig(shards, 1, FakeChannel::disk(), &meter) {
    meter.set(0, 100 * mib);
    rig.take_attentions();
  }
  void set(std::uint32_t shard, const Data& list) {
    Io io = rig.io(shard, select6(list.size()), list);
    io.run();
    rig.settle();
    EXPECT_EQ(io.status(), ScsiStatus::good);
    rig.take_attentions();
  }
  void measured(std::uint32_t shard, std::uint64_t used, std::uint64_t available) {
    meter.set(used, available);
    rig.device(shard).space_measured(0);
    rig.deliver_all();
  }
  FakeMeter meter;
  ShardRig rig;
};

TEST(Threshold, EveryNexusOfEveryShardLearnsOnce) {
  MeteredShards shards;
  shards.set(2, available_at(10));
  shards.measured(1, 0, mib);
  shards.measured(2, 0, mib);
  for (std::uint32_t shard = 0; shard < 3; ++shard) {
    EXPECT_EQ(shards.rig.attention(shard), soft_threshold) << shard;
    EXPECT_EQ(shards.rig.attention(shard), 0u) << shard;
  }
}

TEST(Threshold, SetOnOneShardAndReachedAlreadyIsToldOnAll) {
  MeteredShards shards;
  shards.measured(0, 0, mib);
  const Data list = available_at(10);
  Io io = shards.rig.io(1, select6(list.size()), list);
  io.run();
  shards.rig.settle();
  ASSERT_EQ(io.status(), ScsiStatus::good);
  EXPECT_EQ(shards.rig.attention(1), soft_threshold);
  EXPECT_EQ(shards.rig.attention(0), 0x062a01u);  // mode parameters changed, by another
  EXPECT_EQ(shards.rig.attention(0), soft_threshold);
}

TEST(Threshold, WithSituaOneNexusOfAllShardsLearns) {
  MeteredShards shards;
  shards.set(0, thresholds({Wanted{true, 10}, {}, {}, {}}, true));
  shards.rig.end_nexus(0);  // the owner of the unit has nobody to tell
  shards.rig.deliver_all();
  shards.measured(2, 0, mib);
  EXPECT_EQ(shards.rig.attention(1), soft_threshold);
  EXPECT_EQ(shards.rig.attention(2), 0u);
  shards.rig.begin_nexus(0, "shard0");
}

}  // namespace
}  // namespace perilune::scsi::test
