// SPDX-License-Identifier: Apache-2.0
#include "runtime/sim/world.hpp"

#include <algorithm>

#include "runtime/sim/network.hpp"
#include "runtime/sim/sim_host.hpp"
#include "runtime/sim/sim_loop.hpp"

namespace perilune::sim {

World::World(std::uint64_t seed, WorldOptions options)
    : seed_(seed),
      options_(std::move(options)),
      prng_(seed),
      buggify_prng_(prng_.fork()),
      network_(std::make_unique<Network>(*this)) {
  trace_.add(seed);
#if !defined(PERILUNE_NO_SIM_HOOKS)
  runtime::buggify_hook = options_.buggify ? this : nullptr;
#endif
}

World::~World() {
#if !defined(PERILUNE_NO_SIM_HOOKS)
  if (runtime::buggify_hook == this) runtime::buggify_hook = nullptr;
#endif
  queue_.clear();
}

SimHost& World::add_host(std::string name, std::initializer_list<std::string_view> addresses) {
  const auto id = static_cast<std::uint32_t>(hosts_.size());
  hosts_.push_back(std::make_unique<SimHost>(*this, id, std::move(name), addresses));
  return *hosts_.back();
}

bool World::later(const Scheduled& a, const Scheduled& b) noexcept {
  if (a.time != b.time) return a.time > b.time;
  return a.sequence > b.sequence;
}

void World::at(Duration delay, Event event, std::uint64_t detail, std::function<void()> work) {
  PERILUNE_ASSERT(delay >= Duration::zero());
  queue_.push_back(Scheduled{now_ + delay, next_sequence_++, event, detail, std::move(work)});
  std::push_heap(queue_.begin(), queue_.end(), later);
}

void World::note(Event event, std::uint64_t detail) {
  ++events_;
  trace_.add(static_cast<std::uint64_t>(now_.time_since_epoch().count()));
  trace_.add((static_cast<std::uint64_t>(event) << 56) ^ detail);
  if (options_.trace_sink) options_.trace_sink(now_, event, detail, trace_.value());
}

SimLoop* World::next_timer_loop(Instant& deadline) const {
  SimLoop* first = nullptr;
  for (SimLoop* loop : live_loops_) {
    const auto due = loop->idle_deadline();
    if (due && (first == nullptr || *due < deadline)) {
      deadline = *due;
      first = loop;
    }
  }
  return first;
}

bool World::step() {
  Instant deadline{};
  SimLoop* loop = next_timer_loop(deadline);
  deadline = std::max(deadline, now_);
  if (loop != nullptr && (queue_.empty() || deadline < queue_.front().time)) {
    now_ = deadline;
    loop->request_turn();
    return true;
  }
  if (queue_.empty()) return false;
  std::pop_heap(queue_.begin(), queue_.end(), later);
  Scheduled next = std::move(queue_.back());
  queue_.pop_back();
  now_ = next.time;
  note(next.event, next.detail);
  next.work();
  return true;
}

bool World::run_until(const std::function<bool()>& predicate, Duration limit) {
  const Instant end = now_ + limit;
  while (!predicate()) {
    if (now_ > end || !step()) return predicate();
  }
  return true;
}

void World::run_for(Duration span) {
  bool over = false;
  after(span, [&over] { over = true; });
  while (!over) {
    if (!step()) return;
  }
}

// A quarter of the places is armed in a world; an armed one fires one time in four.
bool World::fires(const char* place) {
  TraceHash site;
  site.add(seed_);
  site.add(std::string_view(place));
  if ((site.value() >> 17) % 4 != 0) return false;
  const bool fired = buggify_prng_.chance(1, 4);
  if (fired) note(Event::buggify, site.value() >> 8);
  return fired;
}

}  // namespace perilune::sim
