// SPDX-License-Identifier: Apache-2.0
// UringLoop as it is made. Internal to this folder.
#pragma once

#include <vector>

#include "runtime/polling.hpp"
#include "runtime/posix/mailbox.hpp"
#include "runtime/posix/system_random.hpp"
#include "runtime/posix/unique_fd.hpp"
#include "runtime/posix/worker_pool.hpp"
#include "runtime/uring/event.hpp"
#include "runtime/uring/receive_buffers.hpp"
#include "runtime/uring/ring.hpp"
#include "runtime/uring/uring_loop.hpp"

namespace perilune::runtime::uring {

class UringStream;

class Reactor final : public UringLoop {
 public:
  [[nodiscard]] static Result<std::unique_ptr<UringLoop>> create(UringOptions options);
  ~Reactor() override;

  void run() override;
  [[nodiscard]] const Counters& counters() const override { return counters_; }

  [[nodiscard]] Instant now() const override { return now_; }
  [[nodiscard]] TimerQueue& timers() override { return timers_; }
  [[nodiscard]] Random& random() override { return random_; }
  void schedule(TurnHook& hook) override;
  void post(std::function<void()> work) override { mailbox_.post(std::move(work)); }
  void stop() override { mailbox_.stop(); }
  [[nodiscard]] Result<std::unique_ptr<Listener>> listen(const Endpoint& local, const SocketOptions& options,
                                                         AcceptHandler& handler) override;
  [[nodiscard]] std::unique_ptr<Connecting> connect(const Endpoint& peer, const SocketOptions& options,
                                                    ConnectHandler& handler) override;
  [[nodiscard]] std::unique_ptr<Stream> adopt(std::unique_ptr<DetachedStream> detached) override;
  [[nodiscard]] Result<std::unique_ptr<BlockFile>> open_file(const std::string& path,
                                                             const OpenOptions& options) override;
  void register_buffers(BufferPool& pool) override;
  [[nodiscard]] std::unique_ptr<FdWatch> watch_readable(int fd, Delegate<void()> ready) override;
  [[nodiscard]] std::unique_ptr<Stream> adopt_socket(int fd) override;
  [[nodiscard]] bool takes_device_commands() const override { return options_.device_commands; }
  void hand_over() override { ring_->hand_over(); }
  [[nodiscard]] bool spins() const noexcept override { return polling_.spinning(); }
  [[nodiscard]] bool submit(DeviceCommand& command) override;
  void cancel(DeviceCommand& command) override;

  // For the objects of this folder.
  [[nodiscard]] Ring& ring() noexcept { return *ring_; }
  [[nodiscard]] ReceiveBuffers& buffers() noexcept { return *buffers_; }
  void keep(Event& event) noexcept { events_.push_back(event); }
  void defer(Deferred& task) noexcept {
    if (!task.linked()) deferred_.push_back(task);
  }
  void starve(UringStream& stream) noexcept;
  // The registered buffer that holds the whole of [p, p+bytes), or -1.
  [[nodiscard]] int fixed_buffer(const void* p, std::size_t bytes) const noexcept;
  void use_fixed_buffers();  // from now on, there is a file that gains by them
  // Copies iovecs to where they stay until the next submission.
  [[nodiscard]] const iovec* keep_iovecs(std::span<const iovec> iov);
  // Whether this turn may still do a file read by a system call of its own (see file.cpp).
  [[nodiscard]] bool take_inline_read() noexcept {
    return inline_reads_left_ > 0 && inline_reads_left_-- > 0;
  }
  // To a thread of its own: what may block, and the ring knows no request for (UringFile::perform).
  void hand_out(FileOp& op);
  void notice(std::string_view line) const {
    if (options_.notice) options_.notice(line);
  }
  void trace_prepared(std::string_view operation, std::uint64_t token, bool durable = false) const {
    if (options_.trace) [[unlikely]]
      options_.trace({TraceEvent::What::prepared, operation, token, durable, 0});
  }

 private:
  explicit Reactor(UringOptions options);
  [[nodiscard]] Status begin();
  void one_turn();
  void run_deferred();
  void run_hooks();
  void wait();
  [[nodiscard]] bool spin(Duration limit);
  void dispatch();
  void trace_completed(const io_uring_cqe& cqe) const;
  void restart_starved();
  void release_iovecs();
  void take_back_handed_out();
  void update_now();

  class Doorbell final : public Event {
   public:
    explicit Doorbell(Reactor& reactor) : Event(reactor.ring()), reactor_(reactor) {}
    void start();

   private:
    void on_event(int result, unsigned flags) override;
    Reactor& reactor_;
    std::uint64_t value_ = 0;
  };

  UringOptions options_;
  std::unique_ptr<Ring> ring_;
  std::unique_ptr<ReceiveBuffers> buffers_;
  posix::Mailbox mailbox_;
  posix::WorkerPool workers_;
  std::size_t handed_out_ = 0;  // to them, and not taken back
  std::unique_ptr<Doorbell> doorbell_;
  bool doorbell_armed_ = false;
  PollingPolicy polling_;
  Counters counters_;
  posix::SystemRandom random_;
  TimerQueue timers_;
  Instant now_{};
  Instant idle_since_{};     // when the loop last ran out of work; zero: not idle
  bool slept_ = false;        // since idle_since_
  bool useful_batch_ = true;  // the last batch held more than ends of our own sends
  unsigned inline_reads_left_ = 0;

  IntrusiveList<TurnHook> hooks_;
  IntrusiveList<Deferred> deferred_;
  IntrusiveList<UringStream> starved_;
  IntrusiveList<Event> events_;
  std::vector<iovec> iovec_arena_;
  std::size_t iovecs_used_ = 0;
  std::vector<std::unique_ptr<iovec[]>> spilled_iovecs_;
  BufferPool* pool_ = nullptr;
  bool fixed_buffers_wanted_ = false;
  bool fixed_buffers_tried_ = false;
  bool fixed_buffers_ = false;
};

}  // namespace perilune::runtime::uring
