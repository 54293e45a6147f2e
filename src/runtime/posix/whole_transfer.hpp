// SPDX-License-Identifier: Apache-2.0
// A transfer of all bytes or a failure, by one plain call, for files that never wait (tmpfs).
#pragma once

#include <unistd.h>

#include "base/bytes.hpp"
#include "base/units.hpp"

namespace perilune::runtime::posix {

[[nodiscard]] inline bool read_whole(int fd, ByteOffset offset, MutableBytes to) noexcept {
  return ::pread(fd, to.data(), to.size(), static_cast<off_t>(offset.value())) ==
         static_cast<ssize_t>(to.size());
}

[[nodiscard]] inline bool write_whole(int fd, ByteOffset offset, Bytes from) noexcept {
  return ::pwrite(fd, from.data(), from.size(), static_cast<off_t>(offset.value())) ==
         static_cast<ssize_t>(from.size());
}

}  // namespace perilune::runtime::posix
