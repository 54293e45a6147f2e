// SPDX-License-Identifier: Apache-2.0
// A sector of a compact disc as READ CD shows it: the 2048 bytes of a block and what stands around them in
// mode 1 (ECMA-130 14, 15 and annex A; MMC-6 4.2.3): synchronisation, address, error detection and
// correction. Pure. For src/scsi alone.
#pragma once

#include <cstdint>
#include <span>

namespace perilune::scsi {

inline constexpr std::size_t cd_user_bytes = 2048;
inline constexpr std::size_t cd_sector_bytes = 2352;

// Where its fields begin; each ends where the next one begins.
namespace cd_sector {
inline constexpr std::size_t sync = 0, header = 12, user = 16, edc = 2064, reserved = 2068, p_parity = 2076,
                             q_parity = 2248;
}

// `lba`: of the block; its address on the disc is 150 sectors later.
void make_cd_sector(std::uint32_t lba, std::span<const std::uint8_t, cd_user_bytes> data,
                    std::span<std::uint8_t, cd_sector_bytes> sector) noexcept;

}  // namespace perilune::scsi
