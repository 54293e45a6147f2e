// SPDX-License-Identifier: Apache-2.0
#include "scsi/forwarding.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "scsi/device.hpp"
#include "scsi/handlers.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {
namespace {

using Delivery = PassthroughCommand::Delivery;

constexpr AdditionalSense does_not_respond{0x05, 0x00};  // LOGICAL UNIT DOES NOT RESPOND TO SELECTION
constexpr AdditionalSense timed_out{0x2e, 0x02};         // COMMAND TIMEOUT DURING PROCESSING
constexpr AdditionalSense damaged{0x47, 0x00};           // SCSI PARITY ERROR

bool in_descriptor_format(Bytes sense) noexcept { return (sense[0] & 0x7e) == 0x72; }

// Whether there is a sense key in it (SPC-4 4.5.1); a device may send less than it should.
bool is_sense(Bytes sense) noexcept {
  if (sense.empty()) return false;
  const std::uint8_t code = sense[0] & 0x7f;
  return (code == 0x72 || code == 0x73) ? sense.size() >= 2
                                        : (code == 0x70 || code == 0x71) && sense.size() >= 3;
}

std::uint8_t sense_key(Bytes sense) noexcept { return sense[in_descriptor_format(sense) ? 1 : 2] & 0x0f; }

// With these keys data may have come before the condition, and belongs to the initiator: a short block of a
// tape, what lies before a medium error. With every other key there is none, whatever the host's adapter
// says: the memory is not the device's.
bool may_carry_data(std::uint8_t key) noexcept {
  switch (key) {
    case 0x0:  // NO SENSE: filemark, end of medium, incorrect length
    case 0x1:  // RECOVERED ERROR
    case 0x3:  // MEDIUM ERROR
    case 0x8:  // BLANK CHECK
    case 0xd:
      return true;  // VOLUME OVERFLOW
    default:
      return false;
  }
}

// What a short one lacks of the eight bytes that both formats begin with is zero.
void take_sense(Task& task, Bytes sense) noexcept {
  constexpr std::size_t least = 8;
  std::fill_n(task.sense.begin(), least, std::uint8_t{0});
  std::copy(sense.begin(), sense.end(), task.sense.begin());
  task.sense_length = static_cast<std::uint8_t>(std::max(sense.size(), least));
}

// The device's own answer.
void answered(Task& task, const PassthroughCommand& command) noexcept {
  const Bytes sense(command.sense.data(), std::min<std::size_t>(command.sense_length, task.sense.size()));
  const auto status = static_cast<ScsiStatus>(command.status);
  const bool usable = is_sense(sense);
  if (status == ScsiStatus::check_condition && !usable) {  // nobody could tell what is wrong
    return fail_command(task, SenseKey::hardware_error, asc::internal_target_failure);
  }
  task.status = status;
  task.sense_length = 0;
  if (usable) take_sense(task, sense);
  const std::uint32_t moved = std::min(command.transferred_bytes, command.bytes);
  const bool has_data = status == ScsiStatus::good || status == ScsiStatus::condition_met ||
                        (status == ScsiStatus::check_condition && may_carry_data(sense_key(sense)));
  if (command.direction == PassthroughCommand::Direction::out) {
    task.data_transfer_length = moved;
  } else {
    // What was read in the place of the task's own command is the answer's to make something of: the task has
    // none of it.
    task.data_in_length = task.data_transfer_length = has_data ? std::min(moved, task.need.data_in_bytes) : 0;
  }
}

void plain_status(Task& task, ScsiStatus status) noexcept {
  task.status = status;
  task.sense_length = 0;
  task.data_in_length = task.data_transfer_length = 0;
}

void deliver(Task& task, const PassthroughCommand& command) noexcept {
  switch (command.delivery) {
    case Delivery::answered:
      return answered(task, command);
    case Delivery::busy:
      return plain_status(task, ScsiStatus::busy);
    case Delivery::queue_full:
      return plain_status(task, ScsiStatus::task_set_full);
    case Delivery::conflict:
      return plain_status(task, ScsiStatus::reservation_conflict);
    case Delivery::unreachable:
      return fail_command(task, SenseKey::not_ready, does_not_respond);
    case Delivery::timed_out:
      return fail_command(task, SenseKey::aborted_command, timed_out);
    case Delivery::aborted:
      return fail_command(task, SenseKey::aborted_command, asc::none);
    case Delivery::damaged:
      return fail_command(task, SenseKey::aborted_command, damaged);
    case Delivery::failed:
      return fail_command(task, SenseKey::hardware_error, asc::internal_target_failure);
  }
}

}  // namespace

