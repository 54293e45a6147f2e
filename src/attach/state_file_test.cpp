// SPDX-License-Identifier: Apache-2.0
#include "attach/state_file.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include "attach/ublk_control.hpp"

namespace perilune::attach {
namespace {

TEST(AttachRecord, NamesItsDriverAndAnOlderOneIsFuse) {
  AttachRecord record;
  record.id = "1-2-3";
  record.driver = "ublk";
  record.device = "/dev/ublkb0";
  const std::string text = encode(record);
  const auto read = decode(text);
  ASSERT_TRUE(read);
  EXPECT_EQ("ublk", read->driver);
  EXPECT_EQ("/dev/ublkb0", read->device);
  const std::string line = "\"driver\": \"ublk\",";
  ASSERT_NE(std::string::npos, text.find(line));
  std::string older = text;
  older.erase(text.find(line), line.size());
  const auto read_older = decode(older);
  ASSERT_TRUE(read_older);
  EXPECT_EQ("fuse", read_older->driver);
}

TEST(AttachRecord, AnIdTellsWhetherItsProcessLives) {
  const pid_t pid = ::getpid();
  const std::uint64_t start = process_start_time(pid);
  EXPECT_TRUE(is_alive(make_record_id(pid, start, 0)));
  EXPECT_FALSE(is_alive(make_record_id(pid, start + 1, 0))) << "another process of that number";
  EXPECT_FALSE(is_alive(make_record_id(0x7FFFFFFF, start, 7)));
  for (const char* other : {"", "12", "12-", "-", "disk", "x-1-2", "99999999999999-1-2"}) {
    EXPECT_TRUE(is_alive(std::string_view(other))) << other << " is none of ours: left alone";
  }
}

TEST(UblkLabel, NumbersOfLabelsDiffer) {
  EXPECT_NE(label_number("perilune:1-2-3"), label_number("perilune:1-2-4"));
  EXPECT_EQ(label_number("perilune:1-2-3"), label_number("perilune:1-2-3"));
  EXPECT_NE(0u, label_number(""));
}

}  // namespace
}  // namespace perilune::attach
