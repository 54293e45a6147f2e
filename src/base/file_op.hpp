// SPDX-License-Identifier: Apache-2.0
// The completion object of runtime::BlockFile. It stands here, below runtime/, because block::BlockOp embeds one and
// the pure folders (scsi/) embed BlockOps.
#pragma once

#include <cstdint>

#include "base/delegate.hpp"
#include "base/intrusive_list.hpp"

namespace perilune::runtime {

// One operation, embedded by its owner and alive until `done` is called. result: bytes moved (may be short at the end
// of a file), 0 for the others, or -errno.
struct FileOp : ListNode<FileOp> {
  Delegate<void(FileOp&, int result)> done;
  // For the implementation:
  std::uint64_t scratch[8] = {};
};

}  // namespace perilune::runtime
