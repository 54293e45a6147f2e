// SPDX-License-Identifier: Apache-2.0
// The target's side of a session in full-feature phase (RFC 7143 4.2, 11): command window and order, the task
// table, data transfer, task management, logout. Pure: PDUs come from its connections' decoders, answers go
// to their transmit queues, everything else is asked of the TargetHost. One thread. No allocation per command
// after warm-up.
//
// The session owns what belongs to the I_T nexus (CmdSN, tasks), a TargetConnection what belongs to one TCP
// connection (StatSN, digests, queue). Commands take their turn by CmdSN whichever connection brings them,
// and keep to that one for data and status. A connection that goes takes its commands with it; the session
// goes on with the others. Recovery within a command and a connection (level 1) is in target_recovery.cpp, of
// connections (level 2) in target_reassign.cpp.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "base/intrusive_list.hpp"
#include "iscsi/params/params.hpp"
#include "iscsi/session/itt_table.hpp"
#include "iscsi/session/residual.hpp"
#include "iscsi/session/retained.hpp"
#include "iscsi/session/target_host.hpp"

namespace perilune::iscsi {

inline constexpr std::uint8_t sam5_protocol_level = 2;  // iSCSIProtocolLevel from which on RFC 7144 holds

// Counters of one session; the names of the iSCSI MIB where it has one.
struct TargetSessionStats {
  std::uint64_t commands = 0;
  std::uint64_t data_out_pdus = 0, data_in_pdus = 0, r2t_pdus = 0;
  std::uint64_t bytes_read = 0, bytes_written = 0;
  std::uint64_t task_management = 0, rejects = 0, digest_errors = 0, ignored = 0;
  std::uint64_t snacks = 0, recovery_r2ts = 0, reassigned = 0;
};

class TargetSession {
 public:
  TargetSession(TargetHost& host, const SessionParams& params, CmdSn first_cmd_sn, std::uint32_t window_max);
  ~TargetSession();
  TargetSession(const TargetSession&) = delete;
  TargetSession& operator=(const TargetSession&) = delete;

  // --- for the host ---
  // Memory for data that may come unasked, before (or without) begin_data_out(): offset 0 of the command's
  // data.
  void provide_memory(TargetCommand& command, std::span<const iovec> memory);
  // The host wants the first min(EDTL, wanted) bytes of data-out in `memory` (which contains what
  // prepare_unsolicited() gave, at its start). Leads to on_data_out() (also from inside this call),
  // on_data_lost() or an abort.
  void begin_data_out(TargetCommand& command, std::span<const iovec> memory, std::uint64_t wanted_bytes);
  // The command is over. `data_in`: memory that holds the data to send, kept until release_command();
  // `data_in_bytes` of it, clipped here to EDTL (above recovery level 0 the array of iovecs too, and nobody
  // changes the data). `wanted_bytes`: what the device wanted to move either way (residuals, RFC
  // 7143 11.4.5). `sense` is copied to the wire at once or, while the peer still sends unsolicited data or a
  // fence holds the answer back, kept by reference until then, and with the latter the array of iovecs too.
  void complete(TargetCommand& command, std::uint8_t status, Bytes sense, std::span<const iovec> data_in,
                std::uint32_t data_in_bytes, std::uint64_t wanted_bytes);
  // Somebody else ends this command (task management of another session). host.abort() follows, at once or,
  // while a payload is being received into the command's memory, when that has ended.
  void request_abort(TargetCommand& command);
  // The command was ended by abort(): no response is sent (SAM-5: TAS=0, or the nexus is gone).
  void abort_finished(TargetCommand& command);
  // Likewise, but another nexus ended it and TAS is 1: it is answered with the status TASK ABORTED, if its
  // connection is there. The first time only: abort() may come again, while the answer waits for the end of
  // unsolicited data or for a fence.
  void abort_reported(TargetCommand& command);
  // A command of this tag is active or waits for its turn, and is for this unit.
  [[nodiscard]] bool holds(Itt itt, Lun lun) const noexcept;
  [[nodiscard]] bool holds_any(Lun lun);
  void finish_task_management(TaskManagement& request, TmfResponse response);
  // Above recovery level 0: lets go of data that is kept for the initiator; a SNACK for it is rejected from
  // now on. Its connection keeps no more data until everything that was sent on it so far is acknowledged.
  void forget_data(TargetCommand& command);
  // Asks the connections with unacknowledged status to acknowledge.
  void request_acknowledgements();
  // What on_data_wait() was called for has lasted long enough.
  void end_data_waits();
  // A task management function of another session ends this command with others of its unit: to be called
  // before it is over. With FastAbort the initiator is told, once for each unit and connection (RFC
  // 7143 4.2.3.4 d).
  void announce_end(TargetCommand& command);

