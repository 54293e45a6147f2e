// SPDX-License-Identifier: Apache-2.0
// The rules of SPC-4 5.13 on the bare value.
#include "scsi/reservations.hpp"

#include <gtest/gtest.h>

#include "base/limits.hpp"

namespace perilune::scsi {
namespace {

using Action = ReservationRequest::Action;
using Verdict = ReservationOutcome::Verdict;

constexpr std::uint8_t we = 1, ea = 3, we_ro = 5, ea_ro = 6, we_ar = 7, ea_ar = 8;
const NexusName a{"iqn.a,i,0x000000000001", 1}, b{"iqn.b,i,0x000000000002", 1},
    c{"iqn.c,i,0x000000000003", 1};
const std::vector<std::uint16_t> one_port{1};

// A unit's reservations and what its requests came to.
struct Unit {
  Reservations state;
  ReservationOutcome last;
  std::vector<std::uint16_t> ports = one_port;

  Verdict send(const NexusName& who, ReservationRequest request) {
    last = change_reservations(state, who, request, ports);
    if (last.verdict == Verdict::good) state = last.after;
    return last.verdict;
  }
  Verdict send(const NexusName& who, Action action, std::uint64_t key, std::uint64_t action_key = 0,
               std::uint8_t type = 0) {
    return send(who, {.action = action, .type = type, .key = key, .action_key = action_key, .ports = {}});
  }
  Unit& registered(std::initializer_list<std::pair<NexusName, std::uint64_t>> all) {
    for (const auto& [nexus, key] : all) EXPECT_EQ(send(nexus, Action::register_key, 0, key), Verdict::good);
    return *this;
  }
  Unit& reserved(const NexusName& who, std::uint64_t key, std::uint8_t type) {
    EXPECT_EQ(send(who, Action::reserve, key, 0, type), Verdict::good);
    return *this;
  }
  [[nodiscard]] std::uint64_t key_of(const NexusName& nexus) const {
    const Registration* found = state.find(nexus);
    return found != nullptr ? found->key : 0;
  }
  [[nodiscard]] int type() const { return state.persistent ? static_cast<int>(state.persistent->type) : 0; }
  [[nodiscard]] ReservationAccess access(const NexusName& who) const {
    return access_of(state, who.initiator_port, who.target_port);
  }
};

std::vector<NexusNotice> told(UnitAttention attention, std::initializer_list<NexusName> nexuses) {
  std::vector<NexusNotice> notices;
  for (const NexusName& nexus : nexuses) notices.push_back({nexus, attention});
  return notices;
}

// ---- registering

TEST(Reservations, RegisterOfAnUnregisteredNexusWantsKeyZero) {
  Unit u;
  EXPECT_EQ(u.send(a, Action::register_key, 7, 5), Verdict::conflict);
  EXPECT_TRUE(u.state.registrations.empty());
  EXPECT_EQ(u.send(a, Action::register_key, 0, 5), Verdict::good);
  EXPECT_EQ(u.key_of(a), 5u);
}

TEST(Reservations, RegisterOfARegisteredNexusWantsItsKey) {
  Unit u;
  u.registered({{a, 5}});
  EXPECT_EQ(u.send(a, Action::register_key, 0, 6), Verdict::conflict);
  EXPECT_EQ(u.send(a, Action::register_key, 4, 6), Verdict::conflict);
  EXPECT_EQ(u.key_of(a), 5u);
  EXPECT_EQ(u.send(a, Action::register_key, 5, 6), Verdict::good);
  EXPECT_EQ(u.key_of(a), 6u);
  EXPECT_EQ(u.state.registrations.size(), 1u);
}

TEST(Reservations, RegisterAndIgnoreAsksForNoKey) {
  Unit u;
  EXPECT_EQ(u.send(a, Action::register_and_ignore, 99, 5), Verdict::good);
  EXPECT_EQ(u.send(a, Action::register_and_ignore, 98, 6), Verdict::good);
  EXPECT_EQ(u.key_of(a), 6u);
  EXPECT_EQ(u.send(a, Action::register_and_ignore, 97, 0), Verdict::good);
  EXPECT_TRUE(u.state.registrations.empty());
}

TEST(Reservations, NothingIsDoneWhereNobodyIsRegisteredAndNobodyShallBe) {
  Unit u;
  u.state.aptpl = true;
  EXPECT_EQ(u.send(a, Action::register_key, 0, 0), Verdict::good);
  EXPECT_EQ(u.send(a, Action::register_and_ignore, 3, 0), Verdict::good);
  EXPECT_EQ(u.state.generation, 0u);
  EXPECT_TRUE(u.state.aptpl);
}

TEST(Reservations, TheSameInitiatorPortThroughAnotherTargetPortIsAnotherNexus) {
  Unit u;
  u.ports = {1, 2};
  u.registered({{a, 5}});
  const NexusName a2{a.initiator_port, 2};
  EXPECT_EQ(u.send(a2, Action::reserve, 5, 0, we), Verdict::conflict);
  u.registered({{a2, 6}});
  EXPECT_EQ(u.key_of(a), 5u);
}

TEST(Reservations, AllTargetPortsRegistersThroughEach) {
  Unit u;
  u.ports = {1, 2, 9};
  EXPECT_EQ(
      u.send(a, {.action = Action::register_key, .action_key = 5, .all_target_ports = true, .ports = {}}),
      Verdict::good);
  EXPECT_EQ(u.state.registrations.size(), 3u);
  EXPECT_EQ(u.key_of({a.initiator_port, 9}), 5u);
  EXPECT_EQ(u.state.generation, 1u);
  EXPECT_EQ(u.send({a.initiator_port, 2}, Action::register_key, 5, 6), Verdict::good);
  EXPECT_EQ(u.key_of(a), 5u);
  // As if it had come through each: port 2 has another key by now.
  EXPECT_EQ(
      u.send(
          a,
          {.action = Action::register_key, .key = 5, .action_key = 0, .all_target_ports = true, .ports = {}}),
      Verdict::conflict);
  EXPECT_EQ(
      u.send(a,
             {.action = Action::register_and_ignore, .action_key = 0, .all_target_ports = true, .ports = {}}),
      Verdict::good);
  EXPECT_TRUE(u.state.registrations.empty());
}

TEST(Reservations, SpecifiedPortsAreRegisteredAllOrNone) {
  Unit u;
  u.registered({{c, 9}});
  ReservationRequest request{.action = Action::register_key,
                             .action_key = 5,
                             .specifies_ports = true,
                             .ports = {{b.initiator_port, 28}, {c.initiator_port, 60}}};
  EXPECT_EQ(u.send(a, request), Verdict::invalid_list_field);
  EXPECT_EQ(u.last.byte, 60);
  EXPECT_EQ(u.key_of(a), 0u);
  request.ports.pop_back();
  EXPECT_EQ(u.send(a, request), Verdict::good);
  EXPECT_EQ(u.key_of(a), 5u);
  EXPECT_EQ(u.key_of(b), 5u);
  // Of a registered nexus, or with no key to register.
  request.key = 5;
  EXPECT_EQ(u.send(a, request), Verdict::invalid_list_field);
  EXPECT_EQ(u.last.byte, 20);
  request.key = request.action_key = 0;
  EXPECT_EQ(u.send({"iqn.d,i,0x000000000004", 1}, request), Verdict::invalid_list_field);
}

TEST(Reservations, RegistrationsHaveALimit) {
  Unit u;
  for (std::size_t i = 0; i < limits::max_registrations; ++i)
    u.state.registrations.push_back({{std::to_string(i), 1}, 1, false});
  EXPECT_EQ(u.send(a, Action::register_key, 0, 5), Verdict::no_resources);
  EXPECT_EQ(u.send(a, Action::register_and_ignore, 0, 5), Verdict::no_resources);
  EXPECT_EQ(u.send({"17", 1}, Action::register_key, 1, 2), Verdict::good);
}

TEST(Reservations, AptplIsThatOfTheLastRegistration) {
  Unit u;
  EXPECT_EQ(u.send(a, {.action = Action::register_key, .action_key = 5, .aptpl = true, .ports = {}}),
            Verdict::good);
  EXPECT_TRUE(u.state.aptpl);
  EXPECT_EQ(u.send(a, Action::reserve, 5, 0, we), Verdict::good);
  EXPECT_TRUE(u.state.aptpl);
  EXPECT_EQ(u.send(b, Action::register_key, 0, 6), Verdict::good);
  EXPECT_FALSE(u.state.aptpl);
}

TEST(Reservations, GenerationCountsWhatChangesRegistrationsAndNothingElse) {
  Unit u;
  u.registered({{a, 5}, {b, 6}});
  EXPECT_EQ(u.state.generation, 2u);
  u.reserved(a, 5, we);
  EXPECT_EQ(u.send(a, Action::release, 5, 0, we), Verdict::good);
  EXPECT_EQ(u.send(b, Action::reserve, 1, 0, we), Verdict::conflict);
  EXPECT_EQ(u.state.generation, 2u);
  EXPECT_EQ(u.send(a, Action::register_key, 5, 7), Verdict::good);
  EXPECT_EQ(u.send(a, Action::preempt, 7, 6, we), Verdict::good);
  EXPECT_EQ(u.state.generation, 4u);
  EXPECT_EQ(u.send(a, Action::clear, 7), Verdict::good);
  EXPECT_EQ(u.state.generation, 5u);
}

TEST(Reservations, GenerationWraps) {
  Unit u;
  u.state.generation = 0xffff'ffff;
  u.registered({{a, 5}});
  EXPECT_EQ(u.state.generation, 0u);
}

// ---- unregistering

TEST(Reservations, AHolderThatUnregistersReleases) {
  for (const std::uint8_t type : std::initializer_list<std::uint8_t>{we, ea, we_ro, ea_ro}) {
    Unit u;
    u.registered({{a, 5}, {b, 6}}).reserved(a, 5, type);
    EXPECT_EQ(u.send(a, Action::register_key, 5, 0), Verdict::good);
    EXPECT_EQ(u.type(), 0);
    const bool registrants = type == we_ro || type == ea_ro;
    EXPECT_EQ(u.last.notices,
              registrants ? told(UnitAttention::reservations_released, {b}) : std::vector<NexusNotice>{});
  }
}

TEST(Reservations, OthersMayUnregisterUnderAReservation) {
  Unit u;
  u.registered({{a, 5}, {b, 6}}).reserved(a, 5, we_ro);
  EXPECT_EQ(u.send(b, Action::register_key, 6, 0), Verdict::good);
  EXPECT_EQ(u.type(), we_ro);
  EXPECT_TRUE(u.last.notices.empty());
}

TEST(Reservations, OfAllRegistrantsTheLastOneReleases) {
  for (const std::uint8_t type : std::initializer_list<std::uint8_t>{we_ar, ea_ar}) {
    Unit u;
    u.registered({{a, 5}, {b, 6}}).reserved(a, 5, type);
    EXPECT_EQ(u.send(a, Action::register_key, 5, 0), Verdict::good);
    EXPECT_EQ(u.type(), type);
    EXPECT_TRUE(u.last.notices.empty());
    EXPECT_EQ(u.send(b, Action::register_key, 6, 0), Verdict::good);
    EXPECT_EQ(u.type(), 0);
  }
}

// ---- reserving and releasing

TEST(Reservations, ReserveNeedsARegistrationAndItsKey) {
  Unit u;
  u.registered({{a, 5}});
  EXPECT_EQ(u.send(b, Action::reserve, 0, 0, we), Verdict::conflict);
  EXPECT_EQ(u.send(a, Action::reserve, 6, 0, we), Verdict::conflict);
  EXPECT_EQ(u.send(a, Action::reserve, 5, 0, we), Verdict::good);
  EXPECT_EQ(u.state.persistent->holder, a);
}

TEST(Reservations, ReserveAgainIsGoodForTheHolderAndConflictsForOthers) {
  Unit u;
  u.registered({{a, 5}, {b, 6}}).reserved(a, 5, we_ro);
  EXPECT_EQ(u.send(a, Action::reserve, 5, 0, we_ro), Verdict::good);
  EXPECT_EQ(u.send(a, Action::reserve, 5, 0, ea_ro), Verdict::conflict);
  EXPECT_EQ(u.send(b, Action::reserve, 6, 0, we_ro), Verdict::conflict);
}

TEST(Reservations, UnderAllRegistrantsEveryRegistrantIsAHolder) {
  Unit u;
  u.registered({{a, 5}, {b, 6}}).reserved(a, 5, ea_ar);
  EXPECT_EQ(u.send(b, Action::reserve, 6, 0, ea_ar), Verdict::good);
  EXPECT_EQ(u.send(b, Action::reserve, 6, 0, we_ar), Verdict::conflict);
  EXPECT_EQ(u.send(b, Action::release, 6, 0, ea_ar), Verdict::good);
  EXPECT_EQ(u.type(), 0);
  EXPECT_EQ(u.last.notices, told(UnitAttention::reservations_released, {a}));
}

TEST(Reservations, ReservedTypesAndScopesAreInvalidFieldsOfTheCdb) {
  Unit u;
  u.registered({{a, 5}});
  for (const std::uint8_t type : std::initializer_list<std::uint8_t>{0, 2, 4, 9, 15}) {
    EXPECT_EQ(u.send(a, Action::reserve, 5, 0, type), Verdict::invalid_cdb_field);
    EXPECT_EQ(u.last.byte, 2);
    EXPECT_EQ(u.last.bit, 3);
  }
  EXPECT_EQ(u.send(a, {.action = Action::reserve, .scope = 1, .type = we, .key = 5, .ports = {}}),
            Verdict::invalid_cdb_field);
  EXPECT_EQ(u.last.bit, 7);
}

TEST(Reservations, ReleaseTellsRegistrantsOfTheTypesThatAdmitThem) {
  for (const std::uint8_t type : std::initializer_list<std::uint8_t>{we, ea, we_ro, ea_ro, we_ar, ea_ar}) {
    Unit u;
    u.registered({{a, 5}, {b, 6}, {c, 7}}).reserved(a, 5, type);
    EXPECT_EQ(u.send(a, Action::release, 5, 0, type), Verdict::good);
    EXPECT_EQ(u.type(), 0);
    EXPECT_EQ(u.state.registrations.size(), 3u);
    EXPECT_EQ(u.last.notices, type == we || type == ea ? std::vector<NexusNotice>{}
                                                       : told(UnitAttention::reservations_released, {b, c}));
  }
}

TEST(Reservations, ReleaseOfWhatOneDoesNotHoldIsGoodAndDoesNothing) {
  Unit u;
  u.registered({{a, 5}, {b, 6}});
  EXPECT_EQ(u.send(a, Action::release, 5, 0, we), Verdict::good);
  u.reserved(a, 5, we);
  EXPECT_EQ(u.send(b, Action::release, 6, 0, ea), Verdict::good);
  EXPECT_EQ(u.type(), we);
  EXPECT_EQ(u.send(b, Action::release, 1, 0, we), Verdict::conflict);
  EXPECT_EQ(u.send(c, Action::release, 0, 0, we), Verdict::conflict);
}

TEST(Reservations, ReleaseOfAnotherTypeIsAnInvalidRelease) {
  Unit u;
  u.registered({{a, 5}}).reserved(a, 5, we);
  EXPECT_EQ(u.send(a, Action::release, 5, 0, ea), Verdict::invalid_release);
  EXPECT_EQ(u.send(a, {.action = Action::release, .scope = 1, .type = we, .key = 5, .ports = {}}),
            Verdict::invalid_release);
  EXPECT_EQ(u.type(), we);
}

TEST(Reservations, ClearTakesEverythingAndTellsTheOthers) {
  Unit u;
  u.registered({{a, 5}, {b, 6}, {c, 7}}).reserved(a, 5, ea);
  EXPECT_EQ(u.send(b, Action::clear, 5), Verdict::conflict);
  EXPECT_EQ(u.send(b, Action::clear, 6), Verdict::good);
  EXPECT_EQ(u.type(), 0);
  EXPECT_TRUE(u.state.registrations.empty());
  EXPECT_EQ(u.last.notices, told(UnitAttention::reservations_preempted, {a, c}));
}

// ---- preempting

TEST(Reservations, PreemptTakesTheReservationOver) {
  Unit u;
  u.registered({{a, 5}, {b, 6}, {c, 7}}).reserved(a, 5, ea);
  EXPECT_EQ(u.send(b, Action::preempt, 6, 5, ea), Verdict::good);
  EXPECT_EQ(u.state.persistent->holder, b);
  EXPECT_EQ(u.key_of(a), 0u);
  EXPECT_EQ(u.key_of(c), 7u);
  EXPECT_EQ(u.last.notices, told(UnitAttention::registrations_preempted, {a}));
  EXPECT_TRUE(u.last.aborted.empty());
}

TEST(Reservations, PreemptWithAnotherTypeTellsThoseWhoStay) {
  Unit u;
  u.registered({{a, 5}, {b, 6}, {c, 7}}).reserved(a, 5, we_ro);
  EXPECT_EQ(u.send(b, Action::preempt, 6, 5, ea), Verdict::good);
  EXPECT_EQ(u.type(), ea);
  std::vector<NexusNotice> all = told(UnitAttention::registrations_preempted, {a});
  all.push_back({c, UnitAttention::reservations_released});
  EXPECT_EQ(u.last.notices, all);
}

TEST(Reservations, PreemptOfAKeyThatHoldsNothingRemovesRegistrations) {
  Unit u;
  u.registered({{a, 5}, {b, 6}, {c, 6}}).reserved(a, 5, we_ro);
  EXPECT_EQ(u.send(a, Action::preempt, 5, 6, 0x0f), Verdict::good);  // TYPE is ignored
  EXPECT_EQ(u.type(), we_ro);
  EXPECT_EQ(u.state.persistent->holder, a);
  EXPECT_EQ(u.state.registrations.size(), 1u);
  EXPECT_EQ(u.last.notices, told(UnitAttention::registrations_preempted, {b, c}));
}

TEST(Reservations, PreemptWorksWithoutAReservation) {
  Unit u;
  u.registered({{a, 5}, {b, 6}});
  EXPECT_EQ(u.send(a, Action::preempt, 5, 6, 0), Verdict::good);
  EXPECT_EQ(u.key_of(b), 0u);
  EXPECT_EQ(u.type(), 0);
}

TEST(Reservations, PreemptOfAnUnknownKeyConflicts) {
  Unit u;
  u.registered({{a, 5}, {b, 6}}).reserved(a, 5, we_ar);
  EXPECT_EQ(u.send(a, Action::preempt, 5, 99, we), Verdict::conflict);
  EXPECT_EQ(u.send(c, Action::preempt, 0, 5, we), Verdict::conflict);
  EXPECT_EQ(u.send(b, Action::preempt, 5, 6, we), Verdict::conflict);
}

TEST(Reservations, PreemptOfKeyZeroIsForAllRegistrantsAlone) {
  Unit u;
  u.registered({{a, 5}, {b, 6}, {c, 7}});
  EXPECT_EQ(u.send(a, Action::preempt, 5, 0, we), Verdict::invalid_list_field);
  EXPECT_EQ(u.last.byte, 8);
  u.reserved(a, 5, we_ro);
  EXPECT_EQ(u.send(a, Action::preempt, 5, 0, we), Verdict::invalid_list_field);
  EXPECT_EQ(u.send(a, Action::release, 5, 0, we_ro), Verdict::good);
  u.reserved(a, 5, we_ar);
  EXPECT_EQ(u.send(b, Action::preempt, 6, 0, ea), Verdict::good);
  EXPECT_EQ(u.type(), ea);
  EXPECT_EQ(u.state.persistent->holder, b);
  EXPECT_EQ(u.state.registrations.size(), 1u);
  EXPECT_EQ(u.last.notices, told(UnitAttention::registrations_preempted, {a, c}));
}

TEST(Reservations, PreemptOfOneRegistrantLeavesTheReservationOfAll) {
  Unit u;
  u.registered({{a, 5}, {b, 6}}).reserved(a, 5, ea_ar);
  EXPECT_EQ(u.send(a, Action::preempt, 5, 6, we), Verdict::good);
  EXPECT_EQ(u.type(), ea_ar);
  EXPECT_EQ(u.key_of(b), 0u);
}

TEST(Reservations, PreemptOfTheLastRegistrantsKeyReleasesTheReservationOfAll) {
  Unit u;
  u.registered({{a, 5}, {b, 5}}).reserved(a, 5, ea_ar);
  EXPECT_EQ(u.send(a, Action::preempt, 5, 5, we), Verdict::good);
  EXPECT_TRUE(u.state.registrations.empty());
  EXPECT_EQ(u.type(), 0);
  EXPECT_EQ(u.last.notices, told(UnitAttention::registrations_preempted, {b}));
}

TEST(Reservations, AHolderPreemptsItselfToChangeTheType) {
  Unit u;
  u.registered({{a, 5}, {b, 5}, {c, 7}}).reserved(a, 5, we_ro);
  EXPECT_EQ(u.send(a, Action::preempt, 5, 5, ea_ro), Verdict::good);
  EXPECT_EQ(u.type(), ea_ro);
  EXPECT_EQ(u.state.persistent->holder, a);
  EXPECT_EQ(u.key_of(a), 5u);
  EXPECT_EQ(u.key_of(b), 0u);
  EXPECT_EQ(u.key_of(c), 7u);
}

TEST(Reservations, PreemptOfTheHolderWantsAValidType) {
  Unit u;
  u.registered({{a, 5}, {b, 6}}).reserved(a, 5, we);
  EXPECT_EQ(u.send(b, Action::preempt, 6, 5, 4), Verdict::invalid_cdb_field);
  EXPECT_EQ(u.state.persistent->holder, a);
}

TEST(Reservations, PreemptAndAbortNamesWhoseCommandsEnd) {
  Unit u;
  u.registered({{a, 5}, {b, 6}, {c, 5}}).reserved(a, 5, we);
  EXPECT_EQ(u.send(b, Action::preempt_and_abort, 6, 5, ea), Verdict::good);
  EXPECT_EQ(u.last.aborted, (std::vector<NexusName>{a, c}));
  EXPECT_EQ(u.send(b, Action::preempt_and_abort, 6, 6, we), Verdict::good);
  EXPECT_EQ(u.last.aborted, std::vector<NexusName>{b});  // its own others
  EXPECT_EQ(u.key_of(b), 6u);
}

TEST(Reservations, PreemptAndAbortOfAllRegistrantsSparesTheSender) {
  Unit u;
  u.registered({{a, 5}, {b, 6}}).reserved(a, 5, we_ar);
  EXPECT_EQ(u.send(b, Action::preempt_and_abort, 6, 0, we_ar), Verdict::good);
  EXPECT_EQ(u.last.aborted, std::vector<NexusName>{a});
}

// ---- moving

ReservationRequest move_to(const NexusName& nexus, std::uint64_t key, std::uint64_t action_key,
                           bool unregister = false) {
  return {.action = Action::register_and_move,
          .key = key,
          .action_key = action_key,
          .unregister = unregister,
          .ports = {{nexus.initiator_port, 24}},
          .target_port = nexus.target_port};
}

TEST(Reservations, MoveRegistersTheNewHolder) {
  Unit u;
  u.registered({{a, 5}}).reserved(a, 5, we_ro);
  EXPECT_EQ(u.send(a, move_to(b, 5, 8)), Verdict::good);
  EXPECT_EQ(u.state.persistent->holder, b);
  EXPECT_EQ(u.type(), we_ro);
  EXPECT_EQ(u.key_of(b), 8u);
  EXPECT_EQ(u.key_of(a), 5u);
  EXPECT_EQ(u.state.generation, 2u);
  EXPECT_TRUE(u.last.notices.empty());
  EXPECT_EQ(u.send(b, move_to(a, 8, 9, true)), Verdict::good);
  EXPECT_EQ(u.key_of(a), 9u);
  EXPECT_EQ(u.key_of(b), 0u);
}

TEST(Reservations, OnlyTheSingleHolderMoves) {
  Unit u;
  u.registered({{a, 5}, {b, 6}});
  EXPECT_EQ(u.send(a, move_to(c, 5, 8)), Verdict::conflict);  // nothing to move
  u.reserved(a, 5, we);
  EXPECT_EQ(u.send(b, move_to(c, 6, 8)), Verdict::conflict);
  EXPECT_EQ(u.send(a, move_to(c, 6, 8)), Verdict::conflict);
  EXPECT_EQ(u.send(a, Action::preempt, 5, 5, we_ar), Verdict::good);
  EXPECT_EQ(u.send(a, move_to(c, 5, 8)), Verdict::conflict);
}

TEST(Reservations, MoveWantsAKeyAnotherNexusAndAKnownTargetPort) {
  Unit u;
  u.registered({{a, 5}}).reserved(a, 5, we);
  EXPECT_EQ(u.send(a, move_to(b, 5, 0)), Verdict::invalid_list_field);
  EXPECT_EQ(u.last.byte, 8);
  EXPECT_EQ(u.send(a, move_to(a, 5, 8)), Verdict::invalid_list_field);
  EXPECT_EQ(u.last.byte, 24);
  EXPECT_EQ(u.send(a, move_to({b.initiator_port, 2}, 5, 8)), Verdict::invalid_list_field);
  EXPECT_EQ(u.last.byte, 18);
  EXPECT_EQ(u.state.persistent->holder, a);
}

// ---- who may do what

TEST(Reservations, AccessFollowsTypeRegistrationAndHolding) {
  struct Row {
    std::uint8_t type;
    ReservationAccess registrant, stranger;
  };
  using enum ReservationAccess;
  for (const Row& row :
       {Row{we, write_exclusive, write_exclusive}, Row{ea, exclusive_access, exclusive_access},
        Row{we_ro, all, write_exclusive}, Row{ea_ro, all, exclusive_access}, Row{we_ar, all, write_exclusive},
        Row{ea_ar, all, exclusive_access}}) {
    Unit u;
    u.registered({{a, 5}, {b, 6}}).reserved(a, 5, row.type);
    EXPECT_EQ(u.access(a), all);
    EXPECT_EQ(u.access(b), row.registrant) << int{row.type};
    EXPECT_EQ(u.access(c), row.stranger) << int{row.type};
    EXPECT_EQ(u.access({a.initiator_port, 2}), row.stranger) << "another nexus of the holder's port";
  }
}

TEST(Reservations, RegistrationsAloneRestrictNobody) {
  Unit u;
  u.registered({{a, 5}});
  EXPECT_EQ(u.access(c), ReservationAccess::all);
}

// ---- RESERVE and RELEASE

TEST(Reservations, ReserveOfSpc2ExcludesTheOthers) {
  Reservations state = reserve_unit({}, a, 1).after;
  EXPECT_EQ(access_of(state, a.initiator_port, 1), ReservationAccess::all);
  EXPECT_EQ(access_of(state, b.initiator_port, 1), ReservationAccess::reserved);
  EXPECT_EQ(reserve_unit(state, a, 1).verdict, Verdict::good);
  EXPECT_EQ(reserve_unit(state, b, 2).verdict, Verdict::conflict);
  const ReservationOutcome other = release_unit(state, b);
  EXPECT_EQ(other.verdict, Verdict::good);
  EXPECT_EQ(other.after, state);
  EXPECT_FALSE(release_unit(state, a).after.restricts());
}

TEST(Reservations, PersistentReserveOutConflictsWithReserveOfSpc2) {
  const Reservations state = reserve_unit({}, a, 1).after;
  const ReservationRequest request{.action = Action::register_and_ignore, .action_key = 5, .ports = {}};
  EXPECT_EQ(change_reservations(state, a, request, one_port).verdict, Verdict::conflict);
  EXPECT_EQ(change_reservations(state, b, request, one_port).verdict, Verdict::conflict);
}

TEST(Reservations, ReserveOfSpc2IsCompatibleForThoseWhoHaveAccess) {
  for (const std::uint8_t type : std::initializer_list<std::uint8_t>{we, ea, we_ro, ea_ro, we_ar, ea_ar}) {
    Unit u;
    u.registered({{a, 5}, {b, 6}});
    EXPECT_EQ(reserve_unit(u.state, a, 1).verdict, Verdict::conflict) << "registrations, but no reservation";
    u.reserved(a, 5, type);
    const Verdict registrant = type == we || type == ea ? Verdict::conflict : Verdict::good;
    for (const bool reserve : {true, false}) {
      const auto command = [reserve](const Reservations& before, const NexusName& who) {
        return reserve ? reserve_unit(before, who, 1) : release_unit(before, who);
      };
      EXPECT_EQ(command(u.state, a).verdict, Verdict::good);
      EXPECT_EQ(command(u.state, a).after, u.state);
      EXPECT_EQ(command(u.state, b).verdict, registrant);
      EXPECT_EQ(command(u.state, c).verdict, Verdict::conflict);
    }
  }
}

}  // namespace
}  // namespace perilune::scsi
