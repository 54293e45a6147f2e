// SPDX-License-Identifier: Apache-2.0
// A connection between two shards, as a value: its login has named a session that lives on another one
// (DESIGN 1.4). It stands between two PDUs, nothing is outstanding, nothing waits to be sent. Destroying it
// closes the connection.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "iscsi/login/target_login.hpp"
#include "runtime/stream.hpp"
#include "runtime/time.hpp"

namespace perilune::target {

struct MovingConnection {
  std::uint64_t id = 0;
  std::uint32_t portal = 0;
  std::unique_ptr<runtime::DetachedStream> stream;
  // Asks for the session; what is left of a login needs no random numbers, whose source stays behind.
  std::unique_ptr<iscsi::TargetLogin> login;
  std::vector<std::uint8_t> early;  // received behind the last Login Request
  runtime::Instant login_deadline;
  std::uint16_t new_tsih = 0;  // of the session that it opens; 0: it joins the one that its login names
};

}  // namespace perilune::target
