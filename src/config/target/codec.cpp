// SPDX-License-Identifier: Apache-2.0
#include "config/target/codec.hpp"

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "config/portal.hpp"

namespace perilune::config::target {
namespace {

// A key as one token of a JSON pointer (RFC 6901 3).
std::string pointer_token(std::string_view key) {
  std::string out = "/";
  for (const char c : key) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out += c;
    }
  }
  return out;
}

// A value of a setting as text, or nothing when it has a type that no setting has.
std::optional<std::string> setting_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "1" : "0";
  if (value.is_number_integer()) return value.dump();
  return std::nullopt;
}

Json setting_json(const FieldTable& table, std::string_view text) {
  if (table.written_as_text) return Json(text);
  return Json::parse(text);  // a number: the table's rows are checked
}

void write_settings(Json& out, const FieldTable& table, const Settings& settings, Form form) {
  if (form == Form::changed) {
    for (const auto& entry : settings.changed())
      out[std::string(entry.name)] = setting_json(table, entry.value);
    return;
  }
  for (const Field& row : table.rows) {
    if (const auto value = settings.get(table, row.name))
      out[std::string(row.name)] = setting_json(table, *value);
  }
}

Json settings_json(const FieldTable& table, const Settings& settings, Form form) {
  Json out = Json::object();
  write_settings(out, table, settings, form);
  return out;
}

// A reference is no password to LIO, which must not take it for one: it has a key that LIO does not know.
void write_password(Json& out, const std::string& key, const Password& password) {
  if (!password.reference().empty()) out[key + "_from"] = password.reference();
  if (password.size() != 0) out[key] = password.reveal();
}

void write_chap(Json& out, const std::string& prefix, const Chap& chap) {
  if (!chap.userid.empty()) out[prefix + "userid"] = chap.userid;
  write_password(out, prefix + "password", chap.password);
  if (!chap.mutual_userid.empty()) out[prefix + "mutual_userid"] = chap.mutual_userid;
  write_password(out, prefix + "mutual_password", chap.mutual_password);
}

void write_unknown(Json& out, const Unknown& unknown) {
  for (const auto& [pointer, text] : unknown) {
    // Ours: written by ObjectReader from what was parsed. The value is kept as text so that nothing reads it
    // by mistake.
    out[Json::json_pointer(pointer)] = Json::parse(text, nullptr, false);
  }
}

}  // namespace

void Warnings::add(std::string warning) {
  if (shown_.size() < max_shown) {
    shown_.push_back(std::move(warning));
  } else {
    ++more_;
  }
}

std::vector<std::string> Warnings::take() {
  if (more_ > 0) shown_.push_back("and " + std::to_string(more_) + " more");
  more_ = 0;
  return std::exchange(shown_, {});
}

// ---- ObjectReader

ObjectReader::ObjectReader(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
  if (!json.is_object()) fail_with("must be a JSON object");
}

void ObjectReader::fail_with(std::string message) {
  if (status_) status_ = fail(Errc::invalid_argument, where_ + ": " + std::move(message));
}

const Json* ObjectReader::take(const char* key) {
  known_.emplace(key);
  if (!json_.is_object()) return nullptr;
  const auto at = json_.find(key);
  return at == json_.end() || at->is_null() ? nullptr : &*at;
}

const Json* ObjectReader::take_array(const char* key) {
  const Json* const value = take(key);
  if (value == nullptr || value->is_array()) return value;
  fail_with(std::string(key) + " must be a list");
  return nullptr;
}

void ObjectReader::require(const char* key) {
  if (take(key) == nullptr) fail_with(std::string(key) + " is missing; add it");
}

void ObjectReader::text(const char* key, std::string& out) {
  const Json* const value = take(key);
  if (value == nullptr) return;
  if (!value->is_string()) return fail_with(std::string(key) + " must be a text in quotes");
  out = value->get<std::string>();
}

