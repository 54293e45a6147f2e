// SPDX-License-Identifier: Apache-2.0
// Threads that do what may block: file operations of one loop. For the loops that run on this system.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/file_op.hpp"
#include "base/intrusive_list.hpp"
#include "runtime/posix/mailbox.hpp"

namespace perilune::runtime::posix {

class WorkerPool {
 public:
  // `perform` does one operation to its end, on any thread, and leaves the outcome in it. `mailbox` wakes the
  // loop when operations have ended.
  WorkerPool(unsigned max_threads, void (*perform)(FileOp&), const Mailbox& mailbox) noexcept
      : max_threads_(max_threads), perform_(perform), mailbox_(mailbox) {}
  ~WorkerPool();  // lets what has begun come to its end
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // The loop's thread. Takes the whole batch; starts threads while there are operations that no thread waits
  // for. Where no thread at all can be had, the calling one does the work.
  void submit(IntrusiveList<FileOp>& batch);
  // The loop's thread. Moves what has ended since the last call to `out`; false when there is nothing.
  [[nodiscard]] bool collect(IntrusiveList<FileOp>& out);
  [[nodiscard]] bool any_ended() const noexcept { return any_ended_.load(std::memory_order_acquire); }
  [[nodiscard]] std::size_t threads() const noexcept { return threads_.size(); }  // the loop's thread

 private:
  void work();
  [[nodiscard]] bool start_thread();

  const unsigned max_threads_;
  void (*const perform_)(FileOp&);
  const Mailbox& mailbox_;
  std::vector<std::thread> threads_;
  std::atomic<bool> any_ended_{false};

  std::mutex mutex_;
  std::condition_variable wanted_;
  IntrusiveList<FileOp> waiting_;  // this and the rest under mutex_
  IntrusiveList<FileOp> ended_;
  std::size_t waiting_count_ = 0;
  std::size_t idle_threads_ = 0;
  bool ending_ = false;
};

}  // namespace perilune::runtime::posix
