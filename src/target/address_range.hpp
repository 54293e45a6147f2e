// SPDX-License-Identifier: Apache-2.0
// Where initiators may come from: one address, or a network of them. Values; any thread.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.hpp"
#include "runtime/endpoint.hpp"

namespace perilune::target {

struct AddressRange {
  runtime::Endpoint network;  // the port counts for nothing
  std::uint32_t prefix_bits = 0;

  // "192.0.2.7", "192.0.2.0/24", "2001:db8::/32". Fails with invalid_argument.
  [[nodiscard]] static Result<AddressRange> parse(std::string_view text);
  // An IPv4 address that came in over an IPv6 socket (::ffff:192.0.2.7) is the IPv4 address.
  [[nodiscard]] bool contains(const runtime::Endpoint& peer) const noexcept;
  friend bool operator==(const AddressRange&, const AddressRange&) = default;
};

}  // namespace perilune::target
