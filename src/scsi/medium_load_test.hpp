// SPDX-License-Identifier: Apache-2.0
// Load for one shard of several that serve a removable disk: what is done to its medium as a whole. Writers
// stamp what they write; one shard wipes the medium again and again (SANITIZE, FORMAT UNIT) and opens and
// shuts its tray, others hold it shut (PREVENT ALLOW MEDIUM REMOVAL), make ROD tokens, use and delete those
// of each other, and reset the unit. Judged by what must hold over all shards:
//  - no command works on the medium beside a SANITIZE or FORMAT UNIT, and nothing that was written before one
//  is there after it;
//  - the tray does not open while a nexus of any shard holds it, nothing is served while it is open, and
//  after it was shut every
//    other nexus learns of it before it is served;
//  - a token is good on every shard from the answer that made it to the request that deletes it, and on none
//  after that was answered;
//    what it brings is one whole write of its source, and not an old one.
// Runs in threads and in the simulator.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "scsi/rod_tokens.hpp"
#include "scsi/test_support.hpp"

namespace perilune::scsi::test {

inline constexpr std::uint64_t medium_load_blocks = 64;
inline constexpr std::uint32_t medium_load_max_shards = 3;

// A token on its way between shards.
struct SharedToken {
  std::uint32_t maker = 0;
  std::vector<std::uint8_t> bytes;
  std::atomic<bool> deleting{false};  // the request has been sent
  std::atomic<bool> deleted{false};   // it was answered
  std::uint64_t changes = 0;  // media that the operator had put in when it was asked for: another knows
                              // nothing of it
};

// What the loads of all shards share.
struct MediumBoard {
  struct OfShard {
    std::atomic<std::uint64_t> completed{0};  // number of the last write that was answered
    // Whether its nexus holds the tray (bit 0), how many resets had begun then (up to bit 31), and which hold
    // it is.
    std::atomic<std::uint64_t> hold{0};
  };
  std::array<OfShard, medium_load_max_shards> of;
  std::atomic<bool> over{false};
  std::atomic<std::uint64_t> writes{0};
  std::atomic<std::uint64_t> wipes_begun{0}, wipes_ended{0};
  std::atomic<std::uint64_t> resets_begun{0}, resets_ended{0};
  std::atomic<bool> ejected{false};  // it was answered, and nobody has asked for the opposite
  std::atomic<std::uint64_t> loads_begun{0}, loads{0};
  std::atomic<std::uint64_t> changes_begun{0}, changes_ended{0};  // of the medium, by the operator; each is a
                                                                  // wipe too
  std::atomic<std::uint64_t> tries{0};                            // to open or to shut the tray
  // Operations in progress: of commands, of SANITIZE and FORMAT UNIT; and whether there were ever both.
  std::atomic<int> of_commands{0}, of_medium{0};
  std::atomic<bool> beside{false};

  void begin(bool of_command) {
    ++(of_command ? of_commands : of_medium);
    if ((of_command ? of_medium : of_commands).load() != 0) beside.store(true);
  }
  void end(bool of_command) { --(of_command ? of_commands : of_medium); }

  // No change since that number of them, and none in progress.
  [[nodiscard]] bool unchanged_since(std::uint64_t changes) const {
    return changes_ended.load() == changes && changes_begun.load() == changes;
  }

  // A moment since which the medium may have been wiped, or not.
  struct Moment {
    std::uint64_t begun = 0, ended = 0;
  };
  [[nodiscard]] Moment now() const { return {wipes_begun.load(), wipes_ended.load()}; }
  [[nodiscard]] bool wiped_since(const Moment& then) const {
    return then.begun != then.ended || wipes_begun.load() != then.begun;
  }

  std::shared_ptr<SharedToken> token() {
    const std::lock_guard lock(mutex_);
    return token_;
  }
  void show(std::shared_ptr<SharedToken> token) {
    const std::lock_guard lock(mutex_);
    token_ = std::move(token);
  }

