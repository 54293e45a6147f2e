// SPDX-License-Identifier: Apache-2.0
#include "iscsi/session/target_connection.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace perilune::iscsi {
namespace {

// Takes over what the AHS of a command say; false when they are malformed, or when R and W ask for a read
// length that is not there, or the other way round. Bytes of a CDB that is longer than any of ours are not
// kept: its own length field says that they are missing.
bool read_ahs(Bytes ahs, ScsiCommand& pdu, std::optional<std::uint32_t>& bidirectional_read_length) {
  const bool bidirectional = pdu.read && pdu.write;
  if (ahs.empty()) return !bidirectional;
  const auto list = parse_ahs(ahs);
  if (!list || list->bidirectional_read_length.has_value() != bidirectional) return false;
  bidirectional_read_length = list->bidirectional_read_length;
  if (!list->extended_cdb) return true;
  const std::size_t bytes = std::min(list->extended_cdb->size(), pdu.extended_cdb.size());
  std::copy_n(list->extended_cdb->begin(), bytes, pdu.extended_cdb.begin());
  pdu.extended_cdb_bytes = static_cast<std::uint8_t>(bytes);
  return true;
}

PduDecoder::Destination destination_of(const TargetCommand& command) noexcept {
  return command.data_is_final ? PduDecoder::Destination::final : PduDecoder::Destination::passing;
}

}  // namespace

TargetConnection::TargetConnection(TargetSession& session, const ConnectionParams& params, std::uint16_t cid,
                                   StatSn stat_sn, TxChunkPool& chunks)
    : session_(session),
      params_(params),
      cid_(cid),
      stat_sn_(stat_sn),
      acknowledged_(stat_sn),
      keeps_data_from_(stat_sn),
      decoder_(params.max_recv_data_segment_length),
      tx_(chunks) {
  decoder_.set_digests(params.header_digest, params.data_digest);
  tx_.set_digests(params.header_digest, params.data_digest);
  if (session_.slots_ > limits::min_command_window) {
    tx_.reserve(std::size_t{session_.slots_} * 4, session_.slots_ / 4 + 2);
  }
  session_.connections_.push_back(this);
}

TargetConnection::~TargetConnection() {
  if (receiving_ != nullptr) {
    TargetCommand* command = receiving_;
    if (end_receiving() != nullptr) command->hold.release();
  }
  session_.connection_gone(*this);
  forget(retained_.size());
}

bool TargetConnection::feed(Bytes input) {
  for (;;) {
    if (decoder_.idle()) {
      while (may_be_fast(input) && answer_at_once(input)) {}
      tx_.copy_pending();
    }
    switch (decoder_.next(input)) {
      case PduDecoder::Event::need_more:
        return true;
      case PduDecoder::Event::header:
        if (!on_header()) return false;
        break;
      case PduDecoder::Event::pdu:
        if (!on_pdu()) return false;
        break;
      case PduDecoder::Event::error:
        // Without markers there is no way to find the next PDU again (RFC 7143 7.7).
        ++session_.stats_.digest_errors;
        return drop(decoder_.fault() == PduDecoder::Fault::header_digest
                        ? "header digest error"
                        : "data segment longer than declared");
    }
  }
}

bool TargetConnection::on_header() {
  ignore_pdu_ = false;
  if (draining_) {  // after logout nothing is served any more
    ignore_pdu_ = true;
    return true;
  }
  if (session_.params_.max_connections > 1 || session_.retains()) {
    acknowledge(StatSn(load_be32(decoder_.bhs() + 28)));
    if (retained_.size() > limits::max_retained_status || retained_bytes_ > limits::max_retained_bytes) {
      return drop("status is not acknowledged");
    }
  }
  const Opcode op = opcode(decoder_.bhs());
  if (!session_.serves_scsi_ &&
      (op == Opcode::scsi_command || op == Opcode::data_out || op == Opcode::task_management_request)) {
    refuse_scsi();
    return true;
  }
  switch (op) {
    case Opcode::scsi_command:
      return command_header();
    case Opcode::data_out:
      return data_out_header();
    case Opcode::nop_out:
    case Opcode::text_request:
      decoder_.collect();
      return true;
    default:
      return true;
  }
}

