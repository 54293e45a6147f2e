// SPDX-License-Identifier: Apache-2.0
// The functions that the command table names for SANITIZE and FORMAT UNIT. For src/scsi alone.
#pragma once

#include "scsi/command_table.hpp"

namespace perilune::scsi {

bool admit_sanitize(Command&);
bool prepare_sanitize(Command&);
Progress run_sanitize(Command&);

bool admit_format_unit(Command&);
bool prepare_format_unit(Command&);
Progress run_format_unit(Command&);

}  // namespace perilune::scsi
