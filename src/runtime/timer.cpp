// SPDX-License-Identifier: Apache-2.0
#include "runtime/timer.hpp"

namespace perilune::runtime {

void Timer::arm(Instant deadline) {
  cancel();
  deadline_ = deadline;
  queue_.insert(*this);
}

void Timer::cancel() noexcept {
  if (armed()) queue_.remove(*this);
}

std::optional<Instant> TimerQueue::next_deadline() const noexcept {
  if (heap_.empty()) return std::nullopt;
  return heap_.front()->deadline_;
}

std::size_t TimerQueue::fire(Instant now) {
  std::size_t fired = 0;
  while (!heap_.empty() && heap_.front()->deadline_ <= now) {
    Timer& timer = *heap_.front();
    remove(timer);
    ++fired;
    timer.fired_();
  }
  return fired;
}

bool TimerQueue::earlier(const Timer& a, const Timer& b) noexcept {
  if (a.deadline_ != b.deadline_) return a.deadline_ < b.deadline_;
  return a.sequence_ < b.sequence_;
}

void TimerQueue::place(std::size_t i, Timer* timer) noexcept {
  heap_[i] = timer;
  timer->index_ = i;
}

void TimerQueue::insert(Timer& timer) {
  timer.sequence_ = next_sequence_++;
  heap_.push_back(&timer);
  timer.index_ = heap_.size() - 1;
  sift_up(timer.index_);
}

void TimerQueue::remove(Timer& timer) noexcept {
  const std::size_t i = timer.index_;
  timer.index_ = Timer::not_armed;
  Timer* last = heap_.back();
  heap_.pop_back();
  if (last == &timer) return;
  place(i, last);
  sift_up(i);
  sift_down(last->index_);
}

void TimerQueue::sift_up(std::size_t i) noexcept {
  Timer* timer = heap_[i];
  while (i > 0) {
    const std::size_t parent = (i - 1) / 2;
    if (!earlier(*timer, *heap_[parent])) break;
    place(i, heap_[parent]);
    i = parent;
  }
  place(i, timer);
}

void TimerQueue::sift_down(std::size_t i) noexcept {
  Timer* timer = heap_[i];
  for (;;) {
    std::size_t child = 2 * i + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && earlier(*heap_[child + 1], *heap_[child])) ++child;
    if (!earlier(*heap_[child], *timer)) break;
    place(i, heap_[child]);
    i = child;
  }
  place(i, timer);
}

}  // namespace perilune::runtime
