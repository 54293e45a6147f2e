// SPDX-License-Identifier: Apache-2.0
#include "control/messages.hpp"

#include <limits>

namespace perilune::control {
namespace {

tl::unexpected<Error> malformed(std::string_view what) {
  return fail(Errc::protocol, "malformed message: " + std::string(what));
}

Json counters_to_json(const std::vector<std::pair<std::string, std::uint64_t>>& counters) {
  Json list = Json::array();
  for (const auto& [name, value] : counters) list.push_back(Json::array({name, value}));
  return list;
}

std::vector<std::pair<std::string, std::uint64_t>> counters_from_json(const Json& json, const char* name) {
  std::vector<std::pair<std::string, std::uint64_t>> counters;
  const auto at = json.find(name);
  if (at == json.end() || !at->is_array()) return counters;
  for (const Json& entry : *at) {
    if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_number_integer()) {
      counters.emplace_back(entry[0].get<std::string>(), entry[1].get<std::uint64_t>());
    }
  }
  return counters;
}

template <class T>
T clamp_of(const Json& json, const char* name, std::int64_t otherwise = 0) {
  const std::int64_t value = number_of(json, name, otherwise);
  const bool fits = value >= 0 && static_cast<std::uint64_t>(value) <= std::numeric_limits<T>::max();
  return fits ? static_cast<T>(value) : static_cast<T>(otherwise);
}

}  // namespace

std::string text_of(const Json& json, const char* name) {
  const auto at = json.is_object() ? json.find(name) : json.end();
  return at != json.end() && at->is_string() ? at->get<std::string>() : std::string();
}

std::int64_t number_of(const Json& json, const char* name, std::int64_t otherwise) {
  const auto at = json.is_object() ? json.find(name) : json.end();
  return at != json.end() && at->is_number_integer() ? at->get<std::int64_t>() : otherwise;
}

bool flag_of(const Json& json, const char* name) {
  const auto at = json.is_object() ? json.find(name) : json.end();
  return at != json.end() && at->is_boolean() && at->get<bool>();
}

Json record_to_json(const config::Record& record) {
  Json json = Json::object();
  for (const config::FieldSpec& field : config::fields(record.kind())) {
    json[std::string(field.name)] = record.get(field.name);
  }
  for (const auto& [name, value] : record.unknown()) json[name] = value;
  return json;
}

Result<config::Record> record_from_json(config::RecordKind kind, const Json& json) {
  if (!json.is_object()) return malformed("a record is an object");
  config::Record record(kind);
  for (const auto& [name, value] : json.items()) {
    if (!value.is_string()) return malformed("a record value is text");
    const auto& text = value.get_ref<const std::string&>();
    if (config::find_field(kind, name) < 0) {
      if (!record.keep_unknown(name, text)) return malformed("too many keys in a record");
    } else if (auto done = record.set(name, text); !done) {
      return tl::unexpected(done.error());
    }
  }
  return record;
}

Json session_to_json(const SessionView& s) {
  Json devices = Json::array();
  for (const DeviceView& device : s.devices) {
    devices.push_back(
        {{"lun", device.lun}, {"disk", device.disk}, {"state", device.state}, {"kind", device.kind}});
  }
  return {
      {"sid", s.sid},
      {"node", record_to_json(s.node)},
      {"tpgt", s.tpgt},
      {"current_address", s.current_address},
      {"current_port", s.current_port},
      {"initiator_name", s.initiator_name},
      {"local_address", s.local_address},
      {"connection_state", s.connection_state},
      {"session_state", s.session_state},
      {"internal_state", s.internal_state},
      {"header_digest", s.header_digest},
      {"data_digest", s.data_digest},
      {"immediate_data", s.immediate_data},
      {"initial_r2t", s.initial_r2t},
      {"max_recv_data_segment_length", s.max_recv_data_segment_length},
      {"max_xmit_data_segment_length", s.max_xmit_data_segment_length},
      {"first_burst_length", s.first_burst_length},
      {"max_burst_length", s.max_burst_length},
      {"max_outstanding_r2t", s.max_outstanding_r2t},
      {"error_recovery_level", s.error_recovery_level},
      {"max_connections", s.max_connections},
      {"default_time2wait", s.default_time2wait},
      {"default_time2retain", s.default_time2retain},
      {"connections", s.connections},
      {"devices", std::move(devices)},
      {"snmp", counters_to_json(s.snmp)},
      {"extended", counters_to_json(s.extended)},
  };
}

