// SPDX-License-Identifier: Apache-2.0
#include "config/target/tree.hpp"

#include <algorithm>
#include <cstdio>
#include <map>
#include <utility>

#include "config/portal.hpp"

namespace perilune::config::target {
namespace {

std::string counted(std::string_view what, std::size_t count) {
  return std::string(what) + ": " + std::to_string(count);
}

// Numbers at the end of a name are sorted as numbers: lun2 before lun10.
std::pair<std::string_view, std::string_view> sort_key(std::string_view name) {
  const auto last = name.find_last_not_of("0123456789");
  const std::size_t digits = last == std::string_view::npos ? 0 : last + 1;
  std::string_view number = name.substr(digits);
  while (number.size() > 1 && number.front() == '0') number.remove_prefix(1);
  return {name.substr(0, digits), number};
}
bool before(const TreeNode& a, const TreeNode& b) {
  const auto [a_text, a_number] = sort_key(a.name);
  const auto [b_text, b_number] = sort_key(b.name);
  if (a_text != b_text) return a_text < b_text;
  if (a_number.size() != b_number.size()) return a_number.size() < b_number.size();
  return a_number < b_number;
}

TreeNode sorted(TreeNode node) {
  std::stable_sort(node.children.begin(), node.children.end(), before);
  return node;
}

std::string_view alua_state_name(std::int64_t state) {
  switch (state) {
    case 0:
      return "Active/optimized";
    case 1:
      return "Active/non-optimized";
    case 2:
      return "Standby";
    case 3:
      return "Unavailable";
    case 4:
      return "LBA Dependent";
    case 14:
      return "Offline";
    default:
      return "Transitioning";
  }
}

bool has_login(const Chap& chap) { return !chap.userid.empty() && !chap.password.empty(); }
std::string_view ways(const Chap& chap) {
  return chap.mutual_userid.empty() || chap.mutual_password.empty() ? "1-way" : "mutual";
}

class TreeBuilder {
 public:
  TreeBuilder(const Configuration& configuration, const TreeFacts& facts)
      : configuration_(configuration), facts_(facts) {}

  TreeNode root() const {
    TreeNode node{"/", "", std::nullopt, {backstores(), iscsi()}};
    for (const std::string& fabric : facts_.other_fabrics)
      node.children.push_back({fabric, "Targets: 0", std::nullopt, {}});
    return sorted(std::move(node));
  }

 private:
  TreeNode backstores() const {
    TreeNode node{"backstores", "", std::nullopt, {}};
    for (const Plugin plugin : {Plugin::block, Plugin::fileio, Plugin::pscsi, Plugin::ramdisk}) {
      TreeNode list{std::string(to_string(plugin)), "", std::nullopt, {}};
      const auto& all = configuration_.all<StorageObject>();
      for (auto at = all.lower_bound({plugin, ""}); at != all.end() && at->first.plugin == plugin; ++at) {
        list.children.push_back(storage(at->first, at->second));
      }
      list.summary = counted("Storage Objects", list.children.size());
      node.children.push_back(sorted(std::move(list)));
    }
    return node;
  }

  TreeNode storage(const StorageKey& key, const StorageObject& object) const {
    TreeNode groups{"alua", "", std::nullopt, {}};
    for (const auto& [group, value] : configuration_.below<AluaGroup>(key)) {
      const auto state = value.parameters.number(alua_parameters(), "alua_access_state");
      groups.children.push_back({group.name, "ALUA state: " + std::string(alua_state_name(state)), true, {}});
    }
    groups.summary = counted("ALUA Groups", groups.children.size());
    return {key.name, storage_summary(key, object), true, {sorted(std::move(groups))}};
  }

  std::string storage_summary(const StorageKey& key, const StorageObject& object) const {
    const std::string status = configuration_.luns_of(key).empty() ? " deactivated" : " activated";
    if (key.plugin == Plugin::pscsi) return object.dev + status;
    const std::uint64_t bytes =
        object.size_bytes != 0 || !facts_.size_of ? object.size_bytes : facts_.size_of(key, object);
    const std::string size = "(" + human_size(bytes) + ")";
    if (key.plugin == Plugin::ramdisk) return (object.nullio ? "nullio " : "") + size + status;
    const std::string access = object.readonly ? "ro " : "";
    return object.dev + " " + size + " " + access + (object.write_back ? "write-back" : "write-thru") +
           status;
  }

