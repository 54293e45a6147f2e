// SPDX-License-Identifier: Apache-2.0
// The owner of a unit: its claims, changes and resets in one order.
#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "scsi/shards.hpp"

namespace perilune::scsi {

void Shards::requested(std::uint16_t unit, std::uint64_t id, const ClaimTerms& terms) {
  Order& order = orders_[unit];
  auto place = order.end();
  if (terms.urgent) {
    place = std::find_if(order.begin(), order.end(), [](const Ordered& other) {
      return other.state == Ordered::State::queued && !other.terms.urgent;
    });
  }
  Ordered& fresh = *order.emplace(place);
  fresh.id = id;
  fresh.terms = terms;
  start_claims(unit);
}

// Those that wait for nobody any more stand from now on. One waits for the earlier ones, and for a later one
// that stands already: it may have been there before one that is urgent.
void Shards::start_claims(std::uint16_t unit) {
  Order& order = orders_[unit];
  for (auto claim = order.begin(); claim != order.end(); ++claim) {
    if (claim->state != Ordered::State::queued) continue;
    bool earlier = true;
    const bool waits = std::any_of(order.begin(), order.end(), [&](const Ordered& other) {
      if (&other == &*claim) {
        earlier = false;
        return false;
      }
      return (earlier || other.state != Ordered::State::queued) && conflict(other.terms, claim->terms);
    });
    if (waits) continue;
    claim->state = Ordered::State::standing;
    claim->missing = count_;
    send_all([unit, id = claim->id, terms = claim->terms](Shards& there) { there.stand(unit, id, terms); });
  }
}

void Shards::cleared(std::uint16_t unit, std::uint64_t id) {
  Order& order = orders_[unit];
  const auto claim =
      std::find_if(order.begin(), order.end(), [&](const Ordered& each) { return each.id == id; });
  if (claim == order.end()) return;  // given back meanwhile
  PERILUNE_ASSERT(claim->state == Ordered::State::standing);
  if (--claim->missing != 0) return;
  claim->state = Ordered::State::granted;
  send(maker(id), [id](Shards& there) { there.granted(id); });
}

void Shards::released(std::uint16_t unit, std::uint64_t id) {
  Order& order = orders_[unit];
  const auto claim =
      std::find_if(order.begin(), order.end(), [&](const Ordered& each) { return each.id == id; });
  PERILUNE_ASSERT(claim != order.end());  // the request came before this on the same way
  if (claim->state != Ordered::State::queued) send_all([unit, id](Shards& there) { there.fall(unit, id); });
  order.erase(claim);
  start_claims(unit);
}

void Shards::publication(std::uint16_t unit, std::uint64_t id, Publication publication) {
  Order& order = orders_[unit];
  const auto claim =
      std::find_if(order.begin(), order.end(), [&](const Ordered& each) { return each.id == id; });
  PERILUNE_ASSERT(claim != order.end() && claim->state == Ordered::State::granted);
  claim->state = Ordered::State::publishing;
  claim->missing = count_;
  publication.reset = claim->crossed;
  send_all([unit, id, publication = std::move(publication)](Shards& there) {
    there.adopt(unit, id, publication);
  });
}

// The next change waits for this, so that nobody ever sees the third value before somebody else has left the
// first.
void Shards::adopted(std::uint16_t unit, std::uint64_t id) {
  Order& order = orders_[unit];
  const auto claim =
      std::find_if(order.begin(), order.end(), [&](const Ordered& each) { return each.id == id; });
  PERILUNE_ASSERT(claim != order.end() && claim->state == Ordered::State::publishing);
  if (--claim->missing != 0) return;
  send(maker(id), [id](Shards& there) { there.published(id); });
  order.erase(claim);
  start_claims(unit);
}

// A reset does not wait for claims: it ends those who hold them, and those who wait. A command that got its
// claim before the reset and publishes after it is one of them; what it made of the unit counts as made
// before.
void Shards::management(std::uint16_t unit, TmFunction function, std::uint64_t id) {
  if (function != TmFunction::clear_task_set) {
    for (Ordered& claim : orders_[unit]) claim.crossed |= claim.state == Ordered::State::granted;
  }
  carrying_.emplace(id, Carrying{.missing = count_});
  send_all([unit, function, id](Shards& there) { there.carry_out(unit, function, id); });
}

void Shards::carried_out(std::uint64_t id, bool rejected) {
  const auto place = carrying_.find(id);
  PERILUNE_ASSERT(place != carrying_.end());
  place->second.rejected |= rejected;
  if (--place->second.missing != 0) return;
  const bool by_any = place->second.rejected;
  carrying_.erase(place);
  send(maker(id), [id, by_any](Shards& there) { there.managed(id, by_any); });
}

}  // namespace perilune::scsi
