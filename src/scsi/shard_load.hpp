// SPDX-License-Identifier: Apache-2.0
// Load for one shard of several that serve a disk: increments by COMPARE AND WRITE of a number that all
// shards count up, plain writers, mode changes, resets, changes of size and of port groups, and fences:
// PREEMPT, PREEMPT AND ABORT, SET TARGET PORT GROUPS and a change of access state by the operator. Judged by
// what must hold over all shards: no increment is lost, nothing is written after MODE SELECT has answered
// that the unit is protected, and none of those that a fence shuts out completes a write, or leaves a trace
// on the disk, after the fence was answered. Runs in threads and in the simulator.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "scsi/test_support.hpp"

namespace perilune::scsi::test {

// A shard's way to the disk that counts the writes of the number.
class CountingChannel final : public block::Channel {
 public:
  explicit CountingChannel(block::Channel& inner)
      : inner_(inner), geometry_(inner.geometry()), all_blocks_(geometry_.blocks) {}
  [[nodiscard]] const block::Geometry& geometry() const override { return geometry_; }
  [[nodiscard]] bool submit(block::BlockOp& op) override {
    if (op.kind == block::OpKind::write && op.lba.value() == 0) ++writes_of_number;
    return inner_.submit(op);
  }
  std::uint8_t* lend(Lba lba, BlockCount blocks, bool for_write) noexcept override {
    return inner_.lend(lba, blocks, for_write);
  }
  void resize(bool small) { geometry_.blocks = small ? BlockCount(all_blocks_.value() / 2) : all_blocks_; }

  std::uint64_t writes_of_number = 0;

 private:
  block::Channel& inner_;
  block::Geometry geometry_;
  BlockCount all_blocks_;
};

// What the loads of all shards share.
struct LoadBoard {
  std::atomic<std::uint64_t> increments{0};
  std::atomic<std::uint64_t> resets_begun{0};
  std::atomic<std::uint64_t> resets_ended{0};
  std::atomic<bool> fencing{false};  // a fence is on its way, or stands: who is shut out waits
  std::atomic<bool> fenced{false};   // it was answered
  std::atomic<int> registering{0};   // those that are coming back: no fence begins before they have
};

class ShardLoad {
 public:
  static constexpr std::uint16_t others_port = 2;  // and the number of its group
  // The first shard has a port, and a target port group, of its own; all others share one.
  static UnitConfig config() {
    UnitConfig config = Rig::config();
    PortGroup others;
    others.id = others_port;
    others.ports = {others_port};
    config.port_groups = PortGroups({PortGroup{}, others}, true);
    return config;
  }
  static NexusNames names(const char* who, std::uint32_t shard) {
    NexusNames names = Rig::names(who);
    if (shard != 0) names.relative_target_port = others_port;
    return names;
  }

  using Post = std::function<void(std::function<void()>)>;  // work for a later turn of this shard
  struct Plan {
    std::uint64_t increments = 0;
    std::uint64_t own_lba = 8;   // 4 blocks that only this shard writes
    bool changes_modes = false;  // of one shard: it judges what the others do meanwhile, and fences them
    std::uint32_t shards = 2;    // of all; the one that judges is the first
    // Paced by what has been done, or they would leave nobody the time to do anything.
    std::uint32_t increments_per_change = 5;
    std::uint32_t increments_per_reset = 20;
    std::uint32_t increments_per_fence = 15;
  };

