// SPDX-License-Identifier: Apache-2.0
// What a path of the tree leads to. Found by the keys of the configuration, never by building the tree.
// Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/target/configuration.hpp"

namespace perilune::cli::targetcli {

enum class NodeKind : std::uint8_t {
  root,
  backstores,
  storage_list,  // /backstores/fileio
  storage,
  alua_groups,
  alua_group,
  iscsi,
  other_fabric,  // stands in the tree for those who look for it; has no targets
  target,
  portal_group,
  acls,
  acl,  // or all that share a tag
  mapped_lun,
  luns,
  lun,
  portals,
  portal,
};

// The members that the kind has are set.
struct Node {
  NodeKind kind = NodeKind::root;
  std::string path = "/";
  config::target::StorageKey storage;  // storage_list: its plugin
  config::target::AluaGroupKey alua_group;
  config::target::PortalGroupKey group;  // target: its parent
  std::vector<config::target::NodeAclKey> acls;
  std::uint16_t index = 0;  // of a LUN or a mapped LUN
  config::target::PortalKey portal;
  std::string fabric;
};

// LIO's fabrics that targetcli shows beside iscsi.
[[nodiscard]] std::span<const std::string_view> other_fabrics() noexcept;

// `path` from `from`, as a path from the root without "." and "..": "/iscsi/x". ".." of the root is the root.
[[nodiscard]] std::string absolute_path(std::string_view from, std::string_view path);
// Of an absolute path.
[[nodiscard]] std::optional<Node> find_node(const config::target::Configuration& configuration,
                                            std::string_view path);
// The names directly below, sorted, at most `limit` of those that begin with `prefix`: for completion.
[[nodiscard]] std::vector<std::string> names_below(const config::target::Configuration& configuration,
                                                   const Node& node, std::string_view prefix,
                                                   std::size_t limit);

// "5", "lun5", "mapped_lun5", "tpg5" with the word as `prefix`. nullopt when it is no such number.
[[nodiscard]] std::optional<std::uint16_t> parse_index(std::string_view text, std::string_view prefix);

}  // namespace perilune::cli::targetcli
