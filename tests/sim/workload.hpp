// SPDX-License-Identifier: Apache-2.0
// Random block operations on a channel, every one judged by the block history.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/block_op.hpp"
#include "runtime/sim/block_history.hpp"
#include "runtime/sim/world.hpp"

namespace perilune::sim {

struct WorkloadShape {
  std::uint64_t first_block = 0;  // the range it works on
  std::uint64_t blocks = 0;
  std::uint64_t total = 0;  // operations
  std::uint32_t depth = 4;
  std::uint32_t max_blocks = 64;  // of one operation
  // In hundred; the rest are reads.
  std::uint32_t writes = 50;
  std::uint32_t fua = 25;  // of the writes
  std::uint32_t flushes = 5;
  std::uint32_t zeroes = 5;  // unmap and write zeroes
  bool tolerant = false;     // operations may fail; what they did is judged all the same
  // verify(): reads of one block each; those fail that a power loss may have torn
  // (BlockHistory::may_be_torn).
  bool torn_reads_fail = false;
  // And of those whose protection information was never written, or taken away, a torn one is read as it is:
  // there is nothing to check it against.
  bool blocks_may_be_blank = false;
};

// Works on the loop of its channel. After lost() it carries on with another channel.
class Workload {
 public:
  Workload(World& world, BlockHistory& history, const WorkloadShape& shape);
  ~Workload();

  // The unit that the operations go to; nothing is outstanding on another one.
  void use(block::Channel& channel);
  // The initiator is gone with all that was outstanding; what its ghost says of it is not heard. The workload
  // outlives the ghost.
  void lost();
  // Reads the whole range; verified() when all of it was legal.
  void verify();
  // Writes blocks anew, durably, one by one: those that were torn, or all.
  void rewrite_torn();
  void rewrite_all();
  [[nodiscard]] bool rewritten() const noexcept { return rewriting_ && torn_.empty() && outstanding_ == 0; }
  [[nodiscard]] std::uint64_t torn() const noexcept { return torn_.size(); }

  [[nodiscard]] std::uint64_t ended() const noexcept { return ended_; }
  [[nodiscard]] std::uint64_t failures() const noexcept { return failures_; }
  [[nodiscard]] bool over() const noexcept { return ended_ == shape_.total; }
  [[nodiscard]] bool verified() const noexcept {
    return verifying_ && next_block_ == end_block() && outstanding_ == 0;
  }
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }

 private:
  struct Slot;
  [[nodiscard]] std::uint64_t end_block() const noexcept { return shape_.first_block + shape_.blocks; }
  void fill();
  [[nodiscard]] bool wants_more() const noexcept;
  bool start(Slot& slot);
  void choose(Slot& slot);
  void choose_read_back(Slot& slot);
  void choose_rewrite(Slot& slot);
  void make_data(Slot& slot, std::uint64_t blocks);
  void end(Slot& slot);
  void judge(Slot& slot);

  World& world_;
  BlockHistory& history_;
  WorkloadShape shape_;
  Prng prng_;
  block::Channel* channel_ = nullptr;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<std::unique_ptr<Slot>> lost_;
  std::uint64_t started_ = 0;
  std::uint64_t ended_ = 0;
  std::uint64_t failures_ = 0;
  std::uint32_t outstanding_ = 0;
  bool verifying_ = false;
  bool filling_ = false;
  bool rewriting_ = false;
  std::vector<std::uint64_t> torn_;
  std::uint64_t next_block_ = 0;
  std::string problem_;
};

}  // namespace perilune::sim
