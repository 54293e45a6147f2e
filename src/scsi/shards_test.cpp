// SPDX-License-Identifier: Apache-2.0
// The same units served by several shards: what commands conflict with, what changes a unit, task management,
// aborts at every point of a claim's way.
#include <gtest/gtest.h>

#include "scsi/copy_test_support.hpp"
#include "scsi/shard_test_support.hpp"

namespace perilune::scsi::test {
namespace {

const Data flush_cache{0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0};
Data read(std::uint8_t lba, std::uint8_t blocks) { return {0x28, 0, 0, 0, 0, lba, 0, 0, blocks, 0}; }
Data write(std::uint8_t lba, std::uint8_t blocks) { return {0x2a, 0, 0, 0, 0, lba, 0, 0, blocks, 0}; }
Data caw(std::uint8_t lba, std::uint8_t blocks) {
  return {0x89, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, blocks, 0, 0};
}
Data write_same(std::uint8_t lba, std::uint8_t blocks) { return {0x41, 0, 0, 0, 0, lba, 0, 0, blocks, 0}; }
Data mode_sense() { return {0x1a, 0x08, 0x0a, 0, 255, 0}; }
bool swp(ShardRig& rig, std::uint32_t shard) {
  return (rig.io(shard, mode_sense(), {}, 255).run().data_in().at(8) & 0x08) != 0;
}

// The control page as it is, with SWP replaced, so that the bits that do not change are right.
Data select_list(ShardRig& rig, bool protect) {
  Data page = rig.io(0, mode_sense(), {}, 255).run().data_in();
  page[0] = page[2] = 0;  // mode data length, device-specific parameter
  page[4] &= 0x3f;        // PS
  page[8] = static_cast<std::uint8_t>((page[8] & ~0x08) | (protect ? 0x08 : 0));
  return page;
}
Io select(ShardRig& rig, std::uint32_t shard, bool protect) {
  Data list = select_list(rig, protect);
  return rig.io(shard, {0x15, 0x10, 0, 0, static_cast<std::uint8_t>(list.size()), 0}, list);
}

struct Management : TaskManagement {
  Management(ShardRig& rig, std::uint32_t shard, TmFunction what, std::uint16_t on = 0) {
    function = what;
    nexus = &rig.nexus(shard);
    lun = static_cast<std::uint64_t>(on) << 48;
    done = Delegate<void(TaskManagement&)>::to<&Management::on_done>(*this);
    ended = rig.device(shard).manage(*this);
  }
  void on_done(TaskManagement&) {
    EXPECT_FALSE(ended);
    ended = true;
  }
  bool ended = false;
};

// ---- claims

TEST(Shards, PlainReadsAndWritesAskNobody) {
  ShardRig rig;
  rig.take_attentions();
  EXPECT_TRUE(rig.io(0, write(0, 2), bytes(1024, 1)).run().ended);
  EXPECT_TRUE(rig.io(1, read(0, 2), {}, 1024).run().ended);
  EXPECT_EQ(rig.waiting(), 0u);
}

TEST(Shards, CompareAndWriteWaitsForAWriteThatRunsOnAnotherShard) {
  ShardRig rig;
  rig.take_attentions();
  rig.channel(1).hold = true;
  Io plain = rig.io(1, write(5, 1), bytes(512, 1));
  plain.run();
  Io compare = rig.io(0, caw(5, 1), join({bytes(512, 1), bytes(512, 2)}));
  compare.run();
  rig.deliver_all();
  EXPECT_FALSE(compare.ended);
  rig.channel(1).release_all();
  rig.deliver_all();
  ASSERT_TRUE(plain.ended && compare.ended);
  EXPECT_EQ(compare.status(), ScsiStatus::good);
  EXPECT_EQ(rig.disks[0][5 * 512], 2);
}

TEST(Shards, WhatConflictsWithAClaimStartsWhenItHasFallen) {
  ShardRig rig(3);
  rig.take_attentions();
  rig.channel(2).hold = true;
  Io compare = rig.io(2, caw(5, 1), join({bytes(512, 0), bytes(512, 2)}));
  compare.run();
  rig.deliver_all();
  ASSERT_EQ(rig.channel(2).held(), 1u);  // it reads
  Io elsewhere = rig.io(0, write(6, 1), bytes(512, 3));
  EXPECT_TRUE(elsewhere.run().ended);
  Io plain = rig.io(0, write(5, 1), bytes(512, 3));
  Io reader = rig.io(1, read(5, 1), {}, 512);
  EXPECT_FALSE(plain.run().ended);
  EXPECT_FALSE(reader.run().ended);
  rig.settle();
  ASSERT_TRUE(compare.ended && plain.ended && reader.ended);
  EXPECT_EQ(compare.status(), ScsiStatus::good);
  EXPECT_EQ(rig.disks[0][5 * 512], 3);
}

TEST(Shards, ReadsGoOnBesideARangeThatIsWritten) {
  ShardRig rig;
  rig.take_attentions();
  rig.channel(0).hold = true;
  Io same = rig.io(0, write_same(0, 8), bytes(512, 7));
  same.run();
  rig.deliver_all();
  ASSERT_EQ(rig.channel(0).held(), 1u);
  Io reader = rig.io(1, read(0, 8), {}, 8 * 512);
  EXPECT_TRUE(reader.run().ended);
  Io writer = rig.io(1, write(7, 1), bytes(512, 1));
  EXPECT_FALSE(writer.run().ended);
  rig.settle();
  EXPECT_TRUE(same.ended && writer.ended);
}

TEST(Shards, LentMemoryHoldsAClaimBackUntilTheDataIsThere) {
  auto geometry = FakeChannel::disk();
  geometry.lends_memory = true;
  geometry.write_cache = false;
  ShardRig rig(2, 1, geometry);
  rig.take_attentions();
  Io plain = rig.io(1, write(5, 1), bytes(512, 1));
  plain.admit();
  ASSERT_FALSE(rig.device(1).lend(plain.task).empty());
  Io compare = rig.io(0, caw(5, 1), join({bytes(512, 0), bytes(512, 2)}));
  compare.run();
  rig.deliver_all();
  EXPECT_FALSE(compare.ended);
  Io next = rig.io(1, write(5, 1), bytes(512, 3));
  next.admit();
  EXPECT_TRUE(rig.device(1).lend(next.task).empty());  // the claim stands
  plain.execute();
  next.execute();
  EXPECT_FALSE(next.ended);
  rig.deliver_all();
  EXPECT_TRUE(compare.ended && next.ended);
}

TEST(Shards, ClaimsAreServedInTheOrderOfTheOwner) {
  ShardRig rig(3);
  rig.take_attentions();
  Io first = rig.io(1, caw(5, 1), join({bytes(512, 0), bytes(512, 1)}));
  Io second = rig.io(2, caw(5, 1), join({bytes(512, 1), bytes(512, 2)}));
  Io third = rig.io(0, caw(5, 1), join({bytes(512, 2), bytes(512, 3)}));
  first.run();
  rig.deliver(1, 0);
  second.run();
  rig.deliver(2, 0);
  third.run();
  rig.deliver_all();
  for (const Io* io : {&first, &second, &third}) {
    ASSERT_TRUE(io->ended);
    EXPECT_EQ(io->status(), ScsiStatus::good);
  }
}

TEST(Shards, HeadOfQueuePassesTheClaimsThatWait) {
  ShardRig rig;
  rig.take_attentions();
  rig.channel(0).hold = true;
  Io first = rig.io(0, caw(5, 1), join({bytes(512, 0), bytes(512, 1)}));
  Io second = rig.io(0, caw(5, 1), join({bytes(512, 2), bytes(512, 3)}));
  Io urgent = rig.io(1, caw(5, 1), join({bytes(512, 1), bytes(512, 2)}));
  first.run();
  second.run();
  rig.deliver_all();
  urgent.task.attribute = TaskAttribute::head_of_queue;
  urgent.run();
  rig.settle();
  for (const Io* io : {&first, &second, &urgent}) EXPECT_EQ(io->status(), ScsiStatus::good);
}

// It stands before the claims that wait, and some of those have others behind them that stand already.
TEST(Shards, HeadOfQueueWaitsForAClaimThatStands) {
  ShardRig rig;
  rig.take_attentions();
  rig.hold(true);
  Io holds = rig.io(0, write_same(0, 4), bytes(512, 1));
  Io waits = rig.io(0, write_same(0, 8), bytes(512, 2));
  Io stands = rig.io(0, write_same(10, 2), bytes(512, 3));
  Io urgent = rig.io(1, write_same(10, 2), bytes(512, 4));
  urgent.task.attribute = TaskAttribute::head_of_queue;
  for (Io* io : {&holds, &waits, &stands}) io->run();
  rig.deliver_all();
  EXPECT_EQ(rig.channel(0).held(), 2u);
  urgent.run();
  rig.deliver_all();
  EXPECT_EQ(rig.channel(1).held(), 0u);
  rig.settle();
  EXPECT_TRUE(holds.ended && waits.ended && stands.ended && urgent.ended);
  EXPECT_EQ(rig.disks[0][10 * 512], 4);
}

TEST(Shards, OrderedCommandsAreAloneOnEveryShard) {
  ShardRig rig;
  rig.take_attentions();
  rig.hold(true);
  Io before = rig.io(1, write(0, 1), bytes(512, 1));
  before.run();
  Io ordered = rig.io(0, read(8, 1), {}, 512);
  ordered.task.attribute = TaskAttribute::ordered;
  ordered.run();
  rig.deliver_all();
  EXPECT_EQ(rig.channel(0).held(), 0u);
  Io after = rig.io(1, write(1, 1), bytes(512, 1));
  after.run();
  EXPECT_EQ(rig.channel(1).held(), 1u);
  rig.channel(1).release_all();
  rig.deliver_all();
  EXPECT_EQ(rig.channel(0).held(), 1u);
  EXPECT_EQ(rig.channel(1).held(), 0u);
  rig.settle();
  EXPECT_TRUE(before.ended && ordered.ended && after.ended);
}

// Whatever the order in which their data comes, each of two commands that conflict waits for at most the
// other.
TEST(Shards, CommandsOfOneShardThatAreExecutedOutOfOrderDoNotWaitForEachOther) {
  ShardRig rig;
  rig.take_attentions();
  Io older = rig.io(1, caw(5, 1), join({bytes(512, 1), bytes(512, 2)}));
  Io younger = rig.io(1, caw(5, 1), join({bytes(512, 0), bytes(512, 1)}));
  older.admit();
  younger.admit();
  younger.execute();
  older.execute();
  rig.deliver_all();
  EXPECT_TRUE(older.ended && younger.ended);
  EXPECT_EQ(older.status(), ScsiStatus::good);
}

// ---- aborts at every point

// Lets a COMPARE AND WRITE of shard 1 come `messages` messages far, does something to it, and checks
// afterwards that nothing was left behind: it has ended once, and the range can be claimed from everywhere.
template <class Do>
bool at_point(std::size_t messages, bool held, Do act) {
  ShardRig rig(3);
  rig.take_attentions();
  rig.hold(held);
  bool came_that_far = false;
  {
    Io compare = rig.io(1, caw(5, 1), join({bytes(512, 0), bytes(512, 0)}));
    compare.run();
    came_that_far = rig.deliver_up_to(messages);
    act(rig, compare);
    rig.settle();
    EXPECT_TRUE(compare.ended);
    EXPECT_EQ(compare.done_calls, 1);
    EXPECT_EQ(compare.task.phase, Task::Phase::outside);
  }
  rig.hold(false);
  rig.take_attentions();
  for (std::uint32_t shard = 0; shard < rig.count(); ++shard) {
    EXPECT_EQ(rig.device(shard).tasks(), 0u);
    EXPECT_TRUE(rig.io(shard, write(5, 1), bytes(512, 0)).run().ended)
        << "a claim still stands on shard " << shard;
    Io again = rig.io(shard, caw(5, 1), join({bytes(512, 0), bytes(512, 0)}));
    again.run();
    rig.settle();
    EXPECT_TRUE(again.ended) << "a claim was left in the owner's order";
    EXPECT_EQ(again.status(), ScsiStatus::good);
  }
  EXPECT_TRUE(rig.device(0).remove_unit(0).has_value());
  return came_that_far;
}

TEST(Shards, AnAbortGivesTheClaimBackAtEveryPointOfItsWay) {
  for (const bool held : {false, true}) {
    std::size_t messages = 0;
    while (at_point(messages, held, [](ShardRig& rig, Io& compare) { rig.device(1).abort(compare.task); }))
      ++messages;
    EXPECT_GE(messages, 7u);
  }
}

TEST(Shards, TheEndOfTheNexusGivesTheClaimBackAtEveryPointOfItsWay) {
  for (const bool held : {false, true}) {
    std::size_t messages = 0;
    while (at_point(messages, held, [](ShardRig& rig, Io&) {
      Management end(rig, 1, TmFunction::i_t_nexus_reset);
      rig.settle();
      EXPECT_TRUE(end.ended);
      rig.end_nexus(1);
      rig.begin_nexus(1, "shard1");
    })) {
      ++messages;
    }
  }
}

TEST(Shards, AResetGivesTheClaimBackAtEveryPointOfItsWay) {
  for (const TmFunction function :
       {TmFunction::lun_reset, TmFunction::clear_task_set, TmFunction::target_warm_reset}) {
    for (std::uint32_t from = 0; from < 3; ++from) {
      for (const bool held : {false, true}) {
        std::size_t messages = 0;
        while (at_point(messages, held, [&](ShardRig& rig, Io&) {
          Management reset(rig, from, function);
          EXPECT_FALSE(reset.ended);
          rig.settle();
          EXPECT_TRUE(reset.ended);
        })) {
          ++messages;
        }
      }
    }
  }
}

// ---- what changes the unit

TEST(Shards, ModeSelectAnswersWhenEveryShardHasAdoptedIt) {
  ShardRig rig(3);
  rig.take_attentions();
  Io change = select(rig, 1, true);
  change.run();
  while (!change.ended) {
    ASSERT_NE(rig.waiting(), 0u);
    rig.deliver_some(0);
  }
  EXPECT_EQ(change.status(), ScsiStatus::good);
  for (std::uint32_t shard = 0; shard < 3; ++shard) EXPECT_TRUE(rig.unit(shard).write_protected());
  rig.deliver_all();
  EXPECT_EQ(rig.attention(0), 0x062a01u);
  EXPECT_EQ(rig.attention(1), 0u);
  EXPECT_EQ(rig.attention(2), 0x062a01u);
  EXPECT_TRUE(swp(rig, 2));
}

TEST(Shards, AWriteThatWasAdmittedBeforeTheUnitWasProtectedDoesNotLandAfterIt) {
  for (std::uint32_t shard = 0; shard < 2; ++shard) {
    ShardRig rig;
    rig.take_attentions();
    Io plain = rig.io(shard, write(5, 1), bytes(512, 9));
    ASSERT_FALSE(plain.admit().ended);
    Io change = select(rig, 0, true);
    change.run();
    rig.deliver_all();
    ASSERT_TRUE(change.ended);
    plain.execute();
    ASSERT_TRUE(plain.ended);
    EXPECT_EQ(plain.sense(), 0x072702u);
    EXPECT_EQ(rig.disks[0][5 * 512], 0);
  }
}

TEST(Shards, AWriteThatWaitedForTheChangeIsCheckedAgain) {
  ShardRig rig;
  rig.take_attentions();
  Io change = select(rig, 0, true);
  change.run();
  rig.deliver(0, 0);  // the request
  rig.deliver(0, 1);  // it stands on shard 1
  Io plain = rig.io(1, write(5, 1), bytes(512, 9));
  EXPECT_FALSE(plain.run().ended);
  rig.deliver_all();
  ASSERT_TRUE(plain.ended && change.ended);
  EXPECT_EQ(plain.sense(), 0x072702u);
}

TEST(Shards, AModeSelectThatFailsChangesNothingAnywhere) {
  ShardRig rig;
  rig.take_attentions();
  Io change = rig.io(0, {0x15, 0x10, 0, 0, 3, 0}, bytes(3, 0));
  change.run();
  rig.deliver_all();
  ASSERT_TRUE(change.ended);
  EXPECT_EQ(change.sense(), 0x051a00u);
  EXPECT_EQ(rig.attention(1), 0u);
}

TEST(Shards, TwoModeSelectsTakeEffectInOneOrderOnEveryShard) {
  for (std::size_t choice = 0; choice < 64; ++choice) {
    ShardRig rig(3);
    rig.take_attentions();
    Io on = select(rig, 1, true);
    Io off = select(rig, 2, false);
    on.run();
    off.run();
    for (std::size_t i = 0; rig.waiting() != 0; ++i) rig.deliver_some(choice >> (i % 6));
    ASSERT_TRUE(on.ended && off.ended);
    EXPECT_EQ(rig.unit(0).write_protected(), rig.unit(1).write_protected());
    EXPECT_EQ(rig.unit(0).write_protected(), rig.unit(2).write_protected());
  }
}

TEST(Shards, StartStopUnitHoldsOnEveryShard) {
  ShardRig rig;
  rig.take_attentions();
  Io stop = rig.io(1, {0x1b, 0, 0, 0, 0, 0});
  stop.run();
  rig.settle();
  ASSERT_TRUE(stop.ended);
  EXPECT_EQ(rig.attention(0), 0x020402u);
}

TEST(Shards, SetTargetPortGroupsHoldsOnEveryShard) {
  ShardRig rig;
  rig.take_attentions();
  Io set = rig.io(1, {0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0}, {0, 0, 0, 0, 0x02, 0, 0, 1});
  set.run();
  rig.settle();
  ASSERT_TRUE(set.ended);
  EXPECT_EQ(set.status(), ScsiStatus::good);
  EXPECT_EQ(rig.attention(0), 0x062a06u);
  EXPECT_EQ(rig.attention(0), 0x02040bu);
  EXPECT_EQ(rig.attention(1), 0x02040bu);
}

TEST(Shards, TheOperatorsChangeHoldsOnEveryShard) {
  ShardRig rig;
  rig.take_attentions();
  ASSERT_TRUE(rig.unit(1).set_access_state(1, AccessState::unavailable));
  EXPECT_EQ(rig.unit(1).set_access_state(9, AccessState::standby).error().code, Errc::not_found);
  EXPECT_EQ(rig.device(1).remove_unit(0).error().code, Errc::busy);
  rig.settle();
  for (std::uint32_t shard = 0; shard < 2; ++shard) {
    EXPECT_EQ(rig.attention(shard), 0x062a06u);
    EXPECT_EQ(rig.attention(shard), 0x02040cu);
  }
}

TEST(Shards, TheOperatorLearnsWhenNobodyIsServedInTheOldStateAnyMore) {
  ShardRig rig(3);
  rig.take_attentions();
  rig.channel(1).hold = true;
  Io before = rig.io(1, write(5, 1), bytes(512, 1));
  before.run();
  int told = 0;
  ASSERT_TRUE(rig.unit(2).set_access_state(1, AccessState::standby, [&] { ++told; }));
  rig.deliver_all();
  EXPECT_EQ(told, 0);
  Io waits = rig.io(0, write(6, 1), bytes(512, 1));
  EXPECT_FALSE(waits.run().ended);
  rig.channel(1).release_all();
  rig.deliver_all();
  EXPECT_EQ(told, 1);
  EXPECT_EQ(before.status(), ScsiStatus::good);
  ASSERT_TRUE(waits.ended);
  EXPECT_EQ(waits.sense(), 0x02040bu);
}

TEST(Shards, AFailedFlushIsKnownEverywhereBeforeItsCommandEnds) {
  ShardRig rig(3);
  rig.take_attentions();
  rig.channel(1).fail_next = {block::OpStatus::write_error};
  Io failed = rig.io(1, flush_cache);
  EXPECT_FALSE(failed.run().ended);
  rig.deliver_all();
  ASSERT_TRUE(failed.ended);
  EXPECT_EQ(failed.sense(), 0x030c00u);
  for (std::uint32_t shard = 0; shard < 3; ++shard)
    EXPECT_EQ(rig.io(shard, flush_cache).run().sense(), 0x030c00u);
}

TEST(Shards, AFlushThatFailsAfterItsCommandWasAbortedIsNotForgotten) {
  ShardRig rig;
  rig.take_attentions();
  rig.hold(true);
  Io flushed = rig.io(0, flush_cache);
  flushed.run();
  rig.device(0).abort(flushed.task);
  rig.channel(0).fail_next = {block::OpStatus::write_error};
  rig.channel(0).release_all();
  rig.settle();
  ASSERT_TRUE(flushed.ended);
  for (std::uint32_t shard = 0; shard < 2; ++shard)
    EXPECT_EQ(rig.io(shard, flush_cache).run().sense(), 0x030c00u);
}

// ---- task management

TEST(Shards, LunResetEndsTheTasksOfEveryShardBeforeItIsAnswered) {
  ShardRig rig(3);
  rig.take_attentions();
  Io change = select(rig, 0, true);
  change.run();
  rig.settle();
  rig.take_attentions();
  rig.hold(true);
  Io running = rig.io(2, read(0, 1), {}, 512);
  running.run();
  Management reset(rig, 1, TmFunction::lun_reset);
  rig.deliver_all();
  EXPECT_FALSE(reset.ended);
  EXPECT_FALSE(running.ended);
  rig.channel(2).release_all();
  EXPECT_TRUE(running.ended && running.task.aborted);
  rig.deliver_all();
  ASSERT_TRUE(reset.ended);
  EXPECT_EQ(reset.response, TmResponse::function_complete);
  for (std::uint32_t shard = 0; shard < 3; ++shard) {
    EXPECT_FALSE(rig.unit(shard).write_protected());
    EXPECT_EQ(rig.attention(shard), 0x062903u);
    EXPECT_EQ(rig.attention(shard), 0u);
  }
}

TEST(Shards, AResetDoesNotTouchWhatItsNexusSentAfterIt) {
  ShardRig rig;
  rig.take_attentions();
  Management reset(rig, 1, TmFunction::lun_reset);
  Io later = rig.io(1, write(5, 1), bytes(512, 1));
  later.admit();
  rig.deliver_all();
  EXPECT_TRUE(reset.ended);
  later.execute();
  ASSERT_TRUE(later.ended);
  EXPECT_FALSE(later.task.aborted);
  EXPECT_EQ(later.status(), ScsiStatus::good);
}

TEST(Shards, ClearTaskSetTellsTheNexusesWhoseCommandsItTook) {
  ShardRig rig(3);
  rig.take_attentions();
  rig.hold(true);
  Io other = rig.io(2, read(0, 1), {}, 512);
  Io own = rig.io(1, read(0, 1), {}, 512);
  other.run();
  own.run();
  Management clear(rig, 1, TmFunction::clear_task_set);
  rig.settle();
  EXPECT_TRUE(clear.ended && other.ended && own.ended);
  EXPECT_EQ(rig.attention(0), 0u);
  EXPECT_EQ(rig.attention(1), 0u);
  EXPECT_EQ(rig.attention(2), 0x062f00u);
}

// SAM-5 5.3.1
TEST(Shards, WithTasTheCommandsOfOtherShardsAreToldByAStatus) {
  ShardRig rig;
  rig.take_attentions();
  Data page = select_list(rig, false);
  page[9] |= 0x40;  // TAS
  Io sets = rig.io(1, {0x15, 0x10, 0, 0, static_cast<std::uint8_t>(page.size()), 0}, page);
  sets.run();
  rig.settle();
  ASSERT_TRUE(sets.ended);
  ASSERT_EQ(sets.status(), ScsiStatus::good);
  rig.take_attentions();
  for (const TmFunction function : {TmFunction::clear_task_set, TmFunction::lun_reset}) {
    rig.channel(1).hold = true;
    Io running = rig.io(1, write(0, 1), bytes(512, 1));
    Io fetching = rig.io(1, write(1, 1), bytes(512, 1));
    Io mine = rig.io(0, write(5, 1), bytes(512, 1));
    running.run();
    fetching.admit();
    mine.admit();
    Management ends(rig, 0, function);
    rig.deliver_all();
    EXPECT_FALSE(ends.ended);
    rig.settle();
    EXPECT_TRUE(ends.ended);
    for (const Io* io : {&running, &fetching}) {
      EXPECT_TRUE(io->task.aborted && io->task.report_aborted && io->task.ended_with_set);
    }
    EXPECT_TRUE(mine.task.aborted);
    EXPECT_FALSE(mine.task.report_aborted);
    EXPECT_EQ(rig.attention(1), function == TmFunction::lun_reset ? 0x062903u : 0u)
        << "no 2F/00 beside the status";
    rig.channel(1).hold = false;
  }
}

// What concerns one nexus is its shard's; what others have done to it is there to be asked for.
TEST(Shards, QueriesSeeWhatOtherShardsHaveRaised) {
  ShardRig rig(3);
  rig.take_attentions();
  Io waits = rig.io(1, write(1, 1), bytes(512, 1));
  waits.admit();
  Management query(rig, 1, TmFunction::query_task_set);
  EXPECT_TRUE(query.ended);
  EXPECT_EQ(query.response, TmResponse::function_succeeded);
  EXPECT_EQ(Management(rig, 2, TmFunction::query_task_set).response, TmResponse::function_complete);
  Management reset(rig, 0, TmFunction::lun_reset);
  rig.settle();
  ASSERT_TRUE(reset.ended);
  for (std::uint32_t shard = 0; shard < 3; ++shard) {
    Management event(rig, shard, TmFunction::query_asynchronous_event);
    EXPECT_EQ(event.response, TmResponse::function_succeeded);
    EXPECT_EQ(event.additional_information, 0x162903u);
    EXPECT_EQ(rig.attention(shard), 0x062903u) << "it is still there";
  }
}

TEST(Shards, ANexusResetEndsItsReserveOnEveryShardAndNoTaskOfOthers) {
  ShardRig rig;
  rig.take_attentions();
  Io reserves = rig.io(0, {0x16, 0, 0, 0, 0, 0});
  reserves.run();
  rig.settle();
  ASSERT_TRUE(reserves.ended);
  EXPECT_EQ(rig.io(1, write(5, 1), bytes(512, 1)).run().status(), ScsiStatus::reservation_conflict);
  Io mine = rig.io(0, write(1, 1), bytes(512, 1));
  mine.admit();
  Management reset(rig, 0, TmFunction::i_t_nexus_reset);
  rig.settle();
  EXPECT_TRUE(reset.ended && mine.task.aborted);
  EXPECT_EQ(rig.attention(0), 0x062907u);
  EXPECT_EQ(rig.attention(1), 0u);
  EXPECT_EQ(rig.io(1, write(5, 1), bytes(512, 1)).run().status(), ScsiStatus::good);
}

TEST(Shards, ATargetResetReachesEveryUnitOfEveryShard) {
  ShardRig rig(2, 3);
  rig.take_attentions();
  rig.hold(true);
  Io running = rig.io(0, read(0, 1), {}, 512, 2);
  running.run();
  Management reset(rig, 1, TmFunction::target_warm_reset);
  rig.deliver_all();
  EXPECT_FALSE(reset.ended);
  rig.settle();
  EXPECT_TRUE(reset.ended && running.task.aborted);
  for (std::uint32_t shard = 0; shard < 2; ++shard) {
    for (std::uint16_t lun = 0; lun < 3; ++lun) EXPECT_EQ(rig.attention(shard, lun), 0x062902u);
  }
}

// The reset comes while MODE SELECT has its claim, or publishes: mode pages are at their defaults when it is
// answered, and no shard differs from another.
TEST(Shards, AfterAResetTheModePagesHaveTheirDefaultsWhateverWasUnderWay) {
  for (std::size_t choice = 0; choice < 16; ++choice) {
    for (std::size_t messages = 0;; ++messages) {
      ShardRig rig(3);
      rig.take_attentions();
      Io change = select(rig, 1, true);
      change.run();
      const bool came_that_far = rig.deliver_up_to(messages);
      const bool answered = change.ended;
      Management reset(rig, 2, TmFunction::lun_reset);
      for (std::size_t i = 0; rig.waiting() != 0; ++i) rig.deliver_some(choice >> (i % 4));
      ASSERT_TRUE(reset.ended && change.ended);
      EXPECT_TRUE(answered || change.task.aborted || change.status() == ScsiStatus::good);
      for (std::uint32_t shard = 0; shard < 3; ++shard) {
        EXPECT_FALSE(rig.unit(shard).write_protected() && change.task.aborted) << messages << " " << choice;
        EXPECT_EQ(rig.unit(shard).write_protected(), rig.unit(0).write_protected())
            << messages << " " << choice;
      }
      if (!came_that_far) break;
    }
  }
}

// ---- copies

TEST(Shards, CopiesInOppositeDirectionsDoNotWaitForEachOther) {
  for (std::size_t choice = 0; choice < 32; ++choice) {
    ShardRig rig(2, 2);
    rig.take_attentions();
    rig.disks[0][0] = 0x11;
    rig.disks[1][100 * 512] = 0x22;
    const auto list = [&](const Data& part) { return lid1({cscd(naa_zero), cscd(naa_one)}, {part}); };
    const Data there = list(segment(0, 0, 1, 100, 8));
    const Data back = list(segment(1, 100, 0, 0, 8));
    Io one = rig.io(0, CopyRig::extended_copy(there.size()), there, 0, 1);
    Io two = rig.io(1, CopyRig::extended_copy(back.size()), back, 0, 0);
    one.run();
    two.run();
    for (std::size_t i = 0; rig.waiting() != 0; ++i) rig.deliver_some(choice >> (i % 5));
    ASSERT_TRUE(one.ended && two.ended);
    EXPECT_EQ(one.status(), ScsiStatus::good);
    EXPECT_EQ(two.status(), ScsiStatus::good);
    EXPECT_EQ(rig.disks[0][0], rig.disks[1][100 * 512]);
  }
}

TEST(Shards, AWriteOfAnotherShardWaitsForTheSegmentThatIsCopied) {
  ShardRig rig(2, 2);
  rig.take_attentions();
  rig.channel(0, 0).hold = true;
  const Data list = lid1({cscd(naa_zero), cscd(naa_one)}, {segment(0, 0, 1, 100, 8)});
  Io copy = rig.io(0, CopyRig::extended_copy(list.size()), list);
  copy.run();
  rig.deliver_all();
  ASSERT_EQ(rig.channel(0, 0).held(), 1u);
  Io source = rig.io(1, write(3, 1), bytes(512, 1), 0, 0);
  Io destination = rig.io(1, write(100, 1), bytes(512, 1), 0, 1);
  Io reader = rig.io(1, read(100, 1), {}, 512, 1);
  EXPECT_FALSE(source.run().ended);
  EXPECT_FALSE(destination.run().ended);
  EXPECT_TRUE(reader.run().ended);
  rig.settle();
  EXPECT_TRUE(copy.ended && source.ended && destination.ended);
}

TEST(Shards, AResetOfAUnitThatACopyOfAnotherShardWorksOnEndsTheCopy) {
  for (const std::uint16_t lun : {std::uint16_t{0}, std::uint16_t{1}}) {
    for (std::size_t messages = 0;; ++messages) {
      ShardRig rig(2, 3);
      rig.take_attentions();
      const Data list = lid1({cscd(naa_zero), cscd(naa_one)}, {segment(0, 0, 1, 100, 8)});
      Io copy = rig.io(0, CopyRig::extended_copy(list.size()), list, 0, 2);
      rig.hold(true);
      copy.run();
      const bool came_that_far = rig.deliver_up_to(messages);
      Management reset(rig, 1, TmFunction::lun_reset, lun);
      rig.settle();
      rig.hold(false);
      ASSERT_TRUE(copy.ended && reset.ended);
      EXPECT_FALSE(copy.task.aborted);
      rig.take_attentions();
      for (std::uint32_t shard = 0; shard < 2; ++shard) {
        Io writer = rig.io(shard, write(0, 8), bytes(8 * 512, 1), 0, 0);
        EXPECT_TRUE(writer.run().ended);
        Io again = rig.io(shard, caw(100, 1), join({bytes(512, 0), bytes(512, 0)}), 0, 1);
        again.run();
        rig.settle();
        EXPECT_TRUE(again.ended);
      }
      if (!came_that_far) break;
    }
  }
}

// ---- what every shard has to know

TEST(Shards, TheMemoryOfLostNexusesIsOne) {
  ShardRig rig;
  rig.take_attentions();
  rig.end_nexus(0);
  rig.deliver_all();
  rig.end_nexus(1);
  rig.begin_nexus(1, "shard0");
  EXPECT_EQ(rig.attention(1), 0x062907u);
}

TEST(Shards, LogPagesCountWhatAllShardsDo) {
  ShardRig rig(3);
  rig.take_attentions();
  for (std::uint32_t shard = 0; shard < 3; ++shard) rig.io(shard, read(0, 2), {}, 1024).run();
  const auto reads = [&](std::uint32_t shard) {
    const Data page = rig.io(shard, {0x4d, 0, 0x40 | 0x19, 0, 0, 0, 0, 1, 0, 0}, {}, 256).run().data_in();
    return load_be64(&page.at(8));
  };
  EXPECT_EQ(reads(0), 3u);
  EXPECT_EQ(reads(2), 3u);
  Io zero = rig.io(1, {0x4c, 0x02, 0, 0, 0, 0, 0, 0, 0, 0});
  zero.run();
  rig.settle();
  ASSERT_TRUE(zero.ended);
  EXPECT_EQ(rig.attention(0), 0x062a02u);
  EXPECT_EQ(rig.attention(2), 0x062a02u);
  for (std::uint32_t shard = 0; shard < 3; ++shard) EXPECT_EQ(reads(shard), 0u);
  rig.io(2, read(0, 2), {}, 1024).run();
  EXPECT_EQ(reads(1), 1u);
}

TEST(Shards, TimestampsCountFromTheFirstClockOfAll) {
  ShardRig rig;
  rig.take_attentions();
  rig.clock_ms(1) = 500'000;
  rig.set_clock(1);
  rig.deliver_all();
  rig.clock_ms(0) = 2'000'000;
  const Data stamp = rig.io(0, {0xa3, 0x0f, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0}, {}, 12).run().data_in();
  EXPECT_EQ(load_be32(&stamp.at(6)), 1'500'000u);
}

}  // namespace
}  // namespace perilune::scsi::test
