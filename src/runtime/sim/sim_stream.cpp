// SPDX-License-Identifier: Apache-2.0
#include "runtime/sim/sim_stream.hpp"

#include <algorithm>
#include <cerrno>

#include "runtime/sim/sim_host.hpp"

namespace perilune::sim {

namespace {

std::size_t total_length(std::span<const iovec> iov) {
  std::size_t total = 0;
  for (const iovec& part : iov) total += part.iov_len;
  return total;
}

// Visits the bytes [skip, skip + count) of the vector as spans.
template <class Visit>
void for_each_piece(std::span<const iovec> iov, std::size_t skip, std::size_t count, Visit visit) {
  for (const iovec& part : iov) {
    if (count == 0) return;
    if (skip >= part.iov_len) {
      skip -= part.iov_len;
      continue;
    }
    const std::size_t n = std::min(count, part.iov_len - skip);
    visit(MutableBytes(static_cast<std::uint8_t*>(part.iov_base) + skip, n));
    skip = 0;
    count -= n;
  }
}

}  // namespace

SimStream::SimStream(SimLoop& loop, std::shared_ptr<Connection> connection, int side)
    : loop_(loop),
      connection_(std::move(connection)),
      side_(side),
      prng_(loop.world().prng().fork()),
      select_limit_(std::size_t{512} << prng_.below(9)),
      receive_ready_(Delegate<void()>::to<&SimStream::run_receive>(*this)),
      send_ready_(Delegate<void()>::to<&SimStream::run_send>(*this)),
      close_ready_(Delegate<void()>::to<&SimStream::run_close>(*this)) {
  connection_->attach(side_, this, loop);
}

SimStream::~SimStream() {
  PERILUNE_ASSERT(closed_ || released_ || loop_.dead());  // the contract: destroy only after on_closed() or
                                                          // release()
  if (!severed_ && !released_) connection_->detach(side_);
}

std::unique_ptr<runtime::DetachedStream> SimStream::release() {
  PERILUNE_ASSERT(receiving_ == Receiving::no && !send_pending_ && !closing_);
  released_ = true;
  if (!severed_) connection_->detach(side_);
  return std::make_unique<SimDetachedStream>(connection_, side_);
}

SimDetachedStream::~SimDetachedStream() {
  if (connection_ != nullptr) connection_->close(side_);
}

std::unique_ptr<SimStream> SimDetachedStream::attach_to(SimLoop& loop) {
  auto stream = std::make_unique<SimStream>(loop, std::move(connection_), side_);
  if (loop.ghost()) stream->sever();  // the machine has crashed while the connection was between its loops
  return stream;
}

void SimStream::sever() {
  severed_ = true;
  connection_->detach(side_);  // which may outlive this stream from now on
  wake_receive();
  wake_send();
}

std::size_t SimStream::readable() const { return severed_ ? 0 : connection_->readable(side_); }

void SimStream::receive() { start_receive(Receiving::selected); }

void SimStream::receive_into(std::span<const iovec> iov, bool wait_all) {
  PERILUNE_ASSERT(iov.size() <= 64);
  PERILUNE_ASSERT(total_length(iov) > 0);
  into_.assign(iov.begin(), iov.end());
  into_total_ = total_length(iov);
  filled_ = 0;
  wait_all_ = wait_all;
  start_receive(Receiving::directed);
}

void SimStream::start_receive(Receiving kind) {
  PERILUNE_ASSERT(receiving_ == Receiving::no);  // the contract: one at a time
  PERILUNE_ASSERT(!closed_);
  if (loop_.dead()) return;
  receiving_ = kind;
  wake_receive();
}

void SimStream::wake_receive() {
  if (receiving_ == Receiving::no || closing_) return;
  if (readable() == 0 && !end_result()) return;
  loop_.make_ready(receive_ready_);
}

// How a receive ends when no bytes are left, if the stream has ended.
std::optional<int> SimStream::end_result() const {
  if (severed_) return -ECONNRESET;
  if (connection_->error(side_) != 0) return connection_->error(side_);
  if (connection_->end_of_stream(side_)) return 0;
  return std::nullopt;
}

void SimStream::run_receive() {
  if (closing_) return;
  if (receiving_ == Receiving::selected)
    run_selected();
  else if (receiving_ == Receiving::directed)
    run_directed();
}

void SimStream::finish_receive(int result, Bytes data) {
  receiving_ = Receiving::no;
  into_.clear();
  loop_.world().note(Event::callback, (connection_->id() << 32) ^ static_cast<std::uint32_t>(result));
  handler_->on_received(result, data);
}

void SimStream::run_selected() {
  const std::size_t there = readable();
  if (there == 0) {
    if (const auto end = end_result()) finish_receive(*end, {});
    return;
  }
  // The size of the buffer the loop happens to choose; sometimes less comes than is there.
  std::size_t n = std::min(there, select_limit_);
  if (prng_.chance(1, 4)) n = prng_.below(n) + 1;
  std::vector<std::uint8_t> buffer(
      n);  // of this very size, and gone after the call: a sanitizer sees every misuse
  connection_->read(side_, buffer);
  finish_receive(static_cast<int>(n), buffer);
}

std::size_t SimStream::fill_directed(std::size_t limit) {
  std::size_t n = std::min({readable(), into_total_ - filled_, limit});
  for_each_piece(into_, filled_, n, [&](MutableBytes piece) { connection_->read(side_, piece); });
  filled_ += n;
  return n;
}

void SimStream::run_directed() {
  std::size_t limit = into_total_;
  if (!wait_all_ && prng_.chance(1, 4)) limit = prng_.below(limit) + 1;
  fill_directed(limit);
  const bool complete = wait_all_ ? filled_ == into_total_ : filled_ > 0;
  const auto end = readable() == 0 ? end_result() : std::nullopt;
  if (complete || (filled_ > 0 && end))
    finish_receive(static_cast<int>(filled_), {});
  else if (end)
    finish_receive(*end, {});
}

void SimStream::send(std::span<const iovec> iov) {
  PERILUNE_ASSERT(!send_pending_);  // the contract: one at a time
  PERILUNE_ASSERT(iov.size() <= 1024);
  PERILUNE_ASSERT(!closed_);
  if (loop_.dead()) return;
  send_pending_ = true;
  sending_ = iov;
  sent_.reset();
  wake_send();
}

// The memory is read at some moment between the call and its completion, as a kernel does it.
void SimStream::wake_send() {
  if (!send_pending_ || sent_ || closing_) return;
  if (severed_) {
    sent_ = -ECONNRESET;
    loop_.make_ready(send_ready_);
    return;
  }
  if (copy_scheduled_) return;
  copy_scheduled_ = true;
  const auto delay = Duration(static_cast<Duration::rep>(prng_.below(5'000)));
  loop_.world().at(delay, Event::network_send, connection_->id() * 2 + static_cast<std::uint64_t>(side_),
                   [connection = connection_, side = side_] {
                     if (SimStream* self = connection->stream(side)) self->copy_out();
                   });
}

// As much as there is room for, or less; or why nothing can be sent any more.
int SimStream::write_out(std::span<const iovec> iov) {
  if (connection_->error(side_) != 0) return connection_->error(side_);
  if (connection_->send_shut(side_)) return -EPIPE;
  std::size_t n = std::min(total_length(iov), connection_->send_space(side_));
  if (n == 0) return 0;
  if (prng_.chance(1, 8)) n = prng_.below(n) + 1;
  for_each_piece(iov, 0, n, [&](MutableBytes piece) { connection_->write(side_, piece); });
  connection_->flush(side_);
  return static_cast<int>(n);
}

void SimStream::copy_out() {
  copy_scheduled_ = false;
  if (!send_pending_ || sent_ || closing_ || loop_.dead()) return;
  const int result = write_out(sending_);
  // The buffer is full: wake_send() comes when bytes have left it.
  if (result == 0 && total_length(sending_) != 0) return;
  sent_ = result;
  loop_.make_ready(send_ready_);
}

int SimStream::send_now(std::span<const iovec> iov) {
  PERILUNE_ASSERT(!send_pending_ && !closing_ && !iov.empty() && iov.size() <= 1024);
  if (loop_.dead()) return 0;
  if (severed_) return -ECONNRESET;
  const int result = write_out(iov);
  loop_.world().note(Event::callback, (connection_->id() << 32) ^ static_cast<std::uint32_t>(result));
  return result;
}

void SimStream::run_send() {
  if (closing_ || !sent_) return;
  const int result = *sent_;
  send_pending_ = false;
  sent_.reset();
  loop_.world().note(Event::callback, (connection_->id() << 32) ^ static_cast<std::uint32_t>(result));
  handler_->on_sent(result);
}

void SimStream::shutdown_send() {
  if (!closing_ && !loop_.dead() && !severed_) connection_->shutdown_send(side_);
}

void SimStream::close() {
  if (closing_ || loop_.dead()) return;
  closing_ = true;
  scribble();
  if (!severed_) connection_->close(side_);
  loop_.make_ready(close_ready_);
}

// A receive under way may still write to its memory before it ends with -ECANCELED.
void SimStream::scribble() {
  if (receiving_ == Receiving::directed && prng_.coin()) fill_directed(into_total_);
}

void SimStream::run_close() {
  if (receiving_ != Receiving::no || send_pending_) {
    const bool receive_first = prng_.coin();
    for (int i = 0; i < 2 && !loop_.dead(); ++i) {
      if ((i == 0) == receive_first) {
        if (receiving_ != Receiving::no) finish_receive(-ECANCELED, {});
      } else if (send_pending_) {
        send_pending_ = false;
        sent_.reset();
        handler_->on_sent(-ECANCELED);
      }
    }
    loop_.make_ready(close_ready_);
    return;
  }
  if (!cancelled_) {  // on_closed comes a turn later than the last completion
    cancelled_ = true;
    loop_.make_ready(close_ready_);
    return;
  }
  closed_ = true;
  loop_.world().note(Event::callback, connection_->id() << 8);
  handler_->on_closed();  // may destroy *this
}

SimListener::SimListener(SimLoop& loop, const runtime::Endpoint& local, const runtime::SocketOptions& options,
                         runtime::AcceptHandler& handler)
    : loop_(loop),
      local_(local),
      options_(options),
      handler_(handler),
      accept_ready_(Delegate<void()>::to<&SimListener::run_accept>(*this)) {}

SimListener::~SimListener() {
  loop_.world().network().remove(*this);
  if (loop_.dead()) return;
  for (auto& connection : backlog_) connection->reset();
}

void SimListener::close_backlog() noexcept {
  backlog_.clear();
  accept_ready_.unlink();
}

bool SimListener::takes(const SimHost& host, const runtime::Endpoint& peer) const noexcept {
  if (&loop_.host() != &host || local_.port != peer.port || loop_.stopped()) return false;
  return local_.address == peer.address || local_.is_wildcard();
}

void SimListener::enqueue(std::shared_ptr<Connection> connection) {
  backlog_.push_back(std::move(connection));
  loop_.make_ready(accept_ready_);
}

void SimListener::run_accept() {
  auto connection = std::move(backlog_.front());
  backlog_.pop_front();
  if (!backlog_.empty()) loop_.make_ready(accept_ready_);
  loop_.world().note(Event::accept, connection->id());
  connection->set_options(1, options_);
  auto stream = std::make_unique<SimStream>(loop_, std::move(connection), 1);
  handler_.on_accepted(std::move(stream));  // may destroy *this
}

SimConnecting::SimConnecting(std::shared_ptr<ConnectAttempt> attempt, runtime::ConnectHandler& handler)
    : attempt_(std::move(attempt)),
      handler_(handler),
      ready_(Delegate<void()>::to<&SimConnecting::run>(*this)) {
  attempt_->owner = this;
}

SimConnecting::~SimConnecting() {
  attempt_->owner = nullptr;
  if (!outcome_ || !outcome_->has_value() || attempt_->loop->dead() || attempt_->loop->ghost()) return;
  (**outcome_)->close(0);
}

void SimConnecting::finish(Result<std::shared_ptr<Connection>> outcome) {
  outcome_ = std::move(outcome);
  attempt_->loop->make_ready(ready_);
}

void SimConnecting::run() {
  auto outcome = std::move(*outcome_);
  outcome_.reset();
  if (!outcome) {
    handler_.on_connected(tl::unexpected(outcome.error()));  // may destroy *this
    return;
  }
  SimLoop& loop = *attempt_->loop;
  if (loop.ghost()) {
    handler_.on_connected(fail(Errc::cancelled, "the simulated host has crashed"));
    return;
  }
  (*outcome)->set_options(0, attempt_->options);
  auto stream = std::make_unique<SimStream>(loop, std::move(*outcome), 0);
  handler_.on_connected(std::unique_ptr<runtime::Stream>(std::move(stream)));  // may destroy *this
}

}  // namespace perilune::sim
