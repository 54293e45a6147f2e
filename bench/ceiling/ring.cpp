// SPDX-License-Identifier: Apache-2.0
#include "ceiling/ring.hpp"

#include <cerrno>

#include "ceiling/tcp.hpp"

namespace ceiling {

Ring::Ring() {
  io_uring_params params{};
  params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                 IORING_SETUP_CQSIZE;
  params.cq_entries = 16384;
  const int result = io_uring_queue_init_params(4096, &ring_, &params);
  if (result != 0) {
    errno = -result;
    die("io_uring_setup");
  }
  (void)io_uring_register_ring_fd(&ring_);
}

io_uring_sqe& Ring::entry() noexcept {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (sqe == nullptr) {
    (void)io_uring_submit(&ring_);
    sqe = io_uring_get_sqe(&ring_);
  }
  return *sqe;
}

void Ring::wait(Waiting waiting) noexcept {
  if (waiting == Waiting::sleep) {
    (void)io_uring_submit_and_wait(&ring_, 1);
    return;
  }
  if (io_uring_sq_ready(&ring_) != 0) (void)io_uring_submit_and_get_events(&ring_);
  while (io_uring_cq_ready(&ring_) == 0) {
    if ((IO_URING_READ_ONCE(*ring_.sq.kflags) & IORING_SQ_TASKRUN) != 0)
      (void)io_uring_get_events(&ring_);
    else
      __builtin_ia32_pause();
  }
}

}  // namespace ceiling
