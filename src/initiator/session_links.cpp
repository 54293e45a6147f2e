// SPDX-License-Identifier: Apache-2.0
// The connections of the supervisor's session: they join it, leave it, and at recovery level 2 are recovered
// in it.
#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "initiator/discovery.hpp"
#include "initiator/session_impl.hpp"

namespace perilune::initiator {

using iscsi::LogoutReason;

Link::Link(SessionImpl& owner, runtime::Loop& loop, std::uint16_t number)
    : session(owner),
      cid(number),
      login_timer(loop.timers(), Delegate<void()>::to<&Link::login_timed_out>(*this)),
      retry_timer(loop.timers(), Delegate<void()>::to<&Link::retry>(*this)) {}

void Link::on_login(const iscsi::InitiatorLoginResult& result) {
  login_timer.cancel();
  leading = !session.established_;
  if (leading) session.on_login(result);
}
void Link::on_attached() { session.on_attached(*this); }
void Link::on_progress() { session.on_progress(); }
void Link::on_down(ConnectionLoss loss) { session.on_down(*this, std::move(loss)); }
void Link::retry() { session.retry(*this); }
void Link::login_timed_out() {
  ++session.past_.timeout_err;
  if (driver) driver->close(Error{Errc::timed_out, "no login within the time limit", 0});
}

Link* SessionImpl::find_link(std::uint16_t cid) noexcept {
  return cid < links_.size() ? links_[cid].get() : nullptr;
}

Link* SessionImpl::any_up() noexcept {
  const auto found = std::find_if(links_.begin(), links_.end(), [](const auto& link) { return link->up(); });
  return found == links_.end() ? nullptr : found->get();
}

Link* SessionImpl::staying() noexcept {
  const auto found = std::find_if(links_.begin(), links_.end(),
                                  [](const auto& link) { return link->up() && !link->retiring; });
  return found == links_.end() ? nullptr : found->get();
}

void SessionImpl::kick() {
  for (auto& link : links_) {
    if (link->driver) link->driver->kick_if_output();
  }
}

// --- connections come
// ----------------------------------------------------------------------------------------------

void SessionImpl::connect(Link& link) {
  PERILUNE_ASSERT(link.driver == nullptr);
  iscsi::InitiatorLoginConfig login = login_config();
  login.cid = link.cid;
  if (established_) {
    login.tsih = info_.tsih;
    login.cmd_sn = engine_->session.next_cmd_sn();
    if (link.lost)
      login.exp_stat_sn = link.exp_stat_sn;  // RFC 7143 11.12.9: acknowledges what the old one has brought
  }
  link.driver = std::make_unique<ConnectionDriver>(loop_, link, engine_);
  std::chrono::milliseconds limit = config_.login_timeout;
  if (link.lost && staying() != nullptr)
    limit = limit.count() > 0 ? std::min<std::chrono::milliseconds>(limit, rejoin_limit) : rejoin_limit;
  if (limit.count() > 0) link.login_timer.arm(loop_.now() + limit);
  link.driver->start(link.portal.value_or(current_portal_), config_.socket, std::move(login));
}

// The session is ready: the other connections may come.
void SessionImpl::join_others() {
  while (links_.size() < wanted_connections_) {
    links_.push_back(std::make_unique<Link>(*this, loop_, static_cast<std::uint16_t>(links_.size())));
  }
  for (std::size_t i = 0; i < wanted_connections_; ++i) {
    Link& link = *links_[i];
    if (link.driver == nullptr && !link.lost && !link.refused && !link.retry_timer.armed()) connect(link);
  }
}

void SessionImpl::on_attached(Link& link) {
  ++up_;
  link.backoff = std::chrono::milliseconds(0);
  link.redirects = 0;
  if (link.leading) {
    session_attached();
    return;
  }
  if (!tick_timer_.armed()) arm_tick(loop_.now() + config_.noop_interval);
  if (!link.lost) return;
  // It has taken the place of the lost one. The answer says which commands the target has.
  link.asking = true;
  if (!link.driver->connection()->ping()) link.driver->close(Error{Errc::limit, "no task tag for a ping", 0});
}

// --- and go
// --------------------------------------------------------------------------------------------------------

void SessionImpl::on_down(Link& link, ConnectionLoss loss) {
  link.login_timer.cancel();
  const ConnectionDriver::Octets octets = link.driver->octets();
  past_.txdata_octets += octets.sent;
  past_.rxdata_octets += octets.received;
  past_.login_pdus += octets.login_pdus;
  if (iscsi::InitiatorConnection* connection = link.driver->connection()) {
    --up_;
    link.exp_stat_sn = connection->exp_stat_sn();
    engine_->session.lose(*connection);
  }
  link.driver.reset();
  link.asking = false;
  if (falling_) {
    fallen();
  } else if (!established_) {
    session_down(std::move(loss));
  } else if (loss.during_login) {
    joining_failed(link, loss);
  } else {
    link_failed(link, std::move(loss));
  }
}

void SessionImpl::link_failed(Link& link, ConnectionLoss loss) {
  // The target closes all of them as it answers the Logout of the session, on one of them (RFC 7143 8.1.3):
  // the answer decides, or the time that it may take.
  if (logout_sent_ && &link != logout_link_ && logout_link_->up()) return;
  if (link.retiring && link.logout_sent) {  // as it was to be: the answer has come, or will not
    link.retiring = link.logout_sent = false;
    if (up_ == 0) wait_for_recovery();
    on_progress();
    return;
  }
  link.retiring = false;
  if (recovers()) {
    begin_recovery(link);
  } else {
    fall(std::move(loss.error));
  }
}

// The session goes on without it, but for what waits at the target.
void SessionImpl::joining_failed(Link& link, const ConnectionLoss& loss) {
  if (follow_redirect(link, loss)) return;
  link.portal.reset();
  link.redirects = 0;
  const bool refused = loss.login_status && iscsi::status_class(*loss.login_status) == 2;
  // "Too many connections": the target has not noticed yet that the old one is gone, or has not finished with
  // it (LIO).
  if (refused && link.lost && up_ == 0 && *loss.login_status != iscsi::LoginStatus::too_many_connections) {
    fall(loss.error);
    return;
  }
  if (refused && !link.lost) {
    link.refused = true;
    return;
  }
  try_again_later(link);
}

void SessionImpl::try_again_later(Link& link) {
  const bool other_way = link.lost && !link.shut_out && staying() != nullptr;
  if (other_way) {  // of removing it, which needs no new connection
    link.shut_out = true;
    link.retry_timer.arm(loop_.now());
    return;
  }
  link.backoff =
      std::clamp<std::chrono::milliseconds>(link.backoff * 2, std::chrono::milliseconds(500), max_backoff);
  link.retry_timer.arm(loop_.now() + link.backoff);
}

// RFC 7143 11.13.5 class 1, bounded. The session stays where it is; this connection of it is made elsewhere.
bool SessionImpl::follow_redirect(Link& link, const ConnectionLoss& loss) {
  if (!loss.login_status || iscsi::status_class(*loss.login_status) != 1) return false;
  if (++link.redirects > max_redirects) return false;
  const std::string_view text = loss.redirect_address;
  if (const auto numeric = runtime::Endpoint::parse(text.substr(0, text.find(',')), 3260))
    return go_to(link, *numeric);
  const auto named = parse_target_address(text);
  if (!named || !config_.resolve) return false;
  config_.resolve(named->address, named->port,
                  [weak = std::weak_ptr(self_), cid = link.cid](const auto& addresses) {
                    if (const auto self = weak.lock()) (*self)->link_redirect_resolved(cid, addresses);
                  });
  return true;
}

bool SessionImpl::go_to(Link& link, const runtime::Endpoint& to) {
  if (!may_go_to(to, link.portal.value_or(current_portal_))) return false;
  link.portal = to;
  link.retry_timer.arm(loop_.now());
  return true;
}

void SessionImpl::link_redirect_resolved(std::uint16_t cid,
                                         const Result<std::vector<runtime::Endpoint>>& addresses) {
  Link* link = find_link(cid);
  if (link == nullptr || falling_ || !established_ || link->driver != nullptr || link->retry_timer.armed())
    return;
  if (addresses && std::any_of(addresses->begin(), addresses->end(),
                               [&](const runtime::Endpoint& to) { return go_to(*link, to); }))
    return;
  link->portal.reset();
  try_again_later(*link);
}

void SessionImpl::retry(Link& link) {
  if (falling_ || !established_ || link.driver != nullptr) return;
  if (!link.lost && link.cid >= wanted_connections_) return;
  // Its ExpStatSN goes with a login in its place, so the target keeps nothing that we have, and no Logout on
  // another connection is mistaken for an acknowledgement of what this one carried (LIO does that).
  Link* other = staying();
  if (link.lost && other != nullptr && (link.shut_out || link.cid >= wanted_connections_)) {
    remove_lost(link, *other);
  } else {
    connect(link);
  }
}

// Closes everything; session_down() follows, from a later point of the loop.
void SessionImpl::fall(Error why) {
  if (falling_) return;
  falling_.emplace();
  falling_->during_login = !established_;
  falling_->error = std::move(why);
  for (auto& link : links_) {
    if (link->driver) link->driver->close(falling_->error);
  }
  loop_.schedule(fallen_hook_);  // when there was none
}

void SessionImpl::fallen() {
  if (!falling_) return;
  if (std::any_of(links_.begin(), links_.end(), [](const auto& link) { return link->driver != nullptr; }))
    return;
  session_down(std::move(*falling_));
}

void SessionImpl::drop_connection() {
  Link* link = any_up();
  if (link == nullptr) link = &lead();
  if (link->driver) link->driver->close(Error{Errc::connection, "dropped on request", 0});
}

// --- as many as are wanted
// ------------------------------------------------------------------------------------------

void SessionImpl::set_connections(std::uint16_t count) {
  if (state_ != SessionState::logged_in || falling_ || logging_out_) return;
  wanted_connections_ = std::clamp<std::uint16_t>(count, 1, info_.max_connections);
  join_others();
  for (std::size_t i = wanted_connections_; i < links_.size(); ++i) retire(*links_[i]);
  logout_retired();
}

void SessionImpl::retire(Link& link) {
  if (link.up()) {
    link.retiring = true;
    link.driver->connection()->retire();
  } else if (!link.lost) {
    link.retry_timer.cancel();
    if (link.driver) link.driver->close(Error{Errc::cancelled, "not wanted any more", 0});
  }
}

// RFC 7143 11.14: a logout of the connection would end its commands, so they go first.
void SessionImpl::logout_retired() {
  if (logout_sent_) return;  // of the whole session
  for (auto& link : links_) {
    if (!link->retiring || link->logout_sent || !link->up() || link->driver->connection()->outstanding() != 0)
      continue;
    link->logout_sent =
        engine_->session.logout(*link->driver->connection(), LogoutReason::close_connection, link->cid);
    link->driver->kick();
  }
}

// A logout of one connection was answered, or failed.
void SessionImpl::link_logged_out(Link& link, const iscsi::InitiatorEvent& event) {
  const bool answered = event.kind == iscsi::InitiatorEvent::Kind::logged_out;
  // A CID that the target does not know is one that it never took in, or has removed before.
  const bool removed = answered && (event.logout.response == iscsi::LogoutResponseCode::closed_successfully ||
                                    event.logout.response == iscsi::LogoutResponseCode::cid_not_found);
  if (event.reason == LogoutReason::close_connection) {
    if (link.driver) link.driver->close(Error{Errc::connection, "logged out", 0});
    return;
  }
  if (!link.lost || falling_) return;
  if (removed) {
    recovered(link);
  } else if (answered) {
    fall(Error{Errc::connection, "the target does not recover a lost connection", 0});
  } else {
    link.retry_timer.arm(loop_.now() + std::chrono::milliseconds(100));
  }
}

// --- recovery level 2 (RFC 7143 7.2.2, 7.5)
// -------------------------------------------------------------------------

bool SessionImpl::recovers() const noexcept {
  return info_.error_recovery_level >= 2 && time2retain_.count() > 0 && !verifying_ && !logging_out_ &&
         !draining_ && (state_ == SessionState::logged_in || state_ == SessionState::reconnecting);
}

void SessionImpl::begin_recovery(Link& link) {
  ++past_.connection_failures;
  link.lost = true;
  link.lost_until = loop_.now() + time2wait_ + time2retain_;
  link.retry_timer.arm(loop_.now() + time2wait_);
  arm_recovery_timer();
  if (up_ == 0) wait_for_recovery();
  on_progress();  // functions that it carried have ended; what waited goes by others
}

void SessionImpl::wait_for_recovery() {
  tick_timer_.cancel();
  set_state(SessionState::reconnecting);
  hold();
}

// By a connection that is there, and stays.
void SessionImpl::remove_lost(Link& link, Link& by) {
  if (by.asking || !engine_->session.logout(*by.driver->connection(),
                                            LogoutReason::remove_connection_for_recovery, link.cid)) {
    link.retry_timer.arm(loop_.now() + std::chrono::milliseconds(100));
    return;
  }
  by.driver->kick();
}

// The target has removed it: its tasks go on elsewhere, or here when it has logged in again.
void SessionImpl::recovered(Link& link) {
  link.lost = link.asking = link.shut_out = false;
  ++past_.recovered_connections;
  ++info_.recovered_connections;
  arm_recovery_timer();
  engine_->session.recover(link.cid);
  if (link.cid < wanted_connections_ && link.driver == nullptr) connect(link);
  if (state_ == SessionState::reconnecting) {
    hand_over_held();
    arm_tick(loop_.now());
  }
  kick();
}

void SessionImpl::arm_recovery_timer() {
  runtime::Instant first = runtime::Instant::max();
  for (const auto& link : links_) {
    if (link->lost) first = std::min(first, link->lost_until);
  }
  if (first == runtime::Instant::max()) {
    recovery_timer_.cancel();
  } else {
    recovery_timer_.arm(first);
  }
}

void SessionImpl::recovery_timed_out() {
  fall(Error{Errc::timed_out, "a lost connection was not recovered within Time2Retain", 0});
}

}  // namespace perilune::initiator