 private:
  std::mutex mutex_;
  std::shared_ptr<SharedToken> token_;
};

// A shard's way to the disk, which tells the board what is in progress.
class WatchedChannel final : public block::Channel {
 public:
  WatchedChannel(block::Channel& inner, MediumBoard& board) : inner_(&inner), board_(board) {}
  [[nodiscard]] const block::Geometry& geometry() const override { return inner_->geometry(); }
  [[nodiscard]] bool submit(block::BlockOp& op) override {
    if (op.kind == block::OpKind::flush || op.kind == block::OpKind::query) return inner_->submit(op);
    const bool of_command = std::find(commands_.begin(), commands_.end(), &op) != commands_.end();
    if (!of_command && keeps_blocks) {
      op.status = block::OpStatus::ok;
      return true;
    }
    Passing& passing = passing_.emplace_back(*this, op, of_command);
    board_.begin(of_command);
    if (answers_early && of_command && op.kind == block::OpKind::write) return answer_early(passing);
    if (!inner_->submit(passing.op)) return false;
    (void)end(passing);
    return true;
  }
  std::uint8_t* lend(Lba lba, BlockCount blocks, bool for_write) noexcept override {
    return inner_->lend(lba, blocks, for_write);
  }
  // Of a command. Every other is of the medium's own work.
  void know(const block::BlockOp& op) {
    if (std::find(commands_.begin(), commands_.end(), &op) == commands_.end()) commands_.push_back(&op);
  }
  [[nodiscard]] bool idle() const { return passing_.empty(); }
  // The way to another medium. What passes on the way to the one before still ends there.
  void lead_to(block::Channel& inner) { inner_ = &inner; }
  bool keeps_blocks = false;   // planted: SANITIZE and FORMAT UNIT change nothing
  bool answers_early = false;  // planted: a write is told to be over while it is in progress

 private:
  struct Passing {
    Passing(WatchedChannel& owner, block::BlockOp& from, bool is_of_command)
        : channel(owner), original(from), of_command(is_of_command) {
      op.kind = from.kind;
      op.fua = from.fua;
      op.may_unmap = from.may_unmap;
      op.lba = from.lba;
      op.blocks = from.blocks;
      op.data = from.data;
      op.done = Delegate<void(block::BlockOp&)>::to<&Passing::on_done>(*this);
    }
    void on_done(block::BlockOp&) {
      block::BlockOp& ended = channel.end(*this);  // this is gone
      ended.done(ended);
    }
    void on_done_unheard(block::BlockOp&) { channel.forget(*this); }
    WatchedChannel& channel;
    block::BlockOp& original;
    bool of_command;
    block::BlockOp op;
    std::vector<std::uint8_t> data;  // of a write whose owner is told too early
    iovec piece{};
  };
  bool answer_early(Passing& passing) {
    for (const iovec& piece : passing.op.data) {
      const auto* from = static_cast<const std::uint8_t*>(piece.iov_base);
      passing.data.insert(passing.data.end(), from, from + piece.iov_len);
    }
    passing.piece = {passing.data.data(), passing.data.size()};
    passing.op.data = {&passing.piece, 1};
    passing.op.done = Delegate<void(block::BlockOp&)>::to<&Passing::on_done_unheard>(passing);
    passing.original.status = block::OpStatus::ok;
    if (inner_->submit(passing.op)) forget(passing);
    return true;
  }
  void forget(Passing& passing) {
    board_.end(passing.of_command);
    passing_.remove_if([&](const Passing& each) { return &each == &passing; });
  }
  block::BlockOp& end(Passing& passing) {
    block::BlockOp& original = passing.original;
    original.status = passing.op.status;
    original.os_errno = passing.op.os_errno;
    forget(passing);
    return original;
  }
  block::Channel* inner_;
  MediumBoard& board_;
  std::vector<const block::BlockOp*> commands_;
  std::list<Passing> passing_;
};

class MediumLoad {
 public:
  using Post = std::function<void(std::function<void()>)>;  // work for a later turn of this shard
  struct Plan {
    std::uint32_t self = 0;  // 0 wipes and ejects, 1 makes tokens and resets, all but 0 hold the tray
    std::uint32_t wipes = 0, ejects = 0;
    std::uint32_t writes_per_wipe = 6, writes_per_eject = 5, writes_per_reset = 40;
  };
  struct Seen {
    std::uint64_t wipes = 0, ejects = 0, prevented = 0, tokens_used = 0, deleted_refused = 0,
                  told_of_medium = 0;
  };

  static UnitConfig config() { return Rig::config(); }

