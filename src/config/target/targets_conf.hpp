// SPDX-License-Identifier: Apache-2.0
// targets.conf, the file of tgt's tgt-admin (targets.conf(5)), read into the same configuration as everything
// else. Pure: included files and the kind of a backing path come through an interface.
//
// What it becomes: each target has portal group 1 with the given portals, open to all initiators, or to those
// of its initiator-name lines (a node ACL each, with all LUNs). A backing store is a block or fileio object
// named after its path (as targetcli names it), direct-store too; `device-type pt` with `bs-type sg` is
// pscsi. LUNs begin at 1, in the order of the paths, backing stores before direct stores, around those with a
// `lun` line, as tgt-admin counts them.
//
// initiator-address narrows that, as in tgt: who comes has to come from one of the addresses, and by one of
// the names where there are any.
//
// What would open more than the file says is an error, never a warning: a second incominguser, stores and
// drivers that we do not have. What only describes a disk (vendor_id and the like) is left out with a
// warning.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/target/configuration.hpp"

namespace perilune::config::target {

inline constexpr std::size_t max_targets_conf_bytes = 16U << 20;  // of all files together
inline constexpr std::size_t max_targets_conf_depth = 16;         // of includes
inline constexpr std::size_t max_targets_conf_files = 1024;

struct ConfFile {
  std::string path;
  std::string text;
};

class ConfWorld {
 public:
  virtual ~ConfWorld() = default;
  // The files that a path with wildcards means, sorted; empty when there is none. Fails when one cannot be
  // read.
  [[nodiscard]] virtual Result<std::vector<ConfFile>> include(const std::string& pattern) = 0;
  [[nodiscard]] virtual bool is_block_device(const std::string& path) = 0;
};

struct LoadedTargetsConf {
  Configuration configuration;
  std::vector<std::string> warnings;  // "FILE:LINE: ..."; never a secret
};

// One line for the first thing that is wrong: "FILE:LINE: ...".
[[nodiscard]] Result<LoadedTargetsConf> read_targets_conf(
    const ConfFile& file, ConfWorld& world,
    const std::vector<std::pair<std::string, std::uint16_t>>& portals);

// What bsoflags of a backing store may be: sync, direct, or both with a colon between (targets.conf(5)).
[[nodiscard]] bool is_store_flags(std::string_view flags);

// The unit serial number of a backing store without one: the same each time, and another for another path.
[[nodiscard]] Result<std::string> serial_for_path(std::string_view path);

}  // namespace perilune::config::target
