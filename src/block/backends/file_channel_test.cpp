// SPDX-License-Identifier: Apache-2.0
// The channel over a scripted file: what no real disk does on demand.
#include "block/backends/file_channel.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <string>
#include <utility>
#include <vector>

namespace perilune::block {
namespace {

// Moves at most `piece` bytes per call; sync answers come from `sync_results` (then 0). Everything ends at
// once.
class ScriptedFile final : public runtime::BlockFile {
 public:
  explicit ScriptedFile(std::vector<std::string>& log) : log_(log), bytes(1 << 16, 0) {
    properties_.size_bytes = bytes.size();
  }
  [[nodiscard]] const runtime::FileProperties& properties() const override { return properties_; }
  [[nodiscard]] bool read(runtime::FileOp&, ByteOffset offset, std::span<const iovec> iov,
                          int& result) override {
    result = move(offset.value(), iov, false);
    log_.push_back("read " + std::to_string(offset.value()));
    return true;
  }
  [[nodiscard]] bool write(runtime::FileOp&, ByteOffset offset, std::span<const iovec> iov, bool durable,
                           int& result) override {
    result = next_write_error != 0 ? -next_write_error : move(offset.value(), iov, true);
    log_.push_back((durable ? "durable write " : "write ") + std::to_string(offset.value()));
    return true;
  }
  [[nodiscard]] bool sync(runtime::FileOp& op, int& result) override {
    log_.push_back("sync");
    if (hold_syncs) {
      held_sync = &op;
      return false;
    }
    result = 0;
    if (!sync_results.empty()) {
      result = sync_results.front();
      sync_results.pop_front();
    }
    return true;
  }
  [[nodiscard]] bool punch(runtime::FileOp&, ByteOffset offset, ByteCount length, int& result) override {
    log_.push_back("punch " + std::to_string(offset.value()) + "+" + std::to_string(length.value()));
    result = 0;
    return true;
  }
  [[nodiscard]] bool zero(runtime::FileOp&, ByteOffset offset, ByteCount length, int& result) override {
    log_.push_back("zero " + std::to_string(offset.value()) + "+" + std::to_string(length.value()));
    result = 0;
    return true;
  }

  [[nodiscard]] bool extent(runtime::FileOp& op, ByteOffset offset, ByteCount length, int& result) override {
    log_.push_back("extent " + std::to_string(offset.value()) + "+" + std::to_string(length.value()));
    op.extent = next_extent;
    result = extent_error;
    return true;
  }

 private:
  int move(std::uint64_t offset, std::span<const iovec> iov, bool to_file) {
    if (!interruptions.empty()) {
      const int error = interruptions.front();
      interruptions.pop_front();
      return error;
    }
    std::size_t moved = 0;
    for (const iovec& part : iov) {
      const std::size_t n = std::min(part.iov_len, piece - moved);
      if (to_file) std::memcpy(bytes.data() + offset + moved, part.iov_base, n);
      else std::memcpy(part.iov_base, bytes.data() + offset + moved, n);
      moved += n;
      if (moved == piece) break;
    }
    return static_cast<int>(moved);
  }
  std::vector<std::string>& log_;

