// SPDX-License-Identifier: Apache-2.0
// The SecurityNegotiation stage of a login, the initiator's side: AuthMethod and CHAP, one-way and mutual
// (RFC 7143 12.1.3). Part of InitiatorLogin; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "iscsi/login/chap.hpp"
#include "iscsi/text/text.hpp"

namespace perilune::iscsi {

struct InitiatorChapPolicy {
  std::optional<ChapCredentials> account;
  std::optional<ChapCredentials> target_account;
  bool require_chap = false;
  std::vector<ChapAlgorithm> algorithms;
};

class InitiatorChap {
 public:
  InitiatorChap(InitiatorChapPolicy policy, RandomFill random)
      : policy_(std::move(policy)), random_(random) {}

  // Lengths, different secrets, at least one algorithm.
  [[nodiscard]] Status check() const;
  // Without an account of our own there is nothing to negotiate, and the stage is skipped.
  [[nodiscard]] bool wanted() const noexcept { return policy_.account.has_value(); }
  void offer_method(TextWriter& out) const;
  // The keys of one complete response; `transit` is its T bit. What to say next goes to `out`.
  // Errc::authentication or protocol when the login has to end; done() when nothing is left to say.
  [[nodiscard]] Status receive(std::span<const KeyValue> keys, bool transit, TextWriter& out);
  // May our next request carry the T bit?
  [[nodiscard]] bool may_transit() const noexcept;
  [[nodiscard]] bool done() const noexcept { return step_ == Step::done; }
  [[nodiscard]] bool used_chap() const noexcept { return used_chap_; }
  [[nodiscard]] bool target_proved() const noexcept { return target_proved_; }

 private:
  enum class Step : std::uint8_t { method, challenge, proof, done };
  [[nodiscard]] bool none_will_do() const noexcept;
  [[nodiscard]] Status read_method(std::span<const KeyValue> keys, bool transit, TextWriter& out);
  [[nodiscard]] Status answer_challenge(std::span<const KeyValue> keys, TextWriter& out);
  [[nodiscard]] Status check_proof(std::span<const KeyValue> keys);

  InitiatorChapPolicy policy_;
  RandomFill random_;
  Step step_ = Step::method;
  ChapChallenge ours_;  // mutual
  bool used_chap_ = false;
  bool target_proved_ = false;
};

}  // namespace perilune::iscsi
