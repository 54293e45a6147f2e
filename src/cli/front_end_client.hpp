// SPDX-License-Identifier: Apache-2.0
// How targetcli and tgtadm reach the target daemon: one request, one connection (docs/control-protocol.md,
// `command`).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "control/targetd/administration.hpp"

namespace perilune::cli {

struct FrontEndCall {
  std::string front_end;
  std::vector<std::string> arguments;
  std::optional<std::string> input;
  control::targetd::Json session = control::targetd::Json::object();
};

// Blocks until the daemon has answered. Fails with one line that says what to do when there is none.
[[nodiscard]] Result<control::targetd::FrontEndAnswer> ask_target_daemon(const std::string& socket_path,
                                                                         const FrontEndCall& call);

}  // namespace perilune::cli
