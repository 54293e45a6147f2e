// SPDX-License-Identifier: Apache-2.0
// Stream, listener and connection attempt of the simulator.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/sim/connection.hpp"
#include "runtime/sim/sim_loop.hpp"

namespace perilune::sim {

class SimStream;

// The process has the descriptor still, but nobody reads from it.
class SimDetachedStream final : public runtime::DetachedStream {
 public:
  SimDetachedStream(std::shared_ptr<Connection> connection, int side) noexcept
      : connection_(std::move(connection)), side_(side) {}
  ~SimDetachedStream() override;
  [[nodiscard]] std::unique_ptr<SimStream> attach_to(SimLoop& loop);

 private:
  std::shared_ptr<Connection> connection_;  // nullptr: handed on
  int side_;
};

class SimStream final : public runtime::Stream {
 public:
  SimStream(SimLoop& loop, std::shared_ptr<Connection> connection, int side);
  ~SimStream() override;

  void set_handler(runtime::StreamHandler& handler) override { handler_ = &handler; }
  void receive() override;
  void receive_into(std::span<const iovec> iov, bool wait_all) override;
  void send(std::span<const iovec> iov) override;
  [[nodiscard]] int send_now(std::span<const iovec> iov) override;
  void close() override;
  void shutdown_send() override;
  [[nodiscard]] std::unique_ptr<runtime::DetachedStream> release() override;
  [[nodiscard]] const runtime::Endpoint& local() const override { return connection_->place(side_).local; }
  [[nodiscard]] const runtime::Endpoint& peer() const override { return connection_->place(1 - side_).local; }

  // From the connection: data, space, an end or an error may be there.
  void wake_receive();
  void wake_send();
  // The process is gone; should its loop go on as a ghost, everything ends with a reset.
  void sever();

 private:
  enum class Receiving : std::uint8_t { no, selected, directed };

  [[nodiscard]] std::size_t readable() const;
  void start_receive(Receiving kind);
  void run_receive();
  void run_selected();
  void run_directed();
  void finish_receive(int result, Bytes data);
  [[nodiscard]] std::optional<int> end_result() const;
  std::size_t fill_directed(std::size_t limit);
  [[nodiscard]] int write_out(std::span<const iovec> iov);
  void copy_out();
  void run_send();
  void run_close();
  void scribble();

  SimLoop& loop_;
  std::shared_ptr<Connection> connection_;
  int side_;
  Prng prng_;
  runtime::StreamHandler* handler_ = nullptr;

  Receiving receiving_ = Receiving::no;
  bool wait_all_ = false;
  std::vector<iovec> into_;
  std::size_t into_total_ = 0;
  std::size_t filled_ = 0;
  std::size_t select_limit_;

  std::span<const iovec> sending_;
  bool send_pending_ = false;
  bool copy_scheduled_ = false;
  std::optional<int> sent_;

  bool severed_ = false;
  bool closing_ = false;
  bool cancelled_ = false;
  bool closed_ = false;
  bool released_ = false;
  Ready receive_ready_;
  Ready send_ready_;
  Ready close_ready_;
};

class SimListener final : public runtime::Listener {
 public:
  SimListener(SimLoop& loop, const runtime::Endpoint& local, const runtime::SocketOptions& options,
              runtime::AcceptHandler& handler);
  ~SimListener() override;
  [[nodiscard]] const runtime::Endpoint& local() const override { return local_; }

  [[nodiscard]] SimLoop& loop() noexcept { return loop_; }
  [[nodiscard]] bool takes(const SimHost& host, const runtime::Endpoint& peer) const noexcept;
  [[nodiscard]] bool full() const noexcept { return backlog_.size() >= 128; }
  void enqueue(std::shared_ptr<Connection> connection);
  void close_backlog() noexcept;

 private:
  void run_accept();
  SimLoop& loop_;
  runtime::Endpoint local_;
  runtime::SocketOptions options_;
  runtime::AcceptHandler& handler_;
  std::deque<std::shared_ptr<Connection>> backlog_;
  Ready accept_ready_;
};

// What the events of an attempt hold; the SimConnecting may be gone before them.
class SimConnecting;
struct ConnectAttempt {
  SimLoop* loop = nullptr;
  runtime::Endpoint local;
  runtime::Endpoint peer;
  runtime::SocketOptions options;
  Instant deadline;
  Duration retry{};
  bool lost = false;
  SimConnecting* owner = nullptr;
};

class SimConnecting final : public runtime::Connecting {
 public:
  SimConnecting(std::shared_ptr<ConnectAttempt> attempt, runtime::ConnectHandler& handler);
  ~SimConnecting() override;
  void finish(Result<std::shared_ptr<Connection>> outcome);

 private:
  void run();
  std::shared_ptr<ConnectAttempt> attempt_;
  runtime::ConnectHandler& handler_;
  std::optional<Result<std::shared_ptr<Connection>>> outcome_;
  Ready ready_;
};

}  // namespace perilune::sim
