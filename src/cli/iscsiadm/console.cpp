// SPDX-License-Identifier: Apache-2.0
#include "cli/iscsiadm/console.hpp"

#include <cstdio>

#include <fmt/format.h>

namespace perilune::cli::iscsiadm {

void StdConsole::out(std::string_view text) {
  fmt::print("{}", text);
  std::fflush(stdout);
}
void StdConsole::err(std::string_view line) { fmt::print(stderr, "iscsiadm: {}\n", line); }
void StdConsole::raw_err(std::string_view line) { fmt::print(stderr, "{}\n", line); }

}  // namespace perilune::cli::iscsiadm
