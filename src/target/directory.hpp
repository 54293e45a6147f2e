// SPDX-License-Identifier: Apache-2.0
// Where the targets of a server are to be had, and how SendTargets is answered from that (RFC 7143 appendix
// C). Each shard has its own, and is told of changes. One thread at a time.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "iscsi/login/text_exchange.hpp"
#include "runtime/endpoint.hpp"
#include "target/access.hpp"
#include "target/portal_groups.hpp"

namespace perilune::target {

class Directory {
 public:
  struct Portal {
    std::uint32_t number = 0;
    runtime::Endpoint bound;
  };
  struct Target {
    std::string name;
    std::vector<PortalGroup> portal_groups;
    std::shared_ptr<const TargetAccess> access;  // nullptr: everybody may use it
  };
  // Who asks. `local`: this end of the connection, an address that the initiator can reach for certain.
  struct Asker {
    std::uint32_t portal = 0;
    runtime::Endpoint local;
    std::string_view own_target;  // of a normal session; empty in a discovery session
    std::string_view initiator_name;
    runtime::Endpoint peer = {};  // where it comes from
  };

  Directory() = default;
  // `host_addresses`: what a portal on every address is reached by, beside the address asked.
  Directory(std::vector<Portal> portals, std::vector<Target> targets,
            std::vector<runtime::Endpoint> host_addresses);

  void set_portals(std::vector<Portal> portals) { portals_ = std::move(portals); }
  void set_host_addresses(std::vector<runtime::Endpoint> addresses) {
    host_addresses_ = std::move(addresses);
  }
  // Adds it, or puts it in the place of the one of the same name.
  void set_target(std::shared_ptr<const Target> target) { targets_[target->name] = std::move(target); }
  void remove_target(const std::string& name) { targets_.erase(name); }

  // `asked`: the value of SendTargets: All, the name of a target, or empty (the session's own). Every target
  // with every portal of each of its groups that the initiator may be able to reach and is told of
  // (TargetAccess::tells()); the address asked comes first. No record for a target without one. In the order
  // of their names.
  [[nodiscard]] std::vector<iscsi::SendTargetsRecord> answer(const Asker& asker,
                                                             std::string_view asked) const;

 private:
  [[nodiscard]] std::vector<std::string> addresses(const Target& target, const Asker& asker) const;
  [[nodiscard]] static std::optional<std::uint16_t> group_of(const Target& target, std::uint32_t portal,
                                                             const Asker& asker);

  std::vector<Portal> portals_;
  std::map<std::string, std::shared_ptr<const Target>, std::less<>> targets_;  // by name
  std::vector<runtime::Endpoint> host_addresses_;
};

}  // namespace perilune::target
