// SPDX-License-Identifier: Apache-2.0
// A drive with a disc: bytes by hand from MMC-6. And what every removable medium has: the tray, and who keeps
// it shut.
#include <gtest/gtest.h>

#include <array>
#include <optional>

#include "scsi/test_support.hpp"

namespace perilune::scsi {
namespace {

using Data = std::vector<std::uint8_t>;
using namespace test;

constexpr std::uint32_t no_medium = 0x023a00;
constexpr std::uint32_t medium_changed = 0x062800;
constexpr std::uint32_t removal_prevented = 0x055302;
constexpr std::uint32_t invalid_field = 0x052400;
constexpr std::uint32_t unknown_command = 0x052000;

block::Geometry disc(std::uint64_t blocks) {
  block::Geometry geometry;
  geometry.block_size_bytes = 2048;
  geometry.physical_block_size_bytes = 2048;
  geometry.blocks = BlockCount(blocks);
  geometry.write_cache = false;
  geometry.read_only = true;
  return geometry;
}

UnitConfig drive() {
  return {.identity = UnitIdentity::from_id(1), .read_only = true, .type = DeviceType::cd_dvd};
}
UnitConfig fixed_disk() { return {.identity = UnitIdentity::from_id(3)}; }
UnitConfig removable_disk() { return {.identity = UnitIdentity::from_id(2), .removable = true}; }

struct Removable {
  explicit Removable(block::Geometry geometry = disc(1000), UnitConfig config = drive())
      : channel(geometry),
        device("iqn.2026-11.io.perilune:cd"),
        unit(**device.add_unit(0, std::move(config), channel)),
        a(device, Rig::names("a")),
        b(std::make_unique<Nexus>(device, Rig::names("b"))) {
    settle(a);
    settle(*b);
  }
  void settle(Nexus& nexus) {
    while (Io(device, nexus, {0, 0, 0, 0, 0, 0}).run().sense() >> 16 == 6) {
    }
  }
  std::uint32_t run(Nexus& nexus, Data cdb) {
    Io io(device, nexus, std::move(cdb));
    io.run();
    EXPECT_TRUE(io.ended);
    return io.sense();
  }
  Data ask(Data cdb, std::uint32_t room = 65535) {
    Io io(device, a, std::move(cdb), {}, room);
    io.run();
    EXPECT_EQ(io.status(), ScsiStatus::good) << std::hex << io.sense();
    return io.data_in();
  }
  static Data eject() { return {0x1b, 0, 0, 0, 0x02, 0}; }
  static Data load() { return {0x1b, 0, 0, 0, 0x03, 0}; }
  static Data prevent(bool yes) { return {0x1e, 0, 0, 0, std::uint8_t(yes), 0}; }
  static Data poll() { return {0x4a, 0x01, 0, 0, 0x10, 0, 0, 0, 0xff, 0}; }
  static Data ready() { return {0, 0, 0, 0, 0, 0}; }

