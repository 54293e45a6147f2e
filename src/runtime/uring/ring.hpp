// SPDX-License-Identifier: Apache-2.0
// The io_uring itself: setup with fallbacks, restrictions, submission, the table of registered files. One
// thread once enabled. Internal to this folder.
#pragma once

#include <liburing.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/buffer_pool.hpp"
#include "base/result.hpp"
#include "runtime/time.hpp"
#include "runtime/uring/uring_loop.hpp"

namespace perilune::runtime::uring {

// The low three bits of user_data; the rest is the address of the object that the completion belongs to.
enum class Kind : std::uint64_t { ignored = 0, receive = 1, send = 2, file = 3, event = 4, command = 5 };

[[nodiscard]] inline std::uint64_t user_data(Kind kind, const void* object) noexcept {
  return reinterpret_cast<std::uint64_t>(object) | static_cast<std::uint64_t>(kind);
}
[[nodiscard]] inline Kind kind_of(std::uint64_t data) noexcept { return static_cast<Kind>(data & 7); }
template <class T>
[[nodiscard]] T* object_of(std::uint64_t data) noexcept {
  return reinterpret_cast<T*>(data & ~std::uint64_t{7});
}

// A descriptor, and its place in the ring's table when it has one (cheaper per operation).
struct Descriptor {
  int fd = -1;
  int slot = -1;
  void aim(io_uring_sqe& sqe) const noexcept {
    sqe.fd = slot >= 0 ? slot : fd;
    if (slot >= 0) sqe.flags = static_cast<std::uint8_t>(sqe.flags | IOSQE_FIXED_FILE);
  }
};

class Ring {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Ring>> create(const UringOptions& options);
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Once, on the thread that will submit.
  [[nodiscard]] Status enable();
  [[nodiscard]] bool enabled() const noexcept { return enabled_; }

  // An entry to fill with io_uring_prep_*, which leave user_data alone. Valid until the next call. Never
  // fails: what does not fit waits in a backlog.
  [[nodiscard]] io_uring_sqe& entry(Kind kind, const void* object);
  void cancel(Kind kind, const void* object);

  // Hands over what was prepared and collects what has completed, without waiting. 0 or -errno.
  int submit();
  // Submits what was prepared, and does not look for completions.
  void hand_over();
  // The same, and waits for a completion, for `timeout` at most (nullopt: for ever).
  int submit_and_wait(std::optional<Duration> timeout);
  // True when a completion can be had: in the queue, or by entering the kernel. Reads memory only.
  [[nodiscard]] bool something_ready() const noexcept;
  [[nodiscard]] unsigned ready_count() const noexcept { return io_uring_cq_ready(&ring_); }
  [[nodiscard]] bool nothing_prepared() const noexcept {
    return io_uring_sq_ready(&ring_) == 0 && backlog_.empty();
  }
  [[nodiscard]] io_uring_cqe take_completion() noexcept;  // precondition: ready_count() > 0

  // Registered files. -1 when the table is full or missing.
  [[nodiscard]] int take_slot(int fd) noexcept;
  void drop_slot(int slot) noexcept;
  // Makes `region` buffer 0, 1, ... of fixed_chunk_bytes each. 0 or -errno.
  int register_region(MutableBytes region);
  static constexpr std::size_t fixed_chunk_bytes = std::size_t{1} << 30;  // the kernel's limit for one buffer

  [[nodiscard]] io_uring& raw() noexcept { return ring_; }
  [[nodiscard]] std::uint64_t enters() const noexcept { return enters_; }
  // Registers the ring's own descriptor with the calling thread; taken back by the same thread.
  void register_with_thread() noexcept;
  void unregister_from_thread() noexcept;

 private:
  Ring() = default;
  [[nodiscard]] Status set_up(const UringOptions& options);
  void restrict_operations(const UringOptions& options);
  void refill_from_backlog();

  io_uring ring_{};
  bool made_ = false;
  bool enabled_ = false;
  bool thread_registered_ = false;
  std::uint64_t enters_ = 0;
  std::vector<io_uring_sqe> backlog_;
  std::vector<int> free_slots_;
};

}  // namespace perilune::runtime::uring
