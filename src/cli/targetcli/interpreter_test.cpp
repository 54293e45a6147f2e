// SPDX-License-Identifier: Apache-2.0
#include "cli/targetcli/interpreter.hpp"

#include <gtest/gtest.h>

#include "cli/targetcli/command_line.hpp"
#include "cli/targetcli/completion.hpp"
#include "cli/targetcli/fake_administration_test.hpp"

namespace perilune::cli::targetcli {
namespace {

using test::Shell;
using Kind = test::FileProbe::Kind;

const std::string target = "/iscsi/iqn.2026-11.io.perilune:a";
const std::string group = target + "/tpg1";
const std::string host = "iqn.2026-11.io.perilune:host";

// One disk, one target that exports it to one host.
Shell served() {
  Shell shell;
  for (const std::string& line :
       {std::string("/backstores/ramdisk create disk 16M"), "/iscsi create " + target.substr(7),
        group + "/luns create /backstores/ramdisk/disk", group + "/acls create " + host}) {
    const Answer answer = shell.run(line);
    EXPECT_EQ(answer.exit_code, 0) << line << ": " << answer.error;
  }
  return shell;
}

// ---- the line

TEST(TargetcliLine, HasAPathACommandValuesAndNames) {
  const auto line = parse_command_line("  /a/b  create x size=5 'y z' \"a=b\"  k=");
  ASSERT_TRUE(line.has_value());
  EXPECT_EQ(line->path, "/a/b");
  EXPECT_EQ(line->command, "create");
  EXPECT_EQ(line->values, (std::vector<std::string>{"x", "y z", "a=b"}));
  EXPECT_EQ(line->named, (std::vector<std::pair<std::string, std::string>>{{"size", "5"}, {"k", ""}}));
}

TEST(TargetcliLine, AValueMayHoldAnything) {
  const auto line = parse_command_line(R"(set auth password="a \"b\" = c" userid=x!#$%=y)");
  ASSERT_TRUE(line.has_value());
  EXPECT_EQ(line->named, (std::vector<std::pair<std::string, std::string>>{{"password", "a \"b\" = c"},
                                                                           {"userid", "x!#$%=y"}}));
}

TEST(TargetcliLine, AQuoteWithoutEndIsAnError) {
  const auto line = parse_command_line("set x 'abc");
  ASSERT_FALSE(line.has_value());
  EXPECT_EQ(line.error().message, "The quote at column 7 has no end; close it");
}

TEST(TargetcliLine, MonstersAreRefused) {
  EXPECT_EQ(parse_command_line(std::string(max_line_bytes + 1, 'x')).error().code, Errc::limit);
  std::string words;
  for (std::size_t i = 0; i <= max_words; ++i) words += "x ";
  EXPECT_EQ(parse_command_line(words).error().code, Errc::limit);
}

TEST(TargetcliLine, QuotedWordsComeBack) {
  for (const std::string word : {"plain", "two words", "k=a \"b\" \\ c", "", "it's", "userid="}) {
    const auto words = split_words(quote_word(word));
    ASSERT_TRUE(words.has_value()) << word;
    ASSERT_EQ(words->size(), 1U) << word;
    EXPECT_EQ(words->front().text, word);
  }
}

// ---- what a session has negotiated

TEST(TargetcliParameters, OfAnAclAreThoseOfItsSession) {
  Shell shell = served();
  const std::string ask = group + "/acls/" + host + " get parameter MaxBurstLength";
  EXPECT_NE(shell.out(ask).find("MaxBurstLength=No Active iSCSI Session [ro]"), std::string::npos);
  targetd::SessionInfo session;
  session.group = {{target.substr(7)}, 1};
  session.initiator = host;
  session.parameters = {{"MaxBurstLength", "65536"}};
  shell.daemon.open_sessions = {session};
  EXPECT_NE(shell.out(ask).find("MaxBurstLength=65536 [ro]"), std::string::npos) << shell.out(ask);
}

// ---- moving about

TEST(TargetcliPaths, GoUpAndDownAndToBookmarks) {
  Shell shell = served();
  EXPECT_EQ(shell.out("cd " + group), "");
  EXPECT_EQ(shell.out("bookmarks add here"), "Bookmarked " + group + " as here.\n");
  EXPECT_EQ(shell.out("cd luns/../acls/./"), "");
  EXPECT_EQ(shell.session.path, group + "/acls");
  EXPECT_EQ(shell.out("@here/luns pwd"), group + "/luns\n");
  EXPECT_EQ(shell.out("/backstores"), "");
  EXPECT_EQ(shell.session.path, "/backstores");
  EXPECT_EQ(shell.out("cd @here"), "");
  EXPECT_EQ(shell.session.path, group);
  EXPECT_EQ(shell.out("cd @nowhere"), "error: No such bookmark nowhere");
  EXPECT_EQ(shell.out("cd ../../../../.."), "");
  EXPECT_EQ(shell.session.path, "/");
}

TEST(TargetcliPaths, HaveAHistory) {
  Shell shell;
  for (const char* const line : {"cd /iscsi", "cd /backstores", "cd <"}) EXPECT_EQ(shell.out(line), "");
  EXPECT_EQ(shell.session.path, "/iscsi");
  EXPECT_EQ(shell.out("cd <"), "");
  EXPECT_EQ(shell.session.path, "/");
  EXPECT_EQ(shell.out("cd <"), "error: The history of paths begins here");
  EXPECT_EQ(shell.out("cd >"), "");
  EXPECT_EQ(shell.out("cd >"), "");
  EXPECT_EQ(shell.session.path, "/backstores");
}

TEST(TargetcliPaths, LeadUpwardsWhenTheNodeIsGone) {
  Shell shell = served();
  EXPECT_EQ(shell.out("cd " + group + "/acls/" + host), "");
  EXPECT_EQ(shell.out("/iscsi delete " + target.substr(7)), "Deleted Target " + target.substr(7) + ".\n");
  EXPECT_EQ(shell.session.path, "/iscsi");
}

TEST(TargetcliSession, SurvivesItsJson) {
  Shell shell = served();
  for (const std::string& line :
       {std::string("cd /iscsi"), std::string("set global prompt_length=12 color_mode=false"),
        std::string("bookmarks add here")}) {
    EXPECT_EQ(shell.run(line).exit_code, 0);
  }
  shell.session.width = 77;
  const Session again = session_from_json(to_json(shell.session));
  EXPECT_EQ(to_json(again), to_json(shell.session));
  EXPECT_EQ(again.number("prompt_length"), 12U);
  EXPECT_EQ(*again.bookmark("here"), "/iscsi");
}

TEST(TargetcliSession, OfNonsenseIsANewOne) {
  for (
      const char* const text :
      {"5", "[]",
       R"({"path":7,"visited":[],"visited_at":-1,"bookmarks":{"a":1},"preferences":{"prompt_length":"x","nosuch":"1"},"width":1})"}) {
    const Session session = session_from_json(Json::parse(text));
    EXPECT_EQ(session.path, "/");
    EXPECT_TRUE(session.changed.empty());
    EXPECT_GE(session.width, 20U);
  }
}

// ---- one line, one transaction

TEST(Targetcli, OneLineIsOneTransactionWithItsAuthor) {
  Shell shell = served();
  const std::size_t before = shell.daemon.past.size();
  EXPECT_EQ(shell.run(group + " set auth userid=u password=topsecret1234").exit_code, 0);
  ASSERT_EQ(shell.daemon.past.size(), before + 1);
  EXPECT_EQ(shell.daemon.past.back().who, "root (pid 42): " + group + " set auth userid=u password=********");
}

TEST(Targetcli, ALineThatFailsChangesNothing) {
  Shell shell = served();
  const model::Configuration before = shell.daemon.own;
  shell.daemon.add_file("/srv", Kind::folder, 0);
  for (const std::string& line : {std::string("/backstores/ramdisk create disk 1M"),
                                  std::string("/backstores/ramdisk create x 0"),
                                  std::string("/backstores/ramdisk create x"),
                                  std::string("/backstores/ramdisk create x 1M nullio=maybe"),
                                  std::string("/backstores/ramdisk create x 1M 0 y z"),
                                  std::string("/backstores/ramdisk create x 1M colour=red"),
                                  std::string("/backstores/ramdisk create a/b 1M"),
                                  std::string("/backstores/ramdisk create x 1M size=2M"),
                                  std::string("/backstores/fileio create x /srv 1M"),
                                  std::string("/backstores/block create x /nowhere"),
                                  std::string("/backstores/pscsi create x 0:0:0:0"),
                                  std::string("/backstores/user:rbd create x 1M pool/image"),
                                  std::string("/backstores/ramdisk/disk/alua create g 0"),
                                  std::string("/backstores/ramdisk/disk/alua delete default_tg_pt_gp"),
                                  std::string("/backstores/ramdisk/disk/alua delete nosuch"),
                                  std::string("/loopback create"),
                                  target + " create 0",
                                  target + " create 70000",
                                  target + " create x",
                                  target + " delete 7",
                                  group + "/luns create /backstores/ramdisk/disk 3",
                                  group + "/luns create /nowhere",
                                  group + "/luns delete 9",
                                  group + "/acls create " + host,
                                  group + "/acls delete iqn.2026-11.io.perilune:other",
                                  group + "/acls tag " + host + " a/b",
                                  group + "/acls/" + host + " create 0 0",
                                  group + "/acls/" + host + " create 1 9",
                                  group + "/acls/" + host + " create 16384 0",
                                  group + "/acls/" + host + " delete 5",
                                  group + "/portals create 192.0.2.1",
                                  group + "/portals create nonsense",
                                  group + "/portals create 127.0.0.1 0",
                                  group + "/portals/0.0.0.0:3260 enable_iser true",
                                  group + " set attribute authentication=1 login_timeout=99",
                                  group + " set attribute authentication",
                                  group + " set nosuch a=1",
                                  group + " set parameter HeaderDigest=MD5",
                                  group + " set parameter FirstBurstLength=16777215",
                                  group + " get attribute nosuch",
                                  group + "/luns/lun0 set alua alua_tg_pt_gp_name=nosuch",
                                  std::string("sessions nonsense"),
                                  std::string("restoreconfig /nosuch/x 7"),
                                  std::string("diff /nosuch"),
                                  std::string("apply /nosuch"),
                                  std::string("ls / x"),
                                  std::string("bookmarks add"),
                                  std::string("bookmarks add a/b"),
                                  std::string("set global prompt_length=x"),
                                  std::string("set global color_path=purple")}) {
    const Answer answer = shell.run(line);
    EXPECT_EQ(answer.exit_code, 1) << line;
    EXPECT_FALSE(answer.error.empty()) << line;
    EXPECT_EQ(answer.error.find('\n'), std::string::npos) << line;
    EXPECT_EQ(shell.daemon.own, before) << line;
  }
  EXPECT_TRUE(shell.session.changed.empty());
}

TEST(Targetcli, SettingsOfOneLineAreAllMadeOrNone) {
  Shell shell = served();
  const Answer answer = shell.run(group + " set attribute authentication=1 login_timeout=99");
  EXPECT_EQ(answer.error, "Cannot set attribute login_timeout: [Errno 22] Invalid argument");
  EXPECT_EQ(answer.hint, "login_timeout must be a number from 5 to 30");
  EXPECT_EQ(shell.out(group + " get attribute authentication"), "authentication=0 \n");
}

TEST(Targetcli, ADryRunShowsThePlanAndDoesNothing) {
  Shell shell = served();
  const model::Configuration before = shell.daemon.own;
  shell.session.dry_run = true;
  EXPECT_EQ(shell.out("/backstores/ramdisk delete disk"),
            "Would remove " + group + "/acls/" + host + "/mapped_lun0\nWould remove " + group +
                "/luns/lun0\n" +
                "Would remove /backstores/ramdisk/disk/alua/default_tg_pt_gp\nWould remove "
                "/backstores/ramdisk/disk\n");
  shell.daemon.add_file("/srv", Kind::folder, 0);
  EXPECT_EQ(shell.out("/backstores/fileio create f /srv/f 1M"),
            "Would add /backstores/fileio/f\nWould add /backstores/fileio/f/alua/default_tg_pt_gp\n");
  EXPECT_FALSE(shell.daemon.files.contains("/srv/f"));
  EXPECT_EQ(shell.out("/backstores/ramdisk create disk 1M"), "error: Storage object ramdisk/disk exists");
  EXPECT_EQ(shell.daemon.own, before);
}

TEST(Targetcli, UndoTakesTheLastChangeBack) {
  Shell shell = served();
  const model::Configuration before = shell.daemon.own;
  EXPECT_EQ(shell.run("/backstores/ramdisk delete disk").exit_code, 0);
  const std::string number = std::to_string(shell.daemon.sequence());
  EXPECT_EQ(shell.out("undo"),
            "Undid change " + number + " (root (pid 42): /backstores/ramdisk delete disk)\n");
  EXPECT_EQ(shell.daemon.own, before);
  EXPECT_EQ(Shell().out("undo"),
            "error: There is nothing to undo: nothing was changed since the daemon was started");
}

TEST(Targetcli, TellsTheHistory) {
  Shell shell;
  EXPECT_EQ(shell.out("history"), "Nothing was changed since the daemon was started.\n");
  EXPECT_EQ(shell.run("/backstores/ramdisk create disk 1M").exit_code, 0);
  EXPECT_EQ(shell.out("history"),
            "1  2026-11-29 16:00:00  root (pid 42): /backstores/ramdisk create disk 1M\n");
}

TEST(Targetcli, AppliesAFileByItsDifferences) {
  Shell shell = served();
  shell.session.directory = "/home/me";
  EXPECT_EQ(shell.out("saveconfig mine.json"), "Configuration saved to /home/me/mine.json\n");
  EXPECT_EQ(shell.out("diff mine.json"), "There is no difference.\n");
  EXPECT_EQ(shell.run(group + "/acls delete " + host).exit_code, 0);
  const std::string plan =
      "add " + group + "/acls/" + host + "\nadd " + group + "/acls/" + host + "/mapped_lun0\n";
  EXPECT_EQ(shell.out("diff mine.json"), plan);
  EXPECT_EQ(shell.out("apply mine.json"), plan + "Applied /home/me/mine.json.\n");
  EXPECT_EQ(shell.out("apply mine.json"), "There is no difference.\n");
}

TEST(Targetcli, RestoresOneTargetOfAFile) {
  Shell shell = served();
  EXPECT_EQ(shell.run("/iscsi create iqn.2026-11.io.perilune:b").exit_code, 0);
  EXPECT_EQ(shell.run("saveconfig /tmp/both.json").exit_code, 0);
  EXPECT_EQ(shell.run("/iscsi delete iqn.2026-11.io.perilune:b").exit_code, 0);
  EXPECT_EQ(shell.out("restoreconfig /tmp/both.json target=iqn.2026-11.io.perilune:b"),
            "Configuration restored from /tmp/both.json\n");
  EXPECT_NE(shell.daemon.own.find<model::PortalGroup>({{"iqn.2026-11.io.perilune:b"}, 1}), nullptr);
  EXPECT_EQ(shell.out("restoreconfig /tmp/both.json storage_object=disk"),
            "error: storageobject 'ramdisk:disk' exist not restoring");
  EXPECT_EQ(shell.out("restoreconfig /tmp/both.json storage_object=nosuch"),
            "error: The file has no storage object nosuch");
}

TEST(Targetcli, LeavingDoesNotSaveNothingOverSomething) {
  Shell shell = served();
  EXPECT_EQ(shell.run("exit").exit_code, 0);
  EXPECT_TRUE(shell.session.quit);
  EXPECT_EQ(shell.run("clearconfig confirm=True").exit_code, 0);
  EXPECT_EQ(shell.run("exit").exit_code, 1);
  EXPECT_NE(shell.daemon.folder.text("saveconfig.json").find("ramdisk"), std::string::npos);
  EXPECT_EQ(shell.run("saveconfig").exit_code, 0);  // says so
  EXPECT_EQ(shell.daemon.folder.text("saveconfig.json").find("ramdisk"), std::string::npos);
}

// ---- what is made of itself

TEST(Targetcli, MakesANameForATarget) {
  Shell shell;
  const std::string name = "iqn.2026-11.io.perilune:box-1:sn.000000000001";
  EXPECT_EQ(shell.out("/iscsi create"),
            "Created target " + name +
                ".\nCreated TPG 1.\nGlobal pref auto_add_default_portal=true\n"
                "Created default portal listening on all IPs (0.0.0.0), port 3260.\n");
  EXPECT_NE(shell.daemon.own.find<model::Portal>({{{name}, 1}, "0.0.0.0", 3260}), nullptr);
}

TEST(Targetcli, PreferencesDecideWhatIsMade) {
  Shell shell = served();
  EXPECT_EQ(shell.run("set global auto_add_default_portal=false auto_enable_tpgt=no auto_add_mapped_luns=0")
                .exit_code,
            0);
  EXPECT_EQ(shell.out("/iscsi create iqn.2026-11.io.perilune:b"),
            "Created target iqn.2026-11.io.perilune:b.\nCreated TPG 1.\n");
  EXPECT_EQ(shell.out("/iscsi/iqn.2026-11.io.perilune:b status"),
            "Status for /iscsi/iqn.2026-11.io.perilune:b: TPGs: 1\n");
  EXPECT_EQ(shell.out("/iscsi/iqn.2026-11.io.perilune:b/tpg1 status"),
            "Status for /iscsi/iqn.2026-11.io.perilune:b/tpg1: disabled\n");
  EXPECT_EQ(shell.out(group + "/acls create iqn.2026-11.io.perilune:second"),
            "Created Node ACL for iqn.2026-11.io.perilune:second\n");
}

TEST(Targetcli, ANewLunIsMappedByEveryAcl) {
  Shell shell = served();
  EXPECT_EQ(shell.run("/backstores/ramdisk create second 1M").exit_code, 0);
  EXPECT_EQ(shell.out(group + "/luns create /backstores/ramdisk/second"),
            "Created LUN 1.\nCreated LUN 1->1 mapping in node ACL " + host + "\n");
  EXPECT_EQ(shell.run("/backstores/ramdisk create third 1M").exit_code, 0);
  EXPECT_EQ(shell.run(group + "/acls/" + host + " delete 1").exit_code, 0);
  EXPECT_EQ(shell.run(group + "/acls/" + host + " create 2 0").exit_code, 0);
  EXPECT_EQ(shell.out(group + "/luns create /backstores/ramdisk/third"),
            "Created LUN 2.\nCreated LUN 2->1 mapping in node ACL " + host + "\n");
}

TEST(Targetcli, MakesAnObjectOfAFileThatIsNamedAsALun) {
  Shell shell = served();
  shell.daemon.add_file("/srv/disk.img", Kind::regular, 1048576);
  shell.daemon.add_file("/dev/sdx", Kind::block, 1048576);
  EXPECT_EQ(shell.out(group + "/luns create /srv/disk.img 7 add_mapped_luns=false"),
            "Created storage object srv-disk.img.\nCreated LUN 7.\n");
  EXPECT_EQ(shell.out(group + "/acls/" + host + " create 4 /dev/sdx true"),
            "Created storage object dev-sdx.\nCreated LUN 1.\nCreated Mapped LUN 4.\n");
  EXPECT_EQ(shell.out(group + "/acls/" + host + "/mapped_lun4 status"),
            "Status for " + group + "/acls/" + host + "/mapped_lun4: lun1 block/dev-sdx (ro)\n");
  EXPECT_EQ(shell.out(group + "/acls/" + host + " create 5 /backstores/fileio/srv-disk.img"),
            "Created Mapped LUN 5.\n");
}

TEST(Targetcli, AFileThatWasMadeForNothingIsGoneAgain) {
  Shell shell;
  shell.daemon.add_file("/srv", Kind::folder, 0);
  EXPECT_EQ(shell.run("/backstores/fileio create 'bad name' /srv/f 1M").exit_code, 1);
  EXPECT_FALSE(shell.daemon.files.contains("/srv/f"));
}

TEST(Targetcli, AFileKeepsItsSize) {
  Shell shell;
  shell.daemon.add_file("/srv/f", Kind::regular, 4096);
  EXPECT_EQ(shell.out("/backstores/fileio create f /srv/f 1M"),
            "/srv/f exists, using its size (4096 bytes) instead\nCreated fileio f with size 4096\n");
}

TEST(Targetcli, AclsOfOneTagAreOne) {
  Shell shell = served();
  const std::string second = "iqn.2026-11.io.perilune:second";
  for (const std::string& line :
       {group + "/acls create " + second, group + "/acls tag " + host + " hosts",
        group + "/acls tag " + second + " hosts", group + "/acls/hosts set auth userid=u",
        group + "/acls/hosts delete 0", group + "/acls/hosts create 9 0"}) {
    EXPECT_EQ(shell.run(line).exit_code, 0) << line;
  }
  for (const std::string& initiator : {host, second}) {
    const model::NodeAclKey acl{{{target.substr(7)}, 1}, initiator};
    EXPECT_EQ(shell.daemon.own.find<model::NodeAcl>(acl)->chap.userid, "u");
    EXPECT_NE(shell.daemon.own.find<model::MappedLun>({acl, 9}), nullptr);
    EXPECT_EQ(shell.daemon.own.find<model::MappedLun>({acl, 0}), nullptr);
  }
  EXPECT_EQ(shell.run(group + "/acls untag hosts").exit_code, 0);
  EXPECT_EQ(shell.run(group + "/acls/" + host + " info").exit_code, 0);
}

// ---- what is shown

TEST(Targetcli, SecretsAreNeverShown) {
  Shell shell = served();
  std::string all;
  for (const std::string& line :
       {group + "/acls/" + host +
            " set auth userid=u password=topsecret1234 mutual_userid=m mutual_password=topsecret5678",
        group + "/acls/" + host + " get auth", group + "/acls/" + host + " info", std::string("history"),
        std::string("/iscsi set discovery_auth enable=true password=topsecret9999"),
        std::string("/iscsi get discovery_auth"), group + "/acls/" + host + " get auth password"}) {
    const Answer answer = shell.run(line);
    EXPECT_EQ(answer.exit_code, 0) << line;
    all += answer.out;
  }
  EXPECT_EQ(all.find("topsecret"), std::string::npos);
  EXPECT_NE(all.find("password=********"), std::string::npos);
}

TEST(Targetcli, WhereASecretIsKeptIsShown) {
  Shell shell = served();
  EXPECT_EQ(shell.out(group + " set auth userid=u password=@file:/etc/perilune/secrets/u"),
            "Parameter userid is now 'u'.\nParameter password is now '@file:/etc/perilune/secrets/u'.\n");
  EXPECT_EQ(shell.out(group + " get auth password"), "password=@file:/etc/perilune/secrets/u \n");
  EXPECT_EQ(shell.daemon.own.find<model::PortalGroup>({{target.substr(7)}, 1})->chap.password,
            model::Password::typed("@file:/etc/perilune/secrets/u"));
  EXPECT_EQ(shell.run(group + " set auth password=@credential:a/b").exit_code, 1);
}

TEST(Targetcli, AnEmptyValueIsNotTheNextWord) {
  Shell shell = served();
  EXPECT_EQ(shell.out(group + " set auth userid=u password=secret"),
            "Parameter userid is now 'u'.\nParameter password is now '********'.\n");
  EXPECT_EQ(shell.out(group + " set auth userid= password="),
            "Parameter userid is now ''.\nParameter password is now ''.\n");
  EXPECT_TRUE(shell.daemon.own.find<model::PortalGroup>({{target.substr(7)}, 1})->chap.password.empty());
}

TEST(Targetcli, AnswersInJson) {
  Shell shell = served();
  shell.session.json = true;
  const Json tree = Json::parse(shell.out("ls /iscsi"));
  EXPECT_EQ(tree["summary"], "Targets: 1");
  EXPECT_EQ(tree["children"][0]["children"][0]["path"], group);
  EXPECT_EQ(Json::parse(shell.out("/backstores/ramdisk/disk info"))["size"], "16777216");
  EXPECT_EQ(Json::parse(shell.out(group + " get attribute"))["login_timeout"], "15");
  EXPECT_EQ(Json::parse(shell.out("sessions")), Json::array());
  EXPECT_EQ(Json::parse(shell.out("/backstores/ramdisk create x 1M"))["messages"][0],
            "Created ramdisk x with size 1M.");
  const Answer answer = shell.run("/nosuch ls");
  EXPECT_EQ(Json::parse(answer.out)["error"]["message"], "No such path /nosuch");
  EXPECT_EQ(answer.exit_code, 1);
}

TEST(Targetcli, TreePreferencesShapeTheTree) {
  Shell shell;
  EXPECT_EQ(shell
                .run("set global tree_round_nodes=false tree_status_mode=false tree_show_root=false "
                     "tree_max_depth=1")
                .exit_code,
            0);
  EXPECT_EQ(shell.out("ls"), "+- backstores\n+- iscsi\n+- loopback\n+- vhost\n+- xen-pvscsi\n");
}

TEST(Targetcli, ColoursTellWhatIsWell) {
  Shell shell = served();
  shell.session.colour = true;
  EXPECT_NE(shell.out("ls " + group + "/portals").find("[\x1b[32mOK\x1b[0m]"), std::string::npos);
  EXPECT_EQ(shell.run("set global color_mode=false").exit_code, 0);
  EXPECT_EQ(shell.out("ls").find('\x1b'), std::string::npos);
}

TEST(Targetcli, AnErrorNamesTheFix) {
  Shell shell = served();
  const Answer missing = shell.run("/backstores/ramdisk create x");
  EXPECT_EQ(missing.error, "Missing required parameter 'size'");
  EXPECT_EQ(missing.hint, "the syntax is: create name size [nullio] [wwn]");
  const Answer portal = shell.run(group + "/portals create 192.0.2.1");
  EXPECT_EQ(portal.error, "Could not create NetworkPortal in configFS");
  EXPECT_EQ(portal.hint, group + "/portals/192.0.2.1:3260: is no address of this host");
  EXPECT_EQ(shell.run("/backstores/user:rbd create x 1M pool/x").error,
            "/backstores/user:rbd is not served: Perilune has no such backstore; use block, fileio, ramdisk "
            "or pscsi");
}

// ---- completion

std::vector<std::string> completions(Shell& shell, std::string_view line) {
  std::vector<std::string> texts;
  for (const Candidate& candidate : complete(shell.daemon, shell.session, line).words)
    texts.push_back(candidate.text);
  return texts;
}

TEST(TargetcliCompletion, KnowsPathsCommandsParametersAndValues) {
  Shell shell = served();
  using Texts = std::vector<std::string>;
  EXPECT_EQ(completions(shell, "/ba"), Texts{"/backstores/"});
  EXPECT_EQ(completions(shell, "/backstores/r"), Texts{"/backstores/ramdisk/"});
  EXPECT_EQ(completions(shell, "clear"), Texts{"clearconfig"});
  EXPECT_EQ(completions(shell, "cd isc"), Texts{"iscsi/"});
  EXPECT_EQ(completions(shell, "cd " + group + "/lu"), Texts{group + "/luns/"});
  EXPECT_EQ(completions(shell, "/backstores/ramdisk create x 1M n"), Texts{"nullio="});
  EXPECT_EQ(completions(shell, "/backstores/ramdisk create x 1M nullio=t"), Texts{"nullio=true"});
  EXPECT_EQ(completions(shell, "/backstores/ramdisk delete d"), Texts{"disk"});
  EXPECT_EQ(completions(shell, group + " get at"), Texts{"attribute"});
  EXPECT_EQ(completions(shell, group + " set attribute generate"), Texts{"generate_node_acls="});
  EXPECT_EQ(completions(shell, group + " set parameter InitialR2T="),
            (Texts{"InitialR2T=Yes", "InitialR2T=No"}));
  EXPECT_EQ(completions(shell, group + "/luns create /backstores/ramdisk/"),
            Texts{"/backstores/ramdisk/disk"});
  EXPECT_EQ(completions(shell, group + "/portals create 127"), Texts{"127.0.0.1"});
  EXPECT_EQ(completions(shell, group + "/portals delete 0"), Texts{"0.0.0.0"});
  EXPECT_EQ(completions(shell, "sessions d"), Texts{"detail"});
  EXPECT_EQ(completions(shell, "/nosuch x"), Texts{});
  EXPECT_EQ(completions(shell, "set 'x"), Texts{});
}

TEST(TargetcliCompletion, SaysWhereItBegins) {
  Shell shell;
  EXPECT_EQ(complete(shell.daemon, shell.session, "cd  is").start, 4U);
  EXPECT_EQ(complete(shell.daemon, shell.session, "cd ").start, 3U);
}

// ---- the front end

TEST(TargetcliFrontEnd, CarriesTheSessionAlong) {
  test::FakeAdministration daemon;
  targetd::FrontEndRequest request;
  request.who = "root (pid 1)";
  request.arguments = {"line", "cd /iscsi"};
  const auto moved = answer_front_end(request, daemon);
  EXPECT_EQ(moved.session["prompt"], "/iscsi> ");
  request.session = moved.session;
  request.arguments = {"line", "pwd"};
  EXPECT_EQ(answer_front_end(request, daemon).out, "/iscsi\n");
  request.arguments = {"complete", "cre"};
  EXPECT_EQ(Json::parse(answer_front_end(request, daemon).out)["words"][0]["text"], "create");
  request.arguments = {"line", "nosuch"};
  const auto wrong = answer_front_end(request, daemon);
  EXPECT_EQ(wrong.err, "Command not found nosuch (`help` lists the commands of /iscsi)\n");
  EXPECT_EQ(wrong.exit_code, 1);
  request.arguments = {"dance"};
  EXPECT_EQ(answer_front_end(request, daemon).exit_code, 1);
}

TEST(TargetcliFrontEnd, AnAnswerThatNoFrameHoldsIsRefused) {
  test::FakeAdministration daemon;
  for (int i = 0; i < 9000; ++i) {
    model::StorageObject object;
    object.size_bytes = 512;
    object.wwn = std::to_string(i);
    ASSERT_TRUE(
        daemon.own.apply(model::add<model::StorageObject>({model::Plugin::ramdisk, object.wwn}, object)));
  }
  targetd::FrontEndRequest request;
  request.session = {{"width", 1000}};
  request.arguments = {"line", "ls"};
  const auto whole = answer_front_end(request, daemon);
  EXPECT_EQ(whole.exit_code, 1);
  EXPECT_TRUE(whole.out.empty());
  EXPECT_EQ(whole.err, "The answer is longer than 15 MiB (ask for a part of it, as `ls PATH DEPTH` does)\n");
  request.arguments = {"line", "ls / 2"};
  EXPECT_EQ(answer_front_end(request, daemon).exit_code, 0);
}

}  // namespace
}  // namespace perilune::cli::targetcli
