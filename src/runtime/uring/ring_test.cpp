// SPDX-License-Identifier: Apache-2.0
#include "runtime/uring/ring.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <string>

namespace perilune::runtime::uring {
namespace {

std::unique_ptr<Ring> make_ring(UringOptions options = {}) {
  auto ring = Ring::create(options);
  if (!ring) return nullptr;
  EXPECT_TRUE((*ring)->enable());
  return std::move(*ring);
}

int run_one(Ring& ring) {
  while (ring.ready_count() == 0) (void)ring.submit_and_wait(std::nullopt);
  return ring.take_completion().res;
}

// seccomp does not see what a ring does: the ring itself must refuse what we never use.
TEST(RingRestrictions, AnOperationThatIsNotOnTheListIsRefused) {
  for (const bool restricted : {true, false}) {
    UringOptions options;
    options.restrict_operations = restricted;
    auto ring = make_ring(options);
    if (!ring) GTEST_SKIP() << "no io_uring here";
    io_uring_sqe& sqe = ring->entry(Kind::ignored, nullptr);
    io_uring_prep_openat(&sqe, AT_FDCWD, "/dev/null", O_RDONLY, 0);
    const int result = run_one(*ring);
    if (restricted) {
      EXPECT_EQ(result, -EACCES);
    } else {
      EXPECT_GE(result, 0);
      ::close(result);
    }
  }
}

// All that this kernel knows, against a list by hand. What a ring opens, links, splices or sends to other
// rings is not on it.
TEST(RingRestrictions, EveryOperationButThoseOfTheRuntimeIsRefused) {
  const std::set<int> used = {
      IORING_OP_READV,      IORING_OP_WRITEV,      IORING_OP_READ,     IORING_OP_WRITE,
      IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED, IORING_OP_FSYNC,    IORING_OP_FALLOCATE,
      IORING_OP_RECV,       IORING_OP_RECVMSG,     IORING_OP_SEND,     IORING_OP_SENDMSG,
      IORING_OP_ACCEPT,     IORING_OP_CONNECT,     IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL};
  auto ring = make_ring();
  if (!ring) GTEST_SKIP() << "no io_uring here";
  io_uring_probe* const probe = io_uring_get_probe();
  ASSERT_NE(probe, nullptr);
  for (int op = 0; op <= probe->last_op; ++op) {
    if (used.contains(op)) continue;
    io_uring_sqe& sqe = ring->entry(Kind::ignored, nullptr);
    io_uring_prep_rw(op, &sqe, -1, nullptr, 0, 0);
    EXPECT_EQ(run_one(*ring), -EACCES) << "operation " << op;
  }
  EXPECT_GE(probe->last_op, 40);
  io_uring_free_probe(probe);
}

TEST(RingRestrictions, FlagsThatTheRuntimeDoesNotUseAreRefused) {
  auto ring = make_ring();
  if (!ring) GTEST_SKIP() << "no io_uring here";
  for (const unsigned flag :
       {IOSQE_IO_DRAIN, IOSQE_IO_LINK, IOSQE_IO_HARDLINK, IOSQE_ASYNC, IOSQE_CQE_SKIP_SUCCESS, 0U}) {
    io_uring_sqe& sqe = ring->entry(Kind::ignored, nullptr);
    io_uring_prep_cancel64(&sqe, 1, 0);
    sqe.flags = static_cast<std::uint8_t>(flag);
    EXPECT_EQ(run_one(*ring), flag == 0 ? -ENOENT : -EACCES) << "flag " << flag;
  }
}

TEST(RingRestrictions, NobodyLiftsThemAfterwards) {
  auto ring = make_ring();
  if (!ring) GTEST_SKIP() << "no io_uring here";
  io_uring_restriction rule{};
  rule.opcode = IORING_RESTRICTION_SQE_OP;
  rule.sqe_op = IORING_OP_OPENAT;
  EXPECT_LT(::syscall(__NR_io_uring_register, ring->raw().ring_fd, IORING_REGISTER_RESTRICTIONS, &rule, 1),
            0);
  io_uring_sqe& sqe = ring->entry(Kind::ignored, nullptr);
  io_uring_prep_openat(&sqe, AT_FDCWD, "/dev/null", O_RDONLY, 0);
  EXPECT_EQ(run_one(*ring), -EACCES);
}

TEST(RingRestrictions, ARegistrationThatIsNotOnTheListIsRefused) {
  auto ring = make_ring();
  if (!ring) GTEST_SKIP() << "no io_uring here";
  EXPECT_EQ(io_uring_register_eventfd(&ring->raw(), 0), -EACCES);
}

TEST(RingFiles, SlotsRunOutAndComeBack) {
  rlimit old{};
  ::getrlimit(RLIMIT_NOFILE, &old);
  rlimit low = old;
  low.rlim_cur = 64;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  auto ring = make_ring();
  ::setrlimit(RLIMIT_NOFILE, &old);
  if (!ring) GTEST_SKIP() << "no io_uring here";
  std::vector<int> slots;
  for (int slot = ring->take_slot(0); slot >= 0; slot = ring->take_slot(0)) slots.push_back(slot);
  EXPECT_EQ(slots.size(), 64U);
  ring->drop_slot(slots.front());
  EXPECT_EQ(ring->take_slot(0), slots.front());
  ring->drop_slot(-1);
}

TEST(RingFiles, AnOperationOnASlotIsAnOperationOnItsFile) {
  auto ring = make_ring();
  if (!ring) GTEST_SKIP() << "no io_uring here";
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  const int slot = ring->take_slot(pipe[0]);
  ASSERT_GE(slot, 0);
  ASSERT_EQ(::write(pipe[1], "xyz", 3), 3);
  char text[3] = {};
  io_uring_sqe& sqe = ring->entry(Kind::ignored, nullptr);
  io_uring_prep_read(&sqe, -1, text, 3, 0);
  Descriptor{pipe[0], slot}.aim(sqe);
  EXPECT_EQ(run_one(*ring), 3);
  EXPECT_EQ(std::string(text, 3), "xyz");
  ::close(pipe[0]);
  ::close(pipe[1]);
}

}  // namespace
}  // namespace perilune::runtime::uring
