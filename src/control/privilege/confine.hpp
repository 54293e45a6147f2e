// SPDX-License-Identifier: Apache-2.0
// The last steps of a server's start with which it gives up what it does not need any more, each with a line
// in the log.
#pragma once

#include "base/event_log.hpp"

namespace perilune::control::privilege {

// filter_system_calls() for a server whose rings and first threads are there. What the C library and OpenSSL
// load when they are first asked is loaded before, because memory does not become code afterwards. `wanted`
// false: only says so. A kernel that cannot filter is a warning.
void confine_server(bool wanted, EventLog& log);

}  // namespace perilune::control::privilege
