// SPDX-License-Identifier: Apache-2.0
// Several shards and everything at once, in an order that a seed decides: commands, messages, block
// operations, aborts, resets and lost nexuses. A model watches what works on the disks at any time.
#include <gtest/gtest.h>

#include <cstring>
#include <list>
#include <map>
#include <random>

#include "base/sanitizer.hpp"
#include "scsi/copy_test_support.hpp"
#include "scsi/shard_test_support.hpp"

namespace perilune::scsi::test {
namespace {

constexpr std::uint64_t disk_blocks = 64;
constexpr std::uint16_t units = 2;

enum class Kind : std::uint8_t { read, write, range, exclusive, copy_source, whole };

// What a command works on, while it does.
struct Work {
  Kind kind = Kind::read;
  std::uint16_t unit = 0;
  std::uint64_t lba = 0;
  std::uint64_t blocks = 0;
};

bool conflict(const Work& a, const Work& b) {
  if (a.unit != b.unit) return false;
  if (a.kind == Kind::whole || b.kind == Kind::whole) return true;
  if (a.lba >= b.lba + b.blocks || b.lba >= a.lba + a.blocks) return false;
  if (a.kind == Kind::exclusive || b.kind == Kind::exclusive) return true;
  const auto claims = [](Kind kind) { return kind == Kind::range || kind == Kind::copy_source; };
  if (claims(a.kind) && claims(b.kind)) return a.kind == Kind::range || b.kind == Kind::range;
  if (claims(a.kind)) return b.kind == Kind::write;
  return claims(b.kind) && a.kind == Kind::write;
}

struct Actor {
  template <class Make>
  Actor(std::uint32_t on, Make make) : shard(on), io(make()) {}
  // Also when it was taken from the device before it was executed: no callback tells of that.
  [[nodiscard]] bool over() const { return io.task.phase == Task::Phase::outside; }
  std::uint32_t shard;
  Io io;
  std::vector<Work> work;
  bool started = false;  // something works for it, or its memory is lent
  bool executed = false;
  bool increments = false;
  bool wrote = false;
  bool changes = false;  // MODE SELECT
  bool protects = false;
};

class Chaos {
 public:
  explicit Chaos(std::uint32_t seed) : random_(seed), rig_(2 + seed % 2, units, geometry(seed)) {
    rig_.take_attentions();
    rig_.hold(true);
    for (std::uint32_t shard = 0; shard < rig_.count(); ++shard) {
      for (std::uint16_t unit = 0; unit < units; ++unit) {
        rig_.channel(shard, unit).on_submit = [this](const block::BlockOp& op) { on_submit(op); };
      }
    }
  }

  void run(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) step();
    // Every loop goes on until nothing moves.
    for (int rounds = 0; rounds < 100; ++rounds) {
      for (auto& actor : actors_) execute(*actor);
      rig_.settle();
      sweep();
    }
    EXPECT_TRUE(actors_.empty()) << actors_.size() << " commands hang";
    EXPECT_TRUE(managements_.empty()) << "task management hangs";
    for (std::uint16_t unit = 0; unit < units; ++unit)
      EXPECT_EQ(counter(unit), increments_[unit]) << "unit " << unit;
    for (std::uint32_t shard = 0; shard < rig_.count(); ++shard) {
      EXPECT_EQ(rig_.device(shard).tasks(), 0u);
      for (std::uint16_t unit = 0; unit < units; ++unit) {
        EXPECT_EQ(rig_.unit(shard, unit).write_protected(), rig_.unit(0, unit).write_protected());
      }
    }
    for (std::uint32_t shard = 0; shard < rig_.count(); ++shard) {
      for (std::uint16_t unit = 0; unit < units; ++unit)
        EXPECT_TRUE(rig_.device(shard).remove_unit(unit).has_value());
    }
  }
  [[nodiscard]] std::uint64_t increments() const { return increments_[0] + increments_[1]; }

 private:
  struct Request : TaskManagement {
    std::uint32_t shard = 0;
    bool ended = false;
    void on_done(TaskManagement&) {
      EXPECT_FALSE(ended);
      ended = true;
    }
  };

