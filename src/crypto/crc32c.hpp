// SPDX-License-Identifier: Apache-2.0
// CRC32C, the header and data digest of iSCSI (RFC 7143 13.1).
//
// Values are finished CRCs, as zlib's crc32() has them: the inversions at start and end happen inside every
// call, and crc32c_start continues to nothing. So a digest is incremental over pieces:
//
//   auto crc = crc32c(crc32c_start, bhs);
//   crc = crc32c(crc, ahs);
//   store_digest(out, crc);          // 4 bytes on the wire
//
// A data digest covers the data segment and its pad bytes; a header digest covers the BHS and the AHS.
// Any thread; no state.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/bytes.hpp"

namespace perilune::crypto {

inline constexpr std::uint32_t crc32c_start = 0;

// The CRC of everything behind `crc` followed by `bytes`.
[[nodiscard]] std::uint32_t crc32c(std::uint32_t crc, Bytes bytes) noexcept;

// The digest is sent with the least significant byte of the (reflected) CRC first.
inline void store_digest(std::uint8_t* out, std::uint32_t crc) noexcept {
  out[0] = static_cast<std::uint8_t>(crc);
  out[1] = static_cast<std::uint8_t>(crc >> 8);
  out[2] = static_cast<std::uint8_t>(crc >> 16);
  out[3] = static_cast<std::uint8_t>(crc >> 24);
}
[[nodiscard]] inline std::uint32_t load_digest(const std::uint8_t* p) noexcept {
  return std::uint32_t{p[0]} | (std::uint32_t{p[1]} << 8) | (std::uint32_t{p[2]} << 16) |
         (std::uint32_t{p[3]} << 24);
}

namespace detail {
extern const bool cpu_has_crc32c;  // SSE4.2; false until this library's static initialisation, which is
                                   // merely slower
}

// crc32c(crc32c_start, {bhs, 48}), without a call where the processor has the instruction: one per PDU
// header.
[[nodiscard]] inline std::uint32_t crc32c_bhs(const std::uint8_t* bhs) noexcept {
#if defined(__x86_64__)
  if (detail::cpu_has_crc32c) {
    std::uint64_t crc = 0xffffffff;
    for (int i = 0; i < 6; ++i) {
      std::uint64_t word;
      std::memcpy(&word, bhs + 8 * i, 8);
      // Inline assembly, not the intrinsic: this function must inline into code built for the base
      // instruction set.
      __asm__("crc32q %1, %0" : "+r"(crc) : "rm"(word));
    }
    return ~static_cast<std::uint32_t>(crc);
  }
#endif
  return crc32c(crc32c_start, Bytes(bhs, 48));
}

}  // namespace perilune::crypto
