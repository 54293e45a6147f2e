// SPDX-License-Identifier: Apache-2.0
// A process that does for a server what the server cannot or may not do itself: a child of it, told by
// messages over a SOCK_SEQPACKET socket, which ends when the server has gone.
#pragma once

#include <sys/types.h>

#include <functional>

#include "base/result.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::runtime::posix {

struct ForkedHelper {
  UniqueFd socket;  // the server's end, which never waits
  pid_t pid = -1;
};

// Forks. The child has its end of the socket, and no descriptor else; its session and folder (/) are its own,
// signals that end the server do not reach it, and `name` is what ps shows. There `serve` is called with that
// end, and does not return. In a program with threads it may allocate (glibc makes malloc usable in the
// child) and take no other lock.
[[nodiscard]] Result<ForkedHelper> fork_helper(const char* name,
                                               const std::function<void(int socket)>& serve);

}  // namespace perilune::runtime::posix