// ExpStatSN stands at the same place in every PDU of the initiator.
void TargetConnection::acknowledge(StatSn exp_stat_sn) {
  if (!exp_stat_sn.after(acknowledged_) || exp_stat_sn.after(stat_sn_)) return;
  if (session_.retains()) forget(static_cast<std::size_t>(exp_stat_sn.ahead_of(acknowledged_)));
  acknowledged_ = exp_stat_sn;
  session_.lift_fences(*this);
}

// The command is not taken; its number is used up.
void TargetConnection::refuse_command(const ScsiCommand& pdu, RejectReason reason) {
  if (!pdu.immediate) session_.consume(pdu.cmd_sn);
  send_reject(reason, decoder_.bhs());
}

// RFC 7143 4.3: a discovery session takes SendTargets and the logout (and pings here, which harm nobody).
void TargetConnection::refuse_scsi() {
  const std::uint8_t* bhs = decoder_.bhs();
  const CmdSn sn(load_be32(bhs + 24));
  const bool numbered = !immediate(bhs) && opcode(bhs) != Opcode::data_out;
  ignore_pdu_ = true;
  if (numbered && (!session_.in_window(sn) || session_.waits(sn))) {
    ++session_.stats_.ignored;
    return;
  }
  if (numbered) session_.consume(sn);
  send_reject(RejectReason::command_not_supported, bhs);
}

// Before the data of a command: is it to be taken at all, and where does its data go?
bool TargetConnection::command_header() {
  ScsiCommand pdu = ScsiCommand::decode(decoder_.bhs());
  const std::uint32_t length = decoder_.data_length();
  if (!pdu.immediate && (!session_.in_window(pdu.cmd_sn) || session_.waits(pdu.cmd_sn))) {
    ++session_.stats_.ignored;  // RFC 7143 4.2.2.1: outside the window or there already, silently
    ignore_pdu_ = true;
    return true;
  }
  if (pdu.initiator_task_tag == reserved_tag) return drop("SCSI command with the reserved task tag");
  if (length != 0 && !pdu.write) return drop("data with a command that does not write");
  if (length != 0 && !session_.params_.immediate_data) return drop("immediate data was not negotiated");
  if (!pdu.final && (!pdu.write || session_.params_.initial_r2t))
    return drop("unsolicited data was not negotiated");
  if (length > pdu.expected_data_transfer_length) return drop("more immediate data than the transfer length");
  if (length > session_.params_.first_burst_length) return drop("more immediate data than FirstBurstLength");
  if (pdu.immediate && session_.immediate_used_ >= limits::max_immediate_commands) {
    send_reject(RejectReason::immediate_command_rejected, decoder_.bhs());
    ignore_pdu_ = true;
    return true;
  }
  std::optional<std::uint32_t> bidirectional_read_length;
  const bool malformed =
      (pdu.total_ahs_length != 0 || (pdu.read && pdu.write)) &&
      !read_ahs(pdu.total_ahs_length != 0 ? decoder_.ahs() : Bytes{}, pdu, bidirectional_read_length);
  const bool twice = session_.find_command(pdu.initiator_task_tag) != nullptr;
  if (malformed || twice || session_.shutting_down_ || logging_out_) {
    refuse_command(pdu, malformed ? RejectReason::invalid_pdu_field
                        : twice   ? RejectReason::task_in_progress
                                  : RejectReason::waiting_for_logout);
    ignore_pdu_ = true;
    return true;
  }
  TargetCommand* command = session_.open_command(*this, pdu);
  if (command == nullptr) return drop("out of command memory");
  command->bidirectional_read_length = bidirectional_read_length;
  command->hold.retain();
  receiving_ = command;
  receiving_new_ = true;
  if (length == 0) return true;
  const bool in_order = pdu.immediate || pdu.cmd_sn == session_.exp_cmd_sn_;
  if (in_order && !params_.data_digest) {
    // Nothing but the end of the connection can stop this command now: learn at once where its data belongs.
    receiving_new_ = false;
    if (!pdu.immediate) session_.advance(pdu.cmd_sn);
    session_.accept(*command);
  } else {
    const std::uint32_t most =
        std::min(pdu.expected_data_transfer_length, session_.params_.first_burst_length);
    session_.host_.prepare_unsolicited(*command, most);
  }
  if (!command->data_.empty()) decoder_.deliver_into(command->data_, 0, destination_of(*command));
  // What other connections brought need not wait for the data of this one.
  if (!receiving_new_ && !session_.deferred_.empty()) session_.drain_deferred();
  return true;
}

