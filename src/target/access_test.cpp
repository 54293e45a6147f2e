// SPDX-License-Identifier: Apache-2.0
#include "target/access.hpp"

#include <gtest/gtest.h>

namespace perilune::target {
namespace {

constexpr const char* alice = "iqn.2026-11.io.perilune:alice";
constexpr const char* bob = "iqn.2026-11.io.perilune:bob";
const std::vector<std::uint16_t> units = {0, 1, 5};

using Luns = std::vector<scsi::LunMapping>;

AccessSpec with(std::vector<std::pair<const char*, Luns>> acls) {
  AccessSpec spec;
  for (auto& [name, luns] : acls) spec.acls.push_back({name, std::move(luns), std::nullopt});
  return spec;
}

std::string refusal(const AccessSpec& spec) {
  const Status status = check_access(spec, units);
  return status ? "" : status.error().message;
}

TEST(Access, WhoHasAnAclSeesItsLunsAndTheOthersWhatDemoModeShows) {
  AccessSpec spec =
      with({{alice, {{.lun = 0, .unit = 5}, {.lun = 7, .unit = 0, .read_only = true}}}, {bob, {}}});
  EXPECT_EQ(refusal(spec), "");
  const Access demo(spec, units);
  EXPECT_EQ(*demo.map_of(alice), (Luns{{.lun = 0, .unit = 5}, {.lun = 7, .unit = 0, .read_only = true}}));
  EXPECT_EQ(*demo.map_of(bob), Luns{}) << "an ACL without LUNs";
  ASSERT_NE(demo.map_of("iqn.2026-11.io.perilune:carol"), nullptr);
  EXPECT_EQ(*demo.map_of("iqn.2026-11.io.perilune:carol"), std::nullopt) << "every unit under its own number";

  spec.demo_mode_read_only = true;
  const Access protecting(spec, units);
  EXPECT_EQ(*protecting.map_of("iqn.2026-11.io.perilune:carol"),
            (Luns{{.lun = 0, .unit = 0, .read_only = true},
                  {.lun = 1, .unit = 1, .read_only = true},
                  {.lun = 5, .unit = 5, .read_only = true}}));
  EXPECT_EQ(*protecting.map_of(alice), *demo.map_of(alice));

  spec.demo_mode = false;
  const Access closed(spec, units);
  EXPECT_EQ(closed.map_of("iqn.2026-11.io.perilune:carol"), nullptr);
  EXPECT_NE(closed.map_of(bob), nullptr);
}

TEST(Access, WhatIsAmbiguousOrNotThereIsRefused) {
  EXPECT_EQ(refusal(with({{alice, {}}, {alice, {}}})), std::string(alice) + " has an ACL already");
  EXPECT_EQ(refusal(with({{alice, {{.lun = 2, .unit = 0}, {.lun = 2, .unit = 1}}}})),
            std::string(alice) + ": LUN 2 is mapped twice");
  EXPECT_EQ(refusal(with({{alice, {{.lun = 2, .unit = 3}}}})),
            std::string(alice) + ": LUN 2 is of unit 3, which there is not");
  EXPECT_EQ(refusal(with({{alice, {{.lun = 2, .unit = 5}, {.lun = 3, .unit = 5}}}})), "")
      << "a unit under two LUNs";
  AccessSpec spec = with({{alice, {}}});
  spec.acls.front().auth.emplace();
  spec.acls.front().auth->accounts.push_back({"alice", crypto::Secret("short")});
  EXPECT_NE(refusal(spec), "") << "a secret that CHAP cannot use";
}

}  // namespace
}  // namespace perilune::target
