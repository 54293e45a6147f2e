// SPDX-License-Identifier: Apache-2.0
// The configuration as a whole: its files, its history, its sessions.
#include <ctime>

#include <fmt/format.h>

#include "cli/targetcli/commands.hpp"
#include "config/target/json_text.hpp"
#include "config/target/plan.hpp"
#include "config/target/saveconfig.hpp"

namespace perilune::cli::targetcli {
namespace {

std::string folder_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

tl::expected<model::LoadedSaveconfig, Refusal> load(const Call& call, const std::string& path) {
  const auto text = call.administration.read_file(path, model::max_json_bytes);
  if (!text) return refuse(path + ": " + text.error().message);
  auto loaded = model::read_saveconfig(*text);
  if (loaded) return std::move(*loaded);
  std::string_view why = loaded.error().message;
  constexpr std::string_view usual_name = "saveconfig.json: ";  // this file has its own
  if (why.starts_with(usual_name)) why.remove_prefix(usual_name.size());
  return refuse(path + ": " + std::string(why), "nothing was changed");
}

void say_warnings(Call& call, const model::LoadedSaveconfig& loaded) {
  for (const std::string& warning : loaded.warnings) call.say("Warning: " + warning);
}

// ---- restoreconfig

// What of a file is wanted: all, one target, or one storage object.
struct Wanted {
  const std::string* target = nullptr;
  const std::string* object = nullptr;

  [[nodiscard]] bool all() const { return target == nullptr && object == nullptr; }
  [[nodiscard]] std::string named() const {
    return target != nullptr ? "target " + *target : "storage object " + *object;
  }
  [[nodiscard]] bool has(const model::StorageKey& key) const {
    return object != nullptr && key.name == *object;
  }
  [[nodiscard]] bool has(const model::AluaGroupKey& key) const { return has(key.parent); }
  [[nodiscard]] bool has(const model::TargetKey& key) const {
    return target != nullptr && key.wwn == *target;
  }
  [[nodiscard]] bool has(const model::PortalGroupKey& key) const { return has(key.parent); }
  [[nodiscard]] bool has(const model::PortalKey& key) const { return has(key.parent); }
  [[nodiscard]] bool has(const model::LunKey& key) const { return has(key.parent); }
  [[nodiscard]] bool has(const model::NodeAclKey& key) const { return has(key.parent); }
  [[nodiscard]] bool has(const model::MappedLunKey& key) const { return has(key.parent); }
  [[nodiscard]] bool has(const model::DiscoveryKey&) const { return false; }
  [[nodiscard]] bool has(const model::ForeignKey&) const { return false; }
};

// What is wanted of a file, and is not there yet.
class Restore {
 public:
  Restore(const model::Configuration& present, const model::Configuration& file, Wanted wanted)
      : present_(present), file_(file), wanted_(wanted) {}

  tl::expected<model::Changes, Refusal> run(bool clear_existing) {
    if (clear_existing && wanted_.all()) return model::diff(present_, file_);
    if (clear_existing) {
      clear();
    } else if (auto fresh = check_fresh(); !fresh) {
      return tl::unexpected<Refusal>(fresh.error());
    }
    for (const model::Change& change : model::diff({}, file_)) {
      std::visit([this](const auto& step) { take(step); }, change);
    }
    if (!wanted_.all() && changes_.empty()) return refuse("The file has no " + wanted_.named());
    return std::move(changes_);
  }

 private:
  Outcome check_fresh() const {
    for (const auto& [key, value] : file_.all<model::StorageObject>()) {
      if ((wanted_.all() || wanted_.has(key)) && present_.find<model::StorageObject>(key) != nullptr) {
        return exists("storageobject", fmt::format("{}:{}", model::to_string(key.plugin), key.name));
      }
    }
    for (const auto& [key, value] : file_.all<model::Target>()) {
      if ((wanted_.all() || wanted_.has(key)) && present_.find<model::Target>(key) != nullptr) {
        return exists("target", key.wwn);
      }
    }
    return {};
  }
  static Outcome exists(std::string_view what, const std::string& name) {
    return refuse(fmt::format("{} '{}' exist not restoring", what, name),
                  "nothing was changed; clear_existing=True makes it what the file says");
  }

  void clear() {
    for (const auto& [key, value] : present_.all<model::StorageObject>()) {
      if (wanted_.has(key)) append(model::removal_of(present_, key));
    }
    for (const auto& [key, value] : present_.all<model::Target>()) {
      if (wanted_.has(key)) append(model::removal_of(present_, key));
    }
  }
  void append(model::Changes changes) {
    for (model::Change& change : changes) changes_.push_back(std::move(change));
  }

