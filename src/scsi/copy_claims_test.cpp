// SPDX-License-Identifier: Apache-2.0
// Third-party copies beside other commands, and their early end: by ABORT TASK, resets of either unit, and
// nexus loss.
#include <gtest/gtest.h>

#include <random>

#include "scsi/copy_operation.hpp"
#include "scsi/copy_test_support.hpp"

namespace perilune::scsi::test {
namespace {

using block::OpKind;

Data read(std::uint8_t lba, std::uint8_t blocks) { return {0x28, 0, 0, 0, 0, lba, 0, 0, blocks, 0}; }
Data write(std::uint8_t lba, std::uint8_t blocks) { return {0x2a, 0, 0, 0, 0, lba, 0, 0, blocks, 0}; }
Data write_same(std::uint8_t lba, std::uint8_t blocks) { return {0x41, 0, 0, 0, 0, lba, 0, 0, blocks, 0}; }
Data caw(std::uint8_t lba) { return {0x89, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, 1, 0, 0}; }

struct Tmf {
  explicit Tmf(CopyRig& r, TmFunction function, Nexus& nexus, std::uint16_t lun = 0, std::uint64_t tag = 0)
      : rig(r) {
    request.function = function;
    request.nexus = &nexus;
    request.lun = static_cast<std::uint64_t>(lun) << 48;
    request.tag = tag;
    request.done = Delegate<void(TaskManagement&)>::to<&Tmf::on_done>(*this);
    over = rig.device.manage(request);
  }
  void on_done(TaskManagement&) { over = true; }
  CopyRig& rig;
  TaskManagement request;
  bool over = false;
};

// A copy of unit 0, blocks 0 to 7, to unit 1, blocks 100 to 107, whose write is under way.
struct Writing {
  Writing() : io(rig.copy(zero_to_one())) {
    rig.one.hold = true;
    io.run();
    PERILUNE_ASSERT(!io.ended && rig.one.held() == 1);
  }
  CopyRig rig;
  Io io;
};

TEST(CopyClaims, WritesToBothRangesWaitAndReadsDoNot) {
  Writing copy;
  CopyRig& rig = copy.rig;
  Io source_write = rig.io(write(7, 1), 0, bytes(512, 0x55));
  Io source_same = rig.io(write_same(0, 1), 0, bytes(512, 0x55));
  Io beside = rig.io(write(8, 1), 0, bytes(512, 0x55));
  Io source_read = rig.io(read(0, 8), 0, {}, 4096);
  EXPECT_FALSE(source_write.run().ended);
  EXPECT_FALSE(source_same.run().ended);
  EXPECT_TRUE(beside.run().ended);
  EXPECT_TRUE(source_read.run().ended);
  rig.one.hold = false;
  Io destination_write = rig.io(write(107, 1), 1, bytes(512, 0x66));
  Io destination_read = rig.io(read(100, 8), 1, {}, 4096);
  Io elsewhere = rig.io(write(108, 1), 1, bytes(512, 0x66));
  EXPECT_FALSE(destination_write.run().ended);
  EXPECT_TRUE(destination_read.run().ended);
  EXPECT_TRUE(elsewhere.run().ended);
  rig.one.release_all();
  for (const Io* io : {&copy.io, &source_write, &source_same, &destination_write}) {
    EXPECT_TRUE(io->ended);
    EXPECT_EQ(io->status(), ScsiStatus::good);
  }
  EXPECT_EQ(rig.one.memory[107 * 512], 0x66);  // written after the copy
}

TEST(CopyClaims, LentMemoryIsNotHandedOutUnderACopy) {
  Writing copy;
  copy.rig.one.geometry().lends_memory = true;
  copy.rig.one.hold = false;
  Io write_io = copy.rig.io(write(100, 1), 1, bytes(512, 1));
  write_io.admit();
  EXPECT_TRUE(copy.rig.device.lend(write_io.task).empty());
  EXPECT_FALSE(write_io.execute().ended);
  copy.rig.one.release_all();
  EXPECT_TRUE(write_io.ended);
}

TEST(CopyClaims, ACopyWaitsForCommandsOfTheOtherUnit) {
  CopyRig rig;
  rig.one.hold = true;
  Io compare = rig.io(caw(103), 1, bytes(1024, 0));
  compare.run();
  ASSERT_EQ(rig.one.held(), 1u);
  Io copy = rig.copy(zero_to_one());
  EXPECT_FALSE(copy.run().ended);
  EXPECT_TRUE(rig.zero.kinds.empty());
  Io later = rig.io(write(100, 1), 1, bytes(512, 9));  // does not overtake the copy
  later.run();
  EXPECT_EQ(rig.one.held(), 1u);
  rig.one.hold = false;
  rig.one.release_all();
  EXPECT_TRUE(compare.ended && copy.ended && later.ended);
  EXPECT_EQ(copy.status(), ScsiStatus::good);
  EXPECT_EQ(rig.one.memory[100 * 512], 9);
}

TEST(CopyClaims, LentWriteEndsBeforeTheCopyBegins) {
  CopyRig rig;
  rig.one.geometry().lends_memory = true;
  Io lent = rig.io(write(100, 1), 1, bytes(512, 3));
  lent.admit();
  ASSERT_FALSE(rig.device.lend(lent.task).empty());
  Io copy = rig.copy(zero_to_one());
  EXPECT_FALSE(copy.run().ended);
  EXPECT_TRUE(rig.device.execute(lent.task));
  EXPECT_TRUE(copy.ended);
  EXPECT_EQ(copy.status(), ScsiStatus::good);
}

TEST(CopyClaims, CopiesThatWantEachOthersBlocksBothEnd) {
  CopyRig rig;
  rig.zero.hold = rig.one.hold = true;
  Io forth = rig.copy(lid1({cscd(naa_zero), cscd(naa_one)}, {segment(0, 0, 1, 100, 8), segment(0, 8, 1, 108, 8)}, 1));
  Io back = rig.copy(lid1({cscd(naa_zero), cscd(naa_one)}, {segment(1, 100, 0, 0, 8), segment(1, 108, 0, 8, 8)}, 2), 1);
  forth.run();
  back.run();
  for (int round = 0; round < 100 && !(forth.ended && back.ended); ++round) {
    rig.zero.release_all();
    rig.one.release_all();
  }
  EXPECT_EQ(forth.status(), ScsiStatus::good);
  EXPECT_EQ(back.status(), ScsiStatus::good);
  EXPECT_TRUE(forth.ended && back.ended);
}

TEST(CopyClaims, CopiesFromOneSourceRunSideBySide) {
  CopyRig rig;
  rig.zero.hold = true;
  Io one = rig.copy(zero_to_one(8, 1));
  Io two = rig.copy(lid1({cscd(naa_zero), cscd(naa_one)}, {segment(0, 0, 1, 200, 8)}, 2));
  Io overlapping = rig.copy(lid1({cscd(naa_zero), cscd(naa_one)}, {segment(0, 0, 1, 107, 8)}, 3));
  one.run();
  two.run();
  overlapping.run();
  EXPECT_EQ(rig.zero.held(), 2u);
  rig.zero.release_all();
  EXPECT_TRUE(one.ended && two.ended && overlapping.ended);
  EXPECT_EQ(bytes_of(rig.one, 107, 8), bytes_of(rig.zero, 0, 8));
}

TEST(CopyClaims, OrderedCommandsOnBothUnitsDoNotBlockACopyForEver) {
  CopyRig rig;
  rig.one.hold = rig.zero.hold = true;
  Io first = rig.io(write(100, 1), 1, bytes(512, 1));
  first.run();  // makes the copy wait
  Io forth = rig.copy(lid1({cscd(naa_zero), cscd(naa_one)}, {segment(0, 0, 1, 100, 8), segment(0, 8, 1, 108, 8)}, 1));
  Io back = rig.copy(lid1({cscd(naa_zero), cscd(naa_one)}, {segment(1, 100, 0, 0, 8), segment(1, 108, 0, 8, 8)}, 2), 1);
  forth.run();
  back.run();
  Io ordered_zero = rig.io(write(0, 1), 0, bytes(512, 2));
  Io ordered_one = rig.io(write(100, 1), 1, bytes(512, 3));
  Io urgent = rig.io(write(108, 1), 1, bytes(512, 4));
  ordered_zero.task.attribute = ordered_one.task.attribute = TaskAttribute::ordered;
  urgent.task.attribute = TaskAttribute::head_of_queue;
  ordered_zero.run();
  ordered_one.run();
  urgent.run();
  const std::vector<const Io*> all{&first, &forth, &back, &ordered_zero, &ordered_one, &urgent};
  const auto ended = [&] {
    return std::all_of(all.begin(), all.end(), [](const Io* io) { return io->ended; });
  };
  for (int round = 0; round < 100 && !ended(); ++round) {
    rig.zero.release_all();
    rig.one.release_all();
  }
  EXPECT_TRUE(ended());
  for (const Io* io : all) EXPECT_EQ(io->status(), ScsiStatus::good);
  EXPECT_EQ(rig.zero.memory[0], 2);  // the ordered write came after the copies of its unit
  EXPECT_EQ(rig.device.tasks(), 0u);
}

// ---- early end

TEST(CopyAbort, AbortTaskWaitsForTheOperationUnderWay) {
  Writing copy;
  Tmf tmf(copy.rig, TmFunction::abort_task, *copy.rig.a, 0, copy.io.task.tag);
  EXPECT_FALSE(tmf.over);
  EXPECT_FALSE(copy.io.ended);
  copy.rig.one.release_all();
  EXPECT_TRUE(tmf.over);
  EXPECT_EQ(tmf.request.response, TmResponse::function_complete);
  EXPECT_TRUE(copy.io.ended && copy.io.task.aborted);
  EXPECT_EQ(copy.io.done_calls, 1);
  copy.rig.one.hold = false;
  // the claim is gone
  EXPECT_EQ(copy.rig.io(write(100, 8), 1, bytes(4096, 1)).run().status(), ScsiStatus::good);
}

TEST(CopyAbort, ACopyThatWaitsEndsAtOnce) {
  for (const TmFunction function :
       {TmFunction::abort_task, TmFunction::lun_reset, TmFunction::i_t_nexus_reset}) {
    CopyRig rig;
    rig.one.hold = true;
    Io blocker = Io(rig.device, *rig.b, write(100, 1), bytes(512, 1), 0, 1);
    blocker.run();
    Io copy = rig.copy(zero_to_one());
    copy.run();
    Io behind = Io(rig.device, *rig.b, write(103, 1), bytes(512, 1), 0, 1);
    behind.run();
    EXPECT_EQ(rig.one.held(), 1u);
    Tmf tmf(rig, function, *rig.a, 0, copy.task.tag);
    EXPECT_TRUE(tmf.over);
    EXPECT_TRUE(copy.ended && copy.task.aborted);
    EXPECT_EQ(rig.one.held(), 2u);  // who waited behind it goes on
    rig.one.release_all();
    EXPECT_TRUE(blocker.ended && behind.ended);
  }
}

TEST(CopyAbort, ResetOfTheOtherUnitEndsTheCopyWithSense) {
  Writing copy;
  Tmf tmf(copy.rig, TmFunction::lun_reset, *copy.rig.b, 1);
  EXPECT_FALSE(tmf.over);  // a write to the unit is still under way
  copy.rig.one.release_all();
  EXPECT_TRUE(tmf.over);
  EXPECT_TRUE(copy.io.ended);
  EXPECT_FALSE(copy.io.task.aborted);
  EXPECT_EQ(copy.io.sense(), 0x0a0d01u);
  // The destination at 18: CHECK CONDITION, 29/03.
  EXPECT_EQ(copy.io.task.sense[9], 18);
  EXPECT_EQ(copy.io.task.sense[18], 0x02);
  EXPECT_EQ(copy.io.task.sense[18 + 3], 0x06);
  EXPECT_EQ(copy.io.task.sense[18 + 13], 0x29);
  EXPECT_EQ(copy.io.task.sense[18 + 14], 0x03);
}

TEST(CopyAbort, ResetOfTheOtherUnitEndsACopyThatWaits) {
  CopyRig rig;
  rig.one.hold = true;
  Io blocker = rig.io(write(100, 1), 1, bytes(512, 1));
  blocker.run();
  Io copy = rig.copy(zero_to_one());
  copy.run();
  Tmf source(rig, TmFunction::lun_reset, *rig.b, 0);  // aborts the copy: its own unit
  EXPECT_TRUE(source.over && copy.ended && copy.task.aborted);
  Io through_two = rig.copy(zero_to_one(), 2);
  rig.settle();
  EXPECT_FALSE(through_two.run().ended);
  Tmf reset(rig, TmFunction::lun_reset, *rig.b, 0);
  EXPECT_TRUE(reset.over);
  EXPECT_TRUE(through_two.ended);
  EXPECT_FALSE(through_two.task.aborted);
  EXPECT_EQ(through_two.sense(), 0x0a0d01u);
  EXPECT_EQ(through_two.task.sense[8], 18);  // the source
  rig.one.release_all();
}

TEST(CopyAbort, ResetOfTheTargetAndNexusLossWaitForTheOperation) {
  for (const TmFunction function : {TmFunction::target_warm_reset, TmFunction::i_t_nexus_reset}) {
    Writing copy;
    Tmf tmf(copy.rig, function, *copy.rig.a);
    EXPECT_FALSE(tmf.over);
    copy.rig.one.release_all();
    EXPECT_TRUE(tmf.over && copy.io.ended && copy.io.task.aborted);
  }
}

TEST(CopyAbort, ClearTaskSetOfTheOtherUnitLeavesTheCopyAlone) {
  Writing copy;
  Tmf clear(copy.rig, TmFunction::clear_task_set, *copy.rig.b, 1);
  EXPECT_TRUE(clear.over);
  Tmf query(copy.rig, TmFunction::query_task_set, *copy.rig.a, 1);
  EXPECT_EQ(query.request.response, TmResponse::function_complete);
  copy.rig.one.release_all();
  EXPECT_EQ(copy.io.status(), ScsiStatus::good);
}

TEST(CopyAbort, TransportTakesTheCopyBackWhileItWaits) {
  CopyRig rig;
  rig.one.hold = true;
  Io blocker = rig.io(write(100, 1), 1, bytes(512, 1));
  blocker.run();
  Io copy = rig.copy(zero_to_one());
  copy.run();
  rig.device.abort(copy.task);
  EXPECT_TRUE(copy.ended);
  EXPECT_EQ(copy.done_calls, 1);
  Io unsent = rig.copy(zero_to_one());  // admitted, its list never comes
  unsent.admit();
  rig.device.abort(unsent.task);
  rig.one.release_all();
  EXPECT_TRUE(blocker.ended);
  EXPECT_EQ(rig.device.tasks(), 0u);
}

// Copies in all directions, writes, ORDERED and HEAD OF QUEUE commands and task management in random order,
// over a few blocks that all want: whatever waits is let go on in the end.
TEST(CopyAbort, NothingWaitsForEver) {
  for (std::uint32_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(seed);
    CopyRig rig;
    std::mt19937 random(seed);
    const auto pick = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
    std::vector<std::unique_ptr<Io>> all;
    std::vector<std::unique_ptr<Tmf>> requests;
    const std::vector<Data> cscds{cscd(naa_zero), cscd(naa_one)};
    for (int i = 0; i < 60; ++i) {
      rig.zero.hold = rig.one.hold = pick(4) != 0;
      Nexus& nexus = pick(2) == 0 ? *rig.a : *rig.b;
      const auto lun = static_cast<std::uint16_t>(pick(2));
      const auto lba = static_cast<std::uint8_t>(pick(6));
      const std::uint32_t what = pick(10);
      if (what < 4) {
        std::vector<Data> segments;
        for (std::uint32_t n = 1 + pick(3); n != 0; --n) {
          const auto from = static_cast<std::uint16_t>(pick(2));
          const auto to = static_cast<std::uint16_t>(pick(2));
          const std::uint32_t to_lba = pick(6);
          segments.push_back(segment(from, lba, to, to_lba, static_cast<std::uint16_t>(1 + pick(4))));
        }
        const Data list = lid1(cscds, segments, static_cast<std::uint8_t>(i));
        all.push_back(
            std::make_unique<Io>(rig.device, nexus, CopyRig::extended_copy(list.size()), list, 0, lun));
      } else if (what < 7) {
        all.push_back(std::make_unique<Io>(rig.device, nexus, write(lba, 1), bytes(512, 1), 0, lun));
      } else if (what < 8) {
        all.push_back(std::make_unique<Io>(rig.device, nexus, caw(lba), bytes(1024, 1), 0, lun));
      } else if (what < 9) {
        (lun == 0 ? rig.zero : rig.one).release_all();
        continue;
      } else {
        const TmFunction functions[]{TmFunction::abort_task, TmFunction::abort_task_set,
                                     TmFunction::clear_task_set, TmFunction::lun_reset,
                                     TmFunction::i_t_nexus_reset};
        const TmFunction function = functions[pick(5)];
        const std::uint64_t tag =
            all.empty() ? 0 : all[pick(static_cast<std::uint32_t>(all.size()))]->task.tag;
        requests.push_back(std::make_unique<Tmf>(rig, function, nexus, lun, tag));
        continue;
      }
      const TaskAttribute attributes[]{TaskAttribute::simple, TaskAttribute::simple, TaskAttribute::ordered,
                                       TaskAttribute::head_of_queue};
      all.back()->task.attribute = attributes[pick(4)];
      all.back()->run();
    }
    for (int round = 0; round < 1000 && rig.zero.held() + rig.one.held() != 0; ++round) {
      rig.zero.release_all();
      rig.one.release_all();
    }
    for (const auto& io : all) ASSERT_TRUE(io->ended);
    for (const auto& request : requests) ASSERT_TRUE(request->over);
    ASSERT_EQ(rig.device.tasks(), 0u);
    ASSERT_TRUE(rig.device.remove_unit(0).has_value());
  }
}

TEST(CopyAbort, AUnitThatIsCopiedCannotBeRemoved) {
  Writing copy;
  const Status status = copy.rig.device.remove_unit(1);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Errc::busy);
  copy.rig.one.release_all();
  EXPECT_TRUE(copy.rig.device.remove_unit(1).has_value());
}

}  // namespace
}  // namespace perilune::scsi::test
