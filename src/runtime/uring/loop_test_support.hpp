// SPDX-License-Identifier: Apache-2.0
// For the tests of this folder: a loop that runs until a condition holds, and scripted ends of connections.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/uring/uring_loop.hpp"

namespace perilune::runtime::uring {

inline Endpoint loopback(std::uint16_t port = 0) { return *Endpoint::parse("127.0.0.1", port); }

class LoopTest : public ::testing::Test {
 protected:
  void SetUp() override { make({}); }
  void make(UringOptions options) {
    options.notice = [this](std::string_view line) { notices.emplace_back(line); };
    auto made = UringLoop::create(std::move(options));
    if (!made && made.error().code == Errc::unsupported) GTEST_SKIP() << made.error().message;
    ASSERT_TRUE(made) << made.error().message;
    loop = std::move(*made);
  }
  // Runs until `condition`, looked at whenever a callback of the test stops the loop. Gives up after 20 s.
  void run_until(std::function<bool()> condition) {
    late_ = false;
    Timer watchdog(loop->timers(), Delegate<void()>::to<&LoopTest::give_up>(*this));
    watchdog.arm(loop->now() + std::chrono::seconds(20));
    while (!late_ && !condition()) loop->run();
    EXPECT_FALSE(late_) << "the condition never came true";
  }
  // One turn, or a few: whatever was ready happens.
  void turn() {
    loop->post([this] { loop->stop(); });
    loop->run();
  }

  std::vector<std::string> notices;
  std::unique_ptr<UringLoop> loop;

 private:
  void give_up() {
    late_ = true;
    loop->stop();
  }
  bool late_ = false;
};

// One end of a connection that records what happens to it.
class End : public StreamHandler {
 public:
  explicit End(UringLoop& loop) : loop_(loop) {}
  void take(std::unique_ptr<Stream> stream) {
    stream_ = std::move(stream);
    stream_->set_handler(*this);
    loop_.stop();
  }
  [[nodiscard]] Stream& stream() { return *stream_; }
  [[nodiscard]] bool open() const { return stream_ != nullptr; }
  [[nodiscard]] std::unique_ptr<DetachedStream> release() {
    auto detached = stream_->release();
    stream_.reset();
    return detached;
  }
  void send(std::string text) {
    outgoing_ = std::move(text);
    iov_ = {outgoing_.data(), outgoing_.size()};
    stream_->send({&iov_, 1});
  }

  void on_received(int result, Bytes data) override {
    ++receives;
    last_result = result;
    received.append(as_text(data));
    if (on_data) on_data(result, data);
    if (keep_receiving && result > 0) stream_->receive();
    loop_.stop();
  }
  void on_sent(int result) override {
    ++sends;
    last_sent = result;
    if (on_send_done) on_send_done(result);
    loop_.stop();
  }
  void on_closed() override {
    ++closes;
    stream_.reset();
    loop_.stop();
  }

  int receives = 0;
  int sends = 0;
  int closes = 0;
  int last_result = 1;
  int last_sent = 1;
  bool keep_receiving = false;
  std::string received;
  std::function<void(int, Bytes)> on_data;
  std::function<void(int)> on_send_done;

 private:
  UringLoop& loop_;
  std::unique_ptr<Stream> stream_;
  std::string outgoing_;
  iovec iov_{};
};

class Accepting : public AcceptHandler {
 public:
  explicit Accepting(UringLoop& loop) : loop_(loop) {}
  void on_accepted(std::unique_ptr<Stream> stream) override {
    accepted.push_back(std::make_unique<End>(loop_));
    if (prepare) prepare(*accepted.back());
    accepted.back()->take(std::move(stream));
    if (then) then(*accepted.back());
  }
  std::vector<std::unique_ptr<End>> accepted;
  std::function<void(End&)> prepare;
  std::function<void(End&)> then;

 private:
  UringLoop& loop_;
};

class Calling : public ConnectHandler {
 public:
  explicit Calling(UringLoop& loop) : end(loop), loop_(loop) {}
  void on_connected(Result<std::unique_ptr<Stream>> stream) override {
    ++calls;
    if (stream) end.take(std::move(*stream));
    else error = stream.error();
    if (then) then();
    loop_.stop();
  }
  int calls = 0;
  Error error;
  End end;
  std::function<void()> then;

 private:
  UringLoop& loop_;
};

}  // namespace perilune::runtime::uring