  // After the constructor everything happens on the shard's thread.
  MediumLoad(Device& device, Nexus& nexus, WatchedChannel& channel, MediumBoard& board, Post post,
             const Plan& plan)
      : device_(device),
        nexus_(nexus),
        channel_(channel),
        board_(board),
        post_(std::move(post)),
        plan_(plan) {
    workers_.push_back(std::make_unique<Writer>(*this));
    workers_.push_back(std::make_unique<TokenUser>(*this));
    if (plan.self == 0) {
      workers_.push_back(std::make_unique<Wiper>(*this));
      workers_.push_back(std::make_unique<Ejector>(*this));
    } else {
      workers_.push_back(std::make_unique<Holder>(*this));
    }
    if (plan.self == 1) {
      workers_.push_back(std::make_unique<TokenMaker>(*this));
      workers_.push_back(std::make_unique<Resetter>(*this));
    }
  }
  void start() {
    for (auto& worker : workers_) worker->next();
  }
  // Nothing of it is in progress, and nothing more will begin. Any thread.
  [[nodiscard]] bool over() const { return over_.load(); }
  void wait() const { over_.wait(false); }
  [[nodiscard]] const std::string& problem() const { return problem_; }
  [[nodiscard]] const Seen& seen() const { return seen_; }

 private:
  static constexpr std::uint32_t own_blocks = 4;
  static constexpr std::uint32_t own_bytes = own_blocks * 512;
  static constexpr std::uint32_t medium_changed = 0x062800;
  static constexpr std::uint32_t removal_prevented = 0x055302;
  static std::uint8_t own_lba(std::uint32_t shard) { return static_cast<std::uint8_t>(8 + 8 * shard); }
  static std::uint8_t copy_lba(std::uint32_t shard) { return static_cast<std::uint8_t>(40 + 8 * shard); }
  static std::uint64_t stamp(std::uint32_t shard, std::uint64_t number) {
    return std::uint64_t{shard + 1} << 56 | number;
  }
  static std::uint32_t shard_of(std::uint64_t word) { return static_cast<std::uint32_t>(word >> 56) - 1; }
  static std::uint64_t number_of(std::uint64_t word) { return word << 8 >> 8; }
  static std::vector<std::uint8_t> read(std::uint8_t lba, std::uint8_t blocks) {
    return {0x28, 0, 0, 0, 0, lba, 0, 0, blocks, 0};
  }
  // What stands in every eight bytes; nothing when that is not the same everywhere.
  static std::optional<std::uint64_t> word_of(const std::vector<std::uint8_t>& data) {
    const std::uint64_t first = load_be64(data.data());
    for (std::size_t at = 8; at + 8 <= data.size(); at += 8) {
      if (load_be64(&data[at]) != first) return std::nullopt;
    }
    return first;
  }
  static bool good(const Io& io) { return !io.task.aborted && io.status() == ScsiStatus::good; }

  // One thing after the other, as an initiator with queue depth one.
  class Worker {
   public:
    explicit Worker(MediumLoad& owner) : load(owner) {}
    virtual ~Worker() = default;
    virtual void next() = 0;         // the command before is over; begins another, or is over()
    virtual void ended(Io& io) = 0;  // looks at the outcome

   protected:
    void run(std::vector<std::uint8_t> cdb, std::vector<std::uint8_t> out = {}, std::uint32_t in = 0) {
      run(load.nexus_, std::move(cdb), std::move(out), in);
    }
    void run(Nexus& nexus, std::vector<std::uint8_t> cdb, std::vector<std::uint8_t> out = {},
             std::uint32_t in = 0) {
      io_.emplace(load.device_, nexus, std::move(cdb), std::move(out), in);
      io_->task.done = Delegate<void(Task&)>::to<&Worker::on_done>(*this);
      io_->task.cancelled = Delegate<void(Task&)>::to<&Worker::on_cancelled>(*this);
      if (ordered_) io_->task.attribute = TaskAttribute::ordered;
      load.channel_.know(io_->task.op);
      const std::uint8_t opcode = io_->task.cdb[0];
      of_medium_ = opcode == 0x28 || opcode == 0x2a || opcode == 0x83;
      loads_ = load.board_.loads.load();
      const bool ejected = load.board_.ejected.load();
      io_->admit();
      if (io_->ended) return later(ejected);
      load.post_([this] { execute(); });
    }
    void again() {
      load.post_([this] { next(); });
    }
    // next() comes when the writer has got on: nothing spins while others work.
    void park() { load.parked_.push_back(this); }
    void over() { load.worker_over(); }
    MediumLoad& load;
    bool ordered_ = false;  // the next command

