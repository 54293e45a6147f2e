// SPDX-License-Identifier: Apache-2.0
// Recovery within a command and within a connection (RFC 7143 7.1.4, 11.16: error recovery level 1), the target's side.
//
// A header digest error ends the connection, so what is lost here is data and status on the way to the initiator (it asks by
// SNACK) and Data-Out whose data digest is wrong (we ask by a recovery R2T). Every status is kept until ExpStatSN passes it,
// and a read's data with it. We never set the A bit, so that no DataACK is legal.
#include <algorithm>
#include <cstring>

#include "base/assert.hpp"
#include "iscsi/session/target_connection.hpp"

namespace perilune::iscsi {

std::uint64_t TargetConnection::Retained::bytes() const noexcept {
  return bhs_bytes + data.size() + (command != nullptr ? command->data_in_bytes_ : 0);
}

void TargetConnection::retain(const std::uint8_t* bhs, Bytes data, TargetCommand* command) {
  Retained& kept = retained_.emplace_back();
  std::memcpy(kept.bhs.data(), bhs, bhs_bytes);
  kept.data.assign(data.begin(), data.end());
  kept.command = command;
  if (command != nullptr) command->hold.retain();
  retained_bytes_ += kept.bytes();
  // Every request acknowledges what came before it; one that sends none is asked to.
  if (retained_.size() > limits::max_retained_status / 2 || retained_bytes_ > limits::max_retained_bytes / 2) send_ping();
}

// The first `count` are acknowledged.
void TargetConnection::forget(std::size_t count) {
  for (count = std::min(count, retained_.size()); count > 0; --count) {
    retained_bytes_ -= retained_.front().bytes();
    TargetCommand* command = retained_.front().command;
    retained_.pop_front();
    if (command != nullptr) command->hold.release();
  }
}

// As it was, but for the command window of today.
void TargetConnection::resend(Retained& retained) {
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
  bool valid = false;
  switch (pdu.type) {
    case SnackType::status: valid = status_snack(pdu); break;
    case SnackType::data_or_r2t: valid = data_snack(pdu); break;
    case SnackType::r_data: valid = r_data_snack(pdu); break;
    case SnackType::data_ack: send_reject(RejectReason::invalid_data_ack, bhs); return;
  }
  if (!valid) send_reject(RejectReason::protocol_error, bhs);
}

// RFC 7143 11.16.1: what was acknowledged, or never sent, cannot be asked for.
bool TargetConnection::status_snack(const SnackRequest& pdu) {
  if (pdu.beg_run == 0 && pdu.run_length == 0) {
    for (Retained& retained : retained_) resend(retained);
    return true;
  }
  const std::int32_t first = StatSn(pdu.beg_run).ahead_of(acknowledged_);
  const auto size = static_cast<std::int64_t>(retained_.size());
  const std::int64_t end = pdu.run_length == 0 ? size : std::int64_t{first} + pdu.run_length;
  if (first < 0 || first >= size || end > size) return false;
  for (std::int64_t i = first; i < end; ++i) resend(retained_[static_cast<std::size_t>(i)]);
  return true;
}

TargetConnection::Retained* TargetConnection::retained_data_of(Itt itt) {
  const auto found = std::find_if(retained_.rbegin(), retained_.rend(), [itt](const Retained& retained) {
    return retained.command != nullptr && retained.command->pdu.initiator_task_tag == itt;
  });
  return found == retained_.rend() ? nullptr : &*found;
}

bool TargetConnection::data_snack(const SnackRequest& pdu) {
  TargetCommand* command = session_.by_itt_.find(pdu.initiator_task_tag);
  Retained* retained = command == nullptr ? retained_data_of(pdu.initiator_task_tag) : nullptr;
  if (retained != nullptr) command = retained->command;
  if (command == nullptr || command->connection != this) return false;
  const std::uint64_t begin = pdu.beg_run;
  const std::uint64_t end = pdu.run_length == 0 ? command->data_in_count_ : begin + pdu.run_length;
  const bool everything = pdu.beg_run == 0 && pdu.run_length == 0;
  if (end > command->data_in_count_ || (begin >= end && !everything)) return false;
  if (retained != nullptr) {
    session_.resend_data_in(*this, *command, begin, end);
    return true;
  }
  // R2Ts that were answered, if only in part, have arrived.
  for (const auto& slot : command->r2t_) {
    const bool open = slot.ttt != reserved_tag && slot.next_offset != slot.end_offset;
    if (open && slot.next_data_sn == DataSn(0) && slot.r2t_sn.value() >= begin && slot.r2t_sn.value() < end) {
      session_.encode_r2t(*command, slot);
    }
  }
  return true;
}

// RFC 7143 11.16.2, 11.16.4: all data anew (nothing is ever acknowledged by DataACK), cut for what the initiator takes now, and
// the same status with the SNACK Tag in it.
bool TargetConnection::r_data_snack(const SnackRequest& pdu) {
  Retained* retained = retained_data_of(pdu.initiator_task_tag);
  if (retained == nullptr || session_.by_itt_.find(pdu.initiator_task_tag) != nullptr) return false;
  if (pdu.beg_run != 0 || pdu.run_length != 0 || pdu.target_transfer_or_snack_tag == reserved_tag) return false;
  TargetCommand& command = *retained->command;
  command.data_in_count_ = command.data_in_first_sn_;
  session_.for_each_data_in(*this, command.data_in_bytes_, [&](auto, auto, bool) { ++command.data_in_count_; });
  session_.resend_data_in(*this, command, command.data_in_first_sn_, command.data_in_count_);
  store_be32(retained->bhs.data() + 20, pdu.target_transfer_or_snack_tag);
  store_be32(retained->bhs.data() + 36, command.data_in_count_);
  resend(*retained);
  return true;
}

void TargetSession::resend_data_in(TargetConnection& connection, TargetCommand& command, std::uint64_t begin,
                                   std::uint64_t end) {
  std::uint32_t sn = command.data_in_first_sn_;
  for_each_data_in(connection, command.data_in_bytes_, [&](std::uint32_t offset, std::uint32_t segment, bool final) {
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

// The burst is complete but for what came damaged: asked for again at once (RFC 7143 7.1.4.1), in the place of the R2T that was
// answered.
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
