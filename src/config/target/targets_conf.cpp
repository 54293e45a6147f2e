// SPDX-License-Identifier: Apache-2.0
#include "config/target/targets_conf.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <utility>

#include "config/target/codec.hpp"
#include "config/target/conf_syntax.hpp"
#include "crypto/hash.hpp"
#include "iscsi/names/names.hpp"

namespace perilune::config::target {
namespace {

// "/dev/vg/lv" to "dev-vg-lv", as targetcli names the object of a path.
std::string object_name(std::string_view path) {
  std::string name(path.substr(std::min(path.find_first_not_of('/'), path.size())));
  std::replace(name.begin(), name.end(), '/', '-');
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
}

// What tgt knows about a disk or a server that the configuration has no place for.
const std::set<std::string_view> store_descriptions = {
    "scsi_id",          "vendor_id", "product_id", "product_rev",
    "sense_format",     "removable", "path",       "mode_page",
    "allow-in-use",     "lbppbe",    "la_lba",     "optimal_xfer_gran",
    "optimal_xfer_len", "params",    "online",     "bsopts",
    "rotation_rate"};
const std::set<std::string_view> store_options = {"scsi_sn", "write-cache", "readonly", "device-type",
                                                  "bs-type", "block-size",  "bsoflags", "thin_provisioning"};
const std::set<std::string_view> ignored_parameters = {"nop_interval",
                                                       "nop_count",
                                                       "MaxQueueCmd",
                                                       "RDMAExtensions",
                                                       "TargetRecvDataSegmentLength",
                                                       "InitiatorRecvDataSegmentLength",
                                                       "MaxOutstandingUnexpectedPDUs"};
const std::set<std::string_view> ignored_globals = {"ignore-errors",  "control-port", "iSNSServerIP",
                                                    "iSNSServerPort", "iSNS",         "iSNSAccessControl"};

struct Store {
  std::string where;
  std::string path;
  std::map<std::string, ConfDirective, std::less<>> options;  // its own and the target's
  std::optional<std::uint16_t> lun;
};

class Translator {
 public:
  Translator(ConfWorld& world, const std::vector<std::pair<std::string, std::uint16_t>>& portals)
      : world_(world), portals_(portals) {}

  Result<LoadedTargetsConf> run(const ConfBlock& root) {
    for (const ConfDirective& directive : root.directives) global(directive);
    if (discovery_) apply(add<Discovery>({}, *discovery_), "discovery");
    // Blocks of one target are one block.
    std::map<std::string, ConfBlock> targets;
    for (const ConfBlock& block : root.blocks) {
      if (block.name != "target") {
        wrong(block.where, "<" + block.name + "> is not known here; expected <target NAME>");
        continue;
      }
      auto [at, fresh] = targets.try_emplace(block.argument, block);
      if (fresh) continue;
      at->second.directives.insert(at->second.directives.end(), block.directives.begin(),
                                   block.directives.end());
      at->second.blocks.insert(at->second.blocks.end(), block.blocks.begin(), block.blocks.end());
    }
    for (const auto& [name, block] : targets) target(block);
    if (!status_) return tl::unexpected<Error>(std::move(status_.error()));
    return LoadedTargetsConf{std::move(configuration_), warnings_.take()};
  }

 private:
  void wrong(const std::string& where, const std::string& what) {
    if (status_) status_ = fail(Errc::invalid_argument, where + ": " + what);
  }
  void warn(const ConfDirective& directive) {
    warnings_.add(directive.where + ": " + directive.name + " has no place here and is left out");
  }
  void apply(const Change& change, const std::string& where) {
    if (!status_) return;
    if (auto done = configuration_.apply(change); !done) wrong(where, done.error().message);
  }

  // "user secret"
  void credentials(const ConfDirective& directive, std::string& userid, Password& password) {
    const auto blank = directive.value.find(' ');
    if (blank == std::string::npos || blank + 1 == directive.value.size()) {
      return wrong(directive.where, directive.name + " is a user and a password");
    }
    if (!userid.empty())
      return wrong(directive.where, "a second " + directive.name + " is not served; take one out");
    userid = directive.value.substr(0, blank);
    password = Password::typed(
        std::string_view(directive.value).substr(directive.value.find_first_not_of(' ', blank)));
  }

