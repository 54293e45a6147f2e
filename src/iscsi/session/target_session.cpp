// SPDX-License-Identifier: Apache-2.0
#include "iscsi/session/target_session.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "iscsi/session/residual.hpp"
#include "iscsi/session/target_connection.hpp"

namespace perilune::iscsi {

namespace {

constexpr std::uint8_t sam5_protocol_level = 2;  // RFC 7144

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
bool is_fenced(TmfFunction function) noexcept { return aborts_task_set(function) || affects_every_unit(function); }

bool is_served(TmfFunction function, std::uint8_t protocol_level) noexcept {
  const auto number = static_cast<std::uint8_t>(function);
  const auto last = protocol_level >= sam5_protocol_level ? TmfFunction::query_asynchronous_event : TmfFunction::task_reassign;
  return number >= static_cast<std::uint8_t>(TmfFunction::abort_task) && number <= static_cast<std::uint8_t>(last);
}

}  // namespace

void TargetCommand::on_unreferenced() { session->host_.release_command(*this); }

TargetSession::TargetSession(TargetHost& host, const SessionParams& params, CmdSn first_cmd_sn, std::uint32_t window_max)
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
    for (TargetConnection* connection : connections_) connection->tx_.reserve(std::size_t{slots_} * 4, slots_ / 4 + 2);
  }
  const std::uint32_t open = slots_ > slots_used_ ? slots_ - slots_used_ : 0;
  const CmdSn candidate = exp_cmd_sn_.plus(open).minus(1);
  if (candidate.after(max_cmd_sn_)) max_cmd_sn_ = candidate;
}

// What the initiator had under way when it sent a command: what is under way here, and what it had not heard the end of.
void TargetSession::note_use_of_window(const TargetConnection& connection, StatSn exp_stat_sn, std::uint32_t used) noexcept {
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
  return std::any_of(deferred_.begin(), deferred_.end(), [sn](const Deferred& d) { return d.consumes && d.cmd_sn == sn; });
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
  if (command->r2t_count_ != 0) command->r2t_ = {};  // its last use was aborted: stale tags would match new ones
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
  while (!command.ending_ && command.r2t_count_ < most && command.next_r2t_offset_ < command.transfer_) send_r2t(command);
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

void TargetSession::send_r2t(TargetCommand& command, TargetCommand::ReadyToTransferSlot& slot, std::uint32_t begin,
                             std::uint32_t end) {
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

void TargetSession::complete(TargetCommand& command, std::uint8_t status, Bytes sense, std::span<const iovec> data_in,
                             std::uint32_t data_in_bytes, std::uint64_t wanted_bytes) {
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
  if (bytes != 0 && connection != nullptr) send_data_in(command, data_in, bytes, status_with_data, status, residual);
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
    if (command.data_in_source == nullptr) connection.tx_.push(bhs, data, offset, segment, &command.hold);
    else connection.tx_.push_copied(bhs, command.data_in_source + offset, data, offset, segment, command.hold);
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

// ---- task management (RFC 7143 4.2.3, 11.5) ----

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
    // RFC 7143 4.2.3.3 b: a reset of the target need not wait for commands that have not come; they count as received.
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

// RFC 7143 4.2.3.3 b, 4.2.3.4 a: an immediate request waits until every command before it has come. On a single connection what
// is missing was discarded (data digest error): the initiator sends it again, or gives it up by ABORT TASK.
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
    TaskManagement* request = task_management_.find(
        [this](const TaskManagement& candidate) { return candidate.waits_for_data_ && !data_is_due(candidate); });
    if (request == nullptr) return;
    request->waits_for_data_ = false;
    --data_waits_;
    host_.on_task_management(*request);
  }
}

void TargetSession::end_data_waits() {
  while (TaskManagement* request =
             task_management_.find([](const TaskManagement& candidate) { return candidate.waits_for_data_; })) {
    request->waits_for_data_ = false;
    --data_waits_;
    host_.on_task_management(*request);
  }
}

// RFC 7143 4.2.3.4 d: the other connections of the session learn that data for these tasks is not wanted any more; on its own
// the initiator knows. What still comes is read and discarded, so there is nothing to free with the acknowledgement (g).
void TargetSession::announce_ends(const TaskManagement& request) {
  active_.for_each([&](TargetCommand& command) {
    if (!affects(request.pdu, command)) return;
    if (command.connection == request.connection) command.announced_ = true;
    else announce_end(command);
  });
}

void TargetSession::announce_end(TargetCommand& command) {
  if (params_.task_reporting != TaskReporting::fast_abort || command.announced_ || command.connection == nullptr) return;
  active_.for_each([&](TargetCommand& other) {
    if (other.connection == command.connection && other.pdu.lun == command.pdu.lun) other.announced_ = true;
  });
  command.connection->send_async(AsyncEvent::all_tasks_terminated, 0, 0, 0, command.pdu.lun);
}

// RFC 7143 11.5.1: a task not known yet whose RefCmdSN is in the window and before this request counts as received and
// aborted; anything else does not exist.
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
  if (request.connection != nullptr && must_hold(fenced, request.connection)) hold({nullptr, &request, fenced, false});
  else answer_task_management(request);
}

