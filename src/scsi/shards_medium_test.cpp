// SPDX-License-Identifier: Apache-2.0
// SANITIZE, FORMAT UNIT, the tray and ROD tokens where several shards serve the unit: what one shard does,
// sessions of the others see.
#include <gtest/gtest.h>

#include <optional>

#include "scsi/copy_test_support.hpp"
#include "scsi/rod_tokens.hpp"
#include "scsi/shard_test_support.hpp"

namespace perilune::scsi::test {
namespace {

using block::OpKind;
using block::OpStatus;

constexpr std::uint32_t sanitize_in_progress = 0x02041b;
constexpr std::uint32_t format_in_progress = 0x020404;
constexpr std::uint32_t sanitize_failed = 0x033103;
constexpr std::uint32_t invalid_cdb_field = 0x052400;
constexpr std::uint32_t removal_prevented = 0x055302;
constexpr std::uint32_t no_medium = 0x023a00;
constexpr std::uint32_t medium_changed = 0x062800;

const Data test_unit_ready{0, 0, 0, 0, 0, 0};
const Data request_sense{0x03, 0, 0, 0, 252, 0};
const Data exit_failure_mode{0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0};
Data block_erase(std::uint8_t options = 0) {
  return {0x48, static_cast<std::uint8_t>(options | 0x02), 0, 0, 0, 0, 0, 0, 0, 0};
}
constexpr std::uint8_t immed = 0x80, ause = 0x20;
Data read(std::uint8_t lba) { return {0x28, 0, 0, 0, 0, lba, 0, 0, 1, 0}; }
Data write(std::uint8_t lba) { return {0x2a, 0, 0, 0, 0, lba, 0, 0, 1, 0}; }

std::uint32_t sense_of(ShardRig& rig, std::uint32_t shard, const Data& cdb, const Data& out = {},
                       std::uint32_t in = 0) {
  Io io = rig.io(shard, cdb, out, in);
  io.run();
  rig.settle();
  EXPECT_TRUE(io.ended);
  return io.sense();
}

// A SANITIZE of shard 0, BLOCK ERASE, whose first operation is held.
struct Busy {
  explicit Busy(const Data& cdb, const Data& out = {}) : io((rig.take_attentions(), rig.io(0, cdb, out))) {
    std::fill(rig.disks[0].begin(), rig.disks[0].end(), std::uint8_t{0x55});
    rig.channel(0).hold = true;
    io.run();
    rig.deliver_all();
  }
  ~Busy() { end(); }
  void end() {
    rig.channel(0).hold = false;
    rig.settle();
  }
  [[nodiscard]] bool cleared() const {
    return std::all_of(rig.disks[0].begin(), rig.disks[0].end(), [](std::uint8_t b) { return b == 0; });
  }
  ShardRig rig{3};
  Io io;
};

// ---- SANITIZE, FORMAT UNIT

TEST(ShardsMedium, ASanitizeIsSeenOnEveryShardFromTheAnswerOn) {
  Busy busy(block_erase(immed));
  ShardRig& rig = busy.rig;
  ASSERT_TRUE(busy.io.ended);
  EXPECT_EQ(busy.io.status(), ScsiStatus::good);
  for (std::uint32_t shard = 0; shard < 3; ++shard) {
    EXPECT_EQ(rig.io(shard, test_unit_ready).run().sense(), sanitize_in_progress) << shard;
    EXPECT_EQ(rig.io(shard, read(0), {}, 512).run().sense(), sanitize_in_progress) << shard;
    EXPECT_EQ(rig.io(shard, write(0), bytes(512, 1)).run().sense(), sanitize_in_progress) << shard;
    EXPECT_EQ(rig.io(shard, block_erase()).run().sense(), sanitize_in_progress) << shard;
    EXPECT_EQ(rig.io(shard, {0x12, 0, 0, 0, 96, 0}, {}, 96).run().status(), ScsiStatus::good) << shard;
  }
  rig.channel(0).release_one();  // it has asked what is mapped
  rig.channel(0).release_one();  // and written the first 256 KiB of 1 MiB, and will erase as much
  const Data here = rig.io(0, request_sense, {}, 252).run().data_in();
  EXPECT_EQ((Data{here[2], here[12], here[13], here[15], here[16], here[17]}),
            (Data{2, 0x04, 0x1b, 0x80, 0x20, 0x00}));
  EXPECT_EQ(rig.io(2, request_sense, {}, 252).run().data_in(), here);
  busy.end();
  EXPECT_TRUE(busy.cleared());
  for (std::uint32_t shard = 0; shard < 3; ++shard)
    EXPECT_EQ(sense_of(rig, shard, write(shard & 0xff), bytes(512, 1)), 0u);
}

TEST(ShardsMedium, OneThatAnswersAtItsEndIsSeenToo) {
  Busy busy(block_erase());
  ShardRig& rig = busy.rig;
  EXPECT_FALSE(busy.io.ended);
  EXPECT_EQ(rig.io(1, read(0), {}, 512).run().sense(), sanitize_in_progress);
  EXPECT_EQ(rig.io(2, block_erase(immed)).run().sense(), sanitize_in_progress);
  EXPECT_TRUE(rig.device(0).background_work());
  EXPECT_FALSE(rig.device(1).background_work()) << "it is another shard that does it";
  busy.end();
  EXPECT_EQ(busy.io.status(), ScsiStatus::good);
  EXPECT_EQ(busy.io.done_calls, 1);
  EXPECT_TRUE(busy.cleared());
  EXPECT_EQ(sense_of(rig, 1, read(0), {}, 512), 0u);
}

TEST(ShardsMedium, WaitsForWritesOfOtherShardsAndEndsTheirCommandsThatWait) {
  ShardRig rig;
  rig.take_attentions();
  rig.channel(1).hold = true;
  Io running = rig.io(1, write(0), bytes(512, 1));
  running.run();
  Io sanitize = rig.io(0, block_erase());
  sanitize.run();
  rig.deliver_all();
  EXPECT_TRUE(rig.channel(0).kinds.empty()) << "nothing is touched beside a write";
  Io waiting = rig.io(1, write(1), bytes(512, 1));
  waiting.run();
  EXPECT_FALSE(waiting.ended);
  rig.channel(0).hold = true;
  rig.channel(1).hold = false;
  rig.channel(1).release_all();
  rig.deliver_all();
  EXPECT_EQ(running.status(), ScsiStatus::good);
  EXPECT_EQ(waiting.sense(), sanitize_in_progress);
  EXPECT_FALSE(sanitize.ended);
  rig.channel(0).hold = false;
  rig.settle();
  EXPECT_EQ(sanitize.status(), ScsiStatus::good);
}

TEST(ShardsMedium, AFailureIsOneOnEveryShardAndIsLeftOnAny) {
  for (const bool unrestricted : {false, true}) {
    ShardRig rig;
    rig.take_attentions();
    std::fill(rig.disks[0].begin(), rig.disks[0].end(), std::uint8_t{0x55});
    rig.channel(0).fail_next = {OpStatus::ok, OpStatus::write_error};
    EXPECT_EQ(sense_of(rig, 0, block_erase(unrestricted ? ause : std::uint8_t{0})), sanitize_failed);
    for (const std::uint32_t shard : {0u, 1u})
      EXPECT_EQ(sense_of(rig, shard, read(0), {}, 512), sanitize_failed) << shard;
    EXPECT_EQ(sense_of(rig, 1, exit_failure_mode), unrestricted ? 0u : invalid_cdb_field);
    if (!unrestricted) {
      EXPECT_EQ(sense_of(rig, 1, block_erase(ause)), invalid_cdb_field);
      EXPECT_EQ(sense_of(rig, 1, block_erase()), 0u);
    }
    for (const std::uint32_t shard : {0u, 1u}) EXPECT_EQ(sense_of(rig, shard, read(0), {}, 512), 0u) << shard;
  }
}

TEST(ShardsMedium, AFlushThatFailsThereIsKnownEverywhere) {
  ShardRig rig;
  rig.take_attentions();
  rig.channel(0).fail_next = {OpStatus::ok,
                              OpStatus::write_error};  // all is deallocated: one question, and the flush
  EXPECT_EQ(sense_of(rig, 0, block_erase(immed | ause)), 0u);
  EXPECT_EQ(sense_of(rig, 1, exit_failure_mode), 0u);
  EXPECT_EQ(sense_of(rig, 1, {0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0}), 0x030c00u);
}

TEST(ShardsMedium, FormatUnitIsSeenToo) {
  Busy busy({0x04, 0x10, 0, 0, 0, 0}, {0, 0x8a, 0, 0, 0, 1, 0, 1, 7});  // FOV, IP, IMMED
  EXPECT_EQ(busy.io.status(), ScsiStatus::good);
  EXPECT_EQ(busy.rig.io(1, write(0), bytes(512, 1)).run().sense(), format_in_progress);
  busy.end();
  EXPECT_EQ(sense_of(busy.rig, 1, write(0), bytes(512, 1)), 0u);
  EXPECT_EQ(busy.rig.disks[0].back(), 7);
}

TEST(ShardsMedium, AResetOfAnotherShardEndsTheCommandAndNotTheOperation) {
  Busy busy(block_erase());
  TaskManagement reset;
  reset.function = TmFunction::lun_reset;
  reset.nexus = &busy.rig.nexus(2);
  EXPECT_FALSE(busy.rig.device(2).manage(reset));
  struct Done {
    void on(TaskManagement&) { ended = true; }
    bool ended = false;
  } done;
  reset.done = Delegate<void(TaskManagement&)>::to<&Done::on>(done);
  busy.rig.deliver_all();
  EXPECT_TRUE(done.ended && busy.io.ended);
  busy.rig.take_attentions();
  EXPECT_EQ(busy.rig.io(1, test_unit_ready).run().sense(), sanitize_in_progress);
  busy.end();
  EXPECT_TRUE(busy.cleared());
  EXPECT_EQ(sense_of(busy.rig, 1, test_unit_ready), 0u);
}

// Whatever order the messages come in, and wherever on the way the command is aborted: while the operation
// works on the medium, no write of another shard does, and in the end every shard serves again.
TEST(ShardsMedium, NoWriteIsBesideItHoweverTheMessagesCome) {
  for (std::size_t steps = 0; steps < 24; ++steps) {
    for (std::size_t order = 0; order < 6; ++order) {
      ShardRig rig(3);
      rig.take_attentions();
      std::size_t beside = 0;
      rig.channel(2).on_submit = [&](const block::BlockOp& op) {
        if (op.kind != OpKind::flush && op.kind != OpKind::query) beside += rig.channel(1).held();
      };
      rig.channel(1).hold = true;
      Io before = rig.io(1, write(0), bytes(512, 1));
      before.run();
      rig.channel(2).hold = true;
      Io sanitize = rig.io(2, block_erase());
      sanitize.run();
      Io after = rig.io(1, write(1), bytes(512, 1));
      bool released = false;
      for (std::size_t i = 0; i < steps; ++i) {
        if (i == steps / 2) after.run();
        if (!released && i >= order) {
          rig.channel(1).release_all();
          released = true;
        }
        if (rig.waiting() != 0) rig.deliver_some(order + i * (order + 1));
      }
      if (!sanitize.ended) rig.device(2).abort(sanitize.task);
      for (std::size_t i = 0; rig.waiting() != 0 || rig.channel(1).held() != 0 || rig.channel(2).held() != 0;
           ++i) {
        if (rig.waiting() != 0)
          rig.deliver_some(order + i * (order + 1));
        else if (rig.channel(2).held() != 0)
          rig.channel(2).release_one();
        else
          rig.channel(1).release_one();
      }
      rig.hold(false);
      EXPECT_EQ(beside, 0u) << steps << " " << order;
      EXPECT_TRUE(sanitize.ended && before.ended) << steps << " " << order;
      if (after.task.phase != Task::Phase::outside || !after.ended) rig.settle();
      for (std::uint32_t shard = 0; shard < 3; ++shard) {
        EXPECT_EQ(sense_of(rig, shard, write(7), bytes(512, 1)), 0u) << steps << " " << order << " " << shard;
      }
    }
  }
}

// ---- the tray

const Data eject{0x1b, 0, 0, 0, 0x02, 0};
const Data load{0x1b, 0, 0, 0, 0x03, 0};
const Data prevent{0x1e, 0, 0, 0, 1, 0};
const Data allow_removal{0x1e, 0, 0, 0, 0, 0};

TEST(ShardsTray, StaysShutWhileANexusOfAnyShardPreventsIt) {
  ShardRig rig(3);
  rig.take_attentions();
  EXPECT_EQ(sense_of(rig, 1, prevent), 0u);
  EXPECT_EQ(sense_of(rig, 2, prevent), 0u);
  EXPECT_EQ(sense_of(rig, 0, eject), removal_prevented);
  EXPECT_EQ(sense_of(rig, 1, allow_removal), 0u);
  EXPECT_EQ(sense_of(rig, 0, eject), removal_prevented) << "shard 2 still does";
  EXPECT_EQ(sense_of(rig, 2, allow_removal), 0u);
  EXPECT_EQ(sense_of(rig, 0, eject), 0u);
}

TEST(ShardsTray, OpensAgainWhenWhoPreventedItIsGoneOrTheUnitWasReset) {
  ShardRig rig;
  rig.take_attentions();
  EXPECT_EQ(sense_of(rig, 1, prevent), 0u);
  rig.end_nexus(1);
  rig.settle();
  rig.begin_nexus(1, "again");
  rig.settle();
  rig.take_attentions();
  EXPECT_EQ(sense_of(rig, 0, eject), 0u);
  EXPECT_EQ(sense_of(rig, 0, load), 0u);
  rig.take_attentions();
  EXPECT_EQ(sense_of(rig, 1, prevent), 0u);
  TaskManagement reset;
  reset.function = TmFunction::lun_reset;
  reset.nexus = &rig.nexus(0);
  struct Done {
    void on(TaskManagement&) {}
  } done;
  reset.done = Delegate<void(TaskManagement&)>::to<&Done::on>(done);
  EXPECT_FALSE(rig.device(0).manage(reset));
  rig.settle();
  rig.take_attentions();
  EXPECT_EQ(sense_of(rig, 0, eject), 0u);
}

TEST(ShardsTray, OpeningAndShuttingItIsSeenOnEveryShard) {
  ShardRig rig;
  rig.take_attentions();
  EXPECT_EQ(sense_of(rig, 0, eject), 0u);
  EXPECT_EQ(sense_of(rig, 1, test_unit_ready), no_medium);
  EXPECT_EQ(rig.nexus(1).take_media_event(rig.unit(1)), MediaEvent::removed);
  EXPECT_EQ(sense_of(rig, 1, load), 0u);
  EXPECT_EQ(rig.attention(0), medium_changed);
  EXPECT_EQ(rig.nexus(0).take_media_event(rig.unit(0)), MediaEvent::inserted);
  EXPECT_EQ(rig.attention(1), 0u) << "who shut it knows";
}

TEST(ShardsTray, TheOperatorChangesTheMediumOnAllOfThem) {
  ShardRig rig;
  rig.take_attentions();
  rig.channel(1).hold = true;
  Io reading = rig.io(1, read(0), {}, 512);
  reading.run();
  std::optional<Status> out;
  rig.unit(0).take_medium_out([&](const Status& status) { out = status; });
  rig.deliver_all();
  EXPECT_FALSE(out) << "another shard reads";
  rig.channel(1).hold = false;
  rig.settle();
  EXPECT_EQ(reading.status(), ScsiStatus::good);
  ASSERT_TRUE(out && *out);
  Io late = rig.io(1, write(200), bytes(512, 0xab));  // is refused, whatever becomes of the medium
  EXPECT_EQ(late.run().sense(), no_medium);
  FakeChannel other(FakeChannel::disk(64)), same(FakeChannel::disk(64), &other.memory);
  ASSERT_TRUE(rig.unit(0).put_medium_in(&other));
  EXPECT_EQ(sense_of(rig, 0, load), no_medium) << "it is not in the tray of the other one";
  ASSERT_TRUE(rig.unit(1).put_medium_in(&same));
  EXPECT_EQ(sense_of(rig, 1, load), no_medium) << "the operator has the tray";
  bool shut = false;
  rig.unit(0).shut_tray([&] { shut = true; });
  rig.settle();
  EXPECT_TRUE(shut);
  for (std::uint32_t shard = 0; shard < 2; ++shard) {
    EXPECT_EQ(rig.attention(shard), medium_changed);
    EXPECT_EQ(rig.nexus(shard).take_media_event(rig.unit(shard)), MediaEvent::inserted);
    EXPECT_EQ(load_be32(rig.io(shard, {0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {}, 8).run().data_in().data()), 63u);
  }
}

TEST(ShardsTray, TheOperatorIsRefusedWhileANexusOfAnyShardPreventsIt) {
  ShardRig rig;
  rig.take_attentions();
  EXPECT_EQ(sense_of(rig, 1, {0x1e, 0, 0, 0, 1, 0}), 0u);
  std::optional<Status> out;
  rig.unit(0).take_medium_out([&](const Status& status) { out = status; });
  rig.settle();
  ASSERT_TRUE(out);
  EXPECT_EQ(out->error().code, Errc::busy);
  EXPECT_EQ(rig.nexus(1).take_media_event(rig.unit(1)), MediaEvent::eject_request);
  EXPECT_EQ(sense_of(rig, 0, test_unit_ready), 0u);
}

TEST(ShardsTray, WhatWaitedForItsDataWhenTheMediumWentDoesNotLandOnTheOther) {
  ShardRig rig;
  rig.take_attentions();
  Io late = rig.io(1, write(7), bytes(512, 0xab));
  late.admit();
  rig.unit(0).take_medium_out([](const Status&) {});
  rig.settle();
  FakeChannel other(FakeChannel::disk(64)), same(FakeChannel::disk(64), &other.memory);
  ASSERT_TRUE(rig.unit(0).put_medium_in(&other));
  ASSERT_TRUE(rig.unit(1).put_medium_in(&same));
  rig.unit(0).shut_tray();
  rig.settle();
  late.execute();
  EXPECT_EQ(late.sense(), no_medium);
  EXPECT_EQ(other.memory, bytes(64 * 512, 0));
}

TEST(ShardsTray, AnEjectWaitsForReadsOfOtherShards) {
  ShardRig rig;
  rig.take_attentions();
  rig.channel(1).hold = true;
  Io reading = rig.io(1, read(0), {}, 512);
  reading.run();
  Io out = rig.io(0, eject);
  out.run();
  rig.deliver_all();
  EXPECT_FALSE(out.ended);
  rig.channel(1).hold = false;
  rig.settle();
  EXPECT_EQ(reading.status(), ScsiStatus::good);
  EXPECT_EQ(out.status(), ScsiStatus::good);
  EXPECT_FALSE(rig.unit(1).medium_present());
}

// ---- ROD tokens

constexpr std::uint32_t token_unknown = 0x052304;
constexpr std::uint32_t token_deleted = 0x052309;
constexpr std::uint32_t token_expired = 0x052307;

Data range_of(std::uint8_t lba, std::uint8_t blocks) {
  Data out(18);
  out[1] = 16;
  out[9] = lba;
  out[13] = blocks;
  return out;
}
Data token_cdb(std::uint8_t service_action, std::size_t bytes, std::uint8_t identifier) {
  Data cdb{0x83, service_action, 0, 0, 0, 0, 0, 0, 0, identifier, 0, 0, 0, 0, 0, 0};
  store_be32(&cdb[10], static_cast<std::uint32_t>(bytes));
  return cdb;
}

struct Tokens {
  explicit Tokens(std::uint32_t shards = 2) : rig(shards) {
    rig.take_attentions();
    for (std::size_t i = 0; i < rig.disks[0].size(); ++i)
      rig.disks[0][i] = static_cast<std::uint8_t>(1 + i / 512);
  }
  // Blocks 3 and 4.
  Data make(std::uint32_t shard, std::uint8_t identifier = 1) {
    Data list = join({Data(14), range_of(3, 2)});
    list[1] = static_cast<std::uint8_t>(list.size() - 2);
    EXPECT_EQ(sense_of(rig, shard, token_cdb(0x10, list.size(), identifier), list), 0u);
    const Data cdb{0x84, 0x07, 0, 0, 0, identifier, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0};
    const Data answer = rig.io(shard, cdb, {}, 1024).run().data_in();
    EXPECT_EQ(answer.size(), 32u + 4 + 2 + 512);
    return {answer.end() - 512, answer.end()};
  }
  // To blocks 100 and 101.
  std::uint32_t use(std::uint32_t shard, const Data& token, std::uint8_t options = 0) {
    Data list = join({Data(16), token, Data(6), range_of(100, 2)});
    list[2] = options;
    store_be16(&list[0], static_cast<std::uint16_t>(list.size() - 2));
    return sense_of(rig, shard, token_cdb(0x11, list.size(), 9), list);
  }
  void pass(std::uint64_t milliseconds) {
    for (std::uint32_t shard = 0; shard < rig.count(); ++shard) rig.clock_ms(shard) += milliseconds;
  }
  ShardRig rig;
};

TEST(ShardsTokens, OneThatWasMadeOnAShardIsGoodOnAnother) {
  Tokens tokens;
  const Data token = tokens.make(0);
  EXPECT_EQ(tokens.use(1, token), 0u);
  EXPECT_TRUE(std::equal(tokens.rig.disks[0].begin() + 3 * 512, tokens.rig.disks[0].begin() + 5 * 512,
                         tokens.rig.disks[0].begin() + 100 * 512));
  Data forged = token;
  forged[40] ^= 1;
  EXPECT_EQ(tokens.use(1, forged), 0x052305u);
}

TEST(ShardsTokens, IsAnsweredWhenEveryShardKnowsIt) {
  Tokens tokens;
  Data list = join({Data(14), range_of(3, 2)});
  list[1] = static_cast<std::uint8_t>(list.size() - 2);
  Io io = tokens.rig.io(0, token_cdb(0x10, list.size(), 1), list);
  io.run();
  EXPECT_FALSE(io.ended);
  tokens.rig.deliver(0, 1);
  EXPECT_FALSE(io.ended);
  tokens.rig.deliver(1, 0);
  EXPECT_TRUE(io.ended);
  EXPECT_EQ(io.status(), ScsiStatus::good);
}

TEST(ShardsTokens, UseOnOneShardKeepsItAliveOnAllAndDeletingEndsItOnAll) {
  Tokens tokens(3);
  const Data token = tokens.make(2);
  tokens.pass(29'000);
  EXPECT_EQ(tokens.use(0, token), 0u);
  tokens.pass(29'000);
  EXPECT_EQ(tokens.use(1, token), 0u) << "30 seconds after its last use it would be over";
  tokens.pass(31'000);
  EXPECT_EQ(tokens.use(0, token), token_expired);
  const Data another = tokens.make(2, 2);
  EXPECT_EQ(tokens.use(1, another, 0x02), 0u);  // DEL_TKN
  for (std::uint32_t shard = 0; shard < 3; ++shard)
    EXPECT_EQ(tokens.use(shard, another), token_deleted) << shard;
}

TEST(ReportAllRodTokens, OfEveryShard) {
  Tokens tokens;
  tokens.make(0);
  tokens.make(1, 2);
  for (std::uint32_t shard = 0; shard < 2; ++shard) {
    const Data told = tokens.rig.io(shard, {0x84, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0}, {}, 1024).run().data_in();
    ASSERT_EQ(told.size(), 8u + 2 * 96) << shard;
    EXPECT_EQ(told[3], 4 + 2 * 96);
  }
}

TEST(ShardsTokens, AnotherMediumMakesThemUnknown) {
  Tokens tokens;
  const Data of_zero = tokens.make(0), of_one = tokens.make(1, 2);
  tokens.rig.unit(0).take_medium_out([](const Status&) {});
  tokens.rig.settle();
  FakeChannel other(FakeChannel::disk()), same(FakeChannel::disk(), &other.memory);
  ASSERT_TRUE(tokens.rig.unit(0).put_medium_in(&other));
  ASSERT_TRUE(tokens.rig.unit(1).put_medium_in(&same));
  tokens.rig.unit(0).shut_tray();
  tokens.rig.settle();
  tokens.rig.take_attentions();
  for (std::uint32_t shard = 0; shard < 2; ++shard) {
    EXPECT_EQ(tokens.use(shard, of_zero), token_unknown) << shard;
    EXPECT_EQ(tokens.use(shard, of_one), token_unknown) << shard;
  }
}

TEST(ShardsTokens, OneThatHadToGoIsUnknownEverywhere) {
  Tokens tokens;
  const Data first = tokens.make(0);
  for (std::size_t i = 0; i < rod_limits::max_tokens_of_a_nexus; ++i)
    tokens.make(0, static_cast<std::uint8_t>(2 + i));
  EXPECT_EQ(tokens.use(0, first), token_unknown);
  EXPECT_EQ(tokens.use(1, first), token_unknown);
}

}  // namespace
}  // namespace perilune::scsi::test
