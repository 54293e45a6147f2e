// SPDX-License-Identifier: Apache-2.0
#include "scsi/thresholds.hpp"

#include <algorithm>
#include <bit>
#include <limits>

namespace perilune::scsi {
namespace {

constexpr std::uint32_t set_bytes = 1048576;

std::uint32_t saturated(std::uint64_t count) noexcept {
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(count, std::numeric_limits<std::uint32_t>::max()));
}

std::uint8_t bit(std::size_t index) noexcept { return static_cast<std::uint8_t>(1u << index); }

}  // namespace

std::uint8_t threshold_exponent(const block::Geometry& geometry) noexcept {
  const auto of_set =
      static_cast<int>(std::bit_width(set_bytes / std::max(geometry.block_size_bytes, 1u))) - 1;
  const auto of_capacity = static_cast<int>(std::bit_width(geometry.blocks.value())) - 32;
  return static_cast<std::uint8_t>(std::max({of_set, of_capacity, 1}));
}

SpaceInBlocks in_blocks(block::SpaceLevel level, const block::Geometry& geometry) noexcept {
  const std::uint64_t stored = geometry.block_size_bytes + geometry.protection_bytes;
  return {level.available_bytes / stored,
          level.used_bytes / stored + (level.used_bytes % stored != 0 ? 1 : 0)};
}

std::uint32_t available_sets(const SpaceInBlocks& space, std::uint8_t exponent) noexcept {
  return saturated(space.available >> exponent);
}

std::uint32_t used_sets(const SpaceInBlocks& space, std::uint8_t exponent) noexcept {
  const std::uint64_t rest = space.used & ((std::uint64_t{1} << exponent) - 1);
  return saturated((space.used >> exponent) + (rest != 0 ? 1 : 0));
}

std::uint8_t ThresholdTriggers::update(const Thresholds& thresholds, const SpaceInBlocks& space,
                                       std::uint8_t exponent) noexcept {
  std::uint8_t news = 0;
  for (std::size_t i = 0; i < thresholds.list.size(); ++i) {
    const Threshold& threshold = thresholds.list[i];
    if (!threshold.enabled || !thresholds.reported) {
      told_ = static_cast<std::uint8_t>(told_ & ~bit(i));
      continue;
    }
    const std::uint64_t middle = std::uint64_t{threshold.count} << exponent;
    const std::uint64_t half = (std::uint64_t{1} << exponent) / 2;
    const std::uint64_t lowest = middle > half ? middle - half : 0;
    const std::uint64_t highest = middle + half;
    const bool decreasing = threshold_resources[i] == ThresholdResource::available;
    const std::uint64_t value = decreasing ? space.available : space.used;
    // Nothing can fall below a range that begins at 0: there the last block is told (SBC-4 4.7.3.7.4, note
    // c).
    const bool reached = decreasing ? value < lowest || value == 0 : value > highest;
    const bool left = decreasing ? value > highest : value < lowest;
    if (left) told_ = static_cast<std::uint8_t>(told_ & ~bit(i));
    if (!reached || (told_ & bit(i)) != 0) continue;
    told_ |= bit(i);
    news |= bit(i);
  }
  return news;
}

void ThresholdTriggers::changed(const Thresholds& before, const Thresholds& now) noexcept {
  for (std::size_t i = 0; i < now.list.size(); ++i) {
    if (before.list[i] != now.list[i]) told_ = static_cast<std::uint8_t>(told_ & ~bit(i));
  }
}

}  // namespace perilune::scsi
