// SPDX-License-Identifier: Apache-2.0
#include "cli/stderr_log.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <utility>

namespace perilune::cli {

namespace {

constexpr std::string_view label(EventLog::Level level) {
  switch (level) {
    case EventLog::Level::debug: return "debug";
    case EventLog::Level::info: return "info";
    case EventLog::Level::warning: return "warning";
    case EventLog::Level::error: return "error";
  }
  return "info";
}

}  // namespace

void StderrLog::event(Level level, std::string_view name, std::string_view fields) {
  if (level < least_) return;
  const std::lock_guard lock(mutex_);
  auto place = rates_.find(name);
  if (place == rates_.end()) place = rates_.emplace(std::string(name), Rate{}).first;
  Rate& rate = place->second;
  const auto now = std::chrono::steady_clock::now();
  if (now - rate.second >= std::chrono::seconds(1)) {
    rate.second = now;
    rate.written = 0;
  }
  if (rate.written >= burst) {
    ++rate.suppressed;
    return;
  }
  ++rate.written;
  std::string line = fmt::format("perilune: {} {} {}", label(level), name, fields);
  if (rate.suppressed != 0) line += fmt::format(" suppressed_before={}", std::exchange(rate.suppressed, 0u));
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace perilune::cli
