// SPDX-License-Identifier: Apache-2.0
#include "target/directory.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace perilune::target {

std::vector<iscsi::SendTargetsRecord> Directory::answer(const Asker& asker, std::string_view asked) const {
  std::vector<iscsi::SendTargetsRecord> records;
  for (const Target& target : targets_) {
    const bool wanted = asked.empty() ? target.name == asker.own_target : asked == "All" || asked == target.name;
    if (!wanted || (target.access != nullptr && target.access->map_of(asker.initiator_name) == nullptr)) continue;
    auto where = addresses(target, asker);
    // Without an address a record would say "where you asked, in portal group 1" (RFC 7143 appendix C), which is not so.
    if (!where.empty()) records.push_back({target.name, std::move(where)});
  }
  return records;
}

std::vector<std::string> Directory::addresses(const Target& target, const Asker& asker) const {
  std::vector<std::string> result;
  const auto add = [&](const runtime::Endpoint& endpoint, std::uint16_t tag) {
    std::string text = fmt::format("{},{}", endpoint.to_string(), tag);
    if (std::find(result.begin(), result.end(), text) == result.end()) result.push_back(std::move(text));
  };
  if (const auto tag = portal_group_of(target.portal_groups, asker.portal)) add(asker.local, *tag);
  const bool from_this_host = asker.local.is_loopback();
  for (const Portal& portal : portals_) {
    const auto tag = portal_group_of(target.portal_groups, portal.number);
    if (!tag) continue;
    if (!portal.bound.is_wildcard()) {
      if (portal.bound.is_loopback() == from_this_host && !portal.bound.is_link_local()) add(portal.bound, *tag);
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
