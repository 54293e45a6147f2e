// SPDX-License-Identifier: Apache-2.0
#include "runtime/posix/sockets.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cerrno>
#include <cstring>

#include "base/bytes.hpp"

namespace perilune::runtime::posix {
namespace {

template <class T>
Status set_option(int fd, int level, int name, const T& value, const char* what) {
  if (::setsockopt(fd, level, name, &value, sizeof value) != 0) return fail_errno(errno, what);
  return {};
}

Status apply_options(int fd, const SocketOptions& options) {
  const int one = 1;
  if (options.no_delay) {
    if (auto s = set_option(fd, IPPROTO_TCP, TCP_NODELAY, one, "TCP_NODELAY"); !s) return s;
  }
  if (options.keepalive) {
    if (auto s = set_option(fd, SOL_SOCKET, SO_KEEPALIVE, one, "SO_KEEPALIVE"); !s) return s;
  }
  if (options.send_buffer_bytes > 0) {
    if (auto s = set_option(fd, SOL_SOCKET, SO_SNDBUF, options.send_buffer_bytes, "SO_SNDBUF"); !s) return s;
  }
  if (options.receive_buffer_bytes > 0) {
    if (auto s = set_option(fd, SOL_SOCKET, SO_RCVBUF, options.receive_buffer_bytes, "SO_RCVBUF"); !s)
      return s;
  }
  if (options.user_timeout.count() > 0) {
    const auto ms = static_cast<unsigned>(options.user_timeout.count());
    if (auto s = set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, ms, "TCP_USER_TIMEOUT"); !s) return s;
  }
  if (!options.congestion_control.empty()) {
    // One that this kernel does not have (ENOENT) or does not allow (EPERM) leaves the system's choice.
    (void)::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, options.congestion_control.data(),
                       static_cast<socklen_t>(options.congestion_control.size()));
  }
  return {};
}

Status bind_listener(int fd, SocketAddress& address, HostAccess* access) {
  if (::bind(fd, address.get(), address.length) == 0) return {};
  if (errno != EACCES || access == nullptr) return fail_errno(errno, "listen");
  return access->bind(fd, address.get(), address.length);
}

}  // namespace

SocketAddress to_socket_address(const Endpoint& endpoint) noexcept {
  SocketAddress out;
  if (endpoint.is_ipv6) {
    sockaddr_in6 in6{};
    in6.sin6_family = AF_INET6;
    in6.sin6_port = htons(endpoint.port);
    in6.sin6_scope_id = endpoint.scope_id;
    std::memcpy(&in6.sin6_addr, endpoint.address.data(), 16);
    std::memcpy(&out.storage, &in6, sizeof in6);
    out.length = sizeof in6;
  } else {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(endpoint.port);
    std::memcpy(&in.sin_addr, endpoint.address.data(), 4);
    std::memcpy(&out.storage, &in, sizeof in);
    out.length = sizeof in;
  }
  return out;
}

Endpoint to_endpoint(const SocketAddress& address) noexcept {
  Endpoint out;
  if (address.storage.ss_family == AF_INET6) {
    sockaddr_in6 in6{};
    std::memcpy(&in6, &address.storage, sizeof in6);
    out.is_ipv6 = true;
    out.port = ntohs(in6.sin6_port);
    out.scope_id = in6.sin6_scope_id;
    std::memcpy(out.address.data(), &in6.sin6_addr, 16);
  } else {
    sockaddr_in in{};
    std::memcpy(&in, &address.storage, sizeof in);
    out.port = ntohs(in.sin_port);
    std::memcpy(out.address.data(), &in.sin_addr, 4);
  }
  return out;
}

Endpoint local_endpoint(int fd) noexcept {
  SocketAddress address;
  (void)::getsockname(fd, address.get(), &address.length);
  return to_endpoint(address);
}

Endpoint peer_endpoint(int fd) noexcept {
  SocketAddress address;
  (void)::getpeername(fd, address.get(), &address.length);
  return to_endpoint(address);
}

void set_waiting(int fd, Waiting waiting) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return;
  const int wanted = waiting == Waiting::non_blocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  if (wanted != flags) static_cast<void>(::fcntl(fd, F_SETFL, wanted));
}

Result<UniqueFd> make_socket(const Endpoint& family_of, const SocketOptions& options, Waiting waiting) {
  const int flags = SOCK_CLOEXEC | (waiting == Waiting::non_blocking ? SOCK_NONBLOCK : 0);
  UniqueFd fd(::socket(family_of.is_ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | flags, IPPROTO_TCP));
  if (!fd) return fail_errno(errno, "socket");
  if (auto status = apply_options(fd.get(), options); !status) return tl::unexpected(status.error());
  return fd;
}

Result<UniqueFd> make_listener(const Endpoint& local, const SocketOptions& options, Waiting waiting,
                               HostAccess* access) {
  auto fd = make_socket(local, options, waiting);
  if (!fd) return fd;
  const int one = 1;
  if (auto s = set_option(fd->get(), SOL_SOCKET, SO_REUSEADDR, one, "SO_REUSEADDR"); !s)
    return tl::unexpected(s.error());
  if (local.is_ipv6) {
    if (auto s = set_option(fd->get(), IPPROTO_IPV6, IPV6_V6ONLY, one, "IPV6_V6ONLY"); !s)
      return tl::unexpected(s.error());
  }
  if (options.address_may_come_later) {
    const int level = local.is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IP;
    const int name = local.is_ipv6 ? IPV6_FREEBIND : IP_FREEBIND;
    if (auto s = set_option(fd->get(), level, name, one, "IP_FREEBIND"); !s) return tl::unexpected(s.error());
  }
  SocketAddress address = to_socket_address(local);
  if (auto bound = bind_listener(fd->get(), address, access); !bound) return tl::unexpected(bound.error());
  if (::listen(fd->get(), SOMAXCONN) != 0) return fail_errno(errno, "listen");
  return fd;
}

int send_now(int fd, std::span<const iovec> iov) noexcept {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(iov.data());  // the kernel only reads it
  message.msg_iovlen = iov.size();
  for (;;) {
    const ssize_t n = ::sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) return static_cast<int>(n);
    if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
    if (errno != EINTR) return -errno;
  }
}

Result<UniqueFd> make_caller(const Endpoint& peer, const SocketOptions& options, Waiting waiting) {
  auto fd = make_socket(peer, options, waiting);
  if (!fd || !options.bind_address) return fd;
  SocketAddress local = to_socket_address(*options.bind_address);
  if (::bind(fd->get(), local.get(), local.length) != 0) {
    return fail_errno(errno, "bind to " + options.bind_address->to_string());
  }
  return fd;
}

}  // namespace perilune::runtime::posix
