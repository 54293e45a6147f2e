// SPDX-License-Identifier: Apache-2.0
// Recovery of connections (RFC 7143 7.1.4.3, 7.2.2, 7.5, 7.6: error recovery level 2), the target's side.
//
// A connection that fails leaves a LostConnection: its tasks go on (what executes may end), allegiant to
// nobody, and the answers that were not acknowledged are kept. A Logout "for recovery" or a login with its
// CID makes them reassignable; TASK REASSIGN moves one to the connection on which it comes, where R2Ts are
// asked anew, data goes on from ExpDataSN and the status comes (again).
#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/recovery_limits.hpp"
#include "iscsi/session/target_connection.hpp"

namespace perilune::iscsi {

bool TargetSession::recovers() const noexcept {
  return params_.error_recovery_level >= 2 && params_.default_time2retain != 0 && serves_scsi_ &&
         !shutting_down_;
}

// ---- a connection is lost ----

void TargetSession::suspend(TargetConnection& connection) {
  if (lost_.size() >= limits::max_lost_connections) expire(lost_.front()->id);
  LostConnection& lost = *lost_.emplace_back(std::make_unique<LostConnection>());
  lost.id = next_lost_id_++;
  lost.cid = connection.cid_;
  lost.removed = connection.fate_ == Fate::removed;
  lost.acknowledged = connection.acknowledged_;
  lost.next_stat_sn = connection.stat_sn_;
  // RFC 7143 11.14: what ExpCmdSN has not acknowledged is discarded as if it had never come; the initiator
  // sends it again with the same number.
  for (Deferred& d : deferred_) {
    if (d.connection != &connection) continue;
    drop_deferred(d);
    d.consumes = false;
  }
  std::erase_if(deferred_, [](const Deferred& d) { return !d.consumes && d.connection == nullptr; });
  ++lost.tasks;  // so that it is not done while we walk
  while (TargetCommand* command = active_.find(
             [&](const TargetCommand& c) { return c.connection == &connection && !c.aborted_; })) {
    suspend(*command, lost);
  }
  --lost.tasks;
  take_answers(connection, lost);
  host_.on_recovery_wait(*this, lost.id);
  if (lost.removed) erase_if_done(lost);
}

// Nothing comes unasked any more: what is missing is asked for, once it is reassigned.
void TargetSession::suspend(TargetCommand& command, LostConnection& lost) {
  command.connection = nullptr;
  command.lost_ = &lost;
  ++lost.tasks;
  command.unsolicited_open_ = false;
  if (command.outcome_waits_ || (command.wants_data_ && command.r2t_count_ == 0)) unsolicited_ended(command);
}

void TargetSession::take_answers(TargetConnection& connection, LostConnection& lost) {
  for (RetainedStatus& status : connection.retained_) {
    if (!status.answers_command()) continue;
    RetainedStatus& kept = lost.answers.emplace_back(std::move(status));
    status.command = nullptr;
    if (kept.command == nullptr) continue;
    kept.command->retained_ = &kept;
    kept.command->connection = nullptr;
  }
}

// A suspended task has ended: its answer waits with the others.
void TargetSession::keep_answer(LostConnection& lost, ScsiResponse& response, Bytes data,
                                TargetCommand* command) {
  RetainedStatus& kept = lost.answers.emplace_back();
  response.encode(kept.bhs.data());
  kept.data.assign(data.begin(), data.end());
  if (command == nullptr) return;
  kept.command = command;
  kept.data_in_count = command->data_in_count_;
  command->retained_ = &kept;
  command->hold.retain();
  host_.on_data_retained(*command);
}

// ---- and is logged out, by one way or the other ----

LostConnection* TargetSession::find_lost(std::uint16_t cid) noexcept {
  const auto found = std::find_if(lost_.begin(), lost_.end(),
                                  [cid](const auto& lost) { return lost->cid == cid && !lost->removed; });
  return found == lost_.end() ? nullptr : found->get();
}

void TargetSession::remove_for_recovery(LostConnection& lost) {
  lost.removed = true;
  host_.on_recovery_wait(*this, lost.id);
  erase_if_done(lost);
}

void TargetSession::connection_reinstated(std::uint16_t cid, StatSn exp_stat_sn) {
  LostConnection* lost = find_lost(cid);
  if (lost == nullptr) return;
  // A value that lies outside of what was sent acknowledges nothing.
  const bool plausible = !exp_stat_sn.before(lost->acknowledged) && !exp_stat_sn.after(lost->next_stat_sn);
  for (auto it = lost->answers.begin(); plausible && it != lost->answers.end();) {
    const auto answer = it++;
    if (answer->sent && StatSn(load_be32(answer->bhs.data() + 24)).before(exp_stat_sn))
      drop_answer(*lost, answer);
  }
  remove_for_recovery(*lost);
}

// ---- the end of it ----

void TargetSession::drop_answer(LostConnection& lost, std::list<RetainedStatus>::iterator answer) {
  TargetCommand* command = answer->command;
  lost.answers.erase(answer);
  if (command == nullptr) return;
  command->retained_ = nullptr;
  host_.on_data_forgotten(*command);
  command->hold.release();
}

void TargetSession::task_ended(TargetCommand& command) {
  LostConnection& lost = *std::exchange(command.lost_, nullptr);
  --lost.tasks;
  erase_if_done(lost);
}

// A connection that is not logged out yet is remembered for its whole time.
void TargetSession::erase_if_done(LostConnection& lost) {
  if (!lost.removed || lost.tasks != 0 || !lost.answers.empty()) return;
  const std::uint32_t id = lost.id;
  std::erase_if(lost_, [id](const auto& each) { return each->id == id; });
  host_.on_recovery_over(*this, id);
}

// RFC 7143 7.6: the tasks are terminated and nobody is told.
void TargetSession::expire(std::uint32_t id) {
  const auto found =
      std::find_if(lost_.begin(), lost_.end(), [id](const auto& lost) { return lost->id == id; });
  if (found == lost_.end()) return;
  const std::unique_ptr<LostConnection> lost = std::move(*found);
  lost_.erase(found);
  lost->removed = false;  // it is done when this says so
  ++orphans_;  // so that they cannot all have ended while we walk
  while (TargetCommand* command =
             active_.find([&](const TargetCommand& c) { return c.lost_ == lost.get(); })) {
    command->lost_ = nullptr;
    orphan(*command);
  }
  // Behind them: memory that comes free may let one of them end and leave an answer.
  while (!lost->answers.empty()) drop_answer(*lost, lost->answers.begin());
  doubt_missing();
  host_.on_recovery_over(*this, id);
  if (--orphans_ == 0) orphans_ended();
}

void TargetSession::expire_all() {
  while (!lost_.empty()) expire(lost_.front()->id);
}

// ---- reassignment ----

TargetSession::LostAnswer TargetSession::find_lost_answer(Itt itt) noexcept {
  for (auto& lost : lost_) {
    for (auto it = lost->answers.begin(); it != lost->answers.end(); ++it) {
      if (it->itt() == itt) return {lost.get(), it};
    }
  }
  return {};
}

bool TargetSession::forget_lost_answer(Itt itt) {
  if (lost_.empty()) return false;
  const LostAnswer found = find_lost_answer(itt);
  if (found.lost == nullptr) return false;
  drop_answer(*found.lost, found.answer);
  erase_if_done(*found.lost);
  return true;
}

// RFC 7143 7.2.2, 11.6.1
TmfResponse TargetSession::may_reassign(const TargetConnection& connection,
                                        const TaskManagementRequest& pdu) {
  if (!recovers()) return TmfResponse::task_allegiance_reassignment_not_supported;
  if (connection.logging_out_) return TmfResponse::function_rejected;
  const Itt itt = pdu.referenced_task_tag;
  if (const TargetCommand* command = find_command(itt)) {
    if (command->aborted_) return TmfResponse::task_does_not_exist;
    const bool waits = command->lost_ != nullptr && command->lost_->removed;
    return waits ? TmfResponse::function_complete : TmfResponse::task_still_allegiant;
  }
  const LostAnswer found = find_lost_answer(itt);
  if (found.lost == nullptr) {
    const bool elsewhere =
        std::any_of(connections_.begin(), connections_.end(),
                    [itt](TargetConnection* other) { return other->retained_answer_of(itt) != nullptr; });
    return elsewhere ? TmfResponse::task_still_allegiant : TmfResponse::task_does_not_exist;
  }
  if (!found.lost->removed) return TmfResponse::task_still_allegiant;
  // Its data was given to others: only a status that needs none can still be told.
  const RetainedStatus& answer = *found.answer;
  const bool has_it_all = answer.sent && pdu.exp_data_sn.value() == answer.data_in_count;
  return answer.data_forgotten && !has_it_all ? TmfResponse::task_does_not_exist
                                              : TmfResponse::function_complete;
}

void TargetSession::reassign(TargetConnection& connection, const TaskManagementRequest& pdu) {
  const Itt itt = pdu.referenced_task_tag;
  TaskManagementResponse response;
  response.response = may_reassign(connection, pdu);
  response.initiator_task_tag = pdu.initiator_task_tag;
  connection.send_status(response);  // before the reassignment takes effect
  if (response.response != TmfResponse::function_complete) return;
  ++stats_.reassigned;
  if (TargetCommand* command = by_itt_.find(itt))
    resume(connection, *command);
  else
    resume(connection, find_lost_answer(itt), pdu.exp_data_sn);
}

// R2Ts that were not answered whole are asked anew, as they were: what came of their data is overwritten.
void TargetSession::resume(TargetConnection& connection, TargetCommand& command) {
  LostConnection& lost = *std::exchange(command.lost_, nullptr);
  command.connection = &connection;
  --lost.tasks;
  erase_if_done(lost);
  for (auto& slot : command.r2t_) {
    if (slot.ttt == reserved_tag || slot.next_offset == slot.end_offset) continue;
    slot.next_offset = slot.begin_offset;
    slot.next_data_sn = DataSn(0);
    slot.lost_begin = slot.lost_end = 0;
    ++stats_.r2t_pdus;
    encode_r2t(command, slot);
  }
  if (command.held_) release_held();  // its answer has a connection again
}

// RFC 7143 11.5.6: data from ExpDataSN on, cut for this connection; a value that cannot be is ignored, and 0
// changes nothing.
void TargetSession::resume(TargetConnection& connection, LostAnswer found, DataSn exp_data_sn) {
  RetainedStatus& answer = connection.adopt(std::move(*found.answer));
  found.lost->answers.erase(found.answer);
  erase_if_done(*found.lost);
  if (TargetCommand* command = answer.command) {
    command->connection = &connection;
    const std::uint32_t wanted = exp_data_sn.value();
    if (wanted > command->data_in_first_sn_ && wanted <= command->data_in_count_) {
      std::uint32_t sn = command->data_in_first_sn_;
      std::uint32_t begin = command->data_in_bytes_;
      for_each_data_in(command->data_in_segment_, command->data_in_begin_, command->data_in_bytes_,
                       [&](std::uint32_t offset, std::uint32_t, bool) {
                         if (sn++ == wanted) begin = offset;
                       });
      command->data_in_begin_ = begin;
      command->data_in_first_sn_ = wanted;
    }
    command->data_in_segment_ = connection.params_.max_xmit_data_segment_length;
    command->data_in_count_ = command->data_in_first_sn_;
    for_each_data_in(command->data_in_segment_, command->data_in_begin_, command->data_in_bytes_,
                     [&](auto, auto, bool) { ++command->data_in_count_; });
    resend_data_in(connection, *command, command->data_in_first_sn_, command->data_in_count_);
    answer.data_in_count = command->data_in_count_;
    store_be32(answer.bhs.data() + 36, command->data_in_count_);  // ExpDataSN
  }
  connection.resend(answer);
}

// It takes the next StatSN here; a SNACK Tag was for the connection that is gone (RFC 7143 7.2.2).
RetainedStatus& TargetConnection::adopt(RetainedStatus&& answer) {
  RetainedStatus& kept = retained_.emplace_back(std::move(answer));
  answer.command = nullptr;
  store_be32(kept.bhs.data() + 20, 0);
  store_be32(kept.bhs.data() + 24, take_stat_sn().value());
  kept.sent = true;
  if (kept.command != nullptr) kept.command->retained_ = &kept;
  retained_bytes_ += kept.own_bytes();
  return kept;
}

}  // namespace perilune::iscsi
