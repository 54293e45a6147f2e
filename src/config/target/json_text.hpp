// SPDX-License-Identifier: Apache-2.0
// JSON from a file that somebody may have edited, or made to hurt: its size, depth and number of values are
// bounded before a tree is built. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/result.hpp"

namespace perilune::config::target {

using Json = nlohmann::json;

inline constexpr std::size_t max_json_bytes = 64U << 20;
inline constexpr std::size_t max_json_depth = 32;        // saveconfig.json has 9
inline constexpr std::size_t max_json_values = 4000000;  // 10,000 LUNs with their objects are under 1,000,000

// limit (size, depth, values), or invalid_argument with line and column. A key that stands twice in an object
// counts as it stands last, as for Python.
[[nodiscard]] Result<Json> parse_json(std::string_view text);

// As Python's json.dumps writes it: keys sorted, ASCII only. `indent` < 0: on one line. The texts of `json`
// are UTF-8.
[[nodiscard]] std::string write_json(const Json& json, int indent);

}  // namespace perilune::config::target
