// SPDX-License-Identifier: Apache-2.0
// gzip (RFC 1952) for the backups of saveconfig.json, in memory. Any thread.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace perilune::control::targetd {

// Fails with internal when the library refuses.
[[nodiscard]] Result<std::string> gzip(std::string_view text);
// Fails with invalid_argument (no gzip, damaged, cut off) or limit.
[[nodiscard]] Result<std::string> gunzip(std::string_view compressed, std::size_t max_bytes);

}  // namespace perilune::control::targetd
