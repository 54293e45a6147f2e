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
using config::RecordKind;

int refuse(Context& context, std::string_view what, const std::string& name, int code) {
  context.console.err(fmt::format("Could not {} iface {}: {}", what, name, control::iscsi_error_text(code)));
  return code;
}

// The records that stand under nodes/ hold a copy of their interface.
int rewrite_bound_nodes(Context& context, const Record& iface) {
  const auto keys = context.db.list_nodes();
  if (!keys) return report(context, keys.error());
  for (const NodeKey& key : *keys) {
    if (key.iface != iface.get("iface.iscsi_ifacename")) continue;
    auto record = context.db.read_node(key);
    if (!record) continue;
    record->adopt(iface);
    if (const auto done = context.db.write_node(*record); !done) return report(context, done.error());
  }
  return 0;
}

int create(Context& context, const std::string& name) {
  if (control::is_builtin_iface(name)) {
    context.console.err(fmt::format("iface {} is a special interface and cannot be created.", name));
    return refuse(context, "create new", name, control::iscsi_err_inval);
  }
  if (!config::is_safe_iface_name(name)) return refuse(context, "create new", name, control::iscsi_err_inval);
  const auto held = context.db.lock();
  if (!held) return report(context, held.error());
  Record iface(RecordKind::iface);
  if (const auto done = iface.set("iface.iscsi_ifacename", name); !done) return report(context, done.error());
  if (const auto done = context.db.write_iface(iface); !done) return report(context, done.error());
  context.console.out(fmt::format("{0} updated.\nNew interface {0} added\n", name));
  return 0;
}

int update(Context& context, const Options& options, const std::string& name) {
  const auto updates = updates_of(context, options);
  if (!updates) return control::iscsi_err_inval;
  if (control::is_builtin_iface(name)) {
    context.console.err(fmt::format("iface {} is a special interface and cannot be modified.", name));
    return refuse(context, "update", name, control::iscsi_err_inval);
  }
  const auto held = context.db.lock();
  if (!held) return report(context, held.error());
  auto iface = context.db.read_iface(name);
  if (!iface) return refuse(context, "update", name, control::iscsi_err_no_objs_found);
  if (const int code = apply_updates(context, *iface, *updates); code != 0)
    return refuse(context, "update", name, code);
  if (const auto done = context.db.write_iface(*iface); !done) return report(context, done.error());
  if (const int code = rewrite_bound_nodes(context, *iface); code != 0) return code;
  context.console.out(fmt::format("{} updated.\n", name));
  return 0;
}

int remove(Context& context, const std::string& name) {
  if (control::is_builtin_iface(name)) {
    context.console.err(fmt::format("iface {} is a special interface and cannot be deleted.", name));
    return refuse(context, "delete", name, control::iscsi_err_inval);
  }
  const auto sessions = live_sessions(context);
  if (!sessions) return report(context, sessions.error());
  const bool used = std::any_of(sessions->begin(), sessions->end(), [&](const control::SessionView& session) {
    return session.node.get("iface.iscsi_ifacename") == name;
  });
  if (used) return refuse(context, "delete", name, control::iscsi_err_sess_exists);
  const auto held = context.db.lock();
  if (!held) return report(context, held.error());
  if (!context.db.read_iface(name)) return refuse(context, "delete", name, control::iscsi_err_no_objs_found);
  const auto keys = context.db.list_nodes();
  if (!keys) return report(context, keys.error());
  for (const NodeKey& key : *keys) {
    if (key.iface != name) continue;
    if (const auto done = context.db.remove_node(key); !done) return report(context, done.error());
  }
  if (const auto done = context.db.remove_iface(name); !done) return report(context, done.error());
  context.console.out(fmt::format("{} unbound and deleted.\n", name));
  return 0;
}

int show(Context& context, const Options& options) {
  if (options.print_level > 1) {
    context.console.err(fmt::format("Invalid info level {}. Try 0 or 1.", options.print_level));
    return control::iscsi_err_inval;
  }
  if (!options.ifaces.empty() && options.print_level < 0) {
    for (const std::string& name : options.ifaces) {
      const auto iface = context.db.read_iface(name);
      if (!iface) {
        context.console.err(
            fmt::format("Could not read iface info for {}. Make sure an iface config with the file name and "
                        "iface.iscsi_ifacename {} is in {}/ifaces.",
                        name, name, context.db.record_root()));
        return control::iscsi_err_idbm;
      }
      context.console.out(iface->show(config::Secrets::masked));
    }
    return 0;
  }
  auto ifaces = context.db.list_ifaces();
  const auto nodes = context.db.list_nodes();
  if (!ifaces || !nodes) return report(context, !ifaces ? ifaces.error() : nodes.error());
  for (const char* name : {"default", "iser"}) ifaces->push_back(control::builtin_iface(name));
  if (options.print_level != 1) context.console.out(format_ifaces_flat(*ifaces));
  else if (!nodes->empty()) context.console.out(format_ifaces_tree(*ifaces, *nodes));
  return 0;
}

}  // namespace

int run_iface_mode(Context& context, const Options& options) {
  if (!options.submode.empty()) {
    context.console.err("software interfaces have no ping of their own");
    return control::iscsi_err_op_not_supp;
  }
  const unsigned op = options.op & ~unsigned{op_show};
  if (op == op_none) return show(context, options);
  if (op == op_applyall) return 0;  // nothing of a software interface lives in hardware
  if (options.ifaces.empty()) {
    context.console.err("The operation requires an interface (-I)");
    return control::iscsi_err_inval;
  }
  for (const std::string& name : options.ifaces) {
    int code = 0;
    if (op == op_new) code = create(context, name);
    else if (op == op_update) code = update(context, options, name);
    else if (op == op_delete) code = remove(context, name);
    else if (op == op_apply)
      code =
          context.db.read_iface(name) ? 0 : refuse(context, "apply", name, control::iscsi_err_no_objs_found);
    else code = refuse(context, "change", name, control::iscsi_err_inval);
    if (code != 0) return code;
  }
  return 0;
}

}  // namespace perilune::cli::iscsiadm
