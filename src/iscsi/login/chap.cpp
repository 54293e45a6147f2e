// SPDX-License-Identifier: Apache-2.0
#include "iscsi/login/chap.hpp"

#include <algorithm>

#include "base/limits.hpp"

namespace perilune::iscsi {
namespace {

constexpr std::size_t max_chap_name_bytes = 255;

bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return (x | 0x20) == (y | 0x20); });
}

}  // namespace

std::optional<ChapAlgorithm> chap_algorithm(std::uint64_t number) noexcept {
  if (number < 5 || number > 8) return std::nullopt;
  return static_cast<ChapAlgorithm>(number);
}

crypto::HashAlgorithm hash_of(ChapAlgorithm algorithm) noexcept {
  switch (algorithm) {
    case ChapAlgorithm::md5: return crypto::HashAlgorithm::md5;
    case ChapAlgorithm::sha1: return crypto::HashAlgorithm::sha1;
    case ChapAlgorithm::sha256: return crypto::HashAlgorithm::sha256;
    case ChapAlgorithm::sha3_256: return crypto::HashAlgorithm::sha3_256;
  }
  return crypto::HashAlgorithm::sha256;
}

std::optional<ChapAlgorithm> chap_algorithm(std::string_view word) noexcept {
  for (const ChapAlgorithm algorithm : {ChapAlgorithm::md5, ChapAlgorithm::sha1, ChapAlgorithm::sha256,
                                        ChapAlgorithm::sha3_256}) {
    if (equal_ignoring_case(word, crypto::to_string(hash_of(algorithm)))) return algorithm;
  }
  return std::nullopt;
}

std::vector<ChapAlgorithm> all_chap_algorithms() {
  return {ChapAlgorithm::sha3_256, ChapAlgorithm::sha256, ChapAlgorithm::sha1, ChapAlgorithm::md5};
}

std::vector<ChapAlgorithm> offered_chap_algorithms() {
  return {ChapAlgorithm::sha3_256, ChapAlgorithm::sha1, ChapAlgorithm::md5, ChapAlgorithm::sha256};
}

Status check_chap(const ChapCredentials& credentials) {
  if (credentials.name.empty() || credentials.name.size() > max_chap_name_bytes) {
    return fail(Errc::invalid_argument, "CHAP name must have 1 to 255 bytes");
  }
  if (credentials.name.find('\0') != std::string::npos)
    return fail(Errc::invalid_argument, "CHAP name holds a NUL");
  if (credentials.secret.size() < limits::min_chap_secret_bytes ||
      credentials.secret.size() > limits::max_chap_secret_bytes) {
    return fail(Errc::invalid_argument, "CHAP secret must have 12 to 255 bytes");
  }
  return {};
}

Status check_chap(const ChapCredentials& incoming, const ChapCredentials& outgoing) {
  if (auto ok = check_chap(incoming); !ok) return ok;
  if (auto ok = check_chap(outgoing); !ok) return ok;
  if (incoming.secret.equals(outgoing.secret)) {
    return fail(Errc::invalid_argument, "CHAP secrets of the two directions must differ");
  }
  return {};
}

Result<crypto::HashValue> chap_response(ChapAlgorithm algorithm, std::uint8_t id,
                                        const crypto::Secret& secret, Bytes challenge) {
  return crypto::hash(hash_of(algorithm), {Bytes(&id, 1), secret.reveal(), challenge});
}

ChapChallenge ChapChallenge::make(ChapAlgorithm algorithm, RandomFill random) {
  ChapChallenge made;
  made.algorithm = algorithm;
  // As long as the digest (16 bytes and up): what every initiator in the field takes.
  made.challenge.resize(crypto::digest_size_bytes(hash_of(algorithm)));
  random(made.challenge);
  random(MutableBytes(&made.id, 1));
  return made;
}

bool ChapChallenge::answered_by(Bytes response, const crypto::Secret& secret) const {
  const auto expected = chap_response(algorithm, id, secret, challenge);
  return expected && crypto::constant_time_equal(expected->bytes(), response);
}

}  // namespace perilune::iscsi
