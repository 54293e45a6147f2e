// SPDX-License-Identifier: Apache-2.0
// The one table of the text keys (RFC 7143 section 13; RFC 4850 and 7144 for one key each): what kind of value, which
// range and default, how the result is found, who may send it and when. Negotiation is derived from it.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace perilune::iscsi {

// Keys with a negotiated or declared number come first: the negotiation keeps one value for each of them.
enum class Key : std::uint8_t {
  header_digest,
  data_digest,
  max_connections,
  initial_r2t,
  immediate_data,
  max_recv_data_segment_length,
  max_burst_length,
  first_burst_length,
  default_time2wait,
  default_time2retain,
  max_outstanding_r2t,
  data_pdu_in_order,
  data_sequence_in_order,
  error_recovery_level,
  task_reporting,
  protocol_level,
  last_value = protocol_level,
  // Texts, which the login machines read themselves
  initiator_name,
  initiator_alias,
  target_name,
  target_alias,
  target_address,
  target_portal_group_tag,
  session_type,
  node_architecture,
  send_targets,
  // Authentication
  auth_method,
  chap_a,
  chap_i,
  chap_c,
  chap_n,
  chap_r,
  // Obsolete (RFC 7143 13.25)
  if_marker,
  of_marker,
  if_mark_int,
  of_mark_int,
};
inline constexpr std::size_t value_key_count = static_cast<std::size_t>(Key::last_value) + 1;

enum class KeyKind : std::uint8_t {
  boolean_or,
  boolean_and,
  minimum,
  maximum,
  list,              // the first of the offered that the responder takes
  declared_number,   // each side says its own
  declared_text,
  send_targets,
  security,
  obsolete_marker,   // answered No
  obsolete_interval  // answered Reject
};

inline constexpr std::uint8_t by_initiator = 1, by_target = 2, by_both = 3;
inline constexpr std::uint8_t in_security = 1, in_operational = 2, in_full_feature = 4, in_login = 3, in_all = 7;
inline constexpr bool leading_only = true, any_connection = false;
inline constexpr bool normal_only = true, any_session = false;

struct KeyRow {
  Key key;
  std::string_view name;
  KeyKind kind;
  std::uint32_t low = 0;      // numbers: range
  std::uint32_t high = 0;
  std::uint32_t initial = 0;  // numbers, booleans (0, 1) and lists (index into words): the default
  std::uint8_t senders = by_both;
  std::uint8_t phases = in_operational;
  bool leading = any_connection;  // LO: only on the leading connection
  bool normal = any_session;      // Irrelevant in a discovery session
  std::array<std::string_view, 3> words{};  // lists
};

