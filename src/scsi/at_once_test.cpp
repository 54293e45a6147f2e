// SPDX-License-Identifier: Apache-2.0
// Device::transfer_at_once against the slow path of the same command.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "scsi/test_support.hpp"

namespace perilune::scsi::test {
namespace {

using Data = std::vector<std::uint8_t>;

block::Geometry in_memory() {
  block::Geometry geometry = FakeChannel::disk();
  geometry.lends_memory = true;
  return geometry;
}

Data read10(std::uint32_t lba, std::uint16_t blocks) {
  Data cdb(16);
  cdb[0] = 0x28;
  store_be32(&cdb[2], lba);
  store_be16(&cdb[7], blocks);
  return cdb;
}
Data read16(std::uint64_t lba, std::uint32_t blocks) {
  Data cdb(16);
  cdb[0] = 0x88;
  store_be64(&cdb[2], lba);
  store_be32(&cdb[10], blocks);
  return cdb;
}
Data with(Data cdb, std::size_t at, std::uint8_t value) {
  cdb[at] = value;
  return cdb;
}
Data as_write(Data cdb) {
  cdb[0] = static_cast<std::uint8_t>(cdb[0] + 2);
  return cdb;
}

struct AtOnceTest : testing::Test {
  Rig rig{in_memory()};

