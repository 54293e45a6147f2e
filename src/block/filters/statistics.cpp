// SPDX-License-Identifier: Apache-2.0
#include "block/filters/statistics.hpp"

#include <algorithm>
#include <bit>

namespace perilune::block {

bool StatisticsFilter::begin(BlockOp& op) {
  ++in_flight_;
  word(op) = static_cast<std::uint64_t>(loop_.now().time_since_epoch().count());
  return forward(op);
}

void StatisticsFilter::ended(BlockOp& op) {
  --in_flight_;
  KindStatistics& kind = kinds_[static_cast<std::size_t>(op.kind)];
  ++kind.operations;
  if (op.status == OpStatus::ok) kind.blocks += op.kind == OpKind::flush ? 0 : op.blocks.value();
  else ++kind.errors;
  const std::uint64_t ns = static_cast<std::uint64_t>(loop_.now().time_since_epoch().count()) - word(op);
  kind.total_ns += ns;
  const std::size_t bucket = ns == 0 ? 0 : static_cast<std::size_t>(std::bit_width(ns)) - 1;
  ++kind.latency_log2_ns[std::min(bucket, kind.latency_log2_ns.size() - 1)];
}

}  // namespace perilune::block
