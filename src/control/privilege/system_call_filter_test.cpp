// SPDX-License-Identifier: Apache-2.0
#include "control/privilege/system_call_filter.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <scsi/sg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <functional>
#include <latch>
#include <thread>

#include "base/sanitizer.hpp"

namespace perilune::control::privilege {
namespace {

constexpr int no_filters_here = 99;

// The status of a child that confines itself and returns what `body` returns.
int confined(Confined who, const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    const Status status = filter_system_calls(who);
    ::_exit(status ? body() : no_filters_here);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}

// What a call that must not succeed fails with.
int error_of(long result) { return result == -1 ? errno : 0; }

#define NEED_FILTERS()                                                              \
  if (WEXITSTATUS(confined(Confined::server, [] { return 0; })) == no_filters_here) \
  GTEST_SKIP() << (PERILUNE_SANITIZED ? "a sanitizer makes calls of its own" : "no system call filters here")

TEST(SystemCallFilter, ACallThatIsNotOnTheListIsRefused) {
  NEED_FILTERS();
  const int status = confined(Confined::server, [] {
    if (error_of(::personality(0xffffffff)) != EPERM) return 1;
    if (error_of(::socket(AF_PACKET, SOCK_RAW, 0)) != EPERM) return 2;
    if (error_of(::kill(::getppid(), 0)) != EPERM) return 3;
    if (error_of(::ioctl(0, TIOCSTI, "x")) != EPERM) return 4;
    if (error_of(::fork()) != EPERM) return 5;
    const rlimit limit{1, 1};
    if (error_of(::setrlimit(RLIMIT_NOFILE, &limit)) != EPERM) return 6;
    if (error_of(::setuid(0)) != EPERM) return 7;
    return 0;
  });
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(SystemCallFilter, MemoryNeverBecomesCode) {
  NEED_FILTERS();
  const int status = confined(Confined::server, [] {
    void* const page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return 1;
    if (error_of(::mprotect(page, 4096, PROT_READ | PROT_EXEC)) != EPERM) return 2;
    if (::mprotect(page, 4096, PROT_READ) != 0) return 3;
    if (::mmap(nullptr, 4096, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) return 4;
    return 0;
  });
  EXPECT_EQ(status, 0);
}

TEST(SystemCallFilter, WhatOnlyABreakInNeedsKillsTheProcess) {
  NEED_FILTERS();
  const std::function<int()> attempts[] = {
      [] { return ::execl("/bin/true", "true", nullptr); },
      [] { return static_cast<int>(::syscall(__NR_mount, nullptr, "/", nullptr, 0, nullptr)); },
      [] { return static_cast<int>(::syscall(__NR_ptrace, 0, 0, 0, 0)); },
      // A new ring would be one without restrictions.
      [] { return static_cast<int>(::syscall(__NR_io_uring_setup, 1, nullptr)); },
  };
  for (const auto& attempt : attempts) {
    for (const Confined who : {Confined::server, Confined::helper}) {
      const int status = confined(who, attempt);
      EXPECT_TRUE(WIFSIGNALED(status));
      EXPECT_EQ(WTERMSIG(status), SIGSYS);
    }
  }
}

TEST(SystemCallFilter, AServerStillStartsThreadsAndOpensFiles) {
  NEED_FILTERS();
  const int status = confined(Confined::server, [] {
    int fd = -1;
    std::thread other([&] { fd = ::open("/dev/null", O_RDWR); });
    other.join();
    if (fd < 0) return 1;
    if (::socket(AF_INET, SOCK_STREAM, 0) < 0) return 2;
    int version = 0;
    if (error_of(::ioctl(fd, SG_GET_VERSION_NUM, &version)) != ENOTTY)
      return 3;  // the device refuses, not the filter
    rlimit limit{};
    return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? 0 : 4;
  });
  EXPECT_EQ(status, 0);
}

TEST(SystemCallFilter, HoldsForThreadsThatWereThereBefore) {
  NEED_FILTERS();
  const pid_t child = ::fork();
  if (child == 0) {
    std::latch filtered(1);
    int error = 0;
    std::thread early([&] {
      filtered.wait();
      error = error_of(::personality(0xffffffff));
    });
    const Status status = filter_system_calls(Confined::server);
    filtered.count_down();
    early.join();
    ::_exit(status && error == EPERM ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(SystemCallFilter, TheHelperNeitherWritesNorConnects) {
  NEED_FILTERS();
  const int status = confined(Confined::helper, [] {
    const int fd = static_cast<int>(::syscall(__NR_openat, AT_FDCWD, "/dev/null", O_RDWR));
    if (fd < 0) return 1;
    if (error_of(::write(fd, "x", 1)) != EPERM) return 2;
    if (error_of(::socket(AF_INET, SOCK_STREAM, 0)) != EPERM) return 3;
    return 0;
  });
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace perilune::control::privilege
