// SPDX-License-Identifier: Apache-2.0
// The Loop for a system where a ring cannot be made (container runtimes forbid io_uring, old kernels lack
// it): epoll for sockets, preadv2 and pwritev2 and a small pool of threads for files. The contracts are those
// of runtime/uring.
//
// A turn: take the events at hand and do what they allow, fire timers, run deferred callbacks and posted
// work, run the turn hooks (whose sends go to the kernel at once, one call each), tell of the sends that
// ended, hand the file operations of the turn to the pool, wait. Readiness is edge-triggered and registered
// once per connection: an operation costs the one system call that does it, and a wait serves all of them.
// Operations cost no allocation.
#pragma once

#include <memory>

#include "base/result.hpp"
#include "runtime/thread_loop.hpp"

namespace perilune::runtime {

struct EpollOptions : LoopOptions {
  unsigned file_threads = 16;  // at most, for file operations that may block; started when they are needed
};

class EpollLoop : public ThreadLoop {
 public:
  // May be called on any thread. Fails with limit (descriptors), no_memory, io.
  [[nodiscard]] static Result<std::unique_ptr<EpollLoop>> create(EpollOptions options);
};

}  // namespace perilune::runtime
