// SPDX-License-Identifier: Apache-2.0
// Asymmetric logical unit access (SPC-4 5.15): the target ports of a unit stand in groups, and each group has
// a state that says what an initiator may do through its ports. A value of the unit; pure. One thread (the
// shard's).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/limits.hpp"
#include "base/result.hpp"

namespace perilune::scsi {

enum class AccessState : std::uint8_t {  // SPC-4 table 308
  active_optimized = 0x0,
  active_non_optimized = 0x1,
  standby = 0x2,
  unavailable = 0x3,
  offline = 0xe,
  transitioning = 0xf,
};

struct PortGroup {
  enum class Cause : std::uint8_t { none = 0, command = 1, implicit = 2 };  // of the last change: STATUS CODE

  std::uint16_t id = 1;
  AccessState state = AccessState::active_optimized;
  bool preferred = false;
  std::vector<std::uint16_t> ports = {1};  // relative target port identifiers
  Cause cause = Cause::none;
  friend bool operator==(const PortGroup&, const PortGroup&) = default;
};

class PortGroups {
 public:
  PortGroups() : PortGroups({PortGroup{}}, false) {}
  // `by_command`: SET TARGET PORT GROUPS is served; the operator may change states in any case. Check with
  // valid() first.
  PortGroups(std::vector<PortGroup> groups, bool by_command)
      : groups_(std::move(groups)), by_command_(by_command) {
    settle();
  }

  // invalid_argument: no group, two of one number, a port in two groups or numbered 0, or too many (limits).
  [[nodiscard]] static Status valid(const std::vector<PortGroup>& groups);

  [[nodiscard]] const std::vector<PortGroup>& all() const noexcept { return groups_; }
  [[nodiscard]] bool by_command() const noexcept { return by_command_; }
  // Whether some group is neither active/optimized nor active/non-optimized: the only thing that a command
  // looks at while all is well.
  [[nodiscard]] bool restricted() const noexcept { return restricted_; }
  // nullptr: the port is in no group; it is served as if it were in an active one.
  [[nodiscard]] const PortGroup* of_port(std::uint16_t port) const noexcept;
  [[nodiscard]] const PortGroup* find(std::uint16_t id) const noexcept;

  // True when the state is another one now. Precondition: find(id) != nullptr.
  bool set_state(std::uint16_t id, AccessState state, PortGroup::Cause cause) noexcept;
  void set_preferred(std::uint16_t id, bool preferred) noexcept;
  void set_by_command(bool by_command) noexcept { by_command_ = by_command; }
  friend bool operator==(const PortGroups&, const PortGroups&) = default;

 private:
  PortGroup& group(std::uint16_t id) noexcept;
  void settle() noexcept;

  std::vector<PortGroup> groups_;
  bool by_command_ = false;
  bool restricted_ = false;
};

}  // namespace perilune::scsi
