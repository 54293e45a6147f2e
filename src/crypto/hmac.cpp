// SPDX-License-Identifier: Apache-2.0
#include "crypto/hmac.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "crypto/hash.hpp"

namespace perilune::crypto {
namespace {

constexpr std::size_t block_bytes = 64;  // of SHA-256

std::array<std::uint8_t, block_bytes> padded(Bytes key, std::uint8_t pad) {
  std::array<std::uint8_t, block_bytes> out;
  out.fill(pad);
  for (std::size_t i = 0; i < key.size(); ++i) out[i] ^= key[i];
  return out;
}

HashValue sha256(Bytes first, Bytes second) {
  auto digest = hash(HashAlgorithm::sha256, {first, second});
  PERILUNE_ASSERT(digest.has_value());  // every OpenSSL has SHA-256
  return *digest;
}

}  // namespace

MacValue hmac_sha256(Bytes key, Bytes message) {
  PERILUNE_ASSERT(key.size() <= block_bytes);
  const HashValue inner = sha256(padded(key, 0x36), message);
  const HashValue outer = sha256(padded(key, 0x5c), inner.bytes());
  MacValue mac{};
  std::copy_n(outer.data.begin(), mac.size(), mac.begin());
  return mac;
}

}  // namespace perilune::crypto
