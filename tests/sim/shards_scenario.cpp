// SPDX-License-Identifier: Apache-2.0
// Two or three shards of a process, each with its loop and its way to the disk, serve one unit: messages,
// turns and disk operations take the time that the seed gives them.
#include <algorithm>
#include <optional>

#include "runtime/sim/sim_host.hpp"
#include "scsi/shard_load.hpp"
#include "sim/machines.hpp"
#include "sim/scenarios.hpp"

namespace perilune::sim {

namespace {

using namespace std::chrono_literals;
using scsi::test::CountingChannel;
using scsi::test::Io;
using scsi::test::LoadBoard;
using scsi::test::ShardLoad;

constexpr const char* disk_path = "/disk";

class Sharded {
 public:
  Sharded(std::uint64_t seed, const ScenarioOptions& options, ShardsFault planted)
      : world_(seed, world_options(options)),
        host_(world_.add_host("target", {"10.0.0.1"})),
        planted_(planted) {
    DiskOptions disk;
    disk.size_bytes = 64 * 512;
    disk.can_direct = seed % 2 == 0;
    host_.add_disk(disk_path, disk);
  }
  ~Sharded() { host_.crash(Crash::process); }

  ShardsResult run() {
    ShardsResult result;
    result.problem = live();
    if (!shards_.empty()) {
      result.protections = shards_.front()->load->fences();
      result.shut_out = shards_.front()->load->shut_out();
      result.shut_out_by_operator = shards_.front()->load->shut_out_by_operator();
    }
    result.trace_hash = world_.trace_hash();
    result.events = world_.event_count();
    return result;
  }

 private:
  struct Link final : scsi::ShardLink {
    Link(Sharded& owner, std::uint32_t me) : all(owner), shard(me) {}
    [[nodiscard]] std::uint32_t self() const noexcept override { return shard; }
    [[nodiscard]] std::uint32_t shards() const noexcept override { return all.count_; }
    void send(std::uint32_t to, std::function<void(scsi::Device&)> work) override {
      all.loops_[to]->post([this, to, work = std::move(work)] {
        scsi::Device& device = all.shards_[to]->device;
        work(device);
        if (all.planted_ == ShardsFault::forgets_access_states && to != 0)
          forget_access_states(*device.unit(0));
      });
    }
    static void forget_access_states(scsi::LogicalUnit& unit) {
      for (const scsi::PortGroup& group : unit.port_groups().all()) {
        unit.port_groups().set_state(group.id, scsi::AccessState::active_optimized, group.cause);
      }
    }
    Sharded& all;
    std::uint32_t shard;
  };
  struct Shard {
    Shard(Sharded& all, std::uint32_t self, std::unique_ptr<block::Channel> way, std::uint64_t increments)
        : inner(std::move(way)),
          channel(*inner),
          device("iqn.2026-11.io.perilune:simulated", all.links_[self].get()) {
      PERILUNE_ASSERT(device.add_unit(0, ShardLoad::config(), channel).has_value());
      nexus.emplace(device, ShardLoad::names(("shard" + std::to_string(self)).c_str(), self));
      SimLoop& loop = *all.loops_[self];
      load.emplace(
          device, *nexus, channel, all.board_,
          [&loop](std::function<void()> work) { loop.post(std::move(work)); },
          ShardLoad::Plan{.increments = increments,
                          .own_lba = 8 + std::uint64_t{self} * 8,
                          .changes_modes = self == 0,
                          .shards = all.count_,
                          .increments_per_fence = 5});
    }
    std::unique_ptr<block::Channel> inner;
    CountingChannel channel;
    scsi::Device device;
    std::optional<scsi::Nexus> nexus;
    std::optional<ShardLoad> load;
  };

  static WorldOptions world_options(const ScenarioOptions& options) {
    WorldOptions w;
    w.trace_sink = options.trace_sink;
    return w;
  }

  std::string start() {
    Prng prng = world_.prng().fork();
    count_ = static_cast<std::uint32_t>(prng.between(2, 3));
    const std::uint64_t increments = prng.between(10, 40);
    for (std::uint32_t i = 0; i < count_; ++i) {
      loops_.push_back(&host_.add_loop());
      links_.push_back(std::make_unique<Link>(*this, i));
    }
    auto store = SimBackstore::open(*loops_[0], disk_path);
    if (!store) return store.error().message;
    store_ = std::move(*store);
    for (std::uint32_t i = 0; i < count_; ++i) {
      auto way = store_->open_channel(*loops_[i]);
      if (!way) return way.error().message;
      shards_.push_back(std::make_unique<Shard>(*this, i, std::move(*way), increments));
    }
    for (std::uint32_t i = 0; i < count_; ++i) loops_[i]->post([&load = *shards_[i]->load] { load.start(); });
    return {};
  }

  std::string live() {
    if (std::string problem = start(); !problem.empty()) return problem;
    const auto over = [&] {
      return std::all_of(shards_.begin(), shards_.end(),
                         [](const auto& shard) { return shard->load->over(); });
    };
    if (!world_.run_until(over, 3600s)) return "nothing moves";
    return judge();
  }

  std::string judge() {
    std::uint64_t writes = 0;
    std::uint64_t answered = 0;
    for (const auto& shard : shards_) {
      if (!shard->load->problem().empty()) return shard->load->problem();
      if (shard->device.tasks() != 0) return "a command was left behind";
      writes += shard->channel.writes_of_number;
      answered += shard->load->increments();
    }
    std::uint64_t number = 0;
    if (!read_number(number)) return "the number cannot be read";
    if (number != writes)
      return "an increment was lost: " + std::to_string(writes) + " written, the number is " +
             std::to_string(number);
    if (answered > writes) return "an increment was answered that was not made";
    return {};
  }

  bool read_number(std::uint64_t& number) {
    for (int tries = 0; tries < 8; ++tries) {  // unit attentions come first
      std::optional<Io> io;
      loops_[0]->post([&] {
        io.emplace(shards_[0]->device, *shards_[0]->nexus,
                   std::vector<std::uint8_t>{0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, std::vector<std::uint8_t>{},
                   512);
        io->run();
      });
      if (!world_.run_until([&] { return io && io->ended; }, 60s)) return false;
      if (io->status() != scsi::ScsiStatus::good) continue;
      number = load_be64(io->data_in().data());
      return true;
    }
    return false;
  }

  World world_;
  SimHost& host_;
  ShardsFault planted_;
  std::uint32_t count_ = 0;
  LoadBoard board_;
  std::vector<SimLoop*> loops_;
  std::vector<std::unique_ptr<Link>> links_;
  std::shared_ptr<block::Backstore> store_;
  std::vector<std::unique_ptr<Shard>> shards_;
};

}  // namespace

ShardsResult run_shards_with(std::uint64_t seed, const ScenarioOptions& options, ShardsFault planted) {
  return Sharded(seed, options, planted).run();
}

ScenarioResult run_shards(std::uint64_t seed, const ScenarioOptions& options) {
  return run_shards_with(seed, options, ShardsFault::none);
}

}  // namespace perilune::sim
