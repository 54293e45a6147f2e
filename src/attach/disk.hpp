// SPDX-License-Identifier: Apache-2.0
// A logical unit as a Linux block device sees it, over a block::Channel: what every front end asks of it. It
// splits requests into operations, reads and rewrites the blocks that a write covers in part, and says what
// may be advertised.
//
// A partial block is read, changed and written, one such request at a time and never beside another write of
// the same blocks.
//
// One loop's thread; no memory is allocated per request.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "attach/attach.hpp"
#include "base/block_op.hpp"
#include "base/buffer_pool.hpp"
#include "base/delegate.hpp"
#include "base/intrusive_list.hpp"
#include "base/result.hpp"

namespace perilune::attach {

inline constexpr std::uint32_t max_transfer_bytes = 1048576;  // of one read or write that a front end takes

// One request; embedded in the front end's own, which fills the first part and leaves it alone until `done`.
class DiskRequest : public ListNode<DiskRequest> {
 public:
  enum class Kind : std::uint8_t {
    read,
    write,
    flush,    // what was acknowledged before is on stable media when it ends; offset and length unused
    discard,  // a hint: whole granules are deallocated, their content is not promised
    punch,    // reads as zeroes afterwards, deallocated where that gives zeroes
    zero,     // reads as zeroes afterwards
  };
  static constexpr std::uint32_t max_pages = max_transfer_bytes / BufferPool::page_size_bytes + 1;

  Kind kind = Kind::read;
  bool fua = false;          // write, zero: on stable media before `done`
  bool may_unmap = false;    // zero
  std::uint64_t offset = 0;  // bytes
  std::uint64_t length = 0;
  // read and write: memory in pages of page_bytes. A write's bytes begin at the first page's first byte; a
  // read's with the block in which `offset` lies, so behind it by offset % block size.
  std::span<std::uint8_t* const> pages;
  std::size_t page_bytes = BufferPool::page_size_bytes;
  Delegate<void(int error)> done;  // 0 or an errno value

  // Of the operation that is outstanding; the front end's to use after `done`.
  std::array<iovec, max_pages + 1> iov;
  // The bytes [from, from + bytes) of `pages` as entries of iov, from number `first` on. Returns how many.
  std::size_t map_pages(std::uint64_t from, std::uint64_t bytes, std::size_t first) noexcept;

 private:
  friend class Disk;
  void on_operation_done(block::BlockOp& done_op);

  class Disk* disk_ = nullptr;
  bool partial_ = false;          // write: begins or ends inside a block
  bool bounce_is_old_ = false;    // write: the partial block was read, its new content goes out next
  std::uint64_t position_ = 0;    // bytes done, from the (block aligned, for reads) start
  std::uint64_t step_bytes_ = 0;  // of the operation that is outstanding
  block::BlockOp op_;
};

class Disk {
 public:
  // unsupported when the geometry cannot be that of a Linux block device. `channel` outlives the Disk.
  [[nodiscard]] static Result<std::unique_ptr<Disk>> create(block::Channel& channel, bool read_only);
  ~Disk();  // precondition: nothing in flight
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  // request.done is called once, perhaps from inside. Preconditions: in range; not read_only() for changes;
  // aligned to blocks, except reads and writes of a front end that lets the kernel split them anywhere.
  void begin(DiskRequest& request);
  // 0, or why a request that must be aligned and in range (kind, offset, length) is refused: EROFS, EINVAL.
  // Counts the refusal.
  [[nodiscard]] int check(const DiskRequest& request) noexcept;
  // A request that the front end answered with an error by itself.
  void count_error() noexcept { ++statistics_.errors; }

  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_bytes_; }
  [[nodiscard]] std::uint32_t block_size() const noexcept { return block_size_; }
  [[nodiscard]] std::uint32_t granularity_bytes() const noexcept {
    return granularity_bytes_;
  }  // of discards
  [[nodiscard]] bool read_only() const noexcept { return read_only_; }
  [[nodiscard]] const block::Geometry& geometry() const noexcept { return channel_.geometry(); }
  [[nodiscard]] std::uint64_t block_floor(std::uint64_t byte) const noexcept {
    return byte & ~std::uint64_t{block_size_ - 1};
  }
  [[nodiscard]] std::uint64_t block_ceil(std::uint64_t byte) const noexcept {
    return block_floor(byte + block_size_ - 1);
  }

  [[nodiscard]] std::uint32_t in_flight() const noexcept { return in_flight_; }
  [[nodiscard]] AttachStatistics statistics() const noexcept;

 private:
  friend class DiskRequest;
  using Kind = DiskRequest::Kind;
  Disk(block::Channel& channel, bool read_only);

  void count(const DiskRequest& request) noexcept;
  void begin_change(DiskRequest& request);
  [[nodiscard]] bool conflicts(const DiskRequest& request);
  void start_blocked();
  void run(DiskRequest& request);
  [[nodiscard]] bool next_step(DiskRequest& request);
  [[nodiscard]] bool next_read(DiskRequest& request);
  [[nodiscard]] bool next_write(DiskRequest& request);
  [[nodiscard]] bool next_flush(DiskRequest& request);
  [[nodiscard]] bool next_discard(DiskRequest& request);
  [[nodiscard]] bool next_punch(DiskRequest& request);
  [[nodiscard]] bool next_zero(DiskRequest& request);
  void set_operation(DiskRequest& request, block::OpKind kind, std::uint64_t from_byte, std::uint64_t bytes);
  void finish(DiskRequest& request, int error);

  block::Channel& channel_;
  const std::uint32_t block_size_;
  const std::uint64_t size_bytes_;
  const std::uint32_t granularity_bytes_;
  const std::uint64_t max_step_bytes_;  // of one read or write operation
  const bool read_only_;

  IntrusiveList<DiskRequest> changing_;  // writes, discards and zeroings in flight
  IntrusiveList<DiskRequest> blocked_;   // those that wait for one of changing_
  DiskRequest* partial_write_ = nullptr;
  std::vector<std::uint8_t> bounce_;  // of partial_write_
  bool unblocking_ = false;
  std::uint32_t in_flight_ = 0;
  AttachStatistics statistics_;
};

}  // namespace perilune::attach
