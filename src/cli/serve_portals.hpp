// SPDX-License-Identifier: Apache-2.0
// The words of `perilune serve` that say where it listens and where it sends logins. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "runtime/endpoint.hpp"
#include "target/portal_groups.hpp"
#include "target/redirect.hpp"

namespace perilune::cli {

struct ServedPortals {
  std::vector<runtime::Endpoint> endpoints;  // their numbers are their places
  std::vector<target::PortalGroup> groups;   // by tag
};

// Each is ADDRESS:PORT[,TAG]. Fails with invalid_argument.
[[nodiscard]] Result<ServedPortals> read_portals(const std::vector<std::string>& texts);

// [PORTAL=]ADDRESS, with PORTAL as it was given to read_portals(), its tag left out or not. Fails with
// invalid_argument.
[[nodiscard]] Result<target::RedirectRule> read_redirect(std::string_view option, std::string_view text,
                                                         bool permanent, const ServedPortals& portals);

}  // namespace perilune::cli
