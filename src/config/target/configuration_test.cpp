// SPDX-License-Identifier: Apache-2.0
#include "config/target/configuration.hpp"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/target/codec.hpp"
#include "config/target/samples_test.hpp"

namespace perilune::config::target {
namespace {

using testing::HasSubstr;

void must(Configuration& configuration, const Change& change) {
  const auto done = configuration.apply(change);
  ASSERT_TRUE(done.has_value()) << done.error().message;
}

std::string refused(Configuration& configuration, const Change& change) {
  const Configuration before = configuration;
  const auto done = configuration.apply(change);
  EXPECT_FALSE(done.has_value()) << describe(change);
  EXPECT_EQ(before, configuration) << "a refused change changes nothing";
  return done ? "" : done.error().message;
}

TEST(TargetConfiguration, AnEmptyOneServesNothing) {
  const Configuration empty;
  EXPECT_TRUE(empty.serves_nothing());
  EXPECT_EQ(empty.objects(), 0U);
}

TEST(TargetConfiguration, EveryChangeGivesItsInverse) {
  Configuration configuration = test::small();
  const Configuration before = configuration;
  PortalGroup disabled = *configuration.find<PortalGroup>(test::group);
  disabled.enable = false;
  const auto undo = configuration.apply(set<PortalGroup>(test::group, disabled));
  ASSERT_TRUE(undo.has_value());
  EXPECT_NE(configuration, before);
  must(configuration, *undo);
  EXPECT_EQ(configuration, before);
}

TEST(TargetConfiguration, RefusesDuplicatesByName) {
  Configuration configuration = test::small();
  EXPECT_THAT(
      refused(configuration, add<StorageObject>(test::disk, test::file("/srv/other.img", "other-serial"))),
      HasSubstr("/backstores/fileio/disk: exists already"));
}

TEST(TargetConfiguration, ANameIsUniqueInItsPluginOnly) {
  Configuration configuration = test::small();
  StorageObject ram;
  ram.size_bytes = 1 << 20;
  ram.wwn = "ram-serial";
  must(configuration, add<StorageObject>({Plugin::ramdisk, "disk"}, ram));
}

TEST(TargetConfiguration, RefusesASecondDiskWithTheSameSerialOrFile) {
  Configuration configuration = test::small();
  EXPECT_THAT(refused(configuration,
                      add<StorageObject>({Plugin::fileio, "b"}, test::file("/srv/b.img", "serial-of-disk"))),
              HasSubstr("wwn serial-of-disk belongs to /backstores/fileio/disk"));
  EXPECT_THAT(
      refused(configuration, add<StorageObject>({Plugin::fileio, "b"}, test::file("/srv/disk.img", "b"))),
      HasSubstr("/srv/disk.img is in use by /backstores/fileio/disk"));
}

TEST(TargetConfiguration, RefusesToRemoveWhatIsInUseAndSaysByWhom) {
  Configuration configuration = test::small();
  EXPECT_THAT(refused(configuration, remove<StorageObject>(test::disk)),
              HasSubstr("is exported as /iscsi/iqn.2026-11.io.perilune:a/tpg1/luns/lun0"));
  EXPECT_THAT(refused(configuration, remove<AluaGroup>({test::disk, "default_tg_pt_gp"})),
              HasSubstr("is a member"));
  EXPECT_THAT(refused(configuration, remove<Lun>(test::lun)), HasSubstr("is mapped by"));
  EXPECT_THAT(refused(configuration, remove<NodeAcl>(test::acl)), HasSubstr("has mapped LUNs"));
  EXPECT_THAT(refused(configuration, remove<PortalGroup>(test::group)), HasSubstr("has node ACLs"));
  EXPECT_THAT(refused(configuration, remove<Target>(test::target)), HasSubstr("has portal groups"));
}

TEST(TargetConfiguration, RefusesWhatHasNothingToStandOn) {
  Configuration configuration = test::small();
  const TargetKey nowhere{"iqn.2026-11.io.perilune:nowhere"};
  EXPECT_THAT(refused(configuration, add<PortalGroup>({nowhere, 1}, {})),
              HasSubstr("there is no such target"));
  EXPECT_THAT(refused(configuration, add<Lun>({{nowhere, 1}, 0}, {test::disk, "", "", {}})),
              HasSubstr("there is no such portal group"));
  EXPECT_THAT(refused(configuration, add<Lun>({test::group, 1}, {{Plugin::block, "x"}, "", "", {}})),
              HasSubstr("there is no storage object /backstores/block/x"));
  EXPECT_THAT(refused(configuration, add<MappedLun>({test::acl, 9}, {7, false, "", {}})),
              HasSubstr("there is no /iscsi/iqn.2026-11.io.perilune:a/tpg1/luns/lun7"));
  EXPECT_THAT(refused(configuration, add<AluaGroup>({{Plugin::block, "x"}, "g"}, {})),
              HasSubstr("there is no such storage object"));
}

TEST(TargetConfiguration, AnExportedDiskKeepsItsIdentity) {
  Configuration configuration = test::small();
  StorageObject other = *configuration.find<StorageObject>(test::disk);
  other.wwn = "another";
  EXPECT_THAT(refused(configuration, set<StorageObject>(test::disk, other)),
              HasSubstr("fixed while it is exported"));
  other = *configuration.find<StorageObject>(test::disk);
  ASSERT_TRUE(other.attributes.set(storage_attributes(Plugin::fileio), "block_size", "4096"));
  EXPECT_THAT(refused(configuration, set<StorageObject>(test::disk, other)), HasSubstr("block_size"));
  other = *configuration.find<StorageObject>(test::disk);
  other.size_bytes *= 2;  // a resize is no other disk
  must(configuration, set<StorageObject>(test::disk, other));
}

TEST(TargetConfiguration, ALunKeepsItsObject) {
  Configuration configuration = test::small();
  must(configuration, add<StorageObject>({Plugin::fileio, "b"}, test::file("/srv/b.img", "b")));
  Lun lun = *configuration.find<Lun>(test::lun);
  lun.object = {Plugin::fileio, "b"};
  lun.alua_group.clear();
  EXPECT_THAT(refused(configuration, set<Lun>(test::lun, lun)), HasSubstr("keeps its storage object"));
}

TEST(TargetConfiguration, AGroupExportsAnObjectOnce) {
  Configuration configuration = test::small();
  EXPECT_THAT(refused(configuration, add<Lun>({test::group, 5}, {test::disk, "", "", {}})),
              HasSubstr("is lun0 already"));
  must(configuration, add<PortalGroup>({test::target, 2}, {}));
  must(configuration, add<Lun>({{test::target, 2}, 5}, {test::disk, "", "", {}}));
  EXPECT_EQ(configuration.luns_of(test::disk).size(), 2U);
}

TEST(TargetConfiguration, GroupsOfATargetShareNoPortal) {
  Configuration configuration = test::small();
  must(configuration, add<PortalGroup>({test::target, 2}, {}));
  EXPECT_THAT(refused(configuration, add<Portal>({{test::target, 2}, "0.0.0.0", 3260}, {})),
              HasSubstr("tpg1 has it"));
  must(configuration, add<Target>({"iqn.2026-11.io.perilune:b"}, {}));
  must(configuration, add<PortalGroup>({{"iqn.2026-11.io.perilune:b"}, 1}, {}));
  must(configuration, add<Portal>({{{"iqn.2026-11.io.perilune:b"}, 1}, "0.0.0.0", 3260}, {}));
}

TEST(TargetConfiguration, NamesAndAddressesMustBeInNormalForm) {
  Configuration configuration = test::small();
  EXPECT_THAT(refused(configuration, add<Target>({"iqn.2026-11.io.Perilune:B"}, {})),
              HasSubstr("must be in lower case: iqn.2026-11.io.perilune:b"));
  EXPECT_THAT(refused(configuration, add<Target>({"disk"}, {})), HasSubstr("does not begin with iqn."));
  EXPECT_THAT(refused(configuration, add<NodeAcl>({test::group, "host1"}, {})),
              HasSubstr("does not begin with iqn."));
  EXPECT_THAT(refused(configuration, add<Portal>({test::group, "0::1", 3260}, {})),
              HasSubstr("shortest form: ::1"));
  EXPECT_THAT(refused(configuration, add<Portal>({test::group, "host", 3260}, {})),
              HasSubstr("not a numeric"));
  EXPECT_THAT(refused(configuration, add<Portal>({test::group, "::1", 0}, {})), HasSubstr("from 1 to 65535"));
  for (const char* name : {"", ".", "..", "a/b", "a b", "a\nb", "\xff"}) {
    EXPECT_THAT(refused(configuration, add<StorageObject>({Plugin::fileio, name}, test::file("/srv/x", "x"))),
                HasSubstr("the name must be"));
  }
}

TEST(TargetConfiguration, EachPluginTakesOnlyWhatItHas) {
  Configuration configuration;
  StorageObject object = test::file("/srv/x", "x");
  object.nullio = true;
  EXPECT_THAT(refused(configuration, add<StorageObject>({Plugin::fileio, "x"}, object)),
              HasSubstr("nullio is for ramdisk"));
  object = test::file("relative", "x");
  EXPECT_THAT(refused(configuration, add<StorageObject>({Plugin::fileio, "x"}, object)),
              HasSubstr("absolute"));
  object = test::file("/dev/sda", "x");
  EXPECT_THAT(refused(configuration, add<StorageObject>({Plugin::block, "x"}, object)),
              HasSubstr("size is the device's"));
  EXPECT_THAT(refused(configuration, add<StorageObject>({Plugin::ramdisk, "x"}, object)),
              HasSubstr("has no dev"));
  object = {};
  EXPECT_THAT(refused(configuration, add<StorageObject>({Plugin::ramdisk, "x"}, object)),
              HasSubstr("needs a size"));
  object.dev = "/dev/sg0";
  must(configuration, add<StorageObject>({Plugin::pscsi, "x"}, object));
  EXPECT_THAT(refused(configuration, add<AluaGroup>({{Plugin::pscsi, "x"}, "g"}, {})),
              HasSubstr("the device's own"));
}

TEST(TargetConfiguration, AluaTagsAreUniqueInTheirObject) {
  Configuration configuration = test::small();
  EXPECT_THAT(refused(configuration, add<AluaGroup>({test::disk, "other"}, {})),
              HasSubstr("tag 0 belongs to default_tg_pt_gp"));
  AluaGroup group;
  group.id = 7;
  must(configuration, add<AluaGroup>({test::disk, "other"}, group));
  EXPECT_EQ(configuration.alua_group_of(test::disk, 7), (AluaGroupKey{test::disk, "other"}));
  group.id = 8;
  EXPECT_THAT(refused(configuration, set<AluaGroup>({test::disk, "other"}, group)), HasSubstr("is fixed"));
}

TEST(TargetConfiguration, FirstBurstIsNotOverMaxBurst) {
  Configuration configuration = test::small();
  PortalGroup group;
  ASSERT_TRUE(group.parameters.set(group_parameters(), "MaxBurstLength", "4096"));
  EXPECT_THAT(refused(configuration, set<PortalGroup>(test::group, group)),
              HasSubstr("FirstBurstLength must not be over"));
}

TEST(TargetConfiguration, ALunNumberFitsFlatAddressing) {
  Configuration configuration = test::small();
  must(configuration, add<StorageObject>({Plugin::fileio, "b"}, test::file("/srv/b.img", "b")));
  EXPECT_THAT(refused(configuration, add<Lun>({test::group, 16384}, {{Plugin::fileio, "b"}, "", "", {}})),
              HasSubstr("0 to 16383"));
  must(configuration, add<Lun>({test::group, 16383}, {{Plugin::fileio, "b"}, "", "", {}}));
}

TEST(TargetConfiguration, ATransactionThatFailsHalfwayLeavesNothing) {
  Configuration configuration = test::small();
  const Configuration before = configuration;
  const Changes changes = {add<Target>({"iqn.2026-11.io.perilune:b"}, {}),
                           add<PortalGroup>({{"iqn.2026-11.io.perilune:b"}, 1}, {}),
                           add<PortalGroup>({{"iqn.2026-11.io.perilune:c"}, 1}, {})};
  const auto done = apply_all(configuration, changes);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().message,
              HasSubstr("/iscsi/iqn.2026-11.io.perilune:c/tpg1: there is no such target"));
  EXPECT_EQ(configuration, before);
}

TEST(TargetConfiguration, ATransactionIsUndoneByItsInverses) {
  Configuration configuration = test::small();
  const Configuration before = configuration;
  const Changes changes = {add<Target>({"iqn.2026-11.io.perilune:b"}, {}),
                           add<PortalGroup>({{"iqn.2026-11.io.perilune:b"}, 1}, {}),
                           remove<MappedLun>(test::mapped)};
  const auto inverses = apply_all(configuration, changes);
  ASSERT_TRUE(inverses.has_value());
  ASSERT_TRUE(apply_all(configuration, *inverses).has_value());
  EXPECT_EQ(configuration, before);
}

TEST(TargetConfiguration, AMessageShowsNoSecret) {
  Configuration configuration = test::small();
  PortalGroup group;
  group.chap.password = Password("hunter2\n-hunter2");
  const std::string message = refused(configuration, set<PortalGroup>(test::group, group));
  EXPECT_THAT(message, HasSubstr("password must be text"));
  EXPECT_THAT(message, testing::Not(HasSubstr("hunter2")));
}

TEST(TargetDiff, OfEqualOnesIsEmpty) { EXPECT_TRUE(diff(test::small(), test::small()).empty()); }

TEST(TargetDiff, OfOneAttributeIsOneChange) {
  Configuration to = test::small();
  PortalGroup group = *to.find<PortalGroup>(test::group);
  ASSERT_TRUE(group.attributes.set(group_attributes(), "authentication", "0"));
  must(to, set<PortalGroup>(test::group, group));
  EXPECT_EQ(diff(test::small(), to), (Changes{set<PortalGroup>(test::group, group)}));
}

TEST(TargetDiff, ALunOfAnotherDiskIsRemovedAndAddedWithItsMappings) {
  Configuration to = test::small();
  const StorageKey other{Plugin::fileio, "b"};
  for (const Change& change :
       {remove<MappedLun>(test::mapped), remove<Lun>(test::lun),
        add<StorageObject>(other, test::file("/srv/b.img", "b")), add<Lun>(test::lun, {other, "", "", {}}),
        add<MappedLun>(test::mapped, {0, false, "", {}})}) {
    must(to, change);
  }
  std::vector<std::string> steps;
  for (const Change& change : diff(test::small(), to)) steps.push_back(describe(change));
  const std::string root = "/iscsi/iqn.2026-11.io.perilune:a/tpg1";
  EXPECT_THAT(steps, testing::ElementsAre("remove " + root + "/acls/iqn.2026-11.io.perilune:host/mapped_lun0",
                                          "remove " + root + "/luns/lun0", "add /backstores/fileio/b",
                                          "add " + root + "/luns/lun0",
                                          "add " + root + "/acls/iqn.2026-11.io.perilune:host/mapped_lun0"));
}

TEST(TargetDiff, ALunMovesToANewAluaGroupWithoutGoing) {
  Configuration to = test::small();
  AluaGroup group;
  group.id = 9;
  Lun lun = *to.find<Lun>(test::lun);
  lun.alua_group = "new";
  for (const Change& change : {add<AluaGroup>({test::disk, "new"}, group), set<Lun>(test::lun, lun),
                               remove<AluaGroup>({test::disk, "default_tg_pt_gp"})}) {
    must(to, change);
  }
  EXPECT_EQ(diff(test::small(), to),
            (Changes{add<AluaGroup>({test::disk, "new"}, group), set<Lun>(test::lun, lun),
                     remove<AluaGroup>({test::disk, "default_tg_pt_gp"})}));
}

TEST(TargetDiff, AMappedLunOfAnotherLunIsRemovedAndAdded) {
  Configuration from = test::small();
  const StorageKey other{Plugin::fileio, "b"};
  must(from, add<StorageObject>(other, test::file("/srv/b.img", "b")));
  must(from, add<Lun>({test::group, 3}, {other, "", "", {}}));
  Configuration to = from;
  must(to, remove<MappedLun>(test::mapped));
  must(to, add<MappedLun>(test::mapped, {3, false, "", {}}));
  EXPECT_EQ(diff(from, to),
            (Changes{remove<MappedLun>(test::mapped), add<MappedLun>(test::mapped, {3, false, "", {}})}));
}

TEST(TargetDiff, SwappedSerialsAreLegal) {
  Configuration from = test::small();
  must(from, add<StorageObject>({Plugin::fileio, "b"}, test::file("/srv/b.img", "b")));
  Configuration to;
  must(to, add<StorageObject>(test::disk, test::file("/srv/disk.img", "b")));
  must(to, add<StorageObject>({Plugin::fileio, "b"}, test::file("/srv/b.img", "serial-of-disk")));
  ASSERT_TRUE(apply_all(from, diff(from, to)).has_value());
  EXPECT_EQ(from, to);
}

// Any two configurations, in any state that changes lead to.
TEST(TargetDiff, LeadsFromAnyConfigurationToAnyOtherAndBack) {
  std::mt19937 random(20261128);
  for (int round = 0; round < 300; ++round) {
    const Configuration from = test::any(random, round % 230);
    const Configuration to = test::any(random, round % 217);
    const Changes changes = diff(from, to);
    Configuration walked = from;
    const auto inverses = apply_all(walked, changes);
    ASSERT_TRUE(inverses.has_value()) << "round " << round << ": " << inverses.error().message;
    ASSERT_EQ(walked, to) << "round " << round;
    ASSERT_TRUE(apply_all(walked, *inverses).has_value()) << "round " << round;
    ASSERT_EQ(walked, from) << "round " << round;
  }
}

TEST(TargetDiff, TouchesOnlyWhatDiffers) {
  std::mt19937 random(7);
  for (int round = 0; round < 100; ++round) {
    const Configuration from = test::any(random, 60);
    for (const auto& [key, value] : from.all<PortalGroup>()) {
      Configuration to = from;
      PortalGroup other = value;
      other.enable = !other.enable;
      must(to, set<PortalGroup>(key, other));
      EXPECT_EQ(diff(from, to), (Changes{set<PortalGroup>(key, other)}));
    }
  }
}

// The random configurations are worth something: every kind of object and every reference is in them.
TEST(TargetDiff, RandomConfigurationsHaveEverything) {
  std::mt19937 random(20261128);
  std::size_t mapped = 0;
  std::size_t members = 0;
  std::size_t portals = 0;
  for (int round = 0; round < 300; ++round) {
    const Configuration one = test::any(random, 200);
    mapped += one.all<MappedLun>().size();
    portals += one.all<Portal>().size();
    for (const auto& [key, lun] : one.all<Lun>()) members += lun.alua_group.empty() ? 0U : 1U;
  }
  EXPECT_GT(mapped, 300U);
  EXPECT_GT(members, 300U);
  EXPECT_GT(portals, 300U);
}

TEST(TargetConfiguration, TenThousandLunsTakeTimeInProportion) {
  Configuration configuration = test::small();
  for (int i = 1; i <= 10000; ++i) {
    const std::string name = "d" + std::to_string(i);
    const StorageKey key{Plugin::fileio, name};
    must(configuration, add<StorageObject>(key, test::file("/srv/" + name, "serial-" + name)));
    must(configuration, add<Lun>({test::group, static_cast<std::uint16_t>(i)}, {key, "", "", {}}));
    must(configuration, add<MappedLun>({test::acl, static_cast<std::uint16_t>(i)},
                                       {static_cast<std::uint16_t>(i), false, "", {}}));
  }
  EXPECT_EQ(configuration.objects(), test::small().objects() + 30000);
  ASSERT_EQ(configuration.mapped_luns_of({test::group, 9999}).size(), 1U);
}

TEST(TargetChange, IsTheSameAfterJson) {
  std::mt19937 random(11);
  for (int round = 0; round < 30; ++round) {
    const Configuration configuration = test::any(random, 60);
    for (const Change& change : diff({}, configuration)) {
      const auto text = write_json(change_to_json(change), -1);
      const auto json = parse_json(text);
      ASSERT_TRUE(json.has_value());
      const auto back = change_from_json(*json);
      ASSERT_TRUE(back.has_value()) << back.error().message << " in " << text;
      ASSERT_EQ(*back, change) << text;
    }
    for (const Change& change : diff(configuration, {})) {
      const auto back = change_from_json(change_to_json(change));
      ASSERT_TRUE(back.has_value()) << back.error().message;
      ASSERT_EQ(*back, change);
    }
  }
}

TEST(TargetChange, JsonThatIsNoChangeIsRefused) {
  for (const char* text :
       {"1", "[]", "{}", R"({"do":"add","kind":"lun"})", R"({"do":"burn","kind":"lun","key":{}})",
        R"({"do":"add","kind":"moon","key":{},"value":{}})",
        R"({"do":"add","kind":"target","key":{"target":1},"value":{}})",
        R"({"do":"add","kind":"target","key":{"target":"a","more":1},"value":{}})",
        R"({"do":"add","kind":"target","key":{"target":"a"}})",
        R"({"do":"add","kind":"target","key":{"target":"a"},"value":[]})",
        R"({"do":"add","kind":"target","key":{"target":"a"},"value":{},"more":1})",
        R"({"do":"remove","kind":"storage_object","key":{"plugin":"user","name":"x"}})"}) {
    const auto json = parse_json(text);
    ASSERT_TRUE(json.has_value()) << text;
    EXPECT_FALSE(change_from_json(*json).has_value()) << text;
  }
}

// saveconfig.json has a list of this name in each of its ACLs: of two, one would be lost.
TEST(TargetChange, AValueIsNotNamedAsAPartOfTheFile) {
  for (const char* const value : {R"({"mapped_luns": "u"})", R"({"node_wwn": "u"})"}) {
    const auto json = parse_json(
        std::string(R"({"do": "add", "kind": "node_acl", "key": {"target": "iqn.2026-11.io.perilune:a", "tag": 1,
                        "initiator": "iqn.2026-11.io.perilune:h"}, "value": )") + value + "}");
    ASSERT_TRUE(json.has_value());
    const auto change = change_from_json(*json);
    ASSERT_FALSE(change.has_value()) << value;
    EXPECT_NE(change.error().message.find("is not a value"), std::string::npos) << change.error().message;
  }
}

