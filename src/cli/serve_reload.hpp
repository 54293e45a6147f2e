// SPDX-License-Identifier: Apache-2.0
// What `perilune serve` reads at the start and again when it is told to (SIGHUP). One thread (the server's
// first), but for what says otherwise.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/event_log.hpp"
#include "base/result.hpp"
#include "cli/serve_media.hpp"
#include "config/port_groups.hpp"
#include "runtime/loop.hpp"
#include "runtime/timer.hpp"
#include "target/server.hpp"

namespace perilune::cli {

// The file of --port-groups.
class PortGroupsOption {
 public:
  // Fails with what the file cannot be read for, or invalid_argument and its line; the message begins with
  // the path.
  [[nodiscard]] static Result<PortGroupsOption> open(std::string path,
                                                     const std::vector<target::PortalGroup>& groups);

  // What a unit begins with.
  [[nodiscard]] scsi::PortGroups initial() const;
  // The file as it is now; fails as open() does. May block; any thread.
  [[nodiscard]] Result<config::PortGroupsFile> read() const;
  // What it says anew is put into force for every unit of the target and logged; a file that could not be
  // read, or is wrong, changes nothing and is one line of the log.
  void apply(Result<config::PortGroupsFile> now, target::Server& server, std::uint32_t target, EventLog& log);

 private:
  PortGroupsOption(std::string path, const std::vector<target::PortalGroup>& groups);

  std::string path_;
  std::vector<std::uint16_t> tags_;
  config::PortGroupsFile file_;  // as it was read last
};

// Looks at what may have changed, on a thread of its own: a file system may take its time, and may be one
// that comes from this very server. Media that are others now are changed (Server::change_medium), files and
// devices that have grown are resized (Server::resize_unit), and --port-groups is applied; what cannot be is
// a line of the log, and is tried again the next time. A medium whose removal an initiator prevents is looked
// at again, alone, as soon as none does.
class Reload {
 public:
  // `loop`: the server's first. `port_groups`: nullptr where there is no such file. `media`: of the units
  // that have one to change. All references outlive this; and the loop has ended, or never ends, when it
  // goes.
  Reload(target::Server& server, std::uint32_t target, runtime::Loop& loop, PortGroupsOption* port_groups,
         std::vector<MediumFile> media, EventLog& log)
      : server_(server),
        target_(target),
        loop_(loop),
        port_groups_(port_groups),
        media_(std::move(media)),
        log_(log),
        allowed_(loop.timers(), Delegate<void()>::to<&Reload::ask_whether_allowed>(*this)) {}
  ~Reload();
  Reload(const Reload&) = delete;
  Reload& operator=(const Reload&) = delete;

  // Looks now, or again when it is looking already.
  void look();

 private:
  struct SeenMedium {
    MediumFile* file;
    MediumFile::Seen seen;
    block::SpaceMeter* space;
  };
  struct Seen {
    std::vector<SeenMedium> media;
    std::vector<std::string> refused;  // media that cannot be opened
    std::vector<std::pair<std::uint16_t, Result<BlockCount>>> sizes;  // by LUN
    std::optional<Result<config::PortGroupsFile>> port_groups;
  };
  using Units = std::vector<std::shared_ptr<const target::UnitSpec>>;
  void look(bool at_media_alone);
  [[nodiscard]] Seen see(const Units& units, bool media_alone);
  void see_media(Seen& seen);
  void apply(const Seen& seen);
  void change(const SeenMedium& medium);
  void changed(const SeenMedium& medium, const Status& status);
  void look_again_if_asked();
  void ask_whether_allowed();

  target::Server& server_;
  std::uint32_t target_;
  runtime::Loop& loop_;
  PortGroupsOption* port_groups_;
  std::vector<MediumFile> media_;
  EventLog& log_;
  std::thread thread_;
  std::size_t changing_ = 0;  // media
  bool again_ = false;
  std::vector<std::uint16_t> prevented_;  // LUNs of media that wait for initiators
  runtime::Timer allowed_;
};

}  // namespace perilune::cli
