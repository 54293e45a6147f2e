// SPDX-License-Identifier: Apache-2.0
// What is particular to the ring; the contracts are tested in runtime/native for every runtime.
#include "runtime/uring/uring_loop.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "runtime/loop_test_support.hpp"

namespace perilune::runtime::uring {
namespace {

// A Delegate from a lambda that outlives it.
struct Callback {
  std::function<void()> f;
  void call() { f(); }
  [[nodiscard]] Delegate<void()> delegate() { return Delegate<void()>::to<&Callback::call>(*this); }
};

class UringLoopTest : public ::testing::Test, protected LoopUser {
 protected:
  void SetUp() override { make({}); }
  void make(UringOptions options) { take_loop(std::move(options), UringLoop::create); }
};
using UringStreamTest = StreamPair<UringLoopTest>;
using UringFileTest = WithFile<UringLoopTest>;

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

// Two buffers are offered, forty streams become readable in the same moment.
TEST_F(UringStreamTest, ReceivesThatFindNoBufferAreStartedAgain) {
  UringOptions options;
  options.receive_buffers = 2;
  options.receive_buffer_bytes = 4096;
  make(options);
  if (!loop) return;
  listen();
  std::vector<std::unique_ptr<Calling>> callers;
  std::vector<std::unique_ptr<Connecting>> attempts;
  constexpr std::size_t streams = 40;
  for (std::size_t i = 0; i < streams; ++i) {
    callers.push_back(std::make_unique<Calling>(*loop));
    attempts.push_back(loop->connect(listener->local(), {}, *callers.back()));
  }
  run_until([&] {
    for (auto& c : callers) {
      if (!c->end.open()) return false;
    }
    return accepting->accepted.size() == streams;
  });
  for (auto& c : callers) c->end.send("now");
  run_until([&] {
    for (auto& c : callers) {
      if (c->end.sends == 0) return false;
    }
    return true;
  });
  for (auto& end : accepting->accepted) end->stream().receive();
  run_until([&] {
    for (auto& end : accepting->accepted) {
      if (end->received != "now") return false;
    }
    return true;
  });
  EXPECT_GT(loop->counters().no_buffers, 0U);
  for (auto& c : callers) c->end.stream().close();
  run_until([&] {
    for (auto& c : callers) {
      if (c->end.open()) return false;
    }
    return true;
  });
}

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
  EXPECT_EQ(finish([&](FileOp& op, int& r) {
              return file->write(op, ByteOffset(4096), {&out, 1}, true, r);
            }),
            4096);
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
  ASSERT_EQ(finish([&](FileOp& op, int& r) {
              return file->write(op, ByteOffset(0), {&out, 1}, false, r);
            }),
            65536);
  struct Many {
    ThreadLoop& loop;
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

TEST_F(UringFileTest, VectorsOfMoreOperationsThanTheArenaHoldsStayIntact) {
  open({false, false});
  constexpr std::size_t operations = 200, vectors = 64;  // 12800 vectors, all prepared before the loop runs
  struct Many {
    ThreadLoop& loop;
    std::size_t left;
    void on_done(FileOp&, int r) {
      EXPECT_EQ(r, static_cast<int>(vectors * 64));
      if (--left == 0) loop.stop();
    }
  } many{*loop, operations};
  std::vector<FileOp> ops(operations);
  std::vector<std::string> data;
  for (std::size_t i = 0; i < operations; ++i)
    data.emplace_back(vectors * 64, static_cast<char>('A' + i % 26));
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
    ASSERT_EQ(finish([&](FileOp& op, int& r) {
                return file->read(op, ByteOffset(i * back.size()), {&in, 1}, r);
              }),
              static_cast<int>(back.size()));
    ASSERT_EQ(back, data[i]) << i;
  }
}

}  // namespace
}  // namespace perilune::runtime::uring
