// SPDX-License-Identifier: Apache-2.0
// Configurations for tests: a small one with one of everything, and random ones.
#pragma once

#include <random>
#include <string>

#include "config/target/configuration.hpp"

namespace perilune::config::target::test {

inline const StorageKey disk{Plugin::fileio, "disk"};
inline const TargetKey target{"iqn.2026-11.io.perilune:a"};
inline const PortalGroupKey group{target, 1};
inline const LunKey lun{group, 0};
inline const NodeAclKey acl{group, "iqn.2026-11.io.perilune:host"};
inline const MappedLunKey mapped{acl, 0};

inline StorageObject file(std::string dev, std::string wwn) {
  StorageObject object;
  object.dev = std::move(dev);
  object.wwn = std::move(wwn);
  object.size_bytes = 1048576;
  return object;
}

inline Configuration small() {
  Configuration configuration;
  for (const Change& change :
       {add<StorageObject>(disk, file("/srv/disk.img", "serial-of-disk")),
        add<AluaGroup>({disk, std::string(default_alua_group)}, {}), add<Target>(target, {}),
        add<PortalGroup>(group, {}), add<Portal>({group, "0.0.0.0", 3260}, {}),
        add<Lun>(lun, {disk, std::string(default_alua_group), "", {}}), add<NodeAcl>(acl, {}),
        add<MappedLun>(mapped, {0, false, "", {}})}) {
    (void)configuration.apply(change).value();
  }
  return configuration;
}

// Random steps over few names, so that they meet. Refused ones are part of the game.
class RandomSteps {
 public:
  explicit RandomSteps(std::mt19937& random) : random_(random) {}

  Change next() {
    switch (below(12)) {
      case 0:
        return step<StorageObject>(object_key(), storage());
      case 1:
        return step<AluaGroup>(AluaGroupKey{object_key(), word("g", 3)}, alua());
      case 2:
        return step<Target>(target_key(), Target{});
      case 3:
        return step<PortalGroup>(group_key(), portal_group());
      case 4:
        return step<Portal>(PortalKey{group_key(), below(2) == 0 ? "::1" : "192.0.2.1", number(2, 3260)},
                            Portal{flip(), false, {}});
      case 5:
      case 6:
        return step<Lun>(LunKey{group_key(), number(4)}, lun_value());
      case 7:
        return step<NodeAcl>(acl_key(), node_acl());
      case 8:
        return step<MappedLun>(MappedLunKey{acl_key(), number(3)}, MappedLun{number(4), flip(), "", {}});
      default:
        return step<Discovery>(DiscoveryKey{}, Discovery{flip(), chap(), {}});
    }
  }

 private:
  unsigned below(unsigned end) { return static_cast<unsigned>(random_() % end); }
  bool flip() { return below(2) == 0; }
  std::uint16_t number(unsigned end, unsigned from = 0) {
    return static_cast<std::uint16_t>(from + below(end));
  }
  std::string word(const std::string& prefix, unsigned end) { return prefix + std::to_string(below(end)); }

  template <class Object>
  Change step(typename Object::Key key, Object value) {
    switch (below(6)) {
      case 0:
        return remove<Object>(std::move(key));
      case 1:
      case 2:
        return set<Object>(std::move(key), std::move(value));
      default:
        return add<Object>(std::move(key), std::move(value));
    }
  }

  StorageKey object_key() {
    const Plugin plugins[] = {Plugin::fileio, Plugin::fileio,  Plugin::fileio,
                              Plugin::block,  Plugin::ramdisk, Plugin::pscsi};
    const auto plugin = plugins[below(6)];
    plugin_ = plugin;
    return {plugin, word("d", 2)};
  }
  TargetKey target_key() { return {word("iqn.2026-11.io.perilune:t", 2)}; }
  PortalGroupKey group_key() { return {target_key(), number(2, 1)}; }
  NodeAclKey acl_key() { return {group_key(), word("iqn.2026-11.io.perilune:h", 2)}; }

  StorageObject storage() {
    StorageObject object;
    if (plugin_ != Plugin::ramdisk) object.dev = word("/srv/f", 8);
    if (plugin_ != Plugin::pscsi) object.wwn = word("serial-", 8);
    if (plugin_ == Plugin::ramdisk) object.nullio = flip();
    if (plugin_ == Plugin::ramdisk || plugin_ == Plugin::fileio) object.size_bytes = 512 * (1 + below(4));
    if (plugin_ == Plugin::fileio) object.write_back = flip();
    if (plugin_ == Plugin::block) object.readonly = flip();
    const auto& table = storage_attributes(plugin_);
    if (flip()) (void)object.attributes.set(table, "emulate_pr", "0");
    if (below(4) == 0) (void)object.attributes.set(table, "block_size", "4096");
    if (below(4) == 0) object.unknown.emplace("/attributes/emulate_rsoc", "1");
    return object;
  }
  AluaGroup alua() {
    AluaGroup value;
    value.id = number(3);
    if (flip()) (void)value.parameters.set(alua_parameters(), "alua_access_state", "2");
    return value;
  }
  PortalGroup portal_group() {
    PortalGroup value;
    value.enable = flip();
    value.chap = chap();
    if (flip()) (void)value.attributes.set(group_attributes(), "authentication", "0");
    if (flip()) (void)value.parameters.set(group_parameters(), "TargetAlias", "\xc3\xa9t\xc3\xa9 \"x\"");
    if (flip()) value.unknown.emplace("/a~1b", "{\"deep\":[null,1.5]}");
    return value;
  }
  Lun lun_value() {
    const StorageKey object = object_key();
    return {object, below(4) != 0 ? word("g", 3) : "", flip() ? word("alias", 9) : "", {}};
  }
  NodeAcl node_acl() {
    NodeAcl value;
    value.chap = chap();
    if (flip()) value.tag = "hosts";
    if (flip()) (void)value.attributes.set(acl_attributes(), "dataout_timeout", "5");
    return value;
  }
  Chap chap() {
    Chap value;
    if (flip()) value = {"user", Password("secret-of-user"), "", {}};
    if (flip()) value.mutual_password = Password(word("mutual-secret-", 3));
    if (below(4) == 0) value.password = Password::typed(word("@file:/secrets/", 3));
    return value;
  }

  std::mt19937& random_;
  Plugin plugin_ = Plugin::block;
};

// Applies random steps until `accepted` were taken.
inline void mutate(Configuration& configuration, std::mt19937& random, int accepted) {
  RandomSteps steps(random);
  while (accepted > 0) {
    if (configuration.apply(steps.next())) --accepted;
  }
}

inline Configuration any(std::mt19937& random, int steps) {
  Configuration configuration;
  mutate(configuration, random, steps);
  return configuration;
}

}  // namespace perilune::config::target::test
