// SPDX-License-Identifier: Apache-2.0
// Atomic writes on the disks of the simulated world, which forget, tear and reorder what was not durable, and
// lose power at any moment: every range has the blocks of one write, and no block is older than the last
// write of it that was answered.
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "block/atomic_journal.hpp"
#include "block/atomic_lanes.hpp"
#include "block/backends/file_channel.hpp"
#include "runtime/sim/sim_host.hpp"
#include "runtime/sim/world.hpp"

namespace perilune::sim {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t disk_number = 5;
constexpr std::size_t range_count = 8;  // more than there are lanes: some wait
constexpr std::uint64_t range_blocks = 24, block_bytes = 512;
constexpr std::uint64_t disk_bytes = range_count * range_blocks * block_bytes;

class SimMedium final : public block::AtomicMedium {
 public:
  explicit SimMedium(SimDisk& disk) : disk_(disk) {}
  [[nodiscard]] Status read(ByteOffset offset, MutableBytes out) override {
    disk_.read(offset, out);
    return {};
  }
  [[nodiscard]] Status write_durably(ByteOffset offset, Bytes data) override {
    disk_.write(offset, data);
    disk_.make_durable(disk_.mark());
    return {};
  }
  [[nodiscard]] std::uint64_t size_bytes() const override { return disk_.options().size_bytes; }

 private:
  SimDisk& disk_;
};

// One range and who writes to it, one write after the other: atomically to all of it, or durably to one
// block.
struct Range {
  std::uint64_t first = 0;
  std::array<std::uint8_t, range_blocks> answered{};  // what each block has
  bool open = false, whole = false;
  std::uint64_t block = 0;  // of one that is not whole
  std::uint8_t version = 0;
  std::vector<std::uint8_t> data;
  iovec piece{};
  block::BlockOp op;
};

class Life {
 public:
  Life(World& world, SimHost& host, Prng& prng, std::array<Range, range_count>& ranges, std::uint8_t& version)
      : world_(world), host_(host), loop_(host.add_loop()), prng_(prng), ranges_(ranges), version_(version) {
    auto journal = block::AtomicJournal::create(
        "/journal", std::make_unique<SimMedium>(*host.find_disk("/journal")), false);
    PERILUNE_ASSERT(journal.has_value());
    SimMedium medium(*host.find_disk("/disk"));
    PERILUNE_ASSERT((*journal)->recover(disk_number, medium).has_value());
    auto lanes = (*journal)->lanes(loop_);
    auto file = loop_.open_file("/disk", {});
    PERILUNE_ASSERT(lanes.has_value() && file.has_value());
    block::Geometry geometry = block::file_geometry((*file)->properties(), block_bytes);
    geometry.max_atomic_blocks = block::max_atomic_blocks(block_bytes, 0);
    channel_ = block::make_file_channel(std::move(*file), geometry, std::make_shared<block::FlushHealth>(),
                                        std::move(*lanes), disk_number);
  }
  ~Life() {
    channel_.reset();
    loop_.die();
  }

  void write_for_a_while() {
    for (Range& range : ranges_) go_on(range);
    (void)world_.run_until([this] { return ended_ >= stop_after_; }, 60s);
  }
  // Power goes; the operations that were under way end for nobody.
  void lose_power() {
    host_.crash(Crash::power, Aftermath::wind_down);
    lost_ = true;
    const bool quiet = world_.run_until([this] { return outstanding_ == 0; }, 60s);
    PERILUNE_ASSERT(quiet);
  }

