// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "target/config.hpp"

namespace perilune::target {
namespace {

TEST(AffordableFirstBurst, IsSmallerTheMoreSessionsThereAre) {
  const ServerConfig config;
  EXPECT_EQ(affordable_first_burst(config, 1), 8u << 20);
  EXPECT_EQ(affordable_first_burst(config, 32), 262144u);
  EXPECT_EQ(affordable_first_burst(config, 33), 131072u);
  EXPECT_EQ(affordable_first_burst(config, 512), 16384u);
  EXPECT_EQ(affordable_first_burst(config, 65535), 16384u) << "a page is the least that can be promised";
}

TEST(AffordableFirstBurst, IsNeverMoreThanTheProtocolHas) {
  ServerConfig config;
  config.buffer_pages = 0xffffffffu;
  EXPECT_EQ(affordable_first_burst(config, 1), 0xffffffu);
  config.promised_commands = 0;
  EXPECT_EQ(affordable_first_burst(config, 1000), 0xffffffu);
}

}  // namespace
}  // namespace perilune::target
