// SPDX-License-Identifier: Apache-2.0
// One SCSI command on its way through the target: the iSCSI part, the SCSI task, and the memory between them.
// Kept in the shard's slab and reused without allocation.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <vector>

#include "base/buffer_pool.hpp"
#include "iscsi/session/target_command.hpp"
#include "scsi/task.hpp"

namespace perilune::target {

class Session;
struct RetainedData;  // the list of those whose data is kept

struct Command : iscsi::TargetCommand, ListNode<RetainedData> {
  // Data and private memory of the largest command.
  static constexpr std::size_t max_pages = 2 * (limits::max_transfer_bytes / BufferPool::page_size_bytes) + 2;

  scsi::Task task;
  Session* owner = nullptr;
  bool admitted = false;
  bool executing = false;
  std::uint16_t reserved_pages = 0;  // the first ones, taken under the session's reservation
  std::uint16_t pages = 0;           // in all
  std::uint16_t retained_pages = 0;  // counted while its data is kept (target/retention.hpp)
  std::array<std::uint8_t*, max_pages> page{};
  std::array<iovec, max_pages> iov{};  // one per page, or iov[0] alone: lent memory
  BufferPool::Waiter waiter;
};

// Commands of a shard. Grows with the windows of its sessions, never shrinks; stable addresses.
class CommandSlab {
 public:
  // Room for so many commands at once, so that a burst finds them made.
  void provide(std::size_t count) {
    free_.reserve(std::max(count, commands_.size()));
    while (commands_.size() < count) free_.push_back(&commands_.emplace_back());
  }
  [[nodiscard]] Command& acquire() {
    if (free_.empty()) provide(commands_.size() + 1);
    Command& command = *free_.back();
    free_.pop_back();
    return command;
  }
  void release(Command& command) noexcept { free_.push_back(&command); }
  [[nodiscard]] std::size_t in_use() const noexcept { return commands_.size() - free_.size(); }

 private:
  std::deque<Command> commands_;
  std::vector<Command*> free_;
};

}  // namespace perilune::target