TEST(LioIdentity, IsWhatSgVpdShowedOfARealOne) {
  // reference/lio/sg_inq-sg_vpd.txt: unit serial number and NAA designator of the same disk
  EXPECT_EQ(lio_naa("19e1e1db-0190-41d4-9d19-f389051a7232"), "600140519e1e1db019041d49d19f3890");
  EXPECT_EQ(lio_naa("AB"), "6001405ab00000000000000000000000");
  EXPECT_EQ(lio_naa(""), "60014050000000000000000000000000");
}

TEST(NormalAddress, IsTheShortestForm) {
  const auto normal = [](std::string_view text) {
    const auto address = normal_address(text);
    return address ? *address : "refused";
  };
  EXPECT_EQ(normal("192.0.2.1"), "192.0.2.1");
  EXPECT_EQ(normal("0.0.0.0"), "0.0.0.0");
  EXPECT_EQ(normal("[::1]"), "::1");
  EXPECT_EQ(normal("::0"), "::");
  EXPECT_EQ(normal("::"), "::");
  EXPECT_EQ(normal("2001:0DB8:0:0:0:0:0:1"), "2001:db8::1");
  EXPECT_EQ(normal("2001:db8:0:1:1:1:1:1"), "2001:db8:0:1:1:1:1:1");  // RFC 5952 4.2.2: one group is no run
  EXPECT_EQ(normal("2001:0:0:1:0:0:0:1"), "2001:0:0:1::1");           // 4.2.3: the longest run
  EXPECT_EQ(normal("2001:db8:0:0:1:0:0:1"), "2001:db8::1:0:0:1");     // 4.2.3: the first of two
  EXPECT_EQ(normal("fe80::"), "fe80::");
  EXPECT_EQ(normal("1::8"), "1::8");
  EXPECT_EQ(normal("::ffff:192.0.2.1"), "::ffff:c000:201");
  for (const char* bad : {"",
                          "1.2.3",
                          "1.2.3.4.5",
                          "256.1.1.1",
                          "01.1.1.1",
                          "1.1.1.1 ",
                          "[1.1.1.1]",
                          ":",
                          ":::",
                          "1:2:3:4:5:6:7",
                          "1:2:3:4:5:6:7:8:9",
                          "1::2::3",
                          "::12345",
                          "::g",
                          "1:2:3:4:5:6:7::8",
                          "fe80::1%eth0",
                          "::1.2.3",
                          "1.2.3.4::",
                          "1:",
                          ":1",
                          "[::1",
                          "localhost"}) {
    EXPECT_EQ(normal(bad), "refused") << bad;
  }
}

