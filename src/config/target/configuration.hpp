// SPDX-License-Identifier: Apache-2.0
// The configuration of a target as one value (issue 5, DESIGN 1.11): all objects in ordered maps, and indexes
// over them, so that each change is checked and made in O(log n) whatever the size. It is always consistent:
// apply() refuses what would break a rule, with one line that names the object and the fix, and then nothing
// has changed. Pure; one thread at a time.
//
// The rules that cross objects:
//  - a storage object's wwn is unique, and so is what it stands on (dev), as two writers of one disk would
//  destroy it;
//  - an object goes only when nothing lies below it and nothing refers to it (removal_of() in plan.hpp lists
//  what must go first);
//  - while LUNs export a storage object it keeps wwn, dev, block size and protection type;
//  - a LUN keeps its object, a mapped LUN keeps its LUN, an ALUA group its id: another one is another object
//    (diff() removes and adds), so that an initiator never finds another disk behind a number without being
//    told;
//  - one LUN for an object in a portal group, as rtslib has it; one portal in one portal group of a target.
#pragma once

#include <map>
#include <ranges>
#include <set>
#include <span>
#include <tuple>

#include "config/target/change.hpp"

namespace perilune::config::target {

inline constexpr std::uint16_t max_lun = 16383;            // flat space addressing (SAM-5 4.7.6.1)
inline constexpr std::size_t max_objects = 1000000;        // of all kinds
inline constexpr std::size_t max_object_name_bytes = 255;  // a name in configfs
inline constexpr std::size_t max_unit_serial_bytes = 254;  // the kernel's INQUIRY_VPD_SERIAL_LEN
inline constexpr std::size_t max_path_bytes = 4095;
inline constexpr std::size_t max_chap_bytes = 255;  // of a name or a secret
inline constexpr std::size_t max_unknown_of_object = 256;
inline constexpr std::size_t max_initiator_addresses = 256;  // of a portal group

template <class Object>
using MapOf = std::map<typename Object::Key, Object>;

class Configuration {
 public:
  // Makes the change and gives its inverse; or an error, and nothing has changed: already_exists, not_found,
  // invalid_argument (the value), busy (something refers to it), limit. O(log n).
  [[nodiscard]] Result<Change> apply(const Change& change);

  template <class Object>
  [[nodiscard]] const MapOf<Object>& all() const noexcept {
    return std::get<MapOf<Object>>(maps_);
  }
  // nullptr when there is none.
  template <class Object>
  [[nodiscard]] const Object* find(const typename Object::Key& key) const {
    const auto& map = all<Object>();
    const auto at = map.find(key);
    return at == map.end() ? nullptr : &at->second;
  }
  // The objects of a kind directly below `parent`: a range of map entries, in the order of their keys.
  template <class Object>
  [[nodiscard]] auto below(const decltype(Object::Key::parent)& parent) const {
    const auto& map = all<Object>();
    typename Object::Key first;
    first.parent = parent;
    auto begin = map.lower_bound(first);
    auto end = begin;
    while (end != map.end() && end->first.parent == parent) ++end;
    return std::ranges::subrange(begin, end);
  }
  template <class Object>
  [[nodiscard]] bool any_below(const decltype(Object::Key::parent)& parent) const {
    const auto& map = all<Object>();
    typename Object::Key first;
    first.parent = parent;
    const auto at = map.lower_bound(first);
    return at != map.end() && at->first.parent == parent;
  }

  // Who stands on what.
  [[nodiscard]] std::vector<LunKey> luns_of(const StorageKey& object) const;
  [[nodiscard]] std::vector<LunKey> luns_of(const AluaGroupKey& group) const;
  [[nodiscard]] std::vector<MappedLunKey> mapped_luns_of(const LunKey& lun) const;
  [[nodiscard]] std::optional<StorageKey> by_unit_serial(const std::string& wwn) const;
  [[nodiscard]] std::optional<StorageKey> by_dev(const std::string& dev) const;
  // The LUN that exports `object` in `group`.
  [[nodiscard]] std::optional<LunKey> lun_of(const PortalGroupKey& group, const StorageKey& object) const;
  [[nodiscard]] std::optional<AluaGroupKey> alua_group_of(const StorageKey& object, std::uint16_t id) const;
  [[nodiscard]] std::size_t objects() const noexcept { return objects_; }
  // Nothing that serves: neither a storage object nor a target.
  [[nodiscard]] bool serves_nothing() const noexcept {
    return all<StorageObject>().empty() && all<Target>().empty();
  }

  friend bool operator==(const Configuration&, const Configuration&) = default;

