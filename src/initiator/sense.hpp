// SPDX-License-Identifier: Apache-2.0
// The three numbers of sense data that an initiator acts on (SPC-4 4.5). Pure.
#pragma once

#include <cstdint>

#include "base/bytes.hpp"

namespace perilune::initiator {

struct SenseCode {
  std::uint8_t key = 0, asc = 0, ascq = 0;
  [[nodiscard]] std::uint16_t code() const noexcept { return static_cast<std::uint16_t>((asc << 8) | ascq); }
};

namespace sense_key {
inline constexpr std::uint8_t recovered = 1, not_ready = 2, medium_error = 3, hardware_error = 4,
                              illegal_request = 5, unit_attention = 6, data_protect = 7,
                              aborted_command = 0xb;
}

// Fixed or descriptor format; all zero when there is no sense, or it is too short to say.
[[nodiscard]] inline SenseCode decode_sense(Bytes sense) noexcept {
  SenseCode out;
  if (sense.empty()) return out;
  const unsigned format = sense[0] & 0x7fu;
  if (format == 0x72 || format == 0x73) {
    if (sense.size() >= 4) out = {static_cast<std::uint8_t>(sense[1] & 0xf), sense[2], sense[3]};
  } else if (format == 0x70 || format == 0x71) {
    if (sense.size() >= 3) out.key = sense[2] & 0xf;
    if (sense.size() >= 14) {
      out.asc = sense[12];
      out.ascq = sense[13];
    }
  }
  return out;
}

}  // namespace perilune::initiator
