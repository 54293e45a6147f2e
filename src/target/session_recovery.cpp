// SPDX-License-Identifier: Apache-2.0
// The time of lost connections (recovery level 2): how long tasks, and a session without connections, wait
// (RFC 7143 7.5, 7.6).
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "target/connection.hpp"
#include "target/session.hpp"

namespace perilune::target {

void Session::on_recovery_wait(iscsi::TargetSession&, std::uint32_t lost) {
  const auto& params = engine_.params();
  const std::chrono::seconds time(params.default_time2wait + params.default_time2retain);
  std::erase_if(lost_, [lost](const Lost& entry) { return entry.id == lost; });
  lost_.push_back({lost, shard_.loop.now() + time});  // all wait as long: the first is the next to end
  recovery_timer_.arm(lost_.front().deadline);
  shard_.retention.suspended(suspended_);
}

void Session::on_recovery_over(iscsi::TargetSession&, std::uint32_t lost) {
  std::erase_if(lost_, [lost](const Lost& entry) { return entry.id == lost; });
  if (!lost_.empty()) {
    recovery_timer_.arm(lost_.front().deadline);
    return;
  }
  recovery_timer_.cancel();
  suspended_.unlink();
  if (connections_.empty()) shard_.session_idle(*this);  // nobody is left to wait for
}

void Session::on_recovery_timer() {
  const runtime::Instant now = shard_.loop.now();
  while (!lost_.empty() && lost_.front().deadline <= now) {
    shard_.log.event(EventLog::Level::warning, "recovery_timeout",
                     fmt::format("initiator={} tsih={}", initiator_name_, tsih_));
    engine_.expire(lost_.front().id);
  }
}

bool Session::wait_for_recovery() {
  if (!waits_for_recovery()) return false;
  if (!waits_alone_) waits_alone_ = shard_.waiting_sessions.admit(initiator_name_);
  return waits_alone_;
}

void Session::wait_no_longer() {
  if (std::exchange(waits_alone_, false)) shard_.waiting_sessions.leave(initiator_name_);
}

void Session::add_connection(Connection& connection) {
  connections_.push_back(&connection);
  wait_no_longer();
}

// RFC 7143 11.9.1
void Session::tell_dropped(Connection& dropped) {
  if (engine_.params().error_recovery_level < 2) return;
  const auto other = std::find_if(
      connections_.begin(), connections_.end(),
      [&](const Connection* connection) { return connection != &dropped && !connection->leaving(); });
  if (other == connections_.end()) return;
  const auto& params = engine_.params();
  (*other)->engine()->send_async(iscsi::AsyncEvent::connection_dropped, dropped.engine()->cid(),
                                 params.default_time2wait, params.default_time2retain);
}

}  // namespace perilune::target
