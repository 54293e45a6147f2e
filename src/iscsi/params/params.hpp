// SPDX-License-Identifier: Apache-2.0
// What a login negotiates, as plain values. Member names follow the keys of RFC 7143 section 13; lengths are
// bytes, times seconds; the initial values are the RFC's defaults, which hold for every key that neither side
// mentions.
#pragma once

#include <cstdint>
#include <vector>

#include "base/limits.hpp"

namespace perilune::iscsi {

enum class Role : std::uint8_t { initiator, target };
enum class SessionType : std::uint8_t { normal, discovery };
enum class Digest : std::uint8_t { none, crc32c };
enum class TaskReporting : std::uint8_t { rfc3720, response_fence, fast_abort };

// Session wide: the same on every connection of the session.
struct SessionParams {
  std::uint16_t max_connections = 1;
  bool initial_r2t = true;
  bool immediate_data = true;
  std::uint32_t max_burst_length = 262144;
  std::uint32_t first_burst_length = 65536;  // never above max_burst_length
  std::uint16_t default_time2wait = 2;
  std::uint16_t default_time2retain = 20;
  std::uint16_t max_outstanding_r2t = 1;
  bool data_pdu_in_order = true;
  bool data_sequence_in_order = true;
  std::uint8_t error_recovery_level = 0;
  TaskReporting task_reporting = TaskReporting::rfc3720;
  std::uint8_t protocol_level = 1;
  bool operator==(const SessionParams&) const = default;
};

// Of one connection. The digests begin with the first PDU after login.
struct ConnectionParams {
  bool header_digest = false;
  bool data_digest = false;
  std::uint32_t max_recv_data_segment_length = 8192;  // what we declared: the most that the peer may send us
                                                      // in one PDU
  std::uint32_t max_xmit_data_segment_length = 8192;  // what the peer declared: the most that we may send it
  bool operator==(const ConnectionParams&) const = default;
};

// What we want (initiator: what we offer; target: the most that we agree to). Each value must lie in the
// range of its key; check_wanted() tells.
struct WantedParams {
  std::uint16_t max_connections = 1;
  bool initial_r2t = false;
  bool immediate_data = true;
  std::uint32_t max_burst_length = 1048576;
  std::uint32_t first_burst_length = 65536;
  std::uint16_t default_time2wait = 2;
  std::uint16_t default_time2retain = 0;
  std::uint16_t max_outstanding_r2t = limits::max_outstanding_r2t;
  bool data_pdu_in_order = true;
  bool data_sequence_in_order = true;
  std::uint8_t error_recovery_level = 0;
  std::uint8_t protocol_level = 1;
  std::vector<TaskReporting> task_reporting = {TaskReporting::rfc3720};
  // Initiator: offered in this order. Target: what it accepts; the initiator's order decides.
  std::vector<Digest> header_digest = {Digest::none, Digest::crc32c};
  std::vector<Digest> data_digest = {Digest::none, Digest::crc32c};
  std::uint32_t max_recv_data_segment_length = limits::max_recv_data_segment_bytes;
};

}  // namespace perilune::iscsi
