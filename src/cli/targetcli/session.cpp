// SPDX-License-Identifier: Apache-2.0
#include "cli/targetcli/session.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace perilune::cli::targetcli {
namespace {

constexpr std::array rows{
    Preference{"auto_add_default_portal", ValueType::boolean, "true",
               "true: a new target gets a portal that listens on all addresses"},
    Preference{"auto_add_mapped_luns", ValueType::boolean, "true",
               "true: every node ACL maps every LUN as soon as both are there"},
    Preference{"auto_cd_after_create", ValueType::boolean, "false",
               "true: `create` goes to what it has made"},
    Preference{"auto_enable_tpgt", ValueType::boolean, "true", "true: a new portal group is enabled at once"},
    Preference{"auto_save_on_exit", ValueType::boolean, "true", "true: `exit` writes the configuration file"},
    Preference{"auto_use_daemon", ValueType::boolean, "false",
               "kept for scripts: all commands go through the daemon"},
    Preference{"color_command", ValueType::colour, "cyan", "the colour of commands in completions"},
    Preference{"color_default", ValueType::colour, "none", "the colour of all other text"},
    Preference{"color_keyword", ValueType::colour, "cyan", "the colour of parameter names in completions"},
    Preference{"color_mode", ValueType::boolean, "true", "true: colours on a terminal"},
    Preference{"color_parameter", ValueType::colour, "magenta", "the colour of values in completions"},
    Preference{"color_path", ValueType::colour, "magenta", "the colour of paths in completions"},
    Preference{"daemon_use_batch_mode", ValueType::boolean, "false", "kept for scripts: has no effect here"},
    Preference{"export_backstore_name_as_model", ValueType::boolean, "true",
               "true: a new disk tells initiators its name as its product"},
    Preference{"logfile", ValueType::text, "~/.targetcli/log.txt",
               "kept for scripts: the journal is the daemon's"},
    Preference{"loglevel_console", ValueType::loglevel, "info", "how much is told besides what is asked for"},
    Preference{"loglevel_file", ValueType::loglevel, "debug", "kept for scripts: has no effect here"},
    Preference{"max_backup_files", ValueType::number, "10",
               "how many backups of the configuration file stay"},
    Preference{"prompt_length", ValueType::number, "30", "the longest path in the prompt; 0: any"},
    Preference{"tree_max_depth", ValueType::number, "0", "how deep `ls` goes; 0: to the leaves"},
    Preference{"tree_round_nodes", ValueType::boolean, "true", "true: `o-` before a node, false: `+-`"},
    Preference{"tree_show_root", ValueType::boolean, "true", "true: `ls` shows the node that it begins at"},
    Preference{"tree_status_mode", ValueType::boolean, "true", "true: `ls` shows the state of each node"},
};

bool one_of(std::string_view value, std::initializer_list<std::string_view> values) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
  }
  return out;
}

std::optional<std::size_t> parse_size(std::string_view text) {
  std::size_t value = 0;
  const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || at != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::string text_in(const Json& json, const char* name, std::string otherwise) {
  const auto at = json.find(name);
  if (at == json.end() || !at->is_string()) return otherwise;
  std::string text = at->get<std::string>();
  return text.size() <= max_session_text ? text : otherwise;
}
bool flag_in(const Json& json, const char* name) {
  const auto at = json.find(name);
  return at != json.end() && at->is_boolean() && at->get<bool>();
}
std::size_t size_in(const Json& json, const char* name, std::size_t otherwise) {
  const auto at = json.find(name);
  const bool natural = at != json.end() && at->is_number_integer() &&
                       (at->is_number_unsigned() || at->get<std::int64_t>() >= 0);
  return natural ? at->get<std::size_t>() : otherwise;
}

void read_visited(const Json& json, Session& session) {
  const auto at = json.find("visited");
  if (at == json.end() || !at->is_array() || at->empty() || at->size() > max_visited) return;
  std::vector<std::string> visited;
  for (const Json& path : *at) {
    if (!path.is_string()) return;
    visited.push_back(path.get<std::string>());
  }
  session.visited = std::move(visited);
  session.visited_at = std::min(size_in(json, "visited_at", 0), session.visited.size() - 1);
}

void read_bookmarks(const Json& json, Session& session) {
  const auto at = json.find("bookmarks");
  if (at == json.end() || !at->is_array()) return;
  for (const Json& pair : *at) {
    if (session.bookmarks.size() == max_bookmarks) return;
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) continue;
    session.set_bookmark(pair[0].get<std::string>(), pair[1].get<std::string>());
  }
}