  MutableBytes ask(const Data& cdb, std::uint32_t bytes, bool writes = false, std::uint64_t lun = 0) {
    const AtOnce made = rig.device.transfer_at_once(rig.a, {lun, cdb.data(), nullptr, bytes, writes});
    return {made.memory, made.outcome == AtOnce::Outcome::lent ? bytes : 0};
  }
  bool reads() { return !ask(read10(5, 2), 1024).empty(); }
  bool writes() { return !ask(as_write(read10(5, 2)), 1024, true).empty(); }
  ScsiStatus run(Nexus& nexus, Data cdb) {
    return Io(rig.device, nexus, std::move(cdb), {}, 0).run().status();
  }
  ScsiStatus reserve(Nexus& nexus, std::uint8_t action, std::uint8_t type, std::uint64_t key,
                     std::uint64_t new_key = 0) {
    return reserve(rig, nexus, action, type, key, new_key);
  }
  static ScsiStatus reserve(Rig& rig, Nexus& nexus, std::uint8_t action, std::uint8_t type, std::uint64_t key,
                            std::uint64_t new_key = 0) {
    Data list(24);
    store_be64(&list[0], key);
    store_be64(&list[8], new_key);
    return Io(rig.device, nexus, {0x5f, action, type, 0, 0, 0, 0, 0, 24, 0}, list, 0).run().status();
  }
};

TEST_F(AtOnceTest, PlainTransfersGetTheMemoryAndAreCounted) {
  const UnitCounters before = rig.unit.counters();
  const MutableBytes memory = ask(read10(5, 2), 1024);
  EXPECT_EQ(memory.data(), rig.channel.memory.data() + 5 * 512);
  EXPECT_EQ(memory.size(), 1024u);
  EXPECT_EQ(ask(read16(2047, 1), 512).data(), rig.channel.memory.data() + 2047 * 512);
  EXPECT_EQ(ask(as_write(read10(0, 3)), 1536, true).data(), rig.channel.memory.data());
  EXPECT_EQ(ask(as_write(read16(9, 1)), 512, true).data(), rig.channel.memory.data() + 9 * 512);
  const UnitCounters counted = rig.unit.counters() - before;
  EXPECT_EQ(counted.reads, 2u);
  EXPECT_EQ(counted.blocks_read, 3u);
  EXPECT_EQ(counted.writes, 2u);
  EXPECT_EQ(counted.blocks_written, 4u);
  EXPECT_EQ(rig.device.tasks(), 0u);
}

TEST_F(AtOnceTest, WhatTheCdbAsksForBeyondThatTakesTheSlowPath) {
  const UnitCounters before = rig.unit.counters();
  const std::vector<std::pair<const char*, Data>> odd = {
      {"RDPROTECT", with(read10(5, 2), 1, 0x20)},  {"DPO", with(read10(5, 2), 1, 0x10)},
      {"FUA", with(read10(5, 2), 1, 0x08)},        {"group number", with(read10(5, 2), 6, 1)},
      {"control", with(read10(5, 2), 9, 4)},       {"group number (16)", with(read16(5, 2), 14, 1)},
      {"control (16)", with(read16(5, 2), 15, 4)}, {"FUA (16)", with(read16(5, 2), 1, 0x08)},
      {"READ (6)", with(read10(5, 2), 0, 0x08)},   {"READ (12)", with(read10(5, 2), 0, 0xa8)},
      {"VERIFY", with(read10(5, 2), 0, 0x2f)},     {"a write that reads", as_write(read10(5, 2))}};
  for (const auto& [what, cdb] : odd) EXPECT_TRUE(ask(cdb, 1024).empty()) << what;
  EXPECT_TRUE(ask(read10(5, 2), 1024, true).empty()) << "a read that writes";
  EXPECT_TRUE(ask(read10(5, 2), 1023).empty()) << "less room";
  EXPECT_TRUE(ask(read10(5, 2), 1536).empty()) << "more room";
  EXPECT_TRUE(ask(read10(5, 0), 512).empty()) << "nothing";
  EXPECT_TRUE(ask(read10(2047, 2), 1024).empty()) << "beyond the end";
  EXPECT_TRUE(ask(read10(2049, 1), 512).empty());
  EXPECT_TRUE(ask(read16(~std::uint64_t{0}, 2), 1024).empty());
  EXPECT_TRUE(ask(read16(0, 0x800001), 512).empty()) << "a length that wraps to the expected one";
  EXPECT_TRUE(ask(read10(5, 2), 1024, false, std::uint64_t{1} << 48).empty()) << "no such unit";
  EXPECT_TRUE(ask(read10(5, 2), 1024, false, 0xc101'0000'0000'0000).empty()) << "a well-known one";
  const UnitCounters counted = rig.unit.counters() - before;
  EXPECT_EQ(counted.reads + counted.writes, 0u) << "nothing has happened";
}

TEST_F(AtOnceTest, LongerThanTheMaximumTransferTakesTheSlowPath) {
  rig.channel.geometry().max_transfer_blocks = 8;
  EXPECT_TRUE(ask(read10(0, 9), 9 * 512).empty());
  EXPECT_FALSE(ask(read10(0, 8), 8 * 512).empty());
}

TEST_F(AtOnceTest, WhatIsOwedToTheInitiatorComesFirst) {
  ASSERT_TRUE(reads());
  rig.unit.resized();
  EXPECT_FALSE(reads());
  rig.settle_attentions();
  EXPECT_TRUE(reads());
}

TEST_F(AtOnceTest, ReservationsAreJudgedByTheSlowPath) {
  ASSERT_EQ(reserve(rig.b, 0x00, 0, 0, 77), ScsiStatus::good);  // REGISTER
  EXPECT_TRUE(reads() && writes()) << "a registration alone restricts nobody";
  ASSERT_EQ(reserve(rig.b, 0x01, 0x01, 77), ScsiStatus::good);  // RESERVE, Write Exclusive
  EXPECT_FALSE(writes());
  ASSERT_EQ(reserve(rig.b, 0x02, 0x01, 77), ScsiStatus::good);  // RELEASE
  EXPECT_TRUE(writes());
}

TEST_F(AtOnceTest, ReadyWritableAndActiveItMustBe) {
  ASSERT_EQ(run(rig.a, {0x1b, 0, 0, 0, 0, 0}), ScsiStatus::good);  // STOP
  EXPECT_FALSE(reads() || writes());
  ASSERT_EQ(run(rig.a, {0x1b, 0, 0, 0, 1, 0}), ScsiStatus::good);
  EXPECT_TRUE(reads() && writes());
  rig.unit.state().swp = true;
  EXPECT_TRUE(reads());
  EXPECT_FALSE(writes());
  rig.unit.state().swp = false;
  ASSERT_TRUE(rig.unit.set_access_state(1, AccessState::standby) ||
              rig.unit.set_access_state(0, AccessState::standby));
  rig.settle_attentions();
  EXPECT_FALSE(reads() || writes());
}

TEST_F(AtOnceTest, WhatIsReadOnlyForTheNexusIsNotWritten) {
  ASSERT_TRUE(reads() && writes());
  rig.a.set_map(std::vector<LunMapping>{{.lun = 0, .unit = 0, .read_only = true}});
  rig.settle_attentions();
  EXPECT_TRUE(reads());
  EXPECT_FALSE(writes());
}

TEST_F(AtOnceTest, AWriteIsNotOverBeforeTheMediumHasIt) {
  block::Geometry cached = in_memory();
  cached.write_cache = true;
  Rig other(cached);
  const Data cdb = as_write(read10(5, 2));
  const auto serves = [&] {
    return other.device.transfer_at_once(other.a, {0, cdb.data(), nullptr, 1024, true}).outcome ==
           AtOnce::Outcome::lent;
  };
  ASSERT_TRUE(other.unit.write_cache_enabled());
  EXPECT_TRUE(serves());
  other.unit.state().wce = false;
  EXPECT_FALSE(serves());
}

TEST_F(AtOnceTest, AWriteMayHaveAllocatedBlocks) {
  FakeMeter meter;
  Rig thin(in_memory(), false, &meter);
  const auto transfer = [&](const Data& cdb, bool writes) {
    return thin.device.transfer_at_once(thin.a, {0, cdb.data(), nullptr, 1024, writes}).outcome ==
           AtOnce::Outcome::lent;
  };
  meter.set(0, 1 << 20);
  const int before = meter.asked;
  ASSERT_TRUE(transfer(read10(5, 2), false));
  EXPECT_EQ(meter.asked, before);
  ASSERT_TRUE(transfer(as_write(read10(5, 2)), true));
  EXPECT_EQ(meter.asked, before + 1) << "somebody measures the space anew";
}

TEST_F(AtOnceTest, WhatMayConflictIsWaitedFor) {
  rig.channel.hold = true;
  Data pair(1024);
  Io caw(rig.device, rig.b, {0x89, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0}, pair);
  caw.run();
  ASSERT_FALSE(caw.ended);
  EXPECT_FALSE(reads() || writes()) << "COMPARE AND WRITE is under way";
  rig.channel.hold = false;
  rig.channel.release_all();
  ASSERT_TRUE(caw.ended);
  EXPECT_TRUE(reads() && writes());
}

// Whatever has happened to the unit: a transfer that is accepted is one that a task would have made, through
// the same memory, or of the same bytes.
Data touched(const Rig& rig) { return {rig.channel.memory.begin(), rig.channel.memory.begin() + 70 * 512}; }
void accepts_only_what_a_task_would_have_done(Rig& rig) {
  const auto run = [&](Nexus& nexus, Data cdb) { (void)Io(rig.device, nexus, std::move(cdb), {}, 0).run(); };
  std::mt19937 random(20261128);
  const auto pick = [&](std::uint32_t below) { return static_cast<std::uint32_t>(random() % below); };
  int accepted = 0;
  int declined = 0;
  std::vector<std::unique_ptr<Io>> held;
  const auto let_go = [&] {
    rig.channel.hold = false;
    rig.channel.release_all();
    held.clear();
  };
  for (int step = 0; step < 20000; ++step) {
    Nexus& someone = pick(2) == 0 ? rig.a : rig.b;
    const std::uint32_t event = pick(40);
    if (event < 9) let_go();  // what changes the unit would wait for them
    switch (event) {
      case 0: run(someone, {0x1b, 0, 0, 0, static_cast<std::uint8_t>(pick(2)), 0}); break;
      case 1: (void)AtOnceTest::reserve(rig, someone, 0x00, 0, 0, 1 + pick(2)); break;
      case 2:
        (void)AtOnceTest::reserve(rig, someone, 0x01, static_cast<std::uint8_t>(1 + 2 * pick(2)),
                                  1 + pick(2));
        break;
      case 3: (void)AtOnceTest::reserve(rig, someone, 0x03, 0, 1 + pick(2)); break;  // CLEAR
      case 4:
        run(someone, {static_cast<std::uint8_t>(0x16 + pick(2)), 0, 0, 0, 0, 0});
        break;  // RESERVE, RELEASE (6)
      case 5:
        rig.unit.state().swp = pick(2) == 0;
        break;
      case 6:
        rig.unit.resized();
        break;
      case 7:
        (void)rig.unit.set_access_state(static_cast<std::uint16_t>(pick(2)),
                                        pick(2) == 0 ? AccessState::active_optimized : AccessState::standby);
        break;
      case 8: {
        TaskManagement reset;
        reset.function = TmFunction::lun_reset;
        reset.nexus = &someone;
        ASSERT_TRUE(rig.device.manage(reset));
        break;
      }
      case 9:
        rig.channel.hold = true;
        held.push_back(std::make_unique<Io>(rig.device, someone, Data{0x41, 0, 0, 0, 0, 9, 0, 0, 4, 0},
                                            Data(512)));  // WRITE SAME
        held.back()->run();
        rig.channel.hold = false;
        break;
      case 10:
      case 11:
        let_go();
        break;
      default:
        break;
    }
    if (pick(3) == 0) rig.settle_attentions();
    const bool writes = pick(2) == 0;
    const std::uint32_t blocks = pick(6);
    const std::uint32_t lba = pick(10) == 0 ? 2040 + pick(20) : pick(64);
    Data cdb = pick(2) == 0 ? read10(lba, static_cast<std::uint16_t>(blocks)) : read16(lba, blocks);
    if (writes) cdb = as_write(cdb);
    if (pick(8) == 0) cdb[pick(16)] ^= static_cast<std::uint8_t>(1 << pick(8));
    const std::uint32_t bytes = pick(16) == 0 ? pick(4096) : blocks * 512;
    const UnitCounters before = rig.unit.counters();
    const Data data(bytes, static_cast<std::uint8_t>(step));
    const WholeTransfer transfer{0, cdb.data(), data.data(), bytes, writes};
    Data read(bytes);
    rig.channel.misses = pick(8) == 0;
    const Data as_it_was = touched(rig);
    const AtOnce at_once = rig.device.transfer_at_once(rig.a, transfer);
    const bool copies = at_once.outcome == AtOnce::Outcome::copies;
    const bool missed = copies && !rig.device.read_at_once(rig.a, transfer, read.data());
    const UnitCounters fast_path = rig.unit.counters() - before;
    ASSERT_EQ(missed, copies && rig.channel.misses) << step;
    if (at_once.outcome == AtOnce::Outcome::declined || missed) {
      ++declined;
      ASSERT_EQ(fast_path.reads + fast_path.writes, 0u) << step;
      ASSERT_EQ(touched(rig), as_it_was) << step;
      continue;
    }
    ++accepted;
    const Data stored = touched(rig);
    std::copy(as_it_was.begin(), as_it_was.end(), rig.channel.memory.begin());
    Io io(rig.device, rig.a, cdb, writes ? data : Data{}, writes ? 0 : bytes);
    if (at_once.outcome == AtOnce::Outcome::lent) {
      io.admit();
      ASSERT_FALSE(io.ended) << step << ": " << std::hex << io.sense();
      const MutableBytes lent = rig.device.lend(io.task);
      ASSERT_EQ(lent.data(), at_once.memory) << step;
      ASSERT_EQ(lent.size(), bytes) << step;
      ASSERT_TRUE(rig.device.execute(io.task)) << step;
    } else {
      io.run();
      ASSERT_TRUE(io.ended) << step << ": it had to wait";
      if (writes)
        ASSERT_EQ(touched(rig), stored) << step;
      else
        ASSERT_EQ(io.data_in(), read) << step;
    }
    ASSERT_EQ(io.status(), ScsiStatus::good) << step;
    ASSERT_EQ(io.task.data_transfer_length, bytes) << step << ": a residual";
    ASSERT_EQ(io.task.data_in_length, writes ? 0 : bytes) << step;
    const UnitCounters slow_path = rig.unit.counters() - before - fast_path;
    ASSERT_EQ(slow_path.reads, fast_path.reads);
    ASSERT_EQ(slow_path.writes, fast_path.writes);
    ASSERT_EQ(slow_path.blocks_read, fast_path.blocks_read);
    ASSERT_EQ(slow_path.blocks_written, fast_path.blocks_written);
  }
  let_go();
  EXPECT_GT(accepted, 1000);
  EXPECT_GT(declined, 1000);
}

TEST_F(AtOnceTest, AcceptsOnlyWhatATaskWouldHaveDoneInTheSameMemory) {
  accepts_only_what_a_task_would_have_done(rig);
}

block::Geometry page_cache() {
  block::Geometry geometry = FakeChannel::disk();
  geometry.reads_at_once = geometry.writes_at_once = true;
  return geometry;
}
TEST(AtOnceInThePageCache, AcceptsOnlyWhatATaskWouldHaveDoneWithTheSameBytes) {
  Rig rig(page_cache());
  accepts_only_what_a_task_would_have_done(rig);
}

TEST(AtOnceInThePageCache, WritesOfADiskThatOnlyReadsAtOnceTakeTheSlowPath) {
  block::Geometry geometry = page_cache();
  geometry.writes_at_once = false;
  Rig rig(geometry);
  const Data data(1024, 7);
  Data cdb = read10(5, 2);
  EXPECT_EQ(rig.device.transfer_at_once(rig.a, {0, cdb.data(), nullptr, 1024, false}).outcome,
            AtOnce::Outcome::copies);
  cdb = as_write(cdb);
  EXPECT_EQ(rig.device.transfer_at_once(rig.a, {0, cdb.data(), data.data(), 1024, true}).outcome,
            AtOnce::Outcome::declined);
}

}  // namespace
}  // namespace perilune::scsi::test
