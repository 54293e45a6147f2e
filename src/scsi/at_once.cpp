// SPDX-License-Identifier: Apache-2.0
// Device::transfer_at_once: what admit(), lend() and execute() decide together about nearly every READ and
// WRITE of a disk in memory or a file in the page cache, decided at one look. It accepts only where they
// would end with GOOD and lend the same memory, or move the same bytes before they return (at_once_test.cpp
// holds the two against each other); whatever else there is to say, they say.
#include <cstddef>

#include "base/limits.hpp"
#include "scsi/device.hpp"
#include "scsi/lun.hpp"
#include "scsi/nexus.hpp"

namespace perilune::scsi {
namespace {

struct Range {
  std::uint64_t lba = 0;
  std::uint64_t blocks = 0;  // 0: none, or not of the kinds that are looked at
};

// READ and WRITE (10) and (16) without protection, DPO, FUA, group number and control
// (SBC-3 5.8, 5.11, 5.32, 5.35).
Range plain_range(const std::uint8_t* cdb, bool writes) noexcept {
  if (cdb[1] != 0) return {};
  if (cdb[0] == (writes ? 0x2a : 0x28)) {
    if ((cdb[6] | cdb[9]) != 0) return {};
    return {load_be32(cdb + 2), load_be16(cdb + 7)};
  }
  if (cdb[0] == (writes ? 0x8a : 0x88)) {
    if ((cdb[14] | cdb[15]) != 0) return {};
    return {load_be64(cdb + 2), load_be32(cdb + 10)};
  }
  return {};
}

}  // namespace

bool LogicalUnit::serves_at_once(bool writes) const noexcept {
  if (!geometry_->lends_memory && !(writes ? geometry_->writes_at_once : geometry_->reads_at_once))
    return false;
  if (command_set_ != CommandSet::disk) return false;
  if (barriers_ != 0 || !medium_.at_rest() || is_reserved() || config_.port_groups.restricted())
    return false;
  if (!state_.medium_present || state_.stopped) return false;
  // A write that has to reach a medium behind a cache is not over when its bytes are in the memory.
  return !writes ||
         (!write_protected() && ((state_.wce && !config_.rules.write_through) || !geometry_->write_cache));
}

AtOnce Device::transfer_at_once(Nexus& nexus, const WholeTransfer& transfer) {
  const LunAddress address = decode_lun(transfer.lun);
  Nexus::Slot* slot = address.kind == LunAddress::Kind::unit ? nexus.slot(address.number) : nullptr;
  if (slot == nullptr || !slot->attentions.empty() || (transfer.writes && slot->read_only)) return {};
  LogicalUnit& unit = *slot->unit;
  const auto [lba, blocks] = plain_range(transfer.cdb, transfer.writes);
  const std::uint64_t total = unit.geometry_->blocks.value();
  if (blocks == 0 || lba > total || blocks > total - lba || !unit.serves_at_once(transfer.writes)) return {};
  if (blocks * unit.block_bytes_ != transfer.bytes || transfer.bytes > limits::max_transfer_bytes) return {};
  const std::uint32_t most = unit.geometry_->max_transfer_blocks;
  if (most != 0 && blocks > most) return {};
  if (!unit.geometry_->lends_memory) {
    if (!transfer.writes) return {nullptr, AtOnce::Outcome::copies};
    if (!unit.channel_->write_at_once(Lba(lba), BlockCount(blocks), transfer.data)) return {};
    unit.count_write(blocks);
    return {nullptr, AtOnce::Outcome::written};
  }
  std::uint8_t* memory = unit.channel_->lend(Lba(lba), BlockCount(blocks), transfer.writes);
  if (memory == nullptr) return {};
  if (transfer.writes)
    unit.count_write(blocks);
  else
    unit.count_read(blocks);
  return {memory, AtOnce::Outcome::lent};
}

bool Device::read_at_once(Nexus& nexus, const WholeTransfer& transfer, std::uint8_t* to) {
  LogicalUnit& unit = *nexus.slot(decode_lun(transfer.lun).number)->unit;
  const auto [lba, blocks] = plain_range(transfer.cdb, false);
  if (!unit.channel_->read_at_once(Lba(lba), BlockCount(blocks), to)) return false;
  unit.count_read(blocks);
  return true;
}

}  // namespace perilune::scsi
