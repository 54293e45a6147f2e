// SPDX-License-Identifier: Apache-2.0
// For the tests of this folder: a loop of a few lines over poll(), driven by hand or run on a thread, and a
// disk in memory that records what reaches it and can hold operations back.
#pragma once

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/block_op.hpp"
#include "runtime/loop.hpp"

namespace perilune::attach::testing {

class PollLoop : public runtime::Loop {
 public:
  PollLoop() : event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}
  ~PollLoop() override { ::close(event_); }

  runtime::Instant now() const override {
    return runtime::Instant(std::chrono::steady_clock::now().time_since_epoch());
  }
  runtime::TimerQueue& timers() override { return timers_; }
  runtime::Random& random() override { return random_; }
  void schedule(runtime::TurnHook& hook) override {
    if (!hook.linked()) hooks_.push_back(hook);
  }
  void post(std::function<void()> work) override {
    {
      const std::lock_guard guard(mutex_);
      posted_.push_back(std::move(work));
    }
    wake();
  }
  void stop() override {
    stopped_ = true;
    wake();
  }
  Result<std::unique_ptr<runtime::Listener>> listen(const runtime::Endpoint&, const runtime::SocketOptions&,
                                                    runtime::AcceptHandler&) override {
    return fail(Errc::unsupported, "no network");
  }
  std::unique_ptr<runtime::Connecting> connect(const runtime::Endpoint&, const runtime::SocketOptions&,
                                               runtime::ConnectHandler&) override {
    return nullptr;
  }
  std::unique_ptr<runtime::Stream> adopt(std::unique_ptr<runtime::DetachedStream>) override {
    return nullptr;
  }
  Result<std::unique_ptr<runtime::BlockFile>> open_file(const std::string&,
                                                        const runtime::OpenOptions&) override {
    return fail(Errc::unsupported, "no files");
  }
  void register_buffers(BufferPool&) override {}
  std::unique_ptr<runtime::FdWatch> watch_readable(int fd, Delegate<void()> ready) override {
    auto watch = std::make_unique<Watch>();
    watch->owner = this;
    watch->fd = fd;
    watch->ready = ready;
    watches_.push_back(watch.get());
    return watch;
  }

  // One turn: what is readable, what was posted, the hooks. Waits at most that long when there is nothing.
  void turn(int wait_ms = 0) {
    fds_.assign(1, {event_, POLLIN, 0});
    polled_ = watches_;
    for (const Watch* watch : polled_) fds_.push_back({watch->fd, POLLIN, 0});
    static_cast<void>(::poll(fds_.data(), fds_.size(), hooks_.empty() ? wait_ms : 0));
    std::uint64_t count = 0;
    if (fds_[0].revents != 0) static_cast<void>(!::read(event_, &count, sizeof count));
    for (std::size_t i = 0; i < polled_.size(); ++i) {
      if (fds_[i + 1].revents == 0) continue;
      const bool alive = std::find(watches_.begin(), watches_.end(), polled_[i]) != watches_.end();
      if (alive) Delegate<void()>(polled_[i]->ready)();
    }
    std::vector<std::function<void()>> work;
    {
      const std::lock_guard guard(mutex_);
      work.swap(posted_);
    }
    for (auto& item : work) item();
    while (!hooks_.empty()) hooks_.pop_front()();
    timers_.fire(now());
  }
  void run() {
    while (!stopped_) turn(50);
  }

 private:
  struct Watch final : runtime::FdWatch {
    ~Watch() override { std::erase(owner->watches_, this); }
    PollLoop* owner = nullptr;
    int fd = -1;
    Delegate<void()> ready;
  };
  struct NoRandom final : runtime::Random {
    void fill(MutableBytes out) override { std::memset(out.data(), 4, out.size()); }
  };
  void wake() {
    const std::uint64_t one = 1;
    static_cast<void>(!::write(event_, &one, sizeof one));
  }

  int event_;
  runtime::TimerQueue timers_;
  NoRandom random_;
  IntrusiveList<runtime::TurnHook> hooks_;
  std::vector<Watch*> watches_;
  std::vector<Watch*> polled_;  // of this turn
  std::vector<pollfd> fds_;
  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;
  std::atomic<bool> stopped_{false};
};

// Blocks in memory. Records every operation when it begins and when it ends; any thread may read the record.
class RecordingDisk final : public block::Channel {
 public:
  struct Entry {
    block::OpKind kind;
    std::uint64_t lba, blocks;
    bool ended;
    bool operator==(const Entry&) const = default;
  };

  explicit RecordingDisk(std::uint64_t blocks, std::uint32_t block_size = 512) : bytes_(blocks * block_size) {
    entries_.reserve(100000);  // what comes beyond is not recorded
    geometry_.block_size_bytes = block_size;
    geometry_.blocks = BlockCount(blocks);
    geometry_.thin = true;
    geometry_.unmap_zeroes = true;
    geometry_.unmap_granularity_blocks = 4096 / block_size;
  }
  ~RecordingDisk() override = default;

