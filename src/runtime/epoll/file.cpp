// SPDX-License-Identifier: Apache-2.0
#include "runtime/epoll/file.hpp"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/assert.hpp"
#include "runtime/posix/file_extent.hpp"
#include "runtime/posix/open_block_file.hpp"

namespace perilune::runtime::epoll {
namespace {

// FileOp::scratch, by index. A transfer of one vector carries it; one of more carries a borrowed block of
// them.
enum : std::size_t {
  owner = 0,
  what_of = 1,
  position = 2,
  length_of = 3,
  vectors = 4,
  vector_count = 5,
  outcome = 6
};

constexpr unsigned reads_skipped_after_miss = 16;
constexpr std::size_t zero_chunk_bytes = 65536;
constexpr std::size_t zero_chunks = 16;  // in one write

alignas(4096) std::uint8_t zeroes[zero_chunk_bytes];  // never written: the kernel's zero page, many times

[[nodiscard]] int result_of(ssize_t n) noexcept { return n >= 0 ? static_cast<int>(n) : -errno; }

// For file systems without ZERO_RANGE (tmpfs).
[[nodiscard]] int write_zeroes(int fd, std::uint64_t offset, std::uint64_t length) noexcept {
  while (length > 0) {
    std::array<iovec, zero_chunks> iov;
    std::size_t count = 0;
    for (std::uint64_t left = length; left > 0 && count < iov.size(); ++count) {
      const std::size_t bytes = std::min<std::uint64_t>(left, zero_chunk_bytes);
      iov[count] = {zeroes, bytes};
      left -= bytes;
    }
    const ssize_t n = ::pwritev(fd, iov.data(), static_cast<int>(count), static_cast<off_t>(offset));
    if (n < 0) return -errno;
    if (n == 0) return -EIO;  // a write that moves nothing would go on for ever
    offset += static_cast<std::uint64_t>(n);
    length -= static_cast<std::uint64_t>(n);
  }
  return 0;
}

[[nodiscard]] int allocate(int fd, int mode, std::uint64_t offset, std::uint64_t length) noexcept {
  return result_of(
      ::fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), static_cast<off_t>(length)));
}

}  // namespace

EpollFile::EpollFile(Reactor& reactor, posix::OpenedBlockFile opened)
    : reactor_(reactor),
      fd_(std::move(opened.fd)),
      durable_fd_(std::move(opened.durable_fd)),
      properties_(opened.properties) {
  if (opened.in_memory) memory_.emplace(fd_.get(), opened);
}

EpollFile::~EpollFile() { PERILUNE_ASSERT(outstanding_ == 0); }

Result<std::unique_ptr<BlockFile>> Reactor::open_file(const std::string& path, const OpenOptions& options) {
  auto opened = posix::open_block_file(path, options, false, options_.access);
  if (!opened) return tl::unexpected(std::move(opened.error()));
  return std::make_unique<EpollFile>(*this, std::move(*opened));
}

// --- on the loop's thread ---

void EpollFile::prepare(FileOp& op, What what, ByteOffset offset, std::uint64_t length) {
  constexpr std::string_view names[] = {"READ", "WRITE", "WRITE", "FSYNC", "FALLOCATE", "FALLOCATE", "LSEEK"};
  op.scratch[owner] = reinterpret_cast<std::uint64_t>(this);
  op.scratch[what_of] = static_cast<std::uint64_t>(what);
  op.scratch[position] = offset.value();
  op.scratch[length_of] = length;
  ++outstanding_;
  reactor_.prepare(op);
  reactor_.trace_prepared(names[static_cast<std::size_t>(what)], &op,
                          what == What::durable_write || what == What::sync);
}

void EpollFile::prepare_transfer(FileOp& op, What what, ByteOffset offset, std::span<const iovec> iov) {
  PERILUNE_ASSERT(iov.size() <= Reactor::max_iovecs);
  op.scratch[vector_count] = iov.size();
  if (iov.size() > 1) {
    iovec* const kept = reactor_.take_iovecs();
    std::copy(iov.begin(), iov.end(), kept);
    op.scratch[vectors] = reinterpret_cast<std::uint64_t>(kept);
  } else {
    op.scratch[vectors] = reinterpret_cast<std::uint64_t>(iov[0].iov_base);
  }
  prepare(op, what, offset, iov[0].iov_len);
}

bool EpollFile::read_cached(ByteOffset offset, std::span<const iovec> iov, int& result) {
  if (memory_) {
    result = memory_->read(offset, iov);
    return true;
  }
  if (properties_.direct || !cached_reads_) return false;
  if (skip_cached_reads_ > 0) {
    --skip_cached_reads_;
    return false;
  }
  const ssize_t n = ::preadv2(fd_.get(), iov.data(), static_cast<int>(iov.size()),
                              static_cast<off_t>(offset.value()), RWF_NOWAIT);
  if (n >= 0) {
    result = static_cast<int>(n);
    return true;
  }
  if (errno == EAGAIN)
    skip_cached_reads_ = reads_skipped_after_miss;
  else if (errno == EOPNOTSUPP)
    cached_reads_ = false;
  return false;  // a thread will meet any other error again, and tell it
}

