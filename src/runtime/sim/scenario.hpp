// SPDX-License-Identifier: Apache-2.0
// A scenario is a whole simulated run judged from a seed: the unit of perilune-sim and of the simulation
// tests.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "runtime/sim/world.hpp"

namespace perilune::sim {

struct ScenarioOptions {
  // Given to the world; sees every event.
  std::function<void(Instant, Event, std::uint64_t detail, std::uint64_t hash)> trace_sink;
  // One line of what the parts say (logs), for a person who replays a seed.
  std::function<void(Instant, const std::string& line)> narrate;
};

struct ScenarioResult {
  std::string problem;  // empty: passed
  std::uint64_t trace_hash = 0;
  std::uint64_t events = 0;
};

struct Scenario {
  const char* name;
  const char* summary;
  ScenarioResult (*run)(std::uint64_t seed, const ScenarioOptions& options);
};

// Every scenario of this program; defined where they live (tests/sim).
[[nodiscard]] std::span<const Scenario> scenarios();

}  // namespace perilune::sim
