// SPDX-License-Identifier: Apache-2.0
// A file of its own: the kernel's struct statx, which has the direct I/O fields, and glibc 2.36's, which has
// not, cannot be seen together.
#include <linux/fcntl.h>
#include <linux/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/posix/direct_alignment.hpp"

namespace perilune::runtime::posix {

DirectAlignment direct_alignment(int fd) noexcept {
  DirectAlignment out;
  struct statx info{};
  if (::syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) != 0) return out;
  out.known = (info.stx_mask & STATX_DIOALIGN) != 0;
  out.memory_bytes = info.stx_dio_mem_align;
  out.offset_bytes = info.stx_dio_offset_align;
  return out;
}

}  // namespace perilune::runtime::posix
