// SPDX-License-Identifier: Apache-2.0
// What the configuration's objects mean to a target server: LIO's words as target:: and block:: values. Pure
// but for what it says of time; any thread.
//
// What has no effect here, and is kept, stands in docs/COMPATIBILITY.md with its reason. A limit or a length
// that has LIO's default means ours, which is at least as large; one that was set is kept to. Flags count as
// they are shown.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "block/open_backstore.hpp"
#include "config/target/configuration.hpp"
#include "target/config.hpp"

namespace perilune::control::serving {

// "/srv/disk", "ram:1048576", "null:1048576": for block::open_backstore().
[[nodiscard]] std::string backing_of(const config::target::StorageKey& key,
                                     const config::target::StorageObject& object);
[[nodiscard]] block::BackstoreOptions backing_options(const config::target::StorageKey& key,
                                                      const config::target::StorageObject& object);
// What the attributes of a disk decide of the logical units over it. Flags count as they are shown; a limit
// that has LIO's default means ours, which is at least as large, and one that was set is kept to.
[[nodiscard]] scsi::UnitRules unit_rules_of(const config::target::StorageKey& key,
                                            const config::target::StorageObject& object);
// What is served differs, so that the object has to be opened anew.
[[nodiscard]] bool is_same_backing(const config::target::StorageObject& a,
                                   const config::target::StorageObject& b, config::target::Plugin plugin);

// Serial and NAA as LIO derives them, so that WWIDs survive a migration (lio_naa()). pscsi: none, the device
// has its own.
[[nodiscard]] scsi::UnitIdentity identity_of(const config::target::StorageKey& key,
                                             const config::target::StorageObject& object);

// The ALUA groups of a storage object as the units of `target` have them: each with the tags of the portal
// groups that export it so; other portal groups of the target in the object's default group.
[[nodiscard]] scsi::PortGroups port_groups_of(const config::target::Configuration& configuration,
                                              const config::target::TargetKey& target,
                                              const config::target::StorageKey& object);
// What an operator's change from `before` to `wanted` makes of the groups as they are: initiators may have
// changed states meanwhile.
void change_port_groups(const scsi::PortGroups& before, const scsi::PortGroups& wanted,
                        scsi::PortGroups& now);

// The record of AccessStates; empty: nothing is kept of the object.
[[nodiscard]] std::string access_states_record(const config::target::StorageKey& key,
                                               const config::target::StorageObject& object);
// What gives the object's ALUA groups of these numbers these states, where they have others. Numbers of no
// group say nothing.
[[nodiscard]] config::target::Changes changes_for_access_states(
    const config::target::Configuration& configuration, const config::target::StorageKey& key,
    const std::map<std::uint16_t, scsi::AccessState>& states);

// The number of the server's unit behind a LUN; nullopt: it is not served (its backing could not be opened).
using UnitOf =
    std::function<std::optional<std::uint16_t>(const config::target::LunKey&, const config::target::Lun&)>;
// The secret that is meant, valid for the call; empty: it could not be read. Then there is no such account:
// who has to prove itself stays outside.
using SecretOf = std::function<std::string_view(const config::target::Password&)>;
// Everything that a portal group says of itself. `params`: the server's, which bound them.
[[nodiscard]] target::GroupRules rules_of(const config::target::Configuration& configuration,
                                          const config::target::PortalGroupKey& key, const UnitOf& unit_of,
                                          const SecretOf& secret_of, const iscsi::WantedParams& params);
[[nodiscard]] target::AuthSpec discovery_auth_of(const config::target::Configuration& configuration,
                                                 const SecretOf& secret_of);

}  // namespace perilune::control::serving
