// SPDX-License-Identifier: Apache-2.0
#include "scsi/command_table.hpp"

#include <algorithm>
#include <bit>

#include "scsi/copy_handlers.hpp"
#include "scsi/device.hpp"
#include "scsi/forwarding.hpp"
#include "scsi/handlers.hpp"
#include "scsi/logical_unit.hpp"
#include "scsi/medium_handlers.hpp"
#include "scsi/multimedia.hpp"
#include "scsi/protected_handlers.hpp"
#include "scsi/reservation_handlers.hpp"
#include "scsi/rod_handlers.hpp"
#include "scsi/sense.hpp"
#include "scsi/task.hpp"

namespace perilune::scsi {
namespace {

using enum SerialClass;

// What most rows allow.
constexpr std::uint32_t telling =
    allow::stopped | allow::read_only | allow::write_exclusive | allow::standby;  // about the unit
constexpr std::uint32_t about = telling | allow::exclusive_access;  // also to those who may not read
constexpr std::uint32_t always = about | allow::unavailable;
constexpr std::uint32_t setting = allow::stopped | allow::read_only | allow::standby;  // how the unit behaves
constexpr std::uint32_t reading = allow::read_only | allow::write_exclusive;
constexpr std::uint32_t writing = 0;

// The masks of the block commands: options of byte 1; then LBA, count, group number in the places of each
// length.
constexpr Usage cdb6(std::uint8_t opcode) { return {opcode, 0x1f, 0xff, 0xff, 0xff, 0}; }
constexpr Usage cdb10(std::uint8_t opcode, std::uint8_t options) {
  return {opcode, options, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0};
}
constexpr Usage cdb12(std::uint8_t opcode, std::uint8_t options) {
  return {opcode, options, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0};
}
constexpr Usage cdb16(std::uint8_t opcode, std::uint8_t options) {
  return {opcode, options, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0};
}

constexpr CommandRow data(std::uint8_t cdb_length, Usage usage, SerialClass serial, std::uint32_t flags,
                          bool (*admit)(Command&), Progress (*run)(Command&), std::uint16_t timeout_s = 30) {
  return {.opcode = usage[0], .cdb_length = cdb_length, .usage = usage, .serial = serial, .flags = flags,
          .timeout_s = timeout_s, .admit = admit, .run = run};
}
constexpr CommandRow unmap_row() {
  CommandRow row = data(10, {0x42, 0x01, 0, 0, 0, 0, 0x1f, 0xff, 0xff, 0}, range, writing | needs::thin, admit_unmap,
                        run_unmap, 60);
  row.prepare = prepare_unmap;
  return row;
}

// Third-party copies. What the units that a copy names must be able to do is asked when it comes to them; the
// one that gets the command may be any.
constexpr std::uint32_t copying = allow::stopped | allow::read_only;
constexpr std::uint32_t copy_status = copying | allow::write_exclusive;
constexpr CommandRow extended_copy_row(std::uint8_t service_action) {
  CommandRow row = data(16, {0x83, service_action, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0}, none, copying,
                        admit_extended_copy, run_extended_copy, 300);
  row.has_service_action = true;
  row.service_action = service_action;
  row.prepare = prepare_extended_copy;
  return row;
}
constexpr CommandRow token_row(std::uint8_t service_action, std::uint32_t flags, bool (*prepare)(Command&),
                               Progress (*run)(Command&)) {
  CommandRow row = data(16, {0x83, service_action, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0}, none,
                        flags | needs::tokens, admit_token_command, run, 60);
  row.has_service_action = true;
  row.service_action = service_action;
  row.prepare = prepare;
  return row;
}
constexpr Usage copy_results(std::uint8_t service_action, std::uint8_t identifier_bytes) {
  Usage usage{0x84, service_action, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0};
  for (std::size_t i = 0; i < identifier_bytes; ++i) usage[2 + i] = 0xff;
  return usage;
}

constexpr CommandRow set_target_port_groups_row() {
  CommandRow row = data(12, {0xa4, 0x0a, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0}, whole, setting | allow::unavailable | needs::explicit_access,
                        admit_set_target_port_groups, run_set_target_port_groups);
  row.has_service_action = true;
  row.service_action = 0x0a;
  return row;
}
constexpr CommandRow format_unit_row() {
  CommandRow row = data(6, {0x04, 0x3f, 0, 0, 0, 0}, whole, writing, admit_format_unit, run_format_unit, 0);
  row.prepare = prepare_format_unit;
  return row;
}
constexpr CommandRow sanitize_row(std::uint8_t service_action, std::uint8_t list_length_mask,
                                  std::uint32_t needs = 0) {
  const auto options = static_cast<std::uint8_t>(0xa0 | service_action);  // IMMED, AUSE
  CommandRow row = data(10, {0x48, options, 0, 0, 0, 0, 0, list_length_mask, list_length_mask, 0}, whole, writing | needs,
                        admit_sanitize, run_sanitize, 0);
  row.has_service_action = true;
  row.service_action = service_action;
  row.prepare = prepare_sanitize;
  return row;
}
constexpr CommandRow set_identifying_information_row() {
  CommandRow row = data(12, {0xa4, 0x06, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xfe, 0}, whole, setting | needs::store,
                        admit_set_identifying_information, run_set_identifying_information);
  row.has_service_action = true;
  row.service_action = 0x06;
  return row;
}
// It changes the unit for every nexus.
constexpr CommandRow set_timestamp_row() {
  CommandRow row = data(12, {0xa4, 0x0f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0}, whole, setting | needs::clock,
                        admit_set_timestamp, run_set_timestamp, 10);
  row.has_service_action = true;
  row.service_action = 0x0f;
  return row;
}
constexpr std::uint32_t reserving = about | allow::reserved;
constexpr Usage persistent_in(std::uint8_t service_action) {
  return {0x5e, service_action, 0, 0, 0, 0, 0, 0xff, 0xff, 0};
}
// SCOPE and TYPE are ignored by some service actions, so every value is let through to them.
constexpr CommandRow persistent_reserve_out_row(std::uint8_t service_action) {
  CommandRow row = data(10, {0x5f, service_action, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0}, whole, reserving,
                        admit_persistent_reserve_out, run_persistent_reserve_out);
  row.has_service_action = true;
  row.service_action = service_action;
  row.prepare = prepare_persistent_reserve_out;
  return row;
}
constexpr CommandRow write_scattered_row() {
  CommandRow row = service(16, {0x9f, 0x12, 0x18, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0},
                           writing | counts::write, run_write_scattered);
  row.serial = range;
  row.timeout_s = 60;
  row.admit = admit_write_scattered;
  row.prepare = prepare_write_scattered;
  return row;
}
constexpr CommandRow report_referrals_row() {
  CommandRow row = service(16, {0x9e, 0x13, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0},
                           reading | allow::exclusive_access, run_report_referrals);
  row.admit = admit_report_referrals;
  return row;
}

constexpr CommandRow get_lba_status_row() {
  CommandRow row = service(16, {0x9e, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0},
                           reading, run_get_lba_status);
  row.serial = read;
  row.admit = admit_get_lba_status;
  return row;
}

// A service action of 7Fh: the same for each is the ADDITIONAL CDB LENGTH.
constexpr CommandRow get_lba_status_32_row() {
  CommandRow row = get_lba_status_row();
  row.opcode = 0x7f;
  row.cdb_length = 32;
  row.usage = {0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0x00, 0x12};
  for (std::size_t i = 12; i < 24; ++i) row.usage[i] = 0xff;  // LBA, SCAN LENGTH; no element, no report type
  for (std::size_t i = 28; i < 32; ++i) row.usage[i] = 0xff;
  return row;
}

// It changes the unit for every nexus, as MODE SELECT does: not beside commands that are counted.
constexpr CommandRow log_select_row() {
  CommandRow row = control(10, {0x4c, 0x02, 0xff, 0xff, 0, 0, 0, 0, 0, 0}, allow::stopped | allow::read_only | allow::standby,
                           run_log_select);
  row.serial = whole;
  return row;
}

constexpr CommandRow prevent_allow_row() {
  CommandRow row = control(6, {0x1e, 0, 0, 0, 0x01, 0}, allow::stopped | allow::read_only, run_prevent_allow);
  row.flags |= needs::removable;
  row.serial = whole;  // all shards know before it is answered
  return row;
}

constexpr std::uint8_t dpo = 0x10;
constexpr std::uint8_t fua = 0x08;
constexpr std::uint8_t bytchk = 0x06;

constexpr auto table = std::to_array<CommandRow>({
    // Any device (SPC-4)
    control(6, {0x00}, reading | allow::exclusive_access, run_test_unit_ready),
    control(6, {0x03, 0x01, 0, 0, 0xff, 0}, always | allow::unit_attention | allow::no_unit | allow::reserved,
            run_request_sense),
    control(6, {0x12, 0x01, 0xff, 0xff, 0xff, 0},
            always | allow::unit_attention | allow::no_unit | allow::reserved, run_inquiry),
    data(6, {0x1d, 0x17, 0, 0, 0, 0}, read, allow::read_only, admit_send_diagnostic, run_send_diagnostic),
    log_select_row(),
    control(10, {0x4d, 0, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0}, about | allow::reserved, run_log_sense),
    data(6, {0x15, 0x11, 0, 0, 0xff, 0}, whole, setting, admit_mode_select, run_mode_select),
    control(6, {0x1a, 0x08, 0xff, 0xff, 0xff, 0}, telling, run_mode_sense_6),
    data(10, {0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0}, whole, setting, admit_mode_select, run_mode_select),
    control(10, {0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0}, telling, run_mode_sense_10),
    control(12, {0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0},
            always | allow::unit_attention | allow::no_unit | allow::reserved, run_report_luns),
    service(12, {0xa3, 0xea, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0}, always,
            run_report_target_port_groups),
    service(12, {0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0}, telling,
            run_report_supported_operation_codes),
    service(12, {0xa3, 0x0d, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0}, telling,
            run_report_supported_task_management),
    service(12, {0xa3, 0x0f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0}, about | needs::clock,
            run_report_timestamp),
    service(12, {0xa3, 0x05, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xfe, 0}, about | needs::store,
            run_report_identifying_information),
    set_identifying_information_row(),
    set_target_port_groups_row(),
    set_timestamp_row(),
    // BUFFER ID and BUFFER OFFSET mean nothing in the modes that are served.
    control(10, {0x3c, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0},
            reading | allow::stopped | allow::standby, run_read_buffer),
    data(10, {0x3b, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}, none, setting, admit_write_buffer,
         run_write_buffer, 10),
    // Reservations (SPC-4 6.15, 6.16; SPC-2 7.17, 7.21 …). Their handlers ask who may.
    service(10, persistent_in(0x00), reserving, run_read_keys),
    service(10, persistent_in(0x01), reserving, run_read_reservation),
    service(10, persistent_in(0x02), reserving, run_report_capabilities),
    service(10, persistent_in(0x03), reserving, run_read_full_status),
    persistent_reserve_out_row(0x00),
    persistent_reserve_out_row(0x01),
    persistent_reserve_out_row(0x02),
    persistent_reserve_out_row(0x03),
    persistent_reserve_out_row(0x04),
    persistent_reserve_out_row(0x05),
    persistent_reserve_out_row(0x06),
    persistent_reserve_out_row(0x07),
    data(6, {0x16}, whole, reserving, admit_reserve_release, run_reserve_unit),
    data(6, {0x17}, whole, reserving, admit_reserve_release, run_release_unit),
    data(10, {0x56}, whole, reserving, admit_reserve_release, run_reserve_unit),
    data(10, {0x57}, whole, reserving, admit_reserve_release, run_release_unit),
    // Direct access (SBC-3)
    data(6, {0x1b, 0x01, 0, 0, 0x07, 0}, whole, allow::stopped | allow::read_only, admit_start_stop,
         run_start_stop),
    prevent_allow_row(),
    control(10, {0x25}, reading | allow::exclusive_access, run_read_capacity_10),
    service(16, {0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0},
            reading | allow::exclusive_access, run_read_capacity_16),
    get_lba_status_row(),
    report_referrals_row(),
    get_lba_status_32_row(),
    control(10, {0x37, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0}, reading, run_read_defect_data_10),
    control(12, {0xb7, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0}, reading,
            run_read_defect_data_12),
    data(6, cdb6(0x08), read, reading | counts::read, admit_read, run_read),
    data(10, cdb10(0x28, dpo | fua), read, reading | counts::read, admit_read, run_read),
    data(12, cdb12(0xa8, dpo | fua), read, reading | counts::read, admit_read, run_read),
    data(16, cdb16(0x88, dpo | fua), read, reading | counts::read, admit_read, run_read),
    data(6, cdb6(0x0a), write, writing | counts::write, admit_write, run_write),
    data(10, cdb10(0x2a, dpo | fua), write, writing | counts::write, admit_write, run_write),
    data(12, cdb12(0xaa, dpo | fua), write, writing | counts::write, admit_write, run_write),
    data(16, cdb16(0x8a, dpo | fua), write, writing | counts::write, admit_write, run_write),
    data(10, cdb10(0x2e, dpo | 0x02), range, writing | counts::write, admit_write_and_verify,
         run_write_and_verify),
    data(12, cdb12(0xae, dpo | 0x02), range, writing | counts::write, admit_write_and_verify,
         run_write_and_verify),
    data(16, cdb16(0x8e, dpo | 0x02), range, writing | counts::write, admit_write_and_verify,
         run_write_and_verify),
    data(10, cdb10(0x2f, dpo | bytchk), read, reading | counts::verify, admit_verify, run_verify),
    data(12, cdb12(0xaf, dpo | bytchk), read, reading | counts::verify, admit_verify, run_verify),
    data(16, cdb16(0x8f, dpo | bytchk), read, reading | counts::verify, admit_verify, run_verify),
    data(10, cdb10(0x34, 0x02), none, reading, admit_pre_fetch, run_pre_fetch),
    data(16, cdb16(0x90, 0x02), none, reading, admit_pre_fetch, run_pre_fetch),
    data(10, cdb10(0x35, 0x06), none, allow::read_only, admit_synchronize_cache, run_synchronize_cache, 60),
    data(16, cdb16(0x91, 0x06), none, allow::read_only, admit_synchronize_cache, run_synchronize_cache, 60),
    data(10, cdb10(0x41, 0x18), range, writing, admit_write_same, run_write_same, 60),
    data(16, cdb16(0x93, 0x19), range, writing, admit_write_same, run_write_same, 60),
    unmap_row(),
    format_unit_row(),
    sanitize_row(0x01, 0xff),                     // OVERWRITE
    sanitize_row(0x02, 0x00),                     // BLOCK ERASE
    sanitize_row(0x03, 0x00, needs::encryption),  // CRYPTOGRAPHIC ERASE
    sanitize_row(0x1f, 0x00),                     // EXIT FAILURE MODE
    data(16, cdb16(0x8b, dpo | fua), exclusive, writing | counts::write, admit_orwrite, run_orwrite),
    data(16, {0x9c, dpo | fua, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0x1f, 0},
         exclusive, writing | needs::atomic | counts::write, admit_write_atomic, run_write_atomic),
    write_scattered_row(),
    data(16, {0x89, dpo | fua, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0x1f, 0},
         exclusive, writing | counts::write, admit_compare_and_write, run_compare_and_write),
    // Third-party copies (SPC-4 5.17)
    extended_copy_row(0x00),
    extended_copy_row(0x01),
    token_row(0x10, reading, prepare_populate_token, run_populate_token),
    token_row(0x11, writing, prepare_write_using_token, run_write_using_token),
    service(16, {0x83, 0x1c, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, copying,
            run_copy_operation_abort),
    service(16, copy_results(0x00, 1), copy_status, run_receive_copy_status_lid1),
    service(16, copy_results(0x01, 1), copy_status, run_receive_copy_data_lid1),
    service(16, copy_results(0x03, 0), copy_status, run_receive_copy_operating_parameters),
    service(16, copy_results(0x04, 1), copy_status, run_receive_copy_failure_details),
    service(16, copy_results(0x05, 4), copy_status, run_receive_copy_status_lid4),
    service(16, copy_results(0x06, 4), copy_status, run_receive_copy_data_lid4),
    service(16, copy_results(0x07, 4), copy_status | needs::tokens, run_receive_rod_token_information),
    service(16, copy_results(0x08, 0), copy_status | needs::tokens, run_report_all_rod_tokens),
});

// ---- disks with protection information: the same rows, some of them with more bits, and six more.

// No two operations on a block beside each other when one writes: its data and its protection information are
// of one write.
constexpr SerialClass of_protected(SerialClass serial) {
  return serial == write || serial == range ? exclusive : serial;
}

constexpr CommandRow protected_row(CommandRow row) {
  row.serial = of_protected(row.serial);
  if (row.opcode == 0x04) row.usage[1] |= 0xc0;  // FMTPINFO
  if (const auto admit = protected_admit(row.admit); admit != nullptr && row.cdb_length > 6) {
    row.admit = admit;
    row.usage[1] |= 0xe0;  // RDPROTECT, WRPROTECT, VRPROTECT
  }
  row.run = protected_run(row.run);
  return row;
}

// Of 32 bytes: what the one of ten (or sixteen) bytes does, and says what tags it expects.
constexpr CommandRow protected_row_32(std::uint8_t service_action, std::uint8_t opcode) {
  CommandRow row;
  for (const CommandRow& each : table) {
    if (each.opcode == opcode) row = protected_row(each);
  }
  const std::uint8_t options = row.usage[1];
  row.opcode = 0x7f;
  row.has_service_action = true;
  row.service_action = service_action;
  row.cdb_length = 32;
  row.flags |= needs::type_2;
  row.usage = {0x7f, 0, 0, 0, 0, 0, 0x1f, 0x18, 0x00, service_action, options};
  if (opcode == 0x41) row.usage[10] |= 0x01;  // NDOB, which WRITE SAME (10) has not
  for (std::size_t i = 12; i < row.usage.size(); ++i) row.usage[i] = 0xff;
  return row;
}

constexpr auto protected_table = [] {
  std::array<CommandRow, table.size() + 6> rows;
  std::size_t at = 0;
  for (const CommandRow& row : table) {
    rows[at++] = protected_row(row);
    if (row.opcode != 0x7f) continue;  // beside the one that every disk has
    rows[at++] = protected_row_32(0x09, 0x28);  // READ
    rows[at++] = protected_row_32(0x0a, 0x2f);  // VERIFY
    rows[at++] = protected_row_32(0x0b, 0x2a);  // WRITE
    rows[at++] = protected_row_32(0x0c, 0x2e);  // WRITE AND VERIFY
    rows[at++] = protected_row_32(0x0d, 0x41);  // WRITE SAME
    rows[at++] = protected_row_32(0x0f, 0x9c);  // WRITE ATOMIC, without a boundary
  }
  return rows;
}();

// ---- real devices: what is answered here all the same; forwarded_commands.cpp has the rest.

constexpr bool is_ours(const CommandRow& row) {
  switch (row.opcode) {
    case 0x16:  // RESERVE, RELEASE
    case 0x17:
    case 0x56:
    case 0x57:
    case 0x5e:  // PERSISTENT RESERVE IN, OUT
    case 0x5f:
    case 0xa0: return true;  // REPORT LUNS
    case 0xa3: return row.service_action == 0x0d;  // REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS
    default: return false;
  }
}

constexpr auto table_beside_device = [] {
  std::array<CommandRow, std::count_if(table.begin(), table.end(), is_ours)> rows;
  std::copy_if(table.begin(), table.end(), rows.begin(), is_ours);
  return rows;
}();

// Place of the first row of each operation code; rows of one code stand together.
constexpr std::uint8_t no_row = 0xff;
using Places = std::array<std::uint8_t, 256>;
constexpr Places first_rows(std::span<const CommandRow> rows) {
  Places places{};
  places.fill(no_row);
  for (std::size_t i = rows.size(); i-- > 0;) places[rows[i].opcode] = static_cast<std::uint8_t>(i);
  return places;
}

constexpr bool is_sound(std::span<const CommandRow> rows) {
  const Places first = first_rows(rows);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const CommandRow& row = rows[i];
    if (row.usage[0] != row.opcode || row.run == nullptr) return false;
    if (i > 0 && rows[i - 1].opcode == row.opcode && !row.has_service_action) return false;
    if (first[row.opcode] != i && (i == 0 || rows[i - 1].opcode != row.opcode)) return false;
    for (std::size_t b = row.cdb_length; b < row.usage.size(); ++b) {
      if (row.usage[b] != 0) return false;
    }
  }
  return rows.size() < no_row;
}
static_assert(is_sound(table) && is_sound(protected_table) && is_sound(table_beside_device));

struct Commands {
  std::span<const CommandRow> rows;
  Places first;
  // As find_row(), for what has no row here; nullptr: there is nothing else.
  const CommandRow* (*others)(std::uint8_t, std::uint16_t, bool&) noexcept = nullptr;
};
const std::array<Commands, 6> command_sets{{  // by CommandSet
    {table, first_rows(table)},
    {protected_table, first_rows(protected_table)},
    {multimedia_rows(), first_rows(multimedia_rows())},
    {table_beside_device, first_rows(table_beside_device), find_forwarded_disk_row},
    {table_beside_device, first_rows(table_beside_device), find_forwarded_cd_dvd_row},
    {table_beside_device, first_rows(table_beside_device), find_forwarded_other_row},
}};

}  // namespace

std::span<const CommandRow> command_rows(CommandSet set) noexcept {
  return command_sets[static_cast<std::size_t>(set)].rows;
}

const CommandRow* find_row(CommandSet set, std::uint8_t opcode, std::uint16_t service_action,
                           bool& opcode_known) noexcept {
  const Commands& commands = command_sets[static_cast<std::size_t>(set)];
  const std::span<const CommandRow> rows = commands.rows;
  const std::uint8_t place = commands.first[opcode];
  opcode_known = place != no_row;
  if (!opcode_known)
    return commands.others == nullptr ? nullptr : commands.others(opcode, service_action, opcode_known);
  if (!rows[place].has_service_action) return &rows[place];
  for (std::size_t i = place; i < rows.size() && rows[i].opcode == opcode; ++i) {
    if (rows[i].service_action == service_action) return &rows[i];
  }
  bool ignored = false;  // it is known here
  return commands.others == nullptr ? nullptr : commands.others(opcode, service_action, ignored);
}

bool permits(ReservationAccess access, const CommandRow& row, const Task& task) noexcept {
  switch (access) {
    case ReservationAccess::all: return true;
    case ReservationAccess::reserved: return row.allows(allow::reserved);
    case ReservationAccess::write_exclusive:
    case ReservationAccess::exclusive_access: break;
  }
  // START STOP UNIT: to start is allowed, to stop is not (SBC-3 table 13).
  if (row.opcode == 0x1b && (task.cdb[4] & 0xf1) == 0x01) return true;
  return row.allows(access == ReservationAccess::write_exclusive ? allow::write_exclusive
                                                                 : allow::exclusive_access);
}

bool available(const CommandRow& row, const LogicalUnit& unit) noexcept {
  if (unit.rules().take_commands_away() && !unit.rules().serves(row.opcode)) return false;
  if ((row.flags & needs::explicit_access) != 0 && !unit.port_groups().by_command()) return false;
  if (row.allows(needs::removable) && !unit.removable()) return false;
  if ((row.flags & needs::clock) != 0 && !unit.device().has_clock()) return false;
  if ((row.flags & needs::tokens) != 0 && (unit.device().tokens() == nullptr || !unit.device().has_clock()))
    return false;
  if ((row.flags & needs::atomic) != 0 && unit.geometry().max_atomic_blocks == 0) return false;
  if ((row.flags & needs::encryption) != 0 && !unit.geometry().encrypted) return false;
  if ((row.flags & needs::store) != 0 && !unit.persists()) return false;
  if ((row.flags & needs::type_2) != 0 && unit.protection_type() != ProtectionType::type_2) return false;
  return (row.flags & needs::thin) == 0 || unit.thin();
}

namespace {

bool is_write_same(const CommandRow& row) noexcept {
  return row.opcode == 0x41 || row.opcode == 0x93 || (row.opcode == 0x7f && row.service_action == 0x0d);
}

// READ, WRITE and their like, whose DPO and FUA stand side by side.
bool takes_fua(const CommandRow& row, std::size_t options) noexcept {
  constexpr std::uint8_t dpo_and_fua = 0x18;
  const bool moves_blocks = row.allows(counts::read | counts::write) || row.opcode == 0x89;
  return moves_blocks && !is_write_same(row) && (row.usage[options] & dpo_and_fua) == dpo_and_fua;
}

}  // namespace

std::uint8_t usage_of(const CommandRow& row, const LogicalUnit& unit, std::size_t index) noexcept {
  std::uint8_t bits = row.usage[index];
  const bool options = index == (row.opcode == 0x7f ? 10u : 1u);
  if (options && !can_anchor(unit)) {
    if (is_write_same(row)) bits &= static_cast<std::uint8_t>(~0x10);
    if (row.opcode == 0x42) bits &= static_cast<std::uint8_t>(~0x01);
  }
  // WRITE SAME: UNMAP is evaluated where blocks can be deallocated. A medium that is never written refuses it
  // for that.
  const bool unmaps = unit.geometry().thin && unit.rules().unmap_by_write_same;
  if (options && is_write_same(row) && !unmaps && !unit.geometry().read_only) {
    bits &= static_cast<std::uint8_t>(~0x08);
  }
  if (options && !unit.rules().force_unit_access && takes_fua(row, index))
    bits &= static_cast<std::uint8_t>(~0x08);
  if (index == 4 && row.opcode == 0x1b && !unit.removable())
    bits &= static_cast<std::uint8_t>(~0x02);  // LOEJ
  return bits;
}

namespace {

// usage_of() narrows these rows; of all others the table says everything.
bool depends_on_the_unit(const CommandRow& row) noexcept {
  return is_write_same(row) || row.opcode == 0x1b || row.opcode == 0x42;
}

// Whether a bit of the CDB is set that the table does not name, of a CDB of at most 16 bytes: eight bytes at
// a time, for every command comes through here.
bool any_stray_bit(const CommandRow& row, const Task& task) noexcept {
  std::uint64_t stray = 0;
  for (std::size_t at = 0; at < row.cdb_length; at += 8) {
    const std::size_t bytes = std::min<std::size_t>(8, row.cdb_length - at);
    stray |= (load_be64(task.cdb.data() + at) & ~load_be64(row.usage.data() + at)) >> (64 - 8 * bytes);
  }
  return stray != 0;
}

}  // namespace

bool check_cdb(const CommandRow& row, const LogicalUnit& unit, Task& task) noexcept {
  const bool extended = row.opcode == 0x7f;
  // ADDITIONAL CDB LENGTH says something else than the command, or less came than it says.
  if (extended && (task.cdb[7] != row.cdb_length - 8 || task.cdb_length < row.cdb_length)) {
    invalid_field_in_cdb(task, 7, std::uint8_t{7});
    return false;
  }
  const bool narrowed = depends_on_the_unit(row) || !unit.rules().force_unit_access;
  if (!narrowed && !extended && !any_stray_bit(row, task)) return true;
  for (std::size_t i = 1; i < row.cdb_length; ++i) {
    auto stray = static_cast<std::uint8_t>(task.cdb[i] & ~row.usage[i]);
    if (stray == 0 && !narrowed) continue;
    std::uint8_t accepted = usage_of(row, unit, i);
    if (extended ? i == 8 || i == 9 : i == 1 && row.has_service_action) accepted |= extended ? 0xff : 0x1f;
    stray = static_cast<std::uint8_t>(task.cdb[i] & ~accepted);
    if (stray == 0) continue;
    invalid_field_in_cdb(task, static_cast<std::uint16_t>(i),
                         static_cast<std::uint8_t>(std::bit_width(stray) - 1));
    return false;
  }
  return true;
}

}  // namespace perilune::scsi
