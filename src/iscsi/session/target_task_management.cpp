// SPDX-License-Identifier: Apache-2.0
// Task management of a target session (RFC 7143 4.2.3, 11.5): what a request waits for, whom it ends, and in
// which order the answers go.
#include "iscsi/session/target_session.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "iscsi/session/target_connection.hpp"

namespace perilune::iscsi {

namespace {

// Whatever the initiator has sent before, to whichever unit, is affected.
bool affects_every_unit(TmfFunction function) noexcept {
  return function == TmfFunction::target_warm_reset || function == TmfFunction::target_cold_reset ||
         function == TmfFunction::i_t_nexus_reset;
}

bool aborts_task_set(TmfFunction function) noexcept {
  return function == TmfFunction::abort_task_set || function == TmfFunction::clear_task_set ||
         function == TmfFunction::logical_unit_reset;
}

// Its answer tells of an abort of many tasks (RFC 7143 4.2.2.3.4).
bool is_fenced(TmfFunction function) noexcept {
  return aborts_task_set(function) || affects_every_unit(function);
}

bool is_served(TmfFunction function, std::uint8_t protocol_level) noexcept {
  const auto number = static_cast<std::uint8_t>(function);
  const auto last = protocol_level >= sam5_protocol_level ? TmfFunction::query_asynchronous_event
                                                          : TmfFunction::task_reassign;
  return number >= static_cast<std::uint8_t>(TmfFunction::abort_task) &&
         number <= static_cast<std::uint8_t>(last);
}

}  // namespace

void TargetSession::start_task_management(TargetConnection& connection, const TaskManagementRequest& pdu) {
  ++stats_.task_management;
  if (pdu.function == TmfFunction::task_reassign) {
    reassign(connection, pdu);
    return;
  }
  ++task_management_count_;
  auto* request = new TaskManagement;  // control path; given back by finish_task_management()
  request->pdu = pdu;
  request->session = this;
  request->connection = &connection;
  task_management_.push_back(*request);
  if (!is_served(pdu.function, params_.protocol_level)) {
    finish_task_management(*request, TmfResponse::function_not_supported);
    return;
  }
  if (pdu.function == TmfFunction::abort_task) {
    request->referenced = by_itt_.find(pdu.referenced_task_tag);
    if (request->referenced == nullptr) {
      answer_abort_of_unseen(*request);
      return;
    }
  } else if (is_fenced(pdu.function)) {
    drop_deferred_of(pdu);
    // RFC 7143 4.2.3.3 b: a reset of the target need not wait for commands that have not come; they count as
    // received.
    if (affects_every_unit(pdu.function)) plug(pdu.cmd_sn);
    if (params_.task_reporting == TaskReporting::fast_abort) {
      announce_ends(*request);
    } else {
      end_requests_for_data(*request);
      if (data_is_due(*request)) {
        request->waits_for_data_ = true;
        ++data_waits_;
        host_.on_data_wait(*this);
        return;
      }
    }
  }
  host_.on_task_management(*request);
}

// RFC 7143 4.2.3.3 b, 4.2.3.4 a: an immediate request waits until every command before it has come. On a
// single connection what is missing was discarded (data digest error): the initiator sends it again, or gives
// it up by ABORT TASK.
bool TargetSession::must_wait(const TaskManagementRequest& pdu) const noexcept {
  return aborts_task_set(pdu.function) && exp_cmd_sn_.before(pdu.cmd_sn) && in_window(pdu.cmd_sn.minus(1));
}

bool TargetSession::affects(const TaskManagementRequest& pdu, const TargetCommand& command) const noexcept {
  return affects_every_unit(pdu.function) || command.pdu.lun == pdu.lun;
}

// RFC 7143 4.2.3.3 a: what was asked for is waited for, and no more is asked for.
void TargetSession::end_requests_for_data(const TaskManagement& request) {
  active_.for_each([&](TargetCommand& command) {
    if (affects(request.pdu, command)) command.ending_ = true;
  });
}

bool TargetSession::data_is_due(const TaskManagement& request) {
  return active_.find([&](const TargetCommand& command) {
    return command.ending_ && command.r2t_count_ != 0 && !command.aborted_ && command.connection != nullptr &&
           affects(request.pdu, command);
  }) != nullptr;
}

// Going on with one may end commands, and so let others go on: look anew each time.
void TargetSession::data_settled() {
  while (data_waits_ != 0) {
    TaskManagement* request = task_management_.find([this](const TaskManagement& candidate) {
      return candidate.waits_for_data_ && !data_is_due(candidate);
    });
    if (request == nullptr) return;
    request->waits_for_data_ = false;
    --data_waits_;
    host_.on_task_management(*request);
  }
}

void TargetSession::end_data_waits() {
  while (TaskManagement* request = task_management_.find(
             [](const TaskManagement& candidate) { return candidate.waits_for_data_; })) {
    request->waits_for_data_ = false;
    --data_waits_;
    host_.on_task_management(*request);
  }
}

// RFC 7143 4.2.3.4 d: the other connections of the session learn that data for these tasks is not wanted any
// more; on its own the initiator knows. What still comes is read and discarded, so there is nothing to free
// with the acknowledgement (g).
void TargetSession::announce_ends(const TaskManagement& request) {
  active_.for_each([&](TargetCommand& command) {
    if (!affects(request.pdu, command)) return;
    if (command.connection == request.connection) command.announced_ = true;
    else announce_end(command);
  });
}

void TargetSession::announce_end(TargetCommand& command) {
  if (params_.task_reporting != TaskReporting::fast_abort || command.announced_ ||
      command.connection == nullptr)
    return;
  active_.for_each([&](TargetCommand& other) {
    if (other.connection == command.connection && other.pdu.lun == command.pdu.lun) other.announced_ = true;
  });
  command.connection->send_async(AsyncEvent::all_tasks_terminated, 0, 0, 0, command.pdu.lun);
}

// RFC 7143 11.5.1: a task not known yet whose RefCmdSN is in the window and before this request counts as
// received and aborted; anything else does not exist.
void TargetSession::answer_abort_of_unseen(TaskManagement& request) {
  const CmdSn ref = request.pdu.ref_cmd_sn;
  const auto waiting = std::find_if(deferred_.begin(), deferred_.end(), [&](const Deferred& d) {
    return d.command != nullptr && d.command->pdu.initiator_task_tag == request.pdu.referenced_task_tag;
  });
  if (waiting != deferred_.end()) {
    drop_deferred(*waiting);
    finish_task_management(request, TmfResponse::function_complete);
    return;
  }
  if (forget_lost_answer(request.pdu.referenced_task_tag)) {  // it would have come by a reassignment
    finish_task_management(request, TmfResponse::function_complete);
    return;
  }
  if (!in_window(ref) || !ref.before(request.pdu.cmd_sn) || waits(ref)) {
    finish_task_management(request, TmfResponse::task_does_not_exist);
    return;
  }
  finish_task_management(request, TmfResponse::function_complete);
  consume(ref);
}

// Commands that came before the request but wait for an earlier CmdSN are affected too.
void TargetSession::drop_deferred_of(const TaskManagementRequest& pdu) {
  const bool any_lun = affects_every_unit(pdu.function);
  for (Deferred& d : deferred_) {
    if (d.command == nullptr || !d.cmd_sn.before(pdu.cmd_sn)) continue;
    if (!any_lun && d.command->pdu.lun != pdu.lun) continue;
    drop_deferred(d);
  }
}

// The answer says that the tasks are over, so no status of theirs may come after it.
void TargetSession::finish_task_management(TaskManagement& request, TmfResponse response) {
  request.response_ = response;
  const bool fenced = is_fenced(request.pdu.function);
  if (request.connection != nullptr && must_hold(fenced, request.connection))
    hold({nullptr, &request, fenced, false});
  else answer_task_management(request);
}

// ---- Response Fence (RFC 7143 4.2.2.3.3) ----
//
// Connections deliver in order each by itself only. A fenced answer goes when the initiator has acknowledged
// all that the other connections carried before it, and what comes behind it on another one goes when the
// fenced answer is acknowledged. Who has to wait asks for ExpStatSN by a ping. This is done whatever
// TaskReporting says: RFC 3720 10.6.2 d asks for the first half already.
//
// What was sent on a connection that is lost is not waited for ("if they are delivered at all"). An answer
// that was not sent yet is the session's: it goes with its task, which ends with its connection, or at
// recovery level 2 waits to be reassigned and then comes there. A fenced one keeps its place meanwhile; the
// end of the task, at the latest by Time2Retain, frees it.

void TargetSession::hold(Held held) {
  held_.push_back(held);
  release_held();
}

void TargetSession::release_held() {
  if (releasing_) return;  // an answer has let another command end
  releasing_ = true;
  while (!held_.empty() && may_go(held_.front())) {
    const Held next = held_.front();
    held_.pop_front();
    if (next.command == nullptr) {
      answer_task_management(*next.request);
      continue;
    }
    next.command->held_ = false;
    if (next.command->connection != nullptr || next.command->suspended()) send_response(*next.command);
    else close_command(*next.command);
  }
  releasing_ = false;
}

// The first of those that are held.
bool TargetSession::may_go(Held& front) {
  TargetConnection* connection = front.connection();
  const bool suspended = front.command != nullptr && front.command->suspended();
  if (connection == nullptr) {
    if (std::exchange(front.begun, false)) fence_.clear();
    if (!suspended) return true;  // nobody will hear it
    if (front.fenced) return false;
  }
  if (last_fenced_.connection != nullptr && last_fenced_.connection != connection) {
    last_fenced_.connection->send_ping();  // its answer acknowledges
    return false;
  }
  if (front.fenced && !front.begun) {
    front.begun = true;
    for (TargetConnection* other : connections_) {
      if (other != connection && unacknowledged(*other)) fence_.push_back({other, other->stat_sn_});
    }
  }
  for (const Wait& wait : fence_) wait.connection->send_ping();
  return fence_.empty();
}

bool TargetSession::unacknowledged(const TargetConnection& connection) noexcept {
  return !connection.draining_ && connection.acknowledged_.before(connection.stat_sn_);
}

// A fenced answer is on its way.
void TargetSession::fence_behind(TargetConnection& connection) {
  if (params_.max_connections > 1 && unacknowledged(connection))
    last_fenced_ = {&connection, connection.stat_sn_};
}

bool TargetSession::waits_for_acknowledgement(const TargetConnection& connection) const noexcept {
  return (last_fenced_.connection == &connection && !held_.empty()) ||
         std::any_of(fence_.begin(), fence_.end(),
                     [&](const Wait& wait) { return wait.connection == &connection; });
}

void TargetSession::leave_fence(const TargetCommand& command) {
  const auto found =
      std::find_if(held_.begin(), held_.end(), [&](const Held& h) { return h.command == &command; });
  PERILUNE_ASSERT(found != held_.end());
  if (found->begun) fence_.clear();
  held_.erase(found);
}

void TargetSession::lift_fences(const TargetConnection& connection) {
  if (fence_.empty() && last_fenced_.connection == nullptr) return;
  const auto over = [&](const Wait& wait) {
    return wait.connection == &connection && !connection.acknowledged_.before(wait.stat_sn);
  };
  if (over(last_fenced_)) last_fenced_ = {};
  std::erase_if(fence_, over);
  release_held();
}

void TargetSession::answer_task_management(TaskManagement& request) {
  if (TargetConnection* connection = request.connection) {
    TaskManagementResponse pdu;
    pdu.response = request.response_;
    pdu.additional_information = request.additional_information;
    pdu.initiator_task_tag = request.pdu.initiator_task_tag;
    connection->send_status(pdu);
    if (is_fenced(request.pdu.function)) fence_behind(*connection);
  }
  --task_management_count_;
  delete &request;  // leaves the list by itself
}

}  // namespace perilune::iscsi
