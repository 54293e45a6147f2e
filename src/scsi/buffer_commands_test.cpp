// SPDX-License-Identifier: Apache-2.0
// READ BUFFER, WRITE BUFFER (SPC-4 6.16, 6.49) and SET TIMESTAMP (6.46): bytes by hand.
#include <gtest/gtest.h>

#include <initializer_list>

#include "scsi/shard_test_support.hpp"

namespace perilune::scsi::test {
namespace {

using Data = std::vector<std::uint8_t>;

constexpr std::uint32_t invalid_field = 0x052400, sequence_error = 0x052c00, overwritten = 0x0b3f0f;
constexpr std::uint32_t timestamp_changed = 0x062a10, invalid_list = 0x052600, wrong_length = 0x051a00;

Data read_buffer(std::uint8_t mode, std::uint16_t allocation) {
  return {0x3c,
          mode,
          0,
          0,
          0,
          0,
          0,
          static_cast<std::uint8_t>(allocation >> 8),
          static_cast<std::uint8_t>(allocation),
          0};
}
Data write_buffer(std::uint8_t mode, std::size_t length) {
  return {
      0x3b, mode, 0, 0, 0, 0, 0, static_cast<std::uint8_t>(length >> 8), static_cast<std::uint8_t>(length),
      0};
}
Data numbered(std::size_t bytes) {
  Data out(bytes);
  for (std::size_t i = 0; i < bytes; ++i) out[i] = static_cast<std::uint8_t>(i * 3 + i / 256);
  return out;
}

TEST(EchoBuffer, GivesBackWhatTheNexusWrote) {
  Rig rig;
  EXPECT_EQ(rig.io(read_buffer(0x0b, 4), {}, 4).run().data_in(), (Data{0x01, 0, 0x10, 0x00}))
      << "EBOS, 4096 bytes";
  EXPECT_EQ(rig.io(read_buffer(0x0a, 512), {}, 512).run().sense(), sequence_error) << "nobody has written";
  for (const std::size_t bytes : std::initializer_list<std::size_t>{512, 4096, 1, 0}) {
    EXPECT_EQ(rig.io(write_buffer(0x0a, bytes), numbered(bytes)).run().status(), ScsiStatus::good) << bytes;
    EXPECT_EQ(rig.io(read_buffer(0x0a, 8192), {}, 8192).run().data_in(), numbered(bytes)) << bytes;
  }
  EXPECT_EQ(rig.io(write_buffer(0x0a, 512), numbered(512)).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(read_buffer(0x0a, 100), {}, 100).run().data_in(), numbered(100));
  EXPECT_EQ(rig.io(write_buffer(0x0a, 4097), numbered(4097)).run().sense(), invalid_field);
}

TEST(EchoBuffer, AnothersDataIsNotShown) {
  Rig rig;
  EXPECT_EQ(rig.io(write_buffer(0x0a, 16), numbered(16)).run().status(), ScsiStatus::good);
  EXPECT_EQ(Io(rig.device, rig.b, read_buffer(0x0a, 16), {}, 16).run().sense(), overwritten);
  EXPECT_EQ(Io(rig.device, rig.b, write_buffer(0x0a, 4), {9, 9, 9, 9}).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(read_buffer(0x0a, 16), {}, 16).run().sense(), overwritten);
  TaskManagement reset;
  reset.function = TmFunction::lun_reset;
  reset.nexus = &rig.a;
  EXPECT_TRUE(rig.device.manage(reset));
  rig.settle();
  EXPECT_EQ(Io(rig.device, rig.b, read_buffer(0x0a, 16), {}, 16).run().sense(), sequence_error);
}

TEST(EchoBuffer, OtherModesAreNotThere) {
  Rig rig;
  EXPECT_EQ(rig.io(read_buffer(0x03, 4), {}, 4).run().data_in(), (Data{0, 0, 0, 0}))
      << "a buffer without bytes";
  for (const int mode : {0, 1, 2, 4, 5, 6, 7, 0x0d, 0x0e, 0x0f, 0x1a, 0x1c}) {
    EXPECT_EQ(rig.io(read_buffer(static_cast<std::uint8_t>(mode), 4), {}, 4).run().sense(), invalid_field)
        << mode;
    EXPECT_EQ(rig.io(write_buffer(static_cast<std::uint8_t>(mode), 4), numbered(4)).run().sense(),
              invalid_field)
        << mode;
  }
}

// ---- timestamps

Data set_timestamp(std::uint8_t length = 12) { return {0xa4, 0x0f, 0, 0, 0, 0, 0, 0, 0, length, 0, 0}; }
const Data report{0xa3, 0x0f, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0};
const Data some_time{0, 0, 0, 0, 0x01, 0x9a, 0x7d, 0xc3, 0x2e, 0x00, 0, 0};

TEST(Timestamp, GoesOnFromWhatWasSet) {
  Rig rig;
  EXPECT_EQ(rig.io(set_timestamp(), some_time).run().status(), ScsiStatus::good);
  rig.clock_ms += 0x201;
  const Data later{0, 10, 0x02, 0, 0x01, 0x9a, 0x7d, 0xc3, 0x30, 0x01, 0, 0};
  EXPECT_EQ(rig.io(report, {}, 12).run().data_in(), later);
  EXPECT_EQ(Io(rig.device, rig.b, {0, 0, 0, 0, 0, 0}).run().sense(), timestamp_changed);
  TaskManagement reset;
  reset.function = TmFunction::lun_reset;
  reset.nexus = &rig.a;
  EXPECT_TRUE(rig.device.manage(reset));
  rig.settle();
  EXPECT_EQ(rig.io(report, {}, 12).run().data_in(), later) << "a reset does not change it";
}

TEST(Timestamp, ListsThatLieAreRefused) {
  Rig rig;
  EXPECT_EQ(rig.io(set_timestamp(0)).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(set_timestamp(11), Data(11)).run().sense(), wrong_length);
  EXPECT_EQ(rig.io(set_timestamp(12), Data(8)).run().sense(), wrong_length);
  for (const std::size_t reserved : std::initializer_list<std::size_t>{0, 1, 2, 3, 10, 11}) {
    Data list = some_time;
    list[reserved] = 1;
    EXPECT_EQ(rig.io(set_timestamp(), list).run().sense(), invalid_list) << reserved;
  }
  EXPECT_EQ(rig.io(report, {}, 12).run().data_in()[2], 0) << "none of them has set it";
}

TEST(Timestamp, IsOneOnEveryShard) {
  ShardRig rig(3);
  rig.take_attentions();
  Io set = rig.io(2, set_timestamp(), some_time);
  set.run();
  EXPECT_FALSE(set.ended);
  rig.settle();
  EXPECT_EQ(set.status(), ScsiStatus::good);
  EXPECT_EQ(rig.attention(0), timestamp_changed);
  EXPECT_EQ(rig.attention(1), timestamp_changed);
  EXPECT_EQ(rig.attention(2), 0u);
  for (std::uint32_t shard = 0; shard < 3; ++shard) {
    EXPECT_EQ(rig.io(shard, report, {}, 12).run().data_in(),
              (Data{0, 10, 0x02, 0, 0x01, 0x9a, 0x7d, 0xc3, 0x2e, 0x00, 0, 0}));
  }
}

}  // namespace
}  // namespace perilune::scsi::test
