// SPDX-License-Identifier: Apache-2.0
// Messages that carry descriptors (SCM_RIGHTS) over a SOCK_SEQPACKET socket.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <vector>

#include "runtime/posix/unique_fd.hpp"

namespace perilune::runtime::posix {

// Of one message, at most.
constexpr std::size_t max_message_descriptors = 8;

// Never waits; false when the other end has gone or takes nothing. Precondition: not more descriptors than a
// message has.
[[nodiscard]] bool send_with_descriptors(int socket, const void* message, std::size_t bytes,
                                         std::span<const int> descriptors);

// The length of the message, longer ones too (of which `capacity` bytes are there); 0 at the end, -errno for
// an error. Every descriptor that came is in `received`, and closed with it.
[[nodiscard]] ssize_t receive_with_descriptors(int socket, void* message, std::size_t capacity,
                                               std::vector<UniqueFd>& received);

}  // namespace perilune::runtime::posix
