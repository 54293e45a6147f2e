// SPDX-License-Identifier: Apache-2.0
#include "runtime/sim/network.hpp"

#include <algorithm>
#include <cerrno>

#include "runtime/sim/connection.hpp"
#include "runtime/sim/sim_host.hpp"
#include "runtime/sim/sim_stream.hpp"

namespace perilune::sim {

using runtime::Endpoint;

Network::~Network() = default;

std::pair<std::uint32_t, std::uint32_t> Network::key(const SimHost& a, const SimHost& b) noexcept {
  return {std::min(a.id(), b.id()), std::max(a.id(), b.id())};
}

Network::Link& Network::link(const SimHost& a, const SimHost& b) {
  const auto [it, fresh] = links_.try_emplace(key(a, b));
  if (fresh) {
    const NetworkOptions& options = world_.options().network;
    const auto span = static_cast<std::uint64_t>((options.latency_max - options.latency_min).count());
    it->second.base =
        options.latency_min + Duration(static_cast<Duration::rep>(world_.prng().below(span + 1)));
  }
  return it->second;
}

// The base of the link, usually a little more, at times much more.
Duration Network::latency(const SimHost& a, const SimHost& b, Prng& prng) {
  if (&a == &b) return Duration(static_cast<Duration::rep>(1000 + prng.below(20'000)));
  const Duration base = link(a, b).base;
  const auto jitter = prng.below(static_cast<std::uint64_t>(base.count()) / 4 + 1);
  const Duration usual = base + Duration(static_cast<Duration::rep>(jitter));
  return prng.chance(1, 200) ? usual * static_cast<Duration::rep>(prng.between(2, 20)) : usual;
}

void Network::cut(const SimHost& a, const SimHost& b, Duration span) {
  link(a, b).cut_until = world_.now() + span;
}
void Network::cut(const SimHost& a, const SimHost& b) { link(a, b).cut_until = Instant::max(); }
void Network::heal(const SimHost& a, const SimHost& b) { link(a, b).cut_until = Instant{}; }

bool Network::is_cut(const SimHost& a, const SimHost& b) const {
  const auto it = links_.find(key(a, b));
  return it != links_.end() && it->second.cut_until > world_.now();
}

std::size_t Network::reset_connections(const SimHost& a, const SimHost& b) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < connections_.size(); ++i) {
    const auto connection = connections_[i].lock();
    if (!connection || key(*connection->place(0).host, *connection->place(1).host) != key(a, b)) continue;
    connection->reset();
    ++count;
  }
  return count;
}

std::size_t Network::open_connections() const {
  return static_cast<std::size_t>(
      std::count_if(connections_.begin(), connections_.end(), [](const auto& weak) {
        const auto connection = weak.lock();
        return connection && (connection->stream(0) != nullptr || connection->stream(1) != nullptr);
      }));
}

void Network::prune() {
  std::erase_if(connections_, [](const auto& weak) { return weak.expired(); });
}

void Network::host_crashed(SimHost& host, bool power) {
  for (std::size_t i = 0; i < connections_.size(); ++i) {
    const auto connection = connections_[i].lock();
    if (!connection) continue;
    for (int side = 0; side < 2; ++side) {
      if (connection->place(side).host == &host) connection->host_gone(side, power);
    }
  }
  for (SimListener* listener : listeners_) {
    if (&listener->loop().host() == &host) listener->close_backlog();
  }
  std::erase_if(listeners_, [&](SimListener* listener) { return &listener->loop().host() == &host; });
}

Result<std::unique_ptr<SimListener>> Network::listen(SimLoop& loop, const Endpoint& local,
                                                     const runtime::SocketOptions& options,
                                                     runtime::AcceptHandler& handler) {
  SimHost& host = loop.host();
  if (!local.is_wildcard() && !local.is_loopback() && !host.has_address(local)) {
    return fail(Errc::io, local.to_string() + ": Cannot assign requested address", EADDRNOTAVAIL);
  }
  Endpoint chosen = local;
  if (chosen.port == 0) chosen.port = host.next_port();
  for (SimListener* other : listeners_) {
    const Endpoint& taken = other->local();
    if (&other->loop().host() != &host || taken.port != chosen.port) continue;
    if (taken.address == chosen.address || taken.is_wildcard() || chosen.is_wildcard()) {
      return fail(Errc::busy, "listen: Address already in use", EADDRINUSE);
    }
  }
  auto listener = std::make_unique<SimListener>(loop, chosen, options, handler);
  listeners_.push_back(listener.get());
  return listener;
}

void Network::remove(SimListener& listener) noexcept { std::erase(listeners_, &listener); }

SimHost* Network::find_host(const SimHost& from, const Endpoint& peer) const noexcept {
  for (const auto& host : world_.hosts()) {
    if (peer.is_loopback() ? host.get() == &from : host->has_address(peer)) return host.get();
  }
  return nullptr;
}

SimListener* Network::find_listener(const SimHost& host, const Endpoint& peer) const noexcept {
  for (SimListener* listener : listeners_) {
    if (listener->takes(host, peer)) return listener;
  }
  return nullptr;
}

std::unique_ptr<runtime::Connecting> Network::connect(SimLoop& loop, const Endpoint& peer,
                                                      const runtime::SocketOptions& options,
                                                      runtime::ConnectHandler& handler) {
  auto a = std::make_shared<ConnectAttempt>();
  a->loop = &loop;
  a->peer = peer;
  a->options = options;
  a->deadline = world_.now() + world_.options().network.connect_timeout;
  a->retry = std::chrono::seconds(1);
  for (const auto& address : loop.host().addresses()) {
    if (address.is_ipv6 == peer.is_ipv6) a->local = address;
  }
  if (peer.is_loopback()) a->local = peer;
  if (options.bind_address) a->local = *options.bind_address;
  if (!options.bind_address || options.bind_address->port == 0) a->local.port = loop.host().next_port();
  auto connecting = std::make_unique<SimConnecting>(a, handler);
  if (loop.dead()) return connecting;
  if (!a->local.is_loopback() && !loop.host().has_address(a->local)) {
    connecting->finish(
        fail(Errc::io, a->local.to_string() + ": Cannot assign requested address", EADDRNOTAVAIL));
    return connecting;
  }
  a->lost = world_.prng().per_million(world_.options().network.lose_per_million_connects);
  SimHost* server = find_host(loop.host(), peer);
  const SimHost& far = server != nullptr ? *server : loop.host();
  world_.at(latency(loop.host(), far, world_.prng()), Event::connect, peer.port, [this, a] { attempt(a); });
  return connecting;
}

// A SYN arrives, or does not.
void Network::attempt(const std::shared_ptr<ConnectAttempt>& a) {
  if (a->owner == nullptr || a->loop->dead()) return;
  if (a->loop->ghost()) {
    a->owner->finish(fail(Errc::cancelled, "the simulated host has crashed"));
    return;
  }
  SimHost* server = find_host(a->loop->host(), a->peer);
  if (a->lost || server == nullptr || !server->powered() || is_cut(a->loop->host(), *server)) {
    retry(a);
    return;
  }
  SimListener* listener = find_listener(*server, a->peer);
  if (listener != nullptr && listener->full()) {
    retry(a);
    return;
  }
  if (listener == nullptr ||
      world_.prng().per_million(world_.options().network.refuse_per_million_connects)) {
    refuse(a);
    return;
  }
  establish(a, *listener, *server);
}

void Network::retry(const std::shared_ptr<ConnectAttempt>& a) {
  if (world_.now() + a->retry > a->deadline) {
    a->owner->finish(fail_errno(ETIMEDOUT, "connect " + a->peer.to_string()));
    return;
  }
  world_.at(a->retry, Event::connect, a->peer.port, [this, a] { attempt(a); });
  a->retry *= 2;
}

void Network::refuse(const std::shared_ptr<ConnectAttempt>& a) {
  const Duration back = latency(a->loop->host(), a->loop->host(), world_.prng());
  world_.at(back, Event::connect_answer, 0, [a] {
    if (a->owner != nullptr) a->owner->finish(fail_errno(ECONNREFUSED, "connect " + a->peer.to_string()));
  });
}

void Network::establish(const std::shared_ptr<ConnectAttempt>& a, SimListener& listener, SimHost& server) {
  Connection::Place client{a->loop, &a->loop->host(), a->local};
  Connection::Place accepted{&listener.loop(), &server, a->peer};
  auto connection = std::make_shared<Connection>(*this, next_connection_++, client, accepted);
  prune();
  connections_.push_back(connection);
  listener.enqueue(connection);
  const Duration back = latency(a->loop->host(), server, world_.prng());
  world_.at(back, Event::connect_answer, connection->id(), [a, connection] {
    if (a->loop->dead()) return;
    if (a->owner == nullptr) {
      connection->close(0);  // abandoned: the server sees an end
    } else if (a->loop->ghost()) {
      a->owner->finish(fail(Errc::cancelled, "the simulated host has crashed"));
    } else {
      a->owner->finish(connection);
    }
  });
}

}  // namespace perilune::sim
