// SPDX-License-Identifier: Apache-2.0
// The daemon against our own target over loopback, by its control socket. No block devices: those need root.
#include "control/iscsid/initiator_daemon.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <future>
#include <thread>

#include "base/temporary_folder_test.hpp"
#include "block/open_backstore.hpp"
#include "config/portal.hpp"
#include "control/client.hpp"
#include "control/iscsi_error.hpp"
#include "runtime/native/native_loop.hpp"
#include "target/server.hpp"

namespace perilune::control {
namespace {

constexpr const char* open_target = "iqn.2026-05.org.moon:open";
constexpr const char* chap_target = "iqn.2026-05.org.moon:chap";
constexpr const char* mutual_target = "iqn.2026-05.org.moon:mutual";

class Silence final : public EventLog {
 public:
  void event(Level, std::string_view, std::string_view) override {}
};

// A target and the daemon on one loop, on a thread of its own.
class InitiatorDaemonTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto loop = runtime::make_native_loop(runtime::Runtime::automatic, {});
    ASSERT_TRUE(loop) << loop.error().message;
    loop_ = std::move(*loop);
    start_target();
    DaemonOptions options;
    options.initiator_name = "iqn.2026-11.io.perilune:test";
    options.attach_devices = false;
    daemon_ = std::make_unique<InitiatorDaemon>(
        *loop_, options, [](std::string_view) {}, [this] { stop_asked_.set_value(); });
    auto server = ControlServer::start(socket(), daemon_->handler());
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
    thread_ = std::thread([this] { loop_->run(); });
  }

  void TearDown() override {
    if (thread_.joinable()) {
      on_loop([this](std::promise<void>& done) { daemon_->shut_down([&done] { done.set_value(); }); });
      EXPECT_TRUE(daemon_->idle());
      on_loop(
          [this](std::promise<void>& done) { target_->stop([&done](const Status&) { done.set_value(); }); });
      server_.reset();
      loop_->stop();
      thread_.join();
    }
    server_.reset();
    daemon_.reset();
    target_.reset();
    loop_.reset();
  }

  void start_target() {
    target::ServerConfig config;
    config.portals.push_back(*runtime::Endpoint::parse("127.0.0.1:0", 0));
    for (const char* name : {open_target, chap_target, mutual_target}) {
      target::TargetSpec spec;
      spec.name = name;
      if (name != open_target) spec.auth.accounts.push_back({"moon", crypto::Secret("twelve or more")});
      if (name == mutual_target) spec.auth.target_account = {"sun", crypto::Secret("another twelve")};
      target::UnitSpec unit;
      unit.backstore = std::move(*block::open_backstore("ram:1M", {}));
      unit.config.identity = scsi::UnitIdentity::from_id(1);
      spec.units.push_back(std::move(unit));
      config.targets.push_back(std::move(spec));
    }
    auto created = target::Server::create(*loop_, std::move(config), silence_);
    ASSERT_TRUE(created) << created.error().message;
    target_ = std::move(*created);
    ASSERT_TRUE(target_->start());
    port_ = target_->bound_portals().front().port;
  }

