// SPDX-License-Identifier: Apache-2.0
#include "crypto/crc32c.hpp"

#include <isa-l/crc.h>

#include <algorithm>

namespace perilune::crypto {

namespace detail {
#if defined(__x86_64__)
const bool cpu_has_crc32c = __builtin_cpu_supports("sse4.2") != 0;
#else
const bool cpu_has_crc32c = false;
#endif
}  // namespace detail

std::uint32_t crc32c(std::uint32_t crc, Bytes bytes) noexcept {
  constexpr std::size_t most_per_call = std::size_t{1} << 30;  // the library counts in int
  std::uint32_t state = ~crc;
  while (!bytes.empty()) {
    const std::size_t n = std::min(bytes.size(), most_per_call);
    // The library takes a non-const pointer and only reads.
    state = crc32_iscsi(const_cast<unsigned char*>(bytes.data()), static_cast<int>(n), state);
    bytes = bytes.subspan(n);
  }
  return ~state;
}

}  // namespace perilune::crypto
