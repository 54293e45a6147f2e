// SPDX-License-Identifier: Apache-2.0
// The supervisor in virtual time, against a target that a test scripts.
#include "initiator/session.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <optional>

#include "initiator/fake_target.hpp"
#include "runtime/sim/network.hpp"
#include "runtime/sim/sim_host.hpp"

namespace perilune::initiator {
namespace {

using namespace std::chrono_literals;
using iscsi::Opcode;

sim::WorldOptions calm() {
  sim::WorldOptions options;
  options.buggify = false;
  options.network.latency_min = options.network.latency_max = 50us;
  options.loop.stall_per_million_turns = 0;
  return options;
}

struct Request : ScsiRequest {
  std::vector<std::uint8_t> memory;
  iovec iov{};
  bool over = false;
  explicit Request(bool safe = true, std::size_t bytes = 512) : memory(bytes) {
    direction = Direction::in;
    cdb = {0x28};
    iov = {memory.data(), memory.size()};
    data = {&iov, 1};
    replay_safe = safe;
    done = Delegate<void(ScsiRequest&)>::raw(
        this, [](void* context, ScsiRequest&) { static_cast<Request*>(context)->over = true; });
  }
};

class SessionTest : public testing::Test, public SessionObserver {
 protected:
  SessionTest()
      : world_(1, calm()),
        target_host_(world_.add_host("target", {"10.0.0.1", "10.0.0.3"})),
        client_host_(world_.add_host("client", {"10.0.0.2"})),
        target_(target_host_.add_loop(), endpoint("10.0.0.1:3260")),
        loop_(client_host_.add_loop()) {
    config_.initiator_name = "iqn.2026-11.io.perilune:test";
    config_.target_name = "iqn.2026-11.io.perilune:fake";
    config_.portal = endpoint("10.0.0.1:3260");
  }
  void TearDown() override { end_session(); }
  // As before the first log_in().
  void end_session() {
    target_.handler = nullptr;  // it may refer to what the body of the test had
    if (session_ && !logged_out_ && !failed_) {
      session_->logout();
      EXPECT_TRUE(wait([&] { return logged_out_; }, 600s));
    }
    session_.reset();
    world_.run_for(1s);
    logged_in_ = logged_out_ = false;
  }

  static runtime::Endpoint endpoint(const char* text) { return *runtime::Endpoint::parse(text, 3260); }
  bool wait(const std::function<bool()>& condition, runtime::Duration limit = 60s) {
    return world_.run_until(condition, limit);
  }
  void start() {
    session_.emplace(loop_, config_.clone(), *this);
    session_->start();
  }
  void log_in() {
    start();
    ASSERT_TRUE(wait([&] { return logged_in_; }));
  }

  void on_logged_in() override { logged_in_ = true; }
  void on_state(SessionState, SessionState to) override { states_.push_back(to); }
  void on_failed(const LoginFailure& failure) override { failed_ = failure; }
  void on_logged_out() override { logged_out_ = true; }
  void on_units_changed() override { ++units_changed_; }

