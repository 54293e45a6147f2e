// SPDX-License-Identifier: Apache-2.0
#include "block/filters/delay.hpp"

#include "base/assert.hpp"

namespace perilune::block {
namespace {

runtime::Instant deadline_in(std::uint64_t word) {
  return runtime::Instant(runtime::Duration(static_cast<std::int64_t>(word)));
}

}  // namespace

DelayFilter::~DelayFilter() { PERILUNE_ASSERT(held_.empty()); }

bool DelayFilter::begin(BlockOp& op) {
  const runtime::Instant deadline = loop_.now() + delay_;
  word(op) = static_cast<std::uint64_t>(deadline.time_since_epoch().count());
  held_.push_back(op);
  if (!timer_.armed()) timer_.arm(deadline);
  return false;
}

void DelayFilter::release_due() {
  IntrusiveList<BlockOp> due;
  while (!held_.empty() && deadline_in(word(held_.front())) <= loop_.now()) due.push_back(held_.pop_front());
  if (!held_.empty()) timer_.arm(deadline_in(word(held_.front())));
  while (!due.empty()) {
    BlockOp& op = due.pop_front();
    if (forward(op)) op.done(op);  // after the last one this filter may be gone
  }
}

}  // namespace perilune::block
