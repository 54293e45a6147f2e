// SPDX-License-Identifier: Apache-2.0
// One TCP connection of the target from accept to close: drives the login machine, then the session engine's
// connection, on a runtime::Stream. One receive and one gather send are outstanding at most; answers of a
// turn leave together. One thread (the shard's). It begins on the acceptor's shard; when its session lives on
// another one, it goes there as a MovingConnection, once, before it has logged in.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/intrusive_list.hpp"
#include "iscsi/login/target_login.hpp"
#include "iscsi/login/text_exchange.hpp"
#include "iscsi/session/target_connection.hpp"
#include "runtime/loop.hpp"
#include "target/gather_pool.hpp"
#include "target/shard.hpp"

namespace perilune::target {

class Server;
class Session;

class Connection final : public runtime::StreamHandler,
                         public ListNode<Connection>,
                         public ListNode<LoggingIn> {
 public:
  // `portal`: the number of the one that it came in through.
  Connection(Server& server, Shard& shard, std::unique_ptr<runtime::Stream> stream, std::uint64_t id,
             std::uint32_t portal);
  ~Connection() override;

  void start();
  // Instead of start(): what came with it from another shard. The decision about its session follows.
  void resume(std::unique_ptr<iscsi::TargetLogin> login, std::vector<std::uint8_t> early,
              runtime::Instant login_deadline);
  // Ends it; the server destroys it from a later turn. `reason` goes to the log, once; empty: an ordinary
  // end.
  void close(std::string_view reason);
  // Tells the initiator to log out within so many seconds (RFC 7143 11.9.1, event 1). What it still sends is
  // served; the caller keeps the time.
  void ask_to_log_out(std::chrono::seconds within);
  // The same, and this connection keeps the time: it is dropped, with an announcement, when no Logout has
  // come.
  void log_out_or_be_dropped(std::chrono::seconds within);
  // Asks for a Text Request within so many seconds, up to max_negotiation_requests times (event 4). The
  // connection goes on in any case.
  void ask_to_negotiate(std::chrono::seconds within);
  // Says that the connection is dropped (event 2), and drops it.
  void drop_announced(std::string_view reason);
  // Shutting down: nothing more is read; ends once nothing is in progress and everything is sent, or when
  // told by close().
  void quiesce();
  [[nodiscard]] bool quiet() noexcept;
  void end_after_sending();
  // The session registry has decided (possibly later): goes on with the login. `session`: the one to join.
  void session_decided(const iscsi::SessionDecision& decision, Session* session);
  // The session lives on another shard: the connection goes there as soon as nothing is outstanding, and this
  // object is destroyed. `new_tsih`: of the session that it opens, or 0.
  void move_to(Shard& shard, std::uint16_t new_tsih);

  // Its login has to be over so long after it began.
  void limit_login(std::chrono::seconds limit);

  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  [[nodiscard]] std::uint32_t portal() const noexcept { return portal_; }
  [[nodiscard]] const runtime::Endpoint& local() const { return stream_->local(); }
  [[nodiscard]] const runtime::Endpoint& peer() const { return stream_->peer(); }
  [[nodiscard]] bool logged_in() const noexcept { return engine_ != nullptr; }
  [[nodiscard]] bool closing() const noexcept { return closing_; }
  [[nodiscard]] iscsi::TargetConnection* engine() noexcept { return engine_.get(); }
  [[nodiscard]] Session& session() noexcept { return *session_; }  // precondition: logged_in()
  // Its place in the session is (or will be, by itself) free.
  [[nodiscard]] bool leaving() const noexcept { return closing_ || (engine_ && engine_->draining()); }
  [[nodiscard]] const iscsi::TargetLogin& login() const { return *login_; }
  [[nodiscard]] iscsi::TargetText& text() { return *text_; }

  void schedule_flush();
  // The engine has queued something.
  void on_output();
  void ping_answered() noexcept { ever_answered_ping_ = true; }
  // Session::rules() say something else now.
  void rules_changed();

  // runtime::StreamHandler
  void on_received(int result, Bytes data) override;
  void on_sent(int result) override;
  void on_closed() override;

 private:
  // Data segments of at least so much are received straight into their memory, while so much of them is
  // missing. What is smaller comes with its neighbours in one call, and its copy from a warm buffer costs
  // less than a call.
  static constexpr std::uint32_t direct_segment_bytes = 128 * 1024;
  static constexpr std::uint32_t direct_threshold_bytes = 16 * 1024;
  static constexpr std::size_t staging_bytes = 8192;  // behind and between direct payloads: the headers
  // A connection that has the shard for itself sends so much before its turn is over: its initiator works on
  // the first answers while the others are made. Where several connections are busy, that overlap is there
  // already, and a send more is only a cost. Answers that reach it in one step are large, and their own
  // copying into the socket is that overlap.
  static constexpr std::uint64_t early_send_bytes = 48 * 1024;
  static constexpr std::uint64_t early_send_range_bytes = 16 * 1024;
  // And so many answers to writes, where it sleeps between its turns: so does the initiator then, and each
  // waits for the other in turn.
  static constexpr std::uint64_t early_status_bytes = 8 * iscsi::bhs_bytes;
  static constexpr std::uint64_t max_own_tx_bytes = 8 * 1024 * 1024;
  static constexpr int max_negotiation_requests = 3;

  void receive_more();
  [[nodiscard]] bool receives_directly() const noexcept;
  void feed(Bytes data);
  void feed_login(Bytes data);
  void login_step(iscsi::TargetLogin::Step step);
  void enter_full_feature();
  void flush();
  [[nodiscard]] bool send_now(iscsi::TxQueue& queue);
  void go_on_when_empty();
  void on_timer();
  void keep_watch();
  void on_asked_for_too_long();
  void arm_timer(std::chrono::nanoseconds delay);
  [[nodiscard]] std::chrono::seconds ping_interval() const;
  [[nodiscard]] std::chrono::seconds ping_timeout() const;
  void depart();
  [[nodiscard]] iscsi::TxQueue& sending_queue() noexcept {
    return login_tx_.empty() && engine_ ? engine_->tx() : login_tx_;
  }

  Server& server_;
  Shard& shard_;
  std::unique_ptr<runtime::Stream> stream_;
  std::uint64_t id_;
  std::uint32_t portal_;
  runtime::TurnHook flush_hook_;
  runtime::Timer timer_;
  runtime::Timer asked_timer_;        // of what the initiator was asked for
  std::chrono::seconds asked_within_{0};
  int negotiation_requests_ = 0;

  // Login.
  std::unique_ptr<iscsi::TargetLogin> login_;
  iscsi::PduDecoder login_decoder_;
  iscsi::TxQueue login_tx_;
  std::vector<std::uint8_t> early_;   // bytes that came while a decision is open
  Session* session_ = nullptr;
  runtime::Instant login_deadline_;
  runtime::Instant login_began_;
  Shard* destination_ = nullptr;      // of the move that is due
  std::uint16_t new_tsih_ = 0;        // promised to this connection and not opened yet
  bool waits_for_decision_ = false;
  bool close_after_login_tx_ = false;

  // Full-feature phase.
  std::unique_ptr<iscsi::TargetConnection> engine_;
  std::optional<iscsi::TargetText> text_;

  std::vector<std::uint8_t> staging_;
  std::uint32_t direct_bytes_ = 0;  // of the receive in progress: payload before the staging
  bool into_memory_ = false;  // the receive in progress goes to payload memory and staging, not to a chosen
                              // buffer
  bool bulk_ = false;         // the last payload was received directly: the next is likely to be
  std::unique_ptr<GatherPool::List> gather_;  // of the send in progress
  iscsi::TxQueue* in_flight_ = nullptr;
  bool receiving_ = false;
  bool feeding_ = false;
  bool alone_ = false;                // what the shard received before was this connection's too
  bool closing_ = false;
  bool stream_closed_ = false;
  bool quiescing_ = false;
  bool end_after_sending_ = false;
  bool ever_answered_ping_ = false;
  std::uint64_t bytes_seen_ = 0;       // since the last tick of the timer
  std::string close_reason_;
};

}  // namespace perilune::target
