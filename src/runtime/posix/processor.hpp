// SPDX-License-Identifier: Apache-2.0
// The clock and the processor, as a loop that runs on this system sees them.
#pragma once

#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "runtime/polling.hpp"
#include "runtime/time.hpp"

namespace perilune::runtime::posix {

[[nodiscard]] inline Instant monotonic_now() noexcept {
  timespec ts{};
  ::clock_gettime(CLOCK_MONOTONIC, &ts);
  return Instant(std::chrono::seconds(ts.tv_sec) + std::chrono::nanoseconds(ts.tv_nsec));
}

// Tells the processor that this is a spin.
inline void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spinning takes the time of whoever shares the only processor. A thread that is pinned to one of several may
// have it to itself; when it has not, the preemptions tell. Who asked for spinning always gets it.
[[nodiscard]] inline Polling sensible(Polling wanted) noexcept {
  return wanted == Polling::adaptive && ::sysconf(_SC_NPROCESSORS_ONLN) < 2 ? Polling::never : wanted;
}

// Tells the policy how often this thread was preempted, when it wants to know.
inline void check_preemption(PollingPolicy& policy, Instant now) noexcept {
  if (!policy.check_due(now)) return;
  rusage usage{};
  if (::getrusage(RUSAGE_THREAD, &usage) == 0) {
    policy.note_preemptions(now, static_cast<std::uint64_t>(usage.ru_nivcsw));
  }
}

}  // namespace perilune::runtime::posix
