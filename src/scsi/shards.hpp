// SPDX-License-Identifier: Apache-2.0
// The part that one device takes in what all shards do together: claims, changes of a unit's value, resets,
// and what the log pages and unit attentions of several shards have in common (docs/decisions/0007). Exists
// only where there are two shards or more. Everything here is a message to some shard, maybe to itself, and
// what its arrival does. Messages between two shards arrive in order; that is all that is relied on. A
// message about something that is over already means nothing.
//
// The way of a claim. Each unit has an owner shard, by its number.
//   requester -> owner    request        the owner keeps the unit's claims in order
//   owner -> every shard  stand          once no earlier one conflicts: nothing that conflicts starts there
//   any more every shard -> owner  clear          what had started there and conflicts is over owner ->
//   requester    granted        the command runs requester -> owner    release        it has ended, or was
//   aborted; at any time from the request on owner -> every shard  fall
// A command that changes the unit (SerialClass::whole) does not release but publishes:
//   requester -> owner    publish        the value of the unit
//   owner -> every shard  adopt          the new value, and the claim falls
//   every shard -> owner  adopted        the commands that the change ends have ended
//   owner -> requester    published      the command ends
// Resets take the same way through the owner, so that every shard sees changes and resets of a unit in one
// order.
//
// Everybody waits for what stands before it in the order of one unit, or (a copy) in that of a unit with a
// higher number, and at the end for commands that have started and wait for nobody: so nobody waits in a
// circle.
//
// For src/scsi alone. One thread (the shard's).
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "scsi/device.hpp"
#include "scsi/shard_claim.hpp"
#include "scsi/shard_link.hpp"

namespace perilune::scsi {

class Shards {
 public:
  Shards(Device& device, ShardLink& link);
  ~Shards();
  Shards(const Shards&) = delete;
  Shards& operator=(const Shards&) = delete;

  [[nodiscard]] std::uint32_t self() const noexcept { return self_; }
  // Ids are unique over all shards and tell who made them.
  [[nodiscard]] std::uint64_t next_id() noexcept { return std::uint64_t{self_} << 48 | ++last_id_; }

  // ---- claims of this shard (shards.cpp)

  // Of a command in phase blocked. It starts when the claim is granted.
  void request(Task& task);
  // Of a copy that waits for the claims in task.copy: one unit after the other, by number. It goes on when it
  // has all.
  void request_for_copy(Task& task);
  void give_back_of_copy(CopyOperation& operation);
  // Whatever has become of it, also before it is granted. It does not exist any more afterwards.
  void give_back(ShardClaim& claim);
  // The command that holds all of its unit has ended. It is finished when every shard has adopted what it
  // made of the unit.
  void publish(Task& task);
  // Makes a change that no command asked for, in its place among the others. `then`, if any: every shard has
  // adopted it, and what had started before is over.
  void change(LogicalUnit& unit, std::function<void(LogicalUnit&)> change, std::function<void()> then = {});
  [[nodiscard]] bool has_claim_on(const LogicalUnit& unit) const;

  // ---- this shard's part of every claim (shards_member.cpp)

  // Tells the owner of the claims that have nothing in their way here any more.
  void tell_clear(LogicalUnit& unit);
  // Tells the owner of the changes whose commands to end have ended here.
  void tell_adopted(LogicalUnit& unit);

  // ---- task management (shards_management.cpp)

  // CLEAR TASK SET and the resets: request.done is called when it is done on every shard. True: there is
  // nothing to do.
  [[nodiscard]] bool manage(TaskManagement& request);

  // ---- what every shard has to know (shards_news.cpp)

  void tell_flush_failed(LogicalUnit& unit,
                         Task& task);  // the command, which has ended, is finished when they know
  // SANITIZE, FORMAT UNIT: the operation of the command, which holds all of the unit, begins its work when
  // they know, and the command goes on then.
  void tell_medium_begins(LogicalUnit& unit, Task& task);
  void tell_medium_ended(LogicalUnit& unit);
  // ROD tokens: the command that made one, or deletes one, is finished when they know. Of its use they learn
  // soon after.
  void tell_token_made(Task& task, const RodToken& token, std::uint64_t in_place_of);
  void tell_token_deleted(Task& task, std::uint64_t identifier);
  void tell_token_used(std::uint64_t identifier, std::uint64_t now_ms);
  void tell_lost_nexus(std::uint64_t hash);
  // A nexus of this initiator port has come to this shard (+1), or gone from it (-1).
  void tell_port(const std::string& initiator_port, int change);
  // Of the other shards: how many nexuses each initiator port has there.
  [[nodiscard]] const std::map<std::string, int>& other_ports() const noexcept { return peer_ports_; }
  // The commands of these nexuses on the other shards begin to end. Not waited for.
  void tell_end_tasks(const LogicalUnit& unit, const std::vector<NexusName>& nexuses);
  void tell_clock_start(std::uint64_t start_ms);
  // Thresholds of thin provisioning: the owner judges, and every other shard, or the next one that has a
  // nexus, is told.
  [[nodiscard]] bool owns(const LogicalUnit& unit) const noexcept { return owner(unit.number()) == self_; }
  void space_measured(std::uint16_t unit);
  void tell_attention(const LogicalUnit& unit, UnitAttention attention);  // to the nexuses of the others
  void tell_one_nexus(const LogicalUnit& unit, UnitAttention attention);
  void share_counters(LogicalUnit& unit);
  [[nodiscard]] UnitCounters other_counters(const LogicalUnit& unit) const;  // of the other shards

