// SPDX-License-Identifier: Apache-2.0
#include "cli/loop_signals.hpp"

#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

namespace perilune::cli {

LoopSignals::LoopSignals(std::initializer_list<int> numbers) {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  for (const int number : numbers) sigaddset(&set, number);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  fd_.reset(::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
}

Status LoopSignals::watch(runtime::Loop& loop, std::function<void(const signalfd_siginfo&)> taken) {
  if (!fd_) return fail(Errc::io, "signalfd: this process has no descriptor left");
  taken_ = std::move(taken);
  watch_ = loop.watch_readable(fd_.get(), Delegate<void()>::to<&LoopSignals::on_readable>(*this));
  if (watch_ == nullptr) return fail(Errc::unsupported, "this event loop cannot watch signals");
  return {};
}

void LoopSignals::on_readable() {
  signalfd_siginfo info;
  while (::read(fd_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) taken_(info);
}

}  // namespace perilune::cli
