// SPDX-License-Identifier: Apache-2.0
// Sense data (SPC-4 4.5): what goes with CHECK CONDITION, in fixed (70h) or descriptor (72h) format.
#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.hpp"
#include "scsi/unit_attention.hpp"

namespace perilune::scsi {

struct Task;

enum class SenseKey : std::uint8_t {
  no_sense = 0x0,
  not_ready = 0x2,
  medium_error = 0x3,
  hardware_error = 0x4,
  illegal_request = 0x5,
  unit_attention = 0x6,
  data_protect = 0x7,
  copy_aborted = 0xa,
  aborted_command = 0xb,
  miscompare = 0xe,
};

namespace asc {
inline constexpr AdditionalSense none{0x00, 0x00};
inline constexpr AdditionalSense not_ready{0x04, 0x00};
inline constexpr AdditionalSense initializing_command_required{0x04, 0x02};
inline constexpr AdditionalSense format_in_progress{0x04, 0x04};
inline constexpr AdditionalSense port_transition{0x04, 0x0a};
inline constexpr AdditionalSense port_standby{0x04, 0x0b};
inline constexpr AdditionalSense port_unavailable{0x04, 0x0c};
inline constexpr AdditionalSense unit_offline{0x04, 0x12};
inline constexpr AdditionalSense sanitize_in_progress{0x04, 0x1b};
inline constexpr AdditionalSense write_error{0x0c, 0x00};
inline constexpr AdditionalSense guard_check_failed{0x10, 0x01};
inline constexpr AdditionalSense application_tag_check_failed{0x10, 0x02};
inline constexpr AdditionalSense reference_tag_check_failed{0x10, 0x03};
inline constexpr AdditionalSense unrecovered_read_error{0x11, 0x00};
inline constexpr AdditionalSense parameter_list_length_error{0x1a, 0x00};
inline constexpr AdditionalSense command_sequence_error{0x2c, 0x00};
inline constexpr AdditionalSense echo_buffer_overwritten{0x3f, 0x0f};
inline constexpr AdditionalSense illegal_mode_for_this_track{0x64, 0x00};
inline constexpr AdditionalSense miscompare_during_verify{0x1d, 0x00};
inline constexpr AdditionalSense invalid_operation_code{0x20, 0x00};
inline constexpr AdditionalSense lba_out_of_range{0x21, 0x00};
inline constexpr AdditionalSense invalid_field_in_cdb{0x24, 0x00};
inline constexpr AdditionalSense logical_unit_not_supported{0x25, 0x00};
inline constexpr AdditionalSense invalid_field_in_parameter_list{0x26, 0x00};
inline constexpr AdditionalSense invalid_release_of_persistent_reservation{0x26, 0x04};
inline constexpr AdditionalSense write_protected{0x27, 0x00};
inline constexpr AdditionalSense software_write_protected{0x27, 0x02};
inline constexpr AdditionalSense space_allocation_failed{0x27, 0x07};
inline constexpr AdditionalSense incompatible_medium{0x30, 0x02};
inline constexpr AdditionalSense medium_format_corrupted{0x31, 0x00};
inline constexpr AdditionalSense format_command_failed{0x31, 0x01};
inline constexpr AdditionalSense sanitize_command_failed{0x31, 0x03};
inline constexpr AdditionalSense medium_not_present{0x3a, 0x00};
inline constexpr AdditionalSense medium_removal_prevented{0x53, 0x02};
inline constexpr AdditionalSense saving_parameters_not_supported{0x39, 0x00};
inline constexpr AdditionalSense self_test_failed{0x3e, 0x03};
inline constexpr AdditionalSense internal_target_failure{0x44, 0x00};
inline constexpr AdditionalSense invalid_message{0x49, 0x00};
inline constexpr AdditionalSense insufficient_registration_resources{0x55, 0x04};
}  // namespace asc

// Which field is wrong (SPC-4 4.5.2.4.2; of a copy: 4.5.2.4.5). A field is named by its first byte and most
// significant bit.
struct FieldPointer {
  bool in_cdb = true;  // else in the parameter list
  std::uint16_t byte = 0;
  std::optional<std::uint8_t> bit = std::nullopt;
  bool in_segment = false;  // COPY ABORTED: counted from the start of the segment descriptor
};

enum class CopyParty : std::uint8_t { source = 1, destination = 2 };  // SENSE DATA SOURCE (SPC-4 table 55)

// What the source or the destination of a copy said.
struct ForwardedSense {
  CopyParty party = CopyParty::source;
  std::uint8_t status = 0;
  Bytes sense;
};

struct Sense {
  SenseKey key = SenseKey::no_sense;
  AdditionalSense additional;
  std::optional<std::uint64_t> information;  // an LBA, or an offset for MISCOMPARE, or what goes with a unit
                                             // attention
  std::optional<FieldPointer> field;
  std::optional<std::uint16_t> progress = std::nullopt;  // of 65536; in the place of `field`
                                                         // (SPC-4 4.5.2.4.4)
  std::optional<std::uint16_t> segment = std::nullopt;   // of a copy: in COMMAND-SPECIFIC INFORMATION
                                                         // (5.17.7.4)
  std::optional<ForwardedSense> forwarded = std::nullopt;
};

// Bytes written: 18 and more in fixed format, 8 and more in descriptor format. `out` holds at least 32 bytes,
// and for a segment and forwarded sense data 16 and the bytes of those more. In fixed format an information
// that needs more than 32 bits is left out (VALID = 0).
std::size_t encode_sense(const Sense& sense, bool descriptor_format, MutableBytes out) noexcept;

// Ends the command with CHECK CONDITION in the format that its unit's D_SENSE asks for. Data-in is dropped.
void check_condition(Task& task, const Sense& sense) noexcept;

// The common ones.
void invalid_field_in_cdb(Task& task, std::uint16_t byte,
                          std::optional<std::uint8_t> bit = std::nullopt) noexcept;
void invalid_field_in_parameters(Task& task, std::uint16_t byte,
                                 std::optional<std::uint8_t> bit = std::nullopt) noexcept;
void fail_command(Task& task, SenseKey key, AdditionalSense additional) noexcept;
[[nodiscard]] Sense sense_of(UnitAttention attention) noexcept;
void reservation_conflict(Task& task) noexcept;  // the status, which has no sense
void lba_out_of_range(Task& task, std::uint64_t first_bad_lba) noexcept;

}  // namespace perilune::scsi
