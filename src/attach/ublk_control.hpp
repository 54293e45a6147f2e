// SPDX-License-Identifier: Apache-2.0
// ublk devices as the host sees them, by /dev/ublk-control (Documentation/block/ublk.rst). Starting one waits
// for its server, deleting one for its server's end. Needs CAP_SYS_ADMIN.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "runtime/posix/unique_fd.hpp"
#include "runtime/uring/device_control.hpp"

namespace perilune::attach {

struct UblkSettings {
  std::uint64_t size_bytes = 0;
  std::uint32_t block_size_bytes = 512;
  std::uint32_t physical_block_size_bytes = 512;
  std::uint32_t discard_granularity_bytes = 0;  // 0: no discards
  bool read_only = false;
  bool write_cache = true;
  bool fua = true;
  bool rotational = false;
  std::string label;  // told again by owner_of() as a number
};

class UblkControl {
 public:
  // unsupported where there is no such driver.
  [[nodiscard]] static Result<UblkControl> open();

  // Makes the device's control node, with one queue, and returns its number. The block device comes by
  // start().
  [[nodiscard]] Result<int> add(const UblkSettings& settings);
  // The descriptor that a server needs.
  [[nodiscard]] static Result<runtime::posix::UniqueFd> open_queue(int number);
  // Waits until the server `pid` has fetched on every tag, and while the kernel reads partitions.
  [[nodiscard]] Status start(int number, int pid);
  // The block device goes; the server's fetches end.
  [[nodiscard]] Status stop(int number);
  // Waits until the server has closed its descriptor.
  [[nodiscard]] Status remove(int number);
  // What label_number() gave for the label of this device; 0 when there is no such device.
  [[nodiscard]] std::uint64_t owner_of(int number);

 private:
  explicit UblkControl(std::unique_ptr<runtime::uring::DeviceControl> control)
      : control_(std::move(control)) {}
  [[nodiscard]] int run(std::uint32_t operation, int number, void* buffer, std::size_t size,
                        std::uint64_t data = 0);
  [[nodiscard]] int set_parameters(int number, const UblkSettings& settings);

  std::unique_ptr<runtime::uring::DeviceControl> control_;
};

// What stands for a label in a device's 64 bits for its server (FNV-1a).
[[nodiscard]] std::uint64_t label_number(std::string_view label) noexcept;
[[nodiscard]] std::vector<int> all_ublk_devices();  // numbers, by sysfs
[[nodiscard]] std::string ublk_name(int number);    // "ublkb0"

}  // namespace perilune::attach
