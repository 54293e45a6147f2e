// SPDX-License-Identifier: Apache-2.0
#include "config/target/saveconfig.hpp"

#include <utility>

#include "base/limits.hpp"
#include "config/target/codec.hpp"
#include "iscsi/names/names.hpp"

namespace perilune::config::target {
namespace {

constexpr const char* served_fabric = "iscsi";

// A member of a list's element as text, for a name in a message before the element is read.
std::string peek(const Json& element, const char* key) {
  if (!element.is_object()) return {};
  const auto at = element.find(key);
  if (at == element.end()) return {};
  if (at->is_string()) return at->get<std::string>();
  return at->is_number_integer() ? at->dump() : std::string();
}

class Reader {
 public:
  Result<LoadedSaveconfig> run(const Json& document) {
    read_document(document);
    if (!status_) return tl::unexpected<Error>(std::move(status_.error()));
    return LoadedSaveconfig{std::move(configuration_), warnings_.take()};
  }

 private:
  void read_document(const Json& document) {
    ObjectReader reader(document, "saveconfig.json");
    const Json* const storage = reader.take_array("storage_objects");
    const Json* const fabrics = reader.take_array("fabric_modules");
    const Json* const targets = reader.take_array("targets");
    Unknown unknown;
    accept(reader.finish(unknown, warnings_));
    for (auto& [pointer, text] : unknown) add_foreign("document", pointer.substr(1), std::move(text));
    each(fabrics, [this](const Json& element) { read_fabric(element); });
    each(storage, [this](const Json& element) { read_storage(element); });
    each(targets, [this](const Json& element) { read_target(element); });
  }

  template <class Read>
  void each(const Json* list, Read read) {
    if (list == nullptr) return;
    for (const Json& element : *list) {
      if (!status_) return;
      read(element);
    }
  }

  void read_fabric(const Json& element) {
    ObjectReader reader(element, "fabric_modules");
    std::string name;
    reader.require("name");
    reader.text("name", name);
    if (!name.empty() && name != served_fabric) return keep_foreign("fabric_modules", name, element);
    add_read(DiscoveryKey{}, Discovery{}, reader);
  }

  void read_storage(const Json& element) {
    const std::string plugin_name = peek(element, "plugin");
    const std::string name = peek(element, "name");
    const auto plugin = parse_plugin(plugin_name);
    ObjectReader reader(element, "storage object " + plugin_name + "/" + name);
    reader.require("name");
    reader.require("plugin");
    if (!plugin && !plugin_name.empty() && !name.empty()) {
      return keep_foreign("storage_objects", plugin_name + "/" + name, element);
    }
    const StorageKey key{plugin.value_or(Plugin::block), name};
    const Json* const groups = reader.take_array("alua_tpgs");
    add_read(key, StorageObject{}, reader);
    each(groups, [&](const Json& group) { read_alua_group(key, group); });
  }

  void read_alua_group(const StorageKey& object, const Json& element) {
    const AluaGroupKey key{object, peek(element, "name")};
    ObjectReader reader(element, path_of(key));
    reader.require("name");
    reader.require("tg_pt_gp_id");
    add_read(key, AluaGroup{}, reader);
  }

  // The name as the configuration has it; an error when it is none.
  std::string node_name(const std::string& written, const std::string& where) {
    auto normal = iscsi::normalize_name(written);
    if (normal) return std::move(*normal);
    accept(
        fail(Errc::invalid_argument, where + " '" + written.substr(0, 224) + "': " + normal.error().message));
    return {};
  }

  void read_target(const Json& element) {
    const std::string wwn = peek(element, "wwn");
    const std::string fabric = peek(element, "fabric");
    ObjectReader reader(element, "target " + wwn);
    reader.require("wwn");
    reader.require("fabric");
    if (!fabric.empty() && fabric != served_fabric)
      return keep_foreign("targets", fabric + "/" + wwn, element);
    const TargetKey key{wwn.empty() ? wwn : node_name(wwn, "target")};
    const Json* const groups = reader.take_array("tpgs");
    add_read(key, Target{}, reader);
    each(groups, [&](const Json& group) { read_group(key, group); });
  }

