// SPDX-License-Identifier: Apache-2.0
#include "scsi/logical_unit.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "scsi/command_table.hpp"
#include "scsi/device.hpp"
#include "scsi/forwarding.hpp"
#include "scsi/shards.hpp"

namespace perilune::scsi {

UnitIdentity UnitIdentity::from_id(std::uint64_t id) {
  static constexpr char digits[] = "0123456789abcdef";
  UnitIdentity identity;
  identity.naa_id = id & 0x0fff'ffff'ffff'ffffu;
  for (int shift = 56; shift >= 0; shift -= 4)
    identity.serial.push_back(digits[(identity.naa_id >> shift) & 0xf]);
  return identity;
}

namespace {

// In the place of blocks that there are none of: no command that is served asks for any.
class NoBlocks final : public block::Channel {
 public:
  explicit NoBlocks(const block::Geometry& geometry) : geometry_(geometry) {
    geometry_.lends_memory = geometry_.reads_at_once = geometry_.writes_at_once = false;
  }
  [[nodiscard]] const block::Geometry& geometry() const override { return geometry_; }
  [[nodiscard]] bool submit(block::BlockOp& op) override {
    op.status = block::OpStatus::not_ready;
    return true;
  }

 private:
  block::Geometry geometry_;
};

// Of a real device, which has no blocks of ours.
NoBlocks& no_blocks() {
  static NoBlocks none([] {
    block::Geometry geometry;
    geometry.write_cache = false;
    return geometry;
  }());
  return none;
}

}  // namespace

LogicalUnit::LogicalUnit(Device& device, std::uint16_t number, UnitConfig config, block::Channel& channel)
    : device_(device), number_(number), config_(std::move(config)) {
  attach(channel);
  space_ = config_.space;
  protection_.type = config_.durable.protection_type.value_or(config_.protection_type);
  if (!keeps_protection()) protection_.type = ProtectionType::none;
  power_on_modes();
  reservations_ = config_.durable.reservations;
}

LogicalUnit::LogicalUnit(Device& device, std::uint16_t number, UnitConfig config, PassthroughPort& port)
    : LogicalUnit(device, number, std::move(config), no_blocks()) {
  forwarder_ = std::make_unique<Forwarder>(port);
  command_set_ = forwarded_command_set(port.facts().type);
}

void LogicalUnit::attach(block::Channel& channel) {
  const bool has_room = channel.geometry().protection_bytes != 0;
  protected_ = has_room ? std::make_unique<ProtectedChannel>(channel, protection_) : nullptr;
  channel_ = has_room ? protected_.get() : &channel;
  geometry_ = &channel_->geometry();
  block_bytes_ = geometry_->block_size_bytes;
  if (config_.type == DeviceType::cd_dvd) command_set_ = CommandSet::cd_dvd;
  else command_set_ = has_room ? CommandSet::protected_disk : CommandSet::disk;
}

LogicalUnit::~LogicalUnit() { PERILUNE_ASSERT(task_set_.empty() && claims_.empty()); }

void LogicalUnit::reset() noexcept {
  const State before = state_;
  state_ = State{};
  power_on_modes();
  state_.flush_failed = before.flush_failed;
  state_.medium_present = before.medium_present;
  state_.tray_is_held = before.tray_is_held;
  preventing_.clear();
  reservations_.reserved_by.reset();
  triggers_.reset();
  echo_.writer = 0;
  ++generation_;
}

void LogicalUnit::adopt(const Value& value) {
  const bool flush_failed = state_.flush_failed;
  triggers_.changed(state_.thresholds, value.state.thresholds);
  state_ = value.state;
  state_.flush_failed |= flush_failed;  // every shard is told of it by itself, and nothing takes it back
  config_.port_groups = value.port_groups;
  log_zero_ = value.log_zero;
  protection_ = value.protection;
  reservations_ = value.reservations;
  config_.durable = value.durable;
  record_known_ = value.record_known;
  preventing_ = value.preventing;
  medium_.learn(value.medium);
  timestamp_ = value.timestamp;
  config_.rules = value.rules;
  ++generation_;
  check_thresholds();
}

void LogicalUnit::power_on_modes() noexcept {
  set_modes(config_.durable.modes.value_or(default_modes()));
}

void LogicalUnit::set_modes(const ModeValues& modes) noexcept {
  state_.wce = modes.wce && may_enable_write_cache();
  state_.swp = modes.swp;
  state_.d_sense = modes.d_sense;
  state_.tas = modes.tas;
  state_.ato = modes.ato && keeps_protection();
  triggers_.changed(state_.thresholds, modes.thresholds);
  state_.thresholds = modes.thresholds;
  protection_.application_tags_belong_to_initiators = state_.ato;
  protection_.application_tags_are_known = modes.atmpe && keeps_protection();
  protection_.application_tags = modes.application_tags;
}

void LogicalUnit::nexus_lost(const Nexus& nexus) {
  const NexusName name{nexus.names().initiator_port, nexus.names().relative_target_port};
  // The initiator may be back on another shard, and have reserved the unit anew, before the change is made.
  const std::uint64_t life = nexus.life();
  const auto reserves = [name, life](const LogicalUnit& unit) {
    return unit.reservations_.reserved_by == name && unit.reservations_.reserved_in_life == life;
  };
  const bool prevents = std::find(preventing_.begin(), preventing_.end(), life) != preventing_.end();
  if (!prevents && !reserves(*this)) return;
  const auto change = [reserves, life](LogicalUnit& unit) {
    if (reserves(unit)) unit.reservations_.reserved_by.reset();
    std::erase(unit.preventing_, life);
    ++unit.generation_;
  };
  if (device_.shards_ != nullptr) {
    device_.shards_->change(*this, change);
  } else {
    change(*this);
  }
}

void LogicalUnit::set_reservations(Reservations reservations) {
  reservations_ = std::move(reservations);
  ++generation_;
}

Status LogicalUnit::set_access_state(std::uint16_t group, AccessState state, std::function<void()> in_force) {
  if (port_groups().find(group) == nullptr)
    return fail(Errc::not_found, "no target port group " + std::to_string(group));
  change_port_groups(
      [group, state](PortGroups& groups) {
        (void)groups.set_state(group, state, PortGroup::Cause::implicit);
      },
      std::move(in_force));
  return {};
}

void LogicalUnit::change_port_groups(std::function<void(PortGroups&)> edit, std::function<void()> in_force) {
  const auto change = [edit = std::move(edit)](LogicalUnit& unit) {
    PortGroups changed = unit.port_groups();
    edit(changed);
    const bool by_command_changed = changed.by_command() != unit.port_groups().by_command();
    const bool groups_changed = changed.all() != unit.port_groups().all();
    if (!groups_changed && !by_command_changed) return;
    PERILUNE_ASSERT(PortGroups::valid(changed.all()).has_value());
    unit.port_groups() = std::move(changed);
    ++unit.generation_;
    if (groups_changed) unit.raise_for_others(nullptr, UnitAttention::access_state_changed);
    if (by_command_changed) unit.raise_for_others(nullptr, UnitAttention::inquiry_data_changed);
  };
  change_by_operator(change, std::move(in_force));
}

namespace {

// What INQUIRY, its VPD pages and READ CAPACITY tell.
bool same_inquiry_data(const UnitRules& a, const UnitRules& b) noexcept {
  UnitRules modes_of_a = a;  // with the rest of b
  modes_of_a.task_aborted_status = b.task_aborted_status;
  modes_of_a.always_aptpl = b.always_aptpl;
  modes_of_a.write_through = b.write_through;
  modes_of_a.interlock = b.interlock;
  modes_of_a.force_unit_access = b.force_unit_access;
  return modes_of_a == b;
}

}  // namespace

void LogicalUnit::set_rules(const UnitRules& rules, std::function<void()> in_force) {
  const auto change = [rules](LogicalUnit& unit) {
    const UnitRules before = std::exchange(unit.config_.rules, rules);
    if (before == rules) return;
    ModeValues modes = unit.modes();
    if (before.write_cache != rules.write_cache) modes.wce = unit.may_enable_write_cache();
    if (before.task_aborted_status != rules.task_aborted_status) modes.tas = rules.task_aborted_status;
    const bool modes_changed = modes != unit.modes() || before.interlock != rules.interlock ||
                               before.force_unit_access != rules.force_unit_access;
    unit.set_modes(modes);
    ++unit.generation_;
    if (modes_changed) unit.raise_for_others(nullptr, UnitAttention::mode_parameters_changed);
    if (!same_inquiry_data(before, rules))
      unit.raise_for_others(nullptr, UnitAttention::inquiry_data_changed);
  };
  change_by_operator(change, std::move(in_force));
}

void LogicalUnit::change_by_operator(const std::function<void(LogicalUnit&)>& change,
                                     std::function<void()> in_force) {
  if (device_.shards_ != nullptr) {
    device_.shards_->change(*this, change, std::move(in_force));
    return;
  }
  change(*this);
  if (in_force) in_force_.push_back({device_.sequence_, std::move(in_force)});
  tell_in_force();
}

// Called whenever a command of the unit has ended, or a copy has given its blocks back.
void LogicalUnit::tell_in_force() {
  while (!in_force_.empty()) {
    const std::uint64_t last = in_force_.front().sequence;
    const bool awaited = task_set_.find([&](const Task& task) {
      return task.sequence <= last && (task.phase == Task::Phase::running || task.lent);
    }) != nullptr || claims_.find([&](const RangeClaim& claim) {
      return claim.held && claim.task->sequence <= last;
    }) != nullptr;
    if (awaited) return;
    const std::function<void()> then = std::move(in_force_.front().then);
    in_force_.erase(in_force_.begin());
    then();
  }
}

UnitCounters LogicalUnit::counters_of_all() const {
  const UnitCounters here = counters_->now();
  return device_.shards_ == nullptr ? here : here + device_.shards_->other_counters(*this);
}

void LogicalUnit::count(const Task& task) noexcept {
  if (task.row->allows(counts::read)) {
    count_read(task.transfer_blocks);
  } else if (task.row->allows(counts::write)) {
    count_write(task.transfer_blocks);
  } else if (task.row->allows(counts::verify)) {
    ++counters_->verifies;
    counters_->blocks_verified += task.blocks;
  } else if (task.row->serial != SerialClass::none && task.row->serial != SerialClass::read) {
    space_moved();  // UNMAP, WRITE SAME
  }
}

void LogicalUnit::prevent_removal(const Nexus& nexus, bool prevent) {
  std::erase(preventing_, nexus.life());
  if (prevent) preventing_.push_back(nexus.life());
}

// The medium leaves the initiators' hands, or does not.
Status LogicalUnit::let_go_of_medium() {
  if (!medium_.at_rest())
    return fail(Errc::busy, "SANITIZE or FORMAT UNIT works on the medium, or has failed");
  if (medium_present() && removal_prevented()) {
    note(MediaEvent::eject_request);
    return fail(Errc::busy, "an initiator prevents the removal of the medium");
  }
  state_.tray_is_held = true;
  if (medium_present()) open_tray();
  ++generation_;
  return {};
}

void LogicalUnit::take_medium_out(std::function<void(Status)> out) {
  if (!removable())
    return out(fail(Errc::unsupported, "the medium of this logical unit cannot be taken out"));
  if (keeps_protection())
    return out(fail(Errc::unsupported,
                    "with protection information, for nobody knows how another medium is formatted"));
  const auto outcome = std::make_shared<Status>();
  change_by_operator([outcome](LogicalUnit& unit) { *outcome = unit.let_go_of_medium(); },
                     [outcome, out = std::move(out)] { out(*outcome); });
}

Status LogicalUnit::put_medium_in(block::Channel* channel, block::SpaceMeter* space) {
  PERILUNE_ASSERT(state_.tray_is_held && !medium_present());
  auto nothing = std::make_unique<NoBlocks>(geometry());
  Status status = channel != nullptr ? Device::check_medium(channel->geometry(), config_.type) : Status();
  if (channel != nullptr && status &&
      (channel->geometry().block_size_bytes != block_bytes_ || channel->geometry().protection_bytes != 0)) {
    status = fail(Errc::invalid_argument, "its blocks are not as large as those of the medium before");
  }
  const bool put_in = channel != nullptr && status;
  attach(put_in ? *channel : *nothing);
  nothing_ = put_in ? nullptr : std::move(nothing);
  space_ = put_in ? space : nullptr;
  triggers_.reset();
  state_.flush_failed = false;  // that was of the other medium
  medium_since_ = device_.sequence_;
  ++generation_;
  device_.forget_tokens(*this);
  return status;
}

void LogicalUnit::shut_tray(std::function<void()> shut) {
  change_by_operator(
      [](LogicalUnit& unit) {
        PERILUNE_ASSERT(unit.nothing_ == nullptr);
        unit.state_.tray_is_held = false;
        unit.state_.stopped = false;
        unit.set_modes(unit.modes());  // what the medium does not have is off: WCE without a cache
        unit.close_tray(nullptr);
        ++unit.generation_;
      },
      std::move(shut));
}

void LogicalUnit::open_tray() {
  state_.medium_present = false;
  note(MediaEvent::removed);
}

void LogicalUnit::close_tray(const Nexus* by) {
  state_.medium_present = true;
  note(MediaEvent::inserted);
  raise_for_others(by, UnitAttention::medium_may_have_changed);
}

void LogicalUnit::note(MediaEvent event) {
  note_here(event);
  if (change_ == nullptr) return;
  change_->effects.emplace_back([event](LogicalUnit& unit) { unit.note_here(event); });
}

void LogicalUnit::note_here(MediaEvent event) {
  device_.nexuses_.for_each([&](Nexus& nexus) { nexus.note(*this, event); });
}

void LogicalUnit::resized() {
  if (protected_ != nullptr) protected_->refresh_geometry();
  raise_here(nullptr, UnitAttention::capacity_changed);
}

void LogicalUnit::raise_for_others(const Nexus* nexus, UnitAttention attention) {
  raise_here(nexus, attention);
  if (change_ == nullptr) return;
  change_->effects.emplace_back([attention](LogicalUnit& unit) { unit.raise_here(nullptr, attention); });
}

void LogicalUnit::raise_here(const Nexus* nexus, UnitAttention attention) {
  device_.nexuses_.for_each([&](Nexus& other) {
    if (&other != nexus) other.raise(*this, attention);
  });
}

void LogicalUnit::check_thresholds() {
  if (space() == nullptr || (device_.shards_ != nullptr && !device_.shards_->owns(*this))) return;
  const std::uint8_t exponent = threshold_exponent(geometry());
  const std::uint8_t reached =
      triggers_.update(state_.thresholds, in_blocks(space_->level(), geometry()), exponent);
  for (std::size_t i = 0; i < state_.thresholds.list.size(); ++i) {
    if ((reached >> i & 1) == 0) continue;
    const UnitAttention attention = soft_threshold_of(i);
    if (!state_.thresholds.single_initiator) {
      raise_here(nullptr, attention);
      if (device_.shards_ != nullptr) device_.shards_->tell_attention(*this, attention);
    } else if (!raise_on_one(attention) && device_.shards_ != nullptr) {
      device_.shards_->tell_one_nexus(*this, attention);
    }
  }
}

// One that has commands in the device, rather than one that may have been silent for hours.
bool LogicalUnit::raise_on_one(UnitAttention attention) {
  Nexus* chosen = nullptr;
  device_.nexuses_.for_each([&](Nexus& nexus) {
    if (nexus.find_unit([this](const LogicalUnit& unit) { return &unit == this; }) == nullptr) return;
    if (chosen == nullptr || (chosen->tasks_ == 0 && nexus.tasks_ != 0)) chosen = &nexus;
  });
  if (chosen != nullptr) chosen->raise(*this, attention);
  return chosen != nullptr;
}

bool LogicalUnit::is_barrier(const Task& task) noexcept {
  if (task.attribute == TaskAttribute::ordered || task.attribute == TaskAttribute::head_of_queue) return true;
  switch (static_cast<SerialClass>(task.serial)) {
    case SerialClass::range:
    case SerialClass::exclusive:
    case SerialClass::whole: return true;
    default: return false;
  }
}

namespace {

bool overlap(const Task& a, const Task& b) noexcept {
  // Ranges were checked against the capacity: the sums do not wrap.
  return a.blocks != 0 && b.blocks != 0 && a.lba < b.lba + b.blocks && b.lba < a.lba + a.blocks;
}

bool conflict(const Task& a, const Task& b) noexcept {
  const auto x = static_cast<SerialClass>(a.serial);
  const auto y = static_cast<SerialClass>(b.serial);
  if (x == SerialClass::none || y == SerialClass::none) return false;
  if (x == SerialClass::whole || y == SerialClass::whole) return true;
  if (!overlap(a, b)) return false;
  if (x == SerialClass::exclusive || y == SerialClass::exclusive) return true;
  if (x == SerialClass::range) return y != SerialClass::read;
  if (y == SerialClass::range) return x != SerialClass::read;
  return false;  // plain reads and writes that overlap: any order (SAM-5 8.6, SIMPLE)
}

}  // namespace

bool LogicalUnit::needs_claim(const Task& task) const noexcept {
  if (device_.shards_ == nullptr) return false;
  const auto serial = static_cast<SerialClass>(task.serial);
  if (serial == SerialClass::none) return false;
  return serial == SerialClass::whole || task.attribute == TaskAttribute::ordered ||
         ((serial == SerialClass::range || serial == SerialClass::exclusive) && task.blocks != 0);
}

bool LogicalUnit::stands_in_the_way(const Task& other, const Task& task, bool older) const noexcept {
  const bool urgent = task.attribute == TaskAttribute::head_of_queue;
  if (!urgent) {  // SAM-5 8.7
    if (other.attribute == TaskAttribute::head_of_queue) return true;
    if (older && (other.attribute == TaskAttribute::ordered || task.attribute == TaskAttribute::ordered))
      return true;
  }
  if (needs_claim(task) || needs_claim(other)) return false;
  const bool started = other.phase == Task::Phase::running || other.lent;
  // One that waits goes first, so that a COMPARE AND WRITE is not starved by the reads that come after it.
  const bool goes_first = !urgent && older && other.phase == Task::Phase::blocked;
  return (started || goes_first) && conflict(other, task);
}

namespace {

// A claim stands against the commands of its unit like one of SerialClass::range; where there is protection
// information, one that writes like SerialClass::exclusive.
bool conflict(const RangeClaim& claim, const Task& task) noexcept {
  const auto serial = static_cast<SerialClass>(task.serial);
  if (serial == SerialClass::none) return false;
  if (serial == SerialClass::whole) return true;
  const bool both = task.blocks != 0 && claim.blocks != 0 && task.lba < claim.lba + claim.blocks &&
                    claim.lba < task.lba + task.blocks;
  return both && (serial != SerialClass::read || (claim.writes && claim.unit->keeps_protection()));
}

bool conflict(const RangeClaim& a, const RangeClaim& b) noexcept {
  return (a.writes || b.writes) && a.blocks != 0 && b.blocks != 0 && a.lba < b.lba + b.blocks &&
         b.lba < a.lba + a.blocks;
}

bool urgent(const Task& task) noexcept { return task.attribute == TaskAttribute::head_of_queue; }

}  // namespace

// Everybody who waits waits for what has started or for what was admitted before it, so nobody waits in a
// circle. Task attributes order the commands of one task set, not the claims of copies in it.
bool LogicalUnit::can_hold(const RangeClaim& claim) {
  const bool hurry = urgent(*claim.task);
  const auto goes_first = [&](const Task& other) { return !hurry && other.sequence < claim.task->sequence; };
  const bool task_in_the_way = task_set_.find([&](const Task& other) {
    const bool started = other.phase == Task::Phase::running || other.lent;
    return (started || (other.phase == Task::Phase::blocked && goes_first(other))) && conflict(claim, other);
  }) != nullptr;
  return !task_in_the_way && claims_.find([&](const RangeClaim& other) {
    return other.task != claim.task && (other.held || goes_first(*other.task)) && conflict(claim, other);
  }) == nullptr;
}

bool LogicalUnit::standing_claim_conflicts(const Task& task) const noexcept {
  if (standing_.empty() || needs_claim(task)) return false;  // the owner puts claims in order
  return std::any_of(standing_.begin(), standing_.end(),
                     [&](const StandingClaim& claim) { return conflict(claim.terms, task); });
}

bool LogicalUnit::has_started_against(const ClaimTerms& terms) {
  return task_set_.find([&](const Task& task) {
    const bool started = task.phase == Task::Phase::running || task.lent;
    return started && !needs_claim(task) && conflict(terms, task);
  }) != nullptr;
}

bool LogicalUnit::can_start(const Task& task) {
  if (barriers_ == 0) return true;
  const bool alone = device_.shards_ == nullptr;
  const bool claimed = alone ? claims_.find([&](const RangeClaim& claim) {
    const bool goes_first = !urgent(task) && claim.task->sequence < task.sequence;
    return (claim.held || goes_first) && conflict(claim, task);
  }) != nullptr : standing_claim_conflicts(task);
  if (claimed) return false;
  bool older = true;
  return task_set_.find([&](const Task& other) {
    if (&other == &task) {
      older = false;
      return false;
    }
    return stands_in_the_way(other, task, older);
  }) == nullptr;
}

}  // namespace perilune::scsi