void ObjectReader::flag(const char* key, bool& out) {
  const Json* const value = take(key);
  if (value == nullptr) return;
  if (value->is_boolean()) {
    out = value->get<bool>();
  } else if (value->is_number_integer() && (*value == 0 || *value == 1)) {
    out = *value == 1;
  } else {
    fail_with(std::string(key) + " must be true or false");
  }
}

void ObjectReader::number(const char* key, std::uint64_t& out, std::uint64_t max) {
  const Json* const value = take(key);
  if (value == nullptr) return;
  const bool natural =
      value->is_number_unsigned() || (value->is_number_integer() && value->get<std::int64_t>() >= 0);
  if (!natural || value->get<std::uint64_t>() > max) {
    return fail_with(std::string(key) + " must be a number from 0 to " + std::to_string(max));
  }
  out = value->get<std::uint64_t>();
}

void ObjectReader::number(const char* key, std::uint16_t& out) {
  std::uint64_t wide = out;
  number(key, wide, 65535);
  out = static_cast<std::uint16_t>(wide);
}

void ObjectReader::password(const std::string& key, Password& out) {
  std::string from;
  text((key + "_from").c_str(), from);
  const Json* const value = take(key.c_str());
  if (value != nullptr && !from.empty()) return fail_with(key + " and " + key + "_from: only one can be");
  if (!from.empty()) {
    out = Password::typed(from);
    if (out.reference().empty()) fail_with(key + "_from must be @file:PATH or @credential:NAME");
    return;
  }
  if (value == nullptr) return;
  if (!value->is_string()) return fail_with(key + " must be a text in quotes");
  out = Password(value->get_ref<const std::string&>());
}

void ObjectReader::chap(const std::string& prefix, Chap& out) {
  text((prefix + "userid").c_str(), out.userid);
  password(prefix + "password", out.password);
  text((prefix + "mutual_userid").c_str(), out.mutual_userid);
  password(prefix + "mutual_password", out.mutual_password);
}

void ObjectReader::take_setting(const std::string& pointer, const std::string& name, const Json& value,
                                const FieldTable& table, Settings& out) {
  if (table.find(name) == nullptr) {
    unknown_.emplace(pointer, write_json(value, -1));
    return;
  }
  if (value.is_null()) return;
  const auto text = setting_text(value);
  if (!text) return fail_with(name + " must be a number or a text");
  const auto taken = out.set(table, name, *text);
  if (!taken) fail_with(taken.error().message);
}

void ObjectReader::settings(const char* key, const FieldTable& table, Settings& out) {
  const Json* const group = take(key);
  if (group == nullptr) return;
  if (!group->is_object()) return fail_with(std::string(key) + " must be a JSON object");
  for (const auto& [name, value] : group->items()) {
    take_setting(pointer_token(key) + pointer_token(name), name, value, table, out);
  }
}

void ObjectReader::settings_here(const FieldTable& table, Settings& out) {
  for (const Field& row : table.rows) {
    const std::string name(row.name);
    if (const Json* const value = take(name.c_str()))
      take_setting(pointer_token(name), name, *value, table, out);
  }
}

Status ObjectReader::finish(Unknown& unknown, Warnings& warnings) {
  if (!status_) return status_;
  for (const auto& [name, value] : json_.items()) {
    if (!known_.contains(name)) unknown_.emplace(pointer_token(name), write_json(value, -1));
  }
  for (const auto& [pointer, text] : unknown_) {
    warnings.add(where_ + ": " + pointer.substr(1) + " is not known here; kept");
  }
  unknown = std::move(unknown_);
  return {};
}

// ---- own values

Json to_json(const ForeignKey&, const Foreign& value, Form) { return {{"json", value.json}}; }
void from_json(const ForeignKey&, ObjectReader& reader, Foreign& out) { reader.text("json", out.json); }

