// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "runtime/sim/network.hpp"
#include "sim/machines.hpp"
#include "sim/patience.hpp"
#include "sim/scenarios.hpp"
#include "sim/workload.hpp"

namespace perilune::sim {

namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t disk_blocks = 2048;
constexpr Duration patience = 900s;  // virtual, for anything that must happen

Duration between(Prng& prng, Duration least, Duration most) {
  const auto span = static_cast<std::uint64_t>((most - least).count());
  return least + Duration(static_cast<Duration::rep>(prng.below(span + 1)));
}

// What kind of a world it is, by the seed.
struct Weather {
  bool patient = true;  // sessions hold I/O for ever and no operation may fail; else the defaults of people
  bool bad_network = false;   // connections break by themselves, attempts are refused or lost
  bool bad_disk = false;      // I/O errors
  bool page_cache = false;    // in front of the disk: what is in it is answered at once
  std::uint64_t clients = 1;  // sessions that work on the same blocks
  Duration disk_latency{};    // slow disks are still at work when the next session begins
  std::uint32_t shards =
      1;  // of the target; with two, sessions move between loops and reinstate each other across them

  [[nodiscard]] bool tolerant() const noexcept { return !patient || bad_disk; }
  [[nodiscard]] std::string describe() const {
    return "weather patient=" + std::to_string(patient) + " bad_network=" + std::to_string(bad_network) +
           " bad_disk=" + std::to_string(bad_disk) + " page_cache=" + std::to_string(page_cache) +
           " clients=" + std::to_string(clients) + " shards=" + std::to_string(shards) + " ";
  }
  [[nodiscard]] static Weather draw(std::uint64_t seed) {
    Prng prng(seed ^ 0x77656174686572ULL);
    Weather w;
    w.patient = !prng.chance(1, 4);
    w.bad_network = prng.chance(1, 3);
    w.bad_disk = prng.chance(1, 5);
    w.clients = prng.coin() ? 1 : prng.between(2, 3);
    static constexpr Duration latencies[] = {50us, 500us, 20ms};
    w.disk_latency = latencies[prng.below(std::size(latencies))];
    if (prng.coin()) {
      w.shards = 2;
      w.clients =
          std::max<std::uint64_t>(w.clients, 2);  // so that one lives on the shard that does not accept
    }
    w.page_cache = prng.chance(1, 3);
    return w;
  }
};

struct Client {
  Client(World& world, BlockHistory& history, const ScenarioOptions& options, std::uint64_t number,
         const WorkloadShape& shape, initiator::SessionConfig config)
      : host(world.add_host("initiator" + std::to_string(number), {"10.0.1." + std::to_string(number)})),
        workload(world, history, shape),
        machine(world, host, options, std::move(config)) {}
  SimHost& host;
  Workload workload;  // outlives the machine's ghosts
  InitiatorMachine machine;
};

class Recovery {
 public:
  Recovery(std::uint64_t seed, const ScenarioOptions& options)
      : options_(options),
        weather_(Weather::draw(seed)),
        world_(seed, world_options(options, weather_)),
        prng_(world_.prng().fork()),
        pairing_(Pairing::draw(prng_)),
        target_host_(world_.add_host("target", {"10.0.0.1"})),
        disk_(target_host_.add_disk("/disk", disk_options(weather_))),
        history_(seed, 512, BlockCount(disk_blocks)),
        target_(
            world_, target_host_, options, [this](target::ServerConfig& config) { pairing_.apply(config); },
            weather_.shards) {
    for (std::uint64_t i = 1; i <= weather_.clients; ++i) {
      // One after the other: the order in which arguments draw from the seed differs between compilers.
      const WorkloadShape work = shape();
      initiator::SessionConfig config = session(i);
      clients_.push_back(std::make_unique<Client>(world_, history_, options, i, work, std::move(config)));
    }
  }

  ScenarioResult run() {
    if (options_.narrate) options_.narrate(world_.now(), weather_.describe() + pairing_.describe());
    target_.start();
    for (auto& client : clients_) client->machine.start();
    for (auto& client : clients_) bring_up(*client);
    work();
    finish();
    ScenarioResult result;
    result.problem = problem_;
    result.trace_hash = world_.trace_hash();
    result.events = world_.event_count();
    return result;
  }

 private:
  static WorldOptions world_options(const ScenarioOptions& options, const Weather& weather) {
    WorldOptions w;
    w.trace_sink = options.trace_sink;
    if (weather.bad_network) {
      w.network.reset_per_million_segments = 300;
      w.network.refuse_per_million_connects = 100'000;
      w.network.lose_per_million_connects = 50'000;
    }
    return w;
  }
  static DiskOptions disk_options(const Weather& weather) {
    DiskOptions options;
    options.size_bytes = disk_blocks * 512;
    options.short_per_million = 20'000;
    options.latency_mean = weather.disk_latency;
    options.can_direct = !weather.page_cache;
    if (weather.bad_disk) {
      options.faults.read_error_per_million = 3000;
      options.faults.write_error_per_million = 3000;
      options.faults.no_space_per_million = 3000;
      options.faults.sync_error_per_million = 20'000;
    }
    return options;
  }
  WorkloadShape shape() {
    WorkloadShape s;
    s.blocks = disk_blocks;
    s.total = 100 + prng_.below(200);
    s.depth = static_cast<std::uint32_t>(prng_.between(1, 16));
    s.max_blocks = static_cast<std::uint32_t>(prng_.between(1, 256));
    s.tolerant = weather_.tolerant();
    return s;
  }
  initiator::SessionConfig session(std::uint64_t number) {
    initiator::SessionConfig config = pairing_.session();
    config.initiator_name += std::to_string(number);
    config.isid = initiator::stable_isid(config.initiator_name, "default", target_name);
    config.default_time2wait = prng_.coin() ? 0 : 2;
    if (!weather_.patient) {
      config.replacement_timeout = 120s;
      config.command_timeout = 30s;
    }
    return config;
  }

