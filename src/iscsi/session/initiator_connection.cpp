// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "iscsi/session/initiator_session.hpp"

namespace perilune::iscsi {

namespace {
// A target may ask for as many NOP-Outs, and cause as many SNACKs, as it likes, but not faster than it takes
// them.
constexpr std::uint32_t max_queued_answers = 1024;
// Of one Text answer, however small its parts are.
constexpr std::uint32_t max_text_pdus = 8192;
}  // namespace

InitiatorConnection::InitiatorConnection(InitiatorSession& session, TxChunkPool& pool,
                                         const InitiatorConnectionParameters& parameters)
    : session_(session),
      parameters_(parameters),
      recovers_(session.parameters_.error_recovery_level != 0),
      exp_stat_sn_(parameters.exp_stat_sn),
      next_stat_sn_(parameters.exp_stat_sn),
      decoder_(parameters.max_recv_data_segment_bytes),
      tx_(pool) {
  PERILUNE_ASSERT(parameters_.max_send_data_segment_bytes > 0);
  decoder_.set_digests(parameters_.header_digest, parameters_.data_digest);
  tx_.set_digests(parameters_.header_digest, parameters_.data_digest);
  bursts_.reserve(1024);
  tx_.reserve(1024, 64);
  session_.connections_.push_back(this);
  session_.pump();
}

InitiatorConnection::~InitiatorConnection() {
  const auto& all = session_.connections_;  // InitiatorSession::lose() or close() comes first
  PERILUNE_ASSERT(std::find(all.begin(), all.end(), this) == all.end());
}

bool InitiatorConnection::broken(const char* text) noexcept {
  if (fault_ == Fault::none) {
    fault_ = Fault::protocol;
    fault_text_ = text;
  }
  return false;
}

bool InitiatorConnection::receive(Bytes input) {
  if (fault_ != Fault::none) return false;
  for (;;) {
    if (!recovers_ && decoder_.idle()) {
      while (take_at_once(input)) {}
    }
    switch (decoder_.next(input)) {
      case PduDecoder::Event::need_more:
        session_.pump();
        return true;
      case PduDecoder::Event::header:
        if (!on_header()) return false;
        break;
      case PduDecoder::Event::pdu:
        if (!on_pdu()) return false;
        break;
      case PduDecoder::Event::error:
        if (decoder_.fault() == PduDecoder::Fault::header_digest) {
          ++session_.counters_.digest_errors;
          fault_ = Fault::header_digest;
          fault_text_ = "header digest error";
        } else {
          fault_ = Fault::data_segment_too_long;
          fault_text_ = "data segment longer than MaxRecvDataSegmentLength";
        }
        return false;
    }
  }
}

bool InitiatorConnection::on_header() {
  const std::uint8_t* bhs = decoder_.bhs();
  switch (opcode(bhs)) {
    case Opcode::data_in:
      return on_data_in_header();
    case Opcode::ready_to_transfer:
    case Opcode::task_management_response:
    case Opcode::logout_response:
      decoder_.discard();
      return true;
    case Opcode::nop_in:  // ping data, which we never send and so never compare
      decoder_.discard();
      return true;
    case Opcode::scsi_response:
    case Opcode::text_response:
    case Opcode::async_message:
    case Opcode::reject:
      decoder_.collect();
      return true;
    default:
      return broken("opcode that no target sends in the full feature phase");
  }
}

bool InitiatorConnection::on_pdu() {
  if (!decoder_.data_digest_ok()) {
    ++session_.counters_.digest_errors;
    if (recovers()) return on_damaged();
    // Recovery level 0 knows one answer: a new connection (RFC 7143 7.8).
    fault_ = Fault::data_digest;
    fault_text_ = "data digest error";
    return false;
  }
  const std::uint8_t* bhs = decoder_.bhs();
  // ExpCmdSN and MaxCmdSN stand at the same place in every PDU from a target.
  session_.update_window(CmdSn(load_be32(bhs + 28)), CmdSn(load_be32(bhs + 32)));
  switch (opcode(bhs)) {
    case Opcode::data_in: return on_data_in();
    case Opcode::scsi_response: return on_scsi_response();
    case Opcode::ready_to_transfer: return on_r2t();
    case Opcode::nop_in: return on_nop_in();
    case Opcode::task_management_response: return on_task_response();
    case Opcode::text_response: return on_text_response();
    case Opcode::logout_response: return on_logout_response();
    case Opcode::async_message: return on_async();
    case Opcode::reject: return on_reject();
    default: return broken("opcode that no target sends in the full feature phase");
  }
}

bool InitiatorConnection::take_stat_sn(StatSn stat_sn) {
  if (stat_sn != next_stat_sn_) return out_of_sequence(stat_sn);
  ++next_stat_sn_;
  status_asks_ = 0;
  if (waiting_.empty()) exp_stat_sn_ = next_stat_sn_;
  return true;
}

InitiatorCommand* InitiatorConnection::find_command(Itt itt) noexcept {
  InitiatorSession::Slot* slot = session_.find(itt);
  if (slot == nullptr || slot->kind != InitiatorSession::Kind::command) return nullptr;
  return slot->command->connection_ == this ? slot->command : nullptr;
}

InitiatorSession::Slot* InitiatorConnection::find_request(Itt itt, InitiatorSession::Kind kind) noexcept {
  InitiatorSession::Slot* slot = session_.find(itt);
  return slot != nullptr && slot->kind == kind && slot->connection == this ? slot : nullptr;
}

void InitiatorConnection::let_go(InitiatorCommand& command) noexcept {
  --commands_;
  if (command.open_bursts_ != 0) forget_bursts(command);
  if (data_in_ == &command) {  // a reset by another connection: its memory is being written to until the
                               // payload is over
    command.hold_.retain();
    ended_data_in_ = std::exchange(data_in_, nullptr);
  }
  if (command.asks_ != 0) stop_asking(command);
  if (command.has_status_) {
    command.has_status_ = false;
    std::erase(waiting_, &command);
    acknowledge();
  }
}

// Nothing that we still miss.
void InitiatorConnection::acknowledge() noexcept {
  exp_stat_sn_ = waiting_.empty() ? next_stat_sn_ : waiting_.front()->stat_sn_;
}

// --- Data-In and status
// ---------------------------------------------------------------------------------------------

bool InitiatorConnection::on_data_in_header() {
  const DataIn pdu = DataIn::decode(decoder_.bhs());
  InitiatorCommand* command = find_command(pdu.initiator_task_tag);
  if (command == nullptr) return stray("Data-In for an unknown task tag");
  if (command->direction != InitiatorCommand::Direction::in)
    return broken("Data-In for a command that reads nothing");
  if (pdu.data_sn != command->next_data_sn_) return data_in_out_of_sequence(*command, pdu);
  const std::uint64_t end = std::uint64_t{pdu.buffer_offset} + pdu.data_segment_length;
  if (end > command->length_) return broken("Data-In beyond the expected data transfer length");
  const auto& agreed = session_.parameters_;
  if (agreed.data_pdu_in_order && agreed.data_sequence_in_order && pdu.data_segment_length != 0 &&
      pdu.buffer_offset != command->received_) {
    return broken("Data-In out of order");
  }
  if (std::uint64_t{command->received_} + pdu.data_segment_length > command->length_) {
    return broken("more Data-In than the expected data transfer length");
  }
  data_in_ = command;
  if (pdu.data_segment_length != 0) decoder_.deliver_into(command->data, pdu.buffer_offset);
  return true;
}

bool InitiatorConnection::on_data_in() {
  const DataIn pdu = DataIn::decode(decoder_.bhs());
  ++session_.counters_.data_ins;
  InitiatorCommand* const whose = end_data_in();
  if (recovers()) return on_data_in_recovering(whose, pdu);
  if (whose == nullptr) {  // of a command that another connection's reset has ended
    return !pdu.has_status || take_stat_sn(pdu.stat_sn);
  }
  InitiatorCommand& command = *whose;
  ++command.next_data_sn_;
  command.received_ += pdu.data_segment_length;
  if (!pdu.has_status) return true;
  if (!take_stat_sn(pdu.stat_sn)) return false;
  command.status = pdu.status;
  take_residual(command, pdu.overflow, pdu.underflow, pdu.residual_count);
  session_.finish(command, InitiatorOutcome::status);
  return true;
}

InitiatorCommand* InitiatorConnection::end_data_in() {
  if (ended_data_in_ != nullptr) std::exchange(ended_data_in_, nullptr)->hold_.release();
  return std::exchange(data_in_, nullptr);
}

bool InitiatorConnection::on_scsi_response() {
  const ScsiResponse pdu = ScsiResponse::decode(decoder_.bhs());
  ++session_.counters_.scsi_responses;
  if (!take_stat_sn(pdu.stat_sn)) return alive();
  InitiatorCommand* command = find_command(pdu.initiator_task_tag);
  if (command == nullptr) return stray("SCSI Response for an unknown task tag");
  take_residual(*command, pdu.overflow, pdu.underflow, pdu.residual_count);
  InitiatorOutcome outcome = InitiatorOutcome::target_failure;
  if (pdu.response == ScsiResponseCode::completed_at_target) {
    outcome = InitiatorOutcome::status;
    command->status = pdu.status;
    take_sense(*command);
  }
  if (recovers()) return status_arrived(*command, outcome, pdu.stat_sn, pdu.exp_data_sn);
  session_.finish(*command, outcome);
  return true;
}

// RFC 7143 11.4.7: two bytes of length, the sense data, then response data. A length that lies leaves no
// sense.
void InitiatorConnection::take_sense(InitiatorCommand& command) {
  const Bytes data = decoder_.data();
  if (data.empty()) return;
  const std::size_t length = data.size() >= 2 ? load_be16(data.data()) : 0;
  if (data.size() < 2 || 2 + length > data.size()) {
    ++session_.counters_.malformed_sense;
    return;
  }
  command.sense_length = static_cast<std::uint8_t>(std::min<std::size_t>(length, command.sense.size()));
  std::memcpy(command.sense.data(), data.data() + 2, command.sense_length);
}

// RFC 7143 11.4.5. A residual above EDTL counts as all of it; data that did not come never counts (but may
// come later where it can be asked for: see status_arrived()).
void InitiatorConnection::take_residual(InitiatorCommand& command, bool overflow, bool underflow,
                                        std::uint32_t count) noexcept {
  const std::uint32_t expected =
      underflow ? command.length_ - std::min(count, command.length_) : command.length_;
  switch (command.direction) {
    case InitiatorCommand::Direction::none: command.transferred_bytes = 0; break;
    case InitiatorCommand::Direction::in:
      command.transferred_bytes = recovers_ ? expected : std::min(expected, command.received_);
      break;
    case InitiatorCommand::Direction::out: command.transferred_bytes = expected; break;
  }
  command.residual_overflow = overflow && !underflow ? count : 0;
}

// --- Data-Out
// ------------------------------------------------------------------------------------------------------

void InitiatorConnection::send_command(InitiatorCommand& command) {
  const auto& agreed = session_.parameters_;
  std::uint32_t immediate_bytes = 0;
  std::uint32_t unsolicited_bytes = 0;
  if (command.direction == InitiatorCommand::Direction::out) {
    // RFC 7143 13.10, 13.11, 13.14: both together stay within FirstBurstLength.
    const std::uint32_t burst = std::min(command.length_, agreed.first_burst_bytes);
    if (agreed.immediate_data) immediate_bytes = std::min(burst, parameters_.max_send_data_segment_bytes);
    if (!agreed.initial_r2t) unsolicited_bytes = burst - immediate_bytes;
  }
  command.solicited_ = immediate_bytes + unsolicited_bytes;

  ScsiCommand pdu;
  pdu.final = unsolicited_bytes == 0;
  pdu.read = command.direction == InitiatorCommand::Direction::in;
  pdu.write = command.direction == InitiatorCommand::Direction::out;
  pdu.attribute = command.attribute;
  pdu.lun = command.lun;
  pdu.initiator_task_tag = command.itt_;
  pdu.expected_data_transfer_length = command.length_;
  pdu.cmd_sn = command.cmd_sn_;
  pdu.exp_stat_sn = exp_stat_sn_;
  pdu.cdb = command.cdb;
  std::uint8_t* const bhs = tx_.header_place();
  pdu.encode(bhs);
  ++session_.counters_.scsi_commands;
  tx_.push(bhs, command.data, 0, immediate_bytes, &command.hold_);
  if (unsolicited_bytes != 0) {
    ++command.open_bursts_;
    bursts_.push_back(Burst{&command, reserved_tag, immediate_bytes, unsolicited_bytes, DataSn()});
  }
}

bool InitiatorConnection::on_r2t() {
  const ReadyToTransfer pdu = ReadyToTransfer::decode(decoder_.bhs());
  ++session_.counters_.r2ts;
  const auto& agreed = session_.parameters_;
  InitiatorCommand* command = find_command(pdu.initiator_task_tag);
  if (command == nullptr) return stray("R2T for an unknown task tag");
  if (command->direction != InitiatorCommand::Direction::out)
    return broken("R2T for a command that writes nothing");
  if (pdu.target_transfer_tag == reserved_tag) return broken("R2T with the reserved transfer tag");
  const std::uint32_t length = pdu.desired_data_transfer_length;
  if (length == 0 || length > agreed.max_burst_bytes)
    return broken("R2T for nothing, or for more than MaxBurstLength");
  if (std::uint64_t{pdu.buffer_offset} + length > command->length_) {
    return broken("R2T beyond the expected data transfer length");
  }
  if (recovers()) return on_r2t_recovering(*command, pdu);
  if (pdu.r2t_sn != command->next_data_sn_) return broken("R2TSN out of sequence");
  if (agreed.data_sequence_in_order && pdu.buffer_offset != command->solicited_)
    return broken("R2T out of order");
  if (std::uint64_t{command->solicited_} + length > command->length_)
    return broken("R2T for data that was asked for before");
  if (command->open_r2ts_ >= agreed.max_outstanding_r2t) return broken("more R2Ts than MaxOutstandingR2T");
  ++command->next_data_sn_;
  command->solicited_ += length;
  ++command->open_r2ts_;
  ++command->open_bursts_;
  bursts_.push_back(Burst{command, pdu.target_transfer_tag, pdu.buffer_offset, length, DataSn()});
  return true;
}

void InitiatorConnection::fill() {
  if (tx_.empty()) answers_ = 0;
  while (first_burst_ < bursts_.size() && tx_.queued_bytes() < tx_mark_bytes) {
    Burst& burst = bursts_[first_burst_];
    if (burst.command == nullptr) {
      ++first_burst_;
      continue;
    }
    InitiatorCommand& command = *burst.command;
    const std::uint32_t length = std::min(burst.left, parameters_.max_send_data_segment_bytes);
    DataOut pdu;
    pdu.final = length == burst.left;
    if (burst.ttt != reserved_tag) pdu.lun = command.lun;  // RFC 7143 11.7.4
    pdu.initiator_task_tag = command.itt_;
    pdu.target_transfer_tag = burst.ttt;
    pdu.exp_stat_sn = exp_stat_sn_;
    pdu.data_sn = burst.data_sn;
    pdu.buffer_offset = burst.offset;
    std::uint8_t* const bhs = tx_.header_place();
    pdu.encode(bhs);
    ++session_.counters_.data_outs;
    tx_.push(bhs, command.data, burst.offset, length, &command.hold_);
    ++burst.data_sn;
    burst.offset += length;
    burst.left -= length;
    if (burst.left == 0) {
      --command.open_bursts_;
      if (burst.ttt != reserved_tag) --command.open_r2ts_;
      ++first_burst_;
    }
  }
  if (first_burst_ == bursts_.size()) {
    bursts_.clear();
    first_burst_ = 0;
  } else if (first_burst_ >= 256) {
    bursts_.erase(bursts_.begin(), bursts_.begin() + static_cast<std::ptrdiff_t>(first_burst_));
    first_burst_ = 0;
  }
}

void InitiatorConnection::forget_bursts(InitiatorCommand& command) noexcept {
  for (std::size_t i = first_burst_; i < bursts_.size(); ++i) {
    if (bursts_[i].command == &command) bursts_[i].command = nullptr;
  }
  command.open_bursts_ = command.open_r2ts_ = 0;
}

// --- Everything that is not data
// -----------------------------------------------------------------------------------

void InitiatorConnection::send_task(InitiatorTask& task) {
  TaskManagementRequest pdu;
  pdu.immediate = true;
  pdu.function = task.function;
  pdu.lun = task.lun;
  pdu.initiator_task_tag = task.itt_;
  pdu.referenced_task_tag = task.referenced_;
  pdu.cmd_sn = task.cmd_sn_;
  pdu.exp_stat_sn = exp_stat_sn_;
  pdu.ref_cmd_sn = task.referenced_cmd_sn_;
  std::uint8_t* const bhs = tx_.header_place();
  pdu.encode(bhs);
  ++session_.counters_.task_requests;
  tx_.push(bhs);
}

bool InitiatorConnection::on_task_response() {
  const TaskManagementResponse pdu = TaskManagementResponse::decode(decoder_.bhs());
  ++session_.counters_.task_responses;
  if (!take_stat_sn(pdu.stat_sn)) return alive();
  if (find_request(pdu.initiator_task_tag, InitiatorSession::Kind::reassign) != nullptr) {
    session_.reassign_answered(pdu.initiator_task_tag, pdu.response);
    return true;
  }
  if (find_request(pdu.initiator_task_tag, InitiatorSession::Kind::task) == nullptr) {
    return broken("task management response for an unknown task tag");
  }
  session_.finish_task(pdu.initiator_task_tag, InitiatorOutcome::status, pdu.response);
  return true;
}

bool InitiatorConnection::ping() {
  if (ping_open_) return false;
  const Itt itt = session_.allocate(InitiatorSession::Kind::ping, this);
  if (itt == reserved_tag) return false;
  ping_open_ = true;
  send_nop_out(itt, reserved_tag, 0);
  return true;
}

void InitiatorConnection::ping_answered(Itt itt) {
  session_.free_slot(itt);
  ping_open_ = false;
  session_.emit(InitiatorEvent::Kind::ping_answered).cid = cid();
}

bool InitiatorConnection::count_answer() {
  if (tx_.empty()) answers_ = 0;
  return ++answers_ <= max_queued_answers || broken("the target asks faster than it takes the answers");
}

void InitiatorConnection::send_nop_out(Itt itt, Ttt ttt, Lun lun) {
  NopOut pdu;
  pdu.immediate = true;
  pdu.lun = lun;
  pdu.initiator_task_tag = itt;
  pdu.target_transfer_tag = ttt;
  pdu.cmd_sn = session_.next_cmd_sn_;
  pdu.exp_stat_sn = exp_stat_sn_;
  std::uint8_t* const bhs = tx_.header_place();
  pdu.encode(bhs);
  ++session_.counters_.nop_outs;
  tx_.push(bhs);
}

// RFC 7143 11.19: an answer to our ping (ITT), a ping of the target's (TTT), or only news of the window.
bool InitiatorConnection::on_nop_in() {
  const NopIn pdu = NopIn::decode(decoder_.bhs());
  ++session_.counters_.nop_ins;
  if (pdu.initiator_task_tag != reserved_tag) {
    if (!take_stat_sn(pdu.stat_sn)) return alive();
    if (find_request(pdu.initiator_task_tag, InitiatorSession::Kind::ping) == nullptr) {
      return broken("NOP-In for an unknown task tag");
    }
    ping_answered(pdu.initiator_task_tag);
    return true;
  }
  if (recovers() && pdu.stat_sn.after(next_stat_sn_) && !missing_status(pdu.stat_sn))
    return false;  // the next one's
  if (pdu.target_transfer_tag == reserved_tag) return true;
  if (!count_answer()) return false;
  send_nop_out(reserved_tag, pdu.target_transfer_tag, pdu.lun);
  return true;
}

void InitiatorConnection::send_text(Itt itt, Ttt ttt, Lun lun, Bytes keys) {
  TextRequest pdu;
  pdu.immediate = true;
  pdu.lun = lun;
  pdu.initiator_task_tag = itt;
  pdu.target_transfer_tag = ttt;
  pdu.cmd_sn = session_.next_cmd_sn_;
  pdu.exp_stat_sn = exp_stat_sn_;
  std::uint8_t* const bhs = tx_.header_place();
  pdu.encode(bhs);
  ++session_.counters_.text_requests;
  ++text_pdus_;
  tx_.push(bhs, keys);
}

bool InitiatorConnection::on_text_response() {
  const TextResponse pdu = TextResponse::decode(decoder_.bhs());
  ++session_.counters_.text_responses;
  if (!take_stat_sn(pdu.stat_sn)) return alive();
  if (find_request(pdu.initiator_task_tag, InitiatorSession::Kind::text) == nullptr) {
    return broken("Text Response for an unknown task tag");
  }
  if (pdu.final && (pdu.continues || pdu.target_transfer_tag != reserved_tag)) {
    return broken("Text Response that is final and not");
  }
  if (!pdu.final && pdu.target_transfer_tag == reserved_tag)
    return broken("unfinished Text Response without a transfer tag");
  const Bytes data = decoder_.data();
  const std::uint32_t limit = session_.limits_.text_bytes;
  if (!pdu.final && text_pdus_ > max_text_pdus) return broken("endless Text exchange");
  if (session_.text_.size() + data.size() > limit) return broken("Text answer longer than the limit");
  session_.text_.insert(session_.text_.end(), data.begin(), data.end());
  if (!pdu.final) {
    send_text(pdu.initiator_task_tag, pdu.target_transfer_tag, pdu.lun, {});
    return true;
  }
  session_.free_slot(pdu.initiator_task_tag);
  session_.text_open_ = false;
  session_.emit(InitiatorEvent::Kind::text_answer).data = std::move(session_.text_);
  session_.text_.clear();
  return true;
}

void InitiatorConnection::send_logout(Itt itt, LogoutReason reason, std::uint16_t cid) {
  LogoutRequest pdu;
  pdu.immediate = true;
  pdu.reason = reason;
  pdu.initiator_task_tag = itt;
  if (reason != LogoutReason::close_session) pdu.cid = cid;
  pdu.cmd_sn = session_.next_cmd_sn_;
  pdu.exp_stat_sn = exp_stat_sn_;
  std::uint8_t* const bhs = tx_.header_place();
  pdu.encode(bhs);
  ++session_.counters_.logout_requests;
  tx_.push(bhs);
}

bool InitiatorConnection::on_logout_response() {
  const LogoutResponse pdu = LogoutResponse::decode(decoder_.bhs());
  ++session_.counters_.logout_responses;
  if (!take_stat_sn(pdu.stat_sn)) return alive();
  const InitiatorSession::Slot* slot = find_request(pdu.initiator_task_tag, InitiatorSession::Kind::logout);
  if (slot == nullptr) return broken("Logout Response for an unknown task tag");
  InitiatorEvent& event = session_.emit(InitiatorEvent::Kind::logged_out);
  event.logout = pdu;
  event.cid = slot->cid;
  event.reason = slot->reason;
  session_.free_slot(pdu.initiator_task_tag);
  return true;
}

bool InitiatorConnection::on_async() {
  const AsyncMessage pdu = AsyncMessage::decode(decoder_.bhs());
  ++session_.counters_.asyncs;
  if (!take_stat_sn(pdu.stat_sn)) return alive();
  InitiatorEvent& event = session_.emit(InitiatorEvent::Kind::async);
  event.cid = cid();
  event.async = pdu;
  event.data.assign(decoder_.data().begin(), decoder_.data().end());
  return true;
}

// RFC 7143 11.17. The rejected header says which request it was.
bool InitiatorConnection::on_reject() {
  const RejectPdu pdu = RejectPdu::decode(decoder_.bhs());
  ++session_.counters_.rejects;
  if (!take_stat_sn(pdu.stat_sn)) return alive();
  const Bytes header = decoder_.data();
  if (header.size() < bhs_bytes) return broken("Reject without the rejected header");
  if (recovers()) {
    bool handled = false;
    if (!on_reject_recovering(pdu, header.data(), handled)) return false;
    if (handled) return true;
  }
  const Itt itt = initiator_task_tag(header.data());
  InitiatorSession::Slot* slot = session_.find(itt);
  const bool ours =
      slot != nullptr &&
      (slot->kind == InitiatorSession::Kind::command ? slot->command->connection_ : slot->connection) == this;
  if (!ours)
    return opcode(header.data()) == Opcode::nop_out ? true : broken("Reject for an unknown task tag");
  switch (slot->kind) {
    case InitiatorSession::Kind::command:
      // A command that the target did not count leaves a hole in CmdSN, which level 0 cannot fill; a rejected
      // Data-Out leaves one in the data.
      if (opcode(header.data()) != Opcode::scsi_command || !pdu.exp_cmd_sn.after(slot->command->cmd_sn_)) {
        return broken("a command's PDU was rejected");
      }
      session_.finish(*slot->command, InitiatorOutcome::rejected);
      return true;
    case InitiatorSession::Kind::task:
      session_.finish_task(itt, InitiatorOutcome::rejected, TmfResponse::function_rejected);
      return true;
    case InitiatorSession::Kind::ping:  // refused, but alive
      ping_answered(itt);
      return true;
    case InitiatorSession::Kind::text:
      session_.free_slot(itt);
      session_.text_open_ = false;
      session_.text_.clear();
      session_.emit(InitiatorEvent::Kind::text_failed);
      return true;
    case InitiatorSession::Kind::logout: {
      InitiatorEvent& event = session_.emit(InitiatorEvent::Kind::logout_failed);
      event.cid = slot->cid;
      event.reason = slot->reason;
      session_.free_slot(itt);
      return true;
    }
    case InitiatorSession::Kind::reassign:
      session_.reassign_answered(itt, TmfResponse::function_rejected);
      return true;
    case InitiatorSession::Kind::free:
      break;
  }
  return true;
}

}  // namespace perilune::iscsi
