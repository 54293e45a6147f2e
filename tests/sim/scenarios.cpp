// SPDX-License-Identifier: Apache-2.0
#include "sim/scenarios.hpp"

namespace perilune::sim {

std::span<const Scenario> scenarios() {
  static constexpr Scenario all[] = {
      {"streams", "echo over connections that are cut, reset and stalled", run_streams},
      {"recovery", "target and initiator through cuts, resets and crashes, every block judged", run_recovery},
      {"durability", "the target loses power; no flushed or FUA write is lost", run_durability},
      {"protection", "the same with protection information: nothing flushed fails its guard", run_protection},
      {"pool", "eight greedy sessions on the smallest legal buffer pool all finish", run_pool},
      {"retention", "readers of recovery level 1 on it, one acknowledging nothing, all finish",
       run_retention},
      {"shards", "several shards serve one disk: no increment lost, no write after what fences it",
       run_shards},
      {"medium", "several shards wipe, eject and copy by token on one disk: all of it is one", run_medium},
      {"levels", "our initiator at recovery levels 0 to 2, one to four connections, under faults",
       run_levels},
      {"fences", "no status passes the answer to the function that ended its task", run_fences},
      {"reassign", "connections of recovery level 2 that fail and come back", run_reassign},
  };
  return all;
}

}  // namespace perilune::sim
