// SPDX-License-Identifier: Apache-2.0
// Recovery above level 0 (RFC 7143 7.1 to 7.2, 11.16), the initiator's side.
//
// Within a command and a connection (level 1). A connection delivers in order, so what is missing was
// damaged, or dropped by the target: the first number that is missing is asked for with everything behind it
// (RunLength 0), and what comes behind the hole meanwhile is dropped. ExpStatSN stops at a status whose
// command still misses data, because acknowledging it would let the target forget the data (11.16).
// MaxRecvDataSegmentLength never changes within one of our sessions, so there is no use for an R-Data SNACK.
//
// Of connections (level 2). What a lost connection carried waits until the target has removed it. Commands
// below ExpCmdSN are the target's and are reassigned; the others never were, and fill their hole in CmdSN.
#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "iscsi/session/initiator_session.hpp"

namespace perilune::iscsi {

namespace {
// Requests for the same number, and retransmissions of the same command, before the connection is given up.
constexpr std::uint8_t max_asks = 16;
constexpr std::uint8_t max_attempts = 16;
}  // namespace

// --- level 1: holes
// -------------------------------------------------------------------------------------------------

bool InitiatorConnection::stray(const char* text) {
  if (!recovers() && session_.connections_.size() == 1) return broken(text);
  ++session_.counters_.dropped;  // sent before its task was over, or once more than we needed it
  return true;
}

bool InitiatorConnection::out_of_sequence(StatSn stat_sn) {
  // Level 0 on an ordered stream: a gap or a repetition can only be the target's mistake (RFC 7143 4.2.2.2).
  if (!recovers()) return broken("StatSN out of sequence");
  ++session_.counters_.dropped;
  if (stat_sn.after(next_stat_sn_)) (void)ask_status(false);
  return false;
}

// A PDU that takes this StatSN has come damaged, or must have been sent.
bool InitiatorConnection::missing_status(StatSn stat_sn) {
  return stat_sn.before(next_stat_sn_) || ask_status(stat_sn == next_stat_sn_);
}

bool InitiatorConnection::on_damaged() {
  const std::uint8_t* bhs = decoder_.bhs();
  const StatSn stat_sn(load_be32(bhs + 24));
  switch (opcode(bhs)) {
    case Opcode::data_in: {
      const DataIn pdu = DataIn::decode(bhs);
      ++session_.counters_.data_ins;
      InitiatorCommand* command = end_data_in();
      if (command != nullptr && !ask(*command, true)) return false;
      return !pdu.has_status || missing_status(stat_sn);
    }
    case Opcode::ready_to_transfer:
      return broken("R2T with data");
    case Opcode::nop_in:
      if (initiator_task_tag(bhs) == reserved_tag)
        return true;  // it takes no StatSN, and will be repeated if it matters
      return missing_status(stat_sn);
    default:
      return missing_status(stat_sn);
  }
}

bool InitiatorConnection::ask_status(bool again) {
  if (status_asks_ != 0 && !again) return true;
  if (status_asks_ >= max_asks) return broken("a damaged status does not come again");
  ++status_asks_;
  SnackRequest snack;
  snack.type = SnackType::status;
  snack.beg_run = next_stat_sn_.value();
  return send_snack(snack);
}

// Data-In or R2T from next_data_sn_ on.
bool InitiatorConnection::ask(InitiatorCommand& command, bool again) {
  if (command.data_gone_ || (command.asks_ != 0 && !again)) return true;
  if (command.asks_ >= max_asks) return broken("damaged data does not come again");
  if (command.asks_++ == 0) ++asking_;
  SnackRequest snack;
  snack.type = SnackType::data_or_r2t;
  snack.initiator_task_tag = command.itt_;
  snack.beg_run = command.next_data_sn_.value();
  return send_snack(snack);
}

void InitiatorConnection::stop_asking(InitiatorCommand& command) noexcept {
  if (std::exchange(command.asks_, std::uint8_t{0}) != 0) --asking_;
}

bool InitiatorConnection::ask_again() {
  if (status_asks_ != 0 && !ask_status(true)) return false;
  bool good = true;
  session_.live_.for_each([&](InitiatorCommand& command) {
    if (good && command.connection_ == this && command.asks_ != 0) good = ask(command, true);
  });
  return good;
}

bool InitiatorConnection::send_snack(const SnackRequest& request) {
  if (!count_answer()) return false;
  SnackRequest snack = request;
  snack.exp_stat_sn = exp_stat_sn_;
  std::uint8_t bhs[bhs_bytes];
  snack.encode(bhs);
  ++session_.counters_.snacks;
  tx_.push(bhs);
  return true;
}

// At the header: its data goes nowhere.
bool InitiatorConnection::data_in_out_of_sequence(InitiatorCommand& command, const DataIn& pdu) {
  if (!recovers()) return broken("DataSN out of sequence");
  ++session_.counters_.dropped;
  return !pdu.data_sn.after(command.next_data_sn_) || ask(command, false);
}

// `command`: whose data it was; nullptr when that was dropped. A status that comes with dropped data counts
// all the same.
bool InitiatorConnection::on_data_in_recovering(InitiatorCommand* command, const DataIn& pdu) {
  if (command != nullptr) {
    ++command->next_data_sn_;
    command->received_ += pdu.data_segment_length;
    stop_asking(*command);
    if (pdu.acknowledge && pdu.target_transfer_tag != reserved_tag) {
      SnackRequest snack;
      snack.type = SnackType::data_ack;
      snack.lun = pdu.lun;
      snack.target_transfer_or_snack_tag = pdu.target_transfer_tag;
      snack.beg_run = command->next_data_sn_.value();
      if (!send_snack(snack)) return false;
    }
  }
  if (pdu.has_status) {
    if (!take_stat_sn(pdu.stat_sn)) return alive();
    command = find_command(pdu.initiator_task_tag);
    if (command == nullptr) return true;
    command->status = pdu.status;
    take_residual(*command, pdu.overflow, pdu.underflow, pdu.residual_count);
    return status_arrived(*command, InitiatorOutcome::status, pdu.stat_sn, pdu.data_sn.plus(1));
  }
  if (command != nullptr && command->has_status_ && !command->next_data_sn_.before(command->exp_data_sn_)) {
    complete(*command, command->outcome);
  }
  return true;
}

void InitiatorConnection::complete(InitiatorCommand& command, InitiatorOutcome outcome) {
  if (command.direction == InitiatorCommand::Direction::in) {
    command.transferred_bytes = std::min(command.transferred_bytes, command.received_);
  }
  session_.finish(command, outcome);
}

// With `exp_data_sn` the target says how much it has sent before.
bool InitiatorConnection::status_arrived(InitiatorCommand& command, InitiatorOutcome outcome, StatSn stat_sn,
                                         DataSn exp_data_sn) {
  const bool whole =
      command.direction != InitiatorCommand::Direction::in || !command.next_data_sn_.before(exp_data_sn);
  if (whole || command.data_gone_) {
    complete(command, whole ? outcome : InitiatorOutcome::data_lost);
    return true;
  }
  command.has_status_ = true;
  command.outcome = outcome;
  command.stat_sn_ = stat_sn;
  command.exp_data_sn_ = exp_data_sn;
  waiting_.push_back(&command);
  acknowledge();
  return ask(command, false);
}

// Recovery R2Ts ask for what was asked for before (RFC 7143 7.1.4.1), so offsets do not tell anything. Where
// a target that takes a command over begins again is its affair.
bool InitiatorConnection::on_r2t_recovering(InitiatorCommand& command, const ReadyToTransfer& pdu) {
  if (!command.reassigned_ && pdu.r2t_sn != command.next_data_sn_) {
    ++session_.counters_.dropped;
    return !pdu.r2t_sn.after(command.next_data_sn_) || ask(command, false);
  }
  const auto open = std::find_if(
      bursts_.begin() + static_cast<std::ptrdiff_t>(first_burst_), bursts_.end(),
      [&](const Burst& burst) { return burst.command == &command && burst.ttt == pdu.target_transfer_tag; });
  if (open != bursts_.end()) {
    ++session_.counters_.dropped;
    return true;
  }
  if (command.open_r2ts_ >= session_.parameters_.max_outstanding_r2t)
    return broken("more R2Ts than MaxOutstandingR2T");
  stop_asking(command);
  if (!pdu.r2t_sn.before(command.next_data_sn_)) command.next_data_sn_ = pdu.r2t_sn.plus(1);
  ++command.open_r2ts_;
  ++command.open_bursts_;
  bursts_.push_back(Burst{&command, pdu.target_transfer_tag, pdu.buffer_offset,
                          pdu.desired_data_transfer_length, DataSn()});
  return true;
}

// --- level 1: what the target says no to
// ----------------------------------------------------------------------------

bool InitiatorConnection::on_reject_recovering(const RejectPdu& pdu, const std::uint8_t* header,
                                               bool& handled) {
  handled = true;
  switch (opcode(header)) {
    case Opcode::snack_request:
      return on_snack_rejected(SnackRequest::decode(header));
    case Opcode::data_out:
      if (pdu.reason == RejectReason::data_digest_error) return true;  // it asks again by R2T
      break;
    case Opcode::scsi_command: {
      InitiatorCommand* command = find_command(initiator_task_tag(header));
      const bool damaged = pdu.reason == RejectReason::data_digest_error;
      if (damaged && command != nullptr && !pdu.exp_cmd_sn.after(command->cmd_sn_))
        return retransmit(*command);
      break;
    }
    default:
      break;
  }
  handled = false;
  return true;
}

// RFC 7143 11.17.1: what a refused SNACK asked for cannot be had any more.
bool InitiatorConnection::on_snack_rejected(const SnackRequest& snack) {
  if (snack.type == SnackType::data_ack) return true;
  if (snack.type == SnackType::status) return broken("a status cannot be had again");
  InitiatorCommand* command = find_command(snack.initiator_task_tag);
  if (command == nullptr || command->asks_ == 0) return true;  // it came before the refusal
  if (command->direction != InitiatorCommand::Direction::in) return broken("an R2T cannot be had again");
  stop_asking(*command);
  command->data_gone_ = true;
  if (command->has_status_) complete(*command, InitiatorOutcome::data_lost);
  return true;
}

// The target has dropped it whole and waits for its CmdSN (RFC 7143 7.2.1, 7.8).
bool InitiatorConnection::retransmit(InitiatorCommand& command) {
  if (command.attempts_++ >= max_attempts) return broken("a command comes damaged again and again");
  if (command.open_bursts_ != 0) forget_bursts(command);
  stop_asking(command);
  command.next_data_sn_ = DataSn();
  command.received_ = 0;
  command.reassigned_ = false;
  ++session_.counters_.retransmitted_commands;
  send_command(command);
  return true;
}

// --- level 2
// ---------------------------------------------------------------------------------------------------------

void InitiatorSession::suspend(InitiatorCommand& command, std::uint16_t cid) noexcept {
  std::exchange(command.connection_, nullptr)->let_go(command);
  command.lost_cid_ = cid;
  command.removed_ = command.data_gone_ = false;
  ++suspended_;
}

void InitiatorSession::recover(std::uint16_t cid) {
  live_.for_each([&](InitiatorCommand& command) {
    if (command.connection_ == nullptr && command.lost_cid_ == cid) command.removed_ = true;
  });
  recover_more();
}

void InitiatorSession::recover_more() {
  live_.for_each([&](InitiatorCommand& command) {
    if (command.connection_ != nullptr || !command.removed_) return;
    InitiatorConnection* connection = pick();
    if (connection == nullptr) return;
    const bool received = command.cmd_sn_.before(exp_cmd_sn_);
    if (received && !reassign(command, *connection)) return;
    --suspended_;
    command.connection_ = connection;
    ++connection->commands_;
    if (!received) (void)connection->retransmit(command);
  });
}

bool InitiatorSession::reassign(InitiatorCommand& command, InitiatorConnection& connection) {
  if (reassignments_ >= max_reassignments) return false;
  const Itt itt = allocate(Kind::reassign, &connection);
  if (itt == reserved_tag) return false;
  ++reassignments_;
  find(itt)->referenced = command.itt_;
  command.reassigned_ = true;
  connection.send_reassign(itt, command);
  return true;
}

// RFC 7143 11.5.6: for a read, ExpDataSN acknowledges what has come. For a write nothing is acknowledged, so
// that every R2T that was not answered whole is asked again.
void InitiatorConnection::send_reassign(Itt itt, const InitiatorCommand& command) {
  TaskManagementRequest pdu;
  pdu.immediate = true;
  pdu.function = TmfFunction::task_reassign;
  pdu.lun = command.lun;
  pdu.initiator_task_tag = itt;
  pdu.referenced_task_tag = command.itt_;
  pdu.cmd_sn = session_.next_cmd_sn_;
  pdu.exp_stat_sn = exp_stat_sn_;
  if (command.direction == InitiatorCommand::Direction::in) pdu.exp_data_sn = command.next_data_sn_;
  std::uint8_t bhs[bhs_bytes];
  pdu.encode(bhs);
  ++session_.counters_.task_requests;
  tx_.push(bhs);
}

void InitiatorSession::reassign_answered(Itt itt, TmfResponse response) {
  const Itt referenced = find(itt)->referenced;
  free_slot(itt);
  --reassignments_;
  Slot* slot = find(referenced);
  if (response == TmfResponse::function_complete) {
    ++counters_.reassigned_commands;
  } else if (response == TmfResponse::task_does_not_exist) {
    if (slot != nullptr) finish(*slot->command, InitiatorOutcome::lost);
  } else if (slot != nullptr) {
    emit(InitiatorEvent::Kind::recovery_failed);
  }
  recover_more();
}

}  // namespace perilune::iscsi
