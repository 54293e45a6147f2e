// SPDX-License-Identifier: Apache-2.0
// The planted fault of durability_order.py, as an LD_PRELOAD library: every flush says that it worked and does nothing.
// Flushes are taken out of the io_uring submission queue (an fsync becomes a write of no bytes, which the server's ring
// restrictions allow; RWF_DSYNC and RWF_SYNC are cleared) and out of the C library's calls.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <liburing.h>
#include <sys/uio.h>

static void forget_flushes(struct io_uring* ring) {
  struct io_uring_sq* sq = &ring->sq;
  for (unsigned i = sq->sqe_head; i != sq->sqe_tail; ++i) {
    struct io_uring_sqe* sqe = &sq->sqes[(i & sq->ring_mask) << !!(ring->flags & IORING_SETUP_SQE128)];
    switch (sqe->opcode) {
      case IORING_OP_FSYNC:
        sqe->opcode = IORING_OP_WRITE;
        sqe->fsync_flags = 0;
        sqe->len = 0;
        sqe->off = 0;
        break;
      case IORING_OP_WRITE:
      case IORING_OP_WRITEV:
      case IORING_OP_WRITE_FIXED:
        sqe->rw_flags &= ~(RWF_DSYNC | RWF_SYNC);
        break;
      default:
        break;
    }
  }
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int io_uring_submit(struct io_uring* ring) {
  forget_flushes(ring);
  return NEXT(io_uring_submit)(ring);
}

int io_uring_submit_and_wait(struct io_uring* ring, unsigned wait_nr) {
  forget_flushes(ring);
  return NEXT(io_uring_submit_and_wait)(ring, wait_nr);
}

int io_uring_submit_and_wait_timeout(struct io_uring* ring, struct io_uring_cqe** cqe, unsigned wait_nr,
                                     struct __kernel_timespec* ts, sigset_t* mask) {
  forget_flushes(ring);
  return NEXT(io_uring_submit_and_wait_timeout)(ring, cqe, wait_nr, ts, mask);
}

int io_uring_submit_and_get_events(struct io_uring* ring) {
  forget_flushes(ring);
  int (*next)(struct io_uring*) = (int (*)(struct io_uring*))dlsym(RTLD_NEXT, "io_uring_submit_and_get_events");
  return next(ring);
}

ssize_t pwritev2(int fd, const struct iovec* iov, int count, off_t offset, int flags) {
  return NEXT(pwritev2)(fd, iov, count, offset, flags & ~(RWF_DSYNC | RWF_SYNC));
}

int fsync(int fd) {
  (void)fd;
  return 0;
}

int fdatasync(int fd) {
  (void)fd;
  return 0;
}
