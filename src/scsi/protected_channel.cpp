// SPDX-License-Identifier: Apache-2.0
#include "scsi/protected_channel.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "base/limits.hpp"
#include "crypto/crc16_t10dif.hpp"

namespace perilune::scsi {
namespace {

using block::BlockOp;
using block::OpKind;
using block::OpStatus;
using Kind = block::Protection::Kind;

void complement(const std::uint8_t* from, std::uint8_t* to) noexcept {
  for (std::uint32_t i = 0; i < protection_field_bytes; ++i) to[i] = static_cast<std::uint8_t>(~from[i]);
}

}  // namespace

ProtectedChannel::ProtectedChannel(block::Channel& below, const ProtectionRules& rules)
    : below_(below), rules_(rules) {
  refresh_geometry();
}

ProtectedChannel::~ProtectedChannel() {
  PERILUNE_ASSERT(waiting_.empty());
  while (!free_.empty()) {
    (void)free_.pop_front();
    --lanes_made_;
  }
  PERILUNE_ASSERT(lanes_made_ == 0);  // nothing is under way
}

void ProtectedChannel::refresh_geometry() {
  geometry_ = below_.geometry();
  PERILUNE_ASSERT(geometry_.protection_bytes == protection_field_bytes);
  const std::uint32_t stored = geometry_.block_size_bytes;
  geometry_.block_size_bytes = stored - protection_field_bytes;
  geometry_.physical_block_size_bytes =
      geometry_.block_size_bytes;  // blocks lie across all borders of what is below
  geometry_.memory_alignment_bytes = 1;
  geometry_.lends_memory = geometry_.reads_at_once = geometry_.writes_at_once = false;
  // In one piece, whether the protection information comes along or is made here.
  geometry_.max_atomic_blocks =
      std::min(geometry_.max_atomic_blocks, static_cast<std::uint32_t>(buffer_bytes / stored));
  const std::uint32_t most = limits::max_transfer_bytes / stored;
  geometry_.max_transfer_blocks =
      geometry_.max_transfer_blocks == 0 ? most : std::min(most, geometry_.max_transfer_blocks);
}

bool ProtectedChannel::submit(BlockOp& op) {
  switch (op.kind) {
    case OpKind::flush:
    case OpKind::unmap:
    case OpKind::query:
    case OpKind::change_key:
      return below_.submit(op);
    case OpKind::write_zeroes:
      // Zeroes below are zeroes without protection information. Where it has to be made, the blocks have to
      // be written.
      if (op.may_unmap || op.protection.kind != Kind::hidden || rules_.type == ProtectionType::none)
        return below_.submit(op);
      op.status = OpStatus::unsupported;
      return true;
    case OpKind::read:
    case OpKind::write:
      break;
  }
  if (op.blocks.value() == 0) return below_.submit(op);
  Lane* lane = waiting_.empty() ? take_lane() : nullptr;
  if (lane != nullptr) return start(*lane, op);
  waiting_.push_back(op);
  return false;
}

ProtectedChannel::Lane* ProtectedChannel::take_lane() {
  if (!free_.empty()) return &free_.pop_front();
  if (lanes_made_ == max_lanes) return nullptr;
  auto& made = lanes_[lanes_made_++];
  made = std::make_unique<Lane>();
  made->channel = this;
  return made.get();
}

// True when the operation has ended.
bool ProtectedChannel::start(Lane& lane, BlockOp& op) {
  lane.outer = &op;
  lane.position = 0;
  op.status = OpStatus::ok;
  op.os_errno = 0;
  if (!go_on(lane)) return false;
  release(lane);
  return true;
}

bool ProtectedChannel::go_on(Lane& lane) {
  for (;;) {
    if (!prepare(lane)) return true;
    lane.op.status = OpStatus::ok;
    lane.op.os_errno = 0;
    lane.op.done = Delegate<void(BlockOp&)>::raw(&lane, completed);
    if (!below_.submit(lane.op)) return false;
    if (ended(lane)) return true;
  }
}

// False when the operation has ended: what came is wrong, and nothing is written.
bool ProtectedChannel::prepare(Lane& lane) {
  const BlockOp& outer = *lane.outer;
  lane.op.kind = outer.kind;
  lane.op.fua = outer.fua;
  lane.op.atomic = outer.atomic;
  if (outer.protection.kind == Kind::carried) return prepare_carried(lane);
  prepare_slice(lane);
  return true;
}

bool ProtectedChannel::prepare_carried(Lane& lane) {
  BlockOp& outer = *lane.outer;
  lane.op.lba = outer.lba;
  lane.op.blocks = outer.blocks;
  lane.op.data = outer.data;
  if (outer.kind == OpKind::read) return true;
  const auto failure = check_carried(rules_, outer.protection, Direction::from_initiator, outer.data,
                                     geometry_.block_size_bytes, outer.lba.value(), outer.blocks.value());
  if (failure) {
    outer.status = failure->why;
    outer.failed_lba = Lba(failure->lba);
    return false;
  }
  complement_fields(outer.data, geometry_.block_size_bytes, outer.blocks.value());
  return true;
}

void ProtectedChannel::prepare_slice(Lane& lane) {
  const BlockOp& outer = *lane.outer;
  const std::uint32_t stored = geometry_.block_size_bytes + protection_field_bytes;
  const std::uint64_t blocks =
      std::min<std::uint64_t>(outer.blocks.value() - lane.position, buffer_bytes / stored);
  lane.op.lba = Lba(outer.lba.value() + lane.position);
  lane.op.blocks = BlockCount(blocks);
  if (lane.buffer == nullptr) lane.buffer = std::make_unique_for_overwrite<std::uint8_t[]>(buffer_bytes);
  lane.piece = {lane.buffer.get(), static_cast<std::size_t>(blocks) * stored};
  lane.op.data = {&lane.piece, 1};
  if (outer.kind == OpKind::write) fill_slice(lane);
}

// The blocks of the slice, each with its field.
void ProtectedChannel::fill_slice(Lane& lane) {
  const BlockOp& outer = *lane.outer;
  const std::uint32_t block = geometry_.block_size_bytes;
  const bool blank = outer.protection.kind == Kind::blank;
  Cursor from(outer.data, lane.position * block);
  std::uint8_t* to = lane.buffer.get();
  for (std::uint64_t i = 0; i < lane.op.blocks.value(); ++i, to += block + protection_field_bytes) {
    from.copy_out({to, block});
    ProtectionField field;
    if (!blank && rules_.type != ProtectionType::none) {
      field = generate(rules_, crypto::crc16_t10dif(crypto::crc16_t10dif_start, {to, block}),
                       lane.op.lba.value() + i);
    }
    field.store(to + block);
    complement(to + block, to + block);
  }
}

// What the end of an operation below means. True when the whole has ended.
bool ProtectedChannel::ended(Lane& lane) {
  BlockOp& outer = *lane.outer;
  const bool carried = outer.protection.kind == Kind::carried;
  if (carried)
    complement_fields(outer.data, geometry_.block_size_bytes,
                      outer.blocks.value());  // as the owner knows them
  if (lane.op.status != OpStatus::ok) {
    outer.status = lane.op.status;
    outer.os_errno = lane.op.os_errno;
    return true;
  }
  if (outer.kind == OpKind::read && !read_ended(lane)) return true;
  lane.position += lane.op.blocks.value();
  return lane.position == outer.blocks.value();
}

// False: a check has failed.
bool ProtectedChannel::read_ended(Lane& lane) {
  BlockOp& outer = *lane.outer;
  const std::uint32_t block = geometry_.block_size_bytes;
  const std::uint64_t blocks = lane.op.blocks.value();
  std::optional<ProtectionFailure> failure;
  if (outer.protection.kind == Kind::carried) {
    failure = check_carried(rules_, outer.protection, Direction::from_medium, outer.data, block,
                            outer.lba.value(), blocks);
  } else {
    complement_fields(lane.op.data, block, blocks);
    failure = check_carried(rules_, outer.protection, Direction::from_medium, lane.op.data, block,
                            lane.op.lba.value(), blocks);
    Cursor to(outer.data, lane.position * block);
    const std::uint8_t* from = lane.buffer.get();
    for (std::uint64_t i = 0; i < blocks; ++i, from += block + protection_field_bytes)
      to.copy_in({from, block});
  }
  if (!failure) return true;
  outer.status = failure->why;
  outer.failed_lba = Lba(failure->lba);
  return false;
}

void ProtectedChannel::release(Lane& lane) {
  lane.outer = nullptr;
  free_.push_back(lane);
}

void ProtectedChannel::completed(void* context, BlockOp&) {
  Lane& lane = *static_cast<Lane*>(context);
  ProtectedChannel& self = *lane.channel;
  BlockOp& outer = *lane.outer;
  if (!self.ended(lane) && !self.go_on(lane)) return;
  self.release(lane);
  self.start_waiting();  // first: `done` may destroy what it likes
  outer.done(outer);
}

// In the order in which they came.
void ProtectedChannel::start_waiting() {
  while (!waiting_.empty()) {
    Lane* lane = take_lane();
    if (lane == nullptr) return;
    BlockOp& op = waiting_.pop_front();
    if (start(*lane, op)) op.done(op);
  }
}

}  // namespace perilune::scsi
