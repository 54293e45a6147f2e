// SPDX-License-Identifier: Apache-2.0
#include "crypto/crc16_t10dif.hpp"

#include <isa-l/crc.h>

namespace perilune::crypto {

std::uint16_t crc16_t10dif(std::uint16_t crc, Bytes bytes) noexcept {
  return bytes.empty() ? crc : ::crc16_t10dif(crc, bytes.data(), bytes.size());
}

}  // namespace perilune::crypto
