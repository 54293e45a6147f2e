// SPDX-License-Identifier: Apache-2.0
// The reservations of one logical unit (SPC-4 5.13; SPC-2 5.5 for RESERVE and RELEASE) as a plain value, and
// their rules as functions from the value before to the value after. Who holds what is said by names, so
// registrations outlive sessions, and a copy of the value says the same on any shard.
//
// Nothing here acts: what a change makes others learn, and whose commands it ends, stands in its outcome, for
// whoever applies it (Device::change).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "scsi/unit_attention.hpp"

namespace perilune::scsi {

enum class ReservationType : std::uint8_t {  // SPC-4 6.15.3.4
  write_exclusive = 1,
  exclusive_access = 3,
  write_exclusive_registrants_only = 5,
  exclusive_access_registrants_only = 6,
  write_exclusive_all_registrants = 7,
  exclusive_access_all_registrants = 8,
};
[[nodiscard]] bool is_reservation_type(std::uint8_t code) noexcept;
[[nodiscard]] bool is_all_registrants(ReservationType type) noexcept;
[[nodiscard]] bool admits_registrants(ReservationType type) noexcept;  // registrants only, or all registrants
[[nodiscard]] bool is_write_exclusive(ReservationType type) noexcept;

// An I_T nexus: initiator port name and relative target port identifier.
struct NexusName {
  std::string initiator_port;
  std::uint16_t target_port = 0;
  friend bool operator==(const NexusName&, const NexusName&) = default;
};

struct Registration {
  NexusName nexus;
  std::uint64_t key = 0;            // never 0
  bool all_target_ports = false;    // made with ALL_TG_PT
  friend bool operator==(const Registration&, const Registration&) = default;
};

struct PersistentReservation {
  ReservationType type = ReservationType::write_exclusive;
  NexusName holder;  // empty for the all registrants types: every registered nexus holds it
  friend bool operator==(const PersistentReservation&, const PersistentReservation&) = default;
};

// What a nexus may do under the reservations of others. A command is let through when its row has the flag.
enum class ReservationAccess : std::uint8_t {
  all,               // nothing is reserved, or not against this nexus
  write_exclusive,   // rows with allow::write_exclusive
  exclusive_access,  // rows with allow::exclusive_access
  reserved,          // another nexus has sent RESERVE: rows with allow::reserved
};

struct Reservations {
  std::uint32_t generation = 0;  // PRGENERATION
  bool aptpl = false;            // the last APTPL: what is here outlives a loss of power
  std::vector<Registration> registrations;  // at most limits::max_registrations, in the order they were made
  std::optional<PersistentReservation> persistent;
  std::optional<NexusName> reserved_by;  // RESERVE (SPC-2); never beside registrations
  std::uint64_t reserved_in_life = 0;    // of that nexus (Nexus::life()): its loss ends it, not that of an
                                         // earlier one
  friend bool operator==(const Reservations&, const Reservations&) = default;

  [[nodiscard]] bool restricts() const noexcept { return persistent.has_value() || reserved_by.has_value(); }
  [[nodiscard]] const Registration* find(std::string_view initiator_port,
                                         std::uint16_t target_port) const noexcept;
  [[nodiscard]] const Registration* find(const NexusName& nexus) const noexcept {
    return find(nexus.initiator_port, nexus.target_port);
  }
  // A persistent reservation holder (SPC-4 5.13.10).
  [[nodiscard]] bool holds(const Registration& registration) const noexcept;
};

// No allocation.
[[nodiscard]] ReservationAccess access_of(const Reservations& reservations, std::string_view initiator_port,
                                          std::uint16_t target_port) noexcept;

// PERSISTENT RESERVE OUT (SPC-4 6.16), CDB and parameter list in one.
struct ReservationRequest {
  enum class Action : std::uint8_t {  // service actions
    register_key = 0,
    reserve = 1,
    release = 2,
    clear = 3,
    preempt = 4,
    preempt_and_abort = 5,
    register_and_ignore = 6,
    register_and_move = 7,
  };
  struct Port {
    std::string name;        // of an initiator port
    std::uint16_t byte = 0;  // of the parameter list, where its TransportID stands
  };
  Action action = Action::register_key;
  std::uint8_t scope = 0;
  std::uint8_t type = 0;
  std::uint64_t key = 0;         // RESERVATION KEY
  std::uint64_t action_key = 0;  // SERVICE ACTION RESERVATION KEY
  bool aptpl = false;
  bool all_target_ports = false;       // ALL_TG_PT
  bool specifies_ports = false;        // SPEC_I_PT
  bool unregister = false;             // REGISTER AND MOVE: UNREG
  std::vector<Port> ports;  // SPEC_I_PT: the others to be registered; REGISTER AND MOVE: one, the new holder
  std::uint16_t target_port = 0;       // REGISTER AND MOVE: relative identifier
};

// A unit attention for every nexus of this name, if it is there.
struct NexusNotice {
  NexusName nexus;
  UnitAttention attention = UnitAttention::reservations_released;
  friend bool operator==(const NexusNotice&, const NexusNotice&) = default;
};

struct ReservationOutcome {
  enum class Verdict : std::uint8_t {
    good,
    conflict,               // RESERVATION CONFLICT
    invalid_cdb_field,      // with `byte` and `bit`
    invalid_list_field,
    invalid_release,        // INVALID RELEASE OF PERSISTENT RESERVATION
    no_resources,           // INSUFFICIENT REGISTRATION RESOURCES
  };
  Verdict verdict = Verdict::good;
  std::uint16_t byte = 0;
  std::optional<std::uint8_t> bit;

  // With Verdict::good:
  Reservations after;
  std::vector<NexusNotice> notices;
  std::vector<NexusName> aborted;  // PREEMPT AND ABORT: whose commands end, this one aside, before `after`
                                   // counts
};

// `who` sent the request; `target_ports` are the relative identifiers of all target ports of the unit.
[[nodiscard]] ReservationOutcome change_reservations(const Reservations& before, const NexusName& who,
                                                     const ReservationRequest& request,
                                                     std::span<const std::uint16_t> target_ports);

// RESERVE and RELEASE, of 6 and 10 bytes, as SPC-2 has them and with the exceptions of SPC-4 5.13.3 (CRH)
// where there are registrations.
[[nodiscard]] ReservationOutcome reserve_unit(const Reservations& before, const NexusName& who,
                                              std::uint64_t life);
[[nodiscard]] ReservationOutcome release_unit(const Reservations& before, const NexusName& who);

}  // namespace perilune::scsi
