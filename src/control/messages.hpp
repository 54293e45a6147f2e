// SPDX-License-Identifier: Apache-2.0
// What iscsiadm and iscsid say to each other, as values, and their JSON. Reading a value from JSON never
// throws: a message that is not what it should be is an Error (the two may be of different versions).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.hpp"
#include "config/record.hpp"

namespace perilune::control {

using Json = nlohmann::json;

// A record travels as {"key": "value", ...}, unknown keys too; secrets in clear (the socket is 0600 and
// local).
[[nodiscard]] Json record_to_json(const config::Record& record);
[[nodiscard]] Result<config::Record> record_from_json(config::RecordKind kind, const Json& json);

struct DeviceView {
  std::uint64_t lun = 0;      // the number
  std::string disk;           // "loop0"; empty when the unit is not attached
  std::string state;          // running, starting, failed, detaching
  std::string kind;           // "disk" for a unit that can be attached
};

struct SessionView {
  std::uint32_t sid = 0;
  config::Record node{config::RecordKind::node};
  int tpgt = 1;                    // as the target said it
  std::string current_address;     // numeric
  std::uint16_t current_port = 0;
  std::string initiator_name;
  std::string local_address;
  std::string connection_state;    // LOGGED IN, TRANSPORT WAIT, FREE
  std::string session_state;       // LOGGED_IN, FAILED, FREE
  std::string internal_state;      // NO CHANGE, REOPEN, REPOEN
  bool header_digest = false;
  bool data_digest = false;
  bool immediate_data = true;
  bool initial_r2t = false;
  std::uint32_t max_recv_data_segment_length = 0;
  std::uint32_t max_xmit_data_segment_length = 0;
  std::uint32_t first_burst_length = 0;
  std::uint32_t max_burst_length = 0;
  std::uint32_t max_outstanding_r2t = 1;
  std::uint32_t error_recovery_level = 0;
  std::uint32_t max_connections = 1;
  std::uint32_t default_time2wait = 2;
  std::uint32_t default_time2retain = 0;
  std::vector<std::uint16_t> connections;  // CIDs of those that are logged in
  std::vector<DeviceView> devices;
  std::vector<std::pair<std::string, std::uint64_t>> snmp;      // statistics, in the order of printing
  std::vector<std::pair<std::string, std::uint64_t>> extended;
};

[[nodiscard]] Json session_to_json(const SessionView& session);
[[nodiscard]] Result<SessionView> session_from_json(const Json& json);

struct FoundPortal {
  std::string address;
  std::uint16_t port = 3260;
  int tpgt = 1;
};
struct FoundTarget {
  std::string name;
  std::vector<FoundPortal> portals;
};
[[nodiscard]] Json targets_to_json(const std::vector<FoundTarget>& targets);
[[nodiscard]] Result<std::vector<FoundTarget>> targets_from_json(const Json& json);

// One member of an object, when it is there and has the type.
[[nodiscard]] std::string text_of(const Json& json, const char* name);
[[nodiscard]] std::int64_t number_of(const Json& json, const char* name, std::int64_t otherwise = 0);
[[nodiscard]] bool flag_of(const Json& json, const char* name);

}  // namespace perilune::control
