// SPDX-License-Identifier: Apache-2.0
// What `perilune serve` reads at the start and again when it is told to (SIGHUP). One thread (the server's first).
#pragma once

#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/event_log.hpp"
#include "base/result.hpp"
#include "config/port_groups.hpp"
#include "runtime/loop.hpp"
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

// Looks at the sizes of the files and devices that a target serves, on a thread of its own: a file system may take its time, and may
// be one that comes from this very server. What has grown is resized (Server::resize_unit); what cannot be is a line of the log.
class SizeLook {
 public:
  // `loop`: the server's first. All of them outlive this; and the loop has ended, or never ends, when it goes.
  SizeLook(target::Server& server, std::uint32_t target, runtime::Loop& loop, EventLog& log)
      : server_(server), target_(target), loop_(loop), log_(log) {}
  ~SizeLook();
  SizeLook(const SizeLook&) = delete;
  SizeLook& operator=(const SizeLook&) = delete;

  // Looks now, or again when it is looking already.
  void look();

 private:
  using Sizes = std::vector<std::pair<std::uint16_t, Result<BlockCount>>>;  // by LUN
  [[nodiscard]] Sizes measure() const;
  void measured(const Sizes& sizes);

  target::Server& server_;
  std::uint32_t target_;
  runtime::Loop& loop_;
  EventLog& log_;
  std::thread thread_;
  bool again_ = false;
};

}  // namespace perilune::cli
