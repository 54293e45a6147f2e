// SPDX-License-Identifier: Apache-2.0
// Sockets by plain system calls: what happens once per connection. Internal to this folder.
#pragma once

#include <sys/socket.h>

#include "base/result.hpp"
#include "runtime/endpoint.hpp"
#include "runtime/stream.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::runtime::uring {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = sizeof(sockaddr_storage);
  [[nodiscard]] sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
};

[[nodiscard]] SocketAddress to_socket_address(const Endpoint& endpoint) noexcept;
[[nodiscard]] Endpoint to_endpoint(const SocketAddress& address) noexcept;
[[nodiscard]] Endpoint local_endpoint(int fd) noexcept;
[[nodiscard]] Endpoint peer_endpoint(int fd) noexcept;

// A TCP socket with the options set. Linux hands every one of them on from a listener to what it accepts, so accepted
// sockets need none of these calls.
[[nodiscard]] Result<posix::UniqueFd> make_socket(const Endpoint& family_of, const SocketOptions& options);
[[nodiscard]] Result<posix::UniqueFd> make_listener(const Endpoint& local, const SocketOptions& options);

}  // namespace perilune::runtime::uring
