// SPDX-License-Identifier: Apache-2.0
// ORWRITE, WRITE ATOMIC, WRITE SCATTERED against a disk in memory.
#include <gtest/gtest.h>

#include "scsi/test_support.hpp"

namespace perilune::scsi::test {
namespace {

using block::OpKind;
using block::OpStatus;
using Data = std::vector<std::uint8_t>;

Data orwrite(std::uint64_t lba, std::uint32_t blocks, std::uint8_t options = 0) {
  Data cdb(16);
  cdb[0] = 0x8b;
  cdb[1] = options;
  store_be64(&cdb[2], lba);
  store_be32(&cdb[10], blocks);
  return cdb;
}
Data atomic(std::uint64_t lba, std::uint16_t blocks, std::uint8_t options = 0) {
  Data cdb(16);
  cdb[0] = 0x9c;
  cdb[1] = options;
  store_be64(&cdb[2], lba);
  store_be16(&cdb[12], blocks);
  return cdb;
}

bool holds(const Rig& rig, std::uint64_t lba, std::uint64_t blocks, std::uint8_t value) {
  const auto first = rig.channel.memory.begin() + static_cast<std::ptrdiff_t>(lba * 512);
  return std::all_of(first, first + static_cast<std::ptrdiff_t>(blocks * 512),
                     [&](std::uint8_t b) { return b == value; });
}

std::uint16_t pointer(const Io& io) { return load_be16(&io.task.sense[16]); }

// ---- ORWRITE

TEST(OrWrite, EveryBitOfEitherIsThereAfterwards) {
  Rig rig;
  for (std::size_t i = 0; i < 8 * 512; ++i) rig.channel.memory[i] = static_cast<std::uint8_t>(i * 7);
  const Data before = rig.channel.memory;
  Data out(3 * 512);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::uint8_t>(i * 13 + i / 512);
  Io io = rig.io(orwrite(2, 3), out);
  io.piece_bytes = 700;  // pieces that are no blocks
  EXPECT_EQ(io.run().status(), ScsiStatus::good);
  for (std::size_t i = 0; i < 8 * 512; ++i) {
    const bool inside = i >= 2 * 512 && i < 5 * 512;
    ASSERT_EQ(rig.channel.memory[i], inside ? (before[i] | out[i - 2 * 512]) : before[i]) << i;
  }
}

TEST(OrWrite, LargerThanItsPrivateMemoryGoesInSlices) {
  Rig rig;
  std::fill(rig.channel.memory.begin(), rig.channel.memory.end(), std::uint8_t{0x11});
  Io io = rig.io(orwrite(1, 1024), bytes(1024 * 512, 0x22));
  EXPECT_EQ(io.run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.kinds,
            (std::vector<OpKind>{OpKind::read, OpKind::write, OpKind::read, OpKind::write}));
  EXPECT_TRUE(holds(rig, 0, 1, 0x11));
  EXPECT_TRUE(holds(rig, 1, 1024, 0x33));
  EXPECT_TRUE(holds(rig, 1025, 1, 0x11));
}

TEST(OrWrite, NobodyWritesBetweenItsReadAndItsWrite) {
  Rig rig;
  rig.channel.hold = true;
  Io merge = rig.io(orwrite(0, 1), bytes(512, 0x0f));
  merge.run();
  Io write(rig.device, rig.b, {0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0}, bytes(512, 0xf0));
  write.run();
  EXPECT_EQ(rig.channel.held(), 1u);  // the read of the ORWRITE alone
  rig.channel.release_one();
  EXPECT_EQ(rig.channel.held(), 1u);  // its write
  EXPECT_FALSE(write.ended);
  rig.channel.release_one();
  EXPECT_TRUE(merge.ended);
  rig.channel.release_one();
  EXPECT_TRUE(write.ended);
  EXPECT_TRUE(holds(rig, 0, 1, 0xf0));
}

TEST(OrWrite, RefusesWhatAWriteRefuses) {
  Rig rig;
  EXPECT_EQ(rig.io(orwrite(2048, 1), bytes(512, 0)).run().sense(), 0x052100u);
  EXPECT_EQ(rig.io(orwrite(~std::uint64_t{0}, 2), bytes(1024, 0)).run().sense(), 0x052100u);
  EXPECT_EQ(rig.io(orwrite(2048, 0)).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(orwrite(0, 1, 0x20), bytes(512, 0)).run().sense(), 0x052400u);  // ORPROTECT
  EXPECT_TRUE(rig.channel.kinds.empty());
  rig.unit.state().swp = true;
  EXPECT_EQ(rig.io(orwrite(0, 1), bytes(512, 0)).run().sense(), 0x072702u);
}

TEST(OrWrite, FuaWritesDurablyAndErrorsEndIt) {
  Rig rig;
  EXPECT_EQ(rig.io(orwrite(0, 1, 0x08), bytes(512, 1)).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.fuas, (std::vector<bool>{false, true}));
  rig.channel.fail_next = {OpStatus::read_error};
  EXPECT_EQ(rig.io(orwrite(0, 1), bytes(512, 1)).run().sense(), 0x031100u);
  rig.channel.fail_next = {OpStatus::ok, OpStatus::write_error};
  EXPECT_EQ(rig.io(orwrite(0, 1), bytes(512, 1)).run().sense(), 0x030c00u);
  rig.channel.geometry().fua = false;
  rig.channel.kinds.clear();
  EXPECT_EQ(rig.io(orwrite(0, 1, 0x08), bytes(512, 1)).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.kinds, (std::vector<OpKind>{OpKind::read, OpKind::write, OpKind::flush}));
}

// ---- WRITE ATOMIC

TEST(WriteAtomic, IsOneOperation) {
  Rig rig;
  std::vector<bool> whole;
  rig.channel.on_submit = [&](const block::BlockOp& op) { whole.push_back(op.atomic); };
  Io io = rig.io(atomic(5, 64), bytes(64 * 512, 0x77));
  io.piece_bytes = 512;
  EXPECT_EQ(io.run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.kinds, std::vector<OpKind>{OpKind::write});
  EXPECT_TRUE(holds(rig, 5, 64, 0x77));
  EXPECT_EQ(rig.io({0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0}, bytes(512, 1)).run().status(), ScsiStatus::good);
  EXPECT_EQ(whole, (std::vector<bool>{true, false}));
  EXPECT_TRUE(holds(rig, 69, 1, 0));
}

TEST(WriteAtomic, MemoryInTooManyPiecesWritesNothing) {
  Rig rig;
  Io io = rig.io(atomic(5, 64), bytes(64 * 512, 0x77));
  io.piece_bytes = 256;
  EXPECT_EQ(io.run().sense(), 0x044400u);
  EXPECT_TRUE(rig.channel.kinds.empty());
}

TEST(WriteAtomic, IsNotSeenInPart) {
  Rig rig;
  rig.channel.hold = true;
  Io read = rig.io({0x28, 0, 0, 0, 0, 4, 0, 0, 8, 0}, {}, 8 * 512);
  read.run();
  Io write(rig.device, rig.b, atomic(0, 8), bytes(8 * 512, 0xff));
  write.run();
  EXPECT_EQ(rig.channel.held(), 1u);  // waits for the read of its blocks
  rig.channel.release_one();
  EXPECT_TRUE(read.ended);
  rig.channel.release_one();
  EXPECT_TRUE(write.ended);
}

TEST(WriteAtomic, HoldsToItsLimits) {
  Rig rig;
  Io over = rig.io(atomic(0, 65), bytes(65 * 512, 0));
  EXPECT_EQ(over.run().sense(), 0x052400u);
  EXPECT_EQ(pointer(over), 12);
  EXPECT_EQ(rig.io(atomic(2047, 2), bytes(1024, 0)).run().sense(), 0x052100u);
  EXPECT_EQ(rig.io(atomic(2048, 0)).run().status(), ScsiStatus::good);
  Io part = rig.io(atomic(0, 2), bytes(512, 0));  // the initiator sends less than it names
  EXPECT_EQ(part.run().sense(), 0x052400u);
  Data boundary = atomic(0, 1);
  boundary[11] = 1;
  Io bounded = rig.io(boundary, bytes(512, 0));
  EXPECT_EQ(bounded.run().sense(), 0x052400u);
  EXPECT_EQ(pointer(bounded), 11);
  EXPECT_TRUE(rig.channel.kinds.empty());
}

TEST(WriteAtomic, DoesNotExistWhereWritesMayTear) {
  auto torn = FakeChannel::disk();
  torn.max_atomic_blocks = 0;
  Rig rig(torn);
  EXPECT_EQ(rig.io(atomic(0, 1), bytes(512, 0)).run().sense(), 0x052000u);
}

// ---- WRITE SCATTERED

struct Scatter {
  std::uint16_t data_offset = 1;
  std::uint32_t buffer_blocks = 0;
  std::vector<std::pair<std::uint64_t, std::uint32_t>> ranges;
  std::uint8_t options = 0;

