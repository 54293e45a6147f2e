// SPDX-License-Identifier: Apache-2.0
#include "target/connection.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/copy.hpp"
#include "target/server.hpp"
#include "target/session.hpp"

namespace perilune::target {

using Step = iscsi::TargetLogin::Step;

namespace {

// Seconds, as an Asynchronous Message has them (RFC 7143 11.9).
std::uint16_t parameter3(std::chrono::seconds within) {
  return static_cast<std::uint16_t>(std::clamp<std::int64_t>(within.count(), 1, 65535));
}

}  // namespace

Connection::Connection(Server& server, Shard& shard, std::unique_ptr<runtime::Stream> stream,
                       std::uint64_t id, std::uint32_t portal)
    : server_(server),
      shard_(shard),
      stream_(std::move(stream)),
      id_(id),
      portal_(portal),
      flush_hook_(Delegate<void()>::to<&Connection::flush>(*this)),
      timer_(shard.loop.timers(), Delegate<void()>::to<&Connection::on_timer>(*this)),
      asked_timer_(shard.loop.timers(), Delegate<void()>::to<&Connection::on_asked_for_too_long>(*this)),
      login_decoder_(limits::max_data_segment_before_login_bytes),
      login_tx_(shard.chunks) {
  iscsi::TargetLoginConfig config;
  config.command_window = limits::min_command_window;
  login_ = std::make_unique<iscsi::TargetLogin>(
      config, iscsi::RandomFill::to<&runtime::Random::fill>(shard.loop.random()));
}

Connection::~Connection() {
  if (session_ != nullptr) session_->remove_connection(*this);
  engine_.reset();
}

void Connection::start() {
  stream_->set_handler(*this);
  login_began_ = shard_.loop.now();
  limit_login(server_.config().login_timeout);
  receive_more();
}

void Connection::limit_login(std::chrono::seconds limit) {
  login_deadline_ = login_began_ + limit;
  timer_.arm(login_deadline_);
}

void Connection::resume(std::unique_ptr<iscsi::TargetLogin> login, std::vector<std::uint8_t> early,
                        runtime::Instant login_deadline) {
  stream_->set_handler(*this);
  login_ = std::move(login);
  early_ = std::move(early);
  login_deadline_ = login_deadline;
  waits_for_decision_ = true;
  timer_.arm(login_deadline_);
}

std::chrono::seconds Connection::ping_interval() const {
  return session_->rules().ping_interval.value_or(server_.config().ping_interval);
}

std::chrono::seconds Connection::ping_timeout() const {
  return session_->rules().ping_timeout.value_or(server_.config().ping_timeout);
}

void Connection::arm_timer(std::chrono::nanoseconds delay) { timer_.arm(shard_.loop.now() + delay); }

// ---- receiving ----

bool Connection::receives_directly() const noexcept {
  return engine_->missing_bytes() >= direct_threshold_bytes && engine_->data_length() >= direct_segment_bytes;
}

void Connection::receive_more() {
  if (receiving_ || closing_ || waits_for_decision_ || close_after_login_tx_ || quiescing_) return;
  // A peer that does not read what it asked for is not read from either.
  if (engine_ && engine_->tx().own_bytes() > max_own_tx_bytes) return;
  receiving_ = true;
  direct_bytes_ = 0;
  into_memory_ = engine_ && (bulk_ || receives_directly());
  if (!into_memory_) {
    stream_->receive();
    return;
  }
  // The rest of the payload to where it belongs; behind it room for the header of the next, so that that one
  // can be received directly too. Between two bulk payloads only the staging: a large buffer would take in
  // the payload.
  std::array<iovec, 64> iov;
  std::size_t count = 0;
  const std::uint32_t missing = engine_->missing_bytes();
  bulk_ = receives_directly();
  if (bulk_) {
    count = engine_->direct({iov.data(), iov.size() - 1});
    for (std::size_t i = 0; i < count; ++i) direct_bytes_ += static_cast<std::uint32_t>(iov[i].iov_len);
  }
  if (direct_bytes_ == (bulk_ ? missing : 0)) {
    if (staging_.empty()) staging_.resize(staging_bytes);
    iov[count++] = {staging_.data(), staging_.size()};
  }
  stream_->receive_into({iov.data(), count}, false);
}

void Connection::on_received(int result, Bytes data) {
  receiving_ = false;
  if (closing_) return;
  if (result <= 0) {
    close(result == 0 ? std::string_view{} : std::string_view("receive failed"));
    return;
  }
  if (quiescing_) return;  // never acknowledged: the initiator sends it again to whoever serves next
  bytes_seen_ += static_cast<std::uint64_t>(result);
  alone_ = shard_.receives_again(*this);
  feeding_ = true;
  if (into_memory_) {
    const auto n = static_cast<std::uint32_t>(result);
    const std::uint32_t payload = std::min(n, direct_bytes_);
    if (payload != 0 && !engine_->commit_direct(payload)) close(engine_->drop_reason());
    if (!closing_ && n > payload) feed(Bytes(staging_).first(n - payload));
  } else {
    feed(data);
  }
  feeding_ = false;
  if (!closing_) receive_more();
}

void Connection::feed(Bytes data) {
  if (!engine_) {
    feed_login(data);
  } else if (!engine_->feed(data)) {
    close(engine_->drop_reason());
  }
}

// ---- login ----

void Connection::feed_login(Bytes data) {
  using Event = iscsi::PduDecoder::Event;
  while (!closing_ && !close_after_login_tx_) {
    if (waits_for_decision_) {
      early_.assign(data.begin(), data.end());
      return;
    }
    if (engine_) {  // the peer may send at once behind its last Login Request
      feed(data);
      return;
    }
    switch (login_decoder_.next(data)) {
      case Event::need_more:
        return;
      case Event::header:
        login_decoder_.collect();
        break;
      case Event::pdu:
        login_step(login_->receive(login_decoder_.bhs(), login_decoder_.data()));
        break;
      case Event::error:
        close("data segment too long before login");
        return;
    }
  }
}

void Connection::login_step(Step step) {
  for (;;) {
    switch (step) {
      case Step::ask_target:
        step = login_->answer_target(server_.find_target(login_->target_query(), *this));
        continue;
      case Step::ask_session:
        waits_for_decision_ = true;
        server_.decide_session(*this, login_->session_query());
        return;
      case Step::respond:
        login_tx_.push(login_->response().bhs.data(), login_->response().data());
        schedule_flush();
        return;
      case Step::complete:
        login_tx_.push(login_->response().bhs.data(), login_->response().data());
        enter_full_feature();
        login_.reset();  // an idle session holds no login machine
        schedule_flush();
        return;
      case Step::respond_and_close:
        login_tx_.push(login_->response().bhs.data(), login_->response().data());
        close_after_login_tx_ = true;
        close_reason_ = login_->failure().reason;
        schedule_flush();
        return;
      case Step::close:
        close(login_->failure().reason);
        return;
    }
  }
}

void Connection::session_decided(const iscsi::SessionDecision& decision, Session* session) {
  if (closing_) return;
  session_ = session;
  waits_for_decision_ = false;
  login_step(login_->answer_session(decision));
  if (feeding_) return;  // feed_login() goes on with what it holds
  std::vector<std::uint8_t> early = std::move(early_);
  early_.clear();
  feeding_ = true;
  if (!early.empty() && !closing_) feed(early);
  feeding_ = false;
  if (!closing_) receive_more();
}

void Connection::move_to(Shard& shard, std::uint16_t new_tsih) {
  destination_ = &shard;
  new_tsih_ = new_tsih;
  schedule_flush();  // where it leaves from, when everything is sent
}

void Connection::depart() {
  auto moving = std::make_shared<MovingConnection>();
  moving->id = id_;
  moving->portal = portal_;
  moving->stream = stream_->release();
  moving->login = std::move(login_);
  moving->early = std::move(early_);
  moving->login_deadline = login_deadline_;
  moving->new_tsih = new_tsih_;
  server_.depart(std::move(moving), *destination_);
  shard_.connection_departed(*this);  // destroys this
}

void Connection::enter_full_feature() {
  const iscsi::TargetLoginResult& result = login_->result();
  if (session_ == nullptr) session_ = shard_.open_session(*this, result);
  engine_ = std::make_unique<iscsi::TargetConnection>(session_->engine(), result.connection, result.cid,
                                                      result.next_stat_sn, shard_.chunks);
  engine_->host_state = this;
  text_.emplace(session_->type(), result.connection.max_xmit_data_segment_length, 1);
  session_->add_connection(*this);
  session_->engine().connection_reinstated(result.cid, result.exp_stat_sn);  // when one with this CID was
                                                                             // lost
  shard_.logged_in(*this);
  // Its right may have gone while it logged in.
  session_->access_changed();
  if (closing_ || end_after_sending_) return;
  timer_.cancel();
  keep_watch();
}

// From now on silence is asked about, if at all.
void Connection::keep_watch() {
  if (ping_interval().count() > 0) arm_timer(ping_interval());
}

void Connection::rules_changed() {
  if (!closing_ && engine_ && !end_after_sending_ && !engine_->ping_outstanding()) {
    timer_.cancel();
    keep_watch();
  }
}

// ---- sending ----

void Connection::on_output() {
  // Only of what it is fed: an engine that is being taken down has answers too, and is not to be looked at
  // then. What is less than a threshold is out of its range as well: the differences are of unsigned numbers.
  // Asked for every answer, so what nearly always decides is first.
  if (!alone_ || !feeding_) return schedule_flush();
  const std::uint64_t queued = engine_->tx().queued_bytes();
  const bool early = queued - early_send_bytes <= early_send_range_bytes ||
                     (queued - early_status_bytes < iscsi::bhs_bytes && !shard_.loop.spins());
  const bool at_once = early && in_flight_ == nullptr && !closing_ && login_tx_.empty();
  // A send that is over at once ends commands, which is not for the middle of another.
  if (!at_once || engine_->tx().has_late()) [[likely]] return schedule_flush();
  flush();
  shard_.loop.hand_over();
}

void Connection::schedule_flush() {
  if (!closing_) shard_.loop.schedule(flush_hook_);
}

void Connection::flush() {
  if (in_flight_ != nullptr || stream_closed_) return;
  iscsi::TxQueue& queue = sending_queue();
  if (!queue.empty()) settle_copies();  // of the writes whose ends this tells
  if (queue.has_late()) {
    if (!send_now(queue)) return;
    receive_more();  // should that have waited for room
  }
  if (queue.empty()) return go_on_when_empty();
  gather_ = shard_.gathers.take();
  const std::size_t count = queue.gather(*gather_);
  in_flight_ = &queue;
  stream_->send({gather_->data(), count});
}

void Connection::go_on_when_empty() {
  if (destination_ != nullptr) depart();
  else if (close_after_login_tx_) close(close_reason_);
  else if (engine_ && (engine_->draining() || end_after_sending_))
    close(engine_->drop_reason());  // empty after a logout
}

// As far as the socket has room, and until there is nothing that this spares a copy. False: the connection is
// closing.
bool Connection::send_now(iscsi::TxQueue& queue) {
  auto list = shard_.gathers.take();
  std::uint64_t given = 0;
  int taken = 0;
  do {
    const std::span<const iovec> pieces(list->data(), queue.gather_for_now(*list));
    given = 0;
    for (const iovec& piece : pieces) given += piece.iov_len;
    taken = stream_->send_now(pieces);
    if (taken < 0) break;
    queue.sent_now(static_cast<std::uint64_t>(taken));  // may end commands, and begin others
  } while (!closing_ && static_cast<std::uint64_t>(taken) == given && queue.has_late());
  shard_.gathers.give_back(std::move(list));
  if (taken < 0 && !closing_) close("send failed");
  return !closing_;
}

void Connection::on_sent(int result) {
  iscsi::TxQueue* queue = in_flight_;
  in_flight_ = nullptr;
  shard_.gathers.give_back(std::move(gather_));
  if (result < 0) {
    if (!closing_) close("send failed");
    return;
  }
  if (closing_) return;
  queue->sent(static_cast<std::uint64_t>(result));
  if (destination_ != nullptr) {
    schedule_flush();  // it does not leave from inside a callback of its stream
    return;
  }
  flush();
  receive_more();
}

// ---- time and the end ----

void Connection::on_timer() {
  if (!engine_) {
    close("login timeout");
    return;
  }
  if (end_after_sending_) {
    close({});
    return;
  }
  const bool silent = bytes_seen_ == 0;
  bytes_seen_ = 0;
  if (!silent) {
    keep_watch();
    return;
  }
  if (ping_interval().count() == 0) return;
  if (engine_->ping_outstanding()) {
    // Boot firmware (iPXE) never answers a NOP-In: whoever has never answered one is left to TCP's own
    // keepalive.
    if (ever_answered_ping_) {
      close("no answer to NOP-In");
      return;
    }
    arm_timer(ping_timeout());
    return;
  }
  engine_->send_ping();
  arm_timer(ping_timeout());
}

void Connection::end_after_sending() {
  end_after_sending_ = true;
  schedule_flush();
  // A peer that does not read must not hold up the end.
  arm_timer(std::chrono::seconds(1));
}

void Connection::ask_to_log_out(std::chrono::seconds within) {
  if (closing_ || !engine_) return;
  engine_->request_logout(parameter3(within));
}

void Connection::log_out_or_be_dropped(std::chrono::seconds within) {
  ask_to_log_out(within);
  asked_timer_.arm(shard_.loop.now() + within);
}

void Connection::ask_to_negotiate(std::chrono::seconds within) {
  if (closing_ || !engine_ || engine_->logout_requested()) return;
  asked_within_ = within;
  negotiation_requests_ = 1;
  engine_->request_negotiation(parameter3(within));
  asked_timer_.arm(shard_.loop.now() + within);
}

// RFC 7143 11.9.1: who does not log out is dropped, if possible with an announcement; who does not negotiate
// may be asked again.
void Connection::on_asked_for_too_long() {
  if (closing_ || !engine_) return;
  if (engine_->logout_requested()) {
    drop_announced("no logout within the time that it was asked for");
  } else if (engine_->negotiation_requested() && negotiation_requests_ < max_negotiation_requests) {
    ++negotiation_requests_;
    engine_->request_negotiation(parameter3(asked_within_));
    asked_timer_.arm(shard_.loop.now() + asked_within_);
  }
}

void Connection::drop_announced(std::string_view reason) {
  if (closing_ || !engine_ || engine_->draining()) return;
  engine_->announce_drop(reason);
  end_after_sending();
}

void Connection::quiesce() { quiescing_ = true; }

bool Connection::quiet() noexcept {
  return closing_ || !engine_ ||
         (engine_->session().idle() && engine_->tx().empty() && in_flight_ == nullptr);
}

void Connection::close(std::string_view reason) {
  if (closing_) return;
  closing_ = true;
  timer_.cancel();
  asked_timer_.cancel();
  flush_hook_.unlink();
  if (!reason.empty()) {
    shard_.log.event(
        EventLog::Level::warning, "connection_dropped",
        fmt::format("connection={} peer={} reason=\"{}\"", id_, stream_->peer().to_string(), reason));
  }
  if (engine_ && !reason.empty()) session_->tell_dropped(*this);
  if (new_tsih_ != 0) server_.session_gone(shard_, new_tsih_);
  shard_.connection_closing(*this);
  stream_->close();
}

void Connection::on_closed() {
  stream_closed_ = true;
  // Nothing touches the command memory any more: the engine may let go of it, and the commands of this
  // connection end.
  if (engine_) engine_->tx().clear();
  login_tx_.clear();
  Session* session = std::exchange(session_, nullptr);
  if (session != nullptr) session->remove_connection(*this);
  engine_.reset();
  if (session != nullptr) shard_.connection_left(*session);
  shard_.connection_closed(*this);  // destroys this
}

}  // namespace perilune::target
