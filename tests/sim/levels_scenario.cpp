// SPDX-License-Identifier: Apache-2.0
// Our initiator against our target at recovery levels 0 to 2, with one to four connections in a session,
// while connections are cut, reset, dropped, added and removed and bits of what they carry are flipped (with
// digests, so that it is noticed).
//
// Two judges. The BlockHistory says whether what is read may have been there. Counters say how often a
// command was carried out: each is a block of its own that COMPARE AND WRITE increments, so that an increment
// that was carried out twice, or answered and not carried out, makes the next one miscompare. At level 2
// every increment must be answered; below, one whose connection was lost may have been carried out or not,
// and a read tells which.
#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "runtime/sim/network.hpp"
#include "sim/machines.hpp"
#include "sim/patience.hpp"
#include "sim/scenarios.hpp"
#include "sim/workload.hpp"

namespace perilune::sim {

namespace {

using namespace std::chrono_literals;
using initiator::ScsiRequest;

constexpr std::uint64_t data_blocks = 1024;
constexpr std::uint32_t counters_each = 4;
constexpr std::uint32_t increments_each = 60;
constexpr Duration patience = 1800s;  // virtual

class Counter {
 public:
  Counter(InitiatorMachine& machine, std::uint64_t block, bool must_be_answered, bool replay_safe)
      : machine_(machine), block_(block), must_be_answered_(must_be_answered), replay_safe_(replay_safe) {
    request_.done = Delegate<void(ScsiRequest&)>::to<&Counter::done>(*this);
  }
  void start() {
    write_ = false;  // what is there?
    send();
  }
  [[nodiscard]] bool over() const noexcept { return value_ == increments_each && !busy_; }
  [[nodiscard]] bool idle() const noexcept { return !busy_; }
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }

 private:
  static constexpr std::uint32_t block_bytes = 512;

  void send() {
    if (machine_.session() == nullptr) return;  // it was killed
    busy_ = true;
    request_.lun = 0;
    request_.cdb = {};
    store_be64(&request_.cdb[2], block_);
    request_.replay_safe = replay_safe_ || !write_;
    if (write_) {
      fill(0, value_);
      fill(block_bytes, value_ + 1);
      request_.cdb[0] = 0x89;
      request_.cdb[13] = 1;
      request_.direction = ScsiRequest::Direction::out;
    } else {
      request_.cdb[0] = 0x88;
      request_.cdb[13] = 1;
      request_.direction = ScsiRequest::Direction::in;
    }
    iov_ = {memory_.data(), write_ ? memory_.size() : block_bytes};
    request_.data = {&iov_, 1};
    machine_.session()->submit(request_);
  }
  void fill(std::size_t at, std::uint64_t value) {
    for (std::size_t i = at; i < at + block_bytes; i += 8) store_be64(&memory_[i], value);
  }

  void done(ScsiRequest&) {
    busy_ = false;
    if (request_.error_code) {
      lost();
    } else if (request_.status == 0) {
      write_ ? answered() : was_read();
    } else if (request_.status == 2 && request_.sense_length > 2 && (request_.sense[2] & 0xf) == 6) {
      send();  // unit attention: not carried out
    } else if (request_.status == 8 || request_.status == 0x28) {
      send();
    } else {
      fail("an increment from " + std::to_string(value_) + " ends with status " +
           std::to_string(request_.status) + " and sense key " + std::to_string(request_.sense[2] & 0xf) +
           ": carried out twice, or an earlier one never");
    }
  }
  void lost() {
    if (must_be_answered_) {
      fail("a command was not answered at level 2 (error " +
           std::to_string(static_cast<int>(*request_.error_code)) + ")");
      return;
    }
    maybe_more_ = maybe_more_ || write_;
    write_ = false;
    send();
  }
  void answered() {
    ++value_;
    if (value_ < increments_each) send();
  }
  void was_read() {
    const std::uint64_t there = load_be64(memory_.data());
    if (there != value_ && !(maybe_more_ && there == value_ + 1)) {
      fail("a counter that stands at " + std::to_string(value_) + " reads as " + std::to_string(there));
      return;
    }
    value_ = there;
    maybe_more_ = false;
    write_ = true;
    if (value_ < increments_each) send();
  }
  void fail(const std::string& what) {
    if (problem_.empty()) problem_ = "counter " + std::to_string(block_) + ": " + what;
  }

