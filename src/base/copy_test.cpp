// SPDX-License-Identifier: Apache-2.0
#include "base/copy.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace perilune {
namespace {

// Every alignment of both ends at lengths around the ones where the way of copying changes.
TEST(CopyPastCaches, CopiesEveryByteAndNoOther) {
  constexpr std::uint8_t untouched = 0xee;
  std::vector<std::uint8_t> from(9000), to(9000);
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::uint8_t>(i * 7 + i / 256);
  for (const std::size_t bytes : {0U, 1U, 63U, 64U, 1023U, 1024U, 1025U, 1087U, 4096U, 4097U, 8191U}) {
    for (std::size_t shift = 0; shift < 65; shift += 13) {
      for (std::size_t skew = 0; skew < 65; skew += 16) {
        std::fill(to.begin(), to.end(), untouched);
        copy_past_caches(to.data() + 100 + shift, from.data() + skew, bytes);
        const auto begin = to.begin() + static_cast<std::ptrdiff_t>(100 + shift);
        const auto end = begin + static_cast<std::ptrdiff_t>(bytes);
        ASSERT_TRUE(std::equal(begin, end, from.begin() + static_cast<std::ptrdiff_t>(skew)))
            << bytes << " " << shift << " " << skew;
        ASSERT_TRUE(std::all_of(to.begin(), begin, [](std::uint8_t b) { return b == untouched; }));
        ASSERT_TRUE(std::all_of(end, to.end(), [](std::uint8_t b) { return b == untouched; }));
      }
    }
  }
}

}  // namespace
}  // namespace perilune
