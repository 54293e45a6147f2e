// SPDX-License-Identifier: Apache-2.0
#include "ceiling/distance.hpp"

#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <thread>

namespace ceiling {
namespace {

constexpr std::size_t batches = 32;
constexpr int trips_per_batch = 100;

[[nodiscard]] bool move_to(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  return ::sched_setaffinity(0, sizeof set, &set) == 0;  // of this thread
}

struct alignas(128) Word {
  std::atomic<int> value{0};
};

}  // namespace

double round_trip_ns(int one, int other) {
  Word there, back;
  std::atomic<int> in_place{0};  // 1: yes; -1: the other may not run there
  std::jthread echo([&](const std::stop_token& end) {
    in_place = move_to(other) ? 1 : -1;
    for (int seen = 0; !end.stop_requested();) {
      const int now = there.value.load(std::memory_order_acquire);
      if (now == seen) continue;
      seen = now;
      back.value.store(now, std::memory_order_release);
    }
  });
  if (!move_to(one)) return -1;
  while (in_place == 0) std::this_thread::yield();
  if (in_place < 0) return -1;
  std::array<double, batches> costs{};
  int trip = 0;
  for (double& cost : costs) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < trips_per_batch; ++i) {
      there.value.store(++trip, std::memory_order_release);
      while (back.value.load(std::memory_order_acquire) != trip) {
      }
    }
    const std::chrono::duration<double, std::nano> passed = std::chrono::steady_clock::now() - begin;
    cost = passed.count() / trips_per_batch;
  }
  std::nth_element(costs.begin(), costs.begin() + batches / 2, costs.end());
  return costs[batches / 2];
}

}  // namespace ceiling
