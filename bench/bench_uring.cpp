// SPDX-License-Identifier: Apache-2.0
// How fast the loop itself is: requests of 48 bytes answered with 48 bytes and a payload, over loopback, the
// two ends on threads of their own. Prints latency, rate, kernel entries and heap allocations per request.
//
//   bench_uring [payload bytes] [depth] [seconds]      with polling on and off, alternating
#include <sched.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

#include "runtime/uring/uring_loop.hpp"

namespace {

std::atomic<std::uint64_t> allocations{0};

}  // namespace

void* operator new(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* p = std::malloc(bytes)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace {

using namespace perilune;
using namespace perilune::runtime;

constexpr std::size_t request_bytes = 48;

std::unique_ptr<UringLoop> make_loop(bool polling) {
  UringOptions options;
  options.polling = polling ? Polling::adaptive : Polling::never;
  options.notice = [](std::string_view line) {
    std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
  };
  auto loop = UringLoop::create(std::move(options));
  if (!loop) {
    std::fprintf(stderr, "%s\n", loop.error().message.c_str());
    std::exit(1);
  }
  return std::move(*loop);
}

// Answers every request at hand in one gather send per turn.
class Server : public AcceptHandler, public StreamHandler {
 public:
  Server(UringLoop& loop, std::size_t payload_bytes)
      : loop_(loop), payload_(payload_bytes), hook_(Delegate<void()>::to<&Server::answer>(*this)) {
    auto listener = loop.listen(*Endpoint::parse("127.0.0.1", 0), {}, *this);
    if (!listener) std::exit(1);
    listener_ = std::move(*listener);
  }
  [[nodiscard]] Endpoint local() const { return listener_->local(); }
  [[nodiscard]] double cpu_seconds() const { return cpu_seconds_; }

 private:
  void on_accepted(std::unique_ptr<Stream> stream) override {
    stream_ = std::move(stream);
    stream_->set_handler(*this);
    stream_->receive();
  }
  void on_received(int result, Bytes data) override {
    if (result <= 0) return stream_->close();
    bytes_ += data.size();
    loop_.schedule(hook_);
    stream_->receive();
  }
  void answer() {
    if (sending_) return;
    std::size_t count = 0;
    for (; bytes_ >= request_bytes && count + 2 <= iov_.size(); bytes_ -= request_bytes) {
      iov_[count++] = {header_.data(), header_.size()};
      iov_[count++] = {payload_.data(), payload_.size()};
    }
    if (count == 0) return;
    sending_ = true;
    stream_->send({iov_.data(), count});
  }
  void on_sent(int) override {
    sending_ = false;
    if (bytes_ >= request_bytes) loop_.schedule(hook_);
  }
  void on_closed() override {
    stream_.reset();
    listener_.reset();
    rusage usage{};
    ::getrusage(RUSAGE_THREAD, &usage);
    cpu_seconds_ = static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                   static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
    loop_.stop();
  }

  UringLoop& loop_;
  std::vector<std::uint8_t> payload_;
  std::array<std::uint8_t, request_bytes> header_{};
  std::array<iovec, 512> iov_{};
  TurnHook hook_;
  std::size_t bytes_ = 0;
  bool sending_ = false;
  double cpu_seconds_ = 0;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Stream> stream_;
};

// Keeps `depth` requests outstanding.
class Client : public ConnectHandler, public StreamHandler {
 public:
  Client(UringLoop& loop, std::size_t payload_bytes, std::size_t depth, std::chrono::seconds duration)
      : loop_(loop),
        answer_bytes_(request_bytes + payload_bytes),
        depth_(depth),
        duration_(duration),
        started_(depth),
        requests_(depth * request_bytes),
        hook_(Delegate<void()>::to<&Client::ask>(*this)) {
    latencies_ns.reserve(20'000'000);
  }
  void connect(const Endpoint& peer) { connecting_ = loop_.connect(peer, {}, *this); }
  std::vector<std::uint32_t> latencies_ns;
  double seconds = 0;
  std::uint64_t steady_allocations = 0;

 private:
  static std::int64_t clock() {
    timespec ts{};
    ::clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1'000'000'000 + ts.tv_nsec;
  }
  void on_connected(Result<std::unique_ptr<Stream>> stream) override {
    if (!stream) std::exit(1);
    stream_ = std::move(*stream);
    stream_->set_handler(*this);
    begin_ = clock();
    wanted_ = depth_;
    loop_.schedule(hook_);
    stream_->receive();
  }
  void ask() {
    if (sending_ || wanted_ == 0) return;
    const std::int64_t now = clock();
    for (std::size_t i = 0; i < wanted_; ++i) started_[(next_ + i) % depth_] = now;
    next_ += wanted_;
    sending_ = true;
    iov_ = {requests_.data(), wanted_ * request_bytes};
    wanted_ = 0;
    stream_->send({&iov_, 1});
  }
  void on_received(int result, Bytes data) override {
    if (result <= 0) return stream_->close();
    bytes_ += data.size();
    const std::int64_t now = clock();
    for (; bytes_ >= answer_bytes_; bytes_ -= answer_bytes_) {
      if (latencies_ns.size() < latencies_ns.capacity()) {
        latencies_ns.push_back(static_cast<std::uint32_t>(now - started_[answered_ % depth_]));
      }
      if (++answered_ == 1000) steady_allocations = allocations.load();
      ++wanted_;
    }
    if (now - begin_ > std::chrono::nanoseconds(duration_).count()) {
      seconds = static_cast<double>(now - begin_) * 1e-9;
      steady_allocations = allocations.load() - steady_allocations;
      return stream_->close();
    }
    if (wanted_ > 0) loop_.schedule(hook_);
    stream_->receive();
  }
  void on_sent(int) override {
    sending_ = false;
    if (wanted_ > 0 && stream_) loop_.schedule(hook_);
  }
  void on_closed() override {
    stream_.reset();
    connecting_.reset();
    loop_.stop();
  }

  UringLoop& loop_;
  std::size_t answer_bytes_;
  std::size_t depth_;
  std::chrono::seconds duration_;
  std::vector<std::int64_t> started_;
  std::vector<std::uint8_t> requests_;
  TurnHook hook_;
  iovec iov_{};
  std::size_t wanted_ = 0, next_ = 0, answered_ = 0, bytes_ = 0;
  bool sending_ = false;
  std::int64_t begin_ = 0;
  std::unique_ptr<Connecting> connecting_;
  std::unique_ptr<Stream> stream_;
};

// To the n-th processor that this program may use; -1: to all of them again.
void pin(int n) {
  static const cpu_set_t all = [] {
    cpu_set_t set;
    ::sched_getaffinity(0, sizeof set, &set);
    return set;
  }();
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && n >= 0; ++cpu) {
    if (CPU_ISSET(cpu, &all) && n-- == 0) CPU_SET(cpu, &one);
  }
  (void)::sched_setaffinity(0, sizeof one, CPU_COUNT(&one) > 0 ? &one : &all);
}

void measure(bool polling, std::size_t payload_bytes, std::size_t depth, std::chrono::seconds duration) {
  auto server_loop = make_loop(polling);
  auto client_loop = make_loop(polling);
  Server server(*server_loop, payload_bytes);
  Client client(*client_loop, payload_bytes, depth, duration);
  client.connect(server.local());
  std::thread thread([&] {
    pin(0);
    server_loop->run();
  });
  pin(1);
  client_loop->run();
  pin(-1);
  thread.join();
  auto& all = client.latencies_ns;
  if (all.empty()) return;
  std::sort(all.begin(), all.end());
  const auto count = static_cast<double>(all.size());
  const auto at = [&](double q) {
    return static_cast<double>(all[static_cast<std::size_t>(q * (count - 1))]) / 1000;
  };
  const auto& c = server_loop->counters();
  std::printf(
      "polling %-3s  %8.0f req/s  p50 %6.1f us  p99 %6.1f us  server: %.2f us CPU, %.2f entries, %.2f "
      "polled, "
      "%.2f slept per request; %llu allocations in %.0f requests\n",
      polling ? "on" : "off", count / client.seconds, at(0.5), at(0.99), server.cpu_seconds() * 1e6 / count,
      static_cast<double>(c.enters) / count, static_cast<double>(c.polled_wakeups) / count,
      static_cast<double>(c.slept_wakeups) / count,
      static_cast<unsigned long long>(client.steady_allocations), count);
}

}  // namespace

int main(int argc, char** argv) {
  const std::size_t payload = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 4096;
  const std::size_t depth = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1;
  const std::chrono::seconds duration(argc > 3 ? std::atoi(argv[3]) : 2);
  for (int round = 0; round < 3; ++round) {
    for (const bool polling : {true, false}) measure(polling, payload, depth, duration);
  }
}
