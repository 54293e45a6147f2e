// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

#include "scsi/shard_link.hpp"

namespace perilune::target {

class Server;

// The link between the devices of one target on all shards, over their loops. The server outlives it.
class DeviceLink final : public scsi::ShardLink {
 public:
  DeviceLink(Server& server, std::uint32_t self, std::uint32_t target)
      : server_(server), self_(self), target_(target) {}
  [[nodiscard]] std::uint32_t self() const noexcept override { return self_; }
  [[nodiscard]] std::uint32_t shards() const noexcept override;
  void send(std::uint32_t shard, std::function<void(scsi::Device&)> work) override;

 private:
  Server& server_;
  std::uint32_t self_;
  std::uint32_t target_;
};

}  // namespace perilune::target
