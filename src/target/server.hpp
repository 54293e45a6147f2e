// SPDX-License-Identifier: Apache-2.0
// A target server: portals, the session registry, and the shards that serve the sessions (DESIGN 1.3, 1.4). The first loop
// accepts and logs in; a connection then moves to the shard of its session and stays there for life. Public methods belong to
// the thread of the first loop.
//
//   auto server = Server::create(loops, std::move(config), log);
//   (*server)->start();            // binds the portals
//   // every loop runs on its own thread; (*server)->stop(done) from the first one
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "iscsi/login/target_login.hpp"
#include "iscsi/login/text_exchange.hpp"
#include "target/config.hpp"
#include "target/registry.hpp"
#include "target/shard.hpp"

namespace perilune::target {

class Connection;
class Session;

class Server {
 public:
  // Opens every unit on every loop; no loop runs yet. Fails with what open_channel says, invalid_argument (names, credentials,
  // limits). `log` is used by the threads of all loops.
  [[nodiscard]] static Result<std::unique_ptr<Server>> create(std::span<runtime::Loop* const> loops, ServerConfig config,
                                                              EventLog& log);
  [[nodiscard]] static Result<std::unique_ptr<Server>> create(runtime::Loop& loop, ServerConfig config, EventLog& log);
  // Precondition: stop() has finished, or the loops will never run again; and no other thread runs one of them.
  ~Server();

  // Binds the portals. Fails with busy, permission, invalid_argument (redirects that lead back); then nothing is bound.
  [[nodiscard]] Status start();
  // By number; empty before start().
  [[nodiscard]] std::vector<runtime::Endpoint> bound_portals() const;
  // No new connections; initiators are asked to log out (logout_timeout), commands of those that do not end (at most
  // drain_timeout), they are told, connections close, units are flushed; then `stopped` with the first error of a flush. The loops go on: messages may still be under way between them.
  void stop(std::function<void(Status)> stopped);

  // Changes the port groups of every unit of the target, as one change of each (LogicalUnit::change_port_groups). `edit` may be called
  // after the return.
  void change_port_groups(std::uint32_t target, const std::function<void(scsi::PortGroups&)>& edit);

  // The backing of the unit has so many blocks now (Backstore::look_at_size). Grown: they are there on all shards, and then every
  // nexus learns by 2A/09. Unchanged: nothing happens. Fails with not_found; unsupported: it is no disk of a backstore, or has
  // shrunk, or is too large for its type. A unit is never made smaller: initiators have been told of the blocks that it has, no
  // command takes that back, and what they keep there is not ours to judge. Reads behind the end of the backing fail, until a write
  // has made a file long again.
  [[nodiscard]] Status resize_unit(std::uint32_t target, std::uint16_t lun, BlockCount blocks);

  // The operator puts another medium into a unit whose medium can be taken out, or none (`medium.store` is nullptr): the medium of
  // before leaves the unit, is flushed and let go, and the other one is there, over all shards (LogicalUnit::take_medium_out and what
  // follows). `done`, at once or later, with not_found, what open_channel and take_medium_out fail with (then nothing has changed), or
  // invalid_argument (a medium that the unit does not serve: it has none now). One at a time for each unit.
  struct Medium {
    std::shared_ptr<block::Backstore> store;
    block::SpaceMeter* space = nullptr;  // of it (UnitSpec::space)
  };
  void change_medium(std::uint32_t target, std::uint16_t lun, Medium medium, std::function<void(Status)> done);

  // Who may use the target, and what of it, from now on. Sessions whose initiator may not be here any more end; of the others, those
  // that see other LUNs learn by 3F/0E, and nothing else happens to them. Credentials count for logins to come. Fails with what
  // check_access() says; then nothing has changed.
  [[nodiscard]] Status set_access(std::uint32_t target, AccessSpec access);
  // The same for who has to prove what: logins to come.
  void set_auth(std::uint32_t target, AuthSpec auth) { config_.targets[target].auth = std::move(auth); }

  // --- what an operator may ask of the initiator of a session (RFC 7143 11.9.1). False: there is no such session ---
  // All its connections are asked for a Logout; those for which none comes in time are dropped, with an announcement.
  bool request_logout(std::uint16_t tsih, std::chrono::seconds within);
  // All its connections are asked for a Text Request, which may change what was declared; three times if need be.
  bool request_negotiation(std::uint16_t tsih, std::chrono::seconds within);
  // This one is told that it is dropped, and dropped; at recovery level 2 its tasks wait for another.
  bool drop_connection(std::uint16_t tsih, std::uint16_t cid);

  [[nodiscard]] std::size_t session_count() const noexcept { return registry_.session_count(); }
  [[nodiscard]] const Registry& registry() const noexcept { return registry_; }