  // After the constructor, which reads the mode page, everything happens on the shard's thread.
  ShardLoad(Device& device, Nexus& nexus, CountingChannel& channel, LoadBoard& board, Post post,
            const Plan& plan)
      : device_(device),
        nexus_(nexus),
        channel_(channel),
        board_(board),
        post_(std::move(post)),
        plan_(plan) {
    page_ = control_page();
    for (int i = 0; i < 2; ++i) workers_.push_back(std::make_unique<Incrementer>(*this));
    workers_.push_back(std::make_unique<Writer>(*this));
    if (plan.changes_modes) {
      workers_.push_back(std::make_unique<Changer>(*this));
      workers_.push_back(std::make_unique<Fencer>(*this));
    } else {
      workers_.push_back(std::make_unique<Resetter>(*this));
      workers_.push_back(std::make_unique<Registrant>(*this));
    }
  }
  void start() {
    for (auto& worker : workers_) worker->next();
  }
  // Nothing of it is in progress, and nothing more will begin. Any thread.
  [[nodiscard]] bool over() const { return over_.load(); }
  void wait() const { over_.wait(false); }
  [[nodiscard]] std::uint64_t increments() const { return done_; }
  [[nodiscard]] const std::string& problem() const { return problem_; }
  // How often it was seen that nothing is written: by anybody, by those that a fence shut out.
  [[nodiscard]] std::uint64_t fences() const { return fences_; }
  [[nodiscard]] std::uint64_t shut_out() const { return shut_out_; }
  [[nodiscard]] std::uint64_t shut_out_by_operator() const { return shut_out_by_operator_; }
  [[nodiscard]] std::uint64_t group_changes() const {
    return group_changes_;
  }  // each has turned PREF of the others' group over

 private:
  // One thing after the other, as an initiator with queue depth one.
  class Worker {
   public:
    explicit Worker(ShardLoad& owner) : load(owner) {}
    virtual ~Worker() = default;
    virtual void next() = 0;         // the command before is over; begins another, or ends()
    virtual void ended(Io& io) = 0;  // looks at the outcome

   protected:
    void run(std::vector<std::uint8_t> cdb, std::vector<std::uint8_t> out = {}, std::uint32_t in = 0) {
      io_.emplace(load.device_, load.nexus_, std::move(cdb), std::move(out), in);
      io_->task.done = Delegate<void(Task&)>::to<&Worker::on_done>(*this);
      io_->task.cancelled = Delegate<void(Task&)>::to<&Worker::on_cancelled>(*this);
      writes_ = io_->task.cdb[0] == 0x2a || io_->task.cdb[0] == 0x89;
      io_->admit();
      if (io_->ended) return later();
      // The data comes a turn later, and whatever else has come by then is before it.
      load.post_([this] { execute(); });
    }
    void over() { load.worker_over(); }
    std::uint8_t fill_ = 0x77;  // of the data of writes
    // next() comes when an incrementer has got on: nothing spins while a claim is on its way.
    void park() { load.parked_.push_back(this); }
    ShardLoad& load;

   private:
    void execute() {
      if (io_->task.phase == Task::Phase::cancelled) load.device_.abort(io_->task);
      if (io_->task.phase == Task::Phase::outside) return later();
      io_->provide();
      if (io_->task.need.data_out_bytes != 0) {
        const MutableBytes lent = load.device_.lend(io_->task);
        if (!lent.empty()) std::memset(lent.data(), fill_, lent.size());
      }
      if (load.device_.execute(io_->task)) later();
    }
    void on_done(Task&) { later(); }
    void on_cancelled(Task&) {}  // execute() is on its way, and gives it back
    void later() {
      if (load.is_shut_out(*io_)) {
        if (std::exchange(load.registered_, false)) load.wake_parked();  // the registrant among them
      } else if (writes_ && !load.plan_.changes_modes && load.board_.fenced.load() && !io_->task.aborted &&
                 io_->status() == ScsiStatus::good) {
        load.problem_ = "a write was completed after the fence";
      }
      load.post_([this] {
        ended(*io_);
        next();
      });
    }
    std::optional<Io> io_;
    bool writes_ = false;
  };

  class Incrementer final : public Worker {
   public:
    using Worker::Worker;
    void next() override {
      if (load.done_ >= load.plan_.increments) {
        load.wake_parked();
        return over();
      }
      if (!load.registered_) return park();
      if (!value_) return run({0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, {}, 512);
      std::vector<std::uint8_t> both = *value_;
      both.insert(both.end(), value_->begin(), value_->end());
      store_be64(&both[512], load_be64(value_->data()) + 1);
      comparing_ = true;
      run({0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}, std::move(both));
    }
    void ended(Io& io) override {
      load.wake_parked();
      const bool good = !io.task.aborted && io.status() == ScsiStatus::good;
      if (comparing_) {
        comparing_ = false;
        value_.reset();
        if (!good) return;
        ++load.done_;
        ++load.board_.increments;
      } else if (good) {
        value_ = io.data_in();
      }
    }

   private:
    std::optional<std::vector<std::uint8_t>> value_;
    bool comparing_ = false;
  };

