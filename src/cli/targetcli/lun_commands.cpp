// SPDX-License-Identifier: Apache-2.0
// LUNs, node ACLs and what maps one to the other.
#include <algorithm>

#include <fmt/format.h>

#include "cli/targetcli/commands.hpp"
#include "config/target/codec.hpp"
#include "config/target/plan.hpp"

namespace perilune::cli::targetcli {
namespace {

constexpr std::size_t alias_digits = 10;

tl::expected<bool, Refusal> maps_luns(const Call& call) {
  return call.boolean("add_mapped_luns", call.session.flag("auto_add_mapped_luns"));
}

// The storage object that a word means: its path, or a file or device of which one is made.
tl::expected<model::StorageKey, Refusal> object_of(Call& call, const std::string& word,
                                                   model::Changes& changes, std::vector<std::string>& lines) {
  if (const auto key = model::parse_storage_path(word);
      key && call.configuration().find<model::StorageObject>(*key) != nullptr)
    return *key;
  const auto node = find_node(call.configuration(), absolute_path(call.node.path, word));
  if (node && node->kind == NodeKind::storage) return node->storage;
  return object_for_path(call, word, changes, lines);
}

model::Lun lun_of_object(Call& call, const model::StorageKey& object) {
  const bool has_groups = object.plugin != model::Plugin::pscsi;
  return {object,
          has_groups ? std::string(model::default_alua_group) : std::string(),
          call.chance.hex(alias_digits),
          {}};
}

// The number under which an ACL sees a LUN: the LUN's own, or the lowest that is free.
std::optional<std::uint16_t> number_in(const model::Configuration& configuration,
                                       const model::NodeAclKey& acl, std::uint16_t lun) {
  if (configuration.find<model::MappedLun>({acl, lun}) == nullptr) return lun;
  return model::lowest_free_lun(configuration, acl);
}

void map_in_all_acls(Call& call, const model::LunKey& lun, model::Changes& changes,
                     std::vector<std::string>& lines) {
  for (const auto& [acl, value] : call.configuration().below<model::NodeAcl>(lun.parent)) {
    const auto number = number_in(call.configuration(), acl, lun.index);
    if (!number) continue;
    changes.push_back(
        model::add<model::MappedLun>({acl, *number}, {lun.index, false, call.chance.hex(alias_digits), {}}));
    lines.push_back(
        fmt::format("Created LUN {}->{} mapping in node ACL {}", lun.index, *number, acl.initiator));
  }
}

tl::expected<std::uint16_t, Refusal> new_lun_number(const Call& call) {
  const std::string* const text = call.arguments.find("lun");
  if (text == nullptr) {
    if (const auto free = model::lowest_free_lun(call.configuration(), call.node.group)) return *free;
    return refuse(call.node.path + " has all the LUNs that there can be; delete one first");
  }
  const auto number = parse_index(*text, "lun");
  if (!number || *number > model::max_lun)
    return refuse("Invalid LUN", fmt::format("'{}'; give a number from 0 to {}", *text, model::max_lun));
  return *number;
}

// ---- ACLs

tl::expected<std::vector<model::NodeAclKey>, Refusal> acls_named(const Call& call, const std::string& word) {
  const auto node = find_node(call.configuration(), call.node.path + "/" + word);
  if (node && node->kind == NodeKind::acl) return node->acls;
  // An initiator that stands under a tag.
  const auto name = node_name(word);
  if (!name) return tl::unexpected<Refusal>(name.error());
  const model::NodeAclKey key{call.node.group, *name};
  if (call.configuration().find<model::NodeAcl>(key) != nullptr) return std::vector{key};
  return refuse(fmt::format("No such NodeACL in configfs: /sys/kernel/config/target/iscsi/{}/tpgt_{}/acls/{}",
                            call.node.group.parent.wwn, call.node.group.tag, *name),
                "`ls " + call.node.path + " 1` lists them");
}

Outcome set_tag(Call& call, const std::string& word, const std::string& tag) {
  const auto acls = acls_named(call, word);
  if (!acls) return tl::unexpected<Refusal>(acls.error());
  if (tag.find('/') != std::string::npos) return refuse("A tag must not have a '/': " + tag);
  if (!tag.empty() && call.configuration().find<model::NodeAcl>({call.node.group, tag}) != nullptr) {
    return refuse("There is a node ACL " + tag + "; a tag must have another name");
  }
  model::Changes changes;
  for (const model::NodeAclKey& key : *acls) {
    model::NodeAcl acl = *call.configuration().find<model::NodeAcl>(key);
    acl.tag = tag;
    changes.push_back(model::set<model::NodeAcl>(key, std::move(acl)));
  }
  return call.commit_and_say(changes, {});
}

tl::expected<std::uint16_t, Refusal> mapped_number(const std::string& text) {
  const auto number = parse_index(text, "mapped_lun");
  if (number && *number <= model::max_lun) return *number;
  return refuse("Invalid LUN", fmt::format("'{}'; give a number from 0 to {}", text, model::max_lun));
}

// The LUN of the portal group that a word means, made where it is not there yet.
tl::expected<std::uint16_t, Refusal> lun_for(Call& call, const std::string& word, model::Changes& changes,
                                             std::vector<std::string>& lines) {
  if (const auto number = parse_index(word, "lun")) {
    if (call.configuration().find<model::Lun>({call.node.group, *number}) != nullptr) return *number;
    return refuse("Invalid LUN",
                  fmt::format("there is no {}", model::path_of(model::LunKey{call.node.group, *number})));
  }
  const auto object = object_of(call, word, changes, lines);
  if (!object) return tl::unexpected<Refusal>(object.error());
  if (const auto lun = call.configuration().lun_of(call.node.group, *object)) return lun->index;
  const auto free = model::lowest_free_lun(call.configuration(), call.node.group);
  if (!free)
    return refuse(call.node.path + ": the portal group has all the LUNs that there can be; delete one first");
  changes.push_back(model::add<model::Lun>({call.node.group, *free}, lun_of_object(call, *object)));
  lines.push_back(fmt::format("Created LUN {}.", *free));
  return *free;
}

Outcome delete_mapped(Call& call, const std::string& text) {
  const auto number = mapped_number(text);
  if (!number) return tl::unexpected<Refusal>(number.error());
  model::Changes changes;
  for (const model::NodeAclKey& acl : call.node.acls) {
    if (call.configuration().find<model::MappedLun>({acl, *number}) != nullptr) {
      changes.push_back(model::remove<model::MappedLun>({acl, *number}));
    }
  }
  if (changes.empty())
    return refuse("Invalid LUN", fmt::format("{} has no mapped_lun{}", call.node.path, *number));
  return call.commit_and_say(changes, {fmt::format("Deleted Mapped LUN {}.", *number)});
}

}  // namespace

Outcome run_luns_create(Call& call) {
  const auto maps = maps_luns(call);
  if (!maps) return tl::unexpected<Refusal>(maps.error());
  model::Changes changes;
  std::vector<std::string> lines;
  const auto object = object_of(call, call.arguments.at("storage_object"), changes, lines);
  if (!object) return tl::unexpected<Refusal>(object.error());
  if (const auto lun = call.configuration().lun_of(call.node.group, *object)) {
    return refuse(fmt::format("lun for storage object {}/{} already exists", model::to_string(object->plugin),
                              object->name),
                  model::path_of(*lun));
  }
  const auto number = new_lun_number(call);
  if (!number) return tl::unexpected<Refusal>(number.error());
  const model::LunKey key{call.node.group, *number};
  if (call.configuration().find<model::Lun>(key) != nullptr)
    return refuse("This LUN already exists in configFS", model::path_of(key));
  changes.push_back(model::add<model::Lun>(key, lun_of_object(call, *object)));
  lines.push_back(fmt::format("Created LUN {}.", *number));
  if (*maps) map_in_all_acls(call, key, changes, lines);
  auto done = call.commit_and_say(changes, lines);
  if (done) call.enter(model::path_of(key));
  return done;
}

Outcome run_luns_delete(Call& call) {
  const std::string& text = call.arguments.at("lun");
  const auto number = parse_index(text, "lun");
  const model::LunKey key{call.node.group, number.value_or(0)};
  if (!number || call.configuration().find<model::Lun>(key) == nullptr) {
    return refuse("Invalid LUN", fmt::format("{} has no '{}'", call.node.path, text));
  }
  return call.commit_and_say(model::removal_of(call.configuration(), key),
                             {fmt::format("Deleted LUN {}.", *number)});
}

Outcome run_lun_info(Call& call) {
  const model::Lun& lun = *call.configuration().find<model::Lun>({call.node.group, call.node.index});
  call.say("alias: " + lun.alias);
  if (!lun.alua_group.empty()) call.say("alua_tg_pt_gp_name: " + lun.alua_group);
  call.say(fmt::format("index: {}", call.node.index));
  call.say("storage_object: " + model::path_of(lun.object));
  call.data = Json{{"alias", lun.alias},
                   {"alua_tg_pt_gp_name", lun.alua_group},
                   {"index", call.node.index},
                   {"storage_object", model::path_of(lun.object)}};
  return {};
}

Outcome run_acls_create(Call& call) {
  const auto maps = maps_luns(call);
  if (!maps) return tl::unexpected<Refusal>(maps.error());
  const auto name = node_name(call.arguments.at("wwn"));
  if (!name) return tl::unexpected<Refusal>(name.error());
  const model::NodeAclKey key{call.node.group, *name};
  if (call.configuration().find<model::NodeAcl>(key) != nullptr) {
    return refuse("This NodeACL already exists in configFS", model::path_of(key));
  }
  model::Changes changes{model::add<model::NodeAcl>(key, {})};
  std::vector<std::string> lines;
  for (const auto& [lun, value] : call.configuration().below<model::Lun>(call.node.group)) {
    if (!*maps) break;
    changes.push_back(model::add<model::MappedLun>({key, lun.index},
                                                   {lun.index, false, call.chance.hex(alias_digits), {}}));
    lines.push_back(fmt::format("Created mapped LUN {}.", lun.index));
  }
  // The original tells of the last one first.
  lines.push_back("Created Node ACL for " + *name);
  std::reverse(lines.begin(), lines.end());
  auto done = call.commit_and_say(changes, lines);
  if (done) call.enter(model::path_of(key));
  return done;
}

Outcome run_acls_delete(Call& call) {
  const std::string& word = call.arguments.at("wwn");
  const auto acls = acls_named(call, word);
  if (!acls) return tl::unexpected<Refusal>(acls.error());
  model::Changes changes;
  for (const model::NodeAclKey& key : *acls) {
    for (model::Change& change : model::removal_of(call.configuration(), key))
      changes.push_back(std::move(change));
  }
  return call.commit_and_say(changes, {"Deleted Node ACL " + word + "."});
}

Outcome run_acls_tag(Call& call) {
  const std::string& tag = call.arguments.at("new_tag");
  if (tag.empty()) return refuse("The new tag is empty; `untag` takes a tag away");
  return set_tag(call, call.arguments.at("wwn_or_tag"), tag);
}
Outcome run_acls_untag(Call& call) { return set_tag(call, call.arguments.at("wwn_or_tag"), ""); }

Outcome run_acl_create(Call& call) {
  const auto protect = call.boolean("write_protect", false);
  if (!protect) return tl::unexpected<Refusal>(protect.error());
  const auto number = mapped_number(call.arguments.at("mapped_lun"));
  if (!number) return tl::unexpected<Refusal>(number.error());
  model::Changes changes;
  std::vector<std::string> lines;
  const auto lun = lun_for(call, call.arguments.at("tpg_lun_or_backstore"), changes, lines);
  if (!lun) return tl::unexpected<Refusal>(lun.error());
  for (const model::NodeAclKey& acl : call.node.acls) {
    if (call.configuration().find<model::MappedLun>({acl, *number}) != nullptr) {
      return refuse("This MappedLUN already exists in configFS",
                    model::path_of(model::MappedLunKey{acl, *number}));
    }
    changes.push_back(
        model::add<model::MappedLun>({acl, *number}, {*lun, *protect, call.chance.hex(alias_digits), {}}));
  }
  lines.push_back(fmt::format("Created Mapped LUN {}.", *number));
  auto done = call.commit_and_say(changes, lines);
  if (done) call.enter(call.node.path + "/mapped_lun" + std::to_string(*number));
  return done;
}

Outcome run_acl_delete(Call& call) { return delete_mapped(call, call.arguments.at("mapped_lun")); }

Outcome run_acl_info(Call& call) {
  const model::Chap& chap = call.configuration().find<model::NodeAcl>(call.node.acls.front())->chap;
  const auto row = [&](std::string_view name, std::string_view value) {
    if (value.empty()) return;
    call.say(fmt::format("{}: {}", name, value));
    call.data[std::string(name)] = value;
  };
  row("chap_mutual_password", shown(chap.mutual_password));
  row("chap_mutual_userid", chap.mutual_userid);
  row("chap_password", shown(chap.password));
  row("chap_userid", chap.userid);
  call.say("wwns:");
  call.data["wwns"] = Json::array();
  for (const model::NodeAclKey& acl : call.node.acls) {
    call.say(acl.initiator);
    call.data["wwns"].push_back(acl.initiator);
  }
  return {};
}

Outcome run_mapped_lun_info(Call& call) {
  const model::MappedLun& mapped =
      *call.configuration().find<model::MappedLun>({call.node.acls.front(), call.node.index});
  call.say("alias: " + mapped.alias);
  call.say(fmt::format("index: {}", call.node.index));
  call.say(fmt::format("tpg_lun: {}", mapped.tpg_lun));
  call.say(fmt::format("write_protect: {}", mapped.write_protect ? "True" : "False"));
  call.data = Json{{"alias", mapped.alias},
                   {"index", call.node.index},
                   {"tpg_lun", mapped.tpg_lun},
                   {"write_protect", mapped.write_protect}};
  return {};
}

}  // namespace perilune::cli::targetcli
