// SPDX-License-Identifier: Apache-2.0
// What the shell keeps from one line to the next: where one is, where one has been, bookmarks, preferences,
// and what the terminal is like. The client holds it and sends it along; it says nothing about the target.
// Values only; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace perilune::cli::targetcli {

using Json = nlohmann::json;

inline constexpr std::size_t max_visited = 100;
inline constexpr std::size_t max_bookmarks = 1000;
inline constexpr std::size_t max_session_text = 4096;  // bytes of one path or value

enum class ValueType : std::uint8_t { boolean, number, text, colour, loglevel };

// One parameter of the group `global`.
struct Preference {
  std::string_view name;
  ValueType type = ValueType::boolean;
  std::string_view initial;
  std::string_view description;
};
// Sorted by name.
[[nodiscard]] std::span<const Preference> preferences() noexcept;
[[nodiscard]] const Preference* find_preference(std::string_view name) noexcept;
// The value in the form in which it is kept ("true", "30"); nullopt when it is none of the type.
[[nodiscard]] std::optional<std::string> preference_value(const Preference& row, std::string_view value);
// "BOOL", "NUMBER": what a message calls the type.
[[nodiscard]] std::string_view type_name(ValueType type) noexcept;

struct Session {
  std::string path = "/";
  std::vector<std::string> visited = {"/"};  // the history of cd
  std::size_t visited_at = 0;
  std::vector<std::pair<std::string, std::string>> bookmarks;  // name, path; in the order of their making
  std::map<std::string, std::string> changed;                  // preferences that are not at their default
  std::string directory;  // of the client's process: what a relative file name begins at
  std::size_t width = 132;
  bool colour = false;
  bool json = false;
  bool dry_run = false;
  bool quit = false;  // `exit` was typed

  [[nodiscard]] std::string preference(std::string_view name) const;
  [[nodiscard]] bool flag(std::string_view name) const { return preference(name) == "true"; }
  [[nodiscard]] std::size_t number(std::string_view name) const;

  // Goes there and remembers it.
  void go(const std::string& to);
  [[nodiscard]] const std::string* bookmark(std::string_view name) const;
  void set_bookmark(const std::string& name, const std::string& to);
};

[[nodiscard]] Json to_json(const Session& session);
// What is missing or of the wrong type is as it begins: a session says nothing that could be wrong.
[[nodiscard]] Session session_from_json(const Json& json);

// "/iscsi/iqn.20....ref:one/tpg1> ": at most `length` bytes of path; 0: all of it.
[[nodiscard]] std::string prompt_of(std::string_view path, std::size_t length);

}  // namespace perilune::cli::targetcli