  template <class Object>
  void take(const model::ChangeOf<Object>& change) {
    if (!wanted_.all() && !wanted_.has(change.key)) return;
    changes_.push_back(change);
  }
  // Of these there may be some already.
  void take(const model::ChangeOf<model::Discovery>& change) {
    if (!wanted_.all()) return;
    const bool there = present_.find<model::Discovery>({}) != nullptr;
    changes_.push_back(there ? model::set<model::Discovery>({}, change.value) : model::Change(change));
  }
  void take(const model::ChangeOf<model::Foreign>& change) {
    if (wanted_.all() && present_.find<model::Foreign>(change.key) == nullptr) changes_.push_back(change);
  }

  const model::Configuration& present_;
  const model::Configuration& file_;
  Wanted wanted_;
  model::Changes changes_;
};

// ---- sessions

void say_mapped(Call& call, std::uint16_t number, const model::StorageKey& object, bool writable) {
  call.say(fmt::format("    mapped-lun: {} backstore: {}/{} mode: {}", number,
                       model::to_string(object.plugin), object.name, writable ? "rw" : "r"));
}

void say_luns(Call& call, const targetd::SessionInfo& session) {
  const auto& configuration = call.configuration();
  const model::NodeAclKey acl{session.group, session.initiator};
  if (configuration.find<model::NodeAcl>(acl) != nullptr) {
    for (const auto& [key, mapped] : configuration.below<model::MappedLun>(acl)) {
      say_mapped(call, key.index, configuration.find<model::Lun>({session.group, mapped.tpg_lun})->object,
                 !mapped.write_protect);
    }
    return;
  }
  const auto* const group = configuration.find<model::PortalGroup>(session.group);
  if (group == nullptr) return;
  const bool writable = group->attributes.number(model::group_attributes(), "demo_mode_write_protect") == 0;
  for (const auto& [key, lun] : configuration.below<model::Lun>(session.group))
    say_mapped(call, key.index, lun.object, writable);
}

void say_session(Call& call, const targetd::SessionInfo& session, bool detail) {
  call.say(fmt::format("alias: {}\tsid: {} type: Normal session-state: {}", session.alias, session.tsih,
                       session.state));
  if (!detail) return;
  call.say(fmt::format("    name: {} ({})", session.initiator,
                       session.chap_user.empty() ? "NOT AUTHENTICATED" : "authenticated"));
  say_luns(call, session);
  for (const targetd::ConnectionInfo& connection : session.connections) {
    call.say(fmt::format("    address: {} (TCP)  cid: {} connection-state: {}", connection.address,
                         connection.cid, connection.state));
  }
}

Json session_to_json(const targetd::SessionInfo& session) {
  Json connections = Json::array();
  for (const targetd::ConnectionInfo& connection : session.connections) {
    connections.push_back({{"cid", connection.cid},
                           {"address", connection.address},
                           {"port", connection.port},
                           {"state", connection.state}});
  }
  return {{"sid", session.tsih},
          {"target", session.group.parent.wwn},
          {"tag", session.group.tag},
          {"initiator", session.initiator},
          {"alias", session.alias},
          {"isid", session.isid},
          {"state", session.state},
          {"chap_user", session.chap_user},
          {"connections", std::move(connections)}};
}

// ---- history

std::string time_text(std::int64_t time_ms) {
  const std::time_t seconds = time_ms / 1000;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  return text;
}

// What "apply" and "diff" show.
void say_plan(Call& call, const model::Changes& changes) {
  call.data = Json{{"changes", Json::array()}};
  for (const model::Change& change : changes) {
    call.say(model::describe(change));
    call.data["changes"].push_back(model::describe(change));
  }
  if (changes.empty()) call.say("There is no difference.");
}

}  // namespace

Outcome save_configuration(Call& call, const std::string& path, bool told) {
  targetd::SaveOptions options;
  options.path = path;
  options.overwrite_with_nothing = told;
  options.max_backups = std::max<std::size_t>(call.session.number("max_backup_files"), 1);
  if (call.session.dry_run) {
    call.say("Would write " + (path.empty() ? call.administration.default_save_path() : path));
    return {};
  }
  const auto saved = call.administration.save(options);
  if (!saved) return refuse(saved.error());
  if (saved->backed_up) {
    call.say(
        fmt::format("Last {} configs saved in {}/.", options.max_backups, folder_of(saved->backup_path)));
  }
  call.say("Configuration saved to " + saved->path);
  call.data = Json{{"path", saved->path}, {"backed_up", saved->backed_up}};
  return {};
}

Outcome run_saveconfig(Call& call) {
  const std::string* const path = call.arguments.find("savefile");
  return save_configuration(call, path == nullptr || path->empty() ? std::string() : file_path(call, *path),
                            true);
}

Outcome run_restoreconfig(Call& call) {
  const auto clear = call.boolean("clear_existing", false);
  if (!clear) return tl::unexpected<Refusal>(clear.error());
  const std::string* const word = call.arguments.find("savefile");
  const std::string path =
      word == nullptr || word->empty() ? call.administration.default_save_path() : file_path(call, *word);
  if (call.administration.probe(path).kind == targetd::FileProbe::Kind::none) {
    return refuse("Restore file " + path + " not found");
  }
  const auto loaded = load(call, path);
  if (!loaded) return tl::unexpected<Refusal>(loaded.error());
  const Wanted wanted{call.arguments.find("target"), call.arguments.find("storage_object")};
  const auto changes = Restore(call.configuration(), loaded->configuration, wanted).run(*clear);
  if (!changes) return tl::unexpected<Refusal>(changes.error());
  say_warnings(call, *loaded);
  return call.commit_and_say(*changes, {"Configuration restored from " + path});
}

Outcome run_clearconfig(Call& call) {
  const auto confirm = call.boolean("confirm", false);
  if (!confirm || !*confirm) return refuse("As a precaution, confirm=True needs to be set");
  return call.commit_and_say(model::diff(call.configuration(), {}), {"All configuration cleared"});
}

Outcome run_sessions(Call& call) {
  const std::string* const action = call.arguments.find("action");
  if (action != nullptr && *action != "list" && *action != "detail") {
    return refuse("There is no action '" + *action + "'; use list or detail");
  }
  const bool detail = action != nullptr && *action == "detail";
  const std::string* const sid = call.arguments.find("sid");
  const auto sessions = call.administration.sessions();
  if (!sessions) return refuse(sessions.error());
  call.data = Json::array();
  for (const targetd::SessionInfo& session : *sessions) {
    if (sid != nullptr && std::to_string(session.tsih) != *sid) continue;
    say_session(call, session, detail);
    call.data.push_back(session_to_json(session));
  }
  if (!call.data.empty()) return {};
  if (sid != nullptr) return refuse("no session found with sid " + *sid, "`sessions` lists them");
  call.say("(no open sessions)");
  return {};
}

Outcome run_version(Call& call) {
  const bool fabric = call.node.kind != NodeKind::root;
  call.say((fabric ? "Fabric module version " : "targetcli version ") + call.administration.version());
  call.data = Json{{"version", call.administration.version()}};
  return {};
}

Outcome run_diff(Call& call) {
  const auto loaded = load(call, file_path(call, call.arguments.at("file")));
  if (!loaded) return tl::unexpected<Refusal>(loaded.error());
  say_warnings(call, *loaded);
  say_plan(call, model::diff(call.configuration(), loaded->configuration));
  return {};
}

Outcome run_apply(Call& call) {
  const std::string path = file_path(call, call.arguments.at("file"));
  const auto loaded = load(call, path);
  if (!loaded) return tl::unexpected<Refusal>(loaded.error());
  const model::Changes changes = model::diff(call.configuration(), loaded->configuration);
  if (call.session.dry_run) return call.commit_and_say(changes, {});
  say_warnings(call, *loaded);
  say_plan(call, changes);
  return changes.empty() ? Outcome{} : call.commit_and_say(changes, {"Applied " + path + "."});
}

Outcome run_undo(Call& call) {
  const auto history = call.administration.history();
  if (history.empty())
    return refuse("There is nothing to undo: nothing was changed since the daemon was started");
  const targetd::PastTransaction& last = history.back();
  return call.commit_and_say(last.inverses, {fmt::format("Undid change {} ({})", last.sequence, last.who)});
}

Outcome run_history(Call& call) {
  call.data = Json::array();
  for (const targetd::PastTransaction& past : call.administration.history()) {
    call.say(fmt::format("{}  {}  {}", past.sequence, time_text(past.time_ms), past.who));
    call.data.push_back({{"sequence", past.sequence},
                         {"time_ms", past.time_ms},
                         {"who", past.who},
                         {"changes", past.changes.size()}});
  }
  if (call.data.empty()) call.say("Nothing was changed since the daemon was started.");
  return {};
}

}  // namespace perilune::cli::targetcli
