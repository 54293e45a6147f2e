// SPDX-License-Identifier: Apache-2.0
#include "target/server.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <mutex>

#include "base/assert.hpp"
#include "target/connection.hpp"
#include "target/session.hpp"

namespace perilune::target {

std::uint32_t smallest_buffer_pool_pages(const ServerConfig& config) {
  return static_cast<std::uint32_t>(Command::max_pages) +
         BufferPool::pages_for(config.params.first_burst_length);
}

constexpr std::uint32_t max_first_burst_bytes = 0xffffff;  // RFC 7143 13.14

std::uint32_t affordable_first_burst(const ServerConfig& config, std::uint32_t sessions) {
  if (config.promised_commands == 0) return max_first_burst_bytes;
  const std::uint64_t commands = std::uint64_t{config.promised_commands} * sessions;
  const std::uint64_t each = config.buffer_pages * std::uint64_t{BufferPool::page_size_bytes} / commands;
  const std::uint64_t least = BufferPool::page_size_bytes;  // less cannot be promised
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(std::bit_floor(each), least, max_first_burst_bytes));
}

namespace {

std::vector<std::uint16_t> numbers_of(const std::vector<UnitSpec>& units) {
  std::vector<std::uint16_t> numbers;
  for (const UnitSpec& unit : units) numbers.push_back(unit.lun);
  return numbers;
}

Status check(const ServerConfig& config) {
  if (config.buffer_pages < smallest_buffer_pool_pages(config)) {
    return fail(Errc::invalid_argument,
                fmt::format("the buffer pool is too small: {} pages of {} bytes are the least",
                            smallest_buffer_pool_pages(config), BufferPool::page_size_bytes));
  }
  if (config.params.max_connections > limits::max_session_connections) {
    return fail(Errc::invalid_argument,
                fmt::format("MaxConnections must be at most {}", limits::max_session_connections));
  }
  for (const RedirectRule& rule : config.redirects) {
    if (Status status = check_redirect_address(rule.address); !status) return status;
  }
  for (const TargetSpec& target : config.targets) {
    Status status = check_portal_groups(target.portal_groups, config.portals.size());
    if (status) status = check_access(target.access, numbers_of(target.units));
    for (const auto& [tag, rules] : target.rules) {
      if (status) status = check_access(rules.access, numbers_of(target.units));
    }
    if (!status)
      return fail(Errc::invalid_argument, fmt::format("{}: {}", target.name, status.error().message));
  }
  return {};
}

}  // namespace

// Of each group that is open.
std::shared_ptr<const TargetAccess> Server::access_of(const Served& target) const {
  TargetAccess::Groups groups;
  const std::vector<std::uint16_t> units = units_of(target);
  std::shared_ptr<const Access> common;
  std::set<std::uint16_t> told_to_all;
  for (const PortalGroup& group : target.spec.portal_groups) {
    const GroupRules* const rules = rules_of(target.spec, group.tag);
    if (!target.leaving && rules != nullptr && rules->told_to_all && (rules->open || rules->told_when_closed))
      told_to_all.insert(group.tag);
    if (target.leaving || (rules != nullptr && !rules->open)) continue;
    if (rules == nullptr && common == nullptr)
      common = std::make_shared<const Access>(target.spec.access, units);
    groups[group.tag] = rules == nullptr ? common : std::make_shared<const Access>(rules->access, units);
  }
  return std::make_shared<const TargetAccess>(std::move(groups), std::move(told_to_all));
}

Result<std::unique_ptr<Server>> Server::create(runtime::Loop& loop, ServerConfig config, EventLog& log) {
  runtime::Loop* const loops[] = {&loop};
  return create(loops, std::move(config), log);
}

Result<std::unique_ptr<Server>> Server::create(std::span<runtime::Loop* const> loops, ServerConfig config,
                                               EventLog& log) {
  PERILUNE_ASSERT(!loops.empty());
  if (Status status = check(config); !status) return tl::unexpected(status.error());
  std::unique_ptr<Server> server(new Server(std::move(config), static_cast<std::uint32_t>(loops.size())));
  if (Status status = server->make_shards(loops, log); !status) return tl::unexpected(status.error());
  return server;
}

