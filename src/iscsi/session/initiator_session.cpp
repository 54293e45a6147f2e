// SPDX-License-Identifier: Apache-2.0
#include "iscsi/session/initiator_session.hpp"

#include <utility>

#include "base/assert.hpp"

namespace perilune::iscsi {

namespace {

// A task tag is a slot's index in the low half and its generation in the high one, so that a late answer does
// not find the next user of the slot. The index never reaches ffffh: no tag is reserved_tag.
constexpr std::uint32_t max_slots = 0xfff0;

constexpr Itt make_itt(std::uint32_t index, std::uint16_t generation) noexcept {
  return (Itt{generation} << 16) | index;
}
constexpr std::uint32_t slot_index(Itt itt) noexcept { return itt & 0xffff; }

}  // namespace

void InitiatorCommand::released() { session_->released(*this); }

InitiatorSession::InitiatorSession(const InitiatorLimits& limits) : limits_(limits) {
  PERILUNE_ASSERT(limits_.commands > 0 && limits_.commands + control_slots <= max_slots);
  const std::uint32_t total = limits_.commands + control_slots;
  slots_.resize(total);
  free_command_slots_.reserve(limits_.commands);
  free_control_slots_.reserve(control_slots);
  for (std::uint32_t i = total; i-- > 0;) {
    (i < limits_.commands ? free_command_slots_ : free_control_slots_)
        .push_back(static_cast<std::uint16_t>(i));
  }
}

InitiatorSession::~InitiatorSession() {
  PERILUNE_ASSERT(live_.empty() && pending_.empty() && connections_.empty());
}

void InitiatorSession::open(const InitiatorSessionParameters& parameters, CmdSn next, CmdSn exp, CmdSn max) {
  PERILUNE_ASSERT(connections_.empty() && outstanding_ == 0);
  parameters_ = parameters;
  next_cmd_sn_ = next;
  exp_cmd_sn_ = exp;
  max_cmd_sn_ = max;
}

void InitiatorSession::close() {
  while (!connections_.empty()) lose(*connections_.front());
  while (!live_.empty()) finish(live_.front(), InitiatorOutcome::lost);
  while (!pending_.empty()) {
    InitiatorCommand& command = pending_.pop_front();
    command.state_ = InitiatorCommand::State::idle;
    command.outcome = InitiatorOutcome::unsent;
    completed_.push_back(command);
  }
  pending_count_ = 0;
  events_.clear();
}

void InitiatorSession::lose(InitiatorConnection& connection) {
  connection.tx_.clear();  // commands that only waited for their memory end here
  if (connection.ended_data_in_ != nullptr)
    std::exchange(connection.ended_data_in_, nullptr)->hold_.release();
  connection.data_in_ = nullptr;
  live_.for_each([&](InitiatorCommand& command) {
    if (command.connection_ == &connection) suspend(command, connection.cid());
  });
  drop_requests(connection);
  std::erase(connections_, &connection);
}

void InitiatorSession::drop_requests(const InitiatorConnection& connection) {
  for (std::uint32_t i = limits_.commands; i < slots_.size(); ++i) {
    const Slot slot = slots_[i];
    if (slot.kind == Kind::free || slot.connection != &connection) continue;
    const Itt itt = make_itt(i, slot.generation);
    if (slot.kind == Kind::task) {
      finish_task(itt, InitiatorOutcome::lost, TmfResponse::function_complete);
      continue;
    }
    free_slot(itt);
    if (slot.kind == Kind::text) {
      text_open_ = false;
      text_.clear();
      emit(InitiatorEvent::Kind::text_failed);
    } else if (slot.kind == Kind::logout) {
      InitiatorEvent& event = emit(InitiatorEvent::Kind::logout_failed);
      event.cid = slot.cid;
      event.reason = slot.reason;
    } else if (slot.kind == Kind::reassign) {
      --reassignments_;
    }
  }
}

Itt InitiatorSession::allocate(Kind kind, InitiatorConnection* connection) noexcept {
  auto& free = kind == Kind::command ? free_command_slots_ : free_control_slots_;
  if (free.empty()) return reserved_tag;
  const std::uint32_t index = free.back();
  free.pop_back();
  Slot& slot = slots_[index];
  slot.kind = kind;
  slot.connection = connection;
  return make_itt(index, ++slot.generation);
}

InitiatorSession::Slot* InitiatorSession::find(Itt itt) noexcept {
  const std::uint32_t index = slot_index(itt);
  if (index >= slots_.size()) return nullptr;
  Slot& slot = slots_[index];
  return slot.kind != Kind::free && itt == make_itt(index, slot.generation) ? &slot : nullptr;
}

void InitiatorSession::free_slot(Itt itt) noexcept {
  Slot* slot = find(itt);
  PERILUNE_ASSERT(slot != nullptr);
  const bool is_command = slot->kind == Kind::command;
  slot->kind = Kind::free;
  slot->command = nullptr;
  slot->task = nullptr;
  (is_command ? free_command_slots_ : free_control_slots_)
      .push_back(static_cast<std::uint16_t>(slot_index(itt)));
}

// RFC 7143 4.2.2.1: neither moves backwards, and a MaxCmdSN below ExpCmdSN - 1 makes the pair void.
void InitiatorSession::update_window(CmdSn exp, CmdSn max) noexcept {
  if (max.before(exp.minus(1))) return;
  if (exp.after(exp_cmd_sn_)) exp_cmd_sn_ = exp;
  if (max.after(max_cmd_sn_)) max_cmd_sn_ = max;
}

bool InitiatorSession::submit(InitiatorCommand& command) {
  PERILUNE_ASSERT(command.state_ == InitiatorCommand::State::idle);
  std::uint64_t length = 0;
  for (const iovec& v : command.data) length += v.iov_len;
  PERILUNE_ASSERT(length <= 0xffffffff);
  PERILUNE_ASSERT(command.direction != InitiatorCommand::Direction::none || length == 0);
  if (pending_count_ >= limits_.pending_commands) return false;
  command.session_ = this;
  command.length_ = static_cast<std::uint32_t>(length);
  command.outcome = InitiatorOutcome::none;
  command.status = 0;
  command.sense_length = 0;
  command.transferred_bytes = 0;
  command.residual_overflow = 0;
  command.next_data_sn_ = DataSn();
  command.received_ = command.solicited_ = 0;
  command.open_bursts_ = command.open_r2ts_ = 0;
  command.asks_ = command.attempts_ = 0;
  command.has_status_ = command.data_gone_ = command.removed_ = command.reassigned_ = false;
  if (pending_count_ == 0 && suspended_ == 0 && may_send()) {
    if (InitiatorConnection* connection = pick()) {
      send(command, *connection);
      return true;
    }
  }
  command.state_ = InitiatorCommand::State::pending;
  pending_.push_back(command);
  ++pending_count_;
  if (pending_count_ == 1) pump();
  return true;
}

InitiatorConnection* InitiatorSession::pick() const noexcept {
  InitiatorConnection* best = nullptr;
  for (InitiatorConnection* each : connections_) {
    if (!each->leaving_ && (best == nullptr || each->commands_ < best->commands_)) best = each;
  }
  return best;
}

void InitiatorSession::pump() {
  if (suspended_ != 0) recover_more();
  while (!pending_.empty() && may_send()) {
    InitiatorConnection* connection = pick();
    if (connection == nullptr) return;
    --pending_count_;
    send(pending_.pop_front(), *connection);
  }
}

void InitiatorSession::send(InitiatorCommand& command, InitiatorConnection& connection) {
  command.itt_ = allocate(Kind::command);
  slots_[slot_index(command.itt_)].command = &command;
  command.cmd_sn_ = next_cmd_sn_;
  ++next_cmd_sn_;
  command.state_ = InitiatorCommand::State::sent;
  live_.push_back(command);
  ++outstanding_;
  command.connection_ = &connection;
  ++connection.commands_;
  command.hold_.retain();  // until finish()
  connection.send_command(command);
}

bool InitiatorSession::withdraw(InitiatorCommand& command) noexcept {
  if (command.state_ != InitiatorCommand::State::pending) return false;
  IntrusiveList<InitiatorCommand>::remove(command);
  --pending_count_;
  command.state_ = InitiatorCommand::State::idle;
  return true;
}

void InitiatorSession::finish(InitiatorCommand& command, InitiatorOutcome outcome) {
  PERILUNE_ASSERT(command.state_ == InitiatorCommand::State::sent);
  if (InitiatorConnection* connection = std::exchange(command.connection_, nullptr)) {
    connection->let_go(command);
  } else {
    --suspended_;
  }
  free_slot(command.itt_);
  IntrusiveList<InitiatorCommand>::remove(command);
  --outstanding_;
  command.itt_ = reserved_tag;
  command.outcome = outcome;
  command.state_ = InitiatorCommand::State::finishing;
  command.hold_.release();  // the one taken when it was sent
}

void InitiatorSession::released(InitiatorCommand& command) noexcept {
  PERILUNE_ASSERT(command.state_ == InitiatorCommand::State::finishing);
  command.state_ = InitiatorCommand::State::idle;
  completed_.push_back(command);
}

bool InitiatorSession::manage(InitiatorTask& task) {
  InitiatorConnection* connection = pick();
  task.outcome = InitiatorOutcome::none;
  task.referenced_ = reserved_tag;
  task.referenced_cmd_sn_ = CmdSn();
  if (task.function == TmfFunction::abort_task) {
    PERILUNE_ASSERT(task.command != nullptr && task.command->state_ == InitiatorCommand::State::sent);
    task.referenced_ = task.command->itt_;
    task.referenced_cmd_sn_ = task.command->cmd_sn_;
    connection = task.command->connection_;
  }
  if (connection == nullptr) return false;
  task.itt_ = allocate(Kind::task, connection);
  if (task.itt_ == reserved_tag) return false;
  find(task.itt_)->task = &task;
  task.cmd_sn_ = next_cmd_sn_;
  tasks_.push_back(task);
  connection->send_task(task);
  return true;
}

void InitiatorSession::finish_task(Itt itt, InitiatorOutcome outcome, TmfResponse response) {
  Slot* slot = find(itt);
  PERILUNE_ASSERT(slot != nullptr && slot->kind == Kind::task);
  InitiatorTask& task = *slot->task;
  free_slot(itt);
  IntrusiveList<InitiatorTask>::remove(task);
  task.outcome = outcome;
  task.response = response;
  if (outcome == InitiatorOutcome::status) end_covered(task);
  completed_tasks_.push_back(task);
}

// Which commands a function that completed has ended. Responses that the target sent before its answer have
// been taken already, so nothing more will come for these (RFC 7143 4.2.3.3). Commands numbered after the
// function go on.
void InitiatorSession::end_covered(const InitiatorTask& task) {
  const bool complete = task.response == TmfResponse::function_complete;
  if (task.function == TmfFunction::abort_task) {
    if (!complete && task.response != TmfResponse::task_does_not_exist) return;
    Slot* slot = find(task.referenced_);
    if (slot != nullptr && slot->kind == Kind::command) finish(*slot->command, InitiatorOutcome::aborted);
    return;
  }
  if (!complete) return;
  const bool whole_target =
      task.function == TmfFunction::target_warm_reset || task.function == TmfFunction::target_cold_reset;
  live_.for_each([&](InitiatorCommand& command) {
    if (!command.cmd_sn_.before(task.cmd_sn_)) return;
    if (whole_target || command.lun == task.lun) finish(command, InitiatorOutcome::aborted);
  });
}

bool InitiatorSession::ping() { return !connections_.empty() && connections_.front()->ping(); }

bool InitiatorSession::text(Bytes keys) {
  InitiatorConnection* connection = pick();
  if (connection == nullptr || text_open_ ||
      keys.size() > connection->parameters_.max_send_data_segment_bytes)
    return false;
  const Itt itt = allocate(Kind::text, connection);
  if (itt == reserved_tag) return false;
  text_open_ = true;
  text_.clear();
  connection->text_pdus_ = 0;
  connection->send_text(itt, reserved_tag, 0, keys);
  return true;
}

bool InitiatorSession::logout(LogoutReason reason) {
  InitiatorConnection* connection = pick();
  return connection != nullptr && logout(*connection, reason, connection->cid());
}

bool InitiatorSession::logout(InitiatorConnection& by, LogoutReason reason, std::uint16_t cid) {
  const Itt itt = allocate(Kind::logout, &by);
  if (itt == reserved_tag) return false;
  Slot* slot = find(itt);
  slot->reason = reason;
  slot->cid = cid;
  if (reason == LogoutReason::close_session) {
    for (InitiatorConnection* each : connections_) each->leaving_ = true;
  } else if (cid == by.cid()) {
    by.leaving_ = true;
  }
  by.send_logout(itt, reason, cid);
  return true;
}

InitiatorEvent& InitiatorSession::emit(InitiatorEvent::Kind kind) {
  events_.emplace_back();
  events_.back().kind = kind;
  return events_.back();
}

std::vector<InitiatorEvent> InitiatorSession::take_events() { return std::exchange(events_, {}); }

}  // namespace perilune::iscsi
