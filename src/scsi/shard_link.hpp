// SPDX-License-Identifier: Apache-2.0
// How the devices of several shards that serve the same logical units reach each other (DESIGN 1.3). Each
// shard has a Device of its own, with the same units under the same numbers; what changes a unit goes through
// all of them in two phases. The transport implements this on its loops. Pure code calls it on the thread of
// the device that holds it.
#pragma once

#include <cstdint>
#include <functional>

namespace perilune::scsi {

class Device;

class ShardLink {
 public:
  virtual ~ShardLink() = default;
  [[nodiscard]] virtual std::uint32_t self() const noexcept = 0;    // the shard of the device that holds this
                                                                    // link
  [[nodiscard]] virtual std::uint32_t shards() const noexcept = 0;  // all of them, at least 1
  // Calls `work` with the device of `shard`, on its thread, from a later turn of its loop. In order for each
  // pair of shards, that of a shard with itself among them. Not called any more once that shard's loop has
  // ended. Control path: it allocates.
  virtual void send(std::uint32_t shard, std::function<void(Device&)> work) = 0;
};

}  // namespace perilune::scsi
