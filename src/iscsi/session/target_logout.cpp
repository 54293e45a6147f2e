// SPDX-License-Identifier: Apache-2.0
// Logouts of a target session (RFC 7143 4.2.7, 11.14, 11.15).
#include "iscsi/session/target_session.hpp"

#include <algorithm>

#include "iscsi/session/target_connection.hpp"

namespace perilune::iscsi {

void TargetSession::begin_logout(TargetConnection& connection, const LogoutRequest& pdu) {
  Logout logout{&connection, pdu, Ends::other_connection};
  const bool last = pdu.cid == connection.cid_ && connections_.size() == 1 && lost_.empty();
  const bool recovery = pdu.reason == LogoutReason::remove_connection_for_recovery;
  if (pdu.reason == LogoutReason::close_session || (last && !recovery)) {
    logout.ends = Ends::session;
  } else if (pdu.cid == connection.cid_) {
    logout.ends = Ends::own_connection;
  }
  logouts_.push_back(logout);
  connection.logging_out_ = logout.ends != Ends::other_connection;
  for (TargetConnection* other : connections_) {
    const bool named =
        logout.ends == Ends::session || (logout.ends == Ends::other_connection && other->cid_ == pdu.cid);
    if (!named || other == &connection) continue;
    other->fate_ = recovery ? Fate::removed : Fate::closed;
    // Those of a session are closed when the answer goes (RFC 7143 8.1.3, transition 18): then it says that
    // they are.
    if (logout.ends != Ends::session) host_.close_connection(*other);
  }
  if (logout.ends == Ends::session) {
    shut_down();
  } else if (logout.ends == Ends::own_connection) {
    end_own_connection(connection, pdu.reason);
  } else {
    if (LostConnection* lost = find_lost(pdu.cid)) {
      if (recovery) remove_for_recovery(*lost);
      else expire(lost->id);
    }
    answer_logouts();
  }
}

// Those that it ends are not asked for anything any more.
void TargetSession::heard_of_logout(const TargetConnection& connection, const LogoutRequest& pdu) {
  for (TargetConnection* each : connections_) {
    if (pdu.reason != LogoutReason::close_session && each->cid_ != pdu.cid && each != &connection) continue;
    if (pdu.reason == LogoutReason::close_session || each->cid_ == pdu.cid) each->logout_requested_ = false;
    each->negotiation_requested_ = false;
  }
}

void TargetSession::end_own_connection(TargetConnection& connection, LogoutReason reason) {
  if (reason == LogoutReason::remove_connection_for_recovery) {
    connection.fate_ = Fate::removed;
    suspend(connection);
  }
  connection.fate_ = Fate::closed;
  for (Deferred& d : deferred_) {
    if (d.connection == &connection) drop_deferred(d);
  }
  while (TargetCommand* command = active_.find(
             [&](const TargetCommand& c) { return c.connection == &connection && !c.aborted_; })) {
    request_abort(*command);
  }
  answer_logouts();
}

// RFC 7143 11.14: the tasks end first.
bool TargetSession::may_answer(const Logout& logout) {
  switch (logout.ends) {
    case Ends::session:
      return active_count_ == 0;
    case Ends::own_connection:
      return active_.find([&](const TargetCommand& c) { return c.connection == logout.issuer; }) == nullptr;
    case Ends::other_connection:
      break;
  }
  return orphans_ == 0 && std::none_of(connections_.begin(), connections_.end(),
                                       [&](const TargetConnection* c) { return c->cid_ == logout.pdu.cid; });
}

void TargetSession::answer_logouts() {
  for (std::size_t i = 0; i < logouts_.size();) {
    if (!may_answer(logouts_[i])) {
      ++i;
      continue;
    }
    const Logout logout = logouts_[i];
    logouts_.erase(logouts_.begin() + static_cast<std::ptrdiff_t>(i));
    TargetConnection& connection = *logout.issuer;
    LogoutResponse response;
    response.initiator_task_tag = logout.pdu.initiator_task_tag;
    response.time2wait = static_cast<std::uint16_t>(params_.default_time2wait);
    const bool recovery = logout.pdu.reason == LogoutReason::remove_connection_for_recovery;
    response.time2retain =
        recovery ? static_cast<std::uint16_t>(params_.default_time2retain) : std::uint16_t{0};
    connection.send_status(response);
    if (logout.ends == Ends::other_connection) continue;
    connection.draining_ = true;
    host_.on_logged_out(connection);
    if (logout.ends == Ends::session) close_others(connection);
  }
}

void TargetSession::close_others(const TargetConnection& answered) {
  const std::vector<TargetConnection*> all = connections_;  // one that is closed may leave at once
  for (TargetConnection* other : all) {
    if (other != &answered) host_.close_connection(*other);
  }
}

}  // namespace perilune::iscsi
