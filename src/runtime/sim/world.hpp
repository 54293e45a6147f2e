// SPDX-License-Identifier: Apache-2.0
// A seeded virtual world: one clock, hosts with loops, a network and disks, all in one thread. Everything
// that happens is an event ordered by (virtual time, sequence); every choice comes from the seed; every event
// enters the trace hash. The same seed gives the same hash in every process, with every compiler and at every
// load address.
//
//   sim::World world(seed);
//   sim::SimHost& server = world.add_host("server", {"10.0.0.1"});
//   server.add_disk("/disk0", {.size_bytes = 1 << 20});
//   sim::SimLoop& loop = server.add_loop();           // give it to the code under test as a runtime::Loop
//   ...
//   ASSERT_TRUE(world.run_until([&] { return done; }, std::chrono::seconds(60)));
//   server.crash(sim::Crash::power);                  // then destroy the objects that lived on `loop`
//   sim::SimLoop& again = server.add_loop();          // the restarted process
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/buggify.hpp"
#include "runtime/sim/prng.hpp"
#include "runtime/sim/trace.hpp"
#include "runtime/time.hpp"

namespace perilune::sim {

using runtime::Duration;
using runtime::Instant;

class Network;
class SimHost;
class SimLoop;

// What kind of event, as it enters the trace.
enum class Event : std::uint8_t {
  turn = 1,
  callback,
  network_send,
  network_deliver,
  network_retry,
  network_reset,
  connect,
  connect_answer,
  accept,
  disk_submit,
  disk_apply,
  disk_complete,
  disk_crash,
  record,
  crash,
  restart,
  buggify,
  user,
};

struct NetworkOptions {
  // Each pair of hosts draws its least latency between these two from the seed; each segment adds jitter.
  Duration latency_min{std::chrono::microseconds(10)};
  Duration latency_max{std::chrono::milliseconds(2)};
  std::uint64_t bandwidth_min_bytes_per_s = 2'000'000;
  std::uint64_t bandwidth_max_bytes_per_s = 2'000'000'000;
  std::uint32_t reset_per_million_segments = 0;
  // One bit of them is another than was sent. Not in the first bytes of a direction, where logins are.
  std::uint32_t flip_per_million_segments = 0;
  std::uint64_t flip_after_bytes = 16384;
  std::uint32_t refuse_per_million_connects = 0;
  std::uint32_t lose_per_million_connects = 0;          // the attempt runs into its timeout
  Duration connect_timeout{std::chrono::seconds(127)};  // what Linux does with its six SYN retries
  Duration default_user_timeout{std::chrono::seconds(924)};
  Duration keepalive_time{
      std::chrono::seconds(30)};  // until a connection to a host that lost power is found dead
};

struct LoopOptions {
  Duration max_turn_delay{std::chrono::microseconds(20)};
  std::uint32_t stall_per_million_turns = 500;
  Duration max_stall{std::chrono::milliseconds(20)};
};

struct WorldOptions {
  NetworkOptions network;
  LoopOptions loop;
  bool buggify = true;
  // Called with every event when set; for a person who looks for the first difference of two traces.
  std::function<void(Instant, Event, std::uint64_t detail, std::uint64_t hash)> trace_sink;
};

// One thread. Of several worlds on a thread the newest answers sim_maybe.
// Before it dies, the hosts are crashed and what lived on their loops is destroyed.
class World final : private runtime::BuggifyHook {
 public:
  explicit World(std::uint64_t seed, WorldOptions options = {});
  ~World() override;
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // addresses: numeric, without port. The host lives as long as the world.
  SimHost& add_host(std::string name, std::initializer_list<std::string_view> addresses);

  [[nodiscard]] Instant now() const noexcept { return now_; }
  // Runs the next event; false when nothing will ever happen again.
  bool step();
  // Steps until predicate() holds (true), or until `limit` of virtual time has gone by or nothing is left
  // (false).
  bool run_until(const std::function<bool()>& predicate, Duration limit);
  void run_for(Duration span);

  // Runs `work` after `delay`, outside every loop's turn: for faults, crashes and restarts written by a test.
  // Not bound to any host; what it captures must outlive it.
  void at(Duration delay, Event event, std::uint64_t detail, std::function<void()> work);
  void after(Duration delay, std::function<void()> work) { at(delay, Event::user, 0, std::move(work)); }
  // Enters a fact into the trace.
  void note(Event event, std::uint64_t detail);

  [[nodiscard]] std::uint64_t seed() const noexcept { return seed_; }
  [[nodiscard]] std::uint64_t trace_hash() const noexcept { return trace_.value(); }
  [[nodiscard]] std::uint64_t event_count() const noexcept { return events_; }
  [[nodiscard]] Prng& prng() noexcept { return prng_; }
  [[nodiscard]] Network& network() noexcept { return *network_; }
  [[nodiscard]] const WorldOptions& options() const noexcept { return options_; }
  [[nodiscard]] const std::vector<std::unique_ptr<SimHost>>& hosts() const noexcept { return hosts_; }

 private:
  friend class SimLoop;
  struct Scheduled {
    Instant time;
    std::uint64_t sequence;
    Event event;
    std::uint64_t detail;
    std::function<void()> work;
  };
  static bool later(const Scheduled& a, const Scheduled& b) noexcept;
  [[nodiscard]] SimLoop* next_timer_loop(Instant& deadline) const;
  bool fires(const char* place) override;

  std::uint64_t seed_;
  WorldOptions options_;
  Prng prng_;
  Prng buggify_prng_;
  TraceHash trace_;
  Instant now_{std::chrono::seconds(1000)};  // not zero: a default-made Instant is in the past
  std::uint64_t events_ = 0;
  std::uint64_t next_sequence_ = 0;
  std::vector<Scheduled> queue_;  // a heap
  std::unique_ptr<Network> network_;
  std::vector<std::unique_ptr<SimHost>> hosts_;
  std::vector<SimLoop*> live_loops_;
};

}  // namespace perilune::sim