  void read_group(const TargetKey& target, const Json& element) {
    ObjectReader reader(element, path_of(target) + "/tpg" + peek(element, "tag"));
    PortalGroupKey key{target, 0};
    reader.require("tag");
    reader.number("tag", key.tag);
    const Json* const luns = reader.take_array("luns");
    const Json* const portals = reader.take_array("portals");
    const Json* const acls = reader.take_array("node_acls");
    PortalGroup group;
    add_read(key, group, reader);
    each(luns, [&](const Json& lun) { read_lun(key, lun); });
    each(portals, [&](const Json& portal) { read_portal(key, portal); });
    each(acls, [&](const Json& acl) { read_acl(key, acl); });
  }

  void read_lun(const PortalGroupKey& group, const Json& element) {
    ObjectReader reader(element, path_of(group) + "/luns/lun" + peek(element, "index"));
    LunKey key{group, 0};
    reader.require("index");
    reader.number("index", key.index);
    add_read(key, Lun{}, reader);
  }

  void read_portal(const PortalGroupKey& group, const Json& element) {
    ObjectReader reader(element, path_of(group) + "/portals/" + peek(element, "ip_address"));
    PortalKey key{group, {}, 0};
    std::string address;
    reader.require("ip_address");
    reader.text("ip_address", address);
    reader.require("port");
    reader.number("port", key.port);
    auto normal = normal_address(address);
    if (normal) {
      key.address = std::move(*normal);
    } else {
      reader.fail_with(normal.error().message);
    }
    add_read(key, Portal{}, reader);
  }

  void read_acl(const PortalGroupKey& group, const Json& element) {
    const std::string written = peek(element, "node_wwn");
    ObjectReader reader(element, path_of(group) + "/acls/" + written);
    reader.require("node_wwn");
    const NodeAclKey key{group, written.empty() ? written : node_name(written, "node ACL")};
    const Json* const mapped = reader.take_array("mapped_luns");
    add_read(key, NodeAcl{}, reader);
    each(mapped, [&](const Json& lun) { read_mapped_lun(key, lun); });
  }

  void read_mapped_lun(const NodeAclKey& acl, const Json& element) {
    ObjectReader reader(element, path_of(acl) + "/mapped_lun" + peek(element, "index"));
    MappedLunKey key{acl, 0};
    reader.require("index");
    reader.number("index", key.index);
    add_read(key, MappedLun{}, reader);
  }

  // Reads the rest of the element into `value` and adds it.
  template <class Key, class Object>
  void add_read(const Key& key, Object value, ObjectReader& reader) {
    from_json(key, reader, value);
    Unknown unknown;
    accept(reader.finish(unknown, warnings_));
    if (!status_) return;
    value.unknown = std::move(unknown);
    warn_of_weakness(key, value);
    accept_change(configuration_.apply(add<Object>(key, std::move(value))));
  }

  template <class Key, class Object>
  void warn_of_weakness(const Key& key, const Object& value) {
    if constexpr (requires { value.chap; }) {
      const auto weak = [](const Password& p) {
        return p.size() != 0 && p.size() < limits::min_chap_secret_bytes;
      };
      if (weak(value.chap.password) || weak(value.chap.mutual_password)) {
        warnings_.add(path_of(key) +
                      ": a CHAP secret has fewer than 12 bytes (RFC 7143 9.2.1); choose a longer one");
      }
    }
  }

  void keep_foreign(const char* place, const std::string& name, const Json& element) {
    warnings_.add(std::string(place) + ": " + name + " is kept but not served here");
    add_foreign(place, name, write_json(element, -1));
  }
  void add_foreign(const char* place, std::string name, std::string json) {
    if (!status_) return;
    accept_change(configuration_.apply(add<Foreign>({place, std::move(name)}, Foreign{std::move(json)})));
  }

