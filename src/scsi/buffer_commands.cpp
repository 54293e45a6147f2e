// SPDX-License-Identifier: Apache-2.0
// READ BUFFER and WRITE BUFFER (SPC-4 6.16, 6.49): the echo buffer, by which an initiator tries its path, and
// the descriptors. There is no other buffer and no microcode. SET TIMESTAMP and REPORT TIMESTAMP
// (SPC-4 6.46, 6.38).
#include <algorithm>
#include <array>
#include <initializer_list>

#include "scsi/device.hpp"
#include "scsi/handlers.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {
namespace {

constexpr std::uint8_t descriptor_mode = 0x03, echo_mode = 0x0a, echo_descriptor_mode = 0x0b;
constexpr std::uint8_t overwrites_are_told = 0x01;  // EBOS

std::uint8_t mode_of(const Task& task) noexcept { return task.cdb[1] & 0x1f; }

bool invalid(Task& task, std::uint16_t byte, std::uint8_t bit) noexcept {
  invalid_field_in_cdb(task, byte, bit);
  return false;
}

// What this nexus wrote, unless another has written since, or nobody has.
Progress read_echo(Command& command, std::uint32_t allocation) {
  Task& task = command.task;
  const LogicalUnit::EchoBuffer& echo = command.unit.echo();
  if (echo.writer == 0) {
    fail_command(task, SenseKey::illegal_request, asc::command_sequence_error);
    return Progress::over;
  }
  if (echo.writer != task.nexus->life()) {
    fail_command(task, SenseKey::aborted_command, asc::echo_buffer_overwritten);
    return Progress::over;
  }
  task.parameter_data = echo.bytes;
  return reply(task, allocation);
}

}  // namespace

Progress run_read_buffer(Command& command) {
  Task& task = command.task;
  const std::uint32_t allocation = load_be24(task.cdb.data() + 6);
  switch (mode_of(task)) {
    case descriptor_mode:  // of any number: it has no bytes
      task.parameter_data.assign(4, 0);
      return reply(task, allocation);
    case echo_mode:
      return read_echo(command, allocation);
    case echo_descriptor_mode:
      task.parameter_data.assign(4, 0);
      task.parameter_data[0] = overwrites_are_told;
      store_be16(&task.parameter_data[2], advertised::echo_buffer_bytes);
      return reply(task, allocation);
    default:
      (void)invalid(task, 1, 4);
      return Progress::over;
  }
}

bool admit_write_buffer(Command& command) {
  Task& task = command.task;
  const std::uint32_t length = load_be24(task.cdb.data() + 6);
  if (mode_of(task) != echo_mode) return invalid(task, 1, 4);
  if (length > advertised::echo_buffer_bytes) return invalid(task, 6, 7);
  task.data_transfer_length = length;
  task.need.data_out_bytes = std::min(length, task.expected_data_out_bytes);
  return true;
}

Progress run_write_buffer(Command& command) {
  Task& task = command.task;
  LogicalUnit::EchoBuffer& echo = command.unit.echo();
  echo.writer = task.nexus->life();
  echo.bytes.resize(task.need.data_out_bytes);
  (void)gather(task.data, 0, echo.bytes);
  return good(task);
}

// ---- timestamps: 48 bits of milliseconds

namespace {

constexpr std::uint32_t timestamp_list_bytes = 12;
constexpr std::uint8_t since_power_on = 0x00, set_by_command = 0x02;  // TIMESTAMP ORIGIN

}  // namespace

Progress run_report_timestamp(Command& command) {
  Task& task = command.task;
  const LogicalUnit::Timestamp& set = command.unit.timestamp();
  const std::uint64_t now = set.milliseconds + command.device.uptime_ms() - set.at_uptime_ms;
  task.parameter_data.assign(timestamp_list_bytes, 0);
  store_be16(task.parameter_data.data(), 10);
  task.parameter_data[2] = set.by_command ? set_by_command : since_power_on;
  store_be16(task.parameter_data.data() + 4, static_cast<std::uint16_t>(now >> 32));
  store_be32(task.parameter_data.data() + 6, static_cast<std::uint32_t>(now));
  return reply(task, load_be32(task.cdb.data() + 6));
}

bool admit_set_timestamp(Command& command) {
  Task& task = command.task;
  task.data_transfer_length = std::min(load_be32(task.cdb.data() + 6), timestamp_list_bytes);
  task.need.data_out_bytes = std::min(task.data_transfer_length, task.expected_data_out_bytes);
  return true;
}

// It counts on from what was set; resets do not change it.
Progress run_set_timestamp(Command& command) {
  Task& task = command.task;
  if (load_be32(task.cdb.data() + 6) == 0) return good(task);
  std::array<std::uint8_t, timestamp_list_bytes> list{};
  if (gather(task.data, 0, list) < list.size() || task.need.data_out_bytes < list.size()) {
    fail_command(task, SenseKey::illegal_request, asc::parameter_list_length_error);
    return Progress::over;
  }
  for (const std::uint8_t reserved : std::initializer_list<std::uint8_t>{0, 1, 2, 3, 10, 11}) {
    if (list[reserved] == 0) continue;
    invalid_field_in_parameters(task, reserved);
    return Progress::over;
  }
  command.unit.set_timestamp({.by_command = true,
                              .milliseconds = std::uint64_t{load_be16(&list[4])} << 32 | load_be32(&list[6]),
                              .at_uptime_ms = command.device.uptime_ms()});
  command.unit.raise_for_others(task.nexus, UnitAttention::timestamp_changed);
  return good(task);
}

}  // namespace perilune::scsi
