// SPDX-License-Identifier: Apache-2.0
// A direct-access block device (SBC-3) on one shard: identity, mode pages, task set. What it advertises
// derives from the channel's Geometry. One thread (the shard's).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/block_op.hpp"
#include "base/intrusive_list.hpp"
#include "base/space_meter.hpp"
#include "scsi/copy_operation.hpp"
#include "scsi/device_type.hpp"
#include "scsi/log_pages.hpp"
#include "scsi/medium_operation.hpp"
#include "scsi/port_groups.hpp"
#include "scsi/protected_channel.hpp"
#include "scsi/protection.hpp"
#include "scsi/shard_claim.hpp"
#include "scsi/task.hpp"
#include "scsi/thresholds.hpp"
#include "scsi/unit_attention.hpp"
#include "scsi/unit_change.hpp"
#include "scsi/unit_rules.hpp"

namespace perilune::scsi {

class Device;
class Forwarder;
class PassthroughPort;
enum class MediaEvent : std::uint8_t;

// Stable and unique (DESIGN 1.14).
struct UnitIdentity {
  std::string product = "VIRTUAL-DISK";  // at most 16 characters, ASCII 20h..7Eh; others become spaces
  std::string revision = "0001";         // 4
  std::string serial;                    // VPD 80 and the T10 vendor id designator; at most 64
  std::uint64_t naa_id = 0;  // low 60 bits of the NAA 3h (locally assigned) designator of VPD 83; unique in
                             // any case
  std::optional<std::array<std::uint8_t, 16>> naa6 = std::nullopt;  // the NAA 6h designator, in the place of
                                                                    // that one

  // Serial and NAA from one number of 60 bits.
  [[nodiscard]] static UnitIdentity from_id(std::uint64_t id);
};

struct UnitConfig {
  UnitIdentity identity;
  bool read_only = false;  // beside Geometry::read_only
  DeviceType type = DeviceType::disk;
  bool removable = false;  // the medium can be taken out; of a cd_dvd always
  // How the medium is formatted, where nothing else is remembered (DurableState). Of a channel that has no
  // room: none.
  ProtectionType protection_type = ProtectionType::none;
  PortGroups port_groups = {};
  UnitStore* store = nullptr;  // outlives the unit; nullptr: what cannot be kept over a loss of power is
                               // refused
  DurableState durable = {};   // what the store has of it
  AccessStateStore* access_states = nullptr;  // outlives the unit; nullptr: what initiators set is over with
                                              // the unit
  // What a thin backing uses, the same on all shards; outlives the unit. nullptr: nobody can tell, and there
  // are no thresholds.
  block::SpaceMeter* space = nullptr;
  UnitRules rules = {};  // of a real device they count for nothing
};

class LogicalUnit {
 public:
  LogicalUnit(Device& device, std::uint16_t number, UnitConfig config, block::Channel& channel);
  // A real device (forwarding.hpp): it has no blocks of ours, and what it is comes from the device.
  LogicalUnit(Device& device, std::uint16_t number, UnitConfig config, PassthroughPort& port);
  ~LogicalUnit();
  LogicalUnit(const LogicalUnit&) = delete;
  LogicalUnit& operator=(const LogicalUnit&) = delete;

  [[nodiscard]] std::uint16_t number() const noexcept { return number_; }
  [[nodiscard]] const UnitIdentity& identity() const noexcept { return config_.identity; }
  [[nodiscard]] DeviceType type() const noexcept { return config_.type; }
  [[nodiscard]] CommandSet command_set() const noexcept { return command_set_; }
  [[nodiscard]] Forwarder* forwarder() const noexcept { return forwarder_.get(); }  // nullptr when it is none

