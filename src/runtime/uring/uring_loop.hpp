// SPDX-License-Identifier: Apache-2.0
// The production Loop: one io_uring per thread (DESIGN 1.2, 1.5, PERFORMANCE "What follows for the data
// path").
//
// A turn: dispatch every completion at hand, fire timers, run deferred callbacks and posted work, run the
// turn hooks, hand everything that was prepared to the kernel in one call and wait in the same call.
// Operations cost no system call and no allocation of their own.
//
// Kernel: 5.19 at least (provided-buffer rings); from 6.1 on with DEFER_TASKRUN. create() fails with
// unsupported where a ring cannot be made (old kernel, container runtime that forbids io_uring);
// runtime/native falls back to epoll then.
#pragma once

#include <memory>

#include "base/result.hpp"
#include "runtime/thread_loop.hpp"

namespace perilune::runtime {

struct UringOptions : LoopOptions {
  unsigned entries = 1024;                        // of the submission queue, a power of two
  unsigned receive_buffers = 64;  // at most, a power of two; memory is touched as it is needed
  bool restrict_operations = true;                // allow only the operations that this folder uses
};

class UringLoop : public ThreadLoop {
 public:
  // May be called on any thread. Fails with unsupported, no_memory, limit, io.
  [[nodiscard]] static Result<std::unique_ptr<UringLoop>> create(UringOptions options);
};

}  // namespace perilune::runtime
