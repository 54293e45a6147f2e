// SPDX-License-Identifier: Apache-2.0
// Signals as events of a loop. They are blocked in the thread that makes this, and in those that it starts
// afterwards: made before any other thread runs.
#pragma once

#include <sys/signalfd.h>

#include <functional>
#include <initializer_list>
#include <memory>

#include "base/result.hpp"
#include "runtime/loop.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::cli {

class LoopSignals {
 public:
  // SIGPIPE is ignored as well.
  explicit LoopSignals(std::initializer_list<int> numbers);

  // From now on `taken` is called on the loop's thread with each that comes, also with those that have come
  // before.
  [[nodiscard]] Status watch(runtime::Loop& loop, std::function<void(const signalfd_siginfo&)> taken);
  // Before the loop goes, while it does not run. They stay blocked.
  void end() { watch_.reset(); }

 private:
  void on_readable();

  runtime::posix::UniqueFd fd_;
  std::function<void(const signalfd_siginfo&)> taken_;
  std::unique_ptr<runtime::FdWatch> watch_;
};

}  // namespace perilune::cli
