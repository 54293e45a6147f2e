// SPDX-License-Identifier: Apache-2.0
// What could stand where the cursor is: paths, commands, parameter names, values. Bounded; never a walk over
// more than one node's children. Control thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/targetcli/call.hpp"

namespace perilune::cli::targetcli {

inline constexpr std::size_t max_completions = 200;

struct Candidate {
  std::string text;  // replaces the bytes from Completion::start to the cursor
  std::string help;  // "path", "command", or what a parameter is
  friend bool operator==(const Candidate&, const Candidate&) = default;
};
struct Completion {
  std::size_t start = 0;
  std::vector<Candidate> words;
};

// `line`: what stands before the cursor.
[[nodiscard]] Completion complete(targetd::Administration& administration, const Session& session,
                                  std::string_view line);
[[nodiscard]] Json to_json(const Completion& completion);

}  // namespace perilune::cli::targetcli
