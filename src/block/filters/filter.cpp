// SPDX-License-Identifier: Apache-2.0
#include "block/filters/filter.hpp"

#include <cstring>
#include <iterator>
#include <type_traits>

#include "base/assert.hpp"

namespace perilune::block {
namespace {

using Done = Delegate<void(BlockOp&)>;
static_assert(std::is_trivially_copyable_v<Done> && sizeof(Done) == 2 * sizeof(std::uint64_t));

}  // namespace

Filter::Filter(std::unique_ptr<Channel> inner) : inner_(std::move(inner)), geometry_(inner_->geometry()) {
  geometry_.lends_memory = geometry_.reads_at_once = geometry_.writes_at_once = false;
  const auto* below = dynamic_cast<const Filter*>(inner_.get());
  space_ = below != nullptr ? below->space_ + words_each : 0;
  PERILUNE_ASSERT(space_ + words_each <= std::size(BlockOp{}.filter_space));
}

bool Filter::forward(BlockOp& op) {
  std::memcpy(&op.filter_space[space_], &op.done, sizeof op.done);
  op.done = Done::to<&Filter::inner_done>(*this);
  if (!inner_->submit(op)) return false;
  std::memcpy(static_cast<void*>(&op.done), &op.filter_space[space_], sizeof op.done);
  ended(op);
  return true;
}

void Filter::inner_done(BlockOp& op) {
  std::memcpy(static_cast<void*>(&op.done), &op.filter_space[space_], sizeof op.done);
  ended(op);
  op.done(op);
}

}  // namespace perilune::block