  InitiatorMachine& machine_;
  std::uint64_t block_;
  bool must_be_answered_, replay_safe_;
  ScsiRequest request_;
  std::array<std::uint8_t, 2 * block_bytes> memory_{};
  iovec iov_{};
  std::uint64_t value_ = 0;
  bool write_ = false;
  bool maybe_more_ = false;  // an increment was lost: it may have been carried out
  bool busy_ = false;
  std::string problem_;
};

struct Client {
  Client(World& world, BlockHistory& history, const ScenarioOptions& options, std::uint64_t number,
         const WorkloadShape& shape, initiator::SessionConfig config)
      : host(world.add_host("initiator" + std::to_string(number), {"10.0.1." + std::to_string(number)})),
        workload(world, history, shape),
        machine(world, host, options, std::move(config)) {}
  SimHost& host;
  Workload workload;
  std::vector<std::unique_ptr<Counter>> counters;
  InitiatorMachine machine;
};

class Levels {
 public:
  Levels(std::uint64_t seed, const ScenarioOptions& options, PlantedFault planted)
      : options_(options),
        planted_(planted),
        weather_(seed ^ 0x6c6576656c73ULL),
        world_(seed, world_options()),
        prng_(world_.prng().fork()),
        pairing_(pairing()),
        target_host_(world_.add_host("target", {"10.0.0.1"})),
        history_(seed, 512, BlockCount(data_blocks)),
        target_(world_, target_host_, options,
                [this](target::ServerConfig& config) { pairing_.apply(config); }) {
    DiskOptions disk;
    disk.size_bytes = (data_blocks + 3 * counters_each) * 512;
    target_host_.add_disk("/disk", disk);
    const std::uint64_t count = prng_.between(1, 2);
    for (std::uint64_t i = 1; i <= count; ++i) {
      const WorkloadShape work = shape();
      initiator::SessionConfig config = pairing_.session();
      config.initiator_name += std::to_string(i);
      config.isid = initiator::stable_isid(config.initiator_name, "default", target_name);
      clients_.push_back(std::make_unique<Client>(world_, history_, options, i, work, std::move(config)));
      Client& client = *clients_.back();
      for (std::uint64_t k = 0; k < counters_each; ++k) {
        client.counters.push_back(std::make_unique<Counter>(client.machine,
                                                            data_blocks + (i - 1) * counters_each + k,
                                                            strict(), planted == PlantedFault::replays_all));
      }
    }
  }

  LevelsResult run() {
    if (options_.narrate) options_.narrate(world_.now(), pairing_.describe());
    target_.start();
    for (auto& client : clients_) client->machine.start();
    for (auto& client : clients_) bring_up(*client);
    work();
    LevelsResult result;
    count(result);
    finish();
    result.problem = problem_;
    result.trace_hash = world_.trace_hash();
    result.events = world_.event_count();
    return result;
  }

 private:
  [[nodiscard]] bool strict() const noexcept { return pairing_.recovery_level == 2; }

  WorldOptions world_options() {
    WorldOptions w;
    w.trace_sink = options_.trace_sink;
    if (weather_.chance(2, 3))
      w.network.flip_per_million_segments = static_cast<std::uint32_t>(weather_.between(200, 4000));
    if (planted_ == PlantedFault::no_digests) w.network.flip_per_million_segments = 4000;
    if (weather_.coin())
      w.network.reset_per_million_segments = static_cast<std::uint32_t>(weather_.between(20, 400));
    return w;
  }
  Pairing pairing() {
    Pairing p = Pairing::draw(prng_);
    p.header_digest = p.data_digest = planted_ != PlantedFault::no_digests;
    p.recovery_level = static_cast<std::uint8_t>(prng_.below(3));
    if (planted_ == PlantedFault::replays_all) p.recovery_level = 0;
    p.connections = static_cast<std::uint16_t>(prng_.between(1, 4));
    p.time2wait = prng_.coin() ? 0 : 1;
    p.time2retain = 120;
    // So that no task is given up for want of memory.
    p.spare_buffer_pages = 8192;
    return p;
  }
  WorkloadShape shape() {
    WorkloadShape s;
    s.blocks = data_blocks;
    s.total = 100 + prng_.below(150);
    s.depth = static_cast<std::uint32_t>(prng_.between(1, 12));
    s.max_blocks = static_cast<std::uint32_t>(prng_.between(8, 256));
    s.tolerant = !strict();
    return s;
  }

