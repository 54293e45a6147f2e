// SPDX-License-Identifier: Apache-2.0
#include "iscsi/login/initiator_login.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "iscsi/login/initiator_chap.hpp"
#include "iscsi/login/text_exchange.hpp"
#include "iscsi/names/names.hpp"
#include "iscsi/params/negotiation.hpp"
#include "iscsi/text/text.hpp"
#include "iscsi/text/values.hpp"

namespace perilune::iscsi {
namespace {

Errc errc_of(LoginStatus status) noexcept {
  if (status_class(status) == 1) return Errc::connection;
  if (status_class(status) == 3) return Errc::busy;
  switch (status) {
    case LoginStatus::authentication_failure: return Errc::authentication;
    case LoginStatus::authorization_failure: return Errc::authorization;
    case LoginStatus::not_found:
    case LoginStatus::target_removed:
    case LoginStatus::session_does_not_exist: return Errc::not_found;
    case LoginStatus::unsupported_version:
    case LoginStatus::session_type_not_supported: return Errc::unsupported;
    case LoginStatus::too_many_connections: return Errc::limit;
    default: return Errc::protocol;
  }
}

std::string describe(LoginStatus status) {
  static constexpr char digits[] = "0123456789abcdef";
  const auto number = static_cast<std::uint16_t>(status);
  std::string out = "login refused: " + std::string(to_string(status)) + " (";
  for (int shift = 12; shift >= 0; shift -= 4) out += digits[(number >> shift) & 15];
  return out + ")";
}

InitiatorChapPolicy take_chap_policy(InitiatorLoginConfig& config) {
  return {std::move(config.account), std::move(config.target_account), config.require_chap,
          config.algorithms};
}

}  // namespace

class InitiatorLogin::Impl {
 public:
  Impl(InitiatorLoginConfig config, RandomFill random)
      : chap_(take_chap_policy(config), random),
        negotiation_(Role::initiator, config.session_type, config.tsih == 0, config.params),
        config_(std::move(config)),
        exp_stat_sn_(config_.exp_stat_sn) {}

  Step start();
  Step receive(const std::uint8_t* bhs, Bytes data);

  LoginPdu request_;
  InitiatorLoginResult result_;
  InitiatorLoginFailure failure_;

 private:
  [[nodiscard]] Status check_config();
  [[nodiscard]] Status check_response(const LoginResponse& response) const;
  Step refused(const LoginResponse& response, Bytes data);
  Step handle(const LoginResponse& response);
  Step move_on(const LoginResponse& response);
  Step complete(const LoginResponse& response);
  [[nodiscard]] Status read_texts(const std::vector<KeyValue>& keys);
  Step send_text();  // the text of writer_, in the present stage
  Step send_piece();
  Step failed(Error error);

