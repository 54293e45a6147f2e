// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "base/result.hpp"

namespace perilune::control::privilege {

// Gives up every capability of this thread, which is the process's only one, but these (CAP_*): from the
// permitted, effective and inheritable sets, and where that is allowed from the bounding and ambient sets.
[[nodiscard]] Status keep_capabilities(std::span<const int> kept);

}  // namespace perilune::control::privilege
