// SPDX-License-Identifier: Apache-2.0
// The seam through which all nondeterminism enters (DESIGN 1.2): one Loop per shard, on its own thread.
// Implemented by runtime/uring (production), runtime/epoll (production where a ring cannot be made) and
// runtime/sim (a seeded virtual world).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/buffer_pool.hpp"
#include "base/delegate.hpp"
#include "base/intrusive_list.hpp"
#include "base/result.hpp"
#include "runtime/block_file.hpp"
#include "runtime/random.hpp"
#include "runtime/stream.hpp"
#include "runtime/time.hpp"
#include "runtime/timer.hpp"

namespace perilune::runtime {

// Work to be done once before the loop next waits: the place where a connection gathers the answers of a turn
// into one send. Embedded by its owner; scheduling it again before it has run does nothing; destroying it
// withdraws it.
class TurnHook : public ListNode<TurnHook> {
 public:
  explicit TurnHook(Delegate<void()> run) noexcept : run_(run) {}
  void operator()() const { run_(); }

 private:
  Delegate<void()> run_;
};

// Watches a descriptor that somebody else reads (/dev/fuse). Destroying it stops the watch: no callback comes
// after.
class FdWatch {
 public:
  virtual ~FdWatch() = default;
};

// A command that a character device takes from a ring (IORING_OP_URING_CMD; ublk's queues). Embedded by its
// owner, alive until `done`.
struct DeviceCommand {
  int fd = -1;
  std::uint32_t operation = 0;
  std::array<std::uint8_t, 16> argument{};
  Delegate<void(int result)> done;  // what the device answered, or -errno; from a later turn
};

class Loop {
 public:
  virtual ~Loop() = default;

  [[nodiscard]] virtual Instant now() const = 0;  // of this turn; cheap
  [[nodiscard]] virtual TimerQueue& timers() = 0;
  [[nodiscard]] virtual Random& random() = 0;

  // Runs `hook` after the events at hand and before waiting (hooks scheduled by hooks too).
  virtual void schedule(TurnHook& hook) = 0;
  // Hands what was prepared so far to the system, before the turn ends: a send is under way while its sender
  // goes on. A loop that hands over at once anyway does nothing. Callbacks come from later turns, as ever.
  virtual void hand_over() {}
  // At the moment it looks for more work again and again instead of sleeping until there is some (polling.hpp).
  [[nodiscard]] virtual bool spins() const noexcept { return false; }
  // Runs `work` on the loop's thread in a later turn. The one method that any thread may call. Control path
  // only: it allocates.
  virtual void post(std::function<void()> work) = 0;
  // Ends run() after this turn. Any thread, or the loop's own.
  virtual void stop() = 0;

  // Backlog and accepted streams belong to this loop. Fails with busy (port in use), permission, io.
  [[nodiscard]] virtual Result<std::unique_ptr<Listener>> listen(const Endpoint& local,
                                                                 const SocketOptions& options,
                                                                 AcceptHandler& handler) = 0;
  // The handler is called once, from a later turn. `bind_address` (optional) is the local address to use.
  [[nodiscard]] virtual std::unique_ptr<Connecting> connect(const Endpoint& peer,
                                                            const SocketOptions& options,
                                                            ConnectHandler& handler) = 0;
  // A stream of this loop out of one that another loop of the same kind has released. What had come meanwhile
  // is there.
  [[nodiscard]] virtual std::unique_ptr<Stream> adopt(std::unique_ptr<DetachedStream> detached) = 0;
  // Opens a file or block device for this loop. May block for a moment: control path only, and never for a
  // path that this process serves itself.
  [[nodiscard]] virtual Result<std::unique_ptr<BlockFile>> open_file(const std::string& path,
                                                                     const OpenOptions& options) = 0;
  // Makes the pool's memory a registered (fixed) buffer where that is possible; falls back silently to
  // ordinary use.
  virtual void register_buffers(BufferPool& pool) = 0;

  // Calls `ready` from a later turn whenever `fd` is readable (or at its end, or in error), again and again
  // while it stays so: level-triggered, once per turn. The caller keeps `fd` open until the watch is
  // destroyed; `ready` may destroy it. nullptr when this loop cannot watch descriptors (the simulator).
  [[nodiscard]] virtual std::unique_ptr<FdWatch> watch_readable(int fd, Delegate<void()> ready) {
    (void)fd; (void)ready;
    return nullptr;
  }

  // A stream out of a connected stream socket of any family that somebody else made; `fd` is the stream's
  // then. nullptr, and `fd` stays the caller's, when this loop has no sockets of the system.
  [[nodiscard]] virtual std::unique_ptr<Stream> adopt_socket(int fd) {
    (void)fd;
    return nullptr;
  }

  // Whether submit(DeviceCommand&) works: this loop has a ring, and was made with
  // LoopOptions::device_commands.
  [[nodiscard]] virtual bool takes_device_commands() const { return false; }
  // Hands the command over. False, and nothing happens, when this loop takes none.
  [[nodiscard]] virtual bool submit(DeviceCommand& command) {
    (void)command;
    return false;
  }
  // Asks for a submitted command's end; `done` comes in any case.
  virtual void cancel(DeviceCommand& command) { (void)command; }
};

}  // namespace perilune::runtime
