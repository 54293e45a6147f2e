// SPDX-License-Identifier: Apache-2.0
// Private to this folder: the supervisor behind Session.
//
//   free --start--> logging_in --login--> logged_in --connection lost--> reconnecting --login, identities-->
//   logged_in logging_in --any failure--> failed;  reconnecting --refused for good--> failed;  any
//   --logout()--> logging_out --> free
//
// The session has links, one for each connection. The first logs in and makes the session; the others join it
// once it is ready. A link whose connection is lost takes the whole session with it (fall(): all connections
// are closed, then the session is made anew), unless recovery level 2 was agreed (session_links.cpp):
//
//   up --connection lost--> lost --Time2Wait--> removed, by logging in with its CID or by a logout on another
//   link --> up
//
// where what was under way is suspended in the engine and goes on after the removal. With no link up the
// state is reconnecting. When Time2Wait + Time2Retain have passed, or the target says no, the session falls.
//
// Requests are in one of these hands: engine (waiting for the window or sent), held_ (while there is no
// connection), refused_ (to be answered from the next hook). Time limits are looked at by one timer for the
// session, which is armed for the earliest.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "initiator/connection_driver.hpp"
#include "initiator/session.hpp"

namespace perilune::initiator {

class SessionImpl;

// One connection of the session, or the place of one.
struct Link final : ConnectionOwner {
  Link(SessionImpl& owner, runtime::Loop& loop, std::uint16_t number);
  void on_login(const iscsi::InitiatorLoginResult& result) override;
  void on_attached() override;
  void on_progress() override;
  void on_down(ConnectionLoss loss) override;
  void login_timed_out();
  void retry();
  [[nodiscard]] bool up() const noexcept { return driver != nullptr && driver->attached(); }

  SessionImpl& session;
  const std::uint16_t cid;
  std::unique_ptr<ConnectionDriver> driver;
  runtime::Timer login_timer, retry_timer;
  std::chrono::milliseconds backoff{0};
  runtime::Instant ping_sent{};
  std::optional<runtime::Instant> ask_at;  // while the engine has asked for something again
  bool leading = false;       // its login made the session
  bool refused = false;       // the target will not have it in this session
  bool retiring = false;      // finishes what it has, then logs out
  bool logout_sent = false;
  bool lost = false;          // its tasks wait at the target
  bool asking = false;        // it has logged in again and asks (by a ping) what the target has
  bool shut_out = false;      // lost, and the login with its CID failed
  std::optional<runtime::Endpoint> portal;  // where a redirect has sent it; else where the session is
  int redirects = 0;          // followed since it last logged in
  StatSn exp_stat_sn;         // when lost
  runtime::Instant lost_until{};
};

class SessionImpl final {
 public:
  SessionImpl(runtime::Loop& loop, SessionConfig config, SessionObserver& observer);
  ~SessionImpl();

  void start();
  void submit(ScsiRequest& request);
  void abort(ScsiRequest& request);
  void manage(TaskManagement& function);
  void logout();
  void drop_connection();
  void set_connections(std::uint16_t count);
  void abandon();
  void send_targets(const std::string& value, Session::TextAnswer answer);
  void watch_identity(std::uint64_t lun, std::vector<std::uint8_t> vpd83_page);

  [[nodiscard]] SessionInfo info() const;
  [[nodiscard]] SessionStatistics statistics() const;
  [[nodiscard]] const SessionConfig& config() const noexcept { return config_; }
  [[nodiscard]] runtime::Loop& loop() const noexcept { return loop_; }

 private:
  friend struct Link;

  // session_links.cpp: connections come and go
  [[nodiscard]] Link& lead() noexcept { return *links_.front(); }
  [[nodiscard]] Link* find_link(std::uint16_t cid) noexcept;
  [[nodiscard]] Link* any_up() noexcept;
  [[nodiscard]] Link* staying() noexcept;  // that is up and not about to be logged out; nullptr: none
  void kick();
  void connect(Link& link);
  void join_others();
  void on_attached(Link& link);
  void on_down(Link& link, ConnectionLoss loss);
  void joining_failed(Link& link, const ConnectionLoss& loss);
  [[nodiscard]] bool follow_redirect(Link& link, const ConnectionLoss& loss);  // true: it will try elsewhere
  void link_redirect_resolved(std::uint16_t cid, const Result<std::vector<runtime::Endpoint>>& addresses);
  [[nodiscard]] bool go_to(Link& link, const runtime::Endpoint& to);
  void try_again_later(Link& link);
  void link_failed(Link& link, ConnectionLoss loss);
  void fall(Error why);
  void fallen();
  void retry(Link& link);
  void retire(Link& link);
  void logout_retired();
  void link_logged_out(Link& link, const iscsi::InitiatorEvent& event);
  [[nodiscard]] bool recovers() const noexcept;
  void begin_recovery(Link& link);
  void wait_for_recovery();
  void remove_lost(Link& link, Link& by);
  void recovered(Link& link);
  void arm_recovery_timer();
  void recovery_timed_out();

