// SPDX-License-Identifier: Apache-2.0
#include "target/directory.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace perilune::target {

Directory::Directory(std::vector<Portal> portals, std::vector<Target> targets,
                     std::vector<runtime::Endpoint> host_addresses)
    : portals_(std::move(portals)), host_addresses_(std::move(host_addresses)) {
  for (Target& target : targets) set_target(std::make_shared<const Target>(std::move(target)));
}

std::vector<iscsi::SendTargetsRecord> Directory::answer(const Asker& asker, std::string_view asked) const {
  std::vector<iscsi::SendTargetsRecord> records;
  const auto tell = [&](const Target& target) {
    auto where = addresses(target, asker);
    // Without an address a record would say "where you asked, in portal group 1" (RFC 7143 appendix C), which
    // is not so.
    if (!where.empty()) records.push_back({target.name, std::move(where)});
  };
  if (asked == "All") {
    for (const auto& [name, target] : targets_) tell(*target);
  } else if (const auto one = targets_.find(asked.empty() ? asker.own_target : asked);
             one != targets_.end()) {
    tell(*one->second);
  }
  return records;
}

// The group of this portal, if the initiator is told of it.
std::optional<std::uint16_t> Directory::group_of(const Target& target, std::uint32_t portal,
                                                 const Asker& asker) {
  const auto tag = portal_group_of(target.portal_groups, portal);
  const bool may =
      tag && (target.access == nullptr || target.access->tells(*tag, asker.initiator_name, asker.peer));
  return may ? tag : std::nullopt;
}

std::vector<std::string> Directory::addresses(const Target& target, const Asker& asker) const {
  std::vector<std::string> result;
  const auto add = [&](const runtime::Endpoint& endpoint, std::uint16_t tag) {
    std::string text = fmt::format("{},{}", endpoint.to_string(), tag);
    if (std::find(result.begin(), result.end(), text) == result.end()) result.push_back(std::move(text));
  };
  if (const auto tag = group_of(target, asker.portal, asker)) add(asker.local, *tag);
  const bool from_this_host = asker.local.is_loopback();
  for (const Portal& portal : portals_) {
    const auto tag = group_of(target, portal.number, asker);
    if (!tag) continue;
    if (!portal.bound.is_wildcard()) {
      if (portal.bound.is_loopback() == from_this_host && !portal.bound.is_link_local())
        add(portal.bound, *tag);
      continue;
    }
    if (from_this_host) {
      // The address asked is one of this portal too, unless it came in through another.
      runtime::Endpoint here = asker.local;
      here.port = portal.bound.port;
      if (portal.number != asker.portal && here.is_ipv6 == portal.bound.is_ipv6) add(here, *tag);
      continue;
    }
    for (runtime::Endpoint host : host_addresses_) {
      if (host.is_loopback() || host.is_link_local() || (host.is_ipv6 && !portal.bound.is_ipv6)) continue;
      host.port = portal.bound.port;
      add(host, *tag);
    }
  }
  return result;
}

}  // namespace perilune::target
