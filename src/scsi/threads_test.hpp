// SPDX-License-Identifier: Apache-2.0
// Shards under test in threads of their own: the thread, which is the shard's loop, and its way to a disk in
// memory that all share.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "scsi/test_support.hpp"

namespace perilune::scsi::test {

// A thread that does what it is given, in order.
class Thread {
 public:
  void post(std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    work_.push_back(std::move(work));
    wake_.notify_one();
  }
  void start() {
    thread_ = std::thread([this] { run(); });
  }
  void stop_and_join() {
    post([this] { stopped_ = true; });
    thread_.join();
  }
  // After that, on the caller's thread: what came too late. False: nothing has.
  bool do_the_rest() {
    std::deque<std::function<void()>> rest = std::move(work_);
    work_.clear();
    for (auto& work : rest) work();
    return !rest.empty();
  }

 private:
  void run() {
    while (!stopped_) {
      std::deque<std::function<void()>> batch;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return !work_.empty(); });
        batch.swap(work_);
      }
      for (auto& work : batch) work();
    }
  }
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> work_;
  std::thread thread_;
  bool stopped_ = false;  // of the thread
};

// Operations end in a later turn of their thread.
class MemoryChannel final : public block::Channel {
 public:
  MemoryChannel(std::vector<std::uint8_t>& disk, Thread& thread, std::uint64_t blocks = 64)
      : channel_(FakeChannel::disk(blocks), &disk), thread_(thread) {
    channel_.geometry().lends_memory = true;
    channel_.geometry().write_cache = false;
  }
  [[nodiscard]] const block::Geometry& geometry() const override { return channel_.geometry(); }
  [[nodiscard]] bool submit(block::BlockOp& op) override {
    thread_.post([this, &op] {
      (void)channel_.submit(op);
      op.done(op);
    });
    return false;
  }
  std::uint8_t* lend(Lba lba, BlockCount blocks, bool for_write) noexcept override {
    return channel_.lend(lba, blocks, for_write);
  }

 private:
  FakeChannel channel_;
  Thread& thread_;
};

}  // namespace perilune::scsi::test