bool TargetConnection::data_out_header() {
  const DataOut pdu = DataOut::decode(decoder_.bhs());
  const std::uint32_t length = decoder_.data_length();
  TargetCommand* command = session_.find_command(pdu.initiator_task_tag);
  if (command == nullptr || command->aborted_ || command->connection != this) {
    ++session_.stats_.ignored;  // of a task that was aborted or answered early: swallowed
    ignore_pdu_ = true;
    return true;
  }
  std::uint32_t offset = 0;
  if (pdu.target_transfer_tag == reserved_tag) {
    if (!command->unsolicited_open_) return drop("unsolicited Data-Out after its burst ended");
    if (pdu.data_sn != command->unsolicited_data_sn_) return drop("Data-Out out of sequence");
    offset = command->unsolicited_received_;
    const std::uint32_t most =
        std::min(command->pdu.expected_data_transfer_length, session_.params_.first_burst_length);
    if (pdu.buffer_offset != offset || length > most - offset)
      return drop("unsolicited Data-Out outside its burst");
    // The first data of a command that waits for its turn.
    if (offset == 0 && !command->delivered_ && command->data_.empty())
      session_.host_.prepare_unsolicited(*command, most);
  } else {
    const auto slot = std::find_if(command->r2t_.begin(), command->r2t_.end(), [&](const auto& s) {
      return s.ttt == pdu.target_transfer_tag && s.next_offset != s.end_offset;
    });
    if (command->r2t_count_ == 0 || slot == command->r2t_.end()) return drop("Data-Out for no R2T");
    if (pdu.data_sn != slot->next_data_sn) return drop("Data-Out out of sequence");
    offset = slot->next_offset;
    if (pdu.buffer_offset != offset || length > slot->end_offset - offset)
      return drop("Data-Out outside its R2T");
    if (pdu.final != (offset + length == slot->end_offset)) return drop("Data-Out with a wrong F bit");
  }
  command->hold.retain();
  receiving_ = command;
  receiving_new_ = false;
  if (!command->data_.empty()) decoder_.deliver_into(command->data_, offset, destination_of(*command));
  return true;
}

// The command's data PDU is over (or its connection is). nullptr: it was aborted while it was received;
// otherwise the caller takes over the reference.
TargetCommand* TargetConnection::end_receiving() {
  TargetCommand* command = receiving_;
  receiving_ = nullptr;
  decoder_.abandon_memory();
  if (command == nullptr) return nullptr;
  const bool refused = receiving_new_ && session_.shutting_down_;
  if (command->abort_waits_) {
    command->abort_waits_ = false;
    session_.host_.abort(*command);
  }
  if (!command->aborted_ && !refused) return command;
  command->hold.release();
  return nullptr;
}

bool TargetConnection::on_pdu() {
  if (ignore_pdu_) return true;
  const std::uint8_t* bhs = decoder_.bhs();
  const Opcode op = opcode(bhs);
  if (op == Opcode::scsi_command) return command_pdu();
  if (op == Opcode::data_out) return data_out_pdu();
  if (!decoder_.data_digest_ok()) {
    discard_damaged();
    return true;
  }
  switch (op) {
    case Opcode::nop_out:
    case Opcode::task_management_request:
    case Opcode::text_request:
    case Opcode::logout_request:
      return ordered_pdu(bhs, decoder_.data());
    case Opcode::snack_request:
      if (session_.retains()) snack(bhs);
      else send_reject(RejectReason::snack_reject, bhs);  // recovery level 0 (RFC 7143 11.16)
      return true;
    case Opcode::login_request:
      return drop("Login Request in full-feature phase");
    default:
      send_reject(RejectReason::command_not_supported, bhs);
      return true;
  }
}

