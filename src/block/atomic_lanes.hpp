// SPDX-License-Identifier: Apache-2.0
// The atomic writes of one loop, on their way through the journal (block/atomic_journal.hpp). One thread (the
// loop's).
//
// A write takes these steps, each an operation of its own:
//   read_old  what is there is read, so that a write that fails half way can be taken back
//   look      is there space for all of it? (where the disk has holes)
//   fill      if not, what is there (zeroes, in part) is written as it is: a full file system says so here,
//   while nothing is lost record    header and payload go into the slot, durably write     the payload goes
//   where it belongs, durably restore   only if that has failed: what was there goes back retire    the
//   header is taken back, durably
// If the last fails, the entry could be found after a crash and be written over what came later. Then the
// disk is as one whose flush has failed: nothing durable is promised from then on (FlushHealth).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/block_op.hpp"
#include "base/intrusive_list.hpp"
#include "block/atomic_journal.hpp"
#include "block/backends/file_channel.hpp"

namespace perilune::block {

// A disk that is written to atomically; lives as long as its channel.
struct AtomicDisk {
  Channel& channel;  // takes the operations of the steps: none of them `atomic`
  std::shared_ptr<FlushHealth> health;
  std::uint64_t number = 0;
};

class AtomicLanes {
 public:
  static constexpr std::size_t max_lanes = 2;  // writes on their way at once; others wait in turn

  // `file`: the journal. `slots`: of this journal, not more than max_lanes, ours until the end.
  AtomicLanes(std::shared_ptr<AtomicJournal> journal, std::unique_ptr<runtime::BlockFile> file,
              std::vector<std::uint32_t> slots);
  ~AtomicLanes();  // precondition: nothing outstanding
  AtomicLanes(const AtomicLanes&) = delete;
  AtomicLanes& operator=(const AtomicLanes&) = delete;

  // As Channel::submit(). A write within the disk and of at least one block, at most max_atomic_blocks().
  // Uses op.backend_space.
  [[nodiscard]] bool submit(const AtomicDisk& disk, BlockOp& op);

 private:
  enum class Step : std::uint8_t { read_old, look, fill, record, write, restore, retire };
  struct Free {
    void operator()(std::uint8_t* memory) const noexcept;
  };
  using Memory = std::unique_ptr<std::uint8_t[], Free>;
  struct Lane : ListNode<Lane> {
    AtomicLanes* lanes = nullptr;
    std::uint32_t slot = 0;
    const AtomicDisk* disk = nullptr;
    BlockOp* outer = nullptr;
    BlockOp op;
    iovec piece{};
    Step step = Step::read_old;
    std::uint64_t looked_blocks = 0;
    OpStatus outcome = OpStatus::ok;
    int os_errno = 0;
    Memory entry;  // a whole slot: header and payload
    Memory old;    // what was there
  };

  [[nodiscard]] bool start(Lane& lane, BlockOp& op);
  [[nodiscard]] bool go_on(Lane& lane);
  void prepare(Lane& lane);
  void fill_entry(Lane& lane);
  [[nodiscard]] bool ended(Lane& lane);
  [[nodiscard]] bool end(Lane& lane);
  void release(Lane& lane);
  void start_waiting();
  static void completed(void* context, BlockOp& op);
  [[nodiscard]] static Memory memory_for(std::size_t bytes);

  std::shared_ptr<AtomicJournal> journal_;
  std::unique_ptr<Channel> file_;
  std::vector<std::uint32_t> slots_;
  std::array<Lane, max_lanes> lanes_;
  IntrusiveList<Lane> free_;
  IntrusiveList<BlockOp> waiting_;
};

}  // namespace perilune::block