Server::Server(ServerConfig config, std::uint32_t shards)
    : config_(std::move(config)), registry_(*this, shards) {}

Server::~Server() {
  for (const auto& [number, target] : targets_) {
    for (const auto& [lun, unit] : target->units) hear_of_space(number, *unit, false);
  }
  removals_.clear();
  portals_.clear();
}

void Server::hear_of_space(std::uint32_t target, const UnitSpec& unit, bool heard) {
  if (unit.space == nullptr) return;
  unit.space->on_measured(!heard ? std::function<void()>() : [this, target, lun = unit.lun] {
    send_to_device(0, target, [lun](scsi::Device& device) { device.space_measured(lun); });
  });
}

std::vector<std::uint16_t> Server::units_of(const Served& target) const {
  std::vector<std::uint16_t> units;
  for (const auto& [lun, unit] : target.units) units.push_back(lun);
  return units;
}

std::vector<std::shared_ptr<const UnitSpec>> Server::units(std::uint32_t number) const {
  std::vector<std::shared_ptr<const UnitSpec>> units;
  for (const auto& [lun, unit] : targets_.at(number)->units) units.push_back(unit);
  return units;
}

std::vector<scsi::TargetPort> Server::ports_of(const TargetSpec& target) {
  std::vector<scsi::TargetPort> ports;
  for (const PortalGroup& group : target.portal_groups)
    ports.push_back({group.tag, target_port_name(target.name, group.tag)});
  return ports;
}

const GroupRules* Server::rules_of(const TargetSpec& target, std::uint16_t tag) const {
  const auto found = target.rules.find(tag);
  return found == target.rules.end() ? nullptr : &found->second;
}

Server::Served& Server::add_served(TargetSpec spec) {
  const std::uint32_t number = next_target_++;
  numbers_[spec.name] = number;
  Served& target = *targets_.emplace(number, std::make_unique<Served>(std::move(spec))).first->second;
  shards_.front()->loop.random().fill(target.token_key);
  return target;
}

const UnitSpec* Server::find_unit(std::uint32_t target, std::uint16_t lun) const {
  const auto served = targets_.find(target);
  if (served == targets_.end()) return nullptr;
  const auto unit = served->second->units.find(lun);
  return unit != served->second->units.end() ? unit->second.get() : nullptr;
}

// Others may look at it as it was.
void Server::change_unit(std::uint32_t target, std::uint16_t lun,
                         const std::function<void(UnitSpec&)>& edit) {
  const UnitSpec* const now = find_unit(target, lun);
  if (now == nullptr) return;
  auto changed = std::make_shared<UnitSpec>(*now);
  edit(*changed);
  targets_.at(target)->units[lun] = std::move(changed);
}

// All of them before the first unit: devices may send to each other from the beginning.
Status Server::make_shards(std::span<runtime::Loop* const> loops, EventLog& log) {
  const auto share = static_cast<std::uint32_t>(config_.buffer_pages / loops.size());
  for (runtime::Loop* loop : loops) {
    auto pool = BufferPool::create(std::max(share, smallest_buffer_pool_pages(config_)));
    if (!pool) return tl::unexpected(pool.error());
    (*pool)->set_min_shared(static_cast<std::uint32_t>(Command::max_pages));
    shards_.push_back(std::make_unique<Shard>(*this, shard_count(), *loop, std::move(*pool), log));
  }
  for (TargetSpec& spec : config_.targets) {
    Served& target = add_served(std::move(spec));
    for (UnitSpec& unit : target.spec.units) {
      const std::uint16_t lun = unit.lun;
      if (!target.units.emplace(lun, std::make_shared<const UnitSpec>(std::move(unit))).second) {
        return fail(Errc::already_exists, "logical unit number in use");
      }
    }
    target.spec.units.clear();
    target.access = access_of(target);
  }
  config_.targets.clear();
  for (const auto& shard : shards_) {
    for (const auto& [number, target] : targets_) {
      shard->make_target(number, target->spec.name, target->access, ports_of(target->spec));
      shard->start_target(number, target->token_key);
      for (const auto& [lun, unit] : target->units) {
        if (Status status = shard->open_unit(number, *unit, target->spec.portal_groups); !status)
          return status;
      }
    }
  }
  for (const auto& [number, target] : targets_) {
    for (const auto& [lun, unit] : target->units) hear_of_space(number, *unit, true);
  }
  return {};
}

