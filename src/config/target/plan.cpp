// SPDX-License-Identifier: Apache-2.0
#include "config/target/plan.hpp"

#include <utility>

namespace perilune::config::target {
namespace {

// Collects removals, leaves first. Each takes an object that is there.
class Removal {
 public:
  explicit Removal(const Configuration& configuration) : configuration_(configuration) {}

  void take(const LunKey& key) {
    for (const MappedLunKey& mapped : configuration_.mapped_luns_of(key))
      changes_.push_back(remove<MappedLun>(mapped));
    changes_.push_back(remove<Lun>(key));
  }
  void take(const NodeAclKey& key) {
    for (const auto& [mapped, value] : configuration_.below<MappedLun>(key))
      changes_.push_back(remove<MappedLun>(mapped));
    changes_.push_back(remove<NodeAcl>(key));
  }
  void take(const PortalGroupKey& key) {
    for (const auto& [acl, value] : configuration_.below<NodeAcl>(key)) take(acl);
    // The mapped LUNs went with their ACLs.
    for (const auto& [lun, value] : configuration_.below<Lun>(key)) changes_.push_back(remove<Lun>(lun));
    for (const auto& [portal, value] : configuration_.below<Portal>(key))
      changes_.push_back(remove<Portal>(portal));
    changes_.push_back(remove<PortalGroup>(key));
  }
  void take(const TargetKey& key) {
    for (const auto& [group, value] : configuration_.below<PortalGroup>(key)) take(group);
    changes_.push_back(remove<Target>(key));
  }
  void take(const StorageKey& key) {
    for (const LunKey& lun : configuration_.luns_of(key)) take(lun);
    for (const auto& [group, value] : configuration_.below<AluaGroup>(key))
      changes_.push_back(remove<AluaGroup>(group));
    changes_.push_back(remove<StorageObject>(key));
  }
  void take(const AluaGroupKey& key) {
    const AluaGroupKey fallback{key.parent, std::string(default_alua_group)};
    const bool has_fallback = key != fallback && configuration_.find<AluaGroup>(fallback) != nullptr;
    for (const LunKey& lun : configuration_.luns_of(key)) {
      Lun value = *configuration_.find<Lun>(lun);
      value.alua_group = has_fallback ? fallback.name : std::string();
      changes_.push_back(set<Lun>(lun, std::move(value)));
    }
    changes_.push_back(remove<AluaGroup>(key));
  }

  Changes run() { return std::move(changes_); }

 private:
  const Configuration& configuration_;
  Changes changes_;
};

template <class Object>
Changes removal(const Configuration& configuration, const typename Object::Key& key) {
  if (configuration.find<Object>(key) == nullptr) return {};
  Removal plan(configuration);
  plan.take(key);
  return plan.run();
}

template <class Object, class Parent>
std::optional<std::uint16_t> lowest_free(const Configuration& configuration, const Parent& parent) {
  std::uint16_t wanted = 0;
  for (const auto& [key, value] : configuration.below<Object>(parent)) {
    if (key.index != wanted) break;
    ++wanted;
  }
  return wanted <= max_lun ? std::optional(wanted) : std::nullopt;
}

}  // namespace

Changes removal_of(const Configuration& configuration, const StorageKey& key) {
  return removal<StorageObject>(configuration, key);
}
Changes removal_of(const Configuration& configuration, const AluaGroupKey& key) {
  return removal<AluaGroup>(configuration, key);
}
Changes removal_of(const Configuration& configuration, const TargetKey& key) {
  return removal<Target>(configuration, key);
}
Changes removal_of(const Configuration& configuration, const PortalGroupKey& key) {
  return removal<PortalGroup>(configuration, key);
}
Changes removal_of(const Configuration& configuration, const LunKey& key) {
  return removal<Lun>(configuration, key);
}
Changes removal_of(const Configuration& configuration, const NodeAclKey& key) {
  return removal<NodeAcl>(configuration, key);
}

std::optional<std::uint16_t> lowest_free_lun(const Configuration& configuration,
                                             const PortalGroupKey& group) {
  return lowest_free<Lun>(configuration, group);
}
std::optional<std::uint16_t> lowest_free_lun(const Configuration& configuration, const NodeAclKey& acl) {
  return lowest_free<MappedLun>(configuration, acl);
}

}  // namespace perilune::config::target
