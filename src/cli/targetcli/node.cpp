// SPDX-License-Identifier: Apache-2.0
#include "cli/targetcli/node.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "config/portal.hpp"

namespace perilune::cli::targetcli {

namespace model = config::target;

namespace {

constexpr std::array<std::string_view, 3> fabrics{"loopback", "vhost", "xen-pvscsi"};

std::vector<std::string_view> parts_of(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    const auto end = std::min(path.find('/'), path.size());
    if (end > 0) parts.push_back(path.substr(0, end));
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return parts;
}

// One step down from a node.
class Step {
 public:
  Step(const model::Configuration& configuration, const Node& from, std::string_view name)
      : configuration_(configuration), node_(from), name_(name) {
    node_.path += (from.path == "/" ? "" : "/") + name_;
  }

  std::optional<Node> take() {
    if (!(this->*down())()) return std::nullopt;
    return node_;
  }

 private:
  using Way = bool (Step::*)();
  Way down() const {
    switch (node_.kind) {
      case NodeKind::root:
        return &Step::from_root;
      case NodeKind::backstores:
        return &Step::from_backstores;
      case NodeKind::storage_list:
        return &Step::from_storage_list;
      case NodeKind::storage:
        return &Step::from_storage;
      case NodeKind::alua_groups:
        return &Step::from_alua_groups;
      case NodeKind::iscsi:
        return &Step::from_iscsi;
      case NodeKind::target:
        return &Step::from_target;
      case NodeKind::portal_group:
        return &Step::from_portal_group;
      case NodeKind::acls:
        return &Step::from_acls;
      case NodeKind::acl:
        return &Step::from_acl;
      case NodeKind::luns:
        return &Step::from_luns;
      case NodeKind::portals:
        return &Step::from_portals;
      default:
        return &Step::nowhere;
    }
  }

  bool nowhere() { return false; }
  bool is(NodeKind kind) {
    node_.kind = kind;
    return true;
  }
  bool from_root() {
    if (name_ == "backstores") return is(NodeKind::backstores);
    if (name_ == "iscsi") return is(NodeKind::iscsi);
    if (std::find(fabrics.begin(), fabrics.end(), name_) == fabrics.end()) return false;
    node_.fabric = name_;
    return is(NodeKind::other_fabric);
  }
  bool from_backstores() {
    const auto plugin = model::parse_plugin(name_);
    if (!plugin) return false;
    node_.storage.plugin = *plugin;
    return is(NodeKind::storage_list);
  }
  bool from_storage_list() {
    node_.storage.name = name_;
    return configuration_.find<model::StorageObject>(node_.storage) != nullptr && is(NodeKind::storage);
  }
  bool from_storage() { return name_ == "alua" && is(NodeKind::alua_groups); }
  bool from_alua_groups() {
    node_.alua_group = {node_.storage, name_};
    return configuration_.find<model::AluaGroup>(node_.alua_group) != nullptr && is(NodeKind::alua_group);
  }
  bool from_iscsi() {
    node_.group.parent.wwn = name_;
    return configuration_.find<model::Target>(node_.group.parent) != nullptr && is(NodeKind::target);
  }
  bool from_target() {
    const auto tag = name_.starts_with("tpg") ? parse_index(name_, "tpg") : std::nullopt;
    if (!tag) return false;
    node_.group.tag = *tag;
    return configuration_.find<model::PortalGroup>(node_.group) != nullptr && is(NodeKind::portal_group);
  }
  bool from_portal_group() {
    if (name_ == "acls") return is(NodeKind::acls);
    if (name_ == "luns") return is(NodeKind::luns);
    return name_ == "portals" && is(NodeKind::portals);
  }
  bool from_acls() {
    const model::NodeAclKey key{node_.group, name_};
    const auto* const acl = configuration_.find<model::NodeAcl>(key);
    if (acl != nullptr && acl->tag.empty()) {
      node_.acls = {key};
      return is(NodeKind::acl);
    }
    for (const auto& [member, value] : configuration_.below<model::NodeAcl>(node_.group)) {
      if (!value.tag.empty() && value.tag == name_) node_.acls.push_back(member);
    }
    return !node_.acls.empty() && is(NodeKind::acl);
  }
  bool from_acl() {
    const auto index = name_.starts_with("mapped_lun") ? parse_index(name_, "mapped_lun") : std::nullopt;
    if (!index) return false;
    node_.index = *index;
    return configuration_.find<model::MappedLun>({node_.acls.front(), *index}) != nullptr &&
           is(NodeKind::mapped_lun);
  }
  bool from_luns() {
    const auto index = name_.starts_with("lun") ? parse_index(name_, "lun") : std::nullopt;
    if (!index) return false;
    node_.index = *index;
    return configuration_.find<model::Lun>({node_.group, *index}) != nullptr && is(NodeKind::lun);
  }
  bool from_portals() {
    const auto colon = name_.rfind(':');
    if (colon == std::string::npos) return false;
    const auto address = model::normal_address(std::string_view(name_).substr(0, colon));
    const auto port = parse_index(std::string_view(name_).substr(colon + 1), "");
    if (!address || !port) return false;
    node_.portal = {node_.group, *address, *port};
    return configuration_.find<model::Portal>(node_.portal) != nullptr && is(NodeKind::portal);
  }

