// SPDX-License-Identifier: Apache-2.0
// The part of the device that work on a whole medium needs, and the bound on what is done in one turn of the
// loop.
#include "base/assert.hpp"
#include "scsi/device.hpp"
#include "scsi/sense.hpp"
#include "scsi/shards.hpp"

namespace perilune::scsi {
namespace {

// What an operation that ended at once has cost, in bytes of copied memory that take as long.
std::uint64_t cost_of(const block::BlockOp& op, std::uint32_t block_bytes) noexcept {
  switch (op.kind) {
    case block::OpKind::read:
    case block::OpKind::write: {
      std::uint64_t bytes = 0;
      for (const iovec& piece : op.data) bytes += piece.iov_len;
      return bytes;
    }
    case block::OpKind::unmap:
    case block::OpKind::write_zeroes:
      return op.blocks.value() * block_bytes / 4;
    case block::OpKind::query:
      return 131072;
    case block::OpKind::flush:
    case block::OpKind::change_key:
      return 0;
  }
  return 0;
}

}  // namespace

// ---- what is put off

bool Device::put_off(const LogicalUnit& unit, block::BlockOp& op) {
  if (!later_) return false;
  work_of_turn_bytes_ += cost_of(op, unit.geometry().block_size_bytes);
  if (work_of_turn_bytes_ < work_per_turn_bytes) return false;
  if (put_off_.empty()) later_();
  put_off_.push_back(op);
  return true;
}

void Device::go_on() {
  work_of_turn_bytes_ = 0;
  IntrusiveList<block::BlockOp> ready;
  ready.splice_back(put_off_);
  while (!ready.empty() && work_of_turn_bytes_ < work_per_turn_bytes) {
    block::BlockOp& op = ready.pop_front();
    op.done(op);
  }
  if (ready.empty()) return;
  // Enough again: those that had no turn come before those that have been put off just now.
  if (put_off_.empty()) later_();
  ready.splice_back(put_off_);
  put_off_.splice_back(ready);
}

// ---- SANITIZE, FORMAT UNIT

bool Device::background_work() const noexcept {
  for (const auto& unit : units_) {
    if (unit->medium().at_work()) return true;
  }
  return false;
}

void Device::stop_background_work() noexcept {
  for (const auto& unit : units_) unit->medium().stop();
}

bool Device::begin_medium_operation(Task& task, const MediumPlan& plan) {
  LogicalUnit& unit = *task.unit;
  unit.medium().begin(plan);
  refuse_waiting(unit);
  if (shards_ != nullptr) {
    shards_->tell_medium_begins(unit, task);
    return false;
  }
  unit.medium().go();
  return true;
}

// SBC-4 4.11.2: before the operation, the commands of every task set are ended.
void Device::refuse_waiting(LogicalUnit& unit) {
  const MediumOperation& medium = unit.medium();
  const auto refused = [&](const Task& task) {
    const bool copies =
        task.copy != nullptr && task.copy->waiting;  // it waits for other units, perhaps; it asks by itself
    return task.phase == Task::Phase::blocked && !task.aborted && !copies && medium.refusal(*task.row);
  };
  while (Task* task = unit.task_set_.find(refused)) {
    check_condition(*task, *medium.refusal(*task->row));
    finish(*task);
  }
}

void Device::wait_for_medium(Task& task) {
  LogicalUnit& unit = *task.unit;
  PERILUNE_ASSERT(unit.medium().running() && unit.medium().waiter() == nullptr);
  unit.medium().set_waiter(&task);
  task.phase = Task::Phase::blocked;
  ++unit.blocked_;
}

void Device::medium_ended(LogicalUnit& unit) {
  if (shards_ != nullptr) shards_->tell_medium_ended(unit);
  Task* const task = unit.medium().waiter();
  if (task == nullptr) return;
  unit.medium().set_waiter(nullptr);
  --unit.blocked_;
  task->phase = Task::Phase::running;
  if (drive(*task)) finish(*task);
}

}  // namespace perilune::scsi
