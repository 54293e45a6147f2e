// SPDX-License-Identifier: Apache-2.0
// The kernel's NBD client by generic netlink (<linux/nbd-netlink.h>). Its few messages are made here by hand.
// Needs CAP_SYS_ADMIN. The calls do not wait for a device.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace perilune::attach {

struct NbdSettings {
  std::uint64_t size_bytes = 0;
  std::uint32_t block_size_bytes = 512;
  std::uint64_t server_flags = 0;  // NBD_FLAG_... of the protocol
  std::string identifier;          // /sys/block/nbdN/backend
};

// Gives the connected sockets to the kernel, a queue for each, and returns the number of the device, the
// first that was free. Requests never time out: the server says how they end. unsupported where there is no
// such client.
[[nodiscard]] Result<int> nbd_connect(const NbdSettings& settings, std::span<const int> sockets);
// The client shuts the sockets and lets the device go when its last user has closed it.
[[nodiscard]] Status nbd_disconnect(int number);

// Of a connected device; empty otherwise. sysfs only.
[[nodiscard]] std::string nbd_identifier(int number);
[[nodiscard]] std::vector<int> all_nbds();       // numbers
[[nodiscard]] std::string nbd_name(int number);  // "nbd0"

}  // namespace perilune::attach
