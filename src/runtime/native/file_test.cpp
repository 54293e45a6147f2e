// SPDX-License-Identifier: Apache-2.0
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "runtime/native/native_test_support.hpp"

namespace perilune::runtime {
namespace {

using NativeFileTest = WithFile<LoopTest>;
PERILUNE_EVERY_RUNTIME(NativeFileTest);

TEST_P(NativeFileTest, ReadAtTheEndIsShortAndBeyondItIsZero) {
  open({false, false});
  std::string data(8192, '-');
  const iovec in{data.data(), data.size()};
  const std::uint64_t size = file->properties().size_bytes;
  EXPECT_EQ(finish([&](FileOp& op, int& r) {
              return file->read(op, ByteOffset(size - 100), {&in, 1}, r);
            }),
            100);
  EXPECT_EQ(finish([&](FileOp& op, int& r) { return file->read(op, ByteOffset(size), {&in, 1}, r); }), 0);
}

TEST_P(NativeFileTest, WritingThroughAReadOnlyFileIsAnError) {
  open({true, false});
  std::string data(512, 'x');
  const iovec out{data.data(), data.size()};
  EXPECT_EQ(finish([&](FileOp& op, int& r) {
              return file->write(op, ByteOffset(0), {&out, 1}, false, r);
            }),
            -EBADF);
}

TEST_P(NativeFileTest, WhatIsWrittenIsReadDurableOrNot) {
  open({false, false});
  EXPECT_EQ(write(4096, std::string(8192, 'a')), 8192);
  EXPECT_EQ(write(8192, std::string(4096, 'b'), true), 4096);
  std::string back(8192, '-');
  EXPECT_EQ(read(4096, back), 8192);
  EXPECT_EQ(back, std::string(4096, 'a') + std::string(4096, 'b'));
  EXPECT_EQ(finish([&](FileOp& op, int& r) { return file->sync(op, r); }), 0);
}

TEST_P(NativeFileTest, WhatIsInThePageCacheIsReadAtOnceOrNotAtAll) {
  open({false, false});
  EXPECT_TRUE(file->properties().reads_at_once);
  ASSERT_EQ(write(4096, std::string(4096, 'a')), 4096);
  std::vector<std::uint8_t> back(1025);
  ASSERT_TRUE(file->read_at_once(ByteOffset(8192 - 512), {back.data() + 1, 1024}));
  EXPECT_EQ(std::string(back.begin() + 1, back.end()), std::string(512, 'a') + std::string(512, '\0'));
  std::vector<std::uint8_t> beyond(1024);
  EXPECT_FALSE(file->read_at_once(ByteOffset(file->properties().size_bytes - 512), beyond));
  const bool written = file->write_at_once(ByteOffset(100), back);
  EXPECT_EQ(written, file->properties().writes_at_once);
  std::string first(4096, '-');
  ASSERT_EQ(read(0, first), 4096);
  EXPECT_EQ(first[100 + 1], written ? 'a' : '\0');
}

TEST_P(NativeFileTest, WhatGoesPastThePageCacheIsNeverReadAtOnce) {
  open({false, true});
  const bool direct = file->properties().direct;  // as far as the file system has it
  EXPECT_EQ(file->properties().reads_at_once, !direct);
  EXPECT_FALSE(direct && file->properties().writes_at_once);
  alignas(4096) std::array<std::uint8_t, 4096> block{};
  EXPECT_FALSE(direct && file->read_at_once(ByteOffset(0), block));
  EXPECT_FALSE(direct && file->write_at_once(ByteOffset(0), block));
}

TEST_P(NativeFileTest, ManyVectorsOfManyOperationsKeepTheirOrder) {
  open({false, false});
  constexpr std::size_t operations = 50, vectors = 65;
  struct Many {
    ThreadLoop& loop;
    std::size_t left;
    void on_done(FileOp&, int r) {
      EXPECT_EQ(r, static_cast<int>(vectors * 64));
      if (--left == 0) loop.stop();
    }
  } many{*loop, operations};
  std::vector<FileOp> ops(operations);
  std::vector<std::string> data;
  for (std::size_t i = 0; i < operations; ++i) {
    data.emplace_back();
    for (std::size_t v = 0; v < vectors; ++v)
      data.back() += std::string(64, static_cast<char>('A' + (i + v) % 26));
  }
  for (std::size_t i = 0; i < operations; ++i) {
    ops[i].done = Delegate<void(FileOp&, int)>::to<&Many::on_done>(many);
    std::array<iovec, vectors> iov;
    for (std::size_t v = 0; v < vectors; ++v) iov[v] = {data[i].data() + v * 64, 64};
    int result = 0;
    if (file->write(ops[i], ByteOffset(i * vectors * 64), iov, true, result)) many.on_done(ops[i], result);
    iov.fill({nullptr, 64});  // they were copied, or are not needed any more
  }
  if (many.left > 0) loop->run();
  ASSERT_EQ(many.left, 0U);
  for (std::size_t i = 0; i < operations; ++i) {
    std::string back(vectors * 64, '-');
    ASSERT_EQ(read(i * back.size(), back), static_cast<int>(back.size()));
    ASSERT_EQ(back, data[i]) << i;
  }
}

TEST_P(NativeFileTest, PunchedAndZeroedRangesReadAsZeroesAndTheRestStays) {
  open({false, false});
  ASSERT_EQ(write(0, std::string(1 << 20, 'x')), 1 << 20);
  if (file->properties().discard_granularity_bytes == 0) GTEST_SKIP() << "no holes here";
  EXPECT_EQ(
      finish([&](FileOp& op, int& r) { return file->punch(op, ByteOffset(65536), ByteCount(65536), r); }), 0);
  EXPECT_EQ(
      finish([&](FileOp& op, int& r) { return file->zero(op, ByteOffset(262144), ByteCount(65536), r); }), 0);
  std::string back(1 << 20, '-');
  ASSERT_EQ(read(0, back), 1 << 20);
  std::string expected(1 << 20, 'x');
  expected.replace(65536, 65536, std::string(65536, '\0'));
  expected.replace(262144, 65536, std::string(65536, '\0'));
  EXPECT_TRUE(back == expected);
}

TEST_P(NativeFileTest, ExtentTellsHolesFromData) {
  open({false, false});
  ASSERT_EQ(write(1 << 20, std::string(65536, 'x'), true), 65536);
  const auto extent_at = [&](std::uint64_t offset) {
    EXPECT_EQ(finish([&](FileOp& op, int& r) {
                return file->extent(op, ByteOffset(offset), ByteCount(4 << 20), r);
              }),
              0);
    return last_extent;
  };
  if (extent_at(0).allocated) GTEST_SKIP() << "this file system does not tell";
  EXPECT_EQ(extent_at(0).length_bytes, 1U << 20);
  EXPECT_TRUE(extent_at(1 << 20).allocated);
  EXPECT_EQ(extent_at(1 << 20).length_bytes, 65536U);
  EXPECT_FALSE(extent_at((1 << 20) + 65536).allocated);
}

// Where the holes are may have to be read from the file system: no loop waits for that.
TEST_P(NativeFileTest, ExtentIsFoundByAnotherThreadWhileTheLoopGoesOn) {
  open({false, false});
  struct Asked {
    FileOp op;
    Loop* loop = nullptr;
    std::thread::id on;
    int left = 0;
    void ended(FileOp&, int result) {
      EXPECT_EQ(result, 0);
      on = std::this_thread::get_id();
      loop->stop();
    }
  } asked;
  asked.loop = loop.get();
  asked.op.done = Delegate<void(FileOp&, int)>::to<&Asked::ended>(asked);
  int result = 0;
  ASSERT_FALSE(file->extent(asked.op, ByteOffset(0), ByteCount(4096), result))
      << "it was asked for on the loop's thread";
  loop->run();
  EXPECT_EQ(asked.on, std::this_thread::get_id());
}

// An ext4 whose device, a loop device on a small tmpfs, loses writes once the tmpfs is full.
class NativeFileOnALosingDeviceTest : public NativeFileTest {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    NativeFileTest::SetUp();
    folder_ = path + "-losing";
    std::filesystem::create_directories(folder_);
    const std::string image = folder_ + "/image", mounted = folder_ + "/ext4";
    shell("mount -t tmpfs -o size=8m none " + folder_);
    shell("mkdir " + mounted + " && truncate -s 32M " + image + " && mkfs.ext4 -q -O ^has_journal " + image);
    shell("mount -o loop " + image + " " + mounted);
    std::filesystem::remove(path);
    path = mounted + "/disk";
    shell("fallocate -l 16M " + path + " && sync -f " + path);
  }
  void TearDown() override {
    if (folder_.empty()) return;
    file.reset();
    loop.reset();
    shell("umount " + folder_ + "/ext4");
    shell("umount " + folder_ + " && rmdir " + folder_);
  }
  static void shell(const std::string& command) { ASSERT_EQ(std::system(command.c_str()), 0) << command; }
  void fill_the_device() const {
    std::ofstream ballast(folder_ + "/ballast", std::ios::binary);
    const std::string piece(65536, 'b');
    while (ballast.write(piece.data(), static_cast<std::streamsize>(piece.size())).flush()) {
    }
    struct statvfs left{};
    ASSERT_EQ(::statvfs(folder_.c_str(), &left), 0);
    ASSERT_EQ(left.f_bavail, 0u);
  }
  void make_the_device_well() const { std::filesystem::remove(folder_ + "/ballast"); }

 private:
  std::string folder_;
};
PERILUNE_EVERY_RUNTIME(NativeFileOnALosingDeviceTest);

// The system tells of a failed write-back once: that a durable write heard it must not silence the flush.
TEST_P(NativeFileOnALosingDeviceTest, AFlushFailsAfterADurableWriteThatFailed) {
  open({false, false});
  ASSERT_EQ(write(0, std::string(4096, 'a'), true), 4096);
  fill_the_device();
  EXPECT_LT(write(4 << 20, std::string(4096, 'b'), true), 0);
  make_the_device_well();  // so that nothing but the lost write can fail the flush
  EXPECT_LT(finish([&](FileOp& op, int& r) { return file->sync(op, r); }), 0);
}

}  // namespace
}  // namespace perilune::runtime
