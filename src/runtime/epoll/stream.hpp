// SPDX-License-Identifier: Apache-2.0
// A TCP connection on epoll. Internal to this folder; the loop's thread.
//
// Both directions are registered once, edge-triggered. Whether the socket can be read or written is
// remembered from what the last call brought: a receive that is started while there may be more is tried in
// the next turn, one that found the socket empty waits for an edge. Nothing of ours is ever in the kernel's
// hands, so a close has nothing to cancel.
#pragma once

#include <array>

#include "runtime/epoll/reactor.hpp"
#include "runtime/stream.hpp"

namespace perilune::runtime::epoll {

class EpollStream final : public Stream, public Source {
 public:
  // `fd` is non-blocking.
  EpollStream(Reactor& reactor, posix::UniqueFd fd, const Endpoint& local, const Endpoint& peer);
  ~EpollStream() override;

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

  void on_ready(std::uint32_t events) override;

 private:
  void begin_receive();
  void try_receive();
  void receive_selected();
  void receive_directed();
  void keep(std::span<const iovec> iov);
  void advance(std::size_t bytes) noexcept;
  void end_receive(int result, Bytes data);
  [[nodiscard]] bool push();
  [[nodiscard]] ssize_t send_some() noexcept;
  void end_send();
  void on_closing();

  static constexpr std::size_t inline_iovecs = 4;

  Reactor& reactor_;
  StreamHandler* handler_ = nullptr;
  posix::UniqueFd fd_;
  Poller::Token token_ = 0;
  bool receiving_ = false;
  bool sending_ = false;
  bool readable_ = false;  // there may be something to receive
  bool writable_ = true;   // the socket buffer may have room
  bool ended_ = false;  // end of file or an error follows what is left to receive: a short read says nothing
  bool wait_all_ = false;
  bool closing_ = false;
  bool shut_after_send_ = false;

  // The directed receive at hand: what is still missing. iov_count_ is 0 for one that selects.
  std::array<iovec, inline_iovecs> inline_iov_{};
  iovec* iov_block_ = nullptr;  // borrowed from the reactor when there are more
  iovec* iov_ = nullptr;
  std::size_t iov_count_ = 0;
  std::size_t missing_ = 0;
  std::size_t moved_ = 0;

  // The send at hand.
  std::span<const iovec> out_;  // from the first that has not gone whole
  std::size_t out_offset_ = 0;  // of it, gone
  std::size_t sent_ = 0;
  int send_result_ = 0;

  TurnHook receive_again_;
  TurnHook send_ended_;
  TurnHook close_on_;
  Endpoint local_;
  Endpoint peer_;
};

}  // namespace perilune::runtime::epoll
