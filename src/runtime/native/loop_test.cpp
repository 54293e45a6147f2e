// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <thread>

#include "runtime/native/native_test_support.hpp"
#include "runtime/polling.hpp"

namespace perilune::runtime {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

// A Delegate from a lambda that outlives it.
struct Callback {
  std::function<void()> f;
  void call() { f(); }
  [[nodiscard]] Delegate<void()> delegate() { return Delegate<void()>::to<&Callback::call>(*this); }
};

using NativeLoopTest = LoopTest;
PERILUNE_EVERY_RUNTIME(NativeLoopTest);

TEST_P(NativeLoopTest, TimersFireInOrderAndNeverEarly) {
  std::string order;
  const Instant start = loop->now();
  Callback a{[&] {
    order += 'a';
    EXPECT_GE(loop->now() - start, milliseconds(6));
    loop->stop();
  }};
  Callback b{[&] {
    order += 'b';
    EXPECT_GE(loop->now() - start, milliseconds(2));
  }};
  Callback c{[&] { order += 'c'; }};
  Callback never{[&] { order += '!'; }};
  Timer ta(loop->timers(), a.delegate()), tb(loop->timers(), b.delegate()), tc(loop->timers(), c.delegate());
  Timer tn(loop->timers(), never.delegate());
  ta.arm(start + milliseconds(6));
  tb.arm(start + milliseconds(2));
  tc.arm(start + milliseconds(2));
  tn.arm(start + milliseconds(1));
  tn.cancel();
  loop->run();
  EXPECT_EQ(order, "bca");
}

TEST_P(NativeLoopTest, HooksRunOnceBeforeWaitingAlsoThoseThatHooksSchedule) {
  std::string order;
  Callback second{[&] { order += '2'; }};
  TurnHook hook2(second.delegate());
  Callback first{[&] {
    order += '1';
    loop->schedule(hook2);
    loop->schedule(hook2);
  }};
  TurnHook hook1(first.delegate());
  {
    Callback dead{[&] { order += '!'; }};
    TurnHook withdrawn(dead.delegate());
    loop->schedule(withdrawn);
  }
  loop->schedule(hook1);
  loop->schedule(hook1);
  loop->post([&] { loop->stop(); });
  loop->run();
  EXPECT_EQ(order, "12");
}

TEST_P(NativeLoopTest, PostedWorkRunsInALaterTurnOnTheLoopsThread) {
  std::string order;
  loop->post([&] {
    loop->post([&] {
      order += "inner";
      loop->stop();
    });
    order += "outer ";
  });
  loop->run();
  EXPECT_EQ(order, "outer inner");
}

TEST_P(NativeLoopTest, ManyThreadsPostToASleepingLoop) {
  constexpr int threads = 4, each = 2000;
  int ran = 0;  // touched by the loop's thread alone
  std::atomic<bool> wrong_thread{false};
  std::thread::id home;
  std::thread runner([&] {
    home = std::this_thread::get_id();
    loop->run();
  });
  std::vector<std::thread> posters;
  for (int t = 0; t < threads; ++t) {
    posters.emplace_back([&] {
      for (int i = 0; i < each; ++i) {
        loop->post([&] {
          if (std::this_thread::get_id() != home) wrong_thread = true;
          if (++ran == threads * each) loop->stop();
        });
      }
    });
  }
  for (auto& t : posters) t.join();
  runner.join();
  EXPECT_EQ(ran, threads * each);
  EXPECT_FALSE(wrong_thread);
}

TEST_P(NativeLoopTest, StopFromAnotherThreadWakesALoopThatHasNothingToDo) {
  std::thread runner([&] { loop->run(); });
  loop->stop();
  runner.join();
}

TEST_P(NativeLoopTest, StopBeforeRunEndsItAfterOneTurn) {
  bool ran = false;
  Callback c{[&] { ran = true; }};
  TurnHook hook(c.delegate());
  loop->schedule(hook);
  loop->stop();
  loop->run();
  EXPECT_TRUE(ran);
}

TEST_P(NativeLoopTest, WhatIsStartedBeforeRunBelongsToTheThreadThatRuns) {
  Accepting accepting(*loop);
  Calling calling(*loop);
  auto listener = loop->listen(loopback(), {}, accepting);
  ASSERT_TRUE(listener);
  auto connecting = loop->connect((*listener)->local(), {}, calling);
  std::thread runner([&] {
    while (!calling.end.open() || accepting.accepted.empty()) loop->run();
    calling.end.stream().close();
    accepting.accepted[0]->stream().close();
    while (calling.end.open() || accepting.accepted[0]->open()) loop->run();
    connecting.reset();
    listener->reset();
  });
  runner.join();
  EXPECT_EQ(calling.calls, 1);
}

// Before the loop runs and while it runs; more than a batch of events holds.
TEST_P(NativeLoopTest, ManyWatchesOfOneDescriptorAllFire) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  constexpr std::size_t watches = 300;
  for (int round = 0; round < 2; ++round) {
    std::size_t fired = 0;
    std::vector<std::unique_ptr<FdWatch>> all(watches);
    std::vector<Callback> calls(watches);
    for (std::size_t i = 0; i < watches; ++i) {
      calls[i].f = [&, i] {
        all[i].reset();
        if (++fired == watches) loop->stop();
      };
      all[i] = loop->watch_readable(pipe[0], calls[i].delegate());
    }
    ASSERT_EQ(::write(pipe[1], "x", 1), 1);
    loop->run();
    EXPECT_EQ(fired, watches);
    char c = 0;
    ASSERT_EQ(::read(pipe[0], &c, 1), 1);
  }
  ::close(pipe[0]);
  ::close(pipe[1]);
}

