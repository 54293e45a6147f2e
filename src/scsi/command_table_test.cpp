// SPDX-License-Identifier: Apache-2.0
// What is derived from the table: dispatch, CDB checks with their pointers, REPORT SUPPORTED OPERATION CODES.
#include "scsi/command_table.hpp"

#include <gtest/gtest.h>

#include <set>

#include "scsi/test_support.hpp"

namespace perilune::scsi::test {
namespace {

using Data = std::vector<std::uint8_t>;

Data rsoc(std::uint8_t options, std::uint8_t opcode = 0, std::uint16_t action = 0,
          std::uint32_t allocation = 65536) {
  Data cdb{0xa3, 0x0c, options, opcode, 0, 0, 0, 0, 0, 0, 0, 0};
  store_be16(&cdb[4], action);
  store_be32(&cdb[6], allocation);
  return cdb;
}

TEST(Dispatch, UnknownOperationCodesAreRefused) {
  Rig rig;
  std::set<int> known;
  for (const CommandRow& row : command_rows(CommandSet::disk)) known.insert(row.opcode);
  EXPECT_EQ(known.size(), 57u);
  for (int opcode = 0; opcode < 256; ++opcode) {
    if (known.count(opcode) != 0) continue;
    Io io = rig.io({static_cast<std::uint8_t>(opcode), 0, 0, 0, 0, 0});
    EXPECT_EQ(io.run().sense(), 0x052000u) << opcode;
    EXPECT_EQ(io.status(), ScsiStatus::check_condition);
  }
}

TEST(Dispatch, UnknownServiceActionPointsAtIt) {
  Rig rig;
  for (const Data& cdb : {Data{0x9e, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, Data{0xa3, 0x0b, 0, 0, 0, 0}}) {
    Io io = rig.io(cdb);
    EXPECT_EQ(io.run().sense(), 0x052400u);
    EXPECT_EQ(io.task.sense[15], 0xcc);  // SKSV, C/D, BPV, bit 4
    EXPECT_EQ(load_be16(&io.task.sense[16]), 1);
  }
}

TEST(CdbCheck, EveryBitThatIsNotEvaluatedIsRefusedWithItsPlace) {
  Rig rig;
  for (const CommandRow& row : command_rows(CommandSet::disk)) {
    if (!available(row, rig.unit)) continue;
    for (std::size_t byte = 1; byte < row.cdb_length; ++byte) {
      for (unsigned bit = 0; bit < 8; ++bit) {
        const auto mask = static_cast<std::uint8_t>(1u << bit);
        if ((row.usage[byte] & mask) != 0) continue;
        const bool extended = row.opcode == 0x7f;
        if (byte == 1 && row.has_service_action && !extended && bit < 5) continue;
        if (extended && byte >= 7 && byte <= 9) continue;  // length and service action
        Data cdb(row.cdb_length);
        cdb[0] = row.opcode;
        if (extended) {
          cdb[7] = 24;
          store_be16(&cdb[8], row.service_action);
        } else if (row.has_service_action) {
          cdb[1] = static_cast<std::uint8_t>(row.service_action);
        }
        cdb[byte] |= mask;
        Io io = rig.io(cdb);
        ASSERT_EQ(io.run().sense(), 0x052400u) << int{row.opcode} << ' ' << byte << ' ' << bit;
        ASSERT_EQ(io.task.sense[15], 0xc8 | bit);
        ASSERT_EQ(load_be16(&io.task.sense[16]), byte);
      }
    }
  }
}

TEST(CdbCheck, PointsInDescriptorFormatToo) {
  Rig rig;
  rig.unit.state().d_sense = true;
  Io io = rig.io({0x00, 0, 0, 0, 0, 0x04});  // NACA
  io.run();
  ASSERT_EQ(io.task.sense_length, 16);
  const Data expected{0x72, 0x05, 0x24, 0x00, 0, 0, 0, 8, 0x02, 0x06, 0, 0, 0xca, 0, 5, 0};
  EXPECT_EQ(Data(io.task.sense.begin(), io.task.sense.begin() + 16), expected);
}

TEST(CdbCheck, ExtendedCdbsAreAsLongAsTheySay) {
  Rig rig;
  Data cdb(32);
  cdb[0] = 0x7f;
  cdb[7] = 24;
  cdb[9] = 0x12;
  cdb[31] = 24;
  EXPECT_EQ(rig.io(cdb, {}, 24).run().status(), ScsiStatus::good);
  Data half(cdb.begin(), cdb.begin() + 16);  // the AHS with the rest did not come
  Io short_one = rig.io(half, {}, 24);
  EXPECT_EQ(short_one.run().sense(), 0x052400u);
  EXPECT_EQ(load_be16(&short_one.task.sense[16]), 7);
  cdb[7] = 28;
  Io longer = rig.io(cdb, {}, 24);
  EXPECT_EQ(longer.run().sense(), 0x052400u);
  EXPECT_EQ(load_be16(&longer.task.sense[16]), 7);
  cdb[7] = 24;
  cdb[8] = 0xff;
  Io unknown = rig.io(cdb, {}, 24);
  EXPECT_EQ(unknown.run().sense(), 0x052400u);
  EXPECT_EQ(unknown.task.sense[15], 0xcf);
  EXPECT_EQ(load_be16(&unknown.task.sense[16]), 8);
}

// READ, WRITE, VERIFY and WRITE SAME of 32 bytes are for disks with protection information of type 2 alone
// (SBC-4 5.19).
TEST(CdbCheck, ExtendedReadsAndWritesAreNotThereWithoutProtection) {
  Rig rig;
  for (const std::uint8_t action : Data{0x09, 0x0a, 0x0b, 0x0c, 0x0d}) {
    Data cdb(32);
    cdb[0] = 0x7f;
    cdb[7] = 24;
    cdb[9] = action;
    EXPECT_EQ(rig.io(cdb, {}, 512).run().sense(), 0x052400u);
  }
}

TEST(SupportedOperationCodes, ListsEveryRowOnce) {
  Rig rig;
  const Data list = rig.io(rsoc(0), {}, 65536).run().data_in();
  const std::uint32_t length = load_be32(list.data());
  EXPECT_EQ(length, list.size() - 4);
  std::size_t at = 4;
  std::size_t served = 0;
  for (const CommandRow& row : command_rows(CommandSet::disk)) {
    if (!available(row, rig.unit))
      continue;  // this unit has no record to keep anything in, and nothing is encrypted
    ++served;
    EXPECT_EQ(list[at], row.opcode);
    EXPECT_EQ(load_be16(&list[at + 2]), row.has_service_action ? row.service_action : 0);
    EXPECT_EQ(list[at + 5], row.has_service_action ? 1 : 0);
    EXPECT_EQ(load_be16(&list[at + 6]), row.cdb_length);
    at += 8;
  }
  EXPECT_EQ(length, served * 8);
  EXPECT_EQ(served, command_rows(CommandSet::disk).size() - 3);
  const Data timed = rig.io(rsoc(0x80), {}, 65536).run().data_in();
  EXPECT_EQ(timed.size(), 4 + served * 20);
  EXPECT_EQ(timed[4 + 5], 0x02);
  EXPECT_EQ(load_be16(&timed[4 + 8]), 10);
}

TEST(SupportedOperationCodes, OneCommandShowsItsUsageMap) {
  Rig rig;
  EXPECT_EQ(rig.io(rsoc(1, 0x28), {}, 65536).run().data_in(),
            (Data{0, 0x03, 0, 10, 0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0}));
  EXPECT_EQ(rig.io(rsoc(0x81, 0x00), {}, 65536).run().data_in(),
            (Data{0, 0x83, 0, 6, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10}));
  EXPECT_EQ(rig.io(rsoc(2, 0x9e, 0x10), {}, 65536).run().data_in(),
            (Data{0, 0x03, 0, 16, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0}));
  EXPECT_EQ(rig.io(rsoc(1, 0x3d), {}, 65536).run().data_in(), (Data{0, 0x01, 0, 0}));
  EXPECT_EQ(rig.io(rsoc(3, 0x28, 0), {}, 65536).run().data_in()[1], 0x03);
  EXPECT_EQ(rig.io(rsoc(3, 0x28, 1), {}, 65536).run().data_in()[1], 0x01);
  EXPECT_EQ(rig.io(rsoc(3, 0xa3, 0x0d), {}, 65536).run().data_in()[1], 0x03);
}

TEST(SupportedOperationCodes, HostileRequests) {
  Rig rig;
  EXPECT_EQ(rig.io(rsoc(1, 0xa3, 0x0c), {}, 64).run().sense(), 0x052400u);
  EXPECT_EQ(rig.io(rsoc(2, 0x28), {}, 64).run().sense(), 0x052400u);
  for (std::uint8_t options = 4; options < 8; ++options) {
    EXPECT_EQ(rig.io(rsoc(options, 0x28), {}, 64).run().sense(), 0x052400u);
  }
  for (int opcode = 0; opcode < 256; ++opcode) {
    for (const int action : {0x0000, 0x000c, 0x0010, 0x00ff, 0x010c, 0x8010, 0xffff}) {
      for (std::uint8_t options = 1; options < 4; ++options) {
        Io io = rig.io(rsoc(options, static_cast<std::uint8_t>(opcode), static_cast<std::uint16_t>(action)),
                       {}, 64);
        io.run();
        if (io.status() == ScsiStatus::good && action > 0xff && options != 1) {
          EXPECT_EQ(io.data_in()[1], 0x01);
        }
      }
    }
  }
  for (const std::uint32_t allocation : {0u, 1u, 3u, 4u, 5u}) {
    EXPECT_EQ(rig.io(rsoc(0, 0, 0, allocation), {}, 64).run().data_in().size(), allocation);
  }
}

TEST(SupportedOperationCodes, FollowTheUnit) {
  auto thick = FakeChannel::disk();
  thick.thin = false;
  Rig rig(thick);
  EXPECT_EQ(rig.io(rsoc(1, 0x42), {}, 64).run().data_in()[1], 0x01);
  EXPECT_EQ(rig.io(rsoc(1, 0x93), {}, 64).run().data_in()[5], 0x01);  // no UNMAP bit
}

TEST(SupportedTaskManagement, NamesWhatTheDeviceDoes) {
  Rig rig;
  EXPECT_EQ(rig.io({0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0}, {}, 64).run().data_in(), (Data{0xda, 0, 0, 0}));
  EXPECT_EQ(rig.io({0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 0, 64, 0, 0}, {}, 64).run().data_in().size(), 16u);
  rig.a.set_sam5_functions(true);  // QTS; QAES, QTSS, ITNRS
  EXPECT_EQ(rig.io({0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0}, {}, 64).run().data_in(), (Data{0xde, 0x07, 0, 0}));
}

}  // namespace
}  // namespace perilune::scsi::test
