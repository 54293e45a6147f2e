// SPDX-License-Identifier: Apache-2.0
// Somebody who writes and reads the first disk of a target all the while, and must not be disturbed by what
// happens beside it.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <utility>

#include "sim/machines.hpp"
#include "sim/workload.hpp"

namespace perilune::sim {

class Writer {
 public:
  // The disk has `blocks` of 512 bytes; `total` operations.
  Writer(World& world, initiator::SessionConfig session, std::uint64_t blocks, std::uint64_t total)
      : Writer(world, std::move(session), shape(blocks, total)) {}
  // The disk has shape.blocks of 512 bytes.
  Writer(World& world, initiator::SessionConfig session, const WorkloadShape& shape)
      : world_(world),
        history_(7, 512, BlockCount(shape.blocks)),
        workload_(world, history_, shape),
        machine_(world, world.add_host("initiator", {"10.0.1.1"}), ScenarioOptions{}, std::move(session)) {
    machine_.start();
    EXPECT_TRUE(world_.run_until([this] { return machine_.unit() != nullptr; }, std::chrono::seconds(60)));
    if (machine_.unit() != nullptr) workload_.use(*machine_.unit());
  }
  [[nodiscard]] std::uint64_t ended() const { return workload_.ended(); }
  // Runs to the end of its work: nothing was wrong, refused, or cut.
  void expect_undisturbed() {
    EXPECT_TRUE(world_.run_until([this] { return workload_.over() || !workload_.problem().empty(); },
                                 std::chrono::seconds(600)));
    EXPECT_EQ(workload_.problem(), "");
    EXPECT_EQ(workload_.failures(), 0U);
    EXPECT_EQ(machine_.session()->info().reconnects, 0U);
  }

 private:
  static WorkloadShape shape(std::uint64_t blocks, std::uint64_t total) {
    WorkloadShape shape;
    shape.blocks = blocks;
    shape.total = total;
    return shape;
  }
  World& world_;
  BlockHistory history_;
  Workload workload_;
  InitiatorMachine machine_;
};

}  // namespace perilune::sim
