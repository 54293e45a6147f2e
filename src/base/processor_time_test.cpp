// SPDX-License-Identifier: Apache-2.0
#include "base/processor_time.hpp"

#include <gtest/gtest.h>
#include <time.h>
#include <unistd.h>

namespace perilune {
namespace {

double own_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

TEST(ProcessorTime, GrowsByWhatTheProcessUses) {
  const auto before = processor_seconds(::getpid());
  ASSERT_TRUE(before);
  const double own_before = own_seconds();
  while (own_seconds() - own_before < 0.1) {
  }
  const auto after = processor_seconds(::getpid());
  ASSERT_TRUE(after);
  EXPECT_GT(*after - *before, 0.09);  // the scheduler's own clock is behind by a tick at most
}

TEST(ProcessorTime, IsNothingOfAProcessThatDoesNotExist) {
  EXPECT_FALSE(processor_seconds(1 << 30));
}

}  // namespace
}  // namespace perilune
