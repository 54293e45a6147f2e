// SPDX-License-Identifier: Apache-2.0
// A machine of the simulated world: addresses, disks and records that survive its crashes, loops that do not.
#pragma once

#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/endpoint.hpp"
#include "runtime/sim/sim_disk.hpp"
#include "runtime/sim/sim_loop.hpp"
#include "runtime/sim/sim_record_store.hpp"

namespace perilune::sim {

enum class Crash : std::uint8_t {
  process,  // kill -9: the kernel lives, resets the connections, and keeps what was written but not synced
  power,    // the machine is gone: peers hear nothing, what was not durable is lost, torn or reordered
};

// What becomes of the objects that lived on the loops of a crashed process. Either way the outer world
// (peers, disks) never sees anything of them again.
enum class Aftermath : std::uint8_t {
  frozen,     // no callback is ever made again: the owner destroys its objects as they are
  wind_down,  // the loops go on for those objects alone: connections are reset, files fail with EIO, so that
              // objects which cannot be destroyed in the middle of things end in an orderly way; then
              // SimLoop::die()
};

class SimHost {
 public:
  SimHost(World& world, std::uint32_t id, std::string name,
          std::initializer_list<std::string_view> addresses);
  ~SimHost();

  // A loop of this host's process. The first one after a crash is the restart.
  SimLoop& add_loop();
  // Disks are named by the path under which Loop::open_file finds them.
  SimDisk& add_disk(const std::string& path, const DiskOptions& options);
  [[nodiscard]] SimDisk* find_disk(const std::string& path) noexcept;
  [[nodiscard]] SimRecordStore& records() noexcept { return records_; }

  // Ends every loop of this host at once. Nothing of the caller's is destroyed: the owner of the objects on
  // those loops destroys them after this call (never from a callback of such a loop). Timers, hooks, posted
  // work, connections and file operations are void.
  void crash(Crash kind, Aftermath aftermath = Aftermath::frozen);

  [[nodiscard]] World& world() noexcept { return world_; }
  [[nodiscard]] std::uint32_t id() const noexcept { return id_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] const std::vector<runtime::Endpoint>& addresses() const noexcept { return addresses_; }
  [[nodiscard]] bool has_address(const runtime::Endpoint& endpoint) const noexcept;
  // False after a power failure until add_loop().
  [[nodiscard]] bool powered() const noexcept { return powered_; }
  [[nodiscard]] std::uint16_t next_port() noexcept;

 private:
  World& world_;
  std::uint32_t id_;
  std::string name_;
  std::vector<runtime::Endpoint> addresses_;
  std::map<std::string, std::unique_ptr<SimDisk>> disks_;
  SimRecordStore records_;
  std::vector<std::unique_ptr<SimLoop>> loops_;
  bool powered_ = true;
  std::uint16_t port_ = 32768;
};

}  // namespace perilune::sim
