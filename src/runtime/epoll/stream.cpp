// SPDX-License-Identifier: Apache-2.0
#include "runtime/epoll/stream.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/assert.hpp"
#include "runtime/posix/detached_socket.hpp"
#include "runtime/posix/sockets.hpp"

namespace perilune::runtime::epoll {
namespace {

constexpr std::uint32_t reads_may_go_on = EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR;
constexpr std::uint32_t writes_may_go_on = EPOLLOUT | EPOLLHUP | EPOLLERR;
constexpr std::uint32_t the_end_is_near = EPOLLRDHUP | EPOLLHUP | EPOLLERR;

[[nodiscard]] std::size_t length_of(std::span<const iovec> iov) noexcept {
  std::size_t bytes = 0;
  for (const iovec& part : iov) bytes += part.iov_len;
  return bytes;
}

[[nodiscard]] bool would_block() noexcept { return errno == EAGAIN || errno == EWOULDBLOCK; }

}  // namespace

EpollStream::EpollStream(Reactor& reactor, posix::UniqueFd fd, const Endpoint& local, const Endpoint& peer)
    : reactor_(reactor),
      fd_(std::move(fd)),
      receive_again_(Delegate<void()>::to<&EpollStream::try_receive>(*this)),
      send_ended_(Delegate<void()>::to<&EpollStream::end_send>(*this)),
      close_on_(Delegate<void()>::to<&EpollStream::on_closing>(*this)),
      local_(local),
      peer_(peer) {
  const int result =
      reactor_.poller().add(fd_.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, *this, token_);
  if (result == 0) return;
  // No memory, or max_user_watches: a connection that nobody watches would hang. It ends like one that was
  // cut.
  fd_.reset();
  ended_ = readable_ = true;
}

EpollStream::~EpollStream() {
  PERILUNE_ASSERT(!receiving_ && !sending_);
  if (fd_) reactor_.poller().forget(token_);
}

void EpollStream::on_ready(std::uint32_t events) {
  if ((events & the_end_is_near) != 0) ended_ = true;
  if ((events & reads_may_go_on) != 0) {
    readable_ = true;
    if (receiving_ && !closing_) try_receive();
  }
  if ((events & writes_may_go_on) != 0) {
    const bool was_full = !writable_;
    writable_ = true;
    if (was_full && sending_ && !closing_ && push()) end_send();
  }
}

// --- receiving ---

void EpollStream::receive() {
  PERILUNE_ASSERT(!receiving_);
  if (closing_) return;
  iov_count_ = 0;
  begin_receive();
  reactor_.trace_prepared("RECV", this);
}

void EpollStream::receive_into(std::span<const iovec> iov, bool wait_all) {
  PERILUNE_ASSERT(!receiving_ && !iov.empty() && iov.size() <= Reactor::max_iovecs);
  if (closing_) return;
  keep(iov);
  wait_all_ = wait_all;
  begin_receive();
  reactor_.trace_prepared(iov.size() == 1 ? "RECV" : "RECVMSG", this);
}

void EpollStream::keep(std::span<const iovec> iov) {
  iov_block_ = iov.size() > inline_iovecs ? reactor_.take_iovecs() : nullptr;
  iov_ = iov_block_ != nullptr ? iov_block_ : inline_iov_.data();
  std::copy(iov.begin(), iov.end(), iov_);
  iov_count_ = iov.size();
  missing_ = length_of(iov);
  moved_ = 0;
}

void EpollStream::begin_receive() {
  receiving_ = true;
  if (readable_) reactor_.defer(receive_again_);
}

void EpollStream::try_receive() {
  receive_again_.unlink();  // an edge may come before its turn does
  if (!receiving_ || closing_) return;
  if (iov_count_ == 0)
    receive_selected();
  else
    receive_directed();
}

void EpollStream::receive_selected() {
  const MutableBytes buffer = reactor_.receive_buffer();
  ssize_t n = 0;
  do n = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  while (n < 0 && errno == EINTR);
  if (n < 0 && would_block()) {
    readable_ = false;
    return;
  }
  // Fewer bytes than there was room for: the socket is empty, and an edge will tell of more.
  if (n > 0 && static_cast<std::size_t>(n) < buffer.size()) readable_ = ended_;
  if (n < 0)
    end_receive(-errno, {});
  else
    end_receive(static_cast<int>(n), Bytes(buffer).first(static_cast<std::size_t>(n)));
}

void EpollStream::receive_directed() {
  while (missing_ > 0) {
    msghdr message{};
    message.msg_iov = iov_;
    message.msg_iovlen = iov_count_;
    const ssize_t n = ::recvmsg(fd_.get(), &message, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && would_block()) {
      readable_ = false;
      return;
    }
    if (n <= 0) {  // what came before the end counts; the next receive meets the end again
      const int end = n < 0 ? -errno : 0;
      return end_receive(moved_ > 0 ? static_cast<int>(moved_) : end, {});
    }
    const auto bytes = static_cast<std::size_t>(n);
    const bool all = bytes == missing_;
    advance(bytes);
    if (!all) readable_ = ended_;
    if (all || !wait_all_) break;
    if (!readable_) return;
  }
  end_receive(static_cast<int>(moved_), {});
}

void EpollStream::advance(std::size_t bytes) noexcept {
  moved_ += bytes;
  missing_ -= bytes;
  while (bytes > 0) {
    const std::size_t step = std::min(bytes, iov_->iov_len);
    iov_->iov_base = static_cast<std::uint8_t*>(iov_->iov_base) + step;
    iov_->iov_len -= step;
    bytes -= step;
    if (iov_->iov_len == 0) {
      ++iov_;
      --iov_count_;
    }
  }
}

// close() is over only in a later turn, so the stream is alive after the callback.
void EpollStream::end_receive(int result, Bytes data) {
  receiving_ = false;
  if (iov_block_ != nullptr) reactor_.give_back_iovecs(std::exchange(iov_block_, nullptr));
  reactor_.note_useful();
  reactor_.trace_completed("RECEIVE", this, result);
  handler_->on_received(result, data);
}

// --- sending ---

void EpollStream::send(std::span<const iovec> iov) {
  PERILUNE_ASSERT(!sending_ && !iov.empty() && iov.size() <= Reactor::max_send_iovecs);
  if (closing_) return;
  sending_ = true;
  out_ = iov;
  out_offset_ = sent_ = 0;
  reactor_.trace_prepared(iov.size() == 1 ? "SEND" : "SENDMSG", this);
  if (writable_ && push()) reactor_.after_hooks(send_ended_);
}

int EpollStream::send_now(std::span<const iovec> iov) {
  PERILUNE_ASSERT(!sending_ && !closing_ && !iov.empty() && iov.size() <= Reactor::max_send_iovecs);
  return posix::send_now(fd_.get(), iov);
}

// True when the send has come to its end, which is then in send_result_; false when the socket buffer is
// full. All of it goes, however often room must be waited for: that is not worth a round trip through the
// owner.
bool EpollStream::push() {
  while (!out_.empty()) {
    const ssize_t n = send_some();
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && would_block()) {
      writable_ = false;
      return false;
    }
    if (n < 0) {
      send_result_ = sent_ > 0 ? static_cast<int>(sent_) : -errno;
      return true;
    }
    sent_ += static_cast<std::size_t>(n);
    out_offset_ += static_cast<std::size_t>(n);
    while (!out_.empty() && out_offset_ >= out_.front().iov_len) {
      out_offset_ -= out_.front().iov_len;
      out_ = out_.subspan(1);
    }
  }
  send_result_ = static_cast<int>(sent_);
  return true;
}

