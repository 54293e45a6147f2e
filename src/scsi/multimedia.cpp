// SPDX-License-Identifier: Apache-2.0
#include "scsi/multimedia.hpp"

#include "scsi/handlers.hpp"
#include "scsi/multimedia_commands.hpp"

namespace perilune::scsi {
namespace {


constexpr std::uint32_t always = allow::stopped | allow::read_only | allow::write_exclusive |
                                 allow::exclusive_access | allow::standby | allow::unavailable;
constexpr std::uint32_t about =
    allow::stopped | allow::read_only | allow::write_exclusive | allow::exclusive_access | allow::standby;
constexpr std::uint32_t reading = allow::read_only | allow::write_exclusive;
constexpr std::uint32_t of_the_disc = reading | allow::exclusive_access;  // tells about the medium: not
                                                                          // without one

constexpr CommandRow data(std::uint8_t cdb_length, Usage usage, std::uint32_t flags, bool (*admit)(Command&),
                          Progress (*run)(Command&)) {
  CommandRow result = control(cdb_length, usage, flags, run);
  result.serial = SerialClass::read;
  result.timeout_s = 30;
  result.admit = admit;
  return result;
}
constexpr CommandRow start_stop_row() {
  CommandRow result =
      control(6, {0x1b, 0x01, 0, 0, 0x03, 0}, allow::stopped | allow::read_only, run_start_stop);
  result.serial = SerialClass::whole;
  result.admit = admit_start_stop;
  return result;
}

constexpr CommandRow mode_select_row() {
  CommandRow result = control(10, {0x55, 0x10, 0, 0, 0, 0, 0, 0xff, 0xff, 0},
                              allow::stopped | allow::read_only | allow::standby, run_multimedia_mode_select);
  result.admit = admit_multimedia_mode_select;
  return result;
}

constexpr CommandRow prevent_allow_row() {
  CommandRow result =
      control(6, {0x1e, 0, 0, 0, 0x01, 0}, allow::stopped | allow::read_only, run_prevent_allow);
  result.serial = SerialClass::whole;  // all shards know before it is answered
  return result;
}

constexpr auto table = std::to_array<CommandRow>({
    // Any device (SPC-4)
    control(6, {0x00}, of_the_disc, run_test_unit_ready),
    control(6, {0x03, 0x01, 0, 0, 0xff, 0}, always | allow::unit_attention | allow::no_unit,
            run_request_sense),
    control(6, {0x12, 0x01, 0xff, 0xff, 0xff, 0}, always | allow::unit_attention | allow::no_unit,
            run_inquiry),
    control(6, {0x1a, 0x08, 0xff, 0xff, 0xff, 0}, about, run_multimedia_mode_sense_6),
    control(10, {0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0}, about, run_multimedia_mode_sense_10),
    mode_select_row(),
    control(12, {0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0},
            always | allow::unit_attention | allow::no_unit, run_report_luns),
    service(12, {0xa3, 0xea, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0}, always,
            run_report_target_port_groups),
    service(12, {0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0}, about,
            run_report_supported_operation_codes),
    service(12, {0xa3, 0x0d, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0}, about,
            run_report_supported_task_management),
    // The drive (MMC-6)
    start_stop_row(),
    prevent_allow_row(),
    control(10, {0x46, 0x03, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0}, about, run_get_configuration),
    control(10, {0x4a, 0x01, 0, 0, 0xff, 0, 0, 0xff, 0xff, 0}, about | allow::unit_attention,
            run_get_event_status_notification),
    control(12, {0xbd, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0}, about, run_mechanism_status),
    control(12, {0xbb, 0x03, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0}, about, run_set_cd_speed),
    // The disc (MMC-6)
    control(10, {0x25}, of_the_disc, run_read_capacity_10),
    control(10, {0x43, 0x02, 0x0f, 0, 0, 0, 0xff, 0xff, 0xff, 0xc0}, of_the_disc, run_read_toc),
    control(10, {0x51, 0x07, 0, 0, 0, 0, 0, 0xff, 0xff, 0}, of_the_disc, run_read_disc_information),
    control(10, {0x52, 0x03, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0}, of_the_disc,
            run_read_track_information),
    control(12, {0xad, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0}, of_the_disc,
            run_read_dvd_structure),
    data(10, {0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0}, reading | counts::read, admit_read,
         run_read),
    data(12, {0xa8, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0}, reading | counts::read,
         admit_read, run_read),
    data(12, {0xbe, 0x1e, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf8, 0, 0}, reading | counts::read,
         admit_read_cd, run_read_cd),
    data(12, {0xb9, 0x1c, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf8, 0, 0}, reading | counts::read,
         admit_read_cd_msf, run_read_cd),
    control(10, {0x42, 0x02, 0x40, 0xff, 0, 0, 0xff, 0xff, 0xff, 0}, of_the_disc, run_read_sub_channel),
    data(10, {0x2f, 0x10, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0}, reading | counts::verify, admit_verify,
         run_verify),
});

}  // namespace

std::span<const CommandRow> multimedia_rows() noexcept { return table; }

}  // namespace perilune::scsi
