// SPDX-License-Identifier: Apache-2.0
// One SCSI command as the target's session engine sees it: its header, its data-out plan, its place in the
// session. The host derives its own command object from it (with the SCSI task and the memory) and keeps them
// in a slab.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "base/intrusive_list.hpp"
#include "base/limits.hpp"
#include "iscsi/pdu/pdus.hpp"
#include "iscsi/pdu/tx_queue.hpp"

namespace perilune::iscsi {

class TargetConnection;
class TargetSession;
struct LostConnection;
struct RetainedStatus;

class TargetCommand : public ListNode<TargetCommand> {
 public:
  TargetCommand() noexcept : hold(Delegate<void()>::to<&TargetCommand::on_unreferenced>(*this)) {}

  // The request.
  ScsiCommand pdu;
  TargetSession* session = nullptr;
  TargetConnection* connection = nullptr;  // its allegiance; nullptr when that connection is gone

  // Of a bidirectional command (R and W, RFC 7143 11.2.2.4): what the initiator reads at most. The host
  // serves none.
  std::optional<std::uint32_t> bidirectional_read_length;
  // Of the answer, set by the host before complete(); sent from iSCSIProtocolLevel 2 on (SAM-5 5.3.2).
  std::uint16_t status_qualifier = 0;
  // Likewise: the answer tells of an abort of many tasks, so it keeps its place among the answers of all
  // connections (Response Fence, RFC 7143 4.2.2.3.4).
  bool fenced = false;
  // Set by the host with begin_data_out() when that memory is where the data stays (the unit's own), not a
  // buffer on the way.
  bool data_is_final = false;
  // Likewise: the data is here yet, in memory that may change; it is copied to where complete() says as it is
  // queued.
  const std::uint8_t* data_in_source = nullptr;
  // Likewise, with a data digest: it changes by this thread alone, so that a send can take it from there.
  bool data_in_source_is_private = false;

  // Keeps the object and its memory alive while the session, the decoder or the transmit queue refers to it.
  TxHold hold;

  [[nodiscard]] bool aborted() const noexcept { return aborted_; }
  // The memory that was provided so far; empty when none.
  [[nodiscard]] std::span<const iovec> data() const noexcept { return data_; }
  // Data came or will come unasked: with the command, or before the F bit of its first burst.
  [[nodiscard]] bool expects_unsolicited() const noexcept {
    return unsolicited_open_ || pdu.data_segment_length != 0;
  }
  // Recovery level 2: its connection was lost; it waits to be reassigned to another.
  [[nodiscard]] bool suspended() const noexcept { return lost_ != nullptr; }
  // It is over, but a Response Fence holds its answer back.
  [[nodiscard]] bool answer_held() const noexcept { return held_; }
  // Above recovery level 0: its data is kept, for the initiator may ask for it again.
  [[nodiscard]] bool data_retained() const noexcept { return retained_ != nullptr; }
  // Data came before there was memory for it.
  [[nodiscard]] bool data_was_discarded() const noexcept {
    return unsolicited_received_ != 0 && data_.empty();
  }

 private:
  friend class TargetSession;
  friend class TargetConnection;
  void on_unreferenced();

  struct ReadyToTransferSlot {
    Ttt ttt = reserved_tag;
    std::uint32_t next_offset = 0;
    std::uint32_t end_offset = 0;
    DataSn next_data_sn;
    // Above recovery level 0: what was asked for, and what of it came damaged.
    DataSn r2t_sn;
    std::uint32_t begin_offset = 0;
    std::uint32_t lost_begin = 0, lost_end = 0;
  };
  struct Outcome {
    std::uint8_t status = 0;
    Bytes sense;
    std::span<const iovec> data_in;
    std::uint32_t data_in_bytes = 0;
    std::uint64_t wanted = 0;
  };

  std::span<const iovec> data_;
  std::uint32_t unsolicited_received_ = 0;  // the next unsolicited byte's offset
  DataSn unsolicited_data_sn_;
  std::uint32_t transfer_ = 0;              // bytes of data-out that the host wants, at most EDTL
  std::uint32_t next_r2t_offset_ = 0;
  std::uint32_t data_in_count_ = 0;         // Data-In and R2T PDUs sent: ExpDataSN
  std::uint8_t r2t_count_ = 0;
  std::array<ReadyToTransferSlot, limits::max_outstanding_r2t> r2t_{};
  // Above recovery level 0: the Data-In that may be asked for again, from which byte and number on and how it
  // was cut; unsolicited data that came damaged.
  std::span<const iovec> data_in_;
  std::uint32_t data_in_bytes_ = 0;
  std::uint32_t data_in_begin_ = 0;
  std::uint32_t data_in_first_sn_ = 0;
  std::uint32_t data_in_segment_ = 0;
  RetainedStatus* retained_ = nullptr;
  LostConnection* lost_ = nullptr;
  std::uint32_t unsolicited_lost_begin_ = 0, unsolicited_lost_end_ = 0;
  std::uint8_t recoveries_ = 0;
  Outcome outcome_;
  bool delivered_ = false;         // on_command() was called
  bool wants_data_ = false;        // begin_data_out() was called and on_data_out() not yet
  bool unsolicited_open_ = false;  // the F bit of the unsolicited burst has not come yet
  bool digest_failed_ = false;
  bool outcome_waits_ = false;     // completed, but the peer still sends unsolicited data
  bool held_ = false;              // completed, but a fence holds the answer back
  bool ending_ = false;            // an abort of many tasks will take it: it asks for no more data
  bool announced_ = false;         // its connection has been told so (FastAbort), or need not be
  bool aborted_ = false;
  bool orphan_ = false;            // aborted because its connection is gone
  bool abort_waits_ = false;       // until nothing is received into its memory
  bool active_ = false;            // in the session's table
  bool counted_ = false;           // holds a slot of the command window
};

}  // namespace perilune::iscsi
