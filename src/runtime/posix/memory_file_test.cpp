// SPDX-License-Identifier: Apache-2.0
#include "runtime/posix/memory_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/temporary_folder_test.hpp"
#include "runtime/posix/guarded_copy.hpp"
#include "runtime/posix/open_block_file.hpp"

namespace perilune::runtime::posix {
namespace {

constexpr std::size_t page = 4096;
using Block = std::vector<std::uint8_t>;

class MemoryFileTest : public ::testing::Test {
 protected:
  void make(std::uint64_t size, const std::string& name = "disk") {
    path_ = folder_.file(name, size);
    opened_ = open();
    ASSERT_TRUE(opened_.in_memory) << path_;
  }
  [[nodiscard]] OpenedBlockFile open(bool read_only = false) const {
    auto opened = open_block_file(path_, {.read_only = read_only, .prefer_direct = false});
    EXPECT_TRUE(opened) << opened.error().message;
    return std::move(*opened);
  }
  [[nodiscard]] std::uint64_t allocated_bytes() const {
    struct stat info {};
    EXPECT_EQ(::fstat(opened_.fd.get(), &info), 0);
    return static_cast<std::uint64_t>(info.st_blocks) * 512;
  }
  // As another program, or another loop, would.
  void punch(std::uint64_t offset, std::uint64_t bytes) const {
    ASSERT_EQ(::fallocate(opened_.fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                          static_cast<off_t>(offset), static_cast<off_t>(bytes)),
              0);
  }

  TemporaryFolder folder_{"/dev/shm"};
  std::string path_;
  OpenedBlockFile opened_;
};

Block filled(std::size_t bytes, std::uint8_t with) { return Block(bytes, with); }

TEST_F(MemoryFileTest, IsTheFileWhateverIsDoneToItAndByWhom) {
  constexpr std::size_t size = 64 * page;
  make(size);
  MemoryFile file(opened_.fd.get(), opened_);
  std::mt19937 random(1);
  Block expected(size, 0);
  for (int step = 0; step < 20'000; ++step) {
    const std::size_t offset = random() % size;
    const std::size_t bytes = 1 + random() % std::min<std::size_t>(size - offset, 3 * page);
    switch (random() % 6) {
      case 0:
      case 1: {
        const Block data = filled(bytes, static_cast<std::uint8_t>(random() % 4));  // zeroes among them
        ASSERT_TRUE(file.write_whole(ByteOffset(offset), data));
        std::copy(data.begin(), data.end(), expected.begin() + static_cast<std::ptrdiff_t>(offset));
        break;
      }
      case 2: {  // by a system call of somebody else
        const Block data = filled(bytes, 9);
        ASSERT_EQ(::pwrite(opened_.fd.get(), data.data(), bytes, static_cast<off_t>(offset)),
                  static_cast<ssize_t>(bytes));
        std::copy(data.begin(), data.end(), expected.begin() + static_cast<std::ptrdiff_t>(offset));
        break;
      }
      case 3:
        if (random() % 2 == 0) file.forget(ByteOffset(offset), ByteCount(bytes));
        punch(offset, bytes);
        std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(offset), bytes, std::uint8_t{0});
        break;
      default: {
        Block back = filled(bytes, 0xee);
        const std::size_t first = random() % bytes;
        const std::array<iovec, 2> parts{{{back.data(), first}, {back.data() + first, bytes - first}}};
        ASSERT_EQ(file.read(ByteOffset(offset), parts), static_cast<int>(bytes));
        ASSERT_TRUE(
            std::equal(back.begin(), back.end(), expected.begin() + static_cast<std::ptrdiff_t>(offset)))
            << "step " << step;
      }
    }
  }
}

// How many calls of each direction the kernel has counted (proc_pid_io(5)); asking is one of them.
std::pair<std::uint64_t, std::uint64_t> system_calls() {
  std::ifstream in("/proc/thread-self/io");
  std::string name;
  std::uint64_t value = 0, reads = 0, writes = 0;
  while (in >> name >> value) {
    if (name == "syscr:") reads = value;
    if (name == "syscw:") writes = value;
  }
  return {reads, writes};
}

TEST_F(MemoryFileTest, WhatIsKnownToBeThereNeedsNoSystemCall) {
  make(64 * page);
  MemoryFile file(opened_.fd.get(), opened_);
  const auto before = system_calls();
  ASSERT_GT(before.first, 0u);
  Block data = filled(64 * page, 7);
  ASSERT_TRUE(file.write_whole(ByteOffset(0), data));
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(file.write_whole(ByteOffset(page), {data.data(), page}));
    ASSERT_TRUE(file.read_whole(ByteOffset(0), data));
  }
  const auto after = system_calls();
  EXPECT_LE(after.first - before.first, 4u);
  EXPECT_LE(after.second - before.second, 1u);
}

