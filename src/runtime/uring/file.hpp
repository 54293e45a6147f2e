// SPDX-License-Identifier: Apache-2.0
// A file or block device on the ring. Internal to this folder; the loop's thread.
//
// What is answered where (PERFORMANCE 11):
//  - O_DIRECT, writes, misses, fsync, fallocate: by the ring.
//  - page-cache hits: the first few of a turn by preadv2(RWF_NOWAIT), so that a lone read is answered in the
//  turn in
//    which it came; the others by the ring, one system call for all of them.
//  - where the holes are: by lseek, which may have to read the file system's extents; the ring knows no such
//  request. So a
//    thread does it.
//  - tmpfs: by posix::MemoryFile, at once.
#pragma once

#include <memory>
#include <optional>

#include "runtime/block_file.hpp"
#include "runtime/posix/memory_file.hpp"
#include "runtime/posix/open_block_file.hpp"
#include "runtime/uring/reactor.hpp"

namespace perilune::runtime::uring {

class UringFile final : public BlockFile {
 public:
  UringFile(Reactor& reactor, posix::OpenedBlockFile opened);
  ~UringFile() override;

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

  // From the reactor.
  static void completed(FileOp& op, int result);
  static void perform(FileOp& op);    // what was handed out. Any thread
  static void performed(FileOp& op);  // and what it came to

 private:
  enum class Stage : std::uint64_t { simple, zero_range, zero_write };

  [[nodiscard]] io_uring_sqe& begin(FileOp& op, Stage stage);
  void transfer(FileOp& op, bool is_write, ByteOffset offset, std::span<const iovec> iov, bool durable);
  void allocate(FileOp& op, Stage stage, int mode, std::uint64_t offset, std::uint64_t length);
  void write_zeroes(FileOp& op);
  void advance(FileOp& op, int result);
  [[nodiscard]] bool read_cached(ByteOffset offset, std::span<const iovec> iov, int& result);

  Reactor& reactor_;
  posix::UniqueFd fd_, durable_fd_;  // posix::OpenedBlockFile says why two
  int slot_, durable_slot_;
  FileProperties properties_;
  std::optional<posix::MemoryFile> memory_;  // tmpfs
  bool cached_reads_ = true;       // RWF_NOWAIT works here
  unsigned skip_cached_reads_ = 0;  // after a miss, others are likely
  std::size_t outstanding_ = 0;
};

}  // namespace perilune::runtime::uring
