// SPDX-License-Identifier: Apache-2.0
// POPULATE TOKEN, WRITE USING TOKEN, RECEIVE ROD TOKEN INFORMATION: which blocks move, who may use a token
// and for how long.
#include <gtest/gtest.h>

#include "scsi/copy_test_support.hpp"
#include "scsi/rod_tokens.hpp"

namespace perilune::scsi::test {
namespace {

using block::OpKind;
using block::OpStatus;

constexpr std::uint32_t invalid_cdb_field = 0x052400;
constexpr std::uint32_t invalid_list_field = 0x052600;
constexpr std::uint32_t list_length_error = 0x051a00;
constexpr std::uint32_t unsupported_type = 0x052301;
constexpr std::uint32_t token_unknown = 0x052304;
constexpr std::uint32_t token_corrupt = 0x052305;
constexpr std::uint32_t token_expired = 0x052307;
constexpr std::uint32_t token_deleted = 0x052309;
constexpr std::uint32_t party_failure = 0x0a0d01;

using Ranges = std::vector<std::pair<std::uint64_t, std::uint32_t>>;

Data descriptors(const Ranges& ranges) {
  Data out(2 + ranges.size() * 16);
  store_be16(&out[0], static_cast<std::uint16_t>(ranges.size() * 16));
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    store_be64(&out[2 + i * 16], ranges[i].first);
    store_be32(&out[2 + i * 16 + 8], ranges[i].second);
  }
  return out;
}
Data with_length(Data list) {
  store_be16(&list[0], static_cast<std::uint16_t>(list.size() - 2));
  return list;
}
Data populate_list(const Ranges& ranges, std::uint32_t inactivity_s = 0) {
  Data head(14);
  store_be32(&head[4], inactivity_s);
  return with_length(join({head, descriptors(ranges)}));
}
Data write_list(const Data& token, const Ranges& ranges, std::uint64_t offset = 0, std::uint8_t options = 0) {
  Data head(16);
  head[2] = options;
  store_be64(&head[8], offset);
  return with_length(join({head, token, Data(6), descriptors(ranges)}));
}
Data command(std::uint8_t service_action, std::size_t list_bytes, std::uint32_t identifier) {
  Data cdb{0x83, service_action, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  store_be32(&cdb[6], identifier);
  store_be32(&cdb[10], static_cast<std::uint32_t>(list_bytes));
  return cdb;
}
Data information_cdb(std::uint32_t identifier, std::uint32_t allocation = 4096) {
  Data cdb{0x84, 0x07, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  store_be32(&cdb[2], identifier);
  store_be32(&cdb[10], allocation);
  return cdb;
}

struct TokenRig : CopyRig {
  explicit TokenRig(std::vector<LunMapping> map = {{0, 0}, {1, 1}, {2, 2}}) : CopyRig(std::move(map)) {
    device.set_clock(Delegate<std::uint64_t()>::to<&TokenRig::clock>(*this));
    device.set_token_key({1, 2, 3});
  }
  std::uint64_t clock() { return clock_ms; }

  Io populate(const Ranges& ranges, std::uint16_t lun = 0, std::uint32_t inactivity_s = 0,
              std::uint32_t identifier = 1) {
    const Data list = populate_list(ranges, inactivity_s);
    return io(command(0x10, list.size(), identifier), lun, list);
  }
  Io write(const Data& token, const Ranges& ranges, std::uint16_t lun = 1, std::uint64_t offset = 0,
           std::uint8_t options = 0, std::uint32_t identifier = 2) {
    const Data list = write_list(token, ranges, offset, options);
    return io(command(0x11, list.size(), identifier), lun, list);
  }
  Data information(std::uint32_t identifier, std::uint16_t lun = 0) {
    return io(information_cdb(identifier), lun, {}, 4096).run().data_in();
  }
  // The token of these ranges.
  Data token(const Ranges& ranges, std::uint16_t lun = 0, std::uint32_t inactivity_s = 0) {
    EXPECT_EQ(populate(ranges, lun, inactivity_s).run().status(), ScsiStatus::good);
    const Data told = information(1, lun);
    EXPECT_EQ(told.size(), 32u + 4 + 2 + 512);
    return {told.end() - 512, told.end()};
  }

  std::uint64_t clock_ms = 5'000;
};

// ---- POPULATE TOKEN

TEST(PopulateToken, TheTokenByteForByte) {
  TokenRig rig;
  ASSERT_EQ(rig.populate({{5, 8}, {100, 2}}).run().status(), ScsiStatus::good);
  const Data told = rig.information(1);
  ASSERT_EQ(told.size(), 550u);
  EXPECT_EQ(Data(told.begin(), told.begin() + 38),
            (Data{0,    0,    0x02, 0x22, 0x10, 0x01, 0, 0,
                  0xff, 0xff, 0xff, 0xff, 0,    0,    0, 0xf1,  // done, no errors; blocks
                  0,    0,    0,    0,    0,    0,    0, 10,
                  0,    0,    0,    0,    0,    0,    0, 0,  // ten of them
                  0,    0,    0x02, 0x02, 0,    0}));        // a token of 512 bytes
  const Data token(told.end() - 512, told.end());
  EXPECT_EQ(
      Data(token.begin(), token.begin() + 48),
      (Data{0x00, 0x01, 0x00, 0x00, 0,    0,    0x01, 0xf8,  // access upon reference
            0,    0,    0,    0,    0,    0,    0,    1,     // its number
            0xe4, 0,    0,    0,    0x01, 0x03, 0,    8,    0x30, 0, 0, 0, 0, 0, 0,    0xa0,  // the unit
            0,    0,    0,    0,    0,    0,    0,    0,    0,    0, 0, 0, 0, 0, 0x02, 0x00}));
  EXPECT_EQ(load_be64(&token[48]), 0u);
  EXPECT_EQ(load_be64(&token[56]), 5120u);
  EXPECT_EQ(Data(token.begin() + 96, token.begin() + 104), (Data{0, 0, 0x02, 0x00, 0, 3, 0xc0, 0}));
  EXPECT_EQ(Data(token.begin() + 128, token.begin() + 140),
            (Data{0x53, 0xa8, 0, 8, 'i', 'q', 'n', '.', 'x', 0, 0, 0}));
  EXPECT_NE(Data(token.begin() + 480, token.end()), Data(32));
  EXPECT_TRUE(rig.zero.kinds.empty());  // nothing was read for it
}

TEST(PopulateToken, TwoTokensAreNeverTheSame) {
  TokenRig rig;
  EXPECT_NE(rig.token({{5, 8}}), rig.token({{5, 8}}));
}

TEST(PopulateToken, WrongListsPointAtWhatIsWrong) {
  TokenRig rig;
  const auto refused = [&](Data list, std::uint16_t byte) {
    Io io = rig.io(command(0x10, list.size(), 1), 0, list);
    EXPECT_EQ(io.run().sense(), invalid_list_field);
    EXPECT_EQ(load_be16(&io.task.sense[16]), byte);
  };
  const Data good = populate_list({{5, 8}});
  const auto with = [&](std::size_t at, std::uint8_t value) {
    Data list = good;
    list[at] = value;
    return list;
  };
  refused(with(1, 0x1d), 0);  // POPULATE TOKEN DATA LENGTH
  refused(with(2, 0x04), 2);
  refused(populate_list({{5, 8}}, 601), 4);  // INACTIVITY TIMEOUT
  Data point_in_time = with(2, 0x02);        // RTV
  store_be32(&point_in_time[8], 0x00800000);
  refused(point_in_time, 8);
  refused(with(15, 8), 14);  // no whole descriptor
  refused(populate_list({{5, 8}, {12, 1}}), 32);
  EXPECT_EQ(rig.populate({{2047, 2}}).run().sense(), 0x052100u);
  EXPECT_EQ(rig.populate(Ranges(17, {0, 0})).run().sense(), 0x052608u);
  EXPECT_EQ(rig.io(command(0x10, 20, 1), 0, Data(good.begin(), good.begin() + 20)).run().sense(),
            list_length_error);
  EXPECT_EQ(rig.io(command(0x10, 0, 1)).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(information_cdb(1), 0, {}, 4096).run().sense(),
            invalid_cdb_field);  // none of them made one
  Data asked = with(2, 0x02);
  store_be32(&asked[8], 0x00010000);
  EXPECT_EQ(rig.io(command(0x10, asked.size(), 1), 0, asked).run().status(), ScsiStatus::good);
}

TEST(PopulateToken, WithoutAKeyThereAreNoTokens) {
  CopyRig rig;
  EXPECT_EQ(rig.io(command(0x10, 0, 1)).run().sense(), 0x052000u);
  EXPECT_EQ(rig.io(command(0x11, 0, 1)).run().sense(), 0x052000u);
}

// ---- WRITE USING TOKEN

TEST(WriteUsingToken, MovesTheBlocksThatTheTokenStandsFor) {
  TokenRig rig;
  const Data token = rig.token({{5, 8}, {100, 4}});
  ASSERT_EQ(rig.write(token, {{7, 3}, {1000, 9}}).run().status(), ScsiStatus::good);
  EXPECT_EQ(bytes_of(rig.one, 7, 3), bytes_of(rig.zero, 5, 3));
  EXPECT_EQ(bytes_of(rig.one, 1000, 5), bytes_of(rig.zero, 8, 5));
  EXPECT_EQ(bytes_of(rig.one, 1005, 4), bytes_of(rig.zero, 100, 4));
  const Data told = rig.information(2, 1);
  EXPECT_EQ(told, (Data{0, 0, 0, 32, 0x11, 0x01, 0, 6, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xf1, 0, 0,
                        0, 0, 0, 0,  0,    12,   0, 3, 0,    0,    0,    0,    0, 0, 0, 0,    0, 0}));
  EXPECT_EQ(rig.io(information_cdb(2), 1, {}, 4096).run().sense(), invalid_cdb_field);  // told, and forgotten
}

TEST(WriteUsingToken, AtAnOffset) {
  TokenRig rig;
  const Data token = rig.token({{5, 8}, {100, 4}});
  ASSERT_EQ(rig.write(token, {{0, 5}}, 1, 6).run().status(), ScsiStatus::good);
  EXPECT_EQ(bytes_of(rig.one, 0, 2), bytes_of(rig.zero, 11, 2));
  EXPECT_EQ(bytes_of(rig.one, 2, 3), bytes_of(rig.zero, 100, 3));
  for (const std::uint64_t offset :
       {std::uint64_t{8}, ~std::uint64_t{0}}) {  // five blocks from there are not in it
    Io io = rig.write(token, {{0, 5}}, 1, offset);
    EXPECT_EQ(io.run().sense(), invalid_list_field);
    EXPECT_EQ(load_be16(&io.task.sense[16]), 8);
  }
}

TEST(WriteUsingToken, BetweenBlocksOfDifferentLengths) {
  TokenRig rig;
  ASSERT_EQ(rig.write(rig.token({{16, 16}}), {{3, 2}}, 2).run().status(), ScsiStatus::good);
  EXPECT_EQ(bytes_of(rig.two, 3, 2, 4096), bytes_of(rig.zero, 16, 16));
  const Data long_block = rig.token({{3, 1}}, 2);
  ASSERT_EQ(rig.write(long_block, {{40, 8}}).run().status(), ScsiStatus::good);
  EXPECT_EQ(bytes_of(rig.one, 40, 8), bytes_of(rig.zero, 16, 8));
  EXPECT_EQ(rig.write(long_block, {{40, 4}}, 1, 4).run().sense(), 0x0a260au);  // from within a block
  EXPECT_EQ(rig.write(rig.token({{16, 4}, {32, 4}}), {{3, 1}}, 2).run().sense(),
            0x0a260au);  // no whole block is in one range
}

TEST(WriteUsingToken, ReadsWhatIsThereWhenItIsUsed) {
  TokenRig rig;
  const Data token = rig.token({{5, 1}});
  ASSERT_EQ(rig.io({0x2a, 0, 0, 0, 0, 5, 0, 0, 1, 0}, 0, Data(512, 0xee)).run().status(), ScsiStatus::good);
  ASSERT_EQ(rig.write(token, {{0, 1}}).run().status(), ScsiStatus::good);
  EXPECT_EQ(bytes_of(rig.one, 0, 1), Data(512, 0xee));
}

TEST(WriteUsingToken, OfZeroesNeedsNoSource) {
  TokenRig rig;
  std::fill(rig.one.memory.begin(), rig.one.memory.end(), std::uint8_t{0x55});
  Data zeroes(512);
  store_be32(&zeroes[0], 0xffff0001);
  store_be16(&zeroes[6], 0x01f8);
  ASSERT_EQ(rig.write(zeroes, {{8, 1000}}, 1, 12345).run().status(), ScsiStatus::good);
  EXPECT_EQ(bytes_of(rig.one, 8, 1000), Data(1000 * 512));
  EXPECT_EQ(rig.one.memory[7 * 512], 0x55);
  EXPECT_EQ(rig.one.memory[1008 * 512], 0x55);
  EXPECT_EQ(rig.one.kinds.front(), OpKind::write_zeroes);  // a thin unit stays thin
  rig.one.geometry().thin = false;
  std::fill(rig.one.memory.begin(), rig.one.memory.end(), std::uint8_t{0x55});
  ASSERT_EQ(rig.write(zeroes, {{8, 1000}}).run().status(), ScsiStatus::good);
  EXPECT_EQ(bytes_of(rig.one, 8, 1000), Data(1000 * 512));
  EXPECT_EQ(rig.one.kinds.back(), OpKind::write);
}

TEST(WriteUsingToken, AFailureTellsHowFarItCame) {
  TokenRig rig;
  const Data token = rig.token({{0, 1024}});
  rig.one.fail_next = {OpStatus::ok, OpStatus::no_space};  // two slices of 256 KiB
  Io io = rig.write(token, {{0, 1024}});
  EXPECT_EQ(io.run().sense(), party_failure);
  const Data told = rig.information(2, 1);
  EXPECT_EQ(told[5], 0x02);
  EXPECT_EQ(load_be64(&told[16]), 512u);
  EXPECT_EQ(told[12], 0x02);
  EXPECT_EQ(told[13], io.task.sense_length);
  EXPECT_EQ(Data(told.begin() + 32, told.begin() + 32 + told[13]), sense_bytes(io));
  EXPECT_EQ(load_be32(&told[told.size() - 4]), 0u);
}

TEST(WriteUsingToken, WhileItRunsItCanBeFollowedAndAborted) {
  TokenRig rig;
  const Data token = rig.token({{0, 1024}});
  rig.zero.hold = true;
  Io io = rig.write(token, {{0, 1024}});
  io.run();
  ASSERT_FALSE(io.ended);
  EXPECT_EQ(rig.information(2, 1).at(5), 0x11);
  EXPECT_EQ(rig.write(token, {{0, 1}}).run().sense(), 0x050016u);  // the same identifier
  Data abort{0x83, 0x1c, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  EXPECT_EQ(rig.io(abort, 1).run().status(), ScsiStatus::good);
  rig.zero.hold = false;
  rig.zero.release_all();
  EXPECT_TRUE(io.ended);
  EXPECT_EQ(rig.information(2, 1).at(5), 0x60);
}

TEST(WriteUsingToken, WrongListsPointAtWhatIsWrong) {
  TokenRig rig;
  const Data token = rig.token({{5, 8}});
  const Data good = write_list(token, {{5, 8}});
  const auto refused = [&](std::size_t at, std::uint8_t value, std::uint16_t byte) {
    Data list = good;
    list[at] = value;
    Io io = rig.io(command(0x11, list.size(), 2), 1, list);
    EXPECT_EQ(io.run().sense(), invalid_list_field);
    EXPECT_EQ(load_be16(&io.task.sense[16]), byte);
  };
  refused(0, 0x01, 0);  // WRITE USING TOKEN DATA LENGTH
  refused(2, 0x04, 2);
  refused(535, 8, 534);  // no whole descriptor
  EXPECT_EQ(rig.io(command(0x11, 540, 2), 1, Data(good.begin(), good.begin() + 540)).run().sense(),
            list_length_error);
  EXPECT_EQ(rig.write(token, {{2047, 2}}).run().sense(), 0x052100u);
  EXPECT_TRUE(rig.one.kinds.empty());
}

// ---- who may use a token, and for how long

TEST(RodToken, NoBitOfItCanBeForged) {
  TokenRig rig;
  const Data token = rig.token({{5, 8}});
  for (std::size_t bit = 64; bit < 512 * 8; bit += 7) {
    Data forged = token;
    forged[bit / 8] ^= static_cast<std::uint8_t>(1 << bit % 8);
    Io io = rig.write(forged, {{0, 1}});
    ASSERT_EQ(io.run().sense(), token_corrupt) << bit;
    EXPECT_EQ(load_be16(&io.task.sense[16]), 16);
  }
  Data other = token;
  other[1] = 0x80;
  EXPECT_EQ(rig.write(other, {{0, 1}}).run().sense(), unsupported_type);
  other = token;
  other[7] = 0;
  EXPECT_EQ(rig.write(other, {{0, 1}}).run().sense(), 0x05230au);
  TokenRig stranger;
  stranger.device.set_token_key({9});
  EXPECT_EQ(stranger.write(token, {{0, 1}}).run().sense(), token_corrupt);
  TokenRig restarted;  // the same key, and nothing remembered
  EXPECT_EQ(restarted.write(token, {{0, 1}}).run().sense(), token_unknown);
  EXPECT_TRUE(rig.one.kinds.empty());
}

TEST(RodToken, OfAUnitThatTheNexusDoesNotSeeIsUnknown) {
  TokenRig rig;
  const Data token = rig.token({{5, 8}});
  Nexus limited(rig.device, Rig::names("limited"), std::vector<LunMapping>{{0, 1}});
  while ((Io(rig.device, limited, {0, 0, 0, 0, 0, 0}).run().sense() >> 16) == 6) {
  }
  const Data list = write_list(token, {{0, 1}});
  EXPECT_EQ(Io(rig.device, limited, command(0x11, list.size(), 2), list).run().sense(), token_unknown);
  const Data at_b = write_list(token, {{0, 1}});
  EXPECT_EQ(Io(rig.device, *rig.b, command(0x11, at_b.size(), 2), at_b, 0, 1).run().status(),
            ScsiStatus::good);
}

TEST(RodToken, ExpiresWhenItIsNotUsedAndAtTheEndOfItsLife) {
  TokenRig rig;
  const Data token = rig.token({{5, 8}}, 0, 10);
  rig.clock_ms += 9'999;
  EXPECT_EQ(rig.write(token, {{0, 1}}).run().status(), ScsiStatus::good);
  rig.clock_ms += 9'999;
  EXPECT_EQ(rig.write(token, {{0, 1}}).run().status(), ScsiStatus::good);
  rig.clock_ms += 10'000;
  EXPECT_EQ(rig.write(token, {{0, 1}}).run().sense(), token_expired);

  const Data usual = rig.token({{5, 8}});
  rig.clock_ms += 30'000;  // the default
  EXPECT_EQ(rig.write(usual, {{0, 1}}).run().sense(), token_expired);

  const Data busy = rig.token({{5, 8}}, 0, 600);
  for (int minute = 5; minute < 60; minute += 5) {
    rig.clock_ms += 300'000;
    EXPECT_EQ(rig.write(busy, {{0, 1}}).run().status(), ScsiStatus::good);
  }
  rig.clock_ms += 300'000;
  EXPECT_EQ(rig.write(busy, {{0, 1}}).run().sense(), token_expired);
}

TEST(RodToken, IsDeletedWhenTheLastCommandSaysSoAndEndsWell) {
  TokenRig rig;
  const Data token = rig.token({{0, 8}});
  constexpr std::uint8_t del_tkn = 0x02;
  rig.one.fail_next = {OpStatus::write_error};
  EXPECT_EQ(rig.write(token, {{0, 1}}, 1, 0, del_tkn).run().sense(), party_failure);
  EXPECT_EQ(rig.write(token, {{0, 1}}, 1, 0, del_tkn).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.write(token, {{0, 1}}).run().sense(), token_deleted);
}

TEST(RodToken, ANexusDoesNotPushOutTheTokensOfAnother) {
  TokenRig rig;
  const Data list = populate_list({{1, 1}});
  EXPECT_EQ(Io(rig.device, *rig.b, command(0x10, list.size(), 1), list).run().status(), ScsiStatus::good);
  const Data told = Io(rig.device, *rig.b, information_cdb(1), {}, 4096).run().data_in();
  const Data of_b(told.end() - 512, told.end());
  const Data first = rig.token({{2, 1}});
  Data last;
  for (std::size_t i = 0; i < rod_limits::max_tokens + 10; ++i) last = rig.token({{3, 1}});
  EXPECT_EQ(rig.write(first, {{0, 1}}).run().sense(), token_unknown);
  EXPECT_EQ(rig.write(last, {{0, 1}}).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.write(of_b, {{0, 1}}).run().status(), ScsiStatus::good);
}

TEST(RodToken, WritingToAStoppedOrProtectedUnitIsRefusedLikeAWrite) {
  TokenRig rig;
  const Data token = rig.token({{0, 8}});
  rig.unit(1).state().swp = true;
  EXPECT_EQ(rig.write(token, {{0, 1}}).run().sense(), 0x072702u);
  rig.unit(1).state().swp = false;
  rig.unit(0).state().stopped = true;
  Io io = rig.write(token, {{0, 1}});
  EXPECT_EQ(io.run().sense(), party_failure);
  EXPECT_EQ(io.task.sense[8], 18);  // what the source said
}

TEST(ThirdPartyCopyVpd, TellsTheLimitsOfTokens) {
  TokenRig rig;
  const Data page = rig.io({0x12, 0x01, 0x8f, 0x04, 0x00, 0}, 0, {}, 1024).run().data_in();
  const Data told{0x00, 0x00, 0x00, 0x20, 0, 0, 0, 0,    0, 0, 0, 16, 0, 0, 0x02, 0x58, 0, 0,
                  0,    30,   0,    0,    0, 0, 0, 0x08, 0, 0, 0, 0,  0, 0, 0,    0x01, 0, 0};
  ASSERT_GT(page.size(), 4 + told.size());
  EXPECT_EQ(Data(page.begin() + 4, page.begin() + 4 + static_cast<std::ptrdiff_t>(told.size())), told);
  // The types of descriptors ascend, and their lengths lead from one to the next.
  std::vector<std::uint16_t> types;
  std::size_t at = 4;
  for (; at + 4 <= page.size(); at += 4u + load_be16(&page[at + 2])) types.push_back(load_be16(&page[at]));
  EXPECT_EQ(at, page.size());
  EXPECT_EQ(types, (std::vector<std::uint16_t>{0x0000, 0x0001, 0x0004, 0x0008, 0x000c, 0x0106, 0x0108, 0x8001,
                                               0xc001}));
}

// ---- REPORT ALL ROD TOKENS

TEST(ReportAllRodTokens, TellsOfThoseThatCouldBeUsed) {
  TokenRig rig;
  const auto all = [&](std::uint16_t lun, std::uint32_t allocation = 4096) {
    Data cdb{0x84, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    store_be32(&cdb[10], allocation);
    return rig.io(cdb, lun, {}, 4096).run().data_in();
  };
  EXPECT_EQ(all(0), (Data{0, 0, 0, 4, 0, 0, 0, 0}));
  const Data first = rig.token({{5, 8}}), second = rig.token({{100, 2}}, 0, 600),
             of_another = rig.token({{1, 1}}, 1);
  const auto head = [](const Data& token) { return Data(token.begin(), token.begin() + 96); };
  EXPECT_EQ(all(0), join({Data{0, 0, 0, 196, 0, 0, 0, 0}, head(first), head(second)}));
  EXPECT_EQ(all(1), join({Data{0, 0, 0, 100, 0, 0, 0, 0}, head(of_another)}));
  EXPECT_EQ(all(0, 50).size(), 50u);
  EXPECT_EQ(all(0, 50)[3], 196) << "how much there is";
  rig.clock_ms += 31'000;  // the first is over, after thirty seconds without use
  EXPECT_EQ(all(0), join({Data{0, 0, 0, 100, 0, 0, 0, 0}, head(second)}));
  EXPECT_EQ(rig.write(second, {{200, 2}}, 1, 0, 0x02).run().status(), ScsiStatus::good);  // DEL_TKN
  EXPECT_EQ(all(0), (Data{0, 0, 0, 4, 0, 0, 0, 0}));
}

}  // namespace
}  // namespace perilune::scsi::test
