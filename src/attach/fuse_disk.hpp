// SPDX-License-Identifier: Apache-2.0
// The server of one FUSE file system that holds one file, `disk`, whose bytes are a block::Channel. It speaks
// the protocol of <linux/fuse.h> (version 7) itself: one read per request, straight into payload pages, and
// one gather write per answer; no memory is allocated per request.
//
//   READ → read, WRITE → write, FSYNC → flush, FALLOCATE 0x3 → unmap, FALLOCATE 0x11 → write_zeroes.
//
// Mode 0x3 (punch hole) is what the loop device sends for a discard and also for a REQ_OP_WRITE_ZEROES that
// may unmap, so the range must read as zeroes afterwards: it becomes an unmap only when the channel says that
// unmapped blocks read as zeroes, and write_zeroes(may_unmap) otherwise and for edges that do not fill a
// granule.
//
// Requests need not be aligned to the channel's blocks (the kernel splits large ones at odd lengths): a
// partial block is read, changed and written, one such request at a time and never beside another write of
// the same blocks.
//
// One loop's thread.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "attach/attach.hpp"
#include "attach/unique_fd.hpp"
#include "base/block_op.hpp"
#include "base/buffer_pool.hpp"
#include "base/intrusive_list.hpp"
#include "runtime/loop.hpp"

struct fuse_in_header;  // <linux/fuse.h>

namespace perilune::attach {

inline constexpr std::uint32_t max_fuse_transfer_bytes = 1048576;  // the kernel's own limit of 256 pages
inline constexpr std::uint32_t max_fuse_background =
    128;  // asynchronous requests: the loop device's queue depth
inline constexpr std::uint32_t max_fuse_requests = max_fuse_background + 64;

struct FuseDiskOptions {
  bool read_only = false;
  std::uint32_t pool_pages = 4096;
};

class FuseDisk {
 public:
  static constexpr const char* file_name = "disk";

  // unsupported when the geometry cannot be a Linux block device; no_memory.
  [[nodiscard]] static Result<std::unique_ptr<FuseDisk>> create(runtime::Loop& loop, block::Channel& channel,
                                                                const FuseDiskOptions& options);
  ~FuseDisk();  // precondition: nothing in flight (drained)
  FuseDisk(const FuseDisk&) = delete;
  FuseDisk& operator=(const FuseDisk&) = delete;

  // `fd`: /dev/fuse after mount(), O_NONBLOCK. Any descriptor that keeps message borders will do.
  [[nodiscard]] Status serve(UniqueFd fd);
  // The kernel has let go of the mount, or never will use it again: reads no more requests, and calls
  // `drained` from a later turn when no operation of the channel is outstanding. Then the descriptor is
  // closed.
  void stop(Delegate<void()> drained);

  [[nodiscard]] AttachStatistics statistics() const noexcept;
  [[nodiscard]] bool connected() const noexcept {
    return connected_;
  }  // the kernel has not ended the connection

 private:
  enum class Kind : std::uint8_t { read, write, flush, discard, zero };
  static constexpr std::uint32_t max_pages = max_fuse_transfer_bytes / BufferPool::page_size_bytes;
  static constexpr std::uint32_t max_iovecs = max_pages + 1;

  struct Request : ListNode<Request> {
    FuseDisk* disk = nullptr;
    std::uint64_t unique = 0;
    Kind kind = Kind::read;
    bool partial = false;        // write: begins or ends inside a block
    bool bounce_is_old = false;  // write: the partial block was read, its new content goes out next
    std::uint64_t offset = 0;    // bytes, as asked
    std::uint64_t length = 0;
    std::uint64_t position = 0;    // bytes done, from the (block aligned, for reads) start
    std::uint64_t step_bytes = 0;  // of the operation that is outstanding
    block::BlockOp op;
    BufferPool::Waiter pages_waiter;
    std::uint32_t page_count = 0;
    std::array<std::uint8_t*, max_iovecs> pages;
    std::array<iovec, max_iovecs + 1> iov;  // of the operation; in the end of the answer, behind its header

    void on_pages_ready();
    void on_done(block::BlockOp& done);
  };

