// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "sim/machines.hpp"
#include "sim/scenarios.hpp"
#include "sim/workload.hpp"

namespace perilune::sim {

namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t sessions = 8;
constexpr std::uint64_t blocks_each = 2048;

struct Greedy {
  Greedy(World& world, BlockHistory& history, const ScenarioOptions& options, std::uint64_t number,
         const Pairing& pairing)
      : host(world.add_host("initiator" + std::to_string(number), {"10.0.1." + std::to_string(number + 1)})),
        workload(world, history, shape(number)),
        machine(world, host, options, config(number, pairing)) {}

  static initiator::SessionConfig config(std::uint64_t number, const Pairing& pairing) {
    initiator::SessionConfig c = pairing.session();
    c.initiator_name += std::to_string(number);
    c.isid = initiator::stable_isid(c.initiator_name, "default", target_name);
    c.command_timeout = 3600s;
    return c;
  }
  static WorkloadShape shape(std::uint64_t number) {
    WorkloadShape s;
    s.first_block = number * blocks_each;
    s.blocks = blocks_each;
    s.total = 24;
    s.depth = 32;
    s.max_blocks = 2048;  // a megabyte: the largest command
    s.writes = 95;
    s.flushes = 0;
    s.zeroes = 0;
    return s;
  }

  SimHost& host;
  Workload workload;  // outlives the machine's ghosts
  InitiatorMachine machine;
};

std::string run_all(World& world, std::vector<std::unique_ptr<Greedy>>& all, TargetMachine& target) {
  std::string problem;
  const auto failed = [&] {
    if (problem.empty()) problem = target.problem();
    for (auto& greedy : all) {
      if (problem.empty()) problem = greedy->machine.problem();
      if (problem.empty()) problem = greedy->workload.problem();
    }
    return !problem.empty();
  };
  const auto each = [&](auto predicate) {
    return [&all, &failed, predicate] { return failed() || std::all_of(all.begin(), all.end(), predicate); };
  };
  const auto has_unit = [](const auto& greedy) { return greedy->machine.unit() != nullptr; };
  if (!world.run_until(each(has_unit), 600s)) problem = "not every session comes up";
  if (!problem.empty()) return problem;
  for (auto& greedy : all) greedy->workload.use(*greedy->machine.unit());
  const auto over = [](const auto& greedy) { return greedy->workload.over(); };
  const auto all_over = each(over);
  std::uint32_t least_free = target.free_pages();
  const auto watched = [&] {
    least_free = std::min(least_free, target.free_pages());
    return all_over();
  };
  if (!world.run_until(watched, 3000s)) problem = "a greedy session starves";
  if (problem.empty() && least_free > 4)
    problem = "the pool was never short: this run proves nothing; least free " + std::to_string(least_free);
  if (!problem.empty()) return problem;
  for (auto& greedy : all) greedy->workload.verify();
  const auto verified = [](const auto& greedy) { return greedy->workload.verified(); };
  if (!world.run_until(each(verified), 3000s) && problem.empty()) problem = "reading back never ends";
  if (!problem.empty()) return problem;
  for (auto& greedy : all) greedy->machine.logout();
  if (!world.run_until([&] { return target.pool_is_whole(); }, 600s))
    problem = "payload memory is not returned";
  return problem;
}

}  // namespace

ScenarioResult run_pool(std::uint64_t seed, const ScenarioOptions& options) {
  WorldOptions world_options;
  world_options.trace_sink = options.trace_sink;
  World world(seed, world_options);
  Prng prng = world.prng().fork();
  Pairing pairing = Pairing::draw(prng);
  pairing.initial_r2t = false;
  pairing.immediate_data = prng.coin();
  pairing.first_burst_length = 65536;
  pairing.max_burst_length = 262144;
  pairing.target_segment_length = static_cast<std::uint32_t>(prng.between(1, 32)) * 8192;
  pairing.commands_max = 128;
  pairing.spare_buffer_pages = 0;

  const std::uint32_t shards = prng.coin() ? 1 : 2;
  SimHost& host = world.add_host("target", {"10.0.0.1"});
  DiskOptions disk;
  disk.size_bytes = sessions * blocks_each * 512;
  host.add_disk("/disk", disk);
  BlockHistory history(seed, 512, BlockCount(sessions * blocks_each));
  TargetMachine target(world, host, options, [&](target::ServerConfig& config) { pairing.apply(config); },
                       shards);
  target.start();
  std::vector<std::unique_ptr<Greedy>> all;
  for (std::uint64_t i = 0; i < sessions; ++i) {
    all.push_back(std::make_unique<Greedy>(world, history, options, i, pairing));
    all.back()->machine.start();
  }
  ScenarioResult result;
  result.problem = run_all(world, all, target);
  result.trace_hash = world.trace_hash();
  result.events = world.event_count();
  for (auto& greedy : all) {
    greedy->machine.crash();
    greedy->workload.lost();
  }
  return result;
}

}  // namespace perilune::sim
