// SPDX-License-Identifier: Apache-2.0
// Protection information of logical blocks (SBC-3 4.22): what its fields are, how they are made and what is
// checked. Protection interval exponent 0: one field of eight bytes for each block. For src/scsi alone.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "base/block_op.hpp"
#include "base/bytes.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {

inline constexpr std::uint32_t protection_field_bytes = 8;

// How a medium is formatted.
enum class ProtectionType : std::uint8_t { none = 0, type_1 = 1, type_2 = 2, type_3 = 3 };

struct ProtectionField {
  std::uint16_t guard = 0xffff;
  std::uint16_t application_tag = 0xffff;
  std::uint32_t reference_tag = 0xffff'ffff;

  [[nodiscard]] static ProtectionField load(const std::uint8_t* bytes) noexcept {
    return {load_be16(bytes), load_be16(bytes + 2), load_be32(bytes + 4)};
  }
  void store(std::uint8_t* bytes) const noexcept {
    store_be16(bytes, guard);
    store_be16(bytes + 2, application_tag);
    store_be32(bytes + 4, reference_tag);
  }
};

// Application Tag mode page (SBC-3 6.4.3): what the application tags of these blocks are.
struct ApplicationTagRange {
  bool last = false;         // those after it do not count
  std::uint16_t tag = 0;
  std::uint64_t lba = 0;
  std::uint64_t blocks = 0;  // 0: none

  friend bool operator==(const ApplicationTagRange&, const ApplicationTagRange&) = default;
};
using ApplicationTags = std::array<ApplicationTagRange, 4>;

// What of a unit decides how its blocks are protected.
struct ProtectionRules {
  ProtectionType type = ProtectionType::none;
  bool application_tags_belong_to_initiators = false;  // ATO of the Control mode page
  bool application_tags_are_known = false;             // ATMPE of it
  ApplicationTags application_tags{};

  // What initiators have said of the application tag of this block.
  [[nodiscard]] std::optional<std::uint16_t> application_tag_of(std::uint64_t lba) const noexcept;

  friend bool operator==(const ProtectionRules&, const ProtectionRules&) = default;
};

// Of a block that came, or comes, without any.
[[nodiscard]] ProtectionField generate(const ProtectionRules& rules, std::uint16_t guard,
                                       std::uint64_t lba) noexcept;

enum class Direction : std::uint8_t {
  from_medium,  // the escapes count: where they stand, nothing is checked
  from_initiator,
};

// What is wrong with the field of a block whose data has the CRC `guard`; nothing when all is right that is
// to be checked.
[[nodiscard]] std::optional<block::OpStatus> check(const ProtectionRules& rules,
                                                   const block::Protection& wanted, Direction direction,
                                                   const ProtectionField& field, std::uint16_t guard,
                                                   std::uint64_t lba) noexcept;

// Whether a guard has to be computed at all.
[[nodiscard]] bool checks_guard(const ProtectionRules& rules, const block::Protection& wanted) noexcept;

// The CRC of the next `length` bytes; the cursor stands behind them afterwards.
[[nodiscard]] std::uint16_t guard_of(Cursor& at, std::size_t length) noexcept;

// Checks `blocks` blocks with their fields behind them. The LBA of the first that is wrong, and why.
struct ProtectionFailure {
  block::OpStatus why;
  std::uint64_t lba;
};
[[nodiscard]] std::optional<ProtectionFailure> check_carried(const ProtectionRules& rules,
                                                             const block::Protection& wanted,
                                                             Direction direction, std::span<const iovec> data,
                                                             std::uint32_t block_bytes, std::uint64_t lba,
                                                             std::uint64_t blocks) noexcept;

// The field of every block becomes its complement.
void complement_fields(std::span<const iovec> data, std::uint32_t block_bytes, std::uint64_t blocks) noexcept;

}  // namespace perilune::scsi
