// SPDX-License-Identifier: Apache-2.0
// What the helper process (host_helper.hpp) does on the host for one kind of block device. A device is made
// in two steps: prepare() makes what the server needs to serve, bind() makes the device appear while it
// serves. All of it may block, and some of it waits for the device.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attach/attach.hpp"
#include "attach/block_node.hpp"
#include "attach/host_helper.hpp"
#include "base/result.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::attach {

class HostDriver {
 public:
  virtual ~HostDriver() = default;

  // The descriptors that FrontEnd::serve() takes; reply.number where the device has one already. After an
  // Error nothing is left. unsupported and the like: this machine cannot.
  [[nodiscard]] virtual Status prepare(const HelperRequest& request, HelperReply& reply,
                                       std::vector<runtime::posix::UniqueFd>& hand_over) = 0;
  // The device is there and its partitions are known: fills reply.number.
  [[nodiscard]] virtual Status bind(const HelperRequest& request, HelperReply& reply) = 0;
  // Whether the device of that number still is this attachment's: others may take it away and give the number
  // on.
  [[nodiscard]] virtual bool owns(const HelperRequest& request) = 0;
  // Takes the device from the host. busy: it stays as it was.
  [[nodiscard]] virtual Status release(const HelperRequest& request, ReleaseMode mode) = 0;
  // The rest, when nobody serves any more.
  virtual void remove(const HelperRequest& request) = 0;

  [[nodiscard]] virtual std::string disk_name(int number) const = 0;  // "loop0"
};

// Lives as long as the process. Not Driver::automatic.
[[nodiscard]] HostDriver& host_driver(Driver driver);
[[nodiscard]] HostDriver& fuse_host();
[[nodiscard]] HostDriver& nbd_host();
[[nodiscard]] HostDriver& ublk_host();

// Loads a module that the kernel may have; nothing happens where it is there, or cannot be had.
void load_module(const char* name);

}  // namespace perilune::attach
