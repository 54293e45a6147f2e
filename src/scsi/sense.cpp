// SPDX-License-Identifier: Apache-2.0
#include "scsi/sense.hpp"

#include <algorithm>
#include <limits>

#include "base/assert.hpp"
#include "scsi/logical_unit.hpp"
#include "scsi/task.hpp"

namespace perilune::scsi {
namespace {

constexpr std::size_t forwarded_header_bytes = 4;

std::size_t largest_bytes(const Sense& sense) noexcept {
  return 32 + (sense.segment ? 12u : 0u) +
         (sense.forwarded ? forwarded_header_bytes + sense.forwarded->sense.size() : 0u);
}

[[nodiscard]] bool has_specific(const Sense& sense) noexcept { return sense.field || sense.progress; }

// SENSE KEY SPECIFIC, three bytes: SKSV, C/D, SD, BPV, bit pointer; field pointer or progress indication.
void store_specific(const Sense& sense, std::uint8_t* out) noexcept {
  out[0] = 0x80;
  if (sense.progress) return store_be16(out + 1, *sense.progress);
  const FieldPointer& field = *sense.field;
  out[0] |= static_cast<std::uint8_t>((field.in_cdb ? 0x40 : 0) | (field.in_segment ? 0x20 : 0) |
                                      (field.bit ? 0x08 | (*field.bit & 0x07) : 0));
  store_be16(out + 1, field.byte);
}

// COMMAND-SPECIFIC INFORMATION of a copy: where the status and the sense data of the source, and those of the
// destination, begin in this sense data (0: not there), then the number of the segment.
std::size_t encode_fixed(const Sense& sense, std::uint8_t* p) noexcept {
  std::size_t length = 18;
  p[0] = 0x70;
  p[2] = static_cast<std::uint8_t>(sense.key);
  if (sense.information && *sense.information <= std::numeric_limits<std::uint32_t>::max()) {
    p[0] |= 0x80;
    store_be32(p + 3, static_cast<std::uint32_t>(*sense.information));
  }
  if (sense.forwarded) {
    p[sense.forwarded->party == CopyParty::source ? 8 : 9] = static_cast<std::uint8_t>(length);
    p[length++] = sense.forwarded->status;
    std::copy(sense.forwarded->sense.begin(), sense.forwarded->sense.end(), p + length);
    length += sense.forwarded->sense.size();
  }
  if (sense.segment) store_be16(p + 10, *sense.segment);
  p[7] = static_cast<std::uint8_t>(length - 8);
  p[12] = sense.additional.asc;
  p[13] = sense.additional.ascq;
  if (has_specific(sense)) store_specific(sense, p + 15);
  return length;
}

std::size_t encode_descriptors(const Sense& sense, std::uint8_t* p) noexcept {
  p[0] = 0x72;
  p[1] = static_cast<std::uint8_t>(sense.key);
  p[2] = sense.additional.asc;
  p[3] = sense.additional.ascq;
  std::size_t length = 8;
  if (sense.information) {
    p[length + 1] = 0x0a;
    p[length + 2] = 0x80;
    store_be64(p + length + 4, *sense.information);
    length += 12;
  }
  if (sense.segment) {
    p[length] = 0x01;
    p[length + 1] = 0x0a;
    store_be16(p + length + 10, *sense.segment);
    length += 12;
  }
  if (has_specific(sense)) {
    p[length] = 0x02;
    p[length + 1] = 0x06;
    store_specific(sense, p + length + 4);
    length += 8;
  }
  if (sense.forwarded) {
    p[length] = 0x0c;
    p[length + 1] = static_cast<std::uint8_t>(2 + sense.forwarded->sense.size());
    p[length + 2] = static_cast<std::uint8_t>(sense.forwarded->party);
    p[length + 3] = sense.forwarded->status;
    std::copy(sense.forwarded->sense.begin(), sense.forwarded->sense.end(),
              p + length + forwarded_header_bytes);
    length += forwarded_header_bytes + sense.forwarded->sense.size();
  }
  p[7] = static_cast<std::uint8_t>(length - 8);
  return length;
}

}  // namespace

std::size_t encode_sense(const Sense& sense, bool descriptor_format, MutableBytes out) noexcept {
  const std::size_t largest = largest_bytes(sense);
  PERILUNE_ASSERT(out.size() >= largest);
  std::fill_n(out.data(), largest, std::uint8_t{0});
  return descriptor_format ? encode_descriptors(sense, out.data()) : encode_fixed(sense, out.data());
}

namespace {

void drop_data(Task& task) noexcept {
  task.parameter_data.clear();
  task.data_in_length = 0;
  if (task.phase == Task::Phase::outside || task.need.data_out_bytes == 0)
    task.data_transfer_length = 0;  // nothing moved
}

}  // namespace

void check_condition(Task& task, const Sense& sense) noexcept {
  const bool descriptor = task.unit != nullptr && task.unit->descriptor_sense();
  task.status = ScsiStatus::check_condition;
  task.sense_length = static_cast<std::uint8_t>(encode_sense(sense, descriptor, task.sense));
  drop_data(task);
}

Sense sense_of(UnitAttention attention) noexcept {
  return {.key = SenseKey::unit_attention,
          .additional = additional_sense(attention),
          .information = information_of(attention),
          .field = std::nullopt};
}

void reservation_conflict(Task& task) noexcept {
  task.status = ScsiStatus::reservation_conflict;
  task.sense_length = 0;
  drop_data(task);
}

void invalid_field_in_cdb(Task& task, std::uint16_t byte, std::optional<std::uint8_t> bit) noexcept {
  check_condition(task, {.key = SenseKey::illegal_request,
                         .additional = asc::invalid_field_in_cdb,
                         .information = std::nullopt,
                         .field = FieldPointer{.in_cdb = true, .byte = byte, .bit = bit}});
}

void invalid_field_in_parameters(Task& task, std::uint16_t byte, std::optional<std::uint8_t> bit) noexcept {
  check_condition(task, {.key = SenseKey::illegal_request,
                         .additional = asc::invalid_field_in_parameter_list,
                         .information = std::nullopt,
                         .field = FieldPointer{.in_cdb = false, .byte = byte, .bit = bit}});
}

void fail_command(Task& task, SenseKey key, AdditionalSense additional) noexcept {
  check_condition(task,
                  {.key = key, .additional = additional, .information = std::nullopt, .field = std::nullopt});
}

void lba_out_of_range(Task& task, std::uint64_t first_bad_lba) noexcept {
  check_condition(task, {.key = SenseKey::illegal_request,
                         .additional = asc::lba_out_of_range,
                         .information = first_bad_lba,
                         .field = std::nullopt});
}

}  // namespace perilune::scsi
