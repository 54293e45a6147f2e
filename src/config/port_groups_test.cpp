// SPDX-License-Identifier: Apache-2.0
#include "config/port_groups.hpp"

#include <gtest/gtest.h>

namespace perilune::config {
namespace {

using scsi::AccessState;
using scsi::PortGroup;
using scsi::PortGroups;

const std::vector<std::uint16_t> tags = {1, 2, 65535};

PortGroupsFile parsed(std::string_view text) {
  const auto file = parse_port_groups(text, tags);
  EXPECT_TRUE(file) << (file ? "" : file.error().message);
  return file.value_or(PortGroupsFile{});
}

std::string refusal(std::string_view text) {
  const auto file = parse_port_groups(text, tags);
  EXPECT_FALSE(file) << text;
  return file ? "" : file.error().message;
}

TEST(PortGroupsFile, HasAGroupALine) {
  const PortGroupsFile file = parsed(
      "# near and far\n\n1 optimized preferred\r\n\t2   standby # for now\nexplicit yes\n65535 "
      "transitioning");
  EXPECT_TRUE(file.by_command);
  EXPECT_EQ(file.groups, (std::vector<PortGroupLine>{{1, AccessState::active_optimized, true},
                                                     {2, AccessState::standby, false},
                                                     {65535, AccessState::transitioning, false}}));
  EXPECT_EQ(parsed(""), PortGroupsFile{});
  EXPECT_EQ(parsed("explicit no\n1 nonoptimized").line_of(1).state, AccessState::active_non_optimized);
  EXPECT_EQ(parsed("1 offline\n2 unavailable").line_of(2).state, AccessState::unavailable);
  EXPECT_EQ(parsed("1 offline").line_of(2), (PortGroupLine{2, AccessState::active_optimized, false}))
      << "not named";
}

TEST(PortGroupsFile, WhatIsWrongIsToldWithItsLine) {
  EXPECT_EQ(refusal("1 optimized\n\n3 standby\n"), "line 3: no portal has the tag 3");
  EXPECT_EQ(refusal("1 optimized\n1 standby"), "line 2: group 1 stands here for the second time");
  EXPECT_EQ(refusal("1"), "line 1: expected: TAG STATE [preferred]");
  EXPECT_EQ(refusal("1 optimized preferred now"), "line 1: expected: TAG STATE [preferred]");
  EXPECT_EQ(refusal("1 optimized Preferred"),
            "line 1: 'Preferred' behind a state: only 'preferred' may stand there");
  EXPECT_EQ(refusal("1 active"),
            "line 1: 'active' is no state: optimized, nonoptimized, standby, unavailable, offline or "
            "transitioning");
  EXPECT_EQ(refusal("one optimized"), "line 1: 'one' is neither the tag of a portal group nor 'explicit'");
  EXPECT_EQ(refusal("65536 optimized"),
            "line 1: '65536' is neither the tag of a portal group nor 'explicit'");
  EXPECT_EQ(refusal("-1 optimized"), "line 1: '-1' is neither the tag of a portal group nor 'explicit'");
  EXPECT_EQ(refusal("explicit"), "line 1: expected: explicit yes|no");
  EXPECT_EQ(refusal("explicit maybe"), "line 1: expected: explicit yes|no");
  EXPECT_EQ(refusal("explicit no\nexplicit no"), "line 2: explicit stands here for the second time");
  EXPECT_EQ(refusal("\x1b[2J 1"), "line 1: '?[2J' is neither the tag of a portal group nor 'explicit'");
  EXPECT_EQ(refusal(std::string(max_port_groups_file_bytes + 1, '\n')), "longer than any such file can be");
}

TEST(PortGroupsFile, OnlyWhatItSaysAnewCounts) {
  PortGroups groups({{.id = 1, .ports = {1}}, {.id = 2, .ports = {2}}, {.id = 65535, .ports = {65535}}},
                    false);
  const PortGroupsFile first = parsed("2 nonoptimized\nexplicit yes");
  apply_changes({}, first, groups);
  EXPECT_TRUE(groups.by_command());
  EXPECT_EQ(groups.find(1)->cause, PortGroup::Cause::none);
  EXPECT_EQ(groups.find(2)->state, AccessState::active_non_optimized);
  EXPECT_EQ(groups.find(2)->cause, PortGroup::Cause::implicit);

  (void)groups.set_state(2, AccessState::standby, PortGroup::Cause::command);  // an initiator
  const PortGroups by_initiator = groups;
  apply_changes(first, first, groups);
  EXPECT_EQ(groups, by_initiator) << "the file is as it was";
  apply_changes(first, parsed("explicit yes\n1 standby preferred\n2 nonoptimized # as before"), groups);
  EXPECT_EQ(groups.find(1)->state, AccessState::standby);
  EXPECT_TRUE(groups.find(1)->preferred);
  EXPECT_EQ(groups.find(2)->state, AccessState::standby);
  apply_changes(parsed("1 standby preferred\n2 nonoptimized"), parsed("2 unavailable"), groups);
  EXPECT_EQ(groups.find(1)->state, AccessState::active_optimized) << "named no more";
  EXPECT_FALSE(groups.find(1)->preferred);
  EXPECT_EQ(groups.find(2)->state, AccessState::unavailable);
}

TEST(PortGroupsFile, StatesHaveTheWordsOfTheFile) {
  EXPECT_EQ(to_string(AccessState::active_non_optimized), "nonoptimized");
  EXPECT_EQ(to_string(AccessState::transitioning), "transitioning");
}

}  // namespace
}  // namespace perilune::config
