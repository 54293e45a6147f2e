// SPDX-License-Identifier: Apache-2.0
#include "config/target/text_rules.hpp"

#include <algorithm>
#include <cstdint>

namespace perilune::config::target {
namespace {

// The length of the sequence that begins with `lead`, or 0 when none does.
std::size_t sequence_length(std::uint8_t lead) noexcept {
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return 2;
  if (lead >= 0xe0 && lead <= 0xef) return 3;
  return lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
}

// The second byte also excludes overlong forms, surrogates and what lies beyond U+10FFFF (RFC 3629 4).
bool is_second(std::uint8_t lead, std::uint8_t byte) noexcept {
  if (lead == 0xe0) return byte >= 0xa0 && byte <= 0xbf;
  if (lead == 0xed) return byte >= 0x80 && byte <= 0x9f;
  if (lead == 0xf0) return byte >= 0x90 && byte <= 0xbf;
  if (lead == 0xf4) return byte >= 0x80 && byte <= 0x8f;
  return byte >= 0x80 && byte <= 0xbf;
}

}  // namespace

bool is_plain_text(std::string_view text) noexcept {
  for (std::size_t at = 0; at < text.size();) {
    const auto lead = static_cast<std::uint8_t>(text[at]);
    const std::size_t length = sequence_length(lead);
    if (length == 0 || length > text.size() - at || lead < 0x20 || lead == 0x7f) return false;
    for (std::size_t i = 1; i < length; ++i) {
      const auto byte = static_cast<std::uint8_t>(text[at + i]);
      if (i == 1 ? !is_second(lead, byte) : (byte & 0xc0) != 0x80) return false;
    }
    at += length;
  }
  return true;
}

bool is_object_name(std::string_view text) noexcept {
  if (text.empty() || text == "." || text == ".." || !is_plain_text(text)) return false;
  return std::none_of(text.begin(), text.end(), [](char c) { return c == '/' || c == ' '; });
}

}  // namespace perilune::config::target
