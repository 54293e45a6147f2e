// SPDX-License-Identifier: Apache-2.0
// Where the targets of a server are to be had, and how SendTargets is answered from that (RFC 7143 appendix C). Immutable: a
// change makes another one, and each shard has the latest that it was told of. Any thread.
#pragma once

#include <cstdint>
#include <memory>
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
    std::shared_ptr<const Access> access;  // nullptr: everybody may use it
  };
  // Who asks. `local`: this end of the connection, an address that the initiator can reach for certain.
  struct Asker {
    std::uint32_t portal = 0;
    runtime::Endpoint local;
    std::string_view own_target;  // of a normal session; empty in a discovery session
    std::string_view initiator_name;
  };

  Directory() = default;
  // `host_addresses`: what a portal on every address is reached by, beside the address asked.
  Directory(std::vector<Portal> portals, std::vector<Target> targets, std::vector<runtime::Endpoint> host_addresses)
      : portals_(std::move(portals)), targets_(std::move(targets)), host_addresses_(std::move(host_addresses)) {}

  // `asked`: the value of SendTargets: All, the name of a target, or empty (the session's own). Every target with every portal of
  // each of its groups that the initiator may be able to reach; the address asked comes first. No record for a target without one, or one
  // that the initiator may not log in to.
  [[nodiscard]] std::vector<iscsi::SendTargetsRecord> answer(const Asker& asker, std::string_view asked) const;

 private:
  [[nodiscard]] std::vector<std::string> addresses(const Target& target, const Asker& asker) const;

  std::vector<Portal> portals_;
  std::vector<Target> targets_;
  std::vector<runtime::Endpoint> host_addresses_;
};

}  // namespace perilune::target