std::optional<UnitAttention> attention_of_sense(Bytes sense) noexcept {
  if (!is_sense(sense) || sense_key(sense) != static_cast<std::uint8_t>(SenseKey::unit_attention))
    return std::nullopt;
  const std::size_t at = in_descriptor_format(sense) ? 2 : 12;
  if (sense.size() < at + 2) return std::nullopt;
  switch (load_be16(sense.data() + at)) {
    case 0x2902:
      return UnitAttention::bus_reset;
    case 0x2903:
      return UnitAttention::device_reset;
    case 0x2a01:
      return UnitAttention::mode_parameters_changed;
    case 0x2a02:
      return UnitAttention::log_parameters_changed;
    case 0x2a09:
      return UnitAttention::capacity_changed;
    case 0x2f00:
      return UnitAttention::commands_cleared;
    case 0x3f01:  // microcode
    case 0x3f03:
      return UnitAttention::inquiry_data_changed;
    case 0x3f05:
      return UnitAttention::device_identifier_changed;
    default:
      break;
  }
  if (sense[at] == 0x28) return UnitAttention::medium_may_have_changed;
  if (sense[at] == 0x29)
    return UnitAttention::power_on;  // power on, bus, transceiver … : everything may be as at first
  return std::nullopt;               // the rest is about this host's own nexus or map of units
}

std::optional<UnitAttention> attention_after(const PassthroughCommand& command) noexcept {
  if (command.delivery != Delivery::answered) return std::nullopt;
  const auto status = static_cast<ScsiStatus>(command.status);
  if (status == ScsiStatus::check_condition) {
    return attention_of_sense({command.sense.data(), command.sense_length});
  }
  if (status != ScsiStatus::good) return std::nullopt;
  switch (command.cdb[0]) {
    case 0x15:  // MODE SELECT (6), (10)
    case 0x55:
      return UnitAttention::mode_parameters_changed;
    case 0x4c:
      return UnitAttention::log_parameters_changed;
    default:
      return std::nullopt;
  }
}

std::uint8_t forwarded_cdb_length(const Task& task) noexcept {
  std::uint32_t length = 0;
  switch (task.cdb[0] >> 5) {
    case 0:
      length = 6;
      break;
    case 1:
    case 2:
      length = 10;
      break;
    case 3:
      length = task.cdb[0] == 0x7f ? task.cdb[7] + 8u : 0;
      break;
    case 4:
      length = 16;
      break;
    case 5:
      length = 12;
      break;
    default:
      length = 16;
      break;  // the vendor's own: all that an iSCSI header holds
  }
  return length <= std::min<std::size_t>(task.cdb_length, task.cdb.size()) ? static_cast<std::uint8_t>(length)
                                                                           : 0;
}

bool admit_forwarded(Command& command) {
  Task& task = command.task;
  if (forwarded_cdb_length(task) == 0) {
    if (task.cdb[0] == 0x7f)
      invalid_field_in_cdb(task, 7, std::uint8_t{7});
    else
      fail_command(task, SenseKey::illegal_request, asc::invalid_operation_code);
    return false;
  }
  const std::uint32_t bytes = std::max(task.expected_data_out_bytes, task.expected_data_in_bytes);
  if (bytes > command.unit.forwarder()->facts().max_transfer_bytes) {
    // What the CDB asks for is the device's to know; what it can be given is not.
    fail_command(task, SenseKey::illegal_request, asc::invalid_field_in_cdb);
    return false;
  }
  task.need.data_out_bytes = task.expected_data_out_bytes;
  task.need.data_in_bytes = task.expected_data_out_bytes != 0 ? 0 : task.expected_data_in_bytes;
  return true;
}

