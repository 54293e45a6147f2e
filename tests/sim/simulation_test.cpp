// SPDX-License-Identifier: Apache-2.0
// The slice of every scenario that ctest runs. For more: perilune-sim --scenario NAME --count K.
#include <gtest/gtest.h>

#include "base/sanitizer.hpp"
#include "sim/scenarios.hpp"

namespace perilune::sim {
namespace {

// Sanitizers make every seed several times as long.
constexpr std::uint64_t thinning = PERILUNE_SANITIZED ? 8 : 1;

void run_seeds(ScenarioResult (*run)(std::uint64_t, const ScenarioOptions&), std::uint64_t first,
               std::uint64_t count) {
  for (std::uint64_t seed = first; seed < first + count / thinning; ++seed) {
    const ScenarioResult result = run(seed, {});
    ASSERT_EQ(result.problem, "") << "seed " << seed;
  }
}

int caught(const DiskFaults& lies, std::uint64_t seeds,
           ScenarioResult (*run)(std::uint64_t, const ScenarioOptions&,
                                 const DiskFaults&) = run_durability_with) {
  int count = 0;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    count += run(seed, {}, lies).problem.empty() ? 0 : 1;
  }
  return count;
}

TEST(Simulation, StreamsDeliverEveryByteInOrder) { run_seeds(run_streams, 1, 300); }

TEST(Simulation, RecoveryKeepsEveryAcknowledgedBlock1) { run_seeds(run_recovery, 1, 500); }
TEST(Simulation, RecoveryKeepsEveryAcknowledgedBlock2) { run_seeds(run_recovery, 501, 500); }
TEST(Simulation, RecoveryKeepsEveryAcknowledgedBlock3) { run_seeds(run_recovery, 1001, 500); }
TEST(Simulation, RecoveryKeepsEveryAcknowledgedBlock4) { run_seeds(run_recovery, 1501, 500); }

TEST(Simulation, PowerLossTakesNoFlushedOrFuaWrite1) { run_seeds(run_durability, 1, 500); }
TEST(Simulation, PowerLossTakesNoFlushedOrFuaWrite2) { run_seeds(run_durability, 501, 500); }

TEST(Simulation, AFlushThatDoesNothingIsCaught) {
  DiskFaults lies;
  lies.ignore_sync = true;
  EXPECT_GT(caught(lies, 100), 10);
}

TEST(Simulation, AFuaWriteThatIsNotDurableIsCaught) {
  DiskFaults lies;
  lies.ignore_durable_write = true;
  EXPECT_GT(caught(lies, 100), 10);
}

TEST(Simulation, PowerLossLeavesNoFlushedBlockWithAWrongGuard) { run_seeds(run_protection, 1, 300); }

TEST(Simulation, AFuaWriteOfProtectedBlocksThatIsNotDurableIsCaught) {
  DiskFaults lies;
  lies.ignore_durable_write = true;
  EXPECT_GT(caught(lies, 50, run_protection_with), 5);
}

TEST(Simulation, EightGreedySessionsFinishOnTheSmallestPool) { run_seeds(run_pool, 1, 32); }

TEST(Simulation, ReadersWhoseDataIsKeptFinishOnTheSmallestPool) { run_seeds(run_retention, 1, 16); }

TEST(Simulation, ShardsLoseNoIncrementAndWriteNothingBehindAFence) {
  ShardsResult sum;
  for (std::uint64_t seed = 1; seed <= 120 / thinning; ++seed) {
    const ShardsResult result = run_shards_with(seed, {}, ShardsFault::none);
    ASSERT_EQ(result.problem, "") << "seed " << seed;
    sum.protections += result.protections;
    sum.shut_out += result.shut_out;
    sum.shut_out_by_operator += result.shut_out_by_operator;
  }
  EXPECT_GT(sum.protections, 0U);
  EXPECT_GT(sum.shut_out, 3U * 120 / thinning) << "every kind of fence";
  EXPECT_GT(sum.shut_out_by_operator, 0U);
}

TEST(Simulation, AShardThatForgetsAccessStatesIsCaught) {
  int caught = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    caught += run_shards_with(seed, {}, ShardsFault::forgets_access_states).problem.empty() ? 0 : 1;
  }
  EXPECT_GT(caught, 3);
}

