// SPDX-License-Identifier: Apache-2.0
// The named limits of error recovery above level 0 (beside those of limits.hpp): what is kept for initiators that may ask again.
#pragma once

#include <chrono>
#include <cstdint>

namespace perilune::limits {

inline constexpr std::uint32_t retained_share_of_session = 4;      // it keeps data in this part of the pool's pages
inline constexpr std::uint32_t retained_share_of_all = 2;          // all sessions of a shard together
inline constexpr std::chrono::milliseconds retention_grace{500};   // to acknowledge in, when others wait for pages

}  // namespace perilune::limits
