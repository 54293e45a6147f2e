// SPDX-License-Identifier: Apache-2.0
#include "runtime/uring/file.hpp"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/assert.hpp"
#include "runtime/posix/file_extent.hpp"
#include "runtime/posix/open_block_file.hpp"

namespace perilune::runtime::uring {
namespace {

// FileOp::scratch, by index.
enum : std::size_t { owner = 0, stage_of = 1, position = 2, remaining = 3, outcome = 4 };

constexpr unsigned reads_skipped_after_miss = 16;
constexpr std::size_t zero_chunk_bytes = 65536;
constexpr std::size_t zero_chunks = 16;  // in one write

alignas(4096) std::uint8_t zeroes[zero_chunk_bytes];  // never written: the kernel's zero page, many times

}  // namespace

UringFile::UringFile(Reactor& reactor, posix::OpenedBlockFile opened)
    : reactor_(reactor),
      fd_(std::move(opened.fd)),
      durable_fd_(std::move(opened.durable_fd)),
      slot_(reactor.ring().take_slot(fd_.get())),
      durable_slot_(durable_fd_ ? reactor.ring().take_slot(durable_fd_.get()) : -1),
      properties_(opened.properties) {
  if (opened.in_memory) memory_.emplace(fd_.get(), opened);
  if (properties_.direct) reactor_.use_fixed_buffers();
}

UringFile::~UringFile() {
  PERILUNE_ASSERT(outstanding_ == 0);
  reactor_.ring().drop_slot(slot_);
  reactor_.ring().drop_slot(durable_slot_);
}

Result<std::unique_ptr<BlockFile>> Reactor::open_file(const std::string& path, const OpenOptions& options) {
  auto opened = posix::open_block_file(path, options, false, options_.access);
  if (!opened) return tl::unexpected(std::move(opened.error()));
  return std::make_unique<UringFile>(*this, std::move(*opened));
}

io_uring_sqe& UringFile::begin(FileOp& op, Stage stage) {
  op.scratch[owner] = reinterpret_cast<std::uint64_t>(this);
  op.scratch[stage_of] = static_cast<std::uint64_t>(stage);
  ++outstanding_;
  return reactor_.ring().entry(Kind::file, &op);
}

void UringFile::transfer(FileOp& op, bool is_write, ByteOffset offset, std::span<const iovec> iov,
                         bool durable) {
  const bool apart = durable && durable_fd_;
  const Descriptor file{apart ? durable_fd_.get() : fd_.get(), apart ? durable_slot_ : slot_};
  // May submit to make room, so before the entry is taken.
  const iovec* const kept = iov.size() > 1 ? reactor_.keep_iovecs(iov) : nullptr;
  io_uring_sqe& sqe = begin(op, Stage::simple);
  if (kept != nullptr) {
    if (is_write) io_uring_prep_writev(&sqe, -1, kept, static_cast<unsigned>(iov.size()), offset.value());
    else io_uring_prep_readv(&sqe, -1, kept, static_cast<unsigned>(iov.size()), offset.value());
  } else {
    void* const base = iov[0].iov_base;
    const auto bytes = static_cast<unsigned>(iov[0].iov_len);
    const int fixed = properties_.direct ? reactor_.fixed_buffer(base, bytes) : -1;
    if (fixed >= 0 && is_write) io_uring_prep_write_fixed(&sqe, -1, base, bytes, offset.value(), fixed);
    else if (fixed >= 0) io_uring_prep_read_fixed(&sqe, -1, base, bytes, offset.value(), fixed);
    else if (is_write) io_uring_prep_write(&sqe, -1, base, bytes, offset.value());
    else io_uring_prep_read(&sqe, -1, base, bytes, offset.value());
  }
  if (durable) sqe.rw_flags = RWF_DSYNC;
  file.aim(sqe);
  reactor_.trace_prepared(is_write ? "WRITE" : "READ", sqe.user_data, durable);
}

bool UringFile::read_cached(ByteOffset offset, std::span<const iovec> iov, int& result) {
  if (memory_) {
    result = memory_->read(offset, iov);
    return true;
  }
  if (properties_.direct || !cached_reads_) return false;
  if (skip_cached_reads_ > 0) {
    --skip_cached_reads_;
    return false;
  }
  if (!reactor_.take_inline_read()) return false;
  const ssize_t n = ::preadv2(fd_.get(), iov.data(), static_cast<int>(iov.size()),
                              static_cast<off_t>(offset.value()), RWF_NOWAIT);
  if (n >= 0) {
    result = static_cast<int>(n);
    return true;
  }
  if (errno == EAGAIN) skip_cached_reads_ = reads_skipped_after_miss;
  else if (errno == EOPNOTSUPP) cached_reads_ = false;
  return false;  // the ring will tell of any other error
}

bool UringFile::read_at_once(ByteOffset offset, MutableBytes to) {
  if (memory_) return memory_->read_whole(offset, to);
  const iovec memory{to.data(), to.size()};
  int result = 0;
  return read_cached(offset, {&memory, 1}, result) && static_cast<std::size_t>(result) == to.size();
}

bool UringFile::write_at_once(ByteOffset offset, Bytes from) {
  return memory_ && memory_->write_whole(offset, from);
}

bool UringFile::read(FileOp& op, ByteOffset offset, std::span<const iovec> iov, int& result) {
  PERILUNE_ASSERT(!iov.empty());
  if (read_cached(offset, iov, result)) return true;
  transfer(op, false, offset, iov, false);
  return false;
}

bool UringFile::write(FileOp& op, ByteOffset offset, std::span<const iovec> iov, bool durable, int& result) {
  PERILUNE_ASSERT(!iov.empty());
  if (memory_) {
    result = memory_->write(offset, iov);
    return true;
  }
  transfer(op, true, offset, iov, durable);
  return false;
}

bool UringFile::sync(FileOp& op, int& result) {
  if (memory_) {
    result = 0;
    return true;
  }
  io_uring_sqe& sqe = begin(op, Stage::simple);
  io_uring_prep_fsync(&sqe, -1, IORING_FSYNC_DATASYNC);
  Descriptor{fd_.get(), slot_}.aim(sqe);
  reactor_.trace_prepared("FSYNC", sqe.user_data, true);
  return false;
}

void UringFile::allocate(FileOp& op, Stage stage, int mode, std::uint64_t offset, std::uint64_t length) {
  io_uring_sqe& sqe = begin(op, stage);
  op.scratch[position] = offset;
  op.scratch[remaining] = length;
  io_uring_prep_fallocate(&sqe, -1, mode, static_cast<off_t>(offset), static_cast<off_t>(length));
  Descriptor{fd_.get(), slot_}.aim(sqe);
  reactor_.trace_prepared("FALLOCATE", sqe.user_data);
}

bool UringFile::punch(FileOp& op, ByteOffset offset, ByteCount length, int& result) {
  if (properties_.discard_granularity_bytes == 0) {
    result = -EOPNOTSUPP;
    return true;
  }
  if (memory_) memory_->forget(offset, length);
  allocate(op, Stage::simple, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset.value(), length.value());
  return false;
}

bool UringFile::zero(FileOp& op, ByteOffset offset, ByteCount length, int&) {
  allocate(op, Stage::zero_range, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset.value(), length.value());
  return false;
}

bool UringFile::extent(FileOp& op, ByteOffset offset, ByteCount length, int&) {
  op.scratch[owner] = reinterpret_cast<std::uint64_t>(this);
  op.scratch[position] = offset.value();
  op.scratch[remaining] = length.value();
  ++outstanding_;
  reactor_.trace_prepared("LSEEK", reinterpret_cast<std::uint64_t>(&op));
  reactor_.hand_out(op);
  return false;
}

void UringFile::perform(FileOp& op) {
  const UringFile& file = *reinterpret_cast<UringFile*>(op.scratch[owner]);
  const int result =
      posix::find_extent(file.fd_.get(), op.scratch[position], op.scratch[remaining], op.extent);
  op.scratch[outcome] = static_cast<std::uint64_t>(static_cast<std::int64_t>(result));
}

void UringFile::performed(FileOp& op) {
  --reinterpret_cast<UringFile*>(op.scratch[owner])->outstanding_;
  op.done(op, static_cast<int>(static_cast<std::int64_t>(op.scratch[outcome])));
}

// For file systems without ZERO_RANGE (tmpfs): the next piece of the range is written.
void UringFile::write_zeroes(FileOp& op) {
  std::array<iovec, zero_chunks> iov;
  std::size_t count = 0;
  for (std::uint64_t left = op.scratch[remaining]; left > 0 && count < iov.size(); ++count) {
    const std::size_t bytes = std::min<std::uint64_t>(left, zero_chunk_bytes);
    iov[count] = {zeroes, bytes};
    left -= bytes;
  }
  const iovec* const kept = reactor_.keep_iovecs({iov.data(), count});
  io_uring_sqe& sqe = begin(op, Stage::zero_write);
  io_uring_prep_writev(&sqe, -1, kept, static_cast<unsigned>(count), op.scratch[position]);
  Descriptor{fd_.get(), slot_}.aim(sqe);
  reactor_.trace_prepared("WRITE", sqe.user_data);
}

void UringFile::completed(FileOp& op, int result) {
  auto* const self = reinterpret_cast<UringFile*>(op.scratch[owner]);
  --self->outstanding_;
  self->advance(op, result);
}

void UringFile::advance(FileOp& op, int result) {
  switch (static_cast<Stage>(op.scratch[stage_of])) {
    case Stage::simple:
      break;
    case Stage::zero_range:
      if (result == -EOPNOTSUPP || result == -EINVAL) return write_zeroes(op);
      break;
    case Stage::zero_write:
      if (result > 0) {
        const auto done = std::min<std::uint64_t>(static_cast<std::uint64_t>(result), op.scratch[remaining]);
        op.scratch[position] += done;
        op.scratch[remaining] -= done;
        if (op.scratch[remaining] > 0) return write_zeroes(op);
        result = 0;
      } else if (result == 0) {
        result = -EIO;  // a write that moves nothing would go on for ever
      }
      break;
  }
  op.done(op, result);
}

}  // namespace perilune::runtime::uring
