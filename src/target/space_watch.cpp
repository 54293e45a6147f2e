// SPDX-License-Identifier: Apache-2.0
#include "target/space_watch.hpp"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "runtime/posix/thread.hpp"

namespace perilune::target {

using Clock = std::chrono::steady_clock;

class SpaceWatch::Meter final : public block::SpaceMeter {
 public:
  Meter(SpaceWatch& watch, const std::shared_ptr<block::Backstore>& store) : watch_(watch), store_(store) {}

  // False, and the level stays as it was: nobody can tell.
  bool measure() {
    settle();
    const auto store = store_.lock();
    if (store == nullptr) return false;
    const auto level = store->measure_space();
    if (level) publish(*level);
    return level.has_value();
  }
  void tell() {
    const std::lock_guard lock(tell_mutex_);
    if (tell_) tell_();
  }
  void on_measured(std::function<void()> tell) override {
    const std::lock_guard lock(tell_mutex_);
    tell_ = std::move(tell);
  }

  bool asked = false;       // under the watch's mutex
  Clock::time_point due{};  // not before

 protected:
  void ask() noexcept override { watch_.ask(*this); }

 private:
  SpaceWatch& watch_;
  std::weak_ptr<block::Backstore> store_;  // that may be taken away (a medium)
  std::mutex tell_mutex_;
  std::function<void()> tell_;
};

SpaceWatch::SpaceWatch(std::chrono::milliseconds pause) : pause_(pause) {}

SpaceWatch::~SpaceWatch() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

block::SpaceMeter* SpaceWatch::watch(const std::shared_ptr<block::Backstore>& store) {
  auto meter = std::make_unique<Meter>(*this, store);
  if (!meter->measure()) return nullptr;
  const std::lock_guard lock(mutex_);
  meters_.push_back(std::move(meter));
  if (!thread_.joinable()) {
    thread_ = runtime::posix::start_without_signals([this] { run(); });
    (void)::pthread_setname_np(thread_.native_handle(), "perilune-space");  // at most 15 bytes
  }
  return meters_.back().get();
}

void SpaceWatch::forget(const block::SpaceMeter& meter) {
  std::unique_lock lock(mutex_);
  measured_.wait(lock, [&] { return measuring_ != &meter; });
  meters_.remove_if([&](const auto& each) { return each.get() == &meter; });
}

void SpaceWatch::ask(Meter& meter) noexcept {
  {
    const std::lock_guard lock(mutex_);
    meter.asked = true;
  }
  wake_.notify_one();
}

SpaceWatch::Meter* SpaceWatch::next_asked() {
  Meter* next = nullptr;
  for (const auto& meter : meters_) {
    if (meter->asked && (next == nullptr || meter->due < next->due)) next = meter.get();
  }
  return next;
}

void SpaceWatch::run() {
  constexpr int share = 200;  // measuring takes at most one part in so many of the time
  std::unique_lock lock(mutex_);
  while (!ending_) {
    Meter* const meter = next_asked();
    if (meter == nullptr) {
      wake_.wait(lock);
      continue;
    }
    const auto begin = Clock::now();
    if (meter->due > begin) {
      wake_.wait_until(lock, meter->due);
      continue;
    }
    meter->asked = false;
    measuring_ = meter;
    lock.unlock();
    const bool measured = meter->measure();
    const auto end = Clock::now();
    if (measured) meter->tell();
    lock.lock();
    meter->due = end + std::max<Clock::duration>(pause_, (end - begin) * share);
    measuring_ = nullptr;
    measured_.notify_all();
  }
}

}  // namespace perilune::target
