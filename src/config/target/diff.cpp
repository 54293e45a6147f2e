// SPDX-License-Identifier: Apache-2.0
// How one configuration becomes the other. Removals from the leaves up, then additions and new values from
// the roots down, and last the ALUA groups that LUNs have left on the way.
#include <set>
#include <utility>

#include "config/target/configuration.hpp"

namespace perilune::config::target {
namespace {

class Differ {
 public:
  Differ(const Configuration& from, const Configuration& to) : from_(from), to_(to) {
    find_what_cannot_stay();
  }

  Changes run() {
    remove_all<MappedLun>(replaced_mapped_);
    remove_all<NodeAcl>({});
    remove_all<Lun>(replaced_luns_);
    remove_all<Portal>({});
    remove_all<PortalGroup>({});
    remove_all<Target>({});
    remove_alua_groups(true);
    remove_all<StorageObject>(replaced_objects_);
    remove_all<Discovery>({});
    remove_all<Foreign>({});
    put_all<Foreign>({});
    put_all<Discovery>({});
    put_all<StorageObject>(replaced_objects_);
    put_all<AluaGroup>(early_groups_);
    put_all<Target>({});
    put_all<PortalGroup>({});
    put_all<Portal>({});
    put_all<Lun>(replaced_luns_);
    put_all<NodeAcl>({});
    put_all<MappedLun>(replaced_mapped_);
    remove_alua_groups(false);
    return std::move(changes_);
  }

 private:
  template <class Object>
  using Keys = std::set<typename Object::Key>;

  void find_what_cannot_stay() {
    for (const auto& [key, object] : from_.all<StorageObject>()) {
      const StorageObject* const wanted = to_.find<StorageObject>(key);
      if (wanted == nullptr || !is_same_disk(object, *wanted, key.plugin)) replace(key);
    }
    for (const auto& [key, group] : from_.all<AluaGroup>()) {
      if (early_groups_.contains(key) || !id_is_taken(key, group)) continue;
      early_groups_.insert(key);
      for (const LunKey& lun : from_.luns_of(key)) replace(lun);
    }
    for (const auto& [key, lun] : from_.all<Lun>()) {
      const Lun* const wanted = to_.find<Lun>(key);
      if (wanted != nullptr && wanted->object != lun.object) replace(key);
    }
    for (const auto& [key, mapped] : from_.all<MappedLun>()) {
      const MappedLun* const wanted = to_.find<MappedLun>(key);
      if (wanted != nullptr && wanted->tpg_lun != mapped.tpg_lun) replaced_mapped_.insert(key);
    }
  }

  void replace(const StorageKey& key) {
    replaced_objects_.insert(key);
    for (const auto& [group, unused] : from_.below<AluaGroup>(key)) early_groups_.insert(group);
    for (const LunKey& lun : from_.luns_of(key)) replace(lun);
  }
  void replace(const LunKey& key) {
    replaced_luns_.insert(key);
    for (const MappedLunKey& mapped : from_.mapped_luns_of(key)) replaced_mapped_.insert(mapped);
  }

  // Its tag in the object is another group's in the end, or its own tag is another in the end.
  bool id_is_taken(const AluaGroupKey& key, const AluaGroup& group) const {
    const AluaGroup* const wanted = to_.find<AluaGroup>(key);
    if (wanted != nullptr) return wanted->id != group.id;
    return to_.alua_group_of(key.parent, group.id).has_value();
  }

  // Removes what is not wanted, and what is wanted but cannot stay as it is.
  template <class Object>
  void remove_all(const Keys<Object>& replaced) {
    for (const auto& [key, value] : from_.all<Object>()) {
      if (to_.find<Object>(key) == nullptr || replaced.contains(key)) changes_.push_back(remove<Object>(key));
    }
  }
  void remove_alua_groups(bool early) {
    for (const auto& [key, group] : from_.all<AluaGroup>()) {
      const bool is_early = early_groups_.contains(key);
      if (is_early == early && (is_early || to_.find<AluaGroup>(key) == nullptr))
        changes_.push_back(remove<AluaGroup>(key));
    }
  }

  template <class Object>
  void put_all(const Keys<Object>& replaced) {
    for (const auto& [key, wanted] : to_.all<Object>()) {
      const Object* const there = replaced.contains(key) ? nullptr : from_.find<Object>(key);
      if (there == nullptr) {
        changes_.push_back(add<Object>(key, wanted));
      } else if (!(*there == wanted)) {
        changes_.push_back(set<Object>(key, wanted));
      }
    }
  }

  const Configuration& from_;
  const Configuration& to_;
  Keys<StorageObject> replaced_objects_;
  Keys<AluaGroup> early_groups_;  // removed before others come
  Keys<Lun> replaced_luns_;
  Keys<MappedLun> replaced_mapped_;
  Changes changes_;
};

}  // namespace

Changes diff(const Configuration& from, const Configuration& to) { return Differ(from, to).run(); }

}  // namespace perilune::config::target
