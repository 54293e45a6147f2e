// SPDX-License-Identifier: Apache-2.0
// One command after the other for a control device that takes them from a ring alone (/dev/ublk-control): a
// ring of its own with entries of 128 bytes, restricted to IORING_OP_URING_CMD. Every call waits; not for a
// reactor thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.hpp"

namespace perilune::runtime::uring {

class DeviceControl {
 public:
  static constexpr std::size_t max_argument_bytes = 80;

  // not_found and the like when the device cannot be opened, unsupported where there are no such rings.
  [[nodiscard]] static Result<std::unique_ptr<DeviceControl>> open(const std::string& path);
  virtual ~DeviceControl() = default;

  // What the command answered, or -errno.
  [[nodiscard]] virtual int run(std::uint32_t operation, std::span<const std::uint8_t> argument) = 0;
};

}  // namespace perilune::runtime::uring
