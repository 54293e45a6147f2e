// SPDX-License-Identifier: Apache-2.0
#include "config/record.hpp"

#include <gtest/gtest.h>

#include <set>

namespace perilune::config {
namespace {

TEST(RecordFields, DefaultsAreValidAndNamesAreUnique) {
  for (const RecordKind kind : {RecordKind::node, RecordKind::send_targets, RecordKind::iface}) {
    std::set<std::string_view> names;
    for (const FieldSpec& field : fields(kind)) {
      EXPECT_TRUE(check_value(field, field.default_value)) << field.name;
      EXPECT_TRUE(names.insert(field.name).second) << field.name;
    }
  }
}

TEST(RecordFields, RefusesValuesOutsideTheirRange) {
  Record node(RecordKind::node);
  EXPECT_FALSE(node.set("node.session.cmds_max", "1"));
  EXPECT_FALSE(node.set("node.session.cmds_max", "2049"));
  EXPECT_FALSE(node.set("node.session.cmds_max", "12x"));
  EXPECT_FALSE(node.set("node.session.cmds_max", ""));
  EXPECT_FALSE(node.set("node.session.cmds_max", "99999999999999999999"));
  EXPECT_FALSE(node.set("node.startup", "sometimes"));
  EXPECT_FALSE(node.set("node.conn[0].iscsi.HeaderDigest", "bogus"));
  EXPECT_FALSE(node.set("node.conn[0].iscsi.HeaderDigest", "CRC32C,CRC32C"));
  EXPECT_FALSE(node.set("node.conn[0].iscsi.HeaderDigest", "CRC32C,"));
  EXPECT_TRUE(node.set("node.conn[0].iscsi.HeaderDigest", "CRC32C,None"));
  EXPECT_TRUE(node.set("node.session.auth.chap_algs", "SHA3-256,SHA256,SHA1,MD5"));
  EXPECT_TRUE(node.set("node.session.timeo.replacement_timeout", "-1"));
  EXPECT_EQ(node.get("node.session.cmds_max"), "128");
  EXPECT_EQ(node.get_int("node.session.timeo.replacement_timeout"), -1);
}

TEST(RecordFields, TheMessageForABadSecretDoesNotHoldIt) {
  Record node(RecordKind::node);
  const auto done = node.set("node.session.auth.password", "hidden\nword");
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().message.find("hidden"), std::string::npos);
}

TEST(RecordUpdate, RefusesLookupKeysAndUnknownNamesInTheOriginalsWords) {
  Record node(RecordKind::node);
  EXPECT_EQ(node.update("node.name", "x").error().message,
            "Cannot modify node.name. It is used to look up the record and cannot be changed.");
  EXPECT_EQ(node.update("node.nosuch", "1").error().message,
            "Cannot modify node.nosuch. Invalid param name.");
  EXPECT_EQ(node.update("node.conn[0].iscsi.HeaderDigest", "bogus").error().message,
            "unknown value format 'bogus' for parameter name 'node.conn[0].iscsi.HeaderDigest'");
  EXPECT_TRUE(node.update("node.startup", "automatic"));
}

TEST(RecordShow, MasksSecretsAndNamesEmptyValues) {
  Record discovery(RecordKind::send_targets);
  ASSERT_TRUE(discovery.set("discovery.sendtargets.address", "192.0.2.7"));
  ASSERT_TRUE(discovery.set("discovery.sendtargets.auth.password", "a secret of mine"));
  const std::string head =
      "# BEGIN RECORD 2.1.8\n"
      "discovery.startup = manual\n"
      "discovery.type = sendtargets\n"
      "discovery.sendtargets.address = 192.0.2.7\n"
      "discovery.sendtargets.port = 3260\n"
      "discovery.sendtargets.auth.authmethod = None\n"
      "discovery.sendtargets.auth.username = <empty>\n";
  const std::string tail =
      "discovery.sendtargets.auth.username_in = <empty>\n"
      "discovery.sendtargets.auth.password_in = <empty>\n"
      "node.session.auth.chap_algs = MD5\n"
      "discovery.sendtargets.timeo.login_timeout = 15\n"
      "discovery.sendtargets.use_discoveryd = No\n"
      "discovery.sendtargets.discoveryd_poll_inval = 30\n"
      "discovery.sendtargets.reopen_max = 5\n"
      "discovery.sendtargets.timeo.auth_timeout = 45\n"
      "discovery.sendtargets.timeo.active_timeout = 30\n"
      "discovery.sendtargets.iscsi.MaxRecvDataSegmentLength = 32768\n"
      "# END RECORD\n";
  EXPECT_EQ(discovery.show(Secrets::masked),
            head + "discovery.sendtargets.auth.password = ********\n" + tail);
  EXPECT_EQ(discovery.show(Secrets::shown),
            head + "discovery.sendtargets.auth.password = a secret of mine\n" + tail);
}

TEST(RecordStore, LeavesOutWhatIsEmptyAndReadsBackTheSame) {
  Record iface(RecordKind::iface);
  ASSERT_TRUE(iface.set("iface.iscsi_ifacename", "net7"));
  ASSERT_TRUE(iface.set("iface.net_ifacename", "eth7"));
  EXPECT_EQ(iface.store(),
            "# BEGIN RECORD 2.1.8\n"
            "iface.iscsi_ifacename = net7\n"
            "iface.net_ifacename = eth7\n"
            "iface.prefix_len = 0\n"
            "iface.transport_name = tcp\n"
            "iface.vlan_id = 0\n"
            "iface.vlan_priority = 0\n"
            "iface.iface_num = 0\n"
            "iface.mtu = 0\n"
            "iface.port = 0\n"
            "iface.tos = 0\n"
            "iface.ttl = 0\n"
            "iface.tcp_wsf = 0\n"
            "iface.tcp_timer_scale = 0\n"
            "iface.def_task_mgmt_timeout = 0\n"
            "iface.erl = 0\n"
            "iface.max_receive_data_len = 0\n"
            "iface.first_burst_len = 0\n"
            "iface.max_outstanding_r2t = 0\n"
            "iface.max_burst_len = 0\n"
            "# END RECORD\n");
  const auto parsed = parse_record(RecordKind::iface, iface.store());
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->record, iface);
  EXPECT_TRUE(parsed->warnings.empty());
}