  void on_loop(const std::function<void(std::promise<void>&)>& work) {
    std::promise<void> done;
    loop_->post([&] { work(done); });
    ASSERT_EQ(done.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  }

  [[nodiscard]] std::string socket() const { return folder_ / "iscsid.sock"; }
  Reply call(const std::string& op, const Json& args, std::vector<std::string>* lines = nullptr) const {
    auto client = ControlClient::connect(socket());
    if (!client || !client->send(op, args)) return {-1, "no connection", {}};
    auto reply = client->wait([&](const Json& line) {
      if (lines != nullptr) lines->push_back(text_of(line, "text"));
    });
    return reply ? std::move(*reply) : Reply{-1, reply.error().message, {}};
  }
  [[nodiscard]] config::Record node(const char* target, std::uint16_t port = 0) const {
    config::Record record(config::RecordKind::node);
    config::NodeKey{target, "127.0.0.1", port == 0 ? port_ : port, 1, "default"}.put_into(record);
    return record;
  }
  static void put(config::Record& record, const char* name, const char* value) {
    ASSERT_TRUE(record.set(name, value)) << name;
  }
  Reply login(const config::Record& record, bool multiple = false) const {
    return call("login", {{"node", record_to_json(record)}, {"multiple", multiple}});
  }
  [[nodiscard]] std::vector<SessionView> sessions() const {
    std::vector<SessionView> views;
    for (const Json& entry : call("sessions", Json::object()).result) {
      auto view = session_from_json(entry);
      EXPECT_TRUE(view) << view.error().message;
      if (view) views.push_back(std::move(*view));
    }
    return views;
  }
  // A port on which nobody listens, for as long as the test holds it.
  static std::uint16_t closed_port(Fd& holder) {
    holder = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(holder.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    socklen_t size = sizeof address;
    EXPECT_EQ(::getsockname(holder.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    return ntohs(address.sin_port);
  }
  [[nodiscard]] Json discovery_args(std::uint16_t port, const char* reopen_max) const {
    config::Record record(config::RecordKind::send_targets);
    put(record, "discovery.sendtargets.address", "127.0.0.1");
    put(record, "discovery.sendtargets.port", std::to_string(port).c_str());
    put(record, "discovery.sendtargets.reopen_max", reopen_max);
    return {{"discovery", record_to_json(record)}};
  }

  TemporaryFolder folder_;
  Silence silence_;
  std::uint16_t port_ = 0;
  std::promise<void> stop_asked_;
  std::unique_ptr<runtime::ThreadLoop> loop_;
  std::unique_ptr<target::Server> target_;
  std::unique_ptr<InitiatorDaemon> daemon_;
  std::unique_ptr<ControlServer> server_;
  std::thread thread_;
};

TEST_F(InitiatorDaemonTest, DiscoversTheTargetsOfAPortal) {
  const Reply reply = call("discover", discovery_args(port_, "0"));
  ASSERT_EQ(reply.code, 0) << reply.message;
  const auto targets = targets_from_json(reply.result);
  ASSERT_TRUE(targets);
  ASSERT_EQ(targets->size(), 3U);
  EXPECT_EQ((*targets)[0].name, chap_target);  // a server tells of them in the order of their names
  const auto& open = *std::find_if(targets->begin(), targets->end(),
                                   [](const auto& each) { return each.name == open_target; });
  ASSERT_EQ(open.portals.size(), 1U);
  EXPECT_EQ(open.portals[0].address, "127.0.0.1");
  EXPECT_EQ(open.portals[0].port, port_);
  EXPECT_EQ(open.portals[0].tpgt, 1);
}

TEST_F(InitiatorDaemonTest, ARefusedDiscoveryIsElevenAndToldLineByLine) {
  Fd holder;
  std::vector<std::string> lines;
  const Reply reply = call("discover", discovery_args(closed_port(holder), "1"), &lines);
  EXPECT_EQ(reply.code, iscsi_err_pdu_timeout);
  EXPECT_EQ(lines, (std::vector<std::string>{"cannot make connection to 127.0.0.1: Connection refused",
                                             "cannot make connection to 127.0.0.1: Connection refused",
                                             "connection login retries (reopen_max) 1 exceeded"}));
}

TEST_F(InitiatorDaemonTest, LogsInListsAndLogsOut) {
  const Reply reply = login(node(open_target));
  ASSERT_EQ(reply.code, 0) << reply.message;
  EXPECT_EQ(number_of(reply.result, "sid"), 1);
  const auto there = sessions();
  ASSERT_EQ(there.size(), 1U);
  EXPECT_EQ(there[0].connection_state, "LOGGED IN");
  EXPECT_EQ(there[0].session_state, "LOGGED_IN");
  EXPECT_EQ(there[0].initiator_name, "iqn.2026-11.io.perilune:test");
  EXPECT_EQ(there[0].local_address, "127.0.0.1");
  EXPECT_EQ(there[0].current_port, port_);
  EXPECT_EQ(there[0].tpgt, 1);
  EXPECT_GE(there[0].max_burst_length, 512U);
  ASSERT_EQ(there[0].devices.size(), 1U);
  EXPECT_EQ(there[0].devices[0].lun, 0U);
  ASSERT_FALSE(there[0].snmp.empty());
  EXPECT_EQ(there[0].snmp[1].first, "rxdata_octets");
  EXPECT_GT(there[0].snmp[1].second, 0U);
  EXPECT_EQ(call("rescan", {{"sid", 1}}).code, 0);
  EXPECT_EQ(call("logout", {{"sid", 1}}).code, 0);
  EXPECT_TRUE(sessions().empty());
  EXPECT_EQ(call("logout", {{"sid", 1}}).code, iscsi_err_sess_not_found);
}

TEST_F(InitiatorDaemonTest, ASecondSessionIsOnlyForThoseWhoAskForIt) {
  ASSERT_EQ(login(node(open_target)).code, 0);
  EXPECT_EQ(login(node(open_target)).code, iscsi_err_sess_exists);
  EXPECT_EQ(login(node(open_target), true).code, 0);
  EXPECT_EQ(sessions().size(), 2U);  // with ISIDs of their own, or the second had replaced the first
  EXPECT_EQ(sessions()[0].session_state, "LOGGED_IN");
}

TEST_F(InitiatorDaemonTest, CredentialsDecide) {
  EXPECT_EQ(login(node(chap_target)).code, iscsi_err_login_auth_failed);
  config::Record record = node(chap_target);
  put(record, "node.session.auth.authmethod", "CHAP");
  EXPECT_EQ(login(record).code, iscsi_err_inval);
  put(record, "node.session.auth.username", "moon");
  put(record, "node.session.auth.password", "not the right one");
  EXPECT_EQ(login(record).code, iscsi_err_login_auth_failed);
  put(record, "node.session.auth.password", "twelve or more");
  for (const char* algorithm : {"MD5", "SHA1", "SHA256", "SHA3-256"}) {
    put(record, "node.session.auth.chap_algs", algorithm);
    const Reply reply = login(record);
    ASSERT_EQ(reply.code, 0) << algorithm << ": " << reply.message;
    EXPECT_EQ(call("logout", {{"sid", number_of(reply.result, "sid")}}).code, 0);
  }
}

TEST_F(InitiatorDaemonTest, ATargetThatCannotProveItselfIsFatal) {
  config::Record record = node(mutual_target);
  put(record, "node.session.auth.authmethod", "CHAP");
  put(record, "node.session.auth.username", "moon");
  put(record, "node.session.auth.password", "twelve or more");
  put(record, "node.session.auth.username_in", "sun");
  put(record, "node.session.auth.password_in", "not what it has");
  EXPECT_EQ(login(record).code, iscsi_err_fatal_login);
  put(record, "node.session.auth.password_in", "another twelve");
  EXPECT_EQ(login(record).code, 0);
}

TEST_F(InitiatorDaemonTest, ATargetThatIsNotThereIsFatalAndAPortalThatIsNotThereATimeOut) {
  EXPECT_EQ(login(node("iqn.2026-05.org.moon:nosuch")).code, iscsi_err_fatal_login);
  Fd holder;
  config::Record record = node(open_target, closed_port(holder));
  put(record, "node.session.initial_login_retry_max", "2");
  EXPECT_EQ(login(record).code, iscsi_err_trans_timeout);
  EXPECT_TRUE(sessions().empty());
  // Numbers of attempts that failed are not lost.
  EXPECT_EQ(number_of(login(node(open_target)).result, "sid"), 1);
}

TEST_F(InitiatorDaemonTest, TwoLoginsAtOnceShareTheOutcome) {
  Fd holder;
  config::Record record = node(open_target, closed_port(holder));
  put(record, "node.session.initial_login_retry_max", "2");
  auto first = ControlClient::connect(socket());
  auto second = ControlClient::connect(socket());
  ASSERT_TRUE(first && second);
  const Json args = {{"node", record_to_json(record)}};
  ASSERT_TRUE(first->send("login", args));
  ASSERT_TRUE(second->send("login", args));
  EXPECT_EQ(first->wait()->code, iscsi_err_trans_timeout);
  EXPECT_EQ(second->wait()->code, iscsi_err_trans_timeout);
}

TEST_F(InitiatorDaemonTest, HostileRequestsAreRefused) {
  EXPECT_EQ(call("login", Json::object()).code, iscsi_err_inval);
  EXPECT_EQ(
      call("login", {{"node", {{"node.name", "../../etc"}, {"node.conn[0].address", "127.0.0.1"}}}}).code,
      iscsi_err_inval);
  EXPECT_EQ(call("login", {{"node", {{"node.conn[0].port", "0"}}}}).code, iscsi_err_inval);
  EXPECT_EQ(call("discover", {{"discovery", 3}}).code, iscsi_err_inval);
  EXPECT_EQ(call("discover", {{"discovery", Json::object()}}).code, iscsi_err_inval);
  EXPECT_EQ(call("logout", {{"sid", -1}}).code, iscsi_err_sess_not_found);
  EXPECT_EQ(call("logout", {{"sid", "1"}}).code, iscsi_err_sess_not_found);
  EXPECT_EQ(call("nosuch", Json::object()).code, iscsi_err_invalid_mgmt_req);
}

TEST_F(InitiatorDaemonTest, EndsWithSessionsAndLoginsUnderWay) {
  ASSERT_EQ(login(node(open_target)).code, 0);
  Fd holder;
  auto client = ControlClient::connect(socket());
  ASSERT_TRUE(client);
  ASSERT_TRUE(client->send("login", {{"node", record_to_json(node(open_target, closed_port(holder)))}}));
  ASSERT_EQ(call("stop", Json::object()).code, 0);
  ASSERT_EQ(stop_asked_.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  on_loop([this](std::promise<void>& done) { daemon_->shut_down([&done] { done.set_value(); }); });
  EXPECT_NE(client->wait()->code, 0);
  EXPECT_EQ(call("login", Json::object()).code, iscsi_err_again);
  // TearDown's own shut_down finds nothing to do.
  server_.reset();
  on_loop([this](std::promise<void>& done) { target_->stop([&done](const Status&) { done.set_value(); }); });
  loop_->stop();
  thread_.join();
}

}  // namespace
}  // namespace perilune::control
