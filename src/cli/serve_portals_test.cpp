// SPDX-License-Identifier: Apache-2.0
#include "cli/serve_portals.hpp"

#include <gtest/gtest.h>

namespace perilune::cli {
namespace {

runtime::Endpoint endpoint(const char* text) { return *runtime::Endpoint::parse(text, 3260); }

TEST(ServePortals, StandInGroupOneUnlessATagIsGiven) {
  const auto portals = read_portals(
      {"127.0.0.1:0", "[2001:db8::1]:3261,2", "192.0.2.1,2", "127.0.0.1:0,1", "[::]:3260,65535"});
  ASSERT_TRUE(portals);
  EXPECT_EQ(portals->endpoints,
            (std::vector{endpoint("127.0.0.1:0"), endpoint("[2001:db8::1]:3261"), endpoint("192.0.2.1:3260"),
                         endpoint("127.0.0.1:0"), endpoint("[::]:3260")}));
  EXPECT_EQ(portals->groups, (std::vector<target::PortalGroup>{{1, {0, 3}}, {2, {1, 2}}, {65535, {4}}}));
}

TEST(ServePortals, ATagIsANumberFromOneOn) {
  for (const char* bad : {"127.0.0.1:3260,", "127.0.0.1:3260,0", "127.0.0.1:3260,65536", "127.0.0.1:3260,1,2", "127.0.0.1:3260, 1",
                          "127.0.0.1:3260,-1", "127.0.0.1:3260,two"}) {
    const auto portals = read_portals({bad});
    ASSERT_FALSE(portals) << bad;
    EXPECT_NE(portals.error().message.find("is no portal group tag, 1 to 65535"), std::string::npos)
        << portals.error().message;
  }
  EXPECT_FALSE(read_portals({"nowhere:3260,1"}));
}

TEST(ServePortals, ARedirectNamesAPortalWithItsTagOrWithout) {
  const auto portals = read_portals({"127.0.0.1:0,1", "127.0.0.1:0,2", "192.0.2.1:3260"});
  ASSERT_TRUE(portals);
  const auto both = read_redirect("--redirect", "127.0.0.1:0=192.0.2.9", false, *portals);
  ASSERT_TRUE(both);
  EXPECT_EQ(both->portal, endpoint("127.0.0.1:0"));
  EXPECT_EQ(both->portal_group_tag, std::nullopt);
  EXPECT_EQ(both->address, "192.0.2.9");
  const auto second = read_redirect("--redirect", "127.0.0.1:0,2=192.0.2.9:3261", true, *portals);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->portal_group_tag, 2);
  EXPECT_TRUE(second->permanent);
  EXPECT_FALSE(read_redirect("--redirect", "127.0.0.1:0", false, *portals)->portal)
      << "an address for every login";
  const auto none = read_redirect("--redirect", "192.0.2.1:3260,2=192.0.2.9", false, *portals);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().message, "--redirect: 192.0.2.1:3260,2 is none of the portals");
}

}  // namespace
}  // namespace perilune::cli
