// SPDX-License-Identifier: Apache-2.0
#include "iscsi/login/target_login.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "iscsi/login/target_chap.hpp"
#include "iscsi/names/names.hpp"
#include "iscsi/params/negotiation.hpp"
#include "iscsi/text/text.hpp"
#include "iscsi/text/values.hpp"

namespace perilune::iscsi {
namespace {

constexpr std::size_t max_reason_bytes = 256;

struct Identity {
  std::optional<std::string_view> initiator_name, initiator_alias, target_name, session_type;
};

Identity read_identity(const std::vector<KeyValue>& keys) {
  Identity found;
  const std::pair<Key, std::optional<std::string_view>*> wanted[] = {
      {Key::initiator_name, &found.initiator_name},
      {Key::initiator_alias, &found.initiator_alias},
      {Key::target_name, &found.target_name},
      {Key::session_type, &found.session_type},
  };
  for (const KeyValue& pair : keys) {
    for (const auto& [key, place] : wanted) {
      // A repetition with another value is refused by the negotiation, which sees every key.
      if (pair.key == row_of(key).name && !*place) *place = pair.value;
    }
  }
  return found;
}

}  // namespace

class TargetLogin::Impl {
 public:
  Impl(const TargetLoginConfig& config, RandomFill random)
      : random_(random), command_window_(std::max<std::uint32_t>(config.command_window, 1)),
        stat_sn_(config.initial_stat_sn) {}

  Step receive(const std::uint8_t* bhs, Bytes data);
  Step answer_target(TargetDecision decision);
  Step answer_session(const SessionDecision& decision);
  Step refuse(LoginStatus status, std::string reason, std::string text = {});
  Step abandon(LoginStatus status, std::string reason);

  enum class State : std::uint8_t { running, asking_target, asking_session, over };
  State state_ = State::running;
  TargetQuery target_query_;
  SessionQuery session_query_;
  LoginPdu response_;
  TargetLoginResult result_;
  TargetLoginFailure failure_;

 private:
  std::optional<LoginRefusal> check_header() const;
  std::optional<LoginRefusal> check_stages() const;
  Step read_first(const std::vector<KeyValue>& keys);
  Step handle(const std::vector<KeyValue>& keys);
  Step finish_step();
  Step ask_session();
  Step respond(bool transit, bool continues, std::string text);
  void write_response(bool transit, bool continues, LoginStatus status, std::uint16_t tsih, std::string text);

