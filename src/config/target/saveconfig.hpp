// SPDX-License-Identifier: Apache-2.0
// saveconfig.json, the file of LIO's targetcli (rtslib's RTSRoot.dump and restore). A file that LIO wrote is
// read whole, and what we write is restored by the real targetcli. Pure; any thread.
//
// Written as rtslib writes it: sorted keys, two spaces, ASCII, a newline at the end. Lists are in the order
// of their names and numbers, where rtslib has the order of configfs folders, which means nothing. Attributes
// whose value is the device's own are left out, for LIO to find its own. Keys that we do not know are kept
// where they stood.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/target/configuration.hpp"

namespace perilune::config::target {

struct LoadedSaveconfig {
  Configuration configuration;
  std::vector<std::string>
      warnings;  // unknown keys, what is kept but not served, weak secrets; never a secret itself
};

// One line for the first thing that is wrong, naming the object: limit, invalid_argument, or what apply()
// says.
[[nodiscard]] Result<LoadedSaveconfig> read_saveconfig(std::string_view text);

[[nodiscard]] std::string write_saveconfig(const Configuration& configuration);

}  // namespace perilune::config::target
