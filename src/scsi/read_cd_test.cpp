// SPDX-License-Identifier: Apache-2.0
// READ CD and what stands around a block, against ECMA-130 and MMC-6: bytes worked out apart from the code,
// by dividing the bits of the sector by the polynomial of 14.3 and by solving the equations of annex A with a
// table of logarithms.
#include <gtest/gtest.h>

#include <initializer_list>

#include "scsi/cd_sector.hpp"
#include "scsi/test_support.hpp"

namespace perilune::scsi::test {
namespace {

using Data = std::vector<std::uint8_t>;

Data slice_of(const Data& data, std::size_t first, std::size_t count) {
  const auto begin = data.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}
Data sector(std::uint32_t lba, const Data& user) {
  Data out(cd_sector_bytes);
  make_cd_sector(lba, std::span<const std::uint8_t, cd_user_bytes>(user),
                 std::span<std::uint8_t, cd_sector_bytes>(out));
  return out;
}

TEST(CdSector, OfZeroes) {
  const Data s = sector(0, Data(2048));
  EXPECT_EQ(slice_of(s, 0, 16),
            (Data{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x00, 0x02, 0x00, 0x01}));
  EXPECT_EQ(slice_of(s, 2064, 12), (Data{0xc5, 0x13, 0x68, 0x2b, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(slice_of(s, 2076, 8), (Data{0x00, 0xf7, 0x00, 0xf5, 0, 0, 0, 0}));
  EXPECT_EQ(slice_of(s, 2162, 8), (Data{0x00, 0xf5, 0x00, 0xf4, 0, 0, 0, 0}));
  EXPECT_EQ(slice_of(s, 2248, 4), (Data{0x00, 0x41, 0, 0}));
  EXPECT_EQ(slice_of(s, 2300, 4), (Data{0x00, 0x43, 0, 0}));
  EXPECT_EQ(slice_of(s, 2348, 4), (Data{0x00, 0xc1, 0x00, 0x12}));
}

TEST(CdSector, OfOtherData) {
  Data user(2048);
  for (std::size_t i = 0; i < user.size(); ++i) user[i] = static_cast<std::uint8_t>(i * 7 + i / 256);
  const Data s = sector(123456, user);
  EXPECT_EQ(slice_of(s, 12, 4), (Data{0x27, 0x28, 0x06, 0x01}));
  EXPECT_EQ(slice_of(s, 16, 2048), user);
  EXPECT_EQ(slice_of(s, 2064, 4), (Data{0xb8, 0x42, 0x6a, 0x0e}));
  EXPECT_EQ(slice_of(s, 2076, 8), (Data{0xe8, 0xe3, 0xc9, 0x3b, 0xdd, 0xb9, 0x4a, 0x90}));
  EXPECT_EQ(slice_of(s, 2248, 8), (Data{0x50, 0x4d, 0x7c, 0xf6, 0x4f, 0x24, 0xdd, 0xdd}));
  EXPECT_EQ(slice_of(s, 2344, 8), (Data{0x62, 0xea, 0x43, 0x97, 0xe0, 0x0a, 0x90, 0xbd}));
}

// A drive with a disc whose bytes tell their block.
struct Drive {
  explicit Drive(std::uint64_t blocks = 1000)
      : channel(geometry(blocks)),
        device("iqn.2026-11.io.perilune:cd"),
        unit(**device.add_unit(0, config(), channel)),
        nexus(device, Rig::names("a")) {
    if (blocks <= 1000) {
      for (std::size_t i = 0; i < channel.memory.size(); ++i)
        channel.memory[i] = static_cast<std::uint8_t>(i / 2048 + i % 13);
    }
    while (Io(device, nexus, {0, 0, 0, 0, 0, 0}).run().sense() >> 16 == 6) {
    }
  }
  static block::Geometry geometry(std::uint64_t blocks) {
    block::Geometry geometry;
    geometry.block_size_bytes = geometry.physical_block_size_bytes = 2048;
    geometry.blocks = BlockCount(blocks);
    geometry.write_cache = false;
    geometry.read_only = true;
    return geometry;
  }
  static UnitConfig config() {
    return {.identity = UnitIdentity::from_id(1), .read_only = true, .type = DeviceType::cd_dvd};
  }
  Data block(std::size_t lba) { return slice_of(channel.memory, lba * 2048, 2048); }
  Io io(const Data& cdb, std::uint32_t room = 1 << 20) { return Io(device, nexus, cdb, {}, room); }

  FakeChannel channel;
  Device device;
  LogicalUnit& unit;
  Nexus nexus;
};

Data read_cd(std::uint8_t lba, std::uint8_t blocks, std::uint8_t fields, std::uint8_t options = 0) {
  return {0xbe, options, 0, 0, 0, lba, 0, 0, blocks, fields, 0, 0};
}

TEST(ReadCd, GivesWhatIsAskedForOfEachSector) {
  Drive drive;
  const Data second = sector(6, drive.block(6));
  const struct {
    std::uint8_t fields;
    std::size_t first, bytes;
  } cases[] = {
      {0x10, 16, 2048},  // user data
      {0xf8, 0, 2352},   // everything; a subheader, which there is none of, too
      {0xb8, 0, 2352},   // the same
      {0x20, 12, 4},     // the header
      {0x30, 12, 2052},  // and user data
      {0x18, 16, 2336},  // user data, EDC and ECC
      {0xa0, 0, 16},     // synchronisation and header
      {0x50, 16, 2048}, {0x08, 2064, 288},
  };
  for (const auto& c : cases) {
    Io io = drive.io(read_cd(5, 3, c.fields));
    ASSERT_EQ(io.run().status(), ScsiStatus::good) << int{c.fields};
    ASSERT_EQ(io.data_in().size(), 3 * c.bytes) << int{c.fields};
    EXPECT_EQ(slice_of(io.data_in(), c.bytes, c.bytes), slice_of(second, c.first, c.bytes)) << int{c.fields};
  }
}

TEST(ReadCd, FieldsThatDoNotStandSideBySideAreRefused) {
  Drive drive;
  for (const int fields : {0x90, 0x28, 0x88, 0xa8, 0x98}) {
    EXPECT_EQ(drive.io(read_cd(0, 1, static_cast<std::uint8_t>(fields))).run().sense(), 0x052400u) << fields;
  }
  EXPECT_EQ(drive.io(read_cd(0, 1, 0x12)).run().sense(), 0x052400u) << "no C2 pointers";
  Data with_sub_channel = read_cd(0, 1, 0x10);
  with_sub_channel[10] = 1;
  EXPECT_EQ(drive.io(with_sub_channel).run().sense(), 0x052400u);
}

TEST(ReadCd, NothingAskedForIsNothing) {
  Drive drive;
  for (const Data& cdb : {read_cd(0, 0, 0xf8), read_cd(0, 1, 0x00), read_cd(0, 1, 0x40)}) {
    Io io = drive.io(cdb);
    EXPECT_EQ(io.run().status(), ScsiStatus::good);
    EXPECT_TRUE(io.data_in().empty());
  }
  EXPECT_TRUE(drive.channel.kinds.empty());
}

TEST(ReadCd, AnInitiatorWithLessRoomGetsTheBeginning) {
  Drive drive;
  Io io = drive.io(read_cd(0, 2, 0xf8), 3000);
  EXPECT_EQ(io.run().status(), ScsiStatus::good);
  EXPECT_EQ(io.data_in().size(), 3000u);
  EXPECT_EQ(io.task.data_transfer_length, 2u * 2352);
  EXPECT_EQ(slice_of(io.data_in(), 2352, 648), slice_of(sector(1, drive.block(1)), 0, 648));
}

TEST(ReadCd, LongReadsGoInSlices) {
  Drive drive;
  Io io = drive.io(read_cd(0, 250, 0xf8));
  EXPECT_EQ(io.run().status(), ScsiStatus::good);
  EXPECT_EQ(drive.channel.kinds.size(), 2u) << "of 256 KiB at most";
  for (const std::size_t lba : std::initializer_list<std::size_t>{0, 127, 128, 249}) {
    EXPECT_EQ(slice_of(io.data_in(), lba * 2352, 2352),
              sector(static_cast<std::uint32_t>(lba), drive.block(lba)))
        << lba;
  }
}

TEST(ReadCd, RangesTypesAndDiscsThatAreNotThere) {
  Drive drive;
  EXPECT_EQ(drive.io({0xbe, 0, 0, 0, 0x03, 0xe7, 0, 0, 2, 0x10, 0, 0}).run().sense(), 0x052100u);
  EXPECT_EQ(drive.io({0xbe, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf8, 0, 0}).run().sense(),
            0x052100u);
  EXPECT_EQ(drive.io(read_cd(0, 1, 0x10, 0x08)).run().status(), ScsiStatus::good) << "mode 1";
  for (const int type : {1, 3, 4, 5}) {
    EXPECT_EQ(drive.io(read_cd(0, 1, 0x10, static_cast<std::uint8_t>(type << 2))).run().sense(), 0x056400u)
        << type;
  }
  Drive dvd(400'000);
  EXPECT_EQ(dvd.io(read_cd(0, 1, 0x10)).run().sense(), 0x053002u);
  EXPECT_EQ(dvd.io({0xbe, 0, 0, 0, 0, 0, 0x05, 0, 0, 0xf8, 0, 0}).run().sense(), 0x053002u);
}

TEST(ReadCd, AFailureIsAMediumError) {
  Drive drive;
  drive.channel.fail_next = {block::OpStatus::read_error};
  EXPECT_EQ(drive.io(read_cd(3, 1, 0xf8)).run().sense() >> 8, 0x0311u);
}

TEST(ReadCdMsf, FromAnAddressUpToAnother) {
  Drive drive;
  Io io = drive.io({0xb9, 0, 0, 0, 2, 5, 0, 2, 7, 0x10, 0, 0});  // 00:02:05 is block 5
  EXPECT_EQ(io.run().status(), ScsiStatus::good);
  EXPECT_EQ(io.data_in(), slice_of(drive.channel.memory, 5 * 2048, 2 * 2048));
  EXPECT_EQ(drive.io({0xb9, 0, 0, 0, 2, 5, 0, 2, 5, 0x10, 0, 0}).run().status(), ScsiStatus::good);
  for (const Data& cdb :
       {Data{0xb9, 0, 0, 0, 2, 5, 0, 2, 4, 0x10, 0, 0}, Data{0xb9, 0, 0, 0, 1, 0, 0, 2, 4, 0x10, 0, 0},
        Data{0xb9, 0, 0, 0, 60, 0, 1, 2, 4, 0x10, 0, 0}, Data{0xb9, 0, 0, 0, 2, 0, 0, 2, 75, 0x10, 0, 0}}) {
    EXPECT_EQ(drive.io(cdb).run().sense(), 0x052400u);
  }
  EXPECT_EQ(drive.io({0xb9, 0, 0, 0, 2, 0, 99, 2, 0, 0x10, 0, 0}).run().sense(), 0x052100u);
}

// ---- MODE SELECT, READ SUB-CHANNEL, SET CD SPEED

TEST(MultimediaModeSelect, TakesThePagesAsTheyAreAndNothingElse) {
  Drive drive;
  const auto select = [&](Data list, std::uint8_t options = 0x10) {
    const auto length = static_cast<std::uint8_t>(list.size());
    return Io(drive.device, drive.nexus, {0x55, options, 0, 0, 0, 0, 0, 0, length, 0}, std::move(list))
        .run()
        .sense();
  };
  const Data header(8);
  const auto with = [&](Data page) {
    page.insert(page.begin(), 8, std::uint8_t{0});
    return page;
  };
  const Data recovery{0x01, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  EXPECT_EQ(select({}), 0u);
  EXPECT_EQ(select(header), 0u);
  EXPECT_EQ(select(with(recovery)), 0u);
  Data kept = recovery;
  kept[0] |= 0x80;  // PS
  EXPECT_EQ(select(with(kept)), 0u);
  Data capabilities(26);
  capabilities[0] = 0x2a;
  capabilities[1] = 24;
  capabilities[2] = 0x0b;
  capabilities[6] = 0x29;
  EXPECT_EQ(select(with(capabilities)), 0u);
  Data other = recovery;
  other[3] = 1;  // retries
  EXPECT_EQ(select(with(other)), 0x052600u);
  EXPECT_EQ(select(with({0x0d, 6, 0, 0, 0, 0, 0, 0})), 0x052600u) << "no such page";
  EXPECT_EQ(select(with({0x3f, 0})), 0x052600u);
  EXPECT_EQ(select(with({0x01, 0x0a, 0})), 0x051a00u);
  EXPECT_EQ(select({0, 0, 0}), 0x051a00u);
  EXPECT_EQ(select({0, 0, 0, 0, 0, 0, 0, 8}), 0x052600u) << "a block descriptor";
  EXPECT_EQ(select(with(recovery), 0x11), 0x052400u) << "SP";
  EXPECT_EQ(select(with(recovery), 0x00), 0x052400u) << "PF";
}

TEST(ReadSubChannel, TellsOfATrackThatIsNotPlayed) {
  Drive drive;
  const auto ask = [&](Data cdb) { return drive.io(cdb, 255).run().data_in(); };
  EXPECT_EQ(ask({0x42, 0, 0, 0, 0, 0, 0, 0, 255, 0}), (Data{0, 0x15, 0, 0}));
  EXPECT_EQ(ask({0x42, 0, 0x40, 1, 0, 0, 0, 0, 255, 0}),
            (Data{0, 0x15, 0, 12, 1, 0x14, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(ask({0x42, 2, 0x40, 1, 0, 0, 0, 0, 255, 0}),
            (Data{0, 0x15, 0, 12, 1, 0x14, 1, 1, 0, 0, 2, 0, 0, 0, 0, 0}));
  Data catalogue(24);
  catalogue[1] = 0x15;
  catalogue[3] = 20;
  catalogue[4] = 2;
  EXPECT_EQ(ask({0x42, 0, 0x40, 2, 0, 0, 0, 0, 255, 0}), catalogue) << "MCVAL is 0";
  Data isrc = catalogue;
  isrc[4] = 3;
  isrc[5] = 0x14;
  isrc[6] = 1;
  EXPECT_EQ(ask({0x42, 0, 0x40, 3, 0, 0, 1, 0, 255, 0}), isrc) << "TCVAL is 0";
  EXPECT_EQ(drive.io({0x42, 0, 0x40, 3, 0, 0, 2, 0, 255, 0}).run().sense(), 0x052400u);
  EXPECT_EQ(drive.io({0x42, 0, 0x40, 0, 0, 0, 0, 0, 255, 0}).run().sense(), 0x052400u);
  Drive dvd(400'000);
  EXPECT_EQ(dvd.io({0x42, 0, 0x40, 1, 0, 0, 0, 0, 255, 0}).run().sense(), 0x053002u);
}

TEST(SetCdSpeed, IsARequest) {
  Drive drive;
  EXPECT_EQ(drive.io({0xbb, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}).run().status(), ScsiStatus::good);
  EXPECT_EQ(drive.io({0xbb, 0, 0, 176, 0xff, 0xff, 0, 0, 0, 0, 0, 0}).run().status(), ScsiStatus::good);
}

}  // namespace
}  // namespace perilune::scsi::test
