// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace perilune::block {

// "<kind>:<32 random hex digits>": the identity of stored bytes that begin to exist now, so that nobody
// carries on over an emptied disk (DESIGN 1.14).
[[nodiscard]] std::string random_identity(std::string_view kind);

}  // namespace perilune::block
