// SPDX-License-Identifier: Apache-2.0
// RDPROTECT, WRPROTECT and VRPROTECT (the tables of SBC-3 5.8, 5.29, 5.32, 5.41), and what VERIFY and WRITE
// SAME do with protection information that is transferred.
#include <array>

#include "scsi/operation.hpp"
#include "scsi/protected_handlers.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {
namespace {

using Kind = block::Protection::Kind;

enum Step : std::uint8_t { begin = 0, erasing = 1, filling = 2, flushing = 3, reading = 4 };

constexpr std::uint8_t no_data_bit = 0x01;  // NDOB
constexpr std::uint8_t unmap_bit = 0x08;
constexpr std::uint8_t anchor_bit = 0x10;

bool is_extended(const Task& task) noexcept { return task.cdb[0] == 0x7f; }
std::uint8_t protect_field(const Task& task) noexcept { return options_byte(task) >> 5; }
bool carries(const Task& task) noexcept { return task.op.protection.kind == Kind::carried; }

// What is not checked, by the value of the field. 101b asks for what 001b does.
constexpr std::array<std::uint8_t, 6> unchecked_by{
    0,
    0,
    block::Protection::guard,
    block::Protection::guard | block::Protection::application_tag | block::Protection::reference_tag,
    block::Protection::application_tag | block::Protection::reference_tag,
    0,
};

// False and the sense: this field is not for this command, on a medium formatted as this one is.
bool check_protect_field(Command& command) noexcept {
  Task& task = command.task;
  const std::uint8_t field = protect_field(task);
  if (field == 0) return true;
  if (command.unit.protection_type() == ProtectionType::type_2 && !is_extended(task)) {  // SBC-3 4.22.2.4
    fail_command(task, SenseKey::illegal_request, asc::invalid_operation_code);
    return false;
  }
  if (command.unit.protection_type() != ProtectionType::none && field < unchecked_by.size()) return true;
  invalid_field_in_cdb(task, options_place(task), std::uint8_t{7});
  return false;
}

// The task takes over what the CDB says about protection information. False: the command has failed.
bool take_protection(Command& command) noexcept {
  Task& task = command.task;
  if (!check_protect_field(command)) return false;
  const std::uint8_t field = protect_field(task);
  block::Protection& protection = task.op.protection;
  if (is_extended(task)) {
    protection.expected = true;
    protection.reference_delta =
        load_be32(&task.cdb[20]) - load_be32(&task.cdb[16]);  // the low half of the LBA
    protection.expected_tag = load_be16(&task.cdb[24]);
    protection.expected_mask = load_be16(&task.cdb[26]);
  }
  if (field == 0) return true;
  protection.kind = Kind::carried;
  protection.unchecked = unchecked_by[field];
  task.block_bytes += protection_field_bytes;
  return true;
}

bool verify_compares(const Task& task) noexcept { return (options_byte(task) & 0x06) != 0; }

// The data-out of the command, `blocks` of it, is checked as if its first block were the one at `lba`.
bool check_data_out(Command& command, std::uint64_t lba, std::uint64_t blocks) noexcept {
  Task& task = command.task;
  const auto failure =
      check_carried(command.unit.protection_rules(), task.op.protection, Direction::from_initiator, task.data,
                    task.block_bytes - protection_field_bytes, lba, blocks);
  if (!failure) return true;
  task.op.status = failure->why;
  task.op.failed_lba = Lba(failure->lba);
  return !operation_failed(command);
}

}  // namespace

bool admit_protected_read(Command& command) { return take_protection(command) && admit_read(command); }
bool admit_protected_write(Command& command) { return take_protection(command) && admit_write(command); }
bool admit_protected_write_and_verify(Command& command) {
  return take_protection(command) && admit_write_and_verify(command);
}
bool admit_protected_write_atomic(Command& command) {
  return take_protection(command) && admit_write_atomic(command);
}

// ---- VERIFY. BYTCHK 00b: what the medium has is checked. 01b: what came is checked, and what the medium has
// is compared with it, protection information and all. 11b, one block for many, cannot be compared with
// fields that differ from block to block.

bool admit_protected_verify(Command& command) {
  Task& task = command.task;
  if (!take_protection(command)) return false;
  if (carries(task) && (options_byte(task) & 0x06) == 0x06) {
    invalid_field_in_cdb(task, options_place(task), std::uint8_t{2});
    return false;
  }
  return admit_verify(command);
}

