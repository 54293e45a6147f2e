// SPDX-License-Identifier: Apache-2.0
// From a path to a real device that can be served.
#pragma once

#include <memory>
#include <string>

#include "base/result.hpp"
#include "passthrough/real_device.hpp"
#include "runtime/posix/host_access.hpp"

namespace perilune::passthrough {

struct OpenOptions {
  bool read_only = false;     // the descriptor too
  bool unrestricted = false;  // PassthroughFacts::unrestricted
  // Who opens what this process may not. Then the process has no CAP_SYS_RAWIO either, without which the
  // kernel lets only some commands through to a block device or a bsg node, but all of them to /dev/sgN: that
  // one is opened.
  runtime::posix::HostAccess* access = nullptr;
};

// `path`: /dev/sgN, a whole block device of a SCSI disk or drive, or /dev/bsg/H:C:T:L. Holds the device's
// disks exclusively as a mount does, and locks the node against another server. Control path: it asks the
// device, which may take its time. Fails with one line that a person can act on: not_found, permission, busy
// (mounted, held, or served already), invalid_argument (a partition, no device), unsupported (a device that
// does not speak SCSI), io.
[[nodiscard]] Result<std::shared_ptr<RealDevice>> open_device(const std::string& path,
                                                              const OpenOptions& options);

}  // namespace perilune::passthrough
