// SPDX-License-Identifier: Apache-2.0
// Asymmetric access: what each state lets through, REPORT and SET TARGET PORT GROUPS, who is told of a
// change.
#include "scsi/port_groups.hpp"

#include <gtest/gtest.h>

#include "scsi/test_support.hpp"

namespace perilune::scsi::test {
namespace {

using Data = std::vector<std::uint8_t>;

NexusNames port(const char* who, std::uint16_t number) {
  NexusNames names = Rig::names(who);
  names.relative_target_port = number;
  return names;
}

// One unit, ports 1 and 2 in group 10, port 3 in group 20; a nexus through port 1 and one through port 3.
struct Ports {
  explicit Ports(bool by_command = true)
      : channel(FakeChannel::disk()),
        unit(**device.add_unit(0, config(by_command), channel)),
        near(device, port("near", 1)),
        far(device, port("far", 3)) {
    settle();
  }
  static UnitConfig config(bool by_command) {
    UnitConfig config;
    config.identity = UnitIdentity::from_id(1);
    config.port_groups =
        PortGroups({{.id = 10, .preferred = true, .ports = {1, 2}}, {.id = 20, .ports = {3}}}, by_command);
    return config;
  }
  void settle() {
    for (Nexus* nexus : {&near, &far}) (void)attentions(*nexus);
  }
  // All pending unit attentions, told to READ CAPACITY (which no access state but those that refuse it
  // hinders).
  std::vector<std::uint32_t> attentions(Nexus& nexus) {
    std::vector<std::uint32_t> told;
    for (;;) {
      Io io(device, nexus, {0, 0, 0, 0, 0, 0});
      io.run();
      if (io.sense() >> 16 != 6) return told;
      told.push_back(io.sense());
    }
  }
  Io set(std::vector<std::uint8_t> descriptors) {
    Data list{0, 0, 0, 0};
    list.insert(list.end(), descriptors.begin(), descriptors.end());
    const auto length = static_cast<std::uint8_t>(list.size());
    return Io(device, near, {0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, length, 0, 0}, list);
  }
  Io at(Nexus& nexus, Data cdb, std::uint32_t expected_in = 0) {
    return Io(device, nexus, std::move(cdb), {}, expected_in);
  }

