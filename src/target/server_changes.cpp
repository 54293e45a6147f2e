// SPDX-License-Identifier: Apache-2.0
// Targets, portal groups, portals and units that come and go while the server serves.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>

#include "base/assert.hpp"
#include "target/server.hpp"

namespace perilune::target {
namespace {

// How often something that has to end by itself is looked at.
constexpr std::chrono::milliseconds look_again{10};

tl::unexpected<Error> no_target() { return fail(Errc::not_found, "there is no such target"); }

}  // namespace

// A unit that nobody sees any more goes in three steps, each of which all shards have done before the next:
// nothing is in progress on it; its devices let go of it; what its memory was lent for has been sent, and its
// channels close.
class Server::Removal {
 public:
  Removal(Server& server, std::uint32_t target, std::uint16_t lun, Done done)
      : server_(server),
        target_(target),
        lun_(lun),
        done_(std::move(done)),
        timer_(server.shards_.front()->loop.timers(), Delegate<void()>::to<&Removal::look>(*this)) {}

  void look() {
    const auto all = std::make_shared<std::atomic<bool>>(true);
    const auto step = step_;
    server_.on_every_shard(
        [this_target = target_, lun = lun_, step, all](Shard& shard) {
          if (!did(shard, step, this_target, lun)) all->store(false);
        },
        [this, all] { looked(all->load()); });
  }
  [[nodiscard]] bool concerns(std::uint32_t target, std::uint16_t lun) const noexcept {
    return target == target_ && lun == lun_;
  }
  [[nodiscard]] std::uint32_t target() const noexcept { return target_; }
  [[nodiscard]] std::uint16_t lun() const noexcept { return lun_; }
  [[nodiscard]] Done take_done() { return std::move(done_); }

 private:
  enum class Step : std::uint8_t { idle, settled, taken_out, unreferenced };

  static bool did(Shard& shard, Step step, std::uint32_t target, std::uint16_t lun) {
    switch (step) {
      case Step::idle:
      case Step::settled:  // once more: what was under way between the shards when the first look was taken
                           // has arrived
        return shard.unit_idle(target, lun);
      case Step::taken_out:
        return shard.take_out_unit(target, lun);
      case Step::unreferenced:
        return shard.memory_is_idle(target, lun);
    }
    return true;
  }
  void looked(bool all) {
    if (!all) {
      if (step_ == Step::settled) step_ = Step::idle;
      timer_.arm(server_.shards_.front()->loop.now() + look_again);
      return;
    }
    if (step_ == Step::unreferenced) return server_.removal_over(*this);
    step_ = static_cast<Step>(static_cast<int>(step_) + 1);
    look();
  }

