// SPDX-License-Identifier: Apache-2.0
// The side of a block device that the kernel speaks to: a FUSE file (fuse_disk.hpp), NBD connections
// (nbd_disk.hpp) or a ublk queue (ublk_disk.hpp). Each turns what it is asked into requests of one Disk
// (disk.hpp). What the host needs beside that (nodes, ioctls, netlink) is a HostDriver of the helper process
// (host_driver.hpp).
//
// One loop's thread.
#pragma once

#include <vector>

#include "attach/attach.hpp"
#include "base/delegate.hpp"
#include "base/result.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::attach {

class FrontEnd {
 public:
  virtual ~FrontEnd() = default;  // precondition: nothing in flight (drained, or never served)

  // What the helper's `prepare` handed over. Requests are answered from now on.
  [[nodiscard]] virtual Status serve(std::vector<runtime::posix::UniqueFd> descriptors) = 0;
  // The kernel has let go of the device, or never will use it again: takes no more requests, and calls
  // `drained` once, from a later turn, when no operation of the channel is outstanding and the descriptors
  // are closed.
  virtual void stop(Delegate<void()> drained) = 0;
};

}  // namespace perilune::attach
