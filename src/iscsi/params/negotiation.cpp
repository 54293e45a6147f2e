// SPDX-License-Identifier: Apache-2.0
#include "iscsi/params/negotiation.hpp"

#include <algorithm>

#include "iscsi/text/values.hpp"

namespace perilune::iscsi {
namespace {

constexpr std::size_t max_list_items = 64;

bool is_constant_answer(std::string_view value) noexcept {
  return value == value_reject || value == value_irrelevant || value == value_not_understood;
}

tl::unexpected<Error> broke_protocol(std::string_view key, std::string_view what) {
  return fail(Errc::protocol, std::string(key) + ": " + std::string(what));
}

std::string spell(const KeyRow& row, std::uint32_t value) {
  if (row.kind == KeyKind::boolean_or || row.kind == KeyKind::boolean_and) return value != 0 ? "Yes" : "No";
  if (row.kind == KeyKind::list) return std::string(row.words[value]);
  return std::to_string(value);
}

std::optional<std::uint32_t> parse_value(const KeyRow& row, std::string_view text) {
  if (text.size() > max_simple_value_bytes) return std::nullopt;
  if (row.kind == KeyKind::boolean_or || row.kind == KeyKind::boolean_and) {
    const auto yes = parse_boolean(text);
    if (!yes) return std::nullopt;
    return *yes ? 1u : 0u;
  }
  if (row.kind == KeyKind::list) {
    for (std::uint32_t i = row.low; i <= row.high; ++i) {
      if (row.words[i] == text) return i;
    }
    return std::nullopt;
  }
  const auto number = parse_number(text);
  if (!number || *number < row.low || *number > row.high) return std::nullopt;
  return static_cast<std::uint32_t>(*number);
}

std::uint32_t result_of(KeyKind kind, std::uint32_t offered, std::uint32_t ours) noexcept {
  switch (kind) {
    case KeyKind::boolean_or:
    case KeyKind::maximum: return std::max(offered, ours);
    case KeyKind::boolean_and:
    case KeyKind::minimum: return std::min(offered, ours);
    default: return offered;
  }
}

// What we must not leave at the default when our own limit is lower. The others (times, recovery) do no harm,
// and every round that a login does not need is one that some initiator stumbles over.
bool bounds_our_memory(Key key) noexcept {
  return key == Key::initial_r2t || key == Key::immediate_data || key == Key::max_burst_length ||
         key == Key::first_burst_length;
}

template <class T>
std::vector<std::uint8_t> as_indices(const std::vector<T>& values) {
  std::vector<std::uint8_t> out;
  for (const T value : values) out.push_back(static_cast<std::uint8_t>(value));
  return out;
}

}  // namespace

Negotiation::Negotiation(Role role, SessionType session_type, bool leading_connection, const WantedParams& w)
    : role_(role),
      session_type_(session_type),
      leading_(leading_connection),
      header_digests_(as_indices(w.header_digest)),
      data_digests_(as_indices(w.data_digest)),
      task_reportings_(as_indices(w.task_reporting)) {
  for (std::size_t i = 0; i < value_key_count; ++i) values_[i] = key_table[i].initial;
  const auto want = [this](Key key, std::uint32_t number) {
    wanted_[static_cast<std::size_t>(key)] = number;
  };
  want(Key::max_connections, w.max_connections);
  want(Key::initial_r2t, w.initial_r2t ? 1 : 0);
  want(Key::immediate_data, w.immediate_data ? 1 : 0);
  want(Key::max_recv_data_segment_length, w.max_recv_data_segment_length);
  want(Key::max_burst_length, w.max_burst_length);
  want(Key::first_burst_length, w.first_burst_length);
  want(Key::default_time2wait, w.default_time2wait);
  want(Key::default_time2retain, w.default_time2retain);
  want(Key::max_outstanding_r2t, w.max_outstanding_r2t);
  want(Key::data_pdu_in_order, w.data_pdu_in_order ? 1 : 0);
  want(Key::data_sequence_in_order, w.data_sequence_in_order ? 1 : 0);
  want(Key::error_recovery_level, w.error_recovery_level);
  want(Key::protocol_level, w.protocol_level);
}

const std::vector<std::uint8_t>& Negotiation::wanted_list(Key key) const noexcept {
  if (key == Key::header_digest) return header_digests_;
  return key == Key::data_digest ? data_digests_ : task_reportings_;
}

void Negotiation::offer(const KeyRow& row, TextWriter& out) {
  if (row.kind == KeyKind::list) {
    std::string list;
    for (const std::uint8_t item : wanted_list(row.key)) {
      if (!list.empty()) list += ',';
      list += row.words[item];
    }
    out.add(row.name, std::string_view(list));
  } else {
    out.add(row.name, std::string_view(spell(row, wanted(row.key))));
  }
  if (row.kind != KeyKind::declared_number) state(row.key) = State::offered;
}

void Negotiation::offer_all(TextWriter& out) {
  for (std::size_t i = 0; i < value_key_count; ++i) {
    const KeyRow& row = key_table[i];
    if (row.normal && session_type_ == SessionType::discovery) continue;
    if (row.leading && !leading_) continue;
    // Younger keys that older targets do not know: only when we want something else than the default.
    if (row.key == Key::protocol_level && wanted(row.key) == row.initial) continue;
    if (row.key == Key::task_reporting && wanted_list(row.key) == std::vector<std::uint8_t>{0}) continue;
    offer(row, out);
  }
  declared_ = true;
}

void Negotiation::declare(TextWriter& out) {
  if (declared_) return;
  declared_ = true;
  offer(row_of(Key::max_recv_data_segment_length), out);
}

bool Negotiation::offer_missing(TextWriter& out) {
  bool offered = false;
  for (std::size_t i = 0; i < value_key_count; ++i) {
    const KeyRow& row = key_table[i];
    if (!bounds_our_memory(row.key) || states_[i] != State::untouched) continue;
    if ((row.normal && session_type_ == SessionType::discovery) || (row.leading && !leading_)) continue;
    const bool default_will_do = result_of(row.kind, row.initial, wanted_[i]) == row.initial;
    const bool above_burst = row.key == Key::first_burst_length && values_[i] > value(Key::max_burst_length);
    if (default_will_do && !above_burst) continue;
    if (above_burst) wanted_[i] = std::min(wanted_[i], value(Key::max_burst_length));
    offer(row, out);
    offered = true;
  }
  return offered;
}

bool Negotiation::answers_outstanding() const noexcept {
  return std::find(states_.begin(), states_.end(), State::offered) != states_.end();
}

Status Negotiation::receive(std::span<const KeyValue> keys, std::uint8_t phase, TextWriter& out) {
  std::vector<std::string> answers(keys.size());
  // FirstBurstLength's result depends on MaxBurstLength's, whichever comes first in the text.
  const auto depends = [](const KeyValue& pair) { return pair.key == row_of(Key::first_burst_length).name; };
  for (const bool second_pass : {false, true}) {
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (depends(keys[i]) != second_pass) continue;
      if (auto ok = receive_one(keys[i], phase, answers[i]); !ok) return ok;
    }
  }
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (!answers[i].empty()) out.add(keys[i].key, std::string_view(answers[i]));
  }
  return {};
}

