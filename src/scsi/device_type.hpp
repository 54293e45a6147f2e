// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace perilune::scsi {

// PERIPHERAL DEVICE TYPE (SPC-4, standard INQUIRY data): each has a command table of its own.
enum class DeviceType : std::uint8_t {
  disk = 0x00,    // direct access (SBC-3)
  cd_dvd = 0x05,  // CD or DVD drive with a read-only disc (MMC-6)
};

// Which commands a unit has.
enum class CommandSet : std::uint8_t {
  disk,
  protected_disk,  // a disk that has room for protection information (SBC-3 4.22)
  cd_dvd,
  // Of a real device (forwarding.hpp), by its type.
  forwarded_disk,
  forwarded_cd_dvd,
  forwarded_other,
};

}  // namespace perilune::scsi
