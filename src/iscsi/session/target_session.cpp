// SPDX-License-Identifier: Apache-2.0
#include "iscsi/session/target_session.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "iscsi/session/residual.hpp"
#include "iscsi/session/target_connection.hpp"

namespace perilune::iscsi {

void TargetCommand::on_unreferenced() { session->host_.release_command(*this); }

TargetSession::TargetSession(TargetHost& host, const SessionParams& params, CmdSn first_cmd_sn, std::uint32_t window_max)
    : host_(host),
      params_(params),
      exp_cmd_sn_(first_cmd_sn),
      max_cmd_sn_(first_cmd_sn.minus(1)),
      window_max_(std::max(window_max, limits::min_command_window)),
      by_itt_(limits::default_command_window) {
  deferred_.reserve(8);
  slots_ = limits::min_command_window;
  for (std::uint32_t i = 0; i < slots_ && host_.reserve_slot(*this); ++i) ++backed_slots_;
  adjust_window();
}

TargetSession::~TargetSession() {
  PERILUNE_ASSERT(active_count_ == 0 && connections_.empty());
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
    for (TargetConnection* connection : connections_) connection->tx_.reserve(std::size_t{slots_} * 4, slots_ / 4 + 2);
  }
  const std::uint32_t open = slots_ > slots_used_ ? slots_ - slots_used_ : 0;
  const CmdSn candidate = exp_cmd_sn_.plus(open).minus(1);
  if (candidate.after(max_cmd_sn_)) max_cmd_sn_ = candidate;
}

void TargetSession::free_slot() {
  --slots_used_;
  adjust_window();
}

void TargetSession::drain_deferred() {
  while (!deferred_.empty() && deferred_.front().cmd_sn == exp_cmd_sn_) {
    Deferred next = std::move(deferred_.front());
    deferred_.erase(deferred_.begin());
    advance(next.cmd_sn);
    if (next.command != nullptr) {
      accept(*next.command);
      next.command->hold.release();
    } else if (next.connection != nullptr) {
      const Bytes pdu(next.pdu);
      if (!next.connection->dispatch(pdu.data(), pdu.subspan(bhs_bytes))) next.connection->draining_ = true;
    }
  }
}

// ---- commands ----

TargetCommand* TargetSession::open_command(TargetConnection& connection, const ScsiCommand& pdu) {
  TargetCommand* command = host_.acquire_command(*this);
  if (command == nullptr) return nullptr;
  command->pdu = pdu;
  command->session = this;
  command->connection = &connection;
  command->data_ = {};
  command->unsolicited_received_ = 0;
  command->unsolicited_data_sn_ = DataSn(0);
  command->transfer_ = 0;
  command->next_r2t_offset_ = 0;
  command->data_in_count_ = 0;
  if (command->r2t_count_ != 0) command->r2t_ = {};  // its last use was aborted: stale tags would match new ones
  command->r2t_count_ = 0;
  command->delivered_ = command->wants_data_ = command->digest_failed_ = command->outcome_waits_ = false;
  command->aborted_ = command->abort_waits_ = false;
  command->unsolicited_open_ = pdu.write && !pdu.final;
  command->counted_ = false;
  command->active_ = false;
  return command;
}

