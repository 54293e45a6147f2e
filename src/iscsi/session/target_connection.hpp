// SPDX-License-Identifier: Apache-2.0
// One connection of a target session in full-feature phase: decoder, transmit queue, StatSN (RFC
// 7143 4.2.2.2). Pure.
//
// The driver feeds received bytes (or receives large payloads directly), sends what tx() gathers, and closes
// the connection when feed() says so or when draining() and tx() is empty.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string_view>
#include <vector>

#include "iscsi/pdu/decoder.hpp"
#include "iscsi/session/retained.hpp"
#include "iscsi/session/target_session.hpp"

namespace perilune::iscsi {

class TargetConnection {
 public:
  // `stat_sn`: the StatSN of the next status-bearing PDU (after the last Login Response).
  TargetConnection(TargetSession& session, const ConnectionParams& params, std::uint16_t cid, StatSn stat_sn,
                   TxChunkPool& chunks);
  // Precondition: no send is in progress and no direct receive is outstanding.
  ~TargetConnection();
  TargetConnection(const TargetConnection&) = delete;
  TargetConnection& operator=(const TargetConnection&) = delete;

  // Handles every PDU in `input`. False: the connection must be dropped; drop_reason() says why.
  [[nodiscard]] bool feed(Bytes input);
  [[nodiscard]] std::string_view drop_reason() const noexcept { return drop_reason_; }

  // Direct receiving (see PduDecoder): bytes missing, where they go, that they came.
  [[nodiscard]] std::uint32_t missing_bytes() const noexcept { return decoder_.missing_bytes(); }
  [[nodiscard]] std::uint32_t data_length() const noexcept {
    return decoder_.data_length();
  }  // of the data segment under way
  [[nodiscard]] std::size_t direct(std::span<iovec> out) const noexcept { return decoder_.direct(out); }
  [[nodiscard]] bool commit_direct(std::uint32_t bytes) {
    decoder_.commit_direct(bytes);
    return feed({});
  }

  [[nodiscard]] TxQueue& tx() noexcept { return tx_; }
  [[nodiscard]] TargetSession& session() noexcept { return session_; }
  [[nodiscard]] std::uint16_t cid() const noexcept { return cid_; }
  [[nodiscard]] const ConnectionParams& params() const noexcept { return params_; }
  [[nodiscard]] bool draining() const noexcept {
    return draining_;
  }  // close once everything is sent; drop_reason()

  // Asks for an answer (RFC 7143 11.19). At most one ping is outstanding.
  void send_ping();
  [[nodiscard]] bool ping_outstanding() const noexcept { return ping_ttt_ != reserved_tag; }
  void send_async(AsyncEvent event, std::uint16_t parameter1, std::uint16_t parameter2,
                  std::uint16_t parameter3, Lun lun = 0);
  // --- what the target asks of the initiator (RFC 7143 11.9.1); the host keeps the time ---
  // Event 1: a Logout of this connection, or of its session, within so many seconds. Everything is served
  // until it comes.
  void request_logout(std::uint16_t within_s);
  [[nodiscard]] bool logout_requested() const noexcept { return logout_requested_; }  // and has not come
  // Event 4: a Text Request (or a Logout) on this connection within so many seconds. May be sent again as
  // long as none has come.
  void request_negotiation(std::uint16_t within_s);
  [[nodiscard]] bool negotiation_requested() const noexcept { return negotiation_requested_; }
  // Event 2: tells that this connection is dropped, and when and for how long its tasks may be taken up
  // again. Nothing more is served; draining().
  void announce_drop(std::string_view reason);
  void send_text_response(TextResponse response, Bytes data);
  void send_reject(RejectReason reason, const std::uint8_t* rejected_bhs, DataSn next_data_sn = DataSn(0));
  // The initiator declared another MaxRecvDataSegmentLength (RFC 7143 13.12); what is queued stays as it is
  // cut.
  void set_max_xmit_data_segment_length(std::uint32_t bytes) noexcept {
    params_.max_xmit_data_segment_length = bytes;
  }

  void* host_state = nullptr;  // the driver's

 private:
  friend class TargetSession;

  bool on_header();
  bool on_pdu();
  void refuse_scsi();
  // --- the fast path (target_at_once.cpp) ---
  // True: the command at the front of `input`, which may_be_fast(), has been served, and is consumed. False:
  // nothing has happened.
  [[nodiscard]] bool answer_at_once(Bytes& input);
  // The header of a SCSI Command that is not immediate, whole: nothing else is looked at twice.
  [[nodiscard]] static bool may_be_fast(Bytes input) noexcept {
    return input.size() >= bhs_bytes && input[0] == static_cast<std::uint8_t>(Opcode::scsi_command);
  }
  [[nodiscard]] bool may_come_whole(std::uint32_t bytes) const noexcept;  // the data of a write, with its
                                                                          // command
  [[nodiscard]] bool may_go_whole(std::uint32_t bytes) const noexcept;    // that of a read, in one PDU
  [[nodiscard]] bool may_be_copied(std::uint32_t bytes) const noexcept;   // beside its header
  [[nodiscard]] std::uint8_t* read_into_place(const WholeTransfer& transfer);
  bool command_header();
  bool command_pdu();
  bool data_out_header();
  bool data_out_pdu();
  void discard_damaged();
  bool ordered_pdu(const std::uint8_t* bhs, Bytes data);  // NOP-Out, TMF, Text, Logout in CmdSN order
  bool dispatch(const std::uint8_t* bhs, Bytes data);
  void refuse_command(const ScsiCommand& pdu, RejectReason reason);
  bool task_management(const std::uint8_t* bhs);
  void logout(const std::uint8_t* bhs);
  void acknowledge(StatSn exp_stat_sn);