TEST(Simulation, TheMediumItsTrayAndTokensAreOneOverAllShards) {
  MediumResult sum;
  const std::uint64_t seeds = 120 / thinning;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    const MediumResult result = run_medium_with(seed, {}, MediumFault::none);
    ASSERT_EQ(result.problem, "") << "seed " << seed;
    sum.wipes += result.wipes;
    sum.ejects += result.ejects;
    sum.prevented += result.prevented;
    sum.tokens_used += result.tokens_used;
    sum.deleted_refused += result.deleted_refused;
    sum.told_of_medium += result.told_of_medium;
    sum.changes += result.changes;
    sum.changes_refused += result.changes_refused;
  }
  EXPECT_GT(sum.wipes, 2 * seeds);
  EXPECT_GT(sum.ejects, 2 * seeds);
  EXPECT_GT(sum.prevented, seeds / 2);
  EXPECT_GT(sum.tokens_used, seeds);
  EXPECT_GT(sum.deleted_refused, seeds / 4);
  EXPECT_GT(sum.told_of_medium, seeds);
  EXPECT_GT(sum.changes, seeds);
  EXPECT_GT(sum.changes_refused, seeds / 4);
}

TEST(Simulation, WhatIsWrongWithTheMediumOfSeveralShardsIsCaught) {
  for (const MediumFault planted :
       {MediumFault::answers_early, MediumFault::keeps_blocks, MediumFault::forgets_who_prevents,
        MediumFault::deleted_tokens_return, MediumFault::operator_leaves_it}) {
    int caught = 0;
    for (std::uint64_t seed = 1; seed <= 20; ++seed)
      caught += run_medium_with(seed, {}, planted).problem.empty() ? 0 : 1;
    EXPECT_GT(caught, 3) << static_cast<int>(planted);
  }
}

TEST(Simulation, NoStatusPassesTheFenceOfAnAbort) {
  FencesResult sum;
  for (std::uint64_t seed = 1; seed <= 80 / thinning; ++seed) {
    const FencesResult result = run_fences_counted(seed, {});
    ASSERT_EQ(result.problem, "") << "seed " << seed;
    sum.answered += result.answered;
    sum.ended += result.ended;
    sum.functions += result.functions;
    sum.messages += result.messages;
  }
  EXPECT_GT(sum.answered, 0U);
  EXPECT_GT(sum.ended, 0U);
  EXPECT_GT(sum.functions, 0U);
  EXPECT_GT(sum.messages, 0U);
}

TEST(Simulation, TasksOutliveTheirConnectionsAtRecoveryLevel2) {
  std::uint64_t reassigned = 0;
  for (std::uint64_t seed = 1; seed <= 100 / thinning; ++seed) {
    const ReassignResult result = run_reassign_counted(seed, {});
    ASSERT_EQ(result.problem, "") << "seed " << seed;
    reassigned += result.reassigned;
  }
  EXPECT_GT(reassigned, 0U);
}

TEST(Simulation, EveryCommandIsCarriedOutAndAnsweredOnceAtEveryRecoveryLevel) {
  LevelsResult sum;
  for (std::uint64_t seed = 1; seed <= 64 / thinning; ++seed) {
    const LevelsResult result = run_levels_with(seed, {}, PlantedFault::none);
    ASSERT_EQ(result.problem, "") << "seed " << seed;
    sum.snacks += result.snacks;
    sum.reassigned += result.reassigned;
    sum.retransmitted += result.retransmitted;
    sum.recovered_connections += result.recovered_connections;
    sum.reconnects += result.reconnects;
  }
  // Otherwise these runs prove nothing.
  EXPECT_GT(sum.snacks, 0U);
  EXPECT_GT(sum.reassigned, 0U);
  EXPECT_GT(sum.retransmitted, 0U);
  EXPECT_GT(sum.recovered_connections, 0U);
  EXPECT_GT(sum.reconnects, 0U);
}

int caught(PlantedFault planted, std::uint64_t seeds) {
  int count = 0;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    count += run_levels_with(seed, {}, planted).problem.empty() ? 0 : 1;
  }
  return count;
}

TEST(Simulation, FlippedBitsThatNoDigestSeesAreCaught) { EXPECT_GT(caught(PlantedFault::no_digests, 8), 4); }

TEST(Simulation, AnInitiatorThatRepeatsWhatMayHaveBeenCarriedOutIsCaught) {
  EXPECT_GT(caught(PlantedFault::replays_all, 16), 0);
}

}  // namespace
}  // namespace perilune::sim
