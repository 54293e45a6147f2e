// SPDX-License-Identifier: Apache-2.0
#include "iscsi/names/names.hpp"

#include <algorithm>

#include "base/limits.hpp"
#include "crypto/hash.hpp"

namespace perilune::iscsi {
namespace {

char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
bool is_alnum(char c) noexcept { return is_digit(c) || (c >= 'a' && c <= 'z'); }
bool is_name_character(char c) noexcept {
  return is_alnum(c) || c == '-' || c == '.' || c == ':' || c == '_';
}

bool all_hex_digits(std::string_view text) noexcept {
  return std::all_of(text.begin(), text.end(), [](char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); });
}

// After "iqn.": yyyy-mm.reversed.domain[:anything] (RFC 7143 4.2.7.4)
Status check_iqn(std::string_view rest) {
  const bool date = rest.size() >= 8 && std::all_of(rest.begin(), rest.begin() + 4, is_digit) &&
                    rest[4] == '-' && is_digit(rest[5]) && is_digit(rest[6]) && rest[7] == '.';
  const int month = date ? (rest[5] - '0') * 10 + (rest[6] - '0') : 0;
  if (month < 1 || month > 12) return fail(Errc::invalid_argument, "iqn name without a yyyy-mm date");
  const std::string_view authority =
      rest.substr(8, rest.find(':') == std::string_view::npos ? rest.size() : rest.find(':') - 8);
  bool at_label_start = true;
  for (const char c : authority) {
    if (at_label_start && !is_alnum(c))
      return fail(Errc::invalid_argument, "iqn name with a bad naming authority");
    at_label_start = c == '.';
  }
  if (at_label_start) return fail(Errc::invalid_argument, "iqn name without a naming authority");
  return {};
}

Status check_form(std::string_view name) {
  if (name.starts_with("iqn.")) return check_iqn(name.substr(4));
  if (name.starts_with("eui.")) {
    if (name.size() == 4 + 16 && all_hex_digits(name.substr(4))) return {};
    return fail(Errc::invalid_argument, "eui name without 16 hexadecimal digits");
  }
  if (name.starts_with("naa.")) {
    if ((name.size() == 4 + 16 || name.size() == 4 + 32) && all_hex_digits(name.substr(4))) return {};
    return fail(Errc::invalid_argument, "naa name without 16 or 32 hexadecimal digits");
  }
  return fail(Errc::invalid_argument, "iSCSI name does not begin with iqn., eui. or naa.");
}

std::string host_label(std::string_view host) {
  std::string out;
  for (const char c : host.substr(0, host.find('.'))) {
    const char l = lower(c);
    if (is_alnum(l) || (l == '-' && !out.empty())) out += l;
    if (out.size() == 63) break;
  }
  return out.empty() ? "host" : out;
}

}  // namespace

Result<std::string> normalize_name(std::string_view name) {
  if (name.empty()) return fail(Errc::invalid_argument, "empty iSCSI name");
  if (name.size() > limits::max_iscsi_name_bytes) {
    return fail(Errc::invalid_argument, "iSCSI name longer than 223 bytes");
  }
  std::string normal(name);
  std::transform(normal.begin(), normal.end(), normal.begin(), lower);
  if (!std::all_of(normal.begin(), normal.end(), is_name_character)) {
    return fail(Errc::invalid_argument, "iSCSI name with a character outside a-z 0-9 - . : _");
  }
  if (auto form = check_form(normal); !form) return tl::unexpected<Error>(std::move(form.error()));
  return normal;
}

NameType name_type(std::string_view normalized) noexcept {
  if (normalized.starts_with("eui.")) return NameType::eui;
  return normalized.starts_with("naa.") ? NameType::naa : NameType::iqn;
}

Result<std::string> default_name(std::string_view host, Bytes machine_id, std::string_view backing_path) {
  const std::uint8_t separator = 0;
  const auto digest =
      crypto::hash(crypto::HashAlgorithm::sha256, {machine_id, Bytes(&separator, 1), as_bytes(backing_path)});
  if (!digest) return tl::unexpected<Error>(digest.error());
  static constexpr char digits[] = "0123456789abcdef";
  std::string name = "iqn.2026-11.io.perilune:" + host_label(host) + ".";
  for (const std::uint8_t byte : digest->bytes().first(8)) {
    name += digits[byte >> 4];
    name += digits[byte & 15];
  }
  return name;
}

}  // namespace perilune::iscsi
