// SPDX-License-Identifier: Apache-2.0
#include "target/redirect.hpp"

#include <gtest/gtest.h>

namespace perilune::target {
namespace {

runtime::Endpoint endpoint(const char* text) { return *runtime::Endpoint::parse(text, 3260); }

constexpr const char* disk = "iqn.2026-11.io.perilune:disk";

TEST(Redirect, AddressesAreAsTheRfcWritesThemWithoutAGroupTag) {
  for (const char* good : {"192.0.2.1", "192.0.2.1:3261", "[2001:db8::1]", "[2001:db8::1]:65535", "san.example.org", "san-2:1"}) {
    EXPECT_TRUE(check_redirect_address(good)) << good;
  }
  for (const char* bad : {"", ":3260", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:", "192.0.2.1,1", "[2001:db8::1]:3260,1",
                          "2001:db8::1", "[2001:db8::1", "[2001:db8::1]:0", "[host]:1", "0.0.0.0", "[::]:3260", "a..b", ".a", "a b",
                          "a\nTargetName=x", "host:12x"}) {
    const Status status = check_redirect_address(bad);
    ASSERT_FALSE(status) << bad;
    EXPECT_EQ(status.error().code, Errc::invalid_argument);
  }
  EXPECT_FALSE(check_redirect_address(std::string(254, 'a')));
  EXPECT_FALSE(check_redirect_address(std::string(64, 'a') + ".example"));
}

TEST(Redirect, RulesAreForAPortalATargetAGroupOrEverything) {
  const BoundPortal portals[] = {{endpoint("127.0.0.1:0"), endpoint("127.0.0.1:40001")},
                                 {endpoint("0.0.0.0:3260"), endpoint("0.0.0.0:3260")}};
  RedirectRule rule;
  rule.address = "192.0.2.9";
  const auto fits = [&](const char* local, std::string_view target = disk, std::uint16_t tag = 1) {
    return find_redirect({&rule, 1}, portals, endpoint(local), target, tag) == &rule;
  };
  EXPECT_TRUE(fits("127.0.0.1:40001"));
  rule.portal = endpoint("127.0.0.1:0");
  EXPECT_TRUE(fits("127.0.0.1:40001"));
  EXPECT_FALSE(fits("192.0.2.1:3260"));
  rule.portal = endpoint("0.0.0.0:3260");
  EXPECT_TRUE(fits("192.0.2.1:3260")) << "a wildcard portal has many addresses";
  EXPECT_FALSE(fits("127.0.0.1:40001"));
  rule.portal.reset();
  rule.target = disk;
  EXPECT_TRUE(fits("127.0.0.1:40001"));
  EXPECT_FALSE(fits("127.0.0.1:40001", "iqn.2026-11.io.perilune:other"));
  rule.portal_group_tag = 2;
  EXPECT_FALSE(fits("127.0.0.1:40001"));
  EXPECT_TRUE(fits("127.0.0.1:40001", disk, 2));
}

TEST(Redirect, TheFirstRuleThatFitsCounts) {
  RedirectRule rules[2];
  rules[0].target = "iqn.2026-11.io.perilune:other";
  EXPECT_EQ(find_redirect(rules, {}, endpoint("127.0.0.1:1"), disk, 1), &rules[1]);
  EXPECT_EQ(find_redirect(rules, {}, endpoint("127.0.0.1:1"), rules[0].target, 1), &rules[0]);
  EXPECT_EQ(find_redirect({}, {}, endpoint("127.0.0.1:1"), disk, 1), nullptr);
}

TEST(Redirect, LoopsAreFound) {
  const BoundPortal portals[] = {{endpoint("127.0.0.1:0"), endpoint("127.0.0.1:40001")},
                                 {endpoint("127.0.0.1:0"), endpoint("127.0.0.1:40002")},
                                 {endpoint("0.0.0.0:3260"), endpoint("0.0.0.0:3260")}};
  const runtime::Endpoint own[] = {endpoint("192.0.2.1")};
  const auto check = [&](std::vector<RedirectRule> rules) { return check_redirect_loops(rules, portals, own, disk, 1).has_value(); };
  const auto rule = [](std::optional<runtime::Endpoint> portal, const char* address) {
    RedirectRule r;
    r.portal = portal;
    r.address = address;
    return r;
  };
  EXPECT_TRUE(check({}));
  EXPECT_TRUE(check({rule(std::nullopt, "192.0.2.9:3260")})) << "somebody else's";
  EXPECT_FALSE(check({rule(std::nullopt, "127.0.0.1:40001")}));
  EXPECT_FALSE(check({rule(std::nullopt, "192.0.2.1")})) << "the wildcard portal answers there";
  EXPECT_TRUE(check({rule(endpoint("0.0.0.0:3260"), "127.0.0.1:40001")})) << "from one portal to another";
  EXPECT_FALSE(check({rule(endpoint("0.0.0.0:3260"), "127.0.0.1:40001"), rule(endpoint("127.0.0.1:0"), "192.0.2.1:3260")}));
  EXPECT_TRUE(check({rule(std::nullopt, "san.example.org")})) << "a name is for the initiator to follow";
  RedirectRule other = rule(std::nullopt, "127.0.0.1:40001");
  other.target = "iqn.2026-11.io.perilune:other";
  EXPECT_TRUE(check({other}));
}

}  // namespace
}  // namespace perilune::target
