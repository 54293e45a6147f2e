// SPDX-License-Identifier: Apache-2.0
// Sockets by plain system calls: what happens once per connection. Shared by the loops that run on this
// system.
#pragma once

#include <sys/socket.h>

#include <cstdint>

#include "base/result.hpp"
#include "runtime/endpoint.hpp"
#include "runtime/posix/host_access.hpp"
#include "runtime/posix/unique_fd.hpp"
#include "runtime/stream.hpp"

namespace perilune::runtime::posix {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = sizeof(sockaddr_storage);
  [[nodiscard]] sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
};

[[nodiscard]] SocketAddress to_socket_address(const Endpoint& endpoint) noexcept;
[[nodiscard]] Endpoint to_endpoint(const SocketAddress& address) noexcept;
[[nodiscard]] Endpoint local_endpoint(int fd) noexcept;
[[nodiscard]] Endpoint peer_endpoint(int fd) noexcept;

// A TCP socket with the options set. Linux hands every one of them on from a listener to what it accepts, so
// accepted sockets need none of these calls. A ring polls by itself and would hand EAGAIN of a non-blocking
// socket straight on; epoll wants the opposite.
enum class Waiting : std::uint8_t { blocking, non_blocking };
[[nodiscard]] Result<UniqueFd> make_socket(const Endpoint& family_of, const SocketOptions& options,
                                           Waiting waiting);
// `access`: who binds to a low port where we may not, or nullptr.
[[nodiscard]] Result<UniqueFd> make_listener(const Endpoint& local, const SocketOptions& options,
                                             Waiting waiting, HostAccess* access = nullptr);
// Stream::send_now().
[[nodiscard]] int send_now(int fd, std::span<const iovec> iov) noexcept;
// For a socket that somebody else made.
void set_waiting(int fd, Waiting waiting) noexcept;
// make_socket for a connection, bound to options.bind_address when there is one.
[[nodiscard]] Result<UniqueFd> make_caller(const Endpoint& peer, const SocketOptions& options,
                                           Waiting waiting);

}  // namespace perilune::runtime::posix
