// SPDX-License-Identifier: Apache-2.0
// One-shot timers on a binary heap. Equal deadlines fire in the order they were armed, so that the simulator
// is deterministic. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/delegate.hpp"
#include "runtime/time.hpp"

namespace perilune::runtime {

class TimerQueue;

// Embedded by its owner; disarmed by its destructor. The callback may arm it again.
class Timer {
 public:
  Timer(TimerQueue& queue, Delegate<void()> fired) noexcept : queue_(queue), fired_(fired) {}
  ~Timer() { cancel(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  void arm(Instant deadline);  // re-arms when armed already
  void cancel() noexcept;
  [[nodiscard]] bool armed() const noexcept { return index_ != not_armed; }

 private:
  friend class TimerQueue;
  static constexpr std::size_t not_armed = static_cast<std::size_t>(-1);
  TimerQueue& queue_;
  Delegate<void()> fired_;
  Instant deadline_{};
  std::uint64_t sequence_ = 0;
  std::size_t index_ = not_armed;
};

class TimerQueue {
 public:
  [[nodiscard]] std::optional<Instant> next_deadline() const noexcept;
  // Fires every timer due at `now` (those armed by the callbacks for a time <= now too). Returns how many.
  std::size_t fire(Instant now);
  [[nodiscard]] bool empty() const noexcept { return heap_.empty(); }

 private:
  friend class Timer;
  void insert(Timer& timer);
  void remove(Timer& timer) noexcept;
  void sift_up(std::size_t i) noexcept;
  void sift_down(std::size_t i) noexcept;
  [[nodiscard]] static bool earlier(const Timer& a, const Timer& b) noexcept;
  void place(std::size_t i, Timer* timer) noexcept;
  std::vector<Timer*> heap_;
  std::uint64_t next_sequence_ = 0;
};

}  // namespace perilune::runtime