  sim::World world_;
  sim::SimHost& target_host_;
  sim::SimHost& client_host_;
  FakeTarget target_;
  sim::SimLoop& loop_;
  SessionConfig config_;
  std::optional<Session> session_;
  bool logged_in_ = false, logged_out_ = false;
  std::optional<LoginFailure> failed_;
  std::vector<SessionState> states_;
  int units_changed_ = 0;
};

TEST_F(SessionTest, LogsInRunsACommandAndLogsOut) {
  log_in();
  Request read;
  session_->submit(read);
  EXPECT_FALSE(read.over);
  ASSERT_TRUE(wait([&] { return read.over; }));
  EXPECT_FALSE(read.error_code);
  EXPECT_EQ(read.transferred_bytes, 512u);
  EXPECT_EQ(read.memory[511], 0xa5);
  session_->logout();
  ASSERT_TRUE(wait([&] { return logged_out_; }));
  EXPECT_EQ(target_.logouts, 1u);
  EXPECT_EQ(session_->info().state, SessionState::free);
  Request late;
  session_->submit(late);
  EXPECT_FALSE(late.over);
  ASSERT_TRUE(wait([&] { return late.over; }));
  EXPECT_EQ(late.error_code, Errc::connection);
}

TEST_F(SessionTest, RefusedConnectionFailsTheFirstLogin) {
  config_.portal = endpoint("10.0.0.1:9999");
  start();
  ASSERT_TRUE(wait([&] { return failed_.has_value(); }));
  EXPECT_EQ(failed_->error.code, Errc::connection);
}

TEST_F(SessionTest, ATargetThatDoesNotAnswerTheLoginRunsIntoTheTimeLimit) {
  target_.handler = [](auto&, auto*, Bytes) { return true; };
  start();
  ASSERT_TRUE(wait([&] { return failed_.has_value(); }, 20s));
  EXPECT_EQ(failed_->error.code, Errc::timed_out);
}

TEST_F(SessionTest, ALostConnectionIsReplacedAndSafeCommandsAreSentAgain) {
  log_in();
  target_.handler = [](FakeTarget::Connection& connection, const std::uint8_t* bhs, Bytes) {
    if (iscsi::opcode(bhs) != Opcode::scsi_command) return false;
    connection.close();
    return true;
  };
  Request safe(true), unsafe(false);
  session_->submit(safe);
  session_->submit(unsafe);
  ASSERT_TRUE(wait([&] { return unsafe.over; }));
  EXPECT_EQ(unsafe.error_code, Errc::connection);
  EXPECT_EQ(session_->info().state, SessionState::reconnecting);
  Request later(false);
  session_->submit(later);  // waits for the new connection
  target_.handler = {};
  ASSERT_TRUE(wait([&] { return safe.over && later.over; }));
  EXPECT_FALSE(safe.error_code);
  EXPECT_FALSE(later.error_code);
  EXPECT_EQ(session_->info().reconnects, 1u);
  EXPECT_EQ(session_->statistics().replayed_commands, 1u);
  // The same ISID, and TSIH 0: the old session's place is taken (RFC 7143 6.3.5).
  ASSERT_GE(target_.logins.size(), 2u);
  const auto& first = target_.logins.front();
  const auto& last = target_.logins.back();
  EXPECT_TRUE(std::equal(first.begin() + 8, first.begin() + 16, last.begin() + 8));
}

TEST_F(SessionTest, HeldCommandsFailAfterTheReplacementTimeoutAndLaterOnesAtOnce) {
  config_.replacement_timeout = 10s;
  log_in();
  target_.handler = [](FakeTarget::Connection& connection, const std::uint8_t*, Bytes) {
    connection.close();
    return true;
  };
  session_->drop_connection();
  ASSERT_TRUE(wait([&] { return session_->info().state == SessionState::reconnecting; }));
  Request held;
  session_->submit(held);
  EXPECT_FALSE(wait([&] { return held.over; }, 9s));
  ASSERT_TRUE(wait([&] { return held.over; }, 2s));
  EXPECT_EQ(held.error_code, Errc::connection);
  Request next;
  session_->submit(next);
  ASSERT_TRUE(wait([&] { return next.over; }, 1s));
  EXPECT_EQ(next.error_code, Errc::connection);
  // It goes on trying, and works again when the target does.
  target_.handler = {};
  ASSERT_TRUE(wait([&] { return session_->info().state == SessionState::logged_in; }, 120s));
  Request after;
  session_->submit(after);
  ASSERT_TRUE(wait([&] { return after.over; }));
  EXPECT_FALSE(after.error_code);
}

TEST_F(SessionTest, ReconnectsBackOff) {
  config_.replacement_timeout = -1s;
  log_in();
  target_.handler = [](FakeTarget::Connection& connection, const std::uint8_t*, Bytes) {
    connection.close();
    return true;
  };
  session_->drop_connection();
  world_.run_for(300s);
  // 2 s, 2 s … doubled up to 30 s (and an eighth): 300 s hold 12 to 16 attempts.
  EXPECT_GE(target_.connections.size(), 10u);
  EXPECT_LE(target_.connections.size(), 18u);
}

TEST_F(SessionTest, AnIdleConnectionIsPingedAndASilentOneReplaced) {
  log_in();
  world_.run_for(21s);
  EXPECT_EQ(target_.pings, 4u);
  EXPECT_EQ(target_.connections.size(), 1u);
  target_.handler = [&](FakeTarget::Connection& connection, const std::uint8_t*, Bytes) {
    return &connection == target_.connections.front().get();  // swallows everything
  };
  ASSERT_TRUE(wait([&] { return session_->info().reconnects == 1; }, 20s));
  EXPECT_GE(session_->statistics().timeout_err, 1u);
}

TEST_F(SessionTest, ACommandThatIsNotAnsweredIsAborted) {
  config_.command_timeout = 3s;
  config_.noop_interval = 0s;
  log_in();
  target_.handler = [](FakeTarget::Connection&, const std::uint8_t* bhs, Bytes) {
    return iscsi::opcode(bhs) == Opcode::scsi_command;
  };
  Request stuck;
  session_->submit(stuck);
  ASSERT_TRUE(wait([&] { return stuck.over; }, 5s));
  EXPECT_EQ(stuck.error_code, Errc::timed_out);
  EXPECT_EQ(target_.tasks, 1u);
  EXPECT_EQ(target_.connections.size(), 1u);
}

TEST_F(SessionTest, AnAbortThatIsNotAnsweredClimbsToLunResetAndThenToANewConnection) {
  config_.command_timeout = 3s;
  config_.abort_timeout = 2s;
  config_.lu_reset_timeout = 2s;
  config_.noop_interval = 0s;
  log_in();
  std::vector<std::uint8_t> functions;
  target_.handler = [&](FakeTarget::Connection& connection, const std::uint8_t* bhs, Bytes) {
    if (&connection != target_.connections.front().get()) return false;
    if (iscsi::opcode(bhs) == Opcode::task_management_request) functions.push_back(bhs[1] & 0x7f);
    return true;
  };
  Request stuck, patient;
  patient.timeout = 60s;
  session_->submit(stuck);
  session_->submit(patient);
  ASSERT_TRUE(wait([&] { return stuck.over && patient.over; }, 20s));
  EXPECT_EQ(functions, (std::vector<std::uint8_t>{1, 5}));
  EXPECT_EQ(stuck.error_code, Errc::timed_out);
  EXPECT_FALSE(patient.error_code);
  EXPECT_EQ(session_->info().reconnects, 1u);
}

TEST_F(SessionTest, AUserCanAbortACommandInEveryPlaceItMayBe) {
  log_in();
  target_.handler = [](FakeTarget::Connection&, const std::uint8_t* bhs, Bytes) {
    return iscsi::opcode(bhs) == Opcode::scsi_command;
  };
  Request sent;
  session_->submit(sent);
  ASSERT_TRUE(wait([&] { return target_.commands == 1; }));
  session_->abort(sent);
  ASSERT_TRUE(wait([&] { return sent.over; }));
  EXPECT_EQ(sent.error_code, Errc::cancelled);
  EXPECT_EQ(target_.tasks, 1u);

  session_->drop_connection();
  ASSERT_TRUE(wait([&] { return session_->info().state == SessionState::reconnecting; }));
  Request held;
  session_->submit(held);
  session_->abort(held);
  ASSERT_TRUE(wait([&] { return held.over; }, 1s));
  EXPECT_EQ(held.error_code, Errc::cancelled);
  target_.handler = {};
}

TEST_F(SessionTest, ALunResetByTheUserReplaysSafeCommands) {
  log_in();
  int seen = 0;
  target_.handler = [&](FakeTarget::Connection&, const std::uint8_t* bhs, Bytes) {
    return iscsi::opcode(bhs) == Opcode::scsi_command && ++seen <= 2;
  };
  Request safe(true), unsafe(false);
  session_->submit(safe);
  session_->submit(unsafe);
  ASSERT_TRUE(wait([&] { return seen == 2; }));
  TaskManagement reset;
  session_->manage(reset);
  ASSERT_TRUE(wait([&] { return safe.over && unsafe.over; }));
  EXPECT_FALSE(safe.error_code);
  EXPECT_EQ(unsafe.error_code, Errc::cancelled);
  EXPECT_EQ(reset.outcome, iscsi::InitiatorOutcome::status);
}

// RFC 7143 11.9.1
std::vector<std::uint8_t> async_message(std::uint8_t event, std::uint8_t parameter2,
                                        std::uint8_t parameter3) {
  std::vector<std::uint8_t> async(48);
  async[0] = 0x32;
  async[1] = 0x80;
  store_be32(&async[16], 0xffffffff);
  async[36] = event;
  async[41] = parameter2;
  async[43] = parameter3;
  return async;
}

TEST_F(SessionTest, FollowsATargetsRequestToLogOutOrToNegotiate) {
  log_in();
  std::uint64_t times = 0;
  for (const std::uint8_t event : {std::uint8_t{1}, std::uint8_t{4}}) {
    target_.connections.back()->send(async_message(event, 0, 10));
    ++times;
    ASSERT_TRUE(wait([&] { return session_->info().reconnects == times; }, 10s));
    EXPECT_EQ(target_.logouts, times);
    EXPECT_EQ(target_.connections.size(), times + 1);
  }
}

TEST_F(SessionTest, ReconnectsAfterTheTimeThatAnAnnouncedDropNames) {
  log_in();
  std::uint64_t times = 0;
  for (const std::uint8_t event : {std::uint8_t{2}, std::uint8_t{3}}) {
    target_.connections.back()->send(async_message(event, 20, 0));
    ++times;
    EXPECT_FALSE(wait([&] { return session_->info().reconnects == times; }, 19s));
    EXPECT_TRUE(wait([&] { return session_->info().reconnects == times; }, 3s));
  }
}

// --- redirects
// -----------------------------------------------------------------------------------------------------

std::vector<std::uint8_t> redirect(const std::uint8_t* login) {
  std::vector<std::uint8_t> answer(48);
  answer[0] = 0x23;
  answer[1] = static_cast<std::uint8_t>(login[1] & 0x0c);
  std::memcpy(&answer[8], login + 8, 6);
  std::memcpy(&answer[16], login + 16, 4);
  answer[36] = 1;
  answer[37] = 1;
  return answer;
}
std::vector<std::uint8_t> address(const std::string& to) {
  std::string text = "TargetAddress=" + to;
  text += '\0';
  return {text.begin(), text.end()};
}

TEST_F(SessionTest, FollowsARedirect) {
  FakeTarget other(target_host_.add_loop(), endpoint("10.0.0.3:3261"));
  target_.handler = [](FakeTarget::Connection& connection, const std::uint8_t* bhs, Bytes) {
    connection.send(redirect(bhs), address("10.0.0.3:3261,1"));
    return true;
  };
  log_in();
  EXPECT_EQ(session_->info().current_portal, endpoint("10.0.0.3:3261"));
  session_->logout();
  ASSERT_TRUE(wait([&] { return logged_out_; }));
  world_.run_for(1s);  // the other target sees the end, too
}

TEST_F(SessionTest, ARedirectLoopEnds) {
  target_.handler = [](FakeTarget::Connection& connection, const std::uint8_t* bhs, Bytes) {
    connection.send(redirect(bhs), address("10.0.0.1:3260"));
    return true;
  };
  start();
  ASSERT_TRUE(wait([&] { return failed_.has_value(); }));
  EXPECT_EQ(failed_->status_class, 1);
  EXPECT_EQ(target_.logins.size(), 9u);
}

TEST_F(SessionTest, ARedirectToOurselvesOrToNowhereIsNotFollowed) {
  for (const char* to : {"127.0.0.1:3260", "[::1]:3260", "0.0.0.0:3260", "not-a-number:3260"}) {
    failed_.reset();
    target_.handler = [&](FakeTarget::Connection& connection, const std::uint8_t* bhs, Bytes) {
      connection.send(redirect(bhs), address(to));
      return true;
    };
    start();
    ASSERT_TRUE(wait([&] { return failed_.has_value(); })) << to;
    EXPECT_EQ(failed_->status_class, 1) << to;
    session_.reset();
  }
}

TEST_F(SessionTest, ARedirectToANameIsFollowedWhenItResolves) {
  FakeTarget other(target_host_.add_loop(), endpoint("10.0.0.3:3261"));
  target_.handler = [](FakeTarget::Connection& connection, const std::uint8_t* bhs, Bytes) {
    connection.send(redirect(bhs), address("san.example.org:3261"));
    return true;
  };
  for (const bool known : {false, true}) {
    failed_.reset();
    std::string asked;
    config_.resolve = [&](const std::string& host, std::uint16_t port, auto done) {
      asked = host + " " + std::to_string(port);
      loop_.post([done, known] {
        if (!known) return done(fail(Errc::not_found, "no such host"));
        done(std::vector<runtime::Endpoint>{endpoint("127.0.0.1:3261"), endpoint("10.0.0.3:3261")});
      });
    };
    if (known) {
      log_in();
      EXPECT_EQ(session_->info().current_portal, endpoint("10.0.0.3:3261")) << "not to ourselves";
      session_->logout();
      ASSERT_TRUE(wait([&] { return logged_out_; }));
      world_.run_for(1s);
    } else {
      start();
      ASSERT_TRUE(wait([&] { return failed_.has_value(); }));
      EXPECT_EQ(failed_->status_class, 1);
    }
    EXPECT_EQ(asked, "san.example.org 3261");
    session_.reset();
  }
}

// --- identity
// ------------------------------------------------------------------------------------------------------

std::vector<std::uint8_t> page83(std::uint8_t last, std::uint8_t port = 1) {
  return {0, 0x83, 0, 20,
          0x01, 0x03, 0, 8, 0x30, 0, 0, 0, 0, 0, 0, last,       // NAA of the unit
          0x51, 0x94, 0, 4, 0, 0, 0, port};                      // relative target port
}

TEST_F(SessionTest, TheSameUnitThroughAnotherPortIsTheSame) {
  target_.vpd83 = page83(7);
  log_in();
  session_->watch_identity(0, page83(7));
  target_.vpd83 = page83(7, 2);
  session_->drop_connection();
  Request read;
  ASSERT_TRUE(wait([&] { return session_->info().state == SessionState::reconnecting; }));
  session_->submit(read);
  ASSERT_TRUE(wait([&] { return read.over; }));
  EXPECT_FALSE(read.error_code);
}

TEST_F(SessionTest, NothingIsReplayedToAnotherUnitThatTookTheOldOnesPlace) {
  target_.vpd83 = page83(7);
  log_in();
  session_->watch_identity(0, page83(7));
  target_.vpd83 = page83(8);
  target_.handler = [&](FakeTarget::Connection& connection, const std::uint8_t* bhs, Bytes) {
    if (&connection != target_.connections.front().get() || iscsi::opcode(bhs) != Opcode::scsi_command)
      return false;
    connection.close();
    return true;
  };
  Request read;
  session_->submit(read);
  ASSERT_TRUE(wait([&] { return read.over; }));
  EXPECT_EQ(read.error_code, Errc::not_found);
  EXPECT_EQ(session_->info().reconnects, 1u);
  Request elsewhere;
  elsewhere.lun = 0x0001000000000000;
  session_->submit(elsewhere);
  ASSERT_TRUE(wait([&] { return elsewhere.over; }));
  EXPECT_FALSE(elsewhere.error_code);
}

TEST_F(SessionTest, TheIdentityCheckPassesOverUnitAttentions) {
  target_.vpd83 = page83(7);
  log_in();
  session_->watch_identity(0, page83(7));
  int attentions = 3;
  target_.handler = [&](FakeTarget::Connection& connection, const std::uint8_t* bhs, Bytes) {
    if (iscsi::opcode(bhs) != Opcode::scsi_command || attentions == 0) return false;
    --attentions;
    connection.check_condition(bhs, 6, 0x29, 0);
    return true;
  };
  session_->drop_connection();
  ASSERT_TRUE(wait(
      [&] { return session_->info().reconnects == 1 && session_->info().state == SessionState::logged_in; }));
  Request read;
  session_->submit(read);
  ASSERT_TRUE(wait([&] { return read.over; }));
  EXPECT_FALSE(read.error_code);
}

TEST_F(SessionTest, TellsWhenTheListOfUnitsHasChanged) {
  log_in();
  target_.handler = [&](FakeTarget::Connection& connection, const std::uint8_t* bhs, Bytes) {
    if (iscsi::opcode(bhs) != Opcode::scsi_command) return false;
    connection.check_condition(bhs, 6, 0x3f, 0x0e);
    return true;
  };
  Request read;
  session_->submit(read);
  ASSERT_TRUE(wait([&] { return read.over; }));
  EXPECT_EQ(units_changed_, 1);
}

TEST_F(SessionTest, LogoutThatIsNotAnsweredEndsAnyway) {
  log_in();
  target_.handler = [](FakeTarget::Connection&, const std::uint8_t* bhs, Bytes) {
    return iscsi::opcode(bhs) == Opcode::logout_request;
  };
  session_->logout();
  ASSERT_TRUE(wait([&] { return logged_out_; }, 20s));
}

TEST_F(SessionTest, LogoutGivesUpAReconnect) {
  log_in();
  session_->drop_connection();
  ASSERT_TRUE(wait([&] { return session_->info().state == SessionState::reconnecting; }));
  Request held;
  session_->submit(held);
  session_->logout();
  ASSERT_TRUE(wait([&] { return logged_out_; }, 1s));
  EXPECT_TRUE(held.over);
  EXPECT_EQ(held.error_code, Errc::connection);
}

TEST_F(SessionTest, AbandonLetsGoOfEverythingAfterACrash) {
  log_in();
  target_.handler = [](FakeTarget::Connection&, const std::uint8_t* bhs, Bytes) {
    return iscsi::opcode(bhs) == Opcode::scsi_command;
  };
  Request sent, held;
  session_->submit(sent);
  ASSERT_TRUE(wait([&] { return target_.commands == 1; }));
  client_host_.crash(sim::Crash::process);
  session_->abandon();
  session_.reset();
  EXPECT_FALSE(sent.over);
}

TEST(StableIsid, IsOfTheRandomFormatAndDependsOnEveryName) {
  const auto a = stable_isid("iqn.a", "default", "iqn.t");
  EXPECT_EQ(a[0], 0x80);
  EXPECT_EQ(a, stable_isid("iqn.a", "default", "iqn.t"));
  EXPECT_NE(a, stable_isid("iqn.b", "default", "iqn.t"));
  EXPECT_NE(a, stable_isid("iqn.a", "eth0", "iqn.t"));
  EXPECT_NE(a, stable_isid("iqn.a", "default", "iqn.u"));
  EXPECT_NE(stable_isid("ab", "c", ""), stable_isid("a", "bc", ""));
}

// --- several connections and recovery level 2
// -----------------------------------------------------------------------

std::vector<std::uint8_t> refusal(const std::uint8_t* login, std::uint16_t status) {
  std::vector<std::uint8_t> answer(48);
  answer[0] = 0x23;
  std::memcpy(&answer[8], login + 8, 8);
  std::memcpy(&answer[16], login + 16, 4);
  store_be16(&answer[36], status);
  return answer;
}
std::uint16_t tsih_of(const std::vector<std::uint8_t>& login) { return load_be16(&login[14]); }

TEST_F(SessionTest, MakesAsManyConnectionsAsAreAgreedAndLogsOutThoseThatAreTooMany) {
  config_.max_connections = 4;
  target_.max_connections = 3;
  log_in();
  ASSERT_TRUE(wait([&] { return session_->info().connections.size() == 3; }));
  EXPECT_EQ(load_be16(&target_.logins.back()[20]), 2) << "CID";
  EXPECT_EQ(tsih_of(target_.logins.back()), 1);
  std::vector<std::uint8_t> logout;
  target_.handler = [&](FakeTarget::Connection&, const std::uint8_t* bhs, Bytes) {
    if (iscsi::opcode(bhs) == Opcode::logout_request && logout.empty()) logout.assign(bhs, bhs + 48);
    return false;
  };
  session_->set_connections(2);
  ASSERT_TRUE(wait([&] { return session_->info().connections.size() == 2; }));
  EXPECT_EQ(logout[1], 0x81) << "this connection only";
  EXPECT_EQ(load_be16(&logout[20]), 2);
  Request read;
  session_->submit(read);
  ASSERT_TRUE(wait([&] { return read.over; }));
  EXPECT_FALSE(read.error_code);
  session_->set_connections(3);
  ASSERT_TRUE(wait([&] { return session_->info().connections.size() == 3; }));
  EXPECT_EQ(session_->statistics().reconnects, 0u);
}

TEST_F(SessionTest, CarriesOnWithoutTheConnectionsThatTheTargetRefuses) {
  config_.max_connections = 2;
  target_.max_connections = 2;
  int refused = 0;
  target_.handler = [&](FakeTarget::Connection& connection, const std::uint8_t* bhs, Bytes) {
    if (iscsi::opcode(bhs) != Opcode::login_request || load_be16(bhs + 14) == 0) return false;
    ++refused;
    connection.send(refusal(bhs, 0x0206));
    return true;
  };
  log_in();
  world_.run_for(60s);
  EXPECT_EQ(refused, 1);
  Request read;
  session_->submit(read);
  ASSERT_TRUE(wait([&] { return read.over; }));
  EXPECT_FALSE(read.error_code);
}

TEST_F(SessionTest, BelowLevel2ALostConnectionTakesTheOthersAlongAndTheSessionIsMadeAnew) {
  config_.max_connections = 2;
  config_.error_recovery_level = 1;
  target_.max_connections = 2;
  target_.recovery_level = 1;
  log_in();
  ASSERT_TRUE(wait([&] { return session_->info().connections.size() == 2; }));
  const std::size_t before = target_.logins.size();
  session_->drop_connection();
  ASSERT_TRUE(
      wait([&] { return session_->info().reconnects == 1 && session_->info().connections.size() == 2; }));
  EXPECT_EQ(tsih_of(target_.logins[before]), 0);
}

TEST_F(SessionTest, AtLevel2TasksAreReassignedToTheConnectionThatTakesThePlaceOfTheLostOne) {
  config_.error_recovery_level = target_.recovery_level = 2;
  config_.default_time2retain = 20;
  target_.time2retain = 20;
  log_in();
  std::vector<std::uint8_t> command, reassign;
  target_.handler = [&](FakeTarget::Connection& connection, const std::uint8_t* bhs, Bytes) {
    if (iscsi::opcode(bhs) == Opcode::scsi_command) {
      command.assign(bhs, bhs + 48);
      return true;
    }
    if (iscsi::opcode(bhs) != Opcode::task_management_request) return false;
    reassign.assign(bhs, bhs + 48);
    std::vector<std::uint8_t> answer(48);
    answer[0] = 0x22;
    answer[1] = 0x80;
    std::memcpy(&answer[16], bhs + 16, 4);
    connection.send(answer);
    connection.data_in(command.data(), std::vector<std::uint8_t>(512, 0x77));
    return true;
  };
  Request write(false);
  session_->submit(write);
  ASSERT_TRUE(wait([&] { return !command.empty(); }));
  const std::size_t before = target_.logins.size();
  session_->drop_connection();
  ASSERT_TRUE(wait([&] { return write.over; }));
  EXPECT_FALSE(write.error_code) << "though it may not be sent again";
  EXPECT_EQ(tsih_of(target_.logins[before]), 1) << "the same session";
  EXPECT_EQ(reassign[1], 0x88);
  EXPECT_EQ(load_be32(&reassign[20]), load_be32(&command[16]));
  EXPECT_EQ(session_->info().recovered_connections, 1u);
  EXPECT_EQ(session_->info().reconnects, 0u);
}

TEST_F(SessionTest, AtLevel2TheSessionIsMadeAnewWhenTheTargetDoesNotReassign) {
  config_.error_recovery_level = target_.recovery_level = 2;
  config_.default_time2retain = 20;
  target_.time2retain = 20;
  log_in();
  int swallowed = 0;
  target_.handler = [&](FakeTarget::Connection& connection, const std::uint8_t* bhs, Bytes) {
    if (iscsi::opcode(bhs) == Opcode::scsi_command && swallowed == 0) return ++swallowed == 1;
    if (iscsi::opcode(bhs) != Opcode::task_management_request) return false;
    std::vector<std::uint8_t> answer(48);
    answer[0] = 0x22;
    answer[1] = 0x80;
    answer[2] = 4;  // reassignment not supported
    std::memcpy(&answer[16], bhs + 16, 4);
    connection.send(answer);
    return true;
  };
  Request read(true), write(false);
  session_->submit(read);
  ASSERT_TRUE(wait([&] { return swallowed == 1; }));
  session_->drop_connection();
  ASSERT_TRUE(wait([&] { return read.over; }));
  EXPECT_FALSE(read.error_code) << "sent again in the new session";
  EXPECT_EQ(tsih_of(target_.logins.back()), 0);
  EXPECT_EQ(session_->info().reconnects, 1u);
}

TEST_F(SessionTest, AtLevel2TheSessionIsMadeAnewWhenItsTimeIsOver) {
  config_.error_recovery_level = target_.recovery_level = 2;
  config_.default_time2retain = 20;
  target_.time2retain = 20;
  log_in();
  target_.handler = [&](FakeTarget::Connection&, const std::uint8_t* bhs, Bytes) {
    // no answer to those that would go on
    return iscsi::opcode(bhs) == Opcode::login_request && load_be16(bhs + 14) != 0;
  };
  session_->drop_connection();
  Request read(false);
  session_->submit(read);  // waits
  EXPECT_TRUE(wait([&] { return read.over; }, 120s));
  EXPECT_FALSE(read.error_code);
  EXPECT_EQ(session_->info().reconnects, 1u);
  EXPECT_EQ(session_->info().recovered_connections, 0u);
}

class SeveralConnections : public SessionTest {
 protected:
  // With so many connections at level 2, of whose commands none is answered.
  void log_in_with(std::uint16_t connections) {
    config_.max_connections = connections;
    target_.max_connections = connections;
    config_.error_recovery_level = target_.recovery_level = 2;
    config_.default_time2wait = 0;
    config_.default_time2retain = 20;
    target_.time2retain = 20;
    log_in();
    ASSERT_TRUE(wait([&] { return session_->info().connections.size() == connections; }));
  }
  static std::vector<std::uint8_t> task_answer(const std::uint8_t* request, std::uint8_t response = 0) {
    std::vector<std::uint8_t> answer(48);
    answer[0] = 0x22;
    answer[1] = 0x80;
    answer[2] = response;
    std::memcpy(&answer[16], request + 16, 4);
    return answer;
  }
};

// RFC 7143 6.3.4, 11.12.9: the target learns by ExpStatSN what of the lost connection has come.
TEST_F(SeveralConnections, ALostOneIsReplacedByALoginThatAcknowledgesWhatItBrought) {
  log_in_with(2);
  const std::uint32_t brought = target_.connections[0]->stat_sn;
  const std::size_t before = target_.logins.size();
  session_->drop_connection();
  ASSERT_TRUE(wait([&] { return session_->info().recovered_connections == 1; }));
  ASSERT_EQ(target_.logins.size(), before + 1);
  const std::vector<std::uint8_t>& login = target_.logins.back();
  EXPECT_EQ(tsih_of(login), 1);
  EXPECT_EQ(load_be16(&login[20]), 0) << "CID";
  EXPECT_EQ(load_be32(&login[28]), brought) << "ExpStatSN";
  EXPECT_EQ(target_.logouts, 0u);
  EXPECT_EQ(session_->info().connections.size(), 2u);
}

TEST_F(SeveralConnections, ALostOneThatCannotLogInAgainIsLoggedOutByAnother) {
  for (const bool silent : {false, true}) {
    log_in_with(2);
    const std::uint32_t logouts = target_.logouts;
    const std::size_t before = target_.logins.size();
    std::vector<std::uint8_t> logout;
    target_.handler = [&](FakeTarget::Connection& connection, const std::uint8_t* bhs, Bytes) {
      if (iscsi::opcode(bhs) == Opcode::logout_request && logout.empty()) logout.assign(bhs, bhs + 48);
      if (iscsi::opcode(bhs) != Opcode::login_request || !logout.empty()) return false;
      if (!silent) connection.send(refusal(bhs, 0x0302));  // out of resources
      return true;
    };
    session_->drop_connection();
    ASSERT_TRUE(wait([&] { return session_->info().recovered_connections == 1; }, 8s))
        << "well within Time2Retain";
    EXPECT_GE(target_.logins.size(), before + 1);
    EXPECT_EQ(logout[1], 0x82) << "for recovery";
    EXPECT_EQ(load_be16(&logout[20]), 0) << "CID";
    ASSERT_TRUE(wait([&] { return session_->info().connections.size() == 2; }));
    EXPECT_EQ(target_.logouts, logouts + 1);
    end_session();
  }
}

TEST_F(SeveralConnections, TheOnlyOneWhosePlaceIsNotFreeYetTriesAgain) {
  log_in_with(1);
  int refused = 0;
  target_.handler = [&](FakeTarget::Connection& connection, const std::uint8_t* bhs, Bytes) {
    if (iscsi::opcode(bhs) != Opcode::login_request || refused == 3) return false;
    ++refused;
    connection.send(refusal(bhs, 0x0206));  // too many connections
    return true;
  };
  session_->drop_connection();
  ASSERT_TRUE(wait([&] { return session_->info().recovered_connections == 1; }, 20s));
  EXPECT_EQ(session_->info().reconnects, 0u);
}

// LIO answers "function complete" and has no such task.
TEST_F(SeveralConnections, ACommandThatIsLostInItsReassignmentIsSentAgainWhereThatIsSafe) {
  for (const bool safe : {true, false}) {
    config_.command_timeout = 5s;
    log_in_with(1);
    int commands = 0;
    std::vector<int> functions;
    target_.handler = [&](FakeTarget::Connection& connection, const std::uint8_t* bhs, Bytes) {
      if (iscsi::opcode(bhs) == Opcode::scsi_command) return ++commands == 1;
      if (iscsi::opcode(bhs) != Opcode::task_management_request) return false;
      functions.push_back(bhs[1] & 0x7f);
      connection.send(task_answer(bhs));
      return true;
    };
    Request request(safe);
    session_->submit(request);
    ASSERT_TRUE(wait([&] { return commands == 1; }));
    session_->drop_connection();
    ASSERT_TRUE(wait([&] { return request.over; }, 20s));
    EXPECT_EQ(functions, (std::vector<int>{8, 1})) << "TASK REASSIGN, ABORT TASK";
    EXPECT_EQ(commands, safe ? 2 : 1);
    if (safe) EXPECT_FALSE(request.error_code);
    else EXPECT_EQ(request.error_code, Errc::timed_out);
    end_session();
  }
}

TEST_F(SeveralConnections, AJoiningOneFollowsARedirectAndTheOthersStay) {
  FakeTarget other(target_host_.add_loop(), endpoint("10.0.0.3:3261"));
  std::string to = "10.0.0.3:3261,1";
  config_.resolve = [&](const std::string&, std::uint16_t, auto done) {
    loop_.post([done] {
      done(std::vector<runtime::Endpoint>{endpoint("127.0.0.1:3261"), endpoint("10.0.0.3:3261")});
    });
  };
  for (const char* address_text : {"10.0.0.3:3261,1", "san.example.org:3261,1"}) {
    to = address_text;
    const std::size_t before = other.logins.size();
    target_.handler = [&](FakeTarget::Connection& connection, const std::uint8_t* bhs, Bytes) {
      if (iscsi::opcode(bhs) != Opcode::login_request || load_be16(bhs + 14) == 0) return false;
      connection.send(redirect(bhs), address(to));
      return true;
    };
    log_in_with(2);
    EXPECT_EQ(other.logins.size(), before + 1);
    EXPECT_EQ(tsih_of(other.logins.back()), 1);
    const SessionInfo info = session_->info();
    EXPECT_EQ(info.current_portal, endpoint("10.0.0.1:3260"));
    EXPECT_EQ(info.connections[0].portal, endpoint("10.0.0.1:3260"));
    EXPECT_EQ(info.connections[1].portal, endpoint("10.0.0.3:3261"));
    end_session();
  }
}

TEST_F(SeveralConnections, AJoiningOneThatIsSentInACircleLeavesTheSessionAlone) {
  config_.max_connections = 2;
  target_.max_connections = 2;
  int joins = 0;
  target_.handler = [&](FakeTarget::Connection& connection, const std::uint8_t* bhs, Bytes) {
    if (iscsi::opcode(bhs) != Opcode::login_request || load_be16(bhs + 14) == 0) return false;
    ++joins;
    connection.send(redirect(bhs), address("10.0.0.1:3260"));
    return true;
  };
  log_in();
  world_.run_for(400ms);
  EXPECT_EQ(joins, 9) << "then it waits";
  Request read;
  session_->submit(read);
  ASSERT_TRUE(wait([&] { return read.over; }));
  EXPECT_FALSE(read.error_code);
  EXPECT_EQ(session_->info().connections.size(), 1u);
}

}  // namespace
}  // namespace perilune::initiator
