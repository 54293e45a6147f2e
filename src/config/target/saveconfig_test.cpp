// SPDX-License-Identifier: Apache-2.0
#include "config/target/saveconfig.hpp"

#include <algorithm>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/target/json_text.hpp"
#include "config/target/lio_saveconfig_test.hpp"
#include "config/target/samples_test.hpp"

namespace perilune::config::target {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

LoadedSaveconfig load(std::string_view text) {
  auto loaded = read_saveconfig(text);
  EXPECT_TRUE(loaded.has_value()) << loaded.error().message;
  return loaded ? std::move(*loaded) : LoadedSaveconfig{};
}

std::string refused(std::string_view text) {
  const auto loaded = read_saveconfig(text);
  EXPECT_FALSE(loaded.has_value());
  return loaded ? "" : loaded.error().message;
}

// LIO's file with one place changed.
std::string edited(std::string_view from, std::string_view to) {
  std::string text(test::lio_saveconfig);
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

// rtslib lists objects in the order of configfs folders, we by name: the same file with its lists in our
// order.
Json in_our_order(Json json) {
  const auto sort_by = [](Json& list, auto key) {
    std::stable_sort(list.begin(), list.end(), [&](const Json& a, const Json& b) { return key(a) < key(b); });
  };
  const auto member = [](const char* name) {
    return [name](const Json& json_object) { return json_object.at(name); };
  };
  sort_by(json["storage_objects"],
          [](const Json& object) { return std::pair(object.at("plugin"), object.at("name")); });
  for (Json& object : json["storage_objects"]) sort_by(object["alua_tpgs"], member("name"));
  sort_by(json["targets"], member("wwn"));
  for (Json& target : json["targets"]) {
    sort_by(target["tpgs"], member("tag"));
    for (Json& group : target["tpgs"]) {
      sort_by(group["luns"], member("index"));
      sort_by(group["portals"], [](const Json& portal) {
        std::string address = portal.at("ip_address");
        std::erase_if(address, [](char c) { return c == '[' || c == ']'; });
        return std::pair(address, portal.at("port").get<int>());
      });
      sort_by(group["node_acls"], member("node_wwn"));
      for (Json& acl : group["node_acls"]) sort_by(acl["mapped_luns"], member("index"));
    }
  }
  return json;
}

TEST(Saveconfig, OfLioIsWrittenAgainByteForByte) {
  const auto json = parse_json(test::lio_saveconfig);
  ASSERT_TRUE(json.has_value());
  ASSERT_EQ(write_json(*json, 2) + "\n", test::lio_saveconfig) << "our formatting is Python's";
  EXPECT_EQ(write_saveconfig(load(test::lio_saveconfig).configuration),
            write_json(in_our_order(*json), 2) + "\n");
}

TEST(Saveconfig, OfLioIsUnderstood) {
  const auto loaded = load(test::lio_saveconfig);
  const Configuration& configuration = loaded.configuration;
  const auto* const disk = configuration.find<StorageObject>({Plugin::fileio, "disk1"});
  ASSERT_NE(disk, nullptr);
  EXPECT_EQ(disk->dev, "/srv/disk1.img");
  EXPECT_EQ(disk->size_bytes, 33554432U);
  EXPECT_TRUE(disk->attributes.changed().empty()) << "a fresh fileio object has LIO's defaults";
  const auto* const null_disk = configuration.find<StorageObject>({Plugin::ramdisk, "null1"});
  ASSERT_NE(null_disk, nullptr);
  EXPECT_TRUE(null_disk->nullio);
  EXPECT_TRUE(null_disk->attributes.changed().empty());
  const auto* const volume = configuration.find<StorageObject>({Plugin::block, "volume1"});
  ASSERT_NE(volume, nullptr);
  EXPECT_EQ(volume->attributes.get(storage_attributes(Plugin::block), "optimal_sectors"), "248");

  const PortalGroupKey group{{"iqn.2026-11.io.perilune:store"}, 1};
  const auto* const tpg = configuration.find<PortalGroup>(group);
  ASSERT_NE(tpg, nullptr);
  EXPECT_EQ(tpg->attributes.number(group_attributes(), "generate_node_acls"), 1);
  EXPECT_EQ(tpg->parameters.get(group_parameters(), "AuthMethod"), "CHAP");
  EXPECT_EQ(tpg->chap.userid, "guest");
  EXPECT_EQ(tpg->chap.password.reveal(), "short");
  EXPECT_EQ(configuration.below<Portal>(group).front().first.address, "127.0.0.1");
  const NodeAclKey host{group, "iqn.2026-11.io.perilune:host"};
  const auto* const acl = configuration.find<NodeAcl>(host);
  ASSERT_NE(acl, nullptr);
  EXPECT_EQ(acl->attributes.number(acl_attributes(), "dataout_timeout"), 5);
  EXPECT_EQ(acl->chap.mutual_password.reveal(), "secret-of-the-store");
  const auto* const mapped = configuration.find<MappedLun>({host, 7});
  ASSERT_NE(mapped, nullptr);
  EXPECT_EQ(mapped->tpg_lun, 7);
  EXPECT_FALSE(mapped->write_protect);
  EXPECT_TRUE(configuration.all<Discovery>().at({}).enable);
}

TEST(Saveconfig, WarnsOfWeakSecretsWithoutShowingThem) {
  const auto warnings = load(test::lio_saveconfig).warnings;
  EXPECT_THAT(warnings, testing::ElementsAre(AllOf(HasSubstr("/tpg1: a CHAP secret has fewer than 12 bytes"),
                                                   Not(HasSubstr("short")))));
}

TEST(Saveconfig, WhereASecretIsKeptHasAKeyThatLioDoesNotKnow) {
  const std::string own = "\"chap_password\": \"secret-of-the-host\"";
  const NodeAclKey host{{{"iqn.2026-11.io.perilune:store"}, 1}, "iqn.2026-11.io.perilune:host"};
  const auto loaded = load(edited(own, "\"chap_password_from\": \"@file:/etc/perilune/secrets/host\""));
  const Password& password = loaded.configuration.find<NodeAcl>(host)->chap.password;
  EXPECT_EQ(password.reference(), "@file:/etc/perilune/secrets/host");
  EXPECT_EQ(password.reveal(), "") << "where it is kept is not the secret";
  const std::string written = write_saveconfig(loaded.configuration);
  EXPECT_THAT(written, HasSubstr("\"chap_password_from\": \"@file:/etc/perilune/secrets/host\""));
  EXPECT_THAT(written, Not(HasSubstr("\"chap_password\": \"@")));
  EXPECT_EQ(load(written).configuration, loaded.configuration);
  // A secret that looks like a reference, from a LIO that does not know any.
  const auto literal = load(edited(own, "\"chap_password\": \"@file:/etc/shadow\""));
  EXPECT_EQ(literal.configuration.find<NodeAcl>(host)->chap.password, Password("@file:/etc/shadow"));
  EXPECT_EQ(load(write_saveconfig(literal.configuration)).configuration, literal.configuration);
  EXPECT_THAT(refused(edited(own, own + ", \"chap_password_from\": \"@file:/x\"")),
              HasSubstr("only one can be"));
  EXPECT_THAT(refused(edited(own, "\"chap_password_from\": \"secret\"")),
              HasSubstr("chap_password_from must be @file:PATH or @credential:NAME"));
  for (const char* wrong :
       {"@file:", "@file:relative", "@credential:", "@credential:a/b", "@credential:.."}) {
    EXPECT_THAT(refused(edited(own, std::string("\"chap_password_from\": \"") + wrong + "\"")),
                HasSubstr("needs a")) << wrong;
  }
}

TEST(Saveconfig, UnknownKeysAreKeptAndNamed) {
  std::string text = edited("\"emulate_pr\": 1,", "\"emulate_pr\": 1,\n        \"emulate_rsoc\": 1,");
  text.replace(text.find("\"fabric_modules\""), 0, "\"extra\": {\"a/b\": [1, null]},\n  ");
  text.replace(text.find("\"enable\": true,"), 0, "\"colour~\": \"r\\u00e9d\",\n          ");
  const auto loaded = load(text);
  EXPECT_THAT(loaded.warnings, Contains(HasSubstr("attributes/emulate_rsoc is not known here; kept")));
  EXPECT_THAT(loaded.warnings, Contains(HasSubstr("extra is not known here; kept")));
  EXPECT_THAT(loaded.warnings, Contains(HasSubstr("colour~0 is not known here; kept")));
  EXPECT_EQ(write_saveconfig(loaded.configuration), write_json(in_our_order(*parse_json(text)), 2) + "\n");
}

TEST(Saveconfig, ObjectsOfOtherFabricsAndPluginsAreCarriedAlong) {
  const std::string text = R"({"fabric_modules": [{"name": "qla2xxx", "x": 1}],
    "storage_objects": [{"name": "r", "plugin": "user", "config": "rbd/pool/image"}],
    "targets": [{"fabric": "loopback", "wwn": "naa.5001405000000001", "tpgs": []}]})";
  const auto loaded = load(text);
  EXPECT_TRUE(loaded.configuration.serves_nothing());
  EXPECT_EQ(loaded.warnings.size(), 3U);
  EXPECT_THAT(loaded.warnings, Contains("storage_objects: user/r is kept but not served here"));
  EXPECT_EQ(write_saveconfig(loaded.configuration), write_json(*parse_json(text), 2) + "\n");
}

