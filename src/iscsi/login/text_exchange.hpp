// SPDX-License-Identifier: Apache-2.0
// Text Requests and Responses in full-feature phase (RFC 7143 11.10, 11.11): SendTargets (appendix C) for
// both roles, with C-bit continuation, F bit and Target Transfer Tags. Pure; one object per connection; one
// thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "iscsi/login/login_pdu.hpp"
#include "iscsi/params/params.hpp"
#include "iscsi/text/text.hpp"

namespace perilune::iscsi {

struct SendTargetsRecord {
  std::string target_name;
  std::vector<std::string> target_addresses;  // "host[:port],tag", IPv6 in brackets
};

// The target's side. One exchange at a time per connection; a new one (TTT reserved) drops what was left of
// the old.
//
//   switch (text.receive(TextRequest::decode(bhs), data)) {
//     case Step::ask_targets: step = text.answer_targets(list(text.send_targets()));  …
//     case Step::respond:     fill StatSN, ExpCmdSN, MaxCmdSN into text.response(), send it with text.data()
//     case Step::reject:      Reject with text.reject_reason()
//   }
class TargetText {
 public:
  enum class Step : std::uint8_t { respond, ask_targets, reject };

  // max_xmit: ConnectionParams::max_xmit_data_segment_length. target_transfer_tag: any value but
  // reserved_tag.
  TargetText(SessionType session_type, std::uint32_t max_xmit_data_segment_length, Ttt target_transfer_tag);

  [[nodiscard]] Step receive(const TextRequest& request, Bytes data);
  // What was asked: "All" (only valid in a discovery session; refused otherwise), a target name, or empty
  // (this session's target). Names are in normal form.
  [[nodiscard]] std::string_view send_targets() const noexcept { return asked_; }
  // The targets the initiator may see (possibly none). At most what limits allow is the caller's business
  // here: the text is ours.
  [[nodiscard]] Step answer_targets(const std::vector<SendTargetsRecord>& targets);

  // A new MaxRecvDataSegmentLength that the initiator declared in the exchange.
  [[nodiscard]] std::optional<std::uint32_t> declared_max_xmit() const noexcept { return declared_max_xmit_; }

  // F, C, ITT, TTT, LUN and DataSegmentLength are set; the numbers are the caller's.
  [[nodiscard]] const TextResponse& response() const noexcept { return response_; }
  [[nodiscard]] Bytes data() const noexcept { return as_bytes(chunk_); }
  [[nodiscard]] RejectReason reject_reason() const noexcept { return reject_reason_; }

 private:
  Step reject(RejectReason reason);
  Step answer_keys(const std::vector<KeyValue>& keys);
  Step next_chunk();
  void reset();

  SessionType session_type_;
  std::uint32_t max_xmit_;
  Ttt ttt_;
  bool open_ = false;  // the initiator may continue with our tag
  Itt itt_ = 0;
  TextJoiner joiner_;
  TextSplitter out_;
  std::string asked_;
  std::string reply_before_targets_;
  TextRequest request_;
  TextResponse response_;
  std::string chunk_;
  std::optional<std::uint32_t> declared_max_xmit_;
  RejectReason reject_reason_ = RejectReason::protocol_error;
};

// The initiator's side: asks SendTargets and collects the whole answer.
//
//   InitiatorText text("All", itt, max_answer_bytes);
//   fill CmdSN, ExpStatSN into text.request() (a TextRequest), send it with text.data()
//   switch (text.receive(TextResponse::decode(bhs), data)) { send again | complete: text.answer() | failed:
//   text.error() }
class InitiatorText {
 public:
  enum class Step : std::uint8_t { send, complete, failed };

  InitiatorText(std::string_view send_targets_value, Itt initiator_task_tag, std::size_t max_answer_bytes);

  [[nodiscard]] Step receive(const TextResponse& response, Bytes data);
  [[nodiscard]] const TextRequest& request() const noexcept { return request_; }
  [[nodiscard]] Bytes data() const noexcept { return as_bytes(text_); }
  [[nodiscard]] Bytes answer() const noexcept { return joiner_.text(); }  // key=value pairs, NUL separated
  [[nodiscard]] const Error& error() const noexcept { return error_; }

 private:
  TextRequest request_;
  std::string text_;
  TextJoiner joiner_;
  Error error_;
};

// A TargetAddress taken apart (RFC 7143 13.8).
struct TargetAddress {
  std::string host;  // a DNS name, IPv4, or IPv6 without its brackets (a zone index stays)
  std::uint16_t port = 3260;
  std::optional<std::uint16_t> target_portal_group_tag;
};
[[nodiscard]] Result<TargetAddress> parse_target_address(std::string_view value);

struct DiscoveredTargetRecord {
  std::string target_name;               // normal form
  std::vector<TargetAddress> addresses;  // empty: the address that was asked
};

// The keys of a SendTargets answer. Errc::protocol for anything but TargetName/TargetAddress pairs in their
// order, a bad name or a bad address; Errc::limit for more than max_targets or more than max_addresses for
// one target. Unknown keys are passed over.
[[nodiscard]] Result<std::vector<DiscoveredTargetRecord>> parse_send_targets_answer(
    Bytes text, std::size_t max_targets, std::size_t max_addresses);

}  // namespace perilune::iscsi
