// SPDX-License-Identifier: Apache-2.0
// How much of its backing a thin disk uses, and how much more it could: numbers that somebody measures where
// that may block, and that anybody reads. A name of namespace block, kept in base/ for the same reason as
// block_op.hpp.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace perilune::block {

struct SpaceLevel {
  std::uint64_t used_bytes = 0;       // allocated for this disk
  std::uint64_t available_bytes = 0;  // that could still be allocated, for this disk or for others
  friend bool operator==(const SpaceLevel&, const SpaceLevel&) = default;
};

// Any thread, unless a method says otherwise.
class SpaceMeter {
 public:
  virtual ~SpaceMeter() = default;

  // As it was measured last: before anybody could ask, for the first time.
  [[nodiscard]] SpaceLevel level() const noexcept {
    return {used_bytes_.load(std::memory_order_relaxed), available_bytes_.load(std::memory_order_relaxed)};
  }
  // Blocks have been written or given back, or somebody wants to know: it is measured once more, soon. Meant
  // for every command that writes: when that has been said since the last measurement began, it costs a load.
  void moved() noexcept {
    if (settled_.load(std::memory_order_relaxed) && settled_.exchange(false, std::memory_order_acq_rel))
      ask();
  }
  // `tell` is called after each measurement, on a thread of the meter's. An empty one ends that; when this
  // returns, the one before is not being called any more. Control path.
  virtual void on_measured(std::function<void()> tell) = 0;

 protected:
  // A measurement begins. Whoever says moved() from here on is not sure to be in it, and so asks again.
  void settle() noexcept { settled_.store(true, std::memory_order_seq_cst); }
  void publish(SpaceLevel level) noexcept {
    used_bytes_.store(level.used_bytes, std::memory_order_relaxed);
    available_bytes_.store(level.available_bytes, std::memory_order_relaxed);
  }
  virtual void ask() noexcept = 0;  // moved() was said for the first time since settle()

 private:
  std::atomic<bool> settled_{true};
  std::atomic<std::uint64_t> used_bytes_{0};
  std::atomic<std::uint64_t> available_bytes_{0};
};

}  // namespace perilune::block