// Found by records_fuzz.
TEST(RecordStore, AnEmptyValueWhoseDefaultIsNotEmptyStaysEmpty) {
  Record iface(RecordKind::iface);
  ASSERT_TRUE(iface.set("iface.transport_name", ""));
  EXPECT_EQ(parse_record(RecordKind::iface, iface.store())->record, iface);
}

TEST(RecordParse, KeepsUnknownKeysAndWarns) {
  const auto parsed =
      parse_record(RecordKind::node,
                   "# BEGIN RECORD 2.1.9\n  node.name =  iqn.2026-01.lab:a \n\n"
                   "node.session.new_thing = 7\nnode.startup = often\nnonsense\n# END RECORD\n");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->record.get("node.name"), "iqn.2026-01.lab:a");
  EXPECT_EQ(parsed->record.get("node.startup"), "manual");
  ASSERT_EQ(parsed->warnings.size(), 3U);
  EXPECT_EQ(parsed->warnings[0], "line 4: unknown key node.session.new_thing (kept)");
  EXPECT_EQ(parsed->warnings[1], "line 5: unknown value format 'often' for parameter name 'node.startup'");
  EXPECT_EQ(parsed->warnings[2], "line 6: neither a comment nor `name = value`");
  EXPECT_NE(parsed->record.store().find("node.session.new_thing = 7\n"), std::string::npos);
  EXPECT_EQ(parsed->record.show(Secrets::shown).find("new_thing"), std::string::npos);
}

TEST(RecordParse, RefusesBinaryAndOverlongText) {
  EXPECT_EQ(parse_record(RecordKind::node, std::string("node.name = a\0b", 15)).error().code,
            Errc::invalid_argument);
  EXPECT_EQ(parse_record(RecordKind::node, std::string(max_record_bytes + 1, ' ')).error().code, Errc::limit);
  std::string many;
  for (int i = 0; i < 200; ++i) many += "x" + std::to_string(i) + " = 1\n";
  const auto parsed = parse_record(RecordKind::node, many);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->record.unknown().size(), max_unknown_keys);
}

TEST(RecordAdopt, AnIfaceFillsItsPartOfANode) {
  Record iface(RecordKind::iface);
  ASSERT_TRUE(iface.set("iface.iscsi_ifacename", "net7"));
  ASSERT_TRUE(iface.set("iface.initiatorname", "iqn.2026-01.lab:other"));
  Record node(RecordKind::node);
  ASSERT_TRUE(node.set("node.name", "iqn.2026-01.lab:a"));
  node.adopt(iface);
  EXPECT_EQ(node.get("iface.initiatorname"), "iqn.2026-01.lab:other");
  EXPECT_EQ(node.get("iface.iscsi_ifacename"), "net7");
  EXPECT_EQ(node.get("node.name"), "iqn.2026-01.lab:a");
}

}  // namespace
}  // namespace perilune::config
