// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <mutex>
#include <thread>

#include "base/bytes.hpp"
#include "base/temporary_folder_test.hpp"
#include "control/client.hpp"
#include "control/iscsi_error.hpp"
#include "control/server.hpp"

namespace perilune::control {
namespace {

namespace fs = std::filesystem;

class ControlSocket : public ::testing::Test {
 protected:
  void serve(ControlServer::Handler handler) {
    auto server = ControlServer::start(path_, std::move(handler));
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }
  // A connection below the client library.
  [[nodiscard]] Fd raw() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  static std::string read_to_end(const Fd& fd) {
    std::string all;
    char buffer[4096];
    for (ssize_t n = 0; (n = ::recv(fd.get(), buffer, sizeof buffer, 0)) > 0;)
      all.append(buffer, static_cast<std::size_t>(n));
    return all;
  }

  TemporaryFolder folder_;
  std::string path_ = folder_ / "iscsid.sock";
  std::unique_ptr<ControlServer> server_;
};

void echo(Request request, std::shared_ptr<Exchange> exchange) {
  exchange->progress({{"text", "working"}});
  exchange->finish({{"op", request.op}, {"args", request.args}});
}

TEST_F(ControlSocket, CarriesARequestItsProgressAndItsResult) {
  serve(echo);
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  auto client = ControlClient::connect(path_);
  ASSERT_TRUE(client) << client.error().message;
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(client->send("hello", {{"round", round}}));
    std::vector<std::string> lines;
    const auto reply = client->wait([&](const Json& line) { lines.push_back(text_of(line, "text")); });
    ASSERT_TRUE(reply) << reply.error().message;
    EXPECT_EQ(reply->code, 0);
    EXPECT_EQ(number_of(reply->result["args"], "round"), round);
    EXPECT_EQ(lines, std::vector<std::string>{"working"});
  }
}

TEST_F(ControlSocket, CarriesErrorsWithTheirNumbers) {
  serve([](Request, std::shared_ptr<Exchange> exchange) {
    exchange->fail(iscsi_err_login_auth_failed, "wrong password");
    exchange->finish(Json::object());  // the first word counts
  });
  auto client = ControlClient::connect(path_);
  ASSERT_TRUE(client);
  ASSERT_TRUE(client->send("login", Json::object()));
  const auto reply = client->wait();
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->code, 24);
  EXPECT_EQ(reply->message, "wrong password");
}

TEST_F(ControlSocket, ARequestThatIsDroppedIsAnsweredStill) {
  serve([](Request, std::shared_ptr<Exchange>) {});
  auto client = ControlClient::connect(path_);
  ASSERT_TRUE(client);
  ASSERT_TRUE(client->send("x", Json::object()));
  EXPECT_EQ(client->wait()->code, iscsi_err_internal);
}

TEST_F(ControlSocket, AnswersFromOtherThreads) {
  std::thread worker;
  serve([&](Request, std::shared_ptr<Exchange> exchange) {
    worker = std::thread([exchange] { exchange->finish("done"); });
  });
  auto client = ControlClient::connect(path_);
  ASSERT_TRUE(client);
  ASSERT_TRUE(client->send("x", Json::object()));
  EXPECT_EQ(client->wait()->result, Json("done"));
  worker.join();
}

TEST_F(ControlSocket, RefusesAFrameThatAnnouncesTooMuch) {
  serve(echo);
  const Fd fd = raw();
  const unsigned char header[4] = {0x7f, 0xff, 0xff, 0xff};
  ASSERT_EQ(::send(fd.get(), header, sizeof header, 0), 4);
  EXPECT_NE(read_to_end(fd).find("longer than it may be"), std::string::npos);  // and closes
}

TEST_F(ControlSocket, CarriesALargeTransaction) {
  serve([](Request request, std::shared_ptr<Exchange> exchange) {
    exchange->finish({{"bytes", text_of(request.args, "text").size()}});
  });
  auto client = ControlClient::connect(path_);
  ASSERT_TRUE(client);
  ASSERT_TRUE(client->send("commit", {{"text", std::string(1 << 20, 'x')}}));
  const auto reply = client->wait();
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(number_of(reply->result, "bytes"), 1 << 20);
}

TEST_F(ControlSocket, WhatIsOnItsWayTogetherIsBounded) {
  serve(echo);
  const std::string unfinished = [] {
    std::string frame(4 + max_request_bytes - 1, ' ');
    store_be32(reinterpret_cast<std::uint8_t*>(frame.data()), max_request_bytes);
    return frame;
  }();
  std::vector<Fd> fds;
  for (std::size_t sent = 0; sent <= max_incomplete_bytes; sent += unfinished.size()) {
    fds.push_back(raw());
    for (std::size_t at = 0; at < unfinished.size();) {
      const ssize_t n =
          ::send(fds.back().get(), unfinished.data() + at, unfinished.size() - at, MSG_NOSIGNAL);
      if (n <= 0) break;  // refused
      at += static_cast<std::size_t>(n);
    }
  }
  EXPECT_NE(read_to_end(fds.back()).find("too many requests are being sent at once"), std::string::npos);
}