bool TargetConnection::command_pdu() {
  const bool is_new = receiving_new_;
  TargetCommand* command = end_receiving();
  if (command == nullptr) return true;
  if (!decoder_.data_digest_ok()) {
    discard_damaged();
    command->hold.release();
    return true;
  }
  command->unsolicited_received_ = decoder_.data_length();
  if (is_new) {
    // While it was received, another connection may have brought the same, an abort may have used its number
    // up, or this connection's logout may have begun.
    const ScsiCommand& pdu = command->pdu;
    const bool raced = session_.params_.max_connections > 1;
    const bool twice = raced && session_.find_command(pdu.initiator_task_tag) != nullptr;
    if (raced && !pdu.immediate && (!session_.in_window(pdu.cmd_sn) || session_.waits(pdu.cmd_sn))) {
      ++session_.stats_.ignored;
    } else if (twice || (raced && logging_out_)) {
      refuse_command(pdu, twice ? RejectReason::task_in_progress : RejectReason::waiting_for_logout);
    } else if (pdu.immediate) {
      session_.accept(*command);
    } else if (pdu.cmd_sn == session_.exp_cmd_sn_) {
      session_.advance(pdu.cmd_sn);
      session_.accept(*command);
      session_.drain_deferred();
    } else {
      TargetSession::Deferred deferred;
      deferred.cmd_sn = pdu.cmd_sn;
      deferred.connection = this;
      deferred.command = command;
      if (session_.defer(std::move(deferred))) command->hold.retain();
    }
  } else {
    if (command->active_ && !command->unsolicited_open_) session_.unsolicited_ended(*command);
    session_.drain_deferred();
  }
  command->hold.release();
  return true;
}

// RFC 7143 7.8: a PDU that is no Data-Out is discarded whole, and its CmdSN stays a hole. Only a retry fills
// it, which is recovery within command (7.2.1) and not for level 0: there, nothing behind the hole would ever
// be served, so the connection ends behind the Reject, and the session recovers.
void TargetConnection::discard_damaged() {
  const std::uint8_t* bhs = decoder_.bhs();
  ++session_.stats_.digest_errors;
  send_reject(RejectReason::data_digest_error, bhs);
  const bool numbered =
      !immediate(bhs) && !(opcode(bhs) == Opcode::nop_out && initiator_task_tag(bhs) == reserved_tag);
  if (!numbered || session_.retains()) return;
  drop_reason_ = "data digest error";
  draining_ = true;
}

bool TargetConnection::data_out_pdu() {
  TargetCommand* command = end_receiving();
  if (command == nullptr) return true;
  const DataOut pdu = DataOut::decode(decoder_.bhs());
  ++session_.stats_.data_out_pdus;
  const std::uint32_t length = decoder_.data_length();
  const bool damaged = !decoder_.data_digest_ok();
  if (damaged) {
    ++session_.stats_.digest_errors;
    send_reject(RejectReason::data_digest_error, decoder_.bhs());
    if (!session_.retains()) {
      command->digest_failed_ = true;
    } else if (pdu.target_transfer_tag == reserved_tag) {
      if (command->unsolicited_lost_end_ == 0) command->unsolicited_lost_begin_ = pdu.buffer_offset;
      command->unsolicited_lost_end_ = pdu.buffer_offset + length;
    }
  }
  if (pdu.target_transfer_tag == reserved_tag) {
    command->unsolicited_received_ += length;
    ++command->unsolicited_data_sn_;
    if (pdu.final) {
      command->unsolicited_open_ = false;
      if (command->active_) session_.unsolicited_ended(*command);
    }
  } else {
    for (auto& slot : command->r2t_) {
      if (slot.ttt != pdu.target_transfer_tag || slot.next_offset == slot.end_offset) continue;
      if (damaged && session_.retains()) {
        if (slot.lost_end == 0) slot.lost_begin = slot.next_offset;
        slot.lost_end = slot.next_offset + length;
      }
      slot.next_offset += length;
      ++slot.next_data_sn;
      if (slot.next_offset == slot.end_offset &&
          (slot.lost_end == 0 || !session_.recover_data_out(*command, slot))) {
        slot.ttt = reserved_tag;
        --command->r2t_count_;
        if (command->active_ && command->wants_data_) session_.pump_data_out(*command);
      }
      break;
    }
  }
  command->hold.release();
  if (session_.data_waits_ != 0) session_.data_settled();
  return true;
}