TEST(Saveconfig, OfAnEmptyConfigurationIsWhatTargetcliWrites) {
  EXPECT_EQ(write_saveconfig({}),
            "{\n  \"fabric_modules\": [],\n  \"storage_objects\": [],\n  \"targets\": []\n}\n");
  EXPECT_EQ(load("{}").configuration, Configuration{});
}

TEST(Saveconfig, WhatAFileLeavesOutIsTheKernelsDefault) {
  const auto loaded =
      load(R"({"targets": [{"fabric": "iscsi", "wwn": "iqn.2026-11.io.perilune:a", "tpgs": [{"tag": 1}]}]})");
  const auto& group = loaded.configuration.all<PortalGroup>().begin()->second;
  EXPECT_TRUE(group.enable);  // rtslib: tpg.get('enable', True)
  EXPECT_EQ(group.attributes.number(group_attributes(), "authentication"), 1);
}

TEST(Saveconfig, NamesAreTakenInAnyCase) {
  const auto loaded =
      load(R"({"targets": [{"fabric": "iscsi", "wwn": "IQN.2026-11.io.Perilune:A", "tpgs": []}]})");
  EXPECT_TRUE(loaded.configuration.all<Target>().contains({"iqn.2026-11.io.perilune:a"}));
}

TEST(Saveconfig, ADeviceWhoseAttributesAreItsOwnIsWrittenWithoutThem) {
  Configuration configuration;
  StorageObject object;
  object.dev = "/dev/vg/lv";
  object.wwn = "serial";
  ASSERT_TRUE(configuration.apply(add<StorageObject>({Plugin::block, "lv"}, object)).has_value());
  const std::string text = write_saveconfig(configuration);
  EXPECT_THAT(text, Not(HasSubstr("optimal_sectors")));
  EXPECT_THAT(text, HasSubstr("\"emulate_pr\": 1"));
  EXPECT_EQ(load(text).configuration, configuration);
}

