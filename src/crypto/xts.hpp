// SPDX-License-Identifier: Apache-2.0
// AES-256 in XTS mode (IEEE 1619), which encrypts the blocks of a disk where they lie: as long as they were,
// each by itself, and the same data otherwise in every block. It hides what is stored; it does not tell
// whether somebody has changed it.
#pragma once

#include <openssl/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace perilune::crypto {

// One thread at a time.
class Xts {
 public:
  static constexpr std::size_t key_bytes = 64;       // two keys of AES-256
  static constexpr std::size_t min_unit_bytes = 16;  // of a data unit

  // Fails with invalid_argument (not key_bytes, or two halves that are the same), unsupported.
  [[nodiscard]] static Result<std::unique_ptr<Xts>> create(Bytes key);
  ~Xts();
  Xts(const Xts&) = delete;
  Xts& operator=(const Xts&) = delete;

  // Of the data unit with this number. `out` has as many bytes as `in`, at least min_unit_bytes of them, and
  // is the same memory or another.
  void encrypt(std::uint64_t number, Bytes in, std::uint8_t* out) noexcept;
  void decrypt(std::uint64_t number, Bytes in, std::uint8_t* out) noexcept;

 private:
  Xts() = default;

  EVP_CIPHER_CTX* encrypting_ = nullptr;
  EVP_CIPHER_CTX* decrypting_ = nullptr;
};

}  // namespace perilune::crypto
