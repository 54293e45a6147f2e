// SPDX-License-Identifier: Apache-2.0
#include "runtime/sim/network.hpp"
#include "sim/machines.hpp"
#include "sim/scenarios.hpp"
#include "sim/workload.hpp"

namespace perilune::sim {

namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t disk_blocks = 2048;
constexpr Duration patience = 600s;  // virtual, for anything that must happen

// `least` to `most`.
Duration between(Prng& prng, Duration least, Duration most) {
  return least + Duration(static_cast<Duration::rep>(
                     prng.below(static_cast<std::uint64_t>((most - least).count()) + 1)));
}

DiskOptions disk_options() {
  DiskOptions options;
  options.size_bytes = disk_blocks * 512;
  options.short_per_million = 20'000;
  return options;
}

class Recovery {
 public:
  Recovery(std::uint64_t seed, const ScenarioOptions& options)
      : options_(options),
        world_(seed, world_options(options)),
        prng_(world_.prng().fork()),
        pairing_(Pairing::draw(prng_)),
        target_host_(world_.add_host("target", {"10.0.0.1"})),
        initiator_host_(world_.add_host("initiator", {"10.0.0.2"})),
        disk_(target_host_.add_disk("/disk", disk_options())),
        history_(seed, 512, BlockCount(disk_blocks)),
        workload_(world_, history_, shape()),
        target_(world_, target_host_, options,
                [this](target::ServerConfig& config) { pairing_.apply(config); }),
        initiator_(world_, initiator_host_, options, pairing_.session()) {}

  ScenarioResult run() {
    if (options_.narrate) options_.narrate(world_.now(), pairing_.describe());
    target_.start();
    initiator_.start();
    if (wait_for_unit()) {
      work();
      finish();
    }
    ScenarioResult result;
    result.problem = problem_;
    result.trace_hash = world_.trace_hash();
    result.events = world_.event_count();
    return result;
  }

 private:
  static WorldOptions world_options(const ScenarioOptions& options) {
    WorldOptions w;
    w.trace_sink = options.trace_sink;
    return w;
  }
  WorkloadShape shape() {
    WorkloadShape s;
    s.blocks = disk_blocks;
    s.total = 100 + prng_.below(200);
    s.depth = static_cast<std::uint32_t>(prng_.between(1, 16));
    s.max_blocks = static_cast<std::uint32_t>(prng_.between(1, 256));
    return s;
  }

  [[nodiscard]] bool failed() {
    for (const std::string* problem : {&target_.problem(), &initiator_.problem(), &workload_.problem()}) {
      if (problem_.empty()) problem_ = *problem;
    }
    return !problem_.empty();
  }
  bool wait(const char* what, const std::function<bool()>& predicate) {
    const bool reached = world_.run_until([&] { return failed() || predicate(); }, patience);
    if (!reached && problem_.empty()) problem_ = std::string("nothing moves: ") + what;
    return problem_.empty();
  }
  // A first login that runs into its time limit (the link is cut) is tried again, as a person would.
  bool wait_for_unit() {
    for (int attempt = 0; attempt < 10; ++attempt) {
      const auto known = [&] { return initiator_.unit() != nullptr || initiator_.failed(); };
      if (!world_.run_until(known, patience)) break;
      if (initiator_.unit() != nullptr) {
        // A login that reinstates its session is answered when nothing of the old one is under way any more.
        history_.settle_failed();
        workload_.use(*initiator_.unit());
        return true;
      }
      initiator_.crash();
      initiator_.start();
    }
    if (!failed()) problem_ = "the unit does not come up";
    return false;
  }

  void work() {
    const std::uint64_t misfortunes = prng_.below(6);
    for (std::uint64_t i = 0; i < misfortunes && problem_.empty(); ++i) {
      const std::uint64_t mark = workload_.ended() + 5 + prng_.below(60);
      if (!wait("I/O", [&] { return workload_.ended() >= mark || workload_.over(); })) return;
      world_.run_for(between(prng_, 0ms, 3ms));
      if (!failed()) strike();
    }
    wait("I/O after the last fault", [&] { return workload_.over(); });
  }

  void strike() {
    switch (prng_.below(8)) {
      case 0:
        (void)world_.network().reset_connections(target_host_, initiator_host_);
        break;
      case 1:
        initiator_.drop_connection();
        break;
      case 2:
        world_.network().cut(target_host_, initiator_host_, between(prng_, 1ms, 3s));
        break;
      case 3:
        world_.network().cut(target_host_, initiator_host_, between(prng_, 3s, 60s));
        break;
      case 4:
        crash_target(Crash::process);
        break;
      case 5:
        crash_target(Crash::power);
        break;
      case 6:
        crash_initiator();
        break;
      case 7:  // one misfortune on top of another
        world_.network().cut(target_host_, initiator_host_, between(prng_, 1ms, 10s));
        crash_target(Crash::process);
        break;
    }
  }

  void crash_target(Crash kind) {
    target_.crash(kind);
    if (kind == Crash::power) history_.power_lost();
    history_.settle_failed();
    world_.run_for(between(prng_, 0ms, 8s));
    target_.start();
  }

  void crash_initiator() {
    initiator_.crash();
    workload_.lost();
    world_.run_for(between(prng_, 0ms, 2s));
    initiator_.start();
    (void)wait_for_unit();
  }

  void finish() {
    if (!problem_.empty()) return;
    workload_.verify();
    if (!wait("the last reading", [&] { return workload_.verified(); })) return;
    initiator_.logout();
    if (!wait("logout", [&] { return initiator_.logged_out(); })) return;
    target_.stop();
    if (!wait("the target's stop", [&] { return target_.stopped(); })) return;
    // An orderly stop flushes: what is on stable media is what an initiator would read.
    std::vector<std::uint8_t> media(disk_blocks * 512);
    disk_.read_durable(ByteOffset(0), media);
    problem_ = history_.check(Lba(0), media);
    if (!problem_.empty()) problem_ = "on the media after an orderly stop: " + problem_;
  }

  ScenarioOptions options_;
  World world_;
  Prng prng_;
  Pairing pairing_;
  SimHost& target_host_;
  SimHost& initiator_host_;
  SimDisk& disk_;
  BlockHistory history_;
  Workload workload_;
  TargetMachine target_;
  InitiatorMachine initiator_;
  std::string problem_;
};

}  // namespace

ScenarioResult run_recovery(std::uint64_t seed, const ScenarioOptions& options) {
  return Recovery(seed, options).run();
}

}  // namespace perilune::sim
