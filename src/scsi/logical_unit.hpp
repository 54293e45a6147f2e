// SPDX-License-Identifier: Apache-2.0
// A direct-access block device (SBC-3) on one shard: identity, mode pages, task set. What it advertises derives from
// the channel's Geometry. One thread (the shard's).
#pragma once

#include <cstdint>
#include <string>

#include "base/block_op.hpp"
#include "base/intrusive_list.hpp"
#include "scsi/copy_operation.hpp"
#include "scsi/log_pages.hpp"
#include "scsi/port_groups.hpp"
#include "scsi/task.hpp"
#include "scsi/unit_attention.hpp"

namespace perilune::scsi {

class Device;

// Stable and unique (DESIGN 1.14).
struct UnitIdentity {
  std::string product = "VIRTUAL-DISK";  // at most 16 characters, ASCII 20h..7Eh; others become spaces
  std::string revision = "0001";         // 4
  std::string serial;                    // VPD 80 and the T10 vendor id designator; at most 64
  std::uint64_t naa_id = 0;              // low 60 bits of the NAA 3h (locally assigned) designator of VPD 83

  // Serial and NAA from one number of 60 bits.
  [[nodiscard]] static UnitIdentity from_id(std::uint64_t id);
};

struct UnitConfig {
  UnitIdentity identity;
  bool read_only = false;  // beside Geometry::read_only
  PortGroups port_groups = {};
};

class LogicalUnit {
 public:
  LogicalUnit(Device& device, std::uint16_t number, UnitConfig config, block::Channel& channel);
  ~LogicalUnit();
  LogicalUnit(const LogicalUnit&) = delete;
  LogicalUnit& operator=(const LogicalUnit&) = delete;

  [[nodiscard]] std::uint16_t number() const noexcept { return number_; }
  [[nodiscard]] const UnitIdentity& identity() const noexcept { return config_.identity; }
  [[nodiscard]] block::Channel& channel() const noexcept { return channel_; }
  [[nodiscard]] const block::Geometry& geometry() const noexcept { return channel_.geometry(); }

  // Asymmetric access. The operator's change: every nexus learns by 2A/06. Fails with not_found.
  [[nodiscard]] const PortGroups& port_groups() const noexcept { return config_.port_groups; }
  [[nodiscard]] Status set_access_state(std::uint16_t group, AccessState state);

  // The channel's Geometry::blocks has changed: every nexus learns by 2A/09.
  void resized();

  // State of mode pages and of START STOP UNIT.
  [[nodiscard]] bool write_cache_enabled() const noexcept { return state_.wce; }
  [[nodiscard]] bool write_protected() const noexcept {
    return state_.swp || config_.read_only || channel_.geometry().read_only;
  }
  [[nodiscard]] bool descriptor_sense() const noexcept { return state_.d_sense; }

  [[nodiscard]] std::uint32_t tasks() const noexcept { return task_count_; }
  [[nodiscard]] const UnitCounters& counters() const noexcept { return log_.total; }  // since the unit was made
  [[nodiscard]] Device& device() const noexcept { return device_; }

  // For src/scsi alone.
  struct State {
    bool wce = false;            // Caching mode page; without a cache it stays 0
    bool swp = false;            // Control mode page
    bool d_sense = false;
    bool stopped = false;        // START STOP UNIT
    bool flush_failed = false;   // sticky: what a failed flush lost, the next flush cannot make good
  };
  [[nodiscard]] State& state() noexcept { return state_; }
  [[nodiscard]] PortGroups& port_groups() noexcept { return config_.port_groups; }
  [[nodiscard]] const State& state() const noexcept { return state_; }
  [[nodiscard]] UnitLog& log() noexcept { return log_; }
  [[nodiscard]] const UnitLog& log() const noexcept { return log_; }
  void reset() noexcept;  // logical unit reset (SAM-5 6.3.3): mode pages return to their defaults
  void raise_for_others(const Nexus* nexus, UnitAttention attention);  // on every nexus but this one

 private:
  friend class Device;
  friend class Nexus;

  [[nodiscard]] bool can_start(const Task& task);
  void count(const Task& task) noexcept;  // a command that ended well
  static bool stands_in_the_way(const Task& other, const Task& task, bool older) noexcept;
  static bool is_barrier(const Task& task) noexcept;
  // Whether something in this unit stands in the way of a claim that waits.
  [[nodiscard]] bool can_hold(const RangeClaim& claim);

  Device& device_;
  std::uint16_t number_;
  UnitConfig config_;
  block::Channel& channel_;
  State state_;
  UnitLog log_;

  IntrusiveList<Task> task_set_;  // in the order of admission
  IntrusiveList<RangeClaim> claims_;  // of copies that read or write this unit, whichever unit got the command
  std::uint32_t task_count_ = 0;
  std::uint32_t barriers_ = 0;    // tasks and claims that may stand in another's way; 0: everything starts at once
  std::uint32_t blocked_ = 0;     // tasks in the set, and claims, that wait
  bool claim_released_ = false;   // somebody may go on now (Device::wake_released)
  bool waking_ = false;
  bool wake_again_ = false;
};

}  // namespace perilune::scsi