  InitiatorChap chap_;
  Negotiation negotiation_;
  InitiatorLoginConfig config_;
  StatSn exp_stat_sn_;
  bool running_ = false;
  LoginStage stage_ = LoginStage::security_negotiation;
  bool asked_transit_ = false;  // T of our last request
  std::uint32_t exchanges_ = 0;
  TextWriter writer_;
  TextSplitter out_;
  TextJoiner joiner_;
};

InitiatorLogin::Step InitiatorLogin::Impl::start() {
  if (auto ok = check_config(); !ok) return failed(std::move(ok.error()));
  running_ = true;
  writer_.add(row_of(Key::initiator_name).name, std::string_view(config_.initiator_name));
  if (!config_.initiator_alias.empty()) {
    writer_.add(row_of(Key::initiator_alias).name,
                std::string_view(printable(config_.initiator_alias, max_simple_value_bytes)));
  }
  if (!config_.target_name.empty())
    writer_.add(row_of(Key::target_name).name, std::string_view(config_.target_name));
  writer_.add(row_of(Key::session_type).name,
              std::string_view(config_.session_type == SessionType::discovery ? "Discovery" : "Normal"));
  if (chap_.wanted()) {
    chap_.offer_method(writer_);
  } else {
    // RFC 7143 6.3.2: who has nothing to prove starts with the next stage. A target that wants proof answers
    // that with a status; to AuthMethod=None alone LIO closes the connection, and nobody learns why.
    stage_ = LoginStage::operational_negotiation;
    negotiation_.offer_all(writer_);
  }
  return send_text();
}

Status InitiatorLogin::Impl::check_config() {
  auto initiator = normalize_name(config_.initiator_name);
  if (!initiator) return tl::unexpected<Error>(std::move(initiator.error()));
  config_.initiator_name = std::move(*initiator);
  if (!config_.target_name.empty() || config_.session_type == SessionType::normal) {
    auto target = normalize_name(config_.target_name);
    if (!target) return tl::unexpected<Error>(std::move(target.error()));
    config_.target_name = std::move(*target);
  }
  if (auto ok = chap_.check(); !ok) return ok;
  return check_wanted(config_.params);
}

InitiatorLogin::Step InitiatorLogin::Impl::receive(const std::uint8_t* bhs, Bytes data) {
  PERILUNE_ASSERT(running_);
  if (opcode(bhs) != Opcode::login_response) {
    return failed(
        {Errc::protocol, "the target answered a Login Request with " + std::string(to_string(opcode(bhs)))});
  }
  const LoginResponse response = LoginResponse::decode(bhs);
  if (response.status != LoginStatus::success) return refused(response, data);
  if (auto ok = check_response(response); !ok) return failed(std::move(ok.error()));
  exp_stat_sn_ = response.stat_sn.plus(1);

  if (!out_.done()) {  // our own text is not complete yet
    if (!data.empty() || response.continues || response.transit) {
      return failed({Errc::protocol, "the target answered an incomplete Login Request"});
    }
    return send_piece();
  }
  if (auto added = joiner_.add(data); !added) return failed(std::move(added.error()));
  if (response.continues) return send_piece();  // an empty request fetches the rest
  if (++exchanges_ > limits::max_login_exchanges)
    return failed({Errc::limit, "login takes too many exchanges"});
  return handle(response);
}

Status InitiatorLogin::Impl::check_response(const LoginResponse& response) const {
  if (response.initiator_task_tag != config_.initiator_task_tag)
    return fail(Errc::protocol, "wrong task tag in login");
  if (response.version_active != 0)
    return fail(Errc::unsupported, "the target chose an unknown protocol version");
  if (response.csg != stage_) return fail(Errc::protocol, "login response of another stage");
  if (!response.transit) return {};
  if (response.continues) return fail(Errc::protocol, "login response with T and C bit");
  if (!asked_transit_) return fail(Errc::protocol, "login response moves on without being asked");
  const LoginStage asked = stage_ == LoginStage::security_negotiation ? LoginStage::operational_negotiation
                                                                      : LoginStage::full_feature;
  if (response.nsg != asked)
    return fail(Errc::protocol, "login response moves to a stage that was not asked for");
  return {};
}

InitiatorLogin::Step InitiatorLogin::Impl::refused(const LoginResponse& response, Bytes data) {
  failure_.status = response.status;
  Error error{errc_of(response.status), describe(response.status)};
  if (status_class(response.status) == 1) {
    const auto keys = data.size() <= limits::max_data_segment_before_login_bytes
                          ? parse_text(data)
                          : Result<std::vector<KeyValue>>(fail(Errc::limit, "too long"));
    if (keys) {
      for (const KeyValue& pair : *keys) {
        if (pair.key != row_of(Key::target_address).name || !parse_target_address(pair.value)) continue;
        failure_.redirect_address = std::string(pair.value);
        break;
      }
    }
    if (failure_.redirect_address.empty())
      error = {Errc::protocol, "login redirected without a valid TargetAddress"};
  }
  return failed(std::move(error));
}

InitiatorLogin::Step InitiatorLogin::Impl::handle(const LoginResponse& response) {
  const auto keys = parse_text(joiner_.text());
  if (!keys) return failed(keys.error());
  const bool security = stage_ == LoginStage::security_negotiation;
  if (auto ok = negotiation_.receive(*keys, security ? in_security : in_operational, writer_); !ok) {
    return failed(std::move(ok.error()));
  }
  if (auto ok = read_texts(*keys); !ok) return failed(std::move(ok.error()));
  if (security) {
    if (auto ok = chap_.receive(*keys, response.transit, writer_); !ok) return failed(std::move(ok.error()));
  }
  joiner_.clear();
  if (response.transit) return move_on(response);
  return send_text();
}

Status InitiatorLogin::Impl::read_texts(const std::vector<KeyValue>& keys) {
  for (const KeyValue& pair : keys) {
    if (pair.key == row_of(Key::target_alias).name)
      result_.target_alias = printable(pair.value, max_simple_value_bytes);
    if (pair.key != row_of(Key::target_portal_group_tag).name) continue;
    const auto tag = parse_number(pair.value);
    if (!tag || *tag > 65535) return fail(Errc::protocol, "malformed TargetPortalGroupTag");
    result_.target_portal_group_tag = static_cast<std::uint16_t>(*tag);
  }
  return {};
}

InitiatorLogin::Step InitiatorLogin::Impl::move_on(const LoginResponse& response) {
  if (stage_ == LoginStage::operational_negotiation) return complete(response);
  if (!chap_.done())
    return failed({Errc::authentication, "the target moved on before authentication was over"});
  stage_ = LoginStage::operational_negotiation;
  negotiation_.offer_all(writer_);
  return send_text();
}

InitiatorLogin::Step InitiatorLogin::Impl::complete(const LoginResponse& response) {
  if (response.tsih == 0 || (config_.tsih != 0 && response.tsih != config_.tsih)) {
    return failed({Errc::protocol, "the target gave a wrong TSIH"});
  }
  result_.tsih = response.tsih;
  result_.target_name = config_.target_name;
  result_.chap = chap_.used_chap();
  result_.mutual_chap = chap_.target_proved();
  result_.session = negotiation_.session();
  result_.connection = negotiation_.connection();
  result_.next_cmd_sn = config_.cmd_sn;
  result_.max_cmd_sn = response.max_cmd_sn;
  result_.exp_stat_sn = exp_stat_sn_;
  running_ = false;
  return Step::complete;
}

InitiatorLogin::Step InitiatorLogin::Impl::send_text() {
  out_ = TextSplitter(writer_.take());
  return send_piece();
}

InitiatorLogin::Step InitiatorLogin::Impl::send_piece() {
  request_.text = std::string(out_.next(limits::max_data_segment_before_login_bytes));
  LoginRequest request;
  request.continues = !out_.done();
  const bool security = stage_ == LoginStage::security_negotiation;
  asked_transit_ = !request.continues && (!security || chap_.may_transit());
  request.transit = asked_transit_;
  request.csg = stage_;
  if (request.transit)
    request.nsg = security ? LoginStage::operational_negotiation : LoginStage::full_feature;
  request.data_segment_length = static_cast<std::uint32_t>(request_.text.size());
  request.isid = config_.isid;
  request.tsih = config_.tsih;
  request.initiator_task_tag = config_.initiator_task_tag;
  request.cid = config_.cid;
  request.cmd_sn = config_.cmd_sn;
  request.exp_stat_sn = exp_stat_sn_;
  request.encode(request_.bhs.data());
  return Step::send;
}

InitiatorLogin::Step InitiatorLogin::Impl::failed(Error error) {
  running_ = false;
  failure_.error = std::move(error);
  return Step::failed;
}

InitiatorLogin::InitiatorLogin(InitiatorLoginConfig config, RandomFill random)
    : impl_(std::make_unique<Impl>(std::move(config), random)) {}
InitiatorLogin::~InitiatorLogin() = default;
InitiatorLogin::InitiatorLogin(InitiatorLogin&&) noexcept = default;
InitiatorLogin& InitiatorLogin::operator=(InitiatorLogin&&) noexcept = default;

InitiatorLogin::Step InitiatorLogin::start() { return impl_->start(); }
InitiatorLogin::Step InitiatorLogin::receive(const std::uint8_t* bhs, Bytes data) {
  return impl_->receive(bhs, data);
}
const LoginPdu& InitiatorLogin::request() const { return impl_->request_; }
const InitiatorLoginResult& InitiatorLogin::result() const { return impl_->result_; }
const InitiatorLoginFailure& InitiatorLogin::failure() const { return impl_->failure_; }

}  // namespace perilune::iscsi
