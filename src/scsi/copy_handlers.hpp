// SPDX-License-Identifier: Apache-2.0
// Third-party copies: what the command table and INQUIRY name. For src/scsi alone.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.hpp"
#include "scsi/command_table.hpp"

namespace perilune::scsi {

struct CopyOperation;

// EXTENDED COPY, both lengths of the list identifier.
bool admit_extended_copy(Command&);
bool prepare_extended_copy(Command&);
Progress run_extended_copy(Command&);

// The place of a new copy of this nexus, which is now task.copy; nullptr: the command has ended, because a
// copy of this identifier is in progress, or too many copies are.
[[nodiscard]] CopyOperation* begin_copy_operation(Command& command, std::uint32_t list_identifier,
                                                  bool remembered);

Progress run_copy_operation_abort(Command&);
Progress run_receive_copy_status_lid1(Command&);
Progress run_receive_copy_status_lid4(Command&);
Progress run_receive_copy_data_lid1(Command&);
Progress run_receive_copy_data_lid4(Command&);
Progress run_receive_copy_operating_parameters(Command&);
Progress run_receive_copy_failure_details(Command&);

// Appends the descriptors of VPD page 8Fh.
void third_party_copy_page(std::vector<std::uint8_t>& out, const Command& command);

// Whether the unit has this designator in its VPD page 83h, among those that name the unit (inquiry.cpp).
[[nodiscard]] bool designates(const LogicalUnit& unit, std::uint8_t code_set, std::uint8_t type,
                              Bytes designator) noexcept;

}  // namespace perilune::scsi
