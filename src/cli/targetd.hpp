// SPDX-License-Identifier: Apache-2.0
// What `perilune targetd` is made of beside control/serving: the interpreters that run inside it.
#pragma once

#include "control/targetd/administration.hpp"

namespace perilune::cli {

// By the name under which thin clients ask for them. An interpreter is registered here when it is there.
[[nodiscard]] control::targetd::FrontEnds target_front_ends();

}  // namespace perilune::cli
