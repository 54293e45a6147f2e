// SPDX-License-Identifier: Apache-2.0
// What the texts of a configuration may hold. Pure; any thread.
#pragma once

#include <cstddef>
#include <string_view>

namespace perilune::config::target {

// Valid UTF-8 (RFC 3629) without control characters: what JSON can carry and a line of a message can show.
[[nodiscard]] bool is_plain_text(std::string_view text) noexcept;
// Plain text without white space and '/': the name of a configfs folder. Not "." nor "..".
[[nodiscard]] bool is_object_name(std::string_view text) noexcept;

}  // namespace perilune::config::target