 private:
  template <class Object>
  Result<Change> apply_one(const ChangeOf<Object>& change);
  template <class Object>
  Result<Change> add_one(const ChangeOf<Object>& change);
  template <class Object>
  Result<Change> set_one(const ChangeOf<Object>& change);
  template <class Object>
  Result<Change> remove_one(const ChangeOf<Object>& change);

  // What must hold for a value at its key; `before` is what a set replaces.
  [[nodiscard]] Status check(const ForeignKey&, const Foreign&, const Foreign* before) const;
  [[nodiscard]] Status check(const DiscoveryKey&, const Discovery&, const Discovery* before) const;
  [[nodiscard]] Status check(const StorageKey&, const StorageObject&, const StorageObject* before) const;
  [[nodiscard]] Status check(const AluaGroupKey&, const AluaGroup&, const AluaGroup* before) const;
  [[nodiscard]] Status check(const TargetKey&, const Target&, const Target* before) const;
  [[nodiscard]] Status check(const PortalGroupKey&, const PortalGroup&, const PortalGroup* before) const;
  [[nodiscard]] Status check(const PortalKey&, const Portal&, const Portal* before) const;
  [[nodiscard]] Status check(const LunKey&, const Lun&, const Lun* before) const;
  [[nodiscard]] Status check(const NodeAclKey&, const NodeAcl&, const NodeAcl* before) const;
  [[nodiscard]] Status check(const MappedLunKey&, const MappedLun&, const MappedLun* before) const;

  // busy while something lies below an object or refers to it.
  template <class Key>
  [[nodiscard]] Status check_free(const Key&) const {
    return {};
  }
  [[nodiscard]] Status check_free(const StorageKey&) const;
  [[nodiscard]] Status check_free(const AluaGroupKey&) const;
  [[nodiscard]] Status check_free(const TargetKey&) const;
  [[nodiscard]] Status check_free(const PortalGroupKey&) const;
  [[nodiscard]] Status check_free(const LunKey&) const;
  [[nodiscard]] Status check_free(const NodeAclKey&) const;

  // The indexes, with an object and without it.
  template <class Key, class Object>
  void link(const Key&, const Object&) {}
  template <class Key, class Object>
  void unlink(const Key&, const Object&) {}
  void link(const StorageKey&, const StorageObject&);
  void unlink(const StorageKey&, const StorageObject&);
  void link(const AluaGroupKey&, const AluaGroup&);
  void unlink(const AluaGroupKey&, const AluaGroup&);
  void link(const PortalKey&, const Portal&);
  void unlink(const PortalKey&, const Portal&);
  void link(const LunKey&, const Lun&);
  void unlink(const LunKey&, const Lun&);
  void link(const MappedLunKey&, const MappedLun&);
  void unlink(const MappedLunKey&, const MappedLun&);

  std::tuple<MapOf<Foreign>, MapOf<Discovery>, MapOf<StorageObject>, MapOf<AluaGroup>, MapOf<Target>,
             MapOf<PortalGroup>, MapOf<Portal>, MapOf<Lun>, MapOf<NodeAcl>, MapOf<MappedLun>>
      maps_;
  std::size_t objects_ = 0;

  std::map<std::string, StorageKey> by_serial_;
  std::map<std::string, StorageKey> by_dev_;
  std::set<std::pair<StorageKey, LunKey>> luns_by_object_;
  std::set<std::pair<AluaGroupKey, LunKey>> luns_by_alua_group_;
  std::map<std::pair<StorageKey, std::uint16_t>, std::string> alua_ids_;
  std::set<std::pair<LunKey, MappedLunKey>> mapped_by_lun_;
  // Where a target has a portal: (target, address, port) to the tag.
  std::map<std::tuple<TargetKey, std::string, std::uint16_t>, std::uint16_t> portal_tags_;
};

// Nothing differs that initiators must not see change under them: the data (dev, nullio), the disk's name
// (wwn), its block size and its protection. The size may.
[[nodiscard]] bool is_same_disk(const StorageObject& a, const StorageObject& b, Plugin plugin);

// All or nothing: the inverses in the order in which they undo; or the first error, which names its object,
// and the configuration is as it was.
[[nodiscard]] Result<Changes> apply_all(Configuration& configuration, std::span<const Change> changes);

// The changes that lead from one configuration to the other, in an order that apply() takes. Objects that are
// equal are not touched; what may not change in place is removed and added, with what stands on it.
[[nodiscard]] Changes diff(const Configuration& from, const Configuration& to);

}  // namespace perilune::config::target