  FakeChannel channel;
  Device device{"iqn.2026-11.io.perilune:disk"};
  LogicalUnit& unit;
  Nexus near;
  Nexus far;
};

constexpr std::uint32_t all_bytes = 4096;
const Data report{0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0};

TEST(PortGroups, AreReportedByteForByte) {
  Ports ports;
  EXPECT_EQ(ports.at(ports.near, report, all_bytes).run().data_in(),
            (Data{0, 0, 0, 28,                                                        //
                  0x80, 0xcf, 0, 10, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2,              // preferred, active/optimized
                  0x00, 0xcf, 0, 20, 0, 0, 0, 1, 0, 0, 0, 3}));
  Data extended = report;
  extended[1] = 0x2a;
  const Data answer = ports.at(ports.far, extended, all_bytes).run().data_in();
  EXPECT_EQ(Data(answer.begin(), answer.begin() + 12), (Data{0, 0, 0, 32, 0x10, 0, 0, 0, 0x80, 0xcf, 0, 10}));
  Data unknown = report;
  unknown[1] = 0x4a;
  EXPECT_EQ(ports.at(ports.far, unknown, all_bytes).run().sense(), 0x052400u);
}

TEST(PortGroups, ReferralsAreOneSegmentBehindEveryGroup) {
  Ports ports;
  ASSERT_TRUE(ports.unit.set_access_state(20, AccessState::standby));
  while (ports.at(ports.near, {0, 0, 0, 0, 0, 0}, 0).run().sense() != 0) {}
  Data referrals{0x9e, 0x13, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 64, 0x01, 0};  // ONE_SEG
  EXPECT_EQ(ports.at(ports.near, referrals, all_bytes).run().data_in(),
            (Data{0, 0, 0, 28,                                                            //
                  0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x07, 0xff,       // blocks 0 to 2047
                  0x00, 0, 0, 10, 0x02, 0, 0, 20}));
  store_be32(&referrals[10], 6);
  EXPECT_EQ(ports.at(ports.near, referrals, all_bytes).run().data_in(), (Data{0, 0, 0, 28, 0, 0}))
      << "cut by ALLOCATION LENGTH";
  store_be64(&referrals[2], 2048);
  EXPECT_EQ(ports.at(ports.near, referrals, all_bytes).run().sense(), 0x052100u);
  EXPECT_EQ(ports.at(ports.near, {0x12, 1, 0x86, 0, 64, 0}, 64).run().data_in()[8], 0x10) << "R_SUP";
  EXPECT_EQ(ports.at(ports.near, {0x12, 1, 0xb3, 0, 64, 0}, 64).run().data_in(), (Data{0, 0xb3, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
}

TEST(PortGroups, InquiryTellsWhoMayChangeStatesAndVpd83TheGroupOfThePort) {
  for (const bool by_command : {false, true}) {
    Ports ports(by_command);
    EXPECT_EQ(ports.at(ports.near, {0x12, 0, 0, 0, 96, 0}, 96).run().data_in()[5] & 0x30,
              by_command ? 0x30 : 0x10);
  }
  Ports ports;
  const Data group_20{0x51, 0x95, 0, 4, 0, 0, 0, 20};
  const Data identity = ports.at(ports.far, {0x12, 1, 0x83, 1, 0, 0}, 256).run().data_in();
  EXPECT_NE(std::search(identity.begin(), identity.end(), group_20.begin(), group_20.end()), identity.end());
  const Data other = ports.at(ports.near, {0x12, 1, 0x83, 1, 0, 0}, 256).run().data_in();
  EXPECT_EQ(std::search(other.begin(), other.end(), group_20.begin(), group_20.end()), other.end());
}

struct StateCase {
  AccessState state;
  std::uint32_t refusal;  // of READ and TEST UNIT READY; 0: served
  bool mode_sense;        // served
};

TEST(PortGroups, EachStateLetsThroughWhatTheStandardSays) {
  const StateCase cases[] = {
      {AccessState::active_optimized, 0, true},       {AccessState::active_non_optimized, 0, true},
      {AccessState::standby, 0x02040b, true},         {AccessState::unavailable, 0x02040c, false},
      {AccessState::offline, 0x020412, false},        {AccessState::transitioning, 0x02040a, false},
  };
  for (const StateCase& c : cases) {
    Ports ports;
    ASSERT_TRUE(ports.unit.set_access_state(20, c.state));
    (void)ports.attentions(ports.near);
    (void)ports.attentions(ports.far);
    EXPECT_EQ(ports.at(ports.far, {0, 0, 0, 0, 0, 0}).run().sense(), c.refusal);
    EXPECT_EQ(ports.at(ports.far, {0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 512).run().sense(), c.refusal);
    EXPECT_EQ(ports.at(ports.far, {0x1a, 0, 0x3f, 0, 255, 0}, 255).run().sense(),
              c.mode_sense ? 0 : c.refusal);
    for (const Data& cdb : {report, Data{0x12, 0, 0, 0, 96, 0}, Data{0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}}) {
      EXPECT_EQ(ports.at(ports.far, cdb, 512).run().status(), ScsiStatus::good);
    }
    // REQUEST SENSE tells the state as data.
    const Data sense = ports.at(ports.far, {0x03, 0, 0, 0, 252, 0}, 252).run().data_in();
    EXPECT_EQ(static_cast<std::uint32_t>(sense[2] << 16 | sense[12] << 8 | sense[13]), c.refusal);
    // The other group is not concerned.
    EXPECT_EQ(ports.at(ports.near, {0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 512).run().status(), ScsiStatus::good);
  }
}

TEST(PortGroups, AnOperatorsChangeIsToldToEveryNexusOnce) {
  Ports ports;
  ASSERT_TRUE(ports.unit.set_access_state(20, AccessState::active_non_optimized));
  EXPECT_EQ(ports.attentions(ports.near), (std::vector<std::uint32_t>{0x062a06}));
  EXPECT_EQ(ports.attentions(ports.far), (std::vector<std::uint32_t>{0x062a06}));
  EXPECT_EQ(ports.at(ports.near, report, all_bytes).run().data_in()[20 + 5], 2);  // STATUS CODE: implicit
  ASSERT_TRUE(ports.unit.set_access_state(20, AccessState::active_non_optimized));  // no change
  EXPECT_TRUE(ports.attentions(ports.near).empty());
  EXPECT_EQ(ports.unit.set_access_state(30, AccessState::standby).error().code, Errc::not_found);
}

TEST(PortGroups, TheOperatorLearnsWhenWhatHadStartedIsOver) {
  Ports ports;
  ports.channel.hold = true;
  Io before = ports.at(ports.far, {0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 512);
  before.run();
  int told = 0;
  ASSERT_TRUE(ports.unit.set_access_state(20, AccessState::standby, [&] { ++told; }));
  EXPECT_EQ(told, 0);
  (void)ports.attentions(ports.near);
  Io later = ports.at(ports.near, {0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 512);
  later.run();
  ports.channel.release_one();
  EXPECT_TRUE(before.ended);
  EXPECT_EQ(told, 1) << "one that began in the new state is not waited for";
  EXPECT_FALSE(later.ended);
  ports.channel.release_all();
  ASSERT_TRUE(ports.unit.set_access_state(20, AccessState::active_optimized, [&] { ++told; }));
  EXPECT_EQ(told, 2) << "nothing is in progress";
}

TEST(PortGroups, AnOperatorsChangeOfSeveralIsOne) {
  Ports ports(false);
  const auto both = [](PortGroups& groups) {
    EXPECT_TRUE(groups.set_state(10, AccessState::standby, PortGroup::Cause::implicit));
    EXPECT_TRUE(groups.set_state(20, AccessState::active_non_optimized, PortGroup::Cause::implicit));
    groups.set_preferred(10, false);
    groups.set_preferred(20, true);
    groups.set_by_command(true);
  };
  ports.unit.change_port_groups(both);
  EXPECT_EQ(ports.attentions(ports.near), (std::vector<std::uint32_t>{0x063f03, 0x062a06}));
  EXPECT_EQ(ports.attentions(ports.far), (std::vector<std::uint32_t>{0x063f03, 0x062a06}));
  EXPECT_EQ(ports.at(ports.near, report, all_bytes).run().data_in(),
            (Data{0, 0, 0, 28,                                                        //
                  0x02, 0xcf, 0, 10, 0, 2, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2,              // standby, implicit
                  0x81, 0xcf, 0, 20, 0, 2, 0, 1, 0, 0, 0, 3}));
  EXPECT_EQ(ports.at(ports.near, {0x12, 0, 0, 0, 96, 0}, 96).run().data_in()[5] & 0x30, 0x30);
  EXPECT_EQ(ports.set({0, 0, 0, 10}).run().status(), ScsiStatus::good) << "initiators may change states now";
  (void)ports.attentions(ports.far);
  ports.unit.change_port_groups([](PortGroups&) {});
  EXPECT_TRUE(ports.attentions(ports.near).empty()) << "nothing has changed";
}

TEST(PortGroups, SetTargetPortGroupsTellsTheOthers) {
  Ports ports;
  EXPECT_EQ(ports.set({2, 0, 0, 10, 0, 0, 0, 20}).run().status(), ScsiStatus::good);
  EXPECT_EQ(ports.unit.port_groups().find(10)->state, AccessState::standby);
  EXPECT_EQ(ports.at(ports.near, report, all_bytes).run().data_in()[4 + 5], 1);  // STATUS CODE: by command
  EXPECT_TRUE(ports.attentions(ports.near).empty());
  EXPECT_EQ(ports.attentions(ports.far), (std::vector<std::uint32_t>{0x062a06}));
  EXPECT_EQ(ports.set({0, 0, 0, 10}).run().status(), ScsiStatus::good);  // from standby back
  EXPECT_FALSE(ports.unit.port_groups().restricted());
}

TEST(PortGroups, SetTargetPortGroupsChangesAllOrNothing) {
  Ports ports;
  struct {
    Data descriptors;
    std::uint16_t field;
  } const wrong[] = {
      {{2, 0, 0, 10, 0, 0, 0, 30}, 10},    // no such group
      {{2, 0, 0, 10, 0x0e, 0, 0, 20}, 8},  // offline is not to be asked for
      {{2, 0, 0, 10, 0x0f, 0, 0, 20}, 8},  // nor transitioning
      {{2, 0, 0, 10, 0x04, 0, 0, 20}, 8},
  };
  for (const auto& c : wrong) {
    Io io = ports.set(c.descriptors);
    EXPECT_EQ(io.run().sense(), 0x052600u);
    EXPECT_EQ(load_be16(&io.task.sense[16]), c.field);
    EXPECT_EQ(ports.unit.port_groups().find(10)->state, AccessState::active_optimized);
  }
  EXPECT_EQ(ports.set({2, 0, 0}).run().sense(), 0x051a00u);
  EXPECT_EQ(Io(ports.device, ports.near, {0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0}, {0, 0, 0, 0, 2, 0, 0, 10}).run().sense(),
            0x051a00u);  // less data than the CDB says
  EXPECT_EQ(Io(ports.device, ports.near, {0xa4, 0x0a, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}, Data(65536)).run().sense(), 0x052400u);
  EXPECT_EQ(Io(ports.device, ports.near, {0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}).run().status(), ScsiStatus::good);
  EXPECT_TRUE(ports.attentions(ports.far).empty());
}

TEST(PortGroups, SetTargetPortGroupsIsUnknownWhereOnlyTheOperatorChangesStates) {
  Ports ports(false);
  EXPECT_EQ(ports.set({2, 0, 0, 10}).run().sense(), 0x052000u);
}

TEST(PortGroups, BadConfigurationsAreRefused) {
  EXPECT_FALSE(PortGroups::valid({}));
  EXPECT_FALSE(PortGroups::valid({{.id = 1, .ports = {1}}, {.id = 1, .ports = {2}}}));
  EXPECT_FALSE(PortGroups::valid({{.id = 1, .ports = {1}}, {.id = 2, .ports = {1}}}));
  EXPECT_FALSE(PortGroups::valid({{.id = 1, .ports = {0}}}));
  EXPECT_FALSE(PortGroups::valid({{.id = 1, .ports = std::vector<std::uint16_t>(256, 1)}}));
  EXPECT_FALSE(PortGroups::valid(std::vector<PortGroup>(65)));
  EXPECT_TRUE(PortGroups::valid({{.id = 0, .ports = {}}, {.id = 1, .ports = {7}}}));
}

}  // namespace
}  // namespace perilune::scsi::test