TEST_F(MemoryFileTest, ReadingAHoleDoesNotFillIt) {
  make(256 * page);
  MemoryFile file(opened_.fd.get(), opened_);
  ASSERT_TRUE(file.write_whole(ByteOffset(8 * page), filled(2 * page, 7)));
  Block back(16 * page);
  for (int again = 0; again < 3; ++again) ASSERT_TRUE(file.read_whole(ByteOffset(0), back));
  EXPECT_EQ(back[8 * page], 7);
  EXPECT_EQ(allocated_bytes(), 2 * page);
}

TEST_F(MemoryFileTest, WhatOneLoopGivesBackNoOtherFills) {
  make(256 * page);
  MemoryFile one(opened_.fd.get(), opened_);
  const OpenedBlockFile again = open();
  MemoryFile other(again.fd.get(), again);
  ASSERT_TRUE(one.write_whole(ByteOffset(0), filled(16 * page, 7)));
  Block back(16 * page);
  ASSERT_TRUE(other.read_whole(ByteOffset(0), back));
  EXPECT_EQ(back, filled(16 * page, 7));
  one.forget(ByteOffset(0), ByteCount(16 * page));
  punch(0, 16 * page);
  ASSERT_TRUE(other.read_whole(ByteOffset(0), back));
  EXPECT_EQ(back, filled(16 * page, 0));
  EXPECT_EQ(allocated_bytes(), 0u);
}

TEST_F(MemoryFileTest, AFileThatIsCutShortIsAShortReadAndNotTheEnd) {
  make(16 * page);
  MemoryFile file(opened_.fd.get(), opened_);
  ASSERT_TRUE(file.write_whole(ByteOffset(0), filled(16 * page, 7)));
  Block back(4 * page);
  ASSERT_TRUE(file.read_whole(ByteOffset(8 * page), back));
  std::filesystem::resize_file(path_, 10 * page + 100);
  const iovec all{back.data(), back.size()};
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(file.read(ByteOffset(8 * page), {&all, 1}), static_cast<int>(2 * page + 100));
    EXPECT_FALSE(file.read_whole(ByteOffset(8 * page), back));
  }
  EXPECT_EQ(file.read(ByteOffset(12 * page), {&all, 1}), 0) << "a second fault is caught like the first";
  EXPECT_TRUE(file.read_whole(ByteOffset(0), back));
  EXPECT_EQ(back, filled(4 * page, 7));
}

TEST_F(MemoryFileTest, AFileThatHasGrownIsReadBeyondItsOldEnd) {
  make(4 * page);
  MemoryFile file(opened_.fd.get(), opened_);
  std::filesystem::resize_file(path_, 8 * page);
  const OpenedBlockFile again = open();
  MemoryFile larger(again.fd.get(), again);
  ASSERT_TRUE(larger.write_whole(ByteOffset(3 * page), filled(2 * page, 5)));
  Block back(2 * page);
  for (int twice = 0; twice < 2; ++twice) {
    ASSERT_TRUE(file.read_whole(ByteOffset(3 * page), back));
    EXPECT_EQ(back, filled(2 * page, 5));
  }
}

