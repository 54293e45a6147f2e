// SPDX-License-Identifier: Apache-2.0
// What `perilune serve` reads at the start and again when it is told to (SIGHUP). One thread (the server's first).
#pragma once

#include <string>
#include <vector>

#include "base/event_log.hpp"
#include "base/result.hpp"
#include "config/port_groups.hpp"
#include "target/server.hpp"

namespace perilune::cli {

// The file of --port-groups.
class PortGroupsOption {
 public:
  // Fails with what the file cannot be read for, or invalid_argument and its line; the message begins with the path.
  [[nodiscard]] static Result<PortGroupsOption> open(std::string path, const std::vector<target::PortalGroup>& groups);

  // What a unit begins with.
  [[nodiscard]] scsi::PortGroups initial() const;
  // Reads the file again. What it says anew is put into force for every unit of the target and logged; a file that cannot be
  // read, or is wrong, changes nothing and is one line of the log.
  void reload(target::Server& server, std::uint32_t target, EventLog& log);

 private:
  PortGroupsOption(std::string path, const std::vector<target::PortalGroup>& groups);
  [[nodiscard]] Result<config::PortGroupsFile> read() const;

  std::string path_;
  std::vector<std::uint16_t> tags_;
  config::PortGroupsFile file_;  // as it was read last
};

}  // namespace perilune::cli
