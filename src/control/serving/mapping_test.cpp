// SPDX-License-Identifier: Apache-2.0
#include "control/serving/mapping.hpp"

#include <gtest/gtest.h>

namespace perilune::control::serving {
namespace {

using namespace config::target;

const StorageKey disk{Plugin::fileio, "disk"};
const TargetKey target_key{"iqn.2026-11.io.perilune:a"};
const PortalGroupKey one{target_key, 1}, two{target_key, 2};
const NodeAclKey alice{one, "iqn.2026-11.io.perilune:alice"};

StorageObject file() {
  StorageObject object;
  object.dev = "/srv/disk";
  object.wwn = "12345678-9abc-def0-1234-56789abcdef0";
  return object;
}

// Two portal groups that export one disk, the second in an ALUA group of its own.
class Mapping : public ::testing::Test {
 protected:
  void SetUp() override {
    AluaGroup standby;
    standby.id = 7;
    ASSERT_TRUE(standby.parameters.set(alua_parameters(), "alua_access_state", "2").has_value());
    make({add<StorageObject>(disk, file()), add<AluaGroup>({disk, std::string(default_alua_group)}, {}),
          add<AluaGroup>({disk, "backup"}, standby), add<config::target::Target>(target_key, {}),
          add<PortalGroup>(one, {}), add<PortalGroup>(two, {}),
          add<Lun>({one, 4}, {disk, std::string(default_alua_group), "", {}}),
          add<Lun>({two, 0}, {disk, "backup", "", {}}), add<NodeAcl>(alice, {}),
          add<MappedLun>({alice, 9}, {4, true, "", {}})});
  }
  void make(const Changes& changes) { (void)apply_all(configuration, changes).value(); }
  void set_group(std::initializer_list<std::pair<std::string_view, std::string_view>> attributes,
                 Chap chap = {},
                 std::initializer_list<std::pair<std::string_view, std::string_view>> parameters = {}) {
    PortalGroup group;
    group.chap = std::move(chap);
    for (const auto& [name, value] : attributes)
      EXPECT_TRUE(group.attributes.set(group_attributes(), name, value).has_value());
    for (const auto& [name, value] : parameters)
      EXPECT_TRUE(group.parameters.set(group_parameters(), name, value).has_value());
    make({set<PortalGroup>(one, group)});
  }
  [[nodiscard]] target::GroupRules rules() const {
    return rules_of(
        configuration, one, [](const LunKey&, const Lun&) { return std::optional<std::uint16_t>(42); },
        [](const Password& password) { return password.reveal(); }, wanted);
  }