  void global(const ConfDirective& directive) {
    if (directive.name == "default-driver") return driver(directive);
    if (ignored_globals.contains(directive.name)) return warn(directive);
    const bool incoming = directive.name == "incomingdiscoveryuser";
    if (!incoming && directive.name != "outgoingdiscoveryuser") {
      return wrong(directive.where, directive.name + " is not known outside a target");
    }
    if (!discovery_) discovery_.emplace();
    Chap& chap = discovery_->chap;
    if (incoming) {
      credentials(directive, chap.userid, chap.password);
      discovery_->enable = true;
    } else {
      credentials(directive, chap.mutual_userid, chap.mutual_password);
    }
  }

  void driver(const ConfDirective& directive) {
    if (directive.value != "iscsi")
      wrong(directive.where, "driver " + directive.value + " is not served; only iscsi is");
  }

  void target(const ConfBlock& block) {
    const auto name = iscsi::normalize_name(block.argument);
    if (!name) return wrong(block.where, "target '" + block.argument + "': " + name.error().message);
    const PortalGroupKey key{{*name}, 1};
    PortalGroup group;
    any_address_ = false;
    Target value;
    std::vector<ConfDirective> initiators;
    std::vector<Store> stores[2];  // backing stores, direct stores
    std::map<std::string, ConfDirective, std::less<>> defaults;
    for (const ConfDirective& directive : block.directives) {
      if (directive.name == "backing-store" || directive.name == "direct-store") {
        stores[directive.name == "direct-store"].push_back({directive.where, directive.value, {}, {}});
      } else if (directive.name == "initiator-name") {
        initiators.push_back(directive);
      } else if (directive.name == "controller_tid") {
        value.unknown["/tgt_tid"] = std::to_string(target_number(directive));
      } else if (!store_option(directive, defaults)) {
        group_option(directive, group);
      }
    }
    for (const ConfBlock& inner : block.blocks) inner_block(inner, stores);
    if (any_address_) group.initiator_addresses.clear();
    open_to(initiators.empty(), group);
    apply(add<Target>(key.parent, std::move(value)), block.where);
    apply(add<PortalGroup>(key, std::move(group)), block.where);
    for (const auto& [address, port] : portals_) apply(add<Portal>({key, address, port}, {}), block.where);
    add_stores(key, stores, defaults);
    for (const ConfDirective& initiator : initiators) node_acl(key, initiator);
  }

  static void open_to(bool all, PortalGroup& group) {
    const auto set = [&](std::string_view name, bool on) {
      (void)group.attributes.set(group_attributes(), name, on ? "1" : "0");
    };
    set("authentication", !group.chap.userid.empty());
    set("generate_node_acls", all);
    set("demo_mode_write_protect", false);
  }

  // Takes the options of stores, which may stand in the target for all of them.
  bool store_option(const ConfDirective& directive,
                    std::map<std::string, ConfDirective, std::less<>>& options) {
    if (store_descriptions.contains(directive.name)) {
      warn(directive);
      return true;
    }
    if (!store_options.contains(directive.name)) return false;
    if (!options.emplace(directive.name, directive).second)
      wrong(directive.where, "a second " + directive.name + "; take one out");
    return true;
  }

  void group_option(const ConfDirective& directive, PortalGroup& group) {
    if (directive.name == "driver") return driver(directive);
    if (ignored_parameters.contains(directive.name)) return warn(directive);
    if (directive.name == "incominguser")
      return credentials(directive, group.chap.userid, group.chap.password);
    if (directive.name == "outgoinguser")
      return credentials(directive, group.chap.mutual_userid, group.chap.mutual_password);
    if (directive.name == "initiator-address") {
      return initiator_address(directive, group);
    }
    if (directive.name == "state") {
      if (directive.value != "ready" && directive.value != "offline")
        return wrong(directive.where, "state is ready or offline");
      group.enable = directive.value == "ready";
      return;
    }
    const auto taken = group.parameters.set(group_parameters(), directive.name, directive.value);
    if (taken) return;
    wrong(directive.where, taken.error().code == Errc::not_found
                               ? directive.name + " is not known in a target"
                               : taken.error().message);
  }

