// SPDX-License-Identifier: Apache-2.0
// Claims of this shard, as their requester sees them.
#include "scsi/shards.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "scsi/command_table.hpp"
#include "scsi/copy_operation.hpp"

namespace perilune::scsi {

// ---- what conflicts

namespace {

bool overlap(const ClaimTerms::Part& part, std::uint64_t lba, std::uint64_t blocks) noexcept {
  // Ranges were checked against the capacity: the sums do not wrap.
  return part.blocks != 0 && blocks != 0 && part.lba < lba + blocks && lba < part.lba + part.blocks;
}

bool conflict(const ClaimTerms::Part& a, const ClaimTerms::Part& b) noexcept {
  return overlap(a, b.lba, b.blocks) && (a.serial != SerialClass::read || b.serial != SerialClass::read);
}

}  // namespace

bool conflict(const ClaimTerms& a, const ClaimTerms& b) noexcept {
  if (a.whole || b.whole) return true;
  return std::any_of(a.parts.begin(), a.parts.end(), [&](const ClaimTerms::Part& x) {
    return std::any_of(b.parts.begin(), b.parts.end(),
                       [&](const ClaimTerms::Part& y) { return conflict(x, y); });
  });
}

bool conflict(const ClaimTerms& terms, const Task& task) noexcept {
  const auto serial = static_cast<SerialClass>(task.serial);
  if (serial == SerialClass::none) return false;
  if (terms.whole) return true;
  return std::any_of(terms.parts.begin(), terms.parts.end(), [&](const ClaimTerms::Part& part) {
    return overlap(part, task.lba, task.blocks) &&
           (serial != SerialClass::read || part.serial == SerialClass::exclusive);
  });
}

// ---- the requester

Shards::Shards(Device& device, ShardLink& link)
    : device_(device), link_(link), self_(link.self()), count_(link.shards()) {}

Shards::~Shards() = default;

ShardClaim& Shards::add_claim(LogicalUnit& unit, const ClaimTerms& terms, Task* task) {
  auto fresh = std::make_unique<ShardClaim>();
  fresh->id = next_id();
  fresh->unit = &unit;
  fresh->task = task;
  ShardClaim& claim = *claims_.emplace(fresh->id, std::move(fresh)).first->second;
  const std::uint16_t number = unit.number();
  send(owner(number), [number, id = claim.id, terms](Shards& there) { there.requested(number, id, terms); });
  return claim;
}

void Shards::request(Task& task) {
  PERILUNE_ASSERT(task.phase == Task::Phase::blocked && task.claim == nullptr);
  ClaimTerms terms;
  const auto serial = static_cast<SerialClass>(task.serial);
  // ORDERED (SAM-5 8.7.3): not beside any other of the task set, and that is one over all shards.
  terms.whole = serial == SerialClass::whole || task.attribute == TaskAttribute::ordered;
  terms.urgent = task.attribute == TaskAttribute::head_of_queue;
  terms.parts[0] = {task.lba, task.blocks, serial};
  task.claim = &add_claim(*task.unit, terms, &task);
}

namespace {

SerialClass serial_of(const RangeClaim& claim) noexcept {
  if (!claim.writes) return SerialClass::read;
  return claim.unit->keeps_protection() ? SerialClass::exclusive : SerialClass::range;
}

}  // namespace

void Shards::request_for_copy(Task& task) {
  CopyOperation& operation = *task.copy;
  LogicalUnit* next = nullptr;
  for (const RangeClaim& claim : operation.claims) {
    if (claim.unit == nullptr || claim.held) continue;
    if (next == nullptr || claim.unit->number() < next->number()) next = claim.unit;
  }
  ClaimTerms terms;
  for (std::size_t i = 0; i < operation.claims.size(); ++i) {
    const RangeClaim& claim = operation.claims[i];
    if (claim.unit == next)
      terms.parts[i] = {claim.lba, claim.blocks, serial_of(claim)};
  }
  terms.urgent = task.attribute == TaskAttribute::head_of_queue;
  ShardClaim*& place = operation.shard_claims[operation.shard_claims[0] == nullptr ? 0 : 1];
  PERILUNE_ASSERT(next != nullptr && place == nullptr);
  place = &add_claim(*next, terms, &task);
}

void Shards::give_back_of_copy(CopyOperation& operation) {
  for (ShardClaim*& claim : operation.shard_claims) {
    if (claim != nullptr) give_back(*std::exchange(claim, nullptr));
  }
}

void Shards::give_back(ShardClaim& claim) {
  if (claim.task != nullptr && claim.task->claim == &claim) claim.task->claim = nullptr;
  if (claim.unit->change_ == &claim) claim.unit->change_ = nullptr;
  const std::uint16_t number = claim.unit->number();
  send(owner(number), [number, id = claim.id](Shards& there) { there.released(number, id); });
  claims_.erase(claim.id);
}

void Shards::change(LogicalUnit& unit, std::function<void(LogicalUnit&)> change, std::function<void()> then) {
  ShardClaim& claim = add_claim(unit, {.parts = {}, .whole = true, .urgent = false}, nullptr);
  claim.change = std::move(change);
  claim.then = std::move(then);
}

bool Shards::has_claim_on(const LogicalUnit& unit) const {
  return std::any_of(claims_.begin(), claims_.end(),
                     [&](const auto& entry) { return entry.second->unit == &unit; });
}

void Shards::granted(std::uint64_t id) {
  const auto place = claims_.find(id);
  if (place == claims_.end()) return;  // given back before this came
  ShardClaim& claim = *place->second;
  LogicalUnit& unit = *claim.unit;
  if (claim.task == nullptr) {
    unit.change_ = &claim;
    claim.change(unit);
    publish(claim);
    return;
  }
  Task& task = *claim.task;
  if (task.copy != nullptr) return granted_to_copy(task);
  if (static_cast<SerialClass>(task.row->serial) == SerialClass::whole) unit.change_ = &claim;
  PERILUNE_ASSERT(task.phase == Task::Phase::blocked && !task.aborted);
  --unit.blocked_;
  if (device_.start(task)) device_.finish(task);
}

void Shards::granted_to_copy(Task& task) {
  CopyOperation& operation = *task.copy;
  const LogicalUnit* unit = operation.shard_claims[operation.shard_claims[1] == nullptr ? 0 : 1]->unit;
  bool all = true;
  for (RangeClaim& claim : operation.claims) {
    claim.held |= claim.unit == unit;
    all &= claim.held || claim.unit == nullptr;
  }
  if (!all) return request_for_copy(task);
  device_.resume(task);
}

void Shards::publish(Task& task) { publish(*task.claim); }

void Shards::publish(ShardClaim& claim) {
  LogicalUnit& unit = *claim.unit;
  unit.change_ = nullptr;
  Publication publication{std::make_shared<const LogicalUnit::Value>(unit.value()), std::move(claim.aborted),
                          std::move(claim.effects), false};
  const std::uint16_t number = unit.number();
  send(owner(number), [number, id = claim.id, publication = std::move(publication)](Shards& there) {
    there.publication(number, id, publication);
  });
}

void Shards::published(std::uint64_t id) {
  const auto place = claims_.find(id);
  PERILUNE_ASSERT(place != claims_.end());
  Task* task = place->second->task;
  const std::function<void()> then = std::move(place->second->then);
  claims_.erase(place);
  if (then) then();
  if (task == nullptr) return;
  task->claim = nullptr;
  device_.finish(*task);
}

}  // namespace perilune::scsi
