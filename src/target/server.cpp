// SPDX-License-Identifier: Apache-2.0
#include "target/server.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.hpp"
#include "iscsi/names/names.hpp"
#include "target/connection.hpp"
#include "target/session.hpp"

namespace perilune::target {
namespace {

std::uint64_t milliseconds(void* loop) {
  const auto now = static_cast<runtime::Loop*>(loop)->now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}

}  // namespace

struct Server::Shutdown {
  Shutdown(Server& server, runtime::Loop& loop, std::function<void(Status)> callback)
      : stopped(std::move(callback)),
        timer(loop.timers(), Delegate<void()>::to<&Server::shutdown_step>(server)),
        deadline(loop.now() + server.config().drain_timeout) {}
  std::function<void(Status)> stopped;
  runtime::Timer timer;
  runtime::Instant deadline;
  bool closing = false;
  Status outcome;
  struct Flush {
    block::BlockOp op;
    Server* server = nullptr;
  };
  std::vector<std::unique_ptr<Flush>> flushes;
  std::size_t flushes_left = 0;
};

std::uint32_t smallest_buffer_pool_pages(const ServerConfig& config) {
  return static_cast<std::uint32_t>(Command::max_pages) + BufferPool::pages_for(config.params.first_burst_length);
}

Result<std::unique_ptr<Server>> Server::create(runtime::Loop& loop, ServerConfig config, EventLog& log) {
  if (config.buffer_pages < smallest_buffer_pool_pages(config)) {
    return fail(Errc::invalid_argument, fmt::format("the buffer pool is too small: {} pages of {} bytes are the least",
                                                    smallest_buffer_pool_pages(config), BufferPool::page_size_bytes));
  }
  if (config.params.max_connections > limits::max_session_connections) {
    return fail(Errc::invalid_argument,
                fmt::format("MaxConnections must be at most {}", limits::max_session_connections));
  }
  // The engine has level 1. Here units still lend memory that changes under data that may be asked for again, and nothing
  // frees what one session retains when another waits for pages.
  if (config.params.error_recovery_level != 0) {
    return fail(Errc::invalid_argument, "ErrorRecoveryLevel above 0 is not served yet");
  }
  auto pool = BufferPool::create(config.buffer_pages);
  if (!pool) return tl::unexpected(pool.error());
  (*pool)->set_min_shared(static_cast<std::uint32_t>(Command::max_pages));
  std::unique_ptr<Server> server(new Server(loop, std::move(config), log, std::move(*pool)));
  if (Status status = server->open_targets(); !status) return tl::unexpected(status.error());
  return server;
}

Server::Server(runtime::Loop& loop, ServerConfig config, EventLog& log, std::unique_ptr<BufferPool> pool)
    : config_(std::move(config)),
      shard_(loop, std::move(pool), log),
      reap_hook_(Delegate<void()>::to<&Server::reap>(*this)) {
  loop.register_buffers(*shard_.pool);
}

Server::~Server() {
  listeners_.clear();
  while (!connections_.empty()) delete &connections_.front();
  while (!sessions_.empty()) delete &sessions_.front();
}

Status Server::open_targets() {
  for (TargetSpec& spec : config_.targets) {
    auto owned = std::make_unique<TargetNode>();
    TargetNode& target = *owned;
    target.spec = std::move(spec);
    target.device = std::make_unique<scsi::Device>(target.spec.name);
    target.device->set_clock(Delegate<std::uint64_t()>::raw(&shard_.loop, milliseconds));
    for (const UnitSpec& unit : target.spec.units) {
      auto channel = unit.backstore->open_channel(shard_.loop);
      if (!channel) return tl::unexpected(channel.error());
      target.channels.push_back(std::move(*channel));
      scsi::UnitConfig config = unit.config;
      const std::uint16_t tag = target.spec.portal_group_tag;
      if (config.port_groups.of_port(tag) == nullptr) config.port_groups = scsi::PortGroups({{.id = tag, .ports = {tag}}}, false);
      auto added = target.device->add_unit(unit.lun, std::move(config), *target.channels.back());
      if (!added) return tl::unexpected(added.error());
    }
    nodes_.push_back(std::move(owned));
  }
  config_.targets.clear();
  return {};
}

Status Server::start() {
  for (const runtime::Endpoint& portal : config_.portals) {
    auto listener = shard_.loop.listen(portal, config_.socket, *this);
    if (!listener) {
      listeners_.clear();
      Error error = listener.error();
      error.message = fmt::format("portal {}: {}", portal.to_string(), error.message);
      return tl::unexpected(std::move(error));
    }
    listeners_.push_back(std::move(*listener));
  }
  return {};
}

std::vector<runtime::Endpoint> Server::bound_portals() const {
  std::vector<runtime::Endpoint> portals;
  for (const auto& listener : listeners_) portals.push_back(listener->local());
  return portals;
}

TargetNode* Server::node(std::string_view name) noexcept {
  for (const auto& target : nodes_) {
    if (target->spec.name == name) return target.get();
  }
  return nullptr;
}

// ---- connections and logins ----

void Server::on_accepted(std::unique_ptr<runtime::Stream> stream) {
  const std::uint64_t id = next_connection_id_++;
  auto* connection = new Connection(*this, shard_, std::move(stream), id);  // connection_closed() deletes it
  connections_.push_back(*connection);
  ++half_open_;
  connection->start();
  if (half_open_ > limits::max_half_open_logins) connection->close("too many connections that have not logged in");
}

iscsi::TargetDecision Server::find_target(const iscsi::TargetQuery& query, const Connection&) {
  iscsi::TargetDecision decision;
  const AuthSpec* auth = &config_.discovery_auth;
  if (query.session_type == iscsi::SessionType::normal) {
    const TargetNode* target = node(query.target_name);
    if (target == nullptr) {
      decision.status = iscsi::LoginStatus::not_found;
      return decision;
    }
    auth = &target->spec.auth;
    decision.target_portal_group_tag = target->spec.portal_group_tag;
    decision.target_alias = target->spec.alias;
  }
  decision.allow_none = auth->accounts.empty();
  for (const auto& account : auth->accounts) decision.accounts.push_back(account.clone());
  if (auth->target_account) decision.target_account = auth->target_account->clone();
  decision.params = config_.params;
  return decision;
}

Session* Server::find_session(const iscsi::SessionQuery& query) {
  return sessions_.find([&](Session& session) {
    if (session.type() != iscsi::SessionType::normal || query.session_type != iscsi::SessionType::normal) return false;
    return session.initiator_name() == query.initiator_name && session.isid() == query.isid &&
           session.node()->spec.name == query.target_name;
  });
}

std::uint16_t Server::allocate_tsih() {
  for (;;) {
    ++last_tsih_;
    if (last_tsih_ == 0) continue;
    if (sessions_.find([this](Session& session) { return session.tsih() == last_tsih_; }) == nullptr) return last_tsih_;
  }
}

// RFC 7143 6.3.5: the same name and ISID on the same portal group is the same I_T nexus: the old session goes, with
// everything that its commands still do, before the new one begins.
void Server::decide_session(Connection& connection, const iscsi::SessionQuery& query) {
  iscsi::SessionDecision decision;
  if (shutdown_ != nullptr) {
    decision.status = iscsi::LoginStatus::service_unavailable;
  } else if (query.tsih != 0) {
    decide_join(connection, query);
    return;
  } else if (session_count_ >= limits::max_sessions) {
    decision.status = iscsi::LoginStatus::out_of_resources;
  } else if (Session* old = find_session(query)) {
    pending_.push_back({&connection, old, false});
    old->end("session reinstated");
    return;
  } else {
    decision.tsih = allocate_tsih();
  }
  connection.session_decided(decision, nullptr);
}

// RFC 7143 6.3.4: another connection for the session, or, with a CID that it has, in the place of that one: then what the
// old connection's commands still do ends before the new one begins.
void Server::decide_join(Connection& connection, const iscsi::SessionQuery& query) {
  iscsi::SessionDecision decision;
  Session* session = sessions_.find([&](Session& s) { return s.tsih() == query.tsih; });
  const bool known = session != nullptr && !session->ending() && session->type() == query.session_type &&
                     session->initiator_name() == query.initiator_name && session->isid() == query.isid &&
                     (session->node() == nullptr || session->node()->spec.name == query.target_name);
  if (!known) {
    decision.status = iscsi::LoginStatus::session_does_not_exist;
  } else if (session->type() != iscsi::SessionType::normal || session->user() != query.user) {
    decision.status = iscsi::LoginStatus::cannot_include_in_session;
  } else {
    const auto& others = session->connections();
    Connection* old = session->find_connection(query.cid);
    const bool full = others.size() >= session->engine().params().max_connections;
    const bool one_leaves =
        std::any_of(others.begin(), others.end(), [](const Connection* other) { return other->leaving(); });
    if (old != nullptr || session->engine().orphans() != 0 || (full && one_leaves)) {
      pending_.push_back({&connection, session, true});
      if (old != nullptr) old->close("connection reinstated");
      return;
    }
    if (full) {
      decision.status = iscsi::LoginStatus::too_many_connections;
    } else {
      decision.tsih = session->tsih();
      decision.exp_cmd_sn = session->engine().exp_cmd_sn();
      decision.max_cmd_sn = session->engine().max_cmd_sn();
    }
  }
  connection.session_decided(decision, decision.status == iscsi::LoginStatus::success ? session : nullptr);
}

bool Server::awaited(const Session& session) const noexcept {
  return std::any_of(pending_.begin(), pending_.end(),
                     [&](const PendingLogin& pending) { return pending.joins && pending.waits_for == &session; });
}

// Logins that waited for a place: the place may be free now, each asks anew.
std::vector<Connection*> Server::take_joining() {
  std::vector<Connection*> ready;
  std::erase_if(pending_, [&](const PendingLogin& pending) {
    if (pending.joins) ready.push_back(pending.connection);
    return pending.joins;
  });
  return ready;
}

// Logins that waited for this session to go. Of several only one can go on at a time: each asks anew.
std::vector<Connection*> Server::take_pending(const Session& gone) {
  std::vector<Connection*> ready;
  std::erase_if(pending_, [&](const PendingLogin& pending) {
    if (pending.waits_for != &gone) return false;
    ready.push_back(pending.connection);
    return true;
  });
  return ready;
}

Session* Server::open_session(Connection& connection, const iscsi::TargetLoginResult& login) {
  TargetNode* target = login.session_type == iscsi::SessionType::normal ? node(login.target_name) : nullptr;
  auto* session = new Session(*this, shard_, target, login, config_.command_window);  // reap() deletes it
  sessions_.push_back(*session);
  ++session_count_;
  shard_.log.event(EventLog::Level::info, "login",
                   fmt::format("connection={} peer={} initiator={} target={} tsih={} user={}", connection.id(),
                               connection.peer().to_string(), login.initiator_name,
                               target != nullptr ? login.target_name : "(discovery)", login.tsih, login.user));
  return session;
}

void Server::logged_in(Connection& connection) {
  --half_open_;
  const Session& session = connection.session();
  if (session.connections().size() == 1) return;  // open_session() told of it
  shard_.log.event(EventLog::Level::info, "connection_joined",
                   fmt::format("connection={} peer={} initiator={} tsih={} cid={}", connection.id(),
                               connection.peer().to_string(), session.initiator_name(), session.tsih(),
                               connection.engine()->cid()));
}

void Server::connection_closing(Connection& connection) {
  if (!connection.logged_in()) --half_open_;
  const auto erased =
      std::erase_if(pending_, [&](const PendingLogin& pending) { return pending.connection == &connection; });
  if (erased != 0) shard_.loop.schedule(reap_hook_);  // the session that it was to join may have nobody left
}

void Server::connection_left(Session& session) {
  if (session.connections().empty() && !awaited(session)) session.end({});
  else shard_.loop.schedule(reap_hook_);
}

void Server::connection_closed(Connection& connection) {
  delete &connection;
  if (shutdown_ != nullptr && shutdown_->closing) shutdown_step();
}

void Server::session_idle(Session&) { shard_.loop.schedule(reap_hook_); }

// Sessions that are over, from the end of the turn: whoever reported it may still be on the stack.
void Server::reap() {
  for (Connection* connection : take_joining()) decide_session(*connection, connection->login().session_query());
  IntrusiveList<Session> gone;
  sessions_.for_each([&](Session& session) {
    if (!session.connections().empty()) return;
    if (!session.ending() && !awaited(session)) session.end({});
    if (!session.ending() || !session.engine().idle()) return;
    IntrusiveList<Session>::remove(session);
    gone.push_back(session);
  });
  while (!gone.empty()) {
    Session& session = gone.pop_front();
    --session_count_;
    shard_.log.event(EventLog::Level::info, "session_ended",
                     fmt::format("initiator={} tsih={}", session.initiator_name(), session.tsih()));
    const std::vector<Connection*> ready = take_pending(session);
    delete &session;
    for (Connection* connection : ready) decide_session(*connection, connection->login().session_query());
  }
  if (shutdown_ != nullptr && shutdown_->closing) shutdown_step();
}

void Server::cold_reset(TargetNode& target) {
  sessions_.for_each([&](Session& session) {
    if (session.node() == &target) session.end("target cold reset");
  });
}

// ---- discovery ----

std::vector<std::string> Server::addresses(const TargetNode& target, const runtime::Endpoint& asked) const {
  std::vector<std::string> result;
  const auto add = [&](const runtime::Endpoint& endpoint) {
    std::string text = fmt::format("{},{}", endpoint.to_string(), target.spec.portal_group_tag);
    if (std::find(result.begin(), result.end(), text) == result.end()) result.push_back(std::move(text));
  };
  // First the address that was asked, which the initiator can reach for certain.
  add(asked);
  for (const auto& listener : listeners_) {
    const runtime::Endpoint& portal = listener->local();
    if (!portal.is_wildcard()) {
      if (portal.is_loopback() == asked.is_loopback() && !portal.is_link_local()) add(portal);
      continue;
    }
    if (asked.is_loopback()) continue;
    for (runtime::Endpoint host : config_.host_addresses) {
      if (host.is_loopback() || host.is_link_local() || (host.is_ipv6 && !portal.is_ipv6)) continue;
      host.port = portal.port;
      add(host);
    }
  }
  return result;
}

std::vector<iscsi::SendTargetsRecord> Server::send_targets(const Session& session, const runtime::Endpoint& portal,
                                                                std::string_view asked) const {
  std::vector<iscsi::SendTargetsRecord> records;
  for (const auto& target : nodes_) {
    if (asked.empty() ? target.get() != session.node() : asked != "All" && asked != target->spec.name) continue;
    records.push_back({target->spec.name, addresses(*target, portal)});
  }
  return records;
}

// ---- shutting down ----

void Server::stop(std::function<void(Status)> stopped) {
  if (shutdown_ != nullptr) return;
  listeners_.clear();
  shutdown_ = std::make_unique<Shutdown>(*this, shard_.loop, std::move(stopped));
  connections_.for_each([](Connection& connection) {
    if (connection.logged_in()) connection.quiesce();
    else connection.close({});
  });
  shutdown_step();
}

void Server::shutdown_step() {
  using namespace std::chrono_literals;
  Shutdown& shutdown = *shutdown_;
  if (shutdown.flushes_left != 0 || !shutdown.stopped) return;
  if (!shutdown.closing) {
    bool quiet = true;
    connections_.for_each([&](Connection& connection) { quiet = quiet && connection.quiet(); });
    if (!quiet && shard_.loop.now() < shutdown.deadline) {
      shutdown.timer.arm(shard_.loop.now() + 10ms);
      return;
    }
    shutdown.closing = true;
    connections_.for_each([](Connection& connection) {
      if (connection.closing() || !connection.logged_in()) return;
      // RFC 7143 11.9.1: all connections of the session are dropped; come again after Time2Wait. Nothing is retained.
      const auto& params = connection.engine()->session().params();
      connection.engine()->send_async(iscsi::AsyncEvent::all_connections_dropped, 0, params.default_time2wait, 0);
      connection.end_after_sending();
    });
  }
  if (!connections_.empty() || !sessions_.empty()) return;
  flush_units();
}

void Server::flush_units() {
  Shutdown& shutdown = *shutdown_;
  struct Done {
    static void call(void* context, block::BlockOp& op) {
      auto& flush = *static_cast<Shutdown::Flush*>(context);
      Shutdown& own = *flush.server->shutdown_;
      if (op.status != block::OpStatus::ok && own.outcome) {
        own.outcome = fail(Errc::io, "flushing a disk failed; its last writes may be lost", op.os_errno);
      }
      if (--own.flushes_left == 0) {
        auto stopped = std::move(own.stopped);
        own.stopped = nullptr;
        stopped(own.outcome);
      }
    }
  };
  shutdown.flushes_left = 1;  // so that it cannot end while we start them
  for (const auto& target : nodes_) {
    for (const auto& channel : target->channels) {
      if (channel->geometry().read_only) continue;
      auto& flush = *shutdown.flushes.emplace_back(std::make_unique<Shutdown::Flush>());
      flush.server = this;
      flush.op.kind = block::OpKind::flush;
      flush.op.done = Delegate<void(block::BlockOp&)>::raw(&flush, &Done::call);
      ++shutdown.flushes_left;
      if (channel->submit(flush.op)) Done::call(&flush, flush.op);
    }
  }
  Shutdown::Flush last;
  last.server = this;
  Done::call(&last, last.op);
}

}  // namespace perilune::target