void TargetSession::accept(TargetCommand& command) {
  ++stats_.commands;
  if (command.pdu.immediate) {
    ++immediate_used_;
  } else {
    ++slots_used_;
    command.counted_ = true;
    // What the initiator had under way when it sent this: what is under way here, and what it had not heard the end of.
    const std::int32_t unheard = command.connection->stat_sn_.ahead_of(command.pdu.exp_stat_sn);
    if (std::int64_t{slots_used_} + std::max(unheard, 0) >= std::int64_t{slots_} - slots_ / 4) window_pressed_ = true;
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
  command.active_ = false;
  command.unlink();
  by_itt_.erase(command.pdu.initiator_task_tag);
  --active_count_;
  if (command.counted_) free_slot();
  else --immediate_used_;
  command.hold.release();
  command_gone();
}

void TargetSession::command_gone() {
  if (active_count_ != 0 || !shutting_down_) return;
  if (logout_connection_ != nullptr) {
    TargetConnection& connection = *logout_connection_;
    logout_connection_ = nullptr;
    LogoutResponse response;
    response.initiator_task_tag = logout_.initiator_task_tag;
    response.stat_sn = connection.take_stat_sn();
    response.time2wait = static_cast<std::uint16_t>(params_.default_time2wait);
    response.time2retain = 0;
    connection.number(response);
    connection.send(response);
    connection.draining_ = true;
    host_.on_logged_out(connection);
  }
  host_.on_session_idle(*this);
}

void TargetSession::provide_memory(TargetCommand& command, std::span<const iovec> memory) { command.data_ = memory; }

void TargetSession::begin_data_out(TargetCommand& command, std::span<const iovec> memory, std::uint64_t wanted_bytes) {
  PERILUNE_ASSERT(command.active_);
  command.data_ = memory;
  command.transfer_ =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(wanted_bytes, command.pdu.expected_data_transfer_length));
  command.wants_data_ = true;
  if (!command.unsolicited_open_ && (command.connection == nullptr || command.connection->receiving_ != &command)) {
    unsolicited_ended(command);
  }
}

// The F bit of the unsolicited burst (or of the command itself) has come, and its data is in place.
void TargetSession::unsolicited_ended(TargetCommand& command) {
  if (command.aborted_) return;
  if (command.outcome_waits_) {
    command.outcome_waits_ = false;
    respond(command, command.outcome_.status, command.outcome_.sense, {}, 0, command.outcome_wanted_);
    return;
  }
  if (!command.wants_data_) return;
  command.next_r2t_offset_ = std::min(command.unsolicited_received_, command.transfer_);
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
  while (command.r2t_count_ < most && command.next_r2t_offset_ < command.transfer_) send_r2t(command);
  if (command.r2t_count_ == 0 && command.next_r2t_offset_ >= command.transfer_) {
    command.wants_data_ = false;
    stats_.bytes_written += command.transfer_;
    host_.on_data_out(command);
  }
}

void TargetSession::send_r2t(TargetCommand& command) {
  const std::uint32_t length = std::min(params_.max_burst_length, command.transfer_ - command.next_r2t_offset_);
  if (next_ttt_ == reserved_tag) next_ttt_ = 1;
  ReadyToTransfer r2t;
  r2t.lun = command.pdu.lun;
  r2t.initiator_task_tag = command.pdu.initiator_task_tag;
  r2t.target_transfer_tag = next_ttt_++;
  r2t.r2t_sn = DataSn(command.data_in_count_++);
  r2t.buffer_offset = command.next_r2t_offset_;
  r2t.desired_data_transfer_length = length;
  for (auto& slot : command.r2t_) {
    if (slot.ttt != reserved_tag && slot.next_offset != slot.end_offset) continue;
    slot = {r2t.target_transfer_tag, command.next_r2t_offset_, command.next_r2t_offset_ + length, DataSn(0)};
    break;
  }
  ++command.r2t_count_;
  command.next_r2t_offset_ += length;
  ++stats_.r2t_pdus;
  if (TargetConnection* connection = command.connection) {
    r2t.stat_sn = connection->stat_sn_;  // the next one, not consumed (RFC 7143 11.8)
    connection->number(r2t);
    connection->send(r2t);
  }
}

void TargetSession::complete(TargetCommand& command, std::uint8_t status, Bytes sense, std::span<const iovec> data_in,
                             std::uint32_t data_in_bytes, std::uint64_t wanted_bytes) {
  PERILUNE_ASSERT(command.active_);
  command.wants_data_ = false;
  const bool receiving = command.connection != nullptr && command.connection->receiving_ == &command;
  if (command.unsolicited_open_ || receiving) {
    // The initiator is still sending what it may send unasked; a response now would confuse it (and us: its
    // Data-Out PDUs would name a task that is gone).
    command.outcome_waits_ = true;
    command.outcome_ = {status, sense};
    command.outcome_wanted_ = wanted_bytes;
    return;
  }
  respond(command, status, sense, data_in, data_in_bytes, wanted_bytes);
}

