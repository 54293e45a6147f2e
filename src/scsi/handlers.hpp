// SPDX-License-Identifier: Apache-2.0
// The functions that the command table names, and what they share. For src/scsi alone.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/limits.hpp"
#include "scsi/command_table.hpp"
#include "scsi/logical_unit.hpp"
#include "scsi/sense.hpp"
#include "scsi/task.hpp"

namespace perilune::scsi {

// What VPD B0h advertises and the commands hold to.
namespace advertised {
// Where the operator has not set less.
inline constexpr std::uint32_t most_unmap_blocks = 1048576;
inline constexpr std::uint32_t most_unmap_descriptors = 256;
inline constexpr std::uint32_t most_write_same_blocks = 32768;
inline constexpr std::uint16_t max_scattered_descriptors = 256;
inline constexpr std::uint32_t scratch_bytes = 262144;  // of commands that work in slices
inline constexpr std::uint16_t echo_buffer_bytes = 4096;  // READ BUFFER; not in VPD B0h

[[nodiscard]] std::uint32_t max_transfer_blocks(const LogicalUnit& unit) noexcept;
[[nodiscard]] std::uint32_t optimal_transfer_blocks(const LogicalUnit& unit) noexcept;
[[nodiscard]] std::uint32_t max_unmap_blocks(const LogicalUnit& unit) noexcept;
[[nodiscard]] std::uint32_t max_unmap_descriptors(const LogicalUnit& unit) noexcept;
[[nodiscard]] std::uint32_t max_write_same_blocks(const LogicalUnit& unit) noexcept;
[[nodiscard]] std::uint8_t max_compare_and_write_blocks(const LogicalUnit& unit) noexcept;
// Of one operation; not advertised. Memory is given back, or cleared, at once on the loop's thread, and that
// takes its time too.
[[nodiscard]] std::uint64_t max_erase_blocks(const LogicalUnit& unit) noexcept;
[[nodiscard]] std::uint32_t max_atomic_blocks(const LogicalUnit& unit) noexcept;  // 0: no WRITE ATOMIC
}  // namespace advertised

// Commands without block data: they end at once and leave their answer in task.parameter_data.
Progress run_test_unit_ready(Command&);
Progress run_request_sense(Command&);
Progress run_inquiry(Command&);
Progress run_mode_sense_6(Command&);
Progress run_mode_sense_10(Command&);
Progress run_read_capacity_10(Command&);
Progress run_read_capacity_16(Command&);
Progress run_report_luns(Command&);
Progress run_report_supported_operation_codes(Command&);
Progress run_report_supported_task_management(Command&);
Progress run_report_target_port_groups(Command&);
bool admit_report_referrals(Command&);
Progress run_report_referrals(Command&);
Progress run_read_defect_data_10(Command&);
Progress run_read_defect_data_12(Command&);
Progress run_report_timestamp(Command&);
bool admit_set_timestamp(Command&);
Progress run_set_timestamp(Command&);
Progress run_read_buffer(Command&);
bool admit_write_buffer(Command&);
Progress run_write_buffer(Command&);
Progress run_log_sense(Command&);
Progress run_log_select(Command&);

bool admit_mode_select(Command&);
Progress run_mode_select(Command&);
bool admit_set_target_port_groups(Command&);
Progress run_set_target_port_groups(Command&);
bool admit_start_stop(Command&);
Progress run_start_stop(Command&);
Progress run_prevent_allow(Command&);

// Block commands.
bool admit_read(Command&);
Progress run_read(Command&);
bool admit_write(Command&);
Progress run_write(Command&);
bool admit_write_and_verify(Command&);
Progress run_write_and_verify(Command&);
bool admit_verify(Command&);
Progress run_verify(Command&);
bool admit_compare_and_write(Command&);
Progress run_compare_and_write(Command&);
bool admit_write_same(Command&);
Progress run_write_same(Command&);
bool admit_unmap(Command&);
bool prepare_unmap(Command&);
Progress run_unmap(Command&);
bool admit_synchronize_cache(Command&);
Progress run_synchronize_cache(Command&);
bool admit_pre_fetch(Command&);
Progress run_pre_fetch(Command&);
bool admit_send_diagnostic(Command&);
Progress run_send_diagnostic(Command&);
bool admit_orwrite(Command&);
Progress run_orwrite(Command&);
bool admit_write_atomic(Command&);
Progress run_write_atomic(Command&);
bool admit_write_scattered(Command&);
bool prepare_write_scattered(Command&);
Progress run_write_scattered(Command&);
bool admit_get_lba_status(Command&);
Progress run_get_lba_status(Command&);

// INQUIRY, REPORT LUNS, REQUEST SENSE (and TEST UNIT READY at the W-LUN) where no unit is.
void answer_without_unit(Device& device, Task& task, bool well_known);

// Shared.

// What VPD page 83h says of the port that is asked through and of the target device, and page 88h of its
// ports: appended.
void append_own_ports(std::vector<std::uint8_t>& out, const Command& command);
void append_scsi_ports(std::vector<std::uint8_t>& out, const Command& command);
// The NAA of VPD page 83h.
[[nodiscard]] std::uint64_t naa_designator(const LogicalUnit& unit) noexcept;
// LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT.
[[nodiscard]] std::uint8_t physical_exponent(const block::Geometry& geometry) noexcept;

// ANC_SUP.
[[nodiscard]] bool can_anchor(const LogicalUnit& unit) noexcept;

// Ends the command with GOOD.
Progress good(Task& task) noexcept;
// Ends the command with GOOD and parameter_data clipped to the allocation length of the CDB.
Progress reply(Task& task, std::size_t allocation_length);
// The operation that has just ended failed: the command has ended with the sense for it.
[[nodiscard]] bool operation_failed(Command& command) noexcept;

// Why the medium cannot be got at by anybody: stopped, or not there.
[[nodiscard]] std::optional<AdditionalSense> not_ready(const LogicalUnit& unit) noexcept;
// Why this nexus cannot get at the medium through its port; nothing when it can.
[[nodiscard]] std::optional<AdditionalSense> inaccessible(const LogicalUnit& unit, const Task& task) noexcept;
// False when the command is not served in the state of the port's group; it has ended then.
[[nodiscard]] bool check_access(const CommandRow& row, const LogicalUnit& unit, Task& task) noexcept;

// LBA and count as the CDB's length places them; a READ(6) count of 0 is 256.
struct BlockRange {
  std::uint64_t lba = 0;
  std::uint64_t blocks = 0;
  std::uint8_t lba_byte = 2;     // of the CDB, for field pointers
  std::uint8_t blocks_byte = 7;
};
[[nodiscard]] BlockRange cdb_range(const Task& task) noexcept;
// False and 05/21/00 when the range passes the end. lba == capacity with no blocks is inside.
[[nodiscard]] bool check_range(Command& command, std::uint64_t lba, std::uint64_t blocks) noexcept;
// False and INVALID FIELD IN CDB when the count is over the advertised limit.
[[nodiscard]] bool check_count(Command& command, const BlockRange& range, std::uint64_t max_blocks) noexcept;

// The ranges of a parameter list, joined.
class JoinedRanges {
 public:
  // Fails the command, and returns false, when the range passes the end of the medium, or all of them
  // together are more than max_total blocks; then the sense points at `count_byte` of the list.
  [[nodiscard]] bool add(Command& command, std::uint64_t lba, std::uint64_t blocks, std::uint64_t max_total,
                         std::uint32_t count_byte) noexcept;
  [[nodiscard]] std::uint64_t total() const noexcept { return total_; }
  // The task takes over what lies from the first block to the last.
  void guard(Task& task) const noexcept;