Status Negotiation::receive_one(const KeyValue& pair, std::uint8_t phase, std::string& answer) {
  const KeyRow* row = find_key(pair.key);
  if (row == nullptr) {
    if (is_constant_answer(pair.value))
      return broke_protocol(pair.key, "answer to a key that was not offered");
    answer = value_not_understood;
    return {};
  }
  const std::uint8_t sender = role_ == Role::target ? by_initiator : by_target;
  const bool answers_us = (row->senders & sender) == 0 && is_constant_answer(pair.value);
  if (answers_us) return {};  // to a declaration of ours
  if ((row->senders & sender) == 0) return broke_protocol(row->name, "sent by the wrong side");
  if ((row->phases & phase) == 0) return broke_protocol(row->name, "not allowed in this stage");
  switch (row->kind) {
    case KeyKind::declared_text: return receive_text(*row, pair.value);
    case KeyKind::security: return {};
    case KeyKind::send_targets: return broke_protocol(row->name, "not allowed in this stage");
    case KeyKind::obsolete_marker:
      if (!is_constant_answer(pair.value)) answer = "No";
      return {};
    case KeyKind::obsolete_interval:
      if (!is_constant_answer(pair.value)) answer = value_reject;
      return {};
    case KeyKind::declared_number: return receive_declared(*row, pair.value, answer);
    default: break;
  }
  switch (state(row->key)) {
    case State::settled: return broke_protocol(row->name, "negotiated twice");
    case State::offered: return receive_answer(*row, pair.value);
    case State::untouched: break;
  }
  if (is_constant_answer(pair.value))
    return broke_protocol(row->name, "answer to a key that was not offered");
  receive_offer(*row, pair.value, answer);
  return {};
}

Status Negotiation::receive_text(const KeyRow& row, std::string_view text) {
  if (text.size() > max_simple_value_bytes) return broke_protocol(row.name, "longer than 255 bytes");
  if (row.key == Key::target_address) return {};  // a redirect may name several
  const auto [place, added] = texts_.try_emplace(row.key, text);
  // Initiators in the field say their names again in each stage; what they must not do is change them.
  if (!added && place->second != text)
    return broke_protocol(row.name, "declared twice with different values");
  return {};
}

Status Negotiation::receive_declared(const KeyRow& row, std::string_view text, std::string& answer) {
  if (is_constant_answer(text)) {
    return declared_ ? Status{} : Status(broke_protocol(row.name, "answer to a key that was not offered"));
  }
  if (state(row.key) == State::settled) return broke_protocol(row.name, "declared twice");
  state(row.key) = State::settled;
  if (const auto number = parse_value(row, text)) value(row.key) = *number;
  else answer = value_reject;
  return {};
}