Progress run_protected_verify(Command& command) {
  Task& task = command.task;
  if (task.step == begin && carries(task) && verify_compares(task)) {
    if (!check_data_out(command, task.lba, task.blocks)) return Progress::over;
    task.op.protection.unchecked = unchecked_by[3];
  }
  return run_verify(command);
}

// ---- WRITE SAME

bool admit_protected_write_same(Command& command) {
  Task& task = command.task;
  if (!take_protection(command)) return false;
  if ((options_byte(task) & no_data_bit) != 0) {  // zeroes that nothing is known of
    task.block_bytes = command.unit.geometry().block_size_bytes;
    task.op.protection = {.kind = Kind::blank};
  }
  return admit_write_same(command);
}

namespace {

// Scratch becomes the next blocks: each the one that came; its reference tag counts up where those belong to
// blocks.
void fill_scratch(Command& command) noexcept {
  Task& task = command.task;
  const std::uint32_t block = task.block_bytes;
  replicate(task.data, block, task.scratch, task.need.scratch_bytes);
  if (command.unit.protection_type() == ProtectionType::type_3) return;
  std::array<std::uint8_t, 4> tag{};
  gather(task.data, block - tag.size(), tag);
  std::uint32_t next = load_be32(tag.data()) + static_cast<std::uint32_t>(task.position);
  Cursor at(task.scratch, 0);
  for (std::uint32_t done = 0; done < task.need.scratch_bytes; done += block, ++next) {
    at.advance(block - tag.size());
    store_be32(tag.data(), next);
    at.copy_in(tag);
  }
}

// Zeroes that nothing is known of, which is what the channel has where nothing was written.
bool is_blank(const Task& task) noexcept {
  std::array<std::uint8_t, protection_field_bytes> field{};
  gather(task.data, task.block_bytes - field.size(), field);
  for (const std::uint8_t byte : field) {
    if (byte != 0xff) return false;
  }
  return all_zero(task.data, task.block_bytes - field.size());
}

Progress erase_carried(Command& command) noexcept {
  Task& task = command.task;
  return prepare_erase(command, block::OpKind::write_zeroes, task.lba + task.position,
                       task.blocks - task.position, true, wants_durable(command.unit, false));
}

Progress write_carried(Command& command) noexcept {
  fill_scratch(command);
  return prepare_scratch(command, block::OpKind::write, command.task.blocks,
                         wants_durable(command.unit, false));
}

Progress written(Command& command) noexcept {
  Task& task = command.task;
  if (!wants_durable(command.unit, false) || command.unit.geometry().fua) return good(task);
  task.step = flushing;
  return prepare_flush(command);
}

// ANCHOR: the zeroes, of which nothing is known, are written; from here on as if they had come without
// protection information.
Progress anchor_carried(Command& command) {
  Task& task = command.task;
  task.block_bytes -= protection_field_bytes;
  task.need.scratch_bytes -= task.need.scratch_bytes % task.block_bytes;
  task.need.data_out_bytes = task.block_bytes;
  task.op.protection = {.kind = Kind::blank};
  task.step = begin;
  return run_write_same(command);
}

}  // namespace

Progress run_protected_write_same(Command& command) {
  Task& task = command.task;
  if (!carries(task)) return run_write_same(command);
  switch (task.step) {
    case begin:
      if (!check_data_out(command, task.lba, 1)) return Progress::over;
      task.step = filling;
      if ((options_byte(task) & unmap_bit) == 0 || !is_blank(task)) return write_carried(command);
      if ((options_byte(task) & anchor_bit) != 0) return anchor_carried(command);
      task.step = erasing;
      return erase_carried(command);
    case erasing:
      if (task.op.status == block::OpStatus::unsupported) {
        task.step = filling;
        return write_carried(command);
      }
      [[fallthrough]];
    case filling:
      if (operation_failed(command)) return Progress::over;
      task.position += task.slice_blocks;
      if (task.position == task.blocks) return written(command);
      return task.step == erasing ? erase_carried(command) : write_carried(command);
    default:
      return operation_failed(command) ? Progress::over : good(task);
  }
}

}  // namespace perilune::scsi
