// SPDX-License-Identifier: Apache-2.0
// READ CD and READ CD MSF (MMC-6 6.18, 6.19): sectors of a compact disc with as much of what stands around a
// block as is asked for. Blocks are read into scratch memory, and the sectors are made of them. An image has
// no C2 pointers and no sub-channels.
#include <algorithm>
#include <array>

#include "scsi/cd_sector.hpp"
#include "scsi/device.hpp"
#include "scsi/handlers.hpp"
#include "scsi/multimedia.hpp"
#include "scsi/multimedia_commands.hpp"
#include "scsi/operation.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {
namespace {

enum Step : std::uint8_t { begin = 0, reading = 1 };

bool invalid(Task& task, std::uint16_t byte, std::uint8_t bit = 7) noexcept {
  invalid_field_in_cdb(task, byte, bit);
  return false;
}

// The part of each sector that is transferred: [first, last), which may be nothing.
struct Part {
  std::size_t first = 0, last = 0;
  [[nodiscard]] std::uint32_t bytes() const noexcept { return static_cast<std::uint32_t>(last - first); }
};

// Byte 9. Fields that are asked for have to stand side by side (MMC-6 table 353); a sector of mode 1 has no
// subheader.
std::optional<Part> part_of(std::uint8_t fields) noexcept {
  const std::array<std::pair<bool, Part>, 4> asked{{
      {(fields & 0x80) != 0, {cd_sector::sync, cd_sector::header}},
      {(fields & 0x20) != 0, {cd_sector::header, cd_sector::user}},
      {(fields & 0x10) != 0, {cd_sector::user, cd_sector::edc}},
      {(fields & 0x08) != 0, {cd_sector::edc, cd_sector_bytes}},
  }};
  Part part;
  for (const auto& [wanted, field] : asked) {
    if (!wanted) continue;
    if (part.bytes() == 0) part.first = part.last = field.first;
    if (part.last != field.first) return std::nullopt;
    part.last = field.last;
  }
  return part;
}

// What both commands have in common once it is known which blocks are wanted.
bool admit_sectors(Command& command, std::uint64_t lba, std::uint64_t blocks, std::uint16_t count_byte) {
  Task& task = command.task;
  const std::uint8_t type = task.cdb[1] >> 2 & 0x07;  // EXPECTED SECTOR TYPE: any, or mode 1
  if (!is_compact_disc(command.unit)) {
    fail_command(task, SenseKey::illegal_request, asc::incompatible_medium);
    return false;
  }
  if (type != 0 && type != 2) {
    fail_command(task, SenseKey::illegal_request, asc::illegal_mode_for_this_track);
    return false;
  }
  const auto part = part_of(task.cdb[9]);
  if (!part) return invalid(task, 9);
  if (!check_range(command, lba, blocks)) return false;
  const std::uint64_t most = std::uint64_t{advertised::max_transfer_blocks(command.unit)} * cd_user_bytes;
  if (blocks * cd_sector_bytes > most) return invalid(task, count_byte);
  task.lba = lba;
  task.blocks = blocks;
  const std::uint64_t bytes = blocks * part->bytes();
  task.data_transfer_length = static_cast<std::uint32_t>(bytes);
  task.need.data_in_bytes = std::min(task.data_transfer_length, task.expected_data_in_bytes);
  if (task.need.data_in_bytes == 0) return true;
  task.transfer_blocks = (task.need.data_in_bytes + part->bytes() - 1) / part->bytes();
  task.need.scratch_bytes = scratch_for(std::uint64_t{task.transfer_blocks} * cd_user_bytes);
  return true;
}

// The blocks in scratch become sectors behind those that are there.
void append_sectors(Task& task, const Part& part) noexcept {
  Cursor from(task.scratch, 0);
  const std::uint64_t done = task.position * part.bytes();
  Cursor to(task.data, done);
  std::uint64_t room = task.need.data_in_bytes - done;
  std::array<std::uint8_t, cd_user_bytes> block{};
  std::array<std::uint8_t, cd_sector_bytes> sector{};
  for (std::uint32_t i = 0; i < task.slice_blocks; ++i) {
    (void)from.copy_out(block);
    make_cd_sector(static_cast<std::uint32_t>(task.lba + task.position + i), block, sector);
    const auto bytes = static_cast<std::size_t>(std::min<std::uint64_t>(room, part.bytes()));
    to.copy_in({sector.data() + part.first, bytes});
    room -= bytes;
  }
}

// Minute, second and frame; nothing for what is none, or before block 0.
std::optional<std::uint64_t> block_at(const std::uint8_t* msf) noexcept {
  const std::uint64_t at = (std::uint64_t{msf[0]} * 60 + msf[1]) * 75 + msf[2];
  if (msf[1] > 59 || msf[2] > 74 || at < 150) return std::nullopt;
  return at - 150;
}

}  // namespace

bool admit_read_cd(Command& command) {
  const auto& cdb = command.task.cdb;
  return admit_sectors(command, load_be32(cdb.data() + 2), load_be24(cdb.data() + 6), 6);
}

// Up to the end, and not with it.
bool admit_read_cd_msf(Command& command) {
  Task& task = command.task;
  const auto first = block_at(task.cdb.data() + 3);
  const auto end = block_at(task.cdb.data() + 6);
  if (!first) return invalid(task, 3);
  if (!end || *end < *first) return invalid(task, 6);
  return admit_sectors(command, *first, *end - *first, 6);
}

Progress run_read_cd(Command& command) {
  Task& task = command.task;
  if (task.need.data_in_bytes == 0) return good(task);
  const Part part = *part_of(task.cdb[9]);
  if (task.step == reading) {
    if (operation_failed(command)) return Progress::over;
    append_sectors(task, part);
    task.position += task.slice_blocks;
  }
  task.step = reading;
  if (task.position < task.transfer_blocks)
    return prepare_scratch(command, block::OpKind::read, task.transfer_blocks);
  task.data_in_length = task.need.data_in_bytes;
  return good(task);
}

}  // namespace perilune::scsi
