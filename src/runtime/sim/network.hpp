// SPDX-License-Identifier: Apache-2.0
// The network between the hosts of a world: links with latency that can be cut, listeners, connection
// attempts.
#pragma once

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "runtime/sim/prng.hpp"
#include "runtime/sim/world.hpp"
#include "runtime/stream.hpp"

namespace perilune::sim {

class Connection;
class SimListener;
class SimStream;
struct ConnectAttempt;

class Network {
 public:
  explicit Network(World& world) noexcept : world_(world) {}
  ~Network();

  // Faults, for tests. A cut link swallows everything in both directions for `span` of virtual time
  // (retransmission then carries on), or until heal().
  void cut(const SimHost& a, const SimHost& b, Duration span);
  void cut(const SimHost& a, const SimHost& b);
  void heal(const SimHost& a, const SimHost& b);
  [[nodiscard]] bool is_cut(const SimHost& a, const SimHost& b) const;
  // Resets every connection between the two hosts; returns how many.
  std::size_t reset_connections(const SimHost& a, const SimHost& b);
  [[nodiscard]] std::size_t open_connections() const;

  // For the other parts of the world.
  [[nodiscard]] World& world() noexcept { return world_; }
  [[nodiscard]] Result<std::unique_ptr<SimListener>> listen(SimLoop& loop, const runtime::Endpoint& local,
                                                            const runtime::SocketOptions& options,
                                                            runtime::AcceptHandler& handler);
  [[nodiscard]] std::unique_ptr<runtime::Connecting> connect(SimLoop& loop, const runtime::Endpoint& peer,
                                                             const runtime::SocketOptions& options,
                                                             runtime::ConnectHandler& handler);
  void remove(SimListener& listener) noexcept;
  void host_crashed(SimHost& host, bool power);
  [[nodiscard]] Duration latency(const SimHost& a, const SimHost& b, Prng& prng);

 private:
  struct Link {
    Duration base{};
    Instant cut_until{};
  };
  Link& link(const SimHost& a, const SimHost& b);
  static std::pair<std::uint32_t, std::uint32_t> key(const SimHost& a, const SimHost& b) noexcept;
  [[nodiscard]] SimHost* find_host(const SimHost& from, const runtime::Endpoint& peer) const noexcept;
  [[nodiscard]] SimListener* find_listener(const SimHost& host, const runtime::Endpoint& peer) const noexcept;
  void attempt(const std::shared_ptr<ConnectAttempt>& a);
  void retry(const std::shared_ptr<ConnectAttempt>& a);
  void refuse(const std::shared_ptr<ConnectAttempt>& a);
  void establish(const std::shared_ptr<ConnectAttempt>& a, SimListener& listener, SimHost& server);
  void prune();

  World& world_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, Link> links_;
  std::vector<SimListener*> listeners_;
  std::vector<std::weak_ptr<Connection>> connections_;  // in the order they were made
  std::uint64_t next_connection_ = 1;
};

}  // namespace perilune::sim
