// SPDX-License-Identifier: Apache-2.0
// WRITE SAME and UNMAP (SBC-3 5.41, 5.28): the commands that erase, or fill, without carrying the data. With
// ANCHOR the blocks read as zeroes afterwards and keep their place in the backing, so that a later write does
// not find it full: zeroes are written to them (SBC-3 4.7.4: from anchored to mapped a block may go by
// itself). Where there is protection information, they have none, as blocks that were unmapped.
#include <algorithm>
#include <array>

#include "scsi/handlers.hpp"
#include "scsi/operation.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {
namespace {

enum Step : std::uint8_t { begin = 0, erasing = 1, filling = 2, flushing = 3 };

constexpr std::uint8_t anchor_bit = 0x10;  // of WRITE SAME
constexpr std::uint8_t unmap_bit = 0x08;
constexpr std::uint8_t unmap_anchor_bit = 0x01;  // of UNMAP
constexpr std::uint8_t no_data_bit = 0x01;  // NDOB, WRITE SAME(16) alone

void fill_scratch_with_zeroes(Task& task) noexcept {
  static constexpr std::array<std::uint8_t, 4096> zeroes{};
  const std::array<iovec, 1> zero_block{{{const_cast<std::uint8_t*>(zeroes.data()), task.block_bytes}}};
  replicate(zero_block, task.block_bytes, task.scratch, task.need.scratch_bytes);
}

// The end of a command that wrote: flushed, when the channel knows no FUA.
Progress written(Command& command) noexcept {
  Task& task = command.task;
  if (wants_durable(command.unit, false) && !command.unit.geometry().fua) {
    task.step = flushing;
    return prepare_flush(command);
  }
  return good(task);
}

}  // namespace

// ---- WRITE SAME. A count of 0 means all blocks up to the last one (WSNZ is 0), at most MAXIMUM WRITE SAME
// LENGTH of them as ever (SBC-3 5.41).

bool admit_write_same(Command& command) {
  Task& task = command.task;
  BlockRange range = cdb_range(task);
  if ((options_byte(task) & (anchor_bit | unmap_bit)) == anchor_bit) {
    invalid_field_in_cdb(task, options_place(task), std::uint8_t{4});
    return false;
  }
  if (!check_range(command, range.lba, std::max<std::uint64_t>(range.blocks, 1))) return false;
  if (range.blocks == 0) range.blocks = command.unit.geometry().blocks.value() - range.lba;
  if (!check_count(command, range, advertised::max_write_same_blocks(command.unit)) ||
      !durable_is_possible(command, false))
    return false;
  const std::uint32_t block = command.task.block_bytes;
  const std::uint32_t data_bytes = (options_byte(task) & no_data_bit) != 0 ? 0 : block;
  if (task.expected_data_out_bytes != data_bytes) {  // one block, or none with NDOB
    invalid_field_in_cdb(task, range.blocks_byte, std::uint8_t{7});
    return false;
  }
  task.lba = range.lba;
  task.blocks = range.blocks;
  task.data_transfer_length = task.need.data_out_bytes = data_bytes;
  task.need.scratch_bytes =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(range.blocks * block, advertised::scratch_bytes));
  return true;
}

namespace {

Progress erase_rest(Command& command, bool durable) noexcept {
  const Task& task = command.task;
  return prepare_erase(command, block::OpKind::write_zeroes, task.lba + task.position,
                       task.blocks - task.position, (options_byte(task) & unmap_bit) != 0, durable);
}

}  // namespace

Progress run_write_same(Command& command) {
  Task& task = command.task;
  const std::uint32_t block = command.task.block_bytes;
  const bool durable = wants_durable(command.unit, false);
  const bool no_data = task.need.data_out_bytes == 0;
  switch (task.step) {
    case begin:
      // Zeroes the channel can write by itself. With UNMAP it may deallocate, but reads give zeroes in any
      // case.
      if (!no_data && !all_zero(task.data, block)) break;
      if ((options_byte(task) & anchor_bit) != 0) {
        task.op.protection = {.kind = block::Protection::Kind::blank};
        break;
      }
      task.step = erasing;
      return erase_rest(command, durable);
    case erasing:
      if (task.op.status == block::OpStatus::unsupported) break;
      if (operation_failed(command)) return Progress::over;
      task.position += task.slice_blocks;
      return task.position == task.blocks ? written(command) : erase_rest(command, durable);
    case filling:
      if (operation_failed(command)) return Progress::over;
      task.position += task.slice_blocks;
      if (task.position == task.blocks) return written(command);
      return prepare_scratch(command, block::OpKind::write, task.blocks, durable);
    default: return operation_failed(command) ? Progress::over : good(task);
  }
  task.step = filling;
  if (no_data) fill_scratch_with_zeroes(task);
  else replicate(task.data, block, task.scratch, task.need.scratch_bytes);
  return prepare_scratch(command, block::OpKind::write, task.blocks, durable);
}