void Negotiation::receive_offer(const KeyRow& row, std::string_view text, std::string& answer) {
  if (row.normal && session_type_ == SessionType::discovery) {
    answer = value_irrelevant;
    return;
  }
  state(row.key) = State::settled;
  answer = value_reject;
  if (row.leading && !leading_) return;
  if (row.kind == KeyKind::list) {
    const auto items = parse_list(text.substr(0, std::min(text.size(), std::size_t{1024})), max_list_items);
    if (!items) return;
    for (const std::string_view item : *items) {
      const auto index = parse_value(row, item);
      const auto& ours = wanted_list(row.key);
      if (!index || std::find(ours.begin(), ours.end(), *index) == ours.end()) continue;
      value(row.key) = *index;
      answer = spell(row, *index);
      return;
    }
    return;
  }
  const auto offered = parse_value(row, text);
  if (!offered) return;
  std::uint32_t result = result_of(row.kind, *offered, wanted(row.key));
  if (row.key == Key::first_burst_length) result = std::min(result, value(Key::max_burst_length));
  value(row.key) = result;
  answer = spell(row, result);
}

Status Negotiation::receive_answer(const KeyRow& row, std::string_view text) {
  state(row.key) = State::settled;
  if (is_constant_answer(text)) return {};  // the key keeps its default
  const auto chosen = parse_value(row, text);
  if (!chosen) return broke_protocol(row.name, "answered with a value out of range");
  if (row.kind == KeyKind::list) {
    const auto& ours = wanted_list(row.key);
    if (std::find(ours.begin(), ours.end(), *chosen) == ours.end()) {
      return broke_protocol(row.name, "answered with a value that was not offered");
    }
  } else if (result_of(row.kind, *chosen, wanted(row.key)) != *chosen) {
    return broke_protocol(row.name, "answered with a result that the offer does not allow");
  }
  value(row.key) = *chosen;
  return {};
}

SessionParams Negotiation::session() const noexcept {
  SessionParams p;
  p.max_connections = static_cast<std::uint16_t>(value(Key::max_connections));
  p.initial_r2t = value(Key::initial_r2t) != 0;
  p.immediate_data = value(Key::immediate_data) != 0;
  p.max_burst_length = value(Key::max_burst_length);
  p.first_burst_length = std::min(value(Key::first_burst_length), p.max_burst_length);
  p.default_time2wait = static_cast<std::uint16_t>(value(Key::default_time2wait));
  p.default_time2retain = static_cast<std::uint16_t>(value(Key::default_time2retain));
  p.max_outstanding_r2t = static_cast<std::uint16_t>(value(Key::max_outstanding_r2t));
  p.data_pdu_in_order = value(Key::data_pdu_in_order) != 0;
  p.data_sequence_in_order = value(Key::data_sequence_in_order) != 0;
  p.error_recovery_level = static_cast<std::uint8_t>(value(Key::error_recovery_level));
  p.task_reporting = static_cast<TaskReporting>(value(Key::task_reporting));
  p.protocol_level = static_cast<std::uint8_t>(value(Key::protocol_level));
  return p;
}

ConnectionParams Negotiation::connection() const noexcept {
  ConnectionParams p;
  p.header_digest = value(Key::header_digest) == static_cast<std::uint32_t>(Digest::crc32c);
  p.data_digest = value(Key::data_digest) == static_cast<std::uint32_t>(Digest::crc32c);
  p.max_xmit_data_segment_length = value(Key::max_recv_data_segment_length);
  if (declared_) p.max_recv_data_segment_length = wanted(Key::max_recv_data_segment_length);
  return p;
}

Status check_wanted(const WantedParams& wanted) {
  const auto in_range = [](Key key, std::uint32_t value) {
    return value >= row_of(key).low && value <= row_of(key).high;
  };
  const struct {
    Key key;
    std::uint32_t value;
  } numbers[] = {
      {Key::max_connections, wanted.max_connections},
      {Key::max_recv_data_segment_length, wanted.max_recv_data_segment_length},
      {Key::max_burst_length, wanted.max_burst_length},
      {Key::first_burst_length, wanted.first_burst_length},
      {Key::default_time2wait, wanted.default_time2wait},
      {Key::default_time2retain, wanted.default_time2retain},
      {Key::max_outstanding_r2t, wanted.max_outstanding_r2t},
      {Key::error_recovery_level, wanted.error_recovery_level},
      {Key::protocol_level, wanted.protocol_level},
  };
  for (const auto& [key, value] : numbers) {
    const KeyRow& row = row_of(key);
    if (in_range(key, value)) continue;
    return fail(Errc::invalid_argument, std::string(row.name) + " must be " + std::to_string(row.low) +
                                            " to " + std::to_string(row.high));
  }
  if (wanted.first_burst_length > wanted.max_burst_length) {
    return fail(Errc::invalid_argument, "FirstBurstLength must not exceed MaxBurstLength");
  }
  if (wanted.header_digest.empty() || wanted.data_digest.empty() || wanted.task_reporting.empty()) {
    return fail(Errc::invalid_argument, "a digest or TaskReporting list is empty");
  }
  return {};
}

}  // namespace perilune::iscsi
