// SPDX-License-Identifier: Apache-2.0
// Opens what a disk may live in and finds out what it can do. Shared by the loops that run on this system and
// by the backstores, which must know the same facts before any loop runs. Blocks for a moment; any thread.
#pragma once

#include <string>

#include "base/result.hpp"
#include "runtime/block_file.hpp"
#include "runtime/posix/host_access.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::runtime::posix {

struct OpenedBlockFile {
  UniqueFd fd;
  // For durable writes, an open of its own: the system tells of a failed write-back once per open (errseq_t),
  // and a durable write that were told would take the message from the next flush, which has more to answer
  // for.
  UniqueFd durable_fd;
  FileProperties properties;
  bool in_memory = false;  // tmpfs: reads and writes never wait for a device
  bool sparse = false;     // a regular file with holes
};

// Fails with the errno of open() or invalid_argument (neither a regular file nor a block device). `exclusive`
// claims a block device (O_EXCL): busy when it is mounted or claimed by another. `access`: who opens what we
// may not, or nullptr.
[[nodiscard]] Result<OpenedBlockFile> open_block_file(const std::string& path, const OpenOptions& options,
                                                      bool exclusive = false, HostAccess* access = nullptr);

}  // namespace perilune::runtime::posix
