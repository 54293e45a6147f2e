// SPDX-License-Identifier: Apache-2.0
#include "iscsi/session/target_session.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "iscsi/session/residual.hpp"
#include "iscsi/session/target_connection.hpp"

namespace perilune::iscsi {

void TargetCommand::on_unreferenced() { session->host_.release_command(*this); }

TargetSession::TargetSession(TargetHost& host, const SessionParams& params, CmdSn first_cmd_sn,
                             std::uint32_t window_max)
    : host_(host),
      params_(params),
      exp_cmd_sn_(first_cmd_sn),
      max_cmd_sn_(first_cmd_sn.minus(1)),
      window_max_(std::max(window_max, limits::min_command_window)),
      by_itt_(limits::min_command_window) {
  deferred_.reserve(8);
  slots_ = limits::min_command_window;
  for (std::uint32_t i = 0; i < slots_ && host_.reserve_slot(*this); ++i) ++backed_slots_;
  adjust_window();
}

TargetSession::~TargetSession() {
  PERILUNE_ASSERT(active_count_ == 0 && connections_.empty() && lost_.empty() && held_.empty());
  while (backed_slots_ > 0) {
    --backed_slots_;
    host_.release_slot(*this);
  }
}

// ---- the command window ----

void TargetSession::advance(CmdSn sn) {
  PERILUNE_ASSERT(sn == exp_cmd_sn_);
  ++exp_cmd_sn_;
}

// MaxCmdSN says how many more commands may come. It never goes back (RFC 7143 4.2.2.1).
void TargetSession::adjust_window() {
  // An initiator that uses its whole window gets twice as much, while memory can be promised.
  if (window_pressed_ && slots_ < window_max_) {
    window_pressed_ = false;
    while (backed_slots_ < slots_ && host_.reserve_slot(*this)) ++backed_slots_;
    const std::uint32_t more = std::min(slots_, window_max_ - slots_);
    for (std::uint32_t i = 0; i < more && backed_slots_ == slots_ && host_.reserve_slot(*this); ++i) {
      ++slots_;
      ++backed_slots_;
    }
    for (TargetConnection* connection : connections_)
      connection->tx_.reserve(std::size_t{slots_} * 4, slots_ / 4 + 2);
  }
  const std::uint32_t open = slots_ > slots_used_ ? slots_ - slots_used_ : 0;
  const CmdSn candidate = exp_cmd_sn_.plus(open).minus(1);
  if (candidate.after(max_cmd_sn_)) max_cmd_sn_ = candidate;
}

// What the initiator had under way when it sent a command: what is under way here, and what it had not heard
// the end of.
void TargetSession::note_use_of_window(const TargetConnection& connection, StatSn exp_stat_sn,
                                       std::uint32_t used) noexcept {
  const std::int32_t unheard = connection.stat_sn_.ahead_of(exp_stat_sn);
  if (std::int64_t{used} + std::max(unheard, 0) >= std::int64_t{slots_} - slots_ / 4) window_pressed_ = true;
}

void TargetSession::free_slot() {
  --slots_used_;
  adjust_window();
}

void TargetSession::drain_deferred() {
  while (!deferred_.empty() && deferred_.front().cmd_sn == exp_cmd_sn_) {
    Deferred next = std::move(deferred_.front());
    deferred_.erase(deferred_.begin());
    deferred_bytes_ -= next.pdu.size();
    if (next.consumes) advance(next.cmd_sn);
    if (next.command != nullptr) {
      accept(*next.command);
      next.command->hold.release();
      continue;
    }
    adjust_window();
    if (next.connection != nullptr) {
      const Bytes pdu(next.pdu);
      if (!next.connection->dispatch(pdu.data(), pdu.subspan(bhs_bytes))) next.connection->draining_ = true;
    }
  }
}

// Sorted by CmdSN. What uses no number up stands before what has the same, in the order of arrival.
bool TargetSession::defer(Deferred deferred) {
  const CmdSn sn = deferred.cmd_sn;
  const auto place = std::find_if(deferred_.begin(), deferred_.end(), [sn](const Deferred& d) {
    return d.cmd_sn.after(sn) || (d.cmd_sn == sn && d.consumes);
  });
  if (deferred.consumes && place != deferred_.end() && place->cmd_sn == sn) return false;
  deferred_bytes_ += deferred.pdu.size();
  deferred_.insert(place, std::move(deferred));
  return true;
}

void TargetSession::consume(CmdSn sn) {
  if (sn == exp_cmd_sn_) {
    advance(sn);
    drain_deferred();
  } else {
    Deferred used_up;
    used_up.cmd_sn = sn;
    (void)defer(std::move(used_up));
  }
  adjust_window();
}

void TargetSession::plug(CmdSn end) {
  if (!in_window(end.minus(1))) return;
  for (drain_deferred(); exp_cmd_sn_.before(end); drain_deferred()) advance(exp_cmd_sn_);
  adjust_window();
}

// Its number stays, to be used up in its turn.
void TargetSession::drop_deferred(Deferred& deferred) {
  deferred_bytes_ -= deferred.pdu.size();
  deferred.pdu.clear();
  deferred.connection = nullptr;
  if (TargetCommand* command = std::exchange(deferred.command, nullptr)) {
    command->aborted_ = true;
    command->hold.release();
  }
}

bool TargetSession::waits_in_list(CmdSn sn) const noexcept {
  return std::any_of(deferred_.begin(), deferred_.end(),
                     [sn](const Deferred& d) { return d.consumes && d.cmd_sn == sn; });
}

// ---- commands ----

TargetCommand* TargetSession::open_command(TargetConnection& connection, const ScsiCommand& pdu) {
  TargetCommand* command = host_.acquire_command(*this);
  if (command == nullptr) return nullptr;
  command->pdu = pdu;
  command->session = this;
  command->connection = &connection;
  command->bidirectional_read_length.reset();
  command->status_qualifier = 0;
  command->fenced = command->held_ = command->ending_ = command->announced_ = false;
  command->data_ = {};
  command->data_is_final = false;
  command->data_in_source = nullptr;
  command->unsolicited_received_ = 0;
  command->unsolicited_data_sn_ = DataSn(0);
  command->unsolicited_lost_begin_ = command->unsolicited_lost_end_ = 0;
  command->recoveries_ = 0;
  command->transfer_ = 0;
  command->next_r2t_offset_ = 0;
  command->data_in_count_ = 0;
  if (command->r2t_count_ != 0)
    command->r2t_ = {};  // its last use was aborted: stale tags would match new ones
  command->r2t_count_ = 0;
  command->delivered_ = command->wants_data_ = command->digest_failed_ = command->outcome_waits_ = false;
  command->aborted_ = command->abort_waits_ = false;
  command->unsolicited_open_ = pdu.write && !pdu.final;
  command->counted_ = false;
  command->active_ = false;
  command->orphan_ = false;
  command->lost_ = nullptr;
  command->retained_ = nullptr;
  return command;
}

TargetCommand* TargetSession::find_deferred(Itt itt) const noexcept {
  for (const Deferred& d : deferred_) {
    if (d.command != nullptr && d.command->pdu.initiator_task_tag == itt) return d.command;
  }
  return nullptr;
}

void TargetSession::accept(TargetCommand& command) {
  ++stats_.commands;
  // A tag that is used anew: the initiator has had the answer that waits under it.
  if (!lost_.empty()) (void)forget_lost_answer(command.pdu.initiator_task_tag);
  if (command.pdu.immediate) {
    ++immediate_used_;
  } else {
    ++slots_used_;
    command.counted_ = true;
    note_use_of_window(*command.connection, command.pdu.exp_stat_sn, slots_used_);
  }
  command.active_ = true;
  command.hold.retain();
  ++active_count_;
  active_.push_back(command);
  by_itt_.insert(command.pdu.initiator_task_tag, command);
  command.delivered_ = true;
  host_.on_command(command);
}

// Out of the task table. The object lives on while its memory is referred to.
void TargetSession::close_command(TargetCommand& command) {
  if (!command.active_) return;
  const bool orphan = command.orphan_;
  const bool held = std::exchange(command.held_, false);
  if (held) leave_fence(command);
  if (command.lost_ != nullptr) task_ended(command);
  command.active_ = false;
  command.unlink();
  by_itt_.erase(command.pdu.initiator_task_tag);
  --active_count_;
  if (command.counted_) free_slot();
  else --immediate_used_;
  command.hold.release();
  if (orphan && --orphans_ == 0) orphans_ended();
  if (data_waits_ != 0) data_settled();
  if (held) release_held();
  command_gone();
}

void TargetSession::command_gone() {
  if (!logouts_.empty()) answer_logouts();
  if (active_count_ != 0 || !shutting_down_) return;
  host_.on_session_idle(*this);
}

void TargetSession::orphan(TargetCommand& command) {
  command.connection = nullptr;
  command.orphan_ = true;
  ++orphans_;
  request_abort(command);
}

void TargetSession::orphans_ended() {
  answer_logouts();
  host_.on_orphans_ended(*this);
}

void TargetSession::provide_memory(TargetCommand& command, std::span<const iovec> memory) {
  command.data_ = memory;
}

void TargetSession::begin_data_out(TargetCommand& command, std::span<const iovec> memory,
                                   std::uint64_t wanted_bytes) {
  PERILUNE_ASSERT(command.active_);
  command.data_ = memory;
  command.transfer_ = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(wanted_bytes, command.pdu.expected_data_transfer_length));
  command.wants_data_ = true;
  if (!command.unsolicited_open_ &&
      (command.connection == nullptr || command.connection->receiving_ != &command)) {
    unsolicited_ended(command);
  }
}

