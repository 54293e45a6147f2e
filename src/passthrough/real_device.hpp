// SPDX-License-Identifier: Apache-2.0
// A real SCSI device that logical units forward to. SG_IO blocks, for minutes where a device is slow or ill,
// so a few threads of the device do the calls: as many as the device takes commands at once, never more than
// max_threads. (The sg driver has an asynchronous interface too, but for /dev/sgN alone, with a limit of 16
// for each descriptor, and with completions that only one loop can wait for.) What they have done goes back
// to the loop that asked by a list and an eventfd, without allocation. Resets have a thread of their own: all
// the others may be waiting for the device that is to be reset.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/intrusive_list.hpp"
#include "base/result.hpp"
#include "passthrough/sg_node.hpp"
#include "runtime/loop.hpp"
#include "runtime/posix/unique_fd.hpp"
#include "scsi/passthrough.hpp"

namespace perilune::passthrough {

inline constexpr unsigned max_threads = 16;  // the sg driver takes no more at once on one descriptor
inline constexpr std::size_t max_waiting_commands = 256;  // for a thread; one more ends with TASK SET FULL

struct RealDeviceSpec {
  std::unique_ptr<SgNode> node;
  scsi::PassthroughFacts facts;
  unsigned threads = 1;
  std::string identity;     // stable text that names the device: by its own designators where it has any
  std::string description;  // one line for people
  std::vector<runtime::posix::UniqueFd>
      claims;  // kept open while the device is served, so that nobody mounts it
};

// Shared by all shards. Control path, but for what its ports do.
class RealDevice {
 public:
  // Fails with limit (no thread to be had), invalid_argument (no threads asked for).
  [[nodiscard]] static Result<std::shared_ptr<RealDevice>> create(RealDeviceSpec spec);
  ~RealDevice();  // precondition: no port left. Waits for the commands that are still with the device
  RealDevice(const RealDevice&) = delete;
  RealDevice& operator=(const RealDevice&) = delete;

  [[nodiscard]] const scsi::PassthroughFacts& facts() const noexcept { return spec_.facts; }
  [[nodiscard]] const std::string& identity() const noexcept { return spec_.identity; }
  [[nodiscard]] const std::string& describe() const noexcept { return spec_.description; }

  // The way of this loop to the device. Destroyed on the loop's thread, or when it does not run. Fails with
  // unsupported (a loop that cannot watch descriptors), io.
  [[nodiscard]] Result<std::unique_ptr<scsi::PassthroughPort>> open_port(runtime::Loop& loop);

 private:
  class Port;

  explicit RealDevice(RealDeviceSpec spec) : spec_(std::move(spec)) {}
  [[nodiscard]] Status start_threads();
  void run();
  void carry_out(scsi::PassthroughCommand& command);
  void submit(scsi::PassthroughCommand& command);
  void submit(scsi::PassthroughReset& reset);
  void run_resets();

  RealDeviceSpec spec_;
  std::mutex mutex_;  // of what follows
  std::condition_variable wake_;
  IntrusiveList<scsi::PassthroughCommand> waiting_;
  std::size_t waiting_count_ = 0;
  std::condition_variable wake_resets_;
  IntrusiveList<scsi::PassthroughReset> waiting_resets_;
  bool ending_ = false;
  std::vector<std::thread> threads_;  // last: they use the others
};

}  // namespace perilune::passthrough