  [[nodiscard]] Data cdb() const {
    Data out{0x9f, 0x12, options, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    store_be16(&out[4], data_offset);
    store_be16(&out[8], static_cast<std::uint16_t>(ranges.size()));
    store_be32(&out[10], buffer_blocks);
    return out;
  }
  // Block i of the data is filled with i + 1.
  [[nodiscard]] Data buffer() const {
    Data out(std::size_t{buffer_blocks} * 512, 0xee);
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      store_be64(&out[32 + i * 32], ranges[i].first);
      store_be32(&out[32 + i * 32 + 8], ranges[i].second);
    }
    for (std::size_t i = data_offset; i < buffer_blocks; ++i) {
      std::fill_n(&out[i * 512], 512, static_cast<std::uint8_t>(i - data_offset + 1));
    }
    return out;
  }
};

TEST(WriteScattered, EveryRangeGetsItsBlocks) {
  Rig rig;
  const Scatter scatter{
      .data_offset = 1, .buffer_blocks = 7, .ranges = {{100, 2}, {7, 1}, {300, 0}, {50, 3}}};
  Io io = rig.io(scatter.cdb(), scatter.buffer());
  EXPECT_EQ(io.run().status(), ScsiStatus::good);
  EXPECT_EQ(io.task.data_transfer_length, 7u * 512);
  EXPECT_TRUE(holds(rig, 100, 1, 1) && holds(rig, 101, 1, 2) && holds(rig, 102, 1, 0));
  EXPECT_TRUE(holds(rig, 7, 1, 3) && holds(rig, 6, 1, 0) && holds(rig, 8, 1, 0));
  EXPECT_TRUE(holds(rig, 50, 1, 4) && holds(rig, 51, 1, 5) && holds(rig, 52, 1, 6) && holds(rig, 53, 1, 0));
  EXPECT_EQ(rig.channel.kinds.size(), 3u);
}

TEST(WriteScattered, RangesInManyPiecesAreTakenInSlices) {
  Rig rig;
  const Scatter scatter{.data_offset = 2, .buffer_blocks = 2 + 150, .ranges = {{10, 100}, {500, 50}}};
  Io io = rig.io(scatter.cdb(), scatter.buffer());
  io.piece_bytes = 512;
  EXPECT_EQ(io.run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.kinds.size(), 3u);  // 65 + 35, 50
  for (std::uint64_t i = 0; i < 100; ++i)
    EXPECT_TRUE(holds(rig, 10 + i, 1, static_cast<std::uint8_t>(i + 1)));
  for (std::uint64_t i = 0; i < 50; ++i)
    EXPECT_TRUE(holds(rig, 500 + i, 1, static_cast<std::uint8_t>(i + 101)));
}

TEST(WriteScattered, NothingToWriteIsNoError) {
  Rig rig;
  EXPECT_EQ(rig.io(Scatter{.data_offset = 0, .buffer_blocks = 2, .ranges = {{0, 1}}}.cdb()).run().status(),
            ScsiStatus::good);
  EXPECT_EQ(rig.io(Scatter{.data_offset = 1, .buffer_blocks = 0, .ranges = {{0, 1}}}.cdb()).run().status(),
            ScsiStatus::good);
  EXPECT_EQ(rig.io(Scatter{.data_offset = 1, .buffer_blocks = 2, .ranges = {}}.cdb()).run().status(),
            ScsiStatus::good);
  EXPECT_TRUE(rig.channel.kinds.empty());
}

TEST(WriteScattered, AWrongRangeWritesNothingAtAll) {
  Rig rig;
  for (const auto& bad :
       {std::pair<std::uint64_t, std::uint32_t>{2048, 1}, {2047, 2}, {~std::uint64_t{0}, 1}}) {
    const Scatter scatter{.data_offset = 1, .buffer_blocks = 4, .ranges = {{0, 1}, bad}};
    EXPECT_EQ(rig.io(scatter.cdb(), scatter.buffer()).run().sense(), 0x052100u);
  }
  // four blocks, three are there
  const Scatter more{.data_offset = 1, .buffer_blocks = 4, .ranges = {{0, 2}, {10, 2}}};
  Io io = rig.io(more.cdb(), more.buffer());
  EXPECT_EQ(io.run().sense(), 0x052600u);
  EXPECT_EQ(pointer(io), 32 + 32 + 8);
  EXPECT_TRUE(rig.channel.kinds.empty());
}

TEST(WriteScattered, HostileLengthsAreRefusedWithTheirPlace) {
  Rig rig;
  Scatter many{.data_offset = 100, .buffer_blocks = 200, .ranges = {}};
  many.ranges.resize(257);
  Io over = rig.io(many.cdb(), bytes(200 * 512, 0));
  EXPECT_EQ(over.run().sense(), 0x052400u);
  EXPECT_EQ(pointer(over), 8);
  Scatter tight{.data_offset = 1, .buffer_blocks = 2, .ranges = {}};
  tight.ranges.resize(16);  // 32 + 16 * 32 is more than a block
  Io overlapping = rig.io(tight.cdb(), bytes(1024, 0));
  EXPECT_EQ(overlapping.run().sense(), 0x052400u);
  EXPECT_EQ(pointer(overlapping), 4);
  Io huge =
      rig.io(Scatter{.data_offset = 1, .buffer_blocks = 0xffffffff, .ranges = {{0, 1}}}.cdb(), bytes(512, 0));
  EXPECT_EQ(huge.run().sense(), 0x052400u);
  EXPECT_EQ(pointer(huge), 10);
  Io before =
      rig.io(Scatter{.data_offset = 9, .buffer_blocks = 8, .ranges = {{0, 1}}}.cdb(), bytes(8 * 512, 0));
  EXPECT_EQ(before.run().sense(), 0x052400u);
  Io less = rig.io(Scatter{.data_offset = 1, .buffer_blocks = 8, .ranges = {{0, 1}}}.cdb(), bytes(512, 0));
  EXPECT_EQ(less.run().sense(), 0x052400u);
  EXPECT_TRUE(rig.channel.kinds.empty());
}

TEST(WriteScattered, FuaIsInItsOwnByte) {
  Rig rig;
  const Scatter scatter{.data_offset = 1, .buffer_blocks = 3, .ranges = {{1, 1}, {9, 1}}, .options = 0x08};
  EXPECT_EQ(rig.io(scatter.cdb(), scatter.buffer()).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.fuas, (std::vector<bool>{true, true}));
}

}  // namespace
}  // namespace perilune::scsi::test
