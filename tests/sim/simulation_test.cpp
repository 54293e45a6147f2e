// SPDX-License-Identifier: Apache-2.0
// The slice of every scenario that ctest runs. For more: perilune-sim --scenario NAME --count K.
#include <gtest/gtest.h>

#include "sim/scenarios.hpp"

namespace perilune::sim {
namespace {

void run_seeds(ScenarioResult (*run)(std::uint64_t, const ScenarioOptions&), std::uint64_t first,
               std::uint64_t count) {
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    const ScenarioResult result = run(seed, {});
    ASSERT_EQ(result.problem, "") << "seed " << seed;
  }
}

TEST(Simulation, StreamsDeliverEveryByteInOrder) { run_seeds(run_streams, 1, 300); }

}  // namespace
}  // namespace perilune::sim
