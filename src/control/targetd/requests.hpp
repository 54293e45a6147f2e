// SPDX-License-Identifier: Apache-2.0
// The operations of the target daemon's socket (docs/control-protocol.md), all but `subscribe`, which is the
// daemon's.
#pragma once

#include <string>

#include "control/frame.hpp"
#include "control/targetd/administration.hpp"

namespace perilune::control::targetd {

// Does what the request asks for, and gives the result. An error has changed nothing. `who` asks ("root (pid
// 42)"), for the journal. Control thread; blocks as Administration does.
[[nodiscard]] Result<Json> carry_out(const Request& request, const std::string& who,
                                     Administration& administration, const FrontEnds& front_ends);

}  // namespace perilune::control::targetd
