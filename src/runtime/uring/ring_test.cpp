// SPDX-License-Identifier: Apache-2.0
#include "runtime/uring/ring.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
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