TEST(Saveconfig, AnyConfigurationReadsBackTheSame) {
  std::mt19937 random(3);
  for (int round = 0; round < 60; ++round) {
    Configuration configuration = test::any(random, 60);
    // A discovery without anything is not written.
    if (const auto* const discovery = configuration.find<Discovery>({});
        discovery != nullptr && *discovery == Discovery{}) {
      ASSERT_TRUE(configuration.apply(remove<Discovery>({})).has_value());
    }
    const std::string text = write_saveconfig(configuration);
    ASSERT_EQ(load(text).configuration, configuration) << text;
  }
}

TEST(Saveconfig, OfAThousandDisksIsFarFromTheLimits) {
  Configuration configuration = test::small();
  for (std::uint16_t i = 1; i <= 1000; ++i) {
    const StorageKey key{Plugin::fileio, "d" + std::to_string(i)};
    (void)configuration.apply(add<StorageObject>(key, test::file("/srv/" + key.name, key.name))).value();
    (void)configuration.apply(add<Lun>({test::group, i}, {key, "", "", {}})).value();
    (void)configuration.apply(add<MappedLun>({test::acl, i}, {i, false, "", {}})).value();
  }
  const std::string text = write_saveconfig(configuration);
  EXPECT_LT(text.size() * 30, max_json_bytes);
  EXPECT_EQ(load(text).configuration, configuration);
}

