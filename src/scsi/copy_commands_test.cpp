// SPDX-License-Identifier: Apache-2.0
// EXTENDED COPY: which blocks move where, which units can be named, and what the sense data of a failure
// says.
#include <gtest/gtest.h>

#include "scsi/copy_operation.hpp"
#include "scsi/copy_test_support.hpp"

namespace perilune::scsi::test {
namespace {

using block::OpKind;
using block::OpStatus;

constexpr std::uint32_t unreachable = 0x0a0804;
constexpr std::uint32_t not_reachable = 0x0a0d02;
constexpr std::uint32_t party_failure = 0x0a0d01;
constexpr std::uint32_t wrong_parameter = 0x0a0000;
constexpr std::uint32_t inexact = 0x0a260a;

TEST(ExtendedCopy, CopiesBetweenTwoUnits) {
  CopyRig rig;
  const Data before = bytes_of(rig.one, 108, 8);
  // Written by hand from SPC-4 tables 130, 141 and 152.
  const Data list{0x01, 0x00, 0x00, 0x40, 0, 0, 0, 0, 0, 0, 0, 0x1c, 0, 0, 0, 0,                        // header
                  0xe4, 0x00, 0, 0, 0x01, 0x03, 0, 0x08, 0x30, 0, 0, 0, 0, 0, 0, 0xa0,                  // unit 0
                  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x00, 0x02, 0x00,
                  0xe4, 0x00, 0, 0, 0x01, 0x03, 0, 0x08, 0x30, 0, 0, 0, 0, 0, 0, 0xa1,                  // unit 1
                  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x00, 0x02, 0x00,
                  0x02, 0x00, 0x00, 0x18, 0, 0, 0, 1, 0, 0, 0, 8,                                       // 8 blocks
                  0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 100};                                    // 5 -> 100
  Io io = rig.copy(list);
  EXPECT_EQ(io.run().status(), ScsiStatus::good);
  EXPECT_EQ(io.task.data_transfer_length, list.size());
  EXPECT_EQ(bytes_of(rig.one, 100, 8), bytes_of(rig.zero, 5, 8));
  EXPECT_EQ(bytes_of(rig.one, 108, 8), before);
  EXPECT_EQ(rig.zero.kinds, (std::vector<OpKind>{OpKind::read}));
  EXPECT_EQ(rig.one.kinds, (std::vector<OpKind>{OpKind::write}));
}

TEST(ExtendedCopy, TheUnitThatGetsTheCommandNeedNotBePartOfIt) {
  CopyRig rig;
  EXPECT_EQ(rig.copy(zero_to_one(), 2).run().status(), ScsiStatus::good);
  EXPECT_EQ(bytes_of(rig.one, 100, 8), bytes_of(rig.zero, 0, 8));
}

TEST(ExtendedCopy, LongListIdentifierAndTheUnitItselfByItsNumber) {
  CopyRig rig;
  const Data list = lid4({cscd(naa_one)}, {segment(0xffff, 3, 0, 7, 2), segment(0xffff, 0, 0xffff, 2000, 1)});
  EXPECT_EQ(rig.io(CopyRig::extended_copy(list.size(), 1), 0, list).run().status(), ScsiStatus::good);
  EXPECT_EQ(bytes_of(rig.one, 7, 2), bytes_of(rig.zero, 3, 2));
  EXPECT_EQ(bytes_of(rig.zero, 2000, 1), bytes_of(rig.zero, 0, 1));
}

TEST(ExtendedCopy, SegmentsAreCopiedInTheirOrder) {
  CopyRig rig;
  const Data first = bytes_of(rig.zero, 0, 1);
  const Data list = lid1({cscd(naa_zero), cscd(naa_one)},
                         {segment(0, 0, 1, 0, 1), segment(1, 0, 0, 9, 1), segment(0, 9, 0, 10, 1), segment(0, 0, 1, 1, 0)});
  EXPECT_EQ(rig.copy(list).run().status(), ScsiStatus::good);
  EXPECT_EQ(bytes_of(rig.zero, 10, 1), first);
  EXPECT_EQ(rig.one.kinds.size(), 2u);  // the segment of no blocks touches nothing
}

TEST(ExtendedCopy, LargeSegmentsGoThroughTheScratchMemoryInSlices) {
  for (const std::size_t piece_bytes : {std::size_t{16384}, std::size_t{1000}, std::size_t{262144}}) {
    CopyRig rig;
    Io io = rig.copy(zero_to_one(1900));
    io.piece_bytes = piece_bytes;
    io.admit();
    EXPECT_EQ(io.task.need.scratch_bytes, 262144u);
    EXPECT_EQ(io.execute().status(), ScsiStatus::good);
    EXPECT_EQ(bytes_of(rig.one, 100, 1900), bytes_of(rig.zero, 0, 1900));
    EXPECT_GE(rig.one.kinds.size(), 4u);
  }
}

TEST(ExtendedCopy, OverlappingRangesGiveWhatTheSourceHeldBefore) {
  for (const std::uint64_t to : {std::uint64_t{1}, std::uint64_t{300}, std::uint64_t{600}}) {
    CopyRig rig;
    const Data forward = bytes_of(rig.zero, 0, 1200);
    EXPECT_EQ(rig.copy(lid1({cscd(naa_zero)}, {segment(0, 0, 0, to, 1200)})).run().status(),
              ScsiStatus::good);
    EXPECT_EQ(bytes_of(rig.zero, to, 1200), forward);
    const Data backward = bytes_of(rig.zero, to, 1200);
    EXPECT_EQ(rig.copy(lid1({cscd(naa_zero)}, {segment(0, to, 0, 0, 1200)})).run().status(),
              ScsiStatus::good);
    EXPECT_EQ(bytes_of(rig.zero, 0, 1200), backward);
  }
}

// ---- which units can be named

TEST(ExtendedCopy, UnitsOutsideTheMapOfTheNexusAreOutOfReach) {
  CopyRig rig({{0, 0}, {2, 2}});
  Io out = rig.copy(zero_to_one());
  EXPECT_EQ(out.run().sense(), not_reachable);
  Io in = rig.copy(lid1({cscd(naa_one), cscd(naa_zero)}, {segment(0, 0, 1, 0, 8)}));
  EXPECT_EQ(in.run().sense(), not_reachable);
  EXPECT_TRUE(rig.zero.kinds.empty() && rig.one.kinds.empty());
  // The other nexus, which sees it, may.
  const Data list = zero_to_one();
  EXPECT_EQ(Io(rig.device, *rig.b, CopyRig::extended_copy(list.size()), list).run().status(),
            ScsiStatus::good);
}

TEST(ExtendedCopy, LosesAUnitThatLeavesTheMapBetweenSegments) {
  CopyRig rig;
  const Data list = lid1({cscd(naa_zero), cscd(naa_one)}, {segment(0, 0, 1, 0, 1), segment(0, 1, 1, 1, 1)});
  rig.one.hold = true;
  Io io = rig.copy(list);
  io.run();
  ASSERT_EQ(rig.one.held(), 1u);
  rig.a->set_map(std::vector<LunMapping>{{0, 0}});
  rig.one.release_all();
  EXPECT_TRUE(io.ended);
  EXPECT_EQ(io.sense(), not_reachable);
  EXPECT_EQ(rig.one.kinds.size(), 1u);
}

TEST(ExtendedCopy, DesignatorsOfVpd83NameAUnit) {
  CopyRig rig;
  Data t10{0xe4, 0, 0, 0, 0x02, 0x01, 0, 14, 'P', 'E', 'R', 'I', 'L', 'U', 'N', 'E', 'd', 'i', 's', 'k', '-', '1'};
  t10.resize(32);
  EXPECT_EQ(rig.copy(lid1({cscd(naa_zero), t10}, {segment(0, 0, 1, 100, 8)})).run().status(),
            ScsiStatus::good);
  EXPECT_EQ(bytes_of(rig.one, 100, 8), bytes_of(rig.zero, 0, 8));
  rig.one.kinds.clear();
  const auto refused = [&](auto change) {
    Data wrong = cscd(naa_one);
    change(wrong);
    Io io = rig.copy(lid1({cscd(naa_zero), wrong}, {segment(0, 0, 1, 100, 8)}));
    io.run();
    EXPECT_TRUE(rig.one.kinds.empty());
    return io.sense();
  };
  EXPECT_EQ(refused([](Data& d) { d[15] ^= 1; d[8] = 0x31; }), not_reachable);
  EXPECT_EQ(refused([](Data& d) { d[4] = 0x02; }), not_reachable);         // NAA in ASCII
  EXPECT_EQ(refused([](Data& d) { d[5] = 0x02; }), not_reachable);         // as an EUI-64
  EXPECT_EQ(refused([](Data& d) { d[5] = 0x13; }), not_reachable);         // of a target port
  EXPECT_EQ(refused([](Data& d) { d[7] = 7; }), not_reachable);
  EXPECT_EQ(refused([](Data& d) { d[7] = 0; }), not_reachable);
  EXPECT_EQ(refused([](Data& d) { d[7] = 20; }), not_reachable);
  EXPECT_EQ(refused([](Data& d) { d[1] = 0x20; }), unreachable);           // NUL
  EXPECT_EQ(refused([](Data& d) { d[1] = 0x01; }), 0x0a0d03u);             // a tape
  EXPECT_EQ(refused([](Data& d) { d[30] = 0x10; }), wrong_parameter);      // blocks of 4096
  t10[7] = 13;
  EXPECT_EQ(rig.copy(lid1({cscd(naa_zero), t10}, {segment(0, 0, 1, 100, 8)})).run().sense(), not_reachable);
}

TEST(ExtendedCopy, IndexWithoutDescriptorEndsTheCopyAtItsSegment) {
  CopyRig rig;
  const Data list = lid1({cscd(naa_zero)}, {segment(0, 0, 0, 100, 2), segment(0, 0, 1, 200, 2), segment(0, 0, 0, 300, 2)});
  Io io = rig.copy(list);
  EXPECT_EQ(io.run().sense(), unreachable);
  // Segment 1; SKSV, SD, DESTINATION CSCD DESCRIPTOR ID.
  EXPECT_EQ(sense_bytes(io), (Data{0x70, 0, 0x0a, 0, 0, 0, 0, 10, 0, 0, 0, 1, 0x08, 0x04, 0, 0xa0, 0, 6}));
  EXPECT_EQ(bytes_of(rig.zero, 100, 2), bytes_of(rig.zero, 0, 2));
  EXPECT_NE(bytes_of(rig.zero, 300, 2), bytes_of(rig.zero, 0, 2));
  for (const std::uint16_t id :
       {std::uint16_t{1}, std::uint16_t{0x07ff}, std::uint16_t{0xf800}, std::uint16_t{0xfffe}}) {
    EXPECT_EQ(rig.copy(lid1({cscd(naa_zero)}, {segment(id, 0, 0, 0, 1)})).run().sense(), unreachable);
  }
}

// ---- ranges and block lengths

TEST(ExtendedCopy, RangesBeyondTheMediumAreNamed) {
  const auto sense_of = [](const Data& segment_bytes) {
    CopyRig rig;
    Io io = rig.copy(lid1({cscd(naa_zero), cscd(naa_one)}, {segment_bytes}));
    io.run();
    EXPECT_TRUE(rig.zero.kinds.empty() && rig.one.kinds.empty());
    return sense_bytes(io);
  };
  const auto expected = [](std::uint8_t byte) {
    return Data{0x70, 0, 0x0a, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0xa0, 0, byte};
  };
  constexpr std::uint64_t far = ~std::uint64_t{0};
  EXPECT_EQ(sense_of(segment(0, 2041, 1, 0, 8)), expected(12));
  EXPECT_EQ(sense_of(segment(0, far, 1, 0, 1)), expected(12));
  EXPECT_EQ(sense_of(segment(0, far - 7, 1, 0, 8)), expected(12));
  EXPECT_EQ(sense_of(segment(0, 0, 1, 2041, 8)), expected(20));
  EXPECT_EQ(sense_of(segment(0, 0, 1, far, 8)), expected(20));
  EXPECT_EQ(sense_of(segment(0, 0, 1, 0, 0xffff)), expected(10));  // over MAXIMUM SEGMENT LENGTH
  CopyRig rig;
  EXPECT_EQ(rig.copy(lid1({cscd(naa_zero), cscd(naa_one)}, {segment(0, 2040, 1, 2040, 8)})).run().status(),
            ScsiStatus::good);
}

// Unit 0 has blocks of 512 bytes, unit 2 of 4096.
Io& copy_mixed(CopyRig& rig, std::optional<Io>& io, const Data& segment_bytes, bool pad_zero, bool pad_two) {
  const Data list = lid1({cscd(naa_zero, 512, pad_zero), cscd(naa_two, 4096, pad_two)}, {segment_bytes});
  const Data cdb = CopyRig::extended_copy(list.size());
  io.emplace(rig.device, *rig.a, cdb, list);
  return io->run();
}

TEST(ExtendedCopy, BlocksOfDifferentLengthThatComeOutEven) {
  CopyRig rig;
  std::optional<Io> io;
  EXPECT_EQ(copy_mixed(rig, io, segment(0, 3, 1, 10, 1600), false, false).status(),
            ScsiStatus::good);  // DC 0: source blocks
  EXPECT_EQ(bytes_of(rig.two, 10, 200, 4096), bytes_of(rig.zero, 3, 1600));
  EXPECT_EQ(copy_mixed(rig, io, segment(0, 9, 1, 20, 3, 0x02), false, false).status(), ScsiStatus::good);  // DC 1
  EXPECT_EQ(bytes_of(rig.two, 20, 3, 4096), bytes_of(rig.zero, 9, 24));
  EXPECT_EQ(copy_mixed(rig, io, segment(1, 20, 0, 500, 3), false, false).status(), ScsiStatus::good);
  EXPECT_EQ(bytes_of(rig.zero, 500, 24), bytes_of(rig.two, 20, 3, 4096));
}

TEST(ExtendedCopy, InexactSegmentsFollowThePadBits) {
  CopyRig rig;
  rig.two.memory.assign(rig.two.memory.size(), 0xee);
  std::optional<Io> io;
  const Data ten = segment(0, 0, 1, 0, 10);  // one block of 4096 and two blocks too much
  EXPECT_EQ(copy_mixed(rig, io, ten, false, false).sense(), inexact);
  EXPECT_EQ(rig.two.memory, Data(rig.two.memory.size(), 0xee));
  for (const bool source_pads : {false, true}) {  // the rest of the last block is filled with zeroes
    EXPECT_EQ(copy_mixed(rig, io, ten, source_pads, true).status(), ScsiStatus::good);
    Data expected = bytes_of(rig.zero, 0, 10);
    expected.resize(8192);
    EXPECT_EQ(bytes_of(rig.two, 0, 2, 4096), expected);
  }
  // thrown away
  EXPECT_EQ(copy_mixed(rig, io, segment(0, 8, 1, 3, 10), true, false).status(), ScsiStatus::good);
  EXPECT_EQ(bytes_of(rig.two, 3, 1, 4096), bytes_of(rig.zero, 8, 8));
  EXPECT_EQ(bytes_of(rig.two, 4, 1, 4096), Data(4096, 0xee));
  // all of it is
  EXPECT_EQ(copy_mixed(rig, io, segment(0, 8, 1, 5, 2), true, false).status(), ScsiStatus::good);
  EXPECT_EQ(bytes_of(rig.two, 5, 1, 4096), Data(4096, 0xee));
}

TEST(ExtendedCopy, WhatTheSourceBlocksHoldTooMuchIsThrownAway) {
  CopyRig rig;
  rig.two.memory.assign(rig.two.memory.size(), 0xdd);
  const Data after = bytes_of(rig.zero, 103, 1);
  std::optional<Io> io;
  const Data three = segment(1, 0, 0, 100, 3, 0x02);  // DC 1: three blocks of 512, from one of 4096
  EXPECT_EQ(copy_mixed(rig, io, three, false, false).sense(), inexact);
  for (const bool zero_pads : {false, true}) {
    EXPECT_EQ(copy_mixed(rig, io, three, zero_pads, true).status(), ScsiStatus::good);
    EXPECT_EQ(bytes_of(rig.zero, 100, 3), Data(1536, 0xdd));
    EXPECT_EQ(bytes_of(rig.zero, 103, 1), after);
  }
  EXPECT_EQ(copy_mixed(rig, io, three, true, false).status(), ScsiStatus::good);  // kept, after the last
                                                                                  // segment: for nobody
}

TEST(ExtendedCopy, CatKeepsNothingAfterTheLastSegmentAndIsRefusedBefore) {
  CopyRig rig;
  std::optional<Io> io;
  EXPECT_EQ(copy_mixed(rig, io, segment(0, 0, 1, 0, 10, 0x01), false, false).status(), ScsiStatus::good);
  EXPECT_EQ(bytes_of(rig.two, 0, 1, 4096), bytes_of(rig.zero, 0, 8));
  EXPECT_EQ(bytes_of(rig.two, 1, 1, 4096), Data(4096, 0));
  const Data list = lid1({cscd(naa_zero), cscd(naa_two, 4096)},
                         {segment(0, 0, 1, 5, 10, 0x01), segment(0, 10, 1, 6, 6)});
  EXPECT_EQ(rig.copy(list).run().sense(), inexact);
  EXPECT_EQ(bytes_of(rig.two, 5, 1, 4096), Data(4096, 0));
}

// ---- what the units say

TEST(ExtendedCopy, ZeroesStayThin) {
  CopyRig rig;
  rig.one.memory.assign(rig.one.memory.size(), 7);
  std::fill_n(rig.zero.memory.begin(), 8 * 512, std::uint8_t{0});
  EXPECT_EQ(rig.copy(zero_to_one()).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.one.kinds, (std::vector<OpKind>{OpKind::write_zeroes}));
  EXPECT_EQ(bytes_of(rig.one, 100, 8), Data(8 * 512, 0));
  EXPECT_EQ(bytes_of(rig.one, 108, 1), Data(512, 7));
  rig.one.kinds.clear();
  rig.one.fail_next = {OpStatus::unsupported};
  EXPECT_EQ(rig.copy(zero_to_one()).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.one.kinds, (std::vector<OpKind>{OpKind::write_zeroes, OpKind::write}));
  rig.one.kinds.clear();
  rig.one.geometry().thin = false;
  EXPECT_EQ(rig.copy(zero_to_one()).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.one.kinds, (std::vector<OpKind>{OpKind::write}));
}

TEST(ExtendedCopy, IsAsDurableAsAWriteOfItsDestination) {
  CopyRig rig;
  EXPECT_EQ(rig.copy(zero_to_one()).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.one.fuas, (std::vector<bool>{false}));
  rig.unit(1).state().wce = false;
  rig.one.fuas.clear();
  EXPECT_EQ(rig.copy(zero_to_one()).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.one.fuas, (std::vector<bool>{true}));
  rig.one.geometry().fua = false;
  rig.one.kinds.clear();
  EXPECT_EQ(rig.copy(zero_to_one()).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.one.kinds, (std::vector<OpKind>{OpKind::write, OpKind::flush}));
  rig.one.fail_next = {OpStatus::ok, OpStatus::write_error};
  EXPECT_EQ(rig.copy(zero_to_one()).run().sense(), party_failure);
  rig.one.kinds.clear();
  Io io = rig.copy(zero_to_one());  // nothing can be durable any more
  EXPECT_EQ(io.run().sense(), party_failure);
  EXPECT_TRUE(rig.one.kinds.empty());
}

TEST(ExtendedCopy, ForwardsWhatAPartySaysInFixedFormat) {
  CopyRig rig;
  rig.zero.fail_next = {OpStatus::read_error};
  Io io = rig.copy(lid1({cscd(naa_zero), cscd(naa_one)}, {segment(0, 0, 1, 0, 0), segment(0, 6, 1, 100, 8)}));
  EXPECT_EQ(io.run().status(), ScsiStatus::check_condition);
  EXPECT_EQ(sense_bytes(io), (Data{0x70, 0, 0x0a, 0, 0, 0, 0, 29, 18, 0, 0, 1, 0x0d, 0x01, 0, 0, 0, 0,  // source at 18
                                   0x02, 0xf0, 0, 0x03, 0, 0, 0, 6, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0}));
  EXPECT_TRUE(rig.one.kinds.empty());
}

TEST(ExtendedCopy, ForwardsWhatAPartySaysInDescriptorFormat) {
  CopyRig rig;
  rig.unit(0).state().d_sense = true;
  rig.one.geometry().read_only = true;
  Io io = rig.copy(zero_to_one());
  EXPECT_EQ(io.run().status(), ScsiStatus::check_condition);
  EXPECT_EQ(sense_bytes(io), (Data{0x72, 0x0a, 0x0d, 0x01, 0, 0, 0, 24,              //
                                   0x01, 0x0a, 0,    0,    0, 0, 0, 0,  0, 0, 0, 0,  // segment 0
                                   0x0c, 0x0a, 0x02, 0x02,  // destination, CHECK CONDITION
                                   0x72, 0x07, 0x27, 0x00, 0, 0, 0, 0}));
  Io index = rig.copy(lid1({cscd(naa_zero)}, {segment(0, 0, 5, 0, 1)}));
  EXPECT_EQ(index.run().status(), ScsiStatus::check_condition);
  EXPECT_EQ(sense_bytes(index), (Data{0x72, 0x0a, 0x08, 0x04, 0, 0, 0, 20,             //
                                      0x01, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,        //
                                      0x02, 0x06, 0, 0, 0xa0, 0, 6, 0}));
}

// The key, code and qualifier of the forwarded fixed sense data.
std::uint32_t forwarded(const Io& io, std::size_t offset_byte) {
  const std::size_t at = io.task.sense[offset_byte];
  return static_cast<std::uint32_t>(io.task.sense[at + 3] << 16 | io.task.sense[at + 13] << 8 |
                                    io.task.sense[at + 14]);
}

TEST(ExtendedCopy, RespectsTheStateOfBothUnits) {
  constexpr std::size_t source = 8;
  constexpr std::size_t destination = 9;
  const auto failing = [](auto change, std::size_t party) {
    CopyRig rig;
    change(rig);
    Io io = rig.copy(zero_to_one(), 2);
    EXPECT_EQ(io.run().sense(), party_failure);
    EXPECT_TRUE(rig.one.kinds.empty());
    EXPECT_EQ(io.task.sense[party == source ? destination : source], 0);
    return forwarded(io, party);
  };
  EXPECT_EQ(failing([](CopyRig& r) { r.unit(1).state().swp = true; }, destination), 0x072702u);
  EXPECT_EQ(failing([](CopyRig& r) { r.one.geometry().read_only = true; }, destination), 0x072700u);
  EXPECT_EQ(failing([](CopyRig& r) { r.unit(0).state().stopped = true; }, source), 0x020402u);
  EXPECT_EQ(failing([](CopyRig& r) { r.unit(1).state().stopped = true; }, destination), 0x020402u);
  const auto map_one_read_only = [](CopyRig& r) {
    r.a->set_map(std::vector<LunMapping>{
        {.lun = 0, .unit = 0}, {.lun = 1, .unit = 1, .read_only = true}, {.lun = 2, .unit = 2}});
    r.settle();
  };
  EXPECT_EQ(failing(map_one_read_only, destination), 0x072700u) << "for this nexus";
  constexpr auto standby = AccessState::standby;
  EXPECT_EQ(failing([](CopyRig& r) { ASSERT_TRUE(r.unit(0).set_access_state(1, standby)); }, source),
            0x02040bu);
  EXPECT_EQ(failing([](CopyRig& r) { ASSERT_TRUE(r.unit(1).set_access_state(1, standby)); }, destination),
            0x02040bu);
  CopyRig rig;
  rig.unit(0).state().swp = true;  // a source, and the unit that gets the command, may be protected
  EXPECT_EQ(rig.copy(zero_to_one()).run().status(), ScsiStatus::good);
}

TEST(ExtendedCopy, NoSpaceAtTheDestination) {
  CopyRig rig;
  rig.one.fail_next = {OpStatus::no_space};
  Io io = rig.copy(zero_to_one());
  EXPECT_EQ(io.run().sense(), party_failure);
  EXPECT_EQ(forwarded(io, 9), 0x072707u);
}

}  // namespace
}  // namespace perilune::scsi::test
