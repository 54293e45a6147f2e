// SPDX-License-Identifier: Apache-2.0
#include "cli/iscsiadm/format.hpp"

#include <algorithm>
#include <string_view>
#include <tuple>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace perilune::cli::iscsiadm {
namespace {

using config::NodeKey;
using control::SessionView;

std::string_view or_empty(std::string_view text) { return text.empty() ? "<empty>" : text; }
std::string_view yes_no(bool value) { return value ? "Yes" : "No"; }
std::string_view digest(bool value) { return value ? "CRC32C" : "None"; }

std::string portal_text(const NodeKey& node) {
  return config::format_portal(node.address, node.port, node.tpgt);
}

std::uint32_t host_number(const SessionView& session) { return session.sid == 0 ? 0 : session.sid - 1; }

// A heading between rows of stars, three tabs wide as the original draws it.
std::string boxed(std::string_view title) {
  const std::string stars(title.size(), '*');
  return fmt::format("\t\t{0}\n\t\t{1}\n\t\t{0}\n", stars, title);
}

std::string interface_block(const SessionView& s) {
  std::string out = boxed("Interface:");
  out += fmt::format("\t\tIface Name: {}\n", s.node.get("iface.iscsi_ifacename"));
  out += fmt::format("\t\tIface Transport: {}\n", s.node.get("iface.transport_name"));
  out += fmt::format("\t\tIface Initiatorname: {}\n", or_empty(s.initiator_name));
  out += fmt::format("\t\tIface IPaddress: {}\n", or_empty(s.local_address));
  const auto or_default = [](const std::string& text) {
    return text.empty() ? std::string("default") : text;
  };
  out += fmt::format("\t\tIface HWaddress: {}\n", or_default(s.node.get("iface.hwaddress")));
  out += fmt::format("\t\tIface Netdev: {}\n", or_default(s.node.get("iface.net_ifacename")));
  out += fmt::format("\t\tSID: {}\n", s.sid);
  out += fmt::format("\t\tiSCSI Connection State: {}\n", s.connection_state);
  out += fmt::format("\t\tiSCSI Session State: {}\n", s.session_state);
  out += fmt::format("\t\tInternal iscsid Session State: {}\n", s.internal_state);
  return out;
}

std::string timeout_and_chap_block(const SessionView& s, config::Secrets secrets) {
  const auto secret = [&](std::string_view name) {
    return secrets == config::Secrets::shown ? or_empty(s.node.get(name)) : std::string_view("********");
  };
  std::string out = boxed("Timeouts:");
  out += fmt::format("\t\tRecovery Timeout: {}\n", s.node.get("node.session.timeo.replacement_timeout"));
  out +=
      fmt::format("\t\tTarget Reset Timeout: {}\n", s.node.get("node.session.err_timeo.tgt_reset_timeout"));
  out += fmt::format("\t\tLUN Reset Timeout: {}\n", s.node.get("node.session.err_timeo.lu_reset_timeout"));
  out += fmt::format("\t\tAbort Timeout: {}\n", s.node.get("node.session.err_timeo.abort_timeout"));
  out += boxed("CHAP:");
  out += fmt::format("\t\tusername: {}\n", or_empty(s.node.get("node.session.auth.username")));
  out += fmt::format("\t\tpassword: {}\n", secret("node.session.auth.password"));
  out += fmt::format("\t\tusername_in: {}\n", or_empty(s.node.get("node.session.auth.username_in")));
  out += fmt::format("\t\tpassword_in: {}\n", secret("node.session.auth.password_in"));
  return out;
}

std::string negotiated_block(const SessionView& s) {
  std::string out = boxed("Negotiated iSCSI params:");
  out += fmt::format("\t\tHeaderDigest: {}\n", digest(s.header_digest));
  out += fmt::format("\t\tDataDigest: {}\n", digest(s.data_digest));
  out += fmt::format("\t\tMaxRecvDataSegmentLength: {}\n", s.max_recv_data_segment_length);
  out += fmt::format("\t\tMaxXmitDataSegmentLength: {}\n", s.max_xmit_data_segment_length);
  out += fmt::format("\t\tFirstBurstLength: {}\n", s.first_burst_length);
  out += fmt::format("\t\tMaxBurstLength: {}\n", s.max_burst_length);
  out += fmt::format("\t\tImmediateData: {}\n", yes_no(s.immediate_data));
  out += fmt::format("\t\tInitialR2T: {}\n", yes_no(s.initial_r2t));
  out += fmt::format("\t\tMaxOutstandingR2T: {}\n", s.max_outstanding_r2t);
  // Lines that the original does not have: only where a record has asked for what it does not have either.
  if (s.error_recovery_level != 0) {
    out += fmt::format("\t\tErrorRecoveryLevel: {}\n", s.error_recovery_level);
    out += fmt::format("\t\tDefaultTime2Wait: {}\n", s.default_time2wait);
    out += fmt::format("\t\tDefaultTime2Retain: {}\n", s.default_time2retain);
  }
  if (s.max_connections > 1) {
    out += fmt::format("\t\tMaxConnections: {}\n", s.max_connections);
    out += fmt::format("\t\tConnections (CID): {}\n", fmt::join(s.connections, ", "));
  }
  return out;
}

std::string device_block(const SessionView& s) {
  const std::string stars(24, '*');  // wider than its title in the original
  std::string out = fmt::format("\t\t{0}\n\t\tAttached SCSI devices:\n\t\t{0}\n", stars);
  out += fmt::format("\t\tHost Number: {}\tState: running\n", host_number(s));
  for (const control::DeviceView& device : s.devices) {
    out += fmt::format("\t\tscsi{} Channel 00 Id 0 Lun: {}\n", host_number(s), device.lun);
    if (!device.disk.empty()) {
      out += fmt::format("\t\t\tAttached scsi disk {}\t\tState: {}\n", device.disk, device.state);
    }
  }
  return out;
}

}  // namespace

