// SPDX-License-Identifier: Apache-2.0
#include "initiator/discovery.hpp"

#include <charconv>
#include <optional>
#include <utility>

#include "initiator/session.hpp"
#include "iscsi/names/names.hpp"
#include "iscsi/text/text.hpp"

namespace perilune::initiator {

namespace {

template <class T>
bool parse_number(std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

// A host: graphic ASCII without what would confuse a log, a record file or a shell.
bool is_clean_host(std::string_view host) {
  if (host.empty() || host.size() > 255) return false;
  for (char c : host) {
    const bool good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                      c == '.' || c == '-' || c == ':' || c == '_' || c == '%';
    if (!good) return false;
  }
  return true;
}

}  // namespace

std::optional<TargetPortal> parse_target_address(std::string_view text) {
  TargetPortal portal;
  if (const auto comma = text.rfind(','); comma != std::string_view::npos) {
    if (!parse_number(text.substr(comma + 1), portal.portal_group_tag)) return std::nullopt;
    text = text.substr(0, comma);
  }
  std::string_view host = text;
  std::string_view port;
  if (text.starts_with('[')) {
    const auto close = text.find(']');
    if (close == std::string_view::npos) return std::nullopt;
    host = text.substr(1, close - 1);
    const auto rest = text.substr(close + 1);
    if (!rest.empty() && rest.front() != ':') return std::nullopt;
    if (!rest.empty()) port = rest.substr(1);
  } else if (const auto colon = text.find(':');
             colon != std::string_view::npos && text.find(':', colon + 1) == std::string_view::npos) {
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
  }
  if (!port.empty() && (!parse_number(port, portal.port) || portal.port == 0)) return std::nullopt;
  if (!is_clean_host(host)) return std::nullopt;
  portal.address = std::string(host);
  return portal;
}

Result<std::vector<DiscoveredTarget>> parse_send_targets(Bytes text, const runtime::Endpoint& asked) {
  std::vector<DiscoveredTarget> targets;
  if (text.empty()) return targets;
  auto keys = iscsi::parse_text(text, max_discovered_targets * 4);
  if (!keys) return tl::unexpected<Error>(std::move(keys).error());
  for (const iscsi::KeyValue& pair : *keys) {
    if (pair.key == "TargetName") {
      auto name = iscsi::normalize_name(pair.value);
      if (!name) return fail(Errc::protocol, "the target sent a name that is none: " + name.error().message);
      if (targets.size() == max_discovered_targets) return fail(Errc::limit, "more targets than the limit");
      targets.push_back(DiscoveredTarget{std::move(*name), {}});
    } else if (pair.key == "TargetAddress") {
      if (targets.empty()) return fail(Errc::protocol, "TargetAddress before the first TargetName");
      auto& portals = targets.back().portals;
      if (portals.size() == max_portals_per_target) return fail(Errc::limit, "more portals than the limit");
      // One address that cannot be read does not hide the others.
      if (auto portal = parse_target_address(pair.value)) portals.push_back(std::move(*portal));
    }
  }
  for (DiscoveredTarget& target : targets) {
    if (target.portals.empty()) target.portals.push_back(TargetPortal{asked.address_string(), asked.port, 1});
  }
  return targets;
}

class Discovery::Impl final : public SessionObserver {
 public:
  Impl(runtime::Loop& loop, SessionConfig config, Done done)
      : done_(std::move(done)), session_(loop, discovery_config(std::move(config)), *this) {}

  void start() { session_.start(); }

  void on_logged_in() override {
    session_.send_targets("All", [this](Result<std::vector<std::uint8_t>> answer) {
      if (answer) {
        targets_ = parse_send_targets(*answer, session_.config().portal);
        session_.logout();
      } else {
        targets_ = tl::unexpected<Error>(answer.error());
        if (session_.info().state == SessionState::logged_in) session_.logout();
      }
    });
  }
  void on_state(SessionState, SessionState to) override {
    if (to == SessionState::reconnecting) session_.logout();
  }
  void on_failed(const LoginFailure& failure) override {
    call(tl::unexpected<Error>(failure.error), failure);
  }
  void on_logged_out() override { call(std::move(targets_), LoginFailure{}); }
  void on_units_changed() override {}

 private:
  static SessionConfig discovery_config(SessionConfig config) {
    config.target_name.clear();
    config.noop_interval = std::chrono::seconds(0);
    config.replacement_timeout = std::chrono::seconds(0);
    config.commands_max = 1;
    return config;
  }
  void call(Result<std::vector<DiscoveredTarget>> targets, LoginFailure failure) {
    Done done = std::move(done_);
    if (!targets && failure.error.message.empty()) failure.error = targets.error();
    done(std::move(targets), failure);  // may destroy this
  }

  Done done_;
  Result<std::vector<DiscoveredTarget>> targets_ =
      fail(Errc::connection, "the discovery session ended without an answer");
  Session session_;
};

Discovery::Discovery(runtime::Loop& loop, SessionConfig config, Done done)
    : impl_(std::make_unique<Impl>(loop, std::move(config), std::move(done))) {}
Discovery::~Discovery() = default;
void Discovery::start() { impl_->start(); }

}  // namespace perilune::initiator
