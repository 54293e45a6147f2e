// SPDX-License-Identifier: Apache-2.0
// ram: and null:
#include <sys/mman.h>

#include <algorithm>
#include <array>

#include "block/block_test.hpp"

namespace perilune::block {
namespace {

using Ram = BlockTest;
using Null = BlockTest;

TEST_F(Ram, HoldsWhatWasWrittenAndEndsAtOnce) {
  open("ram:1M");
  Buffer out(4096, 7);
  EXPECT_EQ(write(3, out), OpStatus::ok);
  EXPECT_TRUE(ended_at_once);
  Buffer in(4096 + 1024);
  EXPECT_EQ(read(2, in), OpStatus::ok);
  EXPECT_EQ(in.data()[511], 0);
  EXPECT_EQ(in.data()[512], 7);
  EXPECT_EQ(in.data()[512 + 4095], 7);
  EXPECT_EQ(in.data()[512 + 4096], 0);
  EXPECT_EQ(flush(), OpStatus::ok);
}

TEST_F(Ram, LendsTheMemoryItself) {
  open("ram:1M");
  ASSERT_TRUE(channel->geometry().lends_memory);
  std::uint8_t* lent = channel->lend(Lba(100), BlockCount(8), true);
  ASSERT_NE(lent, nullptr);
  std::fill_n(lent, 4096, std::uint8_t{0xab});
  Buffer in(4096);
  EXPECT_EQ(read(100, in), OpStatus::ok);
  EXPECT_TRUE(in.all(0xab));
  EXPECT_EQ(channel->lend(Lba(100), BlockCount(8), false), lent);
  EXPECT_EQ(channel->lend(Lba(2048), BlockCount(1), false), nullptr);
  EXPECT_EQ(channel->lend(Lba(1), BlockCount(UINT64_MAX), false), nullptr);
}

TEST_F(Ram, ReadOnlyLendsForReadingOnly) {
  BackstoreOptions options;
  options.read_only = true;
  open("ram:1M", options);
  EXPECT_EQ(channel->lend(Lba(0), BlockCount(1), true), nullptr);
  EXPECT_NE(channel->lend(Lba(0), BlockCount(1), false), nullptr);
}

TEST_F(Ram, ReadingDoesNotMakeABlockMapped) {
  open("ram:8M");
  Buffer data(4096, 1);
  ASSERT_EQ(write(8 * 512, data), OpStatus::ok);
  Buffer all(8 << 20);
  ASSERT_EQ(read(0, all), OpStatus::ok);
  BlockOp op;
  op.kind = OpKind::query;
  op.blocks = BlockCount(8 * 512);
  ASSERT_EQ(run(op), OpStatus::ok);
  EXPECT_FALSE(op.mapped);
  op.lba = Lba(8 * 512);
  op.blocks = BlockCount(8);
  ASSERT_EQ(run(op), OpStatus::ok);
  EXPECT_TRUE(op.mapped);
  EXPECT_EQ(op.alike.value(), 8u);
}

// Blocks of 520 bytes lie across pages.
TEST_F(Ram, RoomForProtectionInformationIsPartOfEveryBlock) {
  BackstoreOptions options;
  options.protection_bytes = 8;
  open("ram:1M", options);
  EXPECT_EQ(channel->geometry().block_size_bytes, 520U);
  EXPECT_EQ(channel->geometry().protection_bytes, 8U);
  EXPECT_EQ(channel->geometry().blocks.value(), 2048U);  // what was asked for, and the room beside
  EXPECT_EQ(channel->geometry().unmap_granularity_blocks, 8U);
  Buffer data(64 * 520, 0x99);
  ASSERT_EQ(write(100, data), OpStatus::ok);
  EXPECT_EQ(range(OpKind::unmap, 117, 20), OpStatus::ok);
  ASSERT_EQ(read(100, data), OpStatus::ok);
  for (std::size_t i = 0; i < data.size(); ++i)
    ASSERT_EQ(data.data()[i], i >= 17 * 520 && i < 37 * 520 ? 0 : 0x99) << i;
  // A block is unmapped when no page has a part of it; what the answers say covers the range, and says so of
  // what was written.
  for (std::uint64_t at = 0, step = 0; at < 2048; at += step) {
    BlockOp op;
    op.kind = OpKind::query;
    op.lba = Lba(at);
    op.blocks = BlockCount(2048 - at);
    ASSERT_EQ(run(op), OpStatus::ok);
    step = op.alike.value();
    ASSERT_GE(step, 1U);
    ASSERT_LE(step, 2048 - at);
    if (op.mapped) continue;
    EXPECT_TRUE(at + step <= 100 || at >= 164 || (at >= 117 && at + step <= 137)) << at << " " << step;
  }
  BlockOp written;
  written.kind = OpKind::query;
  written.lba = Lba(100);
  written.blocks = BlockCount(17);
  ASSERT_EQ(run(written), OpStatus::ok);
  EXPECT_TRUE(written.mapped);
}

TEST_F(Ram, AThickOneHasItsPagesFromTheBeginningAndKeepsThem) {
  BackstoreOptions options;
  options.thick = true;
  open("ram:1M", options);
  EXPECT_FALSE(channel->geometry().thin);
  EXPECT_FALSE(channel->geometry().unmap_zeroes);
  EXPECT_EQ(store->describe(), "memory, 1.0 MiB, thick");
  const auto resident = [&] {
    std::array<unsigned char, 256> pages{};
    EXPECT_EQ(::mincore(channel->lend(Lba(0), BlockCount(2048), false), 1 << 20, pages.data()), 0);
    return std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; });
  };
  EXPECT_EQ(resident(), 256);
  Buffer data(1 << 20, 0x99);
  ASSERT_EQ(write(0, data), OpStatus::ok);
  EXPECT_EQ(range(OpKind::write_zeroes, 5, 2000, false, true), OpStatus::ok);
  ASSERT_EQ(read(0, data), OpStatus::ok);
  for (std::size_t i = 0; i < data.size(); ++i)
    ASSERT_EQ(data.data()[i], i >= 5 * 512 && i < 2005 * 512 ? 0 : 0x99) << i;
  EXPECT_EQ(resident(), 256);
  BlockOp op;
  op.kind = OpKind::query;
  op.blocks = BlockCount(2048);
  EXPECT_EQ(run(op), OpStatus::ok);
  EXPECT_TRUE(op.mapped);
  EXPECT_EQ(op.alike.value(), 2048u);
}