  class Writer final : public Worker {
   public:
    using Worker::Worker;
    void next() override {
      if (load.done_ >= load.plan_.increments) return over();
      if (!load.registered_) return park();
      written_ = !written_;
      if (!written_) return park();
      const auto lba = static_cast<std::uint8_t>(load.plan_.own_lba);
      ++fill_;  // so that a write that comes late is seen
      run({0x2a, 0, 0, 0, 0, lba, 0, 0, 4, 0}, bytes(2048, fill_));
    }
    void ended(Io& io) override {
      LogicalUnit& unit = *io.task.nexus->find_unit([](const LogicalUnit&) { return true; });
      if (++commands_ % 16 == 0 && !changing_) change_groups(unit);
      if (commands_ % 64 != 0) return;
      load.channel_.resize(commands_ % 128 == 0);
      unit.resized();
    }

   private:
    // An operator's change, one at a time. A state would open what a fence has shut; this does not.
    void change_groups(LogicalUnit& unit) {
      changing_ = true;
      unit.change_port_groups([this](PortGroups& groups) {
        groups.set_preferred(others_port, !groups.find(others_port)->preferred);
        ++load.group_changes_;
        changing_ = false;
      });
    }
    bool changing_ = false;
    std::uint64_t commands_ = 0;
    bool written_ = false;
  };

  // Protects the unit, sees twice what the number is, and lets the others go on.
  class Changer final : public Worker {
   public:
    using Worker::Worker;
    void next() override {
      switch (stage_) {
        case 0:
          if (load.done_ >= load.plan_.increments) {
            if (!protected_) return over();
            stage_ = 5;
            return select(false);
          }
          if (load.board_.increments.load() < next_change_) return park();
          board_at_ = load.board_.resets_begun.load();
          quiet_ = load.board_.resets_ended.load() == board_at_;
          return select(true);
        case 1:
        case 2:
        case 3:
        case 4:
          return run({0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, {}, 512);
        default:
          return select(false);
      }
    }
    void ended(Io& io) override {
      if (stage_ == 0 && io.task.aborted) protected_ = true;  // it may have been done
      if (io.task.aborted || io.status() != ScsiStatus::good) return;  // and again
      if (stage_ == 0) protected_ = true;
      if (stage_ >= 1 && stage_ <= 4) {
        const std::uint64_t number = load_be64(io.data_in().data());
        if (stage_ > 1 && quiet_ && load.board_.resets_begun.load() == board_at_) {
          ++load.fences_;
          if (number != number_) load.problem_ = "the number changed while the unit was protected";
        }
        number_ = number;
      }
      if (stage_ == 5) {
        protected_ = false;
        next_change_ = load.board_.increments.load() + load.plan_.increments_per_change;
      }
      stage_ = stage_ == 5 ? 0 : stage_ + 1;
    }

   private:
    void select(bool protect) {
      std::vector<std::uint8_t> page = load.page_;
      page[8] = static_cast<std::uint8_t>(protect ? page[8] | 0x08 : page[8] & ~0x08);
      page[6] = static_cast<std::uint8_t>(protect ? page[6] | 0x04 : page[6] & ~0x04);  // D_SENSE
      const auto length = static_cast<std::uint8_t>(page.size());
      run({0x15, 0x10, 0, 0, length, 0}, std::move(page));
    }
    int stage_ = 0;
    bool protected_ = false;
    bool quiet_ = false;
    std::uint64_t next_change_ = 1;
    std::uint64_t board_at_ = 0;
    std::uint64_t number_ = 0;
  };

