// SPDX-License-Identifier: Apache-2.0
#include "cli/targetcli/completion.hpp"

#include <algorithm>

#include "cli/targetcli/command_line.hpp"
#include "cli/targetcli/commands.hpp"
#include "cli/targetcli/groups.hpp"
#include "cli/targetcli/interpreter.hpp"

namespace perilune::cli::targetcli {
namespace {

class Completer {
 public:
  Completer(targetd::Administration& administration, const Session& session, std::string_view line)
      : administration_(administration),
        configuration_(administration.configuration()),
        session_(session),
        line_(line) {}

  Completion run() {
    auto words = split_words(line_);
    if (!words) return {line_.size(), {}};
    words_ = std::move(*words);
    const bool in_word = !words_.empty() && words_.back().end == line_.size();
    if (in_word) {
      current_ = words_.back().text;
      completion_.start = words_.back().begin;
      words_.pop_back();
    } else {
      completion_.start = line_.size();
    }
    complete_word();
    return std::move(completion_);
  }

 private:
  void complete_word() {
    std::size_t before = words_.size();
    std::string path = session_.path;
    std::size_t at = 0;
    if (before > 0 && is_path(words_[0].text)) {
      const auto given = resolve(session_, words_[at++].text);
      if (!given) return;
      path = *given;
      --before;
    }
    const auto node = find_node(configuration_, path);
    if (!node) return;
    node_ = *node;
    if (before > 0) return complete_argument(words_[at].text, at + 1);
    if (at == 0) add_paths(current_, session_.path, [](const Node&) { return true; });
    if (!is_path(current_)) add_commands();
  }

  void add(std::string text, std::string_view help) {
    if (completion_.words.size() < max_completions)
      completion_.words.push_back({std::move(text), std::string(help)});
  }
  void add_if(std::string_view text, std::string_view prefix, std::string_view help,
              std::string_view before = {}) {
    if (text.starts_with(prefix)) add(std::string(before) + std::string(text), help);
  }

  void add_commands() {
    for (const Command* const command : commands_of(node_)) add_if(command->name, current_, "command");
  }

  // Paths that go on from `word`, as it is written. A node with others below it ends in '/'.
  template <class Filter>
  void add_paths(std::string_view word, const std::string& from, Filter wanted,
                 std::string_view before = {}) {
    if (word.starts_with('@') && word.find('/') == std::string_view::npos) return add_bookmarks(word);
    const auto slash = word.rfind('/');
    const std::string_view folder =
        slash == std::string_view::npos ? std::string_view{} : word.substr(0, slash + 1);
    const std::string_view prefix = word.substr(folder.size());
    Session at = session_;
    at.path = from;
    const auto path = resolve(at, folder.empty() ? std::string_view(".") : folder);
    const auto node = path ? find_node(configuration_, *path) : std::nullopt;
    if (!node) return;
    for (const std::string& name : names_below(configuration_, *node, prefix, max_completions)) {
      const auto child = find_node(configuration_, absolute_path(node->path, name));
      if (!child || !wanted(*child)) continue;
      const bool deep = !names_below(configuration_, *child, "", 1).empty();
      add(std::string(before) + std::string(folder) + name + (deep ? "/" : ""), "path");
    }
  }
  void add_bookmarks(std::string_view word) {
    for (const auto& [name, to] : session_.bookmarks) add_if(name, word.substr(1), to, "@");
  }

  // ---- arguments

  void complete_argument(const std::string& name, std::size_t first) {
    const Command* const command = find_command(node_, name);
    if (command == nullptr) return;
    if (name == "get" || name == "set") return complete_group(name == "set", first);
    const std::string_view given = name_in(current_);
    if (!given.empty())
      return add_values(*command, given, std::string_view(current_).substr(given.size() + 1),
                        std::string(given) + "=");
    const auto parameters = parameters_of(*command);
    const std::size_t position = words_.size() - first;
    if (position < parameters.size()) add_values(*command, parameters[position].name, current_, "");
    for (std::size_t i = position; i < parameters.size(); ++i) {
      if (is_named(parameters[i].name)) continue;
      add_if(std::string(parameters[i].name) + "=", current_,
             parameters[i].required ? "required" : "optional");
    }
  }
  bool is_named(std::string_view parameter) const {
    return std::any_of(words_.begin(), words_.end(),
                       [&](const Word& word) { return name_in(word.text) == parameter; });
  }