TEST(TargetSettings, HoldOnlyWhatDiffers) {
  Settings settings;
  ASSERT_TRUE(settings.set(group_attributes(), "login_timeout", "020"));
  ASSERT_TRUE(settings.set(group_attributes(), "authentication", "1"));  // the default
  EXPECT_EQ(settings.changed().size(), 1U);
  EXPECT_EQ(settings.get(group_attributes(), "login_timeout"), "20");
  EXPECT_EQ(settings.get(group_attributes(), "authentication"), "1");
  EXPECT_EQ(settings.number(group_attributes(), "netif_timeout"), 2);
  ASSERT_TRUE(settings.set(group_attributes(), "login_timeout", "15"));
  EXPECT_EQ(settings, Settings{});
}

TEST(TargetSettings, SayWhatIsLegal) {
  Settings settings;
  const auto message = [&](const FieldTable& table, std::string_view name, std::string_view value) {
    const auto done = settings.set(table, name, value);
    return done ? std::string("taken") : done.error().message;
  };
  EXPECT_EQ(message(group_attributes(), "login_timeout", "31"),
            "login_timeout must be a number from 5 to 30");
  EXPECT_EQ(message(group_attributes(), "authentication", "x"), "authentication must be 0 or 1");
  EXPECT_EQ(message(group_attributes(), "nosuch", "1"), "there is no attribute nosuch");
  EXPECT_EQ(message(group_parameters(), "NoSuch", "1"), "there is no parameter NoSuch");
  EXPECT_EQ(message(group_parameters(), "HeaderDigest", "SHA1"),
            "HeaderDigest must be one of: None CRC32C CRC32C,None None,CRC32C");
  EXPECT_EQ(message(group_parameters(), "MaxBurstLength", "511"),
            "MaxBurstLength must be a number from 512 to 16777215");
  EXPECT_EQ(message(acl_attributes(), "nopin_timeout", "2"),
            "nopin_timeout must be 0, or a number from 3 to 60");
  EXPECT_EQ(message(acl_attributes(), "nopin_timeout", "0"), "taken");
  EXPECT_EQ(message(group_parameters(), "IFMarkInt", "1~65535"), "taken");
  EXPECT_EQ(message(group_parameters(), "IFMarkInt", "9~8"),
            "IFMarkInt must be Reject, or LOW~HIGH from 1 to 65535");
  EXPECT_EQ(message(storage_attributes(Plugin::fileio), "block_size", "513"),
            "block_size must be one of: 512 1024 2048 4096");
  EXPECT_EQ(message(storage_attributes(Plugin::pscsi), "block_size", "512"),
            "there is no attribute block_size");
}

TEST(TargetSettings, ADevicesOwnValueIsNotKnown) {
  Settings settings;
  const auto& table = storage_attributes(Plugin::block);
  EXPECT_EQ(settings.get(table, "optimal_sectors"), std::nullopt);
  ASSERT_TRUE(settings.set(table, "optimal_sectors", "248"));
  EXPECT_EQ(settings.get(table, "optimal_sectors"), "248");
}

}  // namespace
}  // namespace perilune::config::target
