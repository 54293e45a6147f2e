// SPDX-License-Identifier: Apache-2.0
// The record database of the initiator on disk, in the layout that open-iscsi uses, so that either tool finds
// the other's records:
//   initiatorname.iscsi, iscsid.conf
//   nodes/<target>/<address,port,tpgt>/<iface>     (or nodes/<target>/<address,port> while the tag is
//   unknown) send_targets/<address,port>/st_config          the discovery record
//   send_targets/<address,port>/<target,address,port,tpgt,iface> -> .../nodes/<target>/<address,port,tpgt>
//   ifaces/<name>
// Files are 0600 and replaced atomically; symbolic links are only ever read for their own name. Every call
// blocks for disk I/O and sees the disk as it is; a writer holds lock().
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "config/iscsid_conf.hpp"
#include "config/portal.hpp"
#include "config/record.hpp"
#include "control/files.hpp"

namespace perilune::control {

class RecordDb {
 public:
  // --config, else PERILUNE_CONFIG, else /etc/iscsi.
  [[nodiscard]] static std::string default_root();
  // Nothing is created before something is written. When the root has no nodes folder and is /etc/iscsi,
  // records are looked for in /var/lib/iscsi (Fedora).
  explicit RecordDb(std::string root = default_root());

  [[nodiscard]] const std::string& root() const noexcept { return root_; }
  [[nodiscard]] const std::string& record_root() const noexcept { return record_root_; }

  // Excludes other writers while it lives. Waits.
  [[nodiscard]] Result<Fd> lock() const;

  // A missing iscsid.conf is the defaults.
  [[nodiscard]] Result<config::IscsidConf> load_conf() const;
  [[nodiscard]] Result<config::InitiatorName> load_initiator_name() const;
  // Makes initiatorname.iscsi when it is not there: iqn.2026-11.io.perilune:<12 hex>, from /etc/machine-id or
  // random.
  [[nodiscard]] Result<config::InitiatorName> load_or_create_initiator_name() const;

  // Sorted as the file names are. Entries that are no records are skipped.
  [[nodiscard]] Result<std::vector<config::NodeKey>> list_nodes() const;
  [[nodiscard]] Result<config::Record> read_node(const config::NodeKey& key) const;
  [[nodiscard]] Status write_node(const config::Record& node) const;
  [[nodiscard]] Status remove_node(const config::NodeKey& key) const;  // and every link to it

  [[nodiscard]] Result<std::vector<config::DiscoveryKey>> list_discoveries() const;
  [[nodiscard]] Result<config::Record> read_discovery(const config::DiscoveryKey& key) const;
  [[nodiscard]] Status write_discovery(const config::Record& send_targets) const;
  [[nodiscard]] Status remove_discovery(const config::DiscoveryKey& key) const;  // with its links, not the
                                                                                 // nodes
  [[nodiscard]] Result<std::vector<config::NodeKey>> linked_nodes(const config::DiscoveryKey& key) const;
  [[nodiscard]] Status link_node(const config::DiscoveryKey& discovery, const config::NodeKey& node) const;

  // "default" and "iser" always exist; files with those names are not read.
  [[nodiscard]] Result<std::vector<config::Record>> list_ifaces() const;  // those with files, by name
  [[nodiscard]] Result<config::Record> read_iface(const std::string& name) const;
  [[nodiscard]] Status write_iface(const config::Record& iface) const;
  [[nodiscard]] Status remove_iface(const std::string& name) const;

 private:
  [[nodiscard]] Result<Fd> open_path(const std::vector<std::string>& names, bool create) const;
  [[nodiscard]] Status remove_links_to(const config::NodeKey& key) const;

  std::string root_;
  std::string record_root_;
};

[[nodiscard]] bool is_builtin_iface(std::string_view name) noexcept;
[[nodiscard]] config::Record builtin_iface(std::string_view name);

}  // namespace perilune::control