  [[nodiscard]] bool failed() {
    if (problem_.empty()) problem_ = target_.problem();
    for (auto& client : clients_) {
      if (problem_.empty()) problem_ = client->machine.problem();
      if (problem_.empty()) problem_ = client->workload.problem();
    }
    return !problem_.empty();
  }
  void bring_up(Client& client) {
    block::Channel* unit = patience_.bring_up(client.machine);
    if (unit == nullptr) return;
    // A login that reinstates its session is answered when nothing of the old one is under way any more.
    // (What another session gave up is not covered by that.)
    if (!weather_.tolerant()) history_.settle_failed();
    client.workload.use(*unit);
  }

  void work() {
    const std::uint64_t misfortunes = prng_.below(6);
    for (std::uint64_t i = 0; i < misfortunes && problem_.empty(); ++i) {
      Client& observed = any_client();
      const std::uint64_t mark = observed.workload.ended() + 5 + prng_.below(60);
      if (!patience_.wait("I/O",
                          [&] { return observed.workload.ended() >= mark || observed.workload.over(); }))
        return;
      world_.run_for(between(prng_, 0ms, 3ms));
      if (!failed()) strike(any_client());
    }
    patience_.wait_for_all("I/O after the last fault", clients_,
                           [](Client& client) { return client.workload.over(); });
  }
  Client& any_client() { return *clients_[prng_.below(clients_.size())]; }

  void strike(Client& client) {
    Network& network = world_.network();
    switch (prng_.below(8)) {
      case 0:
        (void)network.reset_connections(target_host_, client.host);
        break;
      case 1:
        client.machine.drop_connection();
        break;
      case 2:
        network.cut(target_host_, client.host, between(prng_, 1ms, 3s));
        break;
      case 3:
        network.cut(target_host_, client.host, between(prng_, 3s, 60s));
        break;
      case 4:
        crash_target(Crash::process);
        break;
      case 5:
        crash_target(Crash::power);
        break;
      case 6:
        crash_initiator(client);
        break;
      case 7:  // one misfortune on top of another
        network.cut(target_host_, client.host, between(prng_, 1ms, 10s));
        crash_target(Crash::process);
        break;
    }
  }

  void crash_target(Crash kind) {
    target_.crash(kind);
    if (kind == Crash::power) history_.power_lost();
    if (weather_.bad_disk) history_.distrust_cache();
    history_.settle_failed();
    world_.run_for(between(prng_, 0ms, 8s));
    target_.start();
  }

  void crash_initiator(Client& client) {
    client.machine.crash();
    client.workload.lost();
    if (prng_.coin()) world_.run_for(between(prng_, 0ms, 2s));
    client.machine.start();
    bring_up(client);
  }

  void finish() {
    if (!problem_.empty()) return;
    disk_.faults() = {};
    for (auto& client : clients_) client->workload.verify();
    if (!patience_.wait_for_all("the last reading", clients_,
                                [](Client& client) { return client.workload.verified(); }))
      return;
    for (auto& client : clients_) client->machine.logout();
    if (!patience_.wait_for_all("logout", clients_,
                                [](Client& client) { return client.machine.logged_out(); }))
      return;
    if (!patience_.wait("the return of all payload memory", [&] { return target_.pool_is_whole(); })) return;
    target_.stop();
    const bool stopped = world_.run_until([&] { return target_.stopped(); }, patience);
    if (!stopped) problem_ = "the target does not stop";
    // An orderly stop flushes, or says that it could not: what is on stable media is what an initiator would
    // read.
    if (!target_.problem().empty()) {
      if (!weather_.bad_disk) problem_ = target_.problem();
      return;
    }
    // A sync that failed may have lost what reads still showed: then only what is known to be durable must be
    // there.
    if (weather_.bad_disk) history_.power_lost();
    std::vector<std::uint8_t> media(disk_blocks * 512);
    disk_.read_durable(ByteOffset(0), media);
    if (problem_.empty()) problem_ = history_.check(Lba(0), media);
  }

  ScenarioOptions options_;
  Weather weather_;
  World world_;
  Prng prng_;
  Pairing pairing_;
  SimHost& target_host_;
  SimDisk& disk_;
  BlockHistory history_;
  TargetMachine target_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::string problem_;
  Patience patience_{world_, problem_, [this] { return failed(); }, patience};
};

}  // namespace

ScenarioResult run_recovery(std::uint64_t seed, const ScenarioOptions& options) {
  return Recovery(seed, options).run();
}

}  // namespace perilune::sim
