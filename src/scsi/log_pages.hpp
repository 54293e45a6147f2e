// SPDX-License-Identifier: Apache-2.0
// What a unit counts for its log pages (SPC-4 7.3, SBC-3 6.3).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace perilune::scsi {

struct UnitCounters {
  std::uint64_t reads = 0;            // READ commands that ended well
  std::uint64_t writes = 0;           // WRITE commands and their kin
  std::uint64_t verifies = 0;
  std::uint64_t blocks_read = 0;      // logical blocks that went to initiators
  std::uint64_t blocks_written = 0;   // that came from them
  std::uint64_t blocks_verified = 0;
  std::uint64_t read_errors = 0;      // medium errors
  std::uint64_t write_errors = 0;
  std::uint64_t verify_errors = 0;
  std::uint64_t starts = 0;           // START STOP UNIT that started a stopped unit

  friend UnitCounters operator+(const UnitCounters& a, const UnitCounters& b) noexcept {
    return {a.reads + b.reads,
            a.writes + b.writes,
            a.verifies + b.verifies,
            a.blocks_read + b.blocks_read,
            a.blocks_written + b.blocks_written,
            a.blocks_verified + b.blocks_verified,
            a.read_errors + b.read_errors,
            a.write_errors + b.write_errors,
            a.verify_errors + b.verify_errors,
            a.starts + b.starts};
  }
  friend UnitCounters operator-(const UnitCounters& a, const UnitCounters& b) noexcept {
    return {a.reads - b.reads,
            a.writes - b.writes,
            a.verifies - b.verifies,
            a.blocks_read - b.blocks_read,
            a.blocks_written - b.blocks_written,
            a.blocks_verified - b.blocks_verified,
            a.read_errors - b.read_errors,
            a.write_errors - b.write_errors,
            a.verify_errors - b.verify_errors,
            a.starts - b.starts};
  }
};

// The pages that LOG SELECT can set back, each by itself: what they show is counted from their own zero.
inline constexpr std::size_t counting_log_pages = 5;
using LogZero = std::array<UnitCounters, counting_log_pages>;

// A number that one thread counts and any may read.
class LiveCounter {
 public:
  LiveCounter& operator+=(std::uint64_t more) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
    return *this;
  }
  LiveCounter& operator++() noexcept { return *this += 1; }
  [[nodiscard]] std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// What one shard counts of a unit, as it goes on. Each shard adds up those of all.
struct LiveCounters {
  LiveCounter reads;
  LiveCounter writes;
  LiveCounter verifies;
  LiveCounter blocks_read;
  LiveCounter blocks_written;
  LiveCounter blocks_verified;
  LiveCounter read_errors;
  LiveCounter write_errors;
  LiveCounter verify_errors;
  LiveCounter starts;

  [[nodiscard]] UnitCounters now() const noexcept {
    return {reads.value(),          writes.value(),          verifies.value(),    blocks_read.value(),
            blocks_written.value(), blocks_verified.value(), read_errors.value(), write_errors.value(),
            verify_errors.value(),  starts.value()};
  }
};

}  // namespace perilune::scsi
