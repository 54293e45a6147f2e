// SPDX-License-Identifier: Apache-2.0
#include "target/shard.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.hpp"
#include "target/connection.hpp"
#include "target/server.hpp"
#include "target/session.hpp"

namespace perilune::target {
TargetNode::OpenChannel* TargetNode::find_channel(std::uint16_t lun) noexcept {
  const auto open = std::find_if(channels.begin(), channels.end(),
                                 [lun](const OpenChannel& each) { return each.lun == lun; });
  return open != channels.end() ? &*open : nullptr;
}

struct Shard::Flush {
  struct Unit {
    block::BlockOp op;
    Flush* flush = nullptr;
  };
  explicit Flush(Shard& of, std::function<void(Status)> callback) : shard(of), flushed(std::move(callback)) {}
  Shard& shard;
  std::function<void(Status)> flushed;
  std::vector<std::unique_ptr<Unit>> units;
  std::size_t left = 1;  // so that it cannot end while we start them
  Status outcome;

  void start(block::Channel& channel) {
    if (channel.geometry().read_only) return;
    Unit& unit = *units.emplace_back(std::make_unique<Unit>());
    unit.flush = this;
    unit.op.kind = block::OpKind::flush;
    unit.op.done = Delegate<void(block::BlockOp&)>::raw(&unit, &Flush::ended);
    ++left;
    if (channel.submit(unit.op)) ended(&unit, unit.op);
  }
  void one_over() {
    if (--left != 0) return;
    const auto callback = std::move(flushed);
    const Status status = outcome;
    std::erase_if(shard.flushes_, [this](const auto& flush) { return flush.get() == this; });
    callback(status);
  }
  static void ended(void* context, block::BlockOp& op) {
    Flush& flush = *static_cast<Unit*>(context)->flush;
    if (op.status != block::OpStatus::ok && flush.outcome) {
      flush.outcome = fail(Errc::io, "flushing a disk failed; its last writes may be lost", op.os_errno);
    }
    flush.one_over();
  }
};

Shard::Shard(Server& server, std::uint32_t number, runtime::Loop& shard_loop,
             std::unique_ptr<BufferPool> buffer_pool, EventLog& event_log)
    : loop(shard_loop),
      pool(std::move(buffer_pool)),
      log(event_log),
      server_(server),
      number_(number),
      reap_hook_(Delegate<void()>::to<&Shard::reap>(*this)),
      stop_timer_(shard_loop.timers(), Delegate<void()>::to<&Shard::stop_step>(*this)) {
  loop.register_buffers(*pool);
}

Shard::~Shard() {
  while (!connections_.empty()) delete &connections_.front();
  while (!sessions_.empty()) delete &sessions_.front();
}

// ---- connections and logins ----

void Shard::accept(std::unique_ptr<runtime::Stream> stream, std::uint64_t id, std::uint32_t portal) {
  // connection_closed() deletes it
  auto* connection = new Connection(server_, *this, std::move(stream), id, portal);
  connections_.push_back(*connection);
  logging_in_.push_back(*connection);
  connection->start();
  // The oldest gives way: strangers that hold their connections open, or come faster than they can be dealt
  // with, lock out nobody who logs in.
  if (server_.too_many_logins()) logging_in_.front().close("too many connections that have not logged in");
}

void Shard::arrive(MovingConnection& moving) {
  auto* connection =
      new Connection(server_, *this, loop.adopt(std::move(moving.stream)), moving.id, moving.portal);
  connections_.push_back(*connection);
  connection->resume(std::move(moving.login), std::move(moving.early), moving.login_deadline);
  if (moving.new_tsih == 0) {
    decide_join(*connection, connection->login().session_query());
    return;
  }
  iscsi::SessionDecision decision;
  decision.tsih = moving.new_tsih;
  connection->session_decided(decision, nullptr);
}

Session* Shard::find_session(std::uint16_t tsih) noexcept {
  return sessions_.find([tsih](Session& session) { return session.tsih() == tsih; });
}

// RFC 7143 6.3.4: another connection for the session, or, with a CID that it has, in the place of that one:
// then what the old connection's commands still do ends before the new one begins.
void Shard::decide_join(Connection& connection, const iscsi::SessionQuery& query) {
  iscsi::SessionDecision decision;
  Session* session = find_session(query.tsih);
  const bool known =
      session != nullptr && !session->ending() && session->type() == query.session_type &&
      session->initiator_name() == query.initiator_name && session->isid() == query.isid &&
      (session->node() == nullptr || (session->node()->name == query.target_name &&
                                      session->portal_group_tag() == query.target_portal_group_tag));
  if (!known) {
    decision.status = iscsi::LoginStatus::session_does_not_exist;
  } else if (session->type() != iscsi::SessionType::normal || session->user() != query.user) {
    decision.status = iscsi::LoginStatus::cannot_include_in_session;
  } else {
    const auto& others = session->connections();
    Connection* old = session->find_connection(query.cid);
    // RFC 7143 6.3.4: at recovery level 2 a second one is let in to clean up after the first.
    const auto& params = session->engine().params();
    const std::size_t most =
        std::max<std::size_t>(params.max_connections, params.error_recovery_level == 2 ? 2 : 1);
    const bool full = others.size() >= most;
    const bool one_leaves =
        std::any_of(others.begin(), others.end(), [](const Connection* other) { return other->leaving(); });
    if (old != nullptr || session->engine().orphans() != 0 || (full && one_leaves)) {
      pending_joins_.push_back({&connection, session});
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

bool Shard::awaited(const Session& session) const noexcept {
  return std::any_of(pending_joins_.begin(), pending_joins_.end(),
                     [&](const PendingJoin& pending) { return pending.session == &session; });
}

// Logins that waited for a place: the place may be free now, each asks anew.
void Shard::retry_joins() {
  const std::vector<PendingJoin> ready = std::move(pending_joins_);
  pending_joins_.clear();
  for (const PendingJoin& pending : ready) {
    if (!pending.connection->closing())
      decide_join(*pending.connection, pending.connection->login().session_query());
  }
}

Session* Shard::open_session(Connection& connection, const iscsi::TargetLoginResult& login) {
  TargetNode* target = nullptr;
  if (login.session_type == iscsi::SessionType::normal) {
    for (const auto& [index, candidate] : nodes_) {
      if (candidate->name == login.target_name) target = candidate.get();
    }
  }
  // reap() deletes it
  auto* session = new Session(server_, *this, target, login, server_.config().command_window);
  sessions_.push_back(*session);
  ++session_count_;
  const std::string where = server_.shard_count() == 1 ? std::string() : fmt::format(" shard={}", number_);
  log.event(
      EventLog::Level::info, "login",
      fmt::format("connection={} peer={} initiator={} target={} tsih={} user={}{}", connection.id(),
                  connection.peer().to_string(), login.initiator_name,
                  target != nullptr ? login.target_name : "(discovery)", login.tsih, login.user, where));
  return session;
}

void Shard::logged_in(Connection& connection) {
  logging_in_.remove(connection);
  server_.login_over(*this);
  const Session& session = connection.session();
  if (session.connections().size() == 1) return;  // open_session() told of it
  log.event(EventLog::Level::info, "connection_joined",
            fmt::format("connection={} peer={} initiator={} tsih={} cid={}", connection.id(),
                        connection.peer().to_string(), session.initiator_name(), session.tsih(),
                        connection.engine()->cid()));
}

void Shard::connection_closing(Connection& connection) {
  logging_in_.remove(connection);
  if (!connection.logged_in()) server_.login_over(*this);
  if (number_ == 0) server_.withdraw(connection);
  const auto erased = std::erase_if(
      pending_joins_, [&](const PendingJoin& pending) { return pending.connection == &connection; });
  if (erased != 0) loop.schedule(reap_hook_);  // the session that it was to join may have nobody left
}

void Shard::connection_left(Session& session) {
  const bool alone = session.connections().empty() && !awaited(session);
  if (alone && (state_ != State::serving || session.withdrawn() || !session.wait_for_recovery()))
    session.end({});
  else loop.schedule(reap_hook_);
}

void Shard::connection_closed(Connection& connection) {
  delete &connection;
  if (state_ == State::closing) stop_step();
}

void Shard::connection_departed(Connection& connection) { delete &connection; }

void Shard::session_idle(Session&) { loop.schedule(reap_hook_); }

// Sessions that are over, from the end of the turn: whoever reported it may still be on the stack.
void Shard::reap() {
  retry_joins();
  IntrusiveList<Session> gone;
  sessions_.for_each([&](Session& session) {
    if (!session.connections().empty()) return;
    const bool waits = state_ == State::serving && !session.withdrawn() && session.waits_for_recovery();
    if (!session.ending() && !awaited(session) && !waits) session.end({});
    if (!session.ending() || !session.engine().idle()) return;
    IntrusiveList<Session>::remove(session);
    gone.push_back(session);
  });
  while (!gone.empty()) end_of_session(gone.pop_front());
  if (state_ == State::closing) stop_step();
}

void Shard::end_of_session(Session& session) {
  const std::uint16_t tsih = session.tsih();
  --session_count_;
  log.event(EventLog::Level::info, "session_ended",
            fmt::format("initiator={} tsih={}", session.initiator_name(), tsih));
  delete &session;
  server_.session_gone(*this, tsih);
}

void Shard::end_session(std::uint16_t tsih, std::string_view reason) {
  if (Session* session = find_session(tsih))
    session->end(reason);  // else it has ended by itself, and that was said
}

void Shard::cold_reset(std::uint32_t target) {
  sessions_.for_each([&](Session& session) {
    if (session.node() != nullptr && session.node()->index == target) session.end("target cold reset");
  });
}

void Shard::set_unit_blocks(std::uint32_t target, std::uint16_t lun, BlockCount blocks) {
  TargetNode* const node = find_node(target);
  TargetNode::OpenChannel* open = node != nullptr ? node->find_channel(lun) : nullptr;
  if (open != nullptr && open->channel != nullptr) open->store->set_blocks(*open->channel, blocks);
}

void Shard::unit_resized(std::uint32_t target, std::uint16_t lun) {
  TargetNode* const node = find_node(target);
  scsi::LogicalUnit* const unit = node != nullptr ? node->device->unit(lun) : nullptr;
  if (unit != nullptr) unit->resized();
}

Status Shard::open_medium(std::uint32_t target, std::uint16_t lun,
                          const std::shared_ptr<block::Backstore>& medium) {
  TargetNode* const node = find_node(target);
  if (node == nullptr) return fail(Errc::not_found, "the target has been removed");
  if (medium == nullptr) return {};
  auto channel = medium->open_channel(loop);
  if (!channel) return tl::unexpected(channel.error());
  node->next_media.push_back({lun, medium, std::move(*channel)});
  return {};
}

Status Shard::put_medium_in(std::uint32_t target, std::uint16_t lun, block::SpaceMeter* space) {
  TargetNode* const node = find_node(target);
  scsi::LogicalUnit* unit = node != nullptr ? node->device->unit(lun) : nullptr;
  TargetNode::OpenChannel* open = node != nullptr ? node->find_channel(lun) : nullptr;
  if (unit == nullptr || open == nullptr) return fail(Errc::not_found, "the unit has been removed");
  TargetNode::OpenChannel next{lun, nullptr, nullptr};
  for (TargetNode::OpenChannel& each : node->next_media) {
    if (each.lun == lun) next = std::move(each);
  }
  forget_medium(target, lun);
  Status status = unit->put_medium_in(next.channel.get(), space);
  if (!status) next = {lun, nullptr, nullptr};
  *open = std::move(next);  // what was in use before is not any more
  return status;
}

void Shard::forget_medium(std::uint32_t target, std::uint16_t lun) {
  TargetNode* const node = find_node(target);
  if (node == nullptr) return;
  std::erase_if(node->next_media, [lun](const TargetNode::OpenChannel& each) { return each.lun == lun; });
}

void Shard::set_access(std::uint32_t target, std::shared_ptr<const TargetAccess> access) {
  TargetNode* const node = find_node(target);
  if (node == nullptr) return;
  node->access = std::move(access);
  sessions_.for_each([&](Session& session) {
    if (session.node() == node) session.access_changed();
  });
}

void Shard::request_logout(std::uint16_t tsih, std::chrono::seconds within) {
  Session* session = find_session(tsih);
  if (session == nullptr) return;
  for (Connection* connection : session->connections()) connection->log_out_or_be_dropped(within);
}

void Shard::request_negotiation(std::uint16_t tsih, std::chrono::seconds within) {
  Session* session = find_session(tsih);
  if (session == nullptr) return;
  for (Connection* connection : session->connections()) connection->ask_to_negotiate(within);
}

void Shard::drop_connection(std::uint16_t tsih, std::uint16_t cid) {
  Session* session = find_session(tsih);
  Connection* connection = session != nullptr ? session->find_connection(cid) : nullptr;
  if (connection != nullptr) connection->drop_announced("dropped by the operator");
}

// ---- shutting down ----

void Shard::stop() {
  const auto within = server_.config().logout_timeout;
  state_ = State::asking;
  stop_deadline_ = loop.now() + within;
  // Nobody can come back to what was lost.
  sessions_.for_each([](Session& session) { session.engine().expire_all(); });
  loop.schedule(reap_hook_);
  connections_.for_each([within](Connection& connection) {
    if (!connection.logged_in()) connection.close({});
    else if (within.count() > 0) connection.ask_to_log_out(within);
  });
  stop_step();
}

void Shard::drain() {
  state_ = State::draining;
  stop_deadline_ = loop.now() + server_.config().drain_timeout;
  connections_.for_each([](Connection& connection) { connection.quiesce(); });
}

void Shard::stop_step() {
  using namespace std::chrono_literals;
  if (state_ == State::asking) {
    if (!connections_.empty() && loop.now() < stop_deadline_) {
      stop_timer_.arm(loop.now() + 10ms);
      return;
    }
    drain();
  }
  if (state_ == State::draining) {
    bool quiet = true;
    connections_.for_each([&](Connection& connection) { quiet = quiet && connection.quiet(); });
    if (!quiet && loop.now() < stop_deadline_) {
      stop_timer_.arm(loop.now() + 10ms);
      return;
    }
    state_ = State::closing;
    close_all();
  }
  if (state_ != State::closing || !connections_.empty() || !sessions_.empty()) return;
  if (units_at_work()) {
    stop_timer_.arm(loop.now() + 10ms);
    return;
  }
  state_ = State::stopped;
  server_.shard_stopped(*this);
}

// Tells what outlives its command to stop; it does so when its block operation under way has ended.
bool Shard::units_at_work() {
  bool any = false;
  for (const auto& [index, target] : nodes_) {
    target->device->stop_background_work();
    any = any || target->device->background_work();
  }
  return any;
}

void Shard::close_all() {
  connections_.for_each([](Connection& connection) {
    if (connection.closing() || !connection.logged_in()) return;
    // RFC 7143 11.9.1: all connections of the session are dropped; come again after Time2Wait. Nothing is
    // retained.
    const auto& params = connection.engine()->session().params();
    connection.engine()->send_async(iscsi::AsyncEvent::all_connections_dropped, 0, params.default_time2wait,
                                    0);
    connection.end_after_sending();
  });
}

Shard::Flush& Shard::begin_flush(std::function<void(Status)> flushed) {
  return *flushes_.emplace_back(std::make_unique<Flush>(*this, std::move(flushed)));
}

void Shard::flush_units(std::function<void(Status)> flushed) {
  Flush& flush = begin_flush(std::move(flushed));
  for (const auto& [index, target] : nodes_) {
    for (const auto& open : target->channels) {
      if (open.channel != nullptr) flush.start(*open.channel);
    }
  }
  flush.one_over();
}

void Shard::flush_unit(std::uint32_t target, std::uint16_t lun, std::function<void(Status)> flushed) {
  Flush& flush = begin_flush(std::move(flushed));
  TargetNode* const node = find_node(target);
  const TargetNode::OpenChannel* open = node != nullptr ? node->find_channel(lun) : nullptr;
  if (open != nullptr && open->channel != nullptr) flush.start(*open->channel);
  flush.one_over();
}

}  // namespace perilune::target
