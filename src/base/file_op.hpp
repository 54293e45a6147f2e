// SPDX-License-Identifier: Apache-2.0
// The completion object of runtime::BlockFile. It stands here, below runtime/, because block::BlockOp embeds
// one and the pure folders (scsi/) embed BlockOps.
#pragma once

#include <cstdint>

#include "base/delegate.hpp"
#include "base/intrusive_list.hpp"

namespace perilune::runtime {

// The beginning of a range of a file that is alike.
struct FileExtent {
  bool allocated = true;  // false: a hole; reads give zeroes
  std::uint64_t length_bytes = 0;
};

// One operation, embedded by its owner and alive until `done` is called. result: bytes moved, 0 for the
// others, or -errno. A transfer may come back short at any point (a partly cached range, an interrupted
// device, the end of the file): the caller asks for the rest; 0 bytes read means the end of the file.
struct FileOp : ListNode<FileOp> {
  Delegate<void(FileOp&, int result)> done;
  FileExtent extent;  // outcome of BlockFile::extent
  // For the implementation:
  std::uint64_t scratch[8] = {};
};

}  // namespace perilune::runtime