TEST_F(MemoryFileTest, AReadOnlyFileIsReadAndNotWritten) {
  make(4 * page);
  MemoryFile file(opened_.fd.get(), opened_);
  ASSERT_TRUE(file.write_whole(ByteOffset(0), filled(4 * page, 3)));
  const OpenedBlockFile read_only = open(true);
  MemoryFile looked_at(read_only.fd.get(), read_only);
  Block back(4 * page);
  ASSERT_TRUE(looked_at.read_whole(ByteOffset(0), back));
  EXPECT_EQ(back, filled(4 * page, 3));
  const iovec all{back.data(), back.size()};
  EXPECT_EQ(looked_at.write(ByteOffset(0), {&all, 1}), -EBADF);
}

class MemoryFileOnAFullTmpfsTest : public MemoryFileTest {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    mounted_ = folder_ / "small";
    std::filesystem::create_directory(mounted_);
    ASSERT_EQ(std::system(("mount -t tmpfs -o size=1m none " + mounted_).c_str()), 0);
    make(64 * page, "small/disk");
  }
  void TearDown() override {
    opened_ = {};
    if (mounted_.empty()) return;
    EXPECT_EQ(std::system(("umount " + mounted_).c_str()), 0);
  }
  void fill() const {
    std::ofstream ballast(mounted_ + "/ballast", std::ios::binary);
    const std::string piece(page, 'b');
    while (ballast.write(piece.data(), static_cast<std::streamsize>(piece.size())).flush()) {
    }
  }
  std::string mounted_;
};

TEST_F(MemoryFileOnAFullTmpfsTest, APageThatIsNotToBeHadIsAnErrorOfTheWrite) {
  MemoryFile file(opened_.fd.get(), opened_);
  ASSERT_TRUE(file.write_whole(ByteOffset(0), filled(8 * page, 7)));
  punch(0, 4 * page);  // and nobody tells
  fill();
  Block data = filled(2 * page, 8);
  const iovec all{data.data(), data.size()};
  EXPECT_EQ(file.write(ByteOffset(0), {&all, 1}), -ENOSPC);
  EXPECT_EQ(file.write(ByteOffset(4 * page), {&all, 1}), static_cast<int>(2 * page)) << "those are there";
  Block back(8 * page);
  ASSERT_TRUE(file.read_whole(ByteOffset(0), back));
  EXPECT_EQ(Block(back.begin(), back.begin() + 4 * page), filled(4 * page, 0));
  EXPECT_EQ(Block(back.begin() + 4 * page, back.begin() + 6 * page), filled(2 * page, 8));
  std::filesystem::remove(mounted_ + "/ballast");
  EXPECT_EQ(file.write(ByteOffset(0), {&all, 1}), static_cast<int>(2 * page));
}

// What is not a guarded copy ends the process, as if nobody caught it.
TEST(GuardedCopyDeathTest, AnotherAccessOrASignalFromElsewhereStillEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto beyond_the_end = [] {
    catch_faults();
    const int fd = ::memfd_create("empty", 0);
    auto* const at = static_cast<volatile std::uint8_t*>(::mmap(nullptr, page, PROT_READ, MAP_SHARED, fd, 0));
    Block elsewhere(page);
    const bool copied = guarded(elsewhere, [&] { elsewhere[0] = at[0]; });
    std::_Exit(copied ? 1 : 2);
  };
  EXPECT_EXIT(beyond_the_end(), ::testing::KilledBySignal(SIGBUS), "");
  const auto sent = [] {
    catch_faults();
    ::raise(SIGBUS);
    std::_Exit(1);
  };
  EXPECT_EXIT(sent(), ::testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace perilune::runtime::posix
