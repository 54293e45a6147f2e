// SPDX-License-Identifier: Apache-2.0
#include "base/mapping.hpp"

#include <unistd.h>

namespace perilune {

Mapping Mapping::of_huge_pages(std::size_t bytes, int flags) noexcept {
  const bool aligned = bytes >= huge_page_bytes;
  Mapping mapping = of_zeroes(aligned ? bytes + huge_page_bytes : bytes, flags);
  if (!mapping.good()) return mapping;
  if (aligned) {
    const auto small = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t before = -reinterpret_cast<std::uintptr_t>(mapping.begin_) % huge_page_bytes;
    const std::size_t kept = (bytes + small - 1) / small * small;
    if (before != 0) ::munmap(mapping.begin_, before);
    mapping.begin_ += before;
    mapping.bytes_ = bytes;
    ::munmap(mapping.begin_ + kept, huge_page_bytes - before);
  }
  (void)::madvise(mapping.begin_, bytes, MADV_HUGEPAGE);
  return mapping;
}

}  // namespace perilune