std::string format_nodes_flat(const std::vector<NodeKey>& nodes) {
  std::string out;
  for (const NodeKey& node : nodes) out += fmt::format("{} {}\n", portal_text(node), node.target);
  return out;
}

std::string format_nodes_tree(const std::vector<NodeKey>& nodes) {
  std::string out;
  const NodeKey* last = nullptr;
  for (const NodeKey& node : nodes) {
    const bool same_target = last != nullptr && last->target == node.target;
    if (!same_target) out += fmt::format("Target: {}\n", node.target);
    if (!same_target || portal_text(*last) != portal_text(node))
      out += fmt::format("\tPortal: {}\n", portal_text(node));
    out += fmt::format("\t\tIface Name: {}\n", node.iface);
    last = &node;
  }
  return out;
}

std::string format_discovery_flat(const std::vector<config::DiscoveryKey>& discoveries) {
  std::string out;
  for (const auto& key : discoveries) {
    out += fmt::format("{} via sendtargets\n", config::format_host_port(key.address, key.port));
  }
  return out;
}

std::string format_discovery_tree(const std::vector<DiscoveryTree>& send_targets,
                                  const std::vector<NodeKey>& isns, const std::vector<NodeKey>& fixed,
                                  const std::vector<NodeKey>& firmware) {
  const auto block = [](const std::vector<NodeKey>& nodes) {
    return nodes.empty() ? std::string("No targets found.\n") : format_nodes_tree(nodes);
  };
  std::string out = "SENDTARGETS:\n";
  if (send_targets.empty()) out += "No targets found.\n";
  for (const DiscoveryTree& tree : send_targets) {
    out += fmt::format("DiscoveryAddress: {},{}\n", tree.discovery.address, tree.discovery.port);
    out += format_nodes_tree(tree.nodes);
  }
  return out + "iSNS:\n" + block(isns) + "STATIC:\n" + block(fixed) + "FIRMWARE:\n" + block(firmware);
}

std::string format_ifaces_flat(const std::vector<config::Record>& ifaces) {
  std::string out;
  for (const config::Record& iface : ifaces) {
    out += fmt::format("{} {},{},{},{},{}\n", iface.get("iface.iscsi_ifacename"),
                       or_empty(iface.get("iface.transport_name")), or_empty(iface.get("iface.hwaddress")),
                       or_empty(iface.get("iface.ipaddress")), or_empty(iface.get("iface.net_ifacename")),
                       or_empty(iface.get("iface.initiatorname")));
  }
  return out;
}

