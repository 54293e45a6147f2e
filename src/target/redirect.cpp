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
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
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

// Connections to `local` come in through this portal.
bool accepts(const BoundPortal& portal, const runtime::Endpoint& local) noexcept {
  return portal.bound.port == local.port && (portal.bound.is_wildcard() || same_address(portal.bound, local));
}

bool is_ours(std::span<const BoundPortal> portals, std::span<const runtime::Endpoint> own_addresses,
             const runtime::Endpoint& to) noexcept {
  return std::any_of(portals.begin(), portals.end(), [&](const BoundPortal& portal) {
    if (!accepts(portal, to)) return false;
    return !portal.bound.is_wildcard() || to.is_loopback() ||
           std::any_of(own_addresses.begin(), own_addresses.end(),
                       [&](const runtime::Endpoint& own) { return same_address(own, to); });
  });
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
    if (address.find(':', colon + 1) != std::string_view::npos) return refuse(address, "an IPv6 address stands in brackets");
    if (!is_port(address.substr(colon + 1))) return refuse(address, "expected a port, 1 to 65535, behind the colon");
    host = address.substr(0, colon);
  }
  if (!is_host_name(host)) return refuse(address, "expected HOST, HOST:PORT or [IPV6]:PORT");
  const auto numeric = runtime::Endpoint::parse(host, default_port);
  if (numeric && numeric->is_wildcard()) return refuse(address, "nobody can connect to this address");
  return {};
}

const RedirectRule* find_redirect(std::span<const RedirectRule> rules, std::span<const BoundPortal> portals,
                                  const runtime::Endpoint& local, std::string_view target,
                                  std::uint16_t portal_group_tag) {
  const auto through = [&](const runtime::Endpoint& configured) {
    return std::any_of(portals.begin(), portals.end(), [&](const BoundPortal& portal) {
      return portal.configured == configured && accepts(portal, local);
    });
  };
  const auto found = std::find_if(rules.begin(), rules.end(), [&](const RedirectRule& rule) {
    return (rule.target.empty() || rule.target == target) &&
           (!rule.portal_group_tag || *rule.portal_group_tag == portal_group_tag) && (!rule.portal || through(*rule.portal));
  });
  return found == rules.end() ? nullptr : &*found;
}

Status check_redirect_loops(std::span<const RedirectRule> rules, std::span<const BoundPortal> portals,
                            std::span<const runtime::Endpoint> own_addresses, std::string_view target,
                            std::uint16_t portal_group_tag) {
  for (const BoundPortal& start : portals) {
    runtime::Endpoint at = start.bound;
    // Longer than there are rules, it must have met one twice.
    for (std::size_t hops = 0;; ++hops) {
      const RedirectRule* rule = find_redirect(rules, portals, at, target, portal_group_tag);
      if (rule == nullptr) break;
      const auto to = runtime::Endpoint::parse(rule->address, default_port);
      if (!to || !is_ours(portals, own_addresses, *to)) break;
      if (hops == rules.size()) return refuse(rule->address, "logins would come back here without end");
      at = *to;
    }
  }
  return {};
}

}  // namespace perilune::target
