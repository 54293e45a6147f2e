// SPDX-License-Identifier: Apache-2.0
// The parameter lists of EXTENDED COPY, LID1 and LID4 (SPC-4 6.4, 6.5, 6.6): reading and checking, no more.
// What is served are identification descriptors (E4h) and segments from block device to block device (02h).
// For src/scsi alone.
#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.hpp"
#include "scsi/copy_operation.hpp"

namespace perilune::scsi {

struct Task;

struct CopyList {
  std::uint32_t list_identifier = 0;
  bool remembered = false;  // LIST ID USAGE is not 11b
  std::uint16_t cscds = 0;
  std::uint16_t segments = 0;
  std::uint32_t cscd_offset = 0;     // of the first descriptor in the list
  std::uint32_t segment_offset = 0;
};

// Checks the list in task.data, task.need.data_out_bytes of it, as far as it can be without looking at a unit
// (SPC-4 5.17.7.3: errors before the processing of segment descriptors). nullopt: the command has ended with
// ILLEGAL REQUEST.
[[nodiscard]] std::optional<CopyList> read_copy_list(Task& task, bool lid4) noexcept;

struct CopySegment {
  bool counts_destination = false;  // DC: `blocks` are of the destination, else of the source
  bool concatenate = false;         // CAT
  std::uint16_t source = 0;         // CSCD DESCRIPTOR ID
  std::uint16_t destination = 0;
  std::uint16_t blocks = 0;
  std::uint64_t source_lba = 0;
  std::uint64_t destination_lba = 0;
};
[[nodiscard]] CopySegment copy_segment_at(const Task& task, const CopyOperation& operation,
                                          std::uint16_t index) noexcept;

struct CopyCscd {
  bool null_device = false;             // NUL
  std::uint8_t peripheral_type = 0;
  std::uint8_t code_set = 0;
  std::uint8_t association = 0;
  std::uint8_t designator_type = 0;
  bool pad = false;
  std::uint32_t block_bytes = 0;        // DISK BLOCK LENGTH; 0: not told
  std::array<std::uint8_t, 20> bytes{};
  std::uint8_t length = 0;              // of the designator in `bytes`

  [[nodiscard]] Bytes designator() const noexcept { return {bytes.data(), length}; }
};
[[nodiscard]] CopyCscd copy_cscd_at(const Task& task, const CopyOperation& operation,
                                    std::uint16_t index) noexcept;

}  // namespace perilune::scsi