TEST_P(NativeLoopTest, WatchIsLevelTriggeredAndEndsWithItsObject) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  int calls = 0;
  std::unique_ptr<FdWatch> watch;
  Callback ready{[&] {
    if (++calls == 3) {
      watch.reset();
      loop->stop();
    }
  }};
  watch = loop->watch_readable(pipe[0], ready.delegate());
  turn();
  EXPECT_EQ(calls, 0);
  ASSERT_EQ(::write(pipe[1], "x", 1), 1);
  loop->run();  // nobody reads: it stays ready
  EXPECT_EQ(calls, 3);
  turn();
  turn();
  EXPECT_EQ(calls, 3);
  watch = loop->watch_readable(pipe[0], ready.delegate());
  watch.reset();
  turn();
  EXPECT_EQ(calls, 3);
  ::close(pipe[0]);
  ::close(pipe[1]);
}

TEST_P(NativeLoopTest, WatchTellsOfTheEnd) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  ::close(pipe[1]);
  int calls = 0;
  Callback ready{[&] {
    ++calls;
    loop->stop();
  }};
  auto watch = loop->watch_readable(pipe[0], ready.delegate());
  loop->run();
  EXPECT_EQ(calls, 1);
  watch.reset();
  ::close(pipe[0]);
}

TEST_P(NativeLoopTest, RandomBytesDifferAndFillEveryLength) {
  std::vector<std::uint8_t> a(16), b(16), big(100000);
  loop->random().fill(a);
  loop->random().fill(b);
  EXPECT_NE(a, b);
  loop->random().fill(big);
  EXPECT_NE(std::count(big.begin(), big.end(), 0), static_cast<std::ptrdiff_t>(big.size()));
  for (int i = 0; i < 100; ++i) loop->random().fill(a);
  loop->random().fill({});
}

TEST_P(NativeLoopTest, AnIdleLoopNeitherTurnsNorSpins) {
  turn();
  const auto before = loop->counters();
  Callback end{[&] { loop->stop(); }};
  Timer timer(loop->timers(), end.delegate());
  timer.arm(loop->now() + milliseconds(50));
  loop->run();
  EXPECT_LE(loop->counters().turns - before.turns, 4U);
  EXPECT_EQ(loop->counters().polled_wakeups, before.polled_wakeups);
}

// What a loop does with its policy: spins of which `hit` says whether they end with work; how many there
// were.
int spins(PollingPolicy& policy, Instant& now, int waits, Duration between,
          const std::function<bool(int)>& hit) {
  int spun = 0;
  for (int i = 0; i < waits; ++i, now += between) {
    const bool spin = policy.spin_time(now).count() > 0;
    spun += spin ? 1 : 0;
    if (spin && hit(i)) {
      policy.note_gap(microseconds(30), false);
      continue;
    }
    if (spin) policy.note_miss();
    policy.note_gap(microseconds(150), true);  // it slept, whenever the work really came
  }
  return spun;
}

TEST(PollingPolicyTest, FindsOutThatSpinningPaysAndStopsWhenItDoesNot) {
  PollingPolicy policy(Polling::adaptive, microseconds(50));
  Instant now{milliseconds(1000)};
  EXPECT_EQ(policy.spin_time(now).count(), 0);  // an idle loop does not begin with it
  EXPECT_FALSE(policy.spinning());
  policy.note_gap(microseconds(150), true);
  EXPECT_EQ(spins(policy, now, 1000, microseconds(60), [](int) { return true; }), 1000);
  // now and then one is late
  EXPECT_EQ(spins(policy, now, 1000, microseconds(60), [](int i) { return i % 4 != 0; }), 1000);
  EXPECT_TRUE(policy.spinning());
  EXPECT_LT(spins(policy, now, 1000, microseconds(200), [](int) { return false; }), 70);
  EXPECT_FALSE(policy.spinning());
}

