// SPDX-License-Identifier: Apache-2.0
// The server's side of NBD's transmission phase (the NBD protocol, "Request message", "Simple reply
// message"), over connected sockets whose other ends the kernel's client holds. The phase begins at once:
// what a handshake would agree on, the client was told by netlink (nbd_netlink.hpp).
//
//   READ → read, WRITE → write, FLUSH → flush, TRIM → discard, WRITE_ZEROES → zero; FUA as it is; DISC ends.
//
// A flush covers what was acknowledged on any of the connections. A request that breaks the protocol's
// framing (magic, an unknown command that may carry data, more requests than a queue holds) ends its
// connection; one that is merely wrong is answered with an error. Several connections are several queues of
// the device; all are served on one loop's thread. No memory is allocated per request.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "attach/disk.hpp"
#include "attach/front_end.hpp"
#include "base/buffer_pool.hpp"
#include "base/bytes.hpp"
#include "base/intrusive_list.hpp"
#include "runtime/loop.hpp"
#include "runtime/posix/unique_fd.hpp"
#include "runtime/stream.hpp"

namespace perilune::attach {

inline constexpr std::uint32_t nbd_queue_depth = 128;  // the kernel's, of each connection
inline constexpr std::uint32_t max_nbd_connections = 8;

// NBD_FLAG_... of the protocol: what may be asked of this disk.
[[nodiscard]] std::uint16_t nbd_transmission_flags(const Disk& disk) noexcept;

class NbdDisk final : public FrontEnd {
 public:
  // no_memory. `disk` outlives the NbdDisk.
  [[nodiscard]] static Result<std::unique_ptr<NbdDisk>> create(runtime::Loop& loop, Disk& disk,
                                                               std::uint32_t pool_pages);
  ~NbdDisk() override;

  // One connected stream socket for each connection, 1 to max_nbd_connections.
  [[nodiscard]] Status serve(std::vector<runtime::posix::UniqueFd> descriptors) override;
  void stop(Delegate<void()> drained) override;

  [[nodiscard]] std::size_t open_connections() const noexcept { return open_; }

 private:
  class Connection;

  struct Request : DiskRequest, ListNode<Request> {
    Connection* connection = nullptr;
    std::array<std::uint8_t, 16> reply;  // magic, error, cookie
    bool failed = false;
    std::uint32_t page_count = 0;
    std::array<std::uint8_t*, DiskRequest::max_pages> page;
    BufferPool::Waiter pages_waiter;

    void on_pages_ready();
    void on_done(int error);
  };

  NbdDisk(runtime::Loop& loop, Disk& disk, std::unique_ptr<BufferPool> pool);
  void released();
  void connection_closed();
  void check_drained();
  void end_if_drained();

  runtime::Loop& loop_;
  Disk& disk_;
  std::unique_ptr<BufferPool> pool_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::size_t open_ = 0;
  std::uint32_t in_flight_ = 0;
  bool stopping_ = false;
  Delegate<void()> drained_;
  runtime::TurnHook drained_hook_;
};

}  // namespace perilune::attach
