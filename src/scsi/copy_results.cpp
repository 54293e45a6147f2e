// SPDX-License-Identifier: Apache-2.0
// RECEIVE COPY STATUS and DATA (short and long identifiers), OPERATING PARAMETERS and FAILURE DETAILS, COPY
// OPERATION ABORT, and VPD page 8Fh (SPC-4 6.3, 6.23 to 6.27, 7.8.17). No copy holds data for the application
// client (HELD DATA LIMIT is 0).
#include <algorithm>
#include <bit>
#include <initializer_list>

#include "scsi/copy_handlers.hpp"
#include "scsi/copy_operation.hpp"
#include "scsi/device.hpp"
#include "scsi/handlers.hpp"
#include "scsi/rod_handlers.hpp"

namespace perilune::scsi {
namespace {

using Buffer = std::vector<std::uint8_t>;
using State = CopyOperation::State;

constexpr std::initializer_list<std::uint8_t> descriptor_codes{0x02, 0xe4};

// The copy of this identifier; nullptr: there is none, and the command has ended.
CopyOperation* named(Command& command, std::uint32_t list_identifier) {
  CopyOperation* operation = command.task.nexus->copies().find(command.unit.number(), list_identifier);
  if (operation == nullptr) invalid_field_in_cdb(command.task, 2, std::uint8_t{7});
  return operation;
}

std::uint32_t allocation_length(const Task& task) noexcept { return load_be32(task.cdb.data() + 10); }

// Ends the command. `told`: what may be forgotten once all of it has gone out.
Progress answer(Task& task, CopyOperation& operation, bool told) {
  const bool whole = task.parameter_data.size() <= allocation_length(task);
  if (told && whole) operation.state = State::unused;
  return reply(task, allocation_length(task));
}

void header(Buffer& out, std::uint16_t type, std::uint16_t length) {
  const std::size_t at = out.size();
  out.resize(at + 4);
  store_be16(&out[at], type);
  store_be16(&out[at + 2], length);
}

void append16(Buffer& out, std::uint16_t value) {
  out.resize(out.size() + 2);
  store_be16(out.data() + out.size() - 2, value);
}
void append32(Buffer& out, std::uint32_t value) {
  out.resize(out.size() + 4);
  store_be32(out.data() + out.size() - 4, value);
}

std::uint8_t granularity(const LogicalUnit& unit) noexcept {  // of segments, as a power of two
  return static_cast<std::uint8_t>(std::bit_width(unit.geometry().block_size_bytes) - 1);
}

}  // namespace

Progress run_receive_copy_status_lid1(Command& command) {
  Task& task = command.task;
  CopyOperation* operation = named(command, task.cdb[2]);
  if (operation == nullptr) return Progress::over;
  Buffer& out = task.parameter_data;
  out.assign(12, 0);
  store_be32(&out[0], 8);
  const bool finished = operation->state == State::finished;
  if (finished) out[4] = operation->status == ScsiStatus::good ? 0x01 : 0x02;  // else 00h: in progress
  store_be16(&out[5], operation->segment);
  store_be32(&out[8], static_cast<std::uint32_t>(operation->bytes_written));  // in bytes; see copy_limits: it
                                                                              // fits
  // The details of a failure are asked for by a command of their own.
  return answer(task, *operation, finished && operation->status == ScsiStatus::good);
}

namespace {

// What RECEIVE COPY STATUS and RECEIVE COPY DATA with long identifiers begin with (SPC-4 6.24); AVAILABLE
// DATA is not set yet.
void long_status(Buffer& out, const CopyOperation& operation) {
  out.assign(32, 0);
  const bool finished = operation.state == State::finished;
  out[4] = operation.service_action;
  if (!finished) {
    out[5] = 0x11;  // in progress, in the foreground
  } else if (operation.ended_by_abort) {
    out[5] = 0x60;
  } else {
    out[5] = operation.status == ScsiStatus::good ? 0x01 : 0x02;
  }
  store_be16(&out[6], operation.operations);
  store_be32(&out[8], 0xffff'ffffu);  // ESTIMATED STATUS UPDATE DELAY: not told
  store_be64(&out[16], operation.bytes_written);
  store_be16(&out[24], operation.segment);
  if (!finished) return;
  out[12] = static_cast<std::uint8_t>(operation.status);
  out[13] = out[14] = operation.sense_length;
  out.insert(out.end(), operation.sense.begin(), operation.sense.begin() + operation.sense_length);
}

}  // namespace

Progress run_receive_copy_status_lid4(Command& command) {
  Task& task = command.task;
  CopyOperation* operation = named(command, load_be32(task.cdb.data() + 2));
  if (operation == nullptr) return Progress::over;
  Buffer& out = task.parameter_data;
  long_status(out, *operation);
  store_be32(&out[0], static_cast<std::uint32_t>(out.size() - 4));
  return answer(task, *operation, operation->state == State::finished);
}

// Nothing is held, of whatever copy: AVAILABLE DATA is 0. It leaves the copy to those that tell of it.
Progress run_receive_copy_data_lid1(Command& command) {
  Task& task = command.task;
  if (named(command, task.cdb[2]) == nullptr) return Progress::over;
  task.parameter_data.assign(4, 0);
  return reply(task, allocation_length(task));
}

// The same with a long identifier (SPC-4 6.21): the status, and HELD DATA LENGTH 0. Nothing was discarded
// either.
Progress run_receive_copy_data_lid4(Command& command) {
  Task& task = command.task;
  const CopyOperation* operation = named(command, load_be32(task.cdb.data() + 2));
  if (operation == nullptr) return Progress::over;
  Buffer& out = task.parameter_data;
  long_status(out, *operation);
  append32(out, 0);
  store_be32(&out[0], static_cast<std::uint32_t>(out.size() - 4));
  return reply(task, allocation_length(task));
}

// Of a copy that has not failed there are none, and AVAILABLE DATA is 0.
Progress run_receive_copy_failure_details(Command& command) {
  Task& task = command.task;
  CopyOperation* operation = named(command, task.cdb[2]);
  if (operation == nullptr) return Progress::over;
  Buffer& out = task.parameter_data;
  out.assign(4, 0);
  const bool failed = operation->state == State::finished && operation->status != ScsiStatus::good;
  if (!failed) return reply(task, allocation_length(task));
  out.resize(60);
  out[56] = static_cast<std::uint8_t>(operation->status);
  store_be16(&out[58], operation->sense_length);
  out.insert(out.end(), operation->sense.begin(), operation->sense.begin() + operation->sense_length);
  store_be32(&out[0], static_cast<std::uint32_t>(out.size() - 4));
  return answer(task, *operation, true);
}

Progress run_receive_copy_operating_parameters(Command& command) {
  Task& task = command.task;
  Buffer& out = task.parameter_data;
  out.assign(44, 0);
  out[4] = 0x01;  // SNLID: copies without a list identifier
  store_be16(&out[8], copy_limits::max_cscds);
  store_be16(&out[10], copy_limits::max_segments);
  store_be32(&out[12], copy_limits::max_list_bytes);
  store_be32(&out[16], copy_limits::max_segment_length);
  store_be16(&out[34], copy_limits::max_operations);  // TOTAL CONCURRENT COPIES
  out[36] = copy_limits::max_operations;
  out[37] = granularity(command.unit);
  out[43] = static_cast<std::uint8_t>(descriptor_codes.size());
  out.insert(out.end(), descriptor_codes.begin(), descriptor_codes.end());
  store_be32(&out[0], static_cast<std::uint32_t>(out.size() - 4));
  return reply(task, allocation_length(task));
}

// The copy ends with COPY ABORTED when its block operation in progress has ended.
Progress run_copy_operation_abort(Command& command) {
  CopyOperation* operation = named(command, load_be32(command.task.cdb.data() + 2));
  if (operation == nullptr) return Progress::over;
  good(command.task);
  command.device.interrupt_copy(*operation, CopyOperation::Interruption::by_command);
  return Progress::over;
}

void third_party_copy_page(Buffer& out, const Command& command) {
  rod_limits_descriptor(out, command);

  // Supported commands: each operation code with its service actions, as the command table has them.
  const std::size_t commands_at = out.size();
  header(out, 0x0001, 0);
  out.push_back(0);
  for (const std::uint8_t opcode : {std::uint8_t{0x83}, std::uint8_t{0x84}}) {
    out.push_back(opcode);
    const std::size_t count_at = out.size();
    out.push_back(0);
    for (const CommandRow& row : command_rows(command.unit.command_set())) {
      if (row.opcode != opcode || !available(row, command.unit)) continue;
      out.push_back(static_cast<std::uint8_t>(row.service_action));
      ++out[count_at];
    }
  }
  out[commands_at + 4] = static_cast<std::uint8_t>(out.size() - commands_at - 5);
  while ((out.size() - commands_at) % 4 != 0) out.push_back(0);
  store_be16(&out[commands_at + 2], static_cast<std::uint16_t>(out.size() - commands_at - 4));

  header(out, 0x0004, 28);  // parameter data
  append32(out, 0);
  append16(out, copy_limits::max_cscds);
  append16(out, copy_limits::max_segments);
  append32(out, copy_limits::max_list_bytes);
  out.resize(out.size() + 16);  // MAXIMUM INLINE DATA LENGTH 0

  header(out, 0x0008, 4);  // supported descriptors
  out.push_back(static_cast<std::uint8_t>(descriptor_codes.size()));
  out.insert(out.end(), descriptor_codes.begin(), descriptor_codes.end());
  out.push_back(0);

  header(out, 0x000c, 4);  // supported CSCD descriptor IDs beside those of the list: the unit that gets the
                           // command
  append16(out, 2);
  append16(out, 0xffff);

  rod_type_descriptors(out, command);

  header(out, 0x8001, 32);  // general copy operations
  append32(out, copy_limits::max_operations);
  append32(out, copy_limits::max_operations);
  append32(out, copy_limits::max_segment_length);
  out.push_back(granularity(command.unit));
  out.resize(out.size() + 19);

  header(out, 0xc001, 28);  // held data: at most 0 bytes of it (SPC-4 7.8.17.13; mandatory beside RECEIVE
                            // COPY DATA)
  out.resize(out.size() + 28);
}

}  // namespace perilune::scsi
