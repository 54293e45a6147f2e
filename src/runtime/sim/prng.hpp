// SPDX-License-Identifier: Apache-2.0
// The simulator's random numbers: xoshiro256** seeded by splitmix64. Integers only, nothing from <random>,
// whose distributions differ between libraries: a seed means the same run on every compiler.
#pragma once

#include <bit>
#include <cstdint>

#include "base/assert.hpp"
#include "base/bytes.hpp"

namespace perilune::sim {

constexpr std::uint64_t splitmix64(std::uint64_t& state) noexcept {
  std::uint64_t z = (state += 0x9e3779b97f4a7c15ULL);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

class Prng {
 public:
  explicit Prng(std::uint64_t seed) noexcept {
    for (auto& word : state_) word = splitmix64(seed);
  }

  std::uint64_t next() noexcept {
    const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const std::uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }
  // 0 .. bound - 1; bound > 0.
  std::uint64_t below(std::uint64_t bound) noexcept {
    PERILUNE_ASSERT(bound > 0);
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint64_t>((static_cast<Wide>(next()) * bound) >> 64);
  }
  // first .. last, both possible.
  std::uint64_t between(std::uint64_t first, std::uint64_t last) noexcept {
    return first + below(last - first + 1);
  }
  bool chance(std::uint64_t numerator, std::uint64_t denominator) noexcept {
    return below(denominator) < numerator;
  }
  bool per_million(std::uint64_t n) noexcept { return n != 0 && chance(n, 1'000'000); }
  bool coin() noexcept { return (next() >> 63) != 0; }
  Prng fork() noexcept { return Prng(next()); }

  void fill(MutableBytes out) noexcept {
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (i % 8 == 0) word = next();
      out[i] = static_cast<std::uint8_t>(word);
      word >>= 8;
    }
  }

 private:
  std::uint64_t state_[4] = {};
};

}  // namespace perilune::sim