   private:
    void execute() {
      Task& task = io_->task;
      const bool ejected = load.board_.ejected.load();
      if (task.phase == Task::Phase::cancelled) load.device_.abort(task);
      if (task.phase == Task::Phase::outside) return later(ejected);
      io_->provide();
      const bool writes = task.need.data_out_bytes != 0;
      const MutableBytes lent = writes ? load.device_.lend(task) : MutableBytes{};
      if (!lent.empty()) {
        load.board_.begin(true);
        std::memcpy(lent.data(), task.data.front().iov_base, lent.size());
      }
      const bool ended = load.device_.execute(task);
      if (!lent.empty()) load.board_.end(true);
      if (ended) later(ejected);
    }
    void on_done(Task&) { later(load.board_.ejected.load()); }
    void on_cancelled(Task&) {}  // execute() is on its way, and gives it back
    // `ejected`: the tray was open all the time until now.
    void later(bool ejected) {
      judge(ejected);
      load.post_([this] {
        ended(*io_);
        next();
      });
    }
    void judge(bool ejected) {
      const std::uint32_t sense = io_->sense();
      if (sense == medium_changed || sense >> 8 == 0x0629) {
        load.told_ = load.board_.loads_begun.load();
        if (sense == medium_changed) ++load.seen_.told_of_medium;
      }
      if (!of_medium_ || !good(*io_)) return;
      // A copy has given its claims back when it tells of its end, and the tray may have opened meanwhile.
      if (ejected && io_->task.cdb[0] != 0x83) load.problem_ = "a command was served while the tray was open";
      if (load.plan_.self != 0 && loads_ > load.told_)
        load.problem_ = "a nexus was served before it learned of the medium";
    }
    std::optional<Io> io_;
    bool of_medium_ = false;
    std::uint64_t loads_ = 0;  // as it was sent
  };

  // Writes, and reads what it wrote.
  class Writer final : public Worker {
   public:
    using Worker::Worker;
    void next() override {
      if (load.board_.over.load()) {
        load.wake_parked();
        return over();
      }
      const std::uint8_t lba = own_lba(load.plan_.self);
      if (reads_) return run(read(lba, own_blocks), {}, own_bytes);
      begun_ = load.board_.now();
      std::vector<std::uint8_t> data(own_bytes);
      ++issued_;
      for (std::size_t at = 0; at < data.size(); at += 8)
        store_be64(&data[at], stamp(load.plan_.self, issued_));
      run({0x2a, 0, 0, 0, 0, lba, 0, 0, own_blocks, 0}, std::move(data));
    }
    void ended(Io& io) override {
      load.wake_parked();
      if (!reads_) {
        if (io.task.aborted) perhaps_.push_back(issued_);
        if (!good(io)) return;
        completed_ = issued_;
        perhaps_.clear();
        load.board_.of[load.plan_.self].completed.store(issued_);
        ++load.board_.writes;
        reads_ = true;
        return;
      }
      if (!good(io)) return;
      reads_ = false;
      const auto word = word_of(io.data_in());
      const bool mine = word && *word != 0 && shard_of(*word) == load.plan_.self &&
                        (number_of(*word) == completed_ ||
                         std::find(perhaps_.begin(), perhaps_.end(), number_of(*word)) != perhaps_.end());
      const bool wiped = word == 0u && load.board_.wiped_since(begun_);
      if (!mine && !wiped) load.problem_ = "what was written is not there";
    }

   private:
    bool reads_ = false;
    std::uint64_t issued_ = 0, completed_ = 0;
    MediumBoard::Moment begun_;
    std::vector<std::uint64_t> perhaps_;  // aborted
  };