inline constexpr std::array key_table = {
    KeyRow{Key::header_digest, "HeaderDigest", KeyKind::list, 0, 1, 0, by_both, in_operational, any_connection, any_session,
           {"None", "CRC32C"}},
    KeyRow{Key::data_digest, "DataDigest", KeyKind::list, 0, 1, 0, by_both, in_operational, any_connection, any_session,
           {"None", "CRC32C"}},
    KeyRow{Key::max_connections, "MaxConnections", KeyKind::minimum, 1, 65535, 1, by_both, in_operational, leading_only,
           normal_only},
    KeyRow{Key::initial_r2t, "InitialR2T", KeyKind::boolean_or, 0, 1, 1, by_both, in_operational, leading_only, normal_only},
    KeyRow{Key::immediate_data, "ImmediateData", KeyKind::boolean_and, 0, 1, 1, by_both, in_operational, leading_only,
           normal_only},
    KeyRow{Key::max_recv_data_segment_length, "MaxRecvDataSegmentLength", KeyKind::declared_number, 512, 0xffffff, 8192,
           by_both, in_operational | in_full_feature},
    KeyRow{Key::max_burst_length, "MaxBurstLength", KeyKind::minimum, 512, 0xffffff, 262144, by_both, in_operational,
           leading_only, normal_only},
    KeyRow{Key::first_burst_length, "FirstBurstLength", KeyKind::minimum, 512, 0xffffff, 65536, by_both, in_operational,
           leading_only, normal_only},
    KeyRow{Key::default_time2wait, "DefaultTime2Wait", KeyKind::maximum, 0, 3600, 2, by_both, in_operational, leading_only},
    KeyRow{Key::default_time2retain, "DefaultTime2Retain", KeyKind::minimum, 0, 3600, 20, by_both, in_operational,
           leading_only},
    KeyRow{Key::max_outstanding_r2t, "MaxOutstandingR2T", KeyKind::minimum, 1, 65535, 1, by_both, in_operational,
           leading_only, normal_only},
    KeyRow{Key::data_pdu_in_order, "DataPDUInOrder", KeyKind::boolean_or, 0, 1, 1, by_both, in_operational, leading_only,
           normal_only},
    KeyRow{Key::data_sequence_in_order, "DataSequenceInOrder", KeyKind::boolean_or, 0, 1, 1, by_both, in_operational,
           leading_only, normal_only},
    KeyRow{Key::error_recovery_level, "ErrorRecoveryLevel", KeyKind::minimum, 0, 2, 0, by_both, in_operational,
           leading_only},
    KeyRow{Key::task_reporting, "TaskReporting", KeyKind::list, 0, 2, 0, by_both, in_operational, leading_only, normal_only,
           {"RFC3720", "ResponseFence", "FastAbort"}},
    KeyRow{Key::protocol_level, "iSCSIProtocolLevel", KeyKind::minimum, 0, 31, 1, by_both, in_operational, leading_only,
           normal_only},

    KeyRow{Key::initiator_name, "InitiatorName", KeyKind::declared_text, 0, 0, 0, by_initiator, in_login},
    KeyRow{Key::initiator_alias, "InitiatorAlias", KeyKind::declared_text, 0, 0, 0, by_initiator, in_all},
    KeyRow{Key::target_name, "TargetName", KeyKind::declared_text, 0, 0, 0, by_both, in_all},
    KeyRow{Key::target_alias, "TargetAlias", KeyKind::declared_text, 0, 0, 0, by_target, in_all},
    KeyRow{Key::target_address, "TargetAddress", KeyKind::declared_text, 0, 0, 0, by_target, in_all},
    KeyRow{Key::target_portal_group_tag, "TargetPortalGroupTag", KeyKind::declared_text, 0, 0, 0, by_target, in_login},
    KeyRow{Key::session_type, "SessionType", KeyKind::declared_text, 0, 0, 0, by_initiator, in_login},
    KeyRow{Key::node_architecture, "X#NodeArchitecture", KeyKind::declared_text, 0, 0, 0, by_both, in_all},
    KeyRow{Key::send_targets, "SendTargets", KeyKind::send_targets, 0, 0, 0, by_initiator, in_full_feature},

    KeyRow{Key::auth_method, "AuthMethod", KeyKind::security, 0, 0, 0, by_both, in_security},
    KeyRow{Key::chap_a, "CHAP_A", KeyKind::security, 0, 0, 0, by_both, in_security},
    KeyRow{Key::chap_i, "CHAP_I", KeyKind::security, 0, 0, 0, by_both, in_security},
    KeyRow{Key::chap_c, "CHAP_C", KeyKind::security, 0, 0, 0, by_both, in_security},
    KeyRow{Key::chap_n, "CHAP_N", KeyKind::security, 0, 0, 0, by_both, in_security},
    KeyRow{Key::chap_r, "CHAP_R", KeyKind::security, 0, 0, 0, by_both, in_security},

    KeyRow{Key::if_marker, "IFMarker", KeyKind::obsolete_marker},
    KeyRow{Key::of_marker, "OFMarker", KeyKind::obsolete_marker},
    KeyRow{Key::if_mark_int, "IFMarkInt", KeyKind::obsolete_interval},
    KeyRow{Key::of_mark_int, "OFMarkInt", KeyKind::obsolete_interval},
};

// nullptr for a key that the table does not hold. Keys are case sensitive.
[[nodiscard]] constexpr const KeyRow* find_key(std::string_view name) noexcept {
  for (const KeyRow& row : key_table) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

namespace detail {
constexpr bool rows_stand_at_their_key() noexcept {
  for (std::size_t i = 0; i < key_table.size(); ++i) {
    if (static_cast<std::size_t>(key_table[i].key) != i) return false;
  }
  return true;
}
}  // namespace detail
static_assert(detail::rows_stand_at_their_key());

[[nodiscard]] constexpr const KeyRow& row_of(Key key) noexcept { return key_table[static_cast<std::size_t>(key)]; }

}  // namespace perilune::iscsi
