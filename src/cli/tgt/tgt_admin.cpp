// SPDX-License-Identifier: Apache-2.0
// tgt-admin's and tgt-setup-lun's part inside the daemon: several steps of tgtadm as one transaction.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "cli/tgt/tgtadm.hpp"
#include "config/target/plan.hpp"
#include "config/target/saveconfig.hpp"
#include "config/target/targets_conf.hpp"
#include "iscsi/names/names.hpp"

namespace perilune::cli::tgt {
namespace {

// What a selector means: ALL, tid=N, N, or a name.
struct Selector {
  std::string text;
  [[nodiscard]] bool matches(std::uint32_t tid, const model::TargetKey& key) const {
    return text == "ALL" || text == key.wwn || text == std::to_string(tid) ||
           text == "tid=" + std::to_string(tid);
  }
};

class Admin {
 public:
  Admin(const targetd::FrontEndRequest& request, targetd::Administration& administration)
      : request_(request), administration_(administration) {
    const auto& words = request.arguments;
    action_ = words.empty() ? "" : words[0];
    selector_.text = words.size() < 2 ? "ALL" : words[1];
    for (std::size_t i = 2; i < words.size(); ++i) flags_.insert(words[i]);
  }

  Outcome run() {
    if (action_ == "execute" || action_ == "update") return load();
    if (action_ == "delete") return remove();
    if (action_ == "offline" || action_ == "ready") return set_state(action_ == "ready");
    if (action_ != "dump")
      return refuse("the daemon does not know this request; client and daemon are of different versions");
    out = dump(configuration());
    return {};
  }

  std::string out;

 private:
  [[nodiscard]] const model::Configuration& configuration() const { return administration_.configuration(); }
  [[nodiscard]] bool has(const char* flag) const { return flags_.contains(flag); }

  Outcome commit(const model::Changes& changes) {
    if (has("pretend")) {
      for (const model::Change& change : changes) out += model::describe(change) + "\n";
      return {};
    }
    const auto done = administration_.commit(request_.who + ": tgt-admin --" + action_, changes);
    if (!done) return refuse(done.error());
    return {};
  }

  bool in_use(const model::TargetKey& key) const {
    for (const auto& [group, value] : configuration().below<model::PortalGroup>(key)) {
      const auto sessions = administration_.sessions_of(group);
      if (sessions && !sessions->empty()) return true;
    }
    return false;
  }

  // ---- targets.conf

  Outcome load() {
    auto file = model::read_saveconfig(request_.input.value_or(""));
    if (!file) return refuse(file.error());
    wanted_ = configuration();
    const Tids tids = tids_of(configuration());
    if (!selects(tids, file->configuration)) return no_target();
    for (const auto& [tid, key] : tids) {
      const bool there = file->configuration.find<model::Target>(key) != nullptr;
      if (auto step = there ? replace(tid, key) : drop(tid, key); !step) return step;
    }
    for (const auto& [key, target] : file->configuration.all<model::Target>()) {
      const bool selected = action_ == "execute" || selector_.matches(0, key);
      if (!selected || wanted_.find<model::Target>(key) != nullptr) continue;
      if (auto step = add(file->configuration, key); !step) return step;
    }
    if (auto step = take_discovery(file->configuration); !step) return step;
    return commit(model::diff(configuration(), wanted_));
  }

  // The accounts of discovery, where the file has some; what it does not speak of stays.
  Outcome take_discovery(const model::Configuration& file) {
    const auto* const wanted = file.find<model::Discovery>({});
    if (wanted == nullptr || selector_.text != "ALL") return {};
    const auto* const there = wanted_.find<model::Discovery>({});
    if (there != nullptr && there->enable == wanted->enable && there->chap == wanted->chap) return {};
    model::Discovery value = there == nullptr ? model::Discovery{} : *there;
    value.enable = wanted->enable;
    value.chap = wanted->chap;
    return apply({there == nullptr ? model::add<model::Discovery>({}, std::move(value))
                                   : model::set<model::Discovery>({}, std::move(value))});
  }

