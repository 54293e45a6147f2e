// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace perilune::scsi {

// PERIPHERAL DEVICE TYPE (SPC-4, standard INQUIRY data): each has a command table of its own.
enum class DeviceType : std::uint8_t {
  disk = 0x00,    // direct access (SBC-3)
  cd_dvd = 0x05,  // CD or DVD drive with a read-only disc (MMC-6)
};

}  // namespace perilune::scsi
