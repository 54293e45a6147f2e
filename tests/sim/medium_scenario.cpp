// SPDX-License-Identifier: Apache-2.0
// Two or three shards of a process, each with its loop and its way to the disk, serve one removable disk:
// what is done to its medium as a whole (SANITIZE, FORMAT UNIT, its tray, another one that the operator puts
// in) and ROD tokens, under load, in the time that the seed gives it all.
#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "runtime/sim/sim_host.hpp"
#include "scsi/medium_load_test.hpp"
#include "sim/machines.hpp"
#include "sim/scenarios.hpp"

namespace perilune::sim {

namespace {

using namespace std::chrono_literals;
using scsi::test::MediumBoard;
using scsi::test::MediumLoad;
using scsi::test::WatchedChannel;

const std::string disk_path = "/disk";

// Spoils a device after a message has arrived there, so that it is wrong as the planted fault says.
class Spoiler {
 public:
  explicit Spoiler(MediumFault planted) : planted_(planted) {}
  void after_message(std::uint32_t shard, scsi::Device& device) {
    switch (planted_) {
      case MediumFault::none:
      case MediumFault::keeps_blocks:
      case MediumFault::answers_early:
      case MediumFault::operator_leaves_it:
        return;
      case MediumFault::forgets_who_prevents:
        if (shard == 0) return forget_who_prevents(*device.unit(0));
        return;
      case MediumFault::deleted_tokens_return:
        return bring_tokens_back(shard, *device.tokens());
    }
  }

 private:
  static void forget_who_prevents(scsi::LogicalUnit& unit) {
    scsi::LogicalUnit::Value value = unit.value();
    if (value.preventing.empty()) return;
    value.preventing.clear();
    unit.adopt(value);
  }
  // What was deleted on another shard is learned anew. The maker is shard 1, which numbers its tokens from
  // one.
  void bring_tokens_back(std::uint32_t shard, scsi::RodTokens& tokens) {
    if (shard == 1) return;
    auto& known = known_[shard];
    for (std::uint64_t number = 1; number <= known.size() + 1; ++number) {
      const std::uint64_t identifier = std::uint64_t{1} << 48 | number;
      if (const scsi::RodToken* token = tokens.find(identifier, 0)) {
        known.insert_or_assign(number, *token);
      } else if (const auto place = known.find(number); place != known.end()) {
        tokens.learn(place->second, 0);
      }
    }
  }
  MediumFault planted_;
  std::map<std::uint32_t, std::map<std::uint64_t, scsi::RodToken>> known_;
};

// Media that the operator has beside the first, blank and of the same size.
constexpr std::size_t spare_media = 3;
std::string path_of_spare(std::size_t number) { return disk_path + std::to_string(number); }

class SharedMedium {
 public:
  SharedMedium(std::uint64_t seed, const ScenarioOptions& options, MediumFault planted)
      : world_(seed, world_options(options)),
        host_(world_.add_host("target", {"10.0.0.1"})),
        planted_(planted),
        spoiler_(planted) {
    DiskOptions disk;
    disk.size_bytes = scsi::test::medium_load_blocks * 512;
    host_.add_disk(disk_path, disk);
    for (std::size_t i = 0; i < spare_media; ++i) host_.add_disk(path_of_spare(i), disk);
  }
  ~SharedMedium() {
    operator_.reset();
    host_.crash(Crash::process);
  }

  MediumResult run() {
    MediumResult result;
    result.problem = live();
    for (const auto& shard : shards_) {
      const MediumLoad::Seen& seen = shard->load->seen();
      result.wipes += seen.wipes;
      result.ejects += seen.ejects;
      result.prevented += seen.prevented;
      result.tokens_used += seen.tokens_used;
      result.deleted_refused += seen.deleted_refused;
      result.told_of_medium += seen.told_of_medium;
    }
    result.changes = operator_->changes;
    result.changes_refused = operator_->refused;
    result.trace_hash = world_.trace_hash();
    result.events = world_.event_count();
    return result;
  }

 private:
  struct Link final : scsi::ShardLink {
    Link(SharedMedium& owner, std::uint32_t me) : all(owner), shard(me) {}
    [[nodiscard]] std::uint32_t self() const noexcept override { return shard; }
    [[nodiscard]] std::uint32_t shards() const noexcept override { return all.count_; }
    void send(std::uint32_t to, std::function<void(scsi::Device&)> work) override {
      all.loops_[to]->post([this, to, work = std::move(work)] {
        scsi::Device& device = all.shards_[to]->device;
        work(device);
        all.spoiler_.after_message(to, device);
      });
    }
    SharedMedium& all;
    std::uint32_t shard;
  };
  struct Shard {
    Shard(SharedMedium& all, std::uint32_t self, std::unique_ptr<block::Channel> way, std::uint32_t rounds)
        : inner(std::move(way)),
          channel(*inner, all.board_),
          device("iqn.2026-11.io.perilune:simulated", all.links_[self].get()) {
      channel.keeps_blocks = all.planted_ == MediumFault::keeps_blocks;
      channel.answers_early = all.planted_ == MediumFault::answers_early && self != 0;
      device.set_clock(Delegate<std::uint64_t()>::to<&Shard::clock>(*this));
      device.set_token_key({0x1a, 0xb2});
      PERILUNE_ASSERT(device.add_unit(0, MediumLoad::config(), channel).has_value());
      nexus.emplace(device, scsi::test::Rig::names(("shard" + std::to_string(self)).c_str()));
      SimLoop& loop = *all.loops_[self];
      load.emplace(
          device, *nexus, channel, all.board_,
          [&loop](std::function<void()> work) { loop.post(std::move(work)); },
          MediumLoad::Plan{.self = self, .wipes = rounds, .ejects = rounds});
    }
    std::uint64_t clock() { return 1'000'000; }
    void put_in(std::unique_ptr<block::Channel> medium) {
      channel.lead_to(*medium);
      before.push_back(std::exchange(inner, std::move(medium)));
      PERILUNE_ASSERT(device.unit(0)->put_medium_in(&channel, nullptr).has_value());
    }
    std::vector<std::unique_ptr<block::Channel>> before;  // media that are out
    std::unique_ptr<block::Channel> inner;
    WatchedChannel channel;
    scsi::Device device;
    std::optional<scsi::Nexus> nexus;
    std::optional<MediumLoad> load;
  };

