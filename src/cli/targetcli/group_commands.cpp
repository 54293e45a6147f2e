// SPDX-License-Identifier: Apache-2.0
// `get` and `set`.
#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "cli/targetcli/commands.hpp"
#include "cli/targetcli/groups.hpp"

namespace perilune::cli::targetcli {
namespace {

void heading(std::string& out, std::string_view text, char line) {
  out.append(text).append("\n").append(text.size(), line).append("\n");
}

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c & ~0x20);
  }
  return out;
}

void list_groups(Call& call) {
  call.out += "\n";
  heading(call.out, "AVAILABLE CONFIGURATION GROUPS", '=');
  std::string line;
  for (const std::string_view group : groups_of(call.node.kind)) {
    line.append(line.empty() ? "" : " ").append(group);
    call.data["groups"].push_back(group);
  }
  call.say(line);
}

tl::expected<std::string_view, Refusal> known_group(const Call& call, const std::string& name) {
  std::string all;
  for (const std::string_view group : groups_of(call.node.kind)) {
    if (group == name) return group;
    all.append(all.empty() ? "" : ", ").append(group);
  }
  return refuse("Unknown configuration group: " + name, call.node.path + " has " + all);
}

const Row* find_row(const std::vector<Row>& rows, std::string_view name) {
  const auto at = std::find_if(rows.begin(), rows.end(), [&](const Row& row) { return row.name == name; });
  return at == rows.end() ? nullptr : &*at;
}

std::string marked(const Row& row, std::string_view value) {
  return row.name + "=" + std::string(value) + (row.read_only ? " [ro]" : "");
}

// `types`: what may be set, in the place of what is.
void show_rows(Call& call, std::string_view group, const std::vector<Row>& rows, bool types) {
  heading(call.out, upper(group) + " CONFIG GROUP", '=');
  for (const Row& row : rows) {
    heading(call.out, marked(row, types ? row.type : std::string_view(row.value)), '-');
    call.out += row.description + "\n\n";
    call.data[row.name] = row.value;
  }
}

Outcome show_some(Call& call, std::string_view group, const std::vector<Row>& rows) {
  for (const std::string& name : call.arguments.values) {
    const Row* const row = find_row(rows, name);
    if (row == nullptr) {
      call.out.clear();
      return refuse(fmt::format("No parameter '{}' in group '{}'.", name, group),
                    fmt::format("`get {}` lists them", group));
    }
    call.say(fmt::format("{}={} {}", row->name, row->value, row->read_only ? "[ro]" : ""));
    call.data[row->name] = row->value;
  }
  return {};
}

// ---- set

bool is_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && at == text.data() + text.size();
}

// The changes of one line of `set`, and what is said when they are made.
class Setter {
 public:
  Setter(Call& call, std::string_view group) : call_(call), group_(group), rows_(rows_of(call, group)) {}

  Outcome run() {
    for (const auto& [name, value] : call_.arguments.settings) {
      if (auto legal = check(name, value); !legal) return legal;
    }
    if (group_ == "global") return set_global();
    if (auto set = set_objects(); !set) return set;
    return call_.commit_and_say(changes_, lines_);
  }

 private:
  using Setting = std::pair<std::string, std::string>;

  Outcome check(const std::string& name, const std::string& value) const {
    const Row* const row = find_row(rows_, name);
    if (row == nullptr) {
      return refuse(fmt::format("Unknown parameter {} in group '{}'.", name, group_),
                    fmt::format("`get {}` lists them", group_));
    }
    if (row->read_only) return refuse("Parameter " + name + " is read-only.");
    const bool wrong =
        (row->type == "NUMBER" && !is_number(value)) || (row->type == "BOOL" && !parse_boolean(value));
    if (wrong)
      return refuse(fmt::format("Not setting {}! Syntax error, '{}' is not a {}.", name, value, row->type));
    return {};
  }

  void say_now(const std::string& name, std::string_view value) {
    lines_.push_back(fmt::format("Parameter {} is now '{}'.", name, value));
  }

  Outcome set_global() {
    std::map<std::string, std::string> changed = call_.session.changed;
    for (const auto& [name, value] : call_.arguments.settings) {
      const Preference& row = *find_preference(name);
      const auto kept = preference_value(row, value);
      if (!kept)
        return refuse(
            fmt::format("Not setting {}! Syntax error, '{}' is not a {}.", name, value, type_name(row.type)));
      changed[name] = *kept;
      if (*kept == row.initial) changed.erase(name);
      say_now(name, *kept);
    }
    call_.session.changed = std::move(changed);
    for (const std::string& line : lines_) call_.say(line);
    return {};
  }

