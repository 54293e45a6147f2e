// SPDX-License-Identifier: Apache-2.0
// The supervisor's life: attempts, redirects, reconnects, logout. (Of its connections: session_links.cpp.)
#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/limits.hpp"
#include "initiator/discovery.hpp"
#include "initiator/session_impl.hpp"

namespace perilune::initiator {

namespace {

std::vector<iscsi::Digest> digest_list(DigestPreference preference) {
  using iscsi::Digest;
  switch (preference) {
    case DigestPreference::none: return {Digest::none};
    case DigestPreference::crc32c: return {Digest::crc32c};
    case DigestPreference::crc32c_or_none: return {Digest::crc32c, Digest::none};
    case DigestPreference::none_or_crc32c: return {Digest::none, Digest::crc32c};
  }
  return {Digest::none};
}

// A refusal that trying again will not change. "Not found" is none: a target that restarts is not found for a
// moment.
bool is_final(iscsi::LoginStatus status) {
  using iscsi::LoginStatus;
  return status == LoginStatus::authentication_failure || status == LoginStatus::authorization_failure ||
         status == LoginStatus::target_removed || status == LoginStatus::unsupported_version;
}

}  // namespace

SessionImpl::SessionImpl(runtime::Loop& loop, SessionConfig config, SessionObserver& observer)
    : loop_(loop),
      config_(std::move(config)),
      observer_(observer),
      engine_(std::make_shared<Engine>(iscsi::InitiatorLimits{
          .commands = std::clamp<std::uint32_t>(config_.commands_max, 1, 32768),
          .pending_commands = 65536,
          .text_bytes = max_send_targets_bytes})),
      current_portal_(config_.portal),
      refused_hook_(Delegate<void()>::to<&SessionImpl::call_refused>(*this)),
      logout_hook_(Delegate<void()>::to<&SessionImpl::finish_logout>(*this)),
      fallen_hook_(Delegate<void()>::to<&SessionImpl::fallen>(*this)),
      retry_timer_(loop.timers(), Delegate<void()>::to<&SessionImpl::attempt>(*this)),
      hold_timer_(loop.timers(), Delegate<void()>::to<&SessionImpl::hold_expired>(*this)),
      logout_timer_(loop.timers(), Delegate<void()>::to<&SessionImpl::logout_timed_out>(*this)),
      tick_timer_(loop.timers(), Delegate<void()>::to<&SessionImpl::tick>(*this)),
      recovery_timer_(loop.timers(), Delegate<void()>::to<&SessionImpl::recovery_timed_out>(*this)) {
  links_.push_back(std::make_unique<Link>(*this, loop, std::uint16_t{0}));
  if (config_.isid == std::array<std::uint8_t, 6>{}) {
    config_.isid = stable_isid(config_.initiator_name, "default", config_.target_name);
  }
  config_.max_connections =
      std::clamp<std::uint16_t>(config_.max_connections, 1, limits::max_session_connections);
  time2wait_ = std::chrono::seconds(config_.default_time2wait);
}

SessionImpl::~SessionImpl() {
  PERILUNE_ASSERT(held_.empty() && refused_.empty());
  for (auto& link : links_) {
    if (link->driver) ConnectionDriver::detach(std::move(link->driver));
  }
}

void SessionImpl::abandon() {
  for (auto& link : links_) {
    if (link->driver) link->driver->abandon();
  }
  engine_->session.close();
  engine_->session.completed().clear();
  engine_->session.completed_tasks().clear();
  links_.clear();
  held_.clear();
  refused_.clear();
  refused_tasks_.clear();
}

void SessionImpl::set_state(SessionState state) {
  if (state == state_) return;
  const SessionState from = std::exchange(state_, state);
  observer_.on_state(from, state);
}

void SessionImpl::start() {
  PERILUNE_ASSERT(!started_);
  started_ = true;
  set_state(SessionState::logging_in);
  attempt();
}

iscsi::InitiatorLoginConfig SessionImpl::login_config() const {
  iscsi::InitiatorLoginConfig login;
  login.session_type =
      config_.target_name.empty() ? iscsi::SessionType::discovery : iscsi::SessionType::normal;
  login.initiator_name = config_.initiator_name;
  login.initiator_alias = config_.initiator_alias;
  login.target_name = config_.target_name;
  login.isid = config_.isid;
  if (config_.chap) {
    login.account = iscsi::ChapCredentials{config_.chap->user, config_.chap->secret.clone()};
    if (!config_.chap->mutual_user.empty()) {
      login.target_account =
          iscsi::ChapCredentials{config_.chap->mutual_user, config_.chap->mutual_secret.clone()};
    }
    if (!config_.chap->algorithms.empty()) {
      login.algorithms.clear();
      for (std::uint8_t id : config_.chap->algorithms) {
        if (auto algorithm = iscsi::chap_algorithm(std::uint64_t{id})) login.algorithms.push_back(*algorithm);
      }
    }
  }
  iscsi::WantedParams& params = login.params;
  params.initial_r2t = config_.initial_r2t;
  params.immediate_data = config_.immediate_data;
  params.max_burst_length = config_.max_burst_length;
  params.first_burst_length = std::min(config_.first_burst_length, config_.max_burst_length);
  params.max_recv_data_segment_length = config_.max_recv_data_segment_length;
  params.max_outstanding_r2t =
      static_cast<std::uint16_t>(std::min<std::uint32_t>(config_.max_outstanding_r2t, 65535));
  params.default_time2wait = config_.default_time2wait;
  params.default_time2retain = config_.default_time2retain;
  params.error_recovery_level = config_.error_recovery_level;
  params.max_connections = config_.max_connections;
  params.header_digest = digest_list(config_.header_digest);
  params.data_digest = digest_list(config_.data_digest);
  return login;
}

// Makes the session, by its first link.
void SessionImpl::attempt() {
  PERILUNE_ASSERT(!established_);
  connect(lead());
}

void SessionImpl::on_login(const iscsi::InitiatorLoginResult& result) {
  iscsi::InitiatorSessionParameters parameters;
  parameters.initial_r2t = result.session.initial_r2t;
  parameters.immediate_data = result.session.immediate_data;
  parameters.data_pdu_in_order = result.session.data_pdu_in_order;
  parameters.data_sequence_in_order = result.session.data_sequence_in_order;
  parameters.first_burst_bytes = result.session.first_burst_length;
  parameters.max_burst_bytes = result.session.max_burst_length;
  parameters.max_outstanding_r2t = result.session.max_outstanding_r2t;
  parameters.error_recovery_level = result.session.error_recovery_level;
  engine_->session.open(parameters, result.next_cmd_sn, result.next_cmd_sn, result.max_cmd_sn);

  info_.tsih = result.tsih;
  info_.portal_group_tag = result.target_portal_group_tag.value_or(0);
  info_.target_alias = result.target_alias;
  info_.header_digest = result.connection.header_digest;
  info_.data_digest = result.connection.data_digest;
  info_.initial_r2t = result.session.initial_r2t;
  info_.immediate_data = result.session.immediate_data;
  info_.first_burst_length = result.session.first_burst_length;
  info_.max_burst_length = result.session.max_burst_length;
  info_.max_recv_data_segment_length = result.connection.max_recv_data_segment_length;
  info_.max_xmit_data_segment_length = result.connection.max_xmit_data_segment_length;
  info_.max_outstanding_r2t = result.session.max_outstanding_r2t;
  info_.error_recovery_level = result.session.error_recovery_level;
  info_.max_connections = result.session.max_connections;
  info_.default_time2wait = result.session.default_time2wait;
  info_.default_time2retain = result.session.default_time2retain;
  if (lead().driver->local() != nullptr) info_.local = *lead().driver->local();
  info_.current_portal = lead().driver->portal();
  time2wait_ = std::chrono::seconds(result.session.default_time2wait);
  time2retain_ = std::chrono::seconds(result.session.default_time2retain);
  wanted_connections_ = std::min(result.session.max_connections, config_.max_connections);
  established_ = true;
}

void SessionImpl::session_attached() {
  redirects_ = 0;
  draining_ = false;
  arm_tick(loop_.now() + config_.noop_interval);
  if (logging_out_) {
    logout_when_idle();
    return;
  }
  if (!ever_logged_in_) {
    ever_logged_in_ = true;
    set_state(SessionState::logged_in);
    join_others();
    observer_.on_logged_in();
    return;
  }
  ++past_.reconnects;
  ++info_.reconnects;
  verifying_ = true;
  verify_at_ = watched_.begin();
  any_gone_ = false;
  verify_tries_ = 0;
  verify_next_identity();
}

// After every identity has been checked: what was held goes out, in its old order.
void SessionImpl::ready() {
  verifying_ = false;
  backoff_ = std::chrono::milliseconds(0);
  join_others();
  hand_over_held();
}

void SessionImpl::hand_over_held() {
  failing_fast_ = false;
  hold_timer_.cancel();
  IntrusiveList<ScsiRequest> held;
  held.splice_back(held_);
  while (!held.empty()) hand_over(held.pop_front());
  kick();
  set_state(SessionState::logged_in);
}

void SessionImpl::on_progress() {
  drain();
  drain_events();
  if (info_.error_recovery_level != 0) watch_recovery();
  if (links_.size() > 1) {
    kick();  // the window that one has opened lets others send
    logout_retired();
  }
  if (logging_out_ || draining_) logout_when_idle();
  if (units_changed_) {
    units_changed_ = false;
    observer_.on_units_changed();
  }
}

// No connection is left, or none was made.
void SessionImpl::session_down(ConnectionLoss loss) {
  tick_timer_.cancel();
  logout_timer_.cancel();
  recovery_timer_.cancel();
  rung_ = Rung::none;
  verifying_ = false;
  logout_sent_ = false;
  established_ = false;
  for (auto& link : links_) {
    link->retry_timer.cancel();
    link->backoff = std::chrono::milliseconds(0);
    link->refused = link->retiring = link->logout_sent = link->lost = link->asking = link->shut_out = false;
    link->portal.reset();
    link->redirects = 0;
  }
  engine_->session.close();
  drain_events();
  if (text_answer_) std::exchange(text_answer_, {})(tl::unexpected<Error>(loss.error));
  reclaim_after_loss();
  falling_.reset();
  if (logging_out_) {
    fail_held(Errc::connection);
    finish_logout();
    return;
  }
  if (loss.during_login) {
    down_while_logging_in(std::move(loss));
  } else {
    down_while_logged_in(std::move(loss));
  }
}

// RFC 7143 11.13.5 class 1, bounded.
bool SessionImpl::follow_redirect(ConnectionLoss& loss) {
  if (!loss.login_status || iscsi::status_class(*loss.login_status) != 1) return false;
  if (++redirects_ > max_redirects) return false;
  const std::string_view text = loss.redirect_address;
  const auto numeric = runtime::Endpoint::parse(text.substr(0, text.find(',')), 3260);
  if (numeric) return go_to(*numeric, *loss.login_status == iscsi::LoginStatus::target_moved_permanently);
  const auto named = parse_target_address(text);
  if (!named || !config_.resolve) return false;
  resolving_ = std::move(loss);
  config_.resolve(named->address, named->port, [weak = std::weak_ptr(self_)](const auto& addresses) {
    if (const auto self = weak.lock()) (*self)->redirect_resolved(addresses);
  });
  return true;
}

bool SessionImpl::may_go_to(const runtime::Endpoint& to, const runtime::Endpoint& from) noexcept {
  return to.port != 0 && !to.is_wildcard() && (!to.is_loopback() || from.is_loopback());
}

bool SessionImpl::go_to(const runtime::Endpoint& to, bool permanently) {
  if (!may_go_to(to, current_portal_)) return false;
  current_portal_ = to;
  if (permanently) config_.portal = to;
  attempt();
  return true;
}

void SessionImpl::redirect_resolved(const Result<std::vector<runtime::Endpoint>>& addresses) {
  ConnectionLoss loss = std::move(*resolving_);
  resolving_.reset();
  if (logging_out_ || state_ == SessionState::failed) return;
  const bool permanently = *loss.login_status == iscsi::LoginStatus::target_moved_permanently;
  if (addresses) {
    for (const runtime::Endpoint& to : *addresses) {
      if (go_to(to, permanently)) return;
    }
  } else {
    loss.error.message += ": " + addresses.error().message;
  }
  login_refused(std::move(loss));
}

void SessionImpl::down_while_logging_in(ConnectionLoss loss) {
  if (!follow_redirect(loss)) login_refused(std::move(loss));
}

void SessionImpl::login_refused(ConnectionLoss loss) {
  current_portal_ = config_.portal;
  if (ever_logged_in_ && !(loss.login_status && is_final(*loss.login_status))) {
    schedule_reconnect();
    return;
  }
  LoginFailure failure;
  failure.error = std::move(loss.error);
  if (loss.login_status) {
    failure.status_class = iscsi::status_class(*loss.login_status);
    failure.status_detail = iscsi::status_detail(*loss.login_status);
  }
  give_up(std::move(failure));
}

void SessionImpl::down_while_logged_in(ConnectionLoss) {
  ++past_.connection_failures;
  current_portal_ = config_.portal;
  set_state(SessionState::reconnecting);
  if (logging_out_) return;  // the observer has had enough
  hold();
  schedule_reconnect();
}

// Requests wait from now on, for so long.
void SessionImpl::hold() {
  if (config_.replacement_timeout.count() == 0) {
    hold_expired();
  } else if (config_.replacement_timeout.count() > 0 && !hold_timer_.armed()) {
    hold_timer_.arm(loop_.now() + config_.replacement_timeout);
  }
}

// Time2Wait first (RFC 7143 13.15), then half a second and twice as long each time, with an eighth of it at
// random.
void SessionImpl::schedule_reconnect() {
  using std::chrono::milliseconds;
  const bool first = backoff_.count() == 0;
  const milliseconds wait = first ? milliseconds(time2wait_) : backoff_;
  backoff_ = first ? milliseconds(500) : std::min<milliseconds>(wait * 2, max_backoff);
  std::uint8_t dice[2];
  loop_.random().fill(dice);
  const milliseconds jitter =
      first ? milliseconds(0) : milliseconds(wait.count() * load_be16(dice) / (8 * 65536));
  retry_timer_.arm(loop_.now() + wait + jitter);
}

// replacement_timeout has passed: nothing waits for this session any more, though it keeps trying.
void SessionImpl::hold_expired() {
  failing_fast_ = true;
  fail_held(Errc::connection);
  if (established_ && !verifying_)
    fall(Error{Errc::timed_out, "no connection was recovered within the replacement time", 0});
}

void SessionImpl::give_up(LoginFailure failure) {
  retry_timer_.cancel();
  hold_timer_.cancel();
  fail_held(Errc::connection);
  set_state(SessionState::failed);
  observer_.on_failed(failure);  // may destroy this
}

// --- logout
// --------------------------------------------------------------------------------------------------------

void SessionImpl::logout() {
  if (logging_out_ || state_ == SessionState::failed || !started_) return;
  logging_out_ = true;
  retry_timer_.cancel();
  hold_timer_.cancel();
  set_state(SessionState::logging_out);
  if (!established_ && lead().driver == nullptr) {
    fail_held(Errc::connection);
    loop_.schedule(logout_hook_);
  } else if (any_up() == nullptr || verifying_) {
    fail_held(Errc::connection);
    fall(Error{Errc::cancelled, "logout", 0});
  } else {
    logout_when_idle();
  }
}

// Sends the Logout once nothing is outstanding; for a logout that the target asked for, too.
void SessionImpl::logout_when_idle() {
  if (logout_sent_ || falling_ || any_up() == nullptr) return;
  if (engine_->session.outstanding() + engine_->session.pending() != 0) return;
  if (logging_out_ && open_requests_ != 0) return;
  logout_sent_ = true;
  if (config_.logout_timeout.count() > 0) logout_timer_.arm(loop_.now() + config_.logout_timeout);
  logout_link_ = any_up();
  if (!engine_->session.logout(*logout_link_->driver->connection(), iscsi::LogoutReason::close_session,
                                logout_link_->cid)) {
    fall(Error{Errc::limit, "no task tag for the logout", 0});
    return;
  }
  kick();
}

void SessionImpl::logout_timed_out() {
  if (up_ == 0) return;
  ++past_.timeout_err;
  fall(Error{Errc::timed_out, "the target did not answer the logout", 0});
}

void SessionImpl::finish_logout() {
  if (state_ == SessionState::free) return;
  if (open_requests_ != 0) {  // refused ones are called first
    loop_.schedule(logout_hook_);
    return;
  }
  set_state(SessionState::free);
  observer_.on_logged_out();  // may destroy this
}

// --- identities
// ----------------------------------------------------------------------------------------------------

std::vector<std::uint8_t> unit_designators(Bytes page) {
  std::vector<std::uint8_t> out;
  if (page.size() < 4 || page[1] != 0x83) return out;
  const std::size_t end = std::min<std::size_t>(page.size(), 4u + load_be16(page.data() + 2));
  for (std::size_t at = 4; at + 4 <= end;) {
    const std::size_t length = 4u + page[at + 3];
    if (at + length > end) break;
    if (((page[at + 1] >> 4) & 3) == 0) out.insert(out.end(), page.begin() + static_cast<std::ptrdiff_t>(at),
                                                  page.begin() + static_cast<std::ptrdiff_t>(at + length));
    at += length;
  }
  return out;
}

void SessionImpl::watch_identity(std::uint64_t lun, std::vector<std::uint8_t> page) {
  auto designators = unit_designators(page);
  if (!designators.empty()) watched_[lun] = Watched{std::move(designators), false};
}

void SessionImpl::verify_next_identity() {
  if (verify_at_ == watched_.end()) {
    ready();
    return;
  }
  verify_data_.assign(4096, 0);
  verify_iov_ = {verify_data_.data(), verify_data_.size()};
  verify_request_.lun = verify_at_->first;
  verify_request_.cdb = {0x12, 0x01, 0x83, 0x10, 0x00, 0x00};
  verify_request_.direction = ScsiRequest::Direction::in;
  verify_request_.data = {&verify_iov_, 1};
  verify_request_.internal_ = true;
  verify_request_.error_code.reset();  // of a reading that the last connection took with it
  verify_request_.done = Delegate<void(ScsiRequest&)>::to<&SessionImpl::identity_read>(*this);
  ++open_requests_;
  hand_over(verify_request_);
  kick();
}

void SessionImpl::identity_read(ScsiRequest& request) {
  if (!verifying_ || up_ == 0) return;  // the connection went: the next one begins again
  const bool good = !request.error_code && request.status == 0;
  const std::uint8_t key = request.sense_length >= 3 ? request.sense[2] & 0xf : 0;
  if (!good && key != 5) {  // unit attentions after the login, BUSY: again, then another connection
    if (++verify_tries_ < 32) {
      verify_next_identity();
    } else {
      fall(Error{Errc::io, "the unit's identity cannot be read", 0});
    }
    return;
  }
  const auto now = good ? unit_designators(Bytes(verify_data_).first(request.transferred_bytes))
                        : std::vector<std::uint8_t>{};
  verify_at_->second.gone = now != verify_at_->second.designators;
  any_gone_ = any_gone_ || verify_at_->second.gone;
  verify_tries_ = 0;
  ++verify_at_;
  verify_next_identity();
}

}  // namespace perilune::initiator
