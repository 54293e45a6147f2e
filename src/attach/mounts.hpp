// SPDX-License-Identifier: Apache-2.0
// What the host does with a block device: /proc/self/mountinfo, /proc/swaps, /sys/block. Reads only those
// files, so it never waits for the device itself. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace perilune::attach {

inline constexpr std::string_view fuse_type = "fuse.perilune";

struct Mount {
  unsigned major = 0, minor = 0;  // of st_dev
  std::string mount_point;
  std::string type;
  std::string source;
};

// In the order of mounting.
[[nodiscard]] Result<std::vector<Mount>> read_mounts();
// The lines of a mountinfo file (proc(5)); lines that are not understood are left out.
[[nodiscard]] std::vector<Mount> parse_mountinfo(std::string_view text);

[[nodiscard]] std::vector<std::string> all_disks();  // "loop0", "nbd3", "sda" ...

// A block device and its partitions by name: "loop0", "loop0p1" …
[[nodiscard]] std::vector<std::string> disk_and_partitions(const std::string& disk);

struct Use {
  enum class Kind : std::uint8_t { mount, swap, holder };
  Kind kind = Kind::mount;
  std::string device;                          // "/dev/loop0p1"
  std::string what;                            // mount point, or the holder's name
  [[nodiscard]] std::string describe() const;  // "/dev/loop0p1 is mounted on /mnt"
};

// Who uses the disk ("loop0") or a partition of it, in this mount namespace. Mounts last mounted come first.
[[nodiscard]] Result<std::vector<Use>> uses_of_disk(const std::string& disk);

// A small file of /proc or /sys, without the newline at its end; empty when it cannot be read.
[[nodiscard]] std::string read_small_file(const std::string& path);

}  // namespace perilune::attach
