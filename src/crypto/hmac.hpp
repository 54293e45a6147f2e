// SPDX-License-Identifier: Apache-2.0
// HMAC-SHA-256 (RFC 2104, FIPS 180-4). Any thread.
#pragma once

#include <array>
#include <cstdint>

#include "base/bytes.hpp"

namespace perilune::crypto {

using MacValue = std::array<std::uint8_t, 32>;

// Of `message` under `key`, which has at most 64 bytes.
[[nodiscard]] MacValue hmac_sha256(Bytes key, Bytes message);

}  // namespace perilune::crypto
