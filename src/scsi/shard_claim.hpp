// SPDX-License-Identifier: Apache-2.0
// Claims that hold over all shards (DESIGN 1.3, docs/decisions/0007). Where the same units are served by
// several shards, plain reads and writes run on their own shard and ask nobody. A command that must not be
// beside others (SerialClass range, exclusive, whole; ORDERED; the segments of a copy) claims what it works
// on from the unit's owner shard first. For src/scsi alone. One thread (the shard's).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "scsi/reservations.hpp"

namespace perilune::scsi {

class LogicalUnit;
struct Task;
enum class SerialClass : std::uint8_t;

// What a claim covers of its unit. A value: it goes from shard to shard.
struct ClaimTerms {
  struct Part {
    std::uint64_t lba = 0;
    std::uint64_t blocks = 0;  // 0: not in use
    SerialClass serial{};      // read: nobody writes to it beside this; range, exclusive: as for commands
  };
  std::array<Part, 2> parts{};
  bool whole = false;   // all of the unit
  bool urgent = false;  // HEAD OF QUEUE: before the claims that wait
};

[[nodiscard]] bool conflict(const ClaimTerms& a, const ClaimTerms& b) noexcept;
// With a command that runs without a claim.
[[nodiscard]] bool conflict(const ClaimTerms& terms, const Task& task) noexcept;

// What the nexuses of another shard have to learn of a change, done there when it adopts the change.
using ShardEffect = std::function<void(LogicalUnit&)>;

// A claim that this shard has asked for. Whose it is: a command's, one of a copy's, or a change's that no
// command asked for.
struct ShardClaim {
  std::uint64_t id = 0;
  LogicalUnit* unit = nullptr;
  Task* task = nullptr;  // nullptr: `change` is made once the claim is granted
  std::function<void(LogicalUnit&)> change;
  std::function<void()> then;        // of such a change: it has been adopted everywhere
  std::vector<NexusName> aborted;    // of the change in progress: their commands end before it has been made,
  std::vector<ShardEffect> effects;  // and what follows from it
};

// A claim of any shard as it stands in a unit of this one: nothing starts that conflicts with it.
struct StandingClaim {
  std::uint64_t id = 0;
  ClaimTerms terms;
  bool clear = false;  // what had started before it and conflicts is over, and its owner has been told
};

// A change that this shard has adopted, while commands that it ends are still in progress here.
struct AdoptedChange {
  std::uint64_t id = 0;
  std::vector<NexusName> aborted;
};

}  // namespace perilune::scsi
