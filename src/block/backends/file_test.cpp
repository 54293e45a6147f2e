// SPDX-License-Identifier: Apache-2.0
#include "block/backends/file.hpp"

#include <sys/wait.h>

#include <algorithm>

#include "block/block_test.hpp"

namespace perilune::block {
namespace {

using File = BlockTest;
constexpr std::uint64_t mib = 1 << 20;

std::string slurp(const std::string& path, std::uint64_t offset, std::size_t bytes) {
  std::string out(bytes, '\0');
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(::pread(fd, out.data(), bytes, static_cast<off_t>(offset)), static_cast<ssize_t>(bytes));
  ::close(fd);
  return out;
}

std::uint64_t allocated(const std::string& path) {
  struct stat info{};
  ::stat(path.c_str(), &info);
  return static_cast<std::uint64_t>(info.st_blocks) * 512;
}

TEST_F(File, WritesWhereAskedAndReadsItBack) {
  const std::string path = folder.file("disk", mib);
  open(path);
  Buffer out(8192, 0x5a);
  EXPECT_EQ(write(16, out), OpStatus::ok);
  EXPECT_EQ(slurp(path, 16 * 512, 8192), std::string(8192, '\x5a'));
  EXPECT_EQ(slurp(path, 0, 16 * 512), std::string(16 * 512, '\0'));
  Buffer in(8192);
  EXPECT_EQ(read(16, in), OpStatus::ok);
  EXPECT_TRUE(in.all(0x5a));
}

TEST_F(File, BlocksOfAFileInMemoryAreMovedAtOnceAndAnywhere) {
  const TemporaryFolder memory("/dev/shm");
  const std::string path = memory.file("disk", mib);
  open(path);
  ASSERT_TRUE(channel->geometry().reads_at_once && channel->geometry().writes_at_once);
  Buffer out(8192, 0x5a);
  ASSERT_EQ(write(16, out), OpStatus::ok);
  std::vector<std::uint8_t> some(1 + 3 * 512);
  ASSERT_TRUE(channel->read_at_once(Lba(15), BlockCount(3), some.data() + 1));
  EXPECT_TRUE(std::all_of(some.begin(), some.begin() + 513, [](std::uint8_t b) { return b == 0; }));
  EXPECT_TRUE(std::all_of(some.begin() + 513, some.end(), [](std::uint8_t b) { return b == 0x5a; }));
  std::fill(some.begin(), some.end(), std::uint8_t{7});
  ASSERT_TRUE(channel->write_at_once(Lba(17), BlockCount(2), some.data() + 1));
  Buffer in(4096);
  ASSERT_EQ(read(16, in), OpStatus::ok);
  EXPECT_EQ(slurp(path, 16 * 512, 4 * 512),
            std::string(512, '\x5a') + std::string(1024, '\x07') + std::string(512, '\x5a'));
  // A file that was cut short meanwhile: the operation tells.
  ASSERT_EQ(::truncate(path.c_str(), 16 * 512), 0);
  EXPECT_FALSE(channel->read_at_once(Lba(19), BlockCount(2), some.data()));
  EXPECT_EQ(read(20, in), OpStatus::read_error);
}

TEST_F(File, GeometryTellsTheTruth) {
  open(folder.file("disk", mib + 100));
  const Geometry& g = channel->geometry();
  EXPECT_EQ(g.block_size_bytes, 512U);
  EXPECT_EQ(g.blocks.value(), mib / 512);
  EXPECT_TRUE(g.write_cache);
  EXPECT_TRUE(g.fua);
  EXPECT_FALSE(g.read_only);
  EXPECT_FALSE(g.lends_memory);
  EXPECT_NE(store->describe().find("the last 100 bytes are not served"), std::string::npos)
      << store->describe();
  EXPECT_NE(store->describe().find("1.0 MiB"), std::string::npos) << store->describe();
  EXPECT_NE(store->describe().find("sparse"), std::string::npos) << store->describe();
  EXPECT_EQ(store->identity(), std::filesystem::canonical(folder / "disk").string());
}

TEST_F(File, SpaceIsThatOfItsBlocksAndOfItsFileSystem) {
  const std::string path = folder.file("disk", 8 * mib);
  open(path);
  if (!channel->geometry().thin) GTEST_SKIP() << "no holes on this file system";
  const auto empty = store->measure_space();
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->used_bytes, allocated(path));
  EXPECT_GT(empty->available_bytes, 0u);
  Buffer out(2 * mib, 0x5a);
  ASSERT_EQ(write(0, out), OpStatus::ok);
  const auto written = store->measure_space();
  ASSERT_TRUE(written);
  EXPECT_GE(written->used_bytes, empty->used_bytes + 2 * mib);
  EXPECT_EQ(written->used_bytes, allocated(path));
  ASSERT_EQ(range(OpKind::unmap, 0, 4096), OpStatus::ok);
  EXPECT_LT(store->measure_space()->used_bytes, written->used_bytes);
  BackstoreOptions options;
  options.thick = true;
  open(folder.file("thick", mib), options);
  EXPECT_FALSE(store->measure_space());
}

TEST_F(File, RoomForProtectionInformationIsPartOfEveryBlock) {
  BackstoreOptions options;
  options.protection_bytes = 8;
  const std::string path = folder.file("disk", mib);
  open(path, options);
  const Geometry& g = channel->geometry();
  EXPECT_EQ(g.block_size_bytes, 520U);
  EXPECT_EQ(g.protection_bytes, 8U);
  EXPECT_EQ(g.blocks.value(), mib / 520);
  EXPECT_NE(store->describe().find("page cache"), std::string::npos) << store->describe();
  EXPECT_NE(store->describe().find("with protection information"), std::string::npos);
  Buffer out(3 * 520, 0x5a);
  EXPECT_EQ(write(7, out, true), OpStatus::ok);
  EXPECT_EQ(trace, (std::vector<std::pair<std::string, bool>>{{"WRITE", true}}));  // blocks and what protects
                                                                                   // them: one write
  EXPECT_EQ(slurp(path, 7 * 520, 3 * 520), std::string(3 * 520, '\x5a'));
  if (!g.thin) GTEST_SKIP() << "no holes on this file system";
  EXPECT_EQ(range(OpKind::unmap, 8, 1), OpStatus::ok);
  EXPECT_EQ(slurp(path, 7 * 520, 3 * 520),
            std::string(520, '\x5a') + std::string(520, '\0') + std::string(520, '\x5a'));
  options.block_size_bytes = 4096;
  channel.reset();
  store.reset();
  open(path, options);
  EXPECT_EQ(channel->geometry().blocks.value(), mib / 4104);
}

TEST_F(File, FuaIsADurableWriteAndAPlainWriteIsNot) {
  open(folder.file("disk", mib));
  Buffer data(4096, 1);
  EXPECT_EQ(write(0, data), OpStatus::ok);
  EXPECT_EQ(write(8, data, true), OpStatus::ok);
  EXPECT_EQ(flush(), OpStatus::ok);
  const std::vector<std::pair<std::string, bool>> expected = {
      {"WRITE", false}, {"WRITE", true}, {"FSYNC", true}};
  EXPECT_EQ(trace, expected);
}

TEST_F(File, DurableUnmapAndZeroesAreFollowedByAFlush) {
  open(folder.file("disk", mib));
  if (!channel->geometry().thin) GTEST_SKIP() << "no holes on this file system";
  EXPECT_EQ(range(OpKind::unmap, 0, 8, true), OpStatus::ok);
  EXPECT_EQ(range(OpKind::unmap, 0, 8, false), OpStatus::ok);
  EXPECT_EQ(range(OpKind::write_zeroes, 0, 8, true), OpStatus::ok);
  ASSERT_EQ(trace.size(), 5U);
  EXPECT_EQ(trace[0].first, "FALLOCATE");
  EXPECT_EQ(trace[1].first, "FSYNC");
  EXPECT_EQ(trace[2].first, "FALLOCATE");
  EXPECT_EQ(trace[3].first, "FALLOCATE");
  EXPECT_EQ(trace[4].first, "FSYNC");
}

TEST_F(File, UnmapPunchesAHoleThatReadsAsZeroes) {
  const std::string path = folder.file("disk", 4 * mib);
  open(path);
  if (!channel->geometry().thin) GTEST_SKIP() << "no holes on this file system";
  Buffer data(2 * mib, 0xff);
  ASSERT_EQ(write(0, data, true), OpStatus::ok);
  ASSERT_GE(allocated(path), 2 * mib);
  EXPECT_EQ(range(OpKind::unmap, 2048, 1024), OpStatus::ok);  // 512 KiB at 1 MiB
  EXPECT_LE(allocated(path), 2 * mib - 512 * 1024 + 65536);
  Buffer in(2 * mib);
  ASSERT_EQ(read(0, in), OpStatus::ok);
  for (std::size_t i = 0; i < in.size(); ++i) {
    const bool hole = i >= mib && i < mib + 512 * 1024;
    ASSERT_EQ(in.data()[i], hole ? 0 : 0xff) << i;
  }
}

TEST_F(File, AThickOneIsAllocatedFromTheBeginningAndStaysSo) {
  const std::string path = folder.file("disk", 1 << 20);
  const auto allocated = [&] {
    struct stat info{};
    EXPECT_EQ(::stat(path.c_str(), &info), 0);
    return static_cast<std::uint64_t>(info.st_blocks) * 512;
  };
  ASSERT_LT(allocated(), 1u << 20);
  BackstoreOptions options;
  options.thick = true;
  open(path, options);
  EXPECT_GE(allocated(), 1u << 20);
  EXPECT_NE(store->describe().find(", thick"), std::string::npos);
  EXPECT_EQ(store->describe().find("sparse"), std::string::npos);
  EXPECT_FALSE(channel->geometry().thin);
  Buffer data(1 << 20, 0x99);
  ASSERT_EQ(write(0, data), OpStatus::ok);
  EXPECT_EQ(range(OpKind::unmap, 0, 2048), OpStatus::unsupported);
  EXPECT_EQ(range(OpKind::write_zeroes, 0, 2048, true, true), OpStatus::ok);
  ASSERT_EQ(read(0, data), OpStatus::ok);
  EXPECT_TRUE(data.all(0));
  EXPECT_GE(allocated(), 1u << 20);
  BlockOp op;
  op.kind = OpKind::query;
  op.blocks = BlockCount(2048);
  EXPECT_EQ(run(op), OpStatus::ok);
  EXPECT_TRUE(op.mapped);  // whether it was ever written or not
  EXPECT_EQ(op.alike.value(), 2048u);
}

TEST_F(File, QueriesTellOfHolesAndOfData) {
  const std::string path = folder.file("disk", 4 * mib);
  open(path);
  if (!channel->geometry().thin) GTEST_SKIP() << "no holes on this file system";
  Buffer data(mib, 0xff);
  ASSERT_EQ(write(0, data, true), OpStatus::ok);
  BlockOp op;
  op.kind = OpKind::query;
  op.lba = Lba(8);
  op.blocks = BlockCount(8192 - 8);
  ASSERT_EQ(run(op), OpStatus::ok);
  EXPECT_TRUE(op.mapped);
  if (op.alike.value() == 8192 - 8) GTEST_SKIP() << "this file system does not tell where its holes are";
  EXPECT_EQ(op.alike.value(), 2048U - 8);
  ASSERT_EQ(range(OpKind::unmap, 1024, 512), OpStatus::ok);
  op.lba = Lba(1024 + 16);
  ASSERT_EQ(run(op), OpStatus::out_of_range);
  op.blocks = BlockCount(8192 - 1024 - 16);
  ASSERT_EQ(run(op), OpStatus::ok);
  EXPECT_FALSE(op.mapped);
  EXPECT_EQ(op.alike.value(), 512U - 16);
  op.lba = Lba(2048);  // to the end of the file
  op.blocks = BlockCount(8192 - 2048);
  ASSERT_EQ(run(op), OpStatus::ok);
  EXPECT_FALSE(op.mapped);
  EXPECT_EQ(op.alike.value(), 8192U - 2048);
}

// Pieces smaller than the granularity are zeroed all the same.
TEST_F(File, UnalignedUnmapAndZeroesTouchExactlyTheirBlocks) {
  for (const OpKind kind : {OpKind::unmap, OpKind::write_zeroes}) {
    open(folder.file(kind == OpKind::unmap ? "a" : "b", mib));
    if (!channel->geometry().thin) GTEST_SKIP() << "no holes on this file system";
    Buffer data(65536, 0xee);
    ASSERT_EQ(write(0, data), OpStatus::ok);
    EXPECT_EQ(range(kind, 3, 30), OpStatus::ok);
    Buffer in(65536);
    ASSERT_EQ(read(0, in), OpStatus::ok);
    for (std::size_t i = 0; i < in.size(); ++i) {
      ASSERT_EQ(in.data()[i], i >= 3 * 512 && i < 33 * 512 ? 0 : 0xee) << i;
    }
  }
}

TEST_F(File, MemoryThatDirectIoCannotTakeIsCopied) {
  const std::string path = folder.file("disk", mib);
  open(path);
  Buffer out(4096, 0x77, 3);
  EXPECT_EQ(write(1, out), OpStatus::ok);
  EXPECT_EQ(slurp(path, 512, 4096), std::string(4096, '\x77'));
  Buffer in(4096, 0, 1);
  EXPECT_EQ(read(1, in), OpStatus::ok);
  EXPECT_TRUE(in.all(0x77));
}

TEST_F(File, MoreMisalignedOperationsThanBounceMemoryAllEnd) {
  open(folder.file("disk", 64 * mib));
  constexpr std::size_t count = 12;
  struct Entry {
    BlockOp op;
    std::unique_ptr<Buffer> buffer;
    iovec iov{};
  };
  std::vector<Entry> entries(count);
  struct Counter {
    runtime::Loop& loop;
    std::size_t left;
    void on_done(BlockOp& op) {
      EXPECT_EQ(op.status, OpStatus::ok);
      if (--left == 0) loop.stop();
    }
  } counter{*loop, count};
  for (std::size_t i = 0; i < count; ++i) {
    Entry& e = entries[i];
    e.buffer = std::make_unique<Buffer>(4 * mib, static_cast<std::uint8_t>(i + 1), 5);
    e.iov = {e.buffer->data(), e.buffer->size()};
    e.op.kind = OpKind::write;
    e.op.lba = Lba(i * 4 * mib / 512);
    e.op.blocks = BlockCount(4 * mib / 512);
    e.op.data = {&e.iov, 1};
    e.op.done = Delegate<void(BlockOp&)>::to<&Counter::on_done>(counter);
    if (channel->submit(e.op)) --counter.left;
  }
  if (counter.left > 0) loop->run();
  EXPECT_EQ(counter.left, 0U);
  for (std::size_t i = 0; i < count; ++i) {
    Buffer in(4 * mib);
    ASSERT_EQ(read(i * 4 * mib / 512, in), OpStatus::ok);
    EXPECT_TRUE(in.all(static_cast<std::uint8_t>(i + 1))) << i;
  }
}

TEST_F(File, ManyVectorsInOneOperation) {
  open(folder.file("disk", mib));
  Buffer memory(65 * 4096);
  std::vector<iovec> iov;
  for (std::size_t i = 0; i < 65; ++i) {
    std::fill_n(memory.data() + i * 4096, 4096, static_cast<std::uint8_t>(i));
    iov.push_back({memory.data() + i * 4096, 4096});
  }
  BlockOp op;
  op.kind = OpKind::write;
  op.blocks = BlockCount(65 * 8);
  op.data = iov;
  EXPECT_EQ(run(op), OpStatus::ok);
  Buffer in(65 * 4096);
  ASSERT_EQ(read(0, in), OpStatus::ok);
  EXPECT_TRUE(std::equal(in.data(), in.data() + in.size(), memory.data()));
}

TEST_F(File, BufferedFileWorksTheSame) {
  BackstoreOptions options;
  options.direct = false;
  const std::string path = folder.file("disk", mib);
  open(path, options);
  EXPECT_NE(store->describe().find("page cache"), std::string::npos);
  Buffer out(4096, 9, 7);
  EXPECT_EQ(write(5, out, true), OpStatus::ok);
  EXPECT_EQ(slurp(path, 5 * 512, 4096), std::string(4096, '\x09'));
  Buffer in(4096);
  EXPECT_EQ(read(5, in), OpStatus::ok);
  EXPECT_TRUE(ended_at_once);  // from the page cache, without the ring
  EXPECT_TRUE(in.all(9));
}

TEST_F(File, TmpfsIsServedInlineAndFlushIsHonest) {
  if (!std::filesystem::exists("/dev/shm")) GTEST_SKIP() << "no /dev/shm";
  const TemporaryFolder shm("/dev/shm");
  const std::string path = shm.file("disk", 4 * mib);
  open(path);
  Buffer out(4096, 3);
  EXPECT_EQ(write(0, out, true), OpStatus::ok);
  EXPECT_EQ(flush(), OpStatus::ok);
  Buffer in(4096);
  EXPECT_EQ(read(0, in), OpStatus::ok);
  EXPECT_TRUE(in.all(3));
  // tmpfs has no ZERO_RANGE: zeroes are written, over more than one piece.
  Buffer big(3 * mib, 0xcc);
  ASSERT_EQ(write(0, big), OpStatus::ok);
  EXPECT_EQ(range(OpKind::write_zeroes, 1, 5000), OpStatus::ok);
  ASSERT_EQ(read(0, big), OpStatus::ok);
  for (std::size_t i = 0; i < big.size(); ++i) {
    ASSERT_EQ(big.data()[i], i >= 512 && i < 5001 * 512 ? 0 : 0xcc) << i;
  }
  channel.reset();
  store.reset();
}

TEST_F(File, FourKibibyteBlocks) {
  BackstoreOptions options;
  options.block_size_bytes = 4096;
  const std::string path = folder.file("disk", mib);
  open(path, options);
  EXPECT_EQ(channel->geometry().blocks.value(), mib / 4096);
  Buffer out(4096, 1);
  EXPECT_EQ(write(2, out), OpStatus::ok);
  EXPECT_EQ(slurp(path, 2 * 4096, 4096), std::string(4096, '\x01'));
}

TEST_F(File, RangesBeyondTheEndAreRefusedWithoutWrapping) {
  open(folder.file("disk", mib));
  Buffer data(1024);
  EXPECT_EQ(read(2047, data), OpStatus::out_of_range);
  EXPECT_EQ(write(2048, data), OpStatus::out_of_range);
  EXPECT_EQ(read(UINT64_MAX, data), OpStatus::out_of_range);
  EXPECT_EQ(range(OpKind::unmap, 1, UINT64_MAX), OpStatus::out_of_range);
  EXPECT_EQ(range(OpKind::unmap, 2048, 0), OpStatus::ok);
}

TEST_F(File, ReadOnlyRefusesEveryChange) {
  BackstoreOptions options;
  options.read_only = true;
  open(folder.file("disk", mib), options);
  EXPECT_TRUE(channel->geometry().read_only);
  Buffer data(512);
  EXPECT_EQ(write(0, data), OpStatus::write_protected);
  EXPECT_EQ(range(OpKind::unmap, 0, 1), OpStatus::write_protected);
  EXPECT_EQ(range(OpKind::write_zeroes, 0, 1), OpStatus::write_protected);
  EXPECT_EQ(read(0, data), OpStatus::ok);
  EXPECT_EQ(flush(), OpStatus::ok);
}

TEST_F(File, AFileCutShortBehindOurBackIsAReadError) {
  const std::string path = folder.file("disk", mib);
  open(path);
  ASSERT_EQ(::truncate(path.c_str(), 4096), 0);
  Buffer data(8192);
  EXPECT_EQ(read(0, data), OpStatus::read_error);
  EXPECT_EQ(read(1024, data), OpStatus::read_error);
}

TEST_F(File, AGrownFileHasMoreBlocksOnceItsChannelIsTold) {
  const std::string path = folder.file("disk", mib);
  open(path);
  EXPECT_EQ(store->look_at_size()->value(), mib / 512);
  std::filesystem::resize_file(path, 2 * mib + 511);
  ASSERT_EQ(store->look_at_size()->value(), 2 * mib / 512) << "whole blocks";
  Buffer out(512, 0x5a);
  EXPECT_EQ(write(mib / 512, out), OpStatus::out_of_range);
  store->set_blocks(*channel, BlockCount(2 * mib / 512));
  EXPECT_EQ(channel->geometry().blocks.value(), 2 * mib / 512);
  EXPECT_EQ(write(2 * mib / 512 - 1, out), OpStatus::ok);
  EXPECT_EQ(slurp(path, 2 * mib - 512, 512), std::string(512, '\x5a'));
  EXPECT_EQ(write(2 * mib / 512, out), OpStatus::out_of_range);
  std::filesystem::resize_file(path, mib / 2);
  EXPECT_EQ(store->look_at_size()->value(), mib / 1024) << "what becomes of it is for others to say";
}

TEST_F(File, AThickOneIsAllocatedWhereItHasGrown) {
  const std::string path = folder.file("disk", mib);
  BackstoreOptions options;
  options.thick = true;
  open(path, options);
  std::filesystem::resize_file(path, 4 * mib);
  EXPECT_LT(allocated(path), 4 * mib);
  ASSERT_EQ(store->look_at_size()->value(), 4 * mib / 512);
  EXPECT_GE(allocated(path), 4 * mib);
}

TEST_F(File, AWriterExcludesEverybodyAndReadersExcludeWriters) {
  const std::string path = folder.file("disk", mib);
  BackstoreOptions read_only;
  read_only.read_only = true;
  auto first = open_backstore(path, {});
  ASSERT_TRUE(first);
  auto second = open_backstore(path, {});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::busy);
  EXPECT_NE(second.error().message.find("served already"), std::string::npos);
  EXPECT_FALSE(open_backstore(path, read_only));
  first->reset();
  auto reader = open_backstore(path, read_only);
  ASSERT_TRUE(reader);
  EXPECT_TRUE(open_backstore(path, read_only));
  EXPECT_FALSE(open_backstore(path, {}));
}

