// SPDX-License-Identifier: Apache-2.0
// The forms of values (RFC 7143 6.1): numbers, ranges, booleans, lists, binary strings. Pure; strict.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"

namespace perilune::iscsi {

// A decimal or 0x hexadecimal constant of at most 64 bits, nothing before or after it. nullopt otherwise.
[[nodiscard]] std::optional<std::uint64_t> parse_number(std::string_view value) noexcept;

struct NumberRange {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
};
// "low~high", low <= high.
[[nodiscard]] std::optional<NumberRange> parse_range(std::string_view value) noexcept;

[[nodiscard]] std::optional<bool> parse_boolean(std::string_view value) noexcept;  // "Yes", "No"

// Items of a comma separated list; nullopt when an item is empty or there are more than max_items.
[[nodiscard]] std::optional<std::vector<std::string_view>> parse_list(std::string_view value,
                                                                      std::size_t max_items);

// A binary string: 0x and an even number of hexadecimal digits, or 0b and base64 with its padding. nullopt
// when it is neither, is empty, or decodes to more than max_bytes (checked before memory is taken).
[[nodiscard]] std::optional<std::vector<std::uint8_t>> parse_binary(std::string_view value,
                                                                    std::size_t max_bytes);

[[nodiscard]] std::string hex_binary(Bytes bytes);     // "0x…", lower case
[[nodiscard]] std::string base64_binary(Bytes bytes);  // "0b…"

// Text from a peer made fit for a log line or a listing: control characters and DEL become '?', cut to
// max_bytes.
[[nodiscard]] std::string printable(std::string_view text, std::size_t max_bytes);

}  // namespace perilune::iscsi
