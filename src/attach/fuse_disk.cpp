// SPDX-License-Identifier: Apache-2.0
// The life of a request: receive, operations of the channel, answer. What the kernel asks beside I/O is in
// fuse_control.cpp.
#include "attach/fuse_disk.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/assert.hpp"

namespace perilune::attach {

namespace {

// Exactly what precedes the payload of a WRITE, so that the payload begins on a page.
constexpr std::size_t write_prefix_bytes = sizeof(fuse_in_header) + sizeof(fuse_write_in);
constexpr int receive_batch = 64;  // requests per turn

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

}  // namespace

Result<std::unique_ptr<FuseDisk>> FuseDisk::create(runtime::Loop& loop, block::Channel& channel,
                                                   const FuseDiskOptions& options) {
  const block::Geometry& geometry = channel.geometry();
  const std::uint32_t block_size = geometry.block_size_bytes;
  if (!std::has_single_bit(block_size) || block_size < 512 || block_size > 4096) {
    return fail(Errc::unsupported, "a block device needs blocks of 512 to 4096 bytes, this unit has " +
                                       std::to_string(block_size));
  }
  if (geometry.blocks.value() == 0 || geometry.blocks.value() > (std::uint64_t{1} << 62) / block_size) {
    return fail(Errc::unsupported, "the unit's capacity cannot be that of a block device");
  }
  // The landing area, the largest read, and something to go on with.
  auto pool = BufferPool::create(std::max(options.pool_pages, 3 * max_iovecs));
  if (!pool) return tl::unexpected(pool.error());
  // A helper process that is forked meanwhile has no use for payload, and would make us copy it on the next
  // write.
  const MutableBytes region = (*pool)->region();
  static_cast<void>(madvise(region.data(), region.size(), MADV_DONTFORK));
  return std::unique_ptr<FuseDisk>(new FuseDisk(loop, channel, options, std::move(*pool)));
}

FuseDisk::FuseDisk(runtime::Loop& loop, block::Channel& channel, const FuseDiskOptions& options,
                   std::unique_ptr<BufferPool> pool)
    : loop_(loop),
      channel_(channel),
      block_size_(channel.geometry().block_size_bytes),
      size_bytes_(channel.geometry().blocks.value() * block_size_),
      granularity_bytes_(static_cast<std::uint32_t>(std::clamp<std::uint64_t>(
          std::uint64_t{channel.geometry().unmap_granularity_blocks} * block_size_, block_size_, 1u << 30))),
      max_step_bytes_(
          channel.geometry().max_transfer_blocks == 0
              ? max_fuse_transfer_bytes
              : std::min<std::uint64_t>(std::uint64_t{channel.geometry().max_transfer_blocks} * block_size_,
                                        max_fuse_transfer_bytes)),
      read_only_(options.read_only || channel.geometry().read_only),
      pool_(std::move(pool)),
      requests_(max_fuse_requests),
      bounce_(block_size_),
      drained_hook_(Delegate<void()>::to<&FuseDisk::check_drained>(*this)) {
  for (Request& request : requests_) {
    request.disk = this;
    request.op.done = Delegate<void(block::BlockOp&)>::to<&Request::on_done>(request);
    request.pages_waiter.ready = Delegate<void()>::to<&Request::on_pages_ready>(request);
    free_.push_back(request);
  }
  landing_waiter_.ready = Delegate<void()>::to<&FuseDisk::on_landing_ready>(*this);
  landing_iov_[0] = {header_.data(), write_prefix_bytes};
  landing_missing_ = max_pages;
  const bool granted = refill_landing();
  PERILUNE_ASSERT(granted);
}

FuseDisk::~FuseDisk() { PERILUNE_ASSERT(in_flight_ == 0); }

Status FuseDisk::serve(UniqueFd fd) {
  fd_ = std::move(fd);
  connected_ = true;
  watch_or_pause();
  if (watch_ == nullptr) return fail(Errc::unsupported, "this event loop cannot watch /dev/fuse");
  return {};
}

void FuseDisk::stop(Delegate<void()> drained) {
  drained_ = drained;
  stopping_ = true;
  kernel_gone();
  if (in_flight_ == 0) loop_.schedule(drained_hook_);
}

AttachStatistics FuseDisk::statistics() const noexcept {
  AttachStatistics now = statistics_;
  now.in_flight = in_flight_;
  return now;
}

void FuseDisk::check_drained() {
  if (!stopping_ || in_flight_ != 0) return;
  stopping_ = false;
  fd_.reset();
  drained_();
}

// --- receiving

void FuseDisk::on_readable() {
  for (int i = 0; i < receive_batch && watch_ != nullptr; ++i) {
    if (!receive_one()) return;
    if (!can_receive()) watch_or_pause();
  }
}

// False when there is nothing more to receive now.
bool FuseDisk::receive_one() {
  const ssize_t n = ::readv(fd_.get(), landing_iov_.data(), static_cast<int>(landing_iov_.size()));
  if (n < 0) {
    if (errno == EAGAIN) return false;
    if (errno == EINTR || errno == ENOENT) return true;  // ENOENT: the request was taken back in this moment
    kernel_gone();                                       // ENODEV: unmounted or aborted
    return false;
  }
  if (static_cast<std::size_t>(n) < sizeof(fuse_in_header)) {
    kernel_gone();
    return false;
  }
  dispatch(static_cast<std::size_t>(n));
  return connected_;
}

void FuseDisk::kernel_gone() {
  connected_ = false;
  watch_.reset();
}

bool FuseDisk::refill_landing() {
  if (!pool_->take_shared({landing_.data(), landing_missing_})) return false;
  for (std::uint32_t i = 0; i < landing_missing_; ++i)
    landing_iov_[i + 1] = {landing_[i], BufferPool::page_size_bytes};
  landing_missing_ = 0;
  return true;
}

void FuseDisk::on_landing_ready() {
  if (refill_landing()) watch_or_pause();
}

// Reads the kernel's requests exactly while there is room for one more.
void FuseDisk::watch_or_pause() {
  if (!connected_ || !can_receive()) {
    watch_.reset();
  } else if (watch_ == nullptr) {
    watch_ = loop_.watch_readable(fd_.get(), Delegate<void()>::to<&FuseDisk::on_readable>(*this));
  }
}

void FuseDisk::dispatch(std::size_t bytes) {
  fuse_in_header header;
  std::memcpy(&header, header_.data(), sizeof header);
  if (header.len != bytes) return;  // the kernel never does
  if (header.opcode != FUSE_WRITE && bytes > write_prefix_bytes) {
    const std::size_t rest = std::min(bytes, header_.size()) - write_prefix_bytes;
    std::memcpy(header_.data() + write_prefix_bytes, landing_[0], rest);
  }
  const std::size_t in_header =
      header.opcode == FUSE_WRITE ? std::min(bytes, write_prefix_bytes) : std::min(bytes, header_.size());
  const Bytes arguments(header_.data() + sizeof header, in_header - sizeof header);
  switch (header.opcode) {
    case FUSE_READ:
      begin_read(header, arguments);
      break;
    case FUSE_WRITE:
      begin_write(header, arguments, bytes - in_header);
      break;
    case FUSE_FSYNC:
      begin_flush(header);
      break;
    case FUSE_FALLOCATE:
      begin_fallocate(header, arguments);
      break;
    default:
      dispatch_control(header, arguments);
      break;
  }
}

// --- requests

FuseDisk::Request& FuseDisk::take_request(std::uint64_t unique, Kind kind, std::uint64_t offset,
                                          std::uint64_t length) {
  Request& request = free_.pop_front();
  request.unique = unique;
  request.kind = kind;
  request.partial = false;
  request.bounce_is_old = false;
  request.offset = offset;
  request.length = length;
  request.position = 0;
  request.step_bytes = 0;
  request.page_count = 0;
  ++in_flight_;
  return request;
}

void FuseDisk::begin_read(const fuse_in_header& header, Bytes arguments) {
  fuse_read_in in;
  if (arguments.size() < sizeof in) return reply(header.unique, EINVAL);
  std::memcpy(&in, arguments.data(), sizeof in);
  if (in.size > max_fuse_transfer_bytes) return reply(header.unique, EINVAL);
  if (in.offset >= size_bytes_ || in.size == 0) return reply(header.unique, 0);
  const std::uint64_t length = std::min<std::uint64_t>(in.size, size_bytes_ - in.offset);
  ++statistics_.reads;
  Request& request = take_request(header.unique, Kind::read, in.offset, length);
  const std::uint64_t span_bytes = block_ceil(in.offset + length) - block_floor(in.offset);
  const std::uint32_t count = BufferPool::pages_for(span_bytes);
  if (pool_->take_shared({request.pages.data(), count})) {
    request.page_count = count;
    run(request);
  } else {
    pool_->wait(request.pages_waiter, count);
  }
}

void FuseDisk::Request::on_pages_ready() {
  const std::uint64_t span_bytes = disk->block_ceil(offset + length) - disk->block_floor(offset);
  const std::uint32_t count = BufferPool::pages_for(span_bytes);
  const bool granted = disk->pool_->take_shared({pages.data(), count});
  PERILUNE_ASSERT(granted);
  page_count = count;
  disk->run(*this);
}

void FuseDisk::begin_write(const fuse_in_header& header, Bytes arguments, std::size_t payload_bytes) {
  fuse_write_in in;
  if (arguments.size() < sizeof in) return reply(header.unique, EINVAL);
  std::memcpy(&in, arguments.data(), sizeof in);
  if (in.size != payload_bytes || in.size > max_fuse_transfer_bytes) return reply(header.unique, EINVAL);
  if (read_only_) return reply(header.unique, EROFS);
  if (in.offset > size_bytes_ || in.size > size_bytes_ - in.offset) return reply(header.unique, EFBIG);
  ++statistics_.writes;
  Request& request = take_request(header.unique, Kind::write, in.offset, in.size);
  request.page_count = BufferPool::pages_for(in.size);
  std::copy_n(landing_.begin(), request.page_count, request.pages.begin());
  landing_missing_ = request.page_count;
  if (landing_missing_ != 0 && !refill_landing()) pool_->wait(landing_waiter_, landing_missing_);
  request.partial = in.offset % block_size_ != 0 || in.size % block_size_ != 0;
  if (request.partial) ++statistics_.unaligned_writes;
  begin_change(request);
}

// FSYNC, whether or not it asks for data only: everything acknowledged before is on stable media when it is
// answered. A FUA write of the file system arrives as WRITE and then FSYNC, so it ends durable too.
void FuseDisk::begin_flush(const fuse_in_header& header) {
  ++statistics_.flushes;
  run(take_request(header.unique, Kind::flush, 0, 1));  // one step
}

void FuseDisk::begin_fallocate(const fuse_in_header& header, Bytes arguments) {
  fuse_fallocate_in in;
  if (arguments.size() < sizeof in) return reply(header.unique, EINVAL);
  std::memcpy(&in, arguments.data(), sizeof in);
  constexpr std::uint32_t discard_mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  constexpr std::uint32_t zero_mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
  if (in.mode != discard_mode && in.mode != zero_mode) return reply(header.unique, EOPNOTSUPP);
  if (read_only_) return reply(header.unique, EROFS);
  const bool aligned = in.offset % block_size_ == 0 && in.length % block_size_ == 0;
  if (!aligned || in.length == 0 || in.offset > size_bytes_ || in.length > size_bytes_ - in.offset) {
    return reply(header.unique, EINVAL);
  }
  const bool discard = in.mode == discard_mode;
  ++(discard ? statistics_.unmaps : statistics_.write_zeroes);
  Request& request = take_request(header.unique, discard ? Kind::discard : Kind::zero, in.offset, in.length);
  request.op.may_unmap = discard;
  begin_change(request);
}

// --- changes, and the order between a partial block and everything that overlaps it

void FuseDisk::begin_change(Request& request) {
  if (conflicts(request)) {
    blocked_.push_back(request);
    return;
  }
  changing_.push_back(request);
  if (request.partial) partial_write_ = &request;
  run(request);
}

bool FuseDisk::conflicts(const Request& request) {
  if (!request.partial && partial_write_ == nullptr) return false;
  if (request.partial && partial_write_ != nullptr) return true;  // one bounce block
  const std::uint64_t begin = block_floor(request.offset);
  const std::uint64_t end = block_ceil(request.offset + request.length);
  const auto overlaps = [&](const Request& other) {
    return block_floor(other.offset) < end && begin < block_ceil(other.offset + other.length);
  };
  if (!request.partial) return overlaps(*partial_write_);
  return changing_.find(overlaps) != nullptr;
}

// A change has ended: those that waited for it may go, in their order.
void FuseDisk::start_blocked() {
  if (unblocking_) return;
  unblocking_ = true;
  for (bool again = true; again;) {
    again = false;
    if (Request* request = blocked_.find([&](const Request& waiting) { return !conflicts(waiting); })) {
      IntrusiveList<Request>::remove(*request);
      begin_change(*request);
      again = true;
    }
  }
  unblocking_ = false;
}

// --- operations

void FuseDisk::run(Request& request) {
  while (next_step(request)) {
    request.op.status = block::OpStatus::ok;
    request.op.os_errno = 0;
    if (!channel_.submit(request.op)) return;
    if (request.op.status != block::OpStatus::ok) return finish(request, errno_of(request.op));
    request.position += request.step_bytes;
  }
  finish(request, 0);
}

void FuseDisk::Request::on_done(block::BlockOp& done) {
  if (done.status != block::OpStatus::ok) return disk->finish(*this, errno_of(done));
  position += step_bytes;
  disk->run(*this);
}

// Prepares the next operation of the request; false when all are done.
bool FuseDisk::next_step(Request& request) {
  switch (request.kind) {
    case Kind::read:
      return next_read(request);
    case Kind::write:
      return next_write(request);
    case Kind::discard:
      return next_discard(request);
    case Kind::zero:
      return next_zero(request);
    case Kind::flush:
      break;
  }
  if (request.position == request.length) return false;
  set_operation(request, block::OpKind::flush, 0, 0);
  request.step_bytes = request.length;
  return true;
}

void FuseDisk::set_operation(Request& request, block::OpKind kind, std::uint64_t from_byte,
                             std::uint64_t bytes) {
  request.op.kind = kind;
  request.op.fua = false;
  request.op.lba = Lba(from_byte / block_size_);
  request.op.blocks = BlockCount(bytes / block_size_);
  request.op.data = {};
  request.step_bytes = bytes;
}

bool FuseDisk::next_read(Request& request) {
  const std::uint64_t begin = block_floor(request.offset);
  const std::uint64_t total = block_ceil(request.offset + request.length) - begin;
  if (request.position == total) return false;
  const std::uint64_t step = std::min(total - request.position, max_step_bytes_);
  set_operation(request, block::OpKind::read, begin + request.position, step);
  request.op.data = {request.iov.data(), map_pages(request, request.position, step, 0)};
  return true;
}

bool FuseDisk::next_write(Request& request) {
  if (request.position == request.length) return false;
  const std::uint64_t at = request.offset + request.position;
  const std::uint64_t left = request.length - request.position;
  const std::uint64_t in_block = at % block_size_;
  if (in_block == 0 && left >= block_size_) {
    const std::uint64_t step = std::min(block_floor(left), max_step_bytes_);
    set_operation(request, block::OpKind::write, at, step);
    request.op.data = {request.iov.data(), map_pages(request, request.position, step, 0)};
    return true;
  }
  if (!request.bounce_is_old) {
    set_operation(request, block::OpKind::read, block_floor(at), block_size_);
    request.step_bytes = 0;
    request.bounce_is_old = true;
  } else {
    const std::uint64_t piece = std::min(left, block_size_ - in_block);
    const std::size_t count = map_pages(request, request.position, piece, 0);
    std::uint8_t* to = bounce_.data() + in_block;
    for (std::size_t i = 0; i < count; ++i) {
      std::memcpy(to, request.iov[i].iov_base, request.iov[i].iov_len);
      to += request.iov[i].iov_len;
    }
    set_operation(request, block::OpKind::write, block_floor(at), block_size_);
    request.step_bytes = piece;
    request.bounce_is_old = false;
  }
  request.iov[0] = {bounce_.data(), block_size_};
  request.op.data = {request.iov.data(), 1};
  return true;
}

bool FuseDisk::next_discard(Request& request) {
  if (!channel_.geometry().unmap_zeroes) return next_zero(request);
  if (request.position == request.length) return false;
  const std::uint64_t at = request.offset + request.position;
  const std::uint64_t left = request.length - request.position;
  const std::uint64_t into_granule = at % granularity_bytes_;
  if (into_granule == 0 && left >= granularity_bytes_) {
    set_operation(request, block::OpKind::unmap, at, left - left % granularity_bytes_);
  } else {
    set_operation(request, block::OpKind::write_zeroes, at,
                  std::min(left, granularity_bytes_ - into_granule));
  }
  return true;
}

bool FuseDisk::next_zero(Request& request) {
  if (request.position == request.length) return false;
  set_operation(request, block::OpKind::write_zeroes, request.offset, request.length);
  return true;
}

// The pages' bytes [from_byte, from_byte + bytes) as iovecs from `first_iovec` on. Returns how many.
std::size_t FuseDisk::map_pages(Request& request, std::uint64_t from_byte, std::uint64_t bytes,
                                std::size_t first_iovec) {
  std::size_t count = 0;
  while (bytes != 0) {
    const std::size_t page = from_byte / BufferPool::page_size_bytes;
    const std::size_t into = from_byte % BufferPool::page_size_bytes;
    const std::size_t piece = std::min<std::uint64_t>(bytes, BufferPool::page_size_bytes - into);
    PERILUNE_ASSERT(page < request.page_count && first_iovec + count < request.iov.size());
    request.iov[first_iovec + count++] = {request.pages[page] + into, piece};
    from_byte += piece;
    bytes -= piece;
  }
  return count;
}

// --- answers

void FuseDisk::answer(Request& request, int error) {
  if (error != 0) {
    ++statistics_.errors;
    return reply(request.unique, error);
  }
  if (request.kind == Kind::write) {
    fuse_write_out out{};
    out.size = static_cast<std::uint32_t>(request.length);
    return reply(request.unique, 0, {reinterpret_cast<const std::uint8_t*>(&out), sizeof out});
  }
  if (request.kind != Kind::read) return reply(request.unique, 0);
  fuse_out_header out{};
  out.len = static_cast<std::uint32_t>(sizeof out + request.length);
  out.unique = request.unique;
  request.iov[0] = {&out, sizeof out};
  const std::size_t count =
      map_pages(request, request.offset - block_floor(request.offset), request.length, 1);
  write_reply({request.iov.data(), count + 1});
}

void FuseDisk::finish(Request& request, int error) {
  answer(request, error);
  const std::span<std::uint8_t* const> pages(request.pages.data(), request.page_count);
  request.unlink();  // from changing_
  if (partial_write_ == &request) partial_write_ = nullptr;
  const bool was_change = request.kind != Kind::read && request.kind != Kind::flush;
  if (!pages.empty()) pool_->release_shared(pages);  // may start those that waited
  request.page_count = 0;
  free_.push_front(request);
  --in_flight_;
  if (was_change && !blocked_.empty()) start_blocked();
  if (watch_ == nullptr) watch_or_pause();
  if (stopping_ && in_flight_ == 0) loop_.schedule(drained_hook_);
}

}  // namespace perilune::attach
