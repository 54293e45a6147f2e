// SPDX-License-Identifier: Apache-2.0
// Targets, portal groups, portals.
#include <fmt/format.h>

#include "cli/targetcli/commands.hpp"
#include "config/target/plan.hpp"

namespace perilune::cli::targetcli {
namespace {

constexpr std::string_view any_address = "0.0.0.0";
constexpr std::uint16_t default_port = 3260;

// A name as LIO would take it. It mends the first digit of a name of type naa with 64 bits, which must be 5,
// and refuses what names must not hold (RFC 7143 4.2.7.2 has no '_').
tl::expected<std::string, Refusal> new_target_name(const std::string& text) {
  auto name = node_name(text);
  if (!name) return name;
  if (name->find('_') != std::string::npos) {
    return refuse("WWN not valid as: iqn, naa, eui", text + " has a '_', which iSCSI names must not have");
  }
  constexpr std::size_t naa_of_64_bits = 20;
  if (name->starts_with("naa.") && name->size() == naa_of_64_bits) (*name)[4] = '5';
  return name;
}

std::string made_target_name(Call& call) {
  std::string host;
  for (const char c : call.chance.host_name()) {
    if (c >= 'A' && c <= 'Z') host += static_cast<char>(c | 0x20);
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-') host += c;
  }
  return "iqn.2026-11.io.perilune:" + (host.empty() ? "target" : host) + ":sn." + call.chance.hex(12);
}

// A portal group as targetcli makes it: without authentication, where the kernel's default is with.
void add_group(Call& call, const model::PortalGroupKey& key, model::Changes& changes,
               std::vector<std::string>& lines) {
  model::PortalGroup group;
  group.enable = call.session.flag("auto_enable_tpgt");
  (void)group.attributes.set(model::group_attributes(), "authentication", "0");
  changes.push_back(model::add<model::PortalGroup>(key, std::move(group)));
  lines.push_back(fmt::format("Created TPG {}.", key.tag));
  if (!call.session.flag("auto_add_default_portal")) return;
  const bool first = !call.configuration().any_below<model::PortalGroup>(key.parent);
  if (!first) {
    lines.push_back("Default portal not created, TPGs within a target cannot share ip:port.");
    return;
  }
  changes.push_back(model::add<model::Portal>({key, std::string(any_address), default_port}, {}));
  lines.push_back("Global pref auto_add_default_portal=true");
  lines.push_back("Created default portal listening on all IPs (0.0.0.0), port 3260.");
}

std::string lowest_tag(const model::Configuration& configuration, const model::TargetKey& target) {
  unsigned tag = 1;
  for (const auto& [key, value] : configuration.below<model::PortalGroup>(target)) {
    if (key.tag != tag) break;
    ++tag;
  }
  return std::to_string(tag);
}

tl::expected<std::uint16_t, Refusal> tag_of(const std::string& text) {
  const auto tag = parse_index(text, "tpg");
  if (tag && *tag != 0) return *tag;
  return refuse("'" + text + "' is no tag of a portal group; give a number from 1 to 65535");
}

Outcome set_enabled(Call& call, bool enable) {
  model::PortalGroup group = *call.configuration().find<model::PortalGroup>(call.node.group);
  const std::string_view word = enable ? "enabled" : "disabled";
  if (group.enable == enable) {
    call.say(fmt::format("The TPGT is already {}.", word));
    return {};
  }
  group.enable = enable;
  return call.commit_and_say({model::set<model::PortalGroup>(call.node.group, std::move(group))},
                             {fmt::format("The TPGT has been {}.", word)});
}

struct Endpoint {
  std::string address;
  std::uint16_t port = default_port;
};

tl::expected<Endpoint, Refusal> endpoint_of(const Call& call) {
  Endpoint endpoint{std::string(any_address), default_port};
  if (const std::string* const text = call.arguments.find("ip_address")) {
    const auto address = model::normal_address(*text);
    if (!address) return refuse("Could not create NetworkPortal in configFS", *text + " is no IP address");
    endpoint.address = *address;
  }
  if (const std::string* const text = call.arguments.find("ip_port")) {
    const auto port = parse_index(*text, "");
    if (!port || *port == 0) {
      return refuse("Could not create NetworkPortal in configFS",
                    *text + " is no port; give a number from 1 to 65535");
    }
    endpoint.port = *port;
  }
  return endpoint;
}

Outcome set_portal_flag(Call& call, bool model::Portal::*flag, std::string_view what) {
  const auto value = call.boolean("boolean", false);
  if (!value) return tl::unexpected<Refusal>(value.error());
  if (*value) return refuse(fmt::format("{} has no {}; Perilune serves it over TCP", call.node.path, what));
  model::Portal portal = *call.configuration().find<model::Portal>(call.node.portal);
  portal.*flag = false;
  return call.commit_and_say({model::set<model::Portal>(call.node.portal, std::move(portal))},
                             {fmt::format("{} is off", what)});
}

}  // namespace

Outcome run_iscsi_create(Call& call) {
  const std::string* const text = call.arguments.find("wwn");
  const auto name = text == nullptr ? made_target_name(call) : new_target_name(*text);
  if (!name) return tl::unexpected<Refusal>(name.error());
  const model::TargetKey key{*name};
  if (call.configuration().find<model::Target>(key) != nullptr) {
    return refuse("This Target already exists in configFS", model::path_of(key));
  }
  model::Changes changes{model::add<model::Target>(key, {})};
  std::vector<std::string> lines{"Created target " + *name + "."};
  add_group(call, {key, 1}, changes, lines);
  auto done = call.commit_and_say(changes, lines);
  if (done) call.enter(model::path_of(model::PortalGroupKey{key, 1}));
  return done;
}

Outcome run_iscsi_delete(Call& call) {
  const std::string& text = call.arguments.at("wwn");
  const auto name = node_name(text);
  if (!name) return tl::unexpected<Refusal>(name.error());
  const model::TargetKey key{*name};
  if (call.configuration().find<model::Target>(key) == nullptr) {
    return refuse("No such Target in configfs: /sys/kernel/config/target/iscsi/" + *name,
                  "`ls /iscsi 1` lists them");
  }
  return call.commit_and_say(model::removal_of(call.configuration(), key), {"Deleted Target " + *name + "."});
}

Outcome run_iscsi_info(Call& call) {
  call.say("Fabric module name: iscsi");
  call.say("ConfigFS path: none");
  call.say("Allowed WWN types: iqn, naa, eui");
  call.say("Fabric module features: discovery_auth, acls, auth, nps, tpgts");
  call.say("Corresponding kernel module: none");
  call.data = Json{{"name", "iscsi"},
                   {"wwn_types", {"iqn", "naa", "eui"}},
                   {"features", {"discovery_auth", "acls", "auth", "nps", "tpgts"}}};
  return {};
}

Outcome run_fabric_create(Call& call) {
  return refuse(call.node.path + " is not served: Perilune has iSCSI targets alone; use /iscsi",
                "a disk on this machine itself: perilune attach");
}

Outcome run_fabric_info(Call& call) {
  call.say("Fabric module name: " + call.node.fabric);
  call.say("ConfigFS path: none");
  call.say("Allowed WWN types: none");
  call.say("Fabric module features: none");
  call.say("Corresponding kernel module: none");
  return {};
}

Outcome run_target_create(Call& call) {
  const std::string* const text = call.arguments.find("tag");
  const auto tag = tag_of(text != nullptr ? *text : lowest_tag(call.configuration(), call.node.group.parent));
  if (!tag) return tl::unexpected<Refusal>(tag.error());
  const model::PortalGroupKey key{call.node.group.parent, *tag};
  if (call.configuration().find<model::PortalGroup>(key) != nullptr) {
    return refuse("This TPG already exists in configFS", model::path_of(key));
  }
  model::Changes changes;
  std::vector<std::string> lines;
  add_group(call, key, changes, lines);
  auto done = call.commit_and_say(changes, lines);
  if (done) call.enter(model::path_of(key));
  return done;
}

Outcome run_target_delete(Call& call) {
  const auto tag = tag_of(call.arguments.at("tag"));
  if (!tag) return tl::unexpected<Refusal>(tag.error());
  const model::PortalGroupKey key{call.node.group.parent, *tag};
  if (call.configuration().find<model::PortalGroup>(key) == nullptr) {
    return refuse(
        fmt::format("No such TargetPortalGroup in configfs: /sys/kernel/config/target/iscsi/{}/tpgt_{}",
                    key.parent.wwn, *tag),
        "`ls " + call.node.path + " 1` lists them");
  }
  return call.commit_and_say(model::removal_of(call.configuration(), key),
                             {fmt::format("Deleted TPGT {}.", *tag)});
}

Outcome run_target_info(Call& call) {
  call.say("fabric: iscsi");
  call.say("wwn: " + call.node.group.parent.wwn);
  call.data = Json{{"fabric", "iscsi"}, {"wwn", call.node.group.parent.wwn}};
  return {};
}

Outcome run_enable(Call& call) { return set_enabled(call, true); }
Outcome run_disable(Call& call) { return set_enabled(call, false); }

Outcome run_portal_group_info(Call& call) {
  const bool enable = call.configuration().find<model::PortalGroup>(call.node.group)->enable;
  call.say(fmt::format("enable: {}", enable ? "True" : "False"));
  call.say(fmt::format("tag: {}", call.node.group.tag));
  call.data = Json{{"enable", enable}, {"tag", call.node.group.tag}};
  return {};
}

Outcome run_portals_create(Call& call) {
  const auto endpoint = endpoint_of(call);
  if (!endpoint) return tl::unexpected<Refusal>(endpoint.error());
  if (endpoint->port == default_port) call.say("Using default IP port 3260");
  if (endpoint->address == any_address) call.say("Binding to INADDR_ANY (0.0.0.0)");
  const model::PortalKey key{call.node.group, endpoint->address, endpoint->port};
  if (call.configuration().find<model::Portal>(key) != nullptr) {
    return refuse("This NetworkPortal already exists in configFS", model::path_of(key));
  }
  const auto done = call.commit({model::add<model::Portal>(key, {})});
  if (!done) return refuse("Could not create NetworkPortal in configFS", done.error().message);
  if (*done == Call::Done::shown) return {};
  call.say(fmt::format("Created network portal {}:{}.", key.address, key.port));
  call.enter(model::path_of(key));
  return {};
}

Outcome run_portals_delete(Call& call) {
  const std::string& address = call.arguments.at("ip_address");
  const std::string& port_text = call.arguments.at("ip_port");
  const auto normal = model::normal_address(address);
  const auto port = parse_index(port_text, "");
  const model::PortalKey key{call.node.group, normal ? *normal : "", port.value_or(0)};
  if (call.configuration().find<model::Portal>(key) == nullptr) {
    return refuse(
        fmt::format("No such NetworkPortal in configfs: /sys/kernel/config/target/iscsi/{}/tpgt_{}/np/{}:{}",
                    call.node.group.parent.wwn, call.node.group.tag, address, port_text),
        "`ls` lists them");
  }
  return call.commit_and_say({model::remove<model::Portal>(key)},
                             {fmt::format("Deleted network portal {}:{}", key.address, key.port)});
}

Outcome run_enable_iser(Call& call) { return set_portal_flag(call, &model::Portal::iser, "iSER"); }
Outcome run_enable_offload(Call& call) {
  return set_portal_flag(call, &model::Portal::offload, "hardware offload");
}

}  // namespace perilune::cli::targetcli
