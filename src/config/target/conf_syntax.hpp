// SPDX-License-Identifier: Apache-2.0
// The syntax of targets.conf: the part of Perl's Config::General that tgt-admin turns on. Lines `name value`
// or `name = value`, values in quotes or not, comments from # (not \#) to the end of the line and in /* */, a
// backslash that continues a line, blocks <name argument> ... </name>, include lines. Pure.
#pragma once

#include <string>
#include <vector>

#include "config/target/targets_conf.hpp"

namespace perilune::config::target {

struct ConfDirective {
  std::string where;  // "FILE:LINE"
  std::string name;
  std::string value;
};

struct ConfBlock {
  std::string where;
  std::string name;
  std::string argument;
  std::vector<ConfDirective> directives;
  std::vector<ConfBlock> blocks;
};

inline constexpr std::size_t max_conf_block_depth = 8;
inline constexpr std::size_t max_conf_directives = 200000;

// The file with all that it includes, as one nameless block. Fails with invalid_argument or limit,
// "FILE:LINE: ...".
[[nodiscard]] Result<ConfBlock> read_conf_syntax(const ConfFile& file, ConfWorld& world);

}  // namespace perilune::config::target