  TreeNode iscsi() const {
    TreeNode node{"iscsi", "", std::nullopt, {}};
    for (const auto& [key, value] : configuration_.all<Target>()) node.children.push_back(target(key));
    node.summary = counted("Targets", node.children.size());
    const auto* const discovery = configuration_.find<Discovery>({});
    if (discovery != nullptr && discovery->enable) {
      node.healthy = has_login(discovery->chap);
      node.summary = std::string(ways(discovery->chap)) + " disc auth, " + node.summary;
    }
    return sorted(std::move(node));
  }

  TreeNode target(const TargetKey& key) const {
    TreeNode node{key.wwn, "", std::nullopt, {}};
    for (const auto& [group, value] : configuration_.below<PortalGroup>(key)) {
      TreeNode tpg{"tpg" + std::to_string(group.tag),
                   "",
                   std::nullopt,
                   {acls(group, value), luns(group), portals(group)}};
      summarize(value, tpg);
      node.children.push_back(std::move(tpg));
    }
    node.summary = counted("TPGs", node.children.size());
    return sorted(std::move(node));
  }

  static void summarize(const PortalGroup& group, TreeNode& node) {
    const bool open = group.attributes.number(group_attributes(), "generate_node_acls") != 0;
    const bool authenticates = group.attributes.number(group_attributes(), "authentication") != 0;
    if (!group.enable) {
      node.summary = "disabled";
      node.healthy = false;
      return;
    }
    node.summary = open ? "gen-acls" : "no-gen-acls";
    if (!authenticates) {
      node.summary += ", no-auth";
      if (open) node.healthy = true;
    } else if (!open) {
      node.summary += ", auth per-acl";
    } else {
      node.summary += ", tpg-auth, " + std::string(ways(group.chap)) + " auth";
      node.healthy = has_login(group.chap);
    }
  }

  // ACLs with one tag are one node; they are alike, and the first speaks for all.
  TreeNode acls(const PortalGroupKey& key, const PortalGroup& group) const {
    std::map<std::string, std::vector<std::pair<NodeAclKey, const NodeAcl*>>> named;
    for (const auto& [acl, value] : configuration_.below<NodeAcl>(key)) {
      named[value.tag.empty() ? acl.initiator : value.tag].emplace_back(acl, &value);
    }
    TreeNode node{"acls", counted("ACLs", named.size()), std::nullopt, {}};
    for (const auto& [name, members] : named) node.children.push_back(acl_node(name, members, group));
    return sorted(std::move(node));
  }

  TreeNode acl_node(const std::string& name,
                    const std::vector<std::pair<NodeAclKey, const NodeAcl*>>& members,
                    const PortalGroup& group) const {
    const auto& [key, acl] = members.front();
    TreeNode node{name, "", std::nullopt, {}};
    for (const auto& [mapped, value] : configuration_.below<MappedLun>(key)) {
      node.children.push_back(
          {"mapped_lun" + std::to_string(mapped.index), mapped_summary(key, value), true, {}});
    }
    if (name != key.initiator) {
      node.summary = members.size() > 1 ? "(group of " + std::to_string(members.size()) + "), "
                                        : "(" + key.initiator + "), ";
    }
    if (group.attributes.number(group_attributes(), "authentication") != 0) {
      const bool open = group.attributes.number(group_attributes(), "generate_node_acls") != 0;
      node.summary += open ? "auth via tpg, " : std::string(ways(acl->chap)) + " auth, ";
      if (!open) node.healthy = has_login(acl->chap);
    }
    node.summary += counted("Mapped LUNs", node.children.size());
    return sorted(std::move(node));
  }

  std::string mapped_summary(const NodeAclKey& acl, const MappedLun& mapped) const {
    const StorageKey& object = configuration_.find<Lun>({acl.parent, mapped.tpg_lun})->object;
    return "lun" + std::to_string(mapped.tpg_lun) + " " + std::string(to_string(object.plugin)) + "/" +
           object.name + (mapped.write_protect ? " (ro)" : " (rw)");
  }

