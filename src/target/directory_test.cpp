// SPDX-License-Identifier: Apache-2.0
// What SendTargets is answered with, for askers here and elsewhere, through each portal.
#include "target/directory.hpp"

#include <gtest/gtest.h>

namespace perilune::target {
namespace {

using Texts = std::vector<std::string>;

runtime::Endpoint endpoint(const char* text) { return *runtime::Endpoint::parse(text, 3260); }

constexpr const char* one = "iqn.2026-11.io.perilune:one";
constexpr const char* two = "iqn.2026-11.io.perilune:two";

// `one` in group 1 on both networks of the storage and in group 2 on every address; `two` behind portal 1
// alone.
Directory directory() {
  return {
      {{0, endpoint("192.0.2.1:3260")},
       {1, endpoint("198.51.100.1:3260")},
       {2, endpoint("0.0.0.0:3261")},
       {3, endpoint("127.0.0.1:3262")},
       {4, endpoint("[fe80::1]:3260")}},
      {{one, {{.tag = 1, .portals = {0, 1, 3, 4}}, {.tag = 2, .portals = {2}}}, nullptr},
       {two, {{.tag = 5, .portals = {1}}}, nullptr}},
      {endpoint("192.0.2.1"), endpoint("198.51.100.1"), endpoint("127.0.0.1"), endpoint("[2001:db8::1]")}};
}

Texts told(std::uint32_t portal, const char* local, std::string_view asked, std::string_view own = {}) {
  Texts result;
  for (const auto& record :
       directory().answer({portal, endpoint(local), own, "iqn.2026-11.io.perilune:asker"}, asked)) {
    result.push_back(record.target_name);
    result.insert(result.end(), record.target_addresses.begin(), record.target_addresses.end());
  }
  return result;
}

TEST(Directory, EveryPortalIsListedWithItsTagTheOneAskedFirst) {
  EXPECT_EQ(told(1, "198.51.100.1:3260", "All"), (Texts{one, "198.51.100.1:3260,1", "192.0.2.1:3260,1",
                                                        "192.0.2.1:3261,2", "198.51.100.1:3261,2",  //
                                                        two, "198.51.100.1:3260,5"}));
  EXPECT_EQ(told(2, "192.0.2.1:3261", one), (Texts{one, "192.0.2.1:3261,2", "192.0.2.1:3260,1",
                                                   "198.51.100.1:3260,1", "198.51.100.1:3261,2"}));
}

TEST(Directory, LoopbackIsForThisHostAlone) {
  EXPECT_EQ(told(3, "127.0.0.1:3262", "All"), (Texts{one, "127.0.0.1:3262,1", "127.0.0.1:3261,2"}))
      << "two cannot be reached from here, and has no record: that would mean that it can, in group 1";
  EXPECT_EQ(told(2, "127.0.0.1:3261", "All"), (Texts{one, "127.0.0.1:3261,2", "127.0.0.1:3262,1"}));
}

TEST(Directory, ATargetThatIsNotBehindThePortalAskedIsListedWhereItIs) {
  EXPECT_EQ(told(0, "192.0.2.1:3260", two), (Texts{two, "198.51.100.1:3260,5"}));
}

TEST(Directory, ATargetIsListedForThoseWhoMayUseIt) {
  AccessSpec access;
  access.demo_mode = false;
  access.acls.push_back({"iqn.2026-11.io.perilune:friend", {}, {}});
  // Its group 2 is closed.
  const auto groups = std::make_shared<const TargetAccess>(
      TargetAccess::Groups{{1, std::make_shared<const Access>(access, std::vector<std::uint16_t>{})}});
  const Directory closed({{0, endpoint("192.0.2.1:3260")}, {1, endpoint("192.0.2.2:3260")}}, {{one, {{.tag = 1, .portals = {0}}, {.tag = 2, .portals = {1}}}, groups}}, {});
  const auto records = [&](std::string_view who, std::string_view asked) {
    return closed.answer({0, endpoint("192.0.2.1:3260"), {}, who}, asked).size();
  };
  EXPECT_EQ(records("iqn.2026-11.io.perilune:friend", "All"), 1u);
  EXPECT_EQ(closed.answer({0, endpoint("192.0.2.1:3260"), {}, "iqn.2026-11.io.perilune:friend"}, "All")
                .front()
                .target_addresses,
            (Texts{"192.0.2.1:3260,1"}));
  EXPECT_EQ(records("iqn.2026-11.io.perilune:stranger", "All"), 0u);
  EXPECT_EQ(records("iqn.2026-11.io.perilune:stranger", one), 0u) << "nor by its name";
}

TEST(Directory, WithoutANameASessionAsksForItsOwnTarget) {
  EXPECT_EQ(told(1, "198.51.100.1:3260", "", two), (Texts{two, "198.51.100.1:3260,5"}));
  EXPECT_EQ(told(1, "198.51.100.1:3260", "iqn.2026-11.io.perilune:nobody"), Texts{});
}

}  // namespace
}  // namespace perilune::target
