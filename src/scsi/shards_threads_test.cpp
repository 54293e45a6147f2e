// SPDX-License-Identifier: Apache-2.0
// Two shards in two threads over one disk in memory. Under the thread sanitizer this also shows that a claim
// orders the memory of those who hold it one after the other.
#include <gtest/gtest.h>

#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "base/sanitizer.hpp"
#include "scsi/shard_load.hpp"

namespace perilune::scsi::test {
namespace {

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
  MemoryChannel(std::vector<std::uint8_t>& disk, Thread& thread)
      : channel_(FakeChannel::disk(64), &disk), thread_(thread) {
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

class ThreadedShards {
 public:
  static constexpr std::uint32_t count = 2;
  explicit ThreadedShards(std::uint64_t increments) {
    for (std::uint32_t i = 0; i < count; ++i) {
      links_.push_back(std::make_unique<Link>(*this, i));
      threads_.push_back(std::make_unique<Thread>());
    }
    for (std::uint32_t i = 0; i < count; ++i)
      shards_.push_back(std::make_unique<Shard>(*this, i, increments));
  }
  void run() {
    for (auto& shard : shards_) {
      shard->thread.post([&load = *shard->load] { load.start(); });
    }
    for (auto& thread : threads_) thread->start();
    for (auto& shard : shards_) {
      shard->load->wait();
    }
    for (auto& thread : threads_) thread->stop_and_join();
  }

  std::vector<std::uint8_t> disk;
  LoadBoard board;
  struct Link final : ShardLink {
    Link(ThreadedShards& owner, std::uint32_t me) : all(owner), shard(me) {}
    [[nodiscard]] std::uint32_t self() const noexcept override { return shard; }
    [[nodiscard]] std::uint32_t shards() const noexcept override { return count; }
    // A message is sent before its device is made where a unit is added first, and arrives when all threads
    // have started.
    void send(std::uint32_t to, std::function<void(Device&)> work) override {
      all.threads_[to]->post([this, to, work = std::move(work)] { work(all.shards_[to]->device); });
    }
    ThreadedShards& all;
    std::uint32_t shard;
  };
  struct Shard {
    Shard(ThreadedShards& all, std::uint32_t self, std::uint64_t increments)
        : thread(*all.threads_[self]),
          memory(all.disk, thread),
          channel(memory),
          device("iqn.2026-11.io.perilune:disk", all.links_[self].get()) {
      PERILUNE_ASSERT(device.add_unit(0, ShardLoad::config(), channel).has_value());
      nexus.emplace(device, ShardLoad::names(self == 0 ? "a" : "b", self));
      load.emplace(
          device, *nexus, channel, all.board,
          [this](std::function<void()> work) { thread.post(std::move(work)); },
          ShardLoad::Plan{
              .increments = increments, .own_lba = 8 + std::uint64_t{self} * 8, .changes_modes = self == 0});
    }
    Thread& thread;
    MemoryChannel memory;
    CountingChannel channel;
    Device device;
    std::optional<Nexus> nexus;
    std::optional<ShardLoad> load;
  };

  [[nodiscard]] std::vector<std::unique_ptr<Shard>>& shards() { return shards_; }

 private:
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<std::unique_ptr<Link>> links_;
  std::vector<std::unique_ptr<Shard>> shards_;
};

// PERILUNE_INCREMENTS=1000000 for the whole million of issue 4.
std::uint64_t increments() {
  if (const char* text = std::getenv("PERILUNE_INCREMENTS")) return std::strtoull(text, nullptr, 10);
  return PERILUNE_SANITIZED ? 100 : 500;
}

TEST(ShardsInThreads, NoIncrementIsLostAndNothingIsWrittenBehindAFence) {
  ThreadedShards threads(increments() / ThreadedShards::count);
  threads.run();
  std::uint64_t writes = 0;
  std::uint64_t answered = 0;
  for (auto& shard : threads.shards()) {
    EXPECT_EQ(shard->load->problem(), "");
    EXPECT_EQ(shard->device.tasks(), 0u);
    writes += shard->channel.writes_of_number;
    answered += shard->load->increments();
  }
  EXPECT_EQ(load_be64(threads.disk.data()), writes);
  EXPECT_GE(answered, increments() / ThreadedShards::count * ThreadedShards::count);
  EXPECT_LE(answered, writes);
  EXPECT_GT(threads.shards()[0]->load->fences(), 0u);
  EXPECT_GT(threads.shards()[0]->load->shut_out(), 3u);
  EXPECT_GT(threads.shards()[0]->load->shut_out_by_operator(), 0u);
  EXPECT_GT(threads.board.resets_ended.load(), 0u);
}

}  // namespace
}  // namespace perilune::scsi::test
