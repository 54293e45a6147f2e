// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "runtime/sim/scenario.hpp"

namespace perilune::sim {

ScenarioResult run_streams(std::uint64_t seed, const ScenarioOptions& options);

}  // namespace perilune::sim