// ---- Response Fence (RFC 7143 4.2.2.3.3) ----
//
// Connections deliver in order each by itself only. A fenced answer goes when the initiator has acknowledged all that the
// other connections carried before it, and what comes behind it on another one goes when the fenced answer is acknowledged.
// Who has to wait asks for ExpStatSN by a ping. This is done whatever TaskReporting says: RFC 3720 10.6.2 d asks for the first half already.
//
// What was sent on a connection that is lost is not waited for ("if they are delivered at all"). An answer that was not sent
// yet is the session's: it goes with its task, which ends with its connection, or at recovery level 2 waits to be reassigned
// and then comes there. A fenced one keeps its place meanwhile; the end of the task, at the latest by Time2Retain, frees it.

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
  if (params_.max_connections > 1 && unacknowledged(connection)) last_fenced_ = {&connection, connection.stat_sn_};
}

bool TargetSession::waits_for_acknowledgement(const TargetConnection& connection) const noexcept {
  return (last_fenced_.connection == &connection && !held_.empty()) ||
         std::any_of(fence_.begin(), fence_.end(), [&](const Wait& wait) { return wait.connection == &connection; });
}

void TargetSession::leave_fence(const TargetCommand& command) {
  const auto found = std::find_if(held_.begin(), held_.end(), [&](const Held& h) { return h.command == &command; });
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

// ---- numbers that were lost with a connection ----
//
// An immediate request that waits for earlier commands (must_wait()) must not wait for ever for those that a connection took
// along. Which these are, only the initiator knows: when every connection that is left has answered a ping that was sent
// afterwards, all that was under way on it is here, and what is still missing counts as received.

void TargetSession::doubt_missing() {
  if (shutting_down_) return;
  doubts_ = true;
  doubtful_end_ = max_cmd_sn_.plus(1);  // the initiator had no higher one
  unheard_.clear();
  ask_for_missing();
}

void TargetSession::ask_for_missing() {
  if (!doubts_ || !unheard_.empty()) return;
  const auto waiting = std::find_if(deferred_.rbegin(), deferred_.rend(), [](const Deferred& d) { return !d.consumes; });
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
    const bool named = logout.ends == Ends::session || (logout.ends == Ends::other_connection && other->cid_ == pdu.cid);
    if (!named || other == &connection) continue;
    other->fate_ = recovery ? Fate::removed : Fate::closed;
    // Those of a session are closed when the answer goes (RFC 7143 8.1.3, transition 18): then it says that they are.
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
  while (TargetCommand* command =
             active_.find([&](const TargetCommand& c) { return c.connection == &connection && !c.aborted_; })) {
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
    response.time2retain = recovery ? static_cast<std::uint16_t>(params_.default_time2retain) : std::uint16_t{0};
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

void TargetSession::shut_down() {
  shutting_down_ = true;
  for (Deferred& d : deferred_) drop_deferred(d);
  deferred_.clear();
  ++active_count_;  // so that the last abort cannot end the session while we walk
  expire_all();
  // Ending one command may let others run and end: look anew each time.
  while (TargetCommand* command = active_.find([](const TargetCommand& c) { return !c.aborted_; })) request_abort(*command);
  --active_count_;
  command_gone();
}

// RFC 7143 7.5: the tasks of a connection that is gone are terminated. What waits for an earlier CmdSN was received, so its
// numbers are used up; what was never received stays a hole, which the initiator fills (ABORT TASK) or gives up on.
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
  while (TargetCommand* command = active_.find([&](const TargetCommand& c) { return c.connection == &connection; })) {
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
