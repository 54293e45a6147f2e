// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "runtime/endpoint.hpp"

namespace perilune::cli {

// The addresses of this host's interfaces, for ServerConfig::host_addresses. Asks the system.
[[nodiscard]] std::vector<runtime::Endpoint> host_addresses();

}  // namespace perilune::cli
