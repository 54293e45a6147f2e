// SPDX-License-Identifier: Apache-2.0
// What the target daemon's socket carries, as values and their JSON (docs/control-protocol.md). Any thread.
#pragma once

#include <string>

#include "control/frame.hpp"
#include "control/targetd/administration.hpp"

namespace perilune::control::targetd {

// The number of an error in an answer: 100 and the place of the code in Errc.
[[nodiscard]] int error_number(Errc code) noexcept;

// `who` asks: "root (pid 42)".
[[nodiscard]] Result<FrontEndRequest> front_end_request(const Request& request, const std::string& who);
// {"changes": [...]}, each as the journal has it.
[[nodiscard]] Result<config::target::Changes> changes_of(const Json& args);
// {"target": "iqn...", "tag": 1}
[[nodiscard]] Result<config::target::PortalGroupKey> group_of(const Json& args);

[[nodiscard]] Json to_json(const SessionInfo& info);
// {"event": "transaction", ...}: never a secret.
[[nodiscard]] Json transaction_event(const PastTransaction& past);
// A line of the log: "initiator=iqn.x tsih=1" as {"event": "login", "initiator": "iqn.x", "tsih": "1"}.
[[nodiscard]] Json session_event(const std::string& event, const std::string& fields);

}  // namespace perilune::control::targetd