  Configuration configuration;
  iscsi::WantedParams wanted;
};

TEST_F(Mapping, FlagsOfADiskCountAsTheyAreShownAndLimitsWhenTheyAreSet) {
  StorageObject object = file();
  const scsi::UnitRules initial = unit_rules_of(disk, object);
  EXPECT_TRUE(initial.compare_and_write && initial.third_party_copy && initial.reservations);
  EXPECT_TRUE(initial.task_aborted_status);
  EXPECT_FALSE(initial.unmap || initial.unmap_by_write_same || initial.unmapped_reads_zeroes);
  EXPECT_EQ(initial.write_cache, false);
  EXPECT_EQ(initial.rotational, true);
  EXPECT_EQ(initial.max_unmap_blocks, 0u);  // LIO's default: ours
  for (const auto& [name, value] :
       std::initializer_list<std::pair<std::string_view, std::string_view>>{{"emulate_tpu", "1"},
                                                                            {"emulate_ua_intlck_ctrl", "2"},
                                                                            {"max_unmap_lba_count", "77"},
                                                                            {"emulate_write_cache", "1"}})
    ASSERT_TRUE(object.attributes.set(storage_attributes(disk.plugin), name, value).has_value());
  const scsi::UnitRules set = unit_rules_of(disk, object);
  EXPECT_TRUE(set.unmap);
  EXPECT_EQ(set.interlock, scsi::AttentionInterlock::establish);
  EXPECT_EQ(set.max_unmap_blocks, 77u);
  EXPECT_EQ(set.write_cache, true);
  EXPECT_EQ(unit_rules_of({Plugin::pscsi, "real"}, {}), scsi::UnitRules{});
  EXPECT_EQ(unit_rules_of({Plugin::block, "device"}, {}).write_cache, std::nullopt);  // the device's
}

TEST_F(Mapping, AnAclSeesItsMappedLunsAndTheOthersNothingUnlessTheGroupSaysSo) {
  set_group({{"authentication", "0"}});
  const target::GroupRules closed = rules();
  EXPECT_FALSE(closed.access.demo_mode);
  ASSERT_EQ(closed.access.acls.size(), 1u);
  EXPECT_EQ(closed.access.acls[0].luns,
            (std::vector<scsi::LunMapping>{{.lun = 9, .unit = 42, .read_only = true}}));
  set_group({{"generate_node_acls", "1"}, {"authentication", "0"}});
  const target::GroupRules demo = rules();
  EXPECT_TRUE(demo.access.demo_mode);
  EXPECT_EQ(*demo.access.demo_luns,
            (std::vector<scsi::LunMapping>{{.lun = 4, .unit = 42, .read_only = true}}))
      << "LIO protects it";
  set_group({{"generate_node_acls", "1"}, {"demo_mode_write_protect", "0"}});
  EXPECT_FALSE(rules().access.demo_luns->front().read_only);
}

TEST_F(Mapping, ALunThatIsNotServedIsNotShown) {
  const target::GroupRules made = rules_of(
      configuration, one, [](const LunKey&, const Lun&) { return std::optional<std::uint16_t>(); },
      [](const Password& password) { return password.reveal(); }, wanted);
  EXPECT_TRUE(made.access.demo_luns->empty());
  EXPECT_TRUE(made.access.acls[0].luns.empty());
}

TEST_F(Mapping, AuthenticationWithoutAnAccountLetsNobodyIn) {
  set_group({{"authentication", "1"}});
  EXPECT_EQ(rules().auth.allow_none, false);
  EXPECT_TRUE(rules().auth.accounts.empty());
  ASSERT_TRUE(rules().access.acls[0].auth);
  EXPECT_EQ(rules().access.acls[0].auth->allow_none, false);
}

TEST_F(Mapping, AnAclHasCredentialsOfItsOwnAndMaySayThatItNeedsNone) {
  set_group({{"authentication", "1"}},
            Chap{"group", Password("secret of group"), "target", Password("other secret")});
  EXPECT_EQ(rules().auth.accounts.at(0).name, "group");
  EXPECT_EQ(rules().auth.target_account->name, "target");
  EXPECT_TRUE(rules().access.acls[0].auth->accounts.empty()) << "the group's account is not the ACL's";
  NodeAcl open;
  ASSERT_TRUE(open.attributes.set(acl_attributes(), "authentication", "0").has_value());
  make({set<NodeAcl>(alice, open)});
  EXPECT_EQ(rules().access.acls[0].auth->allow_none, true);
}

TEST_F(Mapping, ParametersThatWereSetAreKeptToWithinWhatTheServerCan) {
  EXPECT_EQ(rules().params->max_burst_length, wanted.max_burst_length) << "LIO's default means ours";
  set_group({}, {},
            {{"MaxBurstLength", "16777215"},
             {"FirstBurstLength", "16777215"},
             {"ImmediateData", "No"},
             {"HeaderDigest", "None"},
             {"MaxConnections", "65535"},
             {"TargetAlias", "shelf"}});
  const target::GroupRules made = rules();
  EXPECT_EQ(made.params->max_burst_length, wanted.max_burst_length);
  EXPECT_EQ(made.params->first_burst_length, wanted.first_burst_length);
  EXPECT_FALSE(made.params->immediate_data);
  EXPECT_EQ(made.params->header_digest, (std::vector<iscsi::Digest>{iscsi::Digest::none}));
  EXPECT_EQ(made.params->max_connections, limits::max_session_connections);
  EXPECT_EQ(made.alias, "shelf");
}

TEST_F(Mapping, APortalGroupIsInTheAluaGroupOfItsLun) {
  const scsi::PortGroups groups = port_groups_of(configuration, target_key, disk);
  ASSERT_EQ(groups.all().size(), 2u);
  EXPECT_EQ(groups.of_port(1)->id, 0);
  EXPECT_EQ(groups.of_port(2)->id, 7);
  EXPECT_EQ(groups.of_port(2)->state, scsi::AccessState::standby);
  EXPECT_TRUE(groups.by_command()) << "implicit and explicit is LIO's default";
  make({remove<Lun>({two, 0})});
  EXPECT_EQ(port_groups_of(configuration, target_key, disk).of_port(2)->id, 0)
      << "a port that does not export it";
}

TEST_F(Mapping, WhatAnInitiatorMadeOfAStateStaysUntilTheOperatorChangesIt) {
  const scsi::PortGroups before = port_groups_of(configuration, target_key, disk);
  scsi::PortGroups now = before;
  ASSERT_TRUE(now.set_state(0, scsi::AccessState::active_non_optimized, scsi::PortGroup::Cause::command));
  change_port_groups(before, before, now);
  EXPECT_EQ(now.find(0)->state, scsi::AccessState::active_non_optimized);
  scsi::PortGroups offline = before;
  ASSERT_TRUE(offline.set_state(0, scsi::AccessState::offline, scsi::PortGroup::Cause::none));
  change_port_groups(before, offline, now);
  EXPECT_EQ(now.find(0)->state, scsi::AccessState::offline);
}

TEST_F(Mapping, TheConfigurationFollowsWhatAnInitiatorMadeOfAState) {
  const scsi::PortGroups before = port_groups_of(configuration, target_key, disk);
  scsi::PortGroups now = before;
  ASSERT_TRUE(now.set_state(7, scsi::AccessState::active_optimized, scsi::PortGroup::Cause::command));
  const auto changes = changes_for_access_states(
      configuration, disk, {{7, scsi::AccessState::active_optimized}, {9, scsi::AccessState::standby}});
  ASSERT_EQ(changes.size(), 1U) << "there is no group 9";
  make(changes);
  const scsi::PortGroups after = port_groups_of(configuration, target_key, disk);
  EXPECT_EQ(after.find(7)->state, scsi::AccessState::active_optimized);
  const scsi::PortGroups unchanged = now;
  change_port_groups(before, after, now);
  EXPECT_EQ(now, unchanged) << "the unit has it already, and says what the cause was";
  EXPECT_TRUE(
      changes_for_access_states(configuration, disk, {{7, scsi::AccessState::active_optimized}}).empty());
}

TEST(MappingIdentity, SerialAndNaaAreLios) {
  const scsi::UnitIdentity identity = identity_of(disk, file());
  EXPECT_EQ(identity.serial, "12345678-9abc-def0-1234-56789abcdef0");
  EXPECT_EQ(identity.product, "disk") << "emulate_model_alias";
  ASSERT_TRUE(identity.naa6);
  EXPECT_EQ(*identity.naa6, (std::array<std::uint8_t, 16>{0x60, 0x01, 0x40, 0x51, 0x23, 0x45, 0x67, 0x89,
                                                          0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89}));
}

TEST(MappingBacking, APathASizeInMemoryOrNothing) {
  StorageObject memory;
  memory.size_bytes = 1048576;
  EXPECT_EQ(backing_of(disk, file()), "/srv/disk");
  EXPECT_EQ(backing_of({Plugin::ramdisk, "m"}, memory), "ram:1048576");
  memory.nullio = true;
  EXPECT_EQ(backing_of({Plugin::ramdisk, "m"}, memory), "null:1048576");
  StorageObject blocks = file();
  ASSERT_TRUE(blocks.attributes.set(storage_attributes(Plugin::fileio), "block_size", "4096").has_value());
  EXPECT_EQ(backing_options(disk, blocks).block_size_bytes, 4096u);
  EXPECT_FALSE(is_same_backing(file(), blocks, Plugin::fileio));
}

}  // namespace
}  // namespace perilune::control::serving
