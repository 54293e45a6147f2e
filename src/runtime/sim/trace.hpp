// SPDX-License-Identifier: Apache-2.0
// The running hash of everything that happens in a world. Only values enter it, never an address.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

#include "base/bytes.hpp"

namespace perilune::sim {

class TraceHash {
 public:
  constexpr void add(std::uint64_t word) noexcept {
    hash_ = (std::rotl(hash_, 23) ^ word) * 0x9fb21c651e98df25ULL;
    hash_ ^= hash_ >> 29;
  }
  void add(Bytes bytes) noexcept {
    add(std::uint64_t{bytes.size()});
    std::size_t i = 0;
    for (; i + 8 <= bytes.size(); i += 8) add(load_be64(bytes.data() + i));
    std::uint64_t rest = 0;
    for (; i < bytes.size(); ++i) rest = (rest << 8) | bytes[i];
    add(rest);
  }
  void add(std::string_view text) noexcept { add(as_bytes(text)); }
  [[nodiscard]] constexpr std::uint64_t value() const noexcept { return hash_; }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325ULL;
};

[[nodiscard]] inline std::uint64_t hash_bytes(Bytes bytes) noexcept {
  TraceHash hash;
  hash.add(bytes);
  return hash.value();
}

}  // namespace perilune::sim
