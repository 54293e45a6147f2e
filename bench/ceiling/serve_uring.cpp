// SPDX-License-Identifier: Apache-2.0
// The responder on io_uring: one-shot receives and gather sends, submitted and waited for in one call per
// turn.
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "ceiling/responder.hpp"
#include "ceiling/ring.hpp"
#include "ceiling/serve.hpp"
#include "ceiling/tcp.hpp"

namespace ceiling {
namespace {

class Engine;

class RingConnection {
 public:
  RingConnection(Engine& engine, int fd, Disk& disk) : engine_(engine), fd_(fd), responder_(disk) {}
  ~RingConnection() { ::close(fd_); }

  void on_received(int result, unsigned flags);
  void on_sent(int result);
  // Starts what can be started; at the end of a turn.
  void go_on();
  [[nodiscard]] bool over() const noexcept { return broken_ && !receiving_ && !sending_; }

  bool touched = false;

 private:
  void break_off() {
    if (!broken_) ::shutdown(fd_, SHUT_RDWR);  // ends what is in the kernel
    broken_ = true;
  }
  Engine& engine_;
  int fd_;
  Responder responder_;
  std::array<iovec, 2> in_{};
  msghdr receive_message_{}, send_message_{};
  bool receiving_ = false, sending_ = false, broken_ = false, probably_empty_ = false;
};

// What completes is the accept (no object), a receive or a send of a connection.
enum : unsigned { receive_kind, send_kind };

class Engine {
 public:
  Engine(int listener, Disk& disk, Waiting waiting) : listener_(listener), waiting_(waiting), disk_(disk) {
    accept();
  }
  [[nodiscard]] Ring& ring() noexcept { return ring_; }

  [[noreturn]] void run() {
    for (;;) {
      ring_.wait(waiting_);
      dispatch();
      for (RingConnection* connection : touched_) {
        connection->touched = false;
        connection->go_on();
        if (connection->over()) delete connection;
      }
      touched_.clear();
    }
  }

 private:
  void accept() {
    io_uring_sqe& sqe = ring_.entry();
    io_uring_prep_multishot_accept(&sqe, listener_, nullptr, nullptr, SOCK_CLOEXEC);
    aim(sqe, nullptr, receive_kind);
  }
  void dispatch() {
    ring_.take_completions([this](const io_uring_cqe& cqe) {
      auto* const connection = aimed_at<RingConnection>(cqe);
      if (connection == nullptr) {
        if (cqe.res >= 0) touch(*new RingConnection(*this, cqe.res, disk_));
        if ((cqe.flags & IORING_CQE_F_MORE) == 0) accept();
        return;
      }
      if (kind_of(cqe) == send_kind)
        connection->on_sent(cqe.res);
      else
        connection->on_received(cqe.res, cqe.flags);
      touch(*connection);
    });
  }
  void touch(RingConnection& connection) {
    if (!connection.touched) touched_.push_back(&connection);
    connection.touched = true;
  }

  int listener_;
  Waiting waiting_;
  Disk& disk_;
  Ring ring_;
  std::vector<RingConnection*> touched_;
};

void RingConnection::on_received(int result, unsigned flags) {
  receiving_ = false;
  probably_empty_ = (flags & IORING_CQE_F_SOCK_NONEMPTY) == 0;
  if (result <= 0 || !responder_.received(static_cast<std::size_t>(result))) break_off();
}

void RingConnection::on_sent(int result) {
  sending_ = false;
  if (result <= 0 || !responder_.sent(static_cast<std::size_t>(result))) break_off();
}

void RingConnection::go_on() {
  if (broken_) return;
  if (!sending_ && responder_.next_answers()) {
    const std::span<iovec> iov = responder_.answers();
    send_message_ = msghdr{};
    send_message_.msg_iov = iov.data();
    send_message_.msg_iovlen = iov.size();
    io_uring_sqe& sqe = engine_.ring().entry();
    io_uring_prep_sendmsg(&sqe, fd_, &send_message_, MSG_NOSIGNAL | MSG_WAITALL);
    aim(sqe, this, send_kind);
    sending_ = true;
  }
  if (!receiving_ && responder_.wants_bytes()) {
    const std::size_t count = responder_.destination(in_);
    io_uring_sqe& sqe = engine_.ring().entry();
    if (count == 1) {
      io_uring_prep_recv(&sqe, fd_, in_[0].iov_base, in_[0].iov_len, 0);
    } else {
      receive_message_ = msghdr{};
      receive_message_.msg_iov = in_.data();
      receive_message_.msg_iovlen = count;
      io_uring_prep_recvmsg(&sqe, fd_, &receive_message_, 0);
    }
    if (probably_empty_) sqe.ioprio = IORING_RECVSEND_POLL_FIRST;
    aim(sqe, this, receive_kind);
    receiving_ = true;
  }
}

}  // namespace

void serve_uring(int listener, Disk& disk, Waiting waiting) {
  Engine engine(listener, disk, waiting);
  engine.run();
}

}  // namespace ceiling