  const block::Geometry& geometry() const override { return geometry_; }
  block::Geometry& geometry_for_change() { return geometry_; }
  // The stored bytes, for one expression. Their order with the operations comes through the kernel, which a
  // race detector does not see: the lock, held to the end of the expression, tells it.
  class LockedBytes {
   public:
    LockedBytes(std::recursive_mutex& mutex, std::vector<std::uint8_t>& bytes)
        : guard_(mutex), bytes_(bytes) {}
    std::uint8_t* data() const { return bytes_.data(); }
    auto begin() const { return bytes_.begin(); }
    auto end() const { return bytes_.end(); }
    std::uint8_t& operator[](std::size_t i) const { return bytes_[i]; }

   private:
    std::lock_guard<std::recursive_mutex> guard_;
    std::vector<std::uint8_t>& bytes_;
  };
  LockedBytes bytes() { return {mutex_, bytes_}; }

  bool submit(block::BlockOp& op) override {
    record(op, false);
    if (holding(op)) {
      held_.push_back(op);
      ++held_count_;
      return false;
    }
    perform(op);
    return true;
  }

  // Holds back operations of the kind (all kinds: nothing) until released. Loop's thread.
  void hold(block::OpKind kind) {
    held_kind_ = kind;
    hold_ = true;
  }
  void hold_all() {
    hold_ = true;
    hold_everything_ = true;
  }
  void stop_holding() { hold_ = hold_everything_ = false; }
  void release_one() {
    block::BlockOp& op = held_.pop_front();
    --held_count_;
    perform(op);
    op.done(op);
  }
  void release_all() {
    stop_holding();
    while (!held_.empty()) release_one();
  }
  void fail_next(block::OpKind kind, block::OpStatus status) {
    fail_kind_ = kind;
    fail_status_ = status;
  }

  [[nodiscard]] unsigned held() const { return held_count_; }
  [[nodiscard]] std::vector<Entry> record() const {
    const std::lock_guard guard(mutex_);
    return entries_;
  }
  [[nodiscard]] unsigned count(block::OpKind kind) const {
    const auto entries = record();
    return static_cast<unsigned>(std::count_if(entries.begin(), entries.end(),
                                               [&](const Entry& e) { return e.kind == kind && e.ended; }));
  }
  [[nodiscard]] unsigned fua_operations() const { return fua_operations_; }
  [[nodiscard]] bool last_may_unmap() const { return last_may_unmap_; }
  void forget() {
    const std::lock_guard guard(mutex_);
    entries_.clear();
  }

 private:
  [[nodiscard]] bool holding(const block::BlockOp& op) const {
    return hold_ && (hold_everything_ || op.kind == held_kind_);
  }

  void record(const block::BlockOp& op, bool ended) {
    const std::lock_guard guard(mutex_);
    if (op.fua && !ended) ++fua_operations_;
    last_may_unmap_ = op.may_unmap;
    if (entries_.size() < entries_.capacity())
      entries_.push_back({op.kind, op.lba.value(), op.blocks.value(), ended});
  }
  void perform(block::BlockOp& op) {
    if (fail_status_ != block::OpStatus::ok && op.kind == fail_kind_) {
      op.status = std::exchange(fail_status_, block::OpStatus::ok);
      record(op, true);
      return;
    }
    std::uint8_t* at = bytes_.data() + op.lba.value() * geometry_.block_size_bytes;
    const std::size_t total = op.blocks.value() * geometry_.block_size_bytes;
    if (op.kind == block::OpKind::unmap || op.kind == block::OpKind::write_zeroes) std::memset(at, 0, total);
    std::size_t moved = 0;
    for (const iovec& piece : op.data) {
      if (op.kind == block::OpKind::read) std::memcpy(piece.iov_base, at + moved, piece.iov_len);
      if (op.kind == block::OpKind::write) std::memcpy(at + moved, piece.iov_base, piece.iov_len);
      moved += piece.iov_len;
    }
    const bool transfers = op.kind == block::OpKind::read || op.kind == block::OpKind::write;
    op.status = transfers && moved != total ? block::OpStatus::write_error : block::OpStatus::ok;
    record(op, true);
  }

  block::Geometry geometry_;
  std::vector<std::uint8_t> bytes_;
  IntrusiveList<block::BlockOp> held_;
  std::atomic<unsigned> held_count_{0};
  bool hold_ = false, hold_everything_ = false;
  block::OpKind held_kind_ = block::OpKind::read;
  block::OpKind fail_kind_ = block::OpKind::read;
  block::OpStatus fail_status_ = block::OpStatus::ok;
  mutable std::recursive_mutex mutex_;
  std::vector<Entry> entries_;
  std::atomic<unsigned> fua_operations_{0};
  std::atomic<bool> last_may_unmap_{false};
};

}  // namespace perilune::attach::testing
