// SPDX-License-Identifier: Apache-2.0
#include "scsi/reservations.hpp"

#include <algorithm>

#include "base/limits.hpp"

namespace perilune::scsi {

bool is_reservation_type(std::uint8_t code) noexcept {
  return code == 1 || code == 3 || (code >= 5 && code <= 8);
}

bool is_all_registrants(ReservationType type) noexcept {
  return type == ReservationType::write_exclusive_all_registrants ||
         type == ReservationType::exclusive_access_all_registrants;
}

bool admits_registrants(ReservationType type) noexcept {
  return type != ReservationType::write_exclusive && type != ReservationType::exclusive_access;
}

bool is_write_exclusive(ReservationType type) noexcept {
  return type == ReservationType::write_exclusive ||
         type == ReservationType::write_exclusive_registrants_only ||
         type == ReservationType::write_exclusive_all_registrants;
}

const Registration* Reservations::find(std::string_view initiator_port,
                                       std::uint16_t target_port) const noexcept {
  const auto found =
      std::find_if(registrations.begin(), registrations.end(), [&](const Registration& registration) {
        return registration.nexus.target_port == target_port &&
               registration.nexus.initiator_port == initiator_port;
      });
  return found == registrations.end() ? nullptr : &*found;
}

bool Reservations::holds(const Registration& registration) const noexcept {
  return persistent && (is_all_registrants(persistent->type) || persistent->holder == registration.nexus);
}

ReservationAccess access_of(const Reservations& reservations, std::string_view initiator_port,
                            std::uint16_t target_port) noexcept {
  if (reservations.reserved_by) {
    const NexusName& holder = *reservations.reserved_by;
    const bool own = holder.target_port == target_port && holder.initiator_port == initiator_port;
    return own ? ReservationAccess::all : ReservationAccess::reserved;
  }
  if (!reservations.persistent) return ReservationAccess::all;
  const ReservationType type = reservations.persistent->type;
  const Registration* own = reservations.find(initiator_port, target_port);
  if (own != nullptr && (admits_registrants(type) || reservations.holds(*own))) return ReservationAccess::all;
  return is_write_exclusive(type) ? ReservationAccess::write_exclusive : ReservationAccess::exclusive_access;
}

namespace {

using Action = ReservationRequest::Action;
using Verdict = ReservationOutcome::Verdict;

// One PERSISTENT RESERVE OUT on a copy of the value.
class Change {
 public:
  Change(const Reservations& before, const NexusName& who, const ReservationRequest& request,
         std::span<const std::uint16_t> target_ports)
      : who_(who), request_(request), target_ports_(target_ports) {
    outcome_.after = before;
  }

  ReservationOutcome run() {
    switch (request_.action) {
      case Action::register_key:
        register_key(false);
        break;
      case Action::register_and_ignore:
        register_key(true);
        break;
      case Action::reserve:
        reserve();
        break;
      case Action::release:
        release();
        break;
      case Action::clear:
        clear();
        break;
      case Action::preempt:
      case Action::preempt_and_abort:
        preempt();
        break;
      case Action::register_and_move:
        register_and_move();
        break;
    }
    return std::move(outcome_);
  }

 private:
  void refuse(Verdict verdict, std::uint16_t byte = 0, std::optional<std::uint8_t> bit = std::nullopt) {
    outcome_.verdict = verdict;
    outcome_.byte = byte;
    outcome_.bit = bit;
  }
  [[nodiscard]] Reservations& state() noexcept { return outcome_.after; }
  [[nodiscard]] Registration* find(const NexusName& nexus) noexcept {
    return const_cast<Registration*>(state().find(nexus));
  }
  [[nodiscard]] const Registration* own() noexcept { return state().find(who_); }
  // The key must be the registered one, whatever the service action (SPC-4 6.16.3).
  [[nodiscard]] bool authorised() {
    const Registration* registration = own();
    if (registration != nullptr && registration->key == request_.key) return true;
    refuse(Verdict::conflict);
    return false;
  }
  [[nodiscard]] bool type_is_valid() {
    if (request_.scope == 0 && is_reservation_type(request_.type)) return true;
    refuse(Verdict::invalid_cdb_field, 2, request_.scope != 0 ? std::uint8_t{7} : std::uint8_t{3});
    return false;
  }
  void notify_registered(UnitAttention attention) {
    for (const Registration& registration : state().registrations) {
      if (registration.nexus != who_) outcome_.notices.push_back({registration.nexus, attention});
    }
  }

