// SPDX-License-Identifier: Apache-2.0
// The eight bytes of a LUN (SAM-5 4.6), as one big-endian number.
#pragma once

#include <cstdint>

namespace perilune::scsi {

inline constexpr std::uint64_t report_luns_well_known_lun = 0xc101'0000'0000'0000u;

// SAM-5 4.7.7.5: ADDRESS METHOD 3, LENGTH 1, EXTENDED ADDRESS METHOD 2, and then three bytes of LUN.
inline constexpr std::uint64_t extended_flat_space = 0xd200'0000'0000'0000u;

struct LunAddress {
  enum class Kind : std::uint8_t { unit, report_luns_well_known, other };
  Kind kind = Kind::other;
  std::uint16_t number = 0;
};

// Peripheral device addressing on bus 0, flat space addressing and extended flat space addressing with three
// bytes name a unit; everything else none of ours. Every form is accepted for every number it can hold, since
// hosts differ in the one they choose.
[[nodiscard]] constexpr LunAddress decode_lun(std::uint64_t lun) noexcept {
  if (lun == report_luns_well_known_lun) return {LunAddress::Kind::report_luns_well_known, 0};
  if ((lun & 0xffff'0000'ffff'ffffu) == extended_flat_space) {  // 24 bits, of which we have 16
    return {LunAddress::Kind::unit, static_cast<std::uint16_t>(lun >> 32)};
  }
  if ((lun & 0x0000'ffff'ffff'ffffu) != 0) return {};
  const auto first = static_cast<std::uint16_t>(lun >> 48);
  switch (first >> 14) {
    case 0: return (first & 0x3f00) == 0 ? LunAddress{LunAddress::Kind::unit, first} : LunAddress{};
    case 1: return {LunAddress::Kind::unit, static_cast<std::uint16_t>(first & 0x3fff)};
    default: return {};
  }
}

// Peripheral device addressing below 256, flat space addressing below 16384, extended flat space addressing
// above.
[[nodiscard]] constexpr std::uint64_t encode_lun(std::uint16_t number) noexcept {
  if (number >= 0x4000) return extended_flat_space | std::uint64_t{number} << 32;
  const std::uint64_t first = number < 256 ? number : 0x4000u | number;
  return first << 48;
}

}  // namespace perilune::scsi
