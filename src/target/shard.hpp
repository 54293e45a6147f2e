// SPDX-License-Identifier: Apache-2.0
// One thread of a server (DESIGN 1.3): its loop, the memory that its connections and sessions share, its
// channels to the units and its SCSI devices. What lives here is touched by this thread alone; whoever is
// elsewhere sends a message (Server::send). One thread (the loop's), except where a method says otherwise.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/buffer_pool.hpp"
#include "base/delegate.hpp"
#include "base/event_log.hpp"
#include "base/intrusive_list.hpp"
#include "base/result.hpp"
#include "iscsi/login/target_login.hpp"
#include "iscsi/pdu/tx_queue.hpp"
#include "runtime/loop.hpp"
#include "scsi/device.hpp"
#include "target/command.hpp"
#include "target/config.hpp"
#include "target/device_link.hpp"
#include "target/directory.hpp"
#include "target/gather_pool.hpp"
#include "target/moving_connection.hpp"
#include "target/retention.hpp"
#include "target/unit_record.hpp"
#include "target/waiting_sessions.hpp"

namespace perilune::target {

struct LoggingIn;  // the tag of the list of connections that have not logged in
class Connection;
class Server;
class Session;

// A target that is served, as one shard has it: its channels, its records and its link to the other shards
// (before the device that borrows them), its SCSI device.
struct TargetNode {
  TargetNode(std::string target, std::uint32_t number, runtime::Loop& of_shard)
      : name(std::move(target)),
        index(number),
        loop(of_shard),
        next_turn(of_shard.timers(), Delegate<void()>::to<&TargetNode::go_on>(*this)) {}
  // What the device has put off goes on in the next turn: after what has come in by then.
  void ask_for_turn() { next_turn.arm(loop.now() + runtime::Duration(1)); }
  void go_on() { device->go_on(); }

  const std::string name;
  const std::uint32_t index;  // Server's number of it
  std::shared_ptr<const TargetAccess> access;  // as the server has told last
  runtime::Loop& loop;
  runtime::Timer next_turn;
  struct OpenChannel {
    std::uint16_t lun;
    std::shared_ptr<block::Backstore> store;
    std::unique_ptr<block::Channel> channel;  // nullptr: the operator has taken the medium away
  };
  [[nodiscard]] OpenChannel* find_channel(std::uint16_t lun) noexcept;
  std::vector<OpenChannel> channels;
  std::vector<OpenChannel> next_media;  // open, and not in their units yet
  template <class Owned>
  struct OfUnit {
    std::uint16_t lun;
    std::unique_ptr<Owned> owned;
  };
  std::vector<OfUnit<scsi::PassthroughPort>> ports;
  std::vector<OfUnit<UnitRecord>> records;
  std::vector<OfUnit<scsi::AccessStateStore>> access_states;
  std::unique_ptr<DeviceLink> link;  // nullptr when there is one shard
  std::unique_ptr<scsi::Device> device;
};

// A session, for people.
struct ConnectionView {
  std::uint16_t cid = 0;
  runtime::Endpoint peer;
  bool logging_out = false;
  iscsi::ConnectionParams params;
};
struct SessionView {
  std::uint32_t target = 0;  // Server's number
  std::uint16_t portal_group_tag = 1;
  std::string initiator_name;
  std::string initiator_alias;
  iscsi::Isid isid{};
  std::uint16_t tsih = 0;
  std::string user;  // CHAP_N; empty: it has not proved itself
  iscsi::SessionParams params;
  std::vector<ConnectionView> connections;
};

class Shard {
 public:
  Shard(Server& server, std::uint32_t number, runtime::Loop& shard_loop,
        std::unique_ptr<BufferPool> buffer_pool, EventLog& event_log);
  ~Shard();
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  [[nodiscard]] std::uint32_t number() const noexcept { return number_; }
  [[nodiscard]] TargetNode& node(std::uint32_t target) noexcept { return *nodes_.at(target); }
  [[nodiscard]] TargetNode* find_node(std::uint32_t target) noexcept {
    const auto found = nodes_.find(target);
    return found == nodes_.end() ? nullptr : found->second.get();
  }
  [[nodiscard]] std::size_t session_count() const noexcept { return session_count_; }
  // `connection` has received something; true when the one that received before was the same.
  [[nodiscard]] bool receives_again(const Connection& connection) noexcept {
    return std::exchange(last_to_receive_, &connection) == &connection;
  }

  // --- targets and units: messages, or while nothing runs ---
  // A target with no unit, in two steps: its devices of all shards are there before the first says something
  // to another.
  void make_target(std::uint32_t target, const std::string& name, std::shared_ptr<const TargetAccess> access,
                   std::vector<scsi::TargetPort> ports);
  void start_target(std::uint32_t target, const scsi::RodTokenKey& token_key);
  // Nothing refers to it any more: no session, no unit at work.
  void drop_target(std::uint32_t target);
  void set_target_ports(std::uint32_t target, std::vector<scsi::TargetPort> ports);
  // Opens the unit on the loop; `groups`: of its target. Fails with what open_channel and add_unit say; then
  // nothing is left of it here.
  [[nodiscard]] Status open_unit(std::uint32_t target, const UnitSpec& unit,
                                 std::span<const PortalGroup> groups);
  // No command of the unit is in progress here; work on its whole medium is told to stop.
  [[nodiscard]] bool unit_idle(std::uint32_t target, std::uint16_t lun);
  // Every shard is idle, and nobody sees the unit: it goes. False: it has become busy.
  [[nodiscard]] bool take_out_unit(std::uint32_t target, std::uint16_t lun);
  // Nothing that is still to be sent lies in memory that the unit has lent.
  [[nodiscard]] bool memory_is_idle(std::uint32_t target, std::uint16_t lun);
  void close_unit(std::uint32_t target, std::uint16_t lun);  // precondition: taken out, and memory_is_idle()
  [[nodiscard]] std::size_t sessions_of(std::uint32_t target) noexcept;
  void list_sessions(std::vector<SessionView>& views);

