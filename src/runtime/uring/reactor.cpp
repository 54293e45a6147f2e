// SPDX-License-Identifier: Apache-2.0
#include "runtime/uring/reactor.hpp"

#include <string.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/assert.hpp"
#include "runtime/posix/processor.hpp"
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

}  // namespace

Reactor::Reactor(UringOptions options)
    : options_(std::move(options)),
      workers_(1, &UringFile::perform, mailbox_),
      polling_(posix::sensible(options_.polling), options_.poll_limit) {}

Result<std::unique_ptr<UringLoop>> Reactor::create(UringOptions options) {
  std::unique_ptr<Reactor> self(new Reactor(std::move(options)));
  auto ring = Ring::create(self->options_);
  if (!ring) return tl::unexpected(std::move(ring.error()));
  self->ring_ = std::move(*ring);
  auto buffers = ReceiveBuffers::create(self->ring_->raw(), self->options_.receive_buffers,
                                        self->options_.receive_buffer_bytes);
  if (!buffers) return tl::unexpected(std::move(buffers.error()));
  self->buffers_ = std::move(*buffers);
  if (auto status = self->mailbox_.open(); !status) return tl::unexpected(std::move(status.error()));
  self->doorbell_ = std::make_unique<Doorbell>(*self);
  self->iovec_arena_.resize(iovec_arena_size);
  self->update_now();
  return self;
}

Reactor::~Reactor() {
  PERILUNE_ASSERT(starved_.empty());
  ring_.reset();  // before the buffers and the operations it may still write to
  while (!events_.empty())
    delete &events_.front();  // abandoned by their users; the kernel has forgotten them
}

void Reactor::update_now() { now_ = posix::monotonic_now(); }

// --- the turn ---

Status Reactor::begin() {
  mailbox_.bind();
  if (!ring_->enabled()) {
    if (auto status = ring_->enable(); !status) return status;
  }
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
    if (mailbox_.take_stop()) break;
    wait();
    dispatch();
  }
  (void)ring_->submit();  // cancellations and last words reach the kernel; what they bring waits for the next
                          // run()
  ring_->unregister_from_thread();
}

// Everything that follows from the completions just dispatched.
void Reactor::one_turn() {
  ++counters_.turns;
  inline_reads_left_ = inline_reads_per_turn;
  if (!timers_.empty()) timers_.fire(now_);
  run_deferred();
  mailbox_.run();
  if (handed_out_ != 0) take_back_handed_out();
  run_hooks();
}

void Reactor::run_deferred() {
  if (deferred_.empty()) return;
  IntrusiveList<Deferred> batch;  // what is deferred meanwhile runs in the next turn
  batch.splice_back(deferred_);
  while (!batch.empty()) batch.pop_front().on_turn();
}

void Reactor::run_hooks() {
  while (!hooks_.empty()) hooks_.pop_front()();
}

void Reactor::wait() {
  if (useful_batch_ && idle_since_ == Instant{} && options_.polling == Polling::adaptive) idle_since_ = now_;
  if (!deferred_.empty() || mailbox_.waiting() || (handed_out_ != 0 && workers_.any_ended())) {
    (void)ring_->submit();
    return;
  }
  const auto deadline = timers_.next_deadline();
  const Duration spin_limit = polling_.spin_time(now_);
  if (spin_limit.count() > 0) {
    if (!ring_->nothing_prepared()) (void)ring_->submit();
    if (ring_->ready_count() > 0 || spin(deadline ? std::min(spin_limit, *deadline - now_) : spin_limit))
      return;
  }
  std::optional<Duration> timeout;
  if (deadline) timeout = *deadline - posix::monotonic_now();
  const int result = ring_->submit_and_wait(timeout);
  ++counters_.slept_wakeups;
  slept_ = true;
  // ETIME: a timer; EINTR: a signal; EBUSY, EAGAIN: completions must be taken first. Anything else is our
  // mistake.
  PERILUNE_ASSERT(result == 0 || result == -ETIME || result == -EINTR || result == -EBUSY ||
                  result == -EAGAIN);
}

// True when there is something to dispatch.
bool Reactor::spin(Duration limit) {
  const Instant start = posix::monotonic_now();
  posix::check_preemption(polling_, now_);
  for (;;) {
    for (int i = 0; i < 32; ++i) {
      if (ring_->something_ready()) {
        (void)ring_->submit();
        if (ring_->ready_count() > 0) {
          ++counters_.polled_wakeups;
          return true;
        }
      }
      posix::relax();
    }
    if (posix::monotonic_now() - start >= limit) break;
  }
  polling_.note_miss();
  return false;
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
      case Kind::command:
        useful = true;
        object_of<DeviceCommand>(cqe.user_data)->done(cqe.res);
        break;
      case Kind::ignored:
        break;
    }
  }
  useful_batch_ = useful;
  if (useful && idle_since_ != Instant{}) {
    polling_.note_gap(now_ - idle_since_, std::exchange(slept_, false));
    idle_since_ = Instant{};
  }
  restart_starved();
  counters_.enters = ring_->enters();
}

void Reactor::trace_completed(const io_uring_cqe& cqe) const {
  constexpr std::string_view names[] = {"OTHER", "RECEIVE", "SEND",  "FILE",
                                        "OTHER", "OTHER",   "OTHER", "OTHER"};
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

void Reactor::hand_out(FileOp& op) {
  IntrusiveList<FileOp> one;
  one.push_back(op);
  ++handed_out_;
  workers_.submit(one);
}

void Reactor::take_back_handed_out() {
  IntrusiveList<FileOp> ended;
  if (!workers_.collect(ended)) return;
  while (!ended.empty()) {
    --handed_out_;
    UringFile::performed(ended.pop_front());
  }
}

void Reactor::schedule(TurnHook& hook) {
  if (!hook.linked()) hooks_.push_back(hook);
}

void Reactor::Doorbell::start() {
  io_uring_sqe& sqe = arm();
  io_uring_prep_read(&sqe, reactor_.mailbox_.doorbell(), &value_, sizeof value_, 0);
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
  if (result != 0)
    notice(std::string("io_uring: buffers cannot be registered (") + ::strerror(-result) +
           "); using plain ones");
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
