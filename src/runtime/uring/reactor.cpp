// SPDX-License-Identifier: Apache-2.0
#include "runtime/uring/reactor.hpp"

#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/assert.hpp"
#include "runtime/uring/file.hpp"
#include "runtime/uring/stream.hpp"

namespace perilune::runtime {

Result<std::unique_ptr<UringLoop>> UringLoop::create(UringOptions options) {
  return uring::Reactor::create(std::move(options));
}

}  // namespace perilune::runtime

namespace perilune::runtime::uring {
namespace {

constexpr std::size_t iovec_arena_size = 4096;
constexpr unsigned inline_reads_per_turn = 4;

Instant monotonic_now() noexcept {
  timespec ts{};
  ::clock_gettime(CLOCK_MONOTONIC, &ts);
  return Instant(std::chrono::seconds(ts.tv_sec) + std::chrono::nanoseconds(ts.tv_nsec));
}

// Tells the processor that this is a spin.
void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spinning takes the time of whoever shares the only processor. A thread that is pinned to one of several may have it to
// itself; when it has not, the preemptions tell. Who asked for spinning always gets it.
Polling sensible(Polling wanted) noexcept {
  return wanted == Polling::adaptive && ::sysconf(_SC_NPROCESSORS_ONLN) < 2 ? Polling::never : wanted;
}

}  // namespace

void SystemRandom::fill(MutableBytes out) {
  auto draw = [](std::uint8_t* to, std::size_t bytes) {
    while (bytes > 0) {
      const ssize_t n = ::getrandom(to, bytes, 0);
      if (n < 0 && errno == EINTR) continue;
      PERILUNE_ASSERT(n > 0);  // getrandom cannot fail otherwise on any kernel that has io_uring
      to += n;
      bytes -= static_cast<std::size_t>(n);
    }
  };
  if (out.size() > sizeof batch_ / 2) return draw(out.data(), out.size());
  if (used_ + out.size() > sizeof batch_) {
    draw(batch_, sizeof batch_);
    used_ = 0;
  }
  std::copy_n(batch_ + used_, out.size(), out.begin());
  ::explicit_bzero(batch_ + used_, out.size());
  used_ += out.size();
}

Reactor::Reactor(UringOptions options)
    : options_(std::move(options)), polling_(sensible(options_.polling), options_.poll_limit) {}

Result<std::unique_ptr<UringLoop>> Reactor::create(UringOptions options) {
  std::unique_ptr<Reactor> self(new Reactor(std::move(options)));
  auto ring = Ring::create(self->options_);
  if (!ring) return tl::unexpected(std::move(ring.error()));
  self->ring_ = std::move(*ring);
  auto buffers = ReceiveBuffers::create(self->ring_->raw(), self->options_.receive_buffers, self->options_.receive_buffer_bytes);
  if (!buffers) return tl::unexpected(std::move(buffers.error()));
  self->buffers_ = std::move(*buffers);
  self->doorbell_fd_.reset(::eventfd(0, EFD_CLOEXEC));
  if (!self->doorbell_fd_) return fail_errno(errno, "eventfd");
  self->doorbell_ = std::make_unique<Doorbell>(*self);
  self->iovec_arena_.resize(iovec_arena_size);
  self->update_now();
  return self;
}

Reactor::~Reactor() {
  PERILUNE_ASSERT(starved_.empty());
  ring_.reset();  // before the buffers and the operations it may still write to
  while (!events_.empty()) delete &events_.front();  // abandoned by their users; the kernel has forgotten them
}

void Reactor::update_now() { now_ = monotonic_now(); }

// --- the turn ---

Status Reactor::begin() {
  const auto self = std::this_thread::get_id();
  if (!ring_->enabled()) {
    thread_.store(self);
    if (auto status = ring_->enable(); !status) return status;
  }
  PERILUNE_ASSERT(thread_.load() == self);
  ring_->register_with_thread();
  if (!doorbell_armed_) {
    doorbell_armed_ = true;
    doorbell_->start();
  }
  update_now();
  return {};
}

void Reactor::run() {
  const Status begun = begin();
  if (!begun) notice(begun.error().message);
  PERILUNE_ASSERT(begun.has_value());  // a ring that could be made can be enabled
  for (;;) {
    one_turn();
    if (stopping_.exchange(false)) break;
    wait();
    dispatch();
  }
  (void)ring_->submit();  // cancellations and last words reach the kernel; what they bring waits for the next run()
  ring_->unregister_from_thread();
}

// Everything that follows from the completions just dispatched.
void Reactor::one_turn() {
  ++counters_.turns;
  inline_reads_left_ = inline_reads_per_turn;
  if (!timers_.empty()) timers_.fire(now_);
  run_deferred();
  run_posted();
  run_hooks();
}

void Reactor::run_deferred() {
  if (deferred_.empty()) return;
  IntrusiveList<Deferred> batch;  // what is deferred meanwhile runs in the next turn
  batch.splice_back(deferred_);
  while (!batch.empty()) batch.pop_front().on_turn();
}

void Reactor::run_posted() {
  if (!any_posted_.load(std::memory_order_acquire)) return;
  std::vector<std::function<void()>> batch;
  {
    const std::lock_guard lock(posted_mutex_);
    batch.swap(posted_);
    any_posted_.store(false, std::memory_order_release);
  }
  for (auto& work : batch) work();
}

void Reactor::run_hooks() {
  while (!hooks_.empty()) hooks_.pop_front()();
}

void Reactor::wait() {
  if (useful_batch_ && idle_since_ == Instant{} && options_.polling == Polling::adaptive) idle_since_ = now_;
  const bool work_left = !deferred_.empty() || any_posted_.load(std::memory_order_acquire) ||
                         stopping_.load(std::memory_order_relaxed);
  if (work_left) {
    (void)ring_->submit();
    return;
  }
  const auto deadline = timers_.next_deadline();
  const Duration spin_limit = polling_.spin_time(now_);
  if (spin_limit.count() > 0) {
    if (!ring_->nothing_prepared()) (void)ring_->submit();
    if (ring_->ready_count() > 0 || spin(deadline ? std::min(spin_limit, *deadline - now_) : spin_limit)) return;
  }
  std::optional<Duration> timeout;
  if (deadline) timeout = *deadline - monotonic_now();
  const int result = ring_->submit_and_wait(timeout);
  ++counters_.slept_wakeups;
  // ETIME: a timer; EINTR: a signal; EBUSY, EAGAIN: completions must be taken first. Anything else is our mistake.
  PERILUNE_ASSERT(result == 0 || result == -ETIME || result == -EINTR || result == -EBUSY || result == -EAGAIN);
}

// True when there is something to dispatch.
bool Reactor::spin(Duration limit) {
  const Instant start = monotonic_now();
  check_preemption();
  for (;;) {
    for (int i = 0; i < 32; ++i) {
      if (ring_->something_ready()) {
        (void)ring_->submit();
        if (ring_->ready_count() > 0) {
          ++counters_.polled_wakeups;
          return true;
        }
      }
      relax();
    }
    if (monotonic_now() - start >= limit) break;
  }
  polling_.note_miss();
  return false;
}

void Reactor::check_preemption() {
  if (!polling_.check_due(now_)) return;
  rusage usage{};
  if (::getrusage(RUSAGE_THREAD, &usage) == 0) {
    polling_.note_preemptions(now_, static_cast<std::uint64_t>(usage.ru_nivcsw));
  }
}

void Reactor::dispatch() {
  update_now();
  release_iovecs();
  unsigned left = ring_->ready_count();
  bool useful = false;
  while (left-- > 0) {
    const io_uring_cqe cqe = ring_->take_completion();
    ++counters_.completions;
    if (options_.trace) [[unlikely]] trace_completed(cqe);
    switch (kind_of(cqe.user_data)) {
      case Kind::receive:
        useful = true;
        object_of<UringStream>(cqe.user_data)->received(cqe.res, cqe.flags);
        break;
      case Kind::send:
        object_of<UringStream>(cqe.user_data)->sent(cqe.res);
        break;
      case Kind::file:
        useful = true;
        UringFile::completed(*object_of<FileOp>(cqe.user_data), cqe.res);
        break;
      case Kind::event:
        useful = true;
        object_of<Event>(cqe.user_data)->deliver(cqe.res, cqe.flags);
        break;
      case Kind::ignored:
        break;
    }
  }
  useful_batch_ = useful;
  if (useful && idle_since_ != Instant{}) {
    polling_.note_gap(now_ - idle_since_);
    idle_since_ = Instant{};
  }
  restart_starved();
  counters_.enters = ring_->enters();
}

void Reactor::trace_completed(const io_uring_cqe& cqe) const {
  constexpr std::string_view names[] = {"OTHER", "RECEIVE", "SEND", "FILE", "OTHER", "OTHER", "OTHER", "OTHER"};
  options_.trace({TraceEvent::What::completed, names[cqe.user_data & 7], cqe.user_data, false, cqe.res});
}

// --- services ---

void Reactor::starve(UringStream& stream) noexcept {
  ++counters_.no_buffers;
  starved_.push_back(stream);
}

// Buffers are given back when the callback returns, so after the batch there are some again.
void Reactor::restart_starved() {
  if (starved_.empty()) return;
  buffers_->grow();
  while (!starved_.empty()) starved_.pop_front().restart_receive();
}

void Reactor::schedule(TurnHook& hook) {
  if (!hook.linked()) hooks_.push_back(hook);
}

void Reactor::post(std::function<void()> work) {
  bool first = false;
  {
    const std::lock_guard lock(posted_mutex_);
    first = posted_.empty();
    posted_.push_back(std::move(work));
    any_posted_.store(true, std::memory_order_release);
  }
  if (first) ring_doorbell();
}

void Reactor::stop() {
  stopping_.store(true);
  ring_doorbell();
}

void Reactor::ring_doorbell() {
  if (thread_.load(std::memory_order_relaxed) == std::this_thread::get_id()) return;  // looks before it waits
  const std::uint64_t one = 1;
  (void)!::write(doorbell_fd_.get(), &one, sizeof one);
}

void Reactor::Doorbell::start() {
  io_uring_sqe& sqe = arm();
  io_uring_prep_read(&sqe, reactor_.doorbell_fd_.get(), &value_, sizeof value_, 0);
}

void Reactor::Doorbell::on_event(int, unsigned) { start(); }

const iovec* Reactor::keep_iovecs(std::span<const iovec> iov) {
  if (iovecs_used_ + iov.size() > iovec_arena_.size()) {
    if (ring_->enabled()) (void)ring_->submit();
    release_iovecs();
  }
  iovec* kept = nullptr;
  if (iovecs_used_ + iov.size() <= iovec_arena_.size()) {
    kept = iovec_arena_.data() + iovecs_used_;
    iovecs_used_ += iov.size();
  } else {  // the kernel takes no more at the moment, or the ring does not run yet
    kept = spilled_iovecs_.emplace_back(std::make_unique<iovec[]>(iov.size())).get();
  }
  std::copy(iov.begin(), iov.end(), kept);
  return kept;
}

// Once an operation is submitted, the kernel has read its iovecs.
void Reactor::release_iovecs() {
  if (!ring_->nothing_prepared()) return;
  iovecs_used_ = 0;
  if (!spilled_iovecs_.empty()) spilled_iovecs_.clear();
}

void Reactor::register_buffers(BufferPool& pool) {
  pool_ = &pool;
  if (fixed_buffers_wanted_) use_fixed_buffers();
}

// Registration pins the whole pool, so it waits until there is a file that gains by it.
void Reactor::use_fixed_buffers() {
  fixed_buffers_wanted_ = true;
  if (pool_ == nullptr || fixed_buffers_tried_) return;
  fixed_buffers_tried_ = true;
  const int result = ring_->register_region(pool_->region());
  fixed_buffers_ = result == 0;
  if (result != 0) notice(std::string("io_uring: buffers cannot be registered (") + ::strerror(-result) + "); using plain ones");
}

int Reactor::fixed_buffer(const void* p, std::size_t bytes) const noexcept {
  if (!fixed_buffers_) return -1;
  const MutableBytes region = pool_->region();
  const auto* at = static_cast<const std::uint8_t*>(p);
  if (at < region.data() || at >= region.data() + region.size()) return -1;
  const auto offset = static_cast<std::size_t>(at - region.data());
  const std::size_t chunk = offset / Ring::fixed_chunk_bytes;
  if (bytes > region.size() - offset || (offset + bytes - 1) / Ring::fixed_chunk_bytes != chunk) return -1;
  return static_cast<int>(chunk);
}

}  // namespace perilune::runtime::uring
