// SPDX-License-Identifier: Apache-2.0
// What a process that has given up its privileges asks of one that has kept them (control/privilege).
#pragma once

#include <sys/socket.h>

#include <string>

#include "base/result.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::runtime::posix {

// Any thread. Waits for the other process, a bounded time: errors are those of the call that it makes for us,
// permission where it does not do such a thing, timed_out, and io where it has ended.
class HostAccess {
 public:
  virtual ~HostAccess() = default;
  // As open(). `path` is absolute, or /proc/self/fd/N: the file of our descriptor N once more, with no more
  // rights than N has.
  [[nodiscard]] virtual Result<UniqueFd> open(const std::string& path, int flags) = 0;
  // A regular file that is not there yet: mode 0600, ours, open for reading and writing.
  [[nodiscard]] virtual Result<UniqueFd> create(const std::string& path) = 0;
  // A regular file that is ours.
  [[nodiscard]] virtual Status remove(const std::string& path) = 0;
  // As bind(), of a TCP socket of ours to a port below 1024.
  [[nodiscard]] virtual Status bind(int socket, const sockaddr* address, socklen_t length) = 0;
};

// By ourselves, and where that is not permitted by `access`, if there is one. O_CLOEXEC is added. Errors name
// the path.
[[nodiscard]] Result<UniqueFd> open_path(HostAccess* access, const std::string& path, int flags);

}  // namespace perilune::runtime::posix