  // A discovery session: SCSI commands and task management are rejected (RFC 7143 4.3).
  void serve_discovery_only() noexcept { serves_scsi_ = false; }
  // Ends every command (host.abort()); host.on_session_idle() follows when the last is over, also from
  // inside.
  void shut_down();
  [[nodiscard]] bool idle() const noexcept { return active_count_ == 0; }
  // --- recovery level 2 (RFC 7143 7.2.2, 7.5) ---
  // The time of TargetHost::on_recovery_wait() is over: what waits there ends. host.on_recovery_over()
  // follows. Harmless for one that is over.
  void expire(std::uint32_t lost);
  void expire_all();
  // A login has put another connection in the place of those lost with this CID: they are logged out by that,
  // and `exp_stat_sn` (of its first Login Request, RFC 7143 11.12.9) acknowledges what the last one of them
  // sent.
  void connection_reinstated(std::uint16_t cid, StatSn exp_stat_sn);
  [[nodiscard]] bool waits_for_recovery() const noexcept { return !lost_.empty(); }
  // Commands that have outlived their connection: they are being aborted.
  [[nodiscard]] std::uint32_t orphans() const noexcept { return orphans_; }
  [[nodiscard]] bool shutting_down() const noexcept { return shutting_down_; }
  // Visits every active command of this session; the visitor may end the one it is given.
  template <class Visit>
  void for_each_command(Visit visit) { active_.for_each(visit); }

  [[nodiscard]] const SessionParams& params() const noexcept { return params_; }
  [[nodiscard]] const TargetSessionStats& stats() const noexcept { return stats_; }
  [[nodiscard]] TargetHost& host() noexcept { return host_; }
  [[nodiscard]] CmdSn exp_cmd_sn() const noexcept { return exp_cmd_sn_; }
  [[nodiscard]] CmdSn max_cmd_sn() const noexcept { return max_cmd_sn_; }

 private:
  friend class TargetConnection;
  friend class TargetCommand;

  // What waits for an earlier CmdSN: a whole PDU, or a SCSI command whose unsolicited data has begun.
  struct Deferred {
    CmdSn cmd_sn;
    TargetConnection* connection = nullptr;
    TargetCommand* command = nullptr;             // a SCSI command, or
    std::vector<std::uint8_t> pdu;  // BHS and data of another kind; neither: the number is used up
    bool consumes = true;           // false: immediate, waits until everything before the number has come
  };
  // An answer that keeps its place among those of all connections, or stands behind such a one.
  struct Held {
    TargetCommand* command = nullptr;   // one of the two
    TaskManagement* request = nullptr;
    bool fenced = false;
    bool begun = false;                                            // fence_ is what this one waits for
    [[nodiscard]] TargetConnection* connection() const noexcept {  // that will carry it; nullptr: none, or
                                                                   // none yet
      return command != nullptr ? command->connection : request->connection;
    }
  };
  struct Wait {
    TargetConnection* connection = nullptr;
    StatSn stat_sn;  // everything before it
  };
  enum class Ends : std::uint8_t { session, own_connection, other_connection };
  enum class Fate : std::uint8_t {
    lost,
    closed,
    removed
  };  // of a connection that goes: failed, or logged out how
  struct Logout {
    TargetConnection* issuer = nullptr;
    LogoutRequest pdu;
    Ends ends = Ends::session;
  };

  // --- window (RFC 7143 4.2.2.1) ---
  [[nodiscard]] bool in_window(CmdSn sn) const noexcept {
    return !sn.before(exp_cmd_sn_) && !sn.after(max_cmd_sn_);
  }
  void advance(CmdSn sn);            // sn == exp_cmd_sn_: consumed
  void drain_deferred();
  bool defer(Deferred deferred);     // false: something with its number waits already
  void consume(CmdSn sn);            // used up without effect, in its turn
  void plug(CmdSn end);              // everything before `end` counts as received
  void drop_deferred(Deferred& deferred);
  [[nodiscard]] bool waits(CmdSn sn) const noexcept { return !deferred_.empty() && waits_in_list(sn); }
  [[nodiscard]] bool waits_in_list(CmdSn sn) const noexcept;
  void adjust_window();
  void free_slot();