  // The selector means something that is there, or that the file has.
  bool selects(const Tids& tids, const model::Configuration& file) const {
    if (selector_.text == "ALL") return true;
    const bool there = std::any_of(tids.begin(), tids.end(), [this](const auto& each) {
      return selector_.matches(each.first, each.second);
    });
    return there || file.find<model::Target>({selector_.text}) != nullptr;
  }

  // What is there already: `execute` leaves it alone, `update` makes it anew (and what is the same stays
  // undisturbed).
  Outcome replace(std::uint32_t tid, const model::TargetKey& key) {
    if (action_ == "execute" || !selector_.matches(tid, key)) return {};
    if (in_use(key) && !has("force")) {
      out += "# Target " + key.wwn +
             " is in use - not updating it.\n# You can force this operation using '-f' flag.\n";
      return {};
    }
    tids_[key] = tid;
    return apply(removal_with_objects(wanted_, key));
  }

  // A target of tgt's that the file does not have (any more).
  Outcome drop(std::uint32_t tid, const model::TargetKey& key) {
    if (!is_tgts(*configuration().find<model::Target>(key)) || !selector_.matches(tid, key)) return {};
    if (!in_use(key) || has("force")) return apply(removal_with_objects(wanted_, key));
    out += "# Target " + key.wwn + " is in use - it is not removed.\n";
    return {};
  }

  Outcome apply(const model::Changes& changes) {
    const auto applied = model::apply_all(wanted_, changes);
    if (!applied) return refuse(applied.error());
    return {};
  }

  // The target, all below it and the storage objects that it exports, from the file.
  Outcome add(const model::Configuration& file, const model::TargetKey& key) {
    std::set<model::StorageKey> objects;
    for (const auto& [group, value] : file.below<model::PortalGroup>(key)) {
      for (const auto& [lun, exported] : file.below<model::Lun>(group)) objects.insert(exported.object);
    }
    model::Changes changes;
    for (const model::Change& change : model::diff({}, file)) {
      if (std::visit([&](const auto& step) { return belongs(step.key, key, objects); }, change))
        changes.push_back(change);
    }
    for (model::Change& change : changes) {
      if (auto* const target = std::get_if<model::ChangeOf<model::Target>>(&change)) give_tid(*target);
    }
    return apply(changes);
  }

  template <class Key>
  static bool belongs(const Key& key, const model::TargetKey& target,
                      const std::set<model::StorageKey>& objects) {
    if constexpr (std::is_same_v<Key, model::StorageKey>)
      return objects.contains(key);
    else if constexpr (std::is_same_v<Key, model::AluaGroupKey>)
      return objects.contains(key.parent);
    else if constexpr (std::is_same_v<Key, model::TargetKey>)
      return key == target;
    else if constexpr (std::is_same_v<Key, model::PortalGroupKey>)
      return key.parent == target;
    else if constexpr (std::is_same_v<Key, model::MappedLunKey>)
      return key.parent.parent.parent == target;
    else if constexpr (requires { key.parent.parent; })
      return key.parent.parent == target;
    else
      return false;
  }

  void give_tid(model::ChangeOf<model::Target>& change) {
    const Tids taken = tids_of(wanted_);
    const auto before = tids_.find(change.key);
    const auto asked = wanted_tid(change.value);
    const std::uint32_t tid = before != tids_.end()              ? before->second
                              : asked && !taken.contains(*asked) ? *asked
                                                                 : lowest_free_tid(taken);
    change.value.unknown = target_with_tid(tid).unknown;
  }

  // ---- delete, offline, ready

  tl::unexpected<Failure> no_target() const {
    return refuse("can't find the target",
                  "no target is " + selector_.text + "; `tgt-admin --show` lists them");
  }

