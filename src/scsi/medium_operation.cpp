// SPDX-License-Identifier: Apache-2.0
#include "scsi/medium_operation.hpp"

#include <algorithm>
#include <cstdlib>
#include <limits>

#include "base/assert.hpp"
#include "scsi/device.hpp"
#include "scsi/handlers.hpp"
#include "scsi/logical_unit.hpp"

namespace perilune::scsi {
namespace {

constexpr std::size_t buffer_bytes = 262144;
constexpr std::size_t buffer_alignment = 4096;  // what O_DIRECT may want

using Kind = MediumPlan::Kind;
using Method = MediumPlan::Method;
using State = MediumNews::State;

Sense failure(Kind kind, bool of_the_command) noexcept {
  AdditionalSense additional = asc::sanitize_command_failed;
  if (kind == Kind::format)
    additional = of_the_command ? asc::format_command_failed : asc::medium_format_corrupted;
  return {.key = SenseKey::medium_error,
          .additional = additional,
          .information = std::nullopt,
          .field = std::nullopt};
}

// SANITIZE and FORMAT UNIT are how one gets out of a failure, each of its own.
bool repairs(const CommandRow& row, Kind kind) noexcept {
  return row.opcode == 0x48 || (row.opcode == 0x04 && kind == Kind::format);
}

bool reaches_medium(const CommandRow& row) noexcept {
  switch (row.opcode) {
    case 0x00:  // TEST UNIT READY tells whether the medium can be reached
    case 0x04:
    case 0x48:  // FORMAT UNIT, SANITIZE
    case 0x34:
    case 0x90:  // PRE-FETCH
    case 0x35:
    case 0x91:
      return true;  // SYNCHRONIZE CACHE
    default:
      break;
  }
  switch (row.serial) {
    case SerialClass::read:
    case SerialClass::write:
    case SerialClass::range:
    case SerialClass::exclusive:
      return true;
    default:
      return false;
  }
}

}  // namespace

void MediumOperation::Free::operator()(std::uint8_t* memory) const noexcept { std::free(memory); }

// ---- what others see of it

std::uint16_t MediumOperation::progress() const noexcept {
  constexpr std::uint64_t most = std::numeric_limits<std::uint16_t>::max();
  const std::uint64_t unit = work_ >> 16;
  const std::uint64_t parts = unit != 0 ? work_done_ / unit : (work_done_ << 16) / work_;
  return static_cast<std::uint16_t>(std::min(parts, most));
}

std::optional<Sense> MediumOperation::condition() const noexcept {
  switch (news_.state) {
    case State::idle:
      return std::nullopt;
    case State::failed:
      return failure(news_.kind, false);
    case State::running:
      break;
  }
  return Sense{
      .key = SenseKey::not_ready,
      .additional = news_.kind == Kind::sanitize ? asc::sanitize_in_progress : asc::format_in_progress,
      .information = std::nullopt,
      .field = std::nullopt,
      .progress = news_.progress->load(std::memory_order_relaxed)};
}

std::optional<Sense> MediumOperation::refusal(const CommandRow& row) const noexcept {
  if (news_.state == State::idle || row.allows(allow::unit_attention))
    return std::nullopt;  // INQUIRY, REPORT LUNS, REQUEST SENSE
  if (failed() && (repairs(row, news_.kind) || !reaches_medium(row))) return std::nullopt;
  return condition();
}

std::optional<Sense> MediumOperation::refusal_of_data() const noexcept { return condition(); }

bool MediumOperation::exit_failure_mode() noexcept {
  if (!failed() || news_.kind != Kind::sanitize) return true;
  if (!news_.unrestricted) return false;
  ++news_.number;
  news_.state = State::idle;
  return true;
}

// ---- its work

void MediumOperation::begin(const MediumPlan& plan) {
  PERILUNE_ASSERT(!running() && !at_work() && waiter_ == nullptr);
  plan_ = plan;
  news_ = {.number = news_.number + 1,
           .state = State::running,
           .kind = plan.kind,
           .unrestricted = plan.unrestricted,
           .progress = std::make_shared<std::atomic<std::uint16_t>>(std::uint16_t{0})};
  stopping_ = false;
  const block::Geometry& geometry = unit_.geometry();
  blocks_ = geometry.blocks.value();
  position_ = work_done_ = 0;
  extent_end_ = geometry.thin ? 0 : blocks_;
  pass_ = 0;
  work_ = blocks_;
  if (plan_.method == Method::overwrite) work_ *= plan_.passes;
  if (plan_.method == Method::wipe && geometry.thin) work_ *= 2;
  buffer_blocks_ = std::min<std::uint64_t>(buffer_bytes / geometry.block_size_bytes,
                                           advertised::max_transfer_blocks(unit_));
  buffer_.reset(static_cast<std::uint8_t*>(std::aligned_alloc(buffer_alignment, buffer_bytes)));
  PERILUNE_ASSERT(buffer_ != nullptr);
  fill();
  stage_ = first_stage();
}

MediumOperation::Stage MediumOperation::first_stage() const noexcept {
  switch (plan_.method) {
    case Method::overwrite:
      return Stage::writing;
    case Method::wipe:
      return unit_.geometry().thin ? Stage::asking : Stage::writing;
    case Method::clear:
      return Stage::erasing;
    case Method::forget_key:
      return Stage::changing_key;
  }
  return Stage::done;
}

// The blocks of this pass. Inverted in every second one, counted from the last (SBC-4 5.33.2).
void MediumOperation::fill() {
  const std::size_t block = unit_.geometry().block_size_bytes;
  const bool inverted = plan_.invert && (plan_.passes - 1 - pass_) % 2 != 0;
  const std::uint8_t flip = inverted ? 0xff : 0x00;
  for (std::size_t i = 0; i < block; ++i) {
    const std::uint8_t byte =
        plan_.pattern_bytes == 0 ? std::uint8_t{0} : plan_.pattern[i % plan_.pattern_bytes];
    buffer_[i] = byte ^ flip;
  }
  for (std::size_t at = block; at < buffer_blocks_ * block; at += block)
    std::copy_n(&buffer_[0], block, &buffer_[at]);
}

void MediumOperation::advance() {
  for (;;) {
    prepare();
    news_.progress->store(progress(), std::memory_order_relaxed);
    if (stage_ == Stage::done || stopping_) return finish(!stopping_);
    op_.status = block::OpStatus::ok;
    op_.os_errno = 0;
    op_.done = Delegate<void(block::BlockOp&)>::raw(this, operation_ended);
    if (!unit_.channel().submit(op_) || unit_.device().put_off(unit_, op_)) return;
    if (!ended()) return finish(false);
  }
}

void MediumOperation::operation_ended(void* context, block::BlockOp&) {
  auto& self = *static_cast<MediumOperation*>(context);
  if (self.ended())
    self.advance();
  else
    self.finish(false);
}

void MediumOperation::prepare() {
  op_.fua = op_.may_unmap = false;
  op_.data = {};
  op_.protection = {};
  switch (stage_) {
    case Stage::changing_key:
      op_.kind = block::OpKind::change_key;
      op_.lba = Lba(0);
      op_.blocks = BlockCount(0);
      return;
    case Stage::asking:
      op_.kind = block::OpKind::query;
      op_.lba = Lba(position_);
      op_.blocks = BlockCount(blocks_ - position_);
      return;
    case Stage::writing:
      return prepare_write(plan_.method == Method::wipe ? extent_end_ : blocks_);
    case Stage::flushing_pass:
    case Stage::flushing:
      return prepare_flush();
    case Stage::erasing:
      return prepare_erase();
    case Stage::done:
      return;
  }
}

void MediumOperation::prepare_write(std::uint64_t end) {
  const std::uint64_t blocks = std::min(buffer_blocks_, end - position_);
  op_.kind = block::OpKind::write;
  op_.lba = Lba(position_);
  op_.blocks = BlockCount(blocks);
  if (plan_.kind == Kind::format) op_.protection.kind = block::Protection::Kind::blank;  // SBC-3 5.3.1
  piece_ = {buffer_.get(), static_cast<std::size_t>(blocks) * unit_.geometry().block_size_bytes};
  op_.data = {&piece_, 1};
}

void MediumOperation::prepare_flush() noexcept {
  op_.kind = block::OpKind::flush;
  op_.lba = Lba(0);
  op_.blocks = BlockCount(0);
}

void MediumOperation::prepare_erase() noexcept {
  op_.kind = plan_.method == Method::wipe ? block::OpKind::unmap : block::OpKind::write_zeroes;
  op_.may_unmap = true;
  op_.lba = Lba(position_);
  op_.blocks = BlockCount(std::min(advertised::max_erase_blocks(unit_), blocks_ - position_));
}

// Where all is written that was to be written.
void MediumOperation::after_data() {
  position_ = 0;
  if (unit_.geometry().write_cache)
    stage_ = Stage::flushing_pass;
  else
    next_pass();
}

void MediumOperation::next_pass() {
  if (plan_.method == Method::wipe) {
    stage_ = unit_.geometry().thin ? Stage::erasing : Stage::done;
  } else if (++pass_ < plan_.passes) {
    fill();
    stage_ = Stage::writing;
  } else {
    stage_ = Stage::done;
  }
}

bool MediumOperation::ended() {
  const bool good = op_.status == block::OpStatus::ok;
  const bool unsupported = op_.status == block::OpStatus::unsupported;
  const std::uint64_t blocks = op_.blocks.value();
  switch (stage_) {
    case Stage::changing_key:
      if (!good) return false;
      plan_.method = Method::clear;
      stage_ = Stage::erasing;
      return true;
    case Stage::asking: {
      if (!good && !unsupported) return false;
      const bool mapped = unsupported || op_.mapped;
      extent_end_ = unsupported ? blocks_ : position_ + op_.alike.value();
      if (mapped) {
        stage_ = Stage::writing;
        return true;
      }
      work_done_ += extent_end_ - position_;
      position_ = extent_end_;
      if (position_ == blocks_) after_data();
      return true;
    }
    case Stage::writing:
      if (!good) return false;
      position_ += blocks;
      work_done_ += blocks;
      if (position_ == blocks_)
        after_data();
      else if (plan_.method == Method::wipe && position_ == extent_end_)
        stage_ = Stage::asking;
      return true;
    case Stage::flushing_pass:
      if (!good) {
        unit_.state().flush_failed = true;
        return false;
      }
      next_pass();
      return true;
    case Stage::erasing:
      if (!good && !unsupported) return false;
      if (unsupported && plan_.method == Method::clear) {  // then by writing
        plan_.method = Method::overwrite;
        stage_ = Stage::writing;
        return true;
      }
      position_ += blocks;
      work_done_ += blocks;
      if (position_ == blocks_) stage_ = unit_.geometry().write_cache ? Stage::flushing : Stage::done;
      return true;
    case Stage::flushing:
      if (!good) {
        unit_.state().flush_failed = true;
        return false;
      }
      stage_ = Stage::done;
      return true;
    case Stage::done:
      break;
  }
  return true;
}

void MediumOperation::finish(bool good) {
  news_.state = good ? State::idle : State::failed;
  stage_ = Stage::done;
  buffer_.reset();
  unit_.space_moved();
  unit_.device().medium_ended(unit_);
}

}  // namespace perilune::scsi
