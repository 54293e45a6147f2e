// SPDX-License-Identifier: Apache-2.0
#include "crypto/crc32c.hpp"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace perilune::crypto {
namespace {

using Digest4 = std::array<std::uint8_t, 4>;

Digest4 wire(std::uint32_t crc) {
  Digest4 out;
  store_digest(out.data(), crc);
  return out;
}

// RFC 3720 B.4, which RFC 7143 keeps: an iSCSI SCSI Read (10) command PDU.
const std::array<std::uint8_t, 48> read10_pdu = {
    0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18,
    0x28, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};

TEST(Crc32c, GivesTheVectorsOfRfc3720B4) {
  std::vector<std::uint8_t> bytes(32, 0x00);
  EXPECT_EQ(wire(crc32c(crc32c_start, bytes)), (Digest4{0xaa, 0x36, 0x91, 0x8a}));
  bytes.assign(32, 0xff);
  EXPECT_EQ(wire(crc32c(crc32c_start, bytes)), (Digest4{0x43, 0xab, 0xa8, 0x62}));
  for (std::size_t i = 0; i < 32; ++i) bytes[i] = static_cast<std::uint8_t>(i);
  EXPECT_EQ(wire(crc32c(crc32c_start, bytes)), (Digest4{0x4e, 0x79, 0xdd, 0x46}));
  for (std::size_t i = 0; i < 32; ++i) bytes[i] = static_cast<std::uint8_t>(31 - i);
  EXPECT_EQ(wire(crc32c(crc32c_start, bytes)), (Digest4{0x5c, 0xdb, 0x3f, 0x11}));
  EXPECT_EQ(wire(crc32c(crc32c_start, read10_pdu)), (Digest4{0x56, 0x3a, 0x96, 0xd9}));
}

TEST(Crc32c, HeaderVariantAgreesWithTheVector) {
  EXPECT_EQ(wire(crc32c_bhs(read10_pdu.data())), (Digest4{0x56, 0x3a, 0x96, 0xd9}));
}

TEST(Crc32c, ContinuesOverPiecesAtEveryBorder) {
  const std::uint32_t whole = crc32c(crc32c_start, read10_pdu);
  for (std::size_t cut = 0; cut <= read10_pdu.size(); ++cut) {
    const Bytes all(read10_pdu);
    EXPECT_EQ(crc32c(crc32c(crc32c_start, all.first(cut)), all.subspan(cut)), whole) << cut;
  }
}

TEST(Crc32c, EmptyInputLeavesTheValue) {
  EXPECT_EQ(crc32c(crc32c_start, {}), 0u);
  EXPECT_EQ(crc32c(0x12345678u, {}), 0x12345678u);
}

TEST(Crc32c, DigestLoadsAsItWasStored) {
  const Digest4 stored = {0x56, 0x3a, 0x96, 0xd9};
  EXPECT_EQ(load_digest(stored.data()), 0xd9963a56u);
  EXPECT_EQ(wire(0xd9963a56u), stored);
}

}  // namespace
}  // namespace perilune::crypto
