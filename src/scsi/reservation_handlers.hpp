// SPDX-License-Identifier: Apache-2.0
// The handlers of reservations and of what a unit is told to keep, and what they share. For src/scsi alone.
#pragma once

#include "scsi/command_table.hpp"
#include "scsi/unit_change.hpp"

namespace perilune::scsi {

Progress run_read_keys(Command&);
Progress run_read_reservation(Command&);
Progress run_report_capabilities(Command&);
Progress run_read_full_status(Command&);
bool admit_persistent_reserve_out(Command&);
bool prepare_persistent_reserve_out(Command&);
Progress run_persistent_reserve_out(Command&);
bool admit_reserve_release(Command&);
Progress run_reserve_unit(Command&);
Progress run_release_unit(Command&);
Progress run_report_identifying_information(Command&);
bool admit_set_identifying_information(Command&);
Progress run_set_identifying_information(Command&);

// A step of commands that change their unit: their handler was called because Device::change has ended.
inline constexpr std::uint8_t changing_step = 100;
// Begins the change, and ends the command with GOOD where it is made at once.
[[nodiscard]] Progress begin_change(Command& command, UnitChange change);
// The end of the command whose step is changing_step.
[[nodiscard]] Progress end_change(Command& command) noexcept;

}  // namespace perilune::scsi
