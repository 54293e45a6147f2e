// SPDX-License-Identifier: Apache-2.0
// The vocabulary of logical units that are real SCSI devices: a CDB goes to the device as it came, and data,
// status and sense come back as they are. SCSI stays pure: what reaches the device implements PassthroughPort
// (src/passthrough, SG_IO).
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/delegate.hpp"
#include "base/intrusive_list.hpp"
#include "base/limits.hpp"

namespace perilune::scsi {

// True facts about the device, as they were when it was opened.
struct PassthroughFacts {
  std::uint8_t type = 0;                     // PERIPHERAL DEVICE TYPE
  std::uint32_t max_transfer_bytes = 65536;  // of one command; at most limits::max_transfer_bytes
  std::uint32_t block_bytes = 0;             // logical block of a disk; 0: not known, or it has none
  std::vector<std::uint8_t> inquiry;         // standard INQUIRY data, at least 36 bytes
  // Whether commands pass too that can ruin the device or take it away for hours (forwarded_commands.cpp).
  bool unrestricted = false;
};

class PassthroughPort;

// One command on its way. Embedded in its owner's memory and put until it has ended; while it is pending its
// list node belongs to the port.
struct PassthroughCommand : ListNode<PassthroughCommand> {
  enum class Direction : std::uint8_t { none, out, in };
  // What became of it between here and the device.
  enum class Delivery : std::uint8_t {
    answered,     // the device did: status, sense and transferred_bytes are its own
    busy,         // not accepted, or lost before it began: it may be sent again
    queue_full,   // too many wait already
    unreachable,  // the device does not answer any more, or is gone
    timed_out,    // it did not end in time, and was given up
    aborted,      // ended by a reset or an abort that was not ours
    damaged,      // parity or CRC error between host and device
    conflict,     // the path is shut by a reservation of another host
    failed,       // anything else
  };

  // Request.
  std::array<std::uint8_t, limits::max_cdb_bytes> cdb{};
  std::uint8_t cdb_length = 0;
  Direction direction = Direction::none;
  std::uint32_t bytes = 0;      // to transfer at most; `data` has at least as many
  std::span<const iovec> data;  // stays put until the end
  Delegate<void(PassthroughCommand&)> done;

  // Outcome.
  Delivery delivery = Delivery::failed;
  std::uint8_t status = 0;  // SAM-5 5.3.1, as the device sent it
  std::uint8_t sense_length = 0;
  std::array<std::uint8_t, limits::max_sense_bytes> sense{};
  std::uint32_t transferred_bytes = 0;  // at most `bytes`

  PassthroughPort* port = nullptr;  // for the port: who is told of the end
};

// A reset of the logical unit on its way to the device; as PassthroughCommand.
struct PassthroughReset : ListNode<PassthroughReset> {
  Delegate<void(PassthroughReset&)> done;
  bool succeeded = false;  // the device was reset; otherwise it cannot be, or did not answer

  PassthroughPort* port = nullptr;  // for the port
};

// The way of one shard to one device. One thread (the shard's).
class PassthroughPort {
 public:
  virtual ~PassthroughPort() = default;  // precondition: nothing outstanding
  [[nodiscard]] virtual const PassthroughFacts& facts() const noexcept = 0;
  // `done` is called exactly once, from a later turn of the loop. A command cannot be taken back: it ends
  // when the device, or the kernel's patience with it, ends it.
  virtual void submit(PassthroughCommand& command) = 0;
  // LOGICAL UNIT RESET of the device, and of nothing else. `done` as above. Commands that the device had end
  // by it, each for itself.
  virtual void reset(PassthroughReset& reset) = 0;
};

}  // namespace perilune::scsi
