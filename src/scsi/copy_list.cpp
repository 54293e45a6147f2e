// SPDX-License-Identifier: Apache-2.0
#include "scsi/copy_list.hpp"

#include <algorithm>

#include "scsi/copy_sense.hpp"
#include "scsi/sense.hpp"
#include "scsi/task.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {
namespace {

constexpr std::uint32_t lid1_header_bytes = 16;
constexpr std::uint32_t lid4_header_bytes = 48;
constexpr std::uint8_t cscd_identification = 0xe4;
constexpr std::uint8_t segment_block_to_block = 0x02;
constexpr std::uint8_t usage_without_identifier = 3;  // LIST ID USAGE 11b

struct Lengths {
  std::uint64_t cscds = 0;
  std::uint64_t segments = 0;
  std::uint64_t inline_data = 0;
};

bool illegal(Task& task, AdditionalSense additional) noexcept {
  fail_command(task, SenseKey::illegal_request, additional);
  return false;
}

bool wrong_field(Task& task, std::uint32_t byte, std::optional<std::uint8_t> bit = std::nullopt) noexcept {
  invalid_field_in_parameters(task, static_cast<std::uint16_t>(byte), bit);
  return false;
}

// LIST ID USAGE: 00b and 10b name the copy (there is no held data to keep or discard), 11b does not.
bool read_usage(Task& task, std::uint8_t byte1, std::uint32_t identifier_at, CopyList& list) noexcept {
  const std::uint8_t usage = (byte1 >> 3) & 0x03;
  if (usage == 1) return wrong_field(task, 1, std::uint8_t{4});
  list.remembered = usage != usage_without_identifier;
  if (!list.remembered && list.list_identifier != 0) return wrong_field(task, identifier_at, std::uint8_t{7});
  return true;
}

bool read_lid1_header(Task& task, CopyList& list, Lengths& lengths) noexcept {
  std::array<std::uint8_t, lid1_header_bytes> header{};
  if (task.need.data_out_bytes < header.size() || gather(task.data, 0, header) < header.size()) {
    return illegal(task, asc::parameter_list_length_error);
  }
  list.list_identifier = header[0];
  list.cscd_offset = lid1_header_bytes;
  lengths = {load_be16(&header[2]), load_be32(&header[8]), load_be32(&header[12])};
  return read_usage(task, header[1], 0, list);
}

bool read_lid4_header(Task& task, CopyList& list, Lengths& lengths) noexcept {
  std::array<std::uint8_t, lid4_header_bytes> header{};
  if (task.need.data_out_bytes < header.size() || gather(task.data, 0, header) < header.size()) {
    return illegal(task, asc::parameter_list_length_error);
  }
  if (header[0] != 0x01) return wrong_field(task, 0, std::uint8_t{7});  // PARAMETER LIST FORMAT
  if (load_be16(&header[2]) != 0x20) return wrong_field(task, 2, std::uint8_t{7});
  // G_SENSE (sense data with GOOD) and IMMED (a copy in the background) are optional, and not offered.
  if ((header[15] & 0x03) != 0)
    return wrong_field(task, 15, static_cast<std::uint8_t>((header[15] & 0x02) != 0 ? 1 : 0));
  if (header[16] != 0xff) return wrong_field(task, 16, std::uint8_t{7});
  list.list_identifier = load_be32(&header[20]);
  list.cscd_offset = lid4_header_bytes;
  lengths = {load_be16(&header[42]), load_be16(&header[44]), load_be16(&header[46])};
  return read_usage(task, header[1], 20, list);
}

bool check_lengths(Task& task, const CopyList& list, const Lengths& lengths) noexcept {
  using namespace copy_limits;
  if (lengths.cscds + lengths.segments > max_list_bytes)
    return illegal(task, asc::parameter_list_length_error);
  if (lengths.cscds > max_cscds * cscd_bytes) return illegal(task, asc::too_many_target_descriptors);
  if (lengths.segments > max_segments * segment_bytes)
    return illegal(task, asc::too_many_segment_descriptors);
  if (lengths.inline_data != 0) return illegal(task, asc::inline_data_length_exceeded);
  if (list.cscd_offset + lengths.cscds + lengths.segments > task.need.data_out_bytes ||
      lengths.cscds % cscd_bytes != 0) {
    return illegal(task, asc::parameter_list_length_error);
  }
  return true;
}

bool check_cscds(Task& task, const CopyList& list) noexcept {
  for (std::uint32_t i = 0; i < list.cscds; ++i) {
    const std::uint32_t at = list.cscd_offset + i * copy_limits::cscd_bytes;
    std::array<std::uint8_t, 8> start{};
    gather(task.data, at, start);
    if (start[0] != cscd_identification) return illegal(task, asc::unsupported_target_descriptor);
    // LU ID TYPE tells about a field that this descriptor does not have: ignored.
    if (start[7] > 20) return wrong_field(task, at + 7, std::uint8_t{7});  // DESIGNATOR LENGTH
  }
  return true;
}

// `bytes` of segment descriptors. All of those that are served have the same length.
bool check_segments(Task& task, CopyList& list, std::uint64_t bytes) noexcept {
  std::uint64_t done = 0;
  for (; done < bytes; done += copy_limits::segment_bytes) {
    const auto at = static_cast<std::uint32_t>(list.segment_offset + done);
    std::array<std::uint8_t, 4> start{};
    gather(task.data, at, start);
    if (start[0] != segment_block_to_block) return illegal(task, asc::unsupported_segment_descriptor);
    if (bytes - done < copy_limits::segment_bytes) return illegal(task, asc::parameter_list_length_error);
    if (load_be16(&start[2]) != copy_limits::segment_bytes - 4)
      return wrong_field(task, at + 2, std::uint8_t{7});
    ++list.segments;
  }
  return true;
}

}  // namespace

