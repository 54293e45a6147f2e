// SPDX-License-Identifier: Apache-2.0
// SANITIZE (SBC-4 5.33) and FORMAT UNIT (SBC-3 5.3). Each checks its parameters, waits until no other command
// of the unit is at work (SerialClass::whole), and starts the unit's MediumOperation. With IMMED it is over
// then; without, it waits for the operation. What becomes of the command no longer matters to the operation.
//
// BLOCK ERASE overwrites what is mapped with zeroes and gives the blocks back. Blocks that were given back
// before belong to whoever keeps the backing store: no command of ours reaches them. CRYPTOGRAPHIC ERASE is
// served where what is stored is encrypted: it makes all of that unreadable, what was given back before too.
#include <algorithm>
#include <array>

#include "scsi/device.hpp"
#include "scsi/handlers.hpp"
#include "scsi/medium_handlers.hpp"
#include "scsi/reservation_handlers.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {
namespace {

using Kind = MediumPlan::Kind;
using Method = MediumPlan::Method;

enum Step : std::uint8_t { begin = 0, waiting = 1, begun = 2 };
static_assert(begun != changing_step);

// The outcome of an operation that has ended with its command.
Progress outcome(Command& command) noexcept {
  const MediumOperation& operation = command.unit.medium();
  if (!operation.failed()) return good(command.task);
  const bool format = operation.news().kind == Kind::format;
  fail_command(command.task, SenseKey::medium_error,
               format ? asc::format_command_failed : asc::sanitize_command_failed);
  return Progress::over;
}

Progress has_begun(Command& command, bool immediate) {
  Task& task = command.task;
  if (immediate) return good(task);
  if (!command.unit.medium().running()) return outcome(command);
  task.step = waiting;
  command.device.wait_for_medium(task);
  return Progress::waits;
}

Progress start(Command& command, const MediumPlan& plan, bool immediate) {
  Task& task = command.task;
  task.step = begun;
  if (!command.device.begin_medium_operation(task, plan)) return Progress::waits;
  if (task.aborted) return Progress::over;  // by those whose commands this has ended
  return has_begun(command, immediate);
}

// ---- SANITIZE

constexpr std::uint8_t overwrite_action = 0x01;
constexpr std::uint8_t cryptographic_erase_action = 0x03;
constexpr std::uint8_t exit_failure_mode_action = 0x1f;
constexpr std::uint32_t overwrite_header_bytes = 4;

std::uint8_t service_action(const Task& task) noexcept { return task.cdb[1] & 0x1f; }
bool immed_of_sanitize(const Task& task) noexcept { return (task.cdb[1] & 0x80) != 0; }
bool ause(const Task& task) noexcept { return (task.cdb[1] & 0x20) != 0; }

MediumPlan overwrite_plan(const Task& task) noexcept {
  std::array<std::uint8_t, overwrite_header_bytes> header{};
  gather(task.data, 0, header);
  MediumPlan plan;
  plan.method = Method::overwrite;
  plan.invert = (header[0] & 0x80) != 0;
  plan.passes = header[0] & 0x1f;
  plan.pattern_bytes = load_be16(header.data() + 2);
  const std::size_t kept = std::min<std::size_t>(plan.pattern_bytes, plan.pattern.size());
  gather(task.data, overwrite_header_bytes, {plan.pattern.data(), kept});
  return plan;
}

}  // namespace

bool admit_sanitize(Command& command) {
  Task& task = command.task;
  const MediumOperation& operation = command.unit.medium();
  // A failure in restricted completion mode is left by a sanitize operation in the same mode alone
  // (SBC-4 4.11.1).
  const bool restricted =
      operation.failed() && operation.news().kind == Kind::sanitize && !operation.news().unrestricted;
  if (restricted && service_action(task) != exit_failure_mode_action && ause(task)) {
    invalid_field_in_cdb(task, 1, std::uint8_t{5});
    return false;
  }
  if (service_action(task) != overwrite_action) return true;
  const std::uint32_t list_bytes = load_be16(task.cdb.data() + 7);
  if (list_bytes <= overwrite_header_bytes ||
      list_bytes > overwrite_header_bytes + command.unit.geometry().block_size_bytes) {
    invalid_field_in_cdb(task, 7, std::uint8_t{7});
    return false;
  }
  task.data_transfer_length = list_bytes;
  task.need.data_out_bytes = std::min(list_bytes, task.expected_data_out_bytes);
  return true;
}

