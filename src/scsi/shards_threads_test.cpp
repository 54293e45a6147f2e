// SPDX-License-Identifier: Apache-2.0
// Two shards in two threads over one disk in memory. Under the thread sanitizer this also shows that a claim
// orders the memory of those who hold it one after the other.
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/sanitizer.hpp"
#include "scsi/shard_load.hpp"
#include "scsi/threads_test.hpp"

namespace perilune::scsi::test {
namespace {

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
    for (bool more = true; more;) {  // changes that nobody waits for
      more = false;
      for (auto& thread : threads_) more = thread->do_the_rest() || more;
    }
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
  std::uint64_t group_changes = 0;
  for (auto& shard : threads.shards()) {
    EXPECT_EQ(shard->load->problem(), "");
    EXPECT_EQ(shard->device.tasks(), 0u);
    writes += shard->channel.writes_of_number;
    answered += shard->load->increments();
    group_changes += shard->load->group_changes();
  }
  for (auto& shard : threads.shards()) {
    const PortGroups& groups = shard->device.unit(0)->port_groups();
    EXPECT_EQ(groups, threads.shards()[0]->device.unit(0)->port_groups()) << "one order over all shards";
    EXPECT_EQ(groups.find(ShardLoad::others_port)->preferred, group_changes % 2 == 1) << "none was lost";
  }
  EXPECT_GT(group_changes, 1u);
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
