// SPDX-License-Identifier: Apache-2.0
#include "base/mapping.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <utility>

#include <gtest/gtest.h>

#include "base/temporary_folder_test.hpp"

namespace perilune {
namespace {

constexpr std::size_t mib = std::size_t{1} << 20;

bool is_mapped(const std::uint8_t* page) {
  unsigned char there = 0;
  return ::mincore(const_cast<std::uint8_t*>(page), 1, &there) == 0;
}

TEST(Mapping, GivesItsMemoryBack) {
  const std::uint8_t* begin = nullptr;
  {
    const Mapping mapping = Mapping::of_zeroes(mib);
    ASSERT_TRUE(mapping.good());
    begin = mapping.begin();
    EXPECT_TRUE(is_mapped(begin));
    EXPECT_TRUE(std::all_of(begin, begin + mib, [](std::uint8_t byte) { return byte == 0; }));
  }
  EXPECT_FALSE(is_mapped(begin));
}

TEST(Mapping, HasOneOwner) {
  Mapping first = Mapping::of_zeroes(mib);
  const std::uint8_t* const begin = first.begin();
  Mapping second = std::move(first);
  EXPECT_FALSE(first.good());
  EXPECT_EQ(second.begin(), begin);
  Mapping third = Mapping::of_zeroes(mib);
  const std::uint8_t* const replaced = third.begin();
  third = std::move(second);
  EXPECT_EQ(third.begin(), begin);
  EXPECT_FALSE(is_mapped(replaced));
  third.reset();
  EXPECT_FALSE(is_mapped(begin));
}

TEST(Mapping, OfHugePagesBeginsWithOneAndIsNoLongerThanAsked) {
  for (const std::size_t bytes : {2 * mib, 3 * mib + 1, 16 * mib}) {
    const Mapping mapping = Mapping::of_huge_pages(bytes);
    ASSERT_TRUE(mapping.good());
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(mapping.begin()) % huge_page_bytes, 0U);
    EXPECT_EQ(mapping.bytes(), bytes);
    std::fill(mapping.begin(), mapping.begin() + bytes, std::uint8_t{0x5a});
  }
  // What is shorter takes no more room than it needs.
  const Mapping small = Mapping::of_huge_pages(4096);
  ASSERT_TRUE(small.good());
  small.begin()[4095] = 1;
}

TEST(Mapping, OfAFileIsSharedWithIt) {
  const TemporaryFolder folder;
  const std::string path = folder.file("file", 8192);
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  const Mapping mapping = Mapping::of_file(fd, 8192, PROT_READ | PROT_WRITE);
  ::close(fd);
  ASSERT_TRUE(mapping.good());
  mapping.all()[5000] = 7;
  std::ifstream file(path, std::ios::binary);
  EXPECT_EQ(file.seekg(5000).get(), 7);
}

TEST(Mapping, ThatCannotBeHadSaysWhy) {
  errno = 0;
  EXPECT_FALSE(Mapping::of_huge_pages(std::size_t{1} << 60).good());
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_FALSE(Mapping::of_file(-1, 4096, PROT_READ).good());
  EXPECT_EQ(errno, EBADF);
}

}  // namespace
}  // namespace perilune
