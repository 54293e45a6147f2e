// SPDX-License-Identifier: Apache-2.0
// LUNs, unit attentions, the order of commands, aborts and task management (SAM-5).
#include <gtest/gtest.h>

#include "base/sanitizer.hpp"
#include "scsi/lun.hpp"
#include "scsi/test_support.hpp"

namespace perilune::scsi::test {
namespace {

using block::OpKind;
using Data = std::vector<std::uint8_t>;

const Data test_unit_ready{0x00, 0, 0, 0, 0, 0};
const Data inquiry{0x12, 0, 0, 0, 96, 0};
const Data request_sense{0x03, 0, 0, 0, 252, 0};
const Data flush{0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0};
Data report_luns(std::uint8_t select = 0, std::uint32_t allocation = 4096) {
  Data cdb{0xa0, 0, select, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  store_be32(&cdb[6], allocation);
  return cdb;
}
Data read(std::uint8_t lba, std::uint8_t blocks) { return {0x28, 0, 0, 0, 0, lba, 0, 0, blocks, 0}; }
Data write(std::uint8_t lba, std::uint8_t blocks) { return {0x2a, 0, 0, 0, 0, lba, 0, 0, blocks, 0}; }
Data caw(std::uint8_t lba, std::uint8_t blocks) {
  return {0x89, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, blocks, 0, 0};
}
Data write_same(std::uint8_t lba, std::uint8_t blocks) { return {0x41, 0, 0, 0, 0, lba, 0, 0, blocks, 0}; }

// ---- LUNs

TEST(Lun, AddressFormats) {
  using Kind = LunAddress::Kind;
  EXPECT_EQ(decode_lun(0).kind, Kind::unit);
  EXPECT_EQ(decode_lun(0x00ff'0000'0000'0000).number, 255);
  EXPECT_EQ(decode_lun(0x4005'0000'0000'0000).number, 5);
  EXPECT_EQ(decode_lun(0x7fff'0000'0000'0000).number, 16383);
  EXPECT_EQ(decode_lun(0xc101'0000'0000'0000).kind, Kind::report_luns_well_known);
  for (const std::uint64_t lun : std::initializer_list<std::uint64_t>{
           0x0100'0000'0000'0000u, 0x0000'0001'0000'0000u, 0x8000'0000'0000'0000u, 0xc102'0000'0000'0000u,
           0xffff'ffff'ffff'ffffu, 0x0000'0000'0000'0001u, 0xd201'0000'0000'0000u, 0xd200'0000'0001'0000u,
           0xe200'0000'0000'0000u, 0xd100'0000'0000'0000u}) {
    EXPECT_EQ(decode_lun(lun).kind, Kind::other);
  }
  EXPECT_EQ(encode_lun(255), 0x00ff'0000'0000'0000u);
  EXPECT_EQ(encode_lun(256), 0x4100'0000'0000'0000u);
  EXPECT_EQ(encode_lun(16383), 0x7fff'0000'0000'0000u);
  EXPECT_EQ(encode_lun(16384), 0xd200'4000'0000'0000u);
  EXPECT_EQ(encode_lun(65535), 0xd200'ffff'0000'0000u);
  EXPECT_EQ(decode_lun(0xd200'ffff'0000'0000).number, 65535);
  EXPECT_EQ(decode_lun(0xd200'0005'0000'0000).number, 5) << "every form for every number";
  EXPECT_EQ(decode_lun(0xd200'0005'0000'0000).kind, Kind::unit);
}

TEST(Lun, WithoutUnitAnswersInquiryReportLunsAndRequestSense) {
  FakeChannel channel(FakeChannel::disk());
  Device device("iqn.x");
  ASSERT_TRUE(device.add_unit(3, {}, channel));
  Nexus nexus(device, Rig::names("a"));
  Io inq(device, nexus, inquiry, {}, 96);
  EXPECT_EQ(inq.run().data_in()[0], 0x7f);
  Io luns(device, nexus, report_luns(), {}, 4096);
  EXPECT_EQ(luns.run().data_in(), (Data{0, 0, 0, 8, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0}));
  Io ready(device, nexus, test_unit_ready);
  EXPECT_EQ(ready.run().sense(), 0x052500u);
  Io sense(device, nexus, request_sense, {}, 252);
  EXPECT_EQ(sense.run().data_in(),
            (Data{0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x25, 0, 0, 0, 0, 0}));
  EXPECT_EQ(sense.status(), ScsiStatus::good);
  Io io(device, nexus, read(0, 1), {}, 512);
  io.task.lun = 0xffff'ffff'ffff'ffffu;
  EXPECT_EQ(io.run().sense(), 0x052500u);
}

TEST(Lun, ReportLunsSelectsAndTruncatesWithoutTouchingTheListLength) {
  FakeChannel one(FakeChannel::disk());
  FakeChannel two(FakeChannel::disk());
  Device device("iqn.x");
  ASSERT_TRUE(device.add_unit(300, {}, two));
  ASSERT_TRUE(device.add_unit(0, {}, one));
  Nexus nexus(device, Rig::names("a"));
  const Data all{0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 0x2c, 0, 0, 0, 0, 0, 0};
  EXPECT_EQ(Io(device, nexus, report_luns(0), {}, 4096).run().data_in(), all);
  EXPECT_EQ(Io(device, nexus, report_luns(1), {}, 4096).run().data_in(),
            (Data{0, 0, 0, 8, 0, 0, 0, 0, 0xc1, 0x01, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(Io(device, nexus, report_luns(2), {}, 4096).run().data_in().size(), 32u);
  EXPECT_EQ(Io(device, nexus, report_luns(0x10), {}, 4096).run().data_in(), Data(8));
  EXPECT_EQ(Io(device, nexus, report_luns(0x11), {}, 4096).run().data_in(), all);
  for (const std::uint8_t select : Data{3, 0x0f, 0x12, 0xff}) {
    EXPECT_EQ(Io(device, nexus, report_luns(select), {}, 4096).run().sense(), 0x052400u);
  }
  for (const std::uint32_t allocation : {0u, 1u, 3u, 4u, 5u, 15u, 16u}) {
    Io io(device, nexus, report_luns(0, allocation), {}, 4096);
    EXPECT_EQ(io.run().data_in(), Data(all.begin(), all.begin() + allocation));
    EXPECT_EQ(io.task.data_transfer_length, allocation);
  }
  Io well_known(device, nexus, report_luns(), {}, 4096);
  well_known.task.lun = report_luns_well_known_lun;
  EXPECT_EQ(well_known.run().data_in(), all);
  Io type(device, nexus, inquiry, {}, 96);
  type.task.lun = report_luns_well_known_lun;
  EXPECT_EQ(type.run().data_in()[0], 0x1e);
  const auto page = [&](std::uint8_t code) {
    Io io(device, nexus, {0x12, 1, code, 0, 255, 0}, {}, 255);
    io.task.lun = report_luns_well_known_lun;
    io.run();
    return std::pair(io.data_in(), io.sense());
  };
  EXPECT_EQ(page(0x00).first, (Data{0x1e, 0, 0, 2, 0x00, 0x83}));
  EXPECT_EQ(page(0x80).second, 0x052400u);
  const Data who = page(0x83).first;
  EXPECT_EQ(Data(who.begin(), who.begin() + 12), (Data{0x1e, 0x83, 0, 64, 0x51, 0x94, 0, 4, 0, 0, 0, 1})) << "the port, and no unit";
  EXPECT_EQ(Data(who.begin() + 12, who.begin() + 16), (Data{0x53, 0x98, 0, 40}));
  EXPECT_EQ(Data(who.begin() + 56, who.end()), (Data{0x53, 0xa8, 0, 8, 'i', 'q', 'n', '.', 'x', 0, 0, 0}));
  for (const std::uint8_t opcode : Data{0x00, 0x03}) {
    Io io(device, nexus, {opcode, 0, 0, 0, static_cast<std::uint8_t>(opcode == 0 ? 0 : 252), 0}, {}, 252);
    io.task.lun = report_luns_well_known_lun;
    EXPECT_EQ(io.run().status(), ScsiStatus::good);
  }
  Io no(device, nexus, read(0, 1), {}, 512);
  no.task.lun = report_luns_well_known_lun;
  EXPECT_EQ(no.run().sense(), 0x052000u);
}

TEST(Lun, MapOfANexusHidesAndRenumbersUnits) {
  FakeChannel one(FakeChannel::disk());
  FakeChannel two(FakeChannel::disk(16));
  Device device("iqn.x");
  ASSERT_TRUE(device.add_unit(0, {}, one));
  ASSERT_TRUE(device.add_unit(1, {}, two));
  Nexus nexus(device, Rig::names("a"), std::vector<LunMapping>{{.lun = 7, .unit = 1}});
  EXPECT_EQ(Io(device, nexus, report_luns(), {}, 4096).run().data_in()[9], 7);
  EXPECT_EQ(Io(device, nexus, test_unit_ready).run().sense(), 0x052500u);
  EXPECT_EQ(Io(device, nexus, test_unit_ready, {}, 0, 7).run().sense(), 0x062900u);
  nexus.set_map(std::nullopt);
  EXPECT_EQ(Io(device, nexus, test_unit_ready, {}, 0, 1).run().sense(), 0x062900u);
  EXPECT_EQ(Io(device, nexus, test_unit_ready, {}, 0, 1).run().sense(), 0x063f0eu);
}

TEST(Lun, AMappingMayBeReadOnlyForItsNexusAlone) {
  FakeChannel channel(FakeChannel::disk());
  Device device("iqn.x");
  ASSERT_TRUE(device.add_unit(0, {}, channel));
  Nexus reader(device, Rig::names("reader"),
               std::vector<LunMapping>{{.lun = 3, .unit = 0, .read_only = true}});
  Nexus writer(device, Rig::names("writer"));
  EXPECT_EQ(Io(device, reader, test_unit_ready, {}, 0, 3).run().sense(), 0x062900u);
  EXPECT_EQ(Io(device, writer, test_unit_ready).run().sense(), 0x062900u);
  const auto wp = [&](Nexus& nexus, std::uint16_t lun) {
    return Io(device, nexus, {0x1a, 0, 0x3f, 0, 255, 0}, {}, 255, lun).run().data_in()[2] & 0x80;
  };
  EXPECT_EQ(Io(device, reader, write(0, 1), bytes(512, 1), 0, 3).run().sense(), 0x072700u);
  EXPECT_EQ(Io(device, reader, {0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0}, bytes(512, 1), 0, 3).run().sense(), 0x072700u) << "WRITE SAME";
  EXPECT_EQ(Io(device, reader, read(0, 1), {}, 512, 3).run().status(), ScsiStatus::good);
  EXPECT_EQ(wp(reader, 3), 0x80);
  EXPECT_EQ(Io(device, writer, write(0, 1), bytes(512, 2)).run().status(), ScsiStatus::good);
  EXPECT_EQ(wp(writer, 0), 0);
  // The map changes: the same unit may be written to, and its initiator is told.
  reader.set_map(std::vector<LunMapping>{{.lun = 3, .unit = 0}});
  EXPECT_EQ(Io(device, reader, test_unit_ready, {}, 0, 3).run().sense(), 0x063f0eu);
  EXPECT_EQ(Io(device, reader, write(0, 1), bytes(512, 3), 0, 3).run().status(), ScsiStatus::good);
  EXPECT_EQ(wp(reader, 3), 0);
}

TEST(Lun, TwentyThousandUnitsAreServedAlike) {
  constexpr std::uint16_t count = 20000;
  FakeChannel channel(FakeChannel::disk(16));
  Device device("iqn.x");
  for (std::uint16_t number = count; number-- > 0;) ASSERT_TRUE(device.add_unit(number, {}, channel));
  EXPECT_EQ(device.unit(19999)->number(), 19999);
  EXPECT_EQ(device.unit(count), nullptr);
  Nexus nexus(device, Rig::names("a"));
  const Data list = Io(device, nexus, report_luns(0, 1 << 20), {}, 1 << 20).run().data_in();
  ASSERT_EQ(list.size(), 8u + 8u * count);
  EXPECT_EQ(load_be32(list.data()), 8u * count);
  EXPECT_EQ(load_be64(&list[8 + 8 * 16383]), 0x7fff'0000'0000'0000u);
  EXPECT_EQ(load_be64(&list[8 + 8 * 16384]), 0xd200'4000'0000'0000u);
  for (const std::uint64_t lun : {std::uint64_t{0}, 0x4100'0000'0000'0000u, 0xd200'4e1f'0000'0000u}) {
    const auto run = [&](Data cdb, Data out, std::uint32_t expected_in) {
      Io io(device, nexus, std::move(cdb), std::move(out), expected_in);
      io.task.lun = lun;
      io.run();
      return std::pair(io.sense(), io.data_in());
    };
    EXPECT_EQ(run(test_unit_ready, {}, 0).first, 0x062900u);
    const auto block = bytes(512, static_cast<std::uint8_t>(lun >> 40));
    EXPECT_EQ(run(write(3, 1), block, 0).first, 0u);
    EXPECT_EQ(run(read(3, 1), {}, 512).second, block);
  }
  TaskManagement reset;
  reset.function = TmFunction::target_warm_reset;
  reset.nexus = &nexus;
  EXPECT_TRUE(device.manage(reset));
  Io last(device, nexus, test_unit_ready);
  last.task.lun = encode_lun(19999);
  EXPECT_EQ(last.run().sense(), 0x062902u);
}

TEST(Lun, UnitsComeAndGoWithAnAttention) {
  FakeChannel channel(FakeChannel::disk());
  Rig rig;
  EXPECT_FALSE(rig.device.add_unit(0, {}, channel).has_value());
  auto odd = FakeChannel::disk(8, 1024);
  odd.block_size_bytes = 520;
  FakeChannel wrong(odd);
  EXPECT_FALSE(rig.device.add_unit(1, {}, wrong).has_value());
  ASSERT_TRUE(rig.device.add_unit(1, {}, channel).has_value());
  EXPECT_EQ(Io(rig.device, rig.a, test_unit_ready).run().sense(), 0x063f0eu);
  Io held(rig.device, rig.a, write(0, 1), bytes(512, 0));
  held.admit();
  EXPECT_FALSE(rig.device.remove_unit(0).has_value());
  rig.device.abort(held.task);
  EXPECT_TRUE(rig.device.remove_unit(1).has_value());
  EXPECT_FALSE(rig.device.remove_unit(1).has_value());
  Io luns(rig.device, rig.b, report_luns(), {}, 4096);
  EXPECT_EQ(luns.run().data_in().size(), 16u);  // which tells, so the attention is over
  EXPECT_EQ(Io(rig.device, rig.b, test_unit_ready).run().status(), ScsiStatus::good);
}

// ---- unit attentions

TEST(UnitAttention, FreshNexusHearsPowerOnAndAReturningOneNexusLoss) {
  Rig rig(FakeChannel::disk(), true);
  EXPECT_EQ(rig.io(inquiry, {}, 96).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(report_luns(), {}, 96).run().status(), ScsiStatus::good);
  EXPECT_EQ(rig.io(test_unit_ready).run().sense(), 0x062900u);
  EXPECT_EQ(rig.io(test_unit_ready).run().status(), ScsiStatus::good);
  for (int i = 0; i < 2; ++i) {
    Nexus again(rig.device, Rig::names("c"));
    EXPECT_EQ(Io(rig.device, again, read(0, 1), {}, 512).run().sense(), i == 0 ? 0x062900u : 0x062907u);
  }
}

TEST(UnitAttention, RequestSenseTellsItAsDataAndClearsIt) {
  Rig rig(FakeChannel::disk(), true);
  Io first = rig.io(request_sense, {}, 252);
  EXPECT_EQ(first.run().data_in(), (Data{0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0, 0, 0, 0, 0}));
  Io second = rig.io({0x03, 1, 0, 0, 252, 0}, {}, 252);
  EXPECT_EQ(second.run().data_in(), (Data{0x72, 0, 0, 0, 0, 0, 0, 0}));
}

TEST(UnitAttention, ReportsByPrecedenceEachOnce) {
  Rig rig;
  rig.unit.resized();
  rig.unit.resized();
  rig.unit.raise_for_others(nullptr, UnitAttention::mode_parameters_changed);
  rig.unit.raise_for_others(nullptr, UnitAttention::nexus_loss);
  rig.unit.raise_for_others(nullptr, UnitAttention::device_reset);
  EXPECT_EQ(rig.io(test_unit_ready).run().sense(), 0x062903u);
  EXPECT_EQ(rig.io(test_unit_ready).run().sense(), 0x062a09u);
  EXPECT_EQ(rig.io(test_unit_ready).run().sense(), 0x062a01u);
  EXPECT_EQ(rig.io(test_unit_ready).run().status(), ScsiStatus::good);
}

TEST(UnitAttention, ComesBeforeAnUnknownCommand) {
  Rig rig;
  rig.unit.resized();
  EXPECT_EQ(rig.io({0xff, 0, 0, 0, 0, 0}).run().sense(), 0x062a09u);
  EXPECT_EQ(rig.io({0xff, 0, 0, 0, 0, 0}).run().sense(), 0x052000u);
}

// ---- order

TEST(Order, PlainCommandsOverlapFreely) {
  Rig rig;
  rig.channel.hold = true;
  Io one = rig.io(write(0, 4), bytes(2048, 1));
  Io two = rig.io(write(2, 4), bytes(2048, 2));
  Io three = rig.io(read(0, 8), {}, 4096);
  one.run();
  two.run();
  three.run();
  EXPECT_EQ(rig.channel.held(), 3u);
  rig.channel.release_all();
  EXPECT_TRUE(one.ended && two.ended && three.ended);
}

TEST(Order, CompareAndWriteHasItsRangeForItself) {
  Rig rig;
  rig.channel.hold = true;
  Io before = rig.io(write(0, 2), bytes(1024, 0));
  Io swap = rig.io(caw(1, 2), bytes(2048, 0));
  Io inside(rig.device, rig.b, read(2, 1), {}, 512);
  Io outside(rig.device, rig.b, read(3, 1), {}, 512);
  before.run();
  swap.run();
  inside.run();
  outside.run();
  EXPECT_EQ(rig.channel.kinds, (std::vector{OpKind::write, OpKind::read}));  // before, outside
  rig.channel.release_one();  // before ends: the compare begins
  EXPECT_EQ(rig.channel.held(), 2u);
  rig.channel.release_all();
  EXPECT_TRUE(swap.ended && inside.ended && outside.ended);
  EXPECT_EQ(rig.channel.kinds,
            (std::vector{OpKind::write, OpKind::read, OpKind::read, OpKind::write, OpKind::read}));
}

TEST(Order, WriteSameIsNotBesideAWriteOfItsBlocks) {
  Rig rig;
  rig.channel.hold = true;
  Io fill = rig.io(write_same(0, 8), bytes(512, 9));
  Io over = rig.io(write(4, 1), bytes(512, 1));
  Io look = rig.io(read(4, 1), {}, 512);
  fill.run();
  over.run();
  look.run();
  EXPECT_EQ(rig.channel.held(), 2u);  // the fill and the read
  rig.channel.release_all();
  EXPECT_TRUE(over.ended);
  EXPECT_EQ(rig.channel.memory[4 * 512], 1);
}

TEST(Order, OrderedCommandsKeepTheirPlace) {
  Rig rig;
  rig.channel.hold = true;
  Io one = rig.io(write(0, 1), bytes(512, 1));
  Io barrier = rig.io(write(1, 1), bytes(512, 2));
  barrier.task.attribute = TaskAttribute::ordered;
  Io three = rig.io(write(2, 1), bytes(512, 3));
  Io ready = rig.io(test_unit_ready);
  Io urgent = rig.io(write(3, 1), bytes(512, 4));
  urgent.task.attribute = TaskAttribute::head_of_queue;
  one.run();
  barrier.run();
  three.run();
  ready.run();
  EXPECT_FALSE(ready.ended);
  EXPECT_EQ(rig.channel.held(), 1u);
  urgent.run();
  EXPECT_EQ(rig.channel.held(), 2u);
  rig.channel.release_one();  // one: the urgent command is still in the way
  EXPECT_EQ(rig.channel.held(), 1u);
  rig.channel.release_one();  // urgent
  EXPECT_EQ(rig.channel.held(), 1u);
  EXPECT_FALSE(three.ended || ready.ended || barrier.ended);
  rig.channel.release_one();  // barrier
  EXPECT_TRUE(barrier.ended && ready.ended);
  rig.channel.release_all();
  EXPECT_TRUE(three.ended);
}

TEST(Order, AnOrderedCommandAloneRunsAtOnce) {
  Rig rig;
  Io io = rig.io(test_unit_ready);
  io.task.attribute = TaskAttribute::ordered;
  EXPECT_EQ(io.admit().status(), ScsiStatus::good);
  EXPECT_TRUE(io.ended);
  Io aca = rig.io(test_unit_ready);
  aca.task.attribute = TaskAttribute::aca;
  EXPECT_EQ(aca.run().sense(), 0x054900u);
}

// ---- abort

TEST(Abort, BeforeExecuteTakesTheTaskOutWithoutACallback) {
  Rig rig;
  Io io = rig.io(write(0, 1), bytes(512, 1));
  io.admit();
  EXPECT_EQ(rig.device.tasks(), 1u);
  rig.device.abort(io.task);
  EXPECT_EQ(rig.device.tasks(), 0u);
  EXPECT_EQ(io.done_calls, 0);
  EXPECT_TRUE(io.task.aborted);
  rig.device.abort(io.task);  // nothing happens
}

TEST(Abort, AfterExecuteWaitsForTheBackend) {
  Rig rig;
  rig.channel.hold = true;
  Io io = rig.io(write_same(0, 200), bytes(512, 1));
  io.piece_bytes = 512;  // several operations
  io.run();
  rig.device.abort(io.task);
  EXPECT_EQ(io.done_calls, 0);
  rig.channel.release_one();
  EXPECT_EQ(io.done_calls, 1);
  EXPECT_TRUE(io.task.aborted);
  EXPECT_EQ(io.status(), ScsiStatus::task_aborted);
  EXPECT_EQ(rig.channel.held(), 0u);  // and nothing more was submitted
}

TEST(Abort, OfAWaitingCommandEndsItAtOnceAndLetsTheNextGo) {
  Rig rig;
  rig.channel.hold = true;
  Io first = rig.io(write(0, 1), bytes(512, 1));
  Io swap = rig.io(caw(0, 1), bytes(1024, 0));
  Io last = rig.io(read(0, 1), {}, 512);
  first.run();
  swap.run();
  last.run();
  EXPECT_EQ(rig.channel.held(), 1u);
  rig.device.abort(swap.task);
  EXPECT_EQ(swap.done_calls, 1);
  EXPECT_EQ(rig.channel.held(), 2u);
  rig.channel.release_all();
}

// ---- task management

struct Tmf {
  Tmf(Device& device_, TmFunction function, Nexus& nexus, std::uint64_t tag = 0) : device(device_) {
    request.function = function;
    request.nexus = &nexus;
    request.tag = tag;
    request.done = Delegate<void(TaskManagement&)>::to<&Tmf::on_done>(*this);
  }
  Tmf& run() {
    ended = device.manage(request);
    return *this;
  }
  void on_done(TaskManagement&) {
    EXPECT_FALSE(ended);
    ended = true;
  }
  Device& device;
  TaskManagement request;
  bool ended = false;
};

TEST(TaskManagementFunction, AbortTaskWaitsForTheTask) {
  Rig rig;
  rig.channel.hold = true;
  Io io = rig.io(write(0, 1), bytes(512, 1));
  Io other = rig.io(write(1, 1), bytes(512, 1));
  io.run();
  other.run();
  Tmf abort(rig.device, TmFunction::abort_task, rig.a, io.task.tag);
  EXPECT_FALSE(abort.run().ended);
  EXPECT_EQ(io.done_calls, 0);
  rig.channel.release_one();
  EXPECT_TRUE(io.task.aborted);
  EXPECT_TRUE(abort.ended);
  EXPECT_EQ(abort.request.response, TmResponse::function_complete);
  rig.channel.release_all();
  EXPECT_FALSE(other.task.aborted);
  Tmf again(rig.device, TmFunction::abort_task, rig.a, io.task.tag);
  EXPECT_TRUE(again.run().ended);
  EXPECT_EQ(again.request.response, TmResponse::task_does_not_exist);
}

TEST(TaskManagementFunction, OfAnotherNexusIsNotTouchedByAbort) {
  Rig rig;
  Io io(rig.device, rig.b, write(0, 1), bytes(512, 1));
  io.admit();
  Tmf abort(rig.device, TmFunction::abort_task, rig.a, io.task.tag);
  EXPECT_EQ(abort.run().request.response, TmResponse::task_does_not_exist);
  Tmf set(rig.device, TmFunction::abort_task_set, rig.a);
  EXPECT_TRUE(set.run().ended);
  EXPECT_FALSE(io.task.aborted);
  Tmf query(rig.device, TmFunction::query_task, rig.b, io.task.tag);
  EXPECT_EQ(query.run().request.response, TmResponse::function_succeeded);
  io.execute();
  EXPECT_EQ(query.run().request.response, TmResponse::function_complete);
}

TEST(TaskManagementFunction, NamesALunThatIsNotThere) {
  Rig rig;
  Tmf reset(rig.device, TmFunction::lun_reset, rig.a);
  reset.request.lun = 0x0001'0000'0000'0000u;
  EXPECT_TRUE(reset.run().ended);
  EXPECT_EQ(reset.request.response, TmResponse::incorrect_lun);
  EXPECT_EQ(Tmf(rig.device, TmFunction::clear_aca, rig.a).run().request.response, TmResponse::not_supported);
  for (const TmFunction function :
       {TmFunction::lun_reset, TmFunction::abort_task_set, TmFunction::clear_task_set}) {
    Tmf well_known(rig.device, function, rig.a);
    well_known.request.lun = 0xc101'0000'0000'0000u;
    EXPECT_TRUE(well_known.run().ended);
    EXPECT_EQ(well_known.request.response, TmResponse::function_complete)
        << "nothing is ever in its task set";
  }
}

struct Cancelled {
  explicit Cancelled(Device& device_, Io& io_) : device(device_), io(io_) {
    io.task.cancelled = Delegate<void(Task&)>::to<&Cancelled::on>(*this);
  }
  void on(Task& task) {
    ++calls;
    if (at_once) device.abort(task);
  }
  Device& device;
  Io& io;
  int calls = 0;
  bool at_once = false;
};

TEST(TaskManagementFunction, LunResetTakesEveryTaskAndTellsEveryNexus) {
  Rig rig;
  rig.channel.hold = true;
  Io running(rig.device, rig.b, write(0, 1), bytes(512, 1));
  Io fetching(rig.device, rig.b, write(1, 1), bytes(512, 1));
  Io quick = rig.io(write(5, 1), bytes(512, 1));
  Io blocked = rig.io(caw(0, 1), bytes(1024, 0));
  Cancelled later(rig.device, fetching);
  Cancelled now(rig.device, quick);
  now.at_once = true;
  running.run();
  fetching.admit();
  quick.admit();
  blocked.run();
  rig.unit.state().swp = true;
  Tmf reset(rig.device, TmFunction::lun_reset, rig.a);
  EXPECT_FALSE(reset.run().ended);
  EXPECT_EQ(later.calls, 1);
  EXPECT_EQ(now.calls, 1);
  EXPECT_EQ(blocked.done_calls, 1);
  EXPECT_FALSE(rig.unit.write_protected());
  rig.channel.release_all();
  EXPECT_FALSE(reset.ended);  // a transfer into lent memory may still be going on
  rig.device.abort(fetching.task);
  EXPECT_TRUE(reset.ended);
  EXPECT_TRUE(running.task.aborted && blocked.task.aborted && fetching.task.aborted && quick.task.aborted);
  rig.channel.hold = false;
  EXPECT_EQ(Io(rig.device, rig.b, test_unit_ready).run().sense(), 0x062903u);
  EXPECT_EQ(rig.io(test_unit_ready).run().sense(), 0x062903u) << "the nexus that asked learns of it too";
  EXPECT_EQ(rig.io(test_unit_ready).run().status(), ScsiStatus::good);
}

TEST(TaskManagementFunction, ExecuteOfACancelledTaskIsHarmless) {
  Rig rig;
  Io io = rig.io(write(0, 1), bytes(512, 1));
  Cancelled seen(rig.device, io);
  io.admit();
  Tmf reset(rig.device, TmFunction::abort_task_set, rig.a);
  EXPECT_FALSE(reset.run().ended);
  io.execute();
  EXPECT_TRUE(io.ended && reset.ended && io.task.aborted);
  EXPECT_TRUE(rig.channel.kinds.empty());
}

TEST(TaskManagementFunction, ClearTaskSetTellsThoseWhoLostATask) {
  Rig rig;
  Io lost(rig.device, rig.b, write(0, 1), bytes(512, 1));
  lost.admit();
  EXPECT_TRUE(Tmf(rig.device, TmFunction::clear_task_set, rig.a).run().ended);
  EXPECT_TRUE(lost.task.aborted);
  EXPECT_EQ(Io(rig.device, rig.b, test_unit_ready).run().sense(), 0x062f00u);
  EXPECT_TRUE(Tmf(rig.device, TmFunction::clear_task_set, rig.a).run().ended);
  EXPECT_EQ(Io(rig.device, rig.b, test_unit_ready).run().status(), ScsiStatus::good);
}

TEST(TaskManagementFunction, TargetResetsAndNexusResetRaiseTheirAttentions) {
  Rig rig;
  EXPECT_TRUE(Tmf(rig.device, TmFunction::target_warm_reset, rig.a).run().ended);
  EXPECT_EQ(Io(rig.device, rig.b, test_unit_ready).run().sense(), 0x062902u);
  EXPECT_TRUE(Tmf(rig.device, TmFunction::target_cold_reset, rig.a).run().ended);
  EXPECT_EQ(Io(rig.device, rig.b, test_unit_ready).run().sense(), 0x062900u);
  EXPECT_EQ(rig.io(test_unit_ready).run().sense(), 0x062900u) << "the strongest of the two";
  Io mine = rig.io(write(0, 1), bytes(512, 1));
  Io theirs(rig.device, rig.b, write(0, 1), bytes(512, 1));
  mine.admit();
  theirs.admit();
  EXPECT_TRUE(Tmf(rig.device, TmFunction::i_t_nexus_reset, rig.a).run().ended);
  EXPECT_TRUE(mine.task.aborted);
  EXPECT_FALSE(theirs.task.aborted);
  theirs.execute();
  EXPECT_EQ(rig.io(test_unit_ready).run().sense(), 0x062907u);
}

TEST(TaskManagementFunction, QueryAsynchronousEventTellsTheAttentionAndLeavesIt) {
  Rig rig;
  Tmf query(rig.device, TmFunction::query_asynchronous_event, rig.b);
  EXPECT_TRUE(query.run().ended);
  EXPECT_EQ(query.request.response, TmResponse::function_complete);
  EXPECT_EQ(query.request.additional_information, 0u);
  EXPECT_TRUE(Tmf(rig.device, TmFunction::lun_reset, rig.a).run().ended);
  EXPECT_EQ(query.run().request.response, TmResponse::function_succeeded);
  EXPECT_EQ(query.request.additional_information, 0x162903u) << "one, UNIT ATTENTION, 29/03";
  rig.unit.resized();
  EXPECT_EQ(query.run().request.additional_information, 0x262903u) << "more than one";
  EXPECT_EQ(Io(rig.device, rig.b, test_unit_ready).run().sense(), 0x062903u) << "still there";
  EXPECT_EQ(query.run().request.additional_information, 0x162a09u);
}

TEST(TaskManagementFunction, WithTasOthersAreToldByAStatus) {
  Rig rig;
  rig.unit.state().tas = true;
  rig.channel.hold = true;
  Io running(rig.device, rig.b, write(0, 1), bytes(512, 1));
  Io fetching(rig.device, rig.b, write(1, 1), bytes(512, 1));
  Io mine = rig.io(write(5, 1), bytes(512, 1));
  running.run();
  fetching.admit();
  mine.admit();
  Tmf clear(rig.device, TmFunction::clear_task_set, rig.a);
  EXPECT_FALSE(clear.run().ended);
  rig.channel.release_all();
  EXPECT_TRUE(clear.ended);
  for (const Io* io : {&running, &fetching, &mine}) EXPECT_TRUE(io->task.aborted && io->task.ended_with_set);
  EXPECT_TRUE(running.task.report_aborted && fetching.task.report_aborted);
  EXPECT_EQ(running.status(), ScsiStatus::task_aborted);
  EXPECT_FALSE(mine.task.report_aborted) << "its own nexus asked for it";
  rig.channel.hold = false;
  EXPECT_EQ(Io(rig.device, rig.b, test_unit_ready).run().status(), ScsiStatus::good)
      << "no 2F/00 beside the status";
  Io alone(rig.device, rig.b, write(0, 1), bytes(512, 1));
  alone.admit();
  EXPECT_TRUE(Tmf(rig.device, TmFunction::abort_task, rig.b, alone.task.tag).run().ended);
  EXPECT_FALSE(alone.task.report_aborted || alone.task.ended_with_set);
}

TEST(TaskManagementFunction, TwoResetsBothWaitForTheSameTask) {
  Rig rig;
  rig.channel.hold = true;
  Io io = rig.io(write(0, 1), bytes(512, 1));
  io.run();
  Tmf one(rig.device, TmFunction::lun_reset, rig.a);
  Tmf two(rig.device, TmFunction::target_warm_reset, rig.b);
  EXPECT_FALSE(one.run().ended);
  EXPECT_FALSE(two.run().ended);
  rig.channel.hold = false;
  Io after(rig.device, rig.b, inquiry, {}, 96);
  EXPECT_EQ(after.run().status(), ScsiStatus::good);
  rig.channel.release_all();
  EXPECT_TRUE(one.ended && two.ended);
}

TEST(TaskManagementFunction, EndsSeveralWaitingTasksThatWaitForEachOther) {
  Rig rig;  // each one that ends would let the next start, were it not taken too
  rig.channel.hold = true;
  Io first = rig.io(write(0, 1), bytes(512, 1));
  Io second = rig.io(caw(0, 1), bytes(1024, 0));
  Io third = rig.io(caw(0, 1), bytes(1024, 0));
  Io fourth = rig.io(write(0, 1), bytes(512, 1));
  for (Io* io : {&first, &second, &third, &fourth}) io->run();
  Tmf reset(rig.device, TmFunction::abort_task_set, rig.a);
  EXPECT_FALSE(reset.run().ended);
  EXPECT_EQ(second.done_calls + third.done_calls + fourth.done_calls, 3);
  EXPECT_EQ(rig.channel.held(), 1u);
  rig.channel.release_all();
  EXPECT_TRUE(reset.ended);
  EXPECT_EQ(rig.channel.kinds.size(), 1u);
}

TEST(TaskManagementFunction, DoesNotWaitForTasksThatCameAfterIt) {
  Rig rig;
  rig.channel.hold = true;
  Io old = rig.io(write(0, 1), bytes(512, 1));
  old.run();
  Tmf reset(rig.device, TmFunction::lun_reset, rig.a);
  reset.run();
  EXPECT_EQ(rig.io(test_unit_ready).run().sense(), 0x062903u);
  Io fresh = rig.io(write(1, 1), bytes(512, 1));
  fresh.run();
  rig.channel.release_one();
  EXPECT_TRUE(reset.ended);
  EXPECT_FALSE(fresh.ended);
  rig.channel.release_all();
  EXPECT_FALSE(fresh.task.aborted);
}

// ---- resize

TEST(Resize, IsToldOnceToEveryNexusAndChecksUseTheNewEnd) {
  Rig rig;
  rig.channel.geometry().blocks = BlockCount(8);
  rig.unit.resized();
  EXPECT_EQ(rig.io(read(0, 1), {}, 512).run().sense(), 0x062a09u);
  EXPECT_EQ(Io(rig.device, rig.b, read(0, 1), {}, 512).run().sense(), 0x062a09u);
  EXPECT_EQ(rig.io(read(7, 2), {}, 1024).run().sense(), 0x052100u);
  rig.channel.geometry().blocks = BlockCount(2048);
}

// ---- cost

TEST(Cost, ReadsAndWritesAllocateNothingAfterWarmUp) {
  if (PERILUNE_SANITIZED) GTEST_SKIP() << "a sanitizer's allocator cannot be counted";
  Rig rig;
  Data block = bytes(512, 1);
  std::array<std::uint8_t, 512> memory{};
  const iovec piece{memory.data(), memory.size()};
  Task task;
  auto once = [&](const Data& cdb, bool out) {
    task.nexus = &rig.a;
    std::copy(cdb.begin(), cdb.end(), task.cdb.begin());
    task.expected_data_out_bytes = out ? 512 : 0;
    task.expected_data_in_bytes = out ? 0 : 512;
    rig.device.admit(task);
    task.data = {&piece, 1};
    ASSERT_TRUE(rig.device.execute(task));
    ASSERT_EQ(task.status, ScsiStatus::good);
  };
  const Data r = read(3, 1);
  const Data w = write(3, 1);
  rig.channel.kinds.reserve(100000);
  rig.channel.fuas.reserve(100000);
  once(r, false);
  once(w, true);
  const std::size_t before = allocation_count();
  for (int i = 0; i < 10000; ++i) {
    once(r, false);
    once(w, true);
  }
  EXPECT_EQ(allocation_count(), before);
}

}  // namespace
}  // namespace perilune::scsi::test