// NOP-Out, Task Management, Text and Logout take their place in CmdSN order unless they are immediate.
bool TargetConnection::ordered_pdu(const std::uint8_t* bhs, Bytes data) {
  const bool no_answer_wanted = opcode(bhs) == Opcode::nop_out && initiator_task_tag(bhs) == reserved_tag;
  if (immediate(bhs) || no_answer_wanted) return dispatch(bhs, data);
  const CmdSn sn(load_be32(bhs + 24));
  if (!session_.in_window(sn)) {
    ++session_.stats_.ignored;
    return true;
  }
  if (sn == session_.exp_cmd_sn_) {
    session_.advance(sn);
    session_.adjust_window();
    if (!dispatch(bhs, data)) return false;
    session_.drain_deferred();
    return true;
  }
  if (session_.deferred_bytes_ + bhs_bytes + data.size() > limits::max_deferred_bytes) {
    return drop("too much data waits for an earlier command");
  }
  TargetSession::Deferred deferred;
  deferred.cmd_sn = sn;
  deferred.connection = this;
  deferred.pdu.assign(bhs, bhs + bhs_bytes);
  deferred.pdu.insert(deferred.pdu.end(), data.begin(), data.end());
  (void)session_.defer(std::move(deferred));  // a duplicate changes nothing
  return true;
}

bool TargetConnection::dispatch(const std::uint8_t* bhs, Bytes data) {
  switch (opcode(bhs)) {
    case Opcode::nop_out:
      return nop_out(bhs, data);
    case Opcode::task_management_request:
      return task_management(bhs);
    case Opcode::text_request:
      negotiation_requested_ = false;
      session_.host_.on_text(*this, TextRequest::decode(bhs), data);
      return true;
    case Opcode::logout_request:
      logout(bhs);
      return true;
    default:
      return true;
  }
}

bool TargetConnection::task_management(const std::uint8_t* bhs) {
  const TaskManagementRequest pdu = TaskManagementRequest::decode(bhs);
  auto& list = session_.deferred_;
  const auto waiting = std::count_if(list.begin(), list.end(), [](const auto& d) { return !d.consumes; });
  if (session_.task_management_count_ + static_cast<std::size_t>(waiting) >= limits::max_task_management) {
    send_reject(RejectReason::immediate_command_rejected, bhs);
    return true;
  }
  if (!pdu.immediate || !session_.must_wait(pdu)) {
    session_.start_task_management(*this, pdu);
    return true;
  }
  session_.drop_deferred_of(pdu);
  TargetSession::Deferred deferred;
  deferred.cmd_sn = pdu.cmd_sn;
  deferred.connection = this;
  deferred.pdu.assign(bhs, bhs + bhs_bytes);
  deferred.consumes = false;
  (void)session_.defer(std::move(deferred));
  session_.ask_for_missing();
  return true;
}

// RFC 7143 11.14, 11.15
void TargetConnection::logout(const std::uint8_t* bhs) {
  const LogoutRequest pdu = LogoutRequest::decode(bhs);
  const auto& pending = session_.logouts_;
  if (std::any_of(pending.begin(), pending.end(), [&](const auto& l) { return l.issuer == this; })) {
    send_reject(RejectReason::waiting_for_logout, bhs);
    return;
  }
  const auto& all = session_.connections_;
  const bool known = session_.find_lost(pdu.cid) != nullptr ||
                     std::any_of(all.begin(), all.end(), [&](const auto* c) { return c->cid_ == pdu.cid; });
  const bool recovery = pdu.reason == LogoutReason::remove_connection_for_recovery;
  const bool closes = pdu.reason == LogoutReason::close_connection || (recovery && session_.recovers());
  if (pdu.reason == LogoutReason::close_session || (closes && known)) {
    session_.heard_of_logout(*this, pdu);
    session_.begin_logout(*this, pdu);
    return;
  }
  LogoutResponse response;
  response.response = recovery && !session_.recovers() ? LogoutResponseCode::connection_recovery_not_supported
                                                       : LogoutResponseCode::cid_not_found;
  response.initiator_task_tag = pdu.initiator_task_tag;
  send_status(response);
}

