// SPDX-License-Identifier: Apache-2.0
// Every output of iscsiadm as text. Pure: values in, the text that scripts read out.
#pragma once

#include <string>
#include <vector>

#include "config/portal.hpp"
#include "config/record.hpp"
#include "control/messages.hpp"

namespace perilune::cli::iscsiadm {

// -m node, -m discovery -P 0: "198.51.100.1:3260,1 iqn..."
[[nodiscard]] std::string format_nodes_flat(const std::vector<config::NodeKey>& nodes);
// -P 1: Target / Portal / Iface Name. Neighbours with the same target, then portal, share a heading.
[[nodiscard]] std::string format_nodes_tree(const std::vector<config::NodeKey>& nodes);

// "198.51.100.1:3260 via sendtargets"
[[nodiscard]] std::string format_discovery_flat(const std::vector<config::DiscoveryKey>& discoveries);
struct DiscoveryTree {
  config::DiscoveryKey discovery;
  std::vector<config::NodeKey> nodes;
};
// The four blocks SENDTARGETS, iSNS, STATIC, FIRMWARE.
[[nodiscard]] std::string format_discovery_tree(const std::vector<DiscoveryTree>& send_targets,
                                                const std::vector<config::NodeKey>& isns,
                                                const std::vector<config::NodeKey>& fixed,
                                                const std::vector<config::NodeKey>& firmware);

// "default tcp,<empty>,<empty>,<empty>,<empty>"
[[nodiscard]] std::string format_ifaces_flat(const std::vector<config::Record>& ifaces);
[[nodiscard]] std::string format_ifaces_tree(const std::vector<config::Record>& ifaces,
                                             const std::vector<config::NodeKey>& nodes);

// "tcp: [1] 198.51.100.1:3260,1 iqn... (non-flash)"
[[nodiscard]] std::string format_sessions_flat(const std::vector<control::SessionView>& sessions);
// level 1 to 3
[[nodiscard]] std::string format_sessions_tree(std::vector<control::SessionView> sessions, int level,
                                               config::Secrets secrets);
[[nodiscard]] std::string format_statistics(const control::SessionView& session);
// -m host: "tcp: [0] 10.0.2.15,[<empty>],<empty> <empty>"
[[nodiscard]] std::string format_hosts_flat(const std::vector<control::SessionView>& sessions);

// "[iface: default, target: iqn..., portal: 198.51.100.1,3260]"
[[nodiscard]] std::string login_label(const config::NodeKey& node);
// "[sid: 1, target: iqn..., portal: 198.51.100.1,3260]"
[[nodiscard]] std::string session_label(const control::SessionView& session);
// "[tcp:[hw=,ip=,net_if=,iscsi_if=default] 198.51.100.1,3260,-1 iqn...]"
[[nodiscard]] std::string new_node_label(const config::Record& node);

}  // namespace perilune::cli::iscsiadm