  // Takes registrations out, and with them the reservation where nobody is left to hold it
  // (SPC-4 5.13.11.2.3).
  template <class Lost>
  void remove(Lost lost) {
    const bool held_by_one = state().persistent && !is_all_registrants(state().persistent->type);
    std::erase_if(state().registrations, lost);
    if (!state().persistent) return;
    if (held_by_one) {
      if (find(state().persistent->holder) == nullptr) end_reservation();
    } else if (state().registrations.empty()) {
      state().persistent.reset();
    }
  }
  // Others that had access learn that it is over; under the types that admit only the holder there are none.
  void end_reservation() {
    if (admits_registrants(state().persistent->type)) notify_registered(UnitAttention::reservations_released);
    state().persistent.reset();
  }

  // ---- REGISTER, REGISTER AND IGNORE EXISTING KEY (SPC-4 5.13.7)

  std::vector<std::uint16_t> ports() const {
    std::vector<std::uint16_t> all{who_.target_port};
    if (!request_.all_target_ports) return all;
    for (const std::uint16_t port : target_ports_) {
      if (port != who_.target_port) all.push_back(port);
    }
    return all;
  }

  void register_key(bool ignore) {
    const Registration* registration = own();
    if (!ignore && request_.key != (registration != nullptr ? registration->key : 0))
      return refuse(Verdict::conflict);
    if (request_.specifies_ports && (registration != nullptr || request_.action_key == 0)) {
      return refuse(Verdict::invalid_list_field, 20, std::uint8_t{3});
    }
    const std::vector<std::uint16_t> target_ports = ports();
    for (const std::uint16_t port : target_ports) {  // as if it had come through each of them
      const Registration* there = state().find(who_.initiator_port, port);
      if (!ignore && there != nullptr && there->key != request_.key) return refuse(Verdict::conflict);
    }
    if (request_.action_key == 0) return unregister(target_ports);
    for (const std::uint16_t port : target_ports) {
      if (!set_key({who_.initiator_port, port})) return;
    }
    for (const ReservationRequest::Port& port : request_.ports) {
      for (const std::uint16_t target_port : target_ports) {
        const NexusName nexus{port.name, target_port};
        const Registration* there = state().find(nexus);
        if (there != nullptr && there->key != request_.action_key)
          return refuse(Verdict::invalid_list_field, port.byte);
        if (!set_key(nexus)) return;
      }
    }
    registered();
  }
  [[nodiscard]] bool set_key(const NexusName& nexus) {
    Registration* there = find(nexus);
    if (there == nullptr) {
      if (state().registrations.size() >= limits::max_registrations) {
        refuse(Verdict::no_resources);
        return false;
      }
      there = &state().registrations.emplace_back(Registration{nexus, 0, false});
    }
    there->key = request_.action_key;
    there->all_target_ports = request_.all_target_ports;
    return true;
  }
  void unregister(const std::vector<std::uint16_t>& target_ports) {
    const auto lost = [&](const Registration& registration) {
      return registration.nexus.initiator_port == who_.initiator_port &&
             std::find(target_ports.begin(), target_ports.end(), registration.nexus.target_port) !=
                 target_ports.end();
    };
    const auto& all = state().registrations;
    if (std::none_of(all.begin(), all.end(), lost)) return;  // nothing to do, and nothing is done
    remove(lost);
    registered();
  }
  void registered() {
    state().aptpl = request_.aptpl;
    ++state().generation;
  }

  // ---- RESERVE (SPC-4 5.13.9), RELEASE (SPC-4 5.13.11.2.2), CLEAR (SPC-4 5.13.11.2.6)

  void reserve() {
    if (!type_is_valid() || !authorised()) return;
    const auto type = static_cast<ReservationType>(request_.type);
    if (state().persistent) {
      if (!state().holds(*own()) || state().persistent->type != type) refuse(Verdict::conflict);
      return;
    }
    hold(type);
  }
  void hold(ReservationType type) {
    state().persistent = PersistentReservation{type, is_all_registrants(type) ? NexusName{} : who_};
  }

  void release() {
    if (!authorised() || !state().persistent || !state().holds(*own())) return;
    const ReservationType type = state().persistent->type;
    if (request_.scope != 0 || request_.type != static_cast<std::uint8_t>(type))
      return refuse(Verdict::invalid_release);
    end_reservation();
  }

  void clear() {
    if (!authorised()) return;
    notify_registered(UnitAttention::reservations_preempted);
    state().persistent.reset();
    state().registrations.clear();
    ++state().generation;
  }

  // ---- PREEMPT, PREEMPT AND ABORT (SPC-4 5.13.11.2.4, 5.13.11.2.5)

