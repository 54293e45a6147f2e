// SPDX-License-Identifier: Apache-2.0
#include "runtime/native/native_loop.hpp"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <vector>

namespace perilune::runtime {
namespace {

// From now on io_uring_setup fails with EPERM in this process, as under the profile of a container runtime.
bool forbid_rings() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{static_cast<unsigned short>(std::size(program)), program};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// Runs `body` in a child that may not make rings; its return value, or -1.
int without_rings(int (*body)()) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(forbid_rings() ? body() : 99);
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

TEST(NativeLoop, FallsBackToEpollWithOneLineWhereNoRingCanBeMade) {
  const int result = without_rings([] {
    ::unsetenv("PERILUNE_RUNTIME");
    std::vector<std::string> lines;
    LoopOptions options;
    options.notice = [&](std::string_view line) { lines.emplace_back(line); };
    auto loops = make_native_loops(Runtime::automatic, 2, options);
    if (!loops) return 1;
    if (lines.size() != 1 || lines[0].find("using epoll instead") == std::string::npos) return 2;
    if (lines[0].find("Operation not permitted") == std::string::npos) return 3;
    for (auto& loop : *loops) {
      loop->post([&] { loop->stop(); });
      loop->run();
    }
    return 0;
  });
  if (result == 99) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_EQ(result, 0);
}

TEST(NativeLoop, ARingThatWasAskedForAndCannotBeMadeIsAnError) {
  const int result = without_rings([] {
    auto loop = make_native_loop(Runtime::uring, {});
    return !loop && loop.error().code == Errc::unsupported ? 0 : 1;
  });
  if (result == 99) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_EQ(result, 0);
}

TEST(NativeLoop, TheEnvironmentChoosesForThoseWhoDoNot) {
  ::setenv("PERILUNE_RUNTIME", "kqueue", 1);
  auto unknown = make_native_loop(Runtime::automatic, {});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, Errc::invalid_argument);
  EXPECT_NE(unknown.error().message.find("PERILUNE_RUNTIME"), std::string::npos);
  EXPECT_TRUE(make_native_loop(Runtime::epoll, {}));
  ::setenv("PERILUNE_RUNTIME", "epoll", 1);
  std::vector<std::string> lines;
  LoopOptions options;
  options.notice = [&](std::string_view line) { lines.emplace_back(line); };
  EXPECT_TRUE(make_native_loop(Runtime::automatic, options));
  EXPECT_TRUE(lines.empty());  // nothing fell back
  ::unsetenv("PERILUNE_RUNTIME");
}

}  // namespace
}  // namespace perilune::runtime
