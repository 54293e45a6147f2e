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

}  // namespace perilune::scsi
