// SPDX-License-Identifier: Apache-2.0
// Where logins are sent instead (RFC 7143 11.13.5, status class 1). Values and pure functions; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "runtime/endpoint.hpp"

namespace perilune::target {

// A login that every given condition fits is answered with this address, before it has authenticated. The
// first rule that fits counts. Discovery sessions are never sent on.
struct RedirectRule {
  std::optional<runtime::Endpoint> portal;        // one of ServerConfig::portals, as it stands there: logins
                                                  // through it
  std::string target;                             // logins to this target, in normal form; empty: to any
  std::optional<std::uint16_t> portal_group_tag;  // logins to targets in this portal group
  std::string address;     // TargetAddress: host[:port], IPv6 in brackets (RFC 7143 13.8)
  bool permanent = false;  // 0102h instead of 0101h
};

// A portal as it was configured, the address it was bound to, and the portal group it belongs to of the
// target that is asked for.
struct BoundPortal {
  runtime::Endpoint configured;
  runtime::Endpoint bound;
  std::optional<std::uint16_t> portal_group_tag;  // empty: the target is not to be had here
};

// Fails with invalid_argument: a redirect has no portal group tag, and its port is 1 to 65535.
[[nodiscard]] Status check_redirect_address(std::string_view address);

// Of a login to the target through this portal of it. nullptr: it stays here.
[[nodiscard]] const RedirectRule* find_redirect(std::span<const RedirectRule> rules,
                                                const BoundPortal& portal, std::string_view target);

// A login that follows the rules from one portal of ours to the next must arrive somewhere. Fails with
// invalid_argument when it would come back. Only numeric addresses can be followed here; an initiator bounds
// the rest. `own_addresses`: what a wildcard portal answers on, beside loopback addresses.
[[nodiscard]] Status check_redirect_loops(std::span<const RedirectRule> rules,
                                          std::span<const BoundPortal> portals,
                                          std::span<const runtime::Endpoint> own_addresses,
                                          std::string_view target);

}  // namespace perilune::target
