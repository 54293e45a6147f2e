// SPDX-License-Identifier: Apache-2.0
// The eight bytes of a LUN (SAM-5 4.6), as one big-endian number.
#pragma once

#include <cstdint>

namespace perilune::scsi {

inline constexpr std::uint64_t report_luns_well_known_lun = 0xc101'0000'0000'0000u;

struct LunAddress {
  enum class Kind : std::uint8_t { unit, report_luns_well_known, other };
  Kind kind = Kind::other;
  std::uint16_t number = 0;
};

// Peripheral device addressing on bus 0 and flat space addressing name a unit; everything else none of ours. Both
// forms are accepted for every number, since hosts differ in the one they choose.
[[nodiscard]] constexpr LunAddress decode_lun(std::uint64_t lun) noexcept {
  if (lun == report_luns_well_known_lun) return {LunAddress::Kind::report_luns_well_known, 0};
  if ((lun & 0x0000'ffff'ffff'ffffu) != 0) return {};
  const auto first = static_cast<std::uint16_t>(lun >> 48);
  switch (first >> 14) {
    case 0: return (first & 0x3f00) == 0 ? LunAddress{LunAddress::Kind::unit, first} : LunAddress{};
    case 1: return {LunAddress::Kind::unit, static_cast<std::uint16_t>(first & 0x3fff)};
    default: return {};
  }
}

// Peripheral device addressing below 256, flat space addressing above.
[[nodiscard]] constexpr std::uint64_t encode_lun(std::uint16_t number) noexcept {
  const std::uint64_t first = number < 256 ? number : 0x4000u | number;
  return first << 48;
}

}  // namespace perilune::scsi
