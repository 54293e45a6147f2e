// SPDX-License-Identifier: Apache-2.0
// The SecurityNegotiation stage of a login, the target's side: AuthMethod and CHAP (RFC 7143 12.1, 12.1.3).
// Part of TargetLogin; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "iscsi/login/chap.hpp"
#include "iscsi/pdu/constants.hpp"
#include "iscsi/text/text.hpp"

namespace perilune::iscsi {

struct TargetChapPolicy {
  bool allow_none = true;
  std::vector<ChapCredentials> accounts;
  std::optional<ChapCredentials> target_account;
  std::vector<ChapAlgorithm> algorithms;
};

// Why the login ends. `status` goes to the peer, `reason` to the log only.
struct LoginRefusal {
  LoginStatus status;
  std::string reason;
};

class TargetChap {
 public:
  TargetChap(TargetChapPolicy policy, RandomFill random) : policy_(std::move(policy)), random_(random) {}

  // The keys of one complete request of the stage; `transit` is its T bit. Answers go to `out`.
  [[nodiscard]] std::optional<LoginRefusal> receive(std::span<const KeyValue> keys, bool transit,
                                                    TextWriter& out);
  // May the login leave the stage (or skip it, before any request was received)?
  [[nodiscard]] bool done() const noexcept { return step_ == Step::done; }
  [[nodiscard]] bool may_skip() const noexcept { return policy_.allow_none; }
  [[nodiscard]] const std::string& user() const noexcept { return user_; }

 private:
  enum class Step : std::uint8_t { method, algorithm, response, done };
  using Refusal = std::optional<LoginRefusal>;

  Refusal choose_method(std::span<const KeyValue> keys, bool transit, TextWriter& out);
  Refusal choose_algorithm(std::span<const KeyValue> keys, TextWriter& out);
  Refusal check_response(std::span<const KeyValue> keys, TextWriter& out);
  Refusal prove_ourselves(std::span<const KeyValue> keys, const ChapCredentials& peer, TextWriter& out);

  TargetChapPolicy policy_;
  RandomFill random_;
  Step step_ = Step::method;
  ChapChallenge challenge_;
  std::string user_;
};

}  // namespace perilune::iscsi
