// SPDX-License-Identifier: Apache-2.0
#include "block/filters/encryption.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/assert.hpp"
#include "block/admission.hpp"
#include "block/backends/file_channel.hpp"

namespace perilune::block {
namespace {

constexpr std::size_t memory_alignment = 4096;  // what O_DIRECT may want
constexpr std::size_t max_block_bytes = 4104;

bool is_zero(Bytes bytes) noexcept {
  return bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

struct Free {
  void operator()(std::uint8_t* memory) const noexcept { std::free(memory); }
};

// Calls visit() with each block of `pieces` in one run: where it lies, or, when the pieces cut it, a copy
// that is written back.
template <class Visit>
void for_each_block(std::span<const iovec> pieces, std::size_t block_bytes, Visit visit) {
  std::array<std::uint8_t, max_block_bytes> copy;
  std::size_t gathered = 0;
  std::array<std::pair<std::uint8_t*, std::size_t>, 65> parts;  // of the block that is cut
  std::size_t count = 0;
  for (const iovec& piece : pieces) {
    auto* at = static_cast<std::uint8_t*>(piece.iov_base);
    for (std::size_t left = piece.iov_len; left != 0;) {
      if (gathered == 0 && left >= block_bytes) {
        visit(MutableBytes(at, block_bytes));
        at += block_bytes;
        left -= block_bytes;
        continue;
      }
      const std::size_t bytes = std::min(left, block_bytes - gathered);
      std::memcpy(copy.data() + gathered, at, bytes);
      PERILUNE_ASSERT(count < parts.size());
      parts[count++] = {at, bytes};
      gathered += bytes;
      at += bytes;
      left -= bytes;
      if (gathered != block_bytes) continue;
      visit(MutableBytes(copy.data(), block_bytes));
      const std::uint8_t* from = copy.data();
      for (std::size_t i = 0; i < count; ++i) {
        std::memcpy(parts[i].first, from, parts[i].second);
        from += parts[i].second;
      }
      gathered = count = 0;
    }
  }
}

}  // namespace

struct EncryptionFilter::Sealed {
  std::span<const iovec> data;  // the caller's
  std::unique_ptr<std::uint8_t, Free> memory;
  std::size_t memory_bytes = 0;
  iovec piece{};
};

Result<std::unique_ptr<EncryptionFilter>> EncryptionFilter::create(std::unique_ptr<Channel> inner,
                                                                   std::shared_ptr<DiskKey> key,
                                                                   std::unique_ptr<runtime::BlockFile> file,
                                                                   runtime::Random& random) {
  const Geometry slots = file_geometry(file->properties(), key_slot_bytes);
  auto file_channel = make_file_channel(std::move(file), slots, std::make_shared<FlushHealth>());
  std::unique_ptr<EncryptionFilter> self(
      new EncryptionFilter(std::move(inner), std::move(key), std::move(file_channel), random));
  if (Status status = self->renew(); !status) return tl::unexpected(status.error());
  return self;
}

EncryptionFilter::EncryptionFilter(std::unique_ptr<Channel> inner, std::shared_ptr<DiskKey> key,
                                   std::unique_ptr<Channel> file, runtime::Random& random)
    : Filter(std::move(inner)), key_(std::move(key)), file_(std::move(file)), random_(random) {
  PERILUNE_ASSERT(geometry().block_size_bytes <= max_block_bytes);
  own_geometry().encrypted = true;
}

EncryptionFilter::~EncryptionFilter() {
  PERILUNE_ASSERT(waiting_.empty() && memory_bytes_ == 0 && change_ == nullptr);
}

// The key as it is now.
Status EncryptionFilter::renew() {
  const std::uint64_t number = key_->number();
  auto xts = crypto::Xts::create(key_->key().reveal());
  if (!xts) return tl::unexpected(xts.error());
  xts_ = std::move(*xts);
  number_ = number;
  return {};
}

bool EncryptionFilter::begin(BlockOp& op) {
  if (op.kind == OpKind::change_key) return change_key(op);
  if (const std::uint64_t number = key_->number(); number != number_) {
    if (number == 0 || !renew()) {
      op.status =
          op.kind == OpKind::read || op.kind == OpKind::query ? OpStatus::read_error : OpStatus::write_error;
      op.os_errno = EIO;
      return true;
    }
  }
  if (op.kind != OpKind::write) return forward(op);
  if (const auto over = refuse_or_skip(geometry(), op)) {
    op.status = *over;
    return true;
  }
  // One operation always fits, however large: otherwise it would wait for ever.
  if (!waiting_.empty() ||
      (memory_bytes_ != 0 && memory_bytes_ + byte_length(geometry(), op) > memory_limit_bytes)) {
    waiting_.push_back(op);
    return false;
  }
  return write(op);
}

bool EncryptionFilter::write(BlockOp& op) {
  seal(op);
  return forward(op);
}

std::unique_ptr<EncryptionFilter::Sealed> EncryptionFilter::take_memory(std::size_t bytes) {
  const auto fits = [bytes](const std::unique_ptr<Sealed>& spare) { return spare->memory_bytes >= bytes; };
  if (const auto found = std::find_if(spare_.rbegin(), spare_.rend(), fits); found != spare_.rend()) {
    std::unique_ptr<Sealed> sealed = std::exchange(*found, std::move(spare_.back()));
    spare_.pop_back();
    spare_bytes_ -= sealed->memory_bytes;
    return sealed;
  }
  auto sealed = std::make_unique<Sealed>();
  sealed->memory_bytes = (bytes + memory_alignment - 1) / memory_alignment * memory_alignment;
  sealed->memory.reset(
      static_cast<std::uint8_t*>(std::aligned_alloc(memory_alignment, sealed->memory_bytes)));
  PERILUNE_ASSERT(sealed->memory != nullptr);
  return sealed;
}

void EncryptionFilter::give_back(std::unique_ptr<Sealed> sealed) {
  if (spare_bytes_ + sealed->memory_bytes > spare_limit_bytes) return;
  spare_bytes_ += sealed->memory_bytes;
  spare_.push_back(std::move(sealed));
}

void EncryptionFilter::seal(BlockOp& op) {
  const std::size_t block = geometry().block_size_bytes;
  const std::size_t bytes = byte_length(geometry(), op);
  std::unique_ptr<Sealed> sealed = take_memory(bytes);
  sealed->data = op.data;
  sealed->piece = {sealed->memory.get(), bytes};
  memory_bytes_ += sealed->memory_bytes;
  std::uint8_t* to = sealed->memory.get();
  std::uint64_t lba = op.lba.value();
  std::size_t gathered = 0;  // at `to`, of a block that the pieces cut
  for (const iovec& piece : op.data) {
    const auto* from = static_cast<const std::uint8_t*>(piece.iov_base);
    for (std::size_t left = piece.iov_len; left != 0;) {
      const std::size_t part = std::min(left, block - gathered);
      if (part == block) {
        xts_->encrypt(lba, {from, block}, to);
      } else {
        std::memcpy(to + gathered, from, part);
        gathered += part;
        if (gathered == block) xts_->encrypt(lba, {to, block}, to);
      }
      if (part == block || gathered == block) {
        to += block;
        ++lba;
        gathered = 0;
      }
      from += part;
      left -= part;
    }
  }
  PERILUNE_ASSERT(to == sealed->memory.get() + bytes && gathered == 0);
  op.data = {&sealed->piece, 1};
  word(op) = reinterpret_cast<std::uint64_t>(sealed.release());
}

void EncryptionFilter::open_blocks(const BlockOp& op) noexcept {
  std::uint64_t lba = op.lba.value();
  for_each_block(op.data, geometry().block_size_bytes, [&](MutableBytes block) {
    if (!is_zero(block)) xts_->decrypt(lba, block, block.data());
    ++lba;
  });
}

void EncryptionFilter::ended(BlockOp& op) {
  if (op.kind == OpKind::read && op.status == OpStatus::ok && op.blocks.value() != 0) open_blocks(op);
  if (op.kind != OpKind::write) return;
  std::unique_ptr<Sealed> sealed(reinterpret_cast<Sealed*>(word(op)));
  op.data = sealed->data;
  memory_bytes_ -= sealed->memory_bytes;
  give_back(std::move(sealed));
  start_waiting();
}

// In the order in which they came. Some wait only while others are under way, so this is never inside
// submit().
void EncryptionFilter::start_waiting() {
  while (!waiting_.empty() &&
         (memory_bytes_ == 0 ||
          memory_bytes_ + byte_length(geometry(), waiting_.front()) <= memory_limit_bytes)) {
    BlockOp& op = waiting_.pop_front();
    if (write(op)) op.done(op);
  }
}

// ---- another key

bool EncryptionFilter::change_key(BlockOp& op) {
  op.status = OpStatus::ok;
  op.os_errno = 0;
  if (geometry().read_only) {
    op.status = OpStatus::write_protected;
    return true;
  }
  std::uint64_t number = 0;
  if (!key_->begin_change(number)) {
    op.status = OpStatus::not_ready;
    return true;
  }
  change_ = &op;
  outcome_ = OpStatus::ok;
  outcome_errno_ = 0;
  std::array<std::uint8_t, crypto::Xts::key_bytes> key{};
  random_.fill(key);
  next_ = {.disk = key_->disk(), .number = number, .key = crypto::Secret(key)};
  crypto::wipe(key);
  old_slot_ = key_->slot();
  image_ = std::make_unique<std::uint8_t[]>(key_slot_bytes);
  prepare(Step::make);
  if (!go_on()) return false;
  change_ended(outcome_, outcome_errno_);
  return true;
}

void EncryptionFilter::prepare(Step step) {
  step_ = step;
  const MutableBytes image(image_.get(), key_slot_bytes);
  if (step == Step::make) encode_key_slot(next_, image);
  else crypto::wipe(image);
  const std::uint32_t slot = step == Step::destroy ? old_slot_ : 1 - old_slot_;
  piece_ = {image_.get(), key_slot_bytes};
  op_.kind = OpKind::write;
  op_.fua = true;
  op_.lba = Lba(slot);
  op_.blocks = BlockCount(1);
  op_.data = {&piece_, 1};
  op_.done = Delegate<void(BlockOp&)>::raw(this, key_written);
}

bool EncryptionFilter::go_on() {
  while (file_->submit(op_)) {
    if (step_ended()) return true;
  }
  return false;
}

// What the end of a write means. True: the change is over.
bool EncryptionFilter::step_ended() {
  const bool good = op_.status == OpStatus::ok;
  if (!good && outcome_ == OpStatus::ok) {
    outcome_ = OpStatus::write_error;
    outcome_errno_ = op_.os_errno;
  }
  switch (step_) {
    case Step::make:
      if (good) key_->adopt(std::move(next_));
      prepare(good ? Step::destroy : Step::take_back);
      return false;
    case Step::destroy:
      return true;  // where it failed, the old key is there still: the next change overwrites it
    case Step::take_back:
      // What could not be written may be there all the same, and would count after a crash.
      if (!good) key_->lose();
      return true;
  }
  return true;
}

void EncryptionFilter::change_ended(OpStatus status, int os_errno) {
  crypto::wipe({image_.get(), key_slot_bytes});
  image_.reset();
  next_ = {};
  BlockOp& op = *std::exchange(change_, nullptr);
  op.status = status;
  op.os_errno = os_errno;
  key_->end_change();
}

void EncryptionFilter::key_written(void* context, BlockOp&) {
  auto& self = *static_cast<EncryptionFilter*>(context);
  if (!self.step_ended() && !self.go_on()) return;
  BlockOp& op = *self.change_;
  self.change_ended(self.outcome_, self.outcome_errno_);
  op.done(op);
}

}  // namespace perilune::block
