// SPDX-License-Identifier: Apache-2.0
#include "cli/loop_threads.hpp"

#include <gtest/gtest.h>
#include <pthread.h>

#include <array>
#include <mutex>
#include <set>
#include <string>
#include <thread>

namespace perilune::cli {
namespace {

TEST(LoopThreads, RunEachLoopOnANamedThreadUntilTheyAreStopped) {
  auto made = LoopThreads::create(3, runtime::Runtime::automatic, {});
  if (!made) GTEST_SKIP() << made.error().message;
  LoopThreads& loops = **made;
  std::mutex mutex;
  std::set<std::thread::id> threads;
  std::set<std::string> names;
  for (runtime::Loop* loop : loops.all()) {
    loop->post([&] {
      std::array<char, 16> name{};
      EXPECT_EQ(::pthread_getname_np(::pthread_self(), name.data(), name.size()), 0);
      const std::lock_guard lock(mutex);
      threads.insert(std::this_thread::get_id());
      names.insert(name.data());
      if (threads.size() == 3) loops.stop();
    });
  }
  loops.run();
  EXPECT_EQ(threads.size(), 3U);
  EXPECT_TRUE(threads.contains(std::this_thread::get_id()));
  EXPECT_TRUE(names.contains("perilune-1"));
  EXPECT_TRUE(names.contains("perilune-2"));
}

}  // namespace
}  // namespace perilune::cli
