// SPDX-License-Identifier: Apache-2.0
// The responder on epoll: per connection and wake-up one receive and one gather send.
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "ceiling/responder.hpp"
#include "ceiling/serve.hpp"
#include "ceiling/tcp.hpp"

namespace ceiling {
namespace {

class EpollConnection {
 public:
  EpollConnection(int poll, int fd, Disk& disk) : poll_(poll), fd_(fd), responder_(disk) {
    epoll_event event{EPOLLIN, {.ptr = this}};
    if (::epoll_ctl(poll_, EPOLL_CTL_ADD, fd_, &event) != 0) die("epoll_ctl");
  }
  ~EpollConnection() { ::close(fd_); }

  // False: it is over.
  bool on_ready(std::uint32_t events) {
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && responder_.wants_bytes() && !receive())
      return false;
    if (!send_answers()) return false;
    const std::uint32_t wanted =
        (responder_.wants_bytes() ? std::uint32_t{EPOLLIN} : 0u) | (blocked_ ? std::uint32_t{EPOLLOUT} : 0u);
    if (wanted != armed_) {
      epoll_event event{wanted, {.ptr = this}};
      (void)::epoll_ctl(poll_, EPOLL_CTL_MOD, fd_, &event);
      armed_ = wanted;
    }
    return true;
  }

 private:
  bool receive() {
    std::array<iovec, 2> iov;
    const std::size_t count = responder_.destination(iov);
    ssize_t n = 0;
    if (count == 1) {
      n = ::recv(fd_, iov[0].iov_base, iov[0].iov_len, 0);
    } else {
      msghdr message{};
      message.msg_iov = iov.data();
      message.msg_iovlen = count;
      n = ::recvmsg(fd_, &message, 0);
    }
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    return n > 0 && responder_.received(static_cast<std::size_t>(n));
  }
  bool send_answers() {
    blocked_ = false;
    while (responder_.next_answers()) {
      const std::span<iovec> iov = responder_.answers();
      msghdr message{};
      message.msg_iov = iov.data();
      message.msg_iovlen = iov.size();
      const ssize_t n = ::sendmsg(fd_, &message, MSG_NOSIGNAL);
      if (n < 0) {
        blocked_ = errno == EAGAIN;
        return blocked_ || errno == EINTR;
      }
      if (!responder_.sent(static_cast<std::size_t>(n))) return false;
    }
    return true;
  }

  int poll_, fd_;
  Responder responder_;
  bool blocked_ = false;
  std::uint32_t armed_ = EPOLLIN;
};

}  // namespace

void serve_epoll(int listener, Disk& disk, Waiting waiting) {
  const int poll = ::epoll_create1(EPOLL_CLOEXEC);
  if (poll < 0) die("epoll_create1");
  make_non_blocking(listener);
  epoll_event event{EPOLLIN, {.ptr = nullptr}};
  if (::epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event) != 0) die("epoll_ctl");
  std::array<epoll_event, 256> ready;
  for (;;) {
    const int n =
        ::epoll_wait(poll, ready.data(), static_cast<int>(ready.size()), waiting == Waiting::spin ? 0 : -1);
    for (int i = 0; i < n; ++i) {
      const epoll_event& one = ready[static_cast<std::size_t>(i)];
      if (one.data.ptr == nullptr) {
        for (int fd; (fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
          new EpollConnection(poll, fd, disk);  // owned by the epoll set
        }
        continue;
      }
      auto* const connection = static_cast<EpollConnection*>(one.data.ptr);
      if (!connection->on_ready(one.events)) delete connection;
    }
  }
}

}  // namespace ceiling
