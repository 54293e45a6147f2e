// SPDX-License-Identifier: Apache-2.0
// What other threads hand to a loop: Loop::post() and Loop::stop() without what they have to do with a
// particular loop. The doorbell is an eventfd that the loop watches; work and the wish to stop are seen
// before the loop waits, so its own thread never rings.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/result.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::runtime::posix {

class Mailbox {
 public:
  // Once, before anything else. `flags` of eventfd, in addition to EFD_CLOEXEC.
  [[nodiscard]] Status open(int flags = 0);
  [[nodiscard]] int doorbell() const noexcept { return doorbell_.get(); }

  // Any thread.
  void post(std::function<void()> work);
  void stop();
  void ring() const noexcept;  // wakes the loop; from its own thread nothing

  // The loop's thread. bind() makes the calling thread that; it asserts that it is the same one every time.
  void bind();
  [[nodiscard]] bool waiting() const noexcept {
    return any_posted_.load(std::memory_order_acquire) || stopping_.load(std::memory_order_relaxed);
  }
  // Runs what had been posted when it was called; what is posted meanwhile waits for the next call.
  void run();
  [[nodiscard]] bool take_stop() noexcept { return stopping_.exchange(false); }

 private:
  UniqueFd doorbell_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::thread::id> thread_{};
  std::atomic<bool> any_posted_{false};
  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;  // under mutex_
};

}  // namespace perilune::runtime::posix
