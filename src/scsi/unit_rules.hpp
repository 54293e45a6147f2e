// SPDX-License-Identifier: Apache-2.0
// What an operator decides of a disk, beside what its backing can do: a command that is not to be there, a
// limit that is smaller than ours. Everything that is advertised follows (VPD pages, mode pages, REPORT
// SUPPORTED OPERATION CODES). The defaults take nothing away. Values; any thread.
#pragma once

#include <cstdint>
#include <optional>

namespace perilune::scsi {

// UA_INTLCK_CTRL of the Control mode page (SPC-4 7.5.8).
enum class AttentionInterlock : std::uint8_t {
  none = 0,       // a unit attention that has been told is over
  keep = 2,       // only REQUEST SENSE ends it
  establish = 3,  // as keep; and RESERVATION CONFLICT, TASK SET FULL leave one (2Ch/09h, 2Ch/08h)
};

struct UnitRules {
  bool third_party_copy = true;  // EXTENDED COPY, RECEIVE COPY RESULTS, ROD tokens
  bool compare_and_write = true;
  bool reservations =
      true;  // PERSISTENT RESERVE, RESERVE, RELEASE; without: nobody is kept out by those that are there
  bool force_unit_access = true;      // FUA, and DPOFUA of the mode pages
  bool unmap = true;                  // UNMAP, where the backing deallocates
  bool unmap_by_write_same = true;    // WRITE SAME with UNMAP, likewise
  bool unmapped_reads_zeroes = true;  // LBPRZ, where the backing does it
  bool task_aborted_status = false;   // TAS of the Control mode page, until MODE SELECT says otherwise
  bool always_aptpl = false;          // REGISTER counts as with APTPL, where there is something to keep it in
  // Every write is durable before it ends, whatever WCE says: while the cache is taken away from initiators.
  bool write_through = false;
  AttentionInterlock interlock = AttentionInterlock::none;
  std::optional<bool> write_cache =
      std::nullopt;  // false: WCE is 0 and stays so; true: WCE can be 1, even where there is no cache
  std::optional<bool> rotational = std::nullopt;  // MEDIUM ROTATION RATE; nullopt: what the backing says
  // Limits of the Block Limits VPD page. 0: ours; more than ours counts as ours.
  std::uint32_t max_unmap_blocks = 0;
  std::uint32_t max_unmap_descriptors = 0;
  std::uint32_t max_write_same_blocks = 0;
  std::uint32_t optimal_transfer_blocks = 0;
  std::uint32_t unmap_granularity_blocks = 0;
  std::uint32_t unmap_alignment_blocks = 0;

  // False: every command that a disk has is there.
  [[nodiscard]] constexpr bool take_commands_away() const noexcept {
    return !third_party_copy || !compare_and_write || !reservations || !unmap;
  }
  [[nodiscard]] constexpr bool serves(std::uint8_t opcode) const noexcept {
    switch (opcode) {
      case 0x83:  // EXTENDED COPY, POPULATE TOKEN, WRITE USING TOKEN; RECEIVE COPY RESULTS
      case 0x84:
        return third_party_copy;
      case 0x89:
        return compare_and_write;
      case 0x16:  // RESERVE, RELEASE; PERSISTENT RESERVE
      case 0x17:
      case 0x56:
      case 0x57:
      case 0x5e:
      case 0x5f:
        return reservations;
      case 0x42:
        return unmap;
      default:
        return true;
    }
  }
  friend bool operator==(const UnitRules&, const UnitRules&) = default;
};

}  // namespace perilune::scsi
