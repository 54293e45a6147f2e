// SPDX-License-Identifier: Apache-2.0
// The groups of parameters that `get` shows and `set` changes: which node has which, their rows, and what
// setting them changes in the configuration. Control thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/targetcli/call.hpp"

namespace perilune::cli::targetcli {

struct Row {
  std::string name;
  std::string value;
  std::string_view type;  // "NUMBER"
  bool read_only = false;
  std::string description;
};

// In the order in which `get` lists them; all nodes have "global".
[[nodiscard]] std::vector<std::string_view> groups_of(NodeKind kind);
// Sorted by name. `group` is one of groups_of().
[[nodiscard]] std::vector<Row> rows_of(const Call& call, std::string_view group);

// What a description says of a parameter, in our words; empty when its name says it.
[[nodiscard]] std::string_view description_of(std::string_view parameter) noexcept;

}  // namespace perilune::cli::targetcli
