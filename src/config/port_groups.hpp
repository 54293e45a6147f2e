// SPDX-License-Identifier: Apache-2.0
// The file that says in which state the target port groups of a target are (`perilune serve --port-groups`).
// One line each:
//
//   # the near controller
//   explicit yes               initiators may change states (SET TARGET PORT GROUPS); otherwise they may not
//   1 optimized preferred
//   2 nonoptimized             or standby, unavailable, offline, transitioning
//
// Pure; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "scsi/port_groups.hpp"

namespace perilune::config {

struct PortGroupLine {
  std::uint16_t tag = 1;
  scsi::AccessState state = scsi::AccessState::active_optimized;
  bool preferred = false;
  friend bool operator==(const PortGroupLine&, const PortGroupLine&) = default;
};

struct PortGroupsFile {
  bool by_command = false;
  std::vector<PortGroupLine> groups;  // in the order of the file; those it does not name are optimized
  friend bool operator==(const PortGroupsFile&, const PortGroupsFile&) = default;

  // What the file says of this group, or would say if it named it.
  [[nodiscard]] PortGroupLine line_of(std::uint16_t tag) const noexcept;
};

inline constexpr std::size_t max_port_groups_file_bytes = 65536;

// `tags`: of the groups that there are. Fails with invalid_argument: "line 3: …".
[[nodiscard]] Result<PortGroupsFile> parse_port_groups(std::string_view text,
                                                       std::span<const std::uint16_t> tags);

// The word for a state in the file.
[[nodiscard]] std::string_view to_string(scsi::AccessState state) noexcept;

// Puts into `groups` what is another in `now` than it was in `before`. What both say alike stays as it is:
// initiators may have changed it, and a file that is read again unchanged does not take it back.
void apply_changes(const PortGroupsFile& before, const PortGroupsFile& now, scsi::PortGroups& groups);

}  // namespace perilune::config
