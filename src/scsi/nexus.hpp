// SPDX-License-Identifier: Apache-2.0
// One I_T nexus (SAM-5 4.7): an initiator port and a target port that talk, from login to loss. The transport
// creates one per session and owns it. It carries the LUN map this initiator sees and the unit attentions it
// has not been told. One thread (the shard's).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/intrusive_list.hpp"
#include "scsi/reservations.hpp"
#include "scsi/unit_attention.hpp"

namespace perilune::scsi {

class Device;
class LogicalUnit;
struct NexusCopies;

// What an initiator that polls for events has not been told about a removable medium (MMC-6, GET EVENT STATUS
// NOTIFICATION).
enum class MediaEvent : std::uint8_t { none = 0, eject_request = 1, inserted = 2, removed = 3 };

// Names are bytes: for iSCSI `<InitiatorName>,i,0x<ISID>` and `<TargetName>,t,0x<TPGT>` (RFC 7143 4.2.7.2).
struct NexusNames {
  std::string initiator_port;
  std::string target_port;
  std::uint16_t relative_target_port = 1;  // 1.., VPD 83; its target port group is the unit's affair
                                           // (port_groups.hpp)
  std::uint8_t protocol_identifier = 5;    // SPC-4 7.6.1: 5h is iSCSI
};

struct LunMapping {
  std::uint16_t lun = 0;   // as the initiator sees it
  std::uint16_t unit = 0;  // number of the unit in the device
  bool read_only = false;  // this initiator may not write to it
  friend bool operator==(const LunMapping&, const LunMapping&) = default;
};

class Nexus : public ListNode<Nexus> {
 public:
  // Without a map every unit of the device is visible under its own number. Each unit begins with the unit
  // attention 29/00, or 29/07 when the same I_T nexus existed before and was lost.
  Nexus(Device& device, NexusNames names, std::optional<std::vector<LunMapping>> map = std::nullopt);
  // Precondition: none of its tasks is in the device (TmFunction::i_t_nexus_reset, then wait for its end).
  ~Nexus();

  [[nodiscard]] const NexusNames& names() const noexcept { return names_; }
  [[nodiscard]] Device& device() const noexcept { return device_; }
  // Tells it from one of the same names that was lost before, or comes later.
  [[nodiscard]] std::uint64_t life() const noexcept { return life_; }

  [[nodiscard]] const std::optional<std::vector<LunMapping>>& map() const noexcept { return map_; }
  // Replaces the map (an ACL change). Tasks in progress are not touched; 3F/0E is raised on what stays
  // visible.
  void set_map(std::optional<std::vector<LunMapping>> map);

  // The transport of this nexus carries the task management functions of SAM-5 too (iSCSI: protocol level 2):
  // told by REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS. At first it does not.
  void set_sam5_functions(bool carried) noexcept { sam5_functions_ = carried; }
  [[nodiscard]] bool sam5_functions() const noexcept { return sam5_functions_; }

  // For src/scsi alone.
  // What is mapped at this LUN is write protected for this nexus, whatever the unit itself is.
  [[nodiscard]] bool read_only_at(std::uint64_t lun) const noexcept;
  // It may write to the unit, under some LUN.
  [[nodiscard]] bool may_write_to(const LogicalUnit& unit) const noexcept;
  // A unit that this nexus sees and `accept(const LogicalUnit&)` takes, or nullptr.
  template <class Accept>
  [[nodiscard]] LogicalUnit* find_unit(Accept accept) const {
    for (const Slot& slot : slots_) {
      if (slot.unit != nullptr && accept(static_cast<const LogicalUnit&>(*slot.unit))) return slot.unit;
    }
    return nullptr;
  }
  [[nodiscard]] NexusCopies& copies();  // made at the first use
  // Removable media: what it has not been told of the unit.
  void note(const LogicalUnit& unit, MediaEvent event) noexcept;
  [[nodiscard]] MediaEvent take_media_event(const LogicalUnit& unit) noexcept;

 private:
  friend class Device;
  friend class LogicalUnit;
  struct Slot {
    LogicalUnit* unit = nullptr;
    UnitAttentions attentions;
    MediaEvent media_event = MediaEvent::none;
    bool read_only = false;
    ReservationAccess access = ReservationAccess::all;  // as of this generation of the unit
    std::uint32_t access_generation = ~std::uint32_t{0};
  };

  [[nodiscard]] Slot* slot(std::uint32_t lun) noexcept {
    return lun < slots_.size() && slots_[lun].unit != nullptr ? &slots_[lun] : nullptr;
  }
  void raise(const LogicalUnit& unit, UnitAttention attention) noexcept;
  void raise_on_all(UnitAttention attention) noexcept;
  bool refresh_map(UnitAttention for_new_units);  // true: other units stand in it than before

  Device& device_;
  NexusNames names_;
  std::uint64_t life_;
  std::optional<std::vector<LunMapping>> map_;
  std::vector<Slot> slots_;  // by LUN
  std::uint32_t tasks_ = 0;  // in the device
  bool sam5_functions_ = false;
  std::unique_ptr<NexusCopies> copies_;  // third-party copies; nullptr until the first
};

}  // namespace perilune::scsi
