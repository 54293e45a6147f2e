// SPDX-License-Identifier: Apache-2.0
// Recovery within a command and within a connection (RFC 7143 7.1.4, 11.16: error recovery level 1), the
// target's side.
//
// A header digest error ends the connection, so what is lost here is data and status on the way to the
// initiator (it asks by SNACK) and Data-Out whose data digest is wrong (we ask by a recovery R2T). Every
// status is kept until ExpStatSN passes it, and a read's data with it, unless the host needs the memory. We
// never set the A bit, so that no DataACK is legal: data and status leave together, and what acknowledges the
// one acknowledges the other.
#include <algorithm>
#include <cstring>

#include "base/assert.hpp"
#include "iscsi/session/target_connection.hpp"

namespace perilune::iscsi {

void TargetConnection::retain(const std::uint8_t* bhs, Bytes data, TargetCommand* command) {
  RetainedStatus& kept = retained_.emplace_back();
  std::memcpy(kept.bhs.data(), bhs, bhs_bytes);
  kept.data.assign(data.begin(), data.end());
  kept.sent = true;
  retained_bytes_ += kept.own_bytes();
  // Every request acknowledges what came before it; one that sends none is asked to.
  if (retained_.size() > limits::max_retained_status / 2 || retained_bytes_ > limits::max_retained_bytes / 2)
    send_ping();
  if (command != nullptr) keep_data(kept, *command);
}

void TargetConnection::keep_data(RetainedStatus& status, TargetCommand& command) {
  status.data_in_count = command.data_in_count_;
  status.data_forgotten = acknowledged_.before(keeps_data_from_);
  if (status.data_forgotten) return;
  status.command = &command;
  command.retained_ = &status;
  command.hold.retain();
  session_.host_.on_data_retained(command);
}

// The first `count` are acknowledged.
void TargetConnection::forget(std::size_t count) {
  for (count = std::min(count, retained_.size()); count > 0; --count) {
    retained_bytes_ -= retained_.front().own_bytes();
    TargetCommand* command = retained_.front().command;
    retained_.pop_front();
    if (command == nullptr) continue;
    command->retained_ = nullptr;
    session_.host_.on_data_forgotten(*command);
    command->hold.release();
  }
}

void TargetSession::forget_data(TargetCommand& command) {
  RetainedStatus* kept = std::exchange(command.retained_, nullptr);
  if (kept == nullptr) return;
  kept->command = nullptr;
  kept->data_forgotten = true;
  if (command.connection != nullptr) command.connection->keeps_data_from_ = command.connection->stat_sn_;
  host_.on_data_forgotten(command);
  command.hold.release();
}

void TargetSession::request_acknowledgements() {
  for (TargetConnection* connection : connections_) {
    if (!connection->retained_.empty()) connection->send_ping();
  }
}

// As it was, but for the command window of today.
void TargetConnection::resend(RetainedStatus& retained) {
  store_be32(retained.bhs.data() + 28, session_.exp_cmd_sn_.value());
  store_be32(retained.bhs.data() + 32, session_.max_cmd_sn_.value());
  tx_.push(retained.bhs.data(), retained.data);
  session_.host_.on_output(*this);
}

void TargetConnection::snack(const std::uint8_t* bhs) {
  const SnackRequest pdu = SnackRequest::decode(bhs);
  ++session_.stats_.snacks;
  if (tx_.queued_bytes() > limits::max_resend_queue_bytes) {
    ++session_.stats_.ignored;  // it will ask again when it has read what is there
    return;
  }
  Refusal refusal = RejectReason::protocol_error;
  switch (pdu.type) {
    case SnackType::status: refusal = status_snack(pdu); break;
    case SnackType::data_or_r2t: refusal = data_snack(pdu); break;
    case SnackType::r_data: refusal = r_data_snack(pdu); break;
    case SnackType::data_ack: refusal = RejectReason::invalid_data_ack; break;
  }
  if (!refusal) return;
  // RFC 7143 11.17.2: which number would come next, where the run was wrong.
  const bool tells = pdu.type == SnackType::data_or_r2t && *refusal == RejectReason::protocol_error;
  send_reject(*refusal, bhs, tells ? next_data_sn(pdu.initiator_task_tag) : DataSn(0));
}

DataSn TargetConnection::next_data_sn(Itt itt) {
  const TargetCommand* command = session_.by_itt_.find(itt);
  if (command != nullptr && command->connection == this) return DataSn(command->data_in_count_);
  const RetainedStatus* answer = retained_answer_of(itt);
  return DataSn(answer != nullptr ? answer->data_in_count : 0);
}

// RFC 7143 11.16.1: what was acknowledged, or never sent, cannot be asked for.
TargetConnection::Refusal TargetConnection::status_snack(const SnackRequest& pdu) {
  if (pdu.beg_run == 0 && pdu.run_length == 0) {
    for (RetainedStatus& retained : retained_) resend(retained);
    return {};
  }
  const std::int32_t first = StatSn(pdu.beg_run).ahead_of(acknowledged_);
  const auto size = static_cast<std::int64_t>(retained_.size());
  const std::int64_t end = pdu.run_length == 0 ? size : std::int64_t{first} + pdu.run_length;
  if (first < 0 || first >= size || end > size) return RejectReason::protocol_error;
  for (std::int64_t i = first; i < end; ++i) resend(retained_[static_cast<std::size_t>(i)]);
  return {};
}

// The latest: a tag is free for another command once the initiator has its answer.
RetainedStatus* TargetConnection::retained_answer_of(Itt itt) {
  const auto found = std::find_if(
      retained_.rbegin(), retained_.rend(),
      [itt](const RetainedStatus& retained) { return retained.answers_command() && retained.itt() == itt; });
  return found == retained_.rend() ? nullptr : &*found;
}

TargetConnection::Refusal TargetConnection::data_snack(const SnackRequest& pdu) {
  if (TargetCommand* command = session_.by_itt_.find(pdu.initiator_task_tag)) return r2t_snack(pdu, *command);
  RetainedStatus* answer = retained_answer_of(pdu.initiator_task_tag);
  if (answer == nullptr) return RejectReason::protocol_error;
  const bool everything = pdu.beg_run == 0 && pdu.run_length == 0;
  const std::uint64_t begin = pdu.beg_run;
  const std::uint64_t end = pdu.run_length == 0 ? answer->data_in_count : begin + pdu.run_length;
  if (end > answer->data_in_count || (begin >= end && !everything)) return RejectReason::protocol_error;
  // RFC 7143 11.17.1: a status was sent before, so that the Reject alone tells that the data cannot be had
  // again.
  if (answer->data_forgotten) return RejectReason::snack_reject;
  if (answer->command == nullptr) return {};  // there was none
  TargetCommand& command = *answer->command;
  if (begin < command.data_in_first_sn_ && !everything) return RejectReason::protocol_error;
  // RFC 7143 11.16.3: where the initiator takes less than before, it has to ask by R-Data SNACK.
  if (command.data_in_segment_ > params_.max_xmit_data_segment_length) return RejectReason::protocol_error;
  session_.resend_data_in(*this, command, begin, end);
  return {};
}

// R2Ts that were answered, if only in part, have arrived.
TargetConnection::Refusal TargetConnection::r2t_snack(const SnackRequest& pdu, TargetCommand& command) {
  if (command.connection != this) return RejectReason::protocol_error;
  const std::uint64_t begin = pdu.beg_run;
  const std::uint64_t end = pdu.run_length == 0 ? command.data_in_count_ : begin + pdu.run_length;
  const bool everything = pdu.beg_run == 0 && pdu.run_length == 0;
  if (end > command.data_in_count_ || (begin >= end && !everything)) return RejectReason::protocol_error;
  for (const auto& slot : command.r2t_) {
    const bool open = slot.ttt != reserved_tag && slot.next_offset != slot.end_offset;
    if (open && slot.next_data_sn == DataSn(0) && slot.r2t_sn.value() >= begin && slot.r2t_sn.value() < end) {
      session_.encode_r2t(command, slot);
    }
  }
  return {};
}

// RFC 7143 11.16.2, 11.16.4: all data anew (nothing is ever acknowledged by DataACK), cut for what the
// initiator takes now, and the same status with the SNACK Tag in it.
TargetConnection::Refusal TargetConnection::r_data_snack(const SnackRequest& pdu) {
  RetainedStatus* answer = retained_answer_of(pdu.initiator_task_tag);
  if (answer == nullptr || session_.by_itt_.find(pdu.initiator_task_tag) != nullptr)
    return RejectReason::protocol_error;
  if (pdu.beg_run != 0 || pdu.run_length != 0) return RejectReason::protocol_error;
  const std::uint32_t tag = pdu.target_transfer_or_snack_tag;
  if (tag == reserved_tag || tag == 0) return RejectReason::protocol_error;
  if (answer->data_forgotten) return RejectReason::snack_reject;
  if (answer->command == nullptr) return RejectReason::protocol_error;
  TargetCommand& command = *answer->command;
  command.data_in_segment_ = params_.max_xmit_data_segment_length;
  command.data_in_count_ = command.data_in_first_sn_;
  session_.for_each_data_in(command.data_in_segment_, command.data_in_begin_, command.data_in_bytes_,
                            [&](auto, auto, bool) { ++command.data_in_count_; });
  answer->data_in_count = command.data_in_count_;
  session_.resend_data_in(*this, command, command.data_in_first_sn_, command.data_in_count_);
  store_be32(answer->bhs.data() + 20, tag);
  store_be32(answer->bhs.data() + 36, command.data_in_count_);
  resend(*answer);
  return {};
}

void TargetSession::resend_data_in(TargetConnection& connection, TargetCommand& command, std::uint64_t begin,
                                   std::uint64_t end) {
  std::uint32_t sn = command.data_in_first_sn_;
  for_each_data_in(command.data_in_segment_, command.data_in_begin_, command.data_in_bytes_,
                   [&](std::uint32_t offset, std::uint32_t segment, bool final) {
    const std::uint32_t this_sn = sn++;
    if (this_sn < begin || this_sn >= end) return;
    DataIn pdu;
    pdu.final = final;
    pdu.initiator_task_tag = command.pdu.initiator_task_tag;
    pdu.lun = 0;
    pdu.data_sn = DataSn(this_sn);
    pdu.buffer_offset = offset;
    connection.number(pdu);
    std::uint8_t bhs[bhs_bytes];
    pdu.encode(bhs);
    connection.tx_.push(bhs, command.data_in_, offset, segment, &command.hold);
    ++stats_.data_in_pdus;
  });
  host_.on_output(connection);
}

// The burst is complete but for what came damaged: asked for again at once (RFC 7143 7.1.4.1), in the place
// of the R2T that was answered.
bool TargetSession::recover_data_out(TargetCommand& command, TargetCommand::ReadyToTransferSlot& slot) {
  PERILUNE_ASSERT(slot.lost_begin < slot.lost_end || slot.lost_end == 0);
  if (command.aborted_) return false;
  if (command.recoveries_ >= limits::max_data_recoveries) {
    command.digest_failed_ = true;
    return false;
  }
  ++command.recoveries_;
  ++stats_.recovery_r2ts;
  send_r2t(command, slot, slot.lost_begin, slot.lost_end);
  return true;
}

void TargetSession::recover_unsolicited(TargetCommand& command) {
  const std::uint32_t end = std::min(command.unsolicited_lost_end_, command.transfer_);
  const std::uint32_t begin = command.unsolicited_lost_begin_;
  command.unsolicited_lost_end_ = 0;
  if (begin >= end) return;
  PERILUNE_ASSERT(command.r2t_count_ == 0);
  ++command.recoveries_;
  ++stats_.recovery_r2ts;
  ++command.r2t_count_;
  send_r2t(command, command.r2t_.front(), begin, end);
}

}  // namespace perilune::iscsi
