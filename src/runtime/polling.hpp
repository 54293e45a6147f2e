// SPDX-License-Identifier: Apache-2.0
// When to spin before sleeping (PERFORMANCE 8). A pure decision: time comes in by argument.
//
// A sleeping loop pays a wake-up of tens of microseconds per batch, and so does the peer that waits for it.
// Whether work would come within a spin cannot be told from gaps that were slept through: they hold both
// wake-ups. So it is tried: while work keeps coming, some spins in a row, now and then. When most of them end
// with work, the loop goes on spinning, until most do not; after a trial in vain the next one waits longer.
// An idle loop never spins, and it is off for a while when the thread was preempted meanwhile (the machine
// has other work).
#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/time.hpp"
#include "runtime/thread_loop.hpp"

namespace perilune::runtime {

class PollingPolicy {
 public:
  PollingPolicy(Polling mode, Duration limit) noexcept
      : mode_(limit.count() > 0 || mode == Polling::always ? mode : Polling::never), limit_(limit) {}

  // How long to spin now; zero: sleep at once. May begin a trial.
  [[nodiscard]] Duration spin_time(Instant now) noexcept {
    if (mode_ == Polling::always) return Duration::max();
    if (mode_ == Polling::never || now < off_until_) return Duration{0};
    if (!spinning_ && !begin_trial(now)) return Duration{0};
    return limit_;
  }
  [[nodiscard]] bool spinning() const noexcept { return mode_ == Polling::always || spinning_; }
  // Work came `gap` after the loop had none. Of a loop that slept, that includes the wake-ups.
  void note_gap(Duration gap, bool slept) noexcept {
    last_gap_ = gap;
    if (gap > longest_pause) pause_ = first_pause;  // another piece of work than that of the trials in vain
    if (!slept && gap <= limit_) judge(true);
  }
  // A spin ended without work.
  void note_miss() noexcept { judge(false); }

  // The thread's count of involuntary context switches, asked for when check_due() says so.
  [[nodiscard]] bool check_due(Instant now) const noexcept { return now >= next_check_; }
  void note_preemptions(Instant now, std::uint64_t count) noexcept {
    const std::uint64_t more = count - preemptions_;
    const bool first = next_check_ == Instant{};
    preemptions_ = count;
    next_check_ = now + check_interval;
    if (!first && more > tolerated_preemptions) off_until_ = now + rest;
  }

  static constexpr Duration check_interval = std::chrono::milliseconds(20);
  static constexpr Duration rest = std::chrono::milliseconds(200);
  static constexpr std::uint64_t tolerated_preemptions = 8;  // per interval; four come from the kernel
  static constexpr Duration first_pause = std::chrono::milliseconds(5);  // after a trial in vain, then twice
                                                                         // as long each time
  static constexpr Duration longest_pause = std::chrono::milliseconds(640);
  // Gaps beyond this many limits are not worth a trial.
  static constexpr int worth_trying = 8;

 private:
  // Which part of the last spins, some `memory` of them, ended with work. A trial in vain is over after six.
  static constexpr std::uint32_t certain = 1024;
  static constexpr std::uint32_t at_start = certain * 3 / 4;
  static constexpr std::uint32_t enough = certain * 3 / 8;
  static constexpr std::uint32_t good = certain * 7 / 8;
  static constexpr std::uint32_t memory = 8;

  [[nodiscard]] bool begin_trial(Instant now) noexcept {
    if (now < next_trial_ || last_gap_ > worth_trying * limit_) return false;
    spinning_ = true;
    hits_ = at_start;
    next_trial_ = now + pause_;
    pause_ = std::min(2 * pause_, longest_pause);
    return true;
  }
  void judge(bool hit) noexcept {
    if (!spinning_) return;
    hits_ = hit ? hits_ + (certain - hits_) / memory : hits_ - hits_ / memory;
    if (hits_ < enough) spinning_ = false;
    else if (hits_ > good) pause_ = first_pause;
  }

  Polling mode_;
  Duration limit_;
  Duration last_gap_ = Duration::max();
  std::uint32_t hits_ = 0;  // of `certain`
  bool spinning_ = false;
  Duration pause_ = first_pause;
  Instant next_trial_{};
  Instant off_until_{};
  Instant next_check_{};
  std::uint64_t preemptions_ = 0;
};

}  // namespace perilune::runtime
