// SPDX-License-Identifier: Apache-2.0
// The named limits of error recovery above level 0 (beside those of limits.hpp): what is kept for initiators
// that may ask again.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace perilune::limits {

inline constexpr std::uint32_t retained_share_of_session =
    4;                                                     // it keeps data in this part of the pool's pages
inline constexpr std::uint32_t retained_share_of_all = 2;  // all sessions of a shard together
inline constexpr std::chrono::milliseconds retention_grace{
    500};  // to acknowledge in, when others wait for pages

inline constexpr std::size_t max_lost_connections = 16;     // of a session, whose tasks may be reassigned
inline constexpr std::uint16_t default_time2retain_s = 20;  // agreed to at most, and only at level 2
inline constexpr std::size_t max_waiting_sessions = 256;    // of a shard, that have no connection left
inline constexpr std::size_t max_waiting_sessions_of_initiator = 8;  // of one initiator name
inline constexpr std::chrono::milliseconds suspension_grace{
    5000};  // for tasks that hold pages which others wait for

}  // namespace perilune::limits
