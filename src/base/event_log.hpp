// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace perilune {

// Where the daemons' folders report what happened: one event name plus fields ("connection=7
// reason=timeout"), never a secret; text that came from a peer has had its control characters replaced. The
// implementation limits the rate per event name. Not for the data path, and not for the pure folders.
class EventLog {
 public:
  enum class Level : std::uint8_t { debug, info, warning, error };
  virtual ~EventLog() = default;
  virtual void event(Level level, std::string_view name, std::string_view fields) = 0;
};

}  // namespace perilune
