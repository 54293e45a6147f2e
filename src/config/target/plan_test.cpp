// SPDX-License-Identifier: Apache-2.0
#include "config/target/plan.hpp"

#include <initializer_list>
#include <random>

#include <gtest/gtest.h>

#include "config/target/samples_test.hpp"

namespace perilune::config::target {
namespace {

TEST(TargetPlan, WhatIsNotThereNeedsNoRemoval) {
  EXPECT_TRUE(removal_of(test::small(), TargetKey{"iqn.2026-11.io.perilune:x"}).empty());
}

TEST(TargetPlan, AStorageObjectGoesWithItsLunsEverywhere) {
  Configuration configuration = test::small();
  ASSERT_TRUE(apply_all(configuration, removal_of(configuration, test::disk)).has_value());
  EXPECT_TRUE(configuration.all<StorageObject>().empty());
  EXPECT_TRUE(configuration.all<AluaGroup>().empty());
  EXPECT_TRUE(configuration.all<Lun>().empty());
  EXPECT_TRUE(configuration.all<MappedLun>().empty());
  EXPECT_EQ(configuration.all<NodeAcl>().size(), 1U);
}

TEST(TargetPlan, AnAluaGroupLeavesItsLunsInTheDefaultGroup) {
  Configuration configuration = test::small();
  AluaGroup group;
  group.id = 4;
  Lun lun = *configuration.find<Lun>(test::lun);
  lun.alua_group = "g";
  ASSERT_TRUE(
      apply_all(configuration, Changes{add<AluaGroup>({test::disk, "g"}, group), set<Lun>(test::lun, lun)})
          .has_value());
  ASSERT_TRUE(apply_all(configuration, removal_of(configuration, AluaGroupKey{test::disk, "g"})).has_value());
  EXPECT_EQ(configuration, test::small());
}

// Any object of any configuration can be removed by its plan, and the inverses bring all of it back.
TEST(TargetPlan, RemovesAnythingFromAnyConfiguration) {
  std::mt19937 random(5);
  for (int round = 0; round < 40; ++round) {
    const Configuration from = test::any(random, 150);
    const auto check = [&]<class Object>(const MapOf<Object>& all) {
      for (const auto& [key, value] : all) {
        Configuration configuration = from;
        const auto inverses = apply_all(configuration, removal_of(configuration, key));
        ASSERT_TRUE(inverses.has_value()) << inverses.error().message;
        ASSERT_EQ(configuration.find<Object>(key), nullptr);
        ASSERT_TRUE(apply_all(configuration, *inverses).has_value());
        ASSERT_EQ(configuration, from);
      }
    };
    check.operator()<StorageObject>(from.all<StorageObject>());
    check.operator()<AluaGroup>(from.all<AluaGroup>());
    check.operator()<Target>(from.all<Target>());
    check.operator()<PortalGroup>(from.all<PortalGroup>());
    check.operator()<Lun>(from.all<Lun>());
    check.operator()<NodeAcl>(from.all<NodeAcl>());
  }
}

TEST(TargetPlan, TheLowestFreeLunFillsGaps) {
  Configuration configuration = test::small();
  EXPECT_EQ(lowest_free_lun(configuration, test::group), 1);
  EXPECT_EQ(lowest_free_lun(configuration, test::acl), 1);
  for (const std::uint16_t index : std::initializer_list<std::uint16_t>{1, 3}) {
    const StorageKey key{Plugin::fileio, "d" + std::to_string(index)};
    ASSERT_TRUE(
        configuration.apply(add<StorageObject>(key, test::file("/srv/" + key.name, key.name))).has_value());
    ASSERT_TRUE(configuration.apply(add<Lun>({test::group, index}, {key, "", "", {}})).has_value());
  }
  EXPECT_EQ(lowest_free_lun(configuration, test::group), 2);
  EXPECT_EQ(lowest_free_lun(configuration, PortalGroupKey{{"iqn.2026-11.io.perilune:none"}, 1}), 0);
}

}  // namespace
}  // namespace perilune::config::target