bool TargetConnection::nop_out(const std::uint8_t* bhs, Bytes data) {
  const NopOut pdu = NopOut::decode(bhs);
  if (pdu.target_transfer_tag != reserved_tag) {
    if (pdu.target_transfer_tag == ping_ttt_) {
      ping_ttt_ = reserved_tag;
      session_.host_.on_ping_answered(*this);
      if (pings_to_answer_ != 0 && --pings_to_answer_ == 0) session_.heard_from(*this);
      if (pings_to_answer_ != 0 || session_.waits_for_acknowledgement(*this)) send_ping();
    }
    return true;  // an answer to a ping that is no longer waited for is harmless
  }
  if (pdu.initiator_task_tag == reserved_tag) return true;  // it only carries ExpStatSN
  NopIn answer;
  answer.lun = 0;
  answer.initiator_task_tag = pdu.initiator_task_tag;
  // The echo is cut to what the initiator takes (RFC 7143 11.18).
  send_status(answer, data.first(std::min<std::size_t>(data.size(), params_.max_xmit_data_segment_length)));
  return true;
}

void TargetConnection::ask_what_is_under_way() {
  pings_to_answer_ = ping_outstanding() ? 2 : 1;  // the answer to one that was sent before says nothing
  send_ping();
}

void TargetConnection::send_ping() {
  if (ping_outstanding() || draining_) return;
  if (next_ping_ttt_ == reserved_tag) next_ping_ttt_ = 1;
  ping_ttt_ = next_ping_ttt_++;
  NopIn ping;
  ping.target_transfer_tag = ping_ttt_;
  ping.stat_sn = stat_sn_;  // the next one, not consumed
  number(ping);
  send(ping);
}

void TargetConnection::send_async(AsyncEvent event, std::uint16_t parameter1, std::uint16_t parameter2,
                                  std::uint16_t parameter3, Lun lun) {
  AsyncMessage message;
  message.async_event = event;
  message.lun = lun;
  message.parameter1 = parameter1;
  message.parameter2 = parameter2;
  message.parameter3 = parameter3;
  send_status(message);
}

void TargetConnection::request_logout(std::uint16_t within_s) {
  if (draining_ || logging_out_) return;
  logout_requested_ = true;
  send_async(AsyncEvent::logout_requested, 0, 0, within_s);
}

void TargetConnection::request_negotiation(std::uint16_t within_s) {
  if (draining_ || logging_out_) return;
  negotiation_requested_ = true;
  send_async(AsyncEvent::negotiation_requested, 0, 0, within_s);
}

void TargetConnection::announce_drop(std::string_view reason) {
  if (draining_) return;
  logout_requested_ = negotiation_requested_ = false;
  const auto& params = session_.params_;
  const std::uint16_t time2retain = session_.recovers() ? params.default_time2retain : std::uint16_t{0};
  send_async(AsyncEvent::connection_dropped, cid_, params.default_time2wait, time2retain);
  drop_reason_ = reason;
  draining_ = true;
}

void TargetConnection::send_text_response(TextResponse response, Bytes data) {
  send_status(response, data);
}

void TargetConnection::send_reject(RejectReason reason, const std::uint8_t* rejected_bhs,
                                   DataSn next_data_sn) {
  ++session_.stats_.rejects;
  RejectPdu reject;
  reject.reason = reason;
  reject.data_sn = next_data_sn;
  send_status(reject, {rejected_bhs, bhs_bytes});
}

}  // namespace perilune::iscsi
