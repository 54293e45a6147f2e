// SPDX-License-Identifier: Apache-2.0
#include "iscsi/login/initiator_chap.hpp"

#include <algorithm>
#include <string>

#include "base/limits.hpp"
#include "iscsi/params/keys.hpp"
#include "iscsi/text/values.hpp"

namespace perilune::iscsi {
namespace {

constexpr std::size_t max_digest_bytes = 32;

// Errc::protocol when the key is missing or comes twice.
Result<std::string_view> only_value(std::span<const KeyValue> keys, Key key) {
  std::optional<std::string_view> found;
  for (const KeyValue& pair : keys) {
    if (pair.key != row_of(key).name) continue;
    if (found) return fail(Errc::protocol, std::string(pair.key) + " comes twice");
    found = pair.value;
  }
  if (!found) return fail(Errc::protocol, std::string(row_of(key).name) + " is missing");
  return *found;
}

bool has(std::span<const KeyValue> keys, Key key) {
  return std::any_of(keys.begin(), keys.end(), [&](const KeyValue& p) { return p.key == row_of(key).name; });
}

tl::unexpected<Error> not_authentic(std::string message) {
  return fail(Errc::authentication, std::move(message));
}

}  // namespace

Status InitiatorChap::check() const {
  if (!policy_.account) {
    if (policy_.target_account)
      return fail(Errc::invalid_argument, "mutual CHAP needs an account of our own");
    if (policy_.require_chap) return fail(Errc::invalid_argument, "CHAP required, but no account configured");
    return {};
  }
  if (policy_.algorithms.empty()) return fail(Errc::invalid_argument, "no CHAP algorithm configured");
  if (policy_.target_account) return check_chap(*policy_.account, *policy_.target_account);
  return check_chap(*policy_.account);
}

bool InitiatorChap::none_will_do() const noexcept {
  return !policy_.require_chap && !policy_.target_account;
}

void InitiatorChap::offer_method(TextWriter& out) const {
  out.add(row_of(Key::auth_method).name, std::string_view(none_will_do() ? "CHAP,None" : "CHAP"));
}

bool InitiatorChap::may_transit() const noexcept {
  if (step_ == Step::method) return none_will_do();
  return step_ == Step::proof || step_ == Step::done;
}

Status InitiatorChap::receive(std::span<const KeyValue> keys, bool transit, TextWriter& out) {
  switch (step_) {
    case Step::method: return read_method(keys, transit, out);
    case Step::challenge: return answer_challenge(keys, out);
    case Step::proof: return check_proof(keys);
    case Step::done: break;
  }
  return {};
}

Status InitiatorChap::read_method(std::span<const KeyValue> keys, bool transit, TextWriter& out) {
  if (!has(keys, Key::auth_method)) {
    // A target that wants no authentication may say nothing about it and move on. It must not get around
    // ours.
    if (!transit) return fail(Errc::protocol, "the target did not answer AuthMethod");
    if (!none_will_do()) return not_authentic("the target skipped authentication");
    step_ = Step::done;
    return {};
  }
  const auto method = only_value(keys, Key::auth_method);
  if (!method) return tl::unexpected<Error>(method.error());
  if (*method == value_none && none_will_do()) {
    step_ = Step::done;
    return {};
  }
  if (*method != "CHAP") return not_authentic("no AuthMethod in common with the target");
  std::string list;
  for (const ChapAlgorithm algorithm : policy_.algorithms) {
    if (!list.empty()) list += ',';
    list += std::to_string(static_cast<unsigned>(algorithm));
  }
  out.add(row_of(Key::chap_a).name, std::string_view(list));
  step_ = Step::challenge;
  return {};
}

Status InitiatorChap::answer_challenge(std::span<const KeyValue> keys, TextWriter& out) {
  const auto algorithm_text = only_value(keys, Key::chap_a);
  if (!algorithm_text) return tl::unexpected<Error>(algorithm_text.error());
  if (*algorithm_text == value_reject) return not_authentic("no CHAP algorithm in common with the target");
  const auto id_text = only_value(keys, Key::chap_i);
  if (!id_text) return tl::unexpected<Error>(id_text.error());
  const auto challenge_text = only_value(keys, Key::chap_c);
  if (!challenge_text) return tl::unexpected<Error>(challenge_text.error());

  const auto number = parse_number(*algorithm_text);
  const auto algorithm = number ? chap_algorithm(*number) : std::nullopt;
  const auto& offered = policy_.algorithms;
  if (!algorithm || std::find(offered.begin(), offered.end(), *algorithm) == offered.end()) {
    return fail(Errc::protocol, "the target chose a CHAP algorithm that was not offered");
  }
  const auto id = parse_number(*id_text);
  const auto challenge = parse_binary(*challenge_text, limits::max_chap_challenge_bytes);
  if (!id || *id > 255) return fail(Errc::protocol, "malformed CHAP_I");
  if (!challenge) return fail(Errc::protocol, "malformed CHAP_C");

  const auto answer =
      chap_response(*algorithm, static_cast<std::uint8_t>(*id), policy_.account->secret, *challenge);
  if (!answer) return tl::unexpected<Error>(answer.error());
  out.add(row_of(Key::chap_n).name, std::string_view(policy_.account->name));
  out.add_hex(row_of(Key::chap_r).name, answer->bytes());
  if (policy_.target_account) {
    ours_ = ChapChallenge::make(*algorithm, random_);
    if (ours_.challenge == *challenge) return not_authentic("CHAP challenge reflected");
    out.add(row_of(Key::chap_i).name, ours_.id);
    out.add_hex(row_of(Key::chap_c).name, ours_.challenge);
  }
  used_chap_ = true;
  step_ = Step::proof;
  return {};
}

Status InitiatorChap::check_proof(std::span<const KeyValue> keys) {
  step_ = Step::done;
  if (!policy_.target_account) return {};
  const auto name = only_value(keys, Key::chap_n);
  const auto response_text = only_value(keys, Key::chap_r);
  if (!name || !response_text) return not_authentic("the target did not prove itself (mutual CHAP)");
  const auto response = parse_binary(*response_text, max_digest_bytes);
  const bool right = response && ours_.answered_by(*response, policy_.target_account->secret);
  if (!right || *name != policy_.target_account->name) {
    return not_authentic("the target's CHAP response is wrong (mutual CHAP)");
  }
  target_proved_ = true;
  return {};
}

}  // namespace perilune::iscsi
