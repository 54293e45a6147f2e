// SPDX-License-Identifier: Apache-2.0
// What the kernel tells of a SCSI device in /sys: which node is whose, and how much it takes. Control path:
// reads files.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace perilune::passthrough {

enum class NodeKind : std::uint8_t {
  generic,    // /dev/sgN
  block,      // /dev/sdX, /dev/srN
  bsg,        // /dev/bsg/H:C:T:L
  partition,  // of a block device
  other,      // a tape's own node, a terminal, /dev/null …
};

struct NodeInfo {
  NodeKind kind = NodeKind::other;
  std::string generic_node;              // "/dev/sg3" of the same device, where there is one
  std::vector<std::string> block_names;  // "sdb": the block devices of the same SCSI device
  std::optional<std::uint32_t> queue_depth;
  // What the block layer lets through in one command; nothing when there is no block device.
  std::optional<std::uint64_t> max_bytes;
  std::optional<std::uint32_t> max_segments;
};

// `root`: "/sys". A node that /sys does not know is of kind other, or block when it is one.
[[nodiscard]] NodeInfo read_node_info(const std::string& root, const struct stat& node);

}  // namespace perilune::passthrough
