// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cli/iscsiadm/modes.hpp"
#include "cli/verbs.hpp"
#include "control/iscsi_error.hpp"
#include "control/server.hpp"

namespace perilune::cli {
namespace {

using namespace iscsiadm;

int stop_daemon(Context& context) {
  if (!context.daemon.reach(Daemon::Start::no)) {
    context.console.err("can not connect to iSCSI daemon (111)!");
    return control::iscsi_err_iscsid_notconn;
  }
  const auto reply = context.daemon.call("stop", control::Json::object());
  if (reply.code != 0) context.console.err(fmt::format("Could not stop iscsid: {}", reply.message));
  return reply.code;
}

}  // namespace

int run_iscsiadm(int argc, char** argv) {
  StdConsole console;
  int exit_code = 0;
  const auto options = parse_options(argc, argv, console, exit_code);
  if (!options) return exit_code;
  control::RecordDb db;
  SocketDaemon daemon(control::ControlServer::default_path(), db.root(), console);
  Context context{console, db, daemon};
  return options->kill_priority ? stop_daemon(context) : run_mode(context, *options);
}

}  // namespace perilune::cli