Json to_json(const DiscoveryKey&, const Discovery& value, Form) {
  Json out = {{"discovery_enable_auth", value.enable}};
  write_chap(out, "discovery_", value.chap);
  write_unknown(out, value.unknown);
  return out;
}
void from_json(const DiscoveryKey&, ObjectReader& reader, Discovery& out) {
  reader.flag("discovery_enable_auth", out.enable);
  reader.chap("discovery_", out.chap);
}

Json to_json(const StorageKey& key, const StorageObject& value, Form form) {
  Json out = {{"attributes", settings_json(storage_attributes(key.plugin), value.attributes, form)}};
  const bool file = key.plugin == Plugin::fileio;
  const bool device = key.plugin == Plugin::block;
  if (key.plugin != Plugin::ramdisk) out["dev"] = value.dev;
  if (key.plugin != Plugin::pscsi) out["wwn"] = value.wwn;
  if (key.plugin == Plugin::ramdisk || (file && value.size_bytes != 0)) out["size"] = value.size_bytes;
  if (file || device) out["write_back"] = value.write_back;
  if (device || value.readonly) out["readonly"] = value.readonly;
  if (file) out["aio"] = value.aio;
  if (value.nullio) out["nullio"] = true;
  write_unknown(out, value.unknown);
  return out;
}
void from_json(const StorageKey& key, ObjectReader& reader, StorageObject& out) {
  reader.settings("attributes", storage_attributes(key.plugin), out.attributes);
  reader.text("dev", out.dev);
  reader.text("wwn", out.wwn);
  reader.number("size", out.size_bytes, INT64_MAX);
  reader.flag("write_back", out.write_back);
  reader.flag("readonly", out.readonly);
  reader.flag("nullio", out.nullio);
  reader.flag("aio", out.aio);
}

Json to_json(const AluaGroupKey&, const AluaGroup& value, Form form) {
  Json out = settings_json(alua_parameters(), value.parameters, form);
  out["tg_pt_gp_id"] = value.id;
  write_unknown(out, value.unknown);
  return out;
}
void from_json(const AluaGroupKey&, ObjectReader& reader, AluaGroup& out) {
  reader.number("tg_pt_gp_id", out.id);
  reader.settings_here(alua_parameters(), out.parameters);
}

Json to_json(const TargetKey&, const Target& value, Form form) {
  Json out = {{"parameters", settings_json(target_parameters(), value.parameters, form)}};
  write_unknown(out, value.unknown);
  return out;
}
void from_json(const TargetKey&, ObjectReader& reader, Target& out) {
  reader.settings("parameters", target_parameters(), out.parameters);
}

Json to_json(const PortalGroupKey&, const PortalGroup& value, Form form) {
  Json out = {{"attributes", settings_json(group_attributes(), value.attributes, form)},
              {"parameters", settings_json(group_parameters(), value.parameters, form)},
              {"enable", value.enable}};
  write_chap(out, "chap_", value.chap);
  if (!value.initiator_addresses.empty()) out["tgt_initiator_addresses"] = value.initiator_addresses;
  write_unknown(out, value.unknown);
  return out;
}
void from_json(const PortalGroupKey&, ObjectReader& reader, PortalGroup& out) {
  reader.settings("attributes", group_attributes(), out.attributes);
  reader.settings("parameters", group_parameters(), out.parameters);
  reader.flag("enable", out.enable);
  reader.chap("chap_", out.chap);
  const Json* const addresses = reader.take_array("tgt_initiator_addresses");
  for (std::size_t i = 0; addresses != nullptr && i < addresses->size(); ++i) {
    if (!(*addresses)[i].is_string()) return reader.fail_with("tgt_initiator_addresses must be text");
    out.initiator_addresses.push_back((*addresses)[i].get<std::string>());
  }
}

