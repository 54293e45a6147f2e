// SPDX-License-Identifier: Apache-2.0
// Messages that carry descriptors (SCM_RIGHTS) over a SOCK_SEQPACKET socket.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <vector>

#include "runtime/posix/unique_fd.hpp"

namespace perilune::control::privilege {

// `fd` -1: none. Never waits; false when the other end has gone or takes nothing.
[[nodiscard]] bool send_with_descriptor(int socket, const void* message, std::size_t bytes, int fd);

// The length of the message, longer ones too (of which `capacity` bytes are there); 0 at the end, -errno for
// an error. Every descriptor that came is in `received`, and closed with it.
[[nodiscard]] ssize_t receive_with_descriptors(int socket, void* message, std::size_t capacity,
                                               std::vector<runtime::posix::UniqueFd>& received);

}  // namespace perilune::control::privilege
