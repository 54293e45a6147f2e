// SPDX-License-Identifier: Apache-2.0
#include "sim/machines.hpp"
#include "sim/scenarios.hpp"
#include "sim/workload.hpp"

namespace perilune::sim {

namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t disk_blocks = 512;

// Lives of a target between power failures. After each, a new initiator reads the whole disk.
class Durability {
 public:
  Durability(std::uint64_t seed, const ScenarioOptions& options, const DiskFaults& lies,
             scsi::ProtectionType protection)
      : options_(options),
        protection_(protection),
        full_(protects() && seed % 4 != 0),
        world_(seed, world_options(options)),
        prng_(world_.prng().fork()),
        pairing_(Pairing::draw(prng_)),
        target_host_(world_.add_host("target", {"10.0.0.1"})),
        initiator_host_(world_.add_host("initiator", {"10.0.0.2"})),
        history_(seed, 512, BlockCount(disk_blocks)),
        target_(world_, target_host_, options,
                [this](target::ServerConfig& config) { pairing_.apply(config); }),
        initiator_(world_, initiator_host_, options, pairing_.session()) {
    DiskOptions disk;
    disk.size_bytes = disk_blocks * (protects() ? 520 : 512);
    disk.faults = lies;
    target_host_.add_disk("/disk", disk);
    target_.protect(protection);
  }

  ScenarioResult run() {
    if (options_.narrate) options_.narrate(world_.now(), pairing_.describe());
    for (int life = 0; life < 3 && problem_.empty(); ++life) live();
    ScenarioResult result;
    result.problem = problem_;
    result.trace_hash = world_.trace_hash();
    result.events = world_.event_count();
    return result;
  }

 private:
  [[nodiscard]] bool protects() const noexcept { return protection_ != scsi::ProtectionType::none; }
  static WorldOptions world_options(const ScenarioOptions& options) {
    WorldOptions w;
    w.trace_sink = options.trace_sink;
    return w;
  }

  bool wait(const char* what, Workload* workload, const std::function<bool()>& predicate) {
    const auto failed = [&] {
      if (problem_.empty()) problem_ = target_.problem();
      if (problem_.empty()) problem_ = initiator_.problem();
      if (problem_.empty() && workload != nullptr) problem_ = workload->problem();
      return !problem_.empty();
    };
    const bool reached = world_.run_until([&] { return failed() || predicate(); }, 600s);
    if (!reached && problem_.empty()) problem_ = std::string("nothing moves: ") + what;
    return problem_.empty();
  }

  void start() {
    target_.start();
    initiator_.start();
    (void)wait("login and scan", nullptr, [&] { return initiator_.unit() != nullptr; });
  }

  void live() {
    start();
    if (!problem_.empty() || (full_ && !written_ && !write_all())) return;
    WorkloadShape shape;
    shape.blocks = disk_blocks;
    shape.total = 1'000'000;  // the power goes first
    shape.depth = static_cast<std::uint32_t>(prng_.between(1, 8));
    shape.max_blocks = 32;
    shape.writes = 70;
    shape.flushes = 15;
    if (full_) shape.zeroes = 0;
    Workload& workload = add_workload(shape);
    workload.use(*initiator_.unit());
    const std::uint64_t mark = 5 + prng_.below(80);
    if (!wait("I/O", &workload, [&] { return workload.ended() >= mark; })) return;
    lose_power(workload);
    start();
    if (!problem_.empty()) return;
    WorkloadShape reading;
    reading.blocks = disk_blocks;
    reading.torn_reads_fail = protects();
    reading.blocks_may_be_blank = protects() && !full_;
    Workload& reader = add_workload(reading);
    reader.use(*initiator_.unit());
    reader.verify();
    if (!wait("reading after the power loss", &reader, [&] { return reader.verified(); })) return;
    if (options_.narrate) options_.narrate(world_.now(), std::to_string(reader.torn()) + " blocks were torn");
    reader.rewrite_torn();
    if (!wait("writing what was torn", &reader, [&] { return reader.rewritten(); })) return;
    initiator_.crash();
    target_.crash(Crash::process);
  }

  // So that every block has protection information from the beginning.
  bool write_all() {
    written_ = true;
    WorkloadShape shape;
    shape.blocks = disk_blocks;
    shape.depth = 32;
    Workload& writer = add_workload(shape);
    writer.use(*initiator_.unit());
    writer.rewrite_all();
    return wait("writing everything once", &writer, [&] { return writer.rewritten(); });
  }

  Workload& add_workload(const WorkloadShape& shape) {
    return *workloads_.emplace_back(std::make_unique<Workload>(world_, history_, shape));
  }

  void lose_power(Workload& workload) {
    target_.crash(Crash::power);
    initiator_.crash();
    workload.lost();
    history_.power_lost();
    history_.settle_failed();
  }

  ScenarioOptions options_;
  scsi::ProtectionType protection_;
  bool full_;  // no block is ever without protection information
  bool written_ = false;
  World world_;
  Prng prng_;
  Pairing pairing_;
  SimHost& target_host_;
  SimHost& initiator_host_;
  BlockHistory history_;
  std::vector<std::unique_ptr<Workload>> workloads_;  // they outlive the ghosts of the initiator
  TargetMachine target_;
  InitiatorMachine initiator_;
  std::string problem_;
};

}  // namespace

namespace {

// Each seed one type.
ScenarioResult protected_run(std::uint64_t seed, const ScenarioOptions& options, const DiskFaults& lies) {
  return Durability(seed, options, lies, static_cast<scsi::ProtectionType>(1 + seed % 3)).run();
}

}  // namespace

ScenarioResult run_durability(std::uint64_t seed, const ScenarioOptions& options) {
  return run_durability_with(seed, options, {});
}

ScenarioResult run_durability_with(std::uint64_t seed, const ScenarioOptions& options,
                                   const DiskFaults& lies) {
  return Durability(seed, options, lies, scsi::ProtectionType::none).run();
}

ScenarioResult run_protection(std::uint64_t seed, const ScenarioOptions& options) {
  return protected_run(seed, options, {});
}

ScenarioResult run_protection_with(std::uint64_t seed, const ScenarioOptions& options,
                                   const DiskFaults& lies) {
  return protected_run(seed, options, lies);
}

}  // namespace perilune::sim
