// SPDX-License-Identifier: Apache-2.0
// A disk on a runtime::BlockFile of any loop: what FileBackstore serves, and what the simulator puts over its
// own disks.
//
//  - Short transfers are continued here.
//  - Memory that O_DIRECT cannot take is copied through an aligned buffer (at most bounce_limit_bytes at
//  once, the
//    others wait in turn).
//  - A durable operation ends when its bytes are on stable media: a write by RWF_DSYNC, unmap and
//  write_zeroes by a
//    flush that follows them.
//  - An atomic write goes through a journal (block/atomic_lanes.hpp), where the disk was given one.
//  - A failed flush has lost writes that were reported good, and the next flush would not tell. So it is
//  never retried:
//    from then on every flush and durable operation of every channel fails.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/block_op.hpp"
#include "runtime/block_file.hpp"

namespace perilune::block {

class AtomicLanes;

// Shared by the channels of one backstore, on any threads. 0: sound; otherwise the errno of the flush that
// failed.
struct FlushHealth {
  std::atomic<int> failed_errno{0};
};

inline constexpr std::size_t bounce_limit_bytes = 16 << 20;

[[nodiscard]] Geometry file_geometry(const runtime::FileProperties& properties,
                                     std::uint32_t block_size_bytes);

// `geometry` is copied. `file` belongs to the loop that the channel is used on.
[[nodiscard]] std::unique_ptr<Channel> make_file_channel(std::unique_ptr<runtime::BlockFile> file,
                                                         const Geometry& geometry,
                                                         std::shared_ptr<FlushHealth> health);
// With writes that are not torn: geometry.max_atomic_blocks says of how many blocks. `disk` is the number of
// atomic_disk_number().
[[nodiscard]] std::unique_ptr<Channel> make_file_channel(std::unique_ptr<runtime::BlockFile> file,
                                                         const Geometry& geometry,
                                                         std::shared_ptr<FlushHealth> health,
                                                         std::shared_ptr<AtomicLanes> lanes,
                                                         std::uint64_t disk);

// Of a channel that make_file_channel() has made: the file has grown. On the channel's loop.
void set_file_channel_blocks(Channel& channel, BlockCount blocks);

}  // namespace perilune::block