  Outcome remove() {
    model::Configuration left = configuration();
    for (const auto& [tid, key] : tids_of(configuration())) {
      const bool own = selector_.text != "ALL" || is_tgts(*configuration().find<model::Target>(key));
      if (!own || !selector_.matches(tid, key)) continue;
      if (in_use(key) && !has("force"))
        return refuse("this target is still active", key.wwn + " is in use; --force removes it all the same");
      const auto applied = model::apply_all(left, removal_with_objects(left, key));
      if (!applied) return refuse(applied.error());
    }
    if (left == configuration() && selector_.text != "ALL") return no_target();
    return commit(model::diff(configuration(), left));
  }

  Outcome set_state(bool ready) {
    model::Changes changes;
    for (const auto& [tid, key] : tids_of(configuration())) {
      const auto group = group_of(configuration(), key);
      if (!selector_.matches(tid, key) || !group) continue;
      model::PortalGroup value = *configuration().find<model::PortalGroup>(*group);
      value.enable = ready;
      changes.push_back(model::set<model::PortalGroup>(*group, std::move(value)));
    }
    if (changes.empty() && selector_.text != "ALL") return no_target();
    return commit(changes);
  }

  const targetd::FrontEndRequest& request_;
  targetd::Administration& administration_;
  std::string action_;
  Selector selector_;
  std::set<std::string> flags_;
  model::Configuration wanted_;
  std::map<model::TargetKey, std::uint32_t> tids_;  // of the targets that are made anew
};

// ---- tgt-setup-lun

class SetupLun {
 public:
  SetupLun(const targetd::FrontEndRequest& request, targetd::Administration& administration)
      : request_(request), administration_(administration) {}

  Outcome run() {
    if (auto parsed = parse(); !parsed) return parsed;
    out = "Using transport: iscsi\n";
    const auto host = options_.find('H');
    const std::string text =
        "iqn.2001-04.com." + (host == options_.end() ? "localhost" : host->second) + "-" + options_['n'];
    const auto name = iscsi::normalize_name(text);
    if (!name) return wrong(name.error().message);
    const model::TargetKey key{*name};
    if (administration_.configuration().find<model::Target>(key) != nullptr)
      return wrong("target named " + *name + " already exists");
    const std::uint32_t tid = lowest_free_tid(tids_of(administration_.configuration()));
    out += fmt::format("Creating new target (name={}, tid={})\n", *name, tid);
    model::Changes changes = new_target(administration_.configuration(), key, tid);
    if (auto unit = add_unit({{key, 1}, 1}, tid, changes); !unit) return unit;
    if (auto bound = bind({key, 1}, changes); !bound) return bound;
    const auto done = administration_.commit(request_.who + ": tgt-setup-lun " + *name, changes);
    if (!done) return wrong(done.error().message);
    return {};
  }

  std::string out;

 private:
  static Outcome wrong(std::string message) {
    return tl::unexpected<Failure>(Failure{std::move(message), "", 1});
  }

  Outcome parse() {
    const auto& words = request_.arguments;
    for (std::size_t i = 0; i < words.size(); ++i) {
      const std::string& word = words[i];
      if (word.size() < 2 || word[0] != '-') {
        initiators_.push_back(word);
        continue;
      }
      if (std::string_view("dnbBtCH").find(word[1]) == std::string_view::npos)
        return wrong("there is no option " + word + "; `tgt-setup-lun -h` lists them");
      if (word.size() == 2 && i + 1 == words.size()) return wrong("option " + word + " requires an argument");
      options_[word[1]] = word.size() > 2 ? word.substr(2) : words[++i];
    }
    if (options_['d'].empty()) return wrong("a device is mandatory");
    if (options_['n'].empty()) return wrong("target name is mandatory");
    if (!options_['t'].empty() && options_['t'] != "iscsi")
      return wrong("there is no transport " + options_['t'] + "; iscsi is");
    return {};
  }