  // Now and then a reset of the unit, or CLEAR TASK SET.
  class Resetter final : public Worker {
   public:
    using Worker::Worker;
    void next() override {
      if (load.done_ >= load.plan_.increments) return over();
      if (load.board_.increments.load() < next_reset_) return park();
      next_reset_ = load.board_.increments.load() + load.plan_.increments_per_reset;
      const std::uint64_t number = ++load.board_.resets_begun;
      request_.function = number % 2 == 0 ? TmFunction::lun_reset : TmFunction::clear_task_set;
      request_.nexus = &load.nexus_;
      request_.done = Delegate<void(TaskManagement&)>::to<&Resetter::managed>(*this);
      if (load.device_.manage(request_)) managed(request_);
    }
    void ended(Io&) override {}

   private:
    void managed(TaskManagement&) {
      ++load.board_.resets_ended;
      load.post_([this] { next(); });
    }
    TaskManagement request_;
    std::uint64_t next_reset_ = 10;
  };

  // PERSISTENT RESERVE OUT (SPC-4 6.16) with a list of 24 bytes; WRITE EXCLUSIVE, REGISTRANTS ONLY.
  static constexpr std::uint64_t own_key = 0xa, others_key = 0xb;
  static constexpr std::uint8_t reserve = 1, preempt = 4, preempt_and_abort = 5, register_and_ignore = 6;

  // Shuts all others out and looks twice at what they wrote. The kinds of fences take turns.
  class Fencer final : public Worker {
   public:
    using Worker::Worker;
    void next() override {
      switch (stage_) {
        case Stage::register_own:
          return reserve_out(register_and_ignore, 0, own_key);
        case Stage::reserve_it:
          return reserve_out(reserve, own_key, 0);
        case Stage::fence:
          if (load.done_ >= load.plan_.increments) {
            load.board_.fencing.store(false);
            return over();
          }
          if (load.board_.increments.load() < next_fence_) return park();
          load.board_.fencing.store(true);
          if (load.board_.registering.load() != 0) return load.post_([this] { next(); });
          if (by_operator()) return change_by_operator(AccessState::standby);
          return by_group() ? set_group(2)
                            : reserve_out(by_abort() ? preempt_and_abort : preempt, own_key, others_key);
        case Stage::look:
          return run({0x28, 0, 0, 0, 0, first, 0, 0, blocks(), 0}, {}, blocks() * std::uint32_t{512});
        case Stage::open_group:
          return by_operator() ? change_by_operator(AccessState::active_optimized) : set_group(0);
      }
    }
    void ended(Io& io) override {
      const bool good = !io.task.aborted && io.status() == ScsiStatus::good;
      switch (stage_) {
        case Stage::register_own:
          if (good) stage_ = Stage::reserve_it;
          return;
        case Stage::reserve_it:
          if (good) stage_ = Stage::fence;
          return;
        case Stage::fence:
          return fence_ended(good);
        case Stage::look:
          if (good) looked(io.data_in());
          return;
        case Stage::open_group:
          if (good) lift();
          return;
      }
    }