  // ALL is every address, and then the others say nothing.
  void initiator_address(const ConfDirective& directive, PortalGroup& group) {
    if (directive.value == "ALL") {
      any_address_ = true;
      return;
    }
    const auto network = normal_network(directive.value);
    if (!network) return wrong(directive.where, "initiator-address " + network.error().message);
    auto& all = group.initiator_addresses;
    if (std::find(all.begin(), all.end(), *network) == all.end()) all.push_back(*network);
  }

  void inner_block(const ConfBlock& block, std::vector<Store> (&stores)[2]) {
    if (block.name != "backing-store" && block.name != "direct-store") {
      return wrong(block.where, "<" + block.name + "> is not known in a target");
    }
    Store store{block.where, block.argument, {}, {}};
    for (const ConfBlock& deeper : block.blocks) wrong(deeper.where, "there are no blocks in a store");
    for (const ConfDirective& directive : block.directives) {
      if (directive.name == "lun") {
        store.lun = lun_number(directive);
      } else if (!store_option(directive, store.options)) {
        wrong(directive.where, directive.name + " is not known in a store");
      }
    }
    stores[block.name == "direct-store"].push_back(std::move(store));
  }

  std::uint32_t target_number(const ConfDirective& directive) {
    std::uint32_t number = 0;
    const auto end = directive.value.data() + directive.value.size();
    const auto [at, error] = std::from_chars(directive.value.data(), end, number);
    if (error != std::errc{} || at != end || number == 0)
      wrong(directive.where, "controller_tid must be a number from 1 on");
    return number;
  }

  std::uint16_t lun_number(const ConfDirective& directive) {
    std::uint16_t number = 0;
    const auto end = directive.value.data() + directive.value.size();
    const auto [at, error] = std::from_chars(directive.value.data(), end, number);
    if (error != std::errc{} || at != end || number > max_lun) {
      wrong(directive.where, "lun must be a number from 0 to " + std::to_string(max_lun));
    }
    return number;
  }

  void add_stores(const PortalGroupKey& group, std::vector<Store> (&stores)[2],
                  const std::map<std::string, ConfDirective, std::less<>>& defaults) {
    std::set<std::uint16_t> taken;
    for (const auto& kind : stores) {
      for (const Store& store : kind) {
        if (store.lun) taken.insert(*store.lun);
      }
    }
    std::uint16_t next = 1;
    for (auto& kind : stores) {
      std::stable_sort(kind.begin(), kind.end(),
                       [](const Store& a, const Store& b) { return a.path < b.path; });
      for (Store& store : kind) {
        store.options.insert(defaults.begin(), defaults.end());  // its own stand
        while (!store.lun && taken.contains(next)) ++next;
        const std::uint16_t lun = store.lun ? *store.lun : next++;
        export_store(group, store, lun);
      }
    }
  }

  void export_store(const PortalGroupKey& group, const Store& store, std::uint16_t lun) {
    const auto plugin = plugin_of(store);
    if (!status_) return;
    const StorageKey key{plugin, object_name(store.path)};
    StorageObject object = storage(key, store);
    if (const StorageObject* const there = configuration_.find<StorageObject>(key)) {
      if (!(*there == object)) wrong(store.where, store.path + " is exported twice, with different options");
    } else {
      apply(add<StorageObject>(key, std::move(object)), store.where);
      if (plugin != Plugin::pscsi)
        apply(add<AluaGroup>({key, std::string(default_alua_group)}, {}), store.where);
    }
    const std::string alua(plugin == Plugin::pscsi ? std::string_view() : default_alua_group);
    apply(add<Lun>({group, lun}, {key, alua, {}, {}}), store.where);
  }

  static std::string_view option(const Store& store, std::string_view name, std::string_view fallback) {
    const auto at = store.options.find(name);
    return at == store.options.end() ? fallback : std::string_view(at->second.value);
  }

  Plugin plugin_of(const Store& store) {
    const std::string_view type = option(store, "device-type", "disk");
    const std::string_view backing = option(store, "bs-type", "rdwr");
    if (type == "pt" && backing == "sg") return Plugin::pscsi;
    if (type != "disk") wrong(store.where, "device-type " + std::string(type) + " is not served");
    if (backing != "rdwr" && backing != "aio")
      wrong(store.where, "bs-type " + std::string(backing) + " is not served");
    return world_.is_block_device(store.path) ? Plugin::block : Plugin::fileio;
  }