  // session_login.cpp: the session comes and goes
  void attempt();
  [[nodiscard]] iscsi::InitiatorLoginConfig login_config() const;
  void on_login(const iscsi::InitiatorLoginResult& result);
  void session_attached();
  void on_progress();
  void session_down(ConnectionLoss loss);
  void down_while_logging_in(ConnectionLoss loss);
  void down_while_logged_in(ConnectionLoss loss);
  bool follow_redirect(ConnectionLoss& loss);  // true: `loss` is taken care of
  // A target may not send us to ourselves unless it is there itself.
  [[nodiscard]] static bool may_go_to(const runtime::Endpoint& to, const runtime::Endpoint& from) noexcept;
  [[nodiscard]] bool go_to(const runtime::Endpoint& to, bool permanently);
  void redirect_resolved(const Result<std::vector<runtime::Endpoint>>& addresses);
  void login_refused(ConnectionLoss loss);
  void schedule_reconnect();
  void hold();
  void hand_over_held();
  void hold_expired();
  void give_up(LoginFailure failure);
  void verify_next_identity();
  void identity_read(ScsiRequest& request);
  void ready();
  void set_state(SessionState state);
  void finish_logout();
  void logout_timed_out();
  void logout_when_idle();

  // session_io.cpp: requests
  void refuse(ScsiRequest& request, Errc why);
  void hand_over(ScsiRequest& request);
  void replay(ScsiRequest& request);
  void aborted(ScsiRequest& request);
  void drain();
  void finish(ScsiRequest& request);
  void reclaim_after_loss();
  [[nodiscard]] bool may_replay(const ScsiRequest& request) const noexcept;
  void call_refused();
  void fail_held(Errc why);
  void end(ScsiRequest& request, std::optional<Errc> why);
  void look_for_unit_change(const ScsiRequest& request);
  void drain_events();
  void on_async(const iscsi::InitiatorEvent& event);

  // session_timeouts.cpp: pings, command time limits, the ladder
  void arm_tick(runtime::Instant deadline);
  void tick();
  void check_ping(Link& link, runtime::Instant& next);
  void check_recovery(runtime::Instant& next);
  void watch_recovery();
  void check_requests(runtime::Instant& next);
  void next_abort();
  void task_ended(TaskManagement& task);
  void ladder_step_ended(TaskManagement& task);
  void reset_unit(std::uint64_t lun);
  void check_tasks(runtime::Instant& next);

  static constexpr std::uint8_t max_replays = 8;
  static constexpr int max_redirects = 8;
  static constexpr std::chrono::seconds max_backoff{30};
  static constexpr std::chrono::seconds ask_interval{1};
  static constexpr std::chrono::seconds rejoin_limit{3};  // of a login in a lost connection's place, where
                                                          // there is another way

  runtime::Loop& loop_;
  SessionConfig config_;
  SessionObserver& observer_;
  std::shared_ptr<Engine> engine_;
  std::vector<std::unique_ptr<Link>> links_;  // at least one
  std::uint32_t up_ = 0;                      // links that are logged in
  SessionState state_ = SessionState::free;
  bool established_ = false;    // the target has our session: links may join it
  std::optional<ConnectionLoss> falling_;  // all connections are being closed, because of this
  bool started_ = false, ever_logged_in_ = false, logging_out_ = false, logout_sent_ = false;
  Link* logout_link_ = nullptr;  // on which it was sent
  bool draining_ = false;       // the target asked for a logout: nothing new goes to it
  bool failing_fast_ = false;   // replacement_timeout has passed
  bool verifying_ = false;
  bool units_changed_ = false;
  int redirects_ = 0;
  std::optional<ConnectionLoss> resolving_;  // a redirect whose host name is being looked up
  std::shared_ptr<SessionImpl*> self_ = std::make_shared<SessionImpl*>(this);  // answers that come too late
                                                                               // find it gone
  runtime::Endpoint current_portal_;
  std::chrono::milliseconds backoff_{0};
  std::chrono::seconds time2wait_{2}, time2retain_{0};
  std::uint16_t wanted_connections_ = 1;

  IntrusiveList<ScsiRequest> held_, refused_;
  std::vector<TaskManagement*> refused_tasks_;
  std::uint64_t open_requests_ = 0;   // submitted, not done
  runtime::TurnHook refused_hook_;
  runtime::TurnHook logout_hook_;
  runtime::TurnHook fallen_hook_;

  runtime::Timer retry_timer_, hold_timer_, logout_timer_, tick_timer_, recovery_timer_;
  runtime::Instant tick_deadline_{};

  // The ladder works on one command at a time.
  enum class Rung : std::uint8_t { none, abort_task, lun_reset };
  Rung rung_ = Rung::none;
  TaskManagement abort_task_, reset_task_;
  bool abort_task_open_ = false, reset_task_open_ = false;  // in the engine's hands
  std::vector<TaskManagement*> user_tasks_;                 // likewise

  Session::TextAnswer text_answer_;

  struct Watched {
    std::vector<std::uint8_t> designators;
    bool gone = false;   // another unit stands there now
  };
  std::map<std::uint64_t, Watched> watched_;
  bool any_gone_ = false;
  std::map<std::uint64_t, Watched>::iterator verify_at_;
  ScsiRequest verify_request_;
  std::vector<std::uint8_t> verify_data_;
  iovec verify_iov_{};
  int verify_tries_ = 0;

  SessionInfo info_;
  SessionStatistics past_;   // of connections that are gone, and our own
};

// The designators of a VPD 83 page that belong to the logical unit (association 0): the same on every path.
[[nodiscard]] std::vector<std::uint8_t> unit_designators(Bytes vpd83_page);

}  // namespace perilune::initiator
