// SPDX-License-Identifier: Apache-2.0
#include "cli/targetcli/groups.hpp"

#include <algorithm>

namespace perilune::cli::targetcli {
namespace {

std::string_view type_of(const model::Field& field) {
  const bool numeric = field.kind == model::FieldKind::number ||
                       (field.kind == model::FieldKind::choice && field.choices.front() >= '0' &&
                        field.choices.front() <= '9');
  if (numeric) return "NUMBER";
  return field.kind == model::FieldKind::choice && field.choices == "Yes No" ? "YESNO" : "STRING";
}

std::vector<Row> rows_of_settings(const model::FieldTable& table, const model::Settings& settings) {
  std::vector<Row> rows;
  for (const model::Field& field : table.rows) {
    rows.push_back({std::string(field.name), std::string(settings.get(table, field.name).value_or("")),
                    type_of(field), false, std::string(description_of(field.name))});
  }
  return rows;
}

Row fixed(std::string name, std::string value) {
  Row row{std::move(name), std::move(value), "NUMBER", true, {}};
  row.description = description_of(row.name);
  return row;
}

// What LIO calls the hardware: read by scripts, of no effect.
std::vector<Row> storage_rows(const Call& call) {
  const model::StorageObject& object = *call.configuration().find<model::StorageObject>(call.node.storage);
  const auto& table = model::storage_attributes(call.node.storage.plugin);
  std::vector<Row> rows = rows_of_settings(table, object.attributes);
  std::string block_size = std::string(object.attributes.get(table, "block_size").value_or(""));
  if (block_size.empty() && !object.dev.empty()) {
    block_size = std::to_string(call.administration.probe(object.dev).block_size);
  }
  for (Row& row : rows) {
    if (row.name == "block_size" && row.value.empty()) row.value = block_size;
  }
  const bool unlimited =
      call.node.storage.plugin == model::Plugin::ramdisk || call.node.storage.plugin == model::Plugin::pscsi;
  rows.push_back(fixed("hw_block_size", block_size));
  rows.push_back(fixed("hw_max_sectors", unlimited ? "4294967288" : "16384"));
  rows.push_back(fixed("hw_pi_prot_type", "0"));
  rows.push_back(fixed("hw_queue_depth", call.node.storage.plugin == model::Plugin::pscsi ? "192" : "128"));
  return rows;
}

std::vector<Row> attribute_rows(const Call& call) {
  const auto& configuration = call.configuration();
  switch (call.node.kind) {
    case NodeKind::storage:
      return storage_rows(call);
    case NodeKind::portal_group:
      return rows_of_settings(model::group_attributes(),
                              configuration.find<model::PortalGroup>(call.node.group)->attributes);
    default:
      return rows_of_settings(model::acl_attributes(),
                              configuration.find<model::NodeAcl>(call.node.acls.front())->attributes);
  }
}

// The first of this initiator.
std::optional<targetd::SessionInfo> session_of(const Call& call) {
  auto sessions = call.administration.sessions_of(call.node.group);
  if (!sessions) return std::nullopt;
  const auto own = std::find_if(sessions->begin(), sessions->end(), [&](const targetd::SessionInfo& session) {
    return session.initiator == call.node.acls.front().initiator;
  });
  return own == sessions->end() ? std::nullopt : std::optional(std::move(*own));
}

// What its session has negotiated; or that there is none.
std::vector<Row> negotiated_rows(const Call& call) {
  const auto session = session_of(call);
  const auto value_of = [&](std::string_view name) -> std::string {
    if (!session) return "No Active iSCSI Session";
    const auto value = session->parameters.find(name);
    return value == session->parameters.end() ? std::string() : value->second;
  };
  std::vector<Row> rows;
  for (const std::string_view name :
       {"DataPDUInOrder", "DataSequenceInOrder", "DefaultTime2Retain", "DefaultTime2Wait",
        "ErrorRecoveryLevel", "FirstBurstLength", "ImmediateData", "InitialR2T", "MaxBurstLength",
        "MaxConnections", "MaxOutstandingR2T"}) {
    rows.push_back({std::string(name), value_of(name), "STRING", true, std::string(description_of(name))});
  }
  return rows;
}

std::vector<Row> chap_rows(const model::Chap& chap) {
  std::vector<Row> rows;
  const auto row = [&](std::string_view name, std::string value) {
    rows.push_back({std::string(name), std::move(value), "STRING", false, std::string(description_of(name))});
  };
  row("mutual_password", shown(chap.mutual_password));
  row("mutual_userid", chap.mutual_userid);
  row("password", shown(chap.password));
  row("userid", chap.userid);
  return rows;
}

std::vector<Row> discovery_rows(const Call& call) {
  const auto* const discovery = call.configuration().find<model::Discovery>({});
  std::vector<Row> rows = chap_rows(discovery == nullptr ? model::Chap{} : discovery->chap);
  rows.push_back({"enable", discovery != nullptr && discovery->enable ? "True" : "False", "BOOL", false,
                  std::string(description_of("enable"))});
  return rows;
}

std::vector<Row> auth_rows(const Call& call) {
  const auto& configuration = call.configuration();
  if (call.node.kind == NodeKind::portal_group) {
    return chap_rows(configuration.find<model::PortalGroup>(call.node.group)->chap);
  }
  return chap_rows(configuration.find<model::NodeAcl>(call.node.acls.front())->chap);
}

std::string members_of(const Call& call) {
  std::string text = "[";
  for (const model::LunKey& lun : call.configuration().luns_of(call.node.alua_group)) {
    text += (text.size() > 1 ? ", " : "") + ("'iSCSI/" + lun.parent.parent.wwn) + "/tpgt_" +
            std::to_string(lun.parent.tag) + "/lun_" + std::to_string(lun.index) + "'";
  }
  return text + "]";
}

std::vector<Row> alua_rows(const Call& call) {
  const auto& configuration = call.configuration();
  if (call.node.kind == NodeKind::lun) {
    const auto& lun = *configuration.find<model::Lun>({call.node.group, call.node.index});
    return {{"alua_tg_pt_gp_name", lun.alua_group, "STRING", false,
             std::string(description_of("alua_tg_pt_gp_name"))}};
  }
  const auto& group = *configuration.find<model::AluaGroup>(call.node.alua_group);
  std::vector<Row> rows = rows_of_settings(model::alua_parameters(), group.parameters);
  rows.push_back(fixed("alua_support_lba_dependent", "0"));
  rows.push_back(fixed("members", members_of(call)));
  rows.push_back(fixed("tg_pt_gp_id", std::to_string(group.id)));
  return rows;
}

std::vector<Row> global_rows(const Call& call) {
  std::vector<Row> rows;
  for (const Preference& row : preferences()) {
    rows.push_back({std::string(row.name), call.session.preference(row.name), type_name(row.type), false,
                    std::string(row.description)});
  }
  return rows;
}

std::vector<Row> unsorted_rows(const Call& call, std::string_view group) {
  if (group == "attribute") return attribute_rows(call);
  if (group == "auth") return auth_rows(call);
  if (group == "discovery_auth") return discovery_rows(call);
  if (group == "alua") return alua_rows(call);
  if (group == "global") return global_rows(call);
  if (call.node.kind == NodeKind::acl) return negotiated_rows(call);
  return rows_of_settings(model::group_parameters(),
                          call.configuration().find<model::PortalGroup>(call.node.group)->parameters);
}

}  // namespace

std::vector<std::string_view> groups_of(NodeKind kind) {
  switch (kind) {
    case NodeKind::storage:
      return {"global", "attribute"};
    case NodeKind::alua_group:
    case NodeKind::lun:
      return {"global", "alua"};
    case NodeKind::iscsi:
      return {"global", "discovery_auth"};
    case NodeKind::portal_group:
    case NodeKind::acl:
      return {"global", "parameter", "attribute", "auth"};
    default:
      return {"global"};
  }
}

std::vector<Row> rows_of(const Call& call, std::string_view group) {
  std::vector<Row> rows = unsorted_rows(call, group);
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.name < b.name; });
  return rows;
}

}  // namespace perilune::cli::targetcli
