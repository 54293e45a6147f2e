// SPDX-License-Identifier: Apache-2.0
#include "control/iscsid/managed_session.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "config/portal.hpp"
#include "control/iscsi_error.hpp"
#include "control/iscsid/session_config.hpp"

namespace perilune::control {
namespace {

constexpr std::chrono::seconds retry_interval{1};
// How long a login waits for its devices before it says that it succeeded.
constexpr std::chrono::seconds settle_limit{30};

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string_view device_state(attach::AttachState state) {
  return state == attach::AttachState::ready ? std::string_view("running") : attach::to_string(state);
}

std::string_view to_string(initiator::SessionState state) {
  switch (state) {
    case initiator::SessionState::free: return "free";
    case initiator::SessionState::logging_in: return "logging in";
    case initiator::SessionState::logged_in: return "logged in";
    case initiator::SessionState::reconnecting: return "reconnecting";
    case initiator::SessionState::logging_out: return "logging out";
    case initiator::SessionState::failed: return "failed";
  }
  return "?";
}

}  // namespace

ManagedSession::ManagedSession(const SessionContext& context, std::uint32_t sid, unsigned instance,
                               config::Record node, runtime::Endpoint portal,
                               std::function<void(std::uint32_t)> ended)
    : context_(context),
      sid_(sid),
      instance_(instance),
      node_(std::move(node)),
      portal_(portal),
      ended_(std::move(ended)),
      retry_timer_(context.loop.timers(), Delegate<void()>::to<&ManagedSession::attempt>(*this)),
      settle_timer_(context.loop.timers(), Delegate<void()>::to<&ManagedSession::settle_timeout>(*this)) {}

ManagedSession::~ManagedSession() = default;

void ManagedSession::say(std::string_view text) const {
  context_.log(fmt::format("session {} [target: {}, portal: {}]: {}", sid_, node_.get("node.name"),
                           portal_.to_string(), text));
}

// Destroying what is calling us is not done from inside its call.
void ManagedSession::later(void (ManagedSession::*what)()) {
  context_.loop.post([weak = weak_from_this(), what] {
    if (const auto self = weak.lock()) (self.get()->*what)();
  });
}

bool ManagedSession::healthy() const {
  return !session_ended_ && session_ != nullptr &&
         session_->info().state == initiator::SessionState::logged_in;
}

// --- login
// -------------------------------------------------------------------------------------------------------

void ManagedSession::login(Done done) {
  login_done_ = std::move(done);
  attempts_left_ = std::max<std::int64_t>(1, node_.get_int("node.session.initial_login_retry_max"));
  attempt();
}

void ManagedSession::answer_login(int code, const std::string& message) {
  if (login_done_) std::exchange(login_done_, {})(code, message);
  for (Done& done : std::exchange(joined_, {})) done(code, message);
}

void ManagedSession::attempt() {
  if (phase_ != Phase::logging_in) return;
  auto config =
      session_config_of(node_, context_.initiator_name, context_.initiator_alias, portal_, instance_);
  if (!config) {
    session_ended_ = true;
    return finish(iscsi_err_inval, config.error().message);
  }
  config->resolve = context_.resolve;
  --attempts_left_;
  session_ended_ = false;
  session_ = std::make_unique<initiator::Session>(context_.loop, std::move(*config), *this);
  session_->start();
}

void ManagedSession::on_logged_in() {
  if (phase_ != Phase::logging_in) return;
  phase_ = Phase::online;
  was_online_ = true;
  settle_timer_.arm(context_.loop.now() + settle_limit);
  if (node_.get("node.session.scan") == "manual") return later(&ManagedSession::settled_check);
  later(&ManagedSession::scan);
}

void ManagedSession::on_state(initiator::SessionState from, initiator::SessionState to) {
  say(fmt::format("{} -> {}", to_string(from), to_string(to)));
}

void ManagedSession::on_failed(const initiator::LoginFailure& failure) {
  session_ended_ = true;
  failure_ = failure.error.message;
  if (phase_ == Phase::logging_in) return first_login_failed(failure);
  say("given up: " + failure_);
  later(phase_ == Phase::leaving ? &ManagedSession::advance_leave : &ManagedSession::settled_check);
}

void ManagedSession::first_login_failed(const initiator::LoginFailure& failure) {
  if (is_retryable(failure) && attempts_left_ > 0) {
    say(fmt::format("login failed ({}), {} attempts left", failure.error.message, attempts_left_));
    retry_timer_.arm(context_.loop.now() + retry_interval);
    return;
  }
  say("login failed: " + failure.error.message);
  const int code = login_exit_code(failure);
  context_.loop.post([weak = weak_from_this(), code, message = failure.error.message] {
    if (const auto self = weak.lock()) self->finish(code, message);
  });
}

// --- units
// -------------------------------------------------------------------------------------------------------

void ManagedSession::on_units_changed() {
  if (phase_ != Phase::online || node_.get("node.session.scan") == "manual") return;
  say("the target reports a change of its units");
  later(&ManagedSession::scan);
}

void ManagedSession::rescan(Done done) {
  if (phase_ != Phase::online || session_ended_)
    return done(iscsi_err_session_not_connected, "the session is not logged in");
  rescan_done_.push_back(std::move(done));
  scan();
}

void ManagedSession::scan() {
  if (phase_ != Phase::online || session_ended_) return settled_check();
  if (scanning_) {
    scan_again_ = true;
    return;
  }
  scanning_ = true;
  scan_ = std::make_unique<initiator::Scan>(*session_, [this](
                                                           Result<std::vector<initiator::UnitInfo>> units) {
    // Not from inside the scan's own call.
    context_.loop.post([weak = weak_from_this(), units = std::move(units)]() mutable {
      if (const auto self = weak.lock()) self->scanned(std::move(units));
    });
  });
  scan_->start();
}

void ManagedSession::scanned(Result<std::vector<initiator::UnitInfo>> units) {
  scanning_ = false;
  scan_.reset();
  if (phase_ == Phase::leaving) return advance_leave();
  if (!units) {
    say("cannot scan the units: " + units.error().message);
  } else {
    for (initiator::UnitInfo& info : *units) attach_unit(std::move(info));
  }
  if (std::exchange(scan_again_, false)) return scan();
  settled_check();
}

void ManagedSession::attach_unit(initiator::UnitInfo info) {
  const auto known = std::find_if(units_.begin(), units_.end(),
                                  [&](const auto& unit) { return unit->info.lun == info.lun; });
  if (known != units_.end()) {
    Unit& unit = **known;
    const bool dead = unit.attachment == nullptr || unit.attachment->state() == attach::AttachState::failed ||
                      unit.attachment->state() == attach::AttachState::detached;
    if (!dead) return;  // it works; what changed about it, its own unit attentions tell
    units_.erase(known);
  }
  units_.push_back(std::make_unique<Unit>());
  Unit& unit = *units_.back();
  unit.info = info;
  const std::uint64_t lun = info.lun;
  if (!info.ready || !context_.attach_devices) return;
  const auto depth = static_cast<std::uint32_t>(node_.get_int("node.session.queue_depth"));
  unit.channel = std::make_unique<initiator::LogicalUnit>(*session_, std::move(info), depth);
  attach::AttachOptions options;
  const std::string& target = node_.get("node.name");
  options.name = fmt::format("iscsi://{}/{}/{}", portal_.to_string(), target, initiator::lun_number(lun));
  options.target = target;
  options.lun = initiator::lun_number(lun);
  options.owner = "iscsid";
  if (!context_.attach_run_dir.empty()) options.run_dir = context_.attach_run_dir;
  unit.attachment = attach::Attachment::start(
      context_.loop, *unit.channel, options,
      [this, weak = weak_from_this(), lun](Result<std::string> device) {
        const auto self = weak.lock();
        if (!self) return;
        const auto number = initiator::lun_number(lun);
        if (device)
          say(fmt::format("unit {} is {}", number, *device));
        else
          say(fmt::format("cannot attach unit {}: {}", number, device.error().message));
        later(phase_ == Phase::leaving ? &ManagedSession::advance_leave : &ManagedSession::settled_check);
      });
}

// A login or rescan is through when no unit is on its way any more.
void ManagedSession::settled_check() {
  if (phase_ != Phase::online || (scanning_ && !session_ended_)) return;
  const bool starting = std::any_of(units_.begin(), units_.end(), [](const auto& unit) {
    return unit->attachment != nullptr && unit->attachment->state() == attach::AttachState::starting;
  });
  if (!starting) finish_settling(0, {});
}

void ManagedSession::settle_timeout() {
  say("the devices are not there yet");
  finish_settling(0, {});
}

void ManagedSession::finish_settling(int code, const std::string& message) {
  settle_timer_.cancel();
  answer_login(code, message);
  for (Done& done : std::exchange(rescan_done_, {})) done(code, message);
}

// --- logout
// ------------------------------------------------------------------------------------------------------

void ManagedSession::logout(Leave how, Done done) {
  if (phase_ == Phase::leaving || phase_ == Phase::gone)
    return done(iscsi_err_busy, "the session is logging out already");
  logout_done_ = std::move(done);
  leave_ = how;
  if (phase_ == Phase::logging_in) {
    retry_timer_.cancel();
    answer_login(iscsi_err_login, "the session was logged out before it was there");
  }
  finish_settling(0, {});
  phase_ = Phase::leaving;
  if (session_ == nullptr) session_ended_ = true;
  advance_leave();
}

void ManagedSession::advance_leave() {
  if (phase_ != Phase::leaving) return;
  // A session that cannot reach its target holds what its devices flush: give it up first, so that they end.
  if (!session_ended_ && !healthy() && leave_ != Leave::refuse_if_used && !logout_sent_) {
    logout_sent_ = true;
    session_->logout();
    return;
  }
  bool waiting = scanning_;
  for (auto& unit : units_) {
    if (unit->attachment == nullptr) continue;
    const attach::AttachState state = unit->attachment->state();
    if (state == attach::AttachState::ready && !unit->detach_asked) detach_unit(*unit);
    waiting = waiting || (state != attach::AttachState::failed && state != attach::AttachState::detached);
  }
  if (waiting) return;
  units_.clear();
  if (session_ended_) return finish(0, {});
  if (!std::exchange(logout_sent_, true)) session_->logout();
}

void ManagedSession::detach_unit(Unit& unit) {
  unit.detach_asked = true;
  const bool force = leave_ == Leave::force || unit.forced;
  const auto mode = force ? attach::DetachMode::force : attach::DetachMode::refuse_if_used;
  unit.attachment->detach(mode, [weak = weak_from_this(), lun = unit.info.lun](const Status& status) {
    if (const auto self = weak.lock()) self->detached(lun, status);
  });
}

void ManagedSession::detached(std::uint64_t lun, const Status& status) {
  const auto at =
      std::find_if(units_.begin(), units_.end(), [&](const auto& unit) { return unit->info.lun == lun; });
  if (at == units_.end() || status) return later(&ManagedSession::advance_leave);
  Unit& unit = **at;
  unit.detach_asked = false;
  if (leave_ == Leave::polite_then_force && !unit.forced) {
    say(status.error().message + "; it is taken away all the same");
    unit.forced = true;
    return later(&ManagedSession::advance_leave);
  }
  const bool busy = status.error().code == Errc::busy;
  stay(busy ? iscsi_err_busy : iscsi_err_logout, status.error().message);
}

// The logout does not happen: what was taken away already comes back.
void ManagedSession::stay(int code, const std::string& message) {
  say("stays: " + message);
  phase_ = Phase::online;
  for (auto& unit : units_) unit->detach_asked = false;
  if (logout_done_) std::exchange(logout_done_, {})(code, message);
  later(&ManagedSession::scan);
}

void ManagedSession::on_logged_out() {
  session_ended_ = true;
  say("logged out");
  later(&ManagedSession::advance_leave);
}

// Only when the session has ended and no unit is left.
void ManagedSession::finish(int code, const std::string& message) {
  if (phase_ == Phase::gone) return;
  phase_ = Phase::gone;
  settle_timer_.cancel();
  retry_timer_.cancel();
  session_.reset();
  answer_login(code, message);
  if (logout_done_) std::exchange(logout_done_, {})(code, message);
  ended_(sid_);  // the owner drops us: nothing after this
}

// --- view
// --------------------------------------------------------------------------------------------------------

SessionView ManagedSession::view() const {
  SessionView view;
  view.sid = sid_;
  view.node = node_;
  view.tpgt = static_cast<int>(node_.get_int("node.tpgt"));
  view.current_address = portal_.address_string();
  view.current_port = portal_.port;
  view.initiator_name =
      node_.get("iface.initiatorname").empty() ? context_.initiator_name : node_.get("iface.initiatorname");
  view.connection_state = "FREE";
  view.session_state = "FREE";
  view.internal_state = "NO CHANGE";
  if (session_ != nullptr) {
    const initiator::SessionInfo info = session_->info();
    const initiator::SessionStatistics s = session_->statistics();
    if (info.portal_group_tag != 0) view.tpgt = info.portal_group_tag;
    if (info.current_portal.port != 0) {
      view.current_address = info.current_portal.address_string();
      view.current_port = info.current_portal.port;
    }
    if (!info.local.is_wildcard()) view.local_address = info.local.address_string();
    const bool up = info.state == initiator::SessionState::logged_in;
    const bool down =
        info.state == initiator::SessionState::reconnecting || info.state == initiator::SessionState::failed;
    view.connection_state = up ? "LOGGED IN" : down ? "TRANSPORT WAIT" : "IN LOGIN";
    view.session_state = up ? "LOGGED_IN" : down ? "FAILED" : "FREE";
    view.internal_state = up ? "NO CHANGE" : down ? "REOPEN" : "NO CHANGE";
    view.header_digest = info.header_digest;
    view.data_digest = info.data_digest;
    view.immediate_data = info.immediate_data;
    view.initial_r2t = info.initial_r2t;
    view.max_recv_data_segment_length = info.max_recv_data_segment_length;
    view.max_xmit_data_segment_length = info.max_xmit_data_segment_length;
    view.first_burst_length = info.first_burst_length;
    view.max_burst_length = info.max_burst_length;
    view.max_outstanding_r2t = info.max_outstanding_r2t;
    view.error_recovery_level = info.error_recovery_level;
    view.max_connections = info.max_connections;
    view.default_time2wait = info.default_time2wait;
    view.default_time2retain = info.default_time2retain;
    for (const auto& connection : info.connections) view.connections.push_back(connection.cid);
    view.snmp = {{"txdata_octets", s.txdata_octets}, {"rxdata_octets", s.rxdata_octets},
                 {"noptx_pdus", s.noptx_pdus},       {"scsicmd_pdus", s.scsicmd_pdus},
                 {"tmfcmd_pdus", s.tmfcmd_pdus},     {"login_pdus", s.login_pdus},
                 {"text_pdus", s.text_pdus},         {"dataout_pdus", s.dataout_pdus},
                 {"logout_pdus", s.logout_pdus},     {"snack_pdus", s.snack_pdus},
                 {"noprx_pdus", s.noprx_pdus},       {"scsirsp_pdus", s.scsirsp_pdus},
                 {"tmfrsp_pdus", s.tmfrsp_pdus},     {"textrsp_pdus", s.textrsp_pdus},
                 {"datain_pdus", s.datain_pdus},     {"logoutrsp_pdus", s.logoutrsp_pdus},
                 {"r2t_pdus", s.r2t_pdus},           {"async_pdus", s.async_pdus},
                 {"rjt_pdus", s.rjt_pdus},           {"digest_err", s.digest_err},
                 {"timeout_err", s.timeout_err}};
    view.extended = {{"eh_abort_cnt", s.aborted_commands}, {"connection_failures", s.connection_failures},
                     {"reconnects", s.reconnects},         {"replayed_commands", s.replayed_commands}};
  }
  for (const auto& unit : units_) {
    DeviceView device{initiator::lun_number(unit->info.lun), {}, {}, {}};
    if (unit->channel != nullptr) device.kind = "disk";
    if (unit->attachment != nullptr && !unit->attachment->device().empty()) {
      device.disk = base_name(unit->attachment->device());
      device.state = device_state(unit->attachment->state());
    }
    view.devices.push_back(std::move(device));
  }
  std::sort(view.devices.begin(), view.devices.end(),
            [](const DeviceView& a, const DeviceView& b) { return a.lun < b.lun; });
  return view;
}

}  // namespace perilune::control