  // --- commands ---
  [[nodiscard]] TargetCommand* open_command(TargetConnection& connection, const ScsiCommand& pdu);
  // Also one that waits for its turn.
  [[nodiscard]] TargetCommand* find_command(Itt itt) const noexcept {
    TargetCommand* command = by_itt_.find(itt);
    return command != nullptr || deferred_.empty() ? command : find_deferred(itt);
  }
  [[nodiscard]] TargetCommand* find_deferred(Itt itt) const noexcept;
  void accept(TargetCommand& command);             // its CmdSN is consumed (or it is immediate): deliver it
  // The fast path (target_at_once.cpp): nothing of the session stands in the way of an answer on this
  // connection; and the command with this number, which is next, is served.
  [[nodiscard]] bool answers_at_once(const TargetConnection& connection) const noexcept;
  void take_at_once(const TargetConnection& connection, CmdSn cmd_sn, StatSn exp_stat_sn);
  void note_use_of_window(const TargetConnection& connection, StatSn exp_stat_sn,
                          std::uint32_t used) noexcept;
  void close_command(TargetCommand& command);
  void respond(TargetCommand& command);       // with its outcome, now or when the fence allows it
  void send_response(TargetCommand& command);
  void send_data_in(TargetCommand& command, std::span<const iovec> data, std::uint32_t bytes,
                    bool with_status, std::uint8_t status, const Residual& residual);
  template <class Visit>
  void for_each_data_in(std::uint32_t segment_max, std::uint32_t begin, std::uint32_t end, Visit visit) const;
  void pump_data_out(TargetCommand& command);
  void send_r2t(TargetCommand& command);
  void send_r2t(TargetCommand& command, TargetCommand::ReadyToTransferSlot& slot, std::uint32_t begin,
                std::uint32_t end);
  void encode_r2t(const TargetCommand& command, const TargetCommand::ReadyToTransferSlot& slot);
  // Above recovery level 0: asks again for what came damaged. False: that was too often.
  [[nodiscard]] bool recover_data_out(TargetCommand& command, TargetCommand::ReadyToTransferSlot& slot);
  void recover_unsolicited(TargetCommand& command);
  void resend_data_in(TargetConnection& connection, TargetCommand& command, std::uint64_t begin,
                      std::uint64_t end);
  [[nodiscard]] bool retains() const noexcept { return params_.error_recovery_level != 0; }
  void unsolicited_ended(TargetCommand& command);

  void start_task_management(TargetConnection& connection, const TaskManagementRequest& pdu);
  [[nodiscard]] bool must_wait(const TaskManagementRequest& pdu) const noexcept;
  void answer_abort_of_unseen(TaskManagement& request);
  [[nodiscard]] bool affects(const TaskManagementRequest& pdu, const TargetCommand& command) const noexcept;
  [[nodiscard]] bool data_is_due(const TaskManagement& request);
  void end_requests_for_data(const TaskManagement& request);
  void announce_ends(const TaskManagement& request);
  void data_settled();
  void answer_task_management(TaskManagement& request);

