// SPDX-License-Identifier: Apache-2.0
#include "cli/targetcli/commands.hpp"

#include <algorithm>
#include <array>

namespace perilune::cli::targetcli {
namespace {

constexpr std::array everywhere{
    Command{"bookmarks", "action [bookmark]",
            "Keeps paths under short names. `add NAME` names the current path, `del NAME` forgets a name,\n"
            "`go NAME` goes there and `show` lists all. A path may begin with @NAME.\n",
            "", "ls cd", run_bookmarks},
    Command{
        "cd", "[path]",
        "Makes another node the current one. A path begins at the current node, or with / at the root, or\n"
        "with @NAME at a bookmark; . is the node itself and .. the one above.\n"
        "`cd <` and `cd >` go back and forth among the paths that were visited, `cd -` to the last one.\n"
        "Without a path it goes to the root.\n",
        "", "ls cd", run_cd},
    Command{"exit", "", "Leaves the shell. With auto_save_on_exit it saves the configuration first.\n", "",
            "", run_exit},
    Command{
        "get", "[group] [parameter...]",
        "Shows parameters of the current node. Without a group it lists the groups; with one it shows all\n"
        "parameters of it, or those that are named.\n",
        "", "set", run_get},
    Command{"help", "[topic]", "Shows the commands of the current node, or explains one of them.\n", "", "",
            run_help},
    Command{"ls", "[path] [depth]",
            "Shows the tree below the current node, or below a path. `depth` is how many levels of it; 0 is\n"
            "all.\n",
            "", "cd bookmarks", run_ls},
    Command{"pwd", "", "Shows the current path.\n", "", "ls cd", run_pwd},
    Command{"refresh", "", "Does nothing: what is shown is always the daemon's present state.\n", "", "",
            run_refresh},
    Command{
        "set", "[group] [parameter=value...]",
        "Sets parameters of the current node; the group `global` is the shell's own. All the parameters of\n"
        "one line are set, or none. Without values it lists what can be set.\n",
        "", "get", run_set},
    Command{"status", "", "Shows the state of the current node in one line.\n", "", "ls", run_status},
};

constexpr std::array at_root{
    Command{
        "apply", "file",
        "Makes the configuration what a saved file says, by as few changes as possible: what is the same\n"
        "goes on undisturbed. The plan is shown first. All of it is done, or nothing.\n",
        "", "diff undo", run_apply},
    Command{"clearconfig", "[confirm]", "Removes all storage objects and targets. Wants confirm=True.\n", "",
            "", run_clearconfig},
    Command{"diff", "file", "Shows what `apply` of the file would change.\n", "", "apply", run_diff},
    Command{"history", "", "Shows the last changes: their number, time, and who made them.\n", "", "undo",
            run_history},
    Command{
        "restoreconfig", "[savefile] [clear_existing] [target] [storage_object]",
        "Makes what a saved file holds. Where some of it is there already nothing is done, unless\n"
        "clear_existing=True: then the configuration becomes what the file says, and only what differs is\n"
        "touched. `target` or `storage_object` takes one object of the file alone.\n",
        "savefile={savefile} clear_existing=False", "", run_restoreconfig},
    Command{
        "saveconfig", "[savefile]",
        "Writes the configuration to a file. Nothing depends on it: the daemon keeps every change when it\n"
        "is made.\n",
        "savefile={savefile}", "", run_saveconfig},
    Command{
        "sessions", "[action] [sid]",
        "Shows the sessions of initiators. `list` is short, `detail` has the LUNs and connections; `sid`\n"
        "takes one session alone.\n",
        "action=list", "status", run_sessions},
    Command{"undo", "", "Takes back the last change that was made.\n", "", "history", run_undo},
    Command{"version", "", "Shows the version.\n", "", "", run_version},
};

constexpr Command delete_storage{
    "delete",
    "name [save]",
    "Removes a storage object, and the LUNs that export it. What a file or a device holds stays as it is.\n"
    "`save` writes the configuration file afterwards.\n",
    "",
    "",
    run_storage_delete};
constexpr std::array block{
    Command{"create", "name dev [readonly] [wwn]",
            "Makes a storage object of a block device, which must not be in use. `wwn` is the unit serial\n"
            "number; without it a random one is made.\n",
            "", "", run_block_create},
    delete_storage};
constexpr std::array fileio{
    Command{
        "create", "name file_or_dev [size] [write_back] [sparse] [wwn]",
        "Makes a storage object of a file, or of a block device. A file that is not there yet is made, with\n"
        "`size`; sparse=false gives it all its space at once. A file that is there keeps its size, a device\n"
        "has its own. write_back=false writes each block through before the write is answered.\n\n"
        "A size is a number of bytes, or a number with a unit: k, M, G or T, by powers of 1024; a B behind\n"
        "the unit changes nothing.\n",
        "", "", run_fileio_create},
    delete_storage};
constexpr std::array pscsi{
    Command{"create", "name dev",
            "Makes a storage object that passes commands on to a SCSI device: its path, or its H:C:T:L.\n",
            "", "", run_pscsi_create},
    delete_storage};
constexpr std::array ramdisk{
    Command{
        "create", "name size [nullio] [wwn]",
        "Makes a disk in memory. With nullio=true it keeps nothing.\n\n"
        "A size is a number of bytes, or a number with a unit: k, M, G or T, by powers of 1024; a B behind\n"
        "the unit changes nothing.\n",
        "", "", run_ramdisk_create},
    delete_storage};
constexpr std::array storage{
    Command{"info", "", "Shows what the storage object is made of.\n", "", "", run_storage_info},
    Command{"saveconfig", "[savefile]", "Writes the whole configuration to a file.\n", "savefile={savefile}",
            "", run_saveconfig},
    Command{"version", "", "Shows the version of the backing.\n", "", "", run_storage_version},
};
constexpr std::array alua_groups{
    Command{"create", "name tag", "Makes an ALUA target port group; `tag` is its number, from 1 to 65535.\n",
            "", "", run_alua_create},
    Command{"delete", "name", "Removes an ALUA group. Its LUNs go to the default group.\n", "", "",
            run_alua_delete},
};

constexpr std::array iscsi{
    Command{"create", "[wwn]",
            "Makes a target. `wwn` is its name, of the form iqn., naa. or eui.; without it one is made.\n",
            "", "info", run_iscsi_create},
    Command{"delete", "wwn", "Removes a target with all that lies below it.\n", "", "create",
            run_iscsi_delete},
    Command{"info", "", "Shows what kind of names the fabric takes, and what it can do.\n", "", "",
            run_iscsi_info},
    Command{"version", "", "Shows the version.\n", "", "", run_version},
};
constexpr std::array other_fabric{
    Command{"create", "[wwn]", "Is refused: Perilune serves iSCSI alone.\n", "", "info", run_fabric_create},
    Command{"delete", "wwn", "Is refused: there are no targets.\n", "", "create", run_fabric_create},
    Command{"info", "", "Says that the fabric is not served.\n", "", "", run_fabric_info},
    Command{"version", "", "Shows the version.\n", "", "", run_version},
};
constexpr std::array target{
    Command{
        "create", "[tag]",
        "Makes a portal group. `tag` is its number, with or without `tpg` before it; without it the lowest\n"
        "that is free.\n",
        "", "delete", run_target_create},
    Command{"delete", "tag", "Removes a portal group with all that lies below it.\n", "", "create",
            run_target_delete},
    Command{"info", "", "Shows the target.\n", "", "", run_target_info},
};
constexpr std::array portal_group{
    Command{"disable", "", "Nobody may log in any more, and sessions are closed. The configuration stays.\n",
            "", "enable status", run_disable},
    Command{"enable", "", "Lets initiators log in.\n", "", "disable status", run_enable},
    Command{"info", "", "Shows the portal group.\n", "", "", run_portal_group_info},
};
constexpr std::array acls{
    Command{"create", "wwn [add_mapped_luns]",
            "Lets an initiator in. With add_mapped_luns it sees every LUN of the portal group; without that\n"
            "parameter auto_add_mapped_luns decides.\n",
            "", "delete", run_acls_create},
    Command{"delete", "wwn", "Removes a node ACL, or all that have a tag.\n", "", "create", run_acls_delete},
    Command{"tag", "wwn_or_tag new_tag",
            "Gives node ACLs a name; those of one name are shown and changed as one.\n", "", "untag",
            run_acls_tag},
    Command{"untag", "wwn_or_tag", "Takes the name away again.\n", "", "tag", run_acls_untag},
};
constexpr std::array acl{
    Command{
        "create", "mapped_lun tpg_lun_or_backstore [write_protect]",
        "Shows the initiator a LUN of the portal group, under the number `mapped_lun`. In the place of a\n"
        "LUN may stand a storage object, or a file or device: what is missing is made.\n",
        "", "delete", run_acl_create},
    Command{"delete", "mapped_lun", "Takes a LUN away from the initiator.\n", "", "create", run_acl_delete},
    Command{"info", "", "Shows the initiators and their authentication. Secrets are masked.\n", "", "",
            run_acl_info},
};
constexpr std::array mapped_lun{
    Command{"info", "", "Shows the mapped LUN.\n", "", "", run_mapped_lun_info},
};
constexpr std::array luns{
    Command{
        "create", "storage_object [lun] [add_mapped_luns]",
        "Exports a storage object, named by its path. Where a file or a device is named, a storage object\n"
        "is made of it first. `lun` is the number, with or without `lun` before it; without it the lowest\n"
        "that is free. With add_mapped_luns every node ACL maps it; without that parameter\n"
        "auto_add_mapped_luns decides.\n",
        "", "delete", run_luns_create},
    Command{"delete", "lun", "Removes a LUN, and what maps it.\n", "", "create", run_luns_delete},
};
constexpr std::array lun{
    Command{"info", "", "Shows the LUN.\n", "", "", run_lun_info},
};
constexpr std::array portals{
    Command{"create", "[ip_address] [ip_port]",
            "Listens on an address, by default 0.0.0.0, and a port, by default 3260.\n", "", "delete",
            run_portals_create},
    Command{"delete", "ip_address ip_port", "Stops listening there.\n", "", "create", run_portals_delete},
};
constexpr std::array portal{
    Command{"enable_iser", "boolean", "iSER is not there: true is refused.\n", "", "", run_enable_iser},
    Command{"enable_offload", "boolean", "Hardware offload is not there: true is refused.\n", "", "",
            run_enable_offload},
};

std::span<const Command> own_commands(NodeKind kind) {
  switch (kind) {
    case NodeKind::root:
      return at_root;
    case NodeKind::storage:
      return storage;
    case NodeKind::alua_groups:
      return alua_groups;
    case NodeKind::iscsi:
      return iscsi;
    case NodeKind::other_fabric:
      return other_fabric;
    case NodeKind::target:
      return target;
    case NodeKind::portal_group:
      return portal_group;
    case NodeKind::acls:
      return acls;
    case NodeKind::acl:
      return acl;
    case NodeKind::mapped_lun:
      return mapped_lun;
    case NodeKind::luns:
      return luns;
    case NodeKind::lun:
      return lun;
    case NodeKind::portals:
      return portals;
    case NodeKind::portal:
      return portal;
    default:
      return {};
  }
}

std::span<const Command> storage_list_commands(model::Plugin plugin) {
  switch (plugin) {
    case model::Plugin::block:
      return block;
    case model::Plugin::fileio:
      return fileio;
    case model::Plugin::pscsi:
      return pscsi;
    case model::Plugin::ramdisk:
      break;
  }
  return ramdisk;
}

std::span<const Command> own_commands(const Node& node) {
  return node.kind == NodeKind::storage_list ? storage_list_commands(node.storage.plugin)
                                             : own_commands(node.kind);
}

}  // namespace

std::vector<Parameter> parameters_of(const Command& command) {
  std::vector<Parameter> parameters;
  std::string_view rest = command.parameters;
  while (!rest.empty()) {
    const auto end = std::min(rest.find(' '), rest.size());
    std::string_view word = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    Parameter parameter{word, !word.starts_with('['), false};
    if (!parameter.required) parameter.name = word.substr(1, word.size() - 2);
    if (parameter.name.ends_with("...")) {
      parameter.many = true;
      parameter.name.remove_suffix(3);
    }
    parameters.push_back(parameter);
  }
  return parameters;
}

std::vector<const Command*> commands_of(const Node& node) {
  std::vector<const Command*> all;
  for (const Command& command : everywhere) all.push_back(&command);
  for (const Command& command : own_commands(node)) all.push_back(&command);
  std::sort(all.begin(), all.end(), [](const Command* a, const Command* b) { return a->name < b->name; });
  return all;
}

const Command* find_command(const Node& node, std::string_view name) {
  for (const Command* const command : commands_of(node)) {
    if (command->name == name) return command;
  }
  return nullptr;
}

}  // namespace perilune::cli::targetcli
