// SPDX-License-Identifier: Apache-2.0
// What killed servers left on the host: file systems on their dead devices, loop, NBD and ublk devices, FUSE
// mounts, folders, records. Nothing of a living server is touched. Waits for the kernel; not for a reactor
// thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "attach/mounts.hpp"
#include "base/result.hpp"

namespace perilune::attach {

struct CleanupReport {
  unsigned removed = 0;
  unsigned failed = 0;  // things that stand in the way and were left
};

using CleanupLog = std::function<void(const std::string& line)>;  // one thing per line

[[nodiscard]] Result<CleanupReport> clean_up(const std::string& run_dir, const CleanupLog& log);

enum class ServerState : std::uint8_t { alive, dead, unknown };
// Asks a FUSE mount from a process of its own, so that a server that hangs cannot hang us.
[[nodiscard]] ServerState probe_mount(const std::string& mount_point);

}  // namespace perilune::attach
