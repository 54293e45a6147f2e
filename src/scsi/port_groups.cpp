// SPDX-License-Identifier: Apache-2.0
// The groups themselves, REPORT TARGET PORT GROUPS (SPC-4 6.37) and SET TARGET PORT GROUPS (SPC-4 6.45).
#include "scsi/port_groups.hpp"

#include <set>

#include "base/assert.hpp"
#include "scsi/device.hpp"
#include "scsi/handlers.hpp"
#include "scsi/reservation_handlers.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {

Status PortGroups::valid(const std::vector<PortGroup>& groups) {
  if (groups.empty()) return fail(Errc::invalid_argument, "a unit needs a target port group");
  if (groups.size() > limits::max_port_groups)
    return fail(Errc::invalid_argument, "too many target port groups");
  std::set<std::uint16_t> ids, ports;
  for (const PortGroup& group : groups) {
    const std::string name = "target port group " + std::to_string(group.id);
    if (!ids.insert(group.id).second) return fail(Errc::invalid_argument, name + " is there twice");
    if (group.ports.size() > limits::max_ports_of_a_group)
      return fail(Errc::invalid_argument, name + " has too many ports");
    for (const std::uint16_t port : group.ports) {
      if (port == 0) return fail(Errc::invalid_argument, name + ": target ports are numbered from 1");
      if (!ports.insert(port).second) {
        return fail(Errc::invalid_argument, "target port " + std::to_string(port) + " stands in two groups");
      }
    }
  }
  return {};
}

const PortGroup* PortGroups::of_port(std::uint16_t port) const noexcept {
  const auto found = std::find_if(groups_.begin(), groups_.end(), [&](const PortGroup& group) {
    return std::find(group.ports.begin(), group.ports.end(), port) != group.ports.end();
  });
  return found == groups_.end() ? nullptr : &*found;
}

const PortGroup* PortGroups::find(std::uint16_t id) const noexcept {
  const auto found =
      std::find_if(groups_.begin(), groups_.end(), [&](const PortGroup& group) { return group.id == id; });
  return found == groups_.end() ? nullptr : &*found;
}

PortGroup& PortGroups::group(std::uint16_t id) noexcept {
  const auto found =
      std::find_if(groups_.begin(), groups_.end(), [&](const PortGroup& group) { return group.id == id; });
  PERILUNE_ASSERT(found != groups_.end());
  return *found;
}

bool PortGroups::set_state(std::uint16_t id, AccessState state, PortGroup::Cause cause) noexcept {
  PortGroup& changed = group(id);
  if (changed.state == state) return false;
  changed.state = state;
  changed.cause = cause;
  settle();
  return true;
}

void PortGroups::set_preferred(std::uint16_t id, bool preferred) noexcept { group(id).preferred = preferred; }

void PortGroups::settle() noexcept {
  restricted_ = std::any_of(groups_.begin(), groups_.end(), [](const PortGroup& group) {
    return group.state != AccessState::active_optimized && group.state != AccessState::active_non_optimized;
  });
}

// ---- what a state lets through

std::optional<AdditionalSense> inaccessible(const LogicalUnit& unit, const Task& task) noexcept {
  const PortGroup* group = unit.port_groups().of_port(task.nexus->names().relative_target_port);
  if (group == nullptr) return std::nullopt;
  switch (group->state) {
    case AccessState::active_optimized:
    case AccessState::active_non_optimized: return std::nullopt;
    case AccessState::standby: return asc::port_standby;
    case AccessState::unavailable: return asc::port_unavailable;
    case AccessState::offline: return asc::unit_offline;
    case AccessState::transitioning: return asc::port_transition;
  }
  return std::nullopt;
}

bool check_access(const CommandRow& row, const LogicalUnit& unit, Task& task) noexcept {
  const auto why = inaccessible(unit, task);
  if (!why || row.allows(*why == asc::port_standby ? allow::standby : allow::unavailable)) return true;
  fail_command(task, SenseKey::not_ready, *why);
  return false;
}

// ---- the commands

namespace {

constexpr std::uint8_t supported_states = 0x80 | 0x40 | 0x08 | 0x04 | 0x02 | 0x01;  // T, O, U, S, AN, AO
constexpr std::size_t set_header_bytes = 4;
constexpr std::size_t set_descriptor_bytes = 4;

bool settable(std::uint8_t state) noexcept {
  return state <= static_cast<std::uint8_t>(AccessState::unavailable);
}

}  // namespace

