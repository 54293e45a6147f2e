// SPDX-License-Identifier: Apache-2.0
#include "scsi/nexus.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "scsi/copy_operation.hpp"
#include "scsi/device.hpp"
#include "scsi/lun.hpp"

namespace perilune::scsi {

Nexus::Nexus(Device& device, NexusNames names, std::optional<std::vector<LunMapping>> map)
    : device_(device), names_(std::move(names)), life_(device.greet(*this)), map_(std::move(map)) {
  (void)refresh_map(device_.first_attention(names_));
  device_.nexuses_.push_back(*this);
}

Nexus::~Nexus() {
  PERILUNE_ASSERT(tasks_ == 0);
  device_.forget(*this);
}

NexusCopies& Nexus::copies() {
  if (copies_ == nullptr) copies_ = std::make_unique<NexusCopies>();
  return *copies_;
}

void Nexus::set_map(std::optional<std::vector<LunMapping>> map) {
  map_ = std::move(map);
  (void)refresh_map(UnitAttention::power_on);
  raise_on_all(UnitAttention::reported_luns_changed);
  for (const auto& unit : device_.units_) {
    const bool seen = find_unit([&](const LogicalUnit& each) { return &each == unit.get(); }) != nullptr;
    if (!seen) unit->nexus_lost(*this);
  }
}

void Nexus::raise(const LogicalUnit& unit, UnitAttention attention) noexcept {
  if (!map_) {  // every unit under its own number
    if (Slot* own = slot(unit.number()); own != nullptr) own->attentions.raise(attention);
    return;
  }
  for (Slot& slot : slots_) {
    if (slot.unit == &unit) slot.attentions.raise(attention);
  }
}

void Nexus::raise_on_all(UnitAttention attention) noexcept {
  for (Slot& slot : slots_) {
    if (slot.unit != nullptr) slot.attentions.raise(attention);
  }
}

void Nexus::note(const LogicalUnit& unit, MediaEvent event) noexcept {
  for (Slot& slot : slots_) {
    if (slot.unit == &unit) slot.media_event = event;
  }
}

MediaEvent Nexus::take_media_event(const LogicalUnit& unit) noexcept {
  MediaEvent event = MediaEvent::none;
  for (Slot& slot : slots_) {
    if (slot.unit == &unit) event = std::exchange(slot.media_event, MediaEvent::none);
  }
  return event;
}

bool Nexus::read_only_at(std::uint64_t lun) const noexcept {
  const LunAddress address = decode_lun(lun);
  return address.kind == LunAddress::Kind::unit && address.number < slots_.size() &&
         slots_[address.number].read_only;
}

bool Nexus::may_write_to(const LogicalUnit& unit) const noexcept {
  return std::any_of(slots_.begin(), slots_.end(),
                     [&](const Slot& slot) { return slot.unit == &unit && !slot.read_only; });
}

bool Nexus::refresh_map(UnitAttention for_new_units) {
  std::vector<Slot> fresh;
  auto place = [&](std::uint16_t lun, LogicalUnit* unit, bool read_only) {
    if (unit == nullptr) return;
    if (fresh.size() <= lun) fresh.resize(std::size_t{lun} + 1);
    fresh[lun].unit = unit;
    if (lun < slots_.size() && slots_[lun].unit == unit) {
      fresh[lun] = slots_[lun];
    } else {
      fresh[lun].attentions.raise(for_new_units);
    }
    fresh[lun].read_only = read_only;
  };
  if (map_) {
    for (const LunMapping& entry : *map_) place(entry.lun, device_.unit(entry.unit), entry.read_only);
  } else {
    for (const auto& unit : device_.units_) place(unit->number(), unit.get(), false);
  }
  const bool changed =
      !std::equal(fresh.begin(), fresh.end(), slots_.begin(), slots_.end(),
                  [](const Slot& now, const Slot& before) { return now.unit == before.unit; });
  slots_ = std::move(fresh);
  return changed;
}

}  // namespace perilune::scsi
