// SPDX-License-Identifier: Apache-2.0
// One thread of a server (DESIGN 1.3): its loop, the memory that its connections and sessions share, its channels to the units
// and its SCSI devices. What lives here is touched by this thread alone; whoever is elsewhere sends a message
// (Server::send). One thread (the loop's), except where a method says otherwise.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
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

// A target that is served, as one shard has it: its channels, its records and its link to the other shards (before the device
// that borrows them), its SCSI device.
struct TargetNode {
  TargetNode(const TargetSpec& target, std::uint32_t number, runtime::Loop& of_shard)
      : spec(target), index(number), loop(of_shard), next_turn(of_shard.timers(), Delegate<void()>::to<&TargetNode::go_on>(*this)) {}
  // What the device has put off goes on in the next turn: after what has come in by then.
  void ask_for_turn() { next_turn.arm(loop.now() + runtime::Duration(1)); }
  void go_on() { device->go_on(); }

  const TargetSpec& spec;  // of the server's configuration
  std::uint32_t index;     // there
  std::shared_ptr<const Access> access;  // as the server has told last
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
  std::vector<std::unique_ptr<scsi::PassthroughPort>> ports;
  std::vector<std::unique_ptr<UnitRecord>> records;
  std::unique_ptr<DeviceLink> link;  // nullptr when there is one shard
  std::unique_ptr<scsi::Device> device;
};

class Shard {
 public:
  Shard(Server& server, std::uint32_t number, runtime::Loop& shard_loop, std::unique_ptr<BufferPool> buffer_pool,
        EventLog& event_log);
  ~Shard();
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  // Opens every unit on the loop. While nothing runs. Fails with what open_channel and add_unit say.
  [[nodiscard]] Status open_targets(const std::vector<TargetSpec>& targets);

  [[nodiscard]] std::uint32_t number() const noexcept { return number_; }
  [[nodiscard]] TargetNode& node(std::size_t index) noexcept { return *nodes_[index]; }
  [[nodiscard]] std::size_t session_count() const noexcept { return session_count_; }

  // --- messages ---
  void accept(std::unique_ptr<runtime::Stream> stream, std::uint64_t id, std::uint32_t portal);
  void arrive(MovingConnection& moving);
  void end_session(std::uint16_t tsih, std::string_view reason);
  void cold_reset(std::uint32_t target);
  // The unit's channel here has so many blocks now.
  void set_unit_blocks(std::uint32_t target, std::uint16_t lun, BlockCount blocks);
  // The channels of all shards have: its nexuses here learn.
  void unit_resized(std::uint32_t target, std::uint16_t lun);
  // Another medium (Server::change_medium): it is open here; it is what lies in the unit's tray, and what lay there is let go; that which
  // is open does not come into the unit.
  [[nodiscard]] Status open_medium(std::uint32_t target, std::uint16_t lun, const std::shared_ptr<block::Backstore>& medium);
  [[nodiscard]] Status put_medium_in(std::uint32_t target, std::uint16_t lun, block::SpaceMeter* space);
  void forget_medium(std::uint32_t target, std::uint16_t lun);
  // Who may use the target, and what of it, is another now: its sessions here follow.
  void set_access(std::uint32_t target, std::shared_ptr<const Access> access);
  // An operator's wishes (Server); nothing happens when the session, or the connection, is gone.
  void request_logout(std::uint16_t tsih, std::chrono::seconds within);
  void request_negotiation(std::uint16_t tsih, std::chrono::seconds within);
  void drop_connection(std::uint16_t tsih, std::uint16_t cid);
  // Initiators are asked to log out (ServerConfig::logout_timeout); commands of those that do not end (drain_timeout at most),
  // they are told, connections close, SANITIZE and FORMAT UNIT stop; then Server::shard_stopped(). From then on the shard holds no
  // connection and no session.
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
  // A connection of this session is gone; with its last one the session ends, unless one is being reinstated or may come back
  // (recovery level 2).
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
  std::shared_ptr<const Directory> directory = std::make_shared<const Directory>();  // what the server has told last
  std::uint32_t window_slots = 0;  // commands that all sessions together may have in progress

 private:
  enum class State : std::uint8_t { serving, asking, draining, closing, stopped };
  struct PendingJoin {  // waits for a place in the session
    Connection* connection = nullptr;
    const Session* session = nullptr;
  };
  struct Flush;
  Flush& begin_flush(std::function<void(Status)> flushed);

  [[nodiscard]] Status open_unit(TargetNode& target, const UnitSpec& unit);
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
  std::vector<std::unique_ptr<TargetNode>> nodes_;
  IntrusiveList<Connection> connections_;
  IntrusiveList<Connection, LoggingIn> logging_in_;  // those accepted here, the oldest first
  IntrusiveList<Session> sessions_;
  std::size_t session_count_ = 0;
  std::vector<PendingJoin> pending_joins_;
  runtime::TurnHook reap_hook_;
  State state_ = State::serving;
  runtime::Timer stop_timer_;
  runtime::Instant stop_deadline_;
  std::vector<std::unique_ptr<Flush>> flushes_;  // in progress
};

}  // namespace perilune::target
