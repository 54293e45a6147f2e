// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "cli/iscsiadm/format.hpp"
#include "cli/iscsiadm/modes.hpp"
#include "control/iscsi_error.hpp"

namespace perilune::cli::iscsiadm {
namespace {

using config::NodeKey;
using control::SessionView;

// Requests in flight at once; the daemon serves at most control::max_connections.
constexpr std::size_t max_parallel_calls = 32;

struct Login {
  NodeKey key;
  std::unique_ptr<PendingCall> call;
};

void tell_failure(Context& context, std::string_view what, const std::string& label,
                  const control::Reply& reply) {
  context.console.err(fmt::format("Could not {} {}.", what, label));
  context.console.err(
      fmt::format("initiator reported error ({} - {})", reply.code, control::iscsi_error_text(reply.code)));
}

int finish_logins(Context& context, std::vector<Login>& logins) {
  int first_error = 0;
  for (Login& login : logins) {
    const auto reply = login.call->wait(
        [&](const control::Json& line) { context.console.err(control::text_of(line, "text")); });
    if (reply.code == 0) {
      context.console.out(fmt::format("Login to {} successful.\n", login_label(login.key)));
      continue;
    }
    tell_failure(context, "login to", login_label(login.key), reply);
    if (first_error == 0) first_error = reply.code;
  }
  logins.clear();
  return first_error;
}

}  // namespace

int report(Context& context, const Error& error) {
  context.console.err(error.message);
  switch (error.code) {
    case Errc::invalid_argument: return control::iscsi_err_inval;
    case Errc::not_found: return control::iscsi_err_no_objs_found;
    case Errc::permission: return control::iscsi_err_access;
    case Errc::no_memory: return control::iscsi_err_nomem;
    default: return control::iscsi_err_idbm;
  }
}

Result<std::vector<SessionView>> live_sessions(Context& context) {
  std::vector<SessionView> sessions;
  if (!context.daemon.reach(Daemon::Start::no)) return sessions;
  const auto reply = context.daemon.call("sessions", control::Json::object());
  if (reply.code == control::iscsi_err_iscsid_notconn) return sessions;
  if (reply.code != 0) return fail(Errc::io, "cannot get the sessions: " + reply.message);
  if (!reply.result.is_array()) return fail(Errc::protocol, "the daemon's answer is not understood");
  for (const control::Json& entry : reply.result) {
    auto session = control::session_from_json(entry);
    if (!session) return tl::unexpected(session.error());
    sessions.push_back(std::move(*session));
  }
  std::sort(sessions.begin(), sessions.end(), [](const auto& a, const auto& b) { return a.sid < b.sid; });
  return sessions;
}

bool matches(const Options& options, const NodeKey& node) {
  if (!options.target.empty() && options.target != node.target) return false;
  if (options.portal) {
    if (options.portal->host != node.address) return false;
    if (options.portal->port_given && options.portal->port != node.port) return false;
    if (options.portal->tpgt != config::tpgt_unknown && options.portal->tpgt != node.tpgt) return false;
  }
  return options.ifaces.empty() ||
         std::find(options.ifaces.begin(), options.ifaces.end(), node.iface) != options.ifaces.end();
}

bool same_nexus(const NodeKey& node, const SessionView& session) {
  const NodeKey other = NodeKey::of(session.node);
  return node.target == other.target && node.address == other.address && node.port == other.port &&
         node.iface == other.iface;
}

int login_nodes(Context& context, const std::vector<config::Record>& nodes, LoginWish wish) {
  if (!context.daemon.reach(Daemon::Start::yes)) return control::iscsi_err_iscsid_notconn;
  const auto sessions = live_sessions(context);
  if (!sessions) return report(context, sessions.error());
  int first_error = 0;
  const auto note = [&](int code) { first_error = first_error == 0 ? code : first_error; };
  std::vector<Login> logins;
  for (const config::Record& node : nodes) {
    const NodeKey key = NodeKey::of(node);
    const auto present = std::count_if(sessions->begin(), sessions->end(),
                                       [&](const SessionView& session) { return same_nexus(key, session); });
    const auto wanted = node.get_int("node.session.nr_sessions");
    if (!wish.multiple && present >= wanted) {
      context.console.err(fmt::format("{}: {} session{} requested, but {} already present.", key.iface,
                                      wanted, wanted == 1 ? "" : "s", present));
      note(control::iscsi_err_sess_exists);
      continue;
    }
    const auto missing = wish.multiple ? 1 : wanted - present;
    for (std::int64_t i = 0; i < missing; ++i) {
      const bool multiple = wish.multiple || present + i > 0;
      context.console.out(
          fmt::format("Logging in to {}{}\n", login_label(key), multiple ? " (multiple)" : ""));
      const control::Json args = {
          {"node", control::record_to_json(node)}, {"no_wait", wish.no_wait}, {"multiple", multiple}};
      logins.push_back({key, context.daemon.begin("login", args)});
      if (logins.size() < max_parallel_calls && !wish.no_wait) continue;
      if (wish.no_wait) {
        const auto reply = logins.back().call->wait({});
        if (reply.code != 0) tell_failure(context, "login to", login_label(key), reply);
        note(reply.code);
        logins.clear();
      } else {
        note(finish_logins(context, logins));
      }
    }
  }
  note(finish_logins(context, logins));
  if (first_error != 0) context.console.err("Could not log into all portals");
  return first_error;
}

int logout_sessions(Context& context, const std::vector<SessionView>& sessions) {
  if (sessions.empty()) {
    context.console.err("No matching sessions found");
    return control::iscsi_err_no_objs_found;
  }
  int first_error = 0;
  for (std::size_t begin = 0; begin < sessions.size(); begin += max_parallel_calls) {
    const std::size_t end = std::min(sessions.size(), begin + max_parallel_calls);
    std::vector<std::unique_ptr<PendingCall>> calls;
    for (std::size_t i = begin; i < end; ++i) {
      context.console.out(fmt::format("Logging out of session {}\n", session_label(sessions[i])));
      calls.push_back(context.daemon.begin("logout", {{"sid", sessions[i].sid}}));
    }
    for (std::size_t i = begin; i < end; ++i) {
      const auto reply = calls[i - begin]->wait({});
      if (reply.code == 0) {
        context.console.out(fmt::format("Logout of {} successful.\n", session_label(sessions[i])));
        continue;
      }
      tell_failure(context, "logout of", session_label(sessions[i]), reply);
      if (!reply.message.empty()) context.console.err(reply.message);
      if (first_error == 0) first_error = reply.code;
    }
  }
  if (first_error != 0) context.console.err("Could not logout of all requested sessions");
  return first_error;
}

int rescan_sessions(Context& context, const std::vector<SessionView>& sessions) {
  if (sessions.empty()) {
    context.console.err("No session found.");
    return control::iscsi_err_no_objs_found;
  }
  int first_error = 0;
  for (const SessionView& session : sessions) {
    context.console.out(fmt::format("Rescanning session {}\n", session_label(session)));
    const auto reply = context.daemon.call("rescan", {{"sid", session.sid}});
    if (reply.code == 0) continue;
    context.console.err(
        fmt::format("Could not rescan session {}: {}", session_label(session), reply.message));
    if (first_error == 0) first_error = reply.code;
  }
  return first_error;
}

std::optional<std::vector<Update>> updates_of(Context& context, const Options& options) {
  if (options.names.empty() || options.names.size() != options.values.size()) {
    context.console.err("Update requires pairs of -n NAME and -v VALUE");
    return std::nullopt;
  }
  std::vector<Update> updates;
  for (std::size_t i = 0; i < options.names.size(); ++i)
    updates.push_back({options.names[i], options.values[i]});
  return updates;
}

int apply_updates(Context& context, config::Record& record, const std::vector<Update>& updates) {
  config::Record changed = record;
  for (const Update& update : updates) {
    const auto done = changed.update(update.name, update.value);
    if (done) continue;
    context.console.err(done.error().message);
    if (!done.error().message.starts_with("Cannot modify")) {
      context.console.err(fmt::format("Unknown parameter {}.", update.name));
    }
    return control::iscsi_err_inval;
  }
  record = std::move(changed);
  return 0;
}

int run_mode(Context& context, const Options& options) {
  switch (options.mode) {
    case Mode::discovery:
    case Mode::discoverydb: return run_discovery_mode(context, options);
    case Mode::node: return run_node_mode(context, options);
    case Mode::session: return run_session_mode(context, options);
    case Mode::iface: return run_iface_mode(context, options);
    case Mode::host: return run_host_mode(context, options);
    case Mode::fw:
      context.console.err("Could not get list of targets from firmware. (err 21)");
      return control::iscsi_err_no_objs_found;
    case Mode::none:
    case Mode::unknown: break;
  }
  return control::iscsi_err_inval;
}

}  // namespace perilune::cli::iscsiadm
