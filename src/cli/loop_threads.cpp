// SPDX-License-Identifier: Apache-2.0
#include "cli/loop_threads.hpp"

#include <fmt/format.h>
#include <pthread.h>

#include <thread>

namespace perilune::cli {

Result<std::unique_ptr<LoopThreads>> LoopThreads::create(std::size_t count, runtime::Runtime kind,
                                                         const runtime::LoopOptions& options) {
  auto loops = runtime::make_native_loops(kind, count, options);
  if (!loops) return tl::unexpected(loops.error());
  std::unique_ptr<LoopThreads> self(new LoopThreads);
  self->loops_ = std::move(*loops);
  return self;
}

std::vector<runtime::Loop*> LoopThreads::all() const {
  std::vector<runtime::Loop*> loops;
  for (const auto& loop : loops_) loops.push_back(loop.get());
  return loops;
}

void LoopThreads::run() {
  std::vector<std::thread> threads;
  for (std::size_t i = 1; i < loops_.size(); ++i) {
    threads.emplace_back([loop = loops_[i].get(), i] {
      const std::string name = fmt::format("perilune-{}", i);  // at most 15 bytes
      (void)::pthread_setname_np(::pthread_self(), name.c_str());
      loop->run();
    });
  }
  loops_.front()->run();
  for (std::thread& thread : threads) thread.join();
}

void LoopThreads::stop() {
  for (const auto& loop : loops_) loop->stop();
}

}  // namespace perilune::cli
