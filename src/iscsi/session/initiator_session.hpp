// SPDX-License-Identifier: Apache-2.0
// The initiator's session in the full feature phase (RFC 7143 4.2, 4.6, 11), as pure code: bytes and requests
// in, bytes and outcomes out; no I/O, clock or random number inside. One session has one connection or
// several:
//
//   InitiatorSession     CmdSN and its window, task tags, the queue of commands that wait for the window
//   InitiatorConnection  StatSN, digests, the decoder, the send queue, data transfer of the commands that it
//   carries
//
// A command goes to the connection that carries the fewest, and its data and status keep to it (allegiance).
//
//   session.open(parameters, cmd_sn, ...);  InitiatorConnection connection(session, pool, ...);
//   session.submit(command);                // its PDU is in connection.tx() when the window is open
//   connection.receive(bytes);              // false: connection.fault(), drop it
//   connection.fill();                      // more Data-Out into tx(), up to the mark
//   while (!session.completed().empty()) finish(session.completed().pop_front());
//   for (auto& event : session.take_events()) ...
//
// Commands end in the list completed() and never inside a call of submit(). A command ends only when no piece
// of the send queue names its memory. One thread. After warm-up no allocation per command.
//
// Recovery (RFC 7143 7.1): at level 0 whatever comes damaged breaks its connection. From level 1 on damaged
// data and status are asked for again (initiator_recovery.cpp); a damaged header still breaks the connection,
// as nothing says where the next one begins. Below level 2 a lost connection ends everything (close()); at
// level 2 lose() suspends what it carried, and recover() carries on with it elsewhere.
#pragma once

#include <cstdint>
#include <vector>

#include "base/intrusive_list.hpp"
#include "iscsi/pdu/decoder.hpp"
#include "iscsi/pdu/pdus.hpp"
#include "iscsi/pdu/tx_queue.hpp"
#include "iscsi/session/initiator_command.hpp"

namespace perilune::iscsi {

// What login agreed for the session (RFC 7143 13).
struct InitiatorSessionParameters {
  bool initial_r2t = true;
  bool immediate_data = true;
  bool data_pdu_in_order = true;
  bool data_sequence_in_order = true;
  std::uint32_t first_burst_bytes = 65536;
  std::uint32_t max_burst_bytes = 262144;
  std::uint32_t max_outstanding_r2t = 1;
  std::uint8_t error_recovery_level = 0;
};

struct InitiatorConnectionParameters {
  std::uint16_t cid = 0;
  StatSn exp_stat_sn;
  std::uint32_t max_recv_data_segment_bytes = 8192;  // what we declared
  std::uint32_t max_send_data_segment_bytes = 8192;  // what the target declared
  bool header_digest = false;
  bool data_digest = false;
};

struct InitiatorLimits {
  std::uint32_t commands = 128;           // in the target's hands at once
  std::uint32_t pending_commands = 65536; // waiting for the window
  std::uint32_t text_bytes = limits::max_text_total_bytes;
};

// PDUs by kind, and what went wrong.
struct InitiatorCounters {
  std::uint64_t scsi_commands = 0, data_outs = 0, task_requests = 0, nop_outs = 0, text_requests = 0,
                logout_requests = 0;
  std::uint64_t scsi_responses = 0, data_ins = 0, r2ts = 0, task_responses = 0, nop_ins = 0,
                text_responses = 0;
  std::uint64_t logout_responses = 0, asyncs = 0, rejects = 0, digest_errors = 0, malformed_sense = 0;
  // Recovery. Dropped: PDUs that came twice or behind a hole.
  std::uint64_t snacks = 0, dropped = 0, retransmitted_commands = 0, reassigned_commands = 0;
};

struct InitiatorEvent {
  enum class Kind : std::uint8_t {
    ping_answered,
    text_answer,   // `data`: the keys of the whole exchange
    text_failed,   // rejected, too long, or broken
    logged_out,    // `logout`, of `reason` and `cid`
    logout_failed, // rejected, or its connection is lost; `reason` and `cid`
    async,         // `async`, `data`: its data segment (sense first for event 0)
    recovery_failed,  // the target will not reassign what was suspended: only close() is left
  };
  Kind kind = Kind::ping_answered;
  std::uint16_t cid = 0;  // of the connection that the ping or message came by, that a logout was for
  LogoutReason reason = LogoutReason::close_session;
  AsyncMessage async;
  LogoutResponse logout;
  std::vector<std::uint8_t> data;
};

class InitiatorSession {
 public:
  explicit InitiatorSession(const InitiatorLimits& limits);
  ~InitiatorSession();  // precondition: no command in its hands
  InitiatorSession(const InitiatorSession&) = delete;
  InitiatorSession& operator=(const InitiatorSession&) = delete;

