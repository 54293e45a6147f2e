// SPDX-License-Identifier: Apache-2.0
// What one shard learns and all have to know, in no order with anything else.
#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "scsi/shards.hpp"

namespace perilune::scsi {

template <class Work>
void Shards::tell(Task& task, Work work, std::function<void()> then) {
  PERILUNE_ASSERT(!task.telling);
  task.telling = true;
  const std::uint64_t id = next_id();
  tellings_.emplace(id, Telling{count_ - 1, [&task, then = std::move(then)] {
                                  task.telling = false;
                                  then();
                                }});
  send_others([work = std::move(work), id](Shards& there) {
    work(there);
    there.send(maker(id), [id](Shards& teller) { teller.heard(id); });
  });
}

template <class Work>
void Shards::tell(Task& task, Work work) {
  tell(task, std::move(work), [this, &task] {
    if (device_.settled(task)) device_.finish(task);
  });
}

void Shards::tell_flush_failed(LogicalUnit& unit, Task& task) {
  tell(task, [number = unit.number()](Shards& there) {
    if (LogicalUnit* here = there.device_.unit(number)) here->state().flush_failed = true;
  });
}

// ---- SANITIZE, FORMAT UNIT

void Shards::tell_medium_begins(LogicalUnit& unit, Task& task) {
  const auto learn = [number = unit.number(), news = unit.medium().news()](Shards& there) {
    LogicalUnit* here = there.device_.unit(number);
    if (here == nullptr) return;
    here->medium().learn(news);
    there.device_.refuse_waiting(*here);
  };
  tell(task, learn, [this, &unit, &task] {
    unit.medium().go();
    if (device_.drive(task)) device_.finish(task);
  });
}

void Shards::tell_medium_ended(LogicalUnit& unit) {
  send_others([number = unit.number(), news = unit.medium().news(),
               flush_failed = unit.state().flush_failed](Shards& there) {
    LogicalUnit* here = there.device_.unit(number);
    if (here == nullptr) return;
    here->medium().learn(news);
    here->state().flush_failed |= flush_failed;
  });
}

// ---- ROD tokens

void Shards::tell_token_made(Task& task, const RodToken& token, std::uint64_t in_place_of) {
  tell(task, [token, in_place_of](Shards& there) {
    if (RodTokens* tokens = there.device_.tokens()) tokens->learn(token, in_place_of);
  });
}

void Shards::tell_token_deleted(Task& task, std::uint64_t identifier) {
  tell(task, [identifier](Shards& there) {
    if (RodTokens* tokens = there.device_.tokens()) tokens->remove(identifier);
  });
}

void Shards::tell_token_used(std::uint64_t identifier, std::uint64_t now_ms) {
  send_others([identifier, now_ms](Shards& there) {
    if (RodTokens* tokens = there.device_.tokens()) tokens->used(identifier, now_ms);
  });
}

// ---- the rest

void Shards::heard(std::uint64_t id) {
  const auto place = tellings_.find(id);
  PERILUNE_ASSERT(place != tellings_.end());
  if (--place->second.missing != 0) return;
  const std::function<void()> then = std::move(place->second.then);
  tellings_.erase(place);
  then();
}

void Shards::tell_end_tasks(const LogicalUnit& unit, const std::vector<NexusName>& nexuses) {
  send_others([number = unit.number(), nexuses](Shards& there) {
    if (LogicalUnit* here = there.device_.unit(number)) there.device_.end_tasks_here(*here, nexuses, nullptr);
  });
}

void Shards::tell_lost_nexus(std::uint64_t hash) {
  send_others([hash](Shards& there) { there.device_.forget(hash); });
}

void Shards::tell_port(const std::string& initiator_port, int change) {
  send_others([initiator_port, change](Shards& there) {
    const auto place = there.peer_ports_.try_emplace(initiator_port, 0).first;
    if ((place->second += change) == 0) there.peer_ports_.erase(place);
  });
}

void Shards::tell_clock_start(std::uint64_t start_ms) {
  send_others([start_ms](Shards& there) {
    there.device_.clock_start_ms_ = std::min(there.device_.clock_start_ms_, start_ms);
  });
}

void Shards::space_measured(std::uint16_t unit) {
  send(owner(unit), [unit](Shards& there) {
    if (LogicalUnit* here = there.device_.unit(unit)) here->check_thresholds();
  });
}

void Shards::tell_attention(const LogicalUnit& unit, UnitAttention attention) {
  send_others([number = unit.number(), attention](Shards& there) {
    if (LogicalUnit* here = there.device_.unit(number)) here->raise_here(nullptr, attention);
  });
}

void Shards::tell_one_nexus(const LogicalUnit& unit, UnitAttention attention) {
  ask_for_one_nexus(unit.number(), attention, count_ - 1);
}

void Shards::ask_for_one_nexus(std::uint16_t unit, UnitAttention attention, std::uint32_t shards_left) {
  if (shards_left == 0) return;
  send((self_ + 1) % count_, [unit, attention, shards_left](Shards& there) {
    LogicalUnit* here = there.device_.unit(unit);
    if (here == nullptr || !here->raise_on_one(attention))
      there.ask_for_one_nexus(unit, attention, shards_left - 1);
  });
}

void Shards::share_counters(LogicalUnit& unit) {
  send_others([number = unit.number(), from = self_, counters = unit.counters_](Shards& there) {
    PeerCounters& peers = there.peer_counters_[number];
    peers.resize(there.count_);
    peers[from] = counters;
  });
}

UnitCounters Shards::other_counters(const LogicalUnit& unit) const {
  UnitCounters sum;
  const auto place = peer_counters_.find(unit.number());
  if (place == peer_counters_.end()) return sum;
  for (const auto& peer : place->second) {
    if (peer != nullptr) sum = sum + peer->now();
  }
  return sum;
}

}  // namespace perilune::scsi
