// SPDX-License-Identifier: Apache-2.0
#include "cli/serve_portals.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace perilune::cli {
namespace {

constexpr std::uint16_t default_port = 3260;

struct PortalText {
  runtime::Endpoint endpoint;
  std::optional<std::uint16_t> tag;
};

Result<PortalText> read_portal(std::string_view option, std::string_view text) {
  PortalText portal;
  const auto comma = text.find(',');
  if (comma != std::string_view::npos) {
    const std::string_view digits = text.substr(comma + 1);
    std::uint16_t tag = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), tag);
    if (error != std::errc{} || end != digits.data() + digits.size() || tag == 0) {
      return fail(Errc::invalid_argument,
                  fmt::format("{}: '{}' is no portal group tag, 1 to 65535", option, digits));
    }
    portal.tag = tag;
  }
  auto endpoint = runtime::Endpoint::parse(text.substr(0, comma), default_port);
  if (!endpoint) return fail(Errc::invalid_argument, fmt::format("{}: {}", option, endpoint.error().message));
  portal.endpoint = *endpoint;
  return portal;
}

target::PortalGroup& group_of(std::vector<target::PortalGroup>& groups, std::uint16_t tag) {
  const auto place = std::lower_bound(
      groups.begin(), groups.end(), tag,
      [](const target::PortalGroup& group, std::uint16_t wanted) { return group.tag < wanted; });
  if (place != groups.end() && place->tag == tag) return *place;
  return *groups.insert(place, target::PortalGroup{tag, {}});
}

}  // namespace

Result<ServedPortals> read_portals(const std::vector<std::string>& texts) {
  ServedPortals portals;
  for (const std::string& text : texts) {
    auto portal = read_portal("--portal", text);
    if (!portal) return tl::unexpected(portal.error());
    group_of(portals.groups, portal->tag.value_or(1))
        .portals.push_back(static_cast<std::uint32_t>(portals.endpoints.size()));
    portals.endpoints.push_back(portal->endpoint);
  }
  return portals;
}

Result<target::RedirectRule> read_redirect(std::string_view option, std::string_view text, bool permanent,
                                           const ServedPortals& portals) {
  target::RedirectRule rule;
  rule.permanent = permanent;
  const auto equals = text.find('=');
  if (equals != std::string_view::npos) {
    auto portal = read_portal(option, text.substr(0, equals));
    if (!portal) return tl::unexpected(portal.error());
    const auto known = [&](std::uint32_t number) {
      const auto group = target::portal_group_of(portals.groups, number);
      return portals.endpoints[number] == portal->endpoint && (!portal->tag || portal->tag == group);
    };
    bool any = false;
    for (std::uint32_t number = 0; number < portals.endpoints.size(); ++number) any = any || known(number);
    if (!any) {
      const std::string tag = portal->tag ? fmt::format(",{}", *portal->tag) : std::string();
      return fail(Errc::invalid_argument,
                  fmt::format("{}: {}{} is none of the portals", option, portal->endpoint.to_string(), tag));
    }
    rule.portal = portal->endpoint;
    rule.portal_group_tag = portal->tag;
  }
  rule.address = text.substr(equals == std::string_view::npos ? 0 : equals + 1);
  return rule;
}

}  // namespace perilune::cli