  // After the login of the leading connection: the CmdSN of the next command, and the window of the last
  // response. Precondition: closed.
  void open(const InitiatorSessionParameters& parameters, CmdSn next, CmdSn exp, CmdSn max);
  // The connections are gone and nothing of them is in the kernel's hands: everything ends, see completed():
  // sent commands as lost in the order of their CmdSN, then waiting ones as unsent. Call before a connection
  // object is destroyed.
  void close();
  [[nodiscard]] bool is_open() const noexcept { return !connections_.empty(); }
  [[nodiscard]] std::size_t connection_count() const noexcept { return connections_.size(); }

  // This connection is gone, nothing of it is in the kernel's hands: it leaves the session, and the commands
  // that it carried are suspended until recover() or close(). Call before the connection object is destroyed.
  void lose(InitiatorConnection& connection);
  // Recovery level 2: the target has removed the lost connection (answered a logout for recovery, or taken a
  // new connection with its CID, and what it has sent since has come). What had not reached it is sent again
  // under its old CmdSN, the rest is reassigned (RFC 7143 7.2.2). Precondition: a connection is there.
  void recover(std::uint16_t cid);
  [[nodiscard]] std::uint32_t suspended() const noexcept {
    return suspended_;
  }  // commands that belong to no connection

  // False: too many wait already, nothing was done. Otherwise the command is sent as soon as the window
  // allows.
  [[nodiscard]] bool submit(InitiatorCommand& command);
  // A command that waits and was never sent: takes it back (it does not appear in completed()). False when it
  // was sent.
  [[nodiscard]] bool withdraw(InitiatorCommand& command) noexcept;
  [[nodiscard]] bool was_sent(const InitiatorCommand& command) const noexcept {
    return command.state_ != InitiatorCommand::State::pending;
  }
  // Suspended: its connection is lost. Nothing can be done for it before recover().
  [[nodiscard]] bool is_suspended(const InitiatorCommand& command) const noexcept {
    return was_sent(command) && command.connection_ == nullptr;
  }
  // Sent at once (immediate), abort_task by the connection of its command. False: no task tag is free, or the
  // command is suspended; nothing was done. abort_task needs a command that was sent and has not ended. A
  // function that completes ends the commands it covers as aborted.
  [[nodiscard]] bool manage(InitiatorTask& task);
  [[nodiscard]] bool ping();                       // by the first connection; see there
  [[nodiscard]] bool text(Bytes keys);             // one exchange at a time; keys fit one PDU
  // Of the session, or (close_connection) of a connection that the request goes by: no new command goes there
  // any more.
  [[nodiscard]] bool logout(LogoutReason reason);
  [[nodiscard]] bool logout(InitiatorConnection& by, LogoutReason reason, std::uint16_t cid);

  // What ended since these were last emptied, in the order of ending. The owner pops.
  [[nodiscard]] IntrusiveList<InitiatorCommand>& completed() noexcept { return completed_; }
  [[nodiscard]] IntrusiveList<InitiatorTask>& completed_tasks() noexcept { return completed_tasks_; }
  [[nodiscard]] bool has_events() const noexcept { return !events_.empty(); }
  [[nodiscard]] std::vector<InitiatorEvent> take_events();