// The F bit of the unsolicited burst (or of the command itself) has come, and its data is in place.
void TargetSession::unsolicited_ended(TargetCommand& command) {
  if (command.aborted_) return;
  if (command.outcome_waits_) {
    command.outcome_waits_ = false;
    respond(command);
    return;
  }
  if (!command.wants_data_) return;
  command.next_r2t_offset_ = std::min(command.unsolicited_received_, command.transfer_);
  if (command.unsolicited_lost_end_ != 0) recover_unsolicited(command);
  pump_data_out(command);
}

void TargetSession::pump_data_out(TargetCommand& command) {
  if (command.digest_failed_) {
    if (command.r2t_count_ != 0) return;
    command.wants_data_ = false;
    host_.on_data_lost(command);
    return;
  }
  const auto most = std::min<std::uint32_t>(params_.max_outstanding_r2t, limits::max_outstanding_r2t);
  while (!command.ending_ && command.r2t_count_ < most && command.next_r2t_offset_ < command.transfer_)
    send_r2t(command);
  if (command.r2t_count_ == 0 && command.next_r2t_offset_ >= command.transfer_) {
    command.wants_data_ = false;
    stats_.bytes_written += command.transfer_;
    host_.on_data_out(command);
  }
}

void TargetSession::send_r2t(TargetCommand& command) {
  const std::uint32_t begin = command.next_r2t_offset_;
  const std::uint32_t length = std::min(params_.max_burst_length, command.transfer_ - begin);
  command.next_r2t_offset_ += length;
  ++command.r2t_count_;
  for (auto& slot : command.r2t_) {
    if (slot.ttt != reserved_tag && slot.next_offset != slot.end_offset) continue;
    send_r2t(command, slot, begin, begin + length);
    return;
  }
}

