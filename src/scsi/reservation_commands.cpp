// SPDX-License-Identifier: Apache-2.0
// PERSISTENT RESERVE IN (SPC-4 6.15), PERSISTENT RESERVE OUT (SPC-4 6.16), RESERVE and RELEASE
// (SPC-2 7.16, 7.17, 7.21, 7.22). The rules stand in reservations.hpp; here are the bytes.
#include <algorithm>
#include <bit>

#include "base/assert.hpp"
#include "scsi/device.hpp"
#include "scsi/handlers.hpp"
#include "scsi/reservation_handlers.hpp"
#include "scsi/transfer.hpp"
#include "scsi/transport_id.hpp"

namespace perilune::scsi {

Progress begin_change(Command& command, UnitChange change) {
  command.task.step = changing_step;
  return command.device.change(command.task, std::move(change)) ? end_change(command) : Progress::waits;
}

Progress end_change(Command& command) noexcept {
  if (!command.unit.change_failed()) return good(command.task);
  fail_command(command.task, SenseKey::hardware_error, asc::internal_target_failure);
  return Progress::over;
}

namespace {

using Buffer = std::vector<std::uint8_t>;
using Action = ReservationRequest::Action;
using Verdict = ReservationOutcome::Verdict;

// ---- PERSISTENT RESERVE IN

// RESERVE and persistent reservations exclude each other (SPC-2 5.5.1).
bool reserved_by_anybody(Command& command) noexcept {
  if (!command.unit.reservations().reserved_by) return false;
  reservation_conflict(command.task);
  return true;
}

// PRGENERATION and room for ADDITIONAL LENGTH.
void begin_answer(Buffer& out, const Reservations& reservations) {
  out.assign(8, 0);
  store_be32(out.data(), reservations.generation);
}
Progress answer(Command& command) {
  Buffer& out = command.task.parameter_data;
  store_be32(&out[4], static_cast<std::uint32_t>(out.size() - 8));
  return reply(command.task, load_be16(&command.task.cdb[7]));
}

// Of these nexuses of one initiator port, all that there can be: then one descriptor speaks for all target
// ports.
bool stands_for_all_ports(const Reservations& reservations, const Registration& registration,
                          const std::vector<std::uint16_t>& target_ports) {
  return registration.all_target_ports &&
         std::all_of(target_ports.begin(), target_ports.end(), [&](std::uint16_t port) {
           const Registration* other = reservations.find(registration.nexus.initiator_port, port);
           return other != nullptr && other->all_target_ports && other->key == registration.key &&
                  reservations.holds(*other) == reservations.holds(registration);
         });
}

std::vector<std::uint16_t> target_ports_of(const LogicalUnit& unit, const Nexus& nexus) {
  std::vector<std::uint16_t> ports{nexus.names().relative_target_port};
  for (const PortGroup& group : unit.port_groups().all()) {
    for (const std::uint16_t port : group.ports) {
      if (port != ports.front()) ports.push_back(port);
    }
  }
  return ports;
}

void append_full_status(Buffer& out, const Reservations& reservations, const Registration& registration,
                        bool all_ports, std::uint8_t protocol_identifier) {
  const std::size_t at = out.size();
  out.resize(at + 24);
  store_be64(&out[at], registration.key);
  const bool holds = reservations.holds(registration);
  out[at + 12] = static_cast<std::uint8_t>((all_ports ? 0x02 : 0) | (holds ? 0x01 : 0));
  if (holds) out[at + 13] = static_cast<std::uint8_t>(reservations.persistent->type);
  if (!all_ports) store_be16(&out[at + 18], registration.nexus.target_port);
  append_transport_id(out, protocol_identifier, registration.nexus.initiator_port);
  store_be32(&out[at + 20], static_cast<std::uint32_t>(out.size() - at - 24));
}

}  // namespace

Progress run_read_keys(Command& command) {
  if (reserved_by_anybody(command)) return Progress::over;
  const Reservations& reservations = command.unit.reservations();
  Buffer& out = command.task.parameter_data;
  begin_answer(out, reservations);
  for (const Registration& registration : reservations.registrations) {
    out.resize(out.size() + 8);
    store_be64(&out[out.size() - 8], registration.key);
  }
  return answer(command);
}

Progress run_read_reservation(Command& command) {
  if (reserved_by_anybody(command)) return Progress::over;
  const Reservations& reservations = command.unit.reservations();
  Buffer& out = command.task.parameter_data;
  begin_answer(out, reservations);
  if (reservations.persistent) {
    out.resize(24);
    const Registration* holder = reservations.find(reservations.persistent->holder);
    store_be64(&out[8], holder != nullptr ? holder->key : 0);  // all registrants: 0
    out[21] = static_cast<std::uint8_t>(reservations.persistent->type);
  }
  return answer(command);
}

Progress run_report_capabilities(Command& command) {
  if (reserved_by_anybody(command)) return Progress::over;
  const LogicalUnit& unit = command.unit;
  Buffer& out = command.task.parameter_data;
  out.assign(8, 0);
  store_be16(out.data(), 8);
  out[2] = 0x10 | 0x08 | 0x04;          // CRH, SIP_C, ATP_C
  if (unit.persists()) out[2] |= 0x01;  // PTPL_C
  out[3] = 0x80 | 0x30;                 // TMV; ALLOW COMMANDS 011b, as the rows of the command table are
  if (unit.reservations().aptpl) out[3] |= 0x01;  // PTPL_A
  out[4] = 0x80 | 0x40 | 0x20 | 0x08 | 0x02;      // WR_EX_AR, EX_AC_RO, WR_EX_RO, EX_AC, WR_EX
  out[5] = 0x01;                                  // EX_AC_AR
  return reply(command.task, load_be16(&command.task.cdb[7]));
}

Progress run_read_full_status(Command& command) {
  if (reserved_by_anybody(command)) return Progress::over;
  const Reservations& reservations = command.unit.reservations();
  const NexusNames& names = command.task.nexus->names();
  const std::vector<std::uint16_t> target_ports = target_ports_of(command.unit, *command.task.nexus);
  Buffer& out = command.task.parameter_data;
  begin_answer(out, reservations);
  for (const Registration& registration : reservations.registrations) {
    const bool all_ports = stands_for_all_ports(reservations, registration, target_ports);
    if (all_ports && registration.nexus.target_port != target_ports.front()) continue;
    append_full_status(out, reservations, registration, all_ports, names.protocol_identifier);
  }
  return answer(command);
}

// ---- PERSISTENT RESERVE OUT

namespace {

constexpr std::size_t basic_list_bytes = 24;

Action action_of(const Task& task) noexcept { return static_cast<Action>(task.cdb[1] & 0x1f); }

// The parameter list. Nothing is changed by a list that is not good to its last byte.
class OutList {
 public:
  OutList(Command& command, Bytes list) noexcept : command_(command), list_(list) {}