  // --- any thread: what does not change after start() ---
  [[nodiscard]] const ServerConfig& config() const noexcept { return config_; }
  [[nodiscard]] std::uint32_t shard_count() const noexcept { return static_cast<std::uint32_t>(shards_.size()); }
  [[nodiscard]] Shard& shard(std::uint32_t number = 0) noexcept { return *shards_[number]; }
  [[nodiscard]] std::shared_ptr<const Access> access(std::uint32_t target) const { return accesses_[target]; }  // while shards are made
  [[nodiscard]] const scsi::RodTokenKey& token_key(std::uint32_t target) const noexcept { return token_keys_[target]; }
  // Calls `work` on the thread of `to`: at once when that is the caller's own (`from`), else from a later turn there, in
  // order for each pair of shards. Never once the server is gone. Control path: it allocates.
  void send(const Shard& from, Shard& to, std::function<void()> work);
  // The same for the device of a target there, always from a later turn.
  void send_to_device(std::uint32_t shard, std::uint32_t target, std::function<void(scsi::Device&)> work);

  // --- from the shards' threads ---
  void login_over(const Shard& from);
  void session_gone(const Shard& from, std::uint16_t tsih);
  void cold_reset(const Shard& from, std::uint32_t target);
  void shard_stopped(const Shard& from);

  // --- for logins, which run on the first shard ---
  [[nodiscard]] bool too_many_logins() const noexcept { return registry_.half_open() > limits::max_half_open_logins; }
  [[nodiscard]] iscsi::TargetDecision find_target(const iscsi::TargetQuery& query, const Connection& connection);
  void decide_session(Connection& connection, const iscsi::SessionQuery& query) { registry_.decide(connection, query); }
  void withdraw(const Connection& connection) { registry_.withdraw(connection); }
  // From here on what is said of its session follows it.
  void depart(std::shared_ptr<MovingConnection> connection, Shard& there);

  // --- for Registry ---
  // Sends the connection to the shard of its session. new_tsih: it opens that one; 0: it joins one that is there.
  void place(Connection& connection, std::uint32_t shard, std::uint16_t new_tsih);
  void end_session(std::uint32_t shard, std::uint16_t tsih, std::string_view reason);

 private:
  struct MediumChange;
  [[nodiscard]] UnitSpec* find_unit(std::uint32_t target, std::uint16_t lun);
  void hear_of_space(std::uint32_t target, const UnitSpec& unit, bool heard);
  [[nodiscard]] static Status check_next_medium(const scsi::LogicalUnit& unit, const Medium& medium);
  void take_medium_out(std::shared_ptr<MediumChange> change);
  void give_up_medium(std::shared_ptr<MediumChange> change);
  void replace_medium(std::shared_ptr<MediumChange> change);
  void shut_tray(std::shared_ptr<MediumChange> change);

  // A portal that is bound. What comes in through it knows its number.
  class Portal final : public runtime::AcceptHandler {
   public:
    Portal(Server& server, std::uint32_t number, const runtime::Endpoint& configured)
        : server_(server), number_(number), configured_(configured) {}
    [[nodiscard]] Status bind(runtime::Loop& loop, const runtime::SocketOptions& options);
    [[nodiscard]] std::uint32_t number() const noexcept { return number_; }
    [[nodiscard]] const runtime::Endpoint& configured() const noexcept { return configured_; }
    [[nodiscard]] runtime::Endpoint bound() const { return listener_->local(); }  // precondition: bind()
    void on_accepted(std::unique_ptr<runtime::Stream> stream) override { server_.accepted(std::move(stream), number_); }

   private:
    Server& server_;
    std::uint32_t number_;
    runtime::Endpoint configured_;
    std::unique_ptr<runtime::Listener> listener_;
  };

  // Does `work` on every shard, and `then` here when all have.
  void on_every_shard(const std::function<void(Shard&)>& work, std::function<void()> then);
  bool to_shard_of(std::uint16_t tsih, std::function<void(Shard&)> work);
  void accepted(std::unique_ptr<runtime::Stream> stream, std::uint32_t portal);
  struct Shutdown {
    std::function<void(Status)> stopped;
    std::size_t shards_left = 0;
  };

  Server(ServerConfig config, std::uint32_t shards);
  // What the space watch finds out reaches the devices; `heard` false: no more.
  void hear_of_space(bool heard);
  [[nodiscard]] Status make_shards(std::span<runtime::Loop* const> loops, EventLog& log);
  [[nodiscard]] Status bind_portals();
  [[nodiscard]] Status check_redirects() const;
  [[nodiscard]] const RedirectRule* redirect_of(const TargetSpec& target, std::uint32_t portal) const;
  [[nodiscard]] BoundPortal portal_of(const TargetSpec& target, const Portal& portal) const;
  // Every shard answers SendTargets with what is so now.
  void publish_directory();

  ServerConfig config_;
  Registry registry_;
  std::vector<std::shared_ptr<const Access>> accesses_;  // by target
  std::vector<scsi::RodTokenKey> token_keys_;  // by target, the same on all shards
  std::vector<std::unique_ptr<Shard>> shards_;
  std::vector<std::unique_ptr<Portal>> portals_;  // by number
  std::uint64_t next_connection_id_ = 1;
  std::unique_ptr<Shutdown> shutdown_;
  std::shared_ptr<const int> alive_ = std::make_shared<const int>(0);  // messages that come later find it gone
};

}  // namespace perilune::target
