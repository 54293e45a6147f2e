// SPDX-License-Identifier: Apache-2.0
// The commands: which node has which, with their parameters, their help and the function that carries them
// out.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/targetcli/call.hpp"

namespace perilune::cli::targetcli {

struct Command {
  std::string_view name;
  // "name dev [readonly] [wwn]": in brackets what may be left out; "..." takes any number.
  std::string_view parameters;
  std::string_view help;      // paragraphs
  std::string_view defaults;  // "action=list"; {savefile} is the daemon's default file
  std::string_view see_also;  // "ls cd"
  Outcome (*run)(Call&) = nullptr;
};

struct Parameter {
  std::string_view name;
  bool required = false;
  bool many = false;  // takes all that is left
};
[[nodiscard]] std::vector<Parameter> parameters_of(const Command& command);

// Of a node, sorted by name; those that every node has are among them.
[[nodiscard]] std::vector<const Command*> commands_of(const Node& node);
[[nodiscard]] const Command* find_command(const Node& node, std::string_view name);

// ---- the functions, by files

// tree_commands.cpp
Outcome run_ls(Call&);
Outcome run_cd(Call&);
Outcome run_pwd(Call&);
Outcome run_bookmarks(Call&);
Outcome run_status(Call&);
Outcome run_refresh(Call&);
Outcome run_exit(Call&);
Outcome run_help(Call&);

// group_commands.cpp
Outcome run_get(Call&);
Outcome run_set(Call&);

// root_commands.cpp
// To the default file when `path` is empty. `told`: an empty configuration may replace one that is not.
Outcome save_configuration(Call&, const std::string& path, bool told);
Outcome run_saveconfig(Call&);
Outcome run_restoreconfig(Call&);
Outcome run_clearconfig(Call&);
Outcome run_sessions(Call&);
Outcome run_version(Call&);
Outcome run_diff(Call&);
Outcome run_apply(Call&);
Outcome run_undo(Call&);
Outcome run_history(Call&);

// backstore_commands.cpp
// The path of a file as the client means it: from the folder in which its process stands.
[[nodiscard]] std::string file_path(const Call& call, const std::string& path);
Outcome run_block_create(Call&);
Outcome run_fileio_create(Call&);
Outcome run_ramdisk_create(Call&);
Outcome run_pscsi_create(Call&);
Outcome run_storage_delete(Call&);
Outcome run_storage_info(Call&);
Outcome run_storage_version(Call&);
Outcome run_alua_create(Call&);
Outcome run_alua_delete(Call&);
// A storage object for a file or a device that somebody named where an object was asked for, with the
// defaults of `create`: the changes that make it, put before what follows.
[[nodiscard]] tl::expected<model::StorageKey, Refusal> object_for_path(Call& call, const std::string& path,
                                                                       model::Changes& changes,
                                                                       std::vector<std::string>& lines);

// target_commands.cpp
Outcome run_iscsi_create(Call&);
Outcome run_iscsi_delete(Call&);
Outcome run_iscsi_info(Call&);
Outcome run_fabric_create(Call&);
Outcome run_fabric_info(Call&);
Outcome run_target_create(Call&);
Outcome run_target_delete(Call&);
Outcome run_target_info(Call&);
Outcome run_enable(Call&);
Outcome run_disable(Call&);
Outcome run_portal_group_info(Call&);
Outcome run_portals_create(Call&);
Outcome run_portals_delete(Call&);
Outcome run_enable_iser(Call&);
Outcome run_enable_offload(Call&);

// lun_commands.cpp
Outcome run_luns_create(Call&);
Outcome run_luns_delete(Call&);
Outcome run_lun_info(Call&);
Outcome run_acls_create(Call&);
Outcome run_acls_delete(Call&);
Outcome run_acls_tag(Call&);
Outcome run_acls_untag(Call&);
Outcome run_acl_create(Call&);
Outcome run_acl_delete(Call&);
Outcome run_acl_info(Call&);
Outcome run_mapped_lun_info(Call&);

}  // namespace perilune::cli::targetcli
