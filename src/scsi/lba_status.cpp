// SPDX-License-Identifier: Apache-2.0
// GET LBA STATUS (SBC-3 5.4; of 32 bytes: SBC-4 5.7): which blocks are mapped, as far as the channel knows.
#include <algorithm>
#include <limits>

#include "scsi/handlers.hpp"
#include "scsi/operation.hpp"

namespace perilune::scsi {
namespace {

constexpr std::size_t header_bytes = 8;
constexpr std::size_t descriptor_bytes = 16;
constexpr std::size_t max_descriptors = 256;
constexpr std::uint64_t max_descriptor_blocks = std::numeric_limits<std::uint32_t>::max();
// Of the channel for one command: what is not reached, the initiator asks for next.
constexpr std::uint32_t max_queries = 64;

bool extended(const Task& task) noexcept { return task.cdb[0] == 0x7f; }

enum Status : std::uint8_t { mapped = 0, deallocated = 1 };

// What the last query found: added to the last descriptor when that says the same, else a new one. False: no
// room.
bool append(Task& task, std::uint64_t blocks, Status status, std::size_t most_bytes) {
  auto& out = task.parameter_data;
  if (out.size() > header_bytes) {
    std::uint8_t* last = out.data() + out.size() - descriptor_bytes;
    const std::uint64_t sum = load_be32(last + 8) + blocks;
    if (last[12] == status && sum <= max_descriptor_blocks) {
      store_be32(last + 8, static_cast<std::uint32_t>(sum));
      return true;
    }
  }
  const std::size_t at = out.size();
  if (at + descriptor_bytes > most_bytes) return false;
  out.resize(at + descriptor_bytes);
  store_be64(&out[at], task.lba + task.position);
  store_be32(&out[at + 8], static_cast<std::uint32_t>(blocks));
  out[at + 12] = status;
  return true;
}

Progress answer(Task& task, std::uint32_t allocation) {
  store_be32(task.parameter_data.data(), static_cast<std::uint32_t>(task.parameter_data.size() - 4));
  return reply(task, allocation);
}

}  // namespace

bool admit_get_lba_status(Command& command) {
  Task& task = command.task;
  const std::uint64_t lba = load_be64(task.cdb.data() + (extended(task) ? 12 : 2));
  const std::uint64_t capacity = command.unit.geometry().blocks.value();
  if (!check_range(command, lba, 1)) return false;
  task.lba = lba;
  task.blocks = capacity - lba;
  const std::uint32_t scan = extended(task) ? load_be32(task.cdb.data() + 20) : 0;
  if (scan != 0) task.blocks = std::min<std::uint64_t>(task.blocks, scan);
  return true;
}

Progress run_get_lba_status(Command& command) {
  Task& task = command.task;
  const std::uint32_t allocation = load_be32(task.cdb.data() + (extended(task) ? 28 : 10));
  const std::size_t room = allocation < header_bytes ? 0 : (allocation - header_bytes) / descriptor_bytes;
  const std::size_t most_bytes =
      header_bytes + std::clamp<std::size_t>(room, 1, max_descriptors) * descriptor_bytes;
  if (task.step++ == 0) {
    task.parameter_data.assign(header_bytes, 0);
  } else {
    std::uint64_t blocks = task.op.alike.value();
    Status status = task.op.mapped ? mapped : deallocated;
    if (task.op.status == block::OpStatus::unsupported) {  // nothing may be called deallocated
      blocks = std::min(task.blocks - task.position, max_descriptor_blocks);
      status = mapped;
    } else if (operation_failed(command)) {
      return Progress::over;
    }
    if (!append(task, blocks, status, most_bytes)) return answer(task, allocation);
    task.position += blocks;
  }
  if (task.position == task.blocks || task.step > max_queries) return answer(task, allocation);
  return prepare_query(command, std::min(task.blocks - task.position, max_descriptor_blocks));
}

}  // namespace perilune::scsi