TEST_F(Ram, UnmapAndZeroesClearExactlyTheirBlocks) {
  open("ram:1M");
  for (const OpKind kind : {OpKind::unmap, OpKind::write_zeroes}) {
    // Inside one page; from within a page over whole pages into another; whole pages; up to the end.
    const std::pair<std::uint64_t, std::uint64_t> ranges[] = {{1, 3}, {5, 30}, {8, 16}, {2041, 7}};
    for (const auto& [first, count] : ranges) {
      Buffer data(1 << 20, 0x99);
      ASSERT_EQ(write(0, data), OpStatus::ok);
      EXPECT_EQ(range(kind, first, count), OpStatus::ok);
      ASSERT_EQ(read(0, data), OpStatus::ok);
      for (std::size_t i = 0; i < data.size(); ++i) {
        ASSERT_EQ(data.data()[i], i >= first * 512 && i < (first + count) * 512 ? 0 : 0x99)
            << first << " " << i;
      }
    }
  }
}

TEST_F(Ram, EveryStartIsANewIdentityAndChannelsShareTheBytes) {
  auto a = open_backstore("ram:1M", {});
  auto b = open_backstore("ram:1M", {});
  ASSERT_TRUE(a && b);
  EXPECT_NE((*a)->identity(), (*b)->identity());
  EXPECT_TRUE((*a)->identity().starts_with("ram:"));
  open("ram:1M");
  Buffer out(512, 5);
  EXPECT_EQ(write(0, out), OpStatus::ok);
  auto second = store->open_channel(*loop);
  ASSERT_TRUE(second);
  channel = std::move(*second);
  Buffer in(512);
  EXPECT_EQ(read(0, in), OpStatus::ok);
  EXPECT_TRUE(in.all(5));
}

TEST_F(Ram, SpaceIsThatOfItsPages) {
  open("ram:64M");
  const auto empty = store->measure_space();
  if (!empty) GTEST_SKIP() << "/proc/self/pagemap or /proc/meminfo cannot be read";
  EXPECT_EQ(empty->used_bytes, 0u);
  EXPECT_GT(empty->available_bytes, 0u);
  Buffer data(3 << 20, 0x11);
  ASSERT_EQ(write(0, data), OpStatus::ok);
  const std::uint64_t written = store->measure_space()->used_bytes;
  EXPECT_GE(written, 3u << 20);  // the system may have given whole huge pages
  EXPECT_LE(written, 4u << 20);
  ASSERT_EQ(range(OpKind::unmap, 0, 131072), OpStatus::ok);
  EXPECT_EQ(store->measure_space()->used_bytes, 0u);
  BackstoreOptions options;
  options.thick = true;
  open("ram:1M", options);
  EXPECT_FALSE(store->measure_space());
}

