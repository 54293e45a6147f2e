// SPDX-License-Identifier: Apache-2.0
#include "cli/tgt/view.hpp"

#include <algorithm>
#include <charconv>
#include <set>

#include "config/target/json_text.hpp"
#include "config/target/plan.hpp"

namespace perilune::cli::tgt {
namespace {

constexpr const char* tid_pointer = "/tgt_tid";
const model::ForeignKey accounts_key{"document", "tgt_accounts"};
constexpr std::uint16_t default_port = 3260;

}  // namespace

std::optional<std::uint32_t> wanted_tid(const model::Target& target) {
  const auto at = target.unknown.find(tid_pointer);
  if (at == target.unknown.end()) return std::nullopt;
  std::uint32_t tid = 0;
  const auto end = at->second.data() + at->second.size();
  const auto [stop, error] = std::from_chars(at->second.data(), end, tid);
  return error == std::errc{} && stop == end && tid != 0 ? std::optional(tid) : std::nullopt;
}

bool is_tgts(const model::Target& target) { return wanted_tid(target).has_value(); }

model::Target target_with_tid(std::uint32_t tid) {
  model::Target target;
  target.unknown.emplace(tid_pointer, std::to_string(tid));
  return target;
}

Tids tids_of(const model::Configuration& configuration) {
  Tids tids;
  std::vector<model::TargetKey> others;
  for (const auto& [key, target] : configuration.all<model::Target>()) {
    const auto tid = wanted_tid(target);
    if (!tid || !tids.emplace(*tid, key).second) others.push_back(key);
  }
  for (const model::TargetKey& key : others) tids.emplace(lowest_free_tid(tids), key);
  return tids;
}

std::uint32_t lowest_free_tid(const Tids& tids) {
  std::uint32_t tid = 1;
  for (const auto& [taken, key] : tids) {
    if (taken != tid) break;
    ++tid;
  }
  return tid;
}

std::optional<model::PortalGroupKey> group_of(const model::Configuration& configuration,
                                              const model::TargetKey& target) {
  const auto groups = configuration.below<model::PortalGroup>(target);
  if (groups.begin() == groups.end()) return std::nullopt;
  return groups.begin()->first;
}

std::vector<Endpoint> portals_of(const model::Configuration& configuration) {
  std::set<Endpoint> portals;
  for (const auto& [key, target] : configuration.all<model::Target>()) {
    const auto group = group_of(configuration, key);
    if (!group || !is_tgts(target)) continue;
    for (const auto& [portal, value] : configuration.below<model::Portal>(*group))
      portals.emplace(portal.address, portal.port);
  }
  return {portals.begin(), portals.end()};
}

model::Changes new_target(const model::Configuration& configuration, const model::TargetKey& key,
                          std::uint32_t tid) {
  const model::PortalGroupKey group_key{key, 1};
  model::PortalGroup group;
  (void)group.attributes.set(model::group_attributes(), "authentication", "0");
  (void)group.attributes.set(model::group_attributes(), "demo_mode_write_protect", "0");
  model::Changes changes{model::add<model::Target>(key, target_with_tid(tid)),
                         model::add<model::PortalGroup>(group_key, std::move(group))};
  std::vector<Endpoint> portals = portals_of(configuration);
  if (portals.empty()) portals.emplace_back("0.0.0.0", default_port);
  for (const auto& [address, port] : portals)
    changes.push_back(model::add<model::Portal>({group_key, address, port}, {}));
  return changes;
}

model::Changes removal_with_objects(const model::Configuration& configuration, const model::TargetKey& key) {
  model::Changes changes = model::removal_of(configuration, key);
  std::set<model::StorageKey> objects;
  for (const auto& [group, value] : configuration.below<model::PortalGroup>(key)) {
    for (const auto& [lun, exported] : configuration.below<model::Lun>(group))
      objects.insert(exported.object);
  }
  for (const model::StorageKey& object : objects) {
    const auto luns = configuration.luns_of(object);
    const bool only_here = std::all_of(luns.begin(), luns.end(),
                                       [&](const model::LunKey& lun) { return lun.parent.parent == key; });
    if (!only_here) continue;
    for (const auto& [group, value] : configuration.below<model::AluaGroup>(object))
      changes.push_back(model::remove<model::AluaGroup>(group));
    changes.push_back(model::remove<model::StorageObject>(object));
  }
  return changes;
}

std::string name_for_path(std::string_view path) {
  while (path.starts_with('/')) path.remove_prefix(1);
  std::string name(path);
  std::replace(name.begin(), name.end(), '/', '-');
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
}

Accounts accounts_of(const model::Configuration& configuration) {
  Accounts accounts;
  if (const auto* const kept = configuration.find<model::Foreign>(accounts_key)) {
    const auto json = model::parse_json(kept->json);
    if (json && json->is_object()) {
      for (const auto& [user, secret] : json->items()) {
        if (secret.is_string()) accounts.emplace(user, model::Password(secret.get<std::string>()));
        if (secret.is_object() && secret.contains("from") && secret["from"].is_string())
          accounts.emplace(user, model::Password::typed(secret["from"].get_ref<const std::string&>()));
      }
    }
  }
  const auto take = [&accounts](const model::Chap& chap) {
    if (!chap.userid.empty()) accounts.emplace(chap.userid, chap.password);
    if (!chap.mutual_userid.empty()) accounts.emplace(chap.mutual_userid, chap.mutual_password);
  };
  for (const auto& [key, group] : configuration.all<model::PortalGroup>()) take(group.chap);
  if (const auto* const discovery = configuration.find<model::Discovery>({})) take(discovery->chap);
  return accounts;
}

model::Change keep_accounts(const model::Configuration& configuration, const Accounts& accounts) {
  model::Json json = model::Json::object();
  for (const auto& [user, secret] : accounts) {
    if (secret.reference().empty())
      json[user] = secret.reveal();
    else
      json[user] = {{"from", secret.reference()}};
  }
  model::Foreign value{model::write_json(json, -1)};
  return configuration.find<model::Foreign>(accounts_key) == nullptr
             ? model::add<model::Foreign>(accounts_key, std::move(value))
             : model::set<model::Foreign>(accounts_key, std::move(value));
}

}  // namespace perilune::cli::tgt
