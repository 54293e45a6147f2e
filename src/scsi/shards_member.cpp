// SPDX-License-Identifier: Apache-2.0
// What every shard does for the claims and changes of all of them.
#include <algorithm>

#include "scsi/shards.hpp"

namespace perilune::scsi {

void Shards::stand(std::uint16_t unit, std::uint64_t id, const ClaimTerms& terms) {
  LogicalUnit* here = device_.unit(unit);
  if (here == nullptr) {  // taken away: nothing stands in the way
    send(owner(unit), [unit, id](Shards& there) { there.cleared(unit, id); });
    return;
  }
  here->standing_.push_back({id, terms, false});
  ++here->barriers_;
  ++here->blocked_;
  tell_clear(*here);
}

void Shards::tell_clear(LogicalUnit& unit) {
  const std::uint16_t number = unit.number();
  for (StandingClaim& claim : unit.standing_) {
    if (claim.clear || unit.has_started_against(claim.terms)) continue;
    claim.clear = true;
    --unit.blocked_;
    send(owner(number), [number, id = claim.id](Shards& there) { there.cleared(number, id); });
  }
}

void Shards::take_out(LogicalUnit& unit, std::uint64_t id) {
  const auto claim = std::find_if(unit.standing_.begin(), unit.standing_.end(),
                                  [&](const StandingClaim& each) { return each.id == id; });
  if (claim == unit.standing_.end()) return;  // the unit was not there yet when it began to stand
  if (!claim->clear) --unit.blocked_;
  --unit.barriers_;
  unit.standing_.erase(claim);
}

void Shards::fall(std::uint16_t unit, std::uint64_t id) {
  LogicalUnit* here = device_.unit(unit);
  if (here == nullptr) return;
  take_out(*here, id);
  device_.after_leaving(*here);
}

void Shards::adopt(std::uint16_t unit, std::uint64_t id, const Publication& publication) {
  LogicalUnit* here = device_.unit(unit);
  if (here != nullptr) {
    here->adopt(*publication.value);
    if (publication.reset) here->reset();
    if (maker(id) != self_) {
      device_.end_tasks_here(*here, publication.aborted, nullptr);
      for (const ShardEffect& effect : publication.effects) effect(*here);
    }
    take_out(*here, id);
    here->adopting_.push_back({id, maker(id) != self_ ? publication.aborted : std::vector<NexusName>{}});
    tell_adopted(*here);
    device_.after_leaving(*here);
  } else {
    send(owner(unit), [unit, id](Shards& there) { there.adopted(unit, id); });
  }
}

void Shards::tell_adopted(LogicalUnit& unit) {
  std::erase_if(unit.adopting_, [&](const AdoptedChange& change) {
    if (unit.has_ending_task_of(change.aborted)) return false;
    const std::uint16_t number = unit.number();
    send(owner(number), [number, id = change.id](Shards& there) { there.adopted(number, id); });
    return true;
  });
}

}  // namespace perilune::scsi
