// SPDX-License-Identifier: Apache-2.0
#include "runtime/posix/file_extent.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace perilune::runtime::posix {

int find_extent(int fd, std::uint64_t begin, std::uint64_t length, FileExtent& out) noexcept {
  const std::uint64_t end = begin + length;
  out = {.allocated = true, .length_bytes = length};
  const off_t data = ::lseek(fd, static_cast<off_t>(begin), SEEK_DATA);
  if (data < 0) {
    if (errno == ENXIO)
      out.allocated = false;  // no data from here to the end of the file
    else if (errno != EINVAL && errno != EOPNOTSUPP)
      return -errno;  // the two: this file cannot tell
    return 0;
  }
  if (static_cast<std::uint64_t>(data) > begin) {
    out = {.allocated = false, .length_bytes = std::min(static_cast<std::uint64_t>(data), end) - begin};
    return 0;
  }
  const off_t hole = ::lseek(fd, data, SEEK_HOLE);
  if (hole > data) out.length_bytes = std::min(static_cast<std::uint64_t>(hole), end) - begin;
  return 0;
}

}  // namespace perilune::runtime::posix
