// SPDX-License-Identifier: Apache-2.0
#include "scsi/copy_sense.hpp"

#include <algorithm>
#include <array>

#include "base/assert.hpp"
#include "scsi/logical_unit.hpp"
#include "scsi/sense.hpp"
#include "scsi/task.hpp"

namespace perilune::scsi {
namespace {

constexpr std::uint8_t key_copy_aborted = 0x0a;
constexpr std::size_t max_forwarded_bytes = 64;

struct Failure {
  AdditionalSense additional;
  std::uint16_t segment = 0;
  std::optional<SegmentPointer> field;
  std::optional<CopyParty> party;
  ScsiStatus status = ScsiStatus::good;  // of the party
  Bytes sense;                           // of the party
};

void store_field(const SegmentPointer& field, std::uint8_t* out) noexcept {
  out[0] = static_cast<std::uint8_t>(0x80 | (field.in_segment ? 0x20 : 0));  // SKSV, SD
  store_be16(out + 1, field.byte);
}

// COMMAND-SPECIFIC INFORMATION: where the status and the sense data of the source, and those of the destination, begin
// in this sense data (0: not there), then the number of the segment.
std::size_t encode_fixed(const Failure& failure, std::uint8_t* p) noexcept {
  std::fill_n(p, 18, std::uint8_t{0});
  p[0] = 0x70;
  p[2] = key_copy_aborted;
  std::size_t length = 18;
  if (failure.party) {
    p[*failure.party == CopyParty::source ? 8 : 9] = static_cast<std::uint8_t>(length);
    p[length++] = static_cast<std::uint8_t>(failure.status);
    std::copy(failure.sense.begin(), failure.sense.end(), p + length);
    length += failure.sense.size();
  }
  store_be16(p + 10, failure.segment);
  p[12] = failure.additional.asc;
  p[13] = failure.additional.ascq;
  if (failure.field) store_field(*failure.field, p + 15);
  p[7] = static_cast<std::uint8_t>(length - 8);
  return length;
}

std::size_t encode_descriptors(const Failure& failure, std::uint8_t* p) noexcept {
  std::fill_n(p, 8 + 12 + 8 + 4, std::uint8_t{0});
  p[0] = 0x72;
  p[1] = key_copy_aborted;
  p[2] = failure.additional.asc;
  p[3] = failure.additional.ascq;
  p[8] = 0x01;  // command specific information
  p[9] = 0x0a;
  store_be16(p + 18, failure.segment);
  std::size_t length = 20;
  if (failure.field) {
    p[length] = 0x02;  // sense key specific
    p[length + 1] = 0x06;
    store_field(*failure.field, p + length + 4);
    length += 8;
  }
  if (failure.party) {
    p[length] = 0x0c;  // forwarded sense data
    p[length + 1] = static_cast<std::uint8_t>(2 + failure.sense.size());
    p[length + 2] = static_cast<std::uint8_t>(*failure.party);
    p[length + 3] = static_cast<std::uint8_t>(failure.status);
    std::copy(failure.sense.begin(), failure.sense.end(), p + length + 4);
    length += 4 + failure.sense.size();
  }
  p[7] = static_cast<std::uint8_t>(length - 8);
  return length;
}

void end(Task& task, const Failure& failure) noexcept {
  task.status = ScsiStatus::check_condition;
  std::uint8_t* out = task.sense.data();
  const bool descriptor_format = task.unit->descriptor_sense();
  task.sense_length =
      static_cast<std::uint8_t>(descriptor_format ? encode_descriptors(failure, out) : encode_fixed(failure, out));
  task.data_in_length = 0;
}

}  // namespace

void copy_aborted(Task& task, AdditionalSense additional, std::uint16_t segment,
                  std::optional<SegmentPointer> field) noexcept {
  end(task, {.additional = additional, .segment = segment, .field = field, .party = std::nullopt,
             .status = ScsiStatus::good, .sense = {}});
}

void third_party_failed(Task& task, std::uint16_t segment, CopyParty party) noexcept {
  PERILUNE_ASSERT(task.status != ScsiStatus::good && task.sense_length <= max_forwarded_bytes);
  std::array<std::uint8_t, max_forwarded_bytes> forwarded;
  std::copy_n(task.sense.begin(), task.sense_length, forwarded.begin());
  end(task, {.additional = asc::third_party_device_failure, .segment = segment, .field = std::nullopt, .party = party,
             .status = task.status, .sense = {forwarded.data(), task.sense_length}});
}

}  // namespace perilune::scsi
