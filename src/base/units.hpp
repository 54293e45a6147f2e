// SPDX-License-Identifier: Apache-2.0
// Strong types: no function of this project takes two bare integers that could be swapped.
#pragma once

#include <compare>
#include <cstdint>

namespace perilune {

template <class Tag, class Rep>
class Strong {
 public:
  using rep = Rep;
  constexpr Strong() noexcept = default;
  constexpr explicit Strong(Rep value) noexcept : value_(value) {}
  [[nodiscard]] constexpr Rep value() const noexcept { return value_; }
  friend constexpr auto operator<=>(Strong, Strong) noexcept = default;

 private:
  Rep value_{};
};

using Lba = Strong<struct LbaTag, std::uint64_t>;                  // logical block address
using BlockCount = Strong<struct BlockCountTag, std::uint64_t>;    // logical blocks
using ByteOffset = Strong<struct ByteOffsetTag, std::uint64_t>;    // from the start of a file or device
using ByteCount = Strong<struct ByteCountTag, std::uint64_t>;

// A number on a circle of 2^32 (RFC 1982, RFC 7143 4.2.2): CmdSN, StatSN, DataSN. Distances are signed and
// meaningful while they stay below 2^31.
template <class Tag>
class Serial {
 public:
  constexpr Serial() noexcept = default;
  constexpr explicit Serial(std::uint32_t value) noexcept : value_(value) {}
  [[nodiscard]] constexpr std::uint32_t value() const noexcept { return value_; }
  constexpr Serial& operator++() noexcept { ++value_; return *this; }
  [[nodiscard]] constexpr Serial plus(std::uint32_t n) const noexcept { return Serial(value_ + n); }
  [[nodiscard]] constexpr Serial minus(std::uint32_t n) const noexcept { return Serial(value_ - n); }
  // How far *this is ahead of `other`; negative when behind.
  [[nodiscard]] constexpr std::int32_t ahead_of(Serial other) const noexcept {
    return static_cast<std::int32_t>(value_ - other.value_);
  }
  [[nodiscard]] constexpr bool before(Serial other) const noexcept { return ahead_of(other) < 0; }
  [[nodiscard]] constexpr bool after(Serial other) const noexcept { return ahead_of(other) > 0; }
  friend constexpr bool operator==(Serial, Serial) noexcept = default;

 private:
  std::uint32_t value_ = 0;
};

using CmdSn = Serial<struct CmdSnTag>;
using StatSn = Serial<struct StatSnTag>;
using DataSn = Serial<struct DataSnTag>;  // R2TSN shares the type: the two share one numbering for
                                          // bidirectional commands

}  // namespace perilune
