// SPDX-License-Identifier: Apache-2.0
#include "control/privilege/descriptor_message.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace perilune::control::privilege {
namespace {

// More than a message of ours has: what does not fit would be dropped by the kernel, and is closed by it.
constexpr std::size_t max_descriptors = 4;

}  // namespace

bool send_with_descriptor(int socket, const void* message, std::size_t bytes, int fd) {
  iovec iov{const_cast<void*>(message), bytes};  // only read
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr header{};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  if (fd >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* const rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(bytes);
}

ssize_t receive_with_descriptors(int socket, void* message, std::size_t capacity,
                                 std::vector<runtime::posix::UniqueFd>& received) {
  iovec iov{message, capacity};
  alignas(cmsghdr) char control[CMSG_SPACE(max_descriptors * sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const ssize_t bytes = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC | MSG_TRUNC);
  if (bytes < 0) return -errno;
  for (cmsghdr* each = CMSG_FIRSTHDR(&header); each != nullptr; each = CMSG_NXTHDR(&header, each)) {
    if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t at = 0; CMSG_LEN(at + sizeof(int)) <= each->cmsg_len; at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(each) + at, sizeof fd);
      received.emplace_back(fd);
    }
  }
  return bytes;
}

}  // namespace perilune::control::privilege
