// SPDX-License-Identifier: Apache-2.0
// Threads that do what may block, for those that must not.
#pragma once

#include <pthread.h>

#include <csignal>
#include <thread>
#include <utility>

namespace perilune::runtime::posix {

// A thread that runs `work` and takes no signals: those are for the threads that wait for them, and one that
// reached this one would end a system call of it, or the process. Any thread. Throws std::system_error when
// the system gives no thread.
template <class Work>
[[nodiscard]] std::thread start_without_signals(Work work) {
  struct Blocked {
    Blocked() noexcept {
      sigset_t all;
      ::sigfillset(&all);
      ::pthread_sigmask(SIG_BLOCK, &all, &before);
    }
    ~Blocked() { ::pthread_sigmask(SIG_SETMASK, &before, nullptr); }
    sigset_t before;
  };
  const Blocked blocked;  // the new thread inherits it
  return std::thread(std::move(work));
}

}  // namespace perilune::runtime::posix
