// SPDX-License-Identifier: Apache-2.0
#include "initiator/connection_driver.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/assert.hpp"
#include "base/limits.hpp"

namespace perilune::initiator {

using iscsi::InitiatorLogin;

ConnectionDriver::ConnectionDriver(runtime::Loop& loop, ConnectionOwner& owner,
                                   std::shared_ptr<Engine> engine)
    : loop_(loop),
      owner_(&owner),
      engine_(std::move(engine)),
      flush_hook_(Delegate<void()>::to<&ConnectionDriver::flush>(*this)),
      down_hook_(Delegate<void()>::to<&ConnectionDriver::go_down>(*this)),
      login_decoder_(limits::max_data_segment_before_login_bytes),
      login_tx_(engine_->pool) {}

ConnectionDriver::~ConnectionDriver() { PERILUNE_ASSERT(!started_ || down_ || abandoned_); }

void ConnectionDriver::start(const runtime::Endpoint& portal, const runtime::SocketOptions& options,
                             iscsi::InitiatorLoginConfig login) {
  started_ = true;
  portal_ = portal;
  cid_ = login.cid;
  login_.emplace(std::move(login), iscsi::RandomFill::to<&runtime::Random::fill>(loop_.random()));
  connecting_ = loop_.connect(portal, options, *this);
}

void ConnectionDriver::close(Error why) { fail(std::move(why)); }

void ConnectionDriver::fail(Error why) {
  if (closing_) return;
  closing_ = true;
  loss_.error = std::move(why);
  loss_.during_login = !connection_.has_value();
  if (connection_) connection_->retire();  // what comes until it is closed waits, or goes by others
  connecting_.reset();
  if (stream_) {
    stream_->close();
  } else {
    loop_.schedule(down_hook_);
  }
}

void ConnectionDriver::detach(std::unique_ptr<ConnectionDriver> driver) {
  if (driver->down_ || !driver->started_) return;  // destroys it
  driver->detached_ = true;
  driver->fail(Error{Errc::cancelled, "given up", 0});
  (void)driver.release();  // go_down() deletes it
}

void ConnectionDriver::go_down() {
  if (down_) return;
  down_ = true;
  if (detached_) {
    if (connection_) engine_->session.lose(*connection_);
    if (!engine_->session.is_open()) engine_->session.close();
    delete this;
    return;
  }
  owner_->on_down(std::move(loss_));
}

void ConnectionDriver::on_connected(Result<std::unique_ptr<runtime::Stream>> stream) {
  if (closing_) return;
  connecting_.reset();
  if (!stream) {
    fail(std::move(stream).error());
    return;
  }
  stream_ = std::move(*stream);
  stream_->set_handler(*this);
  last_received_ = loop_.now();
  if (login_->start() != InitiatorLogin::Step::send) {
    fail(login_->failure().error);
    return;
  }
  send_login_request();
  receive_more();
}

void ConnectionDriver::send_login_request() {
  const iscsi::LoginPdu& pdu = login_->request();
  ++octets_.login_pdus;
  login_tx_.push(pdu.bhs.data(), pdu.data());
  kick();
}

void ConnectionDriver::receive_more() {
  direct_bytes_ = 0;
  if (connection_ && connection_->missing_bytes() >= direct_threshold_bytes) {
    std::array<iovec, 64> iov;
    std::size_t count = connection_->direct(std::span(iov).first(iov.size() - 1));
    for (std::size_t i = 0; i < count; ++i) direct_bytes_ += static_cast<std::uint32_t>(iov[i].iov_len);
    if (direct_bytes_ == connection_->missing_bytes()) {
      iov[count++] = {staging_.get(), staging_bytes};
    }
    stream_->receive_into(std::span(iov).first(count), false);
    return;
  }
  stream_->receive();
}

void ConnectionDriver::on_received(int result, Bytes data) {
  if (closing_) return;
  if (result <= 0) {
    if (result == 0) {
      fail(Error{Errc::connection, "the target closed the connection", 0});
    } else {
      fail(fail_errno(-result, "receive").value());
    }
    return;
  }
  last_received_ = loop_.now();
  octets_.received += static_cast<std::uint64_t>(result);
  if (direct_bytes_ != 0) {
    const std::uint32_t placed = std::min(direct_bytes_, static_cast<std::uint32_t>(result));
    connection_->commit_direct(placed);
    data = {staging_.get(), static_cast<std::size_t>(result) - placed};
  }
  const bool good = connection_ ? take_bytes(data) : take_login_bytes(data);
  if (good && !closing_) receive_more();
}

bool ConnectionDriver::take_login_bytes(Bytes& input) {
  for (;;) {
    switch (login_decoder_.next(input)) {
      case iscsi::PduDecoder::Event::need_more:
        return true;
      case iscsi::PduDecoder::Event::header:
        login_decoder_.collect();
        break;
      case iscsi::PduDecoder::Event::error:
        fail(Error{Errc::protocol, "login response longer than the target may send", 0});
        return false;
      case iscsi::PduDecoder::Event::pdu:
        switch (login_->receive(login_decoder_.bhs(), login_decoder_.data())) {
          case InitiatorLogin::Step::send:
            send_login_request();
            break;
          case InitiatorLogin::Step::complete:
            return finish_login(input);
          case InitiatorLogin::Step::failed: {
            const iscsi::InitiatorLoginFailure& failure = login_->failure();
            loss_.login_status = failure.status;
            loss_.redirect_address = failure.redirect_address;
            fail(failure.error);
            return false;
          }
        }
        break;
    }
  }
}

bool ConnectionDriver::finish_login(Bytes rest) {
  const iscsi::InitiatorLoginResult& result = login_->result();
  owner_->on_login(result);
  if (closing_) return false;
  iscsi::InitiatorConnectionParameters parameters;
  parameters.cid = cid_;
  parameters.exp_stat_sn = result.exp_stat_sn;
  parameters.max_recv_data_segment_bytes = result.connection.max_recv_data_segment_length;
  parameters.max_send_data_segment_bytes = result.connection.max_xmit_data_segment_length;
  parameters.header_digest = result.connection.header_digest;
  parameters.data_digest = result.connection.data_digest;
  connection_.emplace(engine_->session, engine_->pool, parameters);
  staging_ = std::make_unique_for_overwrite<std::uint8_t[]>(staging_bytes);
  owner_->on_attached();
  if (closing_) return false;
  kick();
  return rest.empty() || take_bytes(rest);
}

bool ConnectionDriver::take_bytes(Bytes input) {
  const bool good = connection_->receive(input);
  if (!good) {
    fail(Error{Errc::protocol, connection_->fault_text(), 0});
  } else {
    kick();  // answers, Data-Out, commands that the window let go
  }
  owner_->on_progress();  // the owner may have closed or detached this: only closing_ is looked at from here
  return good;
}

void ConnectionDriver::ask_again() {
  if (!attached()) return;
  if (connection_->ask_again()) kick();
  else fail(Error{Errc::protocol, connection_->fault_text(), 0});
}

void ConnectionDriver::flush() {
  if (closing_ || sending_ != nullptr || !stream_) return;
  iscsi::TxQueue* queue = &login_tx_;
  if (connection_ && login_tx_.empty()) {
    connection_->fill();
    queue = &connection_->tx();
  }
  const std::size_t count = queue->gather(send_iov_);
  if (count == 0) return;
  sending_ = queue;
  stream_->send(std::span(send_iov_).first(count));
}

void ConnectionDriver::on_sent(int result) {
  iscsi::TxQueue* queue = std::exchange(sending_, nullptr);
  if (closing_) return;
  if (result < 0) {
    fail(fail_errno(-result, "send").value());
    return;
  }
  octets_.sent += static_cast<std::uint64_t>(result);
  queue->sent(static_cast<std::uint64_t>(result));
  kick();
  if (connection_) owner_->on_progress();
}

void ConnectionDriver::on_closed() { go_down(); }

}  // namespace perilune::initiator
