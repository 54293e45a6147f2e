// SPDX-License-Identifier: Apache-2.0
// How every verb reads its arguments and says that they are wrong.
#pragma once

#include <optional>

namespace CLI {
class App;
}

namespace perilune::cli {

// The exit code when there is nothing to do: 0 after --help, `usage_code` after one line on stderr that
// begins with the name of the app and says what is wrong. Otherwise nothing: the options hold their values.
[[nodiscard]] std::optional<int> parse_arguments(CLI::App& app, int argc, char** argv, int usage_code);

}  // namespace perilune::cli