Status Server::Portal::bind(runtime::Loop& loop, const runtime::SocketOptions& options) {
  auto listener = loop.listen(configured_, options, *this);
  if (!listener) {
    Error error = listener.error();
    error.message = fmt::format("portal {}: {}", configured_.to_string(), error.message);
    return tl::unexpected(std::move(error));
  }
  listener_ = std::move(*listener);
  return {};
}

Status Server::start() {
  Status status = bind_portals();
  if (status) status = check_redirects();
  if (!status) {
    portals_.clear();
    next_portal_ = 0;
    return status;
  }
  for (const auto& there : shards_) {
    send(*shards_.front(), *there, [shard = there.get(), addresses = config_.host_addresses] {
      shard->directory.set_host_addresses(addresses);
    });
  }
  publish_portals();
  for (const auto& [number, target] : targets_) publish_target(number);
  return {};
}

Status Server::bind_portals() {
  for (const runtime::Endpoint& endpoint : config_.portals) {
    auto portal = std::make_unique<Portal>(*this, next_portal_, endpoint);
    if (Status status = portal->bind(shards_.front()->loop, config_.socket); !status) return status;
    portals_.emplace(next_portal_++, std::move(portal));
  }
  return {};
}

BoundPortal Server::portal_of(const TargetSpec& target, const Portal& portal) const {
  return {portal.configured(), portal.bound(), portal_group_of(target.portal_groups, portal.number())};
}

Status Server::check_redirects() const {
  for (const auto& [number, target] : targets_) {
    std::vector<BoundPortal> portals;
    for (const auto& [place, portal] : portals_) portals.push_back(portal_of(target->spec, *portal));
    Status status =
        check_redirect_loops(config_.redirects, portals, config_.host_addresses, target->spec.name);
    if (!status) return status;
  }
  return {};
}

std::vector<runtime::Endpoint> Server::bound_portals() const {
  std::vector<runtime::Endpoint> bound;
  for (const auto& [number, portal] : portals_) bound.push_back(portal->bound());
  return bound;
}

void Server::publish_portals() {
  std::vector<Directory::Portal> portals;
  for (const auto& [number, portal] : portals_) portals.push_back({number, portal->bound()});
  for (const auto& there : shards_) {
    send(*shards_.front(), *there, [shard = there.get(), portals] { shard->directory.set_portals(portals); });
  }
}

void Server::publish_target(std::uint32_t number) {
  Served& target = *targets_.at(number);
  target.access = access_of(target);
  const auto told = std::make_shared<const Directory::Target>(
      Directory::Target{target.spec.name, target.spec.portal_groups, target.access});
  for (const auto& there : shards_) {
    send(*shards_.front(), *there, [shard = there.get(), number, told, gone = target.leaving] {
      if (gone) shard->directory.remove_target(told->name);
      else shard->directory.set_target(told);
      shard->set_access(number, told->access);
    });
  }
}

void Server::send(const Shard& from, Shard& to, std::function<void()> work) {
  if (&from == &to) {
    work();
    return;
  }
  to.loop.post([alive = std::weak_ptr(alive_), work = std::move(work)] {
    if (!alive.expired()) work();
  });
}

void Server::send_to_device(std::uint32_t number, std::uint32_t target,
                            std::function<void(scsi::Device&)> work) {
  Shard& there = shard(number);
  there.loop.post([alive = std::weak_ptr(alive_), &there, target, work = std::move(work)] {
    if (alive.expired()) return;
    if (TargetNode* node = there.find_node(target)) work(*node->device);  // else it is gone
  });
}

std::uint32_t DeviceLink::shards() const noexcept { return server_.shard_count(); }

