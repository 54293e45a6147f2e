// SPDX-License-Identifier: Apache-2.0
// What a disk is to the rest of the program: blocks, never CDBs (DESIGN 1.9). Backstores serve the target;
// the initiator's logical unit offers the same Channel, so that attach/ and the benches drive any of them.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/block_op.hpp"
#include "base/result.hpp"
#include "base/space_meter.hpp"
#include "runtime/loop.hpp"

namespace perilune::block {

// Shared by all shards, immutable; channels are per loop. Control path.
class Backstore {
 public:
  virtual ~Backstore() = default;
  [[nodiscard]] virtual const Geometry& geometry() const = 0;
  // Stable text that names the stored bytes (canonical path, "ram:<random>"): identities derive from it.
  [[nodiscard]] virtual const std::string& identity() const = 0;
  // One line for people: "file /srv/disk.img, 1.0 GiB, O_DIRECT".
  [[nodiscard]] virtual std::string describe() const = 0;
  [[nodiscard]] virtual Result<std::unique_ptr<Channel>> open_channel(runtime::Loop& loop) = 0;
  // How many blocks the backing has room for now, which may be another number than geometry() says. Of a
  // thick store that has grown, their space is allocated before it answers. Asks the system and may block, as
  // measure_space(). Any thread, one at a time.
  [[nodiscard]] virtual Result<BlockCount> look_at_size() { return geometry().blocks; }
  // This channel of the store has so many blocks from now on: not fewer than before, and not more than
  // look_at_size() has said. On the channel's loop. A store whose size never changes has nothing to do.
  virtual void set_blocks(Channel& channel, BlockCount blocks) {
    (void)channel;
    (void)blocks;
  }
  // What a thin store has of its backing now. Nothing: all is allocated from the beginning, or nobody can
  // tell. Asks the system, which may block for as long as a file system takes: on no thread that runs a loop.
  // Any thread, one at a time.
  [[nodiscard]] virtual std::optional<SpaceLevel> measure_space() { return std::nullopt; }
};

}  // namespace perilune::block