  StorageObject storage(const StorageKey& key, const Store& store) {
    StorageObject object;
    object.dev = store.path;
    if (key.plugin == Plugin::pscsi) return object;
    const auto serial = serial_for_path(store.path);
    if (!serial) wrong(store.where, serial.error().message);
    object.wwn = option(store, "scsi_sn", serial ? std::string_view(*serial) : std::string_view());
    object.write_back = on_off(store, "write-cache", "on", "off", "on");
    object.readonly = on_off(store, "readonly", "1", "0", "0");
    if (const std::string_view flags = option(store, "bsoflags", ""); !flags.empty()) {
      if (!is_store_flags(flags)) wrong(store.where, "bsoflags must be sync, direct or sync:direct");
      if (flags != "direct") object.write_back = false;
      object.unknown["/tgt_bsoflags"] = "\"" + std::string(flags) + "\"";
    }
    if (option(store, "bs-type", "") == "aio") object.unknown["/tgt_bstype"] = "\"aio\"";
    attribute(store, key, object, "emulate_write_cache", object.write_back ? "1" : "0");
    if (on_off(store, "thin_provisioning", "1", "0", "0")) attribute(store, key, object, "emulate_tpu", "1");
    if (const auto size = option(store, "block-size", ""); !size.empty())
      attribute(store, key, object, "block_size", size);
    return object;
  }
  void attribute(const Store& store, const StorageKey& key, StorageObject& object, std::string_view name,
                 std::string_view value) {
    const auto done = object.attributes.set(storage_attributes(key.plugin), name, value);
    if (!done) wrong(store.where, done.error().message);
  }
  bool on_off(const Store& store, std::string_view name, std::string_view on, std::string_view off,
              std::string_view fallback) {
    const std::string_view value = option(store, name, fallback);
    if (value != on && value != off) {
      wrong(store.where, std::string(name) + " must be " + std::string(on) + " or " + std::string(off));
    }
    return value == on;
  }

  void node_acl(const PortalGroupKey& group, const ConfDirective& directive) {
    const auto name = iscsi::normalize_name(directive.value);
    if (!name)
      return wrong(directive.where, "initiator-name '" + directive.value + "': " + name.error().message);
    const NodeAclKey key{group, *name};
    apply(add<NodeAcl>(key, {}), directive.where);
    for (const auto& [lun, value] : configuration_.below<Lun>(group)) {
      apply(add<MappedLun>({key, lun.index}, {lun.index, false, {}, {}}), directive.where);
    }
  }

  ConfWorld& world_;
  const std::vector<std::pair<std::string, std::uint16_t>>& portals_;
  Configuration configuration_;
  std::optional<Discovery> discovery_;
  Warnings warnings_;
  bool any_address_ = false;  // of the target at hand
  Status status_;
};

}  // namespace

bool is_store_flags(std::string_view flags) {
  return flags == "sync" || flags == "direct" || flags == "sync:direct" || flags == "direct:sync";
}

Result<std::string> serial_for_path(std::string_view path) {
  const auto digest =
      crypto::hash(crypto::HashAlgorithm::sha256, {as_bytes("targets.conf:"), as_bytes(path)});
  if (!digest) return tl::unexpected<Error>(digest.error());
  static constexpr char digits[] = "0123456789abcdef";
  std::string serial;
  for (const std::uint8_t byte : digest->bytes().first(16)) {
    if (serial.size() == 8 || serial.size() == 13 || serial.size() == 18 || serial.size() == 23)
      serial += '-';
    serial += digits[byte >> 4];
    serial += digits[byte & 0xf];
  }
  return serial;
}

Result<LoadedTargetsConf> read_targets_conf(
    const ConfFile& file, ConfWorld& world,
    const std::vector<std::pair<std::string, std::uint16_t>>& portals) {
  const auto root = read_conf_syntax(file, world);
  if (!root) return tl::unexpected<Error>(root.error());
  return Translator(world, portals).run(*root);
}

}  // namespace perilune::config::target
