// SPDX-License-Identifier: Apache-2.0
// A session of the target: binds the iSCSI session engine to an I_T nexus of the SCSI device, and gives the
// commands their memory. One thread (the shard's).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/delegate.hpp"
#include "base/intrusive_list.hpp"
#include "iscsi/login/target_login.hpp"
#include "iscsi/session/target_connection.hpp"
#include "scsi/device.hpp"
#include "target/shard.hpp"

namespace perilune::target {

class Connection;
class Server;
struct TargetNode;

class Session final : public iscsi::TargetHost, public ListNode<Session> {
 public:
  // `node` is nullptr in a discovery session.
  Session(Server& server, Shard& shard, TargetNode* node, const iscsi::TargetLoginResult& login,
          std::uint32_t command_window);
  ~Session() override;  // precondition: engine().idle(), no connection
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  [[nodiscard]] iscsi::TargetSession& engine() noexcept { return engine_; }
  [[nodiscard]] std::uint16_t tsih() const noexcept { return tsih_; }
  [[nodiscard]] const std::string& initiator_name() const noexcept { return initiator_name_; }
  [[nodiscard]] const iscsi::Isid& isid() const noexcept { return isid_; }
  [[nodiscard]] TargetNode* node() const noexcept { return node_; }
  [[nodiscard]] std::string_view target_name() const noexcept;  // empty in a discovery session
  [[nodiscard]] std::uint16_t portal_group_tag() const noexcept { return portal_group_tag_; }
  // What the administrator says of sessions of this initiator.
  [[nodiscard]] const SessionRules& rules() const noexcept { return rules_; }
  [[nodiscard]] iscsi::SessionType type() const noexcept { return type_; }
  [[nodiscard]] const std::string& initiator_alias() const noexcept { return initiator_alias_; }
  [[nodiscard]] const std::string& user() const noexcept { return user_; }  // CHAP_N of its first connection
  [[nodiscard]] const std::vector<Connection*>& connections() const noexcept { return connections_; }
  [[nodiscard]] Connection* find_connection(std::uint16_t cid) const noexcept;
  void add_connection(Connection& connection);
  void remove_connection(Connection& connection) noexcept { std::erase(connections_, &connection); }

  // Drops the connections and ends every command; the server destroys the session when the last is over.
  void end(std::string_view reason);
  // The shard has another TargetNode::access: what the initiator sees is what that says, and the session of
  // one who may not be here any more ends, with an announcement.
  void access_changed();
  // It ends because its initiator may not be here any more: nothing waits for it.
  [[nodiscard]] bool withdrawn() const noexcept { return withdrawn_; }
  [[nodiscard]] bool ending() const noexcept { return engine_.shutting_down(); }

  // --- recovery level 2 (session_recovery.cpp) ---
  // Connections that were lost may come back yet.
  [[nodiscard]] bool waits_for_recovery() const noexcept { return engine_.waits_for_recovery(); }
  // The last connection is gone: does the session wait? False also when too many do.
  [[nodiscard]] bool wait_for_recovery();
  // We drop this connection: another one of the session tells the initiator.
  void tell_dropped(Connection& dropped);

  // iscsi::TargetHost
  iscsi::TargetCommand* acquire_command(iscsi::TargetSession& session) override;
  void release_command(iscsi::TargetCommand& command) override;
  void prepare_unsolicited(iscsi::TargetCommand& command, std::uint32_t bytes) override;
  AtOnce transfer_at_once(iscsi::TargetSession& session, const WholeTransfer& transfer) override;
  bool read_at_once(iscsi::TargetSession& session, const WholeTransfer& transfer, std::uint8_t* to) override;
  void on_command(iscsi::TargetCommand& command) override;
  void on_data_out(iscsi::TargetCommand& command) override;
  void on_data_lost(iscsi::TargetCommand& command) override;
  void on_data_retained(iscsi::TargetCommand& command) override;
  void on_data_forgotten(iscsi::TargetCommand& command) override;
  void on_recovery_wait(iscsi::TargetSession& session, std::uint32_t lost) override;
  void on_recovery_over(iscsi::TargetSession& session, std::uint32_t lost) override;
  void on_task_management(iscsi::TaskManagement& request) override;
  void on_data_wait(iscsi::TargetSession& session) override;
  void abort(iscsi::TargetCommand& command) override;
  void on_text(iscsi::TargetConnection& connection, const iscsi::TextRequest& request, Bytes data) override;
  void on_logged_out(iscsi::TargetConnection& connection) override;
  void close_connection(iscsi::TargetConnection& connection) override;
  void on_orphans_ended(iscsi::TargetSession& session) override;
  void on_ping_answered(iscsi::TargetConnection& connection) override;
  void on_output(iscsi::TargetConnection& connection) override;
  bool reserve_slot(iscsi::TargetSession& session) override;
  void release_slot(iscsi::TargetSession& session) override;
  void on_session_idle(iscsi::TargetSession& session) override;

 private:
  struct Management;  // a task management function that waits for the device
  struct Lost {
    std::uint32_t id;
    runtime::Instant deadline;
  };

  void withdraw(std::string_view reason);
  void on_recovery_timer();
  void wait_no_longer();
  [[nodiscard]] bool may_lend(const Command& command) const noexcept;
  [[nodiscard]] bool may_copy_late(const Command& command) const noexcept;
  void refuse_bidirectional(Command& command);
  void start_data_out(Command& command);
  void start_data_in(Command& command);
  void request_pages(Command& command, std::uint32_t pages);
  void memory_ready(Command& command);
  [[nodiscard]] bool take_unsolicited_pages(Command& command, std::uint32_t bytes);
  void run(Command& command);
  void finish(Command& command);
  void end_aborted(Command& command);
  void fail_task_set_full(Command& command);
  void on_task_done(scsi::Task& task);
  void on_task_cancelled(scsi::Task& task);
  void on_management_done(scsi::TaskManagement& request);
  void answer_management(Management& management);
  void data_wait_expired() { engine_.end_data_waits(); }
  [[nodiscard]] static Command& command_of(scsi::Task& task) noexcept;
  [[nodiscard]] static Connection& driver_of(const iscsi::TargetConnection& connection) noexcept;

  Server& server_;
  Shard& shard_;
  TargetNode* node_;
  iscsi::SessionType type_;
  std::string initiator_name_;
  std::string initiator_alias_;
  std::string user_;
  iscsi::Isid isid_;
  std::uint16_t portal_group_tag_;
  std::uint16_t tsih_;
  SessionRules rules_;
  std::uint32_t unsolicited_pages_;      // one reservation: FirstBurstLength
  std::uint32_t reservations_ = 0;       // held by the engine's window
  std::uint32_t reservations_used_ = 0;  // by commands
  std::unique_ptr<scsi::Nexus> nexus_;
  iscsi::TargetSession engine_;
  Retention::Keeper kept_{engine_};
  Retention::Suspended suspended_{engine_};
  runtime::Timer recovery_timer_{shard_.loop.timers(),
                                 Delegate<void()>::to<&Session::on_recovery_timer>(*this)};
  std::vector<Lost> lost_;  // the next to end first
  bool waits_alone_ = false;
  bool withdrawn_ = false;
  runtime::Timer data_wait_timer_{shard_.loop.timers(),
                                  Delegate<void()>::to<&Session::data_wait_expired>(*this)};
  std::vector<Connection*> connections_;
};

}  // namespace perilune::target