 public:
  std::vector<std::uint8_t> bytes;
  std::size_t piece = 1 << 20;
  int next_write_error = 0;
  std::deque<int> sync_results;
  bool hold_syncs = false;  // then they end by end_sync()
  runtime::FileOp* held_sync = nullptr;
  void end_sync(int result) {
    runtime::FileOp* op = std::exchange(held_sync, nullptr);
    op->done(*op, result);
  }
  std::deque<int> interruptions;
  runtime::FileExtent next_extent;
  int extent_error = 0;
  runtime::FileProperties properties_;
};

class FileChannelTest : public ::testing::Test {
 protected:
  FileChannelTest() { make(); }
  void make(runtime::FileProperties change = {}) {
    auto owned = std::make_unique<ScriptedFile>(log);
    file = owned.get();
    change.size_bytes = file->bytes.size();
    file->properties_ = change;
    channel = make_file_channel(std::move(owned), file_geometry(change, 512), health);
  }
  OpStatus run(OpKind kind, std::uint64_t lba, std::span<const iovec> iov, std::uint64_t blocks,
               bool fua = false, bool may_unmap = false) {
    BlockOp op;
    op.kind = kind;
    op.lba = Lba(lba);
    op.blocks = BlockCount(blocks);
    op.data = iov;
    op.fua = fua;
    op.may_unmap = may_unmap;
    EXPECT_TRUE(channel->submit(op));
    os_errno = op.os_errno;
    return op.status;
  }
  std::vector<std::string> log;
  ScriptedFile* file = nullptr;
  std::shared_ptr<FlushHealth> health = std::make_shared<FlushHealth>();
  std::unique_ptr<Channel> channel;
  int os_errno = 0;
};

TEST_F(FileChannelTest, ShortTransfersAreContinuedAcrossVectors) {
  file->piece = 700;
  std::vector<std::uint8_t> a(512), b(1024), c(512);
  for (std::size_t i = 0; i < 512; ++i) a[i] = c[i] = static_cast<std::uint8_t>(i);
  for (std::size_t i = 0; i < 1024; ++i) b[i] = static_cast<std::uint8_t>(i * 7);
  const iovec out[] = {{a.data(), 512}, {b.data(), 1024}, {c.data(), 512}};
  EXPECT_EQ(run(OpKind::write, 2, out, 4), OpStatus::ok);
  const std::vector<std::string> expected = {"write 1024", "write 1724", "write 2424"};
  EXPECT_EQ(log, expected);
  EXPECT_TRUE(std::equal(a.begin(), a.end(), file->bytes.begin() + 1024));
  EXPECT_TRUE(std::equal(b.begin(), b.end(), file->bytes.begin() + 1536));
  EXPECT_TRUE(std::equal(c.begin(), c.end(), file->bytes.begin() + 2560));
  std::vector<std::uint8_t> in(2048);
  const iovec whole{in.data(), in.size()};
  EXPECT_EQ(run(OpKind::read, 2, {&whole, 1}, 4), OpStatus::ok);
  EXPECT_TRUE(std::equal(in.begin(), in.end(), file->bytes.begin() + 1024));
}

TEST_F(FileChannelTest, DirectTransfersGoOnFromAnAlignedOffset) {
  runtime::FileProperties p;
  p.direct = true;
  p.offset_alignment_bytes = 512;
  make(p);
  file->piece = 700;
  std::vector<std::uint8_t> data(1536, 1);
  const iovec iov{data.data(), data.size()};
  EXPECT_EQ(run(OpKind::write, 0, {&iov, 1}, 3), OpStatus::ok);
  const std::vector<std::string> expected = {"write 0", "write 512", "write 1024"};
  EXPECT_EQ(log, expected);
}

TEST_F(FileChannelTest, DirectTransferThatMovesLessThanAnythingAlignedIsAnError) {
  runtime::FileProperties p;
  p.direct = true;
  p.offset_alignment_bytes = 512;
  make(p);
  file->piece = 100;
  std::vector<std::uint8_t> data(512);
  const iovec iov{data.data(), data.size()};
  EXPECT_EQ(run(OpKind::read, 0, {&iov, 1}, 1), OpStatus::read_error);
}

TEST_F(FileChannelTest, InterruptedTransfersAreTriedAgain) {
  file->interruptions = {-EINTR, -EINTR};
  std::vector<std::uint8_t> data(512);
  const iovec iov{data.data(), data.size()};
  EXPECT_EQ(run(OpKind::read, 0, {&iov, 1}, 1), OpStatus::ok);
}

TEST_F(FileChannelTest, ErrorsKeepTheirMeaning) {
  std::vector<std::uint8_t> data(512);
  const iovec iov{data.data(), data.size()};
  const std::pair<int, OpStatus> cases[] = {{EIO, OpStatus::write_error}, {ENOSPC, OpStatus::no_space},
                                            {EDQUOT, OpStatus::no_space}, {EROFS, OpStatus::write_protected},
                                            {ENXIO, OpStatus::not_ready}, {EINVAL, OpStatus::write_error}};
  for (const auto& [error, status] : cases) {
    file->next_write_error = error;
    EXPECT_EQ(run(OpKind::write, 0, {&iov, 1}, 1), status) << error;
    EXPECT_EQ(os_errno, error);
  }
}

// Of two syncs under way at once only one may hear of a lost write: so there is never more than one.
TEST_F(FileChannelTest, FlushesThatCameDuringASyncShareTheNextAndItsFailure) {
  struct Flush {
    Flush() {
      op.kind = OpKind::flush;
      op.done = Delegate<void(BlockOp&)>::to<&Flush::done>(*this);
    }
    void done(BlockOp&) { ++calls; }
    BlockOp op;
    int calls = 0;
  };
  file->hold_syncs = true;
  Flush first;
  Flush second;
  Flush third;
  EXPECT_FALSE(channel->submit(first.op));
  EXPECT_FALSE(channel->submit(second.op));
  EXPECT_FALSE(channel->submit(third.op));
  EXPECT_EQ(log, (std::vector<std::string>{"sync"}));
  file->end_sync(0);
  EXPECT_EQ(first.calls, 1);
  EXPECT_EQ(first.op.status, OpStatus::ok);
  EXPECT_EQ(second.calls + third.calls, 0);
  EXPECT_EQ(log, (std::vector<std::string>{"sync", "sync"}));
  Flush late;
  EXPECT_FALSE(channel->submit(late.op));
  file->end_sync(-EINTR);
  EXPECT_EQ(second.calls + third.calls + late.calls, 0);
  file->end_sync(-EIO);
  EXPECT_EQ(second.op.status, OpStatus::write_error);
  EXPECT_EQ(third.op.status, OpStatus::write_error);
  EXPECT_EQ(late.op.status, OpStatus::write_error);  // no further sync: it might say that all is well
  EXPECT_EQ(second.calls + third.calls + late.calls, 3);
  EXPECT_EQ(log, (std::vector<std::string>{"sync", "sync", "sync"}));
}

// The kernel reports a failed write-back once, and calls the pages clean: the next fsync would say that all
// is well.
TEST_F(FileChannelTest, AFailedFlushIsNeverForgottenOnAnyChannel) {
  file->sync_results = {-EIO};
  auto other = make_file_channel(std::make_unique<ScriptedFile>(log), channel->geometry(), health);
  EXPECT_EQ(run(OpKind::flush, 0, {}, 0), OpStatus::write_error);
  EXPECT_EQ(os_errno, EIO);
  log.clear();
  EXPECT_EQ(run(OpKind::flush, 0, {}, 0), OpStatus::write_error);
  EXPECT_EQ(os_errno, EIO);
  std::vector<std::uint8_t> data(512);
  const iovec iov{data.data(), data.size()};
  EXPECT_EQ(run(OpKind::write, 0, {&iov, 1}, 1, true), OpStatus::write_error);
  EXPECT_EQ(run(OpKind::write_zeroes, 0, {}, 1, true), OpStatus::write_error);
  EXPECT_TRUE(log.empty());
  EXPECT_EQ(run(OpKind::write, 0, {&iov, 1}, 1), OpStatus::ok);  // nothing is promised about it
  EXPECT_EQ(run(OpKind::read, 0, {&iov, 1}, 1), OpStatus::ok);
  std::swap(channel, other);
  EXPECT_EQ(run(OpKind::flush, 0, {}, 0), OpStatus::write_error);
}

// A disk tells of what its cache has lost to whoever asks first, on whatever descriptor.
TEST_F(FileChannelTest, AFlushDuringWhichAnotherChannelsFlushFailedFailsToo) {
  auto owned = std::make_unique<ScriptedFile>(log);
  ScriptedFile& other_file = *owned;
  auto other = make_file_channel(std::move(owned), channel->geometry(), health);
  other_file.hold_syncs = true;
  BlockOp held;
  held.kind = OpKind::flush;
  struct Done {
    static void call(void* context, BlockOp&) { *static_cast<bool*>(context) = true; }
  };
  bool over = false;
  held.done = Delegate<void(BlockOp&)>::raw(&over, &Done::call);
  ASSERT_FALSE(other->submit(held));
  file->sync_results = {-EIO};
  EXPECT_EQ(run(OpKind::flush, 0, {}, 0), OpStatus::write_error);
  other_file.end_sync(0);
  ASSERT_TRUE(over);
  EXPECT_EQ(held.status, OpStatus::write_error);
  EXPECT_EQ(held.os_errno, EIO);
}

TEST_F(FileChannelTest, AFailedFlushAfterZeroesFailsTheZeroes) {
  file->sync_results = {-EIO};
  EXPECT_EQ(run(OpKind::write_zeroes, 0, {}, 8, true), OpStatus::write_error);
  EXPECT_EQ(run(OpKind::flush, 0, {}, 0), OpStatus::write_error);
}

TEST_F(FileChannelTest, ZeroesPunchOnlyWhenTheyMay) {
  runtime::FileProperties p;
  p.discard_granularity_bytes = 4096;
  make(p);
  EXPECT_EQ(run(OpKind::write_zeroes, 1, {}, 2), OpStatus::ok);
  EXPECT_EQ(run(OpKind::write_zeroes, 1, {}, 2, false, true), OpStatus::ok);
  EXPECT_EQ(run(OpKind::unmap, 1, {}, 2), OpStatus::ok);
  const std::vector<std::string> expected = {"zero 512+1024", "punch 512+1024", "punch 512+1024"};
  EXPECT_EQ(log, expected);
}

TEST_F(FileChannelTest, ABlockThatIsInAHoleOnlyInPartIsMapped) {
  struct Case {
    runtime::FileExtent extent;
    bool mapped;
    std::uint64_t alike;
  };
  runtime::FileProperties p;
  p.discard_granularity_bytes = 512;
  make(p);
  for (const auto& [extent, mapped, alike] : {Case{{true, 1024}, true, 2}, Case{{true, 1025}, true, 3}, Case{{true, 100}, true, 1},
                                              Case{{false, 1024}, false, 2}, Case{{false, 1535}, false, 2},
                                              Case{{false, 511}, true, 1}, Case{{true, 1 << 20}, true, 4}}) {
    file->next_extent = extent;
    BlockOp op;
    op.kind = OpKind::query;
    op.lba = Lba(3);
    op.blocks = BlockCount(4);
    ASSERT_TRUE(channel->submit(op));
    EXPECT_EQ(op.status, OpStatus::ok);
    EXPECT_EQ(op.mapped, mapped) << extent.length_bytes;
    EXPECT_EQ(op.alike.value(), alike) << extent.length_bytes;
  }
  EXPECT_EQ(log.front(), "extent 1536+2048");
  file->extent_error = -EIO;
  EXPECT_EQ(run(OpKind::query, 0, {}, 1), OpStatus::read_error);
}

TEST_F(FileChannelTest, WithoutHolesUnmapIsUnsupportedAndAllIsMapped) {
  EXPECT_FALSE(channel->geometry().thin);
  EXPECT_EQ(run(OpKind::unmap, 0, {}, 1), OpStatus::unsupported);
  BlockOp op;
  op.kind = OpKind::query;
  op.blocks = BlockCount(4);
  ASSERT_TRUE(channel->submit(op));
  EXPECT_TRUE(op.mapped);
  EXPECT_EQ(op.alike.value(), 4u);
  EXPECT_TRUE(log.empty());
}

TEST_F(FileChannelTest, GeometryOfDevicesAndFiles) {
  runtime::FileProperties p;
  p.size_bytes = 1 << 20;
  EXPECT_TRUE(file_geometry(p, 512).write_cache);
  p.is_block_device = true;
  p.device_writes_through = true;
  EXPECT_TRUE(file_geometry(p, 512).write_cache);  // through the page cache
  p.direct = true;
  EXPECT_FALSE(file_geometry(p, 512).write_cache);
  p.physical_block_bytes = 512;
  EXPECT_EQ(file_geometry(p, 4096).physical_block_size_bytes, 4096U);
  p.physical_block_bytes = 1 << 20;  // a network file system's st_blksize
  EXPECT_EQ(file_geometry(p, 512).physical_block_size_bytes, 65536U);
}

}  // namespace
}  // namespace perilune::block
