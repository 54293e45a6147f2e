// SPDX-License-Identifier: Apache-2.0
#include "target/redirect.hpp"

#include <algorithm>
#include <charconv>

namespace perilune::target {
namespace {

constexpr std::uint16_t default_port = 3260;
constexpr std::size_t max_host_bytes = 253;  // RFC 1035, without the dot at the end
constexpr std::size_t max_label_bytes = 63;

bool is_host_name(std::string_view host) noexcept {
  if (host.empty() || host.size() > max_host_bytes) return false;
  std::size_t label = 0;
  for (const char c : host) {
    const bool letter =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    if (!letter && (c != '.' || label == 0)) return false;
    label = letter ? label + 1 : 0;
    if (label > max_label_bytes) return false;
  }
  return label != 0;
}

bool is_port(std::string_view text) noexcept {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc{} && end == text.data() + text.size() && port != 0;
}

bool same_address(const runtime::Endpoint& a, const runtime::Endpoint& b) noexcept {
  return a.is_ipv6 == b.is_ipv6 && a.address == b.address;
}

// The portal of ours that connections to this address come in through; nullptr: it is somebody else's.
const BoundPortal* portal_at(std::span<const BoundPortal> portals,
                             std::span<const runtime::Endpoint> own_addresses,
                             const runtime::Endpoint& to) noexcept {
  const bool own = to.is_loopback() ||
                   std::any_of(own_addresses.begin(), own_addresses.end(),
                               [&](const runtime::Endpoint& address) { return same_address(address, to); });
  const auto found = std::find_if(portals.begin(), portals.end(), [&](const BoundPortal& portal) {
    return portal.bound.port == to.port &&
           (portal.bound.is_wildcard() ? own : same_address(portal.bound, to));
  });
  return found == portals.end() ? nullptr : &*found;
}

tl::unexpected<Error> refuse(std::string_view address, std::string_view why) {
  return fail(Errc::invalid_argument, "redirect to '" + std::string(address) + "': " + std::string(why));
}

}  // namespace

Status check_redirect_address(std::string_view address) {
  if (address.find(',') != std::string_view::npos) return refuse(address, "no portal group tag belongs here");
  std::string_view host = address;
  if (address.starts_with('[')) {
    const auto numeric = runtime::Endpoint::parse(address, default_port);
    if (!numeric || numeric->port == 0) return refuse(address, "expected [IPV6] or [IPV6]:PORT");
    if (numeric->is_wildcard()) return refuse(address, "nobody can connect to this address");
    return {};
  }
  if (const auto colon = address.find(':'); colon != std::string_view::npos) {
    if (address.find(':', colon + 1) != std::string_view::npos)
      return refuse(address, "an IPv6 address stands in brackets");
    if (!is_port(address.substr(colon + 1)))
      return refuse(address, "expected a port, 1 to 65535, behind the colon");
    host = address.substr(0, colon);
  }
  if (!is_host_name(host)) return refuse(address, "expected HOST, HOST:PORT or [IPV6]:PORT");
  const auto numeric = runtime::Endpoint::parse(host, default_port);
  if (numeric && numeric->is_wildcard()) return refuse(address, "nobody can connect to this address");
  return {};
}

const RedirectRule* find_redirect(std::span<const RedirectRule> rules, const BoundPortal& portal,
                                  std::string_view target) {
  const auto found = std::find_if(rules.begin(), rules.end(), [&](const RedirectRule& rule) {
    return (rule.target.empty() || rule.target == target) &&
           (!rule.portal_group_tag || rule.portal_group_tag == portal.portal_group_tag) &&
           (!rule.portal || *rule.portal == portal.configured);
  });
  return found == rules.end() ? nullptr : &*found;
}

Status check_redirect_loops(std::span<const RedirectRule> rules, std::span<const BoundPortal> portals,
                            std::span<const runtime::Endpoint> own_addresses, std::string_view target) {
  for (const BoundPortal& start : portals) {
    const BoundPortal* at = &start;
    // Longer than there are rules, it must have met one twice.
    for (std::size_t hops = 0; at != nullptr && at->portal_group_tag; ++hops) {
      const RedirectRule* rule = find_redirect(rules, *at, target);
      if (rule == nullptr) break;
      const auto to = runtime::Endpoint::parse(rule->address, default_port);
      at = to ? portal_at(portals, own_addresses, *to) : nullptr;
      if (at != nullptr && hops == rules.size())
        return refuse(rule->address, "logins would come back here without end");
    }
  }
  return {};
}

}  // namespace perilune::target
