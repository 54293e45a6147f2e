// SPDX-License-Identifier: Apache-2.0
#include "config/target/tree.hpp"

#include <gtest/gtest.h>

#include "config/target/lio_saveconfig_test.hpp"
#include "config/target/samples_test.hpp"
#include "config/target/saveconfig.hpp"

namespace perilune::config::target {
namespace {

TreeFacts facts() {
  return {[](const StorageKey&, const StorageObject&) { return std::uint64_t{64} << 20; },
          {"xen-pvscsi", "loopback", "vhost"}};
}

TreeNode tree(const Configuration& configuration) { return tree_of(configuration, facts()); }

std::string summary(const Configuration& configuration, std::string_view path) {
  const TreeNode root = tree(configuration);
  const TreeNode* const node = find_node(root, path);
  return node == nullptr ? "no such path" : node->summary;
}

// The tree of what a real targetcli showed after it had restored such a file, in our names; dots and pipes
// are its own.
TEST(TargetTree, IsTargetclis) {
  const auto loaded = read_saveconfig(test::lio_saveconfig);
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ(
      render_tree(tree(loaded->configuration)),
      R"(o- / ......................................................................................................................... [...]
  o- backstores .............................................................................................................. [...]
  | o- block .................................................................................................. [Storage Objects: 1]
  | | o- volume1 ...................................................................... [/dev/ram0 (64.0MiB) write-thru deactivated]
  | |   o- alua ................................................................................................... [ALUA Groups: 1]
  | |     o- default_tg_pt_gp ....................................................................... [ALUA state: Active/optimized]
  | o- fileio ................................................................................................. [Storage Objects: 1]
  | | o- disk1 ..................................................................... [/srv/disk1.img (32.0MiB) write-thru activated]
  | |   o- alua ................................................................................................... [ALUA Groups: 1]
  | |     o- default_tg_pt_gp ....................................................................... [ALUA state: Active/optimized]
  | o- pscsi .................................................................................................. [Storage Objects: 1]
  | | o- tape1 ................................................................................................ [/dev/sda activated]
  | |   o- alua ................................................................................................... [ALUA Groups: 0]
  | o- ramdisk ................................................................................................ [Storage Objects: 1]
  |   o- null1 ........................................................................................ [nullio (16.0MiB) activated]
  |     o- alua ................................................................................................... [ALUA Groups: 1]
  |       o- default_tg_pt_gp ....................................................................... [ALUA state: Active/optimized]
  o- iscsi ........................................................................................... [1-way disc auth, Targets: 2]
  | o- eui.0123456789abcdef .............................................................................................. [TPGs: 1]
  | | o- tpg1 ............................................................................................... [no-gen-acls, no-auth]
  | |   o- acls .......................................................................................................... [ACLs: 0]
  | |   o- luns .......................................................................................................... [LUNs: 0]
  | |   o- portals .................................................................................................... [Portals: 1]
  | |     o- 0.0.0.0:3260 ..................................................................................................... [OK]
  | o- iqn.2026-11.io.perilune:store ..................................................................................... [TPGs: 1]
  |   o- tpg1 ..................................................................................... [gen-acls, tpg-auth, 1-way auth]
  |     o- acls .......................................................................................................... [ACLs: 2]
  |     | o- hosts ................................................. [(iqn.2026-11.io.perilune:other), auth via tpg, Mapped LUNs: 1]
  |     | | o- mapped_lun4 ............................................................................... [lun5 ramdisk/null1 (ro)]
  |     | o- iqn.2026-11.io.perilune:host ........................................................... [auth via tpg, Mapped LUNs: 1]
  |     |   o- mapped_lun7 ................................................................................ [lun7 fileio/disk1 (rw)]
  |     o- luns .......................................................................................................... [LUNs: 3]
  |     | o- lun5 ............................................................................... [ramdisk/null1 (default_tg_pt_gp)]
  |     | o- lun7 ............................................................... [fileio/disk1 (/srv/disk1.img) (default_tg_pt_gp)]
  |     | o- lun9 ......................................................................................... [pscsi/tape1 (/dev/sda)]
  |     o- portals .................................................................................................... [Portals: 2]
  |       o- 127.0.0.1:3261 ................................................................................................... [OK]
  |       o- [::1]:3260 ....................................................................................................... [OK]
  o- loopback ......................................................................................................... [Targets: 0]
  o- vhost ............................................................................................................ [Targets: 0]
  o- xen-pvscsi ....................................................................................................... [Targets: 0]
)");
}

TEST(TargetTree, OfNothing) {
  TreeFacts nothing;
  EXPECT_EQ(render_tree(tree_of({}, nothing), 1, 40), R"(o- / ............................. [...]
  o- backstores .................. [...]
  o- iscsi ................ [Targets: 0]
)");
}

TEST(TargetTree, ALowerNodeIsARootOfItsOwn) {
  const TreeNode root = tree(test::small());
  const TreeNode* const node = find_node(root, "/iscsi/iqn.2026-11.io.perilune:a/tpg1/acls");
  ASSERT_NE(node, nullptr);
  EXPECT_EQ(render_tree(*node, std::nullopt, 60),
            R"(o- acls .......................................... [ACLs: 1]
  o- iqn.2026-11.io.perilune:host  [1-way auth, Mapped LUNs: 1]
    o- mapped_lun0 ................. [lun0 fileio/disk (rw)]
)");
}

TEST(TargetTree, APathThatIsNotThereHasNoNode) {
  const TreeNode root = tree(test::small());
  EXPECT_EQ(find_node(root, ""), &root);
  EXPECT_EQ(find_node(root, "/"), &root);
  EXPECT_NE(find_node(root, "iscsi/"), nullptr);
  EXPECT_EQ(find_node(root, "/iscsi/x"), nullptr);
}

TEST(TargetTree, NumbersAreSortedAsNumbers) {
  Configuration configuration = test::small();
  for (const int index : {10, 2}) {
    const StorageKey key{Plugin::fileio, "d" + std::to_string(index)};
    (void)configuration.apply(add<StorageObject>(key, test::file("/srv/" + key.name, key.name))).value();
    (void)configuration.apply(add<Lun>({test::group, static_cast<std::uint16_t>(index)}, {key, "", "", {}}))
        .value();
  }
  const TreeNode root = tree(configuration);
  std::vector<std::string> names;
  for (const TreeNode& child : find_node(root, "/iscsi/iqn.2026-11.io.perilune:a/tpg1/luns")->children)
    names.push_back(child.name);
  EXPECT_EQ(names, (std::vector<std::string>{"lun0", "lun2", "lun10"}));
}

TEST(TargetTree, APortalGroupSaysWhoMayComeIn) {
  const auto shown = [](bool enable, const char* open, const char* authenticates, bool mutual) {
    Configuration configuration = test::small();
    PortalGroup group;
    group.enable = enable;
    EXPECT_TRUE(group.attributes.set(group_attributes(), "generate_node_acls", open).has_value());
    EXPECT_TRUE(group.attributes.set(group_attributes(), "authentication", authenticates).has_value());
    if (mutual) group.chap = {"u", Password("secret"), "m", Password("mutual")};
    (void)configuration.apply(set<PortalGroup>(test::group, group)).value();
    return summary(configuration, "/iscsi/iqn.2026-11.io.perilune:a/tpg1");
  };
  EXPECT_EQ(shown(false, "1", "1", false), "disabled");
  EXPECT_EQ(shown(true, "0", "0", false), "no-gen-acls, no-auth");
  EXPECT_EQ(shown(true, "1", "0", false), "gen-acls, no-auth");
  EXPECT_EQ(shown(true, "0", "1", false), "no-gen-acls, auth per-acl");
  EXPECT_EQ(shown(true, "1", "1", false), "gen-acls, tpg-auth, 1-way auth");
  EXPECT_EQ(shown(true, "1", "1", true), "gen-acls, tpg-auth, mutual auth");
}

TEST(TargetTree, AclsWithOneTagAreOneNode) {
  Configuration configuration = test::small();
  NodeAcl tagged;
  tagged.tag = "hosts";
  (void)configuration.apply(set<NodeAcl>(test::acl, tagged)).value();
  (void)configuration.apply(add<NodeAcl>({test::group, "iqn.2026-11.io.perilune:second"}, tagged)).value();
  EXPECT_EQ(summary(configuration, "/iscsi/iqn.2026-11.io.perilune:a/tpg1/acls"), "ACLs: 1");
  EXPECT_EQ(summary(configuration, "/iscsi/iqn.2026-11.io.perilune:a/tpg1/acls/hosts"),
            "(group of 2), 1-way auth, Mapped LUNs: 1");
}

TEST(HumanSize, IsTargetclis) {
  EXPECT_EQ(human_size(0), "0 bytes");
  EXPECT_EQ(human_size(1023), "1023 bytes");
  EXPECT_EQ(human_size(1024), "1.0KiB");
  EXPECT_EQ(human_size(1536), "1.5KiB");
  EXPECT_EQ(human_size(64ULL << 20), "64.0MiB");
  EXPECT_EQ(human_size(3ULL << 40), "3.0TiB");
  EXPECT_EQ(human_size(UINT64_MAX), "16.0EiB");
}

}  // namespace
}  // namespace perilune::config::target
