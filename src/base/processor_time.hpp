// SPDX-License-Identifier: Apache-2.0
// How much of a processor a process has had; for what measures another one.
#pragma once

#include <sys/types.h>

#include <optional>

namespace perilune {

// Seconds that the living threads of a process of this machine were on a processor, to the nanosecond where
// the scheduler keeps it (/proc/PID/task/*/schedstat). Nothing: there is no such process, or it is not told.
// Allocates. Any thread.
[[nodiscard]] std::optional<double> processor_seconds(pid_t process);

}  // namespace perilune