std::string format_ifaces_tree(const std::vector<config::Record>& ifaces, const std::vector<NodeKey>& nodes) {
  std::string out;
  for (const config::Record& iface : ifaces) {
    const std::string& name = iface.get("iface.iscsi_ifacename");
    out += fmt::format("Iface: {}\n", name);
    std::string_view target;
    for (const NodeKey& node : nodes) {
      if (node.iface != name) continue;
      if (node.target != target) out += fmt::format("\tTarget: {}\n", node.target);
      out += fmt::format("\t\tPortal: {}\n", portal_text(node));
      target = node.target;
    }
  }
  return out;
}

std::string format_sessions_flat(const std::vector<SessionView>& sessions) {
  std::string out;
  for (const SessionView& s : sessions) {
    const NodeKey node = NodeKey::of(s.node);
    out += fmt::format("{}: [{}] {} {} (non-flash)\n", s.node.get("iface.transport_name"), s.sid,
                       config::format_portal(node.address, node.port, s.tpgt), node.target);
  }
  return out;
}

std::string format_sessions_tree(std::vector<SessionView> sessions, int level, config::Secrets secrets) {
  std::sort(sessions.begin(), sessions.end(), [](const SessionView& a, const SessionView& b) {
    const NodeKey ka = NodeKey::of(a.node), kb = NodeKey::of(b.node);
    return std::tie(ka.target, ka.address, ka.port, a.sid) < std::tie(kb.target, kb.address, kb.port, b.sid);
  });
  std::string out;
  if (level >= 3) {
    out += fmt::format("iSCSI Transport Class version 2.0-870\nversion {}\n", config::record_format_version);
  }
  std::string last_target, last_portals;
  for (const SessionView& s : sessions) {
    const NodeKey node = NodeKey::of(s.node);
    const std::string portals = fmt::format("\tCurrent Portal: {}\n\tPersistent Portal: {}\n",
                                            config::format_portal(s.current_address, s.current_port, s.tpgt),
                                            config::format_portal(node.address, node.port, s.tpgt));
    if (node.target != last_target) out += fmt::format("Target: {} (non-flash)\n", node.target);
    if (node.target != last_target || portals != last_portals) out += portals;
    last_target = node.target;
    last_portals = portals;
    out += interface_block(s);
    if (level >= 2) out += timeout_and_chap_block(s, secrets) + negotiated_block(s);
    if (level >= 3) out += device_block(s);
  }
  return out;
}

std::string format_statistics(const SessionView& session) {
  std::string out = fmt::format("Stats for session {}\niSCSI SNMP:\n", session_label(session));
  for (const auto& [name, value] : session.snmp) out += fmt::format("\t{}: {}\n", name, value);
  out += "iSCSI Extended:\n";
  for (const auto& [name, value] : session.extended) out += fmt::format("\t{}: {}\n", name, value);
  return out;
}

std::string format_hosts_flat(const std::vector<SessionView>& sessions) {
  std::string out;
  for (const SessionView& s : sessions) {
    out +=
        fmt::format("{}: [{}] {},[{}],{} {}\n", s.node.get("iface.transport_name"), host_number(s),
                    or_empty(s.local_address), or_empty(s.node.get("iface.hwaddress")),
                    or_empty(s.node.get("iface.net_ifacename")), or_empty(s.node.get("iface.initiatorname")));
  }
  return out;
}

std::string login_label(const NodeKey& node) {
  return fmt::format("[iface: {}, target: {}, portal: {},{}]", node.iface, node.target, node.address,
                     node.port);
}

std::string session_label(const SessionView& session) {
  const NodeKey node = NodeKey::of(session.node);
  return fmt::format("[sid: {}, target: {}, portal: {},{}]", session.sid, node.target, node.address,
                     node.port);
}

std::string new_node_label(const config::Record& node) {
  const NodeKey key = NodeKey::of(node);
  return fmt::format("[{}:[hw={},ip={},net_if={},iscsi_if={}] {},{},{} {}]", node.get("iface.transport_name"),
                     node.get("iface.hwaddress"), node.get("iface.ipaddress"),
                     node.get("iface.net_ifacename"), key.iface, key.address, key.port, key.tpgt, key.target);
}

}  // namespace perilune::cli::iscsiadm
