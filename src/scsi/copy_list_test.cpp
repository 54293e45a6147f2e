// SPDX-License-Identifier: Apache-2.0
// The parameter lists of EXTENDED COPY: what is refused before any unit is looked at, with which sense code
// and pointer.
#include <gtest/gtest.h>

#include <random>

#include "scsi/copy_operation.hpp"
#include "scsi/copy_test_support.hpp"

namespace perilune::scsi::test {
namespace {

using block::OpKind;

constexpr std::uint32_t list_length_error = 0x051a00;
constexpr std::uint32_t invalid_field = 0x052600;

// The field pointer of fixed sense data: 0x80 | BPV and bit, then the byte.
std::uint32_t pointer(const Io& io) { return load_be24(&io.task.sense[15]); }

// Sends the list and expects that it is refused, and that no unit was touched.
void expect_refused(const Data& list, std::uint32_t sense, std::uint32_t field = 0,
                    std::uint8_t service_action = 0) {
  CopyRig rig;
  Io io = rig.io(CopyRig::extended_copy(list.size(), service_action), 0, list);
  EXPECT_EQ(io.run().sense(), sense);
  EXPECT_EQ(pointer(io), field);
  EXPECT_TRUE(rig.zero.kinds.empty() && rig.one.kinds.empty());
}

TEST(CopyList, NoListIsNoError) {
  for (const std::uint8_t service_action : Data{0, 1}) {
    CopyRig rig;
    Io io = rig.io(CopyRig::extended_copy(0, service_action));
    EXPECT_EQ(io.run().status(), ScsiStatus::good);
    EXPECT_EQ(io.task.need.scratch_bytes, 0u);
    EXPECT_EQ(rig.io({0x84, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0}, 0, {}, 12).run().sense(), 0x052400u);
  }
}

TEST(CopyList, TruncatedAnywhereIsAParameterListLengthError) {
  for (const std::uint8_t service_action : Data{0, 1}) {
    const Data whole = service_action == 0
                           ? zero_to_one()
                           : lid4({cscd(naa_zero), cscd(naa_one)}, {segment(0, 0, 1, 100, 8)});
    for (std::size_t bytes = 1; bytes < whole.size(); ++bytes) {
      SCOPED_TRACE(bytes);
      expect_refused(Data(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(bytes)),
                     list_length_error, 0, service_action);
    }
  }
}

TEST(CopyList, InitiatorThatSendsLessThanTheCdbSaysIsTruncatedToo) {
  CopyRig rig;
  Data list = zero_to_one();
  const std::size_t said = list.size();
  list.pop_back();
  EXPECT_EQ(rig.io(CopyRig::extended_copy(said), 0, list).run().sense(), list_length_error);
  EXPECT_EQ(rig.io(CopyRig::extended_copy(0xffff'ffff), 0, list).run().sense(), list_length_error);
  EXPECT_EQ(rig.io(CopyRig::extended_copy(limits::max_parameter_bytes + 1), 0, list).run().sense(),
            list_length_error);
}

TEST(CopyList, TooManyDescriptors) {
  const std::vector<Data> one_cscd{cscd(naa_zero)};
  const std::vector<Data> one_segment{segment(0, 0, 0, 100, 1)};
  const std::vector<Data> cscds(copy_limits::max_cscds + 1, cscd(naa_zero));
  const std::vector<Data> segments(copy_limits::max_segments + 1, segment(0, 0, 0, 100, 1));
  expect_refused(lid1(cscds, one_segment), 0x052606);
  expect_refused(lid1(one_cscd, segments), 0x052608);
  expect_refused(lid1(cscds, segments), list_length_error);  // over MAXIMUM DESCRIPTOR LIST LENGTH
  expect_refused(lid4(cscds, one_segment), 0x052606, 0, 1);
  expect_refused(lid4(one_cscd, segments), 0x052608, 0, 1);
  Data huge = lid1(one_cscd, one_segment);
  store_be32(&huge[8], 0xffff'ffe4);
  expect_refused(huge, list_length_error);
}

TEST(CopyList, AsManyDescriptorsAsAdvertisedAreServed) {
  CopyRig rig;
  const std::vector<Data> cscds(copy_limits::max_cscds, cscd(naa_zero));
  std::vector<Data> segments;
  for (std::uint16_t i = 0; i < copy_limits::max_segments; ++i) {
    segments.push_back(segment(i, i, static_cast<std::uint16_t>(15 - i), 1000u + i, 1));
  }
  EXPECT_EQ(rig.copy(lid1(cscds, segments)).run().status(), ScsiStatus::good);
  EXPECT_EQ(bytes_of(rig.zero, 1000, copy_limits::max_segments),
            bytes_of(rig.zero, 0, copy_limits::max_segments));
}

TEST(CopyList, InlineDataIsOverItsLimitOfNone) {
  Data list = zero_to_one();
  store_be32(&list[12], 1);
  list.push_back(0);
  expect_refused(list, 0x05260b);
  Data long_list = lid4({cscd(naa_zero)}, {segment(0, 0, 0, 100, 1)});
  store_be16(&long_list[46], 0xffff);
  expect_refused(long_list, 0x05260b, 0, 1);
}

TEST(CopyList, OnlyIdentificationDescriptorsAndBlockToBlockSegments) {
  CopyRig rig;
  for (int code = 0; code < 256; ++code) {
    if (code != 0xe4) {
      Data list = zero_to_one();
      list[16] = static_cast<std::uint8_t>(code);
      EXPECT_EQ(rig.copy(list).run().sense(), 0x052607u);
    }
    if (code != 0x02) {
      Data list = zero_to_one();
      list[16 + 64] = static_cast<std::uint8_t>(code);
      EXPECT_EQ(rig.copy(list).run().sense(), 0x052609u);
    }
  }
  EXPECT_TRUE(rig.zero.kinds.empty() && rig.one.kinds.empty());
}

TEST(CopyList, WrongFieldsAreNamed) {
  Data list = zero_to_one();
  list[1] = 0x08;  // LIST ID USAGE 01b
  expect_refused(list, invalid_field, 0x8c0001);
  list = zero_to_one();
  list[1] = 0x18;  // 11b, and an identifier
  expect_refused(list, invalid_field, 0x8f0000);
  list = zero_to_one();
  list[16 + 7] = 21;  // DESIGNATOR LENGTH
  expect_refused(list, invalid_field, 0x8f0017);
  for (const std::uint16_t length :
       {std::uint16_t{0}, std::uint16_t{0x17}, std::uint16_t{0x19}, std::uint16_t{0xffff}}) {
    list = zero_to_one();
    store_be16(&list[16 + 64 + 2], length);  // DESCRIPTOR LENGTH
    expect_refused(list, invalid_field, 0x8f0052);
  }
  list = zero_to_one();
  store_be16(&list[2], 63);  // descriptors that are not whole
  expect_refused(list, list_length_error);
}

TEST(CopyList, WhatDoesNotConcernADiskIsIgnored) {
  CopyRig rig;
  Data list = zero_to_one();
  list[1] = 0x27;                                 // STR, PRIORITY
  list[16 + 1] = 0xc0;                            // LU ID TYPE
  list[16 + 3] = 1;                               // RELATIVE INITIATOR PORT IDENTIFIER
  EXPECT_EQ(rig.copy(list).run().status(), ScsiStatus::good);
  EXPECT_EQ(bytes_of(rig.one, 100, 8), bytes_of(rig.zero, 0, 8));
}

TEST(CopyList, WrongFieldsOfTheLongHeaderAreNamed) {
  const Data good = lid4({cscd(naa_zero), cscd(naa_one)}, {segment(0, 0, 1, 100, 8)});
  const auto with = [&](std::size_t byte, std::uint8_t value) {
    Data list = good;
    list[byte] = value;
    return list;
  };
  expect_refused(with(0, 0x00), invalid_field, 0x8f0000, 1);
  expect_refused(with(3, 0x1f), invalid_field, 0x8f0002, 1);
  expect_refused(with(15, 0x02), invalid_field, 0x89000f, 1);  // G_SENSE
  expect_refused(with(15, 0x01), invalid_field, 0x88000f, 1);  // IMMED
  expect_refused(with(16, 0xfe), invalid_field, 0x8f0010, 1);
  expect_refused(with(1, 0x18), invalid_field, 0x8f0014, 1);   // an identifier with LIST ID USAGE 11b
}

TEST(CopyList, MutatedListsEndInOrder) {  // the channels assert that no operation leaves the disk or the
                                          // memory given
  CopyRig rig;
  std::mt19937 engine(20261121);
  const auto random = [&] { return static_cast<std::uint32_t>(engine()); };
  const std::vector<Data> cscds{cscd(naa_zero), cscd(naa_one, 0), cscd(naa_two, 4096, true)};
  const std::vector<Data> segments{segment(0, 0, 1, 100, 8), segment(1, 0, 2, 3, 24, 0x01), segment(2, 0, 0, 9, 9, 0x02)};
  for (int i = 0; i < 4000; ++i) {
    const std::uint8_t service_action = random() % 2;
    Data list = service_action == 0 ? lid1(cscds, segments) : lid4(cscds, segments);
    for (std::uint32_t n = random() % 4; n != 0; --n) {
      const std::uint32_t at = random() % static_cast<std::uint32_t>(list.size());
      list[at] = static_cast<std::uint8_t>(random());
    }
    if (random() % 8 == 0) list.resize(random() % list.size());
    Io io = rig.io(CopyRig::extended_copy(list.size(), service_action), 0, list);
    io.run();
    ASSERT_TRUE(io.ended);
    ASSERT_EQ(io.status() == ScsiStatus::check_condition, io.task.sense_length != 0);
    ASSERT_EQ(rig.device.tasks(), 0u);
  }
}

}  // namespace
}  // namespace perilune::scsi::test
