// SPDX-License-Identifier: Apache-2.0
#include "iscsi/text/text.hpp"

#include <gtest/gtest.h>

#include <string>

namespace perilune::iscsi {
namespace {

std::string nul(std::string_view bars) {
  std::string out(bars);
  for (char& c : out) {
    if (c == '|') c = '\0';
  }
  return out;
}

TEST(Text, ReadsPairsInOrder) {
  const std::string text = nul("A=1|B=|C=x=y|A=2|");
  const auto pairs = parse_text(as_bytes(text));
  ASSERT_TRUE(pairs.has_value());
  EXPECT_EQ(*pairs, (std::vector<KeyValue>{{"A", "1"}, {"B", ""}, {"C", "x=y"}, {"A", "2"}}));
}

TEST(Text, PassesOverAdditionalNuls) {
  const std::string text = nul("||A=1|||B=2||");
  const auto pairs = parse_text(as_bytes(text));
  ASSERT_TRUE(pairs.has_value());
  EXPECT_EQ(pairs->size(), 2u);
  EXPECT_TRUE(parse_text({})->empty());
}

TEST(Text, RefusesWhatIsNotText) {
  for (const std::string& bad :
       {nul("A=1"), nul("A|"), nul("=1|"), nul("=|"), nul("A=1|B"), std::string(64, 'k') + nul("=1|"),
        nul("a b=1|"), nul("\x01=1|"), nul("\xc3\xa9=1|")}) {
    const auto pairs = parse_text(as_bytes(bad));
    ASSERT_FALSE(pairs.has_value()) << bad;
    EXPECT_EQ(pairs.error().code, Errc::protocol);
  }
  EXPECT_TRUE(parse_text(as_bytes(std::string(63, 'k') + nul("=1|"))).has_value());
}

TEST(Text, BoundsTheNumberOfPairs) {
  std::string text;
  for (int i = 0; i < 257; ++i) text += nul("A=1|");
  const auto pairs = parse_text(as_bytes(text));
  ASSERT_FALSE(pairs.has_value());
  EXPECT_EQ(pairs.error().code, Errc::limit);
  EXPECT_TRUE(parse_text(as_bytes(text), 257).has_value());
}

TEST(TextWriter, EndsEveryPairWithNul) {
  TextWriter writer;
  EXPECT_TRUE(writer.empty());
  writer.add("A", std::string_view("x"));
  writer.add("N", std::uint64_t{42});
  const std::uint8_t bytes[] = {0x00, 0xff};
  writer.add_hex("H", bytes);
  EXPECT_EQ(writer.take(), nul("A=x|N=42|H=0x00ff|"));
  EXPECT_TRUE(writer.empty());
}

TEST(TextJoiner, StopsAtItsLimits) {
  TextJoiner by_size(10, 100);
  EXPECT_TRUE(by_size.add(as_bytes("12345")).has_value());
  EXPECT_TRUE(by_size.add(as_bytes("67890")).has_value());
  EXPECT_EQ(by_size.add(as_bytes("x")).error().code, Errc::limit);
  EXPECT_EQ(as_text(by_size.text()), "1234567890");
  TextJoiner by_count(10, 2);
  EXPECT_TRUE(by_count.add({}).has_value());
  EXPECT_TRUE(by_count.add({}).has_value());
  EXPECT_EQ(by_count.add({}).error().code, Errc::limit);
  by_count.clear();
  EXPECT_TRUE(by_count.add({}).has_value());
}

TEST(TextSplitter, CutsAndEnds) {
  TextSplitter splitter("abcdefg");
  EXPECT_EQ(splitter.next(3), "abc");
  EXPECT_FALSE(splitter.done());
  EXPECT_EQ(splitter.next(3), "def");
  EXPECT_EQ(splitter.next(3), "g");
  EXPECT_TRUE(splitter.done());
  EXPECT_EQ(splitter.next(3), "");
  EXPECT_TRUE(TextSplitter().done());
  TextSplitter exact("abc");
  EXPECT_EQ(exact.next(3), "abc");
  EXPECT_TRUE(exact.done());
}

}  // namespace
}  // namespace perilune::iscsi