TEST(PollingPolicyTest, TrialsInVainBecomeRare) {
  PollingPolicy policy(Polling::adaptive, microseconds(50));
  Instant now{milliseconds(1000)};
  policy.note_gap(microseconds(150), true);
  (void)spins(policy, now, 10'000, microseconds(200), [](int) { return false; });
  // Ten seconds on: six spins every 640 ms are 0.05 % of a core.
  EXPECT_LE(spins(policy, now, 50'000, microseconds(200), [](int) { return false; }), 16 * 6);
  // And work that comes in time again is found at the next trial, after which trials are near once more.
  EXPECT_GT(spins(policy, now, 50'000, microseconds(60), [](int) { return true; }), 35'000);
  (void)spins(policy, now, 20, microseconds(200), [](int) { return false; });
  EXPECT_GT(spins(policy, now, 1000, microseconds(60), [](int) { return true; }), 800);
}

TEST(PollingPolicyTest, AfterASilenceTrialsAreNearAgain) {
  PollingPolicy policy(Polling::adaptive, microseconds(50));
  Instant now{milliseconds(1000)};
  policy.note_gap(microseconds(150), true);
  (void)spins(policy, now, 10'000, microseconds(200), [](int) { return false; });
  now += PollingPolicy::longest_pause;
  policy.note_gap(PollingPolicy::longest_pause + milliseconds(1), true);
  EXPECT_EQ(spins(policy, now, 1, microseconds(200), [](int) { return false; }), 0);  // one gap is no work yet
  EXPECT_EQ(spins(policy, now, 6, microseconds(200), [](int) { return false; }), 6);  // in vain at its start
  EXPECT_GT(spins(policy, now, 1000, microseconds(60), [](int) { return true; }), 800);
}

TEST(PollingPolicyTest, ALoopThatIsAskedNowAndThenNeverSpins) {
  PollingPolicy policy(Polling::adaptive, microseconds(80));
  for (Instant now{milliseconds(1000)}; now < Instant(milliseconds(2000)); now += milliseconds(1)) {
    policy.note_gap(milliseconds(1), true);
    EXPECT_EQ(policy.spin_time(now).count(), 0);
  }
}

TEST(PollingPolicyTest, RestsWhenTheMachineHasOtherWork) {
  PollingPolicy policy(Polling::adaptive, microseconds(50));
  Instant now{milliseconds(1000)};
  for (int i = 0; i < 30; ++i) policy.note_gap(microseconds(10), false);
  policy.note_preemptions(now, 1000);  // what happened before does not count
  EXPECT_GT(policy.spin_time(now).count(), 0);
  EXPECT_FALSE(policy.check_due(now));
  now += PollingPolicy::check_interval;
  EXPECT_TRUE(policy.check_due(now));
  policy.note_preemptions(now, 1010);
  EXPECT_EQ(policy.spin_time(now).count(), 0);
  now += PollingPolicy::rest;
  EXPECT_GT(policy.spin_time(now).count(), 0);
  policy.note_preemptions(now, 1011);
  EXPECT_GT(policy.spin_time(now).count(), 0);
}

TEST(PollingPolicyTest, OffMeansOff) {
  PollingPolicy policy(Polling::never, microseconds(50));
  for (int i = 0; i < 30; ++i) policy.note_gap(microseconds(1), false);
  EXPECT_EQ(policy.spin_time(Instant{milliseconds(1)}).count(), 0);
}

TEST(PollingPolicyTest, AlwaysMeansAlways) {
  PollingPolicy policy(Polling::always, microseconds(50));
  Instant now{milliseconds(1000)};
  for (int i = 0; i < 30; ++i) policy.note_gap(milliseconds(5), false);
  policy.note_preemptions(now, 0);
  now += PollingPolicy::check_interval;
  policy.note_preemptions(now, 1000);
  EXPECT_GT(policy.spin_time(now), std::chrono::hours(1));
}

TEST_P(NativeLoopTest, ALoopTellsWhetherItSpins) {
  LoopOptions options;
  options.polling = Polling::never;
  make(std::move(options));
  EXPECT_FALSE(loop->spins());
  options = {};
  options.polling = Polling::always;
  make(std::move(options));
  EXPECT_TRUE(loop->spins());
}

TEST_P(NativeLoopTest, ALoopThatNeverSleepsStillHearsTimersAndOtherThreads) {
  LoopOptions options;
  options.polling = Polling::always;
  make(std::move(options));
  std::atomic<bool> fired{false};
  Callback tick{[&] { fired = true; }};
  Timer timer(loop->timers(), tick.delegate());
  timer.arm(loop->now() + milliseconds(5));
  std::thread other([&] {
    while (!fired) std::this_thread::yield();
    loop->post([&] { loop->stop(); });
  });
  loop->run();
  other.join();
  EXPECT_LE(loop->counters().slept_wakeups, 1u);  // when the timer is due: it does not spin past that
}

}  // namespace
}  // namespace perilune::runtime