  static block::Geometry geometry(std::uint32_t seed) {
    block::Geometry g = FakeChannel::disk(disk_blocks);
    g.lends_memory = seed % 4 == 3;
    g.write_cache = seed % 4 != 3;
    return g;
  }
  std::size_t below(std::size_t bound) { return random_() % bound; }
  std::uint64_t counter(std::uint16_t unit) const { return load_be64(rig_.disks[unit].data()); }

  void step() {
    const std::size_t choice = below(1000);
    if (choice < 140)
      begin();
    else if (choice < 220)
      execute_some();
    else if (choice < 750)
      move_message();
    else if (choice < 985)
      end_operation();
    else if (choice < 994)
      abort_some();
    else if (choice < 998)
      manage();
    else
      lose_nexus();
    sweep();
  }

  // ---- commands

  Actor& add(std::uint32_t shard, std::uint16_t unit, const Data& cdb, const Data& out,
             std::uint32_t in = 0) {
    auto& actor = *actors_.emplace_back(
        std::make_unique<Actor>(shard, [&] { return rig_.io(shard, cdb, out, in, unit); }));
    by_op_[&actor.io.task.op] = &actor;
    return actor;
  }

  void begin() {
    if (actors_.size() > 16) return;
    const auto shard = static_cast<std::uint32_t>(below(rig_.count()));
    const auto unit = static_cast<std::uint16_t>(below(units));
    const std::uint8_t lba = static_cast<std::uint8_t>(below(8) == 0 ? 1 : 2 + below(11));
    const std::uint8_t blocks = static_cast<std::uint8_t>(1 + below(4));
    const Data stamp = bytes(blocks * 512u, static_cast<std::uint8_t>(random_()));
    Actor* actor = nullptr;
    switch (below(14)) {
      case 0:
      case 1:
        actor = &add(shard, unit, {0x2a, 0, 0, 0, 0, lba, 0, 0, blocks, 0}, stamp);
        actor->work = {{Kind::write, unit, lba, blocks}};
        break;
      case 2:
        actor = &add(shard, unit, {0x28, 0, 0, 0, 0, lba, 0, 0, blocks, 0}, {}, blocks * 512u);
        actor->work = {{Kind::read, unit, lba, blocks}};
        break;
      case 3:
        actor = &add(shard, unit, {0x41, 0, 0, 0, 0, lba, 0, 0, blocks, 0}, bytes(512, 0x5a));
        actor->work = {{Kind::range, unit, lba, blocks}};
        break;
      case 4:
        actor = &add(shard, unit, {0x8b, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, blocks, 0, 0}, stamp);
        actor->work = {{Kind::exclusive, unit, lba, blocks}};
        break;
      case 5:
        actor = &copy(shard);
        break;
      case 6:
        actor = &change(shard, unit);
        break;
      default:
        actor = &increment(shard, unit);
        break;
    }
    if (below(12) == 0) actor->io.task.attribute = TaskAttribute::ordered;
    if (below(16) == 0) actor->io.task.attribute = TaskAttribute::head_of_queue;
    if (actor->io.task.attribute == TaskAttribute::ordered && actor->work.size() == 1)
      actor->work[0].kind = Kind::whole;
    actor->io.admit();
    if (actor->increments || below(2) == 0)
      execute(*actor);
    else if (below(2) == 0 && !actor->io.ended)
      lend(*actor);
  }

  // Block 0 holds a number; block 1 beside it is written by others too and has to stay as it was compared.
  Actor& increment(std::uint32_t shard, std::uint16_t unit) {
    const auto begin = rig_.disks[unit].begin();
    Data compared(begin, begin + 1024);
    Data wanted = compared;
    store_be64(wanted.data(), counter(unit) + 1);
    Actor& actor =
        add(shard, unit, {0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0}, join({compared, wanted}));
    actor.work = {{Kind::exclusive, unit, 0, 2}};
    actor.increments = true;
    return actor;
  }

