// SPDX-License-Identifier: Apache-2.0
#include "crypto/crc16_t10dif.hpp"

#include <gtest/gtest.h>

#include <array>
#include <numeric>
#include <string_view>
#include <vector>

namespace perilune::crypto {
namespace {

// SBC-3 table 13 (its sample block images and their CRCs).
TEST(Crc16T10dif, GivesTheSamplesOfSbc) {
  std::vector<std::uint8_t> block(32, 0x00);
  EXPECT_EQ(crc16_t10dif(crc16_t10dif_start, block), 0x0000);
  block.assign(32, 0xff);
  EXPECT_EQ(crc16_t10dif(crc16_t10dif_start, block), 0xa293);
  std::iota(block.begin(), block.end(), std::uint8_t{0});
  EXPECT_EQ(crc16_t10dif(crc16_t10dif_start, block), 0x0224);
  block.assign(32, 0x00);
  block[0] = block[1] = 0xff;
  EXPECT_EQ(crc16_t10dif(crc16_t10dif_start, block), 0x21b8);
  for (std::size_t i = 0; i < 32; ++i) block[i] = static_cast<std::uint8_t>(0xff - i);
  EXPECT_EQ(crc16_t10dif(crc16_t10dif_start, block), 0xa0b7);
}

TEST(Crc16T10dif, GivesTheUsualCheckValue) {
  EXPECT_EQ(crc16_t10dif(crc16_t10dif_start, as_bytes(std::string_view("123456789"))), 0xd0db);
}

// Bit by bit, as the polynomial says, over every length that a fast way may treat differently.
TEST(Crc16T10dif, AgreesWithThePolynomialForEveryLengthAndCut) {
  std::vector<std::uint8_t> bytes(600);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * 37 + i / 7);
  std::uint16_t slow = 0;
  for (std::size_t length = 0; length <= bytes.size(); ++length) {
    EXPECT_EQ(crc16_t10dif(crc16_t10dif_start, Bytes(bytes).first(length)), slow) << length;
    const std::size_t cut = length / 3;
    EXPECT_EQ(crc16_t10dif(crc16_t10dif(crc16_t10dif_start, Bytes(bytes).first(cut)),
                           Bytes(bytes).first(length).subspan(cut)),
              slow);
    if (length == bytes.size()) break;
    slow = static_cast<std::uint16_t>(slow ^ (bytes[length] << 8));
    for (int bit = 0; bit < 8; ++bit)
      slow = static_cast<std::uint16_t>((slow & 0x8000) != 0 ? (slow << 1) ^ 0x8bb7 : slow << 1);
  }
}

}  // namespace
}  // namespace perilune::crypto