  [[nodiscard]] std::uint32_t outstanding() const noexcept { return outstanding_; }  // sent, without outcome
  [[nodiscard]] std::uint32_t pending() const noexcept { return pending_count_; }
  // Sent commands in the order of their CmdSN; visit must not end or move them.
  template <class Visit>
  void for_each_sent(Visit visit) { live_.for_each(visit); }
  template <class Visit>
  void for_each_pending(Visit visit) { pending_.for_each(visit); }

  [[nodiscard]] const InitiatorSessionParameters& parameters() const noexcept { return parameters_; }
  [[nodiscard]] const InitiatorCounters& counters() const noexcept { return counters_; }
  [[nodiscard]] CmdSn next_cmd_sn() const noexcept { return next_cmd_sn_; }
  [[nodiscard]] CmdSn max_cmd_sn() const noexcept { return max_cmd_sn_; }

 private:
  friend class InitiatorConnection;
  friend struct InitiatorCommand;
  enum class Kind : std::uint8_t { free, command, task, ping, text, logout, reassign };
  struct Slot {
    Kind kind = Kind::free;
    LogoutReason reason = LogoutReason::close_session;  // logout
    std::uint16_t generation = 0;
    std::uint16_t cid = 0;                              // logout
    Itt referenced = reserved_tag;                      // reassign: the command's
    InitiatorCommand* command = nullptr;
    InitiatorTask* task = nullptr;
    InitiatorConnection* connection = nullptr;  // that it went by; of a command its own connection_ tells
  };
  static constexpr std::uint32_t control_slots = 24;
  static constexpr std::uint32_t max_reassignments = 8;  // at once, so that tags are left for others

  // reserved_tag: none is free
  [[nodiscard]] Itt allocate(Kind kind, InitiatorConnection* connection = nullptr) noexcept;
  [[nodiscard]] Slot* find(Itt itt) noexcept;      // nullptr when no live request has the tag
  void free_slot(Itt itt) noexcept;

  [[nodiscard]] bool window_open() const noexcept { return max_cmd_sn_.ahead_of(next_cmd_sn_) >= 0; }
  void update_window(CmdSn exp, CmdSn max) noexcept;
  void pump();
  [[nodiscard]] bool may_send() const noexcept { return window_open() && !free_command_slots_.empty(); }
  void send(InitiatorCommand& command, InitiatorConnection& connection);
  [[nodiscard]] InitiatorConnection* pick() const noexcept;  // for the next command; nullptr: none takes any
  void suspend(InitiatorCommand& command, std::uint16_t cid) noexcept;
  void recover_more();
  [[nodiscard]] bool reassign(InitiatorCommand& command, InitiatorConnection& connection);
  void reassign_answered(Itt itt, TmfResponse response);
  void drop_requests(const InitiatorConnection& connection);
  void finish(InitiatorCommand& command, InitiatorOutcome outcome);
  void finish_at_once(Slot& slot, InitiatorCommand& command);
  void released(InitiatorCommand& command) noexcept;
  void finish_task(Itt itt, InitiatorOutcome outcome, TmfResponse response);
  void end_covered(const InitiatorTask& task);
  InitiatorEvent& emit(InitiatorEvent::Kind kind);

  InitiatorLimits limits_;
  InitiatorSessionParameters parameters_;
  std::vector<InitiatorConnection*> connections_;
  CmdSn next_cmd_sn_, exp_cmd_sn_, max_cmd_sn_;

  std::vector<Slot> slots_;
  std::vector<std::uint16_t> free_command_slots_, free_control_slots_;
  IntrusiveList<InitiatorCommand> pending_, live_, completed_;
  IntrusiveList<InitiatorTask> tasks_, completed_tasks_;
  std::uint32_t pending_count_ = 0, outstanding_ = 0, suspended_ = 0, reassignments_ = 0;
  bool text_open_ = false;
  std::vector<std::uint8_t> text_;
  std::vector<InitiatorEvent> events_;
  InitiatorCounters counters_;
};

class InitiatorConnection {
 public:
  enum class Fault : std::uint8_t { none, header_digest, data_digest, data_segment_too_long, protocol };