bool EpollFile::write_cached(ByteOffset offset, std::span<const iovec> iov, int& result) {
  if (memory_) {
    result = memory_->write(offset, iov);
    return true;
  }
  if (properties_.direct || !cached_writes_) return false;
  const ssize_t n = ::pwritev2(fd_.get(), iov.data(), static_cast<int>(iov.size()),
                               static_cast<off_t>(offset.value()), RWF_NOWAIT);
  if (n > 0) {
    result = static_cast<int>(n);
    return true;
  }
  if (n < 0 && errno == EOPNOTSUPP) cached_writes_ = false;
  return false;
}

bool EpollFile::read_at_once(ByteOffset offset, MutableBytes to) {
  if (memory_) return memory_->read_whole(offset, to);
  const iovec memory{to.data(), to.size()};
  int result = 0;
  return read_cached(offset, {&memory, 1}, result) && static_cast<std::size_t>(result) == to.size();
}

bool EpollFile::write_at_once(ByteOffset offset, Bytes from) {
  return memory_ && memory_->write_whole(offset, from);
}

bool EpollFile::read(FileOp& op, ByteOffset offset, std::span<const iovec> iov, int& result) {
  PERILUNE_ASSERT(!iov.empty());
  if (read_cached(offset, iov, result)) return true;
  prepare_transfer(op, What::read, offset, iov);
  return false;
}

bool EpollFile::write(FileOp& op, ByteOffset offset, std::span<const iovec> iov, bool durable, int& result) {
  PERILUNE_ASSERT(!iov.empty());
  if ((memory_ || !durable) && write_cached(offset, iov, result)) return true;
  prepare_transfer(op, durable ? What::durable_write : What::write, offset, iov);
  return false;
}

bool EpollFile::sync(FileOp& op, int& result) {
  if (memory_) {
    result = 0;
    return true;
  }
  prepare(op, What::sync, ByteOffset(0), 0);
  return false;
}

bool EpollFile::punch(FileOp& op, ByteOffset offset, ByteCount length, int& result) {
  if (properties_.discard_granularity_bytes == 0) {
    result = -EOPNOTSUPP;
    return true;
  }
  if (memory_) memory_->forget(offset, length);
  prepare(op, What::punch, offset, length.value());
  return false;
}

bool EpollFile::zero(FileOp& op, ByteOffset offset, ByteCount length, int&) {
  prepare(op, What::zero, offset, length.value());
  return false;
}

bool EpollFile::extent(FileOp& op, ByteOffset offset, ByteCount length, int&) {
  prepare(op, What::extent, offset, length.value());
  return false;
}

void EpollFile::completed(FileOp& op) {
  auto* const self = reinterpret_cast<EpollFile*>(op.scratch[owner]);
  const bool is_transfer = static_cast<What>(op.scratch[what_of]) <= What::durable_write;
  if (is_transfer && op.scratch[vector_count] > 1) {
    self->reactor_.give_back_iovecs(reinterpret_cast<iovec*>(op.scratch[vectors]));
  }
  --self->outstanding_;
  const int result = static_cast<int>(static_cast<std::int64_t>(op.scratch[outcome]));
  self->reactor_.trace_completed("FILE", &op, result);
  op.done(op, result);
}

// --- on a thread of the pool ---

void EpollFile::perform(FileOp& op) {
  const EpollFile& file = *reinterpret_cast<EpollFile*>(op.scratch[owner]);
  const int fd = file.fd_.get();
  const std::uint64_t offset = op.scratch[position];
  const std::uint64_t length = op.scratch[length_of];
  const iovec one{reinterpret_cast<void*>(op.scratch[vectors]), length};
  const bool many = op.scratch[vector_count] > 1;
  const iovec* const iov = many ? reinterpret_cast<const iovec*>(op.scratch[vectors]) : &one;
  const int count = many ? static_cast<int>(op.scratch[vector_count]) : 1;
  int result = 0;
  switch (static_cast<What>(op.scratch[what_of])) {
    case What::read:
      result = result_of(::preadv(fd, iov, count, static_cast<off_t>(offset)));
      break;
    case What::write:
      result = result_of(::pwritev(fd, iov, count, static_cast<off_t>(offset)));
      break;
    case What::durable_write:
      result = result_of(::pwritev2(file.durable_fd_ ? file.durable_fd_.get() : fd, iov, count,
                                    static_cast<off_t>(offset), RWF_DSYNC));
      break;
    case What::sync:
      result = result_of(::fdatasync(fd));
      break;
    case What::punch:
      result = allocate(fd, FALLOC_FL_PUNCH_HOLE, offset, length);
      break;
    case What::zero:
      result = allocate(fd, FALLOC_FL_ZERO_RANGE, offset, length);
      if (result == -EOPNOTSUPP || result == -EINVAL) result = write_zeroes(fd, offset, length);
      break;
    case What::extent:
      result = posix::find_extent(fd, offset, length, op.extent);
      break;
  }
  op.scratch[outcome] = static_cast<std::uint64_t>(static_cast<std::int64_t>(result));
}

}  // namespace perilune::runtime::epoll