Json to_json(const PortalKey&, const Portal& value, Form) {
  Json out = {{"iser", value.iser}, {"offload", value.offload}};
  write_unknown(out, value.unknown);
  return out;
}
void from_json(const PortalKey&, ObjectReader& reader, Portal& out) {
  reader.flag("iser", out.iser);
  reader.flag("offload", out.offload);
}

Json to_json(const LunKey&, const Lun& value, Form) {
  Json out = {{"storage_object", path_of(value.object)}};
  out["alua_tg_pt_gp_name"] =
      value.alua_group.empty() ? Json() : Json(value.alua_group);  // null for pscsi, as rtslib
  if (!value.alias.empty()) out["alias"] = value.alias;
  write_unknown(out, value.unknown);
  return out;
}
void from_json(const LunKey&, ObjectReader& reader, Lun& out) {
  std::string path;
  reader.require("storage_object");
  reader.text("storage_object", path);
  auto object = parse_storage_path(path);
  if (object) {
    out.object = std::move(*object);
  } else {
    reader.fail_with(object.error().message);
  }
  reader.text("alua_tg_pt_gp_name", out.alua_group);
  reader.text("alias", out.alias);
}

Json to_json(const NodeAclKey&, const NodeAcl& value, Form form) {
  Json out = {{"attributes", settings_json(acl_attributes(), value.attributes, form)}};
  if (!value.tag.empty()) out["tag"] = value.tag;
  write_chap(out, "chap_", value.chap);
  write_unknown(out, value.unknown);
  return out;
}
void from_json(const NodeAclKey&, ObjectReader& reader, NodeAcl& out) {
  reader.settings("attributes", acl_attributes(), out.attributes);
  reader.text("tag", out.tag);
  reader.chap("chap_", out.chap);
}

Json to_json(const MappedLunKey&, const MappedLun& value, Form) {
  Json out = {{"tpg_lun", value.tpg_lun}, {"write_protect", value.write_protect}};
  if (!value.alias.empty()) out["alias"] = value.alias;
  write_unknown(out, value.unknown);
  return out;
}
void from_json(const MappedLunKey&, ObjectReader& reader, MappedLun& out) {
  reader.require("tpg_lun");
  reader.number("tpg_lun", out.tpg_lun);
  reader.flag("write_protect", out.write_protect);
  reader.text("alias", out.alias);
}

Result<StorageKey> parse_storage_path(std::string_view path) {
  constexpr std::string_view root = "/backstores/";
  const auto slash = path.starts_with(root) ? path.find('/', root.size()) : std::string_view::npos;
  if (slash == std::string_view::npos) {
    return fail(Errc::invalid_argument, "storage_object must be /backstores/PLUGIN/NAME");
  }
  const std::string_view plugin_name = path.substr(root.size(), slash - root.size());
  const auto plugin = parse_plugin(plugin_name);
  if (!plugin) {
    return fail(Errc::unsupported, "storage objects of plugin '" + std::string(plugin_name.substr(0, 64)) +
                                       "' are not served here; take the LUN out");
  }
  return StorageKey{*plugin, std::string(path.substr(slash + 1))};
}

// ---- changes