  // Whether there is room for protection information, and how the medium is formatted now.
  [[nodiscard]] bool keeps_protection() const noexcept { return protected_ != nullptr; }
  [[nodiscard]] ProtectionType protection_type() const noexcept { return protection_.type; }
  [[nodiscard]] const ProtectionRules& protection_rules() const noexcept { return protection_; }
  [[nodiscard]] block::Channel& channel() const noexcept { return *channel_; }
  [[nodiscard]] const block::Geometry& geometry() const noexcept { return *geometry_; }

  // Asymmetric access. The operator's change: every nexus learns by 2A/06. Fails with not_found. Where there
  // are several shards, it is called on one, and comes into force on all of them soon after. `in_force` is
  // called, at once or later, when no command that was let through in the state of before is in progress any
  // more, on any shard; not when the unit is removed first.
  [[nodiscard]] const PortGroups& port_groups() const noexcept { return config_.port_groups; }
  [[nodiscard]] Status set_access_state(std::uint16_t group, AccessState state,
                                        std::function<void()> in_force = {});
  // Any such change, as one: `edit` is called once, on this thread, with the groups as they are when its turn
  // has come; what it leaves has to be valid. Where it changes who may change states
  // (PortGroups::by_command), nexuses learn by 3F/03 too: INQUIRY data tells it.
  void change_port_groups(std::function<void(PortGroups&)> edit, std::function<void()> in_force = {});

  // What the operator decides of it (unit_rules.hpp). A change is in force as set_access_state() has it;
  // every nexus learns by 2A/01 of another WCE, TAS or interlock, and by 3F/03 of what INQUIRY tells. What
  // lies in a cache that is taken away is the caller's to flush: first write_through, then the flush, then
  // the change.
  [[nodiscard]] const UnitRules& rules() const noexcept { return config_.rules; }
  void set_rules(const UnitRules& rules, std::function<void()> in_force = {});

  // The channel's Geometry::blocks has changed: every nexus learns by 2A/09. A channel belongs to one shard,
  // and so do the nexuses that learn here: call it on each shard, once the channels of all of them show the
  // new size.
  void resized();

  // --- the operator changes the medium: takes it out (on one shard), puts another in (on each of them), and
  // shuts the tray (on one). Out: the tray is open and stays so until shut_tray(), whatever commands ask for;
  // every nexus hears of the removal. Where it is open already, because an initiator has ejected the medium,
  // it stays open. `out` is called, at once or later, when nothing of the medium is used any more, on any
  // shard; or with unsupported (not removable, or with room for protection information: how another medium is
  // formatted nobody knows), or busy (an initiator prevents the removal, and hears then that it is asked for,
  // MMC-6 6.6.2.5; a SANITIZE or FORMAT UNIT works on the medium, or has failed); then nothing has changed.
  // Not called when the unit is removed first.
  void take_medium_out(std::function<void(Status)> out);
  // Between the two others, on every shard: this lies in the tray; nullptr: nothing does. What was put off
  // for the medium of before ends with 02/3A/00, and ROD tokens of that one are unknown. The channel is
  // borrowed and outlives the unit, or the next change. Fails with invalid_argument: a block size that the
  // unit does not serve, or had not before; then nothing lies in the tray.
  [[nodiscard]] Status put_medium_in(block::Channel* channel, block::SpaceMeter* space = nullptr);
  // A medium lies in it, on every shard: every nexus learns of it, also by 28/00. `shut`: that is so on every
  // shard.
  void shut_tray(std::function<void()> shut = {});
  [[nodiscard]] bool removable() const noexcept {
    return config_.removable || config_.type == DeviceType::cd_dvd;
  }
  [[nodiscard]] bool medium_present() const noexcept { return state_.medium_present; }
  [[nodiscard]] bool removal_prevented() const noexcept { return !preventing_.empty(); }  // by an initiator

  // What of its backing a thin unit uses; nullptr where that is not known, or all is allocated.
  [[nodiscard]] const block::SpaceMeter* space() const noexcept { return thin() ? space_ : nullptr; }
  // LBPME: blocks can be deallocated, by one command at least; LBPRZ.
  [[nodiscard]] bool thin() const noexcept {
    return geometry_->thin && (config_.rules.unmap || config_.rules.unmap_by_write_same);
  }
  [[nodiscard]] bool unmapped_reads_zeroes() const noexcept {
    return geometry_->unmap_zeroes && config_.rules.unmapped_reads_zeroes;
  }

