// SPDX-License-Identifier: Apache-2.0
// Thresholds of thin provisioning (SBC-4 4.7.3.7): a nexus learns by 38/07 that what is available has come
// down to a number, or what is used has come up to one. Counted in threshold sets, of threshold_exponent()
// each. Values alone; no thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/block_op.hpp"
#include "base/space_meter.hpp"

namespace perilune::scsi {

// THRESHOLD RESOURCE; the parameter codes of the log page too (SBC-4 6.4.5).
enum class ThresholdResource : std::uint8_t { available = 0x01, used = 0x02 };

struct Threshold {
  bool enabled = false;
  std::uint32_t count = 0;  // the middle of its range, which is one threshold set wide
  friend bool operator==(const Threshold&, const Threshold&) = default;
};

// The descriptors of the Logical Block Provisioning mode page are these: two that are armed decreasing, and
// two increasing (SBC-4 table 7 knows no other combinations of resource and arming).
inline constexpr std::array<ThresholdResource, 4> threshold_resources = {
    ThresholdResource::available, ThresholdResource::available, ThresholdResource::used,
    ThresholdResource::used};

struct Thresholds {
  bool reported = true;           // LBPERE of the Read-Write Error Recovery mode page
  bool single_initiator = false;  // SITUA: one nexus learns
  std::array<Threshold, threshold_resources.size()> list{};
  friend bool operator==(const Thresholds&, const Thresholds&) = default;
};

// VPD page B2h: a set is of 1 MiB, or of as much as makes the numbers of all sets fit into 32 bits.
[[nodiscard]] std::uint8_t threshold_exponent(const block::Geometry& geometry) noexcept;

// In logical blocks, with their protection information where they have any.
struct SpaceInBlocks {
  std::uint64_t available = 0;
  std::uint64_t used = 0;
};
[[nodiscard]] SpaceInBlocks in_blocks(block::SpaceLevel level, const block::Geometry& geometry) noexcept;

// In threshold sets: what is available is rounded down, what is used up. RESOURCE COUNT of the log page.
[[nodiscard]] std::uint32_t available_sets(const SpaceInBlocks& space, std::uint8_t exponent) noexcept;
[[nodiscard]] std::uint32_t used_sets(const SpaceInBlocks& space, std::uint8_t exponent) noexcept;

// The notification triggers of a unit (SBC-4 4.7.3.7.4, 4.7.3.7.5): a threshold that was reached is told
// once, and again only after the value has left its range at the side it came from.
class ThresholdTriggers {
 public:
  // A bit for each threshold that is to be told of now.
  [[nodiscard]] std::uint8_t update(const Thresholds& thresholds, const SpaceInBlocks& space,
                                    std::uint8_t exponent) noexcept;
  // MODE SELECT: what was told of a threshold that is another now does not count.
  void changed(const Thresholds& before, const Thresholds& now) noexcept;
  void reset() noexcept { told_ = 0; }

 private:
  std::uint8_t told_ = 0;
};

}  // namespace perilune::scsi
