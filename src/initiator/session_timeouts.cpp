// SPDX-License-Identifier: Apache-2.0
// The supervisor's clock: pings, time limits of commands, and the ladder ABORT TASK, LUN RESET, new
// connection.
#include <algorithm>

#include "initiator/session_impl.hpp"

namespace perilune::initiator {

using iscsi::InitiatorOutcome;
using iscsi::TmfFunction;
using iscsi::TmfResponse;
using runtime::Instant;

void SessionImpl::arm_tick(Instant deadline) {
  tick_deadline_ = deadline;
  tick_timer_.arm(deadline);
}

void SessionImpl::tick() {
  if (up_ == 0) return;
  Instant next = loop_.now() + std::chrono::seconds(3600);
  for (auto& link : links_) {
    if (link->up()) check_ping(*link, next);
  }
  if (info_.error_recovery_level != 0) check_recovery(next);
  check_requests(next);
  check_tasks(next);
  if (up_ != 0) arm_tick(std::max(next, loop_.now() + std::chrono::milliseconds(1)));
}

// A ping when nothing came for noop_interval; the connection is dead when nothing at all has come
// noop_timeout after it.
void SessionImpl::check_ping(Link& link, Instant& next) {
  if (config_.noop_interval.count() <= 0) return;
  const Instant now = loop_.now();
  const Instant heard = link.driver->last_received();
  iscsi::InitiatorConnection& connection = *link.driver->connection();
  if (connection.ping_open()) {
    const Instant limit = std::max(heard, link.ping_sent) + config_.noop_timeout;
    if (config_.noop_timeout.count() > 0 && now >= limit) {
      ++past_.timeout_err;
      link.driver->close(Error{Errc::timed_out, "no answer to a NOP-Out", 0});
      return;
    }
    next = std::min(next, limit);
    return;
  }
  if (now >= heard + config_.noop_interval) {
    if (connection.ping()) {
      link.ping_sent = now;
      link.driver->kick();
    }
    next = std::min(next,
                    now + (config_.noop_timeout.count() > 0 ? config_.noop_timeout : config_.noop_interval));
  } else {
    next = std::min(next, heard + config_.noop_interval);
  }
}

// Something damaged was asked for: should it not come, the target may have had no room for the request.
void SessionImpl::watch_recovery() {
  for (auto& link : links_) {
    if (!link->up() || !link->driver->connection()->is_asking()) {
      link->ask_at.reset();
    } else if (!link->ask_at) {
      link->ask_at = loop_.now() + ask_interval;
      if (!tick_timer_.armed() || *link->ask_at < tick_deadline_) arm_tick(*link->ask_at);
    }
  }
}

void SessionImpl::check_recovery(Instant& next) {
  watch_recovery();
  for (auto& link : links_) {
    if (!link->ask_at) continue;
    if (loop_.now() >= *link->ask_at) {
      link->ask_at = loop_.now() + ask_interval;
      link->driver->ask_again();
    }
    next = std::min(next, *link->ask_at);
  }
}

void SessionImpl::check_requests(Instant& next) {
  const Instant now = loop_.now();
  engine_->session.for_each_pending([&](iscsi::InitiatorCommand& command) {
    auto& request = static_cast<ScsiRequest&>(command);
    if (request.deadline_ > now) {
      next = std::min(next, request.deadline_);
    } else if (engine_->session.withdraw(request)) {
      ++past_.timeout_err;
      refuse(request, Errc::timed_out);
    }
  });
  bool expired = false;
  engine_->session.for_each_sent([&](iscsi::InitiatorCommand& command) {
    auto& request = static_cast<ScsiRequest&>(command);
    if (request.timed_out_) return;
    if (request.deadline_ > now) {
      next = std::min(next, request.deadline_);
    } else {
      ++past_.timeout_err;
      request.timed_out_ = true;
      expired = true;
    }
  });
  if (expired) next_abort();
}

// Begins the ladder for the oldest command that has to go. One at a time: a reset may end them all.
void SessionImpl::next_abort() {
  if (rung_ != Rung::none || up_ == 0 || falling_) return;
  ScsiRequest* victim = nullptr;
  engine_->session.for_each_sent([&](iscsi::InitiatorCommand& command) {
    auto& request = static_cast<ScsiRequest&>(command);
    if (engine_->session.is_suspended(request)) return;  // its turn comes when its connection is recovered
    if (victim == nullptr && (request.timed_out_ || request.cancelled_)) victim = &request;
  });
  if (victim == nullptr) return;
  if (abort_task_open_) {  // an earlier one was never answered
    reset_unit(victim->lun);
    return;
  }
  abort_task_.function = TmfFunction::abort_task;
  abort_task_.lun = victim->lun;
  abort_task_.command = victim;
  abort_task_.deadline_ = loop_.now() + config_.abort_timeout;
  if (!engine_->session.manage(abort_task_)) {
    reset_unit(victim->lun);
    return;
  }
  abort_task_open_ = true;
  rung_ = Rung::abort_task;
  if (!tick_timer_.armed() || abort_task_.deadline_ < tick_deadline_) arm_tick(abort_task_.deadline_);
  kick();
}

void SessionImpl::reset_unit(std::uint64_t lun) {
  reset_task_.function = TmfFunction::logical_unit_reset;
  reset_task_.lun = lun;
  reset_task_.deadline_ = loop_.now() + config_.lu_reset_timeout;
  if (reset_task_open_ || !engine_->session.manage(reset_task_)) {
    fall(Error{Errc::timed_out, "a command and its abort were not answered", 0});
    return;
  }
  reset_task_open_ = true;
  rung_ = Rung::lun_reset;
  if (!tick_timer_.armed() || reset_task_.deadline_ < tick_deadline_) arm_tick(reset_task_.deadline_);
  kick();
}

void SessionImpl::ladder_step_ended(TaskManagement& task) {
  const bool is_abort = &task == &abort_task_;
  (is_abort ? abort_task_open_ : reset_task_open_) = false;
  if (task.outcome == InitiatorOutcome::lost) {  // with its connection, which is being recovered, or with the
                                                 // session
    if (rung_ == (is_abort ? Rung::abort_task : Rung::lun_reset)) rung_ = Rung::none;
    next_abort();
    return;
  }
  if (rung_ != (is_abort ? Rung::abort_task : Rung::lun_reset)) return;  // too late: the ladder has gone on
  const bool good = task.outcome == InitiatorOutcome::status &&
                    (task.response == TmfResponse::function_complete ||
                     (is_abort && task.response == TmfResponse::task_does_not_exist));
  rung_ = Rung::none;
  if (good) {
    next_abort();
  } else if (is_abort) {
    reset_unit(task.lun);
  } else {
    fall(Error{Errc::timed_out, "the target does not reset its unit", 0});
  }
}

void SessionImpl::task_ended(TaskManagement& task) {
  if (&task == &abort_task_ || &task == &reset_task_) {
    ladder_step_ended(task);
    return;
  }
  std::erase(user_tasks_, &task);
  if (task.outcome == InitiatorOutcome::lost) {
    task.error_code = loop_.now() >= task.deadline_ ? Errc::timed_out : Errc::connection;
  } else if (task.outcome == InitiatorOutcome::rejected) {
    task.error_code = Errc::protocol;
  }
  if (task.done) task.done(task);
}

// A ladder step, or a function that the user asked for, that is not answered in time.
void SessionImpl::check_tasks(Instant& next) {
  const Instant now = loop_.now();
  if (rung_ == Rung::abort_task) {
    if (now >= abort_task_.deadline_) {
      rung_ = Rung::none;
      reset_unit(abort_task_.lun);
    } else {
      next = std::min(next, abort_task_.deadline_);
    }
  }
  if (rung_ == Rung::lun_reset) {
    if (now >= reset_task_.deadline_) {
      fall(Error{Errc::timed_out, "the target does not answer LUN RESET", 0});
      return;
    }
    next = std::min(next, reset_task_.deadline_);
  }
  for (TaskManagement* task : user_tasks_) {
    if (now >= task->deadline_) {
      fall(Error{Errc::timed_out, "the target does not answer a task management function", 0});
      return;
    }
    next = std::min(next, task->deadline_);
  }
}

void SessionImpl::manage(TaskManagement& task) {
  task.error_code.reset();
  const bool connected = state_ == SessionState::logged_in && up_ != 0;
  if (!connected || task.function == TmfFunction::abort_task || !engine_->session.manage(task)) {
    task.error_code = !connected                                    ? Errc::connection
                      : task.function == TmfFunction::abort_task ? Errc::invalid_argument
                                                                    : Errc::limit;
    refused_tasks_.push_back(&task);
    loop_.schedule(refused_hook_);
    return;
  }
  task.deadline_ = loop_.now() + config_.lu_reset_timeout;
  user_tasks_.push_back(&task);
  if (!tick_timer_.armed() || task.deadline_ < tick_deadline_) arm_tick(task.deadline_);
  kick();
}

}  // namespace perilune::initiator