  const model::Configuration& configuration_;
  Node node_;
  std::string name_;
};

// Collects the names that begin with a prefix.
class Names {
 public:
  Names(std::string_view prefix, std::size_t limit) : prefix_(prefix), limit_(limit) {}
  void add(std::string name) {
    if (name.starts_with(prefix_) && names_.size() < limit_) names_.insert(std::move(name));
  }
  [[nodiscard]] std::vector<std::string> take() { return {names_.begin(), names_.end()}; }

 private:
  std::string_view prefix_;
  std::size_t limit_;
  std::set<std::string> names_;
};

void add_storage(const model::Configuration& configuration, model::Plugin plugin, Names& names) {
  const auto& all = configuration.all<model::StorageObject>();
  for (auto at = all.lower_bound({plugin, ""}); at != all.end() && at->first.plugin == plugin; ++at) {
    names.add(at->first.name);
  }
}

void add_below(const model::Configuration& configuration, const Node& node, Names& names) {
  switch (node.kind) {
    case NodeKind::root:
      names.add("backstores");
      names.add("iscsi");
      for (const std::string_view fabric : fabrics) names.add(std::string(fabric));
      return;
    case NodeKind::backstores:
      for (const std::string_view plugin : {"block", "fileio", "pscsi", "ramdisk"})
        names.add(std::string(plugin));
      return;
    case NodeKind::storage_list:
      return add_storage(configuration, node.storage.plugin, names);
    case NodeKind::storage:
      return names.add("alua");
    case NodeKind::alua_groups:
      for (const auto& [key, value] : configuration.below<model::AluaGroup>(node.storage))
        names.add(key.name);
      return;
    case NodeKind::iscsi:
      for (const auto& [key, value] : configuration.all<model::Target>()) names.add(key.wwn);
      return;
    case NodeKind::target:
      for (const auto& [key, value] : configuration.below<model::PortalGroup>(node.group.parent))
        names.add("tpg" + std::to_string(key.tag));
      return;
    case NodeKind::portal_group:
      for (const std::string_view name : {"acls", "luns", "portals"}) names.add(std::string(name));
      return;
    case NodeKind::acls:
      for (const auto& [key, value] : configuration.below<model::NodeAcl>(node.group))
        names.add(value.tag.empty() ? key.initiator : value.tag);
      return;
    case NodeKind::acl:
      for (const auto& [key, value] : configuration.below<model::MappedLun>(node.acls.front()))
        names.add("mapped_lun" + std::to_string(key.index));
      return;
    case NodeKind::luns:
      for (const auto& [key, value] : configuration.below<model::Lun>(node.group))
        names.add("lun" + std::to_string(key.index));
      return;
    case NodeKind::portals:
      for (const auto& [key, value] : configuration.below<model::Portal>(node.group))
        names.add(config::format_host_port(key.address, key.port));
      return;
    default:
      return;
  }
}

}  // namespace

std::span<const std::string_view> other_fabrics() noexcept { return fabrics; }

std::string absolute_path(std::string_view from, std::string_view path) {
  std::vector<std::string_view> parts;
  if (!path.starts_with('/')) parts = parts_of(from);
  for (const std::string_view part : parts_of(path)) {
    if (part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else if (!parts.empty()) {
      parts.pop_back();
    }
  }
  std::string out;
  for (const std::string_view part : parts) out.append("/").append(part);
  return out.empty() ? "/" : out;
}

std::optional<Node> find_node(const model::Configuration& configuration, std::string_view path) {
  Node node;
  for (const std::string_view part : parts_of(path)) {
    auto next = Step(configuration, node, part).take();
    if (!next) return std::nullopt;
    node = std::move(*next);
  }
  return node;
}

std::vector<std::string> names_below(const model::Configuration& configuration, const Node& node,
                                     std::string_view prefix, std::size_t limit) {
  Names names(prefix, limit);
  add_below(configuration, node, names);
  return names.take();
}

std::optional<std::uint16_t> parse_index(std::string_view text, std::string_view prefix) {
  if (!prefix.empty() && text.starts_with(prefix)) text.remove_prefix(prefix.size());
  std::uint16_t value = 0;
  const auto end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || at != end || (text.size() > 1 && text.front() == '0')) return std::nullopt;
  return value;
}

}  // namespace perilune::cli::targetcli
