// SPDX-License-Identifier: Apache-2.0
// A disk of the simulated world. It knows two states: what reads see (current) and what is on stable media
// (durable). Everything written is volatile until a sync or a durable write; at a power failure each volatile
// sector survives or not by the seed, so that writes are lost, torn between sectors and reordered. This class
// has no time in it: the delays are SimBlockFile's.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "base/bytes.hpp"
#include "base/units.hpp"
#include "runtime/block_file.hpp"
#include "runtime/sim/prng.hpp"
#include "runtime/sim/world.hpp"

namespace perilune::sim {

struct DiskFaults {
  std::uint32_t read_error_per_million = 0;   // -EIO
  std::uint32_t write_error_per_million = 0;  // -EIO; a part of the sectors may have been written
  std::uint32_t no_space_per_million = 0;     // -ENOSPC for writes and zeroing
  // -EIO, and what was to be synced may be lost for good although reads still show it, as page caches do it:
  // a later sync that succeeds does not bring it back.
  std::uint32_t sync_error_per_million = 0;
  // Lies, planted to prove that a durability test can fail.
  bool ignore_sync = false;           // a sync answers 0 and does nothing
  bool ignore_durable_write = false;  // a durable write is an ordinary one
};

struct DiskOptions {
  std::uint64_t size_bytes = 0;
  std::uint32_t memory_alignment_bytes = 512;  // what a direct open demands
  std::uint32_t offset_alignment_bytes = 512;
  std::uint32_t discard_granularity_bytes = 4096;
  std::uint32_t physical_block_bytes = 4096;
  bool is_block_device = false;
  bool can_direct = true;
  bool writeback = true;  // now and then volatile data becomes durable by itself
  Duration latency_min{std::chrono::microseconds(10)};
  Duration latency_mean{std::chrono::microseconds(200)};
  std::uint32_t at_once_per_million = 60'000;  // operations that end inside the call
  std::uint32_t short_per_million = 0;         // reads and writes that move only a part, cut between sectors
  DiskFaults faults;
};

class SimDisk {
 public:
  static constexpr std::uint64_t sector_bytes = 512;

  SimDisk(World& world, const DiskOptions& options);
  SimDisk(const SimDisk&) = delete;
  SimDisk& operator=(const SimDisk&) = delete;

  [[nodiscard]] const DiskOptions& options() const noexcept { return options_; }
  [[nodiscard]] DiskFaults& faults() noexcept { return options_.faults; }

  // Current state. The ranges lie within the disk.
  void read(ByteOffset offset, MutableBytes out) const;
  void write(ByteOffset offset, Bytes data);
  void zero(ByteOffset offset, ByteCount length);
  // A page that reads as zeroes is a hole.
  [[nodiscard]] runtime::FileExtent extent(ByteOffset offset, ByteCount length) const;
  // Of a write that never ended: a random choice of its sectors.
  void write_torn(ByteOffset offset, Bytes data);

  // Durability. A mark names everything applied so far.
  [[nodiscard]] std::uint64_t mark() const noexcept { return sequence_; }
  void make_durable(std::uint64_t mark);
  void make_durable(ByteOffset offset, ByteCount length);  // the current content of the sectors touched
  void fail_sync(std::uint64_t mark);

  // The current state becomes what survived.
  void lose_power();

  // What stands on stable media.
  void read_durable(ByteOffset offset, MutableBytes out) const;
  [[nodiscard]] std::size_t volatile_operations() const noexcept { return log_.size(); }
  // Over all power failures: operations of which some sectors survived and some did not; operations lost
  // whole.
  [[nodiscard]] std::uint64_t torn() const noexcept { return torn_; }
  [[nodiscard]] std::uint64_t lost() const noexcept { return lost_; }

 private:
  static constexpr std::uint64_t page_bytes = 4096;
  static constexpr std::uint64_t sectors_per_page = page_bytes / sector_bytes;
  struct Page {
    std::uint8_t current[page_bytes] = {};
    std::uint8_t durable[page_bytes] = {};
    std::uint64_t durable_sequence[sectors_per_page] = {};
  };
  struct Operation {
    std::uint64_t sequence = 0;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    std::vector<std::uint8_t> data;  // empty: zeroes
  };

  Page& page(std::uint64_t offset);
  [[nodiscard]] const Page* find_page(std::uint64_t offset) const;
  void apply(std::uint64_t offset, std::uint64_t length, const std::uint8_t* data);
  // The part of `op` in the sector at or after `offset`; returns its length.
  void persist_piece(const Operation& op, std::uint64_t offset, std::uint64_t length);
  void persist(const Operation& op);
  void survive(const Operation& op, std::uint64_t mode);
  void maybe_write_back();

  World& world_;
  DiskOptions options_;
  Prng prng_;
  std::map<std::uint64_t, std::unique_ptr<Page>> pages_;
  std::deque<Operation> log_;  // volatile, in the order applied
  std::uint64_t sequence_ = 0;
  std::uint64_t torn_ = 0;
  std::uint64_t lost_ = 0;
};

}  // namespace perilune::sim
