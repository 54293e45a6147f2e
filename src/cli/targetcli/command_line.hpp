// SPDX-License-Identifier: Apache-2.0
// A line as it is typed into the shell: `[PATH] COMMAND [VALUE ...] [NAME=VALUE ...]`, the grammar of
// configshell. Pure; any thread.
//
// Words are separated by blanks. 'single' and "double" quotes hold blanks together; in double quotes a
// backslash takes what follows as it is. Two things are better than in the original, where the rest of such a
// line was lost without a word: a word may hold any character, and `name=` with nothing behind it is an empty
// value, not the next word.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace perilune::cli::targetcli {

inline constexpr std::size_t max_line_bytes = 65536;
inline constexpr std::size_t max_words = 1024;

struct Word {
  std::string text;  // without its quotes
  std::size_t begin = 0;
  std::size_t end = 0;  // of its bytes in the line
  bool quoted = false;  // began with a quote: never a name=value
};

struct CommandLine {
  std::optional<std::string> path;
  std::string command;  // empty when there was only a path, or nothing
  std::vector<std::string> values;
  std::vector<std::pair<std::string, std::string>> named;
};

// Fails with invalid_argument for a quote without its end and limit for a line of monstrous size.
[[nodiscard]] Result<std::vector<Word>> split_words(std::string_view line);
// An empty line, and one that begins with '#', is an empty command.
[[nodiscard]] Result<CommandLine> parse_command_line(std::string_view line);

// The first word of a line is a path, not a command: it holds a '/', is "." or "..", or begins with '@'.
[[nodiscard]] bool is_path(std::string_view word) noexcept;
// The name of "name=value"; empty when the word is none.
[[nodiscard]] std::string_view name_in(std::string_view word) noexcept;

// The word so that split_words() gives it back: for a client that has words already.
[[nodiscard]] std::string quote_word(std::string_view word);

}  // namespace perilune::cli::targetcli
