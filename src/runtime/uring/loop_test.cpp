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
#include <thread>

#include "runtime/uring/loop_test_support.hpp"
#include "runtime/uring/polling.hpp"

namespace perilune::runtime::uring {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

// A Delegate from a lambda that outlives it.
struct Callback {
  std::function<void()> f;
  void call() { f(); }
  [[nodiscard]] Delegate<void()> delegate() { return Delegate<void()>::to<&Callback::call>(*this); }
};

class UringLoopTest : public LoopTest {};

TEST_F(UringLoopTest, TimersFireInOrderAndNeverEarly) {
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

TEST_F(UringLoopTest, HooksRunOnceBeforeWaitingAlsoThoseThatHooksSchedule) {
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

TEST_F(UringLoopTest, PostedWorkRunsInALaterTurnOnTheLoopsThread) {
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

TEST_F(UringLoopTest, ManyThreadsPostToASleepingLoop) {
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

TEST_F(UringLoopTest, StopFromAnotherThreadWakesALoopThatHasNothingToDo) {
  std::thread runner([&] { loop->run(); });
  loop->stop();
  runner.join();
}

TEST_F(UringLoopTest, StopBeforeRunEndsItAfterOneTurn) {
  bool ran = false;
  Callback c{[&] { ran = true; }};
  TurnHook hook(c.delegate());
  loop->schedule(hook);
  loop->stop();
  loop->run();
  EXPECT_TRUE(ran);
}

TEST_F(UringLoopTest, WhatIsStartedBeforeRunBelongsToTheThreadThatRuns) {
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

// More operations than the submission queue holds, before the ring runs and while it runs.
TEST_F(UringLoopTest, OperationsBeyondTheQueueWaitInTheBacklog) {
  UringOptions options;
  options.entries = 8;
  make(options);
  if (!loop) return;
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  constexpr std::size_t watches = 100;
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

TEST_F(UringLoopTest, WatchIsLevelTriggeredAndEndsWithItsObject) {
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

TEST_F(UringLoopTest, WatchTellsOfTheEnd) {
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

TEST_F(UringLoopTest, RandomBytesDifferAndFillEveryLength) {
  std::vector<std::uint8_t> a(16), b(16), big(100000);
  loop->random().fill(a);
  loop->random().fill(b);
  EXPECT_NE(a, b);
  loop->random().fill(big);
  EXPECT_NE(std::count(big.begin(), big.end(), 0), static_cast<std::ptrdiff_t>(big.size()));
  for (int i = 0; i < 100; ++i) loop->random().fill(a);
  loop->random().fill({});
}

TEST_F(UringLoopTest, AnIdleLoopNeitherTurnsNorSpins) {
  turn();
  const auto before = loop->counters();
  Callback end{[&] { loop->stop(); }};
  Timer timer(loop->timers(), end.delegate());
  timer.arm(loop->now() + milliseconds(50));
  loop->run();
  EXPECT_LE(loop->counters().turns - before.turns, 4U);
  EXPECT_EQ(loop->counters().polled_wakeups, before.polled_wakeups);
}

TEST(PollingPolicyTest, SpinsWhileGapsAreShortAndStopsWhenTheyAreNot) {
  PollingPolicy policy(Polling::adaptive, microseconds(50));
  const Instant now{milliseconds(1000)};
  EXPECT_EQ(policy.spin_time(now).count(), 0);  // an idle loop does not begin with it
  for (int i = 0; i < 30; ++i) policy.note_gap(microseconds(10));
  EXPECT_EQ(policy.spin_time(now), microseconds(50));
  policy.note_miss();
  EXPECT_GT(policy.spin_time(now).count(), 0);  // one late request does not matter
  policy.note_miss();
  policy.note_miss();
  EXPECT_EQ(policy.spin_time(now).count(), 0);
  for (int i = 0; i < 30; ++i) policy.note_gap(milliseconds(5));
  EXPECT_EQ(policy.spin_time(now).count(), 0);
}

TEST(PollingPolicyTest, RestsWhenTheMachineHasOtherWork) {
  PollingPolicy policy(Polling::adaptive, microseconds(50));
  Instant now{milliseconds(1000)};
  for (int i = 0; i < 30; ++i) policy.note_gap(microseconds(10));
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
  for (int i = 0; i < 30; ++i) policy.note_gap(microseconds(1));
  EXPECT_EQ(policy.spin_time(Instant{milliseconds(1)}).count(), 0);
}

TEST(PollingPolicyTest, AlwaysMeansAlways) {
  PollingPolicy policy(Polling::always, microseconds(50));
  Instant now{milliseconds(1000)};
  for (int i = 0; i < 30; ++i) policy.note_gap(milliseconds(5));
  policy.note_preemptions(now, 0);
  now += PollingPolicy::check_interval;
  policy.note_preemptions(now, 1000);
  EXPECT_GT(policy.spin_time(now), std::chrono::hours(1));
}

TEST_F(UringLoopTest, ALoopThatNeverSleepsStillHearsTimersAndOtherThreads) {
  UringOptions options;
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

// --- files ---

class UringFileTest : public LoopTest {
 protected:
  void SetUp() override {
    LoopTest::SetUp();
    std::string pattern = (std::filesystem::temp_directory_path() / "perilune-test-XXXXXX").string();
    const int fd = ::mkstemp(pattern.data());
    ASSERT_GE(fd, 0);
    path = pattern;
    ASSERT_EQ(::ftruncate(fd, 8 << 20), 0);
    ::close(fd);
  }
  void TearDown() override {
    file.reset();
    loop.reset();
    std::filesystem::remove(path);
  }
  void open(const OpenOptions& options) {
    auto made = loop->open_file(path, options);
    ASSERT_TRUE(made) << made.error().message;
    file = std::move(*made);
  }
  struct Ending {
    UringLoop& loop;
    bool ended = false;
    int result = 0;
    void on_done(FileOp&, int r) {
      ended = true;
      result = r;
      loop.stop();
    }
  };
  // start(op, result) is one of the file's methods with everything else bound.
  int finish(const std::function<bool(FileOp&, int&)>& start) {
    Ending ending{*loop};
    FileOp op;
    op.done = Delegate<void(FileOp&, int)>::to<&Ending::on_done>(ending);
    int result = 0;
    if (start(op, result)) return result;
    EXPECT_FALSE(ending.ended);
    while (!ending.ended) loop->run();
    return ending.result;
  }
  std::string path;
  std::unique_ptr<BlockFile> file;
};

TEST_F(UringFileTest, FixedBuffersAreUsedForThePoolOfADirectFile) {
  auto pool = BufferPool::create(8);
  ASSERT_TRUE(pool);
  loop->register_buffers(**pool);
  open({});
  if (!file->properties().direct) GTEST_SKIP() << "no O_DIRECT here";
  std::array<std::uint8_t*, 2> pages{};
  ASSERT_TRUE((*pool)->take_shared(pages));
  std::fill_n(pages[0], 4096, std::uint8_t{0x3c});
  const iovec out{pages[0], 4096};
  EXPECT_EQ(finish([&](FileOp& op, int& r) { return file->write(op, ByteOffset(4096), {&out, 1}, true, r); }), 4096);
  const iovec in{pages[1], 4096};
  EXPECT_EQ(finish([&](FileOp& op, int& r) { return file->read(op, ByteOffset(4096), {&in, 1}, r); }), 4096);
  EXPECT_TRUE(std::equal(pages[0], pages[0] + 4096, pages[1]));
  EXPECT_TRUE(notices.empty()) << notices.front();
  (*pool)->release_shared(pages);
  file.reset();
  loop.reset();
}

TEST_F(UringFileTest, CachedReadsAreAnsweredInlineAFewPerTurnAndTheRestByTheRing) {
  open({false, false});
  std::string data(65536, 'd');
  const iovec out{data.data(), data.size()};
  ASSERT_EQ(finish([&](FileOp& op, int& r) { return file->write(op, ByteOffset(0), {&out, 1}, false, r); }), 65536);
  struct Many {
    UringLoop& loop;
    int left;
    void on_done(FileOp&, int r) {
      EXPECT_EQ(r, 4096);
      if (--left == 0) loop.stop();
    }
  } many{*loop, 0};
  constexpr std::size_t count = 16;
  std::vector<FileOp> ops(count);
  std::vector<std::string> blocks(count, std::string(4096, '-'));
  std::size_t inline_ends = 0;
  for (std::size_t i = 0; i < count; ++i) {
    ops[i].done = Delegate<void(FileOp&, int)>::to<&Many::on_done>(many);
    const iovec in{blocks[i].data(), 4096};
    int result = 0;
    if (file->read(ops[i], ByteOffset(i * 4096), {&in, 1}, result)) {
      EXPECT_EQ(result, 4096);
      ++inline_ends;
    } else {
      ++many.left;
    }
  }
  EXPECT_GT(inline_ends, 0U);
  EXPECT_GT(many.left, 0);
  loop->run();
  for (auto& block : blocks) EXPECT_EQ(block, std::string(4096, 'd'));
}

TEST_F(UringFileTest, ReadAtTheEndIsShortAndBeyondItIsZero) {
  open({false, false});
  std::string data(8192, '-');
  const iovec in{data.data(), data.size()};
  const std::uint64_t size = file->properties().size_bytes;
  EXPECT_EQ(finish([&](FileOp& op, int& r) { return file->read(op, ByteOffset(size - 100), {&in, 1}, r); }), 100);
  EXPECT_EQ(finish([&](FileOp& op, int& r) { return file->read(op, ByteOffset(size), {&in, 1}, r); }), 0);
}

TEST_F(UringFileTest, WritingThroughAReadOnlyFileIsAnError) {
  open({true, false});
  std::string data(512, 'x');
  const iovec out{data.data(), data.size()};
  EXPECT_EQ(finish([&](FileOp& op, int& r) { return file->write(op, ByteOffset(0), {&out, 1}, false, r); }), -EBADF);
}

TEST_F(UringFileTest, VectorsOfMoreOperationsThanTheArenaHoldsStayIntact) {
  open({false, false});
  constexpr std::size_t operations = 200, vectors = 64;  // 12800 vectors, all prepared before the loop runs
  struct Many {
    UringLoop& loop;
    std::size_t left;
    void on_done(FileOp&, int r) {
      EXPECT_EQ(r, static_cast<int>(vectors * 64));
      if (--left == 0) loop.stop();
    }
  } many{*loop, operations};
  std::vector<FileOp> ops(operations);
  std::vector<std::string> data;
  for (std::size_t i = 0; i < operations; ++i) data.emplace_back(vectors * 64, static_cast<char>('A' + i % 26));
  for (std::size_t i = 0; i < operations; ++i) {
    ops[i].done = Delegate<void(FileOp&, int)>::to<&Many::on_done>(many);
    std::array<iovec, vectors> iov;
    for (std::size_t v = 0; v < vectors; ++v) iov[v] = {data[i].data() + v * 64, 64};
    int result = 0;
    ASSERT_FALSE(file->write(ops[i], ByteOffset(i * vectors * 64), iov, false, result));
    iov.fill({nullptr, 64});  // they were copied
  }
  loop->run();
  ASSERT_EQ(many.left, 0U);
  for (std::size_t i = 0; i < operations; ++i) {
    std::string back(vectors * 64, '-');
    const iovec in{back.data(), back.size()};
    ASSERT_EQ(finish([&](FileOp& op, int& r) { return file->read(op, ByteOffset(i * back.size()), {&in, 1}, r); }),
              static_cast<int>(back.size()));
    ASSERT_EQ(back, data[i]) << i;
  }
}

}  // namespace
}  // namespace perilune::runtime::uring