void DeviceLink::send(std::uint32_t shard, std::function<void(scsi::Device&)> work) {
  server_.send_to_device(shard, target_, std::move(work));
}

// ---- logins and sessions ----

void Server::admit_connections() {
  holding_ = false;
  for (auto waiting = std::exchange(held_, {}); auto& [stream, portal] : waiting)
    accepted(std::move(stream), portal);
}

void Server::accepted(std::unique_ptr<runtime::Stream> stream, std::uint32_t portal) {
  if (holding_) {
    held_.emplace_back(std::move(stream), portal);
    if (held_.size() > limits::max_half_open_logins) held_.pop_front();
    return;
  }
  registry_.login_began();
  shards_.front()->accept(std::move(stream), next_connection_id_++, portal);
}

const RedirectRule* Server::redirect_of(const TargetSpec& target, std::uint32_t portal) const {
  // A portal that is bound no more sends nobody on.
  if (config_.redirects.empty()) return nullptr;
  const auto bound = portals_.find(portal);
  if (bound == portals_.end()) return nullptr;
  return find_redirect(config_.redirects, portal_of(target, *bound->second), target.name);
}

iscsi::TargetDecision Server::find_target(const iscsi::TargetQuery& query, Connection& connection) {
  iscsi::TargetDecision decision;
  const AuthSpec* auth = &config_.discovery_auth;
  decision.params = config_.params;
  if (query.session_type == iscsi::SessionType::normal) {
    const auto number = numbers_.find(query.target_name);
    const Served* const served = number == numbers_.end() ? nullptr : targets_.at(number->second).get();
    // A target that is elsewhere is to be found by those who discover it.
    const auto tag = served == nullptr || served->leaving
                         ? std::nullopt
                         : portal_group_of(served->spec.portal_groups, connection.portal());
    if (!tag) {
      decision.status = iscsi::LoginStatus::not_found;
      return decision;
    }
    const TargetSpec& target = served->spec;
    const GroupRules* const rules = rules_of(target, *tag);
    if (rules != nullptr && !(rules->open && rules->admits)) {
      decision.status = iscsi::LoginStatus::service_unavailable;
      return decision;
    }
    const AccessSpec& access = rules != nullptr ? rules->access : target.access;
    const NodeAcl* acl = access.find(query.initiator_name);
    const bool from_here = served->access == nullptr || served->access->admits_from(*tag, connection.peer());
    if (!from_here || (acl == nullptr && !access.demo_mode)) {
      decision.status = iscsi::LoginStatus::authorization_failure;
      return decision;
    }
    const RedirectRule* elsewhere = redirect_of(target, connection.portal());
    if (elsewhere != nullptr) {
      decision.status = elsewhere->permanent ? iscsi::LoginStatus::target_moved_permanently
                                             : iscsi::LoginStatus::target_moved_temporarily;
      decision.redirect_address = elsewhere->address;
      return decision;
    }
    auth = acl != nullptr && acl->auth ? &*acl->auth : rules != nullptr ? &rules->auth : &target.auth;
    decision.target_portal_group_tag = *tag;
    decision.target_alias = rules != nullptr ? rules->alias : target.alias;
    if (rules != nullptr && rules->params) decision.params = *rules->params;
    if (acl != nullptr && acl->error_recovery_level)
      decision.params.error_recovery_level = *acl->error_recovery_level;
    if (rules != nullptr && rules->login_timeout) connection.limit_login(*rules->login_timeout);
  }
  decision.allow_none = auth->allow_none.value_or(auth->accounts.empty());
  for (const auto& account : auth->accounts) decision.accounts.push_back(account.clone());
  if (auth->target_account) decision.target_account = auth->target_account->clone();
  decision.params.first_burst_length =
      std::min(decision.params.first_burst_length,
               affordable_first_burst(config_, static_cast<std::uint32_t>(registry_.session_count()) + 1));
  return decision;
}

