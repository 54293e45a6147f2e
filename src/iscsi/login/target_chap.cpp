// SPDX-License-Identifier: Apache-2.0
#include "iscsi/login/target_chap.hpp"

#include <algorithm>

#include "base/limits.hpp"
#include "iscsi/params/keys.hpp"
#include "iscsi/text/values.hpp"

namespace perilune::iscsi {
namespace {

constexpr std::size_t max_list_items = 64;
constexpr std::size_t max_digest_bytes = 32;

LoginRefusal not_authentic(std::string reason) {
  return {LoginStatus::authentication_failure, std::move(reason)};
}
LoginRefusal misbehaved(std::string reason) { return {LoginStatus::initiator_error, std::move(reason)}; }

std::optional<std::string_view> value_of(std::span<const KeyValue> keys, Key key) {
  const auto found =
      std::find_if(keys.begin(), keys.end(), [&](const KeyValue& p) { return p.key == row_of(key).name; });
  if (found == keys.end()) return std::nullopt;
  return found->value;
}

bool is_security_key(const KeyValue& pair) noexcept {
  const KeyRow* row = find_key(pair.key);
  return row != nullptr && row->kind == KeyKind::security;
}

bool has_repeated_security_key(std::span<const KeyValue> keys) {
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (!is_security_key(keys[i])) continue;
    for (std::size_t j = 0; j < i; ++j) {
      if (keys[j].key == keys[i].key) return true;
    }
  }
  return false;
}

}  // namespace

TargetChap::Refusal TargetChap::receive(std::span<const KeyValue> keys, bool transit, TextWriter& out) {
  if (has_repeated_security_key(keys)) return misbehaved("a security key comes twice in one request");
  switch (step_) {
    case Step::method: return choose_method(keys, transit, out);
    case Step::algorithm: return choose_algorithm(keys, out);
    case Step::response: return check_response(keys, out);
    case Step::done: break;
  }
  if (std::any_of(keys.begin(), keys.end(), is_security_key))
    return misbehaved("security key after authentication");
  return std::nullopt;
}

TargetChap::Refusal TargetChap::choose_method(std::span<const KeyValue> keys, bool transit, TextWriter& out) {
  const auto offered = value_of(keys, Key::auth_method);
  if (!offered) {
    if (std::any_of(keys.begin(), keys.end(), is_security_key))
      return misbehaved("CHAP key before AuthMethod");
    if (!transit) return std::nullopt;  // nothing said yet, nothing asked yet
    if (!policy_.allow_none) return not_authentic("no AuthMethod offered, CHAP required");
    step_ = Step::done;
    return std::nullopt;
  }
  const auto items =
      offered->size() <= max_simple_value_bytes ? parse_list(*offered, max_list_items) : std::nullopt;
  if (!items) return misbehaved("AuthMethod is not a list");
  for (const std::string_view item : *items) {
    const bool chap = item == "CHAP" && !policy_.accounts.empty();
    const bool none = item == value_none && policy_.allow_none;
    if (!chap && !none) continue;
    out.add(row_of(Key::auth_method).name, item);
    step_ = chap ? Step::algorithm : Step::done;
    return std::nullopt;
  }
  return not_authentic("no acceptable AuthMethod offered");
}

TargetChap::Refusal TargetChap::choose_algorithm(std::span<const KeyValue> keys, TextWriter& out) {
  const auto offered = value_of(keys, Key::chap_a);
  if (!offered) return not_authentic("CHAP_A is missing");
  if (value_of(keys, Key::auth_method)) return misbehaved("AuthMethod negotiated twice");
  const auto items =
      offered->size() <= max_simple_value_bytes ? parse_list(*offered, max_list_items) : std::nullopt;
  if (!items) return not_authentic("CHAP_A is not a list");
  for (const std::string_view item : *items) {
    const auto number = parse_number(item);
    const auto algorithm = number ? chap_algorithm(*number) : std::nullopt;
    const auto& ours = policy_.algorithms;
    if (!algorithm || std::find(ours.begin(), ours.end(), *algorithm) == ours.end()) continue;
    challenge_ = ChapChallenge::make(*algorithm, random_);
    out.add(row_of(Key::chap_a).name, *number);
    out.add(row_of(Key::chap_i).name, challenge_.id);
    out.add_hex(row_of(Key::chap_c).name, challenge_.challenge);
    step_ = Step::response;
    return std::nullopt;
  }
  return not_authentic("no acceptable CHAP_A offered");
}

TargetChap::Refusal TargetChap::check_response(std::span<const KeyValue> keys, TextWriter& out) {
  if (value_of(keys, Key::auth_method) || value_of(keys, Key::chap_a)) return misbehaved("CHAP restarted");
  const auto name = value_of(keys, Key::chap_n);
  const auto response_text = value_of(keys, Key::chap_r);
  if (!name || !response_text) return not_authentic("CHAP_N or CHAP_R is missing");
  const auto response = parse_binary(*response_text, max_digest_bytes);
  if (!response) return not_authentic("CHAP_R is malformed");

  // The same work for a user that does not exist as for one with another password.
  static const ChapCredentials nobody{"", crypto::Secret(std::string_view("no such user here"))};
  const ChapCredentials* account = nullptr;
  for (const ChapCredentials& candidate : policy_.accounts) {
    if (candidate.name == *name) account = &candidate;
  }
  const bool right = challenge_.answered_by(*response, (account != nullptr ? *account : nobody).secret);
  if (account == nullptr || !right) return not_authentic("wrong CHAP name or response");
  if (auto refused = prove_ourselves(keys, *account, out)) return refused;
  user_ = account->name;
  step_ = Step::done;
  return std::nullopt;
}

TargetChap::Refusal TargetChap::prove_ourselves(std::span<const KeyValue> keys, const ChapCredentials& peer,
                                                TextWriter& out) {
  const auto id_text = value_of(keys, Key::chap_i);
  const auto challenge_text = value_of(keys, Key::chap_c);
  if (!id_text && !challenge_text) return std::nullopt;  // one-way
  if (!id_text || !challenge_text) return not_authentic("CHAP_I without CHAP_C, or the other way round");
  const auto id = parse_number(*id_text);
  const auto challenge = parse_binary(*challenge_text, limits::max_chap_challenge_bytes);
  if (!id || *id > 255 || !challenge) return not_authentic("CHAP_I or CHAP_C is malformed");
  if (!policy_.target_account) return not_authentic("mutual CHAP asked for, but none is configured");
  // RFC 7143 9.2.1: our own challenge sent back would make us compute the answer we wait for.
  if (*challenge == challenge_.challenge) return not_authentic("CHAP challenge reflected");
  const ChapCredentials& ours = *policy_.target_account;
  if (ours.secret.equals(peer.secret)) return not_authentic("the two directions share a CHAP secret");
  const auto answer =
      chap_response(challenge_.algorithm, static_cast<std::uint8_t>(*id), ours.secret, *challenge);
  if (!answer) return LoginRefusal{LoginStatus::target_error, answer.error().message};
  out.add(row_of(Key::chap_n).name, std::string_view(ours.name));
  out.add_hex(row_of(Key::chap_r).name, answer->bytes());
  return std::nullopt;
}

}  // namespace perilune::iscsi
