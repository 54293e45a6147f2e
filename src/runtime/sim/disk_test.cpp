// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>

#include "runtime/sim/block_history.hpp"
#include "runtime/sim/sim_block_file.hpp"
#include "runtime/sim/sim_host.hpp"
#include "runtime/sim/world.hpp"

namespace perilune::sim {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t disk_bytes = 64 * 4096;

struct AlignedBuffer {
  explicit AlignedBuffer(std::size_t bytes)
      : data(static_cast<std::uint8_t*>(std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096))),
        size(bytes) {
    std::fill_n(data, size, std::uint8_t{0});
  }
  ~AlignedBuffer() { std::free(data); }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  [[nodiscard]] MutableBytes bytes() const { return {data, size}; }
  [[nodiscard]] iovec iov() const { return {data, size}; }
  std::uint8_t* data;
  std::size_t size;
};

struct Op {
  Op() { op.done = Delegate<void(runtime::FileOp&, int)>::to<&Op::on_done>(*this); }
  void on_done(runtime::FileOp&, int r) {
    result = r;
    ended = true;
    ++calls;
  }
  // What an owner does with the answer of a submit.
  void begun(bool at_once) {
    if (at_once) ended = true;
  }
  runtime::FileOp op;
  int result = 0;
  int calls = 0;
  bool ended = false;
};

class SimDiskTest : public ::testing::Test {
 protected:
  void make(std::uint64_t seed, DiskOptions options) {
    world = std::make_unique<World>(seed);
    host = &world->add_host("h", {"10.0.0.1"});
    options.size_bytes = disk_bytes;
    disk = &host->add_disk("/disk", options);
    open();
  }
  void open() {
    loop = &host->add_loop();
    auto opened = loop->open_file("/disk", {});
    ASSERT_TRUE(opened);
    file = std::move(*opened);
  }
  void TearDown() override {
    if (host != nullptr) host->crash(Crash::process);
    file.reset();
  }
  int write(std::uint64_t offset, const AlignedBuffer& buffer, bool durable) {
    Op op;
    const iovec iov = buffer.iov();
    op.begun(file->write(op.op, ByteOffset(offset), {&iov, 1}, durable, op.result));
    EXPECT_TRUE(world->run_until([&] { return op.ended; }, 10s));
    return op.result;
  }
  int read(std::uint64_t offset, AlignedBuffer& buffer) {
    Op op;
    const iovec iov = buffer.iov();
    op.begun(file->read(op.op, ByteOffset(offset), {&iov, 1}, op.result));
    EXPECT_TRUE(world->run_until([&] { return op.ended; }, 10s));
    return op.result;
  }
  int sync() {
    Op op;
    op.begun(file->sync(op.op, op.result));
    EXPECT_TRUE(world->run_until([&] { return op.ended; }, 10s));
    return op.result;
  }
  void lose_power() {
    host->crash(Crash::power);
    file.reset();
    open();
  }

  std::unique_ptr<World> world;
  SimHost* host = nullptr;
  SimDisk* disk = nullptr;
  SimLoop* loop = nullptr;
  std::unique_ptr<runtime::BlockFile> file;
};

TEST_F(SimDiskTest, ReadsWhatWasWrittenBeforeAnySync) {
  make(1, {});
  AlignedBuffer out(8192);
  Prng(9).fill(out.bytes());
  ASSERT_EQ(write(4096, out, false), 8192);
  AlignedBuffer in(8192);
  ASSERT_EQ(read(4096, in), 8192);
  EXPECT_TRUE(std::equal(in.data, in.data + 8192, out.data));
}

TEST_F(SimDiskTest, ReadsAreShortAtTheEndAndWritesBeyondItFail) {
  make(1, {});
  AlignedBuffer buffer(8192);
  EXPECT_EQ(read(disk_bytes - 4096, buffer), 4096);
  EXPECT_EQ(read(disk_bytes, buffer), 0);
  EXPECT_EQ(write(disk_bytes - 4096, buffer, false), -ENOSPC);
}

TEST_F(SimDiskTest, RefusesMisalignedDirectOperations) {
  make(1, {});
  AlignedBuffer buffer(4096);
  Op op;
  iovec odd{buffer.data + 1, 512};
  EXPECT_TRUE(file->read(op.op, ByteOffset(0), {&odd, 1}, op.result));
  EXPECT_EQ(op.result, -EINVAL);
  iovec even{buffer.data, 512};
  EXPECT_TRUE(file->read(op.op, ByteOffset(100), {&even, 1}, op.result));
  EXPECT_EQ(op.result, -EINVAL);
}

