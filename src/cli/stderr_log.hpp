// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <string>

#include "base/event_log.hpp"

namespace perilune::cli {

// Lines "LEVEL event field=value ..." on standard error. At most `burst` lines of one event within a second;
// what was left out is said with the next line that passes. Any thread.
class StderrLog final : public EventLog {
 public:
  explicit StderrLog(Level least = Level::info) : least_(least) {}
  void event(Level level, std::string_view name, std::string_view fields) override;

 private:
  static constexpr unsigned burst = 20;
  struct Rate {
    std::chrono::steady_clock::time_point second{};
    unsigned written = 0;
    unsigned suppressed = 0;
  };
  const Level least_;
  std::mutex mutex_;  // of what follows
  std::map<std::string, Rate, std::less<>> rates_;
};

}  // namespace perilune::cli
