// SPDX-License-Identifier: Apache-2.0
// CHAP (RFC 1994 as RFC 7143 12.1.3 uses it): credentials, algorithms, the response calculation. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "base/delegate.hpp"
#include "base/result.hpp"
#include "crypto/hash.hpp"
#include "crypto/secret.hpp"

namespace perilune::iscsi {

// Fills the bytes from a cryptographic random source (the simulator: from its seed).
using RandomFill = Delegate<void(MutableBytes)>;

// CHAP_A, the numbers of the IANA registry "PPP Authentication Algorithms".
enum class ChapAlgorithm : std::uint8_t { md5 = 5, sha1 = 6, sha256 = 7, sha3_256 = 8 };
[[nodiscard]] std::optional<ChapAlgorithm> chap_algorithm(std::uint64_t number) noexcept;
[[nodiscard]] crypto::HashAlgorithm hash_of(ChapAlgorithm algorithm) noexcept;
// "MD5", "SHA1", "SHA256", "SHA3-256" (the words of iscsid.conf's chap_algs), any case.
[[nodiscard]] std::optional<ChapAlgorithm> chap_algorithm(std::string_view word) noexcept;
// Strongest first: what a target accepts (the initiator's order decides).
[[nodiscard]] std::vector<ChapAlgorithm> all_chap_algorithms();
// What an initiator offers unless told otherwise: SHA3-256, SHA1, MD5, SHA-256. SHA-256 comes last because
// tgt takes its number, 7, for SHA1 and then refuses the right answer; targets that know SHA-256 know
// SHA3-256 as well.
[[nodiscard]] std::vector<ChapAlgorithm> offered_chap_algorithms();

struct ChapCredentials {
  std::string name;       // CHAP_N, 1 to 255 bytes
  crypto::Secret secret;  // 12 to 255 bytes
  [[nodiscard]] ChapCredentials clone() const { return {name, secret.clone()}; }
};

// For configuration time: name and secret lengths (RFC 7143 9.2.1: at least 96 bits), and that the two
// directions do not share a secret. Errc::invalid_argument; messages never hold the secret.
[[nodiscard]] Status check_chap(const ChapCredentials& credentials);
[[nodiscard]] Status check_chap(const ChapCredentials& incoming, const ChapCredentials& outgoing);

// hash(id || secret || challenge)
[[nodiscard]] Result<crypto::HashValue> chap_response(ChapAlgorithm algorithm, std::uint8_t id,
                                                      const crypto::Secret& secret, Bytes challenge);

// A challenge that we sent and wait to see answered.
struct ChapChallenge {
  ChapAlgorithm algorithm = ChapAlgorithm::md5;
  std::uint8_t id = 0;
  std::vector<std::uint8_t> challenge;

  [[nodiscard]] static ChapChallenge make(ChapAlgorithm algorithm, RandomFill random);
  // In constant time; a wrong size is simply wrong.
  [[nodiscard]] bool answered_by(Bytes response, const crypto::Secret& secret) const;
};

}  // namespace perilune::iscsi
