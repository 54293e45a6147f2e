// SPDX-License-Identifier: Apache-2.0
// The part of the device that third-party copies need: claims on blocks of other units, and the life of an
// operation.
#include <algorithm>
#include <memory>

#include "base/assert.hpp"
#include "scsi/command_table.hpp"
#include "scsi/copy_operation.hpp"
#include "scsi/device.hpp"
#include "scsi/shards.hpp"

namespace perilune::scsi {

CopyOperation* NexusCopies::find(std::uint16_t unit_number, std::uint32_t list_identifier) noexcept {
  for (CopyOperation& operation : operations) {
    if (operation.state != CopyOperation::State::unused && operation.remembered &&
        operation.unit_number == unit_number && operation.list_identifier == list_identifier) {
      return &operation;
    }
  }
  return nullptr;
}

CopyOperation* NexusCopies::place() noexcept {
  CopyOperation* best = nullptr;
  for (CopyOperation& operation : operations) {
    if (operation.state == CopyOperation::State::unused) return &operation;
    if (operation.state == CopyOperation::State::running) continue;
    if (best == nullptr || operation.age < best->age) best = &operation;
  }
  return best;
}

void NexusCopies::forget_finished(std::uint16_t unit_number) noexcept {
  for (CopyOperation& operation : operations) {
    if (operation.state == CopyOperation::State::finished && operation.unit_number == unit_number) {
      operation.state = CopyOperation::State::unused;
    }
  }
}

// ---- the life of an operation

void Device::begin_copy(Task& task, CopyOperation& operation) {
  PERILUNE_ASSERT(task.copy == nullptr && operation.state != CopyOperation::State::running);
  std::destroy_at(&operation);
  std::construct_at(&operation);
  operation.state = CopyOperation::State::running;
  operation.service_action = task.cdb[1] & 0x1f;
  operation.unit_number = task.unit->number();
  operation.age = task.sequence;
  operation.task = &task;
  task.copy = &operation;
}

void Device::end_copy(Task& task) {
  CopyOperation& operation = *task.copy;
  drop_claims(task);
  task.copy = nullptr;
  operation.task = nullptr;
  operation.state = operation.remembered ? CopyOperation::State::finished : CopyOperation::State::unused;
  operation.ended_by_abort =
      task.aborted || operation.interruption == CopyOperation::Interruption::by_command;
  operation.status = task.aborted ? ScsiStatus::task_aborted : task.status;
  operation.sense_length = task.aborted ? 0 : task.sense_length;
  std::copy_n(task.sense.begin(), operation.sense_length, operation.sense.begin());
}

void Device::interrupt_copy(CopyOperation& operation, CopyOperation::Interruption why) {
  if (operation.state != CopyOperation::State::running) return;
  operation.interruption = why;
  Task& task = *operation.task;
  if (task.phase == Task::Phase::blocked && operation.waiting && !task.aborted) resume(task);
}

void Device::resume_interrupted(LogicalUnit& unit) {
  const auto waits = [](const RangeClaim& claim) {
    return claim.task->copy->interruption != CopyOperation::Interruption::none && claim.task->copy->waiting &&
           claim.task->phase == Task::Phase::blocked && !claim.task->aborted;
  };
  while (RangeClaim* claim = unit.claims_.find(waits)) resume(*claim->task);
}

void Device::forget_copies(const LogicalUnit& unit) {
  nexuses_.for_each([&](Nexus& nexus) {
    if (nexus.copies_ != nullptr) nexus.copies_->forget_finished(unit.number());
  });
}

bool Device::submit(LogicalUnit& unit, Task& task) {
  task.op.status = block::OpStatus::ok;
  task.op.os_errno = 0;
  task.op.done = Delegate<void(block::BlockOp&)>::raw(&task, operation_ended);
  return unit.channel().submit(task.op) && !put_off(unit, task.op);
}

// ---- claims

bool Device::can_hold_claims(const CopyOperation& operation) {
  return std::all_of(operation.claims.begin(), operation.claims.end(), [](const RangeClaim& claim) {
    return claim.unit == nullptr || claim.unit->can_hold(claim);
  });
}

void Device::hold_claims(CopyOperation& operation) {
  operation.waiting = false;
  for (RangeClaim& claim : operation.claims) {
    if (claim.unit == nullptr) continue;
    claim.held = true;
    --claim.unit->blocked_;
  }
}

bool Device::claim(Task& task) {
  CopyOperation& operation = *task.copy;
  for (RangeClaim& claim : operation.claims) {
    if (claim.unit == nullptr) continue;
    claim.task = &task;
    claim.sequence = ++sequence_;
    claim.held = false;
    claim.unit->claims_.push_back(claim);
    if (shards_ != nullptr) continue;
    ++claim.unit->barriers_;
    ++claim.unit->blocked_;
  }
  if (shards_ == nullptr && can_hold_claims(operation)) {
    hold_claims(operation);
    return true;
  }
  operation.waiting = true;
  task.phase = Task::Phase::blocked;
  ++task.unit->blocked_;
  if (shards_ != nullptr) shards_->request_for_copy(task);
  return false;
}

void Device::drop_claims(Task& task) {
  CopyOperation& operation = *task.copy;
  operation.waiting = false;
  for (RangeClaim& claim : operation.claims) {
    if (!claim.linked()) continue;
    IntrusiveList<RangeClaim>::remove(claim);
    if (claim.writes && claim.held) claim.unit->space_moved();
    if (shards_ == nullptr) {
      --claim.unit->barriers_;
      if (!claim.held) --claim.unit->blocked_;
      claim.unit->claim_released_ = claims_released_ = true;
    }
    managements_.for_each([&](TaskManagement& request) {
      if (affects(request, claim)) --request.affected;
    });
  }
  if (shards_ != nullptr) shards_->give_back_of_copy(operation);
}

void Device::release_claims(Task& task) {
  drop_claims(task);
  if (claims_released_) wake_released();
}

void Device::wake_released() {
  claims_released_ = false;
  for (std::size_t i = 0; i < units_.size(); ++i) {
    LogicalUnit& unit = *units_[i];
    if (!unit.claim_released_) continue;
    unit.claim_released_ = false;
    if (unit.blocked_ != 0) wake(unit);
    if (!unit.in_force_.empty()) unit.tell_in_force();
  }
}

void Device::resume(Task& task) {
  PERILUNE_ASSERT(task.phase == Task::Phase::blocked && task.copy->waiting);
  --task.unit->blocked_;
  task.copy->waiting = false;
  task.phase = Task::Phase::running;
  if (drive(task)) finish(task);
}

}  // namespace perilune::scsi
