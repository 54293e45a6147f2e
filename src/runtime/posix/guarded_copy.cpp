// SPDX-License-Identifier: Apache-2.0
#include "runtime/posix/guarded_copy.hpp"

#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

#include "base/assert.hpp"

namespace perilune::runtime::posix {

constinit thread_local FaultGuard* fault_guard = nullptr;

namespace {

void on_bus_error(int, siginfo_t* info, void* context) {
  const FaultGuard* const guard = fault_guard;
  const auto* const at = static_cast<const std::uint8_t*>(info->si_addr);
  // A positive code: the kernel's, of an access; others may have sent it to us.
  if (guard != nullptr && info->si_code > 0 && at >= guard->region.data() &&
      at < guard->region.data() + guard->region.size()) {
    // What the return of a handler does; a jump does not.
    ::pthread_sigmask(SIG_SETMASK, &static_cast<const ucontext_t*>(context)->uc_sigmask, nullptr);
    ::siglongjmp(fault_guard->resume, 1);
  }
  ::signal(SIGBUS, SIG_DFL);
  if (info->si_code <= 0) ::raise(SIGBUS);  // the access would do it again by itself
}

}  // namespace

void catch_faults() {
  static const bool caught = [] {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO;
    return ::sigaction(SIGBUS, &action, nullptr) == 0;
  }();
  PERILUNE_ASSERT(caught);
}

}  // namespace perilune::runtime::posix
