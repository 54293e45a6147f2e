// SPDX-License-Identifier: Apache-2.0
#include "iscsi/login/text_exchange.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "iscsi/names/names.hpp"
#include "iscsi/params/keys.hpp"
#include "iscsi/text/values.hpp"

namespace perilune::iscsi {
namespace {

constexpr std::uint32_t min_data_segment_bytes = 512;
constexpr std::size_t max_host_bytes = 255;

bool is_alnum(char c) noexcept {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_host_character(char c) noexcept { return is_alnum(c) || c == '.' || c == '-' || c == '_'; }
bool is_ipv6_character(char c) noexcept { return is_host_character(c) || c == ':' || c == '%'; }

bool is_decimal(std::string_view text) noexcept {
  return !text.empty() && text.size() <= 5 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

TargetText::TargetText(SessionType session_type, std::uint32_t max_xmit_data_segment_length,
                       Ttt target_transfer_tag)
    : session_type_(session_type), max_xmit_(max_xmit_data_segment_length), ttt_(target_transfer_tag) {
  PERILUNE_ASSERT(max_xmit_ >= min_data_segment_bytes && ttt_ != reserved_tag);
}

void TargetText::reset() {
  open_ = false;
  joiner_.clear();
  out_ = TextSplitter();
  asked_.clear();
  if (declared_max_xmit_) max_xmit_ = *declared_max_xmit_;
  declared_max_xmit_.reset();
}

TargetText::Step TargetText::reject(RejectReason reason) {
  reset();
  reject_reason_ = reason;
  return Step::reject;
}

TargetText::Step TargetText::receive(const TextRequest& request, Bytes data) {
  if (request.final && request.continues) return reject(RejectReason::protocol_error);
  if (request.target_transfer_tag == reserved_tag) {
    reset();
    itt_ = request.initiator_task_tag;
  } else if (!open_ || request.target_transfer_tag != ttt_ || request.initiator_task_tag != itt_) {
    return reject(RejectReason::protocol_error);
  }
  request_ = request;
  if (!out_.done()) {  // the rest of the answer is being fetched
    if (!data.empty() || request.continues) return reject(RejectReason::protocol_error);
    return next_chunk();
  }
  if (!joiner_.add(data)) return reject(RejectReason::long_operation_reject);
  if (request.continues) return next_chunk();
  const auto keys = parse_text(joiner_.text());
  if (!keys) return reject(RejectReason::protocol_error);
  const Step step = answer_keys(*keys);
  joiner_.clear();
  return step;
}

TargetText::Step TargetText::answer_keys(const std::vector<KeyValue>& keys) {
  TextWriter reply;
  bool ask = false;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const auto& [key, value] = keys[i];
    const KeyRow* row = find_key(key);
    if (std::any_of(keys.begin(), keys.begin() + static_cast<std::ptrdiff_t>(i),
                    [&](const KeyValue& earlier) { return earlier.key == keys[i].key; })) {
      return reject(RejectReason::protocol_error);
    }
    if (value == value_reject || value == value_irrelevant || value == value_not_understood) continue;
    if (row == nullptr) {
      reply.add(key, value_not_understood);
    } else if (row->kind == KeyKind::send_targets) {
      const bool all = value == "All";
      auto name = all || value.empty() ? Result<std::string>(std::string(value)) : normalize_name(value);
      // Appendix C: All belongs to discovery sessions, the empty value to the others.
      const bool fits = all ? session_type_ == SessionType::discovery
                            : !value.empty() || session_type_ == SessionType::normal;
      ask = name.has_value() && fits;
      if (ask) asked_ = std::move(*name);
      else reply.add(key, value_reject);
    } else if (row->key == Key::max_recv_data_segment_length) {
      const auto number = parse_number(value);
      if (number && *number >= row->low && *number <= row->high)
        declared_max_xmit_ = static_cast<std::uint32_t>(*number);
      else reply.add(key, value_reject);
    } else if (row->kind != KeyKind::declared_text || (row->phases & in_full_feature) == 0) {
      reply.add(key, value_reject);
    }
  }
  reply_before_targets_ = reply.take();
  if (ask) return Step::ask_targets;
  out_ = TextSplitter(std::exchange(reply_before_targets_, {}));
  return next_chunk();
}

TargetText::Step TargetText::answer_targets(const std::vector<SendTargetsRecord>& targets) {
  TextWriter text;
  for (const SendTargetsRecord& target : targets) {
    text.add(row_of(Key::target_name).name, std::string_view(target.target_name));
    for (const std::string& address : target.target_addresses) {
      text.add(row_of(Key::target_address).name, std::string_view(address));
    }
  }
  out_ = TextSplitter(std::exchange(reply_before_targets_, {}) + text.text());
  return next_chunk();
}

TargetText::Step TargetText::next_chunk() {
  chunk_ = std::string(out_.next(std::min(max_xmit_, limits::max_recv_data_segment_bytes)));
  response_ = TextResponse();
  response_.continues = !out_.done();
  response_.final = request_.final && !response_.continues;
  response_.data_segment_length = static_cast<std::uint32_t>(chunk_.size());
  response_.initiator_task_tag = request_.initiator_task_tag;
  response_.target_transfer_tag = response_.final ? reserved_tag : ttt_;
  open_ = !response_.final;
  return Step::respond;
}

InitiatorText::InitiatorText(std::string_view send_targets_value, Itt initiator_task_tag,
                             std::size_t max_answer_bytes)
    : joiner_(max_answer_bytes, std::max<std::size_t>(limits::max_text_pdus_per_exchange,
                                                      max_answer_bytes / min_data_segment_bytes)) {
  TextWriter writer;
  writer.add(row_of(Key::send_targets).name, send_targets_value);
  text_ = writer.take();
  request_.initiator_task_tag = initiator_task_tag;
  request_.data_segment_length = static_cast<std::uint32_t>(text_.size());
}

InitiatorText::Step InitiatorText::receive(const TextResponse& response, Bytes data) {
  const auto failed = [this](Errc code, std::string message) {
    error_ = {code, std::move(message)};
    return Step::failed;
  };
  if (response.initiator_task_tag != request_.initiator_task_tag) {
    return failed(Errc::protocol, "Text Response with another task tag");
  }
  if (response.final && response.continues) return failed(Errc::protocol, "Text Response with F and C bit");
  if (auto added = joiner_.add(data); !added) {
    error_ = std::move(added.error());
    return Step::failed;
  }
  if (response.final) return Step::complete;
  if (response.target_transfer_tag == reserved_tag) {
    return failed(Errc::protocol, "Text Response to be continued, without a transfer tag");
  }
  text_.clear();
  request_.data_segment_length = 0;
  request_.target_transfer_tag = response.target_transfer_tag;
  request_.lun = response.lun;
  return Step::send;
}

Result<TargetAddress> parse_target_address(std::string_view value) {
  const auto bad = [] { return fail(Errc::protocol, "malformed TargetAddress"); };
  TargetAddress out;
  if (const std::size_t comma = value.rfind(','); comma != std::string_view::npos) {
    const std::string_view tag = value.substr(comma + 1);
    const auto number = is_decimal(tag) ? parse_number(tag) : std::nullopt;
    if (!number || *number > 65535) return bad();
    out.target_portal_group_tag = static_cast<std::uint16_t>(*number);
    value = value.substr(0, comma);
  }
  std::string_view rest;  // behind the host
  if (value.starts_with('[')) {
    const std::size_t end = value.find(']');
    if (end == std::string_view::npos) return bad();
    out.host = value.substr(1, end - 1);
    rest = value.substr(end + 1);
    if (!std::all_of(out.host.begin(), out.host.end(), is_ipv6_character)) return bad();
    if (out.host.find(':') == std::string::npos) return bad();
  } else {
    const std::size_t colon = value.find(':');
    out.host = value.substr(0, colon);
    rest = colon == std::string_view::npos ? std::string_view() : value.substr(colon);
    if (!std::all_of(out.host.begin(), out.host.end(), is_host_character)) return bad();
  }
  if (out.host.empty() || out.host.size() > max_host_bytes) return bad();
  if (rest.empty()) return out;
  const std::string_view port = rest.substr(1);
  const auto number = is_decimal(port) ? parse_number(port) : std::nullopt;
  if (rest[0] != ':' || !number || *number == 0 || *number > 65535) return bad();
  out.port = static_cast<std::uint16_t>(*number);
  return out;
}

Result<std::vector<DiscoveredTargetRecord>> parse_send_targets_answer(Bytes text, std::size_t max_targets,
                                                                      std::size_t max_addresses) {
  // Memory stays within a small multiple of the text, which the caller has bounded.
  const auto keys = parse_text(text, text.size());
  if (!keys) return tl::unexpected<Error>(keys.error());
  std::vector<DiscoveredTargetRecord> targets;
  for (const auto& [key, value] : *keys) {
    if (key == row_of(Key::target_name).name) {
      if (targets.size() == max_targets) return fail(Errc::limit, "SendTargets answer with too many targets");
      auto name = normalize_name(value);
      if (!name) return fail(Errc::protocol, "SendTargets answer with a bad name: " + name.error().message);
      targets.push_back({std::move(*name), {}});
    } else if (key == row_of(Key::target_address).name) {
      if (targets.empty()) return fail(Errc::protocol, "SendTargets answer with an address before any name");
      if (targets.back().addresses.size() == max_addresses) {
        return fail(Errc::limit, "SendTargets answer with too many addresses");
      }
      auto address = parse_target_address(value);
      if (!address) return tl::unexpected<Error>(std::move(address.error()));
      targets.back().addresses.push_back(std::move(*address));
    }
  }
  return targets;
}

}  // namespace perilune::iscsi
