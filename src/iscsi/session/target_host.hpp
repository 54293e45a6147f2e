// SPDX-License-Identifier: Apache-2.0
// What the target's session engine asks of the program around it. The engine never blocks, waits or looks at
// a clock; the host owns memory, SCSI, time and sockets. One thread.
#pragma once

#include <cstdint>

#include "base/at_once.hpp"
#include "base/bytes.hpp"
#include "iscsi/pdu/pdus.hpp"
#include "iscsi/session/target_command.hpp"

namespace perilune::iscsi {

// A task management request in progress. The host keeps the reference until finish_task_management().
struct TaskManagement : ListNode<TaskManagement> {
  TaskManagementRequest pdu;
  TargetSession* session = nullptr;
  TargetConnection* connection = nullptr;  // nullptr when it is gone: finish all the same
  TargetCommand* referenced = nullptr;     // ABORT TASK: the task, when the session has it
  std::uint32_t additional_information = 0;  // of the answer, 24 bits (RFC 7144); the host's
  void* host_state = nullptr;

 private:
  friend class TargetSession;
  TmfResponse response_ = TmfResponse::function_complete;
  bool waits_for_data_ = false;  // of R2Ts of the tasks it will take
};

class TargetHost {
 public:
  virtual ~TargetHost() = default;

  // Command objects. nullptr: none can be had (the command is answered with TASK SET FULL by a reserve of the
  // engine).
  [[nodiscard]] virtual TargetCommand* acquire_command(TargetSession& session) = 0;
  virtual void release_command(TargetCommand& command) = 0;  // nothing refers to it any more

  // Data comes before on_command() can be called (the command is out of order, or a digest must be checked
  // first): provide_memory() of at least `bytes`. When there is none the data is discarded; command.data() is
  // empty then.
  virtual void prepare_unsolicited(TargetCommand& command, std::uint32_t bytes) = 0;

  // A READ or WRITE that came whole, in one PDU, and can be answered in one. When the host can answer it this
  // moment with GOOD and no residual: its memory, of exactly `bytes`, which the engine fills (write) or sends
  // from (read; it stays put as long as the connection) before it returns, or what else there is
  // (base/at_once.hpp). No command object is made. Declined: on_command() follows.
  [[nodiscard]] virtual AtOnce transfer_at_once(TargetSession&, const WholeTransfer&) { return {}; }
  // After AtOnce::Outcome::copies, at once, unless there is no room: where the bytes of the read go. False:
  // on_command() follows.
  [[nodiscard]] virtual bool read_at_once(TargetSession&, const WholeTransfer&, std::uint8_t*) {
    return false;
  }

  // A command, in CmdSN order. The host answers, now or later, with begin_data_out(), or with complete().
  // When unsolicited data is still to come (command.expects_unsolicited()), it provides memory for it before
  // it returns.
  virtual void on_command(TargetCommand& command) = 0;
  // All data that begin_data_out() asked for is in the memory.
  virtual void on_data_out(TargetCommand& command) = 0;
  // Above recovery level 0: the command was answered, and its data and memory are kept until the initiator
  // acknowledges the answer, its connection is gone, or the host needs them (TargetSession::forget_data(),
  // also from inside this call).
  virtual void on_data_retained(TargetCommand&) {}
  virtual void on_data_forgotten(TargetCommand&) {}  // kept no longer; release_command() follows once it has
                                                     // been sent
  // Recovery level 2: tasks of a connection that is gone wait to be reassigned, and so does the session if it
  // was the last. The host calls TargetSession::expire(lost) after Time2Wait and Time2Retain, counted from
  // this call (a second one, when the connection has been logged out for recovery, begins anew) unless
  // on_recovery_over() comes first.
  virtual void on_recovery_wait(TargetSession&, std::uint32_t /*lost*/) {}
  virtual void on_recovery_over(TargetSession&, std::uint32_t /*lost*/) {}
  // A data PDU of the command arrived damaged (data digest): answer with CHECK CONDITION, PROTOCOL SERVICE
  // CRC ERROR.
  virtual void on_data_lost(TargetCommand& command) = 0;

  // ABORT TASK (with `referenced`, when the session has it) and all the others but TASK REASSIGN. The host
  // ends tasks by abort(), and when they are over answers with finish_task_management().
  virtual void on_task_management(TaskManagement& request) = 0;
  // A task management request waits for data that was asked for (RFC 7143 4.2.3.3). When that has lasted long
  // enough (there are initiators that never send it), the host calls end_data_waits(); it may do so when
  // nothing waits any more.
  virtual void on_data_wait(TargetSession& session) = 0;
  // End this command (logout, drop, request_abort()), then call abort_finished(): at once or later. Nothing
  // is being received into its memory.
  virtual void abort(TargetCommand& command) = 0;

  virtual void on_text(TargetConnection& connection, const TextRequest& request, Bytes data) = 0;
  // A logout of this connection was answered; after what is queued has been sent it is to be closed.
  virtual void on_logged_out(TargetConnection& connection) = 0;
  // A logout on another connection ends this one: close it at once (and destroy it later, never from inside
  // this call).
  virtual void close_connection(TargetConnection& connection) = 0;
  // A connection is gone and the last command that was allegiant to it, or to one before, has ended.
  virtual void on_orphans_ended(TargetSession& session) = 0;
  // The peer answered a NOP-In, or sent anything: the connection is alive. Called for answers to pings only.
  virtual void on_ping_answered(TargetConnection& connection) = 0;
  // Something was queued on an idle transmit queue: send it at the end of this turn.
  virtual void on_output(TargetConnection& connection) = 0;

  // Reservations of FirstBurstLength bytes for one command of the window (DESIGN 1.6).
  [[nodiscard]] virtual bool reserve_slot(TargetSession& session) = 0;
  virtual void release_slot(TargetSession& session) = 0;
  // The last command of a session that is ending has ended.
  virtual void on_session_idle(TargetSession& session) = 0;
};

}  // namespace perilune::iscsi
