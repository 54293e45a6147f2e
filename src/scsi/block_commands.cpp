// SPDX-License-Identifier: Apache-2.0
// READ, WRITE, VERIFY, WRITE AND VERIFY, COMPARE AND WRITE, SYNCHRONIZE CACHE, PRE-FETCH (SBC-3 clause 5).
#include <algorithm>

#include "base/assert.hpp"
#include "scsi/handlers.hpp"
#include "scsi/operation.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {
namespace {

// Steps shared by the commands below; what a step means is told where it is used.
enum Step : std::uint8_t { begin = 0, working = 1, reading_back = 2, flushing = 3, comparing = 4 };

}  // namespace

// ---- READ

bool admit_read(Command& command) {
  if (!accept_transfer(command)) return false;
  Task& task = command.task;
  const std::uint64_t block = command.task.block_bytes;
  const std::uint64_t wanted = std::min(task.expected_data_in_bytes, task.data_transfer_length);
  task.transfer_blocks = static_cast<std::uint32_t>((wanted + block - 1) / block);
  task.need.data_in_bytes = static_cast<std::uint32_t>(task.transfer_blocks * block);
  return true;
}

Progress run_read(Command& command) {
  Task& task = command.task;
  if (task.step == begin) {
    // FUA: what the cache holds goes to the medium first, so that the data read is what the medium has.
    task.step = working;
    if (fua_bit(task) && command.unit.geometry().write_cache) return prepare_flush(command);
  } else {
    if (operation_failed(command)) return Progress::over;
    task.position += task.slice_blocks;
  }
  if (task.position < task.transfer_blocks)
    return prepare_transfer(command, block::OpKind::read, task.data, 0);
  task.data_in_length = task.need.data_in_bytes;
  return good(task);
}

// ---- WRITE

bool admit_write(Command& command) {
  if (!accept_transfer(command) || !durable_is_possible(command, fua_bit(command.task))) return false;
  take_whole_blocks(command);
  return true;
}

Progress run_write(Command& command) {
  Task& task = command.task;
  const bool durable = wants_durable(command.unit, fua_bit(task));
  if (task.step != begin) {
    if (operation_failed(command)) return Progress::over;
    if (task.step == flushing) return good(task);
    task.position += task.slice_blocks;
  }
  task.step = working;
  if (task.position < task.transfer_blocks) {
    return prepare_transfer(command, block::OpKind::write, task.data, 0, durable);
  }
  if (durable && !command.unit.geometry().fua && task.transfer_blocks != 0) {
    task.step = flushing;
    return prepare_flush(command);
  }
  return good(task);
}

// ---- WRITE AND VERIFY: write, flush to the medium, read all of it back; BYTCHK = 1 compares too

bool admit_write_and_verify(Command& command) {
  if (!accept_transfer(command) || !durable_is_possible(command, fua_bit(command.task))) return false;
  take_whole_blocks(command);
  command.task.need.scratch_bytes = scratch_for(command.task.need.data_out_bytes);
  return true;
}

namespace {

// Compares what was read into scratch with the data-out of the same blocks. False: MISCOMPARE is set.
bool slice_matches(Command& command, std::uint64_t data_offset) noexcept {
  Task& task = command.task;
  const std::uint32_t block = command.task.block_bytes;
  const auto at =
      first_difference(task.data, data_offset, task.scratch, 0, std::uint64_t{task.slice_blocks} * block);
  if (!at) return true;
  check_condition(task, {.key = SenseKey::miscompare,
                         .additional = asc::miscompare_during_verify,
                         .information = task.op.lba.value() + *at / block,
                         .field = std::nullopt});
  return false;
}

}  // namespace

Progress run_write_and_verify(Command& command) {
  Task& task = command.task;
  if (task.step != begin && operation_failed(command)) return Progress::over;
  switch (task.step) {
    case working: task.position += task.slice_blocks; [[fallthrough]];
    case begin:
      task.step = working;
      if (task.position < task.transfer_blocks)
        return prepare_transfer(command, block::OpKind::write, task.data, 0);
      task.position = 0;
      if (task.transfer_blocks == 0) return good(task);
      task.step = flushing;
      if (command.unit.geometry().write_cache) return prepare_flush(command);
      break;
    case reading_back: {
      const std::uint64_t offset = task.position * command.task.block_bytes;
      if ((options_byte(task) & 0x02) != 0 && !slice_matches(command, offset)) return Progress::over;
      task.position += task.slice_blocks;
      break;
    }
    default: break;
  }
  task.step = reading_back;
  if (task.position == task.transfer_blocks) return good(task);
  return prepare_scratch(command, block::OpKind::read, task.transfer_blocks);
}

// ---- VERIFY: reads; BYTCHK 01 compares with as much data-out, 11 with one block

bool admit_verify(Command& command) {
  Task& task = command.task;
  const std::uint8_t bytchk = (options_byte(task) >> 1) & 0x03;
  if (bytchk == 2) {
    invalid_field_in_cdb(task, options_place(task), std::uint8_t{2});
    return false;
  }
  const BlockRange range = cdb_range(task);
  if (!accept_range(command, range, advertised::max_transfer_blocks(command.unit))) return false;
  const std::uint64_t block = command.task.block_bytes;
  if (bytchk != 0 && range.blocks != 0) {
    task.data_transfer_length = static_cast<std::uint32_t>(bytchk == 3 ? block : range.blocks * block);
    if (task.expected_data_out_bytes < task.data_transfer_length) {
      invalid_field_in_cdb(task, range.blocks_byte, std::uint8_t{7});
      return false;
    }
    task.need.data_out_bytes = task.data_transfer_length;
  }
  task.need.scratch_bytes = scratch_for(range.blocks * block);
  return true;
}

