// SPDX-License-Identifier: Apache-2.0
// The ring of a responder: entries without end, and one call per turn that submits and waits.
#pragma once

#include <liburing.h>

#include <cstdint>

#include "ceiling/serve.hpp"

namespace ceiling {

class Ring {
 public:
  Ring();
  [[nodiscard]] io_uring_sqe& entry() noexcept;
  // Until something has completed.
  void wait(Waiting waiting) noexcept;
  // on(completion) for each that has come.
  template <typename On>
  void take_completions(On&& on) {
    io_uring_cqe* cqe = nullptr;
    unsigned head = 0, count = 0;
    io_uring_for_each_cqe(&ring_, head, cqe) {
      ++count;
      on(*cqe);
    }
    io_uring_cq_advance(&ring_, count);
  }
  [[nodiscard]] io_uring& raw() noexcept { return ring_; }

 private:
  io_uring ring_{};
};

// Whom a completion is for: an object aligned to 4, and which of its operations has ended. The functions of
// liburing that prepare an entry clear it, so this comes after them.
inline void aim(io_uring_sqe& sqe, const void* object, unsigned kind) noexcept {
  sqe.user_data = reinterpret_cast<std::uint64_t>(object) | kind;
}
template <typename Object>
[[nodiscard]] Object* aimed_at(const io_uring_cqe& cqe) noexcept {
  return reinterpret_cast<Object*>(cqe.user_data & ~std::uint64_t{3});
}
[[nodiscard]] inline unsigned kind_of(const io_uring_cqe& cqe) noexcept {
  return static_cast<unsigned>(cqe.user_data & 3);
}

}  // namespace ceiling
