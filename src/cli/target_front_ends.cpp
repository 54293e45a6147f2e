// SPDX-License-Identifier: Apache-2.0
#include "cli/targetcli/interpreter.hpp"
#include "cli/targetd.hpp"

namespace perilune::cli {

control::targetd::FrontEnds target_front_ends() { return {{"targetcli", targetcli::answer_front_end}}; }

}  // namespace perilune::cli