  // --- messages ---
  void accept(std::unique_ptr<runtime::Stream> stream, std::uint64_t id, std::uint32_t portal);
  void arrive(MovingConnection& moving);
  void end_session(std::uint16_t tsih, std::string_view reason);
  void cold_reset(std::uint32_t target);
  // The unit's channel here has so many blocks now.
  void set_unit_blocks(std::uint32_t target, std::uint16_t lun, BlockCount blocks);
  // The channels of all shards have: its nexuses here learn.
  void unit_resized(std::uint32_t target, std::uint16_t lun);
  // Another medium (Server::change_medium): it is open here; it is what lies in the unit's tray, and what lay
  // there is let go; that which is open does not come into the unit.
  [[nodiscard]] Status open_medium(std::uint32_t target, std::uint16_t lun,
                                   const std::shared_ptr<block::Backstore>& medium);
  [[nodiscard]] Status put_medium_in(std::uint32_t target, std::uint16_t lun, block::SpaceMeter* space);
  void forget_medium(std::uint32_t target, std::uint16_t lun);
  // Who may use the target, and what of it, is another now: its sessions here follow.
  void set_access(std::uint32_t target, std::shared_ptr<const TargetAccess> access);
  // An operator's wishes (Server); nothing happens when the session, or the connection, is gone.
  void request_logout(std::uint16_t tsih, std::chrono::seconds within);
  void request_negotiation(std::uint16_t tsih, std::chrono::seconds within);
  void drop_connection(std::uint16_t tsih, std::uint16_t cid);
  // Initiators are asked to log out (ServerConfig::logout_timeout); commands of those that do not end
  // (drain_timeout at most), they are told, connections close, SANITIZE and FORMAT UNIT stop; then
  // Server::shard_stopped(). From then on the shard holds no connection and no session.
  void stop();
  // Makes what was written durable, through this shard's channels; `flushed` hears of the first error.
  void flush_units(std::function<void(Status)> flushed);
  void flush_unit(std::uint32_t target, std::uint16_t lun, std::function<void(Status)> flushed);

  // --- for Connection and Session ---
  // Whether this connection may join the session that its login names: decides now, or when a place is free.
  void decide_join(Connection& connection, const iscsi::SessionQuery& query);
  [[nodiscard]] Session* open_session(Connection& connection, const iscsi::TargetLoginResult& login);
  void logged_in(Connection& connection);
  void connection_closing(Connection& connection);
  void connection_closed(Connection& connection);    // destroys it
  void connection_departed(Connection& connection);  // destroys it
  // A connection of this session is gone; with its last one the session ends, unless one is being reinstated
  // or may come back (recovery level 2).
  void connection_left(Session& session);
  void session_idle(Session& session);

  runtime::Loop& loop;
  std::unique_ptr<BufferPool> pool;
  EventLog& log;
  iscsi::TxChunkPool chunks;
  CommandSlab commands;
  GatherPool gathers;
  Retention retention{loop, *pool};
  WaitingSessions waiting_sessions;
  Directory directory;  // what the server has told last
  std::uint32_t window_slots = 0;  // commands that all sessions together may have in progress

 private:
  enum class State : std::uint8_t { serving, asking, draining, closing, stopped };
  struct PendingJoin {  // waits for a place in the session
    Connection* connection = nullptr;
    const Session* session = nullptr;
  };
  struct Flush;
  Flush& begin_flush(std::function<void(Status)> flushed);

  [[nodiscard]] Status open_record(TargetNode& target, const UnitSpec& unit, scsi::UnitConfig& config);
  [[nodiscard]] Status open_device(TargetNode& target, const UnitSpec& unit, scsi::UnitConfig config);
  [[nodiscard]] Session* find_session(std::uint16_t tsih) noexcept;
  [[nodiscard]] bool awaited(const Session& session) const noexcept;
  void reap();
  void retry_joins();
  void end_of_session(Session& session);
  void stop_step();
  [[nodiscard]] bool units_at_work();
  void drain();
  void close_all();

  Server& server_;
  std::uint32_t number_;
  std::map<std::uint32_t, std::unique_ptr<TargetNode>> nodes_;  // by the server's number of the target
  IntrusiveList<Connection> connections_;
  IntrusiveList<Connection, LoggingIn> logging_in_;  // those accepted here, the oldest first
  IntrusiveList<Session> sessions_;
  std::size_t session_count_ = 0;
  const Connection* last_to_receive_ = nullptr;  // to compare with only: it may be gone
  std::vector<PendingJoin> pending_joins_;
  runtime::TurnHook reap_hook_;
  State state_ = State::serving;
  runtime::Timer stop_timer_;
  runtime::Instant stop_deadline_;
  std::vector<std::unique_ptr<Flush>> flushes_;  // in progress
};

}  // namespace perilune::target
