// SPDX-License-Identifier: Apache-2.0
// SANITIZE and FORMAT UNIT at work on a whole medium (SBC-4 4.11, 4.35): an operation of the logical unit
// rather than of a task. Once started it goes on whatever becomes of the command, the session and the unit (a
// reset does not touch it); meanwhile the unit refuses everything but INQUIRY, REPORT LUNS and REQUEST SENSE,
// and REQUEST SENSE tells how far it has come. One block operation at a time; where those end at once the
// device puts the next one off (Device::put_off).
//
// Where several shards serve the unit, the shard whose command started it carries it out, and the others know
// its news: they refuse what it refuses before it begins.
//
// An operation that failed is remembered: until one succeeds, or SANITIZE leaves the failure mode, nobody
// gets at the medium. That memory ends with the process. For src/scsi alone. One thread (the shard's).
#pragma once

#include <sys/uio.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/block_op.hpp"
#include "scsi/command_table.hpp"
#include "scsi/sense.hpp"

namespace perilune::scsi {

class LogicalUnit;
struct Task;

struct MediumPlan {
  enum class Kind : std::uint8_t { sanitize, format };
  enum class Method : std::uint8_t {
    overwrite,  // each block is written with the pattern, `passes` times, each time onto the medium
    wipe,   // what is mapped is overwritten with zeroes, onto the medium; then all is deallocated where that
            // can be
    clear,  // reads give zeroes afterwards; no more than that
    forget_key,  // nobody can decrypt what is stored; then as clear, so that no block is left whose
                 // protection information is wrong
  };
  Kind kind = Kind::sanitize;
  Method method = Method::wipe;
  bool unrestricted = false;        // AUSE: a failure may be left by EXIT FAILURE MODE
  bool invert = false;              // the pattern, from pass to pass; the last one writes it as it is
  std::uint8_t passes = 1;          // 1..31
  std::uint16_t pattern_bytes = 0;  // 1..a block, repeated in each block; 0: zeroes
  std::array<std::uint8_t, 4096> pattern{};
};

// What every shard knows of the last operation. A value; it goes from shard to shard, and the later one
// counts, whatever comes first.
struct MediumNews {
  enum class State : std::uint8_t { idle, running, failed };
  std::uint64_t number = 0;  // of the operation, or of its failure's end; over all shards, for they never
                             // begin two at once
  State state = State::idle;
  MediumPlan::Kind kind = MediumPlan::Kind::sanitize;
  bool unrestricted = false;
  std::shared_ptr<std::atomic<std::uint16_t>> progress;  // of 65536; written by the shard that does it

  [[nodiscard]] bool later_than(const MediumNews& other) const noexcept {
    if (number != other.number) return number > other.number;
    return state != State::running && other.state == State::running;
  }
};

class MediumOperation {
 public:
  explicit MediumOperation(LogicalUnit& unit) noexcept : unit_(unit) {}
  MediumOperation(const MediumOperation&) = delete;
  MediumOperation& operator=(const MediumOperation&) = delete;

  // From begin() on it is running; go() starts its work, and may see its end. Precondition: none is running,
  // and at go() no command of the unit touches its medium, on any shard.
  void begin(const MediumPlan& plan);
  void go() { advance(); }
  [[nodiscard]] bool at_rest() const noexcept {
    return news_.state == MediumNews::State::idle;
  }  // it refuses nothing
  [[nodiscard]] bool running() const noexcept { return news_.state == MediumNews::State::running; }
  [[nodiscard]] bool failed() const noexcept { return news_.state == MediumNews::State::failed; }
  [[nodiscard]] bool at_work() const noexcept {
    return stage_ != Stage::done;
  }  // it is this shard that does it
  [[nodiscard]] const MediumNews& news() const noexcept { return news_; }
  void learn(const MediumNews& news) {  // of another shard
    if (news.later_than(news_)) news_ = news;
  }

  // What REQUEST SENSE tells of it.
  [[nodiscard]] std::optional<Sense> condition() const noexcept;
  // Why a command is refused; nothing when it is served.
  [[nodiscard]] std::optional<Sense> refusal(const CommandRow& row) const noexcept;
  // The same for the part of a copy.
  [[nodiscard]] std::optional<Sense> refusal_of_data() const noexcept;
  // EXIT FAILURE MODE. False: the failed operation was in restricted completion mode.
  [[nodiscard]] bool exit_failure_mode() noexcept;

  // The task that ends with the operation (IMMED = 0), told by Device::medium_ended. It may leave before.
  void set_waiter(Task* task) noexcept { waiter_ = task; }
  [[nodiscard]] Task* waiter() const noexcept { return waiter_; }

  // Ends it, as failed, once the block operation under way has ended. For the end of the process.
  void stop() noexcept { stopping_ = true; }

 private:
  enum class Stage : std::uint8_t { changing_key, asking, writing, flushing_pass, erasing, flushing, done };

  void advance();
  [[nodiscard]] bool ended();  // op_ has: false when it failed
  void prepare();
  void prepare_write(std::uint64_t end);
  void prepare_flush() noexcept;
  void prepare_erase() noexcept;
  void next_pass();
  void after_data();
  void finish(bool good);
  void fill();
  [[nodiscard]] Stage first_stage() const noexcept;
  [[nodiscard]] std::uint16_t progress() const noexcept;
  static void operation_ended(void* context, block::BlockOp& op);

  struct Free {
    void operator()(std::uint8_t* memory) const noexcept;
  };

  LogicalUnit& unit_;
  MediumNews news_;
  Stage stage_ = Stage::done;
  bool stopping_ = false;
  MediumPlan plan_;
  Task* waiter_ = nullptr;

  std::uint64_t blocks_ = 0;      // of the medium
  std::uint64_t position_ = 0;    // in this stage
  std::uint64_t extent_end_ = 0;  // wipe: of the blocks that are mapped
  std::uint8_t pass_ = 0;
  std::uint64_t work_done_ = 0;  // in blocks, each as often as it is gone over
  std::uint64_t work_ = 1;
  std::unique_ptr<std::uint8_t[], Free> buffer_;  // what is written, again and again; only while running
  std::uint64_t buffer_blocks_ = 0;
  iovec piece_{};
  block::BlockOp op_;
};

}  // namespace perilune::scsi
