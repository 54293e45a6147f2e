// SPDX-License-Identifier: Apache-2.0
#include "target/access.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace perilune::target {
namespace {

Status check_luns(const NodeAcl& acl, std::span<const std::uint16_t> units) {
  std::set<std::uint16_t> luns;
  for (const scsi::LunMapping& mapping : acl.luns) {
    if (!luns.insert(mapping.lun).second) {
      return fail(Errc::invalid_argument,
                  fmt::format("{}: LUN {} is mapped twice", acl.initiator_name, mapping.lun));
    }
    if (std::find(units.begin(), units.end(), mapping.unit) == units.end()) {
      return fail(Errc::invalid_argument, fmt::format("{}: LUN {} is of unit {}, which there is not",
                                                      acl.initiator_name, mapping.lun, mapping.unit));
    }
  }
  return {};
}

Status check_auth(const NodeAcl& acl) {
  if (!acl.auth) return {};
  for (const iscsi::ChapCredentials& account : acl.auth->accounts) {
    const Status status = acl.auth->target_account ? iscsi::check_chap(account, *acl.auth->target_account)
                                                   : iscsi::check_chap(account);
    if (!status)
      return fail(Errc::invalid_argument, fmt::format("{}: {}", acl.initiator_name, status.error().message));
  }
  return {};
}

}  // namespace

const NodeAcl* AccessSpec::find(std::string_view initiator_name) const noexcept {
  const auto found = std::find_if(acls.begin(), acls.end(),
                                  [&](const NodeAcl& acl) { return acl.initiator_name == initiator_name; });
  return found == acls.end() ? nullptr : &*found;
}

Status check_access(const AccessSpec& access, std::span<const std::uint16_t> units, bool secrets) {
  std::set<std::string_view> names;
  if (access.demo_luns) {
    const NodeAcl others{"demo mode", *access.demo_luns, std::nullopt};
    if (Status status = check_luns(others, units); !status) return status;
  }
  for (const NodeAcl& acl : access.acls) {
    if (!names.insert(acl.initiator_name).second) {
      return fail(Errc::invalid_argument, fmt::format("{} has an ACL already", acl.initiator_name));
    }
    if (Status status = check_luns(acl, units); !status) return status;
    if (Status status = secrets ? check_auth(acl) : Status(); !status) return status;
  }
  return {};
}

Access::Access(const AccessSpec& spec, std::span<const std::uint16_t> units) : networks_(spec.networks) {
  for (const NodeAcl& acl : spec.acls) guests_.emplace(acl.initiator_name, Guest{acl.luns, acl.session});
  if (!spec.demo_mode) return;
  others_ = Guest{spec.demo_luns, spec.demo_session};
  if (spec.demo_luns || !spec.demo_mode_read_only) return;
  auto& luns = others_->map.emplace();
  for (const std::uint16_t unit : units) luns.push_back({.lun = unit, .unit = unit, .read_only = true});
}

const Access::Guest* Access::find(std::string_view initiator_name) const noexcept {
  const auto own = guests_.find(initiator_name);
  if (own != guests_.end()) return &own->second;
  return others_ ? &*others_ : nullptr;
}

const Access::Map* Access::map_of(std::string_view initiator_name) const noexcept {
  const Guest* const guest = find(initiator_name);
  return guest != nullptr ? &guest->map : nullptr;
}

const SessionRules* Access::session_rules_of(std::string_view initiator_name) const noexcept {
  const Guest* const guest = find(initiator_name);
  return guest != nullptr ? &guest->session : nullptr;
}

bool Access::shows(std::uint16_t unit) const noexcept {
  const auto has = [unit](const Guest& guest) {
    return !guest.map ||
           std::any_of(guest.map->begin(), guest.map->end(),
                       [unit](const scsi::LunMapping& mapping) { return mapping.unit == unit; });
  };
  return (others_ && has(*others_)) ||
         std::any_of(guests_.begin(), guests_.end(), [&](const auto& entry) { return has(entry.second); });
}

const Access::Map* TargetAccess::map_of(std::uint16_t tag, std::string_view initiator_name) const noexcept {
  const auto group = groups_.find(tag);
  return group == groups_.end() ? nullptr : group->second->map_of(initiator_name);
}

const SessionRules* TargetAccess::session_rules_of(std::uint16_t tag,
                                                   std::string_view initiator_name) const noexcept {
  const auto group = groups_.find(tag);
  return group == groups_.end() ? nullptr : group->second->session_rules_of(initiator_name);
}

bool Access::admits_from(const runtime::Endpoint& peer) const noexcept {
  return networks_.empty() || std::any_of(networks_.begin(), networks_.end(),
                                          [&](const AddressRange& range) { return range.contains(peer); });
}

bool TargetAccess::admits_from(std::uint16_t tag, const runtime::Endpoint& peer) const noexcept {
  const auto group = groups_.find(tag);
  return group == groups_.end() || group->second->admits_from(peer);
}

bool TargetAccess::tells(std::uint16_t tag, std::string_view initiator_name,
                         const runtime::Endpoint& peer) const noexcept {
  return admits_from(tag, peer) && (told_to_all_.contains(tag) || map_of(tag, initiator_name) != nullptr);
}

bool TargetAccess::shows(std::uint16_t unit) const noexcept {
  return std::any_of(groups_.begin(), groups_.end(),
                     [unit](const auto& group) { return group.second->shows(unit); });
}

}  // namespace perilune::target