std::optional<CopyList> read_copy_list(Task& task, bool lid4) noexcept {
  CopyList list;
  Lengths lengths;
  if (!(lid4 ? read_lid4_header(task, list, lengths) : read_lid1_header(task, list, lengths)))
    return std::nullopt;
  if (!check_lengths(task, list, lengths)) return std::nullopt;
  list.cscds = static_cast<std::uint16_t>(lengths.cscds / copy_limits::cscd_bytes);
  list.segment_offset = static_cast<std::uint32_t>(list.cscd_offset + lengths.cscds);
  if (!check_cscds(task, list) || !check_segments(task, list, lengths.segments)) return std::nullopt;
  return list;
}

CopySegment copy_segment_at(const Task& task, const CopyOperation& operation, std::uint16_t index) noexcept {
  std::array<std::uint8_t, copy_limits::segment_bytes> raw{};
  gather(task.data, operation.segment_offset + std::uint64_t{index} * raw.size(), raw);
  return {.counts_destination = (raw[1] & 0x02) != 0,
          .concatenate = (raw[1] & 0x01) != 0,
          .source = load_be16(&raw[4]),
          .destination = load_be16(&raw[6]),
          .blocks = load_be16(&raw[10]),
          .source_lba = load_be64(&raw[12]),
          .destination_lba = load_be64(&raw[20])};
}

CopyCscd copy_cscd_at(const Task& task, const CopyOperation& operation, std::uint16_t index) noexcept {
  std::array<std::uint8_t, copy_limits::cscd_bytes> raw{};
  gather(task.data, operation.cscd_offset + std::uint64_t{index} * raw.size(), raw);
  CopyCscd cscd{.null_device = (raw[1] & 0x20) != 0,
                .peripheral_type = static_cast<std::uint8_t>(raw[1] & 0x1f),
                .code_set = static_cast<std::uint8_t>(raw[4] & 0x0f),
                .association = static_cast<std::uint8_t>((raw[5] >> 4) & 0x03),
                .designator_type = static_cast<std::uint8_t>(raw[5] & 0x0f),
                .pad = (raw[28] & 0x04) != 0,
                .block_bytes = load_be24(&raw[29]),
                .length = std::min<std::uint8_t>(raw[7], 20)};
  std::copy_n(&raw[8], cscd.bytes.size(), cscd.bytes.begin());
  return cscd;
}

}  // namespace perilune::scsi
