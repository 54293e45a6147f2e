// SPDX-License-Identifier: Apache-2.0
// The supervisor's requests: where each one goes, and how it ends.
#include <utility>

#include "base/assert.hpp"
#include "initiator/sense.hpp"
#include "initiator/session_impl.hpp"

namespace perilune::initiator {

using iscsi::InitiatorOutcome;

namespace {
constexpr std::uint8_t check_condition = 0x02;
}

void SessionImpl::submit(ScsiRequest& request) {
  request.error_code.reset();
  request.replays_ = 0;
  request.timed_out_ = request.cancelled_ = request.internal_ = false;
  ++open_requests_;
  std::uint64_t length = 0;
  for (const iovec& v : request.data) length += v.iov_len;
  if (length > 0xffffffff || (length != 0 && request.direction == ScsiRequest::Direction::none)) {
    refuse(request, Errc::invalid_argument);
    return;
  }
  if (state_ == SessionState::free || state_ == SessionState::failed || logging_out_) {
    refuse(request, Errc::connection);
    return;
  }
  if (state_ == SessionState::logged_in && up_ != 0 && !draining_ && !falling_) {
    hand_over(request);
    kick();
  } else if (failing_fast_) {
    refuse(request, Errc::connection);
  } else {
    held_.push_back(request);
  }
}

void SessionImpl::hand_over(ScsiRequest& request) {
  if (any_gone_ && !request.internal_) {
    const auto watched = watched_.find(request.lun);
    if (watched != watched_.end() && watched->second.gone) {
      refuse(request, Errc::not_found);
      return;
    }
  }
  const runtime::Duration limit = request.timeout.count() > 0 ? runtime::Duration(request.timeout)
                                                              : runtime::Duration(config_.command_timeout);
  if (!engine_->session.submit(request)) {
    refuse(request, Errc::limit);
    return;
  }
  if (limit.count() > 0) {
    request.deadline_ = loop_.now() + limit;
    if (request.deadline_ < tick_deadline_ || !tick_timer_.armed()) arm_tick(request.deadline_);
  } else {
    request.deadline_ = runtime::Instant::max();
  }
}

void SessionImpl::refuse(ScsiRequest& request, Errc why) {
  request.error_code = why;
  request.outcome = InitiatorOutcome::none;
  refused_.push_back(request);
  loop_.schedule(refused_hook_);
}

void SessionImpl::call_refused() {
  IntrusiveList<ScsiRequest> now;
  now.splice_back(refused_);
  while (!now.empty()) end(now.pop_front(), std::nullopt);
  for (TaskManagement* task : std::exchange(refused_tasks_, {})) {
    if (task->done) task->done(*task);
  }
  if (logging_out_ || draining_) logout_when_idle();
}

// The one place where a request leaves. `why` empty: error_code says already what there is to say.
void SessionImpl::end(ScsiRequest& request, std::optional<Errc> why) {
  if (why) request.error_code = why;
  PERILUNE_ASSERT(open_requests_ > 0);
  --open_requests_;
  if (request.status == check_condition && request.sense_length != 0) look_for_unit_change(request);
  request.done(request);
}

bool SessionImpl::may_replay(const ScsiRequest& request) const noexcept {
  return !request.timed_out_ && !request.cancelled_ && !request.internal_ && !failing_fast_ &&
         !logging_out_ && request.replays_ < max_replays &&
         (request.replay_safe || request.outcome == InitiatorOutcome::unsent);
}

void SessionImpl::finish(ScsiRequest& request) {
  switch (request.outcome) {
    case InitiatorOutcome::status:
      end(request, std::nullopt);
      return;
    case InitiatorOutcome::target_failure:
      end(request, Errc::io);
      return;
    case InitiatorOutcome::rejected:
      end(request, Errc::protocol);
      return;
    case InitiatorOutcome::aborted:
      ++past_.aborted_commands;
      aborted(request);
      return;
    case InitiatorOutcome::data_lost:
      if (may_replay(request)) replay(request);
      else
        end(request, request.timed_out_ ? Errc::timed_out : request.cancelled_ ? Errc::cancelled : Errc::io);
      return;
    case InitiatorOutcome::lost:
      if (established_ && may_replay(request)) {  // the connection was recovered, this task was not
        replay(request);
        return;
      }
      [[fallthrough]];
    case InitiatorOutcome::none:
    case InitiatorOutcome::unsent:
      end(request, request.timed_out_   ? Errc::timed_out
                   : request.cancelled_ ? Errc::cancelled
                                        : Errc::connection);
      return;
  }
}

// A command that was reassigned and not heard of again until its time limit may have been lost there: LIO
// says "function complete" to the reassignment of a task that it does not have, where RFC 7143 11.6.1 has
// "task does not exist".
void SessionImpl::aborted(ScsiRequest& request) {
  const bool timed_out = request.timed_out_;
  if (request.was_reassigned()) request.timed_out_ = false;
  if (may_replay(request)) {  // a reset that another command needed took it along
    replay(request);
  } else {
    end(request, timed_out ? Errc::timed_out : Errc::cancelled);
  }
}

void SessionImpl::replay(ScsiRequest& request) {
  ++request.replays_;
  ++past_.replayed_commands;
  hand_over(request);
}

void SessionImpl::drain() {
  auto& completed = engine_->session.completed();
  while (!completed.empty()) finish(static_cast<ScsiRequest&>(completed.pop_front()));
  auto& tasks = engine_->session.completed_tasks();
  while (!tasks.empty()) task_ended(static_cast<TaskManagement&>(tasks.pop_front()));
}

// The connection is gone: what may be sent again waits for the next one, in the old order and before what
// came later.
void SessionImpl::reclaim_after_loss() {
  IntrusiveList<ScsiRequest> again, over;
  auto& completed = engine_->session.completed();
  while (!completed.empty()) {
    auto& request = static_cast<ScsiRequest&>(completed.pop_front());
    const bool lost =
        request.outcome == InitiatorOutcome::lost || request.outcome == InitiatorOutcome::unsent ||
        request.outcome == InitiatorOutcome::aborted || request.outcome == InitiatorOutcome::data_lost;
    if (lost && may_replay(request)) {
      if (request.outcome != InitiatorOutcome::unsent) {
        ++request.replays_;
        ++past_.replayed_commands;
      }
      again.push_back(request);
    } else {
      over.push_back(request);
    }
  }
  again.splice_back(held_);
  held_.splice_back(again);
  while (!over.empty()) finish(over.pop_front());
  drain();
}

void SessionImpl::fail_held(Errc why) {
  while (!held_.empty()) refuse(held_.pop_front(), why);
}

void SessionImpl::abort(ScsiRequest& request) {
  request.cancelled_ = true;
  if (static_cast<ListNode<ScsiRequest>&>(request).linked()) {  // held, or refused already
    IntrusiveList<ScsiRequest>::remove(request);
    refuse(request, Errc::cancelled);
  } else if (engine_->session.withdraw(request)) {
    refuse(request, Errc::cancelled);
  } else {
    next_abort();
  }
}

// REPORTED LUNS DATA HAS CHANGED, CAPACITY DATA HAS CHANGED (SPC-4 table of additional sense codes).
void SessionImpl::look_for_unit_change(const ScsiRequest& request) {
  const SenseCode sense = decode_sense(Bytes(request.sense.data(), request.sense_length));
  if (sense.key == sense_key::unit_attention && (sense.code() == 0x3f0e || sense.code() == 0x2a09))
    units_changed_ = true;
}

// --- the target's own messages
// -------------------------------------------------------------------------------------

void SessionImpl::drain_events() {
  if (!engine_->session.has_events()) return;
  for (iscsi::InitiatorEvent& event : engine_->session.take_events()) {
    switch (event.kind) {
      case iscsi::InitiatorEvent::Kind::ping_answered:
        if (Link* link = find_link(event.cid); link != nullptr && link->asking) recovered(*link);
        break;
      case iscsi::InitiatorEvent::Kind::text_answer:
        if (text_answer_) std::exchange(text_answer_, {})(std::move(event.data));
        break;
      case iscsi::InitiatorEvent::Kind::text_failed:
        if (text_answer_)
          std::exchange(text_answer_, {})(fail(Errc::protocol, "the target rejected the text request"));
        break;
      case iscsi::InitiatorEvent::Kind::logged_out:
      case iscsi::InitiatorEvent::Kind::logout_failed:
        if (event.reason != iscsi::LogoutReason::close_session) {
          if (Link* link = find_link(event.cid)) link_logged_out(*link, event);
        } else if (event.kind == iscsi::InitiatorEvent::Kind::logged_out) {
          if (!logging_out_) time2wait_ = std::chrono::seconds(event.logout.time2wait);
          fall(Error{Errc::connection, "logged out", 0});
        } else {
          fall(Error{Errc::protocol, "the target rejected the logout", 0});
        }
        break;
      case iscsi::InitiatorEvent::Kind::recovery_failed:
        fall(Error{Errc::connection, "the target does not reassign the tasks of a lost connection", 0});
        break;
      case iscsi::InitiatorEvent::Kind::async:
        on_async(event);
        break;
    }
  }
}

void SessionImpl::on_async(const iscsi::InitiatorEvent& event) {
  const iscsi::AsyncMessage& async = event.async;
  switch (async.async_event) {
    case iscsi::AsyncEvent::scsi_event: {
      if (event.data.size() < 2) return;
      const std::size_t length = load_be16(event.data.data());
      if (2 + length > event.data.size()) return;
      const SenseCode sense = decode_sense(Bytes(event.data).subspan(2, length));
      if (sense.key == sense_key::unit_attention) units_changed_ = true;
      return;
    }
    case iscsi::AsyncEvent::logout_requested:
    case iscsi::AsyncEvent::negotiation_requested:  // a new login negotiates everything
      if (logging_out_ || draining_) return;
      draining_ = true;
      logout_timer_.arm(loop_.now() + std::chrono::seconds(std::max<int>(1, async.parameter3)));
      logout_when_idle();
      return;
    case iscsi::AsyncEvent::connection_dropped:
      time2wait_ = std::chrono::seconds(std::min<int>(async.parameter2, 3600));
      if (Link* link = find_link(async.parameter1); link != nullptr && link->driver != nullptr) {
        link->driver->close(Error{Errc::connection, "the target announced that it drops the connection", 0});
      }
      return;
    case iscsi::AsyncEvent::all_connections_dropped:
      time2wait_ = std::chrono::seconds(std::min<int>(async.parameter2, 3600));
      fall(Error{Errc::connection, "the target announced that it drops the connections", 0});
      return;
    case iscsi::AsyncEvent::all_tasks_terminated:
    case iscsi::AsyncEvent::vendor_specific:
      return;
  }
}

void SessionImpl::send_targets(const std::string& value, Session::TextAnswer answer) {
  const std::string keys = "SendTargets=" + value + std::string(1, '\0');
  if (text_answer_ || up_ == 0 || !engine_->session.text(as_bytes(keys))) {
    loop_.post([answer = std::move(answer)] {
      answer(fail(Errc::busy, "the session cannot send a text request now"));
    });
    return;
  }
  text_answer_ = std::move(answer);
  kick();
}

// --- what people ask
// ----------------------------------------------------------------------------------------------

SessionInfo SessionImpl::info() const {
  SessionInfo info = info_;
  info.state = state_;
  for (const auto& link : links_) {
    if (!link->up()) continue;
    ConnectionInfo& connection = info.connections.emplace_back();
    connection.cid = link->cid;
    connection.portal = link->driver->portal();
    if (const runtime::Endpoint* local = link->driver->local()) connection.local = *local;
  }
  return info;
}

SessionStatistics SessionImpl::statistics() const {
  SessionStatistics s = past_;
  for (const auto& link : links_) {
    if (!link->driver) continue;
    s.txdata_octets += link->driver->octets().sent;
    s.rxdata_octets += link->driver->octets().received;
    s.login_pdus += link->driver->octets().login_pdus;
  }
  const iscsi::InitiatorCounters& c = engine_->session.counters();
  s.noptx_pdus = c.nop_outs;
  s.scsicmd_pdus = c.scsi_commands;
  s.tmfcmd_pdus = c.task_requests;
  s.text_pdus = c.text_requests;
  s.dataout_pdus = c.data_outs;
  s.logout_pdus = c.logout_requests;
  s.noprx_pdus = c.nop_ins;
  s.scsirsp_pdus = c.scsi_responses;
  s.tmfrsp_pdus = c.task_responses;
  s.textrsp_pdus = c.text_responses;
  s.datain_pdus = c.data_ins;
  s.logoutrsp_pdus = c.logout_responses;
  s.r2t_pdus = c.r2ts;
  s.async_pdus = c.asyncs;
  s.rjt_pdus = c.rejects;
  s.digest_err = c.digest_errors;
  s.snack_pdus = c.snacks;
  s.reassigned_commands = c.reassigned_commands;
  s.retransmitted_commands = c.retransmitted_commands;
  return s;
}

}  // namespace perilune::initiator
