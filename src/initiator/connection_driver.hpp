// SPDX-License-Identifier: Apache-2.0
// One TCP connection of a session (which may have several), from connect to closed: it moves bytes between a
// runtime::Stream and the pure machines (InitiatorLogin, then InitiatorConnection). Requests gather in the
// send queue during a turn of the loop and leave in one send at its end; large Data-In payloads are received
// straight into the command's memory. One loop's thread.
#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "initiator/initiator.hpp"
#include "iscsi/login/initiator_login.hpp"
#include "iscsi/session/initiator_session.hpp"

namespace perilune::initiator {

// Why a connection ended.
struct ConnectionLoss {
  Error error;
  std::optional<iscsi::LoginStatus> login_status;  // when the target refused the login
  std::string redirect_address;                    // of a redirect
  bool during_login = false;
};

// What a session and its connection share, and what outlives the session while a connection still closes.
struct Engine {
  explicit Engine(const iscsi::InitiatorLimits& limits) : session(limits) {
    // The chunks that a full window of commands with copied data needs exist from the start, untouched until
    // used.
    const std::size_t chunks = limits.commands * std::size_t{iscsi::TxQueue::copy_limit_bytes + 64} /
                                   iscsi::TxChunkPool::chunk_bytes +
                               2;
    std::vector<std::unique_ptr<std::uint8_t[]>> warm;
    for (std::size_t i = 0; i < std::min<std::size_t>(chunks, kept_chunks); ++i) warm.push_back(pool.take());
    for (auto& chunk : warm) pool.give_back(std::move(chunk));
  }
  static constexpr std::size_t kept_chunks = 64;
  iscsi::TxChunkPool pool{kept_chunks};
  iscsi::InitiatorSession session;
};

class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;
  // Login is complete: the owner opens the engine's session; the driver then attaches its connection to it.
  virtual void on_login(const iscsi::InitiatorLoginResult& result) = 0;
  virtual void on_attached() = 0;
  // Something was received or sent: commands may have ended, events may wait.
  virtual void on_progress() = 0;
  // The connection is gone, nothing of it is in the kernel's hands. The last call; the owner may destroy the
  // driver in it, after the engine's session has lost (or closed) its connection().
  virtual void on_down(ConnectionLoss loss) = 0;
};

class ConnectionDriver final : runtime::StreamHandler, runtime::ConnectHandler {
 public:
  struct Octets {
    std::uint64_t sent = 0, received = 0, login_pdus = 0;
  };

  ConnectionDriver(runtime::Loop& loop, ConnectionOwner& owner, std::shared_ptr<Engine> engine);
  ~ConnectionDriver() override;  // precondition: on_down() was called, or never started

  void start(const runtime::Endpoint& portal, const runtime::SocketOptions& options,
             iscsi::InitiatorLoginConfig login);
  // There may be something to send: one gather send at the end of the turn.
  void kick() { loop_.schedule(flush_hook_); }
  void kick_if_output() {
    if (connection_ && connection_->has_output()) kick();
  }
  // on_down follows from a later turn, with this error unless the connection has failed by itself before.
  void close(Error why);
  // Gives up the owner: closes, and destroys itself when closed; the last of a session closes the engine's
  // session before. For a session without outstanding requests.
  static void detach(std::unique_ptr<ConnectionDriver> driver);
  // The loop is dead: precondition of destroying it without on_down().
  void abandon() noexcept { abandoned_ = true; }

  [[nodiscard]] bool attached() const noexcept { return connection_.has_value() && !closing_; }
  // From on_attached() on.
  [[nodiscard]] iscsi::InitiatorConnection* connection() noexcept {
    return connection_ ? &*connection_ : nullptr;
  }
  [[nodiscard]] const iscsi::InitiatorConnection* connection() const noexcept {
    return connection_ ? &*connection_ : nullptr;
  }
  // Above recovery level 0, when what was asked for has not come: asks again, or closes.
  void ask_again();
  [[nodiscard]] const Octets& octets() const noexcept { return octets_; }
  [[nodiscard]] runtime::Instant last_received() const noexcept { return last_received_; }
  [[nodiscard]] const runtime::Endpoint* local() const noexcept {
    return stream_ ? &stream_->local() : nullptr;
  }
  [[nodiscard]] const runtime::Endpoint& portal() const noexcept { return portal_; }

 private:
  void on_connected(Result<std::unique_ptr<runtime::Stream>> stream) override;
  void on_received(int result, Bytes data) override;
  void on_sent(int result) override;
  void on_closed() override;

  void receive_more();
  bool take_login_bytes(Bytes& input);
  bool finish_login(Bytes rest);
  void send_login_request();
  bool take_bytes(Bytes input);
  void flush();
  void go_down();
  void fail(Error why);

  static constexpr std::uint32_t direct_threshold_bytes = 16384;
  static constexpr std::size_t staging_bytes = 131072;

  runtime::Loop& loop_;
  ConnectionOwner* owner_;
  std::shared_ptr<Engine> engine_;
  runtime::Endpoint portal_;
  std::uint16_t cid_ = 0;
  runtime::TurnHook flush_hook_;
  runtime::TurnHook down_hook_;
  std::unique_ptr<runtime::Connecting> connecting_;
  std::unique_ptr<runtime::Stream> stream_;

  std::optional<iscsi::InitiatorLogin> login_;
  iscsi::PduDecoder login_decoder_;
  iscsi::TxQueue login_tx_;
  std::optional<iscsi::InitiatorConnection> connection_;

  iscsi::TxQueue* sending_ = nullptr;   // whose pieces the send in progress names
  std::uint32_t direct_bytes_ = 0;      // of the receive in progress, for the payload; staging follows
  std::unique_ptr<std::uint8_t[]> staging_;  // from the end of login
  std::array<iovec, 512> send_iov_;
  bool started_ = false, closing_ = false, down_ = false, detached_ = false, abandoned_ = false;
  ConnectionLoss loss_;
  Octets octets_;
  runtime::Instant last_received_{};
};

}  // namespace perilune::initiator
