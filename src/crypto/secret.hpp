// SPDX-License-Identifier: Apache-2.0
// A secret (CHAP password) in memory: wiped when it dies, never copied by accident, and no way to print it:
// no conversion to a string, no stream operator, no formatter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <memory>
#include <string_view>

#include "base/bytes.hpp"

namespace perilune::crypto {

// Equal contents? The time depends on the lengths only.
[[nodiscard]] bool constant_time_equal(Bytes a, Bytes b) noexcept;

// Overwrites memory in a way the compiler does not remove.
void wipe(MutableBytes bytes) noexcept;

class Secret {
 public:
  Secret() noexcept = default;
  explicit Secret(Bytes bytes);
  explicit Secret(std::string_view text) : Secret(as_bytes(text)) {}
  ~Secret();
  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;

  [[nodiscard]] Secret clone() const { return Secret(reveal()); }  // a copy that somebody asked for
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  // The bytes themselves, for a digest or a 0600 file and nothing else. Valid while this lives unchanged.
  [[nodiscard]] Bytes reveal() const noexcept { return {bytes_.get(), size_}; }
  [[nodiscard]] bool equals(const Secret& other) const noexcept {
    return constant_time_equal(reveal(), other.reveal());
  }

 private:
  std::unique_ptr<std::uint8_t[]> bytes_;
  std::size_t size_ = 0;
};

std::ostream& operator<<(std::ostream&, const Secret&) = delete;

}  // namespace perilune::crypto
