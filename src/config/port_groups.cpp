// SPDX-License-Identifier: Apache-2.0
#include "config/port_groups.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string>
#include <utility>

namespace perilune::config {
namespace {

using scsi::AccessState;

constexpr std::array<std::pair<std::string_view, AccessState>, 6> states = {{
    {"optimized", AccessState::active_optimized},
    {"nonoptimized", AccessState::active_non_optimized},
    {"standby", AccessState::standby},
    {"unavailable", AccessState::unavailable},
    {"offline", AccessState::offline},
    {"transitioning", AccessState::transitioning},
}};

using Words = std::vector<std::string_view>;

Words words_of(std::string_view line) {
  line = line.substr(0, line.find('#'));
  constexpr std::string_view blank = " \t\r";
  Words words;
  for (;;) {
    const auto begin = line.find_first_not_of(blank);
    if (begin == std::string_view::npos) return words;
    line.remove_prefix(begin);
    const auto end = std::min(line.find_first_of(blank), line.size());
    words.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
}

// For an error message: bytes that no terminal minds, and not too many.
std::string quoted(std::string_view word) {
  constexpr std::size_t most = 40;
  std::string text = "'";
  for (const char c : word.substr(0, most)) text += c >= 0x20 && c < 0x7f ? c : '?';
  return text + (word.size() > most ? "…'" : "'");
}

std::optional<std::uint16_t> tag_of(std::string_view word) noexcept {
  std::uint16_t tag = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), tag);
  if (error != std::errc{} || end != word.data() + word.size()) return std::nullopt;
  return tag;
}

class Parser {
 public:
  explicit Parser(std::span<const std::uint16_t> tags) : tags_(tags) {}

  // Empty: fine; otherwise what is wrong with the line.
  [[nodiscard]] std::string take(const Words& words) {
    return words.front() == "explicit" ? take_explicit(words) : take_group(words);
  }
  [[nodiscard]] PortGroupsFile& file() noexcept { return file_; }

 private:
  [[nodiscard]] std::string take_explicit(const Words& words) {
    if (std::exchange(explicit_seen_, true)) return "explicit stands here for the second time";
    if (words.size() != 2 || (words[1] != "yes" && words[1] != "no")) return "expected: explicit yes|no";
    file_.by_command = words[1] == "yes";
    return {};
  }
  [[nodiscard]] std::string take_group(const Words& words) {
    const auto tag = tag_of(words[0]);
    if (!tag) return quoted(words[0]) + " is neither the tag of a portal group nor 'explicit'";
    if (std::find(tags_.begin(), tags_.end(), *tag) == tags_.end())
      return "no portal has the tag " + std::to_string(*tag);
    const bool again = std::any_of(file_.groups.begin(), file_.groups.end(),
                                   [&](const PortGroupLine& line) { return line.tag == *tag; });
    if (again) return "group " + std::to_string(*tag) + " stands here for the second time";
    if (words.size() < 2 || words.size() > 3) return "expected: TAG STATE [preferred]";
    const auto state = std::find_if(states.begin(), states.end(),
                                    [&](const auto& known) { return known.first == words[1]; });
    if (state == states.end()) {
      return quoted(words[1]) +
             " is no state: optimized, nonoptimized, standby, unavailable, offline or transitioning";
    }
    if (words.size() == 3 && words[2] != "preferred")
      return quoted(words[2]) + " behind a state: only 'preferred' may stand there";
    file_.groups.push_back({*tag, state->second, words.size() == 3});
    return {};
  }

  std::span<const std::uint16_t> tags_;
  PortGroupsFile file_;
  bool explicit_seen_ = false;
};

}  // namespace

PortGroupLine PortGroupsFile::line_of(std::uint16_t tag) const noexcept {
  const auto found =
      std::find_if(groups.begin(), groups.end(), [&](const PortGroupLine& line) { return line.tag == tag; });
  return found == groups.end() ? PortGroupLine{.tag = tag} : *found;
}

Result<PortGroupsFile> parse_port_groups(std::string_view text, std::span<const std::uint16_t> tags) {
  if (text.size() > max_port_groups_file_bytes)
    return fail(Errc::invalid_argument, "longer than any such file can be");
  Parser parser(tags);
  for (std::size_t number = 1; !text.empty(); ++number) {
    const auto end = std::min(text.find('\n'), text.size());
    const Words words = words_of(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (words.empty()) continue;
    if (const std::string wrong = parser.take(words); !wrong.empty()) {
      return fail(Errc::invalid_argument, "line " + std::to_string(number) + ": " + wrong);
    }
  }
  return std::move(parser.file());
}

std::string_view to_string(AccessState state) noexcept {
  const auto found =
      std::find_if(states.begin(), states.end(), [&](const auto& known) { return known.second == state; });
  return found == states.end() ? std::string_view("unknown") : found->first;
}

void apply_changes(const PortGroupsFile& before, const PortGroupsFile& now, scsi::PortGroups& groups) {
  if (before.by_command != now.by_command) groups.set_by_command(now.by_command);
  std::vector<std::uint16_t> tags;
  for (const scsi::PortGroup& group : groups.all()) tags.push_back(group.id);
  for (const std::uint16_t tag : tags) {
    const PortGroupLine line = now.line_of(tag);
    if (line == before.line_of(tag)) continue;
    (void)groups.set_state(tag, line.state, scsi::PortGroup::Cause::implicit);
    groups.set_preferred(tag, line.preferred);
  }
}

}  // namespace perilune::config
