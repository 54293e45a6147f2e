// SPDX-License-Identifier: Apache-2.0
// A numeric IP address and a TCP port. Name resolution is not done here.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace perilune::runtime {

struct Endpoint {
  std::array<std::uint8_t, 16> address{};  // network order; an IPv4 address uses the first four bytes
  bool is_ipv6 = false;
  std::uint16_t port = 0;
  std::uint32_t scope_id = 0;              // IPv6 link-local zone, 0 when none

  // "192.0.2.1:3260", "192.0.2.1", "[2001:db8::1]:3260", "[fe80::1%2]:3260", "2001:db8::1" (no port). Without
  // a port, default_port. Fails with invalid_argument.
  [[nodiscard]] static Result<Endpoint> parse(std::string_view text, std::uint16_t default_port);

  [[nodiscard]] std::string address_string() const;  // "192.0.2.1", "2001:db8::1" (no brackets, no zone)
  [[nodiscard]] std::string to_string() const;       // "192.0.2.1:3260", "[2001:db8::1]:3260"
  [[nodiscard]] bool is_wildcard() const noexcept;
  [[nodiscard]] bool is_loopback() const noexcept;
  [[nodiscard]] bool is_link_local() const noexcept;
  friend auto operator<=>(const Endpoint&, const Endpoint&) = default;
};

}  // namespace perilune::runtime
