// SPDX-License-Identifier: Apache-2.0
// The sense data of a copy that failed while its segments were processed (SPC-4 5.17.7.4): COPY ABORTED, the
// number of the segment, the field that is wrong, and what the source or the destination said. For src/scsi
// alone.
#pragma once

#include <cstdint>
#include <optional>

#include "scsi/sense.hpp"

namespace perilune::scsi {

struct Task;

namespace asc {
inline constexpr AdditionalSense operation_in_progress{0x00, 0x16};
inline constexpr AdditionalSense unreachable_copy_target{0x08, 0x04};
inline constexpr AdditionalSense third_party_device_failure{0x0d, 0x01};
inline constexpr AdditionalSense copy_target_not_reachable{0x0d, 0x02};
inline constexpr AdditionalSense incorrect_copy_target_type{0x0d, 0x03};
inline constexpr AdditionalSense too_many_target_descriptors{0x26, 0x06};
inline constexpr AdditionalSense unsupported_target_descriptor{0x26, 0x07};
inline constexpr AdditionalSense too_many_segment_descriptors{0x26, 0x08};
inline constexpr AdditionalSense unsupported_segment_descriptor{0x26, 0x09};
inline constexpr AdditionalSense unexpected_inexact_segment{0x26, 0x0a};
inline constexpr AdditionalSense inline_data_length_exceeded{0x26, 0x0b};
}  // namespace asc

// Ends the command with CHECK CONDITION, COPY ABORTED.
void copy_aborted(Task& task, AdditionalSense additional, std::uint16_t segment,
                  std::optional<FieldPointer> field = std::nullopt) noexcept;

// The same with THIRD PARTY DEVICE FAILURE, for a failure of one party that stands in the task already: its
// status and sense go along.
void third_party_failed(Task& task, std::uint16_t segment, CopyParty party) noexcept;

}  // namespace perilune::scsi
