// SPDX-License-Identifier: Apache-2.0
// The commands of MMC-6 that disks do not have. For the command table of src/scsi/multimedia.cpp alone.
#pragma once

#include "scsi/command_table.hpp"

namespace perilune::scsi {

Progress run_multimedia_mode_sense_6(Command&);
Progress run_multimedia_mode_sense_10(Command&);
Progress run_read_toc(Command&);
Progress run_get_configuration(Command&);
Progress run_get_event_status_notification(Command&);
Progress run_read_disc_information(Command&);
Progress run_read_track_information(Command&);
Progress run_read_dvd_structure(Command&);
Progress run_mechanism_status(Command&);
bool admit_multimedia_mode_select(Command&);
Progress run_multimedia_mode_select(Command&);
Progress run_read_sub_channel(Command&);
Progress run_set_cd_speed(Command&);
bool admit_read_cd(Command&);
bool admit_read_cd_msf(Command&);
Progress run_read_cd(Command&);

// The disc that is there is one of the size of a compact disc.
[[nodiscard]] bool is_compact_disc(const LogicalUnit& unit) noexcept;

}  // namespace perilune::scsi
