// SPDX-License-Identifier: Apache-2.0
#include "runtime/posix/host_access.hpp"

#include <fcntl.h>

#include <cerrno>

namespace perilune::runtime::posix {

Result<UniqueFd> open_path(HostAccess* access, const std::string& path, int flags) {
  UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
  if (fd) return fd;
  const int error = errno;
  if (access != nullptr && (error == EACCES || error == EPERM)) return access->open(path, flags | O_CLOEXEC);
  return fail_errno(error, path);
}

}  // namespace perilune::runtime::posix
