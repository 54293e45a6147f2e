// SPDX-License-Identifier: Apache-2.0
#include "crypto/xts.hpp"

#include <openssl/evp.h>

#include <array>

#include "base/assert.hpp"
#include "crypto/secret.hpp"

namespace perilune::crypto {
namespace {

struct FreeCipher {
  void operator()(EVP_CIPHER* cipher) const noexcept { EVP_CIPHER_free(cipher); }
};

// Fetching is slow: once in the life of the process.
const EVP_CIPHER* aes_256_xts() {
  static const std::unique_ptr<EVP_CIPHER, FreeCipher> cipher(
      EVP_CIPHER_fetch(nullptr, "AES-256-XTS", nullptr));
  return cipher.get();
}

// The tweak of a data unit: its number, the least significant byte first (IEEE 1619 5.1).
std::array<std::uint8_t, 16> tweak_of(std::uint64_t number) noexcept {
  std::array<std::uint8_t, 16> tweak{};
  for (std::size_t i = 0; i < 8; ++i) tweak[i] = static_cast<std::uint8_t>(number >> (8 * i));
  return tweak;
}

}  // namespace

Result<std::unique_ptr<Xts>> Xts::create(Bytes key) {
  if (key.size() != key_bytes || constant_time_equal(key.first(key_bytes / 2), key.subspan(key_bytes / 2))) {
    return fail(Errc::invalid_argument, "AES-256-XTS: a key is 64 bytes, and its two halves differ");
  }
  const EVP_CIPHER* const cipher = aes_256_xts();
  if (cipher == nullptr)
    return fail(Errc::unsupported, "AES-256-XTS: the OpenSSL of this system does not have it");
  std::unique_ptr<Xts> self(new Xts);
  self->encrypting_ = EVP_CIPHER_CTX_new();
  self->decrypting_ = EVP_CIPHER_CTX_new();
  PERILUNE_ASSERT(self->encrypting_ != nullptr && self->decrypting_ != nullptr);
  if (EVP_EncryptInit_ex2(self->encrypting_, cipher, key.data(), nullptr, nullptr) != 1 ||
      EVP_DecryptInit_ex2(self->decrypting_, cipher, key.data(), nullptr, nullptr) != 1) {
    return fail(Errc::unsupported, "AES-256-XTS: the OpenSSL of this system refuses it");
  }
  return self;
}

Xts::~Xts() {
  EVP_CIPHER_CTX_free(encrypting_);
  EVP_CIPHER_CTX_free(decrypting_);
}

void Xts::encrypt(std::uint64_t number, Bytes in, std::uint8_t* out) noexcept {
  const auto tweak = tweak_of(number);
  const auto bytes = static_cast<int>(in.size());
  int made = 0;
  const bool good = EVP_EncryptInit_ex2(encrypting_, nullptr, nullptr, tweak.data(), nullptr) == 1 &&
                    EVP_EncryptUpdate(encrypting_, out, &made, in.data(), bytes) == 1;
  PERILUNE_ASSERT(good && made == bytes);
}

void Xts::decrypt(std::uint64_t number, Bytes in, std::uint8_t* out) noexcept {
  const auto tweak = tweak_of(number);
  const auto bytes = static_cast<int>(in.size());
  int made = 0;
  const bool good = EVP_DecryptInit_ex2(decrypting_, nullptr, nullptr, tweak.data(), nullptr) == 1 &&
                    EVP_DecryptUpdate(decrypting_, out, &made, in.data(), bytes) == 1;
  PERILUNE_ASSERT(good && made == bytes);
}

}  // namespace perilune::crypto
