// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "runtime/sim/scenario.hpp"
#include "runtime/sim/sim_disk.hpp"

namespace perilune::sim {

ScenarioResult run_streams(std::uint64_t seed, const ScenarioOptions& options);

// A target and an initiator: login, verified I/O, cut and reset connections, crashes of either side, recovery
// with I/O held and replayed; at the end every block is read back, and the disk is looked at after an orderly
// stop.
ScenarioResult run_recovery(std::uint64_t seed, const ScenarioOptions& options);

// The target loses power again and again; no flushed or FUA write may be missing afterwards.
ScenarioResult run_durability(std::uint64_t seed, const ScenarioOptions& options);
// The same over a disk that lies: expected to be caught.
ScenarioResult run_durability_with(std::uint64_t seed, const ScenarioOptions& options,
                                   const DiskFaults& lies);

// As durability, over a disk with protection information (its type by the seed), where a power loss cuts
// through blocks of 520 bytes: no flushed or FUA write fails its guard, and no torn block is ever returned as
// if it were one.
ScenarioResult run_protection(std::uint64_t seed, const ScenarioOptions& options);
ScenarioResult run_protection_with(std::uint64_t seed, const ScenarioOptions& options,
                                   const DiskFaults& lies);

// Eight greedy sessions of unsolicited writes on the smallest legal buffer pool: all of them finish.
ScenarioResult run_pool(std::uint64_t seed, const ScenarioOptions& options);

// Greedy readers of recovery level 1 on that pool, one of which acknowledges nothing: all of them finish.
ScenarioResult run_retention(std::uint64_t seed, const ScenarioOptions& options);

// Two or three shards serve one disk, each with its own loop: COMPARE AND WRITE increments from all of them
// beside plain writes, mode changes, resets, changes of size, and PREEMPT, SET TARGET PORT GROUPS and the
// operator that shut all but one shard out. No increment is lost, and nothing is written to a protected unit
// or by those that are shut out.
ScenarioResult run_shards(std::uint64_t seed, const ScenarioOptions& options);
// The same with something that the scenario must catch; and how often it was looked at each: in some runs not
// at all, in all of them together it has to be.
enum class ShardsFault : std::uint8_t {
  none,
  forgets_access_states,  // no port group of another shard is ever in a state that refuses anything
};
struct ShardsResult : ScenarioResult {
  std::uint64_t protections = 0, shut_out = 0, shut_out_by_operator = 0;
};
ShardsResult run_shards_with(std::uint64_t seed, const ScenarioOptions& options, ShardsFault planted);

// Two or three shards serve one removable disk: SANITIZE and FORMAT UNIT, its tray and ROD tokens beside
// writers, resets nexuses that come and go, and an operator who puts in another medium. Nothing works on the
// medium beside them, nothing is left of what they wiped, the tray and tokens are one.
ScenarioResult run_medium(std::uint64_t seed, const ScenarioOptions& options);
// The same with something that the scenario must catch.
enum class MediumFault : std::uint8_t {
  none,
  answers_early,          // a write is told to be over, and the medium is worked on, while it is in progress
  keeps_blocks,           // that work changes nothing
  forgets_who_prevents,   // the shard that opens the tray knows of nobody who holds it
  deleted_tokens_return,  // on other shards than the one that deleted them
  operator_leaves_it,     // the operator says that the medium is out, and it is not
};
struct MediumResult : ScenarioResult {
  std::uint64_t wipes = 0, ejects = 0, prevented = 0, tokens_used = 0, deleted_refused = 0,
                told_of_medium = 0;
  std::uint64_t changes = 0, changes_refused = 0;  // by the operator
};
MediumResult run_medium_with(std::uint64_t seed, const ScenarioOptions& options, MediumFault planted);

// Recovery level 2: connections fail and come back, tasks are reassigned, everything is read back.
ScenarioResult run_reassign(std::uint64_t seed, const ScenarioOptions& options);
// The same, and how many tasks were: in some runs there is none, in all of them together there has to be.
struct ReassignResult : ScenarioResult {
  std::uint64_t reassigned = 0;
};
ReassignResult run_reassign_counted(std::uint64_t seed, const ScenarioOptions& options);

// Sessions of several connections, with a TaskReporting by the seed, end their own tasks and each other's by
// task management on any connection: no status passes the fence of the answer that says that its task is
// over.
ScenarioResult run_fences(std::uint64_t seed, const ScenarioOptions& options);
// The same, and what happened: tasks with a status, tasks that a function has ended, functions, messages of
// FastAbort.
struct FencesResult : ScenarioResult {
  std::uint64_t answered = 0, ended = 0, functions = 0, messages = 0;
};
FencesResult run_fences_counted(std::uint64_t seed, const ScenarioOptions& options);

// Our initiator at recovery levels 0 to 2 with one to four connections, under cuts, resets, flipped bits and
// connections that are added and removed: what is read is right, and COMPARE AND WRITE increments show that
// every command is carried out and answered exactly once (below level 2: at most once).
ScenarioResult run_levels(std::uint64_t seed, const ScenarioOptions& options);

// The same with something that the scenario must catch.
enum class PlantedFault : std::uint8_t {
  none,
  no_digests,      // flipped bits go unnoticed
  replays_all,     // the initiator sends again what may have been carried out
};
struct LevelsResult : ScenarioResult {
  std::uint64_t snacks = 0, reassigned = 0, retransmitted = 0, recovered_connections = 0, reconnects = 0;
};
LevelsResult run_levels_with(std::uint64_t seed, const ScenarioOptions& options, PlantedFault planted);

}  // namespace perilune::sim
