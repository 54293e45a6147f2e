// SPDX-License-Identifier: Apache-2.0
#include "sim/workload.hpp"

#include <algorithm>
#include <utility>

namespace perilune::sim {

namespace {
constexpr std::uint32_t block_bytes = 512;
}

struct Workload::Slot {
  explicit Slot(Workload& o) : owner(o) { op.done = Delegate<void(block::BlockOp&)>::to<&Slot::done>(*this); }
  void done(block::BlockOp&) {
    if (lost) return;
    owner.end(*this);
    owner.fill();
  }
  Workload& owner;
  block::BlockOp op;
  bool busy = false;
  bool lost = false;
  std::unique_ptr<std::uint8_t[]> memory;  // of the exact size: a sanitizer sees who goes beyond
  std::size_t bytes = 0;
  std::vector<iovec> iov;
  BlockHistory::Write write;
  BlockHistory::Flush flush;
  BlockHistory::Read read;
};

Workload::Workload(World& world, BlockHistory& history, const WorkloadShape& shape)
    : world_(world), history_(history), shape_(shape), prng_(world.prng().fork()) {
  for (std::uint32_t i = 0; i < shape.depth; ++i) slots_.push_back(std::make_unique<Slot>(*this));
}

Workload::~Workload() = default;

void Workload::use(block::Channel& channel) {
  PERILUNE_ASSERT(outstanding_ == 0);
  channel_ = &channel;
  fill();
}

void Workload::lost() {
  channel_ = nullptr;
  for (auto& slot : slots_) {
    if (!slot->busy) continue;
    const block::OpKind kind = slot->op.kind;
    if (kind != block::OpKind::read && kind != block::OpKind::flush) {
      history_.end_write(slot->write, Outcome::failed, false);
    }
    slot->lost = true;
    lost_.push_back(std::exchange(slot, std::make_unique<Slot>(*this)));
    if (!verifying_) ++ended_;
  }
  outstanding_ = 0;
}

void Workload::verify() {
  PERILUNE_ASSERT(outstanding_ == 0);
  verifying_ = true;
  next_block_ = shape_.first_block;
  fill();
}

void Workload::rewrite_torn() {
  PERILUNE_ASSERT(outstanding_ == 0);
  rewriting_ = true;
  fill();
}

void Workload::rewrite_all() {
  for (std::uint64_t lba = shape_.first_block; lba < end_block(); ++lba) torn_.push_back(lba);
  rewrite_torn();
}

bool Workload::wants_more() const noexcept {
  if (channel_ == nullptr || !problem_.empty()) return false;
  if (rewriting_) return !torn_.empty();
  return verifying_ ? next_block_ < end_block() : started_ < shape_.total;
}

void Workload::fill() {
  if (filling_) return;
  filling_ = true;
  for (bool progress = true; progress;) {
    progress = false;
    for (auto& slot : slots_) {
      if (slot->busy || !wants_more()) continue;
      if (start(*slot)) end(*slot);
      progress = true;
    }
  }
  filling_ = false;
}

bool Workload::start(Slot& slot) {
  if (rewriting_)
    choose_rewrite(slot);
  else if (verifying_)
    choose_read_back(slot);
  else
    choose(slot);
  slot.busy = true;
  ++outstanding_;
  if (!verifying_) ++started_;
  return channel_->submit(slot.op);
}

void Workload::make_data(Slot& slot, std::uint64_t blocks) {
  slot.bytes = blocks * block_bytes;
  slot.memory = std::make_unique<std::uint8_t[]>(slot.bytes);
  slot.iov.clear();
  std::size_t at = 0;
  while (at < slot.bytes) {
    const std::size_t left = slot.bytes - at;
    const std::size_t n = slot.iov.size() < 5 && prng_.coin() ? prng_.below(left) + 1 : left;
    slot.iov.push_back({slot.memory.get() + at, n});
    at += n;
  }
  slot.op.data = slot.iov;
}

void Workload::choose_read_back(Slot& slot) {
  const std::uint64_t most = shape_.torn_reads_fail ? 1 : shape_.max_blocks;
  const std::uint64_t blocks = std::min<std::uint64_t>(most, end_block() - next_block_);
  slot.op.kind = block::OpKind::read;
  slot.op.fua = false;
  slot.op.lba = Lba(next_block_);
  slot.op.blocks = BlockCount(blocks);
  make_data(slot, blocks);
  slot.read = history_.begin_read(slot.op.lba, slot.op.blocks);
  next_block_ += blocks;
}

void Workload::choose_rewrite(Slot& slot) {
  slot.op.kind = block::OpKind::write;
  slot.op.fua = true;
  slot.op.lba = Lba(torn_.back());
  slot.op.blocks = BlockCount(1);
  torn_.pop_back();
  make_data(slot, 1);
  slot.write = history_.begin_write(slot.op.lba, MutableBytes(slot.memory.get(), slot.bytes));
}

void Workload::choose(Slot& slot) {
  block::BlockOp& op = slot.op;
  std::uint64_t blocks = 1 + prng_.below(std::min<std::uint64_t>(shape_.max_blocks, shape_.blocks));
  if (prng_.coin()) blocks = 1 + prng_.below(std::min<std::uint64_t>(blocks, 8));
  op.lba = Lba(shape_.first_block + prng_.below(shape_.blocks - blocks + 1));
  op.blocks = BlockCount(blocks);
  op.fua = false;
  op.may_unmap = false;
  op.data = {};
  const std::uint64_t dice = prng_.below(100);
  if (dice < shape_.writes) {
    op.kind = block::OpKind::write;
    op.fua = prng_.chance(shape_.fua, 100);
    make_data(slot, blocks);
    slot.write = history_.begin_write(op.lba, MutableBytes(slot.memory.get(), slot.bytes));
  } else if (dice < shape_.writes + shape_.flushes) {
    op.kind = block::OpKind::flush;
    slot.flush = history_.begin_flush();
  } else if (dice < shape_.writes + shape_.flushes + shape_.zeroes) {
    op.kind = prng_.coin() ? block::OpKind::unmap : block::OpKind::write_zeroes;
    op.may_unmap = prng_.coin();
    slot.write = history_.begin_zero(op.lba, op.blocks);
  } else {
    op.kind = block::OpKind::read;
    make_data(slot, blocks);
    slot.read = history_.begin_read(op.lba, op.blocks);
  }
}

void Workload::end(Slot& slot) {
  slot.busy = false;
  --outstanding_;
  if (!verifying_) ++ended_;
  world_.note(Event::user, (static_cast<std::uint64_t>(slot.op.kind) << 40) ^ slot.op.lba.value());
  judge(slot);
  slot.memory.reset();
}

void Workload::judge(Slot& slot) {
  const bool succeeded = slot.op.status == block::OpStatus::ok;
  if (!succeeded) ++failures_;
  const bool read_back = slot.op.kind == block::OpKind::read && verifying_;
  if (!succeeded && read_back && shape_.torn_reads_fail && history_.may_be_torn(slot.op.lba)) {
    torn_.push_back(slot.op.lba.value());
    return;
  }
  if (!succeeded && !shape_.tolerant && problem_.empty()) {
    problem_ = "an operation of kind " + std::to_string(static_cast<int>(slot.op.kind)) + " at block " +
               std::to_string(slot.op.lba.value()) + " failed with status " +
               std::to_string(static_cast<int>(slot.op.status));
  }
  switch (slot.op.kind) {
    case block::OpKind::read:
      if (!succeeded || !problem_.empty()) return;
      problem_ = history_.end_read(slot.read, Bytes(slot.memory.get(), slot.bytes));
      if (!problem_.empty() && read_back && shape_.blocks_may_be_blank && history_.may_be_torn(slot.op.lba)) {
        problem_.clear();
        torn_.push_back(slot.op.lba.value());
      }
      return;
    case block::OpKind::flush:
      history_.end_flush(slot.flush, succeeded);
      return;
    case block::OpKind::query:
    case block::OpKind::change_key:
      return;
    case block::OpKind::write:
    case block::OpKind::unmap:
    case block::OpKind::write_zeroes:
      history_.end_write(slot.write, succeeded ? Outcome::acknowledged : Outcome::failed, slot.op.fua);
      return;
  }
}

}  // namespace perilune::sim
