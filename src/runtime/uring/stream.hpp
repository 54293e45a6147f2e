// SPDX-License-Identifier: Apache-2.0
// A TCP connection on the ring. Internal to this folder; the loop's thread.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <memory>

#include "runtime/stream.hpp"
#include "runtime/uring/reactor.hpp"

namespace perilune::runtime::uring {

class UringStream final : public Stream, public Deferred, public ListNode<UringStream> {
 public:
  UringStream(Reactor& reactor, posix::UniqueFd fd, const Endpoint& local, const Endpoint& peer) noexcept;
  ~UringStream() override;

  void set_handler(StreamHandler& handler) override { handler_ = &handler; }
  void receive() override;
  void receive_into(std::span<const iovec> iov, bool wait_all) override;
  void send(std::span<const iovec> iov) override;
  [[nodiscard]] int send_now(std::span<const iovec> iov) override;
  void close() override;
  void shutdown_send() override;
  [[nodiscard]] std::unique_ptr<DetachedStream> release() override;
  [[nodiscard]] const Endpoint& local() const override { return local_; }
  [[nodiscard]] const Endpoint& peer() const override { return peer_; }

  // From the reactor.
  void received(int result, unsigned flags);
  void sent(int result);
  void restart_receive();  // after ENOBUFS
  void on_turn() override;

 private:
  void start_selecting_receive();
  void end_receive(int result, Bytes data);
  void use_slot();
  void finish_close_when_quiet();

  static constexpr std::size_t max_receive_iovecs = 64;
  static constexpr std::size_t max_send_iovecs = 1024;
  static constexpr std::uint32_t operations_before_slot = 32;  // a short connection never pays for
                                                               // registration

  Reactor& reactor_;
  StreamHandler* handler_ = nullptr;
  posix::UniqueFd fd_;
  int slot_ = -1;
  std::uint32_t operations_ = 0;
  bool receiving_ = false;
  bool sending_ = false;
  bool selecting_ = false;      // the receive at hand selects a buffer
  bool probably_empty_ = true;  // the socket held nothing more after the last receive
  bool closing_ = false;
  bool closed_ = false;
  bool shut_after_send_ = false;
  Endpoint local_;
  Endpoint peer_;
  msghdr receive_message_{};
  msghdr send_message_{};
};

}  // namespace perilune::runtime::uring