void TargetSession::respond(TargetCommand& command, std::uint8_t status, Bytes sense, std::span<const iovec> data_in,
                            std::uint32_t data_in_bytes, std::uint64_t wanted_bytes) {
  TargetConnection* connection = command.connection;
  if (connection == nullptr || command.aborted_) {
    close_command(command);
    return;
  }
  const ScsiCommand& request = command.pdu;
  const Residual residual = Residual::of(request.expected_data_transfer_length, wanted_bytes);
  const std::uint32_t bytes = request.read ? std::min(data_in_bytes, request.expected_data_transfer_length) : 0;
  const bool status_with_data = bytes != 0 && sense.empty() && status == 0;
  // The slot is free once the answer is on its way, so that the answer itself opens the window.
  if (command.counted_) {
    command.counted_ = false;
    free_slot();
    ++immediate_used_;  // close_command() takes it back
  }
  if (bytes != 0) send_data_in(command, data_in, bytes, status_with_data, status, residual);
  if (!status_with_data) {
    ScsiResponse response;
    response.status = status;
    response.overflow = residual.overflow;
    response.underflow = residual.underflow;
    response.residual_count = residual.count;
    response.initiator_task_tag = request.initiator_task_tag;
    response.exp_data_sn = DataSn(command.data_in_count_);
    response.stat_sn = connection->take_stat_sn();
    connection->number(response);
    if (sense.empty()) {
      connection->send(response);
    } else {
      std::array<std::uint8_t, 2 + limits::max_sense_bytes> segment;
      const std::size_t length = std::min<std::size_t>(sense.size(), limits::max_sense_bytes);
      store_be16(segment.data(), static_cast<std::uint16_t>(length));
      std::memcpy(segment.data() + 2, sense.data(), length);
      connection->send(response, {segment.data(), 2 + length});
    }
  }
  close_command(command);
}