 private:
  // At the owner: a claim in its place.
  struct Ordered {
    enum class State : std::uint8_t { queued, standing, granted, publishing };
    std::uint64_t id = 0;
    ClaimTerms terms;
    State state = State::queued;
    std::uint32_t missing = 0;  // shards that have not answered
    bool crossed = false;       // granted, and then a reset came: whoever holds it is affected
  };
  using Order = std::list<Ordered>;

  struct Publication {
    std::shared_ptr<const LogicalUnit::Value> value;
    // On every shard but the one that made the change: the commands of these end, and it is adopted then;
    std::vector<NexusName> aborted;
    std::vector<ShardEffect> effects;  // and this is done.
    bool reset = false;                // a reset came between: it is applied to the value
  };

  // A reset or CLEAR TASK SET of some shard, as it is carried out here.
  struct Carried : TaskManagement {
    Shards* shards = nullptr;
    std::uint64_t id = 0;
    void on_done(TaskManagement&) { shards->carried_out_here(*this); }
  };
  struct Telling {
    std::uint32_t missing = 0;
    std::function<void()> then;
  };
  // Of one unit number, by shard; empty where none was told.
  using PeerCounters = std::vector<std::shared_ptr<const LiveCounters>>;

  // Calls `work(Shards&)` on that shard.
  template <class Work>
  void send(std::uint32_t shard, Work work);
  template <class Work>
  void send_all(const Work& work);  // to this one too
  template <class Work>
  void send_others(const Work& work);
  // The same; `then` is done when they have done it. Until then the task does not end.
  template <class Work>
  void tell(Task& task, Work work, std::function<void()> then);
  template <class Work>
  void tell(Task& task, Work work);  // and then it ends

  [[nodiscard]] std::uint32_t owner(std::uint16_t unit) const noexcept { return unit % count_; }
  [[nodiscard]] static std::uint32_t maker(std::uint64_t id) noexcept {
    return static_cast<std::uint32_t>(id >> 48);
  }

  // Messages to the requester.
  void granted(std::uint64_t id);
  void published(std::uint64_t id);
  void managed(std::uint64_t id, bool rejected);
  void heard(std::uint64_t id);
  // To the owner (shards_owner.cpp).
  void requested(std::uint16_t unit, std::uint64_t id, const ClaimTerms& terms);
  void cleared(std::uint16_t unit, std::uint64_t id);
  void released(std::uint16_t unit, std::uint64_t id);
  void publication(std::uint16_t unit, std::uint64_t id, Publication publication);
  void adopted(std::uint16_t unit, std::uint64_t id);
  void management(std::uint16_t unit, TmFunction function, std::uint64_t id);
  void carried_out(std::uint64_t id, bool rejected);
  // To every shard.
  void stand(std::uint16_t unit, std::uint64_t id, const ClaimTerms& terms);
  void fall(std::uint16_t unit, std::uint64_t id);
  void adopt(std::uint16_t unit, std::uint64_t id, const Publication& publication);
  void carry_out(std::uint16_t unit, TmFunction function, std::uint64_t id);

  ShardClaim& add_claim(LogicalUnit& unit, const ClaimTerms& terms, Task* task);
  void granted_to_copy(Task& task);
  void publish(ShardClaim& claim);
  void start_claims(std::uint16_t unit);
  void ask_for_one_nexus(std::uint16_t unit, UnitAttention attention, std::uint32_t shards_left);
  void take_out(LogicalUnit& unit, std::uint64_t id);
  void carried_out_here(Carried& carried);

  Device& device_;
  ShardLink& link_;
  const std::uint32_t self_;
  const std::uint32_t count_;
  std::uint64_t last_id_ = 0;

  // What was asked for here.
  std::unordered_map<std::uint64_t, std::unique_ptr<ShardClaim>> claims_;
  std::unordered_map<std::uint64_t, TaskManagement*> managements_;
  std::unordered_map<std::uint64_t, Telling> tellings_;
  // As the owner.
  std::unordered_map<std::uint16_t, Order> orders_;
  struct Carrying {
    std::uint32_t missing = 0;  // shards that still carry it out
    bool rejected = false;      // a real device could not be reset
  };
  std::unordered_map<std::uint64_t, Carrying> carrying_;
  // As every shard.
  std::list<Carried> carried_;
  std::unordered_map<std::uint16_t, PeerCounters> peer_counters_;
  std::map<std::string, int> peer_ports_;
};

template <class Work>
void Shards::send(std::uint32_t shard, Work work) {
  link_.send(shard, [work = std::move(work)](Device& device) { work(*device.shards_); });
}

template <class Work>
void Shards::send_all(const Work& work) {
  for (std::uint32_t shard = 0; shard < count_; ++shard) send(shard, work);
}

template <class Work>
void Shards::send_others(const Work& work) {
  for (std::uint32_t shard = 0; shard < count_; ++shard) {
    if (shard != self_) send(shard, work);
  }
}

}  // namespace perilune::scsi
