// SPDX-License-Identifier: Apache-2.0
// Holds every operation for a while before it reaches the channel below: a slow disk.
#pragma once

#include <memory>

#include "base/intrusive_list.hpp"
#include "block/filters/filter.hpp"
#include "runtime/loop.hpp"

namespace perilune::block {

class DelayFilter final : public Filter {
 public:
  DelayFilter(std::unique_ptr<Channel> inner, runtime::Loop& loop, runtime::Duration delay)
      : Filter(std::move(inner)), loop_(loop), delay_(delay),
        timer_(loop.timers(), Delegate<void()>::to<&DelayFilter::release_due>(*this)) {}
  ~DelayFilter() override;

 private:
  [[nodiscard]] bool begin(BlockOp& op) override;
  void release_due();

  runtime::Loop& loop_;
  runtime::Duration delay_;
  runtime::Timer timer_;
  IntrusiveList<BlockOp> held_;  // in the order of their deadlines: the delay is the same for all
};

}  // namespace perilune::block
