// SPDX-License-Identifier: Apache-2.0
#include "cli/command_line.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

namespace perilune::cli {

std::optional<int> parse_arguments(CLI::App& app, int argc, char** argv, int usage_code) {
  app.failure_message([](const CLI::App* failed, const CLI::Error& error) {
    return fmt::format("{}: {} (see --help)\n", failed->get_name(), error.what());
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : usage_code;
  }
  return std::nullopt;
}

}  // namespace perilune::cli