  // nullopt: the command has ended with the sense for it.
  std::optional<ReservationRequest> parse() {
    request_.action = action_of(command_.task);
    request_.scope = command_.task.cdb[2] >> 4;
    request_.type = command_.task.cdb[2] & 0x0f;
    request_.key = load_be64(&list_[0]);
    request_.action_key = load_be64(&list_[8]);
    const bool good = request_.action == Action::register_and_move ? move_list() : basic_list();
    return good ? std::optional(std::move(request_)) : std::nullopt;
  }

 private:
  bool wrong_length() {
    fail_command(command_.task, SenseKey::illegal_request, asc::parameter_list_length_error);
    return false;
  }
  bool wrong(std::size_t byte, std::optional<std::uint8_t> bit = std::nullopt) {
    invalid_field_in_parameters(command_.task, static_cast<std::uint16_t>(byte), bit);
    return false;
  }
  bool reserved_bits(std::size_t byte, std::uint8_t mask) {
    const auto stray = static_cast<std::uint8_t>(list_[byte] & mask);
    return stray == 0 || wrong(byte, static_cast<std::uint8_t>(std::bit_width(stray) - 1));
  }
  // APTPL is for those who can keep their word.
  bool take_aptpl(std::size_t byte) {
    request_.aptpl =
        (list_[byte] & 0x01) != 0 || (command_.unit.rules().always_aptpl && command_.unit.persists());
    return !request_.aptpl || command_.unit.persists() || wrong(byte, std::uint8_t{0});
  }

