// SPDX-License-Identifier: Apache-2.0
// Loop devices (loop(4)). These calls wait for the backing file: never on a thread that serves it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attach/block_node.hpp"
#include "base/result.hpp"

namespace perilune::attach {

struct LoopSettings {
  std::uint32_t block_size_bytes = 512;
  bool read_only = false;
  bool scan_partitions = true;
  bool direct_io = true;
  bool rotational = false;
  std::string label;  // kept in the device's lo_file_name, at most 63 bytes
};

struct BoundLoop {
  int number = -1;
  bool direct_io = false;  // what the kernel granted
};

// Takes a free loop device for the file. Partition nodes that do not appear by themselves are made. busy when
// none is free.
[[nodiscard]] Result<BoundLoop> bind_loop(const std::string& file, const LoopSettings& settings);

// Ends when it no longer serves its file, its nodes of partitions removed. busy: it is in use and stays as it
// was.
[[nodiscard]] Status release_loop(int number, ReleaseMode mode);

[[nodiscard]] bool loop_is_bound(int number);
// Of a bound device; empty otherwise. sysfs only: never waits.
[[nodiscard]] std::string loop_backing_file(int number);
// Bound, and to this file. A number that was let go may serve somebody else's file at once.
[[nodiscard]] bool loop_serves(int number, const std::string& file);
// The label it was bound with; nothing when the device is not bound or the kernel cannot say.
[[nodiscard]] std::optional<std::string> loop_label(int number);
// Numbers of all loop devices of the system.
[[nodiscard]] std::vector<int> all_loops();

[[nodiscard]] std::string loop_name(int number);    // "loop0"
[[nodiscard]] std::string loop_device(int number);  // "/dev/loop0"
// "/dev/loop0", "loop0" -> 0.
[[nodiscard]] std::optional<int> parse_loop_device(std::string_view text);

}  // namespace perilune::attach
