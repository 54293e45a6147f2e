// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace perilune::runtime::posix {

// What O_DIRECT asks for on this descriptor (statx STATX_DIOALIGN, kernel 6.1).
struct DirectAlignment {
  bool known = false;
  std::uint32_t memory_bytes = 0;  // 0: no O_DIRECT here
  std::uint32_t offset_bytes = 0;
};
[[nodiscard]] DirectAlignment direct_alignment(int fd) noexcept;

}  // namespace perilune::runtime::posix
