// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>

namespace perilune::iscsi {

// Residual counts (RFC 7143 11.4.5): what the device wanted to move against the Expected Data Transfer
// Length.
struct Residual {
  bool overflow = false;
  bool underflow = false;
  std::uint32_t count = 0;  // bytes, saturated

  [[nodiscard]] static constexpr Residual of(std::uint32_t expected_bytes,
                                             std::uint64_t wanted_bytes) noexcept {
    constexpr std::uint64_t most = std::numeric_limits<std::uint32_t>::max();
    if (wanted_bytes > expected_bytes) {
      const std::uint64_t over = wanted_bytes - expected_bytes;
      return {true, false, static_cast<std::uint32_t>(over < most ? over : most)};
    }
    if (wanted_bytes < expected_bytes)
      return {false, true, static_cast<std::uint32_t>(expected_bytes - wanted_bytes)};
    return {};
  }
};

}  // namespace perilune::iscsi
