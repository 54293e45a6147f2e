// SPDX-License-Identifier: Apache-2.0
// The initiator's session in the full feature phase (RFC 7143 4.2, 4.6, 11), as pure code: bytes and requests in, bytes and
// outcomes out; no I/O, clock or random number inside. Two objects, so that one session can have several connections:
//
//   InitiatorSession     CmdSN and its window, task tags, the queue of commands that wait for the window
//   InitiatorConnection  StatSN, digests, the decoder, the send queue, data transfer of the commands that it carries
//
//   session.open(parameters, cmd_sn, ...);  InitiatorConnection connection(session, pool, ...);
//   session.submit(command);                // its PDU is in connection.tx() when the window is open
//   connection.receive(bytes);              // false: connection.fault(), drop it
//   connection.fill();                      // more Data-Out into tx(), up to the mark
//   while (!session.completed().empty()) finish(session.completed().pop_front());
//   for (auto& event : session.take_events()) ...
//
// Commands end in the list completed() and never inside a call of submit(). A command ends only when no piece of the send
// queue names its memory. ErrorRecoveryLevel 0: a lost connection ends everything (close()). One thread. After warm-up no
// allocation per command.
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
  std::uint64_t scsi_commands = 0, data_outs = 0, task_requests = 0, nop_outs = 0, text_requests = 0, logout_requests = 0;
  std::uint64_t scsi_responses = 0, data_ins = 0, r2ts = 0, task_responses = 0, nop_ins = 0, text_responses = 0;
  std::uint64_t logout_responses = 0, asyncs = 0, rejects = 0, digest_errors = 0, malformed_sense = 0;
};

struct InitiatorEvent {
  enum class Kind : std::uint8_t {
    ping_answered,
    text_answer,   // `data`: the keys of the whole exchange
    text_failed,   // rejected, too long, or broken
    logged_out,    // `logout`
    logout_failed, // rejected
    async,         // `async`, `data`: its data segment (sense first for event 0)
  };
  Kind kind = Kind::ping_answered;
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

  // After the login of the leading connection: the CmdSN of the next command, and the window of the last response.
  // Precondition: closed.
  void open(const InitiatorSessionParameters& parameters, CmdSn next, CmdSn exp, CmdSn max);
  // The connection is gone and nothing of it is in the kernel's hands: everything ends, see completed(): sent commands as
  // lost in the order of their CmdSN, then waiting ones as unsent. Call before the connection object is destroyed.
  void close();
  [[nodiscard]] bool is_open() const noexcept { return connection_ != nullptr; }

  // False: too many wait already, nothing was done. Otherwise the command is sent as soon as the window allows.
  [[nodiscard]] bool submit(InitiatorCommand& command);
  // A command that waits and was never sent: takes it back (it does not appear in completed()). False when it was sent.
  [[nodiscard]] bool withdraw(InitiatorCommand& command) noexcept;
  [[nodiscard]] bool was_sent(const InitiatorCommand& command) const noexcept {
    return command.state_ != InitiatorCommand::State::pending;
  }
  // Sent at once (immediate). False: no task tag is free, nothing was done. abort_task needs a command that was sent and
  // has not ended. A function that completes ends the commands it covers as aborted.
  [[nodiscard]] bool manage(InitiatorTask& task);
  [[nodiscard]] bool ping();                       // false when one is unanswered, or no tag is free
  [[nodiscard]] bool text(Bytes keys);             // one exchange at a time; keys fit one PDU
  [[nodiscard]] bool logout(LogoutReason reason);  // close_session or close_connection

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
  enum class Kind : std::uint8_t { free, command, task, ping, text, logout };
  struct Slot {
    Kind kind = Kind::free;
    std::uint16_t generation = 0;
    InitiatorCommand* command = nullptr;
    InitiatorTask* task = nullptr;
  };
  static constexpr std::uint32_t control_slots = 16;

  [[nodiscard]] Itt allocate(Kind kind) noexcept;  // reserved_tag when none is free
  [[nodiscard]] Slot* find(Itt itt) noexcept;      // nullptr when no live request has the tag
  void free_slot(Itt itt) noexcept;

  [[nodiscard]] bool window_open() const noexcept { return max_cmd_sn_.ahead_of(next_cmd_sn_) >= 0; }
  void update_window(CmdSn exp, CmdSn max) noexcept;
  void pump();
  void finish(InitiatorCommand& command, InitiatorOutcome outcome);
  void released(InitiatorCommand& command) noexcept;
  void finish_task(Itt itt, InitiatorOutcome outcome, TmfResponse response);
  void end_covered(const InitiatorTask& task);
  InitiatorEvent& emit(InitiatorEvent::Kind kind);

  InitiatorLimits limits_;
  InitiatorSessionParameters parameters_;
  InitiatorConnection* connection_ = nullptr;  // the leading one; more come with MC/S
  CmdSn next_cmd_sn_, exp_cmd_sn_, max_cmd_sn_;

  std::vector<Slot> slots_;
  std::vector<std::uint16_t> free_command_slots_, free_control_slots_;
  IntrusiveList<InitiatorCommand> pending_, live_, completed_;
  IntrusiveList<InitiatorTask> tasks_, completed_tasks_;
  std::uint32_t pending_count_ = 0, outstanding_ = 0;
  bool ping_open_ = false, text_open_ = false;
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
  InitiatorConnection(InitiatorSession& session, TxChunkPool& pool, const InitiatorConnectionParameters& parameters);
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
  void send_logout(Itt itt, LogoutReason reason);
  void forget_bursts(InitiatorCommand& command) noexcept;

  // Each returns false after broken().
  bool on_header();
  bool on_pdu();
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
  bool take_stat_sn(StatSn stat_sn) noexcept;
  void take_sense(InitiatorCommand& command);
  static void take_residual(InitiatorCommand& command, bool overflow, bool underflow, std::uint32_t count) noexcept;
  [[nodiscard]] InitiatorCommand* find_command(Itt itt) noexcept;

  InitiatorSession& session_;
  InitiatorConnectionParameters parameters_;
  StatSn exp_stat_sn_;
  PduDecoder decoder_;
  TxQueue tx_;
  std::vector<Burst> bursts_;  // [first_burst_, size)
  std::size_t first_burst_ = 0;
  InitiatorCommand* data_in_ = nullptr;  // of the Data-In whose payload is arriving
  std::uint32_t nop_answers_ = 0;        // queued since tx() was last empty
  std::uint32_t text_pdus_ = 0;
  Fault fault_ = Fault::none;
  const char* fault_text_ = "";
};

}  // namespace perilune::iscsi
