// SPDX-License-Identifier: Apache-2.0
// TargetConnection::answer_at_once: the fast path of a READ or WRITE that is all there and can be answered
// this moment (a disk in memory, commands in order, one PDU each way): nearly every command of a busy
// session. No command object is made. It serves only what every rule of the slow path lets pass, and takes
// nothing before that is certain, so that whatever it declines takes the slow path from its first byte. How
// the bytes were cut into receives must never show: target_at_once_test.cpp compares.
#include "base/copy.hpp"
#include "crypto/crc32c.hpp"
#include "iscsi/session/target_connection.hpp"

namespace perilune::iscsi {
namespace {

// Byte 1 of a SCSI Command (RFC 7143 11.3.1) but for the lowest bit, which tells untagged from simple.
constexpr std::uint8_t final_read = 0xc0;
constexpr std::uint8_t final_write = 0xa0;

// A read with a data digest is copied into the transmit queue, so that it cannot change under its digest.
constexpr std::uint32_t max_copied_bytes = 16384;
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
  const MutableBytes memory =
      session_.host_.transfer_at_once(session_, {load_be64(bhs + 8), bhs + 32, bytes, writes});
  if (memory.empty()) return false;

  input = input.subspan(size);
  session_.take_at_once(*this, cmd_sn, StatSn(load_be32(bhs + 28)));
  if (writes) {
    copy_past_caches(memory.data(), data, bytes);
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
  std::uint8_t* const answer = tx_.header_place();
  pdu.encode(answer);
  const iovec lent{memory.data(), memory.size()};
  tx_.push(answer, {&lent, 1}, 0, bytes, params_.data_digest ? nullptr : &lent_);
  session_.stats_.bytes_read += bytes;
  ++session_.stats_.data_in_pdus;
  session_.host_.on_output(*this);
  return true;
}

bool TargetConnection::may_come_whole(std::uint32_t bytes) const noexcept {
  const SessionParams& session = session_.params_;
  return session.immediate_data && bytes <= session.first_burst_length &&
         bytes <= params_.max_recv_data_segment_length;
}

bool TargetConnection::may_go_whole(std::uint32_t bytes) const noexcept {
  if (bytes > params_.max_xmit_data_segment_length || bytes > session_.params_.max_burst_length) return false;
  return !params_.data_digest || (bytes <= max_copied_bytes && tx_.own_bytes() < max_copies_waiting_bytes);
}

void TargetSession::take_at_once(const TargetConnection& connection, CmdSn cmd_sn, StatSn exp_stat_sn) {
  ++stats_.commands;
  advance(cmd_sn);
  note_use_of_window(connection, exp_stat_sn, slots_used_ + 1);
  adjust_window();
}

}  // namespace perilune::iscsi
