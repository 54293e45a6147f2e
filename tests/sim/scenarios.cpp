// SPDX-License-Identifier: Apache-2.0
#include "sim/scenarios.hpp"

namespace perilune::sim {

std::span<const Scenario> scenarios() {
  static constexpr Scenario all[] = {
      {"streams", "echo over connections that are cut, reset and stalled", run_streams},
  };
  return all;
}

}  // namespace perilune::sim
