// SPDX-License-Identifier: Apache-2.0
#include "control/serving/mapping.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/bytes.hpp"
#include "crypto/hash.hpp"

namespace perilune::control::serving {

using namespace config::target;

namespace {

std::string_view text_of(const Settings& settings, const FieldTable& table, std::string_view name) {
  return settings.get(table, name).value_or(std::string_view());
}

// A value that somebody has set; nullopt: it is the default.
std::optional<std::string_view> changed(const Settings& settings, std::string_view name) {
  for (const Settings::Entry& entry : settings.changed()) {
    if (entry.name == name) return entry.value;
  }
  return std::nullopt;
}

std::uint32_t number(std::string_view text) {
  std::uint32_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::vector<iscsi::Digest> digests(std::string_view text) {
  std::vector<iscsi::Digest> result;
  if (text.find("None") != std::string_view::npos) result.push_back(iscsi::Digest::none);
  if (text.find("CRC32C") != std::string_view::npos) result.push_back(iscsi::Digest::crc32c);
  return result;
}

// `required`: who cannot prove itself stays outside; where nobody has an account, everybody does.
target::AuthSpec auth_of(const Chap& chap, bool required, const SecretOf& secret_of) {
  target::AuthSpec auth;
  auth.allow_none = !required;
  const auto account = [&](const std::string& name,
                           const Password& password) -> std::optional<iscsi::ChapCredentials> {
    const std::string_view secret = secret_of(password);
    if (name.empty() || secret.empty()) return std::nullopt;
    return iscsi::ChapCredentials{name, crypto::Secret(secret)};
  };
  if (auto theirs = account(chap.userid, chap.password)) auth.accounts.push_back(std::move(*theirs));
  auth.target_account = account(chap.mutual_userid, chap.mutual_password);
  return auth;
}

iscsi::WantedParams params_of(const Settings& parameters, iscsi::WantedParams params) {
  const auto set = [&](std::string_view name, auto apply) {
    if (const auto value = changed(parameters, name)) apply(*value);
  };
  set("DataDigest", [&](std::string_view value) { params.data_digest = digests(value); });
  set("HeaderDigest", [&](std::string_view value) { params.header_digest = digests(value); });
  set("DataPDUInOrder", [&](std::string_view value) { params.data_pdu_in_order = value == "Yes"; });
  set("DataSequenceInOrder", [&](std::string_view value) { params.data_sequence_in_order = value == "Yes"; });
  params.initial_r2t = text_of(parameters, group_parameters(), "InitialR2T") == "Yes";
  set("ImmediateData", [&](std::string_view value) { params.immediate_data = value == "Yes"; });
  set("DefaultTime2Wait",
      [&](std::string_view value) { params.default_time2wait = static_cast<std::uint16_t>(number(value)); });
  set("DefaultTime2Retain", [&](std::string_view value) {
    params.default_time2retain = static_cast<std::uint16_t>(number(value));
  });
  set("ErrorRecoveryLevel", [&](std::string_view value) {
    params.error_recovery_level = static_cast<std::uint8_t>(number(value));
  });
  set("FirstBurstLength", [&](std::string_view value) {
    params.first_burst_length = std::min(params.first_burst_length, number(value));
  });
  set("MaxBurstLength", [&](std::string_view value) {
    params.max_burst_length = std::min(params.max_burst_length, number(value));
  });
  set("MaxConnections", [&](std::string_view value) {
    params.max_connections =
        static_cast<std::uint16_t>(std::min<std::uint32_t>(number(value), limits::max_session_connections));
  });
  set("MaxOutstandingR2T", [&](std::string_view value) {
    params.max_outstanding_r2t =
        static_cast<std::uint16_t>(std::min<std::uint32_t>(number(value), limits::max_outstanding_r2t));
  });
  set("MaxRecvDataSegmentLength", [&](std::string_view value) {
    params.max_recv_data_segment_length = std::min(params.max_recv_data_segment_length, number(value));
  });
  params.first_burst_length = std::min(params.first_burst_length, params.max_burst_length);
  return params;
}

// Of an ACL; nothing that nobody has set.
target::SessionRules session_rules_of(const Settings& attributes) {
  target::SessionRules rules;
  if (const auto value = changed(attributes, "nopin_timeout"))
    rules.ping_interval = std::chrono::seconds(number(*value));
  if (const auto value = changed(attributes, "nopin_response_timeout"))
    rules.ping_timeout = std::chrono::seconds(number(*value));
  return rules;
}

std::uint32_t command_window_of(const PortalGroup& group) {
  const auto depth = changed(group.attributes, "default_cmdsn_depth");
  return depth ? number(*depth) : 0;
}

target::NodeAcl acl_of(const Configuration& configuration, const NodeAclKey& key, const NodeAcl& acl,
                       const UnitOf& unit_of, const SecretOf& secret_of, bool group_requires) {
  target::NodeAcl result;
  result.initiator_name = key.initiator;
  const PortalGroup& group = *configuration.find<PortalGroup>(key.parent);
  const bool protects = group.attributes.number(group_attributes(), "prod_mode_write_protect") != 0;
  result.session = session_rules_of(acl.attributes);
  result.session.command_window = command_window_of(group);
  if (const auto level = changed(acl.attributes, "default_erl"))
    result.error_recovery_level = static_cast<std::uint8_t>(number(*level));
  for (const auto& [mapped_key, mapped] : configuration.below<MappedLun>(key)) {
    const LunKey lun_key{key.parent, mapped.tpg_lun};
    const Lun* const lun = configuration.find<Lun>(lun_key);
    const auto unit = lun != nullptr ? unit_of(lun_key, *lun) : std::nullopt;
    if (unit)
      result.luns.push_back(
          {.lun = mapped_key.index, .unit = *unit, .read_only = mapped.write_protect || protects});
  }
  const std::int64_t own = acl.attributes.number(acl_attributes(), "authentication");
  result.auth = auth_of(acl.chap, own < 0 ? group_requires : own != 0, secret_of);
  return result;
}

}  // namespace

std::string backing_of(const StorageKey& key, const StorageObject& object) {
  if (key.plugin != Plugin::ramdisk) return object.dev;
  return fmt::format("{}:{}", object.nullio ? "null" : "ram", object.size_bytes);
}

block::BackstoreOptions backing_options(const StorageKey& key, const StorageObject& object) {
  block::BackstoreOptions options;
  options.read_only = object.readonly;
  const std::string_view size = text_of(object.attributes, storage_attributes(key.plugin), "block_size");
  if (key.plugin != Plugin::block && !size.empty()) options.block_size_bytes = number(size);
  return options;
}

bool is_same_backing(const StorageObject& a, const StorageObject& b, Plugin plugin) {
  const StorageKey key{plugin, {}};
  return backing_of(key, a) == backing_of(key, b) && a.readonly == b.readonly && a.wwn == b.wwn &&
         backing_options(key, a).block_size_bytes == backing_options(key, b).block_size_bytes &&
         text_of(a.attributes, storage_attributes(plugin), "emulate_model_alias") ==
             text_of(b.attributes, storage_attributes(plugin), "emulate_model_alias");
}

scsi::UnitRules unit_rules_of(const StorageKey& key, const StorageObject& object) {
  scsi::UnitRules rules;
  if (key.plugin == Plugin::pscsi) return rules;
  const FieldTable& table = storage_attributes(key.plugin);
  const auto is_set = [&](std::string_view name) { return text_of(object.attributes, table, name) == "1"; };
  const auto limit = [&](std::string_view name) {
    const auto value = changed(object.attributes, name);
    return value ? number(*value) : 0;
  };
  rules.third_party_copy = is_set("emulate_3pc");
  rules.compare_and_write = is_set("emulate_caw");
  rules.reservations = is_set("emulate_pr");
  rules.force_unit_access = is_set("emulate_fua_write");
  rules.unmap = is_set("emulate_tpu");
  rules.unmap_by_write_same = is_set("emulate_tpws");
  rules.task_aborted_status = is_set("emulate_tas");
  rules.always_aptpl = is_set("force_pr_aptpl");
  switch (object.attributes.number(table, "emulate_ua_intlck_ctrl")) {
    case 1:
      rules.interlock = scsi::AttentionInterlock::keep;
      break;
    case 2:
      rules.interlock = scsi::AttentionInterlock::establish;
      break;
    default:
      break;
  }
  // A block device is what it is, but for what somebody has set.
  const bool device = key.plugin == Plugin::block;
  if (!device) rules.write_cache = is_set("emulate_write_cache");
  if (!device || changed(object.attributes, "is_nonrot")) rules.rotational = !is_set("is_nonrot");
  if (!device || changed(object.attributes, "unmap_zeroes_data"))
    rules.unmapped_reads_zeroes = is_set("unmap_zeroes_data");
  rules.max_unmap_blocks = limit("max_unmap_lba_count");
  rules.max_unmap_descriptors = limit("max_unmap_block_desc_count");
  rules.max_write_same_blocks = limit("max_write_same_len");
  rules.optimal_transfer_blocks = limit("optimal_sectors");
  rules.unmap_granularity_blocks = limit("unmap_granularity");
  rules.unmap_alignment_blocks = limit("unmap_granularity_alignment") & 0x7fff'ffffu;
  return rules;
}

scsi::UnitIdentity identity_of(const StorageKey& key, const StorageObject& object) {
  scsi::UnitIdentity identity;
  const std::string unique = object.wwn.empty() ? path_of(key) : object.wwn;
  if (const auto digest = crypto::hash(crypto::HashAlgorithm::sha256,
                                       {as_bytes(std::string_view("unit")), as_bytes(unique)})) {
    identity = scsi::UnitIdentity::from_id(load_be64(digest->data.data()) >> 4);
  }
  if (!object.wwn.empty()) {
    identity.serial = object.wwn;
    const std::string naa = lio_naa(object.wwn);
    auto& bytes = identity.naa6.emplace();
    for (std::size_t i = 0; i < bytes.size(); ++i)
      std::from_chars(&naa[2 * i], &naa[2 * i] + 2, bytes[i], 16);
  }
  if (text_of(object.attributes, storage_attributes(key.plugin), "emulate_model_alias") == "1")
    identity.product = key.name;
  return identity;
}

scsi::PortGroups port_groups_of(const Configuration& configuration, const TargetKey& target,
                                const StorageKey& object) {
  std::map<std::string, std::vector<std::uint16_t>> ports;  // by the name of the ALUA group
  for (const auto& [group, value] : configuration.below<PortalGroup>(target)) {
    const auto key = configuration.lun_of(group, object);
    const Lun* const lun = key ? configuration.find<Lun>(*key) : nullptr;
    const bool named = lun != nullptr && !lun->alua_group.empty();
    ports[named ? lun->alua_group : std::string(default_alua_group)].push_back(group.tag);
  }
  std::vector<scsi::PortGroup> groups;
  bool by_command = false;
  for (const auto& [key, value] : configuration.below<AluaGroup>(object)) {
    auto own = ports.find(key.name);
    if (own == ports.end()) continue;
    const auto state = value.parameters.number(alua_parameters(), "alua_access_state");
    groups.push_back({.id = value.id,
                      .state = static_cast<scsi::AccessState>(state),
                      .preferred = value.parameters.number(alua_parameters(), "preferred") != 0,
                      .ports = std::move(own->second)});
    by_command = by_command || (value.parameters.number(alua_parameters(), "alua_access_type") & 2) != 0;
    ports.erase(own);
  }
  for (auto& [name, left] : ports) {  // of an object without ALUA groups
    if (groups.empty()) groups.push_back({.id = 0, .ports = {}});
    groups.front().ports.insert(groups.front().ports.end(), left.begin(), left.end());
  }
  if (groups.empty()) groups.push_back({.id = 0, .ports = {}});
  return {std::move(groups), by_command};
}

void change_port_groups(const scsi::PortGroups& before, const scsi::PortGroups& wanted,
                        scsi::PortGroups& now) {
  std::vector<scsi::PortGroup> groups = wanted.all();
  for (scsi::PortGroup& group : groups) {
    const scsi::PortGroup* const asked = before.find(group.id);
    const scsi::PortGroup* const current = now.find(group.id);
    const bool as_asked = current != nullptr && asked != nullptr && asked->state == group.state;
    if (!as_asked && (current == nullptr || current->state != group.state)) continue;
    group.state = current->state;
    group.cause = current->cause;
  }
  now = scsi::PortGroups(std::move(groups), wanted.by_command());
}

std::string access_states_record(const StorageKey& key, const StorageObject& object) {
  if (key.plugin == Plugin::pscsi || object.wwn.empty()) return {};
  return "alua-" + identity_of(key, object).serial;
}

Changes changes_for_access_states(const Configuration& configuration, const StorageKey& key,
                                  const std::map<std::uint16_t, scsi::AccessState>& states) {
  Changes changes;
  for (const auto& [id, state] : states) {
    const auto group = configuration.alua_group_of(key, id);
    if (!group) continue;
    AluaGroup value = *configuration.find<AluaGroup>(*group);
    const auto wanted = std::to_string(static_cast<unsigned>(state));
    if (value.parameters.get(alua_parameters(), "alua_access_state") == wanted) continue;
    if (!value.parameters.set(alua_parameters(), "alua_access_state", wanted)) continue;
    changes.push_back(set<AluaGroup>(*group, std::move(value)));
  }
  return changes;
}

target::GroupRules rules_of(const Configuration& configuration, const PortalGroupKey& key,
                            const UnitOf& unit_of, const SecretOf& secret_of,
                            const iscsi::WantedParams& params) {
  const PortalGroup& group = *configuration.find<PortalGroup>(key);
  const auto attribute = [&](std::string_view name) {
    return group.attributes.number(group_attributes(), name) != 0;
  };
  target::GroupRules rules;
  rules.open = group.enable;
  rules.alias = std::string(changed(group.parameters, "TargetAlias").value_or(std::string_view()));
  rules.params = params_of(group.parameters, params);
  if (const auto level = changed(group.attributes, "default_erl"))
    rules.params->error_recovery_level = static_cast<std::uint8_t>(number(*level));
  if (const auto limit = changed(group.attributes, "login_timeout"))
    rules.login_timeout = std::chrono::seconds(number(*limit));
  rules.told_to_all = attribute("generate_node_acls") || attribute("demo_mode_discovery");
  rules.told_when_closed = !attribute("tpg_enabled_sendtargets");
  const bool required = attribute("authentication");
  rules.auth = auth_of(group.chap, required, secret_of);
  for (const std::string& text : group.initiator_addresses) {
    if (auto range = target::AddressRange::parse(text)) rules.access.networks.push_back(*range);
  }
  rules.access.demo_mode = attribute("generate_node_acls");
  rules.access.demo_session.command_window = command_window_of(group);
  auto& shown = rules.access.demo_luns.emplace();
  for (const auto& [lun_key, lun] : configuration.below<Lun>(key)) {
    if (const auto unit = unit_of(lun_key, lun)) {
      shown.push_back(
          {.lun = lun_key.index, .unit = *unit, .read_only = attribute("demo_mode_write_protect")});
    }
  }
  for (const auto& [acl_key, acl] : configuration.below<NodeAcl>(key)) {
    rules.access.acls.push_back(acl_of(configuration, acl_key, acl, unit_of, secret_of, required));
  }
  return rules;
}

target::AuthSpec discovery_auth_of(const Configuration& configuration, const SecretOf& secret_of) {
  const Discovery* const discovery = configuration.find<Discovery>({});
  if (discovery == nullptr || !discovery->enable) return {};
  return auth_of(discovery->chap, true, secret_of);
}

}  // namespace perilune::control::serving
