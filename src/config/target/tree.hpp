// SPDX-License-Identifier: Apache-2.0
// The tree that `targetcli ls` prints, as a pure function of the configuration and of the few facts that are
// not in it. Names, summaries, order and dots are targetcli's (targetcli-fb 2.1.53, configshell-fb 1.1).
// Pure; any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/target/configuration.hpp"

namespace perilune::config::target {

struct TreeNode {
  std::string name;
  std::string summary;
  std::optional<bool> healthy;     // colours the summary: green, red, or not
  std::vector<TreeNode> children;  // in the order of printing
};

struct TreeFacts {
  // The size in bytes of a block object, or of a fileio object that has what its file has.
  std::function<std::uint64_t(const StorageKey&, const StorageObject&)> size_of;
  // Fabrics that stand in the tree with no targets, behind iscsi.
  std::vector<std::string> other_fabrics;
};

// The whole tree, from "/".
[[nodiscard]] TreeNode tree_of(const Configuration& configuration, const TreeFacts& facts);

// The node of a path ("/iscsi/iqn.2026-11.io.perilune:a/tpg1"; "" and "/" are the root), or nullptr.
[[nodiscard]] const TreeNode* find_node(const TreeNode& root, std::string_view path);

inline constexpr std::size_t tree_width = 132;  // where the output is no terminal

// How a tree looks: targetcli's preferences, and its terminal.
struct TreeStyle {
  std::size_t width = tree_width;
  bool colour = false;         // summaries of what is well are green, of what is not red (ECMA-48 8.3.117)
  bool round_nodes = true;     // "o-" before a node, else "+-"
  bool show_root = true;       // the node at which it begins
  bool show_summaries = true;  // and the dots before them
};

// Lines with their ends. `depth`: how many levels below the node, nullopt for all. A line that does not fit
// has no dots.
[[nodiscard]] std::string render_tree(const TreeNode& node, std::optional<std::size_t> depth,
                                      const TreeStyle& style);
[[nodiscard]] std::string render_tree(const TreeNode& node, std::optional<std::size_t> depth = std::nullopt,
                                      std::size_t width = tree_width);

// "64.0MiB", "512 bytes"
[[nodiscard]] std::string human_size(std::uint64_t bytes);

}  // namespace perilune::config::target
