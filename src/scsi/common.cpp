// SPDX-License-Identifier: Apache-2.0
// What the command handlers share.
#include <algorithm>

#include "scsi/device.hpp"
#include "scsi/handlers.hpp"

namespace perilune::scsi {

std::uint32_t advertised::max_transfer_blocks(const LogicalUnit& unit) noexcept {
  const block::Geometry& geometry = unit.geometry();
  const std::uint32_t most = limits::max_transfer_bytes / geometry.block_size_bytes;
  return geometry.max_transfer_blocks == 0 ? most : std::min(most, geometry.max_transfer_blocks);
}

std::uint8_t advertised::max_compare_and_write_blocks(const LogicalUnit& unit) noexcept {
  return static_cast<std::uint8_t>(std::min<std::uint32_t>(255, max_transfer_blocks(unit) / 2));
}

bool can_anchor(const LogicalUnit& unit) noexcept { return unit.thin() && unit.geometry().unmap_zeroes; }

namespace {

// What the operator has set, where that is less than ours.
std::uint32_t smaller(std::uint32_t ours, std::uint32_t set) noexcept {
  return set == 0 ? ours : std::min(ours, set);
}

}  // namespace

std::uint32_t advertised::max_unmap_blocks(const LogicalUnit& unit) noexcept {
  return smaller(most_unmap_blocks, unit.rules().max_unmap_blocks);
}
std::uint32_t advertised::max_unmap_descriptors(const LogicalUnit& unit) noexcept {
  return smaller(most_unmap_descriptors, unit.rules().max_unmap_descriptors);
}
std::uint32_t advertised::max_write_same_blocks(const LogicalUnit& unit) noexcept {
  return smaller(most_write_same_blocks, unit.rules().max_write_same_blocks);
}
std::uint32_t advertised::optimal_transfer_blocks(const LogicalUnit& unit) noexcept {
  return smaller(max_transfer_blocks(unit), unit.rules().optimal_transfer_blocks);
}

std::uint64_t advertised::max_erase_blocks(const LogicalUnit& unit) noexcept {
  constexpr std::uint64_t bytes_of_memory = 8388608;
  const block::Geometry& geometry = unit.geometry();
  return geometry.in_memory ? bytes_of_memory / geometry.block_size_bytes : ~std::uint64_t{0};
}

std::uint32_t advertised::max_atomic_blocks(const LogicalUnit& unit) noexcept {
  return std::min(unit.geometry().max_atomic_blocks, max_transfer_blocks(unit));
}

Progress good(Task& task) noexcept {
  task.status = ScsiStatus::good;
  task.sense_length = 0;
  return Progress::over;
}

Progress reply(Task& task, std::size_t allocation_length) {
  if (task.parameter_data.size() > allocation_length) task.parameter_data.resize(allocation_length);
  task.data_in_length = task.data_transfer_length = static_cast<std::uint32_t>(task.parameter_data.size());
  return good(task);
}

bool operation_failed(Command& command) noexcept {
  Task& task = command.task;
  const block::BlockOp& op = task.op;
  const auto medium = [&](AdditionalSense additional) {
    const bool has_range = op.kind != block::OpKind::flush;
    check_condition(task, {.key = SenseKey::medium_error,
                           .additional = additional,
                           .information = has_range ? std::optional(op.lba.value()) : std::nullopt,
                           .field = std::nullopt});
  };
  const auto protection = [&](AdditionalSense additional) {
    check_condition(task, {.key = SenseKey::aborted_command,
                           .additional = additional,
                           .information = op.failed_lba.value(),
                           .field = std::nullopt});
  };
  if (op.kind == block::OpKind::flush && op.status != block::OpStatus::ok)
    command.device.flush_failed(command.unit, task);
  LiveCounters& total = command.unit.count();
  if (op.status == block::OpStatus::write_error) ++total.write_errors;
  if (op.status == block::OpStatus::read_error) {
    ++(task.row->allows(counts::verify) ? total.verify_errors : total.read_errors);
  }
  switch (op.status) {
    case block::OpStatus::ok: return false;
    case block::OpStatus::read_error: medium(asc::unrecovered_read_error); break;
    case block::OpStatus::write_error: medium(asc::write_error); break;
    case block::OpStatus::no_space:
      command.unit.space_moved();
      fail_command(task, SenseKey::data_protect, asc::space_allocation_failed);
      break;
    case block::OpStatus::write_protected:
      fail_command(task, SenseKey::data_protect, asc::write_protected);
      break;
    case block::OpStatus::not_ready: fail_command(task, SenseKey::not_ready, asc::not_ready); break;
    case block::OpStatus::out_of_range: lba_out_of_range(task, command.unit.geometry().blocks.value()); break;
    case block::OpStatus::unsupported:
      fail_command(task, SenseKey::hardware_error, asc::internal_target_failure);
      break;
    case block::OpStatus::aborted: fail_command(task, SenseKey::aborted_command, asc::none); break;
    case block::OpStatus::guard_failed: protection(asc::guard_check_failed); break;
    case block::OpStatus::application_tag_failed: protection(asc::application_tag_check_failed); break;
    case block::OpStatus::reference_tag_failed: protection(asc::reference_tag_check_failed); break;
  }
  return true;
}

BlockRange cdb_range(const Task& task) noexcept {
  const std::uint8_t* cdb = task.cdb.data();
  switch (cdb[0] >> 5) {  // group code (SPC-4 4.2.5.1)
    case 0: return {load_be24(cdb + 1) & 0x1fffff, cdb[4] == 0 ? 256u : cdb[4], 1, 4};
    case 1:
    case 2: return {load_be32(cdb + 2), load_be16(cdb + 7), 2, 7};
    case 3: return {load_be64(cdb + 12), load_be32(cdb + 28), 12, 28};  // 7Fh: 32 bytes
    case 5: return {load_be32(cdb + 2), load_be32(cdb + 6), 2, 6};
    default: return {load_be64(cdb + 2), load_be32(cdb + 10), 2, 10};
  }
}

bool check_range(Command& command, std::uint64_t lba, std::uint64_t blocks) noexcept {
  const std::uint64_t capacity = command.unit.geometry().blocks.value();
  if (lba <= capacity && blocks <= capacity - lba) return true;
  lba_out_of_range(command.task, std::max(lba, capacity));
  return false;
}

bool check_count(Command& command, const BlockRange& range, std::uint64_t max_blocks) noexcept {
  if (range.blocks <= max_blocks) return true;
  invalid_field_in_cdb(command.task, range.blocks_byte, std::uint8_t{7});
  return false;
}

bool JoinedRanges::add(Command& command, std::uint64_t lba, std::uint64_t blocks, std::uint64_t max_total,
                       std::uint32_t count_byte) noexcept {
  if (!check_range(command, lba, blocks)) return false;
  total_ += blocks;
  if (total_ > max_total) {
    invalid_field_in_parameters(command.task, static_cast<std::uint16_t>(count_byte));
    return false;
  }
  if (blocks == 0) return true;
  low_ = std::min(low_, lba);
  high_ = std::max(high_, lba + blocks);
  return true;
}

void JoinedRanges::guard(Task& task) const noexcept {
  if (high_ == 0) return;
  task.lba = low_;
  task.blocks = high_ - low_;
}

std::uint16_t options_place(const Task& task) noexcept {
  switch (task.cdb[0]) {
    case 0x7f: return 10;
    case 0x9f: return 2;  // beside a service action
    default: return 1;
  }
}

bool fua_bit(const Task& task) noexcept { return task.cdb[0] >> 5 != 0 && (options_byte(task) & 0x08) != 0; }

bool accept_range(Command& command, const BlockRange& range, std::uint64_t max_blocks) noexcept {
  if (!check_range(command, range.lba, range.blocks) || !check_count(command, range, max_blocks))
    return false;
  command.task.lba = range.lba;
  command.task.blocks = range.blocks;
  return true;
}

bool accept_transfer(Command& command) noexcept {
  if (!accept_range(command, cdb_range(command.task), advertised::max_transfer_blocks(command.unit)))
    return false;
  command.task.data_transfer_length =
      static_cast<std::uint32_t>(command.task.blocks * command.task.block_bytes);
  return true;
}

void take_whole_blocks(Command& command) noexcept {
  Task& task = command.task;
  const std::uint32_t block = command.task.block_bytes;
  task.transfer_blocks = std::min(task.expected_data_out_bytes, task.data_transfer_length) / block;
  task.need.data_out_bytes = task.transfer_blocks * block;
}

std::optional<AdditionalSense> not_ready(const LogicalUnit& unit) noexcept {
  if (!unit.medium_present()) return asc::medium_not_present;
  if (unit.state().stopped) return asc::initializing_command_required;
  return std::nullopt;
}

std::uint32_t scratch_for(std::uint64_t bytes) noexcept {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(bytes, advertised::scratch_bytes));
}

bool durable_is_possible(Command& command, bool fua) noexcept {
  if (!command.unit.state().flush_failed || !wants_durable(command.unit, fua)) return true;
  fail_command(command.task, SenseKey::medium_error, asc::write_error);
  return false;
}

bool wants_durable(const LogicalUnit& unit, bool fua) noexcept {
  return unit.geometry().write_cache && (fua || !unit.write_cache_enabled() || unit.rules().write_through);
}

}  // namespace perilune::scsi
