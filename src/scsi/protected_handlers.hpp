// SPDX-License-Identifier: Apache-2.0
// Commands of a disk with protection information that transfer it, or say how it is checked: RDPROTECT,
// WRPROTECT, VRPROTECT and the CDBs of 32 bytes (SBC-3 5.8 …). What a command without these does is the same
// on every disk; what becomes of the protection information then is the channel's part
// (protected_channel.hpp). For src/scsi alone.
#pragma once

#include "scsi/command_table.hpp"
#include "scsi/handlers.hpp"

namespace perilune::scsi {

bool admit_protected_read(Command&);
bool admit_protected_write(Command&);
bool admit_protected_write_and_verify(Command&);
bool admit_protected_write_atomic(Command&);
bool admit_protected_verify(Command&);
Progress run_protected_verify(Command&);
bool admit_protected_write_same(Command&);
Progress run_protected_write_same(Command&);

// What admits, and runs, on such a disk the commands that this function admits and runs on others. nullptr:
// nothing else.
constexpr bool (*protected_admit(bool (*admit)(Command&)))(Command&) {
  if (admit == admit_read) return admit_protected_read;
  if (admit == admit_write) return admit_protected_write;
  if (admit == admit_write_atomic) return admit_protected_write_atomic;
  if (admit == admit_write_and_verify) return admit_protected_write_and_verify;
  if (admit == admit_verify) return admit_protected_verify;
  if (admit == admit_write_same) return admit_protected_write_same;
  return nullptr;
}
constexpr Progress (*protected_run(Progress (*run)(Command&)))(Command&) {
  if (run == run_verify) return run_protected_verify;
  return run == run_write_same ? run_protected_write_same : run;
}

}  // namespace perilune::scsi
