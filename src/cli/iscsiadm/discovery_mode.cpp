// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "cli/iscsiadm/format.hpp"
#include "cli/iscsiadm/modes.hpp"
#include "control/iscsi_error.hpp"

namespace perilune::cli::iscsiadm {
namespace {

using config::DiscoveryKey;
using config::NodeKey;
using config::Record;

DiscoveryKey key_of(const config::Portal& portal) { return {portal.host, portal.port}; }

int list_discoveries(Context& context, const Options& options) {
  if (options.print_level > 1) {
    context.console.err(fmt::format("Invalid info level {}. Try 0 or 1.", options.print_level));
    return control::iscsi_err_inval;
  }
  const auto discoveries = context.db.list_discoveries();
  if (!discoveries) return report(context, discoveries.error());
  if (options.print_level != 1) {
    context.console.out(format_discovery_flat(*discoveries));
    return discoveries->empty() ? static_cast<int>(control::iscsi_err_no_objs_found) : 0;
  }
  std::vector<DiscoveryTree> trees;
  for (const DiscoveryKey& discovery : *discoveries) {
    auto nodes = context.db.linked_nodes(discovery);
    if (!nodes) return report(context, nodes.error());
    trees.push_back({discovery, std::move(*nodes)});
  }
  std::vector<NodeKey> fixed, isns, firmware;
  const auto all = context.db.list_nodes();
  if (!all) return report(context, all.error());
  for (const NodeKey& key : *all) {
    const auto record = context.db.read_node(key);
    if (!record) continue;
    const std::string& type = record->get("node.discovery_type");
    if (type == "static") fixed.push_back(key);
    if (type == "isns") isns.push_back(key);
    if (type == "fw") firmware.push_back(key);
  }
  context.console.out(format_discovery_tree(trees, isns, fixed, firmware));
  return 0;
}

int no_discovery_record(Context& context, const DiscoveryKey& key, const Options& options) {
  const bool legacy = options.mode == Mode::discovery;
  context.console.err(
      fmt::format("Discovery record [{},{}] not found{}", key.address, key.port, legacy ? "!" : "."));
  return legacy ? control::iscsi_err_inval : control::iscsi_err_idbm;
}

// The records that a discovery is to have: one per portal found and interface.
Result<std::vector<Record>> wanted_records(Context& context, const std::vector<control::FoundTarget>& targets,
                                           const DiscoveryKey& source,
                                           const std::vector<std::string>& ifaces) {
  const auto conf = context.db.load_conf();
  if (!conf) return tl::unexpected(conf.error());
  std::vector<Record> records;
  for (const control::FoundTarget& target : targets) {
    for (const control::FoundPortal& portal : target.portals) {
      for (const std::string& name : ifaces) {
        const auto iface = context.db.read_iface(name);
        if (!iface) return tl::unexpected(iface.error());
        const NodeKey key{target.name, portal.address, portal.port, portal.tpgt, name};
        if (!key.validate()) {
          context.console.err("The target sent a name or an address that is not valid; it is left out");
          continue;
        }
        Record record = conf->node;
        record.adopt(*iface);
        key.put_into(record);
        const bool good = record.set("node.discovery_address", source.address) &&
                          record.set("node.discovery_port", std::to_string(source.port)) &&
                          record.set("node.discovery_type", "send_targets");
        if (!good) return fail(Errc::invalid_argument, "the discovery address is not valid");
        records.push_back(std::move(record));
      }
    }
  }
  return records;
}

bool names_of(const std::vector<Record>& records, const NodeKey& key) {
  return std::any_of(records.begin(), records.end(),
                     [&](const Record& record) { return NodeKey::of(record) == key; });
}

// Brings the database in line with what was found. Without an operation everything is done: stale records go,
// those found are written anew from the defaults. new adds only, update rewrites what is there, delete
// removes what was not found.
Status store(Context& context, const Options& options, const DiscoveryKey& source,
             const std::vector<Record>& wanted) {
  if ((options.op & op_nonpersistent) != 0) return {};
  unsigned op = options.op & (op_new | op_update | op_delete);
  if (op == op_none) op = op_new | op_update | op_delete;
  const auto linked = context.db.linked_nodes(source);
  if (!linked) return tl::unexpected(linked.error());
  if ((op & op_delete) != 0) {
    for (const NodeKey& key : *linked) {
      if (names_of(wanted, key)) continue;
      if (auto done = context.db.remove_node(key); !done && done.error().code != Errc::not_found) return done;
    }
  }
  for (const Record& record : wanted) {
    const NodeKey key = NodeKey::of(record);
    const bool there = context.db.read_node(key).has_value();
    if (there ? (op & op_update) == 0 : (op & op_new) == 0) continue;
    if (auto done = context.db.write_node(record); !done) return done;
    if (auto done = context.db.link_node(source, key); !done) return done;
  }
  return {};
}

void print_found(Context& context, const Options& options, const std::vector<Record>& records) {
  std::vector<NodeKey> keys;
  for (const Record& record : records) keys.push_back(NodeKey::of(record));
  context.console.out(options.print_level == 1 ? format_nodes_tree(keys) : format_nodes_flat(keys));
}

int check_ifaces(Context& context, const std::vector<std::string>& ifaces) {
  for (const std::string& name : ifaces) {
    if (context.db.read_iface(name)) continue;
    context.console.err(
        fmt::format("Could not read iface info for {}. Make sure an iface config with the file name and "
                    "iface.iscsi_ifacename {} is in {}/ifaces.",
                    name, name, context.db.record_root()));
    return control::iscsi_err_no_objs_found;
  }
  return 0;
}

int perform(Context& context, const Options& options, const Record& discovery) {
  const DiscoveryKey source = DiscoveryKey::of(discovery);
  const std::vector<std::string> ifaces =
      options.ifaces.empty() ? std::vector<std::string>{"default"} : options.ifaces;
  if (const int code = check_ifaces(context, ifaces); code != 0) return code;
  control::Reply reply{control::iscsi_err_iscsid_notconn, {}, {}};
  if (context.daemon.reach(Daemon::Start::yes)) {
    const control::Json args = {{"discovery", control::record_to_json(discovery)}};
    reply = context.daemon.call("discover", args, [&](const control::Json& line) {
      context.console.err(control::text_of(line, "text"));
    });
  }
  if (reply.code != 0) {
    context.console.err(
        fmt::format("Could not perform SendTargets discovery: {}", control::iscsi_error_text(reply.code)));
    return reply.code;
  }
  const auto targets = control::targets_from_json(reply.result);
  if (!targets) return report(context, targets.error());
  const auto held = context.db.lock();
  if (!held) return report(context, held.error());
  const auto records = wanted_records(context, *targets, source, ifaces);
  if (!records) return report(context, records.error());
  if ((options.op & op_nonpersistent) == 0) {
    if (const auto done = context.db.write_discovery(discovery); !done) return report(context, done.error());
  }
  if (const auto done = store(context, options, source, *records); !done)
    return report(context, done.error());
  if (records->empty()) {
    context.console.err("No portals found");
    return control::iscsi_err_no_objs_found;
  }
  print_found(context, options, *records);
  if (!options.login) return 0;
  return login_nodes(context, *records, {.no_wait = options.no_wait});
}

Result<Record> fresh_record(Context& context, const DiscoveryKey& key) {
  const auto conf = context.db.load_conf();
  if (!conf) return tl::unexpected(conf.error());
  Record record = conf->send_targets;
  auto good = key.validate();
  if (good) good = record.set("discovery.sendtargets.address", key.address);
  if (good) good = record.set("discovery.sendtargets.port", std::to_string(key.port));
  if (!good) return tl::unexpected(good.error());
  return record;
}

// The records found by it go too, but for those with a session.
int delete_discovery(Context& context, const DiscoveryKey& key) {
  const auto sessions = live_sessions(context);
  if (!sessions) return report(context, sessions.error());
  const auto held = context.db.lock();
  if (!held) return report(context, held.error());
  const auto nodes = context.db.linked_nodes(key);
  if (!nodes) return report(context, nodes.error());
  for (const NodeKey& node : *nodes) {
    const bool used =
        std::any_of(sessions->begin(), sessions->end(), [&](const auto& s) { return same_nexus(node, s); });
    if (used) continue;
    const auto done = context.db.remove_node(node);
    if (!done && done.error().code != Errc::not_found) return report(context, done.error());
  }
  const auto done = context.db.remove_discovery(key);
  return done ? 0 : report(context, done.error());
}

int update_discovery(Context& context, const Options& options, Record& record) {
  const auto updates = updates_of(context, options);
  if (!updates) return control::iscsi_err_inval;
  const auto held = context.db.lock();
  if (!held) return report(context, held.error());
  if (const int code = apply_updates(context, record, *updates); code != 0) {
    context.console.err(
        fmt::format("Could not execute operation on discovery record: {}", control::iscsi_error_text(code)));
    return code;
  }
  const auto done = context.db.write_discovery(record);
  return done ? 0 : report(context, done.error());
}

int create_discovery(Context& context, const DiscoveryKey& key) {
  const auto held = context.db.lock();
  if (!held) return report(context, held.error());
  const auto record = fresh_record(context, key);
  if (!record) return report(context, record.error());
  if (const auto done = context.db.write_discovery(*record); !done) return report(context, done.error());
  context.console.out(fmt::format("New discovery record for [{},{}] added.\n", key.address, key.port));
  return 0;
}

// -m discoverydb: the record first, then, with -D, the discovery with what it says.
int run_discoverydb(Context& context, const Options& options, const DiscoveryKey& key) {
  auto record = context.db.read_discovery(key);
  const bool plain = !options.discover;
  if ((options.op & op_new) != 0 && !record) {
    if (const int code = create_discovery(context, key); code != 0) return code;
    record = context.db.read_discovery(key);
    if (plain && record) return 0;
  }
  if (!record && record.error().code == Errc::not_found) return no_discovery_record(context, key, options);
  if (!record) return report(context, record.error());
  if (options.discover) return perform(context, options, *record);
  if ((options.op & op_delete) != 0) return delete_discovery(context, key);
  if ((options.op & op_update) != 0) return update_discovery(context, options, *record);
  if ((options.op & op_new) != 0) return 0;  // it was there
  context.console.out(record->show(options.show_secrets ? config::Secrets::shown : config::Secrets::masked));
  return 0;
}

// -m discovery without a type acts on what is known; with one it asks the portal, with the defaults of
// iscsid.conf.
int run_plain_discovery(Context& context, const Options& options, const DiscoveryKey& key) {
  if (options.type == DiscoveryType::send_targets) {
    const auto record = fresh_record(context, key);
    return record ? perform(context, options, *record) : report(context, record.error());
  }
  const auto record = context.db.read_discovery(key);
  if (!record || options.type != DiscoveryType::none) return no_discovery_record(context, key, options);
  if (options.discover) return perform(context, options, *record);
  if ((options.op & op_delete) != 0) return delete_discovery(context, key);
  context.console.out(record->show(options.show_secrets ? config::Secrets::shown : config::Secrets::masked));
  return 0;
}

}  // namespace

int run_discovery_mode(Context& context, const Options& options) {
  if (options.type == DiscoveryType::isns || options.type == DiscoveryType::slp ||
      options.type == DiscoveryType::fw) {
    context.console.err("discovery by this type is not supported; use sendtargets");
    return control::iscsi_err_op_not_supp;
  }
  if (!options.portal) {
    if (options.type == DiscoveryType::none && !options.discover && options.op != op_new)
      return list_discoveries(context, options);
    context.console.err("a portal (-p) is needed");
    return control::iscsi_err_inval;
  }
  const DiscoveryKey key = key_of(*options.portal);
  if (options.mode == Mode::discovery) return run_plain_discovery(context, options, key);
  if (options.type == DiscoveryType::none || options.type == DiscoveryType::unknown) {
    context.console.err("a discovery type (-t sendtargets) is needed");
    return control::iscsi_err_unknown_discovery_type;
  }
  return run_discoverydb(context, options, key);
}

}  // namespace perilune::cli::iscsiadm
