// SPDX-License-Identifier: Apache-2.0
#include "runtime/posix/descriptor_message.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/assert.hpp"

namespace perilune::runtime::posix {

bool send_with_descriptors(int socket, const void* message, std::size_t bytes,
                           std::span<const int> descriptors) {
  PERILUNE_ASSERT(descriptors.size() <= max_message_descriptors);
  iovec iov{const_cast<void*>(message), bytes};  // only read
  alignas(cmsghdr) char control[CMSG_SPACE(max_message_descriptors * sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  if (!descriptors.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* const rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size_bytes());
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(bytes);
}

ssize_t receive_with_descriptors(int socket, void* message, std::size_t capacity,
                                 std::vector<UniqueFd>& received) {
  iovec iov{message, capacity};
  // What does not fit is dropped by the kernel, and closed by it.
  alignas(cmsghdr) char control[CMSG_SPACE(max_message_descriptors * sizeof(int))] = {};
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

}  // namespace perilune::runtime::posix