TEST_F(SimDiskTest, PunchedAndZeroedRangesReadAsZeroes) {
  make(1, {});
  AlignedBuffer out(16384);
  Prng(9).fill(out.bytes());
  ASSERT_EQ(write(0, out, true), 16384);
  for (int kind = 0; kind < 2; ++kind) {
    Op op;
    const ByteOffset at(kind == 0 ? 4096 : 8192);
    op.begun(kind == 0 ? file->punch(op.op, at, ByteCount(4096), op.result)
                       : file->zero(op.op, at, ByteCount(4096), op.result));
    ASSERT_TRUE(world->run_until([&] { return op.ended; }, 10s));
    ASSERT_EQ(op.result, 0);
  }
  AlignedBuffer in(16384);
  ASSERT_EQ(read(0, in), 16384);
  EXPECT_TRUE(std::all_of(in.data + 4096, in.data + 12288, [](std::uint8_t b) { return b == 0; }));
  EXPECT_TRUE(std::equal(in.data, in.data + 4096, out.data));
  EXPECT_TRUE(std::equal(in.data + 12288, in.data + 16384, out.data + 12288));
}

TEST_F(SimDiskTest, ExtentsTellWhereThereIsData) {
  make(1, {});
  AlignedBuffer out(8192);
  Prng(9).fill(out.bytes());
  ASSERT_EQ(write(4096, out, false), 8192);
  const auto extent = [this](std::uint64_t offset, std::uint64_t length) {
    Op op;
    op.begun(file->extent(op.op, ByteOffset(offset), ByteCount(length), op.result));
    EXPECT_TRUE(world->run_until([&] { return op.ended; }, 10s));
    EXPECT_EQ(op.result, 0);
    return std::pair(op.op.extent.allocated, op.op.extent.length_bytes);
  };
  EXPECT_EQ(extent(512, disk_bytes - 512), std::pair(false, std::uint64_t{3584}));
  EXPECT_EQ(extent(4608, disk_bytes - 4608), std::pair(true, std::uint64_t{7680}));
  EXPECT_EQ(extent(12288, 512), std::pair(false, std::uint64_t{512}));
  Op op;
  op.begun(file->punch(op.op, ByteOffset(8192), ByteCount(4096), op.result));
  ASSERT_TRUE(world->run_until([&] { return op.ended; }, 10s));
  EXPECT_EQ(extent(8192, 8192), std::pair(false, std::uint64_t{8192}));
}

TEST_F(SimDiskTest, InjectedErrorsAreReported) {
  DiskOptions options;
  options.faults.read_error_per_million = 1'000'000;
  options.faults.no_space_per_million = 1'000'000;
  options.faults.sync_error_per_million = 1'000'000;
  make(1, options);
  AlignedBuffer buffer(4096);
  EXPECT_EQ(read(0, buffer), -EIO);
  EXPECT_EQ(write(0, buffer, false), -ENOSPC);
  EXPECT_EQ(sync(), -EIO);
  disk->faults().write_error_per_million = 1'000'000;
  EXPECT_EQ(write(0, buffer, false), -EIO);
}

TEST_F(SimDiskTest, AFailedSyncMayHaveLostTheDataForGood) {
  int lost = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    DiskOptions options;
    options.writeback = false;
    options.faults.sync_error_per_million = 1'000'000;
    make(seed, options);
    AlignedBuffer out(512);
    Prng(seed).fill(out.bytes());
    ASSERT_EQ(write(0, out, false), 512);
    ASSERT_EQ(sync(), -EIO);
    disk->faults().sync_error_per_million = 0;
    AlignedBuffer in(512);
    ASSERT_EQ(read(0, in), 512);
    EXPECT_TRUE(std::equal(in.data, in.data + 512, out.data));  // the cache still shows it
    ASSERT_EQ(sync(), 0);                                       // and this sync has nothing to do
    lose_power();
    ASSERT_EQ(read(0, in), 512);
    if (!std::equal(in.data, in.data + 512, out.data)) ++lost;
    TearDown();
  }
  EXPECT_GT(lost, 5);
  EXPECT_LT(lost, 35);
}

