// SPDX-License-Identifier: Apache-2.0
#include "config/target/configuration.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "config/target/json_text.hpp"
#include "config/target/text_rules.hpp"
#include "iscsi/names/names.hpp"

namespace perilune::config::target {
namespace {

template <class Key>
auto refuse(Errc code, const Key& key, std::string_view why) {
  return fail(code, path_of(key) + ": " + std::string(why));
}
template <class Key>
auto invalid(const Key& key, std::string_view why) {
  return refuse(Errc::invalid_argument, key, why);
}
template <class Key>
auto busy(const Key& key, std::string_view why) {
  return refuse(Errc::busy, key, why);
}

template <class Key>
Status check_unknown(const Key& key, const Unknown& unknown) {
  if (unknown.size() <= max_unknown_of_object) return {};
  return invalid(key,
                 "has more than " + std::to_string(max_unknown_of_object) + " keys that are not known here");
}

template <class Key>
Status check_text(const Key& key, std::string_view what, std::string_view value, std::size_t max_bytes) {
  if (value.size() <= max_bytes && is_plain_text(value)) return {};
  return invalid(key, std::string(what) + " must be text without control characters, of at most " +
                          std::to_string(max_bytes) + " bytes");
}

template <class Key>
Status check_reference(const Key& key, std::string_view what, const std::string& reference) {
  if (reference.empty()) return {};
  if (auto text = check_text(key, what, reference, max_path_bytes); !text) return text;
  const std::string_view text = reference;
  const bool file = text.starts_with(Password::file_mark);
  const auto rest = text.substr((file ? Password::file_mark : Password::credential_mark).size());
  if (file && !rest.starts_with('/'))
    return invalid(key, std::string(what) + ": @file: needs an absolute path");
  if (!file && !is_object_name(rest))
    return invalid(key, std::string(what) + ": @credential: needs a name without '/'");
  return {};
}

template <class Key>
Status check_chap(const Key& key, const Chap& chap) {
  for (const auto& [what, value] : {std::pair<std::string_view, std::string_view>{"userid", chap.userid},
                                    {"mutual_userid", chap.mutual_userid},
                                    {"password", chap.password.reveal()},
                                    {"mutual_password", chap.mutual_password.reveal()}}) {
    if (auto text = check_text(key, what, value, max_chap_bytes); !text) return text;
  }
  if (auto status = check_reference(key, "password", chap.password.reference()); !status) return status;
  return check_reference(key, "mutual_password", chap.mutual_password.reference());
}

template <class Key>
Status check_name(const Key& key, std::string_view name) {
  const auto normal = iscsi::normalize_name(name);
  if (!normal) return invalid(key, normal.error().message);
  if (*normal != name) return invalid(key, "the name must be in lower case: " + *normal);
  return {};
}

Status check_dev(const StorageKey& key, const StorageObject& object) {
  if (key.plugin == Plugin::ramdisk) {
    return object.dev.empty() ? Status{} : invalid(key, "a ramdisk has no dev; leave it out");
  }
  if (auto text = check_text(key, "dev", object.dev, max_path_bytes); !text) return text;
  if (!object.dev.starts_with('/')) return invalid(key, "dev must be an absolute path");
  return {};
}

Status check_size(const StorageKey& key, const StorageObject& object) {
  if (key.plugin == Plugin::ramdisk && object.size_bytes == 0)
    return invalid(key, "a ramdisk needs a size; give one");
  if ((key.plugin == Plugin::block || key.plugin == Plugin::pscsi) && object.size_bytes != 0) {
    return invalid(key, "the size is the device's; leave it out");
  }
  return {};
}

Status check_serial(const StorageKey& key, const StorageObject& object) {
  if (key.plugin == Plugin::pscsi) {
    return object.wwn.empty() ? Status{} : invalid(key, "the wwn is the device's; leave it out");
  }
  if (object.wwn.empty()) return invalid(key, "needs a wwn, the unit serial number");
  return check_text(key, "wwn", object.wwn, max_unit_serial_bytes);
}

Status check_switches(const StorageKey& key, const StorageObject& object) {
  const bool file = key.plugin == Plugin::fileio;
  const bool device = key.plugin == Plugin::block;
  if (object.readonly && !file && !device) return invalid(key, "readonly is for block and fileio alone");
  if (object.write_back && !file && !device) return invalid(key, "write_back is for block and fileio alone");
  if (object.nullio && key.plugin != Plugin::ramdisk) return invalid(key, "nullio is for ramdisk alone");
  if (object.aio && !file) return invalid(key, "aio is for fileio alone");
  return {};
}

Status check_bursts(const PortalGroupKey& key, const PortalGroup& group) {
  const auto& table = group_parameters();
  if (group.parameters.number(table, "FirstBurstLength") <= group.parameters.number(table, "MaxBurstLength"))
    return {};
  return invalid(key, "FirstBurstLength must not be over MaxBurstLength (RFC 7143 13.14)");
}

Status check_addresses(const PortalGroupKey& key, const PortalGroup& group) {
  if (group.initiator_addresses.size() > max_initiator_addresses)
    return invalid(key, "at most " + std::to_string(max_initiator_addresses) + " addresses of initiators");
  for (const std::string& text : group.initiator_addresses) {
    const auto normal = normal_network(text);
    if (!normal) return invalid(key, normal.error().message);
    if (*normal != text) return invalid(key, "the address must be written " + *normal);
  }
  return {};
}

}  // namespace

bool is_same_disk(const StorageObject& a, const StorageObject& b, Plugin plugin) {
  const auto& table = storage_attributes(plugin);
  const auto same = [&](std::string_view name) {
    return a.attributes.get(table, name) == b.attributes.get(table, name);
  };
  return a.dev == b.dev && a.wwn == b.wwn && a.nullio == b.nullio && same("block_size") &&
         same("pi_prot_type");
}

// ---- checks

Status Configuration::check(const ForeignKey& key, const Foreign& value, const Foreign*) const {
  const auto place = [&](std::string_view name) { return key.place == name; };
  if (!place("document") && !place("storage_objects") && !place("fabric_modules") && !place("targets")) {
    return invalid(key, "is of no part of a configuration file");
  }
  if (key.name.empty()) return invalid(key, "needs a name");
  if (const auto json = parse_json(value.json); !json) return invalid(key, json.error().message);
  return {};
}

Status Configuration::check(const DiscoveryKey& key, const Discovery& value, const Discovery*) const {
  if (auto chap = check_chap(key, value.chap); !chap) return chap;
  return check_unknown(key, value.unknown);
}

Status Configuration::check(const StorageKey& key, const StorageObject& value,
                            const StorageObject* before) const {
  if (key.name.size() > max_object_name_bytes || !is_object_name(key.name)) {
    return invalid(key, "the name must be 1 to 255 bytes without white space and '/'");
  }
  for (const auto& step : {check_dev(key, value), check_size(key, value), check_serial(key, value),
                           check_switches(key, value), check_unknown(key, value.unknown)}) {
    if (!step) return step;
  }
  const auto same_serial = value.wwn.empty() ? std::nullopt : by_unit_serial(value.wwn);
  if (same_serial && *same_serial != key) {
    return refuse(
        Errc::already_exists, key,
        "wwn " + value.wwn + " belongs to " + path_of(*same_serial) + "; every disk needs one of its own");
  }
  const auto same_dev = value.dev.empty() ? std::nullopt : by_dev(value.dev);
  if (same_dev && *same_dev != key) {
    return refuse(Errc::already_exists, key,
                  value.dev + " is in use by " + path_of(*same_dev) + "; export that one");
  }
  if (before != nullptr && !is_same_disk(*before, value, key.plugin)) {
    if (const auto luns = luns_of(key); !luns.empty()) {
      return busy(key,
                  "dev, wwn, nullio, block_size and pi_prot_type are fixed while it is exported; remove " +
                      path_of(luns.front()) + " first");
    }
  }
  return {};
}

Status Configuration::check(const AluaGroupKey& key, const AluaGroup& value, const AluaGroup* before) const {
  if (find<StorageObject>(key.parent) == nullptr)
    return refuse(Errc::not_found, key, "there is no such storage object");
  if (key.parent.plugin == Plugin::pscsi)
    return invalid(key, "a pscsi object has the device's own ALUA groups");
  if (key.name.size() > max_object_name_bytes || !is_object_name(key.name)) {
    return invalid(key, "the name must be 1 to 255 bytes without white space and '/'");
  }
  if (before != nullptr && before->id != value.id)
    return invalid(key, "the tag of a group is fixed; make another group");
  if (before == nullptr) {
    const auto at = alua_ids_.find({key.parent, value.id});
    if (at != alua_ids_.end()) {
      return refuse(Errc::already_exists, key,
                    "tag " + std::to_string(value.id) + " belongs to " + at->second + "; choose another");
    }
  }
  return check_unknown(key, value.unknown);
}

Status Configuration::check(const TargetKey& key, const Target& value, const Target*) const {
  if (auto name = check_name(key, key.wwn); !name) return name;
  return check_unknown(key, value.unknown);
}

Status Configuration::check(const PortalGroupKey& key, const PortalGroup& value, const PortalGroup*) const {
  if (find<Target>(key.parent) == nullptr) return refuse(Errc::not_found, key, "there is no such target");
  if (auto chap = check_chap(key, value.chap); !chap) return chap;
  if (auto bursts = check_bursts(key, value); !bursts) return bursts;
  if (auto addresses = check_addresses(key, value); !addresses) return addresses;
  return check_unknown(key, value.unknown);
}

Status Configuration::check(const PortalKey& key, const Portal& value, const Portal* before) const {
  if (find<PortalGroup>(key.parent) == nullptr)
    return refuse(Errc::not_found, key, "there is no such portal group");
  const auto normal = normal_address(key.address);
  if (!normal) return invalid(key, normal.error().message);
  if (*normal != key.address) return invalid(key, "the address must be in its shortest form: " + *normal);
  if (key.port == 0) return invalid(key, "the port must be from 1 to 65535");
  if (before == nullptr) {
    const auto at = portal_tags_.find({key.parent.parent, key.address, key.port});
    if (at != portal_tags_.end()) {
      return refuse(
          Errc::already_exists, key,
          "tpg" + std::to_string(at->second) + " has it; portal groups of a target cannot share a portal");
    }
  }
  return check_unknown(key, value.unknown);
}

Status Configuration::check(const LunKey& key, const Lun& value, const Lun* before) const {
  if (find<PortalGroup>(key.parent) == nullptr)
    return refuse(Errc::not_found, key, "there is no such portal group");
  if (key.index > max_lun) return invalid(key, "a LUN must be from 0 to " + std::to_string(max_lun));
  if (find<StorageObject>(value.object) == nullptr) {
    return refuse(Errc::not_found, key, "there is no storage object " + path_of(value.object));
  }
  if (before != nullptr && before->object != value.object) {
    return invalid(key, "a LUN keeps its storage object; delete it and create it anew");
  }
  if (const auto other = lun_of(key.parent, value.object); other && *other != key) {
    return refuse(Errc::already_exists, key,
                  path_of(value.object) + " is lun" + std::to_string(other->index) +
                      " already; a portal group exports an object once");
  }
  if (!value.alua_group.empty() && find<AluaGroup>({value.object, value.alua_group}) == nullptr) {
    return refuse(Errc::not_found, key, path_of(value.object) + " has no ALUA group " + value.alua_group);
  }
  if (auto alias = check_text(key, "alias", value.alias, max_object_name_bytes); !alias) return alias;
  return check_unknown(key, value.unknown);
}

Status Configuration::check(const NodeAclKey& key, const NodeAcl& value, const NodeAcl*) const {
  if (find<PortalGroup>(key.parent) == nullptr)
    return refuse(Errc::not_found, key, "there is no such portal group");
  if (auto name = check_name(key, key.initiator); !name) return name;
  if (auto tag = check_text(key, "tag", value.tag, max_object_name_bytes); !tag) return tag;
  if (auto chap = check_chap(key, value.chap); !chap) return chap;
  return check_unknown(key, value.unknown);
}

Status Configuration::check(const MappedLunKey& key, const MappedLun& value, const MappedLun* before) const {
  if (find<NodeAcl>(key.parent) == nullptr) return refuse(Errc::not_found, key, "there is no such node ACL");
  if (key.index > max_lun) return invalid(key, "a LUN must be from 0 to " + std::to_string(max_lun));
  const LunKey lun{key.parent.parent, value.tpg_lun};
  if (find<Lun>(lun) == nullptr) return refuse(Errc::not_found, key, "there is no " + path_of(lun));
  if (before != nullptr && before->tpg_lun != value.tpg_lun) {
    return invalid(key, "a mapped LUN keeps its LUN; delete it and create it anew");
  }
  if (auto alias = check_text(key, "alias", value.alias, max_object_name_bytes); !alias) return alias;
  return check_unknown(key, value.unknown);
}

Status Configuration::check_free(const StorageKey& key) const {
  if (const auto luns = luns_of(key); !luns.empty()) {
    return busy(key, "is exported as " + path_of(luns.front()) + "; remove that first");
  }
  if (any_below<AluaGroup>(key)) return busy(key, "has ALUA groups; remove them first");
  return {};
}

Status Configuration::check_free(const AluaGroupKey& key) const {
  const auto luns = luns_of(key);
  if (luns.empty()) return {};
  return busy(key, path_of(luns.front()) + " is a member; give it another group first");
}

Status Configuration::check_free(const TargetKey& key) const {
  if (any_below<PortalGroup>(key)) return busy(key, "has portal groups; remove them first");
  return {};
}

Status Configuration::check_free(const PortalGroupKey& key) const {
  if (any_below<NodeAcl>(key)) return busy(key, "has node ACLs; remove them first");
  if (any_below<Lun>(key)) return busy(key, "has LUNs; remove them first");
  if (any_below<Portal>(key)) return busy(key, "has portals; remove them first");
  return {};
}

Status Configuration::check_free(const LunKey& key) const {
  const auto at = mapped_by_lun_.lower_bound({key, MappedLunKey{}});
  if (at == mapped_by_lun_.end() || at->first != key) return {};
  return busy(key, "is mapped by " + path_of(at->second) + "; remove that first");
}

Status Configuration::check_free(const NodeAclKey& key) const {
  if (any_below<MappedLun>(key)) return busy(key, "has mapped LUNs; remove them first");
  return {};
}

// ---- indexes

void Configuration::link(const StorageKey& key, const StorageObject& object) {
  if (!object.wwn.empty()) by_serial_.emplace(object.wwn, key);
  if (!object.dev.empty()) by_dev_.emplace(object.dev, key);
}
void Configuration::unlink(const StorageKey&, const StorageObject& object) {
  by_serial_.erase(object.wwn);
  by_dev_.erase(object.dev);
}

void Configuration::link(const AluaGroupKey& key, const AluaGroup& group) {
  alua_ids_.emplace(std::pair{key.parent, group.id}, key.name);
}
void Configuration::unlink(const AluaGroupKey& key, const AluaGroup& group) {
  alua_ids_.erase({key.parent, group.id});
}

void Configuration::link(const PortalKey& key, const Portal&) {
  portal_tags_.emplace(std::tuple{key.parent.parent, key.address, key.port}, key.parent.tag);
}
void Configuration::unlink(const PortalKey& key, const Portal&) {
  portal_tags_.erase({key.parent.parent, key.address, key.port});
}

void Configuration::link(const LunKey& key, const Lun& lun) {
  luns_by_object_.emplace(lun.object, key);
  if (!lun.alua_group.empty()) luns_by_alua_group_.emplace(AluaGroupKey{lun.object, lun.alua_group}, key);
}
void Configuration::unlink(const LunKey& key, const Lun& lun) {
  luns_by_object_.erase({lun.object, key});
  luns_by_alua_group_.erase({AluaGroupKey{lun.object, lun.alua_group}, key});
}

void Configuration::link(const MappedLunKey& key, const MappedLun& mapped) {
  mapped_by_lun_.emplace(LunKey{key.parent.parent, mapped.tpg_lun}, key);
}
void Configuration::unlink(const MappedLunKey& key, const MappedLun& mapped) {
  mapped_by_lun_.erase({LunKey{key.parent.parent, mapped.tpg_lun}, key});
}

namespace {

template <class First, class Second>
std::vector<Second> seconds_of(const std::set<std::pair<First, Second>>& index, const First& first) {
  std::vector<Second> found;
  for (auto at = index.lower_bound({first, Second{}}); at != index.end() && at->first == first; ++at) {
    found.push_back(at->second);
  }
  return found;
}

template <class Map, class Key>
std::optional<StorageKey> find_in(const Map& map, const Key& key) {
  const auto at = map.find(key);
  return at == map.end() ? std::nullopt : std::optional(at->second);
}

}  // namespace

std::vector<LunKey> Configuration::luns_of(const StorageKey& object) const {
  return seconds_of(luns_by_object_, object);
}
std::vector<LunKey> Configuration::luns_of(const AluaGroupKey& group) const {
  return seconds_of(luns_by_alua_group_, group);
}
std::vector<MappedLunKey> Configuration::mapped_luns_of(const LunKey& lun) const {
  return seconds_of(mapped_by_lun_, lun);
}

std::optional<StorageKey> Configuration::by_unit_serial(const std::string& wwn) const {
  return find_in(by_serial_, wwn);
}
std::optional<StorageKey> Configuration::by_dev(const std::string& dev) const {
  return find_in(by_dev_, dev);
}

std::optional<AluaGroupKey> Configuration::alua_group_of(const StorageKey& object, std::uint16_t id) const {
  const auto at = alua_ids_.find({object, id});
  if (at == alua_ids_.end()) return std::nullopt;
  return AluaGroupKey{object, at->second};
}

std::optional<LunKey> Configuration::lun_of(const PortalGroupKey& group, const StorageKey& object) const {
  const auto at = luns_by_object_.lower_bound({object, LunKey{group, 0}});
  if (at == luns_by_object_.end() || at->first != object || at->second.parent != group) return std::nullopt;
  return at->second;
}

// ---- changes

template <class Object>
Result<Change> Configuration::add_one(const ChangeOf<Object>& change) {
  auto& map = std::get<MapOf<Object>>(maps_);
  if (map.contains(change.key))
    return refuse(Errc::already_exists, change.key, "exists already; choose another name or number");
  if (objects_ >= max_objects)
    return refuse(Errc::limit, change.key, "a configuration has at most 1000000 objects");
  if (auto legal = check(change.key, change.value, nullptr); !legal)
    return tl::unexpected<Error>(std::move(legal.error()));
  link(change.key, change.value);
  map.emplace(change.key, change.value);
  ++objects_;
  return remove<Object>(change.key);
}

template <class Object>
Result<Change> Configuration::set_one(const ChangeOf<Object>& change) {
  auto& map = std::get<MapOf<Object>>(maps_);
  const auto at = map.find(change.key);
  if (at == map.end()) return refuse(Errc::not_found, change.key, "does not exist; create it first");
  if (auto legal = check(change.key, change.value, &at->second); !legal) {
    return tl::unexpected<Error>(std::move(legal.error()));
  }
  unlink(change.key, at->second);
  link(change.key, change.value);
  Change inverse = set<Object>(change.key, std::move(at->second));
  at->second = change.value;
  return inverse;
}

template <class Object>
Result<Change> Configuration::remove_one(const ChangeOf<Object>& change) {
  auto& map = std::get<MapOf<Object>>(maps_);
  const auto at = map.find(change.key);
  if (at == map.end()) return refuse(Errc::not_found, change.key, "does not exist; nothing to remove");
  if (auto free = check_free(change.key); !free) return tl::unexpected<Error>(std::move(free.error()));
  unlink(change.key, at->second);
  Change inverse = add<Object>(change.key, std::move(at->second));
  map.erase(at);
  --objects_;
  return inverse;
}

template <class Object>
Result<Change> Configuration::apply_one(const ChangeOf<Object>& change) {
  switch (change.action) {
    case Action::add:
      return add_one(change);
    case Action::set:
      return set_one(change);
    case Action::remove:
      return remove_one(change);
  }
  return fail(Errc::invalid_argument, "a change is add, set or remove");
}

Result<Change> Configuration::apply(const Change& change) {
  return std::visit([this](const auto& step) { return apply_one(step); }, change);
}

Result<Changes> apply_all(Configuration& configuration, std::span<const Change> changes) {
  Changes inverses;
  inverses.reserve(changes.size());
  const auto undo = [&] {
    for (auto at = inverses.rbegin(); at != inverses.rend(); ++at) {
      const auto undone = configuration.apply(*at);
      PERILUNE_ASSERT(undone.has_value());
    }
  };
  for (const Change& change : changes) {
    auto inverse = configuration.apply(change);
    if (!inverse) {
      undo();
      return tl::unexpected<Error>(std::move(inverse.error()));
    }
    inverses.push_back(std::move(*inverse));
  }
  std::reverse(inverses.begin(), inverses.end());
  return inverses;
}

}  // namespace perilune::config::target