void TargetSession::send_r2t(TargetCommand& command, TargetCommand::ReadyToTransferSlot& slot,
                             std::uint32_t begin, std::uint32_t end) {
  if (next_ttt_ == reserved_tag) next_ttt_ = 1;
  slot = {next_ttt_++, begin, end, DataSn(0), DataSn(command.data_in_count_++), begin, 0, 0};
  ++stats_.r2t_pdus;
  encode_r2t(command, slot);
}

void TargetSession::encode_r2t(const TargetCommand& command, const TargetCommand::ReadyToTransferSlot& slot) {
  TargetConnection* connection = command.connection;
  if (connection == nullptr) return;
  ReadyToTransfer r2t;
  r2t.lun = command.pdu.lun;
  r2t.initiator_task_tag = command.pdu.initiator_task_tag;
  r2t.target_transfer_tag = slot.ttt;
  r2t.r2t_sn = slot.r2t_sn;
  r2t.buffer_offset = slot.begin_offset;
  r2t.desired_data_transfer_length = slot.end_offset - slot.begin_offset;
  r2t.stat_sn = connection->stat_sn_;  // the next one, not consumed (RFC 7143 11.8)
  connection->number(r2t);
  connection->send(r2t);
}

void TargetSession::complete(TargetCommand& command, std::uint8_t status, Bytes sense,
                             std::span<const iovec> data_in, std::uint32_t data_in_bytes,
                             std::uint64_t wanted_bytes) {
  PERILUNE_ASSERT(command.active_);
  command.wants_data_ = false;
  const TargetConnection* connection = command.connection;
  if (connection != nullptr && (command.unsolicited_open_ || connection->receiving_ == &command)) {
    // The initiator is still sending what it may send unasked; a response now would confuse it (and us: its
    // Data-Out PDUs would name a task that is gone).
    command.outcome_waits_ = true;
    command.outcome_ = {status, sense, {}, 0, wanted_bytes};
    return;
  }
  command.outcome_ = {status, sense, data_in, data_in_bytes, wanted_bytes};
  respond(command);
}

void TargetSession::respond(TargetCommand& command) {
  if (command.aborted_ || (command.connection == nullptr && command.lost_ == nullptr)) {
    close_command(command);
  } else if (must_hold(command.fenced, command.connection)) {
    command.held_ = true;
    hold({&command, nullptr, command.fenced, false});
  } else {
    send_response(command);
  }
}