  // --- Response Fence (RFC 7143 4.2.2.3); nothing waits where there is one connection ---
  [[nodiscard]] bool must_hold(bool fenced, const TargetConnection* carrier) const noexcept {
    if (releasing_ || !held_.empty()) return true;
    if (last_fenced_.connection != nullptr && last_fenced_.connection != carrier) return true;
    return fenced && (connections_.size() > 1 || carrier == nullptr);
  }
  void hold(Held held);
  void release_held();
  [[nodiscard]] bool may_go(Held& front);
  void leave_fence(const TargetCommand& command);  // its answer will not be sent
  [[nodiscard]] static bool unacknowledged(const TargetConnection& connection) noexcept;
  void fence_behind(TargetConnection& connection);
  [[nodiscard]] bool waits_for_acknowledgement(const TargetConnection& connection) const noexcept;
  void lift_fences(const TargetConnection& connection);
  void drop_deferred_of(const TaskManagementRequest& pdu);
  void begin_logout(TargetConnection& connection, const LogoutRequest& pdu);
  void heard_of_logout(const TargetConnection& connection, const LogoutRequest& pdu);
  void end_own_connection(TargetConnection& connection, LogoutReason reason);
  void answer_logouts();
  void close_others(const TargetConnection& answered);  // all connections of the session but this one
  [[nodiscard]] bool may_answer(const Logout& logout);
  void command_gone();
  void orphans_ended();
  void orphan(TargetCommand& command);  // its connection is gone for good
  // --- recovery level 2 (target_reassign.cpp) ---
  [[nodiscard]] bool recovers() const noexcept;
  void suspend(TargetConnection& connection);
  void suspend(TargetCommand& command, LostConnection& lost);
  void take_answers(TargetConnection& connection, LostConnection& lost);
  void keep_answer(LostConnection& lost, ScsiResponse& response, Bytes data, TargetCommand* command);
  void remove_for_recovery(LostConnection& lost);
  void task_ended(TargetCommand& command);
  void erase_if_done(LostConnection& lost);
  void drop_answer(LostConnection& lost, std::list<RetainedStatus>::iterator answer);
  [[nodiscard]] LostConnection* find_lost(std::uint16_t cid) noexcept;  // that is not logged out yet
  struct LostAnswer {
    LostConnection* lost = nullptr;
    std::list<RetainedStatus>::iterator answer;
  };
  [[nodiscard]] LostAnswer find_lost_answer(Itt itt) noexcept;
  [[nodiscard]] bool forget_lost_answer(Itt itt);
  void reassign(TargetConnection& connection, const TaskManagementRequest& pdu);
  [[nodiscard]] TmfResponse may_reassign(const TargetConnection& connection,
                                         const TaskManagementRequest& pdu);
  void resume(TargetConnection& connection, TargetCommand& command);
  void resume(TargetConnection& connection, LostAnswer found, DataSn exp_data_sn);
  void connection_gone(TargetConnection& connection);
  // --- what a connection took along (nothing of it comes any more) ---
  void doubt_missing();
  void ask_for_missing();
  void heard_from(TargetConnection& connection);

  TargetHost& host_;
  SessionParams params_;
  CmdSn exp_cmd_sn_;
  CmdSn max_cmd_sn_;
  bool window_pressed_ = false;      // the initiator used (nearly) all of what it was told
  std::uint32_t window_max_;
  std::uint32_t slots_ = 0;          // commands that may be outstanding: window plus those in progress
  std::uint32_t backed_slots_ = 0;   // of those, with a reservation of payload memory
  std::uint32_t slots_used_ = 0;
  std::uint32_t immediate_used_ = 0;
  std::uint32_t active_count_ = 0;
  std::uint32_t task_management_count_ = 0;
  std::uint32_t data_waits_ = 0;     // of those, waiting for data
  std::uint32_t orphans_ = 0;
  std::size_t deferred_bytes_ = 0;   // of PDUs in deferred_
  Ttt next_ttt_ = 1;
  ItTable<TargetCommand> by_itt_;
  IntrusiveList<TargetCommand> active_;
  IntrusiveList<TaskManagement> task_management_;
  std::vector<Deferred> deferred_;   // sorted by CmdSN, empty in ordinary life
  std::deque<Held> held_;            // in the order in which they became known
  std::vector<Wait> fence_;          // to be acknowledged before the first of them goes
  Wait last_fenced_;                 // to be acknowledged before anything goes on another connection
  bool releasing_ = false;           // answers are being let go, or must not be now
  // Numbers before doubtful_end_ that have not come may have been lost with a connection. While a request
  // waits for such: the connections that have not said yet that nothing is under way on them, and up to where
  // their answers count.
  bool doubts_ = false;
  CmdSn doubtful_end_;
  CmdSn asked_end_;
  std::vector<TargetConnection*> unheard_;
  std::vector<TargetConnection*> connections_;
  std::vector<Logout> logouts_;      // at most one per connection
  std::vector<std::unique_ptr<LostConnection>> lost_;  // the oldest first
  std::uint32_t next_lost_id_ = 1;
  bool shutting_down_ = false;
  bool serves_scsi_ = true;
  TargetSessionStats stats_;
};

}  // namespace perilune::iscsi