  // Who puts in another medium now and then, as target::Server does it for the operator, from the loop of the
  // first shard.
  class Operator {
   public:
    explicit Operator(SharedMedium& owner)
        : all(owner), timer_(owner.loops_[0]->timers(), Delegate<void()>::to<&Operator::look>(*this)) {
      wait();
    }
    [[nodiscard]] bool idle() const { return !busy_; }
    std::uint64_t changes = 0, refused = 0;

   private:
    void wait() { timer_.arm(all.loops_[0]->now() + 1ms); }
    void look() {
      MediumBoard& board = all.board_;
      if (board.over.load() || changes == spare_media) return;
      if (board.writes.load() < next_) return wait();
      next_ = board.writes.load() + 4;
      busy_ = true;
      ++board.wipes_begun;
      ++board.changes_begun;
      if (all.planted_ == MediumFault::operator_leaves_it) return out({});
      all.shards_[0]->device.unit(0)->take_medium_out([this](const Status& status) { out(status); });
    }
    void out(const Status& status) {
      if (!status) {
        ++refused;
        return ended();
      }
      all.board_.ejected.store(true);
      if (all.planted_ == MediumFault::operator_leaves_it) return all.loops_[0]->post([this] { shut(); });
      missing_ = all.count_;
      for (std::uint32_t i = 0; i < all.count_; ++i) {
        all.loops_[i]->post([this, i] {
          auto way = all.spares_[changes]->open_channel(*all.loops_[i]);
          PERILUNE_ASSERT(way.has_value());
          all.shards_[i]->put_in(std::move(*way));
          all.loops_[0]->post([this] {
            if (--missing_ == 0) shut();
          });
        });
      }
    }
    void shut() {
      all.board_.ejected.store(false);
      ++all.board_.loads_begun;
      if (all.planted_ == MediumFault::operator_leaves_it) return in();
      all.shards_[0]->device.unit(0)->shut_tray([this] { in(); });
    }
    void in() {
      ++changes;
      ++all.board_.loads;
      ended();
    }
    void ended() {
      ++all.board_.wipes_ended;
      ++all.board_.changes_ended;
      busy_ = false;
      wait();
    }

    SharedMedium& all;
    runtime::Timer timer_;
    bool busy_ = false;
    std::uint64_t next_ = 5;
    std::uint32_t missing_ = 0;
  };

  static WorldOptions world_options(const ScenarioOptions& options) {
    WorldOptions w;
    w.trace_sink = options.trace_sink;
    return w;
  }

  std::string start() {
    Prng prng = world_.prng().fork();
    count_ = static_cast<std::uint32_t>(prng.between(2, 3));
    const auto rounds = static_cast<std::uint32_t>(prng.between(2, 6));
    for (std::uint32_t i = 0; i < count_; ++i) {
      loops_.push_back(&host_.add_loop());
      links_.push_back(std::make_unique<Link>(*this, i));
    }
    auto store = SimBackstore::open(*loops_[0], disk_path);
    if (!store) return store.error().message;
    store_ = std::move(*store);
    for (std::size_t i = 0; i < spare_media; ++i) {
      auto spare = SimBackstore::open(*loops_[0], path_of_spare(i));
      if (!spare) return spare.error().message;
      spares_.push_back(std::move(*spare));
    }
    for (std::uint32_t i = 0; i < count_; ++i) {
      auto way = store_->open_channel(*loops_[i]);
      if (!way) return way.error().message;
      shards_.push_back(std::make_unique<Shard>(*this, i, std::move(*way), rounds));
    }
    operator_.emplace(*this);
    for (std::uint32_t i = 0; i < count_; ++i) loops_[i]->post([&load = *shards_[i]->load] { load.start(); });
    return {};
  }

  std::string live() {
    if (std::string problem = start(); !problem.empty()) return problem;
    const auto over = [&] {
      return operator_->idle() && std::all_of(shards_.begin(), shards_.end(), [](const auto& shard) {
               return shard->load->over() && shard->channel.idle();
             });
    };
    if (!world_.run_until(over, 3600s)) return "nothing moves";
    for (const auto& shard : shards_) {
      if (!shard->load->problem().empty()) return shard->load->problem();
      if (shard->device.tasks() != 0) return "a command was left behind";
    }
    return board_.beside.load() ? "a command worked on the medium beside the work on all of it" : "";
  }

  World world_;
  SimHost& host_;
  MediumFault planted_;
  Spoiler spoiler_;
  std::uint32_t count_ = 0;
  MediumBoard board_;
  std::vector<SimLoop*> loops_;
  std::vector<std::unique_ptr<Link>> links_;
  std::shared_ptr<block::Backstore> store_;
  std::vector<std::shared_ptr<block::Backstore>> spares_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::optional<Operator> operator_;
};

}  // namespace

MediumResult run_medium_with(std::uint64_t seed, const ScenarioOptions& options, MediumFault planted) {
  return SharedMedium(seed, options, planted).run();
}

ScenarioResult run_medium(std::uint64_t seed, const ScenarioOptions& options) {
  return run_medium_with(seed, options, MediumFault::none);
}

}  // namespace perilune::sim
