// SPDX-License-Identifier: Apache-2.0
#include "config/iscsid_conf.hpp"

#include <gtest/gtest.h>

#include "config/portal.hpp"

namespace perilune::config {
namespace {

TEST(IscsidConf, TakesDefaultsForNewRecords) {
  const auto conf = parse_iscsid_conf(
      "# a comment\n"
      "\n"
      "iscsid.startup = /bin/systemctl start iscsid.socket\n"
      "iscsid.safe_logout = Yes\n"
      "node.startup = automatic\r\n"
      "node.session.timeo.replacement_timeout=15\n"
      "   node.session.auth.chap_algs = SHA256,MD5\n"
      "discovery.sendtargets.auth.authmethod = CHAP\n"
      "discovery.sendtargets.auth.chap_algs = SHA1\n");
  ASSERT_TRUE(conf);
  EXPECT_TRUE(conf->warnings.empty());
  EXPECT_TRUE(conf->safe_logout);
  EXPECT_EQ(conf->startup, "/bin/systemctl start iscsid.socket");
  EXPECT_EQ(conf->node.get("node.startup"), "automatic");
  EXPECT_EQ(conf->node.get("node.session.timeo.replacement_timeout"), "15");
  EXPECT_EQ(conf->node.get("node.session.auth.chap_algs"), "SHA256,MD5");
  EXPECT_EQ(conf->send_targets.get("discovery.sendtargets.auth.authmethod"), "CHAP");
  EXPECT_EQ(conf->send_targets.get("node.session.auth.chap_algs"), "SHA1");
}

TEST(IscsidConf, KeepsUnknownKeysWithAWarningAndDefaultsForBadValues) {
  const auto conf =
      parse_iscsid_conf("node.session.magic = 3\nnode.session.cmds_max = 5000\nnode.name = iqn.x\nwhat\n");
  ASSERT_TRUE(conf);
  ASSERT_EQ(conf->other.size(), 1U);
  EXPECT_EQ(conf->other[0].first, "node.session.magic");
  EXPECT_EQ(conf->node.get("node.session.cmds_max"), "128");
  EXPECT_EQ(conf->node.get("node.name"), "");
  ASSERT_EQ(conf->warnings.size(), 4U);
  EXPECT_EQ(conf->warnings[0], "line 1: unknown key node.session.magic (kept)");
  EXPECT_EQ(conf->warnings[2], "line 3: node.name belongs to a record and has no default");
}

TEST(IscsidConf, RefusesWhatIsNoText) {
  EXPECT_FALSE(parse_iscsid_conf(std::string("a\0b", 3)));
  EXPECT_EQ(parse_iscsid_conf(std::string(max_conf_bytes + 1, '#')).error().code, Errc::limit);
}

TEST(InitiatorNameFile, ReadsNameAndAliasAndWritesThemBack) {
  const auto name =
      parse_initiator_name("## DO NOT EDIT\nInitiatorName=iqn.2026-01.lab:host1\nInitiatorAlias = one\n");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->name, "iqn.2026-01.lab:host1");
  EXPECT_EQ(name->alias, "one");
  EXPECT_EQ(format_initiator_name(*name), "InitiatorName=iqn.2026-01.lab:host1\nInitiatorAlias=one\n");
}

TEST(InitiatorNameFile, TellsWhatIsWrong) {
  EXPECT_EQ(parse_initiator_name("# nothing\n").error().code, Errc::not_found);
  EXPECT_EQ(parse_initiator_name("InitiatorName=disk\n").error().code, Errc::invalid_argument);
  EXPECT_EQ(parse_initiator_name("InitiatorName=iqn.2026-01.lab:" + std::string(300, 'a')).error().code,
            Errc::invalid_argument);
}

TEST(IscsiNames, KnowsTheThreeFormats) {
  EXPECT_TRUE(is_iscsi_name("iqn.2026-11.io.perilune:0123456789ab"));
  EXPECT_TRUE(is_iscsi_name("eui.02004567A425678D"));
  EXPECT_TRUE(is_iscsi_name("naa.52004567BA64678D"));
  EXPECT_FALSE(is_iscsi_name("eui.02004567A425678"));
  EXPECT_FALSE(is_iscsi_name("iqn.26-11.io"));
  EXPECT_FALSE(is_iscsi_name("iqn.2026-11.io/../../etc"));
  EXPECT_FALSE(is_safe_target_name(".."));
  EXPECT_FALSE(is_safe_target_name("a b"));
  EXPECT_TRUE(is_safe_target_name("iqn.nosuch"));
  EXPECT_FALSE(is_safe_iface_name("../x"));
  EXPECT_TRUE(is_safe_iface_name("bad name"));
}

TEST(PortalText, ParsesEveryWayToWriteIt) {
  const auto check = [](const char* text, const char* host, int port, bool given, int tpgt) {
    const auto portal = Portal::parse(text);
    ASSERT_TRUE(portal) << text;
    EXPECT_EQ(portal->host, host) << text;
    EXPECT_EQ(portal->port, port) << text;
    EXPECT_EQ(portal->port_given, given) << text;
    EXPECT_EQ(portal->tpgt, tpgt) << text;
  };
  check("192.0.2.1", "192.0.2.1", 3260, false, -1);
  check("192.0.2.1:3999", "192.0.2.1", 3999, true, -1);
  check("192.0.2.1:3999,5", "192.0.2.1", 3999, true, 5);
  check("192.0.2.1,5", "192.0.2.1", 3260, false, 5);
  check("[2001:db8::1]:3261,2", "2001:db8::1", 3261, true, 2);
  check("[2001:db8::1]", "2001:db8::1", 3260, false, -1);
  check("2001:db8::1", "2001:db8::1", 3260, false, -1);
  check("store.example.com:860", "store.example.com", 860, true, -1);
}

TEST(PortalText, RefusesWhatIsNone) {
  for (const char* text : {"", ":3260", "a:b", "a:0", "a:65536", "[::1", "[::1]x", "a,x", "a,-2", "a/b", "../a", "a b", "a:"}) {
    EXPECT_FALSE(Portal::parse(text)) << text;
  }
}

TEST(PortalText, PrintsWithBracketsAndAnUnknownTagAsTheOriginalDoes) {
  EXPECT_EQ(format_portal("192.0.2.1", 3260, 1), "192.0.2.1:3260,1");
  EXPECT_EQ(format_portal("2001:db8::1", 3260, 1), "[2001:db8::1]:3260,1");
  EXPECT_EQ(format_portal("192.0.2.1", 3260, -1), "192.0.2.1:3260,4294967295");
}

}  // namespace
}  // namespace perilune::config
