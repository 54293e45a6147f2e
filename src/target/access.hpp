// SPDX-License-Identifier: Apache-2.0
// Who may use a target, and what of it (RFC 7143 9.1): node ACLs by initiator name. The list as it is
// configured is a value of the server; what shards need of it, the LUNs that each initiator sees, is
// immutable and shared by any threads.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "iscsi/login/chap.hpp"
#include "scsi/nexus.hpp"
#include "target/address_range.hpp"

namespace perilune::target {

// Who may log in, and how the target proves itself.
struct AuthSpec {
  std::vector<iscsi::ChapCredentials> accounts;          // empty: nobody has to prove anything
  std::optional<iscsi::ChapCredentials> target_account;  // mutual CHAP
  // Whether one may do without: nullopt: where there is no account. false without an account: nobody gets in.
  std::optional<bool> allow_none = std::nullopt;
};

// How sessions are kept that come in by it; nullopt, 0: as the server says. The window counts for sessions to
// come, the others at once.
struct SessionRules {
  std::uint32_t command_window = 0;
  std::optional<std::chrono::seconds> ping_interval = std::nullopt;  // 0: never
  std::optional<std::chrono::seconds> ping_timeout = std::nullopt;
  friend bool operator==(const SessionRules&, const SessionRules&) = default;
};

struct NodeAcl {
  std::string initiator_name;           // normal form
  std::vector<scsi::LunMapping> luns;   // what it sees, and may write to
  std::optional<AuthSpec> auth = std::nullopt;  // in the place of the target's
  SessionRules session = {};
  std::optional<std::uint8_t> error_recovery_level = std::nullopt;  // in the place of what is agreed to
                                                                    // otherwise
};

struct AccessSpec {
  std::vector<NodeAcl> acls;
  // Initiators without an ACL see every unit under its own number, and log in as the target's AuthSpec says.
  // Otherwise they are refused (0202h).
  bool demo_mode = true;
  bool demo_mode_read_only = false;
  // What they see in the place of that.
  std::optional<std::vector<scsi::LunMapping>> demo_luns = std::nullopt;
  SessionRules demo_session = {};
  // Everybody has to come from one of these; empty: from anywhere.
  std::vector<AddressRange> networks = {};

  [[nodiscard]] const NodeAcl* find(std::string_view initiator_name) const noexcept;
};

// invalid_argument: two ACLs of one initiator, a LUN mapped twice in one, a unit that there is none of,
// credentials that check_chap() refuses. `secrets`: false: weak ones are the administrator's to choose, as
// LIO has it.
[[nodiscard]] Status check_access(const AccessSpec& access, std::span<const std::uint16_t> units,
                                  bool secrets = true);

class Access {
 public:
  // nullopt: every unit under its own number.
  using Map = std::optional<std::vector<scsi::LunMapping>>;

  Access(const AccessSpec& spec, std::span<const std::uint16_t> units);

  // What this initiator sees; nullptr: it has no business here.
  [[nodiscard]] const Map* map_of(std::string_view initiator_name) const noexcept;
  [[nodiscard]] const SessionRules* session_rules_of(
      std::string_view initiator_name) const noexcept;  // likewise
  // Somebody may see the unit.
  [[nodiscard]] bool shows(std::uint16_t unit) const noexcept;
  [[nodiscard]] bool admits_from(const runtime::Endpoint& peer) const noexcept;

 private:
  struct Guest {
    Map map;
    SessionRules session;
  };
  [[nodiscard]] const Guest* find(std::string_view initiator_name) const noexcept;

  std::map<std::string, Guest, std::less<>> guests_;  // by initiator name
  std::optional<Guest> others_;
  std::vector<AddressRange> networks_;
};

// The same for a whole target: each of its portal groups says who may come through it.
class TargetAccess {
 public:
  using Groups = std::map<std::uint16_t, std::shared_ptr<const Access>>;  // by tag; a group that is closed is
                                                                          // not there
  TargetAccess() = default;
  // `told_to_all`: tags of groups that discovery tells everybody of, whether they may log in or not.
  explicit TargetAccess(Groups groups, std::set<std::uint16_t> told_to_all = {})
      : groups_(std::move(groups)), told_to_all_(std::move(told_to_all)) {}

  [[nodiscard]] const Access::Map* map_of(std::uint16_t tag, std::string_view initiator_name) const noexcept;
  [[nodiscard]] const SessionRules* session_rules_of(std::uint16_t tag,
                                                     std::string_view initiator_name) const noexcept;
  // Whether a connection from there may come through the group, whoever it is.
  [[nodiscard]] bool admits_from(std::uint16_t tag, const runtime::Endpoint& peer) const noexcept;
  // Discovery tells this initiator of the group.
  [[nodiscard]] bool tells(std::uint16_t tag, std::string_view initiator_name,
                           const runtime::Endpoint& peer) const noexcept;
  [[nodiscard]] bool shows(std::uint16_t unit) const noexcept;
  [[nodiscard]] const Groups& groups() const noexcept { return groups_; }

 private:
  Groups groups_;
  std::set<std::uint16_t> told_to_all_;
};

}  // namespace perilune::target
