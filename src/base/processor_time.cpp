// SPDX-License-Identifier: Apache-2.0
#include "base/processor_time.hpp"

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace perilune {

std::optional<double> processor_seconds(pid_t process) {
  std::error_code error;
  std::optional<double> seconds;
  const auto tasks = std::filesystem::path("/proc") / std::to_string(process) / "task";
  for (std::filesystem::directory_iterator task(tasks, error), end; !error && task != end;
       task.increment(error)) {
    unsigned long long nanoseconds = 0;
    // A thread that has just ended has no such file any more.
    if (std::ifstream(task->path() / "schedstat") >> nanoseconds)
      seconds = seconds.value_or(0) + static_cast<double>(nanoseconds) / 1e9;
  }
  return seconds;
}

}  // namespace perilune
