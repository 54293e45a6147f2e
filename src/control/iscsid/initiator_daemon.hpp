// SPDX-License-Identifier: Apache-2.0
// iscsid without its process: answers the requests of the control socket with sessions, discoveries and
// devices.
//
// Thread: the loop's, but for handler(), which any thread may call. It reads no files: records come with the
// requests.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "control/iscsid/discovery_job.hpp"
#include "control/iscsid/managed_session.hpp"
#include "initiator/resolver.hpp"
#include "control/server.hpp"

namespace perilune::control {

struct DaemonOptions {
  std::string initiator_name;
  std::string initiator_alias;
  bool safe_logout = false;         // iscsid.safe_logout
  bool attach_devices = true;
  std::string attach_run_dir;       // empty: attach's own default
};

class InitiatorDaemon {
 public:
  InitiatorDaemon(runtime::Loop& loop, DaemonOptions options, Log log, std::function<void()> on_stop_request);
  ~InitiatorDaemon();  // precondition: idle()
  InitiatorDaemon(const InitiatorDaemon&) = delete;
  InitiatorDaemon& operator=(const InitiatorDaemon&) = delete;

  // For ControlServer. The daemon outlives the server.
  [[nodiscard]] ControlServer::Handler handler();
  void handle(Request request, std::shared_ptr<Exchange> exchange);

  // Logs in without anybody waiting (node.startup = automatic).
  void login_in_background(const config::Record& node);
  // Logs out of everything; new requests are refused. `done` when nothing is left.
  void shut_down(std::function<void()> done);
  [[nodiscard]] bool idle() const noexcept {
    return sessions_.empty() && discoveries_.empty() && starting_ == 0;
  }

 private:
  void do_sessions(Exchange& exchange);
  void do_login(const Json& args, std::shared_ptr<Exchange> exchange);
  void do_logout(const Json& args, std::shared_ptr<Exchange> exchange);
  void do_rescan(const Json& args, std::shared_ptr<Exchange> exchange);
  void do_discover(const Json& args, std::shared_ptr<Exchange> exchange);

  using LoggedIn = std::function<void(int code, const std::string& message, std::uint32_t sid)>;
  void login(config::Record node, bool multiple, LoggedIn done);
  void start_session(config::Record node, bool multiple, const runtime::Endpoint& portal, LoggedIn done);
  [[nodiscard]] ManagedSession* find(const Json& args, Exchange& exchange);
  void drop_session(std::uint32_t sid);
  void drop_discovery(std::uint64_t id);
  void check_shut_down();

  runtime::Loop& loop_;
  DaemonOptions options_;
  Log log_;
  std::function<void()> on_stop_request_;
  SessionContext context_;
  initiator::Resolver resolver_;
  std::map<std::uint32_t, std::shared_ptr<ManagedSession>> sessions_;
  std::map<std::uint64_t, std::shared_ptr<DiscoveryJob>> discoveries_;
  std::uint32_t next_sid_ = 1;
  std::uint64_t next_discovery_ = 1;
  std::size_t starting_ = 0;  // logins whose address is being looked up
  bool shutting_down_ = false;
  std::function<void()> shut_down_done_;
};

}  // namespace perilune::control
