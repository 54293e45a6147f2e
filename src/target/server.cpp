// SPDX-License-Identifier: Apache-2.0
#include "target/server.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.hpp"
#include "target/connection.hpp"
#include "target/session.hpp"

namespace perilune::target {

std::uint32_t smallest_buffer_pool_pages(const ServerConfig& config) {
  return static_cast<std::uint32_t>(Command::max_pages) + BufferPool::pages_for(config.params.first_burst_length);
}

namespace {

Status check(const ServerConfig& config) {
  if (config.buffer_pages < smallest_buffer_pool_pages(config)) {
    return fail(Errc::invalid_argument, fmt::format("the buffer pool is too small: {} pages of {} bytes are the least",
                                                    smallest_buffer_pool_pages(config), BufferPool::page_size_bytes));
  }
  if (config.params.max_connections > limits::max_session_connections) {
    return fail(Errc::invalid_argument,
                fmt::format("MaxConnections must be at most {}", limits::max_session_connections));
  }
  for (const RedirectRule& rule : config.redirects) {
    if (Status status = check_redirect_address(rule.address); !status) return status;
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Server>> Server::create(runtime::Loop& loop, ServerConfig config, EventLog& log) {
  runtime::Loop* const loops[] = {&loop};
  return create(loops, std::move(config), log);
}

Result<std::unique_ptr<Server>> Server::create(std::span<runtime::Loop* const> loops, ServerConfig config, EventLog& log) {
  PERILUNE_ASSERT(!loops.empty());
  if (Status status = check(config); !status) return tl::unexpected(status.error());
  std::unique_ptr<Server> server(new Server(std::move(config), static_cast<std::uint32_t>(loops.size())));
  if (Status status = server->make_shards(loops, log); !status) return tl::unexpected(status.error());
  return server;
}

Server::Server(ServerConfig config, std::uint32_t shards) : config_(std::move(config)), registry_(*this, shards) {}

Server::~Server() {
  hear_of_space(false);
  listeners_.clear();
}

void Server::hear_of_space(bool heard) {
  for (std::uint32_t target = 0; target < config_.targets.size(); ++target) {
    for (const UnitSpec& unit : config_.targets[target].units) {
      if (unit.space == nullptr) continue;
      unit.space->on_measured(!heard ? std::function<void()>() : [this, target, lun = unit.lun] {
        send_to_device(0, target, [lun](scsi::Device& device) { device.space_measured(lun); });
      });
    }
  }
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
  token_keys_.resize(config_.targets.size());
  for (scsi::RodTokenKey& key : token_keys_) loops.front()->random().fill(key);
  for (const auto& shard : shards_) {
    if (Status status = shard->open_targets(config_.targets); !status) return status;
  }
  hear_of_space(true);
  return {};
}

Status Server::start() {
  for (const runtime::Endpoint& portal : config_.portals) {
    auto listener = shards_.front()->loop.listen(portal, config_.socket, *this);
    if (!listener) {
      listeners_.clear();
      portals_.clear();
      Error error = listener.error();
      error.message = fmt::format("portal {}: {}", portal.to_string(), error.message);
      return tl::unexpected(std::move(error));
    }
    portals_.push_back((*listener)->local());
    listeners_.push_back(std::move(*listener));
  }
  for (const TargetSpec& target : config_.targets) {
    Status status = check_redirect_loops(config_.redirects, portals(), config_.host_addresses, target.name, target.portal_group_tag);
    if (status) continue;
    listeners_.clear();
    portals_.clear();
    return status;
  }
  return {};
}

std::vector<BoundPortal> Server::portals() const {
  std::vector<BoundPortal> portals;
  for (std::size_t i = 0; i < portals_.size(); ++i) portals.push_back({config_.portals[i], portals_[i]});
  return portals;
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

void Server::send_to_device(std::uint32_t number, std::uint32_t target, std::function<void(scsi::Device&)> work) {
  Shard& there = shard(number);
  there.loop.post([alive = std::weak_ptr(alive_), &there, target, work = std::move(work)] {
    if (!alive.expired()) work(*there.node(target).device);
  });
}

std::uint32_t DeviceLink::shards() const noexcept { return server_.shard_count(); }

void DeviceLink::send(std::uint32_t shard, std::function<void(scsi::Device&)> work) {
  server_.send_to_device(shard, target_, std::move(work));
}

// ---- logins and sessions ----

void Server::on_accepted(std::unique_ptr<runtime::Stream> stream) {
  registry_.login_began();
  shards_.front()->accept(std::move(stream), next_connection_id_++);
}

iscsi::TargetDecision Server::find_target(const iscsi::TargetQuery& query, const Connection& connection) {
  iscsi::TargetDecision decision;
  const AuthSpec* auth = &config_.discovery_auth;
  if (query.session_type == iscsi::SessionType::normal) {
    const auto target = std::find_if(config_.targets.begin(), config_.targets.end(),
                                     [&](const TargetSpec& spec) { return spec.name == query.target_name; });
    if (target == config_.targets.end()) {
      decision.status = iscsi::LoginStatus::not_found;
      return decision;
    }
    const RedirectRule* elsewhere =
        config_.redirects.empty()
            ? nullptr
            : find_redirect(config_.redirects, portals(), connection.local(), target->name, target->portal_group_tag);
    if (elsewhere != nullptr) {
      decision.status = elsewhere->permanent ? iscsi::LoginStatus::target_moved_permanently
                                             : iscsi::LoginStatus::target_moved_temporarily;
      decision.redirect_address = elsewhere->address;
      return decision;
    }
    auth = &target->auth;
    decision.target_portal_group_tag = target->portal_group_tag;
    decision.target_alias = target->alias;
  }
  decision.allow_none = auth->accounts.empty();
  for (const auto& account : auth->accounts) decision.accounts.push_back(account.clone());
  if (auth->target_account) decision.target_account = auth->target_account->clone();
  decision.params = config_.params;
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
  send(*shards_.front(), there, [&there, tsih, reason = std::string(reason)] { there.end_session(tsih, reason); });
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

// ---- discovery ----

std::vector<std::string> Server::addresses(const TargetSpec& target, const runtime::Endpoint& asked) const {
  std::vector<std::string> result;
  const auto add = [&](const runtime::Endpoint& endpoint) {
    std::string text = fmt::format("{},{}", endpoint.to_string(), target.portal_group_tag);
    if (std::find(result.begin(), result.end(), text) == result.end()) result.push_back(std::move(text));
  };
  // First the address that was asked, which the initiator can reach for certain.
  add(asked);
  for (const runtime::Endpoint& portal : portals_) {
    if (!portal.is_wildcard()) {
      if (portal.is_loopback() == asked.is_loopback() && !portal.is_link_local()) add(portal);
      continue;
    }
    if (asked.is_loopback()) continue;
    for (runtime::Endpoint host : config_.host_addresses) {
      if (host.is_loopback() || host.is_link_local() || (host.is_ipv6 && !portal.is_ipv6)) continue;
      host.port = portal.port;
      add(host);
    }
  }
  return result;
}

std::vector<iscsi::SendTargetsRecord> Server::send_targets(const Session& session, const runtime::Endpoint& portal,
                                                                std::string_view asked) const {
  std::vector<iscsi::SendTargetsRecord> records;
  const TargetSpec* own = session.node() != nullptr ? &session.node()->spec : nullptr;
  for (const TargetSpec& target : config_.targets) {
    if (asked.empty() ? &target != own : asked != "All" && asked != target.name) continue;
    records.push_back({target.name, addresses(target, portal)});
  }
  return records;
}

// ---- an operator's wishes ----

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
  listeners_.clear();
  registry_.stop();
  shutdown_ = std::make_unique<Shutdown>(Shutdown{std::move(stopped), shards_.size()});
  Shard& first = *shards_.front();
  // A connection that is on its way arrives before this message. The first shard last: it may be over at once.
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