  // --- recovery level 1 (target_recovery.cpp) ---
  using Refusal = std::optional<RejectReason>;
  void retain(const std::uint8_t* bhs, Bytes data, TargetCommand* command);
  void keep_data(RetainedStatus& status, TargetCommand& command);
  void forget(std::size_t count);
  void resend(RetainedStatus& retained);
  void snack(const std::uint8_t* bhs);
  [[nodiscard]] Refusal status_snack(const SnackRequest& pdu);
  [[nodiscard]] Refusal data_snack(const SnackRequest& pdu);
  [[nodiscard]] Refusal r_data_snack(const SnackRequest& pdu);
  [[nodiscard]] Refusal r2t_snack(const SnackRequest& pdu, TargetCommand& command);
  [[nodiscard]] RetainedStatus* retained_answer_of(Itt itt);
  [[nodiscard]] DataSn next_data_sn(Itt itt);
  RetainedStatus& adopt(RetainedStatus&& answer);  // one of a lost connection, with a number of ours
  bool nop_out(const std::uint8_t* bhs, Bytes data);
  bool drop(std::string_view reason) {
    drop_reason_ = reason;
    return false;
  }
  void nothing_to_release() noexcept {}
  void ask_what_is_under_way();  // session_.heard_from() follows when all that was sent before is here
  TargetCommand* end_receiving();  // the command whose data PDU is complete, unless it was aborted meanwhile

  // Fills the numbers that every target PDU carries.
  template <class Pdu>
  void number(Pdu& pdu) noexcept {
    pdu.exp_cmd_sn = session_.exp_cmd_sn_;
    pdu.max_cmd_sn = session_.max_cmd_sn_;
  }
  [[nodiscard]] StatSn take_stat_sn() noexcept {
    const StatSn sn = stat_sn_;
    ++stat_sn_;
    return sn;
  }
  // A PDU that takes a StatSN. Above recovery level 0 it is kept until the initiator acknowledges it, with
  // the command whose Data-In belongs to it.
  template <class Pdu>
  void send_status(Pdu& pdu, Bytes data = {}, TargetCommand* command = nullptr) {
    pdu.stat_sn = take_stat_sn();
    number(pdu);
    std::uint8_t* const bhs = tx_.header_place();
    pdu.encode(bhs);
    tx_.push(bhs, data);
    session_.host_.on_output(*this);
    if (session_.retains()) retain(bhs, data, command);
  }
  template <class Pdu>
  void send(const Pdu& pdu, Bytes data = {}) {
    std::uint8_t* const bhs = tx_.header_place();
    pdu.encode(bhs);
    tx_.push(bhs, data);
    session_.host_.on_output(*this);
  }

  TargetSession& session_;
  ConnectionParams params_;
  std::uint16_t cid_;
  StatSn stat_sn_;
  StatSn acknowledged_;     // the initiator has every status before this; kept where connections can wait for
                            // each other
  StatSn keeps_data_from_;  // no read's data is kept before acknowledged_ has reached it: it was too much
  PduDecoder decoder_;
  TxQueue tx_;
  // of memory that is the host's, and stays
  TxHold lent_{Delegate<void()>::to<&TargetConnection::nothing_to_release>(*this)};
  TargetCommand* receiving_ = nullptr;  // the command whose data the decoder is delivering
  bool receiving_new_ = false;          // it is a command PDU whose CmdSN is not consumed yet
  bool ignore_pdu_ = false;
  bool draining_ = false;
  bool logging_out_ = false;  // a logout that ends this connection waits for tasks to end
  bool logout_requested_ = false;
  bool negotiation_requested_ = false;
  TargetSession::Fate fate_ = TargetSession::Fate::lost;
  Ttt ping_ttt_ = reserved_tag;
  Ttt next_ping_ttt_ = 1;
  std::uint8_t pings_to_answer_ = 0;  // until session_.heard_from()
  std::deque<RetainedStatus> retained_;  // consecutive StatSNs from acknowledged_ on
  std::uint64_t retained_bytes_ = 0;     // without the data of reads, whose memory the host counts
  std::string_view drop_reason_;
};

// Data-In PDUs of the bytes from `begin` to `end`, none longer than `segment_max` (the initiator's
// MaxRecvDataSegmentLength), in sequences no longer than MaxBurstLength (RFC 7143 11.7): visit(offset, bytes,
// F bit) for each.
template <class Visit>
void TargetSession::for_each_data_in(std::uint32_t segment_max, std::uint32_t begin, std::uint32_t end,
                                     Visit visit) const {
  std::uint32_t burst_left = params_.max_burst_length - begin % params_.max_burst_length;
  for (std::uint32_t offset = begin; offset < end;) {
    const std::uint32_t segment = std::min({end - offset, segment_max, burst_left});
    burst_left -= segment;
    visit(offset, segment, offset + segment == end || burst_left == 0);
    offset += segment;
    if (burst_left == 0) burst_left = params_.max_burst_length;
  }
}

}  // namespace perilune::iscsi