// Data-In PDUs no longer than the initiator's MaxRecvDataSegmentLength, in sequences no longer than MaxBurstLength; the
// last may carry the status (RFC 7143 11.7).
void TargetSession::send_data_in(TargetCommand& command, std::span<const iovec> data, std::uint32_t bytes,
                                 bool with_status, std::uint8_t status, const Residual& residual) {
  TargetConnection& connection = *command.connection;
  stats_.bytes_read += bytes;
  std::uint32_t burst_left = params_.max_burst_length;
  for (std::uint32_t offset = 0; offset < bytes;) {
    const std::uint32_t segment =
        std::min({bytes - offset, connection.params_.max_xmit_data_segment_length, burst_left});
    const bool last = offset + segment == bytes;
    burst_left -= segment;
    DataIn pdu;
    pdu.final = last || burst_left == 0;
    pdu.initiator_task_tag = command.pdu.initiator_task_tag;
    pdu.lun = 0;
    pdu.data_sn = DataSn(command.data_in_count_++);
    pdu.buffer_offset = offset;
    if (last && with_status) {
      pdu.has_status = true;
      pdu.status = status;
      pdu.overflow = residual.overflow;
      pdu.underflow = residual.underflow;
      pdu.residual_count = residual.count;
      pdu.stat_sn = connection.take_stat_sn();
    }
    connection.number(pdu);
    std::uint8_t bhs[bhs_bytes];
    pdu.encode(bhs);
    connection.tx_.push(bhs, data, offset, segment, &command.hold);
    ++stats_.data_in_pdus;
    offset += segment;
    if (burst_left == 0) burst_left = params_.max_burst_length;
  }
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

// ---- task management (RFC 7143 4.2.3, 11.5) ----

void TargetSession::start_task_management(TargetConnection& connection, const TaskManagementRequest& pdu) {
  ++stats_.task_management;
  ++task_management_count_;
  auto* request = new TaskManagement;  // control path; given back by finish_task_management()
  request->pdu = pdu;
  request->session = this;
  request->connection = &connection;
  task_management_.push_back(*request);
  if (pdu.function == TmfFunction::task_reassign) {
    finish_task_management(*request, TmfResponse::task_allegiance_reassignment_not_supported);
    return;
  }
  if (pdu.function == TmfFunction::abort_task) {
    request->referenced = by_itt_.find(pdu.referenced_task_tag);
    if (request->referenced == nullptr) {
      answer_abort_of_unseen(*request);
      return;
    }
  } else {
    drop_deferred_of(pdu);
  }
  host_.on_task_management(*request);
}

// RFC 7143 11.5.1: a task not known yet whose RefCmdSN is in the window and before this request counts as received and
// aborted; anything else does not exist.
void TargetSession::answer_abort_of_unseen(TaskManagement& request) {
  const CmdSn ref = request.pdu.ref_cmd_sn;
  const auto waiting = std::find_if(deferred_.begin(), deferred_.end(), [&](const Deferred& d) {
    return d.command != nullptr && d.command->pdu.initiator_task_tag == request.pdu.referenced_task_tag;
  });
  if (waiting != deferred_.end()) {
    TargetCommand& command = *waiting->command;
    command.aborted_ = true;
    waiting->command = nullptr;  // its CmdSN will still be consumed in its turn
    waiting->connection = nullptr;
    command.hold.release();
    finish_task_management(request, TmfResponse::function_complete);
    return;
  }
  const bool deferred_there = std::any_of(deferred_.begin(), deferred_.end(), [&](const Deferred& d) { return d.cmd_sn == ref; });
  if (!in_window(ref) || !ref.before(request.pdu.cmd_sn) || deferred_there) {
    finish_task_management(request, TmfResponse::task_does_not_exist);
    return;
  }
  Deferred hole;
  hole.cmd_sn = ref;
  const auto place = std::find_if(deferred_.begin(), deferred_.end(), [&](const Deferred& d) { return d.cmd_sn.after(ref); });
  deferred_.insert(place, std::move(hole));
  finish_task_management(request, TmfResponse::function_complete);
  drain_deferred();
  adjust_window();
}

// Commands that came before the request but wait for an earlier CmdSN are affected too.
void TargetSession::drop_deferred_of(const TaskManagementRequest& pdu) {
  const bool any_lun = pdu.function == TmfFunction::target_warm_reset || pdu.function == TmfFunction::target_cold_reset;
  for (Deferred& d : deferred_) {
    if (d.command == nullptr || !d.cmd_sn.before(pdu.cmd_sn)) continue;
    if (!any_lun && d.command->pdu.lun != pdu.lun) continue;
    d.command->aborted_ = true;
    d.command->hold.release();
    d.command = nullptr;
    d.connection = nullptr;
  }
}

void TargetSession::finish_task_management(TaskManagement& request, TmfResponse response) {
  if (TargetConnection* connection = request.connection) {
    TaskManagementResponse pdu;
    pdu.response = response;
    pdu.initiator_task_tag = request.pdu.initiator_task_tag;
    pdu.stat_sn = connection->take_stat_sn();
    connection->number(pdu);
    connection->send(pdu);
  }
  --task_management_count_;
  delete &request;  // leaves the list by itself
}

// ---- the end ----

void TargetSession::begin_logout(TargetConnection& connection, const LogoutRequest& pdu) {
  logout_connection_ = &connection;
  logout_ = pdu;
  shut_down();
}

void TargetSession::shut_down() {
  shutting_down_ = true;
  for (Deferred& d : deferred_) {
    if (d.command != nullptr) {
      d.command->aborted_ = true;
      d.command->hold.release();
    }
  }
  deferred_.clear();
  ++active_count_;  // so that the last abort cannot end the session while we walk
  // Ending one command may let others run and end: look anew each time.
  while (TargetCommand* command = active_.find([](const TargetCommand& c) { return !c.aborted_; })) request_abort(*command);
  --active_count_;
  command_gone();
}

void TargetSession::connection_gone(TargetConnection& connection) {
  std::erase(connections_, &connection);
  if (logout_connection_ == &connection) logout_connection_ = nullptr;
  active_.for_each([&](TargetCommand& command) {
    if (command.connection == &connection) command.connection = nullptr;
  });
  task_management_.for_each([&](TaskManagement& request) {
    if (request.connection == &connection) request.connection = nullptr;
  });
  for (Deferred& d : deferred_) {
    if (d.connection == &connection) d.connection = nullptr;
    if (d.command != nullptr && d.command->connection == &connection) d.command->connection = nullptr;
  }
}

}  // namespace perilune::iscsi