  Outcome add_unit(const model::LunKey& key, std::uint32_t tid, model::Changes& changes) {
    const std::string& path = options_['d'];
    out += fmt::format("Adding a logical unit ({}) to target, tid={}\n", path, tid);
    if (!options_['b'].empty()) out += "Setting backing store type: " + options_['b'] + "\n";
    const auto serial = config::target::serial_for_path(path);
    if (!serial) return wrong(serial.error().message);
    const auto unit =
        changes_for_unit(administration_, key, {path, options_['b'], "", "", options_['B']}, *serial);
    if (!unit) {
      return wrong(fmt::format("failed to add a logical unit ({}) to target, tid={}: {}", path, tid,
                               unit.error().hint.empty() ? unit.error().message : unit.error().hint));
    }
    changes.insert(changes.end(), unit->begin(), unit->end());
    return {};
  }

  void admit_from(const std::string& network, model::Changes& changes) {
    const bool names = std::any_of(initiators_.begin(), initiators_.end(), [](const std::string& text) {
      return iscsi::normalize_name(text).has_value();
    });
    for (model::Change& change : changes) {
      auto* const made = std::get_if<model::ChangeOf<model::PortalGroup>>(&change);
      if (made == nullptr) continue;
      made->value.initiator_addresses.push_back(network);
      (void)made->value.attributes.set(model::group_attributes(), "generate_node_acls", names ? "0" : "1");
    }
  }

  // Initiators by their names, or by addresses and networks.
  Outcome bind(const model::PortalGroupKey& group, model::Changes& changes) {
    const bool all =
        initiators_.empty() || std::find(initiators_.begin(), initiators_.end(), "ALL") != initiators_.end();
    if (all) {
      for (model::Change& change : changes) {
        auto* const made = std::get_if<model::ChangeOf<model::PortalGroup>>(&change);
        if (made != nullptr)
          (void)made->value.attributes.set(model::group_attributes(), "generate_node_acls", "1");
      }
      out += initiators_.empty() ? "Accepting connections from all initiators\n"
                                 : "Accepting connections from ALL\n";
      return {};
    }
    std::string accepted = "Accepting connections from";
    for (const std::string& text : initiators_) {
      if (const auto network = model::normal_network(text)) {
        admit_from(*network, changes);
        accepted += " " + *network;
        continue;
      }
      const auto name = iscsi::normalize_name(text);
      if (!name)
        return wrong("could not assign initiator " + text +
                     " to the target: it is neither an address nor the name of an initiator");
      changes.push_back(model::add<model::NodeAcl>({group, *name}, {}));
      changes.push_back(model::add<model::MappedLun>({{group, *name}, 1}, {1, false, "", {}}));
      accepted += " " + *name;
    }
    out += accepted + "\n";
    return {};
  }

  const targetd::FrontEndRequest& request_;
  targetd::Administration& administration_;
  std::map<char, std::string> options_;
  std::vector<std::string> initiators_;
};

targetd::FrontEndAnswer answer_with(const Outcome& outcome, std::string out, std::string_view before) {
  targetd::FrontEndAnswer answer;
  answer.out = std::move(out);
  if (outcome) return answer;
  const Failure& failure = outcome.error();
  answer.exit_code = failure.exit_code;
  answer.err = fmt::format("{}: {}{}\n", before, failure.message,
                           failure.hint.empty() ? "" : " (" + failure.hint + ")");
  return answer;
}

}  // namespace

targetd::FrontEndAnswer answer_tgt_admin(const targetd::FrontEndRequest& request,
                                         targetd::Administration& administration) {
  Admin admin(request, administration);
  const Outcome outcome = admin.run();
  return answer_with(outcome, std::move(admin.out), "tgt-admin");
}

targetd::FrontEndAnswer answer_tgt_setup_lun(const targetd::FrontEndRequest& request,
                                             targetd::Administration& administration) {
  SetupLun setup(request, administration);
  const Outcome outcome = setup.run();
  return answer_with(outcome, std::move(setup.out), "Error");
}

}  // namespace perilune::cli::tgt
