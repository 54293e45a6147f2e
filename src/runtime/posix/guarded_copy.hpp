// SPDX-License-Identifier: Apache-2.0
// Copies to and from a mapped file. A page that the file no longer has (it was cut short), or that the file
// system has no room for, is a SIGBUS there, where a system call would return an error. Any thread.
#pragma once

#include <setjmp.h>

#include <atomic>

#include "base/bytes.hpp"

namespace perilune::runtime::posix {

// What this thread may fault in, and where it goes on when it does.
struct FaultGuard {
  MutableBytes region;
  sigjmp_buf resume;
};
extern constinit thread_local FaultGuard* fault_guard;

// Once, before the first guarded(). A SIGBUS from anywhere else ends the process as before.
void catch_faults();

// Runs `copy`, which has nothing to undo, within `region`. False: it met a page that is not to be had, and
// any part of it may be done.
template <typename Copy>
[[nodiscard]] __attribute__((noinline)) bool guarded(MutableBytes region, const Copy& copy) {
  FaultGuard guard;
  guard.region = region;
  if (sigsetjmp(guard.resume, 0) != 0) {
    fault_guard = nullptr;
    return false;
  }
  fault_guard = &guard;
  std::atomic_signal_fence(std::memory_order_seq_cst);  // a signal handler reads it meanwhile
  copy();
  std::atomic_signal_fence(std::memory_order_seq_cst);
  fault_guard = nullptr;
  return true;
}

}  // namespace perilune::runtime::posix
