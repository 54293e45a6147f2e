// SPDX-License-Identifier: Apache-2.0
#include "block/atomic_lanes.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/assert.hpp"
#include "crypto/crc32c.hpp"

namespace perilune::block {
namespace {

constexpr std::size_t memory_alignment = 4096;
constexpr std::uint32_t journal_block_bytes = atomic_header_bytes;
static_assert(atomic_slot_bytes % journal_block_bytes == 0 && atomic_payload_bytes % memory_alignment == 0);

enum : std::size_t { disk_of = 0 };  // BlockOp::backend_space, of one that waits

}  // namespace

void AtomicLanes::Free::operator()(std::uint8_t* memory) const noexcept { std::free(memory); }

AtomicLanes::Memory AtomicLanes::memory_for(std::size_t bytes) {
  Memory memory(static_cast<std::uint8_t*>(std::aligned_alloc(memory_alignment, bytes)));
  PERILUNE_ASSERT(memory != nullptr);
  return memory;
}

AtomicLanes::AtomicLanes(std::shared_ptr<AtomicJournal> journal, std::unique_ptr<runtime::BlockFile> file,
                         std::vector<std::uint32_t> slots)
    : journal_(std::move(journal)), slots_(std::move(slots)) {
  PERILUNE_ASSERT(!slots_.empty() && slots_.size() <= max_lanes);
  const Geometry geometry = file_geometry(file->properties(), journal_block_bytes);
  file_ = make_file_channel(std::move(file), geometry, std::make_shared<FlushHealth>());
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    lanes_[i].lanes = this;
    lanes_[i].slot = slots_[i];
    free_.push_back(lanes_[i]);
  }
}

AtomicLanes::~AtomicLanes() {
  PERILUNE_ASSERT(waiting_.empty());
  for (const Lane& lane : lanes_) PERILUNE_ASSERT(lane.outer == nullptr);
  journal_->give_back(slots_);
}

bool AtomicLanes::submit(const AtomicDisk& disk, BlockOp& op) {
  PERILUNE_ASSERT(op.kind == OpKind::write && op.blocks.value() != 0);
  const Geometry& geometry = disk.channel.geometry();
  PERILUNE_ASSERT(op.blocks.value() <=
                  max_atomic_blocks(geometry.block_size_bytes, geometry.protection_bytes));
  op.backend_space[disk_of] = reinterpret_cast<std::uint64_t>(&disk);
  if (free_.empty() || !waiting_.empty()) {
    waiting_.push_back(op);
    return false;
  }
  return start(free_.pop_front(), op);
}

// True when the operation has ended.
bool AtomicLanes::start(Lane& lane, BlockOp& op) {
  if (lane.entry == nullptr) {
    lane.entry = memory_for(atomic_slot_bytes);
    lane.old = memory_for(atomic_payload_bytes);
  }
  lane.disk = reinterpret_cast<const AtomicDisk*>(op.backend_space[disk_of]);
  lane.outer = &op;
  lane.step = Step::read_old;
  lane.looked_blocks = 0;
  lane.outcome = OpStatus::ok;
  lane.os_errno = 0;
  if (!go_on(lane)) return false;
  release(lane);
  return true;
}

bool AtomicLanes::go_on(Lane& lane) {
  for (;;) {
    prepare(lane);
    const bool of_journal = lane.step == Step::record || lane.step == Step::retire;
    Channel& channel = of_journal ? *file_ : lane.disk->channel;
    if (!channel.submit(lane.op)) return false;
    if (ended(lane)) return true;
  }
}

void AtomicLanes::prepare(Lane& lane) {
  const BlockOp& outer = *lane.outer;
  const std::uint64_t block = lane.disk->channel.geometry().block_size_bytes;
  const std::size_t length = outer.blocks.value() * block;
  BlockOp& op = lane.op;
  op.kind = lane.step == Step::read_old ? OpKind::read
            : lane.step == Step::look   ? OpKind::query
                                        : OpKind::write;
  op.fua = lane.step >= Step::record;
  op.lba = outer.lba;
  op.blocks = outer.blocks;
  op.done = Delegate<void(BlockOp&)>::raw(&lane, completed);
  lane.piece = {lane.old.get(), length};
  switch (lane.step) {
    case Step::read_old:
    case Step::fill:
    case Step::restore:
      break;
    case Step::look:
      lane.piece = {};
      op.lba = Lba(outer.lba.value() + lane.looked_blocks);
      op.blocks = BlockCount(outer.blocks.value() - lane.looked_blocks);
      break;
    case Step::record:
      fill_entry(lane);
      op.lba = Lba(lane.slot * (atomic_slot_bytes / journal_block_bytes));
      op.blocks = BlockCount(1 + (length + journal_block_bytes - 1) / journal_block_bytes);
      lane.piece = {lane.entry.get(), op.blocks.value() * journal_block_bytes};
      break;
    case Step::write:
      lane.piece = {lane.entry.get() + atomic_header_bytes, length};
      break;
    case Step::retire:
      std::memset(lane.entry.get(), 0, atomic_header_bytes);
      op.lba = Lba(lane.slot * (atomic_slot_bytes / journal_block_bytes));
      op.blocks = BlockCount(1);
      lane.piece = {lane.entry.get(), atomic_header_bytes};
      break;
  }
  op.data = lane.step == Step::look ? std::span<const iovec>() : std::span<const iovec>(&lane.piece, 1);
}