void Server::place(Connection& connection, std::uint32_t number, std::uint16_t new_tsih) {
  Shard& first = *shards_.front();
  Shard& there = shard(number);
  if (&there != &first) {
    connection.move_to(there, new_tsih);
  } else if (new_tsih == 0) {
    first.decide_join(connection, connection.login().session_query());
  } else {
    iscsi::SessionDecision decision;
    decision.tsih = new_tsih;
    connection.session_decided(decision, nullptr);
  }
}

void Server::depart(std::shared_ptr<MovingConnection> connection, Shard& there) {
  const std::uint16_t new_tsih = connection->new_tsih;
  send(*shards_.front(), there, [&there, moving = std::move(connection)] { there.arrive(*moving); });
  if (new_tsih != 0) registry_.departed(new_tsih);
}

void Server::end_session(std::uint32_t number, std::uint16_t tsih, std::string_view reason) {
  Shard& there = shard(number);
  send(*shards_.front(), there,
       [&there, tsih, reason = std::string(reason)] { there.end_session(tsih, reason); });
}

void Server::login_over(const Shard& from) {
  send(from, *shards_.front(), [this] { registry_.login_over(); });
}

void Server::session_gone(const Shard& from, std::uint16_t tsih) {
  send(from, *shards_.front(), [this, tsih] { registry_.session_gone(tsih); });
}

void Server::cold_reset(const Shard& from, std::uint32_t target) {
  for (const auto& there : shards_) {
    send(from, *there, [shard = there.get(), target] { shard->cold_reset(target); });
  }
}

// ---- an operator's wishes ----

Status Server::set_access(std::uint32_t target, AccessSpec access) {
  Served& served = *targets_.at(target);
  if (Status status = check_access(access, units_of(served)); !status) return status;
  served.spec.access = std::move(access);
  publish_target(target);
  return {};
}

void Server::on_every_shard(const std::function<void(Shard&)>& work, std::function<void()> then) {
  Shard& first = *shards_.front();
  auto left = std::make_shared<std::size_t>(shards_.size());  // of this thread
  for (const auto& there : shards_) {
    send(first, *there, [this, &first, shard = there.get(), work, left, then] {
      work(*shard);
      send(*shard, first, [left, then] {
        if (--*left == 0) then();
      });
    });
  }
}

Status Server::resize_unit(std::uint32_t target, std::uint16_t lun, BlockCount blocks) {
  const UnitSpec* spec = find_unit(target, lun);
  if (spec == nullptr) return fail(Errc::not_found, fmt::format("there is no logical unit {}", lun));
  if (spec->backstore == nullptr)
    return fail(Errc::unsupported, "its size is not ours: it is a real device, or has no medium");
  const TargetNode::OpenChannel* here = shards_.front()->node(target).find_channel(lun);
  if (here == nullptr || here->channel == nullptr) return fail(Errc::not_found, "there is no medium");
  block::Geometry geometry = here->channel->geometry();
  if (blocks == geometry.blocks) return {};
  if (blocks < geometry.blocks) {
    return fail(
        Errc::unsupported,
        fmt::format("shrunk from {} to {} blocks: the unit keeps its size, and what is behind the end "
                    "is lost; give it its size back, or serve it anew",
                    geometry.blocks.value(), blocks.value()));
  }
  geometry.blocks = blocks;
  if (Status status = scsi::Device::check_medium(geometry, spec->config.type); !status) {
    return fail(Errc::unsupported, status.error().message);
  }
  shards_.front()->log.event(EventLog::Level::info, "unit_resized",
                             fmt::format("target={} lun={} blocks {} -> {}", targets_.at(target)->spec.name,
                                         lun, here->channel->geometry().blocks.value(), blocks.value()));
  on_every_shard([target, lun, blocks](Shard& shard) { shard.set_unit_blocks(target, lun, blocks); },
                 [this, target, lun] {
                   on_every_shard([target, lun](Shard& shard) { shard.unit_resized(target, lun); }, [] {});
                 });
  return {};
}

// ---- what the operator decides of a unit

