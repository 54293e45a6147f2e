// SPDX-License-Identifier: Apache-2.0
// What an initiator asks of a session: a SCSI command or a task management function. Plain objects, embedded
// by their owners, in the session's hands from submit() until they appear in its list of completed ones.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <span>

#include "base/intrusive_list.hpp"
#include "base/limits.hpp"
#include "iscsi/pdu/pdus.hpp"
#include "iscsi/pdu/tx_queue.hpp"

namespace perilune::iscsi {

class InitiatorSession;
class InitiatorConnection;

// How a command or function ended.
enum class InitiatorOutcome : std::uint8_t {
  none,
  status,          // the target answered: `status` and sense (or the task management response) tell
  target_failure,  // SCSI Response with a response code other than "completed at target" (RFC 7143 11.4.3)
  aborted,         // ended by a task management function
  rejected,        // the target sent Reject for it
  lost,            // the connection ended first: whether it was executed is not known
  data_lost,       // executed, but what it read came damaged and the target cannot send it again
  unsent,          // the connection ended first, and the target has never seen it
};

struct InitiatorCommand : ListNode<InitiatorCommand> {
  enum class Direction : std::uint8_t { none, in, out };

  // Request. `data` (the array and what it names) stays put until the end; its length is the Expected Data
  // Transfer Length and less than 2^32.
  Lun lun = 0;
  std::array<std::uint8_t, 16> cdb{};
  Direction direction = Direction::none;
  TaskAttribute attribute = TaskAttribute::simple;
  std::span<const iovec> data;

  // Outcome.
  InitiatorOutcome outcome = InitiatorOutcome::none;
  std::uint8_t status = 0;                // SAM-5 status byte
  std::uint8_t sense_length = 0;          // bytes of `sense`
  std::array<std::uint8_t, limits::max_sense_bytes> sense{};
  std::uint32_t transferred_bytes = 0;    // what really moved: data received, or EDTL less the residual
  std::uint32_t residual_overflow = 0;    // how much more the target had (O bit)

  InitiatorCommand() noexcept : hold_(Delegate<void()>::to<&InitiatorCommand::released>(*this)) {}

  // Since it was last submitted, or sent again: the target was asked to go on with it on another connection.
  [[nodiscard]] bool was_reassigned() const noexcept { return reassigned_; }

 private:
  friend class InitiatorSession;
  friend class InitiatorConnection;
  enum class State : std::uint8_t { idle, pending, sent, finishing };

  void released();

  InitiatorSession* session_ = nullptr;
  InitiatorConnection* connection_ = nullptr;  // its allegiance; nullptr when sent: that connection is gone
  State state_ = State::idle;
  Itt itt_ = reserved_tag;
  CmdSn cmd_sn_;
  std::uint32_t length_ = 0;         // EDTL
  DataSn next_data_sn_;              // of Data-In, or of R2T
  std::uint32_t received_ = 0;       // data-in bytes so far
  std::uint32_t solicited_ = 0;      // data-out bytes asked for so far, unsolicited ones included
  std::uint16_t open_bursts_ = 0;    // of the connection's burst queue
  std::uint16_t open_r2ts_ = 0;
  TxHold hold_;                      // by pieces of the send queue that name `data`

  // Above recovery level 0.
  StatSn stat_sn_;                   // with has_status_
  DataSn exp_data_sn_;               // with has_status_: how many Data-In there are
  std::uint16_t lost_cid_ = 0;       // with connection_ == nullptr
  std::uint8_t asks_ = 0;            // SNACKs for next_data_sn_ that are not answered
  std::uint8_t attempts_ = 0;        // retransmissions
  bool has_status_ = false;          // the status has come, some data has not
  bool data_gone_ = false;           // the target has refused to send it again
  bool removed_ = false;             // lost_cid_ is logged out: may be reassigned
  bool reassigned_ = false;
};

struct InitiatorTask : ListNode<InitiatorTask> {
  TmfFunction function = TmfFunction::logical_unit_reset;
  Lun lun = 0;
  InitiatorCommand* command = nullptr;  // abort_task only; read by manage() alone

  InitiatorOutcome outcome = InitiatorOutcome::none;  // status, rejected or lost
  TmfResponse response = TmfResponse::function_complete;

 private:
  friend class InitiatorSession;
  friend class InitiatorConnection;
  Itt itt_ = reserved_tag;
  Itt referenced_ = reserved_tag;
  CmdSn referenced_cmd_sn_;
  CmdSn cmd_sn_;
};

}  // namespace perilune::iscsi
