// SPDX-License-Identifier: Apache-2.0
#include "control/iscsid/initiator_daemon.hpp"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/assert.hpp"
#include "base/limits.hpp"
#include "config/portal.hpp"
#include "control/iscsi_error.hpp"

namespace perilune::control {
namespace {

constexpr std::size_t max_discoveries = 32;

bool same_nexus(const config::Record& a, const config::Record& b) {
  const auto ka = config::NodeKey::of(a), kb = config::NodeKey::of(b);
  return ka.target == kb.target && ka.address == kb.address && ka.port == kb.port && ka.iface == kb.iface;
}

}  // namespace

InitiatorDaemon::InitiatorDaemon(runtime::Loop& loop, DaemonOptions options, Log log,
                                 std::function<void()> on_stop_request)
    : loop_(loop),
      options_(std::move(options)),
      log_(std::move(log)),
      on_stop_request_(std::move(on_stop_request)),
      context_{loop,
               log_,
               options_.initiator_name,
               options_.initiator_alias,
               options_.attach_run_dir,
               options_.attach_devices},
      resolver_(loop) {
  context_.resolve = [this](const std::string& host, std::uint16_t port, initiator::Resolver::Done done) {
    resolver_.resolve(host, port, std::move(done));
  };
}

InitiatorDaemon::~InitiatorDaemon() { PERILUNE_ASSERT(sessions_.empty()); }

ControlServer::Handler InitiatorDaemon::handler() {
  return [this](Request request, std::shared_ptr<Exchange> exchange) {
    loop_.post(
        [this, request = std::move(request), exchange = std::move(exchange)] { handle(request, exchange); });
  };
}

void InitiatorDaemon::handle(Request request, std::shared_ptr<Exchange> exchange) {
  if (request.op == "sessions") return do_sessions(*exchange);
  if (request.op == "ping")
    return exchange->finish({{"pid", ::getpid()}, {"initiator_name", options_.initiator_name}});
  if (shutting_down_) return exchange->fail(iscsi_err_again, "the daemon is ending");
  if (request.op == "login") return do_login(request.args, std::move(exchange));
  if (request.op == "logout") return do_logout(request.args, std::move(exchange));
  if (request.op == "rescan") return do_rescan(request.args, std::move(exchange));
  if (request.op == "discover") return do_discover(request.args, std::move(exchange));
  if (request.op == "stop") {
    exchange->finish(Json::object());
    return on_stop_request_();
  }
  exchange->fail(iscsi_err_invalid_mgmt_req, "unknown request");
}

void InitiatorDaemon::do_sessions(Exchange& exchange) {
  Json list = Json::array();
  for (const auto& [sid, session] : sessions_) {
    // One that is still trying for the first time is not a session yet.
    if (session->online() || session->leaving()) list.push_back(session_to_json(session->view()));
  }
  exchange.finish(list);
}

// --- login
// -------------------------------------------------------------------------------------------------------

void InitiatorDaemon::do_login(const Json& args, std::shared_ptr<Exchange> exchange) {
  auto node = record_from_json(config::RecordKind::node, args.value("node", Json()));
  if (!node) return exchange->fail(iscsi_err_inval, node.error().message);
  if (const auto good = config::NodeKey::of(*node).validate(); !good) {
    return exchange->fail(iscsi_err_inval, good.error().message);
  }
  const bool no_wait = flag_of(args, "no_wait");
  if (no_wait) exchange->finish(Json::object());
  login(std::move(*node), flag_of(args, "multiple"),
        [exchange, no_wait](int code, const std::string& message, std::uint32_t sid) {
          if (no_wait) return;
          if (code == 0)
            exchange->finish({{"sid", sid}});
          else
            exchange->fail(code, message);
        });
}

void InitiatorDaemon::login_in_background(const config::Record& node) {
  const std::string target = node.get("node.name");
  login(node, false, [this, target](int code, const std::string& message, std::uint32_t) {
    if (code != 0) log_(fmt::format("automatic login to {} failed: {}", target, message));
  });
}

void InitiatorDaemon::login(config::Record node, bool multiple, LoggedIn done) {
  const auto key = config::NodeKey::of(node);
  ++starting_;
  resolver_.resolve(key.address, key.port,
                    [this, node = std::move(node), multiple, done = std::move(done)](const auto& endpoints) {
    --starting_;
    if (shutting_down_) {
      done(iscsi_err_again, "the daemon is ending", 0);
      return check_shut_down();
    }
    if (!endpoints || endpoints->empty()) {
      return done(iscsi_err_trans, endpoints ? "the name has no address" : endpoints.error().message, 0);
    }
    start_session(node, multiple, endpoints->front(), done);
  });
}

void InitiatorDaemon::start_session(config::Record node, bool multiple, const runtime::Endpoint& portal,
                                    LoggedIn done) {
  if (sessions_.size() >= limits::max_sessions) return done(iscsi_err, "too many sessions", 0);
  // Sessions between the same ports of the same two ends differ in their ISID: the lowest free instance.
  std::vector<unsigned> taken;
  for (const auto& [sid, other] : sessions_) {
    if (!same_nexus(other->node(), node)) continue;
    if (!multiple && other->logging_in()) {
      // Somebody (the automatic login, most likely) is at it already: the outcome is the same for both.
      return other->join_login(
          [done, number = sid](int code, const std::string& message) { done(code, message, number); });
    }
    taken.push_back(other->instance());
  }
  if (!taken.empty() && !multiple) return done(iscsi_err_sess_exists, "the session is there already", 0);
  unsigned instance = 0;
  while (std::find(taken.begin(), taken.end(), instance) != taken.end()) ++instance;
  const std::uint32_t sid = next_sid_++;
  // The session drops itself from inside its own calls: out of the map a turn later.
  auto session = std::make_shared<ManagedSession>(
      context_, sid, instance, std::move(node), portal,
      [this](std::uint32_t gone) { loop_.post([this, gone] { drop_session(gone); }); });
  sessions_.emplace(sid, session);
  session->login(
      [done = std::move(done), sid](int code, const std::string& message) { done(code, message, sid); });
}

void InitiatorDaemon::drop_session(std::uint32_t sid) {
  const auto at = sessions_.find(sid);
  if (at == sessions_.end()) return;
  // The number of an attempt that failed goes to the next one.
  if (!at->second->was_online() && next_sid_ == sid + 1) next_sid_ = sid;
  sessions_.erase(at);
  check_shut_down();
}

// --- logout, rescan, discovery
// -----------------------------------------------------------------------------------

ManagedSession* InitiatorDaemon::find(const Json& args, Exchange& exchange) {
  const auto sid = number_of(args, "sid", -1);
  const auto at =
      sid < 0 || sid > 0xffffffffLL ? sessions_.end() : sessions_.find(static_cast<std::uint32_t>(sid));
  if (at != sessions_.end()) return at->second.get();
  exchange.fail(iscsi_err_sess_not_found, "there is no such session");
  return nullptr;
}

void InitiatorDaemon::do_logout(const Json& args, std::shared_ptr<Exchange> exchange) {
  ManagedSession* session = find(args, *exchange);
  if (session == nullptr) return;
  const auto how =
      options_.safe_logout ? ManagedSession::Leave::refuse_if_used : ManagedSession::Leave::force;
  session->logout(how, [exchange](int code, const std::string& message) {
    if (code == 0) exchange->finish(Json::object());
    else exchange->fail(code, message);
  });
}

void InitiatorDaemon::do_rescan(const Json& args, std::shared_ptr<Exchange> exchange) {
  ManagedSession* session = find(args, *exchange);
  if (session == nullptr) return;
  session->rescan([exchange](int code, const std::string& message) {
    if (code == 0) exchange->finish(Json::object());
    else exchange->fail(code, message);
  });
}

void InitiatorDaemon::do_discover(const Json& args, std::shared_ptr<Exchange> exchange) {
  auto record = record_from_json(config::RecordKind::send_targets, args.value("discovery", Json()));
  if (!record) return exchange->fail(iscsi_err_inval, record.error().message);
  if (const auto good = config::DiscoveryKey::of(*record).validate(); !good) {
    return exchange->fail(iscsi_err_inval, good.error().message);
  }
  if (discoveries_.size() >= max_discoveries)
    return exchange->fail(iscsi_err_again, "too many discoveries at once");
  const std::uint64_t id = next_discovery_++;
  auto job = std::make_shared<DiscoveryJob>(context_, resolver_, std::move(*record), std::move(exchange),
                                            [this, id] { loop_.post([this, id] { drop_discovery(id); }); });
  discoveries_.emplace(id, job);
  job->start();
}

void InitiatorDaemon::drop_discovery(std::uint64_t id) {
  discoveries_.erase(id);
  check_shut_down();
}

// --- the end
// -----------------------------------------------------------------------------------------------------

void InitiatorDaemon::shut_down(std::function<void()> done) {
  if (shutting_down_) return;
  shutting_down_ = true;
  shut_down_done_ = std::move(done);
  const auto discoveries = discoveries_;
  for (const auto& [id, job] : discoveries) job->cancel();
  const auto sessions = sessions_;
  for (const auto& [sid, session] : sessions) {
    session->logout(ManagedSession::Leave::polite_then_force,
                    [this, id = sid](int code, const std::string& message) {
                      if (code != 0) log_(fmt::format("session {} does not end: {}", id, message));
                    });
  }
  check_shut_down();
}

void InitiatorDaemon::check_shut_down() {
  if (shutting_down_ && idle() && shut_down_done_) std::exchange(shut_down_done_, {})();
}

}  // namespace perilune::control