void Server::set_unit_rules(std::uint32_t target, std::uint16_t lun, const scsi::UnitRules& rules,
                            std::function<void(Status)> done) {
  TargetNode* const node = shards_.front()->find_node(target);
  scsi::LogicalUnit* const unit = node != nullptr ? node->device->unit(lun) : nullptr;
  if (unit == nullptr) return done(fail(Errc::not_found, fmt::format("there is no logical unit {}", lun)));
  if (unit->rules() == rules) return done({});
  change_unit(target, lun, [&](UnitSpec& spec) { spec.config.rules = rules; });
  const bool cached = unit->geometry().write_cache && unit->may_enable_write_cache();
  if (cached && rules.write_cache == false) return take_cache_away(target, lun, rules, std::move(done));
  unit->set_rules(rules, [done = std::move(done)] { done({}); });
}

// Writes are durable from now on; what came before them is flushed; then initiators are told that there is no
// cache.
void Server::take_cache_away(std::uint32_t target, std::uint16_t lun, const scsi::UnitRules& rules,
                             std::function<void(Status)> done) {
  scsi::LogicalUnit& unit = *shards_.front()->node(target).device->unit(lun);
  scsi::UnitRules between = unit.rules();
  between.write_through = true;
  unit.set_rules(between, [this, target, lun, rules, done = std::move(done)] {
    flush_unit(target, lun, "unit_not_flushed", [this, target, lun, rules, done] {
      TargetNode* const node = shards_.front()->find_node(target);
      scsi::LogicalUnit* const there = node != nullptr ? node->device->unit(lun) : nullptr;
      if (there == nullptr) return done(fail(Errc::not_found, "the unit has been removed"));
      there->set_rules(rules, [done] { done({}); });
    });
  });
}

// ---- another medium

struct Server::MediumChange {
  std::uint32_t target;
  std::uint16_t lun;
  Medium medium;
  std::function<void(Status)> done;
  std::mutex mutex;  // of the outcome: the shards' threads have one each
  Status outcome;    // the first that failed
  void note(const Status& status) {
    const std::lock_guard lock(mutex);
    if (!status && outcome) outcome = status;
  }
};

scsi::LogicalUnit* Server::unit_of(const MediumChange& change) {
  TargetNode* const node = shards_.front()->find_node(change.target);
  return node != nullptr ? node->device->unit(change.lun) : nullptr;
}

// What can be known to fail before the medium of now is touched fails here.
Status Server::check_next_medium(const scsi::LogicalUnit& unit, const Medium& medium) {
  if (medium.store == nullptr) return {};
  const block::Geometry& next = medium.store->geometry();
  if (Status status = scsi::Device::check_medium(next, unit.type()); !status) return status;
  if (next.block_size_bytes == unit.geometry().block_size_bytes) return {};
  return fail(Errc::invalid_argument, "its blocks are not as large as those of the medium before");
}

void Server::change_medium(std::uint32_t target, std::uint16_t lun, Medium medium,
                           std::function<void(Status)> done) {
  const UnitSpec* spec = find_unit(target, lun);
  if (spec == nullptr || spec->device != nullptr)
    return done(fail(Errc::not_found, fmt::format("there is no disk or disc {}", lun)));
  auto change = std::make_shared<MediumChange>();
  change->target = target;
  change->lun = lun;
  change->done = std::move(done);
  change->medium = std::move(medium);
  on_every_shard(
      [change](Shard& shard) {
        change->note(shard.open_medium(change->target, change->lun, change->medium.store));
      },
      [this, change] { take_medium_out(change); });
}

bool Server::removal_prevented(std::uint32_t target, std::uint16_t lun) {
  TargetNode* const node = shards_.front()->find_node(target);
  const scsi::LogicalUnit* const unit = node != nullptr ? node->device->unit(lun) : nullptr;
  return unit != nullptr && unit->medium_present() && unit->removal_prevented();
}

// Nothing has changed.
void Server::give_up_medium(std::shared_ptr<MediumChange> change) {
  on_every_shard([change](Shard& shard) { shard.forget_medium(change->target, change->lun); },
                 [change] { change->done(change->outcome); });
}