  Actor& copy(std::uint32_t shard) {
    const auto from = static_cast<std::uint16_t>(below(units));
    const auto to = static_cast<std::uint16_t>(below(units));
    const std::uint64_t source = 1 + below(12);
    const std::uint64_t destination = 16 + below(8) - (from == to ? 0 : below(12));
    const Data list =
        lid1({cscd(naa_zero), cscd(naa_one)}, {segment(from, source, to, destination, 4)}, 0, 3);
    Actor& actor =
        add(shard, static_cast<std::uint16_t>(below(units)), CopyRig::extended_copy(list.size()), list);
    actor.work = {{Kind::copy_source, from, source, 4}, {Kind::range, to, destination, 4}};
    return actor;
  }

  Actor& change(std::uint32_t shard, std::uint16_t unit) {
    const bool protect = below(8) == 0;
    const Data page = control_page(protect);
    Actor& actor = add(shard, unit, {0x15, 0x10, 0, 0, static_cast<std::uint8_t>(page.size()), 0}, page);
    actor.changes = true;
    actor.protects = protect;
    change_begins(unit);
    changing_unit_[&actor] = unit;
    return actor;
  }

  static Data control_page(bool protect) {
    ShardRig fresh(1);
    fresh.take_attentions();
    Data page = fresh.io(0, {0x1a, 0x08, 0x0a, 0, 255, 0}, {}, 255).run().data_in();
    page[0] = page[2] = 0;
    page[4] &= 0x3f;
    page[8] = static_cast<std::uint8_t>(protect ? page[8] | 0x08 : page[8] & ~0x08);
    return page;
  }

  void lend(Actor& actor) {
    if (actor.executed || rig_.device(actor.shard).lend(actor.io.task).empty()) return;
    actor.started = true;
    check_start(actor);
    actor.wrote |= actor.work[0].kind == Kind::write;  // the initiator may fill it at any time
  }

  void execute(Actor& actor) {
    if (actor.executed || actor.over()) return;
    actor.executed = true;
    actor.io.execute();
  }
  void execute_some() {
    if (Actor* actor = some_actor()) execute(*actor);
  }
  Actor* some_actor() {
    if (actors_.empty()) return nullptr;
    return std::next(actors_.begin(), static_cast<std::ptrdiff_t>(below(actors_.size())))->get();
  }

  void abort_some() {
    if (Actor* actor = some_actor()) rig_.device(actor->shard).abort(actor->io.task);
  }

  // ---- everything else

  void move_message() {
    if (rig_.waiting() != 0) rig_.deliver_some(below(64));
  }
  void end_operation() {
    FakeChannel& channel = rig_.channel(static_cast<std::uint32_t>(below(rig_.count())),
                                        static_cast<std::uint16_t>(below(units)));
    if (channel.held() != 0) channel.release_one(below(channel.held()));
  }
  void manage() {
    auto& request = *managements_.emplace_back(std::make_unique<Request>());
    request.shard = static_cast<std::uint32_t>(below(rig_.count()));
    static constexpr TmFunction functions[] = {TmFunction::abort_task_set, TmFunction::clear_task_set,
                                               TmFunction::lun_reset, TmFunction::target_warm_reset};
    request.function = functions[below(4)];
    request.nexus = &rig_.nexus(request.shard);
    request.lun = static_cast<std::uint64_t>(below(units)) << 48;
    request.done = Delegate<void(TaskManagement&)>::to<&Request::on_done>(request);
    for (std::uint16_t unit = 0; unit < units; ++unit) change_begins(unit);
    request.ended = rig_.device(request.shard).manage(request);
  }
  void lose_nexus() {
    auto& request = *managements_.emplace_back(std::make_unique<Request>());
    request.shard = static_cast<std::uint32_t>(below(rig_.count()));
    request.function = TmFunction::i_t_nexus_reset;
    request.nexus = &rig_.nexus(request.shard);
    request.done = Delegate<void(TaskManagement&)>::to<&Request::on_done>(request);
    for (std::uint16_t unit = 0; unit < units; ++unit) change_begins(unit);
    request.ended = rig_.device(request.shard).manage(request);
  }