  // SPC-4 6.16.3.
  bool basic_list() {
    const bool registers =
        request_.action == Action::register_key || request_.action == Action::register_and_ignore;
    const bool specifies_ports = (list_[20] & 0x08) != 0;
    if (!specifies_ports && list_.size() != basic_list_bytes) return wrong_length();
    if (!reserved_bits(20, 0xf2) || !reserved_bits(21, 0xff)) return false;
    if (specifies_ports && request_.action != Action::register_key) return wrong(20, std::uint8_t{3});
    if (!registers) return true;  // ALL_TG_PT and APTPL are ignored
    request_.all_target_ports = (list_[20] & 0x04) != 0;
    request_.specifies_ports = specifies_ports;
    return take_aptpl(20) && (!specifies_ports || ports());
  }

  // TRANSPORTID PARAMETER DATA LENGTH, and as many bytes of TransportIDs.
  bool ports() {
    if (list_.size() < basic_list_bytes + 4) return wrong_length();
    const std::size_t length = load_be32(&list_[basic_list_bytes]);
    std::size_t at = basic_list_bytes + 4;
    if (length > list_.size() - at) return wrong(basic_list_bytes);
    if (length != list_.size() - at) return wrong_length();
    while (at < list_.size()) {
      if (!port(at)) return false;
    }
    return true;
  }

  // The initiator ports that the TransportID at this place names: one, or those that are known of an
  // initiator device.
  bool port(std::size_t& at) {
    auto id = parse_transport_id(list_.subspan(at), command_.task.nexus->names().protocol_identifier);
    if (!id) return wrong(at + id.error());
    const auto byte = static_cast<std::uint16_t>(at);
    at += id->bytes;
    if (!id->is_device) {
      request_.ports.push_back({std::move(id->name), byte});
      return true;
    }
    std::vector<std::string> known = command_.device.ports_of_device(id->name);
    for (const Registration& registration : command_.unit.reservations().registrations) {
      const std::string& name = registration.nexus.initiator_port;
      if (is_port_of_device(name, id->name) && std::find(known.begin(), known.end(), name) == known.end()) {
        known.push_back(name);
      }
    }
    if (known.empty()) return wrong(byte);
    if (request_.ports.size() + known.size() > limits::max_registrations) {
      fail_command(command_.task, SenseKey::illegal_request, asc::insufficient_registration_resources);
      return false;
    }
    for (std::string& name : known) request_.ports.push_back({std::move(name), byte});
    return true;
  }

  // SPC-4 6.16.4.
  bool move_list() {
    if (!reserved_bits(16, 0xff) || !reserved_bits(17, 0xfc)) return false;
    request_.unregister = (list_[17] & 0x02) != 0;
    if (!take_aptpl(17)) return false;
    request_.target_port = load_be16(&list_[18]);
    const std::size_t length = load_be32(&list_[20]);
    if (length < min_transport_id_bytes || length % 4 != 0) return wrong(20);
    if (length != list_.size() - basic_list_bytes) return wrong_length();
    std::size_t at = basic_list_bytes;
    if (!port(at)) return false;
    if (at != list_.size()) return wrong(20);
    return request_.ports.size() == 1 || wrong(basic_list_bytes);  // one port, not several of a device
  }

