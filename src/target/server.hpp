// SPDX-License-Identifier: Apache-2.0
// A target server: portals, the session registry, and the shards that serve the sessions (DESIGN 1.3, 1.4).
// The first loop accepts and logs in; a connection then moves to the shard of its session and stays there for
// life. Public methods belong to the thread of the first loop.
//
//   auto server = Server::create(loops, std::move(config), log);
//   (*server)->start();            // binds the portals
//   // every loop runs on its own thread; (*server)->stop(done) from the first one
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
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
  // Opens every unit on every loop; no loop runs yet. Fails with what open_channel says, invalid_argument
  // (names, credentials, limits). `log` is used by the threads of all loops.
  [[nodiscard]] static Result<std::unique_ptr<Server>> create(std::span<runtime::Loop* const> loops,
                                                              ServerConfig config, EventLog& log);
  [[nodiscard]] static Result<std::unique_ptr<Server>> create(runtime::Loop& loop, ServerConfig config,
                                                              EventLog& log);
  // Precondition: stop() has finished, or the loops will never run again; and no other thread runs one of
  // them.
  ~Server();

  // Binds the portals. Fails with busy, permission, invalid_argument (redirects that lead back); then nothing
  // is bound.
  [[nodiscard]] Status start();
  // By number; empty before start().
  [[nodiscard]] std::vector<runtime::Endpoint> bound_portals() const;
  // No new connections; initiators are asked to log out (logout_timeout), commands of those that do not end
  // (at most drain_timeout), they are told, connections close, units are flushed; then `stopped` with the
  // first error of a flush. The loops go on: messages may still be under way between them.
  void stop(std::function<void(Status)> stopped);

  // Changes the port groups of every unit of the target, as one change of each
  // (LogicalUnit::change_port_groups). `edit` may be called after the return.
  void change_port_groups(std::uint32_t target, const std::function<void(scsi::PortGroups&)>& edit);
  // Of one unit. `done` when it is in force on every shard, as with set_unit_rules(). With not_found.
  void change_port_groups(std::uint32_t target, std::uint16_t lun,
                          const std::function<void(scsi::PortGroups&)>& edit,
                          std::function<void(Status)> done);

  // The backing of the unit has so many blocks now (Backstore::look_at_size). Grown: they are there on all
  // shards, and then every nexus learns by 2A/09. Unchanged: nothing happens. Fails with not_found;
  // unsupported: it is no disk of a backstore, or has shrunk, or is too large for its type. A unit is never
  // made smaller: initiators have been told of the blocks that it has, no command takes that back, and what
  // they keep there is not ours to judge. Reads behind the end of the backing fail, until a write has made a
  // file long again.
  [[nodiscard]] Status resize_unit(std::uint32_t target, std::uint16_t lun, BlockCount blocks);

  // What the operator decides of a unit (scsi/unit_rules.hpp), on every shard. A write cache that is taken
  // away from initiators is flushed before they learn of it. `done` when it is in force: no command that was
  // let through before is in progress any more. With not_found. A flush that fails is an error in the log. At
  // once where nothing differs.
  void set_unit_rules(std::uint32_t target, std::uint16_t lun, const scsi::UnitRules& rules,
                      std::function<void(Status)> done);

  // The operator puts another medium into a unit whose medium can be taken out, or none (`medium.store` is
  // nullptr): the medium of before leaves the unit, is flushed and let go, and the other one is there, over
  // all shards (LogicalUnit::take_medium_out and what follows). `done`, at once or later, with not_found,
  // what open_channel and take_medium_out fail with (then nothing has changed), or invalid_argument (a medium
  // that the unit does not serve: it has none now). One at a time for each unit.
  struct Medium {
    std::shared_ptr<block::Backstore> store;
    block::SpaceMeter* space = nullptr;  // of it (UnitSpec::space)
  };
  void change_medium(std::uint32_t target, std::uint16_t lun, Medium medium,
                     std::function<void(Status)> done);

  // Whether an initiator prevents that the medium leaves this unit: change_medium() fails with busy as long
  // as it does.
  [[nodiscard]] bool removal_prevented(std::uint32_t target, std::uint16_t lun);

  // Who may use the target, and what of it, from now on. Sessions whose initiator may not be here any more
  // end; of the others, those that see other LUNs learn by 3F/0E, and nothing else happens to them.
  // Credentials count for logins to come. Fails with what check_access() says; then nothing has changed.
  [[nodiscard]] Status set_access(std::uint32_t target, AccessSpec access);
  // The same for who has to prove what: logins to come.
  void set_auth(std::uint32_t target, AuthSpec auth) { targets_.at(target)->spec.auth = std::move(auth); }
  void set_discovery_auth(AuthSpec auth) { config_.discovery_auth = std::move(auth); }

  // --- what comes and goes while it serves (server_changes.cpp). Nothing here disturbs what it does not
  // name. `done` is called on this thread, at once or later. Numbers of targets and portals are not given
  // twice. ---
  using Done = std::function<void(Status)>;
  // A target without units, whose groups may have no portal. `done` with its number. Fails with
  // already_exists (also while one of the name is still going), invalid_argument.
  void add_target(TargetSpec spec, std::function<void(Result<std::uint32_t>)> done);
  // Logins to it find nothing, its sessions end as those of a group that closes, its units go: then `done`.
  // not_found.
  void remove_target(std::uint32_t target, Done done);
  // Puts a portal group in the place of the one of its tag, or adds it: where it is to be reached and what it
  // says of itself. Sessions follow as with set_access(). Fails with not_found, invalid_argument; then
  // nothing has changed.
  [[nodiscard]] Status set_group(std::uint32_t target, PortalGroup group, GroupRules rules);
  [[nodiscard]] Status remove_group(std::uint32_t target, std::uint16_t tag);
  // Opens the unit on every shard; those who see every unit learn by 3F/0E, for the others it is there when a
  // map shows it. Fails with what opening it says, already_exists, not_found; then nothing has changed.
  void add_unit(std::uint32_t target, UnitSpec unit, Done done);
  // Nobody sees the unit any more (set_group()): what is in progress on it ends, then it goes from all
  // shards, and its channels close: then `done`. Its meter (UnitSpec::space) is for the caller to forget,
  // where that may block. Fails with not_found, busy (somebody may see it).
  void remove_unit(std::uint32_t target, std::uint16_t lun, Done done);
  // Listens there. Fails with busy, permission, invalid_argument. It serves the groups that name its number,
  // and those that name none. `address_may_come_later`: this machine need not have the address yet.
  [[nodiscard]] Result<std::uint32_t> add_portal(const runtime::Endpoint& endpoint,
                                                 bool address_may_come_later = false);
  // From now on connections wait, unread, until admit_connections(); beyond limits::max_half_open_logins the
  // oldest goes. For a server that gets its targets one by one when it starts: a login would hear that its
  // target does not exist, and initiators may believe that.
  void hold_connections() { holding_ = true; }
  void admit_connections();
  // No more; connections that came through it go on. Groups that name it are the caller's to change.
  void remove_portal(std::uint32_t number);
  // What READs and WRITEs of all initiators have moved since the unit was there.
  struct IoCounters {
    std::uint64_t reads = 0;
    std::uint64_t read_bytes = 0;
    std::uint64_t writes = 0;
    std::uint64_t write_bytes = 0;
    std::uint64_t errors = 0;  // of the medium
  };
  [[nodiscard]] Result<IoCounters> io_counters(std::uint32_t target, std::uint16_t lun);  // not_found
  // Normal sessions, in no order.
  void list_sessions(std::function<void(std::vector<SessionView>)> done);
  // Every session of the group is asked to log out; those that have not in time are dropped, with an
  // announcement.
  void request_logouts(std::uint32_t target, std::uint16_t tag, std::chrono::seconds within);

  // --- what an operator may ask of the initiator of a session (RFC 7143 11.9.1). False: there is no such
  // session --- All its connections are asked for a Logout; those for which none comes in time are dropped,
  // with an announcement.
  bool request_logout(std::uint16_t tsih, std::chrono::seconds within);
  // All its connections are asked for a Text Request, which may change what was declared; three times if need
  // be.
  bool request_negotiation(std::uint16_t tsih, std::chrono::seconds within);
  // This one is told that it is dropped, and dropped; at recovery level 2 its tasks wait for another.
  bool drop_connection(std::uint16_t tsih, std::uint16_t cid);

  [[nodiscard]] std::size_t session_count() const noexcept { return registry_.session_count(); }
  [[nodiscard]] const Registry& registry() const noexcept { return registry_; }

  // As it is now.
  [[nodiscard]] const TargetSpec& target(std::uint32_t number) const {
    return targets_.at(number)->spec;
  }  // but for its units
  [[nodiscard]] std::vector<std::shared_ptr<const UnitSpec>> units(std::uint32_t number) const;

  // --- any thread: what does not change after start() ---
  // But for targets (none: target() has them), portals and discovery_auth.
  [[nodiscard]] const ServerConfig& config() const noexcept { return config_; }
  [[nodiscard]] std::uint32_t shard_count() const noexcept {
    return static_cast<std::uint32_t>(shards_.size());
  }
  [[nodiscard]] Shard& shard(std::uint32_t number = 0) noexcept { return *shards_[number]; }
  // Calls `work` on the thread of `to`: at once when that is the caller's own (`from`), else from a later
  // turn there, in order for each pair of shards. Never once the server is gone. Control path: it allocates.
  void send(const Shard& from, Shard& to, std::function<void()> work);
  // The same for the device of a target there, always from a later turn.
  void send_to_device(std::uint32_t shard, std::uint32_t target, std::function<void(scsi::Device&)> work);

  // --- from the shards' threads ---
  void login_over(const Shard& from);
  void session_gone(const Shard& from, std::uint16_t tsih);
  void cold_reset(const Shard& from, std::uint32_t target);
  [[nodiscard]] bool stopping() const noexcept { return shutdown_ != nullptr; }  // the first shard's thread
  void shard_stopped(const Shard& from);

  // --- for logins, which run on the first shard ---
  [[nodiscard]] bool too_many_logins() const noexcept {
    return registry_.half_open() > limits::max_half_open_logins;
  }
  [[nodiscard]] iscsi::TargetDecision find_target(const iscsi::TargetQuery& query, Connection& connection);
  void decide_session(Connection& connection, const iscsi::SessionQuery& query) {
    registry_.decide(connection, query);
  }
  void withdraw(const Connection& connection) { registry_.withdraw(connection); }
  // From here on what is said of its session follows it.
  void depart(std::shared_ptr<MovingConnection> connection, Shard& there);

  // --- for Registry ---
  // Sends the connection to the shard of its session. new_tsih: it opens that one; 0: it joins one that is
  // there.
  void place(Connection& connection, std::uint32_t shard, std::uint16_t new_tsih);
  void end_session(std::uint32_t shard, std::uint16_t tsih, std::string_view reason);

 private:
  struct MediumChange;
  [[nodiscard]] scsi::LogicalUnit* unit_of(const MediumChange& change);
  [[nodiscard]] const UnitSpec* find_unit(std::uint32_t target, std::uint16_t lun) const;
  void change_unit(std::uint32_t target, std::uint16_t lun, const std::function<void(UnitSpec&)>& edit);
  [[nodiscard]] static Status check_next_medium(const scsi::LogicalUnit& unit, const Medium& medium);
  void take_cache_away(std::uint32_t target, std::uint16_t lun, const scsi::UnitRules& rules,
                       std::function<void(Status)> done);
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
    void on_accepted(std::unique_ptr<runtime::Stream> stream) override {
      server_.accepted(std::move(stream), number_);
    }

   private:
    Server& server_;
    std::uint32_t number_;
    runtime::Endpoint configured_;
    std::unique_ptr<runtime::Listener> listener_;
  };

  struct Served {
    explicit Served(TargetSpec target) : spec(std::move(target)) {}
    TargetSpec spec;  // without its units
    scsi::RodTokenKey token_key{};  // the same on all shards
    std::shared_ptr<const TargetAccess> access;
    std::map<std::uint16_t, std::shared_ptr<const UnitSpec>> units;
    bool leaving = false;
  };
  // A unit on its way out.
  class Removal;

  // Does `work` on every shard, and `then` here when all have.
  void on_every_shard(const std::function<void(Shard&)>& work, std::function<void()> then);
  bool to_shard_of(std::uint16_t tsih, std::function<void(Shard&)> work);
  void accepted(std::unique_ptr<runtime::Stream> stream, std::uint32_t portal);
  struct Shutdown {
    std::function<void(Status)> stopped;
    std::size_t shards_left = 0;
  };

  Server(ServerConfig config, std::uint32_t shards);
  // What the space watch finds out of a unit reaches its devices; `heard` false: no more.
  void hear_of_space(std::uint32_t target, const UnitSpec& unit, bool heard);
  [[nodiscard]] Served& add_served(TargetSpec spec);
  [[nodiscard]] std::shared_ptr<const TargetAccess> access_of(const Served& target) const;
  [[nodiscard]] const GroupRules* rules_of(const TargetSpec& target, std::uint16_t tag) const;
  [[nodiscard]] std::vector<std::uint16_t> units_of(const Served& target) const;
  [[nodiscard]] static std::vector<scsi::TargetPort> ports_of(const TargetSpec& target);
  // What the portal groups of the target say now is so on every shard.
  void publish_target(std::uint32_t number);
  void publish_portals();
  void open_on_every_shard(std::uint32_t target, std::shared_ptr<const UnitSpec> unit, Done done);
  void remove_when_empty(std::uint32_t target, Done done);
  void drop_target(std::uint32_t target, const Done& done);
  void publish_ports(std::uint32_t number);  // for VPD 88h
  void later(std::function<void()> work);
  void begin_removal(std::uint32_t target, std::uint16_t lun, Done done);
  void removal_over(Removal& removal);
  // Then, from a later turn of the first loop, `then`; what cannot be flushed is an error in the log, under
  // the name `failure`.
  void flush_unit(std::uint32_t target, std::uint16_t lun, const char* failure, std::function<void()> then);
  void close_unit(Removal& removal);
  [[nodiscard]] Status make_shards(std::span<runtime::Loop* const> loops, EventLog& log);
  [[nodiscard]] Status bind_portals();
  [[nodiscard]] Status check_redirects() const;
  [[nodiscard]] const RedirectRule* redirect_of(const TargetSpec& target, std::uint32_t portal) const;
  [[nodiscard]] BoundPortal portal_of(const TargetSpec& target, const Portal& portal) const;

  ServerConfig config_;  // but for its targets
  Registry registry_;
  std::map<std::uint32_t, std::unique_ptr<Served>> targets_;  // by number
  std::map<std::string, std::uint32_t, std::less<>> numbers_;  // of the targets, by name
  std::uint32_t next_target_ = 0;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::map<std::uint32_t, std::unique_ptr<Portal>> portals_;  // by number
  std::uint32_t next_portal_ = 0;
  bool holding_ = false;
  std::deque<std::pair<std::unique_ptr<runtime::Stream>, std::uint32_t>> held_;  // with the number of the
                                                                                 // portal
  std::list<std::shared_ptr<Removal>> removals_;
  std::vector<std::shared_ptr<void>> pending_;  // what later() was given
  std::uint64_t next_connection_id_ = 1;
  std::unique_ptr<Shutdown> shutdown_;
  std::shared_ptr<const int> alive_ = std::make_shared<const int>(0);  // messages that come later find it
                                                                       // gone
};

}  // namespace perilune::target
