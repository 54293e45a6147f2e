// SPDX-License-Identifier: Apache-2.0
// The production Loop: one io_uring per thread (DESIGN 1.2, 1.5, PERFORMANCE "What follows for the data path").
//
// A turn: dispatch every completion at hand, fire timers, run deferred callbacks and posted work, run the turn hooks,
// hand everything that was prepared to the kernel in one call and wait in the same call. Operations cost no system call
// and no allocation of their own.
//
// Kernel: 5.19 at least (provided-buffer rings); from 6.1 on with DEFER_TASKRUN. create() fails with unsupported where a
// ring cannot be made (old kernel, container runtime that forbids io_uring).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "base/result.hpp"
#include "runtime/loop.hpp"

namespace perilune::runtime {

// What the ring was asked and what it answered, for tests that prove an order (a durable write has completed before the
// answer was handed to the socket). Points to no payload.
struct TraceEvent {
  enum class What : std::uint8_t { prepared, completed };
  What what = What::prepared;
  std::string_view operation;    // "SENDMSG", "WRITEV", "FSYNC", ...; completed: "RECEIVE", "SEND", "FILE", "OTHER"
  std::uint64_t token = 0;       // the same for the two events of one operation
  bool durable = false;          // a write with RWF_DSYNC, or an fsync
  int result = 0;                // completed only
};

// How a loop waits when it has nothing to do. adaptive: it spins for a moment while requests keep coming, and sleeps
// otherwise (see polling.hpp). always: it never sleeps, whatever the machine's other work.
enum class Polling : std::uint8_t { never, adaptive, always };

struct UringOptions {
  unsigned entries = 1024;                        // of the submission queue, a power of two
  unsigned receive_buffers = 64;                  // at most, a power of two; memory is touched as it is needed
  std::size_t receive_buffer_bytes = 256 * 1024;
  Polling polling = Polling::adaptive;
  Duration poll_limit = std::chrono::microseconds(80);  // of one spin, when it is adaptive
  bool restrict_operations = true;                // allow only the operations that this folder uses
  std::function<void(std::string_view)> notice;   // one line for the log when something is not as good as it could be
  std::function<void(const TraceEvent&)> trace;   // null in production
};

class UringLoop : public Loop {
 public:
  // May be called on any thread. Fails with unsupported, no_memory, limit, io.
  [[nodiscard]] static Result<std::unique_ptr<UringLoop>> create(UringOptions options);

  // Runs until stop(). The thread that calls it first becomes the loop's thread; later calls come from the same one.
  // Before the first call every method may be used by the thread that made the loop: what it starts begins with run().
  // Streams, listeners, files and watches are destroyed before the loop.
  virtual void run() = 0;

  // Wakes without work: how often the loop entered the kernel. For benches and tests.
  struct Counters {
    std::uint64_t turns = 0;
    std::uint64_t enters = 0;        // io_uring_enter calls
    std::uint64_t completions = 0;
    std::uint64_t no_buffers = 0;    // receives that found the buffer ring empty and were started again
    std::uint64_t polled_wakeups = 0;  // waits that ended while spinning
    std::uint64_t slept_wakeups = 0;
  };
  [[nodiscard]] virtual const Counters& counters() const = 0;
};

}  // namespace perilune::runtime
