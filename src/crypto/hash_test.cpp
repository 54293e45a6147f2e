// SPDX-License-Identifier: Apache-2.0
#include "crypto/hash.hpp"

#include <gtest/gtest.h>

#include <string>

#include "crypto/secret.hpp"

namespace perilune::crypto {
namespace {

std::string hex(const Result<HashValue>& value) {
  if (!value) return "error: " + value.error().message;
  static const char digits[] = "0123456789abcdef";
  std::string out;
  for (const std::uint8_t byte : value->bytes()) {
    out += digits[byte >> 4];
    out += digits[byte & 15];
  }
  return out;
}

// RFC 1321 A.5, FIPS 180 and FIPS 202 examples of "abc".
TEST(Hash, GivesThePublishedDigestsOfAbc) {
  const Bytes abc = as_bytes("abc");
  EXPECT_EQ(hex(hash(HashAlgorithm::md5, {abc})), "900150983cd24fb0d6963f7d28e17f72");
  EXPECT_EQ(hex(hash(HashAlgorithm::sha1, {abc})), "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(hex(hash(HashAlgorithm::sha256, {abc})),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex(hash(HashAlgorithm::sha3_256, {abc})),
            "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532");
}

TEST(Hash, JoinsItsParts) {
  EXPECT_EQ(hex(hash(HashAlgorithm::md5, {as_bytes("a"), {}, as_bytes("bc")})),
            "900150983cd24fb0d6963f7d28e17f72");
}

TEST(Hash, SizesAgreeWithTheDigests) {
  for (const auto algorithm :
       {HashAlgorithm::md5, HashAlgorithm::sha1, HashAlgorithm::sha256, HashAlgorithm::sha3_256}) {
    const auto value = hash(algorithm, {});
    ASSERT_TRUE(value.has_value());
    EXPECT_EQ(value->size, digest_size_bytes(algorithm));
  }
}

TEST(Secret, MovesLeaveNothingBehind) {
  Secret a("correct horse battery");
  Secret b(std::move(a));
  EXPECT_TRUE(a.empty());  // NOLINT(bugprone-use-after-move): that is what is tested
  EXPECT_EQ(as_text(b.reveal()), "correct horse battery");
  a = b.clone();
  EXPECT_TRUE(a.equals(b));
  EXPECT_FALSE(a.equals(Secret("correct horse batterz")));
  EXPECT_FALSE(a.equals(Secret("correct")));
  EXPECT_TRUE(Secret().equals(Secret("")));
}

TEST(Secret, CannotBeCopied) {
  static_assert(!std::is_copy_constructible_v<Secret>);
  static_assert(!std::is_copy_assignable_v<Secret>);
  static_assert(!std::is_convertible_v<Secret, std::string_view>);
}

TEST(Secret, WipeOverwrites) {
  std::uint8_t bytes[5] = {1, 2, 3, 4, 5};
  wipe(bytes);
  for (const std::uint8_t byte : bytes) EXPECT_EQ(byte, 0);
}

}  // namespace
}  // namespace perilune::crypto