ssize_t EpollStream::send_some() noexcept {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(out_.data());  // the kernel only reads it
  message.msg_iovlen = out_.size();
  if (out_offset_ > 0) {  // the caller's vectors are not ours to change
    iovec* const rest = reactor_.send_scratch();
    std::copy(out_.begin(), out_.end(), rest);
    rest[0].iov_base = static_cast<std::uint8_t*>(rest[0].iov_base) + out_offset_;
    rest[0].iov_len -= out_offset_;
    message.msg_iov = rest;
  }
  return ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void EpollStream::end_send() {
  if (!sending_ || closing_) return;
  sending_ = false;
  if (shut_after_send_) ::shutdown(fd_.get(), SHUT_WR);
  reactor_.trace_completed("SEND", this, send_result_);
  handler_->on_sent(send_result_);
}

void EpollStream::shutdown_send() {
  if (closing_) return;
  if (sending_)
    shut_after_send_ = true;
  else
    ::shutdown(fd_.get(), SHUT_WR);
}

// --- the end ---

std::unique_ptr<DetachedStream> EpollStream::release() {
  PERILUNE_ASSERT(!receiving_ && !sending_ && !closing_ && !shut_after_send_);
  closing_ = true;
  if (fd_) reactor_.poller().remove(fd_.get(), token_);
  return std::make_unique<posix::DetachedSocket>(std::move(fd_), local_, peer_);
}

void EpollStream::close() {
  if (closing_) return;
  closing_ = true;
  receive_again_.unlink();
  send_ended_.unlink();
  if ((receiving_ || sending_) && fd_) ::shutdown(fd_.get(), SHUT_RDWR);  // the peer learns of it at once
  reactor_.defer(close_on_);
}

void EpollStream::on_closing() {
  if (std::exchange(receiving_, false)) {
    if (iov_block_ != nullptr) reactor_.give_back_iovecs(std::exchange(iov_block_, nullptr));
    reactor_.trace_completed("RECEIVE", this, -ECANCELED);
    handler_->on_received(-ECANCELED, {});
  }
  if (std::exchange(sending_, false)) {
    reactor_.trace_completed("SEND", this, -ECANCELED);
    handler_->on_sent(-ECANCELED);
  }
  if (fd_) {
    reactor_.poller().forget(token_);
    fd_.reset();
  }
  handler_->on_closed();
}

}  // namespace perilune::runtime::epoll
