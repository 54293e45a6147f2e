// SPDX-License-Identifier: Apache-2.0
// Reservations and third-party copies (SPC-4 5.12 and 5.17): a copy reads and writes logical units on behalf of the
// nexus that sent the command, so what that nexus may not do with READ and WRITE it may not do with a copy either.
//
// This is the one place where a copy asks. The row of EXTENDED COPY in the command table answers for the unit that got
// the command (the copy manager); this function answers for each unit that a segment names, source and destination,
// whichever unit that is. Asked for every segment after its blocks have been claimed, thus beside no PERSISTENT RESERVE
// OUT that changes the answer. False ends the copy with COPY ABORTED, THIRD PARTY DEVICE FAILURE and the forwarded status
// RESERVATION CONFLICT.
#pragma once

namespace perilune::scsi {

class LogicalUnit;
struct Task;

// Whether the reservations of `unit` let task.nexus read its blocks, or write them.
[[nodiscard]] bool copy_may_access(const Task& task, const LogicalUnit& unit, bool writes) noexcept;

}  // namespace perilune::scsi
