// SPDX-License-Identifier: Apache-2.0
// CRC16 of T10, the LOGICAL BLOCK GUARD of protection information (SBC-3 4.22.4): polynomial 8BB7h, nothing
// reflected, starts at 0, so that it is incremental over pieces. Any thread; no state.
#pragma once

#include <cstdint>

#include "base/bytes.hpp"

namespace perilune::crypto {

inline constexpr std::uint16_t crc16_t10dif_start = 0;

// The CRC of everything behind `crc` followed by `bytes`.
[[nodiscard]] std::uint16_t crc16_t10dif(std::uint16_t crc, Bytes bytes) noexcept;

}  // namespace perilune::crypto
