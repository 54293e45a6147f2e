// SPDX-License-Identifier: Apache-2.0
// What every kind of block device has in common for the host: nodes, partitions, queue settings, and taking
// it away from its users. `name` is the kernel's, without /dev/: "loop0", "nbd3", "ublkb1". These calls wait
// for the device: never on a thread that serves it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::attach {

// Where neither devtmpfs nor udev works (containers), nobody makes the node but us.
void make_node(const std::string& name, std::string_view sysfs_class = "block");
// Finds partitions that the kernel did not find by itself (util-linux does, where it is there), and makes
// their nodes.
void find_partitions(const std::string& name);
// Nodes of partitions that the kernel no longer knows.
void remove_partition_nodes(const std::string& name);

struct QueueSettings {
  bool rotational = false;
  bool no_scheduler = false;  // the target orders by itself: a scheduler here only delays
};
// What the driver does not set itself; what the kernel refuses stays as it was. Requests grow to a mebibyte
// where the driver takes that.
void set_queue(const std::string& name, const QueueSettings& settings);

enum class ReleaseMode : std::uint8_t {
  exclusive,  // only when nobody else claims it, after a flush that worked
  force,      // whatever happens; goes away with its last user
};
// Claims the device for its end and flushes it. busy: somebody else has it open, after a patient wait.
[[nodiscard]] Result<runtime::posix::UniqueFd> claim_device(const std::string& name, ReleaseMode mode);

// Waits for the condition for as long as others may need to let a device go. False when it did not come.
template <class Condition>
[[nodiscard]] bool wait_patiently(Condition condition);

// Runs a program with these words and waits for it; whether it ended with 0.
bool run_program(const char* const* words);

namespace detail {
[[nodiscard]] bool pause_until(std::int64_t& deadline_ns);
}

template <class Condition>
bool wait_patiently(Condition condition) {
  std::int64_t deadline_ns = 0;
  while (!condition()) {
    if (!detail::pause_until(deadline_ns)) return false;
  }
  return true;
}

}  // namespace perilune::attach
