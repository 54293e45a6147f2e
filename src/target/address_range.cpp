// SPDX-License-Identifier: Apache-2.0
#include "target/address_range.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <string>

namespace perilune::target {
namespace {

constexpr std::array<std::uint8_t, 12> mapped_prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

runtime::Endpoint plain(const runtime::Endpoint& endpoint) noexcept {
  if (!endpoint.is_ipv6 || !std::equal(mapped_prefix.begin(), mapped_prefix.end(), endpoint.address.begin()))
    return endpoint;
  runtime::Endpoint v4;
  std::copy_n(endpoint.address.begin() + mapped_prefix.size(), 4, v4.address.begin());
  return v4;
}

}  // namespace

Result<AddressRange> AddressRange::parse(std::string_view text) {
  const auto slash = text.find('/');
  const std::string address(text.substr(0, slash));
  const bool v6 = address.find(':') != std::string::npos;
  const auto endpoint = runtime::Endpoint::parse(v6 ? "[" + address + "]" : address, 0);
  if (!endpoint) return tl::unexpected(endpoint.error());
  AddressRange range{*endpoint, endpoint->is_ipv6 ? 128u : 32u};
  if (slash == std::string_view::npos) return range;
  const std::string_view bits = text.substr(slash + 1);
  std::uint32_t prefix = 0;
  const auto [end, error] = std::from_chars(bits.data(), bits.data() + bits.size(), prefix);
  if (bits.empty() || error != std::errc{} || end != bits.data() + bits.size() || prefix > range.prefix_bits)
    return fail(Errc::invalid_argument, std::string(text) + " is no network: a prefix has 0 to " +
                                            std::to_string(range.prefix_bits) + " bits");
  range.prefix_bits = prefix;
  return range;
}

bool AddressRange::contains(const runtime::Endpoint& peer) const noexcept {
  const runtime::Endpoint from = plain(peer);
  if (from.is_ipv6 != network.is_ipv6) return false;
  for (std::uint32_t bit = 0; bit < prefix_bits; bit += 8) {
    const std::uint32_t left = std::min(prefix_bits - bit, 8u);
    const auto mask = static_cast<std::uint8_t>(0xff00u >> left);
    if (((from.address[bit / 8] ^ network.address[bit / 8]) & mask) != 0) return false;
  }
  return true;
}

}  // namespace perilune::target
