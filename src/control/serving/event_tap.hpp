// SPDX-License-Identifier: Apache-2.0
// The server's log, of which somebody else hears sessions come and go.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/event_log.hpp"

namespace perilune::control::serving {

// Any thread.
class EventTap final : public EventLog {
 public:
  using Heard = std::function<void(std::string event, std::string fields)>;
  explicit EventTap(EventLog& log) : log_(log) {}
  // Before the server runs. `heard` is called on the server's threads and must not wait.
  void on_session(Heard heard) { heard_ = std::move(heard); }
  void event(Level level, std::string_view name, std::string_view fields) override {
    log_.event(level, name, fields);
    if (heard_ && (name == "login" || name == "session_ended"))
      heard_(std::string(name), std::string(fields));
  }

 private:
  EventLog& log_;
  Heard heard_;
};

}  // namespace perilune::control::serving
