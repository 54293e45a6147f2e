// SPDX-License-Identifier: Apache-2.0
// SG_IO, the system call that carries a CDB to a SCSI device: the seam behind which the kernel is.
#pragma once

#include <sys/uio.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>

#include "base/bytes.hpp"
#include "runtime/posix/unique_fd.hpp"
#include "scsi/passthrough.hpp"

namespace perilune::passthrough {

using Direction = scsi::PassthroughCommand::Direction;

struct SgRequest {
  Bytes cdb;
  Direction direction = Direction::none;
  std::uint32_t bytes = 0;
  std::span<const iovec> data;  // at least `bytes`
  std::chrono::milliseconds timeout{60'000};
  MutableBytes sense;  // at most 255 bytes are used
};

// What the call says, unjudged: it comes from a device, an adapter's driver and the kernel, and any of them
// may be wrong.
struct SgResult {
  int os_errno = 0;  // of the call; then nothing else is set
  std::uint8_t status = 0;
  std::uint16_t host_status = 0;    // DID_*
  std::uint16_t driver_status = 0;  // DRIVER_*
  std::uint32_t sense_bytes = 0;
  std::int64_t residual = 0;
};

class SgNode {
 public:
  virtual ~SgNode() = default;
  // Blocks until the command has ended, however long that takes. Any thread, several at once.
  [[nodiscard]] virtual SgResult execute(const SgRequest& request) = 0;
  // LOGICAL UNIT RESET, of this device alone (SG_SCSI_RESET_NO_ESCALATE). Blocks, while commands end. Any
  // thread; beside execute(). 0, or the errno of the call: EIO where the adapter or the device cannot, EACCES
  // without the privileges that it takes.
  [[nodiscard]] virtual int reset() = 0;
};

// Over /dev/sgN or a block device: version 3 of the interface.
[[nodiscard]] std::unique_ptr<SgNode> make_sg_node(runtime::posix::UniqueFd fd);
// Over /dev/bsg/H:C:T:L: version 4. The data takes a copy, for it has to lie in one piece. bsg has no call
// for resets: they go through `reset_fd`, another node of the same device (empty: there is none).
[[nodiscard]] std::unique_ptr<SgNode> make_bsg_node(runtime::posix::UniqueFd fd,
                                                    runtime::posix::UniqueFd reset_fd);

}  // namespace perilune::passthrough
