// SPDX-License-Identifier: Apache-2.0
// MODE SENSE, MODE SELECT and START STOP UNIT against bytes written by hand from SPC-4 7.5 and SBC-3 6.4.
#include <gtest/gtest.h>

#include "scsi/test_support.hpp"

namespace perilune::scsi::test {
namespace {

using block::OpKind;
using block::OpStatus;
using Data = std::vector<std::uint8_t>;

const Data test_unit_ready{0, 0, 0, 0, 0, 0};
const Data write_one{0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0};

Data sense6(std::uint8_t control, std::uint8_t page, std::uint8_t subpage = 0, std::uint8_t options = 0x08) {
  return {0x1a, options, static_cast<std::uint8_t>(control << 6 | page), subpage, 255, 0};
}
Data select6(std::size_t length, std::uint8_t options = 0x10) {
  return {0x15, options, 0, 0, static_cast<std::uint8_t>(length), 0};
}
Data caching(bool wce) {
  Data list(4 + 20);
  list[4] = 0x08;
  list[5] = 18;
  list[6] = wce ? 0x04 : 0x00;
  return list;
}
Data control(std::uint8_t byte2, std::uint8_t byte4) {
  return {0, 0, 0, 0, 0x0a, 10, byte2, 0x10, byte4, 0, 0, 0, 0xff, 0xff, 0, 0};
}

TEST(ModeSense, CachingPage) {
  Rig rig;
  Data expected{23, 0, 0x10, 0, 0x08, 18, 0x04};
  expected.resize(24);
  EXPECT_EQ(rig.io(sense6(0, 0x08), {}, 255).run().data_in(), expected);
  EXPECT_EQ(rig.io(sense6(1, 0x08), {}, 255).run().data_in(), expected);  // changeable: WCE
  EXPECT_EQ(rig.io(sense6(2, 0x08), {}, 255).run().data_in(), expected);
  EXPECT_EQ(rig.io(sense6(3, 0x08), {}, 255).run().sense(), 0x053900u);   // nothing is saved
}

TEST(ModeSense, WithoutACacheWceIsZeroAndFixed) {
  auto geometry = FakeChannel::disk();
  geometry.write_cache = false;
  Rig rig(geometry);
  EXPECT_EQ(rig.io(sense6(0, 0x08), {}, 255).run().data_in()[6], 0);
  EXPECT_EQ(rig.io(sense6(1, 0x08), {}, 255).run().data_in()[6], 0);
  Io io = rig.io(select6(24), caching(true));
  EXPECT_EQ(io.run().sense(), 0x052600u);
  EXPECT_EQ(load_be16(&io.task.sense[16]), 6);
}

TEST(ModeSense, BlockDescriptorsShortAndLong) {
  Rig rig;
  const Data six = rig.io(sense6(0, 0x1c, 0, 0), {}, 255).run().data_in();
  EXPECT_EQ(six, (Data{23, 0, 0x10, 8, 0, 0, 8, 0, 0, 0, 2, 0, 0x1c, 10, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  const Data ten = rig.io({0x5a, 0x10, 0x1c, 0, 0, 0, 0, 0, 255, 0}, {}, 255).run().data_in();
  EXPECT_EQ(ten, (Data{0, 34, 0, 0x10, 1, 0, 0, 16, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2, 0,
                       0x1c, 10, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
}

TEST(ModeSense, AllPagesAndSubpages) {
  Rig rig;
  const Data pages = rig.io(sense6(0, 0x3f), {}, 255).run().data_in();
  EXPECT_EQ(pages.size(), 4u + 20 + 12 + 12);
  EXPECT_EQ(pages[0], pages.size() - 1);
  const Data all = rig.io(sense6(0, 0x3f, 0xff), {}, 255).run().data_in();
  EXPECT_EQ(all.size(), 4u + 20 + 12 + 32 + 12);
  EXPECT_EQ(all[4 + 20 + 12], 0x4a);
  EXPECT_EQ(all[4 + 20 + 12 + 1], 0x01);
  EXPECT_EQ(load_be16(&all[4 + 20 + 12 + 2]), 28);
  EXPECT_EQ(rig.io(sense6(0, 0x0a, 0xff), {}, 255).run().data_in().size(), 4u + 12 + 32);
  EXPECT_EQ(rig.io(sense6(0, 0x3f, 0x01), {}, 255).run().sense(), 0x052400u);
  EXPECT_EQ(rig.io(sense6(0, 0x0a, 0x02), {}, 255).run().sense(), 0x052400u);
  Io unknown = rig.io(sense6(0, 0x19), {}, 255);
  EXPECT_EQ(unknown.run().sense(), 0x052400u);
  EXPECT_EQ(load_be16(&unknown.task.sense[16]), 2);
  for (const std::uint8_t allocation : Data{0, 1, 3, 4, 5}) {
    Io io = rig.io({0x1a, 0, 0x3f, 0, allocation, 0}, {}, 255);
    EXPECT_EQ(io.run().data_in().size(), allocation);
    EXPECT_EQ(io.task.data_transfer_length, allocation);
  }
}

TEST(ModeSelect, WceOffFlushesFirstAndThenWritesThrough) {
  Rig rig;
  rig.channel.hold = true;
  Io before = rig.io(write_one, bytes(512, 1));
  before.run();
  Io select = rig.io(select6(24), caching(false));
  select.run();
  EXPECT_EQ(rig.channel.held(), 1u);  // waits for the write in progress
  rig.channel.release_one();
  EXPECT_TRUE(before.ended);
  EXPECT_EQ(rig.channel.kinds.back(), OpKind::flush);
  EXPECT_TRUE(rig.unit.write_cache_enabled());
  rig.channel.release_one();
  EXPECT_EQ(select.status(), ScsiStatus::good);
  EXPECT_FALSE(rig.unit.write_cache_enabled());
  rig.channel.hold = false;
  rig.io(write_one, bytes(512, 1)).run();
  EXPECT_EQ(rig.channel.fuas, (std::vector<bool>{false, false, true}));
  EXPECT_EQ(Io(rig.device, rig.b, test_unit_ready).run().sense(), 0x062a01u);
  EXPECT_EQ(rig.io(test_unit_ready).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(sense6(2, 0x08), {}, 255).run().data_in()[6], 0x04);  // the default stays
}

TEST(ModeSelect, AFlushThatFailsLeavesWceOn) {
  Rig rig;
  rig.channel.fail_next = {OpStatus::write_error};
  EXPECT_EQ(rig.io(select6(24), caching(false)).run().sense(), 0x030c00u);
  EXPECT_TRUE(rig.unit.write_cache_enabled());
  EXPECT_EQ(Io(rig.device, rig.b, test_unit_ready).run().status(), ScsiStatus::good);
}

TEST(ModeSelect, SoftwareWriteProtectAndDescriptorSense) {
  Rig rig;
  EXPECT_EQ(rig.io(select6(16), control(0x04, 0x08)).run().status(), ScsiStatus::good);
  Io write = rig.io(write_one, bytes(512, 1));
  EXPECT_EQ(write.run().sense(), 0x072702u);
  EXPECT_EQ(write.task.sense[0], 0x72);
  EXPECT_EQ(rig.io(sense6(0, 0x0a), {}, 255).run().data_in()[2], 0x90);  // WP, DPOFUA
  EXPECT_EQ(rig.io(select6(16), control(0, 0)).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(write_one, bytes(512, 1)).run().status(), ScsiStatus::good);
}

TEST(ModeSelect, TenBytesWithLongBlockDescriptor) {
  Rig rig;
  Data list{0, 0, 0, 0, 1, 0, 0, 16, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2, 0};
  const Data page = caching(false);
  list.insert(list.end(), page.begin() + 4, page.end());
  Data cdb{0x55, 0x10, 0, 0, 0, 0, 0, 0, static_cast<std::uint8_t>(list.size()), 0};
  EXPECT_EQ(rig.io(cdb, list).run().status(), ScsiStatus::good);
  EXPECT_FALSE(rig.unit.write_cache_enabled());
  list[23] = 1;  // another block length
  EXPECT_EQ(rig.io(cdb, list).run().sense(), 0x052600u);
}

TEST(ModeSelect, BadListsChangeNothing) {
  struct Case {
    Data list;
    std::uint32_t sense;
    int byte;
  };
  Data two = caching(false);  // a good page, then a bad one
  const Data bad{0x0a, 10, 0x01, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0};
  two.insert(two.end(), bad.begin(), bad.end());
  for (const auto& [list, sense, byte] : std::initializer_list<Case>{
           {{0, 0, 0}, 0x051a00, -1},
           {{0, 1, 0, 0}, 0x052600, 1},
           {{0, 0, 0, 7}, 0x052600, 3},
           {{0, 0, 0, 8, 0, 0, 0, 0}, 0x051a00, -1},
           {{0, 0, 0, 0, 0x08}, 0x051a00, -1},
           {{0, 0, 0, 0, 0x08, 18, 0}, 0x051a00, -1},
           {{0, 0, 0, 0, 0x08, 0xff, 0}, 0x052600, 5},
           {{0, 0, 0, 0, 0x19, 6, 0, 0, 0, 0, 0, 0}, 0x052600, 4},
           {{0, 0, 0, 0, 0x48, 0, 0, 0}, 0x052600, 4},
           {{0, 0, 0, 0, 0x4a, 1, 0xff, 0xff}, 0x052600, 7},
           {{0, 0, 0, 0, 0x7f}, 0x051a00, -1},
           {two, 0x052600, 26},
       }) {
    Rig rig;
    Io io = rig.io(select6(list.size()), list);
    EXPECT_EQ(io.run().sense(), sense);
    if (byte >= 0) {
      EXPECT_EQ(io.task.sense[15] & 0xc0, 0x80);
      EXPECT_EQ(load_be16(&io.task.sense[16]), byte);
    }
    EXPECT_TRUE(rig.unit.write_cache_enabled());
    EXPECT_EQ(Io(rig.device, rig.b, test_unit_ready).run().status(), ScsiStatus::good);
  }
  Rig rig;
  EXPECT_EQ(rig.io(select6(24, 0x11), caching(false)).run().sense(), 0x052400u);  // SP
  EXPECT_EQ(rig.io(select6(24, 0x00), caching(false)).run().sense(), 0x052400u);  // PF
  EXPECT_EQ(rig.io(select6(24), Data(10)).run().sense(), 0x051a00u);              // less than the CDB says
  EXPECT_EQ(rig.io(select6(0)).run().status(), ScsiStatus::good);
}

TEST(StartStop, StopsAfterAFlushAndStartsAgain) {
  Rig rig;
  EXPECT_EQ(rig.io({0x1b, 0, 0, 0, 0, 0}).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.kinds, (std::vector{OpKind::flush}));
  EXPECT_EQ(rig.io(test_unit_ready).run().sense(), 0x020402u);
  EXPECT_EQ(rig.io(write_one, bytes(512, 1)).run().sense(), 0x020402u);
  EXPECT_EQ(rig.io({0x12, 0, 0, 0, 96, 0}, {}, 96).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io({0x03, 0, 0, 0, 18, 0}, {}, 18).run().data_in()[2], 0x02);
  EXPECT_EQ(rig.io({0x1b, 0, 0, 0, 1, 0}).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(test_unit_ready).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io({0x1b, 0, 0, 0, 0x30, 0}).run().sense(), 0x052400u);  // power conditions
}

}  // namespace
}  // namespace perilune::scsi::test
