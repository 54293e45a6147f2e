// SPDX-License-Identifier: Apache-2.0
#include "target/portal_groups.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/limits.hpp"

namespace perilune::target {
namespace {

bool has(const PortalGroup& group, std::uint32_t portal) noexcept {
  return group.portals.empty() ||
         std::find(group.portals.begin(), group.portals.end(), portal) != group.portals.end();
}

}  // namespace

Status check_portal_groups(std::span<const PortalGroup> groups, std::size_t portals) {
  if (groups.empty()) return fail(Errc::invalid_argument, "a target needs a portal group");
  if (groups.size() > limits::max_port_groups) {
    return fail(Errc::invalid_argument,
                fmt::format("a target has at most {} portal groups", limits::max_port_groups));
  }
  std::set<std::uint16_t> tags;
  std::set<std::uint32_t> taken;
  for (const PortalGroup& group : groups) {
    if (group.tag == 0) return fail(Errc::invalid_argument, "portal groups are numbered from 1");
    if (!tags.insert(group.tag).second) {
      return fail(Errc::invalid_argument, fmt::format("portal group {} is there twice", group.tag));
    }
    if (group.portals.empty() && groups.size() > 1) {
      return fail(Errc::invalid_argument,
                  fmt::format("portal group {} beside others needs portals of its own", group.tag));
    }
    for (const std::uint32_t portal : group.portals) {
      if (portal == no_portal) continue;
      if (portal >= portals)
        return fail(Errc::invalid_argument, fmt::format("portal group {}: no portal {}", group.tag, portal));
      if (!taken.insert(portal).second) {
        return fail(Errc::invalid_argument,
                    fmt::format("portal group {}: portal {} stands in two", group.tag, portal));
      }
    }
  }
  return {};
}

std::optional<std::uint16_t> portal_group_of(std::span<const PortalGroup> groups,
                                             std::uint32_t portal) noexcept {
  const auto found = std::find_if(groups.begin(), groups.end(),
                                  [&](const PortalGroup& group) { return has(group, portal); });
  return found == groups.end() ? std::nullopt : std::optional(found->tag);
}

std::string target_port_name(std::string_view target, std::uint16_t tag) {
  return fmt::format("{},t,0x{:04x}", target, tag);
}

scsi::PortGroups port_groups_of(std::span<const PortalGroup> groups) {
  std::vector<scsi::PortGroup> result;
  for (const PortalGroup& group : groups) result.push_back({.id = group.tag, .ports = {group.tag}});
  return {std::move(result), false};
}

bool knows_all(const scsi::PortGroups& port_groups, std::span<const PortalGroup> groups) noexcept {
  return std::all_of(groups.begin(), groups.end(),
                     [&](const PortalGroup& group) { return port_groups.of_port(group.tag) != nullptr; });
}

}  // namespace perilune::target
