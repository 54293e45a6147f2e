// SPDX-License-Identifier: Apache-2.0
// The one-shot digests that CHAP uses. Any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace perilune::crypto {

enum class HashAlgorithm : std::uint8_t { md5, sha1, sha256, sha3_256 };

[[nodiscard]] std::string_view to_string(HashAlgorithm algorithm) noexcept;  // "MD5", "SHA1", "SHA256",
                                                                             // "SHA3-256"
[[nodiscard]] constexpr std::size_t digest_size_bytes(HashAlgorithm algorithm) noexcept {
  switch (algorithm) {
    case HashAlgorithm::md5: return 16;
    case HashAlgorithm::sha1: return 20;
    case HashAlgorithm::sha256: return 32;
    case HashAlgorithm::sha3_256: return 32;
  }
  return 0;
}

struct HashValue {
  std::array<std::uint8_t, 32> data{};
  std::size_t size = 0;
  [[nodiscard]] Bytes bytes() const noexcept { return {data.data(), size}; }
};

// The digest of the parts one after another. Errc::unsupported when the system's OpenSSL refuses the
// algorithm (MD5 is asked for outside FIPS when the default refuses it: CHAP needs it).
[[nodiscard]] Result<HashValue> hash(HashAlgorithm algorithm, std::initializer_list<Bytes> parts);

}  // namespace perilune::crypto