  // State of mode pages and of START STOP UNIT.
  [[nodiscard]] bool write_cache_enabled() const noexcept { return state_.wce; }
  [[nodiscard]] bool may_enable_write_cache() const noexcept {
    return config_.rules.write_cache.value_or(geometry_->write_cache);
  }
  [[nodiscard]] bool write_protected() const noexcept {
    return state_.swp || config_.read_only || geometry_->read_only;
  }
  [[nodiscard]] bool descriptor_sense() const noexcept { return state_.d_sense; }

  [[nodiscard]] const Reservations& reservations() const noexcept { return reservations_; }
  // Somebody may be kept out by them.
  [[nodiscard]] bool is_reserved() const noexcept {
    return config_.rules.reservations && reservations_.restricts();
  }
  [[nodiscard]] const DurableState& durable() const noexcept { return config_.durable; }
  [[nodiscard]] bool persists() const noexcept { return config_.store != nullptr; }
  [[nodiscard]] bool record_is_known() const noexcept {
    return record_known_;
  }  // durable() is what the store has

  [[nodiscard]] std::uint32_t tasks() const noexcept { return task_count_; }
  [[nodiscard]] UnitCounters counters() const noexcept {
    return counters_->now();
  }  // since the unit was made, on this shard
  [[nodiscard]] Device& device() const noexcept { return device_; }

  // For src/scsi alone.
  struct State {
    bool wce = false;            // Caching mode page; without a cache it stays 0
    bool swp = false;            // Control mode page
    bool d_sense = false;
    bool tas = false;            // commands that another nexus ends get the status TASK ABORTED
    bool ato = false;            // Control mode page; without room for protection information it stays 0
    bool stopped = false;        // START STOP UNIT
    bool flush_failed = false;   // sticky: what a failed flush lost, the next flush cannot make good
    bool medium_present = true;  // false: the tray is open
    bool tray_is_held = false;   // by the operator: no command shuts it
    Thresholds thresholds{};     // Logical Block Provisioning mode page
  };
  // SET TIMESTAMP: what the time was at a moment; without it, zero when the device started. Resets do not
  // change it.
  struct Timestamp {
    bool by_command = false;
    std::uint64_t milliseconds = 0;
    std::uint64_t at_uptime_ms = 0;
  };
  // WRITE BUFFER: what was written last on this shard, and the life of the nexus that wrote it; 0: nobody has
  // since a reset.
  struct EchoBuffer {
    std::uint64_t writer = 0;
    std::vector<std::uint8_t> bytes;
  };
  // All that commands can change about the unit, and that is the same on every shard. Commands of
  // SerialClass::whole change it, and only those (and resets, which return State to its defaults).
  struct Value {
    State state;
    PortGroups port_groups;
    LogZero log_zero{};
    ProtectionRules protection;
    Reservations reservations;
    DurableState durable;
    bool record_known = true;
    std::vector<std::uint64_t> preventing;  // lives of the nexuses that prevent the removal of the medium
    MediumNews medium;
    Timestamp timestamp{};
    UnitRules rules{};
  };
  [[nodiscard]] Value value() const {
    return {state_,        config_.port_groups, log_zero_,      protection_, reservations_, config_.durable,
            record_known_, preventing_,         medium_.news(), timestamp_,  config_.rules};
  }
  void adopt(const Value& value);  // of another shard

