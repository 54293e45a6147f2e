// SPDX-License-Identifier: Apache-2.0
// The lists of changes that stand behind one command of an administrator. Pure; values only.
#pragma once

#include "config/target/configuration.hpp"

namespace perilune::config::target {

// What removes an object with all that lies below it and all that refers to it, in an order that apply()
// takes: a storage object goes with the LUNs that export it, a LUN with its mapped LUNs. Empty when there is
// no such object. As long as what it removes. Removing an ALUA group leaves its LUNs in the object's default
// group, or in none.
[[nodiscard]] Changes removal_of(const Configuration& configuration, const StorageKey& key);
[[nodiscard]] Changes removal_of(const Configuration& configuration, const AluaGroupKey& key);
[[nodiscard]] Changes removal_of(const Configuration& configuration, const TargetKey& key);
[[nodiscard]] Changes removal_of(const Configuration& configuration, const PortalGroupKey& key);
[[nodiscard]] Changes removal_of(const Configuration& configuration, const LunKey& key);
[[nodiscard]] Changes removal_of(const Configuration& configuration, const NodeAclKey& key);

// The lowest number that no LUN of the group has; nullopt when all 16384 are taken. O(n) in the group's LUNs.
[[nodiscard]] std::optional<std::uint16_t> lowest_free_lun(const Configuration& configuration,
                                                           const PortalGroupKey& group);
// The same for what an initiator sees.
[[nodiscard]] std::optional<std::uint16_t> lowest_free_lun(const Configuration& configuration,
                                                           const NodeAclKey& acl);

}  // namespace perilune::config::target
