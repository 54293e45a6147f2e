// SPDX-License-Identifier: Apache-2.0
// The life of a request: receive, operations of the channel, answer. What the kernel asks beside I/O is in
// fuse_control.cpp.
#include "attach/fuse_disk.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.hpp"

namespace perilune::attach {

using runtime::posix::UniqueFd;

namespace {

// Exactly what precedes the payload of a WRITE, so that the payload begins on a page.
constexpr std::size_t write_prefix_bytes = sizeof(fuse_in_header) + sizeof(fuse_write_in);
constexpr int receive_batch = 64;  // requests per turn

}  // namespace

Result<std::unique_ptr<FuseDisk>> FuseDisk::create(runtime::Loop& loop, Disk& disk,
                                                   std::uint32_t pool_pages) {
  // The landing area, the largest read, and something to go on with.
  auto pool = BufferPool::create(std::max(pool_pages, 3 * DiskRequest::max_pages));
  if (!pool) return tl::unexpected(pool.error());
  // A helper process that is forked meanwhile has no use for payload, and would make us copy it on the next
  // write.
  const MutableBytes region = (*pool)->region();
  static_cast<void>(madvise(region.data(), region.size(), MADV_DONTFORK));
  return std::unique_ptr<FuseDisk>(new FuseDisk(loop, disk, std::move(*pool)));
}

FuseDisk::FuseDisk(runtime::Loop& loop, Disk& disk, std::unique_ptr<BufferPool> pool)
    : loop_(loop),
      disk_(disk),
      pool_(std::move(pool)),
      requests_(max_fuse_requests),
      drained_hook_(Delegate<void()>::to<&FuseDisk::check_drained>(*this)) {
  for (Request& request : requests_) {
    request.server = this;
    request.done = Delegate<void(int)>::to<&Request::on_done>(request);
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

Status FuseDisk::serve(std::vector<UniqueFd> descriptors) {
  PERILUNE_ASSERT(descriptors.size() == 1);
  fd_ = std::move(descriptors.front());
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
  request.offset = offset;
  request.length = length;
  request.page_count = 0;
  request.pages = {};
  ++in_flight_;
  return request;
}

void FuseDisk::begin_read(const fuse_in_header& header, Bytes arguments) {
  fuse_read_in in;
  if (arguments.size() < sizeof in) return reply(header.unique, EINVAL);
  std::memcpy(&in, arguments.data(), sizeof in);
  if (in.size > max_fuse_transfer_bytes) return reply(header.unique, EINVAL);
  if (in.offset >= disk_.size_bytes() || in.size == 0) return reply(header.unique, 0);
  const std::uint64_t length = std::min<std::uint64_t>(in.size, disk_.size_bytes() - in.offset);
  Request& request = take_request(header.unique, Kind::read, in.offset, length);
  const std::uint32_t count = read_pages(request);
  if (pool_->take_shared({request.page.data(), count})) {
    begin_in_pages(request, count);
  } else {
    pool_->wait(request.pages_waiter, count);
  }
}

std::uint32_t FuseDisk::read_pages(const Request& request) const noexcept {
  return BufferPool::pages_for(disk_.block_ceil(request.offset + request.length) -
                               disk_.block_floor(request.offset));
}

void FuseDisk::begin_in_pages(Request& request, std::uint32_t count) {
  request.page_count = count;
  request.pages = {request.page.data(), count};
  disk_.begin(request);
}

void FuseDisk::Request::on_pages_ready() {
  const std::uint32_t count = server->read_pages(*this);
  const bool granted = server->pool_->take_shared({page.data(), count});
  PERILUNE_ASSERT(granted);
  server->begin_in_pages(*this, count);
}

void FuseDisk::begin_write(const fuse_in_header& header, Bytes arguments, std::size_t payload_bytes) {
  fuse_write_in in;
  if (arguments.size() < sizeof in) return reply(header.unique, EINVAL);
  std::memcpy(&in, arguments.data(), sizeof in);
  if (in.size != payload_bytes || in.size > max_fuse_transfer_bytes) return reply(header.unique, EINVAL);
  if (disk_.read_only()) return reply(header.unique, EROFS);
  if (in.offset > disk_.size_bytes() || in.size > disk_.size_bytes() - in.offset)
    return reply(header.unique, EFBIG);
  Request& request = take_request(header.unique, Kind::write, in.offset, in.size);
  const std::uint32_t count = BufferPool::pages_for(in.size);
  std::copy_n(landing_.begin(), count, request.page.begin());
  landing_missing_ = count;
  if (landing_missing_ != 0 && !refill_landing()) pool_->wait(landing_waiter_, landing_missing_);
  begin_in_pages(request, count);
}

// FSYNC, whether or not it asks for data only: everything acknowledged before is on stable media when it is
// answered. A FUA write of the file system arrives as WRITE and then FSYNC, so it ends durable too.
void FuseDisk::begin_flush(const fuse_in_header& header) {
  disk_.begin(take_request(header.unique, Kind::flush, 0, 0));
}

void FuseDisk::begin_fallocate(const fuse_in_header& header, Bytes arguments) {
  fuse_fallocate_in in;
  if (arguments.size() < sizeof in) return reply(header.unique, EINVAL);
  std::memcpy(&in, arguments.data(), sizeof in);
  constexpr std::uint32_t discard_mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  constexpr std::uint32_t zero_mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
  if (in.mode != discard_mode && in.mode != zero_mode) return reply(header.unique, EOPNOTSUPP);
  if (disk_.read_only()) return reply(header.unique, EROFS);
  const std::uint64_t size = disk_.size_bytes();
  const bool aligned = in.offset % disk_.block_size() == 0 && in.length % disk_.block_size() == 0;
  if (!aligned || in.length == 0 || in.offset > size || in.length > size - in.offset) {
    return reply(header.unique, EINVAL);
  }
  const Kind kind = in.mode == discard_mode ? Kind::punch : Kind::zero;
  disk_.begin(take_request(header.unique, kind, in.offset, in.length));
}

void FuseDisk::Request::on_done(int error) { server->finish(*this, error); }

// --- answers

void FuseDisk::answer(Request& request, int error) {
  if (error != 0) return reply(request.unique, error);
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
      request.map_pages(request.offset - disk_.block_floor(request.offset), request.length, 1);
  write_reply({request.iov.data(), count + 1});
}

void FuseDisk::finish(Request& request, int error) {
  answer(request, error);
  const std::span<std::uint8_t* const> pages(request.page.data(), request.page_count);
  if (!pages.empty()) pool_->release_shared(pages);  // may start those that waited
  request.page_count = 0;
  free_.push_front(request);
  --in_flight_;
  if (watch_ == nullptr) watch_or_pause();
  if (stopping_ && in_flight_ == 0) loop_.schedule(drained_hook_);
}

}  // namespace perilune::attach