bool admit_restricted(Command& command) {
  if (command.unit.forwarder()->facts().unrestricted) return admit_forwarded(command);
  fail_command(command.task, SenseKey::illegal_request, asc::invalid_operation_code);
  return false;
}

Progress run_forwarded(Command& command) {
  command.unit.forwarder()->forward(command);
  return Progress::waits;
}

// ---- Forwarder

Forwarder::~Forwarder() { PERILUNE_ASSERT(free_.size() == slots_.size() && resets_.empty()); }

Forwarder::Slot& Forwarder::take(Task& task, Answer answer) {
  if (free_.empty()) {
    free_.reserve(slots_.size() + 1);
    free_.push_back(&slots_.emplace_back());
  }
  Slot& slot = *free_.back();
  free_.pop_back();
  slot.task = &task;
  slot.owner = this;
  slot.answer = answer;
  return slot;
}

void Forwarder::submit(Slot& slot) {
  slot.command.done = Delegate<void(PassthroughCommand&)>::raw(&slot, &Forwarder::ended);
  port_.submit(slot.command);
}

void Forwarder::forward(Command& command, Answer answer) {
  Task& task = command.task;
  Slot& slot = take(task, answer);
  PassthroughCommand& to_device = slot.command;
  to_device.cdb = task.cdb;
  to_device.cdb_length = forwarded_cdb_length(task);
  to_device.data = task.data;
  to_device.bytes = std::max(task.need.data_out_bytes, task.need.data_in_bytes);
  to_device.direction = task.need.data_out_bytes != 0  ? PassthroughCommand::Direction::out
                        : task.need.data_in_bytes != 0 ? PassthroughCommand::Direction::in
                                                       : PassthroughCommand::Direction::none;
  submit(slot);
}

void Forwarder::read_instead(Command& command, Bytes cdb, Answer answer) {
  Task& task = command.task;
  Slot& slot = take(task, answer);
  PassthroughCommand& to_device = slot.command;
  to_device.cdb = {};
  std::copy(cdb.begin(), cdb.end(), to_device.cdb.begin());
  to_device.cdb_length = static_cast<std::uint8_t>(cdb.size());
  to_device.data = task.scratch;
  to_device.bytes = task.need.scratch_bytes;
  to_device.direction = PassthroughCommand::Direction::in;
  submit(slot);
}

void Forwarder::reset(Device& device, TaskManagement& request) {
  Reset& made = resets_.emplace_back();
  made.device = &device;
  made.request = &request;
  made.owner = this;
  made.reset.done = Delegate<void(PassthroughReset&)>::raw(&made, &Forwarder::reset_ended);
  port_.reset(made.reset);
}

void Forwarder::reset_ended(void* context, PassthroughReset&) {
  const Reset& made = *static_cast<Reset*>(context);
  Device& device = *made.device;
  TaskManagement& request = *made.request;
  const bool succeeded = made.reset.succeeded;
  made.owner->resets_.remove_if([&](const Reset& each) { return &each == &made; });
  device.forwarded_reset_ended(request, succeeded);
}

// The device has answered: the task ends. Where it had been aborted, nobody hears of what the device said,
// but the others.
void Forwarder::ended(void* context, PassthroughCommand& done) {
  Slot& slot = *static_cast<Slot*>(context);
  Task& task = *slot.task;
  LogicalUnit& unit = *task.unit;
  Device& device = unit.device();
  if (const auto attention = attention_after(done)) {
    const bool told = !task.aborted || static_cast<ScsiStatus>(done.status) == ScsiStatus::good;
    device.raise_everywhere(unit, told ? task.nexus : nullptr, *attention);
  }
  if (!task.aborted) {
    Command command{device, unit, task};
    deliver(task, done);
    const bool served = done.delivery == Delivery::answered && task.status == ScsiStatus::good;
    const bool inquiry = slot.answer != nullptr && done.delivery == Delivery::unreachable;
    if (slot.answer != nullptr && (served || inquiry)) slot.answer(command, done);
  }
  slot.owner->free_.push_back(&slot);
  device.forwarded_ended(task);
}

}  // namespace perilune::scsi
