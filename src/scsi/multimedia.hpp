// SPDX-License-Identifier: Apache-2.0
// A CD or DVD drive with a read-only disc: one session, one track of 2048-byte blocks (an ISO 9660 or UDF
// image), complete and finalized (MMC-6). For src/scsi alone.
#pragma once

#include <cstdint>
#include <span>

#include "scsi/command_table.hpp"

namespace perilune::scsi {

inline constexpr std::uint32_t multimedia_block_bytes = 2048;
inline constexpr std::uint64_t max_multimedia_blocks = 0xffff'ffffu;  // READ (10) and READ CAPACITY (10) name
                                                                      // no more

[[nodiscard]] std::span<const CommandRow> multimedia_rows() noexcept;

}  // namespace perilune::scsi
