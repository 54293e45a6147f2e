// SPDX-License-Identifier: Apache-2.0
// The fuzzer's bytes, taken from the front: small integers steer, the rest is payload. Reading past the end
// gives zeroes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "base/bytes.hpp"

namespace perilune::fuzz {

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}

  [[nodiscard]] bool empty() const noexcept { return rest_.empty(); }
  [[nodiscard]] Bytes rest() const noexcept { return rest_; }

  std::uint8_t byte() {
    if (rest_.empty()) return 0;
    const std::uint8_t value = rest_.front();
    rest_ = rest_.subspan(1);
    return value;
  }
  std::uint32_t number(unsigned bytes) {
    std::uint32_t value = 0;
    for (unsigned i = 0; i < bytes; ++i) value = (value << 8) | byte();
    return value;
  }
  // At most `length` bytes, fewer at the end.
  Bytes take(std::size_t length) {
    const Bytes taken = rest_.first(std::min(length, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  // Exactly `length` bytes, a copy of its own, so that the sanitizer sees one step too far.
  std::vector<std::uint8_t> exactly(std::size_t length) {
    const Bytes taken = take(length);
    std::vector<std::uint8_t> copy(taken.begin(), taken.end());
    copy.resize(length);
    return copy;
  }

 private:
  Bytes rest_;
};

// A broken property, in release builds too.
inline void require(bool condition) {
  if (!condition) std::abort();
}

// Fills random requests with something that is the same in every run.
struct FixedRandom {
  std::uint8_t next = 1;
  void fill(MutableBytes out) {
    for (auto& byte : out) byte = next = static_cast<std::uint8_t>(next * 5 + 17);
  }
};

}  // namespace perilune::fuzz