Result<SessionView> session_from_json(const Json& json) {
  if (!json.is_object() || !json.contains("node")) return malformed("a session is an object with a node");
  auto node = record_from_json(config::RecordKind::node, json["node"]);
  if (!node) return tl::unexpected(node.error());
  SessionView s;
  s.node = std::move(*node);
  s.sid = clamp_of<std::uint32_t>(json, "sid");
  s.tpgt = static_cast<int>(number_of(json, "tpgt", 1));
  s.current_address = text_of(json, "current_address");
  s.current_port = clamp_of<std::uint16_t>(json, "current_port");
  s.initiator_name = text_of(json, "initiator_name");
  s.local_address = text_of(json, "local_address");
  s.connection_state = text_of(json, "connection_state");
  s.session_state = text_of(json, "session_state");
  s.internal_state = text_of(json, "internal_state");
  s.header_digest = flag_of(json, "header_digest");
  s.data_digest = flag_of(json, "data_digest");
  s.immediate_data = flag_of(json, "immediate_data");
  s.initial_r2t = flag_of(json, "initial_r2t");
  s.max_recv_data_segment_length = clamp_of<std::uint32_t>(json, "max_recv_data_segment_length");
  s.max_xmit_data_segment_length = clamp_of<std::uint32_t>(json, "max_xmit_data_segment_length");
  s.first_burst_length = clamp_of<std::uint32_t>(json, "first_burst_length");
  s.max_burst_length = clamp_of<std::uint32_t>(json, "max_burst_length");
  s.max_outstanding_r2t = clamp_of<std::uint32_t>(json, "max_outstanding_r2t", 1);
  s.error_recovery_level = clamp_of<std::uint32_t>(json, "error_recovery_level");
  s.max_connections = clamp_of<std::uint32_t>(json, "max_connections", 1);
  s.default_time2wait = clamp_of<std::uint32_t>(json, "default_time2wait", 2);
  s.default_time2retain = clamp_of<std::uint32_t>(json, "default_time2retain");
  if (const auto at = json.find("connections"); at != json.end() && at->is_array()) {
    for (const Json& cid : *at) {
      if (cid.is_number_unsigned())
        s.connections.push_back(static_cast<std::uint16_t>(cid.get<std::uint64_t>()));
    }
  }
  if (const auto at = json.find("devices"); at != json.end() && at->is_array()) {
    for (const Json& device : *at) {
      s.devices.push_back({clamp_of<std::uint64_t>(device, "lun"), text_of(device, "disk"),
                           text_of(device, "state"), text_of(device, "kind")});
    }
  }
  s.snmp = counters_from_json(json, "snmp");
  s.extended = counters_from_json(json, "extended");
  return s;
}

Json targets_to_json(const std::vector<FoundTarget>& targets) {
  Json list = Json::array();
  for (const FoundTarget& target : targets) {
    Json portals = Json::array();
    for (const FoundPortal& portal : target.portals) {
      portals.push_back({{"address", portal.address}, {"port", portal.port}, {"tpgt", portal.tpgt}});
    }
    list.push_back({{"name", target.name}, {"portals", std::move(portals)}});
  }
  return list;
}

Result<std::vector<FoundTarget>> targets_from_json(const Json& json) {
  if (!json.is_array()) return malformed("targets are a list");
  std::vector<FoundTarget> targets;
  for (const Json& entry : json) {
    if (!entry.is_object() || !entry.contains("portals") || !entry["portals"].is_array()) {
      return malformed("a target has a name and portals");
    }
    FoundTarget target{text_of(entry, "name"), {}};
    for (const Json& portal : entry["portals"]) {
      target.portals.push_back({text_of(portal, "address"), clamp_of<std::uint16_t>(portal, "port", 3260),
                                clamp_of<std::uint16_t>(portal, "tpgt", 1)});
    }
    targets.push_back(std::move(target));
  }
  return targets;
}

}  // namespace perilune::control
