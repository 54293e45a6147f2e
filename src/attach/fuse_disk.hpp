// SPDX-License-Identifier: Apache-2.0
// The server of one FUSE file system that holds one file, `disk`, whose bytes are a Disk. It speaks the
// protocol of <linux/fuse.h> (version 7) itself: one read per request, straight into payload pages, and one
// gather write per answer; no memory is allocated per request.
//
//   READ → read, WRITE → write, FSYNC → flush, FALLOCATE 0x3 → punch, FALLOCATE 0x11 → zero.
//
// Mode 0x3 (punch hole) is what the loop device sends for a discard and also for a REQ_OP_WRITE_ZEROES that
// may unmap, so the range must read as zeroes afterwards.
//
// Requests need not be aligned to the unit's blocks: the kernel splits large ones at odd lengths.
//
// One loop's thread.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "attach/disk.hpp"
#include "attach/front_end.hpp"
#include "base/buffer_pool.hpp"
#include "base/intrusive_list.hpp"
#include "runtime/loop.hpp"
#include "runtime/posix/unique_fd.hpp"

struct fuse_in_header;  // <linux/fuse.h>

namespace perilune::attach {

inline constexpr std::uint32_t max_fuse_transfer_bytes =
    max_transfer_bytes;  // the kernel's own limit of 256 pages
inline constexpr std::uint32_t max_fuse_background =
    128;  // asynchronous requests: the loop device's queue depth
inline constexpr std::uint32_t max_fuse_requests = max_fuse_background + 64;

class FuseDisk final : public FrontEnd {
 public:
  static constexpr const char* file_name = "disk";

  // no_memory. `disk` outlives the FuseDisk.
  [[nodiscard]] static Result<std::unique_ptr<FuseDisk>> create(runtime::Loop& loop, Disk& disk,
                                                                std::uint32_t pool_pages);
  ~FuseDisk() override;

  // One descriptor: /dev/fuse after mount(), O_NONBLOCK. Any that keeps message borders will do.
  [[nodiscard]] Status serve(std::vector<runtime::posix::UniqueFd> descriptors) override;
  void stop(Delegate<void()> drained) override;

  [[nodiscard]] bool connected() const noexcept {
    return connected_;
  }  // the kernel has not ended the connection

 private:
  using Kind = DiskRequest::Kind;
  static constexpr std::uint32_t max_pages = max_fuse_transfer_bytes / BufferPool::page_size_bytes;

  struct Request : DiskRequest, ListNode<Request> {
    FuseDisk* server = nullptr;
    std::uint64_t unique = 0;
    BufferPool::Waiter pages_waiter;
    std::uint32_t page_count = 0;
    std::array<std::uint8_t*, DiskRequest::max_pages> page;

    void on_pages_ready();
    void on_done(int error);
  };

  FuseDisk(runtime::Loop& loop, Disk& disk, std::unique_ptr<BufferPool> pool);

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
  Request& take_request(std::uint64_t unique, Kind kind, std::uint64_t offset, std::uint64_t length);
  [[nodiscard]] std::uint32_t read_pages(const Request& request) const noexcept;
  void begin_in_pages(Request& request, std::uint32_t count);
  void finish(Request& request, int error);
  void answer(Request& request, int error);
  void check_drained();

  runtime::Loop& loop_;
  Disk& disk_;

  std::unique_ptr<BufferPool> pool_;
  std::vector<Request> requests_;
  IntrusiveList<Request> free_;

  // What the next request is read into: its header, then pages. Always complete while we read.
  std::array<std::uint8_t, 8192> header_;
  std::array<std::uint8_t*, max_pages> landing_;
  std::array<iovec, max_pages + 1> landing_iov_;
  std::uint32_t landing_missing_ = 0;  // the first so many are to be replaced
  BufferPool::Waiter landing_waiter_;

  runtime::posix::UniqueFd fd_;
  std::unique_ptr<runtime::FdWatch> watch_;
  bool connected_ = false;
  bool stopping_ = false;
  Delegate<void()> drained_;
  runtime::TurnHook drained_hook_;
  std::uint32_t in_flight_ = 0;
};

}  // namespace perilune::attach
