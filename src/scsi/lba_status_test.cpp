// SPDX-License-Identifier: Apache-2.0
// GET LBA STATUS against bytes from SBC-3 5.4.
#include <gtest/gtest.h>

#include "scsi/test_support.hpp"

namespace perilune::scsi::test {
namespace {

using block::OpKind;
using block::OpStatus;
using Data = std::vector<std::uint8_t>;

Data request(std::uint64_t lba, std::uint32_t allocation) {
  Data cdb{0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  store_be64(&cdb[2], lba);
  store_be32(&cdb[10], allocation);
  return cdb;
}

struct WithHoles : ::testing::Test {
  // Blocks 16..23 and 32..2047 are holes.
  void SetUp() override {
    std::fill(rig.channel.memory.begin(), rig.channel.memory.begin() + 32 * 512, std::uint8_t{1});
    std::fill(rig.channel.memory.begin() + 16 * 512, rig.channel.memory.begin() + 24 * 512, std::uint8_t{0});
  }
  Rig rig;
};

TEST_F(WithHoles, EveryRunOfBlocksIsADescriptor) {
  const Data expected{0, 0, 0, 68, 0, 0, 0, 0,  //
                      0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0,    16,   0, 0, 0, 0,  //
                      0, 0, 0, 0,  0, 0, 0, 16, 0, 0, 0,    8,    1, 0, 0, 0,  //
                      0, 0, 0, 0,  0, 0, 0, 24, 0, 0, 0,    8,    0, 0, 0, 0,  //
                      0, 0, 0, 0,  0, 0, 0, 32, 0, 0, 0x07, 0xe0, 1, 0, 0, 0};
  Io io = rig.io(request(0, 4096), {}, 4096);
  EXPECT_EQ(io.run().status(), ScsiStatus::good);
  EXPECT_EQ(io.data_in(), expected);
  EXPECT_EQ(io.task.data_transfer_length, 72u);
}

TEST_F(WithHoles, BeginsWithTheBlockThatWasAskedFor) {
  const Data expected{0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 4, 1, 0, 0, 0};
  EXPECT_EQ(rig.io(request(20, 24), {}, 24).run().data_in(), expected);
}

TEST_F(WithHoles, AnswersOfTheChannelThatSayTheSameAreOneDescriptor) {
  rig.channel.blocks_per_query = 3;
  const Data expected{0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0};
  EXPECT_EQ(rig.io(request(0, 24), {}, 24).run().data_in(), expected);
}

TEST_F(WithHoles, AsksTheChannelABoundedNumberOfTimes) {
  rig.channel.blocks_per_query = 1;
  const Data answer = rig.io(request(32, 24), {}, 24).run().data_in();
  EXPECT_EQ(rig.channel.kinds.size(), 64u);
  EXPECT_EQ(load_be64(&answer[8]), 32u);
  EXPECT_EQ(load_be32(&answer[16]), 64u);
  EXPECT_EQ(answer[20], 1);
}

TEST_F(WithHoles, ChannelsThatAnswerLaterGiveTheSame) {
  rig.channel.hold = true;
  Io io = rig.io(request(0, 40), {}, 40);
  io.run();
  EXPECT_FALSE(io.ended);
  while (rig.channel.held() != 0) rig.channel.release_one();
  EXPECT_TRUE(io.ended);
  EXPECT_EQ(load_be32(io.data_in().data()), 36u);
}

TEST_F(WithHoles, AllocationLengthsTooShortForADescriptorCutTheAnswer) {
  for (const std::uint32_t allocation : {0u, 1u, 4u, 8u, 9u, 23u}) {
    Io io = rig.io(request(0, allocation), {}, 64);
    EXPECT_EQ(io.run().status(), ScsiStatus::good);
    ASSERT_EQ(io.data_in().size(), allocation);
    if (allocation >= 4) {
      EXPECT_EQ(load_be32(io.data_in().data()), 20u);
    }
  }
}

TEST_F(WithHoles, InThirtyTwoBytesTheScanHasALength) {
  Data cdb(32);
  cdb[0] = 0x7f;
  cdb[7] = 24;
  cdb[9] = 0x12;
  store_be64(&cdb[12], 20);
  store_be32(&cdb[20], 5);
  store_be32(&cdb[28], 4096);
  const Data expected{0, 0, 0, 36, 0, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 4, 1, 0, 0, 0,
                      0, 0, 0, 0,  0, 0, 0, 24, 0, 0, 0, 1, 0, 0, 0, 0};
  EXPECT_EQ(rig.io(cdb, {}, 4096).run().data_in(), expected);
}

TEST(GetLbaStatus, WhatNobodyKnowsIsMapped) {
  Rig rig;
  rig.channel.fail_next = {OpStatus::unsupported};
  const Data expected{0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0x07, 0xf8, 0, 0, 0, 0};
  EXPECT_EQ(rig.io(request(8, 4096), {}, 4096).run().data_in(), expected);
}

TEST(GetLbaStatus, MoreBlocksThanADescriptorCanCountTakeTwo) {
  auto geometry = FakeChannel::disk(1);
  Rig rig(geometry);
  rig.channel.geometry().blocks = BlockCount((std::uint64_t{1} << 32) + 5);
  rig.channel.fail_next = {OpStatus::unsupported, OpStatus::unsupported};
  const Data answer = rig.io(request(0, 4096), {}, 4096).run().data_in();
  ASSERT_EQ(answer.size(), 40u);
  EXPECT_EQ(load_be32(&answer[16]), 0xffffffffu);
  EXPECT_EQ(load_be64(&answer[24]), 0xffffffffu);
  EXPECT_EQ(load_be32(&answer[32]), 6u);
}

TEST(GetLbaStatus, BlocksPastTheEndAreRefused) {
  Rig rig;
  for (const std::uint64_t lba : {std::uint64_t{2048}, std::uint64_t{2049}, ~std::uint64_t{0}}) {
    Io io = rig.io(request(lba, 24), {}, 24);
    EXPECT_EQ(io.run().sense(), 0x052100u);
  }
  EXPECT_EQ(rig.io(request(2047, 24), {}, 24).run().status(), ScsiStatus::good);
}

TEST(GetLbaStatus, ErrorsOfTheChannelAreSense) {
  Rig rig;
  rig.channel.fail_next = {OpStatus::ok, OpStatus::read_error};
  rig.channel.blocks_per_query = 4;
  Io io = rig.io(request(0, 24), {}, 24);
  EXPECT_EQ(io.run().sense(), 0x031100u);
  EXPECT_EQ(load_be32(&io.task.sense[3]), 4u);
  EXPECT_TRUE(io.data_in().empty());
}

}  // namespace
}  // namespace perilune::scsi::test
