// SPDX-License-Identifier: Apache-2.0
// SANITIZE, FORMAT UNIT, the tray and ROD tokens under load from two shards in two threads. Under the thread
// sanitizer this also shows that what works on a whole medium orders its memory with every command before and
// after it.
#include <gtest/gtest.h>

#include "base/sanitizer.hpp"
#include "scsi/medium_load_test.hpp"
#include "scsi/threads_test.hpp"

namespace perilune::scsi::test {
namespace {

class ThreadedMedium {
 public:
  static constexpr std::uint32_t count = 2;
  explicit ThreadedMedium(std::uint32_t rounds) {
    for (std::uint32_t i = 0; i < count; ++i) {
      links_.push_back(std::make_unique<Link>(*this, i));
      threads_.push_back(std::make_unique<Thread>());
    }
    for (std::uint32_t i = 0; i < count; ++i) shards.push_back(std::make_unique<Shard>(*this, i, rounds));
  }
  void run() {
    for (auto& shard : shards) shard->thread.post([&load = *shard->load] { load.start(); });
    for (auto& thread : threads_) thread->start();
    for (auto& shard : shards) shard->load->wait();
    for (auto& thread : threads_) thread->stop_and_join();
  }

  struct Link final : ShardLink {
    Link(ThreadedMedium& owner, std::uint32_t me) : all(owner), shard(me) {}
    [[nodiscard]] std::uint32_t self() const noexcept override { return shard; }
    [[nodiscard]] std::uint32_t shards() const noexcept override { return count; }
    void send(std::uint32_t to, std::function<void(Device&)> work) override {
      all.threads_[to]->post([this, to, work = std::move(work)] { work(all.shards[to]->device); });
    }
    ThreadedMedium& all;
    std::uint32_t shard;
  };
  struct Shard {
    Shard(ThreadedMedium& all, std::uint32_t self, std::uint32_t rounds)
        : thread(*all.threads_[self]),
          memory(all.disk, thread, medium_load_blocks),
          channel(memory, all.board),
          device("iqn.2026-11.io.perilune:disk", all.links_[self].get()) {
      device.set_clock(Delegate<std::uint64_t()>::to<&Shard::clock>(*this));
      device.set_token_key({0x1a, 0xb2});
      PERILUNE_ASSERT(device.add_unit(0, MediumLoad::config(), channel).has_value());
      nexus.emplace(device, Rig::names(self == 0 ? "a" : "b"));
      load.emplace(
          device, *nexus, channel, all.board,
          [this](std::function<void()> work) { thread.post(std::move(work)); },
          MediumLoad::Plan{.self = self, .wipes = rounds, .ejects = rounds});
    }
    std::uint64_t clock() { return 1'000'000; }
    Thread& thread;
    MemoryChannel memory;
    WatchedChannel channel;
    Device device;
    std::optional<Nexus> nexus;
    std::optional<MediumLoad> load;
  };

  std::vector<std::uint8_t> disk;
  MediumBoard board;

 private:
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<std::unique_ptr<Link>> links_;

 public:
  std::vector<std::unique_ptr<Shard>> shards;
};

TEST(MediumInThreads, NothingIsBesideTheWorkOnAMediumAndTraysAndTokensAreOne) {
  const std::uint32_t rounds = PERILUNE_SANITIZED ? 6 : 15;
  ThreadedMedium threads(rounds);
  threads.run();
  MediumLoad::Seen sum;
  for (auto& shard : threads.shards) {
    EXPECT_EQ(shard->load->problem(), "");
    EXPECT_EQ(shard->device.tasks(), 0u);
    sum.prevented += shard->load->seen().prevented;
    sum.tokens_used += shard->load->seen().tokens_used;
    sum.told_of_medium += shard->load->seen().told_of_medium;
  }
  EXPECT_FALSE(threads.board.beside.load());
  EXPECT_GE(threads.shards[0]->load->seen().wipes, rounds);
  EXPECT_GE(threads.shards[0]->load->seen().ejects, rounds);
  EXPECT_GT(sum.prevented, 0u);
  EXPECT_GT(sum.tokens_used, 0u);
  EXPECT_GT(sum.told_of_medium, 0u);
  EXPECT_GT(threads.board.resets_ended.load(), 0u);
}

}  // namespace
}  // namespace perilune::scsi::test
