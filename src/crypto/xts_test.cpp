// SPDX-License-Identifier: Apache-2.0
// Against the vectors of IEEE 1619-2018, annex B (XTS-AES-256: vectors 10 to 14).
#include "crypto/xts.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace perilune::crypto {
namespace {

using Data = std::vector<std::uint8_t>;

Data from_hex(std::string_view text) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  Data out;
  for (std::size_t i = 0; i < text.size(); i += 2)
    out.push_back(static_cast<std::uint8_t>(digit(text[i]) << 4 | digit(text[i + 1])));
  return out;
}

std::unique_ptr<Xts> with_key_of_the_vectors() {
  auto made = Xts::create(from_hex("2718281828459045235360287471352662497757247093699959574966967627"
                                   "3141592653589793238462643383279502884197169399375105820974944592"));
  EXPECT_TRUE(made);
  return std::move(*made);
}

Data counting(std::size_t bytes) {
  Data out(bytes);
  for (std::size_t i = 0; i < bytes; ++i) out[i] = static_cast<std::uint8_t>(i);
  return out;
}

TEST(Xts, Vector10OfIeee1619) {
  const Data expected = from_hex(
      "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b5d31e276f8fe4a8d66b317f9ac683f44"
      "680a86ac35adfc3345befecb4bb188fd5776926c49a3095eb108fd1098baec70aaa66999a72a82f27d848b21d4a741b0"
      "c5cd4d5fff9dac89aeba122961d03a757123e9870f8acf1000020887891429ca2a3e7a7d7df7b10355165c8b9a6d0a7d"
      "e8b062c4500dc4cd120c0f7418dae3d0b5781c34803fa75421c790dfe1de1834f280d7667b327f6c8cd7557e12ac3a0f"
      "93ec05c52e0493ef31a12d3d9260f79a289d6a379bc70c50841473d1a8cc81ec583e9645e07b8d9670655ba5bbcfecc6"
      "dc3966380ad8fecb17b6ba02469a020a84e18e8f84252070c13e9f1f289be54fbc481457778f616015e1327a02b140f1"
      "505eb309326d68378f8374595c849d84f4c333ec4423885143cb47bd71c5edae9be69a2ffeceb1bec9de244fbe15992b"
      "11b77c040f12bd8f6a975a44a0f90c29a9abc3d4d893927284c58754cce294529f8614dcd2aba991925fedc4ae74ffac"
      "6e333b93eb4aff0479da9a410e4450e0dd7ae4c6e2910900575da401fc07059f645e8b7e9bfdef33943054ff84011493"
      "c27b3429eaedb4ed5376441a77ed43851ad77f16f541dfd269d50d6a5f14fb0aab1cbb4c1550be97f7ab4066193c4caa"
      "773dad38014bd2092fa755c824bb5e54c4f36ffda9fcea70b9c6e693e148c151");
  const auto xts = with_key_of_the_vectors();
  const Data plain = counting(512);
  Data data = plain;
  xts->encrypt(0xff, data, data.data());  // in place
  EXPECT_EQ(data, expected);
  xts->decrypt(0xff, data, data.data());
  EXPECT_EQ(data, plain);
  Data other(512);
  xts->encrypt(0xff, plain, other.data());
  EXPECT_EQ(other, expected);
}

// The number of the data unit: one byte after the other.
TEST(Xts, Vectors11To14OfIeee1619) {
  const std::pair<std::uint64_t, std::string_view> vectors[] = {
      {0xffff, "77a31251618a15e6b92d1d66dffe7b50b50bad552305ba0217a610688eff7e11"},
      {0xffffff, "e387aaa58ba483afa7e8eb469778317ecf4cf573aa9d4eac23f2cdf914e4e200"},
      {0xffffffff, "bf53d2dade78e822a4d949a9bc6766b01b06a8ef70d26748c6a7fc36d80ae4c5"},
      {0xffffffffff, "64497e5a831e4a932c09be3e5393376daa599548b816031d224bbf50a818ed23"},
  };
  const auto xts = with_key_of_the_vectors();
  for (const auto& [number, beginning] : vectors) {
    Data data = counting(512);
    xts->encrypt(number, data, data.data());
    data.resize(32);
    EXPECT_EQ(data, from_hex(beginning)) << number;
  }
}

// What is no multiple of 16 bytes, as a block with its protection information: the last whole block goes in
// parts (ciphertext stealing, IEEE 1619 5.3.2). Put together here from data units without.
TEST(Xts, StealsCiphertextWhereTheLastBlockIsNotWhole) {
  const auto xts = with_key_of_the_vectors();
  const Data plain = counting(520);
  Data whole(512);
  xts->encrypt(7, Bytes(plain).first(512), whole.data());
  Data stolen(plain.begin(), plain.end());
  stolen.insert(stolen.end(), whole.begin() + 504, whole.end());  // 528 bytes: the tail, filled up with what
                                                                  // the block before became
  Data longer(528);
  xts->encrypt(7, stolen, longer.data());
  Data expected(whole.begin(), whole.begin() + 496);
  expected.insert(expected.end(), longer.begin() + 512, longer.end());
  expected.insert(expected.end(), whole.begin() + 496, whole.begin() + 504);
  Data data = plain;
  xts->encrypt(7, data, data.data());
  EXPECT_EQ(data, expected);
  xts->decrypt(7, data, data.data());
  EXPECT_EQ(data, plain);
}

TEST(Xts, KeysThatAreNoneAreRefused) {
  EXPECT_EQ(Xts::create(Data(32, 1)).error().code, Errc::invalid_argument);
  EXPECT_EQ(Xts::create(Data(64, 1)).error().code, Errc::invalid_argument);  // the same key twice
}

}  // namespace
}  // namespace perilune::crypto
