// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "cli/iscsiadm/format.hpp"
#include "cli/iscsiadm/modes.hpp"
#include "control/iscsi_error.hpp"

namespace perilune::cli::iscsiadm {
namespace {

using control::SessionView;

constexpr int max_print_level = 3;

int record_operation(Context& context, const Options& options, const std::vector<SessionView>& sessions) {
  if ((options.op & op_new) != 0) {
    if (!options.sid) {
      context.console.err("a new session is a copy of one: --sid is needed");
      return control::iscsi_err_inval;
    }
    return login_nodes(context, {sessions.front().node}, {.no_wait = options.no_wait, .multiple = true});
  }
  // The others act on the record of the session, as node mode does.
  int first_error = 0;
  for (const SessionView& session : sessions) {
    const auto key = config::NodeKey::of(session.node);
    Options node = options;
    node.mode = Mode::node;
    node.target = key.target;
    node.portal = config::Portal{key.address, key.port, true, key.tpgt};
    node.ifaces = {key.iface};
    node.sid.reset();
    const int code = run_node_mode(context, node);
    if (first_error == 0) first_error = code;
  }
  return first_error;
}

int show(Context& context, const Options& options, const std::vector<SessionView>& sessions) {
  // A session named by its number is shown with all that is known when no level is asked for.
  const int level = options.print_level >= 0 ? options.print_level : (options.sid ? 2 : 0);
  if (level > max_print_level) {
    context.console.err(fmt::format("Invalid info level {}. Try 0 - 3.", options.print_level));
    return control::iscsi_err_inval;
  }
  const auto secrets = options.show_secrets ? config::Secrets::shown : config::Secrets::masked;
  context.console.out(level == 0 ? format_sessions_flat(sessions)
                                 : format_sessions_tree(sessions, level, secrets));
  return 0;
}

}  // namespace

int run_session_mode(Context& context, const Options& options) {
  auto sessions = live_sessions(context);
  if (!sessions) return report(context, sessions.error());
  if (options.sid) {
    std::erase_if(*sessions, [&](const SessionView& session) { return session.sid != *options.sid; });
    if (sessions->empty()) {
      context.console.err(fmt::format("Could not get session info for sid {}", *options.sid));
      return control::iscsi_err_sysfs_lookup;
    }
  }
  if (sessions->empty()) {
    context.console.err("No active sessions.");
    return control::iscsi_err_no_objs_found;
  }
  if (options.logout || (options.op & op_logout) != 0) return logout_sessions(context, *sessions);
  if (options.rescan) return rescan_sessions(context, *sessions);
  if (options.stats) {
    for (const SessionView& session : *sessions) context.console.out(format_statistics(session));
    return 0;
  }
  if (options.op != op_none) return record_operation(context, options, *sessions);
  return show(context, options, *sessions);
}

int run_host_mode(Context& context, const Options& options) {
  if (!options.submode.empty() || options.op != op_none) {
    context.console.err("software hosts have no tables of their own");
    return control::iscsi_err_op_not_supp;
  }
  const auto sessions = live_sessions(context);
  if (!sessions) return report(context, sessions.error());
  if (sessions->empty()) {
    context.console.err("No iSCSI hosts.");
    return control::iscsi_err_no_objs_found;
  }
  context.console.out(format_hosts_flat(*sessions));
  return 0;
}

}  // namespace perilune::cli::iscsiadm
