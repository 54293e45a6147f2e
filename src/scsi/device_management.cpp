// SPDX-License-Identifier: Apache-2.0
// Aborts and task management (SAM-5 clause 7).
#include "base/assert.hpp"
#include "scsi/copy_operation.hpp"
#include "scsi/device.hpp"
#include "scsi/forwarding.hpp"
#include "scsi/lun.hpp"
#include "scsi/sense.hpp"
#include "scsi/shards.hpp"

namespace perilune::scsi {

void Device::abort(Task& task) {
  switch (task.phase) {
    case Task::Phase::outside: return;
    case Task::Phase::running: task.aborted = true; return;
    case Task::Phase::admitted:
    case Task::Phase::cancelled: {
      LogicalUnit& unit = *task.unit;
      task.aborted = true;
      leave(task);
      after_leaving(unit);
      return;
    }
    case Task::Phase::blocked:
      task.aborted = true;
      finish(task);
      return;
  }
}

bool Device::affects(const TaskManagement& request, const Task& task) noexcept {
  if (task.sequence >= request.sequence) return false;
  switch (request.function) {
    case TmFunction::abort_task:
      return task.unit == request.unit && task.nexus == request.nexus && task.tag == request.tag;
    case TmFunction::abort_task_set: return task.unit == request.unit && task.nexus == request.nexus;
    case TmFunction::clear_task_set:
    case TmFunction::lun_reset: return task.unit == request.unit;
    case TmFunction::target_warm_reset:
    case TmFunction::target_cold_reset: return request.unit == nullptr || task.unit == request.unit;
    case TmFunction::i_t_nexus_reset: return task.nexus == request.nexus;
    default: return false;
  }
}

bool Device::affects(const TaskManagement& request, const RangeClaim& claim) noexcept {
  return request.function == TmFunction::lun_reset && claim.unit == request.unit &&
         claim.sequence < request.sequence;
}

namespace {

bool needs_unit(TmFunction function) noexcept {
  switch (function) {
    case TmFunction::target_warm_reset:
    case TmFunction::target_cold_reset:
    case TmFunction::i_t_nexus_reset: return false;
    default: return true;
  }
}

// SAM-5 7.10. There are no deferred errors.
void query_attention(TaskManagement& request, const UnitAttentions& attentions) noexcept {
  if (attentions.empty()) return;
  const AdditionalSense news = additional_sense(attentions.first());
  const std::uint32_t depth = attentions.count() == 1 ? 0x10 : 0x20;  // UADE DEPTH: one, or several
  const auto key = static_cast<std::uint32_t>(SenseKey::unit_attention);
  request.response = TmResponse::function_succeeded;
  request.additional_information = (depth | key) << 16 | std::uint32_t{news.asc} << 8 | news.ascq;
}

}  // namespace

bool Device::manage(TaskManagement& request) {
  PERILUNE_ASSERT(request.nexus != nullptr && !request.linked());
  request.unit = nullptr;
  request.affected = 0;
  request.response = TmResponse::function_complete;
  request.additional_information = 0;
  if (request.function == TmFunction::clear_aca) {
    request.response = TmResponse::not_supported;
    return true;
  }
  if (needs_unit(request.function)) {
    const LunAddress address = decode_lun(request.lun);
    // The well known unit is there, but its commands are over when admit() returns, and it has no unit
    // attentions.
    if (address.kind == LunAddress::Kind::report_luns_well_known) {
      if (request.function == TmFunction::abort_task) request.response = TmResponse::task_does_not_exist;
      return true;
    }
    Nexus::Slot* slot =
        address.kind == LunAddress::Kind::unit ? request.nexus->slot(address.number) : nullptr;
    if (slot == nullptr) {
      request.response = TmResponse::incorrect_lun;
      return true;
    }
    request.unit = slot->unit;
    if (request.function == TmFunction::query_asynchronous_event) {
      query_attention(request, slot->attentions);
      return true;
    }
  }
  if (request.function == TmFunction::query_task || request.function == TmFunction::query_task_set) {
    const bool one = request.function == TmFunction::query_task;
    const bool present = request.unit->task_set_.find([&](const Task& task) {
      return task.nexus == request.nexus && (!one || task.tag == request.tag);
    }) != nullptr;
    if (present) request.response = TmResponse::function_succeeded;
    return true;
  }
  request.sequence = ++sequence_;
  if (shards_ != nullptr && goes_to_all_shards(request.function)) return shards_->manage(request);
  return take_tasks(request);
}

bool Device::goes_to_all_shards(TmFunction function) noexcept {
  switch (function) {
    case TmFunction::clear_task_set:
    case TmFunction::lun_reset:
    case TmFunction::target_warm_reset:
    case TmFunction::target_cold_reset: return true;
    default: return false;  // what concerns one nexus concerns its shard
  }
}

// SAM-5 5.3.1, 5.14: who learns by a status gets no attention.
void Device::tell_of_end(const LogicalUnit& unit, Task& task) {
  task.report_aborted = unit.state().tas;
  if (!task.report_aborted) task.nexus->raise(unit, UnitAttention::commands_cleared);
}

bool Device::take_tasks(TaskManagement& request) {
  request.affected = 1;  // held by this call
  managements_.push_back(request);

  // Mark all of them first: the callbacks below may change the task sets.
  IntrusiveList<Task, StartableTag> called;
  bool copies_affected = false;
  for (const auto& unit : units_) {
    if (request.unit != nullptr && request.unit != unit.get()) continue;
    unit->task_set_.for_each([&](Task& task) {
      if (!affects(request, task)) return;
      ++request.affected;
      task.ended_with_set = request.function != TmFunction::abort_task;
      if (task.nexus != request.nexus) {
        if (request.function == TmFunction::clear_task_set) tell_of_end(*unit, task);
        else task.report_aborted = unit->state().tas;  // a reset has its own attention
      }
      const bool waits = task.phase == Task::Phase::admitted || task.phase == Task::Phase::blocked;
      if (waits && !task.aborted) called.push_back(task);
      task.aborted = true;
    });
    // Copies of other units' task sets that work on this unit end by themselves, and tell why.
    unit->claims_.for_each([&](RangeClaim& claim) {
      if (!affects(request, claim)) return;
      ++request.affected;
      claim.task->copy->interruption = CopyOperation::Interruption::unit_was_reset;
      claim.task->copy->interrupted_unit = unit.get();
      copies_affected = true;
    });
    apply_reset(request, *unit);
    pass_reset_on(request, *unit);
  }
  if (request.function == TmFunction::abort_task && request.affected == 1) {
    request.response = TmResponse::task_does_not_exist;
  }
  while (!called.empty()) {
    cancel(called.pop_front());
  }
  if (copies_affected) resume_interrupted(*request.unit);
  if (--request.affected != 0) return false;
  IntrusiveList<TaskManagement>::remove(request);
  return true;
}

void Device::cancel(Task& task) {
  if (task.phase == Task::Phase::admitted && task.cancelled) {
    task.phase = Task::Phase::cancelled;
    task.cancelled(task);
  } else {
    abort(task);
  }
}

// A reset is an event of the unit: every nexus learns of it, the one that asked too (SAM-5 6.3.3; libiscsi's
// MultipathIO.Reset expects it).
void Device::apply_reset(const TaskManagement& request, LogicalUnit& unit) {
  switch (request.function) {
    case TmFunction::lun_reset:
      unit.reset();
      forget_copies(unit);
      unit.raise_for_others(nullptr, UnitAttention::device_reset);
      break;
    case TmFunction::target_warm_reset:
      unit.reset();
      forget_copies(unit);
      unit.raise_for_others(nullptr, UnitAttention::bus_reset);
      break;
    case TmFunction::target_cold_reset:
      unit.reset();
      forget_copies(unit);
      unit.raise_for_others(nullptr, UnitAttention::power_on);
      break;
    case TmFunction::i_t_nexus_reset:
      unit.nexus_lost(*request.nexus);
      request.nexus->raise(unit, UnitAttention::nexus_loss);
      break;
    default: break;
  }
}

// To a real device once, from the shard that owns the unit, while its commands end; the request waits for it.
void Device::pass_reset_on(TaskManagement& request, LogicalUnit& unit) {
  const bool resets = request.function == TmFunction::lun_reset ||
                      request.function == TmFunction::target_warm_reset ||
                      request.function == TmFunction::target_cold_reset;
  if (!resets || unit.forwarder() == nullptr || (shards_ != nullptr && !shards_->owns(unit))) return;
  ++request.affected;
  unit.forwarder()->reset(*this, request);
}

void Device::forwarded_reset_ended(TaskManagement& request, bool succeeded) {
  if (!succeeded) request.response = TmResponse::function_rejected;
  --request.affected;
  settle_managements();
}

void Device::settle_managements() {
  for (;;) {
    TaskManagement* request =
        managements_.find([](const TaskManagement& candidate) { return candidate.affected == 0; });
    if (request == nullptr) return;
    IntrusiveList<TaskManagement>::remove(*request);
    request->done(*request);
  }
}

}  // namespace perilune::scsi
