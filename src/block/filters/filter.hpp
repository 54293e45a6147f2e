// SPDX-License-Identifier: Apache-2.0
// A channel over another channel (DESIGN 1.9). Filters stack; each keeps what it must remember of an
// operation in the operation itself, so that none allocates. A filter lends no memory: it wants to see every
// operation.
#pragma once

#include <cstdint>
#include <memory>

#include "base/block_op.hpp"

namespace perilune::block {

class Filter : public Channel {
 public:
  [[nodiscard]] const Geometry& geometry() const override { return geometry_; }
  [[nodiscard]] bool submit(BlockOp& op) override { return begin(op); }

 protected:
  explicit Filter(std::unique_ptr<Channel> inner);

  // Called by submit(): answers like it. The default hands the operation on.
  [[nodiscard]] virtual bool begin(BlockOp& op) { return forward(op); }
  // The inner channel has ended `op`; the filter may change its outcome. Called once per forwarded operation.
  virtual void ended(BlockOp& op) { (void)op; }

  // Hands `op` to the inner channel. True when it ended at once (after ended()).
  [[nodiscard]] bool forward(BlockOp& op);
  [[nodiscard]] Channel& inner() noexcept { return *inner_; }
  [[nodiscard]] Geometry& own_geometry() noexcept { return geometry_; }
  // One word of the operation that is this filter's while it holds the operation.
  [[nodiscard]] std::uint64_t& word(BlockOp& op) const noexcept { return op.filter_space[space_ + 2]; }

 private:
  void inner_done(BlockOp& op);

  static constexpr std::size_t words_each = 3;  // the caller's `done` (two words) and word()
  std::unique_ptr<Channel> inner_;
  Geometry geometry_;
  std::size_t space_;  // index of the first of our words
};

}  // namespace perilune::block
