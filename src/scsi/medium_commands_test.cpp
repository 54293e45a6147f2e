// SPDX-License-Identifier: Apache-2.0
// SANITIZE and FORMAT UNIT: what is on the medium afterwards, what is refused meanwhile, and what a failure
// leaves.
#include <gtest/gtest.h>

#include <optional>

#include "scsi/copy_test_support.hpp"
#include "scsi/test_support.hpp"

namespace perilune::scsi::test {
namespace {

using block::OpKind;
using block::OpStatus;

constexpr std::uint32_t sanitize_in_progress = 0x02041b;
constexpr std::uint32_t format_in_progress = 0x020404;
constexpr std::uint32_t sanitize_failed = 0x033103;
constexpr std::uint32_t format_failed = 0x033101;
constexpr std::uint32_t format_corrupted = 0x033100;
constexpr std::uint32_t invalid_cdb_field = 0x052400;
constexpr std::uint32_t invalid_list_field = 0x052600;
constexpr std::uint32_t list_length_error = 0x051a00;

constexpr std::uint8_t immed = 0x80;
constexpr std::uint8_t ause = 0x20;

const Data exit_failure_mode{0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0};
const Data test_unit_ready{0, 0, 0, 0, 0, 0};
const Data read_one{0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0};

Data block_erase(std::uint8_t options = 0) {
  return {0x48, static_cast<std::uint8_t>(options | 0x02), 0, 0, 0, 0, 0, 0, 0, 0};
}
Data overwrite(std::size_t list_bytes, std::uint8_t options = 0) {
  Data cdb{0x48, static_cast<std::uint8_t>(options | 0x01), 0, 0, 0, 0, 0, 0, 0, 0};
  store_be16(&cdb[7], static_cast<std::uint16_t>(list_bytes));
  return cdb;
}
Data request_sense() { return {0x03, 0, 0, 0, 252, 0}; }

void fill(Rig& rig, std::uint8_t value) {
  std::fill(rig.channel.memory.begin(), rig.channel.memory.end(), value);
}
bool holds(const Rig& rig, std::uint8_t value) {
  return std::all_of(rig.channel.memory.begin(), rig.channel.memory.end(),
                     [&](std::uint8_t b) { return b == value; });
}
std::size_t count(const Rig& rig, OpKind kind) {
  return static_cast<std::size_t>(std::count(rig.channel.kinds.begin(), rig.channel.kinds.end(), kind));
}
std::uint16_t pointer(const Io& io) { return load_be16(&io.task.sense[16]); }

// A disk whose unit runs an operation with one block operation held back.
struct Busy : Rig {
  explicit Busy(Data cdb = block_erase(immed), Data list = {}) {
    fill(*this, 0x55);
    channel.hold = true;
    EXPECT_EQ(io(std::move(cdb), std::move(list)).run().status(), ScsiStatus::good);
    EXPECT_EQ(channel.held(), 1u);
  }
  void end() {
    channel.hold = false;
    channel.release_all();
  }
};

// ---- SANITIZE: the medium

TEST(SanitizeOverwrite, EveryBlockBeginsWithThePattern) {
  Rig rig;
  const Data list{0x01, 0, 0, 3, 'a', 'b', 'c'};
  EXPECT_EQ(rig.io(overwrite(7), list).run().status(), ScsiStatus::good);
  for (std::size_t i = 0; i < rig.channel.memory.size(); ++i) {
    ASSERT_EQ(rig.channel.memory[i], "abc"[i % 512 % 3]) << i;
  }
  EXPECT_EQ(rig.channel.kinds.back(), OpKind::flush);
}

TEST(SanitizeOverwrite, EveryPassReachesTheMediumAndTheLastOneIsNotInverted) {
  Rig rig(FakeChannel::disk(64));
  rig.channel.hold = true;
  Io io = rig.io(overwrite(5), {0x82, 0, 0, 1, 0x0f});  // INVERT, 2 passes
  io.run();
  rig.channel.release_one();
  EXPECT_TRUE(holds(rig, 0xf0));  // SBC-4: of an even count the first is inverted
  EXPECT_EQ(rig.channel.kinds.back(), OpKind::flush);
  rig.channel.release_one();
  rig.channel.release_one();
  EXPECT_TRUE(holds(rig, 0x0f));
  EXPECT_FALSE(io.ended);
  rig.channel.release_one();
  EXPECT_EQ(io.status(), ScsiStatus::good);
  EXPECT_EQ(io.done_calls, 1);
  EXPECT_EQ(rig.channel.kinds, (std::vector{OpKind::write, OpKind::flush, OpKind::write, OpKind::flush}));
}

TEST(SanitizeOverwrite, ThreeInvertedPassesBeginWithThePattern) {
  Rig rig(FakeChannel::disk(64));
  rig.channel.hold = true;
  Io io = rig.io(overwrite(5), {0x83, 0, 0, 1, 0x0f});
  io.run();
  rig.channel.release_one();
  EXPECT_TRUE(holds(rig, 0x0f));
  rig.channel.hold = false;
  rig.channel.release_all();
  EXPECT_TRUE(holds(rig, 0x0f));
  EXPECT_EQ(count(rig, OpKind::write), 3u);
}

TEST(SanitizeOverwrite, BadListsAreRefusedBeforeAnythingIsWritten) {
  Rig rig;
  fill(rig, 0x55);
  const auto refused = [&](const Data& cdb, const Data& list, std::uint32_t sense, std::uint16_t byte) {
    Io io = rig.io(cdb, list);
    io.run();
    EXPECT_EQ(io.sense(), sense);
    EXPECT_EQ(pointer(io), byte);
  };
  refused(overwrite(0), {}, invalid_cdb_field, 7);
  refused(overwrite(4), {1, 0, 0, 1}, invalid_cdb_field, 7);
  refused(overwrite(4 + 513), Data(517, 1), invalid_cdb_field, 7);
  refused(overwrite(5), {0x00, 0, 0, 1, 7}, invalid_list_field, 0);  // OVERWRITE COUNT
  refused(overwrite(5), {0x21, 0, 0, 1, 7}, invalid_list_field, 0);  // TEST
  refused(overwrite(5), {0x01, 1, 0, 1, 7}, invalid_list_field, 1);
  refused(overwrite(5), {0x01, 0, 0, 0, 7}, invalid_list_field, 2);  // no pattern
  refused(overwrite(5), {0x01, 0, 0, 2, 7}, invalid_list_field, 2);  // longer than what came
  Io cut = rig.io(overwrite(5), {0x01, 0, 0, 1});
  EXPECT_EQ(cut.run().sense(), list_length_error);
  EXPECT_TRUE(rig.channel.kinds.empty());
  EXPECT_TRUE(holds(rig, 0x55));
}

TEST(SanitizeBlockErase, OverwritesWhatIsMappedAndDeallocatesAll) {
  Rig rig;
  std::fill_n(rig.channel.memory.begin() + 100 * 512, 8 * 512, std::uint8_t{0x55});
  EXPECT_EQ(rig.io(block_erase()).run().status(), ScsiStatus::good);
  EXPECT_TRUE(holds(rig, 0));
  EXPECT_EQ(rig.channel.kinds, (std::vector{OpKind::query, OpKind::query, OpKind::write, OpKind::query,
                                            OpKind::flush, OpKind::unmap, OpKind::flush}));
}

TEST(SanitizeBlockErase, WhereNobodyKnowsWhatIsMappedAllIsOverwritten) {
  Rig rig;
  fill(rig, 0x55);
  rig.channel.fail_next = {OpStatus::unsupported};  // the query
  EXPECT_EQ(rig.io(block_erase()).run().status(), ScsiStatus::good);
  EXPECT_TRUE(holds(rig, 0));
  EXPECT_EQ(count(rig, OpKind::write), 4u);  // a mebibyte through 256 KiB
}

TEST(SanitizeBlockErase, AThickUnitIsOverwrittenAndStaysAllocated) {
  block::Geometry geometry = FakeChannel::disk();
  geometry.thin = geometry.unmap_zeroes = false;
  Rig rig(geometry);
  fill(rig, 0x55);
  EXPECT_EQ(rig.io(block_erase()).run().status(), ScsiStatus::good);
  EXPECT_TRUE(holds(rig, 0));
  EXPECT_EQ(rig.channel.kinds,
            (std::vector{OpKind::write, OpKind::write, OpKind::write, OpKind::write, OpKind::flush}));
}

// ---- CRYPTOGRAPHIC ERASE

const Data cryptographic_erase{0x48, 0x03, 0, 0, 0, 0, 0, 0, 0, 0};

block::Geometry encrypted() {
  block::Geometry geometry = FakeChannel::disk();
  geometry.encrypted = true;
  return geometry;
}

TEST(SanitizeCryptographicErase, ChangesTheKeyFirstAndLeavesZeroes) {
  Rig rig(encrypted());
  fill(rig, 0x55);
  rig.channel.hold = true;
  Io io = rig.io(cryptographic_erase);
  io.run();
  EXPECT_EQ(rig.channel.kinds, std::vector{OpKind::change_key});
  EXPECT_EQ(rig.io(read_one, {}, 512).run().sense(), sanitize_in_progress);
  rig.channel.hold = false;
  rig.channel.release_all();
  EXPECT_EQ(io.status(), ScsiStatus::good);
  EXPECT_EQ(io.done_calls, 1);
  EXPECT_TRUE(holds(rig, 0));
  EXPECT_EQ(rig.channel.kinds, (std::vector{OpKind::change_key, OpKind::write_zeroes, OpKind::flush}));
  EXPECT_EQ(rig.io(read_one, {}, 512).run().status(), ScsiStatus::good);
}

TEST(SanitizeCryptographicErase, FailsWhereTheKeyCannotBeChanged) {
  Rig rig(encrypted());
  fill(rig, 0x55);
  rig.channel.fail_next = {OpStatus::write_error};
  EXPECT_EQ(rig.io(cryptographic_erase).run().sense(), sanitize_failed);
  EXPECT_TRUE(holds(rig, 0x55));
  EXPECT_EQ(rig.io(read_one, {}, 512).run().sense(), sanitize_failed);
  EXPECT_EQ(rig.io(cryptographic_erase).run().status(), ScsiStatus::good);
  EXPECT_TRUE(holds(rig, 0));
  EXPECT_EQ(rig.io(read_one, {}, 512).run().status(), ScsiStatus::good);
}

TEST(SanitizeCryptographicErase, IsServedWhereWhatIsStoredIsEncrypted) {
  Rig rig(encrypted());
  EXPECT_EQ(rig.io({0xa3, 0x0c, 2, 0x48, 0, 0x03, 0, 0, 0, 64, 0, 0}, {}, 64).run().data_in().at(1), 3);
  EXPECT_EQ(rig.io({0x12, 1, 0xb1, 0, 64, 0}, {}, 64).run().data_in().at(7), 0x50);  // WABEREQ, WACEREQ
  EXPECT_EQ(rig.io({0x48, 0x03, 0, 0, 0, 0, 0, 0, 4, 0}, Data(4)).run().sense(), invalid_cdb_field);  // no list here
  EXPECT_EQ(rig.io({0x48, immed | 0x03, 0, 0, 0, 0, 0, 0, 0, 0}).run().status(), ScsiStatus::good);
  EXPECT_EQ(count(rig, OpKind::change_key), 1u);
}

TEST(Sanitize, WhatIsNotServedIsNotReported) {
  Rig rig;
  const auto support = [&](std::uint8_t action) {
    return rig.io({0xa3, 0x0c, 2, 0x48, 0, action, 0, 0, 0, 64, 0, 0}, {}, 64).run().data_in().at(1);
  };
  EXPECT_EQ(support(0x01), 3);
  EXPECT_EQ(support(0x02), 3);
  EXPECT_EQ(support(0x03), 1);  // CRYPTOGRAPHIC ERASE: nothing is encrypted
  EXPECT_EQ(support(0x1f), 3);
  EXPECT_EQ(rig.io({0x48, 0x03, 0, 0, 0, 0, 0, 0, 0, 0}).run().sense(), invalid_cdb_field);
  EXPECT_EQ(rig.io({0x48, 0x02, 0, 0, 0, 0, 0, 0, 4, 0}, Data(4)).run().sense(),
            invalid_cdb_field);                                                              // no list here
  EXPECT_EQ(rig.io({0x48, 0x42, 0, 0, 0, 0, 0, 0, 0, 0}).run().sense(), invalid_cdb_field);  // ZNR: no zones
  EXPECT_EQ(rig.io({0x12, 1, 0xb1, 0, 64, 0}, {}, 64).run().data_in().at(7), 0x40);          // WABEREQ
}

TEST(Sanitize, AWriteProtectedUnitIsLeftAlone) {
  block::Geometry geometry = FakeChannel::disk();
  geometry.read_only = true;
  Rig rig(geometry);
  EXPECT_EQ(rig.io(block_erase(immed)).run().sense(), 0x072700u);
  EXPECT_EQ(rig.io({0x04, 0, 0, 0, 0, 0}).run().sense(), 0x072700u);
}

// ---- SANITIZE: meanwhile

TEST(Sanitize, MeanwhileOnlyInquiryReportLunsAndRequestSenseAreServed) {
  Busy rig;
  for (const Data& cdb :
       {test_unit_ready, read_one, Data{0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, Data{0x1b, 0, 0, 0, 1, 0},
        Data{0x1a, 0, 0x3f, 0, 255, 0}, block_erase(), exit_failure_mode, Data{0x04, 0, 0, 0, 0, 0},
        Data{0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0}}) {
    EXPECT_EQ(rig.io(cdb, {}, 512).run().sense(), sanitize_in_progress) << static_cast<int>(cdb[0]);
    EXPECT_EQ(Io(rig.device, rig.b, cdb, {}, 512).run().sense(), sanitize_in_progress);
  }
  EXPECT_EQ(rig.io({0x12, 0, 0, 0, 36, 0}, {}, 36).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io({0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0}, {}, 16).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(request_sense(), {}, 252).run().status(), ScsiStatus::good);
  rig.end();
  EXPECT_EQ(rig.io(test_unit_ready).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(read_one, {}, 512).run().data_in(), Data(512));
}

TEST(Sanitize, RequestSenseTellsHowFarItHasCome) {
  Busy rig(overwrite(5, immed), {0x02, 0, 0, 1, 9});  // 2048 blocks, twice, 512 of them at a time
  Data expected{0x70, 0, 0x02, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x04, 0x1b, 0, 0x80, 0x00, 0x00};
  EXPECT_EQ(rig.io(request_sense(), {}, 252).run().data_in(), expected);
  rig.channel.release_one();
  expected[16] = 0x20;  // an eighth of 65536
  EXPECT_EQ(rig.io(request_sense(), {}, 252).run().data_in(), expected);
  Io described = rig.io({0x03, 0x01, 0, 0, 252, 0}, {}, 252);
  EXPECT_EQ(described.run().data_in(),
            (Data{0x72, 2, 0x04, 0x1b, 0, 0, 0, 8, 0x02, 0x06, 0, 0, 0x80, 0x20, 0x00, 0}));
  EXPECT_EQ(rig.io(test_unit_ready).run().task.sense[16], 0x20);  // the refusal tells it too
  rig.end();
  EXPECT_EQ(rig.io(request_sense(), {}, 252).run().data_in().at(2), 0);
}

TEST(Sanitize, WaitsForCommandsThatHaveBegunAndEndsThoseThatHaveNot) {
  Rig rig;
  rig.channel.hold = true;
  Io running = rig.io({0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0}, Data(512, 1));
  running.run();
  Io admitted = rig.io({0x2a, 0, 0, 0, 0, 9, 0, 0, 1, 0}, Data(512, 1));
  admitted.admit();  // its data has yet to come
  Io sanitize = rig.io(block_erase(immed));
  sanitize.run();
  EXPECT_FALSE(sanitize.ended);
  Io waiting = rig.io(read_one, {}, 512);
  waiting.run();
  EXPECT_FALSE(waiting.ended);
  rig.channel.release_one();
  EXPECT_EQ(running.status(), ScsiStatus::good);
  EXPECT_EQ(sanitize.status(), ScsiStatus::good);
  EXPECT_EQ(waiting.sense(), sanitize_in_progress);
  EXPECT_EQ(waiting.done_calls, 1);
  EXPECT_EQ(admitted.execute().sense(), sanitize_in_progress);
  rig.channel.hold = false;
  rig.channel.release_all();
  EXPECT_TRUE(holds(rig, 0));
}

TEST(Sanitize, MemoryIsNotLentMeanwhile) {
  block::Geometry geometry = FakeChannel::disk();
  geometry.lends_memory = true;
  geometry.write_cache = false;
  Rig rig(geometry);
  Io write = rig.io({0x2a, 0, 0, 0, 0, 9, 0, 0, 1, 0}, Data(512, 1));
  write.admit();
  fill(rig, 0x55);
  rig.channel.hold = true;
  EXPECT_EQ(rig.io(block_erase(immed)).run().status(), ScsiStatus::good);
  EXPECT_TRUE(rig.device.lend(write.task).empty());
  EXPECT_EQ(write.execute().sense(), sanitize_in_progress);
  rig.channel.hold = false;
  rig.channel.release_all();
}

TEST(Sanitize, ACopyDoesNotGetAtTheMedium) {
  CopyRig rig;
  std::fill(rig.one.memory.begin(), rig.one.memory.end(), std::uint8_t{0x55});
  rig.one.hold = true;
  EXPECT_EQ(rig.io(block_erase(immed), 1).run().status(), ScsiStatus::good);
  Io copy = rig.copy(zero_to_one());
  EXPECT_EQ(copy.run().sense(), 0x0a0d01u);  // THIRD PARTY DEVICE FAILURE
  EXPECT_EQ(copy.task.sense[9], 18);         // what the destination said
  EXPECT_EQ(copy.task.sense[18], 0x02);
  EXPECT_EQ(copy.task.sense[19 + 12], 0x04);
  EXPECT_EQ(copy.task.sense[19 + 13], 0x1b);
  rig.one.hold = false;
  rig.one.release_all();
  EXPECT_EQ(rig.copy(zero_to_one()).run().status(), ScsiStatus::good);
}

TEST(Sanitize, GoesOnWhenItsCommandIsAborted) {
  Rig rig;
  fill(rig, 0x55);
  rig.channel.hold = true;
  Io io = rig.io(block_erase());
  io.run();
  EXPECT_FALSE(io.ended);
  rig.device.abort(io.task);
  EXPECT_EQ(io.done_calls, 1);
  EXPECT_TRUE(io.task.aborted);
  EXPECT_EQ(rig.io(test_unit_ready).run().sense(), sanitize_in_progress);
  rig.channel.hold = false;
  rig.channel.release_all();
  EXPECT_TRUE(holds(rig, 0));
  EXPECT_EQ(rig.io(test_unit_ready).run().status(), ScsiStatus::good);
}

TEST(Sanitize, TaskManagementDoesNotWaitForItAndAResetDoesNotEndIt) {
  for (const TmFunction function : {TmFunction::abort_task_set, TmFunction::lun_reset,
                                    TmFunction::target_cold_reset, TmFunction::i_t_nexus_reset}) {
    Rig rig;
    fill(rig, 0x55);
    rig.channel.hold = true;
    Io io = rig.io(block_erase());
    io.run();
    TaskManagement request;
    request.function = function;
    request.nexus = &rig.a;
    EXPECT_TRUE(rig.device.manage(request));
    EXPECT_TRUE(io.ended);
    EXPECT_EQ(rig.channel.held(), 1u);
    rig.settle_attentions();
    EXPECT_EQ(rig.io(test_unit_ready).run().sense(), sanitize_in_progress);
    rig.channel.hold = false;
    rig.channel.release_all();
    EXPECT_EQ(rig.io(test_unit_ready).run().status(), ScsiStatus::good);
    EXPECT_TRUE(holds(rig, 0));
  }
}

TEST(Sanitize, TheUnitStaysUntilItHasEnded) {
  Busy rig;
  const Status removed = rig.device.remove_unit(0);
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error().code, Errc::busy);
  EXPECT_TRUE(rig.device.background_work());
  rig.device.stop_background_work();
  EXPECT_TRUE(rig.device.background_work());  // until the operation under way has ended
  rig.end();
  EXPECT_FALSE(rig.device.background_work());
  EXPECT_EQ(rig.io(test_unit_ready).run().sense(), sanitize_failed);
}

// ---- SANITIZE: failure

TEST(SanitizeFailure, RestrictedIsLeftByASuccessfulOneAlone) {
  Rig rig;
  fill(rig, 0x55);
  rig.channel.fail_next = {OpStatus::ok, OpStatus::write_error};
  EXPECT_EQ(rig.io(block_erase()).run().sense(), sanitize_failed);
  for (const Data& cdb : {test_unit_ready, read_one, Data{0x04, 0, 0, 0, 0, 0}}) {
    EXPECT_EQ(rig.io(cdb, {}, 512).run().sense(), sanitize_failed);
  }
  EXPECT_EQ(rig.io({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {}, 8).run().status(),
            ScsiStatus::good);  // not of the medium
  Io out = rig.io(exit_failure_mode);
  EXPECT_EQ(out.run().sense(), invalid_cdb_field);
  EXPECT_EQ(pointer(out), 1);
  EXPECT_EQ(rig.io(block_erase(ause)).run().sense(), invalid_cdb_field);
  EXPECT_EQ(rig.io(block_erase()).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(read_one, {}, 512).run().status(), ScsiStatus::good);
}

TEST(SanitizeFailure, UnrestrictedIsLeftByExitFailureMode) {
  Rig rig;
  fill(rig, 0x55);
  rig.channel.fail_next = {OpStatus::ok, OpStatus::write_error};
  EXPECT_EQ(rig.io(block_erase(immed | ause)).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(read_one, {}, 512).run().sense(), sanitize_failed);
  EXPECT_EQ(rig.io(request_sense(), {}, 252).run().data_in().at(12), 0x31);
  EXPECT_EQ(rig.io(exit_failure_mode).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(read_one, {}, 512).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(exit_failure_mode).run().status(), ScsiStatus::good);  // there is none to leave
}

TEST(SanitizeFailure, AFlushThatFailsIsOne) {
  Rig rig;
  rig.channel.fail_next = {OpStatus::ok, OpStatus::ok, OpStatus::ok, OpStatus::ok, OpStatus::write_error};
  EXPECT_EQ(rig.io(overwrite(5), {0x01, 0, 0, 1, 9}).run().sense(), sanitize_failed);
}

TEST(SanitizeFailure, AResetDoesNotEndIt) {
  Rig rig;
  rig.channel.fail_next = {OpStatus::write_error};
  EXPECT_EQ(rig.io(overwrite(5), {0x01, 0, 0, 1, 9}).run().sense(), sanitize_failed);
  TaskManagement request;
  request.function = TmFunction::lun_reset;
  request.nexus = &rig.a;
  EXPECT_TRUE(rig.device.manage(request));
  rig.settle_attentions();
  EXPECT_EQ(rig.io(read_one, {}, 512).run().sense(), sanitize_failed);
}

// ---- FORMAT UNIT

TEST(FormatUnit, WithoutAListTheMediumReadsAsZeroes) {
  Rig rig;
  fill(rig, 0x55);
  EXPECT_EQ(rig.io({0x04, 0, 0, 0, 0, 0}).run().status(), ScsiStatus::good);
  EXPECT_TRUE(holds(rig, 0));
  EXPECT_EQ(rig.channel.kinds, (std::vector{OpKind::write_zeroes, OpKind::flush}));
}

TEST(FormatUnit, WhereZeroesMustBeWrittenTheyAre) {
  Rig rig;
  fill(rig, 0x55);
  rig.channel.fail_next = {OpStatus::unsupported};
  EXPECT_EQ(rig.io({0x04, 0, 0, 0, 0, 0}).run().status(), ScsiStatus::good);
  EXPECT_TRUE(holds(rig, 0));
  EXPECT_EQ(count(rig, OpKind::write), 4u);
}

TEST(FormatUnit, InitializationPattern) {
  Rig rig;
  const Data list{0, 0x88, 0, 0, 0x00, 0x01, 0, 2, 0xab, 0xcd};  // FOV, IP
  EXPECT_EQ(rig.io({0x04, 0x10, 0, 0, 0, 0}, list).run().status(), ScsiStatus::good);
  for (std::size_t i = 0; i < rig.channel.memory.size(); ++i)
    ASSERT_EQ(rig.channel.memory[i], i % 2 == 0 ? 0xab : 0xcd);
}

TEST(FormatUnit, LongListWithIndicationOfSecurityInitialization) {
  Rig rig;
  fill(rig, 0x55);
  const Data list{0, 0x88, 0, 0, 0, 0, 0, 0, 0x20, 0x00, 0, 0};  // SI: written, not just cleared
  EXPECT_EQ(rig.io({0x04, 0x30, 0, 0, 0, 0}, list).run().status(), ScsiStatus::good);
  EXPECT_TRUE(holds(rig, 0));
  EXPECT_EQ(count(rig, OpKind::write), 4u);
}

TEST(FormatUnit, ImmedAndProgress) {
  Busy rig({0x04, 0x10, 0, 0, 0, 0}, {0, 0x8a, 0, 0, 0, 1, 0, 1, 7});  // FOV, IP, IMMED
  rig.channel.release_one();
  EXPECT_EQ(rig.io(test_unit_ready).run().sense(), format_in_progress);
  const Data expected{0x70, 0, 0x02, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x04, 0x04, 0, 0x80, 0x40, 0x00};
  EXPECT_EQ(rig.io(request_sense(), {}, 252).run().data_in(), expected);
  rig.end();
  EXPECT_TRUE(holds(rig, 7));
}

TEST(FormatUnit, AFailureLeavesACorruptedFormatUntilTheNext) {
  Rig rig;
  rig.channel.fail_next = {OpStatus::write_error};
  EXPECT_EQ(rig.io({0x04, 0, 0, 0, 0, 0}).run().sense(), format_failed);
  EXPECT_EQ(rig.io(read_one, {}, 512).run().sense(), format_corrupted);
  EXPECT_EQ(rig.io(test_unit_ready).run().sense(), format_corrupted);
  EXPECT_EQ(rig.io(exit_failure_mode).run().status(), ScsiStatus::good);  // of SANITIZE: another affair
  EXPECT_EQ(rig.io(read_one, {}, 512).run().sense(), format_corrupted);
  EXPECT_EQ(rig.io({0x04, 0, 0, 0, 0, 0}).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(read_one, {}, 512).run().status(), ScsiStatus::good);
}

TEST(FormatUnit, BadListsAreRefusedBeforeAnythingIsWritten) {
  Rig rig;
  const auto refused = [&](std::uint8_t options, const Data& list, std::uint16_t byte) {
    Io io = rig.io({0x04, options, 0, 0, 0, 0}, list);
    EXPECT_EQ(io.run().sense(), invalid_list_field);
    EXPECT_EQ(pointer(io), byte);
  };
  refused(0x10, {1, 0, 0, 0}, 0);     // PROTECTION FIELDS USAGE
  refused(0x10, {0, 0x84, 0, 0}, 1);  // DSP
  refused(0x10, {0, 0x08, 0, 0}, 1);  // IP without FOV
  refused(0x10, {0, 0x80, 0, 8}, 2);  // a defect list
  refused(0x30, {0, 0x80, 0, 0, 0, 0, 0, 8}, 4);
  refused(0x30, {0, 0x80, 0, 1, 0, 0, 0, 0}, 3);        // PROTECTION INTERVAL EXPONENT
  refused(0x10, {0, 0x88, 0, 0, 0x80, 1, 0, 1, 7}, 4);  // IP MODIFIER
  refused(0x10, {0, 0x88, 0, 0, 0, 2, 0, 1, 7}, 5);     // INITIALIZATION PATTERN TYPE
  refused(0x10, {0, 0x88, 0, 0, 0, 1, 0, 0}, 6);        // a pattern of no bytes
  refused(0x10, {0, 0x88, 0, 0, 0, 0, 0, 1, 7}, 6);     // the default pattern has none
  refused(0x10, {0, 0x88, 0, 0, 0, 1, 2, 1, 7}, 6);     // longer than a block
  for (const Data& list : {Data{0, 0, 0}, Data{0, 0x88, 0, 0, 0, 1}, Data{0, 0x88, 0, 0, 0, 1, 0, 2, 7}}) {
    EXPECT_EQ(rig.io({0x04, 0x10, 0, 0, 0, 0}, list).run().sense(), list_length_error);
  }
  Io protection = rig.io({0x04, 0x80, 0, 0, 0, 0});
  EXPECT_EQ(protection.run().sense(), invalid_cdb_field);
  EXPECT_EQ(pointer(protection), 1);
  EXPECT_TRUE(rig.channel.kinds.empty());
}

// ---- how much is done in one turn

constexpr std::uint64_t sixteen_mebibytes = 32768;  // blocks

TEST(OneTurn, AnOperationOnTheMediumIsCutUp) {
  Rig rig(FakeChannel::disk(sixteen_mebibytes));
  rig.put_off();
  EXPECT_EQ(rig.io(overwrite(5, immed), {0x01, 0, 0, 1, 9}).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.channel.kinds.size(), 8u);  // two mebibytes
  EXPECT_EQ(rig.io(test_unit_ready).run().sense(), sanitize_in_progress);
  int turns = 1;
  while (rig.go_on()) {
    ++turns;
    EXPECT_LE(count(rig, OpKind::write), static_cast<std::size_t>(turns) * 8);
  }
  EXPECT_EQ(turns, 9);
  EXPECT_TRUE(holds(rig, 9));
  EXPECT_EQ(rig.io(test_unit_ready).run().status(), ScsiStatus::good);
}

TEST(OneTurn, AWriteSameIsCutUpAndCanBeAbortedInBetween) {
  Rig rig(FakeChannel::disk(sixteen_mebibytes));
  rig.put_off();
  Data cdb{0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x00, 0, 0};
  Io first = rig.io(cdb, Data(512, 3));
  first.run();
  EXPECT_FALSE(first.ended);
  while (rig.go_on()) {
  }
  EXPECT_EQ(first.status(), ScsiStatus::good);
  EXPECT_EQ(first.done_calls, 1);
  EXPECT_TRUE(holds(rig, 3));

  Io second = rig.io(cdb, Data(512, 4));
  second.run();
  ASSERT_FALSE(second.ended);
  rig.device.abort(second.task);
  while (rig.go_on()) {
  }
  EXPECT_TRUE(second.task.aborted);
  EXPECT_EQ(second.done_calls, 1);
  EXPECT_EQ(rig.channel.memory.back(), 3);
}

TEST(OneTurn, CopiesShareItAndTakeTurns) {
  CopyRig rig;
  int asked = 0;
  rig.device.set_later(Delegate<void()>::raw(&asked, [](void* count) { ++*static_cast<int*>(count); }));
  std::vector<Data> segments;
  for (int i = 0; i < 8; ++i) segments.push_back(segment(0, 0, 1, 0, 2048));  // eight mebibytes, moved twice
  Io one = rig.copy(lid1({cscd(naa_zero), cscd(naa_one)}, segments, 1));
  Io two = rig.copy(lid1({cscd(naa_zero), cscd(naa_two, 4096)}, {segment(0, 0, 1, 0, 2048)}, 2));
  one.run();
  two.run();
  EXPECT_FALSE(one.ended);
  EXPECT_EQ(rig.zero.kinds.size() + rig.one.kinds.size() + rig.two.kinds.size(),
            9u);  // the second begins, and waits too
  EXPECT_EQ(asked, 1);
  int turns = 0;
  while (asked != 0) {
    asked = 0;
    rig.device.go_on();
    ++turns;
  }
  EXPECT_EQ(one.status(), ScsiStatus::good);
  EXPECT_EQ(two.status(), ScsiStatus::good);
  EXPECT_GE(turns, 8);
  EXPECT_EQ(rig.one.memory, rig.zero.memory);
}

TEST(OneTurn, AnEraseIsCutToWhatTheChannelTakesAtOnce) {
  block::Geometry geometry = FakeChannel::disk(40960);
  geometry.in_memory = true;  // eight mebibytes at once
  Rig rig(geometry);
  fill(rig, 0x55);
  const Data list{0, 38, 0, 32, 0, 0, 0,    0,                                    // header
                  0, 0,  0, 0,  0, 0, 0,    0,    0, 0, 0x80, 0x01, 0, 0, 0, 0,   // 32769 blocks at 0
                  0, 0,  0, 0,  0, 0, 0x88, 0xb8, 0, 0, 0,    0x02, 0, 0, 0, 0};  // 2 blocks at 35000
  EXPECT_EQ(rig.io({0x42, 0, 0, 0, 0, 0, 0, 0, 40, 0}, list).run().status(), ScsiStatus::good);
  EXPECT_EQ(count(rig, OpKind::unmap), 4u);
  for (std::size_t lba = 0; lba < 40960; ++lba) {
    const bool erased = lba < 32769 || lba == 35000 || lba == 35001;
    ASSERT_EQ(rig.channel.memory[lba * 512], erased ? 0 : 0x55) << lba;
  }
  fill(rig, 0x55);
  const Data write_same{0x93, 0x08, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x40, 0x01, 0, 0};  // 16385 blocks at 1
  EXPECT_EQ(rig.io(write_same, Data(512)).run().status(), ScsiStatus::good);
  EXPECT_EQ(count(rig, OpKind::write_zeroes), 2u);
  for (std::size_t lba = 0; lba < 40960; ++lba) {
    ASSERT_EQ(rig.channel.memory[lba * 512], lba >= 1 && lba < 16386 ? 0 : 0x55) << lba;
  }
}

}  // namespace
}  // namespace perilune::scsi::test
