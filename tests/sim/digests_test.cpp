// SPDX-License-Identifier: Apache-2.0
// Reads with data digests of a disk in memory are summed and sent from where the data lies, while others
// write there (TxQueue::push_late). An initiator that sees a wrong digest drops its connection.
#include <gtest/gtest.h>

#include "base/sanitizer.hpp"
#include "block/open_backstore.hpp"
#include "sim/writer.hpp"

namespace perilune::sim {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t blocks = 2048;

class Digests : public ::testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Seeds, Digests,
                         ::testing::Range(std::uint64_t{1}, std::uint64_t{PERILUNE_SANITIZED ? 7 : 25}));

TEST_P(Digests, AreRightWhileTheDiskIsWrittenTo) {
  World world{GetParam()};
  Prng prng(GetParam());
  Pairing pairing = Pairing::draw(prng);
  pairing.data_digest = true;
  SimHost& host = world.add_host("target", {"10.0.0.1"});
  DiskOptions disk;
  disk.size_bytes = 512;
  host.add_disk("/disk", disk);
  TargetMachine target(
      world, host, ScenarioOptions{},
      [&](target::ServerConfig& config) {
        pairing.apply(config);
        config.targets.front().units.front().backstore = block::open_backstore("ram:1M", {}).value();
      },
      1);
  target.start();
  ASSERT_EQ(target.problem(), "");
  WorkloadShape shape;
  shape.blocks = blocks;
  shape.total = 1500;
  shape.depth = 24;
  shape.max_blocks = 512;
  shape.writes = 40;
  Writer writer(world, pairing.session(), shape);
  writer.expect_undisturbed();
}

}  // namespace
}  // namespace perilune::sim