   private:
    enum class Stage : std::uint8_t { register_own, reserve_it, fence, look, open_group };
    static constexpr std::uint8_t first = 16;  // of the blocks that others write
    static constexpr int looks = 4;
    [[nodiscard]] std::uint8_t blocks() const {
      return static_cast<std::uint8_t>(8 * (load.plan_.shards - 1) - 4);
    }
    [[nodiscard]] bool by_group() const { return round_ % 4 == 2; }
    [[nodiscard]] bool by_abort() const { return round_ % 4 == 1; }
    [[nodiscard]] bool by_operator() const { return round_ % 4 == 3; }
    void change_by_operator(AccessState state) {
      LogicalUnit* unit = load.nexus_.find_unit([](const LogicalUnit&) { return true; });
      const Status asked = unit->set_access_state(others_port, state, [this] {
        load.post_([this] {
          if (stage_ == Stage::fence) fence_ended(true);
          else lift();
          next();
        });
      });
      if (!asked) load.problem_ = asked.error().message;
    }
    void reserve_out(std::uint8_t action, std::uint64_t key, std::uint64_t action_key) {
      std::vector<std::uint8_t> list(24);
      store_be64(&list[0], key);
      store_be64(&list[8], action_key);
      const std::uint8_t type = action == register_and_ignore ? 0 : 5;
      run({0x5f, action, type, 0, 0, 0, 0, 0, 24, 0}, std::move(list));
    }
    // SET TARGET PORT GROUPS (SPC-4 6.45): 0 active/optimized, 2 standby.
    void set_group(std::uint8_t state) {
      std::vector<std::uint8_t> list(8);
      list[4] = state;
      store_be16(&list[6], others_port);
      run({0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0}, std::move(list));
    }
    void fence_ended(bool good) {
      if (good) {
        load.board_.fenced.store(true);
        looks_left_ = looks;
        stage_ = Stage::look;
        return;
      }
      // Aborted: it may have been done. A conflict: nobody has come back yet. Those that are out come back,
      // then again.
      if (by_group()) {
        stage_ = Stage::open_group;
      } else {
        next_fence_ = load.board_.increments.load() + 1;
        lift();
      }
    }
    void looked(std::vector<std::uint8_t> seen) {
      if (looks_left_ != looks && seen != seen_) load.problem_ = "something was written after the fence";
      seen_ = std::move(seen);
      if (--looks_left_ != 0) return;
      ++load.shut_out_;
      if (by_operator()) ++load.shut_out_by_operator_;
      next_fence_ = load.board_.increments.load() + load.plan_.increments_per_fence;
      load.board_.fenced.store(false);
      stage_ = Stage::open_group;
      if (!by_group() && !by_operator()) lift();
    }
    void lift() {
      load.board_.fencing.store(false);
      stage_ = Stage::fence;
      ++round_;
    }
    Stage stage_ = Stage::register_own;
    std::uint32_t round_ = 0;
    std::uint64_t next_fence_ = 1;
    int looks_left_ = 0;
    std::vector<std::uint8_t> seen_;
  };

  // Of those that may be shut out: registers again once the fence is lifted.
  class Registrant final : public Worker {
   public:
    using Worker::Worker;
    void next() override {
      if (load.done_ >= load.plan_.increments) return over();
      if (load.registered_) return park();
      ++load.board_.registering;
      if (load.board_.fencing.load()) {
        --load.board_.registering;
        return load.post_([this] { next(); });
      }
      std::vector<std::uint8_t> list(24);
      store_be64(&list[8], others_key);
      run({0x5f, register_and_ignore, 0, 0, 0, 0, 0, 0, 24, 0}, std::move(list));
    }
    void ended(Io& io) override {
      --load.board_.registering;
      if (io.task.aborted || io.status() != ScsiStatus::good) return;
      load.registered_ = true;
      load.wake_parked();
    }
  };

  // The reservation's, or that of a port group in standby (SPC-4 5.15.2.4.4).
  [[nodiscard]] bool is_shut_out(const Io& io) const {
    return !plan_.changes_modes && !io.task.aborted &&
           (io.status() == ScsiStatus::reservation_conflict || io.sense() == 0x02040b);
  }
  void wake_parked() {
    for (Worker* worker : parked_) {
      post_([worker] { worker->next(); });
    }
    parked_.clear();
  }
  void worker_over() {
    if (++workers_over_ != workers_.size()) return;
    over_.store(true);
    over_.notify_all();
  }
  std::vector<std::uint8_t> control_page() {
    for (;;) {
      Io io(device_, nexus_, {0x1a, 0x08, 0x0a, 0, 255, 0}, {}, 255);
      if (io.run().status() != ScsiStatus::good) continue;  // a unit attention
      std::vector<std::uint8_t> page = io.data_in();
      page[0] = page[2] = 0;
      page[4] &= 0x3f;
      return page;
    }
  }

  Device& device_;
  Nexus& nexus_;
  CountingChannel& channel_;
  LoadBoard& board_;
  Post post_;
  Plan plan_;
  std::vector<std::uint8_t> page_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Worker*> parked_;
  std::size_t workers_over_ = 0;
  std::uint64_t done_ = 0;
  std::uint64_t fences_ = 0;
  std::uint64_t shut_out_ = 0;
  std::uint64_t shut_out_by_operator_ = 0;
  std::uint64_t group_changes_ = 0;
  bool registered_ = true;  // or never yet shut out
  std::string problem_;
  std::atomic<bool> over_{false};
};

}  // namespace perilune::scsi::test
