// SPDX-License-Identifier: Apache-2.0
// Reservations of a unit that several shards serve: registrations are one, and nothing is written after the
// PREEMPT that fences it.
#include <gtest/gtest.h>

#include <algorithm>
#include <string_view>

#include "scsi/shard_test_support.hpp"

namespace perilune::scsi::test {
namespace {

using Data = std::vector<std::uint8_t>;

enum Action : std::uint8_t { register_key = 0, reserve = 1, preempt = 4, preempt_and_abort = 5 };
constexpr std::uint8_t registrants_only = 5;  // WRITE EXCLUSIVE, REGISTRANTS ONLY

Data write(std::uint8_t lba) { return {0x2a, 0, 0, 0, 0, lba, 0, 0, 1, 0}; }
Data caw(std::uint8_t lba) { return {0x89, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, 1, 0, 0}; }

// PERSISTENT RESERVE OUT (SPC-4 6.16) with a list of 24 bytes.
Io reserve_out(ShardRig& rig, std::uint32_t shard, Action action, std::uint64_t key,
               std::uint64_t action_key) {
  Data list(24);
  store_be64(&list[0], key);
  store_be64(&list[8], action_key);
  const std::uint8_t type = action == register_key ? 0 : registrants_only;
  return rig.io(shard, {0x5f, action, type, 0, 0, 0, 0, 0, 24, 0}, list);
}

void do_reserve_out(ShardRig& rig, std::uint32_t shard, Action action, std::uint64_t key,
                    std::uint64_t action_key) {
  Io io = reserve_out(rig, shard, action, key, action_key);
  io.run();
  rig.settle();
  ASSERT_TRUE(io.ended);
  ASSERT_EQ(io.status(), ScsiStatus::good);
}

// The nexus of shard 0 has key 1, that of shard 1 key 2 and the reservation.
struct Reserved : ShardRig {
  explicit Reserved(std::uint32_t shards = 2, block::Geometry geometry = FakeChannel::disk())
      : ShardRig(shards, 1, geometry) {
    take_attentions();
    do_reserve_out(*this, 0, register_key, 0, 1);
    do_reserve_out(*this, 1, register_key, 0, 2);
    do_reserve_out(*this, 1, reserve, 2, 0);
    take_attentions();
  }
};

TEST(ShardsReservations, RegistrationsOfOneShardAreSeenOnAnother) {
  Reserved rig(3);
  const Data keys = rig.io(2, {0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0}, {}, 64).run().data_in();
  ASSERT_EQ(keys.size(), 24u);
  EXPECT_EQ(load_be32(&keys[0]), 2u);  // PRGENERATION
  EXPECT_EQ(load_be64(&keys[8]), 1u);
  EXPECT_EQ(load_be64(&keys[16]), 2u);
  EXPECT_EQ(rig.io(2, write(5), bytes(512, 1)).run().status(), ScsiStatus::reservation_conflict);
  EXPECT_EQ(rig.io(0, write(5), bytes(512, 1)).run().status(), ScsiStatus::good);
}

TEST(ShardsReservations, PreemptWaitsForTheWritesThatItFences) {
  Reserved rig;
  rig.hold(true);
  Io running = rig.io(1, write(5), bytes(512, 7));
  running.run();
  Io admitted = rig.io(1, write(6), bytes(512, 7));
  admitted.admit();
  Io fence = reserve_out(rig, 0, preempt, 1, 2);
  fence.run();
  rig.deliver_all();
  EXPECT_FALSE(fence.ended);
  Io late = rig.io(1, write(7), bytes(512, 7));
  EXPECT_FALSE(late.run().ended);
  Io claims = rig.io(1, caw(8), Data(1024));
  EXPECT_FALSE(claims.run().ended);
  rig.settle();
  ASSERT_TRUE(fence.ended && running.ended && late.ended && claims.ended);
  EXPECT_EQ(fence.status(), ScsiStatus::good);
  EXPECT_EQ(running.status(), ScsiStatus::good);
  EXPECT_EQ(late.status(), ScsiStatus::reservation_conflict);
  EXPECT_EQ(claims.status(), ScsiStatus::reservation_conflict);
  admitted.execute();
  EXPECT_EQ(admitted.status(), ScsiStatus::reservation_conflict);
  EXPECT_EQ(rig.disks[0][6 * 512] + rig.disks[0][7 * 512], 0);
  EXPECT_EQ(rig.attention(1), 0x062a05u);
}

// After every message, everything that shard 1 can still begin is begun: when PREEMPT is answered, nothing of
// it works on the disk, and nothing does afterwards.
TEST(ShardsReservations, NothingIsWrittenAfterThePreemptThatFencesIt) {
  for (std::size_t choice = 0; choice < 64; ++choice) {
    Reserved rig(3);
    rig.hold(true);
    std::vector<std::unique_ptr<Io>> writes;
    Io fence = reserve_out(rig, 0, preempt, 1, 2);
    fence.run();
    for (std::size_t i = 0; !fence.ended; ++i) {
      if (i < 40) {
        writes.push_back(std::make_unique<Io>(rig.device(1), rig.nexus(1),
                                              write(static_cast<std::uint8_t>(i)), bytes(512, 7)));
        if (i % 3 == 0)
          writes.back()->admit();
        else
          writes.back()->run();
      }
      if (i % 2 == 1 && rig.channel(1).held() != 0) rig.channel(1).release_one();
      if (rig.waiting() != 0) rig.deliver_some(choice >> (i % 6));
      ASSERT_LT(i, 1000u);
    }
    EXPECT_EQ(fence.status(), ScsiStatus::good);
    EXPECT_EQ(rig.channel(1).held(), 0u);
    const Data before = rig.disks[0];
    for (auto& write : writes) {
      if (write->task.phase == Task::Phase::admitted) write->execute();
    }
    rig.settle();
    EXPECT_EQ(rig.disks[0], before);
    for (auto& write : writes) EXPECT_EQ(write->task.phase, Task::Phase::outside);
  }
}

TEST(ShardsReservations, PreemptAndAbortEndsTheCommandsOfOtherShardsEvenThoseWhoseDataNeverComes) {
  auto geometry = FakeChannel::disk();
  geometry.lends_memory = true;
  geometry.write_cache = false;
  Reserved rig(2, geometry);
  Io lent = rig.io(1, write(5), bytes(512, 7));
  lent.admit();
  ASSERT_FALSE(rig.device(1).lend(lent.task).empty());
  rig.channel(1).hold = true;
  Io reads = rig.io(1, {0x28, 0, 0, 0, 0, 9, 0, 0, 1, 0}, {}, 512);
  reads.run();
  Io fence = reserve_out(rig, 0, preempt_and_abort, 1, 2);
  fence.run();
  rig.deliver_all();
  EXPECT_FALSE(fence.ended);  // the read is still in progress
  EXPECT_TRUE(lent.task.aborted);
  rig.settle();
  ASSERT_TRUE(fence.ended);
  EXPECT_EQ(fence.status(), ScsiStatus::good);
  EXPECT_TRUE(reads.task.aborted);
  EXPECT_EQ(rig.io(1, write(6), bytes(512, 1)).run().sense() >> 16, 6u);
}

// SPC-4 5.12.11.4, SAM-5 5.3.1
TEST(ShardsReservations, WithTasWhatPreemptAndAbortEndsIsToldByAStatus) {
  Reserved rig;
  for (std::uint32_t shard = 0; shard < 2; ++shard) rig.unit(shard).state().tas = true;
  Io waits = rig.io(1, write(5), bytes(512, 7));
  waits.admit();
  Io fence = reserve_out(rig, 0, preempt_and_abort, 1, 2);
  fence.run();
  rig.settle();
  ASSERT_TRUE(fence.ended);
  EXPECT_TRUE(waits.task.aborted && waits.task.report_aborted && waits.task.ended_with_set);
  EXPECT_EQ(rig.attention(1), 0x062a05u) << "its registration is gone";
  EXPECT_EQ(rig.attention(1), 0u) << "no 2F/00 beside the status";
}

TEST(ShardsReservations, ReserveHoldsOnEveryShardAndEndsWithItsNexus) {
  ShardRig rig;
  rig.take_attentions();
  Io reserves = rig.io(0, {0x16, 0, 0, 0, 0, 0});
  reserves.run();
  rig.settle();
  ASSERT_TRUE(reserves.ended);
  EXPECT_EQ(rig.io(1, write(5), bytes(512, 1)).run().status(), ScsiStatus::reservation_conflict);
  rig.end_nexus(0);
  rig.settle();
  EXPECT_EQ(rig.io(1, write(5), bytes(512, 1)).run().status(), ScsiStatus::good);
}

// A flush conflicts with nothing, so no claim waits for it; but the fenced nexus has no command left when it
// is told that its commands have ended.
TEST(ShardsReservations, PreemptAndAbortWaitsForTheFlushOfAnotherShard) {
  Reserved rig;
  rig.channel(1).hold = true;
  Io flush = rig.io(1, {0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  flush.run();
  ASSERT_FALSE(flush.ended);
  Io fence = reserve_out(rig, 0, preempt_and_abort, 1, 2);
  fence.run();
  rig.deliver_all();
  EXPECT_FALSE(fence.ended) << "the flush is still in progress";
  Io after = rig.io(1, {0, 0, 0, 0, 0, 0});
  EXPECT_TRUE(after.run().ended) << "what comes later does not wait";
  rig.channel(1).release_all();
  EXPECT_TRUE(flush.ended && flush.task.aborted);
  rig.deliver_all();
  ASSERT_TRUE(fence.ended);
  EXPECT_EQ(fence.status(), ScsiStatus::good);
}

TEST(ShardsReservations, AFlushIsNotWaitedForByAPlainPreempt) {
  Reserved rig;
  rig.channel(1).hold = true;
  Io flush = rig.io(1, {0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  flush.run();
  do_reserve_out(rig, 0, preempt, 1, 2);
  EXPECT_FALSE(flush.task.aborted);
}

// SPC-4 6.16.3: a TransportID that names a device stands for all its ports.
TEST(ShardsReservations, TheInitiatorPortsOfADeviceAreFoundOnEveryShard) {
  ShardRig rig(3);
  rig.take_attentions();
  Data list(60);
  store_be64(&list[8], 7);
  list[20] = 0x08;  // SPEC_I_PT
  list[27] = 32;
  list[28] = 0x05;
  list[31] = 28;
  const std::string_view device = "iqn.2026-11.example:shard1";
  std::copy(device.begin(), device.end(), list.begin() + 32);
  const auto enroll = [&] {
    Io io = rig.io(0, {0x5f, 0, 0, 0, 0, 0, 0, 0, 60, 0}, list);
    io.run();
    rig.settle();
    return io.status();
  };
  rig.end_nexus(1);
  rig.settle();
  EXPECT_EQ(enroll(), ScsiStatus::check_condition) << "nobody of that name is there";
  rig.begin_nexus(1, "shard1");
  rig.settle();
  EXPECT_EQ(enroll(), ScsiStatus::good);
  const Data keys = rig.io(2, {0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0}, {}, 64).run().data_in();
  EXPECT_EQ(keys.size(), 8u + 2 * 8);
}

// The loss of a nexus is told to the unit's owner; meanwhile the initiator has logged in on another shard.
TEST(ShardsReservations, TheLossOfANexusDoesNotEndWhatItsSuccessorHasReserved) {
  ShardRig rig(3);
  rig.take_attentions();
  const Data reserve{0x16, 0, 0, 0, 0, 0};
  Io first = rig.io(1, reserve);
  first.run();
  rig.settle();
  ASSERT_TRUE(first.ended);
  rig.end_nexus(1);
  ASSERT_NE(rig.waiting(1, 0), 0u);  // to the owner
  rig.begin_nexus(2, "shard1");
  while (rig.attention(2) >> 16 == 6) {
  }
  Io second = rig.io(2, reserve);
  second.run();
  while (rig.waiting(2, 0) != 0) rig.deliver(2, 0);
  rig.settle();
  ASSERT_TRUE(second.ended);
  EXPECT_EQ(second.status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(0, write(5), bytes(512, 1)).run().status(), ScsiStatus::reservation_conflict);
  rig.end_nexus(2);
  rig.settle();
  EXPECT_EQ(rig.io(0, write(5), bytes(512, 1)).run().status(), ScsiStatus::good);
}

}  // namespace
}  // namespace perilune::scsi::test
