// SPDX-License-Identifier: Apache-2.0
#include "passthrough/sysfs.hpp"

#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace perilune::passthrough {
namespace {

namespace fs = std::filesystem;

std::optional<std::uint64_t> read_number(const fs::path& path) {
  std::ifstream file(path);
  std::uint64_t value = 0;
  if (!(file >> value)) return std::nullopt;
  return value;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    names.push_back(at->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

NodeKind kind_of(const fs::path& entry, bool is_block) {
  std::error_code error;
  if (is_block) return fs::exists(entry / "partition", error) ? NodeKind::partition : NodeKind::block;
  const std::string subsystem = fs::read_symlink(entry / "subsystem", error).filename().string();
  if (error) return NodeKind::other;
  return subsystem == "scsi_generic" ? NodeKind::generic
         : subsystem == "bsg"        ? NodeKind::bsg
                                     : NodeKind::other;
}

}  // namespace

NodeInfo read_node_info(const std::string& root, const struct stat& node) {
  const bool is_block = S_ISBLK(node.st_mode);
  const fs::path entry = fs::path(root) / "dev" / (is_block ? "block" : "char") /
                         fmt::format("{}:{}", major(node.st_rdev), minor(node.st_rdev));
  NodeInfo info;
  info.kind = kind_of(entry, is_block);
  const fs::path device = entry / "device";
  const auto generic = names_in(device / "scsi_generic");
  if (!generic.empty()) info.generic_node = "/dev/" + generic.front();
  info.block_names = names_in(device / "block");
  if (const auto depth = read_number(device / "queue_depth"))
    info.queue_depth = static_cast<std::uint32_t>(*depth);
  if (info.block_names.empty()) return info;
  const fs::path queue = device / "block" / info.block_names.front() / "queue";
  if (const auto kilobytes = read_number(queue / "max_hw_sectors_kb")) info.max_bytes = *kilobytes * 1024;
  if (const auto segments = read_number(queue / "max_segments"))
    info.max_segments = static_cast<std::uint32_t>(*segments);
  return info;
}

}  // namespace perilune::passthrough
