// SPDX-License-Identifier: Apache-2.0
// READ, WRITE, VERIFY and their kin against a disk in memory; expected values from SBC-3 clause 5.
#include <gtest/gtest.h>

#include "scsi/test_support.hpp"

namespace perilune::scsi::test {
namespace {

using block::OpKind;
using block::OpStatus;
using Data = std::vector<std::uint8_t>;

Data cdb10(std::uint8_t opcode, std::uint32_t lba, std::uint16_t blocks, std::uint8_t options = 0) {
  Data cdb(10);
  cdb[0] = opcode;
  cdb[1] = options;
  store_be32(&cdb[2], lba);
  store_be16(&cdb[7], blocks);
  return cdb;
}
Data cdb12(std::uint8_t opcode, std::uint32_t lba, std::uint32_t blocks, std::uint8_t options = 0) {
  Data cdb(12);
  cdb[0] = opcode;
  cdb[1] = options;
  store_be32(&cdb[2], lba);
  store_be32(&cdb[6], blocks);
  return cdb;
}
Data cdb16(std::uint8_t opcode, std::uint64_t lba, std::uint32_t blocks, std::uint8_t options = 0) {
  Data cdb(16);
  cdb[0] = opcode;
  cdb[1] = options;
  store_be64(&cdb[2], lba);
  store_be32(&cdb[10], blocks);
  return cdb;
}
Data caw(std::uint64_t lba, std::uint8_t blocks, std::uint8_t options = 0) {
  Data cdb(16);
  cdb[0] = 0x89;
  cdb[1] = options;
  store_be64(&cdb[2], lba);
  cdb[13] = blocks;
  return cdb;
}

TEST(ReadWrite, EveryLengthOfCdbMovesTheSameBlocks) {
  Rig rig;
  const Data six{0x0a, 0, 0, 7, 2, 0};
  for (const Data& cdb : {six, cdb10(0x2a, 7, 2), cdb12(0xaa, 7, 2), cdb16(0x8a, 7, 2)}) {
    std::fill(rig.channel.memory.begin(), rig.channel.memory.end(), std::uint8_t{0});
    Io io = rig.io(cdb, bytes(1024, 0x5a));
    EXPECT_EQ(io.run().status(), ScsiStatus::good);
    EXPECT_EQ(io.task.data_transfer_length, 1024u);
    EXPECT_EQ(rig.channel.memory[7 * 512 - 1], 0);
    EXPECT_EQ(rig.channel.memory[7 * 512], 0x5a);
    EXPECT_EQ(rig.channel.memory[9 * 512 - 1], 0x5a);
    EXPECT_EQ(rig.channel.memory[9 * 512], 0);
  }
  for (const Data& cdb : {Data{0x08, 0, 0, 7, 2, 0}, cdb10(0x28, 7, 2), cdb12(0xa8, 7, 2), cdb16(0x88, 7, 2)}) {
    Io io = rig.io(cdb, {}, 1024);
    EXPECT_EQ(io.run().status(), ScsiStatus::good);
    EXPECT_EQ(io.data_in(), bytes(1024, 0x5a));
  }
}

TEST(ReadWrite, CountZeroIs256BlocksForSixByteCdbAndNothingElsewhere) {
  Rig rig;
  Io six = rig.io({0x08, 0, 0, 0, 0, 0}, {}, 256 * 512);
  EXPECT_EQ(six.run().data_in().size(), 256u * 512);
  Io ten = rig.io(cdb10(0x28, 0, 0), {}, 512);
  EXPECT_EQ(ten.run().status(), ScsiStatus::good);
  EXPECT_EQ(ten.data_in().size(), 0u);
  EXPECT_EQ(ten.task.data_transfer_length, 0u);
}

TEST(ReadWrite, MemoryInManySmallPiecesIsTakenInSlices) {
  Rig rig;
  Data pattern(256 * 512);
  for (std::size_t i = 0; i < pattern.size(); ++i) pattern[i] = static_cast<std::uint8_t>(i * 7 + i / 512);
  Io write = rig.io(cdb10(0x2a, 3, 256), pattern);
  write.piece_bytes = 512;
  EXPECT_EQ(write.run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.kinds.size(), 4u);  // 65 + 65 + 65 + 61
  Io read = rig.io(cdb10(0x28, 3, 256), {}, 256 * 512);
  read.piece_bytes = 1000;  // blocks across pieces
  EXPECT_EQ(read.run().data_in(), pattern);
}

struct OutOfRange {
  Data cdb;
  std::uint32_t information;
};

TEST(ReadWrite, RangesPastTheEndAreRefusedWithInformation) {
  Rig rig;  // 2048 blocks
  for (const auto& [cdb, information] : std::initializer_list<OutOfRange>{
           {cdb10(0x28, 2048, 1), 2048},
           {cdb10(0x28, 2047, 2), 2048},
           {cdb10(0x28, 2049, 0), 2049},
           {cdb10(0x28, 0xffffffff, 0xffff), 0xffffffff},
           {cdb12(0xa8, 0, 0xffffffff), 2048},
           {{0x08, 0x1f, 0xff, 0xff, 1, 0}, 0x1fffff},
           {cdb10(0x2f, 2000, 100), 2048},
           {cdb10(0x34, 2048, 1), 2048},
           {cdb10(0x35, 2000, 100), 2048},
           {cdb10(0x41, 2048, 1), 2048},
           {cdb10(0x41, 2049, 0), 2049},
       }) {
    Io io = rig.io(cdb, {}, 512);
    EXPECT_EQ(io.run().sense(), 0x052100u) << int{cdb[0]};
    EXPECT_EQ(io.task.sense[0], 0xf0);
    EXPECT_EQ(load_be32(&io.task.sense[3]), information);
    EXPECT_EQ(io.task.data_transfer_length, 0u);
  }
  EXPECT_TRUE(rig.channel.kinds.empty());
}

TEST(ReadWrite, SumsOf64BitAddressesDoNotWrap) {
  Rig rig;
  for (const std::uint8_t opcode : Data{0x88, 0x8a, 0x8e, 0x8f, 0x90, 0x91, 0x93}) {
    for (const std::uint64_t lba :
         {~std::uint64_t{0}, std::uint64_t{1} << 63, ~std::uint64_t{0} - 0xfffffffe}) {
      for (const std::uint32_t count : {1u, 2u, 0xffffffffu}) {
        EXPECT_EQ(rig.io(cdb16(opcode, lba, count), bytes(512, 1)).run().sense(), 0x052100u);
      }
    }
  }
  EXPECT_EQ(rig.io(caw(~std::uint64_t{0}, 1), bytes(1024, 0)).run().sense(), 0x052100u);
}

TEST(ReadWrite, MoreThanTheMaximumTransferLengthIsAnInvalidField) {
  Rig rig(FakeChannel::disk(8192));
  EXPECT_EQ(rig.io(cdb10(0x28, 0, 2048), {}, 1048576).run().status(), ScsiStatus::good);
  Io io = rig.io(cdb10(0x28, 0, 2049), {}, 2049 * 512);
  EXPECT_EQ(io.run().sense(), 0x052400u);
  EXPECT_EQ(io.task.sense[15], 0xcf);  // SKSV, C/D, BPV, bit 7
  EXPECT_EQ(load_be16(&io.task.sense[16]), 7);
}

TEST(ReadWrite, ProtectionBitsWithoutProtectionInformationAreAnInvalidField) {
  Rig rig;
  for (const std::uint8_t opcode : Data{0x28, 0x2a, 0x2e, 0x2f, 0x41}) {
    for (int protect = 1; protect < 8; ++protect) {
      Io io = rig.io(cdb10(opcode, 0, 1, static_cast<std::uint8_t>(protect << 5)), bytes(512, 0), 512);
      EXPECT_EQ(io.run().sense(), 0x052400u);
      EXPECT_EQ(load_be16(&io.task.sense[16]), 1);
    }
  }
}

TEST(ReadWrite, TransfersTheSmallerOfCdbAndExpectedLength) {
  Rig rig;
  std::fill(rig.channel.memory.begin(), rig.channel.memory.end(), std::uint8_t{0xaa});
  Io two = rig.io(cdb10(0x2a, 0, 2), bytes(512, 0xbb));  // overflow of one block
  EXPECT_EQ(two.run().status(), ScsiStatus::good);
  EXPECT_EQ(two.task.data_transfer_length, 1024u);
  EXPECT_EQ(rig.channel.memory[511], 0xbb);
  EXPECT_EQ(rig.channel.memory[512], 0xaa);
  Io one = rig.io(cdb10(0x2a, 0, 1), bytes(10000, 0xcc));  // underflow
  EXPECT_EQ(one.run().status(), ScsiStatus::good);
  EXPECT_EQ(one.task.need.data_out_bytes, 512u);
  EXPECT_EQ(one.task.data_transfer_length, 512u);
  EXPECT_EQ(rig.channel.memory[512], 0xaa);
  Io part = rig.io(cdb10(0x2a, 4, 1), bytes(200, 0xdd));  // no whole block
  EXPECT_EQ(part.run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.memory[4 * 512], 0xaa);
  Io read = rig.io(cdb10(0x28, 0, 2), {}, 200);
  EXPECT_EQ(read.run().data_in(), bytes(200, 0xcc));
  EXPECT_EQ(read.task.data_transfer_length, 1024u);
  Io none = rig.io(cdb10(0x28, 0, 1), {}, 0);
  EXPECT_EQ(none.run().status(), ScsiStatus::good);
  EXPECT_EQ(none.task.data_transfer_length, 512u);
}

TEST(Durability, FuaReachesTheChannelAndIsNotAskedOfACachelessDisk) {
  Rig rig;
  rig.io(cdb10(0x2a, 0, 1), bytes(512, 1)).run();
  rig.io(cdb10(0x2a, 0, 1, 0x08), bytes(512, 1)).run();
  EXPECT_EQ(rig.channel.fuas, (std::vector<bool>{false, true}));
  Rig through([] {
    auto geometry = FakeChannel::disk();
    geometry.write_cache = false;
    return geometry;
  }());
  through.io(cdb10(0x2a, 0, 1, 0x08), bytes(512, 1)).run();
  EXPECT_EQ(through.channel.kinds, (std::vector{OpKind::write}));
  EXPECT_EQ(through.channel.fuas, (std::vector<bool>{false}));
}

TEST(Durability, AChannelWithoutFuaGetsAFlushAfterTheWrite) {
  auto geometry = FakeChannel::disk();
  geometry.fua = false;
  Rig rig(geometry);
  EXPECT_EQ(rig.io(cdb10(0x2a, 0, 1, 0x08), bytes(512, 1)).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.kinds, (std::vector{OpKind::write, OpKind::flush}));
  rig.channel.fail_next = {OpStatus::ok, OpStatus::write_error};
  EXPECT_EQ(rig.io(cdb10(0x2a, 0, 1, 0x08), bytes(512, 1)).run().sense(), 0x030c00u);
}

TEST(Durability, ReadWithFuaFlushesTheCacheFirst) {
  Rig rig;
  EXPECT_EQ(rig.io(cdb10(0x28, 0, 1, 0x08), {}, 512).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.kinds, (std::vector{OpKind::flush, OpKind::read}));
}

TEST(Durability, AFailedFlushIsToldForEver) {
  Rig rig;
  rig.channel.fail_next = {OpStatus::write_error};
  EXPECT_EQ(rig.io(cdb10(0x35, 0, 0)).run().sense(), 0x030c00u);
  EXPECT_EQ(rig.io(cdb10(0x35, 0, 0)).run().sense(), 0x030c00u);
  EXPECT_EQ(rig.io(cdb16(0x91, 0, 0)).run().sense(), 0x030c00u);
  EXPECT_EQ(rig.io(cdb10(0x2a, 0, 1, 0x08), bytes(512, 1)).run().sense(), 0x030c00u);
  EXPECT_EQ(rig.channel.kinds, (std::vector{OpKind::flush}));
  EXPECT_EQ(rig.io(cdb10(0x2a, 0, 1), bytes(512, 1)).run().status(), ScsiStatus::good);  // promises nothing
}

TEST(Durability, SynchronizeCacheWaitsForTheFlushWithImmedToo) {
  Rig rig;
  rig.channel.hold = true;
  Io io = rig.io(cdb10(0x35, 0, 0, 0x02));
  EXPECT_FALSE(io.run().ended);
  rig.channel.release_all();
  EXPECT_TRUE(io.ended);
  EXPECT_EQ(io.done_calls, 1);
  EXPECT_EQ(io.status(), ScsiStatus::good);
}

TEST(Errors, OfTheChannelBecomeSense) {
  struct Case {
    OpStatus status;
    std::uint32_t sense;
    bool has_lba;
  };
  for (const auto& [status, sense, has_lba] : {Case{OpStatus::read_error, 0x031100, true},
                                               Case{OpStatus::write_error, 0x030c00, true},
                                               Case{OpStatus::no_space, 0x072707, false},
                                               Case{OpStatus::write_protected, 0x072700, false},
                                               Case{OpStatus::not_ready, 0x020400, false},
                                               Case{OpStatus::unsupported, 0x044400, false},
                                               Case{OpStatus::aborted, 0x0b0000, false}}) {
    Rig rig;
    rig.channel.fail_next = {status};
    Io io = rig.io(cdb10(0x2a, 77, 1), bytes(512, 1));
    EXPECT_EQ(io.run().sense(), sense);
    EXPECT_EQ(io.task.sense[0], has_lba ? 0xf0 : 0x70);
    if (has_lba) {
      EXPECT_EQ(load_be32(&io.task.sense[3]), 77u);
    }
  }
}

TEST(Verify, ReadsTheMediumAndComparesWhatItIsTold) {
  Rig rig;
  std::fill_n(rig.channel.memory.begin(), 4 * 512, std::uint8_t{0x11});
  EXPECT_EQ(rig.io(cdb10(0x2f, 0, 4)).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.kinds, (std::vector{OpKind::read}));
  EXPECT_EQ(rig.io(cdb10(0x2f, 0, 4, 0x02), bytes(2048, 0x11)).run().status(), ScsiStatus::good);
  Data wrong = bytes(2048, 0x11);
  wrong[3 * 512 + 5] = 0x12;
  Io io = rig.io(cdb12(0xaf, 0, 4, 0x02), wrong);
  EXPECT_EQ(io.run().sense(), 0x0e1d00u);
  EXPECT_EQ(load_be32(&io.task.sense[3]), 3u);
  EXPECT_EQ(rig.io(cdb16(0x8f, 0, 4, 0x06), bytes(512, 0x11)).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(cdb16(0x8f, 1, 4, 0x06), bytes(512, 0x11)).run().sense(), 0x0e1d00u);
  EXPECT_EQ(rig.io(cdb10(0x2f, 0, 4, 0x04), bytes(512, 0x11)).run().sense(), 0x052400u);  // BYTCHK 10b
  EXPECT_EQ(rig.io(cdb10(0x2f, 0, 4, 0x02), bytes(512, 0x11)).run().sense(), 0x052400u);  // data too short
  EXPECT_EQ(rig.io(cdb10(0x2f, 0, 0, 0x02)).run().status(), ScsiStatus::good);
}

TEST(Verify, LongRangesAreReadInSlicesOfTheScratch) {
  Rig rig;
  Io io = rig.io(cdb10(0x2f, 0, 1200));
  io.run();
  EXPECT_EQ(io.status(), ScsiStatus::good);
  EXPECT_EQ(io.task.need.scratch_bytes, 262144u);
  EXPECT_EQ(rig.channel.kinds.size(), 3u);
  rig.channel.fail_next = {OpStatus::ok, OpStatus::read_error};
  Io bad = rig.io(cdb10(0x2f, 0, 1200));
  EXPECT_EQ(bad.run().sense(), 0x031100u);
  EXPECT_EQ(load_be32(&bad.task.sense[3]), 512u);
}

TEST(WriteAndVerify, WritesFlushesAndReadsBack) {
  Rig rig;
  for (const Data& cdb : {cdb10(0x2e, 5, 2, 0x02), cdb12(0xae, 5, 2, 0x02), cdb16(0x8e, 5, 2, 0x02)}) {
    rig.channel.kinds.clear();
    EXPECT_EQ(rig.io(cdb, bytes(1024, 0x77)).run().status(), ScsiStatus::good);
    EXPECT_EQ(rig.channel.kinds, (std::vector{OpKind::write, OpKind::flush, OpKind::read}));
    EXPECT_EQ(rig.channel.memory[5 * 512], 0x77);
  }
  rig.channel.hold = true;
  Io io = rig.io(cdb10(0x2e, 5, 1, 0x02), bytes(512, 0x78));
  io.run();
  rig.channel.release_one();
  rig.channel.release_one();
  rig.channel.memory[5 * 512 + 9] = 0;  // the medium did not keep it
  rig.channel.release_one();
  EXPECT_EQ(io.sense(), 0x0e1d00u);
}

TEST(CompareAndWrite, WritesOnlyWhenEverythingIsEqual) {
  Rig rig;
  std::fill_n(rig.channel.memory.begin(), 3 * 512, std::uint8_t{'A'});
  Data both = bytes(2 * 3 * 512, 'A');
  std::fill(both.begin() + 3 * 512, both.end(), std::uint8_t{'B'});
  EXPECT_EQ(rig.io(caw(0, 3, 0x08), both).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.kinds, (std::vector{OpKind::read, OpKind::write}));
  EXPECT_TRUE(rig.channel.fuas.back());
  EXPECT_EQ(rig.channel.memory[3 * 512 - 1], 'B');
  Data miss = bytes(2 * 3 * 512, 'B');
  miss[3 * 512 - 27] = 'C';
  Io io = rig.io(caw(0, 3), miss);
  EXPECT_EQ(io.run().sense(), 0x0e1d00u);
  EXPECT_EQ(io.task.sense[0], 0xf0);
  EXPECT_EQ(load_be32(&io.task.sense[3]), 3u * 512 - 27);
  EXPECT_EQ(rig.channel.memory[0], 'B');
}

TEST(CompareAndWrite, HoldsToItsLimitsAndToTwiceTheLength) {
  Rig rig(FakeChannel::disk(2048, 4096));
  EXPECT_EQ(rig.io(caw(0, 128), bytes(256 * 4096, 0)).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(caw(0, 129), bytes(258 * 4096, 0)).run().sense(), 0x052400u);
  EXPECT_EQ(rig.io(caw(0, 255), bytes(512 * 4096, 0)).run().sense(), 0x052400u);
  EXPECT_EQ(rig.io(caw(0, 1), bytes(4 * 4096, 0)).run().sense(), 0x052400u);
  EXPECT_EQ(rig.io(caw(0, 3), bytes(4 * 4096, 0)).run().sense(), 0x052400u);
  EXPECT_EQ(rig.io(caw(0, 0)).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(caw(0, 0), bytes(2 * 256 * 4096, 0)).run().sense(), 0x052400u);  // 256, as one byte cannot
                                                                                    // say it
}

TEST(WriteSame, RepeatsOneBlockInSlices) {
  Rig rig(FakeChannel::disk(4096));
  Data block(512);
  for (std::size_t i = 0; i < 512; ++i) block[i] = static_cast<std::uint8_t>(i);
  Io io = rig.io(cdb10(0x41, 10, 1500), block);
  io.piece_bytes = 300;
  EXPECT_EQ(io.run().status(), ScsiStatus::good);
  for (std::size_t i = 0; i < 1500; ++i) {
    ASSERT_TRUE(std::equal(block.begin(), block.end(),
                           rig.channel.memory.begin() + static_cast<long>((10 + i) * 512)));
  }
  EXPECT_EQ(rig.channel.memory[10 * 512 - 1], 0);
  EXPECT_EQ(rig.channel.memory[1510 * 512 + 1], 0);
}

TEST(WriteSame, ZeroesGoToTheChannelAndFallBackToWrites) {
  Rig rig;
  std::fill(rig.channel.memory.begin(), rig.channel.memory.end(), std::uint8_t{0xff});
  EXPECT_EQ(rig.io(cdb16(0x93, 4, 8, 0x08), bytes(512, 0)).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(cdb16(0x93, 12, 8, 0x09)).run().status(), ScsiStatus::good);  // UNMAP and NDOB
  EXPECT_EQ(rig.channel.kinds, (std::vector{OpKind::write_zeroes, OpKind::write_zeroes}));
  EXPECT_EQ(rig.channel.memory[4 * 512], 0);
  EXPECT_EQ(rig.channel.memory[20 * 512 - 1], 0);
  EXPECT_EQ(rig.channel.memory[20 * 512], 0xff);
  rig.channel.kinds.clear();
  rig.channel.fail_next = {OpStatus::unsupported};
  EXPECT_EQ(rig.io(cdb16(0x93, 30, 2, 0x01)).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.kinds, (std::vector{OpKind::write_zeroes, OpKind::write}));
  EXPECT_EQ(rig.channel.memory[32 * 512 - 1], 0);
}

TEST(PreFetch, PromisesNothingAndHoldsToTheMedium) {
  Rig rig;
  for (const std::uint8_t immed : std::initializer_list<std::uint8_t>{0x00, 0x02}) {
    for (const Data& cdb : {cdb10(0x34, 5, 3, immed), cdb10(0x34, 5, 0, immed), cdb10(0x34, 2048, 0, immed), cdb16(0x90, 2047, 1, immed)}) {
      EXPECT_EQ(rig.io(cdb).run().status(), ScsiStatus::good)
          << "CONDITION MET would say that all of it is in a cache";
    }
    for (const Data& cdb : {cdb10(0x34, 2048, 1, immed), cdb16(0x90, 2047, 2, immed), cdb16(0x90, ~std::uint64_t{0}, 2, immed)}) {
      Io io = rig.io(cdb);
      EXPECT_EQ(io.run().sense(), 0x052100u);
    }
  }
  EXPECT_TRUE(rig.channel.kinds.empty());
  Rig stopped;
  EXPECT_EQ(stopped.io({0x1b, 0, 0, 0, 0, 0}).run().status(), ScsiStatus::good);
  EXPECT_EQ(stopped.io(cdb10(0x34, 0, 1)).run().sense(), 0x020402u);
}

TEST(WriteSame, RefusesWhatItDoesNotAdvertise) {
  Rig rig(FakeChannel::disk(65536));
  EXPECT_EQ(rig.io(cdb10(0x41, 0, 0), bytes(512, 0)).run().sense(), 0x052400u);  // all 65536, which is over
                                                                                 // the maximum
  // MAXIMUM WRITE SAME LENGTH
  EXPECT_EQ(rig.io(cdb16(0x93, 0, 32769), bytes(512, 0)).run().sense(), 0x052400u);
  EXPECT_EQ(rig.io(cdb16(0x93, 0, 32768), bytes(512, 0)).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(cdb16(0x93, 0, 1, 0x10), bytes(512, 0)).run().sense(), 0x052400u);     // ANCHOR
  EXPECT_EQ(rig.io(cdb10(0x41, 0, 1, 0x01)).run().sense(), 0x052400u);  // no NDOB in ten bytes
  EXPECT_EQ(rig.io(cdb10(0x41, 0, 1), bytes(256, 0)).run().sense(), 0x052400u);
  EXPECT_EQ(rig.io(cdb10(0x41, 0, 1), bytes(1024, 0)).run().sense(), 0x052400u);
  auto thick = FakeChannel::disk();
  thick.thin = thick.unmap_zeroes = false;
  Rig other(thick);
  EXPECT_EQ(other.io(cdb16(0x93, 0, 1, 0x08), bytes(512, 0)).run().sense(), 0x052400u);
}

// SBC-3 5.41: zero blocks are all of them up to the last one.
TEST(WriteSame, ZeroBlocksMeanAllUpToTheLastOne) {
  Rig rig(FakeChannel::disk(40000));
  std::fill(rig.channel.memory.begin(), rig.channel.memory.end(), std::uint8_t{0x55});
  // one more than the maximum
  EXPECT_EQ(rig.io(cdb16(0x93, 7231, 0), bytes(512, 0xaa)).run().sense(), 0x052400u);
  // there is no such block
  EXPECT_EQ(rig.io(cdb16(0x93, 40000, 0), bytes(512, 0xaa)).run().sense(), 0x052100u);
  EXPECT_EQ(rig.io(cdb10(0x41, 40000, 0), bytes(512, 0xaa)).run().sense(), 0x052100u);
  EXPECT_EQ(rig.io(cdb16(0x93, ~std::uint64_t{0}, 0), bytes(512, 0xaa)).run().sense(), 0x052100u);
  EXPECT_TRUE(rig.channel.kinds.empty());
  EXPECT_EQ(rig.io(cdb16(0x93, 7232, 0), bytes(512, 0xaa)).run().status(), ScsiStatus::good);
  for (std::size_t lba = 0; lba < 40000; ++lba)
    ASSERT_EQ(rig.channel.memory[lba * 512 + 511], lba < 7232 ? 0x55 : 0xaa) << lba;
  EXPECT_EQ(rig.io(cdb10(0x41, 39999, 0, 0x08), bytes(512, 0)).run().status(), ScsiStatus::good);  // UNMAP
  EXPECT_EQ(rig.channel.memory[39999 * 512], 0);
  EXPECT_EQ(rig.channel.memory[39998 * 512], 0xaa);
}

Data unmap_list(std::initializer_list<std::pair<std::uint64_t, std::uint32_t>> ranges) {
  Data list(8 + 16 * ranges.size());
  store_be16(&list[0], static_cast<std::uint16_t>(list.size() - 2));
  store_be16(&list[2], static_cast<std::uint16_t>(list.size() - 8));
  std::size_t at = 8;
  for (const auto& [lba, blocks] : ranges) {
    store_be64(&list[at], lba);
    store_be32(&list[at + 8], blocks);
    at += 16;
  }
  return list;
}
Data unmap_cdb(std::size_t bytes_of_list) {
  Data cdb(10);
  cdb[0] = 0x42;
  store_be16(&cdb[7], static_cast<std::uint16_t>(bytes_of_list));
  return cdb;
}

TEST(Unmap, DeallocatesEveryRangeOrNone) {
  Rig rig;
  std::fill(rig.channel.memory.begin(), rig.channel.memory.end(), std::uint8_t{0xff});
  const Data list = unmap_list({{1, 2}, {0, 0}, {100, 1}});
  Io io = rig.io(unmap_cdb(list.size()), list);
  io.piece_bytes = 11;
  EXPECT_EQ(io.run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.kinds, (std::vector{OpKind::unmap, OpKind::unmap}));
  EXPECT_EQ(rig.channel.memory[512], 0);
  EXPECT_EQ(rig.channel.memory[3 * 512], 0xff);
  EXPECT_EQ(rig.channel.memory[100 * 512], 0);
  rig.channel.kinds.clear();
  const Data bad = unmap_list({{1, 2}, {2047, 2}});
  EXPECT_EQ(rig.io(unmap_cdb(bad.size()), bad).run().sense(), 0x052100u);
  const Data wrap = unmap_list({{~std::uint64_t{0}, 0xffffffff}});
  EXPECT_EQ(rig.io(unmap_cdb(wrap.size()), wrap).run().sense(), 0x052100u);
  EXPECT_TRUE(rig.channel.kinds.empty());
}

TEST(Unmap, OddListsAreHeldToTheirLengths) {
  Rig rig;
  EXPECT_EQ(rig.io(unmap_cdb(0)).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(unmap_cdb(7), bytes(7, 0)).run().sense(), 0x051a00u);
  EXPECT_EQ(rig.io(unmap_cdb(24), bytes(4, 0)).run().sense(), 0x051a00u);
  EXPECT_EQ(rig.io(unmap_cdb(8), bytes(8, 0)).run().status(), ScsiStatus::good);
  Data list = unmap_list({{0, 1}});
  store_be16(&list[2], 0xfff0);  // says more than there is
  EXPECT_EQ(rig.io(unmap_cdb(list.size()), list).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.kinds.size(), 1u);
  store_be16(&list[2], 15);  // a descriptor that is not whole
  EXPECT_EQ(rig.io(unmap_cdb(list.size()), list).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.kinds.size(), 1u);
  Data many(8 + 16 * 257);
  store_be16(&many[2], 16 * 257);
  Io io = rig.io(unmap_cdb(many.size()), many);
  EXPECT_EQ(io.run().sense(), 0x052600u);
  EXPECT_EQ(io.task.sense[15], 0x80);
  EXPECT_EQ(load_be16(&io.task.sense[16]), 2);
}

// SBC-3 4.7.4: anchored blocks read as zeroes and keep their place.
TEST(Anchor, UnmapWritesZeroesAndGivesNothingBack) {
  Rig rig;
  std::fill(rig.channel.memory.begin(), rig.channel.memory.end(), std::uint8_t{0xff});
  const Data list = unmap_list({{1, 600}, {0, 0}, {1000, 1}});
  Data cdb = unmap_cdb(list.size());
  cdb[1] = 0x01;
  EXPECT_EQ(rig.io(cdb, list).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.kinds, (std::vector{OpKind::write, OpKind::write, OpKind::write}))
      << "256 KiB, the rest of it, the other range";
  for (const std::size_t block : std::initializer_list<std::size_t>{1, 512, 513, 600, 1000})
    EXPECT_EQ(rig.channel.memory[block * 512], 0) << block;
  for (const std::size_t block : std::initializer_list<std::size_t>{0, 601, 999, 1001})
    EXPECT_EQ(rig.channel.memory[block * 512], 0xff) << block;
}

TEST(Anchor, WriteSameTakesItWithUnmapAlone) {
  Rig rig;
  std::fill(rig.channel.memory.begin(), rig.channel.memory.end(), std::uint8_t{0xff});
  EXPECT_EQ(rig.io(cdb10(0x41, 0, 4, 0x18), bytes(512, 0)).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.kinds.front(), OpKind::write);
  EXPECT_EQ(rig.channel.memory[3 * 512], 0);
  EXPECT_EQ(rig.channel.memory[4 * 512], 0xff);
  Io alone = rig.io(cdb16(0x93, 0, 4, 0x10), bytes(512, 0));
  EXPECT_EQ(alone.run().sense(), 0x052400u);
  EXPECT_EQ(load_be16(&alone.task.sense[16]), 1);
}

TEST(Anchor, IsNotThereWhereNothingIsDeallocated) {
  auto thick = FakeChannel::disk();
  thick.thin = thick.unmap_zeroes = false;
  Rig rig(thick);
  EXPECT_EQ(rig.io(cdb10(0x41, 0, 1, 0x10), bytes(512, 0)).run().sense(), 0x052400u);
  EXPECT_EQ(rig.io({0x12, 1, 0xb2, 0, 255, 0}, {}, 255).run().data_in()[5], 0);
}

TEST(Unmap, IsNoCommandOfAThickDisk) {
  auto thick = FakeChannel::disk();
  thick.thin = false;
  Rig rig(thick);
  EXPECT_EQ(rig.io(unmap_cdb(8), bytes(8, 0)).run().sense(), 0x052000u);
}

TEST(WriteProtect, RefusesEveryCommandThatChangesTheMedium) {
  auto geometry = FakeChannel::disk();
  geometry.read_only = true;
  Rig rig(geometry);
  for (const Data& cdb : {Data{0x0a, 0, 0, 0, 1, 0}, cdb10(0x2a, 0, 1), cdb12(0xaa, 0, 1), cdb16(0x8a, 0, 1),
                          cdb10(0x2e, 0, 1), cdb12(0xae, 0, 1), cdb16(0x8e, 0, 1), cdb10(0x41, 0, 1),
                          cdb16(0x93, 0, 1), unmap_cdb(8), caw(0, 1)}) {
    EXPECT_EQ(rig.io(cdb, bytes(512, 0)).run().sense(), 0x072700u) << int{cdb[0]};
  }
  EXPECT_EQ(rig.io(cdb10(0x28, 0, 1), {}, 512).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(cdb10(0x35, 0, 0)).run().status(), ScsiStatus::good);
}

TEST(Lend, GivesTheDiskItselfWhenNothingStandsInTheWay) {
  auto geometry = FakeChannel::disk();
  geometry.lends_memory = true;
  geometry.write_cache = false;
  Rig rig(geometry);
  Io write = rig.io(cdb10(0x2a, 9, 2), bytes(1024, 0));
  write.admit();
  const MutableBytes memory = rig.device.lend(write.task);
  ASSERT_EQ(memory.size(), 1024u);
  EXPECT_EQ(memory.data(), rig.channel.memory.data() + 9 * 512);
  std::fill(memory.begin(), memory.end(), std::uint8_t{0x66});
  EXPECT_TRUE(rig.device.execute(write.task));
  EXPECT_EQ(write.status(), ScsiStatus::good);
  EXPECT_TRUE(rig.channel.kinds.empty());
  Io read = rig.io(cdb10(0x28, 9, 2), {}, 1024);
  read.admit();
  EXPECT_EQ(rig.device.lend(read.task)[1023], 0x66);
  EXPECT_TRUE(rig.device.execute(read.task));
  EXPECT_EQ(read.task.data_in_length, 1024u);
  Io partial = rig.io(cdb10(0x2a, 9, 2), bytes(512, 0));
  partial.admit();
  EXPECT_TRUE(rig.device.lend(partial.task).empty());
  rig.device.abort(partial.task);
}

TEST(Lend, GuardsItsRangeAgainstCompareAndWrite) {
  auto geometry = FakeChannel::disk();
  geometry.lends_memory = true;
  Rig rig(geometry);
  Io write = rig.io(cdb10(0x2a, 9, 2), bytes(1024, 0));
  write.admit();
  ASSERT_FALSE(rig.device.lend(write.task).empty());
  Io swap = rig.io(caw(10, 1), bytes(1024, 0));
  EXPECT_FALSE(swap.run().ended);
  EXPECT_TRUE(rig.channel.kinds.empty());
  EXPECT_TRUE(rig.device.execute(write.task));
  EXPECT_TRUE(swap.ended);
  // The other way round: nothing is lent of a range that is being compared.
  rig.channel.hold = true;
  Io next = rig.io(caw(10, 1), bytes(1024, 0));
  next.run();
  Io later = rig.io(cdb10(0x2a, 9, 2), bytes(1024, 0));
  later.admit();
  EXPECT_TRUE(rig.device.lend(later.task).empty());
  rig.device.abort(later.task);
  rig.channel.release_all();
}

TEST(SendDiagnostic, TheSelfTestReadsBothEndsOfTheMedium) {
  Rig rig;
  std::vector<std::uint64_t> read;
  rig.channel.on_submit = [&](const block::BlockOp& op) { read.push_back(op.lba.value()); };
  EXPECT_EQ(rig.io({0x1d, 0x04, 0, 0, 0, 0}).run().status(), ScsiStatus::good);
  EXPECT_EQ(read, (std::vector<std::uint64_t>{0, 2047}));
  EXPECT_EQ(rig.io({0x1d, 0x10, 0, 0, 0, 0}).run().status(), ScsiStatus::good);  // PF, and no list: nothing
  EXPECT_EQ(read.size(), 2u);
  for (const std::size_t broken : {0u, 1u}) {
    rig.channel.fail_next.assign(broken, block::OpStatus::ok);
    rig.channel.fail_next.push_back(block::OpStatus::read_error);
    EXPECT_EQ(rig.io({0x1d, 0x04, 0, 0, 0, 0}).run().sense(), 0x043e03u);
  }
  rig.unit.state().flush_failed = true;
  EXPECT_EQ(rig.io({0x1d, 0x07, 0, 0, 0, 0}).run().sense(), 0x043e03u);
}

TEST(SendDiagnostic, OtherTestsAreRefused) {
  Rig rig;
  for (const Data& cdb : {Data{0x1d, 0x20, 0, 0, 0, 0}, Data{0x1d, 0x02, 0, 0, 0, 0}, Data{0x1d, 0x10, 0, 0, 8, 0}}) {
    EXPECT_EQ(rig.io(cdb).run().sense(), 0x052400u);
  }
}

}  // namespace
}  // namespace perilune::scsi::test
