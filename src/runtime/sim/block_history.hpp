// SPDX-License-Identifier: Apache-2.0
// The judge of what a disk returns: it knows every version of every block that was ever written, in which
// order they were acknowledged, flushed, or may have been lost, and says whether a block that was read is one
// of the legal ones.
//
//   auto w = history.begin_write(lba, buffer);   // fills the buffer with this version's bytes
//   ... the write is sent ...
//   history.end_write(w, Outcome::acknowledged, fua);
//   auto f = history.begin_flush(); ... history.end_flush(f, true);
//   auto r = history.begin_read(lba, count); ... history.end_read(r, data)   // {} or what is wrong
//
// The rules:
//  - A read sees, for each block, a version that no other acknowledged version replaced before the read
//  began: a version is
//    replaced by one that began after it was acknowledged. Versions that overlap in time may be seen in
//    either order.
//  - After power_lost() what was acknowledged but neither FUA nor covered by a flush may be gone: legal are
//  the last
//    durable version and every one not replaced by it. The first read begun afterwards that meets no open
//    write settles which one it is.
//  - A write that failed (or was never answered) may take effect at any time until settle_failed() is called.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/units.hpp"

namespace perilune::sim {

enum class Outcome : std::uint8_t { acknowledged, failed };

class BlockHistory {
 public:
  // One ticket of begin_*: to be given back once.
  struct Write {
    std::uint64_t version = 0;
  };
  struct Flush {
    std::uint64_t started = 0;
  };
  struct Read {
    Lba first;
    std::uint64_t count = 0;
    std::uint64_t started = 0;
  };

  // A new medium: every block reads as zeroes. block_bytes is a multiple of 512; torn blocks are violations,
  // so it is the unit that the disk writes atomically.
  BlockHistory(std::uint64_t seed, std::uint32_t block_bytes, BlockCount blocks);

  // Fills `out` (a whole number of blocks) with the content to write.
  [[nodiscard]] Write begin_write(Lba first, MutableBytes out);
  // The same for a command that makes blocks zero (UNMAP, WRITE SAME, punch).
  [[nodiscard]] Write begin_zero(Lba first, BlockCount count);
  void end_write(Write write, Outcome outcome, bool durable);

  [[nodiscard]] Flush begin_flush() noexcept;
  void end_flush(Flush flush, bool succeeded);

  [[nodiscard]] Read begin_read(Lba first, BlockCount count) noexcept;
  // Empty when every block is legal, else one line about the first that is not.
  [[nodiscard]] std::string end_read(Read read, Bytes data);
  // What a read from now on, with nothing else going on, would be checked for.
  [[nodiscard]] std::string check(Lba first, Bytes data) {
    return end_read(begin_read(first, BlockCount(data.size() / block_bytes_)), data);
  }

  // The disk lost power: see above. Writes still open stay open: an initiator may replay them.
  void power_lost();
  // A failed sync may have lost what was acknowledged so far although reads still show it (page caches do
  // that), and a process that starts afresh does not know: no later flush makes these versions durable.
  void distrust_cache();
  // For disks that return no block which a power loss has torn, but fail the read of it (protection
  // information): whether that may have happened to this one. It was being written, or a write of it that
  // ended was not durable, and no durable one replaced it. Such a block is to be written again.
  [[nodiscard]] bool may_be_torn(Lba lba);

  // No failed write can take effect any more (its target is gone, or has answered a reinstating login).
  void settle_failed();

  [[nodiscard]] std::uint64_t blocks_checked() const noexcept { return checked_; }
  [[nodiscard]] std::uint64_t open_writes() const noexcept { return extents_.size(); }

 private:
  enum class State : std::uint8_t { open, failed, closed };
  struct Version {
    std::uint64_t id = 0;
    std::uint64_t began = 0;
    std::uint64_t ended = 0;  // when acknowledged or settled; meaningful when closed
    State state = State::open;
    bool zero = false;
    bool durable = false;
    bool certain = false;  // acknowledged, and no power loss since could have taken it away
    bool distrusted = false;
    bool met_power_loss = false;  // while open: its answer may be older than the loss
  };
  struct Block {
    std::vector<Version> versions;  // those that may still be seen, oldest first
    bool unsettled = false;         // a power loss has happened and no read has told what is there
  };
  struct Extent {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    State state = State::open;
  };

  [[nodiscard]] Write begin(Lba first, std::uint64_t count, bool zero);
  Block& block(std::uint64_t lba);
  static Version* find(Block& block, std::uint64_t id) noexcept;
  [[nodiscard]] static bool precedes(const Version& a, const Version& b) noexcept;
  [[nodiscard]] static bool replaced(const Block& block, const Version& v,
                                     std::uint64_t read_started) noexcept;
  static void prune(Block& block);
  void fill(std::uint64_t lba, std::uint64_t version, MutableBytes out) const;
  [[nodiscard]] std::uint64_t identify(std::uint64_t lba, Bytes data, bool& zero) const;
  [[nodiscard]] std::string judge(std::uint64_t lba, Bytes data, std::uint64_t read_started);
  void settle(Block& block, Version seen, std::uint64_t read_started);

  std::uint64_t seed_;
  std::uint32_t block_bytes_;
  std::uint64_t blocks_;
  std::uint64_t tick_ = 1;  // every begin and end gets its own
  std::uint64_t next_version_ = 1;
  std::uint64_t checked_ = 0;
  std::uint64_t last_power_loss_ = 0;  // a tick
  std::map<std::uint64_t, Block> map_;
  std::map<std::uint64_t, Extent> extents_;  // of versions open or failed
};

}  // namespace perilune::sim
