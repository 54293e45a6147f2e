// SPDX-License-Identifier: Apache-2.0
#include "runtime/sim/world.hpp"

#include <gtest/gtest.h>

#include "runtime/sim/sim_host.hpp"
#include "runtime/sim/sim_loop.hpp"

namespace perilune::sim {
namespace {

using namespace std::chrono_literals;

TEST(SimPrng, FollowsTheReferenceSequence) {
  // splitmix64 from the state 0: the published first three outputs.
  std::uint64_t state = 0;
  EXPECT_EQ(splitmix64(state), 0xe220a8397b1dcdafULL);
  EXPECT_EQ(splitmix64(state), 0x6e789e6aa1b965f4ULL);
  EXPECT_EQ(splitmix64(state), 0x06c45d188009454fULL);
}

TEST(SimPrng, StaysWithinItsBounds) {
  Prng prng(7);
  bool first = false;
  bool last = false;
  for (int i = 0; i < 10000; ++i) {
    const auto v = prng.between(3, 9);
    ASSERT_GE(v, 3u);
    ASSERT_LE(v, 9u);
    first |= v == 3;
    last |= v == 9;
  }
  EXPECT_TRUE(first);
  EXPECT_TRUE(last);
}

TEST(SimWorld, RunsEventsInTheOrderOfTimeThenOfScheduling) {
  World world(1);
  std::vector<int> order;
  world.after(2ms, [&] { order.push_back(3); });
  world.after(1ms, [&] { order.push_back(1); });
  world.after(1ms, [&] { order.push_back(2); });
  while (world.step()) {
  }
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST(SimWorld, StopsAtTheTimeLimitWhenThePredicateNeverHolds) {
  World world(1);
  std::function<void()> again = [&] { world.after(1ms, again); };
  again();
  const Instant start = world.now();
  EXPECT_FALSE(world.run_until([] { return false; }, 50ms));
  EXPECT_GE(world.now() - start, 50ms);
  EXPECT_LT(world.now() - start, 60ms);
}

TEST(SimWorld, TraceDependsOnTheSeedAndOnWhatHappens) {
  const auto hash = [](std::uint64_t seed, std::uint64_t detail) {
    World world(seed);
    world.at(1ms, Event::user, detail, [] {});
    while (world.step()) {
    }
    return world.trace_hash();
  };
  EXPECT_EQ(hash(1, 5), hash(1, 5));
  EXPECT_NE(hash(1, 5), hash(2, 5));
  EXPECT_NE(hash(1, 5), hash(1, 6));
}

TEST(SimLoop, FiresTimersInOrderAndNotBeforeTheirTime) {
  World world(3);
  SimLoop& loop = world.add_host("h", {"10.0.0.1"}).add_loop();
  struct Alarm {
    Alarm(SimLoop& l, std::vector<int>& o, int n)
        : loop(l), order(o), number(n), timer(l.timers(), Delegate<void()>::to<&Alarm::fired>(*this)) {}
    void fired() {
      order.push_back(number);
      at = loop.now();
    }
    SimLoop& loop;
    std::vector<int>& order;
    int number;
    Instant at{};
    runtime::Timer timer;
  };
  std::vector<int> order;
  Alarm late(loop, order, 2);
  Alarm early(loop, order, 1);
  const Instant start = world.now();
  late.timer.arm(start + 20ms);
  early.timer.arm(start + 10ms);
  ASSERT_TRUE(world.run_until([&] { return order.size() == 2; }, 1s));
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
  EXPECT_GE(early.at, start + 10ms);
  EXPECT_GE(late.at, start + 20ms);
}

TEST(SimLoop, RunsHooksAfterPostedWorkOfTheSameTurn) {
  World world(3);
  SimLoop& loop = world.add_host("h", {"10.0.0.1"}).add_loop();
  std::vector<int> order;
  struct Context {
    std::vector<int>& order;
    void run() { order.push_back(9); }
  } context{order};
  runtime::TurnHook hook(Delegate<void()>::to<&Context::run>(context));
  loop.post([&] {
    loop.schedule(hook);
    loop.schedule(hook);  // once is enough
    order.push_back(1);
  });
  loop.post([&] { order.push_back(2); });
  ASSERT_TRUE(world.run_until([&] { return order.size() == 3; }, 1s));
  EXPECT_EQ(order, (std::vector<int>{1, 2, 9}));
}

TEST(SimLoop, OfACrashedHostNeverCallsAgain) {
  World world(3);
  SimHost& host = world.add_host("h", {"10.0.0.1"});
  SimLoop& loop = host.add_loop();
  int calls = 0;
  struct Context {
    int& calls;
    void run() { ++calls; }
  } context{calls};
  runtime::Timer timer(loop.timers(), Delegate<void()>::to<&Context::run>(context));
  runtime::TurnHook hook(Delegate<void()>::to<&Context::run>(context));
  timer.arm(world.now() + 1ms);
  loop.schedule(hook);
  loop.post([&] { ++calls; });
  host.crash(Crash::process);
  loop.post([&] { ++calls; });
  world.run_for(1s);
  EXPECT_EQ(calls, 0);
  EXPECT_TRUE(loop.dead());

  bool restarted = false;
  host.add_loop().post([&] { restarted = true; });
  EXPECT_TRUE(world.run_until([&] { return restarted; }, 1s));
}

TEST(SimLoop, GivesEachLoopItsOwnSeededRandomBytes) {
  const auto bytes = [](std::uint64_t seed) {
    World world(seed);
    SimHost& host = world.add_host("h", {"10.0.0.1"});
    std::array<std::uint8_t, 32> first{};
    std::array<std::uint8_t, 32> second{};
    host.add_loop().random().fill(first);
    host.add_loop().random().fill(second);
    EXPECT_NE(first, second);
    return first;
  };
  EXPECT_EQ(bytes(5), bytes(5));
  EXPECT_NE(bytes(5), bytes(6));
}

TEST(Buggify, IsSilentWithoutAWorldAndWhenSwitchedOff) {
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(runtime::sim_maybe("test.place"));
  WorldOptions off;
  off.buggify = false;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    World world(seed, off);
    for (int i = 0; i < 20; ++i) EXPECT_FALSE(runtime::sim_maybe("test.place"));
  }
}

TEST(Buggify, ArmsSomePlacesOfSomeSeedsAndRepeatsItself) {
  const auto fired = [](std::uint64_t seed) {
    World world(seed);
    int count = 0;
    for (int i = 0; i < 100; ++i) count += runtime::sim_maybe("test.place") ? 1 : 0;
    return count;
  };
  int armed = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const int count = fired(seed);
    EXPECT_EQ(count, fired(seed));
    if (count > 0) ++armed;
    EXPECT_LT(count, 60);
  }
  EXPECT_GT(armed, 20);
  EXPECT_LT(armed, 100);
}

TEST(SimRecordStore, KeepsWhatAPutAnsweredOverAPowerLoss) {
  World world(4);
  SimHost& host = world.add_host("h", {"10.0.0.1"});
  const std::uint8_t value[] = {1, 2, 3};
  ASSERT_TRUE(host.records().put("pages", value));
  host.crash(Crash::power);
  const auto got = host.records().get("pages");
  ASSERT_TRUE(got);
  EXPECT_EQ(*got, (std::vector<std::uint8_t>{1, 2, 3}));
  ASSERT_TRUE(host.records().remove("pages"));
  EXPECT_EQ(host.records().get("pages").error().code, Errc::not_found);
}

TEST(SimRecordStore, AFailedPutLeavesTheOldOrTheNewValue) {
  World world(4);
  SimHost& host = world.add_host("h", {"10.0.0.1"});
  bool old_seen = false;
  bool new_seen = false;
  for (int i = 0; i < 64; ++i) {
    host.records().set_fail_per_million(0);
    const std::uint8_t before[] = {1};
    const std::uint8_t after[] = {2};
    ASSERT_TRUE(host.records().put("r", before));
    host.records().set_fail_per_million(1'000'000);
    ASSERT_FALSE(host.records().put("r", after));
    const auto got = host.records().get("r");
    ASSERT_TRUE(got);
    old_seen |= got->at(0) == 1;
    new_seen |= got->at(0) == 2;
  }
  EXPECT_TRUE(old_seen);
  EXPECT_TRUE(new_seen);
}

}  // namespace
}  // namespace perilune::sim
