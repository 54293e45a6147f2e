// SPDX-License-Identifier: Apache-2.0
// The unit attentions that one I_T nexus has not been told about one logical unit (SAM-5 5.14). Every
// condition exists at most once, so the queue is a set of bits in the order of precedence.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace perilune::scsi {

// In the order in which they are reported.
enum class UnitAttention : std::uint8_t {
  power_on,                       // 29/00
  bus_reset,                      // 29/02: target reset
  device_reset,                   // 29/03: logical unit reset
  nexus_loss,                     // 29/07
  medium_may_have_changed,        // 28/00
  commands_cleared,               // 2F/00: by another initiator
  reported_luns_changed,          // 3F/0E
  inquiry_data_changed,           // 3F/03
  device_identifier_changed,      // 3F/05: SET IDENTIFYING INFORMATION
  reservations_preempted,         // 2A/03: CLEAR by another I_T nexus
  reservations_released,          // 2A/04
  registrations_preempted,        // 2A/05
  access_state_changed,           // 2A/06: of a target port group
  capacity_changed,               // 2A/09
  mode_parameters_changed,        // 2A/01
  log_parameters_changed,         // 2A/02
  timestamp_changed,              // 2A/10
  previous_busy,                  // 2C/07: with UA_INTLCK_CTRL 11b, as the two that follow
  previous_task_set_full,         // 2C/08
  previous_reservation_conflict,  // 2C/09
  soft_threshold,  // 38/07: of the first descriptor of the Logical Block Provisioning mode page; those of the
                   // others follow it
  last = soft_threshold + 3,
};

struct AdditionalSense {
  std::uint8_t asc = 0;
  std::uint8_t ascq = 0;
  friend constexpr bool operator==(AdditionalSense, AdditionalSense) noexcept = default;
};

[[nodiscard]] constexpr AdditionalSense additional_sense(UnitAttention attention) noexcept {
  switch (attention) {
    case UnitAttention::power_on: return {0x29, 0x00};
    case UnitAttention::bus_reset: return {0x29, 0x02};
    case UnitAttention::device_reset: return {0x29, 0x03};
    case UnitAttention::nexus_loss: return {0x29, 0x07};
    case UnitAttention::medium_may_have_changed: return {0x28, 0x00};
    case UnitAttention::commands_cleared: return {0x2f, 0x00};
    case UnitAttention::reported_luns_changed: return {0x3f, 0x0e};
    case UnitAttention::inquiry_data_changed: return {0x3f, 0x03};
    case UnitAttention::device_identifier_changed: return {0x3f, 0x05};
    case UnitAttention::reservations_preempted: return {0x2a, 0x03};
    case UnitAttention::reservations_released: return {0x2a, 0x04};
    case UnitAttention::registrations_preempted: return {0x2a, 0x05};
    case UnitAttention::access_state_changed: return {0x2a, 0x06};
    case UnitAttention::capacity_changed: return {0x2a, 0x09};
    case UnitAttention::mode_parameters_changed: return {0x2a, 0x01};
    case UnitAttention::log_parameters_changed: return {0x2a, 0x02};
    case UnitAttention::timestamp_changed: return {0x2a, 0x10};
    case UnitAttention::previous_busy: return {0x2c, 0x07};
    case UnitAttention::previous_task_set_full: return {0x2c, 0x08};
    case UnitAttention::previous_reservation_conflict: return {0x2c, 0x09};
    default: return {0x38, 0x07};
  }
}

[[nodiscard]] constexpr UnitAttention soft_threshold_of(std::size_t descriptor) noexcept {
  return static_cast<UnitAttention>(static_cast<std::size_t>(UnitAttention::soft_threshold) + descriptor);
}

// INFORMATION of the sense data: of a threshold, where in its mode page its descriptor is (SBC-4 4.7.3.7.6).
[[nodiscard]] constexpr std::optional<std::uint64_t> information_of(UnitAttention attention) noexcept {
  if (attention < UnitAttention::soft_threshold) return std::nullopt;
  return 16 + 8 * (static_cast<std::uint64_t>(attention) -
                   static_cast<std::uint64_t>(UnitAttention::soft_threshold));
}

class UnitAttentions {
 public:
  [[nodiscard]] bool empty() const noexcept { return bits_ == 0; }
  [[nodiscard]] int count() const noexcept { return std::popcount(bits_); }
  void raise(UnitAttention attention) noexcept { bits_ |= bit(attention); }
  void clear(UnitAttention attention) noexcept { bits_ &= ~bit(attention); }

  // The one to report now. Precondition: not empty.
  [[nodiscard]] UnitAttention first() const noexcept {
    return static_cast<UnitAttention>(std::countr_zero(bits_));
  }
  // Takes the first out. Whoever learns of a reset has learned of the lesser ones too (SAM-5 5.14.4: 29/xx).
  UnitAttention take() noexcept {
    const UnitAttention attention = first();
    clear(attention);
    if (additional_sense(attention).asc == 0x29) {
      clear(UnitAttention::bus_reset);
      clear(UnitAttention::device_reset);
      clear(UnitAttention::nexus_loss);
    }
    return attention;
  }

 private:
  static constexpr std::uint32_t bit(UnitAttention attention) noexcept {
    return 1u << static_cast<unsigned>(attention);
  }
  std::uint32_t bits_ = 0;
};

}  // namespace perilune::scsi
