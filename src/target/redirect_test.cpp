// SPDX-License-Identifier: Apache-2.0
#include "target/redirect.hpp"

#include <gtest/gtest.h>

namespace perilune::target {
namespace {

runtime::Endpoint endpoint(const char* text) { return *runtime::Endpoint::parse(text, 3260); }

constexpr const char* disk = "iqn.2026-11.io.perilune:disk";

TEST(Redirect, AddressesAreAsTheRfcWritesThemWithoutAGroupTag) {
  for (const char* good : {"192.0.2.1", "192.0.2.1:3261", "[2001:db8::1]", "[2001:db8::1]:65535",
                           "san.example.org", "san-2:1"}) {
    EXPECT_TRUE(check_redirect_address(good)) << good;
  }
  for (const char* bad :
       {"", ":3260", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:", "192.0.2.1,1", "[2001:db8::1]:3260,1",
        "2001:db8::1", "[2001:db8::1", "[2001:db8::1]:0", "[host]:1", "0.0.0.0", "[::]:3260", "a..b", ".a",
        "a b", "a\nTargetName=x", "host:12x"}) {
    const Status status = check_redirect_address(bad);
    ASSERT_FALSE(status) << bad;
    EXPECT_EQ(status.error().code, Errc::invalid_argument);
  }
  EXPECT_FALSE(check_redirect_address(std::string(254, 'a')));
  EXPECT_FALSE(check_redirect_address(std::string(64, 'a') + ".example"));
}

TEST(Redirect, RulesAreForAPortalATargetAGroupOrEverything) {
  const BoundPortal one{endpoint("127.0.0.1:0"), endpoint("127.0.0.1:40001"), 1};
  const BoundPortal everywhere{endpoint("0.0.0.0:3260"), endpoint("0.0.0.0:3260"), 2};
  RedirectRule rule;
  rule.address = "192.0.2.9";
  const auto fits = [&](const BoundPortal& portal, std::string_view target = disk) {
    return find_redirect({&rule, 1}, portal, target) == &rule;
  };
  EXPECT_TRUE(fits(one));
  rule.portal = endpoint("127.0.0.1:0");
  EXPECT_TRUE(fits(one)) << "the portal as it was configured, not as it was bound";
  EXPECT_FALSE(fits(everywhere));
  rule.portal.reset();
  rule.target = disk;
  EXPECT_TRUE(fits(one));
  EXPECT_FALSE(fits(one, "iqn.2026-11.io.perilune:other"));
  rule.portal_group_tag = 2;
  EXPECT_FALSE(fits(one));
  EXPECT_TRUE(fits(everywhere));
}

TEST(Redirect, TheFirstRuleThatFitsCounts) {
  RedirectRule rules[2];
  rules[0].target = "iqn.2026-11.io.perilune:other";
  const BoundPortal portal{endpoint("127.0.0.1:1"), endpoint("127.0.0.1:1"), 1};
  EXPECT_EQ(find_redirect(rules, portal, disk), &rules[1]);
  EXPECT_EQ(find_redirect(rules, portal, rules[0].target), &rules[0]);
  EXPECT_EQ(find_redirect({}, portal, disk), nullptr);
}

TEST(Redirect, LoopsAreFound) {
  BoundPortal portals[] = {{endpoint("127.0.0.1:0"), endpoint("127.0.0.1:40001"), 1},
                           {endpoint("127.0.0.1:0"), endpoint("127.0.0.1:40002"), 1},
                           {endpoint("0.0.0.0:3260"), endpoint("0.0.0.0:3260"), 1}};
  const runtime::Endpoint own[] = {endpoint("192.0.2.1")};
  const auto check = [&](std::vector<RedirectRule> rules) {
    return check_redirect_loops(rules, portals, own, disk).has_value();
  };
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
  EXPECT_FALSE(check(
      {rule(endpoint("0.0.0.0:3260"), "127.0.0.1:40001"), rule(endpoint("127.0.0.1:0"), "192.0.2.1:3260")}));
  EXPECT_TRUE(check({rule(std::nullopt, "san.example.org")})) << "a name is for the initiator to follow";
  RedirectRule other = rule(std::nullopt, "127.0.0.1:40001");
  other.target = "iqn.2026-11.io.perilune:other";
  EXPECT_TRUE(check({other}));

  // From one portal group to the other and back; only as long as both have the target.
  RedirectRule away = rule(std::nullopt, "192.0.2.1:3260"), back = rule(std::nullopt, "127.0.0.1:40001");
  away.portal_group_tag = 1;
  back.portal_group_tag = 2;
  portals[2].portal_group_tag = 2;
  EXPECT_FALSE(check({away, back}));
  portals[2].portal_group_tag.reset();
  EXPECT_TRUE(check({away, back})) << "refused there, not sent on";
}

}  // namespace
}  // namespace perilune::target