TEST_F(ControlSocket, RefusesWhatIsNotARequest) {
  serve(echo);
  for (const Json& message :
       {Json::object(), Json{{"version", 2}, {"op", "x"}}, Json{{"version", 1}},
        Json{{"version", 1}, {"op", "x"}, {"args", 7}}, Json{{"version", "1"}, {"op", "x"}}}) {
    const Fd fd = raw();
    const std::string frame = encode_frame(message);
    ASSERT_EQ(::send(fd.get(), frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()));
    EXPECT_NE(read_to_end(fd).find("\"code\":16"), std::string::npos) << message;
  }
  const Fd fd = raw();
  const std::string junk("\0\0\0\3{x}", 7);
  ASSERT_EQ(::send(fd.get(), junk.data(), junk.size(), 0), 7);
  EXPECT_NE(read_to_end(fd).find("not valid JSON"), std::string::npos);
}

TEST_F(ControlSocket, RefusesWhatIsNestedTooDeep) {
  serve(echo);
  const std::size_t depth = 100'000;  // copied or written by recursion it would take the whole stack
  const std::string body = "{\"version\":1,\"op\":\"x\",\"args\":{\"a\":" + std::string(depth, '[') +
                           std::string(depth, ']') + "}}";
  std::string frame(4, '\0');
  store_be32(reinterpret_cast<std::uint8_t*>(frame.data()), static_cast<std::uint32_t>(body.size()));
  frame += body;
  const Fd fd = raw();
  for (std::size_t sent = 0; sent < frame.size();) {
    const ssize_t n = ::send(fd.get(), frame.data() + sent, frame.size() - sent, MSG_NOSIGNAL);
    ASSERT_GT(n, 0);
    sent += static_cast<std::size_t>(n);
  }
  EXPECT_NE(read_to_end(fd).find("nested deeper"), std::string::npos);
  EXPECT_TRUE(ControlClient::connect(path_).has_value());
}

TEST_F(ControlSocket, RefusesASecondRequestBeforeTheAnswer) {
  std::mutex mutex;
  std::vector<std::shared_ptr<Exchange>> held;
  serve([&](Request, std::shared_ptr<Exchange> exchange) {
    const std::lock_guard<std::mutex> hold(mutex);
    held.push_back(std::move(exchange));
  });
  const Fd fd = raw();
  const std::string frame = encode_frame({{"version", 1}, {"op", "slow"}});
  ASSERT_EQ(::send(fd.get(), frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()));
  for (;;) {
    const std::lock_guard<std::mutex> hold(mutex);
    if (!held.empty()) break;
  }
  ASSERT_EQ(::send(fd.get(), frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()));
  EXPECT_NE(read_to_end(fd).find("before the answer"), std::string::npos);
}

TEST_F(ControlSocket, OnlyOneDaemonListensAndAStaleSocketIsReplaced) {
  { const Fd stale(::open(path_.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600)); }
  serve(echo);
  const auto second = ControlServer::start(path_, echo);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::busy);
  server_.reset();
  EXPECT_FALSE(fs::exists(path_));
  EXPECT_EQ(ControlClient::connect(path_).error().code, Errc::not_found);
  serve(echo);
}

TEST_F(ControlSocket, MoreClientsThanItServesWaitTheirTurn) {
  serve(echo);
  std::vector<Fd> idle;
  for (std::size_t i = 0; i < max_connections; ++i) idle.push_back(raw());
  auto client = ControlClient::connect(path_);  // in the kernel's queue
  ASSERT_TRUE(client);
  ASSERT_TRUE(client->send("x", Json::object()));
  idle.clear();
  EXPECT_EQ(client->wait()->code, 0);
}

TEST_F(ControlSocket, APathThatIsTooLongIsRefused) {
  EXPECT_EQ(ControlServer::start(std::string(200, 'x'), echo).error().code, Errc::invalid_argument);
  EXPECT_EQ(ControlClient::connect(std::string(200, 'x')).error().code, Errc::invalid_argument);
}

TEST(ControlMessages, ASessionSurvivesTheJourney) {
  SessionView session;
  session.sid = 7;
  ASSERT_TRUE(session.node.set("node.name", "iqn.2026-01.lab:disk"));
  session.tpgt = 3;
  session.session_state = "LOGGED_IN";
  session.max_burst_length = 262144;
  session.devices = {{0, "loop3", "running", "disk"}, {5, "", "", ""}};
  session.snmp = {{"txdata_octets", 1ULL << 40}};
  const auto back = session_from_json(Json::parse(session_to_json(session).dump()));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->sid, 7U);
  EXPECT_EQ(back->tpgt, 3);
  EXPECT_EQ(back->node, session.node);
  ASSERT_EQ(back->devices.size(), 2U);
  EXPECT_EQ(back->devices[0].disk, "loop3");
  EXPECT_EQ(back->devices[1].lun, 5U);
  ASSERT_EQ(back->snmp.size(), 1U);
  EXPECT_EQ(back->snmp[0].second, 1ULL << 40);
}

TEST(ControlMessages, WhatIsMalformedIsAnError) {
  EXPECT_FALSE(session_from_json(Json::array()));
  EXPECT_FALSE(session_from_json({{"node", 3}}));
  EXPECT_FALSE(record_from_json(config::RecordKind::node, {{"node.name", 3}}));
  EXPECT_FALSE(record_from_json(config::RecordKind::node, {{"node.startup", "never"}}));
  EXPECT_FALSE(targets_from_json({{"name", "x"}}));
  EXPECT_FALSE(targets_from_json(Json::array({{{"name", "x"}}})));
}

}  // namespace
}  // namespace perilune::control
