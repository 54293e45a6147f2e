// SPDX-License-Identifier: Apache-2.0
// A target server: portals, the session registry, the targets and their logical units. One shard, one thread: the loop's.
//
//   auto server = Server::create(loop, std::move(config), log);
//   (*server)->start();            // binds the portals
//   loop.run();                    // … (*server)->stop(done) from a signal handler posted to the loop
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/delegate.hpp"
#include "base/intrusive_list.hpp"
#include "base/result.hpp"
#include "iscsi/login/target_login.hpp"
#include "iscsi/login/text_exchange.hpp"
#include "scsi/device.hpp"
#include "target/config.hpp"
#include "target/shard.hpp"

namespace perilune::target {

class Connection;
class Session;

// A target that is served: its configuration, its channels (before the device that borrows them), its SCSI device.
struct TargetNode {
  TargetSpec spec;
  std::vector<std::unique_ptr<block::Channel>> channels;
  std::unique_ptr<scsi::Device> device;
};

class Server final : public runtime::AcceptHandler {
 public:
  // Opens every unit on the loop. Fails with what open_channel says, invalid_argument (names, credentials, limits).
  [[nodiscard]] static Result<std::unique_ptr<Server>> create(runtime::Loop& loop, ServerConfig config, EventLog& log);
  ~Server() override;  // precondition: stop() has finished, or the loop will never run again

  // Binds the portals. Fails with busy, permission; then nothing is bound.
  [[nodiscard]] Status start();
  [[nodiscard]] std::vector<runtime::Endpoint> bound_portals() const;
  // No new connections; commands in progress end (at most drain_timeout), initiators are told, connections close, units are
  // flushed; then `stopped` with the first error of a flush.
  void stop(std::function<void(Status)> stopped);

  [[nodiscard]] const ServerConfig& config() const noexcept { return config_; }
  [[nodiscard]] std::size_t session_count() const noexcept { return session_count_; }
  [[nodiscard]] Shard& shard() noexcept { return shard_; }

  // --- for Connection and Session ---
  void on_accepted(std::unique_ptr<runtime::Stream> stream) override;
  [[nodiscard]] iscsi::TargetDecision find_target(const iscsi::TargetQuery& query, const Connection& connection);
  void decide_session(Connection& connection, const iscsi::SessionQuery& query);
  [[nodiscard]] Session* open_session(Connection& connection, const iscsi::TargetLoginResult& login);
  void logged_in(Connection& connection);
  void connection_closing(Connection& connection);
  void connection_closed(Connection& connection);
  // A connection of this session is gone; with its last one the session ends, unless one is being reinstated.
  void connection_left(Session& session);
  void session_idle(Session& session);
  void cold_reset(TargetNode& node);
  [[nodiscard]] std::vector<iscsi::SendTargetsRecord> send_targets(const Session& session, const runtime::Endpoint& portal,
                                                                 std::string_view asked) const;

 private:
  struct PendingLogin {
    Connection* connection = nullptr;
    const Session* waits_for = nullptr;
    bool joins = false;  // waits for a place in the session rather than for its end
  };
  struct Shutdown;

  Server(runtime::Loop& loop, ServerConfig config, EventLog& log, std::unique_ptr<BufferPool> pool);
  [[nodiscard]] Status open_targets();
  [[nodiscard]] TargetNode* node(std::string_view name) noexcept;
  [[nodiscard]] Session* find_session(const iscsi::SessionQuery& query);
  void decide_join(Connection& connection, const iscsi::SessionQuery& query);
  [[nodiscard]] bool awaited(const Session& session) const noexcept;
  [[nodiscard]] std::uint16_t allocate_tsih();
  [[nodiscard]] std::vector<std::string> addresses(const TargetNode& node, const runtime::Endpoint& asked) const;
  void reap();
  [[nodiscard]] std::vector<Connection*> take_pending(const Session& gone);
  [[nodiscard]] std::vector<Connection*> take_joining();
  void shutdown_step();
  void flush_units();

  ServerConfig config_;
  Shard shard_;
  std::vector<std::unique_ptr<TargetNode>> nodes_;
  std::vector<std::unique_ptr<runtime::Listener>> listeners_;
  IntrusiveList<Connection> connections_;
  IntrusiveList<Session> sessions_;
  std::size_t session_count_ = 0;
  std::size_t half_open_ = 0;
  std::vector<PendingLogin> pending_;
  runtime::TurnHook reap_hook_;
  std::uint64_t next_connection_id_ = 1;
  std::uint16_t last_tsih_ = 0;
  std::unique_ptr<Shutdown> shutdown_;
};

}  // namespace perilune::target
