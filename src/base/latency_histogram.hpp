// SPDX-License-Identifier: Apache-2.0
// Latencies counted in buckets of 1/32 of a power of two, so that a quantile is right within about 2 %.
// Adding is a few instructions and never allocates; the object is 15 KiB. Not thread-safe.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace perilune {

class LatencyHistogram {
 public:
  void add(std::uint64_t ns) noexcept { ++buckets_[index(ns)]; }
  void clear() noexcept { buckets_.fill(0); }
  [[nodiscard]] std::uint64_t count() const noexcept {
    std::uint64_t n = 0;
    for (const std::uint64_t b : buckets_) n += b;
    return n;
  }
  // The middle of the bucket that holds the q-th part (0 <= q < 1) of what was added; 0 when nothing was.
  [[nodiscard]] double quantile_us(double q) const noexcept {
    const auto rank = static_cast<std::uint64_t>(q * static_cast<double>(count()));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      seen += buckets_[i];
      if (seen > rank) return middle(i) / 1000.0;
    }
    return 0;
  }

 private:
  static constexpr unsigned sub_bits = 5;
  static constexpr std::size_t last = 60u << sub_bits;
  static std::size_t index(std::uint64_t ns) noexcept {
    if (ns < (1u << sub_bits)) return static_cast<std::size_t>(ns);
    const unsigned shift = static_cast<unsigned>(std::bit_width(ns)) - 1 - sub_bits;
    return std::min((std::size_t{shift} << sub_bits) + static_cast<std::size_t>(ns >> shift), last);
  }
  static double middle(std::size_t i) noexcept {
    if (i < (1u << sub_bits)) return static_cast<double>(i);
    const std::size_t shift = (i >> sub_bits) - 1;
    const auto mantissa = static_cast<double>((i & ((1u << sub_bits) - 1)) + (1u << sub_bits));
    return (mantissa + 0.5) * static_cast<double>(std::uint64_t{1} << shift);
  }
  std::array<std::uint64_t, last + 1> buckets_{};
};

}  // namespace perilune
