// SPDX-License-Identifier: Apache-2.0
#include "cli/targetcli/command_line.hpp"

#include <algorithm>

namespace perilune::cli::targetcli {
namespace {

bool is_blank(char c) noexcept { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_name_character(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

// Takes the quoted part that begins at `at` (the quote itself) into `out`; gives the byte behind its end.
Result<std::size_t> take_quoted(std::string_view line, std::size_t at, std::string& out) {
  const char quote = line[at];
  const std::size_t begin = at++;
  while (at < line.size() && line[at] != quote) {
    if (quote == '"' && line[at] == '\\' && at + 1 < line.size()) ++at;
    out += line[at++];
  }
  if (at < line.size()) return at + 1;
  return fail(Errc::invalid_argument,
              "The quote at column " + std::to_string(begin + 1) + " has no end; close it");
}

}  // namespace

Result<std::vector<Word>> split_words(std::string_view line) {
  if (line.size() > max_line_bytes) {
    return fail(Errc::limit, "A line has at most " + std::to_string(max_line_bytes) + " bytes");
  }
  std::vector<Word> words;
  for (std::size_t at = 0;;) {
    while (at < line.size() && is_blank(line[at])) ++at;
    if (at == line.size()) return words;
    if (words.size() == max_words) {
      return fail(Errc::limit, "A line has at most " + std::to_string(max_words) + " words");
    }
    Word word{{}, at, at, line[at] == '"' || line[at] == '\''};
    while (at < line.size() && !is_blank(line[at])) {
      if (line[at] == '"' || line[at] == '\'') {
        const auto end = take_quoted(line, at, word.text);
        if (!end) return tl::unexpected<Error>(end.error());
        at = *end;
      } else {
        word.text += line[at++];
      }
    }
    word.end = at;
    words.push_back(std::move(word));
  }
}

bool is_path(std::string_view word) noexcept {
  return word == "." || word == ".." || word.starts_with('@') || word.find('/') != std::string_view::npos;
}

std::string_view name_in(std::string_view word) noexcept {
  const auto equals = word.find('=');
  if (equals == std::string_view::npos || equals == 0) return {};
  const std::string_view name = word.substr(0, equals);
  return std::all_of(name.begin(), name.end(), is_name_character) ? name : std::string_view{};
}

Result<CommandLine> parse_command_line(std::string_view line) {
  auto words = split_words(line);
  if (!words) return tl::unexpected<Error>(std::move(words.error()));
  CommandLine parsed;
  std::size_t at = 0;
  if (words->empty() || words->front().text.starts_with('#')) return parsed;
  if (is_path(words->front().text) && name_in(words->front().text).empty()) {
    parsed.path = std::move((*words)[at++].text);
  }
  if (at < words->size()) parsed.command = std::move((*words)[at++].text);
  for (; at < words->size(); ++at) {
    Word& word = (*words)[at];
    const std::string_view name = word.quoted ? std::string_view{} : name_in(word.text);
    if (name.empty()) {
      parsed.values.push_back(std::move(word.text));
    } else {
      parsed.named.emplace_back(std::string(name), word.text.substr(name.size() + 1));
    }
  }
  return parsed;
}

std::string quote_word(std::string_view word) {
  const bool plain = !word.empty() && word.find_first_of(" \t\r\n\"'") == std::string_view::npos;
  if (plain) return std::string(word);
  // The name of name=value stays outside, so that it is still one.
  const std::string_view name = name_in(word);
  std::string out = name.empty() ? std::string() : std::string(name) + "=";
  out += '"';
  for (const char c : name.empty() ? word : word.substr(name.size() + 1)) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

}  // namespace perilune::cli::targetcli
