// SPDX-License-Identifier: Apache-2.0
#include "runtime/epoll/reactor.hpp"

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/assert.hpp"
#include "runtime/epoll/file.hpp"
#include "runtime/posix/processor.hpp"

namespace perilune::runtime {

Result<std::unique_ptr<EpollLoop>> EpollLoop::create(EpollOptions options) {
  return epoll::Reactor::create(std::move(options));
}

}  // namespace perilune::runtime

namespace perilune::runtime::epoll {

Reactor::Reactor(EpollOptions options)
    : options_(std::move(options)),
      pool_(std::max(options_.file_threads, 1U), &EpollFile::perform, mailbox_),
      polling_(posix::sensible(options_.polling), options_.poll_limit),
      // Not touched before it is used: an idle loop has no pages there.
      receive_buffer_(new std::uint8_t[options_.receive_buffer_bytes]),
      send_scratch_(new iovec[max_send_iovecs]) {}

Result<std::unique_ptr<EpollLoop>> Reactor::create(EpollOptions options) {
  if (options.receive_buffer_bytes == 0) return fail(Errc::invalid_argument, "receive buffers of no size");
  std::unique_ptr<Reactor> self(new Reactor(std::move(options)));
  if (auto status = self->mailbox_.open(EFD_NONBLOCK); !status)
    return tl::unexpected(std::move(status.error()));
  if (auto status = self->poller_.open(); !status) return tl::unexpected(std::move(status.error()));
  const int result =
      self->poller_.add(self->mailbox_.doorbell(), EPOLLIN | EPOLLET, self->doorbell_, self->doorbell_token_);
  if (result != 0) return fail_errno(-result, "epoll: the doorbell");
  self->now_ = posix::monotonic_now();
  return self;
}

Reactor::~Reactor() { PERILUNE_ASSERT(prepared_.empty()); }

// --- the turn ---

void Reactor::run() {
  mailbox_.bind();
  now_ = posix::monotonic_now();
  for (;;) {
    one_turn();
    if (mailbox_.take_stop()) break;
    wait();
    dispatch();
  }
}

// Everything that follows from the events just dispatched.
void Reactor::one_turn() {
  ++counters_.turns;
  if (!timers_.empty()) timers_.fire(now_);
  run_all(deferred_);
  mailbox_.run();
  run_hooks();
  if (!ended_sends_.empty()) {  // once: a peer that takes everything at once does not keep the others waiting
    run_all(ended_sends_);
    run_hooks();
  }
  if (!prepared_.empty()) pool_.submit(prepared_);
}

// What is added meanwhile waits for the next time.
void Reactor::run_all(IntrusiveList<TurnHook>& list) {
  if (list.empty()) return;
  IntrusiveList<TurnHook> batch;
  batch.splice_back(list);
  while (!batch.empty()) batch.pop_front()();
}

void Reactor::run_hooks() {
  while (!hooks_.empty()) hooks_.pop_front()();
}

void Reactor::schedule(TurnHook& hook) {
  if (!hook.linked()) hooks_.push_back(hook);
}

void Reactor::wait() {
  if (useful_batch_ && idle_since_ == Instant{} && options_.polling == Polling::adaptive) idle_since_ = now_;
  const bool work_left =
      !deferred_.empty() || !ended_sends_.empty() || mailbox_.waiting() || pool_.any_ended();
  if (work_left) {
    (void)look();
    return;
  }
  const auto deadline = timers_.next_deadline();
  const Duration spin_limit = polling_.spin_time(now_);
  if (spin_limit.count() > 0 && spin(deadline ? std::min(spin_limit, *deadline - now_) : spin_limit)) return;
  std::optional<Duration> timeout;
  if (deadline) timeout = *deadline - posix::monotonic_now();
  ++counters_.enters;
  (void)poller_.wait(timeout);
  ++counters_.slept_wakeups;
  slept_ = true;
}

// Without waiting: true when there are events.
bool Reactor::look() {
  ++counters_.enters;
  return poller_.wait(Duration{0}) > 0;
}

// True when there is something to dispatch.
bool Reactor::spin(Duration limit) {
  const Instant start = posix::monotonic_now();
  posix::check_preemption(polling_, now_);
  do {
    if (look()) {
      ++counters_.polled_wakeups;
      return true;
    }
    for (int i = 0; i < 8; ++i) posix::relax();
  } while (posix::monotonic_now() - start < limit);
  polling_.note_miss();
  return false;
}

void Reactor::dispatch() {
  now_ = posix::monotonic_now();
  useful_batch_ = false;
  counters_.completions += poller_.dispatch();
  end_file_operations();
  if (useful_batch_ && idle_since_ != Instant{}) {
    polling_.note_gap(now_ - idle_since_, std::exchange(slept_, false));
    idle_since_ = Instant{};
  }
}

void Reactor::end_file_operations() {
  IntrusiveList<FileOp> ended;
  if (!pool_.collect(ended)) return;
  useful_batch_ = true;
  while (!ended.empty()) EpollFile::completed(ended.pop_front());
}

// --- services ---

iovec* Reactor::take_iovecs() {
  if (free_iovecs_.empty()) {
    free_iovecs_.reserve(iovec_blocks_.size() + 1);  // so that giving one back never allocates
    return iovec_blocks_.emplace_back(std::make_unique<iovec[]>(max_iovecs)).get();
  }
  iovec* const block = free_iovecs_.back();
  free_iovecs_.pop_back();
  return block;
}

void Reactor::give_back_iovecs(iovec* block) noexcept { free_iovecs_.push_back(block); }

}  // namespace perilune::runtime::epoll
