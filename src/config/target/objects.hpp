// SPDX-License-Identifier: Apache-2.0
// What a target's configuration is made of. Every kind of object has a Key, by which exactly one of it is
// found, and its own value, which holds neither the key nor the objects below it. A key begins with the key
// of the object above (`parent`), so all that lies below one object is one range of an ordered map. Values
// only; any thread.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/target/fields.hpp"
#include "config/target/password.hpp"

namespace perilune::config::target {

// Parts of a file that we do not know: a JSON pointer below the object ("/attributes/emulate_rsoc") and the
// JSON text.
using Unknown = std::map<std::string, std::string>;

struct Chap {
  std::string userid;
  Password password;
  std::string mutual_userid;
  Password mutual_password;
  friend bool operator==(const Chap&, const Chap&) = default;
};

// A part of a configuration file that is carried along, not served: an unknown key of the document, a target
// of another fabric, a storage object of a plugin that we do not have.
struct ForeignKey {
  std::string place;  // "document", "storage_objects", "fabric_modules", "targets"
  std::string name;   // unique in its place
  friend auto operator<=>(const ForeignKey&, const ForeignKey&) = default;
};
struct Foreign {
  using Key = ForeignKey;
  std::string json;
  friend bool operator==(const Foreign&, const Foreign&) = default;
};

// The authentication of discovery sessions. There is one: its key has nothing to say.
struct DiscoveryKey {
  friend auto operator<=>(const DiscoveryKey&, const DiscoveryKey&) = default;
};
struct Discovery {
  using Key = DiscoveryKey;
  bool enable = false;
  Chap chap;
  Unknown unknown;
  friend bool operator==(const Discovery&, const Discovery&) = default;
};

struct StorageKey {
  Plugin plugin = Plugin::block;
  std::string name;
  friend auto operator<=>(const StorageKey&, const StorageKey&) = default;
};
struct StorageObject {
  using Key = StorageKey;
  std::string dev;               // absolute path; empty for a ramdisk
  std::uint64_t size_bytes = 0;  // ramdisk and fileio; 0 for fileio: what the file has
  std::string wwn;  // the unit serial number (VPD 80h), from which the NAA follows; empty for pscsi alone
  bool write_back = false;  // block and fileio
  bool readonly =
      false;  // block and fileio; LIO has it for block alone and refuses to restore such a fileio object
  bool nullio = false;  // ramdisk: keeps nothing
  bool aio = false;     // fileio; kept for LIO, of no effect here
  Settings attributes;  // storage_attributes(plugin)
  Unknown unknown;
  friend bool operator==(const StorageObject&, const StorageObject&) = default;
};

struct AluaGroupKey {
  StorageKey parent;
  std::string name;
  friend auto operator<=>(const AluaGroupKey&, const AluaGroupKey&) = default;
};
inline constexpr std::string_view default_alua_group =
    "default_tg_pt_gp";  // has id 0; every object but pscsi is made with it
struct AluaGroup {
  using Key = AluaGroupKey;
  std::uint16_t id = 0;  // TARGET PORT GROUP (SPC-4 6.37), unique in the object
  Settings parameters;   // alua_parameters()
  Unknown unknown;
  friend bool operator==(const AluaGroup&, const AluaGroup&) = default;
};

struct TargetKey {
  std::string wwn;  // an iSCSI name in normal form
  friend auto operator<=>(const TargetKey&, const TargetKey&) = default;
};
struct Target {
  using Key = TargetKey;
  Settings parameters;  // target_parameters()
  Unknown unknown;
  friend bool operator==(const Target&, const Target&) = default;
};

struct PortalGroupKey {
  TargetKey parent;
  std::uint16_t tag = 0;
  friend auto operator<=>(const PortalGroupKey&, const PortalGroupKey&) = default;
};
struct PortalGroup {
  using Key = PortalGroupKey;
  bool enable = true;
  Settings attributes;  // group_attributes()
  Settings parameters;  // group_parameters()
  Chap chap;
  // tgt's initiator-address: initiators have to come from one of these, "192.0.2.7" or "192.0.2.0/24"
  // (normal_network); empty: from anywhere. LIO has no such thing: in saveconfig.json it is a key of ours.
  std::vector<std::string> initiator_addresses = {};
  Unknown unknown;
  friend bool operator==(const PortalGroup&, const PortalGroup&) = default;
};

struct PortalKey {
  PortalGroupKey parent;
  std::string address;  // a numeric address without brackets, IPv6 in its shortest form (normal_address)
  std::uint16_t port = 0;
  friend auto operator<=>(const PortalKey&, const PortalKey&) = default;
};
struct Portal {
  using Key = PortalKey;
  bool iser = false;     // kept for LIO
  bool offload = false;  // kept for LIO
  Unknown unknown;
  friend bool operator==(const Portal&, const Portal&) = default;
};

struct LunKey {
  PortalGroupKey parent;
  std::uint16_t index = 0;
  friend auto operator<=>(const LunKey&, const LunKey&) = default;
};
struct Lun {
  using Key = LunKey;
  StorageKey object;
  std::string alua_group;  // of the object; empty for pscsi
  std::string alias;       // LIO's name of the link; kept
  Unknown unknown;
  friend bool operator==(const Lun&, const Lun&) = default;
};

struct NodeAclKey {
  PortalGroupKey parent;
  std::string initiator;  // an iSCSI name in normal form
  friend auto operator<=>(const NodeAclKey&, const NodeAclKey&) = default;
};
struct NodeAcl {
  using Key = NodeAclKey;
  std::string tag;      // groups ACLs in the tree; may be empty
  Settings attributes;  // acl_attributes()
  Chap chap;
  Unknown unknown;
  friend bool operator==(const NodeAcl&, const NodeAcl&) = default;
};

struct MappedLunKey {
  NodeAclKey parent;
  std::uint16_t index = 0;  // the LUN that the initiator sees
  friend auto operator<=>(const MappedLunKey&, const MappedLunKey&) = default;
};
struct MappedLun {
  using Key = MappedLunKey;
  std::uint16_t tpg_lun = 0;  // LunKey::index in the same portal group
  bool write_protect = false;
  std::string alias;
  Unknown unknown;
  friend bool operator==(const MappedLun&, const MappedLun&) = default;
};

// How people find an object: targetcli's path ("/iscsi/iqn.2026-11.io.perilune:a/tpg1/luns/lun0").
[[nodiscard]] std::string path_of(const ForeignKey& key);
[[nodiscard]] std::string path_of(const DiscoveryKey& key);
[[nodiscard]] std::string path_of(const StorageKey& key);
[[nodiscard]] std::string path_of(const AluaGroupKey& key);
[[nodiscard]] std::string path_of(const TargetKey& key);
[[nodiscard]] std::string path_of(const PortalGroupKey& key);
[[nodiscard]] std::string path_of(const PortalKey& key);
[[nodiscard]] std::string path_of(const LunKey& key);
[[nodiscard]] std::string path_of(const NodeAclKey& key);
[[nodiscard]] std::string path_of(const MappedLunKey& key);

// "192.0.2.1", "::1" from the same, from "[::1]" or from a longer form of it. Fails with invalid_argument for
// all that is not a numeric address.
[[nodiscard]] Result<std::string> normal_address(std::string_view text);
// The same for an address, or a network: "192.0.2.0/24", "2001:db8::/32".
[[nodiscard]] Result<std::string> normal_network(std::string_view text);

// The hexadecimal digits of the NAA designator (type 6, 128 bits) that LIO makes of a unit serial number:
// company id 001405h and the first 25 hexadecimal digits of the serial, others skipped, filled with zeroes
// (target_core_spc.c, spc_gen_naa_6h_vendor_specific). So multipath's WWID survives a migration.
[[nodiscard]] std::string lio_naa(std::string_view unit_serial);

}  // namespace perilune::config::target
