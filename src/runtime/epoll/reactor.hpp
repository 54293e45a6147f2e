// SPDX-License-Identifier: Apache-2.0
// EpollLoop as it is made. Internal to this folder.
#pragma once

#include <memory>
#include <vector>

#include "runtime/epoll/epoll_loop.hpp"
#include "runtime/epoll/poller.hpp"
#include "runtime/polling.hpp"
#include "runtime/posix/mailbox.hpp"
#include "runtime/posix/system_random.hpp"
#include "runtime/posix/worker_pool.hpp"

namespace perilune::runtime::epoll {

class Reactor final : public EpollLoop {
 public:
  [[nodiscard]] static Result<std::unique_ptr<EpollLoop>> create(EpollOptions options);
  ~Reactor() override;

  void run() override;
  [[nodiscard]] const Counters& counters() const override { return counters_; }

  [[nodiscard]] Instant now() const override { return now_; }
  [[nodiscard]] TimerQueue& timers() override { return timers_; }
  [[nodiscard]] Random& random() override { return random_; }
  void schedule(TurnHook& hook) override;
  [[nodiscard]] bool spins() const noexcept override { return polling_.spinning(); }
  void post(std::function<void()> work) override { mailbox_.post(std::move(work)); }
  void stop() override { mailbox_.stop(); }
  [[nodiscard]] Result<std::unique_ptr<Listener>> listen(const Endpoint& local, const SocketOptions& options,
                                                         AcceptHandler& handler) override;
  [[nodiscard]] std::unique_ptr<Connecting> connect(const Endpoint& peer, const SocketOptions& options,
                                                    ConnectHandler& handler) override;
  [[nodiscard]] std::unique_ptr<Stream> adopt(std::unique_ptr<DetachedStream> detached) override;
  [[nodiscard]] Result<std::unique_ptr<BlockFile>> open_file(const std::string& path,
                                                             const OpenOptions& options) override;
  void register_buffers(BufferPool&) override {}
  [[nodiscard]] std::unique_ptr<FdWatch> watch_readable(int fd, Delegate<void()> ready) override;
  [[nodiscard]] std::unique_ptr<Stream> adopt_socket(int fd) override;

  // For the objects of this folder.
  [[nodiscard]] Poller& poller() noexcept { return poller_; }
  // Runs `task` in the next turn.
  void defer(TurnHook& task) noexcept {
    if (!task.linked()) deferred_.push_back(task);
  }
  // Runs `task` after the hooks of this turn: the end of a send that the kernel took at once.
  void after_hooks(TurnHook& task) noexcept {
    if (!task.linked()) ended_sends_.push_back(task);
  }
  // Goes to the pool at the end of the turn.
  void prepare(FileOp& op) noexcept { prepared_.push_back(op); }
  // Something came from outside: a reason to spin for more (polling.hpp).
  void note_useful() noexcept { useful_batch_ = true; }

  static constexpr std::size_t max_iovecs = 65;  // of a file operation; a receive has one fewer
  static constexpr std::size_t max_send_iovecs = 1024;
  [[nodiscard]] iovec* take_iovecs();  // max_iovecs of them
  void give_back_iovecs(iovec* block) noexcept;
  [[nodiscard]] iovec* send_scratch() noexcept {
    return send_scratch_.get();
  }  // max_send_iovecs, for one call
  [[nodiscard]] MutableBytes receive_buffer() const noexcept {
    return {receive_buffer_.get(), options_.receive_buffer_bytes};
  }

  void notice(std::string_view line) const {
    if (options_.notice) options_.notice(line);
  }
  void trace_prepared(std::string_view operation, const void* object, bool durable = false) const {
    if (options_.trace) [[unlikely]] {
      options_.trace(
          {TraceEvent::What::prepared, operation, reinterpret_cast<std::uint64_t>(object), durable, 0});
    }
  }
  void trace_completed(std::string_view operation, const void* object, int result) const {
    if (options_.trace) [[unlikely]] {
      options_.trace(
          {TraceEvent::What::completed, operation, reinterpret_cast<std::uint64_t>(object), false, result});
    }
  }

 private:
  explicit Reactor(EpollOptions options);
  void one_turn();
  void run_hooks();
  void run_all(IntrusiveList<TurnHook>& list);
  void wait();
  [[nodiscard]] bool look();
  [[nodiscard]] bool spin(Duration limit);
  void dispatch();
  void end_file_operations();

  class Doorbell final : public Source {
   public:
    void on_ready(std::uint32_t) override {}  // edge-triggered: nobody needs to read it
  };

  EpollOptions options_;
  posix::Mailbox mailbox_;
  Poller poller_;
  posix::WorkerPool pool_;
  Doorbell doorbell_;
  Poller::Token doorbell_token_ = 0;
  PollingPolicy polling_;
  Counters counters_;
  posix::SystemRandom random_;
  TimerQueue timers_;
  Instant now_{};
  Instant idle_since_{};      // when the loop last ran out of work; zero: not idle
  bool slept_ = false;        // since idle_since_
  bool useful_batch_ = true;  // the last batch held more than ends of our own sends

  IntrusiveList<TurnHook> hooks_;
  IntrusiveList<TurnHook> ended_sends_;
  IntrusiveList<TurnHook> deferred_;
  IntrusiveList<FileOp> prepared_;
  std::unique_ptr<std::uint8_t[]> receive_buffer_;
  std::unique_ptr<iovec[]> send_scratch_;
  std::vector<std::unique_ptr<iovec[]>> iovec_blocks_;
  std::vector<iovec*> free_iovecs_;
};

}  // namespace perilune::runtime::epoll
