// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>

#include "scsi/shard_test_support.hpp"

namespace perilune::scsi::test {
namespace {

using Data = std::vector<std::uint8_t>;

constexpr std::uint32_t guard_failed = 0x0b1001;
constexpr std::uint32_t application_tag_failed = 0x0b1002;
constexpr std::uint32_t reference_tag_failed = 0x0b1003;
constexpr std::uint32_t invalid_cdb_field = 0x052400;
constexpr std::uint32_t invalid_opcode = 0x052000;

block::Geometry with_room(std::uint64_t blocks = 2048) {
  block::Geometry geometry = FakeChannel::disk(blocks, 520);
  geometry.protection_bytes = 8;
  geometry.in_memory = true;
  return geometry;
}

// A disk whose initiators have formatted it.
struct ProtectedRig : Rig {
  explicit ProtectedRig(int type, block::Geometry geometry = with_room()) : Rig(geometry) {
    const Data options{0x00, 0x80, 0xc0, 0xd0};
    const auto at = static_cast<std::size_t>(type);
    const Data list = type == 3 ? Data{1, 0, 0, 0} : Data{};
    EXPECT_EQ(io({0x04, options[at], 0, 0, 0, 0}, list).run().status(), ScsiStatus::good);
    channel.kinds.clear();
  }
  void own_application_tags() {  // ATO
    Io select =
        io({0x15, 0x10, 0, 0, 16, 0}, {0, 0, 0, 0, 0x0a, 10, 0, 0x10, 0, 0x80, 0, 0, 0xff, 0xff, 0, 0});
    EXPECT_EQ(select.run().status(), ScsiStatus::good);
    settle();
  }
  std::uint8_t* stored(std::uint64_t lba) { return channel.memory.data() + lba * 520; }
};

Data cdb10(std::uint8_t opcode, std::uint32_t lba, std::uint16_t blocks, std::uint8_t options = 0) {
  return {opcode,
          options,
          0,
          0,
          static_cast<std::uint8_t>(lba >> 8),
          static_cast<std::uint8_t>(lba),
          0,
          static_cast<std::uint8_t>(blocks >> 8),
          static_cast<std::uint8_t>(blocks),
          0};
}
Data cdb32(std::uint8_t action, std::uint64_t lba, std::uint32_t blocks, std::uint8_t options,
           std::uint32_t reference, std::uint16_t tag = 0, std::uint16_t mask = 0) {
  Data cdb(32);
  cdb[0] = 0x7f;
  cdb[7] = 0x18;
  cdb[9] = action;
  cdb[10] = options;
  store_be64(&cdb[12], lba);
  store_be32(&cdb[20], reference);
  store_be16(&cdb[24], tag);
  store_be16(&cdb[26], mask);
  store_be32(&cdb[28], blocks);
  return cdb;
}
// READ or WRITE in the form that transfers protection information on this type; `code` in RDPROTECT or
// WRPROTECT.
Data moving(int type, bool write, std::uint32_t lba, std::uint16_t blocks, int code,
            std::uint32_t reference = 0, std::uint16_t tag = 0, std::uint16_t mask = 0) {
  const auto options = static_cast<std::uint8_t>(code << 5);
  if (type == 2) return cdb32(write ? 0x0b : 0x09, lba, blocks, options, reference, tag, mask);
  return cdb10(write ? 0x2a : 0x28, lba, blocks, options);
}

// SBC-3 table 13: the CRC of 32 bytes of FFh is A293h; zeroes before them do not change it.
constexpr std::uint16_t sample_guard = 0xa293;
Data sample_block() {
  Data block(512);
  std::fill(block.end() - 32, block.end(), std::uint8_t{0xff});
  return block;
}
Data field(std::uint16_t guard, std::uint16_t tag, std::uint32_t reference) {
  Data bytes(8);
  store_be16(bytes.data(), guard);
  store_be16(&bytes[2], tag);
  store_be32(&bytes[4], reference);
  return bytes;
}
Data operator+(Data a, const Data& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}
Data tail(const Data& data, std::size_t block = 0) {
  const auto at = data.begin() + static_cast<std::ptrdiff_t>(block * 520 + 512);
  return {at, at + 8};
}
const Data blank_field(8, 0xff);

std::uint64_t information(const Io& io) {  // fixed format
  EXPECT_EQ(io.task.sense[0], 0xf0);
  return load_be32(&io.task.sense[3]);
}

// ---- what is told

TEST(ProtectionInformation, IsAdvertised) {
  for (int type = 0; type <= 3; ++type) {
    ProtectedRig rig(type);
    const Data capacity =
        rig.io({0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0}, {}, 32).run().data_in();
    EXPECT_EQ(load_be64(capacity.data()), 2047u);
    EXPECT_EQ(load_be32(&capacity[8]), 512u);
    EXPECT_EQ(capacity[12], (Data{0x00, 0x01, 0x03, 0x05}[static_cast<std::size_t>(type)]))
        << type;  // P_TYPE, PROT_EN
    EXPECT_EQ(capacity[13], 0x00);
    EXPECT_EQ(rig.io({0x12, 0, 0, 0, 96, 0}, {}, 96).run().data_in()[5] & 0x01, 0x01);  // PROTECT
    EXPECT_EQ(rig.io({0x12, 1, 0x86, 0, 64, 0}, {}, 64).run().data_in()[4],
              0x3f);  // SPT 111b, the three checks
    EXPECT_EQ(rig.io({0x1a, 8, 0x4a, 0, 64, 0}, {}, 64).run().data_in()[4 + 5], 0xe0);  // ATO may be changed
  }
  Rig without;
  EXPECT_EQ(without.io({0x12, 0, 0, 0, 96, 0}, {}, 96).run().data_in()[5] & 0x01, 0x00);
  EXPECT_EQ(without.io({0x12, 1, 0x86, 0, 64, 0}, {}, 64).run().data_in()[4], 0x00);
  EXPECT_EQ(without.io({0x1a, 8, 0x4a, 0, 64, 0}, {}, 64).run().data_in()[4 + 5], 0x40);
}

TEST(ProtectionInformation, CommandsOfThirtyTwoBytesAreThoseOfType2) {
  for (int type = 0; type <= 3; ++type) {
    ProtectedRig rig(type);
    for (const std::uint8_t action : Data{0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0f}) {
      const Data one = rig.io({0xa3, 0x0c, 0x03, 0x7f, 0, action, 0, 0, 0, 64, 0, 0}, {}, 64).run().data_in();
      EXPECT_EQ(one[1], type == 2 ? 0x03 : 0x01);
      if (type != 2) {
        EXPECT_EQ(rig.io(cdb32(action, 0, 1, 0x20, 0), Data(520), 520).run().sense(), invalid_opcode);
      }
    }
  }
  ProtectedRig rig(2);
  EXPECT_EQ(rig.io({0xa3, 0x0c, 0x03, 0x7f, 0, 0x09, 0, 0, 0, 64, 0, 0}, {}, 64).run().data_in(),
            (Data{0, 3, 0, 32, 0x7f, 0, 0, 0, 0, 0, 0x1f, 0x18, 0, 0x09, 0xf8, 0} + Data(20, 0xff)));
}

TEST(ProtectionInformation, OnType2NoShorterCommandMayCarryIt) {
  ProtectedRig rig(2);
  for (const std::uint8_t opcode : Data{0x28, 0x2a, 0x2e, 0x2f, 0x41}) {
    EXPECT_EQ(rig.io(cdb10(opcode, 0, 1, 0x20), Data(520), 520).run().sense(), invalid_opcode) << int{opcode};
    EXPECT_EQ(rig.io(cdb10(opcode, 0, 1), Data(512), 512).run().status(), ScsiStatus::good) << int{opcode};
  }
}

TEST(ProtectionInformation, FieldsThatMeanNothingAreRefused) {
  for (const int type : {0, 1, 3}) {
    ProtectedRig rig(type);
    for (const std::uint8_t opcode : Data{0x28, 0x2a, 0x2e, 0x2f, 0x41}) {
      for (const int code : {6, 7}) {
        Io io = rig.io(cdb10(opcode, 0, 1, static_cast<std::uint8_t>(code << 5)), Data(520), 520);
        EXPECT_EQ(io.run().sense(), invalid_cdb_field);
        EXPECT_EQ(load_be16(&io.task.sense[16]), 1);
      }
      if (type == 0) {
        EXPECT_EQ(rig.io(cdb10(opcode, 0, 1, 0x20), Data(520), 520).run().sense(), invalid_cdb_field);
      }
    }
  }
}

// ---- what is stored, and what comes back

TEST(ProtectionInformation, BlocksThatWereNeverWrittenHaveNone) {
  for (int type = 1; type <= 3; ++type) {
    ProtectedRig rig(type);
    Io io = rig.io(moving(type, false, 7, 2, 1, 7), {}, 1040);
    EXPECT_EQ(io.run().status(), ScsiStatus::good);
    EXPECT_EQ(io.data_in(), Data(512) + blank_field + Data(512) + blank_field);
  }
}

TEST(ProtectionInformation, IsMadeForWhatComesWithout) {
  for (int type = 1; type <= 3; ++type) {
    ProtectedRig rig(type);
    const std::uint32_t reference = type == 1 ? 5 : 0xffff'ffff;
    EXPECT_EQ(rig.io(cdb10(0x2a, 5, 1), sample_block()).run().status(), ScsiStatus::good);
    Io io = rig.io(moving(type, false, 5, 1, 1, reference), {}, 520);
    EXPECT_EQ(io.run().status(), ScsiStatus::good) << type;
    EXPECT_EQ(io.data_in(), sample_block() + field(sample_guard, 0x0000, reference));
    EXPECT_EQ(rig.io(cdb10(0x28, 5, 1), {}, 512).run().data_in(), sample_block());
    // On the medium: the complement, A293h -> 5D6Ch.
    const Data medium(rig.stored(5) + 512, rig.stored(5) + 520);
    EXPECT_EQ(medium, type == 1 ? (Data{0x5d, 0x6c, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfa})
                                : (Data{0x5d, 0x6c, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00}));
  }
}

TEST(ProtectionInformation, WhereInitiatorsOwnTheApplicationTagTheTargetMakesNone) {
  ProtectedRig rig(1);
  rig.own_application_tags();
  EXPECT_EQ(rig.io(cdb10(0x2a, 5, 1), sample_block()).run().status(), ScsiStatus::good);
  EXPECT_EQ(tail(rig.io(cdb10(0x28, 5, 1, 0x20), {}, 520).run().data_in()), field(sample_guard, 0xffff, 5));
}

TEST(ProtectionInformation, ComesBackAsItCame) {
  for (int type = 1; type <= 3; ++type) {
    ProtectedRig rig(type);
    const std::uint32_t reference = type == 1 ? 9 : 0x1234'5678;
    const Data two =
        sample_block() + field(sample_guard, 0xabcd, reference) + Data(512) + field(0, 0x0001, reference + 1);
    for (const std::size_t piece : {16384u, 520u, 516u, 7u}) {  // the transport's memory may be cut anywhere
      Io write = rig.io(moving(type, true, 9, 2, 1, reference), two);
      write.piece_bytes = std::max<std::size_t>(piece, 520 * 2 / 60);
      EXPECT_EQ(write.run().status(), ScsiStatus::good) << type;
      Io read = rig.io(moving(type, false, 9, 2, 1, reference), {}, 1040);
      read.piece_bytes = write.piece_bytes;
      EXPECT_EQ(read.run().status(), ScsiStatus::good);
      EXPECT_EQ(read.data_in(), two);
    }
    Io write_and_verify =
        type == 2 ? rig.io(cdb32(0x0c, 9, 2, 0x22, reference), two) : rig.io(cdb10(0x2e, 9, 2, 0x22), two);
    EXPECT_EQ(write_and_verify.run().status(), ScsiStatus::good);
    EXPECT_EQ(rig.io(cdb10(0x28, 9, 2), {}, 1024).run().data_in(), sample_block() + Data(512));
  }
}

TEST(ProtectionInformation, LengthsAndResidualsCountIt) {
  ProtectedRig rig(1);
  Io read = rig.io(cdb10(0x28, 0, 4, 0x20), {}, 1000);
  EXPECT_EQ(read.run().status(), ScsiStatus::good);
  EXPECT_EQ(read.task.data_transfer_length, 4u * 520);
  EXPECT_EQ(read.task.need.data_in_bytes, 2u * 520);
  Io write =
      rig.io(cdb10(0x2a, 0, 2, 0x60), sample_block() + Data(8, 0x11) + Data(500, 0x22));  // a block and a bit
  EXPECT_EQ(write.run().status(), ScsiStatus::good);
  EXPECT_EQ(write.task.data_transfer_length, 1040u);
  EXPECT_EQ(Data(rig.stored(0) + 512, rig.stored(0) + 520), Data(8, 0xee));
  EXPECT_EQ(Data(rig.stored(1), rig.stored(1) + 520), Data(520));
  // 2016 blocks of 520 bytes are what the advertised maximum has room for.
  EXPECT_EQ(load_be32(&rig.io({0x12, 1, 0xb0, 0, 64, 0}, {}, 64).run().data_in()[8]), 2016u);
  EXPECT_EQ(rig.io(cdb10(0x28, 0, 2016, 0x60), {}, 2016 * 520).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(cdb10(0x28, 0, 2017, 0x20), {}, 2017 * 520).run().sense(), invalid_cdb_field);
}

// ---- one bit that is wrong

enum Where { in_data = 100, in_guard = 512, in_application_tag = 515, in_reference_tag = 518 };

// What each type says of a bit that is wrong there. Type 3 leaves the reference tag to the initiators.
std::uint32_t expected_sense(int type, Where where) {
  switch (where) {
    case in_application_tag:
      return application_tag_failed;
    case in_reference_tag:
      return type == 3 ? 0 : reference_tag_failed;
    default:
      return guard_failed;
  }
}

TEST(ProtectionCheck, OneBitOnTheMediumIsFound) {
  for (int type = 1; type <= 3; ++type) {
    for (const Where where : {in_data, in_guard, in_application_tag, in_reference_tag}) {
      if (where == in_application_tag && type != 2) continue;  // nothing tells what it should be
      ProtectedRig rig(type);
      rig.own_application_tags();
      const std::uint32_t reference = type == 1 ? 20 : 77;
      Data three;
      for (std::uint32_t i = 0; i < 3; ++i)
        three = std::move(three) + sample_block() + field(sample_guard, 0x0123, reference + i);
      ASSERT_EQ(rig.io(moving(type, true, 20, 3, 1, reference, 0x0123, 0xffff), three).run().status(),
                ScsiStatus::good);
      rig.stored(21)[where] ^= 0x10;
      Io read = rig.io(moving(type, false, 20, 3, 1, reference, 0x0123, 0xffff), {}, 1560);
      EXPECT_EQ(read.run().sense(), expected_sense(type, where)) << type << " " << where;
      if (expected_sense(type, where) == 0) continue;
      EXPECT_EQ(read.status(), ScsiStatus::check_condition);
      EXPECT_EQ(information(read), 21u);
      EXPECT_TRUE(read.data_in().empty());
      Io verify = type == 2 ? rig.io(cdb32(0x0a, 20, 3, 0x20, reference, 0x0123, 0xffff))
                            : rig.io(cdb10(0x2f, 20, 3, 0x20));
      EXPECT_EQ(verify.run().sense(), expected_sense(type, where));
      EXPECT_EQ(information(verify), 21u);
      // The bits of the tags that are not asked for are not looked at.
      if (where == in_application_tag) {
        EXPECT_EQ(rig.io(moving(type, false, 20, 3, 1, reference, 0x0123, 0xffef), {}, 1560).run().status(),
                  ScsiStatus::good);
      }
      // A reader who gets no protection information is told all the same of what the target can know by
      // itself.
      const bool known = where == in_data || where == in_guard || (where == in_reference_tag && type == 1);
      Io plain = rig.io(cdb10(0x28, 20, 3), {}, 1536);
      EXPECT_EQ(plain.run().sense(), known ? expected_sense(type, where) : 0u);
      if (known) {
        EXPECT_EQ(information(plain), 21u);
      }
    }
  }
}

TEST(ProtectionCheck, OneBitOnTheWireIsFoundAndNothingIsWritten) {
  for (int type = 1; type <= 3; ++type) {
    for (const Where where : {in_data, in_guard, in_application_tag, in_reference_tag}) {
      if (where == in_application_tag && type != 2) continue;
      ProtectedRig rig(type);
      rig.own_application_tags();
      const std::uint32_t reference = type == 1 ? 20 : 77;
      Data three;
      for (std::uint32_t i = 0; i < 3; ++i)
        three = std::move(three) + sample_block() + field(sample_guard, 0x0123, reference + i);
      three[520 + where] ^= 0x10;
      rig.channel.kinds.clear();
      for (const bool verify : {false, true}) {
        Io write = rig.io(moving(type, true, 20, 3, 1, reference, 0x0123, 0xffff), three);
        if (verify) {
          write.task.cdb[type == 2 ? 9 : 0] = type == 2 ? 0x0c : 0x2e;
        }
        EXPECT_EQ(write.run().sense(), expected_sense(type, where)) << type << " " << where;
        if (expected_sense(type, where) == 0) continue;
        EXPECT_EQ(information(write), 21u);
        EXPECT_TRUE(rig.channel.kinds.empty());
      }
    }
  }
}

TEST(ProtectionCheck, TheFieldOfTheCdbChoosesWhatIsChecked) {
  struct Case {
    int code;
    bool guard, tags;
  };
  for (const Case& c : {Case{1, true, true}, Case{2, false, true}, Case{3, false, false},
                        Case{4, true, false}, Case{5, true, true}}) {
    ProtectedRig rig(1);
    const Data bad_guard = sample_block() + field(0x1111, 0, 4);
    const Data bad_reference = sample_block() + field(sample_guard, 0, 40);
    EXPECT_EQ(rig.io(moving(1, true, 4, 1, c.code), bad_guard).run().sense(), c.guard ? guard_failed : 0u)
        << c.code;
    EXPECT_EQ(rig.io(moving(1, true, 4, 1, c.code), bad_reference).run().sense(),
              c.tags ? reference_tag_failed : 0u)
        << c.code;
    for (const Data& bad : {bad_guard, bad_reference}) {
      const bool found = bad == bad_guard ? c.guard : c.tags;
      ASSERT_EQ(rig.io(moving(1, true, 4, 1, 3), bad).run().status(), ScsiStatus::good);
      Io read = rig.io(moving(1, false, 4, 1, c.code), {}, 520);
      EXPECT_EQ(read.run().sense(), !found             ? 0u
                                    : bad == bad_guard ? guard_failed
                                                       : reference_tag_failed)
          << c.code;
      if (!found) {
        EXPECT_EQ(read.data_in(), bad);
      }
      EXPECT_EQ(rig.io(cdb10(0x2f, 4, 1, static_cast<std::uint8_t>(c.code << 5))).run().status(),
                found ? ScsiStatus::check_condition : ScsiStatus::good);
    }
  }
}

// SBC-3 4.22.4: an application tag of FFFFh, on type 3 together with a reference tag of FFFFFFFFh, and
// nothing is checked, but only of what is read.
TEST(ProtectionCheck, TheEscapesAreThoseOfTheType) {
  struct Case {
    int type;
    std::uint32_t reference;
    bool escapes;
  };
  for (const Case& c :
       {Case{1, 99, true}, Case{2, 99, true}, Case{3, 99, false}, Case{3, 0xffff'ffff, true}}) {
    ProtectedRig rig(c.type);
    const Data block = sample_block() + field(0x4444, 0xffff, c.reference);
    EXPECT_EQ(rig.io(moving(c.type, true, 6, 1, 1, 98), block).run().sense(), guard_failed);
    ASSERT_EQ(rig.io(moving(c.type, true, 6, 1, 3), block).run().status(), ScsiStatus::good);
    Io read = rig.io(moving(c.type, false, 6, 1, 1, 98), {}, 520);
    EXPECT_EQ(read.run().sense(), c.escapes ? 0u : guard_failed) << c.type;
    if (c.escapes) {
      EXPECT_EQ(read.data_in(), block);
    }
  }
}

// ATO, ATMPE, and the tag of every block in the Application Tag mode page: 0123h from block 15 on, 4567h for
// the ten before.
void tell_tags(ProtectedRig& rig) {
  Data list{0, 0, 0, 0, 0x0a, 10, 0, 0x10, 0, 0xa0, 0, 0, 0xff, 0xff, 0, 0, 0x4a, 0x02, 0, 108};
  list.resize(list.size() + 12);
  list = list + Data{0, 0, 0, 0, 0, 0, 0x01, 0x23, 0, 0, 0, 0, 0, 0, 0, 15, 0, 0, 0, 0, 0, 0, 1, 0};
  list = list + Data{0x80, 0, 0, 0, 0, 0, 0x45, 0x67, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 10};
  list = list + Data{0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 1, 0x10, 0, 0, 0, 0, 0, 0, 0, 10};  // after the last
  list.resize(list.size() + 24);
  ASSERT_EQ(rig.io({0x15, 0x10, 0, 0, static_cast<std::uint8_t>(list.size()), 0}, list).run().status(),
            ScsiStatus::good);
  const Data page = rig.io({0x1a, 8, 0x0a, 2, 255, 0}, {}, 255).run().data_in();
  EXPECT_EQ(Data(page.begin() + 4, page.end()), Data(list.begin() + 16, list.end()));
}

TEST(ProtectionCheck, ApplicationTagsOfTheModePageAreMadeAndChecked) {
  for (int type = 1; type <= 3; ++type) {
    ProtectedRig rig(type);
    tell_tags(rig);
    const std::uint32_t reference = type == 1 ? 20 : 77;
    if (type != 2) {
      const Data two = sample_block() + field(sample_guard, 0x0123, reference) + sample_block() +
                       field(sample_guard, 0x0123, reference + 1);
      Data wrong = two;
      wrong[520 + in_application_tag] ^= 0x10;
      Io write = rig.io(moving(type, true, 20, 2, 1), wrong);
      EXPECT_EQ(write.run().sense(), application_tag_failed);
      EXPECT_EQ(information(write), 21u);
      ASSERT_EQ(rig.io(moving(type, true, 20, 2, 1), two).run().status(), ScsiStatus::good);
      rig.stored(21)[in_application_tag] ^= 0x10;
      Io read = rig.io(moving(type, false, 20, 2, 1), {}, 1040);
      EXPECT_EQ(read.run().sense(), application_tag_failed);
      EXPECT_EQ(information(read), 21u);
    }
    // What comes without is given the tag that it should have; outside of the ranges, none.
    for (const std::uint32_t lba : {14u, 15u, 4u, 270u, 271u, 272u}) {
      ASSERT_EQ(rig.io(cdb10(0x2a, lba, 1), sample_block()).run().status(), ScsiStatus::good);
      const Data read = rig.io(moving(type, false, lba, 1, 3), {}, 520).run().data_in();
      EXPECT_EQ(load_be16(&read[514]), lba == 14 ? 0x4567 : lba == 15 || lba == 270 ? 0x0123 : 0xffff) << lba;
    }
    rig.stored(15)[in_application_tag] ^= 0x10;
    Io plain = rig.io(cdb10(0x28, 14, 2), {}, 1024);
    EXPECT_EQ(plain.run().sense(), application_tag_failed);
    EXPECT_EQ(information(plain), 15u);
  }
}

TEST(ProtectionCheck, ADiskWithoutRoomHasNoPageOfApplicationTags) {
  Rig rig;
  EXPECT_EQ(rig.io({0x1a, 8, 0x0a, 2, 255, 0}, {}, 255).run().sense(), invalid_cdb_field);
  Data list(4 + 112);
  list[4] = 0x4a;
  list[5] = 0x02;
  list[7] = 108;
  EXPECT_EQ(rig.io({0x15, 0x10, 0, 0, static_cast<std::uint8_t>(list.size()), 0}, list).run().sense(),
            0x052600u);
}

TEST(ProtectionCheck, ApplicationTagsOfTheTargetAreNotComparedWithTheCdb) {
  ProtectedRig rig(2);  // ATO 0: the fields of the CDB are ignored
  ASSERT_EQ(
      rig.io(moving(2, true, 0, 1, 1, 5, 0x1111, 0xffff), sample_block() + field(sample_guard, 0x2222, 5))
          .run()
          .status(),
      ScsiStatus::good);
  EXPECT_EQ(rig.io(moving(2, false, 0, 1, 1, 5, 0x3333, 0xffff), {}, 520).run().status(), ScsiStatus::good);
}

TEST(ProtectionCheck, AFailureBeyond32BitsIsToldInDescriptorFormat) {
  ProtectedRig rig(1);
  EXPECT_EQ(
      rig.io({0x15, 0x10, 0, 0, 16, 0}, {0, 0, 0, 0, 0x0a, 10, 0x04, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0})
          .run()
          .status(),
      ScsiStatus::good);  // D_SENSE
  ASSERT_EQ(rig.io(cdb10(0x2a, 3, 1), sample_block()).run().status(), ScsiStatus::good);
  rig.stored(3)[0] ^= 1;
  Io read = rig.io(cdb10(0x28, 2, 2), {}, 1024);
  read.run();
  EXPECT_EQ(Data(read.task.sense.begin(), read.task.sense.begin() + 20),
            (Data{0x72, 0x0b, 0x10, 0x01, 0, 0, 0, 12, 0x00, 0x0a, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 3}));
}

// ---- VERIFY and WRITE SAME

TEST(ProtectedVerify, ComparesProtectionInformationToo) {
  for (int type = 1; type <= 3; ++type) {
    ProtectedRig rig(type);
    const std::uint32_t reference = type == 1 ? 4 : 70;
    const auto verify = [&](const Data& out, int code = 1) {
      const auto options = static_cast<std::uint8_t>(code << 5 | 0x02);
      return type == 2 ? rig.io(cdb32(0x0a, 4, 1, options, reference), out)
                       : rig.io(cdb10(0x2f, 4, 1, options), out);
    };
    const Data right = sample_block() + field(sample_guard, 0x0001, reference);
    ASSERT_EQ(rig.io(moving(type, true, 4, 1, 1, reference), right).run().status(), ScsiStatus::good);
    EXPECT_EQ(verify(right).run().status(), ScsiStatus::good) << type;
    EXPECT_EQ(verify(sample_block() + field(sample_guard, 0x0002, reference)).run().sense(), 0x0e1d00u);
    EXPECT_EQ(verify(sample_block() + field(0, 0x0001, reference)).run().sense(),
              guard_failed);  // what came is wrong
    // The medium is wrong and what came is right: they differ.
    rig.stored(4)[512] ^= 0x01;
    EXPECT_EQ(verify(right).run().sense(), 0x0e1d00u);
    EXPECT_EQ(verify(sample_block() + field(sample_guard ^ 0x0100, 0x0001, reference), 3).run().status(),
              ScsiStatus::good);
    const Data one_block = type == 2 ? cdb32(0x0a, 4, 1, 0x26, reference) : cdb10(0x2f, 4, 1, 0x26);
    EXPECT_EQ(rig.io(one_block, right).run().sense(), invalid_cdb_field);  // BYTCHK 11b
  }
}

// In one operation of the channel below, fields and all, whether they come along or are made here.
TEST(ProtectedWriteAtomic, IsOneOperationWithItsProtectionInformation) {
  for (int type = 1; type <= 3; ++type) {
    for (const bool carries : {false, true}) {
      ProtectedRig rig(type);
      std::vector<bool> whole;
      rig.channel.on_submit = [&](const block::BlockOp& op) { whole.push_back(op.atomic); };
      Data blocks;
      for (std::uint32_t i = 0; i < 64; ++i) {
        blocks = std::move(blocks) + sample_block();
        if (carries) blocks = std::move(blocks) + field(sample_guard, 0, 20 + i);
      }
      const auto options = static_cast<std::uint8_t>(carries ? 0x20 : 0x00);
      const Data sixteen{0x9c, options, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 64, 0, 0};
      Io write = rig.io(carries && type == 2 ? cdb32(0x0f, 20, 64, 0x20, 20) : sixteen, blocks);
      EXPECT_EQ(write.run().status(), ScsiStatus::good) << type << carries;
      EXPECT_EQ(whole, std::vector<bool>{true});
      Io read = rig.io(moving(type, false, 83, 1, 3), {}, 520);
      EXPECT_EQ(read.run().status(), ScsiStatus::good);
      EXPECT_EQ(load_be16(tail(read.data_in()).data()), sample_guard);
      EXPECT_EQ(load_be32(&tail(read.data_in())[4]), carries || type == 1 ? 83u : 0xffffffffu) << type;
    }
  }
}

TEST(ProtectedWriteAtomic, OneBitOnTheWireIsFoundAndNothingIsWritten) {
  ProtectedRig rig(2);
  Data two = sample_block() + field(sample_guard, 0, 5) + sample_block() + field(sample_guard ^ 1, 0, 6);
  Io write = rig.io(cdb32(0x0f, 5, 2, 0x20, 5), two);
  EXPECT_EQ(write.run().sense(), guard_failed);
  EXPECT_EQ(information(write), 6u);
  EXPECT_TRUE(rig.channel.kinds.empty());
}

TEST(ProtectedWriteSame, ReferenceTagsCountUpWhereTheyBelongToBlocks) {
  for (int type = 1; type <= 3; ++type) {
    ProtectedRig rig(type);
    const std::uint32_t reference = type == 1 ? 30 : 1000;
    const Data block = sample_block() + field(sample_guard, 0x0009, reference);
    Io same = type == 2 ? rig.io(cdb32(0x0d, 30, 1200, 0x20, reference), block)
                        : rig.io(cdb10(0x41, 30, 1200, 0x20), block);
    EXPECT_EQ(same.run().status(), ScsiStatus::good) << type;  // more than the scratch memory has room for
    for (const std::uint32_t i : {0u, 1u, 503u, 504u, 505u, 1199u}) {
      Io read = rig.io(moving(type, false, 30 + i, 1, 3), {}, 520);
      EXPECT_EQ(tail(read.run().data_in()),
                field(sample_guard, 0x0009, type == 3 ? reference : reference + i))
          << type << " " << i;
    }
    EXPECT_EQ(tail(rig.io(moving(type, false, 1230, 1, 3), {}, 520).run().data_in()), blank_field);
  }
}

TEST(ProtectedWriteSame, OneBitOnTheWireIsFound) {
  ProtectedRig rig(1);
  EXPECT_EQ(rig.io(cdb10(0x41, 30, 10, 0x20), sample_block() + field(sample_guard ^ 1, 0, 30)).run().sense(),
            guard_failed);
  Io reference = rig.io(cdb10(0x41, 30, 10, 0x20), sample_block() + field(sample_guard, 0, 31));
  EXPECT_EQ(reference.run().sense(), reference_tag_failed);
  EXPECT_EQ(information(reference), 30u);
  EXPECT_TRUE(rig.channel.kinds.empty());
}

TEST(ProtectedWriteSame, WithoutItIsMadeForEveryBlock) {
  ProtectedRig rig(1);
  EXPECT_EQ(rig.io(cdb10(0x41, 30, 1200), Data(512)).run().status(), ScsiStatus::good);
  EXPECT_EQ(tail(rig.io(cdb10(0x28, 1229, 1, 0x20), {}, 520).run().data_in()), field(0, 0, 1229));
}

TEST(ProtectedWriteSame, UnmapAndNoDataLeaveNone) {
  for (const bool no_data : {false, true}) {
    ProtectedRig rig(1);
    ASSERT_EQ(rig.io(cdb10(0x41, 0, 100), sample_block()).run().status(), ScsiStatus::good);
    Data cdb{0x93, static_cast<std::uint8_t>(no_data ? 0x01 : 0x08), 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 5, 0,
             0};
    EXPECT_EQ(rig.io(cdb, no_data ? Data{} : Data(512)).run().status(), ScsiStatus::good);
    EXPECT_EQ(rig.io(cdb10(0x28, 10, 1, 0x20), {}, 520).run().data_in(), Data(512) + blank_field);
    EXPECT_EQ(tail(rig.io(cdb10(0x28, 15, 1, 0x20), {}, 520).run().data_in()), field(sample_guard, 0, 15));
    cdb[1] |= 0x20;  // WRPROTECT: there is none, as the initiator says too
    EXPECT_EQ(rig.io(cdb, no_data ? Data{} : Data(512) + field(0, 0, 10)).run().status(), ScsiStatus::good);
    EXPECT_EQ(tail(rig.io(cdb10(0x28, 10, 1, 0x20), {}, 520).run().data_in()),
              no_data ? blank_field : field(0, 0, 10));
  }
  ProtectedRig rig(1);  // a channel that cannot write zeroes by itself
  rig.channel.fail_next = {block::OpStatus::unsupported};
  EXPECT_EQ(rig.io({0x93, 0x01, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 5, 0, 0}).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.kinds.back(), block::OpKind::write);
  EXPECT_EQ(tail(rig.io(cdb10(0x28, 14, 1, 0x20), {}, 520).run().data_in()), blank_field);
}

// ---- commands that know nothing of it

TEST(ProtectedDisk, CommandsWithoutProtectionInformationKeepItRight) {
  ProtectedRig rig(1);
  const Data ones(512, 0xff);
  ASSERT_EQ(rig.io(cdb10(0x2a, 3, 1), Data(512)).run().status(), ScsiStatus::good);
  EXPECT_EQ(
      rig.io({0x89, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0}, Data(512) + sample_block()).run().status(),
      ScsiStatus::good);
  EXPECT_EQ(tail(rig.io(cdb10(0x28, 3, 1, 0x20), {}, 520).run().data_in()), field(sample_guard, 0, 3));
  EXPECT_EQ(rig.io({0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0}, sample_block()).run().status(),
            ScsiStatus::good);
  EXPECT_EQ(tail(rig.io(cdb10(0x28, 3, 1, 0x20), {}, 520).run().data_in()), field(sample_guard, 0, 3));
  Data scattered(1024);  // header and one range descriptor, one block
  store_be64(&scattered[32], 8);
  store_be32(&scattered[40], 1);
  std::copy_n(sample_block().begin(), 512, scattered.begin() + 512);
  EXPECT_EQ(rig.io({0x9f, 0x12, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0}, scattered).run().status(),
            ScsiStatus::good);
  EXPECT_EQ(tail(rig.io(cdb10(0x28, 8, 1, 0x20), {}, 520).run().data_in()), field(sample_guard, 0, 8));
  // What they read is checked.
  rig.stored(3)[5] ^= 0x80;
  EXPECT_EQ(rig.io({0x89, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0}, sample_block() + ones).run().sense(),
            guard_failed);
  EXPECT_EQ(rig.io({0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0}, ones).run().sense(), guard_failed);
  // They cannot carry it.
  EXPECT_EQ(rig.io({0x89, 0x20, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0}, Data(1040)).run().sense(),
            invalid_cdb_field);
  EXPECT_EQ(rig.io({0x8b, 0x20, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0}, Data(520)).run().sense(),
            invalid_cdb_field);
}

TEST(ProtectedDisk, UnmappedBlocksHaveNone) {
  ProtectedRig rig(3);
  ASSERT_EQ(rig.io(cdb10(0x2a, 40, 2), sample_block() + sample_block()).run().status(), ScsiStatus::good);
  const Data list{0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0, 0};
  EXPECT_EQ(rig.io({0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0}, list).run().status(), ScsiStatus::good);
  Io read = rig.io(cdb10(0x28, 40, 2, 0x20), {}, 1040);
  EXPECT_EQ(read.run().data_in(),
            Data(512) + blank_field + sample_block() + field(sample_guard, 0, 0xffff'ffff));
}

// They keep their place in the backing, read as zeroes, and have none either.
TEST(ProtectedDisk, AnchoredBlocksHaveNone) {
  for (const int type : {1, 2, 3}) {
    SCOPED_TRACE(type);
    ProtectedRig rig(type);
    ASSERT_EQ(rig.io(cdb10(0x41, 0, 1300), sample_block()).run().status(), ScsiStatus::good);
    rig.channel.kinds.clear();
    const Data list{0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0, 2, 0, 0, 0, 0};
    EXPECT_EQ(rig.io({0x42, 0x01, 0, 0, 0, 0, 0, 0, 24, 0}, list).run().status(), ScsiStatus::good);
    const Data without = cdb10(0x41, 50, 1200, 0x18);  // more than one slice
    EXPECT_EQ(rig.io(without, Data(512)).run().status(), ScsiStatus::good);
    for (const block::OpKind kind : rig.channel.kinds)
      EXPECT_EQ(kind, block::OpKind::write) << "nothing is given back";
    for (const std::uint32_t lba : {40u, 41u, 50u, 1249u}) {
      EXPECT_EQ(Data(rig.stored(lba), rig.stored(lba) + 520), Data(520)) << lba;
    }
    const auto carrying = [&](std::uint16_t lba) {
      return type == 2 ? cdb32(0x09, lba, 1, 0x20, 0) : cdb10(0x28, lba, 1, 0x20);
    };
    EXPECT_EQ(rig.io(carrying(50), {}, 520).run().data_in(), Data(512) + blank_field);
    for (const std::uint32_t lba : {39u, 42u, 49u, 1250u}) EXPECT_EQ(rig.stored(lba)[511], 0xff) << lba;
  }
}

TEST(ProtectedDisk, AnchoredBlocksOfWhichTheInitiatorSaysSoHaveNone) {
  ProtectedRig rig(1);
  ASSERT_EQ(rig.io(cdb10(0x41, 0, 1300), sample_block()).run().status(), ScsiStatus::good);
  rig.channel.kinds.clear();
  EXPECT_EQ(rig.io(cdb10(0x41, 20, 1000, 0x78), Data(512) + blank_field).run().sense(), 0u);
  for (const block::OpKind kind : rig.channel.kinds) EXPECT_EQ(kind, block::OpKind::write);
  for (const std::uint32_t lba : {20u, 523u, 524u, 1019u}) {
    EXPECT_EQ(tail(rig.io(cdb10(0x28, lba, 1, 0x20), {}, 520).run().data_in()), blank_field) << lba;
  }
  EXPECT_EQ(rig.stored(1020)[511], 0xff);
  // What is not blank is written as it came.
  EXPECT_EQ(rig.io(cdb10(0x41, 20, 2, 0x38), sample_block() + field(sample_guard, 0, 20)).run().status(),
            ScsiStatus::good);
  EXPECT_EQ(tail(rig.io(cdb10(0x28, 21, 1, 0x20), {}, 520).run().data_in()), field(sample_guard, 0, 21));
}

TEST(ProtectedDisk, OverwrittenBySanitizeIsReadable) {
  ProtectedRig rig(1);
  ASSERT_EQ(rig.io(cdb10(0x2a, 40, 1), sample_block()).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io({0x48, 0x01, 0, 0, 0, 0, 0, 0, 8, 0}, {1, 0, 0, 4, 0xaa, 0xbb, 0xcc, 0xdd}).run().status(),
            ScsiStatus::good);
  const Data read = rig.io(cdb10(0x28, 2047, 1, 0x20), {}, 520).run().data_in();
  EXPECT_EQ(Data(read.begin(), read.begin() + 4), (Data{0xaa, 0xbb, 0xcc, 0xdd}));
  EXPECT_EQ(load_be32(&read[516]), 2047u);
}

// What another key makes of the blocks has no protection information that fits: nothing of it is left.
TEST(ProtectedDisk, CryptographicallyErasedIsReadable) {
  block::Geometry geometry = with_room();
  geometry.encrypted = true;
  ProtectedRig rig(1, geometry);
  ASSERT_EQ(rig.io(cdb10(0x2a, 40, 1), sample_block()).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io({0x48, 0x03, 0, 0, 0, 0, 0, 0, 0, 0}).run().status(), ScsiStatus::good);
  for (const std::uint32_t lba : {0u, 40u, 2047u}) {
    EXPECT_EQ(rig.io(cdb10(0x28, lba, 1, 0x20), {}, 520).run().data_in(), Data(512) + blank_field) << lba;
  }
}

// ---- FORMAT UNIT

TEST(ProtectedFormat, ChoosesTheTypeAndLeavesNothingBehind) {
  ProtectedRig rig(1);
  ASSERT_EQ(rig.io(cdb10(0x2a, 5, 1), sample_block()).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io({0x04, 0xd0, 0, 0, 0, 0}, {1, 0, 0, 0}).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.unit.protection_type(), ProtectionType::type_3);
  EXPECT_EQ(Io(rig.device, rig.b, {0, 0, 0, 0, 0, 0}).run().sense(), 0x062a09u);  // the others learn of it
  EXPECT_EQ(rig.io(cdb10(0x28, 5, 1, 0x20), {}, 520).run().data_in(), Data(512) + blank_field);
  EXPECT_EQ(rig.io({0x04, 0x00, 0, 0, 0, 0}).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.unit.protection_type(), ProtectionType::none);
  // With a pattern, and no protection information yet.
  EXPECT_EQ(rig.io({0x04, 0x90, 0, 0, 0, 0}, {0, 0x88, 0, 0, 0, 1, 0, 2, 0xde, 0xad}).run().status(),
            ScsiStatus::good);
  const Data read = rig.io(cdb10(0x28, 5, 1, 0x20), {}, 520).run().data_in();
  EXPECT_EQ(Data(read.begin() + 510, read.end()), (Data{0xde, 0xad} + blank_field));
}

TEST(ProtectedFormat, CombinationsThatMeanNothingAreRefused) {
  ProtectedRig rig(1);
  EXPECT_EQ(rig.io({0x04, 0x40, 0, 0, 0, 0}).run().sense(), invalid_cdb_field);  // FMTPINFO 01b
  EXPECT_EQ(rig.io({0x04, 0x10, 0, 0, 0, 0}, {1, 0, 0, 0}).run().sense(),
            0x052600u);  // usage without protection
  EXPECT_EQ(rig.io({0x04, 0x90, 0, 0, 0, 0}, {1, 0, 0, 0}).run().sense(), 0x052600u);
  EXPECT_EQ(rig.io({0x04, 0xd0, 0, 0, 0, 0}, {2, 0, 0, 0}).run().sense(), 0x052600u);
  EXPECT_EQ(rig.io({0x04, 0x10, 0, 0, 0, 0}, {0x20, 0, 0, 0}).run().sense(), 0x052600u);
  EXPECT_EQ(rig.io({0x04, 0xf0, 0, 0, 0, 0}, {0, 0, 0, 1, 0, 0, 0, 0}).run().sense(),
            0x052600u);  // an exponent
  EXPECT_EQ(rig.unit.protection_type(), ProtectionType::type_1);
  block::Geometry kept = with_room();
  kept.in_memory = false;
  Rig forgetful(kept);  // the blocks outlive the process, what type they are would not
  Io io = forgetful.io({0x04, 0x80, 0, 0, 0, 0});
  EXPECT_EQ(io.run().sense(), invalid_cdb_field);
  EXPECT_EQ(load_be16(&io.task.sense[16]), 1);
  EXPECT_EQ(forgetful.io({0x04, 0xd0, 0, 0, 0, 0}, {1, 0, 0, 0}).run().sense(), 0x052600u);
  EXPECT_EQ(forgetful.io({0x04, 0x00, 0, 0, 0, 0}).run().status(), ScsiStatus::good);
}

TEST(ProtectedFormat, AResetDoesNotChangeTheType) {
  ProtectedRig rig(2);
  rig.own_application_tags();
  rig.unit.reset();
  EXPECT_EQ(rig.unit.protection_type(), ProtectionType::type_2);
  EXPECT_FALSE(rig.unit.protection_rules().application_tags_belong_to_initiators);  // a mode page
}

TEST(ProtectedFormat, TheTypeIsInTheRecordOfTheUnit) {
  DurableState state;
  state.protection_type = ProtectionType::type_2;
  state.modes =
      ModeValues{.wce = true, .swp = false, .d_sense = false, .tas = false, .ato = true, .atmpe = true};
  state.modes->application_tags[1] = {.last = true, .tag = 0x1234, .lba = 5, .blocks = 6};
  const auto record = encode_durable_state(state);
  EXPECT_EQ(load_be16(&record[4]), 2u);
  EXPECT_EQ(decode_durable_state(record), state);
  EXPECT_EQ(load_be16(&encode_durable_state({})[4]), 1u);  // as before, for those who know no other
}

TEST(ProtectedDisk, AMediumWithoutRoomCannotBeOfAType) {
  FakeChannel channel(FakeChannel::disk());
  Device device("iqn.x");
  UnitConfig config = Rig::config();
  config.protection_type = ProtectionType::type_1;
  EXPECT_FALSE(device.add_unit(0, std::move(config), channel));
}

// ---- beside each other

TEST(ProtectedDisk, NothingReadsABlockWhileItIsWritten) {
  ProtectedRig rig(1);
  rig.channel.hold = true;
  Io write = rig.io(cdb10(0x2a, 5, 2), sample_block() + sample_block());
  Io other_write = rig.io(cdb10(0x2a, 6, 1), Data(512));
  Io read = rig.io(cdb10(0x28, 6, 1), {}, 512);
  Io elsewhere = rig.io(cdb10(0x28, 7, 1), {}, 512);
  for (Io* io : {&write, &other_write, &read, &elsewhere}) io->run();
  EXPECT_EQ(rig.channel.held(), 2u);  // write and elsewhere
  rig.channel.release_one(0);
  EXPECT_TRUE(write.ended);
  EXPECT_FALSE(read.ended);
  while (rig.channel.held() != 0) rig.channel.release_one();
  for (const Io* io : {&write, &other_write, &read, &elsewhere}) EXPECT_EQ(io->status(), ScsiStatus::good);
  EXPECT_EQ(read.data_in(), Data(512));
}

TEST(ProtectedDisk, NorDoesAnotherShard) {
  block::Geometry geometry = with_room();
  ShardRig rig(2, 1, geometry);
  rig.take_attentions();
  rig.hold(true);
  Io write = rig.io(0, cdb10(0x2a, 5, 1), sample_block());
  write.run();
  while (rig.channel(0).held() == 0) rig.deliver_some(0);  // it has its claim, and has begun
  rig.deliver_all();
  Io read = rig.io(1, cdb10(0x28, 5, 1, 0x20), {}, 520);
  Io elsewhere = rig.io(1, cdb10(0x28, 6, 1), {}, 512);
  read.run();
  elsewhere.run();
  rig.deliver_all();
  EXPECT_EQ(rig.channel(1).held(), 1u);  // elsewhere
  rig.settle();
  for (const Io* io : {&write, &read, &elsewhere}) EXPECT_EQ(io->status(), ScsiStatus::good);
  EXPECT_EQ(read.data_in(), sample_block() + field(sample_guard, 0, 5));
}

// While a copy writes to a block nobody reads it.
TEST(ProtectedDisk, ACopyIsNotReadInTheMiddleOfABlock) {
  ProtectedRig rig(1);
  ASSERT_EQ(rig.io(cdb10(0x2a, 100, 4), sample_block() + sample_block() + sample_block() + sample_block())
                .run()
                .status(),
            ScsiStatus::good);
  // EXTENDED COPY (LID1): CSCD E4h names the unit by its NAA; segment 02h, 4 blocks from 100 to 200, DC 1.
  Data list{0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 0};
  Data cscd{0xe4, 0, 0, 0, 1, 3, 0, 8, 0x31, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef};
  cscd.resize(32);
  cscd[30] = 2;  // block length 512
  Data segment{0x02, 0x02, 0, 24, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 200};
  list = list + cscd + segment;
  rig.channel.hold = true;
  Io copy = rig.io({0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, static_cast<std::uint8_t>(list.size()), 0, 0}, list);
  copy.run();
  ASSERT_EQ(rig.channel.held(), 1u) << copy.sense();
  Io source = rig.io(cdb10(0x28, 101, 1), {}, 512);
  Io destination = rig.io(cdb10(0x28, 201, 1, 0x20), {}, 520);
  source.run();
  destination.run();
  EXPECT_EQ(rig.channel.held(), 2u);  // the copy, and who reads what it reads
  while (rig.channel.held() != 0) rig.channel.release_one();
  EXPECT_EQ(copy.status(), ScsiStatus::good);
  EXPECT_EQ(source.data_in(), sample_block());
  EXPECT_EQ(destination.data_in(), sample_block() + field(sample_guard, 0, 201));
}

TEST(ProtectedDisk, ManyAtOnceTakeTurnsWithTheBuffers) {
  ProtectedRig rig(1);
  rig.channel.hold = true;
  std::deque<Io> writes;
  for (std::uint32_t i = 0; i < 50; ++i) {
    writes.emplace_back(rig.device, rig.a, cdb10(0x2a, i * 3, 2), sample_block() + sample_block()).run();
  }
  EXPECT_EQ(rig.channel.held(), 32u);
  while (rig.channel.held() != 0) rig.channel.release_one();
  for (const Io& io : writes) {
    EXPECT_TRUE(io.ended);
    EXPECT_EQ(io.status(), ScsiStatus::good);
  }
  rig.channel.hold = false;
  for (std::uint32_t i = 0; i < 50; ++i) {
    EXPECT_EQ(tail(rig.io(cdb10(0x28, i * 3, 2, 0x20), {}, 1040).run().data_in(), 1),
              field(sample_guard, 0, i * 3 + 1));
  }
}

TEST(ProtectedDisk, ALongTransferGoesThroughInSlices) {
  ProtectedRig rig(1);
  Data out;
  for (int i = 0; i < 1200; ++i) out.insert(out.end(), 512, static_cast<std::uint8_t>(i));
  EXPECT_EQ(rig.io(cdb10(0x2a, 100, 1200), out).run().status(), ScsiStatus::good);
  Io read = rig.io(cdb10(0x28, 100, 1200), {}, 1200 * 512);
  read.piece_bytes = 20000;
  EXPECT_EQ(read.run().data_in(), out);
  rig.stored(1000)[3] ^= 1;
  Io wrong = rig.io(cdb10(0x28, 100, 1200), {}, 1200 * 512);
  EXPECT_EQ(wrong.run().sense(), guard_failed);
  EXPECT_EQ(information(wrong), 1000u);
}

TEST(ProtectedDisk, BlocksOfFourKibibytesHaveOneFieldEach) {
  block::Geometry geometry = FakeChannel::disk(1024, 4104);
  geometry.protection_bytes = 8;
  geometry.in_memory = true;
  ProtectedRig rig(1, geometry);
  Data out(100 * 4096);
  // block 70 ends in the sample
  std::fill(out.begin() + 70 * 4096 + 4064, out.begin() + 71 * 4096, std::uint8_t{0xff});
  ASSERT_EQ(rig.io(cdb10(0x2a, 5, 100), out).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(cdb10(0x28, 5, 100), {}, 100 * 4096).run().data_in(), out);
  const Data carried = rig.io(cdb10(0x28, 75, 1, 0x20), {}, 4104).run().data_in();
  EXPECT_EQ(Data(carried.end() - 8, carried.end()), field(sample_guard, 0, 75));
  rig.channel.memory[75 * 4104 + 4095] ^= 1;
  Io wrong = rig.io(cdb10(0x28, 5, 100), {}, 100 * 4096);
  EXPECT_EQ(wrong.run().sense(), guard_failed);
  EXPECT_EQ(information(wrong), 75u);
}

TEST(ProtectedDisk, WhatTheChannelSaysIsSaidOn) {
  ProtectedRig rig(1);
  rig.channel.fail_next = {block::OpStatus::no_space};
  EXPECT_EQ(rig.io(cdb10(0x2a, 1, 1), sample_block()).run().sense(), 0x072707u);
  rig.channel.fail_next = {block::OpStatus::read_error};
  EXPECT_EQ(rig.io(cdb10(0x28, 1, 1, 0x20), {}, 520).run().sense(), 0x031100u);
  rig.channel.fail_next = {block::OpStatus::write_error};
  EXPECT_EQ(rig.io(cdb10(0x2a, 1, 1, 0x60), Data(520)).run().sense(), 0x030c00u);
}

}  // namespace
}  // namespace perilune::scsi::test
