// SPDX-License-Identifier: Apache-2.0
// Outputs, messages and exit codes against the transcripts of open-iscsi 2.1.8, with names of our own.
#include "cli/iscsiadm/test_support.hpp"

namespace perilune::cli::iscsiadm {
namespace {

using Discovery = ModeTest;
using Node = ModeTest;
using SessionMode = ModeTest;
using Iface = ModeTest;

const std::vector<control::FoundTarget> two_targets = {
    {"iqn.2026-05.org.moon:disk", {{"192.0.2.1", 3260, 1}}},
    {"iqn.2026-05.org.moon:tape", {{"192.0.2.1", 3260, 1}}},
};

TEST_F(Discovery, PrintsWhatItFoundAndKeepsTheRecords) {
  find(two_targets);
  const Outcome found = run({"-m", "discovery", "-t", "st", "-p", "192.0.2.1"});
  EXPECT_EQ(found.code, 0);
  EXPECT_EQ(found.err, "");
  EXPECT_EQ(found.out,
            "192.0.2.1:3260,1 iqn.2026-05.org.moon:disk\n192.0.2.1:3260,1 iqn.2026-05.org.moon:tape\n");
  EXPECT_EQ(run({"-m", "discovery"}).out, "192.0.2.1:3260 via sendtargets\n");
  EXPECT_EQ(run({"-m", "discoverydb"}).out, "192.0.2.1:3260 via sendtargets\n");
  EXPECT_EQ(run({"-m", "discovery", "-P", "1"}).out,
            "SENDTARGETS:\n"
            "DiscoveryAddress: 192.0.2.1,3260\n"
            "Target: iqn.2026-05.org.moon:disk\n"
            "\tPortal: 192.0.2.1:3260,1\n"
            "\t\tIface Name: default\n"
            "Target: iqn.2026-05.org.moon:tape\n"
            "\tPortal: 192.0.2.1:3260,1\n"
            "\t\tIface Name: default\n"
            "iSNS:\n"
            "No targets found.\n"
            "STATIC:\n"
            "No targets found.\n"
            "FIRMWARE:\n"
            "No targets found.\n");
  const auto record = db_.read_node(disk_node);
  ASSERT_TRUE(record);
  EXPECT_EQ(record->get("node.discovery_address"), "192.0.2.1");
  EXPECT_EQ(record->get("node.discovery_port"), "3260");
  EXPECT_EQ(record->get("node.discovery_type"), "send_targets");
}

TEST_F(Discovery, ReplacesTheRecordsOfItsPortal) {
  find(two_targets);
  ASSERT_EQ(run({"-m", "discovery", "-t", "sendtargets", "-p", "192.0.2.1"}).code, 0);
  ASSERT_EQ(run({"-m", "node", "-T", disk_node.target, "-o", "update", "-n", "node.startup", "-v", "automatic"}).code, 0);
  find({two_targets[0]});
  EXPECT_EQ(run({"-m", "discovery", "-t", "st", "-p", "192.0.2.1:3260"}).code, 0);
  EXPECT_EQ(db_.list_nodes().value(), std::vector<config::NodeKey>{disk_node});
  EXPECT_EQ(db_.read_node(disk_node)->get("node.startup"), "manual");
}

TEST_F(Discovery, OperationsSayWhatMayChange) {
  find(two_targets);
  ASSERT_EQ(run({"-m", "discovery", "-t", "st", "-p", "192.0.2.1", "-o", "nonpersistent"}).code, 0);
  EXPECT_TRUE(db_.list_nodes().value().empty());
  EXPECT_TRUE(db_.list_discoveries().value().empty());
  ASSERT_EQ(run({"-m", "discovery", "-t", "st", "-p", "192.0.2.1"}).code, 0);
  ASSERT_EQ(run({"-m", "node", "-T", disk_node.target, "-o", "update", "-n", "node.startup", "-v", "automatic"}).code, 0);
  find({two_targets[0]});
  ASSERT_EQ(run({"-m", "discovery", "-t", "st", "-p", "192.0.2.1", "-o", "new"}).code, 0);
  EXPECT_EQ(db_.list_nodes()->size(), 2U);
  EXPECT_EQ(db_.read_node(disk_node)->get("node.startup"), "automatic");
  ASSERT_EQ(run({"-m", "discovery", "-t", "st", "-p", "192.0.2.1", "-o", "delete"}).code, 0);
  EXPECT_EQ(db_.list_nodes().value(), std::vector<config::NodeKey>{disk_node});
  EXPECT_EQ(db_.read_node(disk_node)->get("node.startup"), "automatic");
}

TEST_F(Discovery, NewRecordsTakeTheDefaultsOfTheConfiguration) {
  std::FILE* conf = std::fopen((folder_ / "iscsid.conf").c_str(), "w");
  ASSERT_NE(conf, nullptr);
  std::fputs("node.startup = automatic\nnode.session.auth.username = moon\n", conf);
  std::fclose(conf);
  find(two_targets);
  ASSERT_EQ(run({"-m", "discovery", "-t", "st", "-p", "192.0.2.1"}).code, 0);
  EXPECT_EQ(db_.read_node(disk_node)->get("node.startup"), "automatic");
  EXPECT_EQ(db_.read_node(disk_node)->get("node.session.auth.username"), "moon");
}

TEST_F(Discovery, PrintsTheDaemonsWordsAndTheExitCodeOfARefusedConnection) {
  daemon_.answers["discover"] = [](const auto&, const PendingCall::Progress& progress) {
    progress({{"text", "cannot make connection to 192.0.2.1: Connection refused"}});
    progress({{"text", "connection login retries (reopen_max) 5 exceeded"}});
    return control::Reply{11, "x", {}};
  };
  const Outcome outcome = run({"-m", "discovery", "-t", "st", "-p", "192.0.2.1:3999"});
  EXPECT_EQ(outcome.code, 11);
  EXPECT_EQ(outcome.err,
            "iscsiadm: cannot make connection to 192.0.2.1: Connection refused\n"
            "iscsiadm: connection login retries (reopen_max) 5 exceeded\n"
            "iscsiadm: Could not perform SendTargets discovery: iSCSI PDU timed out\n");
  EXPECT_TRUE(db_.list_discoveries().value().empty());
}

TEST_F(Discovery, WithoutADaemonTheCodeIsTwenty) {
  daemon_.listening = false;
  const Outcome outcome = run({"-m", "discovery", "-t", "st", "-p", "192.0.2.1"});
  EXPECT_EQ(outcome.code, 20);
  EXPECT_EQ(outcome.err, "iscsiadm: Could not perform SendTargets discovery: could not connect to iscsid\n");
  EXPECT_EQ(daemon_.starts, 1);
}

TEST_F(Discovery, WhatATargetInventsCannotLeaveTheDatabase) {
  find({{"../../../../tmp/evil", {{"192.0.2.1", 3260, 1}}},
        {"iqn.2026-05.org.moon:disk", {{"../..", 3260, 1}}},
        two_targets[1]});
  const Outcome outcome = run({"-m", "discovery", "-t", "st", "-p", "192.0.2.1"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, "192.0.2.1:3260,1 iqn.2026-05.org.moon:tape\n");
  EXPECT_EQ(db_.list_nodes().value(), std::vector<config::NodeKey>{tape_node});
}

TEST_F(Discovery, RecordsOfTheDatabase) {
  EXPECT_EQ(run({"-m", "discovery"}).code, 21);
  EXPECT_EQ(run({"-m", "discovery"}).err, "");
  const Outcome missing = run({"-m", "discoverydb", "-t", "st", "-p", "192.0.2.1:3260"});
  EXPECT_EQ(missing.code, 6);
  EXPECT_EQ(missing.err, "iscsiadm: Discovery record [192.0.2.1,3260] not found.\n");
  EXPECT_EQ(run({"-m", "discoverydb", "-t", "st", "-p", "192.0.2.1", "-o", "delete"}).code, 6);
  const Outcome odd = run({"-m", "discovery", "-t", "nosuch", "-p", "192.0.2.1"});
  EXPECT_EQ(odd.code, 7);
  EXPECT_EQ(odd.err, "iscsiadm: Discovery record [192.0.2.1,3260] not found!\n");
  EXPECT_EQ(run({"-m", "discoverydb", "-t", "st", "-p", "192.0.2.1", "-o", "new"}).code, 0);
  EXPECT_EQ(run({"-m", "discoverydb", "-t", "st", "-p", "192.0.2.1", "-o", "update", "-n",
                 "discovery.sendtargets.reopen_max", "-v", "1"}).code, 0);
  EXPECT_NE(run({"-m", "discoverydb", "-t", "st", "-p", "192.0.2.1"})
                .out.find("discovery.sendtargets.reopen_max = 1\n"),
            std::string::npos);
  find(two_targets);
  ASSERT_EQ(run({"-m", "discoverydb", "-t", "st", "-p", "192.0.2.1", "--discover"}).code, 0);
  EXPECT_EQ(control::text_of(daemon_.requests.back().second["discovery"], "discovery.sendtargets.reopen_max"),
            "1");
  EXPECT_EQ(run({"-m", "discoverydb", "-t", "st", "-p", "192.0.2.1", "-o", "delete"}).code, 0);
  EXPECT_TRUE(db_.list_discoveries().value().empty());
  EXPECT_TRUE(db_.list_nodes().value().empty());
}

TEST_F(Node, ListsAndShows) {
  const Outcome none = run({"-m", "node"});
  EXPECT_EQ(none.code, 21);
  EXPECT_EQ(none.err, "iscsiadm: No records found\n");
  add_node(disk_node);
  add_node({"iqn.2026-05.org.moon:disk", "2001:db8::1", 3260, 2, "default"});
  EXPECT_EQ(run({"-m", "node"}).out,
            "192.0.2.1:3260,1 iqn.2026-05.org.moon:disk\n[2001:db8::1]:3260,2 iqn.2026-05.org.moon:disk\n");
  EXPECT_EQ(run({"-m", "node", "-P", "1"}).out,
            "Target: iqn.2026-05.org.moon:disk\n"
            "\tPortal: 192.0.2.1:3260,1\n\t\tIface Name: default\n"
            "\tPortal: [2001:db8::1]:3260,2\n\t\tIface Name: default\n");
  const Outcome level = run({"-m", "node", "-P", "2"});
  EXPECT_EQ(level.code, 7);
  EXPECT_EQ(level.err, "iscsiadm: Invalid info level 2. Try 0 or 1.\n");
  const Outcome shown = run({"-m", "node", "-T", disk_node.target, "-p", "[2001:db8::1]"});
  EXPECT_TRUE(shown.out.starts_with(
      "# BEGIN RECORD 2.1.8\nnode.name = iqn.2026-05.org.moon:disk\nnode.tpgt = 2\n"
      "node.startup = manual\nnode.leading_login = No\niface.iscsi_ifacename = default\n"
      "iface.net_ifacename = <empty>\n"));
  EXPECT_TRUE(shown.out.ends_with(
      "node.conn[0].iscsi.HeaderDigest = None\nnode.conn[0].iscsi.DataDigest = None\n"
      "node.conn[0].iscsi.IFMarker = No\nnode.conn[0].iscsi.OFMarker = No\n# END RECORD\n"));
  EXPECT_EQ(run({"-m", "node", "-I", "net7"}).code, 21);
}

TEST_F(Node, SecretsAreShownOnlyWhenAskedFor) {
  add_node(disk_node);
  ASSERT_EQ(run({"-m", "node", "-T", disk_node.target, "-o", "update", "-n", "node.session.auth.password",
                 "-v", "twelve or more"})
                .code,
            0);
  EXPECT_NE(run({"-m", "node", "-o", "show"}).out.find("node.session.auth.password = ********\n"),
            std::string::npos);
  EXPECT_EQ(run({"-m", "node", "-o", "show"}).out.find("twelve"), std::string::npos);
  EXPECT_NE(run({"-m", "node", "-o", "show", "-S"}).out.find("node.session.auth.password = twelve or more\n"),
            std::string::npos);
}

TEST_F(Node, UpdatesOrTellsWhyNot) {
  add_node(disk_node);
  const auto update = [&](const char* name, const char* value) {
    return run({"-m", "node", "-T", disk_node.target, "-p", "192.0.2.1:3260", "-o", "update", "-n", name, "-v", value});
  };
  EXPECT_EQ(update("node.startup", "automatic").code, 0);
  const Outcome unknown = update("node.nosuch", "1");
  EXPECT_EQ(unknown.code, 7);
  EXPECT_EQ(unknown.err, "iscsiadm: Cannot modify node.nosuch. Invalid param name.\n"
                         "iscsiadm: Could not execute operation on all records: invalid parameter\n");
  EXPECT_EQ(update("node.name", "x").err,
            "iscsiadm: Cannot modify node.name. It is used to look up the record and cannot be changed.\n"
            "iscsiadm: Could not execute operation on all records: invalid parameter\n");
  EXPECT_EQ(update("node.conn[0].iscsi.HeaderDigest", "bogus").err,
            "iscsiadm: unknown value format 'bogus' for parameter name 'node.conn[0].iscsi.HeaderDigest'\n"
            "iscsiadm: Unknown parameter node.conn[0].iscsi.HeaderDigest.\n"
            "iscsiadm: Could not execute operation on all records: invalid parameter\n");
  // Two at once are both done or neither is.
  EXPECT_EQ(run({"-m", "node", "-o", "update", "-n", "node.startup", "-v", "manual", "-n", "node.nosuch", "-v", "1"}).code, 7);
  EXPECT_EQ(db_.read_node(disk_node)->get("node.startup"), "automatic");
  EXPECT_EQ(run({"-m", "node", "-o", "update", "-n", "node.startup"}).code, 7);
}

TEST_F(Node, CreatesAndDeletes) {
  const Outcome made =
      run({"-m", "node", "-T", "iqn.2026-05.org.moon:hand", "-p", "192.0.2.77:3999", "-o", "new"});
  EXPECT_EQ(made.code, 0);
  EXPECT_EQ(made.out,
            "New iSCSI node [tcp:[hw=,ip=,net_if=,iscsi_if=default] 192.0.2.77,3999,-1 "
            "iqn.2026-05.org.moon:hand] added\n");
  EXPECT_EQ(run({"-m", "node"}).out, "192.0.2.77:3999,4294967295 iqn.2026-05.org.moon:hand\n");
  EXPECT_EQ(
      run({"-m", "node", "-T", "iqn.2026-05.org.moon:hand", "-p", "192.0.2.77:3999,5", "-o", "new"}).code, 0);
  EXPECT_EQ(run({"-m", "node"}).out, "192.0.2.77:3999,5 iqn.2026-05.org.moon:hand\n");
  EXPECT_EQ(run({"-m", "node", "-T", "iqn.2026-05.org.moon:hand", "-o", "delete"}).code, 0);
  EXPECT_EQ(run({"-m", "node", "-T", "iqn.2026-05.org.moon:hand", "-o", "delete"}).code, 21);
  EXPECT_EQ(run({"-m", "node", "-o", "new"}).code, 7);
}

TEST_F(Node, ARecordInUseIsNotDeleted) {
  add_node(disk_node);
  set_sessions({session(1, disk_node)});
  const Outcome outcome = run({"-m", "node", "-T", disk_node.target, "-p", "192.0.2.1:3260", "-o", "delete"});
  EXPECT_EQ(outcome.code, 15);
  EXPECT_EQ(
      outcome.err,
      "iscsiadm: This command will remove the record [iface: default, target: iqn.2026-05.org.moon:disk, "
      "portal: "
      "192.0.2.1,3260], but a session is using it. Logout session then rerun command to remove record.\n"
      "iscsiadm: Could not execute operation on all records: session exists\n");
  EXPECT_TRUE(db_.read_node(disk_node));
}

TEST_F(Node, LogsInWithTheTwoLinesPeopleKnow) {
  add_node(disk_node);
  answer("login", 0, {{"sid", 1}});
  const Outcome outcome = run({"-m", "node", "-T", disk_node.target, "-p", "192.0.2.1", "--login"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(
      outcome.out,
      "Logging in to [iface: default, target: iqn.2026-05.org.moon:disk, portal: 192.0.2.1,3260]\n"
      "Login to [iface: default, target: iqn.2026-05.org.moon:disk, portal: 192.0.2.1,3260] successful.\n");
  EXPECT_EQ(control::text_of(daemon_.requests.back().second["node"], "node.name"), disk_node.target);
}

TEST_F(Node, AFailedLoginIsToldAndTheOthersGoOn) {
  add_node(disk_node);
  add_node(tape_node);
  daemon_.answers["login"] = [](const control::Json& args, const auto&) {
    const bool disk = control::text_of(args["node"], "node.name") == disk_node.target;
    return control::Reply{disk ? 24 : 0, "", {}};
  };
  const Outcome outcome = run({"-m", "node", "--login"});
  EXPECT_EQ(outcome.code, 24);
  EXPECT_EQ(
      outcome.out,
      "Logging in to [iface: default, target: iqn.2026-05.org.moon:disk, portal: 192.0.2.1,3260]\n"
      "Logging in to [iface: default, target: iqn.2026-05.org.moon:tape, portal: 192.0.2.1,3260]\n"
      "Login to [iface: default, target: iqn.2026-05.org.moon:tape, portal: 192.0.2.1,3260] successful.\n");
  EXPECT_EQ(outcome.err,
            "iscsiadm: Could not login to [iface: default, target: iqn.2026-05.org.moon:disk, portal: "
            "192.0.2.1,3260].\n"
            "iscsiadm: initiator reported error (24 - iSCSI login failed due to authorization failure)\n"
            "iscsiadm: Could not log into all portals\n");
}

TEST_F(Node, LoginFailuresCarryTheirNumbersAndWords) {
  add_node(disk_node);
  const std::pair<int, const char*> cases[] = {{8, "connection timed out"},
                                               {19, "encountered non-retryable iSCSI login failure"},
                                               {20, "could not connect to iscsid"}};
  for (const auto& [code, words] : cases) {
    answer("login", code);
    const Outcome outcome = run({"-m", "node", "-T", disk_node.target, "-l"});
    EXPECT_EQ(outcome.code, code);
    EXPECT_NE(outcome.err.find("initiator reported error (" + std::to_string(code) + " - " + words + ")\n"),
              std::string::npos);
  }
}

TEST_F(Node, ASecondLoginFindsTheSessionThere) {
  add_node(disk_node);
  set_sessions({session(1, disk_node)});
  const Outcome outcome = run({"-m", "node", "-T", disk_node.target, "-p", "192.0.2.1:3260", "--login"});
  EXPECT_EQ(outcome.code, 15);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err,
            "iscsiadm: default: 1 session requested, but 1 already present.\niscsiadm: Could not log into "
            "all portals\n");
}

TEST_F(Node, LoginAllGoesByTheStartupOfTheRecord) {
  add_node(disk_node);
  add_node(tape_node);
  answer("login", 0);
  EXPECT_EQ(run({"-m", "node", "-L", "automatic"}).err, "iscsiadm: No records found\n");
  ASSERT_EQ(run({"-m", "node", "-T", tape_node.target, "-o", "update", "-n", "node.startup", "-v", "automatic"}).code, 0);
  EXPECT_EQ(
      run({"-m", "node", "--loginall=automatic"}).out,
      "Logging in to [iface: default, target: iqn.2026-05.org.moon:tape, portal: 192.0.2.1,3260]\n"
      "Login to [iface: default, target: iqn.2026-05.org.moon:tape, portal: 192.0.2.1,3260] successful.\n");
  EXPECT_EQ(run({"-m", "node", "--loginall=sometimes"}).code, 7);
}

TEST_F(Node, NoWaitReturnsBeforeTheLoginIsThrough) {
  add_node(disk_node);
  answer("login", 0);
  const Outcome outcome = run({"-m", "node", "-l", "-W"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out,
            "Logging in to [iface: default, target: iqn.2026-05.org.moon:disk, portal: 192.0.2.1,3260]\n");
  EXPECT_TRUE(control::flag_of(daemon_.requests.back().second, "no_wait"));
}

TEST_F(Node, LogsOut) {
  const Outcome none = run({"-m", "node", "-T", "iqn.nosuch", "--logout"});
  EXPECT_EQ(none.code, 21);
  EXPECT_EQ(none.err, "iscsiadm: No matching sessions found\n");
  set_sessions({session(6, disk_node), session(7, tape_node)});
  answer("logout", 0);
  const Outcome outcome = run({"-m", "node", "-T", disk_node.target, "-p", "192.0.2.1:3260", "--logout"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out,
            "Logging out of session [sid: 6, target: iqn.2026-05.org.moon:disk, portal: 192.0.2.1,3260]\n"
            "Logout of [sid: 6, target: iqn.2026-05.org.moon:disk, portal: 192.0.2.1,3260] successful.\n");
  EXPECT_EQ(control::number_of(daemon_.requests.back().second, "sid"), 6);
  answer("logout", 28);
  EXPECT_EQ(run({"-m", "node", "--logoutall=all"}).code, 28);
  EXPECT_EQ(run({"-m", "node", "--logoutall=automatic"}).code, 21);
}

TEST_F(Node, RescansAndCounts) {
  EXPECT_EQ(run({"-m", "node", "-T", disk_node.target, "--rescan"}).err, "iscsiadm: No session found.\n");
  auto view = session(1, disk_node);
  view.snmp = {{"txdata_octets", 8404}, {"rxdata_octets", 2159908}};
  view.extended = {{"eh_abort_cnt", 0}};
  set_sessions({view});
  answer("rescan", 0);
  EXPECT_EQ(run({"-m", "node", "-T", disk_node.target, "-R"}).out,
            "Rescanning session [sid: 1, target: iqn.2026-05.org.moon:disk, portal: 192.0.2.1,3260]\n");
  EXPECT_EQ(
      run({"-m", "session", "-s"}).out,
      "Stats for session [sid: 1, target: iqn.2026-05.org.moon:disk, portal: 192.0.2.1,3260]\n"
      "iSCSI SNMP:\n\ttxdata_octets: 8404\n\trxdata_octets: 2159908\niSCSI Extended:\n\teh_abort_cnt: 0\n");
}

TEST_F(SessionMode, NothingThere) {
  EXPECT_EQ(run({"-m", "session"}).code, 21);
  EXPECT_EQ(run({"-m", "session", "-P", "3"}).err, "iscsiadm: No active sessions.\n");
  EXPECT_EQ(run({"-m", "session", "-r", "9"}).code, 22);
  daemon_.listening = false;
  const Outcome outcome = run({"-m", "session"});
  EXPECT_EQ(outcome.code, 21);
  EXPECT_EQ(outcome.err, "iscsiadm: No active sessions.\n");
  EXPECT_EQ(daemon_.starts, 0);
}

const char* const level_one =
    "Target: iqn.2026-05.org.moon:disk (non-flash)\n"
    "\tCurrent Portal: 192.0.2.1:3260,1\n"
    "\tPersistent Portal: 192.0.2.1:3260,1\n"
    "\t\t**********\n"
    "\t\tInterface:\n"
    "\t\t**********\n"
    "\t\tIface Name: default\n"
    "\t\tIface Transport: tcp\n"
    "\t\tIface Initiatorname: iqn.2026-11.io.perilune:one\n"
    "\t\tIface IPaddress: 192.0.2.99\n"
    "\t\tIface HWaddress: default\n"
    "\t\tIface Netdev: default\n"
    "\t\tSID: 1\n"
    "\t\tiSCSI Connection State: LOGGED IN\n"
    "\t\tiSCSI Session State: LOGGED_IN\n"
    "\t\tInternal iscsid Session State: NO CHANGE\n";

const char* const level_two =
    "\t\t*********\n"
    "\t\tTimeouts:\n"
    "\t\t*********\n"
    "\t\tRecovery Timeout: 120\n"
    "\t\tTarget Reset Timeout: 30\n"
    "\t\tLUN Reset Timeout: 30\n"
    "\t\tAbort Timeout: 15\n"
    "\t\t*****\n"
    "\t\tCHAP:\n"
    "\t\t*****\n"
    "\t\tusername: <empty>\n"
    "\t\tpassword: ********\n"
    "\t\tusername_in: <empty>\n"
    "\t\tpassword_in: ********\n"
    "\t\t************************\n"
    "\t\tNegotiated iSCSI params:\n"
    "\t\t************************\n"
    "\t\tHeaderDigest: None\n"
    "\t\tDataDigest: None\n"
    "\t\tMaxRecvDataSegmentLength: 262144\n"
    "\t\tMaxXmitDataSegmentLength: 8192\n"
    "\t\tFirstBurstLength: 65536\n"
    "\t\tMaxBurstLength: 262144\n"
    "\t\tImmediateData: Yes\n"
    "\t\tInitialR2T: Yes\n"
    "\t\tMaxOutstandingR2T: 1\n";

const char* const level_three =
    "\t\t************************\n"
    "\t\tAttached SCSI devices:\n"
    "\t\t************************\n"
    "\t\tHost Number: 0\tState: running\n"
    "\t\tscsi0 Channel 00 Id 0 Lun: 0\n"
    "\t\tscsi0 Channel 00 Id 0 Lun: 1\n"
    "\t\t\tAttached scsi disk loop4\t\tState: running\n";

TEST_F(SessionMode, EveryLevelLooksAsTheOriginals) {
  set_sessions({session(1, disk_node)});
  EXPECT_EQ(run({"-m", "session"}).out, "tcp: [1] 192.0.2.1:3260,1 iqn.2026-05.org.moon:disk (non-flash)\n");
  EXPECT_EQ(run({"-m", "session", "-P", "1"}).out, level_one);
  EXPECT_EQ(run({"-m", "session", "-P", "2"}).out, std::string(level_one) + level_two);
  EXPECT_EQ(run({"-m", "session", "-P", "3"}).out,
            std::string("iSCSI Transport Class version 2.0-870\nversion 2.1.8\n") + level_one + level_two +
                level_three);
  EXPECT_EQ(run({"-m", "session", "-P", "4"}).code, 7);
}

TEST_F(SessionMode, RecoveryLevelAndConnectionsAreShownWhereTheyAreMoreThanTheOriginals) {
  control::SessionView view = session(1, disk_node);
  view.error_recovery_level = 2;
  view.default_time2wait = 1;
  view.default_time2retain = 20;
  view.max_connections = 4;
  view.connections = {0, 1, 3};
  set_sessions({view});
  EXPECT_EQ(run({"-m", "session", "-P", "2"}).out, std::string(level_one) + level_two +
                                                       "\t\tErrorRecoveryLevel: 2\n"
                                                       "\t\tDefaultTime2Wait: 1\n"
                                                       "\t\tDefaultTime2Retain: 20\n"
                                                       "\t\tMaxConnections: 4\n"
                                                       "\t\tConnections (CID): 0, 1, 3\n");
}

TEST_F(SessionMode, SecretsAreShownOnlyWhenAskedFor) {
  auto view = session(1, disk_node);
  ASSERT_TRUE(view.node.set("node.session.auth.username", "moon"));
  ASSERT_TRUE(view.node.set("node.session.auth.password", "twelve or more"));
  set_sessions({view});
  EXPECT_NE(run({"-m", "session", "-P", "2"}).out.find("\t\tusername: moon\n\t\tpassword: ********\n"),
            std::string::npos);
  EXPECT_NE(
      run({"-m", "session", "-S", "-P", "2"}).out.find("\t\tusername: moon\n\t\tpassword: twelve or more\n"),
      std::string::npos);
}

TEST_F(SessionMode, OneTargetWithTwoSessionsHasOneHeading) {
  set_sessions({session(1, disk_node), session(2, disk_node)});
  const std::string out = run({"-m", "session", "-P", "1"}).out;
  EXPECT_EQ(out.find("Target:"), out.rfind("Target:"));
  EXPECT_EQ(out.find("Current Portal:"), out.rfind("Current Portal:"));
  EXPECT_NE(out.find("SID: 1\n"), std::string::npos);
  EXPECT_NE(out.find("SID: 2\n"), std::string::npos);
}

TEST_F(SessionMode, CopiesASession) {
  set_sessions({session(1, disk_node)});
  answer("login", 0);
  const Outcome outcome = run({"-m", "session", "--op=new", "-r", "1"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(
      outcome.out,
      "Logging in to [iface: default, target: iqn.2026-05.org.moon:disk, portal: 192.0.2.1,3260] (multiple)\n"
      "Login to [iface: default, target: iqn.2026-05.org.moon:disk, portal: 192.0.2.1,3260] successful.\n");
}

TEST_F(SessionMode, ShowsAndChangesTheRecordBehindIt) {
  add_node(disk_node);
  set_sessions({session(1, disk_node)});
  EXPECT_TRUE(run({"-m", "session", "-r", "1", "-o", "show"})
                  .out.starts_with("# BEGIN RECORD 2.1.8\nnode.name = iqn.2026-05"));
  EXPECT_EQ(run({"-m", "session", "-r", "1", "-o", "update", "-n", "node.startup", "-v", "automatic"}).code, 0);
  EXPECT_EQ(db_.read_node(disk_node)->get("node.startup"), "automatic");
}

TEST_F(SessionMode, Hosts) {
  EXPECT_EQ(run({"-m", "host"}).err, "iscsiadm: No iSCSI hosts.\n");
  set_sessions({session(1, disk_node)});
  EXPECT_EQ(run({"-m", "host"}).out, "tcp: [0] 192.0.2.99,[<empty>],<empty> <empty>\n");
  EXPECT_EQ(run({"-m", "fw"}).err, "iscsiadm: Could not get list of targets from firmware. (err 21)\n");
}

TEST_F(Iface, TheTwoThatAlwaysExist) {
  EXPECT_EQ(run({"-m", "iface"}).out, "default tcp,<empty>,<empty>,<empty>,<empty>\niser iser,<empty>,<empty>,<empty>,<empty>\n");
  EXPECT_EQ(run({"-m", "iface", "-P", "1"}).out, "");
  const Outcome outcome = run({"-m", "iface", "-I", "default", "-o", "delete"});
  EXPECT_EQ(outcome.code, 7);
  EXPECT_EQ(outcome.err, "iscsiadm: iface default is a special interface and cannot be deleted.\n"
                         "iscsiadm: Could not delete iface default: invalid parameter\n");
  EXPECT_EQ(run({"-m", "iface", "-I", "nosuch"}).code, 6);
}

TEST_F(Iface, CreatesUpdatesBindsAndDeletes) {
  EXPECT_EQ(run({"-m", "iface", "-I", "net7", "-o", "new"}).out, "net7 updated.\nNew interface net7 added\n");
  EXPECT_EQ(run({"-m", "iface", "-I", "net7", "-o", "update", "-n", "iface.net_ifacename", "-v", "eth7"}).out, "net7 updated.\n");
  const Outcome bad = run({"-m", "iface", "-I", "net7", "-o", "update", "-n", "nosuch.name", "-v", "1"});
  EXPECT_EQ(bad.err, "iscsiadm: Cannot modify nosuch.name. Invalid param name.\n"
                     "iscsiadm: Could not update iface net7: invalid parameter\n");
  EXPECT_EQ(run({"-m", "iface"}).out,
            "net7 tcp,<empty>,<empty>,eth7,<empty>\ndefault tcp,<empty>,<empty>,<empty>,<empty>\n"
            "iser iser,<empty>,<empty>,<empty>,<empty>\n");
  find(two_targets);
  ASSERT_EQ(run({"-m", "discovery", "-t", "st", "-p", "192.0.2.1", "-I", "net7"}).code, 0);
  EXPECT_EQ(run({"-m", "iface", "-P", "1"}).out,
            "Iface: net7\n"
            "\tTarget: iqn.2026-05.org.moon:disk\n\t\tPortal: 192.0.2.1:3260,1\n"
            "\tTarget: iqn.2026-05.org.moon:tape\n\t\tPortal: 192.0.2.1:3260,1\n"
            "Iface: default\nIface: iser\n");
  config::NodeKey bound = disk_node;
  bound.iface = "net7";
  EXPECT_EQ(db_.read_node(bound)->get("iface.net_ifacename"), "eth7");
  EXPECT_EQ(run({"-m", "iface", "-I", "net7", "-o", "delete"}).out, "net7 unbound and deleted.\n");
  EXPECT_TRUE(db_.list_nodes().value().empty());
  EXPECT_EQ(run({"-m", "discovery", "-t", "st", "-p", "192.0.2.1", "-I", "nosuch"}).code, 21);
}

}  // namespace
}  // namespace perilune::cli::iscsiadm
