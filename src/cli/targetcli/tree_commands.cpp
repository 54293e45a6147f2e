// SPDX-License-Identifier: Apache-2.0
// The commands that every node has, but for `get` and `set`.
#include <charconv>

#include <fmt/format.h>

#include "cli/targetcli/commands.hpp"
#include "cli/targetcli/interpreter.hpp"
#include "config/target/tree.hpp"

namespace perilune::cli::targetcli {
namespace {

model::TreeFacts facts_of(const targetd::Administration& administration) {
  model::TreeFacts facts;
  facts.size_of = [&administration](const model::StorageKey& key, const model::StorageObject&) {
    return administration.size_of(key).value_or(0);
  };
  for (const std::string_view fabric : other_fabrics()) facts.other_fabrics.emplace_back(fabric);
  return facts;
}

Json tree_to_json(const model::TreeNode& node, const std::string& path, std::size_t depth) {
  Json json{{"name", node.name}, {"path", path}, {"summary", node.summary}};
  if (node.healthy) json["healthy"] = *node.healthy;
  if (depth == 0) return json;
  Json children = Json::array();
  for (const auto& child : node.children) {
    children.push_back(tree_to_json(child, (path == "/" ? "" : path) + "/" + child.name, depth - 1));
  }
  if (!children.empty()) json["children"] = std::move(children);
  return json;
}

tl::expected<std::optional<std::size_t>, Refusal> depth_of(const Call& call) {
  const std::string* const text = call.arguments.find("depth");
  std::size_t depth = call.session.number("tree_max_depth");
  if (text != nullptr) {
    const auto [at, error] = std::from_chars(text->data(), text->data() + text->size(), depth);
    if (error != std::errc{} || at != text->data() + text->size()) {
      return refuse("The depth '" + *text + "' is not a number; give one, or 0 for the whole tree");
    }
  }
  return depth == 0 ? std::nullopt : std::optional(depth);
}

model::TreeStyle style_of(const Session& session) {
  model::TreeStyle style;
  style.width = session.width;
  style.colour = session.colour && session.flag("color_mode");
  style.round_nodes = session.flag("tree_round_nodes");
  style.show_root = session.flag("tree_show_root");
  style.show_summaries = session.flag("tree_status_mode");
  return style;
}

void heading(std::string& out, std::string_view text, char line) {
  out.append(text).append("\n").append(text.size(), line).append("\n");
}

void show_command(Call& call, const Command& command) {
  std::string& out = call.out;
  out += "\n";
  heading(out, "SYNTAX", '=');
  out +=
      fmt::format("{} {}{}\n\n\n", command.name, command.parameters, command.parameters.empty() ? "" : " ");
  if (!command.defaults.empty()) {
    heading(out, "DEFAULT VALUES", '=');
    std::string defaults(command.defaults);
    constexpr std::string_view mark = "{savefile}";
    if (const auto at = defaults.find(mark); at != std::string::npos) {
      defaults.replace(at, mark.size(), call.administration.default_save_path());
    }
    out += defaults + " \n\n\n";
  }
  heading(out, "DESCRIPTION", '=');
  out.append("\n").append(command.help);
  if (!command.see_also.empty()) {
    out += "\n";
    heading(out, "SEE ALSO", '=');
    out.append(command.see_also).append("\n");
  }
}

void show_commands(Call& call) {
  std::string& out = call.out;
  out += "\n";
  heading(out, "THE SHELL", '=');
  out +=
      "All that is served hangs in a tree. A command acts on the current node, or on the one whose path "
      "stands\n"
      "before it; nodes of different kinds have different commands. `cd` moves, `ls` shows, the prompt "
      "tells\n"
      "where you are.\n\n";
  heading(out, "A COMMAND LINE", '=');
  out +=
      "[PATH] COMMAND [VALUE...] [NAME=VALUE...]\n\n"
      "Values stand for the command's parameters in their order; any of them may be given by its name "
      "instead.\n"
      "Quotes hold blanks together. `help COMMAND` explains a command.\n\n\n";
  heading(out, "AVAILABLE COMMANDS", '=');
  out += "The following commands are available in the\ncurrent path:\n\n";
  for (const Command* const command : commands_of(call.node)) {
    out += fmt::format("  - {} {}{}\n", command->name, command->parameters,
                       command->parameters.empty() ? "" : " ");
  }
}

Outcome go_in_history(Call& call, bool back) {
  Session& session = call.session;
  if (back ? session.visited_at == 0 : session.visited_at + 1 >= session.visited.size()) {
    return refuse(back ? "The history of paths begins here" : "The history of paths ends here");
  }
  const std::size_t at = back ? session.visited_at - 1 : session.visited_at + 1;
  const std::string& path = session.visited[at];
  if (!find_node(call.configuration(), path)) return refuse("No such path " + path);
  session.visited_at = at;
  session.path = path;
  session.set_bookmark("last", path);
  return {};
}

Outcome go_to(Call& call, const std::string& word) {
  if (word == "<" || word == "-") return go_in_history(call, true);
  if (word == ">") return go_in_history(call, false);
  // Below the node before whose name the command stands, as for all commands.
  Session from = call.session;
  from.path = call.node.path;
  const auto path = resolve(from, word);
  if (!path) return tl::unexpected<Refusal>(path.error());
  if (!find_node(call.configuration(), *path)) return refuse("No such path " + *path);
  call.session.go(*path);
  return {};
}

Outcome add_bookmark(Call& call, const std::string& name) {
  const bool plain = !name.empty() && name.find_first_of("/@ ") == std::string::npos && name.size() <= 64;
  if (!plain) return refuse("'" + name + "' is no name for a bookmark; use letters and digits");
  if (call.session.bookmark(name) == nullptr && call.session.bookmarks.size() >= max_bookmarks) {
    return refuse("There are 1000 bookmarks already; delete one first");
  }
  call.session.set_bookmark(name, call.node.path);
  call.say("Bookmarked " + call.node.path + " as " + name + ".");
  return {};
}

Outcome show_bookmarks(Call& call) {
  if (call.session.bookmarks.empty()) {
    call.say("No bookmarks yet.");
    return {};
  }
  call.out += "\n";
  heading(call.out, "BOOKMARKS", '=');
  for (const auto& [name, path] : call.session.bookmarks) {
    call.out += "\n";
    heading(call.out, name, '-');
    call.say(path);
    call.data[name] = path;
  }
  return {};
}

}  // namespace

Outcome run_ls(Call& call) {
  const std::string* const word = call.arguments.find("path");
  Session from = call.session;
  from.path = call.node.path;
  const auto path = resolve(from, word == nullptr ? "." : std::string_view(*word));
  if (!path) return tl::unexpected<Refusal>(path.error());
  const auto depth = depth_of(call);
  if (!depth) return tl::unexpected<Refusal>(depth.error());
  const model::TreeNode root = model::tree_of(call.configuration(), facts_of(call.administration));
  const model::TreeNode* const node = model::find_node(root, *path);
  if (node == nullptr) return refuse("No such path " + *path);
  if (call.session.json) call.data = tree_to_json(*node, *path, depth->value_or(SIZE_MAX));
  call.out += model::render_tree(*node, *depth, style_of(call.session));
  return {};
}

Outcome run_cd(Call& call) {
  const std::string* const word = call.arguments.find("path");
  return go_to(call, word == nullptr ? "/" : *word);
}

Outcome run_pwd(Call& call) {
  call.say(call.node.path);
  call.data = Json{{"path", call.node.path}};
  return {};
}

Outcome run_bookmarks(Call& call) {
  const std::string& action = call.arguments.at("action");
  if (action == "show") return show_bookmarks(call);
  const std::string* const name = call.arguments.find("bookmark");
  if (action != "add" && action != "del" && action != "go") {
    return refuse("There is no action '" + action + "'; use add, del, go or show");
  }
  if (name == nullptr) return refuse("`bookmarks " + action + "` wants the name of a bookmark");
  if (action == "add") return add_bookmark(call, *name);
  if (call.session.bookmark(*name) == nullptr) {
    return refuse("No such bookmark " + *name, "`bookmarks show` lists them");
  }
  if (action == "go") return go_to(call, "@" + *name);
  std::erase_if(call.session.bookmarks, [&](const auto& own) { return own.first == *name; });
  call.say("Deleted bookmark " + *name + ".");
  return {};
}

Outcome run_status(Call& call) {
  const model::TreeNode root = model::tree_of(call.configuration(), facts_of(call.administration));
  const model::TreeNode* const node = model::find_node(root, call.node.path);
  const std::string summary = node == nullptr ? "" : node->summary;
  call.say("Status for " + call.node.path + ": " + summary);
  call.data = Json{{"path", call.node.path}, {"summary", summary}};
  return {};
}

Outcome run_refresh(Call&) { return {}; }

Outcome run_exit(Call& call) {
  call.session.quit = true;
  if (!call.session.flag("auto_save_on_exit") || call.session.dry_run) return {};
  call.say("Global pref auto_save_on_exit=true");
  return save_configuration(call, "", false);
}

Outcome run_help(Call& call) {
  const std::string* const topic = call.arguments.find("topic");
  if (topic == nullptr) {
    show_commands(call);
    return {};
  }
  const Command* const command = find_command(call.node, *topic);
  if (command == nullptr) return refuse("Cannot find help topic " + *topic + ".");
  show_command(call, *command);
  return {};
}

}  // namespace perilune::cli::targetcli
