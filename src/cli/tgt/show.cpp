// SPDX-License-Identifier: Apache-2.0
// tgtadm's listings. Their grammar is parsed by many; blanks and all are the original's.
#include <fmt/format.h>

#include <cmath>

#include "cli/tgt/tgtadm.hpp"

namespace perilune::cli::tgt {
namespace {

std::string_view yes_no(bool value) { return value ? "Yes" : "No"; }

// tgt counts in millions and rounds.
std::string megabytes(std::uint64_t bytes) {
  return fmt::format("{:.0f} MB", static_cast<double>(bytes) / 1e6);
}

struct UnitLines {
  std::uint32_t lun = 0;
  std::string type, id, serial, size, store, path, flags;
  std::string block_size;
  bool online = true, removable = false, readonly = false, thin = false;
};

std::string unit_text(const UnitLines& unit) {
  return fmt::format(
      "        LUN: {}\n            Type: {}\n            SCSI ID: {}\n            SCSI SN: {}\n            "
      "Size: {}, Block size: {}\n"
      "            Online: {}\n            Removable media: {}\n            Prevent removal: No\n            "
      "Readonly: {}\n            SWP: No\n"
      "            Thin-provisioning: {}\n            Backing store type: {}\n            Backing store "
      "path: {}\n"
      "            Backing store flags: {}\n",
      unit.lun, unit.type, unit.id, unit.serial, unit.size, unit.block_size, yes_no(unit.online),
      yes_no(unit.removable), yes_no(unit.readonly), yes_no(unit.thin), unit.store, unit.path, unit.flags);
}

UnitLines controller(std::uint32_t tid) {
  UnitLines unit;
  unit.type = "controller";
  unit.id = fmt::format("IET     {:04x}{:04x}", tid, 0);
  unit.serial = fmt::format("beaf{}0", tid);
  unit.size = "0 MB";
  unit.block_size = "1";
  unit.store = "null";
  unit.path = "None";
  return unit;
}

std::string_view store_of(const model::StorageKey& key, const model::StorageObject& object) {
  switch (key.plugin) {
    case model::Plugin::block:
    case model::Plugin::fileio:
      return "rdwr";
    case model::Plugin::pscsi:
      return "sg";
    case model::Plugin::ramdisk:
      break;
  }
  return object.nullio ? "null" : "ramdisk";
}

std::string text_of_unknown(const model::Unknown& unknown, const std::string& pointer) {
  const auto at = unknown.find(pointer);
  if (at == unknown.end()) return {};
  const auto json = targetd::Json::parse(at->second, nullptr, false);
  return json.is_string() ? json.get<std::string>() : std::string();
}

UnitLines unit_of(const targetd::Administration& administration, const model::LunKey& key,
                  const model::StorageKey& storage) {
  const auto& configuration = administration.configuration();
  const model::StorageObject& object = *configuration.find<model::StorageObject>(storage);
  const auto& table = model::storage_attributes(storage.plugin);
  const auto block_size = object.attributes.get(table, "block_size");
  UnitLines unit;
  unit.lun = key.index;
  unit.type = storage.plugin == model::Plugin::pscsi ? "passthrough" : "disk";
  unit.id = object.wwn.empty() ? model::path_of(storage) : model::lio_naa(object.wwn);
  unit.serial = object.wwn;
  unit.size = megabytes(administration.size_of(storage).value_or(object.size_bytes));
  unit.block_size =
      block_size ? std::string(*block_size)
                 : std::to_string(object.dev.empty() ? 512 : administration.probe(object.dev).block_size);
  unit.online = administration.healthy(storage);
  unit.readonly = object.readonly;
  unit.thin = object.attributes.get(table, "emulate_tpu") == "1";
  unit.store = text_of_unknown(object.unknown, "/tgt_bstype");
  if (unit.store.empty()) unit.store = store_of(storage, object);
  unit.path = object.dev.empty() ? "None" : object.dev;
  unit.flags = text_of_unknown(object.unknown, "/tgt_bsoflags");
  return unit;
}

std::string nexus_text(const targetd::SessionInfo& session) {
  std::string text = fmt::format("        I_T nexus: {}\n            Initiator: {} alias: {}\n", session.tsih,
                                 session.initiator, session.alias.empty() ? "none" : session.alias);
  for (const targetd::ConnectionInfo& connection : session.connections) {
    text += fmt::format("            Connection: {}\n                IP Address: {}\n", connection.cid,
                        connection.address);
  }
  return text;
}

std::string units_text(const targetd::Administration& administration, std::uint32_t tid,
                       const model::PortalGroupKey& group) {
  const auto& configuration = administration.configuration();
  std::string text;
  if (configuration.find<model::Lun>({group, 0}) == nullptr) text += unit_text(controller(tid));
  for (const auto& [key, lun] : configuration.below<model::Lun>(group))
    text += unit_text(unit_of(administration, key, lun.object));
  return text;
}

std::string access_text(const model::Configuration& configuration, const model::PortalGroupKey& key,
                        const model::PortalGroup& group) {
  std::string text = "    Account information:\n";
  if (!group.chap.userid.empty()) text += "        " + group.chap.userid + "\n";
  if (!group.chap.mutual_userid.empty()) text += "        " + group.chap.mutual_userid + " (outgoing)\n";
  text += "    ACL information:\n";
  if (group.attributes.number(model::group_attributes(), "generate_node_acls") != 0 &&
      group.initiator_addresses.empty())
    text += "        ALL\n";
  for (const std::string& address : group.initiator_addresses) text += "        " + address + "\n";
  for (const auto& [acl, value] : configuration.below<model::NodeAcl>(key))
    text += "        " + acl.initiator + "\n";
  return text;
}

std::string target_text(const targetd::Administration& administration, std::uint32_t tid,
                        const model::TargetKey& key) {
  const auto& configuration = administration.configuration();
  std::string text =
      fmt::format("Target {}: {}\n    System information:\n        Driver: iscsi\n", tid, key.wwn);
  const auto group_key = group_of(configuration, key);
  if (!group_key)
    return text +
           "        State: offline\n    I_T nexus information:\n    LUN information:\n    Account "
           "information:\n    ACL information:\n";
  const model::PortalGroup& group = *configuration.find<model::PortalGroup>(*group_key);
  text += fmt::format("        State: {}\n    I_T nexus information:\n", group.enable ? "ready" : "offline");
  if (const auto sessions = administration.sessions_of(*group_key)) {
    for (const targetd::SessionInfo& session : *sessions) text += nexus_text(session);
  }
  return text + "    LUN information:\n" + units_text(administration, tid, *group_key) +
         access_text(configuration, *group_key, group);
}

}  // namespace

std::string show_targets(const targetd::Administration& administration) {
  std::string text;
  for (const auto& [tid, key] : tids_of(administration.configuration()))
    text += target_text(administration, tid, key);
  return text;
}

std::string show_parameters(const model::Configuration& configuration, const model::PortalGroupKey& group) {
  const model::Settings& parameters = configuration.find<model::PortalGroup>(group)->parameters;
  const auto value = [&](std::string_view name) {
    return parameters.get(model::group_parameters(), name).value_or("");
  };
  std::string text = "nop_interval=0\nnop_count=0\n";
  for (const std::string_view name :
       {"MaxRecvDataSegmentLength", "HeaderDigest", "DataDigest", "InitialR2T", "MaxOutstandingR2T",
        "ImmediateData", "FirstBurstLength", "MaxBurstLength", "DataPDUInOrder", "DataSequenceInOrder",
        "ErrorRecoveryLevel", "IFMarker", "OFMarker", "DefaultTime2Wait", "DefaultTime2Retain", "OFMarkInt",
        "IFMarkInt", "MaxConnections"}) {
    text += fmt::format("{}={}\n", name, value(name));
  }
  return text + fmt::format(
                    "RDMAExtensions=No\nTargetRecvDataSegmentLength={0}\nInitiatorRecvDataSegmentLength={1}"
                    "\nMaxOutstandingUnexpectedPDUs=0\n"
                    "MaxXmitDataSegmentLength={1}\nMaxQueueCmd=128\n",
                    value("MaxRecvDataSegmentLength"), value("MaxXmitDataSegmentLength"));
}

std::string show_statistics(const targetd::Administration& administration,
                            const std::optional<model::TargetKey>& target, std::optional<std::uint16_t> lun) {
  std::string text =
      "tgt lun sid rd_subm(bytes,cmds) rd_done(bytes,cmds) wr_subm(bytes,cmds) wr_done(bytes,cmds) errs\n";
  const auto& configuration = administration.configuration();
  for (const auto& [tid, key] : tids_of(configuration)) {
    const auto group = group_of(configuration, key);
    if (!group || (target && *target != key)) continue;
    for (const auto& [lun_key, value] : configuration.below<model::Lun>(*group)) {
      if (lun && *lun != lun_key.index) continue;
      const auto counted = administration.io_counters(lun_key);
      if (!counted) continue;  // it is not served
      text += fmt::format("{0:3} {1:3}   0 {2:12} {3:6} {2:12} {3:6} {4:12} {5:6} {4:12} {5:6} {6:4}\n", tid,
                          lun_key.index, counted->read_bytes, counted->reads, counted->write_bytes,
                          counted->writes, counted->errors);
    }
  }
  return text;
}

std::string show_connections(const targetd::Administration& administration,
                             const model::PortalGroupKey& group) {
  std::string text;
  const auto sessions = administration.sessions_of(group);
  if (!sessions) return text;
  for (const targetd::SessionInfo& session : *sessions) {
    text += fmt::format("Session: {}\n", session.tsih);
    for (const targetd::ConnectionInfo& connection : session.connections) {
      text += fmt::format("    Connection: {}\n        Initiator: {}\n        IP Address: {}\n",
                          connection.cid, session.initiator, connection.address);
    }
  }
  return text;
}

std::string show_system() {
  return "System:\n    State: ready\n    debug: off\nLLDs:\n    iscsi: ready\nBacking stores:\n    sg\n    "
         "null\n    rdwr (bsoflags sync:direct)\n    aio\n"
         "Device types:\n    disk\n    passthrough\niSNS:\n    iSNS=Off\n    iSNSServerIP=\n    "
         "iSNSServerPort=3205\n    iSNSAccessControl=Off\n";
}

std::string show_drivers(const model::Configuration& configuration) {
  std::string text = "LLDs:\n    iscsi: ready\n";
  for (const auto& [tid, key] : tids_of(configuration))
    text += fmt::format("        Target {}: {}\n", tid, key.wwn);
  return text;
}

std::string dump(const model::Configuration& configuration) {
  const Tids tids = tids_of(configuration);
  std::string text = tids.empty() ? "" : "default-driver iscsi\n\n";
  for (const auto& [tid, key] : tids) {
    text += "<target " + key.wwn + ">\n";
    if (const auto group_key = group_of(configuration, key)) {
      const model::PortalGroup& group = *configuration.find<model::PortalGroup>(*group_key);
      for (const auto& [lun, value] : configuration.below<model::Lun>(*group_key)) {
        text += "\tbacking-store " + configuration.find<model::StorageObject>(value.object)->dev + "\n";
      }
      if (!group.chap.userid.empty())
        text += "\tincominguser " + group.chap.userid + " PLEASE_CORRECT_THE_PASSWORD\n";
      if (!group.chap.mutual_userid.empty())
        text += "\toutgoinguser " + group.chap.mutual_userid + " PLEASE_CORRECT_THE_PASSWORD\n";
      for (const std::string& address : group.initiator_addresses)
        text += "\tinitiator-address " + address + "\n";
      for (const auto& [acl, value] : configuration.below<model::NodeAcl>(*group_key))
        text += "\tinitiator-name " + acl.initiator + "\n";
    }
    text += "</target>\n\n";
  }
  return text;
}

}  // namespace perilune::cli::tgt