  bool failed() {
    if (problem_.empty()) problem_ = target_.problem();
    for (auto& client : clients_) {
      if (problem_.empty()) problem_ = client->workload.problem();
      for (auto& counter : client->counters) {
        if (problem_.empty()) problem_ = counter->problem();
      }
    }
    return !problem_.empty();
  }
  void bring_up(Client& client) {
    block::Channel* unit = patience_.bring_up(client.machine);
    if (unit == nullptr) return;
    client.workload.use(*unit);
    for (auto& counter : client.counters) counter->start();
  }

  [[nodiscard]] static bool over(Client& client) {
    return client.workload.over() && std::all_of(client.counters.begin(), client.counters.end(),
                                                 [](auto& counter) { return counter->over(); });
  }

  void work() {
    const std::uint64_t misfortunes = 2 + prng_.below(8);
    for (std::uint64_t i = 0; i < misfortunes && problem_.empty(); ++i) {
      Client& observed = any_client();
      const std::uint64_t mark = observed.workload.ended() + 3 + prng_.below(30);
      if (!patience_.wait("I/O", [&] { return observed.workload.ended() >= mark || over(observed); })) return;
      world_.run_for(Duration(static_cast<Duration::rep>(prng_.below(3'000'000))));
      if (!failed()) strike(any_client());
    }
    patience_.wait_for_all("I/O after the last fault", clients_, [](Client& client) { return over(client); });
  }
  Client& any_client() { return *clients_[prng_.below(clients_.size())]; }

  void strike(Client& client) {
    Network& network = world_.network();
    switch (prng_.below(6)) {
      case 0:
        (void)network.reset_connections(target_host_, client.host);
        break;
      case 1:
      case 2:
        client.machine.drop_connection();
        break;
      case 3:
        network.cut(target_host_, client.host,
                    1ms + Duration(static_cast<Duration::rep>(prng_.below(5'000'000'000))));
        break;
      default: {
        const auto count = static_cast<std::uint16_t>(prng_.between(1, 4));
        client.machine.loop()->post([&client, count] { client.machine.session()->set_connections(count); });
        break;
      }
    }
  }

  void count(LevelsResult& result) {
    for (auto& client : clients_) {
      if (client->machine.session() == nullptr) continue;
      const auto s = client->machine.session()->statistics();
      result.snacks += s.snack_pdus;
      result.reassigned += s.reassigned_commands;
      result.retransmitted += s.retransmitted_commands;
      result.recovered_connections += s.recovered_connections;
      result.reconnects += s.reconnects;
      if (options_.narrate) {
        options_.narrate(world_.now(), "snacks " + std::to_string(s.snack_pdus) + " digest errors " +
                                           std::to_string(s.digest_err) + " reassigned " +
                                           std::to_string(s.reassigned_commands) + " retransmitted " +
                                           std::to_string(s.retransmitted_commands) + " recovered " +
                                           std::to_string(s.recovered_connections) + " failures " +
                                           std::to_string(s.connection_failures) + " reconnects " +
                                           std::to_string(s.reconnects) + " replays " +
                                           std::to_string(s.replayed_commands));
      }
      if (!strict() || !problem_.empty()) continue;
      if (s.reconnects != 0) problem_ = "a session of level 2 was not recovered but made anew";
      if (s.replayed_commands != 0) problem_ = "a command of level 2 was not recovered but sent anew";
    }
  }

  void finish() {
    if (!problem_.empty()) return;
    for (auto& client : clients_) client->workload.verify();
    if (!patience_.wait_for_all("the last reading", clients_,
                                [](Client& client) { return client.workload.verified(); }))
      return;
    for (auto& client : clients_) client->machine.logout();
    if (!patience_.wait_for_all("logout", clients_,
                                [](Client& client) { return client.machine.logged_out(); }))
      return;
    patience_.wait("the return of all payload memory", [&] { return target_.pool_is_whole(); });
  }

  ScenarioOptions options_;
  PlantedFault planted_;
  Prng weather_;
  World world_;
  Prng prng_;
  Pairing pairing_;
  SimHost& target_host_;
  BlockHistory history_;
  TargetMachine target_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::string problem_;
  Patience patience_{world_, problem_, [this] { return failed(); }, patience};
};

}  // namespace

LevelsResult run_levels_with(std::uint64_t seed, const ScenarioOptions& options, PlantedFault planted) {
  return Levels(seed, options, planted).run();
}

ScenarioResult run_levels(std::uint64_t seed, const ScenarioOptions& options) {
  return run_levels_with(seed, options, PlantedFault::none);
}

}  // namespace perilune::sim
