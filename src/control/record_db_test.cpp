// SPDX-License-Identifier: Apache-2.0
#include "control/record_db.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/temporary_folder_test.hpp"

namespace perilune::control {
namespace {

namespace fs = std::filesystem;
using config::DiscoveryKey;
using config::NodeKey;
using config::Record;
using config::RecordKind;

class RecordDbTest : public ::testing::Test {
 protected:
  static Record node(const NodeKey& key) {
    Record record(RecordKind::node);
    key.put_into(record);
    return record;
  }
  static unsigned mode_of(const fs::path& path) {
    struct stat status {};
    EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
    return status.st_mode & 07777;
  }
  void put(const std::string& name, const std::string& text) {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text;
  }

  TemporaryFolder folder_;
  fs::path path_ = folder_.path();
  RecordDb db_{folder_.path()};
};

const NodeKey disk{"iqn.2026-01.lab:disk", "192.0.2.1", 3260, 1, "default"};

TEST_F(RecordDbTest, KeepsTheLayoutAndTheModesOfOpenIscsi) {
  ASSERT_TRUE(db_.write_node(node(disk)));
  const fs::path file = path_ / "nodes/iqn.2026-01.lab:disk/192.0.2.1,3260,1/default";
  EXPECT_EQ(mode_of(file), 0600U);
  EXPECT_EQ(mode_of(path_ / "nodes"), 0700U);
  const auto back = db_.read_node(disk);
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, node(disk));
  Record discovery(RecordKind::send_targets);
  ASSERT_TRUE(discovery.set("discovery.sendtargets.address", "192.0.2.1"));
  ASSERT_TRUE(db_.write_discovery(discovery));
  EXPECT_EQ(mode_of(path_ / "send_targets/192.0.2.1,3260/st_config"), 0600U);
  ASSERT_TRUE(db_.link_node({"192.0.2.1", 3260}, disk));
  const fs::path link = path_ / "send_targets/192.0.2.1,3260/iqn.2026-01.lab:disk,192.0.2.1,3260,1,default";
  ASSERT_TRUE(fs::is_symlink(link));
  EXPECT_EQ(fs::read_symlink(link), path_ / "nodes/iqn.2026-01.lab:disk/192.0.2.1,3260,1");
  EXPECT_EQ(db_.linked_nodes({"192.0.2.1", 3260}).value(), std::vector<NodeKey>{disk});
}

TEST_F(RecordDbTest, RemovingARecordTakesItsFoldersAndLinksWithIt) {
  ASSERT_TRUE(db_.write_node(node(disk)));
  Record discovery(RecordKind::send_targets);
  ASSERT_TRUE(discovery.set("discovery.sendtargets.address", "192.0.2.1"));
  ASSERT_TRUE(db_.write_discovery(discovery));
  ASSERT_TRUE(db_.link_node({"192.0.2.1", 3260}, disk));
  ASSERT_TRUE(db_.remove_node(disk));
  EXPECT_FALSE(fs::exists(path_ / "nodes/iqn.2026-01.lab:disk"));
  EXPECT_TRUE(db_.linked_nodes({"192.0.2.1", 3260}).value().empty());
  EXPECT_EQ(db_.list_discoveries().value().size(), 1U);
  ASSERT_TRUE(db_.remove_discovery({"192.0.2.1", 3260}));
  EXPECT_FALSE(fs::exists(path_ / "send_targets/192.0.2.1,3260"));
}

TEST_F(RecordDbTest, ARecordWithoutATagIsOneFileUntilTheTagIsKnown) {
  NodeKey unknown = disk;
  unknown.tpgt = config::tpgt_unknown;
  ASSERT_TRUE(db_.write_node(node(unknown)));
  EXPECT_TRUE(fs::is_regular_file(path_ / "nodes/iqn.2026-01.lab:disk/192.0.2.1,3260"));
  EXPECT_EQ(db_.list_nodes().value(), std::vector<NodeKey>{unknown});
  ASSERT_TRUE(db_.write_node(node(disk)));
  EXPECT_EQ(db_.list_nodes().value(), std::vector<NodeKey>{disk});
}

TEST_F(RecordDbTest, ListsInTheOrderOfTheFileNames) {
  const NodeKey v6{"iqn.2026-01.lab:a", "2001:db8::1", 3260, 2, "default"};
  const NodeKey bound{"iqn.2026-01.lab:a", "192.0.2.1", 3260, 1, "net7"};
  for (const NodeKey& key : {disk, v6, bound}) ASSERT_TRUE(db_.write_node(node(key)));
  EXPECT_EQ(db_.list_nodes().value(), (std::vector<NodeKey>{bound, v6, disk}));
}

TEST_F(RecordDbTest, NeverFollowsALink) {
  put("elsewhere/secret", "node.name = iqn.2026-01.lab:disk\n");
  fs::create_directories(path_ / "nodes/iqn.2026-01.lab:disk/192.0.2.1,3260,1");
  fs::create_symlink(path_ / "elsewhere/secret",
                     path_ / "nodes/iqn.2026-01.lab:disk/192.0.2.1,3260,1/default");
  EXPECT_FALSE(db_.read_node(disk));
  EXPECT_TRUE(db_.list_nodes().value().empty());
  // Writing replaces the link and leaves what it points to alone.
  ASSERT_TRUE(db_.write_node(node(disk)));
  std::ifstream secret(path_ / "elsewhere/secret");
  std::string line;
  std::getline(secret, line);
  EXPECT_EQ(line, "node.name = iqn.2026-01.lab:disk");
  fs::create_directory_symlink(path_ / "elsewhere", path_ / "nodes/iqn.2026-01.lab:linked");
  EXPECT_EQ(db_.list_nodes().value(), std::vector<NodeKey>{disk});
}

TEST_F(RecordDbTest, RefusesNamesThatLeaveTheDatabase) {
  NodeKey bad = disk;
  bad.target = "../../etc";
  EXPECT_EQ(db_.read_node(bad).error().code, Errc::invalid_argument);
  bad = disk;
  bad.iface = "..";
  EXPECT_EQ(db_.remove_node(bad).error().code, Errc::invalid_argument);
  EXPECT_EQ(db_.read_iface("../initiatorname.iscsi").error().code, Errc::invalid_argument);
}

TEST_F(RecordDbTest, SkipsEntriesThatAreNoRecords) {
  put("nodes/iqn.2026-01.lab:disk/not a portal/default", "x");
  put("nodes/iqn.2026-01.lab:disk/192.0.2.1,99999,1/default", "x");
  put("nodes/stray", "x");
  put("send_targets/stray", "x");
  EXPECT_TRUE(db_.list_nodes().value().empty());
  EXPECT_TRUE(db_.list_discoveries().value().empty());
}

TEST_F(RecordDbTest, ARecordFileThatIsBinaryOrHugeIsAnError) {
  put("nodes/iqn.2026-01.lab:disk/192.0.2.1,3260,1/default", std::string("a\0b", 3));
  EXPECT_EQ(db_.read_node(disk).error().code, Errc::invalid_argument);
  put("nodes/iqn.2026-01.lab:disk/192.0.2.1,3260,1/default", std::string(config::max_record_bytes + 1, '#'));
  EXPECT_EQ(db_.read_node(disk).error().code, Errc::limit);
  fs::remove(path_ / "nodes/iqn.2026-01.lab:disk/192.0.2.1,3260,1/default");
  ASSERT_EQ(::mkfifo((path_ / "nodes/iqn.2026-01.lab:disk/192.0.2.1,3260,1/default").c_str(), 0600), 0);
  EXPECT_EQ(db_.read_node(disk).error().code, Errc::invalid_argument);
}

TEST_F(RecordDbTest, MakesAnInitiatorNameOnceAndKeepsIt) {
  const auto made = db_.load_or_create_initiator_name();
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_TRUE(made->name.starts_with("iqn.2026-11.io.perilune:"));
  EXPECT_EQ(made->name.size(), std::string("iqn.2026-11.io.perilune:").size() + 12);
  EXPECT_EQ(mode_of(path_ / "initiatorname.iscsi"), 0600U);
  EXPECT_EQ(db_.load_or_create_initiator_name()->name, made->name);
  put("initiatorname.iscsi", "InitiatorName=rubbish\n");
  EXPECT_EQ(db_.load_or_create_initiator_name().error().code, Errc::invalid_argument);
}

TEST_F(RecordDbTest, AMissingConfigurationIsTheDefaults) {
  const auto conf = db_.load_conf();
  ASSERT_TRUE(conf);
  EXPECT_EQ(conf->node, Record(RecordKind::node));
  put("iscsid.conf", "node.startup = automatic\n");
  EXPECT_EQ(db_.load_conf()->node.get("node.startup"), "automatic");
}

TEST_F(RecordDbTest, IfacesBesideTheTwoThatAlwaysExist) {
  EXPECT_EQ(db_.read_iface("default")->get("iface.transport_name"), "tcp");
  EXPECT_EQ(db_.read_iface("iser")->get("iface.transport_name"), "iser");
  EXPECT_EQ(db_.read_iface("net7").error().code, Errc::not_found);
  Record iface(RecordKind::iface);
  EXPECT_FALSE(db_.write_iface(iface));  // "default" is not to be changed
  ASSERT_TRUE(iface.set("iface.iscsi_ifacename", "net7"));
  ASSERT_TRUE(db_.write_iface(iface));
  EXPECT_EQ(db_.list_ifaces().value(), std::vector<Record>{iface});
  ASSERT_TRUE(db_.remove_iface("net7"));
  EXPECT_TRUE(db_.list_ifaces().value().empty());
}

}  // namespace
}  // namespace perilune::control