  [[nodiscard]] State& state() noexcept { return state_; }
  [[nodiscard]] PortGroups& port_groups() noexcept { return config_.port_groups; }
  [[nodiscard]] const State& state() const noexcept { return state_; }
  [[nodiscard]] LiveCounters& count() noexcept { return *counters_; }
  [[nodiscard]] UnitCounters counters_of_all() const;  // shards
  [[nodiscard]] LogZero& log_zero() noexcept { return log_zero_; }
  [[nodiscard]] const Timestamp& timestamp() const noexcept { return timestamp_; }
  void set_timestamp(const Timestamp& timestamp) noexcept { timestamp_ = timestamp; }
  [[nodiscard]] EchoBuffer& echo() noexcept { return echo_; }
  [[nodiscard]] MediumOperation& medium() noexcept { return medium_; }
  [[nodiscard]] const MediumOperation& medium() const noexcept { return medium_; }
  // Logical unit reset (SAM-5 6.3.3): mode pages return to what was saved, or to their defaults; RESERVE is
  // over.
  void reset() noexcept;
  void nexus_lost(const Nexus& nexus);  // its RESERVE is over, and it prevents nothing any more;
                                        // registrations stay
  void prevent_removal(const Nexus& nexus, bool prevent);  // PREVENT ALLOW MEDIUM REMOVAL
  void set_reservations(Reservations reservations);        // these count from now on
  void set_modes(const ModeValues& modes) noexcept;
  // FORMAT UNIT: the blocks are of this type from now on.
  void set_protection_type(ProtectionType type) noexcept { protection_.type = type; }
  [[nodiscard]] ModeValues modes() const noexcept {
    return {.wce = state_.wce,
            .swp = state_.swp,
            .d_sense = state_.d_sense,
            .tas = state_.tas,
            .ato = state_.ato,
            .atmpe = protection_.application_tags_are_known,
            .application_tags = protection_.application_tags,
            .thresholds = state_.thresholds};
  }
  [[nodiscard]] ModeValues default_modes() const noexcept {
    return {.wce = may_enable_write_cache(), .tas = config_.rules.task_aborted_status};
  }
  // A change that a command of this unit has asked Device::change for.
  struct ChangeInProgress {
    enum class Stage : std::uint8_t { ending_tasks, waiting_for_tasks, saving, made, failed };
    Task* task = nullptr;
    UnitChange change;
    Stage stage = Stage::ending_tasks;
  };
  [[nodiscard]] bool change_failed() const noexcept {
    return pending_ != nullptr && pending_->stage == ChangeInProgress::Stage::failed;
  }
  // On every nexus but this one. In a command that changes the unit, or a change by the operator: on those of
  // every shard.
  void raise_for_others(const Nexus* nexus, UnitAttention attention);
  // Blocks may have been allocated, or given back.
  void space_moved() const noexcept {
    if (space_ != nullptr) space_->moved();
  }
  // Tells of thresholds that have been reached; where there are several shards, the owner's call is the one
  // that does.
  void check_thresholds();
  void open_tray();
  void close_tray(const Nexus* by);  // nullptr: the operator
  // The command was admitted before the operator put in what is in the tray now.
  [[nodiscard]] bool was_for_another_medium(const Task& task) const noexcept {
    return medium_since_ != 0 && task.sequence <= medium_since_;
  }

 private:
  friend class Device;
  friend class Nexus;
  friend class Shards;

