// SPDX-License-Identifier: Apache-2.0
// ROD tokens (SPC-4 5.17.6, SBC-3 4.28): what POPULATE TOKEN hands out and WRITE USING TOKEN brings back. Of
// one type, access upon reference: a token stands for ranges of blocks, and using it reads what they hold
// then. Nothing is copied or kept for it, and writes to the ranges are writes like any.
//
// A token is 512 bytes that nobody can make without the key: an HMAC over all of them stands at their end.
// What it stands for is kept here, in a fixed number of places; a token that is not here any more is unknown.
// Where several shards serve the units, each has its own table and a copy of what is in the others'; all have
// one key. Time enters by argument. For src/scsi alone. One thread (the shard's).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string_view>

#include "base/bytes.hpp"
#include "scsi/unit_attention.hpp"

namespace perilune::scsi {

class LogicalUnit;

// What VPD page 8Fh advertises and the commands hold to.
namespace rod_limits {
inline constexpr std::uint16_t max_ranges = 16;  // block device range descriptors of one list
inline constexpr std::uint32_t max_inactivity_s = 600;
inline constexpr std::uint32_t default_inactivity_s = 30;
inline constexpr std::uint32_t max_lifetime_s = 3600;  // however often a token is used
inline constexpr std::uint64_t max_bytes = 268435456;  // that a token stands for, or one command writes
inline constexpr std::uint64_t optimal_bytes = 33554432;
inline constexpr std::size_t max_tokens = 256;            // of a device
inline constexpr std::size_t max_tokens_of_a_nexus = 64;  // a further one takes the place of the oldest
}  // namespace rod_limits

namespace asc {
inline constexpr AdditionalSense unsupported_token_type{0x23, 0x01};
inline constexpr AdditionalSense token_unknown{0x23, 0x04};
inline constexpr AdditionalSense token_corrupt{0x23, 0x05};
inline constexpr AdditionalSense token_expired{0x23, 0x07};
inline constexpr AdditionalSense token_deleted{0x23, 0x09};
inline constexpr AdditionalSense invalid_token_length{0x23, 0x0a};
}  // namespace asc

struct RodRange {
  std::uint64_t lba = 0;
  std::uint64_t blocks = 0;
};

// Ranges of one unit, one behind the other.
struct RodRanges {
  std::array<RodRange, rod_limits::max_ranges> list;
  std::uint16_t count = 0;
  std::uint64_t blocks = 0;  // of all
};

inline constexpr std::size_t rod_token_bytes = 512;
inline constexpr std::uint32_t rod_management_token_bytes = 96;  // header and body (SPC-4 5.17.6.4)
using RodTokenBytes = std::array<std::uint8_t, rod_token_bytes>;
using RodTokenKey = std::array<std::uint8_t, 32>;

inline constexpr std::uint32_t rod_type_access_upon_reference = 0x00010000;
inline constexpr std::uint32_t rod_type_zero = 0xffff0001;

// What a token stands for.
struct RodToken {
  std::uint64_t identifier = 0;  // 0: the place is free
  const void* owner = nullptr;   // the nexus that made it; only to be compared
  std::uint16_t unit_number = 0;
  std::uint64_t unit_id = 0;  // of its identity, in case the number has been given to another
  RodRanges ranges;
  std::uint32_t inactivity_s = 0;
  std::uint64_t made_ms = 0;
  std::uint64_t used_ms = 0;
  bool deleted = false;  // DEL_TKN; remembered until the place is needed
};

class RodTokens {
 public:
  explicit RodTokens(const RodTokenKey& key, std::uint32_t shard = 0) noexcept
      : key_(key), last_identifier_(std::uint64_t{shard} << 48) {}

  struct Made {
    const RodToken& token;          // good until the next call
    std::uint64_t in_place_of = 0;  // the identifier of one that had to go; 0: none
  };
  // Keeps a token for these ranges of the unit.
  Made make(const void* owner, const LogicalUnit& unit, const RodRanges& ranges,
                       std::uint32_t inactivity_s, std::uint64_t now_ms);
  // Its 512 bytes; the unit is the one it was made for.
  [[nodiscard]] RodTokenBytes bytes_of(const RodToken& token, const LogicalUnit& unit,
                                       std::string_view device_name) const;
  [[nodiscard]] const RodToken* find(std::uint64_t identifier, std::uint64_t now_ms) const noexcept;  // alive

  // Of the unit, those that could be used now, the ones of this shard first; `work(const RodToken&)`.
  template <class Work>
  void for_each_alive(const LogicalUnit& unit, std::uint64_t now_ms, Work work) const {
    const auto look = [&](const RodToken& token) {
      if (token.identifier != 0 && is_of(token, unit) && !token.deleted && !expired(token, now_ms))
        work(token);
    };
    for (const RodToken& token : tokens_) look(token);
    for (const auto& [identifier, token] : others_) look(token);
  }

  struct Found {
    RodToken* token = nullptr;  // nullptr: `why`
    AdditionalSense why;
  };
  // The token that somebody has brought. It has been used then.
  [[nodiscard]] Found use(Bytes brought, std::uint64_t now_ms);
  void remove(std::uint64_t identifier) noexcept;  // DEL_TKN
  void forget(const LogicalUnit& unit) noexcept;   // all that stand for blocks of it: its medium is another
  // Another shard has made one, or one has been used there.
  void learn(const RodToken& token, std::uint64_t in_place_of);
  void used(std::uint64_t identifier, std::uint64_t now_ms) noexcept;
  // The standard's own token of zeroes (SBC-3 4.28.5).
  [[nodiscard]] static bool stands_for_zeroes(Bytes brought) noexcept;

 private:
  [[nodiscard]] RodToken* known(std::uint64_t identifier) noexcept;
  [[nodiscard]] RodToken& place(const void* owner, std::uint64_t now_ms) noexcept;
  [[nodiscard]] static bool is_of(const RodToken& token, const LogicalUnit& unit) noexcept;
  [[nodiscard]] static bool expired(const RodToken& token, std::uint64_t now_ms) noexcept;

  RodTokenKey key_;
  std::array<RodToken, rod_limits::max_tokens> tokens_;
  std::map<std::uint64_t, RodToken> others_;  // of other shards, by identifier: at most max_tokens of each
  std::uint64_t last_identifier_;
};

}  // namespace perilune::scsi
