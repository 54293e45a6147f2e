// SPDX-License-Identifier: Apache-2.0
#include "iscsi/text/values.hpp"

#include <gtest/gtest.h>

namespace perilune::iscsi {
namespace {

using Raw = std::vector<std::uint8_t>;

TEST(Values, NumbersAreDecimalOrHexadecimalAndNothingElse) {
  EXPECT_EQ(parse_number("0"), 0u);
  EXPECT_EQ(parse_number("262144"), 262144u);
  EXPECT_EQ(parse_number("0x40000"), 262144u);
  EXPECT_EQ(parse_number("0XaB"), 0xabu);
  EXPECT_EQ(parse_number("18446744073709551615"), ~std::uint64_t{0});
  for (const char* bad : {"", "-1", "+1", " 1", "1 ", "1e9", "12ab", "0x", "0xg", "0x-1", "18446744073709551616",
                          "0x10000000000000000", "1.0", "x10", "0b11"}) {
    EXPECT_FALSE(parse_number(bad).has_value()) << bad;
  }
}

TEST(Values, RangesRun) {
  const auto range = parse_range("512~0x1000");
  ASSERT_TRUE(range.has_value());
  EXPECT_EQ(range->low, 512u);
  EXPECT_EQ(range->high, 4096u);
  for (const char* bad : {"", "~", "1~", "~1", "2~1", "1~2~3", "12"})
    EXPECT_FALSE(parse_range(bad).has_value()) << bad;
}

TEST(Values, BooleansAreSpelledExactly) {
  EXPECT_EQ(parse_boolean("Yes"), true);
  EXPECT_EQ(parse_boolean("No"), false);
  for (const char* bad : {"yes", "NO", "1", "", "Yes "}) EXPECT_FALSE(parse_boolean(bad).has_value()) << bad;
}

TEST(Values, ListsAreBounded) {
  EXPECT_EQ(parse_list("a,b,c", 3), (std::vector<std::string_view>{"a", "b", "c"}));
  EXPECT_FALSE(parse_list("a,b,c,d", 3).has_value());
  for (const char* bad : {"", ",", "a,", ",a", "a,,b"}) EXPECT_FALSE(parse_list(bad, 9).has_value()) << bad;
}

TEST(Values, BinaryInHexAndBase64) {
  EXPECT_EQ(parse_binary("0x00fFa5", 3), (Raw{0x00, 0xff, 0xa5}));
  // RFC 4648 section 10
  EXPECT_EQ(parse_binary("0bZg==", 9), (Raw{'f'}));
  EXPECT_EQ(parse_binary("0BZm8=", 9), (Raw{'f', 'o'}));
  EXPECT_EQ(parse_binary("0bZm9vYmFy", 9), (Raw{'f', 'o', 'o', 'b', 'a', 'r'}));
  for (const char* bad : {"", "0", "0x", "0x1", "0x123", "0xgg", "0b", "0bZ", "0bZg=", "0bZg", "0bZh==", "0bZg==Zg==",
                          "0b====", "0b=Zg=", "1234", "0x00 11", "0b!!!!"}) {
    EXPECT_FALSE(parse_binary(bad, 100).has_value()) << bad;
  }
}

TEST(Values, BinaryIsBoundedBeforeItIsDecoded) {
  EXPECT_TRUE(parse_binary("0x0011", 2).has_value());
  EXPECT_FALSE(parse_binary("0x001122", 2).has_value());
  EXPECT_TRUE(parse_binary("0bZm8=", 2).has_value());
  EXPECT_FALSE(parse_binary("0bZm9v", 2).has_value());
}

TEST(Values, BinaryWritesWhatRfc4648Shows) {
  EXPECT_EQ(hex_binary(Raw{0x00, 0xab}), "0x00ab");
  EXPECT_EQ(base64_binary(Raw{'f'}), "0bZg==");
  EXPECT_EQ(base64_binary(Raw{'f', 'o'}), "0bZm8=");
  EXPECT_EQ(base64_binary(Raw{'f', 'o', 'o', 'b', 'a', 'r'}), "0bZm9vYmFy");
  Raw all;
  for (int i = 0; i < 256; ++i) all.push_back(static_cast<std::uint8_t>(i));
  EXPECT_EQ(parse_binary(base64_binary(all), 256), all);
}

TEST(Values, PrintableHasNoControlCharacters) {
  EXPECT_EQ(printable("a\nb\x1b[31m\x7f", 100), "a?b?[31m?");
  EXPECT_EQ(printable("abcdef", 3), "abc");
}

}  // namespace
}  // namespace perilune::iscsi
