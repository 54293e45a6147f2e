// SPDX-License-Identifier: Apache-2.0
// The part of the device that changes a unit as a UnitChange says: commands end, the record is saved, the new
// state counts, the others are told; in this order. Meanwhile the changing command holds the unit
// (SerialClass::whole).
#include <algorithm>

#include "base/assert.hpp"
#include "scsi/command_table.hpp"
#include "scsi/device.hpp"
#include "scsi/shards.hpp"
#include "scsi/transport_id.hpp"

namespace perilune::scsi {
namespace {

using Stage = LogicalUnit::ChangeInProgress::Stage;

bool same(const NexusName& name, const Nexus& nexus) noexcept {
  return name.target_port == nexus.names().relative_target_port &&
         name.initiator_port == nexus.names().initiator_port;
}

bool named(const std::vector<NexusName>& names, const Nexus& nexus) noexcept {
  return std::any_of(names.begin(), names.end(), [&](const NexusName& name) { return same(name, nexus); });
}

}  // namespace

bool LogicalUnit::has_ending_task_of(const std::vector<NexusName>& nexuses) {
  return !nexuses.empty() && task_set_.find([&](const Task& task) {
    return task.aborted && named(nexuses, *task.nexus);
  }) != nullptr;
}

bool Device::change(Task& task, UnitChange change) {
  LogicalUnit& unit = *task.unit;
  PERILUNE_ASSERT(unit.pending_ == nullptr && task.phase == Task::Phase::running &&
                  static_cast<SerialClass>(task.serial) == SerialClass::whole);
  unit.pending_ = std::make_unique<LogicalUnit::ChangeInProgress>();
  unit.pending_->task = &task;
  unit.pending_->change = std::move(change);
  const std::vector<NexusName>& aborted = unit.pending_->change.aborted;
  end_tasks_here(unit, aborted, &task);
  if (unit.change_ != nullptr && !aborted.empty()) {
    // What of theirs has started on other shards and writes is over by now. The rest ends when they adopt the
    // change.
    unit.change_->aborted = aborted;
  }
  unit.pending_->stage = Stage::waiting_for_tasks;
  const bool tasks_left = unit.task_set_.find([&](const Task& other) {
    return &other != &task && named(unit.pending_->change.aborted, *other.nexus);
  }) != nullptr;
  return !tasks_left && save_change(unit);
}

void Device::end_tasks_of(const std::vector<NexusName>& nexuses, Task& except) {
  if (nexuses.empty()) return;
  if (shards_ != nullptr) shards_->tell_end_tasks(*except.unit, nexuses);
  end_tasks_here(*except.unit, nexuses, &except);
}

void Device::end_tasks_here(LogicalUnit& unit, const std::vector<NexusName>& nexuses, const Task* except) {
  if (nexuses.empty()) return;
  // Mark all of them first: the callbacks below may change the task set.
  IntrusiveList<Task, StartableTag> called;
  unit.task_set_.for_each([&](Task& task) {
    if (&task == except || task.aborted || !named(nexuses, *task.nexus)) return;
    task.ended_with_set = true;
    if (except == nullptr || task.nexus != except->nexus) tell_of_end(unit, task);
    if (task.phase == Task::Phase::admitted || task.phase == Task::Phase::blocked) called.push_back(task);
    task.aborted = true;
  });
  while (!called.empty()) cancel(called.pop_front());
}

// Called whenever a command of the unit has ended.
void Device::continue_change(LogicalUnit& unit) {
  LogicalUnit::ChangeInProgress& current = *unit.pending_;
  if (current.stage != Stage::waiting_for_tasks) return;
  Task& task = *current.task;
  const bool tasks_left = unit.task_set_.find([&](const Task& other) {
    return &other != &task && named(current.change.aborted, *other.nexus);
  }) != nullptr;
  if (tasks_left || (!task.aborted && !save_change(unit))) return;
  if (drive(task)) finish(task);
}

bool Device::save_change(LogicalUnit& unit) {
  LogicalUnit::ChangeInProgress& current = *unit.pending_;
  if (!current.change.access_states.empty() && unit.config_.access_states != nullptr) {
    current.stage = Stage::saving;
    unit.config_.access_states->keep(current.change.access_states,
                                     current.task->nexus->names().initiator_port,
                                     [this, &unit](bool kept) { change_over(unit, kept); });
    return false;
  }
  if (!current.change.durable) {
    make_change(unit);
    return true;
  }
  PERILUNE_ASSERT(unit.persists());
  current.stage = Stage::saving;
  unit.config_.store->save(encode_durable_state(*current.change.durable),
                           [this, &unit](bool durable) { change_saved(unit, durable); });
  return false;
}

// What the record says is what counts, even when nobody waits for the answer any more.
void Device::change_saved(LogicalUnit& unit, bool durable) {
  unit.record_known_ = durable;
  change_over(unit, durable);
}

void Device::change_over(LogicalUnit& unit, bool durable) {
  Task& task = *unit.pending_->task;
  if (durable)
    make_change(unit);
  else
    unit.pending_->stage = Stage::failed;
  if (drive(task)) finish(task);
}

void Device::make_change(LogicalUnit& unit) {
  LogicalUnit::ChangeInProgress& current = *unit.pending_;
  UnitChange& change = current.change;
  current.stage = Stage::made;
  if (change.durable) unit.config_.durable = std::move(*change.durable);
  if (change.reservations) unit.set_reservations(std::move(*change.reservations));
  if (change.modes) {
    unit.set_modes(*change.modes);
    unit.check_thresholds();
  }
  if (change.protection_type) unit.set_protection_type(*change.protection_type);
  if (change.port_groups) unit.port_groups() = std::move(*change.port_groups);
  for (const NexusNotice& notice : change.notices) {
    raise_named(unit, notice);
    if (unit.change_ == nullptr) continue;
    unit.change_->effects.emplace_back(
        [notice](LogicalUnit& there) { there.device().raise_named(there, notice); });
  }
  if (change.for_others) unit.raise_for_others(current.task->nexus, *change.for_others);
}

void Device::raise_named(const LogicalUnit& unit, const NexusNotice& notice) {
  nexuses_.for_each([&](Nexus& nexus) {
    if (same(notice.nexus, nexus)) nexus.raise(unit, notice.attention);
  });
}

std::vector<std::string> Device::ports_of_device(std::string_view initiator_device) {
  std::vector<std::string> ports;
  const auto add = [&](const std::string& port) {
    const bool known = std::find(ports.begin(), ports.end(), port) != ports.end();
    if (!known && is_port_of_device(port, initiator_device)) ports.push_back(port);
  };
  nexuses_.for_each([&](const Nexus& nexus) { add(nexus.names().initiator_port); });
  if (shards_ == nullptr) return ports;
  for (const auto& [port, nexuses] : shards_->other_ports()) {
    if (nexuses > 0) add(port);
  }
  return ports;
}

}  // namespace perilune::scsi
