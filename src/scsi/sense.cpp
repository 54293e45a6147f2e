// SPDX-License-Identifier: Apache-2.0
#include "scsi/sense.hpp"

#include <algorithm>
#include <limits>

#include "base/assert.hpp"
#include "scsi/logical_unit.hpp"
#include "scsi/task.hpp"

namespace perilune::scsi {
namespace {

constexpr std::size_t largest_sense_bytes = 8 + 12 + 8;

// Three bytes: SKSV, C/D, BPV, bit pointer; field pointer (SPC-4 table 42).
void store_field(const FieldPointer& field, std::uint8_t* out) noexcept {
  out[0] = static_cast<std::uint8_t>(0x80 | (field.in_cdb ? 0x40 : 0) | (field.bit ? 0x08 | (*field.bit & 0x07) : 0));
  store_be16(out + 1, field.byte);
}

std::size_t encode_fixed(const Sense& sense, MutableBytes out) noexcept {
  std::uint8_t* p = out.data();
  std::fill_n(p, 18, std::uint8_t{0});
  p[0] = 0x70;
  p[2] = static_cast<std::uint8_t>(sense.key);
  if (sense.information && *sense.information <= std::numeric_limits<std::uint32_t>::max()) {
    p[0] |= 0x80;
    store_be32(p + 3, static_cast<std::uint32_t>(*sense.information));
  }
  p[7] = 10;
  p[12] = sense.additional.asc;
  p[13] = sense.additional.ascq;
  if (sense.field) store_field(*sense.field, p + 15);
  return 18;
}

std::size_t encode_descriptors(const Sense& sense, MutableBytes out) noexcept {
  std::uint8_t* p = out.data();
  std::fill_n(p, largest_sense_bytes, std::uint8_t{0});
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
  if (sense.field) {
    p[length] = 0x02;
    p[length + 1] = 0x06;
    store_field(*sense.field, p + length + 4);
    length += 8;
  }
  p[7] = static_cast<std::uint8_t>(length - 8);
  return length;
}

}  // namespace

std::size_t encode_sense(const Sense& sense, bool descriptor_format, MutableBytes out) noexcept {
  PERILUNE_ASSERT(out.size() >= largest_sense_bytes);
  return descriptor_format ? encode_descriptors(sense, out) : encode_fixed(sense, out);
}

void check_condition(Task& task, const Sense& sense) noexcept {
  const bool descriptor = task.unit != nullptr && task.unit->descriptor_sense();
  task.status = ScsiStatus::check_condition;
  task.sense_length = static_cast<std::uint8_t>(encode_sense(sense, descriptor, task.sense));
  task.parameter_data.clear();
  task.data_in_length = 0;
  if (task.phase == Task::Phase::outside || task.need.data_out_bytes == 0) task.data_transfer_length = 0;  // nothing moved
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
  check_condition(task, {.key = key, .additional = additional, .information = std::nullopt, .field = std::nullopt});
}

void lba_out_of_range(Task& task, std::uint64_t first_bad_lba) noexcept {
  check_condition(task, {.key = SenseKey::illegal_request,
                         .additional = asc::lba_out_of_range,
                         .information = first_bad_lba,
                         .field = std::nullopt});
}

}  // namespace perilune::scsi