  void accept_change(Result<Change> change) {
    if (!change) accept(tl::unexpected<Error>(std::move(change.error())));
  }
  void accept(Status status) {
    if (status_ && !status) status_ = std::move(status);
  }

  Configuration configuration_;
  Warnings warnings_;
  Status status_;
};

class Writer {
 public:
  explicit Writer(const Configuration& configuration) : configuration_(configuration) {}

  Json document() const {
    Json out = {
        {"fabric_modules", Json::array()}, {"storage_objects", Json::array()}, {"targets", Json::array()}};
    for (const auto& [key, value] : configuration_.all<Discovery>()) {
      Json fabric = to_json(key, value, Form::whole);
      fabric["name"] = served_fabric;
      out["fabric_modules"].push_back(std::move(fabric));
    }
    for (const auto& [key, value] : configuration_.all<StorageObject>()) {
      out["storage_objects"].push_back(storage(key, value));
    }
    for (const auto& [key, value] : configuration_.all<Target>())
      out["targets"].push_back(target(key, value));
    for (const auto& [key, value] : configuration_.all<Foreign>()) put_foreign(out, key, value);
    return out;
  }

 private:
  static void put_foreign(Json& out, const ForeignKey& key, const Foreign& value) {
    Json kept = Json::parse(value.json, nullptr, false);
    if (key.place == "document") {
      out[Json::json_pointer("/" + key.name)] = std::move(kept);
    } else {
      out[key.place].push_back(std::move(kept));
    }
  }

  // The elements of `list` are the objects of a kind below `parent`, each made by `make`.
  template <class Object, class Parent, class Make>
  Json list(const Parent& parent, Make make) const {
    Json out = Json::array();
    for (const auto& [key, value] : configuration_.below<Object>(parent)) {
      Json element = to_json(key, value, Form::whole);
      make(key, element);
      out.push_back(std::move(element));
    }
    return out;
  }

  Json storage(const StorageKey& key, const StorageObject& value) const {
    Json out = to_json(key, value, Form::whole);
    out["name"] = key.name;
    out["plugin"] = to_string(key.plugin);
    out["alua_tpgs"] =
        list<AluaGroup>(key, [](const AluaGroupKey& group, Json& element) { element["name"] = group.name; });
    return out;
  }

  Json target(const TargetKey& key, const Target& value) const {
    Json out = to_json(key, value, Form::whole);
    out["fabric"] = served_fabric;
    out["wwn"] = key.wwn;
    out["tpgs"] = list<PortalGroup>(
        key, [this](const PortalGroupKey& group, Json& element) { put_group(group, element); });
    return out;
  }

  void put_group(const PortalGroupKey& key, Json& out) const {
    out["tag"] = key.tag;
    out["luns"] = list<Lun>(key, [](const LunKey& lun, Json& element) { element["index"] = lun.index; });
    out["portals"] = list<Portal>(key, [](const PortalKey& portal, Json& element) {
      const bool ipv6 = portal.address.find(':') != std::string::npos;
      element["ip_address"] = ipv6 ? "[" + portal.address + "]" : portal.address;
      element["port"] = portal.port;
    });
    out["node_acls"] = list<NodeAcl>(key, [this](const NodeAclKey& acl, Json& element) {
      element["node_wwn"] = acl.initiator;
      element["mapped_luns"] =
          list<MappedLun>(acl, [](const MappedLunKey& mapped, Json& lun) { lun["index"] = mapped.index; });
    });
  }

  const Configuration& configuration_;
};

}  // namespace

Result<LoadedSaveconfig> read_saveconfig(std::string_view text) {
  auto document = parse_json(text);
  if (!document) return fail(document.error().code, "saveconfig.json: " + document.error().message);
  return Reader().run(*document);
}

std::string write_saveconfig(const Configuration& configuration) {
  return write_json(Writer(configuration).document(), 2) + "\n";
}

}  // namespace perilune::config::target