void Server::take_medium_out(std::shared_ptr<MediumChange> change) {
  scsi::LogicalUnit* unit = unit_of(*change);
  change->note(unit != nullptr ? check_next_medium(*unit, change->medium)
                               : fail(Errc::not_found, "the unit has been removed"));
  if (!change->outcome) return give_up_medium(change);
  unit->take_medium_out([this, change](const Status& status) {
    change->note(status);
    if (!status) return give_up_medium(change);
    flush_unit(change->target, change->lun, "medium_not_flushed", [this, change] { replace_medium(change); });
  });
}

void Server::replace_medium(std::shared_ptr<MediumChange> change) {
  if (const UnitSpec* spec = find_unit(change->target, change->lun)) {
    hear_of_space(change->target, *spec, false);
    change_unit(change->target, change->lun,
                [&](UnitSpec& changed) { changed.space = change->medium.space; });
    hear_of_space(change->target, *find_unit(change->target, change->lun), true);
  }
  on_every_shard(
      [change](Shard& shard) {
        change->note(shard.put_medium_in(change->target, change->lun, change->medium.space));
      },
      [this, change] { shut_tray(change); });
}

void Server::shut_tray(std::shared_ptr<MediumChange> change) {
  scsi::LogicalUnit* unit = unit_of(*change);
  change_unit(change->target, change->lun, [&](UnitSpec& spec) { spec.backstore = change->medium.store; });
  if (unit == nullptr || !change->outcome || change->medium.store == nullptr)
    return change->done(change->outcome);
  unit->shut_tray([change] { change->done({}); });
}

void Server::change_port_groups(std::uint32_t target, const std::function<void(scsi::PortGroups&)>& edit) {
  for (const auto& [lun, unit] : targets_.at(target)->units)
    change_port_groups(target, lun, edit, [](const Status&) {});
}

void Server::change_port_groups(std::uint32_t target, std::uint16_t lun,
                                const std::function<void(scsi::PortGroups&)>& edit,
                                std::function<void(Status)> done) {
  TargetNode* const node = shards_.front()->find_node(target);
  scsi::LogicalUnit* const unit = node != nullptr ? node->device->unit(lun) : nullptr;
  if (unit == nullptr) return done(fail(Errc::not_found, fmt::format("there is no logical unit {}", lun)));
  unit->change_port_groups(edit, [done = std::move(done)] { done({}); });
}

bool Server::to_shard_of(std::uint16_t tsih, std::function<void(Shard&)> work) {
  const auto number = registry_.shard_of(tsih);
  if (!number) return false;
  Shard& there = shard(*number);
  send(*shards_.front(), there, [&there, work = std::move(work)] { work(there); });
  return true;
}

bool Server::request_logout(std::uint16_t tsih, std::chrono::seconds within) {
  return to_shard_of(tsih, [tsih, within](Shard& there) { there.request_logout(tsih, within); });
}

bool Server::request_negotiation(std::uint16_t tsih, std::chrono::seconds within) {
  return to_shard_of(tsih, [tsih, within](Shard& there) { there.request_negotiation(tsih, within); });
}

bool Server::drop_connection(std::uint16_t tsih, std::uint16_t cid) {
  return to_shard_of(tsih, [tsih, cid](Shard& there) { there.drop_connection(tsih, cid); });
}

// ---- shutting down ----

void Server::stop(std::function<void(Status)> stopped) {
  if (shutdown_ != nullptr) return;
  portals_.clear();
  held_.clear();
  registry_.stop();
  shutdown_ = std::make_unique<Shutdown>(Shutdown{std::move(stopped), shards_.size()});
  Shard& first = *shards_.front();
  // A connection that is on its way arrives before this message. The first shard last: it may be over at
  // once.
  for (auto shard = shards_.rbegin(); shard != shards_.rend(); ++shard) {
    send(first, **shard, [there = shard->get()] { there->stop(); });
  }
}

// The flush comes once nobody writes any more; through one channel of a unit it covers what came through all.
void Server::shard_stopped(const Shard& from) {
  send(from, *shards_.front(), [this] {
    if (--shutdown_->shards_left != 0) return;
    shards_.front()->flush_units(std::move(shutdown_->stopped));
  });
}

}  // namespace perilune::target
