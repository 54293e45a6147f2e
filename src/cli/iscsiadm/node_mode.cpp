// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "cli/iscsiadm/format.hpp"
#include "cli/iscsiadm/modes.hpp"
#include "control/iscsi_error.hpp"

namespace perilune::cli::iscsiadm {
namespace {

using config::NodeKey;
using config::Record;
using control::SessionView;

bool has_filter(const Options& options) {
  return !options.target.empty() || options.portal.has_value() || !options.ifaces.empty();
}

Result<std::vector<NodeKey>> matching_nodes(Context& context, const Options& options) {
  auto keys = context.db.list_nodes();
  if (keys) std::erase_if(*keys, [&](const NodeKey& key) { return !matches(options, key); });
  return keys;
}

std::vector<SessionView> matching_sessions(const std::vector<SessionView>& all, const Options& options) {
  std::vector<SessionView> found;
  for (const SessionView& session : all) {
    NodeKey key = NodeKey::of(session.node);
    key.tpgt = session.tpgt;
    if (matches(options, key)) found.push_back(session);
  }
  return found;
}

int no_records(Context& context) {
  context.console.err("No records found");
  return control::iscsi_err_no_objs_found;
}

bool is_startup_word(std::string_view word) {
  return word == "all" || word == "manual" || word == "automatic" || word == "onboot";
}

int bad_startup_word(Context& context, std::string_view word) {
  context.console.err(fmt::format("Invalid startup mode '{}'. Try all, manual, automatic or onboot.", word));
  return control::iscsi_err_inval;
}

// Those that can be read; the others are told.
std::vector<Record> read_all(Context& context, const std::vector<NodeKey>& keys) {
  std::vector<Record> records;
  for (const NodeKey& key : keys) {
    auto record = context.db.read_node(key);
    if (record) records.push_back(std::move(*record));
    else
      context.console.err(
          fmt::format("Could not read record {}: {}", login_label(key), record.error().message));
  }
  return records;
}

int login_all(Context& context, const Options& options) {
  if (!is_startup_word(options.login_all)) return bad_startup_word(context, options.login_all);
  const auto keys = matching_nodes(context, options);
  if (!keys) return report(context, keys.error());
  auto records = read_all(context, *keys);
  std::erase_if(records, [&](const Record& record) {
    const std::string& startup = record.get("node.startup");
    // "all" leaves out what the boot firmware's session needs, as the original does.
    return options.login_all == "all" ? startup == "onboot" : startup != options.login_all;
  });
  if (records.empty()) return no_records(context);
  return login_nodes(context, records, {.no_wait = options.no_wait});
}

int logout_all(Context& context, const Options& options) {
  if (!is_startup_word(options.logout_all)) return bad_startup_word(context, options.logout_all);
  const auto all = live_sessions(context);
  if (!all) return report(context, all.error());
  auto sessions = matching_sessions(*all, options);
  std::erase_if(sessions, [&](const SessionView& session) {
    // The record as it is now decides; a session without one is judged by what it was logged in with.
    auto record = context.db.read_node(NodeKey::of(session.node));
    const std::string startup = record ? record->get("node.startup") : session.node.get("node.startup");
    return options.logout_all == "all" ? startup == "onboot" : startup != options.logout_all;
  });
  return logout_sessions(context, sessions);
}

int login(Context& context, const Options& options) {
  const auto keys = matching_nodes(context, options);
  if (!keys) return report(context, keys.error());
  const auto records = read_all(context, *keys);
  if (records.empty()) return no_records(context);
  return login_nodes(context, records, {.no_wait = options.no_wait});
}

int on_sessions(Context& context, const Options& options) {
  const auto all = live_sessions(context);
  if (!all) return report(context, all.error());
  const auto sessions = matching_sessions(*all, options);
  if (options.logout) return logout_sessions(context, sessions);
  if (options.rescan) return rescan_sessions(context, sessions);
  if (sessions.empty()) {
    context.console.err("No session found.");
    return control::iscsi_err_no_objs_found;
  }
  for (const SessionView& session : sessions) context.console.out(format_statistics(session));
  return 0;
}

int create(Context& context, const Options& options) {
  if (options.target.empty() || !options.portal) {
    context.console.err("Error while adding record: a target name (-T) and a portal (-p) are needed");
    return control::iscsi_err_inval;
  }
  const auto conf = context.db.load_conf();
  if (!conf) return report(context, conf.error());
  const auto held = context.db.lock();
  if (!held) return report(context, held.error());
  const std::vector<std::string> ifaces =
      options.ifaces.empty() ? std::vector<std::string>{"default"} : options.ifaces;
  for (const std::string& name : ifaces) {
    const auto iface = context.db.read_iface(name);
    if (!iface) {
      context.console.err(
          fmt::format("Could not read iface info for {}. Make sure an iface config with the file name and "
                      "iface.iscsi_ifacename {} "
                      "is in {}/ifaces.",
                      name, name, context.db.record_root()));
      return control::iscsi_err_no_objs_found;
    }
    const NodeKey key{options.target, options.portal->host, options.portal->port, options.portal->tpgt, name};
    if (const auto good = key.validate(); !good) return report(context, good.error());
    Record record = conf->node;
    record.adopt(*iface);
    key.put_into(record);
    std::vector<Update> updates;
    for (std::size_t i = 0; i < std::min(options.names.size(), options.values.size()); ++i) {
      updates.push_back({options.names[i], options.values[i]});
    }
    if (const int code = apply_updates(context, record, updates); code != 0) return code;
    if (const auto done = context.db.write_node(record); !done) return report(context, done.error());
    context.console.out(fmt::format("New iSCSI node {} added\n", new_node_label(record)));
  }
  return 0;
}

int delete_one(Context& context, const NodeKey& key, const std::vector<SessionView>& sessions) {
  const bool used =
      std::any_of(sessions.begin(), sessions.end(), [&](const SessionView& s) { return same_nexus(key, s); });
  if (used) {
    context.console.err(
        fmt::format("This command will remove the record {}, but a session is using it. Logout session "
                    "then rerun command to remove record.",
                    login_label(key)));
    return control::iscsi_err_sess_exists;
  }
  const auto done = context.db.remove_node(key);
  return done ? 0 : report(context, done.error());
}

int update_one(Context& context, const NodeKey& key, const std::vector<Update>& updates) {
  auto record = context.db.read_node(key);
  if (!record) return report(context, record.error());
  if (const int code = apply_updates(context, *record, updates); code != 0) return code;
  const auto done = context.db.write_node(*record);
  return done ? 0 : report(context, done.error());
}

// Delete or update of every record that matches; the first error is the exit code, the others are done still.
template <class One>
int on_records(Context& context, const Options& options, One one) {
  const auto held = context.db.lock();
  if (!held) return report(context, held.error());
  const auto keys = matching_nodes(context, options);
  if (!keys) return report(context, keys.error());
  if (keys->empty()) return no_records(context);
  int first_error = 0;
  for (const NodeKey& key : *keys) {
    const int code = one(key);
    if (first_error == 0) first_error = code;
  }
  if (first_error != 0) {
    context.console.err(fmt::format("Could not execute operation on all records: {}",
                                    control::iscsi_error_text(first_error)));
  }
  return first_error;
}

int show(Context& context, const Options& options) {
  if (options.print_level > 1) {
    context.console.err(fmt::format("Invalid info level {}. Try 0 or 1.", options.print_level));
    return control::iscsi_err_inval;
  }
  const auto keys = matching_nodes(context, options);
  if (!keys) return report(context, keys.error());
  if (keys->empty()) return no_records(context);
  const bool whole_records = (options.op & op_show) != 0 || (has_filter(options) && options.print_level < 0);
  if (!whole_records) {
    context.console.out(options.print_level == 1 ? format_nodes_tree(*keys) : format_nodes_flat(*keys));
    return 0;
  }
  const auto secrets = options.show_secrets ? config::Secrets::shown : config::Secrets::masked;
  for (const Record& record : read_all(context, *keys)) context.console.out(record.show(secrets));
  return 0;
}

}  // namespace

int run_node_mode(Context& context, const Options& options) {
  if (!options.login_all.empty()) return login_all(context, options);
  if (!options.logout_all.empty()) return logout_all(context, options);
  if (options.login && options.logout) {
    context.console.err("either login or logout, not both");
    return control::iscsi_err_inval;
  }
  if (options.login || (options.op & op_login) != 0) return login(context, options);
  if (options.logout || (options.op & op_logout) != 0) {
    Options logout = options;
    logout.logout = true;
    return on_sessions(context, logout);
  }
  if (options.rescan || options.stats) return on_sessions(context, options);
  if ((options.op & op_new) != 0) return create(context, options);
  if ((options.op & op_delete) != 0) {
    const auto sessions = live_sessions(context);
    if (!sessions) return report(context, sessions.error());
    return on_records(context, options,
                      [&](const NodeKey& key) { return delete_one(context, key, *sessions); });
  }
  if ((options.op & op_update) != 0) {
    const auto updates = updates_of(context, options);
    if (!updates) return control::iscsi_err_inval;
    return on_records(context, options,
                      [&](const NodeKey& key) { return update_one(context, key, *updates); });
  }
  if ((options.op & ~unsigned{op_show}) != 0) {
    context.console.err("operation is not supported.");
    return control::iscsi_err_inval;
  }
  return show(context, options);
}

}  // namespace perilune::cli::iscsiadm
