// SPDX-License-Identifier: Apache-2.0
#include "scsi/copy_sense.hpp"

#include <algorithm>
#include <array>

#include "base/assert.hpp"
#include "scsi/task.hpp"

namespace perilune::scsi {
namespace {

constexpr std::size_t max_forwarded_bytes = 64;

}  // namespace

void copy_aborted(Task& task, AdditionalSense additional, std::uint16_t segment,
                  std::optional<FieldPointer> field) noexcept {
  check_condition(task, {.key = SenseKey::copy_aborted,
                         .additional = additional,
                         .information = std::nullopt,
                         .field = field,
                         .segment = segment});
}

void third_party_failed(Task& task, std::uint16_t segment, CopyParty party) noexcept {
  PERILUNE_ASSERT(task.status != ScsiStatus::good && task.sense_length <= max_forwarded_bytes);
  std::array<std::uint8_t, max_forwarded_bytes> forwarded;
  std::copy_n(task.sense.begin(), task.sense_length, forwarded.begin());
  const Bytes sense{forwarded.data(), task.sense_length};
  check_condition(task, {.key = SenseKey::copy_aborted,
                         .additional = asc::third_party_device_failure,
                         .information = std::nullopt,
                         .field = std::nullopt,
                         .segment = segment,
                         .forwarded = ForwardedSense{.party = party,
                                                     .status = static_cast<std::uint8_t>(task.status),
                                                     .sense = sense}});
}

}  // namespace perilune::scsi