void TargetSession::send_response(TargetCommand& command) {
  const auto [status, sense, data_in, data_in_bytes, wanted_bytes] = command.outcome_;
  TargetConnection* connection = command.connection;
  const ScsiCommand& request = command.pdu;
  const Residual residual = Residual::of(request.expected_data_transfer_length, wanted_bytes);
  const std::uint32_t read_length = command.bidirectional_read_length.value_or(0);  // none of it moves
  const bool reads = request.read && !command.bidirectional_read_length;
  const std::uint32_t bytes = reads ? std::min(data_in_bytes, request.expected_data_transfer_length) : 0;
  // What may be asked for again is kept, data and status each by itself.
  const bool status_with_data = bytes != 0 && sense.empty() && status == 0 && !retains();
  if (retains()) {
    command.data_in_ = data_in;
    command.data_in_bytes_ = bytes;
    command.data_in_begin_ = 0;
    command.data_in_first_sn_ = command.data_in_count_;
    command.data_in_segment_ = connection != nullptr ? connection->params_.max_xmit_data_segment_length : 0;
  }
  // The slot is free once the answer is on its way, so that the answer itself opens the window.
  if (command.counted_) {
    command.counted_ = false;
    free_slot();
    ++immediate_used_;  // close_command() takes it back
  }
  if (bytes != 0 && connection != nullptr)
    send_data_in(command, data_in, bytes, status_with_data, status, residual);
  if (!status_with_data) {
    ScsiResponse response;
    response.status = status;
    if (params_.protocol_level >= sam5_protocol_level) response.status_qualifier = command.status_qualifier;
    response.overflow = residual.overflow;
    response.underflow = residual.underflow;
    response.residual_count = residual.count;
    response.bidirectional_read_underflow = read_length != 0;
    response.bidirectional_read_residual_count = read_length;
    response.initiator_task_tag = request.initiator_task_tag;
    response.exp_data_sn = DataSn(command.data_in_count_);
    TargetCommand* again = bytes != 0 ? &command : nullptr;
    std::array<std::uint8_t, 2 + limits::max_sense_bytes> segment;
    Bytes data;
    if (!sense.empty()) {
      const std::size_t length = std::min<std::size_t>(sense.size(), limits::max_sense_bytes);
      store_be16(segment.data(), static_cast<std::uint16_t>(length));
      std::memcpy(segment.data() + 2, sense.data(), length);
      data = {segment.data(), 2 + length};
    }
    if (connection != nullptr) connection->send_status(response, data, again);
    else keep_answer(*command.lost_, response, data, again);
  }
  if (command.fenced && connection != nullptr) fence_behind(*connection);
  close_command(command);
}

void TargetSession::send_data_in(TargetCommand& command, std::span<const iovec> data, std::uint32_t bytes,
                                 bool with_status, std::uint8_t status, const Residual& residual) {
  TargetConnection& connection = *command.connection;
  stats_.bytes_read += bytes;
  const std::uint32_t most = connection.params_.max_xmit_data_segment_length;
  for_each_data_in(most, 0, bytes, [&](std::uint32_t offset, std::uint32_t segment, bool final) {
    DataIn pdu;
    pdu.final = final;
    pdu.initiator_task_tag = command.pdu.initiator_task_tag;
    pdu.lun = 0;
    pdu.data_sn = DataSn(command.data_in_count_++);
    pdu.buffer_offset = offset;
    if (with_status && offset + segment == bytes) {
      pdu.has_status = true;
      pdu.status = status;
      pdu.overflow = residual.overflow;
      pdu.underflow = residual.underflow;
      pdu.residual_count = residual.count;
      pdu.stat_sn = connection.take_stat_sn();
    }
    connection.number(pdu);
    std::uint8_t* const bhs = connection.tx_.header_place();
    pdu.encode(bhs);
    const std::uint8_t* const source = command.data_in_source;
    if (source == nullptr) connection.tx_.push(bhs, data, offset, segment, &command.hold);
    else if (command.data_in_source_is_private)
      connection.tx_.push_late(bhs, source + offset, data, offset, segment, command.hold);
    else
      connection.tx_.push_copied(bhs, source + offset, data, offset, segment, command.hold);
    ++stats_.data_in_pdus;
  });
  host_.on_output(connection);
}

void TargetSession::request_abort(TargetCommand& command) {
  if (command.aborted_ || !command.active_) return;
  command.aborted_ = true;
  command.wants_data_ = false;
  if (command.connection != nullptr && command.connection->receiving_ == &command) {
    command.abort_waits_ = true;
  } else {
    host_.abort(command);
  }
}

