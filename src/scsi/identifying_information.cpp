// SPDX-License-Identifier: Apache-2.0
// REPORT IDENTIFYING INFORMATION (SPC-4 6.32) and SET IDENTIFYING INFORMATION (SPC-4 6.43): what people want
// a unit to be called, kept in its record.
#include <algorithm>

#include "base/assert.hpp"
#include "scsi/device.hpp"
#include "scsi/handlers.hpp"
#include "scsi/reservation_handlers.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {
namespace {

// INFORMATION TYPE, byte 10 of the CDB above bit 0.
constexpr std::uint8_t peripheral_information = 0x00;
constexpr std::uint8_t peripheral_text = 0x02;
constexpr std::uint8_t supported_types = 0x7f;

std::uint8_t type_of(const Task& task) noexcept { return task.cdb[10] >> 1; }

std::size_t most_of(std::uint8_t type) noexcept {
  return type == peripheral_text ? IdentifyingInformation::max_text_bytes
                                 : IdentifyingInformation::max_information_bytes;
}

bool check_type(Task& task, bool reports) noexcept {
  const std::uint8_t type = type_of(task);
  if (type == peripheral_information || type == peripheral_text || (reports && type == supported_types))
    return true;
  invalid_field_in_cdb(task, 10, std::uint8_t{7});
  return false;
}

void append_supported(std::vector<std::uint8_t>& out, std::uint8_t type) {
  const std::size_t at = out.size();
  out.resize(at + 4);
  out[at] = static_cast<std::uint8_t>(type << 1);
  store_be16(&out[at + 2], static_cast<std::uint16_t>(most_of(type)));
}

}  // namespace

Progress run_report_identifying_information(Command& command) {
  Task& task = command.task;
  if (!check_type(task, true)) return Progress::over;
  const IdentifyingInformation& identifying = command.unit.durable().identifying;
  auto& out = task.parameter_data;
  out.assign(4, 0);
  if (type_of(task) == supported_types) {
    append_supported(out, peripheral_information);
    append_supported(out, peripheral_text);
  } else {
    const auto& value = type_of(task) == peripheral_text ? identifying.text : identifying.information;
    out.insert(out.end(), value.begin(), value.end());
  }
  store_be16(&out[2], static_cast<std::uint16_t>(out.size() - 4));
  return reply(task, load_be32(&task.cdb[6]));
}

bool admit_set_identifying_information(Command& command) {
  Task& task = command.task;
  if (!check_type(task, false)) return false;
  const std::uint32_t length = load_be32(&task.cdb[6]);
  if (length > most_of(type_of(task))) {
    invalid_field_in_cdb(task, 6);
    return false;
  }
  task.data_transfer_length = length;
  task.need.data_out_bytes = std::min(length, task.expected_data_out_bytes);
  return true;
}

Progress run_set_identifying_information(Command& command) {
  Task& task = command.task;
  if (task.step == changing_step) return end_change(command);
  std::vector<std::uint8_t> value(task.need.data_out_bytes);
  const std::size_t there = gather(task.data, 0, value);
  PERILUNE_ASSERT(there == value.size());
  if (value.size() < task.data_transfer_length) {
    fail_command(task, SenseKey::illegal_request, asc::parameter_list_length_error);
    return Progress::over;
  }
  const bool text = type_of(task) == peripheral_text;
  if (text && !value.empty() &&
      std::find(value.begin(), value.end(), 0) != value.end() - 1) {  // one NUL, at its end
    invalid_field_in_parameters(task, static_cast<std::uint16_t>(value.size() - 1));
    return Progress::over;
  }
  UnitChange change;
  change.durable = command.unit.durable();
  auto& identifying = change.durable->identifying;
  (text ? identifying.text : identifying.information) = std::move(value);
  change.for_others = UnitAttention::device_identifier_changed;
  return begin_change(command, std::move(change));
}

}  // namespace perilune::scsi