Progress run_verify(Command& command) {
  Task& task = command.task;
  const std::uint64_t block = command.task.block_bytes;
  const std::uint8_t bytchk = (options_byte(task) >> 1) & 0x03;
  if (task.step != begin) {
    if (operation_failed(command)) return Progress::over;
    if (bytchk == 1 && !slice_matches(command, task.position * block)) return Progress::over;
    if (bytchk == 3) {
      for (std::uint32_t i = 0; i < task.slice_blocks; ++i) {
        if (!first_difference(task.data, 0, task.scratch, i * block, block)) continue;
        check_condition(task, {.key = SenseKey::miscompare,
                               .additional = asc::miscompare_during_verify,
                               .information = task.op.lba.value() + i,
                               .field = std::nullopt});
        return Progress::over;
      }
    }
    task.position += task.slice_blocks;
  }
  task.step = working;
  if (task.position == task.blocks) return good(task);
  return prepare_scratch(command, block::OpKind::read, task.blocks);
}

// ---- COMPARE AND WRITE

bool admit_compare_and_write(Command& command) {
  Task& task = command.task;
  const BlockRange range{load_be64(task.cdb.data() + 2), task.cdb[13], 2, 13};
  if (!accept_range(command, range, advertised::max_compare_and_write_blocks(command.unit)) ||
      !durable_is_possible(command, fua_bit(command.task))) {
    return false;
  }
  const auto bytes = static_cast<std::uint32_t>(range.blocks * command.task.block_bytes);
  task.data_transfer_length = 2 * bytes;
  if (task.expected_data_out_bytes != task.data_transfer_length) {
    invalid_field_in_cdb(task, 13, std::uint8_t{7});
    return false;
  }
  task.transfer_blocks = static_cast<std::uint32_t>(range.blocks);
  task.need.data_out_bytes = task.data_transfer_length;
  task.need.scratch_bytes = scratch_for(bytes);
  return true;
}

Progress run_compare_and_write(Command& command) {
  Task& task = command.task;
  const std::uint64_t block = command.task.block_bytes;
  const bool durable = wants_durable(command.unit, fua_bit(task));
  if (task.step != begin && operation_failed(command)) return Progress::over;
  switch (task.step) {
    case comparing: {
      const std::uint64_t offset = task.position * block;
      if (const auto at = first_difference(task.data, offset, task.scratch, 0, task.slice_blocks * block)) {
        check_condition(task, {.key = SenseKey::miscompare,
                               .additional = asc::miscompare_during_verify,
                               .information = offset + *at,  // in the data-out buffer (SBC-3 5.2)
                               .field = std::nullopt});
        return Progress::over;
      }
      task.position += task.slice_blocks;
      break;
    }
    case working: task.position += task.slice_blocks; break;
    case flushing: return good(task);
    default: task.step = comparing; break;
  }
  if (task.step == comparing) {
    if (task.position < task.transfer_blocks)
      return prepare_scratch(command, block::OpKind::read, task.transfer_blocks);
    task.position = 0;
    task.step = working;
  }
  if (task.position < task.transfer_blocks) {
    return prepare_transfer(command, block::OpKind::write, task.data, task.transfer_blocks * block, durable);
  }
  if (durable && !command.unit.geometry().fua && task.transfer_blocks != 0) {
    task.step = flushing;
    return prepare_flush(command);
  }
  return good(task);
}

// ---- SYNCHRONIZE CACHE, PRE-FETCH

bool admit_synchronize_cache(Command& command) {
  const BlockRange range = cdb_range(command.task);
  if (!check_range(command, range.lba, range.blocks)) return false;
  if (!command.unit.state().flush_failed) return true;
  fail_command(command.task, SenseKey::medium_error, asc::write_error);
  return false;
}

// The whole cache, and with IMMED too the status comes after the flush: both are more than was asked for.
Progress run_synchronize_cache(Command& command) {
  Task& task = command.task;
  if (task.step == begin) {
    task.step = flushing;
    return prepare_flush(command);
  }
  return operation_failed(command) ? Progress::over : good(task);
}

bool admit_pre_fetch(Command& command) {
  const BlockRange range = cdb_range(command.task);
  return check_range(command, range.lba, range.blocks);
}

// GOOD, not CONDITION MET: no cache of ours promises to hold the blocks (SBC-3 5.9).
Progress run_pre_fetch(Command& command) { return good(command.task); }

// ---- SEND DIAGNOSTIC (SPC-4 6.42): the default self-test alone. The unit is well when no flush has failed
// and its first and last blocks can be read. DEVOFFL and UNITOFFL allow what it does not need.

bool admit_send_diagnostic(Command& command) {
  Task& task = command.task;
  const std::uint8_t options = task.cdb[1];
  if ((options & 0x04) == 0) {  // no self-test: without a parameter list there is nothing to do
    if ((options & 0x03) == 0) return true;
    invalid_field_in_cdb(task, 1, std::uint8_t{1});
    return false;
  }
  task.need.scratch_bytes = task.block_bytes;
  return true;
}

Progress run_send_diagnostic(Command& command) {
  Task& task = command.task;
  if (task.need.scratch_bytes == 0) return good(task);
  const bool failed = task.step == working && task.op.status != block::OpStatus::ok;
  if (failed || command.unit.state().flush_failed) {
    fail_command(task, SenseKey::hardware_error, asc::self_test_failed);
    return Progress::over;
  }
  const std::uint64_t last = command.unit.geometry().blocks.value() - 1;
  if (task.step == working && task.position == last) return good(task);
  task.position = task.step == begin ? 0 : last;
  task.step = working;
  return prepare_scratch(command, block::OpKind::read, task.position + 1);
}

}  // namespace perilune::scsi