  Outcome set_objects() {
    switch (call_.node.kind) {
      case NodeKind::storage:
        return set_fields<model::StorageObject>(call_.node.storage, &model::StorageObject::attributes,
                                                model::storage_attributes(call_.node.storage.plugin));
      case NodeKind::alua_group:
        return set_fields<model::AluaGroup>(call_.node.alua_group, &model::AluaGroup::parameters,
                                            model::alua_parameters());
      case NodeKind::lun:
        return set_lun();
      case NodeKind::iscsi:
        return set_discovery();
      case NodeKind::portal_group:
        return set_group();
      default:
        return set_acls();
    }
  }

  Outcome set_group() {
    if (group_ == "attribute") {
      return set_fields<model::PortalGroup>(call_.node.group, &model::PortalGroup::attributes,
                                            model::group_attributes());
    }
    if (group_ == "parameter") {
      return set_fields<model::PortalGroup>(call_.node.group, &model::PortalGroup::parameters,
                                            model::group_parameters());
    }
    model::PortalGroup value = *call_.configuration().find<model::PortalGroup>(call_.node.group);
    set_chap(value.chap);
    changes_.push_back(model::set<model::PortalGroup>(call_.node.group, std::move(value)));
    return {};
  }

  // All the ACLs that share the node's tag; the lines are said once.
  Outcome set_acls() {
    for (const model::NodeAclKey& key : call_.node.acls) {
      lines_.clear();
      if (group_ == "attribute") {
        if (auto set = set_fields<model::NodeAcl>(key, &model::NodeAcl::attributes, model::acl_attributes());
            !set)
          return set;
        continue;
      }
      model::NodeAcl value = *call_.configuration().find<model::NodeAcl>(key);
      set_chap(value.chap);
      changes_.push_back(model::set<model::NodeAcl>(key, std::move(value)));
    }
    return {};
  }

  template <class Object>
  Outcome set_fields(const typename Object::Key& key, model::Settings Object::*member,
                     const model::FieldTable& table) {
    Object value = *call_.configuration().template find<Object>(key);
    for (const auto& [name, text] : call_.arguments.settings) {
      if (const auto set = (value.*member).set(table, name, text); !set) {
        return refuse(fmt::format("Cannot set {} {}: [Errno 22] Invalid argument", group_, name),
                      set.error().message);
      }
      say_now(name, (value.*member).get(table, name).value_or(text));
    }
    changes_.push_back(model::set<Object>(key, std::move(value)));
    return {};
  }

  void set_chap(model::Chap& chap) {
    for (const auto& [name, value] : call_.arguments.settings) {
      const bool secret = name == "password" || name == "mutual_password";
      if (name == "userid") chap.userid = value;
      if (name == "mutual_userid") chap.mutual_userid = value;
      if (name == "password") chap.password = model::Password::typed(value);
      if (name == "mutual_password") chap.mutual_password = model::Password::typed(value);
      if (name != "enable") say_now(name, secret ? shown(model::Password::typed(value)) : value);
    }
  }

  Outcome set_discovery() {
    const auto* const before = call_.configuration().find<model::Discovery>({});
    model::Discovery value = before == nullptr ? model::Discovery{} : *before;
    for (const auto& [name, text] : call_.arguments.settings) {
      if (name != "enable") continue;
      value.enable = *parse_boolean(text);
      say_now(name, value.enable ? "True" : "False");
    }
    set_chap(value.chap);
    changes_.push_back(before == nullptr ? model::add<model::Discovery>({}, std::move(value))
                                         : model::set<model::Discovery>({}, std::move(value)));
    return {};
  }

  Outcome set_lun() {
    const model::LunKey key{call_.node.group, call_.node.index};
    model::Lun value = *call_.configuration().find<model::Lun>(key);
    for (const auto& [name, text] : call_.arguments.settings) {
      value.alua_group = text;
      say_now(name, text);
    }
    changes_.push_back(model::set<model::Lun>(key, std::move(value)));
    return {};
  }

  Call& call_;
  std::string_view group_;
  std::vector<Row> rows_;
  model::Changes changes_;
  std::vector<std::string> lines_;
};

// What the command is for, with the group that it names. Without one it lists them.
template <class Work>
Outcome with_group(Call& call, Work work) {
  const std::string* const name = call.arguments.find("group");
  if (name == nullptr) {
    list_groups(call);
    return {};
  }
  const auto group = known_group(call, *name);
  if (!group) return tl::unexpected<Refusal>(group.error());
  return work(*group);
}

}  // namespace

Outcome run_get(Call& call) {
  return with_group(call, [&](std::string_view group) -> Outcome {
    const std::vector<Row> rows = rows_of(call, group);
    if (!call.arguments.values.empty()) return show_some(call, group, rows);
    show_rows(call, group, rows, false);
    return {};
  });
}

Outcome run_set(Call& call) {
  return with_group(call, [&](std::string_view group) -> Outcome {
    if (!call.arguments.settings.empty()) return Setter(call, group).run();
    show_rows(call, group, rows_of(call, group), true);
    return {};
  });
}

}  // namespace perilune::cli::targetcli