TEST_F(Ram, QueriesTellWhichPagesThereAre) {
  open("ram:64M");
  BlockOp op;
  op.kind = OpKind::query;
  op.lba = Lba(0);
  op.blocks = BlockCount(131072);
  ASSERT_EQ(run(op), OpStatus::ok);
  EXPECT_TRUE(ended_at_once);
  EXPECT_FALSE(op.mapped);
  EXPECT_EQ(op.alike.value(), 4096U * 8);  // as much as one look at the map tells
  Buffer data(1 << 20, 0x11);
  ASSERT_EQ(write(0, data), OpStatus::ok);
  ASSERT_EQ(range(OpKind::unmap, 16, 24), OpStatus::ok);
  op.blocks = BlockCount(2048);
  ASSERT_EQ(run(op), OpStatus::ok);
  EXPECT_TRUE(op.mapped);
  EXPECT_EQ(op.alike.value(), 16U);
  op.lba = Lba(17);  // within a page
  ASSERT_EQ(run(op), OpStatus::ok);
  EXPECT_FALSE(op.mapped);
  EXPECT_EQ(op.alike.value(), 23U);
  op.lba = Lba(16);
  op.blocks = BlockCount(3);
  ASSERT_EQ(run(op), OpStatus::ok);
  EXPECT_FALSE(op.mapped);
  EXPECT_EQ(op.alike.value(), 3U);
  op.lba = Lba(131072 - 1);
  op.blocks = BlockCount(2);
  EXPECT_EQ(run(op), OpStatus::out_of_range);
}

TEST_F(Ram, QueriesAreNoWrites) {
  BackstoreOptions options;
  options.read_only = true;
  open("ram:1M", options);
  EXPECT_EQ(range(OpKind::query, 0, 1), OpStatus::ok);
}

TEST_F(Null, EverythingIsDeallocatedAtAnyTime) {
  open("null:1G");
  Buffer data(4096, 1);
  ASSERT_EQ(write(0, data), OpStatus::ok);
  BlockOp op;
  op.kind = OpKind::query;
  op.blocks = BlockCount(2097152);
  ASSERT_EQ(run(op), OpStatus::ok);
  EXPECT_FALSE(op.mapped);
  EXPECT_EQ(op.alike.value(), 2097152U);
}

TEST_F(Null, ForgetsWhatIsWritten) {
  open("null:1T");
  EXPECT_EQ(channel->geometry().blocks.value(), std::uint64_t{1} << 31);
  Buffer data(4096, 1);
  EXPECT_EQ(write(0, data), OpStatus::ok);
  EXPECT_EQ(read(0, data), OpStatus::ok);
  EXPECT_TRUE(data.all(0));
  EXPECT_EQ(read(std::uint64_t{1} << 31, data), OpStatus::out_of_range);
}

TEST(BackstoreSpec, SizesAreReadAndRefused) {
  EXPECT_EQ(*parse_size("512"), 512U);
  EXPECT_EQ(*parse_size("4K"), 4096U);
  EXPECT_EQ(*parse_size("3m"), 3U << 20);
  EXPECT_EQ(*parse_size("1G"), 1U << 30);
  EXPECT_EQ(*parse_size("2T"), std::uint64_t{2} << 40);
  for (const char* bad : {"", "K", "1X", "1GB", "-1", "1 G", "99999999999T", "99999999999999999999"}) {
    EXPECT_FALSE(parse_size(bad)) << bad;
  }
  EXPECT_FALSE(open_backstore("ram:0", {}));
  EXPECT_FALSE(open_backstore("ram:1000", {}));
  EXPECT_FALSE(open_backstore("ram:", {}));
  EXPECT_FALSE(open_backstore("ram:16777215T", {}));  // more than there are addresses
  for (const std::uint32_t bad : {512U, 6000U, 131072U}) {
    EXPECT_FALSE(open_backstore("ram:1M", {.block_size_bytes = 4096, .physical_block_bytes = bad})) << bad;
  }
  for (const char* spec : {"ram:1M", "null:1M"}) {
    EXPECT_EQ((*open_backstore(spec, {.block_size_bytes = 4096, .physical_block_bytes = 16384}))
                  ->geometry()
                  .physical_block_size_bytes,
              16384U);
    EXPECT_EQ((*open_backstore(spec, {.physical_block_bytes = 512}))->geometry().physical_block_size_bytes,
              4096U)
        << "what the backing has";
  }
  EXPECT_EQ(format_size(1000), "1000 B");
  EXPECT_EQ(format_size(std::uint64_t{3} << 29), "1.5 GiB");
}

}  // namespace
}  // namespace perilune::block