namespace {

Json key_json(const ForeignKey& key) { return {{"place", key.place}, {"name", key.name}}; }
Json key_json(const DiscoveryKey&) { return Json::object(); }
Json key_json(const StorageKey& key) { return {{"plugin", to_string(key.plugin)}, {"name", key.name}}; }
Json key_json(const TargetKey& key) { return {{"target", key.wwn}}; }
Json with(Json parent, const char* name, Json value) {
  parent[name] = std::move(value);
  return parent;
}
Json key_json(const AluaGroupKey& key) { return with(key_json(key.parent), "group", key.name); }
Json key_json(const PortalGroupKey& key) { return with(key_json(key.parent), "tag", key.tag); }
Json key_json(const PortalKey& key) {
  return with(with(key_json(key.parent), "address", key.address), "port", key.port);
}
Json key_json(const LunKey& key) { return with(key_json(key.parent), "lun", key.index); }
Json key_json(const NodeAclKey& key) { return with(key_json(key.parent), "initiator", key.initiator); }
Json key_json(const MappedLunKey& key) { return with(key_json(key.parent), "mapped_lun", key.index); }

void need_text(ObjectReader& reader, const char* name, std::string& out) {
  reader.require(name);
  reader.text(name, out);
}
void need_number(ObjectReader& reader, const char* name, std::uint16_t& out) {
  reader.require(name);
  reader.number(name, out);
}

void read_key(ObjectReader& reader, ForeignKey& key) {
  need_text(reader, "place", key.place);
  need_text(reader, "name", key.name);
}
void read_key(ObjectReader&, DiscoveryKey&) {}
void read_key(ObjectReader& reader, StorageKey& key) {
  std::string plugin_name;
  need_text(reader, "plugin", plugin_name);
  need_text(reader, "name", key.name);
  if (const auto plugin = parse_plugin(plugin_name)) {
    key.plugin = *plugin;
  } else {
    reader.fail_with("plugin is not known");
  }
}
void read_key(ObjectReader& reader, TargetKey& key) { need_text(reader, "target", key.wwn); }
void read_key(ObjectReader& reader, AluaGroupKey& key) {
  read_key(reader, key.parent);
  need_text(reader, "group", key.name);
}
void read_key(ObjectReader& reader, PortalGroupKey& key) {
  read_key(reader, key.parent);
  need_number(reader, "tag", key.tag);
}
void read_key(ObjectReader& reader, PortalKey& key) {
  read_key(reader, key.parent);
  need_text(reader, "address", key.address);
  need_number(reader, "port", key.port);
}
void read_key(ObjectReader& reader, LunKey& key) {
  read_key(reader, key.parent);
  need_number(reader, "lun", key.index);
}
void read_key(ObjectReader& reader, NodeAclKey& key) {
  read_key(reader, key.parent);
  need_text(reader, "initiator", key.initiator);
}
void read_key(ObjectReader& reader, MappedLunKey& key) {
  read_key(reader, key.parent);
  need_number(reader, "mapped_lun", key.index);
}

template <class Object>
constexpr std::string_view kind_of();
template <>
constexpr std::string_view kind_of<Foreign>() {
  return "foreign";
}
template <>
constexpr std::string_view kind_of<Discovery>() {
  return "discovery";
}
template <>
constexpr std::string_view kind_of<StorageObject>() {
  return "storage_object";
}
template <>
constexpr std::string_view kind_of<AluaGroup>() {
  return "alua_group";
}
template <>
constexpr std::string_view kind_of<Target>() {
  return "target";
}
template <>
constexpr std::string_view kind_of<PortalGroup>() {
  return "portal_group";
}
template <>
constexpr std::string_view kind_of<Portal>() {
  return "portal";
}
template <>
constexpr std::string_view kind_of<Lun>() {
  return "lun";
}
template <>
constexpr std::string_view kind_of<NodeAcl>() {
  return "node_acl";
}
template <>
constexpr std::string_view kind_of<MappedLun>() {
  return "mapped_lun";
}

std::string_view action_word(Action action) {
  return action == Action::add ? "add" : action == Action::set ? "set" : "remove";
}
std::optional<Action> parse_action(std::string_view word) {
  for (const Action action : {Action::add, Action::set, Action::remove}) {
    if (action_word(action) == word) return action;
  }
  return std::nullopt;
}

// What an element of saveconfig.json has beside the values of its object: its key, and the lists of what is
// below it. Among values that are only kept, the file would have them twice.
constexpr std::array<std::string_view, 0> places_of(const Foreign*) { return {}; }
constexpr std::array<std::string_view, 1> places_of(const Discovery*) { return {"name"}; }
constexpr std::array<std::string_view, 3> places_of(const StorageObject*) {
  return {"name", "plugin", "alua_tpgs"};
}
constexpr std::array<std::string_view, 1> places_of(const AluaGroup*) { return {"name"}; }
constexpr std::array<std::string_view, 3> places_of(const Target*) { return {"fabric", "wwn", "tpgs"}; }
constexpr std::array<std::string_view, 4> places_of(const PortalGroup*) {
  return {"tag", "luns", "portals", "node_acls"};
}
constexpr std::array<std::string_view, 1> places_of(const Lun*) { return {"index"}; }
constexpr std::array<std::string_view, 2> places_of(const Portal*) { return {"ip_address", "port"}; }
constexpr std::array<std::string_view, 2> places_of(const NodeAcl*) { return {"node_wwn", "mapped_luns"}; }
constexpr std::array<std::string_view, 1> places_of(const MappedLun*) { return {"index"}; }

void keep_unknown(Foreign&, Unknown) {}
template <class Object>
void keep_unknown(Object& object, Unknown unknown) {
  object.unknown = std::move(unknown);
}

template <class Object>
Result<Change> read_change(Action action, const Json& key_part, const Json* value_part) {
  ChangeOf<Object> change{action, {}, {}};
  Warnings ignored;
  Unknown unknown;
  ObjectReader key(key_part, "key");
  read_key(key, change.key);
  if (auto done = key.finish(unknown, ignored); !done) return tl::unexpected<Error>(std::move(done.error()));
  if (!unknown.empty()) return fail(Errc::invalid_argument, "key: has parts that are not known");
  if (action == Action::remove) return Change(std::move(change));
  if (value_part == nullptr) return fail(Errc::invalid_argument, "value is missing");
  ObjectReader value(*value_part, "value");
  from_json(change.key, value, change.value);
  if (auto done = value.finish(unknown, ignored); !done)
    return tl::unexpected<Error>(std::move(done.error()));
  for (const std::string_view name : places_of(&change.value)) {
    if (unknown.contains(pointer_token(name)))
      return fail(
          Errc::invalid_argument,
          "value: " + std::string(name) + " is not a value; it is part of the key, or an object of its own");
  }
  keep_unknown(change.value, std::move(unknown));
  return Change(std::move(change));
}

// Tries the alternatives of Change by their names.
template <std::size_t Index = 0>
Result<Change> read_kind(std::string_view kind, Action action, const Json& key, const Json* value) {
  if constexpr (Index == std::variant_size_v<Change>) {
    return fail(Errc::invalid_argument, "kind is not known");
  } else {
    using Object = decltype(std::variant_alternative_t<Index, Change>::value);
    if (kind_of<Object>() == kind) return read_change<Object>(action, key, value);
    return read_kind<Index + 1>(kind, action, key, value);
  }
}

}  // namespace

Json change_to_json(const Change& change) {
  return std::visit(
      []<class Object>(const ChangeOf<Object>& step) {
        Json out = {
            {"do", action_word(step.action)}, {"kind", kind_of<Object>()}, {"key", key_json(step.key)}};
        if (step.action != Action::remove) out["value"] = to_json(step.key, step.value, Form::changed);
        return out;
      },
      change);
}

Result<Change> change_from_json(const Json& json) {
  ObjectReader reader(json, "change");
  std::string action_text;
  std::string kind;
  need_text(reader, "do", action_text);
  need_text(reader, "kind", kind);
  reader.require("key");
  const Json* const key = reader.take("key");
  const Json* const value = reader.take("value");
  Unknown unknown;
  Warnings ignored;
  if (auto done = reader.finish(unknown, ignored); !done)
    return tl::unexpected<Error>(std::move(done.error()));
  const auto action = parse_action(action_text);
  if (!action || !unknown.empty())
    return fail(Errc::invalid_argument, "change: is not add, set or remove of an object");
  return read_kind(kind, *action, *key, value);
}

}  // namespace perilune::config::target