  RandomFill random_;
  std::uint32_t command_window_;
  StatSn stat_sn_;  // of the next response
  bool any_request_ = false;
  bool identified_ = false;  // the first complete request was read
  LoginRequest first_;
  LoginRequest request_;
  LoginStage stage_ = LoginStage::security_negotiation;
  std::uint32_t exchanges_ = 0;
  TextJoiner joiner_;
  TextWriter reply_;
  TextSplitter out_;
  std::string last_piece_;  // of the final response, while the session is decided
  std::optional<Negotiation> negotiation_;
  std::optional<TargetChap> chap_;
  std::uint16_t portal_group_tag_ = 1;
};

TargetLogin::Step TargetLogin::Impl::receive(const std::uint8_t* bhs, Bytes data) {
  PERILUNE_ASSERT(state_ == State::running);
  if (opcode(bhs) != Opcode::login_request) {
    if (any_request_)
      return refuse(LoginStatus::invalid_during_login, "a PDU other than Login Request during login");
    state_ = State::over;
    failure_ = {LoginStatus::invalid_during_login, "the first PDU is not a Login Request"};
    return Step::close;
  }
  request_ = LoginRequest::decode(bhs);
  if (!any_request_) {
    any_request_ = true;
    first_ = request_;
    stage_ = request_.csg;
  }
  if (const auto refusal = check_header()) return refuse(refusal->status, refusal->reason);
  if (const auto refusal = check_stages()) return refuse(refusal->status, refusal->reason);

  if (!out_.done()) {  // the rest of our answer is being fetched
    if (!data.empty() || request_.continues) {
      return refuse(LoginStatus::initiator_error, "text sent while the answer is incomplete");
    }
    return finish_step();
  }
  if (auto added = joiner_.add(data); !added)
    return refuse(LoginStatus::initiator_error, added.error().message);
  if (request_.continues) return respond(false, false, {});
  if (++exchanges_ > limits::max_login_exchanges)
    return refuse(LoginStatus::initiator_error, "too many exchanges");

  const auto keys = parse_text(joiner_.text());
  if (!keys) return refuse(LoginStatus::initiator_error, keys.error().message);
  return identified_ ? handle(*keys) : read_first(*keys);
}

std::optional<LoginRefusal> TargetLogin::Impl::check_header() const {
  using Refusal = LoginRefusal;
  if (request_.version_min > 0) return Refusal{LoginStatus::unsupported_version, "unsupported version"};
  if (request_.total_ahs_length != 0) return Refusal{LoginStatus::initiator_error, "Login Request with AHS"};
  if (request_.isid != first_.isid || request_.tsih != first_.tsih || request_.cid != first_.cid) {
    return Refusal{LoginStatus::initiator_error, "ISID, TSIH or CID changed during login"};
  }
  return std::nullopt;
}

// RFC 7143 11.12.1 to 11.12.3
std::optional<LoginRefusal> TargetLogin::Impl::check_stages() const {
  const auto bad = [](const char* reason) { return LoginRefusal{LoginStatus::initiator_error, reason}; };
  if (request_.csg != LoginStage::security_negotiation &&
      request_.csg != LoginStage::operational_negotiation) {
    return bad("current stage (CSG) is not a login stage");
  }
  if (request_.csg != stage_) return bad("current stage (CSG) is not the one agreed");
  if (!request_.transit) return std::nullopt;
  if (request_.continues) return bad("T and C bit both set");
  if (request_.nsg == LoginStage::reserved || request_.nsg <= request_.csg)
    return bad("next stage (NSG) is not later");
  return std::nullopt;
}

TargetLogin::Step TargetLogin::Impl::read_first(const std::vector<KeyValue>& keys) {
  const Identity identity = read_identity(keys);
  TargetQuery query;
  query.isid = first_.isid;
  query.tsih = first_.tsih;
  query.cid = first_.cid;
  if (!identity.initiator_name) return refuse(LoginStatus::missing_parameter, "InitiatorName is missing");
  auto name = normalize_name(*identity.initiator_name);
  if (!name) return refuse(LoginStatus::initiator_error, "InitiatorName: " + name.error().message);
  query.initiator_name = std::move(*name);
  if (identity.initiator_alias)
    query.initiator_alias = printable(*identity.initiator_alias, max_simple_value_bytes);
  if (identity.session_type == "Discovery") {
    query.session_type = SessionType::discovery;
  } else if (identity.session_type && identity.session_type != "Normal") {
    return refuse(LoginStatus::session_type_not_supported, "unknown SessionType");
  }
  if (identity.target_name) {
    auto target = normalize_name(*identity.target_name);
    if (!target) return refuse(LoginStatus::not_found, "TargetName: " + target.error().message);
    query.target_name = std::move(*target);
  } else if (query.session_type == SessionType::normal) {
    return refuse(LoginStatus::missing_parameter, "TargetName is missing");
  }
  target_query_ = std::move(query);
  identified_ = true;
  state_ = State::asking_target;
  return Step::ask_target;
}

TargetLogin::Step TargetLogin::Impl::answer_target(TargetDecision decision) {
  PERILUNE_ASSERT(state_ == State::asking_target);
  state_ = State::running;
  if (decision.status != LoginStatus::success) {
    TextWriter text;
    if (status_class(decision.status) == 1)
      text.add("TargetAddress", std::string_view(decision.redirect_address));
    return refuse(decision.status, std::string(to_string(decision.status)), text.take());
  }
  PERILUNE_ASSERT(check_wanted(decision.params).has_value());
  portal_group_tag_ = decision.target_portal_group_tag;
  negotiation_.emplace(Role::target, target_query_.session_type, first_.tsih == 0, decision.params);
  // An account that the configuration should have refused lets nobody in, and CHAP stays required.
  auto& accounts = decision.accounts;
  const bool had_accounts = !accounts.empty();
  std::erase_if(accounts, [](const ChapCredentials& account) { return !check_chap(account).has_value(); });
  if (had_accounts && accounts.empty())
    return refuse(LoginStatus::authentication_failure, "no usable CHAP account");
  chap_.emplace(TargetChapPolicy{decision.allow_none, std::move(accounts), std::move(decision.target_account),
                                 std::move(decision.algorithms)},
                random_);
  if (stage_ != LoginStage::security_negotiation && !chap_->may_skip()) {
    return refuse(LoginStatus::authentication_failure, "authentication skipped");
  }
  // RFC 7143 13.9: in the first response to a request that names the target.
  if (target_query_.session_type == SessionType::normal) {
    reply_.add(row_of(Key::target_portal_group_tag).name, portal_group_tag_);
  }
  if (!decision.target_alias.empty()) {
    reply_.add(row_of(Key::target_alias).name,
               std::string_view(printable(decision.target_alias, max_simple_value_bytes)));
  }
  const auto keys = parse_text(joiner_.text());  // parsed before, so it parses again
  PERILUNE_ASSERT(keys.has_value());
  return handle(*keys);
}

TargetLogin::Step TargetLogin::Impl::handle(const std::vector<KeyValue>& keys) {
  const bool security = stage_ == LoginStage::security_negotiation;
  if (auto ok = negotiation_->receive(keys, security ? in_security : in_operational, reply_); !ok) {
    return refuse(LoginStatus::initiator_error, ok.error().message);
  }
  if (security) {
    if (const auto refusal = chap_->receive(keys, request_.transit, reply_)) {
      return refuse(refusal->status, refusal->reason);
    }
  } else {
    negotiation_->declare(reply_);
    if (request_.transit) (void)negotiation_->offer_missing(reply_);
  }
  joiner_.clear();
  out_ = TextSplitter(reply_.take());
  return finish_step();
}

// Sends what there is to say; with the last of it, moves on when the initiator asked for that and nothing is
// open.
TargetLogin::Step TargetLogin::Impl::finish_step() {
  const std::size_t limit = std::min(limits::max_data_segment_before_login_bytes,
                                     negotiation_->connection().max_xmit_data_segment_length);
  std::string piece(out_.next(limit));
  if (!out_.done()) return respond(false, true, std::move(piece));
  const bool ready =
      stage_ == LoginStage::security_negotiation ? chap_->done() : !negotiation_->answers_outstanding();
  if (!request_.transit || !ready) return respond(false, false, std::move(piece));
  if (request_.nsg == LoginStage::full_feature) {
    last_piece_ = std::move(piece);
    return ask_session();
  }
  stage_ = request_.nsg;
  return respond(true, false, std::move(piece));
}

TargetLogin::Step TargetLogin::Impl::ask_session() {
  session_query_ = {target_query_.session_type, target_query_.initiator_name, target_query_.target_name,
                    chap_->user(),              first_.isid,                  first_.tsih,
                    first_.cid,                 request_.cmd_sn,              portal_group_tag_};
  state_ = State::asking_session;
  return Step::ask_session;
}

TargetLogin::Step TargetLogin::Impl::answer_session(const SessionDecision& decision) {
  PERILUNE_ASSERT(state_ == State::asking_session);
  state_ = State::running;
  if (decision.status != LoginStatus::success)
    return refuse(decision.status, std::string(to_string(decision.status)));
  PERILUNE_ASSERT(decision.tsih != 0);
  stage_ = LoginStage::full_feature;
  write_response(true, false, LoginStatus::success, decision.tsih, std::move(last_piece_));
  const CmdSn exp_cmd_sn = decision.exp_cmd_sn.value_or(request_.cmd_sn);
  const CmdSn max_cmd_sn = decision.max_cmd_sn.value_or(exp_cmd_sn.plus(command_window_ - 1));
  store_be32(response_.bhs.data() + 28, exp_cmd_sn.value());
  store_be32(response_.bhs.data() + 32, max_cmd_sn.value());
  result_.session_type = target_query_.session_type;
  result_.initiator_name = target_query_.initiator_name;
  result_.initiator_alias = target_query_.initiator_alias;
  result_.target_name = target_query_.target_name;
  result_.user = chap_->user();
  result_.isid = first_.isid;
  result_.requested_tsih = first_.tsih;
  result_.tsih = decision.tsih;
  result_.cid = first_.cid;
  result_.target_portal_group_tag = portal_group_tag_;
  result_.session = negotiation_->session();
  result_.connection = negotiation_->connection();
  result_.next_stat_sn = stat_sn_;
  result_.exp_stat_sn = first_.exp_stat_sn;
  result_.exp_cmd_sn = exp_cmd_sn;
  state_ = State::over;
  return Step::complete;
}

TargetLogin::Step TargetLogin::Impl::respond(bool transit, bool continues, std::string text) {
  write_response(transit, continues, LoginStatus::success, first_.tsih, std::move(text));
  return Step::respond;
}

TargetLogin::Step TargetLogin::Impl::refuse(LoginStatus status, std::string reason, std::string text) {
  write_response(false, false, status, first_.tsih, std::move(text));
  failure_ = {status, printable(reason, max_reason_bytes)};
  state_ = State::over;
  return Step::respond_and_close;
}

TargetLogin::Step TargetLogin::Impl::abandon(LoginStatus status, std::string reason) {
  PERILUNE_ASSERT(state_ != State::over);
  if (any_request_) return refuse(status, std::move(reason));
  failure_ = {status, printable(reason, max_reason_bytes)};
  state_ = State::over;
  return Step::close;
}

void TargetLogin::Impl::write_response(bool transit, bool continues, LoginStatus status, std::uint16_t tsih,
                                       std::string text) {
  LoginResponse response;
  response.transit = transit;
  response.continues = continues;
  response.csg = request_.csg;
  response.nsg = transit ? request_.nsg : LoginStage::security_negotiation;
  response.data_segment_length = static_cast<std::uint32_t>(text.size());
  response.isid = first_.isid;
  response.tsih = tsih;
  response.initiator_task_tag = request_.initiator_task_tag;
  response.stat_sn = stat_sn_;
  response.exp_cmd_sn = request_.cmd_sn;
  // A connection that joins: the session and its window are not known before the end, so nothing is opened
  // yet.
  response.max_cmd_sn =
      first_.tsih == 0 ? request_.cmd_sn.plus(command_window_ - 1) : request_.cmd_sn.minus(1);
  response.status = status;
  ++stat_sn_;
  response.encode(response_.bhs.data());
  response_.text = std::move(text);
}

TargetLogin::TargetLogin(const TargetLoginConfig& config, RandomFill random)
    : impl_(std::make_unique<Impl>(config, random)) {}
TargetLogin::~TargetLogin() = default;
TargetLogin::TargetLogin(TargetLogin&&) noexcept = default;
TargetLogin& TargetLogin::operator=(TargetLogin&&) noexcept = default;

TargetLogin::Step TargetLogin::receive(const std::uint8_t* bhs, Bytes data) {
  return impl_->receive(bhs, data);
}
const TargetQuery& TargetLogin::target_query() const { return impl_->target_query_; }
TargetLogin::Step TargetLogin::answer_target(TargetDecision decision) {
  return impl_->answer_target(std::move(decision));
}
const SessionQuery& TargetLogin::session_query() const { return impl_->session_query_; }
TargetLogin::Step TargetLogin::answer_session(const SessionDecision& decision) {
  return impl_->answer_session(decision);
}
TargetLogin::Step TargetLogin::abandon(LoginStatus status, std::string reason) {
  return impl_->abandon(status, std::move(reason));
}
const LoginPdu& TargetLogin::response() const { return impl_->response_; }
const TargetLoginResult& TargetLogin::result() const { return impl_->result_; }
const TargetLoginFailure& TargetLogin::failure() const { return impl_->failure_; }

}  // namespace perilune::iscsi
