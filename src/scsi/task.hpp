// SPDX-License-Identifier: Apache-2.0
// One SCSI command between a transport and the SCSI device. The transport owns it (embedded in its own
// command object, reused without allocation), fills the request part, and drives it:
//
//   admit(task)    LUN map, unit attentions, reservation, command row, serialization, LBA range. Afterwards
//   either the
//                  command is over (task.finished(): status and sense are set, parameter data may be in
//                  task.parameter_data) or task.need tells what memory and data it wants.
//   transport      fetches task.need.data_out_bytes into task.data, or prepares task.need.data_in_bytes of
//   task.data, and
//                  task.need.scratch_bytes of task.scratch, all at once or not yet. Memory is asked for in
//                  the order of admission: a later command may have to wait for an earlier one, never the
//                  other way round.
//   execute(task)  true: over now. False: task.done is called later, on the same thread.
//
// The rules of ending early stand at Device::abort (device.hpp). SCSI knows no iSCSI: nexus and names are
// plain bytes. One thread (the shard's).
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/block_op.hpp"
#include "base/bytes.hpp"
#include "base/delegate.hpp"
#include "base/intrusive_list.hpp"
#include "base/limits.hpp"
#include "base/units.hpp"

namespace perilune::scsi {

class LogicalUnit;
class Nexus;
struct CommandRow;
struct CopyOperation;
struct ShardClaim;
struct StartableTag;

enum class ScsiStatus : std::uint8_t {  // SAM-5 5.3.1
  good = 0x00,
  check_condition = 0x02,
  condition_met = 0x04,
  busy = 0x08,
  reservation_conflict = 0x18,
  task_set_full = 0x28,
  aca_active = 0x30,
  task_aborted = 0x40,
};

enum class TaskAttribute : std::uint8_t { untagged = 0, simple = 1, ordered = 2, head_of_queue = 3, aca = 4 };

// What an admitted command asks of the transport, in bytes. Never more than the initiator's expected length
// asks for, rounded up to a block: data_out_bytes <= expected_data_out_bytes always.
struct TaskNeed {
  std::uint32_t data_out_bytes = 0;  // from the initiator into `data` (parameter lists too)
  std::uint32_t data_in_bytes = 0;   // `data` that execute() fills and the transport sends
  std::uint32_t scratch_bytes = 0;   // private memory of the command (COMPARE AND WRITE, WRITE SAME, VERIFY)
};

struct Task : ListNode<Task>, ListNode<StartableTag> {
  // Request, set by the transport before admit().
  Nexus* nexus = nullptr;
  std::uint64_t lun = 0;   // the eight LUN bytes, big-endian
  std::uint64_t tag = 0;   // unique in the nexus while the task lives
  TaskAttribute attribute = TaskAttribute::simple;
  std::uint8_t priority = 0;  // SAM-5 8.7.6, 0: none given. Carried, but not used: PRIOR_SUP (VPD 86h) is 0
  std::array<std::uint8_t, limits::max_cdb_bytes> cdb{};
  std::uint8_t cdb_length = 16;               // bytes of it that came
  std::uint32_t expected_data_out_bytes = 0;  // what the initiator will send at most (iSCSI: EDTL of a write)
  std::uint32_t expected_data_in_bytes = 0;   // what it has room for
  Delegate<void(Task&)> done;                 // execute() had returned false and the command is over now
  Delegate<void(Task&)> cancelled;  // task management took a command that had not been executed: see
                                    // Device::abort

  // Between admit() and execute(): set by the transport. `data` holds at least the bytes of need (a longer
  // tail is not touched), `scratch` likewise; both stay put until the command is over. Pieces of any size,
  // block multiples best.
  TaskNeed need;
  std::span<const iovec> data;
  std::span<const iovec> scratch;

  // Outcome.
  bool over = false;
  bool aborted = false;         // ended by task management or abort(): send no response, but for the next
  bool report_aborted = false;  // beside `aborted`: another nexus ended it, and TAS is 1: the status TASK
                                // ABORTED is sent
  bool ended_with_set = false;  // beside `aborted`: ended with others of its unit by one task management
                                // function
  ScsiStatus status = ScsiStatus::good;
  std::uint8_t sense_length = 0;                                // bytes of `sense`, 0 when none
  std::array<std::uint8_t, limits::max_sense_bytes> sense{};
  std::vector<std::uint8_t> parameter_data;  // data-in of control commands; capacity is kept for reuse
  std::uint32_t data_in_length = 0;  // bytes to send, from parameter_data when it is not empty, else from
                                     // `data`; not yet clipped to expected_data_in_bytes
  std::uint32_t data_transfer_length = 0;  // what the device wanted to move: residuals are computed from it
                                           // (SAM-5 5.4)

  [[nodiscard]] bool finished() const noexcept { return over; }

  // For src/scsi alone.
  enum class Phase : std::uint8_t { outside, admitted, cancelled, blocked, running };
  LogicalUnit* unit = nullptr;
  const CommandRow* row = nullptr;
  std::uint64_t sequence = 0;  // order of admission in the device
  Phase phase = Phase::outside;
  bool lent = false;
  bool synchronous = false;    // inside execute(): its return value tells the end, not `done`
  std::uint8_t step = 0;       // of a command that takes several operations
  std::uint8_t serial = 0;     // SerialClass
  std::uint64_t lba = 0;       // range of the command, blocks == 0: none
  std::uint64_t blocks = 0;
  std::uint64_t position = 0;  // blocks done
  std::uint32_t slice_blocks = 0;
  std::uint32_t block_bytes = 0;  // of one block in `data` and `scratch`: with protection information, where
                                  // that is transferred
  std::uint32_t transfer_blocks = 0;  // of `blocks`, those for which the initiator moves data
  std::uint32_t descriptor = 0;       // UNMAP: index of the next descriptor
  std::uint32_t generation = 0;       // of the unit, as this command was checked against it
  bool telling = false;           // it has ended, and other shards are still being told of something about it
  ShardClaim* claim = nullptr;    // on all shards, from the request to the end
  CopyOperation* copy = nullptr;  // of EXTENDED COPY, from prepare() until the task leaves
  block::BlockOp op;
  static constexpr std::size_t max_pieces = 65;
  std::array<iovec, max_pieces> pieces{};  // op.data when neither `data` nor `scratch` fits as it is
};

}  // namespace perilune::scsi