void AtomicLanes::fill_entry(Lane& lane) {
  const BlockOp& outer = *lane.outer;
  const std::uint64_t block = lane.disk->channel.geometry().block_size_bytes;
  std::uint8_t* const payload = lane.entry.get() + atomic_header_bytes;
  std::size_t length = 0;
  for (const iovec& part : outer.data) {
    std::memcpy(payload + length, part.iov_base, part.iov_len);
    length += part.iov_len;
  }
  PERILUNE_ASSERT(length == outer.blocks.value() * block);
  const std::size_t rounded = (length + journal_block_bytes - 1) / journal_block_bytes * journal_block_bytes;
  std::memset(payload + length, 0, rounded - length);
  const AtomicEntry entry{.disk = lane.disk->number,
                          .generation = journal_->next_generation(),
                          .offset = ByteOffset(outer.lba.value() * block),
                          .length_bytes = static_cast<std::uint32_t>(length),
                          .payload_crc = crypto::crc32c(crypto::crc32c_start, {payload, length})};
  AtomicHeader header;
  encode_atomic_header(entry, header);
  std::memcpy(lane.entry.get(), header.data(), header.size());
}

// What the end of a step means. True when the whole has ended.
bool AtomicLanes::ended(Lane& lane) {
  const BlockOp& op = lane.op;
  const bool ok = op.status == OpStatus::ok;
  if (!ok && lane.step != Step::restore && lane.step != Step::retire) {
    lane.outcome = op.status == OpStatus::read_error ? OpStatus::write_error : op.status;
    lane.os_errno = op.os_errno;
  }
  switch (lane.step) {
    case Step::read_old:
      lane.step = lane.disk->channel.geometry().thin ? Step::look : Step::record;
      return !ok && end(lane);
    case Step::look:
      if (!ok) return end(lane);
      lane.looked_blocks += op.alike.value();
      if (!op.mapped)
        lane.step = Step::fill;
      else if (lane.looked_blocks >= lane.outer->blocks.value())
        lane.step = Step::record;
      return false;
    case Step::fill:
      lane.step = Step::record;
      return !ok && end(lane);
    case Step::record:
      lane.step = ok ? Step::write : Step::retire;  // what could not be written may be there all the same
      return false;
    case Step::write:
      lane.step = ok ? Step::retire : Step::restore;
      return false;
    case Step::restore:
      if (!ok) lane.outcome = OpStatus::write_error;  // there may be some of both
      lane.step = Step::retire;
      return false;
    case Step::retire:
      if (ok) return end(lane);
      lane.outcome = OpStatus::write_error;
      lane.os_errno = op.os_errno == 0 ? EIO : op.os_errno;
      lane.disk->health->failed_errno.store(lane.os_errno, std::memory_order_relaxed);
      return end(lane);
  }
  return true;
}

bool AtomicLanes::end(Lane& lane) {
  lane.outer->status = lane.outcome;
  lane.outer->os_errno = lane.os_errno;
  return true;
}

void AtomicLanes::release(Lane& lane) {
  lane.outer = nullptr;
  lane.disk = nullptr;
  free_.push_back(lane);
}

void AtomicLanes::completed(void* context, BlockOp&) {
  Lane& lane = *static_cast<Lane*>(context);
  AtomicLanes& self = *lane.lanes;
  BlockOp& outer = *lane.outer;
  if (!self.ended(lane) && !self.go_on(lane)) return;
  self.release(lane);
  self.start_waiting();  // first: `done` may destroy what it likes
  outer.done(outer);
}

// In the order in which they came.
void AtomicLanes::start_waiting() {
  while (!waiting_.empty() && !free_.empty()) {
    BlockOp& op = waiting_.pop_front();
    if (start(free_.pop_front(), op)) op.done(op);
  }
}

}  // namespace perilune::block
