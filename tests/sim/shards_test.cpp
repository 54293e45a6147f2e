// SPDX-License-Identifier: Apache-2.0
// A target on several loops of one machine: where sessions live, and that nothing is lost or late when
// connections move.
#include <gtest/gtest.h>

#include <algorithm>

#include "sim/machines.hpp"

namespace perilune::sim {
namespace {

using namespace std::chrono_literals;

class SimShards : public ::testing::Test {
 protected:
  void make(std::uint64_t seed, std::uint32_t shards) {
    clients.clear();
    target.reset();
    world = std::make_unique<World>(seed);
    SimHost& host = world->add_host("target", {"10.0.0.1"});
    DiskOptions disk;
    disk.size_bytes = 1 << 20;
    host.add_disk("/disk", disk);
    target = std::make_unique<TargetMachine>(
        *world, host, ScenarioOptions{}, [](target::ServerConfig&) {}, shards);
    target->start();
    ASSERT_EQ(target->problem(), "");
  }
  void TearDown() override {
    clients.clear();
    target.reset();
  }
  InitiatorMachine& add_client(const std::string& name = {}) {
    const std::string number = std::to_string(clients.size() + 1);
    initiator::SessionConfig config = Pairing{}.session();
    config.initiator_name += name.empty() ? number : name;
    config.isid = initiator::stable_isid(config.initiator_name, "default", target_name);
    SimHost& host = world->add_host("initiator" + number, {"10.0.1." + number});
    clients.push_back(std::make_unique<InitiatorMachine>(*world, host, ScenarioOptions{}, std::move(config)));
    clients.back()->start();
    return *clients.back();
  }
  [[nodiscard]] bool all_ready() const {
    return std::all_of(clients.begin(), clients.end(),
                       [](const auto& client) { return client->unit() != nullptr; });
  }
  [[nodiscard]] std::uint32_t sessions_on(std::uint32_t shard) {
    return target->server().registry().sessions_on(shard);
  }

  std::unique_ptr<World> world;
  std::unique_ptr<TargetMachine> target;
  std::vector<std::unique_ptr<InitiatorMachine>> clients;
};

TEST_F(SimShards, SessionsSpreadEvenlyAndFillThePlacesOfThoseThatLeave) {
  make(1, 3);
  for (int i = 0; i < 9; ++i) (void)add_client();
  ASSERT_TRUE(world->run_until([&] { return all_ready(); }, 60s));
  for (std::uint32_t shard = 0; shard < 3; ++shard) {
    EXPECT_EQ(sessions_on(shard), 3U);
    EXPECT_EQ(target->server().shard(shard).session_count(), 3U);
  }
  for (int i = 0; i < 4; ++i) clients[static_cast<std::size_t>(i)]->logout();
  ASSERT_TRUE(world->run_until([&] { return target->server().session_count() == 5; }, 60s));
  for (int i = 0; i < 4; ++i) (void)add_client();
  ASSERT_TRUE(world->run_until([&] { return target->server().session_count() == 9; }, 60s));
  for (std::uint32_t shard = 0; shard < 3; ++shard) EXPECT_EQ(sessions_on(shard), 3U);
}

TEST_F(SimShards, AReinstatedSessionEndsOnItsShardBeforeTheNewOneBegins) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    make(seed, 2);
    (void)add_client();
    ASSERT_TRUE(world->run_until([&] { return all_ready(); }, 60s));
    InitiatorMachine& moved = add_client();  // the acceptor's shard has one: this lives on the other
    ASSERT_TRUE(world->run_until([&] { return all_ready(); }, 60s));
    ASSERT_EQ(sessions_on(1), 1U);
    moved.crash();
    moved.start();  // the same name and ISID
    ASSERT_TRUE(world->run_until(
        [&] {
          EXPECT_LE(target->server().shard(0).session_count() + target->server().shard(1).session_count(),
                    2U);
          return moved.unit() != nullptr;
        },
        60s));
    EXPECT_EQ(target->server().session_count(), 2U);
    EXPECT_EQ(sessions_on(0), 1U);
    EXPECT_EQ(sessions_on(1), 1U);
  }
}

// One nexus, many machines that claim it at the same time: each takes the place of the one before, whether
// that one's session is open, on its way to its shard, or has not left for it.
TEST_F(SimShards, LoginsOfOneNexusAtTheSameTimeReplaceEachOther) {
  int contested = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    make(seed, 2);
    (void)add_client();  // so that the others do not live on the acceptor's shard
    ASSERT_TRUE(world->run_until([&] { return all_ready(); }, 60s));
    for (int i = 0; i < 4; ++i) (void)add_client("twin");
    const target::Registry& registry = target->server().registry();
    contested += world->run_until([&] { return registry.half_open() >= 3; }, 5s) ? 1 : 0;
    // Sooner than a login times out.
    ASSERT_TRUE(
        world->run_until([&] { return registry.half_open() == 0 && registry.session_count() == 2; }, 10s))
        << seed;
    EXPECT_LE(target->server().shard(0).session_count() + target->server().shard(1).session_count(), 2U);
  }
  EXPECT_GT(contested, 20);
}

TEST_F(SimShards, StopsAtAnyMomentWhileConnectionsMove) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    make(seed, 3);
    for (int i = 0; i < 6; ++i) (void)add_client();
    Prng prng(seed);
    world->run_for(Duration(static_cast<Duration::rep>(prng.below(20'000'000))));
    target->stop();
    ASSERT_TRUE(world->run_until([&] { return target->stopped(); }, 60s)) << seed;
    EXPECT_EQ(target->server().session_count(), 0U) << seed;
    EXPECT_EQ(target->server().registry().half_open(), 0U) << seed;
    EXPECT_TRUE(target->pool_is_whole()) << seed;
    EXPECT_EQ(target->problem(), "") << seed;
  }
}

TEST_F(SimShards, CrashesAtAnyMomentWhileConnectionsMove) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    make(seed, 3);
    for (int i = 0; i < 6; ++i) (void)add_client();
    Prng prng(seed);
    world->run_for(Duration(static_cast<Duration::rep>(prng.below(20'000'000))));
    target->crash(prng.coin() ? Crash::process : Crash::power);
    ASSERT_TRUE(world->run_until([&] { return target->ghosts_at_rest(); }, 600s)) << seed;
    target->start();
    ASSERT_EQ(target->problem(), "") << seed;
    for (auto& client : clients) {
      client->crash();
      client->start();
    }
    ASSERT_TRUE(world->run_until([&] { return all_ready(); }, 300s)) << seed;
    EXPECT_EQ(target->server().session_count(), 6U) << seed;
    EXPECT_EQ(sessions_on(0) + sessions_on(1) + sessions_on(2), 6U) << seed;
  }
}

}  // namespace
}  // namespace perilune::sim
