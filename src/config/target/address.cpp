// SPDX-License-Identifier: Apache-2.0
// Numeric addresses without the system's help: this folder is pure. IPv6 text is RFC 4291 2.2, its shortest
// form RFC 5952 4.
#include <array>
#include <charconv>
#include <optional>

#include "config/target/objects.hpp"

namespace perilune::config::target {
namespace {

using Ipv6 = std::array<std::uint16_t, 8>;

// Decimal, without leading zeroes, at most 255.
std::optional<std::uint8_t> parse_octet(std::string_view text) {
  if (text.empty() || text.size() > 3 || (text.size() > 1 && text.front() == '0')) return std::nullopt;
  unsigned value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<unsigned>(c - '0');
  }
  if (value > 255) return std::nullopt;
  return static_cast<std::uint8_t>(value);
}

std::optional<std::array<std::uint8_t, 4>> parse_ipv4(std::string_view text) {
  std::array<std::uint8_t, 4> out{};
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto dot = text.find('.');
    if ((dot == std::string_view::npos) != (i == 3)) return std::nullopt;
    const auto octet = parse_octet(text.substr(0, dot));
    if (!octet) return std::nullopt;
    out[i] = *octet;
    text.remove_prefix(dot == std::string_view::npos ? text.size() : dot + 1);
  }
  return out;
}

// The groups of a run without "::", appended to `out`. An IPv4 address may stand last.
bool parse_groups(std::string_view text, bool last, Ipv6& out, std::size_t& count) {
  while (!text.empty()) {
    const auto colon = text.find(':');
    const std::string_view group = text.substr(0, colon);
    if (last && colon == std::string_view::npos && group.find('.') != std::string_view::npos) {
      const auto tail = parse_ipv4(group);
      if (!tail || count > 6) return false;
      out[count++] = static_cast<std::uint16_t>((*tail)[0] << 8 | (*tail)[1]);
      out[count++] = static_cast<std::uint16_t>((*tail)[2] << 8 | (*tail)[3]);
      return true;
    }
    std::uint16_t value = 0;
    const auto end = group.data() + group.size();
    const auto [at, error] = std::from_chars(group.data(), end, value, 16);
    if (group.empty() || group.size() > 4 || error != std::errc{} || at != end || count == 8) return false;
    out[count++] = value;
    if (colon == std::string_view::npos) return true;
    text.remove_prefix(colon + 1);
    if (text.empty()) return false;  // a colon at the end
  }
  return true;
}

std::optional<Ipv6> parse_ipv6(std::string_view text) {
  const auto gap = text.find("::");
  Ipv6 head{};
  Ipv6 tail{};
  std::size_t head_count = 0;
  std::size_t tail_count = 0;
  if (gap == std::string_view::npos) {
    if (!parse_groups(text, true, head, head_count) || head_count != 8) return std::nullopt;
    return head;
  }
  if (!parse_groups(text.substr(0, gap), false, head, head_count)) return std::nullopt;
  if (!parse_groups(text.substr(gap + 2), true, tail, tail_count)) return std::nullopt;
  if (head_count + tail_count > 7) return std::nullopt;
  for (std::size_t i = 0; i < tail_count; ++i) head[8 - tail_count + i] = tail[i];
  return head;
}

// The longest run of zero groups (the first of several), of two or more: {start, length}, or {8, 0}.
std::pair<std::size_t, std::size_t> zero_run(const Ipv6& address) {
  std::pair<std::size_t, std::size_t> best{8, 0};
  for (std::size_t i = 0; i < 8;) {
    std::size_t end = i;
    while (end < 8 && address[end] == 0) ++end;
    if (end - i >= 2 && end - i > best.second) best = {i, end - i};
    i = end == i ? i + 1 : end;
  }
  return best;
}

std::string format_ipv6(const Ipv6& address) {
  const auto [start, length] = zero_run(address);
  std::string out;
  for (std::size_t i = 0; i < 8; ++i) {
    if (i == start) {
      out += "::";
      i += length - 1;
      continue;
    }
    if (!out.empty() && out.back() != ':') out += ':';
    char digits[4];
    const auto [end, error] = std::to_chars(digits, digits + sizeof digits, address[i], 16);
    out.append(digits, end);
  }
  return out;
}

}  // namespace

Result<std::string> normal_address(std::string_view text) {
  std::string_view bare = text;
  if (bare.starts_with('[') && bare.ends_with(']')) bare = bare.substr(1, bare.size() - 2);
  if (bare.size() == text.size() && parse_ipv4(bare)) return std::string(bare);
  if (bare.find(':') != std::string_view::npos) {
    if (const auto address = parse_ipv6(bare)) return format_ipv6(*address);
  }
  return fail(Errc::invalid_argument,
              "'" + std::string(text.substr(0, 64)) + "' is not a numeric IPv4 or IPv6 address");
}

Result<std::string> normal_network(std::string_view text) {
  const auto slash = text.find('/');
  const auto address = normal_address(text.substr(0, slash));
  if (!address || slash == std::string_view::npos) return address;
  const std::int64_t most = address->find(':') != std::string::npos ? 128 : 32;
  const auto prefix =
      canonical_value(Field{"prefix", FieldKind::number, 0, most, {}, {}}, text.substr(slash + 1));
  if (!prefix)
    return fail(Errc::invalid_argument, std::string(text) + " is no network: " + prefix.error().message);
  return *address + "/" + *prefix;
}

}  // namespace perilune::config::target
