// SPDX-License-Identifier: Apache-2.0
// Private to this folder: the supervisor behind Session.
//
//   free --start--> logging_in --login--> logged_in --connection lost--> reconnecting --login, identities--> logged_in
//   logging_in --any failure--> failed;  reconnecting --refused for good--> failed;  any --logout()--> logging_out --> free
//
// Requests are in one of these hands: engine (waiting for the window or sent), held_ (while there is no connection),
// refused_ (to be answered from the next hook). Time limits are looked at by one timer for the session, which is armed for the earliest.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "initiator/connection_driver.hpp"
#include "initiator/session.hpp"

namespace perilune::initiator {

class SessionImpl final : public ConnectionOwner {
 public:
  SessionImpl(runtime::Loop& loop, SessionConfig config, SessionObserver& observer);
  ~SessionImpl() override;

  void start();
  void submit(ScsiRequest& request);
  void abort(ScsiRequest& request);
  void manage(TaskManagement& function);
  void logout();
  void drop_connection();
  void abandon();
  void send_targets(const std::string& value, Session::TextAnswer answer);
  void watch_identity(std::uint64_t lun, std::vector<std::uint8_t> vpd83_page);

  [[nodiscard]] SessionInfo info() const;
  [[nodiscard]] SessionStatistics statistics() const;
  [[nodiscard]] const SessionConfig& config() const noexcept { return config_; }
  [[nodiscard]] runtime::Loop& loop() const noexcept { return loop_; }

 private:
  // session_login.cpp: connections come and go
  void attempt();
  [[nodiscard]] iscsi::InitiatorLoginConfig login_config() const;
  void on_login(const iscsi::InitiatorLoginResult& result) override;
  void on_attached() override;
  void on_progress() override;
  void on_down(ConnectionLoss loss) override;
  void down_while_logging_in(ConnectionLoss loss);
  void down_while_logged_in(ConnectionLoss loss);
  bool follow_redirect(ConnectionLoss& loss);  // true: `loss` is taken care of
  [[nodiscard]] bool go_to(const runtime::Endpoint& to, bool permanently);
  void redirect_resolved(const Result<std::vector<runtime::Endpoint>>& addresses);
  void login_refused(ConnectionLoss loss);
  void schedule_reconnect();
  void retry();
  void login_timed_out();
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
  void check_ping(runtime::Instant& next);
  void check_requests(runtime::Instant& next);
  void next_abort();
  void task_ended(TaskManagement& task);
  void ladder_step_ended(TaskManagement& task);
  void reset_unit(std::uint64_t lun);
  void check_tasks(runtime::Instant& next);

  static constexpr std::uint8_t max_replays = 8;
  static constexpr int max_redirects = 8;
  static constexpr std::chrono::seconds max_backoff{30};

  runtime::Loop& loop_;
  SessionConfig config_;
  SessionObserver& observer_;
  std::shared_ptr<Engine> engine_;
  std::unique_ptr<ConnectionDriver> driver_;
  SessionState state_ = SessionState::free;
  bool started_ = false, ever_logged_in_ = false, logging_out_ = false, logout_sent_ = false;
  bool draining_ = false;       // the target asked for a logout: nothing new goes to it
  bool failing_fast_ = false;   // replacement_timeout has passed
  bool verifying_ = false;
  bool units_changed_ = false;
  int redirects_ = 0;
  std::optional<ConnectionLoss> resolving_;  // a redirect whose host name is being looked up
  std::shared_ptr<SessionImpl*> self_ = std::make_shared<SessionImpl*>(this);  // answers that come too late find it gone
  runtime::Endpoint current_portal_;
  std::chrono::milliseconds backoff_{0};
  std::chrono::seconds time2wait_{2};

  IntrusiveList<ScsiRequest> held_, refused_;
  std::vector<TaskManagement*> refused_tasks_;
  std::uint64_t open_requests_ = 0;   // submitted, not done
  runtime::TurnHook refused_hook_;
  runtime::TurnHook logout_hook_;

  runtime::Timer login_timer_, retry_timer_, hold_timer_, logout_timer_, tick_timer_;
  runtime::Instant tick_deadline_{}, ping_sent_{};
  bool ping_open_ = false;

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
