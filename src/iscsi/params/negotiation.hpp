// SPDX-License-Identifier: Apache-2.0
// The negotiation of operational keys (RFC 7143 6.2, section 13), both roles, driven by the table in
// keys.hpp. Pure.
//
// Responder: a key that the peer offers is answered with the result. Offerer: a key that we offered is
// settled by the peer's answer, which must be one that the result function allows. Texts (names, aliases, …)
// and security keys are checked for sender, phase and repetition and otherwise left to the login machines.
//
// An offer out of range or that makes no sense is answered Reject and the key keeps its default; unknown keys
// are answered NotUnderstood; keys without meaning in a discovery session Irrelevant; the obsolete markers
// No, their intervals Reject. What breaks the protocol itself is an error: a key negotiated twice, by the
// wrong side or in the wrong phase, an answer to nothing.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "iscsi/params/keys.hpp"
#include "iscsi/params/params.hpp"
#include "iscsi/text/text.hpp"

namespace perilune::iscsi {

// Each value in the range of its key, lists not empty, FirstBurstLength not above MaxBurstLength.
[[nodiscard]] Status check_wanted(const WantedParams& wanted);

class Negotiation {
 public:
  Negotiation(Role role, SessionType session_type, bool leading_connection, const WantedParams& wanted);

  // The session type is known only after the first request's texts are read.
  void set_session_type(SessionType type) noexcept { session_type_ = type; }

  // Initiator: everything we want to say, once, for its first request of the operational stage.
  void offer_all(TextWriter& out);
  // Target: our own declarations, once; and offers for keys that the initiator did not mention although the
  // default would not do. True when offers were made: the stage cannot end before they are answered.
  void declare(TextWriter& out);
  bool offer_missing(TextWriter& out);
  [[nodiscard]] bool answers_outstanding() const noexcept;

  // The keys of one request or response, all its PDUs joined; phase is in_security or in_operational. Answers
  // go to `out`. Errc::protocol: the peer broke the protocol.
  Status receive(std::span<const KeyValue> keys, std::uint8_t phase, TextWriter& out);

  // What holds now.
  [[nodiscard]] SessionParams session() const noexcept;
  [[nodiscard]] ConnectionParams connection() const noexcept;

 private:
  enum class State : std::uint8_t { untouched, offered, settled };

  Status receive_one(const KeyValue& pair, std::uint8_t phase, std::string& answer);
  Status receive_text(const KeyRow& row, std::string_view value);
  Status receive_declared(const KeyRow& row, std::string_view value, std::string& answer);
  Status receive_answer(const KeyRow& row, std::string_view value);
  void receive_offer(const KeyRow& row, std::string_view value, std::string& answer);
  void offer(const KeyRow& row, TextWriter& out);

  [[nodiscard]] State& state(Key key) noexcept { return states_[static_cast<std::size_t>(key)]; }
  [[nodiscard]] std::uint32_t& value(Key key) noexcept { return values_[static_cast<std::size_t>(key)]; }
  [[nodiscard]] std::uint32_t value(Key key) const noexcept { return values_[static_cast<std::size_t>(key)]; }
  [[nodiscard]] std::uint32_t wanted(Key key) const noexcept {
    return wanted_[static_cast<std::size_t>(key)];
  }
  [[nodiscard]] const std::vector<std::uint8_t>& wanted_list(Key key) const noexcept;

  Role role_;
  SessionType session_type_;
  bool leading_;
  bool declared_ = false;  // our declarations are out: the peer may answer them with Reject, …
  std::array<State, value_key_count> states_{};
  std::array<std::uint32_t, value_key_count> values_{};  // of the peer for declared numbers, else the result
  std::array<std::uint32_t, value_key_count> wanted_{};
  std::vector<std::uint8_t> header_digests_, data_digests_, task_reportings_;
  std::map<Key, std::string> texts_;  // seen so far: may be repeated, not changed
};

}  // namespace perilune::iscsi
