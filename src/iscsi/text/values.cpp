// SPDX-License-Identifier: Apache-2.0
#include "iscsi/text/values.hpp"

#include <algorithm>
#include <charconv>

namespace perilune::iscsi {
namespace {

bool has_prefix(std::string_view value, char letter) noexcept {
  return value.size() >= 2 && value[0] == '0' && (value[1] | 0x20) == letter;
}

int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

int base64_digit(char c) noexcept {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  if (c == '/') return 63;
  return -1;
}

std::optional<std::vector<std::uint8_t>> parse_hex(std::string_view digits, std::size_t max_bytes) {
  if (digits.empty() || digits.size() % 2 != 0 || digits.size() / 2 > max_bytes) return std::nullopt;
  std::vector<std::uint8_t> out(digits.size() / 2);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int high = hex_digit(digits[2 * i]);
    const int low = hex_digit(digits[2 * i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    out[i] = static_cast<std::uint8_t>(high * 16 + low);
  }
  return out;
}

std::optional<std::vector<std::uint8_t>> parse_base64(std::string_view digits, std::size_t max_bytes) {
  if (digits.empty() || digits.size() % 4 != 0) return std::nullopt;
  const std::size_t padding = digits.ends_with("==") ? 2 : digits.ends_with("=") ? 1 : 0;
  const std::size_t size = digits.size() / 4 * 3 - padding;
  if (size > max_bytes) return std::nullopt;
  std::vector<std::uint8_t> out;
  out.reserve(size);
  std::uint32_t bits = 0;
  unsigned held = 0;
  for (const char c : digits.substr(0, digits.size() - padding)) {
    const int digit = base64_digit(c);
    if (digit < 0) return std::nullopt;
    bits = (bits << 6) | static_cast<std::uint32_t>(digit);
    held += 6;
    if (held >= 8) {
      held -= 8;
      out.push_back(static_cast<std::uint8_t>(bits >> held));
    }
  }
  // Left-over bits must be zero: one binary string has one spelling.
  if ((bits & ((1u << held) - 1u)) != 0) return std::nullopt;
  return out;
}

}  // namespace

std::optional<std::uint64_t> parse_number(std::string_view value) noexcept {
  const bool hex = has_prefix(value, 'x');
  if (hex) value.remove_prefix(2);
  std::uint64_t number = 0;
  const char* end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, number, hex ? 16 : 10);
  if (value.empty() || error != std::errc{} || stop != end) return std::nullopt;
  return number;
}

std::optional<NumberRange> parse_range(std::string_view value) noexcept {
  const std::size_t tilde = value.find('~');
  if (tilde == std::string_view::npos) return std::nullopt;
  const auto low = parse_number(value.substr(0, tilde));
  const auto high = parse_number(value.substr(tilde + 1));
  if (!low || !high || *low > *high) return std::nullopt;
  return NumberRange{*low, *high};
}

std::optional<bool> parse_boolean(std::string_view value) noexcept {
  if (value == "Yes") return true;
  if (value == "No") return false;
  return std::nullopt;
}

std::optional<std::vector<std::string_view>> parse_list(std::string_view value, std::size_t max_items) {
  std::vector<std::string_view> items;
  while (true) {
    const std::size_t comma = value.find(',');
    const std::string_view item = value.substr(0, comma);
    if (item.empty() || items.size() == max_items) return std::nullopt;
    items.push_back(item);
    if (comma == std::string_view::npos) return items;
    value.remove_prefix(comma + 1);
  }
}

std::optional<std::vector<std::uint8_t>> parse_binary(std::string_view value, std::size_t max_bytes) {
  if (has_prefix(value, 'x')) return parse_hex(value.substr(2), max_bytes);
  if (has_prefix(value, 'b')) return parse_base64(value.substr(2), max_bytes);
  return std::nullopt;
}

std::string hex_binary(Bytes bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string out = "0x";
  out.reserve(2 + 2 * bytes.size());
  for (const std::uint8_t byte : bytes) {
    out += digits[byte >> 4];
    out += digits[byte & 15];
  }
  return out;
}

std::string base64_binary(Bytes bytes) {
  static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out = "0b";
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t n = std::min<std::size_t>(3, bytes.size() - i);
    const std::uint32_t bits = (std::uint32_t{bytes[i]} << 16) |
                               (n > 1 ? std::uint32_t{bytes[i + 1]} << 8 : 0u) |
                               (n > 2 ? std::uint32_t{bytes[i + 2]} : 0u);
    out += digits[bits >> 18];
    out += digits[(bits >> 12) & 63];
    out += n > 1 ? digits[(bits >> 6) & 63] : '=';
    out += n > 2 ? digits[bits & 63] : '=';
  }
  return out;
}

std::string printable(std::string_view text, std::size_t max_bytes) {
  std::string out(text.substr(0, max_bytes));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return out;
}

}  // namespace perilune::iscsi
