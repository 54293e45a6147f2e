// SPDX-License-Identifier: Apache-2.0
#include "runtime/posix/worker_pool.hpp"

#include <system_error>

#include "runtime/posix/thread.hpp"

namespace perilune::runtime::posix {

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wanted_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool WorkerPool::start_thread() {
  try {
    threads_.push_back(start_without_signals([this] { work(); }));
    return true;
  } catch (const std::system_error&) {  // a limit on threads
    return false;
  }
}

void WorkerPool::submit(IntrusiveList<FileOp>& batch) {
  std::size_t wake = 0, lacking = 0;
  {
    const std::lock_guard lock(mutex_);
    while (!batch.empty()) {
      waiting_.push_back(batch.pop_front());
      ++waiting_count_;
      ++wake;
    }
    if (waiting_count_ > idle_threads_) lacking = waiting_count_ - idle_threads_;
  }
  for (; lacking > 0 && threads_.size() < max_threads_; --lacking) {
    if (!start_thread()) break;
  }
  if (threads_.empty()) {
    const std::lock_guard lock(mutex_);
    for (; !waiting_.empty(); --waiting_count_) {
      FileOp& op = waiting_.pop_front();
      perform_(op);
      ended_.push_back(op);
    }
    any_ended_.store(true, std::memory_order_release);
    return;
  }
  for (; wake > 0; --wake) wanted_.notify_one();
}

bool WorkerPool::collect(IntrusiveList<FileOp>& out) {
  if (!any_ended()) return false;
  const std::lock_guard lock(mutex_);
  any_ended_.store(false, std::memory_order_release);
  out.splice_back(ended_);
  return true;
}

void WorkerPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_threads_;
    wanted_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
    --idle_threads_;
    if (waiting_.empty()) return;
    FileOp& op = waiting_.pop_front();
    --waiting_count_;
    lock.unlock();
    perform_(op);
    lock.lock();
    const bool first = ended_.empty();
    ended_.push_back(op);
    if (!first) continue;  // the loop has been woken for those before and has not come yet
    any_ended_.store(true, std::memory_order_release);
    lock.unlock();
    mailbox_.ring();
    lock.lock();
  }
}

}  // namespace perilune::runtime::posix