// ---- UNMAP

namespace {

struct UnmapDescriptor {
  std::uint64_t lba = 0;
  std::uint32_t blocks = 0;
};

UnmapDescriptor descriptor_at(const Task& task, std::uint32_t index) noexcept {
  std::array<std::uint8_t, 16> bytes{};
  gather(task.data, 8 + std::uint64_t{index} * 16, bytes);
  return {load_be64(bytes.data()), load_be32(bytes.data() + 8)};
}

}  // namespace

bool admit_unmap(Command& command) {
  Task& task = command.task;
  const std::uint32_t list_bytes = load_be16(task.cdb.data() + 7);
  task.data_transfer_length = list_bytes;
  task.need.data_out_bytes = std::min(list_bytes, task.expected_data_out_bytes);
  if ((task.cdb[1] & unmap_anchor_bit) != 0) task.need.scratch_bytes = advertised::scratch_bytes;
  return durable_is_possible(command, false);
}

// Checks the whole list before anything is unmapped; transfer_blocks counts the descriptors.
bool prepare_unmap(Command& command) {
  Task& task = command.task;
  const std::uint32_t list_bytes = task.need.data_out_bytes;
  task.transfer_blocks = 0;
  if (task.data_transfer_length == 0) return true;
  std::array<std::uint8_t, 8> header{};
  if (list_bytes < header.size() || gather(task.data, 0, header) < header.size()) {
    fail_command(task, SenseKey::illegal_request, asc::parameter_list_length_error);
    return false;
  }
  // What is not there, and a last descriptor that is not whole, is ignored (SBC-3 5.28.2).
  const std::uint32_t count = std::min<std::uint32_t>(load_be16(header.data() + 2), list_bytes - 8) / 16;
  if (count > advertised::max_unmap_descriptors(command.unit)) {
    invalid_field_in_parameters(task, 2);
    return false;
  }
  JoinedRanges ranges;
  const std::uint32_t most = advertised::max_unmap_blocks(command.unit);
  for (std::uint32_t i = 0; i < count; ++i) {
    const UnmapDescriptor descriptor = descriptor_at(task, i);
    if (!ranges.add(command, descriptor.lba, descriptor.blocks, most, 8 + i * 16 + 8)) return false;
  }
  ranges.guard(task);
  task.transfer_blocks = count;
  return true;
}

// task.position counts the blocks done of the descriptor.
Progress run_unmap(Command& command) {
  Task& task = command.task;
  if (task.step != begin && operation_failed(command)) return Progress::over;
  if (task.step == flushing) return good(task);
  const bool wrote = task.step == erasing;
  const bool anchors = (task.cdb[1] & unmap_anchor_bit) != 0;
  if (anchors && !wrote) {
    fill_scratch_with_zeroes(task);
    task.op.protection = {.kind = block::Protection::Kind::blank};
  }
  if (wrote) task.position += task.slice_blocks;
  for (; task.descriptor < task.transfer_blocks; ++task.descriptor, task.position = 0) {
    const UnmapDescriptor descriptor = descriptor_at(task, task.descriptor);
    if (task.position == descriptor.blocks) continue;
    task.step = erasing;
    const std::uint64_t lba = descriptor.lba + task.position;
    const std::uint64_t blocks = descriptor.blocks - task.position;
    const bool durable = wants_durable(command.unit, false);
    if (anchors) return prepare_scratch_at(command, Lba(lba), blocks, durable);
    return prepare_erase(command, block::OpKind::unmap, lba, blocks, true, durable);
  }
  return wrote ? written(command) : good(task);
}

}  // namespace perilune::scsi
