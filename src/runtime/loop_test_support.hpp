// SPDX-License-Identifier: Apache-2.0
// For the tests of the runtimes: a loop that runs until a condition holds, and scripted ends of connections.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/thread_loop.hpp"

namespace perilune::runtime {

inline Endpoint loopback(std::uint16_t port = 0) { return *Endpoint::parse("127.0.0.1", port); }

// Mixed into a fixture, which makes the loop.
class LoopUser {
 protected:
  // make(options) returns the Result of a factory. Skips where this system has no such loop.
  template <class Options, class Make>
  void take_loop(Options options, Make make) {
    options.notice = [this](std::string_view line) { notices.emplace_back(line); };
    auto made = make(std::move(options));
    if (!made && made.error().code == Errc::unsupported) GTEST_SKIP() << made.error().message;
    ASSERT_TRUE(made) << made.error().message;
    loop = std::move(*made);
  }
  // Runs until `condition`, looked at whenever a callback of the test stops the loop. Gives up after 20 s.
  void run_until(std::function<bool()> condition) {
    late_ = false;
    Timer watchdog(loop->timers(), Delegate<void()>::to<&LoopUser::give_up>(*this));
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
  std::unique_ptr<ThreadLoop> loop;

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
  explicit End(ThreadLoop& loop) : loop_(loop) {}
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
  ThreadLoop& loop_;
  std::unique_ptr<Stream> stream_;
  std::string outgoing_;
  iovec iov_{};
};

class Accepting : public AcceptHandler {
 public:
  explicit Accepting(ThreadLoop& loop) : loop_(loop) {}
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
  ThreadLoop& loop_;
};

class Calling : public ConnectHandler {
 public:
  explicit Calling(ThreadLoop& loop) : end(loop), loop_(loop) {}
  void on_connected(Result<std::unique_ptr<Stream>> stream) override {
    ++calls;
    if (stream)
      end.take(std::move(*stream));
    else
      error = stream.error();
    if (then) then();
    loop_.stop();
  }
  int calls = 0;
  Error error;
  End end;
  std::function<void()> then;

 private:
  ThreadLoop& loop_;
};

// A fixture with a pair of streams over one.
template <class Fixture>
class StreamPair : public Fixture {
 protected:
  using Fixture::loop;
  using Fixture::run_until;

  // A listener, and one connection between `client` and `server()`.
  void connect_pair(SocketOptions options = {}) {
    listen(options);
    call(options);
    run_until([&] { return calling->end.open() && accepting->accepted.size() == 1; });
  }
  void listen(SocketOptions options = {}) {
    accepting = std::make_unique<Accepting>(*loop);
    auto made = loop->listen(loopback(), options, *accepting);
    ASSERT_TRUE(made) << made.error().message;
    listener = std::move(*made);
  }
  void call(SocketOptions options = {}) {
    calling = std::make_unique<Calling>(*loop);
    connecting = loop->connect(listener->local(), options, *calling);
  }
  End& client() { return calling->end; }
  End& server() { return *accepting->accepted.front(); }
  void close_all() {
    if (calling && client().open()) client().stream().close();
    for (auto& end : accepting->accepted) {
      if (end->open()) end->stream().close();
    }
    run_until([&] {
      for (auto& end : accepting->accepted) {
        if (end->open()) return false;
      }
      return !calling || !client().open();
    });
  }
  void TearDown() override {
    if (!loop) return;
    if (accepting) close_all();
    listener.reset();
    connecting.reset();
    loop.reset();
  }

  std::unique_ptr<Accepting> accepting;
  std::unique_ptr<Calling> calling;
  std::unique_ptr<Listener> listener;
  std::unique_ptr<Connecting> connecting;
};

// A fixture with a file of 8 MiB (all of it a hole) over one.
template <class Fixture>
class WithFile : public Fixture {
 protected:
  using Fixture::loop;

  void SetUp() override {
    Fixture::SetUp();
    std::string pattern = (std::filesystem::temp_directory_path() / "perilune-test-XXXXXX").string();
    const int fd = ::mkstemp(pattern.data());
    ASSERT_GE(fd, 0);
    path = pattern;
    ASSERT_EQ(::ftruncate(fd, 8 << 20), 0);
    ::close(fd);
  }
  void TearDown() override {
    file.reset();
    loop.reset();
    std::filesystem::remove(path);
  }
  void open(const OpenOptions& options) {
    auto made = loop->open_file(path, options);
    ASSERT_TRUE(made) << made.error().message;
    file = std::move(*made);
  }
  struct Ending {
    ThreadLoop& loop;
    bool ended = false;
    int result = 0;
    FileExtent extent{};
    void on_done(FileOp& op, int r) {
      ended = true;
      result = r;
      extent = op.extent;
      loop.stop();
    }
  };
  // start(op, result) is one of the file's methods with everything else bound.
  int finish(const std::function<bool(FileOp&, int&)>& start) {
    Ending ending{*loop};
    FileOp op;
    op.done = Delegate<void(FileOp&, int)>::to<&Ending::on_done>(ending);
    int result = 0;
    if (start(op, result)) {
      last_extent = op.extent;
      return result;
    }
    EXPECT_FALSE(ending.ended);
    while (!ending.ended) loop->run();
    last_extent = ending.extent;
    return ending.result;
  }
  int write(std::uint64_t offset, const std::string& data, bool durable = false) {
    const iovec out{const_cast<char*>(data.data()), data.size()};
    return finish([&](FileOp& op, int& r) {
      return file->write(op, ByteOffset(offset), {&out, 1}, durable, r);
    });
  }
  int read(std::uint64_t offset, std::string& data) {
    const iovec in{data.data(), data.size()};
    return finish([&](FileOp& op, int& r) { return file->read(op, ByteOffset(offset), {&in, 1}, r); });
  }
  std::string path;
  std::unique_ptr<BlockFile> file;
  FileExtent last_extent;
};

}  // namespace perilune::runtime
