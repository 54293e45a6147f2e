// SPDX-License-Identifier: Apache-2.0
// A runtime::Loop and its one Stream for the replay: no kernel, no clock, no randomness, and next to no work
// of their own, so that what is counted is the target. What the stream is asked for is remembered; the replay
// delivers and takes when it likes.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "base/assert.hpp"
#include "runtime/loop.hpp"

namespace perilune::replay {

class StillRandom final : public runtime::Random {
 public:
  void fill(MutableBytes out) override {
    for (std::uint8_t& byte : out) byte = static_cast<std::uint8_t>(++last_ * 0x9d);
  }

 private:
  unsigned last_ = 0;
};

class StillStream final : public runtime::Stream {
 public:
  void set_handler(runtime::StreamHandler& handler) override { handler_ = &handler; }
  void receive() override {
    receiving_ = true;
    room_count_ = 0;
  }
  void receive_into(std::span<const iovec> iov, bool) override {
    receiving_ = true;
    room_count_ = iov.size();
    std::copy(iov.begin(), iov.end(), room_.begin());
  }
  void send(std::span<const iovec> iov) override { sending_ = iov; }
  [[nodiscard]] int send_now(std::span<const iovec>) override { return 0; }  // send() has it all
  void close() override { closed_ = true; }
  void shutdown_send() override {}
  [[nodiscard]] std::unique_ptr<runtime::DetachedStream> release() override {
    return nullptr;
  }  // there is one loop
  [[nodiscard]] const runtime::Endpoint& local() const override { return endpoint_; }
  [[nodiscard]] const runtime::Endpoint& peer() const override { return endpoint_; }

  // For the replay.
  [[nodiscard]] runtime::StreamHandler& handler() noexcept { return *handler_; }
  [[nodiscard]] bool receiving() const noexcept { return receiving_; }
  [[nodiscard]] bool closed() const noexcept { return closed_; }
  void received() noexcept { receiving_ = false; }
  [[nodiscard]] std::span<const iovec> room() const noexcept {
    return {room_.data(), room_count_};
  }  // empty: any buffer will do
  [[nodiscard]] std::span<const iovec> sending() const noexcept { return sending_; }
  void sent() noexcept { sending_ = {}; }

 private:
  runtime::StreamHandler* handler_ = nullptr;
  runtime::Endpoint endpoint_;
  std::array<iovec, 64> room_{};
  std::size_t room_count_ = 0;
  std::span<const iovec> sending_;
  bool receiving_ = false;
  bool closed_ = false;
};

class StillLoop final : public runtime::Loop {
 public:
  [[nodiscard]] runtime::Instant now() const override { return runtime::Instant(std::chrono::seconds(1)); }
  [[nodiscard]] runtime::TimerQueue& timers() override { return timers_; }
  [[nodiscard]] runtime::Random& random() override { return random_; }
  void schedule(runtime::TurnHook& hook) override {
    if (!hook.linked()) hooks_.push_back(hook);
  }
  void post(std::function<void()> work) override { posted_.push_back(std::move(work)); }
  void stop() override {}
  [[nodiscard]] Result<std::unique_ptr<runtime::Listener>> listen(const runtime::Endpoint& local,
                                                                  const runtime::SocketOptions&,
                                                                  runtime::AcceptHandler& handler) override {
    struct StillListener final : runtime::Listener {
      explicit StillListener(const runtime::Endpoint& at) : endpoint(at) {}
      [[nodiscard]] const runtime::Endpoint& local() const override { return endpoint; }
      runtime::Endpoint endpoint;
    };
    acceptor_ = &handler;
    return std::make_unique<StillListener>(local);
  }
  [[nodiscard]] std::unique_ptr<runtime::Connecting> connect(const runtime::Endpoint&,
                                                             const runtime::SocketOptions&,
                                                             runtime::ConnectHandler&) override {
    return nullptr;  // a target calls nobody
  }
  [[nodiscard]] std::unique_ptr<runtime::Stream> adopt(std::unique_ptr<runtime::DetachedStream>) override {
    return nullptr;
  }
  [[nodiscard]] Result<std::unique_ptr<runtime::BlockFile>> open_file(const std::string&,
                                                                      const runtime::OpenOptions&) override {
    return fail(Errc::unsupported, "no files in a replay");
  }
  void register_buffers(BufferPool&) override {}

  // A connection from nowhere; the stream is the server's.
  StillStream& accept() {
    auto stream = std::make_unique<StillStream>();
    StillStream& out = *stream;
    PERILUNE_ASSERT(acceptor_ != nullptr);
    acceptor_->on_accepted(std::move(stream));
    return out;
  }
  // Posted work and hooks, until there are none.
  void turn() {
    while (!posted_.empty()) {
      std::vector<std::function<void()>> batch;
      batch.swap(posted_);
      for (auto& work : batch) work();
    }
    while (!hooks_.empty()) hooks_.pop_front()();
  }

 private:
  StillRandom random_;
  runtime::TimerQueue timers_;
  IntrusiveList<runtime::TurnHook> hooks_;
  std::vector<std::function<void()>> posted_;
  runtime::AcceptHandler* acceptor_ = nullptr;
};

}  // namespace perilune::replay
