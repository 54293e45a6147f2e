// SPDX-License-Identifier: Apache-2.0
// Preparing task.op for the next step of a command. For src/scsi alone.
#pragma once

#include <cstdint>
#include <span>

#include "scsi/command_table.hpp"
#include "scsi/handlers.hpp"

namespace perilune::scsi {

// The next slice of the task's blocks, from task.position to task.transfer_blocks, with the bytes at
// data_offset + position of `data`. Sets slice_blocks: all that is left, unless `data` has too many pieces.
Progress prepare_transfer(Command& command, block::OpKind kind, std::span<const iovec> data,
                          std::uint64_t data_offset, bool durable = false) noexcept;

// `blocks` at `lba` with the bytes at data_offset of task.data. Sets slice_blocks as above.
Progress prepare_piece(Command& command, block::OpKind kind, Lba lba, std::uint64_t blocks,
                       std::uint64_t data_offset, bool durable) noexcept;

// The next slice, from task.position to end_block, with the scratch memory from its start; as much as fits in
// it.
Progress prepare_scratch(Command& command, block::OpKind kind, std::uint64_t end_block,
                         bool durable = false) noexcept;

// A write of `blocks` at `lba`, or of the first of them, with the scratch memory from its start. Sets
// slice_blocks.
Progress prepare_scratch_at(Command& command, Lba lba, std::uint64_t blocks, bool durable) noexcept;

Progress prepare_flush(Command& command) noexcept;

// What is known of the `blocks` from task.position on.
Progress prepare_query(Command& command, std::uint64_t blocks) noexcept;

// unmap or write_zeroes of `blocks` at `lba`, or of the first of them. Sets slice_blocks.
Progress prepare_erase(Command& command, block::OpKind kind, std::uint64_t lba, std::uint64_t blocks,
                       bool may_unmap, bool durable) noexcept;

}  // namespace perilune::scsi
