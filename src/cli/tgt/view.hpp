// SPDX-License-Identifier: Apache-2.0
// tgt's way to look at a configuration: targets by a number (tid), accounts by a name, one portal group to a
// target, portals for all of them. What the configuration has no place for stands in it as keys that are
// carried along: the tid with its target, accounts that no target uses yet beside the document's. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/target/configuration.hpp"

namespace perilune::cli::tgt {

namespace model = config::target;

using Tids = std::map<std::uint32_t, model::TargetKey>;

// Every target has one: the kept, and for those that were made otherwise the lowest that are free, by name.
[[nodiscard]] Tids tids_of(const model::Configuration& configuration);
[[nodiscard]] std::uint32_t lowest_free_tid(const Tids& tids);
// That it is kept with, or that targets.conf wants for it (controller_tid).
[[nodiscard]] std::optional<std::uint32_t> wanted_tid(const model::Target& target);
// Made by tgtadm or tgt-admin.
[[nodiscard]] bool is_tgts(const model::Target& target);
[[nodiscard]] model::Target target_with_tid(std::uint32_t tid);

// The lowest portal group of a target; nullopt when it has none.
[[nodiscard]] std::optional<model::PortalGroupKey> group_of(const model::Configuration& configuration,
                                                            const model::TargetKey& target);

// Where tgt's targets listen, in order.
using Endpoint = std::pair<std::string, std::uint16_t>;
[[nodiscard]] std::vector<Endpoint> portals_of(const model::Configuration& configuration);

// The changes that make a target with its portal group, closed to all until somebody is bound.
[[nodiscard]] model::Changes new_target(const model::Configuration& configuration,
                                        const model::TargetKey& key, std::uint32_t tid);
// What removes a target with the storage objects that nothing else exports.
[[nodiscard]] model::Changes removal_with_objects(const model::Configuration& configuration,
                                                  const model::TargetKey& key);

// The storage object's name for a path, as targets.conf and targetcli make it.
[[nodiscard]] std::string name_for_path(std::string_view path);

// ---- accounts

using Accounts = std::map<std::string, model::Password>;
// Those that stand for themselves, and those that a target or discovery has.
[[nodiscard]] Accounts accounts_of(const model::Configuration& configuration);
[[nodiscard]] model::Change keep_accounts(const model::Configuration& configuration,
                                          const Accounts& accounts);

}  // namespace perilune::cli::tgt
