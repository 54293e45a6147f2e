// SPDX-License-Identifier: Apache-2.0
// The modes of iscsiadm. Each returns the exit code (control/iscsi_error.hpp).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/iscsiadm/console.hpp"
#include "cli/iscsiadm/daemon.hpp"
#include "cli/iscsiadm/options.hpp"
#include "config/iscsid_conf.hpp"
#include "config/portal.hpp"
#include "control/messages.hpp"
#include "control/record_db.hpp"

namespace perilune::cli::iscsiadm {

struct Context {
  Console& console;
  control::RecordDb& db;
  Daemon& daemon;
};

[[nodiscard]] int run_mode(Context& context, const Options& options);

[[nodiscard]] int run_discovery_mode(Context& context, const Options& options);  // discovery and discoverydb
[[nodiscard]] int run_node_mode(Context& context, const Options& options);
[[nodiscard]] int run_session_mode(Context& context, const Options& options);
[[nodiscard]] int run_iface_mode(Context& context, const Options& options);
[[nodiscard]] int run_host_mode(Context& context, const Options& options);

// What several modes share.

// Live sessions; none when no daemon listens.
[[nodiscard]] Result<std::vector<control::SessionView>> live_sessions(Context& context);
// -T, -p, -I as filters. A portal without a port or tag matches every one.
[[nodiscard]] bool matches(const Options& options, const config::NodeKey& node);
[[nodiscard]] bool same_nexus(const config::NodeKey& node, const control::SessionView& session);

// Starts every login, prints as the answers come, goes on after a failure. multiple: another session though
// one exists.
struct LoginWish {
  bool no_wait = false;
  bool multiple = false;
};
[[nodiscard]] int login_nodes(Context& context, const std::vector<config::Record>& nodes, LoginWish wish);
[[nodiscard]] int logout_sessions(Context& context, const std::vector<control::SessionView>& sessions);
[[nodiscard]] int rescan_sessions(Context& context, const std::vector<control::SessionView>& sessions);

// The -n/-v pairs; nullopt (and told) when they do not pair up.
struct Update {
  std::string name;
  std::string value;
};
[[nodiscard]] std::optional<std::vector<Update>> updates_of(Context& context, const Options& options);
// Applies all or nothing to `record`; tells what is wrong.
[[nodiscard]] int apply_updates(Context& context, config::Record& record, const std::vector<Update>& updates);

// The exit code of an error of our own (records, files), told.
int report(Context& context, const Error& error);

}  // namespace perilune::cli::iscsiadm