bool prepare_sanitize(Command& command) {
  Task& task = command.task;
  if (service_action(task) != overwrite_action) return true;
  if (task.need.data_out_bytes < task.data_transfer_length) {
    fail_command(task, SenseKey::illegal_request, asc::parameter_list_length_error);
    return false;
  }
  std::array<std::uint8_t, overwrite_header_bytes> header{};
  gather(task.data, 0, header);
  const std::uint32_t pattern = load_be16(header.data() + 2);
  if ((header[0] & 0x60) != 0) {  // TEST: nothing of ours to be tested
    invalid_field_in_parameters(task, 0, std::uint8_t{6});
  } else if ((header[0] & 0x1f) == 0) {  // OVERWRITE COUNT
    invalid_field_in_parameters(task, 0, std::uint8_t{4});
  } else if (header[1] != 0) {
    invalid_field_in_parameters(task, 1, std::uint8_t{7});
  } else if (pattern == 0 || overwrite_header_bytes + pattern > task.data_transfer_length) {
    invalid_field_in_parameters(task, 2, std::uint8_t{7});
  } else {
    return true;
  }
  return false;
}

Progress run_sanitize(Command& command) {
  Task& task = command.task;
  if (task.step == waiting) return outcome(command);
  if (task.step == begun) return has_begun(command, immed_of_sanitize(task));
  if (service_action(task) == exit_failure_mode_action) {
    if (command.unit.medium().exit_failure_mode()) return good(task);
    invalid_field_in_cdb(task, 1, std::uint8_t{4});
    return Progress::over;
  }
  MediumPlan plan;
  if (service_action(task) == overwrite_action) plan = overwrite_plan(task);
  if (service_action(task) == cryptographic_erase_action) plan.method = Method::forget_key;
  plan.kind = Kind::sanitize;
  plan.unrestricted = ause(task);
  return start(command, plan, immed_of_sanitize(task));
}

// ---- FORMAT UNIT. Without an initialization pattern the medium reads as zeroes afterwards, deallocated
// where that can be.

namespace {

constexpr std::uint8_t fmtdata_bit = 0x10;
constexpr std::uint8_t longlist_bit = 0x20;
constexpr std::uint32_t pattern_header_bytes = 4;

struct FormatList {
  std::uint32_t header_bytes = 4;
  std::uint8_t usage = 0;       // PROTECTION FIELDS USAGE
  std::uint8_t flags = 0;       // FOV, DPRY, DCRT, STPF, IP, IMMED
  std::uint8_t protection = 0;  // P_I_INFORMATION, PROTECTION INTERVAL EXPONENT
  std::uint32_t defect_bytes = 0;

  explicit FormatList(const Task& task) noexcept : header_bytes((task.cdb[1] & longlist_bit) != 0 ? 8 : 4) {
    std::array<std::uint8_t, 8> bytes{};
    gather(task.data, 0, {bytes.data(), header_bytes});
    usage = bytes[0];
    flags = bytes[1];
    if (header_bytes == 8) {
      protection = bytes[3];
      defect_bytes = load_be32(bytes.data() + 4);
    } else {
      defect_bytes = load_be16(bytes.data() + 2);
    }
  }
  [[nodiscard]] bool options_valid() const noexcept { return (flags & 0x80) != 0; }  // FOV
  [[nodiscard]] bool has_pattern() const noexcept { return (flags & 0x08) != 0; }    // IP
  [[nodiscard]] bool immediate() const noexcept { return (flags & 0x02) != 0; }
};

struct PatternDescriptor {
  std::uint8_t modifier = 0;  // IP MODIFIER (obsolete), SI
  std::uint8_t type = 0;      // 00h: the default pattern; 01h: repeat what follows
  std::uint16_t bytes = 0;

  PatternDescriptor(const Task& task, std::uint32_t at) noexcept {
    std::array<std::uint8_t, pattern_header_bytes> raw{};
    gather(task.data, at, raw);
    modifier = raw[0];
    type = raw[1];
    bytes = load_be16(raw.data() + 2);
  }
};

// What FMTPINFO of the CDB and PROTECTION FIELD USAGE of the list ask for together (SBC-3 table 37).
std::optional<ProtectionType> wanted_type(const Task& task, std::uint8_t usage) noexcept {
  switch (task.cdb[1] >> 6 << 8 | usage) {
    case 0x000: return ProtectionType::none;
    case 0x200: return ProtectionType::type_1;
    case 0x300: return ProtectionType::type_2;
    case 0x301: return ProtectionType::type_3;
    default: return std::nullopt;
  }
}

// A type that would be forgotten while the blocks stay is not given to them.
bool keeps_type(const LogicalUnit& unit, ProtectionType type) noexcept {
  return type == unit.protection_type() || unit.persists() || unit.geometry().in_memory;
}

bool has_list(const Task& task) noexcept { return (task.cdb[1] & fmtdata_bit) != 0; }

bool wrong(Task& task, std::uint32_t byte, std::optional<std::uint8_t> bit = std::nullopt) noexcept {
  invalid_field_in_parameters(task, static_cast<std::uint16_t>(byte), bit);
  return false;
}

bool too_short(Task& task, std::uint64_t bytes) noexcept {
  if (task.need.data_out_bytes >= bytes) return false;
  fail_command(task, SenseKey::illegal_request, asc::parameter_list_length_error);
  return true;
}

bool check_pattern(Command& command, std::uint32_t at) noexcept {
  Task& task = command.task;
  if (too_short(task, std::uint64_t{at} + pattern_header_bytes)) return false;
  const PatternDescriptor pattern(task, at);
  if ((pattern.modifier & 0xdf) != 0) return wrong(task, at, std::uint8_t{7});
  if (pattern.type > 1) return wrong(task, at + 1, std::uint8_t{7});
  const bool fits = pattern.type == 0
                        ? pattern.bytes == 0
                        : pattern.bytes != 0 && pattern.bytes <= command.unit.geometry().block_size_bytes;
  if (!fits) return wrong(task, at + 2, std::uint8_t{7});
  return !too_short(task, std::uint64_t{at} + pattern_header_bytes + pattern.bytes);
}

}  // namespace

