// SPDX-License-Identifier: Apache-2.0
// A Loop that a thread of this process runs: what runtime/uring and runtime/epoll have in common.
// runtime/native makes one.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>

#include "runtime/loop.hpp"

namespace perilune::runtime {

namespace posix {
class HostAccess;
}

// What the kernel was asked and what it answered, for tests that prove an order (a durable write has
// completed before the answer was handed to the socket). Points to no payload.
struct TraceEvent {
  enum class What : std::uint8_t { prepared, completed };
  What what = What::prepared;
  std::string_view
      operation;            // "SENDMSG", "WRITE", "FSYNC", ...; completed: "RECEIVE", "SEND", "FILE", "OTHER"
  std::uint64_t token = 0;  // the same for the two events of one operation
  bool durable = false;     // a write with RWF_DSYNC, or an fsync
  int result = 0;           // completed only
};

// How a loop waits when it has nothing to do. adaptive: it spins for a moment while requests keep coming, and
// sleeps otherwise (see polling.hpp). always: it never sleeps, whatever the machine's other work.
enum class Polling : std::uint8_t { never, adaptive, always };

struct LoopOptions {
  std::size_t receive_buffer_bytes = 256 * 1024;  // what Stream::receive() takes at most
  Polling polling = Polling::adaptive;
  Duration poll_limit = std::chrono::microseconds(80);  // of one spin, when it is adaptive
  bool device_commands = false;  // Loop::submit(DeviceCommand&) will be used: io_uring allows that operation,
                                 // too
  posix::HostAccess* access = nullptr;  // who opens and binds what this process may not; outlives the loop
  std::function<void(std::string_view)>
      notice;  // one line for the log when something is not as good as it could be
  std::function<void(const TraceEvent&)> trace;  // null in production
};

class ThreadLoop : public Loop {
 public:
  // Runs until stop(). The thread that calls it first becomes the loop's thread; later calls come from the
  // same one. Before the first call every method may be used by the thread that made the loop: what it starts
  // begins with run(). Streams, listeners, files and watches are destroyed before the loop.
  virtual void run() = 0;

  // How often the loop turned and entered the kernel. For benches and tests.
  struct Counters {
    std::uint64_t turns = 0;
    std::uint64_t enters = 0;       // calls that may wait: io_uring_enter, epoll_wait
    std::uint64_t completions = 0;  // io_uring: entries of the completion queue; epoll: events
    std::uint64_t no_buffers =
        0;  // io_uring: receives that found the buffer ring empty and were started again
    std::uint64_t polled_wakeups = 0;  // waits that ended while spinning
    std::uint64_t slept_wakeups = 0;
  };
  [[nodiscard]] virtual const Counters& counters() const = 0;
};

}  // namespace perilune::runtime
