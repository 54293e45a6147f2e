// SPDX-License-Identifier: Apache-2.0
// The root helper: a process of root's that opens, for a server that is nobody, what its administrator may
// have meant, and nothing else. It has one thread, keeps nothing between requests, and is confined itself:
// the capabilities to pass by the modes of files and to bind low ports, and two dozen system calls.
//
// Rules beyond the protocol's: a file is a regular one, with one name, that is not executable; a device is a
// block device (which nobody has mounted, where it is written to) or one that takes SCSI commands; on the way
// to a file no symbolic link is followed, on the way to a device none that leaves /dev; a descriptor that is
// opened again gets no right that it has not.
#pragma once

#include <sys/types.h>

#include "base/result.hpp"
#include "control/privilege/helper_protocol.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::control::privilege {

struct HelperPolicy {
  Roots roots = default_roots();
  Roots secrets = {std::string(secret_root)};  // opened for reading alone
  uid_t uid = 0;  // the server's: whose files are made and removed
  gid_t gid = 0;
};

// One request that check() has found right. `carried` is the descriptor that came with it. The descriptor
// that is the answer, or an empty one.
[[nodiscard]] Result<runtime::posix::UniqueFd> perform(const Request& request, int carried,
                                                       const HelperPolicy& policy);

// Confines itself and answers until the other end of `socket` is closed. Called in a child with one thread
// (fork_helper), which it ends.
[[noreturn]] void run_helper(int socket, const HelperPolicy& policy);

}  // namespace perilune::control::privilege
