// SPDX-License-Identifier: Apache-2.0
#include "runtime/uring/stream.hpp"

#include <algorithm>
#include <cerrno>

#include "base/assert.hpp"
#include "runtime/posix/detached_socket.hpp"
#include "runtime/posix/sockets.hpp"

namespace perilune::runtime::uring {

UringStream::UringStream(Reactor& reactor, posix::UniqueFd fd, const Endpoint& local,
                         const Endpoint& peer) noexcept
    : reactor_(reactor), fd_(std::move(fd)), local_(local), peer_(peer) {}

UringStream::~UringStream() {
  PERILUNE_ASSERT(!receiving_ && !sending_);
  reactor_.ring().drop_slot(slot_);
}

void UringStream::use_slot() {
  if (++operations_ == operations_before_slot) slot_ = reactor_.ring().take_slot(fd_.get());
}

void UringStream::receive() {
  PERILUNE_ASSERT(!receiving_);
  if (closing_) return;
  receiving_ = true;
  selecting_ = true;
  start_selecting_receive();
}

void UringStream::start_selecting_receive() {
  use_slot();
  io_uring_sqe& sqe = reactor_.ring().entry(Kind::receive, this);
  io_uring_prep_recv(&sqe, -1, nullptr, 0, 0);
  Descriptor{fd_.get(), slot_}.aim(sqe);
  sqe.flags = static_cast<std::uint8_t>(sqe.flags | IOSQE_BUFFER_SELECT);
  sqe.buf_group = ReceiveBuffers::group;
  if (probably_empty_) sqe.ioprio = IORING_RECVSEND_POLL_FIRST;
  reactor_.trace_prepared("RECV", sqe.user_data);
}

void UringStream::receive_into(std::span<const iovec> iov, bool wait_all) {
  PERILUNE_ASSERT(!receiving_ && !iov.empty() && iov.size() <= max_receive_iovecs);
  if (closing_) return;
  receiving_ = true;
  selecting_ = false;
  use_slot();
  // May submit to make room, so before the entry is taken.
  const iovec* const kept = iov.size() > 1 ? reactor_.keep_iovecs(iov) : nullptr;
  io_uring_sqe& sqe = reactor_.ring().entry(Kind::receive, this);
  const int flags = wait_all ? MSG_WAITALL : 0;
  if (iov.size() == 1) {
    io_uring_prep_recv(&sqe, -1, iov[0].iov_base, iov[0].iov_len, flags);
  } else {
    receive_message_ = msghdr{};
    receive_message_.msg_iov = const_cast<iovec*>(kept);  // the kernel only reads it, and copies it at the
                                                          // submission
    receive_message_.msg_iovlen = iov.size();
    io_uring_prep_recvmsg(&sqe, -1, &receive_message_, static_cast<unsigned>(flags));
  }
  Descriptor{fd_.get(), slot_}.aim(sqe);
  if (probably_empty_) sqe.ioprio = IORING_RECVSEND_POLL_FIRST;
  reactor_.trace_prepared(iov.size() == 1 ? "RECV" : "RECVMSG", sqe.user_data);
}

void UringStream::send(std::span<const iovec> iov) {
  PERILUNE_ASSERT(!sending_ && !iov.empty() && iov.size() <= max_send_iovecs);
  if (closing_) return;
  sending_ = true;
  use_slot();
  io_uring_sqe& sqe = reactor_.ring().entry(Kind::send, this);
  // MSG_WAITALL: a full socket buffer is waited for in the kernel, not by a round trip through here.
  constexpr int flags = MSG_NOSIGNAL | MSG_WAITALL;
  if (iov.size() == 1) {
    io_uring_prep_send(&sqe, -1, iov[0].iov_base, iov[0].iov_len, flags);
  } else {
    send_message_ = msghdr{};
    send_message_.msg_iov = const_cast<iovec*>(iov.data());  // the kernel only reads it
    send_message_.msg_iovlen = iov.size();
    io_uring_prep_sendmsg(&sqe, -1, &send_message_, flags);
  }
  Descriptor{fd_.get(), slot_}.aim(sqe);
  reactor_.trace_prepared(iov.size() == 1 ? "SEND" : "SENDMSG", sqe.user_data);
}

int UringStream::send_now(std::span<const iovec> iov) {
  PERILUNE_ASSERT(!sending_ && !closing_ && !iov.empty() && iov.size() <= max_send_iovecs);
  return posix::send_now(fd_.get(), iov);
}

void UringStream::received(int result, unsigned flags) {
  const bool has_buffer = (flags & IORING_CQE_F_BUFFER) != 0;
  const auto buffer = static_cast<std::uint16_t>(flags >> IORING_CQE_BUFFER_SHIFT);
  probably_empty_ = (flags & IORING_CQE_F_SOCK_NONEMPTY) == 0;
  if (result == -ENOBUFS && selecting_ && !closing_) {
    reactor_.starve(*this);
    return;
  }
  receiving_ = false;
  ReceiveBuffers& buffers = reactor_.buffers();  // the callback may close, but never destroy, this stream
  if (closing_) {
    end_receive(-ECANCELED, {});
  } else if (has_buffer && result > 0) {
    end_receive(result, buffers.filled(buffer, static_cast<std::size_t>(result)));
  } else {
    end_receive(result, {});
  }
  if (has_buffer) buffers.give_back(buffer);
}

// Everything outstanding ends before close() is over, so the stream is alive after the callback.
void UringStream::end_receive(int result, Bytes data) {
  handler_->on_received(result, data);
  finish_close_when_quiet();
}

void UringStream::restart_receive() {
  if (receiving_ && !closing_) start_selecting_receive();
}

void UringStream::sent(int result) {
  sending_ = false;
  if (shut_after_send_ && !closing_) ::shutdown(fd_.get(), SHUT_WR);
  handler_->on_sent(closing_ ? -ECANCELED : result);
  finish_close_when_quiet();
}

void UringStream::shutdown_send() {
  if (closing_) return;
  if (sending_) shut_after_send_ = true;
  else ::shutdown(fd_.get(), SHUT_WR);
}

std::unique_ptr<DetachedStream> UringStream::release() {
  PERILUNE_ASSERT(!receiving_ && !sending_ && !closing_ && !shut_after_send_);
  closing_ = closed_ = true;
  reactor_.ring().drop_slot(slot_);
  slot_ = -1;
  return std::make_unique<posix::DetachedSocket>(std::move(fd_), local_, peer_);
}

void UringStream::close() {
  if (closing_) return;
  closing_ = true;
  if (ListNode<UringStream>::linked()) {  // starved: the kernel holds no receive of ours
    ListNode<UringStream>::unlink();
    reactor_.defer(*this);
  } else if (receiving_) {
    reactor_.ring().cancel(Kind::receive, this);
  }
  if (sending_) reactor_.ring().cancel(Kind::send, this);
  // Whatever the kernel may be doing with the socket ends now, even where a cancellation comes too late.
  if (receiving_ || sending_) ::shutdown(fd_.get(), SHUT_RDWR);
  finish_close_when_quiet();
}

void UringStream::finish_close_when_quiet() {
  if (!closing_ || closed_ || receiving_ || sending_) return;
  closed_ = true;
  reactor_.defer(*this);
}

void UringStream::on_turn() {
  if (receiving_) {
    receiving_ = false;
    end_receive(-ECANCELED, {});
    return;  // unless a send is outstanding, this object now stands in the list of the next turn
  }
  reactor_.ring().drop_slot(slot_);
  slot_ = -1;
  fd_.reset();
  handler_->on_closed();
}

}  // namespace perilune::runtime::uring