void TargetSession::abort_finished(TargetCommand& command) {
  command.aborted_ = true;
  command.wants_data_ = false;
  command.outcome_waits_ = false;
  close_command(command);
}

void TargetSession::abort_reported(TargetCommand& command) {
  if (command.held_) {  // it was over: there is nothing to report
    abort_finished(command);
    return;
  }
  constexpr std::uint8_t task_aborted = 0x40;  // SAM-5 5.3.1
  command.aborted_ = false;
  command.data_ = {};  // what the initiator still sends unasked is read and discarded
  complete(command, task_aborted, {}, {}, 0, 0);
}

bool TargetSession::holds(Itt itt, Lun lun) const noexcept {
  const TargetCommand* command = find_command(itt);
  return command != nullptr && command->pdu.lun == lun;
}

bool TargetSession::holds_any(Lun lun) {
  return active_.find([lun](const TargetCommand& c) { return c.pdu.lun == lun; }) != nullptr ||
         std::any_of(deferred_.begin(), deferred_.end(),
                     [lun](const Deferred& d) { return d.command != nullptr && d.command->pdu.lun == lun; });
}

// ---- numbers that were lost with a connection ----
//
// An immediate request that waits for earlier commands (must_wait()) must not wait for ever for those that a
// connection took along. Which these are, only the initiator knows: when every connection that is left has
// answered a ping that was sent afterwards, all that was under way on it is here, and what is still missing
// counts as received.

void TargetSession::doubt_missing() {
  if (shutting_down_) return;
  doubts_ = true;
  doubtful_end_ = max_cmd_sn_.plus(1);  // the initiator had no higher one
  unheard_.clear();
  ask_for_missing();
}

void TargetSession::ask_for_missing() {
  if (!doubts_ || !unheard_.empty()) return;
  const auto waiting =
      std::find_if(deferred_.rbegin(), deferred_.rend(), [](const Deferred& d) { return !d.consumes; });
  if (waiting == deferred_.rend()) return;
  asked_end_ = waiting->cmd_sn.after(doubtful_end_) ? doubtful_end_ : waiting->cmd_sn;
  if (!exp_cmd_sn_.before(asked_end_)) return;
  unheard_ = connections_;
  for (TargetConnection* connection : connections_) connection->ask_what_is_under_way();
}

void TargetSession::heard_from(TargetConnection& connection) {
  if (std::erase(unheard_, &connection) == 0 || !unheard_.empty()) return;
  plug(asked_end_);
  ask_for_missing();  // for one that came later
}

// ---- the end ----

void TargetSession::shut_down() {
  shutting_down_ = true;
  for (Deferred& d : deferred_) drop_deferred(d);
  deferred_.clear();
  ++active_count_;  // so that the last abort cannot end the session while we walk
  expire_all();
  // Ending one command may let others run and end: look anew each time.
  while (TargetCommand* command = active_.find([](const TargetCommand& c) { return !c.aborted_; }))
    request_abort(*command);
  --active_count_;
  command_gone();
}

// RFC 7143 7.5: the tasks of a connection that is gone are terminated. What waits for an earlier CmdSN was
// received, so its numbers are used up; what was never received stays a hole, which the initiator fills
// (ABORT TASK) or gives up on.
void TargetSession::connection_gone(TargetConnection& connection) {
  std::erase(connections_, &connection);
  std::erase_if(logouts_, [&](const Logout& logout) { return logout.issuer == &connection; });
  const bool was_releasing = std::exchange(releasing_, true);  // no answer goes while we walk
  if (recovers() && connection.fate_ != Fate::closed) suspend(connection);
  for (Deferred& d : deferred_) {
    if (d.connection == &connection) drop_deferred(d);
  }
  std::erase_if(deferred_, [](const Deferred& d) { return !d.consumes && d.connection == nullptr; });
  task_management_.for_each([&](TaskManagement& request) {
    if (request.connection == &connection) request.connection = nullptr;
  });
  ++orphans_;  // so that they cannot all have ended while we walk
  while (TargetCommand* command =
             active_.find([&](const TargetCommand& c) { return c.connection == &connection; })) {
    orphan(*command);
  }
  std::erase_if(fence_, [&](const Wait& wait) { return wait.connection == &connection; });
  if (last_fenced_.connection == &connection) last_fenced_ = {};
  releasing_ = was_releasing;
  release_held();
  std::erase(unheard_, &connection);
  if (!recovers() || connection.fate_ == Fate::closed) doubt_missing();
  if (--orphans_ == 0) orphans_ended();
}

}  // namespace perilune::iscsi
