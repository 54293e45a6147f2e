// SPDX-License-Identifier: Apache-2.0
// Time points of the loop's monotonic clock. There is no now() here: time enters by argument or from a Loop.
#pragma once

#include <chrono>
#include <cstdint>

namespace perilune::runtime {

struct MonotonicClock {
  using rep = std::int64_t;
  using period = std::nano;
  using duration = std::chrono::nanoseconds;
  using time_point = std::chrono::time_point<MonotonicClock>;
  static constexpr bool is_steady = true;
};
using Instant = MonotonicClock::time_point;
using Duration = std::chrono::nanoseconds;

}  // namespace perilune::runtime
