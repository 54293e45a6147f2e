// SPDX-License-Identifier: Apache-2.0
// Copies by tokens: what the command table and INQUIRY name. For src/scsi alone.
#pragma once

#include <cstdint>
#include <vector>

#include "scsi/command_table.hpp"

namespace perilune::scsi {

bool admit_token_command(Command&);  // POPULATE TOKEN, WRITE USING TOKEN
bool prepare_populate_token(Command&);
Progress run_populate_token(Command&);
bool prepare_write_using_token(Command&);
Progress run_write_using_token(Command&);
Progress run_receive_rod_token_information(Command&);
Progress run_report_all_rod_tokens(Command&);

// Append the descriptors of VPD page 8Fh, each at its place among the others: 0000h; 0106h and 0108h.
void rod_limits_descriptor(std::vector<std::uint8_t>& out, const Command& command);
void rod_type_descriptors(std::vector<std::uint8_t>& out, const Command& command);

}  // namespace perilune::scsi
