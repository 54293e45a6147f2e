// SPDX-License-Identifier: Apache-2.0
// Who may use a target, and what of it (RFC 7143 9.1): node ACLs by initiator name. The list as it is configured is a value of the
// server; what shards need of it, the LUNs that each initiator sees, is immutable and shared by any threads.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "iscsi/login/chap.hpp"
#include "scsi/nexus.hpp"

namespace perilune::target {

// Who may log in, and how the target proves itself.
struct AuthSpec {
  std::vector<iscsi::ChapCredentials> accounts;          // empty: nobody has to prove anything
  std::optional<iscsi::ChapCredentials> target_account;  // mutual CHAP
  // Whether one may do without: nullopt: where there is no account. false without an account: nobody gets in.
  std::optional<bool> allow_none = std::nullopt;
};

struct NodeAcl {
  std::string initiator_name;           // normal form
  std::vector<scsi::LunMapping> luns;   // what it sees, and may write to
  std::optional<AuthSpec> auth;         // in the place of the target's
};

struct AccessSpec {
  std::vector<NodeAcl> acls;
  // Initiators without an ACL see every unit under its own number, and log in as the target's AuthSpec says. Otherwise they are
  // refused (0202h).
  bool demo_mode = true;
  bool demo_mode_read_only = false;
  // What they see in the place of that.
  std::optional<std::vector<scsi::LunMapping>> demo_luns = std::nullopt;

  [[nodiscard]] const NodeAcl* find(std::string_view initiator_name) const noexcept;
};

// invalid_argument: two ACLs of one initiator, a LUN mapped twice in one, a unit that there is none of, credentials that
// check_chap() refuses.
// `secrets`: false: weak ones are the administrator's to choose, as LIO has it.
[[nodiscard]] Status check_access(const AccessSpec& access, std::span<const std::uint16_t> units, bool secrets = true);

class Access {
 public:
  // nullopt: every unit under its own number.
  using Map = std::optional<std::vector<scsi::LunMapping>>;

  Access(const AccessSpec& spec, std::span<const std::uint16_t> units);

  // What this initiator sees; nullptr: it has no business here.
  [[nodiscard]] const Map* map_of(std::string_view initiator_name) const noexcept;
  // Somebody may see the unit.
  [[nodiscard]] bool shows(std::uint16_t unit) const noexcept;

 private:
  std::map<std::string, Map, std::less<>> maps_;  // by initiator name
  std::optional<Map> others_;
};

// The same for a whole target: each of its portal groups says who may come through it.
class TargetAccess {
 public:
  using Groups = std::map<std::uint16_t, std::shared_ptr<const Access>>;  // by tag; a group that is closed is not there
  TargetAccess() = default;
  explicit TargetAccess(Groups groups) : groups_(std::move(groups)) {}

  [[nodiscard]] const Access::Map* map_of(std::uint16_t tag, std::string_view initiator_name) const noexcept;
  [[nodiscard]] bool shows(std::uint16_t unit) const noexcept;
  [[nodiscard]] const Groups& groups() const noexcept { return groups_; }

 private:
  Groups groups_;
};

}  // namespace perilune::target