  Server& server_;
  std::uint32_t target_;
  std::uint16_t lun_;
  Done done_;
  Step step_ = Step::idle;
  runtime::Timer timer_;
};

// ---- targets and their portal groups

void Server::add_target(TargetSpec spec, std::function<void(Result<std::uint32_t>)> done) {
  PERILUNE_ASSERT(spec.units.empty());
  if (numbers_.contains(spec.name))
    return done(fail(Errc::already_exists, fmt::format("{} is there already", spec.name)));
  Served& target = add_served(std::move(spec));
  const std::uint32_t number = numbers_.at(target.spec.name);
  target.access = access_of(target);
  const auto make = [number, name = target.spec.name, access = target.access, ports = ports_of(target.spec)](
                        Shard& shard) { shard.make_target(number, name, access, ports); };
  const auto start = [number, key = target.token_key](Shard& shard) { shard.start_target(number, key); };
  on_every_shard(make, [this, number, start, done = std::move(done)] {
    on_every_shard(start, [this, number, done] {
      publish_target(number);
      done(number);
    });
  });
}

void Server::remove_target(std::uint32_t number, Done done) {
  const auto target = targets_.find(number);
  if (target == targets_.end() || target->second->leaving) return done(no_target());
  target->second->leaving = true;
  publish_target(number);
  remove_when_empty(number, std::move(done));
}

// Its sessions have been told; its units follow when the last has ended.
void Server::remove_when_empty(std::uint32_t number, Done done) {
  const auto left = std::make_shared<std::atomic<std::size_t>>(0);
  on_every_shard([number, left](Shard& shard) { left->fetch_add(shard.sessions_of(number)); },
                 [this, number, left, done = std::move(done)]() mutable {
                   if (left->load() != 0) {
                     later([this, number, done = std::move(done)]() mutable {
                       remove_when_empty(number, std::move(done));
                     });
                     return;
                   }
                   drop_target(number, done);
                 });
}

void Server::drop_target(std::uint32_t number, const Done& done) {
  Served& target = *targets_.at(number);
  if (!target.units.empty()) {
    const std::uint16_t lun = target.units.begin()->first;
    const bool going = std::any_of(removals_.begin(), removals_.end(),
                                   [&](const auto& each) { return each->concerns(number, lun); });
    if (going) {
      later([this, number, done] { drop_target(number, done); });
      return;
    }
    begin_removal(number, lun, [this, number, done](const Status&) { drop_target(number, done); });
    return;
  }
  on_every_shard([number](Shard& shard) { shard.drop_target(number); },
                 [this, number, done] {
                   numbers_.erase(targets_.at(number)->spec.name);
                   targets_.erase(number);
                   done({});
                 });
}

// After a moment; never once the server is gone.
void Server::later(std::function<void()> work) {
  struct Once {
    Once(runtime::Loop& loop, std::function<void()> what)
        : timer(loop.timers(), Delegate<void()>::to<&Once::fire>(*this)), work(std::move(what)) {}
    void fire() {
      over = true;
      work();
    }
    runtime::Timer timer;
    std::function<void()> work;
    bool over = false;
  };
  std::erase_if(pending_,
                [](const std::shared_ptr<void>& each) { return static_cast<Once*>(each.get())->over; });
  const auto once = std::make_shared<Once>(shards_.front()->loop, std::move(work));
  once->timer.arm(shards_.front()->loop.now() + look_again);
  pending_.push_back(once);
}

Status Server::set_group(std::uint32_t number, PortalGroup group, GroupRules rules) {
  const auto found = targets_.find(number);
  if (found == targets_.end()) return no_target();
  Served& target = *found->second;
  std::vector<PortalGroup> groups = target.spec.portal_groups;
  const auto place = std::find_if(groups.begin(), groups.end(),
                                  [&](const PortalGroup& each) { return each.tag == group.tag; });
  const bool known = place != groups.end();
  if (known)
    *place = group;
  else
    groups.push_back(group);
  Status status = check_portal_groups(groups, next_portal_);
  if (status) status = check_access(rules.access, units_of(target), false);
  if (!status)
    return fail(status.error().code, fmt::format("{}: {}", target.spec.name, status.error().message));
  target.spec.portal_groups = std::move(groups);
  target.spec.rules.insert_or_assign(group.tag, std::move(rules));
  if (!known) publish_ports(number);
  publish_target(number);
  return {};
}

Status Server::remove_group(std::uint32_t number, std::uint16_t tag) {
  const auto found = targets_.find(number);
  if (found == targets_.end()) return no_target();
  TargetSpec& spec = found->second->spec;
  if (std::erase_if(spec.portal_groups, [tag](const PortalGroup& each) { return each.tag == tag; }) == 0) {
    return fail(Errc::not_found, fmt::format("{} has no portal group {}", spec.name, tag));
  }
  spec.rules.erase(tag);
  publish_target(number);
  publish_ports(number);
  return {};
}

void Server::publish_ports(std::uint32_t number) {
  const auto ports = ports_of(targets_.at(number)->spec);
  for (const auto& there : shards_) {
    send(*shards_.front(), *there,
         [shard = there.get(), number, ports] { shard->set_target_ports(number, ports); });
  }
}

// ---- units

void Server::add_unit(std::uint32_t number, UnitSpec unit, Done done) {
  const auto found = targets_.find(number);
  if (found == targets_.end() || found->second->leaving) return done(no_target());
  Served& target = *found->second;
  const std::uint16_t lun = unit.lun;
  const auto shared = std::make_shared<const UnitSpec>(std::move(unit));
  if (!target.units.emplace(lun, shared).second) {
    return done(
        fail(Errc::already_exists, fmt::format("{} has a logical unit {} already", target.spec.name, lun)));
  }
  open_on_every_shard(number, shared, [this, number, shared, done = std::move(done)](Status status) {
    if (!status) {  // of the shards on which it was opened it has to go again
      begin_removal(number, shared->lun, [done, status](const Status&) { done(status); });
      return;
    }
    hear_of_space(number, *shared, true);
    // Who sees every unit sees it now; what SendTargets and logins say has not changed.
    done({});
  });
}

void Server::open_on_every_shard(std::uint32_t number, std::shared_ptr<const UnitSpec> unit, Done done) {
  const auto outcomes = std::make_shared<std::vector<Status>>(shards_.size());
  const auto groups =
      std::make_shared<const std::vector<PortalGroup>>(targets_.at(number)->spec.portal_groups);
  on_every_shard([number, unit, outcomes, groups](
                     Shard& shard) { (*outcomes)[shard.number()] = shard.open_unit(number, *unit, *groups); },
                 [outcomes, done = std::move(done)] {
                   const auto failed = std::find_if(outcomes->begin(), outcomes->end(),
                                                    [](const Status& each) { return !each; });
                   done(failed == outcomes->end() ? Status() : *failed);
                 });
}

void Server::remove_unit(std::uint32_t number, std::uint16_t lun, Done done) {
  const auto target = targets_.find(number);
  if (target == targets_.end() || !target->second->units.contains(lun)) {
    return done(fail(Errc::not_found, fmt::format("there is no logical unit {}", lun)));
  }
  const bool going = std::any_of(removals_.begin(), removals_.end(),
                                 [&](const auto& each) { return each->concerns(number, lun); });
  if (going || target->second->access->shows(lun)) {
    return done(fail(
        Errc::busy, fmt::format("logical unit {} is {}", lun, going ? "going already" : "still to be seen")));
  }
  begin_removal(number, lun, std::move(done));
}

void Server::begin_removal(std::uint32_t number, std::uint16_t lun, Done done) {
  removals_.push_back(std::make_shared<Removal>(*this, number, lun, std::move(done)));
  removals_.back()->look();
}

// What was written to it is durable before it is let go: whoever has it next finds all of it.
void Server::removal_over(Removal& removal) {
  const std::uint32_t number = removal.target();
  const std::uint16_t lun = removal.lun();
  flush_unit(number, lun, "unit_not_flushed", [this, &removal] { close_unit(removal); });
}

void Server::flush_unit(std::uint32_t number, std::uint16_t lun, const char* failure,
                        std::function<void()> then) {
  shards_.front()->flush_unit(
      number, lun, [this, number, lun, failure, then = std::move(then)](const Status& flushed) {
        if (!flushed) {
          shards_.front()->log.event(
              EventLog::Level::error, failure,
              fmt::format("target={} lun={} reason=\"{}\"", targets_.at(number)->spec.name, lun,
                          flushed.error().message));
        }
        // Not from inside a callback of the channel, which may go now.
        shards_.front()->loop.post([alive = std::weak_ptr(alive_), then] {
          if (!alive.expired()) then();
        });
      });
}

void Server::close_unit(Removal& removal) {
  const std::uint32_t number = removal.target();
  const std::uint16_t lun = removal.lun();
  on_every_shard([number, lun](Shard& shard) { shard.close_unit(number, lun); },
                 [this, &removal, number, lun] {
                   auto& units = targets_.at(number)->units;
                   const auto unit = units.find(lun);
                   hear_of_space(number, *unit->second, false);
                   units.erase(unit);
                   const Done done = removal.take_done();
                   removals_.remove_if([&](const auto& each) { return each.get() == &removal; });
                   done({});
                 });
}

// ---- portals

Result<std::uint32_t> Server::add_portal(const runtime::Endpoint& endpoint, bool address_may_come_later) {
  if (stopping()) return fail(Errc::busy, "the server is ending");
  auto portal = std::make_unique<Portal>(*this, next_portal_, endpoint);
  runtime::SocketOptions options = config_.socket;
  options.address_may_come_later = address_may_come_later;
  if (Status status = portal->bind(shards_.front()->loop, options); !status)
    return tl::unexpected(status.error());
  portals_.emplace(next_portal_, std::move(portal));
  publish_portals();
  return next_portal_++;
}

void Server::remove_portal(std::uint32_t number) {
  portals_.erase(number);
  publish_portals();
}

// ---- sessions

Result<Server::IoCounters> Server::io_counters(std::uint32_t target, std::uint16_t lun) {
  TargetNode* const node = shards_.front()->find_node(target);
  scsi::LogicalUnit* const unit = node != nullptr ? node->device->unit(lun) : nullptr;
  if (unit == nullptr) return fail(Errc::not_found, fmt::format("there is no logical unit {}", lun));
  const scsi::UnitCounters all = unit->counters_of_all();
  const std::uint64_t block = unit->geometry().block_size_bytes;
  return IoCounters{all.reads, all.blocks_read * block, all.writes, all.blocks_written * block,
                    all.read_errors + all.write_errors};
}

void Server::list_sessions(std::function<void(std::vector<SessionView>)> done) {
  const auto found = std::make_shared<std::vector<std::vector<SessionView>>>(shards_.size());
  on_every_shard([found](Shard& shard) { shard.list_sessions((*found)[shard.number()]); },
                 [found, done = std::move(done)] {
                   std::vector<SessionView> all;
                   for (auto& some : *found) std::move(some.begin(), some.end(), std::back_inserter(all));
                   done(std::move(all));
                 });
}

void Server::request_logouts(std::uint32_t target, std::uint16_t tag, std::chrono::seconds within) {
  list_sessions([this, target, tag, within](const std::vector<SessionView>& sessions) {
    for (const SessionView& session : sessions) {
      if (session.target == target && session.portal_group_tag == tag) request_logout(session.tsih, within);
    }
  });
}

}  // namespace perilune::target