  // SANITIZE and FORMAT UNIT, each kind in its turn, with IMMED and without; then looks at all of the medium.
  class Wiper final : public Worker {
   public:
    using Worker::Worker;
    void next() override {
      ordered_ = stage_ == Stage::look;  // beside the writes of others it might see a part of one
      switch (stage_) {
        case Stage::wait:
          if (load.seen_.wipes >= load.plan_.wipes && load.seen_.tokens_used != 0) {
            over();
            return load.lead_over();
          }
          if (load.board_.writes.load() < next_) return park();
          for (std::size_t i = 0; i < before_.size(); ++i) before_[i] = load.board_.of[i].completed.load();
          ++load.board_.wipes_begun;
          return wipe();
        case Stage::until_ready:
          return run({0, 0, 0, 0, 0, 0});
        case Stage::look:
          return run(read(0, medium_load_blocks), {}, medium_load_blocks * 512);
      }
    }
    void ended(Io& io) override {
      switch (stage_) {
        case Stage::wait:
          if (io.sense() >> 16 == 3) load.problem_ = "the work on the medium failed";
          if (!good(io) && !io.task.aborted) {  // unit attentions, an open tray
            ++load.board_.wipes_ended;
            return;
          }
          judged_ = good(io);
          ++round_;
          stage_ = Stage::until_ready;
          return;
        case Stage::until_ready:
          if (!good(io)) return;
          ++load.board_.wipes_ended;
          stage_ = Stage::look;
          return;
        case Stage::look:
          if (!good(io)) return;
          if (judged_) look(io.data_in());
          next_ = load.board_.writes.load() + load.plan_.writes_per_wipe;
          stage_ = Stage::wait;
          return;
      }
    }

   private:
    enum class Stage : std::uint8_t { wait, until_ready, look };
    void wipe() {
      switch (round_ % 5) {
        case 0:
          return run({0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0});  // BLOCK ERASE
        case 1:
          return run({0x48, 0x82, 0, 0, 0, 0, 0, 0, 0, 0});  // the same with IMMED
        case 2:
          return run({0x48, 0x81, 0, 0, 0, 0, 0, 0, 5, 0},
                     {0x02, 0, 0, 1, 0});  // OVERWRITE, two passes, zeroes
        case 3:
          return run({0x04, 0x10, 0, 0, 0, 0}, {0, 0x82, 0, 0});  // FORMAT UNIT: FOV, IMMED
        default:
          return run({0x04, 0, 0, 0, 0, 0});
      }
    }
    void look(const std::vector<std::uint8_t>& all) {
      for (std::size_t at = 0; at < all.size(); at += 8) {
        const std::uint64_t word = load_be64(&all[at]);
        if (word != 0 && number_of(word) <= before_.at(shard_of(word)))
          load.problem_ = "what was wiped is there again";
      }
      ++load.seen_.wipes;
    }
    Stage stage_ = Stage::wait;
    std::array<std::uint64_t, medium_load_max_shards> before_{};  // writes that had been answered
    std::uint32_t round_ = 0;
    bool judged_ = false;
    std::uint64_t next_ = 3;
  };

  // Opens the tray, and shuts it some turns later.
  class Ejector final : public Worker {
   public:
    using Worker::Worker;
    void next() override {
      if (stage_ == Stage::wait) {
        const bool met_a_holder = load.seen_.prevented != 0 || load.board_.tries.load() > 400;
        if (load.seen_.ejects >= load.plan_.ejects && met_a_holder) {
          over();
          return load.lead_over();
        }
        if (load.board_.writes.load() < next_) return park();
        resets_ = load.board_.resets_begun.load();
        for (std::size_t i = 0; i < holds_.size(); ++i) holds_[i] = load.board_.of[i].hold.load();
        changes_ = load.board_.changes_begun.load();
        ++load.board_.tries;
        return run({0x1b, 0, 0, 0, 0x02, 0});
      }
      if (turns_ != 0) {
        --turns_;
        return again();
      }
      if (stage_ == Stage::open) {
        load.board_.ejected.store(false);
        ++load.board_.loads_begun;
        stage_ = Stage::shut;
      }
      ++load.board_.tries;
      run({0x1b, 0, 0, 0, 0x03, 0});
    }
    void ended(Io& io) override {
      if (io.sense() == removal_prevented) ++load.seen_.prevented;
      if (stage_ == Stage::wait) {
        if (io.task.aborted) stage_ = Stage::shut;  // it may be open
        opened_ = good(io);
        if (!opened_) return;
        opened_ = load.board_.unchanged_since(changes_);  // otherwise the operator may have shut it
        if (opened_) {
          judge_opening();
          load.board_.ejected.store(true);
        }
        stage_ = Stage::open;
        turns_ = 8;
        return;
      }
      if (io.task.aborted) opened_ = false;  // it may be shut
      if (!good(io)) return;
      if (opened_ && load.board_.unchanged_since(changes_)) {
        ++load.board_.loads;
        ++load.seen_.ejects;
      }
      next_ = load.board_.writes.load() + load.plan_.writes_per_eject;
      stage_ = Stage::wait;
    }

