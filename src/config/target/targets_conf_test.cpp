// SPDX-License-Identifier: Apache-2.0
#include "config/target/targets_conf.hpp"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/target/saveconfig.hpp"

namespace perilune::config::target {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class World : public ConfWorld {
 public:
  std::map<std::string, std::vector<ConfFile>> files;
  Result<std::vector<ConfFile>> include(const std::string& pattern) override {
    const auto at = files.find(pattern);
    if (at == files.end()) return fail(Errc::io, "cannot open");
    return at->second;
  }
  bool is_block_device(const std::string& path) override { return path.starts_with("/dev/"); }
};

LoadedTargetsConf load(std::string_view text, World world = {}) {
  auto loaded =
      read_targets_conf({"targets.conf", std::string(text)}, world, {{"0.0.0.0", 3260}, {"::", 3260}});
  EXPECT_TRUE(loaded.has_value()) << loaded.error().message;
  return loaded ? std::move(*loaded) : LoadedTargetsConf{};
}

std::string refused(std::string_view text, World world = {}) {
  const auto loaded = read_targets_conf({"targets.conf", std::string(text)}, world, {{"0.0.0.0", 3260}});
  EXPECT_FALSE(loaded.has_value()) << text;
  return loaded ? "" : loaded.error().message;
}

std::string in_target(std::string_view lines) {
  return "<target iqn.2026-11.io.perilune:a>\n" + std::string(lines) + "\n</target>\n";
}

const PortalGroupKey group{{"iqn.2026-11.io.perilune:a"}, 1};

// "LUN plugin/name" of all LUNs of the group.
std::vector<std::string> luns(const Configuration& configuration) {
  std::vector<std::string> out;
  for (const auto& [key, lun] : configuration.below<Lun>(group)) {
    out.push_back(std::to_string(key.index) + " " + std::string(to_string(lun.object.plugin)) + "/" +
                  lun.object.name);
  }
  return out;
}

TEST(TargetsConf, TheManualsExampleLoads) {
  // targets.conf(5), in our names
  const auto loaded = load(R"(
<target iqn.2026-11.io.perilune:a>
  backing-store /srv/monitoring.img

  # if no "incominguser" is specified, it is not used
  incominguser backup secretpass12
  outgoinguser userA secretpassA1
  initiator-address ALL     # Allowed IP
  write-cache off
</target>
<target iqn.2026-11.io.perilune:b>
  backing-store /dev/san/xen2
</target>
)");
  EXPECT_THAT(loaded.warnings, IsEmpty());
  const Configuration& configuration = loaded.configuration;
  EXPECT_EQ(configuration.all<Target>().size(), 2U);
  const auto* const tpg = configuration.find<PortalGroup>(group);
  ASSERT_NE(tpg, nullptr);
  EXPECT_EQ(tpg->chap.userid, "backup");
  EXPECT_EQ(tpg->chap.password.reveal(), "secretpass12");
  EXPECT_EQ(tpg->chap.mutual_userid, "userA");
  EXPECT_EQ(tpg->attributes.number(group_attributes(), "authentication"), 1);
  EXPECT_EQ(tpg->attributes.number(group_attributes(), "generate_node_acls"), 1);
  EXPECT_EQ(tpg->attributes.number(group_attributes(), "demo_mode_write_protect"), 0);
  EXPECT_THAT(luns(configuration), ElementsAre("1 fileio/srv-monitoring.img"));
  EXPECT_FALSE(configuration.find<StorageObject>({Plugin::fileio, "srv-monitoring.img"})->write_back);
  EXPECT_TRUE(configuration.find<StorageObject>({Plugin::block, "dev-san-xen2"})->write_back)
      << "tgt's default";
  const auto* const open = configuration.find<PortalGroup>({{"iqn.2026-11.io.perilune:b"}, 1});
  EXPECT_EQ(open->attributes.number(group_attributes(), "authentication"), 0);
  EXPECT_EQ(configuration.all<Portal>().size(), 4U);
}

TEST(TargetsConf, LunsAreCountedAsTgtAdminCountsThem) {
  // by path, backing stores first, around what has a number
  EXPECT_THAT(luns(load(in_target("direct-store /dev/sdb\nbacking-store /dev/sde\ndirect-store "
                                  "/dev/sda\nbacking-store /dev/sdc"))
                       .configuration),
              ElementsAre("1 block/dev-sdc", "2 block/dev-sde", "3 block/dev-sda", "4 block/dev-sdb"));
  EXPECT_THAT(
      luns(load(in_target(
                    "<backing-store /dev/b>\nlun 1\n</backing-store>\n<backing-store /dev/a>\nreadonly 1\n"
                    "</backing-store>\n<direct-store /dev/c>\nlun 3\n</direct-store>\nbacking-store /dev/d"))
               .configuration),
      ElementsAre("1 block/dev-b", "2 block/dev-a", "3 block/dev-c", "4 block/dev-d"));
}

TEST(TargetsConf, AStoresOptionsStandOverTheTargets) {
  const auto loaded =
      load(in_target("write-cache off\nblock-size 4096\nbacking-store /srv/a\n<backing-store /srv/b>\n"
                     "write-cache on\nscsi_sn serial-b\nreadonly 1\n</backing-store>"));
  const auto* const a = loaded.configuration.find<StorageObject>({Plugin::fileio, "srv-a"});
  const auto* const b = loaded.configuration.find<StorageObject>({Plugin::fileio, "srv-b"});
  ASSERT_TRUE(a != nullptr && b != nullptr);
  const auto& table = storage_attributes(Plugin::fileio);
  EXPECT_FALSE(a->write_back);
  EXPECT_FALSE(a->readonly);
  EXPECT_EQ(a->attributes.get(table, "emulate_write_cache"), "0");
  EXPECT_EQ(a->attributes.get(table, "block_size"), "4096");
  EXPECT_EQ(a->wwn.size(), 36U);
  EXPECT_TRUE(b->write_back);
  EXPECT_TRUE(b->readonly);
  EXPECT_EQ(b->attributes.get(table, "emulate_write_cache"), "1");
  EXPECT_EQ(b->wwn, "serial-b");
}

TEST(TargetsConf, ASerialIsTheSameAtEachReadingAndAnotherForAnotherPath) {
  const auto serial = [](const std::string& path) {
    return load(in_target("backing-store " + path)).configuration.all<StorageObject>().begin()->second.wwn;
  };
  EXPECT_EQ(serial("/srv/a"), serial("/srv/a"));
  EXPECT_NE(serial("/srv/a"), serial("/srv/b"));
}

TEST(TargetsConf, InitiatorNamesAreNodeAclsWithAllLuns) {
  const auto loaded =
      load(in_target("initiator-name iqn.2026-11.io.perilune:h1\ninitiator-name iqn.2026-11.io.perilune:h2\n"
                     "backing-store /srv/a\nbacking-store /srv/b"));
  EXPECT_EQ(loaded.configuration.all<NodeAcl>().size(), 2U);
  EXPECT_EQ(loaded.configuration.all<MappedLun>().size(), 4U);
  EXPECT_EQ(loaded.configuration.find<PortalGroup>(group)->attributes.number(group_attributes(),
                                                                             "generate_node_acls"),
            0);
}

TEST(TargetsConf, ADiskInTwoTargetsIsOneObject) {
  const auto loaded = load(
      "<target iqn.2026-11.io.perilune:a>\nbacking-store /srv/a\n</target>\n"
      "<target iqn.2026-11.io.perilune:b>\nbacking-store /srv/a\n</target>\n");
  EXPECT_EQ(loaded.configuration.all<StorageObject>().size(), 1U);
  EXPECT_EQ(loaded.configuration.all<Lun>().size(), 2U);
}

TEST(TargetsConf, BlocksOfOneTargetAreOne) {
  const auto loaded = load(in_target("backing-store /srv/a") +
                           in_target("backing-store /srv/b\nMaxBurstLength 65536\nFirstBurstLength=512"));
  EXPECT_THAT(luns(loaded.configuration), ElementsAre("1 fileio/srv-a", "2 fileio/srv-b"));
  EXPECT_EQ(
      loaded.configuration.find<PortalGroup>(group)->parameters.get(group_parameters(), "FirstBurstLength"),
      "512");
}

TEST(TargetsConf, PassThroughIsPscsi) {
  const auto loaded =
      load(in_target("<backing-store /dev/sg1>\ndevice-type pt\nbs-type sg\n</backing-store>"));
  EXPECT_THAT(luns(loaded.configuration), ElementsAre("1 pscsi/dev-sg1"));
}

TEST(TargetsConf, DiscoveryHasItsOwnUsers) {
  const auto loaded = load("incomingdiscoveryuser in secretpass12\noutgoingdiscoveryuser out secretpass34\n");
  const auto* const discovery = loaded.configuration.find<Discovery>({});
  ASSERT_NE(discovery, nullptr);
  EXPECT_TRUE(discovery->enable);
  EXPECT_EQ(discovery->chap.userid, "in");
  EXPECT_EQ(discovery->chap.mutual_password.reveal(), "secretpass34");
}

TEST(TargetsConf, SyntaxIsConfigGenerals) {
  const auto loaded = load(
      "/* a comment\n over lines */\n<target \"iqn.2026-11.io.perilune:a\">\r\n  backing-store = \"/srv/with "
      "blank\"\n"
      "  incominguser \\\n    user pass\\#word123 # a comment\n</target>\n");
  EXPECT_THAT(luns(loaded.configuration), ElementsAre("1 fileio/srv-with_blank"));
  EXPECT_EQ(loaded.configuration.find<PortalGroup>(group)->chap.password.reveal(), "pass#word123");
}

TEST(TargetsConf, IncludesWhatItNames) {
  World world;
  world.files["/etc/tgt/conf.d/*.conf"] = {
      {"/etc/tgt/conf.d/a.conf", in_target("backing-store /srv/a")},
      {"/etc/tgt/conf.d/b.conf", "\n" + in_target("write-cache perhaps\nbacking-store /srv/b")}};
  EXPECT_THAT(refused("include /etc/tgt/conf.d/*.conf\n", world),
              HasSubstr("/etc/tgt/conf.d/a.conf:2: write-cache must be on or off"));
  world.files["/etc/tgt/conf.d/*.conf"].pop_back();
  EXPECT_THAT(luns(load("Include /etc/tgt/conf.d/*.conf\n", world).configuration),
              ElementsAre("1 fileio/srv-a"));
  world.files["none*"] = {};
  EXPECT_TRUE(load("<<include none*>>\n", world).configuration.serves_nothing());
  EXPECT_EQ(refused("\ninclude /nosuch\n", world), "targets.conf:2: include /nosuch: cannot open");
}

TEST(TargetsConf, WhatOnlyDescribesIsLeftOutWithAWarning) {
  const auto loaded =
      load("ignore-errors yes\n" + in_target("vendor_id X\nbacking-store /srv/a\nnop_count 3"));
  EXPECT_THAT(loaded.warnings,
              ElementsAre("targets.conf:1: ignore-errors has no place here and is left out",
                          "targets.conf:3: vendor_id has no place here and is left out",
                          "targets.conf:5: nop_count has no place here and is left out"));
}

TEST(TargetsConf, WhatWouldOpenMoreThanItSaysIsRefused) {
  EXPECT_THAT(refused(in_target("initiator-address 192.0.2.0/33")),
              HasSubstr("targets.conf:2: initiator-address 192.0.2.0/33 is no network"));
  EXPECT_THAT(refused(in_target("initiator-address somewhere")),
              HasSubstr("targets.conf:2: initiator-address "));
  EXPECT_EQ(refused(in_target("incominguser a secretpass12\nincominguser b secretpass34")),
            "targets.conf:3: a second incominguser is not served; take one out");
  EXPECT_EQ(refused(in_target("driver iser")), "targets.conf:2: driver iser is not served; only iscsi is");
  EXPECT_EQ(refused("default-driver iser"), "targets.conf:1: driver iser is not served; only iscsi is");
  EXPECT_THAT(refused(in_target("bs-type rbd\nbacking-store pool/image")),
              HasSubstr("bs-type rbd is not served"));
  EXPECT_THAT(refused(in_target("device-type cd\nbacking-store /srv/a")),
              HasSubstr("device-type cd is not served"));
}

TEST(TargetsConf, ASecretMayBeKeptElsewhere) {
  const auto loaded = load(in_target("incominguser backup @file:/etc/perilune/secrets/backup"));
  EXPECT_EQ(loaded.configuration.find<PortalGroup>(group)->chap.password.reference(),
            "@file:/etc/perilune/secrets/backup");
}

TEST(TargetsConf, SaysInWhichLineItIsWrong) {
  EXPECT_EQ(refused("\n<target x>\n</target>"),
            "targets.conf:2: target 'x': iSCSI name does not begin with iqn., eui. or naa.");
  EXPECT_EQ(refused("nonsense on"), "targets.conf:1: nonsense is not known outside a target");
  EXPECT_EQ(refused(in_target("nonsense on")), "targets.conf:2: nonsense is not known in a target");
  EXPECT_EQ(refused(in_target("MaxBurstLength 1")),
            "targets.conf:2: MaxBurstLength must be a number from 512 to 16777215");
  EXPECT_EQ(refused(in_target("backing-store")), "targets.conf:2: backing-store has no value");
  EXPECT_EQ(refused(in_target("incominguser onlyname")),
            "targets.conf:2: incominguser is a user and a password");
  EXPECT_EQ(refused("<target iqn.2026-11.io.perilune:a>\n"), "targets.conf:1: <target> is never closed");
  EXPECT_EQ(refused("</target>"), "targets.conf:1: nothing is open here that </target> could close");
  EXPECT_EQ(refused("<target a>\n</portal>"),
            "targets.conf:2: </target> is expected, for the block of targets.conf:1");
  EXPECT_EQ(refused("<target a"), "targets.conf:1: > is missing at the end of the line");
  EXPECT_EQ(refused("<target>"), "targets.conf:1: a block is <name argument>");
  EXPECT_EQ(refused("<portal a>\n</portal>"),
            "targets.conf:1: <portal> is not known here; expected <target NAME>");
  EXPECT_EQ(refused("= x"), "targets.conf:1: a name is missing before =");
  EXPECT_EQ(refused("a <<EOF\nx\nEOF"), "targets.conf:1: here-documents are not supported");
  EXPECT_EQ(refused("\n/* x"), "targets.conf:2: a comment is never closed");
  EXPECT_THAT(refused(in_target("backing-store relative")),
              HasSubstr("targets.conf:2: /backstores/fileio/relative: dev must be an absolute path"));
  EXPECT_THAT(refused(in_target("<backing-store /srv/a>\nlun 16384\n</backing-store>")),
              HasSubstr(":3: lun must be a number from 0 to 16383"));
  EXPECT_THAT(refused(in_target("<backing-store /srv/a>\ncolour red\n</backing-store>")),
              HasSubstr(":3: colour is not known in a store"));
  EXPECT_THAT(refused(in_target("backing-store /srv/a\nbacking-store /srv/a")), HasSubstr("is lun1 already"));
}

TEST(TargetsConf, WhatJsonCannotCarryIsRefused) {
  // Kept, it would be another text after a restart.
  EXPECT_EQ(refused(in_target("TargetAlias caf\xe9")),
            "targets.conf:2: not UTF-8, or with control characters; convert the file");
  EXPECT_EQ(refused(in_target("backing-store /srv/\x1b[2J")),
            "targets.conf:2: not UTF-8, or with control characters; convert the file");
  const auto loaded = load(in_target("\tbacking-store\t/srv/caf\xc3\xa9.img # caf\xe9"));
  EXPECT_TRUE(loaded.configuration.by_dev("/srv/caf\xc3\xa9.img").has_value());
}

TEST(TargetsConf, HostileFilesAreBounded) {
  World world;
  world.files["self"] = {{"self", "include self\n"}};
  EXPECT_THAT(refused("include self", world), HasSubstr("files include each other too deep"));
  world.files["many"] = std::vector<ConfFile>(max_targets_conf_files, {"many", ""});
  EXPECT_THAT(refused("include many", world), HasSubstr("more than 1024 files"));
  EXPECT_THAT(refused(std::string(max_targets_conf_bytes + 1, '\n')), HasSubstr("more than 16 MiB in all"));
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "<a b>\n";
  EXPECT_THAT(refused(deep), HasSubstr("targets.conf:9: blocks are nested too deep"));
  std::string lines;
  for (std::size_t i = 0; i < 200001; ++i) lines += "a b\n";
  EXPECT_THAT(refused(lines), HasSubstr("targets.conf:200001: more than 200000 lines"));
  EXPECT_THAT(refused(std::string_view("a\0b c", 5)), HasSubstr("is not a text file"));
}

TEST(TargetsConf, WhatItMakesIsASaveconfig) {
  const auto loaded = load(in_target(
      "backing-store /srv/a\nincominguser u secretpass12\ninitiator-name iqn.2026-11.io.perilune:h"));
  const auto again = read_saveconfig(write_saveconfig(loaded.configuration));
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(again->configuration, loaded.configuration);
}

}  // namespace
}  // namespace perilune::config::target
