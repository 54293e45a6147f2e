// SPDX-License-Identifier: Apache-2.0
// Third-party copies (SPC-4 5.17): what a copy in progress holds, and what is remembered of one that has
// ended. The copy manager of a logical unit keeps them per I_T nexus, in a fixed number of places: nothing a
// peer says makes it grow. For src/scsi alone. One thread (the shard's).
#pragma once

#include <array>
#include <cstdint>

#include "base/intrusive_list.hpp"
#include "base/limits.hpp"
#include "scsi/rod_tokens.hpp"
#include "scsi/task.hpp"

namespace perilune::scsi {

class LogicalUnit;
struct ShardClaim;

// What RECEIVE COPY OPERATING PARAMETERS and VPD 8Fh advertise and the commands hold to.
namespace copy_limits {
inline constexpr std::uint16_t max_cscds = 16;
inline constexpr std::uint16_t max_segments = 8;
inline constexpr std::uint32_t cscd_bytes = 32;            // CSCD descriptor E4h
inline constexpr std::uint32_t segment_bytes = 28;         // segment descriptor 02h
inline constexpr std::uint32_t max_list_bytes = max_cscds * cscd_bytes + max_segments * segment_bytes;
// Bytes that one segment moves.
inline constexpr std::uint32_t max_segment_length = 8388608;
inline constexpr std::uint8_t max_operations = 16;         // of one nexus, in progress or remembered
inline constexpr std::uint32_t scratch_bytes = 262144;     // one slice
}  // namespace copy_limits

// Blocks of a unit that the running command of a nexus works on, be it a command of this unit or of another.
// Beside it no command of the unit runs that writes to one of these blocks; reads do, unless the claim writes
// and the unit keeps protection information. Two claims stand beside each other when neither writes. A
// command has all its claims or none, so that two that want each other's blocks do not wait for ever.
struct RangeClaim : ListNode<RangeClaim> {
  Task* task = nullptr;
  LogicalUnit* unit = nullptr;   // nullptr: not in use
  std::uint64_t sequence = 0;    // of the device's events, for task management
  std::uint64_t lba = 0;         // inside the unit
  std::uint64_t blocks = 0;
  bool writes = false;
  bool held = false;             // else it waits
};

struct CopyOperation {
  enum class State : std::uint8_t { unused, running, finished };
  enum class Stage : std::uint8_t { next_segment, claiming, reading, erasing, writing, flushing };
  enum class Interruption : std::uint8_t { none, unit_was_reset, by_command };

  State state = State::unused;
  bool remembered = false;              // LIST ID USAGE is not 11b
  std::uint8_t service_action = 0;      // of the command that started it
  std::uint16_t unit_number = 0;        // of the copy manager
  std::uint32_t list_identifier = 0;
  std::uint64_t age = 0;                // the lower the older
  Task* task = nullptr;                 // while running

  // The parameter list in task->data: validated, byte offsets.
  std::uint16_t cscds = 0;
  std::uint16_t segments = 0;
  std::uint32_t cscd_offset = 0;
  std::uint32_t segment_offset = 0;

  // POPULATE TOKEN and WRITE USING TOKEN: ranges in the place of segments.
  bool by_token = false;  // WRITE USING TOKEN: `segment` counts pieces, bytes_written says where it is
  std::uint64_t token = 0;              // made or brought; 0 in the latter case: zeroes
  std::uint16_t source_number = 0;      // the unit that it was made for: looked for anew for each piece
  std::uint64_t source_id = 0;
  RodRanges from;                       // of the source
  RodRanges to;                         // of the unit that got the command
  std::uint64_t from_bytes = 0;
  std::uint64_t offset_bytes = 0;       // in `from`, where the copy begins
  std::uint32_t inactivity_s = 0;

  // Progress.
  Stage stage = Stage::next_segment;
  Interruption interruption = Interruption::none;
  const LogicalUnit* interrupted_unit = nullptr;  // that was reset; only to be compared
  std::uint16_t segment = 0;            // in progress; also how many are done
  std::uint16_t operations = 0;         // block operations ended, modulo 2^16
  std::uint64_t bytes_written = 0;

  // The segment in progress.
  LogicalUnit* source = nullptr;        // nullptr: zeroes
  LogicalUnit* destination = nullptr;
  std::uint64_t source_lba = 0;
  std::uint64_t destination_lba = 0;
  std::uint64_t read_bytes = 0;         // whole blocks of the source
  std::uint64_t write_bytes = 0;        // whole blocks of the destination: less, equal, or padded with zeroes
  std::uint64_t slices_done = 0;
  bool backwards = false;  // the ranges overlap, and the source must be read before it is overwritten
  bool waiting = false;                 // for its claims; the task's phase is blocked
  std::array<RangeClaim, 2> claims;     // source, destination
  std::array<ShardClaim*, 2> shard_claims{};  // on all shards, where there are several: one for each unit

  // Outcome, in state finished.
  bool ended_by_abort = false;
  ScsiStatus status = ScsiStatus::good;
  std::uint8_t sense_length = 0;
  std::array<std::uint8_t, limits::max_sense_bytes> sense{};
};

// The copies of one I_T nexus. Stable addresses.
struct NexusCopies {
  std::array<CopyOperation, copy_limits::max_operations> operations;

  // The remembered one, or the one in progress, of this identifier at this unit's copy manager.
  [[nodiscard]] CopyOperation* find(std::uint16_t unit_number, std::uint32_t list_identifier) noexcept;
  // A place for a new one: free, or that of the oldest that has ended; nullptr while all are in progress.
  [[nodiscard]] CopyOperation* place() noexcept;
  // Forgets what has ended at this unit's copy manager (logical unit reset).
  void forget_finished(std::uint16_t unit_number) noexcept;
};

}  // namespace perilune::scsi
