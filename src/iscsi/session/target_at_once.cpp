// SPDX-License-Identifier: Apache-2.0
// TargetConnection::answer_at_once: the fast path of a READ or WRITE that is all there and can be answered
// this moment (a disk in memory or in the page cache, commands in order, one PDU each way): nearly every
// command of a busy session. No command object is made. It serves only what every rule of the slow path lets
// pass, and takes nothing before that is certain, so that whatever it declines takes the slow path from its
// first byte. How the bytes were cut into receives must never show: target_at_once_test.cpp compares.
#include "base/copy.hpp"
#include "crypto/crc32c.hpp"
#include "iscsi/session/target_connection.hpp"

namespace perilune::iscsi {
namespace {

// Byte 1 of a SCSI Command (RFC 7143 11.3.1) but for the lowest bit, which tells untagged from simple.
constexpr std::uint8_t final_read = 0xc0;
constexpr std::uint8_t final_write = 0xa0;

// What is copied into the transmit queue: a read with a data digest, so that it cannot change under its
// digest, and one of a disk that lends no memory.
constexpr std::uint64_t max_copies_waiting_bytes = 1048576;

}  // namespace

bool TargetSession::answers_at_once(const TargetConnection& connection) const noexcept {
  return deferred_.empty() && lost_.empty() && !retains() && serves_scsi_ && !shutting_down_ &&
         !must_hold(false, &connection);
}

bool TargetConnection::answer_at_once(Bytes& input) {
  const std::uint8_t* const bhs = input.data();
  const auto kind = static_cast<std::uint8_t>(bhs[1] & 0xfe);
  if (bhs[4] != 0 || (kind != final_read && kind != final_write) || draining_ || logging_out_) return false;
  const bool writes = kind == final_write;
  const std::uint32_t length = data_segment_length(bhs);
  const std::uint32_t bytes = load_be32(bhs + 20);
  if (bytes == 0 || length != (writes ? bytes : 0)) return false;
  if (session_.params_.max_connections > 1) acknowledge(StatSn(load_be32(bhs + 28)));
  const CmdSn cmd_sn(load_be32(bhs + 24));
  const Itt itt = initiator_task_tag(bhs);
  if (!session_.answers_at_once(*this) || cmd_sn != session_.exp_cmd_sn_ ||
      cmd_sn.after(session_.max_cmd_sn_))
    return false;
  if (itt == reserved_tag || session_.by_itt_.find(itt) != nullptr) return false;

  if (writes ? !may_come_whole(bytes) : !may_go_whole(bytes)) return false;
  const std::size_t header = bhs_bytes + (params_.header_digest ? digest_bytes : 0);
  const std::size_t covered = pad4(length);
  const std::size_t size = header + covered + (params_.data_digest && length != 0 ? digest_bytes : 0);
  if (input.size() < size) return false;
  if (params_.header_digest && crypto::crc32c_bhs(bhs) != crypto::load_digest(bhs + bhs_bytes)) return false;
  const std::uint8_t* const data = bhs + header;
  if (params_.data_digest && length != 0 &&
      crypto::crc32c(crypto::crc32c_start, {data, covered}) != crypto::load_digest(data + covered)) {
    return false;
  }
  if (writes) tx_.copy_pending();  // what has been read is from before it
  const WholeTransfer transfer{load_be64(bhs + 8), bhs + 32, data, bytes, writes};
  const AtOnce at_once = session_.host_.transfer_at_once(session_, transfer);
  std::uint8_t* placed = nullptr;
  if (at_once.outcome != AtOnce::Outcome::lent) {
    if (at_once.outcome == AtOnce::Outcome::declined) return false;
    if (!writes && (placed = read_into_place(transfer)) == nullptr) return false;
  }

  input = input.subspan(size);
  session_.take_at_once(*this, cmd_sn, StatSn(load_be32(bhs + 28)));
  if (writes) {
    if (at_once.memory != nullptr) copy_past_caches(at_once.memory, data, bytes);
    session_.stats_.bytes_written += bytes;
    ScsiResponse response;
    response.initiator_task_tag = itt;
    send_status(response);
    return true;
  }
  DataIn pdu;
  pdu.final = pdu.has_status = true;
  pdu.initiator_task_tag = itt;
  pdu.stat_sn = take_stat_sn();
  number(pdu);
  std::uint8_t* const answer = placed != nullptr ? placed : tx_.header_place();
  pdu.encode(answer);
  if (placed != nullptr) {
    tx_.push_placed(answer, bytes);
  } else if (params_.data_digest) {
    tx_.push_soon(answer, at_once.memory, bytes);
  } else {
    begin_fetch(at_once.memory);
    const iovec lent{at_once.memory, bytes};
    tx_.push(answer, {&lent, 1}, 0, bytes, &lent_);
  }
  session_.stats_.bytes_read += bytes;
  ++session_.stats_.data_in_pdus;
  session_.host_.on_output(*this);
  return true;
}

// Where the header of its answer belongs; the data is behind it. nullptr: it takes the slow path.
std::uint8_t* TargetConnection::read_into_place(const WholeTransfer& transfer) {
  if (!may_be_copied(transfer.bytes)) return nullptr;
  std::uint8_t* const header = tx_.header_place(transfer.bytes);
  return session_.host_.read_at_once(session_, transfer, tx_.data_place(header)) ? header : nullptr;
}

bool TargetConnection::may_come_whole(std::uint32_t bytes) const noexcept {
  const SessionParams& session = session_.params_;
  return session.immediate_data && bytes <= session.first_burst_length &&
         bytes <= params_.max_recv_data_segment_length;
}

bool TargetConnection::may_go_whole(std::uint32_t bytes) const noexcept {
  if (bytes > params_.max_xmit_data_segment_length || bytes > session_.params_.max_burst_length) return false;
  return !params_.data_digest || may_be_copied(bytes);
}

bool TargetConnection::may_be_copied(std::uint32_t bytes) const noexcept {
  return bytes <= TxQueue::max_placed_bytes && tx_.own_bytes() < max_copies_waiting_bytes;
}

void TargetSession::take_at_once(const TargetConnection& connection, CmdSn cmd_sn, StatSn exp_stat_sn) {
  ++stats_.commands;
  advance(cmd_sn);
  note_use_of_window(connection, exp_stat_sn, slots_used_ + 1);
  adjust_window();
}

}  // namespace perilune::iscsi
