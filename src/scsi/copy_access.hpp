// SPDX-License-Identifier: Apache-2.0
// Reservations and third-party copies (SPC-4 5.12 and 5.17): a copy reads and writes logical units on behalf
// of the nexus that sent the command, so what that nexus may not do with READ and WRITE it may not do with a
// copy either.
//
// This is the one place where a copy asks. The row of EXTENDED COPY in the command table answers for the unit
// that got the command (the copy manager); this function answers for each unit that a segment names, source
// and destination, whichever unit that is. It is asked for every segment once its claims are held; between
// the answer and the first operation nothing else runs. False ends the copy with COPY ABORTED, THIRD PARTY
// DEVICE FAILURE and the forwarded status RESERVATION CONFLICT.
//
// What works on a unit is therefore more than its task set: a change of reservations that may be answered
// only when no operation of a shut-out nexus is left (PREEMPT) also waits for each claim in
// LogicalUnit::claims_ that is held and for which this function now says no. Such a claim goes in
// Device::drop_claims, and who waits for it is asked again in Device::wake_released.
#pragma once

namespace perilune::scsi {

class LogicalUnit;
struct Task;

// Whether the reservations of `unit` let task.nexus read its blocks, or write them.
[[nodiscard]] bool copy_may_access(const Task& task, const LogicalUnit& unit, bool writes) noexcept;

}  // namespace perilune::scsi