  // Data-Out PDUs are put into tx() while less than this is queued there.
  static constexpr std::uint64_t tx_mark_bytes = 1u << 20;

  // Joins the session: commands that wait are sent by the next pump. The session outlives it.
  InitiatorConnection(InitiatorSession& session, TxChunkPool& pool,
                      const InitiatorConnectionParameters& parameters);
  ~InitiatorConnection();
  InitiatorConnection(const InitiatorConnection&) = delete;
  InitiatorConnection& operator=(const InitiatorConnection&) = delete;

  // Takes everything in `input`. False: the connection must be dropped, fault() and fault_text() tell why.
  [[nodiscard]] bool receive(Bytes input);
  // Direct receiving of a large payload into the command's own memory; see PduDecoder.
  [[nodiscard]] std::uint32_t missing_bytes() const noexcept { return decoder_.missing_bytes(); }
  [[nodiscard]] std::size_t direct(std::span<iovec> out) const noexcept { return decoder_.direct(out); }
  void commit_direct(std::uint32_t bytes) noexcept { decoder_.commit_direct(bytes); }

  [[nodiscard]] TxQueue& tx() noexcept { return tx_; }
  void fill();

  [[nodiscard]] Fault fault() const noexcept { return fault_; }
  [[nodiscard]] const char* fault_text() const noexcept { return fault_text_; }
  [[nodiscard]] StatSn exp_stat_sn() const noexcept { return exp_stat_sn_; }
  [[nodiscard]] std::uint16_t cid() const noexcept { return parameters_.cid; }
  [[nodiscard]] const InitiatorConnectionParameters& parameters() const noexcept { return parameters_; }
  [[nodiscard]] std::uint32_t outstanding() const noexcept { return commands_; }
  // Something waits to be sent, in tx() or for fill().
  [[nodiscard]] bool has_output() const noexcept { return !tx_.empty() || first_burst_ < bursts_.size(); }

  [[nodiscard]] bool ping();  // false when one is unanswered, or no tag is free
  [[nodiscard]] bool ping_open() const noexcept { return ping_open_; }
  // No new command goes by it; those that it carries go on. For a connection that is to be logged out.
  void retire() noexcept { leaving_ = true; }
  // Above recovery level 0: something was asked for again and has not come. A target may drop such a request:
  // ask_again() after a while. False: that was too often, the connection must be dropped.
  [[nodiscard]] bool is_asking() const noexcept { return asking_ != 0 || status_asks_ != 0; }
  [[nodiscard]] bool ask_again();

 private:
  friend class InitiatorSession;
  // One sequence of Data-Out PDUs that is not wholly in tx() yet.
  struct Burst {
    InitiatorCommand* command = nullptr;  // nullptr: its command ended meanwhile
    Ttt ttt = reserved_tag;               // reserved_tag: unsolicited
    std::uint32_t offset = 0;
    std::uint32_t left = 0;
    DataSn data_sn;
  };

  void send_command(InitiatorCommand& command);
  void send_task(InitiatorTask& task);
  void send_nop_out(Itt itt, Ttt ttt, Lun lun);
  void send_text(Itt itt, Ttt ttt, Lun lun, Bytes keys);
  void send_logout(Itt itt, LogoutReason reason, std::uint16_t cid);
  void forget_bursts(InitiatorCommand& command) noexcept;

