// SPDX-License-Identifier: Apache-2.0
#include "config/target/conf_syntax.hpp"

#include <algorithm>
#include <utility>

#include "config/target/text_rules.hpp"

namespace perilune::config::target {
namespace {

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

// Without the comment; \# is a #.
std::string without_comment(std::string_view line) {
  std::string out;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '#') break;
    if (line[i] == '\\' && i + 1 < line.size() && line[i + 1] == '#') ++i;
    out += line[i];
  }
  return out;
}

std::string_view without_quotes(std::string_view value) {
  const bool quoted =
      value.size() >= 2 && (value.front() == '"' || value.front() == '\'') && value.back() == value.front();
  return quoted ? value.substr(1, value.size() - 2) : value;
}

// "name value", "name = value", "name=value"; value may be empty.
std::pair<std::string_view, std::string_view> split_name(std::string_view line) {
  const auto end = std::find_if(line.begin(), line.end(), [](char c) { return is_blank(c) || c == '='; });
  const auto length = static_cast<std::size_t>(end - line.begin());
  std::string_view value = trim(line.substr(length));
  if (value.starts_with('=')) value = trim(value.substr(1));
  return {line.substr(0, length), without_quotes(value)};
}

// A value goes to the journal and into messages: a byte that JSON cannot carry would be another one there.
bool can_be_kept(std::string_view text) {
  std::string blanks(text);
  std::replace(blanks.begin(), blanks.end(), '\t', ' ');
  return is_plain_text(blanks);
}

bool is_include(std::string_view name) {
  constexpr std::string_view word = "include";
  return std::equal(name.begin(), name.end(), word.begin(), word.end(), [](char a, char b) {
    return (a >= 'A' && a <= 'Z' ? static_cast<char>(a | 0x20) : a) == b;
  });
}

class SyntaxReader {
 public:
  explicit SyntaxReader(ConfWorld& world) : world_(world) { open_.push_back(&root_); }

  Status file(const ConfFile& file, std::size_t depth) {
    const std::string outer = std::exchange(path_, file.path);
    const std::size_t outer_line = std::exchange(line_, 0);
    const std::size_t outer_open = open_.size();
    Status done = check_size(file, depth);
    if (done) done = lines(file.text, depth);
    if (done && open_.size() != outer_open) done = wrong("<" + open_.back()->name + "> is never closed");
    path_ = outer;
    line_ = outer_line;
    return done;
  }

  ConfBlock take() { return std::move(root_); }

 private:
  [[nodiscard]] std::string where() const { return path_ + ":" + std::to_string(line_); }
  [[nodiscard]] tl::unexpected<Error> wrong(const std::string& what) const {
    return fail(Errc::invalid_argument, where() + ": " + what);
  }
  [[nodiscard]] tl::unexpected<Error> too_much(const std::string& what) const {
    return fail(Errc::limit, where() + ": " + what);
  }

  Status check_size(const ConfFile& file, std::size_t depth) {
    bytes_ += file.text.size();
    if (depth > max_targets_conf_depth) return too_much("files include each other too deep");
    if (++files_ > max_targets_conf_files) return too_much("more than 1024 files");
    if (bytes_ > max_targets_conf_bytes) return too_much("more than 16 MiB in all");
    if (file.text.find('\0') != std::string::npos) return wrong("is not a text file");
    return {};
  }

  Status lines(std::string_view text, std::size_t depth) {
    std::string joined;  // what earlier lines began with a backslash at their end
    bool in_comment = false;
    while (!text.empty()) {
      const auto end = text.find('\n');
      std::string_view raw = trim(text.substr(0, end));
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
      ++line_;
      if (joined.empty() && (in_comment || raw.starts_with("/*"))) {
        in_comment = raw.find("*/") == std::string_view::npos;
        continue;
      }
      const bool continues = raw.ends_with('\\');
      if (continues) raw.remove_suffix(1);
      joined += without_comment(raw);
      if (continues) continue;
      const std::string whole = std::exchange(joined, {});
      if (auto done = line(trim(whole), depth); !done) return done;
    }
    if (in_comment) return wrong("a comment is never closed");
    return joined.empty() ? Status{} : line(trim(joined), depth);
  }

  Status line(std::string_view text, std::size_t depth) {
    if (text.empty()) return {};
    if (++directives_ > max_conf_directives) return too_much("more than 200000 lines");
    if (!can_be_kept(text)) return wrong("not UTF-8, or with control characters; convert the file");
    if (text.find("<<") != std::string_view::npos && !text.starts_with("<<"))
      return wrong("here-documents are not supported");
    if (text.starts_with("<<") && text.ends_with(">>"))
      return include(trim(text.substr(2, text.size() - 4)), depth);
    if (text.starts_with("</")) return close(text);
    if (text.starts_with('<')) return open(text);
    const auto [name, value] = split_name(text);
    if (name.empty()) return wrong("a name is missing before =");
    if (is_include(name)) return include(text, depth);
    if (value.empty()) return wrong(std::string(name) + " has no value");
    open_.back()->directives.push_back({where(), std::string(name), std::string(value)});
    return {};
  }

  Status open(std::string_view text) {
    if (!text.ends_with('>')) return wrong("> is missing at the end of the line");
    const auto [name, argument] = split_name(trim(text.substr(1, text.size() - 2)));
    if (name.empty() || argument.empty()) return wrong("a block is <name argument>");
    if (open_.size() > max_conf_block_depth) return too_much("blocks are nested too deep");
    ConfBlock& outer = *open_.back();
    outer.blocks.push_back({where(), std::string(name), std::string(argument), {}, {}});
    open_.push_back(&outer.blocks.back());
    return {};
  }

  Status close(std::string_view text) {
    const std::string_view name =
        text.ends_with('>') ? trim(text.substr(2, text.size() - 3)) : std::string_view{};
    if (open_.size() == 1) return wrong("nothing is open here that </" + std::string(name) + "> could close");
    if (name != open_.back()->name) {
      return wrong("</" + open_.back()->name + "> is expected, for the block of " + open_.back()->where);
    }
    open_.pop_back();
    return {};
  }

  Status include(std::string_view text, std::size_t depth) {
    const auto [word, pattern] = split_name(text);
    if (!is_include(word) || pattern.empty()) return wrong("include needs a path");
    if (depth >= max_targets_conf_depth) return too_much("files include each other too deep");
    auto found = world_.include(std::string(pattern));
    if (!found) return wrong("include " + std::string(pattern) + ": " + found.error().message);
    for (const ConfFile& included : *found) {
      if (auto done = file(included, depth + 1); !done) return done;
    }
    return {};
  }

  ConfWorld& world_;
  ConfBlock root_;
  // The blocks that are open, outermost first. Only the last one's list grows, so they stay where they are.
  std::vector<ConfBlock*> open_;
  std::string path_;
  std::size_t line_ = 0;
  std::size_t bytes_ = 0;
  std::size_t files_ = 0;
  std::size_t directives_ = 0;
};

}  // namespace

Result<ConfBlock> read_conf_syntax(const ConfFile& file, ConfWorld& world) {
  SyntaxReader reader(world);
  if (auto done = reader.file(file, 0); !done) return tl::unexpected<Error>(std::move(done.error()));
  return reader.take();
}

}  // namespace perilune::config::target