   private:
    enum class Stage : std::uint8_t { wait, open, shut };
    void judge_opening() {
      for (std::size_t i = 0; i < holds_.size(); ++i) {
        const std::uint64_t hold = load.board_.of[i].hold.load();
        const bool held_all_the_time = (hold & 1) != 0 && hold == holds_[i];
        const bool no_reset =
            load.board_.resets_begun.load() == resets_ && (hold & 0xffff'ffffu) >> 1 == resets_;
        if (held_all_the_time && no_reset) load.problem_ = "the tray opened although a nexus holds it";
      }
    }
    Stage stage_ = Stage::wait;
    bool opened_ = false;
    int turns_ = 0;
    std::uint64_t next_ = 2, resets_ = 0, changes_ = 0;
    std::array<std::uint64_t, medium_load_max_shards> holds_{};
  };

  // Holds the tray shut, or does not, until it has been tried to move it; with a nexus of its own that ends
  // now and then.
  class Holder final : public Worker {
   public:
    explicit Holder(MediumLoad& owner) : Worker(owner) { log_in(); }
    void next() override {
      if (load.board_.over.load()) return over();
      if (load.board_.tries.load() < until_) return park();
      if (!holds_) {
        resets_ = load.board_.resets_begun.load();
        if (resets_ != load.board_.resets_ended.load()) return again();
        return run(*nexus_, {0x1e, 0, 0, 0, 1, 0});
      }
      load.board_.of[load.plan_.self].hold.store(0);
      if (++round_ % 3 != 0) return run(*nexus_, {0x1e, 0, 0, 0, 0, 0});
      log_in();
      released();
      again();
    }
    void ended(Io& io) override {
      if (!good(io)) return;
      if (holds_) return released();
      holds_ = true;
      until_ = load.board_.tries.load() + 2;                   // one that had not begun
      if (load.board_.resets_begun.load() != resets_) return;  // perhaps it does not
      load.board_.of[load.plan_.self].hold.store(std::uint64_t{++number_} << 32 | resets_ << 1 | 1);
    }

   private:
    void log_in() {
      nexus_.reset();
      nexus_.emplace(load.device_, Rig::names(("holder" + std::to_string(load.plan_.self)).c_str()));
    }
    void released() {
      holds_ = false;
      until_ = load.board_.tries.load() + 3;
    }
    std::optional<Nexus> nexus_;
    bool holds_ = false;
    std::uint64_t until_ = 0;
    std::uint32_t round_ = 0, number_ = 0;
    std::uint64_t resets_ = 0;
  };

  // POPULATE TOKEN of what this shard writes, whenever the one before has been deleted.
  class TokenMaker final : public Worker {
   public:
    using Worker::Worker;
    void next() override {
      if (load.board_.over.load()) return over();
      if (made_) return run({0x84, 0x07, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0}, {}, 1024);
      const auto current = load.board_.token();
      if (current != nullptr && !current->deleting.load()) return park();
      changes_ = load.board_.changes_begun.load();
      std::vector<std::uint8_t> list(32);
      list[1] = 30;
      list[15] = 16;
      list[23] = own_lba(load.plan_.self);
      list[27] = own_blocks;
      run({0x83, 0x10, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 32, 0, 0}, std::move(list));
    }
    void ended(Io& io) override {
      if (!made_) {
        made_ = good(io);
        return;
      }
      if (io.sense() >> 16 == 6) return;
      made_ = false;
      const std::vector<std::uint8_t> answer = good(io) ? io.data_in() : std::vector<std::uint8_t>{};
      if (answer.size() != 32 + 4 + 2 + rod_token_bytes) return;  // a reset came between
      auto token = std::make_shared<SharedToken>();
      token->maker = load.plan_.self;
      token->changes = changes_;
      token->bytes.assign(answer.end() - static_cast<std::ptrdiff_t>(rod_token_bytes), answer.end());
      load.board_.show(std::move(token));
    }

   private:
    bool made_ = false;
    std::uint64_t changes_ = 0;
  };

