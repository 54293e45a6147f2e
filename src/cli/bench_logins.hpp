// SPDX-License-Identifier: Apache-2.0
// perilune bench --logins: how many sessions a target can make per second.
#pragma once

#include <optional>

#include "base/latency_histogram.hpp"
#include "cli/initiator_common.hpp"
#include "initiator/session.hpp"
#include "runtime/thread_loop.hpp"

namespace perilune::cli {

struct LoginRate {
  std::uint64_t logins = 0;       // within the measurement
  std::uint64_t logins_all = 0;   // with those of the warm-up and the end
  double seconds = 0;
  LatencyHistogram latency;       // from the first SYN to the full-feature phase
};

// `parallel` chains of log in, log out, again, on this thread, for warm_up + seconds. Runs the loop until all
// are logged out.
[[nodiscard]] tl::expected<LoginRate, ToolError> measure_logins(runtime::ThreadLoop& loop,
                                                                const initiator::SessionConfig& config,
                                                                unsigned parallel, double warm_up,
                                                                double seconds);

}  // namespace perilune::cli