  // Forgets what is over.
  void sweep() {
    for (auto place = actors_.begin(); place != actors_.end();) {
      Actor& actor = **place;
      if (!actor.over()) {
        ++place;
        continue;
      }
      EXPECT_LE(actor.io.done_calls, 1);
      if (actor.increments) {
        EXPECT_TRUE(actor.wrote || actor.io.task.aborted || actor.io.status() != ScsiStatus::good);
        increments_[actor.work[0].unit] += actor.wrote ? 1 : 0;
      }
      if (actor.changes) change_ended(actor);
      by_op_.erase(&actor.io.task.op);
      place = actors_.erase(place);
    }
    managements_.remove_if([&](const auto& request) {
      if (!request->ended) return false;
      for (std::uint16_t unit = 0; unit < units; ++unit) --changing_[unit];
      return true;
    });
  }

  // ---- the model

  void change_begins(std::uint16_t unit) {
    ++changing_[unit];
    protected_[unit] = false;
  }
  // Answered, and no other change or reset beside it: the unit is as it says on every shard.
  void change_ended(const Actor& actor) {
    const std::uint16_t unit = changing_unit_.at(&actor);
    changing_unit_.erase(&actor);
    --changing_[unit];
    if (changing_[unit] != 0 || actor.io.task.aborted || actor.io.status() != ScsiStatus::good) return;
    protected_[unit] = actor.protects;
    for (const auto& other : actors_) {
      if (other.get() == &actor || !other->started || other->over() || !protected_[unit]) continue;
      for (const Work& work : other->work) {
        EXPECT_TRUE(work.unit != unit || work.kind == Kind::read || work.kind == Kind::copy_source)
            << "a write is still in progress after the unit was protected";
      }
    }
  }

  void on_submit(const block::BlockOp& op) {
    Actor& actor = *by_op_.at(&op);
    if (op.kind == block::OpKind::write) actor.wrote = true;
    if (actor.started) return;
    actor.started = true;
    check_start(actor);
  }

  static std::string describe(const Actor& actor) {
    std::string text = "opcode " + std::to_string(actor.io.task.cdb[0]) + " of shard " +
                       std::to_string(actor.shard) + " with attribute " +
                       std::to_string(static_cast<int>(actor.io.task.attribute)) +
                       (actor.io.task.aborted ? ", aborted," : "") + (actor.io.task.lent ? ", lent," : "");
    for (const Work& work : actor.work) {
      text += " [unit " + std::to_string(work.unit) + " at " + std::to_string(work.lba) + " kind " +
              std::to_string(static_cast<int>(work.kind)) + "]";
    }
    return text;
  }

  void check_start(const Actor& actor) {
    for (const Work& mine : actor.work) {
      const bool writes = mine.kind != Kind::read && mine.kind != Kind::copy_source;
      EXPECT_FALSE(writes && protected_[mine.unit] && actor.io.task.cdb[0] != 0x28)
          << "a write after the unit was protected";
      for (const auto& other : actors_) {
        if (other.get() == &actor || !other->started || other->over()) continue;
        for (const Work& theirs : other->work) {
          EXPECT_FALSE(conflict(mine, theirs))
              << "commands that conflict run beside each other: " << describe(actor) << " beside "
              << describe(*other);
        }
      }
    }
  }

  std::mt19937 random_;
  ShardRig rig_;
  std::list<std::unique_ptr<Actor>> actors_;
  std::list<std::unique_ptr<Request>> managements_;
  std::map<const block::BlockOp*, Actor*> by_op_;
  std::map<const Actor*, std::uint16_t> changing_unit_;
  std::uint64_t increments_[units] = {};
  int changing_[units] = {};
  bool protected_[units] = {};
};

TEST(ShardsAtRandom, NothingConflictsNothingIsLostNothingHangs) {
  std::uint64_t increments = 0;
  const std::uint32_t seeds = PERILUNE_SANITIZED ? 60 : 400;
  for (std::uint32_t seed = 1; seed <= seeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Chaos chaos(seed);
    chaos.run(2000);
    increments += chaos.increments();
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GT(increments, seeds * 3);  // else this has proved little
}

}  // namespace
}  // namespace perilune::scsi::test