Progress run_report_target_port_groups(Command& command) {
  Task& task = command.task;
  const std::uint8_t format = task.cdb[1] >> 5;
  if (format > 1) {
    invalid_field_in_cdb(task, 1, std::uint8_t{7});
    return Progress::over;
  }
  auto& out = task.parameter_data;
  out.assign(format == 1 ? 8 : 4, 0);
  if (format == 1) out[4] = 0x10;  // FORMAT TYPE; IMPLICIT TRANSITION TIME 0: not told
  for (const PortGroup& group : command.unit.port_groups().all()) {
    const std::size_t at = out.size();
    out.resize(at + 8 + group.ports.size() * 4);
    out[at] =
        static_cast<std::uint8_t>((group.preferred ? 0x80 : 0) | static_cast<std::uint8_t>(group.state));
    out[at + 1] = supported_states;
    store_be16(&out[at + 2], group.id);
    out[at + 5] = static_cast<std::uint8_t>(group.cause);
    out[at + 7] = static_cast<std::uint8_t>(group.ports.size());
    for (std::size_t i = 0; i < group.ports.size(); ++i) store_be16(&out[at + 8 + i * 4 + 2], group.ports[i]);
  }
  store_be32(out.data(), static_cast<std::uint32_t>(out.size() - 4));
  return reply(task, load_be32(task.cdb.data() + 6));
}

bool admit_report_referrals(Command& command) {
  return check_range(command, load_be64(command.task.cdb.data() + 2), 1);
}

// SBC-3 4.27, 5.27: the whole unit is one user data segment, so ONE_SEG changes nothing, and every target
// port group reaches it.
Progress run_report_referrals(Command& command) {
  constexpr std::size_t header_bytes = 4;
  constexpr std::size_t segment_bytes = 20;
  constexpr std::size_t group_bytes = 4;
  Task& task = command.task;
  const auto& groups = command.unit.port_groups().all();
  auto& out = task.parameter_data;
  out.assign(header_bytes + segment_bytes + groups.size() * group_bytes, 0);
  store_be16(&out[2], static_cast<std::uint16_t>(out.size() - header_bytes));
  std::uint8_t* const segment = &out[header_bytes];
  segment[3] = static_cast<std::uint8_t>(groups.size());
  store_be64(segment + 12, command.unit.geometry().blocks.value() - 1);  // from block 0
  std::uint8_t* at = segment + segment_bytes;
  for (const PortGroup& group : groups) {
    at[0] = static_cast<std::uint8_t>(group.state);
    store_be16(at + 2, group.id);
    at += group_bytes;
  }
  return reply(task, load_be32(task.cdb.data() + 10));
}

bool admit_set_target_port_groups(Command& command) {
  Task& task = command.task;
  const std::uint32_t length = load_be32(task.cdb.data() + 6);
  if (length > set_header_bytes + limits::max_port_groups * set_descriptor_bytes) {
    invalid_field_in_cdb(task, 6);
    return false;
  }
  task.data_transfer_length = length;
  task.need.data_out_bytes = std::min(length, task.expected_data_out_bytes);
  return true;
}

Progress run_set_target_port_groups(Command& command) {
  Task& task = command.task;
  if (task.step == changing_step) return end_change(command);
  const PortGroups& groups = command.unit.port_groups();
  if (task.data_transfer_length == 0) return good(task);
  std::array<std::uint8_t, set_header_bytes + limits::max_port_groups * set_descriptor_bytes> list;
  const std::size_t length = gather(task.data, 0, MutableBytes(list).first(task.need.data_out_bytes));
  if (length < task.data_transfer_length || length < set_header_bytes ||
      (length - set_header_bytes) % set_descriptor_bytes != 0) {
    fail_command(task, SenseKey::illegal_request, asc::parameter_list_length_error);
    return Progress::over;
  }
  // all are checked before any counts
  for (std::size_t at = set_header_bytes; at < length; at += set_descriptor_bytes) {
    if (!settable(list[at] & 0x0f)) {
      invalid_field_in_parameters(task, static_cast<std::uint16_t>(at), std::uint8_t{3});
      return Progress::over;
    }
    if (groups.find(load_be16(&list[at + 2])) == nullptr) {
      invalid_field_in_parameters(task, static_cast<std::uint16_t>(at + 2));
      return Progress::over;
    }
  }
  PortGroups wanted = groups;
  for (std::size_t at = set_header_bytes; at < length; at += set_descriptor_bytes) {
    const auto state = static_cast<AccessState>(list[at] & 0x0f);
    (void)wanted.set_state(load_be16(&list[at + 2]), state, PortGroup::Cause::command);
  }
  UnitChange change;
  for (const PortGroup& group : wanted.all()) {
    if (group.state != groups.find(group.id)->state) change.access_states.push_back(group);
  }
  if (wanted == groups) return good(task);
  change.port_groups = std::move(wanted);
  change.for_others = UnitAttention::access_state_changed;
  return begin_change(command, std::move(change));
}

}  // namespace perilune::scsi
