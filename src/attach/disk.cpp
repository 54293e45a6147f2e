// SPDX-License-Identifier: Apache-2.0
#include "attach/disk.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/assert.hpp"

namespace perilune::attach {

namespace {

int errno_of(const block::BlockOp& op) noexcept {
  switch (op.status) {
    case block::OpStatus::ok:
      return 0;
    case block::OpStatus::no_space:
      return ENOSPC;
    case block::OpStatus::write_protected:
      return EROFS;
    case block::OpStatus::unsupported:
      return EOPNOTSUPP;
    case block::OpStatus::out_of_range:
      return EINVAL;
    case block::OpStatus::read_error:
    case block::OpStatus::write_error:
    case block::OpStatus::not_ready:
    case block::OpStatus::aborted:
    case block::OpStatus::guard_failed:
    case block::OpStatus::application_tag_failed:
    case block::OpStatus::reference_tag_failed:
      break;
  }
  return EIO;
}

bool is_change(DiskRequest::Kind kind) noexcept {
  return kind != DiskRequest::Kind::read && kind != DiskRequest::Kind::flush;
}

}  // namespace

Result<std::unique_ptr<Disk>> Disk::create(block::Channel& channel, bool read_only) {
  const block::Geometry& geometry = channel.geometry();
  const std::uint32_t block_size = geometry.block_size_bytes;
  if (!std::has_single_bit(block_size) || block_size < 512 || block_size > 4096) {
    return fail(Errc::unsupported, "a block device needs blocks of 512 to 4096 bytes, this unit has " +
                                       std::to_string(block_size));
  }
  if (geometry.blocks.value() == 0 || geometry.blocks.value() > (std::uint64_t{1} << 62) / block_size) {
    return fail(Errc::unsupported, "the unit's capacity cannot be that of a block device");
  }
  return std::unique_ptr<Disk>(new Disk(channel, read_only));
}

Disk::Disk(block::Channel& channel, bool read_only)
    : channel_(channel),
      block_size_(channel.geometry().block_size_bytes),
      size_bytes_(channel.geometry().blocks.value() * block_size_),
      granularity_bytes_(static_cast<std::uint32_t>(std::clamp<std::uint64_t>(
          std::uint64_t{channel.geometry().unmap_granularity_blocks} * block_size_, block_size_, 1u << 30))),
      max_step_bytes_(
          channel.geometry().max_transfer_blocks == 0
              ? max_transfer_bytes
              : std::min<std::uint64_t>(std::uint64_t{channel.geometry().max_transfer_blocks} * block_size_,
                                        max_transfer_bytes)),
      read_only_(read_only || channel.geometry().read_only),
      bounce_(block_size_) {}

Disk::~Disk() { PERILUNE_ASSERT(in_flight_ == 0); }

AttachStatistics Disk::statistics() const noexcept {
  AttachStatistics now = statistics_;
  now.in_flight = in_flight_;
  return now;
}

int Disk::check(const DiskRequest& request) noexcept {
  int error = 0;
  if (request.kind == Kind::flush) return 0;
  const bool transfer = request.kind == Kind::read || request.kind == Kind::write;
  if (is_change(request.kind) && read_only_) {
    error = EROFS;
  } else if (request.offset % block_size_ != 0 || request.length % block_size_ != 0 || request.length == 0 ||
             request.offset > size_bytes_ || request.length > size_bytes_ - request.offset ||
             (transfer && request.length > max_transfer_bytes)) {
    error = EINVAL;
  }
  if (error != 0) ++statistics_.errors;
  return error;
}

void Disk::count(const DiskRequest& request) noexcept {
  switch (request.kind) {
    case Kind::read:
      ++statistics_.reads;
      break;
    case Kind::write:
      ++statistics_.writes;
      if (request.partial_) ++statistics_.unaligned_writes;
      break;
    case Kind::flush:
      ++statistics_.flushes;
      break;
    case Kind::discard:
    case Kind::punch:
      ++statistics_.unmaps;
      break;
    case Kind::zero:
      ++statistics_.write_zeroes;
      break;
  }
}

void Disk::begin(DiskRequest& request) {
  request.disk_ = this;
  request.op_.done = Delegate<void(block::BlockOp&)>::to<&DiskRequest::on_operation_done>(request);
  request.bounce_is_old_ = false;
  request.position_ = 0;
  request.step_bytes_ = 0;
  request.partial_ =
      request.kind == Kind::write && (request.offset % block_size_ != 0 || request.length % block_size_ != 0);
  ++in_flight_;
  count(request);
  if (is_change(request.kind))
    begin_change(request);
  else
    run(request);
}

// --- changes, and the order between a partial block and everything that overlaps it

void Disk::begin_change(DiskRequest& request) {
  if (conflicts(request)) {
    blocked_.push_back(request);
    return;
  }
  changing_.push_back(request);
  if (request.partial_) partial_write_ = &request;
  run(request);
}

bool Disk::conflicts(const DiskRequest& request) {
  if (!request.partial_ && partial_write_ == nullptr) return false;
  if (request.partial_ && partial_write_ != nullptr) return true;  // one bounce block
  const std::uint64_t begin = block_floor(request.offset);
  const std::uint64_t end = block_ceil(request.offset + request.length);
  const auto overlaps = [&](const DiskRequest& other) {
    return block_floor(other.offset) < end && begin < block_ceil(other.offset + other.length);
  };
  if (!request.partial_) return overlaps(*partial_write_);
  return changing_.find(overlaps) != nullptr;
}

// A change has ended: those that waited for it may go, in their order.
void Disk::start_blocked() {
  if (unblocking_) return;
  unblocking_ = true;
  for (bool again = true; again;) {
    again = false;
    if (DiskRequest* request =
            blocked_.find([&](const DiskRequest& waiting) { return !conflicts(waiting); })) {
      IntrusiveList<DiskRequest>::remove(*request);
      begin_change(*request);
      again = true;
    }
  }
  unblocking_ = false;
}

// --- operations

void Disk::run(DiskRequest& request) {
  while (next_step(request)) {
    request.op_.status = block::OpStatus::ok;
    request.op_.os_errno = 0;
    if (!channel_.submit(request.op_)) return;
    if (request.op_.status != block::OpStatus::ok) return finish(request, errno_of(request.op_));
    request.position_ += request.step_bytes_;
  }
  finish(request, 0);
}

void DiskRequest::on_operation_done(block::BlockOp& done_op) {
  if (done_op.status != block::OpStatus::ok) return disk_->finish(*this, errno_of(done_op));
  position_ += step_bytes_;
  disk_->run(*this);
}

// Prepares the next operation of the request; false when all are done.
bool Disk::next_step(DiskRequest& request) {
  switch (request.kind) {
    case Kind::read:
      return next_read(request);
    case Kind::write:
      return next_write(request);
    case Kind::discard:
      return next_discard(request);
    case Kind::punch:
      return next_punch(request);
    case Kind::zero:
      return next_zero(request);
    case Kind::flush:
      break;
  }
  return next_flush(request);
}

void Disk::set_operation(DiskRequest& request, block::OpKind kind, std::uint64_t from_byte,
                         std::uint64_t bytes) {
  request.op_.kind = kind;
  request.op_.fua = request.fua && kind != block::OpKind::read && kind != block::OpKind::flush;
  request.op_.may_unmap = request.kind == Kind::punch || request.may_unmap;
  request.op_.lba = Lba(from_byte / block_size_);
  request.op_.blocks = BlockCount(bytes / block_size_);
  request.op_.data = {};
  request.step_bytes_ = bytes;
}

bool Disk::next_read(DiskRequest& request) {
  const std::uint64_t begin = block_floor(request.offset);
  const std::uint64_t total = block_ceil(request.offset + request.length) - begin;
  if (request.position_ == total) return false;
  const std::uint64_t step = std::min(total - request.position_, max_step_bytes_);
  set_operation(request, block::OpKind::read, begin + request.position_, step);
  request.op_.data = {request.iov.data(), request.map_pages(request.position_, step, 0)};
  return true;
}

bool Disk::next_write(DiskRequest& request) {
  if (request.position_ == request.length) return false;
  const std::uint64_t at = request.offset + request.position_;
  const std::uint64_t left = request.length - request.position_;
  const std::uint64_t in_block = at % block_size_;
  if (in_block == 0 && left >= block_size_) {
    const std::uint64_t step = std::min(block_floor(left), max_step_bytes_);
    set_operation(request, block::OpKind::write, at, step);
    request.op_.data = {request.iov.data(), request.map_pages(request.position_, step, 0)};
    return true;
  }
  if (!request.bounce_is_old_) {
    set_operation(request, block::OpKind::read, block_floor(at), block_size_);
    request.step_bytes_ = 0;
    request.bounce_is_old_ = true;
  } else {
    const std::uint64_t piece = std::min(left, block_size_ - in_block);
    const std::size_t count = request.map_pages(request.position_, piece, 0);
    std::uint8_t* to = bounce_.data() + in_block;
    for (std::size_t i = 0; i < count; ++i) {
      std::memcpy(to, request.iov[i].iov_base, request.iov[i].iov_len);
      to += request.iov[i].iov_len;
    }
    set_operation(request, block::OpKind::write, block_floor(at), block_size_);
    request.step_bytes_ = piece;
    request.bounce_is_old_ = false;
  }
  request.iov[0] = {bounce_.data(), block_size_};
  request.op_.data = {request.iov.data(), 1};
  return true;
}

bool Disk::next_flush(DiskRequest& request) {
  if (request.position_ != 0) return false;
  set_operation(request, block::OpKind::flush, 0, 0);
  request.step_bytes_ = 1;  // one step
  return true;
}

bool Disk::next_discard(DiskRequest& request) {
  if (request.position_ != 0) return false;
  const std::uint64_t granule = granularity_bytes_;
  const std::uint64_t begin = (request.offset + granule - 1) / granule * granule;
  const std::uint64_t end = (request.offset + request.length) / granule * granule;
  if (begin >= end || !channel_.geometry().thin) return false;
  set_operation(request, block::OpKind::unmap, begin, end - begin);
  return true;
}

bool Disk::next_punch(DiskRequest& request) {
  if (!channel_.geometry().unmap_zeroes) return next_zero(request);
  if (request.position_ == request.length) return false;
  const std::uint64_t at = request.offset + request.position_;
  const std::uint64_t left = request.length - request.position_;
  const std::uint64_t into_granule = at % granularity_bytes_;
  if (into_granule == 0 && left >= granularity_bytes_) {
    set_operation(request, block::OpKind::unmap, at, left - left % granularity_bytes_);
  } else {
    set_operation(request, block::OpKind::write_zeroes, at,
                  std::min(left, granularity_bytes_ - into_granule));
  }
  return true;
}

bool Disk::next_zero(DiskRequest& request) {
  if (request.position_ == request.length) return false;
  set_operation(request, block::OpKind::write_zeroes, request.offset, request.length);
  return true;
}

std::size_t DiskRequest::map_pages(std::uint64_t from, std::uint64_t bytes, std::size_t first) noexcept {
  std::size_t count = 0;
  while (bytes != 0) {
    const std::size_t page = from / page_bytes;
    const std::size_t into = from % page_bytes;
    const std::size_t piece = std::min<std::uint64_t>(bytes, page_bytes - into);
    PERILUNE_ASSERT(page < pages.size() && first + count < iov.size());
    iov[first + count++] = {pages[page] + into, piece};
    from += piece;
    bytes -= piece;
  }
  return count;
}

void Disk::finish(DiskRequest& request, int error) {
  const bool was_change = is_change(request.kind);
  request.unlink();  // from changing_
  if (partial_write_ == &request) partial_write_ = nullptr;
  if (error != 0) ++statistics_.errors;
  --in_flight_;
  request.done(error);  // the request may be used for another one at once
  if (was_change && !blocked_.empty()) start_blocked();
}

}  // namespace perilune::attach
