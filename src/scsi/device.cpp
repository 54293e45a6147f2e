// SPDX-License-Identifier: Apache-2.0
// The router: from a task to the row of the command table that serves it.
#include "scsi/device.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/assert.hpp"
#include "scsi/command_table.hpp"
#include "scsi/forwarding.hpp"
#include "scsi/handlers.hpp"
#include "scsi/lun.hpp"
#include "scsi/multimedia.hpp"
#include "scsi/sense.hpp"
#include "scsi/shards.hpp"

namespace perilune::scsi {
namespace {

constexpr std::size_t max_lost_nexuses = 4096;

std::uint64_t hash_names(const NexusNames& names) noexcept {  // FNV-1a; a collision only picks 29/07 for
                                                              // 29/00
  std::uint64_t hash = 0xcbf29ce484222325u;
  auto mix = [&](std::string_view text) {
    for (const char c : text) hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001b3u;
    hash = (hash ^ 0xff) * 0x100000001b3u;
  };
  mix(names.initiator_port);
  mix(names.target_port);
  return hash;
}

void begin(Task& task) noexcept {
  task.need = {};
  task.over = false;
  task.aborted = task.report_aborted = task.ended_with_set = false;
  task.status = ScsiStatus::good;
  task.sense_length = 0;
  task.parameter_data.clear();
  task.data_in_length = 0;
  task.data_transfer_length = 0;
  task.unit = nullptr;
  task.row = nullptr;
  task.phase = Task::Phase::outside;
  task.lent = false;
  task.step = 0;
  task.serial = static_cast<std::uint8_t>(SerialClass::none);
  task.lba = task.blocks = task.position = 0;
  task.slice_blocks = task.transfer_blocks = task.descriptor = 0;
  task.op.protection = {};
  task.op.atomic = false;
  task.copy = nullptr;
  task.claim = nullptr;
  task.telling = false;
}

}  // namespace

Device::Device(std::string name, ShardLink* link)
    : name_(std::move(name)),
      shards_(link != nullptr && link->shards() > 1 ? std::make_unique<Shards>(*this, *link) : nullptr) {}

Device::~Device() { PERILUNE_ASSERT(nexuses_.empty()); }

void Device::set_clock(Delegate<std::uint64_t()> milliseconds) {
  clock_ = milliseconds;
  clock_start_ms_ = std::min(clock_start_ms_, clock_());
  if (shards_ != nullptr) shards_->tell_clock_start(clock_start_ms_);
}

Status Device::check_medium(const block::Geometry& geometry, DeviceType type) {
  const std::uint32_t logical = geometry.block_size_bytes - geometry.protection_bytes;
  if (geometry.blocks.value() == 0 ||
      geometry.blocks.value() > (std::uint64_t{1} << 62) / std::max(logical, 1u)) {
    return fail(Errc::invalid_argument, "a medium needs at least one block, and fewer than 2^62 bytes");
  }
  if (type == DeviceType::cd_dvd) {
    if (logical == multimedia_block_bytes && geometry.blocks.value() <= max_multimedia_blocks) return {};
    return fail(Errc::invalid_argument, "a CD or DVD has blocks of 2048 bytes, at most 2^32 - 1 of them");
  }
  if (std::has_single_bit(logical) && logical >= 512 && logical <= 4096) return {};
  return fail(Errc::invalid_argument, "a disk needs blocks of 512 to 4096 bytes, a power of two");
}

LogicalUnit* Device::unit(std::uint16_t number) noexcept {
  const auto place = place_of(number);
  return place != units_.end() && (*place)->number() == number ? place->get() : nullptr;
}

// The unit of this number, or where it belongs.
std::vector<std::unique_ptr<LogicalUnit>>::const_iterator Device::place_of(
    std::uint16_t number) const noexcept {
  return std::lower_bound(units_.begin(), units_.end(), number,
                          [](const auto& unit, std::uint16_t wanted) { return unit->number() < wanted; });
}

Result<LogicalUnit*> Device::add_unit(std::uint16_t number, UnitConfig config, block::Channel& channel) {
  if (unit(number) != nullptr) return fail(Errc::already_exists, "logical unit number in use");
  if (Status status = check_medium(channel.geometry(), config.type); !status)
    return tl::unexpected(status.error());
  const ProtectionType type = config.durable.protection_type.value_or(config.protection_type);
  if (type != ProtectionType::none && channel.geometry().protection_bytes != protection_field_bytes) {
    return fail(Errc::unsupported, "formatted with protection information, for which there is no room here");
  }
  if (Status status = PortGroups::valid(config.port_groups.all()); !status)
    return tl::unexpected(status.error());
  return put_in_map(std::make_unique<LogicalUnit>(*this, number, std::move(config), channel));
}

Result<LogicalUnit*> Device::add_unit(std::uint16_t number, UnitConfig config, PassthroughPort& port) {
  if (unit(number) != nullptr) return fail(Errc::already_exists, "logical unit number in use");
  return put_in_map(std::make_unique<LogicalUnit>(*this, number, std::move(config), port));
}

LogicalUnit* Device::put_in_map(std::unique_ptr<LogicalUnit> unit) {
  LogicalUnit* added = unit.get();
  units_.insert(place_of(added->number()), std::move(unit));
  if (shards_ != nullptr) shards_->share_counters(*added);
  map_changed();
  return added;
}

Status Device::remove_unit(std::uint16_t number) {
  const auto place = units_.begin() + (place_of(number) - units_.cbegin());
  if (place == units_.end() || (*place)->number() != number)
    return fail(Errc::not_found, "no such logical unit");
  if (!unit_idle(number)) return fail(Errc::busy, "logical unit has commands in progress");
  const std::unique_ptr<LogicalUnit> removed = std::move(*place);
  units_.erase(place);
  map_changed();
  return {};
}

bool Device::unit_idle(std::uint16_t number) const noexcept {
  const auto place = place_of(number);
  if (place == units_.end() || (*place)->number() != number) return true;
  const LogicalUnit& unit = **place;
  return unit.task_set_.empty() && unit.claims_.empty() && unit.standing_.empty() && unit.adopting_.empty() &&
         !unit.medium().running() && (unit.forwarder() == nullptr || !unit.forwarder()->resetting()) &&
         (shards_ == nullptr || !shards_->has_claim_on(unit));
}

void Device::map_changed() {
  nexuses_.for_each([](Nexus& nexus) {
    if (nexus.refresh_map(UnitAttention::power_on)) nexus.raise_on_all(UnitAttention::reported_luns_changed);
  });
}

UnitAttention Device::first_attention(const NexusNames& names) const {
  const bool known =
      std::find(lost_nexuses_.begin(), lost_nexuses_.end(), hash_names(names)) != lost_nexuses_.end();
  return known ? UnitAttention::nexus_loss : UnitAttention::power_on;
}

std::uint64_t Device::greet(const Nexus& nexus) {
  if (shards_ == nullptr) return ++lives_;
  shards_->tell_port(nexus.names_.initiator_port, 1);
  return shards_->next_id();
}

void Device::set_token_key(const RodTokenKey& key) {
  tokens_ = std::make_unique<RodTokens>(key, shards_ == nullptr ? 0 : shards_->self());
}

void Device::forget_tokens(const LogicalUnit& unit) {
  if (tokens_ != nullptr) tokens_->forget(unit);
}

void Device::space_measured(std::uint16_t number) {
  if (shards_ != nullptr) return shards_->space_measured(number);
  if (LogicalUnit* here = unit(number)) here->check_thresholds();
}

void Device::forget(Nexus& nexus) {
  for (const auto& unit : units_) unit->nexus_lost(nexus);
  const std::uint64_t hash = hash_names(nexus.names_);
  forget(hash);
  if (shards_ == nullptr) return;
  shards_->tell_lost_nexus(hash);
  shards_->tell_port(nexus.names_.initiator_port, -1);
}

void Device::forget(std::uint64_t hash) {
  if (std::find(lost_nexuses_.begin(), lost_nexuses_.end(), hash) != lost_nexuses_.end()) return;
  if (lost_nexuses_.size() < max_lost_nexuses) {
    lost_nexuses_.push_back(hash);
  } else {
    lost_nexuses_[next_lost_] = hash;
    next_lost_ = (next_lost_ + 1) % max_lost_nexuses;
  }
}

// ---- admission

void Device::admit(Task& task) {
  PERILUNE_ASSERT(task.nexus != nullptr && task.phase == Task::Phase::outside);
  begin(task);
  const LunAddress address = decode_lun(task.lun);
  Nexus::Slot* slot = address.kind == LunAddress::Kind::unit ? task.nexus->slot(address.number) : nullptr;
  if (slot == nullptr) {
    admit_without_unit(task, address.kind == LunAddress::Kind::report_luns_well_known);
    task.over = true;
    return;
  }
  admit_on_unit(task, *slot);
  if (task.phase == Task::Phase::outside) task.over = true;
}

namespace {

// False and the sense for it: the unit does not serve the row that was found for the CDB, if any.
bool check_served(const CommandRow* row, bool opcode_known, const LogicalUnit& unit, Task& task) noexcept {
  if (row != nullptr && available(*row, unit)) return true;
  const std::uint8_t opcode = task.cdb[0];
  // Also CRYPTOGRAPHIC ERASE where nothing is encrypted: SANITIZE itself is served.
  if (row == nullptr ? opcode_known : row->allows(needs::encryption)) {
    const bool extended = opcode == 0x7f;
    // SERVICE ACTION
    invalid_field_in_cdb(task, extended ? 8 : 1, extended ? std::uint8_t{7} : std::uint8_t{4});
  } else {
    fail_command(task, SenseKey::illegal_request, asc::invalid_operation_code);
  }
  return false;
}

// While the medium is sanitized or formatted, and after that has failed.
bool check_medium_operation(const CommandRow& row, const LogicalUnit& unit, Task& task) noexcept {
  const auto refusal = unit.medium().refusal(row);
  if (refusal) check_condition(task, *refusal);
  return !refusal;
}

bool check_state(const CommandRow& row, const LogicalUnit& unit, ReservationAccess access,
                 Task& task) noexcept {
  if (task.attribute == TaskAttribute::aca) {  // there is no ACA condition to be in (SAM-5 8.7.5)
    fail_command(task, SenseKey::illegal_request, asc::invalid_message);
    return false;
  }
  if (unit.port_groups().restricted() && !check_access(row, unit, task)) return false;
  if (!permits(access, row, task)) {
    reservation_conflict(task);
    return false;
  }
  if (!row.allows(allow::stopped)) {
    if (const auto why = not_ready(unit)) {
      fail_command(task, SenseKey::not_ready, *why);
      return false;
    }
  }
  if (unit.write_protected() && !row.allows(allow::read_only)) {
    const bool hard = unit.geometry().read_only || !unit.state().swp;
    fail_command(task, SenseKey::data_protect, hard ? asc::write_protected : asc::software_write_protected);
    return false;
  }
  return true;
}

}  // namespace

ReservationAccess Device::access_through(Nexus::Slot& slot, const Nexus& nexus) noexcept {
  const LogicalUnit& unit = *slot.unit;
  if (!unit.is_reserved()) return ReservationAccess::all;
  if (slot.access_generation != unit.generation_) {
    slot.access =
        access_of(unit.reservations_, nexus.names_.initiator_port, nexus.names_.relative_target_port);
    slot.access_generation = unit.generation_;
  }
  return slot.access;
}

void Device::admit_on_unit(Task& task, Nexus::Slot& slot) {
  LogicalUnit& unit = *slot.unit;
  task.unit = &unit;
  task.generation = unit.generation_;
  bool known = false;
  const CommandRow* row = find_row(unit.command_set(), task.cdb[0], service_action_of(task.cdb), known);
  const bool exempt = row != nullptr && row->allows(allow::unit_attention);
  if (!slot.attentions.empty() && !exempt) {
    const bool interlocked = unit.rules().interlock != AttentionInterlock::none;  // then only REQUEST SENSE
                                                                                  // takes it (SPC-4 7.5.8)
    check_condition(task, sense_of(interlocked ? slot.attentions.first() : slot.attentions.take()));
    return;
  }
  // A command that SANITIZE refuses is refused for that, whatever else is wrong with it (libiscsi's
  // Sanitize.Reset).
  if (!check_served(row, known, unit, task) || !check_medium_operation(*row, unit, task) || !check_cdb(*row, unit, task) || !check_state(*row, unit, access_through(slot, *task.nexus), task)) {
    note_status(task);
    return;
  }
  if (slot.read_only && !row->allows(allow::read_only)) {
    fail_command(task, SenseKey::data_protect, asc::write_protected);
    return;
  }
  task.row = row;
  task.serial = static_cast<std::uint8_t>(row->serial);
  task.block_bytes = unit.block_bytes_;
  Command command{*this, unit, task};
  if (row->admit != nullptr) {
    if (row->admit(command)) enter(task);
    return;
  }
  // Nothing to move: at once, unless it has to keep its place among ordered commands.
  task.sequence = ++sequence_;
  const bool in_order =
      task.attribute == TaskAttribute::ordered ? unit.task_set_.empty() : unit.can_start(task);
  if ((exempt || task.attribute == TaskAttribute::head_of_queue || in_order) && !unit.needs_claim(task)) {
    (void)row->run(command);
    note_status(task);
    if (row->serial == SerialClass::whole) ++unit.generation_;
  } else {
    enter(task);
  }
}

// UA_INTLCK_CTRL 11b (SPC-4 7.5.8): who was told that there was no place, or no right, finds a unit attention
// too.
void Device::note_status(const Task& task) {
  if (task.unit->rules().interlock != AttentionInterlock::establish) return;
  switch (task.status) {
    case ScsiStatus::busy: return task.nexus->raise(*task.unit, UnitAttention::previous_busy);
    case ScsiStatus::task_set_full: return no_room(task);
    case ScsiStatus::reservation_conflict:
      return task.nexus->raise(*task.unit, UnitAttention::previous_reservation_conflict);
    default: return;
  }
}

void Device::no_room(const Task& task) {
  if (task.unit == nullptr || task.unit->rules().interlock != AttentionInterlock::establish) return;
  task.nexus->raise(*task.unit, UnitAttention::previous_task_set_full);
}

void Device::admit_without_unit(Task& task, bool well_known) {
  bool known = false;
  const CommandRow* row = find_row(CommandSet::disk, task.cdb[0], service_action_of(task.cdb), known);
  const bool ready = well_known && task.cdb[0] == 0x00;
  if (row == nullptr || !(row->allows(allow::no_unit) || ready)) {
    fail_command(task, SenseKey::illegal_request,
                 well_known ? asc::invalid_operation_code : asc::logical_unit_not_supported);
    return;
  }
  for (std::size_t i = 1; i < row->cdb_length; ++i) {
    const auto stray = static_cast<std::uint8_t>(task.cdb[i] & ~row->usage[i]);
    if (stray == 0) continue;
    invalid_field_in_cdb(task, static_cast<std::uint16_t>(i),
                         static_cast<std::uint8_t>(std::bit_width(stray) - 1));
    return;
  }
  answer_without_unit(*this, task, well_known);
}

void Device::report_luns(Task& task) {
  const std::uint8_t select = task.cdb[2];
  // 10h: administrative units alone, of which there are none; 11h: those, and every unit that belongs to none
  // (SPC-5).
  if (select > 2 && select != 0x10 && select != 0x11) {
    invalid_field_in_cdb(task, 2, std::uint8_t{7});
    return;
  }
  auto& out = task.parameter_data;
  out.assign(8, 0);
  auto append = [&out](std::uint64_t lun) {
    out.resize(out.size() + 8);
    store_be64(out.data() + out.size() - 8, lun);
  };
  if (select == 1 || select == 2)
    append(report_luns_well_known_lun);  // 1: well known only, 2: all (SPC-4 6.33)
  if (select == 0 || select == 2 || select == 0x11) {
    const auto& slots = task.nexus->slots_;
    for (std::size_t lun = 0; lun < slots.size(); ++lun) {
      if (slots[lun].unit != nullptr) append(encode_lun(static_cast<std::uint16_t>(lun)));
    }
  }
  store_be32(out.data(), static_cast<std::uint32_t>(out.size() - 8));
  for (Nexus::Slot& slot : task.nexus->slots_) slot.attentions.clear(UnitAttention::reported_luns_changed);
  reply(task, load_be32(task.cdb.data() + 6));
}

std::optional<UnitAttention> Device::take_attention(Task& task) {
  const LunAddress address = decode_lun(task.lun);
  Nexus::Slot* slot = address.kind == LunAddress::Kind::unit ? task.nexus->slot(address.number) : nullptr;
  if (slot == nullptr || slot->attentions.empty()) return std::nullopt;
  return slot->attentions.take();
}

bool Device::has_attention(const Task& task) const noexcept {
  const LunAddress address = decode_lun(task.lun);
  const Nexus::Slot* slot =
      address.kind == LunAddress::Kind::unit ? task.nexus->slot(address.number) : nullptr;
  return slot != nullptr && !slot->attentions.empty();
}

void Device::raise_everywhere(LogicalUnit& unit, const Nexus* but, UnitAttention attention) {
  unit.raise_here(but, attention);
  if (shards_ != nullptr) shards_->tell_attention(unit, attention);
}

// ---- the task set

void Device::enter(Task& task) {
  LogicalUnit& unit = *task.unit;
  task.sequence = ++sequence_;
  task.phase = Task::Phase::admitted;
  unit.task_set_.push_back(task);
  ++unit.task_count_;
  ++tasks_;
  ++task.nexus->tasks_;
  if (LogicalUnit::is_barrier(task)) ++unit.barriers_;
}

void Device::leave(Task& task) {
  LogicalUnit& unit = *task.unit;
  if (task.phase == Task::Phase::blocked) --unit.blocked_;
  if (LogicalUnit::is_barrier(task)) {
    --unit.barriers_;
    if (static_cast<SerialClass>(task.serial) == SerialClass::whole)
      ++unit.generation_;  // it may have changed the unit
  }
  task.phase = Task::Phase::outside;
  task.lent = false;
  IntrusiveList<Task>::remove(task);
  IntrusiveList<Task, StartableTag>::remove(task);
  --unit.task_count_;
  --tasks_;
  --task.nexus->tasks_;
  if (task.copy != nullptr) end_copy(task);
  if (task.claim != nullptr) shards_->give_back(*task.claim);
  if (unit.medium().waiter() == &task) unit.medium().set_waiter(nullptr);
  if (unit.pending_ != nullptr && unit.pending_->task == &task) unit.pending_.reset();
  managements_.for_each([&](TaskManagement& request) {
    if (affects(request, task)) --request.affected;
  });
  task.over = true;
  if (!task.aborted && task.status == ScsiStatus::good) unit.count(task);
  if (!task.aborted) note_status(task);
  if (task.aborted) {
    task.status = ScsiStatus::task_aborted;
    task.sense_length = 0;
    task.data_in_length = 0;
    task.parameter_data.clear();
  }
}

void Device::finish(Task& task) {
  LogicalUnit& unit = *task.unit;
  leave(task);
  task.done(task);
  after_leaving(unit);
}

void Device::after_leaving(LogicalUnit& unit) {
  if (unit.blocked_ != 0) wake(unit);
  if (claims_released_) wake_released();
  if (unit.pending_ != nullptr) continue_change(unit);
  if (!unit.in_force_.empty()) unit.tell_in_force();
  if (!unit.adopting_.empty()) shards_->tell_adopted(unit);
  if (!managements_.empty()) settle_managements();
}

void Device::wake(LogicalUnit& unit) {
  if (unit.waking_) {
    unit.wake_again_ = true;
    return;
  }
  unit.waking_ = true;
  do {
    unit.wake_again_ = false;
    if (shards_ != nullptr) shards_->tell_clear(unit);
    IntrusiveList<Task, StartableTag> startable;
    unit.task_set_.for_each([&](Task& task) {
      if (task.phase != Task::Phase::blocked || task.aborted || unit.medium().waiter() == &task) return;
      if ((task.copy != nullptr && task.copy->waiting) || task.claim != nullptr || !unit.can_start(task))
        return;
      if (unit.needs_claim(task)) return shards_->request(task);
      --unit.blocked_;
      task.phase = Task::Phase::running;
      startable.push_back(task);
    });
    unit.claims_.for_each([&](RangeClaim& claim) {
      Task& task = *claim.task;
      if (shards_ != nullptr || claim.held || task.phase != Task::Phase::blocked || task.aborted ||
          !can_hold_claims(*task.copy))
        return;
      hold_claims(*task.copy);
      --task.unit->blocked_;
      task.phase = Task::Phase::running;
      startable.push_back(task);
    });
    while (!startable.empty()) {
      Task& task = startable.pop_front();
      if (start(task)) finish(task);
    }
  } while (unit.wake_again_ && unit.blocked_ != 0);
  unit.waking_ = false;
}

MutableBytes Device::lend(Task& task) {
  if (task.phase != Task::Phase::admitted || task.lent) return {};
  LogicalUnit& unit = *task.unit;
  if (unit.medium().refusal(*task.row)) return {};
  const block::Geometry& geometry = unit.geometry();
  const auto serial = static_cast<SerialClass>(task.serial);
  if (!geometry.lends_memory || (serial != SerialClass::read && serial != SerialClass::write)) return {};
  if ((task.row->run != run_read && task.row->run != run_write) || task.blocks != task.transfer_blocks)
    return {};
  const bool for_write = serial == SerialClass::write;
  const bool fua = task.row->cdb_length > 6 && (task.cdb[1] & 0x08) != 0;
  if (for_write ? wants_durable(unit, fua) : (fua && geometry.write_cache)) return {};
  if (task.generation != unit.generation_ || unit.needs_claim(task) || !unit.can_start(task)) return {};
  std::uint8_t* memory = unit.channel().lend(Lba(task.lba), BlockCount(task.blocks), for_write);
  if (memory == nullptr) return {};
  task.lent = true;
  return {memory, static_cast<std::size_t>(task.blocks) * geometry.block_size_bytes};
}

// ---- execution

bool Device::execute(Task& task) {
  PERILUNE_ASSERT(task.phase == Task::Phase::admitted || task.phase == Task::Phase::cancelled);
  LogicalUnit& unit = *task.unit;
  bool over = task.aborted || task.lent;
  if (!over) {
    if (const auto refusal = unit.medium().refusal(*task.row)) {
      check_condition(task, *refusal);
      over = true;
    }
  }
  if (!over) {
    Command command{*this, unit, task};
    over = task.row->prepare != nullptr && !task.row->prepare(command);
  }
  if (!over) {
    const bool free = unit.barriers_ == 0 || unit.can_start(task);  // asked here: this is every read and
                                                                    // write
    if (!free || (shards_ != nullptr && unit.needs_claim(task))) {
      task.phase = Task::Phase::blocked;
      ++unit.blocked_;
      if (free) shards_->request(task);
      return false;
    }
    over = start(task);
  } else if (task.lent && !task.aborted) {
    if (static_cast<SerialClass>(task.serial) == SerialClass::read) {
      task.data_in_length = task.need.data_in_bytes;
    }
    good(task);
  }
  if (!over) return false;
  leave(task);
  after_leaving(unit);
  return true;
}

// What was checked when the command was admitted may have changed while it waited, for data, for memory, for
// others. It counts as it is now: a write that was admitted before MODE SELECT set SWP, or before a PREEMPT
// that shuts its nexus out, does not land after it. Of the reservations a copy that is under way asks for
// every segment instead (copy_access.hpp).
bool Device::start(Task& task) {
  task.phase = Task::Phase::running;
  const LogicalUnit& unit = *task.unit;
  if (task.generation != unit.generation_ && !task.aborted) {
    const bool under_way = task.copy != nullptr && task.copy->stage != CopyOperation::Stage::next_segment;
    const NexusNames& names = task.nexus->names();
    const ReservationAccess access =
        under_way || !unit.is_reserved()
            ? ReservationAccess::all
            : access_of(unit.reservations_, names.initiator_port, names.relative_target_port);
    if (!check_medium_operation(*task.row, unit, task) || !check_state(*task.row, unit, access, task))
      return true;
    if (unit.was_for_another_medium(task) && !task.row->allows(allow::stopped)) {
      fail_command(task, SenseKey::not_ready, asc::medium_not_present);
      return true;
    }
  }
  return drive(task);
}

bool Device::drive(Task& task) {
  LogicalUnit& unit = *task.unit;
  Command command{*this, unit, task};
  for (bool first = true;; first = false) {
    if (task.aborted) return settled(task);
    const Progress progress = task.row->run(command);
    if (progress != Progress::submit)
      return progress == Progress::over && (shards_ == nullptr || settled(task));
    task.op.status = block::OpStatus::ok;
    task.op.os_errno = 0;
    task.op.done = Delegate<void(block::BlockOp&)>::raw(&task, operation_ended);
    if (!unit.channel().submit(task.op)) return false;
    if (!first && put_off(unit, task.op)) return false;
  }
}

// Whether all is said about a command that has ended. False: it is finished when the other shards know.
bool Device::settled(Task& task) {
  if (shards_ == nullptr) return true;
  if (task.telling) return false;
  if (task.claim == nullptr || static_cast<SerialClass>(task.row->serial) != SerialClass::whole) return true;
  shards_->publish(task);
  return false;
}

void Device::forwarded_ended(Task& task) {
  if (shards_ == nullptr || settled(task)) finish(task);
}

void Device::flush_failed(LogicalUnit& unit, Task& task) {
  unit.state().flush_failed = true;
  if (shards_ != nullptr) shards_->tell_flush_failed(unit, task);
}

void Device::operation_ended(void* context, block::BlockOp& op) {
  Task& task = *static_cast<Task*>(context);
  Device& device = task.unit->device();
  // No handler looks at it any more, but what this flush has lost is lost for all.
  if (task.aborted && op.kind == block::OpKind::flush && op.status != block::OpStatus::ok) {
    device.flush_failed(task.copy == nullptr ? *task.unit : *task.copy->destination, task);
  }
  if (device.drive(task)) device.finish(task);
}

}  // namespace perilune::scsi
