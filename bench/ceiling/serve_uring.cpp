// SPDX-License-Identifier: Apache-2.0
// The responder on io_uring: one-shot receives and gather sends, submitted and waited for in one call per
// turn.
#include <liburing.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "ceiling/responder.hpp"
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

// What completes is told by the lowest bit of the entry's data: 0 a receive, 1 a send; no pointer at all: the
// accept.
class Engine {
 public:
  Engine(int listener, Disk& disk, Waiting waiting) : listener_(listener), waiting_(waiting), disk_(disk) {
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                   IORING_SETUP_CQSIZE;
    params.cq_entries = 16384;
    const int result = io_uring_queue_init_params(4096, &ring_, &params);
    if (result != 0) {
      errno = -result;
      die("io_uring_setup");
    }
    (void)io_uring_register_ring_fd(&ring_);
    accept();
  }
  [[nodiscard]] io_uring_sqe& entry(void* object, unsigned kind) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    while (sqe == nullptr) {
      (void)io_uring_submit(&ring_);
      sqe = io_uring_get_sqe(&ring_);
    }
    pending_data_ = reinterpret_cast<std::uint64_t>(object) | kind;
    return *sqe;
  }
  // The prep functions of liburing clear the entry, so its data is set after them.
  void aim(io_uring_sqe& sqe) const noexcept { sqe.user_data = pending_data_; }

  [[noreturn]] void run() {
    for (;;) {
      wait();
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
    io_uring_sqe& sqe = entry(nullptr, 0);
    io_uring_prep_multishot_accept(&sqe, listener_, nullptr, nullptr, SOCK_CLOEXEC);
    aim(sqe);
  }
  void wait() {
    if (waiting_ == Waiting::sleep) {
      (void)io_uring_submit_and_wait(&ring_, 1);
      return;
    }
    if (io_uring_sq_ready(&ring_) != 0) (void)io_uring_submit_and_get_events(&ring_);
    while (io_uring_cq_ready(&ring_) == 0) {
      if ((IO_URING_READ_ONCE(*ring_.sq.kflags) & IORING_SQ_TASKRUN) != 0) (void)io_uring_get_events(&ring_);
      else __builtin_ia32_pause();
    }
  }
  void dispatch() {
    io_uring_cqe* cqe = nullptr;
    unsigned head = 0, count = 0;
    io_uring_for_each_cqe(&ring_, head, cqe) {
      ++count;
      const std::uint64_t data = cqe->user_data;
      if (data == 0) {
        if (cqe->res >= 0) touch(*new RingConnection(*this, cqe->res, disk_));
        if ((cqe->flags & IORING_CQE_F_MORE) == 0) accept();
        continue;
      }
      auto& connection = *reinterpret_cast<RingConnection*>(data & ~std::uint64_t{1});
      if ((data & 1) != 0) connection.on_sent(cqe->res);
      else connection.on_received(cqe->res, cqe->flags);
      touch(connection);
    }
    io_uring_cq_advance(&ring_, count);
  }
  void touch(RingConnection& connection) {
    if (!connection.touched) touched_.push_back(&connection);
    connection.touched = true;
  }

  int listener_;
  Waiting waiting_;
  Disk& disk_;
  io_uring ring_{};
  std::uint64_t pending_data_ = 0;
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
    io_uring_sqe& sqe = engine_.entry(this, 1);
    io_uring_prep_sendmsg(&sqe, fd_, &send_message_, MSG_NOSIGNAL | MSG_WAITALL);
    engine_.aim(sqe);
    sending_ = true;
  }
  if (!receiving_ && responder_.wants_bytes()) {
    const std::size_t count = responder_.destination(in_);
    io_uring_sqe& sqe = engine_.entry(this, 0);
    if (count == 1) {
      io_uring_prep_recv(&sqe, fd_, in_[0].iov_base, in_[0].iov_len, 0);
    } else {
      receive_message_ = msghdr{};
      receive_message_.msg_iov = in_.data();
      receive_message_.msg_iovlen = count;
      io_uring_prep_recvmsg(&sqe, fd_, &receive_message_, 0);
    }
    if (probably_empty_) sqe.ioprio = IORING_RECVSEND_POLL_FIRST;
    engine_.aim(sqe);
    receiving_ = true;
  }
}

}  // namespace

void serve_uring(int listener, Disk& disk, Waiting waiting) {
  Engine engine(listener, disk, waiting);
  engine.run();
}

}  // namespace ceiling