  Command& command_;
  Bytes list_;
  ReservationRequest request_;
};

std::optional<ReservationRequest> parse_out_list(Command& command) {
  Task& task = command.task;
  Buffer list(task.need.data_out_bytes);
  const std::size_t there = gather(task.data, 0, list);
  PERILUNE_ASSERT(there == list.size());
  if (list.size() < task.data_transfer_length) {
    fail_command(task, SenseKey::illegal_request, asc::parameter_list_length_error);
    return std::nullopt;
  }
  return OutList(command, list).parse();
}

NexusName name_of(const Nexus& nexus) {
  return {nexus.names().initiator_port, nexus.names().relative_target_port};
}

// What the command does as things are now; nullopt: it is refused and has ended.
std::optional<ReservationOutcome> evaluate(Command& command) {
  const auto request = parse_out_list(command);
  if (!request) return std::nullopt;
  const std::vector<std::uint16_t> ports = target_ports_of(command.unit, *command.task.nexus);
  return change_reservations(command.unit.reservations(), name_of(*command.task.nexus), *request, ports);
}

Progress refuse(Task& task, const ReservationOutcome& outcome) {
  switch (outcome.verdict) {
    case Verdict::good:
      break;
    case Verdict::conflict:
      reservation_conflict(task);
      break;
    case Verdict::invalid_cdb_field:
      invalid_field_in_cdb(task, outcome.byte, outcome.bit);
      break;
    case Verdict::invalid_list_field:
      invalid_field_in_parameters(task, outcome.byte, outcome.bit);
      break;
    case Verdict::invalid_release:
      fail_command(task, SenseKey::illegal_request, asc::invalid_release_of_persistent_reservation);
      break;
    case Verdict::no_resources:
      fail_command(task, SenseKey::illegal_request, asc::insufficient_registration_resources);
      break;
  }
  return Progress::over;
}

// The record has to change before the answer where it holds reservations, or is to.
std::optional<DurableState> record_after(const LogicalUnit& unit, const Reservations& after) {
  if (!unit.persists()) return std::nullopt;
  Reservations kept = surviving(after);
  if (kept == unit.durable().reservations && unit.record_is_known()) return std::nullopt;
  DurableState durable = unit.durable();
  durable.reservations = std::move(kept);
  return durable;
}

}  // namespace

bool admit_persistent_reserve_out(Command& command) {
  Task& task = command.task;
  if (action_of(task) == Action::reserve &&
      ((task.cdb[2] & 0xf0) != 0 || !is_reservation_type(task.cdb[2]))) {
    invalid_field_in_cdb(task, 2, (task.cdb[2] & 0xf0) != 0 ? std::uint8_t{7} : std::uint8_t{3});
    return false;
  }
  const std::uint32_t length = load_be32(&task.cdb[5]);
  if (length < basic_list_bytes || length > limits::max_parameter_bytes) {
    fail_command(task, SenseKey::illegal_request, asc::parameter_list_length_error);
    return false;
  }
  task.data_transfer_length = length;
  task.need.data_out_bytes = std::min(length, task.expected_data_out_bytes);
  return true;
}

// PREEMPT AND ABORT ends commands before it waits for its turn: a write whose initiator is gone, or never
// sends the rest of its data, must not hold up the command that shuts this initiator out. Whether it may is
// asked again at its turn.
bool prepare_persistent_reserve_out(Command& command) {
  if (action_of(command.task) != Action::preempt_and_abort) return true;
  const auto outcome = evaluate(command);
  if (!outcome) return false;
  if (outcome->verdict == Verdict::good) command.device.end_tasks_of(outcome->aborted, command.task);
  return true;
}

Progress run_persistent_reserve_out(Command& command) {
  if (command.task.step == changing_step) return end_change(command);
  auto outcome = evaluate(command);
  if (!outcome) return Progress::over;
  if (outcome->verdict != Verdict::good) return refuse(command.task, *outcome);
  UnitChange change;
  change.aborted = std::move(outcome->aborted);
  change.durable = record_after(command.unit, outcome->after);
  change.reservations = std::move(outcome->after);
  change.notices = std::move(outcome->notices);
  return begin_change(command, std::move(change));
}

// ---- RESERVE, RELEASE

namespace {

Progress change_reserve(Command& command, ReservationOutcome outcome) {
  if (outcome.verdict != Verdict::good) return refuse(command.task, outcome);
  if (outcome.after != command.unit.reservations()) command.unit.set_reservations(std::move(outcome.after));
  return good(command.task);
}

}  // namespace

// Nothing to check; but into the task set with it, where it waits for the writes that have started.
bool admit_reserve_release(Command&) { return true; }

Progress run_reserve_unit(Command& command) {
  return change_reserve(command, reserve_unit(command.unit.reservations(), name_of(*command.task.nexus),
                                              command.task.nexus->life()));
}

Progress run_release_unit(Command& command) {
  return change_reserve(command, release_unit(command.unit.reservations(), name_of(*command.task.nexus)));
}

}  // namespace perilune::scsi