  FuseDisk(runtime::Loop& loop, block::Channel& channel, const FuseDiskOptions& options,
           std::unique_ptr<BufferPool> pool);

  void on_readable();
  [[nodiscard]] bool receive_one();
  void kernel_gone();
  [[nodiscard]] bool refill_landing();
  void on_landing_ready();
  [[nodiscard]] bool can_receive() const noexcept { return landing_missing_ == 0 && !free_.empty(); }
  void watch_or_pause();

  void dispatch(std::size_t bytes);
  void dispatch_control(const fuse_in_header& header, Bytes arguments);
  void answer_init(const fuse_in_header& header, Bytes arguments);
  void answer_lookup(const fuse_in_header& header, Bytes arguments);
  void answer_getattr(const fuse_in_header& header);
  void answer_open(const fuse_in_header& header, Bytes arguments);
  void answer_directory(const fuse_in_header& header, Bytes arguments);
  void answer_statfs(const fuse_in_header& header);
  void reply(std::uint64_t unique, int error, Bytes payload = {});
  void write_reply(std::span<const iovec> iov);

  void begin_read(const fuse_in_header& header, Bytes arguments);
  void begin_write(const fuse_in_header& header, Bytes arguments, std::size_t payload_bytes);
  void begin_flush(const fuse_in_header& header);
  void begin_fallocate(const fuse_in_header& header, Bytes arguments);
  void begin_change(Request& request);
  [[nodiscard]] bool conflicts(const Request& request);
  void start_blocked();

  Request& take_request(std::uint64_t unique, Kind kind, std::uint64_t offset, std::uint64_t length);
  void run(Request& request);
  [[nodiscard]] bool next_step(Request& request);
  [[nodiscard]] bool next_read(Request& request);
  [[nodiscard]] bool next_write(Request& request);
  [[nodiscard]] bool next_discard(Request& request);
  [[nodiscard]] bool next_zero(Request& request);
  void set_operation(Request& request, block::OpKind kind, std::uint64_t from_byte, std::uint64_t bytes);
  [[nodiscard]] static std::size_t map_pages(Request& request, std::uint64_t from_byte, std::uint64_t bytes,
                                             std::size_t first_iovec);
  void finish(Request& request, int error);
  void answer(Request& request, int error);
  void check_drained();

  [[nodiscard]] std::uint64_t block_floor(std::uint64_t byte) const noexcept {
    return byte & ~std::uint64_t{block_size_ - 1};
  }
  [[nodiscard]] std::uint64_t block_ceil(std::uint64_t byte) const noexcept {
    return block_floor(byte + block_size_ - 1);
  }

  runtime::Loop& loop_;
  block::Channel& channel_;
  const std::uint32_t block_size_;
  const std::uint64_t size_bytes_;
  const std::uint32_t granularity_bytes_;
  const std::uint64_t max_step_bytes_;  // of one read or write operation
  const bool read_only_;

  std::unique_ptr<BufferPool> pool_;
  std::vector<Request> requests_;
  IntrusiveList<Request> free_;
  IntrusiveList<Request> changing_;  // writes, discards and zeroings in flight
  IntrusiveList<Request> blocked_;   // those that wait for one of changing_
  Request* partial_write_ = nullptr;
  std::vector<std::uint8_t> bounce_;  // of partial_write_
  bool unblocking_ = false;

  // What the next request is read into: its header, then pages. Always complete while we read.
  std::array<std::uint8_t, 8192> header_;
  std::array<std::uint8_t*, max_pages> landing_;
  std::array<iovec, max_pages + 1> landing_iov_;
  std::uint32_t landing_missing_ = 0;  // the first so many are to be replaced
  BufferPool::Waiter landing_waiter_;

  UniqueFd fd_;
  std::unique_ptr<runtime::FdWatch> watch_;
  bool connected_ = false;
  bool stopping_ = false;
  Delegate<void()> drained_;
  runtime::TurnHook drained_hook_;
  std::uint32_t in_flight_ = 0;
  AttachStatistics statistics_;
};

}  // namespace perilune::attach