 private:
  std::uint64_t total_ = 0;
  std::uint64_t low_ = ~std::uint64_t{0};
  std::uint64_t high_ = 0;
};

// The byte of the CDB with DPO, FUA, BYTCHK, UNMAP and their like, and its place.
[[nodiscard]] std::uint16_t options_place(const Task& task) noexcept;
[[nodiscard]] inline std::uint8_t options_byte(const Task& task) noexcept {
  return task.cdb[options_place(task)];
}
[[nodiscard]] bool fua_bit(const Task& task) noexcept;

// The range is inside the medium and has at most max_blocks: the task takes it over. Else the command has
// failed.
[[nodiscard]] bool accept_range(Command& command, const BlockRange& range, std::uint64_t max_blocks) noexcept;
// The same for the range of the CDB and MAXIMUM TRANSFER LENGTH; sets data_transfer_length too.
[[nodiscard]] bool accept_transfer(Command& command) noexcept;
// Data-out of as many whole blocks as the initiator announced (SAM-5 5.4.2: the smaller of the two is
// transferred).
void take_whole_blocks(Command& command) noexcept;
[[nodiscard]] std::uint32_t scratch_for(std::uint64_t bytes) noexcept;
// False and the command has failed: it must be durable, and an earlier flush has failed. Nothing can tell
// what became of the data before it.
[[nodiscard]] bool durable_is_possible(Command& command, bool fua) noexcept;

// A write of this unit has to be on stable media when it ends: FUA, or WCE = 0 over a cache.
[[nodiscard]] bool wants_durable(const LogicalUnit& unit, bool fua) noexcept;

}  // namespace perilune::scsi