  [[nodiscard]] bool can_start(const Task& task);
  // A plain READ or WRITE would neither be refused, for whatever the unit's state is, nor have to wait.
  [[nodiscard]] bool serves_at_once(bool writes) const noexcept;
  void power_on_modes() noexcept;
  void attach(block::Channel& channel);
  // What the operator changes, on every shard; `in_force` as set_access_state() has it.
  void change_by_operator(const std::function<void(LogicalUnit&)>& change, std::function<void()> in_force);
  [[nodiscard]] Status let_go_of_medium();
  void count(const Task& task) noexcept;  // a command that ended well
  void count_read(std::uint64_t blocks) noexcept {
    ++counters_->reads;
    counters_->blocks_read += blocks;
  }
  void count_write(std::uint64_t blocks) noexcept {
    ++counters_->writes;
    counters_->blocks_written += blocks;
    space_moved();
  }
  [[nodiscard]] bool stands_in_the_way(const Task& other, const Task& task, bool older) const noexcept;
  static bool is_barrier(const Task& task) noexcept;
  // Where there are other shards: the command needs a claim that holds on all of them. Its turn among the
  // commands of this shard comes by its attribute alone; what it conflicts with, the claim keeps away.
  [[nodiscard]] bool needs_claim(const Task& task) const noexcept;
  [[nodiscard]] bool standing_claim_conflicts(const Task& task) const noexcept;
  [[nodiscard]] bool has_started_against(const ClaimTerms& terms);
  void raise_here(const Nexus* nexus, UnitAttention attention);
  void note(MediaEvent event);  // to every nexus; in a command that changes the unit, of every shard
  void note_here(MediaEvent event);
  [[nodiscard]] bool raise_on_one(UnitAttention attention);  // of the nexuses here; false: there is none
  [[nodiscard]] bool has_ending_task_of(const std::vector<NexusName>& nexuses);
  void tell_in_force();
  // Whether something in this unit stands in the way of a claim that waits.
  [[nodiscard]] bool can_hold(const RangeClaim& claim);

  Device& device_;
  std::uint16_t number_;
  UnitConfig config_;
  ProtectionRules protection_;
  std::unique_ptr<block::Channel> nothing_;      // in the place of a medium that the operator has taken away
  std::uint64_t medium_since_ = 0;               // commands up to this sequence were for another medium
  std::unique_ptr<ProtectedChannel> protected_;  // over the channel that was given, when that has room
  block::Channel* channel_ = nullptr;
  const block::Geometry* geometry_ = nullptr;    // of the channel: every command asks for it
  std::uint32_t block_bytes_ = 0;                // Geometry::block_size_bytes, at hand
  CommandSet command_set_ = CommandSet::disk;
  block::SpaceMeter* space_ = nullptr;            // UnitConfig::space, as long as the medium is that
  State state_;
  ThresholdTriggers triggers_;
  LogZero log_zero_{};
  std::shared_ptr<LiveCounters> counters_ = std::make_shared<LiveCounters>();  // the other shards read them
  Reservations reservations_;
  std::vector<std::uint64_t> preventing_;  // lives of nexuses
  bool record_known_ = true;  // false after a save that failed: the store has the old record or the new one
  std::unique_ptr<ChangeInProgress> pending_;
  // Where there is one shard: to be told that what had started up to that command, when the operator changed
  // the unit, is over.
  struct InForce {
    std::uint64_t sequence = 0;
    std::function<void()> then;
  };
  std::vector<InForce> in_force_;
  std::uint32_t generation_ = 0;  // changes with what a command was checked against when it was admitted
  MediumOperation medium_{*this};
  Timestamp timestamp_;
  EchoBuffer echo_;

  IntrusiveList<Task> task_set_;  // in the order of admission
  // Of copies that read or write this unit, whichever unit got the command. With several shards they stand in
  // nobody's way here: the claims that the copies have on all shards do.
  IntrusiveList<RangeClaim> claims_;
  std::vector<AdoptedChange> adopting_;  // of other shards
  std::vector<StandingClaim> standing_;  // of all shards, this one's commands and copies among them
  ShardClaim* change_ = nullptr;         // a change of the unit in progress that other shards will learn of
  std::uint32_t task_count_ = 0;
  std::uint32_t barriers_ = 0;    // tasks and claims that may stand in another's way; 0: everything starts at
                                  // once
  std::uint32_t blocked_ = 0;     // tasks in the set, and claims, that wait
  bool claim_released_ = false;   // somebody may go on now (Device::wake_released)
  bool waking_ = false;
  bool wake_again_ = false;
  std::unique_ptr<Forwarder> forwarder_;  // of a real device; last, for no command of a disk looks at it
};

}  // namespace perilune::scsi