void read_preferences(const Json& json, Session& session) {
  const auto at = json.find("preferences");
  if (at == json.end() || !at->is_object()) return;
  for (const auto& [name, value] : at->items()) {
    const Preference* const row = find_preference(name);
    if (row == nullptr || !value.is_string()) continue;
    const auto kept = preference_value(*row, value.get<std::string>());
    if (kept && *kept != row->initial) session.changed[name] = *kept;
  }
}

}  // namespace

std::span<const Preference> preferences() noexcept { return rows; }

const Preference* find_preference(std::string_view name) noexcept {
  const auto at =
      std::find_if(rows.begin(), rows.end(), [&](const Preference& row) { return row.name == name; });
  return at == rows.end() ? nullptr : &*at;
}

std::optional<std::string> preference_value(const Preference& row, std::string_view value) {
  const std::string small = lower(value);
  switch (row.type) {
    case ValueType::boolean:
      if (one_of(small, {"true", "1", "yes", "enable"})) return "true";
      if (one_of(small, {"false", "0", "no", "disable"})) return "false";
      return std::nullopt;
    case ValueType::number: {
      const auto number = parse_size(value);
      return number && *number <= 1000000 ? std::optional(std::to_string(*number)) : std::nullopt;
    }
    case ValueType::text:
      return value.size() <= max_session_text ? std::optional(std::string(value)) : std::nullopt;
    case ValueType::colour:
      if (one_of(small, {"none", "black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"}))
        return small;
      return std::nullopt;
    case ValueType::loglevel:
      if (one_of(small, {"debug", "info", "warning", "error", "critical"})) return small;
      return std::nullopt;
  }
  return std::nullopt;
}

std::string_view type_name(ValueType type) noexcept {
  switch (type) {
    case ValueType::boolean:
      return "BOOL";
    case ValueType::number:
      return "NUMBER";
    case ValueType::text:
      return "STRING";
    case ValueType::colour:
      return "COLOR";
    case ValueType::loglevel:
      return "LOGLEVEL";
  }
  return "";
}

std::string Session::preference(std::string_view name) const {
  const auto at = changed.find(std::string(name));
  if (at != changed.end()) return at->second;
  const Preference* const row = find_preference(name);
  return row == nullptr ? std::string() : std::string(row->initial);
}

std::size_t Session::number(std::string_view name) const { return parse_size(preference(name)).value_or(0); }

void Session::go(const std::string& to) {
  path = to;
  set_bookmark("last", to);
  if (visited[visited_at] == to) return;
  visited.resize(visited_at + 1);
  visited.push_back(to);
  if (visited.size() > max_visited) visited.erase(visited.begin());
  visited_at = visited.size() - 1;
}

const std::string* Session::bookmark(std::string_view name) const {
  for (const auto& [own, to] : bookmarks) {
    if (own == name) return &to;
  }
  return nullptr;
}

void Session::set_bookmark(const std::string& name, const std::string& to) {
  for (auto& [own, old] : bookmarks) {
    if (own == name) {
      old = to;
      return;
    }
  }
  bookmarks.emplace_back(name, to);
}

Json to_json(const Session& session) {
  Json bookmarks = Json::array();
  for (const auto& [name, to] : session.bookmarks) bookmarks.push_back(Json::array({name, to}));
  return {{"path", session.path},
          {"visited", session.visited},
          {"visited_at", session.visited_at},
          {"bookmarks", bookmarks},
          {"preferences", session.changed},
          {"directory", session.directory},
          {"width", session.width},
          {"colour", session.colour},
          {"json", session.json},
          {"dry_run", session.dry_run},
          {"quit", session.quit}};
}

Session session_from_json(const Json& json) {
  Session session;
  if (!json.is_object()) return session;
  session.path = text_in(json, "path", "/");
  session.directory = text_in(json, "directory", "");
  session.width = std::clamp<std::size_t>(size_in(json, "width", session.width), 20, 1000);
  session.colour = flag_in(json, "colour");
  session.json = flag_in(json, "json");
  session.dry_run = flag_in(json, "dry_run");
  read_visited(json, session);
  read_bookmarks(json, session);
  read_preferences(json, session);
  return session;
}

std::string prompt_of(std::string_view path, std::size_t length) {
  if (length == 0 || path.size() <= length || length < 8) return std::string(path) + "> ";
  const std::size_t part = length / 2 - 2;
  return std::string(path.substr(0, part)) + "..." + std::string(path.substr(path.size() - part)) + "> ";
}

}  // namespace perilune::cli::targetcli
