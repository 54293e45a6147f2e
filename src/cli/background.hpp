// SPDX-License-Identifier: Apache-2.0
// A daemon that leaves its terminal: the one who started it waits until the daemon serves, or hears why it
// does not.
#pragma once

#include <optional>
#include <string>

#include "base/result.hpp"
#include "control/files.hpp"

namespace perilune::cli {

// The daemon's end of the pipe on which it tells that. Without a pipe (in the foreground) it tells nobody.
class StartReport {
 public:
  explicit StartReport(int fd) : fd_(fd) {}
  void ready() { send("+"); }
  void failed(const Error& error) { send("-" + error.message); }

 private:
  void send(const std::string& text);
  control::Fd fd_;
};

// Forks; before the first thread. In the parent: waits for the report and returns the exit code, having told
// a failure as `name`. In the child: nullopt, and the pipe for its StartReport; it has a session of its own,
// and its output goes to the end of `log_file` (0600, made when it is not there, never through a link).
[[nodiscard]] std::optional<int> go_to_background(const std::string& name, const std::string& log_file,
                                                  int& report_fd);

// "/run/perilune/socket" -> "/run/perilune"
[[nodiscard]] std::string folder_of(const std::string& path);

}  // namespace perilune::cli