  void complete_group(bool set, std::size_t first) {
    if (words_.size() == first) {
      for (const std::string_view group : groups_of(node_.kind)) add_if(group, current_, "group");
      return;
    }
    const std::string& group = words_[first].text;
    const auto groups = groups_of(node_.kind);
    if (std::find(groups.begin(), groups.end(), group) == groups.end()) return;
    for (const Row& row : rows(group)) {
      if (!set) add_if(row.name, current_, row.description);
      if (set && !row.read_only && !is_named(row.name)) add_setting(row);
    }
  }
  void add_setting(const Row& row) {
    const std::string_view given = name_in(current_);
    if (given.empty()) return add_if(row.name + "=", current_, row.description);
    if (given != row.name) return;
    const std::string before = row.name + "=";
    const std::string_view value = std::string_view(current_).substr(before.size());
    if (row.type == "BOOL") add_choices({"true", "false"}, value, before);
    if (row.type == "YESNO") add_choices({"Yes", "No"}, value, before);
    if (row.type == "COLOR") {
      add_choices({"none", "black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"}, value,
                  before);
    }
    if (row.type == "LOGLEVEL") add_choices({"debug", "info", "warning", "error", "critical"}, value, before);
  }
  std::vector<Row> rows(const std::string& group) {
    // rows_of() takes a call; nothing is carried out here, so that what it may change is a copy.
    Session session = session_;
    Call call(administration_, session, system_chance(), {});
    call.node = node_;
    return rows_of(call, group);
  }
  void add_choices(std::initializer_list<std::string_view> choices, std::string_view value,
                   std::string_view before) {
    for (const std::string_view choice : choices) add_if(choice, value, "value", before);
  }

  void add_values(const Command& command, std::string_view parameter, std::string_view value,
                  const std::string& before) {
    const auto any = [](const Node&) { return true; };
    if (parameter == "path") return add_paths(value, node_.path, any, before);
    if (parameter == "topic") {
      for (const Command* const other : commands_of(node_)) add_if(other->name, value, "command", before);
      return;
    }
    if (parameter == "action") {
      return command.name == "sessions" ? add_choices({"list", "detail"}, value, before)
                                        : add_choices({"add", "del", "go", "show"}, value, before);
    }
    if (parameter == "bookmark") {
      for (const auto& [name, to] : session_.bookmarks) add_if(name, value, to, before);
      return;
    }
    if (is_switch(parameter)) return add_choices({"true", "false"}, value, before);
    if (parameter == "storage_object" && node_.kind == NodeKind::luns) return add_objects(value, before);
    if (parameter == "tpg_lun_or_backstore") {
      add_objects(value, before);
      return add_children("luns", value, before);
    }
    if (parameter == "ip_address" || parameter == "ip_port")
      return add_portal_values(command, parameter, value, before);
    if (command.name == "delete" || parameter == "wwn_or_tag") add_own_children(value, before);
  }
  static bool is_switch(std::string_view parameter) {
    constexpr std::string_view switches[] = {"readonly",        "write_back",     "sparse",
                                             "nullio",          "save",           "write_protect",
                                             "add_mapped_luns", "clear_existing", "boolean"};
    return parameter == "confirm" ||
           std::find(std::begin(switches), std::end(switches), parameter) != std::end(switches);
  }
  void add_objects(std::string_view value, const std::string& before) {
    const auto on_the_way = [](const Node& node) {
      return node.kind == NodeKind::backstores || node.kind == NodeKind::storage_list ||
             node.kind == NodeKind::storage;
    };
    if (!value.empty() && !value.starts_with('/')) return;
    add_paths(value.empty() ? std::string_view("/") : value, "/", on_the_way, before);
    // A storage object is a leaf here, whatever lies below it.
    for (Candidate& word : completion_.words) {
      const auto node = find_node(configuration_, word.text.substr(before.size()));
      if (node && node->kind == NodeKind::storage && word.text.ends_with('/')) word.text.pop_back();
    }
  }
  void add_children(std::string_view of, std::string_view value, const std::string& before) {
    const auto node = find_node(configuration_, absolute_path(model::path_of(node_.group), of));
    if (!node) return;
    for (const std::string& name : names_below(configuration_, *node, value, max_completions))
      add(before + name, "value");
  }
  void add_own_children(std::string_view value, const std::string& before) {
    for (const std::string& name : names_below(configuration_, node_, value, max_completions))
      add(before + name, "value");
  }
  void add_portal_values(const Command& command, std::string_view parameter, std::string_view value,
                         const std::string& before) {
    if (command.name == "create") {
      if (parameter == "ip_port") return add_choices({"3260"}, value, before);
      for (const std::string& address : administration_.host_addresses())
        add_if(address, value, "address", before);
      return;
    }
    for (const auto& [key, portal] : configuration_.below<model::Portal>(node_.group)) {
      add_if(parameter == "ip_port" ? std::to_string(key.port) : key.address, value, "value", before);
    }
  }

  targetd::Administration& administration_;
  const model::Configuration& configuration_;
  const Session& session_;
  std::string_view line_;
  std::vector<Word> words_;
  std::string current_;
  Node node_;
  Completion completion_;
};

}  // namespace

Completion complete(targetd::Administration& administration, const Session& session, std::string_view line) {
  return Completer(administration, session, line).run();
}

Json to_json(const Completion& completion) {
  Json words = Json::array();
  for (const Candidate& candidate : completion.words)
    words.push_back({{"text", candidate.text}, {"help", candidate.help}});
  return {{"start", completion.start}, {"words", std::move(words)}};
}

}  // namespace perilune::cli::targetcli