  // Each returns false after broken().
  bool on_header();
  bool on_pdu();
  // The fast path (initiator_at_once.cpp). False: nothing was taken.
  [[nodiscard]] bool take_at_once(Bytes& input);
  bool on_data_in_header();
  bool on_data_in();
  bool on_scsi_response();
  bool on_r2t();
  bool on_nop_in();
  bool on_task_response();
  bool on_text_response();
  bool on_logout_response();
  bool on_async();
  bool on_reject();
  bool broken(const char* text) noexcept;
  // True: it is the next one, which is taken. False: the PDU is not to be looked at; whether it breaks the
  // connection, alive() says.
  bool take_stat_sn(StatSn stat_sn);
  [[nodiscard]] bool alive() const noexcept { return fault_ == Fault::none; }
  [[nodiscard]] bool recovers() const noexcept { return recovers_; }
  void take_sense(InitiatorCommand& command);
  void take_residual(InitiatorCommand& command, bool overflow, bool underflow, std::uint32_t count) noexcept;
  [[nodiscard]] InitiatorCommand* find_command(Itt itt) noexcept;
  // Of this connection.
  [[nodiscard]] InitiatorSession::Slot* find_request(Itt itt,
                                                     InitiatorSession::Kind kind) noexcept;
  bool count_answer();
  void ping_answered(Itt itt);
  void let_go(InitiatorCommand& command) noexcept;  // it has ended, or belongs to another connection from now
                                                    // on
  void acknowledge() noexcept;
  [[nodiscard]] InitiatorCommand* end_data_in();  // nullptr: its data was not for anybody

  // Above recovery level 0 (initiator_recovery.cpp). Like those above, false after broken().
  bool stray(const char* text);  // of a task that is over: harmless there, a violation at level 0
  bool out_of_sequence(StatSn stat_sn);
  bool on_damaged();
  bool missing_status(StatSn stat_sn);
  bool data_in_out_of_sequence(InitiatorCommand& command, const DataIn& pdu);
  bool on_data_in_recovering(InitiatorCommand* command, const DataIn& pdu);
  bool status_arrived(InitiatorCommand& command, InitiatorOutcome outcome, StatSn stat_sn,
                      DataSn exp_data_sn);
  void complete(InitiatorCommand& command, InitiatorOutcome outcome);
  bool on_r2t_recovering(InitiatorCommand& command, const ReadyToTransfer& pdu);
  bool on_reject_recovering(const RejectPdu& pdu, const std::uint8_t* header, bool& handled);
  bool on_snack_rejected(const SnackRequest& snack);
  bool ask_status(bool again);
  bool ask(InitiatorCommand& command, bool again);
  bool send_snack(const SnackRequest& snack);
  void stop_asking(InitiatorCommand& command) noexcept;
  bool retransmit(InitiatorCommand& command);
  void send_reassign(Itt itt, const InitiatorCommand& command);

  InitiatorSession& session_;
  InitiatorConnectionParameters parameters_;
  bool recovers_;
  StatSn exp_stat_sn_;   // what we acknowledge: everything before it has come, data included
  StatSn next_stat_sn_;  // of the next PDU that takes one
  PduDecoder decoder_;
  TxQueue tx_;
  std::vector<Burst> bursts_;  // [first_burst_, size)
  std::size_t first_burst_ = 0;
  InitiatorCommand* data_in_ = nullptr;        // of the Data-In whose payload is arriving
  InitiatorCommand* ended_data_in_ = nullptr;  // likewise, but its command has ended: held until the payload
                                               // is over
  std::uint32_t answers_ = 0;  // to the target's pings and to damage, queued since tx() was last empty
  std::uint32_t text_pdus_ = 0;
  std::uint32_t commands_ = 0;           // allegiant to it
  bool ping_open_ = false;
  bool leaving_ = false;                 // logged out: no new command
  std::vector<InitiatorCommand*> waiting_;  // have their status and miss data, by StatSN
  std::uint32_t asking_ = 0;             // commands with asks_ != 0
  std::uint8_t status_asks_ = 0;         // for next_stat_sn_
  Fault fault_ = Fault::none;
  const char* fault_text_ = "";
};

}  // namespace perilune::iscsi