  FakeChannel channel;
  Device device;
  LogicalUnit& unit;
  Nexus a;
  std::unique_ptr<Nexus> b;
};

// ---- what it says it is

TEST(Multimedia, InquiryTellsOfARemovableDrive) {
  Removable rig;
  const Data data = rig.ask({0x12, 0, 0, 0, 0xff, 0});
  EXPECT_EQ(data[0], 0x05);
  EXPECT_EQ(data[1], 0x80);
  EXPECT_EQ(data[5] & 0x08, 0) << "no third-party copies";
  EXPECT_EQ(rig.ask({0x12, 0x01, 0, 0, 0xff, 0}), (Data{0x05, 0x00, 0, 7, 0x00, 0x80, 0x83, 0x86, 0x87, 0x88, 0xb0}));
}

TEST(Multimedia, OnlyTheCommandsOfADriveAreThere) {
  Removable rig;
  EXPECT_EQ(rig.run(rig.a, {0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0}), unknown_command);           // WRITE (10)
  EXPECT_EQ(rig.run(rig.a, {0x41, 0, 0, 0, 0, 0, 0, 0, 0, 0}), unknown_command);           // WRITE SAME
  EXPECT_EQ(rig.run(rig.a, {0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}), unknown_command);  // READ (16)
  const Data codes = rig.ask({0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0});
  ASSERT_EQ(codes.size() % 8, 4u);
  std::size_t count = 0;
  for (std::size_t at = 4; at < codes.size(); at += 8, ++count) EXPECT_NE(codes[at], 0x2a);
  EXPECT_EQ(count, 27u);
}

TEST(Multimedia, TheDiscHasItsOwnBlockSize) {
  EXPECT_TRUE(Device::check_medium(disc(1), DeviceType::cd_dvd));
  EXPECT_FALSE(Device::check_medium(FakeChannel::disk(), DeviceType::cd_dvd));
  EXPECT_FALSE(Device::check_medium(disc(0), DeviceType::cd_dvd));
  EXPECT_TRUE(Device::check_medium(disc(0xffff'ffff), DeviceType::cd_dvd));
  EXPECT_FALSE(Device::check_medium(disc(0x1'0000'0000), DeviceType::cd_dvd));
}

TEST(Multimedia, BlocksAreReadAndNotOnesBeyondTheEnd) {
  Removable rig;
  for (std::size_t i = 0; i < rig.channel.memory.size(); ++i)
    rig.channel.memory[i] = static_cast<std::uint8_t>(i * 7 / 2048);
  EXPECT_EQ(rig.ask({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}), (Data{0, 0, 0x03, 0xe7, 0, 0, 0x08, 0x00}));
  const Data two = rig.ask({0x28, 0, 0, 0, 0x01, 0x00, 0, 0, 2, 0});
  ASSERT_EQ(two.size(), 4096u);
  EXPECT_TRUE(std::equal(two.begin(), two.end(), rig.channel.memory.begin() + 256 * 2048));
  EXPECT_EQ(rig.ask({0xa8, 0, 0, 0, 0x01, 0x00, 0, 0, 0, 2, 0, 0}), two);
  EXPECT_EQ(rig.run(rig.a, {0x28, 0, 0, 0, 0x03, 0xe7, 0, 0, 2, 0}), 0x052100u);
}

TEST(Multimedia, ModePagesSayThatItEjectsAndReadsDvds) {
  Removable rig;
  Data data = rig.ask({0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 0xff, 0});
  ASSERT_EQ(data.size(), 8u + 26u);
  EXPECT_EQ(data[1], data.size() - 2);
  EXPECT_EQ((Data{data.begin() + 8, data.begin() + 16}), (Data{0x2a, 24, 0x0b, 0, 0, 0, 0x29, 0}));
  EXPECT_EQ(rig.run(rig.a, Removable::prevent(true)), 0u);
  EXPECT_EQ(rig.ask({0x1a, 0, 0x2a, 0, 0xff, 0})[4 + 6], 0x2b) << "locked";
  EXPECT_EQ(rig.ask({0x1a, 0, 0x3f, 0, 0xff, 0}).size(), 4u + 12 + 26);
  EXPECT_EQ(rig.ask({0x1a, 0, 0x6a, 0, 0xff, 0})[4 + 6], 0) << "nothing is changeable";
  EXPECT_EQ(rig.run(rig.a, {0x1a, 0, 0x08, 0, 0xff, 0}), invalid_field);
  EXPECT_EQ(rig.run(rig.a, {0x1a, 0, 0xea, 0, 0xff, 0}), 0x053900u);
}

// ---- the table of contents

TEST(ReadToc, OneTrackAndTheLeadOutByBlockAndByTime) {
  Removable rig(disc(75 * 60));  // a minute: the lead-out is at 01:02:00
  EXPECT_EQ(rig.ask({0x43, 0, 0, 0, 0, 0, 0, 0, 0xff, 0}),
            (Data{0, 0x12, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 0x11, 0x94}));
  EXPECT_EQ(rig.ask({0x43, 0x02, 0, 0, 0, 0, 0, 0, 0xff, 0}),
            (Data{0, 0x12, 1, 1, 0, 0x14, 1, 0, 0, 0, 2, 0, 0, 0x14, 0xaa, 0, 0, 1, 2, 0}));
  EXPECT_EQ(rig.ask({0x43, 0, 0, 0, 0, 0, 0xaa, 0, 0xff, 0}),
            (Data{0, 0x0a, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 0x11, 0x94}));
  EXPECT_EQ(rig.run(rig.a, {0x43, 0, 0, 0, 0, 0, 2, 0, 0xff, 0}), invalid_field) << "there is no second track";
}

TEST(ReadToc, SessionsAreToldInTheOldPlaceOfTheFormatToo) {
  Removable rig;
  const Data sessions{0, 0x0a, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0};
  EXPECT_EQ(rig.ask({0x43, 0, 0x01, 0, 0, 0, 0, 0, 0xff, 0}), sessions);
  EXPECT_EQ(rig.ask({0x43, 0, 0, 0, 0, 0, 0, 0, 12, 0x40}), sessions) << "as Linux asks";
  EXPECT_EQ(rig.run(rig.a, {0x43, 0, 0x05, 0, 0, 0, 0, 0, 0xff, 0}), invalid_field);
}

TEST(ReadToc, TheRawTableIsOfCompactDiscsAlone) {
  Removable cd(disc(75 * 60));
  EXPECT_EQ(cd.ask({0x43, 0x02, 0x02, 0, 0, 0, 0, 0, 0xff, 0}),
            (Data{0, 46, 1, 1,                                       //
                  1, 0x14, 0, 0xa0, 0, 0, 0, 0, 1, 0, 0,             //
                  1, 0x14, 0, 0xa1, 0, 0, 0, 0, 1, 0, 0,             //
                  1, 0x14, 0, 0xa2, 0, 0, 0, 0, 1, 2, 0,             //
                  1, 0x14, 0, 0x01, 0, 0, 0, 0, 0, 2, 0}));
}

// ---- features, disc and track

TEST(GetConfiguration, TheProfileFollowsTheSizeOfTheDisc) {
  Removable cd(disc(1000));
  const Data data = cd.ask({0x46, 0x02, 0, 0x00, 0, 0, 0, 0, 0xff, 0});  // one feature: the profiles
  EXPECT_EQ(data, (Data{0, 0, 0, 16, 0, 0, 0x00, 0x08, 0, 0, 0x03, 8, 0x00, 0x10, 0, 0, 0x00, 0x08, 1, 0}));
  EXPECT_EQ(cd.run(cd.a, Removable::eject()), 0u);
  const Data empty = cd.ask({0x46, 0x01, 0, 0, 0, 0, 0, 0, 0xff, 0});  // current features without a disc
  EXPECT_EQ((Data{empty.begin() + 6, empty.begin() + 8}), (Data{0, 0}));
  EXPECT_EQ(empty.size(), 8u + (4 + 8) + (4 + 8) + (4 + 4));
}

TEST(GetConfiguration, StartsWhereItIsToldAndNamesWhatItHas) {
  Removable rig;
  const Data data = rig.ask({0x46, 0x00, 0, 0x10, 0, 0, 0, 0, 0xff, 0});
  EXPECT_EQ(data, (Data{0, 0, 0, 32, 0, 0, 0, 8,                               //
                        0x00, 0x10, 0x01, 8, 0, 0, 0x08, 0, 0, 1, 0, 0,        //
                        0x00, 0x1d, 0x01, 0,                                   //
                        0x00, 0x1e, 0x09, 4, 0, 0, 0, 0,                       //
                        0x00, 0x1f, 0x00, 0}));
  EXPECT_EQ(rig.run(rig.a, {0x46, 0x03, 0, 0, 0, 0, 0, 0, 0xff, 0}), invalid_field);
}

TEST(DiscAndTrack, AreCompleteAndAsLargeAsTheImage) {
  Removable rig;
  const Data information = rig.ask({0x51, 0, 0, 0, 0, 0, 0, 0, 0xff, 0});
  ASSERT_EQ(information.size(), 34u);
  EXPECT_EQ((Data{information.begin(), information.begin() + 8}), (Data{0, 32, 0x0e, 1, 1, 1, 1, 0x20}));
  const Data track = rig.ask({0x52, 0x01, 0, 0, 0, 1, 0, 0, 0xff, 0});
  ASSERT_EQ(track.size(), 36u);
  EXPECT_EQ((Data{track.begin(), track.begin() + 7}), (Data{0, 34, 1, 1, 0, 4, 1}));
  EXPECT_EQ((Data{track.begin() + 24, track.begin() + 28}), (Data{0, 0, 0x03, 0xe8}));
  EXPECT_EQ(rig.run(rig.a, {0x52, 0x00, 0, 0, 0x03, 0xe8, 0, 0, 0xff, 0}), invalid_field) << "behind the last block";
  EXPECT_EQ(rig.run(rig.a, {0x52, 0x01, 0, 0, 0, 2, 0, 0, 0xff, 0}), invalid_field);
}

TEST(DvdStructure, IsThatOfADvdAlone) {
  Removable cd;
  EXPECT_EQ(cd.run(cd.a, {0xad, 0, 0, 0, 0, 0, 0, 0, 0x08, 0x04, 0, 0}), 0x053002u);
  EXPECT_EQ(cd.ask({0xad, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0, 0}).size(), 4u + 12);
  EXPECT_EQ(cd.run(cd.a, {0xad, 0x01, 0, 0, 0, 0, 0, 0, 0x08, 0x04, 0, 0}), invalid_field) << "not a Blu-ray drive";
}

TEST(DvdStructure, TellsTheDataAreaOfALargeDisc) {
  Removable dvd(disc(80 * 60 * 75 + 1));  // one block more than a compact disc holds
  const Data data = dvd.ask({0xad, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x14, 0, 0});
  EXPECT_EQ(data, (Data{0x08, 0x02, 0, 0, 0x01, 0x0f, 0x01, 0, 0x00, 0x03, 0, 0, 0x00, 0x08, 0x7e, 0x40, 0, 0, 0, 0}));
  EXPECT_EQ(dvd.run(dvd.a, {0x43, 0, 0x02, 0, 0, 0, 0, 0, 0xff, 0}), invalid_field) << "no raw table of contents";
}

// ---- the tray

TEST(Tray, WithoutADiscOnlyTheDriveAnswers) {
  Removable rig;
  EXPECT_EQ(rig.run(rig.a, Removable::eject()), 0u);
  EXPECT_FALSE(rig.unit.medium_present());
  for (const Data& cdb : {Removable::ready(), Data{0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, Data{0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0},
                          Data{0x43, 0, 0, 0, 0, 0, 0, 0, 0xff, 0}, Data{0x51, 0, 0, 0, 0, 0, 0, 0, 0xff, 0}}) {
    EXPECT_EQ(rig.run(rig.a, cdb), no_medium) << std::hex << int{cdb[0]};
    EXPECT_EQ(rig.run(*rig.b, cdb), no_medium) << std::hex << int{cdb[0]};
  }
  EXPECT_EQ(rig.ask({0x12, 0, 0, 0, 0xff, 0})[1], 0x80);
  EXPECT_EQ(rig.ask({0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0}), (Data{0, 0x10, 0, 0, 0, 0, 0, 0})) << "door open";
  EXPECT_EQ(rig.ask({0x03, 0, 0, 0, 0xff, 0})[12], 0x3a);
  EXPECT_EQ(rig.run(rig.a, {0x1b, 0, 0, 0, 0x01, 0}), no_medium) << "nothing to start";
}

TEST(Tray, LoadingTellsEveryOtherNexusOnce) {
  Removable rig;
  EXPECT_EQ(rig.run(rig.a, Removable::eject()), 0u);
  EXPECT_EQ(rig.run(rig.a, Removable::load()), 0u);
  EXPECT_EQ(rig.run(rig.a, Removable::ready()), 0u) << "who has loaded it knows";
  EXPECT_EQ(rig.run(*rig.b, Removable::ready()), medium_changed);
  EXPECT_EQ(rig.run(*rig.b, Removable::ready()), 0u);
  EXPECT_EQ(rig.run(rig.a, Removable::load()), 0u) << "it is there";
  EXPECT_EQ(rig.run(*rig.b, Removable::ready()), 0u) << "so that nothing has changed";
}

TEST(Tray, PolledEventsTellOfItOncePerNexus) {
  Removable rig;
  EXPECT_EQ(rig.ask(Removable::poll()), (Data{0, 6, 4, 0x10, 0, 0x02, 0, 0}));
  EXPECT_EQ(rig.run(*rig.b, Removable::eject()), 0u);
  EXPECT_EQ(rig.ask(Removable::poll()), (Data{0, 6, 4, 0x10, 3, 0x01, 0, 0}));
  EXPECT_EQ(rig.ask(Removable::poll()), (Data{0, 6, 4, 0x10, 0, 0x01, 0, 0}));
  EXPECT_EQ(rig.run(*rig.b, Removable::load()), 0u);
  EXPECT_EQ(rig.ask({0x4a, 0x01, 0, 0, 0x10, 0, 0, 0, 4, 0}), (Data{0, 6, 4, 0x10})) << "no room for the event: it stays";
  EXPECT_EQ(rig.ask(Removable::poll()), (Data{0, 6, 4, 0x10, 2, 0x02, 0, 0}));
  EXPECT_EQ(rig.ask({0x4a, 0x01, 0, 0, 0x02, 0, 0, 0, 0xff, 0}), (Data{0, 2, 0x80, 0x10})) << "a class that has no events";
  EXPECT_EQ(rig.run(rig.a, {0x4a, 0x00, 0, 0, 0x10, 0, 0, 0, 0xff, 0}), invalid_field) << "asynchronous";
}

TEST(Tray, StaysShutWhileAnybodyPreventsIt) {
  Removable rig;
  EXPECT_EQ(rig.run(rig.a, Removable::prevent(true)), 0u);
  EXPECT_EQ(rig.run(*rig.b, Removable::prevent(true)), 0u);
  EXPECT_EQ(rig.run(rig.a, Removable::eject()), removal_prevented);
  EXPECT_EQ(rig.run(rig.a, Removable::prevent(false)), 0u);
  EXPECT_EQ(rig.run(rig.a, Removable::eject()), removal_prevented) << "the other one still does";
  EXPECT_EQ(rig.run(*rig.b, Removable::prevent(false)), 0u);
  EXPECT_EQ(rig.run(rig.a, Removable::eject()), 0u);
  EXPECT_EQ(rig.run(rig.a, Removable::prevent(true)), 0u);
  EXPECT_EQ(rig.run(rig.a, Removable::load()), removal_prevented) << "locked, it does not move either way";
}

TEST(Tray, OpensAgainWhenWhoPreventedItIsGoneOrTheUnitWasReset) {
  Removable rig;
  EXPECT_EQ(rig.run(*rig.b, Removable::prevent(true)), 0u);
  rig.b.reset();
  EXPECT_EQ(rig.run(rig.a, Removable::eject()), 0u);
  EXPECT_EQ(rig.run(rig.a, Removable::load()), 0u);
  rig.settle(rig.a);
  EXPECT_EQ(rig.run(rig.a, Removable::prevent(true)), 0u);
  TaskManagement reset;
  reset.function = TmFunction::lun_reset;
  reset.nexus = &rig.a;
  ASSERT_TRUE(rig.device.manage(reset));
  rig.settle(rig.a);
  EXPECT_EQ(rig.run(rig.a, Removable::eject()), 0u);
}

TEST(Tray, AResetDoesNotPutTheDiscBack) {
  Removable rig;
  EXPECT_EQ(rig.run(rig.a, Removable::eject()), 0u);
  TaskManagement reset;
  reset.function = TmFunction::target_warm_reset;
  reset.nexus = &rig.a;
  ASSERT_TRUE(rig.device.manage(reset));
  rig.settle(rig.a);
  EXPECT_EQ(rig.run(rig.a, Removable::ready()), no_medium);
}

TEST(Tray, EjectWaitsForWhatIsBeingRead) {
  Removable rig;
  rig.channel.hold = true;
  Io read(rig.device, *rig.b, {0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, {}, 2048);
  read.run();
  Io eject(rig.device, rig.a, Removable::eject());
  eject.run();
  EXPECT_FALSE(eject.ended);
  rig.channel.hold = false;
  rig.channel.release_all();
  EXPECT_EQ(read.status(), ScsiStatus::good);
  EXPECT_TRUE(eject.ended);
  EXPECT_FALSE(rig.unit.medium_present());
}

// What the operator does to one shard's unit.
struct Operator {
  Status take_out() {
    unit.take_medium_out([this](const Status& status) { out = status; });
    return out ? *out : fail(Errc::timed_out, "the medium is in use");
  }
  void change(block::Channel& other) {
    ASSERT_TRUE(take_out());
    ASSERT_TRUE(unit.put_medium_in(&other));
    unit.shut_tray();
  }
  LogicalUnit& unit;
  std::optional<Status> out = {};
};

TEST(ChangeMedium, AnotherDiscIsThereWithItsSizeAndItsNews) {
  Removable rig;
  FakeChannel other(disc(2000));
  Operator{rig.unit}.change(other);
  EXPECT_EQ(rig.run(*rig.b, Removable::ready()), medium_changed);
  rig.settle(rig.a);
  EXPECT_EQ(rig.ask({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}), (Data{0, 0, 0x07, 0xcf, 0, 0, 0x08, 0x00}));
  EXPECT_EQ(rig.ask(Removable::poll()), (Data{0, 6, 4, 0x10, 2, 0x02, 0, 0}));
}

TEST(ChangeMedium, WithNoneInTheTrayNobodyCanShutIt) {
  Removable rig;
  ASSERT_TRUE(Operator{rig.unit}.take_out());
  ASSERT_TRUE(rig.unit.put_medium_in(nullptr));
  EXPECT_EQ(rig.ask(Removable::poll()), (Data{0, 6, 4, 0x10, 3, 0x01, 0, 0}));
  EXPECT_EQ(rig.run(rig.a, Removable::ready()), no_medium);
  EXPECT_EQ(rig.run(rig.a, Removable::load()), no_medium);
  EXPECT_EQ(rig.run(rig.a, Removable::eject()), 0u) << "it is open";
  TaskManagement reset;
  reset.function = TmFunction::lun_reset;
  reset.nexus = &rig.a;
  ASSERT_TRUE(rig.device.manage(reset));
  rig.settle(rig.a);
  EXPECT_EQ(rig.run(rig.a, Removable::load()), no_medium) << "a reset does not bring a disc";
  FakeChannel other(disc(500));
  Operator{rig.unit}.change(other);
  rig.settle(rig.a);
  EXPECT_EQ(rig.ask({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}), (Data{0, 0, 0x01, 0xf3, 0, 0, 0x08, 0x00}));
}

TEST(ChangeMedium, AfterAnEjectTheOtherOneIsLoaded) {
  Removable rig;
  FakeChannel other(disc(2000));
  EXPECT_EQ(rig.run(rig.a, Removable::eject()), 0u);
  Operator{rig.unit}.change(other);
  EXPECT_EQ(rig.run(rig.a, Removable::ready()), medium_changed)
      << "who has ejected the old one does not know";
  EXPECT_EQ(rig.run(rig.a, Removable::ready()), 0u);
}

TEST(ChangeMedium, IsRefusedWhileAnInitiatorHoldsIt) {
  Removable rig;
  EXPECT_EQ(rig.run(*rig.b, Removable::prevent(true)), 0u);
  EXPECT_EQ(Operator{rig.unit}.take_out().error().code, Errc::busy);
  EXPECT_EQ(rig.ask(Removable::poll()), (Data{0, 6, 4, 0x10, 1, 0x02, 0, 0}))
      << "it is told that somebody wishes it";
  EXPECT_EQ(rig.run(rig.a, Removable::ready()), 0u);
  EXPECT_EQ(rig.run(*rig.b, Removable::prevent(false)), 0u);
  EXPECT_TRUE(Operator{rig.unit}.take_out());
  Removable fixed(FakeChannel::disk(), fixed_disk());
  EXPECT_EQ(Operator{fixed.unit}.take_out().error().code, Errc::unsupported);
}

TEST(ChangeMedium, WaitsForWhatIsBeingReadAndNothingMoreBegins) {
  Removable rig;
  rig.channel.hold = true;
  Io read(rig.device, rig.a, {0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, {}, 2048);
  read.run();
  Operator by{rig.unit};
  EXPECT_FALSE(by.take_out());
  EXPECT_EQ(rig.run(*rig.b, {0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}), no_medium);
  rig.channel.hold = false;
  rig.channel.release_all();
  EXPECT_EQ(read.status(), ScsiStatus::good);
  ASSERT_TRUE(by.out && *by.out);
  FakeChannel other(disc(2000));
  EXPECT_TRUE(rig.unit.put_medium_in(&other));
}

TEST(ChangeMedium, OfAnotherBlockSizeIsNotTaken) {
  Removable rig;
  FakeChannel wrong(FakeChannel::disk());
  ASSERT_TRUE(Operator{rig.unit}.take_out());
  EXPECT_EQ(rig.unit.put_medium_in(&wrong).error().code, Errc::invalid_argument);
  EXPECT_EQ(rig.run(rig.a, Removable::ready()), no_medium);
}

// The new one is smaller, and belongs to somebody else.
TEST(ChangeMedium, AWriteThatWasForTheMediumOfBeforeDoesNotLandOnTheOther) {
  Removable rig(FakeChannel::disk(), removable_disk());
  Io late(rig.device, rig.a, {0x2a, 0, 0, 0, 0, 0x07, 0, 0, 1, 0}, bytes(512, 0xab));
  late.admit();  // its data has not come
  FakeChannel other(FakeChannel::disk(16));
  Operator{rig.unit}.change(other);
  late.execute();
  EXPECT_EQ(late.sense(), no_medium);
  EXPECT_EQ(other.memory, bytes(16 * 512, 0));
  rig.settle(rig.a);
  Io next(rig.device, rig.a, {0x2a, 0, 0, 0, 0, 0x07, 0, 0, 1, 0}, bytes(512, 0xcd));
  EXPECT_EQ(next.run().status(), ScsiStatus::good);
  EXPECT_EQ(other.memory[7 * 512], 0xcd);
}

TEST(RemovableDisk, IsADiskWithATray) {
  Removable rig(FakeChannel::disk(), removable_disk());
  EXPECT_EQ(rig.ask({0x12, 0, 0, 0, 0xff, 0})[1], 0x80);
  EXPECT_EQ(rig.run(rig.a, Removable::prevent(true)), 0u);
  EXPECT_EQ(rig.run(*rig.b, Removable::eject()), removal_prevented);
  EXPECT_EQ(rig.run(rig.a, Removable::prevent(false)), 0u);
  EXPECT_EQ(rig.run(*rig.b, Removable::eject()), 0u);
  EXPECT_EQ(rig.channel.kinds.back(), block::OpKind::flush) << "what the cache holds goes with the medium";
  EXPECT_EQ(rig.run(rig.a, {0x2a, 0, 0, 0, 0, 0, 0, 0, 0, 0}), no_medium);
  EXPECT_EQ(rig.run(rig.a, Removable::load()), 0u);
  rig.settle(rig.a);
  EXPECT_EQ(rig.run(rig.a, Removable::ready()), 0u);
}

TEST(FixedDisk, HasNoTray) {
  Removable rig(FakeChannel::disk(), fixed_disk());
  EXPECT_EQ(rig.run(rig.a, Removable::prevent(true)), unknown_command);
  EXPECT_EQ(rig.run(rig.a, Removable::eject()), invalid_field) << "LOEJ";
  EXPECT_EQ(rig.ask({0x12, 0, 0, 0, 0xff, 0})[1], 0x00);
}

}  // namespace
}  // namespace perilune::scsi
