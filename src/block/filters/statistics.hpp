// SPDX-License-Identifier: Apache-2.0
// Counts what goes through a channel.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "block/filters/filter.hpp"
#include "runtime/loop.hpp"

namespace perilune::block {

struct KindStatistics {
  std::uint64_t operations = 0;   // ended
  std::uint64_t errors = 0;       // of them, not ok
  std::uint64_t blocks = 0;       // of the good ones
  std::uint64_t total_ns = 0;     // as the loop's clock saw it: whole turns
  std::array<std::uint64_t, 40> latency_log2_ns{};  // [i]: below 2^(i+1) ns and not below 2^i
};

class StatisticsFilter final : public Filter {
 public:
  StatisticsFilter(std::unique_ptr<Channel> inner, runtime::Loop& loop)
      : Filter(std::move(inner)), loop_(loop) {}
  [[nodiscard]] const KindStatistics& of(OpKind kind) const noexcept {
    return kinds_[static_cast<std::size_t>(kind)];
  }
  [[nodiscard]] std::uint64_t in_flight() const noexcept { return in_flight_; }

 private:
  [[nodiscard]] bool begin(BlockOp& op) override;
  void ended(BlockOp& op) override;

  runtime::Loop& loop_;
  std::array<KindStatistics, 7> kinds_{};
  std::uint64_t in_flight_ = 0;
};

}  // namespace perilune::block
