// SPDX-License-Identifier: Apache-2.0
// What can be asked about third-party copies: RECEIVE COPY STATUS, FAILURE DETAILS, OPERATING PARAMETERS,
// COPY OPERATION ABORT, and VPD page 8Fh, against bytes written by hand from SPC-4.
#include <gtest/gtest.h>

#include "scsi/copy_operation.hpp"
#include "scsi/copy_test_support.hpp"

namespace perilune::scsi::test {
namespace {

constexpr std::uint32_t invalid_field_in_cdb = 0x052400;

Data status_lid1(std::uint8_t identifier, std::uint8_t allocation = 255) {
  return {0x84, 0x00, identifier, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, allocation, 0, 0};
}
Data details(std::uint8_t identifier, std::uint8_t allocation = 255) {
  return {0x84, 0x04, identifier, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, allocation, 0, 0};
}
Data status_lid4(std::uint32_t identifier, std::uint8_t allocation = 255) {
  Data cdb{0x84, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, allocation, 0, 0};
  store_be32(&cdb[2], identifier);
  return cdb;
}
Data operation_abort(std::uint32_t identifier) {
  Data cdb{0x83, 0x1c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  store_be32(&cdb[2], identifier);
  return cdb;
}
Data ask(CopyRig& rig, const Data& cdb, std::uint16_t lun = 0) {
  Io io = rig.io(cdb, lun, {}, 255);
  EXPECT_EQ(io.run().status(), ScsiStatus::good);
  return io.data_in();
}
std::uint32_t refusal(CopyRig& rig, const Data& cdb, std::uint16_t lun = 0) {
  return rig.io(cdb, lun, {}, 255).run().sense();
}

TEST(ReceiveCopyStatus, FollowsACopyFromBeginningToEnd) {
  CopyRig rig;
  EXPECT_EQ(refusal(rig, status_lid1(7)), invalid_field_in_cdb);
  rig.one.hold = true;
  Io copy = rig.copy(lid1({cscd(naa_zero), cscd(naa_one)}, {segment(0, 0, 1, 100, 8), segment(0, 8, 1, 108, 8)}, 7));
  copy.run();
  EXPECT_EQ(ask(rig, status_lid1(7)), (Data{0, 0, 0, 8, 0x00, 0, 0, 0x00, 0, 0, 0, 0}));
  rig.one.release_one();
  EXPECT_EQ(ask(rig, status_lid1(7)), (Data{0, 0, 0, 8, 0x00, 0, 1, 0x00, 0, 0, 0x10, 0}));
  EXPECT_EQ(ask(rig, details(7)), (Data{0, 0, 0, 0}));
  rig.one.release_one();
  ASSERT_TRUE(copy.ended);
  EXPECT_EQ(ask(rig, status_lid1(7, 11)).size(), 11u);  // not all of it: it is kept
  EXPECT_EQ(ask(rig, status_lid1(7)), (Data{0, 0, 0, 8, 0x01, 0, 2, 0x00, 0, 0, 0x20, 0}));
  EXPECT_EQ(refusal(rig, status_lid1(7)), invalid_field_in_cdb);  // told, and forgotten
}

TEST(ReceiveCopyStatus, LongIdentifierTellsEverything) {
  CopyRig rig;
  rig.one.hold = true;
  const Data list = lid4({cscd(naa_zero), cscd(naa_one)}, {segment(0, 0, 1, 100, 8)}, 0x12345678);
  Io copy = rig.io(CopyRig::extended_copy(list.size(), 1), 0, list);
  copy.run();
  Data expected{0, 0, 0, 28, 0x01, 0x11, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
                0, 0, 0, 0,  0,    0,    0, 0, 0,    0,    0,    0,    0, 0, 0, 0};
  EXPECT_EQ(ask(rig, status_lid4(0x12345678)), expected);
  rig.one.release_all();
  expected[5] = 0x01;
  expected[7] = 2;      // OPERATION COUNTER
  expected[22] = 0x10;  // 4096 bytes
  expected[25] = 1;     // SEGMENTS PROCESSED
  EXPECT_EQ(ask(rig, status_lid4(0x12345678)), expected);
  EXPECT_EQ(refusal(rig, status_lid4(0x12345678)), invalid_field_in_cdb);
  EXPECT_EQ(refusal(rig, status_lid4(0x78)), invalid_field_in_cdb);
}

TEST(ReceiveCopyStatus, FailureComesWithItsSense) {
  CopyRig rig;
  const Data bad = lid1({cscd(naa_zero)}, {segment(0, 0, 0, 100, 8), segment(0, 0, 4, 100, 8)}, 3);
  Io copy = rig.copy(bad);
  copy.run();
  EXPECT_EQ(ask(rig, status_lid1(3)), (Data{0, 0, 0, 8, 0x02, 0, 1, 0x00, 0, 0, 0x10, 0}));
  Data expected(60);
  expected[3] = 56 + 18;
  expected[56] = 0x02;
  expected[59] = 18;
  const Data sense = sense_bytes(copy);
  expected.insert(expected.end(), sense.begin(), sense.end());
  EXPECT_EQ(ask(rig, details(3, 77)).size(), 77u);
  EXPECT_EQ(ask(rig, details(3)), expected);
  EXPECT_EQ(refusal(rig, details(3)), invalid_field_in_cdb);
  EXPECT_EQ(rig.copy(bad).run().status(), ScsiStatus::check_condition);
  Data long_form{0, 0, 0, 28 + 18, 0x00, 0x02, 0, 2, 0xff, 0xff, 0xff, 0xff, 0x02, 18, 18, 0,
                 0, 0, 0, 0,       0,    0,    0x10, 0, 0, 1,    0,    0,    0,    0,  0,  0};
  long_form.insert(long_form.end(), sense.begin(), sense.end());
  EXPECT_EQ(ask(rig, status_lid4(3)), long_form);
}

TEST(ReceiveCopyStatus, IsOfOneNexusAndOneUnit) {
  CopyRig rig;
  EXPECT_EQ(rig.copy(zero_to_one()).run().status(), ScsiStatus::good);
  EXPECT_EQ(refusal(rig, status_lid1(1), 1), invalid_field_in_cdb);
  EXPECT_EQ(Io(rig.device, *rig.b, status_lid1(1), {}, 255).run().sense(), invalid_field_in_cdb);
  EXPECT_EQ(ask(rig, status_lid1(1))[4], 0x01);
}

TEST(ReceiveCopyStatus, ForgottenByResetAndByTheNextCopyOfTheSameIdentifier) {
  CopyRig rig;
  EXPECT_EQ(rig.copy(zero_to_one()).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.copy(lid1({cscd(naa_zero)}, {segment(0, 0, 9, 0, 8)})).run().status(),
            ScsiStatus::check_condition);
  EXPECT_EQ(ask(rig, status_lid1(1))[4], 0x02);
  TaskManagement reset;
  reset.function = TmFunction::lun_reset;
  reset.nexus = &*rig.b;
  EXPECT_TRUE(rig.device.manage(reset));
  rig.settle();
  EXPECT_EQ(refusal(rig, details(1)), invalid_field_in_cdb);
}

TEST(ReceiveCopyStatus, CopiesWithoutIdentifierAreNotRemembered) {
  CopyRig rig;
  const Data list = lid1({cscd(naa_zero), cscd(naa_one)}, {segment(0, 0, 1, 100, 8)}, 0, 3);
  EXPECT_EQ(rig.copy(list).run().status(), ScsiStatus::good);
  EXPECT_EQ(refusal(rig, status_lid1(0)), invalid_field_in_cdb);
}

TEST(CopyOperations, AnIdentifierInUseIsRefused) {
  CopyRig rig;
  rig.one.hold = true;
  Io first = rig.copy(zero_to_one(8, 5));
  first.run();
  EXPECT_EQ(rig.copy(zero_to_one(8, 5)).run().sense(), 0x050016u);
  Io other_unit = rig.copy(lid1({cscd(naa_zero)}, {segment(0, 0, 0, 1000, 8)}, 5), 1);
  EXPECT_EQ(other_unit.run().status(), ScsiStatus::good);
  rig.one.release_all();
  EXPECT_EQ(first.status(), ScsiStatus::good);
}

TEST(CopyOperations, AsManyAtOnceAsAdvertised) {
  CopyRig rig;
  rig.zero.hold = true;
  std::vector<std::unique_ptr<Io>> all;
  const auto start = [&](std::uint8_t identifier) -> Io& {
    const Data list = zero_to_one(1, identifier);
    all.push_back(std::make_unique<Io>(rig.device, *rig.a, CopyRig::extended_copy(list.size()), list));
    return all.back()->run();
  };
  for (std::uint8_t i = 0; i < copy_limits::max_operations; ++i) EXPECT_FALSE(start(i).ended);
  Io& refused = start(99);
  EXPECT_TRUE(refused.ended);
  EXPECT_EQ(refused.status(), ScsiStatus::task_set_full);
  while (rig.zero.held() != 0) rig.zero.release_all();
  for (std::size_t i = 0; i < copy_limits::max_operations; ++i) EXPECT_EQ(all[i]->status(), ScsiStatus::good);
  rig.zero.hold = false;
  EXPECT_EQ(start(99).status(), ScsiStatus::good);  // takes the place of the oldest
  EXPECT_EQ(refusal(rig, status_lid1(0)), invalid_field_in_cdb);
  EXPECT_EQ(ask(rig, status_lid1(1))[4], 0x01);
}

TEST(CopyOperationAbort, EndsACopyWhenItsOperationHasEnded) {
  CopyRig rig;
  EXPECT_EQ(refusal(rig, operation_abort(1)), invalid_field_in_cdb);
  rig.one.hold = true;
  Io copy = rig.copy(zero_to_one());
  copy.run();
  EXPECT_EQ(rig.io(operation_abort(1)).run().status(), ScsiStatus::good);
  EXPECT_FALSE(copy.ended);
  rig.one.release_all();
  EXPECT_TRUE(copy.ended);
  EXPECT_EQ(copy.sense(), 0x0a0000u);
  EXPECT_EQ(ask(rig, status_lid4(1))[5], 0x60);
}

TEST(CopyOperationAbort, EndsACopyThatWaits) {
  CopyRig rig;
  rig.one.hold = true;
  Io blocker = rig.io({0x2a, 0, 0, 0, 0, 100, 0, 0, 1, 0}, 1, bytes(512, 1));
  blocker.run();
  Io copy = rig.copy(zero_to_one());
  copy.run();
  EXPECT_EQ(rig.io(operation_abort(1)).run().status(), ScsiStatus::good);
  EXPECT_TRUE(copy.ended);
  EXPECT_EQ(copy.sense(), 0x0a0000u);
  EXPECT_EQ(rig.io(operation_abort(1)).run().status(), ScsiStatus::good);  // it is over: nothing to end
  rig.one.release_all();
}

TEST(ReceiveCopyOperatingParameters, Bytes) {
  CopyRig rig;
  const Data expected{0, 0, 0, 42, 0x01, 0, 0, 0, 0, 16, 0, 8, 0, 0, 0x02, 0xe0,  // 16 and 8, 736 bytes
                      0, 0x80, 0, 0,                                               // 8 MiB a segment
                      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,                           // no inline, held or stream data
                      0, 0, 0, 16, 16, 9, 0, 0, 0, 0, 0, 2, 0x02, 0xe4};
  EXPECT_EQ(ask(rig, {0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0}), expected);
  EXPECT_EQ(ask(rig, {0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0}), Data(expected.begin(), expected.begin() + 5));
  EXPECT_EQ(ask(rig, {0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0}, 2)[37], 12);
  EXPECT_EQ(refusal(rig, {0x84, 0x02, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0}), invalid_field_in_cdb);  // reserved
}

TEST(ReceiveCopyData, NothingIsHeldAndNothingForgotten) {
  CopyRig rig;
  const Data of_seven{0x84, 0x01, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0};
  EXPECT_EQ(refusal(rig, of_seven), invalid_field_in_cdb) << "no copy of this identifier";
  rig.one.hold = true;
  Io copy = rig.copy(zero_to_one(8, 7));
  copy.run();
  EXPECT_EQ(ask(rig, of_seven), (Data{0, 0, 0, 0}));
  rig.one.hold = false;
  rig.one.release_all();
  ASSERT_TRUE(copy.ended);
  EXPECT_EQ(ask(rig, of_seven), (Data{0, 0, 0, 0}));
  EXPECT_EQ(ask(rig, status_lid1(7))[4], 0x01) << "its status is still there";
  EXPECT_EQ(refusal(rig, of_seven), invalid_field_in_cdb);
}

TEST(ReceiveCopyData, OfALongIdentifierComesWithTheStatus) {
  CopyRig rig;
  const Data of_seven{0x84, 0x06, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0};
  EXPECT_EQ(refusal(rig, of_seven), invalid_field_in_cdb) << "no copy of this identifier";
  rig.one.hold = true;
  Io copy = rig.copy(zero_to_one(8, 7));
  copy.run();
  Data expected(36);
  expected[3] = 32;                                                // AVAILABLE DATA
  expected[5] = 0x11;                                              // in progress; HDD is 0
  std::fill_n(expected.begin() + 8, 4, std::uint8_t{0xff});        // no estimate
  const Data running = ask(rig, of_seven);
  ASSERT_EQ(running.size(), 36u);
  EXPECT_EQ(Data(running.begin(), running.begin() + 6), Data(expected.begin(), expected.begin() + 6));
  EXPECT_EQ(Data(running.begin() + 32, running.end()), Data(4)) << "HELD DATA LENGTH";
  rig.one.hold = false;
  rig.one.release_all();
  ASSERT_TRUE(copy.ended);
  expected[5] = 0x01;                                              // done, without errors
  expected[7] = 2;                                                 // a read and a write
  store_be64(&expected[16], 8 * 512);
  expected[25] = 1;                                                // segment
  EXPECT_EQ(ask(rig, of_seven), expected);
  EXPECT_EQ(ask(rig, of_seven), expected) << "and is still there";
  EXPECT_EQ(ask(rig, status_lid4(7))[5], 0x01);
  EXPECT_EQ(refusal(rig, of_seven), invalid_field_in_cdb) << "the status has been told";
}

TEST(ThirdPartyCopyVpd, Bytes) {
  CopyRig rig;
  const Data expected{0x00, 0x8f, 0, 136,
                      0x00, 0x01, 0, 16, 13, 0x83, 3, 0x00, 0x01, 0x1c, 0x84, 6, 0x00, 0x01, 0x03, 0x04, 0x05, 0x06, 0, 0,
                      0x00, 0x04, 0, 28, 0, 0, 0, 0, 0, 16, 0, 8, 0, 0, 0x02, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                      0x00, 0x08, 0, 4, 2, 0x02, 0xe4, 0,
                      0x00, 0x0c, 0, 4, 0, 2, 0xff, 0xff,
                      0x80, 0x01, 0, 32, 0, 0, 0, 16, 0, 0, 0, 16, 0, 0x80, 0, 0, 9, 0,
                      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                      0xc0, 0x01, 0, 28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  EXPECT_EQ(ask(rig, {0x12, 0x01, 0x8f, 0, 255, 0}), expected);
  EXPECT_EQ(ask(rig, {0x12, 0, 0, 0, 96, 0})[5] & 0x08, 0x08);  // 3PC
}

}  // namespace
}  // namespace perilune::scsi::test
