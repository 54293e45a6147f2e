// SPDX-License-Identifier: Apache-2.0
// ORWRITE (SBC-3 5.7), WRITE ATOMIC and WRITE SCATTERED (SBC-4 5.47, 5.55): writes that are more than a run
// of blocks.
#include <algorithm>
#include <array>

#include "scsi/handlers.hpp"
#include "scsi/operation.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {
namespace {

enum Step : std::uint8_t { begin = 0, reading = 1, writing = 2, flushing = 3 };

// The end of a command that wrote: flushed, when it has to be durable and the channel knows no FUA.
Progress written(Command& command) noexcept {
  Task& task = command.task;
  if (task.transfer_blocks != 0 && wants_durable(command.unit, fua_bit(task)) &&
      !command.unit.geometry().fua) {
    task.step = flushing;
    return prepare_flush(command);
  }
  return good(task);
}

}  // namespace

// ---- ORWRITE: nobody sees the blocks between the read and the write of them (SerialClass::exclusive)

bool admit_orwrite(Command& command) {
  if (!accept_transfer(command) || !durable_is_possible(command, fua_bit(command.task))) return false;
  take_whole_blocks(command);
  command.task.need.scratch_bytes = scratch_for(command.task.need.data_out_bytes);
  return true;
}

Progress run_orwrite(Command& command) {
  Task& task = command.task;
  const std::uint64_t block = command.task.block_bytes;
  if (task.step != begin && operation_failed(command)) return Progress::over;
  switch (task.step) {
    case reading:
      merge_or(task.data, task.position * block, task.scratch, task.slice_blocks * block);
      task.step = writing;
      return prepare_scratch(command, block::OpKind::write, task.position + task.slice_blocks,
                             wants_durable(command.unit, fua_bit(task)));
    case writing: task.position += task.slice_blocks; break;
    case flushing: return good(task);
    default: break;
  }
  if (task.position == task.transfer_blocks) return written(command);
  task.step = reading;
  return prepare_scratch(command, block::OpKind::read, task.transfer_blocks);
}

// ---- WRITE ATOMIC: one operation of a channel that does not tear it. No ATOMIC BOUNDARY (its maximum is 0
// in VPD B0).

bool admit_write_atomic(Command& command) {
  Task& task = command.task;
  const BlockRange range = task.cdb[0] == 0x7f ? cdb_range(task)
                                               : BlockRange{load_be64(task.cdb.data() + 2),
                                                            load_be16(task.cdb.data() + 12), 2, 12};
  if (!accept_range(command, range, advertised::max_atomic_blocks(command.unit)) ||
      !durable_is_possible(command, fua_bit(task))) {
    return false;
  }
  task.data_transfer_length = static_cast<std::uint32_t>(range.blocks * command.task.block_bytes);
  if (task.expected_data_out_bytes < task.data_transfer_length) {  // a part of it would be torn by definition
    invalid_field_in_cdb(task, range.blocks_byte, std::uint8_t{7});
    return false;
  }
  task.transfer_blocks = static_cast<std::uint32_t>(range.blocks);
  task.need.data_out_bytes = task.data_transfer_length;
  return true;
}

Progress run_write_atomic(Command& command) {
  Task& task = command.task;
  if (task.step != begin) {
    task.op.atomic = false;
    if (operation_failed(command)) return Progress::over;
    return task.step == flushing ? good(task) : written(command);
  }
  if (task.transfer_blocks == 0) return good(task);
  task.step = writing;
  task.op.atomic = true;
  prepare_transfer(command, block::OpKind::write, task.data, 0, wants_durable(command.unit, fua_bit(task)));
  if (task.slice_blocks == task.transfer_blocks) return Progress::submit;
  fail_command(task, SenseKey::hardware_error, asc::internal_target_failure);  // memory in too many pieces
                                                                               // for one
  return Progress::over;
}

// ---- WRITE SCATTERED. The buffer is a header of 32 bytes, range descriptors of 32 bytes each, and from the
// LOGICAL BLOCK DATA OFFSET on the blocks of one range after the other.

