// SPDX-License-Identifier: Apache-2.0
// When to spin before sleeping (PERFORMANCE 8). A pure decision: time comes in by argument.
//
// A sleeping loop pays a wake-up of tens of microseconds per batch. Spinning saves it when the next request comes sooner
// than the limit, as the recent gaps tell. Two missed spins in a row end it, an idle loop never spins, and it is off for
// a while when the thread was preempted meanwhile (the machine has other work).
#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/time.hpp"
#include "runtime/thread_loop.hpp"

namespace perilune::runtime {

class PollingPolicy {
 public:
  PollingPolicy(Polling mode, Duration limit) noexcept
      : mode_(limit.count() > 0 || mode == Polling::always ? mode : Polling::never), limit_ns_(limit.count()),
        gap_ns_(4 * limit.count()) {}

  // How long to spin now; zero: sleep at once.
  [[nodiscard]] Duration spin_time(Instant now) const noexcept {
    if (mode_ == Polling::always) return Duration::max();
    if (mode_ == Polling::never || gap_ns_ > limit_ns_ || now < off_until_) return Duration{0};
    return Duration(limit_ns_);
  }
  // Work came `gap` after the loop had none. Of a loop that slept, that includes its own wake-up, which is what spinning is to
  // save: it must not speak against it.
  void note_gap(Duration gap, bool slept) noexcept { blend((slept ? gap - assumed_wake_up : gap).count()); }
  // A spin ended without work.
  void note_miss() noexcept { blend(4 * limit_ns_); }

  // The thread's count of involuntary context switches, asked for when check_due() says so.
  [[nodiscard]] bool check_due(Instant now) const noexcept { return now >= next_check_; }
  void note_preemptions(Instant now, std::uint64_t count) noexcept {
    const std::uint64_t more = count - preemptions_;
    const bool first = next_check_ == Instant{};
    preemptions_ = count;
    next_check_ = now + check_interval;
    if (!first && more > tolerated_preemptions) off_until_ = now + rest;
  }

  static constexpr Duration assumed_wake_up = std::chrono::microseconds(50);
  static constexpr Duration check_interval = std::chrono::milliseconds(20);
  static constexpr Duration rest = std::chrono::milliseconds(200);
  static constexpr std::uint64_t tolerated_preemptions = 4;  // per interval

 private:
  void blend(std::int64_t gap_ns) noexcept {
    gap_ns = std::clamp<std::int64_t>(gap_ns, 0, 4 * limit_ns_);
    gap_ns_ += (gap_ns - gap_ns_) / 8;
  }
  Polling mode_;
  std::int64_t limit_ns_;
  std::int64_t gap_ns_;  // moving average of the recent gaps
  Instant off_until_{};
  Instant next_check_{};
  std::uint64_t preemptions_ = 0;
};

}  // namespace perilune::runtime
