// SPDX-License-Identifier: Apache-2.0
// The record of every session of a server, and the decisions that need all of them: on which shard a session
// lives, its TSIH, which session has to end before another begins (RFC 7143 6.3.5). A record lasts from the
// decision until the shard has said that the session, with everything that its commands did, is over. One
// thread (the acceptor's).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "iscsi/login/target_login.hpp"

namespace perilune::target {

class Connection;
class Server;

struct SessionRecord {
  iscsi::SessionType type = iscsi::SessionType::normal;
  std::string initiator_name;
  std::string target_name;
  iscsi::Isid isid{};
  std::uint16_t portal_group_tag = 1;
  std::uint32_t shard = 0;
  bool departing = false;  // the connection that opens it has not left for the shard yet
  bool ending = false;     // its shard has been told, or will be once it has the session
};

class Registry {
 public:
  Registry(Server& server, std::uint32_t shards) : server_(server), sessions_on_(shards, 0) {}

  // The login of a connection on the acceptor's shard has named its session: the connection goes on there, is
  // sent to another shard, or waits for the end of the session that it reinstates.
  void decide(Connection& connection, const iscsi::SessionQuery& query);
  // The connection that opens this session has left for its shard.
  void departed(std::uint16_t tsih);
  // The connection is no more: it waits for nothing.
  void withdraw(const Connection& connection);
  // The shard says that nothing is left of this session (or that it never came to be).
  void session_gone(std::uint16_t tsih);
  // Every login is refused from now on.
  void stop() noexcept { stopping_ = true; }

  // Connections that have not logged in, on whatever shard.
  void login_began() noexcept { ++half_open_; }
  void login_over() noexcept { --half_open_; }
  [[nodiscard]] std::size_t half_open() const noexcept { return half_open_; }

  [[nodiscard]] std::size_t session_count() const noexcept { return records_.size(); }
  // Where it lives; empty: there is no such session, or it is on its way to its shard.
  [[nodiscard]] std::optional<std::uint32_t> shard_of(std::uint16_t tsih) const;
  [[nodiscard]] std::uint32_t sessions_on(std::uint32_t shard) const noexcept { return sessions_on_[shard]; }

 private:
  struct Waiting {
    Connection* connection = nullptr;
    std::uint16_t for_end_of = 0;  // TSIH
  };
  void join(Connection& connection, const iscsi::SessionQuery& query);
  void open(Connection& connection, const iscsi::SessionQuery& query);
  void end(std::uint16_t tsih, SessionRecord& record);
  [[nodiscard]] std::uint32_t least_loaded() const noexcept;
  [[nodiscard]] std::uint16_t allocate_tsih();
  [[nodiscard]] std::vector<Connection*> take_waiting(std::uint16_t tsih);

  Server& server_;
  std::map<std::uint16_t, SessionRecord> records_;  // by TSIH
  std::vector<std::uint32_t> sessions_on_;          // normal sessions, by shard
  std::vector<Waiting> waiting_;
  std::size_t half_open_ = 0;
  std::uint16_t last_tsih_ = 0;
  bool stopping_ = false;
};

}  // namespace perilune::target
