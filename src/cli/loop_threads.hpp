// SPDX-License-Identifier: Apache-2.0
// The loops of a server and the threads that run them: the first on the caller's, each other on a thread of
// its own.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

#include "base/result.hpp"
#include "runtime/native/native_loop.hpp"

namespace perilune::cli {

class LoopThreads {
 public:
  // All of one kind. `options.notice` is called on every loop's thread. Fails with what make_native_loops()
  // says.
  [[nodiscard]] static Result<std::unique_ptr<LoopThreads>> create(std::size_t count, runtime::Runtime kind,
                                                                     const runtime::LoopOptions& options);

  [[nodiscard]] runtime::Loop& first() noexcept { return *loops_.front(); }
  [[nodiscard]] std::vector<runtime::Loop*> all() const;
  // Runs every loop until stop(); when it returns, the other threads are no more.
  void run();
  // Any thread.
  void stop();

 private:
  LoopThreads() = default;
  std::vector<std::unique_ptr<runtime::ThreadLoop>> loops_;
};

}  // namespace perilune::cli
