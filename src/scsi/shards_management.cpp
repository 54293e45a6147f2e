// SPDX-License-Identifier: Apache-2.0
// Task management whose effect goes beyond one nexus (SAM-5 7.5 to 7.7). Each unit's owner has it carried out
// on every shard, the one that asks among them; it is answered when all affected tasks of all shards are
// over.
#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "scsi/shards.hpp"

namespace perilune::scsi {

bool Shards::manage(TaskManagement& request) {
  request.affected = 0;  // units on which it is under way
  const auto ask = [&](const LogicalUnit& unit) {
    const std::uint64_t id = next_id();
    managements_.emplace(id, &request);
    ++request.affected;
    send(owner(unit.number()), [number = unit.number(), function = request.function, id](Shards& there) {
      there.management(number, function, id);
    });
  };
  for (const auto& unit : device_.units_) {
    if (request.unit == nullptr || request.unit == unit.get()) ask(*unit);
  }
  return request.affected == 0;
}

void Shards::managed(std::uint64_t id, bool rejected) {
  const auto place = managements_.find(id);
  PERILUNE_ASSERT(place != managements_.end());
  TaskManagement& request = *place->second;
  managements_.erase(place);
  if (rejected) request.response = TmResponse::function_rejected;
  if (--request.affected == 0) request.done(request);
}

void Shards::carry_out(std::uint16_t unit, TmFunction function, std::uint64_t id) {
  LogicalUnit* here = device_.unit(unit);
  if (here == nullptr) {
    send(owner(unit), [id](Shards& there) { there.carried_out(id, false); });
    return;
  }
  Carried& carried = carried_.emplace_back();
  carried.shards = this;
  carried.id = id;
  carried.function = function;
  carried.unit = here;
  carried.done = Delegate<void(TaskManagement&)>::to<&Carried::on_done>(carried);
  if (maker(id) == self_) {  // what came after it from this nexus and its neighbours is not affected
    const TaskManagement& request = *managements_.at(id);
    carried.nexus = request.nexus;
    carried.sequence = request.sequence;
  } else {
    carried.sequence = ++device_.sequence_;
  }
  if (device_.take_tasks(carried)) carried_out_here(carried);
}

void Shards::carried_out_here(Carried& carried) {
  const bool rejected = carried.response == TmResponse::function_rejected;
  send(owner(carried.unit->number()),
       [id = carried.id, rejected](Shards& there) { there.carried_out(id, rejected); });
  carried_.remove_if([&](const Carried& each) { return &each == &carried; });
}

}  // namespace perilune::scsi
