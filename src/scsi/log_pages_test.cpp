// SPDX-License-Identifier: Apache-2.0
// LOG SENSE and LOG SELECT against bytes from SPC-4 7.3.
#include <gtest/gtest.h>

#include "scsi/test_support.hpp"

namespace perilune::scsi::test {
namespace {

using block::OpStatus;
using Data = std::vector<std::uint8_t>;

Data log_sense(std::uint8_t page, std::uint8_t control = 1, std::uint8_t subpage = 0,
               std::uint16_t pointer = 0, std::uint16_t allocation = 512) {
  Data cdb{0x4d, 0, static_cast<std::uint8_t>(control << 6 | page), subpage, 0, 0, 0, 0, 0, 0};
  store_be16(&cdb[5], pointer);
  store_be16(&cdb[7], allocation);
  return cdb;
}
Data log_select(std::uint8_t page, std::uint8_t options = 0x02, std::uint8_t control = 1) {
  return {0x4c, options, static_cast<std::uint8_t>(control << 6 | page), 0, 0, 0, 0, 0, 0, 0};
}
Data page(Rig& rig, std::uint8_t code) { return rig.io(log_sense(code), {}, 512).run().data_in(); }

Data read10(std::uint8_t lba, std::uint8_t blocks) { return {0x28, 0, 0, 0, 0, lba, 0, 0, blocks, 0}; }
Data write10(std::uint8_t lba, std::uint8_t blocks) { return {0x2a, 0, 0, 0, 0, lba, 0, 0, blocks, 0}; }
Data verify10(std::uint8_t lba, std::uint8_t blocks) { return {0x2f, 0, 0, 0, 0, lba, 0, 0, blocks, 0}; }

TEST(LogSense, ListsItsPages) {
  Rig rig;
  EXPECT_EQ(page(rig, 0x00), (Data{0, 0, 0, 7, 0x00, 0x02, 0x03, 0x05, 0x0d, 0x0e, 0x19}));
  EXPECT_EQ(rig.io(log_sense(0x00, 1, 0xff), {}, 512).run().data_in(),
            (Data{0x40, 0xff, 0, 16, 0, 0, 0, 0xff, 0x02, 0, 0x03, 0, 0x05, 0, 0x0d, 0, 0x0e, 0, 0x19, 0}));
}

TEST(LogSense, ErrorPagesCountBytesAndErrors) {
  Rig rig;
  rig.io(write10(0, 3), bytes(3 * 512, 1)).run();
  rig.channel.fail_next = {OpStatus::write_error};
  rig.io(write10(0, 1), bytes(512, 1)).run();
  EXPECT_EQ(page(rig, 0x02), (Data{0x82, 0, 0, 36,                                            //
                                   0, 3, 0x20, 8, 0, 0, 0, 0, 0, 0, 0, 0,                     //
                                   0, 5, 0x20, 8, 0, 0, 0, 0, 0, 0, 0x06, 0,                  //
                                   0, 6, 0x20, 8, 0, 0, 0, 0, 0, 0, 0, 1}));
  rig.io(read10(0, 1), {}, 512).run();
  rig.channel.fail_next = {OpStatus::read_error, OpStatus::read_error};
  rig.io(read10(0, 1), {}, 512).run();
  rig.io(verify10(0, 1)).run();
  rig.io(verify10(0, 4)).run();
  const Data reads = page(rig, 0x03);
  EXPECT_EQ(load_be64(&reads[20]), 512u);
  EXPECT_EQ(load_be64(&reads[32]), 1u);
  const Data verifies = page(rig, 0x05);
  EXPECT_EQ(load_be64(&verifies[20]), 4u * 512);
  EXPECT_EQ(load_be64(&verifies[32]), 1u);
}

TEST(LogSense, GeneralStatisticsCountCommandsAndBlocks) {
  Rig rig;
  rig.io(write10(0, 3), bytes(3 * 512, 1)).run();
  rig.io(read10(0, 2), {}, 1024).run();
  rig.io(read10(0, 2), {}, 1024).run();
  rig.io(read10(0, 2), {}, 1000).run();  // as many blocks as the initiator has room for are read
  rig.io(read10(0xff, 0), {}, 0).run();
  const Data statistics = page(rig, 0x19);
  ASSERT_EQ(statistics.size(), 72u);
  EXPECT_EQ(Data(statistics.begin(), statistics.begin() + 8), (Data{0x99, 0, 0, 68, 0, 1, 0x23, 64}));
  EXPECT_EQ(load_be64(&statistics[8]), 4u);   // READ commands
  EXPECT_EQ(load_be64(&statistics[16]), 1u);  // WRITE commands
  EXPECT_EQ(load_be64(&statistics[24]), 3u);  // blocks received
  EXPECT_EQ(load_be64(&statistics[32]), 6u);  // blocks transmitted
}

TEST(LogSense, LentAndAbortedCommandsCountAsTheyEnd) {
  auto geometry = FakeChannel::disk();
  geometry.lends_memory = true;
  Rig rig(geometry);
  Io lent = rig.io(read10(0, 2), {}, 1024);
  lent.admit();
  ASSERT_FALSE(rig.device.lend(lent.task).empty());
  lent.execute();
  ASSERT_TRUE(lent.ended);
  rig.channel.hold = true;
  Io aborted = rig.io(read10(0, 2), {}, 1024);
  aborted.run();
  rig.device.abort(aborted.task);
  rig.channel.release_all();
  rig.channel.hold = false;
  const Data statistics = page(rig, 0x19);
  EXPECT_EQ(load_be64(&statistics[8]), 1u);
  EXPECT_EQ(load_be64(&statistics[32]), 2u);
}

TEST(LogSense, StartsAreCounted) {
  Rig rig;
  for (const std::uint8_t start : Data{0, 1, 1, 0, 1}) rig.io({0x1b, 0, 0, 0, start, 0}).run();
  EXPECT_EQ(page(rig, 0x0e), (Data{0x8e, 0, 0, 8, 0, 4, 0x23, 4, 0, 0, 0, 2}));
}

TEST(LogSense, ThereIsNoThermometer) {
  Rig rig;
  EXPECT_EQ(page(rig, 0x0d), (Data{0x8d, 0, 0, 12, 0, 0, 0x23, 2, 0, 0xff, 0, 1, 0x23, 2, 0, 0xff}));
}

TEST(LogSense, ParameterPointerAndAllocationLengthCut) {
  Rig rig;
  const Data from = rig.io(log_sense(0x02, 1, 0, 5), {}, 512).run().data_in();
  EXPECT_EQ(from.size(), 28u);
  EXPECT_EQ(from[3], 24);
  EXPECT_EQ(load_be16(&from[4]), 5);
  Io past = rig.io(log_sense(0x02, 1, 0, 7), {}, 512);
  EXPECT_EQ(past.run().sense(), 0x052400u);
  EXPECT_EQ(load_be16(&past.task.sense[16]), 5);
  EXPECT_EQ(rig.io(log_sense(0x00, 1, 0, 1), {}, 512).run().sense(), 0x052400u);
  for (const std::uint16_t allocation : std::initializer_list<std::uint16_t>{0, 1, 3, 4, 5}) {
    const Data cut = rig.io(log_sense(0x02, 1, 0, 0, allocation), {}, 64).run().data_in();
    ASSERT_EQ(cut.size(), allocation);
    if (allocation >= 4) {
      EXPECT_EQ(cut[3], 36);
    }
  }
}

TEST(LogSense, UnknownPagesSubpagesAndThresholdsPointAtTheirField) {
  Rig rig;
  struct Case {
    Data cdb;
    std::uint8_t bits;
    std::uint16_t byte;
  };
  for (const auto& [cdb, bits, byte] :
       {Case{log_sense(0x01), 0xcd, 2}, Case{log_sense(0x3f), 0xcd, 2}, Case{log_sense(0x02, 1, 1), 0xcf, 3},
        Case{log_sense(0x02, 1, 0xff), 0xcf, 3}, Case{log_sense(0x00, 1, 1), 0xcf, 3},
        Case{log_sense(0x02, 0), 0xcf, 2}, Case{log_sense(0x02, 2), 0xcf, 2}}) {
    Io io = rig.io(cdb, {}, 512);
    EXPECT_EQ(io.run().sense(), 0x052400u);
    EXPECT_EQ(io.task.sense[15], bits);
    EXPECT_EQ(load_be16(&io.task.sense[16]), byte);
  }
  Data saving = log_sense(0x02);
  saving[1] = 0x01;
  EXPECT_EQ(rig.io(saving, {}, 512).run().sense(), 0x052400u);
}

TEST(LogSelect, SetsOnePageBackAndTellsTheOthers) {
  Rig rig;
  rig.io(write10(0, 3), bytes(3 * 512, 1)).run();
  EXPECT_EQ(rig.io(log_select(0x02)).run().status(), ScsiStatus::good);
  EXPECT_EQ(load_be64(&page(rig, 0x02)[20]), 0u);
  EXPECT_EQ(load_be64(&page(rig, 0x19)[16]), 1u);
  EXPECT_EQ(Io(rig.device, rig.b, {0, 0, 0, 0, 0, 0}).run().sense(), 0x062a02u);
  EXPECT_EQ(rig.io({0, 0, 0, 0, 0, 0}).run().status(), ScsiStatus::good);
  rig.io(write10(0, 1), bytes(512, 1)).run();
  EXPECT_EQ(load_be64(&page(rig, 0x02)[20]), 512u);
}

TEST(LogSelect, PageZeroIsAllOfThem) {
  Rig rig;
  rig.io(write10(0, 3), bytes(3 * 512, 1)).run();
  EXPECT_EQ(rig.io(log_select(0x00, 0, 3)).run().status(), ScsiStatus::good);  // to the defaults, without PCR
  EXPECT_EQ(load_be64(&page(rig, 0x02)[20]), 0u);
  EXPECT_EQ(load_be64(&page(rig, 0x19)[16]), 0u);
}

TEST(LogSelect, WithoutPcrNothingChanges) {
  Rig rig;
  rig.io(write10(0, 3), bytes(3 * 512, 1)).run();
  EXPECT_EQ(rig.io(log_select(0x00, 0, 1)).run().status(), ScsiStatus::good);
  EXPECT_EQ(load_be64(&page(rig, 0x19)[16]), 1u);
  EXPECT_EQ(Io(rig.device, rig.b, {0, 0, 0, 0, 0, 0}).run().status(), ScsiStatus::good);
}

TEST(LogSelect, RefusesParametersSavingAndUnknownPages) {
  Rig rig;
  Data list = log_select(0x02, 0);
  list[8] = 4;
  Io io = rig.io(list, bytes(4, 0));
  EXPECT_EQ(io.run().sense(), 0x052400u);
  EXPECT_EQ(load_be16(&io.task.sense[16]), 8);
  EXPECT_EQ(rig.io(log_select(0x02, 0x03)).run().sense(), 0x052400u);
  EXPECT_EQ(rig.io(log_select(0x3f)).run().sense(), 0x052400u);
  Data subpage = log_select(0x02);
  subpage[3] = 1;
  EXPECT_EQ(rig.io(subpage).run().sense(), 0x052400u);
}

}  // namespace
}  // namespace perilune::scsi::test