 private:
  void go_on(Range& range) {
    while (!lost_) {
      begin(range);
      ++outstanding_;
      if (!channel_->submit(range.op)) return;
      end(range);
    }
  }
  void begin(Range& range) {
    range.open = true;
    range.whole = prng_.chance(2, 3);
    range.block = prng_.below(range_blocks);
    range.version = ++version_;
    range.data.assign((range.whole ? range_blocks : 1) * block_bytes, range.version);
    range.piece = {range.data.data(), range.data.size()};
    range.op.kind = block::OpKind::write;
    range.op.lba = Lba(range.first + (range.whole ? 0 : range.block));
    range.op.blocks = BlockCount(range.data.size() / block_bytes);
    range.op.data = {&range.piece, 1};
    range.op.atomic = range.whole;
    range.op.fua = true;
    range.op.done = Delegate<void(block::BlockOp&)>::to<&Life::done>(*this);
  }
  void end(Range& range) {
    --outstanding_;
    if (lost_) return;
    ++ended_;
    EXPECT_EQ(range.op.status, block::OpStatus::ok);
    range.open = false;
    if (range.whole)
      range.answered.fill(range.version);
    else
      range.answered[range.block] = range.version;
  }
  void done(block::BlockOp& op) {
    for (Range& range : ranges_) {
      if (&range.op != &op) continue;
      end(range);
      go_on(range);
    }
  }

  World& world_;
  SimHost& host_;
  SimLoop& loop_;
  Prng& prng_;
  std::array<Range, range_count>& ranges_;
  std::uint8_t& version_;
  std::unique_ptr<block::Channel> channel_;
  const std::uint64_t stop_after_ = prng_.between(1, 60);
  std::uint64_t ended_ = 0, outstanding_ = 0;
  bool lost_ = false;
};

// Empty, or what is wrong with the range after a crash and a start. What is there then counts as answered.
std::string judge(Range& range, SimDisk& disk) {
  std::array<std::uint8_t, range_blocks> there{};
  std::string problem;
  for (std::uint64_t i = 0; i < range_blocks; ++i) {
    std::array<std::uint8_t, block_bytes> bytes{};
    disk.read(ByteOffset((range.first + i) * block_bytes), bytes);
    there[i] = bytes[0];
    for (const std::uint8_t byte : bytes) {
      if (byte != bytes[0]) problem = "a block of two writes";
    }
  }
  std::array<std::uint8_t, range_blocks> changed = range.answered;
  if (range.open && range.whole) changed.fill(range.version);
  if (range.open && !range.whole) changed[range.block] = range.version;
  if (problem.empty() && there != range.answered && there != changed)
    problem = "blocks of more than one write";
  range.answered = there;
  range.open = false;
  return problem;
}

std::string run(std::uint64_t seed, const DiskFaults& lies_of_journal = {}) {
  World world(seed);
  Prng prng(seed * 7 + 1);
  SimHost& host = world.add_host("target", {"10.0.0.1"});
  DiskOptions disk;
  disk.size_bytes = disk_bytes;
  host.add_disk("/disk", disk);
  disk.size_bytes = block::atomic_journal_bytes;
  disk.faults = lies_of_journal;
  host.add_disk("/journal", disk);
  std::array<Range, range_count> ranges;
  for (std::size_t i = 0; i < range_count; ++i) ranges[i].first = i * range_blocks;
  std::uint8_t version = 0;
  for (int life = 0; life < 3; ++life) {
    {
      Life now(world, host, prng, ranges, version);
      now.write_for_a_while();
      now.lose_power();
    }
    // Recovered in the moment of the next start, as FileBackstore does it, before anything is read.
    auto journal = block::AtomicJournal::create(
        "/journal", std::make_unique<SimMedium>(*host.find_disk("/journal")), false);
    SimMedium medium(*host.find_disk("/disk"));
    if (!journal || !(*journal)->recover(disk_number, medium)) return "no recovery";
    for (Range& range : ranges) {
      if (std::string problem = judge(range, *host.find_disk("/disk")); !problem.empty()) return problem;
    }
  }
  return {};
}

TEST(SimulatedAtomicWrites, AreNeverTornByALossOfPower) {
  for (std::uint64_t seed = 1; seed <= 150; ++seed) EXPECT_EQ(run(seed), "") << "seed " << seed;
}

TEST(SimulatedAtomicWrites, AreTornWhereTheJournalLies) {
  DiskFaults lies;
  lies.ignore_durable_write = true;
  int torn = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) torn += run(seed, lies) != "";
  EXPECT_GT(torn, 3);
}

}  // namespace
}  // namespace perilune::sim
