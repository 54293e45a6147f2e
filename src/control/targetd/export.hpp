// SPDX-License-Identifier: Apache-2.0
// saveconfig.json as an export (DESIGN 1.11): what `saveconfig` and targetcli's exit write. It never drives a
// restart. Control path: it blocks.
//
// As targetcli does it: before the default file is replaced, what it holds is kept as
// backup/saveconfig-YYYYMMDD-HH:MM:SS-json.gz, unless the newest backup holds the same; the newest ten stay.
// Where the clock has not gone on since the newest, or has gone back, the name is a second behind that one's:
// a backup never takes another's place, and is never the oldest, which goes. The file is the old or the new
// one after a loss of power.
#pragma once

#include <chrono>
#include <string>

#include "config/target/configuration.hpp"
#include "control/targetd/state_folder.hpp"

namespace perilune::control::targetd {

inline constexpr std::size_t default_max_backups = 10;  // targetcli's max_backup_files

struct ExportOptions {
  std::string name = "saveconfig.json";
  bool overwrite_with_nothing = false;            // the administrator said so
  std::size_t max_backups = default_max_backups;  // at least 1
};

struct Exported {
  bool backed_up = false;
  std::string backup;  // its name, where there is one
};

// `now` names the backup; it is local time, as targetcli's. busy when the configuration serves nothing and
// the file has something (or cannot be read): then overwrite_with_nothing must be set. A backup that fails
// leaves the file as it was, too.
[[nodiscard]] Result<Exported> export_saveconfig(StateFolder& folder, StateFolder& backups,
                                                 const config::target::Configuration& configuration,
                                                 std::chrono::local_seconds now,
                                                 const ExportOptions& options = {});

// "saveconfig-20261120-13:20:08-json.gz"
[[nodiscard]] std::string backup_name(std::chrono::local_seconds now);

}  // namespace perilune::control::targetd
