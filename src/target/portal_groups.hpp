// SPDX-License-Identifier: Apache-2.0
// Portal groups of a target (RFC 7143 4.1): the portals that a session may be joined through. To SCSI each is
// a target port, of the relative target port identifier that its tag is. Values and pure functions; any
// thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "scsi/port_groups.hpp"

namespace perilune::target {

// Alone in PortalGroup::portals: the group has none yet.
inline constexpr std::uint32_t no_portal = ~std::uint32_t{0};

struct PortalGroup {
  std::uint16_t tag = 1;               // not 0, which no SCSI target port may have
  // Their numbers, the places in ServerConfig::portals or what Server::add_portal() has given; empty: all of
  // them.
  std::vector<std::uint32_t> portals = {};
  friend bool operator==(const PortalGroup&, const PortalGroup&) = default;
};

// invalid_argument: no group, more than limits::max_port_groups, two of one tag, a tag of 0, a portal that
// there is none of or that stands in two of them.
[[nodiscard]] Status check_portal_groups(std::span<const PortalGroup> groups, std::size_t portals);

// The one that this portal belongs to; empty: none.
[[nodiscard]] std::optional<std::uint16_t> portal_group_of(std::span<const PortalGroup> groups,
                                                           std::uint32_t portal) noexcept;

// The name of the SCSI target port that the portal group of this tag is (RFC 7143 4.2.7.1): TARGET,t,0xTAG.
[[nodiscard]] std::string target_port_name(std::string_view target, std::uint16_t tag);

// What the units of a target begin with, where nothing else is said: a target port group for each,
// active/optimized.
[[nodiscard]] scsi::PortGroups port_groups_of(std::span<const PortalGroup> groups);
// Every one is a target port that these know.
[[nodiscard]] bool knows_all(const scsi::PortGroups& port_groups,
                             std::span<const PortalGroup> groups) noexcept;

}  // namespace perilune::target
