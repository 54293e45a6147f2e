// SPDX-License-Identifier: Apache-2.0
// A file or block device by preadv2 and pwritev2. Internal to this folder; the loop's thread, but for
// perform().
//
// What is answered where (PERFORMANCE 11):
//  - what is in the page cache: at once, by preadv2(RWF_NOWAIT), and pwritev2(RWF_NOWAIT) where the file
//  system has it.
//  - tmpfs: at once, by posix::MemoryFile.
//  - all that may wait for a device (O_DIRECT, misses, FUA, flushes, fallocate, where the holes are): by a
//  thread of the pool.
#pragma once

#include <optional>

#include "runtime/block_file.hpp"
#include "runtime/posix/memory_file.hpp"
#include "runtime/posix/open_block_file.hpp"
#include "runtime/epoll/reactor.hpp"

namespace perilune::runtime::epoll {

class EpollFile final : public BlockFile {
 public:
  EpollFile(Reactor& reactor, posix::OpenedBlockFile opened);
  ~EpollFile() override;

  [[nodiscard]] const FileProperties& properties() const override { return properties_; }
  [[nodiscard]] bool read(FileOp& op, ByteOffset offset, std::span<const iovec> iov, int& result) override;
  [[nodiscard]] bool write(FileOp& op, ByteOffset offset, std::span<const iovec> iov, bool durable,
                           int& result) override;
  [[nodiscard]] bool read_at_once(ByteOffset offset, MutableBytes to) override;
  [[nodiscard]] bool write_at_once(ByteOffset offset, Bytes from) override;
  [[nodiscard]] bool sync(FileOp& op, int& result) override;
  [[nodiscard]] bool punch(FileOp& op, ByteOffset offset, ByteCount length, int& result) override;
  [[nodiscard]] bool zero(FileOp& op, ByteOffset offset, ByteCount length, int& result) override;
  [[nodiscard]] bool extent(FileOp& op, ByteOffset offset, ByteCount length, int& result) override;

  // Does what was prepared. Any thread.
  static void perform(FileOp& op);
  // perform() is over: tells the owner.
  static void completed(FileOp& op);

 private:
  enum class What : std::uint64_t { read, write, durable_write, sync, punch, zero, extent };

  void prepare(FileOp& op, What what, ByteOffset offset, std::uint64_t length);
  void prepare_transfer(FileOp& op, What what, ByteOffset offset, std::span<const iovec> iov);
  [[nodiscard]] bool read_cached(ByteOffset offset, std::span<const iovec> iov, int& result);
  [[nodiscard]] bool write_cached(ByteOffset offset, std::span<const iovec> iov, int& result);

  Reactor& reactor_;
  posix::UniqueFd fd_, durable_fd_;  // posix::OpenedBlockFile says why two
  FileProperties properties_;
  std::optional<posix::MemoryFile> memory_;  // tmpfs
  bool cached_reads_ = true;  // RWF_NOWAIT works here
  bool cached_writes_ = true;
  unsigned skip_cached_reads_ = 0;  // after a miss, others are likely
  std::size_t outstanding_ = 0;
};

}  // namespace perilune::runtime::epoll