bool admit_format_unit(Command& command) {
  Task& task = command.task;
  const auto type = wanted_type(task, 0);
  if (!type || (!has_list(task) && !keeps_type(command.unit, *type))) {
    invalid_field_in_cdb(task, 1, std::uint8_t{7});  // FMTPINFO
    return false;
  }
  if (!has_list(task)) return true;
  // The CDB does not say how long the list is: what comes is taken, up to the longest that is understood.
  const std::uint32_t most = 8 + pattern_header_bytes + command.unit.geometry().block_size_bytes;
  task.data_transfer_length = task.need.data_out_bytes = std::min(task.expected_data_out_bytes, most);
  return true;
}

bool prepare_format_unit(Command& command) {
  Task& task = command.task;
  if (!has_list(task)) return true;
  if (too_short(task, (task.cdb[1] & longlist_bit) != 0 ? 8 : 4)) return false;
  const FormatList list(task);
  const auto type = wanted_type(task, list.usage);
  if (!type || !keeps_type(command.unit, *type))
    return wrong(task, 0, list.usage < 8 ? std::uint8_t{2} : std::uint8_t{7});
  if ((list.flags & 0x05) != 0) return wrong(task, 1, std::uint8_t{2});  // DSP (obsolete), vendor specific
  if (!list.options_valid() && (list.flags & 0x78) != 0) return wrong(task, 1, std::uint8_t{7});
  if (list.protection != 0) return wrong(task, 3, std::uint8_t{7});
  if (list.defect_bytes != 0)
    return wrong(task, list.header_bytes == 8 ? 4 : 2, std::uint8_t{7});  // no defects here
  return !list.has_pattern() || check_pattern(command, list.header_bytes);
}

namespace {

Progress start_format(Command& command) {
  Task& task = command.task;
  MediumPlan plan;
  plan.kind = Kind::format;
  plan.method = Method::clear;
  if (!has_list(task)) return start(command, plan, false);
  const FormatList list(task);
  if (list.has_pattern()) {
    const PatternDescriptor pattern(task, list.header_bytes);
    const bool everywhere = (pattern.modifier & 0x20) != 0;  // SI: also what clearing would leave as it is
    if (pattern.type == 1 || everywhere) plan.method = Method::overwrite;
    plan.pattern_bytes = pattern.bytes;
    gather(task.data, list.header_bytes + pattern_header_bytes, {plan.pattern.data(), pattern.bytes});
  }
  return start(command, plan, list.immediate());
}

}  // namespace

// A type that is not the one of before is remembered first, and counts from then on: the old blocks are none
// any more.
Progress run_format_unit(Command& command) {
  Task& task = command.task;
  if (task.step == waiting) return outcome(command);
  if (task.step == begun) return has_begun(command, has_list(task) && FormatList(task).immediate());
  if (task.step == changing_step)
    return command.unit.change_failed() ? end_change(command) : start_format(command);
  const ProtectionType type = *wanted_type(task, has_list(task) ? FormatList(task).usage : std::uint8_t{0});
  if (type == command.unit.protection_type()) return start_format(command);
  UnitChange change;
  change.protection_type = type;
  change.for_others = UnitAttention::capacity_changed;  // READ CAPACITY tells of the type
  if (command.unit.persists()) {
    change.durable = command.unit.durable();
    change.durable->protection_type = type;
  }
  task.step = changing_step;
  if (!command.device.change(task, std::move(change))) return Progress::waits;
  return command.unit.change_failed() ? end_change(command) : start_format(command);
}

}  // namespace perilune::scsi
