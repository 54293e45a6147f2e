// SPDX-License-Identifier: Apache-2.0
// Echo over many connections while links are cut and connections reset: what arrives is a prefix of what was
// sent, and all of it unless the connection was broken.
#include <algorithm>

#include "runtime/sim/network.hpp"
#include "runtime/sim/sim_host.hpp"
#include "sim/scenarios.hpp"

namespace perilune::sim {

namespace {

using namespace std::chrono_literals;
using runtime::Endpoint;
using runtime::Stream;

std::uint8_t byte_at(std::uint64_t stream, std::size_t position) {
  return static_cast<std::uint8_t>((position * 2654435761ULL + stream * 97) >> 7);
}

// Sends `total` bytes of its own pattern and expects them back; or sends back what comes.
class Talker : public runtime::StreamHandler {
 public:
  Talker(std::unique_ptr<Stream> stream, std::uint64_t id, std::size_t total)
      : stream_(std::move(stream)), id_(id), total_(total), echo_(total == 0) {
    stream_->set_handler(*this);
    stream_->receive();
    send_more();
  }
  void on_received(int result, Bytes data) override {
    if (result <= 0) {
      broken = broken || result < 0 || (!echo_ && returned < total_);
      stream_->close();
      return;
    }
    if (echo_) {
      queue_.insert(queue_.end(), data.begin(), data.end());
      send_more();
    } else {
      for (const std::uint8_t b : data) corrupt |= b != byte_at(id_, returned++);
      if (returned >= total_) stream_->shutdown_send();
    }
    stream_->receive();
  }
  void on_sent(int result) override {
    sending_ = false;
    if (result < 0) {
      if (result != -ECANCELED) stream_->close();
      return;
    }
    queue_.erase(queue_.begin(), queue_.begin() + result);
    send_more();
  }
  void on_closed() override {
    closed = true;
    stream_.reset();
  }

  bool closed = false;
  bool broken = false;
  bool corrupt = false;
  std::size_t returned = 0;

 private:
  void send_more() {
    if (!echo_) {
      while (produced_ < total_ && queue_.size() < 65536) queue_.push_back(byte_at(id_, produced_++));
    }
    if (sending_ || queue_.empty()) return;
    sending_ = true;
    staged_ = queue_;  // the memory stays put until on_sent()
    const std::size_t half = staged_.size() / 2;
    parts_[0] = {staged_.data(), half};
    parts_[1] = {staged_.data() + half, staged_.size() - half};
    stream_->send(parts_);
  }

  std::unique_ptr<Stream> stream_;
  std::uint64_t id_;
  std::size_t total_;
  bool echo_;
  bool sending_ = false;
  std::size_t produced_ = 0;
  std::vector<std::uint8_t> queue_;
  std::vector<std::uint8_t> staged_;
  iovec parts_[2] = {};
};

class Echo : public runtime::AcceptHandler, public runtime::ConnectHandler {
 public:
  explicit Echo(World& world) : world_(world) {}
  void on_accepted(std::unique_ptr<Stream> stream) override {
    servers.push_back(std::make_unique<Talker>(std::move(stream), 0, 0));
  }
  void on_connected(Result<std::unique_ptr<Stream>> stream) override {
    ++answered;
    if (!stream) return;
    const std::uint64_t id = clients.size() + 1;
    clients.push_back(std::make_unique<Talker>(std::move(*stream), id, 1 + world_.prng().below(200'000)));
  }

  std::vector<std::unique_ptr<Talker>> servers;
  std::vector<std::unique_ptr<Talker>> clients;
  std::size_t answered = 0;

 private:
  World& world_;
};

}  // namespace

ScenarioResult run_streams(std::uint64_t seed, const ScenarioOptions& options) {
  WorldOptions world_options;
  world_options.trace_sink = options.trace_sink;
  world_options.network.reset_per_million_segments = seed % 3 == 0 ? 2000 : 0;
  world_options.network.connect_timeout = 20s;
  World world(seed, world_options);
  SimHost& near = world.add_host("near", {"10.0.0.1"});
  SimHost& far = world.add_host("far", {"10.0.0.2"});
  SimLoop& near_loop = near.add_loop();
  SimLoop& far_loop = far.add_loop();
  Echo echo(world);
  ScenarioResult result;
  auto listener = far_loop.listen(*Endpoint::parse("10.0.0.2:7", 0), {}, echo);
  std::vector<std::unique_ptr<runtime::Connecting>> attempts;
  const std::size_t count = 1 + world.prng().below(6);
  for (std::size_t i = 0; i < count; ++i) {
    attempts.push_back(near_loop.connect(*Endpoint::parse("10.0.0.2:7", 0), {}, echo));
  }
  const bool cuts = seed % 2 == 0;
  for (int i = 0; cuts && i < 3; ++i) {
    world.run_for(Duration(static_cast<Duration::rep>(world.prng().below(200'000'000))));
    const auto span = Duration(static_cast<Duration::rep>(world.prng().below(8'000'000'000)));
    world.network().cut(near, far, span);
  }
  const auto over = [&] {
    const auto closed = [](const auto& talker) { return talker->closed; };
    return echo.answered == count && std::all_of(echo.clients.begin(), echo.clients.end(), closed) &&
           std::all_of(echo.servers.begin(), echo.servers.end(), closed);
  };
  if (!world.run_until(over, 2000s)) result.problem = "connections that never end";
  for (const auto& client : echo.clients) {
    if (client->corrupt) result.problem = "bytes came back changed";
    if (client->broken && world_options.network.reset_per_million_segments == 0) {
      result.problem = "a connection broke that nobody reset";
    }
  }
  result.trace_hash = world.trace_hash();
  result.events = world.event_count();
  near.crash(Crash::process);
  far.crash(Crash::process);
  return result;
}

}  // namespace perilune::sim
