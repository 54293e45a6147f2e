// SPDX-License-Identifier: Apache-2.0
#include "crypto/secret.hpp"

#include <openssl/crypto.h>

#include <cstring>
#include <utility>

namespace perilune::crypto {

bool constant_time_equal(Bytes a, Bytes b) noexcept {
  if (a.size() != b.size()) return false;
  return a.empty() || CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

void wipe(MutableBytes bytes) noexcept {
  if (!bytes.empty()) OPENSSL_cleanse(bytes.data(), bytes.size());
}

Secret::Secret(Bytes bytes) : size_(bytes.size()) {
  if (size_ == 0) return;
  bytes_ = std::make_unique<std::uint8_t[]>(size_);
  std::memcpy(bytes_.get(), bytes.data(), size_);
}

Secret::~Secret() { wipe({bytes_.get(), size_}); }

Secret::Secret(Secret&& other) noexcept
    : bytes_(std::move(other.bytes_)), size_(std::exchange(other.size_, 0)) {}

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this == &other) return *this;
  wipe({bytes_.get(), size_});
  bytes_ = std::move(other.bytes_);
  size_ = std::exchange(other.size_, 0);
  return *this;
}

}  // namespace perilune::crypto
