// SPDX-License-Identifier: Apache-2.0
#include "base/latency_histogram.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace perilune {
namespace {

TEST(LatencyHistogram, IsEmptyAtFirst) {
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.quantile_us(0.5), 0.0);
}

TEST(LatencyHistogram, QuantilesAreRightWithinTwoPercent) {
  LatencyHistogram histogram;
  for (std::uint64_t us = 1; us <= 1000; ++us) histogram.add(us * 1000);
  EXPECT_EQ(histogram.count(), 1000u);
  EXPECT_NEAR(histogram.quantile_us(0.5), 501, 501 * 0.02);
  EXPECT_NEAR(histogram.quantile_us(0.99), 991, 991 * 0.02);
  EXPECT_NEAR(histogram.quantile_us(0.999), 1000, 1000 * 0.02);
}

TEST(LatencyHistogram, KeepsTheSmallAndTheHuge) {
  LatencyHistogram histogram;
  histogram.add(7);  // exact below 32 ns
  EXPECT_DOUBLE_EQ(histogram.quantile_us(0), 0.007);
  histogram.clear();
  EXPECT_EQ(histogram.count(), 0u);
  histogram.add(std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(histogram.count(), 1u);
  EXPECT_GT(histogram.quantile_us(0.5), 1e12);
}

}  // namespace
}  // namespace perilune