  void preempt() {
    if (!authorised()) return;
    const std::uint64_t key = request_.action_key;
    const bool all_registrants = state().persistent && is_all_registrants(state().persistent->type);
    if (key == 0 && !all_registrants) return refuse(Verdict::invalid_list_field, 8);
    const bool takes_over = all_registrants ? key == 0 : holder_has_key(key);
    if (takes_over && !type_is_valid()) return;
    const auto named = [&](const Registration& registration) { return key == 0 || registration.key == key; };
    const auto& all = state().registrations;
    if (std::none_of(all.begin(), all.end(), named)) return refuse(Verdict::conflict);
    const auto lost = [&](const Registration& registration) {
      return named(registration) && !(takes_over && registration.nexus == who_);
    };
    for (const Registration& registration : all) {
      if (request_.action == Action::preempt_and_abort && named(registration) &&
          (key != 0 || registration.nexus != who_)) {
        outcome_.aborted.push_back(registration.nexus);
      }
      if (lost(registration) && registration.nexus != who_) {
        outcome_.notices.push_back({registration.nexus, UnitAttention::registrations_preempted});
      }
    }
    if (takes_over) {
      const auto type = static_cast<ReservationType>(request_.type);
      const bool changed = state().persistent->type != type;
      state().persistent.reset();
      std::erase_if(state().registrations, lost);
      if (changed) notify_registered(UnitAttention::reservations_released);
      hold(type);
    } else {
      remove(lost);
    }
    ++state().generation;
  }
  [[nodiscard]] bool holder_has_key(std::uint64_t key) {
    if (!state().persistent) return false;
    const Registration* holder = find(state().persistent->holder);
    return holder != nullptr && holder->key == key;
  }

  // ---- REGISTER AND MOVE (SPC-4 5.13.8)

  void register_and_move() {
    if (!authorised()) return;
    if (!state().persistent || is_all_registrants(state().persistent->type) || !state().holds(*own())) {
      return refuse(Verdict::conflict);
    }
    if (request_.action_key == 0) return refuse(Verdict::invalid_list_field, 8);
    if (std::find(target_ports_.begin(), target_ports_.end(), request_.target_port) == target_ports_.end()) {
      return refuse(Verdict::invalid_list_field, 18);
    }
    const ReservationRequest::Port& port = request_.ports.front();
    const NexusName destination{port.name, request_.target_port};
    if (destination == who_) return refuse(Verdict::invalid_list_field, port.byte);
    if (!set_key(destination)) return;
    state().persistent->holder = destination;
    if (request_.unregister) {
      std::erase_if(state().registrations,
                    [&](const Registration& registration) { return registration.nexus == who_; });
    }
    registered();
  }

  NexusName who_;
  const ReservationRequest& request_;
  std::span<const std::uint16_t> target_ports_;
  ReservationOutcome outcome_;
};

// SPC-4 5.13.3: to whom a persistent reservation gives access, RESERVE and RELEASE answer GOOD and change
// nothing. Everybody else conflicts as long as anybody is registered (SPC-2 5.5.1).
ReservationOutcome beside_registrations(const Reservations& before, const NexusName& who) {
  ReservationOutcome outcome;
  const Registration* own = before.find(who);
  const bool compatible = own != nullptr && before.persistent &&
                          (before.holds(*own) || admits_registrants(before.persistent->type));
  if (!compatible) outcome.verdict = Verdict::conflict;
  outcome.after = before;
  return outcome;
}

}  // namespace

ReservationOutcome change_reservations(const Reservations& before, const NexusName& who,
                                       const ReservationRequest& request,
                                       std::span<const std::uint16_t> target_ports) {
  if (before.reserved_by) {  // SPC-2 5.5.1: from the nexus that reserved it, too
    ReservationOutcome outcome;
    outcome.verdict = Verdict::conflict;
    return outcome;
  }
  return Change(before, who, request, target_ports).run();
}

ReservationOutcome reserve_unit(const Reservations& before, const NexusName& who, std::uint64_t life) {
  if (!before.registrations.empty()) return beside_registrations(before, who);
  ReservationOutcome outcome;
  outcome.after = before;
  if (before.reserved_by && *before.reserved_by != who) {
    outcome.verdict = Verdict::conflict;
  } else {
    outcome.after.reserved_by = who;
    outcome.after.reserved_in_life = life;
  }
  return outcome;
}

ReservationOutcome release_unit(const Reservations& before, const NexusName& who) {
  if (!before.registrations.empty()) return beside_registrations(before, who);
  ReservationOutcome outcome;
  outcome.after = before;
  if (before.reserved_by == who)
    outcome.after.reserved_by.reset();  // of another nexus: GOOD, and it stays (SPC-2 7.17)
  return outcome;
}

}  // namespace perilune::scsi
