// SPDX-License-Identifier: Apache-2.0
#include "scsi/protection.hpp"

#include <algorithm>

#include "crypto/crc16_t10dif.hpp"

namespace perilune::scsi {
namespace {

constexpr std::uint16_t tag_escape = 0xffff;
constexpr std::uint32_t reference_escape = 0xffff'ffff;

std::uint32_t low_32(std::uint64_t lba) noexcept { return static_cast<std::uint32_t>(lba); }

// SBC-3 4.22.4: nothing of such a block is checked when it is read.
bool escapes(ProtectionType type, const ProtectionField& field) noexcept {
  if (field.application_tag != tag_escape) return false;
  return type != ProtectionType::type_3 || field.reference_tag == reference_escape;
}

bool to_be_checked(const block::Protection& wanted, std::uint8_t what) noexcept {
  return (wanted.unchecked & what) == 0;
}

std::array<std::uint8_t, protection_field_bytes> take_field(Cursor& at) noexcept {
  std::array<std::uint8_t, protection_field_bytes> bytes{};
  at.copy_out(bytes);
  return bytes;
}

// Only initiators that own the application tags say what they should be: in the CDB, or in the mode page.
bool is_another_tag(const ProtectionRules& rules, const block::Protection& wanted, std::uint16_t tag,
                    std::uint64_t lba) noexcept {
  if (!rules.application_tags_belong_to_initiators) return false;
  if (wanted.expected) return ((tag ^ wanted.expected_tag) & wanted.expected_mask) != 0;
  const auto known = rules.application_tag_of(lba);
  return known && *known != tag;
}

}  // namespace

std::optional<std::uint16_t> ProtectionRules::application_tag_of(std::uint64_t lba) const noexcept {
  if (!application_tags_belong_to_initiators || !application_tags_are_known) return std::nullopt;
  for (const ApplicationTagRange& range : application_tags) {
    if (lba >= range.lba && lba - range.lba < range.blocks) return range.tag;
    if (range.last) break;
  }
  return std::nullopt;
}

ProtectionField generate(const ProtectionRules& rules, std::uint16_t guard, std::uint64_t lba) noexcept {
  if (rules.type == ProtectionType::none) return {};
  ProtectionField field;
  field.guard = guard;
  if (!rules.application_tags_belong_to_initiators) {
    field.application_tag = 0;  // no escape: it is checked later
  } else if (const auto tag = rules.application_tag_of(lba)) {
    field.application_tag = *tag;
  }
  if (rules.type == ProtectionType::type_1) field.reference_tag = low_32(lba);
  return field;
}

bool checks_guard(const ProtectionRules& rules, const block::Protection& wanted) noexcept {
  return rules.type != ProtectionType::none && to_be_checked(wanted, block::Protection::guard);
}

std::optional<block::OpStatus> check(const ProtectionRules& rules, const block::Protection& wanted,
                                     Direction direction, const ProtectionField& field, std::uint16_t guard,
                                     std::uint64_t lba) noexcept {
  if (rules.type == ProtectionType::none) return std::nullopt;
  if (direction == Direction::from_medium && escapes(rules.type, field)) return std::nullopt;
  if (to_be_checked(wanted, block::Protection::guard) && field.guard != guard)
    return block::OpStatus::guard_failed;
  if (to_be_checked(wanted, block::Protection::application_tag) &&
      is_another_tag(rules, wanted, field.application_tag, lba)) {
    return block::OpStatus::application_tag_failed;
  }
  const bool known =
      rules.type == ProtectionType::type_1 || (rules.type == ProtectionType::type_2 && wanted.expected);
  if (to_be_checked(wanted, block::Protection::reference_tag) && known &&
      field.reference_tag != low_32(lba) + wanted.reference_delta) {
    return block::OpStatus::reference_tag_failed;
  }
  return std::nullopt;
}

std::uint16_t guard_of(Cursor& at, std::size_t length) noexcept {
  std::uint16_t crc = crypto::crc16_t10dif_start;
  while (length != 0) {
    const MutableBytes run = at.run();
    const std::size_t step = std::min(run.size(), length);
    if (step == 0) break;
    crc = crypto::crc16_t10dif(crc, run.first(step));
    at.advance(step);
    length -= step;
  }
  return crc;
}

std::optional<ProtectionFailure> check_carried(const ProtectionRules& rules, const block::Protection& wanted,
                                               Direction direction, std::span<const iovec> data,
                                               std::uint32_t block_bytes, std::uint64_t lba,
                                               std::uint64_t blocks) noexcept {
  const bool guards = checks_guard(rules, wanted);
  Cursor at(data, 0);
  for (std::uint64_t i = 0; i < blocks; ++i) {
    std::uint16_t guard = 0;
    if (guards)
      guard = guard_of(at, block_bytes);
    else
      at.advance(block_bytes);
    const ProtectionField field = ProtectionField::load(take_field(at).data());
    if (const auto why = check(rules, wanted, direction, field, guard, lba + i))
      return ProtectionFailure{*why, lba + i};
  }
  return std::nullopt;
}

void complement_fields(std::span<const iovec> data, std::uint32_t block_bytes,
                       std::uint64_t blocks) noexcept {
  Cursor at(data, 0);
  for (std::uint64_t i = 0; i < blocks; ++i) {
    at.advance(block_bytes);
    for (std::size_t left = protection_field_bytes; left != 0;) {
      const MutableBytes run = at.run();
      const std::size_t step = std::min(run.size(), left);
      if (step == 0) return;
      for (std::size_t b = 0; b < step; ++b) run[b] = static_cast<std::uint8_t>(~run[b]);
      at.advance(step);
      left -= step;
    }
  }
}

}  // namespace perilune::scsi
