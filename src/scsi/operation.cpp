// SPDX-License-Identifier: Apache-2.0
#include "scsi/operation.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {
namespace {

Progress prepare(Command& command, block::OpKind kind, std::uint64_t blocks, bool durable) noexcept {
  Task& task = command.task;
  task.slice_blocks = static_cast<std::uint32_t>(blocks);
  task.op.kind = kind;
  task.op.fua = durable && command.unit.geometry().fua;
  task.op.may_unmap = false;
  task.op.lba = Lba(task.lba + task.position);
  task.op.blocks = BlockCount(blocks);
  return Progress::submit;
}

// Names `bytes` of `from` in task.op.data; fewer when there are too many pieces. Returns the bytes.
std::uint64_t attach(Command& command, std::span<const iovec> from, std::uint64_t offset,
                     std::uint64_t bytes) noexcept {
  Task& task = command.task;
  if (offset == 0 && from.size() == 1 && from[0].iov_len == bytes) {
    task.op.data = from;
    return bytes;
  }
  std::size_t used = 0;
  const std::uint64_t named = slice(from, offset, bytes, task.block_bytes, task.pieces, used);
  PERILUNE_ASSERT(named != 0);  // the transport gave less than task.need, or pieces of a few bytes each
  task.op.data = {task.pieces.data(), used};
  return named;
}

}  // namespace

Progress prepare_transfer(Command& command, block::OpKind kind, std::span<const iovec> data,
                          std::uint64_t data_offset, bool durable) noexcept {
  Task& task = command.task;
  const std::uint64_t block = task.block_bytes;
  const std::uint64_t bytes = (task.transfer_blocks - task.position) * block;
  const std::uint64_t named = attach(command, data, data_offset + task.position * block, bytes);
  return prepare(command, kind, named / block, durable);
}

Progress prepare_piece(Command& command, block::OpKind kind, Lba lba, std::uint64_t blocks,
                       std::uint64_t data_offset, bool durable) noexcept {
  const std::uint64_t block = command.task.block_bytes;
  const std::uint64_t named = attach(command, command.task.data, data_offset, blocks * block);
  prepare(command, kind, named / block, durable);
  command.task.op.lba = lba;
  return Progress::submit;
}

Progress prepare_scratch(Command& command, block::OpKind kind, std::uint64_t end_block,
                         bool durable) noexcept {
  Task& task = command.task;
  const std::uint64_t block = task.block_bytes;
  const std::uint64_t bytes =
      std::min<std::uint64_t>((end_block - task.position) * block, task.need.scratch_bytes);
  const std::uint64_t named = attach(command, task.scratch, 0, bytes);
  return prepare(command, kind, named / block, durable);
}

Progress prepare_scratch_at(Command& command, Lba lba, std::uint64_t blocks, bool durable) noexcept {
  Task& task = command.task;
  const std::uint64_t bytes = std::min<std::uint64_t>(blocks * task.block_bytes, task.need.scratch_bytes);
  const std::uint64_t named = attach(command, task.scratch, 0, bytes);
  prepare(command, block::OpKind::write, named / task.block_bytes, durable);
  task.op.lba = lba;
  return Progress::submit;
}

Progress prepare_flush(Command& command) noexcept {
  Task& task = command.task;
  task.op.kind = block::OpKind::flush;
  task.op.fua = task.op.may_unmap = false;
  task.op.lba = Lba(0);
  task.op.blocks = BlockCount(0);
  task.op.data = {};
  task.slice_blocks = 0;
  return Progress::submit;
}

Progress prepare_query(Command& command, std::uint64_t blocks) noexcept {
  command.task.op.data = {};
  return prepare(command, block::OpKind::query, blocks, false);
}

Progress prepare_erase(Command& command, block::OpKind kind, std::uint64_t lba, std::uint64_t blocks,
                       bool may_unmap, bool durable) noexcept {
  Task& task = command.task;
  blocks = std::min(blocks, advertised::max_erase_blocks(command.unit));
  task.slice_blocks = static_cast<std::uint32_t>(blocks);
  task.op.kind = kind;
  task.op.fua = durable && command.unit.geometry().fua;
  task.op.may_unmap = may_unmap;
  task.op.lba = Lba(lba);
  task.op.blocks = BlockCount(blocks);
  task.op.data = {};
  return Progress::submit;
}

}  // namespace perilune::scsi