  TreeNode luns(const PortalGroupKey& key) const {
    TreeNode node{"luns", "", std::nullopt, {}};
    for (const auto& [lun, value] : configuration_.below<Lun>(key)) {
      std::string summary = std::string(to_string(value.object.plugin)) + "/" + value.object.name;
      const std::string& dev = configuration_.find<StorageObject>(value.object)->dev;
      if (!dev.empty()) summary += " (" + dev + ")";
      if (!value.alua_group.empty()) summary += " (" + value.alua_group + ")";
      node.children.push_back({"lun" + std::to_string(lun.index), std::move(summary), true, {}});
    }
    node.summary = counted("LUNs", node.children.size());
    return sorted(std::move(node));
  }

  TreeNode portals(const PortalGroupKey& key) const {
    TreeNode node{"portals", "", std::nullopt, {}};
    for (const auto& [portal, value] : configuration_.below<Portal>(key)) {
      node.children.push_back({format_host_port(portal.address, portal.port),
                               value.iser      ? "iser"
                               : value.offload ? "offload"
                                               : "",
                               true,
                               {}});
    }
    node.summary = counted("Portals", node.children.size());
    return sorted(std::move(node));
  }

  const Configuration& configuration_;
  const TreeFacts& facts_;
};

class TreePrinter {
 public:
  explicit TreePrinter(const TreeStyle& style) : style_(style) {}

  // `margin` stands before the node, `inner` before its children: a pipe leads past what lies below a node
  // that has brothers behind it.
  void print(const TreeNode& node, const std::string& margin, const std::string& inner, std::size_t depth) {
    line(node, margin);
    print_below(node, inner, depth);
  }
  void print_below(const TreeNode& node, const std::string& inner, std::size_t depth) {
    if (depth == 0) return;
    for (std::size_t i = 0; i < node.children.size(); ++i) {
      const bool last = i + 1 == node.children.size();
      print(node.children[i], inner, inner + (last ? "  " : "| "), depth - 1);
    }
  }
  std::string take() { return std::move(out_); }

 private:
  void line(const TreeNode& node, const std::string& margin) {
    std::string text = margin + (style_.round_nodes ? "o- " : "+- ") + node.name;
    if (style_.show_summaries) text += " " + summary(node, text.size() + 1);
    out_ += text + "\n";
  }

  // With the dots before it; `used`: what stands on the line already.
  std::string summary(const TreeNode& node, std::size_t used) const {
    std::string shown = node.summary;
    if (shown.empty()) shown = !node.healthy ? "..." : *node.healthy ? "OK" : "ERROR";
    used += shown.size() + 3;
    const std::string dots(used < style_.width ? style_.width - used : 0, '.');
    if (style_.colour && node.healthy) shown = (*node.healthy ? "\x1b[32m" : "\x1b[31m") + shown + "\x1b[0m";
    return dots + " [" + shown + "]";
  }

  TreeStyle style_;
  std::string out_;
};

}  // namespace

TreeNode tree_of(const Configuration& configuration, const TreeFacts& facts) {
  return TreeBuilder(configuration, facts).root();
}

const TreeNode* find_node(const TreeNode& root, std::string_view path) {
  const TreeNode* node = &root;
  while (!path.empty()) {
    if (path.front() == '/') {
      path.remove_prefix(1);
      continue;
    }
    const std::string_view name = path.substr(0, path.find('/'));
    const auto at = std::find_if(node->children.begin(), node->children.end(),
                                 [&](const TreeNode& child) { return child.name == name; });
    if (at == node->children.end()) return nullptr;
    node = &*at;
    path.remove_prefix(name.size());
  }
  return node;
}

std::string render_tree(const TreeNode& node, std::optional<std::size_t> depth, const TreeStyle& style) {
  TreePrinter printer(style);
  if (style.show_root) {
    printer.print(node, "", "  ", depth.value_or(SIZE_MAX));
  } else {
    printer.print_below(node, "", depth.value_or(SIZE_MAX));
  }
  return printer.take();
}

std::string render_tree(const TreeNode& node, std::optional<std::size_t> depth, std::size_t width) {
  TreeStyle style;
  style.width = width;
  return render_tree(node, depth, style);
}

std::string human_size(std::uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " bytes";
  double size = static_cast<double>(bytes);
  const char* unit = "";
  for (const char* const next : {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}) {
    size /= 1024;
    unit = next;
    if (size < 1024) break;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.1f%s", size, unit);
  return text;
}

}  // namespace perilune::config::target