TEST_F(SimDiskTest, ShortTransfersEndBetweenSectors) {
  DiskOptions options;
  options.short_per_million = 1'000'000;
  make(1, options);
  AlignedBuffer buffer(16384);
  for (int i = 0; i < 50; ++i) {
    const int n = i % 2 == 0 ? read(0, buffer) : write(0, buffer, false);
    ASSERT_GT(n, 0);
    ASSERT_LT(n, 16384);
    ASSERT_EQ(n % 512, 0);
  }
}

TEST_F(SimDiskTest, CompletionsComeInAnotherOrderThanSubmissions) {
  bool reordered = false;
  bool at_once = false;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    make(seed, {});
    AlignedBuffer buffer(512);
    const iovec iov = buffer.iov();
    std::vector<std::unique_ptr<Op>> ops;
    for (int i = 0; i < 8; ++i) {
      ops.push_back(std::make_unique<Op>());
      ops.back()->begun(file->read(ops.back()->op, ByteOffset(0), {&iov, 1}, ops.back()->result));
      at_once |= ops.back()->ended;
    }
    while (std::any_of(ops.begin(), ops.end(), [](const auto& op) { return !op->ended; })) {
      ASSERT_TRUE(world->step());
      for (std::size_t i = 1; i < ops.size(); ++i)
        reordered |= ops[i]->calls == 1 && ops[i - 1]->calls == 0 && !ops[i - 1]->ended;
    }
    for (const auto& op : ops) EXPECT_LE(op->calls, 1);
    TearDown();
  }
  EXPECT_TRUE(reordered);
  EXPECT_TRUE(at_once);
}

// One process writes, flushes and is hit by power failures; the history judges what is read afterwards.
struct Journey {
  std::string problem;
  std::uint64_t torn = 0;
  std::uint64_t lost = 0;
};

class JourneyTest : public SimDiskTest {
 protected:
  Journey travel(std::uint64_t seed, DiskFaults lies) {
    DiskOptions options;
    options.faults = lies;
    make(seed, options);
    BlockHistory history(seed, 512, BlockCount(disk_bytes / 512));
    Prng prng(seed);
    Journey journey;
    for (int life = 0; life < 4 && journey.problem.empty(); ++life) {
      live(prng, history);
      history.power_lost();
      history.settle_failed();
      lose_power();
      AlignedBuffer all(disk_bytes);
      EXPECT_EQ(read(0, all), static_cast<int>(disk_bytes));
      journey.problem = history.check(Lba(0), all.bytes());
    }
    journey.torn = disk->torn();
    journey.lost = disk->lost();
    TearDown();
    return journey;
  }

 private:
  struct Work {
    explicit Work(std::size_t bytes) : buffer(bytes) {}
    Op op;
    AlignedBuffer buffer;
    BlockHistory::Write write;
    BlockHistory::Flush flush;
    bool is_flush = false;
    bool durable = false;
  };

  void live(Prng& prng, BlockHistory& history) {
    std::vector<std::unique_ptr<Work>> works;
    const std::uint64_t count = prng.between(5, 60);
    for (std::uint64_t i = 0; i < count; ++i) {
      works.push_back(begin(prng, history));
      if (prng.coin()) world->run_for(Duration(static_cast<Duration::rep>(prng.below(2'000'000))));
      reap(works, history);
    }
    host->crash(Crash::power);  // with operations under way
    for (auto& work : works) {
      if (!work->is_flush) history.end_write(work->write, Outcome::failed, false);
    }
  }

  std::unique_ptr<Work> begin(Prng& prng, BlockHistory& history) {
    const std::uint64_t sectors = prng.between(1, 16);
    const std::uint64_t lba = prng.below(disk_bytes / 512 - sectors);
    auto work = std::make_unique<Work>(sectors * 512);
    const iovec iov = work->buffer.iov();
    Op& op = work->op;
    if (prng.chance(1, 6)) {
      work->is_flush = true;
      work->flush = history.begin_flush();
      op.begun(file->sync(op.op, op.result));
    } else if (prng.chance(1, 8)) {
      work->write = history.begin_zero(Lba(lba), BlockCount(sectors));
      op.begun(file->punch(op.op, ByteOffset(lba * 512), ByteCount(sectors * 512), op.result));
    } else {
      work->durable = prng.chance(1, 3);
      work->write = history.begin_write(Lba(lba), work->buffer.bytes());
      op.begun(file->write(op.op, ByteOffset(lba * 512), {&iov, 1}, work->durable, op.result));
    }
    return work;
  }

