// SPDX-License-Identifier: Apache-2.0
// What tgtadm 1.0.85 answered to the same, recorded on this machine, with our identifiers of disks.
#include "cli/tgt/tgtadm.hpp"

#include <gtest/gtest.h>

#include <sstream>

#include "cli/targetcli/fake_administration_test.hpp"
#include "config/target/saveconfig.hpp"

namespace perilune::cli::tgt {
namespace {

using targetcli::test::FakeAdministration;
using Kind = targetd::FileProbe::Kind;

const std::string one = "iqn.2026-11.io.perilune:one";

class Tgtadm : public testing::Test {
 protected:
  Tgtadm() {
    daemon.add_file("/srv/a.img", Kind::regular, 67108864);
    daemon.add_file("/srv/b.img", Kind::regular, 33554432);
    daemon.add_file("/dev/sdx", Kind::block, 1000000);
    daemon.add_file("/dev/sdy", Kind::block, 1000000, "mounted on /");
  }
  targetd::FrontEndAnswer run(const std::string& line) {
    targetd::FrontEndRequest request;
    request.who = "root (pid 7)";
    std::istringstream words(line);
    for (std::string word; words >> word;) request.arguments.push_back(word);
    return answer_tgtadm(request, daemon);
  }
  // The output of a line that must go well.
  std::string out(const std::string& line) {
    const auto answer = run("--lld iscsi " + line);
    EXPECT_EQ(answer.exit_code, 0) << line << ": " << answer.err;
    return answer.out;
  }
  // What it says of a line that must not; nothing has changed.
  std::string error(const std::string& line) {
    const model::Configuration before = daemon.own;
    const auto answer = run("--lld iscsi " + line);
    EXPECT_NE(answer.exit_code, 0) << line;
    EXPECT_EQ(answer.out, "");
    EXPECT_EQ(daemon.own, before) << line;
    return answer.err;
  }
  void make_one() {
    out("--op new --mode target --tid 1 -T " + one);
    out("--op new --mode logicalunit --tid 1 --lun 1 -b /srv/a.img");
  }
  targetd::FrontEndAnswer admin(std::vector<std::string> words, const model::Configuration& file = {}) {
    targetd::FrontEndRequest request;
    request.who = "root (pid 7)";
    request.arguments = std::move(words);
    request.input = model::write_saveconfig(file);
    return answer_tgt_admin(request, daemon);
  }
  FakeAdministration daemon;
};

TEST_F(Tgtadm, ShowsItsTargets) {
  EXPECT_EQ(out("--op show --mode target"), "");
  make_one();
  out("--op bind --mode target --tid 1 -I ALL");
  out("--op new --mode account --user u1 --password secretsecret1");
  out("--op new --mode account --user u2 --password secretsecret2");
  out("--op bind --mode account --tid 1 --user u1");
  out("--op bind --mode account --tid 1 --user u2 --outgoing");
  targetd::SessionInfo session{
      {{one}, 1}, "iqn.2026-11.io.perilune:host",        "", "00023d000001", 1, "LOGGED_IN",
      "u1",       {{0, "127.0.0.1", 40000, "LOGGED_IN"}}};
  daemon.open_sessions = {session};
  const std::string serial = daemon.own.all<model::StorageObject>().begin()->second.wwn;
  EXPECT_EQ(out("--op show --mode target"),
            "Target 1: iqn.2026-11.io.perilune:one\n"
            "    System information:\n"
            "        Driver: iscsi\n"
            "        State: ready\n"
            "    I_T nexus information:\n"
            "        I_T nexus: 1\n"
            "            Initiator: iqn.2026-11.io.perilune:host alias: none\n"
            "            Connection: 0\n"
            "                IP Address: 127.0.0.1\n"
            "    LUN information:\n"
            "        LUN: 0\n"
            "            Type: controller\n"
            "            SCSI ID: IET     00010000\n"
            "            SCSI SN: beaf10\n"
            "            Size: 0 MB, Block size: 1\n"
            "            Online: Yes\n"
            "            Removable media: No\n"
            "            Prevent removal: No\n"
            "            Readonly: No\n"
            "            SWP: No\n"
            "            Thin-provisioning: No\n"
            "            Backing store type: null\n"
            "            Backing store path: None\n"
            "            Backing store flags: \n"
            "        LUN: 1\n"
            "            Type: disk\n"
            "            SCSI ID: " +
                model::lio_naa(serial) +
                "\n"
                "            SCSI SN: " +
                serial +
                "\n"
                "            Size: 67 MB, Block size: 512\n"
                "            Online: Yes\n"
                "            Removable media: No\n"
                "            Prevent removal: No\n"
                "            Readonly: No\n"
                "            SWP: No\n"
                "            Thin-provisioning: No\n"
                "            Backing store type: rdwr\n"
                "            Backing store path: /srv/a.img\n"
                "            Backing store flags: \n"
                "    Account information:\n"
                "        u1\n"
                "        u2 (outgoing)\n"
                "    ACL information:\n"
                "        ALL\n");
  EXPECT_EQ(out("--op show --mode conn --tid 1"),
            "Session: 1\n    Connection: 0\n        Initiator: iqn.2026-11.io.perilune:host\n        IP "
            "Address: 127.0.0.1\n");
  EXPECT_EQ(out("--op show --mode account"), "Account list:\n    u1\n    u2\n");
  EXPECT_EQ(out("--op show --mode portal"), "Portal: 0.0.0.0:3260,1\n");
}

TEST_F(Tgtadm, ASecretMayBeKeptElsewhere) {
  make_one();
  out("--op new --mode account --user u1 --password @credential:u1");
  out("--op bind --mode account --tid 1 --user u1");
  EXPECT_EQ(daemon.own.find<model::PortalGroup>({{one}, 1})->chap.password.reference(), "@credential:u1");
  // The list of accounts remembers it as such.
  out("--op unbind --mode account --tid 1 --user u1");
  out("--op bind --mode account --tid 1 --user u1 --outgoing");
  EXPECT_EQ(daemon.own.find<model::PortalGroup>({{one}, 1})->chap.mutual_password.reference(),
            "@credential:u1");
}

TEST_F(Tgtadm, SaysWhatIsWrongInItsWords) {
  make_one();
  out("--op new --mode account --user u1 --password secretsecret1");
  const std::vector<std::pair<std::string, std::string>> lines{
      {"--op new --mode target --tid 1 -T iqn.2026-11.io.perilune:two", "tgtadm: this target already exists"},
      {"--op new --mode target --tid 2 -T " + one, "tgtadm: this target already exists"},
      {"--op new --mode target -T " + one, "tgtadm: 'tid' option is necessary"},
      {"--op new --mode target --tid 0 -T x", "tgtadm: 'tid' cannot be 0"},
      {"--op new --mode target --tid x -T x", "tgtadm: -t argument value 'x' invalid"},
      {"--op new --mode target --tid 2 -T nonsense", "tgtadm: invalid request"},
      {"--op new --mode logicalunit --tid 1 --lun 1 -b /srv/b.img",
       "tgtadm: this logical unit number already exists"},
      {"--op new --mode logicalunit --tid 1 --lun 0 -b /srv/b.img",
       "tgtadm: this logical unit number already exists"},
      {"--op new --mode logicalunit --tid 1 --lun 2 -b /srv/nosuch", "tgtadm: invalid request"},
      {"--op new --mode logicalunit --tid 1 --lun 2 -b /dev/sdy", "tgtadm: invalid request"},
      {"--op new --mode logicalunit --tid 1 --lun 2 -b /srv/b.img -Y tape", "tgtadm: invalid request"},
      {"--op new --mode logicalunit --tid 1 --lun 2 -b /srv/b.img -E sheepdog", "tgtadm: invalid request"},
      {"--op new --mode logicalunit --tid 1 --lun 2 -b /srv/b.img -y 513", "tgtadm: invalid request"},
      {"--op new --mode logicalunit --tid 9 --lun 2 -b /srv/b.img", "tgtadm: can't find the target"},
      {"--op new --mode logicalunit --tid 1 -b /srv/b.img", "tgtadm: 'lun' option is necessary"},
      {"--op delete --mode logicalunit --tid 1 --lun 7", "tgtadm: can't find the logical unit"},
      {"--op delete --mode target --tid 77", "tgtadm: can't find the target"},
      {"--op unbind --mode target --tid 1 -I ALL", "tgtadm: this access control rule does not exist"},
      {"--op bind --mode target --tid 1 -I somewhere", "tgtadm: invalid request"},
      {"--op new --mode account --user u1 --password x", "tgtadm: this account already exists"},
      {"--op new --mode account --user u2", "tgtadm: 'user' and 'password' options are required"},
      {"--op bind --mode account --tid 1 --user nosuch", "tgtadm: can't find the account"},
      {"--op update --mode target --tid 1 --name nosuch --value 1", "tgtadm: invalid request"},
      {"--op update --mode logicalunit --tid 1 --lun 1 --params nosuch=1", "tgtadm: invalid request"},
      {"--op show --mode logicalunit --tid 1 --lun 1",
       "tgtadm: operation show not supported in logicalunit mode"},
      {"--op nosuch --mode target", "tgtadm: unknown operation: nosuch"},
      {"--op show --mode nosuch", "tgtadm: unknown mode: nosuch"},
      {"--mode target", "tgtadm: specify the operation type"},
      {"--op show", "tgtadm: specify the mode"},
      {"--op new --mode portal", "tgtadm: you must specify --param portal=<portal>"},
      {"--nosuch", "tgtadm: unrecognized option '--nosuch'"},
      {"--op", "tgtadm: option '--op' requires an argument"}};
  for (const auto& [line, message] : lines)
    EXPECT_TRUE(error(line).starts_with(message)) << line << ": " << error(line);
  EXPECT_EQ(run("--lld fcoe --op show --mode target").err,
            "tgtadm: can't find the driver (iscsi is the only one)\n");
  EXPECT_EQ(run("--op nosuch --mode target").exit_code, 1);
  EXPECT_EQ(run("--nosuch").exit_code, 22);
  EXPECT_EQ(run("--op delete --mode target --tid 7").exit_code, 22);
}

TEST_F(Tgtadm, TakesOptionsInAllTheirForms) {
  EXPECT_EQ(run("-Liscsi -onew -mtgt -t1 --targetn=" + one).exit_code, 0);
  EXPECT_EQ(run("--op=new -m lu --tid 1 -l 3 --backing /srv/a.img --bsofl direct").exit_code, 0);
  EXPECT_NE(out("-o show -m target").find("Backing store flags: direct\n"), std::string::npos);
  EXPECT_EQ(run("-o new -m portal --param portal=[::1]:3262").exit_code, 0);
  EXPECT_EQ(out("-o show -m portal"), "Portal: 0.0.0.0:3260,1\nPortal: [::1]:3262,1\n");
  EXPECT_EQ(run("--b x").exit_code, 22);  // of several options the beginning
}

TEST_F(Tgtadm, InitiatorsAreLetInByName) {
  make_one();
  const std::string host = "iqn.2026-11.io.perilune:host";
  out("--op bind --mode target --tid 1 -Q " + host);
  const model::NodeAclKey acl{{{one}, 1}, host};
  EXPECT_NE(daemon.own.find<model::MappedLun>({acl, 1}), nullptr);
  out("--op new --mode logicalunit --tid 1 --lun 2 -b /dev/sdx");  // is seen at once
  EXPECT_NE(daemon.own.find<model::MappedLun>({acl, 2}), nullptr);
  EXPECT_TRUE(error("--op bind --mode target --tid 1 -Q " + host)
                  .starts_with("tgtadm: this access control rule already exists"));
  out("--op unbind --mode target --tid 1 -Q " + host);
  EXPECT_EQ(daemon.own.find<model::NodeAcl>(acl), nullptr);
}

TEST_F(Tgtadm, InitiatorsAreLetInByAddressAndThenByNameToo) {
  make_one();
  const model::PortalGroupKey key{{one}, 1};
  const auto open = [&] {
    return daemon.own.find<model::PortalGroup>(key)->attributes.number(model::group_attributes(),
                                                                       "generate_node_acls") != 0;
  };
  const auto addresses = [&] { return daemon.own.find<model::PortalGroup>(key)->initiator_addresses; };
  out("--op bind --mode target --tid 1 -I 192.0.2.0/24");
  out("--op bind --mode target --tid 1 -I 2001:DB8::0:1");
  EXPECT_EQ(addresses(), (std::vector<std::string>{"192.0.2.0/24", "2001:db8::1"}));
  EXPECT_TRUE(open());
  const std::string shown = out("--op show --mode target");
  EXPECT_NE(shown.find("    ACL information:\n        192.0.2.0/24\n        2001:db8::1\n"),
            std::string::npos)
      << shown;
  EXPECT_TRUE(error("--op bind --mode target --tid 1 -I 192.0.2.0/24")
                  .starts_with("tgtadm: this access control rule already exists"));
  out("--op bind --mode target --tid 1 -Q iqn.2026-11.io.perilune:host");
  EXPECT_FALSE(open());
  out("--op unbind --mode target --tid 1 -Q iqn.2026-11.io.perilune:host");
  EXPECT_TRUE(open());
  out("--op unbind --mode target --tid 1 -I 192.0.2.0/24");
  EXPECT_TRUE(open());
  out("--op unbind --mode target --tid 1 -I 2001:db8::1");
  EXPECT_FALSE(open());
  EXPECT_TRUE(error("--op unbind --mode target --tid 1 -I 2001:db8::1")
                  .starts_with("tgtadm: this access control rule does not exist"));
  EXPECT_TRUE(
      error("--op bind --mode target --tid 1 -I 192.0.2.0/33").starts_with("tgtadm: invalid request"));
  out("--op bind --mode target --tid 1 -I 192.0.2.1");
  out("--op bind --mode target --tid 1 -I ALL");  // that is from everywhere
  EXPECT_TRUE(addresses().empty() && open());
}

TEST_F(Tgtadm, StatisticsAreOfLogicalUnits) {
  make_one();
  daemon.counters[{{{one}, 1}, 1}] = {3, 4096, 5, 1048576, 1};
  const std::string head =
      "tgt lun sid rd_subm(bytes,cmds) rd_done(bytes,cmds) wr_subm(bytes,cmds) wr_done(bytes,cmds) errs\n";
  const std::string line =
      "  1   1   0         4096      3         4096      3      1048576      5      1048576      5    1\n";
  EXPECT_EQ(out("--op stat --mode target --tid 1"), head + line);
  EXPECT_EQ(out("--op stat --mode system"), head + line);
  EXPECT_EQ(out("--op stat --mode logicalunit --tid 1 --lun 1"), head + line);
  EXPECT_TRUE(error("--op stat --mode logicalunit --tid 1 --lun 9")
                  .starts_with("tgtadm: can't find the logical unit"));
  EXPECT_TRUE(error("--op stat --mode target --tid 7").starts_with("tgtadm: can't find the target"));
}

TEST_F(Tgtadm, ATargetThatIsUsedGoesByForceAlone) {
  make_one();
  daemon.open_sessions = {{{{one}, 1}, "iqn.2026-11.io.perilune:host", "", "", 1, "LOGGED_IN", "", {}}};
  EXPECT_TRUE(error("--op delete --mode target --tid 1").starts_with("tgtadm: this target is still active"));
  out("--op delete --mode target --tid 1 --force");
  EXPECT_TRUE(daemon.own.serves_nothing());
}

TEST_F(Tgtadm, AnAccountThatGoesLeavesNoDoorOpen) {
  make_one();
  out("--op new --mode account --user u1 --password secretsecret1");
  out("--op bind --mode account --tid 1 --user u1");
  out("--op delete --mode account --user u1");
  const auto* const group = daemon.own.find<model::PortalGroup>({{one}, 1});
  EXPECT_TRUE(group->chap.userid.empty());
  EXPECT_EQ(group->attributes.number(model::group_attributes(), "authentication"), 1);
  EXPECT_EQ(out("--op show --mode account"), "");
}

TEST_F(Tgtadm, AnAccountCanBeBoundAgain) {
  make_one();
  out("--op new --mode account --user u1 --password secretsecret1");
  out("--op bind --mode account --tid 1 --user u1");
  out("--op unbind --mode account --tid 1 --user u1");
  EXPECT_EQ(daemon.own.find<model::PortalGroup>({{one}, 1})
                ->attributes.number(model::group_attributes(), "authentication"),
            0);
  out("--op bind --mode account --tid 1 --user u1");
  EXPECT_EQ(daemon.own.find<model::PortalGroup>({{one}, 1})->chap.password, model::Password("secretsecret1"));
}

TEST_F(Tgtadm, TheJournalHasNoSecret) {
  out("--op new --mode account --user u1 --password secretsecret1");
  EXPECT_EQ(daemon.past.back().who.find("secretsecret1"), std::string::npos);
}

TEST_F(Tgtadm, NumbersStayWithTheirTargets) {
  out("--op new --mode target --tid 7 -T " + one);
  EXPECT_TRUE(
      daemon.own.apply(model::add<model::Target>({"iqn.2026-11.io.perilune:another"}, {})).has_value());
  const Tids tids = tids_of(daemon.own);
  EXPECT_EQ(tids.at(7).wwn, one);
  EXPECT_EQ(tids.at(1).wwn, "iqn.2026-11.io.perilune:another");
}

TEST_F(Tgtadm, AnotherStateClosesATarget) {
  make_one();
  out("--op update --mode target --tid 1 --name state --value offline");
  EXPECT_NE(out("--op show --mode target").find("State: offline"), std::string::npos);
  out("--op update --mode target --tid 1 -n MaxBurstLength -v 524288");
  EXPECT_NE(out("--op show --mode target --tid 1").find("MaxBurstLength=524288\n"), std::string::npos);
}

// ---- tgt-admin

model::Configuration file_with(const std::string& name, const std::string& path) {
  FakeAdministration other;
  other.add_file(path, Kind::regular, 1048576);
  const model::TargetKey key{name};
  EXPECT_TRUE(model::apply_all(other.own, new_target(other.own, key, 1)).has_value());
  const auto unit = changes_for_unit(other, {{key, 1}, 1}, {path, "", "", "", ""}, "serial-of-" + path);
  EXPECT_TRUE(unit.has_value() && model::apply_all(other.own, *unit).has_value());
  return other.own;
}

TEST_F(Tgtadm, AdminMakesWhatTheFileSays) {
  make_one();
  EXPECT_TRUE(
      daemon.own.apply(model::add<model::Target>({"iqn.2026-11.io.perilune:of-targetcli"}, {})).has_value());
  const auto file = file_with("iqn.2026-11.io.perilune:conf", "/srv/c.img");
  const auto pretended = admin({"execute", "ALL", "pretend"}, file);
  EXPECT_NE(pretended.out.find("add /iscsi/iqn.2026-11.io.perilune:conf/tpg1/luns/lun1\n"),
            std::string::npos);
  EXPECT_EQ(tids_of(daemon.own).size(), 2U);
  EXPECT_EQ(admin({"execute", "ALL"}, file).err, "");
  EXPECT_EQ(daemon.own.find<model::Target>({one}), nullptr);  // tgt's, and not in the file
  EXPECT_NE(daemon.own.find<model::Target>({"iqn.2026-11.io.perilune:of-targetcli"}), nullptr);
  EXPECT_NE(daemon.own.find<model::Lun>({{{"iqn.2026-11.io.perilune:conf"}, 1}, 1}), nullptr);
  const std::size_t before = daemon.past.size();
  EXPECT_EQ(admin({"update", "ALL"}, file).err, "");
  EXPECT_EQ(daemon.past.size(), before);  // nothing differed
}

TEST_F(Tgtadm, AdminTakesNumbersAndAccountsOfDiscoveryFromTheFile) {
  auto file = file_with("iqn.2026-11.io.perilune:conf", "/srv/c.img");
  EXPECT_TRUE(file.apply(model::set<model::Target>({"iqn.2026-11.io.perilune:conf"}, target_with_tid(9)))
                  .has_value());
  model::Discovery discovery;
  discovery.enable = true;
  discovery.chap.userid = "u3";
  discovery.chap.password = model::Password("secretsecret3");
  EXPECT_TRUE(file.apply(model::add<model::Discovery>({}, discovery)).has_value());
  EXPECT_EQ(admin({"execute", "ALL"}, file).err, "");
  EXPECT_EQ(tids_of(daemon.own).at(9).wwn, "iqn.2026-11.io.perilune:conf");
  ASSERT_NE(daemon.own.find<model::Discovery>({}), nullptr);
  EXPECT_EQ(daemon.own.find<model::Discovery>({})->chap, discovery.chap);
  EXPECT_TRUE(daemon.own.find<model::Discovery>({})->enable);
  EXPECT_EQ(out("--op show --mode account"), "Account list:\n    u3\n");
  // tgtadm's way to the same.
  out("--op unbind --mode account --user u3");
  EXPECT_FALSE(daemon.own.find<model::Discovery>({})->enable);
  out("--op bind --mode account --user u3");
  EXPECT_TRUE(daemon.own.find<model::Discovery>({})->enable);
  // One that goes leaves no door open.
  out("--op delete --mode account --user u3");
  EXPECT_TRUE(daemon.own.find<model::Discovery>({})->enable);
  EXPECT_TRUE(daemon.own.find<model::Discovery>({})->chap.userid.empty());
}

TEST_F(Tgtadm, AnotherSerialNumberIsAnotherDiskInItsPlace) {
  make_one();
  out("--op bind --mode target --tid 1 -Q iqn.2026-11.io.perilune:host");
  out("--op update --mode logicalunit --tid 1 --lun 1 --params scsi_sn=SN0001,readonly=1");
  const auto& [key, object] = *daemon.own.all<model::StorageObject>().begin();
  EXPECT_EQ(object.wwn, "SN0001");
  EXPECT_TRUE(object.readonly);
  EXPECT_EQ(daemon.own.find<model::Lun>({{{one}, 1}, 1})->object, key);
  EXPECT_NE(daemon.own.find<model::MappedLun>({{{{one}, 1}, "iqn.2026-11.io.perilune:host"}, 1}), nullptr);
}

TEST_F(Tgtadm, AdminLeavesWhatIsInUse) {
  make_one();
  daemon.open_sessions = {{{{one}, 1}, "iqn.2026-11.io.perilune:host", "", "", 1, "LOGGED_IN", "", {}}};
  const auto answer = admin({"execute", "ALL"});
  EXPECT_EQ(answer.out, "# Target " + one + " is in use - it is not removed.\n");
  EXPECT_NE(daemon.own.find<model::Target>({one}), nullptr);
  EXPECT_EQ(admin({"delete", one}).exit_code, 22);
  EXPECT_EQ(admin({"delete", "tid=1", "force"}).exit_code, 0);
  EXPECT_EQ(daemon.own.find<model::Target>({one}), nullptr);
}

TEST_F(Tgtadm, AdminSetsStatesAndDumps) {
  make_one();
  EXPECT_EQ(admin({"offline", "ALL"}).exit_code, 0);
  EXPECT_FALSE(daemon.own.find<model::PortalGroup>({{one}, 1})->enable);
  EXPECT_EQ(admin({"ready", "tid=9"}).exit_code, 22);
  EXPECT_EQ(admin({"dump", "ALL"}).out,
            "default-driver iscsi\n\n<target " + one + ">\n\tbacking-store /srv/a.img\n</target>\n\n");
}

// ---- tgt-setup-lun

TEST_F(Tgtadm, SetupLunIsOneStep) {
  targetd::FrontEndRequest request;
  request.who = "root (pid 7)";
  request.arguments = {"-H", "vm", "-d", "/srv/a.img", "-n", "disk1", "ALL"};
  EXPECT_EQ(answer_tgt_setup_lun(request, daemon).out,
            "Using transport: iscsi\nCreating new target (name=iqn.2001-04.com.vm-disk1, tid=1)\n"
            "Adding a logical unit (/srv/a.img) to target, tid=1\nAccepting connections from ALL\n");
  EXPECT_EQ(daemon.past.size(), 1U);
  request.arguments = {"-H", "vm", "-d", "/srv/nosuch", "-n", "disk2"};
  const auto failed = answer_tgt_setup_lun(request, daemon);
  EXPECT_EQ(failed.exit_code, 1);
  EXPECT_EQ(failed.err,
            "Error: failed to add a logical unit (/srv/nosuch) to target, tid=2: /srv/nosuch is not there; "
            "make it first\n");
  EXPECT_EQ(tids_of(daemon.own).size(), 1U);
  request.arguments = {"-n", "x"};
  EXPECT_EQ(answer_tgt_setup_lun(request, daemon).err, "Error: a device is mandatory\n");
}

}  // namespace
}  // namespace perilune::cli::tgt