  // WRITE USING TOKEN, every third time with DEL_TKN; now and then one that has been deleted.
  class TokenUser final : public Worker {
   public:
    using Worker::Worker;
    void next() override {
      if (load.board_.over.load()) return over();
      const std::uint8_t lba = copy_lba(load.plan_.self);
      if (written_) return run(read(lba, own_blocks), {}, own_bytes);
      const bool again = deleted_ != nullptr && ++round_ % 4 == 0;
      token_ = again ? deleted_ : load.board_.token();
      if (token_ == nullptr || (!again && token_->deleting.load())) return park();
      was_deleted_ = token_->deleted.load();
      deletes_ = !again && ++uses_ % 3 == 0;
      if (deletes_) token_->deleting.store(true);
      begun_ = load.board_.now();
      source_ = load.board_.of[token_->maker].completed.load();
      std::vector<std::uint8_t> list(16 + rod_token_bytes + 8 + 16);
      store_be16(&list[0], static_cast<std::uint16_t>(list.size() - 2));
      list[2] = deletes_ ? 0x02 : 0;
      std::copy(token_->bytes.begin(), token_->bytes.end(), list.begin() + 16);
      list[535] = 16;
      list[543] = lba;
      list[547] = own_blocks;
      const auto length = static_cast<std::uint16_t>(list.size());
      run({0x83, 0x11, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, static_cast<std::uint8_t>(length >> 8),
           static_cast<std::uint8_t>(length), 0, 0},
          std::move(list));
    }
    void ended(Io& io) override {
      if (written_) {
        if (io.sense() >> 16 == 6) return;
        written_ = false;
        if (good(io)) judge_copy(io.data_in());
        return;
      }
      if (io.sense() >> 8 == 0x0523) {
        if (was_deleted_) ++load.seen_.deleted_refused;
        if (token_->deleting.load()) return;
        if (load.board_.unchanged_since(token_->changes)) load.problem_ = "a good token was refused";
        token_->deleting.store(true);  // it went with its medium: another one is made
        token_->deleted.store(true);
        return;
      }
      if (!good(io)) return;
      if (was_deleted_) load.problem_ = "a token was good after it had been deleted";
      if (deletes_) {
        token_->deleted.store(true);
        deleted_ = token_;
      }
      ++load.seen_.tokens_used;
      written_ = true;
    }

   private:
    void judge_copy(const std::vector<std::uint8_t>& data) {
      const auto word = word_of(data);
      const bool wiped = load.board_.wiped_since(begun_);
      if (!word) {
        load.problem_ = "a token brought parts of several writes";
      } else if (*word == 0) {
        if (begun_.begun == 0 && !wiped && source_ != 0) load.problem_ = "a token brought nothing";
      } else if (shard_of(*word) != token_->maker || (!wiped && number_of(*word) < source_)) {
        load.problem_ = "a token brought something old";
      }
    }
    std::shared_ptr<SharedToken> token_, deleted_;
    bool written_ = false, was_deleted_ = false, deletes_ = false;
    std::uint32_t round_ = 0, uses_ = 0;
    MediumBoard::Moment begun_;
    std::uint64_t source_ = 0;
  };

  class Resetter final : public Worker {
   public:
    using Worker::Worker;
    void next() override {
      if (load.board_.over.load()) return over();
      if (load.board_.writes.load() < next_) return park();
      next_ = load.board_.writes.load() + load.plan_.writes_per_reset;
      ++load.board_.resets_begun;
      request_.function = TmFunction::lun_reset;
      request_.nexus = &load.nexus_;
      request_.done = Delegate<void(TaskManagement&)>::to<&Resetter::managed>(*this);
      if (load.device_.manage(request_)) managed(request_);
    }
    void ended(Io&) override {}

   private:
    void managed(TaskManagement&) {
      ++load.board_.resets_ended;
      again();
    }
    TaskManagement request_;
    std::uint64_t next_ = 20;
  };

  void wake_parked() {
    for (Worker* worker : parked_) {
      post_([worker] { worker->next(); });
    }
    parked_.clear();
  }
  void lead_over() {
    if (++leads_over_ == 2) board_.over.store(true);
  }
  void worker_over() {
    if (++workers_over_ != workers_.size()) return;
    over_.store(true);
    over_.notify_all();
  }

  Device& device_;
  Nexus& nexus_;
  WatchedChannel& channel_;
  MediumBoard& board_;
  Post post_;
  Plan plan_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Worker*> parked_;
  std::size_t workers_over_ = 0;
  int leads_over_ = 0;
  std::uint64_t told_ = 0;  // how many times the medium had changed when this nexus last learned of it
  Seen seen_;
  std::string problem_;
  std::atomic<bool> over_{false};
};

}  // namespace perilune::scsi::test