  static void reap(std::vector<std::unique_ptr<Work>>& works, BlockHistory& history) {
    std::erase_if(works, [&](const std::unique_ptr<Work>& work) {
      if (!work->op.ended) return false;
      EXPECT_GE(work->op.result, 0);
      if (work->is_flush)
        history.end_flush(work->flush, true);
      else
        history.end_write(work->write, Outcome::acknowledged, work->durable);
      return true;
    });
  }
};

TEST_F(JourneyTest, NoFlushedOrDurableWriteIsLostAndTornWritesHappen) {
  std::uint64_t torn = 0;
  std::uint64_t lost = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    const Journey journey = travel(seed, {});
    ASSERT_EQ(journey.problem, "") << "seed " << seed;
    torn += journey.torn;
    lost += journey.lost;
  }
  EXPECT_GT(torn, 100u);
  EXPECT_GT(lost, 100u);
}

TEST_F(JourneyTest, ASyncThatDoesNothingIsCaught) {
  DiskFaults lies;
  lies.ignore_sync = true;
  int caught = 0;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) caught += travel(seed, lies).problem.empty() ? 0 : 1;
  EXPECT_GT(caught, 10);
}

TEST_F(JourneyTest, ADurableWriteThatIsNotIsCaught) {
  DiskFaults lies;
  lies.ignore_durable_write = true;
  int caught = 0;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) caught += travel(seed, lies).problem.empty() ? 0 : 1;
  EXPECT_GT(caught, 10);
}

TEST_F(JourneyTest, ASeedRepeatsItself) {
  const auto hash = [this](std::uint64_t seed) {
    (void)travel(seed, {});
    return world->trace_hash();
  };
  for (std::uint64_t seed = 1; seed <= 5; ++seed) EXPECT_EQ(hash(seed), hash(seed));
}

TEST_F(SimDiskTest, AKilledProcessLosesNothingThatWasWritten) {
  make(6, {});
  AlignedBuffer out(4096);
  Prng(2).fill(out.bytes());
  ASSERT_EQ(write(0, out, false), 4096);
  host->crash(Crash::process);
  file.reset();
  open();
  AlignedBuffer in(4096);
  ASSERT_EQ(read(0, in), 4096);
  EXPECT_TRUE(std::equal(in.data, in.data + 4096, out.data));
}

TEST_F(SimDiskTest, OperationsOfAGhostFailAndNeverTouchTheDiskAgain) {
  DiskOptions options;
  options.at_once_per_million = 0;
  make(6, options);
  AlignedBuffer buffer(4096);
  Prng(2).fill(buffer.bytes());
  Op under_way;
  const iovec iov = buffer.iov();
  ASSERT_FALSE(file->write(under_way.op, ByteOffset(0), {&iov, 1}, true, under_way.result));
  host->crash(Crash::process, Aftermath::wind_down);
  Op later;
  EXPECT_TRUE(file->write(later.op, ByteOffset(8192), {&iov, 1}, true, later.result));
  EXPECT_EQ(later.result, -EIO);
  ASSERT_TRUE(world->run_until([&] { return under_way.ended; }, 10s));
  EXPECT_EQ(under_way.result, -EIO);
  EXPECT_EQ(under_way.calls, 1);
  world->run_for(10s);
  std::vector<std::uint8_t> media(4096);
  disk->read(ByteOffset(8192), media);
  EXPECT_TRUE(std::all_of(media.begin(), media.end(), [](std::uint8_t b) { return b == 0; }));
  file.reset();
  loop->die();
}

TEST_F(SimDiskTest, OperationsUnderWayAtACrashNeverComplete) {
  DiskOptions options;
  options.at_once_per_million = 0;
  make(6, options);
  auto buffer = std::make_unique<AlignedBuffer>(4096);
  auto op = std::make_unique<Op>();
  const iovec iov = buffer->iov();
  ASSERT_FALSE(file->write(op->op, ByteOffset(0), {&iov, 1}, true, op->result));
  host->crash(Crash::process);
  file.reset();
  EXPECT_EQ(op->calls, 0);
  op.reset();
  buffer.reset();
  world->run_for(10s);
}

}  // namespace
}  // namespace perilune::sim
