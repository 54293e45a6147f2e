// SPDX-License-Identifier: Apache-2.0
// Reservations of a unit that several shards serve: one value, one fence.
#include <gtest/gtest.h>

#include "scsi/shard_test_support.hpp"

namespace perilune::scsi::test {
namespace {

using Bytes8 = std::vector<std::uint8_t>;
enum Action : std::uint8_t { register_key, reserve, release, clear, preempt, preempt_and_abort };
constexpr std::uint8_t write_exclusive_registrants_only = 5;
const Bytes8 write_block = {0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0};
const Bytes8 read_block = {0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0};

struct Rig2 : ShardRig {
  Rig2() { take_attentions(); }
  Io out(std::uint32_t shard, Action action, std::uint64_t key, std::uint64_t action_key,
         std::uint8_t type = 0) {
    Bytes8 list(24);
    store_be64(&list[0], key);
    store_be64(&list[8], action_key);
    return io(shard, {0x5f, action, type, 0, 0, 0, 0, 0, 24, 0}, list);
  }
  void done(std::uint32_t shard, Action action, std::uint64_t key, std::uint64_t action_key,
            std::uint8_t type = 0) {
    Io sent = out(shard, action, key, action_key, type);
    sent.run();
    settle();
    ASSERT_TRUE(sent.ended);
    EXPECT_EQ(sent.status(), ScsiStatus::good);
  }
  // Shard 0 holds Write Exclusive - Registrants Only with key 5; shard 1 is registered with key 6.
  void both_registered() {
    done(0, register_key, 0, 5);
    done(1, register_key, 0, 6);
    done(0, reserve, 5, 0, write_exclusive_registrants_only);
  }
};

TEST(ReservationsOverShards, AreOneValue) {
  Rig2 rig;
  rig.both_registered();
  EXPECT_EQ(rig.unit(1).reservations(), rig.unit(0).reservations());
  EXPECT_EQ(rig.unit(1).reservations().registrations.size(), 2u);
  rig.done(1, preempt, 6, 5, 3);
  EXPECT_EQ(rig.unit(0).reservations(), rig.unit(1).reservations());
  EXPECT_EQ(rig.io(0, read_block, {}, 512).run().sense(), 0x062a05u) << "told on its own shard";
  EXPECT_EQ(rig.io(0, read_block, {}, 512).run().status(), ScsiStatus::reservation_conflict);
}

TEST(ReservationsOverShards, APreemptWaitsForTheWritesOfAnotherShardAndFencesTheRest) {
  Rig2 rig;
  rig.both_registered();
  rig.hold(true);
  Io started = rig.io(1, write_block, bytes(512, 1));
  started.run();
  Io waits_for_data = rig.io(1, write_block, bytes(512, 2));
  waits_for_data.admit();
  Io fence = rig.out(0, preempt, 5, 6);
  fence.run();
  rig.deliver_all();
  EXPECT_FALSE(fence.ended);
  rig.settle();
  EXPECT_EQ(started.status(), ScsiStatus::good);
  ASSERT_TRUE(fence.ended);
  EXPECT_EQ(fence.status(), ScsiStatus::good);
  waits_for_data.execute();
  EXPECT_EQ(waits_for_data.status(), ScsiStatus::reservation_conflict);
  rig.hold(false);
}

TEST(ReservationsOverShards, APreemptAndAbortEndsTheWritesOfAnotherShard) {
  Rig2 rig;
  rig.both_registered();
  Io write = rig.io(1, write_block, bytes(512, 1));
  write.admit();
  rig.done(0, preempt_and_abort, 5, 6);
  EXPECT_TRUE(write.task.aborted);
  EXPECT_EQ(rig.attention(1), 0x062f00u);
  EXPECT_EQ(rig.attention(1), 0x062a05u);
}

TEST(ReservationsOverShards, ReserveOfSpc2EndsEverywhereWithItsNexus) {
  Rig2 rig;
  Io sent = rig.io(0, {0x16, 0, 0, 0, 0, 0});
  sent.run();
  rig.settle();
  ASSERT_EQ(sent.status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(1, read_block, {}, 512).run().status(), ScsiStatus::reservation_conflict);
  rig.end_nexus(0);
  rig.settle();
  EXPECT_EQ(rig.io(1, read_block, {}, 512).run().status(), ScsiStatus::good);
  rig.begin_nexus(0, "shard0");
}

}  // namespace
}  // namespace perilune::scsi::test