TEST(Saveconfig, SaysWhereItIsWrong) {
  EXPECT_EQ(refused("{ x }"), "saveconfig.json: is not valid JSON at line 1 column 3");
  EXPECT_EQ(refused("{\n  \"a\": 1,\n}"), "saveconfig.json: is not valid JSON at line 3 column 1");
  EXPECT_EQ(refused("[]"), "saveconfig.json: must be a JSON object");
  EXPECT_EQ(refused(R"({"targets": {}})"), "saveconfig.json: targets must be a list");
  EXPECT_EQ(refused(R"({"targets": [7]})"), "target : must be a JSON object");
  EXPECT_EQ(refused(R"({"targets": [{"fabric": "iscsi"}]})"), "target : wwn is missing; add it");
  EXPECT_THAT(refused(R"({"targets": [{"fabric": "iscsi", "wwn": "x"}]})"),
              HasSubstr("target 'x': iSCSI name does not begin"));
  EXPECT_EQ(refused(edited("\"block_size\": 512", "\"block_size\": 513")),
            "storage object block/volume1: block_size must be one of: 512 1024 2048 4096");
  EXPECT_EQ(refused(edited("\"login_timeout\": 15", "\"login_timeout\": []")),
            "/iscsi/iqn.2026-11.io.perilune:store/tpg1: login_timeout must be a number or a text");
  EXPECT_EQ(
      refused(edited("\"tpg_lun\": 5", "\"tpg_lun\": 6")),
      "/iscsi/iqn.2026-11.io.perilune:store/tpg1/acls/iqn.2026-11.io.perilune:other/mapped_lun4: there is no "
      "/iscsi/iqn.2026-11.io.perilune:store/tpg1/luns/lun6");
  EXPECT_THAT(refused(edited("/backstores/ramdisk/null1", "/backstores/user/null1")),
              HasSubstr("plugin 'user' are not served here; take the LUN out"));
  EXPECT_THAT(refused(edited("\"port\": 3261", "\"port\": 70000")),
              HasSubstr("port must be a number from 0 to 65535"));
  EXPECT_THAT(refused(edited("127.0.0.1", "localhost")), HasSubstr("'localhost' is not a numeric"));
  EXPECT_THAT(refused(edited("\"tag\": 1", "\"tag\": -1")), HasSubstr("tag must be a number from 0"));
}

TEST(Saveconfig, HostileTextIsRefusedBeforeItCostsMemory) {
  EXPECT_THAT(refused(std::string(100000, '[')), HasSubstr("nested deeper than 32"));
  EXPECT_THAT(refused("[" + std::string(max_json_values + 1, ',')),
              HasSubstr("has more than 4000000 values"));
  EXPECT_THAT(refused(std::string(max_json_bytes + 1, ' ')), HasSubstr("is longer than 64 MiB"));
  EXPECT_THAT(refused("{\"a\": 1e999999}"), HasSubstr("is not valid JSON"));
  EXPECT_THAT(refused("{\"a\": \"\xff\"}"), HasSubstr("is not valid JSON"));
  EXPECT_THAT(refused(std::string_view("{\"a\": \"\0\"}", 10)), HasSubstr("is not valid JSON"));
}

}  // namespace
}  // namespace perilune::config::target