namespace {

constexpr std::uint32_t list_header_bytes = 32;
constexpr std::uint32_t range_bytes = 32;

struct ScatteredCdb {
  std::uint32_t data_offset_blocks = 0;
  std::uint32_t ranges = 0;
  std::uint64_t buffer_blocks = 0;

  explicit ScatteredCdb(const Task& task) noexcept
      : data_offset_blocks(load_be16(task.cdb.data() + 4)),
        ranges(load_be16(task.cdb.data() + 8)),
        buffer_blocks(load_be32(task.cdb.data() + 10)) {}
  [[nodiscard]] bool writes_nothing() const noexcept {
    return data_offset_blocks == 0 || ranges == 0 || buffer_blocks == 0;
  }
};

struct Range {
  std::uint64_t lba = 0;
  std::uint32_t blocks = 0;
};

Range range_at(const Task& task, std::uint32_t index) noexcept {
  std::array<std::uint8_t, 12> bytes{};
  gather(task.data, list_header_bytes + std::uint64_t{index} * range_bytes, bytes);
  return {load_be64(bytes.data()), load_be32(bytes.data() + 8)};
}

}  // namespace

bool admit_write_scattered(Command& command) {
  Task& task = command.task;
  const ScatteredCdb cdb(task);
  const std::uint64_t block = command.task.block_bytes;
  if (cdb.buffer_blocks > advertised::max_transfer_blocks(command.unit)) {
    invalid_field_in_cdb(task, 10, std::uint8_t{7});
    return false;
  }
  if (cdb.ranges > advertised::max_scattered_descriptors) {
    invalid_field_in_cdb(task, 8, std::uint8_t{7});
    return false;
  }
  if (!durable_is_possible(command, fua_bit(task))) return false;
  if (cdb.writes_nothing()) return true;
  // The descriptors fit before the data, and the data begins within the buffer.
  if (list_header_bytes + std::uint64_t{cdb.ranges} * range_bytes > cdb.data_offset_blocks * block ||
      cdb.data_offset_blocks > cdb.buffer_blocks) {
    invalid_field_in_cdb(task, 4, std::uint8_t{7});
    return false;
  }
  task.data_transfer_length = static_cast<std::uint32_t>(cdb.buffer_blocks * block);
  if (task.expected_data_out_bytes < task.data_transfer_length) {
    invalid_field_in_cdb(task, 10, std::uint8_t{7});
    return false;
  }
  task.need.data_out_bytes = task.data_transfer_length;
  return true;
}

// Checks every range before the first is written. The task takes over what lies from the first block to the
// last.
bool prepare_write_scattered(Command& command) {
  Task& task = command.task;
  if (task.need.data_out_bytes == 0) return true;
  const ScatteredCdb cdb(task);
  JoinedRanges ranges;
  for (std::uint32_t i = 0; i < cdb.ranges; ++i) {
    const Range range = range_at(task, i);
    const std::uint32_t count_byte = list_header_bytes + i * range_bytes + 8;
    if (!ranges.add(command, range.lba, range.blocks, cdb.buffer_blocks - cdb.data_offset_blocks, count_byte))
      return false;
  }
  ranges.guard(task);
  task.transfer_blocks = static_cast<std::uint32_t>(ranges.total());
  return true;
}

// task.position counts the blocks done in all; slices never cross from one range to the next.
Progress run_write_scattered(Command& command) {
  Task& task = command.task;
  if (task.step != begin && operation_failed(command)) return Progress::over;
  if (task.step == flushing) return good(task);
  if (task.step == writing) task.position += task.slice_blocks;
  if (task.position == task.transfer_blocks) return written(command);
  const ScatteredCdb cdb(task);
  std::uint64_t before = 0;  // blocks of the ranges before this one
  Range range = range_at(task, 0);
  for (std::uint32_t i = 1; task.position - before >= range.blocks; ++i) {
    before += range.blocks;
    range = range_at(task, i);
  }
  const std::uint64_t done = task.position - before;
  task.step = writing;
  const std::uint64_t block = command.task.block_bytes;
  return prepare_piece(command, block::OpKind::write, Lba(range.lba + done), range.blocks - done,
                       (cdb.data_offset_blocks + task.position) * block,
                       wants_durable(command.unit, fua_bit(task)));
}

}  // namespace perilune::scsi