TEST_F(File, AnotherProcessIsExcludedToo) {
  const std::string path = folder.file("disk", mib);
  auto ours = open_backstore(path, {});
  ASSERT_TRUE(ours);
  const pid_t child = ::fork();
  if (child == 0) ::_exit(open_backstore(path, {}) ? 1 : 0);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(File, ErrorsSayWhatToDo) {
  auto missing = open_backstore(folder / "nothing", {});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Errc::not_found);
  EXPECT_NE(missing.error().message.find("truncate -s"), std::string::npos);
  auto directory = open_backstore(folder.path(), {});
  ASSERT_FALSE(directory);
  EXPECT_NE(directory.error().message.find("is a directory"), std::string::npos);
  auto empty = open_backstore(folder.file("empty", 0), {});
  ASSERT_FALSE(empty);
  EXPECT_NE(empty.error().message.find("is empty"), std::string::npos);
  auto small = open_backstore(folder.file("small", 511), {});
  ASSERT_FALSE(small);
  EXPECT_NE(small.error().message.find("less than one block"), std::string::npos);
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  auto fifo = open_backstore(folder / "fifo", {});  // and does not wait for somebody to open the other end
  ASSERT_FALSE(fifo);
  EXPECT_EQ(fifo.error().code, Errc::invalid_argument);
  EXPECT_FALSE(open_backstore("", {}));
  BackstoreOptions odd;
  odd.block_size_bytes = 520;
  EXPECT_FALSE(open_backstore(folder.file("disk", mib), odd));
}

TEST_F(File, AFileRenamedSinceIsStillTheOneThatChannelsOpen) {
  const std::string path = folder.file("disk", mib);
  auto made = open_backstore(path, {});
  ASSERT_TRUE(made);
  std::filesystem::rename(path, folder / "moved");
  (void)folder.file("disk", mib);
  auto opened = (*made)->open_channel(*loop);
  ASSERT_TRUE(opened) << opened.error().message;
  channel = std::move(*opened);
  Buffer data(4096, 0x42);
  EXPECT_EQ(write(0, data), OpStatus::ok);
  EXPECT_EQ(slurp(folder / "moved", 0, 4096), std::string(4096, '\x42'));
  channel.reset();
}

}  // namespace
}  // namespace perilune::block
