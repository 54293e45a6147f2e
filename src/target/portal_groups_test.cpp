// SPDX-License-Identifier: Apache-2.0
#include "target/portal_groups.hpp"

#include <gtest/gtest.h>

#include "base/limits.hpp"

namespace perilune::target {
namespace {

using Groups = std::vector<PortalGroup>;

std::string refusal(const Groups& groups, std::size_t portals) {
  const Status status = check_portal_groups(groups, portals);
  return status ? "" : status.error().message;
}

TEST(PortalGroup, OneWithoutPortalsHasThemAll) {
  const Groups groups{{.tag = 7}};
  EXPECT_EQ(refusal(groups, 0), "");
  EXPECT_EQ(portal_group_of(groups, 0), 7);
  EXPECT_EQ(portal_group_of(groups, 99), 7);
}

TEST(PortalGroup, SeveralHaveEachTheirOwn) {
  const Groups groups{{.tag = 1, .portals = {0, 2}}, {.tag = 65535, .portals = {3}}};
  EXPECT_EQ(refusal(groups, 4), "");
  EXPECT_EQ(portal_group_of(groups, 2), 1);
  EXPECT_EQ(portal_group_of(groups, 3), 65535);
  EXPECT_EQ(portal_group_of(groups, 1), std::nullopt) << "the target is not to be had there";
}

TEST(PortalGroup, WhatIsAmbiguousOrNotThereIsRefused) {
  EXPECT_EQ(refusal({}, 1), "a target needs a portal group");
  EXPECT_EQ(refusal({{.tag = 0}}, 1), "portal groups are numbered from 1");
  EXPECT_EQ(refusal({{.tag = 2, .portals = {0}}, {.tag = 2, .portals = {1}}}, 2),
            "portal group 2 is there twice");
  EXPECT_EQ(refusal({{.tag = 1, .portals = {0}}, {.tag = 2}}, 2),
            "portal group 2 beside others needs portals of its own");
  EXPECT_EQ(refusal({{.tag = 1, .portals = {0}}, {.tag = 2, .portals = {0}}}, 2),
            "portal group 2: portal 0 stands in two");
  EXPECT_EQ(refusal({{.tag = 1, .portals = {2}}}, 2), "portal group 1: no portal 2");
  Groups many;
  for (std::uint16_t tag = 1; tag <= limits::max_port_groups + 1; ++tag)
    many.push_back({.tag = tag, .portals = {tag}});
  EXPECT_NE(refusal(many, 1000), "");
}

TEST(PortalGroup, EachIsATargetPortInAGroupOfItsOwnUnlessTheUnitSaysOtherwise) {
  const Groups groups{{.tag = 3, .portals = {0}}, {.tag = 9, .portals = {1}}};
  const scsi::PortGroups made = port_groups_of(groups);
  ASSERT_EQ(made.all().size(), 2u);
  EXPECT_TRUE(scsi::PortGroups::valid(made.all()));
  EXPECT_EQ(made.of_port(3)->id, 3);
  EXPECT_EQ(made.of_port(9)->id, 9);
  EXPECT_EQ(made.of_port(9)->state, scsi::AccessState::active_optimized);
  EXPECT_FALSE(made.by_command());
  EXPECT_TRUE(knows_all(made, groups));
  EXPECT_FALSE(knows_all(scsi::PortGroups({{.id = 1, .ports = {3}}}, false), groups)) << "port 9 is in none";
  EXPECT_TRUE(knows_all(scsi::PortGroups({{.id = 1, .ports = {3, 9}}}, false), groups));
}

}  // namespace
}  // namespace perilune::target
